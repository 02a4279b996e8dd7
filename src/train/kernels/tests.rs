//! Every implementation this processor runs against plain loops: products of all edge shapes, layouts, passes.

use super::*;
use crate::gguf::TensorType;

/// All implementations that can run here.
fn all() -> Vec<&'static dyn Kernels> {
    let mut all: Vec<&'static dyn Kernels> = vec![&micro::Portable];
    #[cfg(target_arch = "x86_64")]
    {
        if is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma") {
            all.push(&micro::Avx2);
        }
        if is_x86_feature_detected!("avx512f") {
            all.push(&micro::Avx512);
        }
        if is_x86_feature_detected!("avx512f") && is_x86_feature_detected!("avx512bf16") {
            all.push(&micro::Avx512Bf16);
        }
    }
    all
}

fn numbers(count: usize, seed: u32) -> Vec<f32> {
    let mut state = seed;
    let mut next = || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 8) as f32 / (1 << 23) as f32 - 1.0
    };
    (0..count).map(|_| next()).collect()
}

/// x[rows][steps] w[columns][steps]^T in f64.
fn plain(x: &[f32], w: &[f32], steps: usize) -> Vec<f64> {
    let dot = |x: &[f32], w: &[f32]| x.iter().zip(w).map(|(x, w)| f64::from(*x) * f64::from(*w)).sum();
    x.chunks_exact(steps).flat_map(|x| w.chunks_exact(steps).map(move |w| dot(x, w))).collect()
}

fn panels(per_word: usize, w: &[f32], steps: usize) -> Vec<u32> {
    let size = words(per_word, steps) * GROUP;
    let groups = w.chunks(GROUP * steps);
    groups
        .flat_map(|rows| {
            let mut panel = vec![0; size];
            panels_of_rows(per_word, rows, rows.len() / steps, steps, steps, &mut panel);
            panel
        })
        .collect()
}

#[test]
fn products_of_every_edge_are_those_of_plain_loops() {
    let rank = 3;
    for kernels in all() {
        let per_word = kernels.per_word();
        let bound = if per_word == 1 { 4e-6 } else { 8e-3 };
        for (rows, columns, steps) in
            [(1, 1, 1), (5, 16, 7), (6, 64, 32), (7, 17, 64), (13, 96, 33), (96, 130, 2500), (2, 65, 4096)]
        {
            let (x, w) = (numbers(rows * steps, 1), numbers(columns * steps, 2));
            let width = columns.next_multiple_of(16);
            let (h, m) = (numbers(rows * rank, 3), numbers(rank * width, 4));
            let kwords = words(per_word, steps);
            let mut packed = vec![0; rows * kwords];
            left(per_word, &x, steps, steps, &mut packed);
            let panels = panels(per_word, &w, steps);
            let product = Product {
                rows,
                columns,
                steps: kwords,
                left: Left { words: &packed, row: kwords, step: 1 },
                right: Right { words: &panels, step: GROUP, group: kwords * GROUP },
                low: Some(Low { rank, h: &h, m: &m, width }),
                add: true,
                stride: columns + 3,
            };
            let mut out = vec![0.5; rows * (columns + 3)];
            kernels.multiply(&product, &mut out);
            let expected = plain(&x, &w, steps);
            for row in 0..rows {
                for column in 0..columns {
                    let low: f64 = (0..rank)
                        .map(|j| f64::from(h[row * rank + j]) * f64::from(m[j * width + column]))
                        .sum();
                    let exact = expected[row * columns + column] + low + 0.5;
                    let off = (f64::from(out[row * (columns + 3) + column]) - exact).abs();
                    let scale = (steps as f64).sqrt();
                    assert!(off <= bound * scale, "{} {rows}x{columns}x{steps}: {off}", kernels.name());
                }
            }
            let between = (0..rows).flat_map(|row| &out[row * (columns + 3) + columns..][..3]);
            assert!(
                between.into_iter().all(|value| *value == 0.5),
                "{} wrote past its columns",
                kernels.name()
            );
        }
    }
}

#[test]
fn sums_down_the_rows_need_no_transposed_copy() {
    let (rows, columns, steps) = (21, 48, 10);
    for kernels in all() {
        let per_word = kernels.per_word();
        // left^T [steps][rows] and right [steps][columns], both summed down.
        let (x, w) = (numbers(steps * rows, 5), numbers(steps * columns, 6));
        let kwords = words(per_word, steps);
        let (mut left, mut right) = (vec![0; kwords * rows], vec![0; kwords * columns]);
        pairs(per_word, &x, (steps, rows, rows), &mut left, rows);
        pairs(per_word, &w, (steps, columns, columns), &mut right, columns);
        let product = Product {
            rows,
            columns,
            steps: kwords,
            left: Left { words: &left, row: 1, step: rows },
            right: Right { words: &right, step: columns, group: GROUP },
            low: None,
            add: false,
            stride: columns,
        };
        let mut out = vec![f32::NAN; rows * columns];
        kernels.multiply(&product, &mut out);
        let bound = if per_word == 1 { 1e-6 } else { 8e-3 } * (steps as f64).sqrt();
        for row in 0..rows {
            for column in 0..columns {
                let exact: f64 = (0..steps)
                    .map(|k| f64::from(x[k * rows + row]) * f64::from(w[k * columns + column]))
                    .sum();
                let off = (f64::from(out[row * columns + column]) - exact).abs();
                assert!(off <= bound, "{}: {off}", kernels.name());
            }
        }
    }
}

#[test]
fn stripes_of_columns_make_the_panels_of_the_transposed() {
    let (rows, width) = (16, 32);
    let w = numbers(rows * width, 7);
    let transposed: Vec<f32> =
        (0..width).flat_map(|c| (0..rows).map(move |r| (r, c))).map(|(r, c)| w[r * width + c]).collect();
    for per_word in [1, 2] {
        let expected = panels(per_word, &transposed, rows);
        let kwords = words(per_word, rows);
        let mut out = vec![0; width / GROUP * kwords * GROUP];
        for (group, panel) in out.chunks_exact_mut(kwords * GROUP).enumerate() {
            panels_of_columns(per_word, &w[group * GROUP..], (rows, width), panel);
        }
        assert_eq!(out, expected, "{per_word}");
    }
}

#[test]
fn the_exponential_is_that_of_the_library() {
    let mut values: Vec<f32> = (-9000..=8800).map(|i| i as f32 * 0.01).collect();
    let exact: Vec<f64> = values.iter().map(|x| f64::from(*x).exp()).collect();
    exp_in_place(&mut values, 1.0, 0.0);
    for (value, exact) in values.iter().zip(exact) {
        assert!((f64::from(*value) - exact).abs() <= 3e-7 * exact + 1e-37, "{value} {exact}");
    }
    let mut masked = [f32::NEG_INFINITY, 1.0, 1.0];
    let (largest, sum) = softmax_rows(&mut masked, 2.0);
    assert_eq!((masked, largest, sum), ([0.0, 1.0, 1.0], 2.0, 2.0));
}

#[test]
fn norm_and_gate_go_back_as_they_came() {
    let (x, w, dy) = (numbers(40, 8), numbers(40, 9), numbers(40, 10));
    let objective = |x: &[f32]| -> f64 {
        let mut y = vec![0.0; 40];
        norm(x, &w, 1e-5, &mut y);
        y.iter().zip(&dy).map(|(y, d)| f64::from(*y) * f64::from(*d)).sum()
    };
    let mut dx = vec![0.0; 40];
    norm_back(&x, &w, 1e-5, &dy, &mut dx);
    let (mut dg, mut du) = (x.clone(), w.clone());
    swiglu_back(&dy, &mut dg, &mut du);
    let gate = |g: f64| g / (1.0 + (-g).exp());
    for i in 0..40 {
        let (mut up, mut down) = (x.clone(), x.clone());
        (up[i], down[i]) = (x[i] + 1e-2, x[i] - 1e-2);
        let slope = (objective(&up) - objective(&down)) / (f64::from(up[i]) - f64::from(down[i]));
        assert!((slope - f64::from(dx[i])).abs() < 2e-3, "{i}: {slope} {}", dx[i]);
        let (g, u, d) = (f64::from(x[i]), f64::from(w[i]), f64::from(dy[i]));
        let slope = (gate(g + 1e-5) - gate(g - 1e-5)) / 2e-5 * u * d;
        assert!((slope - f64::from(dg[i])).abs() < 1e-5, "{i}: {slope} {}", dg[i]);
        assert!((gate(g) * d - f64::from(du[i])).abs() < 1e-6);
    }
}

#[test]
fn turning_back_undoes_a_turn() {
    for split in [false, true] {
        let table = Rope::new(9, 8, 100.0, 0.5, Some(&[1.0, 2.0, 3.0, 4.0]), split);
        let before = numbers(2 * 16, 12);
        let mut x = before.clone();
        rope(&table, &[3, 8], 8, &mut x);
        assert_ne!(x, before);
        rope_back(&table, &[3, 8], 8, &mut x);
        assert!(x.iter().zip(&before).all(|(a, b)| (a - b).abs() < 1e-6));
    }
}

#[test]
fn a_failed_task_fails_the_job_and_the_pool_lives() {
    let pool = Pool::new(3);
    let failed = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
        pool.run(8, |_, task| assert_ne!(task, 5, "meant to fail"));
    }));
    assert!(failed.is_err());
    let done = std::sync::atomic::AtomicUsize::new(0);
    pool.each(&mut [(); 3], (0..100).collect(), |(), index, item: usize| {
        assert_eq!(index, item);
        done.fetch_add(item, std::sync::atomic::Ordering::Relaxed);
    });
    assert_eq!(done.into_inner(), 4950);
}

#[test]
fn every_type_that_is_served_is_unpacked() {
    let mut seen = 0;
    for kind in (0..64).filter_map(TensorType::from_id).filter(|kind| kind.holds_weights()) {
        let unpack = unpack(kind).unwrap_or_else(|| panic!("{} cannot be unpacked", kind.name));
        let mut out = vec![f32::NAN; 2 * kind.block as usize];
        unpack.run(&vec![0; 2 * kind.bytes as usize], &mut out);
        assert!(out.iter().all(|value| value.is_finite()), "{}", kind.name);
        seen += 1;
    }
    assert!(seen > 20, "{seen}");
}

#[test]
fn what_was_packed_reads_back_as_its_words_hold_it() {
    // Odd widths: the last word of a row is half empty.
    for width in [1, 2, 7, 16] {
        let values: Vec<f32> = (0..3 * width).map(|i| (i as f32 - 5.0) * 0.37).collect();
        for (per_word, near) in [(1, 0.0), (2, 1.0 / 256.0)] {
            let mut packed = vec![0; 3 * words(per_word, width)];
            left(per_word, &values, width, width, &mut packed);
            let mut back = vec![0.0; values.len()];
            unleft(per_word, &packed, width, &mut back);
            assert!(values.iter().zip(&back).all(|(a, b)| (a - b).abs() <= near * a.abs()), "{back:?}");
            let mut again = packed.clone();
            left(per_word, &back, width, width, &mut again);
            assert_eq!(again, packed, "once rounded, rounded for good");
        }
    }
}
