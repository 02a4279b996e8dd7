//! Fuzzy matching of a few typed letters against names: a subsequence, scored by how it falls.
//!
//! Made for lists of at most some thousands (commands, files, themes, earlier queries); nothing is indexed.

/// How well `pattern` fits `text`, higher is better; None when its letters do not all occur in order.
/// Case does not matter. An empty pattern fits everything equally.
pub fn score(pattern: &str, text: &str) -> Option<i64> {
    let text: Vec<char> = text.chars().flat_map(char::to_lowercase).collect();
    let pattern: Vec<char> =
        pattern.chars().filter(|c| !c.is_whitespace()).flat_map(char::to_lowercase).collect();
    // The best of all places the first letter could fall on; later letters fall on the next one.
    let first = pattern.first().copied();
    let Some(first) = first else { return Some(0) };
    let starts = text.iter().enumerate().filter(|(_, c)| **c == first).map(|(at, _)| at);
    starts.filter_map(|start| from(&pattern, &text, start)).max()
}

fn from(pattern: &[char], text: &[char], start: usize) -> Option<i64> {
    let mut score = -i64::try_from(start.min(5)).unwrap_or(0);
    let mut next = start;
    for (n, letter) in pattern.iter().enumerate() {
        let at = next + text.get(next..)?.iter().position(|c| c == letter)?;
        let begins = at == 0 || !text[at - 1].is_alphanumeric();
        score += if n > 0 && at == next { 8 } else { 0 };
        score += if begins { 6 } else { 0 };
        score -= i64::try_from((at - next).min(10)).unwrap_or(0);
        next = at + 1;
    }
    // Of two texts that fit alike the shorter is meant.
    Some(score * 256 - i64::try_from(text.len().min(255)).unwrap_or(0))
}

/// Positions of the items that fit, best first; equals keep their order.
pub fn filter<T>(pattern: &str, items: &[T], text: impl Fn(&T) -> &str) -> Vec<usize> {
    let mut found: Vec<(i64, usize)> = items
        .iter()
        .enumerate()
        .filter_map(|(at, item)| score(pattern, text(item)).map(|score| (score, at)))
        .collect();
    if !pattern.trim().is_empty() {
        found.sort_by_key(|(score, at)| (-score, *at));
    }
    found.into_iter().map(|(_, at)| at).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(pattern: &str, items: &[&str], expected: &[&str]) {
        let found: Vec<&str> = filter(pattern, items, |item| item).into_iter().map(|at| items[at]).collect();
        assert_eq!(found, expected);
    }

    #[test]
    fn letters_in_order_and_the_best_first() {
        check("", &["b", "a"], &["b", "a"]);
        check("pb", &["public", "plan-bad", "bad"], &["plan-bad", "public"]);
        check("mod", &["method", "models", "model"], &["model", "models", "method"]);
        check("xyz", &["abc"], &[]);
        check("Rio", &["a river in Rio", "prior"], &["a river in Rio", "prior"]);
    }
}
