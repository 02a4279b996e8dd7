//! A world: facts in one fixed wording, and small CSV files. What the search and python tools can see.
//!
//! Every fact reads "The RELATION of ENTITY is VALUE[ UNIT]." so that a ranked word search finds it. The real
//! world's text files are the source of its table; nothing is written twice.

use std::collections::{BTreeMap, HashMap};
use std::sync::OnceLock;

use crate::tasks::Split;

/// One fact, e.g. (country, Peru, area, 1285216, km2).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fact {
    /// What the entity is: country, river, ...
    pub kind: String,
    pub entity: String,
    pub relation: String,
    pub value: String,
    /// Unit of a number, empty otherwise.
    pub unit: String,
}

impl Fact {
    /// The sentence the knowledge files hold.
    pub fn sentence(&self) -> String {
        let space = if self.unit.is_empty() { "" } else { " " };
        format!("The {} of {} is {}{space}{}.", self.relation, self.entity, self.value, self.unit)
    }

    /// The value as a number, where it is one.
    pub fn number(&self) -> Option<f64> {
        self.value.parse().ok()
    }

    /// Read a sentence back; `None` when it has another wording.
    pub fn parse(kind: &str, line: &str) -> Option<Fact> {
        let body = line.strip_prefix("The ")?.strip_suffix('.')?;
        let (relation, rest) = body.split_once(" of ")?;
        let (entity, value) = rest.split_once(" is ")?;
        let (value, unit) = match value.split_once(' ') {
            Some((number, unit)) if number.parse::<f64>().is_ok() => (number, unit),
            _ => (value, ""),
        };
        let owned = |text: &str| text.to_string();
        Some(Fact {
            kind: owned(kind),
            entity: owned(entity),
            relation: owned(relation),
            value: owned(value),
            unit: owned(unit),
        })
    }
}

/// A small table. All cells of a column are whole numbers, or none is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CsvFile {
    /// File name without folder: "staff.csv". The python tool sees it as data/staff.csv.
    pub name: String,
    pub columns: Vec<String>,
    pub rows: Vec<Vec<String>>,
}

impl CsvFile {
    /// The file's text.
    pub fn text(&self) -> String {
        let mut text = self.columns.join(",");
        text.push('\n');
        for row in &self.rows {
            text.push_str(&row.join(","));
            text.push('\n');
        }
        text
    }

    /// Read plain comma-separated text (no quoting). `None` when a row is longer or shorter than the head.
    pub fn parse(name: &str, text: &str) -> Option<CsvFile> {
        let split = |line: &str| line.split(',').map(str::to_string).collect::<Vec<_>>();
        let mut lines = text.lines();
        let columns = split(lines.next()?);
        let rows: Vec<Vec<String>> = lines.map(split).collect();
        rows.iter().all(|row| row.len() == columns.len()).then(|| CsvFile {
            name: name.to_string(),
            columns,
            rows,
        })
    }

    /// True when every cell of the column is a whole number.
    pub fn is_number(&self, column: usize) -> bool {
        self.rows.iter().all(|row| row[column].parse::<i64>().is_ok())
    }
}

/// Everything a task of this world can ask about.
#[derive(Clone, Debug, Default)]
pub struct World {
    /// True for the world of assets/knowledge, whose entities are split.
    pub real: bool,
    pub facts: Vec<Fact>,
    pub csv: Vec<CsvFile>,
    by_entity: HashMap<String, Vec<usize>>,
    by_value: HashMap<String, Vec<usize>>,
}

macro_rules! knowledge {
    ($($kind:literal $file:literal),* $(,)?) => {
        [$(($kind, $file, include_str!(concat!("../../assets/knowledge/", $file, ".txt")))),*]
    };
}

macro_rules! data {
    ($($file:literal),* $(,)?) => {
        [$(($file, include_str!(concat!("../../assets/data/", $file)))),*]
    };
}

/// (kind, file stem, text) of every knowledge file.
pub fn knowledge_files() -> Vec<(&'static str, &'static str, &'static str)> {
    knowledge!(
        "country" "countries",
        "element" "elements",
        "planet" "planets",
        "river" "rivers",
        "mountain" "mountains",
        "city" "cities",
        "person" "people",
        "landmark" "landmarks",
    )
    .to_vec()
}

/// (file name, text) of every knowledge file, one passage a line: what the search tool is given.
pub fn knowledge() -> Vec<(String, String)> {
    knowledge_files().into_iter().map(|(_, stem, text)| (format!("{stem}.txt"), text.to_string())).collect()
}

/// (name, text) of every bundled CSV file.
pub fn data_files() -> Vec<(&'static str, &'static str)> {
    data!(
        "staff.csv",
        "orders.csv",
        "books.csv",
        "shops.csv",
        "games.csv",
        "trips.csv",
        "cities.csv",
        "boats.csv"
    )
    .to_vec()
}

/// The world of the bundled knowledge and data.
pub fn real() -> &'static World {
    static REAL: OnceLock<World> = OnceLock::new();
    REAL.get_or_init(|| {
        let facts = knowledge_files()
            .into_iter()
            .flat_map(|(kind, _, text)| text.lines().filter_map(move |line| Fact::parse(kind, line)));
        let csv = data_files().into_iter().filter_map(|(name, text)| CsvFile::parse(name, text));
        World { real: true, ..World::new(facts.collect(), csv.collect()) }
    })
}

impl World {
    pub fn new(facts: Vec<Fact>, csv: Vec<CsvFile>) -> World {
        let mut by_entity: HashMap<String, Vec<usize>> = HashMap::new();
        let mut by_value: HashMap<String, Vec<usize>> = HashMap::new();
        for (index, fact) in facts.iter().enumerate() {
            by_entity.entry(fact.entity.clone()).or_default().push(index);
            by_value.entry(fact.value.clone()).or_default().push(index);
        }
        World { real: false, facts, csv, by_entity, by_value }
    }

    /// The bundled world; see [`real`].
    pub fn real() -> &'static World {
        real()
    }

    /// The sentences, one fact a line: what the search tool indexes.
    pub fn lines(&self) -> Vec<String> {
        self.facts.iter().map(Fact::sentence).collect()
    }

    /// (relation, value count) of the world, for reading.
    pub fn relations(&self) -> BTreeMap<&str, usize> {
        let mut counts = BTreeMap::new();
        for fact in &self.facts {
            *counts.entry(fact.relation.as_str()).or_default() += 1;
        }
        counts
    }

    /// Indices of the facts about an entity.
    pub fn about(&self, entity: &str) -> &[usize] {
        self.by_entity.get(entity).map_or(&[], Vec::as_slice)
    }

    /// Indices of the facts with this value.
    pub fn with_value(&self, value: &str) -> &[usize] {
        self.by_value.get(value).map_or(&[], Vec::as_slice)
    }

    /// The entity whose hash decides the split: a city, person, river or mountain goes with its country, so
    /// that no chain of look-ups crosses splits.
    pub fn group<'a>(&'a self, name: &'a str) -> &'a str {
        if let Some(&index) = self.with_value(name).iter().find(|&&i| self.facts[i].relation == "capital") {
            return &self.facts[index].entity;
        }
        let home = self.about(name).iter().find(|&&i| {
            matches!(self.facts[i].relation.as_str(), "country" | "birthplace" | "city")
                && self.facts[i].value != name
        });
        home.map_or(name, |&index| self.group(&self.facts[index].value))
    }

    /// True when a question of this split may name the entity.
    pub fn allows(&self, entity: &str, split: Split) -> bool {
        !self.real || Split::of(self.group(entity)) == split
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    #[test]
    fn every_line_of_knowledge_is_a_fact() {
        let mut seen = HashSet::new();
        for (kind, file, text) in knowledge_files() {
            assert!(text.lines().count() > 20, "{file}");
            for line in text.lines() {
                let fact = Fact::parse(kind, line).unwrap_or_else(|| panic!("{file}: {line}"));
                assert_eq!(fact.sentence(), line, "{file}");
                assert!(seen.insert((fact.entity.clone(), fact.relation.clone())), "twice: {line}");
            }
        }
    }

    #[test]
    fn numbers_are_read_with_their_units() {
        for (line, value, unit) in [
            ("The area of Peru is 1285216 km2.", "1285216", "km2"),
            ("The population of Peru is 34000000.", "34000000", ""),
            ("The mouth of the Nile is the Mediterranean Sea.", "the Mediterranean Sea", ""),
        ] {
            let fact = Fact::parse("country", line).expect(line);
            assert_eq!((fact.value.as_str(), fact.unit.as_str()), (value, unit));
        }
        assert_eq!(Fact::parse("country", "Lima is in Peru."), None);
    }

    #[test]
    fn data_files_are_tables_and_every_split_has_some() {
        assert_eq!(real().csv.len(), data_files().len());
        for split in Split::ALL {
            assert!(
                real().csv.iter().filter(|file| Split::of(&file.name) == split).count() >= 2,
                "{split:?}"
            );
        }
        for file in &real().csv {
            let numbers = (0..file.columns.len()).filter(|&column| file.is_number(column)).count();
            assert!(numbers >= 2, "{}", file.name);
        }
    }

    #[test]
    fn chains_stay_in_one_group() {
        let world = real();
        for (name, group) in [
            ("Lima", "Peru"),
            ("Peru", "Peru"),
            ("Pisa", "Italy"),
            ("Galileo Galilei", "Italy"),
            ("gold", "gold"),
        ] {
            assert_eq!(world.group(name), group);
        }
        // Shared values such as continents and seas join no groups.
        assert_eq!(world.group("the Nile"), "Egypt");
    }
}
