//! The doctor's page: what works here and what helps where something does not. The checks are done elsewhere,
//! beside the loop; until they are in, the page says so.

use crossterm::event::KeyEvent;

use crate::deck::command::Action;
use crate::deck::keymap::Keymap;
use crate::deck::layer::{Layer, Reply, Sheet, leaf_through};
use crate::deck::message::{CheckLine, DeckEvent};
use crate::deck::row::{Prose, Row};
use crate::deck::tab::Look;
use crate::deck::theme::Ink;

/// Columns of mark and name.
const LEAD: usize = 16;

#[derive(Default)]
pub struct Doctor {
    /// None until they are done.
    checks: Option<Vec<CheckLine>>,
    scroll: usize,
}

impl Layer for Doctor {
    fn title(&self) -> String {
        "doctor".to_string()
    }

    fn event(&mut self, event: &DeckEvent) {
        if let DeckEvent::Checks(checks) = event {
            self.checks = Some(checks.clone());
        }
    }

    fn key(&mut self, key: &KeyEvent, keymap: &Keymap, page: usize) -> Reply {
        let closes = [Action::Escape, Action::Interrupt, Action::Open];
        leaf_through(&mut self.scroll, key, keymap, page, &closes)
    }

    fn sheet(&mut self, width: usize, height: usize, _: &Look) -> Sheet {
        let rows = match &self.checks {
            None => {
                vec![Row::new().say("checking the engine, the store, the tools and the sandbox", Ink::Dim)]
            }
            Some(checks) => checks.iter().flat_map(|check| check_rows(check, width)).collect(),
        };
        self.scroll = self.scroll.min(rows.len().saturating_sub(height));
        let below = rows.len().saturating_sub(self.scroll + height);
        let failed = self.checks.iter().flatten().filter(|check| !check.ok).count();
        let corner = match (&self.checks, below, failed) {
            (None, ..) => "Esc closes".to_string(),
            (_, 1.., _) => format!("{below} more: Down · Esc closes"),
            (_, 0, 0) => "all is well · Esc closes".to_string(),
            (_, 0, _) => format!("{failed} to mend · Esc closes"),
        };
        Sheet { rows, scroll: self.scroll, cursor: None, corner }
    }
}

fn check_rows(check: &CheckLine, width: usize) -> Vec<Row> {
    let (mark, ink) = if check.ok { ("ok  ", Ink::Good) } else { ("FAIL", Ink::Bad) };
    let name = format!(" {:<width$}", check.name, width = LEAD - 5);
    let lead = Row::new().say(mark, ink).say(name, Ink::Accent);
    let rest = Row::new().say(" ".repeat(LEAD), Ink::Text);
    let mut rows = Prose::of(check.text.as_str(), Ink::Text).wrap(width, &lead, &rest);
    if !check.ok && !check.remedy.is_empty() {
        let prose = Prose::of("remedy: ", Ink::Dim).say(check.remedy.as_str(), Ink::Text);
        rows.extend(prose.wrap(width, &rest, &rest));
    }
    rows
}
