//! The safetensors container: a JSON table of contents, then raw little-endian numbers.
//!
//! Reads F32, F16 and BF16 into f32 and writes F32; everything a file claims is checked against its size.
//! Format: https://github.com/huggingface/safetensors. What the names mean is `peft`'s business.

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};

use crate::gguf::{TensorType, quant};

/// A named tensor in f32, shape slowest first.
#[derive(Clone, Debug, PartialEq)]
pub struct Tensor {
    pub shape: Vec<usize>,
    pub values: Vec<f32>,
}

/// The bytes of a file with these tensors, in the order of their names.
pub fn write(tensors: &BTreeMap<String, Tensor>) -> Vec<u8> {
    let mut contents = Map::new();
    // Readers of the Python world refuse a file that does not name its origin.
    contents.insert("__metadata__".to_string(), json!({ "format": "pt" }));
    let mut end = 0;
    for (name, tensor) in tensors {
        let start = end;
        end += tensor.values.len() * 4;
        let entry = json!({ "dtype": "F32", "shape": tensor.shape, "data_offsets": [start, end] });
        contents.insert(name.clone(), entry);
    }
    let mut header = Value::Object(contents).to_string().into_bytes();
    header.resize(header.len().next_multiple_of(8), b' ');
    let mut bytes = (header.len() as u64).to_le_bytes().to_vec();
    bytes.extend(header);
    bytes.extend(tensors.values().flat_map(|tensor| tensor.values.iter().flat_map(|v| v.to_le_bytes())));
    bytes
}

/// The tensors of a file.
///
/// # Errors
/// What is wrong with the bytes.
pub fn read(bytes: &[u8]) -> Result<BTreeMap<String, Tensor>, String> {
    let (length, rest) = bytes.split_first_chunk::<8>().ok_or("it is too short")?;
    let length = usize::try_from(u64::from_le_bytes(*length)).unwrap_or(usize::MAX);
    let (header, data) = rest
        .split_at_checked(length)
        .ok_or_else(|| format!("its header of {length} bytes is longer than the file"))?;
    let header: Map<String, Value> =
        serde_json::from_slice(header).map_err(|error| format!("its header is no JSON object: {error}"))?;
    let tensors = header.iter().filter(|(name, _)| *name != "__metadata__");
    // Tensors that share bytes would let a small file grow without end in memory.
    let mut left = data.len();
    tensors
        .map(|(name, entry)| {
            let tensor =
                tensor(entry, data, &mut left).map_err(|reason| format!("tensor {name:?}: {reason}"))?;
            Ok((name.clone(), tensor))
        })
        .collect()
}

fn tensor(entry: &Value, data: &[u8], left: &mut usize) -> Result<Tensor, String> {
    let numbers = |key: &str| -> Result<Vec<usize>, String> {
        let list = entry[key].as_array().ok_or_else(|| format!("{key} is no list"))?;
        let number = |value: &Value| value.as_u64().and_then(|n| usize::try_from(n).ok());
        list.iter().map(number).collect::<Option<_>>().ok_or_else(|| format!("{key} holds no numbers"))
    };
    let kind = match entry["dtype"].as_str() {
        Some("F32") => TensorType::F32,
        Some("F16") => TensorType::F16,
        Some("BF16") => TensorType::BF16,
        other => return Err(format!("type {} is not read; save it as F32", other.unwrap_or("none"))),
    };
    let shape = numbers("shape")?;
    let [start, end] = numbers("data_offsets")?[..] else {
        return Err("data_offsets are not two".to_string());
    };
    let bytes = data.get(start..end).ok_or("its data lies outside the file; is the download complete?")?;
    *left = left
        .checked_sub(bytes.len())
        .ok_or("it shares data with others: together they are longer than the file; write it again")?;
    let values = quant::unpack(kind, bytes).unwrap_or_default();
    let expected = shape.iter().try_fold(1_usize, |product, dim| product.checked_mul(*dim));
    if expected != Some(values.len()) {
        return Err(format!("shape {shape:?} does not fit its {} bytes", bytes.len()));
    }
    Ok(Tensor { shape, values })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample() -> BTreeMap<String, Tensor> {
        let tensor = |shape: &[usize], values: &[f32]| Tensor { shape: shape.into(), values: values.into() };
        BTreeMap::from([
            ("b".to_string(), tensor(&[3], &[0.5, f32::MIN_POSITIVE, -7.25])),
            ("a".to_string(), tensor(&[2, 1], &[1.0, -2.0])),
        ])
    }

    #[test]
    fn what_is_written_is_read_back() {
        let bytes = write(&sample());
        assert_eq!(read(&bytes).unwrap(), sample());
        let length = u64::from_le_bytes(*bytes.first_chunk().unwrap()) as usize;
        assert_eq!((length % 8, bytes.len()), (0, 8 + length + 20));
    }

    fn file(header: &str, data: &[u8]) -> Vec<u8> {
        [&(header.len() as u64).to_le_bytes()[..], header.as_bytes(), data].concat()
    }

    #[test]
    fn halves_are_read() {
        let header = r#"{"h":{"dtype":"F16","shape":[2],"data_offsets":[0,4]},
            "b":{"dtype":"BF16","shape":[1],"data_offsets":[4,6]}}"#;
        let tensors = read(&file(header, &[0x00, 0x3c, 0x00, 0xc1, 0xc0, 0x3f])).unwrap();
        assert_eq!((&tensors["h"].values, &tensors["b"].values), (&vec![1.0, -2.5], &vec![1.5]));
    }

    #[test]
    fn bytes_that_are_none_are_refused() {
        let good = write(&sample());
        for end in [0, 7, 8, 40, good.len() - 1] {
            assert!(read(&good[..end]).is_err(), "{end} bytes");
        }
        let refused = |entry: &str| read(&file(&format!(r#"{{"x":{entry}}}"#), &[0; 8])).unwrap_err();
        assert!(refused(r#"{"dtype":"I8","shape":[8],"data_offsets":[0,8]}"#).contains("type I8"));
        assert!(refused(r#"{"dtype":"F32","shape":[3],"data_offsets":[0,8]}"#).contains("does not fit"));
        assert!(refused(r#"{"dtype":"F32","shape":[2],"data_offsets":[4,12]}"#).contains("outside"));
        assert!(refused(r#"{"dtype":"F32","shape":[2],"data_offsets":[8,0]}"#).contains("outside"));
        assert!(
            refused(r#"{"dtype":"F32","shape":[4294967296,4294967296,4294967296],"data_offsets":[0,8]}"#)
                .contains("does not fit")
        );
        let twice = r#"{"x":{"dtype":"F32","shape":[2],"data_offsets":[0,8]},
            "y":{"dtype":"F32","shape":[1],"data_offsets":[4,8]}}"#;
        assert!(read(&file(twice, &[0; 8])).unwrap_err().contains("shares data"));
        assert!(read(&file("[]", &[])).is_err());
        assert!(read(&u64::MAX.to_le_bytes()).is_err());
    }
}
