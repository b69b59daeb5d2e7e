//! Models of common objects, independent of the objects' implementations.

mod latch;
mod lock;
mod map;
mod queue;
mod register;
mod semaphore;

pub use latch::{Latch, LatchInput, LatchOutput};
pub use lock::{Holder, Lock, LockInput, LockOutput, LockState};
pub use map::{Entry, EntryInput, EntryOutput};
pub use queue::{Queue, QueueInput, QueueOutput};
pub use register::{Register, RegisterInput, RegisterOutput};
pub use semaphore::{Semaphore, SemaphoreInput, SemaphoreOutput};
