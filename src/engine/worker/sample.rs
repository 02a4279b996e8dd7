//! From one row of logits to one token and its log-probability, in plain Rust. It knows no context.
//!
//! The draw comes from the policy as it is; only if the grammar refuses what was drawn is the row masked and
//! drawn again, and the token marked forced. The log-probability is always of the whole, unmasked row.

use rand::{RngCore, SeedableRng};
use rand_chacha::ChaCha8Rng;

use crate::engine::Sampler;
use crate::engine::ffi::{Candidates, Grammar, Model};

/// What a draw gave.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Draw {
    Token {
        id: i32,
        logprob: f32,
        forced: bool,
    },
    /// The grammar is complete and allows nothing but the end.
    End,
    /// The grammar allows no token of this vocabulary at all.
    Stuck,
}

/// Buffers for one owner thread, so that a token allocates nothing.
#[derive(Default)]
pub struct Scratch {
    masked: Vec<f32>,
    order: Vec<(f32, i32)>,
    candidates: Candidates,
}

/// One sequence's sampling state.
pub struct Stream {
    sampler: Sampler,
    random: ChaCha8Rng,
    grammar: Option<Grammar>,
}

impl Stream {
    pub fn new(sampler: Sampler, grammar: Option<Grammar>) -> Stream {
        let random = ChaCha8Rng::seed_from_u64(sampler.seed);
        Stream { sampler, random, grammar }
    }

    /// Draw the next token from `logits` and advance the grammar past it.
    pub fn draw(&mut self, logits: &[f32], model: &Model, scratch: &mut Scratch) -> Draw {
        let normaliser = Normaliser::new(logits, self.sampler.temperature);
        let id = self.pick(logits, &normaliser, scratch);
        if self.accept(id, model) {
            return Draw::Token { id, logprob: normaliser.logprob(logits[id as usize]), forced: false };
        }
        let mut masked = std::mem::take(&mut scratch.masked);
        masked.clear();
        masked.extend_from_slice(logits);
        let drawn = self.draw_masked(logits, &mut masked, &normaliser, model, scratch);
        scratch.masked = masked;
        drawn
    }

    fn draw_masked(
        &mut self,
        logits: &[f32],
        masked: &mut [f32],
        normaliser: &Normaliser,
        model: &Model,
        scratch: &mut Scratch,
    ) -> Draw {
        if let Some(grammar) = &mut self.grammar {
            grammar.mask(masked, &mut scratch.candidates);
        }
        let (mut text_allowed, mut end_allowed) = (false, false);
        for (id, logit) in masked.iter_mut().enumerate().filter(|(_, logit)| **logit > f32::NEG_INFINITY) {
            if model.is_end(id as i32) {
                end_allowed = true;
            } else if model.is_control(id as i32) {
                *logit = f32::NEG_INFINITY;
            } else {
                text_allowed = true;
            }
        }
        if !text_allowed {
            return if end_allowed { Draw::End } else { Draw::Stuck };
        }
        let id = self.pick(masked, &Normaliser::new(masked, self.sampler.temperature), scratch);
        if !self.accept(id, model) {
            return Draw::Stuck;
        }
        Draw::Token { id, logprob: normaliser.logprob(logits[id as usize]), forced: true }
    }

    /// Whether the grammar, if any, takes `id`; advances it if so. Control text is never content.
    fn accept(&mut self, id: i32, model: &Model) -> bool {
        let Some(grammar) = &mut self.grammar else { return true };
        let control = model.is_control(id) && !model.is_end(id);
        if control || !grammar.allows(id) {
            return false;
        }
        grammar.accept(id);
        true
    }

    fn pick(&mut self, logits: &[f32], normaliser: &Normaliser, scratch: &mut Scratch) -> i32 {
        let sampler = &self.sampler;
        if sampler.temperature <= 0.0 {
            return normaliser.best;
        }
        let uniform = (self.random.next_u64() >> 11) as f64 / (1u64 << 53) as f64;
        let truncates =
            sampler.top_k > 0 || (sampler.top_p > 0.0 && sampler.top_p < 1.0) || sampler.min_p > 0.0;
        if truncates {
            pick_truncated(logits, sampler, normaliser, uniform, &mut scratch.order)
        } else {
            pick_whole(logits, normaliser, uniform)
        }
    }
}

/// Draw from the whole row: walk it until the mass below `uniform` is used up.
fn pick_whole(logits: &[f32], normaliser: &Normaliser, uniform: f64) -> i32 {
    let mut left = uniform * normaliser.sum;
    // Whole blocks are skipped by their vectorised sums; only the last one is walked token by token.
    for (block, chunk) in logits.chunks(BLOCK).enumerate() {
        let mass = normaliser.block_sum(chunk);
        if mass < left {
            left -= mass;
            continue;
        }
        for (offset, &logit) in chunk.iter().enumerate() {
            left -= f64::from(normaliser.weight(logit));
            if left < 0.0 {
                return (block * BLOCK + offset) as i32;
            }
        }
    }
    normaliser.best
}

/// Draw after top-k, then top-p, then min-p, all at the sampling temperature. top-p keeps the smallest head
/// of the sorted rest whose mass reaches p.
fn pick_truncated(
    logits: &[f32],
    sampler: &Sampler,
    normaliser: &Normaliser,
    uniform: f64,
    order: &mut Vec<(f32, i32)>,
) -> i32 {
    order.clear();
    let floor = if sampler.min_p > 0.0 { sampler.min_p } else { 0.0 };
    // min-p is relative to the best token, which no other stage removes, so it can go first.
    order.extend(logits.iter().enumerate().filter_map(|(id, &logit)| {
        let weight = normaliser.weight(logit);
        (weight > 0.0 && weight >= floor).then_some((weight, id as i32))
    }));
    let heavier = |a: &(f32, i32), b: &(f32, i32)| b.0.total_cmp(&a.0).then(a.1.cmp(&b.1));
    let keep = sampler.top_k as usize;
    if sampler.top_k > 0 && keep < order.len() {
        order.select_nth_unstable_by(keep - 1, heavier);
        order.truncate(keep);
    }
    if sampler.top_p > 0.0 && sampler.top_p < 1.0 {
        // After top-k the mass is that of what is left; without it, of the whole row (top-p
        // comes before min-p).
        let total =
            if sampler.top_k > 0 { order.iter().map(|(w, _)| f64::from(*w)).sum() } else { normaliser.sum };
        order.sort_unstable_by(heavier);
        let mut mass = 0.0;
        let until = order.iter().position(|(weight, _)| {
            mass += f64::from(*weight);
            mass >= f64::from(sampler.top_p) * total
        });
        order.truncate(until.map_or(order.len(), |last| last + 1));
    } else {
        order.sort_unstable_by_key(|(_, id)| *id);
    }
    let total: f64 = order.iter().map(|(weight, _)| f64::from(*weight)).sum();
    let mut left = uniform * total;
    for (weight, id) in order.iter() {
        left -= f64::from(*weight);
        if left < 0.0 {
            return *id;
        }
    }
    normaliser.best
}

const BLOCK: usize = 1024;
const LANES: usize = 16;

/// Softmax figures of one row: weight(l) = exp((l - max) / T), and their sum.
struct Normaliser {
    best: i32,
    max: f32,
    inverse: f32,
    sum: f64,
}

impl Normaliser {
    fn new(logits: &[f32], temperature: f32) -> Normaliser {
        let max = row_max(logits);
        // The first of equal maxima, whatever the vector width.
        let best = logits.iter().position(|&logit| logit == max).unwrap_or(0) as i32;
        let inverse = if temperature > 0.0 { 1.0 / temperature } else { 1.0 };
        let mut normaliser = Normaliser { best, max, inverse, sum: 0.0 };
        normaliser.sum = logits.chunks(BLOCK).map(|chunk| normaliser.block_sum(chunk)).sum();
        normaliser
    }

    fn weight(&self, logit: f32) -> f32 {
        exp_nonpositive((logit - self.max) * self.inverse)
    }

    /// Lanes in f32 over at most BLOCK values, added up in f64: error below 1e-6 of the sum.
    fn block_sum(&self, chunk: &[f32]) -> f64 {
        let mut lanes = [0.0f32; LANES];
        let (whole, rest) = chunk.as_chunks::<LANES>();
        for sixteen in whole {
            for (lane, &logit) in lanes.iter_mut().zip(sixteen) {
                *lane += self.weight(logit);
            }
        }
        let tail: f64 = rest.iter().map(|&logit| f64::from(self.weight(logit))).sum();
        lanes.iter().map(|&lane| f64::from(lane)).sum::<f64>() + tail
    }

    fn logprob(&self, logit: f32) -> f32 {
        (f64::from(logit - self.max) * f64::from(self.inverse) - self.sum.ln()) as f32
    }
}

fn row_max(logits: &[f32]) -> f32 {
    let mut lanes = [f32::NEG_INFINITY; LANES];
    let (whole, rest) = logits.as_chunks::<LANES>();
    for sixteen in whole {
        for (lane, &logit) in lanes.iter_mut().zip(sixteen) {
            // A comparison, not f32::max: it compiles to one instruction and skips NaN.
            *lane = if logit > *lane { logit } else { *lane };
        }
    }
    let mut max = f32::NEG_INFINITY;
    for &logit in lanes.iter().chain(rest) {
        max = if logit > max { logit } else { max };
    }
    max
}

/// exp(x) for x <= 0, relative error below 3e-7, 0 below -87. Branch-free and without calls, so that it
/// vectorises on any CPU: exp(x) = 2^n * exp(r), n = round(x / ln 2), a polynomial for |r| <= ln 2 / 2.
#[inline(always)]
fn exp_nonpositive(x: f32) -> f32 {
    /// Adding and taking away 1.5 * 2^23 rounds to the nearest whole number.
    const ROUND: f32 = 12_582_912.0;
    const LN2_HIGH: f32 = 0.693_359_4;
    const LN2_LOW: f32 = -2.121_944_4e-4;
    let clamped = if x > -87.0 { x } else { -87.0 };
    let n = (clamped * std::f32::consts::LOG2_E + ROUND) - ROUND;
    let r = (clamped - n * LN2_HIGH) - n * LN2_LOW;
    let p = 1.987_569_1e-4f32;
    let p = p * r + 1.398_199_9e-3;
    let p = p * r + 8.333_452e-3;
    let p = p * r + 4.166_579_6e-2;
    let p = p * r + 0.166_666_65;
    let p = p * r + 0.5;
    let value = (p * r) * r + r + 1.0;
    let scale = f32::from_bits(((n as i32 + 127) as u32) << 23);
    if x > -87.0 { value * scale } else { 0.0 }
}

/// Log-probability of `id` in a row at temperature 1.
pub fn score_row(logits: &[f32], id: i32) -> f32 {
    Normaliser::new(logits, 1.0).logprob(logits[id as usize])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(length: usize) -> Vec<f32> {
        let mut random = ChaCha8Rng::seed_from_u64(5);
        (0..length).map(|_| (random.next_u32() as f32 / u32::MAX as f32) * 30.0 - 15.0).collect()
    }

    #[test]
    fn exp_is_close_to_the_real_one() {
        for step in 0..87_000 {
            let x = -(step as f32) / 1000.0;
            let (fast, real) = (f64::from(exp_nonpositive(x)), f64::from(x).exp());
            assert!((fast - real).abs() <= 3e-7 * real, "exp({x}): {fast} for {real}");
        }
        assert_eq!(exp_nonpositive(f32::NEG_INFINITY), 0.0);
        assert_eq!(exp_nonpositive(0.0), 1.0);
    }

    #[test]
    fn logprob_is_the_log_softmax() {
        let logits = row(5003);
        for temperature in [0.3f32, 1.0, 1.7] {
            let normaliser = Normaliser::new(&logits, temperature);
            let scaled: Vec<f64> = logits.iter().map(|&l| f64::from(l) / f64::from(temperature)).collect();
            let max = scaled.iter().copied().fold(f64::NEG_INFINITY, f64::max);
            let log_sum = max + scaled.iter().map(|l| (l - max).exp()).sum::<f64>().ln();
            for id in [0, 1, 777, 5002] {
                let expected = scaled[id] - log_sum;
                assert!((f64::from(normaliser.logprob(logits[id])) - expected).abs() < 2e-5);
            }
        }
    }

    #[test]
    fn whole_draws_follow_the_softmax() {
        let logits = [1.0f32, 3.0, 2.0, f32::NEG_INFINITY, 0.0];
        let normaliser = Normaliser::new(&logits, 1.0);
        let mut counts = [0usize; 5];
        let draws = 20_000;
        for k in 0..draws {
            counts[pick_whole(&logits, &normaliser, (f64::from(k) + 0.5) / f64::from(draws)) as usize] += 1;
        }
        for (id, &count) in counts.iter().enumerate() {
            let expected = f64::from(normaliser.weight(logits[id])) / normaliser.sum * f64::from(draws);
            assert!((count as f64 - expected).abs() <= 1.5, "token {id}: {count} for {expected}");
        }
    }

    #[test]
    fn truncation_keeps_what_it_says() {
        let logits = row(3000);
        let normaliser = Normaliser::new(&logits, 1.0);
        let mut ranked: Vec<usize> = (0..logits.len()).collect();
        ranked.sort_by(|&a, &b| logits[b].total_cmp(&logits[a]));
        let mut order = Vec::new();
        let drawn = |sampler: Sampler, order: &mut Vec<(f32, i32)>| {
            let mut seen = std::collections::BTreeSet::new();
            for k in 0..500 {
                seen.insert(
                    pick_truncated(&logits, &sampler, &normaliser, f64::from(k) / 500.0, order) as usize
                );
            }
            seen
        };
        let base = Sampler::temperature(1.0, 0);
        let top_k = drawn(Sampler { top_k: 3, ..base.clone() }, &mut order);
        assert!(top_k.iter().all(|id| ranked[..3].contains(id)) && top_k.contains(&ranked[0]));
        let tiny_p = drawn(Sampler { top_p: 1e-6, ..base.clone() }, &mut order);
        assert_eq!(tiny_p.into_iter().collect::<Vec<_>>(), [ranked[0]]);
        let floor = logits[ranked[0]] + 0.5f32.ln();
        let min_p = drawn(Sampler { min_p: 0.5, ..base }, &mut order);
        assert!(min_p.iter().all(|&id| logits[id] >= floor - 1e-5));
    }
}
