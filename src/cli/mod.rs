//! To be written.
pub mod toy_gguf;
