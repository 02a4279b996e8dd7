//! Scorers for benchmark answers, without a language model: each says right or wrong by a stated rule.
//!
//! The checkers of this program's own questions are in `check`; which file uses which scorer is `loaders`'.

pub mod choice;
pub mod gaia;
pub mod game24;
pub mod names;
pub mod number;

/// What a text gives as its answer, where it says so: the content of its last `\boxed{}`, else what follows
/// the last "answer is", "answer:" or the like on that line; otherwise the whole text.
pub fn final_answer(text: &str) -> &str {
    if let Some(boxed) = last_boxed(text) {
        return boxed.trim();
    }
    let lower = text.to_ascii_lowercase();
    let marked = ["answer is", "answer:", "answer would be", "answer =", "answer**:"]
        .iter()
        .filter_map(|marker| lower.rfind(marker).map(|at| at + marker.len()))
        .max();
    match marked {
        None => text.trim(),
        Some(at) => {
            let rest = text[at..].trim_start_matches([':', '*', '=', ' ', '\n', '\t']);
            rest.lines().next().unwrap_or_default().trim_matches(['*', '"', '`', ' '])
        }
    }
}

fn last_boxed(text: &str) -> Option<&str> {
    let start = text.rfind("\\boxed{")? + "\\boxed{".len();
    let mut depth = 1_usize;
    for (at, c) in text[start..].char_indices() {
        match c {
            '{' => depth += 1,
            '}' => depth -= 1,
            _ => {}
        }
        if depth == 0 {
            return Some(&text[start..start + at]);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::final_answer;

    #[test]
    fn the_last_stated_answer_counts() {
        for (text, expected) in [
            ("Paris", "Paris"),
            ("  Paris \n", "Paris"),
            ("The answer is Paris.", "Paris."),
            ("Answer: Paris", "Paris"),
            ("**Answer**: Paris", "Paris"),
            ("Final answer:\nParis\nBecause of the tower.", "Paris"),
            ("The answer is not clear yet. The answer is: Rome", "Rome"),
            ("so \\boxed{12} and then \\boxed{\\frac{3}{4}}.", "\\frac{3}{4}"),
            ("\\boxed{never closed", "\\boxed{never closed"),
            ("", ""),
        ] {
            assert_eq!(final_answer(text), expected, "{text:?}");
        }
    }
}
