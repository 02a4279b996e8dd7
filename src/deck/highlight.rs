//! Code as inked lines. Plain for now for every language; the colours come from a worker off the frame path.

use crate::deck::row::Prose;
use crate::deck::theme::Ink;

/// One prose per line of `code`.
pub fn lines(code: &str, _language: &str) -> Vec<Prose> {
    code.trim_end_matches('\n').split('\n').map(|line| Prose::of(line, Ink::Code)).collect()
}
