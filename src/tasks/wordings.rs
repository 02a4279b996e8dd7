//! How a question is said: wordings kept apart by split, and what varies them for training.
//!
//! Training wordings may hold alternatives ("[buys|gets] {a}"), and sometimes a few words around them. What comes
//! out within [`APART`] words of a wording kept for judging is drawn again: no one trains on a near copy of the
//! questions that measure it.

use crate::tasks::{Split, TaskRng, names};

/// Words that must differ, at least, between a training wording and any of the other splits.
pub(crate) const APART: usize = 2;

/// Share of training questions with words around them.
const FRAMED: f64 = 0.1;
const BEFORE: &[&str] = &[
    "Question: ",
    "Next one: ",
    "Hello! ",
    "A quick one: ",
    "I wonder: ",
    "One more: ",
    "Listen: ",
    "Now this: ",
    "Can you help? ",
    "For my work: ",
];
const AFTER: &[&str] =
    &[" Thanks.", " Please.", " Quickly, please.", " I am curious.", " Thank you!", " Go ahead."];

/// The wordings of a query, kept apart by split. `{x}` marks what is filled in.
pub(crate) struct Wordings {
    pub train: &'static [&'static str],
    pub gate: &'static [&'static str],
    pub held_out: &'static [&'static str],
}

impl Wordings {
    pub fn of(&self, split: Split) -> &'static [&'static str] {
        match split {
            Split::Train => self.train,
            Split::Gate => self.gate,
            Split::HeldOut => self.held_out,
        }
    }

    /// A wording of the split; one for training with its alternatives chosen.
    pub fn pick(&self, split: Split, rng: &mut TaskRng) -> String {
        let drawn = names::pick(rng, self.of(split));
        if split != Split::Train {
            return drawn.to_string();
        }
        let mut text = framed(choose(drawn, rng), rng);
        while self.nearest(&text) < APART {
            let again = names::pick(rng, self.train);
            text = framed(choose(again, rng), rng);
        }
        text
    }

    /// Words between `text` and the nearest wording of the splits that judge.
    fn nearest(&self, text: &str) -> usize {
        let kept = self.gate.iter().chain(self.held_out);
        kept.map(|other| distance(&words(text), &words(other))).min().unwrap_or(usize::MAX)
    }
}

/// As someone may type it: now and then with words before or after it.
fn framed(text: String, rng: &mut TaskRng) -> String {
    if !names::chance(rng, FRAMED) {
        return text;
    }
    if names::chance(rng, 0.7) {
        format!("{}{text}", names::pick(rng, BEFORE))
    } else {
        format!("{text}{}", names::pick(rng, AFTER))
    }
}

/// Each "[one|two]" by one of its alternatives, evenly.
fn choose(wording: &str, rng: &mut TaskRng) -> String {
    let mut text = String::new();
    let mut rest = wording;
    while let Some((before, (inside, after))) =
        rest.split_once('[').and_then(|(before, tail)| Some((before, tail.split_once(']')?)))
    {
        text.push_str(before);
        text.push_str(names::pick(rng, &inside.split('|').collect::<Vec<_>>()));
        rest = after;
    }
    text + rest
}

fn words(text: &str) -> Vec<String> {
    let bare = |word: &str| word.trim_matches(['?', '.', ',', ':', '!']).to_lowercase();
    text.split_whitespace().map(bare).collect()
}

/// Words to put in, take out or replace to make one of the other (Levenshtein).
fn distance(one: &[String], other: &[String]) -> usize {
    let mut row: Vec<usize> = (0..=other.len()).collect();
    for (i, word) in one.iter().enumerate() {
        let mut corner = std::mem::replace(&mut row[0], i + 1);
        for (j, with) in other.iter().enumerate() {
            let change = corner + usize::from(word != with);
            corner = row[j + 1];
            row[j + 1] = change.min(row[j] + 1).min(corner + 1);
        }
    }
    row[other.len()]
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use rand::SeedableRng as _;

    use super::*;
    use crate::tasks::{Family, arithmetic, conversion, csv, game24, knowledge, unanswerable};

    fn all(family: Family) -> Vec<&'static Wordings> {
        match family {
            Family::Arithmetic => arithmetic::wordings(),
            Family::Conversion => conversion::wordings(),
            Family::Game24 => game24::wordings(),
            Family::Lookup | Family::Hop2 | Family::Hop3 => knowledge::wordings(),
            Family::LookupArithmetic => knowledge::arithmetic_wordings(),
            Family::Csv => csv::wordings(),
            Family::Unanswerable => unanswerable::wordings(),
            // Their splits differ in numbers alone.
            Family::Sums => Vec::new(),
        }
    }

    #[test]
    fn wordings_of_splits_differ_and_are_many() {
        for family in Family::ALL {
            let mut seen = HashSet::new();
            for split in Split::ALL {
                for list in &all(family) {
                    assert!(!list.of(split).is_empty(), "{family:?} {split:?}");
                    for wording in list.of(split) {
                        assert!(seen.insert(*wording), "{family:?} {split:?}: {wording} is there twice");
                    }
                }
            }
            assert!(seen.len() >= 12, "{family:?}: {}", seen.len());
        }
    }

    #[test]
    fn no_training_wording_comes_near_one_that_judges() {
        let mut rng = TaskRng::seed_from_u64(7);
        for family in Family::ALL {
            for list in &all(family) {
                for _ in 0..500 {
                    let text = list.pick(Split::Train, &mut rng);
                    assert!(!text.contains(['[', ']', '|']), "{text}");
                    assert!(list.nearest(&text) >= APART, "{family:?}: {text}");
                }
            }
        }
    }

    #[test]
    fn distance_is_in_words() {
        let far = |one: &str, other: &str| distance(&words(one), &words(other));
        assert_eq!(far("What is {d}?", "what is {d}"), 0);
        assert_eq!(far("Give me the date.", "Tell me the date."), 1);
        assert_eq!(far("Please tell me {d}.", "Tell me {d}."), 1);
        assert_eq!(far("", "one two"), 2);
    }

    #[test]
    fn only_training_questions_vary() {
        let list = &Wordings { train: &["[one|two] of {x}"], gate: &["gate [a|b]"], held_out: &["held out"] };
        let mut rng = TaskRng::seed_from_u64(7);
        let mut drawn = |split| (0..200).map(|_| list.pick(split, &mut rng)).collect::<HashSet<String>>();
        assert_eq!(drawn(Split::Gate), HashSet::from(["gate [a|b]".to_string()]));
        let train = drawn(Split::Train);
        assert!(train.contains("one of {x}") && train.contains("two of {x}"), "{train:?}");
        assert!(train.len() > 8, "{train:?}");
    }
}
