//! Finding files by a part of their name, by words in them, or both.
//!
//! A walk that follows no link, stays below the root and ends at stated bounds, which the result names.

use std::path::PathBuf;

use cap_std::fs::Dir;

use super::{FILE_BYTES, Found, RESULT_CHARS, beside, cut_line, shown, text_of};

/// Entries looked at.
const LOOKED_AT: usize = 50_000;
const DEPTH: usize = 32;
const HITS: usize = 50;
/// Bytes read in one search.
const READ_BYTES: usize = 64 << 20;

/// The walk's state.
struct Search<'a> {
    name: String,
    text: String,
    stop: &'a dyn Fn() -> bool,
    found: Found,
    hits: usize,
    looked_at: usize,
    read: usize,
    /// Files too long to be looked into, and folders too deep.
    long: usize,
    deep: usize,
    /// The bound that ended the walk early.
    bound: Option<String>,
}

pub(super) fn find(
    root: &Dir,
    path: &str,
    name: &str,
    text: &str,
    stop: &dyn Fn() -> bool,
) -> Result<Found, String> {
    if name.is_empty() && text.is_empty() {
        return Err("find needs a part of the name or words of the text".into());
    }
    let folder = root.open_dir(path).map_err(|e| super::trouble(path, &e))?;
    let mut search = Search {
        name: name.to_lowercase(),
        text: text.to_lowercase(),
        stop,
        found: Found::default(),
        hits: 0,
        looked_at: 0,
        read: 0,
        long: 0,
        deep: 0,
        bound: None,
    };
    search.walk(&folder, &PathBuf::from(path), 0);
    let passed_over = search.passed_over();
    let mut found = search.found;
    match (&search.bound, search.hits) {
        (Some(bound), _) => found.text.push_str(&format!("[stopped: {bound}; look in a smaller folder]")),
        (None, 0) => found.text = "Nothing was found.".into(),
        (None, _) => found.text = found.text.trim_end().to_string(),
    }
    if let Some(words) = passed_over {
        found.text.push_str(&format!("\n[{words}]"));
    }
    Ok(found)
}

impl Search<'_> {
    fn walk(&mut self, folder: &Dir, path: &std::path::Path, depth: usize) {
        let Ok(entries) = folder.entries() else { return };
        let mut entries: Vec<_> = entries.flatten().collect();
        entries.sort_by_key(cap_std::fs::DirEntry::file_name);
        for entry in entries {
            self.looked_at += 1;
            if self.ended() {
                return;
            }
            let name = entry.file_name().to_string_lossy().into_owned();
            let Ok(kind) = entry.file_type() else { continue };
            if kind.is_dir() && name != ".git" {
                if depth == DEPTH {
                    self.deep += 1;
                    continue;
                }
                // Opened by the entry itself: a folder that became a link meanwhile is not followed.
                if let Ok(inner) = entry.open_dir() {
                    self.walk(&inner, &path.join(&name), depth + 1);
                }
            } else if kind.is_file() && fits(&name.to_lowercase(), &self.name) {
                if !self.text.is_empty() && entry.metadata().is_ok_and(|data| data.len() > FILE_BYTES) {
                    self.long += 1;
                    continue;
                }
                self.look_into(folder, &name, &beside(path, &name));
            }
        }
    }

    fn look_into(&mut self, folder: &Dir, name: &str, path: &str) {
        if self.text.is_empty() {
            return self.hit(path, shown(path));
        }
        // What is no text or too long holds nothing that could be found.
        let Ok(whole) = text_of(folder, name) else { return };
        self.read += whole.len();
        for (number, line) in whole.lines().enumerate() {
            if line.to_lowercase().contains(&self.text) {
                self.hit(path, format!("{}:{}: {}", shown(path), number + 1, cut_line(line.trim())));
                if self.ended() {
                    return;
                }
            }
        }
    }

    /// What might hold more, in words; None: nothing was left out.
    fn passed_over(&self) -> Option<String> {
        let long = (self.long > 0)
            .then(|| format!("{} longer than {} MiB", plural(self.long, "file"), FILE_BYTES >> 20));
        let deep = (self.deep > 0).then(|| format!("{} deeper than {DEPTH}", plural(self.deep, "folder")));
        let words: Vec<String> = [long, deep].into_iter().flatten().collect();
        (!words.is_empty()).then(|| format!("not looked into: {}", words.join(", ")))
    }

    fn hit(&mut self, source: &str, line: String) {
        self.hits += 1;
        self.found.text.push_str(&line);
        self.found.text.push('\n');
        if self.found.sources.last().is_none_or(|last| last != source) {
            self.found.sources.push(source.to_string());
        }
    }

    fn ended(&mut self) -> bool {
        if self.bound.is_none() {
            self.bound = if (self.stop)() {
                Some("cancelled".to_string())
            } else if self.hits >= HITS || self.found.text.len() > RESULT_CHARS {
                Some(format!("{} hits", self.hits))
            } else if self.looked_at > LOOKED_AT {
                Some(format!("{LOOKED_AT} entries looked at"))
            } else if self.read > READ_BYTES {
                Some(format!("{} MiB read", READ_BYTES >> 20))
            } else {
                None
            };
        }
        self.bound.is_some()
    }
}

fn plural(count: usize, what: &str) -> String {
    format!("{count} {what}{}", if count == 1 { "" } else { "s" })
}

/// Whether a name holds the pattern's pieces in their order; without `*` the pattern stands anywhere in it,
/// with one it is about the whole name.
fn fits(name: &str, pattern: &str) -> bool {
    if !pattern.contains('*') {
        return name.contains(pattern);
    }
    let pieces: Vec<&str> = pattern.split('*').collect();
    let (first, last) = (pieces[0], pieces[pieces.len() - 1]);
    let Some(mut rest) = name.strip_prefix(first) else { return false };
    for piece in &pieces[1..pieces.len() - 1] {
        let Some(at) = rest.find(piece) else { return false };
        rest = &rest[at + piece.len()..];
    }
    rest.ends_with(last)
}

#[cfg(test)]
mod tests {
    use super::fits;

    #[test]
    fn stars_stand_for_anything() {
        for (name, pattern, expected) in [
            ("plan.md", "plan", true),
            ("plan.md", "*.md", true),
            ("plan.md.bak", "*.md", false),
            ("plan.md", "p*n*d", true),
            ("plan.md", "*x*", false),
            ("ab", "ab*ab", false),
            ("anything", "*", true),
            ("x", "", true),
        ] {
            assert_eq!(fits(name, pattern), expected, "{name} {pattern}");
        }
    }
}
