//! The deck's own files beside the settings: keys, themes; and the settings themselves at the first start.

use std::path::Path;

use anyhow::Context as _;

use crate::config::{self, Home, regular};
use crate::deck::keymap::Keymap;
use crate::deck::keymap_file;
use crate::deck::manners::{Manners, Notify};
use crate::deck::theme::Themes;
use crate::error::Error;

/// Write the commented settings where there are none, so that a person finds what can be set.
pub fn first_settings(file: &Path) {
    let written = || {
        std::fs::create_dir_all(file.parent()?).ok()?;
        let mut new = std::fs::File::create_new(file).ok()?;
        std::io::Write::write_all(&mut new, config::DEFAULT_TEXT.as_bytes()).ok()
    };
    // A place that cannot be written to has the defaults all the same.
    let _ = written();
}

/// How the deck behaves, from the settings, `keys.toml` and the themes folder.
///
/// # Errors
/// A file of these that cannot be read or is wrong; names the file and the line.
pub fn manners(home: &Home, deck: &config::Deck) -> anyhow::Result<Manners> {
    let notify = Notify::named(&deck.notify).ok_or_else(|| {
        let (names, got) = (Notify::NAMES.join(", "), &deck.notify);
        Error::Config(format!("key `deck.notify`: {got:?} is not one of {names}"))
    })?;
    Ok(Manners {
        mouse: deck.mouse,
        reduced_motion: deck.reduced_motion,
        notify,
        keymap: keymap(&home.keys_file())?,
        themes: Themes::with(own_themes(&home.themes())?),
    })
}

fn keymap(file: &Path) -> anyhow::Result<Keymap> {
    match regular::text(file) {
        Ok(text) => Ok(keymap_file::parse(&text, file)?),
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(Keymap::default()),
        Err(e) => Err(e).with_context(|| format!("cannot read {}", file.display())),
    }
}

/// (name, text) of every `NAME.toml` in the folder.
fn own_themes(folder: &Path) -> anyhow::Result<Vec<(String, String)>> {
    let mut themes = Vec::new();
    for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
        let path = entry.path();
        let name = path.file_stem().and_then(|stem| stem.to_str());
        if let Some(name) = name.filter(|_| path.extension().is_some_and(|e| e == "toml")) {
            let text =
                regular::text(&path).with_context(|| format!("cannot read theme {}", path.display()))?;
            themes.push((name.to_string(), text));
        }
    }
    themes.sort();
    Ok(themes)
}
