//! A query and what became of it: one cell of the conversation, its states and its rows.

use crate::deck::live::Live;
use crate::deck::markdown;
use crate::deck::message::{LabelValue, Scope};
use crate::deck::row::{Prose, Row};
use crate::deck::theme::Ink;
use crate::deck::why;
use crate::engine::Role;
use crate::flow::trajectory::Outcome;

/// Characters and lines of a query that are shown; the rest is counted.
const QUERY_CHARS: usize = 2_000;
const QUERY_LINES: usize = 12;

/// A training step has the machine's cores.
const WAITS: &str = "waits for the training step to end (F4 shows it)";

/// Labels of a trajectory: value per scope, and whether the store has confirmed it.
pub type Labels = Vec<(Scope, Option<usize>, LabelValue, bool)>;

#[derive(Clone, Debug, Default)]
pub struct Exchange {
    pub query: String,
    /// None while the query waits in the queue or is on its way to the engine.
    pub live: Option<Live>,
    /// It waits for the one before it.
    pub queued: bool,
    /// It waits for a training step to end.
    pub waits: bool,
    /// (reason, remedy) when it could not start.
    pub refused: Option<(String, String)>,
    pub labels: Labels,
    pub correction: Option<String>,
    /// When it was sent to the engine, and the time it was last looked at, in the deck's milliseconds.
    pub asked_ms: u64,
    pub now_ms: u64,
    /// When the last event came, in the deck's milliseconds: a label's `seconds` count from here.
    pub ended_ms: Option<u64>,
    /// The answer as far as it has come, while it comes.
    stream: markdown::Stream,
}

impl Exchange {
    pub fn asked(query: String, queued: bool) -> Exchange {
        Exchange { query, queued, ..Exchange::default() }
    }

    /// The trajectory's id, once it has one.
    pub fn id(&self) -> Option<&str> {
        self.live.as_ref().map(|live| live.trajectory.id.as_str())
    }

    /// Asked and not ended: waiting for its first event, or between events.
    pub fn is_running(&self) -> bool {
        !self.queued && self.refused.is_none() && self.live.as_ref().is_none_or(Live::is_running)
    }

    pub fn is_ended(&self) -> bool {
        !self.queued && !self.is_running()
    }

    pub fn turn_count(&self) -> usize {
        self.live.as_ref().map_or(0, |live| live.trajectory.turns.len())
    }

    /// Replace the label of a scope; Clear of a scope removes it.
    pub fn set_label(&mut self, scope: Scope, turn: Option<usize>, value: LabelValue, stored: bool) {
        self.labels.retain(|(s, t, ..)| (*s, *t) != (scope, turn));
        if value != LabelValue::Clear {
            self.labels.push((scope, turn, value, stored));
        }
    }

    /// The cell as rows of at most `width` columns.
    pub fn rows(&mut self, width: usize, selected: bool) -> Vec<Row> {
        let mut stream = std::mem::take(&mut self.stream);
        let rows = self.rows_with(&mut stream, width, selected);
        if self.is_running() {
            self.stream = stream;
        }
        rows
    }

    fn rows_with(&self, stream: &mut markdown::Stream, width: usize, selected: bool) -> Vec<Row> {
        let mark = if selected { Ink::Selected } else { Ink::Accent };
        let lead = Row::new().say(">", mark).say(" ", Ink::Text);
        let mut rows = shown_query(&self.query).wrap(width, &lead, &margin());
        rows.push(Row::new());
        if let Some((reason, remedy)) = &self.refused {
            rows.extend(failure(reason, remedy, width));
        } else if self.queued {
            rows.extend(note("queued: runs when the one before has ended; Alt+q takes it back", width));
        } else {
            match &self.live {
                None if self.waits => rows.extend(self.running_note(WAITS, width)),
                None => rows.extend(note("on its way to the engine", width)),
                Some(live) => rows.extend(self.outcome_rows(live, stream, width)),
            }
        }
        rows.push(Row::new());
        rows
    }

    fn outcome_rows(&self, live: &Live, stream: &mut markdown::Stream, width: usize) -> Vec<Row> {
        let trajectory = &live.trajectory;
        match &trajectory.outcome {
            Outcome::Running => {
                let mut rows = Vec::new();
                if let Some(text) = live.stream_of(Role::Generator) {
                    rows.extend(stream.rows(text, width, &margin()));
                }
                let turn = trajectory.turns.len();
                let words = match turn {
                    _ if self.waits => WAITS.to_string(),
                    0 => live.stage_words(),
                    _ => format!("turn {turn} · {}", live.stage_words()),
                };
                rows.extend(self.running_note(&words, width));
                rows
            }
            Outcome::Answered => {
                let answer = trajectory.answer.as_deref().unwrap_or_default();
                let mut rows = if answer.trim().is_empty() {
                    note("(the answer is empty)", width)
                } else {
                    markdown::rows(answer, width, &margin())
                };
                if let Some(correction) = &self.correction {
                    let prose = Prose::of("should be: ", Ink::Dim).say(correction, Ink::Text);
                    rows.extend(prose.wrap(width, &margin(), &margin()));
                }
                rows.extend(self.figures(live, width));
                if trajectory.left_out > 0 {
                    let oldest = trajectory.left_out;
                    let words = format!(
                        "the context holds no more: the oldest {oldest} earlier queries were left out"
                    );
                    rows.extend(note(&words, width));
                }
                if let Some(limit) = &trajectory.limit {
                    rows.extend(note(&format!("stopped by a limit: {limit}"), width));
                }
                rows
            }
            Outcome::Failed { reason, remedy, .. } => {
                let mut rows = failure(reason, remedy, width);
                rows.extend(self.figures(live, width));
                rows.extend(note("Up brings the query back into the input", width));
                rows
            }
            Outcome::Cancelled => {
                let turns = trajectory.turns.len();
                let words =
                    if turns == 0 { "cancelled".to_string() } else { format!("cancelled in turn {turns}") };
                let mut rows = Prose::of(words, Ink::Warning).wrap(width, &margin(), &margin());
                rows.extend(note("Up brings the query back into the input", width));
                rows
            }
        }
    }

    /// What goes on, and for how long it has.
    fn running_note(&self, words: &str, width: usize) -> Vec<Row> {
        match self.now_ms.saturating_sub(self.asked_ms) / 1_000 {
            0 => note(words, width),
            seconds => note(&format!("{words} · {seconds} s"), width),
        }
    }

    /// `(good)  3 turns · 4.2 s · 812 tokens · search > calculator, stopped: answer found`, below it where it
    /// was forked and which turns came to nothing.
    fn figures(&self, live: &Live, width: usize) -> Vec<Row> {
        let trajectory = &live.trajectory;
        let mut prose = Prose::new();
        for (scope, turn, value, stored) in &self.labels {
            let word = match (scope, value) {
                (Scope::Answer, LabelValue::Good) => "good".to_string(),
                (Scope::Answer, _) => "bad".to_string(),
                (Scope::Plan, _) => "plan bad".to_string(),
                (Scope::Turn, _) => format!("turn {} bad", turn.unwrap_or_default()),
            };
            let ink = if *value == LabelValue::Good { Ink::Good } else { Ink::Bad };
            let word = if *stored { format!("({word})") } else { format!("({word}, saving)") };
            prose = prose.say(word, ink).say("  ", Ink::Text);
        }
        let turns = trajectory.turns.len();
        let figures = format!(
            "{turns} {} · {:.1} s · {} tokens",
            if turns == 1 { "turn" } else { "turns" },
            trajectory.seconds,
            trajectory.tokens
        );
        let way = why::way(trajectory);
        let way = if way.is_empty() { way } else { format!(" · {way}") };
        let mut rows = prose.say(figures + &way, Ink::Dim).wrap(width, &margin(), &margin());
        if let Some((parent, turns)) = &trajectory.parent {
            let parent = parent.get(parent.len().saturating_sub(8)..).unwrap_or(parent);
            let words = format!("turn {} of {parent} planned again; /compare shows both", turns + 1);
            rows.extend(note(&words, width));
        }
        let (troubles, more) = why::troubles(trajectory);
        for (turn, words) in troubles {
            let prose = Prose::of(format!("turn {turn}: "), Ink::Warning).say(words, Ink::Dim);
            rows.extend(prose.wrap(width, &margin(), &margin()));
        }
        if more > 0 {
            rows.extend(note(&format!("and {more} more: [ and ] walk the turns"), width));
        }
        rows
    }
}

fn margin() -> Row {
    Row::new().say("  ", Ink::Text)
}

fn note(text: &str, width: usize) -> Vec<Row> {
    Prose::of(text, Ink::Dim).wrap(width, &margin(), &margin())
}

fn failure(reason: &str, remedy: &str, width: usize) -> Vec<Row> {
    // Some reasons end with the remedy, which stands below.
    let told = reason.strip_suffix(remedy).filter(|_| !remedy.is_empty());
    let reason = told.map_or(reason, |reason| reason.trim_end_matches([';', ' ']));
    let prose = Prose::of("failed: ", Ink::Error).say(reason, Ink::Text);
    let mut rows = prose.wrap(width, &margin(), &margin());
    if !remedy.is_empty() {
        rows.extend(Prose::of("remedy: ", Ink::Dim).say(remedy, Ink::Text).wrap(width, &margin(), &margin()));
    }
    rows
}

/// The query, cut to what a person reads, with what was cut in numbers.
fn shown_query(query: &str) -> Prose {
    let mut end = query.char_indices().nth(QUERY_CHARS).map_or(query.len(), |(at, _)| at);
    if let Some((at, _)) = query.match_indices('\n').nth(QUERY_LINES) {
        end = end.min(at);
    }
    let prose = Prose::of(&query[..end], Ink::Strong);
    if end == query.len() {
        return prose;
    }
    prose.say(format!(" [and {} more]", crate::deck::composer::size(query.len() - end)), Ink::Dim)
}
