//! The chat as a tab: what its keys and events do to the state in `chat`, and how it is drawn.

use std::time::Duration;

use ratatui::buffer::Buffer;
use ratatui::layout::{Position, Rect};

use crate::deck::app::Effect;
use crate::deck::chat::Chat;
use crate::deck::command::Action;
use crate::deck::completion::{self, Files};
use crate::deck::exchange::Exchange;
use crate::deck::keymap::Place;
use crate::deck::layer::correct::Correct;
use crate::deck::layer::line::Line;
use crate::deck::message::{DeckCommand, DeckEvent, LabelRequest, LabelValue, Level, Scope};
use crate::deck::row::Row;
use crate::deck::tab::{Context, Look, Tab};
use crate::deck::theme::Ink;

/// A running query shows its seconds this often.
const SECOND: Duration = Duration::from_secs(1);

impl Tab for Chat {
    fn places(&self) -> Vec<Place> {
        if self.inside.is_some() {
            return vec![Place::Inside, Place::List];
        }
        let mut places = Vec::with_capacity(5);
        if self.completion.is_some() {
            places.push(Place::Completion);
        }
        if self.panes.focus.is_some() {
            places.push(Place::Pane);
        }
        if self.composer.is_empty() && self.followed().is_some_and(|(live, _)| live.turn(0).is_some()) {
            places.push(Place::EmptyInput);
        }
        if self.composer.is_empty() {
            places.push(Place::BareInput);
        }
        places.push(Place::Input);
        places
    }

    fn perform(&mut self, action: Action, argument: &str, cx: &mut Context) -> bool {
        if self.perform_inside(action, argument, cx).is_some() {
            return true;
        }
        match action {
            Action::Send => self.send_or_run(cx),
            Action::Newline => {
                self.composer.insert("\n");
                self.completion = None;
            }
            Action::Edit(edit) => self.edit(edit, cx),
            Action::Complete => self.complete(false, cx),
            Action::CompleteSend => self.complete(true, cx),
            Action::Escape => self.escape(cx),
            Action::Good => self.label_answer(Scope::Answer, LabelValue::Good, cx),
            Action::Bad => self.label_answer(Scope::Answer, LabelValue::Bad, cx),
            Action::PlanBad => self.label_answer(Scope::Plan, LabelValue::Bad, cx),
            Action::Correct => self.correct(argument, cx),
            Action::Expires => self.expires(argument, cx),
            Action::ClearLabel => {
                let effects = self.clear_labels(cx.now_ms);
                let none = effects.is_empty();
                cx.say(if none { "there is no label to take back" } else { "label taken back" });
                cx.wishes.effects.extend(effects);
            }
            Action::Label => match argument {
                "good" => self.label_answer(Scope::Answer, LabelValue::Good, cx),
                "bad" => self.label_answer(Scope::Answer, LabelValue::Bad, cx),
                "plan-bad" => self.label_answer(Scope::Plan, LabelValue::Bad, cx),
                "clear" => return self.perform(Action::ClearLabel, "", cx),
                _ => cx.warn("/label takes good, bad, plan-bad or clear"),
            },
            Action::Copy => self.copy(argument, cx),
            Action::CopyPart => self.choose_part(cx),
            Action::Export => self.export(argument, cx),
            Action::History => self.choose_earlier(cx),
            Action::Recall => {
                if self.composer.replace(argument) {
                    cx.say("what stood in the input is kept: Up brings it back");
                }
                self.completion = None;
            }
            Action::Queue => self.choose_queued(cx),
            Action::TakeBack => self.take_back(argument, cx),
            Action::DropQueued => self.drop_queued(argument, cx),
            Action::Editor => cx.effect(Effect::Edit(self.composer.value())),
            Action::Find => self.find(argument, true, true, cx),
            Action::FindBack | Action::FindForward => {
                let sought = if argument.is_empty() { self.sought.clone() } else { argument.to_string() };
                self.find(&sought, action == Action::FindBack, false, cx);
            }
            Action::FindEnd => self.sought.clear(),
            Action::NewConversation => cx.effect(Effect::Command(DeckCommand::NewConversation)),
            _ => return self.walk(action, cx),
        }
        true
    }

    fn typed(&mut self, c: char, cx: &mut Context) {
        // What nobody sees is not typed.
        if self.inside.is_some() {
            return;
        }
        self.panes.focus = None;
        self.sought.clear();
        self.composer.insert(c.encode_utf8(&mut [0; 4]));
        self.offer(cx);
    }

    fn paste(&mut self, text: &str, _: &mut Context) {
        self.composer.paste(text);
        self.completion = None;
    }

    fn click(&mut self, column: u16, row: u16) {
        let Some(layout) = &self.drawn else { return };
        let hit = layout.panes.iter().find(|(_, area)| area.contains(Position::new(column, row)));
        let pane = hit.map(|(pane, _)| *pane);
        if pane != self.panes.focus {
            self.panes.focus(pane);
        }
    }

    fn files(&mut self, files: Files) {
        self.files = files;
        self.completion = completion::choices(&self.composer, &self.files);
    }

    fn event(&mut self, event: &DeckEvent, cx: &mut Context) {
        self.library_event(event, cx);
        match event {
            DeckEvent::Flow(event) => {
                let effects = self.flow_event(event, cx.now_ms);
                cx.wishes.effects.extend(effects);
            }
            DeckEvent::Progress(progress) => self.progress(progress),
            DeckEvent::Waits(waits) => self.waits(*waits),
            DeckEvent::Conversation { .. } => {
                let text = match self.queue_len() {
                    0 => "a new conversation begins here".to_string(),
                    1 => "a new conversation begins here; the query queued before still belongs to the one above"
                        .to_string(),
                    n => format!(
                        "a new conversation begins here; the {n} queued before still belong to the one above"
                    ),
                };
                self.notice(Level::Info, text);
            }
            DeckEvent::Notice { level, text } => self.notice(*level, text.clone()),
            DeckEvent::LabelStored { trajectory, turn, scope, value, .. } => {
                self.label_stored(trajectory, *scope, *turn, *value);
            }
            DeckEvent::Refused { reason, remedy } => {
                let effects = self.refused(reason, remedy, cx.now_ms);
                cx.wishes.effects.extend(effects);
            }
            // A running query tells it itself, in its place.
            DeckEvent::EngineDied { reason, remedy } if !self.is_running() => {
                let text = if remedy.is_empty() { reason.clone() } else { format!("{reason}; {remedy}") };
                self.notice(Level::Error, text);
            }
            DeckEvent::FirstLines(lines) => self.first_lines(lines),
            DeckEvent::Full(full) => self.full = *full,
            DeckEvent::EngineDied { .. }
            | DeckEvent::Status(_)
            | DeckEvent::Library(_)
            | DeckEvent::Study(_)
            | DeckEvent::Checks(_)
            | DeckEvent::Approve { .. }
            | DeckEvent::Server { .. } => {}
        }
    }

    fn tick(&mut self, now_ms: u64) {
        self.tick_running(now_ms);
    }

    fn wait(&self) -> Option<Duration> {
        self.is_running().then_some(SECOND)
    }

    fn hints(&self) -> Vec<(Action, &'static str)> {
        if let Some(inside) = &self.inside {
            return inside.hints();
        }
        let (empty, running) = (self.composer.is_empty(), self.is_running());
        let mut hints = Vec::new();
        if running {
            hints.push((Action::Escape, "cancel"));
        }
        if self.queue_len() > 0 {
            hints.push((Action::Queue, "queued"));
        }
        if self.completion.is_some() {
            let enter = if self.composer.value().starts_with('/') { "run" } else { "take" };
            return vec![
                (Action::Complete, "take"),
                (Action::CompleteSend, enter),
                (Action::Escape, "close"),
            ];
        }
        if !empty {
            hints.push((Action::Send, if running { "queue" } else { "send" }));
            hints.push((Action::Newline, "new line"));
        }
        if empty && self.answer().is_some() {
            hints.extend([(Action::Good, "good"), (Action::Bad, "bad"), (Action::PlanBad, "plan bad")]);
        }
        if empty && self.followed().is_some_and(|(live, _)| live.trajectory.turns.len() > 1) {
            hints.extend([(Action::TurnBack, ""), (Action::TurnForward, "turn")]);
        }
        hints.extend([(Action::Help, "keys"), (Action::NextPane, "panes")]);
        if empty && !running && self.answer().is_some() {
            hints.push((Action::Roll, "group"));
        }
        if empty && !running {
            hints.push((Action::QuitIfEmpty, "quit"));
        }
        hints
    }

    /// `turns |=#-|`: one mark per turn, `#` the selected one.
    fn corner(&self) -> Option<Row> {
        if self.inside.is_some() {
            return None;
        }
        let (live, at) = self.followed()?;
        let count = live.trajectory.turns.len();
        if count == 0 {
            return None;
        }
        let mark = |n: usize| match n.cmp(&at) {
            std::cmp::Ordering::Less => '=',
            std::cmp::Ordering::Equal => '#',
            std::cmp::Ordering::Greater => '-',
        };
        let bar: String = (0..count.min(40)).map(mark).collect();
        Some(Row::new().say("turns |", Ink::Dim).say(bar, Ink::Accent).say("| ", Ink::Dim))
    }

    fn draw(&mut self, buffer: &mut Buffer, area: Rect, look: &Look) -> Option<Position> {
        if let Some(inside) = &mut self.inside {
            inside.draw(buffer, area, &look.theme);
            return None;
        }
        self.draw_all(buffer, area, look)
    }
}

impl Chat {
    /// What moves the selection or the window.
    fn walk(&mut self, action: Action, cx: &mut Context) -> bool {
        match action {
            Action::NextPane => self.panes.walk(true),
            Action::PreviousPane => self.panes.walk(false),
            Action::Pane(pane) => self.panes.focus(Some(pane)),
            Action::TurnBack => self.walk_turns(false),
            Action::TurnForward => self.walk_turns(true),
            Action::QueryBack | Action::QueryForward => {
                self.walk_queries(action == Action::QueryForward);
                self.read_outline(cx);
            }
            Action::ScrollUp if self.completion.is_some() => self.walk_choices(false),
            Action::ScrollDown if self.completion.is_some() => self.walk_choices(true),
            Action::ScrollUp => self.scroll(-1),
            Action::ScrollDown => self.scroll(1),
            Action::PageUp => self.scroll(-cx.page()),
            Action::PageDown => self.scroll(cx.page()),
            Action::First => self.scroll(isize::MIN / 2),
            Action::Newest => self.newest(),
            _ => return false,
        }
        true
    }

    fn scroll(&mut self, rows: isize) {
        match self.panes.focus {
            Some(_) => self.panes.scroll = self.panes.scroll.saturating_add_signed(rows),
            None => self.transcript.scroll(rows),
        }
    }

    fn escape(&mut self, cx: &mut Context) {
        if self.completion.take().is_some() {
            return;
        }
        if self.is_running() {
            cx.say(match self.queue_len() {
                0 => "cancelling".to_string(),
                1 => "cancelling; the queued query runs next (Alt+q takes it back)".to_string(),
                n => format!("cancelling; the first of {n} queued runs next (Alt+q takes them back)"),
            });
            cx.effect(Effect::Command(DeckCommand::Cancel));
        } else {
            self.newest();
        }
    }

    fn label_answer(&mut self, scope: Scope, value: LabelValue, cx: &mut Context) {
        match self.label(scope, value, None, cx.now_ms) {
            Ok(effect) => {
                let word = match (scope, value) {
                    (Scope::Answer, LabelValue::Good) => "answer good",
                    (Scope::Answer, _) => "answer bad",
                    _ => "plan bad",
                };
                cx.say(format!("{word}; Alt+u takes it back, Alt+g draws a group to learn from"));
                cx.effect(effect);
            }
            Err(why) => cx.warn(why),
        }
    }

    /// How long the label on this answer holds: asked, then said.
    fn expires(&mut self, after: &str, cx: &mut Context) {
        let labelled = |exchange: &Exchange| {
            exchange
                .labels
                .iter()
                .any(|(scope, _, value, _)| *scope == Scope::Answer && *value != LabelValue::Clear)
        };
        let exchange = self.current().and_then(|cell| self.transcript.exchange(cell));
        let Some(trajectory) = exchange.filter(|exchange| labelled(exchange)).and_then(Exchange::id) else {
            return cx.say("label an answer first, + or -; then say how long that holds");
        };
        if after.is_empty() {
            return cx.open(Line::expires(""));
        }
        let (trajectory, after) = (trajectory.to_string(), after.to_string());
        cx.effect(Effect::Command(DeckCommand::Expires { trajectory, after }));
    }

    /// Ask for the correction, unless it came along.
    fn correct(&mut self, text: &str, cx: &mut Context) {
        match self.answer().and(self.followed()) {
            Some((live, _)) if text.is_empty() => cx.open(Correct::new(live.trajectory.id.clone())),
            Some((live, _)) => {
                let trajectory = live.trajectory.id.clone();
                self.corrected(&trajectory, text, cx);
            }
            None => cx.say("there is no answer to correct yet"),
        }
    }

    /// Label `trajectory` bad, with what its answer should have been.
    pub fn corrected(&mut self, trajectory: &str, text: &str, cx: &mut Context) {
        let correction = Some(text.to_string());
        let labelled = if self.cell_of(trajectory).is_some() {
            self.label_of(trajectory, Scope::Answer, LabelValue::Bad, correction, cx.now_ms)
        } else {
            // Corrected where it was replayed or listed: this conversation knows nothing of it.
            let label = LabelRequest::alone(trajectory, Scope::Answer, LabelValue::Bad);
            Ok(Effect::Command(DeckCommand::Label(LabelRequest { correction, ..label })))
        };
        match labelled {
            Ok(effect) => {
                cx.say("answer bad, yours is kept as the right one; Alt+u takes it back");
                cx.effect(effect);
            }
            Err(why) => cx.warn(why),
        }
    }
}
