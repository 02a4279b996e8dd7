//! `tillerman --plain`: the conversation as lines that are only ever added, for screen readers, dumb terminals and
//! pipes. Answers go to stdout, the turns on the way to stderr, as `ask` does; questions are read a line each.
//!
//! What can be said of an answer is said in words that begin with a slash; everything else is asked.

use std::io::{IsTerminal as _, Write as _};
use std::sync::Arc;

use crate::error::Error;
use crate::flow::solve::Ask;
use crate::store::{Label, LabelValue, Scope, Status, Store, StoreSink, new_id};
use crate::text::safe;
use crate::tools::Taint;

use super::ask::{PrintSink, answer};
use super::setup::{self, Setup};
use super::{Global, approve};

const HELP: &str = "\
A line is a question; those after it see its answer.
/good              the answer was good
/bad [ANSWER]      it was bad, and what it should have been
/plan-bad          its plans were bad, whatever came of them
/unlabel           take that back
/new               a new conversation
/quit              end, as Ctrl+D does
Ctrl+C stops the running question.";

/// What a line asks for.
#[derive(Debug, PartialEq, Eq)]
enum Said<'a> {
    Nothing,
    Query(&'a str),
    Good,
    Bad(Option<&'a str>),
    PlanBad,
    Unlabel,
    New,
    Help,
    Quit,
    /// A word after a slash that nobody knows.
    Unknown(&'a str),
}

fn said(line: &str) -> Said<'_> {
    let text = line.trim();
    let Some(rest) = text.strip_prefix('/') else {
        return if text.is_empty() { Said::Nothing } else { Said::Query(text) };
    };
    let (word, argument) = rest.split_once(char::is_whitespace).unwrap_or((rest, ""));
    // A path is asked about, not obeyed; so is what begins with a space.
    if line.starts_with(' ') || !word.chars().all(|c| c.is_ascii_lowercase() || c == '-') || word.is_empty() {
        return Said::Query(text);
    }
    let argument = Some(argument.trim()).filter(|argument| !argument.is_empty());
    match word {
        "good" => Said::Good,
        "bad" => Said::Bad(argument),
        "plan-bad" => Said::PlanBad,
        "unlabel" => Said::Unlabel,
        "new" => Said::New,
        "help" => Said::Help,
        "quit" | "exit" => Said::Quit,
        _ => Said::Unknown(word),
    }
}

struct Talk<'a> {
    global: &'a Global,
    setup: Setup,
    store: Arc<Store>,
    /// None until the first question.
    session: Option<String>,
    /// The trajectory asked last: what a word is about.
    last: Option<String>,
}

/// # Errors
/// Home, settings, model or store cannot be used. A question that fails is told, and the next is read.
pub async fn run(global: &Global, session: Option<&str>) -> anyhow::Result<i32> {
    let mut setup = setup::open(global, 1)?;
    setup.say_notice();
    setup.flow.approvals = approve::at_the_terminal(global.approve);
    setup.flow = setup.flow.asked();
    let store = Arc::new(Store::open(&setup.home)?);
    let session = session.map(|piece| store.find_session(piece)).transpose()?;
    session.iter().try_for_each(|session| store.can_go_on(session))?;
    let last = match &session {
        Some(session) => store.trajectories(Some(session), 1)?.pop().map(|row| row.id),
        None => None,
    };
    let mut talk = Talk { global, setup, store, session, last };
    let person = std::io::stdin().is_terminal();
    if person {
        println!(
            "Type a question and press Enter. /good and /bad say what an answer was worth, /help lists the rest."
        );
    }
    // Of the question asked last: what a pipe is told.
    let mut code = 0;
    loop {
        if person {
            print!("> ");
            let _ = std::io::stdout().flush();
        }
        let line = tokio::select! {
            line = tokio::task::spawn_blocking(read_line) => line??,
            _ = tokio::signal::ctrl_c() => return Err(Error::Interrupted.into()),
        };
        let Some(line) = line else { break };
        match said(&line) {
            Said::Nothing => {}
            Said::Quit => break,
            Said::Help => println!("{HELP}"),
            Said::Query(query) => code = talk.ask(query).await?,
            word => println!("{}", safe(&talk.obey(&word)?)),
        }
    }
    if person {
        println!();
    }
    Ok(code)
}

/// None at the end of the input.
fn read_line() -> std::io::Result<Option<String>> {
    let mut bytes = Vec::new();
    std::io::BufRead::read_until(&mut std::io::stdin().lock(), b'\n', &mut bytes)?;
    Ok((!bytes.is_empty())
        .then(|| String::from_utf8_lossy(&bytes).trim_end_matches(['\n', '\r']).to_string()))
}

impl Talk<'_> {
    async fn ask(&mut self, query: &str) -> anyhow::Result<i32> {
        let session = match &self.session {
            Some(session) => session.clone(),
            None => self.store.new_session(query)?,
        };
        let (conversation, taint) = match &self.session {
            Some(session) => (self.store.conversation(session)?, self.store.taint(session)?),
            None => (Vec::new(), Taint::default()),
        };
        self.session = Some(session.clone());
        let (id, seed) = (new_id(), self.global.seed.unwrap_or_else(setup::fresh_seed));
        self.last = Some(id.clone());
        let ask = Ask { id, session, query: query.to_string(), conversation, seed, prior: None, taint };
        let print = Arc::new(PrintSink { json: false, quiet: false });
        let sink = Arc::new(StoreSink::new(self.store.clone()).then(print));
        answer(&self.setup, &ask, sink, false).await
    }

    /// Do what is no question; answers what to say of it.
    fn obey(&mut self, word: &Said) -> anyhow::Result<String> {
        let (scope, value, correction) = match word {
            Said::Good => (Scope::Answer, Some(LabelValue::Good), None),
            Said::Bad(right) => (Scope::Answer, Some(LabelValue::Bad), right.map(String::from)),
            Said::PlanBad => (Scope::Plan, Some(LabelValue::Bad), None),
            Said::Unlabel => (Scope::Answer, None, None),
            Said::New => {
                (self.session, self.last) = (None, None);
                return Ok("a new conversation begins here".to_string());
            }
            Said::Unknown(word) => {
                return Ok(format!("no command is called /{word}; /help lists them"));
            }
            Said::Nothing | Said::Query(_) | Said::Help | Said::Quit => return Ok(String::new()),
        };
        let Some(last) = &self.last else { return Ok("there is no answer to label yet".to_string()) };
        let row = self.store.row(last)?;
        if row.status != Status::Answered {
            return Ok("only an answered query can be labelled: a failed one never trains".to_string());
        }
        let Some(value) = value else {
            let count = self.store.clear_labels(last, None, None)?;
            let none = "there is no label to take back";
            return Ok(if count == 0 { none.to_string() } else { "label taken back".to_string() });
        };
        let told = match (scope, value, &correction) {
            (Scope::Plan, ..) => "plan bad",
            (_, LabelValue::Good, _) => "answer good",
            (.., Some(_)) => "answer bad, yours is kept as the right one",
            _ => "answer bad",
        };
        self.store.add_label(&Label { correction, ..Label::on(&row, scope, value) })?;
        Ok(format!("{told}; /unlabel takes it back"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_after_a_slash_are_obeyed_and_everything_else_is_asked() {
        for (line, meant) in [
            ("", Said::Nothing),
            ("What is 6*7?", Said::Query("What is 6*7?")),
            ("/good", Said::Good),
            ("/bad", Said::Bad(None)),
            ("/bad  the sol ", Said::Bad(Some("the sol"))),
            ("/plan-bad", Said::PlanBad),
            ("/nonsense x", Said::Unknown("nonsense")),
            ("/etc/hosts holds?", Said::Query("/etc/hosts holds?")),
            (" /quit", Said::Query("/quit")),
            ("/quit", Said::Quit),
        ] {
            assert_eq!(said(line), meant, "{line:?}");
        }
    }
}
