//! Who has this machine's cores: any number of passes sample together, or one training step computes alone.
//!
//! Both at once and each crawls: threads of the one wait in barriers for threads that the other keeps from running. All
//! processes on one data directory keep to this, through two locks that the system drops with whoever held them. Who
//! wants the cores alone takes the first, which lets nobody new in, and then waits at the second for those within:
//! whatever samples ends first, and a stream of queries cannot keep a step waiting.

use std::fs::{File, OpenOptions, TryLockError};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::PathBuf;
use std::time::Duration;

use crate::config::Home;

/// How often somebody who waits looks again.
const LOOK: Duration = Duration::from_millis(40);

/// The cores as one data directory shares them out.
#[derive(Clone, Debug)]
pub struct Cores {
    home: Home,
}

/// Leave to sample, until dropped.
#[derive(Debug, Default)]
pub struct Share(#[expect(dead_code, reason = "held for its lock")] Option<File>);

/// The cores for oneself, until dropped.
#[derive(Debug)]
pub struct Alone(#[expect(dead_code, reason = "held for their locks")] Vec<File>);

impl Cores {
    pub fn of(home: &Home) -> Cores {
        Cores { home: home.clone() }
    }

    /// Whether no step computes and none is about to.
    pub fn is_free(&self) -> bool {
        self.try_share().is_some()
    }

    /// Wait for leave to sample; `waits` is called once if that takes time. Dropping the future ends the wait.
    pub async fn share(&self, waits: &(dyn Fn() + Send + Sync)) -> Share {
        let mut told = false;
        loop {
            if let Some(share) = self.try_share() {
                return share;
            }
            if !std::mem::replace(&mut told, true) {
                waits();
            }
            tokio::time::sleep(LOOK).await;
        }
    }

    /// Wait until nothing samples and no other step computes; `waits` is called once if that takes time.
    pub async fn alone(&self, waits: &(dyn Fn() + Send + Sync)) -> Alone {
        let mut held = Vec::new();
        let mut told = false;
        for name in [DOOR, ROOM] {
            // What cannot be locked keeps nobody from computing: slowly is better than not at all.
            let Some(file) = self.file(name) else { continue };
            while matches!(file.try_lock(), Err(TryLockError::WouldBlock)) {
                if !std::mem::replace(&mut told, true) {
                    waits();
                }
                tokio::time::sleep(LOOK).await;
            }
            held.push(file);
        }
        Alone(held)
    }

    /// None: a step computes, or waits to.
    fn try_share(&self) -> Option<Share> {
        let busy = |file: &File| matches!(file.try_lock_shared(), Err(TryLockError::WouldBlock));
        // Held while going through, and let go of within.
        let door = self.file(DOOR);
        if door.as_ref().is_some_and(busy) {
            return None;
        }
        let room = self.file(ROOM);
        if room.as_ref().is_some_and(busy) {
            return None;
        }
        Some(Share(room))
    }

    /// Opened anew each time: a lock belongs to who opened the file, so that passes of one process count one by one.
    fn file(&self, name: &str) -> Option<File> {
        let path: PathBuf = self.home.running().join(name);
        let open = || OpenOptions::new().create(true).truncate(false).write(true).mode(0o600).open(&path);
        open().or_else(|_| self.home.ensure(&self.home.running()).and_then(|()| open())).ok()
    }
}

/// Names in the folder of running processes; with a point, because a process's own file there has none.
const DOOR: &str = ".cores-next";
const ROOM: &str = ".cores";

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

    fn cores() -> (tempfile::TempDir, Cores) {
        let dir = tempfile::tempdir().unwrap();
        let home = Home::open(Some(dir.path())).unwrap();
        (dir, Cores::of(&home))
    }

    #[tokio::test]
    async fn many_sample_and_a_step_waits_for_all_of_them() {
        let (_dir, cores) = cores();
        let waited = AtomicUsize::new(0);
        let waits = || {
            waited.fetch_add(1, Ordering::AcqRel);
        };
        let (first, second) = (cores.share(&waits).await, cores.share(&waits).await);
        assert_eq!(waited.load(Ordering::Acquire), 0, "those who sample do not wait for each other");
        let mut step = Box::pin(cores.alone(&waits));
        assert!(futures_util::poll!(&mut step).is_pending());
        drop(first);
        assert!(tokio::time::timeout(LOOK * 4, &mut step).await.is_err(), "one still samples");
        // From here on nobody new comes in before it.
        assert!(!cores.is_free());
        let mut third = Box::pin(cores.share(&waits));
        assert!(futures_util::poll!(&mut third).is_pending());
        drop(second);
        let alone = step.await;
        assert!(tokio::time::timeout(LOOK * 4, &mut third).await.is_err(), "the step computes");
        assert_eq!(waited.load(Ordering::Acquire), 2, "each is told once that it waits");
        drop(alone);
        let _third = third.await;
        assert!(cores.is_free());
    }

    #[tokio::test]
    async fn a_wait_that_is_given_up_leaves_the_way_free() {
        let (_dir, cores) = cores();
        let sampling = cores.share(&|| ()).await;
        let mut step = Box::pin(cores.alone(&|| ()));
        assert!(futures_util::poll!(&mut step).is_pending());
        drop(step);
        assert!(cores.is_free());
        drop(sampling);
        let one = cores.alone(&|| ()).await;
        let mut two = Box::pin(cores.alone(&|| ()));
        assert!(futures_util::poll!(&mut two).is_pending(), "one step at a time");
        drop(one);
        two.await;
    }

    #[tokio::test]
    async fn where_nothing_can_be_locked_nobody_waits() {
        let (dir, cores) = cores();
        std::fs::write(dir.path().join("running"), "in the way").unwrap();
        let _alone = cores.alone(&|| panic!("nobody is waited for")).await;
        let _share = cores.share(&|| panic!("nobody is waited for")).await;
    }
}
