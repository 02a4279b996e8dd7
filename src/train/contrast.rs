//! How likely a group teaches at all: chances of contrast before anything is paid for, and how much to draw.

use crate::tasks::stats::{contrast_chance, wilson};

/// The group sizes whose chances are shown before anything is paid for.
pub const SIZES: [usize; 4] = [2, 4, 8, 16];

/// Per size (G, chance, low, high) for `right` of `n` earlier rollouts, over the 95 % interval of their share.
pub fn contrast_table(right: usize, n: usize) -> [(usize, f64, f64, f64); 4] {
    let (low, high) = wilson(right, n);
    // Without any figure every share is as likely as any other.
    let p = if n == 0 { 0.5 } else { right as f64 / n as f64 };
    SIZES.map(|size| {
        let ends = [contrast_chance(low, size), contrast_chance(high, size)];
        // Highest at one half, so that is the upper end where the interval holds it.
        let top = if low <= 0.5 && 0.5 <= high { contrast_chance(0.5, size) } else { ends[0].max(ends[1]) };
        (size, contrast_chance(p, size), ends[0].min(ends[1]), top)
    })
}

/// How many to draw next when there is no contrast yet: 4, then 4 more, then 8; then a typed answer pays more.
pub fn next_draw(drawn: usize) -> Option<usize> {
    match drawn {
        0..4 => Some(4 - drawn),
        4..8 => Some(8 - drawn),
        8..16 => Some(16 - drawn),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn chances_of_contrast_are_the_published_ones() {
        for (size, percent) in [(2, 30.0), (4, 55.0), (8, 80.0), (16, 96.0)] {
            let chance = 100.0 * contrast_chance(0.18, size);
            assert!((chance - percent).abs() < 0.6, "G {size}: {chance}");
        }
        assert_eq!(contrast_chance(0.5, 1), 0.0);
        assert_eq!((contrast_chance(0.0, 8), contrast_chance(1.0, 8)), (0.0, 0.0));
        for (_, chance, low, high) in contrast_table(18, 100) {
            assert!(low <= chance && chance <= high);
        }
        let unknown = contrast_table(0, 0);
        assert_eq!((unknown[2].2, unknown[2].3), (0.0, contrast_chance(0.5, 8)));
        assert_eq!([0, 4, 8, 16].map(next_draw), [Some(4), Some(4), Some(8), None]);
    }
}
