//! The kinds of errors.

use std::fmt;

macro_rules! kinds {
    ($($(#[doc = $documentation:literal])+ $kind:ident,)+) => {
        /// The kind of an [`Error`](crate::Error), as [`std::io::ErrorKind`] is that of an I/O error: to tell errors apart,
        /// and to count them.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
        #[non_exhaustive]
        pub enum ErrorKind {
            $($(#[doc = $documentation])+ $kind,)+
        }

        impl ErrorKind {
            /// The name, for tools and logs. Names do not change.
            pub const fn name(self) -> &'static str {
                match self {
                    $(ErrorKind::$kind => stringify!($kind),)+
                }
            }
        }
    };
}

kinds!(
    /// The object behind a handle is gone.
    Lost,
    /// `Shared::open` found nothing.
    NotFound,
    /// The server was built without this type.
    UnknownType,
    /// The type has no such method on the server.
    UnknownMethod,
    /// The server could not decode a method's arguments, or an initial state.
    BadArguments,
    /// A value could not be encoded, or a result not decoded.
    Encoding,
    /// A method or a cloud thread panicked.
    Panicked,
    /// An earlier call panicked halfway through changing this object, as in a poisoned `std::sync::Mutex`.
    Poisoned,
    /// The call's time-out passed while it waited.
    TimedOut,
    /// The call was withdrawn while it waited.
    Cancelled,
    /// A named limit was met.
    LimitExceeded,
    /// The server cannot be reached, for longer than the client may wait.
    Unavailable,
    /// The server gave this client's session up (it was silent for longer than its lease, or the server was restarted).
    SessionExpired,
    /// The other side does not speak this protocol, or another version.
    Protocol,
    /// A method tried to call another shared object.
    Nested,
    /// A cloud thread's worker process died.
    WorkerDied,
    /// A cloud thread ran out of its time.
    TimeLimit,
    /// A cloud thread ran out of its memory.
    MemoryLimit,
    /// The platform could not run a cloud thread.
    Platform,
    /// A setting is wrong.
    Config,
    /// An error of the program itself, see `Error::other`.
    Other,
    /// An index or a range is not within a list, a blob or a matrix.
    OutOfBounds,
    /// A barrier or an all-reduce was reset while this call waited in it.
    Broken,
    /// A lock's or permit's guard held nothing any more: it has passed to others, because its holder's process was taken for dead, or it was given back before.
    LockLost,
    /// This attempt of a cloud thread was cancelled, or replaced by a newer one.
    Fenced,
    /// An exactly-once thread that runs again made another call than the first time.
    Diverged,
    /// The server does not do what was asked, and says why.
    Refused,
);

impl fmt::Display for ErrorKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}
