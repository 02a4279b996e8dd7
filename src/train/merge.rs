//! A model with its adapter inside, for programs that take none: W + (alpha / r) B A, packed again.
//!
//! Matrices without a pair, vectors and all metadata are copied as they are. Works row by row, so a model
//! larger than memory can be merged. Packing F16 or Q8_0 rounds: it is another model than base + adapter,
//! near it, and not one to train on.

use std::fs::File;
use std::io::{BufReader, BufWriter, Read, Seek, SeekFrom, Write};
use std::path::Path;

use crate::gguf::types::file_type_id;
use crate::gguf::write::Plan;
use crate::gguf::{Header, TensorInfo, TensorType, Value, check};
use crate::train::adapter_file::AdapterError;
use crate::train::lora::{Lora, Pair};

/// Bytes copied at a time.
const PIECE: usize = 1 << 20;

/// Unpacks whole rows of a type; None for types it does not know.
pub type Unpack<'a> = &'a dyn Fn(TensorType, &[u8]) -> Option<Vec<f32>>;

/// Write base + adapter to `out`, changed matrices as `kind` (F32, F16, BF16 or Q8_0; F16 where rows are no
/// multiple of 32). The file appears whole or not at all.
///
/// # Errors
/// [`AdapterError`]: pairs that are not this base's, types `unpack` does not know, a full disk.
pub fn merge(
    base: &Path,
    lora: &Lora,
    out: &Path,
    kind: TensorType,
    unpack: Unpack,
) -> Result<(), AdapterError> {
    let refused = |reason: String| AdapterError::Refused { path: out.to_path_buf(), reason };
    let header = check(base)?;
    lora.check()?;
    for pair in &lora.pairs {
        let found = header.tensor(&pair.tensor).map(|tensor| tensor.dims.as_slice());
        if found != Some(&[pair.n_in as u64, pair.n_out as u64]) {
            let own = format!("[{}, {}]", pair.n_in, pair.n_out);
            return Err(refused(format!("{} is {own} in the adapter, {found:?} in the base", pair.tensor)));
        }
    }
    if ![TensorType::F32, TensorType::F16, TensorType::BF16, TensorType::Q8_0].contains(&kind) {
        return Err(refused(format!("{} is not written; F32, F16, BF16 and Q8_0 are", kind.name)));
    }
    let plan = plan(&header, lora, kind);
    let mut source = File::open(base).map_err(|source| AdapterError::Io {
        path: base.to_path_buf(),
        verb: "opened",
        source,
    })?;
    let mut unknown = None;
    let attempt = || -> std::io::Result<()> {
        let folder = out.parent().filter(|folder| !folder.as_os_str().is_empty());
        let mut file = tempfile::NamedTempFile::new_in(folder.unwrap_or(Path::new(".")))?;
        let mut writer = plan.start(BufWriter::with_capacity(PIECE, file.as_file_mut()))?;
        for tensor in &header.tensors {
            source.seek(SeekFrom::Start(header.data_offset + tensor.offset))?;
            let mut bytes = BufReader::with_capacity(PIECE, (&source).take(tensor.bytes));
            match lora.pairs.iter().find(|pair| pair.tensor == tensor.name) {
                None => writer.packed(&mut bytes)?,
                Some(pair) => {
                    let mut row = vec![0; (tensor.bytes / tensor.dims[1]) as usize];
                    for index in 0..pair.n_out {
                        bytes.read_exact(&mut row)?;
                        let Some(mut values) = unpack(tensor.kind, &row) else {
                            unknown = Some(format!("{} is {}", tensor.name, tensor.kind.name));
                            return Err(std::io::ErrorKind::Unsupported.into());
                        };
                        add(&mut values, pair, lora, index);
                        writer.values(&values)?;
                    }
                }
            }
        }
        writer.finish()?.flush()?;
        file.as_file().sync_all()?;
        file.persist(out).map_err(|error| error.error)?;
        Ok(())
    };
    let done = attempt();
    match unknown {
        Some(tensor) => Err(refused(format!(
            "{tensor}, which ggml does not unpack; merge an F16 or Q8_0 file of the same model"
        ))),
        None => done.map_err(|source| AdapterError::Io { path: out.to_path_buf(), verb: "written", source }),
    }
}

/// Row `index` of W, plus (alpha / r) times that row of B A; sums in f64.
fn add(values: &mut [f32], pair: &Pair, lora: &Lora, index: usize) {
    let b = &pair.b[index * lora.rank..][..lora.rank];
    let scale = f64::from(lora.scale());
    for (column, value) in values.iter_mut().enumerate() {
        let products =
            b.iter().enumerate().map(|(j, b)| f64::from(*b) * f64::from(pair.a[j * pair.n_in + column]));
        *value = (f64::from(*value) + scale * products.sum::<f64>()) as f32;
    }
}

fn plan(header: &Header, lora: &Lora, kind: TensorType) -> Plan {
    let mut plan = Plan::default();
    for entry in header.metadata.iter() {
        let value = match entry.key.as_str() {
            // Data is laid out anew.
            "general.alignment" => continue,
            "general.file_type" => Value::U32(file_type_id(kind)),
            "general.name" => Value::String(format!("{} merged", header.name())),
            _ => entry.value.clone(),
        };
        plan.set(entry.key.as_str(), value);
    }
    for tensor in &header.tensors {
        let changed = lora.pairs.iter().any(|pair| pair.tensor == tensor.name);
        plan.tensor(
            tensor.name.as_str(),
            &tensor.dims,
            if changed { packing(tensor, kind) } else { tensor.kind },
        );
    }
    plan
}

fn packing(tensor: &TensorInfo, kind: TensorType) -> TensorType {
    if tensor.dims[0].is_multiple_of(kind.block) { kind } else { TensorType::F16 }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::gguf::quant;
    use crate::gguf::toy::ToyModel;
    use crate::train::adapter_file::bytes_of;
    use crate::train::lora::sites;

    #[test]
    fn changed_matrices_are_summed_and_the_rest_is_copied() {
        let dir = tempfile::tempdir().unwrap();
        let (base, out) = (dir.path().join("base.gguf"), dir.path().join("out.gguf"));
        ToyModel { kind: TensorType::Q4_0, ..ToyModel::default() }.write(&base).unwrap();
        let header = check(&base).unwrap();
        let mut lora = Lora::init(&sites(&header)[..3], 2, 8.0, 1).unwrap();
        lora.pairs.iter_mut().for_each(|pair| pair.b.fill(0.25));
        merge(&base, &lora, &out, TensorType::F32, &quant::unpack).unwrap();
        let merged = check(&out).unwrap();
        assert_eq!(merged.name(), "random toy merged");
        assert_eq!(merged.tokens(), header.tokens());
        let read = |path: &Path, header: &Header, name: &str| {
            let tensor = header.tensor(name).unwrap();
            let bytes = bytes_of(&mut File::open(path).unwrap(), path, header.data_offset, tensor).unwrap();
            (tensor.kind, bytes)
        };
        for tensor in &header.tensors {
            let (old, new) = (read(&base, &header, &tensor.name), read(&out, &merged, &tensor.name));
            let Some(pair) = lora.pairs.iter().find(|pair| pair.tensor == tensor.name) else {
                assert_eq!(old, new, "{}", tensor.name);
                continue;
            };
            let values = |(kind, bytes): &(TensorType, Vec<u8>)| quant::unpack(*kind, bytes).unwrap();
            let (old, new) = (values(&old), values(&new));
            for (at, (old, new)) in old.iter().zip(&new).enumerate() {
                let column = at % pair.n_in;
                let delta = 4.0 * 0.25 * (pair.a[column] + pair.a[pair.n_in + column]);
                assert!((new - old - delta).abs() < 1e-6);
            }
        }
    }

    #[test]
    fn what_cannot_be_merged_leaves_no_file() {
        let dir = tempfile::tempdir().unwrap();
        let (base, out) = (dir.path().join("base.gguf"), dir.path().join("out.gguf"));
        ToyModel::default().write(&base).unwrap();
        let header = check(&base).unwrap();
        let lora = Lora::init(&sites(&header), 2, 8.0, 1).unwrap();
        let refused = |lora: &Lora, kind, unpack: Unpack| {
            let error = merge(&base, lora, &out, kind, unpack).unwrap_err().to_string();
            assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1, "a file was left behind");
            error
        };
        assert!(refused(&lora, TensorType::Q4_0, &quant::unpack).contains("Q4_0 is not written"));
        assert!(refused(&lora, TensorType::F16, &|_, _| None).contains("does not unpack; merge an F16"));
        let mut other = lora.clone();
        other.pairs[0].tensor = "blk.9.attn_q.weight".into();
        assert!(refused(&other, TensorType::F16, &quant::unpack).contains("None in the base"));
        other.pairs[0].a[0] = f32::NAN;
        assert!(refused(&other, TensorType::F16, &quant::unpack).contains("NaN"));
    }
}
