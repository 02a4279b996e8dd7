//! For the device's tests alone: memory that holds NaN until something is written, and devices of a library.

use std::ffi::CString;
use std::path::Path;

use llama_cpp_sys_2 as sys;

use super::{Graph, Store};

/// A byte that makes NaN of every kind of float.
const NAN: u8 = 0xff;

/// A store's numbers before the first is written.
pub fn spoil_store(store: &Store) {
    // SAFETY: the store's own buffer, which nothing reads yet.
    unsafe { sys::ggml_backend_buffer_clear(store.buffer.as_ptr(), NAN) };
}

/// What a graph is about to compute: whatever it read before writing it, or of another graph, becomes NaN.
pub fn spoil_graph(graph: &Graph) {
    let plan = graph.plan.as_ptr();
    // SAFETY: the graph has its memory and is not being computed; what stores hold is left alone.
    unsafe {
        for index in 0..sys::ggml_graph_n_nodes(plan) {
            let node = sys::ggml_graph_node(plan, index);
            let buffer = (*node).buffer;
            let own = (*node).view_src.is_null() && !buffer.is_null();
            if own && sys::ggml_backend_buffer_get_usage(buffer) == sys::GGML_BACKEND_BUFFER_USAGE_COMPUTE {
                sys::ggml_backend_tensor_memset(node, NAN, 0, sys::ggml_nbytes(node));
            }
        }
    }
}

/// Make the devices of a library known beside those this program was built with.
pub fn load(library: &Path) {
    let path = CString::new(library.to_string_lossy().into_owned()).unwrap();
    // SAFETY: a library of the same ggml; it stays for as long as the process.
    assert!(
        !unsafe { sys::ggml_backend_load(path.as_ptr()) }.is_null(),
        "{} is no backend",
        library.display()
    );
}
