//! Uploaded modules in a cluster: the view has them, so that every server gets them before objects of their types.

use std::sync::Arc;
use std::time::{Duration, Instant};

use crucial_cluster::{Command, KeptModule, MODULE_BYTES_MAX, Refusal, View};
use crucial_object::{Error, Result};

use super::Cluster;
use crate::service::{Effects, Service};

/// How long the control group may take to keep a module, or to drop it.
const PATIENCE: Duration = Duration::from_secs(10);

/// What is proposed may be lost, and is proposed again after this.
const PROPOSE_AGAIN: Duration = Duration::from_millis(500);

/// How often the view is looked at meanwhile.
const LOOK: Duration = Duration::from_millis(2);

impl Service {
    /// Makes a module one that every server has, also those that join later. Blocks until the view says so.
    pub fn keep_module(&self, id: [u8; 32], replace: bool, bytes: &[u8]) -> Result<()> {
        if self.cluster.is_some() && bytes.len() > MODULE_BYTES_MAX {
            let bytes = bytes.len() as u64;
            return Err(Error::Refused {
                reason: Refusal::LargeModule { bytes }.to_string(),
            });
        }
        let keep = || {
            Command::Keep(KeptModule {
                id,
                replace,
                bytes: Arc::new(serde_bytes::ByteBuf::from(bytes)),
            })
        };
        self.until(keep, |view| {
            view.modules.iter().any(|module| module.id == id)
        })
    }

    /// Makes a module none that every server has.
    pub fn drop_module(&self, id: [u8; 32]) -> Result<()> {
        self.until(
            || Command::Drop(id),
            |view| view.modules.iter().all(|module| module.id != id),
        )
    }

    /// Proposes something until the view shows it.
    fn until(&self, command: impl Fn() -> Command, is_so: impl Fn(&View) -> bool) -> Result<()> {
        let Some(cluster) = &self.cluster else {
            return Ok(());
        };
        let started = Instant::now();
        let mut proposed: Option<Instant> = None;
        while !is_so(&cluster.view()) {
            if started.elapsed() > PATIENCE || self.is_stopping() {
                return Err(Error::Unavailable {
                    address: "the control group".to_owned(),
                    reason: format!(
                        "it did not keep the module within {PATIENCE:?}: push it again"
                    ),
                });
            }
            if proposed.is_none_or(|at| at.elapsed() > PROPOSE_AGAIN) {
                cluster.propose(command());
                proposed = Some(Instant::now());
            }
            std::thread::sleep(LOOK);
        }
        Ok(())
    }

    /// Takes in the modules of a view that are not here yet, and lets go of those that it has not any more.
    pub(super) fn take_modules(&self, cluster: &Cluster, view: &View, effects: &mut Effects<'_>) {
        let before = cluster.view();
        if before.modules.len() == view.modules.len() && before.modules == view.modules {
            return;
        }
        let here: Vec<_> = self
            .types
            .modules()
            .iter()
            .map(|module| module.id)
            .collect();
        for module in view
            .modules
            .iter()
            .filter(|module| !here.contains(&module.id))
        {
            if let Err(error) = self.push(&module.bytes, module.replace, effects) {
                tracing::error!(%error, "a module of the cluster can not be used at this server");
            }
        }
        for module in &before.modules {
            if view.modules.iter().all(|kept| kept.id != module.id) {
                // While there are objects of it here, it stays.
                let _ = self.types.remove(&module.id);
            }
        }
    }
}
