//! How the deck behaves where people and terminals differ: mouse, motion, notifications, keys, themes.

use crate::deck::keymap::Keymap;
use crate::deck::theme::Themes;

/// What tells of an answer while the terminal is out of focus.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Notify {
    #[default]
    Off,
    /// The terminal's bell.
    Bell,
    /// A desktop notification by the terminal (OSC 9), where it knows that.
    Osc9,
}

impl Notify {
    /// The names settings may use.
    pub const NAMES: [&'static str; 3] = ["off", "bell", "osc9"];

    pub fn named(name: &str) -> Option<Notify> {
        match name {
            "" | "off" => Some(Notify::Off),
            "bell" => Some(Notify::Bell),
            "osc9" => Some(Notify::Osc9),
            _ => None,
        }
    }
}

/// Settings of the deck that a person may change.
#[derive(Clone, Debug, Default)]
pub struct Manners {
    /// Take mouse events from the start.
    pub mouse: bool,
    /// Nothing moves by itself: no seconds that count up.
    pub reduced_motion: bool,
    pub notify: Notify,
    pub keymap: Keymap,
    pub themes: Themes,
}
