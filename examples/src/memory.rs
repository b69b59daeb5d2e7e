//! Whether what a user asks for fits into memory, before it is made.

use crate::{Error, Result};

/// What there is to this program when the system does not say how much memory is free.
const UNKNOWN_BYTES: u64 = 1 << 40;

/// Refuses what does not fit into the free memory of the machine. `bytes`: what it takes, `None` if that is no number.
pub fn check(what: impl FnOnce() -> String, bytes: Option<u64>) -> Result<()> {
    let free = free_bytes().unwrap_or(UNKNOWN_BYTES);
    match bytes {
        Some(bytes) if bytes <= free => Ok(()),
        Some(bytes) => Err(Error::Option(format!(
            "{} would take {:.1} GB of memory, and {:.1} GB are free",
            what(),
            bytes as f64 / 1e9,
            free as f64 / 1e9
        ))),
        None => Err(Error::Option(format!(
            "{} would take more memory than there can be",
            what()
        ))),
    }
}

fn free_bytes() -> Option<u64> {
    let info = std::fs::read_to_string("/proc/meminfo").ok()?;
    let line = info
        .lines()
        .find_map(|line| line.strip_prefix("MemAvailable:"))?;
    let kilobytes: u64 = line.trim().strip_suffix(" kB")?.parse().ok()?;
    kilobytes.checked_mul(1024)
}

/// The bytes of this many numbers, in all combinations of these.
pub fn of_numbers(counts: &[usize]) -> Option<u64> {
    let numbers = counts
        .iter()
        .try_fold(8u64, |bytes, &count| bytes.checked_mul(count as u64));
    numbers.filter(|bytes| *bytes <= isize::MAX as u64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_does_not_fit_is_refused_with_what_it_would_take() {
        assert!(check(String::new, of_numbers(&[1000, 1000])).is_ok());
        let what = || "3 points".to_owned();
        let said = check(what, of_numbers(&[100_000_000_000, 100]))
            .unwrap_err()
            .to_string();
        assert!(said.starts_with("3 points would take 80000.0 GB"), "{said}");
        let said = check(what, of_numbers(&[usize::MAX, 2]))
            .unwrap_err()
            .to_string();
        assert!(said.contains("more memory than there can be"), "{said}");
    }
}
