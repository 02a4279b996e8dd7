//! The trained numbers: one (A, B) pair per planner linear, f32, and their gradients.

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

impl Lora {
    /// What B A x is multiplied with.
    pub fn scale(&self) -> f32 {
        self.alpha / self.rank.max(1) as f32
    }

    pub fn parameters(&self) -> usize {
        self.pairs.iter().map(|pair| pair.a.len() + pair.b.len()).sum()
    }
}
