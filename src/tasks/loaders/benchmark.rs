//! The ten benchmarks of the paper, as its files write them: which fields hold what, and which scorer decides.

use std::path::Path;

use serde_json::Value;

use crate::tasks::question::{Key, Question};
use crate::tasks::scorers::choice::{bare, chosen};
use crate::tasks::scorers::names::normalise;
use crate::tasks::scorers::number::is_number;

/// One of the paper's benchmarks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Benchmark {
    Bamboogle,
    TwoWiki,
    HotpotQa,
    Musique,
    Gaia,
    Aime24,
    Amc23,
    GameOf24,
    Gpqa,
    MedQa,
}

impl Benchmark {
    pub const ALL: [Benchmark; 10] = [
        Benchmark::Bamboogle,
        Benchmark::TwoWiki,
        Benchmark::HotpotQa,
        Benchmark::Musique,
        Benchmark::Gaia,
        Benchmark::Aime24,
        Benchmark::Amc23,
        Benchmark::GameOf24,
        Benchmark::Gpqa,
        Benchmark::MedQa,
    ];

    pub fn name(self) -> &'static str {
        match self {
            Benchmark::Bamboogle => "bamboogle",
            Benchmark::TwoWiki => "2wiki",
            Benchmark::HotpotQa => "hotpotqa",
            Benchmark::Musique => "musique",
            Benchmark::Gaia => "gaia",
            Benchmark::Aime24 => "aime24",
            Benchmark::Amc23 => "amc23",
            Benchmark::GameOf24 => "gameof24",
            Benchmark::Gpqa => "gpqa",
            Benchmark::MedQa => "medqa",
        }
    }

    pub fn names() -> String {
        Benchmark::ALL.map(Benchmark::name).join(", ")
    }

    pub fn by_name(name: &str) -> Option<Benchmark> {
        let name = name.to_ascii_lowercase().replace(['-', '_'], "");
        Benchmark::ALL.into_iter().find(|benchmark| benchmark.name() == name)
    }

    /// The benchmark that the file's name, or else the nearest folder, names.
    pub fn of_path(path: &Path) -> Option<Benchmark> {
        path.iter().rev().find_map(|part| {
            let part = part.to_string_lossy().to_ascii_lowercase().replace(['-', '_'], "");
            Benchmark::ALL.into_iter().find(|benchmark| part.contains(benchmark.name()))
        })
    }

    /// One element of the benchmark's list; `row` (from 1) stands in where it has no id.
    ///
    /// # Errors
    /// Names the field that is missing or not as the benchmark writes it.
    pub fn question(self, row: &Value, row_number: usize) -> Result<Question, String> {
        if !row.is_object() {
            return Err(format!("is {row}, not an object with \"query\" and \"answer\""));
        }
        let id = ["pid", "idx", "id", "task_id"].iter().find_map(|key| text_of(row, key).ok());
        let answers = names_of(row);
        let answer = |answers: &Result<Vec<String>, String>| {
            answers.clone().map(|answers| answers.into_iter().next().unwrap_or_default())
        };
        let key = match self {
            Benchmark::Bamboogle | Benchmark::TwoWiki | Benchmark::HotpotQa | Benchmark::Musique => {
                Key::Names { accepted: answers.clone()? }
            }
            Benchmark::Gaia => Key::Gaia { reference: answer(&answers)? },
            Benchmark::Aime24 | Benchmark::Amc23 => {
                let value = answer(&answers)?;
                if !is_number(&value) {
                    return Err(format!("\"answer\" {value:?} is no number"));
                }
                Key::Number { value }
            }
            Benchmark::GameOf24 => Key::Game24 { numbers: numbers_of(row, "question")? },
            Benchmark::Gpqa => choice_key(row, "choices", &answer(&answers)?)?,
            Benchmark::MedQa => choice_key(row, "options", &answer(&answers)?)?,
        };
        let question = Question {
            id: format!("{}-{}", self.name(), id.unwrap_or_else(|| row_number.to_string())),
            group: self.name().to_string(),
            query: text_of(row, "query")?,
            answer: answer(&answers).unwrap_or_default(),
            key,
            conversation: Vec::new(),
            attachment: None,
        };
        match self {
            Benchmark::Gaia => question.with_attachment(row, row_number),
            _ => Ok(question),
        }
    }
}

/// A field that is a text or a number, as text.
pub(super) fn text_of(row: &Value, key: &str) -> Result<String, String> {
    match &row[key] {
        Value::Null => Err(format!("has no {key:?}")),
        Value::String(text) if text.trim().is_empty() => Err(format!("{key:?} is empty")),
        Value::String(text) => Ok(text.clone()),
        Value::Number(number) => Ok(number.to_string()),
        other => Err(format!("{key:?} is {other}, not a text")),
    }
}

/// "answer" as one or several texts, never none.
pub(super) fn names_of(row: &Value) -> Result<Vec<String>, String> {
    match &row["answer"] {
        Value::Array(list) if list.is_empty() => Err("\"answer\" is an empty list".into()),
        Value::Array(list) => {
            list.iter().map(|item| text_of(&serde_json::json!({ "answer": item }), "answer")).collect()
        }
        Value::Bool(yes) => Ok(vec![if *yes { "yes" } else { "no" }.to_string()]),
        _ => text_of(row, "answer").map(|text| vec![text]),
    }
}

/// A list of whole numbers, or a text of them: [1, 1, 1, 8] or "1 1 1 8".
pub(super) fn numbers_of(row: &Value, key: &str) -> Result<Vec<i64>, String> {
    let no_list = || format!("{key:?} is {}, not a list of whole numbers", row[key]);
    let numbers: Option<Vec<i64>> = match &row[key] {
        Value::Null => return Err(format!("has no {key:?}")),
        Value::Array(list) => list.iter().map(Value::as_i64).collect(),
        Value::String(text) => text
            .split(|c: char| c.is_whitespace() || ",[]".contains(c))
            .filter(|word| !word.is_empty())
            .map(|word| word.parse().ok())
            .collect(),
        _ => None,
    };
    numbers.filter(|numbers| !numbers.is_empty()).ok_or_else(no_list)
}

/// The key of a multiple-choice row: the answer is a letter, an option with its letter, or an option's text.
pub(super) fn choice_key(row: &Value, field: &str, answer: &str) -> Result<Key, String> {
    let Value::Array(list) = &row[field] else { return Err(format!("has no list {field:?}")) };
    let options: Vec<String> = list
        .iter()
        .map(|option| {
            option.as_str().map(str::to_string).ok_or_else(|| format!("{field:?} holds {option}, not a text"))
        })
        .collect::<Result<_, _>>()?;
    if options.is_empty() || options.len() > 26 {
        return Err(format!("{field:?} has {} options; 1 to 26 can be lettered", options.len()));
    }
    // By its text first: an option may itself begin with a letter.
    let same = |option: &String| normalise(bare(option)) == normalise(bare(answer));
    let letter = match options.iter().position(same) {
        Some(at) => u8::try_from(at).ok().map(|at| char::from(b'A' + at)),
        None => chosen(answer, &options).filter(|_| answer.trim().len() <= 4),
    };
    match letter {
        Some(letter) => Ok(Key::Choice { letter, options }),
        None => Err(format!("\"answer\" {answer:?} is none of {field:?}")),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn every_benchmark_row_becomes_a_question() {
        for (benchmark, row, id, right, wrong) in [
            (
                Benchmark::Bamboogle,
                json!({"idx": 3, "query": "q", "answer": "Paris", "image": null}),
                "bamboogle-3",
                "Paris",
                "Rome",
            ),
            (Benchmark::TwoWiki, json!({"pid": "7", "query": "q", "answer": "yes"}), "2wiki-7", "Yes.", "no"),
            (
                Benchmark::HotpotQa,
                json!({"pid": 1, "query": "q", "answer": ["A", "Bb"]}),
                "hotpotqa-1",
                "bb",
                "c",
            ),
            (Benchmark::Musique, json!({"query": "q", "answer": 1912}), "musique-9", "1912", "1913"),
            (
                Benchmark::Gaia,
                json!({"pid": "x", "query": "q", "answer": "a, 2", "Level": 1, "file_name": ""}),
                "gaia-x",
                "A, 2.0",
                "2, a",
            ),
            (
                Benchmark::Aime24,
                json!({"idx": 0, "query": "q", "answer": [204]}),
                "aime24-0",
                "so \\boxed{204}",
                "205",
            ),
            (Benchmark::Amc23, json!({"pid": 0, "query": "q", "answer": 27.0}), "amc23-0", "27", "2.7"),
            (
                Benchmark::GameOf24,
                json!({"pid": 1, "question": [1, 1, 1, 8], "query": "q", "answer": ["(1+1+1)*8"]}),
                "gameof24-1",
                "8x(1+1+1)",
                "8*3",
            ),
            (
                Benchmark::GameOf24,
                json!({"pid": 2, "question": "1 1 1 8", "query": "q", "answer": []}),
                "gameof24-2",
                "8x(1+1+1)",
                "8*3",
            ),
            (
                Benchmark::Gpqa,
                json!({"pid": 5, "query": "q", "choices": ["A. x", "B. y"], "answer_idx": 1, "answer": "B. y"}),
                "gpqa-5",
                "The answer is (B)",
                "A",
            ),
            (
                Benchmark::MedQa,
                json!({"idx": 5, "query": "q", "options": ["A. x", "B. y z"], "answer": "y z"}),
                "medqa-5",
                "y z",
                "neither",
            ),
        ] {
            let question = benchmark.question(&row, 9).unwrap();
            assert_eq!((question.id.as_str(), question.group.as_str()), (id, benchmark.name()));
            assert!(question.key.right(right) && !question.key.right(wrong), "{question:?}");
        }
    }

    #[test]
    fn faults_name_the_field() {
        for (benchmark, row, expected) in [
            (Benchmark::Musique, json!({"answer": "a"}), "has no \"query\""),
            (Benchmark::Musique, json!({"query": "q", "answer": " "}), "\"answer\" is empty"),
            (Benchmark::Musique, json!({"query": "q", "answer": {}}), "\"answer\" is {}"),
            (Benchmark::Musique, json!({"query": "q", "answer": []}), "empty list"),
            (Benchmark::Aime24, json!({"query": "q", "answer": "x"}), "is no number"),
            (Benchmark::GameOf24, json!({"query": "q", "answer": []}), "has no \"question\""),
            (Benchmark::GameOf24, json!({"query": "q", "question": [1.5]}), "whole numbers"),
            (Benchmark::Gpqa, json!({"query": "q", "answer": "A"}), "has no list \"choices\""),
            (
                Benchmark::MedQa,
                json!({"query": "q", "options": ["x", "y"], "answer": "z"}),
                "none of \"options\"",
            ),
        ] {
            let error = benchmark.question(&row, 1).unwrap_err();
            assert!(error.contains(expected), "{error} has no {expected}");
        }
    }

    #[test]
    fn paths_name_benchmarks() {
        for (path, expected) in [
            ("/x/bamboogle.json", Some(Benchmark::Bamboogle)),
            ("/x/2wiki/data/data.json", Some(Benchmark::TwoWiki)),
            ("/x/HotpotQA/test.json", Some(Benchmark::HotpotQa)),
            ("/x/game-of-24.json", Some(Benchmark::GameOf24)),
            ("/gaia/medqa.json", Some(Benchmark::MedQa)),
            ("/x/questions.json", None),
        ] {
            assert_eq!(Benchmark::of_path(Path::new(path)), expected, "{path}");
        }
        assert_eq!(Benchmark::by_name("GameOf24"), Some(Benchmark::GameOf24));
        assert_eq!(Benchmark::by_name("mmlu"), None);
    }
}
