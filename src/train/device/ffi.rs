//! The thin wrapper over ggml's devices, buffers and graphs: the device trainer's only `unsafe`.
//!
//! A tensor borrows what holds it, so none outlives its memory. Shapes are ggml's own to check: a wrong one
//! aborts the process, which is why training has a process of its own. Nothing here knows a model.

#[cfg(test)]
pub mod trial;

use std::ffi::{CStr, c_char, c_void};
use std::marker::PhantomData;
use std::ptr::NonNull;
use std::rc::Rc;

use llama_cpp_sys_2 as sys;

/// Nodes of the largest graph; a layer's takes about a hundred.
const NODES: usize = 512;

/// What a tensor's numbers are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    F32,
    F16,
    I32,
    /// A type of a GGUF, by ggml's number.
    Packed(u32),
}

impl Kind {
    fn raw(self) -> sys::ggml_type {
        match self {
            Kind::F32 => sys::GGML_TYPE_F32,
            Kind::F16 => sys::GGML_TYPE_F16,
            Kind::I32 => sys::GGML_TYPE_I32,
            Kind::Packed(id) => id as sys::ggml_type,
        }
    }
}

/// A device and the CPU behind it, which computes what the device cannot.
pub struct Backends {
    /// In order of preference; the CPU last.
    list: Vec<sys::ggml_backend_t>,
    scheduler: NonNull<sys::ggml_backend_sched>,
    name: String,
    description: String,
    device: sys::ggml_backend_dev_t,
}

impl Backends {
    /// The device of this name, as `doctor` lists it; `threads` for what the CPU does.
    ///
    /// # Errors
    /// No such device, or it does not start.
    pub fn open(name: &str, threads: usize) -> Result<Rc<Backends>, String> {
        // SAFETY: the registry fills itself on first use and is only read.
        let devices: Vec<sys::ggml_backend_dev_t> =
            unsafe { (0..sys::ggml_backend_dev_count()).map(|i| sys::ggml_backend_dev_get(i)).collect() };
        // SAFETY: devices live as long as the process, their names are static.
        let named = |device: &sys::ggml_backend_dev_t| unsafe { text(sys::ggml_backend_dev_name(*device)) };
        let Some(device) = devices.iter().copied().find(|device| named(device).eq_ignore_ascii_case(name))
        else {
            let known: Vec<String> = devices.iter().map(named).collect();
            return Err(format!("there is no such device; llama.cpp finds {}", known.join(", ")));
        };
        // SAFETY: null parameters are the defaults; a null answer is handled.
        let start = |device| unsafe { sys::ggml_backend_dev_init(device, std::ptr::null()) };
        let first = start(device);
        if first.is_null() {
            return Err("it does not start".to_string());
        }
        let mut list = vec![first];
        // SAFETY: plain queries and the start of the CPU's backend; pointers were checked.
        unsafe {
            if sys::ggml_backend_dev_type(device) != sys::GGML_BACKEND_DEVICE_TYPE_CPU {
                let cpu = sys::ggml_backend_dev_by_type(sys::GGML_BACKEND_DEVICE_TYPE_CPU);
                let cpu = if cpu.is_null() { std::ptr::null_mut() } else { start(cpu) };
                if cpu.is_null() {
                    sys::ggml_backend_free(first);
                    return Err("ggml's CPU, which computes what the device cannot, does not start".into());
                }
                list.push(cpu);
            }
            if let Some(cpu) = list.last() {
                sys::ggml_backend_cpu_set_n_threads(*cpu, threads.max(1) as i32);
            }
            let count = list.len() as i32;
            let scheduler = sys::ggml_backend_sched_new(
                list.as_mut_ptr(),
                std::ptr::null_mut(),
                count,
                NODES * 2,
                false,
                false,
            );
            let Some(scheduler) = NonNull::new(scheduler) else {
                list.into_iter().for_each(|backend| sys::ggml_backend_free(backend));
                return Err("its graphs cannot be planned".to_string());
            };
            let description = text(sys::ggml_backend_dev_description(device));
            Ok(Rc::new(Backends { list, scheduler, name: named(&device), description, device }))
        }
    }

    pub fn name(&self) -> &str {
        &self.name
    }

    /// What the device is, e.g. a product's name.
    pub fn description(&self) -> &str {
        &self.description
    }

    /// Bytes free on the device now.
    pub fn free(&self) -> u64 {
        let (mut free, mut total) = (0, 0);
        // SAFETY: the device lives as long as the process.
        unsafe { sys::ggml_backend_dev_memory(self.device, &raw mut free, &raw mut total) };
        free as u64
    }

    /// Compute a graph; answers the numbers of `outputs`, which must be F32.
    ///
    /// # Errors
    /// What kept it from being computed: memory, mostly.
    pub fn run(&self, graph: &Graph, outputs: &[Tensor]) -> Result<Vec<Vec<f32>>, String> {
        // SAFETY: graph and tensors are live; one thread at a time, as nothing here is Sync.
        unsafe {
            for output in outputs {
                sys::ggml_set_output(output.raw.as_ptr());
                sys::ggml_build_forward_expand(graph.plan.as_ptr(), output.raw.as_ptr());
            }
            let scheduler = self.scheduler.as_ptr();
            sys::ggml_backend_sched_reset(scheduler);
            if !sys::ggml_backend_sched_alloc_graph(scheduler, graph.plan.as_ptr()) {
                return Err("its memory ran out".to_string());
            }
            #[cfg(test)]
            trial::spoil_graph(graph);
            let status = sys::ggml_backend_sched_graph_compute(scheduler, graph.plan.as_ptr());
            if status != sys::GGML_STATUS_SUCCESS {
                return Err(format!("computing failed with status {status}"));
            }
        }
        Ok(outputs.iter().map(|output| output.read()).collect())
    }
}

impl Drop for Backends {
    fn drop(&mut self) {
        // SAFETY: what `open` made, freed once, users first.
        unsafe {
            sys::ggml_backend_sched_free(self.scheduler.as_ptr());
            self.list.iter().rev().for_each(|backend| sys::ggml_backend_free(*backend));
        }
    }
}

/// A tensor of a [`Store`] or a [`Graph`].
#[derive(Clone, Copy)]
pub struct Tensor<'a> {
    raw: NonNull<sys::ggml_tensor>,
    holder: PhantomData<&'a ()>,
}

impl Tensor<'_> {
    /// Elements along a dimension.
    pub fn dim(self, which: usize) -> usize {
        // SAFETY: the holder keeps it alive.
        unsafe { self.raw.as_ref().ne[which] as usize }
    }

    /// Bytes from one element to the next along a dimension.
    pub fn stride(self, which: usize) -> usize {
        // SAFETY: as above.
        unsafe { self.raw.as_ref().nb[which] }
    }

    fn bytes(self) -> usize {
        // SAFETY: as above.
        unsafe { sys::ggml_nbytes(self.raw.as_ptr()) }
    }

    /// Write bytes from `offset` on, both in bytes.
    ///
    /// # Panics
    /// If they do not fit: a bug of the caller.
    pub fn write(self, offset: usize, bytes: &[u8]) {
        assert!(offset + bytes.len() <= self.bytes(), "{} bytes at {offset}", bytes.len());
        // SAFETY: within the tensor, whose store has given it memory.
        unsafe {
            sys::ggml_backend_tensor_set(self.raw.as_ptr(), bytes.as_ptr().cast(), offset, bytes.len());
        }
    }

    /// Write numbers from the start.
    ///
    /// # Panics
    /// As [`Tensor::write`].
    pub fn set(self, values: &[f32]) {
        // SAFETY: any f32 is four bytes.
        self.write(0, unsafe { std::slice::from_raw_parts(values.as_ptr().cast(), size_of_val(values)) });
    }

    /// Write integers from the start.
    ///
    /// # Panics
    /// As [`Tensor::write`].
    pub fn set_ids(self, values: &[i32]) {
        // SAFETY: any i32 is four bytes.
        self.write(0, unsafe { std::slice::from_raw_parts(values.as_ptr().cast(), size_of_val(values)) });
    }

    /// All numbers of a contiguous F32 tensor.
    ///
    /// # Panics
    /// If it is of another kind.
    pub fn read(self) -> Vec<f32> {
        // SAFETY: alive; the kind and the length are checked before anything is copied.
        unsafe {
            assert!(self.raw.as_ref().type_ == sys::GGML_TYPE_F32, "numbers are F32");
            let mut values = vec![0.0_f32; self.bytes() / 4];
            let bytes = size_of_val(values.as_slice());
            sys::ggml_backend_tensor_get(self.raw.as_ptr(), values.as_mut_ptr().cast::<c_void>(), 0, bytes);
            values
        }
    }

    pub fn clear(self) {
        // SAFETY: alive, whole.
        unsafe { sys::ggml_backend_tensor_memset(self.raw.as_ptr(), 0, 0, self.bytes()) };
    }
}

/// Tensors in memory of their own on the device.
pub struct Store {
    arena: Arena,
    buffer: NonNull<sys::ggml_backend_buffer>,
    tensors: Vec<NonNull<sys::ggml_tensor>>,
    _backends: Rc<Backends>,
}

impl Store {
    /// Room for tensors of these kinds and sizes, the fastest dimension first; their numbers are anything.
    ///
    /// # Errors
    /// The device has no room.
    pub fn new(backends: &Rc<Backends>, shapes: &[(Kind, Vec<usize>)]) -> Result<Store, String> {
        let arena = Arena::new(shapes.len() + 1, 0)?;
        let mut tensors = Vec::new();
        for (kind, dims) in shapes {
            let dims: Vec<i64> = dims.iter().map(|n| *n as i64).collect();
            // SAFETY: the arena is live and was sized for as many tensors.
            let raw = unsafe {
                sys::ggml_new_tensor(arena.raw.as_ptr(), kind.raw(), dims.len() as i32, dims.as_ptr())
            };
            tensors.push(NonNull::new(raw).ok_or("no room for a tensor's head")?);
        }
        // SAFETY: arena and backend are live.
        let buffer = unsafe { sys::ggml_backend_alloc_ctx_tensors(arena.raw.as_ptr(), backends.list[0]) };
        let buffer = NonNull::new(buffer).ok_or("its memory ran out")?;
        let store = Store { arena, buffer, tensors, _backends: backends.clone() };
        #[cfg(test)]
        trial::spoil_store(&store);
        Ok(store)
    }

    /// The tensor of a place in the list it was made from.
    ///
    /// # Panics
    /// If there is none: a bug of the caller.
    pub fn get(&self, index: usize) -> Tensor<'_> {
        Tensor { raw: self.tensors[index], holder: PhantomData }
    }
}

impl Drop for Store {
    fn drop(&mut self) {
        // SAFETY: freed once; the arena goes after it, the backends last.
        unsafe { sys::ggml_backend_buffer_free(self.buffer.as_ptr()) };
        let _ = &self.arena;
    }
}

/// Heads of tensors and graphs, without their numbers.
struct Arena {
    raw: NonNull<sys::ggml_context>,
}

impl Arena {
    fn new(tensors: usize, nodes: usize) -> Result<Arena, String> {
        // SAFETY: plain arithmetic inside ggml; the answer is checked.
        let raw = unsafe {
            let graph = if nodes > 0 { sys::ggml_graph_overhead_custom(nodes, false) } else { 0 };
            let mem_size = tensors * sys::ggml_tensor_overhead() + graph;
            sys::ggml_init(sys::ggml_init_params {
                mem_size,
                mem_buffer: std::ptr::null_mut(),
                no_alloc: true,
            })
        };
        NonNull::new(raw).map(|raw| Arena { raw }).ok_or_else(|| "no room for a graph".to_string())
    }
}

impl Drop for Arena {
    fn drop(&mut self) {
        // SAFETY: made by `new`, freed once.
        unsafe { sys::ggml_free(self.raw.as_ptr()) };
    }
}

/// Operations to be computed together; each method adds one and answers its result.
pub struct Graph {
    arena: Arena,
    plan: NonNull<sys::ggml_cgraph>,
}

/// How positions turn queries and keys.
#[derive(Clone, Copy)]
pub struct Turn<'a> {
    pub positions: Tensor<'a>,
    pub factors: Option<Tensor<'a>>,
    /// Values turned in each head.
    pub width: usize,
    /// Pairs (i, i + half); else (2i, 2i + 1).
    pub split: bool,
    pub base: f32,
    pub scale: f32,
}

macro_rules! operations {
    ($($(#[$doc:meta])* $name:ident($($argument:ident),+) = $function:ident;)+) => {
        $($(#[$doc])*
        pub fn $name<'g>(&'g self, $($argument: Tensor<'g>),+) -> Tensor<'g> {
            // SAFETY: arena and operands are live.
            self.made(unsafe { sys::$function(self.arena.raw.as_ptr(), $($argument.raw.as_ptr()),+) })
        })+
    };
}

impl Graph {
    /// # Errors
    /// No memory for the heads of its tensors.
    pub fn new() -> Result<Graph, String> {
        let arena = Arena::new(NODES * 2, NODES)?;
        // SAFETY: the arena was sized for it.
        let plan = unsafe { sys::ggml_new_graph_custom(arena.raw.as_ptr(), NODES, false) };
        let plan = NonNull::new(plan).ok_or("no room for a graph")?;
        Ok(Graph { arena, plan })
    }

    fn made(&self, raw: *mut sys::ggml_tensor) -> Tensor<'_> {
        match NonNull::new(raw) {
            Some(raw) => Tensor { raw, holder: PhantomData },
            None => unreachable!("ggml aborts where it has no room for a tensor"),
        }
    }

    operations! {
        /// [n, m] from [k, n] and [k, m]: sums over the first dimension of both.
        mul_mat(a, b) = ggml_mul_mat;
        /// [m, n] from [m, k] and [n, k]: sums over the second dimension of both.
        out_prod(a, b) = ggml_out_prod;
        /// b may repeat.
        add(a, b) = ggml_add;
        /// Into the memory of a.
        add_into(a, b) = ggml_add_inplace;
        sub(a, b) = ggml_sub;
        mul(a, b) = ggml_mul;
        silu(x) = ggml_silu;
        /// dL/dx of silu from dL/dy and x.
        silu_back(dy, x) = ggml_silu_back;
        soft_max(x) = ggml_soft_max;
        sum_rows(x) = ggml_sum_rows;
        /// Index of the largest of each row, I32.
        argmax(x) = ggml_argmax;
        get_rows(x, ids) = ggml_get_rows;
        cont(x) = ggml_cont;
        /// Into the memory of `to`; answers `to`.
        copy(from, to) = ggml_cpy;
    }

    pub fn scale<'g>(&'g self, x: Tensor<'g>, by: f32) -> Tensor<'g> {
        // SAFETY: arena and operand are live; so in all below.
        self.made(unsafe { sys::ggml_scale(self.arena.raw.as_ptr(), x.raw.as_ptr(), by) })
    }

    /// x / sqrt(mean x^2 + eps), row by row.
    pub fn rms_norm<'g>(&'g self, x: Tensor<'g>, eps: f32) -> Tensor<'g> {
        // SAFETY: as above.
        self.made(unsafe { sys::ggml_rms_norm(self.arena.raw.as_ptr(), x.raw.as_ptr(), eps) })
    }

    /// dL/dx of it from dL/dy and x.
    pub fn rms_norm_back<'g>(&'g self, dy: Tensor<'g>, x: Tensor<'g>, eps: f32) -> Tensor<'g> {
        let (dy, x) = (dy.raw.as_ptr(), x.raw.as_ptr());
        // SAFETY: as above.
        self.made(unsafe { sys::ggml_rms_norm_back(self.arena.raw.as_ptr(), dy, x, eps) })
    }

    /// softmax(scale x + mask), row by row; the mask repeats over the third and fourth dimension.
    pub fn soft_max_masked<'g>(&'g self, x: Tensor<'g>, mask: Tensor<'g>, scale: f32) -> Tensor<'g> {
        let (x, mask) = (x.raw.as_ptr(), mask.raw.as_ptr());
        // SAFETY: as above.
        self.made(unsafe { sys::ggml_soft_max_ext(self.arena.raw.as_ptr(), x, mask, scale, 0.0) })
    }

    /// Turn heads [head][heads][nodes] by their positions, or turn a gradient back.
    pub fn rope<'g>(&'g self, x: Tensor<'g>, turn: &Turn<'g>, back: bool) -> Tensor<'g> {
        let function = if back { sys::ggml_rope_ext_back } else { sys::ggml_rope_ext };
        let mode = if turn.split { sys::LLAMA_ROPE_TYPE_NEOX } else { 0 };
        let factors = turn.factors.map_or(std::ptr::null_mut(), |factors| factors.raw.as_ptr());
        // SAFETY: as above; no factors are a null pointer.
        self.made(unsafe {
            function(
                self.arena.raw.as_ptr(),
                x.raw.as_ptr(),
                turn.positions.raw.as_ptr(),
                factors,
                turn.width as i32,
                mode,
                0,
                turn.base,
                turn.scale,
                0.0,
                1.0,
                32.0,
                1.0,
            )
        })
    }

    /// The same numbers in another shape; x must be contiguous.
    pub fn reshape<'g>(&'g self, x: Tensor<'g>, dims: [usize; 4]) -> Tensor<'g> {
        let [a, b, c, d] = dims.map(|n| n as i64);
        // SAFETY: as above.
        self.made(unsafe { sys::ggml_reshape_4d(self.arena.raw.as_ptr(), x.raw.as_ptr(), a, b, c, d) })
    }

    /// Dimension i of x becomes dimension `axes[i]`.
    pub fn permute<'g>(&'g self, x: Tensor<'g>, axes: [i32; 4]) -> Tensor<'g> {
        let [a, b, c, d] = axes;
        // SAFETY: as above.
        self.made(unsafe { sys::ggml_permute(self.arena.raw.as_ptr(), x.raw.as_ptr(), a, b, c, d) })
    }

    /// A part of x: its sizes, the bytes between rows and between planes, and where it begins in bytes.
    pub fn view<'g>(
        &'g self,
        x: Tensor<'g>,
        [a, b, c]: [usize; 3],
        (row, plane): (usize, usize),
        offset: usize,
    ) -> Tensor<'g> {
        let [a, b, c] = [a, b, c].map(|n| n as i64);
        let x = x.raw.as_ptr();
        // SAFETY: as above; ggml checks that the part lies within x.
        self.made(unsafe { sys::ggml_view_3d(self.arena.raw.as_ptr(), x, a, b, c, row, plane, offset) })
    }

    /// Columns `first..first + count` of a matrix.
    pub fn columns<'g>(&'g self, x: Tensor<'g>, first: usize, count: usize) -> Tensor<'g> {
        let row = x.stride(1);
        self.view(x, [x.dim(0), count, 1], (row, row * count), first * row)
    }

    /// Compute this, for what it writes, after all that was asked for before.
    pub fn expand(&self, tensor: Tensor) {
        // SAFETY: plan and tensor are live.
        unsafe { sys::ggml_build_forward_expand(self.plan.as_ptr(), tensor.raw.as_ptr()) };
    }
}

/// # Safety
/// `pointer` is null or a string that lives during the call.
unsafe fn text(pointer: *const c_char) -> String {
    if pointer.is_null() {
        return String::new();
    }
    // SAFETY: the caller's promise.
    unsafe { CStr::from_ptr(pointer) }.to_string_lossy().into_owned()
}
