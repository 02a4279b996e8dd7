//! Whether a query refers back to what was asked before, told by its words: for models too small to see that
//! themselves, which would answer the earlier query again.

/// Words that stand for something said before.
const STAND_INS: [&str; 14] = [
    "it", "its", "he", "him", "his", "she", "her", "they", "them", "their", "this", "these", "those", "again",
];
/// Beginnings that go on from it.
const ON: [&str; 8] = ["and", "or", "but", "then", "so", "why", "what about", "how about"];
/// What stands beside a "that" or an "it" which is a value, instead of a clause's beginning or its end.
const BESIDE_VALUE: [&str; 10] = ["by", "from", "to", "into", "in", "with", "as", "plus", "minus", "times"];
/// A query of so few words, none with a digit, does not say all it asks.
const FEW: usize = 3;

/// English only. Of the 1,080 training questions, none of which refers back, it takes 22 for such as do.
pub fn refers_back(query: &str) -> bool {
    let raw: Vec<&str> =
        query.split(|c: char| !c.is_alphanumeric()).filter(|word| !word.is_empty()).collect();
    let words: Vec<String> = raw.iter().map(|word| word.to_lowercase()).collect();
    let begins = |with: &&str| {
        with.split(' ').zip(words.iter()).filter(|(a, b)| a == b).count() == with.split(' ').count()
    };
    if ON.iter().any(begins) {
        return true;
    }
    // What is named is named here.
    if raw.iter().skip(1).any(|word| *word != "I" && word.starts_with(char::is_uppercase)) {
        return false;
    }
    let digits = query.contains(|c: char| c.is_ascii_digit());
    let stands_in = |word: &String| STAND_INS.contains(&word.as_str());
    let beside = |word: &String| BESIDE_VALUE.contains(&word.as_str());
    let value = |at: usize| match (words[at].as_str(), words.get(at + 1)) {
        ("that" | "it", Some(next)) => beside(next),
        ("that", None) => true,
        ("it", None) => at > 0 && beside(&words[at - 1]),
        _ => false,
    };
    !digits && (words.len() <= FEW || words.iter().any(stands_in)) || (0..words.len()).any(value)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_needs_the_conversation_is_told_from_what_does_not() {
        for query in [
            "And its population?",
            "and of Chile?",
            "What is its population?",
            "What about the capital of Chile?",
            "of which country?",
            "why",
            "Divide that by 7",
            "multiply it by 7",
            "Add 5 to it",
            "How much is that?",
        ] {
            assert!(refers_back(query), "{query}");
        }
        for query in [
            "What is 12*12+1?",
            "12*12+1",
            "What is the capital of Peru?",
            "what is the currency of the country whose capital is lima",
            "Using the numbers [2, 3, 5, 12], create an expression that equals 24. For example, one solution for [1, 2, 3, 4] is (1+2+3)x4.",
            "What is the population of Peru divided by that of Chile?",
            "About Mount Ararat: tell me its height.",
            "Convert 5 miles to km.",
            "Walter puts 7225 pens in 85 equal bags. How many pens are in each bag?",
        ] {
            assert!(!refers_back(query), "{query}");
        }
    }
}
