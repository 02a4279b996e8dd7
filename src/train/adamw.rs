//! The optimizer: AdamW (arXiv 1711.05101) in f32 with a cap on the gradient's length, going up the objective.
//!
//! Its state is saved with each adapter; a run that resumes takes the very step it would have taken.

use serde::{Deserialize, Serialize};

use crate::train::lora::{Gradients, Lora};

/// Raised when the saved state changes shape.
const VERSION: u32 = 1;

#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Settings {
    pub learning_rate: f32,
    pub beta1: f32,
    /// Lower than the usual 0.999, which takes a thousand steps to warm: ours are few.
    pub beta2: f32,
    pub epsilon: f32,
    pub weight_decay: f32,
    /// Longest gradient (Euclidean, over all pairs) that is used as it is; 0: no cap.
    pub norm_most: f32,
}

impl Default for Settings {
    fn default() -> Settings {
        Settings {
            learning_rate: 1e-5,
            beta1: 0.9,
            beta2: 0.98,
            epsilon: 1e-8,
            weight_decay: 0.0,
            norm_most: 1.0,
        }
    }
}

/// Settings and moments. Moments lie in the adapter's order: A then B of each pair.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct AdamW {
    version: u32,
    pub settings: Settings,
    steps: u64,
    /// Lengths of (A, B) per pair, to tell another adapter's state.
    shape: Vec<(usize, usize)>,
    first: Vec<f32>,
    second: Vec<f32>,
}

/// What a step did.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Step {
    /// Steps taken, this one included.
    pub steps: u64,
    /// Length of the gradient before the cap.
    pub gradient_norm: f32,
    /// What the gradient was multiplied with; 1 under the cap.
    pub clipped_to: f32,
    /// Length of the change of the adapter's numbers.
    pub update_norm: f32,
}

#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum OptimizerError {
    #[error("optimizer: {0}; the adapter is unchanged")]
    NotFinite(String),
    #[error("optimizer state does not belong to this adapter: {0}")]
    Shape(String),
    #[error("optimizer state cannot be read: {0}; train on without it, or from an earlier adapter")]
    Unreadable(String),
    #[error("optimizer setting {0}")]
    Setting(String),
}

impl AdamW {
    /// Moments of zero for `lora`.
    ///
    /// # Errors
    /// [`OptimizerError::Setting`].
    pub fn new(settings: Settings, lora: &Lora) -> Result<AdamW, OptimizerError> {
        settings.check()?;
        let zeros = vec![0.0; lora.parameters()];
        Ok(AdamW {
            version: VERSION,
            settings,
            steps: 0,
            shape: shape(lora),
            first: zeros.clone(),
            second: zeros,
        })
    }

    /// Go one step up `gradients`. All or nothing: on an error neither the adapter nor the state changes.
    ///
    /// # Errors
    /// [`OptimizerError`] for other shapes or numbers that are not finite.
    pub fn ascend(&mut self, lora: &mut Lora, gradients: &Gradients) -> Result<Step, OptimizerError> {
        self.fits(lora)?;
        let given: Vec<_> = gradients.pairs.iter().map(|(a, b)| (a.len(), b.len())).collect();
        if given != self.shape {
            return Err(OptimizerError::Shape("the gradients have other shapes".to_string()));
        }
        let norm = gradients.norm();
        if !norm.is_finite() {
            return Err(OptimizerError::NotFinite(format!("the gradient's length is {norm}")));
        }
        let most = f64::from(self.settings.norm_most);
        let clipped_to = if most > 0.0 { (most / (norm + 1e-6)).min(1.0) as f32 } else { 1.0 };
        let mut next = self.clone();
        let mut values: Vec<f32> = lora.pairs.iter().flat_map(|p| p.a.iter().chain(&p.b).copied()).collect();
        let squares = next.update(&mut values, gradients.values().map(|g| g * clipped_to));
        if let Some(bad) = values.iter().chain(&next.first).chain(&next.second).find(|v| !v.is_finite()) {
            return Err(OptimizerError::NotFinite(format!("the step gives {bad}")));
        }
        let mut values = values.into_iter();
        for pair in &mut lora.pairs {
            pair.a.iter_mut().chain(&mut pair.b).zip(&mut values).for_each(|(old, new)| *old = new);
        }
        *self = next;
        let update_norm = squares.sqrt() as f32;
        Ok(Step { steps: self.steps, gradient_norm: norm as f32, clipped_to, update_norm })
    }

    /// The formula, with the sign of ascent; answers the sum of squared changes. Bias corrections in f64,
    /// as PyTorch has them.
    fn update(&mut self, values: &mut [f32], gradient: impl Iterator<Item = f32>) -> f64 {
        self.steps += 1;
        let Settings { learning_rate, beta1, beta2, epsilon, weight_decay, .. } = self.settings;
        let correction = |beta: f32| 1.0 - f64::from(beta).powf(self.steps as f64);
        let rate = (f64::from(learning_rate) / correction(beta1)) as f32;
        let second_root = correction(beta2).sqrt() as f32;
        let kept = 1.0 - learning_rate * weight_decay;
        let mut squares = 0.0;
        let moments = self.first.iter_mut().zip(&mut self.second);
        for ((value, gradient), (first, second)) in values.iter_mut().zip(gradient).zip(moments) {
            *first = beta1 * *first + (1.0 - beta1) * gradient;
            *second = beta2 * *second + (1.0 - beta2) * gradient * gradient;
            let old = *value;
            *value = kept * old + rate * *first / (second.sqrt() / second_root + epsilon);
            squares += f64::from(*value - old).powi(2);
        }
        squares
    }

    pub fn steps(&self) -> u64 {
        self.steps
    }

    pub fn save(&self) -> Result<Vec<u8>, OptimizerError> {
        postcard::to_stdvec(self).map_err(|error| OptimizerError::Unreadable(error.to_string()))
    }

    /// State as [`AdamW::save`] wrote it, for `lora`.
    ///
    /// # Errors
    /// [`OptimizerError`] for bytes that are none, or another adapter's.
    pub fn load(bytes: &[u8], lora: &Lora) -> Result<AdamW, OptimizerError> {
        let unreadable = |reason: String| OptimizerError::Unreadable(reason);
        let (state, rest): (AdamW, _) =
            postcard::take_from_bytes(bytes).map_err(|error| unreadable(error.to_string()))?;
        if state.version != VERSION {
            return Err(unreadable(format!("it has version {}, {VERSION} is read here", state.version)));
        }
        if !rest.is_empty() {
            return Err(unreadable(format!("{} bytes follow its end", rest.len())));
        }
        if state.first.iter().chain(&state.second).any(|value| !value.is_finite()) {
            return Err(unreadable("it holds numbers that are not finite".to_string()));
        }
        state.settings.check()?;
        state.fits(lora)?;
        Ok(state)
    }

    fn fits(&self, lora: &Lora) -> Result<(), OptimizerError> {
        let own = lora.parameters();
        if self.shape != shape(lora) || self.first.len() != own || self.second.len() != own {
            let reason = format!("it has {} numbers in other places, the adapter {own}", self.first.len());
            return Err(OptimizerError::Shape(reason));
        }
        Ok(())
    }
}

impl Settings {
    fn check(&self) -> Result<(), OptimizerError> {
        let wrong = |text: &str, value: f32| Err(OptimizerError::Setting(format!("{text} is {value}")));
        let positive = [("learning_rate", self.learning_rate), ("epsilon", self.epsilon)];
        if let Some((name, value)) = positive.into_iter().find(|(_, v)| !(v.is_finite() && *v > 0.0)) {
            return wrong(name, value);
        }
        let betas = [("beta1", self.beta1), ("beta2", self.beta2)];
        if let Some((name, value)) = betas.into_iter().find(|(_, v)| !(0.0..1.0).contains(v)) {
            return wrong(name, value);
        }
        let rest = [("weight_decay", self.weight_decay), ("norm_most", self.norm_most)];
        match rest.into_iter().find(|(_, v)| !(v.is_finite() && *v >= 0.0)) {
            Some((name, value)) => wrong(name, value),
            None => Ok(()),
        }
    }
}

fn shape(lora: &Lora) -> Vec<(usize, usize)> {
    lora.pairs.iter().map(|pair| (pair.a.len(), pair.b.len())).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::train::lora::Site;

    fn lora() -> Lora {
        let site = |tensor: &str, n_in, n_out| Site { tensor: tensor.to_string(), n_in, n_out };
        Lora::init(&[site("x", 6, 4), site("y", 4, 8)], 2, 8.0, 3).unwrap()
    }

    fn gradients(lora: &Lora, seed: u32) -> Gradients {
        let mut state = seed;
        let mut gradients = Gradients::zeros(lora);
        for value in gradients.pairs.iter_mut().flat_map(|(a, b)| a.iter_mut().chain(b)) {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            *value = (state >> 8) as f32 / (1 << 24) as f32 - 0.5;
        }
        gradients
    }

    #[test]
    fn a_step_after_resume_is_the_step_without_it_bit_by_bit() {
        let mut kept = lora();
        let settings = Settings { weight_decay: 0.01, ..Settings::default() };
        let mut optimizer = AdamW::new(settings, &kept).unwrap();
        for seed in 0..3 {
            optimizer.ascend(&mut kept, &gradients(&lora(), seed)).unwrap();
        }
        let mut resumed = kept.clone();
        let mut loaded = AdamW::load(&optimizer.save().unwrap(), &resumed).unwrap();
        assert_eq!(loaded, optimizer);
        let next = gradients(&kept, 9);
        let first = optimizer.ascend(&mut kept, &next).unwrap();
        assert_eq!(first, loaded.ascend(&mut resumed, &next).unwrap());
        assert_eq!(first.steps, 4);
        let bits = |lora: &Lora| -> Vec<u32> {
            lora.pairs.iter().flat_map(|p| p.a.iter().chain(&p.b).map(|v| v.to_bits())).collect()
        };
        assert_eq!(bits(&kept), bits(&resumed));
        // A state that lost its moments takes another step: the test above can fail.
        let mut fresh = AdamW::new(settings, &kept).unwrap();
        fresh.ascend(&mut resumed, &next).unwrap();
        optimizer.ascend(&mut kept, &next).unwrap();
        assert_ne!(bits(&kept), bits(&resumed));
    }

    #[test]
    fn it_goes_up_and_the_first_step_is_the_learning_rate() {
        let mut trained = lora();
        let mut optimizer = AdamW::new(Settings::default(), &trained).unwrap();
        let gradients = gradients(&trained, 1);
        let before = trained.clone();
        optimizer.ascend(&mut trained, &gradients).unwrap();
        for (pair, (old, (da, db))) in trained.pairs.iter().zip(before.pairs.iter().zip(&gradients.pairs)) {
            let halves = [(&pair.b, &old.b, db), (&pair.a, &old.a, da)];
            for (new, old, gradient) in halves {
                for ((new, old), gradient) in new.iter().zip(old).zip(gradient) {
                    assert!(((new - old) - 1e-5 * gradient.signum()).abs() < 1e-7);
                }
            }
        }
    }

    #[test]
    fn a_long_gradient_is_cut_over_all_pairs_together() {
        let mut trained = lora();
        let gradients = gradients(&trained, 1);
        let norm = gradients.norm() as f32;
        let settings = Settings { norm_most: norm / 4.0, ..Settings::default() };
        let mut optimizer = AdamW::new(settings, &trained).unwrap();
        let step = optimizer.ascend(&mut trained, &gradients).unwrap();
        assert!((step.clipped_to - 0.25).abs() < 1e-5 && step.gradient_norm == norm);
        let moments = optimizer.first.iter().zip(gradients.values());
        assert!(moments.into_iter().all(|(m, g)| (m - 0.1 * 0.25 * g).abs() < 1e-6));
    }

    #[test]
    fn what_is_not_finite_changes_nothing() {
        let mut trained = lora();
        let mut optimizer = AdamW::new(Settings::default(), &trained).unwrap();
        let (lora_before, state_before) = (trained.clone(), optimizer.clone());
        for bad in [f32::NAN, f32::INFINITY, f32::MAX] {
            let mut gradients = gradients(&trained, 1);
            gradients.pairs[1].1[5] = bad;
            optimizer.settings.norm_most = 0.0;
            let refused = optimizer.ascend(&mut trained, &gradients);
            optimizer.settings.norm_most = 1.0;
            assert!(matches!(refused, Err(OptimizerError::NotFinite(_))), "{bad}: {refused:?}");
        }
        assert_eq!((trained, optimizer), (lora_before, state_before));
    }

    #[test]
    fn states_that_do_not_fit_are_refused() {
        let trained = lora();
        let optimizer = AdamW::new(Settings::default(), &trained).unwrap();
        let bytes = optimizer.save().unwrap();
        let mut other = trained.clone();
        other.pairs.swap(0, 1);
        assert!(matches!(AdamW::load(&bytes, &other), Err(OptimizerError::Shape(_))));
        for end in [0, 1, bytes.len() / 2, bytes.len() - 1] {
            assert!(matches!(AdamW::load(&bytes[..end], &trained), Err(OptimizerError::Unreadable(_))));
        }
        assert!(AdamW::load(&[&bytes[..], b"x"].concat(), &trained).is_err());
        let mut later = optimizer.clone();
        later.version = 2;
        assert!(matches!(AdamW::load(&later.save().unwrap(), &trained), Err(OptimizerError::Unreadable(_))));
        let mut broken = optimizer;
        broken.second[0] = f32::NAN;
        assert!(AdamW::load(&broken.save().unwrap(), &trained).is_err());
        let settings = Settings { beta2: 1.0, ..Settings::default() };
        assert!(matches!(AdamW::new(settings, &trained), Err(OptimizerError::Setting(_))));
    }
}
