//! The bound on the memory of servers.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use crucial_testing::{Error, Result};

/// How often the servers' memory is read.
const READ_INTERVAL: Duration = Duration::from_millis(200);

/// Reads how much memory the servers have, in a thread.
#[derive(Debug)]
pub struct Memory {
    shared: Arc<Shared>,
    max_mb: u64,
    reader: Option<JoinHandle<()>>,
}

#[derive(Debug, Default)]
struct Shared {
    stop: AtomicBool,
    /// Addresses and process ids.
    servers: Mutex<Vec<(String, u32)>>,
    /// The most that each had, in megabytes.
    peaks: Mutex<BTreeMap<String, u64>>,
}

impl Memory {
    /// Watches that no server's resident memory is more than `max_mb` megabytes.
    pub fn watch(max_mb: u64) -> Memory {
        let shared = Arc::<Shared>::default();
        let reader = shared.clone();
        let reader = std::thread::spawn(move || {
            while !reader.stop.load(Ordering::Relaxed) {
                reader.read();
                // Nothing announces that a process has grown.
                std::thread::sleep(READ_INTERVAL);
            }
        });
        Memory {
            shared,
            max_mb,
            reader: Some(reader),
        }
    }

    /// The servers that are watched from now on.
    pub fn set_servers(&self, servers: Vec<(String, u32)>) {
        *self
            .shared
            .servers
            .lock()
            .unwrap_or_else(PoisonError::into_inner) = servers;
    }

    /// The most that any server has had, in megabytes.
    pub fn peak_mb(&self) -> u64 {
        let peaks = self.shared.peaks();
        peaks.values().copied().max().unwrap_or_default()
    }

    /// Fails if a server has had more than it may.
    ///
    /// # Errors
    ///
    /// Names the server.
    pub fn check(&self) -> Result<()> {
        let peaks = self.shared.peaks();
        match peaks.iter().find(|(_, peak)| **peak > self.max_mb) {
            Some((address, peak)) => Err(Error::Wrong(format!(
                "the server {address} had {peak} MB of memory, and --rss-max-mb is {}",
                self.max_mb
            ))),
            None => Ok(()),
        }
    }
}

impl Shared {
    fn peaks(&self) -> std::sync::MutexGuard<'_, BTreeMap<String, u64>> {
        self.peaks.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn read(&self) {
        let servers = self
            .servers
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone();
        for (address, process) in servers {
            // None of a server that has just ended.
            if let Some(resident) = resident_mb(process) {
                let mut peaks = self.peaks();
                let peak = peaks.entry(address).or_default();
                *peak = resident.max(*peak);
            }
        }
    }
}

impl Drop for Memory {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::Relaxed);
        if let Some(reader) = self.reader.take() {
            let _ = reader.join();
        }
    }
}

/// The resident memory of a process, in megabytes.
fn resident_mb(process: u32) -> Option<u64> {
    let status = std::fs::read_to_string(format!("/proc/{process}/status")).ok()?;
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("VmRSS:"))?;
    let kilobytes: u64 = line.trim().strip_suffix(" kB")?.parse().ok()?;
    Some(kilobytes / 1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_over_its_bound_is_named() {
        let memory = Memory::watch(1);
        memory.set_servers(vec![("here".to_owned(), std::process::id())]);
        memory.shared.read();
        assert!(memory.peak_mb() > 1, "{}", memory.peak_mb());
        let error = memory
            .check()
            .expect_err("more than a megabyte")
            .to_string();
        assert!(
            error.contains("here") && error.contains("--rss-max-mb is 1"),
            "{error}"
        );
    }
}
