//! The models tab: which GGUF serves, which others lie on this machine, what fits it and what can learn.

use ratatui::buffer::Buffer;
use ratatui::layout::{Position, Rect};

use crate::deck::app::Effect;
use crate::deck::command::Action;
use crate::deck::keymap::Place;
use crate::deck::message::{DeckCommand, DeckEvent};
use crate::deck::paint::{draw_rows, draw_title, frame_block, inner};
use crate::deck::row::{Prose, Row};
use crate::deck::shelf::fitted;
use crate::deck::study::{ModelLine, StudyCommand, StudyEvent};
use crate::deck::tab::{Context, Look, Tab, TabName, draw_empty};
use crate::deck::table::{moved, scrolled};
use crate::deck::theme::Ink;

#[derive(Default)]
pub struct Models {
    /// None until somebody has looked.
    models: Option<Vec<ModelLine>>,
    selected: usize,
}

impl Models {
    fn lines(&self) -> &[ModelLine] {
        self.models.as_deref().unwrap_or_default()
    }

    fn walk(&mut self, step: isize) {
        self.selected = moved(self.selected, step, self.lines().len());
    }
}

fn gigabytes(bytes: u64) -> String {
    if bytes < 100_000_000 {
        format!("{:.1} MB", bytes as f64 / 1e6)
    } else {
        format!("{:.1} GB", bytes as f64 / 1e9)
    }
}

fn parameters(count: u64) -> String {
    if count < 1_000_000_000 {
        format!("{:.0}M", count as f64 / 1e6)
    } else {
        format!("{:.1}B", count as f64 / 1e9)
    }
}

fn row(line: &ModelLine, here: bool, width: usize) -> Row {
    let (fits, ink) = if line.fits { ("fits", Ink::Good) } else { ("too big", Ink::Bad) };
    let trains = if line.trainable { "can learn" } else { "cannot learn" };
    let name = (width * 2 / 5).clamp(12, 60);
    let mark = Row::new().say(if line.current { "* " } else { "  " }, Ink::Good);
    if width < 60 {
        // Whether it fits comes before what it is made of.
        let name = width.saturating_sub(20).max(8);
        return mark
            .say(format!("{:<name$}", fitted(&line.name, name)), if here { Ink::Selected } else { Ink::Text })
            .say(format!("{:>8}  ", gigabytes(line.bytes)), Ink::Text)
            .say(fits, ink);
    }
    let row = mark
        .say(format!("{:<name$}", fitted(&line.name, name)), if here { Ink::Selected } else { Ink::Text })
        .say(format!(" {:>6} {:<7}", parameters(line.parameters), line.file_type), Ink::Dim)
        .say(format!("{:>8}  ", gigabytes(line.bytes)), Ink::Text)
        .say(format!("{fits:<8}"), ink)
        .say(format!("{trains:<13}"), Ink::Text);
    let room = width.saturating_sub(row.width());
    row.say(fitted(&line.place, room), Ink::Dim)
}

impl Tab for Models {
    fn places(&self) -> Vec<Place> {
        vec![Place::List]
    }

    fn shown(&mut self, cx: &mut Context) {
        cx.effect(Effect::Command(DeckCommand::Study(StudyCommand::FindModels)));
    }

    fn perform(&mut self, action: Action, _: &str, cx: &mut Context) -> bool {
        match action {
            Action::ScrollUp => self.walk(-1),
            Action::ScrollDown => self.walk(1),
            Action::PageUp => self.walk(-cx.page()),
            Action::PageDown => self.walk(cx.page()),
            Action::First => self.walk(isize::MIN / 2),
            Action::Newest => self.walk(isize::MAX / 2),
            Action::Open => match self.lines().get(self.selected) {
                Some(line) if line.current => cx.say("it serves already"),
                Some(line) => {
                    let path = line.path.clone();
                    cx.effect(Effect::Command(DeckCommand::Study(StudyCommand::UseModel { path })));
                    cx.say("loading it; what serves stays if it cannot be used");
                }
                None => return false,
            },
            _ => return false,
        }
        true
    }

    fn event(&mut self, event: &DeckEvent, _: &mut Context) {
        if let DeckEvent::Study(StudyEvent::Models(models)) = event {
            self.models = Some(models.clone());
            self.walk(0);
        }
    }

    fn hints(&self) -> Vec<(Action, &'static str)> {
        vec![(Action::Open, "serve it"), (Action::ScrollDown, "next")]
    }

    fn draw(&mut self, buffer: &mut Buffer, area: Rect, look: &Look) -> Option<Position> {
        if self.lines().is_empty() {
            let looked = "None was found. /model FILE.gguf in the chat serves any GGUF this program can read; `tillerman \
                          model pull` downloads one.";
            let looking = "Looking for them.";
            let second = if self.models.is_some() { looked } else { looking };
            let words = [
                "Which GGUF serves, which others were found on this machine, which fit its memory and which can learn.",
                second,
            ];
            draw_empty(buffer, area, TabName::Models, &words, look);
            return None;
        }
        let theme = &look.theme;
        frame_block(buffer, area, Ink::Border, theme);
        draw_title(buffer, area, &Row::new().say(" models (* serves now) ", Ink::Title), theme);
        let inside = inner(area);
        let (width, height) = (usize::from(inside.width), usize::from(inside.height));
        let lines = self.lines();
        let mut about = Vec::new();
        if let Some(line) = lines.get(self.selected) {
            let words =
                Prose::of(line.path.as_str(), Ink::Dim).say(format!("  {}", line.words), Ink::Warning);
            about.push(Row::new());
            about.extend(words.wrap(width, &Row::new(), &Row::new()));
        }
        let room = height.saturating_sub(about.len()).max(1);
        let first = scrolled(0, self.selected, room);
        let listed = lines.iter().enumerate().skip(first).take(room);
        let mut rows: Vec<Row> = listed.map(|(n, line)| row(line, n == self.selected, width)).collect();
        rows.extend(about);
        draw_rows(buffer, inside, rows.iter(), theme);
        None
    }
}
