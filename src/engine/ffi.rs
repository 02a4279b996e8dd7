//! The thin wrapper over llama.cpp's C API and the few OS calls the worker needs: the engine's only `unsafe`.
//!
//! Each type owns one C object and frees it once. Nothing here decides anything: no sampling, no scheduling.
//! llama-cpp-2's safe API cannot load an adapter while a context lives nor free one, hence our own wrapper.
//! A failed assertion in llama.cpp aborts the process; that is why it only ever runs in the worker.

mod adapter;
mod batch;
mod context;
mod grammar;
mod log;
mod markers;
mod model;
pub mod os;

pub use adapter::Adapter;
pub use batch::Batch;
pub use context::{Context, ContextOptions, DecodeError, Threads, Watch};
pub use grammar::{Candidates, Grammar};
pub use log::{capture_logs, last_log_error, logged_offload};
pub use model::{Device, Model, cpu_features, devices, start_backend, with_layers};
