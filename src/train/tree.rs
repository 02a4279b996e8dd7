//! The batch as a prefix tree: every distinct (prefix, token) once, attention to ancestors only.
//!
//! Gradients are exactly those of separate rows. Rows share a node as long as their ids agree from the
//! start; a row's targets hang on the node before each sampled token.

use std::collections::HashMap;

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

impl Tree {
    /// The tree of `rows`: branches in the order rows first take them, so equal rows give an equal tree.
    ///
    /// The last sampled token of a row predicts nothing and gets no node of its own. A row without a
    /// prompt has nothing that predicts its first token, so that token gets no target; a row without
    /// sampled tokens is not in the tree at all.
    pub fn build(rows: &[Row]) -> Tree {
        let paths: Vec<Vec<i32>> = rows.iter().map(Row::computed).collect();
        let mut tree = Tree::default();
        // For every row, the node of each of its ids.
        let mut nodes: Vec<Vec<usize>> = paths.iter().map(|path| Vec::with_capacity(path.len())).collect();
        let everyone = (0..rows.len()).filter(|row| !paths[*row].is_empty()).collect();
        let mut open = branches(&paths, everyone, 0, None);
        while let Some(branch) = open.pop() {
            let end = agreement(&paths, &branch);
            let start = tree.tokens.len();
            let longest = branch.rows.iter().copied().max_by_key(|row| (paths[*row].len().min(end), !*row));
            let Some(longest) = longest else { continue };
            tree.segments.push(Segment { start, len: end - branch.depth, parent: branch.parent });
            tree.tokens.extend_from_slice(&paths[longest][branch.depth..end]);
            tree.positions.extend((branch.depth..end).map(|depth| depth as i32));
            for row in &branch.rows {
                let stop = paths[*row].len().min(end);
                nodes[*row].extend((start..).take(stop - branch.depth));
            }
            let further = branch.rows.into_iter().filter(|row| paths[*row].len() > end).collect();
            open.extend(branches(&paths, further, end, Some(tree.segments.len() - 1)));
        }
        for (row, Row { prompt, sampled }) in rows.iter().enumerate() {
            for (index, token) in sampled.iter().enumerate() {
                let before = (prompt.len() + index).checked_sub(1);
                if let Some(node) = before.map(|at| nodes[row][at]) {
                    tree.targets.push(Target { node, token: *token, row, index });
                }
            }
        }
        tree
    }

    /// The segment that holds a node.
    pub fn segment_of(&self, node: usize) -> usize {
        self.segments.partition_point(|segment| segment.start <= node).saturating_sub(1)
    }

    /// A node and its ancestors, the root first.
    pub fn path(&self, node: usize) -> Vec<usize> {
        let mut pieces = Vec::new();
        let (mut at, mut end) = (self.segment_of(node), node + 1);
        loop {
            let segment = &self.segments[at];
            pieces.push(segment.start..end);
            let Some(parent) = segment.parent else { break };
            at = parent;
            end = self.segments[parent].start + self.segments[parent].len;
        }
        pieces.into_iter().rev().flatten().collect()
    }
}

impl Row {
    /// The ids a forward pass sees: all but the last sampled one.
    fn computed(&self) -> Vec<i32> {
        let sampled = self.sampled.len();
        match sampled.checked_sub(1) {
            Some(last) => [&self.prompt[..], &self.sampled[..last]].concat(),
            None => Vec::new(),
        }
    }
}

/// Rows that agree up to and with the id at `depth`.
struct Branch {
    rows: Vec<usize>,
    depth: usize,
    parent: Option<usize>,
}

/// Part `rows` by their id at `depth`; the branch to be walked first comes last, as from a stack.
fn branches(paths: &[Vec<i32>], rows: Vec<usize>, depth: usize, parent: Option<usize>) -> Vec<Branch> {
    let mut found: Vec<Branch> = Vec::new();
    let mut places: HashMap<i32, usize> = HashMap::new();
    for row in rows {
        let place = *places.entry(paths[row][depth]).or_insert(found.len());
        match found.get_mut(place) {
            Some(branch) => branch.rows.push(row),
            None => found.push(Branch { rows: vec![row], depth, parent }),
        }
    }
    found.reverse();
    found
}

/// The depth up to which all rows of a branch that are long enough agree. Rows that end before break
/// nothing: their last node lies inside the segment.
fn agreement(paths: &[Vec<i32>], branch: &Branch) -> usize {
    (branch.depth + 1..)
        .find(|depth| {
            let mut ids = branch.rows.iter().filter_map(|row| paths[*row].get(*depth));
            let first = ids.next();
            first.is_none() || ids.any(|id| Some(id) != first)
        })
        .unwrap_or(branch.depth)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn row(prompt: &[i32], sampled: &[i32]) -> Row {
        Row { prompt: prompt.to_vec(), sampled: sampled.to_vec() }
    }

    #[test]
    fn a_common_prompt_is_computed_once() {
        let rows = [row(&[1, 2, 3], &[7, 8]), row(&[1, 2, 3], &[7, 9]), row(&[1, 2, 4], &[5])];
        let tree = Tree::build(&rows);
        assert_eq!(tree.tokens, [1, 2, 3, 7, 4]);
        assert_eq!(tree.positions, [0, 1, 2, 3, 2]);
        let segment = |start, len, parent| Segment { start, len, parent };
        assert_eq!(tree.segments, [segment(0, 2, None), segment(2, 2, Some(0)), segment(4, 1, Some(0))]);
        let targets: Vec<_> = tree.targets.iter().map(|t| (t.row, t.index, t.node, t.token)).collect();
        assert_eq!(targets, [(0, 0, 2, 7), (0, 1, 3, 8), (1, 0, 2, 7), (1, 1, 3, 9), (2, 0, 4, 5)]);
        assert_eq!(tree.path(4), [0, 1, 4]);
    }

    #[test]
    fn equal_rows_share_all_nodes_and_keep_their_own_targets() {
        let one = row(&[4, 5], &[6, 7, 8]);
        let tree = Tree::build(&[one.clone(), one.clone(), one]);
        assert_eq!((tree.tokens.len(), tree.segments.len(), tree.targets.len()), (4, 1, 9));
    }

    #[test]
    fn rows_that_predict_nothing() {
        assert_eq!(Tree::build(&[]), Tree::default());
        assert_eq!(Tree::build(&[row(&[1, 2], &[])]), Tree::default());
        let tree = Tree::build(&[row(&[], &[3, 4])]);
        assert_eq!(tree.targets, [Target { node: 0, token: 4, row: 0, index: 1 }]);
    }

    fn rows() -> impl Strategy<Value = Vec<Row>> {
        // Few different ids, so that prefixes do meet.
        let ids = |least| prop::collection::vec(0..3_i32, least..7);
        prop::collection::vec((ids(1), ids(0)).prop_map(|(a, b)| row(&a, &b)), 0..12)
    }

    proptest! {
        #[test]
        fn every_row_reads_back_along_its_path(rows in rows()) {
            let tree = Tree::build(&rows);
            let mut targets = tree.targets.iter();
            for (index, row) in rows.iter().enumerate() {
                for (at, token) in row.sampled.iter().enumerate() {
                    let target = targets.next().unwrap();
                    prop_assert_eq!((target.row, target.index, target.token), (index, at, *token));
                    let ids: Vec<i32> = tree.path(target.node).iter().map(|n| tree.tokens[*n]).collect();
                    prop_assert_eq!(ids, [&row.prompt[..], &row.sampled[..at]].concat());
                }
            }
            prop_assert!(targets.next().is_none());
        }

        #[test]
        fn nodes_are_distinct_prefixes_in_depth_first_order(rows in rows()) {
            let tree = Tree::build(&rows);
            let mut prefixes = std::collections::HashSet::new();
            for row in &rows {
                let ids = row.computed();
                (1..=ids.len()).for_each(|end| { prefixes.insert(ids[..end].to_vec()); });
            }
            prop_assert_eq!(tree.tokens.len(), prefixes.len(), "a prefix is computed twice or never");
            prop_assert_eq!(tree.positions.len(), tree.tokens.len());
            let mut next = 0;
            for (index, segment) in tree.segments.iter().enumerate() {
                prop_assert_eq!(segment.start, next);
                prop_assert!(segment.len > 0 && segment.parent.is_none_or(|parent| parent < index));
                next += segment.len;
            }
            prop_assert_eq!(next, tree.tokens.len());
            for node in 0..tree.tokens.len() {
                prop_assert_eq!(tree.path(node).len(), tree.positions[node] as usize + 1);
            }
        }

        #[test]
        fn doubled_rows_add_targets_only(rows in rows()) {
            let (once, twice) = (Tree::build(&rows), Tree::build(&[rows.clone(), rows].concat()));
            prop_assert_eq!(&once.tokens, &twice.tokens);
            prop_assert_eq!(&once.segments, &twice.segments);
            prop_assert_eq!(2 * once.targets.len(), twice.targets.len());
        }
    }
}
