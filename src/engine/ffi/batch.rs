//! What one decode call computes: tokens with their positions and sequences. It grows once and is reused.

use llama_cpp_sys_2 as sys;

/// A batch of at most `capacity` tokens.
pub struct Batch {
    tokens: Vec<i32>,
    positions: Vec<i32>,
    sequences: Vec<i32>,
    outputs: Vec<i8>,
    // llama.cpp wants a count and a pointer per token; both are laid out once.
    counts: Vec<i32>,
    pointers: Vec<*mut i32>,
    capacity: usize,
}

// SAFETY: the pointers point into `sequences`, which moves with the batch and never reallocates.
unsafe impl Send for Batch {}

impl Batch {
    pub fn new(capacity: usize) -> Batch {
        let mut sequences = vec![0i32; capacity];
        let base = sequences.as_mut_ptr();
        // SAFETY: each offset is inside the allocation.
        let pointers = (0..capacity).map(|i| unsafe { base.add(i) }).collect();
        Batch {
            tokens: Vec::with_capacity(capacity),
            positions: Vec::with_capacity(capacity),
            sequences,
            outputs: Vec::with_capacity(capacity),
            counts: vec![1; capacity],
            pointers,
            capacity,
        }
    }

    pub fn clear(&mut self) {
        self.tokens.clear();
        self.positions.clear();
        self.outputs.clear();
    }

    pub fn len(&self) -> usize {
        self.tokens.len()
    }

    pub fn is_empty(&self) -> bool {
        self.tokens.is_empty()
    }

    pub fn room(&self) -> usize {
        self.capacity - self.tokens.len()
    }

    /// Add a token; answers its index, by which its logits are read when `output` is set.
    ///
    /// # Panics
    /// When the batch is full: callers ask `room` first.
    pub fn push(&mut self, token: i32, position: usize, sequence: i32, output: bool) -> usize {
        let index = self.tokens.len();
        assert!(index < self.capacity, "batch is full");
        self.tokens.push(token);
        self.positions.push(position as i32);
        self.sequences[index] = sequence;
        self.outputs.push(i8::from(output));
        index
    }

    /// The C view, valid while `self` is borrowed.
    pub(super) fn raw(&mut self) -> sys::llama_batch {
        sys::llama_batch {
            n_tokens: self.tokens.len() as i32,
            token: self.tokens.as_mut_ptr(),
            embd: std::ptr::null_mut(),
            pos: self.positions.as_mut_ptr(),
            n_seq_id: self.counts.as_mut_ptr(),
            seq_id: self.pointers.as_mut_ptr(),
            logits: self.outputs.as_mut_ptr(),
        }
    }
}
