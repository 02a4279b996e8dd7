//! The innermost loops: a tile of up to 6 rows and 64 columns stays in registers while words are summed.
//!
//! Blocking (why): a panel of 64 columns and `STEP_BLOCK` words stays in the second-level cache while all
//! rows pass by. The order of sums depends on shapes only, never on threads.

use super::{Kernels, Product};

/// Words summed before the tile goes back to memory.
const STEP_BLOCK: usize = 1024;
/// Rows and 16-column groups of a full tile.
const ROWS: usize = 6;
const GROUPS: usize = 4;

/// A tile, resolved to pointers.
struct Tile {
    steps: usize,
    left: *const u32,
    left_row: usize,
    left_step: usize,
    right: *const u32,
    right_step: usize,
    right_group: usize,
    rank: usize,
    h: *const f32,
    m: *const f32,
    m_row: usize,
    out: *mut f32,
    stride: usize,
    /// Columns of the last group, 1 to 16.
    last: usize,
    add: bool,
}

/// Computes a tile of R rows and G groups.
trait Micro {
    const ROWS: usize = ROWS;
    const GROUPS: usize = GROUPS;
    /// # Safety
    /// Every address the tile names is in bounds and the processor has the features.
    unsafe fn tile<const R: usize, const G: usize>(tile: &Tile);
}

fn check(product: &Product, out: &[f32]) {
    let p = product;
    assert!(p.rows > 0 && p.columns > 0 && (p.rows - 1) * p.stride + p.columns <= out.len(), "out");
    let groups = p.columns.div_ceil(16);
    if p.steps > 0 {
        assert!((p.rows - 1) * p.left.row + (p.steps - 1) * p.left.step < p.left.words.len(), "left");
        let end = (p.steps - 1) * p.right.step + (groups - 1) * p.right.group + 16;
        assert!(end <= p.right.words.len(), "right: {end} of {}", p.right.words.len());
    }
    if let Some(low) = &p.low
        && low.rank > 0
    {
        assert!(p.rows * low.rank <= low.h.len(), "low h");
        assert!((low.rank - 1) * low.width + groups * 16 <= low.m.len(), "low m");
    }
}

fn multiply<M: Micro>(product: &Product, out: &mut [f32]) {
    if product.rows == 0 || product.columns == 0 {
        return;
    }
    check(product, out);
    let p = product;
    let mut step = 0;
    loop {
        let steps = (p.steps - step).min(STEP_BLOCK);
        let first = step == 0;
        let mut column = 0;
        while column < p.columns {
            let columns = (p.columns - column).min(M::GROUPS * 16);
            let groups = columns.div_ceil(16);
            let mut row = 0;
            while row < p.rows {
                let rows = (p.rows - row).min(M::ROWS);
                let low = p.low.filter(|_| first);
                // SAFETY: `check` bounds the far corner of every operand, and all offsets are below it.
                unsafe {
                    let tile = Tile {
                        steps,
                        left: p.left.words.as_ptr().wrapping_add(row * p.left.row + step * p.left.step),
                        left_row: p.left.row,
                        left_step: p.left.step,
                        right: p
                            .right
                            .words
                            .as_ptr()
                            .wrapping_add(step * p.right.step + column / 16 * p.right.group),
                        right_step: p.right.step,
                        right_group: p.right.group,
                        rank: low.map_or(0, |low| low.rank),
                        h: low.map_or(std::ptr::null(), |low| low.h.as_ptr().wrapping_add(row * low.rank)),
                        m: low.map_or(std::ptr::null(), |low| low.m.as_ptr().wrapping_add(column)),
                        m_row: low.map_or(0, |low| low.width),
                        out: out.as_mut_ptr().wrapping_add(row * p.stride + column),
                        stride: p.stride,
                        last: columns - (groups - 1) * 16,
                        add: p.add || !first,
                    };
                    dispatch::<M>(rows, groups, &tile);
                }
                row += rows;
            }
            column += columns;
        }
        step += steps;
        if step >= p.steps {
            break;
        }
    }
}

/// # Safety
/// As [`Micro::tile`].
unsafe fn dispatch<M: Micro>(rows: usize, groups: usize, tile: &Tile) {
    macro_rules! by_groups {
        ($rows:literal) => {
            match groups {
                1 => M::tile::<$rows, 1>(tile),
                2 => M::tile::<$rows, 2>(tile),
                3 => M::tile::<$rows, 3>(tile),
                _ => M::tile::<$rows, 4>(tile),
            }
        };
    }
    // SAFETY: the caller's promise.
    unsafe {
        match rows {
            1 => by_groups!(1),
            2 => by_groups!(2),
            3 => by_groups!(3),
            4 => by_groups!(4),
            5 => by_groups!(5),
            _ => by_groups!(6),
        }
    }
}

/// Plain Rust, any processor.
pub struct Portable;

impl Micro for Portable {
    const ROWS: usize = 4;
    const GROUPS: usize = 1;

    unsafe fn tile<const R: usize, const G: usize>(t: &Tile) {
        // SAFETY: the caller's promise; columns past `last` of the last group are read, never written.
        unsafe {
            let mut sums = [[[0.0_f32; 16]; G]; R];
            for step in 0..t.steps {
                for group in 0..G {
                    let right = t.right.add(step * t.right_step + group * t.right_group).cast::<[f32; 16]>();
                    let right = right.read_unaligned();
                    for (row, sums) in sums.iter_mut().enumerate() {
                        let x = f32::from_bits(*t.left.add(row * t.left_row + step * t.left_step));
                        sums[group].iter_mut().zip(&right).for_each(|(sum, w)| *sum += x * w);
                    }
                }
            }
            for step in 0..t.rank {
                for group in 0..G {
                    let m = t.m.add(step * t.m_row + group * 16).cast::<[f32; 16]>().read_unaligned();
                    for (row, sums) in sums.iter_mut().enumerate() {
                        let x = *t.h.add(row * t.rank + step);
                        sums[group].iter_mut().zip(&m).for_each(|(sum, w)| *sum += x * w);
                    }
                }
            }
            for (row, sums) in sums.iter().enumerate() {
                for (group, sums) in sums.iter().enumerate() {
                    let columns = if group + 1 == G { t.last } else { 16 };
                    let out = t.out.add(row * t.stride + group * 16);
                    for (column, sum) in sums.iter().enumerate().take(columns) {
                        *out.add(column) = if t.add { *out.add(column) + sum } else { *sum };
                    }
                }
            }
        }
    }
}

macro_rules! kernels {
    ($type:ty, $name:literal, $per_word:literal) => {
        impl Kernels for $type {
            fn name(&self) -> &'static str {
                $name
            }

            fn per_word(&self) -> usize {
                $per_word
            }

            fn multiply(&self, product: &Product, out: &mut [f32]) {
                multiply::<$type>(product, out);
            }
        }
    };
}

kernels!(Portable, "portable f32", 1);

#[cfg(target_arch = "x86_64")]
pub use x86::{Avx2, Avx512, Avx512Bf16};

#[cfg(target_arch = "x86_64")]
mod x86 {
    use std::arch::x86_64::*;

    use super::{Kernels, Micro, Product, Tile, multiply};

    /// f32 products with AVX-512.
    pub struct Avx512;
    /// bf16 products with AVX-512 BF16.
    pub struct Avx512Bf16;
    /// f32 products with AVX2 and FMA.
    pub struct Avx2;

    kernels!(Avx512, "AVX-512 f32", 1);
    kernels!(Avx512Bf16, "AVX-512 bf16", 2);
    kernels!(Avx2, "AVX2 f32", 1);

    /// Adds the low-rank product and writes the tile. A macro, not a function: a call would keep the sums in
    /// memory while they are formed, at half the speed.
    macro_rules! finish {
        ($t:ident, $sums:ident, $groups:ident) => {
            for step in 0..$t.rank {
                let m: [__m512; $groups] =
                    std::array::from_fn(|g| _mm512_loadu_ps($t.m.add(step * $t.m_row + g * 16)));
                for (row, sums) in $sums.iter_mut().enumerate() {
                    let x = _mm512_set1_ps(*$t.h.add(row * $t.rank + step));
                    for g in 0..$groups {
                        sums[g] = _mm512_fmadd_ps(x, m[g], sums[g]);
                    }
                }
            }
            let last = if $t.last == 16 { 0xffff } else { (1_u16 << $t.last) - 1 };
            for (row, sums) in $sums.iter().enumerate() {
                for (g, sum) in sums.iter().enumerate() {
                    let mask = if g + 1 == $groups { last } else { 0xffff };
                    let out = $t.out.add(row * $t.stride + g * 16);
                    let before = if $t.add { _mm512_maskz_loadu_ps(mask, out) } else { _mm512_setzero_ps() };
                    _mm512_mask_storeu_ps(out, mask, _mm512_add_ps(before, *sum));
                }
            }
        };
    }

    /// # Safety
    /// As [`Micro::tile`].
    #[target_feature(enable = "avx512f")]
    unsafe fn wide<const R: usize, const G: usize>(t: &Tile) {
        // SAFETY: the caller's promise.
        unsafe {
            let mut sums = [[_mm512_setzero_ps(); G]; R];
            let (mut left, mut right) = (t.left.cast::<f32>(), t.right.cast::<f32>());
            for _ in 0..t.steps {
                let w: [__m512; G] =
                    std::array::from_fn(|g| _mm512_loadu_ps(right.wrapping_add(g * t.right_group)));
                for (row, sums) in sums.iter_mut().enumerate() {
                    let x = _mm512_set1_ps(*left.wrapping_add(row * t.left_row));
                    for g in 0..G {
                        sums[g] = _mm512_fmadd_ps(x, w[g], sums[g]);
                    }
                }
                left = left.wrapping_add(t.left_step);
                right = right.wrapping_add(t.right_step);
            }
            finish!(t, sums, G);
        }
    }

    /// # Safety
    /// As [`Micro::tile`].
    #[target_feature(enable = "avx512f,avx512bf16")]
    unsafe fn paired<const R: usize, const G: usize>(t: &Tile) {
        // SAFETY: the caller's promise; words are pairs of bf16, any bits of which are numbers.
        unsafe {
            let mut sums = [[_mm512_setzero_ps(); G]; R];
            let (mut left, mut right) = (t.left.cast::<i32>(), t.right.cast::<i32>());
            for _ in 0..t.steps {
                let w: [__m512i; G] =
                    std::array::from_fn(|g| _mm512_loadu_epi32(right.wrapping_add(g * t.right_group)));
                for (row, sums) in sums.iter_mut().enumerate() {
                    let x = _mm512_set1_epi32(*left.wrapping_add(row * t.left_row));
                    let x = std::mem::transmute::<__m512i, __m512bh>(x);
                    for g in 0..G {
                        let w = std::mem::transmute::<__m512i, __m512bh>(w[g]);
                        sums[g] = _mm512_dpbf16_ps(sums[g], x, w);
                    }
                }
                left = left.wrapping_add(t.left_step);
                right = right.wrapping_add(t.right_step);
            }
            finish!(t, sums, G);
        }
    }

    /// # Safety
    /// As [`Micro::tile`].
    #[target_feature(enable = "avx2,fma")]
    unsafe fn narrow<const R: usize>(t: &Tile) {
        // SAFETY: the caller's promise; the last columns go through a buffer.
        unsafe {
            let mut sums = [[_mm256_setzero_ps(); 2]; R];
            let (mut left, mut right) = (t.left.cast::<f32>(), t.right.cast::<f32>());
            for _ in 0..t.steps {
                let w = [_mm256_loadu_ps(right), _mm256_loadu_ps(right.add(8))];
                for (row, sums) in sums.iter_mut().enumerate() {
                    let x = _mm256_set1_ps(*left.wrapping_add(row * t.left_row));
                    sums[0] = _mm256_fmadd_ps(x, w[0], sums[0]);
                    sums[1] = _mm256_fmadd_ps(x, w[1], sums[1]);
                }
                left = left.wrapping_add(t.left_step);
                right = right.wrapping_add(t.right_step);
            }
            for step in 0..t.rank {
                let m = t.m.add(step * t.m_row);
                let m = [_mm256_loadu_ps(m), _mm256_loadu_ps(m.add(8))];
                for (row, sums) in sums.iter_mut().enumerate() {
                    let x = _mm256_set1_ps(*t.h.add(row * t.rank + step));
                    sums[0] = _mm256_fmadd_ps(x, m[0], sums[0]);
                    sums[1] = _mm256_fmadd_ps(x, m[1], sums[1]);
                }
            }
            for (row, sums) in sums.iter().enumerate() {
                let mut values = [0.0_f32; 16];
                _mm256_storeu_ps(values.as_mut_ptr(), sums[0]);
                _mm256_storeu_ps(values.as_mut_ptr().add(8), sums[1]);
                let out = t.out.add(row * t.stride);
                for (column, value) in values.iter().enumerate().take(t.last) {
                    *out.add(column) = if t.add { *out.add(column) + value } else { *value };
                }
            }
        }
    }

    impl Micro for Avx512 {
        unsafe fn tile<const R: usize, const G: usize>(t: &Tile) {
            // SAFETY: the caller's promise.
            unsafe { wide::<R, G>(t) }
        }
    }

    impl Micro for Avx512Bf16 {
        unsafe fn tile<const R: usize, const G: usize>(t: &Tile) {
            // SAFETY: the caller's promise.
            unsafe { paired::<R, G>(t) }
        }
    }

    impl Micro for Avx2 {
        const GROUPS: usize = 1;

        unsafe fn tile<const R: usize, const G: usize>(t: &Tile) {
            // SAFETY: the caller's promise; this implementation is only ever given one group.
            unsafe { narrow::<R>(t) }
        }
    }
}
