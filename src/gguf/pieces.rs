//! What each token of a vocabulary spells, for showing recorded ids. It turns no text into tokens.
//!
//! Two spellings are in use: byte-level BPE (`gpt2`), where every byte is written as a printable character,
//! and SentencePiece (`llama`, `gemma4`), where a space is written as U+2581 and a byte as `<0x0A>`.

use std::path::Path;

use crate::gguf::{GgufError, Header, check};

/// The bytes of every token.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Pieces(Vec<Vec<u8>>);

impl Pieces {
    /// # Errors
    /// The file is no model that passes the check.
    pub fn of_file(path: &Path) -> Result<Pieces, GgufError> {
        check(path).map(|header| Pieces::of(&header))
    }

    pub fn of(header: &Header) -> Pieces {
        let byte_level = header.str("tokenizer.ggml.model") == Some("gpt2");
        let spell = if byte_level { spell_byte_level } else { spell_sentence_piece };
        Pieces(header.tokens().map(|tokens| tokens.iter().map(spell).collect()).unwrap_or_default())
    }

    /// One text per id. A character whose bytes lie in several tokens stands at the last of them; an id
    /// the vocabulary does not have is written as its number.
    pub fn texts(&self, ids: &[i32]) -> Vec<String> {
        let mut open: Vec<u8> = Vec::new();
        let mut texts = Vec::with_capacity(ids.len());
        for (at, id) in ids.iter().enumerate() {
            match usize::try_from(*id).ok().and_then(|id| self.0.get(id)) {
                Some(bytes) => open.extend_from_slice(bytes),
                None => open.extend_from_slice(format!("[{id}]").as_bytes()),
            }
            let unfinished = std::str::from_utf8(&open).is_err_and(|e| e.error_len().is_none());
            if unfinished && at + 1 < ids.len() {
                texts.push(String::new());
            } else {
                texts.push(String::from_utf8_lossy(&open).into_owned());
                open.clear();
            }
        }
        texts
    }
}

fn spell_byte_level(token: &str) -> Vec<u8> {
    let bytes: Option<Vec<u8>> = token.chars().map(byte_of).collect();
    // Control tokens (`<|im_end|>`) are spelled as they are; so is anything that is no byte-level text.
    bytes.unwrap_or_else(|| token.as_bytes().to_vec())
}

/// The byte a character of byte-level BPE stands for: printable ones for themselves, the 68 others, in
/// order, for U+0100 and up.
fn byte_of(c: char) -> Option<u8> {
    let code = u32::from(c);
    let itself = |byte: u32| matches!(byte, 0x21..=0x7e | 0xa1..=0xac | 0xae..=0xff);
    if code < 0x100 {
        return u8::try_from(code).ok().filter(|_| itself(code));
    }
    let place = usize::try_from(code - 0x100).ok()?;
    (0..0x100).filter(|byte| !itself(*byte)).nth(place).and_then(|byte| u8::try_from(byte).ok())
}

fn spell_sentence_piece(token: &str) -> Vec<u8> {
    let byte = token.strip_prefix("<0x").and_then(|rest| rest.strip_suffix('>'));
    match byte.filter(|digits| digits.len() == 2).and_then(|digits| u8::from_str_radix(digits, 16).ok()) {
        Some(byte) => vec![byte],
        None => token.replace('\u{2581}', " ").into_bytes(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spellings() {
        assert_eq!(spell_byte_level("\u{120}the"), b" the");
        assert_eq!(spell_byte_level("\u{10a}"), b"\n");
        assert_eq!(spell_byte_level("\u{c3}\u{a9}"), "é".as_bytes());
        assert_eq!(spell_byte_level("<|end of text|>"), b"<|end of text|>");
        assert_eq!(spell_sentence_piece("\u{2581}the"), b" the");
        assert_eq!(spell_sentence_piece("<0x0A>"), b"\n");
    }

    #[test]
    fn a_character_over_two_tokens_stands_at_the_second() {
        let pieces = Pieces(vec![b"a".to_vec(), vec![0xc3], vec![0xa9]]);
        assert_eq!(pieces.texts(&[0, 1, 2, 9]), ["a", "", "é", "[9]"]);
        assert_eq!(pieces.texts(&[1]), ["\u{fffd}"]);
    }
}
