//! Tests of what is not for root: where this process is root they are run again as nobody.

use std::fs::{self, Permissions};
use std::io::Write as _;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::process::Command;

/// Past the capture of the test runner: which tier was tried, or that none was, is to be seen.
pub fn say(words: &str) {
    let _ = writeln!(std::io::stderr(), "{words}");
}

/// Run this very test as nobody where this process is root. True: that was done.
pub fn left_to_nobody(test: &str) -> bool {
    if !fs::metadata("/proc/self").is_ok_and(|me| me.uid() == 0) {
        return false;
    }
    let dir = tempfile::tempdir().unwrap();
    fs::set_permissions(dir.path(), Permissions::from_mode(0o777)).unwrap();
    let output = Command::new("setpriv")
        .args(["--reuid=65534", "--regid=65534", "--clear-groups"])
        .arg(std::env::current_exe().unwrap())
        .args([test, "--exact", "--nocapture"])
        .envs([("TMPDIR", dir.path()), ("HOME", dir.path())])
        .current_dir("/")
        .output();
    match output {
        Ok(output) => {
            let told = String::from_utf8_lossy(&output.stderr).into_owned();
            assert!(output.status.success(), "{told}\n{}", String::from_utf8_lossy(&output.stdout));
            told.lines().for_each(say);
        }
        Err(error) => say(&format!("SKIPPED, setpriv: {error}")),
    }
    true
}
