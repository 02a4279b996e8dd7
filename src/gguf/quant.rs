//! Packs f32 values the way ggml lays them out, F32, F16, BF16, Q8_0 and Q4_0, little-endian, and back.
//!
//! Only what adapters, merged and random models and the trainer's oracle need; all other types are ggml's
//! business. The tests have an unpacker of their own, in f64.

use crate::gguf::TensorType;

/// Append `values` packed as `kind` to `out`. The count must be a multiple of the type's block.
/// Answers false, appending nothing, for a type that is not written here or a count that does not fit.
pub fn pack(kind: TensorType, values: &[f32], out: &mut Vec<u8>) -> bool {
    if !(values.len() as u64).is_multiple_of(kind.block) {
        return false;
    }
    match kind {
        TensorType::F32 => out.extend(values.iter().flat_map(|v| v.to_le_bytes())),
        TensorType::F16 => out.extend(values.iter().flat_map(|v| half(*v).to_le_bytes())),
        TensorType::BF16 => out.extend(values.iter().flat_map(|v| brain(*v).to_le_bytes())),
        TensorType::Q8_0 => values.as_chunks::<32>().0.iter().for_each(|block| q8_0(block, out)),
        TensorType::Q4_0 => values.as_chunks::<32>().0.iter().for_each(|block| q4_0(block, out)),
        _ => return false,
    }
    true
}

/// The values of `bytes`, whole blocks of `kind`; None for a type that is not read here or bytes that do not
/// fit.
pub fn unpack(kind: TensorType, bytes: &[u8]) -> Option<Vec<f32>> {
    let width = usize::try_from(kind.bytes).ok()?;
    if !bytes.len().is_multiple_of(width) {
        return None;
    }
    let blocks = bytes.chunks_exact(width);
    let scale = |block: &[u8]| whole(u16::from_le_bytes([block[0], block[1]]));
    Some(match kind {
        TensorType::F32 => bytes.as_chunks::<4>().0.iter().map(|b| f32::from_le_bytes(*b)).collect(),
        TensorType::F16 => blocks.map(scale).collect(),
        TensorType::BF16 => blocks.map(|b| f32::from_bits(u32::from_le_bytes([0, 0, b[0], b[1]]))).collect(),
        TensorType::Q8_0 => blocks
            .flat_map(|block| block[2..].iter().map(move |b| f32::from(b.cast_signed()) * scale(block)))
            .collect(),
        TensorType::Q4_0 => blocks
            .flat_map(|block| {
                let halves = block[2..].iter().map(|b| b & 15).chain(block[2..].iter().map(|b| b >> 4));
                halves.map(move |level| (f32::from(level) - 8.0) * scale(block))
            })
            .collect(),
        _ => return None,
    })
}

/// 32 signed bytes under one scale: the largest magnitude becomes 127.
fn q8_0(block: &[f32; 32], out: &mut Vec<u8>) {
    let largest = block.iter().fold(0.0_f32, |largest, v| largest.max(v.abs()));
    let scale = largest / 127.0;
    let inverse = if scale == 0.0 { 0.0 } else { 1.0 / scale };
    let mut bytes = [0_u8; 34];
    bytes[..2].copy_from_slice(&half(scale).to_le_bytes());
    for (byte, value) in bytes[2..].iter_mut().zip(block) {
        *byte = ((value * inverse).round() as i8).cast_unsigned();
    }
    out.extend_from_slice(&bytes);
}

/// 32 values of four bits under one scale: the value of largest magnitude becomes -8. A byte holds value
/// j in its low and value j + 16 in its high half.
fn q4_0(block: &[f32; 32], out: &mut Vec<u8>) {
    let extreme = block.iter().fold(0.0_f32, |extreme, v| if v.abs() > extreme.abs() { *v } else { extreme });
    let scale = extreme / -8.0;
    let inverse = if scale == 0.0 { 0.0 } else { 1.0 / scale };
    let level = |value: f32| ((value * inverse + 8.5) as u8).min(15);
    let mut bytes = [0_u8; 18];
    bytes[..2].copy_from_slice(&half(scale).to_le_bytes());
    for j in 0..16 {
        bytes[2 + j] = level(block[j]) | (level(block[j + 16]) << 4);
    }
    out.extend_from_slice(&bytes);
}

/// The bits of the nearest IEEE half-precision number, ties to even.
pub fn half(value: f32) -> u16 {
    let bits = value.to_bits();
    let sign = ((bits >> 16) & 0x8000) as u16;
    let magnitude = bits & 0x7fff_ffff;
    if magnitude > 0x7f80_0000 {
        return sign | 0x7e00; // not a number
    }
    if magnitude >= 0x477f_f000 {
        return sign | 0x7c00; // rounds past the largest half
    }
    if magnitude < 0x3880_0000 {
        // Subnormal: multiples of 2^-24. Adding 0.5 lines the bits up and rounds in one step.
        let lined_up = f32::from_bits(magnitude) + 0.5;
        return sign | (lined_up.to_bits() - 0.5_f32.to_bits()) as u16;
    }
    let odd = (magnitude >> 13) & 1;
    let rebased = magnitude - 0x3800_0000 + 0xfff + odd;
    sign | (rebased >> 13) as u16
}

/// The bits of the nearest bfloat16, ties to even.
fn brain(value: f32) -> u16 {
    let bits = value.to_bits();
    if value.is_nan() {
        return (bits >> 16) as u16 | 0x40;
    }
    ((bits + 0x7fff + ((bits >> 16) & 1)) >> 16) as u16
}

/// The number an IEEE half-precision's bits stand for; exact.
fn whole(bits: u16) -> f32 {
    let (sign, magnitude) = (u32::from(bits & 0x8000) << 16, u32::from(bits & 0x7fff));
    match magnitude {
        0x7c00.. => f32::from_bits(sign | 0x7f80_0000 | (magnitude & 0x3ff) << 13),
        0x400.. => f32::from_bits(sign | ((magnitude << 13) + 0x3800_0000)),
        // Subnormal: multiples of 2^-24.
        _ => f32::from_bits(sign | (magnitude as f32 / 16_777_216.0).to_bits()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Reads a half back, by its definition.
    fn exact(bits: u16) -> f64 {
        let sign = if bits & 0x8000 == 0 { 1.0 } else { -1.0 };
        let fraction = f64::from(bits & 0x3ff);
        match (bits >> 10) & 0x1f {
            0 => sign * fraction * 2_f64.powi(-24),
            31 if fraction == 0.0 => sign * f64::INFINITY,
            31 => f64::NAN,
            exponent => sign * (1024.0 + fraction) * 2_f64.powi(i32::from(exponent) - 25),
        }
    }

    #[test]
    fn every_half_survives_and_midpoints_go_to_even() {
        for bits in 0..=u16::MAX {
            let value = exact(bits);
            if value.is_nan() {
                assert_eq!(half(value as f32) & 0x7fff, 0x7e00);
                continue;
            }
            assert_eq!(half(value as f32), bits, "{value}");
            let next = exact(bits.wrapping_add(1));
            if bits & 0x7fff < 0x7bff {
                let even = if bits % 2 == 0 { bits } else { bits + 1 };
                assert_eq!(half(((value + next) / 2.0) as f32), even, "{value}");
            }
        }
        assert_eq!(half(65_519.9), 0x7bff);
        assert_eq!(half(65_520.0), 0x7c00);
    }

    #[test]
    fn halves_and_brains_read_back() {
        for bits in 0..=u16::MAX {
            let (found, expected) = (super::whole(bits), exact(bits));
            assert!(f64::from(found) == expected || (found.is_nan() && expected.is_nan()), "{bits:04x}");
            let brains = unpack(TensorType::BF16, &bits.to_le_bytes()).unwrap();
            assert!(brains[0].is_nan() || brain(brains[0]) == bits, "{bits:04x}");
        }
        // Half way between 1 and the next bfloat16, 1 + 2^-7: to the even one; just above: up.
        assert_eq!(brain(1.0 + 0.003_906_25), 0x3f80);
        assert_eq!(brain(1.0 + 0.003_907), 0x3f81);
        assert_eq!(brain(f32::MAX), 0x7f80);
    }

    fn unpacked(kind: TensorType, values: &[f32]) -> Vec<f64> {
        let mut bytes = Vec::new();
        assert!(pack(kind, values, &mut bytes));
        assert_eq!(bytes.len() as u64, values.len() as u64 / kind.block * kind.bytes);
        let back = unpack(kind, &bytes).unwrap();
        let own = unpacked_here(kind, &bytes);
        assert!(back.iter().zip(&own).all(|(a, b)| (f64::from(*a) - b).abs() <= b.abs() * 1e-7));
        own
    }

    fn unpacked_here(kind: TensorType, bytes: &[u8]) -> Vec<f64> {
        bytes
            .chunks(kind.bytes as usize)
            .flat_map(|block| {
                let scale = exact(u16::from_le_bytes([block[0], block[1]]));
                let levels: Vec<f64> = if kind == TensorType::Q8_0 {
                    block[2..].iter().map(|b| f64::from(b.cast_signed())).collect()
                } else {
                    let low = block[2..].iter().map(|b| f64::from(b & 15) - 8.0);
                    low.chain(block[2..].iter().map(|b| f64::from(b >> 4) - 8.0)).collect()
                };
                levels.into_iter().map(move |level| level * scale)
            })
            .collect()
    }

    #[test]
    fn packed_values_are_within_half_a_step() {
        let values: Vec<f32> = (0..64).map(|i| ((i * 37 % 64) as f32 - 30.0) * 0.013).collect();
        let largest = values.iter().fold(0.0_f32, |m, v| m.max(v.abs()));
        for (kind, steps) in [(TensorType::Q8_0, 127.0), (TensorType::Q4_0, 8.0)] {
            let step = f64::from(largest) / steps;
            for (value, back) in values.iter().zip(unpacked(kind, &values)) {
                // Q4_0's range is -8..=7: the far end on the other side is off by up to one step.
                let bound = if kind == TensorType::Q4_0 { 1.001 } else { 0.52 };
                assert!((f64::from(*value) - back).abs() <= bound * step, "{} {value} {back}", kind.name);
            }
        }
        assert_eq!(unpacked(TensorType::Q8_0, &[0.0; 32]), vec![0.0; 32]);
        assert_eq!(unpacked(TensorType::Q4_0, &[0.0; 32]), vec![0.0; 32]);
    }

    #[test]
    fn what_cannot_be_packed_is_refused() {
        let mut out = Vec::new();
        assert!(!pack(TensorType::Q8_0, &[0.0; 31], &mut out));
        assert!(!pack(TensorType::from_id(12).unwrap(), &[0.0; 256], &mut out));
        assert!(out.is_empty());
        assert_eq!(unpack(TensorType::Q8_0, &[0; 33]), None);
        assert_eq!(unpack(TensorType::from_id(12).unwrap(), &[0; 144]), None);
    }
}
