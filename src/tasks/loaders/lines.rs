//! JSON lines of {id, query, answer, checker}: this program's task files and the user's own.
//!
//! `checker` may be left out (a number is compared as one, anything else as a name), be a scorer's name, or
//! one of this program's checkers as an object. `family` groups the rows of the table; `file_name` attaches a file.

use serde_json::Value;

use super::Fault;
use super::benchmark::{choice_key, names_of, text_of};
use crate::tasks::Answer;
use crate::tasks::question::{Key, Question};
use crate::tasks::scorers::number;

const SCORERS: &str = "exact, number, choice, game24, gaia";

pub fn parse(text: &str) -> Result<Vec<Question>, Fault> {
    text.lines()
        .enumerate()
        .filter(|(_, line)| !line.trim().is_empty())
        .map(|(at, line)| {
            let row = serde_json::from_str(line)
                .map_err(|e| format!("{e}; a line is {{\"id\",\"query\",\"answer\",\"checker\"}}"));
            row.and_then(|row| question(&row)?.with_attachment(&row, at + 1))
                .map_err(|what| (Some(at + 1), what))
        })
        .collect()
}

fn question(row: &Value) -> Result<Question, String> {
    let query = text_of(row, "query")?;
    let key = match &row["checker"] {
        Value::Object(_) => {
            let checker: Answer =
                serde_json::from_value(row["checker"].clone()).map_err(|e| format!("\"checker\": {e}"))?;
            Key::Task { checker }
        }
        Value::String(name) => by_name(name, row)?,
        Value::Null => plain(names_of(row)?),
        other => return Err(format!("\"checker\" is {other}; name one of {SCORERS}")),
    };
    let answer = names_of(row).ok().and_then(|names| names.into_iter().next()).unwrap_or_default();
    Ok(Question {
        id: text_of(row, "id")?,
        group: row["family"].as_str().unwrap_or("questions").to_string(),
        query,
        answer,
        key,
        conversation: Vec::new(),
        attachment: None,
    })
}

/// A single number is compared as one, anything else as names.
fn plain(accepted: Vec<String>) -> Key {
    match accepted.as_slice() {
        [value] if number::is_number(value) => Key::Number { value: value.clone() },
        _ => Key::Names { accepted },
    }
}

fn by_name(name: &str, row: &Value) -> Result<Key, String> {
    let first = || names_of(row).map(|names| names.into_iter().next().unwrap_or_default());
    match name {
        "exact" => Ok(Key::Names { accepted: names_of(row)? }),
        "number" => {
            let value = first()?;
            if !number::is_number(&value) {
                return Err(format!("\"answer\" {value:?} is no number, but \"checker\" is \"number\""));
            }
            Ok(Key::Number { value })
        }
        "choice" => choice_key(row, "choices", &first()?),
        "game24" => Ok(Key::Game24 { numbers: super::benchmark::numbers_of(row, "numbers")? }),
        "gaia" => Ok(Key::Gaia { reference: first()? }),
        other => Err(format!("no checker {other:?}; there are {SCORERS}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_checker_by_name() {
        for (rest, right, wrong) in [
            (r#""answer":"Paris""#, "Paris.", "Lyon"),
            (r#""answer":["USA","United States"]"#, "the United States", "America"),
            (r#""answer":"1,200""#, "It is 1200", "1201"),
            (r#""answer":12"#, "12.0", "13"),
            (r#""answer":"12","checker":"exact""#, "12", "12.0"),
            (r#""answer":"3/4","checker":"number""#, "0.75", "0.7"),
            (r#""answer":"B","choices":["A. x","B. y"],"checker":"choice""#, "(B)", "A"),
            (r#""answer":"y","choices":["x","y"],"checker":"choice""#, "B", "x"),
            (r#""numbers":[1,2,3,4],"checker":"game24""#, "1*2*3*4", "1+2+3+4"),
            (r#""answer":"a, b","checker":"gaia""#, "A,B", "b, a"),
            (r#""checker":{"kind":"cannot_answer"}"#, "I cannot answer that.", "It rains."),
        ] {
            let line = format!(r#"{{"id":"1","query":"q",{rest}}}"#);
            let question = parse(&line).unwrap().remove(0);
            assert!(question.key.right(right) && !question.key.right(wrong), "{rest}: {question:?}");
        }
    }

    #[test]
    fn faults_are_named() {
        for (line, expected) in [
            (r#"{"query":"q","answer":"a"}"#, "has no \"id\""),
            (r#"{"id":"1","query":"","answer":"a"}"#, "\"query\" is empty"),
            (
                r#"{"id":"1","query":"q","answer":"a","checker":"magic"}"#,
                "no checker \"magic\"; there are exact",
            ),
            (r#"{"id":"1","query":"q","answer":"a","checker":"number"}"#, "is no number"),
            (r#"{"id":"1","query":"q","answer":"z","choices":["x"],"checker":"choice"}"#, "\"z\" is none of"),
            (r#"{"id":"1","query":"q","checker":"game24"}"#, "has no \"numbers\""),
            (r#"{"id":"1","query":"q","checker":{"kind":"magic"}}"#, "\"checker\": "),
            (r#"{"id":"1","query":"q","answer":"a","checker":3}"#, "\"checker\" is 3"),
            (
                r#"{"id":"1","query":"q","answer":"a","file_name":"../key"}"#,
                "\"file_name\" \"../key\" is no name",
            ),
            (r#"{"id":"1","query":"q","answer":"a","file_name":".."}"#, "\"file_name\" \"..\" is no name"),
            (r#"{"id":"1","query":"q","answer":"a","file_name":7}"#, "\"file_name\" is 7"),
        ] {
            let (row, what) = parse(line).unwrap_err();
            assert!(row == Some(1) && what.contains(expected), "{line}: {what}");
        }
    }
}
