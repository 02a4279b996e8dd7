//! Look-ups in a world's facts: one to three hops, and arithmetic on what was looked up.
//!
//! A chain is a random walk over facts. Forward: from an entity to a value ("the capital of Peru").
//! Inverse: from a value to the entity that has it ("the country whose capital is Lima").

use rand::Rng;

use crate::tasks::world::{Fact, World};
use crate::tasks::{
    Answer, Family, Split, Step, Task, TaskRng, Wordings, WrongStep, check, fill, names, tool,
};

/// {d} is a description such as "the currency of the country whose capital is Lima".
const ASK: Wordings = Wordings {
    train: &[
        "[What is|What's] {d}?",
        "Tell me {d}.",
        "[I need|I am looking for|I am after] {d}.",
        "[Find|Look up|Search|Fetch] {d}.",
        "Give me {d}, please.",
        "[Please look up|Please find|Kindly find] {d}.",
        "[Can|Will|Would] you [find|look up|get me] {d}[| for me]?",
        "I [would like|have] to know {d}.",
        "What do we know about {d}?",
        "Do you know {d}?",
        "[Help me with|Help me find] {d}.",
        "My question is about {d}.",
        "Which one is {d}?",
        "Someone asked me for {d}; who knows it?",
        "Let me know {d} when you have it.",
        "{d}, if you can find it.",
        "{d}[?|, please.|: what is it?]",
        "What would {d} be?",
        "[Any idea what|Can anyone say what|I wonder what|Say what] {d} is[?|.]",
    ],
    gate: &["Look up {d} for me.", "Do you know what {d} is?", "Please give me {d}."],
    held_out: &["Could you tell me {d}?", "I want to find {d}.", "Please tell me what {d} is."],
};

/// Wordings for one hop only: entity {e}, relation {r}.
const ASK_TURNED: Wordings = Wordings {
    train: &[
        "For {e}, what is the {r}?",
        "{e}: what is its {r}?",
        "Does anyone know which {r} belongs to {e}?",
        "Name the {r} that {e} has.",
        "When it comes to {e}, which {r} is listed?",
        "[I am asking for|I ask about] {e}: give me the {r}.",
        "{e}, and of it the {r}, please.",
        "Regarding {e}: which {r} is known?",
        "Look at {e} and say which {r} it has.",
        "[Take|Think of] {e}. What is its {r}?",
        "[The {r}|Its {r}] is what I want of {e}.",
        "{e}'s {r}[?|, please.|: what is it?]",
        "[Tell me|Find|Give me] {e}'s {r}.",
    ],
    gate: &["About {e}: tell me its {r}."],
    held_out: &["What {r} does {e} have?"],
};

/// Relations whose values may name their entity. Others repeat, or read badly.
const INVERSE: &[&str] = &[
    "capital",
    "symbol",
    "currency",
    "mayor",
    "founder",
    "anthem",
    "leader",
    "captain",
    "owner",
    "mascot",
    "national bird",
    "secret word",
    "nickname",
    "atomic number",
    "largest port",
];

#[cfg(test)]
pub(crate) fn wordings() -> Vec<&'static Wordings> {
    vec![&ASK, &ASK_TURNED]
}

#[cfg(test)]
pub(crate) fn arithmetic_wordings() -> Vec<&'static Wordings> {
    TWO.iter().map(|operation| &operation.wordings).chain(ONE.iter().map(|(_, wordings)| wordings)).collect()
}

struct Hop {
    fact: usize,
    inverse: bool,
}

/// Resolved name before each hop, description so far, and the hops.
struct Walk {
    names: Vec<String>,
    description: String,
    hops: Vec<Hop>,
}

fn goal(fact: &Fact, inverse: bool, name: &str) -> String {
    if inverse {
        format!("the {} whose {} is {name}", fact.kind, fact.relation)
    } else {
        format!("the {} of {name}", fact.relation)
    }
}

/// May the value stand for its entity: a fitting relation, held by exactly one entity.
fn can_invert(world: &World, index: usize) -> bool {
    let fact = &world.facts[index];
    INVERSE.contains(&fact.relation.as_str())
        && world.with_value(&fact.value).iter().filter(|&&i| world.facts[i].relation == fact.relation).count()
            == 1
}

fn walk(world: &World, hops: usize, rng: &mut TaskRng) -> Option<Walk> {
    if world.facts.is_empty() {
        return None;
    }
    let first = rng.random_range(0..world.facts.len());
    let inverse = hops > 1 && names::chance(rng, 0.5);
    if inverse && !can_invert(world, first) {
        return None;
    }
    let fact = &world.facts[first];
    let start = if inverse { &fact.value } else { &fact.entity };
    let mut walk = Walk {
        names: vec![start.clone()],
        description: goal(fact, inverse, start),
        hops: vec![Hop { fact: first, inverse }],
    };
    let mut current = if inverse { fact.entity.clone() } else { fact.value.clone() };
    while walk.hops.len() < hops {
        // Back to a name that was there makes no longer chain; a number shared by chance is no link.
        let seen = |name: &String| *name == current || walk.names.contains(name);
        let mut ways: Vec<(usize, bool)> = world
            .about(&current)
            .iter()
            .filter(|&&i| !seen(&world.facts[i].value))
            .map(|&i| (i, false))
            .collect();
        if walk.hops.len() + 1 < hops && current.parse::<f64>().is_err() {
            let joined = world.with_value(&current).iter();
            let joined = joined.filter(|&&i| can_invert(world, i) && !seen(&world.facts[i].entity));
            ways.extend(joined.map(|&i| (i, true)));
        }
        if ways.is_empty() {
            return None;
        }
        let (index, inverse) = names::pick(rng, &ways);
        let fact = &world.facts[index];
        walk.description = goal(fact, inverse, &walk.description);
        walk.names.push(current);
        current = if inverse { fact.entity.clone() } else { fact.value.clone() };
        walk.hops.push(Hop { fact: index, inverse });
    }
    Some(walk)
}

/// A task of `hops` look-ups.
pub(crate) fn chain(world: &World, split: Split, hops: usize, rng: &mut TaskRng) -> Option<Task> {
    let walk = walk(world, hops, rng)?;
    let mut entities = walk.hops.iter().map(|hop| world.facts[hop.fact].entity.as_str());
    if !entities.all(|entity| world.allows(entity, split)) {
        return None;
    }
    let last = &world.facts[walk.hops[hops - 1].fact];
    let query = if hops == 1 && names::chance(rng, 0.3) {
        fill(&ASK_TURNED.pick(split, rng), &[("e", &last.entity), ("r", &last.relation)])
    } else {
        fill(&ASK.pick(split, rng), &[("d", &walk.description)])
    };
    let steps = walk
        .hops
        .iter()
        .zip(&walk.names)
        .enumerate()
        .map(|(at, (hop, name))| {
            let fact = &world.facts[hop.fact];
            let context = if at == 0 { "none" } else { name };
            Step::new(
                context,
                format!("find {}", goal(fact, hop.inverse, name)),
                tool::SEARCH,
                fact.sentence(),
            )
        })
        .collect();
    let mut wrong = vec![WrongStep {
        at: 0,
        sub_goal: format!("compute {}", walk.description),
        tool: tool::CALCULATOR.to_string(),
    }];
    if hops > 1 {
        wrong.push(WrongStep {
            at: 0,
            sub_goal: format!("find {}", walk.description),
            tool: tool::SEARCH.to_string(),
        });
    }
    let family = [Family::Lookup, Family::Hop2, Family::Hop3][hops - 1];
    Some(Task::new(family, query, value_answer(last), steps, wrong))
}

/// What counts as giving this fact's value. Numbers are copied, so they must be exact.
fn value_answer(fact: &Fact) -> Answer {
    match fact.number() {
        Some(value) => Answer::Number { value, tolerance: value.abs() * 1e-9 },
        None => Answer::Text { accepted: vec![fact.value.clone()] },
    }
}

/// What is asked of two looked-up numbers. {a}, {b} are descriptions, {y} is the second entity.
struct Operation {
    symbol: &'static str,
    wordings: Wordings,
}

const TWO: &[Operation] = &[
    Operation {
        symbol: "-",
        wordings: Wordings {
            train: &[
                "What is {a} minus {b}?",
                "[What is|Tell me|Give me] the difference between {a} and {b}.",
                "By how much does {a} exceed {b}?",
                "How much larger is {a} than that of {y}?",
                "[Subtract|Take] {b} from {a}.",
                "[Work out|Compute|Calculate|Find|Get] {a} minus {b}.",
                "What is the [gap|distance] between {a} and {b}?",
                "How far is {a} above {b}?",
                "What remains of {a} when {b} is taken away?",
                "[If I take {b} from {a}, what remains|When {b} goes away from {a}, what is left]?",
                "[How much bigger|How much greater] is {a} [than that of {y}|compared with {b}]?",
            ],
            gate: &["Tell me {a} minus {b}."],
            held_out: &["How much more is {a} than {b}?", "Find the difference between {a} and {b}."],
        },
    },
    Operation {
        symbol: "+",
        wordings: Wordings {
            train: &[
                "What is {a} plus {b}?",
                "Add {a} and {b}[| up| together].",
                "What do {a} and {b} make together?",
                "What is the total of {a} and that of {y}?",
                "[Work out|Compute|Calculate|Get] {a} plus {b}.",
                "How much are {a} and {b} together?",
                "Put {a} and {b} together.",
                "What do I get from {a} plus that of {y}?",
                "[Give me|Work out|Compute] the [sum|total] of {a} [and that of {y}|with {b}].",
                "[When I add|If I add] {a} to {b}, what [comes out|is it]?",
                "[Sum up|Total] {a} and {b}.",
            ],
            gate: &["Tell me {a} plus {b}."],
            held_out: &["What is the total of {a} and {b}?", "Find the sum of {a} and {b}."],
        },
    },
    Operation {
        symbol: "/",
        wordings: Wordings {
            train: &[
                "What is {a} divided by {b}?",
                "What is the ratio of {a} to {b}?",
                "Divide {a} by {b}.",
                "What is {a} divided by that of {y}?",
                "[Work out|Compute|Calculate|Get] {a} divided by {b}.",
                "How often does {b} [fit|go] into {a}?",
                "By what factor is {a} larger than {b}?",
                "[Compute|Work out|Give me] the ratio of {a} to that of {y}.",
                "[How many times|How often] [as large as|greater than] {b} is {a}?",
                "[If I divide|When I divide] {a} by {b}, what comes out?",
            ],
            gate: &["Tell me {a} divided by {b}."],
            held_out: &["Find the ratio of {a} to {b}.", "How many times larger is {a} than that of {y}?"],
        },
    },
];

/// (expression after the number, wordings) for one looked-up number.
const ONE: &[(&str, Wordings)] = &[
    (
        "/2",
        Wordings {
            train: &[
                "What is half of {a}?",
                "[Tell me|Compute|Calculate|Work out|Get] half of {a}.",
                "How much is {a} divided by two?",
                "Halve {a}.",
                "Divide {a} by two.",
                "[Cut|Split] {a} in half[| for me].",
                "[How much|What] is one half of {a}?",
            ],
            gate: &["Give me half of {a}."],
            held_out: &["Find half of {a}."],
        },
    ),
    (
        "*2",
        Wordings {
            train: &[
                "What is twice {a}?",
                "[Tell me|Compute|Calculate|Work out|Get] twice {a}.",
                "What is {a} times two?",
                "Double {a}.",
                "Multiply {a} by two.",
                "[How much|What] is the double of {a}?",
                "[Take|Get] {a} two times.",
            ],
            gate: &["Give me twice {a}."],
            held_out: &["Find twice {a}."],
        },
    ),
    (
        "/10",
        Wordings {
            train: &[
                "What is a tenth of {a}?",
                "[Tell me|Compute|Calculate|Work out|Get] a tenth of {a}.",
                "How much is {a} divided by ten?",
                "Divide {a} by ten.",
                "What is one tenth of {a}?",
                "[Split|Cut] {a} into ten parts: how much is one?",
            ],
            gate: &["Give me a tenth of {a}."],
            held_out: &["Find a tenth of {a}."],
        },
    ),
];

/// Numbers that only a difference makes sense of.
const ONLY_DIFFERENCE: &[&str] = &["birth year", "atomic number", "postal code", "calling code"];

/// A numeric fact about an entity of the split, not too small to compare.
fn numeric<'a>(world: &'a World, split: Split, rng: &mut TaskRng) -> Option<&'a Fact> {
    let fact = world.facts.get(rng.random_range(0..world.facts.len().max(1)))?;
    let fits = fact.number().is_some_and(|n| n >= 2.0) && world.allows(&fact.entity, split);
    fits.then_some(fact)
}

/// One or two look-ups, then the calculator.
pub(crate) fn with_arithmetic(world: &World, split: Split, rng: &mut TaskRng) -> Option<Task> {
    let first = numeric(world, split, rng)?;
    let a = format!("the {} of {}", first.relation, first.entity);
    let mut steps = vec![Step::new("none", format!("find {a}"), tool::SEARCH, first.sentence())];
    let counts = !ONLY_DIFFERENCE.contains(&first.relation.as_str());
    let (query, expression) = if counts && names::chance(rng, 0.3) {
        let (suffix, wordings) = &ONE[rng.random_range(0..ONE.len())];
        (fill(&wordings.pick(split, rng), &[("a", &a)]), format!("{}{suffix}", first.value))
    } else {
        let fits = |fact: &&Fact| {
            (&fact.kind, &fact.relation) == (&first.kind, &first.relation)
                && fact.entity != first.entity
                && fact.number().is_some_and(|n| n >= 2.0 && Some(n) < first.number())
                && world.allows(&fact.entity, split)
        };
        let others: Vec<&Fact> = world.facts.iter().filter(fits).collect();
        let second = others.get(rng.random_range(0..others.len().max(1)))?;
        let operation = &TWO[if counts { rng.random_range(0..TWO.len()) } else { 0 }];
        let b = format!("the {} of {}", second.relation, second.entity);
        steps.push(Step::new("none", format!("find {b}"), tool::SEARCH, second.sentence()));
        let wording = operation.wordings.pick(split, rng);
        (
            fill(&wording, &[("a", &a), ("b", &b), ("y", &second.entity)]),
            format!("{}{}{}", first.value, operation.symbol, second.value),
        )
    };
    let value = check::evaluate(&expression)?.to_f64();
    let context = if steps.len() == 2 {
        format!("{}, {}", first.value, steps_value(world, &steps[1]))
    } else {
        first.value.clone()
    };
    steps.push(Step::new(&context, format!("compute {expression}"), tool::CALCULATOR, String::new()));
    let wrong = vec![
        WrongStep {
            at: 0,
            sub_goal: format!("find {}", lower_query(&query)),
            tool: tool::SEARCH.to_string(),
        },
        WrongStep { at: 0, sub_goal: format!("compute {a}"), tool: tool::CALCULATOR.to_string() },
    ];
    let answer =
        Answer::Number { value, tolerance: if expression.contains('/') { value.abs() * 1e-3 } else { 1e-6 } };
    Some(Task::new(Family::LookupArithmetic, query, answer, steps, wrong))
}

fn steps_value(world: &World, step: &Step) -> String {
    world.facts.iter().find(|fact| fact.sentence() == step.gives).map(|f| f.value.clone()).unwrap_or_default()
}

/// A query as a sub-goal's object: no mark at the end, small first letter.
pub(crate) fn lower_query(query: &str) -> String {
    let body = query.trim_end_matches(['?', '.']);
    let mut letters = body.chars();
    letters.next().map(|c| c.to_lowercase().chain(letters).collect()).unwrap_or_default()
}
