//! Holds workers to their limits of time and memory, and ends those that are not needed.

use std::rc::Rc;
use std::time::{Duration, Instant};

use tokio::task::AbortHandle;

use super::pool::Pool;
use super::process;
use super::stage::Stage;
use crate::Failure;

/// How often the memory of busy workers is looked at.
const MEMORY_LOOK: Duration = Duration::from_millis(100);

/// The pause between looks is at least so many times as long as a look, which takes long with many workers.
const MEMORY_LOOK_REST: u32 = 50;

/// How often the pool looks for workers that did nothing for too long.
const IDLE_LOOK: Duration = Duration::from_secs(1);

/// A start takes at most so many times its limit, also when others start at the same time.
const START_PATIENCE: u32 = 10;

/// Kills busy workers that are over their memory. (Their own limit holds for what they allocate; this
/// holds for all that is resident.)
pub(super) async fn memory(pool: Rc<Pool>) {
    loop {
        pool.busy.notified().await;
        let mut pause = MEMORY_LOOK;
        loop {
            tokio::time::sleep(pause).await;
            let start = Instant::now();
            if !look_at_memory(&pool) {
                break;
            }
            pause = MEMORY_LOOK.max(start.elapsed() * MEMORY_LOOK_REST);
        }
    }
}

/// Whether there are busy workers to look at.
fn look_at_memory(pool: &Pool) -> bool {
    let mut busy = false;
    for worker in pool.state.borrow_mut().workers.values_mut() {
        let (Stage::Busy { .. }, Some(limit_mb)) = (&worker.stage, worker.memory_mb) else {
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

/// Ends workers that had no work for too long, and those that do not ask for more.
pub(super) async fn idleness(pool: Rc<Pool>) {
    let look = IDLE_LOOK.min(pool.config.warm_idle.max(Duration::from_millis(1)));
    loop {
        tokio::time::sleep(look).await;
        let mut state = pool.state.borrow_mut();
        let state = &mut *state;
        for (id, worker) in &mut state.workers {
            match worker.stage {
                Stage::Idle { since, .. } if since.elapsed() >= pool.config.warm_idle => {
                    state
                        .idle
                        .entry(worker.memory_mb)
                        .or_default()
                        .retain(|idle| idle != id);
                    worker.end();
                }
                Stage::Resting { since } if since.elapsed() >= pool.config.start_timeout => {
                    worker.end();
                }
                _ => {}
            }
        }
    }
}

/// Kills a worker that does not ask for its first work in time.
pub(super) async fn start(pool: Rc<Pool>, id: u64) {
    let limit = pool.config.start_timeout;
    let started = Instant::now();
    let last = started.checked_add(limit.saturating_mul(START_PATIENCE));
    loop {
        // Slow because many start at once is not stuck.
        let since = started.max(pool.last_arrival.get());
        let (Some(due), Some(last)) = (since.checked_add(limit), last) else {
            return;
        };
        let due = due.min(last);
        if Instant::now() < due {
            tokio::time::sleep_until(due.into()).await;
        }
        let mut state = pool.state.borrow_mut();
        let Some(worker) = state.workers.get_mut(&id) else {
            return;
        };
        if !matches!(worker.stage, Stage::Starting) {
            return;
        }
        if pool.last_arrival.get() <= since || Instant::now() >= last {
            return worker.kill(Failure::Start {
                reason: format!(
                    "{} did not ask for work within {limit:?} (start_timeout): its main function must begin \
                     with the worker's loop",
                    pool.config.executable.display()
                ),
            });
        }
    }
}

/// Kills the worker if it still runs the request when its time is over.
pub(super) fn kill_after(
    pool: &Rc<Pool>,
    id: u64,
    limit: Duration,
    request: String,
) -> AbortHandle {
    let pool = pool.clone();
    let timer = tokio::task::spawn_local(async move {
        tokio::time::sleep(limit).await;
        if let Some(worker) = pool.state.borrow_mut().workers.get_mut(&id)
            && worker.runs(&request)
        {
            worker.kill(Failure::TimeLimit { limit });
        }
    });
    timer.abort_handle()
}
