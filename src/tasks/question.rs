//! A question as an evaluation asks it: the text, and the key that says whether an answer is right.
//!
//! This program's own tasks and rows of the user's files both become questions; plans and worlds stay behind.

use serde::{Deserialize, Serialize};

use crate::store::canonical;
use crate::tasks::scorers::{choice, gaia, game24, names, number};
use crate::tasks::{Answer, Task, check};
use crate::tools::sandbox::WORKSPACE_DIR;

/// One question of a file.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Question {
    pub id: String,
    /// Family or benchmark: the rows of a table.
    pub group: String,
    pub query: String,
    /// What was said before it, where it goes on from something.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub conversation: Vec<(String, String)>,
    /// The reference, for readers.
    pub answer: String,
    pub key: Key,
    /// A file that belongs to the question.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub attachment: Option<Attachment>,
}

/// A question's file, as its row names it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Attachment {
    /// A name without folders.
    pub name: String,
    /// The row that names it, from 1.
    pub row: usize,
}

impl Question {
    /// The question with the file that `row` names in "file_name", if it names one; the query then says so.
    ///
    /// # Errors
    /// It is no plain file name: a task file says which of the files beside it is meant, not where on the machine.
    pub fn with_attachment(mut self, row: &serde_json::Value, number: usize) -> Result<Question, String> {
        let name = match &row["file_name"] {
            serde_json::Value::Null => return Ok(self),
            serde_json::Value::String(name) if name.trim().is_empty() => return Ok(self),
            serde_json::Value::String(name) => name.trim(),
            other => return Err(format!("\"file_name\" is {other}, not a text")),
        };
        if name.contains(['/', '\\', '\0']) || matches!(name, "." | "..") {
            return Err(format!("\"file_name\" {name:?} is no name of a file without folders"));
        }
        self.query = format!(
            "{}\nAttached file, in the workspace folder: {name} (for programs: {WORKSPACE_DIR}/{name})",
            self.query.trim_end()
        );
        self.attachment = Some(Attachment { name: name.to_string(), row: number });
        Ok(self)
    }
}

/// The rule that decides whether a text answers a question.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "rule", rename_all = "snake_case")]
pub enum Key {
    /// A checker of this program's own tasks.
    Task {
        checker: Answer,
    },
    /// Any of these names, exactly after normalisation; token F1 is reported beside it.
    Names {
        accepted: Vec<String>,
    },
    /// This number, exactly.
    Number {
        value: String,
    },
    Game24 {
        numbers: Vec<i64>,
    },
    /// This option, A to Z.
    Choice {
        letter: char,
        options: Vec<String>,
    },
    Gaia {
        reference: String,
    },
    /// What people said of answers to it, in their canonical form. Equal to a good one is right; anything else is
    /// wrong where one answer alone is good, and open where several are, unless it was called bad.
    Ledger {
        good: Vec<String>,
        bad: Vec<String>,
    },
}

impl Key {
    pub fn right(&self, text: &str) -> bool {
        match self {
            Key::Task { checker } => check(checker, text),
            Key::Names { accepted } => names::exact(text, accepted),
            Key::Number { value } => number::equal(text, value),
            Key::Game24 { numbers } => game24::solves(text, numbers),
            Key::Choice { letter, options } => choice::chosen(text, options) == Some(*letter),
            Key::Gaia { reference } => gaia::matches(text, reference),
            Key::Ledger { good, .. } => good.contains(&canonical(text)),
        }
    }

    /// Nobody has said whether this answer is right: it is neither right nor wrong, and no evidence.
    pub fn is_open(&self, text: &str) -> bool {
        match self {
            Key::Ledger { good, bad } => {
                let form = canonical(text);
                good.len() > 1 && !good.contains(&form) && !bad.contains(&form)
            }
            _ => false,
        }
    }

    /// Token F1, where the usual score of the benchmark has one.
    pub fn f1(&self, text: &str) -> Option<f64> {
        match self {
            Key::Names { accepted } => Some(names::f1(text, accepted)),
            _ => None,
        }
    }

    /// Whether a tool's result holds the answer: one of its lines or figures is right, or it names it.
    /// `None` where that cannot be told from the text (choices, GAIA).
    pub fn supported_by(&self, result: &str) -> Option<bool> {
        let figure = |right: &dyn Fn(&str) -> bool| {
            result.split(|c: char| c.is_whitespace() || c == ',').any(|word| {
                let word = word.trim_end_matches(['.', '/', ';']);
                word.chars().any(|c| c.is_ascii_digit()) && right(word)
            })
        };
        let named = |accepted: &[String]| {
            let text = result.to_lowercase();
            accepted.iter().any(|name| text.contains(&name.to_lowercase()))
        };
        match self {
            Key::Task { checker: Answer::CannotAnswer } => Some(false),
            Key::Task { checker: Answer::Text { accepted } } | Key::Names { accepted } => {
                Some(named(accepted))
            }
            Key::Task { checker: checker @ Answer::Number { .. } } => {
                Some(figure(&|word| check(checker, word)))
            }
            Key::Number { value } => Some(figure(&|word| number::equal(word, value))),
            Key::Task { checker: checker @ Answer::Game24 { .. } } => {
                Some(result.lines().any(|line| check(checker, line)))
            }
            Key::Game24 { numbers } => Some(result.lines().any(|line| game24::solves(line, numbers))),
            Key::Choice { .. } | Key::Gaia { .. } | Key::Ledger { .. } => None,
        }
    }
}

impl From<Task> for Question {
    fn from(task: Task) -> Question {
        let answer = match &task.answer {
            Answer::Number { value, .. } => value.to_string(),
            Answer::Text { accepted } => accepted.first().cloned().unwrap_or_default(),
            Answer::Game24 { numbers } => format!("24 from {numbers:?}"),
            Answer::CannotAnswer => "cannot answer".to_string(),
        };
        Question {
            id: task.id,
            group: task.family.name().to_string(),
            query: task.query,
            conversation: Vec::new(),
            answer,
            key: Key::Task { checker: task.answer },
            attachment: None,
        }
    }
}
