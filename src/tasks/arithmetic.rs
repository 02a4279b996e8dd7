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
                "{n} [has|owns|keeps|carries|holds] {a} [boxes|bags|jars|packets|tins|baskets|drawers] [with|of|holding] {b} {x} [each|apiece] and {c} [extra|loose|other|single] {x}. How many {x} [does {n} have|is that|are there|does {n} own|make that]?",
                "{n} [orders|gets|collects|picks up|is given|fetches] {a} [packs|trays|bundles|cartons|sacks] of {b} {x} and [finds|adds|borrows|receives|is sent] {c} [more|others|single ones]. [How many {x} are there|How many {x} is that|How many {x} does {n} have now|What number of {x} is that]?",
                "[There are|We count|Somebody counts|Here stand] {a} [rows|stacks|piles|lines|groups] of {b} {x}, [and|plus|besides] {c} [more|extra|single|loose] {x}. How many {x} [is that|are there in all|are there together|do we count]?",
                "[What is|How much is] {a} times {b} plus {c}?",
                "[Work out|Compute|Calculate|Find|Give me] {a} times {b}, plus {c}.",
                "[What is|How much is|Compute|Calculate|Work out] [{a}*{b}+{c}|{a} * {b} + {c}|{a} x {b} + {c}]?",
                "[Multiply {a} by {b}|Take {a} times {b}] and add {c}.",
                "A [shop|school|farm|hotel|library] [gets|receives|orders|stores] {a} [crates|boxes|pallets] of {b} {x} and then {c} single {x}. How many {x} is that[| in all| together]?",
                "{c} {x} [lie|stand|are] [on a table|on the floor|in a drawer|outside], and {a} [tins|boxes|bags] [hold|contain] {b} {x} each. How many {x} is that [together|in all|altogether]?",
                "{n} packs {a} cases with {b} {x} in [every|each] case and keeps {c} {x} besides. How many {x} is that?",
                "Every one of {a} [children|friends|teams|guests] brings {b} {x}, and {n} brings {c}. How many {x} [do they bring|are brought|are there then]?",
                "{n} earns {b} coins an hour for {a} hours and [a gift of|a tip of|a bonus of] {c} coins. How many coins [does {n} earn|is that]?",
                "If {n} [takes|unpacks|opens] {a} [boxes|bags|bundles] of {b} {x} and [then|later] finds {c}, how many {x} [is that|are there|does {n} have]?",
                "{n} [saves|puts by|lays aside] {b} {x} [a|every|each] day for {a} days and {c} on the last evening. How many {x} [is that|are saved|are there]?",
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
                "{n} [orders|gets|collects|is given] {a} [packs|trays|cartons|sacks] of {b} {x} and [gives {c} to {m}|sells {c}|eats {c}|throws {c} away]. How many {x} [remain|stay|are left over|does {n} keep]?",
                "{n} has {a} [jars|packets|tins|baskets] with {b} {x} [each|apiece]. {c} {x} are [lost|sold|broken|eaten|stolen]. How many {x} [remain|are left|are still there]?",
                "[There are|We count|Here stand] {a} [rows|stacks|piles|lines] of {b} {x}. {n} [takes|removes|sells|uses] {c}. How many {x} [remain|are still there|stay]?",
                "[What is|How much is] {a} times {b} minus {c}?",
                "[Work out|Compute|Calculate|Find|Give me] {a} times {b}, minus {c}.",
                "[What is|How much is|Compute|Calculate|Work out] [{a}*{b}-{c}|{a} * {b} - {c}|{a} x {b} - {c}]?",
                "[Multiply {a} by {b}|Take {a} times {b}] and [take away|subtract] {c}.",
                "A [shop|school|farm|hotel] gets {a} [crates|boxes|pallets] of {b} {x} and [sells|uses|returns] {c}. How many {x} [remain|are left over|stay]?",
                "{a} tins hold {b} {x} each, and {n} eats {c} of the {x}. How many {x} remain?",
                "{n} packs {a} cases with {b} {x} in [every|each] case, but {c} [break|are bad|fall out]. How many [whole|good] {x} are there?",
                "{n} earns {b} coins an hour for {a} hours and [spends|pays|loses] {c} coins. How many coins [remain|does {n} keep]?",
                "If {n} [takes|unpacks|opens] {a} [boxes|bags|bundles] of {b} {x} and [drops|loses|sells|hands out] {c}, how many {x} [remain|are left|does {n} keep]?",
                "Of {a} [bundles|bags|boxes] of {b} {x} each, {c} {x} are [missing|sold|gone]. How many {x} [remain|are still there]?",
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
                "{n} has {a} {x} and [gets|receives|collects|is given] {b} [more|others]. Then {n} [gives away|sells|drops|uses] {c}. How many {x} [remain|are left|does {n} keep]?",
                "{n} [collects|picks|makes] {a} {x}, [buys|gets|receives] {b} {x} and [sells|eats|uses] {c}. How many {x} [remain|does {n} keep|stay]?",
                "[What is|How much is] {a} plus {b} minus {c}?",
                "[Work out|Compute|Calculate|Find|Give me] {a} plus {b}, minus {c}.",
                "[What is|How much is|Compute|Calculate|Work out] [{a}+{b}-{c}|{a} + {b} - {c}]?",
                "Add {a} and {b}, then [take away|subtract] {c}.",
                "A [bus|train|ship|lift] carries {a} people. {b} [get on|come in|board] and {c} [get off|leave|go]. How many people are [on board|in it] now?",
                "{n} has {a} {x}. {m} brings {b}, and {c} [break|are eaten|are sold|get lost]. How many {x} [remain|are left over]?",
                "There are {a} {x} in a [box|drawer|bag|room]. {n} [puts {b} in|adds {b}|brings {b}] and takes {c} [out|away]. How many {x} [are in it now|remain there]?",
                "{n} owns {a} {x}, earns another {b} and sells {c}. How many {x} does {n} own now?",
                "[First|At first] there are {a} {x}, then {b} [come|arrive|are added], then {c} [go|leave|are taken]. How many {x} [remain|is that|are left at the end]?",
                "If {n} starts with {a} {x}, gets {b} and [loses|gives {m}|spends] {c}, how many {x} [remain|are left|is that]?",
                "{m} gives {n} {b} {x}. {n} had {a} before and [sells|breaks|eats] {c} later. How many {x} does {n} [have now|keep]?",
            ],
            gate: &["{n} has {a} {x}, finds {b} more and gives away {c}. How many {x} are left?"],
            held_out: &["{n} has {a} {x} and buys {b} more. {n} loses {c}. How many {x} does {n} have left?"],
        },
    },
    Story {
        expression: "{a}+{b}+{c}",
        wordings: Wordings {
            train: &[
                "{n} has {a} {x}, {m} has {b} and [an uncle|a neighbour|a sister|another child] has {c}. How many {x} [do they have in all|is that|do they own together]?",
                "{n} finds {a} {x} on one day, {b} on the next day and {c} on the last. How many {x} [in all|is that]?",
                "[What is|How much is] {a} plus {b} plus {c}?",
                "[Work out|Compute|Calculate|Find|Give me] {a} plus {b} plus {c}.",
                "[What is|How much is|Compute|Calculate|Work out] [{a}+{b}+{c}|{a} + {b} + {c}]?",
                "Add {a}, {b} and {c}[| together| up].",
                "[What is|Give me|Find] the [sum|total] of {a}, {b} and {c}.",
                "A [box|bag|shelf|drawer] holds {a} {x}, another {b} and the last one {c}. How many {x} [do they hold together|is that|are there together]?",
                "{n} [sells|paints|washes|makes|counts] {a} {x}, then {b} and then {c}. How many {x} [is that|is that altogether|are there altogether]?",
                "{n} brings {a} {x}, {m} brings {b}, and {c} are there already. How many {x} is that together?",
                "There are {a} red, {b} blue and {c} green {x}. How many {x} [are there together|is that|are there of all colours]?",
                "If {n} [takes|gets|picks] {a} {x}, {m} {b} and [a child|somebody|their aunt] {c}, how many {x} [is that|do they have|are taken]?",
                "On [Monday|Friday|Sunday] {n} [sees|gets|buys] {a} {x}, a day later {b} and after that {c}. How many {x} [is that|in all three days]?",
            ],
            gate: &["{n} buys {a} {x}, {m} buys {b} and a friend buys {c}. How many {x} are there in all?"],
            held_out: &["{n} finds {a} {x}, {m} finds {b} and a friend has {c}. How many {x} do they have?"],
        },
    },
    Story {
        expression: "{p}/{b}",
        wordings: Wordings {
            train: &[
                "{n} shares {p} {x} [among|between|with] {b} [friends|children|people|neighbours]. How many {x} does [each friend|each child|each person|every one of them] get?",
                "{p} {x} are [put|packed|laid|sorted] in {b} equal [jars|rows|piles|trays]. How many {x} are in [each|one of them|every one]?",
                "{b} [friends|children|guests|players] share {p} {x} [equally|evenly|fairly]. How many {x} [for each|are for each|does one of them get]?",
                "[What is|How much is] {p} divided by {b}?",
                "[Work out|Compute|Calculate|Find|Give me] {p} divided by {b}.",
                "[What is|How much is|Compute|Calculate|Work out] [{p}/{b}|{p} / {b}]?",
                "Divide {p} by {b}.",
                "{n} packs {p} {x} into {b} [crates|cases|tins] with the same number in every one. How many {x} does one hold?",
                "{p} {x} are for {b} children, the same for everyone. How many {x} are for each child?",
                "A [rope|board|pipe|ribbon] of {p} cm is [cut|sawn|split] into {b} equal pieces. How [many cm long|long] is a piece?",
                "{b} [shelves|drawers|boxes] hold {p} {x}, all the same number. How many {x} are on one?",
                "{n} splits {p} {x} into {b} equal [heaps|parts|groups]. How many {x} [make|are in] one?",
                "If {b} [people|workers|teams] [get|divide|split] {p} {x} evenly, how many {x} [is that each|has each of them]?",
                "How many {x} [does each of {b} people get|go to each of {b} people] when {p} {x} are [shared|divided|handed out]?",
                "{n} [reads|walks|uses up|eats] {p} {x} in {b} days, the same number each day. How many {x} is that [a|per] day?",
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
                "{n} [makes|packs|washes|sells] {a} {x} and {m} {b} {x} [every|each|an] hour. How many {x} is that in {c} hours?",
                "[What is|How much is] the sum of {a} and {b}, times {c}?",
                "[Work out|Compute|Calculate|Find] the sum of {a} and {b}, times {c}.",
                "[What is|How much is|Compute|Calculate|Work out] [({a}+{b})*{c}|({a} + {b}) * {c}|({a} + {b}) x {c}]?",
                "Add {a} and {b} and multiply [by|the sum by] {c}.",
                "A [lamp|bowl|ticket] costs {a} coins and a [chair|spoon|meal] {b} coins. How many coins [do {c} of both cost|are {c} of both]?",
                "Each of {c} [crates|bags|boxes] holds {a} red and {b} blue {x}. How many {x} [do the crates hold|is that|are there together]?",
                "{n} sells {a} {x} each week and {m} sells {b}. How many {x} do both sell in {c} weeks?",
                "In a week {n} reads {a} pages and {m} {b} pages. How many pages do they read in {c} weeks?",
                "[On each of|For] {c} days {n} [buys|picks|uses] {a} {x} and {m} {b}. How many {x} is that [in all|together|]?",
                "If {n} [takes|needs|gives] {a} {x} a [day|week|month] and {m} {b}, how many {x} do both [take|need|give] in {c}?",
                "{c} [children|teams|guests] each get {a} big and {b} small {x}. How many {x} [is that|are given|do they get]?",
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
                "One of the {x} costs {a} coins. How many coins [do {b} of them cost|are {b} of them]?",
                "{n} [runs|rides|drives|sails] {a} km [every|each] [day|week|morning]. How [many km|far] does {n} [run|ride|drive|sail] in {b}?",
                "{n} [reads|writes|copies|prints] {a} pages [every|each] day. How many pages [is that|does {n} finish] in {b} days?",
                "[What is|How much is] {a} times {b}?",
                "[Work out|Compute|Calculate|Find|Give me] {a} times {b}.",
                "[What is|How much is|Compute|Calculate|Work out] [{a}*{b}|{a} * {b}|{a} x {b}]?",
                "[Multiply {a} by {b}|Take {a} times {b}].",
                "{n} sells {a} {x} each week. How many {x} does {n} sell in {b} weeks?",
                "A [crate|sack|case|truck] holds {a} {x}. How many {x} [do {b} crates hold|are in {b} of these|fit into {b}]?",
                "{b} [children|workers|houses|teams] [have|own|get] {a} {x} each. How many {x} [do they have together|is that|are there altogether]?",
                "A train drives {a} km an hour. How far does it drive in {b} hours?",
                "Each day {n} [paints|mends|bakes|sorts] {a} {x}. How many {x} [is that in {b} days|after {b} days]?",
                "{n} picks {a} {x} in an hour. How many {x} does {n} pick in {b} hours?",
                "[If there|Suppose there] are {a} {x} in [one box|a bag|each jar], how many {x} are in {b}?",
                "{n} [has|carries|stacks] {b} [trays|racks|rows] of {a} {x}. How many {x} [is that|are there]?",
                "How many {x} does {n} [need|use] for {b} [days|tables|cakes] with {a} {x} for each?",
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
                "[What is|What are] {q} % of {h}?",
                "[Work out|Compute|Calculate|Find|Give me|Take] {q} % of {h}.",
                "{q} % of the {h} {x} are [red|old|new|ripe|sold]. How many {x} [is that|are these|are that]?",
                "{n} has {h} {x} and [sells|eats|loses|gives {m}] {q} % of them. How many {x} [is that|does {n} sell|are gone]?",
                "A [box|shop|cellar] holds {h} {x}, and {q} % of them are [broken|green|wet|missing]. How many {x} [is that|are these]?",
                "Of {h} people, {q} % have a [dog|car|garden|bicycle]. How many people [have one|is that]?",
                "How many are {q} % of {h} {x}?",
                "[Among|Out of] {h} {x}, {q} % [belong to {n}|are {n}'s|are bad]. How many {x} [is that|belong there]?",
                "If {q} % of {h} {x} are [sold|taken|eaten], how many {x} [is that|are sold]?",
            ],
            gate: &["How much is {q} % of {h}?"],
            held_out: &["{n} has {h} {x}. {q} % of the {x} are red. How many {x} are red?"],
        },
    },
    Story {
        expression: "({a}+{b}+{c})/3",
        wordings: Wordings {
            train: &[
                "[What is|How much is] the [mean|average] of {a}, {b} and {c}?",
                "{n} finds {a}, {b} and {c} {x} on three days. How many {x} is that [per day on average|a day on average|in the mean]?",
                "[Work out|Compute|Calculate|Find|Give me] the [mean|average] of {a}, {b} and {c}.",
                "Take the [mean|average] of {a}, {b} and {c}.",
                "Three [boxes|jars|sacks] hold {a}, {b} and {c} {x}. How many {x} does [a box|one] hold on average?",
                "{n} sells {a}, {b} and {c} {x} in three weeks. What is the [mean|average] of a week?",
                "On average, how much are {a}, {b} and {c}?",
                "{n}, {m} and [a friend|an aunt|a boy] have {a}, {b} and {c} {x}. What is [the average|the mean|their average]?",
                "[Over|In] three [days|weeks|months] {n} [counts|buys|gets] {a}, {b} and {c} {x}. [What is the average|What is the mean|How many is that on average]?",
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
    let query = fill(&story.wordings.pick(split, rng), &values);
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
