//! Adapters as GGUF files any llama.cpp program loads: `<tensor>.lora_a` [n_in, r] and `.lora_b` [r, n_out].
//!
//! Written from a [`Lora`] byte by byte the same for the same numbers, so the blake3 of the bytes names the
//! adapter. Reading checks the file against its base first (`gguf::check_adapter`). Which adapter is the
//! current one, and its manifest, are the store's business.

use std::fs::File;
use std::io::{Read, Seek, SeekFrom, Write};
use std::path::Path;

use crate::error::Error;
use crate::gguf::write::Plan;
use crate::gguf::{GgufError, Header, TensorInfo, TensorType, Value, check_adapter, quant};
use crate::train::lora::{Lora, LoraError, Pair};

/// The key that holds [`fingerprint`] of the base.
const BASE: &str = "tillerman.base";
/// Bytes of each tensor that go into a fingerprint.
const SAMPLED: u64 = 1024;

/// What a file says beside the numbers.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct About {
    /// The base's architecture, e.g. "llama".
    pub architecture: String,
    pub name: String,
    /// [`fingerprint`] of the base; empty: not known.
    pub base: String,
}

#[derive(Debug, thiserror::Error)]
pub enum AdapterError {
    #[error(transparent)]
    Gguf(#[from] GgufError),
    #[error("adapter: {0}")]
    Numbers(#[from] LoraError),
    #[error("adapter {path:?} refused: {reason}")]
    Refused { path: std::path::PathBuf, reason: String },
    #[error("{path:?} cannot be {verb}: {source}; is the disk full or the folder closed?")]
    Io { path: std::path::PathBuf, verb: &'static str, source: std::io::Error },
}

impl From<AdapterError> for Error {
    fn from(error: AdapterError) -> Error {
        match error {
            AdapterError::Gguf(error) => Error::Engine(error.of_adapter()),
            error => Error::Train(error.to_string()),
        }
    }
}

/// The file's bytes. `kind` is F32 while training goes on, F16 halves a published file.
///
/// # Errors
/// [`AdapterError::Numbers`] for a [`Lora`] that is none.
pub fn encode(lora: &Lora, about: &About, kind: TensorType) -> Result<Vec<u8>, AdapterError> {
    lora.check()?;
    let mut plan = Plan::default();
    plan.text("general.architecture", about.architecture.as_str());
    plan.text("general.type", "adapter");
    plan.text("general.name", about.name.as_str());
    plan.text("adapter.type", "lora");
    plan.set("adapter.lora.alpha", Value::F32(lora.alpha));
    if !about.base.is_empty() {
        plan.text(BASE, about.base.as_str());
    }
    let rank = lora.rank as u64;
    for pair in &lora.pairs {
        plan.tensor(format!("{}.lora_a", pair.tensor), &[pair.n_in as u64, rank], kind);
        plan.tensor(format!("{}.lora_b", pair.tensor), &[rank, pair.n_out as u64], kind);
    }
    let fill = || -> std::io::Result<Vec<u8>> {
        let mut writer = plan.start(Vec::new())?;
        for pair in &lora.pairs {
            writer.values(&pair.a)?;
            writer.values(&pair.b)?;
        }
        writer.finish()
    };
    fill().map_err(|source| AdapterError::Io { path: about.name.clone().into(), verb: "packed", source })
}

/// Put `bytes` at `path`, whole or not at all.
///
/// # Errors
/// [`AdapterError::Io`].
pub fn place(path: &Path, bytes: &[u8]) -> Result<(), AdapterError> {
    let attempt = || -> std::io::Result<()> {
        let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
        let mut file = tempfile::NamedTempFile::new_in(folder.unwrap_or(Path::new(".")))?;
        file.write_all(bytes)?;
        file.as_file().sync_all()?;
        file.persist(path).map_err(|error| error.error)?;
        Ok(())
    };
    attempt().map_err(|source| AdapterError::Io { path: path.to_path_buf(), verb: "written", source })
}

/// Read an adapter of `base`. `fingerprint` is the base's; a file that names another one is refused, one that
/// names none (another program's) is taken if its shapes fit.
///
/// # Errors
/// [`AdapterError`]: no adapter, another base's, ranks that differ, numbers that are not finite.
pub fn read(path: &Path, base: &Header, fingerprint: Option<&str>) -> Result<Lora, AdapterError> {
    let refused = |reason: String| AdapterError::Refused { path: path.to_path_buf(), reason };
    let header = check_adapter(path, base)?;
    if let (Some(named), Some(own)) = (header.str(BASE), fingerprint)
        && named != own
    {
        let reason = format!("it was trained on base {named:.12}, this model is {own:.12}");
        return Err(refused(reason));
    }
    let mut file = open(path)?;
    let mut halves = std::collections::HashMap::new();
    for tensor in &header.tensors {
        let bytes = bytes_of(&mut file, path, header.data_offset, tensor)?;
        let values = quant::unpack(tensor.kind, &bytes).ok_or_else(|| {
            let (name, kind) = (&tensor.name, tensor.kind.name);
            refused(format!("{name} is {kind}; F32, F16, BF16, Q8_0 and Q4_0 are read here"))
        })?;
        halves.insert(tensor.name.as_str(), (tensor, values));
    }
    let mut pairs = Vec::new();
    let mut rank = None;
    // In the base's own order of matrices, whatever the file's.
    for site in all_matrices(base) {
        let name = |half| format!("{}.lora_{half}", site.name);
        let (Some((info, a)), Some((_, b))) =
            (halves.remove(name('a').as_str()), halves.remove(name('b').as_str()))
        else {
            continue;
        };
        let [n_in, own] = [info.dims[0], info.dims[1]].map(|dim| dim as usize);
        if *rank.get_or_insert(own) != own {
            return Err(refused(format!(
                "{} has rank {own}, the others another: one rank is read",
                site.name
            )));
        }
        let n_out = b.len() / own.max(1);
        pairs.push(Pair { tensor: site.name.clone(), n_in, n_out, a, b });
    }
    let alpha = header.f32("adapter.lora.alpha").unwrap_or(f32::NAN);
    // llama.cpp reads alpha 0 as "no scaling": B A x times 1, which is alpha = rank.
    let rank = rank.unwrap_or(0);
    let alpha = if alpha == 0.0 { rank as f32 } else { alpha };
    let lora = Lora { rank, alpha, pairs };
    lora.check().map_err(|error| refused(error.to_string()))?;
    Ok(lora)
}

/// Matrices of a model, block by block: what an adapter of ours changes first, others after.
fn all_matrices(base: &Header) -> Vec<&TensorInfo> {
    let sites = crate::train::lora::sites(base);
    let place = |tensor: &&TensorInfo| {
        sites.iter().position(|site| site.tensor == tensor.name).unwrap_or(sites.len())
    };
    let mut matrices: Vec<&TensorInfo> = base.tensors.iter().filter(|t| t.dims.len() == 2).collect();
    matrices.sort_by_key(place);
    matrices
}

fn open(path: &Path) -> Result<File, AdapterError> {
    File::open(path).map_err(|source| AdapterError::Io { path: path.to_path_buf(), verb: "opened", source })
}

/// A tensor's bytes.
pub(super) fn bytes_of(
    file: &mut File,
    path: &Path,
    data_offset: u64,
    tensor: &TensorInfo,
) -> Result<Vec<u8>, AdapterError> {
    let mut bytes = vec![0; usize::try_from(tensor.bytes).unwrap_or(usize::MAX)];
    file.seek(SeekFrom::Start(data_offset + tensor.offset))
        .and_then(|_| file.read_exact(&mut bytes))
        .map_err(|source| AdapterError::Io { path: path.to_path_buf(), verb: "read", source })?;
    Ok(bytes)
}

/// What tells a base model's file from another: the blake3 of its header and of each tensor's first KiB, so
/// that a file of many gigabytes is named in milliseconds.
///
/// # Errors
/// [`AdapterError::Io`].
pub fn fingerprint(path: &Path, base: &Header) -> Result<String, AdapterError> {
    let attempt = || -> std::io::Result<String> {
        let mut file = File::open(path)?;
        let mut hasher = blake3::Hasher::new();
        std::io::copy(&mut (&file).take(base.data_offset), &mut hasher)?;
        for tensor in &base.tensors {
            file.seek(SeekFrom::Start(base.data_offset + tensor.offset))?;
            std::io::copy(&mut (&file).take(tensor.bytes.min(SAMPLED)), &mut hasher)?;
        }
        Ok(hasher.finalize().to_hex().to_string())
    };
    attempt().map_err(|source| AdapterError::Io { path: path.to_path_buf(), verb: "read", source })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::gguf::toy::{ToyModel, toy_adapter};
    use crate::gguf::{check, toy};
    use crate::train::lora::sites;

    struct Files {
        dir: tempfile::TempDir,
        base: std::path::PathBuf,
        header: Header,
    }

    fn files(model: ToyModel) -> Files {
        let dir = tempfile::tempdir().unwrap();
        let base = dir.path().join("base.gguf");
        model.write(&base).unwrap();
        let header = check(&base).unwrap();
        Files { dir, base, header }
    }

    fn about(header: &Header, base: &str) -> About {
        About { architecture: header.architecture.clone(), name: "test".into(), base: base.into() }
    }

    fn random(header: &Header, rank: usize) -> Lora {
        let mut lora = Lora::init(&sites(header), rank, 4.0 * rank as f32, 5).unwrap();
        for pair in &mut lora.pairs {
            let count = pair.b.len();
            pair.b.iter_mut().zip(0..).for_each(|(b, at)| *b = (at as f32 - count as f32 / 2.0) / 3000.0);
        }
        lora
    }

    #[test]
    fn what_is_written_is_read_back_bit_by_bit() {
        let files = files(ToyModel::default());
        let path = files.dir.path().join("adapter.gguf");
        let own = fingerprint(&files.base, &files.header).unwrap();
        for rank in [1, 8, 13] {
            let lora = random(&files.header, rank);
            assert_eq!(lora.pairs.len(), 14);
            let bytes = encode(&lora, &about(&files.header, &own), TensorType::F32).unwrap();
            assert_eq!(bytes, encode(&lora, &about(&files.header, &own), TensorType::F32).unwrap());
            place(&path, &bytes).unwrap();
            assert_eq!(read(&path, &files.header, Some(&own)).unwrap(), lora);
        }
        let lora = random(&files.header, 8);
        place(&path, &encode(&lora, &about(&files.header, ""), TensorType::F16).unwrap()).unwrap();
        let half = read(&path, &files.header, Some(&own)).unwrap();
        for (half, whole) in half.pairs.iter().zip(&lora.pairs) {
            let near = |(h, w): (&f32, &f32)| (h - w).abs() <= w.abs() / 2048.0 + 1e-7;
            assert!(half.b.iter().zip(&whole.b).all(near) && half.a.iter().zip(&whole.a).all(near));
        }
    }

    #[test]
    fn another_programs_file_is_read_in_our_order() {
        let files = files(ToyModel::default());
        let path = files.dir.path().join("other.gguf");
        toy_adapter(&path, &files.base, 4, 0.0, 1, 0.1).unwrap();
        let lora = read(&path, &files.header, Some("anything")).unwrap();
        assert_eq!((lora.rank, lora.scale()), (4, 1.0), "alpha 0 is no scaling");
        assert_eq!(lora.sites(), sites(&files.header));
    }

    #[test]
    fn adapters_of_other_bases_and_broken_ones_are_refused() {
        let files = files(ToyModel::default());
        let path = files.dir.path().join("adapter.gguf");
        let refused = |bytes: Vec<u8>| {
            place(&path, &bytes).unwrap();
            read(&path, &files.header, Some("mine")).unwrap_err().to_string()
        };
        let lora = random(&files.header, 2);
        let encoded = |lora: &Lora, about: &About| encode(lora, about, TensorType::F32).unwrap();
        assert!(refused(encoded(&lora, &about(&files.header, "other"))).contains("trained on base other"));
        let llama = About { architecture: "llama".into(), ..about(&files.header, "mine") };
        assert!(refused(encoded(&lora, &llama)).contains("made for \"llama\""));
        let shape = toy::Shape { hidden: 128, ..toy::SHAPES[0] };
        let wide = self::files(ToyModel { shape, ..ToyModel::default() });
        assert!(
            refused(encoded(&random(&wide.header, 2), &about(&wide.header, "")))
                .contains("made for a matrix")
        );
        let mut bytes = encoded(&lora, &about(&files.header, "mine"));
        let end = bytes.len();
        bytes[end - 36..end - 32].copy_from_slice(&f32::NAN.to_le_bytes());
        assert!(refused(bytes.clone()).contains("NaN"), "{}", refused(bytes));
        assert!(
            refused(encoded(&lora, &about(&files.header, "mine"))[..end - 100].to_vec()).contains("download")
        );
        let mut broken = lora.clone();
        broken.pairs[0].a[0] = f32::NAN;
        assert!(matches!(
            encode(&broken, &about(&files.header, ""), TensorType::F32),
            Err(AdapterError::Numbers(LoraError::Pair { .. }))
        ));
        broken.rank = 0;
        assert!(encode(&broken, &about(&files.header, ""), TensorType::F32).is_err());
        assert!(matches!(place(Path::new("/nowhere/x.gguf"), b""), Err(AdapterError::Io { .. })));
    }

    #[test]
    fn fingerprints_tell_models_of_one_shape_apart() {
        let one = files(ToyModel::default());
        let other = files(ToyModel { seed: 1, ..ToyModel::default() });
        assert_eq!(one.header.tensors, other.header.tensors);
        let print = |files: &Files| fingerprint(&files.base, &files.header).unwrap();
        assert_eq!(print(&one), print(&one));
        assert_ne!(print(&one), print(&other));
    }
}
