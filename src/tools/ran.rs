//! What came of a program in the sandbox, as a result a model can act on. Shared by the tools that run one.

use super::sandbox::{End, Limits, Outcome};
use super::{ToolFault, ToolResult};

/// Characters of what was printed before a failure that are given back with it.
const PRINTED_CHARS: usize = 2000;

/// The outcome in words: what was printed, or why there is no more of it. `silent` stands for no output,
/// `words` finds the reason in the error output of a program that failed.
pub fn describe(outcome: &Outcome, limits: &Limits, silent: &str, words: fn(&str) -> String) -> ToolResult {
    let printed = outcome.stdout.text();
    let printed = printed.trim_end();
    let stopped =
        |fault: ToolFault, why: String| ToolResult::fault(fault, format!("{why}{}", so_far(printed)));
    match &outcome.end {
        End::Exited(0) => {
            let text = if printed.is_empty() { silent } else { printed };
            ToolResult { exit: Some(0), ..ToolResult::ok(text) }
        }
        End::Exited(code) => {
            let words = words(&outcome.stderr.text());
            let fault = if words.starts_with("MemoryError") { ToolFault::Limit } else { ToolFault::Failed };
            let why = if words.is_empty() { format!("exit code {code}") } else { words };
            ToolResult { exit: Some(*code), ..stopped(fault, why) }
        }
        End::Signalled(libc::SIGXCPU) => {
            stopped(ToolFault::Limit, format!("stopped after {} seconds of computing", limits.cpu_s))
        }
        // The kernel's answer to a program that ignores the signal above, and to no memory left.
        End::Signalled(libc::SIGKILL) => {
            stopped(ToolFault::Limit, "killed: too much computing time or memory".to_owned())
        }
        End::Signalled(signal) => ToolResult {
            exit: Some(128 + signal),
            ..stopped(ToolFault::Failed, format!("ended by signal {signal}"))
        },
        End::Wall => stopped(
            ToolFault::Limit,
            format!(
                "stopped after {} seconds",
                f64::from(u32::try_from(limits.wall_ms).unwrap_or(u32::MAX)) / 1e3
            ),
        ),
        End::Memory => stopped(
            ToolFault::Limit,
            format!("stopped: more than {} MiB of memory", limits.memory_bytes >> 20),
        ),
        End::Processes => {
            stopped(ToolFault::Limit, format!("stopped: more than {} processes", limits.processes))
        }
        End::Flood => {
            let text = format!("stopped: more than {} MiB printed", limits.flood_bytes >> 20);
            ToolResult::fault(ToolFault::Limit, text)
        }
        End::Cancelled => ToolResult::fault(ToolFault::Cancelled, "cancelled"),
        End::Setup(reason) => ToolResult::fault(ToolFault::Failed, format!("the sandbox failed: {reason}")),
    }
}

/// What was printed before the end, for the message.
fn so_far(printed: &str) -> String {
    if printed.is_empty() {
        return String::new();
    }
    let count = printed.chars().count();
    let tail: String = printed.chars().skip(count.saturating_sub(PRINTED_CHARS)).collect();
    format!("\nprinted before: {tail}")
}
