//! The gate: does a candidate adapter answer better than what serves, worse, or can one not tell?
//!
//! Evidence is gathered from single paired rollouts (same question, same seed, two adapters) and may be
//! looked at after each and continued in another idle hour. It never draws a rollout and never activates
//! anything; it says what may be done. Levels hold per step: over a chain of steps false calls add up, which
//! is why the same candidate also meets base and the champion of five steps ago.

pub mod evidence;
pub mod questions;
mod report;

use serde::{Deserialize, Serialize};

use evidence::{Counts, e_value};
pub use questions::{Draw, QuestionsError, chosen, disjoint, draw, gate_seed, window};
pub use report::Report;

/// Evidence for gain that calls a candidate better: under no difference it is reached by chance in at most
/// 1 of 20 gates.
pub const BETTER_AT: f64 = 20.0;
/// Evidence for harm that calls a candidate worse: at most 1 of 10, lower on purpose.
pub const WORSE_AT: f64 = 10.0;

/// What a gate says.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    Better,
    Worse,
    CannotTell,
}

/// Whom the candidate is compared with.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Opponent {
    /// The adapter that serves; the candidate's parent as a rule.
    Champion,
    /// No adapter.
    Base,
    /// The champion of five accepted steps ago: catches drift by steps that each lose too little to see.
    Pinned,
}

impl Opponent {
    pub fn words(self) -> &'static str {
        match self {
            Opponent::Champion => "the champion",
            Opponent::Base => "base without an adapter",
            Opponent::Pinned => "the champion of five steps ago",
        }
    }
}

/// One comparison: counts of paired rollouts, candidate against one opponent. Everything else follows from
/// the counts, so this is all that need be kept to continue.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Gate {
    pub opponent: Opponent,
    /// Content hash of the opponent's adapter; None: no adapter.
    pub against: Option<String>,
    /// Pairs only the candidate answered rightly.
    pub wins: u64,
    /// Pairs only the opponent answered rightly.
    pub losses: u64,
    pub both_right: u64,
    pub both_wrong: u64,
    /// Pairs that are no evidence: the machine, not the adapter, failed a pass (engine died, cancelled), or nobody
    /// has said whether an answer is right.
    pub left_out: u64,
    /// The first verdict other than "cannot tell", and after how many pairs; later pairs do not undo it.
    pub decided: Option<(Verdict, u64)>,
}

impl Gate {
    pub fn new(opponent: Opponent, against: Option<String>) -> Gate {
        Gate {
            opponent,
            against,
            wins: 0,
            losses: 0,
            both_right: 0,
            both_wrong: 0,
            left_out: 0,
            decided: None,
        }
    }

    /// The comparison again from what was kept of it: every pair that counted, in the order drawn, and how many did
    /// not. A verdict that fell stays.
    pub fn kept(opponent: Opponent, against: Option<String>, pairs: &[(bool, bool)], left_out: u64) -> Gate {
        let mut gate = Gate { left_out, ..Gate::new(opponent, against) };
        pairs.iter().for_each(|(candidate, champion)| {
            gate.add(*candidate, *champion);
        });
        gate
    }

    /// Count one paired rollout; answers the verdict so far. A pass the adapter itself may have spoilt (turn
    /// limit, full context, no answer) is a wrong one, on either side.
    pub fn add(&mut self, candidate_right: bool, opponent_right: bool) -> Verdict {
        let reached = match (candidate_right, opponent_right) {
            (true, true) => {
                self.both_right += 1;
                None
            }
            (false, false) => {
                self.both_wrong += 1;
                None
            }
            (true, false) => {
                self.wins += 1;
                (self.better() >= BETTER_AT).then_some(Verdict::Better)
            }
            (false, true) => {
                self.losses += 1;
                (self.worse() >= WORSE_AT).then_some(Verdict::Worse)
            }
        };
        if let (None, Some(verdict)) = (self.decided, reached) {
            self.decided = Some((verdict, self.pairs()));
        }
        self.verdict()
    }

    /// Count a pair that is no evidence; both passes are dropped.
    pub fn leave_out(&mut self) {
        self.left_out += 1;
    }

    pub fn verdict(&self) -> Verdict {
        self.decided.map_or(Verdict::CannotTell, |(verdict, _)| verdict)
    }

    /// Pairs that count.
    pub fn pairs(&self) -> u64 {
        self.wins + self.losses + self.both_right + self.both_wrong
    }

    /// Number of the next draw: pairs left out are not drawn again, so seeds never repeat.
    pub fn next_draw(&self) -> u64 {
        self.pairs() + self.left_out
    }

    /// E value for "the candidate is better".
    pub fn better(&self) -> f64 {
        e_value(self.wins, self.losses)
    }

    /// E value for "the candidate is worse".
    pub fn worse(&self) -> f64 {
        e_value(self.losses, self.wins)
    }

    pub fn counts(&self) -> Counts {
        Counts { wins: self.wins, losses: self.losses, ties: self.both_right + self.both_wrong }
    }

    pub fn report(&self) -> Report {
        Report::of(self)
    }
}

/// What may be done with a candidate.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Decision {
    /// Better than the champion and worse than nobody: activate.
    Activate,
    /// Worse than one of its opponents: never activated.
    Refuse,
    /// Cannot tell: the champion keeps serving and the evidence is kept; a person may ship it knowingly.
    Hold,
}

impl Decision {
    pub fn name(self) -> &'static str {
        match self {
            Decision::Activate => "activate",
            Decision::Refuse => "refuse",
            Decision::Hold => "hold",
        }
    }
}

/// A candidate with all its comparisons, kept between idle hours.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Trial {
    /// Content hash of the candidate. Evidence belongs to it alone and is never handed to another.
    pub candidate: String,
    /// Seed of the draws; every gate of the trial draws the same pairs.
    pub seed: u64,
    pub gates: Vec<Gate>,
}

impl Trial {
    pub fn new(candidate: impl Into<String>, seed: u64, gates: Vec<Gate>) -> Trial {
        Trial { candidate: candidate.into(), seed, gates }
    }

    pub fn decision(&self) -> Decision {
        if self.gates.iter().any(|gate| gate.verdict() == Verdict::Worse) {
            return Decision::Refuse;
        }
        let better = |gate: &Gate| gate.opponent == Opponent::Champion && gate.verdict() == Verdict::Better;
        if self.gates.iter().any(better) { Decision::Activate } else { Decision::Hold }
    }

    /// Whether the candidate may serve. `knowingly`: a person asked for it although one cannot tell; nothing
    /// lets a worse one through.
    pub fn may_serve(&self, knowingly: bool) -> bool {
        match self.decision() {
            Decision::Activate => true,
            Decision::Hold => knowingly,
            Decision::Refuse => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use rand::{Rng, SeedableRng};
    use rand_chacha::ChaCha8Rng;

    use super::*;

    fn champion() -> Gate {
        Gate::new(Opponent::Champion, Some("c0".into()))
    }

    /// Pairs until a verdict or `most`: a question of random difficulty, each side a coin of its own.
    fn simulate(rng: &mut ChaCha8Rng, shift: f64, most: u64) -> Gate {
        let mut gate = champion();
        for _ in 0..most {
            let p: f64 = rng.random();
            let right = rng.random_bool((p + shift).clamp(0.0, 1.0));
            if gate.add(right, rng.random_bool(p)) != Verdict::CannotTell {
                break;
            }
        }
        gate
    }

    #[test]
    fn without_a_difference_false_verdicts_stay_at_their_levels() {
        let mut rng = ChaCha8Rng::seed_from_u64(1);
        let runs = 10_000;
        let (mut better, mut worse) = (0, 0);
        for _ in 0..runs {
            match simulate(&mut rng, 0.0, 640).verdict() {
                Verdict::Better => better += 1,
                Verdict::Worse => worse += 1,
                Verdict::CannotTell => {}
            }
        }
        println!("false better {better}, false worse {worse} of {runs}");
        assert!(better <= runs / 20, "{better} of {runs} called better");
        assert!(worse <= runs / 10, "{worse} of {runs} called worse");
        // It must be able to fall: an evidence that never moves would pass the lines above.
        assert!(better > 0 && worse > 0, "{better} {worse}");
    }

    /// The hardest case for the level: every pair is decided, so evidence moves at every look.
    #[test]
    fn levels_hold_when_every_pair_is_decided() {
        let mut rng = ChaCha8Rng::seed_from_u64(2);
        let mut called = [0; 2];
        for _ in 0..2_000 {
            let mut gate = champion();
            for _ in 0..400 {
                let won = rng.random_bool(0.5);
                match gate.add(won, !won) {
                    Verdict::Better => called[0] += 1,
                    Verdict::Worse => called[1] += 1,
                    Verdict::CannotTell => continue,
                }
                break;
            }
        }
        assert!(called[0] <= 100 && called[1] <= 200, "{called:?} of 2000");
    }

    #[test]
    fn a_loss_of_twenty_points_is_refused_within_120_pairs() {
        let mut rng = ChaCha8Rng::seed_from_u64(3);
        let mut needed: Vec<u64> = (0..1_000)
            .map(|_| match simulate(&mut rng, -0.2, 2_000).decided {
                Some((Verdict::Worse, pairs)) => pairs,
                _ => u64::MAX,
            })
            .collect();
        needed.sort_unstable();
        println!("-20 points: median {} pairs, 90 % within {}", needed[500], needed[900]);
        assert!(needed[500] <= 120, "median {}", needed[500]);
        // The worst case for a loss of 20 points: all questions equally hard, independent coins.
        let mut needed: Vec<u64> = (0..1_000)
            .map(|_| {
                let mut gate = champion();
                while gate.pairs() < 2_000 {
                    if gate.add(rng.random_bool(0.4), rng.random_bool(0.6)) == Verdict::Worse {
                        return gate.pairs();
                    }
                }
                u64::MAX
            })
            .collect();
        needed.sort_unstable();
        println!("-20 points, coins of .6 and .4: median {} pairs", needed[500]);
        assert!(needed[500] <= 120, "median {}", needed[500]);
    }

    #[test]
    fn a_gain_is_found_and_a_verdict_stays() {
        let mut gate = champion();
        for _ in 0..6 {
            assert_eq!(gate.add(true, false), Verdict::CannotTell);
        }
        assert_eq!(gate.add(true, false), Verdict::Better);
        for _ in 0..30 {
            assert_eq!(gate.add(false, true), Verdict::Better, "what was decided stays decided");
        }
        assert_eq!(gate.decided, Some((Verdict::Better, 7)));
    }

    #[test]
    fn a_gate_continues_where_it_was_kept() {
        let mut rng = ChaCha8Rng::seed_from_u64(4);
        let mut whole = Trial::new("a1", 9, vec![champion(), Gate::new(Opponent::Base, None)]);
        let mut parts = whole.clone();
        for number in 0..60_u64 {
            let (x, y) = (rng.random_bool(0.5), rng.random_bool(0.5));
            if number % 10 == 0 {
                whole.gates[0].leave_out();
                parts.gates[0].leave_out();
            }
            whole.gates[0].add(x, y);
            let text = serde_json::to_string(&parts).unwrap();
            parts = serde_json::from_str(&text).unwrap();
            parts.gates[0].add(x, y);
        }
        assert_eq!(whole, parts);
        let mut again = Gate::kept(Opponent::Champion, Some("c0".into()), &[(true, false); 6], 2);
        assert_eq!((again.next_draw(), again.verdict()), (8, Verdict::CannotTell));
        assert_eq!(again.add(true, false), Verdict::Better);
        assert_eq!(again.decided, Some((Verdict::Better, 7)));
        assert_eq!(whole.gates[0].next_draw(), 66);
    }

    #[test]
    fn worse_is_never_activated() {
        let with = |champion: &[(bool, bool)], base: &[(bool, bool)]| {
            let mut trial = Trial::new("a", 0, vec![self::champion(), Gate::new(Opponent::Base, None)]);
            for (gate, pairs) in trial.gates.iter_mut().zip([champion, base]) {
                for (x, y) in pairs {
                    gate.add(*x, *y);
                }
            }
            trial
        };
        let (won, lost) = ([(true, false); 7], [(false, true); 5]);
        for (trial, decision, knowingly) in [
            (with(&won, &[]), Decision::Activate, true),
            (with(&[], &[]), Decision::Hold, true),
            (with(&[], &won), Decision::Hold, true),
            (with(&lost, &won), Decision::Refuse, false),
            (with(&won, &lost), Decision::Refuse, false),
        ] {
            assert_eq!(trial.decision(), decision, "{trial:?}");
            assert_eq!(trial.may_serve(true), knowingly, "{trial:?}");
            assert_eq!(trial.may_serve(false), decision == Decision::Activate, "{trial:?}");
        }
    }
}
