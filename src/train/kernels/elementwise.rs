//! Elementwise passes and their derivatives: RMS norm, rotary positions, SwiGLU, softmax. Plain loops over
//! rows that compilers vectorise; sums run in 16 partial sums of fixed order.

/// e^x for x <= 88, about 1e-7 relative; 0 below -87. (Cody and Waite's split, a polynomial of degree 6.)
#[inline(always)]
fn exp(x: f32) -> f32 {
    // 1.5 * 2^23: adding it rounds to an integer, which then stands in the low bits.
    const SHIFT: f32 = 12_582_912.0;
    let kept = x > -87.0;
    let x = x.clamp(-87.0, 88.0);
    let shifted = x * std::f32::consts::LOG2_E + SHIFT;
    let whole = shifted - SHIFT;
    let rest = (x - whole * 0.693_359_4) + whole * 2.121_944_4e-4;
    let mut power = 1.388_888_9e-3;
    for factor in [8.333_334e-3, 4.166_666_8e-2, 1.666_666_7e-1, 0.5, 1.0, 1.0] {
        power = power * rest + factor;
    }
    let scale = f32::from_bits(shifted.to_bits().wrapping_add(127) << 23);
    if kept { power * scale } else { 0.0 }
}

/// Sum of `term` over two rows, in 16 partial sums.
#[inline(always)]
fn sum(a: &[f32], b: &[f32], term: impl Fn(f32, f32) -> f32) -> f32 {
    let mut parts = [0.0_f32; 16];
    let ((a16, a_rest), (b16, b_rest)) = (a.as_chunks::<16>(), b.as_chunks::<16>());
    for (a, b) in a16.iter().zip(b16) {
        for ((part, a), b) in parts.iter_mut().zip(a).zip(b) {
            *part += term(*a, *b);
        }
    }
    let rest: f32 = a_rest.iter().zip(b_rest).map(|(a, b)| term(*a, *b)).sum();
    parts.iter().sum::<f32>() + rest
}

/// Row by row x * w / rms(x), rms(x) = sqrt(mean x^2 + eps). `out` and `x` are rows of w's length.
pub fn norm(x: &[f32], w: &[f32], eps: f32, out: &mut [f32]) {
    for (x, out) in x.chunks_exact(w.len()).zip(out.chunks_exact_mut(w.len())) {
        let inverse = inverse_rms(x, eps);
        out.iter_mut().zip(x).zip(w).for_each(|((out, x), w)| *out = x * inverse * w);
    }
}

fn inverse_rms(x: &[f32], eps: f32) -> f32 {
    1.0 / (sum(x, x, |a, b| a * b) / x.len() as f32 + eps).sqrt()
}

/// The norm's backward: adds to `dx` what `dy` says. dx += inv (dy w - x inv^2 mean(dy w x)).
pub fn norm_back(x: &[f32], w: &[f32], eps: f32, dy: &[f32], dx: &mut [f32]) {
    let n = w.len();
    for ((x, dy), dx) in x.chunks_exact(n).zip(dy.chunks_exact(n)).zip(dx.chunks_exact_mut(n)) {
        let inverse = inverse_rms(x, eps);
        let mut parts = [0.0_f32; 16];
        for (index, ((x, dy), w)) in x.iter().zip(dy).zip(w).enumerate() {
            parts[index % 16] += dy * w * x;
        }
        let along = parts.iter().sum::<f32>() / n as f32 * inverse * inverse;
        for (((dx, x), dy), w) in dx.iter_mut().zip(x).zip(dy).zip(w) {
            *dx += inverse * (dy * w - x * along);
        }
    }
}

/// Rotary positions: cosines and sines per position, and which dimensions are turned together.
pub struct Rope {
    /// [position][rotated / 2], cosine then sine.
    table: Vec<(f32, f32)>,
    half: usize,
    /// Dimensions i and i + half (NEOX), else 2i and 2i + 1 (NORM).
    split: bool,
}

impl Rope {
    /// `factors` divide the frequencies (Llama 3's rope_freqs); `scale` multiplies positions (1 / factor).
    pub fn new(
        positions: usize,
        rotated: usize,
        base: f32,
        scale: f32,
        factors: Option<&[f32]>,
        split: bool,
    ) -> Rope {
        let half = rotated / 2;
        let mut table = Vec::with_capacity(positions * half);
        for position in 0..positions {
            for i in 0..half {
                let power = f64::from(base).powf(-2.0 * i as f64 / rotated as f64);
                let factor = factors.map_or(1.0, |factors| f64::from(factors[i]));
                let angle = position as f64 * f64::from(scale) * power / factor;
                table.push((angle.cos() as f32, angle.sin() as f32));
            }
        }
        Rope { table, half, split }
    }

    fn turn(&self, position: usize, head: &mut [f32], back: bool) {
        let table = &self.table[position * self.half..(position + 1) * self.half];
        let sign = if back { -1.0 } else { 1.0 };
        if self.split {
            let (low, high) = head[..2 * self.half].split_at_mut(self.half);
            for ((a, b), (cos, sin)) in low.iter_mut().zip(high).zip(table) {
                let (x, y, sin) = (*a, *b, sin * sign);
                (*a, *b) = (x * cos - y * sin, x * sin + y * cos);
            }
        } else {
            for (two, (cos, sin)) in head.as_chunks_mut::<2>().0.iter_mut().zip(table) {
                let ([x, y], sin) = (*two, sin * sign);
                *two = [x * cos - y * sin, x * sin + y * cos];
            }
        }
    }
}

/// Turn every head of every row; `x` is [positions][heads][head].
pub fn rope(rope: &Rope, positions: &[i32], head: usize, x: &mut [f32]) {
    turn_all(rope, positions, head, x, false);
}

/// The backward of [`rope`], which is the turn back.
pub fn rope_back(rope: &Rope, positions: &[i32], head: usize, dx: &mut [f32]) {
    turn_all(rope, positions, head, dx, true);
}

fn turn_all(rope: &Rope, positions: &[i32], head: usize, x: &mut [f32], back: bool) {
    if positions.is_empty() {
        return;
    }
    let width = x.len() / positions.len();
    for (row, position) in x.chunks_exact_mut(width).zip(positions) {
        row.chunks_exact_mut(head).for_each(|x| rope.turn(*position as usize, x, back));
    }
}

/// a = silu(g) u.
pub fn swiglu(g: &[f32], u: &[f32], a: &mut [f32]) {
    for ((a, g), u) in a.iter_mut().zip(g).zip(u) {
        *a = g / (1.0 + exp(-g)) * u;
    }
}

/// From da: g becomes dg, u becomes du.
pub fn swiglu_back(da: &[f32], g: &mut [f32], u: &mut [f32]) {
    for ((da, g), u) in da.iter().zip(g).zip(u) {
        let gate = 1.0 / (1.0 + exp(-*g));
        let silu = *g * gate;
        let slope = gate + silu * (1.0 - gate);
        (*g, *u) = (da * *u * slope, da * silu);
    }
}

/// e^(x * scale - shift), in place.
pub fn exp_in_place(x: &mut [f32], scale: f32, shift: f32) {
    x.iter_mut().for_each(|x| *x = exp(*x * scale - shift));
}

/// Turn a row of scores into e^(x * scale - largest) and answer (largest of x * scale, sum).
pub fn softmax_rows(x: &mut [f32], scale: f32) -> (f32, f32) {
    let mut parts = [f32::NEG_INFINITY; 16];
    let (whole, rest) = x.as_chunks::<16>();
    for x in whole {
        for (part, x) in parts.iter_mut().zip(x) {
            *part = if *x > *part { *x } else { *part };
        }
    }
    let largest = parts.iter().chain(rest).fold(f32::NEG_INFINITY, |m, x| m.max(*x)) * scale;
    exp_in_place(x, scale, largest);
    (largest, sum(x, x, |a, _| a))
}
