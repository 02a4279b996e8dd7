//! Made-up worlds: countries, people, cities and more that exist nowhere, in the real world's wordings.
//!
//! A model trained on them must copy names and numbers from memory instead of remembering facts. Besides the
//! real world's relations they hold others, and CSV files with other columns.

use rand::{Rng, SeedableRng};

use crate::tasks::TaskRng;
use crate::tasks::names::{chance, person, pick, proper, title, word};
use crate::tasks::pools::Value::{self, Entity, Name, Number, Person, Shared, Symbol, Word};
use crate::tasks::pools::{KINDS, NOUNS, NUMBER_COLUMNS, REFERRED, Relations, TEXT_COLUMNS};
use crate::tasks::world::{CsvFile, Fact, World};

impl World {
    /// A made-up world of about 40 to 80 facts and two or three CSV files.
    pub fn synthetic(seed: u64) -> World {
        let mut rng = TaskRng::seed_from_u64(seed ^ 0x7111_e12a_0000_0000);
        let mut facts: Vec<Fact> = Vec::new();
        let mut kinds: Vec<&(&str, Relations)> = KINDS.iter().filter(|(k, _)| REFERRED.contains(k)).collect();
        let others: Vec<&(&str, Relations)> = KINDS.iter().filter(|(k, _)| !REFERRED.contains(k)).collect();
        while kinds.len() < 7 {
            let other = pick(&mut rng, &others);
            if !kinds.iter().any(|kind| kind.0 == other.0) {
                kinds.push(other);
            }
        }
        let shared: Vec<String> = (0..4).map(|_| proper(&mut rng)).collect();
        for (kind, relations) in kinds {
            let target = rng.random_range(8..=12);
            let start = facts.len();
            while facts.len() - start < target {
                about(kind, relations, &shared, &mut facts, &mut rng);
            }
        }
        join_capitals(&mut facts, &mut rng);
        let files = rng.random_range(2..=3);
        let csv = (0..files).map(|_| table(&mut rng)).collect();
        World::new(facts, csv)
    }
}

/// One entity with two to five facts.
fn about(kind: &str, relations: Relations, shared: &[String], facts: &mut Vec<Fact>, rng: &mut TaskRng) {
    let entity = match kind {
        "person" => person(rng),
        "mountain" if chance(rng, 0.6) => format!("Mount {}", title(rng)),
        "river" | "ship" | "landmark" if chance(rng, 0.6) => format!("the {}", proper(rng)),
        "element" => word(rng),
        _ => proper(rng),
    };
    if facts.iter().any(|fact| fact.entity == entity) {
        return;
    }
    for (relation, value) in relations {
        // Links between kinds make chains, so they are rarely left out.
        let keep = if matches!(value, Value::Entity(_)) { 0.85 } else { 0.5 };
        if !chance(rng, keep) {
            continue;
        }
        let (value, unit) = match value {
            Number(digits, unit) => (number(*digits, rng), *unit),
            Name if *relation == "language" && chance(rng, 0.35) => (demonym(&entity, rng), ""),
            Name => (proper(rng), ""),
            Person => (person(rng), ""),
            // "the South Korean won": values that begin as their entity does are the hard ones to copy.
            Word if *relation == "currency" && chance(rng, 0.35) => {
                (format!("the {} {}", demonym(&entity, rng), word(rng)), "")
            }
            // Real currencies stand with their article.
            Word if *relation == "currency" && chance(rng, 0.5) => (format!("the {}", word(rng)), ""),
            Word if chance(rng, 0.3) => (format!("{} {}", title(rng), word(rng)), ""),
            Word => (word(rng), ""),
            Symbol => (
                super::capital_first(&word(rng).chars().take(rng.random_range(1..=2)).collect::<String>()),
                "",
            ),
            Shared => (shared[rng.random_range(0..shared.len())].clone(), ""),
            Entity(of) => {
                let known: Vec<&Fact> = facts.iter().filter(|fact| fact.kind == *of).collect();
                if known.is_empty() {
                    continue;
                }
                (pick(rng, &known).entity.clone(), "")
            }
        };
        facts.push(Fact {
            kind: kind.to_string(),
            entity: entity.clone(),
            relation: (*relation).to_string(),
            value,
            unit: unit.to_string(),
        });
    }
}

/// What belongs to a place: "Torvania" gives "Torvanian", "Torvanish" and the like.
fn demonym(place: &str, rng: &mut TaskRng) -> String {
    let stem = place.trim_end_matches(['a', 'e', 'i', 'o', 'u', 'y']);
    let stem = if stem.len() < 3 { place } else { stem };
    format!("{stem}{}", pick(rng, &["ian", "an", "ese", "ish", "ic", "i", "er"]))
}

fn number(digits: u32, rng: &mut TaskRng) -> String {
    let most = rng.random_range(1.max(digits / 2)..=digits);
    let value = rng.random_range(2..10_u64.pow(most));
    // Large figures are mostly round, as in the real knowledge.
    if value > 10_000 && chance(rng, 0.6) { (value / 1000 * 1000).to_string() } else { value.to_string() }
}

/// Make some cities capitals, so that "the country whose capital is" can follow a birthplace.
fn join_capitals(facts: &mut [Fact], rng: &mut TaskRng) {
    let homes: Vec<(String, String)> = facts
        .iter()
        .filter(|fact| fact.kind == "city" && fact.relation == "country")
        .map(|fact| (fact.value.clone(), fact.entity.clone()))
        .collect();
    for (country, city) in homes {
        let capital = facts.iter_mut().find(|fact| fact.entity == country && fact.relation == "capital");
        if let Some(capital) = capital.filter(|_| chance(rng, 0.5)) {
            capital.value = city;
        }
    }
}

/// A word such as files and columns are called: English, or made up.
fn noun(rng: &mut TaskRng) -> String {
    if chance(rng, 0.5) { pick(rng, NOUNS).to_string() } else { word(rng) }
}

fn table(rng: &mut TaskRng) -> CsvFile {
    let mut columns: Vec<(String, bool)> = Vec::new();
    let (texts, numbers) = (rng.random_range(1..=3), rng.random_range(1..=3));
    while columns.len() < texts + numbers {
        let is_number = columns.len() >= texts;
        let known = pick(rng, if is_number { NUMBER_COLUMNS } else { TEXT_COLUMNS });
        let column = if chance(rng, 0.4) { noun(rng) } else { known.to_string() };
        if !columns.iter().any(|(name, _)| *name == column) {
            columns.push((column, is_number));
        }
    }
    let pools: Vec<Vec<String>> = columns
        .iter()
        .map(|(_, is_number)| {
            let top = pick(rng, &[20, 100, 1000, 5000]);
            let size = rng.random_range(3..=8);
            let cell = |rng: &mut TaskRng| {
                if *is_number { rng.random_range(1..top).to_string() } else { proper(rng) }
            };
            (0..size).map(|_| cell(rng)).collect()
        })
        .collect();
    let rows = (0..rng.random_range(6..=20))
        .map(|_| pools.iter().map(|pool| pool[rng.random_range(0..pool.len())].clone()).collect())
        .collect();
    let name = if chance(rng, 0.2) { format!("{}_{}", noun(rng), noun(rng)) } else { noun(rng) };
    CsvFile {
        name: format!("{name}.csv"),
        columns: columns.into_iter().map(|(column, _)| column).collect(),
        rows,
    }
}
