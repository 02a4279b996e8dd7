//! Word problems with small numbers: a story fixes an expression, the calculator does the rest.

use rand::Rng;

use crate::tasks::world::World;
use crate::tasks::{
    Answer, Family, Split, Step, Task, TaskRng, Wordings, WrongStep, check, fill, knowledge, names, tool,
};

/// A story: {a}, {b}, {c} are numbers, {p} is {a} times {b}, {q} a percentage of {h}, {n} and {m} people, {x} a thing in the plural.
struct Story {
    expression: &'static str,
    wordings: Wordings,
}

const STORIES: &[Story] = &[
    Story {
        expression: "{a}*{b}+{c}",
        wordings: Wordings {
            train: &[
                "{n} has {a} boxes with {b} {x} each and {c} more {x}. How many {x} does {n} have?",
                "{n} buys {a} bags of {b} {x} and finds {c} more. How many {x} are there?",
                "There are {a} rows of {b} {x}, and {c} more {x}. How many {x} are there in all?",
                "What is {a} times {b} plus {c}?",
                "Multiply {a} by {b} and add {c}.",
                "A shop gets {a} crates of {b} {x} and then {c} single {x}. How many {x} does the shop get?",
                "{c} {x} lie on a table, and {a} tins hold {b} {x} each. How many {x} is that together?",
                "{n} packs {a} cases with {b} {x} in every case and keeps {c} {x} besides. How many {x} is that?",
                "Every one of {a} children brings {b} {x}, and {n} brings {c}. How many {x} do they bring?",
                "{n} earns {b} coins an hour for {a} hours and a gift of {c} coins. How many coins does {n} earn?",
            ],
            gate: &["{n} has {a} bags with {b} {x} each and {c} more. How many {x} are there in all?"],
            held_out: &[
                "{n} buys {a} boxes of {b} {x} and gets {c} more {x}. How many {x} does {n} have?",
                "There are {a} bags of {b} {x} and {c} more {x}. How many {x} are there?",
            ],
        },
    },
    Story {
        expression: "{a}*{b}-{c}",
        wordings: Wordings {
            train: &[
                "{n} buys {a} boxes of {b} {x} and gives away {c}. How many {x} are left?",
                "{n} has {a} bags with {b} {x} each. {c} {x} are lost. How many {x} are left?",
                "There are {a} rows of {b} {x}. {n} takes {c}. How many {x} are left?",
                "What is {a} times {b} minus {c}?",
                "Multiply {a} by {b} and take away {c}.",
                "A shop gets {a} crates of {b} {x} and sells {c}. How many {x} remain?",
                "{a} tins hold {b} {x} each, and {n} eats {c} of the {x}. How many {x} remain?",
                "{n} packs {a} cases with {b} {x} in every case, but {c} break. How many whole {x} are there?",
                "{n} earns {b} coins an hour for {a} hours and spends {c} coins. How many coins remain?",
            ],
            gate: &["{n} has {a} boxes of {b} {x} and loses {c}. How many {x} are left?"],
            held_out: &[
                "There are {a} bags of {b} {x}. {n} gives away {c} {x}. How many {x} are left?",
                "{n} buys {a} bags with {b} {x} each and loses {c}. How many {x} does {n} have left?",
            ],
        },
    },
    Story {
        expression: "{a}+{b}-{c}",
        wordings: Wordings {
            train: &[
                "{n} has {a} {x} and gets {b} more. Then {n} gives away {c}. How many {x} are left?",
                "{n} finds {a} {x}, buys {b} {x} and loses {c}. How many {x} does {n} have?",
                "What is {a} plus {b} minus {c}?",
                "Add {a} and {b}, then take away {c}.",
                "A bus carries {a} people. {b} get on and {c} get off. How many people are on the bus?",
                "{n} has {a} {x}. {m} brings {b}, and {c} break. How many {x} remain?",
                "There are {a} {x} in a box. {n} puts {b} in and takes {c} out. How many {x} are in the box?",
                "{n} owns {a} {x}, earns another {b} and sells {c}. How many {x} does {n} own now?",
            ],
            gate: &["{n} has {a} {x}, finds {b} more and gives away {c}. How many {x} are left?"],
            held_out: &["{n} has {a} {x} and buys {b} more. {n} loses {c}. How many {x} does {n} have left?"],
        },
    },
    Story {
        expression: "{a}+{b}+{c}",
        wordings: Wordings {
            train: &[
                "{n} has {a} {x}, {m} has {b} and a friend has {c}. How many {x} do they have in all?",
                "{n} finds {a} {x} on one day, {b} on the next day and {c} on the last. How many {x} in all?",
                "What is {a} plus {b} plus {c}?",
                "Add {a}, {b} and {c}.",
                "A box holds {a} {x}, another {b} and the last one {c}. How many {x} do the boxes hold together?",
                "{n} sells {a} {x}, then {b} and then {c}. How many {x} does {n} sell altogether?",
                "{n} brings {a} {x}, {m} brings {b}, and {c} are there already. How many {x} is that together?",
                "There are {a} red, {b} blue and {c} green {x}. How many {x} are there together?",
            ],
            gate: &["{n} buys {a} {x}, {m} buys {b} and a friend buys {c}. How many {x} are there in all?"],
            held_out: &["{n} finds {a} {x}, {m} finds {b} and a friend has {c}. How many {x} do they have?"],
        },
    },
    Story {
        expression: "{p}/{b}",
        wordings: Wordings {
            train: &[
                "{n} shares {p} {x} among {b} friends. How many {x} does each friend get?",
                "{p} {x} are put in {b} equal boxes. How many {x} are in each box?",
                "{b} friends share {p} {x} equally. How many {x} does each get?",
                "What is {p} divided by {b}?",
                "Divide {p} by {b}.",
                "{n} packs {p} {x} into {b} crates with the same number in every crate. How many {x} does a crate hold?",
                "{p} {x} are for {b} children, the same for everyone. How many {x} are for each child?",
                "A rope of {p} cm is cut into {b} equal pieces. How many cm long is a piece?",
                "{b} shelves hold {p} {x}, all the same number. How many {x} are on one shelf?",
                "{n} splits {p} {x} into {b} equal heaps. How many {x} make a heap?",
            ],
            gate: &["{n} puts {p} {x} in {b} equal bags. How many {x} are in each bag?"],
            held_out: &[
                "{n} and some friends share {p} {x} equally among {b}. How many {x} does each get?",
                "{n} puts {p} {x} in {b} equal boxes. How many {x} does each box have?",
            ],
        },
    },
    Story {
        expression: "({a}+{b})*{c}",
        wordings: Wordings {
            train: &[
                "{n} eats {a} {x} and {m} eats {b} {x} every day. How many {x} do they eat in {c} days?",
                "{n} makes {a} {x} and {m} makes {b} {x} every hour. How many {x} do they make in {c} hours?",
                "What is the sum of {a} and {b}, times {c}?",
                "Add {a} and {b} and multiply by {c}.",
                "A lamp costs {a} coins and a chair {b} coins. How many coins do {c} of both cost?",
                "Each of {c} crates holds {a} red and {b} blue {x}. How many {x} do the crates hold?",
                "{n} sells {a} {x} each week and {m} sells {b}. How many {x} do both sell in {c} weeks?",
                "In a week {n} reads {a} pages and {m} {b} pages. How many pages do they read in {c} weeks?",
            ],
            gate: &["Every day {n} makes {a} {x} and {m} makes {b}. How many {x} do they make in {c} days?"],
            held_out: &[
                "Every day {n} finds {a} {x} and {m} finds {b}. How many {x} do they find in {c} days?",
            ],
        },
    },
    Story {
        expression: "{a}*{b}",
        wordings: Wordings {
            train: &[
                "One of the {x} costs {a} coins. How many coins do {b} of them cost?",
                "{n} walks {a} km every day. How many km does {n} walk in {b} days?",
                "{n} reads {a} pages every day. How many pages does {n} read in {b} days?",
                "What is {a} times {b}?",
                "Multiply {a} by {b}.",
                "{n} sells {a} {x} each week. How many {x} does {n} sell in {b} weeks?",
                "A crate holds {a} {x}. How many {x} do {b} crates hold?",
                "{b} children have {a} {x} each. How many {x} do they have together?",
                "A train drives {a} km an hour. How far does it drive in {b} hours?",
                "Each day {n} paints {a} {x}. How many {x} does {n} paint in {b} days?",
                "{n} picks {a} {x} in an hour. How many {x} does {n} pick in {b} hours?",
            ],
            gate: &["{n} makes {a} {x} every day. How many {x} does {n} make in {b} days?"],
            held_out: &[
                "{n} walks {a} km every hour. How many km does {n} walk in {b} hours?",
                "How many {x} are in {b} boxes with {a} {x} each?",
            ],
        },
    },
    Story {
        expression: "{q}*{h}/100",
        wordings: Wordings {
            train: &[
                "What is {q} % of {h}?",
                "{q} % of the {h} {x} are red. How many {x} are red?",
                "{n} has {h} {x} and sells {q} % of them. How many {x} does {n} sell?",
                "Work out {q} % of {h}.",
                "Take {q} % of {h}.",
                "A box holds {h} {x}, and {q} % of them are broken. How many {x} are broken?",
                "Of {h} people, {q} % have a dog. How many people have a dog?",
                "How many are {q} % of {h} {x}?",
            ],
            gate: &["How much is {q} % of {h}?"],
            held_out: &["{n} has {h} {x}. {q} % of the {x} are red. How many {x} are red?"],
        },
    },
    Story {
        expression: "({a}+{b}+{c})/3",
        wordings: Wordings {
            train: &[
                "What is the mean of {a}, {b} and {c}?",
                "{n} finds {a}, {b} and {c} {x} on three days. How many {x} is that per day on average?",
                "What is the average of {a}, {b} and {c}?",
                "Work out the average of {a}, {b} and {c}.",
                "Take the mean of {a}, {b} and {c}.",
                "Three boxes hold {a}, {b} and {c} {x}. How many {x} does a box hold on average?",
                "{n} sells {a}, {b} and {c} {x} in three weeks. What is the mean of a week?",
                "On average, how much are {a}, {b} and {c}?",
            ],
            gate: &["Tell me the average of {a}, {b} and {c}."],
            held_out: &[
                "{n} makes {a}, {b} and {c} {x} on three days. What is the average?",
                "Tell me the mean of {a}, {b} and {c}.",
            ],
        },
    },
];

const PEOPLE: &[&str] = &[
    "Anna", "Ben", "Clara", "David", "Ella", "Felix", "Grace", "Hugo", "Ida", "Jonas", "Kim", "Lena",
    "Marco", "Nina", "Oscar", "Paula", "Quentin", "Rosa", "Simon", "Tara", "Umar", "Vera", "Walter", "Xenia",
    "Yusuf", "Zoe", "Amir", "Bela", "Chen", "Dora", "Emil", "Fatima", "Gustav", "Hana", "Ivan", "Jana",
    "Karl", "Lucia", "Milo", "Nora",
];

const THINGS: &[&str] = &[
    "apples", "books", "coins", "eggs", "marbles", "pens", "stamps", "cards", "shells", "oranges", "stones",
    "tickets", "cookies", "nails", "balls", "beads", "buttons", "cups", "flowers", "lemons", "nuts", "plums",
    "potatoes", "ribbons", "candles", "chairs", "keys", "lamps", "spoons", "tiles",
];

#[cfg(test)]
pub(crate) fn wordings() -> Vec<&'static Wordings> {
    STORIES.iter().map(|story| &story.wordings).collect()
}

pub(crate) fn attempt(world: &World, split: Split, rng: &mut TaskRng) -> Option<Task> {
    let story = &STORIES[rng.random_range(0..STORIES.len())];
    let (one, two) = (person(world, split, rng)?, person(world, split, rng)?);
    let thing = thing(world, split, rng);
    let top = names::pick(rng, &[12_i64, 30, 99, 500]);
    let (a, b, c) = (rng.random_range(2..=top), rng.random_range(2..=top.min(99)), rng.random_range(2..=top));
    // Shares and percentages come out whole.
    let product = (a * b).to_string();
    let (percent, hundred) = (rng.random_range(1..=19) * 5, rng.random_range(1..=25) * 20);
    let (percent, hundred) = (percent.to_string(), hundred.to_string());
    let (a, b, c) = (a.to_string(), b.to_string(), c.to_string());
    let values = [
        ("a", a.as_str()),
        ("b", &b),
        ("c", &c),
        ("p", &product),
        ("q", &percent),
        ("h", &hundred),
        ("n", &one),
        ("m", &two),
        ("x", &thing),
    ];
    let expression = fill(story.expression, &values);
    let value = check::evaluate(&expression)?.to_f64();
    if one == two || value < 0.0 || Split::of(&expression) != split {
        return None;
    }
    let query = fill(story.wordings.pick(split, rng), &values);
    let steps = vec![Step::new("none", format!("compute {expression}"), tool::CALCULATOR, String::new())];
    let wrong = vec![WrongStep {
        at: 0,
        sub_goal: format!("find {}", knowledge::lower_query(&query)),
        tool: tool::SEARCH.to_string(),
    }];
    let answer = Answer::Number { value, tolerance: (value.abs() * 0.002).clamp(1e-6, 0.01) };
    Some(Task::new(Family::Arithmetic, query, answer, steps, wrong))
}

/// A name of the split; in a made-up world mostly a made-up one.
fn person(world: &World, split: Split, rng: &mut TaskRng) -> Option<String> {
    if !world.real && names::chance(rng, 0.6) {
        return Some(names::title(rng));
    }
    let name = names::pick(rng, PEOPLE);
    (Split::of(name) == split).then(|| name.to_string())
}

fn thing(world: &World, split: Split, rng: &mut TaskRng) -> String {
    if !world.real && names::chance(rng, 0.3) {
        return format!("{}s", names::word(rng));
    }
    let fitting: Vec<&str> = THINGS.iter().copied().filter(|t| Split::of(t) == split).collect();
    names::pick(rng, &fitting).to_string()
}
