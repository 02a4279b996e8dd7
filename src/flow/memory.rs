//! What later turns may see: the list of (sub-goal, tool, command, result, verdict), append-only.

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::flow::trajectory::Verdict;

/// One turn, as remembered.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct MemoryEntry {
    pub turn: usize,
    pub sub_goal: String,
    pub tool: String,
    pub command: Value,
    /// The result, cut by `cut`; the full text is in the turn's tool_result event.
    pub result: String,
    /// Characters the cut removed.
    pub cut_chars: usize,
    pub error: bool,
    pub verdict: Verdict,
    pub time_ms: f64,
}

/// Append-only: an entry never changes after the turn that made it, so prompts only grow at the end.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Memory {
    pub entries: Vec<MemoryEntry>,
}

/// Keep at most `max` characters: the first three quarters and the last quarter, with a mark between.
/// Answers the kept text and how many characters were left out.
pub fn cut(text: &str, max: usize) -> (String, usize) {
    let total = text.chars().count();
    if total <= max {
        return (text.to_string(), 0);
    }
    let head = max * 3 / 4;
    let tail = max - head;
    let kept_head: String = text.chars().take(head).collect();
    let kept_tail: String = text.chars().skip(total - tail).collect();
    let left_out = total - max;
    (format!("{kept_head} [{left_out} characters cut] {kept_tail}"), left_out)
}

#[cfg(test)]
mod tests {
    use super::cut;

    #[test]
    fn cutting_keeps_both_ends_and_counts() {
        assert_eq!(cut("short", 10), ("short".to_string(), 0));
        let (kept, left_out) = cut("aaaaaaaabbbbbbbbcccc", 8);
        assert_eq!(kept, "aaaaaa [12 characters cut] cc");
        assert_eq!(left_out, 12);
        let (kept, _) = cut("ééééééééé", 4);
        assert!(kept.starts_with("ééé ["), "{kept}");
    }
}
