//! A run's own validation: the same questions, asked the same way every few steps, so that a run hands over the
//! best adapter it had and not the last, and goes back when a step broke the planner.
//!
//! The questions neither train nor judge: the gate and the held-out questions are others. Choosing the best of
//! several looks flatters the chosen one, so its score here is never quoted as the run's result.

use serde::{Deserialize, Serialize};
use tokio_util::sync::CancellationToken;

use crate::error::Error;
use crate::flow::solve::Flow;
use crate::tasks::eval::{Asked, How, score, seeded};
use crate::tasks::question::Question as Task;
use crate::tasks::stats::Pairs;

/// Two marks differ when their exact paired test says so at this level.
pub const LEVEL: f64 = 0.05;

/// Questions asked at once where the run leaves it open.
const PARALLEL: usize = 16;

/// What is asked, and when.
#[derive(Clone, Debug, Default)]
pub struct Validation {
    pub questions: Vec<Task>,
    /// After every this many steps, and after the last one; 0: never.
    pub every: usize,
}

/// How one policy answered.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Marks {
    /// Id of the adapter; None: the bare model.
    pub adapter: Option<String>,
    /// Per question `1` or `0`, in the order asked; a pass that failed is wrong.
    pub right: String,
    /// Per question `1` where a call came to nothing on the way, limits included, as `eval` counts them (a rollout is
    /// not charged for a limit); empty: not looked at.
    #[serde(default)]
    pub faulty: String,
}

impl Marks {
    pub fn k(&self) -> usize {
        self.right.bytes().filter(|mark| *mark == b'1').count()
    }

    pub fn n(&self) -> usize {
        self.right.len()
    }

    /// Right answers on whose way a call came to nothing.
    pub fn right_and_faulty(&self) -> usize {
        self.right.bytes().zip(self.faulty.bytes()).filter(|both| *both == (b'1', b'1')).count()
    }

    /// What the answers are worth, as a rollout's are: 1 for a right one, less `cost` where a call came to nothing.
    pub fn worth(&self, cost: f64) -> f64 {
        self.k() as f64 - cost * self.right_and_faulty() as f64
    }

    /// Question by question against another.
    pub fn against(&self, other: &Marks) -> Pairs {
        let mut pairs = Pairs::default();
        let both = self.right.bytes().zip(other.right.bytes());
        both.for_each(|(ours, theirs)| pairs.add(ours == b'1', theirs == b'1'));
        pairs
    }

    /// Fewer right, and the exact paired test at [`LEVEL`] does not call it chance.
    pub fn worse_than(&self, other: &Marks) -> bool {
        let pairs = self.against(other);
        pairs.losses > pairs.wins && pairs.p_value() < LEVEL
    }
}

impl Validation {
    /// Every third question of a gate's file validates, the others judge, and both keep the file's mix. Fewer
    /// than `LEAST` are left to the gate alone: they could not tell one adapter from another.
    pub fn split(gate: Vec<Task>, every: usize) -> (Validation, Vec<Task>) {
        const LEAST: usize = 30;
        if every == 0 || gate.len() / 3 < LEAST {
            return (Validation::default(), gate);
        }
        let (mut questions, mut rest) = (Vec::new(), Vec::new());
        for (place, task) in gate.into_iter().enumerate() {
            let into = if place % 3 == 0 { &mut questions } else { &mut rest };
            into.push(task);
        }
        (Validation { questions, every }, rest)
    }

    /// What tells these questions from others; None where there are none.
    pub fn print(&self) -> Option<String> {
        let ids: Vec<&str> = self.questions.iter().map(|question| question.id.as_str()).collect();
        (!ids.is_empty()).then(|| blake3::hash(ids.join("\n").as_bytes()).to_hex()[..16].to_string())
    }

    pub fn due(&self, step: usize, last: bool) -> bool {
        self.every > 0 && !self.questions.is_empty() && (last || step.is_multiple_of(self.every))
    }

    /// Ask the policy `flow` has now.
    ///
    /// # Errors
    /// [`Error::Interrupted`] when cancelled.
    pub async fn ask(
        &self,
        flow: &Flow,
        adapter: Option<String>,
        seed: u64,
        parallel: usize,
        cancel: &CancellationToken,
    ) -> Result<Marks, Error> {
        let asked: Vec<Asked> = seeded(self.questions.iter().cloned(), seed);
        let parallel = if parallel == 0 { PARALLEL } else { parallel };
        let rows = score(flow, &asked, &How::unrecorded(parallel), cancel, |_, _| {}).await;
        if cancel.is_cancelled() || rows.len() != asked.len() {
            return Err(Error::Interrupted);
        }
        let mark = |yes: bool| if yes { '1' } else { '0' };
        let right = rows.iter().map(|row| mark(row.right)).collect();
        let faulty = rows.iter().map(|row| mark(row.tool_errors.k > 0)).collect();
        Ok(Marks { adapter, right, faulty })
    }
}

/// Which of a run's marks it goes by: those worth most at what a failed call costs in its rollouts; of equals the
/// later, which saw more.
pub fn best(marks: &[Marks], cost: f64) -> Option<&Marks> {
    let of_adapters = marks.iter().filter(|marks| marks.adapter.is_some());
    of_adapters.max_by(|one, other| one.worth(cost).total_cmp(&other.worth(cost)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tasks::{Split, files};

    fn bundled() -> Vec<Task> {
        files::bundled(Split::Gate).into_iter().map(Task::from).collect()
    }

    fn marks(adapter: &str, right: &str) -> Marks {
        Marks { adapter: Some(adapter.to_string()), right: right.to_string(), faulty: String::new() }
    }

    #[test]
    fn the_best_is_an_adapter_and_of_equals_the_later() {
        let bare = Marks { adapter: None, ..marks("", "1111") };
        let all = [bare, marks("a", "1100"), marks("b", "0110"), marks("c", "0001")];
        assert_eq!(best(&all, 0.2).and_then(|m| m.adapter.as_deref()), Some("b"));
        assert_eq!(best(&all[..1], 0.2), None);
    }

    #[test]
    fn failed_calls_of_right_answers_count_as_they_do_in_rollouts() {
        let clean = Marks { faulty: "0001".into(), ..marks("clean", "1110") };
        let faulty = Marks { faulty: "1100".into(), ..marks("faulty", "1111") };
        assert_eq!(
            (clean.right_and_faulty(), faulty.right_and_faulty()),
            (0, 2),
            "a wrong answer is worth 0 anyway"
        );
        assert_eq!((clean.worth(0.4), faulty.worth(0.4)), (3.0, 3.2));
        let chosen = |cost| {
            let all = [clean.clone(), faulty.clone(), marks("later", "1110")];
            best(&all, cost).and_then(|marks| marks.adapter.clone())
        };
        assert_eq!(chosen(0.4).as_deref(), Some("faulty"));
        assert_eq!(chosen(0.6).as_deref(), Some("later"), "2.8 against 3.0, and of equals the later");
    }

    #[test]
    fn worse_needs_more_than_chance() {
        // Exact test by hand: 5 losses, 0 wins: 2 / 2^5 = .0625; 6 and 0: .03125.
        let (good, five, six) = (marks("a", "11111111"), marks("b", "00000111"), marks("c", "00000011"));
        assert!(!five.worse_than(&good));
        assert!(six.worse_than(&good) && !good.worse_than(&six));
        assert_eq!((six.k(), six.n()), (2, 8));
    }

    #[test]
    fn the_bundled_gate_gives_questions_that_neither_train_nor_judge() {
        let all = bundled();
        let (validation, judges) = Validation::split(all.clone(), 5);
        assert_eq!(validation.questions.len() + judges.len(), all.len());
        assert!(validation.questions.iter().all(|task| judges.iter().all(|judge| judge.id != task.id)));
        // Each family is in both.
        for task in &all {
            assert!(validation.questions.iter().any(|v| v.group == task.group), "{:?}", task.group);
        }
        assert!(validation.due(5, false) && validation.due(3, true) && !validation.due(3, false));
        let (none, few) = Validation::split(all[..20].to_vec(), 5);
        assert!(none.questions.is_empty() && few.len() == 20 && !none.due(5, true));
    }
}
