//! The models tab: which GGUF serves, which others lie on this machine or can be downloaded, what fits it and
//! what can learn. A download is asked for twice and says its size before.

use ratatui::buffer::Buffer;
use ratatui::layout::{Position, Rect};

use crate::deck::app::Effect;
use crate::deck::command::Action;
use crate::deck::fit::{fitted, padded};
use crate::deck::keymap::Place;
use crate::deck::message::{DeckCommand, DeckEvent, StatusLine};
use crate::deck::paint::{draw_rows, draw_title, frame_block, inner};
use crate::deck::row::{Prose, Row};
use crate::deck::study::{ModelLine, Offer, StudyCommand, StudyEvent};
use crate::deck::tab::{Context, Look, Tab, TabName, draw_empty};
use crate::deck::table::{moved, scrolled};
use crate::deck::theme::Ink;

#[derive(Default)]
pub struct Models {
    /// None until somebody has looked.
    models: Option<Vec<ModelLine>>,
    selected: usize,
    /// What serves, on what.
    devices: String,
    /// Asked about once: the same key once more downloads it.
    asked: Option<Offer>,
    /// File, bytes that are here and bytes in all of the download under way.
    pulling: Option<(String, u64, u64)>,
}

impl Models {
    fn lines(&self) -> &[ModelLine] {
        self.models.as_deref().unwrap_or_default()
    }

    /// What Enter does on a line: serve what is here, download what is not, stop what is being downloaded.
    fn open(&mut self, asked: Option<Offer>, cx: &mut Context) -> bool {
        let Some(line) = self.lines().get(self.selected).cloned() else { return false };
        let study = |command| Effect::Command(DeckCommand::Study(command));
        match line.offer {
            None if line.current => cx.say("it serves already"),
            None => {
                cx.effect(study(StudyCommand::UseModel { path: line.path }));
                cx.say("loading it; what serves stays if it cannot be used");
            }
            Some(offer) if self.pulling.as_ref().is_some_and(|(file, ..)| *file == offer.file) => {
                cx.effect(study(StudyCommand::StopPull));
            }
            Some(_) if self.pulling.is_some() => {
                cx.say("one download at a time: Enter on the other stops it")
            }
            Some(offer) if asked.as_ref() == Some(&offer) => {
                self.pulling = Some((offer.file.clone(), 0, line.bytes));
                cx.effect(study(StudyCommand::PullModel(offer)));
                cx.say(
                    "asking Hugging Face for it; Enter stops it, what came is kept and goes on from there",
                );
            }
            Some(offer) => {
                let (size, repo) = (gigabytes(line.bytes), &offer.repo);
                let doubt = if line.fits { String::new() } else { format!(" ({})", line.words) };
                cx.say(format!(
                    "Enter once more downloads {size} of {repo} from Hugging Face, into the cache hf and llama.cpp \
                     share{doubt}"
                ));
                self.asked = Some(offer);
            }
        }
        true
    }

    fn walk(&mut self, step: isize) {
        self.selected = moved(self.selected, step, self.lines().len());
    }
}

/// `serves on gpu, 28 of 28 layers there`; empty where it is not known.
fn on_devices(status: &StatusLine) -> String {
    let devices = status.devices.join(" and ");
    match (devices.is_empty(), status.layers_offloaded) {
        (true, _) => String::new(),
        (_, 0) => format!("  serves on {devices}"),
        (_, offloaded) => format!("  serves on {devices}, {offloaded} of {} layers there", status.layers),
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
    // What stands beside the name takes 48 columns.
    let name = (width * 2 / 5).clamp(12, 60).min(width.saturating_sub(48).max(12));
    let mark = Row::new().say(if line.current { "* " } else { "  " }, Ink::Good);
    if width < 60 {
        // Whether it fits comes before what it is made of.
        let name = width.saturating_sub(21).max(8);
        let place = line.place.trim_start_matches("to ");
        let (state, ink) = if line.offer.is_some() && line.fits { (place, Ink::Dim) } else { (fits, ink) };
        return mark
            .say(padded(&line.name, name), if here { Ink::Selected } else { Ink::Text })
            .say(format!("{:>8}  ", gigabytes(line.bytes)), Ink::Text)
            .say(state, ink);
    }
    let row = mark
        .say(padded(&line.name, name), if here { Ink::Selected } else { Ink::Text })
        .say(format!(" {:>6} {:<7}", parameters(line.parameters), line.file_type), Ink::Dim)
        .say(format!("{:>8}  ", gigabytes(line.bytes)), Ink::Text)
        .say(format!("{fits:<8}"), ink);
    if width < 100 && line.offer.is_some() {
        // All that are offered can learn; that they are not here is what must have room.
        return row.say(&line.place, Ink::Dim);
    }
    let row = row.say(format!("{trains:<13}"), Ink::Text);
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
        let asked = self.asked.take();
        match action {
            Action::ScrollUp => self.walk(-1),
            Action::ScrollDown => self.walk(1),
            Action::PageUp => self.walk(-cx.page()),
            Action::PageDown => self.walk(cx.page()),
            Action::First => self.walk(isize::MIN / 2),
            Action::Newest => self.walk(isize::MAX / 2),
            Action::Open => return self.open(asked, cx),
            _ => return false,
        }
        true
    }

    fn event(&mut self, event: &DeckEvent, cx: &mut Context) {
        if let DeckEvent::Status(status) = event {
            self.devices = on_devices(status);
        }
        let DeckEvent::Study(event) = event else { return };
        match event {
            StudyEvent::Models(models) => {
                // What was selected stays so, wherever it stands now.
                let held = self.lines().get(self.selected).map(|line| line.path.clone());
                self.models = Some(models.clone());
                let same = models.iter().position(|line| Some(&line.path) == held.as_ref());
                self.selected = same.unwrap_or(self.selected);
                self.walk(0);
            }
            StudyEvent::Pulling { file, here, bytes } => self.pulling = Some((file.clone(), *here, *bytes)),
            StudyEvent::Pulled { file, stopped, done } => {
                self.pulling = None;
                cx.effect(Effect::Command(DeckCommand::Study(StudyCommand::FindModels)));
                match (stopped, done) {
                    (true, _) => cx.say(format!("{file}: stopped; what came is kept")),
                    (_, true) => cx.say(format!("{file} is here and whole: F5, Enter serves it")),
                    // Why it failed is told beside.
                    _ => {}
                }
            }
            _ => {}
        }
    }

    fn hints(&self) -> Vec<(Action, &'static str)> {
        let line = self.lines().get(self.selected);
        let file = line.and_then(|line| line.offer.as_ref()).map(|offer| offer.file.as_str());
        let open = match (file, &self.pulling) {
            (Some(file), Some((pulling, ..))) if file == pulling => "stop the download",
            (Some(_), _) => "download",
            (None, _) => "serve it",
        };
        vec![(Action::Open, open), (Action::ScrollUp, ""), (Action::ScrollDown, "choose")]
    }

    fn draw(&mut self, buffer: &mut Buffer, area: Rect, look: &Look) -> Option<Position> {
        if self.lines().is_empty() {
            let looked =
                "None was found. /model FILE.gguf in the chat serves any GGUF this program can read.";
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
            let devices = if line.current { self.devices.as_str() } else { "" };
            let words = Prose::of(line.path.as_str(), Ink::Dim).say(devices, Ink::Text);
            let words = words.say(format!("  {}", line.words), Ink::Warning);
            about.push(Row::new());
            about.extend(words.wrap(width, &Row::new(), &Row::new()));
        }
        let room = height.saturating_sub(about.len()).max(1);
        let first = scrolled(0, self.selected, room);
        let listed = lines.iter().enumerate().skip(first).take(room);
        let come = |line: &ModelLine| {
            let (file, here, bytes) = self.pulling.as_ref()?;
            let ours = line.offer.as_ref().is_some_and(|offer| offer.file == *file);
            ours.then(|| format!("{} % here", here * 100 / (*bytes).max(1)))
        };
        let mut rows: Vec<Row> = listed
            .map(|(n, line)| match come(line) {
                Some(place) => row(&ModelLine { place, ..line.clone() }, n == self.selected, width),
                None => row(line, n == self.selected, width),
            })
            .collect();
        rows.extend(about);
        draw_rows(buffer, inside, rows.iter(), theme);
        None
    }
}
