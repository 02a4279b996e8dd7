//! Units and dates: the calculator knows them. Values are computed here from exact factors, not by the tool.

use jiff::{ToSpan, civil::Date};
use rand::Rng;

use crate::tasks::{
    Answer, Family, Split, Step, Task, TaskRng, Wordings, WrongStep, fill, knowledge, names, tool,
};

/// {v} value, {u} unit, {t} target unit.
const UNITS: Wordings = Wordings {
    train: &[
        "[Convert|Turn|Translate] {v} {u} [to|into] {t}.",
        "What is {v} {u} in {t}?",
        "How much is {v} {u} in {t}?",
        "{v} {u} is how many {t}?",
        "[Tell me|Give me|Show me|Say] {v} {u} [in|as] {t}.",
        "[I need|I want|I would like] {v} {u} [in|as] {t}.",
        "Please [convert|change|turn] {v} {u} [to|into] {t}.",
        "[Work out|Compute|Calculate] {v} {u} in {t}.",
        "Change {v} {u} [into|to] {t}.",
        "{v} {u} in {t}[, please.|?]",
        "[Find out|Work out|Say] how many {t} make {v} {u}.",
        "What do {v} {u} come to in {t}?",
        "How many {t} [do I get from|are there in|make up|correspond to] {v} {u}?",
        "[Something is|I have|We measured] {v} {u}. [How many|How much in] {t} is that?",
        "[If I have|With] {v} {u}, how many {t} [do I have|is that]?",
    ],
    gate: &["Can you convert {v} {u} to {t}?", "Express {v} {u} in {t}."],
    held_out: &[
        "Tell me how many {t} are {v} {u}.",
        "Please give me {v} {u} in {t}.",
        "How many {t} is {v} {u}?",
    ],
};

/// {d} start, {k} days.
const AFTER: Wordings = Wordings {
    train: &[
        "What date is {k} days after {d}?",
        "Which day comes {k} days after {d}?",
        "Add {k} days to {d}.",
        "It is {d}. What date is it in {k} days?",
        "What is the date {k} days after {d}?",
        "Starting on {d}, what date is it {k} days later?",
        "Count {k} days forward from {d}.",
        "{k} days after {d} is which date?",
        "[I need|I want|I am after] the date that comes {k} days after {d}.",
        "If today is {d}, what is the date in {k} days?",
        "[Find|Name|Give me] the day {k} days later than {d}.",
        "[Begin at|From] {d}, go {k} days on. [Which date|What day] is that?",
        "[{k} days go by after {d}|After {d} we wait {k} days]. Which date is it then?",
        "[A parcel|A letter|A ship] leaves on {d} and needs {k} days. On which date does it arrive?",
    ],
    gate: &["Which date is {k} days after {d}?"],
    held_out: &["Tell me the date {k} days after {d}.", "What day is it {k} days after {d}?"],
};

const BEFORE: Wordings = Wordings {
    train: &[
        "What date is {k} days before {d}?",
        "Which day comes {k} days before {d}?",
        "Take {k} days from {d}.",
        "It is {d}. What date was it {k} days ago?",
        "What is the date {k} days before {d}?",
        "Going back from {d}, what date was it {k} days earlier?",
        "Count {k} days back from {d}.",
        "{k} days before {d} was which date?",
        "[I need|I want|I am after] the date that comes {k} days before {d}.",
        "If today is {d}, what was the date {k} days ago?",
        "[Find|Name|Give me] the day {k} days earlier than {d}.",
        "[Begin at|From] {d}, go {k} days back. [Which date|What day] is that?",
        "[A parcel|A letter|A ship] arrives on {d} after {k} days. On which date did it leave?",
    ],
    gate: &["Which date is {k} days before {d}?"],
    held_out: &["Tell me the date {k} days before {d}.", "What day was it {k} days before {d}?"],
};

/// Units of one dimension with their exact size in the first's base.
const DIMENSIONS: &[&[(&str, f64)]] = &[
    &[
        ("km", 1000.0),
        ("m", 1.0),
        ("cm", 0.01),
        ("mm", 0.001),
        ("miles", 1609.344),
        ("feet", 0.3048),
        ("inches", 0.0254),
        ("yards", 0.9144),
    ],
    &[("kg", 1000.0), ("g", 1.0), ("pounds", 453.592_37), ("ounces", 28.349_523_125)],
    &[("seconds", 1.0), ("minutes", 60.0), ("hours", 3600.0), ("days", 86_400.0), ("weeks", 604_800.0)],
    &[("litres", 1.0), ("gallons", 3.785_411_784), ("ml", 0.001), ("pints", 0.473_176_473)],
    &[("km/h", 1.0), ("mph", 1.609_344)],
    &[("GB", 1000.0), ("MB", 1.0), ("kB", 0.001)],
];

#[cfg(test)]
pub(crate) fn wordings() -> Vec<&'static Wordings> {
    vec![&UNITS, &AFTER, &BEFORE]
}

pub(crate) fn attempt(split: Split, rng: &mut TaskRng) -> Option<Task> {
    match rng.random_range(0..10) {
        0..=5 => units(split, rng),
        6 => temperature(split, rng),
        _ => date(split, rng),
    }
}

fn value(rng: &mut TaskRng) -> String {
    match rng.random_range(0..4) {
        0 => rng.random_range(2..=20).to_string(),
        1 => rng.random_range(2..=200).to_string(),
        2 => (rng.random_range(1..=90) * 10).to_string(),
        _ => format!("{}.{}", rng.random_range(1..=60), rng.random_range(1..=9)),
    }
}

fn units(split: Split, rng: &mut TaskRng) -> Option<Task> {
    let dimension = DIMENSIONS[rng.random_range(0..DIMENSIONS.len())];
    let (from, to) = (names::pick(rng, dimension), names::pick(rng, dimension));
    let amount = value(rng);
    let result = amount.parse::<f64>().ok()? * from.1 / to.1;
    // Nobody asks for a ten-thousandth or for millions of seconds.
    if from.0 == to.0 || !(0.01..1e6).contains(&result) {
        return None;
    }
    conversion(&amount, from.0, to.0, result, result.abs() * 0.005, split, rng)
}

fn temperature(split: Split, rng: &mut TaskRng) -> Option<Task> {
    let amount = rng.random_range(1..=230);
    if names::chance(rng, 0.5) {
        let result = f64::from(amount) * 1.8 + 32.0;
        conversion(&amount.to_string(), "celsius", "fahrenheit", result, 0.1, split, rng)
    } else {
        let result = (f64::from(amount) - 32.0) / 1.8;
        conversion(&amount.to_string(), "fahrenheit", "celsius", result, 0.1, split, rng)
    }
}

fn conversion(
    amount: &str,
    from: &str,
    to: &str,
    value: f64,
    tolerance: f64,
    split: Split,
    rng: &mut TaskRng,
) -> Option<Task> {
    let expression = format!("{amount} {from} to {to}");
    if Split::of(&expression) != split {
        return None;
    }
    let query = fill(&UNITS.pick(split, rng), &[("v", amount), ("u", from), ("t", to)]);
    Some(task(query, format!("convert {expression}"), Answer::Number { value, tolerance }))
}

fn date(split: Split, rng: &mut TaskRng) -> Option<Task> {
    let (year, month, day) =
        (rng.random_range(1950..=2035), rng.random_range(1..=12), rng.random_range(1..=28));
    let start = Date::new(year, month, day).ok()?;
    let top = names::pick(rng, &[10_i64, 40, 400]);
    let days = rng.random_range(2..=top);
    let later = names::chance(rng, 0.5);
    let end = start.checked_add(if later { days.days() } else { (-days).days() }).ok()?;
    let expression = format!("@{start} {} {days} days", if later { '+' } else { '-' });
    if Split::of(&expression) != split {
        return None;
    }
    let wordings = if later { &AFTER } else { &BEFORE };
    let query = fill(&wordings.pick(split, rng), &[("d", &start.to_string()), ("k", &days.to_string())]);
    let accepted =
        vec![end.to_string(), end.strftime("%-d %B %Y").to_string(), end.strftime("%B %-d %Y").to_string()];
    Some(task(query, format!("compute {expression}"), Answer::Text { accepted }))
}

fn task(query: String, goal: String, answer: Answer) -> Task {
    let wrong = vec![WrongStep {
        at: 0,
        sub_goal: format!("find {}", knowledge::lower_query(&query)),
        tool: tool::SEARCH.to_string(),
    }];
    let steps = vec![Step::new("none", goal, tool::CALCULATOR, String::new())];
    Task::new(Family::Conversion, query, answer, steps, wrong)
}
