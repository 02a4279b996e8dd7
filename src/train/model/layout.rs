//! How a tree is cut for computing: slots, pieces, blocks and lanes. Depends on the tree alone, so sums are
//! formed in one order whatever the number of threads.
//!
//! - A *slot* is a node's place in key and value buffers; each segment starts at a multiple of 16.
//! - A *piece* is up to 96 consecutive nodes of one segment: the queries that attend together.
//! - A *block* is up to 96 consecutive nodes, whole pieces: the rows one task takes through a layer.
//! - A *lane* is a run of blocks whose gradients are summed in one buffer.

use std::ops::Range;

use super::TrainError;
use crate::train::tree::Tree;

/// Rows of a block; a multiple of the tile's 6 rows and of the 16 slots of a group.
pub const BLOCK: usize = 96;
/// Slots that are packed together.
pub const SLOTS: usize = 16;
/// Most gradient buffers.
pub const LANES: usize = 16;

/// Keys next to each other that a piece sees: `len` of them from `slot` on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Run {
    pub slot: usize,
    pub len: usize,
    /// Where its scores begin in a row of scores.
    pub column: usize,
}

impl Run {
    pub fn padded(&self) -> usize {
        self.len.next_multiple_of(SLOTS)
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Piece {
    /// First node, and how many.
    pub start: usize,
    pub len: usize,
    /// Slot of the first node.
    pub slot: usize,
    /// Ancestor segments from the root on, then the own segment up to the piece's end.
    pub runs: Vec<Run>,
    /// Of the own segment's keys, how many precede the piece.
    pub before: usize,
}

impl Piece {
    /// Columns of a row of scores.
    pub fn width(&self) -> usize {
        self.runs.last().map_or(0, |run| run.column + run.padded())
    }

    /// Keys of run `index` that row `row` of the piece sees.
    pub fn seen(&self, index: usize, row: usize) -> usize {
        if index + 1 == self.runs.len() { self.before + row + 1 } else { self.runs[index].len }
    }

    pub fn slots(&self) -> usize {
        self.len.next_multiple_of(SLOTS)
    }
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Block {
    /// Nodes.
    pub rows: Range<usize>,
    /// Slots of its pieces; neighbours in slots as in nodes.
    pub slots: Range<usize>,
    pub pieces: Vec<Piece>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Layout {
    pub nodes: usize,
    pub slots: usize,
    pub blocks: Vec<Block>,
    /// Runs of blocks with about the same work.
    pub lanes: Vec<Range<usize>>,
    /// The widest row of scores.
    pub width: usize,
}

impl Layout {
    /// # Errors
    /// [`TrainError::Batch`] if segments are not a partition of the nodes in depth-first order, if positions
    /// are not depths, or if a token or a target is none of the model's.
    pub fn new(tree: &Tree, vocabulary: usize) -> Result<Layout, TrainError> {
        check(tree, vocabulary)?;
        let mut layout = Layout { nodes: tree.tokens.len(), ..Layout::default() };
        let mut starts: Vec<usize> = Vec::new();
        for segment in &tree.segments {
            let slot = layout.slots;
            starts.push(slot);
            layout.slots += segment.len.next_multiple_of(SLOTS);
            let mut path: Vec<usize> =
                std::iter::successors(segment.parent, |s| tree.segments[*s].parent).collect();
            path.reverse();
            for before in (0..segment.len).step_by(BLOCK) {
                let len = (segment.len - before).min(BLOCK);
                let mut column = 0;
                let ancestors = path.iter().map(|s| (starts[*s], tree.segments[*s].len));
                let runs = ancestors.chain([(slot, before + len)]).map(|(slot, len)| {
                    let run = Run { slot, len, column };
                    column += run.padded();
                    run
                });
                let runs = runs.collect();
                let piece = Piece { start: segment.start + before, len, slot: slot + before, runs, before };
                layout.width = layout.width.max(piece.width());
                layout.add(piece);
            }
        }
        layout.cut_lanes();
        Ok(layout)
    }

    fn add(&mut self, piece: Piece) {
        let (end, slot_end) = (piece.start + piece.len, piece.slot + piece.slots());
        match self.blocks.last_mut().filter(|block| end - block.rows.start <= BLOCK) {
            Some(block) => {
                block.rows.end = end;
                block.slots.end = slot_end;
                block.pieces.push(piece);
            }
            None => self.blocks.push(Block {
                rows: piece.start..end,
                slots: piece.slot..slot_end,
                pieces: vec![piece],
            }),
        }
    }

    /// Lanes of equal count of rows, as near as whole blocks allow.
    fn cut_lanes(&mut self) {
        let lanes = self.blocks.len().min(LANES);
        let mut begin = 0;
        for lane in 1..=lanes {
            let end = self.blocks.len() * lane / lanes;
            self.lanes.push(begin..end);
            begin = end;
        }
    }

    /// Nodes of a run of blocks.
    pub fn rows(&self, blocks: &Range<usize>) -> Range<usize> {
        self.blocks[blocks.start].rows.start..self.blocks[blocks.end - 1].rows.end
    }
}

/// Everything a tree must be before it is computed.
///
/// # Errors
/// As [`Layout::new`].
pub fn check(tree: &Tree, vocabulary: usize) -> Result<(), TrainError> {
    let nodes = tree.tokens.len();
    let wrong = |reason: String| Err(TrainError::Batch(reason));
    if nodes == 0 || tree.targets.is_empty() {
        return wrong(format!("{nodes} tokens and {} targets; nothing can be learned", tree.targets.len()));
    }
    if tree.positions.len() != nodes {
        return wrong(format!("{} positions for {nodes} tokens", tree.positions.len()));
    }
    let mut next = 0;
    for (index, segment) in tree.segments.iter().enumerate() {
        if segment.start != next || segment.len == 0 || segment.parent.is_some_and(|parent| parent >= index) {
            return wrong(format!("segment {index} ({segment:?}) does not continue at node {next}"));
        }
        let depth = segment.parent.map_or(0, |parent| {
            let parent = &tree.segments[parent];
            tree.positions[parent.start] as usize + parent.len
        });
        next += segment.len;
        if next > nodes {
            return wrong(format!("segment {index} ends at {next} of {nodes} nodes"));
        }
        for (offset, position) in tree.positions[segment.start..next].iter().enumerate() {
            if *position != (depth + offset) as i32 {
                return wrong(format!("node {} has position {position}", segment.start + offset));
            }
        }
    }
    if next != nodes {
        return wrong(format!("segments hold {next} of {nodes} nodes"));
    }
    let known = |token: i32| usize::try_from(token).is_ok_and(|token| token < vocabulary);
    if let Some(token) = tree.tokens.iter().find(|token| !known(**token)) {
        return wrong(format!("token {token} of a vocabulary of {vocabulary}"));
    }
    match tree.targets.iter().find(|target| target.node >= nodes || !known(target.token)) {
        Some(target) => wrong(format!("{target:?} of {nodes} nodes and {vocabulary} tokens")),
        None => Ok(()),
    }
}
