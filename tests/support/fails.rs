//! Commands that must fail, and how.

use assert_cmd::Command;

use crate::program::run;

/// It fails with this code, says each part on stderr, and shows no panic.
pub fn fails(command: &mut Command, code: i32, parts: &[&str]) {
    let (got, out, err) = run(command);
    assert_eq!(got, code, "stdout {out}\nstderr {err}");
    for part in parts {
        assert!(err.contains(part), "no {part:?} in: {err}");
    }
    assert!(!err.contains("panicked"), "{err}");
}
