//! Checks the pool at intervals: enforces the workers' memory limits, and ends workers that are not needed.

use std::rc::Rc;
use std::time::{Duration, Instant};

use super::pool::Pool;
use super::process;
use super::process_state::ProcessState;
use crate::platform::Failure;

/// How often the memory of busy workers is checked.
const MEMORY_CHECK_INTERVAL: Duration = Duration::from_millis(100);

/// The pause between two checks is at least this multiple of a check's duration, which is long with many workers.
const MEMORY_CHECK_PAUSE_FACTOR: u32 = 50;

/// How often the pool checks for workers that have been idle for too long.
const IDLE_CHECK_INTERVAL: Duration = Duration::from_secs(1);

/// Kills busy workers that exceed their memory limit. The limit that a worker sets on itself covers only its
/// allocations; this check covers all its resident memory.
pub(super) async fn enforce_memory(pool: Rc<Pool>) {
    loop {
        pool.busy.notified().await;
        let mut pause = MEMORY_CHECK_INTERVAL;
        loop {
            tokio::time::sleep(pause).await;
            let start = Instant::now();
            if !check_memory(&pool) {
                break;
            }
            pause = MEMORY_CHECK_INTERVAL.max(start.elapsed() * MEMORY_CHECK_PAUSE_FACTOR);
        }
    }
}

/// Kills workers over their memory limit. Returns whether any worker with a limit is busy.
fn check_memory(pool: &Pool) -> bool {
    let mut busy = false;
    for worker in pool.state.borrow_mut().workers.values_mut() {
        let (ProcessState::Busy { .. }, Some(limit_mb)) = (&worker.state, worker.memory_mb) else {
            continue;
        };
        busy = true;
        let resident = process::resident_bytes(worker.pid).unwrap_or(0);
        if resident > u64::from(limit_mb) << 20 {
            worker.kill(Failure::MemoryLimit { limit_mb });
        }
    }
    busy
}

/// Ends workers that have been idle for too long, and workers that do not return for their next event.
pub(super) async fn end_idle(pool: Rc<Pool>) {
    let interval = IDLE_CHECK_INTERVAL.min(pool.config.warm_idle.max(Duration::from_millis(1)));
    loop {
        tokio::time::sleep(interval).await;
        let mut state = pool.state.borrow_mut();
        let state = &mut *state;
        for (id, worker) in &mut state.workers {
            match worker.state {
                ProcessState::Idle { since, .. } if since.elapsed() >= pool.config.warm_idle => {
                    state
                        .idle
                        .entry(worker.memory_mb)
                        .or_default()
                        .retain(|idle| idle != id);
                    worker.end();
                }
                ProcessState::Returning { since }
                    if since.elapsed() >= pool.config.start_timeout =>
                {
                    worker.end();
                }
                _ => {}
            }
        }
    }
}
