//! Tests of the objective: golden values, each trap put back, and gradients against differences.

use super::*;

/// Rollouts of one group: (advantage, tokens of each turn). All columns equal: ratio and correction 1, KL 0.
fn batch(rollouts: &[(f32, &[usize])]) -> (Batch, Vec<f32>) {
    let mut batch = Batch { weights: vec![1.0], ..Batch::default() };
    for (index, (advantage, turns)) in rollouts.iter().enumerate() {
        batch.rollouts.push(Rollout { group: 0, advantage: Some(*advantage) });
        for tokens in *turns {
            batch.turns.push(Turn { rollout: index, tokens: *tokens, truncated: false });
        }
    }
    let count = batch.turns.iter().map(|turn| turn.tokens).sum::<usize>();
    let logprobs: Vec<f32> = (0..count).map(|at| -0.1 - 0.3 * (at % 7) as f32).collect();
    batch.sampler = logprobs.clone();
    batch.forced = vec![false; count];
    batch.reference = Some(logprobs.clone());
    (batch, logprobs)
}

fn exact(mode: Mode) -> Settings {
    Settings { kl_beta: 0.0, token_denominator: 10.0, ..Settings::of(mode) }
}

fn coefficients(settings: &Settings, batch: &Batch, logprobs: &[f32]) -> Vec<f32> {
    evaluate(settings, batch, logprobs).unwrap().coefficients
}

fn close(found: &[f32], expected: &[f32]) {
    assert_eq!(found.len(), expected.len());
    for (found, expected) in found.iter().zip(expected) {
        assert!((found - expected).abs() <= 1e-6, "{found} for {expected}");
    }
}

#[test]
fn shares_of_the_three_modes() {
    // One rollout with turns of 1 and 3 tokens, one with a turn of 2.
    let (batch, logprobs) = batch(&[(1.0, &[1, 3]), (-1.0, &[2])]);
    let of = |mode| coefficients(&exact(mode), &batch, &logprobs);
    close(&of(Mode::Flow), &[0.05, 0.05, 0.05, 0.05, -0.05, -0.05]);
    let third = 1.0 / 12.0;
    close(&of(Mode::Paper), &[0.25, third, third, third, -0.25, -0.25]);
    let sixth = 1.0 / 6.0;
    close(&of(Mode::Reference), &[sixth, sixth, sixth, sixth, -sixth, -sixth]);
}

#[test]
fn length_and_turns_change_no_tokens_worth_in_flow() {
    let (short, short_logprobs) = batch(&[(0.5, &[2]), (-0.5, &[2])]);
    let (long, long_logprobs) = batch(&[(0.5, &[2, 8, 4]), (-0.5, &[20])]);
    let worth = |mode, batch: &Batch, logprobs: &[f32]| {
        let found = coefficients(&exact(mode), batch, logprobs);
        (found[0], found[found.len() - 1])
    };
    assert_eq!(worth(Mode::Flow, &short, &short_logprobs), worth(Mode::Flow, &long, &long_logprobs));
    // The traps, as the other modes have them.
    for mode in [Mode::Paper, Mode::Reference] {
        let (short, long) = (worth(mode, &short, &short_logprobs), worth(mode, &long, &long_logprobs));
        assert!(long.1.abs() < short.1.abs() / 2.0, "{mode:?}: {short:?} {long:?}");
    }
}

#[test]
fn a_question_has_one_unit_however_many_rollouts_a_thumb_reached() {
    let (mut batch, logprobs) = batch(&[(1.0, &[1]), (-1.0, &[1]), (1.0, &[1]), (-1.0, &[1]), (-1.0, &[1])]);
    batch.rollouts[2..].iter_mut().for_each(|rollout| rollout.group = 1);
    batch.weights = vec![0.5; 2];
    for mode in [Mode::Flow, Mode::Paper] {
        let found = coefficients(&exact(mode), &batch, &logprobs);
        let (first, second): (f32, f32) =
            (found[..2].iter().map(|c| c.abs()).sum(), found[2..].iter().map(|c| c.abs()).sum());
        assert!((first - second).abs() < 1e-6, "{mode:?}: {first} {second}");
    }
    // Unlabelled rollouts take nothing from the unit.
    batch.rollouts[4].advantage = None;
    let found = coefficients(&exact(Mode::Paper), &batch, &logprobs);
    close(&found, &[0.25, -0.25, 0.25, -0.25, 0.0]);
    // A group at half weight, as a second one of a question is.
    batch.weights[1] = 0.25;
    let found = coefficients(&exact(Mode::Paper), &batch, &logprobs);
    close(&found, &[0.25, -0.25, 0.125, -0.125, 0.0]);
    batch.weights[1] = f32::NAN;
    let refused = evaluate(&exact(Mode::Flow), &batch, &logprobs);
    assert!(matches!(refused, Err(ObjectiveError::Weight { group: 1, .. })), "{refused:?}");
}

#[test]
fn the_clip_takes_gradients_on_the_far_side_only() {
    let (mut batch, _) = batch(&[(1.0, &[4]), (-1.0, &[4])]);
    let ratios = [0.5_f32, 1.0, 1.29, 1.31, 0.5, 0.79, 0.81, 1.5];
    batch.old = Some(vec![-1.0; 8]);
    batch.sampler = vec![-1.0; 8];
    let logprobs: Vec<f32> = ratios.iter().map(|ratio| ratio.ln() - 1.0).collect();
    let settings = Settings { token_denominator: 1.0, ..exact(Mode::Flow) };
    let found = evaluate(&settings, &batch, &logprobs).unwrap();
    let half = |value: f32| value / 2.0;
    let expected = [0.5, 1.0, 1.29, 0.0, 0.0, 0.0, -0.81, -1.5].map(half);
    close(&found.coefficients, &expected);
    let value = 0.5 * (0.5 + 1.0 + 1.29 + 1.3 - 0.8 - 0.8 - 0.81 - 1.5);
    assert!((found.stats.objective - value).abs() < 1e-6, "{}", found.stats.objective);
    assert_eq!(found.stats.clip_share, 3.0 / 8.0);
    assert!((found.stats.ratio_most - 1.5).abs() < 1e-6);
}

#[test]
fn the_dual_clip_bounds_failures_in_reference_mode_alone() {
    let (mut batch, _) = batch(&[(1.0, &[1]), (-1.0, &[2])]);
    batch.old = Some(vec![-2.0; 3]);
    batch.sampler = vec![-2.0; 3];
    let logprobs = [-2.0, -2.0 + 2.9_f32.ln(), -2.0 + 3.1_f32.ln()];
    let found = evaluate(&exact(Mode::Reference), &batch, &logprobs).unwrap();
    close(&found.coefficients, &[1.0 / 3.0, -2.9 / 3.0, 0.0]);
    assert!((found.stats.objective - (1.0 - 2.9 - 3.0) / 3.0).abs() < 1e-6);
    let found = evaluate(&exact(Mode::Paper), &batch, &logprobs).unwrap();
    close(&found.coefficients, &[0.5, -2.9 / 4.0, -3.1 / 4.0]);
}

#[test]
fn before_the_first_update_the_ratio_is_one_and_the_correction_stays() {
    let (mut batch, logprobs) = batch(&[(1.0, &[3]), (-1.0, &[1])]);
    // The sampler gave the first token half, the second a third of the trainer's probability.
    batch.sampler[0] -= 2.0_f32.ln() - 0.001;
    batch.sampler[1] -= 3.0_f32.ln();
    batch.sampler[2] += 1.25_f32.ln();
    let settings = Settings { mismatch_most: 1.0, outlier_least: None, ..exact(Mode::Flow) };
    let found = evaluate(&settings, &batch, &logprobs).unwrap();
    close(&found.coefficients, &[0.05 * 2.0 * (-0.001_f32).exp(), 0.05 * 2.0, 0.05 * 0.8, -0.05]);
    assert_eq!((found.stats.ratio_mean, found.stats.correction_cut_share), (1.0, 0.25));
    // Given as old, the same log-probabilities give the same.
    batch.old = Some(logprobs.clone());
    assert_eq!(evaluate(&settings, &batch, &logprobs).unwrap(), found);
    // The released code does not correct.
    let reference = Settings { kl_beta: 0.0, ..Settings::of(Mode::Reference) };
    close(&coefficients(&reference, &batch, &logprobs), &[0.25, 0.25, 0.25, -0.25]);
}

#[test]
fn kl_has_k3s_value_and_k2s_gradient() {
    let (mut batch, logprobs) = batch(&[(1.0, &[1]), (-1.0, &[1])]);
    let reference = [logprobs[0] - 0.5, logprobs[1] + 0.7];
    batch.reference = Some(reference.to_vec());
    let settings = Settings { kl_beta: 0.1, token_denominator: 1.0, ..Settings::of(Mode::Flow) };
    let found = evaluate(&settings, &batch, &logprobs).unwrap();
    close(&found.coefficients, &[0.5 * (1.0 - 0.1 * 0.5), 0.5 * (-1.0 + 0.1 * 0.7)]);
    let k3 = ((-0.5_f64).exp() + 0.5 - 1.0 + 0.7_f64.exp() - 0.7 - 1.0) / 2.0;
    assert!((found.stats.kl_mean - k3).abs() < 1e-6);
    assert!((found.stats.objective + 0.1 * k3).abs() < 1e-6);
    // Put back, k3's own gradient: too strong above, too weak below the reference.
    let k3_gradient = Settings { kl_gradient: KlGradient::K3, ..settings };
    let slopes = [1.0 - (-0.5_f32).exp(), 1.0 - 0.7_f32.exp()];
    let other = coefficients(&k3_gradient, &batch, &logprobs);
    close(&other, &[0.5 * (1.0 - 0.1 * slopes[0]), 0.5 * (-1.0 - 0.1 * slopes[1])]);
    let without = Batch { reference: None, ..batch };
    assert_eq!(evaluate(&settings, &without, &logprobs), Err(ObjectiveError::NoReference(0.1)));
}

/// Tokens another distribution sampled estimate the KL only with their weights pi / mu, cut as everywhere.
#[test]
fn the_kl_of_tokens_sampled_otherwise_is_weighed() {
    let (mut batch, logprobs) = batch(&[(1.0, &[3]), (-1.0, &[1])]);
    batch.reference = Some(logprobs.iter().map(|logp| logp - 0.5).collect());
    batch.sampler[0] += 1.25_f32.ln();
    batch.sampler[1] -= 3.0_f32.ln();
    let settings = Settings { mismatch_most: 1.0, outlier_least: None, ..exact(Mode::Flow) };
    let with = Settings { kl_beta: 0.1, ..settings };
    let [plain, with] = [settings, with].map(|settings| coefficients(&settings, &batch, &logprobs));
    let kl: Vec<f32> = plain.iter().zip(&with).map(|(plain, with)| plain - with).collect();
    close(&kl, &[0.05 * 0.05 * 0.8, 0.05 * 0.05 * 2.0, 0.05 * 0.05, 0.05 * 0.05]);
}

/// Under the policy's own samples E[dlogp * k2'] is the gradient of KL(policy || reference); E[dlogp * k3']
/// is not, and E[dlogp * k1'] is 0. Exact sums over a vocabulary of 3, by differences of its logits.
#[test]
fn k2s_gradient_is_the_kls() {
    let softmax = |logits: [f64; 3]| {
        let sum: f64 = logits.iter().map(|l| l.exp()).sum();
        logits.map(|l| l.exp() / sum)
    };
    let (logits, reference) = ([0.3, -0.8, 1.1], softmax([1.0, 0.2, -0.5]));
    let kl = |logits| softmax(logits).iter().zip(reference).map(|(p, q)| p * (p / q).ln()).sum::<f64>();
    let policy = softmax(logits);
    for at in 0..3 {
        let moved = |by: f64| {
            let mut logits = logits;
            logits[at] += by;
            logits
        };
        let expected = (kl(moved(1e-5)) - kl(moved(-1e-5))) / 2e-5;
        let through = |gradient: KlGradient| -> f64 {
            let settings = Settings { kl_gradient: gradient, kl_beta: 1.0, ..Settings::default() };
            (0..3)
                .map(|token| {
                    let (logp, reference) = (policy[token].ln(), Some(reference[token].ln()));
                    let term = Token { logp, old: logp, sampler: logp, reference, advantage: 0.0 };
                    let slope = f64::from(u8::from(token == at)) - policy[at];
                    -policy[token] * term.term(&settings).gradient * slope
                })
                .sum()
        };
        assert!((through(KlGradient::K2) - expected).abs() < 1e-8);
        assert!((through(KlGradient::K3) - expected).abs() > 1e-2, "k3 would do as well");
    }
}

#[test]
fn forced_tokens_and_truncated_turns_never_train() {
    let (mut batch, mut logprobs) = batch(&[(1.0, &[3, 2]), (-1.0, &[3])]);
    batch.forced[1] = true;
    batch.sampler[1] = f32::NEG_INFINITY;
    logprobs[1] = -90.0;
    batch.turns[1].truncated = true;
    batch.reference = Some(logprobs.iter().map(|logp| logp - 0.5).collect());
    for mode in [Mode::Flow, Mode::Paper, Mode::Reference] {
        let settings = Settings { kl_beta: 0.1, ..Settings::of(mode) };
        let found = evaluate(&settings, &batch, &logprobs).unwrap();
        let zero = |at: usize| found.coefficients[at] == 0.0;
        assert_eq!((0..8).filter(|at| zero(*at)).collect::<Vec<_>>(), [1, 3, 4], "{mode:?}");
        let stats = found.stats;
        assert_eq!((stats.tokens_trained, stats.tokens_forced, stats.turns_truncated), (5, 1, 1));
    }
}

#[test]
fn an_outlier_between_sampler_and_trainer_is_dropped_and_counted() {
    let sizes: &[usize] = &[4];
    let (mut batch, logprobs) = batch(&[(0.75, sizes), (-0.25, sizes), (-0.25, sizes), (-0.25, sizes)]);
    batch.sampler[4..8].iter_mut().for_each(|mu| *mu += 0.6);
    let settings = Settings { mismatch_most: 1.0, ..exact(Mode::Flow) };
    let found = evaluate(&settings, &batch, &logprobs).unwrap();
    assert!(found.coefficients[4..8].iter().all(|c| *c == 0.0));
    assert_eq!((found.stats.rollouts_dropped, found.stats.rollouts_trained), (1, 3));
    // The others' shares stay.
    close(&found.coefficients[..1], &[0.75 / 4.0 / 10.0]);
    // If the only success goes, its failures go too: they would push the planner anywhere.
    batch.sampler = logprobs.clone();
    batch.sampler[..4].iter_mut().for_each(|mu| *mu += 0.6);
    assert_eq!(evaluate(&settings, &batch, &logprobs), Err(ObjectiveError::NothingToLearn));
}

#[test]
fn a_product_over_the_sequence_is_not_what_corrects() {
    // 0.012 nats per token over 500 tokens: a product would be 403 and cut, each token's weight is 1.012.
    let (mut batch, logprobs) = batch(&[(1.0, &[500]), (-1.0, &[500])]);
    batch.sampler.iter_mut().for_each(|mu| *mu -= 0.012);
    let found = evaluate(&exact(Mode::Flow), &batch, &logprobs).unwrap();
    assert!((found.stats.correction_mean - 0.012_f64.exp()).abs() < 1e-6);
    assert_eq!((found.stats.correction_cut_share, found.stats.rollouts_dropped), (0.0, 0));
}

#[test]
fn a_sampler_of_another_policy_is_refused_by_the_self_test() {
    let (mut batch, logprobs) = batch(&[(1.0, &[9]), (-1.0, &[9])]);
    // As if the sampler had sampled at T = 0.7 and the trainer computed at T = 1.
    batch.sampler.iter_mut().for_each(|mu| *mu *= 0.7);
    let refused = evaluate(&Settings::default(), &batch, &logprobs);
    assert!(matches!(refused, Err(ObjectiveError::Mismatch { tokens: 18, .. })), "{refused:?}");
}

#[test]
fn what_is_not_finite_or_of_another_length_is_refused_by_name() {
    let (good, logprobs) = batch(&[(1.0, &[2]), (-1.0, &[2])]);
    let settings = Settings::default();
    evaluate(&settings, &good, &logprobs).unwrap();
    let mut bad = logprobs.clone();
    bad[3] = f32::NAN;
    let refused = evaluate(&settings, &good, &bad).unwrap_err();
    assert!(matches!(refused, ObjectiveError::NotFinite { turn: 1, token: 1, .. }), "{refused}");
    for column in 0..3 {
        let mut batch = good.clone();
        match column {
            0 => batch.sampler = bad.clone(),
            1 => batch.old = Some(bad.clone()),
            _ => batch.reference = Some(bad.clone()),
        }
        assert!(matches!(evaluate(&settings, &batch, &logprobs), Err(ObjectiveError::NotFinite { .. })));
        match column {
            0 => _ = batch.sampler.pop(),
            1 => batch.old = Some(vec![]),
            _ => batch.forced.push(false),
        }
        let refused = evaluate(&settings, &batch, &logprobs);
        assert!(matches!(refused, Err(ObjectiveError::Lengths { .. })), "{refused:?}");
    }
    let mut batch = good.clone();
    batch.rollouts[1].advantage = Some(f32::NAN);
    assert!(matches!(
        evaluate(&settings, &batch, &logprobs),
        Err(ObjectiveError::Advantage { rollout: 1, .. })
    ));
    let settings = Settings { clip_low: f32::NAN, ..settings };
    assert!(matches!(evaluate(&settings, &good, &logprobs), Err(ObjectiveError::Setting { .. })));
}

#[test]
fn only_failures_or_nothing_at_all_are_refused() {
    let (mut batch, logprobs) = batch(&[(-0.25, &[2]), (-0.5, &[2])]);
    assert_eq!(evaluate(&Settings::default(), &batch, &logprobs), Err(ObjectiveError::OnlyNegatives));
    batch.rollouts.iter_mut().for_each(|rollout| rollout.advantage = None);
    assert_eq!(evaluate(&Settings::default(), &batch, &logprobs), Err(ObjectiveError::NothingToLearn));
    let empty = Batch::default();
    assert_eq!(
        evaluate(&Settings { kl_beta: 0.0, ..Settings::default() }, &empty, &[]),
        Err(ObjectiveError::NothingToLearn)
    );
}

#[test]
fn far_apart_log_probabilities_stay_finite() {
    let (mut batch, mut logprobs) = batch(&[(1.0, &[2]), (-1.0, &[2])]);
    logprobs[3] = -1e30;
    logprobs[0] = -1e-30;
    // The third token's ratio would be e^4999, and against a failure nothing clips it.
    logprobs[2] = -1.0;
    let old = vec![-500.0, -1.0, -5000.0, -1.0];
    (batch.sampler, batch.old) = (old.clone(), Some(old));
    let found = evaluate(&Settings { kl_beta: 0.0, ..Settings::default() }, &batch, &logprobs).unwrap();
    assert!(found.coefficients.iter().all(|c| c.is_finite()) && found.stats.objective.is_finite());
}

/// dJ/dlogp against central differences of J, away from the clip's corners, in all modes. The value moves
/// with k3 and the gradient is k2's, so the KL is left out here; it has its own tests above.
#[test]
fn gradients_are_differences_of_the_value() {
    let (mut batch, old) = batch(&[(1.2, &[3, 2]), (-0.4, &[4]), (-0.8, &[1, 1, 1])]);
    let wave = |at: usize, size: f32| size * (at as f32 * 1.7 + 0.3).sin();
    let logprobs: Vec<f32> = old.iter().enumerate().map(|(at, logp)| logp + wave(at, 0.5)).collect();
    batch.sampler = old.iter().enumerate().map(|(at, logp)| logp + wave(at + 5, 0.04)).collect();
    batch.old = Some(old);
    for mode in [Mode::Flow, Mode::Paper, Mode::Reference] {
        let settings = exact(mode);
        let found = evaluate(&settings, &batch, &logprobs).unwrap();
        for at in 0..logprobs.len() {
            let value = |by: f32| {
                let mut logprobs = logprobs.clone();
                logprobs[at] += by;
                (evaluate(&settings, &batch, &logprobs).unwrap().stats.objective, f64::from(logprobs[at]))
            };
            let ((high, right), (low, left)) = (value(1e-3), value(-1e-3));
            let slope = (high - low) / (right - left);
            let given = f64::from(found.coefficients[at]);
            assert!((slope - given).abs() <= 1e-6 + 1e-5 * given.abs(), "{mode:?} {at}: {slope} {given}");
        }
    }
}
