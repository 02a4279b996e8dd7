//! The arithmetic of a training step on the CPU: matrix products on packed words, elementwise passes, the
//! thread pool, and reading weights out of a mapped GGUF. Knows no model and no objective.
//!
//! A product sums over *words*: one f32, or two bf16 side by side, whichever the implementation wants.
//! Which one is chosen at run time; layouts, callers and tests are the same for all. A device backend would
//! be another implementation of the model's passes, not of this trait: here operands lie in memory.

mod elementwise;
mod map;
mod micro;
mod pack;
mod pool;
mod unpack;

#[cfg(test)]
mod tests;

pub use elementwise::{
    Rope, exp_in_place, norm, norm_back, rope, rope_back, softmax_rows, swiglu, swiglu_back,
};
pub use map::Mapped;
pub use pack::{GROUP, left, pairs, panels_of_columns, panels_of_rows, unleft, words};
pub use pool::Pool;
pub use unpack::{Unpack, unpack, values};

/// The left side of a product: word k of row i stands at `i * row + k * step`.
#[derive(Clone, Copy)]
pub struct Left<'a> {
    pub words: &'a [u32],
    pub row: usize,
    pub step: usize,
}

/// The right side: word k of column j stands at `k * step + (j / 16) * group + j % 16`. Columns are read 16
/// at a time, so the last group must be whole in memory.
#[derive(Clone, Copy)]
pub struct Right<'a> {
    pub words: &'a [u32],
    pub step: usize,
    pub group: usize,
}

/// A second product of low rank in f32, added while the tile is still in registers (the LoRA term).
#[derive(Clone, Copy)]
pub struct Low<'a> {
    pub rank: usize,
    /// [rows][rank]
    pub h: &'a [f32],
    /// [rank][`width`], read 16 columns at a time.
    pub m: &'a [f32],
    pub width: usize,
}

/// out[rows][columns] (+)= left * right + low, rows of `out` standing `stride` apart.
#[derive(Clone, Copy)]
pub struct Product<'a> {
    pub rows: usize,
    pub columns: usize,
    /// Words that are summed over.
    pub steps: usize,
    pub left: Left<'a>,
    pub right: Right<'a>,
    pub low: Option<Low<'a>>,
    /// Add to what `out` holds.
    pub add: bool,
    pub stride: usize,
}

/// One implementation of the products.
pub trait Kernels: Send + Sync {
    fn name(&self) -> &'static str;
    /// Values of the summed dimension in a word: 1 (f32) or 2 (bf16).
    fn per_word(&self) -> usize;
    /// # Panics
    /// If an operand is shorter than the product's shape says: a bug of the caller.
    fn multiply(&self, product: &Product, out: &mut [f32]);
}

/// What the wide products are computed in. Sums are f32 always.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Precision {
    /// Operands f32.
    F32,
    /// Operands rounded to bf16; f32 where the processor has no bf16 products.
    #[default]
    Bf16,
}

/// The fastest implementation of this precision that the processor runs.
pub fn choose(precision: Precision) -> &'static dyn Kernels {
    #[cfg(target_arch = "x86_64")]
    {
        use std::arch::is_x86_feature_detected as has;
        if precision == Precision::Bf16 && has!("avx512f") && has!("avx512bf16") {
            return &micro::Avx512Bf16;
        }
        if has!("avx512f") {
            return &micro::Avx512;
        }
        if has!("avx2") && has!("fma") {
            return &micro::Avx2;
        }
    }
    let _ = precision;
    &micro::Portable
}

/// f32 numbers as the words of an f32 product.
pub fn bits(values: &[f32]) -> &[u32] {
    // SAFETY: same size and alignment, every bit pattern is a u32.
    unsafe { std::slice::from_raw_parts(values.as_ptr().cast(), values.len()) }
}
