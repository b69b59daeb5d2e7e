//! A barrier that is local until it travels.

use std::fmt;

use crucial_object::{held, sync as shared};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::local::{Arc, Condvar, Mutex, OnceLock};
use crate::remote::{Remote, must};
use crate::statics;

/// Lets a number of threads wait for each other, as [`std::sync::Barrier`].
///
/// # Panics
///
/// Operations on a shared one panic with the error's text if the call fails.
pub struct Barrier {
    parties: usize,
    hub: Mutex<Round>,
    changed: Condvar,
    remote: OnceLock<Arc<Remote<shared::Barrier>>>,
}

#[derive(Default)]
struct Round {
    arrived: usize,
    number: u64,
}

/// Whether this thread is the one of its round that leads, as [`std::sync::BarrierWaitResult`].
#[derive(Clone, Copy, Debug)]
pub struct BarrierWaitResult(bool);

impl BarrierWaitResult {
    /// Whether this thread is the one.
    pub fn is_leader(&self) -> bool {
        self.0
    }
}

impl Barrier {
    /// A barrier for `n` threads. With 0 or 1, nobody waits.
    pub const fn new(n: usize) -> Barrier {
        Barrier {
            parties: n,
            hub: Mutex::new(Round {
                arrived: 0,
                number: 0,
            }),
            changed: Condvar::new(),
            remote: OnceLock::new(),
        }
    }

    /// Blocks until all threads of the round have arrived.
    #[track_caller]
    pub fn wait(&self) -> BarrierWaitResult {
        if let Some(refusal) = held::refusal_to_wait("a barrier") {
            panic!("{refusal}");
        }
        statics::refuse_in_worker(self, "Barrier");
        let mut hub = self.hub.lock().unwrap_or_else(|e| e.into_inner());
        if self.remote.get().is_none() {
            hub.arrived += 1;
            if hub.arrived >= self.parties {
                hub.arrived = 0;
                hub.number += 1;
                self.changed.notify_all();
                return BarrierWaitResult(true);
            }
            let round = hub.number;
            while hub.number == round && self.remote.get().is_none() {
                hub = self.changed.wait(hub).unwrap_or_else(|e| e.into_inner());
            }
            if hub.number != round {
                return BarrierWaitResult(false);
            }
        }
        drop(hub);
        // Whoever waited here arrives there.
        BarrierWaitResult(must(self.share().object().wait()).is_leader())
    }

    fn share(&self) -> &Arc<Remote<shared::Barrier>> {
        let _hub = self.hub.lock().unwrap_or_else(|e| e.into_inner());
        let make = || Remote::make(shared::Barrier::new(self.parties));
        let remote = self.remote.get_or_init(make);
        self.changed.notify_all();
        remote
    }
}

impl fmt::Debug for Barrier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Barrier").finish_non_exhaustive()
    }
}

/// Shares it, and encodes the handle.
impl Serialize for Barrier {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.share().serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Barrier {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Barrier, D::Error> {
        Ok(Barrier {
            parties: 0,
            hub: Mutex::default(),
            changed: Condvar::new(),
            remote: OnceLock::from(Remote::deserialize(deserializer)?),
        })
    }
}
