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
    use crate::tasks::question::Key;

    #[test]
    fn no_script_and_no_sign_ends_a_scorer() {
        let pieces = [
            "Łódź",
            "25",
            "π",
            "√",
            "½",
            "٣",
            "二十五",
            "\u{301}",
            "🦀",
            "İ",
            "\0",
            "\\frac",
            "{",
            "}",
            "(B)",
            "Ａ",
            "e",
            "-",
            "−",
            ".",
            ",",
            "\u{202f}",
            "answer is",
            "\\boxed{",
            "1/0",
            "9e99",
            "^",
            " ",
            "\n",
            "'",
        ];
        let options = ["A. Łódź", "B. π", "Ç) x", "🦀"].map(String::from).to_vec();
        let keys = [
            Key::Names { accepted: vec!["Łódź".into(), "π".into()] },
            Key::Number { value: "25".into() },
            Key::Number { value: "Łódź".into() },
            Key::Game24 { numbers: vec![1, 2, 3, 4] },
            Key::Choice { letter: 'A', options },
            Key::Gaia { reference: "Łódź, 25".into() },
        ];
        let mut texts = Vec::new();
        for one in pieces {
            for two in pieces {
                texts.extend(pieces.map(|three| format!("{one}{two}{three}")));
            }
        }
        for key in &keys {
            for text in &texts {
                // That it comes back is what is asked; F1 and support read the same text.
                let (right, f1) = (key.right(text), key.f1(text));
                assert!(f1.is_none_or(|f1| (0.0..=1.0).contains(&f1)), "{text:?}: {f1:?}");
                let nothing = text.chars().all(|c| c.is_whitespace() || c == '\0');
                assert!(!(nothing && right), "{text:?} answers {key:?}");
                let _ = key.supported_by(text);
                crate::tasks::scorers::number::is_number(text);
            }
        }
    }

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
