//! One context: KV memory over a model, decode, logits, the adapter in force. It samples nothing.

use std::ffi::c_void;
use std::ptr::NonNull;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use llama_cpp_sys_2 as sys;

use super::adapter::Adapter;
use super::batch::Batch;
use super::log::last_log_error;
use super::model::Model;

/// What a context is made with. Counts are tokens.
#[derive(Clone, Copy, Debug)]
pub struct ContextOptions {
    /// KV cells, shared by all sequences.
    pub cells: usize,
    /// Most tokens in one decode.
    pub batch: usize,
    /// Most sequence ids.
    pub sequences: usize,
    /// Most tokens in one decode that ask for logits.
    pub outputs: usize,
    pub threads: usize,
    /// Let llama.cpp use flash attention where it can. On the CPU its kernels for one token and for many
    /// round differently (log-probabilities off by 3e-4 in F32, 3e-2 in Q8_0), so there it stays off and
    /// what was sampled is what a full forward says.
    pub flash: bool,
}

/// Why a decode did not happen. The KV is as it was before, except after `Failed`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DecodeError {
    /// No room in the KV for this batch.
    NoRoom,
    /// The abort flag was raised.
    Aborted,
    /// llama.cpp's own code.
    Failed(i32),
}

/// Compute threads that sleep between decodes, shared by the contexts of one owner thread.
pub struct Threads {
    raw: NonNull<sys::ggml_threadpool>,
}

// SAFETY: used by one owner thread; the pool's own threads synchronise inside ggml.
unsafe impl Send for Threads {}
unsafe impl Sync for Threads {}

impl Threads {
    /// `count` threads, the calling one included. None when the platform refuses.
    pub fn new(count: usize) -> Option<Threads> {
        // SAFETY: the parameter struct is plain data that ggml copies.
        let raw = unsafe {
            let mut params = sys::ggml_threadpool_params_default(count as i32);
            sys::ggml_threadpool_new(&mut params)
        };
        NonNull::new(raw).map(|raw| Threads { raw })
    }
}

impl Drop for Threads {
    fn drop(&mut self) {
        // SAFETY: contexts hold an Arc, so nothing computes on it any more.
        unsafe { sys::ggml_threadpool_free(self.raw.as_ptr()) };
    }
}

/// What llama.cpp looks at between graph nodes: whether to stop, and that it got there.
#[derive(Debug, Default)]
pub struct Watch {
    /// Stop the decode under way.
    pub abort: AtomicBool,
    /// Counts looks: as long as it moves, nothing hangs.
    pub looks: AtomicU64,
}

pub struct Context {
    raw: NonNull<sys::llama_context>,
    // Dropped after `raw` is freed in `Drop`.
    adapter: Option<Adapter>,
    model: Arc<Model>,
    _threads: Option<Arc<Threads>>,
    _watch: Arc<Watch>,
    vocabulary: usize,
}

// SAFETY: a context may move between threads; it is never shared.
unsafe impl Send for Context {}

impl Context {
    /// # Errors
    /// What llama.cpp logged, most often that memory ran out.
    pub fn new(
        model: Arc<Model>,
        options: ContextOptions,
        threads: Option<Arc<Threads>>,
        watch: Arc<Watch>,
    ) -> Result<Context, String> {
        // SAFETY: parameters are plain data; the watch lives in an Arc the context keeps.
        let raw = unsafe {
            let mut params = sys::llama_context_default_params();
            params.n_ctx = options.cells as u32;
            params.n_batch = options.batch as u32;
            params.n_ubatch = options.batch as u32;
            params.n_seq_max = options.sequences as u32;
            params.n_outputs_max = options.outputs as u32;
            params.n_threads = options.threads as i32;
            params.n_threads_batch = options.threads as i32;
            // One pool of cells: on the CPU eight sequences decode a fifth faster in it than in streams of
            // their own, and a common prefix costs nothing.
            params.kv_unified = true;
            params.no_perf = true;
            if !options.flash {
                params.flash_attn_type = sys::LLAMA_FLASH_ATTN_TYPE_DISABLED;
            }
            params.abort_callback = Some(on_abort_check);
            params.abort_callback_data = Arc::as_ptr(&watch).cast_mut().cast();
            sys::llama_init_from_model(model.raw.as_ptr(), params)
        };
        let raw = NonNull::new(raw)
            .ok_or_else(|| last_log_error().unwrap_or_else(|| "the context could not be made".to_owned()))?;
        if let Some(threads) = &threads {
            // SAFETY: both are live and the context keeps the pool alive.
            unsafe {
                sys::llama_attach_threadpool(raw.as_ptr(), threads.raw.as_ptr(), threads.raw.as_ptr());
            }
        }
        let vocabulary = model.vocabulary();
        Ok(Context { raw, adapter: None, model, _threads: threads, _watch: watch, vocabulary })
    }

    pub fn model(&self) -> &Arc<Model> {
        &self.model
    }

    /// KV cells, after llama.cpp's rounding.
    pub fn cells(&self) -> usize {
        // SAFETY: the context is live, as in every call below.
        unsafe { sys::llama_n_ctx(self.raw.as_ptr()) as usize }
    }

    /// # Errors
    /// See [`DecodeError`].
    pub fn decode(&mut self, batch: &mut Batch) -> Result<(), DecodeError> {
        // SAFETY: the batch's arrays live through the call; ids and positions are plain numbers that
        // llama.cpp checks.
        match unsafe { sys::llama_decode(self.raw.as_ptr(), batch.raw()) } {
            0 => {
                // Waits for the device, so that timings and errors belong to this step.
                unsafe { sys::llama_synchronize(self.raw.as_ptr()) };
                Ok(())
            }
            1 => Err(DecodeError::NoRoom),
            2 => Err(DecodeError::Aborted),
            code => Err(DecodeError::Failed(code)),
        }
    }

    /// The logits of the batch's token `index`, one per vocabulary entry.
    pub fn logits(&mut self, index: usize) -> Option<&[f32]> {
        // SAFETY: llama.cpp answers null for an index without output; otherwise a row of `vocabulary`
        // floats valid until the next decode, which needs `&mut self`.
        unsafe {
            let row = sys::llama_get_logits_ith(self.raw.as_ptr(), index as i32);
            (!row.is_null()).then(|| std::slice::from_raw_parts(row, self.vocabulary))
        }
    }

    /// Forget positions `from..` of `sequence`. False when the memory cannot be cut there.
    pub fn truncate(&mut self, sequence: i32, from: usize) -> bool {
        unsafe {
            let memory = sys::llama_get_memory(self.raw.as_ptr());
            sys::llama_memory_seq_rm(memory, sequence, from as i32, -1)
        }
    }

    /// Let `to` share positions `0..until` of `from`. `to` must be empty.
    pub fn share(&mut self, from: i32, to: i32, until: usize) {
        unsafe {
            let memory = sys::llama_get_memory(self.raw.as_ptr());
            sys::llama_memory_seq_cp(memory, from, to, 0, until as i32);
        }
    }

    /// The KV of positions `from..until` of `sequence`, in llama.cpp's own form. `spare` is an empty sequence.
    pub fn save(&mut self, sequence: i32, from: usize, until: usize, spare: i32) -> Option<Vec<u8>> {
        // SAFETY: the buffer has the size llama.cpp asks for.
        unsafe {
            let memory = sys::llama_get_memory(self.raw.as_ptr());
            sys::llama_memory_seq_cp(memory, sequence, spare, from as i32, until as i32);
            let mut state = vec![0u8; sys::llama_state_seq_get_size(self.raw.as_ptr(), spare)];
            let written =
                sys::llama_state_seq_get_data(self.raw.as_ptr(), state.as_mut_ptr(), state.len(), spare);
            sys::llama_memory_seq_rm(memory, spare, -1, -1);
            (written > 0 && written == state.len()).then_some(state)
        }
    }

    /// Give positions `from..until` of a saved `state` to `sequence`, which has them not. False without room.
    pub fn restore(&mut self, state: &[u8], sequence: i32, from: usize, until: usize, spare: i32) -> bool {
        // SAFETY: `state` was written by `save` of this very context and is only read.
        unsafe {
            let memory = sys::llama_get_memory(self.raw.as_ptr());
            let read = sys::llama_state_seq_set_data(self.raw.as_ptr(), state.as_ptr(), state.len(), spare);
            if read > 0 {
                sys::llama_memory_seq_cp(memory, spare, sequence, from as i32, until as i32);
            }
            sys::llama_memory_seq_rm(memory, spare, -1, -1);
            read > 0
        }
    }

    /// Forget everything.
    pub fn clear(&mut self) {
        unsafe { sys::llama_memory_clear(sys::llama_get_memory(self.raw.as_ptr()), false) };
    }

    /// Put `adapter` in force (None: none), forget the KV, then free the old one. The new one is loaded
    /// before the old is freed: llama.cpp tells adapters apart by address.
    ///
    /// # Errors
    /// llama.cpp's refusal; the old adapter stays in force.
    pub fn set_adapter(&mut self, adapter: Option<Adapter>) -> Result<(), String> {
        let mut pointers: Vec<_> = adapter.iter().map(|adapter| adapter.raw.as_ptr()).collect();
        let mut scales = [1.0f32];
        // SAFETY: the pointer list holds live adapters of this context's model.
        let code = unsafe {
            sys::llama_set_adapters_lora(
                self.raw.as_ptr(),
                pointers.as_mut_ptr(),
                pointers.len(),
                scales.as_mut_ptr(),
            )
        };
        if code != 0 {
            return Err(last_log_error().unwrap_or_else(|| format!("llama.cpp answered {code}")));
        }
        self.clear();
        self.adapter = adapter;
        Ok(())
    }
}

impl Drop for Context {
    fn drop(&mut self) {
        // SAFETY: freed once; the adapter and the model are dropped after it.
        unsafe { sys::llama_free(self.raw.as_ptr()) };
    }
}

unsafe extern "C" fn on_abort_check(user: *mut c_void) -> bool {
    // SAFETY: `user` points into the Arc that the context holds.
    let watch = unsafe { &*user.cast::<Watch>() };
    watch.looks.fetch_add(1, Ordering::Relaxed);
    watch.abort.load(Ordering::Relaxed)
}
