//! Themes: what each ink of the deck looks like. Data in themes/*.toml, compiled in.
//!
//! The deck names inks by meaning (`Ink::Bad`), never colours. A theme gives inks styles over a
//! `[palette]` and may inherit another theme; ink that no theme in the chain names is plain text.

use std::collections::BTreeMap;

use ratatui::style::{Color, Modifier, Style};
use serde::Deserialize;

use crate::error::Error;

macro_rules! inks {
    ($($variant:ident $name:literal),* $(,)?) => {
        /// What a stretch of text means.
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
        pub enum Ink { #[default] $($variant),* }

        impl Ink {
            pub const ALL: &'static [Ink] = &[$(Ink::$variant),*];

            /// The key in a theme file.
            pub fn name(self) -> &'static str {
                match self { $(Ink::$variant => $name),* }
            }
        }
    };
}

inks! {
    Text "text", Dim "dim", Strong "strong", Emphasis "emphasis", Heading "heading", Accent "accent",
    Title "title", TitleFocus "title_focus", Border "border", BorderFocus "border_focus",
    Status "status", StatusStrong "status_strong", Good "good", Bad "bad", Warning "warning", Error "error",
    Tool "tool", Added "added", Code "code", CodeKeyword "code_keyword", CodeString "code_string",
    CodeNumber "code_number", CodeComment "code_comment", Selected "selected", Background "background",
}

const FILES: &[(&str, &str)] = &[
    ("default", include_str!("../../themes/default.toml")),
    ("dark", include_str!("../../themes/dark.toml")),
    ("light", include_str!("../../themes/light.toml")),
    ("high-contrast", include_str!("../../themes/high-contrast.toml")),
    ("mono", include_str!("../../themes/mono.toml")),
];

/// Names a theme can be asked for by.
pub const NAMES: &[&str] = &["default", "dark", "light", "high-contrast", "mono"];

/// The themes there are: those that come with the program, and a person's own.
#[derive(Clone, Debug)]
pub struct Themes {
    /// (name, file as text); a later one of the same name wins.
    files: Vec<(String, String)>,
}

impl Default for Themes {
    fn default() -> Themes {
        Themes { files: FILES.iter().map(|(name, text)| (name.to_string(), text.to_string())).collect() }
    }
}

impl Themes {
    /// Those that come with the program and these, as (name, file as text).
    pub fn with(own: Vec<(String, String)>) -> Themes {
        let mut themes = Themes::default();
        themes.files.extend(own);
        themes
    }

    /// Every name once, in the order they can be walked.
    pub fn names(&self) -> Vec<String> {
        let mut names: Vec<String> = Vec::new();
        for (name, _) in &self.files {
            if !names.contains(name) {
                names.push(name.clone());
            }
        }
        names
    }

    /// # Errors
    /// No theme has that name, or its file is wrong: says which line.
    pub fn named(&self, name: &str) -> Result<Theme, Error> {
        let mut styles = vec![Style::new(); Ink::ALL.len()];
        self.apply_chain(name, &mut styles, 0)?;
        Ok(Theme { name: name.to_string(), styles })
    }

    /// Apply the inherited theme first, then `name` over it. An own theme may inherit the built-in one it
    /// takes the name of.
    fn apply_chain(&self, name: &str, styles: &mut [Style], depth: usize) -> Result<(), Error> {
        let mut found = self.files.iter().rev().filter(|(known, _)| known == name);
        // Depth 0 is the own one; what it inherits under its own name is the built-in one.
        let text = found.nth(usize::from(depth > 0 && self.shadows_builtin(name)));
        let (_, text) = text.ok_or_else(|| {
            Error::Config(format!("no theme is called {name:?}; themes: {}", self.names().join(", ")))
        })?;
        apply(name, text, styles, |parent, styles| {
            if depth > 4 {
                return Err(Error::Config(format!("theme {name}: inherits in a circle")));
            }
            self.apply_chain(parent, styles, depth + 1)
        })
    }

    /// An own theme has the name of a built-in one.
    fn shadows_builtin(&self, name: &str) -> bool {
        self.files.iter().filter(|(known, _)| known == name).count() > 1
    }
}

/// One style per ink.
#[derive(Clone, Debug)]
pub struct Theme {
    pub name: String,
    styles: Vec<Style>,
}

/// A theme file as written.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    inherits: Option<String>,
    #[serde(default)]
    palette: BTreeMap<String, String>,
    #[serde(default)]
    inks: BTreeMap<String, Look>,
}

/// `"red"` or `{ fg = "red", bold = true }`.
#[derive(Clone, Debug, Deserialize)]
#[serde(untagged)]
enum Look {
    Foreground(String),
    Full(FullLook),
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct FullLook {
    fg: Option<String>,
    bg: Option<String>,
    bold: bool,
    dim: bool,
    italic: bool,
    underline: bool,
    reverse: bool,
}

impl Theme {
    /// # Errors
    /// No theme has that name, or its file is wrong (a test keeps the second from happening).
    pub fn named(name: &str) -> Result<Theme, Error> {
        Themes::default().named(name)
    }

    pub fn style(&self, ink: Ink) -> Style {
        self.styles[ink as usize]
    }
}

/// Apply the theme file `text` over `styles`, what it inherits first.
fn apply(
    name: &str,
    text: &str,
    styles: &mut [Style],
    inherit: impl FnOnce(&str, &mut [Style]) -> Result<(), Error>,
) -> Result<(), Error> {
    let wrong = |what: String| Error::Config(format!("theme {name}: {what}"));
    let file: File = toml::from_str(text).map_err(|e| wrong(e.to_string().trim_end().to_string()))?;
    if let Some(parent) = &file.inherits {
        inherit(parent, styles)?;
    }
    for (key, look) in &file.inks {
        let ink = Ink::ALL.iter().find(|ink| ink.name() == key);
        let ink = ink.ok_or_else(|| {
            let names: Vec<&str> = Ink::ALL.iter().map(|ink| ink.name()).collect();
            wrong(format!("no ink is called {key:?}; inks: {}", names.join(", ")))
        })?;
        styles[*ink as usize] =
            style(look, &file.palette).map_err(|what| wrong(format!("ink {key}: {what}")))?;
    }
    Ok(())
}

fn style(look: &Look, palette: &BTreeMap<String, String>) -> Result<Style, String> {
    let full = match look {
        Look::Foreground(fg) => FullLook { fg: Some(fg.clone()), ..FullLook::default() },
        Look::Full(full) => full.clone(),
    };
    let mut style = Style::new();
    if let Some(fg) = &full.fg {
        style = style.fg(color(fg, palette)?);
    }
    if let Some(bg) = &full.bg {
        style = style.bg(color(bg, palette)?);
    }
    for (on, modifier) in [
        (full.bold, Modifier::BOLD),
        (full.dim, Modifier::DIM),
        (full.italic, Modifier::ITALIC),
        (full.underline, Modifier::UNDERLINED),
        (full.reverse, Modifier::REVERSED),
    ] {
        if on {
            style = style.add_modifier(modifier);
        }
    }
    // What an ink does not ask for it takes away: a title on a dim border is not dim.
    style.sub_modifier = !style.add_modifier;
    Ok(style)
}

fn color(name: &str, palette: &BTreeMap<String, String>) -> Result<Color, String> {
    let value = palette.get(name).map_or(name, String::as_str);
    if value == "default" {
        return Ok(Color::Reset);
    }
    value.parse().map_err(|_| format!("{value:?} is no colour: a palette name, an ANSI name or #rrggbb"))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// WCAG 2 relative luminance of an sRGB colour.
    fn luminance(color: Color) -> Option<f64> {
        let Color::Rgb(r, g, b) = color else { return None };
        let linear = |v: u8| {
            let v = f64::from(v) / 255.0;
            if v <= 0.03928 { v / 12.92 } else { ((v + 0.055) / 1.055).powf(2.4) }
        };
        Some(0.2126 * linear(r) + 0.7152 * linear(g) + 0.0722 * linear(b))
    }

    fn contrast(a: Color, b: Color) -> Option<f64> {
        let (a, b) = (luminance(a)?, luminance(b)?);
        Some((a.max(b) + 0.05) / (a.min(b) + 0.05))
    }

    #[test]
    fn contrast_formula() {
        assert!((contrast(Color::Rgb(0, 0, 0), Color::Rgb(255, 255, 255)).unwrap() - 21.0).abs() < 1e-9);
        assert!(
            (contrast(Color::Rgb(119, 119, 119), Color::Rgb(255, 255, 255)).unwrap() - 4.48).abs() < 0.01
        );
    }

    #[test]
    fn every_theme_loads_and_can_be_read() {
        assert_eq!(NAMES, FILES.iter().map(|(name, _)| *name).collect::<Vec<_>>());
        for name in NAMES {
            let theme = Theme::named(name).unwrap();
            let background = theme.style(Ink::Background).bg;
            for ink in Ink::ALL.iter().filter(|ink| !matches!(ink, Ink::Background)) {
                let style = theme.style(*ink);
                let least = match (*name, ink) {
                    (_, Ink::Border | Ink::BorderFocus) => 3.0,
                    ("high-contrast", _) => 7.0,
                    _ => 4.5,
                };
                let fg = style.fg.or(theme.style(Ink::Text).fg);
                if let (Some(fg), Some(bg)) = (fg, style.bg.or(background))
                    && let Some(ratio) = contrast(fg, bg)
                {
                    assert!(ratio >= least, "{name}: {} has {ratio:.2}, needs {least}", ink.name());
                }
            }
        }
    }

    #[test]
    fn default_and_mono_leave_the_terminal_its_colours() {
        for ink in Ink::ALL {
            let style = Theme::named("default").unwrap().style(*ink);
            for color in [style.fg, style.bg].into_iter().flatten() {
                assert!(!matches!(color, Color::Rgb(..) | Color::Indexed(_)), "default: {}", ink.name());
            }
            let style = Theme::named("mono").unwrap().style(*ink);
            assert_eq!((style.fg, style.bg), (None, None), "mono: {}", ink.name());
        }
    }

    #[test]
    fn meaning_shows_without_colour() {
        let mono = Theme::named("mono").unwrap();
        for (ink, other) in
            [(Ink::TitleFocus, Ink::Title), (Ink::Selected, Ink::Text), (Ink::Error, Ink::Text)]
        {
            assert_ne!(mono.style(ink), mono.style(other), "{}", ink.name());
        }
    }

    #[test]
    fn own_themes_inherit_and_override() {
        let own =
            |name: &str, text: &str| Themes::with(vec![(name.to_string(), text.to_string())]).named(name);
        let mine = own("mine", "inherits = 'dark'\n[palette]\nx = '#ffffff'\n[inks]\ntext = 'x'\n").unwrap();
        let dark = Theme::named("dark").unwrap();
        assert_eq!(mine.style(Ink::Text).fg, Some(Color::Rgb(255, 255, 255)));
        assert_eq!(mine.style(Ink::Good), dark.style(Ink::Good));
        let dark_again = own("dark", "inherits = 'dark'\n[inks]\ntext = 'red'\n").unwrap();
        assert_eq!(dark_again.style(Ink::Good), dark.style(Ink::Good));
        assert_eq!(dark_again.style(Ink::Text).fg, Some(Color::Red));
        for (text, expected) in [
            ("inherits = 'mine'", "circle"),
            ("[inks]\ntext = 'no-such'", "ink text: \"no-such\""),
            ("[inks]\ntxt = 'red'", "no ink is called \"txt\"; inks: text"),
            ("[inks", "line 1"),
        ] {
            let message = own("mine", text).unwrap_err().to_string();
            assert!(message.contains(expected), "{message}");
        }
    }

    #[test]
    fn wrong_names_say_what_there_is() {
        let message = Theme::named("pink").unwrap_err().to_string();
        assert!(message.contains("pink") && message.contains("high-contrast"), "{message}");
    }
}
