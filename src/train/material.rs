//! What a step of a run is made of: which questions are drawn, what a checker says of their rollouts, and which
//! planner turns the step is measured on. All of it follows from the plan's seed; nothing is rolled here.

use rand::seq::SliceRandom as _;
use rand::{Rng as _, SeedableRng as _};
use rand_chacha::ChaCha8Rng;

use crate::error::Error;
use crate::flow::trajectory::Turn;
use crate::store::{LabelValue, Source};
use crate::tools::ToolFault;
use crate::train::labelled::Lesson;
use crate::train::reward::Rewards;
use crate::train::rollout::Group;
use crate::train::rows::{LeftOut, Policy, TrainTurn, turns};

/// Turns kept for measuring a step.
const PROBES: usize = 48;

/// Seed of a step, below 2^52.
pub fn step_seed(seed: u64, step: usize) -> u64 {
    let hash = blake3::hash(format!("step {seed} {step}").as_bytes());
    let mut bytes = [0; 8];
    bytes.copy_from_slice(&hash.as_bytes()[..8]);
    u64::from_le_bytes(bytes) >> 12
}

/// The next questions after `before` others: every task once per epoch, in an order that follows from seed and
/// epoch alone.
pub fn draw<T>(tasks: &[T], count: usize, seed: u64, before: usize) -> Vec<&T> {
    let count = count.clamp(1, tasks.len().max(1));
    let mut drawn = Vec::with_capacity(count);
    let mut at = before;
    while drawn.len() < count && !tasks.is_empty() {
        let (epoch, place) = (at / tasks.len(), at % tasks.len());
        let mut order: Vec<usize> = (0..tasks.len()).collect();
        order.shuffle(&mut ChaCha8Rng::seed_from_u64(step_seed(seed, usize::MAX - epoch)));
        drawn.push(&tasks[order[place]]);
        at += 1;
    }
    drawn
}

/// The checker's word on every rollout that ended.
pub fn checked(group: &Group) -> Rewards {
    let reward = |answer: &str| {
        let right = group.question.key.as_ref().is_some_and(|key| key.right(answer));
        f64::from(u8::from(right))
    };
    Rewards {
        rewards: group.rollouts.iter().map(|rollout| rollout.answer().map(reward)).collect(),
        source: Some(Source::Checker),
        turns: Vec::new(),
        labelled: Vec::new(),
        relative: false,
        words: group.rollouts.len(),
    }
}

/// Turns whose plan came to nothing by its own fault: it was no plan, or what it asked for could not be run.
/// Called bad, so that a right answer that came all the same does not teach them: (place of the rollout, turn).
pub fn faults(group: &Group) -> Vec<(usize, usize, LabelValue)> {
    let failed = |turn: &Turn| {
        let fault = turn.result.as_ref().and_then(|result| result.fault);
        turn.refused.is_some()
            || matches!(fault, Some(ToolFault::BadArguments | ToolFault::Unknown | ToolFault::Failed))
    };
    let rollouts = group.rollouts.iter().enumerate();
    rollouts
        .flat_map(|(place, rollout)| {
            let turns = rollout.trajectory.turns.iter().filter(|turn| failed(turn));
            turns.map(move |turn| (place, turn.turn, LabelValue::Bad))
        })
        .collect()
}

/// Deal the rewards of all groups out anew, failures staying failures.
pub fn shuffle(rewards: &mut [Rewards], seed: u64) {
    let mut all: Vec<f64> =
        rewards.iter().flat_map(|group| group.rewards.iter().flatten().copied()).collect();
    let mut rng = ChaCha8Rng::seed_from_u64(seed ^ 0x5eed);
    all.shuffle(&mut rng);
    let mut dealt = all.into_iter();
    for reward in rewards.iter_mut().flat_map(|group| group.rewards.iter_mut().flatten()) {
        *reward = dealt.next().unwrap_or(*reward);
    }
    // Draw once more so that an empty deal and a full one leave equal generators behind.
    let _: u64 = rng.random();
}

pub fn lesson(
    groups: &[Group],
    rewards: &[Rewards],
    policy: Policy,
    imitates: bool,
) -> Result<Lesson, Error> {
    let mut lesson = Lesson { imitates, ..Lesson::new(policy) };
    for (group, rewards) in groups.iter().zip(rewards) {
        lesson.add(group, rewards)?;
    }
    Ok(lesson)
}

/// Planner turns to measure a step on, and, where the bare model drew them, its fuel bar: half of them of groups
/// that train, half of others where there are any, so that neither certain nor doubtful questions alone say how
/// far a step went.
///
/// # Errors
/// A rollout of another policy.
pub fn probes(groups: &[Group], lesson: &Lesson) -> Result<Vec<TrainTurn>, Error> {
    let (mut own, mut aside) = (Vec::new(), Vec::new());
    for group in groups {
        let trains = lesson.groups.iter().any(|trained| trained.question_id == group.question.id);
        let into = if trains { &mut own } else { &mut aside };
        for rollout in group.rollouts.iter().take(4) {
            let turns = turns(&rollout.trajectory, &lesson.policy, &mut LeftOut::default())?;
            into.extend(turns.unwrap_or_default());
        }
    }
    let half = aside.len().min(PROBES / 2);
    let mut probes: Vec<TrainTurn> = spread(&own, PROBES - half);
    probes.extend(spread(&aside, half));
    Ok(probes)
}

/// `count` turns evenly spread over all.
fn spread(turns: &[TrainTurn], count: usize) -> Vec<TrainTurn> {
    let count = count.min(turns.len());
    (0..count).map(|i| turns[i * turns.len() / count].clone()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tasks::{Answer, Family, Task};

    fn task(n: usize) -> Task {
        Task {
            id: format!("t{n}"),
            family: Family::Arithmetic,
            query: format!("What is {n}?"),
            answer: Answer::Number { value: n as f64, tolerance: 0.0 },
            steps: Vec::new(),
            wrong: Vec::new(),
        }
    }

    #[test]
    fn an_epoch_asks_every_question_once_and_follows_from_the_seed() {
        let tasks: Vec<Task> = (0..12).map(task).collect();
        let epoch = |seed| -> Vec<String> {
            (0..3).flat_map(|step| draw(&tasks, 4, seed, 4 * step)).map(|task| task.id.clone()).collect()
        };
        let mut once = epoch(1);
        assert_ne!(once, epoch(2));
        assert_eq!(once, epoch(1));
        once.sort();
        once.dedup();
        assert_eq!(once.len(), 12);
        let next: Vec<_> = draw(&tasks, 4, 1, 12).iter().map(|task| task.id.clone()).collect();
        assert_ne!(next, epoch(1)[..4], "every epoch has its own order");
    }

    #[test]
    fn turns_that_came_to_nothing_are_called_bad_whatever_the_answer() {
        use crate::flow::trajectory::Trajectory;
        use crate::tools::ToolResult;
        use crate::train::rollout::{Question, Rollout};
        let ran = |turn, fault| Turn {
            turn,
            result: Some(ToolResult { fault, ..ToolResult::default() }),
            ..Turn::default()
        };
        let no_plan = |turn| Turn { turn, refused: Some(("?".into(), "why".into())), ..Turn::default() };
        let rolled = |turns: Vec<Turn>| Rollout {
            trajectory: Trajectory { turns, ..Trajectory::default() },
            index: 0,
            seed: 0,
            failed: None,
        };
        let group = Group {
            id: "g".into(),
            question: Question::of_task(&task(1).into()),
            rollouts: vec![
                rolled(vec![ran(1, None), ran(2, Some(ToolFault::Failed)), no_plan(3), ran(4, None)]),
                rolled(vec![]),
                rolled(vec![
                    ran(1, Some(ToolFault::BadArguments)),
                    // Not the plan's doing.
                    ran(2, Some(ToolFault::Limit)),
                    ran(3, Some(ToolFault::Refused)),
                    ran(4, Some(ToolFault::Unknown)),
                ]),
            ],
        };
        let bad = |place, turn| (place, turn, LabelValue::Bad);
        assert_eq!(faults(&group), [bad(0, 2), bad(0, 3), bad(2, 1), bad(2, 4)]);
    }

    #[test]
    fn shuffled_rewards_keep_their_number_and_leave_failures_alone() {
        let group = |values: &[Option<f64>]| Rewards {
            rewards: values.to_vec(),
            source: Some(Source::Checker),
            turns: Vec::new(),
            labelled: Vec::new(),
            relative: false,
            words: values.len(),
        };
        let before = [group(&[Some(1.0); 20]), group(&[Some(0.0), None, Some(0.0)]), group(&[Some(0.0); 20])];
        let mut after = before.clone();
        shuffle(&mut after, 7);
        let sum = |groups: &[Rewards]| groups.iter().flat_map(|g| g.rewards.iter().flatten()).sum::<f64>();
        assert_eq!(sum(&before).to_bits(), sum(&after).to_bits());
        assert_eq!(after[1].rewards[1], None);
        assert_ne!(before.to_vec(), after.to_vec());
    }
}
