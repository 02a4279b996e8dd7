//! Writes GGUF v3 files: the header first, then tensor data in the order it was announced.
//!
//! Tensors are fed in pieces and packed on the way, so a model larger than memory can be written.
//! Writing goes to any `Write`; making a file appear atomically is the caller's business.

use std::io::{self, Read, Write};

use crate::gguf::quant;
use crate::gguf::types::DEFAULT_ALIGNMENT;
use crate::gguf::{Array, TensorType, Value};

/// What a file will hold.
#[derive(Clone, Debug, Default)]
pub struct Plan {
    metadata: Vec<(String, Value)>,
    tensors: Vec<Planned>,
}

#[derive(Clone, Debug)]
struct Planned {
    name: String,
    dims: Vec<u64>,
    kind: TensorType,
}

impl Planned {
    fn elements(&self) -> u64 {
        self.dims.iter().product()
    }

    fn bytes(&self) -> u64 {
        self.elements() / self.kind.block * self.kind.bytes
    }
}

impl Plan {
    pub fn set(&mut self, key: impl Into<String>, value: Value) {
        self.metadata.push((key.into(), value));
    }

    pub fn text(&mut self, key: impl Into<String>, value: impl Into<String>) {
        self.set(key, Value::String(value.into()));
    }

    pub fn number(&mut self, key: impl Into<String>, value: u32) {
        self.set(key, Value::U32(value));
    }

    /// Announce a tensor, dimensions fastest first. Data follows in the same order.
    pub fn tensor(&mut self, name: impl Into<String>, dims: &[u64], kind: TensorType) {
        self.tensors.push(Planned { name: name.into(), dims: dims.to_vec(), kind });
    }

    /// Bytes of all tensor data, each tensor padded to the alignment.
    pub fn data_bytes(&self) -> u64 {
        self.tensors.iter().map(|t| t.bytes().next_multiple_of(DEFAULT_ALIGNMENT.into())).sum()
    }

    /// The header's bytes, padded to where tensor data starts.
    pub fn header(&self) -> Vec<u8> {
        let mut header = Vec::new();
        header.extend_from_slice(b"GGUF");
        header.extend_from_slice(&3_u32.to_le_bytes());
        header.extend_from_slice(&(self.tensors.len() as u64).to_le_bytes());
        header.extend_from_slice(&(self.metadata.len() as u64).to_le_bytes());
        for (key, value) in &self.metadata {
            put_text(&mut header, key);
            header.extend_from_slice(&value.type_id().to_le_bytes());
            put_value(&mut header, value);
        }
        let mut offset = 0_u64;
        for tensor in &self.tensors {
            put_text(&mut header, &tensor.name);
            header.extend_from_slice(&(tensor.dims.len() as u32).to_le_bytes());
            tensor.dims.iter().for_each(|dim| header.extend_from_slice(&dim.to_le_bytes()));
            header.extend_from_slice(&tensor.kind.id.to_le_bytes());
            header.extend_from_slice(&offset.to_le_bytes());
            offset += tensor.bytes().next_multiple_of(DEFAULT_ALIGNMENT.into());
        }
        header.resize(header.len().next_multiple_of(DEFAULT_ALIGNMENT as usize), 0);
        header
    }

    /// Write the header; answers the writer that takes the tensors' data.
    ///
    /// # Errors
    /// Whatever `out` fails with.
    pub fn start<W: Write>(self, out: W) -> io::Result<Writer<W>> {
        let header = self.header();
        let mut writer = Writer { out, tensors: self.tensors, current: 0, given: 0, packed: Vec::new() };
        writer.out.write_all(&header)?;
        Ok(writer)
    }
}

/// Takes the data of the announced tensors, one after the other.
pub struct Writer<W> {
    out: W,
    tensors: Vec<Planned>,
    current: usize,
    /// Values of the current tensor that were written.
    given: u64,
    packed: Vec<u8>,
}

impl<W: Write> Writer<W> {
    /// The next values of the current tensor (all of it, or a multiple of its block). When the tensor is
    /// full the next one becomes current.
    ///
    /// # Errors
    /// `InvalidInput` for values that do not fit the plan; else whatever the output fails with.
    pub fn values(&mut self, values: &[f32]) -> io::Result<()> {
        let Some(tensor) = self.tensors.get(self.current) else {
            return Err(invalid("more values than tensors were announced"));
        };
        let (total, kind) = (tensor.elements(), tensor.kind);
        if self.given + values.len() as u64 > total {
            return Err(invalid(&format!("tensor {:?} gets more than its {total} values", tensor.name)));
        }
        self.packed.clear();
        if !quant::pack(kind, values, &mut self.packed) {
            let reason = format!("{} values of tensor {:?} as {}", values.len(), tensor.name, kind.name);
            return Err(invalid(&reason));
        }
        self.given += values.len() as u64;
        if self.given == total {
            let padding = tensor.bytes().next_multiple_of(DEFAULT_ALIGNMENT.into()) - tensor.bytes();
            self.packed.resize(self.packed.len() + usize::try_from(padding).unwrap_or(0), 0);
            self.current += 1;
            self.given = 0;
        }
        self.out.write_all(&self.packed)
    }

    /// The whole current tensor from bytes that are packed already.
    ///
    /// # Errors
    /// `InvalidInput` for another number of bytes than the plan's; else whatever in- or output fail with.
    pub fn packed(&mut self, bytes: &mut impl Read) -> io::Result<()> {
        let Some(tensor) = self.tensors.get(self.current).filter(|_| self.given == 0) else {
            return Err(invalid("packed bytes in the middle of a tensor, or after the last"));
        };
        let expected = tensor.bytes();
        let copied = io::copy(bytes, &mut self.out)?;
        if copied != expected {
            let reason = format!("tensor {:?} gets {copied} bytes, it has {expected}", tensor.name);
            return Err(invalid(&reason));
        }
        let padding = expected.next_multiple_of(DEFAULT_ALIGNMENT.into()) - expected;
        self.current += 1;
        io::copy(&mut io::repeat(0).take(padding), &mut self.out)?;
        Ok(())
    }

    /// Flush and give the output back.
    ///
    /// # Errors
    /// `InvalidInput` if a tensor is not complete; else whatever the output fails with.
    pub fn finish(mut self) -> io::Result<W> {
        match self.tensors.get(self.current) {
            Some(tensor) => Err(invalid(&format!("tensor {:?} is not complete", tensor.name))),
            None => {
                self.out.flush()?;
                Ok(self.out)
            }
        }
    }
}

fn put_text(out: &mut Vec<u8>, text: &str) {
    out.extend_from_slice(&(text.len() as u64).to_le_bytes());
    out.extend_from_slice(text.as_bytes());
}

fn put_value(out: &mut Vec<u8>, value: &Value) {
    match value {
        Value::U8(v) => out.push(*v),
        Value::I8(v) => out.extend_from_slice(&v.to_le_bytes()),
        Value::U16(v) => out.extend_from_slice(&v.to_le_bytes()),
        Value::I16(v) => out.extend_from_slice(&v.to_le_bytes()),
        Value::U32(v) => out.extend_from_slice(&v.to_le_bytes()),
        Value::I32(v) => out.extend_from_slice(&v.to_le_bytes()),
        Value::F32(v) => out.extend_from_slice(&v.to_le_bytes()),
        Value::Bool(v) => out.push(u8::from(*v)),
        Value::String(v) => put_text(out, v),
        Value::U64(v) => out.extend_from_slice(&v.to_le_bytes()),
        Value::I64(v) => out.extend_from_slice(&v.to_le_bytes()),
        Value::F64(v) => out.extend_from_slice(&v.to_le_bytes()),
        Value::Array(array) => {
            out.extend_from_slice(&array.type_id().to_le_bytes());
            out.extend_from_slice(&(array.len() as u64).to_le_bytes());
            match array {
                Array::Strings(strings) => strings.iter().for_each(|text| put_text(out, text)),
                Array::Numbers { bytes, .. } => out.extend_from_slice(bytes),
            }
        }
    }
}

fn invalid(reason: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidInput, reason)
}
