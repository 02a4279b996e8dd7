//! Search questions: exact match and token F1 after SQuAD's normalisation (Rajpurkar et al. 2016).

use std::collections::HashMap;

use super::final_answer;

/// Lower case, no punctuation, no articles, single spaces; typographic quotes and dashes as their plain forms.
pub fn normalise(text: &str) -> String {
    let plain: String = text
        .chars()
        .flat_map(char::to_lowercase)
        .filter(|c| !c.is_ascii_punctuation() && !"‘’“”–—…«»".contains(*c))
        .collect();
    let words = plain.split_whitespace().filter(|word| !matches!(*word, "a" | "an" | "the"));
    words.collect::<Vec<_>>().join(" ")
}

/// The stated answer equals one of the accepted ones after normalisation. An empty answer never does.
pub fn exact(text: &str, accepted: &[String]) -> bool {
    let given = normalise(final_answer(text));
    !given.is_empty() && accepted.iter().any(|name| normalise(name) == given)
}

/// Token F1 against the best of the accepted answers, 0..=1. As in HotpotQA, yes, no and "noanswer" count
/// only when equal.
pub fn f1(text: &str, accepted: &[String]) -> f64 {
    let given = normalise(final_answer(text));
    accepted.iter().map(|name| f1_of(&given, &normalise(name))).fold(0.0, f64::max)
}

fn f1_of(given: &str, wanted: &str) -> f64 {
    let closed = |text: &str| matches!(text, "yes" | "no" | "noanswer");
    if given != wanted && (closed(given) || closed(wanted)) {
        return 0.0;
    }
    let mut left: HashMap<&str, usize> = HashMap::new();
    for word in wanted.split_whitespace() {
        *left.entry(word).or_default() += 1;
    }
    let mut common = 0;
    for word in given.split_whitespace() {
        if let Some(count) = left.get_mut(word).filter(|count| **count > 0) {
            *count -= 1;
            common += 1;
        }
    }
    let words = given.split_whitespace().count() + wanted.split_whitespace().count();
    if words == 0 { 0.0 } else { 2.0 * f64::from(common) / words as f64 }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exact_match() {
        for (wanted, text, expected) in [
            ("Paris", "Paris", true),
            ("Paris", "paris.", true),
            ("Paris", " PARIS ", true),
            ("Paris", "The answer is Paris.", true),
            ("Paris", "Answer: **Paris**", true),
            ("Paris", "\\boxed{Paris}", true),
            ("Paris", "Paris, France", false),
            ("Paris", "It is in Paris", false),
            ("Paris", "", false),
            ("Paris", "the", false),
            ("the Beatles", "Beatles", true),
            ("Beatles", "The Beatles", true),
            ("A Tale of Two Cities", "Tale of Two Cities", true),
            ("Rolling Stone", "Rolling Stones", false),
            ("U.S.", "US", true),
            ("AC/DC", "ACDC", true),
            ("AC/DC", "AC DC", false),
            ("O'Brien", "O’Brien", true),
            ("O'Brien", "OBrien", true),
            ("Jean-Luc Picard", "Jean–Luc Picard", true),
            ("Jean-Luc Picard", "Jean Luc Picard", false),
            ("12,000", "12000", true),
            ("12000", "12.000", true),
            ("1984", "1984.", true),
            ("1984", "in 1984", false),
            ("yes", "Yes", true),
            ("yes", "Yes, it is.", false),
            ("no", "No.", true),
            ("no", "none", false),
            ("Łódź", "łódź", true),
            ("Łódź", "Lodz", false),
            ("Straße", "STRASSE", false),
            ("ÉCOLE", "école", true),
            ("Dr. No", "Dr No", true),
            ("Mambo No. 5", "mambo no 5", true),
            ("\"Heroes\"", "“Heroes”", true),
            ("Paris", "Paris\nThat is the capital.", false),
            ("Paris", "Answer: Paris\nThat is the capital.", true),
            ("Paris", "The answer is London. No, the answer is Paris", true),
            ("London", "The answer is London. No, the answer is Paris", false),
            ("an", "an", false),
            ("New   York", "new york", true),
        ] {
            assert_eq!(exact(text, &[wanted.to_string()]), expected, "{text:?} for {wanted:?}");
        }
        let both = ["USA".to_string(), "United States".to_string()];
        assert!(exact("the United States", &both) && exact("U.S.A.", &both) && !exact("America", &both));
    }

    #[test]
    fn token_f1() {
        for (wanted, text, expected) in [
            ("Paris", "Paris", 1.0),
            ("Paris", "Paris, France", 2.0 / 3.0),
            ("Barack Obama", "Obama", 2.0 / 3.0),
            ("Barack Obama", "Obama Obama", 0.5),
            ("Barack Obama", "Michelle", 0.0),
            ("yes", "yes it is", 0.0),
            ("no", "yes", 0.0),
            ("yes", "Yes!", 1.0),
            ("Paris", "", 0.0),
            ("the", "the", 0.0),
        ] {
            let f1 = f1(text, &[wanted.to_string()]);
            assert!((f1 - expected).abs() < 1e-12, "{text:?} for {wanted:?}: {f1}");
        }
    }
}
