//! Work that takes long: each on a thread of its own, as it is rare.

use std::io;
use std::sync::Arc;

use crucial_node::{ModuleStore, TypeSource, Work, WorkDone};

/// The parts that carry out work with modules.
#[derive(Clone)]
pub(crate) struct Workshop {
    pub types: Arc<dyn TypeSource>,
    pub modules: Arc<dyn ModuleStore>,
}

impl Workshop {
    /// Begins some work; `done` gets its end.
    ///
    /// # Errors
    ///
    /// If there is no thread; then `done` is not called.
    pub fn start(
        &self,
        work: Work,
        done: impl FnOnce(WorkDone) + Send + 'static,
    ) -> io::Result<()> {
        let workshop = self.clone();
        std::thread::Builder::new()
            .name("crucial-work".to_owned())
            .spawn(move || done(workshop.run(work)))
            .map(drop)
    }

    fn run(&self, work: Work) -> WorkDone {
        match work {
            Work::Load(id) => WorkDone::Loaded(self.modules.load(&id)),
            Work::Store(id, bytes) => WorkDone::Stored(self.modules.store(&id, &bytes)),
            Work::Remove(id) => {
                self.modules.remove(&id);
                WorkDone::Removed
            }
            Work::Prune(keep) => {
                self.modules.prune(&keep);
                WorkDone::Pruned
            }
            Work::Compile(bytes) => WorkDone::Compiled(self.types.compile(&bytes)),
        }
    }
}
