//! Game of 24 by exact arithmetic: each number once, the value exactly 24, in whatever signs were used.

use crate::tasks::check::{expressions, makes_24};

/// The last expression of the text that uses exactly these numbers equals 24. A text that tries many
/// expressions is judged by the last of them, not by the luckiest.
pub fn solves(text: &str, numbers: &[i64]) -> bool {
    let plain = plain(text);
    let mut wanted = numbers.to_vec();
    wanted.sort_unstable();
    let uses = |expression: &&str| {
        let mut used: Vec<i64> = expression
            .split(|c: char| !c.is_ascii_digit())
            .filter(|digits| !digits.is_empty())
            .map(|digits| digits.parse().unwrap_or(-1))
            .collect();
        used.sort_unstable();
        used == wanted
    };
    expressions(&plain).filter(uses).last().is_some_and(|expression| makes_24(expression, numbers))
}

/// LaTeX and typographic signs as + - * / ( ).
fn plain(text: &str) -> String {
    let mut text = text.to_string();
    for (sign, plain) in [
        ("\\times", "*"),
        ("\\cdot", "*"),
        ("\\div", "/"),
        ("\\left", ""),
        ("\\right", ""),
        ("\\boxed", ""),
        ("\\(", " "),
        ("\\)", " "),
        ("{", "("),
        ("}", ")"),
        ("[", "("),
        ("]", ")"),
        ("⋅", "*"),
        ("∗", "*"),
        ("•", "*"),
        ("✕", "*"),
        ("–", "-"),
        ("∕", "/"),
        ("⁄", "/"),
        ("（", "("),
        ("）", ")"),
        ("**", " "),
        ("`", " "),
    ] {
        text = text.replace(sign, plain);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arithmetic_decides() {
        for (numbers, text, expected) in [
            (&[2, 3, 5, 12], "12/(3-5/2)", true),
            (&[2, 3, 5, 12], "12 / (3 - 5 / 2) = 24", true),
            (&[2, 3, 5, 12], "24 = 12/(3-5/2)", true),
            (&[2, 3, 5, 12], "12 ÷ (3 − 5 ÷ 2)", true),
            (&[2, 3, 5, 12], "12 ÷ (3 – 5 ∕ 2)", true),
            (&[2, 3, 5, 12], "The answer is 12/(3-5/2).", true),
            (&[2, 3, 5, 12], "\\boxed{12 \\div (3 - 5 \\div 2)}", true),
            (&[2, 3, 5, 12], "\\(12 / (3 - 5/2)\\)", true),
            (&[2, 3, 5, 12], "12/[3-5/2]", true),
            (&[2, 3, 5, 12], "`12/(3-5/2)`", true),
            (&[2, 3, 5, 12], "**12/(3-5/2)**", true),
            (&[2, 3, 5, 12], "12/(3-5/2) = 25", true),
            (&[2, 3, 5, 12], "12*(5-3)", false),
            (&[2, 3, 5, 12], "12*2*(5-3)/2", false),
            (&[2, 3, 5, 12], "2+3+5+12", false),
            (&[2, 3, 5, 12], "12/(3-3)+5*2", false),
            (&[2, 3, 5, 12], "12*2", false),
            (&[2, 3, 5, 12], "24", false),
            (&[2, 3, 5, 12], "", false),
            (&[2, 3, 5, 12], "cannot be done", false),
            (&[1, 2, 3, 4], "(1+2+3)x4", true),
            (&[1, 2, 3, 4], "(1+2+3)X4", true),
            (&[1, 2, 3, 4], "(1+2+3)×4", true),
            (&[1, 2, 3, 4], "(1+2+3)⋅4", true),
            (&[1, 2, 3, 4], "(1+2+3)∗4", true),
            (&[1, 2, 3, 4], "1×2×3×4", true),
            (&[1, 2, 3, 4], "1 * 2 * 3 * 4", true),
            (&[1, 2, 3, 4], "1*2*3*4 = 24\n1+2+3+4 = 10", false),
            (&[1, 2, 3, 4], "1+2+3+4 = 10\n1*2*3*4 = 24", true),
            (&[1, 2, 3, 4], "12*(3-1)", false),
            (&[1, 2, 3, 4], "1 2*(4-3)", false),
            (&[1, 2, 3, 4], "(1+2+3)4", false),
            (&[1, 2, 3, 4], "4*3*2", false),
            (&[1, 2, 3, 4], "4*3*2*1*1", false),
            (&[1, 2, 3, 4], "4!*1*(3-2)", false),
            (&[1, 2, 3, 4], "4^2+3*2+1", false),
            (&[3, 3, 8, 8], "8/(3-8/3)", true),
            (&[3, 3, 8, 8], "8÷(3−8÷3)", true),
            (&[3, 3, 8, 8], "8/(3-2.6667)", false),
            (&[1, 1, 1, 8], "(1+1+1)*8", true),
            (&[1, 1, 1, 8], "(1 + 1 + 1) × 8 = 24", true),
            (&[1, 1, 1, 8], "(1+1+1)*8*1", false),
            (&[1, 5, 5, 5], "5*(5-1/5)", true),
            (&[1, 5, 5, 5], "5*(5-0.2)", false),
            (&[1, 1, 11, 13], "(1*1)*(11+13)", true),
            (&[1, 1, 11, 13], "11+13+1-1", true),
            (&[1, 1, 11, 13], "((11+13)", false),
            (&[1, 2, 4, 5], "1.2*5*4", false),
            (&[1, 2, 4, 5], "12*(5-4)*2", false),
            (&[0, 2, 2, 6], "2*2*6e0", false),
            (&[1, 2, 3, 4], "1*2*3*4*1", false),
        ] {
            assert_eq!(solves(text, numbers), expected, "{text:?} of {numbers:?}");
        }
        assert!(!solves(&"(".repeat(100_000), &[1, 2, 3, 4]));
    }
}
