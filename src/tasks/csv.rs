//! Counting, adding up and finding extremes in a named CSV file with a short program.

use rand::Rng;

use crate::tasks::world::{CsvFile, World};
use crate::tasks::{
    Answer, Family, Split, Step, Task, TaskRng, Wordings, WrongStep, fill, knowledge, names, tool,
};

/// {f} file, {w} condition ("where age > 30"), {c} column.
const COUNT: Wordings = Wordings {
    train: &[
        "How many rows of {f} are there {w}?",
        "How many rows does {f} have {w}?",
        "In {f}, how many rows are there {w}?",
        "[Count|Number] the rows of {f} {w}.",
        "[Give me|Find|Get] the number of rows in {f} {w}.",
        "Tell me the row count of {f} {w}.",
        "Find how many rows {f} holds {w}.",
        "[Open|Read|Load|Take] {f} and count [its|the] rows {w}.",
        "How many [rows|lines|records|entries] in {f} {w}?",
        "[Work out|Compute] the number of [rows|lines|records|entries] {f} has {w}.",
        "[Look into|Look at|Go through] {f}: how many [rows|lines|records] [are there|does it have] {w}?",
        "How [long is|many entries has] {f} {w}?",
    ],
    gate: &["In {f}, count the rows {w}."],
    held_out: &["What is the number of rows of {f} {w}?", "Tell me how many rows {f} has {w}."],
};

const SUM: Wordings = Wordings {
    train: &[
        "What is the sum of {c} in {f} {w}?",
        "Add up {c} in {f} {w}.",
        "What is the total {c} in {f} {w}?",
        "In {f}, what is the sum of {c} {w}?",
        "[Give me|Find|Get] the sum of {c} of {f} {w}.",
        "Sum {c} over the rows of {f} {w}.",
        "How much is {c} of {f} in total {w}?",
        "[Work out|Compute|Calculate] the sum of {c} for {f} {w}.",
        "[Open|Read|Load|Take] {f} and [add up|sum|total] [its|the column] {c} {w}.",
        "Find the total of {c} in {f} {w}.",
        "[Look into|Go through] {f}: what does {c} [add up to|come to] {w}?",
        "[All|All the] {c} of {f} [together|added up] {w}: how much is it?",
    ],
    gate: &["In {f}, add up {c} {w}."],
    held_out: &["Tell me the total {c} of {f} {w}.", "In {f}, what is the total {c} {w}?"],
};

const MAX: Wordings = Wordings {
    train: &[
        "What is the largest {c} in {f} {w}?",
        "What is the highest {c} of {f} {w}?",
        "[Find|Get|Look for] the [highest|top|biggest] {c} in {f} {w}.",
        "What is the maximum of {c} in {f} {w}?",
        "How high does {c} go in {f} {w}?",
        "[Open|Read|Load|Take] {f} and find [the largest|its greatest] {c} {w}.",
        "[Work out|Compute] the [top|maximum] {c} of {f} {w}.",
        "[Look into|Go through] {f}: which is the [biggest|highest|largest] {c} {w}?",
        "[Which|What] {c} of {f} is [the greatest|the highest|the maximum] {w}?",
    ],
    gate: &["Give me the largest {c} of {f} {w}."],
    held_out: &["In {f}, what is the highest {c} {w}?", "Tell me the largest {c} in {f} {w}."],
};

const MIN: Wordings = Wordings {
    train: &[
        "What is the smallest {c} in {f} {w}?",
        "What is the lowest {c} of {f} {w}?",
        "[Find|Get|Look for] the [lowest|least] {c} in {f} {w}.",
        "What is the minimum of {c} in {f} {w}?",
        "How low does {c} go in {f} {w}?",
        "[Open|Read|Load|Take] {f} and find [the smallest|its least] {c} {w}.",
        "[Work out|Compute] the [least|minimum] {c} of {f} {w}.",
        "[Look into|Go through] {f}: which is the [smallest|lowest|least] {c} {w}?",
        "[Which|What] {c} of {f} is [the least|the lowest|the minimum] {w}?",
    ],
    gate: &["Give me the smallest {c} of {f} {w}."],
    held_out: &["In {f}, what is the lowest {c} {w}?", "Tell me the smallest {c} in {f} {w}."],
};

/// How a condition is said; the sub-goal always says it with a sign.
fn condition_words(column: &str, sign: &str, value: &str, rng: &mut TaskRng) -> String {
    let said = match sign {
        ">" => names::pick(rng, &["is above", "is more than", ">"]),
        "<" => names::pick(rng, &["is below", "is less than", "<"]),
        _ => names::pick(rng, &["is", "="]),
    };
    format!("where {column} {said} {value}")
}

#[cfg(test)]
pub(crate) fn wordings() -> Vec<&'static Wordings> {
    vec![&COUNT, &SUM, &MAX, &MIN]
}

pub(crate) fn attempt(world: &World, split: Split, rng: &mut TaskRng) -> Option<Task> {
    let files: Vec<&CsvFile> =
        world.csv.iter().filter(|f| !world.real || Split::of(&f.name) == split).collect();
    if files.is_empty() {
        return None;
    }
    let file = names::pick(rng, &files);
    let (filter, said) =
        if names::chance(rng, 0.75) { condition(file, rng)? } else { (String::new(), String::new()) };
    let verb = names::pick(rng, &["count", "count", "sum", "sum", "max", "min"]);
    let column = &file.columns[rng.random_range(0..file.columns.len())];
    if verb != "count" && !file.is_number(file.columns.iter().position(|c| c == column)?) {
        return None;
    }
    let object = if verb == "count" { "rows" } else { column };
    let goal =
        format!("{verb} {object} of {}{}{filter}", file.name, if filter.is_empty() { "" } else { " where " });
    let value = evaluate(file, &goal)?;
    let wording = match verb {
        "count" => &COUNT,
        "sum" => &SUM,
        "max" => &MAX,
        _ => &MIN,
    };
    let query = fill(&wording.pick(split, rng), &[("f", &file.name), ("c", column), ("w", &said)])
        .replace(" ?", "?")
        .replace(" .", ".");
    let steps = vec![Step::new("none", goal, tool::PYTHON, String::new())];
    let wrong = vec![
        WrongStep {
            at: 0,
            sub_goal: format!("find {}", knowledge::lower_query(&query)),
            tool: tool::SEARCH.to_string(),
        },
        WrongStep {
            at: 0,
            sub_goal: format!("compute {object} of {}", file.name),
            tool: tool::CALCULATOR.to_string(),
        },
    ];
    Some(Task::new(Family::Csv, query, Answer::Number { value: value as f64, tolerance: 1e-6 }, steps, wrong))
}

/// A condition some rows meet: (as the sub-goal says it, as the query says it).
fn condition(file: &CsvFile, rng: &mut TaskRng) -> Option<(String, String)> {
    let column = rng.random_range(0..file.columns.len());
    let value = &file.rows[rng.random_range(0..file.rows.len())][column];
    let sign = if file.is_number(column) { names::pick(rng, &[">", "<"]) } else { "=" };
    let name = &file.columns[column];
    Some((format!("{name} {sign} {value}"), condition_words(name, sign, value, rng)))
}

/// A sub-goal's parts: "sum pay of orders.csv where city = Lima".
struct Goal<'a> {
    verb: &'a str,
    column: &'a str,
    file: &'a str,
    filter: Option<(&'a str, &'a str, &'a str)>,
}

fn parse(sub_goal: &str) -> Option<Goal<'_>> {
    let (verb, rest) = sub_goal.split_once(' ')?;
    if !matches!(verb, "count" | "sum" | "max" | "min") {
        return None;
    }
    let (column, rest) = rest.split_once(" of ")?;
    let (file, filter) = match rest.split_once(" where ") {
        Some((file, filter)) => {
            let mut parts = filter.splitn(3, ' ');
            (file, Some((parts.next()?, parts.next()?, parts.next()?)))
        }
        None => (rest, None),
    };
    Some(Goal { verb, column, file, filter })
}

/// The program for a sub-goal of this family.
pub(crate) fn program(sub_goal: &str) -> Option<String> {
    let goal = parse(sub_goal)?;
    let filter = goal.filter.map_or(String::new(), |(column, sign, value)| {
        if sign == "=" {
            format!(r#" if x["{column}"]=="{value}""#)
        } else {
            format!(r#" if int(x["{column}"]){sign}{value}"#)
        }
    });
    let output = match goal.verb {
        "count" => "len(r)".to_string(),
        verb => format!(r#"{verb}(int(x["{}"]) for x in r)"#, goal.column),
    };
    Some(format!(
        "import csv\nr=[x for x in csv.DictReader(open(\"data/{}\")){filter}]\nprint({output})\n",
        goal.file
    ))
}

/// What the program must print; `None` when no row is left or the sum is nothing to ask for.
fn evaluate(file: &CsvFile, sub_goal: &str) -> Option<i64> {
    let goal = parse(sub_goal)?;
    let at = |name: &str| file.columns.iter().position(|column| column == name);
    let rows: Vec<&Vec<String>> = file
        .rows
        .iter()
        .filter(|row| {
            goal.filter.is_none_or(|(column, sign, value)| {
                let Some(cell) = at(column).map(|i| row[i].as_str()) else { return false };
                match (sign, cell.parse::<i64>(), value.parse::<i64>()) {
                    (">", Ok(a), Ok(b)) => a > b,
                    ("<", Ok(a), Ok(b)) => a < b,
                    _ => cell == value,
                }
            })
        })
        .collect();
    if rows.is_empty() {
        return None;
    }
    if goal.verb == "count" {
        return i64::try_from(rows.len()).ok();
    }
    let column = at(goal.column)?;
    let values = rows.iter().filter_map(|row| row[column].parse::<i64>().ok());
    match goal.verb {
        "sum" => Some(values.sum()),
        "max" => values.max(),
        _ => values.min(),
    }
}
