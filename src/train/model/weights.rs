//! The frozen weights: where they stand in the mapped file, and the panels they are packed into.
//!
//! A layer is unpacked when its turn comes and forgotten after, unless the whole model is small: then its
//! panels stay for the next pass over the same weights.

use std::fs::File;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use super::TrainError;
use super::spec::{LINEARS, Spec};
use crate::error::EngineError;
use crate::gguf::{Header, TensorType, check_open};
use crate::train::kernels::{GROUP, Mapped, Pool, Unpack, panels_of_columns, panels_of_rows, unpack, words};

/// A matrix in the file, [n_out][n_in].
pub struct Matrix {
    pub name: String,
    pub n_in: usize,
    pub n_out: usize,
    start: usize,
    row_bytes: usize,
    unpack: Unpack,
}

/// A block's matrices, biases and norms.
pub struct LayerWeights {
    pub linears: Vec<Matrix>,
    pub biases: Vec<Option<Vec<f32>>>,
    pub attn_norm: Vec<f32>,
    pub ffn_norm: Vec<f32>,
    /// Per head, of queries and keys (qwen3).
    pub qk_norms: Option<(Vec<f32>, Vec<f32>)>,
}

pub struct Weights {
    file: Mapped,
    pub layers: Vec<LayerWeights>,
    pub embedding: Matrix,
    /// The embedding again where the head is tied to it.
    pub head: Matrix,
    pub output_norm: Vec<f32>,
    pub rope_factors: Option<Vec<f32>>,
}

/// Which of a matrix's two packings are wanted: for W x, and for W^T dy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sides {
    pub forward: bool,
    pub backward: bool,
}

/// A matrix ready for products: [group of 16 outputs][words of inputs][16], and
/// [group of 16 inputs][words of outputs][16].
#[derive(Default)]
pub struct Panels {
    pub forward: Vec<u32>,
    pub backward: Vec<u32>,
}

impl Matrix {
    /// How its numbers are packed.
    pub fn kind(&self) -> TensorType {
        self.unpack.kind()
    }

    /// Bytes in the file.
    pub fn bytes(&self) -> usize {
        self.row_bytes * self.n_out
    }
}

impl Weights {
    /// # Errors
    /// [`TrainError::Model`] if the file is refused or cannot be mapped, [`TrainError::Unsupported`].
    pub fn open(path: &Path) -> Result<(Spec, Header, Weights), TrainError> {
        let refused = |reason: String| EngineError::ModelRefused { path: path.to_path_buf(), reason };
        let file = File::open(path).map_err(|error| match error.kind() {
            std::io::ErrorKind::NotFound => EngineError::ModelMissing { path: path.to_path_buf() },
            _ => refused(error.to_string()),
        })?;
        let header = check_open(&file, path).map_err(EngineError::from)?;
        let spec = Spec::read(&header, path)?;
        let file = Mapped::open(&file).map_err(|error| refused(error.to_string()))?;
        let reader = Reader { header: &header, file: &file, path };
        let layers = (0..spec.blocks).map(|block| reader.layer(&spec, block)).collect::<Result<_, _>>()?;
        let embedding = reader.matrix("token_embd.weight", spec.hidden, spec.vocabulary)?;
        let head =
            if header.tensor("output.weight").is_some() { "output.weight" } else { "token_embd.weight" };
        let head = reader.matrix(head, spec.hidden, spec.vocabulary)?;
        let output_norm = reader.needed("output_norm.weight", spec.hidden)?;
        let factors = ["rope_freqs.weight", "blk.0.rope_freqs.weight"];
        let rope_factors = factors
            .iter()
            .find_map(|name| reader.vector(name, spec.head / 2).transpose())
            .transpose()?
            .filter(|_| header.architecture == "llama");
        let weights = Weights { layers, embedding, head, output_norm, rope_factors, file };
        Ok((spec, header, weights))
    }

    /// Rows `first..first + count` of a matrix as f32.
    pub fn rows(&self, matrix: &Matrix, first: usize, out: &mut [f32]) {
        for (row, out) in out.chunks_exact_mut(matrix.n_in).enumerate() {
            let start = matrix.start + (first + row) * matrix.row_bytes;
            matrix.unpack.run(&self.file.bytes()[start..start + matrix.row_bytes], out);
        }
    }

    /// Rows `first..first + count` of a matrix as they lie in the file.
    pub fn packed(&self, matrix: &Matrix, (first, count): (usize, usize)) -> &[u8] {
        &self.file.bytes()[matrix.start + first * matrix.row_bytes..][..count * matrix.row_bytes]
    }

    /// Any tensor's values, for tests.
    #[cfg(test)]
    pub fn tensor(&self, header: &Header, name: &str) -> Vec<f32> {
        let info = header.tensor(name).unwrap();
        let start = (header.data_offset + info.offset) as usize;
        let mut values = vec![0.0; info.elements() as usize];
        unpack(info.kind).unwrap().run(&self.file.bytes()[start..], &mut values);
        values
    }

    /// Pack rows `first..first + count` of a matrix as a matrix of their own.
    pub fn pack(
        &self,
        matrix: &Matrix,
        (first, count): (usize, usize),
        per_word: usize,
        sides: Sides,
        (pool, panels): (&Pool, &mut Panels),
    ) {
        let n_in = matrix.n_in;
        let steps = words(per_word, n_in);
        let groups = count.div_ceil(GROUP);
        let sized = |wanted: bool, size: usize| if wanted { size } else { 0 };
        panels.forward.resize(sized(sides.forward, groups * steps * GROUP), 0);
        let back_steps = words(per_word, count);
        panels.backward.resize(sized(sides.backward, n_in.div_ceil(GROUP) * back_steps * GROUP), 0);
        let mut forward = panels.forward.chunks_mut((steps * GROUP).max(1));
        // Each task owns 16 rows: one forward panel, and a stripe of every backward panel.
        let stripe = GROUP / per_word * GROUP;
        let mut stripes: Vec<Vec<&mut [u32]>> = (0..groups).map(|_| Vec::new()).collect();
        if sides.backward {
            for panel in panels.backward.chunks_mut(back_steps * GROUP) {
                panel.chunks_mut(stripe).zip(&mut stripes).for_each(|(part, of_group)| of_group.push(part));
            }
        }
        let items: Vec<_> = stripes.into_iter().map(|stripe| (forward.next(), stripe)).collect();
        let mut scratch: Vec<Vec<f32>> = vec![Vec::new(); pool.threads()];
        pool.each(&mut scratch, items, |rows, group, (forward, stripe)| {
            let own = (count - group * GROUP).min(GROUP);
            rows.resize(GROUP * n_in, 0.0);
            self.rows(matrix, first + group * GROUP, &mut rows[..own * n_in]);
            if let Some(panel) = forward {
                panels_of_rows(per_word, rows, own, n_in, n_in, panel);
            }
            for (column, part) in stripe.into_iter().enumerate() {
                let from = &rows[column * GROUP..];
                panels_of_columns(per_word, from, (own, n_in), part);
            }
        });
    }
}

struct Reader<'a> {
    header: &'a Header,
    file: &'a Mapped,
    path: &'a Path,
}

impl Reader<'_> {
    fn refuse<T>(&self, reason: String) -> Result<T, TrainError> {
        Err(EngineError::ModelRefused { path: self.path.to_path_buf(), reason }.into())
    }

    fn matrix(&self, name: &str, n_in: usize, n_out: usize) -> Result<Matrix, TrainError> {
        let Some(info) = self.header.tensor(name).filter(|info| info.dims == [n_in as u64, n_out as u64])
        else {
            return self.refuse(format!("tensor {name:?} is not [{n_in}, {n_out}]"));
        };
        let Some(unpack) = unpack(info.kind) else {
            return self.refuse(format!("tensor {name:?} is {}, which ggml does not unpack", info.kind.name));
        };
        let start = (self.header.data_offset + info.offset) as usize;
        let row_bytes = unpack.bytes(n_in);
        if start + row_bytes * n_out > self.file.bytes().len() {
            return self.refuse(format!("tensor {name:?} reaches past the end of the file"));
        }
        Ok(Matrix { name: name.to_string(), n_in, n_out, start, row_bytes, unpack })
    }

    /// A vector, which the pre-check holds to be F32.
    fn vector(&self, name: &str, len: usize) -> Result<Option<Vec<f32>>, TrainError> {
        let Some(info) = self.header.tensor(name) else { return Ok(None) };
        let start = (self.header.data_offset + info.offset) as usize;
        let bytes = self.file.bytes().get(start..start + 4 * len);
        let (Some(bytes), [dim]) = (bytes, info.dims.as_slice()) else {
            return self.refuse(format!("tensor {name:?} is no vector of {len}"));
        };
        if *dim != len as u64 {
            return self.refuse(format!("tensor {name:?} has {dim} values, not {len}"));
        }
        Ok(Some(bytes.as_chunks::<4>().0.iter().map(|bytes| f32::from_le_bytes(*bytes)).collect()))
    }

    fn needed(&self, name: &str, len: usize) -> Result<Vec<f32>, TrainError> {
        match self.vector(name, len)? {
            Some(vector) => Ok(vector),
            None => self.refuse(format!("tensor {name:?} is missing")),
        }
    }

    fn layer(&self, spec: &Spec, block: usize) -> Result<LayerWeights, TrainError> {
        let name = |part: &str| format!("blk.{block}.{part}");
        let (mut linears, mut biases) = (Vec::new(), Vec::new());
        for (which, part) in LINEARS.iter().enumerate() {
            let (n_in, n_out) = spec.linear(which);
            linears.push(self.matrix(&name(&format!("{part}.weight")), n_in, n_out)?);
            biases.push(self.vector(&name(&format!("{part}.bias")), n_out)?);
        }
        let norm = |part: &str, len: usize| self.needed(&name(&format!("{part}.weight")), len);
        let qk_norms = if spec.qk_norm {
            Some((norm("attn_q_norm", spec.head)?, norm("attn_k_norm", spec.head)?))
        } else {
            None
        };
        Ok(LayerWeights {
            linears,
            biases,
            attn_norm: norm("attn_norm", spec.hidden)?,
            ffn_norm: norm("ffn_norm", spec.hidden)?,
            qk_norms,
        })
    }
}

/// Panels of a layer's seven linears.
pub type LayerPanels = Vec<Panels>;

/// Panels of layers, kept if all of them fit.
pub struct PanelCache {
    kept: Option<Vec<Mutex<Option<Arc<LayerPanels>>>>>,
}

impl PanelCache {
    pub fn new(layers: usize, keep: bool) -> PanelCache {
        PanelCache { kept: keep.then(|| (0..layers).map(|_| Mutex::new(None)).collect()) }
    }

    /// The layer's panels, packed now or before. What is kept is packed for both sides at once.
    pub fn layer(
        &self,
        weights: &Weights,
        layer: usize,
        per_word: usize,
        sides: Sides,
        pool: &Pool,
    ) -> Arc<LayerPanels> {
        let pack = |sides: Sides| {
            let pack = |matrix: &Matrix| {
                let mut panels = Panels::default();
                weights.pack(matrix, (0, matrix.n_out), per_word, sides, (pool, &mut panels));
                panels
            };
            Arc::new(weights.layers[layer].linears.iter().map(pack).collect::<LayerPanels>())
        };
        let Some(kept) = &self.kept else { return pack(sides) };
        let mut slot = kept[layer].lock().unwrap_or_else(PoisonError::into_inner);
        slot.get_or_insert_with(|| pack(Sides { forward: true, backward: true })).clone()
    }
}
