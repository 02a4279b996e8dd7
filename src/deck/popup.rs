//! Popups: what lies over the screen, topmost last. Each owns its keys and its drawing.

use crate::deck::composer::Composer;
use crate::deck::keymap;
use crate::deck::row::{Prose, Row};
use crate::deck::theme::Ink;

pub enum Popup {
    /// The key table; rows scrolled off the top.
    Help { scroll: usize },
    /// What the answer of a trajectory should have been.
    Correct { trajectory: String, input: Composer },
}

impl Popup {
    pub fn title(&self) -> &'static str {
        match self {
            Popup::Help { .. } => "keys",
            Popup::Correct { .. } => "what should the answer have been?",
        }
    }

    /// Rows of the popup at a width; the help page is as long as the key table.
    pub fn rows(&self, width: usize) -> Vec<Row> {
        match self {
            Popup::Help { .. } => help_rows(width),
            Popup::Correct { input, .. } => {
                let mut rows: Vec<Row> = input
                    .layout(width)
                    .lines
                    .iter()
                    .map(|line| Row::new().say(line.as_str(), Ink::Text))
                    .collect();
                rows.push(Row::new());
                rows.push(
                    Row::new().say("Enter saves it and marks the answer bad, Esc keeps nothing", Ink::Dim),
                );
                rows
            }
        }
    }
}

fn help_rows(width: usize) -> Vec<Row> {
    let lines = keymap::help();
    let column = lines.iter().map(|(keys, _)| keys.len()).max().unwrap_or(0).min(width / 2);
    let mut rows = Vec::new();
    for (keys, words) in lines {
        let pad = " ".repeat((column + 2).saturating_sub(keys.len()).max(1));
        let lead = Row::new().say(&keys, Ink::Accent).say(pad, Ink::Text);
        rows.extend(Prose::of(words, Ink::Text).wrap(
            width,
            &lead,
            &Row::new().say(" ".repeat(column + 2), Ink::Text),
        ));
    }
    rows.push(Row::new());
    let words = "+ - [ ] ? act while the input is empty and there is a query to act on; to begin a query \
                 with one of them, type a space first. Letters and digits always type, unless a pane has the focus.";
    rows.extend(Prose::of(words, Ink::Dim).wrap(width, &Row::new(), &Row::new()));
    rows
}
