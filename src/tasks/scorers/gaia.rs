//! GAIA's normalised match, as its published scorer decides: by the reference answer a number, a list or a
//! string (Mialon et al. 2023, arXiv 2311.12983).

use super::final_answer;

/// The stated answer matches the reference.
pub fn matches(text: &str, reference: &str) -> bool {
    let given = final_answer(text);
    if given.trim().is_empty() {
        return false;
    }
    if let Some(wanted) = finite(reference) {
        return number(given) == Some(wanted);
    }
    if reference.contains([',', ';']) {
        let (wanted, given) = (split(reference), split(given));
        return wanted.len() == given.len()
            && wanted.iter().zip(&given).all(|(wanted, given)| match finite(wanted) {
                Some(wanted) => number(given) == Some(wanted),
                None => joined(wanted, true) == joined(given, true),
            });
    }
    let given = given.trim_end_matches('.');
    joined(reference, false) == joined(given, false)
}

/// "NaN", "inf" and "Infinity" are words here; the published scorer takes them for numbers, and the first of them
/// then equals nothing.
fn finite(text: &str) -> Option<f64> {
    text.trim().parse().ok().filter(|value: &f64| value.is_finite())
}

/// A number without its dollar, percent and thousands signs.
fn number(text: &str) -> Option<f64> {
    let plain: String = text.chars().filter(|c| !matches!(c, '$' | '%' | ',')).collect();
    plain.trim().trim_end_matches('.').replace('\u{2212}', "-").parse().ok()
}

fn split(text: &str) -> Vec<&str> {
    text.split([',', ';']).map(str::trim).collect()
}

/// Lower case without white space, and without punctuation unless it is kept (in lists).
fn joined(text: &str, keep_punctuation: bool) -> String {
    text.chars()
        .filter(|c| !c.is_whitespace() && (keep_punctuation || !c.is_ascii_punctuation()))
        .flat_map(char::to_lowercase)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn normalised_match() {
        for (reference, text, expected) in [
            ("17", "17", true),
            ("17", "17.0", true),
            ("17", "17.", true),
            ("17", "$17", true),
            ("17", "17%", true),
            ("17", "The answer is 17", true),
            ("17", "FINAL ANSWER: 17", true),
            ("17", "17 apples", false),
            ("17", "18", false),
            ("17", "", false),
            ("17", "seventeen", false),
            ("17000", "17,000", true),
            ("17000", "$17,000.00", true),
            ("-3", "\u{2212}3", true),
            ("0.1777", "0.1777", true),
            ("0.1777", "0.178", false),
            ("Paris", "paris", true),
            ("Paris", "Paris.", true),
            ("Paris", " P a r i s ", true),
            ("Paris", "Paris, France", false),
            ("sea gull", "seagull", true),
            ("seagull", "sea gull", true),
            ("St. Petersburg", "St Petersburg", true),
            ("John's", "Johns", true),
            ("The castle", "castle", false),
            ("THE CASTLE", "the castle", true),
            ("a, b", "a, b", true),
            ("a, b", "a,b", true),
            ("a, b", "a; b", true),
            ("a; b", "a, b", true),
            ("a, b", "b, a", false),
            ("a, b", "a", false),
            ("a, b", "a, b, c", false),
            ("a, b", "A, B", true),
            ("132, 133, 134", "132, 133, 134", true),
            ("132, 133, 134", "132,133,134", true),
            ("132, 133", "132, 134", false),
            ("1, two", "1.0, Two", true),
            ("broccoli, celery", "Broccoli , Celery", true),
            ("broccoli, celery", "broccoli celery", false),
            ("St. Paul, Minn.", "St Paul, Minn", false),
            ("3.1.3.1; 1.11.1.7", "3.1.3.1; 1.11.1.7", true),
            ("Right", "Answer: right", true),
            ("Right", "\\boxed{Right}", true),
            ("Nan", "Nan", true),
            ("Infinity", "infinity", true),
            ("inf, nan", "Inf, NaN", true),
            ("17", "inf", false),
        ] {
            assert_eq!(matches(text, reference), expected, "{text:?} for {reference:?}");
        }
    }
}
