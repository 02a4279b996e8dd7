//! The program as a test starts it: the built binary with a data directory of its own.

use std::path::Path;
use std::time::Duration;

use assert_cmd::Command;

pub fn tillerman(home: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_tillerman"));
    command.env("TILLERMAN_HOME", home).env_remove("RUST_BACKTRACE").timeout(Duration::from_secs(600));
    command
}

/// Run and answer (exit code, stdout, stderr).
pub fn run(command: &mut Command) -> (i32, String, String) {
    let output = command.output().unwrap();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (output.status.code().unwrap_or(-1), text(&output.stdout), text(&output.stderr))
}
