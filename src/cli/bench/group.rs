//! The group that training steps are measured on, and the folder other programs read it from.
//!
//! It is the one the prototype and its PyTorch peer were timed on: a first prompt of 300 tokens all share, 60
//! sampled tokens per turn, 60 more of memory before each next one; 8 rollouts of 3 turns, 24 rows, 10,080
//! tokens, 2,676 of them distinct and computed, 1,440 targets. Token ids are random, every second rollout was
//! right; the adapter of rank 16 beside every linear is random and small, so that A and B both have gradients.

use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::gguf::Header;
use crate::train::adamw::Settings;
use crate::train::lora::{Lora, sites};
use crate::train::peft;
use crate::train::tree::Row;

const ROLLOUTS: usize = 8;
const TURNS: usize = 3;
const FIRST_PROMPT: usize = 300;
const SAMPLED: usize = 60;
const REMEMBERED: usize = 60;
const RANK: usize = 16;
const FILE: &str = "group.json";

/// What a step computes: the gradient of sum over rows of weight * sum over targets of logprob, and AdamW up it.
#[derive(Serialize, Deserialize)]
pub struct Group {
    pub kind: String,
    /// Logits are divided by it.
    pub temperature: f32,
    pub optimizer: Settings,
    pub rows: Vec<Weighted>,
}

/// A row and what each of its targets counts: the rollout's advantage over the number of all targets.
#[derive(Serialize, Deserialize)]
pub struct Weighted {
    pub prompt: Vec<i32>,
    pub sampled: Vec<i32>,
    pub weight: f32,
}

impl Group {
    pub fn new(vocabulary: usize) -> Group {
        Group::several(vocabulary, 1)
    }

    /// The rows of so many such groups in one step, the first of them that of `new`.
    pub fn several(vocabulary: usize, groups: usize) -> Group {
        let vocabulary = i32::try_from(vocabulary).unwrap_or(i32::MAX).max(1);
        let mut state = 1_u64;
        let mut ids = |count: usize| -> Vec<i32> {
            let mut next = || (draw(&mut state) as i32).rem_euclid(vocabulary);
            (0..count).map(|_| next()).collect()
        };
        let share = 1.0 / (groups * ROLLOUTS * TURNS * SAMPLED) as f32;
        let mut shared = Vec::new();
        let mut rows = Vec::new();
        for rollout in 0..groups * ROLLOUTS {
            if rollout % ROLLOUTS == 0 {
                shared = ids(FIRST_PROMPT);
            }
            let mut prompt = shared.clone();
            let weight = if rollout % 2 == 0 { share } else { -share };
            for turn in 0..TURNS {
                if turn > 0 {
                    prompt.extend(ids(REMEMBERED));
                }
                rows.push(Weighted { prompt: prompt.clone(), sampled: ids(SAMPLED), weight });
            }
        }
        Group { kind: "train_group".into(), temperature: 0.7, optimizer: Settings::default(), rows }
    }

    /// All tokens, written out row by row.
    pub fn tokens(&self) -> usize {
        self.rows.iter().map(|row| row.prompt.len() + row.sampled.len()).sum()
    }

    pub fn rows(&self) -> Vec<Row> {
        let row = |row: &Weighted| Row { prompt: row.prompt.clone(), sampled: row.sampled.clone() };
        self.rows.iter().map(row).collect()
    }

    /// dL/dlogprob of each target, row by row.
    pub fn coefficients(&self) -> Vec<f32> {
        self.rows.iter().flat_map(|row| row.sampled.iter().map(|_| row.weight)).collect()
    }

    /// Into `folder`: group.json, and the adapter the step begins from as PEFT reads it.
    ///
    /// # Errors
    /// The folder cannot be written.
    pub fn write(&self, folder: &Path, base: &Header) -> anyhow::Result<()> {
        peft::export(folder, &adapter(base)?, base, base.name())?;
        Ok(std::fs::write(folder.join(FILE), serde_json::to_string(self)?)?)
    }
}

/// The adapter a step begins from.
///
/// # Errors
/// The model has no linears.
pub fn adapter(base: &Header) -> anyhow::Result<Lora> {
    let mut lora = Lora::init(&sites(base), RANK, 32.0, 1)?;
    let mut state = 2_u64;
    for value in lora.pairs.iter_mut().flat_map(|pair| &mut pair.b) {
        *value = (draw(&mut state) as f32 / (1_u64 << 30) as f32 - 1.0) * 0.01;
    }
    Ok(lora)
}

/// The next 31 random bits.
fn draw(state: &mut u64) -> u64 {
    *state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
    *state >> 33
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::train::tree::Tree;

    #[test]
    fn the_group_is_of_the_size_that_figures_name() {
        let group = Group::new(4096);
        let tree = Tree::build(&group.rows());
        assert_eq!((group.rows.len(), group.tokens()), (24, 10_080));
        assert_eq!((tree.tokens.len(), tree.targets.len()), (2_676, 1_440));
        let weights = group.coefficients();
        assert_eq!(weights.len(), 1_440);
        assert!(weights.iter().sum::<f32>().abs() < 1e-6, "as many rollouts right as wrong");
        // Several share nothing but their size.
        let four = Group::several(4096, 4);
        let tree = Tree::build(&four.rows());
        assert_eq!((four.rows.len(), tree.tokens.len(), tree.targets.len()), (96, 4 * 2_676, 4 * 1_440));
        assert!(four.rows[..24].iter().zip(&group.rows).all(|(a, b)| a.prompt == b.prompt));
        let weight = |group: &Group| group.rows.iter().map(|row| row.weight.abs()).sum::<f32>();
        assert!((weight(&four) - weight(&group)).abs() < 1e-6);
    }
}
