//! What a pass over a tree keeps on the device: buffers, masks, positions; and how its graphs are computed.

use std::rc::Rc;

use super::fault;
use super::ffi::{Backends, Graph, Kind, Store, Tensor};
use super::weights::Adapter;
use crate::train::error::TrainError;
use crate::train::lora::Lora;
use crate::train::model::spec::Spec;
use crate::train::tree::Tree;

/// Bytes that one run's attention scores may take.
const SCORES: usize = 64 << 20;
/// Most nodes of a run.
const RUN: usize = 512;
/// Runs begin at multiples of it, so that what they read begins at multiples of 256 bytes, the most a device asks
/// for: ggml's Vulkan takes positions from the wrong place otherwise, and says nothing.
pub const RUN_LEAST: usize = 64;

/// Places in the buffers; inputs and masks follow.
const POSITIONS: usize = 0;
const FACTORS: usize = 1;
const QUERIES: usize = 2;
const KEYS: usize = 3;
const VALUES_TURNED: usize = 4;
const FORWARD: usize = 5;
const VALUES: usize = 5;
const KEYS_TURNED: usize = 6;
const D_QUERIES: usize = 7;
const D_KEYS: usize = 8;
const D_VALUES: usize = 9;
const D_OUTPUT: usize = 10;
const BOTH: usize = 11;

/// Half-precision 0 and minus infinity.
const SEEN: u16 = 0;
const UNSEEN: u16 = 0xfc00;

pub struct Pass<'a> {
    pub spec: &'a Spec,
    pub backends: &'a Rc<Backends>,
    pub adapter: Option<Adapter>,
    buffers: Store,
    nodes: usize,
    run: usize,
    inputs: usize,
    backward: bool,
    factors: bool,
}

/// Buffers of a backward; q, k, v and their gradients are [head, nodes, heads].
pub struct Back<'a> {
    pub v: Tensor<'a>,
    /// [nodes, head, kv heads]
    pub k_turned: Tensor<'a>,
    pub dq: Tensor<'a>,
    pub dk: Tensor<'a>,
    pub dv: Tensor<'a>,
}

/// Nodes that go through a layer together.
pub fn run_of(spec: &Spec, nodes: usize) -> usize {
    aligned(SCORES / (4 * nodes.max(1) * spec.heads))
}

fn aligned(run: usize) -> usize {
    run.clamp(RUN_LEAST, RUN) / RUN_LEAST * RUN_LEAST
}

/// Bytes of a pass's buffers and of its largest graph, from above.
pub fn bytes(spec: &Spec, nodes: usize, rank: usize) -> u64 {
    let run = run_of(spec, nodes).min(nodes.max(1));
    let masks = nodes * (nodes + run);
    let buffers = 4 * nodes * (spec.hidden * (spec.blocks + 2) + 2 * spec.q_width() + 6 * spec.kv_width());
    let scores = 6 * 4 * nodes * run * spec.heads;
    let rows = 4 * run * (10 * spec.feed_forward + 12 * spec.hidden + 6 * spec.q_width());
    let sums = 8 * rank * (0..7).map(|w| spec.linear(w).0 + spec.linear(w).1).sum::<usize>();
    let pairs = 3 * sums * spec.blocks;
    (masks + buffers + scores + rows + sums + pairs) as u64
}

impl<'a> Pass<'a> {
    /// Buffers for a tree, which fits the model, and an adapter, which does too.
    pub fn new(
        (spec, backends): (&'a Spec, &'a Rc<Backends>),
        (tree, lora): (&Tree, Option<&Lora>),
        factors: Option<&[f32]>,
        (backward, run): (bool, Option<usize>),
    ) -> Result<Pass<'a>, TrainError> {
        let nodes = tree.tokens.len();
        let run = run.map_or_else(|| run_of(spec, nodes), aligned);
        let inputs = if backward { spec.blocks + 1 } else { 2 };
        let f32 = |dims: &[usize]| (Kind::F32, dims.to_vec());
        let (q, kv) = ([spec.head, nodes, spec.heads], [spec.head, nodes, spec.heads_kv]);
        let kv_turned = [nodes, spec.head, spec.heads_kv];
        let mut shapes =
            vec![(Kind::I32, vec![nodes]), f32(&[spec.head / 2]), f32(&q), f32(&kv), f32(&kv_turned)];
        if backward {
            let d_output = [spec.hidden, nodes];
            shapes.extend([f32(&kv), f32(&kv_turned), f32(&q), f32(&kv), f32(&kv), f32(&d_output)]);
        }
        shapes.extend((0..inputs).map(|_| f32(&[spec.hidden, nodes])));
        let runs = || (0..nodes).step_by(run).map(|first| (first, run.min(nodes - first)));
        shapes.extend(runs().map(|(first, count)| (Kind::F16, vec![first + count, count])));
        let buffers = Store::new(backends, &shapes).map_err(|why| fault(backends, why))?;
        let adapter = lora.map(|lora| Adapter::new(backends, spec, lora, backward)).transpose()?;
        let known = factors.is_some();
        let pass = Pass { spec, backends, adapter, buffers, nodes, run, inputs, backward, factors: known };
        pass.buffers.get(POSITIONS).set_ids(&tree.positions);
        if let Some(factors) = factors {
            pass.buffers.get(FACTORS).set(factors);
        }
        runs().for_each(|run| pass.mask(run).write(0, &mask(tree, run)));
        Ok(pass)
    }

    /// First node and number of nodes of each run.
    pub fn runs(&self) -> impl Iterator<Item = (usize, usize)> + use<> {
        let (nodes, run) = (self.nodes, self.run);
        (0..nodes).step_by(run).map(move |first| (first, run.min(nodes - first)))
    }

    pub fn positions(&self) -> Tensor<'_> {
        self.buffers.get(POSITIONS)
    }

    pub fn factors(&self) -> Option<Tensor<'_>> {
        self.factors.then(|| self.buffers.get(FACTORS))
    }

    pub fn q(&self) -> Tensor<'_> {
        self.buffers.get(QUERIES)
    }

    pub fn k(&self) -> Tensor<'_> {
        self.buffers.get(KEYS)
    }

    pub fn v_turned(&self) -> Tensor<'_> {
        self.buffers.get(VALUES_TURNED)
    }

    pub fn v(&self) -> Option<Tensor<'_>> {
        self.backward.then(|| self.buffers.get(VALUES))
    }

    pub fn k_turned(&self) -> Option<Tensor<'_>> {
        self.backward.then(|| self.buffers.get(KEYS_TURNED))
    }

    pub fn back(&self) -> Option<Back<'_>> {
        let at = |place| self.buffers.get(place);
        self.backward.then(|| Back {
            v: at(VALUES),
            k_turned: at(KEYS_TURNED),
            dq: at(D_QUERIES),
            dk: at(D_KEYS),
            dv: at(D_VALUES),
        })
    }

    /// dL/d(the stream), [hidden, nodes]; there with a backward.
    pub fn d(&self) -> Tensor<'_> {
        self.buffers.get(D_OUTPUT)
    }

    fn first(&self) -> usize {
        if self.backward { BOTH } else { FORWARD }
    }

    /// The input of a block, [hidden, nodes]: each has its own where a backward follows, else two take turns.
    pub fn input(&self, block: usize) -> Tensor<'_> {
        self.buffers.get(self.first() + block % self.inputs)
    }

    /// 0 where a query of the run sees a key, else minus infinity.
    pub fn mask(&self, run: (usize, usize)) -> Tensor<'_> {
        self.buffers.get(self.first() + self.inputs + run.0 / self.run)
    }

    pub fn graph(&self) -> Result<Graph, TrainError> {
        Graph::new().map_err(|why| fault(self.backends, why))
    }

    pub fn compute(&self, graph: &Graph, outputs: &[Tensor]) -> Result<Vec<Vec<f32>>, TrainError> {
        self.backends.run(graph, outputs).map_err(|why| fault(self.backends, why))
    }
}

/// [queries of the run][keys up to its end] in half precision.
fn mask(tree: &Tree, (first, count): (usize, usize)) -> Vec<u8> {
    let keys = first + count;
    let mut mask = vec![UNSEEN; keys * count];
    for (node, row) in (first..keys).zip(mask.chunks_exact_mut(keys)) {
        tree.path(node).into_iter().for_each(|key| row[key] = SEEN);
    }
    mask.into_iter().flat_map(u16::to_le_bytes).collect()
}
