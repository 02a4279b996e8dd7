//! A GGUF's bytes, mapped read-only: the weights stay in the page cache, shared with the engine's own map.

use std::fs::File;
use std::io;
use std::os::fd::AsRawFd;

/// A whole file in memory.
pub struct Mapped {
    start: *const u8,
    bytes: usize,
}

// SAFETY: the memory is only ever read.
unsafe impl Send for Mapped {}
// SAFETY: as above.
unsafe impl Sync for Mapped {}

impl Mapped {
    /// # Errors
    /// What the system says; an empty file cannot be mapped.
    pub fn open(file: &File) -> io::Result<Mapped> {
        let bytes = usize::try_from(file.metadata()?.len()).map_err(io::Error::other)?;
        // SAFETY: a fresh read-only mapping of an open file. A file that is cut short meanwhile ends this
        // process with a signal: the trainer runs in a worker of its own for that reason.
        let start = unsafe {
            libc::mmap(std::ptr::null_mut(), bytes, libc::PROT_READ, libc::MAP_PRIVATE, file.as_raw_fd(), 0)
        };
        if start == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        Ok(Mapped { start: start.cast(), bytes })
    }

    pub fn bytes(&self) -> &[u8] {
        // SAFETY: the mapping is this long and lives as long as self.
        unsafe { std::slice::from_raw_parts(self.start, self.bytes) }
    }
}

impl Drop for Mapped {
    fn drop(&mut self) {
        // SAFETY: what `open` mapped, once.
        unsafe { libc::munmap(self.start.cast_mut().cast(), self.bytes) };
    }
}
