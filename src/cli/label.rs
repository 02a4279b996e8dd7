//! `tillerman label`: a person's word on an answer, a plan or a turn, and taking it back.

mod again;
pub mod expiry;

use clap::{Args, ValueEnum};

use crate::error::Error;
use crate::store::{Label, LabelValue, Pick, Row, Scope, Store, StoreError, now_ms, short};
use crate::text::safe;

use super::sessions::{open, when};
use super::{Global, plain, setup};

#[derive(Debug, Args)]
pub struct LabelArgs {
    /// Beginning or end of a trajectory's id
    #[arg(required_unless_present = "again")]
    pub id: Option<String>,
    /// `clear` takes earlier labels back; they stay on record
    #[arg(value_enum, required_unless_present = "again")]
    pub value: Option<Value>,
    /// Be asked about N of your old labels again, drawn at random, without seeing what you said; tells how often you agree
    /// with yourself. Answers are read from stdin
    #[arg(long, value_name = "N", conflicts_with_all = ["id", "value", "note", "scope", "turn", "than", "correction", "expires"])]
    pub again: Option<usize>,
    /// The answer may change: the label holds for so long (12h, 30d, 8w, 1y, or until a date) and then the question is open
    #[arg(long, value_name = "TIME")]
    pub expires: Option<String>,
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
    if let Some(count) = args.again {
        let seed = global.seed.unwrap_or_else(setup::fresh_seed);
        again::run(&store, count, seed, &mut std::io::stdin().lock(), &mut std::io::stderr())?;
        return Ok(0);
    }
    let said = apply(&store, args)?;
    println!("{}", safe(&said));
    Ok(0)
}

/// Do what the arguments say; answers the line that tells.
fn apply(store: &Store, args: &LabelArgs) -> Result<String, Error> {
    let row = store.row(&store.find(args.id.as_deref().unwrap_or_default())?)?;
    let name = short(&row.id);
    let scope = match (args.scope, args.turn) {
        (_, Some(_)) => Some(Scope::Turn),
        (Some(LabelScope::Answer), None) => Some(Scope::Answer),
        (Some(LabelScope::Plan), None) => Some(Scope::Plan),
        (None, None) => None,
    };
    if args.than.is_some() != (args.value == Some(Value::Better)) {
        return Err(Error::Usage(
            "better and --than go together: tillerman label ID better --than ID".to_string(),
        ));
    }
    let expiry_ms = match &args.expires {
        Some(text) => {
            expiry::until(text, now_ms()).map_err(|told| Error::Usage(format!("--expires: {told}")))?
        }
        None => None,
    };
    let value = match args.value {
        Some(Value::Better) => return better(store, &row, args),
        Some(Value::Good) => LabelValue::Good,
        Some(Value::Bad) => LabelValue::Bad,
        Some(Value::Clear) | None => {
            if args.note.is_some() || args.correction.is_some() || args.expires.is_some() {
                return Err(Error::Usage(
                    "clear takes neither --note, --correction nor --expires".to_string(),
                ));
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
    if args.expires.is_some() && scope != Scope::Answer {
        return Err(Error::Usage(
            "--expires is about an answer: how it was reached does not change".to_string(),
        ));
    }
    let label = Label {
        turn: args.turn,
        text: args.note.clone(),
        correction: args.correction.clone(),
        expiry_ms,
        ..Label::on(&row, scope, value)
    };
    let kept = if args.expires.is_some() { store.replace_label(&label) } else { store.add_label(&label) };
    kept.map_err(|e| match e {
        // A label that contradicts itself is the command line's fault.
        StoreError::Invalid(text) => Error::Usage(text),
        e => e.into(),
    })?;
    let what = match (scope, args.turn, &row.answer) {
        (Scope::Turn, Some(turn), _) => format!("turn {turn}"),
        (Scope::Answer, _, Some(answer)) => format!("answer {}", plain::excerpt(answer, 80)),
        (scope, ..) => scope.name().to_string(),
    };
    let until = expiry_ms.map_or_else(String::new, |at| format!(", until {}", when(at)));
    Ok(format!("{name}: {} ({what}){until}", value.name()))
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
    let others = args.correction.is_some() || args.turn.is_some() || args.scope.is_some();
    if others || args.note.is_some() || args.expires.is_some() {
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
        assert!(parse("label ab").is_err() && parse("label").is_err());
        assert_eq!(parse("label --again 5").unwrap().again, Some(5));
        assert!(parse("label ab good --again 5").is_err());
    }
}
