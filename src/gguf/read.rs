//! Takes a GGUF header apart, from the first byte to the last tensor description, under caps.
//!
//! Reads forward only and never more than the file holds: every length is compared with what is left
//! before anything is allocated. Whether the values make sense together is `check`'s business.

use std::collections::HashSet;
use std::io::Read;

use crate::gguf::types::{DEFAULT_ALIGNMENT, MAX_DIMS, number_bytes, type_name};
use crate::gguf::{Array, Entry, Metadata, Refusal, Strings, TensorInfo, TensorType, Value};

pub const MAX_TENSORS: u64 = 65_536;
pub const MAX_KEYS: u64 = 4_096;
/// Bytes up to the end of the tensor descriptions.
pub const MAX_HEADER: u64 = 256 << 20;
const MAX_KEY: u64 = 65_535;
const MAX_STRING: u64 = 1 << 20;
/// Strings inside arrays: tokens and merges.
const MAX_ELEMENT: u64 = 64 << 10;
/// llama.cpp keeps names in 64 bytes with their end mark.
const MAX_NAME: u64 = 63;
/// Array bytes are taken in pieces, so that a lying count allocates nothing.
const PIECE: usize = 1 << 16;

/// What the bytes say, before anyone asked whether it makes sense.
#[derive(Clone, Debug, PartialEq)]
pub struct Parsed {
    pub version: u32,
    pub metadata: Metadata,
    pub tensors: Vec<TensorInfo>,
    pub data_offset: u64,
}

/// Read the header of a file of `size` bytes.
///
/// # Errors
/// A [`Refusal`] for a breach of the format, of a cap, or a read error.
pub fn parse(source: impl Read, size: u64) -> Result<Parsed, Refusal> {
    let mut reader = Reader { source, at: 0, size };
    let version = magic_and_version(&mut reader)?;
    let tensor_count = count(&mut reader, "tensor count", MAX_TENSORS)?;
    let key_count = count(&mut reader, "key count", MAX_KEYS)?;
    let mut metadata = Metadata::default();
    for _ in 0..key_count {
        let entry = entry(&mut reader)?;
        let (key, offset) = (entry.key.clone(), entry.offset);
        if !metadata.insert(entry) {
            return Err(refusal(&format!("key {key:?}"), offset, "it stands twice"));
        }
    }
    let alignment = alignment(&metadata)?;
    let mut tensors = Vec::new();
    let mut names = HashSet::new();
    for _ in 0..tensor_count {
        let tensor = tensor(&mut reader)?;
        if !names.insert(tensor.name.clone()) {
            return Err(refusal(&field_of(&tensor), tensor.described_at, "the name stands twice"));
        }
        tensors.push(tensor);
    }
    let data_offset = reader.at.next_multiple_of(alignment);
    places(&tensors, data_offset, alignment, size)?;
    Ok(Parsed { version, metadata, tensors, data_offset })
}

fn magic_and_version(reader: &mut Reader<impl Read>) -> Result<u32, Refusal> {
    if reader.size < 24 {
        let reason = format!("the file has {} bytes, a header has at least 24", reader.size);
        return Err(refusal("file", 0, &reason));
    }
    let magic = reader.bytes::<4>("magic")?;
    if &magic != b"GGUF" {
        return Err(refusal(
            "magic",
            0,
            &format!("{:?} is not \"GGUF\": give a GGUF file", magic.escape_ascii().to_string()),
        ));
    }
    match reader.u32("version")? {
        version @ (2 | 3) => Ok(version),
        version if version & 0xffff == 0 => {
            Err(refusal("version", 4, "the file is big-endian; convert it on a big-endian machine"))
        }
        version => Err(refusal("version", 4, &format!("{version} is not 2 or 3; convert the model anew"))),
    }
}

fn count(reader: &mut Reader<impl Read>, field: &str, most: u64) -> Result<u64, Refusal> {
    let at = reader.at;
    let count = reader.u64(field)?;
    if count > most {
        Err(refusal(field, at, &format!("{count} is over the limit of {most}")))
    } else {
        Ok(count)
    }
}

fn entry(reader: &mut Reader<impl Read>) -> Result<Entry, Refusal> {
    let offset = reader.at;
    let key = reader.string("key", MAX_KEY)?;
    if key.is_empty() {
        return Err(refusal("key", offset, "it is empty"));
    }
    let field = format!("key {key:?}");
    let type_id = reader.u32(&field)?;
    let value = value(reader, &field, type_id)?;
    Ok(Entry { key, value, offset })
}

fn value(reader: &mut Reader<impl Read>, field: &str, type_id: u32) -> Result<Value, Refusal> {
    let at = reader.at;
    Ok(match type_id {
        0 => Value::U8(reader.bytes::<1>(field)?[0]),
        1 => Value::I8(i8::from_le_bytes(reader.bytes(field)?)),
        2 => Value::U16(u16::from_le_bytes(reader.bytes(field)?)),
        3 => Value::I16(i16::from_le_bytes(reader.bytes(field)?)),
        4 => Value::U32(reader.u32(field)?),
        5 => Value::I32(i32::from_le_bytes(reader.bytes(field)?)),
        6 => Value::F32(f32::from_le_bytes(reader.bytes(field)?)),
        7 => match reader.bytes::<1>(field)?[0] {
            byte @ (0 | 1) => Value::Bool(byte == 1),
            byte => return Err(refusal(field, at, &format!("a bool of {byte}"))),
        },
        8 => Value::String(reader.string(field, MAX_STRING)?),
        9 => Value::Array(array(reader, field)?),
        10 => Value::U64(reader.u64(field)?),
        11 => Value::I64(i64::from_le_bytes(reader.bytes(field)?)),
        12 => Value::F64(f64::from_le_bytes(reader.bytes(field)?)),
        _ => return Err(refusal(field, at, &format!("type {type_id} is unknown"))),
    })
}

fn array(reader: &mut Reader<impl Read>, field: &str) -> Result<Array, Refusal> {
    let at = reader.at;
    let type_id = reader.u32(field)?;
    let count = reader.u64(field)?;
    let least = match (type_id, number_bytes(type_id)) {
        (_, Some(bytes)) => bytes as u64,
        (8, None) => 8,
        _ => return Err(refusal(field, at, &format!("an array of {}", type_name(type_id)))),
    };
    let total = u128::from(count) * u128::from(least);
    if total > u128::from(reader.left()) {
        let reason = format!("{count} elements need {total} bytes, {} are left", reader.left());
        return Err(refusal(field, at, &reason));
    }
    if type_id != 8 {
        return Ok(Array::Numbers { type_id, bytes: reader.pieces(field, count * least)? });
    }
    let mut strings = Strings::default();
    for _ in 0..count {
        strings.push(&reader.string(field, MAX_ELEMENT)?);
    }
    Ok(Array::Strings(strings))
}

fn alignment(metadata: &Metadata) -> Result<u64, Refusal> {
    match metadata.entry("general.alignment") {
        None => Ok(DEFAULT_ALIGNMENT.into()),
        Some(Entry { value: Value::U32(value), .. })
            if value.is_power_of_two() && (8..=4096).contains(value) =>
        {
            Ok((*value).into())
        }
        Some(entry) => {
            let reason = "must be a u32, a power of two from 8 to 4096";
            Err(refusal("key \"general.alignment\"", entry.offset, reason))
        }
    }
}

fn tensor(reader: &mut Reader<impl Read>) -> Result<TensorInfo, Refusal> {
    let described_at = reader.at;
    let name = reader.string("tensor name", MAX_NAME)?;
    if name.is_empty() || name.contains('\0') {
        return Err(refusal("tensor name", described_at, "it is empty or holds a zero byte"));
    }
    let field = format!("tensor {name:?}");
    let at = reader.at;
    let dim_count = reader.u32(&field)? as usize;
    if !(1..=MAX_DIMS).contains(&dim_count) {
        return Err(refusal(&field, at, &format!("{dim_count} dimensions, 1 to {MAX_DIMS} are possible")));
    }
    let at = reader.at;
    let mut dims = Vec::with_capacity(dim_count);
    for _ in 0..dim_count {
        dims.push(reader.u64(&field)?);
    }
    let type_at = reader.at;
    let type_id = reader.u32(&field)?;
    let kind = TensorType::from_id(type_id)
        .ok_or_else(|| refusal(&field, type_at, &format!("type {type_id} is unknown")))?;
    let bytes = tensor_bytes(&dims, kind).map_err(|reason| refusal(&field, at, &reason))?;
    let offset = reader.u64(&field)?;
    Ok(TensorInfo { name, dims, kind, offset, bytes, described_at })
}

/// Bytes of a tensor of these dimensions.
fn tensor_bytes(dims: &[u64], kind: TensorType) -> Result<u64, String> {
    if dims.contains(&0) {
        return Err(format!("dimensions {dims:?} hold a zero"));
    }
    if !dims[0].is_multiple_of(kind.block) {
        return Err(format!("{} values per row are no multiple of {}'s {}", dims[0], kind.name, kind.block));
    }
    dims.iter()
        .try_fold(1_u128, |product, dim| product.checked_mul((*dim).into()))
        .and_then(|elements| (elements / u128::from(kind.block)).checked_mul(kind.bytes.into()))
        .and_then(|bytes| u64::try_from(bytes).ok())
        .filter(|bytes| i64::try_from(*bytes).is_ok())
        .ok_or_else(|| format!("dimensions {dims:?} overflow"))
}

/// Tensor data must lie one after the other, padded to the alignment, inside the file: llama.cpp takes
/// nothing else, and so no two overlap.
fn places(tensors: &[TensorInfo], data_offset: u64, alignment: u64, size: u64) -> Result<(), Refusal> {
    let mut expected = 0_u128;
    for tensor in tensors {
        let field = field_of(tensor);
        if u128::from(tensor.offset) != expected {
            let reason = format!("its data is at {}, {expected} was expected", tensor.offset);
            return Err(refusal(&field, tensor.described_at, &reason));
        }
        let end = u128::from(data_offset) + expected + u128::from(tensor.bytes);
        if end > u128::from(size) {
            let reason =
                format!("its data ends at byte {end}, the file has {size}; is the download complete?");
            return Err(refusal(&field, tensor.described_at, &reason));
        }
        expected += u128::from(tensor.bytes).next_multiple_of(alignment.into());
    }
    Ok(())
}

fn field_of(tensor: &TensorInfo) -> String {
    format!("tensor {:?}", tensor.name)
}

pub(super) fn refusal(field: &str, offset: u64, reason: &str) -> Refusal {
    // Names come from the file: a megabyte of key does not belong into a message.
    let field = if field.chars().count() > 120 {
        field.chars().take(117).chain("...".chars()).collect()
    } else {
        field.to_string()
    };
    Refusal { field, offset, reason: reason.to_string() }
}

/// A forward reader that knows where it is and what is left.
struct Reader<R> {
    source: R,
    at: u64,
    size: u64,
}

impl<R: Read> Reader<R> {
    fn left(&self) -> u64 {
        self.size.min(MAX_HEADER).saturating_sub(self.at)
    }

    fn fill(&mut self, field: &str, buffer: &mut [u8]) -> Result<(), Refusal> {
        let wanted = buffer.len() as u64;
        if wanted > self.left() {
            let reason = if self.size > MAX_HEADER {
                format!("the header is over the limit of {MAX_HEADER} bytes")
            } else {
                format!("the file ends here ({} of {wanted} bytes are left)", self.left())
            };
            return Err(refusal(field, self.at, &reason));
        }
        self.source
            .read_exact(buffer)
            .map_err(|e| refusal(field, self.at, &format!("reading failed: {e}")))?;
        self.at += wanted;
        Ok(())
    }

    fn bytes<const N: usize>(&mut self, field: &str) -> Result<[u8; N], Refusal> {
        let mut buffer = [0; N];
        self.fill(field, &mut buffer)?;
        Ok(buffer)
    }

    fn u32(&mut self, field: &str) -> Result<u32, Refusal> {
        self.bytes(field).map(u32::from_le_bytes)
    }

    fn u64(&mut self, field: &str) -> Result<u64, Refusal> {
        self.bytes(field).map(u64::from_le_bytes)
    }

    fn string(&mut self, field: &str, most: u64) -> Result<String, Refusal> {
        let at = self.at;
        let length = self.u64(field)?;
        if length > most.min(self.left()) {
            let reason = format!("a text of {length} bytes ({} are left, {most} is the limit)", self.left());
            return Err(refusal(field, at, &reason));
        }
        // Safe to allocate: at most `most` bytes, and the file holds them.
        let mut bytes = vec![0; usize::try_from(length).unwrap_or(usize::MAX)];
        self.fill(field, &mut bytes)?;
        String::from_utf8(bytes).map_err(|_| refusal(field, at, "the text is not UTF-8"))
    }

    fn pieces(&mut self, field: &str, total: u64) -> Result<Vec<u8>, Refusal> {
        let mut bytes = Vec::new();
        let mut left = total;
        while left > 0 {
            let piece = left.min(PIECE as u64);
            let start = bytes.len();
            bytes.resize(start + usize::try_from(piece).unwrap_or(PIECE), 0);
            self.fill(field, &mut bytes[start..])?;
            left -= piece;
        }
        Ok(bytes)
    }
}
