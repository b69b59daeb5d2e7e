//! Checks the pool at intervals: enforces the workers' memory limits, and ends workers that are not needed.

use std::collections::HashMap;
use std::rc::Rc;
use std::time::{Duration, Instant};

use rustix::process::Pid;

use super::pool::Pool;
use super::process;
use super::process_state::ProcessState;
use crate::group;
use crate::platform::Failure;

/// How often the memory of busy workers is checked.
const MEMORY_CHECK_INTERVAL: Duration = Duration::from_millis(100);

/// How often the processes that workers have started are looked for.
const GROUPS_INTERVAL: Duration = Duration::from_secs(1);

/// The pause between two checks is at least this multiple of a check's duration, which is long with many workers.
const MEMORY_CHECK_PAUSE_FACTOR: u32 = 50;

/// How often the pool checks for workers that have been idle for too long.
const IDLE_CHECK_INTERVAL: Duration = Duration::from_secs(1);

/// Kills busy workers that exceed their memory limit. The limit that a worker sets on itself covers what it allocates,
/// used or not; this check covers what it and its children use.
pub(super) async fn enforce_memory(pool: Rc<Pool>) {
    let mut groups = Groups::new();
    let mut next_look = Instant::now();
    loop {
        pool.busy.notified().await;
        let mut pause = MEMORY_CHECK_INTERVAL;
        loop {
            tokio::time::sleep(pause).await;
            if Instant::now() >= next_look {
                let start = Instant::now();
                // On another thread, as it takes longer the more processes the machine has.
                groups = look_for_groups().await.unwrap_or_default();
                let took = start.elapsed();
                next_look = Instant::now() + GROUPS_INTERVAL.max(took * MEMORY_CHECK_PAUSE_FACTOR);
            }
            let start = Instant::now();
            if !check_memory(&pool, &groups) {
                break;
            }
            pause = MEMORY_CHECK_INTERVAL.max(start.elapsed() * MEMORY_CHECK_PAUSE_FACTOR);
        }
    }
}

/// The processes of each group.
type Groups = HashMap<Pid, Vec<Pid>>;

/// Looks for them on a thread of its own; `None` if the machine has none left, which must not end the platform.
async fn look_for_groups() -> Option<Groups> {
    let (found, groups) = tokio::sync::oneshot::channel();
    let look = move || drop(found.send(groups_of_workers()));
    crucial_local::thread::start("crucial-groups", look).ok()?;
    groups.await.ok()
}

fn groups_of_workers() -> Groups {
    let mut groups = Groups::new();
    for member in group::members() {
        groups.entry(member.group).or_default().push(member.pid);
    }
    groups
}

/// Kills workers over their memory limit. Returns whether any worker with a limit is busy.
fn check_memory(pool: &Pool, groups: &Groups) -> bool {
    let mut state = pool.state.borrow_mut();
    let workers = state.workers.values_mut().filter_map(|worker| {
        let limit_mb = worker.memory_mb?;
        matches!(worker.state, ProcessState::Busy { .. }).then_some((worker, limit_mb))
    });
    let busy: Vec<_> = workers.collect();
    if busy.is_empty() {
        return false;
    }
    for (worker, limit_mb) in busy {
        // A worker that was started since the groups were looked for.
        let alone = [worker.pid];
        let group = groups.get(&worker.pid).map_or(&alone[..], |group| group);
        if used_bytes(group, u64::from(limit_mb) << 20) > u64::from(limit_mb) << 20 {
            worker.kill(Failure::MemoryLimit { limit_mb });
        }
    }
    true
}

/// What the processes of a group use. Looks closer if that may be more than `limit`.
fn used_bytes(group: &[Pid], limit: u64) -> u64 {
    let roughly = group
        .iter()
        .filter_map(|pid| process::anonymous_bytes(*pid));
    let roughly = roughly.sum();
    if roughly <= limit || group.len() == 1 {
        return roughly;
    }
    // Processes that were forked have pages in common.
    let closely = group.iter().map(|pid| process::anonymous_share_bytes(*pid));
    closely.sum::<Option<u64>>().unwrap_or(roughly)
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
