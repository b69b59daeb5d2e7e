//! The switch of a primitive from a local one to a shared object, under a scheduler that tries many interleavings of the
//! threads that use it meanwhile.
//!
//! The primitives make their calls to a server without a network, which has the real objects. A thread that shares a
//! primitive, and uses what another process would get, is beside those that use it in this process. A schedule fails when
//! threads wait for ever, a value, a lock or an item is lost, or two are where one may be.

mod channels;
mod locks;
mod schedules;
mod server;
mod waiting;
