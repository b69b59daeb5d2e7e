//! The objects behind the primitives of the drop-in module, `crucial::std`, that the native library has not: those with
//! poison, and those that end with their users. Values are encoded by the programs, and stay so.

mod channel;
mod lock;
mod token;

pub use channel::{Channel, ChannelDeferred, ChannelProxy, Side};
pub use lock::{Lock, LockDeferred, LockProxy};
pub use token::{Token, TokenDeferred, TokenProxy};
