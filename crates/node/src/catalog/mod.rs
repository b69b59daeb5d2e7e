//! A server's part in what modules the cluster has: uploaded code of shared types.
//!
//! The view has the modules' hashes, in an order that is the same for all servers: a type is the last module's that
//! has it. [`ModuleCatalog`] is a state machine without I/O: views, messages, time, clients' requests and the end
//! of work come in, and it queues [`Action`]s.
//!
//! # A push
//!
//! A client sends a module to one server, the push's coordinator, which asks all members of its view to *prepare*:
//! each fetches the bytes in pieces from any server that has them (the coordinator first), verifies them, writes them
//! to its disk, compiles them, and, when it has installed all modules of the coordinator's view, checks whether its
//! objects could move to the new types. If one refuses, all *release* the module, and the client gets the reason. If
//! all are ready the coordinator proposes [`Command::Keep`](crate::replication::Command::Keep). A server that has the module in
//! its view *installs* it: new objects are of its types, others move to it. When all that have prepared it have
//! installed it the client gets the sums. Then the modules that were replaced are removed, if their last objects move
//! within [`Limits::sweep_ms`].
//!
//! `Keep` names the view on which the answers rest, and has no effect if a server has joined since then or if the
//! modules have changed. Then the coordinator asks again. So of two modules with the same type, pushed at the same
//! time without `replace`, the second is refused; and each server that is a member when a view gets a module has its
//! bytes on disk and its code, unless it joined later.
//!
//! # A removal
//!
//! All members *retire* the module: they make no objects of its types, if none lives. Then the coordinator proposes
//! [`Command::Drop`](crate::replication::Command::Drop), with the same condition, and one more: no partition has got another
//! primary. Otherwise an object could have gone from a server that was not asked yet to one that had none. If a member has
//! objects, all *restore* it.
//!
//! # Faults
//!
//! - Messages and proposals may be lost, repeated and overtaken. Each question is repeated until it is answered.
//! - Members that die are gone from the view, and nobody waits for them. A server that joins loads or fetches what
//!   the view has, and installs it in the view's order.
//! - When a coordinator dies, its commands have no effect from the view on in which it is no member. With this view
//!   the others forget what it asked of them. Its client repeats the request at another server: a module is what its
//!   bytes are.
//! - A client is told when a phase makes no progress ([`Limits::patience_ms`]). A proposal is followed up all the
//!   same, until a view says what became of it.
//!
//! # Files
//!
//! `state`: the catalog itself. `shelf` (with `fetch`): bytes and code of modules. `installed`: whose types new objects are of. `participant`: what
//! coordinators have asked for. `coordinator` (with `operation`): this server's own clients.

mod action;
mod coordinator;
mod fetch;
mod installed;
mod limits;
mod message;
pub(crate) mod mutant;
mod operation;
mod participant;
mod shelf;
mod state;

pub use crate::ids::ModuleId;
pub use action::{Action, Done, Order, Reply, RequestId, StoreError, Work};
pub use limits::Limits;
pub use message::{ModuleMessage, OperationId, Peer, Ready, Step};
pub use mutant::CatalogMutant;
pub use state::{ModuleCatalog, Push};
