//! `[train]`: the keys of Flow-GRPO as they stand in the settings file.
//!
//! What a mode fills in for a key left out, and which settings are known not to learn, is `train::presets`.

use serde::{Deserialize, Serialize};

/// Form of the objective.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Mode {
    /// Statistics over rollouts, one unit of weight per rollout, constant token denominator.
    #[default]
    Flow,
    /// The formula of arXiv 2510.05592.
    Paper,
    /// What the paper's released code does: statistics over turn rows, token mean over the batch.
    Reference,
    /// Imitation of the planner's own right rollouts, the wrong ones ignored: what Flow-GRPO is compared with.
    Imitation,
}

impl Mode {
    pub const ALL: [Mode; 4] = [Mode::Flow, Mode::Paper, Mode::Reference, Mode::Imitation];

    pub fn name(self) -> &'static str {
        match self {
            Mode::Flow => "flow",
            Mode::Paper => "paper",
            Mode::Reference => "reference",
            Mode::Imitation => "imitation",
        }
    }
}

/// How the planner is trained. `None`: the mode's own value.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Train {
    pub mode: Mode,
    /// Directions per linear layer (r).
    pub rank: usize,
    /// The delta is multiplied by alpha / rank.
    pub alpha: f32,
    /// Rollouts per question (G).
    pub group: usize,
    /// Mean k3 to the parent that one step may reach, nats per planner token.
    pub step_kl: f64,
    /// Divergence from base over all steps, nats per planner token.
    pub kl_budget: f64,
    /// Learning rate of AdamW.
    pub lr: Option<f64>,
    pub clip_low: Option<f32>,
    pub clip_high: Option<f32>,
    /// Weight of the KL to base; 0: none.
    pub kl_beta: Option<f32>,
    /// Rollouts of a run on questions sample with it; a step on labels takes what its groups were drawn at.
    pub temperature: Option<f32>,
    /// Turns of a training rollout; 0: no limit of its own.
    pub turns: Option<usize>,
    /// What a turn that came to nothing costs a right rollout, of its reward of 1.
    pub fault_cost: Option<f64>,
    /// What computes a step: "auto", "cpu", "ggml-cpu" or a device's name.
    pub device: String,
}

impl Default for Train {
    fn default() -> Train {
        Train {
            mode: Mode::Flow,
            rank: 8,
            alpha: 32.0,
            group: 8,
            step_kl: 0.01,
            kl_budget: 0.4,
            lr: None,
            clip_low: None,
            clip_high: None,
            kl_beta: None,
            temperature: None,
            turns: None,
            fault_cost: None,
            device: "auto".to_string(),
        }
    }
}
