//! Which questions a gate asks: never one that trained, drawn with replacement, a quarter renewed per
//! accepted step.
//!
//! Drawing depends on (seed, number of the draw) alone, so a gate continued later draws what it would have.

use std::collections::HashSet;

/// Training and gate questions overlap, or cannot be told apart.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum QuestionsError {
    #[error(
        "{shared} of {gate} gate questions are training questions too, {first:?} for one; a gate on what was trained measures memory: take them out of one of the two"
    )]
    Shared { shared: usize, gate: usize, first: String },
    #[error("question {0:?} stands twice among the gate questions; ask it once")]
    Twice(String),
    #[error("there are no gate questions; name a task file whose questions do not train")]
    Empty,
}

/// Check that no gate question trains, by id.
///
/// # Errors
/// Names the first shared or repeated id and how many there are.
pub fn disjoint<'a>(
    training: impl IntoIterator<Item = &'a str>,
    gate: impl IntoIterator<Item = &'a str>,
) -> Result<(), QuestionsError> {
    let training: HashSet<&str> = training.into_iter().collect();
    let mut seen = HashSet::new();
    let mut shared = Vec::new();
    for id in gate {
        if !seen.insert(id) {
            return Err(QuestionsError::Twice(id.to_string()));
        }
        if training.contains(id) {
            shared.push(id);
        }
    }
    match shared.first() {
        _ if seen.is_empty() => Err(QuestionsError::Empty),
        None => Ok(()),
        Some(first) => Err(QuestionsError::Shared {
            shared: shared.len(),
            gate: seen.len(),
            first: (*first).to_string(),
        }),
    }
}

/// Questions of a gate's file that judge one step; fewer are asked whole.
pub const WINDOW: usize = 120;

/// The questions of a pool that judge the step after `accepted` accepted ones: [`window`] over an order that
/// mixes whatever the file groups (families), and depends on the ids alone.
pub fn chosen<T: Clone>(pool: &[T], id: impl Fn(&T) -> &str, accepted: usize) -> Vec<T> {
    let mut order: Vec<usize> = (0..pool.len()).collect();
    order.sort_by_key(|place| *blake3::hash(id(&pool[*place]).as_bytes()).as_bytes());
    window(pool.len(), WINDOW, accepted).into_iter().map(|place| pool[order[place]].clone()).collect()
}

/// Seed of the draws of a candidate's gate: other ones for every candidate, the same whenever this one is looked
/// at again, so that what is added are draws it has not had.
pub fn gate_seed(candidate: &str, seed: u64) -> u64 {
    let hash = blake3::hash(format!("gate {seed} {candidate}").as_bytes());
    let mut bytes = [0; 8];
    bytes.copy_from_slice(&hash.as_bytes()[..8]);
    u64::from_le_bytes(bytes) >> 12
}

/// One paired rollout to make: candidate and champion both answer `question` with `seed`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Draw {
    /// Index among the gate questions.
    pub question: usize,
    pub seed: u64,
}

/// The `number`-th draw (from 0) of a gate with this seed over `questions` questions (at least one):
/// i.i.d. with replacement and a fresh seed, as the evidence's null hypothesis asks for.
pub fn draw(seed: u64, number: u64, questions: usize) -> Draw {
    let first = mix(seed ^ mix(number));
    // Multiply-shift instead of a remainder: no question is likelier than another by more than 2^-64 q.
    let question = (u128::from(first) * questions as u128) >> 64;
    // 52 bits, as every recorded seed: JSON readers keep it exactly.
    Draw { question: question as usize, seed: mix(first) >> 12 }
}

/// SplitMix64's step and output (Steele, Lea, Flood 2014).
fn mix(x: u64) -> u64 {
    let mut z = x.wrapping_add(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

/// The `size` questions of a pool that judge the step after `accepted` accepted ones: a window over the
/// pool, moved on by a quarter of its size per accepted step, so that no question is overfitted by
/// acceptance after acceptance. The whole pool when it is no larger than `size`.
pub fn window(pool: usize, size: usize, accepted: usize) -> Vec<usize> {
    if pool <= size {
        return (0..pool).collect();
    }
    let start = accepted.wrapping_mul(size.div_ceil(4)) % pool;
    (0..size).map(|offset| (start + offset) % pool).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn overlap_is_refused_by_id() {
        assert_eq!(disjoint(["a", "b"], ["c", "d"]), Ok(()));
        let error = disjoint(["a", "b", "c"], ["d", "c", "b"]).unwrap_err();
        assert_eq!(error, QuestionsError::Shared { shared: 2, gate: 3, first: "c".into() });
        assert!(error.to_string().contains("2 of 3 gate questions"), "{error}");
        assert_eq!(disjoint(["a"], ["b", "b"]), Err(QuestionsError::Twice("b".into())));
        assert_eq!(disjoint(["a"], []), Err(QuestionsError::Empty));
    }

    #[test]
    fn bundled_splits_are_disjoint() {
        use crate::tasks::{Split, files::bundled};
        let ids = |split| bundled(split).into_iter().map(|task| task.id).collect::<Vec<_>>();
        let (train, gate, held_out) = (ids(Split::Train), ids(Split::Gate), ids(Split::HeldOut));
        fn texts(ids: &[String]) -> impl Iterator<Item = &str> {
            ids.iter().map(String::as_str)
        }
        assert_eq!(disjoint(texts(&train), texts(&gate)), Ok(()));
        assert_eq!(disjoint(texts(&train), texts(&held_out)), Ok(()));
        assert_eq!(disjoint(texts(&gate), texts(&held_out)), Ok(()));
    }

    #[test]
    fn draws_are_even_and_continue() {
        let mut counts = [0_u32; 7];
        let draws: Vec<Draw> = (0..7000).map(|number| draw(5, number, 7)).collect();
        for draw in &draws {
            counts[draw.question] += 1;
        }
        // Chi-square with 6 degrees of freedom: 22.5 is its 99.9 % point; the draws are fixed.
        let chi: f64 = counts.iter().map(|&c| (f64::from(c) - 1000.0).powi(2) / 1000.0).sum();
        assert!(chi < 22.5, "{counts:?}");
        let seeds: HashSet<u64> = draws.iter().map(|draw| draw.seed).collect();
        assert_eq!(seeds.len(), draws.len());
        assert_eq!(draws[41], draw(5, 41, 7));
        assert_ne!(draws[41], draw(6, 41, 7));
    }

    #[test]
    fn the_window_moves_a_quarter_per_accepted_step() {
        assert_eq!(window(3, 8, 5), [0, 1, 2]);
        let (one, two) = (window(40, 8, 0), window(40, 8, 1));
        assert_eq!(one, (0..8).collect::<Vec<_>>());
        assert_eq!(one.iter().filter(|q| !two.contains(q)).count(), 2);
        assert_eq!(window(10, 8, 4), [8, 9, 0, 1, 2, 3, 4, 5]);
    }

    #[test]
    fn every_family_judges_every_step_and_steps_are_judged_by_other_draws() {
        use crate::tasks::{Split, files::bundled};
        let pool = bundled(Split::Gate);
        let families: HashSet<_> = pool.iter().map(|task| task.family).collect();
        let of = |accepted| chosen(&pool, |task| &task.id, accepted);
        for accepted in 0..15 {
            let judges = of(accepted);
            assert_eq!(judges.len(), WINDOW);
            assert_eq!(judges.iter().map(|task| task.family).collect::<HashSet<_>>(), families, "{accepted}");
        }
        let (one, two) = (of(0), of(1));
        assert_eq!(one.iter().filter(|task| two.iter().all(|other| other.id != task.id)).count(), WINDOW / 4);
        assert_eq!(chosen(&pool[..7], |task| &task.id, 3).len(), 7);
        assert_eq!(gate_seed("a1", 1), gate_seed("a1", 1));
        assert_ne!(draw(gate_seed("a1", 1), 0, 40), draw(gate_seed("a2", 1), 0, 40));
    }
}
