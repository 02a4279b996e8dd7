//! The secrets this program itself holds, so that no record keeps one by accident.
//!
//! Whoever reads a key says so here once; what is written then leaves it out wherever it stands, whatever its
//! form. Kept in memory only.

use std::sync::{PoisonError, RwLock};

/// Shorter ones would stand in ordinary text by chance.
const LEAST_BYTES: usize = 8;

static HELD: RwLock<Vec<String>> = RwLock::new(Vec::new());

/// Remember a secret until the program ends.
pub fn hold(secret: &str) {
    let secret = secret.trim();
    let mut held = HELD.write().unwrap_or_else(PoisonError::into_inner);
    if secret.len() >= LEAST_BYTES && !held.iter().any(|known| known == secret) {
        held.push(secret.to_string());
        // One secret may hold another: the longer goes first.
        held.sort_by_key(|known| std::cmp::Reverse(known.len()));
    }
}

/// The text without held secrets and how many there were; None when there were none.
pub fn without(text: &str) -> Option<(String, usize)> {
    let held = HELD.read().unwrap_or_else(PoisonError::into_inner);
    let (mut kept, mut count) = (None::<String>, 0);
    for secret in held.iter() {
        let before = kept.as_deref().unwrap_or(text);
        let found = before.matches(secret.as_str()).count();
        if found > 0 {
            kept = Some(before.replace(secret.as_str(), "[redacted held key]"));
            count += found;
        }
    }
    kept.map(|kept| (kept, count))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_held_is_left_out_and_counted() {
        hold(" zq-held-for-this-test \n");
        hold("zq-held-for-this-test-and-longer");
        hold("short");
        assert_eq!(without("short, and nothing else"), None);
        let text = "a zq-held-for-this-test b zq-held-for-this-test-and-longer, zq-held-for-this-test";
        let expected = "a [redacted held key] b [redacted held key], [redacted held key]";
        assert_eq!(without(text), Some((expected.to_string(), 3)));
    }
}
