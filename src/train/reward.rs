//! Rewards: what people and checkers said about answers, carried to every rollout with an equal answer.
//!
//! A word is about (question, canonical answer) and never goes stale; only plan and turn labels are about one
//! trajectory. Missing is not zero: a rollout nobody's word reaches has no reward. A judge's word extends
//! what a person or a checker began and is never believed alone. Nothing here is stored or trained.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use crate::error::Error;
use crate::flow::run::unix_ms;
use crate::store::{Label, LabelValue, LedgerEntry, Pick, Scope, Source, Store, canonical};
use crate::train::advantage::CONTRAST_LEAST;
use crate::train::rollout::Group;

/// What is known about a question.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Known {
    /// Its answers, one entry each.
    pub ledger: Vec<LedgerEntry>,
    /// Every label on it; those on plans and turns are read here.
    pub labels: Vec<Label>,
}

impl Known {
    /// # Errors
    /// The store cannot be read.
    pub fn of(store: &Store, question_id: &str) -> Result<Known, Error> {
        Ok(Known { ledger: store.ledger(question_id)?, labels: store.question_labels(question_id)? })
    }

    /// The words on answers that hold, judges' apart: a typed answer settles the question, and what was said before
    /// it no longer holds for other answers.
    pub fn holding(&self) -> impl Iterator<Item = &LedgerEntry> {
        let known = self;
        let ledger = || known.ledger.iter().filter(|entry| entry.source != Source::Judge);
        let settled = ledger().filter(|entry| entry.typed).map(|entry| entry.label).max();
        ledger().filter(move |entry| settled.is_none_or(|settled| entry.label >= settled))
    }

    fn has_persons_label(&self, trajectory: &str) -> bool {
        self.labels.iter().any(|label| {
            label.trajectory.as_deref() == Some(trajectory)
                && label.source == Source::Person
                && label.cleared_ms.is_none()
        })
    }

    /// The newest word on the plan (`turn` None) or a turn of a trajectory.
    fn on_plan(&self, trajectory: &str, turn: Option<usize>) -> Option<&Label> {
        let now = unix_ms();
        let scope = if turn.is_some() { Scope::Turn } else { Scope::Plan };
        self.labels.iter().rev().find(|label| {
            label.trajectory.as_deref() == Some(trajectory)
                && (label.scope, label.turn) == (scope, turn)
                && label.cleared_ms.is_none()
                && label.source != Source::Judge
                && label.expiry_ms.is_none_or(|expiry| expiry > now)
        })
    }
}

/// Whether an answer is right, and who says so.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Word {
    pub value: LabelValue,
    pub source: Source,
    /// The ledger's label it rests on; None: a checker's.
    pub label: Option<i64>,
    /// It follows from another answer being the right one.
    pub implied: bool,
}

/// Rollouts with an equal answer.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Cluster {
    pub canonical: String,
    /// The different texts of it, in the order they first came.
    pub answers: Vec<String>,
    /// Places in the group's `rollouts`.
    pub rollouts: Vec<usize>,
    pub label: Option<Word>,
}

/// The answers of a group, biggest first; equal sizes by first appearance. Failed rollouts are in none.
pub fn clusters(group: &Group, known: &Known) -> Vec<Cluster> {
    let mut found: Vec<Cluster> = Vec::new();
    for (place, rollout) in group.rollouts.iter().enumerate() {
        let Some(answer) = rollout.answer() else { continue };
        let form = canonical(answer);
        let cluster = match found.iter().position(|cluster| cluster.canonical == form) {
            Some(at) => &mut found[at],
            None => {
                found.push(Cluster { canonical: form, answers: vec![], rollouts: vec![], label: None });
                let last = found.len() - 1;
                &mut found[last]
            }
        };
        if !cluster.answers.iter().any(|text| text == answer) {
            cluster.answers.push(answer.to_string());
        }
        cluster.rollouts.push(place);
    }
    for cluster in &mut found {
        cluster.label = word(group, known, cluster);
    }
    if found.iter().any(|cluster| cluster.label.is_some()) {
        for cluster in found.iter_mut().filter(|cluster| cluster.label.is_none()) {
            let judged = known.ledger.iter().find(|e| e.canonical_answer == cluster.canonical);
            cluster.label = judged.map(direct);
        }
    }
    found.sort_by_key(|cluster| std::cmp::Reverse(cluster.rollouts.len()));
    found
}

fn direct(entry: &LedgerEntry) -> Word {
    Word { value: entry.value, source: entry.source, label: Some(entry.label), implied: false }
}

/// A person's or a checker's word on one answer: said of it, computed, or following from the right one.
fn word(group: &Group, known: &Known, cluster: &Cluster) -> Option<Word> {
    let said = known.holding().find(|entry| entry.canonical_answer == cluster.canonical);
    if let (Some(key), None | Some(Source::Checker)) = (&group.question.key, said.map(|e| e.source)) {
        let right = cluster.answers.iter().any(|text| key.right(text));
        let value = if right { LabelValue::Good } else { LabelValue::Bad };
        return Some(Word { value, source: Source::Checker, label: None, implied: false });
    }
    if let Some(entry) = said {
        return Some(direct(entry));
    }
    let mut right = known.holding().filter(|entry| entry.value == LabelValue::Good);
    let (only, more) = (right.next()?, right.next());
    // Two right answers show that there are several; then one says nothing about the others.
    let implied = Word { value: LabelValue::Bad, implied: true, ..direct(only) };
    more.is_none().then_some(implied)
}

/// The next answer to show a person: the biggest nobody's word reaches.
pub fn next_to_ask(clusters: &[Cluster]) -> Option<&Cluster> {
    clusters.iter().find(|cluster| cluster.label.is_none())
}

/// The rewards of a group, with what they rest on.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Rewards {
    /// One per rollout of the group, in its order; 1 right, 0 wrong, None: nobody said.
    pub rewards: Vec<Option<f64>>,
    /// Person where one spoke, else checker.
    pub source: Option<Source>,
    /// Turns judged by themselves: (place of the rollout, turn, value).
    pub turns: Vec<(usize, usize, LabelValue)>,
    /// Places of the rollouts a person said something about themselves, not only about an equal answer.
    #[serde(default)]
    pub labelled: Vec<usize>,
    /// Words given: what the group's evidence really amounts to.
    pub words: usize,
    /// One is better than another; nothing says that either is right.
    #[serde(default)]
    pub relative: bool,
}

impl Rewards {
    /// Rollouts with a reward.
    pub fn reached(&self) -> usize {
        self.rewards.iter().flatten().count()
    }

    /// Some rollouts right, some not: the only groups that teach.
    pub fn contrast(&self) -> bool {
        let right = self.rewards.iter().flatten().filter(|reward| **reward > 0.5).count();
        right > 0 && right < self.reached()
    }

    /// Take `cost` off each right rollout that holds a turn called bad. Siblings that got there without one are
    /// then worth more, also where all of them are right.
    pub fn charge(&mut self, cost: f64) {
        for (place, reward) in self.rewards.iter_mut().enumerate() {
            let bad = self.turns.iter().any(|(at, _, value)| (*at, *value) == (place, LabelValue::Bad));
            if let Some(reward) = reward.as_mut().filter(|reward| bad && **reward > 0.5) {
                *reward -= cost;
            }
        }
    }

    /// Mean of the rewards there are; 0 without any.
    pub fn mean(&self) -> f64 {
        self.rewards.iter().flatten().sum::<f64>() / self.reached().max(1) as f64
    }

    /// Some rollouts are worth more than others, if only by what a failed turn costs.
    pub fn graded(&self) -> bool {
        let known = || self.rewards.iter().flatten().copied();
        let range = known().fold(f64::MIN, f64::max) - known().fold(f64::MAX, f64::min);
        range >= f64::from(CONTRAST_LEAST)
    }
}

/// Mode A, complete the group: what is known of its answers and plans, carried to its rollouts.
pub fn rewards(group: &Group, known: &Known) -> Rewards {
    let mut out = Rewards { rewards: vec![None; group.rollouts.len()], ..Rewards::default() };
    let (mut words, mut sources) = (BTreeSet::new(), BTreeSet::new());
    for cluster in clusters(group, known) {
        let Some(word) = cluster.label else { continue };
        words.insert(word.label);
        sources.insert(word.source);
        for place in cluster.rollouts {
            out.rewards[place] = Some(worth(word.value));
        }
    }
    for (place, rollout) in group.rollouts.iter().enumerate() {
        if rollout.failed.is_some() {
            continue;
        }
        // A lucky right answer must not teach a bad plan, nor bad luck unteach a good one.
        if let Some(label) = known.on_plan(&rollout.trajectory.id, None) {
            out.rewards[place] = Some(worth(label.value));
            words.insert(Some(label.id));
            sources.insert(label.source);
        }
        for turn in &rollout.trajectory.turns {
            if let Some(label) = known.on_plan(&rollout.trajectory.id, Some(turn.turn)) {
                out.turns.push((place, turn.turn, label.value));
                words.insert(Some(label.id));
            }
        }
    }
    out.labelled = (0..group.rollouts.len())
        .filter(|place| known.has_persons_label(&group.rollouts[*place].trajectory.id))
        .collect();
    // Declared from the strongest on; judges never come first.
    out.source = sources.first().copied();
    out.words = words.len();
    out
}

fn worth(value: LabelValue) -> f64 {
    match value {
        LabelValue::Good => 1.0,
        LabelValue::Bad => 0.0,
    }
}

/// Mode B, the better of two: only the rollouts picked between are rewarded. It is relative, so nothing of it
/// enters the ledger.
pub fn picked(group: &Group, picks: &[Pick]) -> Rewards {
    let mut out = Rewards { rewards: vec![None; group.rollouts.len()], relative: true, ..Rewards::default() };
    let place = |id: &str| group.rollouts.iter().position(|r| r.trajectory.id == id && r.failed.is_none());
    for pick in picks.iter().filter(|pick| pick.cleared_ms.is_none()) {
        if let (Some(better), Some(worse)) = (place(&pick.better), place(&pick.worse)) {
            // Who lost once stays behind: a chain of picks has one top.
            let lost = out.rewards[better] == Some(0.0);
            out.rewards[better] = Some(if lost { 0.0 } else { 1.0 });
            out.rewards[worse] = Some(0.0);
            out.labelled.extend([better, worse]);
            out.source = Some(Source::Person);
            out.words += 1;
        }
    }
    out
}

/// What the ledger says of a group's answers; where that tells none of them apart, what was picked between them.
///
/// # Errors
/// The store cannot be read.
pub fn rewards_or_picks(store: &Store, group: &Group) -> Result<Rewards, Error> {
    let known = rewards(group, &Known::of(store, &group.question.id)?);
    if known.contrast() {
        return Ok(known);
    }
    let picks = picked(group, &store.picks(&group.question.id)?);
    Ok(if picks.contrast() { picks } else { known })
}

/// Two rollouts to pick between: one of each of the two biggest unlabelled clusters.
pub fn pair_to_show(clusters: &[Cluster]) -> Option<(usize, usize)> {
    let mut open = clusters.iter().filter(|cluster| cluster.label.is_none());
    Some((*open.next()?.rollouts.first()?, *open.next()?.rollouts.first()?))
}

/// Whether a group can teach anything.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Contrast {
    Some {
        right: usize,
        wrong: usize,
    },
    /// Why nothing is learned from it.
    None(String),
}

/// A group's advantages are all zero unless some of its rollouts are worth more than others.
pub fn contrast(rewards: &Rewards) -> Contrast {
    let graded = rewards.graded();
    let known: Vec<f64> = rewards.rewards.iter().flatten().copied().collect();
    let right = known.iter().filter(|reward| **reward > 0.5).count();
    let wrong = known.len() - right;
    let why = match (right, wrong) {
        (0, 0) => "none of its answers is labelled".to_string(),
        (1, 0) | (0, 1) => "only one rollout is labelled".to_string(),
        (right, 0) if !graded => format!("all {right} labelled rollouts are right"),
        (0, wrong) if !graded => {
            format!("all {wrong} labelled rollouts are wrong; type the right answer, or draw more")
        }
        _ => return Contrast::Some { right, wrong },
    };
    Contrast::None(format!("no contrast: nothing is learned, because {why}"))
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::flow::trajectory::{Outcome, Turn};
    use crate::tasks::Answer;
    use crate::tasks::question::Key;
    use crate::train::rollout::{Question, Rollout};
    use crate::train::rows::tests::trajectory;

    /// A group whose rollouts `t0`, `t1`, ... gave these answers; "!" failed.
    pub(crate) fn group(answers: &[&str]) -> Group {
        let rollouts = answers
            .iter()
            .enumerate()
            .map(|(index, answer)| {
                let mut trajectory = trajectory(&format!("t{index}"), answer);
                trajectory.turns = [1, 2].map(|turn| Turn { turn, ..Turn::default() }).to_vec();
                let failed = (*answer == "!").then(|| "engine died".to_string());
                if failed.is_some() {
                    trajectory.outcome = Outcome::Failed {
                        reason: "engine died".into(),
                        remedy: "".into(),
                        cause: crate::flow::event::Cause::EngineDied,
                    };
                }
                Rollout { trajectory, index, seed: 0, failed }
            })
            .collect();
        Group { id: "g".into(), question: Question::new("q", vec![]), rollouts }
    }

    fn entry(label: i64, answer: &str, value: LabelValue, source: Source) -> LedgerEntry {
        LedgerEntry { canonical_answer: canonical(answer), value, source, label, typed: false }
    }

    fn good(label: i64, answer: &str) -> LedgerEntry {
        entry(label, answer, LabelValue::Good, Source::Person)
    }

    fn bad(label: i64, answer: &str) -> LedgerEntry {
        entry(label, answer, LabelValue::Bad, Source::Person)
    }

    fn told(answers: &[&str], ledger: &[LedgerEntry]) -> Rewards {
        rewards(&group(answers), &Known { ledger: ledger.to_vec(), labels: vec![] })
    }

    #[test]
    fn equal_answers_are_one_cluster_and_the_biggest_comes_first() {
        let group = group(&["7", "42", "42.0", "The answer is 42.", "!", "seven"]);
        let clusters = clusters(&group, &Known::default());
        assert_eq!(clusters[0].rollouts, [1, 2, 3]);
        assert_eq!(clusters[0].answers.len(), 3);
        assert_eq!(clusters[1].rollouts, [0]);
        assert_eq!(clusters.len(), 3, "a failed rollout has no answer");
        assert_eq!(next_to_ask(&clusters).unwrap().canonical, clusters[0].canonical);
        assert_eq!(pair_to_show(&clusters), Some((1, 0)));
    }

    #[test]
    fn one_thumb_reaches_every_equal_answer_and_up_settles_the_others() {
        let up = told(&["42", "42.0", "7", "!"], &[good(1, "42")]);
        assert_eq!(up.rewards, [Some(1.0), Some(1.0), Some(0.0), None]);
        assert_eq!((up.words, up.reached(), up.source), (1, 3, Some(Source::Person)));
        // A thumb down says nothing about other answers: missing is not zero.
        let down = told(&["42", "42.0", "7"], &[bad(1, "42")]);
        assert_eq!(down.rewards, [Some(0.0), Some(0.0), None]);
        // Two right answers: there are several, so a third one is open.
        let both = told(&["42", "7", "8"], &[good(1, "42"), good(2, "7")]);
        assert_eq!(both.rewards, [Some(1.0), Some(1.0), None]);
    }

    #[test]
    fn a_typed_answer_settles_the_question_in_one_act() {
        let typed = LedgerEntry { typed: true, ..good(3, "9") };
        let settled = told(&["42", "7", "9"], &[good(1, "42"), bad(3, "7"), typed.clone()]);
        assert_eq!(settled.rewards, [Some(0.0), Some(0.0), Some(1.0)], "older words give way");
        let later = told(&["42", "9", "7"], &[typed, good(4, "42")]);
        assert_eq!(later.rewards, [Some(1.0), Some(1.0), None], "newer ones do not");
    }

    #[test]
    fn a_judge_is_never_believed_alone() {
        let judged = entry(1, "7", LabelValue::Good, Source::Judge);
        let alone = told(&["42", "7"], std::slice::from_ref(&judged));
        assert_eq!((alone.rewards, alone.source), (vec![None, None], None));
        let beside = told(&["42", "7"], &[judged, bad(2, "42")]);
        assert_eq!(beside.rewards, [Some(0.0), Some(1.0)]);
        assert_eq!(beside.source, Some(Source::Person));
    }

    #[test]
    fn a_checker_labels_its_task_and_a_person_overrules_it() {
        let mut group = group(&["41", "42", "43", "!"]);
        let checker = Answer::Number { value: 42.0, tolerance: 0.01 };
        group.question.key = Some(Key::Task { checker });
        let checked = rewards(&group, &Known::default());
        assert_eq!(checked.rewards, [Some(0.0), Some(1.0), Some(0.0), None]);
        assert_eq!((checked.source, checked.words), (Some(Source::Checker), 1));
        let known = Known { ledger: vec![good(1, "43")], labels: vec![] };
        assert_eq!(rewards(&group, &known).rewards, [Some(0.0), Some(1.0), Some(1.0), None]);
    }

    fn on_plan(trajectory: &str, turn: Option<usize>, value: LabelValue) -> Label {
        Label {
            id: 9,
            trajectory: Some(trajectory.into()),
            question_id: "q".into(),
            canonical_answer: None,
            scope: if turn.is_some() { Scope::Turn } else { Scope::Plan },
            turn,
            value,
            text: None,
            correction: None,
            source: Source::Person,
            shown_set: vec![],
            order: 0,
            propensity: 1.0,
            seconds: None,
            adapter: None,
            expiry_ms: None,
            audit: false,
            re_ask_of: None,
            created_ms: 0,
            cleared_ms: None,
        }
    }

    #[test]
    fn a_bad_plan_is_not_taught_by_its_right_answer() {
        let group = group(&["42", "42", "7", "!"]);
        let mut known = Known {
            ledger: vec![good(1, "42")],
            labels: vec![
                on_plan("t0", None, LabelValue::Bad),
                on_plan("t3", None, LabelValue::Bad),
                on_plan("t2", Some(2), LabelValue::Good),
            ],
        };
        let out = rewards(&group, &known);
        assert_eq!(out.rewards, [Some(0.0), Some(1.0), Some(0.0), None], "failed ones stay apart");
        assert_eq!(out.turns, [(2, 2, LabelValue::Good)]);
        // Taken back, it never was.
        known.labels[0].cleared_ms = Some(1);
        assert_eq!(rewards(&group, &known).rewards[0], Some(1.0));
        known.labels[0] = Label { expiry_ms: Some(1), ..on_plan("t0", None, LabelValue::Bad) };
        assert_eq!(rewards(&group, &known).rewards[0], Some(1.0));
    }

    #[test]
    fn picks_reward_only_what_was_picked_between() {
        let group = group(&["1", "2", "3", "4"]);
        let pick = |better: &str, worse: &str| Pick {
            id: 1,
            question_id: "q".into(),
            better: better.into(),
            worse: worse.into(),
            better_left: true,
            seconds: None,
            created_ms: 0,
            cleared_ms: None,
        };
        let out = picked(&group, &[pick("t1", "t0"), pick("t0", "t3"), pick("t1", "gone")]);
        assert_eq!(out.rewards, [Some(0.0), Some(1.0), None, Some(0.0)]);
        assert_eq!(out.words, 2);
        let undone = Pick { cleared_ms: Some(1), ..pick("t1", "t0") };
        assert_eq!(picked(&group, &[undone]).reached(), 0);
    }

    #[test]
    fn without_contrast_it_says_why() {
        let say = |answers: &[&str], ledger: &[LedgerEntry]| match contrast(&told(answers, ledger)) {
            Contrast::Some { right, wrong } => format!("{right} {wrong}"),
            Contrast::None(why) => why,
        };
        assert_eq!(say(&["1", "2"], &[good(1, "1")]), "1 1");
        assert!(say(&["1", "2"], &[]).contains("none of its answers is labelled"));
        assert!(say(&["1", "1"], &[good(1, "1")]).contains("all 2 labelled rollouts are right"));
        assert!(say(&["1", "1"], &[bad(1, "1")]).contains("type the right answer"));
        assert!(say(&["1", "2"], &[bad(1, "1")]).contains("only one rollout"));
    }
}
