//! What a layer computed going forward, kept so that going back need not compute it again.

use super::attention::cut;
use super::layout::Layout;
use super::pass::Projected;
use super::spec::Spec;
use crate::train::kernels::words;

/// A layer's intermediate values, all nodes.
#[derive(Default)]
pub struct Stash {
    pub projected: Projected,
    /// [nodes][heads][head], and [nodes][heads]
    pub o: Vec<f32>,
    pub lse: Vec<f32>,
    /// The residual stream after attention, [nodes][hidden].
    pub x1: Vec<f32>,
    /// [nodes][words of feed-forward], in the main kernels' words: the products round what comes of them no finer.
    pub gate: Vec<u32>,
    pub up: Vec<u32>,
}

/// A block's part of a [`Stash`].
pub struct StashPart<'a> {
    pub o: &'a mut [f32],
    pub lse: &'a mut [f32],
    pub x1: &'a mut [f32],
    pub gate: &'a mut [u32],
    pub up: &'a mut [u32],
}

impl Stash {
    pub fn new(spec: &Spec, nodes: usize, per_word: usize) -> Stash {
        let zeros = |width: usize| vec![0.0; nodes * width];
        let empty = || vec![0; nodes * words(per_word, spec.feed_forward)];
        Stash {
            projected: Projected::default(),
            o: zeros(spec.q_width()),
            lse: zeros(spec.heads),
            x1: zeros(spec.hidden),
            gate: empty(),
            up: empty(),
        }
    }

    /// Bytes of one layer's stash.
    pub fn bytes(spec: &Spec, nodes: usize, slots: usize, per_word: usize) -> u64 {
        let raw = if spec.qk_norm { spec.q_width() + spec.kv_width() } else { 0 };
        let wide = 2 * words(per_word, spec.feed_forward);
        let values = 2 * spec.q_width() + spec.heads + spec.hidden + wide + raw;
        let keys_values = 4 * slots * spec.kv_width() / per_word;
        4 * (nodes * values + keys_values) as u64
    }

    pub fn parts(&mut self, spec: &Spec, layout: &Layout, per_word: usize) -> Vec<StashPart<'_>> {
        let wide = words(per_word, spec.feed_forward);
        let sizes = |width: usize| layout.blocks.iter().map(move |block| block.rows.len() * width);
        let mut o = cut(&mut self.o, sizes(spec.q_width())).into_iter();
        let mut lse = cut(&mut self.lse, sizes(spec.heads)).into_iter();
        let mut x1 = cut(&mut self.x1, sizes(spec.hidden)).into_iter();
        let mut gate = cut(&mut self.gate, sizes(wide)).into_iter();
        let mut up = cut(&mut self.up, sizes(wide)).into_iter();
        let next = move || {
            Some(StashPart {
                o: o.next()?,
                lse: lse.next()?,
                x1: x1.next()?,
                gate: gate.next()?,
                up: up.next()?,
            })
        };
        std::iter::from_fn(next).collect()
    }
}
