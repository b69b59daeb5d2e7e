//! Planted bugs for the simulation of the catalog. A build without the feature `mutants` has none of them.

/// A way to break the catalog.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CatalogMutant {
    /// The control group keeps and drops modules whoever has joined and whatever has changed since the members were
    /// asked.
    NoFence,
    /// Answers to an earlier attempt count for the present one.
    StaleAnswers,
    /// A push is answered when the view has the module, installed or not.
    AnswerBeforeInstalled,
    /// A member that was asked to release a module leaves it retired.
    NoRestore,
    /// A server fetches a module without a look at whether it has all pieces.
    ShortFetch,
    /// Modules are installed in the order in which they were compiled.
    InstallOutOfOrder,
    /// A module is dropped when one member has retired it.
    DropAfterFirst,
}

#[cfg(feature = "mutants")]
mod planted {
    use super::CatalogMutant;
    use std::cell::Cell;

    thread_local! {
        static PLANTED: Cell<Option<CatalogMutant>> = const { Cell::new(None) };
    }

    impl CatalogMutant {
        /// All planted bugs.
        pub const ALL: [CatalogMutant; 7] = [
            CatalogMutant::NoFence,
            CatalogMutant::StaleAnswers,
            CatalogMutant::AnswerBeforeInstalled,
            CatalogMutant::NoRestore,
            CatalogMutant::ShortFetch,
            CatalogMutant::InstallOutOfOrder,
            CatalogMutant::DropAfterFirst,
        ];

        /// Whether this bug is planted in this thread.
        pub(crate) fn is_planted(self) -> bool {
            PLANTED.get() == Some(self)
        }

        /// Plants a bug in this thread, or none.
        pub fn plant(mutant: Option<CatalogMutant>) {
            PLANTED.set(mutant);
        }
    }
}

#[cfg(not(feature = "mutants"))]
impl CatalogMutant {
    pub(crate) fn is_planted(self) -> bool {
        let _ = self;
        false
    }
}
