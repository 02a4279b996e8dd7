//! The store on a real disk: what is acknowledged stays, what is read is what was written, and every
//! failure is an error that says what to do.

mod cli;
mod crash;
mod events;
mod failures;
mod keeping;

use std::path::Path;

use tillerman::config::Home;
use tillerman::store::Store;

fn open(dir: &Path) -> Store {
    Store::open(&Home::open(Some(dir)).unwrap()).unwrap()
}
