//! The batch as a prefix tree: every distinct (prefix, token) once, attention to ancestors only.
//!
//! Gradients are exactly those of separate rows. Rows share a node as long as their ids agree from the
//! start; a row's targets hang on the node before each sampled token.

/// A run of tokens without a branch. Its tokens attend to all tokens of its ancestors and, causally, to
/// their own segment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Segment {
    /// First node, and how many; nodes of a segment are consecutive.
    pub start: usize,
    pub len: usize,
    /// Segment this one continues; always an earlier one.
    pub parent: Option<usize>,
}

/// One sampled token whose log-probability is wanted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Target {
    /// The node whose hidden state predicts it.
    pub node: usize,
    pub token: i32,
    /// The row it belongs to, and its index among that row's sampled tokens.
    pub row: usize,
    pub index: usize,
}

/// N nodes in depth-first order (a parent before its children), S segments, K targets.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tree {
    /// N token ids.
    pub tokens: Vec<i32>,
    /// N positions: the number of ancestors.
    pub positions: Vec<i32>,
    pub segments: Vec<Segment>,
    /// Ordered by row, then index.
    pub targets: Vec<Target>,
}

/// One row: a prompt and what was sampled after it.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Row {
    pub prompt: Vec<i32>,
    pub sampled: Vec<i32>,
}
