//! The help page: every command with its keys, from the command table and the keymap in force.

use crossterm::event::KeyEvent;

use crate::deck::command::{Action, Heading};
use crate::deck::keymap::Keymap;
use crate::deck::layer::{Layer, Reply, Sheet, leaf_through};
use crate::deck::row::{Prose, Row};
use crate::deck::tab::{Look, TabName};
use crate::deck::theme::Ink;

const LAST_WORDS: &str = "+ - [ ] ? act while the input is empty and there is a query to act on; to begin a query with \
                          one of them, type a space first. Letters and digits always type, unless a pane has the \
                          focus. In panes and in the other tabs a letter that changes something waits a quarter of \
                          a second: more letters are a sentence, and go to the chat's input. What costs time is \
                          asked first.";

#[derive(Default)]
pub struct Help {
    scroll: usize,
    /// What belongs to the tab it was called from: comes first.
    first: &'static [Heading],
}

impl Help {
    pub fn on(tab: TabName) -> Help {
        let first: &[Heading] = match tab {
            TabName::Chat => &[],
            TabName::Replay => &[Heading::Replaying],
            TabName::Groups => &[Heading::Label, Heading::Learning],
            TabName::Training | TabName::Models => &[Heading::Learning],
        };
        Help { scroll: 0, first }
    }
}

impl Layer for Help {
    fn title(&self) -> String {
        "keys".to_string()
    }

    fn key(&mut self, key: &KeyEvent, keymap: &Keymap, page: usize) -> Reply {
        let closes = [Action::Escape, Action::Interrupt, Action::Open, Action::Help];
        leaf_through(&mut self.scroll, key, keymap, page, &closes)
    }

    fn sheet(&mut self, width: usize, height: usize, look: &Look) -> Sheet {
        let rows = rows(width, &look.keymap, self.first);
        self.scroll = self.scroll.min(rows.len().saturating_sub(height));
        let below = rows.len().saturating_sub(self.scroll + height);
        let corner =
            if below > 0 { format!("{below} more: Down · Esc closes") } else { "Esc closes".to_string() };
        Sheet { rows, scroll: self.scroll, cursor: None, corner }
    }
}

fn rows(width: usize, keymap: &Keymap, first: &[Heading]) -> Vec<Row> {
    let mut help = keymap.help();
    help.sort_by_key(|(heading, _)| first.iter().position(|it| it == heading).unwrap_or(first.len()));
    let lines = || help.iter().flat_map(|(_, lines)| lines);
    let column = lines().map(|(keys, _)| keys.len()).max().unwrap_or(0).min(width * 2 / 5);
    let mut rows = Vec::new();
    for (heading, lines) in &help {
        rows.push(Row::new().say(heading.words(), Ink::Heading));
        for (keys, words) in lines {
            let indent = Row::new().say("    ", Ink::Text);
            if keys.len() > column {
                // Too many keys to stand beside their meaning.
                rows.extend(Prose::of(keys.as_str(), Ink::Accent).wrap(width, &Row::new(), &Row::new()));
                rows.extend(Prose::of(*words, Ink::Text).wrap(width, &indent, &indent));
                continue;
            }
            let pad = " ".repeat((column + 2).saturating_sub(keys.len()).max(1));
            let lead = Row::new().say(keys, Ink::Accent).say(pad, Ink::Text);
            let rest = Row::new().say(" ".repeat(column + 2), Ink::Text);
            rows.extend(Prose::of(*words, Ink::Text).wrap(width, &lead, &rest));
        }
        rows.push(Row::new());
    }
    rows.extend(Prose::of(LAST_WORDS, Ink::Dim).wrap(width, &Row::new(), &Row::new()));
    rows
}
