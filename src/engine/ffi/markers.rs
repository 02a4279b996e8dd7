//! Keeps content from becoming markup: llama.cpp tokenises "user-defined" tokens even where special tokens are
//! switched off, and it declares some control tokens user-defined itself (gpt-oss's channel marks).
//!
//! So text of a page could write `<|channel|>` or `<tool_call>` into a prompt as the very token. Where content
//! spells such a token it is cut behind the first character and tokenised in two pieces. Runs of blanks and the
//! like, user-defined in some vocabularies too, stay whole: they mark nothing.

use std::collections::HashSet;

/// The tokens a piece of content must not become.
#[derive(Default)]
pub struct Markers {
    texts: HashSet<String>,
    /// Bytes of the longest.
    longest: usize,
}

impl Markers {
    /// Of the texts of all user-defined tokens, those that mark something.
    pub fn new(texts: impl Iterator<Item = String>) -> Markers {
        let texts: HashSet<String> = texts.filter(|text| marks(text)).collect();
        Markers { longest: texts.iter().map(String::len).max().unwrap_or(0), texts }
    }

    /// The content in pieces, none of which holds a marker. Joined they are the content.
    pub fn cut<'a>(&self, content: &'a str) -> Vec<&'a str> {
        if self.texts.is_empty() {
            return vec![content];
        }
        let (mut pieces, mut from) = (Vec::new(), 0);
        for (at, _) in content.match_indices(['<', '[']) {
            if self.begins(&content[at..]) {
                pieces.push(&content[from..=at]);
                from = at + 1;
            }
        }
        pieces.push(&content[from..]);
        pieces
    }

    fn begins(&self, rest: &str) -> bool {
        let window = &rest[..rest.floor_char_boundary(self.longest)];
        window.match_indices(['>', ']']).any(|(end, _)| self.texts.contains(&window[..=end]))
    }
}

fn marks(text: &str) -> bool {
    let bracketed = |open, close| text.starts_with(open) && text.ends_with(close);
    text.len() > 2 && (bracketed('<', '>') || bracketed('[', ']'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_piece_holds_a_marker_and_nothing_is_lost() {
        let texts = ["<|channel|>", "<tool_call>", "[INST]", "\n\n", "    ", "<>", "<a<b>"];
        let markers = Markers::new(texts.iter().map(ToString::to_string));
        for (content, expected) in [
            ("plain", vec!["plain"]),
            ("a < b > c [d]", vec!["a < b > c [d]"]),
            ("x<|channel|>y", vec!["x<", "|channel|>y"]),
            ("<tool_call><tool_call>", vec!["<", "tool_call><", "tool_call>"]),
            ("[INST]", vec!["[", "INST]"]),
            ("é<|channel|>é", vec!["é<", "|channel|>é"]),
            ("\n\n    ", vec!["\n\n    "]),
            ("<a<b>", vec!["<", "a<b>"]),
            ("<|channel|", vec!["<|channel|"]),
            ("", vec![""]),
        ] {
            let pieces = markers.cut(content);
            assert_eq!(pieces, expected);
            assert_eq!(pieces.concat(), content);
        }
        assert_eq!(Markers::default().cut("<|channel|>"), ["<|channel|>"]);
    }
}
