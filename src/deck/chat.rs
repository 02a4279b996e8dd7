//! The chat tab: the conversation, the queue of queries, what is selected. State and its changes; keys and
//! drawing are in `chat_tab`.
//!
//! One query runs at a time. A query sent meanwhile waits in the queue and shows there; every `Ask` is
//! answered by the events of a trajectory up to its last, or by `Refused`.

use std::collections::VecDeque;

use crate::deck::app::Effect;
use crate::deck::completion::{Completion, Files};
use crate::deck::composer::Composer;
use crate::deck::exchange::Exchange;
use crate::deck::inside::Inside;
use crate::deck::layout::Layout;
use crate::deck::live::Live;
use crate::deck::message::{DeckCommand, LabelRequest, LabelValue, Level, Past, Scope};
use crate::deck::panes::Panes;
use crate::deck::theme::Ink;
use crate::deck::transcript::{Cell, Transcript};
use crate::flow::event::{Body, Event, Progress};
use crate::flow::trajectory::Outcome;
use crate::text::one_line;

/// The keys a person needs first; the rest is on the help page.
const FIRST_KEYS: &str = "Type a query and press Enter. + and - label an answer, [ and ] walk its turns, Tab walks \
                          the panes, F1 to F5 the tabs, Esc cancels, ? shows every key, Ctrl+D quits.";

const NO_ANSWER: &str = "there is no answer to label yet";

fn first_words(lines: &[String]) -> Vec<(String, Ink)> {
    let mut words: Vec<(String, Ink)> = lines.iter().map(|line| (line.clone(), Ink::Text)).collect();
    words.push((FIRST_KEYS.to_string(), Ink::Dim));
    words
}

#[derive(Default)]
pub struct Chat {
    /// The disk of the record is full: queued queries wait for a person, not for each other.
    pub full: bool,
    pub transcript: Transcript,
    pub composer: Composer,
    /// Where no pane has the focus the input has it.
    pub panes: Panes,
    /// The view inside a trajectory, in place of everything else.
    pub inside: Option<Inside>,
    /// Position of the selected turn; None follows the newest.
    turn: Option<usize>,
    /// Cell of the selected exchange; None is the running one, else the newest.
    selected: Option<usize>,
    running: Option<usize>,
    /// What waits, with the session it was sent in: a conversation begun meanwhile is not its own.
    queue: VecDeque<(usize, String)>,
    /// Asked already, and behind a fork that came first.
    asked: VecDeque<usize>,
    /// Choices above the input, and the files they are made of.
    pub completion: Option<Completion>,
    pub files: Files,
    /// What is searched for; marked where it shows.
    pub sought: String,
    /// Where the parts stood when last drawn, for the mouse.
    pub drawn: Option<Layout>,
}

impl Chat {
    pub fn new(first_lines: &[String], past: Vec<Past>, history: Vec<String>) -> Chat {
        let mut chat = Chat { composer: Composer::with_history(history), ..Chat::default() };
        chat.transcript.push(Cell::Words(first_words(first_lines)));
        for past in past {
            let mut exchange = Exchange::asked(past.trajectory.query.clone(), false);
            exchange.live = Some(Live::past(past.trajectory, past.outline));
            for (scope, turn, value) in past.labels {
                exchange.set_label(scope, turn, value, true);
            }
            chat.transcript.push(Cell::Exchange(Box::new(exchange)));
        }
        chat
    }

    pub fn is_running(&self) -> bool {
        self.running.is_some()
    }

    pub fn queue_len(&self) -> usize {
        self.queue.len()
    }

    /// What waits, the next first, with its cell.
    pub fn queued(&self) -> impl Iterator<Item = (usize, &str)> {
        let known = |cell: usize| Some((cell, self.transcript.exchange(cell)?.query.as_str()));
        self.queue.iter().filter_map(move |(cell, _)| known(*cell))
    }

    /// Take a query out of the queue; None when it has been asked.
    pub fn unqueue(&mut self, cell: usize) -> Option<String> {
        let at = self.queue.iter().position(|(waiting, _)| *waiting == cell)?;
        self.queue.remove(at);
        let query = self.transcript.exchange(cell)?.query.clone();
        self.transcript.replace(cell, Cell::Notice(Level::Info, format!("not asked: {}", one_line(&query))));
        if self.selected == Some(cell) {
            self.newest();
        }
        Some(query)
    }

    /// The exchange the panes and the label keys are about.
    pub fn current(&self) -> Option<usize> {
        let newest =
            || self.transcript.exchanges().find(|(_, exchange)| !exchange.queued).map(|(cell, _)| cell);
        self.selected.or(self.running).or_else(newest)
    }

    /// The trajectory the panes show, and the position of its selected turn.
    pub fn followed(&self) -> Option<(&Live, usize)> {
        let live = self.transcript.exchange(self.current()?)?.live.as_ref()?;
        let last = live.trajectory.turns.len().saturating_sub(1);
        Some((live, self.turn.map_or(last, |turn| turn.min(last))))
    }

    /// Send what is in the input, or queue it. Slash commands are the caller's.
    pub fn send(&mut self, session: &str, now_ms: u64) -> Vec<Effect> {
        self.newest();
        if self.composer.value().trim().is_empty() {
            return Vec::new();
        }
        let query = self.composer.take().trim().to_string();
        let queued = self.running.is_some();
        let cell = self.transcript.push(Cell::Exchange(Box::new(Exchange::asked(query, queued))));
        self.queue.push_back((cell, session.to_string()));
        self.next_query(now_ms)
    }

    /// Ask the oldest queued query if none runs.
    fn next_query(&mut self, now_ms: u64) -> Vec<Effect> {
        if self.running.is_some() {
            return Vec::new();
        }
        let Some((cell, conversation)) = self.queue.pop_front() else { return Vec::new() };
        let Some(exchange) = self.transcript.exchange_mut(cell) else { return Vec::new() };
        exchange.queued = false;
        (exchange.asked_ms, exchange.now_ms) = (now_ms, now_ms);
        let query = exchange.query.clone();
        self.running = Some(cell);
        vec![Effect::Command(DeckCommand::Ask { query, conversation })]
    }

    pub fn flow_event(&mut self, event: &Event, now_ms: u64) -> Vec<Effect> {
        let cell = match self.cell_of(&event.trajectory) {
            Some(cell) => cell,
            None => match &event.body {
                Body::Started { query, .. } => self.begin(query),
                // A trajectory that began before the deck listened.
                _ => return Vec::new(),
            },
        };
        let Some(exchange) = self.transcript.exchange_mut(cell) else { return Vec::new() };
        exchange.live.get_or_insert_default().apply(event);
        if !event.body.is_last() {
            return Vec::new();
        }
        exchange.ended_ms = Some(now_ms);
        self.ended(cell, now_ms)
    }

    /// Let the running query show how long it has run.
    pub fn tick_running(&mut self, now_ms: u64) {
        let Some(cell) = self.running else { return };
        let stale = |exchange: &Exchange| exchange.now_ms / 1_000 != now_ms / 1_000;
        if self.transcript.exchange(cell).is_some_and(stale)
            && let Some(exchange) = self.transcript.exchange_mut(cell)
        {
            exchange.now_ms = now_ms;
        }
    }

    pub fn progress(&mut self, progress: &Progress) {
        let Some(cell) = self.cell_of(&progress.trajectory) else { return };
        if let Some(live) = self.transcript.exchange_mut(cell).and_then(|exchange| exchange.live.as_mut()) {
            live.progress(progress);
        }
    }

    /// The running query waits for a training step to end, or goes on.
    pub fn waits(&mut self, waits: bool) {
        if let Some(exchange) = self.running.and_then(|cell| self.transcript.exchange_mut(cell)) {
            exchange.waits = waits;
        }
    }

    /// The query asked last could not start.
    pub fn refused(&mut self, reason: &str, remedy: &str, now_ms: u64) -> Vec<Effect> {
        let Some(cell) = self.running else { return Vec::new() };
        if let Some(exchange) = self.transcript.exchange_mut(cell) {
            exchange.refused = Some((reason.to_string(), remedy.to_string()));
        }
        self.ended(cell, now_ms)
    }

    fn ended(&mut self, cell: usize, now_ms: u64) -> Vec<Effect> {
        if self.running == Some(cell) {
            self.running = self.asked.pop_front();
        }
        if self.full && !self.queue.is_empty() {
            let waiting = self.queue.len();
            let queries = if waiting == 1 { "query waits" } else { "queries wait" };
            let words = format!(
                "the disk is full, so {waiting} queued {queries}: free some space, then send the next"
            );
            self.notice(Level::Warning, words);
            return Vec::new();
        }
        self.next_query(now_ms)
    }

    /// The cell a new trajectory belongs to: the query that was asked, else a new one.
    fn begin(&mut self, query: &str) -> usize {
        let waiting =
            |cell: &usize| self.transcript.exchange(*cell).is_some_and(|exchange| exchange.live.is_none());
        if let Some(cell) = self.running.filter(waiting) {
            return cell;
        }
        let exchange = Exchange::asked(query.to_string(), false);
        self.transcript.push(Cell::Exchange(Box::new(exchange)))
    }

    /// A trajectory begins that no `send` asked for.
    pub fn forked(&mut self, query: &str, now_ms: u64) {
        let mut exchange = Exchange::asked(query.to_string(), false);
        (exchange.asked_ms, exchange.now_ms) = (now_ms, now_ms);
        // A query sent while the fork was on its way runs after it.
        self.asked.extend(self.running);
        self.running = Some(self.transcript.push(Cell::Exchange(Box::new(exchange))));
    }

    /// What the model can and cannot do has become known: before everything else.
    pub fn first_lines(&mut self, lines: &[String]) {
        self.transcript.introduce(first_words(lines));
    }

    pub(super) fn cell_of(&self, trajectory: &str) -> Option<usize> {
        let mut exchanges = self.transcript.exchanges();
        exchanges.find(|(_, exchange)| exchange.id() == Some(trajectory)).map(|(cell, _)| cell)
    }

    /// Let go of every selection and follow what is new.
    pub fn newest(&mut self) {
        self.selected = None;
        self.turn = None;
        self.panes.clear();
        self.transcript.select(None);
        self.transcript.follow();
    }

    pub fn notice(&mut self, level: Level, text: String) {
        self.transcript.push(Cell::Notice(level, text));
    }

    /// Select a turn by its position; None follows the newest.
    pub fn select_turn(&mut self, at: Option<usize>) {
        self.turn = at;
    }

    /// Select the turn before or after; past the newest it follows again.
    pub fn walk_turns(&mut self, forward: bool) {
        let Some((live, at)) = self.followed() else { return };
        let count = live.trajectory.turns.len();
        self.turn = match forward {
            true if at + 1 >= count => None,
            true => Some(at + 1),
            false => Some(at.saturating_sub(1)),
        };
        self.panes.scroll = 0;
    }

    /// Select the query before or after; past the newest nothing is selected.
    pub fn walk_queries(&mut self, forward: bool) {
        let Some(at) = self.current() else { return };
        let cells: Vec<usize> = self.transcript.exchanges().map(|(cell, _)| cell).collect();
        let position = cells.iter().position(|cell| *cell == at).unwrap_or(0);
        let next = match (forward, self.selected) {
            (true, _) => position.checked_sub(1),
            // The first step selects what the panes already show.
            (false, None) => Some(position),
            (false, Some(_)) => Some((position + 1).min(cells.len() - 1)),
        };
        self.selected = next.map(|position| cells[position]);
        self.turn = None;
        self.panes.scroll = 0;
        self.transcript.select(self.selected);
    }

    /// Label the current trajectory.
    ///
    /// # Errors
    /// Why there is nothing to label, in words for the person.
    pub fn label(
        &mut self,
        scope: Scope,
        value: LabelValue,
        correction: Option<String>,
        now_ms: u64,
    ) -> Result<Effect, &'static str> {
        // A plan label is about the turn when one was selected by hand.
        let turn = match (scope, self.turn, self.followed()) {
            (Scope::Plan, Some(_), Some((live, at))) => live.turn(at).map(|turn| turn.turn),
            _ => None,
        };
        let scope = if turn.is_some() { Scope::Turn } else { scope };
        let cell = self.current().ok_or(NO_ANSWER)?;
        self.label_cell(cell, (scope, turn), value, correction, now_ms)
    }

    /// Label a trajectory of this conversation by its id, whatever is selected.
    ///
    /// # Errors
    /// As `label`.
    pub fn label_of(
        &mut self,
        trajectory: &str,
        scope: Scope,
        value: LabelValue,
        correction: Option<String>,
        now_ms: u64,
    ) -> Result<Effect, &'static str> {
        let cell = self.cell_of(trajectory).ok_or(NO_ANSWER)?;
        self.label_cell(cell, (scope, None), value, correction, now_ms)
    }

    fn label_cell(
        &mut self,
        cell: usize,
        (scope, turn): (Scope, Option<usize>),
        value: LabelValue,
        correction: Option<String>,
        now_ms: u64,
    ) -> Result<Effect, &'static str> {
        let shown_set = self.transcript.shown();
        let exchange = self.transcript.exchange_mut(cell).ok_or(NO_ANSWER)?;
        let live = exchange.live.as_ref().ok_or("this query has no answer yet")?;
        match live.trajectory.outcome {
            Outcome::Answered => {}
            Outcome::Running => return Err("still running; Alt+Up selects an earlier answer"),
            Outcome::Failed { .. } | Outcome::Cancelled => {
                return Err("only an answered query can be labelled: a failed one never trains");
            }
        }
        let trajectory = live.trajectory.id.clone();
        let seconds = exchange.ended_ms.map_or(0.0, |ended| now_ms.saturating_sub(ended) as f64 / 1e3);
        if value != LabelValue::Clear {
            exchange.set_label(scope, turn, value, false);
        }
        if correction.is_some() {
            exchange.correction.clone_from(&correction);
        }
        let request = LabelRequest { trajectory, turn, scope, value, correction, shown_set, seconds };
        Ok(Effect::Command(DeckCommand::Label(request)))
    }

    /// Take back every label of the current trajectory.
    pub fn clear_labels(&mut self, now_ms: u64) -> Vec<Effect> {
        let Some(cell) = self.current() else { return Vec::new() };
        let labels =
            self.transcript.exchange(cell).map(|exchange| exchange.labels.clone()).unwrap_or_default();
        let shown_set = self.transcript.shown();
        let Some(exchange) = self.transcript.exchange_mut(cell) else { return Vec::new() };
        let seconds = exchange.ended_ms.map_or(0.0, |ended| now_ms.saturating_sub(ended) as f64 / 1e3);
        let trajectory = exchange.id().unwrap_or_default().to_string();
        exchange.correction = None;
        let clear = |(scope, turn, ..): (Scope, Option<usize>, LabelValue, bool)| LabelRequest {
            trajectory: trajectory.clone(),
            turn,
            scope,
            value: LabelValue::Clear,
            correction: None,
            shown_set: shown_set.clone(),
            seconds,
        };
        labels.into_iter().map(clear).map(|request| Effect::Command(DeckCommand::Label(request))).collect()
    }

    pub fn label_stored(&mut self, trajectory: &str, scope: Scope, turn: Option<usize>, value: LabelValue) {
        let Some(cell) = self.cell_of(trajectory) else { return };
        if let Some(exchange) = self.transcript.exchange_mut(cell) {
            exchange.set_label(scope, turn, value, true);
        }
    }

    /// The current answer, as the model wrote it.
    pub fn answer(&self) -> Option<String> {
        self.followed().and_then(|(live, _)| live.trajectory.answer.clone())
    }
}
