//! What a step may take of this machine's memory, asked before anything is computed.

use crate::error::Error;

/// Refuse a step that would not fit, with the numbers.
///
/// # Errors
/// More is needed than is free.
pub fn check(needed: u64) -> Result<(), Error> {
    match free() {
        Some(free) => fits(needed, free),
        None => Ok(()),
    }
}

fn fits(needed: u64, free: u64) -> Result<(), Error> {
    if needed <= free {
        return Ok(());
    }
    let gb = |bytes: u64| bytes as f64 / 1e9;
    Err(Error::Train(format!(
        "the step needs {:.1} GB of memory, {:.1} GB are free; train on fewer groups at once, on shorter conversations, or on a smaller model",
        gb(needed),
        gb(free)
    )))
}

/// Bytes a process may still take without swapping; None where the system does not say.
pub fn free() -> Option<u64> {
    let text = std::fs::read_to_string("/proc/meminfo").ok()?;
    kilobytes(&text, "MemAvailable:")
}

/// Peak resident memory of this process, bytes; 0 where the system does not say.
pub fn peak() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    kilobytes(&status, "VmHWM:").unwrap_or(0)
}

fn kilobytes(text: &str, key: &str) -> Option<u64> {
    let line = text.lines().find_map(|line| line.strip_prefix(key))?;
    line.trim().trim_end_matches(" kB").trim().parse::<u64>().ok().map(|kb| kb * 1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn too_much_is_refused_with_both_numbers() {
        assert!(fits(5, 5).is_ok());
        let text = fits(13_200_000_000, 11_000_000_000).unwrap_err().to_string();
        assert!(text.contains("13.2 GB") && text.contains("11.0 GB"), "{text}");
        assert_eq!(kilobytes("a: 1 kB\nMemAvailable:   24 kB\n", "MemAvailable:"), Some(24 * 1024));
    }
}
