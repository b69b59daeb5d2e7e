//! Planted bugs for the simulation of the catalog.

use crate::mutant::mutants;

mutants! {
    /// A way to break the catalog.
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
        /// A module is dropped though partitions have got other primaries since the members were asked.
        DropAcrossMoves,
        /// A member undoes what it has prepared, though it does not know yet what was decided.
        ReleasesEarly,
    }
}
