//! The trained numbers: one (A, B) pair per planner linear, f32, and their gradients.
//!
//! What they are made of and how they begin. Files are `adapter_file`'s business, steps `adamw`'s.

use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

use crate::gguf::Header;
use crate::gguf::toy::ADAPTED;

/// A pair beside one base matrix W [n_out, n_in]: y = W x + (alpha / r) B (A x).
#[derive(Clone, Debug, PartialEq)]
pub struct Pair {
    /// Base tensor, e.g. `blk.0.attn_q.weight`.
    pub tensor: String,
    pub n_in: usize,
    pub n_out: usize,
    /// [r][n_in], row-major: row j is A's j-th direction. GGUF `.lora_a` dims [n_in, r], same bytes.
    pub a: Vec<f32>,
    /// [n_out][r], row-major. GGUF `.lora_b` dims [r, n_out], same bytes.
    pub b: Vec<f32>,
}

/// All pairs of an adapter, in the model's tensor order (layer by layer: q, k, v, output, gate, up, down).
#[derive(Clone, Debug, PartialEq)]
pub struct Lora {
    pub rank: usize,
    pub alpha: f32,
    pub pairs: Vec<Pair>,
}

/// dL/dA and dL/dB, shapes as in [`Lora`].
#[derive(Clone, Debug, PartialEq)]
pub struct Gradients {
    pub pairs: Vec<(Vec<f32>, Vec<f32>)>,
}

/// A base matrix a pair stands beside.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Site {
    pub tensor: String,
    pub n_in: usize,
    pub n_out: usize,
}

/// What makes numbers no adapter.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum LoraError {
    #[error("rank {rank} is outside 1 to {most}; presets use 8")]
    Rank { rank: usize, most: usize },
    #[error("alpha {0} is not a finite number other than 0; presets use 4 times the rank")]
    Alpha(f32),
    #[error("the model has none of the matrices an adapter changes (blk.N.attn_q.weight and so on)")]
    NoSites,
    #[error("tensor {tensor:?}: {reason}")]
    Pair { tensor: String, reason: String },
}

/// The matrices of `base` that an adapter of this project changes, in its order.
pub fn sites(base: &Header) -> Vec<Site> {
    let names = (0..base.blocks()).flat_map(|block| ADAPTED.map(|name| format!("blk.{block}.{name}.weight")));
    names
        .filter_map(|tensor| match base.tensor(&tensor)?.dims.as_slice() {
            &[columns, rows] => {
                let (n_in, n_out) = (usize::try_from(columns).ok()?, usize::try_from(rows).ok()?);
                Some(Site { tensor, n_in, n_out })
            }
            _ => None,
        })
        .collect()
}

impl Lora {
    /// An adapter that changes nothing yet: A uniform in +-1/sqrt(n_in), which is PEFT's
    /// `kaiming_uniform_(a=sqrt(5))`, and B zero. One random stream per pair, so a pair's numbers depend
    /// on the seed and its place alone.
    ///
    /// # Errors
    /// [`LoraError`] for a rank or an alpha that cannot be, or no sites.
    pub fn init(sites: &[Site], rank: usize, alpha: f32, seed: u64) -> Result<Lora, LoraError> {
        // A mad rank must reach the check, not the allocator.
        let held = if rank <= MAX_RANK { rank } else { 0 };
        let pairs = sites.iter().enumerate().map(|(index, site)| {
            let mut generator = ChaCha8Rng::seed_from_u64(seed);
            generator.set_stream(index as u64);
            let bound = 1.0 / (site.n_in.max(1) as f32).sqrt();
            let a = (0..held * site.n_in).map(|_| bound * (2.0 * generator.random::<f32>() - 1.0)).collect();
            let b = vec![0.0; held * site.n_out];
            Pair { tensor: site.tensor.clone(), n_in: site.n_in, n_out: site.n_out, a, b }
        });
        let lora = Lora { rank, alpha, pairs: pairs.collect() };
        lora.check()?;
        Ok(lora)
    }

    /// Lengths fit, nothing is infinite or NaN, no matrix has two pairs.
    ///
    /// # Errors
    /// The first [`LoraError`] found.
    pub fn check(&self) -> Result<(), LoraError> {
        if !(1..=MAX_RANK).contains(&self.rank) {
            return Err(LoraError::Rank { rank: self.rank, most: MAX_RANK });
        }
        if !self.alpha.is_finite() || self.alpha == 0.0 {
            return Err(LoraError::Alpha(self.alpha));
        }
        if self.pairs.is_empty() {
            return Err(LoraError::NoSites);
        }
        let mut names = std::collections::HashSet::new();
        for pair in &self.pairs {
            let wrong = |reason: String| Err(LoraError::Pair { tensor: pair.tensor.clone(), reason });
            if !names.insert(&pair.tensor) {
                return wrong("it has two pairs".to_string());
            }
            for (half, values, width) in [("A", &pair.a, pair.n_in), ("B", &pair.b, pair.n_out)] {
                if values.len() != self.rank * width {
                    let (found, rank) = (values.len(), self.rank);
                    return wrong(format!("{half} has {found} values, rank {rank} times {width} needed"));
                }
                if let Some(value) = values.iter().find(|value| !value.is_finite()) {
                    return wrong(format!("{half} holds {value}"));
                }
            }
        }
        Ok(())
    }

    /// What B A x is multiplied with.
    pub fn scale(&self) -> f32 {
        self.alpha / self.rank.max(1) as f32
    }

    pub fn parameters(&self) -> usize {
        self.pairs.iter().map(|pair| pair.a.len() + pair.b.len()).sum()
    }

    pub fn sites(&self) -> Vec<Site> {
        let site = |pair: &Pair| Site { tensor: pair.tensor.clone(), n_in: pair.n_in, n_out: pair.n_out };
        self.pairs.iter().map(site).collect()
    }
}

/// Far above any rank in use.
const MAX_RANK: usize = crate::gguf::MAX_RANK as usize;

impl Gradients {
    /// All zero, in the shapes of `lora`.
    pub fn zeros(lora: &Lora) -> Gradients {
        let zeros = |pair: &Pair| (vec![0.0; pair.a.len()], vec![0.0; pair.b.len()]);
        Gradients { pairs: lora.pairs.iter().map(zeros).collect() }
    }

    /// Euclidean length over all numbers, summed in f64.
    pub fn norm(&self) -> f64 {
        let squares = self.values().map(|value| f64::from(value) * f64::from(value));
        squares.sum::<f64>().sqrt()
    }

    pub fn values(&self) -> impl Iterator<Item = f32> {
        self.pairs.iter().flat_map(|(a, b)| a.iter().chain(b).copied())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn site(tensor: &str, n_in: usize, n_out: usize) -> Site {
        Site { tensor: tensor.to_string(), n_in, n_out }
    }

    #[test]
    fn a_new_adapter_is_seeded_spread_as_peft_does_and_changes_nothing() {
        let sites = [site("x", 256, 8), site("y", 64, 16)];
        let lora = Lora::init(&sites, 4, 16.0, 7).unwrap();
        assert_eq!(lora, Lora::init(&sites, 4, 16.0, 7).unwrap());
        assert_ne!(lora, Lora::init(&sites, 4, 16.0, 8).unwrap());
        assert_eq!((lora.scale(), lora.parameters()), (4.0, 4 * (256 + 8 + 64 + 16)));
        assert_eq!(lora.sites(), sites);
        for (pair, bound) in lora.pairs.iter().zip([1.0 / 16.0, 1.0 / 8.0]) {
            assert!(pair.b.iter().all(|b| *b == 0.0));
            assert!(pair.a.iter().all(|a| a.abs() <= bound));
            let variance = pair.a.iter().map(|a| f64::from(a * a)).sum::<f64>() / pair.a.len() as f64;
            let uniform = f64::from(bound * bound) / 3.0;
            assert!((variance / uniform - 1.0).abs() < 0.15, "{variance} against {uniform}");
        }
    }

    #[test]
    fn what_is_no_adapter_is_refused() {
        let sites = [site("x", 4, 4)];
        assert_eq!(Lora::init(&sites, 0, 1.0, 0), Err(LoraError::Rank { rank: 0, most: 4096 }));
        assert!(matches!(Lora::init(&sites, 5000, 1.0, 0), Err(LoraError::Rank { .. })));
        assert!(matches!(Lora::init(&sites, 2, f32::NAN, 0), Err(LoraError::Alpha(_))));
        assert_eq!(Lora::init(&[], 2, 1.0, 0), Err(LoraError::NoSites));
        assert!(matches!(
            Lora::init(&[sites[0].clone(), sites[0].clone()], 2, 1.0, 0),
            Err(LoraError::Pair { .. })
        ));
        let mut lora = Lora::init(&sites, 2, 1.0, 0).unwrap();
        lora.pairs[0].b[3] = f32::INFINITY;
        assert_eq!(lora.check().unwrap_err().to_string(), "tensor \"x\": B holds inf");
        lora.pairs[0].b.pop();
        assert!(lora.check().unwrap_err().to_string().contains("7 values, rank 2 times 4"));
    }
}
