//! llama.cpp's GBNF grammar: which tokens may come next. Choosing among them is the sampler's business.

use std::ffi::CString;
use std::ptr::NonNull;
use std::sync::Arc;

use llama_cpp_sys_2 as sys;

use super::model::Model;

/// A grammar part-way through a text.
pub struct Grammar {
    raw: NonNull<sys::llama_sampler>,
    // The sampler keeps a pointer to the model's vocabulary.
    _model: Arc<Model>,
}

// SAFETY: used by the one owner thread only.
unsafe impl Send for Grammar {}

/// Room for one candidate per vocabulary entry, reused from call to call.
#[derive(Default)]
pub struct Candidates {
    entries: Vec<sys::llama_token_data>,
}

impl Grammar {
    /// Compile `text` with root rule `root`.
    ///
    /// # Errors
    /// When llama.cpp refuses the grammar.
    pub fn new(model: &Arc<Model>, text: &str) -> Result<Grammar, String> {
        let text = CString::new(text).map_err(|_| "the grammar has a NUL byte")?;
        // SAFETY: both strings live through the call, and the vocabulary as long as the Arc kept below.
        let raw =
            unsafe { sys::llama_sampler_init_grammar(model.vocab_ptr(), text.as_ptr(), c"root".as_ptr()) };
        let raw = NonNull::new(raw).ok_or("llama.cpp could not compile it")?;
        Ok(Grammar { raw, _model: model.clone() })
    }

    /// Whether `token` may come next.
    pub fn allows(&mut self, token: i32) -> bool {
        let mut one = [sys::llama_token_data { id: token, logit: 0.0, p: 0.0 }];
        self.apply(&mut one);
        one[0].logit == 0.0
    }

    /// Set every entry of `logits` that may not come next to negative infinity.
    pub fn mask(&mut self, logits: &mut [f32], room: &mut Candidates) {
        room.entries.clear();
        room.entries.extend(logits.iter().enumerate().map(|(id, _)| sys::llama_token_data {
            id: id as i32,
            logit: 0.0,
            p: 0.0,
        }));
        self.apply(&mut room.entries);
        for (logit, entry) in logits.iter_mut().zip(&room.entries) {
            if entry.logit != 0.0 {
                *logit = f32::NEG_INFINITY;
            }
        }
    }

    fn apply(&mut self, entries: &mut [sys::llama_token_data]) {
        let mut array = sys::llama_token_data_array {
            data: entries.as_mut_ptr(),
            size: entries.len(),
            selected: -1,
            sorted: false,
        };
        // SAFETY: the array describes `entries`, which the grammar only writes logits of.
        unsafe { sys::llama_sampler_apply(self.raw.as_ptr(), &mut array) };
    }

    /// Advance past `token`, which must be allowed: anything else aborts the process.
    pub fn accept(&mut self, token: i32) {
        // SAFETY: the sampler is live.
        unsafe { sys::llama_sampler_accept(self.raw.as_ptr(), token) };
    }
}

impl Drop for Grammar {
    fn drop(&mut self) {
        // SAFETY: freed once.
        unsafe { sys::llama_sampler_free(self.raw.as_ptr()) };
    }
}
