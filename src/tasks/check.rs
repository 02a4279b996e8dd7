//! Does a text give the answer? Exact where it can be: rationals for expressions, stated tolerance for numbers.

use crate::tasks::Answer;

/// Longest answer (in words) in which a name may stand; longer texts could name anything.
const SHORT_WORDS: usize = 24;

/// True when `text` gives `answer`.
pub fn check(answer: &Answer, text: &str) -> bool {
    match answer {
        Answer::Number { value, tolerance } => {
            !declines(text) && last_number(text).is_some_and(|n| (n - value).abs() <= *tolerance)
        }
        Answer::Text { accepted } => !declines(text) && accepted.iter().any(|name| names(text, name)),
        Answer::Game24 { numbers } => expressions(text).any(|expression| makes_24(expression, numbers)),
        Answer::CannotAnswer => declines(text),
    }
}

/// The text says that it has no answer.
pub fn declines(text: &str) -> bool {
    let text = normalise(text);
    ["cannot answer", "can not answer", "can t answer", "unable to answer"].iter().any(|p| text.contains(p))
}

/// Lower case, letters and digits only, single spaces, no articles.
pub fn normalise(text: &str) -> String {
    let plain: String = text.chars().map(|c| if c.is_alphanumeric() { c } else { ' ' }).collect();
    let words = plain.to_lowercase();
    words.split_whitespace().filter(|w| !matches!(*w, "the" | "a" | "an")).collect::<Vec<_>>().join(" ")
}

fn names(text: &str, name: &str) -> bool {
    let (text, name) = (normalise(text), normalise(name));
    !name.is_empty()
        && text.split(' ').count() <= SHORT_WORDS
        && format!(" {text} ").contains(&format!(" {name} "))
}

/// The last number of a text; thousands separators and "million"/"billion" are understood.
pub fn last_number(text: &str) -> Option<f64> {
    let chars: Vec<char> = text.replace('\u{2212}', "-").chars().collect();
    let digit = |i: usize| chars.get(i).is_some_and(char::is_ascii_digit);
    let mut found = None;
    let mut i = 0;
    while i < chars.len() {
        // Digits inside a word ("km2", "H2O") are no number.
        if !digit(i) || (i > 0 && chars[i - 1].is_alphabetic()) {
            i += 1;
            while i > 0 && digit(i) && digit(i - 1) {
                i += 1;
            }
            continue;
        }
        let negative = i > 0 && chars[i - 1] == '-' && (i < 2 || !chars[i - 2].is_alphanumeric());
        let mut number = String::from(if negative { "-" } else { "" });
        while i < chars.len() {
            let group = digit(i + 1) && digit(i + 2) && digit(i + 3) && !digit(i + 4);
            if digit(i) || (chars[i] == '.' && digit(i + 1)) {
                number.push(chars[i]);
            } else if !(matches!(chars[i], ',' | '\u{a0}' | '\u{202f}' | '_' | '\'') && group) {
                break;
            }
            i += 1;
        }
        if matches!(chars.get(i), Some('e' | 'E'))
            && (digit(i + 1) || (chars.get(i + 1) == Some(&'-') && digit(i + 2)))
        {
            number.push('e');
            i += 1;
            while digit(i) || chars.get(i) == Some(&'-') {
                number.push(chars[i]);
                i += 1;
            }
        }
        let rest: String = chars[i..].iter().take(9).collect();
        let scale = match rest.trim_start().to_lowercase() {
            word if word.starts_with("million") => 1e6,
            word if word.starts_with("billion") => 1e9,
            _ => 1.0,
        };
        found = number.parse::<f64>().ok().map(|n| n * scale).or(found);
    }
    found
}

/// Stretches of a text that could be an expression of numbers.
pub fn expressions(text: &str) -> impl Iterator<Item = &str> {
    text.lines().flat_map(|line| line.split('=')).flat_map(|part| {
        part.split(|c: char| !(c.is_ascii_digit() || " +-*/()x×÷·−X".contains(c)))
            .map(|piece| piece.trim().trim_matches(['x', 'X']).trim())
            .filter(|piece| piece.len() >= 7)
    })
}

/// Does the expression use exactly these numbers, once each, and equal 24?
pub fn makes_24(expression: &str, numbers: &[i64]) -> bool {
    let mut used: Vec<i64> = expression
        .split(|c: char| !c.is_ascii_digit())
        .filter(|digits| !digits.is_empty())
        .map(|digits| digits.parse().unwrap_or(-1))
        .collect();
    let mut wanted = numbers.to_vec();
    used.sort_unstable();
    wanted.sort_unstable();
    used == wanted && evaluate(expression) == Some(Rational::from(24))
}

/// An exact fraction. Operations answer `None` on overflow and division by zero.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rational {
    top: i128,
    bottom: i128,
}

impl From<i64> for Rational {
    fn from(value: i64) -> Rational {
        Rational { top: value.into(), bottom: 1 }
    }
}

impl Rational {
    fn new(top: i128, bottom: i128) -> Option<Rational> {
        if bottom == 0 {
            return None;
        }
        let (mut a, mut b) = (top.unsigned_abs(), bottom.unsigned_abs());
        while b != 0 {
            (a, b) = (b, a % b);
        }
        let divisor = i128::try_from(a.max(1)).ok()? * bottom.signum();
        Some(Rational { top: top / divisor, bottom: bottom / divisor })
    }

    pub fn plus(self, other: Rational) -> Option<Rational> {
        let left = self.top.checked_mul(other.bottom)?;
        let right = other.top.checked_mul(self.bottom)?;
        Rational::new(left.checked_add(right)?, self.bottom.checked_mul(other.bottom)?)
    }

    pub fn minus(self, other: Rational) -> Option<Rational> {
        self.plus(Rational { top: -other.top, bottom: other.bottom })
    }

    pub fn times(self, other: Rational) -> Option<Rational> {
        Rational::new(self.top.checked_mul(other.top)?, self.bottom.checked_mul(other.bottom)?)
    }

    pub fn over(self, other: Rational) -> Option<Rational> {
        Rational::new(self.top.checked_mul(other.bottom)?, self.bottom.checked_mul(other.top)?)
    }

    pub fn to_f64(self) -> f64 {
        self.top as f64 / self.bottom as f64
    }
}

/// The exact value of an expression of decimal numbers with + - * / ( ) and their usual other signs (x × · ÷ −).
/// `None` when it is none, or divides by zero.
pub fn evaluate(expression: &str) -> Option<Rational> {
    let chars: Vec<char> = expression.trim().chars().collect();
    let gap = |w: &[char]| w[1].is_whitespace() && w[0].is_ascii_digit() && w[2].is_ascii_digit();
    if chars.windows(3).any(gap) || expression.contains("  ") {
        // "1 2" is two numbers, not twelve.
        return None;
    }
    let signs: Vec<char> = chars
        .into_iter()
        .filter(|c| !c.is_whitespace())
        .map(|c| match c {
            'x' | 'X' | '×' | '·' => '*',
            '÷' => '/',
            '−' => '-',
            other => other,
        })
        .collect();
    let mut parser = Parser { signs: &signs, at: 0, depth: 0 };
    let value = parser.sum()?;
    (parser.at == signs.len()).then_some(value)
}

struct Parser<'a> {
    signs: &'a [char],
    at: usize,
    depth: usize,
}

impl Parser<'_> {
    fn next_is(&mut self, wanted: &[char]) -> Option<char> {
        let sign = *self.signs.get(self.at)?;
        wanted.contains(&sign).then(|| {
            self.at += 1;
            sign
        })
    }

    fn sum(&mut self) -> Option<Rational> {
        let mut value = self.product()?;
        while let Some(sign) = self.next_is(&['+', '-']) {
            let right = self.product()?;
            value = if sign == '+' { value.plus(right)? } else { value.minus(right)? };
        }
        Some(value)
    }

    fn product(&mut self) -> Option<Rational> {
        let mut value = self.atom()?;
        while let Some(sign) = self.next_is(&['*', '/']) {
            let right = self.atom()?;
            value = if sign == '*' { value.times(right)? } else { value.over(right)? };
        }
        Some(value)
    }

    fn atom(&mut self) -> Option<Rational> {
        // Text comes from a model: nesting must not exhaust the stack.
        if self.depth > 64 {
            return None;
        }
        self.depth += 1;
        let value = if self.next_is(&['-']).is_some() {
            Rational::from(0).minus(self.atom()?)
        } else if self.next_is(&['(']).is_some() {
            let inner = self.sum()?;
            self.next_is(&[')']).map(|_| inner)
        } else {
            self.number()
        };
        self.depth -= 1;
        value
    }

    fn number(&mut self) -> Option<Rational> {
        let (mut top, mut bottom, mut point, start) = (0_i128, 1_i128, false, self.at);
        while let Some(&sign) = self.signs.get(self.at) {
            match sign.to_digit(10) {
                Some(digit) => {
                    top = top.checked_mul(10)?.checked_add(digit.into())?;
                    bottom = if point { bottom.checked_mul(10)? } else { bottom };
                }
                None if sign == '.' && !point => point = true,
                None => break,
            }
            self.at += 1;
        }
        if self.at == start { None } else { Rational::new(top, bottom) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers() {
        let answer = |value, tolerance| Answer::Number { value, tolerance };
        for (value, tolerance, text, expected) in [
            (8.04672, 0.04, "8.05 km", true),
            (8.04672, 0.04, "5 miles is 8.05 km.", true),
            (8.04672, 0.04, "8 km", false),
            (34e6, 1.0, "34,000,000", true),
            (34e6, 1.0, "34 million", true),
            (34e6, 1.0, "34 000 000", false),
            (1234.5, 0.01, "1,234.5", true),
            (-12.0, 1e-6, "-12", true),
            (12.0, 1e-6, "-12", false),
            (3.0, 1e-6, "10-3", true),
            (1285216.0, 1.0, "1285216 km2", true),
            (2.0, 1e-6, "km2", false),
            (1.5e6, 1.0, "1.5e6", true),
            (7.0, 1e-6, "seven", false),
            (7.0, 1e-6, "", false),
            (7.0, 1e-6, "I cannot answer that with my 7 tools.", false),
        ] {
            assert_eq!(check(&answer(value, tolerance), text), expected, "{text:?} for {value}");
        }
    }

    #[test]
    fn names() {
        let answer = Answer::Text { accepted: vec!["the Atlantic Ocean".into(), "Atlantic".into()] };
        for (text, expected) in [
            ("the Atlantic Ocean", true),
            ("Atlantic ocean.", true),
            ("It flows into the Atlantic.", true),
            ("Transatlantic", false),
            ("the Pacific Ocean", false),
            ("", false),
            ("I cannot answer that about the Atlantic with my tools.", false),
        ] {
            assert_eq!(check(&answer, text), expected, "{text:?}");
        }
        let essay = format!("{} Atlantic", "word ".repeat(40));
        assert!(!check(&answer, &essay));
    }

    #[test]
    fn game_of_24() {
        let answer = Answer::Game24 { numbers: vec![2, 3, 5, 12] };
        for (text, expected) in [
            ("12/(3-5/2)", true),
            ("12 / (3 - 5 / 2) = 24", true),
            ("12 ÷ (3 − 5 ÷ 2)", true),
            ("The answer is 12/(3-5/2).", true),
            ("12*2*(5-3)/2", false),
            ("(5-3)x12", false),
            ("24", false),
            ("12*2", false),
            ("2+3+5+12", false),
            ("12/(3-3)+5*2", false),
        ] {
            assert_eq!(check(&answer, text), expected, "{text:?}");
        }
        assert!(check(&Answer::Game24 { numbers: vec![1, 2, 3, 4] }, "(1+2+3)x4"));
        assert!(check(&Answer::Game24 { numbers: vec![1, 2, 3, 4] }, "(1 + 2 + 3) × 4"));
        assert!(check(&Answer::Game24 { numbers: vec![3, 3, 8, 8] }, "8/(3-8/3)"));
        assert!(!check(&Answer::Game24 { numbers: vec![1] }, &"(".repeat(100_000)));
    }

    #[test]
    fn cannot_answer() {
        assert!(check(&Answer::CannotAnswer, "I cannot answer that with my tools."));
        assert!(check(&Answer::CannotAnswer, "I can't answer this."));
        assert!(!check(&Answer::CannotAnswer, "It will rain."));
    }

    #[test]
    fn evaluates_exactly() {
        for (text, expected) in [
            ("1/3+1/3+1/3", Some(1.0)),
            ("2*(3+4)-5", Some(9.0)),
            ("0.1+0.2", Some(0.3)),
            ("-3+5", Some(2.0)),
            ("1/0", None),
            ("2+", None),
            ("2 3", None),
            ("", None),
        ] {
            assert_eq!(evaluate(text).map(Rational::to_f64), expected, "{text:?}");
        }
    }
}
