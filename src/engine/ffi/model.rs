//! One loaded model: weights, vocabulary, metadata. It keeps no context and runs nothing.

use std::ffi::{CStr, CString, c_char, c_void};
use std::path::Path;
use std::ptr::NonNull;

use llama_cpp_sys_2 as sys;

use super::log::last_log_error;
use super::markers::Markers;

/// A loaded model. Contexts and adapters borrow it by `Arc`, so it outlives them.
pub struct Model {
    pub(super) raw: NonNull<sys::llama_model>,
    vocab: NonNull<sys::llama_vocab>,
    vocabulary: usize,
    markers: Markers,
}

// SAFETY: llama.cpp reads a loaded model from any thread; what writes to it (adapters) is called from the
// worker's one owner thread.
unsafe impl Send for Model {}
unsafe impl Sync for Model {}

/// A compute device llama.cpp found. Bytes.
#[derive(Clone, Debug)]
pub struct Device {
    pub name: String,
    pub description: String,
    pub gpu: bool,
    /// A GPU whose memory is this machine's.
    pub integrated: bool,
    /// The same for two backends that see one device; None where the driver does not say.
    pub id: Option<String>,
    pub free: u64,
    pub total: u64,
}

/// The devices that llama.cpp puts a model's layers on: each GPU once, integrated ones only where there is no other
/// (`llama_prepare_model_devices`).
pub fn with_layers(devices: &[Device]) -> Vec<&Device> {
    let discrete = devices.iter().any(|device| device.gpu && !device.integrated);
    let backend = |device: &Device| device.name.trim_end_matches(|c: char| c.is_ascii_digit()).to_owned();
    let mut found: Vec<&Device> = Vec::new();
    for device in devices.iter().filter(|device| device.gpu && device.integrated != discrete) {
        let same = |other: &&Device| {
            let twin = device.id.is_some() && device.id == other.id;
            twin || device.integrated && backend(device) != backend(other)
        };
        if !found.iter().any(same) {
            found.push(device);
        }
    }
    found
}

/// Start llama.cpp; once per process.
pub fn start_backend() {
    // SAFETY: takes no argument and may be called at any time.
    unsafe { sys::llama_backend_init() };
}

/// Every device, the CPU included.
pub fn devices() -> Vec<Device> {
    // SAFETY: the registry is read-only after start_backend; indices are below its count.
    let count = unsafe { sys::ggml_backend_dev_count() };
    (0..count)
        .map(|index| {
            let (mut free, mut total) = (0usize, 0usize);
            // SAFETY: as above; the strings are static.
            unsafe {
                let device = sys::ggml_backend_dev_get(index);
                sys::ggml_backend_dev_memory(device, &mut free, &mut total);
                let kind = sys::ggml_backend_dev_type(device);
                let integrated = kind == sys::GGML_BACKEND_DEVICE_TYPE_IGPU;
                let mut props = std::mem::zeroed::<sys::ggml_backend_dev_props>();
                sys::ggml_backend_dev_get_props(device, &mut props);
                Device {
                    name: text(sys::ggml_backend_dev_name(device)),
                    description: text(sys::ggml_backend_dev_description(device)),
                    gpu: integrated || kind == sys::GGML_BACKEND_DEVICE_TYPE_GPU,
                    integrated,
                    id: (!props.device_id.is_null()).then(|| text(props.device_id)),
                    free: free as u64,
                    total: total as u64,
                }
            }
        })
        .collect()
}

/// The CPU features in use, as llama.cpp prints them.
pub fn cpu_features() -> String {
    // SAFETY: returns a pointer to a static buffer.
    text(unsafe { sys::llama_print_system_info() })
}

impl Model {
    /// Load `path`, putting `gpu_layers` layers on devices (negative: all). `progress` is called now and then.
    ///
    /// # Errors
    /// What llama.cpp logged as the reason.
    pub fn load(path: &Path, gpu_layers: i32, progress: &mut dyn FnMut()) -> Result<Model, String> {
        let c_path =
            CString::new(path.as_os_str().as_encoded_bytes()).map_err(|_| "the path has a NUL byte")?;
        let mut progress = progress;
        // SAFETY: the parameter struct is plain data; `progress` outlives the call that uses it.
        let raw = unsafe {
            let mut params = sys::llama_model_default_params();
            params.n_gpu_layers = gpu_layers;
            params.progress_callback = Some(on_progress);
            params.progress_callback_user_data = (&raw mut progress).cast();
            sys::llama_model_load_from_file(c_path.as_ptr(), params)
        };
        let raw = NonNull::new(raw).ok_or_else(|| {
            last_log_error().unwrap_or_else(|| "llama.cpp could not load it and gave no reason".to_owned())
        })?;
        // SAFETY: `raw` is a live model; its vocabulary lives as long as it does.
        let vocab = unsafe { sys::llama_model_get_vocab(raw.as_ptr()) }.cast_mut();
        let Some(vocab) = NonNull::new(vocab) else {
            // SAFETY: freed once, never used again.
            unsafe { sys::llama_model_free(raw.as_ptr()) };
            return Err("it has no vocabulary".to_owned());
        };
        // SAFETY: the vocabulary is live.
        let vocabulary = unsafe { sys::llama_vocab_n_tokens(vocab.as_ptr()) } as usize;
        let mut model = Model { raw, vocab, vocabulary, markers: Markers::default() };
        model.markers = Markers::new(model.user_defined());
        Ok(model)
    }

    pub(super) fn vocab_ptr(&self) -> *const sys::llama_vocab {
        self.vocab.as_ptr()
    }

    pub fn vocabulary(&self) -> usize {
        self.vocabulary
    }

    /// The context the model was trained with, in tokens.
    pub fn context_train(&self) -> usize {
        // SAFETY: the model is live, as in every getter below.
        unsafe { sys::llama_model_n_ctx_train(self.raw.as_ptr()) }.max(0) as usize
    }

    /// Channels of one token's state.
    pub fn width(&self) -> usize {
        // SAFETY: the model lives as long as `self`.
        usize::try_from(unsafe { sys::llama_model_n_embd(self.raw.as_ptr()) }).unwrap_or(1).max(1)
    }

    pub fn layers(&self) -> usize {
        unsafe { sys::llama_model_n_layer(self.raw.as_ptr()) }.max(0) as usize
    }

    pub fn parameters(&self) -> u64 {
        unsafe { sys::llama_model_n_params(self.raw.as_ptr()) }
    }

    /// Whether its memory is a running state, which can be kept whole or dropped but not cut.
    pub fn recurrent(&self) -> bool {
        unsafe {
            sys::llama_model_is_recurrent(self.raw.as_ptr()) || sys::llama_model_is_hybrid(self.raw.as_ptr())
        }
    }

    /// Whether some layers attend over a window only.
    pub fn sliding(&self) -> bool {
        unsafe { sys::llama_model_n_swa(self.raw.as_ptr()) > 0 }
    }

    /// Whether it can generate text the usual way: a decoder, no encoder in front.
    pub fn decoder_only(&self) -> bool {
        unsafe {
            sys::llama_model_has_decoder(self.raw.as_ptr())
                && !sys::llama_model_has_encoder(self.raw.as_ptr())
        }
    }

    /// e.g. "Q8_0"
    pub fn file_type(&self) -> String {
        text(unsafe { sys::llama_ftype_name(sys::llama_model_ftype(self.raw.as_ptr())) })
    }

    /// The chat template's text, if the file has one.
    pub fn chat_template(&self) -> Option<String> {
        let raw = unsafe { sys::llama_model_chat_template(self.raw.as_ptr(), std::ptr::null()) };
        (!raw.is_null()).then(|| text(raw))
    }

    /// A scalar metadata value as text.
    pub fn metadata(&self, key: &str) -> Option<String> {
        let key = CString::new(key).ok()?;
        let mut buffer = vec![0u8; 4096];
        // SAFETY: the buffer's true length is given; the result is NUL-terminated within it.
        let length = unsafe {
            sys::llama_model_meta_val_str(
                self.raw.as_ptr(),
                key.as_ptr(),
                buffer.as_mut_ptr().cast(),
                buffer.len(),
            )
        };
        (length >= 0).then(|| text(buffer.as_ptr().cast()))
    }

    /// The text of the token that begins a sequence, "" when there is none.
    pub fn bos_text(&self) -> String {
        self.token_text(unsafe { sys::llama_vocab_bos(self.vocab_ptr()) })
    }

    /// The text of the token that ends a sequence, "" when there is none.
    pub fn eos_text(&self) -> String {
        self.token_text(unsafe { sys::llama_vocab_eos(self.vocab_ptr()) })
    }

    /// The begin-of-sequence token, if the vocabulary asks for one before every prompt.
    pub fn wanted_bos(&self) -> Option<i32> {
        unsafe {
            let bos = sys::llama_vocab_bos(self.vocab_ptr());
            (sys::llama_vocab_get_add_bos(self.vocab_ptr()) && bos >= 0).then_some(bos)
        }
    }

    fn token_text(&self, token: i32) -> String {
        if token < 0 {
            return String::new();
        }
        text(unsafe { sys::llama_vocab_get_text(self.vocab_ptr(), token) })
    }

    /// Whether `token` ends generation.
    pub fn is_end(&self, token: i32) -> bool {
        unsafe { sys::llama_vocab_is_eog(self.vocab_ptr(), token) }
    }

    /// Whether `token` is control text, which no completion shows.
    pub fn is_control(&self, token: i32) -> bool {
        unsafe { sys::llama_vocab_is_control(self.vocab_ptr(), token) }
    }

    /// Texts of the tokens that llama.cpp finds in any text.
    fn user_defined(&self) -> impl Iterator<Item = String> {
        let count = i32::try_from(self.vocabulary).unwrap_or(i32::MAX);
        let found = move |token: &i32| {
            // SAFETY: the id is below the vocabulary's size.
            let attributes = unsafe { sys::llama_vocab_get_attr(self.vocab_ptr(), *token) };
            attributes & sys::LLAMA_TOKEN_ATTR_USER_DEFINED != 0
        };
        (0..count).filter(found).map(|token| self.token_text(token))
    }

    /// Append the tokens of `text` to `out`. `special`: control-token text becomes control tokens; else no
    /// token that marks anything comes of it.
    ///
    /// # Errors
    /// When the text is longer than llama.cpp's tokeniser takes.
    pub fn tokenize(&self, text: &str, special: bool, out: &mut Vec<i32>) -> Result<(), String> {
        if special {
            return self.tokenize_whole(text, true, out);
        }
        self.markers.cut(text).into_iter().try_for_each(|piece| self.tokenize_whole(piece, false, out))
    }

    fn tokenize_whole(&self, text: &str, special: bool, out: &mut Vec<i32>) -> Result<(), String> {
        if text.is_empty() {
            return Ok(());
        }
        let length = i32::try_from(text.len()).map_err(|_| "a prompt part is longer than 2 GiB")?;
        let mut room = text.len() + 8;
        loop {
            let start = out.len();
            out.resize(start + room, 0);
            // SAFETY: `text` is not NUL-terminated but its length is given; `out` has `room` free entries.
            let count = unsafe {
                sys::llama_tokenize(
                    self.vocab_ptr(),
                    text.as_ptr().cast(),
                    length,
                    out.as_mut_ptr().add(start),
                    room as i32,
                    false,
                    special,
                )
            };
            if count >= 0 {
                out.truncate(start + count as usize);
                return Ok(());
            }
            out.truncate(start);
            let needed = count.checked_neg().ok_or("a prompt part has too many tokens")? as usize;
            if needed <= room {
                return Err("the tokeniser failed".to_owned());
            }
            room = needed;
        }
    }

    /// Append what `token` reads as to `out`; control tokens read as nothing.
    pub fn piece(&self, token: i32, out: &mut Vec<u8>) {
        let mut buffer = [0u8; 128];
        // SAFETY: the buffer's true length is given.
        let length = unsafe {
            sys::llama_token_to_piece(
                self.vocab_ptr(),
                token,
                buffer.as_mut_ptr().cast(),
                buffer.len() as i32,
                0,
                false,
            )
        };
        if length >= 0 {
            out.extend_from_slice(&buffer[..length as usize]);
            return;
        }
        let mut long = vec![0u8; length.unsigned_abs() as usize];
        // SAFETY: as above.
        let length = unsafe {
            sys::llama_token_to_piece(
                self.vocab_ptr(),
                token,
                long.as_mut_ptr().cast(),
                long.len() as i32,
                0,
                false,
            )
        };
        out.extend_from_slice(&long[..length.max(0) as usize]);
    }
}

impl Drop for Model {
    fn drop(&mut self) {
        // SAFETY: the last owner; contexts and adapters hold an Arc, so none is left.
        unsafe { sys::llama_model_free(self.raw.as_ptr()) };
    }
}

unsafe extern "C" fn on_progress(_fraction: f32, user: *mut c_void) -> bool {
    // SAFETY: `user` is the `&mut &mut dyn FnMut()` of `Model::load`, alive during the load.
    let progress = unsafe { &mut *user.cast::<&mut dyn FnMut()>() };
    progress();
    true
}

fn text(raw: *const c_char) -> String {
    if raw.is_null() {
        return String::new();
    }
    // SAFETY: not null, and llama.cpp's strings are NUL-terminated.
    unsafe { CStr::from_ptr(raw) }.to_string_lossy().into_owned()
}
