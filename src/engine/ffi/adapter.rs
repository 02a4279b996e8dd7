//! A LoRA adapter loaded next to a model. Putting it in force is the context's business.

use std::fs::File;
use std::os::fd::IntoRawFd;
use std::ptr::NonNull;
use std::sync::Arc;

use llama_cpp_sys_2 as sys;

use super::log::last_log_error;
use super::model::Model;

pub struct Adapter {
    pub(super) raw: NonNull<sys::llama_adapter_lora>,
    // An adapter may not outlive its model.
    _model: Arc<Model>,
}

// SAFETY: used by the one owner thread only.
unsafe impl Send for Adapter {}

impl Adapter {
    /// Load from an open file, read from its start: the very bytes the caller has hashed.
    ///
    /// # Errors
    /// What llama.cpp logged as the reason.
    pub fn load(model: &Arc<Model>, file: File) -> Result<Adapter, String> {
        // SAFETY: the descriptor is owned and passes to the FILE, which is closed once below; the model is
        // live and only this thread changes its list of adapters.
        let raw = unsafe {
            let descriptor = file.into_raw_fd();
            let stream = libc::fdopen(descriptor, c"rb".as_ptr());
            if stream.is_null() {
                libc::close(descriptor);
                return Err("the file could not be opened as a stream".to_owned());
            }
            let raw = sys::llama_adapter_lora_init_from_file_ptr(model.raw.as_ptr(), stream.cast());
            libc::fclose(stream);
            raw
        };
        let raw = NonNull::new(raw).ok_or_else(|| {
            last_log_error().unwrap_or_else(|| "llama.cpp refused it without a reason".to_owned())
        })?;
        Ok(Adapter { raw, _model: model.clone() })
    }
}

impl Drop for Adapter {
    fn drop(&mut self) {
        // SAFETY: freed once; the context stopped using it before it let go.
        unsafe { sys::llama_adapter_lora_free(self.raw.as_ptr()) };
    }
}
