//! Work that takes long: each on a thread of its own, as it is rare.

use std::io;
use std::sync::Arc;

use crucial_node::catalog::StoreError;
use crucial_node::{ModuleStore, TypeSource, Work, WorkDone};
use crucial_object::{Error, Panic, catch};

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
        crucial_local::thread::start("crucial-work", move || done(workshop.run(work))).map(drop)
    }

    /// Does some work. A panic of a compiler or of a store is an error of theirs: whoever waits for the work hears of it.
    fn run(&self, work: Work) -> WorkDone {
        let failed = failed(&work);
        catch(|| self.do_work(work)).unwrap_or_else(|panic| {
            let Panic { message, location } = panic;
            tracing::error!(message, location, "work with modules panicked");
            failed(format!("a panic at {location}: {message}"))
        })
    }

    fn do_work(&self, work: Work) -> WorkDone {
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

/// How work ends that could not be done, for a reason.
fn failed(work: &Work) -> fn(String) -> WorkDone {
    match work {
        Work::Load(_) => |_| WorkDone::Loaded(None),
        Work::Store(..) => |reason| WorkDone::Stored(Err(StoreError::Disk(reason))),
        Work::Remove(_) => |_| WorkDone::Removed,
        Work::Prune(_) => |_| WorkDone::Pruned,
        Work::Compile(_) => |reason| WorkDone::Compiled(Err(Error::Refused { reason })),
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use crucial_node::{Module, ModuleId};
    use crucial_object::Result;

    use super::*;

    struct Broken;

    impl TypeSource for Broken {
        fn compile(&self, _: &[u8]) -> Result<Arc<dyn Module>> {
            panic!("boom in compile")
        }
    }

    impl ModuleStore for Broken {
        fn load(&self, _: &ModuleId) -> Option<Bytes> {
            panic!("boom in load")
        }

        fn store(&self, _: &ModuleId, _: &Bytes) -> std::result::Result<(), StoreError> {
            panic!("boom in store")
        }

        fn remove(&self, _: &ModuleId) {
            panic!("boom in remove")
        }

        fn prune(&self, _: &[ModuleId]) {
            panic!("boom in prune")
        }
    }

    #[test]
    fn work_that_panics_ends_with_an_error() {
        let workshop = Workshop {
            types: Arc::new(Broken),
            modules: Arc::new(Broken),
        };
        let (id, bytes) = ([1; 32], Bytes::new());
        let done = workshop.run(Work::Compile(bytes.clone()));
        let WorkDone::Compiled(Err(Error::Refused { reason })) = done else {
            panic!("a compiler that panics has compiled");
        };
        assert!(reason.contains("boom in compile"), "{reason}");
        let done = workshop.run(Work::Store(id, bytes));
        assert!(matches!(done, WorkDone::Stored(Err(StoreError::Disk(_)))));
        assert!(matches!(
            workshop.run(Work::Load(id)),
            WorkDone::Loaded(None)
        ));
        assert!(matches!(workshop.run(Work::Remove(id)), WorkDone::Removed));
        let prune = workshop.run(Work::Prune(Vec::new()));
        assert!(matches!(prune, WorkDone::Pruned));
    }
}
