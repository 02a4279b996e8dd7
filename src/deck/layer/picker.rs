//! A list to choose from by typing a few letters: the palette, themes, earlier queries, what to copy.

use crossterm::event::KeyEvent;
use unicode_width::UnicodeWidthStr;

use crate::deck::command::{Action, COMMANDS};
use crate::deck::composer::Composer;
use crate::deck::fuzzy;
use crate::deck::keymap::{Keymap, Place, typed};
use crate::deck::layer::{Layer, Reply, Sheet};
use crate::deck::row::Row;
use crate::deck::tab::Look;
use crate::deck::theme::Ink;

/// One choice and what choosing it does.
pub struct Item {
    pub name: String,
    /// Dim words beside the name.
    pub words: String,
    pub run: (Action, String),
}

pub struct Picker {
    title: &'static str,
    items: Vec<Item>,
    input: Composer,
    /// Positions of the items that fit what was typed, best first.
    fitting: Vec<usize>,
    /// Place in `fitting`.
    selected: usize,
    scroll: usize,
    /// What fits stays in the order of the items, the best does not come first.
    in_order: bool,
    /// Every move runs its item at once, and leaving runs this.
    preview: Option<(Action, String)>,
}

impl Picker {
    pub fn new(title: &'static str, items: Vec<Item>) -> Picker {
        let fitting = (0..items.len()).collect();
        let input = Composer::default();
        Picker { title, items, input, fitting, selected: 0, scroll: 0, in_order: false, preview: None }
    }

    /// Keep the order of the items whatever is typed.
    pub fn in_order(self) -> Picker {
        Picker { in_order: true, ..self }
    }

    /// Try each item as it is walked over; `back` undoes it.
    pub fn with_preview(mut self, back: (Action, String)) -> Picker {
        self.selected = self.items.iter().position(|item| item.run == back).unwrap_or(0);
        self.preview = Some(back);
        self
    }

    /// Every command that has a name, and the keys it also has; then what only the keys of `places` do, for it is
    /// sought here too.
    pub fn palette(keymap: &Keymap, places: &[Place]) -> Picker {
        let item = |command: &crate::deck::command::Command| {
            let keys = keymap.keys_of(command.action);
            // On the help page these share a line.
            let words = match command.action {
                Action::Tab(name) => format!("the {} tab", name.words()),
                Action::Pane(_) => format!("the {} pane", command.name),
                Action::Face(_) => format!("inside a query: {}", command.name),
                _ => command.words.to_string(),
            };
            Item {
                name: command.name.to_string(),
                words: if keys.is_empty() { words } else { format!("{words}  ({keys})") },
                run: (command.action, String::new()),
            }
        };
        let writes = [Place::Input, Place::Completion, Place::BareInput, Place::EmptyInput];
        let here = |command: &&crate::deck::command::Command| {
            let has_key = |place: &Place| !writes.contains(place) && keymap.has(*place, command.action);
            !command.named && !command.words.is_empty() && places.iter().any(has_key)
        };
        let named = COMMANDS.iter().filter(|command| command.named);
        Picker::new("commands", named.chain(COMMANDS.iter().filter(here)).map(item).collect())
    }

    fn refilter(&mut self) {
        let sought = self.input.value();
        self.fitting = fuzzy::filter(&sought, &self.items, |item| &item.name);
        // Who does not know its name knows what it does; that comes after the names.
        let sought = sought.trim().to_lowercase();
        if sought.len() >= 3 {
            let by_words = |at: &usize| self.items[*at].words.to_lowercase().contains(&sought);
            let more: Vec<usize> = (0..self.items.len()).filter(by_words).collect();
            self.fitting.extend(more.into_iter().filter(|at| !self.fitting.contains(at)).collect::<Vec<_>>());
        }
        if self.in_order {
            self.fitting.sort_unstable();
        }
        self.selected = 0;
    }

    fn chosen(&self) -> Option<(Action, String)> {
        self.fitting.get(self.selected).map(|at| self.items[*at].run.clone())
    }

    fn walk(&mut self, rows: isize) -> Reply {
        let last = self.fitting.len().saturating_sub(1);
        self.selected = self.selected.saturating_add_signed(rows).min(last);
        self.tried()
    }

    fn tried(&self) -> Reply {
        match (&self.preview, self.chosen()) {
            (Some(_), Some((action, argument))) => Reply::Try(action, argument),
            _ => Reply::Stay,
        }
    }
}

impl Layer for Picker {
    fn title(&self) -> String {
        self.title.to_string()
    }

    fn key(&mut self, key: &KeyEvent, keymap: &Keymap, page: usize) -> Reply {
        let page = isize::try_from(page).unwrap_or(1);
        match keymap.action(&[Place::Input], key) {
            Some(Action::Escape | Action::Interrupt) => match self.preview.take() {
                Some((action, argument)) => Reply::Run(action, argument),
                None => Reply::Close,
            },
            Some(Action::Send) => match self.chosen() {
                Some((action, argument)) => Reply::Run(action, argument),
                None => Reply::Stay,
            },
            Some(Action::Edit(crate::deck::composer::Edit::Up)) => self.walk(-1),
            Some(Action::Edit(crate::deck::composer::Edit::Down) | Action::NextPane) => self.walk(1),
            Some(Action::PreviousPane) => self.walk(-1),
            Some(Action::PageUp) => self.walk(-page),
            Some(Action::PageDown) => self.walk(page),
            Some(Action::Edit(edit)) => {
                self.input.edit(edit);
                self.refilter();
                self.tried()
            }
            _ => {
                let Some(c) = typed(key) else { return Reply::Stay };
                self.input.insert(c.encode_utf8(&mut [0; 4]));
                self.refilter();
                self.tried()
            }
        }
    }

    fn paste(&mut self, text: &str) -> Reply {
        self.input.insert(text.lines().next().unwrap_or_default());
        self.refilter();
        self.tried()
    }

    fn sheet(&mut self, width: usize, height: usize, _: &Look) -> Sheet {
        let room = height.saturating_sub(2).max(1);
        self.scroll = self.scroll.clamp((self.selected + 1).saturating_sub(room), self.selected);
        let layout = self.input.layout(width.saturating_sub(2));
        let text = layout.lines.last().map_or("", String::as_str);
        let mut rows = vec![Row::new().say("> ", Ink::Accent).say(text, Ink::Text), Row::new()];
        let widest = self.items.iter().map(|item| item.name.width()).max().unwrap_or(0).min(width / 2);
        for (n, at) in self.fitting.iter().enumerate().skip(self.scroll).take(room) {
            let item = &self.items[*at];
            let (mark, ink) = if n == self.selected { ("> ", Ink::Selected) } else { ("  ", Ink::Text) };
            let pad = " ".repeat(widest.saturating_sub(item.name.width()) + 2);
            let row = Row::new().say(mark, Ink::Accent).say(&item.name, ink).say(pad, Ink::Text);
            rows.push(row.say(&item.words, Ink::Dim));
        }
        if self.fitting.is_empty() {
            rows.push(Row::new().say("  nothing fits", Ink::Dim));
        }
        // As tall as the whole list wants to be, so that the frame does not jump while typing.
        rows.resize(self.items.len().min(room) + 2, Row::new());
        let corner = format!("{} of {} · Enter takes it · Esc", self.fitting.len(), self.items.len());
        Sheet { rows, scroll: 0, cursor: Some((layout.cursor.0 + 2, 0)), corner }
    }
}
