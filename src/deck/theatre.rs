//! A saved trajectory on the stage it had when it was live: the conversation, its panes, and the clock.
//!
//! It is the chat itself, fed from a [`Player`] in place of the flow, so nothing can look different.

use std::time::Duration;

use ratatui::buffer::Buffer;
use ratatui::layout::Rect;

use crate::deck::chat::Chat;
use crate::deck::command::Action;
use crate::deck::fit::fitted;
use crate::deck::library::Recording;
use crate::deck::message::{LabelValue, Scope};
use crate::deck::player::{Player, SPEEDS, Step};
use crate::deck::row::Row;
use crate::deck::tab::{Context, Look, Tab as _};
use crate::deck::theme::Ink;
use crate::flow::event::Body;

/// Time between two frames while the clock moves.
const FRAME: Duration = Duration::from_millis(33);

pub struct Theatre {
    pub recording: Recording,
    pub chat: Chat,
    pub player: Player,
}

impl Theatre {
    pub fn new(recording: Recording, speed: f64) -> Theatre {
        let mut player = Player::new(&recording.events, |call| recording.token_texts(call));
        if recording.spelled.is_empty() {
            // Without the vocabulary a call's text streams in words: ids mean nothing to a person.
            let words: Vec<Vec<String>> = recording
                .calls()
                .map(|call| call.completion.text.split_inclusive(' ').map(String::from).collect())
                .collect();
            player = Player::new(&recording.events, |call| words.get(call).cloned().unwrap_or_default());
        }
        let mut theatre = Theatre { recording, chat: Chat::default(), player };
        if speed.is_finite() {
            theatre.player.set_speed(speed);
            theatre.seek(0.0);
        } else {
            theatre.seek(f64::MAX);
        }
        theatre
    }

    /// A word on what plays: at its end, for an answer is judged once it stands there. `at` is the turn that shows.
    pub fn judge(&mut self, action: Action, cx: &mut Context) {
        let at = self.chat.followed().map(|(_, at)| at);
        if !self.player.is_over() {
            self.seek(f64::MAX);
            if action == Action::PlanBad {
                self.chat.select_turn(at);
            }
        }
        self.player.paused = true;
        self.chat.perform(action, "", cx);
    }

    /// A label was kept: it shows, and does again after the clock was put back.
    pub fn labelled(&mut self, trajectory: &str, label: (Scope, Option<usize>, LabelValue)) {
        if self.recording.id != trajectory {
            return;
        }
        let (scope, turn, value) = label;
        self.recording.labels.retain(|(s, t, _)| (*s, *t) != (scope, turn));
        if value != LabelValue::Clear {
            self.recording.labels.push(label);
        }
        self.chat.label_stored(trajectory, scope, turn, value);
    }

    /// What plays was forked from another trajectory.
    pub fn is_fork(&self) -> bool {
        self.chat.followed().is_some_and(|(live, _)| live.trajectory.parent.is_some())
    }

    /// What plays has been spelled, by a model that serves since.
    pub fn spelled(&mut self, recording: &Recording) {
        if recording.id != self.recording.id || recording.spelled.is_empty() {
            return;
        }
        self.recording.spelled.clone_from(&recording.spelled);
        if let Some(inside) = &mut self.chat.inside {
            inside.opened(&self.recording);
        }
    }

    pub fn tick(&mut self, now_ms: u64) {
        let steps = self.player.tick(now_ms);
        self.show(steps);
    }

    pub fn wait(&self) -> Option<Duration> {
        self.player.is_running().then_some(FRAME)
    }

    fn show(&mut self, steps: Vec<Step>) {
        let mut ended = false;
        for step in steps {
            match step {
                Step::Event(event) => {
                    ended |= event.body.is_last();
                    self.chat.flow_event(&event, 0);
                }
                Step::Progress(progress) => self.chat.progress(&progress),
            }
        }
        if ended {
            for (scope, turn, value) in self.recording.labels.clone() {
                self.chat.label_stored(&self.recording.id, scope, turn, value);
            }
        }
    }

    /// Put the clock to a time.
    pub fn seek(&mut self, to_ms: f64) {
        let steps = match self.player.seek(to_ms) {
            Some(steps) => steps,
            None => {
                // Backward: the record folded anew. Which pane shows is not part of the record.
                let panes = std::mem::take(&mut self.chat.panes);
                self.chat = Chat::default();
                self.chat.panes = panes;
                self.player.rewound()
            }
        };
        self.show(steps);
    }

    /// Pause, and go to the event before or after.
    pub fn step(&mut self, forward: bool) {
        self.player.paused = true;
        if let Some(to) = self.player.find(forward, |_| true) {
            self.seek(to);
        } else if !forward {
            self.seek(0.0);
        }
    }

    /// Go to where a turn (or the answer) begins.
    pub fn step_turn(&mut self, forward: bool) {
        let begins = |body: &Body| matches!(body, Body::TurnStarted { .. }) || body.is_last();
        match self.player.find(forward, begins) {
            Some(to) => self.seek(to),
            None => self.seek(if forward { f64::MAX } else { 0.0 }),
        }
    }

    /// Turns finished where the clock stands.
    pub fn turns_done(&self) -> usize {
        let turns = self.chat.followed().map(|(live, _)| live.trajectory.turns.len());
        turns.unwrap_or(0).saturating_sub(1)
    }

    /// What `pause` would do now.
    pub fn pause_word(&self) -> &'static str {
        match (self.player.is_over(), self.player.paused) {
            (true, _) => "again",
            (false, true) => "play",
            (false, false) => "pause",
        }
    }

    /// Play, pause; at the end, from the beginning again.
    pub fn pause(&mut self) {
        if self.player.is_over() {
            self.seek(0.0);
            self.player.paused = false;
        } else {
            self.player.paused = !self.player.paused;
        }
    }

    /// `|===T==#--T-----|  12.3 of 41.0 s  x4  paused`
    pub fn draw_bar(&self, buffer: &mut Buffer, area: Rect, look: &Look) {
        let (at, end) = (self.player.at_ms, self.player.end_ms());
        let state = if self.player.is_over() {
            "end"
        } else if self.player.paused {
            "paused"
        } else {
            "plays"
        };
        let speed = SPEEDS[self.player.speed];
        // Small models are done in a part of a second.
        let digits = if end < 1e3 { 2 } else { 1 };
        let mut words = format!(" {:.digits$} of {:.digits$} s  x{speed}  {state}", at / 1e3, end / 1e3);
        // Of an evaluation: what its checker said, once the answer is there to be compared with.
        let checked = self.recording.checked.as_ref().filter(|_| self.player.is_over());
        let (verdict, ink) = match checked {
            Some((true, _)) => ("  right".to_string(), Ink::Good),
            Some((false, reference)) => (format!("  wrong, right is: {}", fitted(reference, 40)), Ink::Bad),
            None => (String::new(), Ink::Text),
        };
        if words.len() + verdict.len() + 24 > usize::from(area.width) {
            // The clock stands still; what was right is what is looked for.
            words.truncate(0);
        }
        let room = usize::from(area.width).saturating_sub(words.len() + verdict.len() + 3).clamp(4, 120);
        let place = |share: f64| ((share * (room - 1) as f64).round() as usize).min(room - 1);
        let here = place(at / end.max(1.0));
        let turns: Vec<usize> = self.player.turns().into_iter().map(place).collect();
        let mut row = Row::new().say("|", Ink::Dim);
        for n in 0..room {
            let (mark, ink) = match n {
                n if n == here => ("#", Ink::Accent),
                n if turns.contains(&n) => ("T", Ink::Text),
                n if n < here => ("=", Ink::Accent),
                _ => ("-", Ink::Dim),
            };
            row = row.say(mark, ink);
        }
        row.say("|", Ink::Dim).say(words, Ink::Text).say(verdict, ink).draw(buffer, area, &look.theme);
    }
}
