//! The store on a real disk: what is acknowledged stays, what is read is what was written, and every
//! failure is an error that says what to do.

mod adapters;
mod cli;
mod crash;
mod damage;
mod events;
mod failures;
#[cfg(all(target_os = "linux", target_arch = "x86_64"))]
mod faults;
mod groups;
mod keeping;
#[cfg(all(target_os = "linux", target_arch = "x86_64"))]
mod power;
#[cfg(all(target_os = "linux", target_arch = "x86_64"))]
mod trace;

use std::path::Path;

use tillerman::config::Home;
use tillerman::store::Store;

fn open(dir: &Path) -> Store {
    Store::open(&Home::open(Some(dir)).unwrap()).unwrap()
}

/// A directory in memory where there is one with room for them all, for tests that write much: what they look at
/// does not depend on the disk, and thousands of syncs do.
fn quick_dir() -> tempfile::TempDir {
    const ROOM: u64 = 1 << 30;
    let memory = Path::new("/dev/shm");
    let roomy = tillerman::engine::ffi::os::disk_free(memory).is_some_and(|free| free > ROOM);
    if roomy { tempfile::tempdir_in(memory).or_else(|_| tempfile::tempdir()) } else { tempfile::tempdir() }
        .unwrap()
}
