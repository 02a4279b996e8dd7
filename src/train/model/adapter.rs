//! A LoRA as the products want it, and the buffers its gradients are summed in.

use super::TrainError;
use super::spec::{LINEARS, Spec};
use crate::train::kernels::{GROUP, panels_of_rows};
use crate::train::lora::{Gradients, Lora};

/// One pair in four layouts. `s` is alpha / r.
pub struct PackedPair {
    pub rank: usize,
    /// For h = A x: panels of A's rows.
    pub a_panels: Vec<u32>,
    /// For W^T dy + A^T dh: A, [r][n_in].
    pub a: Vec<f32>,
    /// For W x + s B h: s B^T, [r][n_out].
    pub b_transposed: Vec<f32>,
    /// For dh = s B^T dy: s B, [n_out][`b_width`].
    pub b: Vec<f32>,
    pub b_width: usize,
}

/// The pairs by block and place in [`LINEARS`]; a matrix without a pair stays as it is.
pub struct PackedLora {
    pairs: Vec<Option<PackedPair>>,
    /// Where each pair of the given adapter went.
    places: Vec<usize>,
    scale: f32,
}

impl PackedLora {
    /// # Errors
    /// As [`places`].
    pub fn new(spec: &Spec, lora: &Lora) -> Result<PackedLora, TrainError> {
        let places = places(spec, lora)?;
        let mut pairs: Vec<Option<PackedPair>> = (0..spec.blocks * LINEARS.len()).map(|_| None).collect();
        for (pair, place) in lora.pairs.iter().zip(&places) {
            pairs[*place] = Some(pack(&pair.a, &pair.b, lora.rank, pair.n_in, pair.n_out, lora.scale()));
        }
        Ok(PackedLora { pairs, places, scale: lora.scale() })
    }

    pub fn pair(&self, block: usize, which: usize) -> Option<&PackedPair> {
        self.pairs[block * LINEARS.len() + which].as_ref()
    }

    /// Gradients in the order of the adapter's pairs, from the sums of each place.
    pub fn gradients(&self, sums: &[PairSums], rank: usize) -> Gradients {
        let pairs = self.places.iter().map(|place| {
            let sums = &sums[*place];
            let n_out = sums.b_transposed.len() / rank;
            let mut b = vec![0.0; sums.b_transposed.len()];
            for (j, row) in sums.b_transposed.chunks_exact(n_out).enumerate() {
                row.iter().enumerate().for_each(|(i, value)| b[i * rank + j] = value * self.scale);
            }
            (sums.a.clone(), b)
        });
        Gradients { pairs: pairs.collect() }
    }

    /// Zeroed sums for one block's linears.
    pub fn sums(&self, spec: &Spec, block: usize, sums: &mut Vec<PairSums>) {
        sums.resize_with(LINEARS.len(), PairSums::default);
        for (which, sums) in sums.iter_mut().enumerate() {
            let (n_in, n_out) = spec.linear(which);
            let rank = self.pair(block, which).map_or(0, |pair| pair.rank);
            for (values, width) in [(&mut sums.a, n_in), (&mut sums.b_transposed, n_out)] {
                values.clear();
                values.resize(rank * width, 0.0);
            }
        }
    }
}

/// dL/dA, and dL/dB^T before its factor s.
#[derive(Clone, Debug, Default)]
pub struct PairSums {
    /// [r][n_in]
    pub a: Vec<f32>,
    /// [r][n_out]
    pub b_transposed: Vec<f32>,
}

impl PairSums {
    pub fn add(&mut self, other: &PairSums) {
        self.a.iter_mut().zip(&other.a).for_each(|(sum, value)| *sum += value);
        self.b_transposed.iter_mut().zip(&other.b_transposed).for_each(|(sum, value)| *sum += value);
    }
}

/// Where each pair of an adapter stands: by block and place in [`LINEARS`].
///
/// # Errors
/// [`TrainError::Lora`] if a pair names no linear of the model, names one twice or has other sizes,
/// [`TrainError::NotFinite`].
pub fn places(spec: &Spec, lora: &Lora) -> Result<Vec<usize>, TrainError> {
    if lora.rank == 0 || !lora.scale().is_finite() {
        return Err(TrainError::Lora(format!("rank {}, alpha {}", lora.rank, lora.alpha)));
    }
    let mut places = Vec::new();
    for pair in &lora.pairs {
        let place = spec.place(&pair.tensor).ok_or_else(|| {
            TrainError::Lora(format!("{:?} is no linear of the planner's blocks", pair.tensor))
        })?;
        let (n_in, n_out) = spec.linear(place % LINEARS.len());
        let sizes = [pair.n_in, pair.n_out, pair.a.len(), pair.b.len()];
        if sizes != [n_in, n_out, n_in * lora.rank, n_out * lora.rank] {
            let rank = lora.rank;
            let reason = format!("{:?} is {sizes:?}, not {n_in} to {n_out} of rank {rank}", pair.tensor);
            return Err(TrainError::Lora(reason));
        }
        if pair.a.iter().chain(&pair.b).any(|value| !value.is_finite()) {
            return Err(TrainError::NotFinite { what: format!("the adapter's {:?}", pair.tensor) });
        }
        if places.contains(&place) {
            return Err(TrainError::Lora(format!("{:?} has two pairs", pair.tensor)));
        }
        places.push(place);
    }
    Ok(places)
}

fn pack(a: &[f32], b: &[f32], rank: usize, n_in: usize, n_out: usize, scale: f32) -> PackedPair {
    let mut a_panels = vec![0; rank.div_ceil(GROUP) * n_in * GROUP];
    for (group, panel) in a_panels.chunks_exact_mut(n_in * GROUP).enumerate() {
        let rows = (rank - group * GROUP).min(GROUP);
        panels_of_rows(1, &a[group * GROUP * n_in..], rows, n_in, n_in, panel);
    }
    let b_width = rank.next_multiple_of(GROUP);
    let (mut b_transposed, mut b_wide) = (vec![0.0; rank * n_out], vec![0.0; n_out * b_width]);
    for (i, row) in b.chunks_exact(rank).enumerate() {
        for (j, value) in row.iter().enumerate() {
            b_transposed[j * n_out + i] = scale * value;
            b_wide[i * b_width + j] = scale * value;
        }
    }
    PackedPair { rank, a_panels, a: a.to_vec(), b_transposed, b: b_wide, b_width }
}
