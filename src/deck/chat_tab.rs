//! The chat as a tab: what its keys and events do to the state in `chat`, and how it is drawn.

use std::time::Duration;

use ratatui::buffer::Buffer;
use ratatui::layout::{Position, Rect};

use crate::deck::app::Effect;
use crate::deck::chat::Chat;
use crate::deck::command::Action;
use crate::deck::composer::Layout as InputLayout;
use crate::deck::keymap::Place;
use crate::deck::layer::correct::Correct;
use crate::deck::layout::{Layout, layout};
use crate::deck::message::{DeckCommand, DeckEvent, LabelValue, Level, Scope};
use crate::deck::paint::{draw_corner, draw_rows, draw_title, frame_block, inner};
use crate::deck::panes::narrow_title;
use crate::deck::row::Row;
use crate::deck::tab::{Context, Look, Tab};
use crate::deck::theme::Ink;

/// Columns of the prompt mark before the input.
const PROMPT: u16 = 2;
/// A running query shows its seconds this often.
const SECOND: Duration = Duration::from_secs(1);

impl Tab for Chat {
    fn places(&self) -> Vec<Place> {
        if self.inside.is_some() {
            return vec![Place::Inside, Place::List];
        }
        let mut places = Vec::with_capacity(4);
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
            Action::Send => {
                if !self.composer.newline_for_backslash() {
                    let effects = self.send(cx.session, cx.now_ms);
                    cx.wishes.effects.extend(effects);
                }
            }
            Action::Newline => self.composer.insert("\n"),
            Action::Edit(edit) => {
                self.panes.focus = None;
                self.composer.edit(edit);
            }
            Action::Escape => self.escape(cx),
            Action::Good => self.label_answer(Scope::Answer, LabelValue::Good, cx),
            Action::Bad => self.label_answer(Scope::Answer, LabelValue::Bad, cx),
            Action::PlanBad => self.label_answer(Scope::Plan, LabelValue::Bad, cx),
            Action::Correct => self.correct(argument, cx),
            Action::ClearLabel => {
                let effects = self.clear_labels(cx.now_ms);
                let none = effects.is_empty();
                cx.say(if none { "there is no label to take back" } else { "label taken back" });
                cx.wishes.effects.extend(effects);
            }
            Action::Copy => match self.answer() {
                Some(answer) => {
                    cx.say("answer sent to the terminal's clipboard");
                    cx.effect(Effect::Copy(answer));
                }
                None => cx.say("there is no answer to copy yet"),
            },
            Action::NewConversation => cx.effect(Effect::Command(DeckCommand::NewConversation)),
            _ => return self.walk(action, cx),
        }
        true
    }

    fn typed(&mut self, c: char, _: &mut Context) {
        self.panes.focus = None;
        self.composer.insert(c.encode_utf8(&mut [0; 4]));
    }

    fn paste(&mut self, text: &str) {
        self.composer.paste(text);
    }

    fn event(&mut self, event: &DeckEvent, cx: &mut Context) {
        self.library_event(event, cx);
        match event {
            DeckEvent::Flow(event) => {
                let effects = self.flow_event(event, cx.session, cx.now_ms);
                cx.wishes.effects.extend(effects);
            }
            DeckEvent::Progress(progress) => self.progress(progress),
            DeckEvent::Conversation { .. } => {
                self.notice(Level::Info, "a new conversation begins here".to_string());
            }
            DeckEvent::Notice { level, text } => self.notice(*level, text.clone()),
            DeckEvent::LabelStored { trajectory, turn, scope, value, .. } => {
                self.label_stored(trajectory, *scope, *turn, *value);
            }
            DeckEvent::Refused { reason, remedy } => {
                let effects = self.refused(reason, remedy, cx.session, cx.now_ms);
                cx.wishes.effects.extend(effects);
            }
            DeckEvent::EngineDied { reason, remedy } => {
                let text = if remedy.is_empty() { reason.clone() } else { format!("{reason}; {remedy}") };
                // A running query tells it itself, in its place; the bottom line is enough then.
                if self.is_running() {
                    cx.wishes.notice = Some((Level::Error, text));
                } else {
                    self.notice(Level::Error, text);
                }
            }
            DeckEvent::FirstLines(lines) => self.first_lines(lines),
            DeckEvent::Status(_) | DeckEvent::Library(_) | DeckEvent::Study(_) => {}
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
        let input = self.composer.layout(usize::from(area.width - PROMPT));
        let layout = layout(area, input.lines.len(), self.panes.shown);
        self.draw_body(buffer, &layout, look);
        self.draw_input(buffer, layout.input, &input, look)
    }
}

impl Chat {
    /// The conversation and the panes.
    pub(super) fn draw_body(&mut self, buffer: &mut Buffer, layout: &Layout, look: &Look) {
        if let Some(area) = layout.conversation {
            let inner = inner(area);
            self.transcript.prepare(usize::from(inner.width), usize::from(inner.height));
        }
        // Taken out while the trajectory they show is borrowed.
        let mut panes = std::mem::take(&mut self.panes);
        panes.prepare(layout, self.followed());
        self.panes = panes;
        self.draw_conversation(buffer, layout, look);
        self.panes.draw(buffer, layout, self.followed(), "conversation", look);
    }

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
        if self.is_running() {
            cx.say("cancelling");
            cx.effect(Effect::Command(DeckCommand::Cancel));
        } else {
            self.newest();
        }
    }

    fn label_answer(&mut self, scope: Scope, value: LabelValue, cx: &mut Context) {
        match self.label(scope, value, None, cx.now_ms) {
            Ok(effect) => {
                cx.say("labelled; Alt+u takes it back");
                cx.effect(effect);
            }
            Err(why) => cx.warn(why),
        }
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
        match self.label_of(trajectory, Scope::Answer, LabelValue::Bad, Some(text.to_string()), cx.now_ms) {
            Ok(effect) => cx.effect(effect),
            Err(why) => cx.warn(why),
        }
    }

    fn draw_conversation(&self, buffer: &mut Buffer, layout: &Layout, look: &Look) {
        let Some(area) = layout.conversation else { return };
        frame_block(buffer, area, Ink::Border, &look.theme);
        let title = if layout.wide {
            Row::new().say(" conversation ", Ink::Title)
        } else {
            narrow_title(self.followed(), None, "conversation", look)
        };
        draw_title(buffer, area, &title, &look.theme);
        draw_rows(buffer, inner(area), self.transcript.rows(), &look.theme);
        if let Some(position) = self.transcript.position().filter(|_| !self.transcript.is_following()) {
            let words = format!(" {:.0} % · Ctrl+End newest ", position * 100.0);
            draw_corner(buffer, area, &Row::new().say(words, Ink::Dim), &look.theme);
        }
    }

    fn draw_input(
        &self,
        buffer: &mut Buffer,
        area: Rect,
        input: &InputLayout,
        look: &Look,
    ) -> Option<Position> {
        let rows = usize::from(area.height);
        let (column, line) = input.cursor;
        // Scroll so that the cursor's line is the last that shows, at the latest.
        let first = (line + 1).saturating_sub(rows);
        for (n, text) in input.lines.iter().skip(first).take(rows).enumerate() {
            let y = area.y + u16::try_from(n).unwrap_or(0);
            let mark = if first + n == 0 { "> " } else { "  " };
            let mut row = Row::new().say(mark, Ink::Accent).say(text.as_str(), Ink::Text);
            if self.composer.is_empty() {
                row = row.say("ask something", Ink::Dim);
            }
            row.draw(buffer, Rect::new(area.x, y, area.width, 1), &look.theme);
        }
        if self.panes.focus.is_some() {
            return None;
        }
        let x = area.x + PROMPT + u16::try_from(column).unwrap_or(0);
        let y = area.y + u16::try_from(line - first).unwrap_or(0);
        Some(Position::new(x.min(area.right().saturating_sub(1)), y))
    }
}
