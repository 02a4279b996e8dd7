//! llama.cpp's log lines: in the worker warnings and errors go to stderr (the client keeps its tail), the last
//! error and the "offloaded n/m layers" figure are kept for reports. It prints nothing else.

use std::ffi::{CStr, c_char, c_void};
use std::sync::Mutex;

use llama_cpp_sys_2 as sys;

#[derive(Default)]
struct Captured {
    /// The line under way: llama.cpp logs in pieces.
    line: String,
    level: u32,
    last_error: String,
    offload: Option<usize>,
    prints: bool,
}

static CAPTURED: Mutex<Captured> = Mutex::new(Captured {
    line: String::new(),
    level: 0,
    last_error: String::new(),
    offload: None,
    prints: false,
});

/// Send llama.cpp's log here from now on. Warnings go to stderr if it `prints`: a terminal is no place for them.
pub fn capture_logs(prints: bool) {
    CAPTURED.lock().unwrap_or_else(|poisoned| poisoned.into_inner()).prints = prints;
    // SAFETY: the callback is a plain function and uses no user data.
    unsafe { sys::llama_log_set(Some(on_log), std::ptr::null_mut()) };
}

/// The last error llama.cpp logged, cleared by reading.
pub fn last_log_error() -> Option<String> {
    let mut captured = CAPTURED.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
    let text = std::mem::take(&mut captured.last_error);
    (!text.is_empty()).then_some(text)
}

/// How many layers the last load put on a device, if it said so.
pub fn logged_offload() -> Option<usize> {
    CAPTURED.lock().unwrap_or_else(|poisoned| poisoned.into_inner()).offload
}

unsafe extern "C" fn on_log(level: sys::ggml_log_level, text: *const c_char, _user: *mut c_void) {
    // SAFETY: llama.cpp hands a NUL-terminated string that lives for this call.
    let text = unsafe { CStr::from_ptr(text) }.to_string_lossy();
    let mut captured = CAPTURED.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
    if level != sys::GGML_LOG_LEVEL_CONT {
        captured.level = level;
    }
    captured.line.push_str(&text);
    while let Some(end) = captured.line.find('\n') {
        let line: String = captured.line.drain(..=end).collect();
        captured.take_line(line.trim_end());
    }
}

impl Captured {
    fn take_line(&mut self, line: &str) {
        if let Some(rest) = line.split("offloaded ").nth(1).filter(|_| line.ends_with("layers to GPU")) {
            self.offload = rest.split('/').next().and_then(|n| n.parse().ok());
        }
        if self.level == sys::GGML_LOG_LEVEL_ERROR {
            self.last_error = line.to_owned();
        }
        // A full KV is daily business: the scheduler makes room and tries again.
        let full = ["failed to find a memory slot", "failed to find available cells", "restore kv cache"];
        if !self.prints || full.iter().any(|known| line.contains(known)) {
            return;
        }
        if self.level == sys::GGML_LOG_LEVEL_WARN || self.level == sys::GGML_LOG_LEVEL_ERROR {
            eprintln!("{line}");
        }
    }
}
