//! `tillerman label`: a person's word on an answer, a plan or a turn, and taking it back.

use clap::{Args, ValueEnum};

use crate::error::Error;
use crate::store::{Label, LabelValue, Pick, Row, Scope, Store, StoreError, now_ms, short};
use crate::text::safe;

use super::sessions::open;
use super::{Global, plain};

#[derive(Debug, Args)]
pub struct LabelArgs {
    /// Beginning or end of a trajectory's id
    pub id: String,
    /// `clear` takes earlier labels back; they stay on record
    #[arg(value_enum)]
    pub value: Value,
    /// Why, in your words
    #[arg(long, value_name = "TEXT")]
    pub note: Option<String>,
    /// What is judged: the answer (counts for every equal answer) or only how this one was reached
    #[arg(long, value_enum)]
    pub scope: Option<LabelScope>,
    /// Judge one turn
    #[arg(long, value_name = "N", conflicts_with = "scope")]
    pub turn: Option<usize>,
    /// With `better`: the rollout of the same question that it is better than; neither need be right
    #[arg(long, value_name = "ID")]
    pub than: Option<String>,
    /// With `bad`: the right answer; settles the question
    #[arg(long, value_name = "TEXT")]
    pub correction: Option<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Value {
    Good,
    Bad,
    /// Better than another answer to the same question
    Better,
    Clear,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum LabelScope {
    Answer,
    Plan,
}

pub fn run(global: &Global, args: &LabelArgs) -> anyhow::Result<i32> {
    let store = open(global)?;
    let said = apply(&store, args)?;
    println!("{}", safe(&said));
    Ok(0)
}

/// Do what the arguments say; answers the line that tells.
fn apply(store: &Store, args: &LabelArgs) -> Result<String, Error> {
    let row = store.row(&store.find(&args.id)?)?;
    let name = short(&row.id);
    let scope = match (args.scope, args.turn) {
        (_, Some(_)) => Some(Scope::Turn),
        (Some(LabelScope::Answer), None) => Some(Scope::Answer),
        (Some(LabelScope::Plan), None) => Some(Scope::Plan),
        (None, None) => None,
    };
    if args.than.is_some() != (args.value == Value::Better) {
        return Err(Error::Usage(
            "better and --than go together: tillerman label ID better --than ID".to_string(),
        ));
    }
    let value = match args.value {
        Value::Better => return better(store, &row, args),
        Value::Good => LabelValue::Good,
        Value::Bad => LabelValue::Bad,
        Value::Clear => {
            if args.note.is_some() || args.correction.is_some() {
                return Err(Error::Usage("clear takes neither --note nor --correction".to_string()));
            }
            let mut count = store.clear_labels(&row.id, scope, args.turn)?;
            if scope.is_none() {
                for pick in store.picks(&row.question_id)?.iter().filter(|pick| pick.better == row.id) {
                    count += store.clear_pick(pick.id)?;
                }
            }
            return Ok(format!("{name}: {count} label{} taken back", if count == 1 { "" } else { "s" }));
        }
    };
    if let Some(turn) = args.turn.filter(|turn| *turn == 0 || *turn > row.turns) {
        return Err(Error::Usage(format!("{name} has no turn {turn}; its turns are 1 to {}", row.turns)));
    }
    let scope = scope.unwrap_or(Scope::Answer);
    let label = Label {
        turn: args.turn,
        text: args.note.clone(),
        correction: args.correction.clone(),
        ..Label::on(&row, scope, value)
    };
    store.add_label(&label).map_err(|e| match e {
        // A label that contradicts itself is the command line's fault.
        StoreError::Invalid(text) => Error::Usage(text),
        e => e.into(),
    })?;
    let what = match (scope, args.turn, &row.answer) {
        (Scope::Turn, Some(turn), _) => format!("turn {turn}"),
        (Scope::Answer, _, Some(answer)) => format!("answer {}", plain::excerpt(answer, 80)),
        (scope, ..) => scope.name().to_string(),
    };
    Ok(format!("{name}: {} ({what})", value.name()))
}

/// Keep which of two rollouts of a question is the better one.
fn better(store: &Store, row: &Row, args: &LabelArgs) -> Result<String, Error> {
    let other = store.row(&store.find(args.than.as_deref().unwrap_or_default())?)?;
    if other.question_id != row.question_id {
        let (one, two) = (short(&row.id), short(&other.id));
        return Err(Error::Usage(format!(
            "{one} and {two} answer different questions: only equal ones are compared"
        )));
    }
    if args.note.is_some() || args.correction.is_some() || args.turn.is_some() || args.scope.is_some() {
        return Err(Error::Usage("better takes --than and nothing else".to_string()));
    }
    store.add_pick(&Pick {
        id: 0,
        question_id: row.question_id.clone(),
        better: row.id.clone(),
        worse: other.id.clone(),
        better_left: true,
        seconds: None,
        created_ms: now_ms(),
        cleared_ms: None,
    })?;
    Ok(format!("{}: better than {}", short(&row.id), short(&other.id)))
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        label: LabelArgs,
    }

    #[test]
    fn scope_and_turn_exclude_each_other() {
        let parse = |line: &str| Line::try_parse_from(line.split(' ')).map(|line| line.label);
        assert_eq!(parse("label ab bad --scope plan").unwrap().scope, Some(LabelScope::Plan));
        assert_eq!(parse("label ab good --turn 2").unwrap().turn, Some(2));
        assert!(parse("label ab good --turn 2 --scope answer").is_err());
        assert!(parse("label ab fine").is_err());
    }
}
