//! The vocabulary of the GGUF format: metadata values and tensor types with their block sizes.
//!
//! Plain data and tables; reading is in `read`, judging in `check`, writing in `write`.

/// Most dimensions of a tensor.
pub const MAX_DIMS: usize = 4;
/// Bytes a data section is aligned to where the file names no other alignment.
pub const DEFAULT_ALIGNMENT: u32 = 32;

/// How the numbers of a tensor are packed: `bytes` per block of `block` values.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TensorType {
    pub id: u32,
    pub name: &'static str,
    pub block: u64,
    pub bytes: u64,
}

const fn tensor_type(id: u32, name: &'static str, block: u64, bytes: u64) -> TensorType {
    TensorType { id, name, block, bytes }
}

/// Every type llama.cpp still reads.
const TENSOR_TYPES: [TensorType; 35] = [
    TensorType::F32,
    TensorType::F16,
    TensorType::Q4_0,
    tensor_type(3, "Q4_1", 32, 20),
    tensor_type(6, "Q5_0", 32, 22),
    tensor_type(7, "Q5_1", 32, 24),
    TensorType::Q8_0,
    tensor_type(9, "Q8_1", 32, 36),
    tensor_type(10, "Q2_K", 256, 84),
    tensor_type(11, "Q3_K", 256, 110),
    tensor_type(12, "Q4_K", 256, 144),
    tensor_type(13, "Q5_K", 256, 176),
    tensor_type(14, "Q6_K", 256, 210),
    tensor_type(15, "Q8_K", 256, 292),
    tensor_type(16, "IQ2_XXS", 256, 66),
    tensor_type(17, "IQ2_XS", 256, 74),
    tensor_type(18, "IQ3_XXS", 256, 98),
    tensor_type(19, "IQ1_S", 256, 50),
    tensor_type(20, "IQ4_NL", 32, 18),
    tensor_type(21, "IQ3_S", 256, 110),
    tensor_type(22, "IQ2_S", 256, 82),
    tensor_type(23, "IQ4_XS", 256, 136),
    tensor_type(24, "I8", 1, 1),
    tensor_type(25, "I16", 1, 2),
    tensor_type(26, "I32", 1, 4),
    tensor_type(27, "I64", 1, 8),
    tensor_type(28, "F64", 1, 8),
    tensor_type(29, "IQ1_M", 256, 56),
    TensorType::BF16,
    tensor_type(34, "TQ1_0", 256, 54),
    tensor_type(35, "TQ2_0", 256, 66),
    tensor_type(39, "MXFP4", 32, 17),
    tensor_type(40, "NVFP4", 64, 36),
    tensor_type(41, "Q1_0", 128, 18),
    tensor_type(42, "Q2_0", 64, 18),
];

impl TensorType {
    pub const F32: TensorType = tensor_type(0, "F32", 1, 4);
    pub const F16: TensorType = tensor_type(1, "F16", 1, 2);
    pub const Q4_0: TensorType = tensor_type(2, "Q4_0", 32, 18);
    pub const Q8_0: TensorType = tensor_type(8, "Q8_0", 32, 34);
    pub const BF16: TensorType = tensor_type(30, "BF16", 1, 2);

    pub fn from_id(id: u32) -> Option<TensorType> {
        TENSOR_TYPES.iter().copied().find(|kind| kind.id == id)
    }

    /// Can stand on the left of a matrix product; the others are work formats, and computing with them
    /// aborts the process.
    pub fn holds_weights(self) -> bool {
        !matches!(self.name, "Q8_1" | "Q8_K" | "I8" | "I16" | "I32" | "I64" | "F64")
    }
}

/// What the whole file is called after its most common type (`general.file_type`).
pub fn file_type_name(id: u64) -> Option<&'static str> {
    Some(match id {
        0 => "F32",
        1 => "F16",
        2 => "Q4_0",
        3 => "Q4_1",
        7 => "Q8_0",
        8 => "Q5_0",
        9 => "Q5_1",
        10 => "Q2_K",
        11 => "Q3_K_S",
        12 => "Q3_K_M",
        13 => "Q3_K_L",
        14 => "Q4_K_S",
        15 => "Q4_K_M",
        16 => "Q5_K_S",
        17 => "Q5_K_M",
        18 => "Q6_K",
        19 => "IQ2_XXS",
        20 => "IQ2_XS",
        21 => "Q2_K_S",
        22 => "IQ3_XS",
        23 => "IQ3_XXS",
        24 => "IQ1_S",
        25 => "IQ4_NL",
        26 => "IQ3_S",
        27 => "IQ3_M",
        28 => "IQ2_S",
        29 => "IQ2_M",
        30 => "IQ4_XS",
        31 => "IQ1_M",
        32 => "BF16",
        36 => "TQ1_0",
        37 => "TQ2_0",
        38 => "MXFP4",
        39 => "NVFP4",
        40 => "Q1_0",
        41 => "Q2_0",
        _ => return None,
    })
}

/// `general.file_type` of a file whose matrices are mostly of a type written here.
pub fn file_type_id(kind: TensorType) -> u32 {
    match kind {
        TensorType::F16 => 1,
        TensorType::Q4_0 => 2,
        TensorType::Q8_0 => 7,
        TensorType::BF16 => 32,
        _ => 0,
    }
}

/// A metadata value, of the type it has in the file.
#[derive(Clone, Debug, PartialEq)]
pub enum Value {
    U8(u8),
    I8(i8),
    U16(u16),
    I16(i16),
    U32(u32),
    I32(i32),
    F32(f32),
    Bool(bool),
    String(String),
    Array(Array),
    U64(u64),
    I64(i64),
    F64(f64),
}

impl Value {
    pub fn type_id(&self) -> u32 {
        match self {
            Value::U8(_) => 0,
            Value::I8(_) => 1,
            Value::U16(_) => 2,
            Value::I16(_) => 3,
            Value::U32(_) => 4,
            Value::I32(_) => 5,
            Value::F32(_) => 6,
            Value::Bool(_) => 7,
            Value::String(_) => 8,
            Value::Array(_) => 9,
            Value::U64(_) => 10,
            Value::I64(_) => 11,
            Value::F64(_) => 12,
        }
    }

    pub fn type_name(&self) -> &'static str {
        type_name(self.type_id())
    }

    /// The value as a count, if it is an integer that is not negative.
    pub fn as_u64(&self) -> Option<u64> {
        match self {
            Value::U8(v) => Some((*v).into()),
            Value::U16(v) => Some((*v).into()),
            Value::U32(v) => Some((*v).into()),
            Value::U64(v) => Some(*v),
            Value::I8(v) => u64::try_from(*v).ok(),
            Value::I16(v) => u64::try_from(*v).ok(),
            Value::I32(v) => u64::try_from(*v).ok(),
            Value::I64(v) => u64::try_from(*v).ok(),
            _ => None,
        }
    }

    pub fn as_str(&self) -> Option<&str> {
        if let Value::String(text) = self { Some(text) } else { None }
    }
}

/// Name of a metadata type in messages.
pub fn type_name(id: u32) -> &'static str {
    const NAMES: [&str; 13] =
        ["u8", "i8", "u16", "i16", "u32", "i32", "f32", "bool", "string", "array", "u64", "i64", "f64"];
    NAMES.get(id as usize).copied().unwrap_or("unknown")
}

/// Bytes of one number of this metadata type; None for strings, arrays and unknown types.
pub fn number_bytes(id: u32) -> Option<usize> {
    match id {
        0 | 1 | 7 => Some(1),
        2 | 3 => Some(2),
        4..=6 => Some(4),
        10..=12 => Some(8),
        _ => None,
    }
}

/// An array of metadata; arrays do not nest.
#[derive(Clone, Debug, PartialEq)]
pub enum Array {
    Strings(Strings),
    /// Numbers as they lie in the file, little-endian.
    Numbers {
        type_id: u32,
        bytes: Vec<u8>,
    },
}

impl Array {
    pub fn u32s(values: impl IntoIterator<Item = u32>) -> Array {
        Array::Numbers { type_id: 4, bytes: values.into_iter().flat_map(u32::to_le_bytes).collect() }
    }

    pub fn i32s(values: impl IntoIterator<Item = i32>) -> Array {
        Array::Numbers { type_id: 5, bytes: values.into_iter().flat_map(i32::to_le_bytes).collect() }
    }

    pub fn f32s(values: impl IntoIterator<Item = f32>) -> Array {
        Array::Numbers { type_id: 6, bytes: values.into_iter().flat_map(f32::to_le_bytes).collect() }
    }

    pub fn type_id(&self) -> u32 {
        match self {
            Array::Strings(_) => 8,
            Array::Numbers { type_id, .. } => *type_id,
        }
    }

    pub fn len(&self) -> usize {
        match self {
            Array::Strings(strings) => strings.len(),
            Array::Numbers { type_id, bytes } => bytes.len() / number_bytes(*type_id).unwrap_or(1),
        }
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The elements of an array of 32-bit integers, signed or not.
    pub fn integers(&self) -> Option<impl Iterator<Item = i64>> {
        match self {
            Array::Numbers { type_id: type_id @ (4 | 5), bytes } => {
                let signed = *type_id == 5;
                Some(bytes.as_chunks::<4>().0.iter().map(move |chunk| {
                    if signed { i32::from_le_bytes(*chunk).into() } else { u32::from_le_bytes(*chunk).into() }
                }))
            }
            _ => None,
        }
    }
}

/// Many strings in one allocation: vocabularies have 150,000 and more.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Strings {
    text: String,
    /// Where each string ends in `text`.
    ends: Vec<u32>,
}

impl Strings {
    /// Append one. All together must stay under 4 GiB; the reader's cap is 256 MiB.
    pub fn push(&mut self, text: &str) {
        self.text.push_str(text);
        self.ends.push(u32::try_from(self.text.len()).expect("string arrays stay under 4 GiB"));
    }

    pub fn len(&self) -> usize {
        self.ends.len()
    }

    pub fn is_empty(&self) -> bool {
        self.ends.is_empty()
    }

    pub fn get(&self, index: usize) -> Option<&str> {
        let end = *self.ends.get(index)? as usize;
        let start = if index == 0 { 0 } else { self.ends[index - 1] as usize };
        Some(&self.text[start..end])
    }

    pub fn iter(&self) -> impl Iterator<Item = &str> {
        (0..self.len()).filter_map(|index| self.get(index))
    }
}

impl<S: AsRef<str>> FromIterator<S> for Strings {
    fn from_iter<I: IntoIterator<Item = S>>(items: I) -> Strings {
        let mut strings = Strings::default();
        items.into_iter().for_each(|item| strings.push(item.as_ref()));
        strings
    }
}
