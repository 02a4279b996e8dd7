//! Packed weights to f32 by ggml's own tables: every type the engine serves means the same numbers here.

use llama_cpp_sys_2 as sys;

use crate::gguf::TensorType;

/// How values of one type are unpacked.
#[derive(Clone, Copy, Debug)]
pub struct Unpack {
    kind: TensorType,
    function: Option<unsafe extern "C" fn(*const std::ffi::c_void, *mut f32, i64)>,
}

/// None for a type that ggml cannot unpack, or that it packs otherwise than our own table says.
pub fn unpack(kind: TensorType) -> Option<Unpack> {
    if kind == TensorType::F32 {
        return Some(Unpack { kind, function: None });
    }
    // SAFETY: ids of known types are below the table's length; the table is static.
    let traits = unsafe { sys::ggml_get_type_traits(kind.id as sys::ggml_type).as_ref()? };
    let same = traits.blck_size as u64 == kind.block && traits.type_size as u64 == kind.bytes;
    Some(Unpack { kind, function: traits.to_float.filter(|_| same)?.into() })
}

/// The numbers of whole blocks; None for a type that ggml cannot unpack or bytes that are no whole blocks.
pub fn values(kind: TensorType, packed: &[u8]) -> Option<Vec<f32>> {
    let blocks = packed.len() / kind.bytes as usize;
    let whole = packed.len().is_multiple_of(kind.bytes as usize);
    let mut values = vec![0.0; blocks * kind.block as usize];
    unpack(kind).filter(|_| whole)?.run(packed, &mut values);
    Some(values)
}

impl Unpack {
    pub fn kind(self) -> TensorType {
        self.kind
    }

    /// Bytes of `values` packed numbers.
    pub fn bytes(self, values: usize) -> usize {
        values / self.kind.block as usize * self.kind.bytes as usize
    }

    /// Unpack whole blocks.
    ///
    /// # Panics
    /// If `packed` holds fewer numbers than `out` wants.
    pub fn run(self, packed: &[u8], out: &mut [f32]) {
        assert!(out.len().is_multiple_of(self.kind.block as usize), "whole blocks");
        assert!(packed.len() >= self.bytes(out.len()), "packed is too short");
        match self.function {
            None => {
                let (numbers, _) = packed.as_chunks::<4>();
                out.iter_mut().zip(numbers).for_each(|(out, bytes)| *out = f32::from_le_bytes(*bytes));
            }
            // SAFETY: both lengths were checked against the type's blocks; ggml reads unaligned blocks.
            Some(function) => unsafe {
                function(packed.as_ptr().cast(), out.as_mut_ptr(), out.len() as i64);
            },
        }
    }
}
