//! Small sums of every list: a position moved within bounds, a window that follows it.

/// A position in a list of `count` moved by `step`, held within it.
pub fn moved(at: usize, step: isize, count: usize) -> usize {
    at.saturating_add_signed(step).min(count.saturating_sub(1))
}

/// The first row to show so that row `here` of a list stands within `height` rows, moved as little as can be.
pub fn scrolled(first: usize, here: usize, height: usize) -> usize {
    if here < first { here } else { first.max((here + 1).saturating_sub(height.max(1))) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_scroll_as_little_as_they_must() {
        assert_eq!((scrolled(0, 4, 5), scrolled(0, 5, 5), scrolled(7, 3, 5)), (0, 1, 3));
        assert_eq!((moved(0, -1, 3), moved(2, 1, 3), moved(0, 5, 0)), (0, 2, 0));
    }
}
