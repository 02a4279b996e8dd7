//! Multiple choice (GPQA, MedQA): which option a text chose, or none; never the first one in doubt.

use super::final_answer;
use super::names::normalise;

/// Letter of the option the text chose. `options` are texts with or without a leading "A. ".
///
/// In this order: the last stated answer ("the answer is (B)", "Answer: B", `\boxed{B}`) names one letter; the
/// text is one letter or begins with one as a list mark; it holds exactly one option's text. Several
/// letters, several options or none of these: `None`.
pub fn chosen(text: &str, options: &[String]) -> Option<char> {
    let most = char::from(b'A' + u8::try_from(options.len().clamp(1, 26)).unwrap_or(26) - 1);
    let stated = final_answer(text);
    match letters(stated, most).as_slice() {
        [letter] => return Some(*letter),
        [] => {}
        _ => return None,
    }
    let texts: Vec<String> = options.iter().map(|option| normalise(bare(option))).collect();
    let given = normalise(stated);
    if let Some(at) = texts.iter().position(|option| *option == given && !given.is_empty()) {
        return letter_at(at);
    }
    let padded = format!(" {given} ");
    let named: Vec<usize> = (0..texts.len())
        .filter(|at| !texts[*at].is_empty() && padded.contains(&format!(" {} ", texts[*at])))
        .collect();
    // "type 1" lies inside "type 1 diabetes": the longer one was meant.
    let inside_another = |at: &usize| {
        named
            .iter()
            .any(|other| other != at && texts[*other].contains(&texts[*at]) && texts[*other] != texts[*at])
    };
    let meant: Vec<usize> = named.iter().copied().filter(|at| !inside_another(at)).collect();
    match meant.as_slice() {
        [at] if !negated(&given) => letter_at(*at),
        _ => None,
    }
}

fn letter_at(at: usize) -> Option<char> {
    u8::try_from(at).ok().filter(|at| *at < 26).map(|at| char::from(b'A' + at))
}

/// An option's text without its "A. " mark.
pub fn bare(option: &str) -> &str {
    let option = option.trim();
    let mut chars = option.chars();
    match (chars.next(), chars.next()) {
        (Some(letter), Some('.' | ')' | ':')) if letter.is_ascii_uppercase() => option[2..].trim(),
        _ => option,
    }
}

fn negated(text: &str) -> bool {
    text.split(' ').any(|word| matches!(word, "not" | "neither" | "isnt" | "cannot"))
}

/// Distinct option letters a stated answer names: bracketed, after "option" or "choice", at its beginning as
/// a list mark, or the whole of it. A capital A inside a sentence is an article.
fn letters(stated: &str, most: char) -> Vec<char> {
    let mut found = Vec::new();
    let stated = stated.replace("\\text", "").replace(['*', '{', '}', '$', '"', '`', '\''], " ");
    let words: Vec<&str> = stated.split_whitespace().collect();
    let only_letters = !words.is_empty()
        && words.iter().all(|word| letter(word, most).is_some() || matches!(*word, "or" | "and" | "&" | ","));
    for (at, word) in words.iter().enumerate() {
        let Some(letter) = letter(word, most) else { continue };
        if ruled_out(&words, at) {
            continue;
        }
        let after_option = at > 0
            && matches!(
                words[at - 1].to_ascii_lowercase().as_str(),
                "option" | "choice" | "options" | "choices"
            );
        let joined = at > 1
            && matches!(words[at - 1], "or" | "and" | "&")
            && self::letter(words[at - 2], most).is_some_and(|other| found.contains(&other));
        let bracketed = word.starts_with('(') && word.contains(')');
        let mark = at == 0 && word.len() > 1 && word[1..].starts_with(['.', ')', ':', ',']);
        if (only_letters || after_option || joined || bracketed || mark) && !found.contains(&letter) {
            found.push(letter);
        }
    }
    found
}

/// The letter at `at` is named as what it is not: "not (B)", "not option B", "(B) is wrong".
fn ruled_out(words: &[&str], at: usize) -> bool {
    let word = |at: Option<usize>| {
        let word = at.and_then(|at| words.get(at)).map_or("", |word| *word);
        word.trim_matches(|c: char| c.is_ascii_punctuation()).to_ascii_lowercase()
    };
    let option = |word: &str| matches!(word, "option" | "choice" | "options" | "choices" | "answer" | "the");
    let mut before = at.checked_sub(1);
    while before.is_some_and(|at| option(&word(Some(at)))) {
        before = before.and_then(|at| at.checked_sub(1));
    }
    // "isn't" has lost its apostrophe to a space.
    let no = |word: &str| matches!(word, "not" | "neither" | "nor" | "except" | "t");
    let wrong = |word: &str| matches!(word, "not" | "wrong" | "incorrect" | "false");
    let ends = words[at].ends_with([',', '.', ';', ':']);
    let after = word(Some(at + 1));
    no(&word(before)) || !ends && (after == "isn" || after == "is" && wrong(&word(Some(at + 2))))
}

/// The option letter a word is: B, (B), B., [B]: capital, or small in brackets.
fn letter(word: &str, most: char) -> Option<char> {
    let bracketed = word.starts_with(['(', '[']);
    let core = word.trim_matches(|c: char| "()[].,:;!?".contains(c));
    let mut chars = core.chars();
    let (Some(c), None) = (chars.next(), chars.next()) else { return None };
    let c = if bracketed { c.to_ascii_uppercase() } else { c };
    ('A'..=most).contains(&c).then_some(c)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn extraction() {
        let options: Vec<String> =
            ["A. Type 1 diabetes", "B. Type 2 diabetes", "C. Diabetes", "D. None of the above"]
                .map(String::from)
                .into();
        for (text, expected) in [
            ("B", Some('B')),
            ("B.", Some('B')),
            ("(B)", Some('B')),
            ("(b)", Some('B')),
            ("[B]", Some('B')),
            ("**B**", Some('B')),
            ("\\boxed{B}", Some('B')),
            ("\\boxed{\\text{B}}", Some('B')),
            ("$\\boxed{\\text{(B)}}$", Some('B')),
            ("b", None),
            ("B. Type 2 diabetes", Some('B')),
            ("B) because insulin fails", Some('B')),
            ("B: Type 2", Some('B')),
            ("Answer: B", Some('B')),
            ("Answer: (B)", Some('B')),
            ("**Answer**: B", Some('B')),
            ("The answer is B.", Some('B')),
            ("The answer is (B) Type 2 diabetes.", Some('B')),
            ("The correct answer is option C", Some('C')),
            ("I choose option D.", Some('D')),
            ("My choice: choice A", Some('A')),
            ("The answer is A. No wait, the answer is D", Some('D')),
            ("Both A and B are plausible", None),
            ("A or B", None),
            ("The answer is A or B", None),
            ("(A) and (C)", None),
            ("The answer is options A and D", None),
            ("A patient with thirst", None),
            ("A", Some('A')),
            ("I cannot tell", None),
            ("", None),
            ("E", None),
            ("F. something", None),
            ("Type 2 diabetes", Some('B')),
            ("type 2 diabetes.", Some('B')),
            ("It is type 2 diabetes", Some('B')),
            ("diabetes", Some('C')),
            ("It is some kind of diabetes", Some('C')),
            ("Type 1 diabetes or type 2 diabetes", None),
            ("It is not type 1 diabetes", None),
            ("None of the above", Some('D')),
            ("the above", None),
            ("Answer: Type 1 diabetes", Some('A')),
            ("The answer is (Z)", None),
            ("Vitamin B helps", None),
            ("Hepatitis B", None),
            ("It is not (B)", None),
            ("The answer is not (B)", None),
            ("It isn't option B", None),
            ("Option B is wrong", None),
            ("Option B is incorrect, it is option C", Some('C')),
            ("The answer is (C), not (B)", Some('C')),
            ("Neither (A) nor (B)", None),
            ("B. It is not the first type", Some('B')),
        ] {
            assert_eq!(chosen(text, &options), expected, "{text:?}");
        }
        assert_eq!(chosen("E", &["1", "2", "3", "4", "5"].map(String::from)), Some('E'));
        assert_eq!(bare("A. Type 1"), "Type 1");
        assert_eq!(bare("Aspirin"), "Aspirin");
    }
}
