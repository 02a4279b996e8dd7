//! The tabs: whole screens that take turns between the status line and the footer.
//!
//! Each tab is state, update (`perform`, `typed`, `event`) and view (`draw`), and knows no other. What it
//! wants of the deck it leaves in the [`Context`].

mod difference;
pub mod groups;
pub mod models;
mod pair;
pub mod replay;
pub mod training;

use std::time::Duration;

use ratatui::buffer::Buffer;
use ratatui::layout::{Position, Rect};

use crate::deck::app::Effect;
use crate::deck::chat::Chat;
use crate::deck::command::Action;
use crate::deck::completion::Files;
use crate::deck::keymap::{Keymap, Place};
use crate::deck::layer::Layer;
use crate::deck::message::{DeckEvent, Level};
use crate::deck::paint::{draw_rows, draw_title, frame_block, inner};
use crate::deck::row::{Prose, Row};
use crate::deck::theme::{Ink, Theme, Themes};

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum TabName {
    #[default]
    Chat,
    Replay,
    Groups,
    Training,
    Models,
}

impl TabName {
    /// In the order of their keys.
    pub const ALL: [TabName; 5] =
        [TabName::Chat, TabName::Replay, TabName::Groups, TabName::Training, TabName::Models];

    pub fn words(self) -> &'static str {
        match self {
            TabName::Chat => "chat",
            TabName::Replay => "replay",
            TabName::Groups => "groups",
            TabName::Training => "training",
            TabName::Models => "models",
        }
    }

    /// The tab `steps` further on, around the corner.
    pub fn step(self, forward: bool) -> TabName {
        let (at, count) = (self as usize, TabName::ALL.len());
        TabName::ALL[if forward { at + 1 } else { at + count - 1 } % count]
    }
}

/// What drawing needs to know of the deck as a whole.
pub struct Look {
    pub theme: Theme,
    pub themes: Themes,
    pub keymap: Keymap,
}

/// What an update may know of the deck, and where it leaves what it wants.
pub struct Context<'a> {
    /// Any clock that only goes forward.
    pub now_ms: u64,
    /// Columns, rows of the whole screen.
    pub size: (u16, u16),
    /// Queries belong to this session.
    pub session: &'a str,
    pub wishes: Wishes,
}

/// What the deck shall do once the update is over.
#[derive(Default)]
pub struct Wishes {
    pub effects: Vec<Effect>,
    /// Said on the bottom line until the next key.
    pub notice: Option<(Level, String)>,
    /// Put over what is there.
    pub layers: Vec<Box<dyn Layer>>,
    /// Go to this tab.
    pub tab: Option<TabName>,
    /// Run this command with this argument.
    pub run: Option<(Action, String)>,
}

impl Context<'_> {
    pub fn say(&mut self, text: impl Into<String>) {
        self.wishes.notice = Some((Level::Info, text.into()));
    }

    pub fn warn(&mut self, text: impl Into<String>) {
        self.wishes.notice = Some((Level::Warning, text.into()));
    }

    pub fn effect(&mut self, effect: Effect) {
        self.wishes.effects.push(effect);
    }

    pub fn open(&mut self, layer: impl Layer + 'static) {
        self.wishes.layers.push(Box::new(layer));
    }

    /// Rows that `PgUp` and `PgDn` move by.
    pub fn page(&self) -> isize {
        isize::try_from(self.size.1 / 2).unwrap_or(1).max(1)
    }
}

/// One screen between status line and footer.
pub trait Tab {
    /// Where its keys are looked up; the first that has the key decides, `Anywhere` comes last.
    fn places(&self) -> Vec<Place>;

    /// Do what a key or a name asked for; false when this tab has no meaning for it.
    fn perform(&mut self, action: Action, argument: &str, cx: &mut Context) -> bool;

    /// What is to be asked before a letter starts this: a person who typed a sentence did not mean it. None: it
    /// costs nothing that a key could not take back.
    fn question(&mut self, _: Action) -> Option<String> {
        None
    }

    /// A character no key table claims.
    fn typed(&mut self, _: char, _: &mut Context) {}

    fn paste(&mut self, _: &str, _: &mut Context) {}

    /// It comes to the front.
    fn shown(&mut self, _: &mut Context) {}
    /// The first mouse button went down, in columns and rows of the screen.
    fn click(&mut self, _column: u16, _row: u16) {}

    /// The files of a folder this tab asked for.
    fn files(&mut self, _: Files) {}

    /// Something happened; every tab hears everything, shown or not.
    fn event(&mut self, _: &DeckEvent, _: &mut Context) {}

    /// Time has passed.
    fn tick(&mut self, _now_ms: u64) {}

    /// How long until this tab wants to be drawn again though nothing came in; None: never.
    fn wait(&self) -> Option<Duration> {
        None
    }

    /// It shows and its `wait` has passed.
    fn due(&mut self, _: &mut Context) {}

    /// What helps now, most useful first: the keys come from the keymap.
    fn hints(&self) -> Vec<(Action, &'static str)>;

    /// Right end of the footer.
    fn corner(&self) -> Option<Row> {
        None
    }

    /// Draw into `area`; answers where the cursor stands, None when it is hidden.
    fn draw(&mut self, buffer: &mut Buffer, area: Rect, look: &Look) -> Option<Position>;
}

/// All tabs and which one shows.
pub struct Tabs {
    pub shown: TabName,
    pub chat: Chat,
    pub replay: replay::Replay,
    pub groups: groups::Groups,
    pub training: training::Training,
    pub models: models::Models,
}

impl Tabs {
    pub fn new(chat: Chat) -> Tabs {
        Tabs {
            shown: TabName::Chat,
            chat,
            replay: replay::Replay::default(),
            groups: groups::Groups::default(),
            training: training::Training::default(),
            models: models::Models::default(),
        }
    }

    pub fn current(&self) -> &dyn Tab {
        match self.shown {
            TabName::Chat => &self.chat,
            TabName::Replay => &self.replay,
            TabName::Groups => &self.groups,
            TabName::Training => &self.training,
            TabName::Models => &self.models,
        }
    }

    pub fn current_mut(&mut self) -> &mut dyn Tab {
        match self.shown {
            TabName::Chat => &mut self.chat,
            TabName::Replay => &mut self.replay,
            TabName::Groups => &mut self.groups,
            TabName::Training => &mut self.training,
            TabName::Models => &mut self.models,
        }
    }

    pub fn all_mut(&mut self) -> [&mut dyn Tab; 5] {
        [&mut self.chat, &mut self.replay, &mut self.groups, &mut self.training, &mut self.models]
    }
}

/// A tab with nothing in it yet: what it will show, and what fills it.
pub fn draw_empty(buffer: &mut Buffer, area: Rect, name: TabName, paragraphs: &[&str], look: &Look) {
    frame_block(buffer, area, Ink::Border, &look.theme);
    draw_title(buffer, area, &Row::new().say(format!(" {} ", name.words()), Ink::Title), &look.theme);
    let inside = inner(area);
    let rows_of = |paragraphs: &[&str]| {
        let mut rows = Vec::new();
        for (n, paragraph) in paragraphs.iter().enumerate() {
            let ink = if n == 0 { Ink::Text } else { Ink::Dim };
            let width = usize::from(inside.width).min(84);
            rows.extend(Prose::of(*paragraph, ink).wrap(width, &Row::new(), &Row::new()));
            rows.push(Row::new());
        }
        rows
    };
    let mut rows = rows_of(paragraphs);
    if rows.len() > usize::from(inside.height) + 1 {
        // What to do comes last, and is what a small screen must still say.
        rows = rows_of(paragraphs.last().map_or(&[], std::slice::from_ref));
    }
    draw_rows(buffer, inside, rows.iter(), &look.theme);
}
