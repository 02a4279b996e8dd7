//! Slips of a small planner: a sub-goal with a name or number miscopied, a story misread, or the query echoed.
//!
//! Only for demonstrations of the roles that come after the plan; no planner is taught to slip.

use rand::Rng as _;

use crate::flow::memory::Memory;
use crate::tasks::TaskRng;
use crate::tasks::names::pick;

/// The sub-goal as a hasty planner would write it; always another text than the one given.
pub fn miswrite(sub_goal: &str, query: &str, memory: &Memory, rng: &mut TaskRng) -> String {
    for _ in 0..8 {
        let text = match rng.random_range(0..7) {
            0 => doubled(sub_goal, rng),
            1 => dropped(sub_goal, rng),
            2 => replaced(sub_goal, query, memory, rng),
            3 => digit(sub_goal, rng),
            5 => sign(sub_goal, rng),
            6 => swapped(sub_goal, rng),
            _ => echo(query),
        };
        if text != sub_goal && !text.is_empty() {
            return text;
        }
    }
    echo(query)
}

/// Places of the words that name something: capitalised or with a digit, behind the verb.
fn names(words: &[&str]) -> Vec<usize> {
    let names = |word: &str| word.chars().any(|c| c.is_uppercase() || c.is_ascii_digit());
    (1..words.len()).filter(|i| names(words[*i])).collect()
}

fn doubled(sub_goal: &str, rng: &mut TaskRng) -> String {
    let mut words: Vec<&str> = sub_goal.split(' ').collect();
    let places = names(&words);
    if !places.is_empty() {
        let at = pick(rng, &places);
        words.insert(at, words[at]);
    }
    words.join(" ")
}

fn dropped(sub_goal: &str, rng: &mut TaskRng) -> String {
    let mut words: Vec<&str> = sub_goal.split(' ').collect();
    if words.len() > 3 {
        words.remove(rng.random_range(1..words.len()));
    }
    words.join(" ")
}

/// Another name of the query or of memory in place of one.
fn replaced(sub_goal: &str, query: &str, memory: &Memory, rng: &mut TaskRng) -> String {
    let results = memory.entries.iter().map(|entry| entry.result.as_str());
    let seen: Vec<&str> = std::iter::once(query)
        .chain(results)
        .flat_map(str::split_whitespace)
        .skip(1)
        .map(|word| word.trim_matches(|c: char| !c.is_alphanumeric()))
        .filter(|word| word.chars().any(|c| c.is_uppercase() || c.is_ascii_digit()))
        .collect();
    let mut words: Vec<&str> = sub_goal.split(' ').collect();
    let places = names(&words);
    if !seen.is_empty() && !places.is_empty() {
        words[pick(rng, &places)] = pick(rng, &seen);
    }
    words.join(" ")
}

/// One digit lost, doubled or another one.
fn digit(sub_goal: &str, rng: &mut TaskRng) -> String {
    let mut text: Vec<char> = sub_goal.chars().collect();
    let places: Vec<usize> = (0..text.len()).filter(|i| text[*i].is_ascii_digit()).collect();
    if places.is_empty() {
        return sub_goal.to_string();
    }
    let at = pick(rng, &places);
    match rng.random_range(0..3) {
        0 => drop(text.remove(at)),
        1 => text.insert(at, text[at]),
        _ => text[at] = pick(rng, &['0', '1', '2', '3', '4', '5', '6', '7', '8', '9']),
    }
    text.into_iter().collect()
}

/// Another operation, or another question to a table: what a story misread comes to.
fn sign(sub_goal: &str, rng: &mut TaskRng) -> String {
    const TABLE: &[&str] = &["sum", "max", "min"];
    let (verb, rest) = sub_goal.split_once(' ').unwrap_or((sub_goal, ""));
    if TABLE.contains(&verb) {
        return format!("{} {rest}", pick(rng, TABLE));
    }
    // Behind an operand and before one: not the dashes of a date, nor a hyphen.
    let mut text: Vec<char> = sub_goal.chars().collect();
    let between = |i: usize| {
        let near = |at: Option<&char>| at.is_some_and(|c| c.is_ascii_digit() || matches!(c, '(' | ')' | ' '));
        i > 0 && near(text.get(i - 1)) && near(text.get(i + 1))
    };
    let places: Vec<usize> = (0..text.len())
        .filter(|i| matches!(text[*i], '+' | '-' | '*' | '/' | '<' | '>') && between(*i))
        .collect();
    if places.is_empty() {
        return sub_goal.to_string();
    }
    let at = pick(rng, &places);
    let others: &[char] = if matches!(text[at], '<' | '>') { &['<', '>'] } else { &['+', '-', '*', '/'] };
    text[at] = pick(rng, others);
    text.into_iter().collect()
}

/// Two numbers or two words in each other's place.
fn swapped(sub_goal: &str, rng: &mut TaskRng) -> String {
    let edge = |(a, b): (char, char)| a.is_alphanumeric() != b.is_alphanumeric();
    let mut parts: Vec<String> = vec![String::new()];
    let mut last = None;
    for c in sub_goal.chars() {
        if last.is_some_and(|last| edge((last, c))) {
            parts.push(String::new());
        }
        if let Some(part) = parts.last_mut() {
            part.push(c);
        }
        last = Some(c);
    }
    // Behind the verb.
    let said = |part: &String| part.chars().all(char::is_alphanumeric);
    let places: Vec<usize> = (1..parts.len()).filter(|i| said(&parts[*i])).collect();
    if places.len() > 1 {
        parts.swap(pick(rng, &places), pick(rng, &places));
    }
    parts.concat()
}

fn echo(query: &str) -> String {
    let mut letters = query.trim_end_matches(['?', '.']).chars();
    let first = letters.next().map(|c| c.to_lowercase().to_string()).unwrap_or_default();
    let text: String = letters.take(120).collect();
    format!("find {first}{text}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand::SeedableRng as _;

    #[test]
    fn a_slip_is_another_text_and_depends_on_the_seed_alone() {
        let goals = ["find the capital of Peru", "compute 12*7+5", "count rows of staff.csv"];
        for goal in goals {
            for seed in 0..200 {
                let slip = |seed| {
                    let mut rng = TaskRng::seed_from_u64(seed);
                    miswrite(goal, "What is the capital of Peru?", &Memory::default(), &mut rng)
                };
                assert_ne!(slip(seed), goal);
                assert!(!slip(seed).trim().is_empty());
                assert_eq!(slip(seed), slip(seed));
            }
        }
    }
}
