//! The four panes as one part of a screen: which has the focus, how far it is scrolled, their drawing.
//!
//! Whoever shows a trajectory (live or replayed) owns one of these and says which turn is selected.

use ratatui::buffer::Buffer;
use ratatui::layout::Rect;

use crate::deck::command::Action;
use crate::deck::layout::Layout;
use crate::deck::live::Live;
use crate::deck::paint::{draw_corner, draw_rows, draw_title, frame_block, inner};
use crate::deck::pane::{Page, Pane, Room};
use crate::deck::row::Row;
use crate::deck::tab::Look;
use crate::deck::theme::Ink;

/// A trajectory and the position of its selected turn.
pub type Followed<'a> = Option<(&'a Live, usize)>;

#[derive(Default)]
pub struct Panes {
    /// The pane that has the focus, by its place in `Pane::ALL`.
    pub focus: Option<usize>,
    /// On a narrow screen: the pane that stands in place of the conversation.
    pub shown: Option<usize>,
    /// Rows the focused pane is scrolled by.
    pub scroll: usize,
}

impl Panes {
    pub fn clear(&mut self) {
        *self = Panes::default();
    }

    /// Give pane `pane` the focus; the same again gives it back.
    pub fn focus(&mut self, pane: Option<usize>) {
        let pane = if pane == self.focus { None } else { pane };
        self.show(pane);
    }

    /// Lists are looked at from their end, texts from their start; drawing holds the scroll in bounds.
    fn show(&mut self, pane: Option<usize>) {
        (self.focus, self.shown) = (pane, pane);
        let list = pane.is_some_and(|pane| matches!(Pane::ALL[pane], Pane::Verdicts | Pane::Memory));
        self.scroll = if list { usize::MAX } else { 0 };
    }

    /// Walk conversation, plan, tool calls, verdicts, memory, conversation ...
    pub fn walk(&mut self, forward: bool) {
        let count = Pane::ALL.len();
        let at = self.focus.or(self.shown).map_or(0, |pane| pane + 1);
        let next = if forward { (at + 1) % (count + 1) } else { (at + count) % (count + 1) };
        self.show(next.checked_sub(1));
    }

    /// Hold the scroll of the focused pane in bounds. Call before `draw`.
    pub fn prepare(&mut self, layout: &Layout, followed: Followed) {
        if let Some((pane, area)) = layout.panes.iter().find(|(pane, _)| self.focus == Some(*pane)) {
            let inner = inner(*area);
            let rows = page(followed, *pane, inner.width).rows.len();
            self.scroll = self.scroll.min(rows.saturating_sub(usize::from(inner.height)));
        }
    }

    /// `name` stands for what the panes take the place of on a narrow screen.
    pub fn draw(&self, buffer: &mut Buffer, layout: &Layout, followed: Followed, name: &str, look: &Look) {
        // The focused pane last, so that its border lies over its neighbours'.
        let focused = |pane: &usize| self.focus == Some(*pane);
        let others = layout.panes.iter().filter(|(pane, _)| !focused(pane));
        for (pane, area) in others.chain(layout.panes.iter().filter(|(pane, _)| focused(pane))) {
            let title = if layout.wide {
                let ink = if focused(pane) { Ink::TitleFocus } else { Ink::Title };
                Row::new().say(format!(" {} ", title(followed, *pane)), ink)
            } else {
                narrow_title(followed, Some(*pane), name, usize::from(area.width.saturating_sub(2)), look)
            };
            self.draw_one(buffer, *area, *pane, followed, &title, look);
        }
    }

    fn draw_one(
        &self,
        buffer: &mut Buffer,
        area: Rect,
        pane: usize,
        followed: Followed,
        title: &Row,
        look: &Look,
    ) {
        let (theme, focus) = (&look.theme, self.focus == Some(pane));
        frame_block(buffer, area, if focus { Ink::BorderFocus } else { Ink::Border }, theme);
        draw_title(buffer, area, title, theme);
        let inside = inner(area);
        let page = page(followed, pane, inside.width);
        let height = usize::from(inside.height);
        if !focus {
            let hidden = page.rows.len().saturating_sub(height);
            draw_rows(buffer, inside, page.fit(height).iter(), theme);
            if hidden > 0 {
                let key = look.keymap.key_of(&[], Action::Pane(pane)).unwrap_or_default();
                let words = format!(" {hidden} more: {key} ");
                draw_corner(buffer, area, &Row::new().say(words, Ink::Dim), theme);
            }
            return;
        }
        draw_rows(buffer, inside, page.rows.iter().skip(self.scroll), theme);
        let below = page.rows.len().saturating_sub(self.scroll + height);
        if self.scroll + below > 0 {
            let words = format!(" {} above, {below} below ", self.scroll);
            draw_corner(buffer, area, &Row::new().say(words, Ink::Dim), theme);
        }
    }
}

fn page(followed: Followed, pane: usize, width: u16) -> Page {
    let (pane, width) = (Pane::ALL[pane], usize::from(width));
    match followed {
        Some((live, turn)) => pane.page(live, turn, width, Room::Pane),
        None => pane.introduction(width),
    }
}

fn title(followed: Followed, pane: usize) -> String {
    match followed {
        Some((live, turn)) => Pane::ALL[pane].title(live, turn),
        None => Pane::ALL[pane].name().to_string(),
    }
}

/// The narrow screen's title: every view with its key, the one that shows marked.
pub fn narrow_title(followed: Followed, shown: Option<usize>, name: &str, room: usize, look: &Look) -> Row {
    let mark = |here: bool| if here { Ink::TitleFocus } else { Ink::Title };
    let row = |all: bool| {
        let mut row = Row::new();
        if all || shown.is_none() {
            row = row.say(format!(" {name} "), mark(shown.is_none()));
        }
        for (n, pane) in Pane::ALL.iter().enumerate() {
            let words = match shown == Some(n) {
                true => title(followed, n) + " ",
                false if all => pane.name().to_string() + " ",
                // Without room for the names the keys still say that there is more.
                false => String::new(),
            };
            let key = look.keymap.key_of(&[], Action::Pane(n)).unwrap_or_default();
            row = row.say(format!(" {key} {words}"), mark(shown == Some(n)));
        }
        row
    };
    let whole = row(true);
    if whole.width() <= room { whole } else { row(false) }
}
