//! The trainer's threads: a job is a number of tasks, taken one by one; whoever has nothing to do sleeps.
//!
//! Waiting blocks in the kernel, never in a loop: a busy machine makes a step slower by what it takes and
//! not by a hundred times as much. What a task computes must not depend on who runs it or when.

use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;

type Work = dyn Fn(usize) + Sync;

/// A job under way: what to call with the worker's number. The caller of `run` waits until nobody uses it.
#[derive(Clone, Copy)]
struct Job(*const Work);

// SAFETY: the pointee is Sync and outlives the job, because `run` returns only after all workers left it.
unsafe impl Send for Job {}

#[derive(Default)]
struct State {
    job: Option<Job>,
    /// Counts jobs, so that a worker takes each once.
    turn: u64,
    /// Workers still inside the job.
    busy: usize,
    failed: bool,
    stop: bool,
}

#[derive(Default)]
struct Shared {
    state: Mutex<State>,
    start: Condvar,
    done: Condvar,
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A fixed number of threads, the caller's own among them.
pub struct Pool {
    shared: Arc<Shared>,
    threads: Vec<JoinHandle<()>>,
}

impl Pool {
    pub fn new(threads: usize) -> Pool {
        let shared = Arc::new(Shared::default());
        let threads = (1..threads.max(1))
            .map_while(|worker| {
                let shared = shared.clone();
                // With fewer threads than asked for the work still gets done.
                std::thread::Builder::new().name("train".into()).spawn(move || serve(&shared, worker)).ok()
            })
            .collect();
        Pool { shared, threads }
    }

    pub fn threads(&self) -> usize {
        self.threads.len() + 1
    }

    /// Call `work` with each of the tasks' numbers and the number of the thread that runs it.
    ///
    /// # Panics
    /// If a task does.
    pub fn run(&self, tasks: usize, work: impl Fn(usize, usize) + Sync) {
        let next = AtomicUsize::new(0);
        let all = |worker: usize| {
            loop {
                let task = next.fetch_add(1, Ordering::Relaxed);
                if task >= tasks {
                    break;
                }
                work(worker, task);
            }
        };
        if self.threads.is_empty() || tasks < 2 {
            return all(0);
        }
        let work: &(dyn Fn(usize) + Sync + '_) = &all;
        // SAFETY: only the lifetime is dropped; see `Job`.
        let job =
            Job(unsafe { std::mem::transmute::<*const (dyn Fn(usize) + Sync + '_), *const Work>(work) });
        {
            let mut state = self.shared.lock();
            state.job = Some(job);
            state.turn += 1;
            state.busy = self.threads.len();
        }
        self.shared.start.notify_all();
        let own = catch_unwind(AssertUnwindSafe(|| all(0)));
        let mut state = self.shared.lock();
        while state.busy > 0 {
            state = self.shared.done.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
        state.job = None;
        let failed = std::mem::take(&mut state.failed);
        drop(state);
        if let Err(panic) = own {
            resume_unwind(panic);
        }
        assert!(!failed, "a task of the trainer failed; its message stands above");
    }

    /// Call `work` once for every item, with the running thread's own scratch and the item's number.
    pub fn each<T: Send, S: Send>(
        &self,
        scratch: &mut [S],
        items: Vec<T>,
        work: impl Fn(&mut S, usize, T) + Sync,
    ) {
        assert!(scratch.len() >= self.threads(), "one scratch for each thread");
        let scratch: Vec<Mutex<&mut S>> = scratch.iter_mut().map(Mutex::new).collect();
        let items: Vec<Mutex<Option<T>>> = items.into_iter().map(|item| Mutex::new(Some(item))).collect();
        self.run(items.len(), |worker, task| {
            let item = items[task].lock().unwrap_or_else(PoisonError::into_inner).take();
            let mut own = scratch[worker].lock().unwrap_or_else(PoisonError::into_inner);
            if let Some(item) = item {
                work(&mut own, task, item);
            }
        });
    }
}

impl Drop for Pool {
    fn drop(&mut self) {
        self.shared.lock().stop = true;
        self.shared.start.notify_all();
        for thread in self.threads.drain(..) {
            // A worker that panicked has said so when its job ended.
            let _ = thread.join();
        }
    }
}

fn serve(shared: &Shared, worker: usize) {
    let mut seen = 0;
    loop {
        let job = {
            let mut state = shared.lock();
            loop {
                if state.stop {
                    return;
                }
                match state.job {
                    Some(job) if state.turn != seen => {
                        seen = state.turn;
                        break job;
                    }
                    _ => state = shared.start.wait(state).unwrap_or_else(PoisonError::into_inner),
                }
            }
        };
        // SAFETY: `run` keeps the work alive until `busy` is zero, which this thread has a part in.
        let outcome = catch_unwind(AssertUnwindSafe(|| unsafe { (*job.0)(worker) }));
        let mut state = shared.lock();
        state.failed |= outcome.is_err();
        state.busy -= 1;
        if state.busy == 0 {
            shared.done.notify_one();
        }
    }
}
