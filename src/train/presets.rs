//! The numbers of one training run: what each mode fills in, and which settings are known not to learn.
//!
//! Warnings carry their reason and, where there is one, the public thread that paid for it. Nothing is
//! changed silently: a setting that cannot work is refused, one that seldom works is warned about.

use serde::{Deserialize, Serialize};

use crate::config::{Mode, Train};
use crate::tasks::stats::contrast_chance;
use crate::train::objective;

/// All numbers of a run, resolved; kept in the adapter's manifest.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Settings {
    pub mode: Mode,
    pub rank: usize,
    pub alpha: f32,
    /// Rollouts per question (G).
    pub group: usize,
    pub lr: f64,
    pub clip_low: f32,
    pub clip_high: f32,
    pub kl_beta: f32,
    /// What the rollouts of a step were sampled at, or are to be.
    pub temperature: f32,
    /// Turns of a training rollout; 0: no limit of its own.
    pub turns: usize,
    /// Nats per planner token: one step, and all steps from base.
    pub step_kl: f64,
    pub kl_budget: f64,
    /// What a turn that came to nothing costs a right rollout, of its reward of 1; 0: such turns are only not
    /// reinforced in mode `flow`, and not looked at in others.
    pub fault_cost: f64,
    /// What computes a step, as asked for.
    pub device: String,
}

impl Default for Settings {
    fn default() -> Settings {
        Settings::of(&Train::default())
    }
}

/// What is wrong with one setting.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Advice {
    /// Key in the settings file, below `train`.
    pub key: &'static str,
    /// It cannot work; otherwise it is known to learn little or to do harm.
    pub refused: bool,
    pub reason: String,
}

/// Settings that cannot train anything.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{}", .0.iter().map(|a| format!("train.{}: {}", a.key, a.reason)).collect::<Vec<_>>().join("; "))]
pub struct Refused(pub Vec<Advice>);

impl Settings {
    /// The settings file's numbers, with the mode's own for keys left out. The paper fine-tunes all weights
    /// at 1e-6; an adapter wants about ten times that.
    pub fn of(train: &Train) -> Settings {
        let own = objective::Settings::of(train.mode);
        let temperature = match train.mode {
            Mode::Flow | Mode::Imitation => 1.0,
            Mode::Paper => 0.5,
            Mode::Reference => 0.7,
        };
        Settings {
            mode: train.mode,
            rank: train.rank,
            alpha: train.alpha,
            group: train.group,
            lr: train.lr.unwrap_or(1e-5),
            clip_low: train.clip_low.unwrap_or(own.clip_low),
            clip_high: train.clip_high.unwrap_or(own.clip_high),
            kl_beta: train.kl_beta.unwrap_or(own.kl_beta),
            temperature: train.temperature.unwrap_or(temperature),
            turns: train.turns.unwrap_or(3),
            step_kl: train.step_kl,
            kl_budget: train.kl_budget,
            fault_cost: train.fault_cost.unwrap_or(if train.mode == Mode::Flow { 0.2 } else { 0.0 }),
            device: train.device.clone(),
        }
    }

    /// A first rate by the model's size, where the file names none: rates follow the step bound anyway (each
    /// step begins where the last one's length was right), so this only saves the first few steps. Measured
    /// on the embedded planner (5 M parameters): 1e-3 needs no shrinking in three steps, 4e-3 is halved.
    pub fn start_rate(&mut self, train: &Train, parameters: u64) {
        if train.lr.is_none() && parameters > 0 {
            self.lr = match parameters {
                ..50_000_000 => 1e-3,
                50_000_000..1_000_000_000 => 2e-4,
                _ => 5e-5,
            };
        }
    }

    /// The objective these numbers ask for.
    pub fn objective(&self) -> objective::Settings {
        objective::Settings {
            clip_low: self.clip_low,
            clip_high: self.clip_high,
            kl_beta: self.kl_beta,
            ..objective::Settings::of(self.mode)
        }
    }

    /// Warnings of settings that may run.
    ///
    /// # Errors
    /// Every setting that cannot work, with its reason.
    pub fn checked(&self) -> Result<Vec<Advice>, Refused> {
        let (refused, warned): (Vec<Advice>, Vec<Advice>) =
            self.advice().into_iter().partition(|advice| advice.refused);
        if refused.is_empty() { Ok(warned) } else { Err(Refused(refused)) }
    }

    fn advice(&self) -> Vec<Advice> {
        let mut found = self.cannot_work();
        let mut warn = |key, when: bool, reason: String| {
            if when {
                found.push(Advice { key, refused: false, reason });
            }
        };
        warn("mode", self.mode == Mode::Reference, "statistics over turn rows pay a success in one turn 3 times as much as one in three (2.85 against 0.91): the planner drifts toward short trajectories and stops calling tools (agent-lightning #489); for comparison only".into());
        warn("mode", self.mode == Mode::Imitation, "right rollouts are copied and wrong ones teach nothing, so what the planner already does is made firmer; for comparison".into());
        warn("mode", self.mode == Mode::Paper, "dividing by each plan's length favours short right plans and long wrong ones (Dr. GRPO, arXiv 2503.20783); watch tokens per plan".into());
        warn(
            "group",
            (2..4).contains(&self.group),
            format!(
                "of questions answered right 18 times in 100, only {:.0} % give {} rollouts any contrast, 80 % give 8; groups of 2 made whole runs powerless (TRL #2872)",
                100.0 * contrast_chance(0.18, self.group),
                self.group
            ),
        );
        warn(
            "lr",
            self.lr > 0.0 && self.lr < 5e-6,
            format!(
                "{:e} is a rate for training all weights; an adapter hardly moves below 5e-6 (rank 8 at 5e-7 learned nothing, TRL #2872)",
                self.lr
            ),
        );
        warn(
            "lr",
            self.lr > 1e-3,
            format!(
                "{:e} usually destroys the planner in one step; the step is then cut or discarded",
                self.lr
            ),
        );
        warn(
            "rank",
            self.rank > 64,
            format!("{} costs memory and gains nothing: for rewards, rank 1 to 32 is enough", self.rank),
        );
        let scale = self.alpha / self.rank.max(1) as f32;
        warn(
            "alpha",
            self.alpha > 0.0 && scale < 0.25,
            format!(
                "alpha / rank is {scale}: the adapter's delta is shrunk and learns slowly; 1 to 4 is usual"
            ),
        );
        warn(
            "alpha",
            self.rank > 0 && scale > 16.0,
            format!("alpha / rank is {scale}: every step is magnified; 1 to 4 is usual"),
        );
        warn(
            "kl_beta",
            self.kl_beta > 0.1,
            format!(
                "{} ties the planner to base so that rewards hardly count; the step bound and the budget hold it already",
                self.kl_beta
            ),
        );
        warn(
            "temperature",
            self.temperature > 0.0 && self.temperature < 0.3,
            format!(
                "at {} rollouts of a question are nearly equal: groups without contrast teach nothing",
                self.temperature
            ),
        );
        warn(
            "temperature",
            self.temperature > 1.5,
            format!("at {} most plans are noise and few groups contain a success", self.temperature),
        );
        warn(
            "step_kl",
            self.step_kl > self.kl_budget,
            format!("one step may use {} nats of a budget of {}", self.step_kl, self.kl_budget),
        );
        found
    }

    fn cannot_work(&self) -> Vec<Advice> {
        let mut found = Vec::new();
        let mut refuse = |key, when: bool, reason: &str| {
            if when {
                found.push(Advice { key, refused: true, reason: reason.to_string() });
            }
        };
        let positive = |x: f64| x.is_finite() && x > 0.0;
        refuse("rank", self.rank == 0, "0 has nothing to train; 8 is usual");
        refuse(
            "alpha",
            !positive(f64::from(self.alpha)),
            "must be above 0: the delta is multiplied by alpha / rank; 32 is usual",
        );
        refuse(
            "fault_cost",
            !(0.0..=0.4).contains(&self.fault_cost),
            "must lie between 0 and 0.4: a right answer stays worth more than a wrong one; 0.2 is usual",
        );
        refuse("group", self.group < 2, "a rollout alone has nothing to be compared with; 8 is usual");
        refuse("lr", !positive(self.lr), "must be above 0; 1e-5 is usual");
        refuse(
            "clip_low",
            !(positive(f64::from(self.clip_low)) && self.clip_low < 1.0),
            "must lie between 0 and 1; 0.2 is usual",
        );
        refuse("clip_high", !positive(f64::from(self.clip_high)), "must be above 0; 0.3 is usual");
        refuse(
            "kl_beta",
            !(self.kl_beta.is_finite() && self.kl_beta >= 0.0),
            "must be 0 or more; 0.001 is usual",
        );
        refuse(
            "temperature",
            !positive(f64::from(self.temperature)),
            "must be above 0: greedy rollouts of a question are all equal, so nothing can be learned",
        );
        refuse(
            "step_kl",
            !positive(self.step_kl),
            "must be above 0, or every step is discarded; 0.01 is usual",
        );
        refuse("kl_budget", !positive(self.kl_budget), "must be above 0; 0.4 is usual");
        found
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn defaults_of_each_mode_run() {
        for mode in Mode::ALL {
            let settings = Settings::of(&Train { mode, ..Train::default() });
            let warned = settings.checked().unwrap();
            assert!(warned.iter().all(|advice| advice.key == "mode"), "{mode:?}: {warned:?}");
            assert_eq!(warned.is_empty(), mode == Mode::Flow);
        }
        let own = Train { mode: Mode::Paper, temperature: Some(0.9), ..Train::default() };
        assert_eq!(Settings::of(&own).temperature, 0.9);
        let own = Settings::of(&Train { clip_high: Some(0.25), mode: Mode::Reference, ..Train::default() });
        assert_eq!(own.objective().clip_high, 0.25);
        assert_eq!(own.objective().dual_clip, Some(3.0));
    }

    #[test]
    fn settings_known_not_to_learn_are_named() {
        let good = Settings::default();
        for (key, refused, settings) in [
            ("rank", true, Settings { rank: 0, ..good.clone() }),
            ("alpha", true, Settings { alpha: 0.0, ..good.clone() }),
            ("group", true, Settings { group: 1, ..good.clone() }),
            ("lr", true, Settings { lr: 0.0, ..good.clone() }),
            ("lr", true, Settings { lr: f64::NAN, ..good.clone() }),
            ("clip_low", true, Settings { clip_low: 1.0, ..good.clone() }),
            ("clip_high", true, Settings { clip_high: 0.0, ..good.clone() }),
            ("kl_beta", true, Settings { kl_beta: -1.0, ..good.clone() }),
            ("temperature", true, Settings { temperature: 0.0, ..good.clone() }),
            ("step_kl", true, Settings { step_kl: 0.0, ..good.clone() }),
            ("kl_budget", true, Settings { kl_budget: 0.0, step_kl: 1e-9, ..good.clone() }),
            ("group", false, Settings { group: 2, ..good.clone() }),
            ("lr", false, Settings { lr: 5e-7, ..good.clone() }),
            ("lr", false, Settings { lr: 0.1, ..good.clone() }),
            ("rank", false, Settings { rank: 256, alpha: 256.0, ..good.clone() }),
            ("alpha", false, Settings { alpha: 1.0, ..good.clone() }),
            ("alpha", false, Settings { alpha: 512.0, ..good.clone() }),
            ("kl_beta", false, Settings { kl_beta: 1.0, ..good.clone() }),
            ("temperature", false, Settings { temperature: 0.1, ..good.clone() }),
            ("temperature", false, Settings { temperature: 3.0, ..good.clone() }),
            ("step_kl", false, Settings { step_kl: 0.5, ..good.clone() }),
        ] {
            let found = settings.advice();
            assert!(found.iter().any(|a| a.key == key && a.refused == refused), "{key}: {found:?}");
            assert_eq!(settings.checked().is_err(), refused, "{key}: {found:?}");
            // The one setting that differs from the defaults is the only one spoken of.
            let others = found.iter().filter(|a| a.key != key && a.key != "step_kl").count();
            assert_eq!(others, 0, "{key}: {found:?}");
        }
        let error = Settings { rank: 0, group: 0, ..good }.checked().unwrap_err().to_string();
        assert!(error.contains("train.rank: 0") && error.contains("train.group: a rollout alone"), "{error}");
    }
}
