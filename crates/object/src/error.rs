//! The one error type of the system.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::ErrorKind;

/// The result of every remote operation.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// What can go wrong, by what the caller can do about it.
///
/// Errors travel: from a server's method to its caller, and from a cloud thread to its `join`. So
/// they are plain data. serde writes the position of a variant, which is its [code](Error::code); a test holds
/// each variant to its place.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The object behind a handle is gone.
    #[error(
        "{object} is gone: it was deleted, its run has ended, or the server that held it was lost"
    )]
    Lost {
        /// The object, for people.
        object: String,
    },
    /// `Shared::open` found nothing.
    #[error("there is no {type_name} with the key {key:?}: make one with Shared::named")]
    NotFound {
        /// The type that was asked for.
        type_name: String,
        /// The key that was asked for.
        key: String,
    },
    /// The server was built without this type.
    #[error(
        "the server has no type {type_name}: upload it (`crucial push MODULE.wasm`), or start the server \
         from a program that contains it (`PROGRAM crucial server`)"
    )]
    UnknownType {
        /// The type that was asked for.
        type_name: String,
    },
    /// The type has no such method on the server.
    #[error(
        "{type_name} has no method {method} on the server, which knows: {known}. \
         Are client and server built from the same source?"
    )]
    UnknownMethod {
        /// The object's type.
        type_name: String,
        /// The method, by name where the client knows it, else by number.
        method: String,
        /// The methods that the server knows.
        known: String,
    },
    /// The server could not decode a method's arguments, or an initial state.
    #[error("{what} does not accept this: {detail}")]
    BadArguments {
        /// The method or type.
        what: String,
        /// The decoder's words.
        detail: String,
    },
    /// A value could not be encoded, or a result not decoded.
    #[error("cannot encode or decode {what}: {detail}")]
    Encoding {
        /// The value.
        what: String,
        /// The codec's words.
        detail: String,
    },
    /// A method or a cloud thread panicked.
    #[error("{what} panicked at {location}: {message}")]
    Panicked {
        /// The method, or the cloud thread.
        what: String,
        /// The panic's message.
        message: String,
        /// File, line and column.
        location: String,
    },
    /// An earlier call panicked halfway through changing this object, as in a poisoned
    /// `std::sync::Mutex`. `clear_poison` accepts its state as it is; `recreate` starts anew.
    #[error("the object is poisoned: {what} panicked at {location}: {message}")]
    Poisoned {
        /// The method that panicked.
        what: String,
        /// The panic's message.
        message: String,
        /// File, line and column.
        location: String,
    },
    /// The call's time-out passed while it waited. It had no effect.
    #[error("no result {}", within(*.after))]
    TimedOut {
        /// The time-out.
        after: Duration,
    },
    /// The call was withdrawn while it waited. It had no effect.
    #[error("the call was cancelled while it waited")]
    Cancelled,
    /// A named limit was met.
    #[error("over the limit {limit} = {max}: {detail}")]
    LimitExceeded {
        /// The limit's name in the configuration.
        limit: String,
        /// Its value.
        max: u64,
        /// What was over it, and what to do.
        detail: String,
    },
    /// The server cannot be reached, for longer than the client may wait. The calls in flight may
    /// or may not have taken effect.
    #[error("no connection to the server at {address}: {reason}")]
    Unavailable {
        /// The server's address.
        address: String,
        /// The last failure.
        reason: String,
    },
    /// The server gave this client's session up (it was silent for longer than its lease, or the
    /// server was restarted). Calls in flight may or may not have taken effect; the next ones use
    /// a new session.
    #[error(
        "the server gave up this client's session, which was silent for longer than its lease, or the server restarted"
    )]
    SessionExpired,
    /// The other side does not speak this protocol, or another version.
    #[error("{detail}")]
    Protocol {
        /// What was wrong.
        detail: String,
    },
    /// A method tried to call another shared object.
    #[error(
        "a method of a shared object cannot call other shared objects yet: return what is \
         needed, and let the caller make the second call"
    )]
    Nested,
    /// A cloud thread's worker process died.
    #[error("the worker of cloud thread {thread:?} died: {reason}{}", last_lines(.output))]
    WorkerDied {
        /// The cloud thread.
        thread: String,
        /// The signal or exit status.
        reason: String,
        /// The last lines that it printed.
        output: Vec<String>,
    },
    /// A cloud thread ran out of its time.
    #[error(
        "cloud thread {thread:?} did not end within its time limit of {limit:?} (thread::Builder::time_limit)"
    )]
    TimeLimit {
        /// The cloud thread.
        thread: String,
        /// Its limit.
        limit: Duration,
    },
    /// A cloud thread ran out of its memory.
    #[error(
        "cloud thread {thread:?} needed more than its {limit_mb} MB of memory (thread::Builder::memory_mb)"
    )]
    MemoryLimit {
        /// The cloud thread.
        thread: String,
        /// Its limit, in MB.
        limit_mb: u32,
    },
    /// The platform could not run a cloud thread.
    #[error("the platform could not run cloud thread {thread:?}: {reason}")]
    Platform {
        /// The cloud thread.
        thread: String,
        /// The platform's words.
        reason: String,
    },
    /// A setting is wrong.
    #[error("{detail}")]
    Config {
        /// What is wrong, and what is expected.
        detail: String,
    },
    /// An error of the program itself, see [`Error::other`].
    #[error("{0}")]
    Other(String),
    /// An index or a range is not within a list, a blob or a matrix.
    #[error("index {index} is out of bounds: the length is {len}")]
    OutOfBounds {
        /// The index, or the end of the range.
        index: u64,
        /// The length.
        len: u64,
    },
    /// A barrier or an all-reduce was reset while this call waited in it.
    #[error("{what} was reset while parties waited in it: this round will never be complete")]
    Broken {
        /// The object's type.
        what: String,
    },
    /// A lock's or permit's guard held nothing any more: it has passed to others, because its holder's
    /// process was taken for dead, or it was given back before.
    #[error(
        "token {token} holds nothing any more: its process was silent for longer than its lease, so that \
         what it held has passed on, or it was given back before. Nothing was changed"
    )]
    LockLost {
        /// The fencing token of the lost lock.
        token: u64,
    },
    /// This attempt of a cloud thread was cancelled, or replaced by a newer one. It can change nothing
    /// any more.
    #[error(
        "this attempt of the cloud thread was cancelled, or replaced by a newer one: it can change \
         nothing any more"
    )]
    Fenced,
    /// An exactly-once thread that runs again made another call than the first time.
    #[error(
        "cloud thread {thread:?} does not follow its record: call {position} was {recorded}, and is now \
         {now}. An exactly-once thread must do the same each time: take time and random numbers from \
         crucial::thread::now and crucial::thread::random, and make calls from one thread"
    )]
    Diverged {
        /// The cloud thread.
        thread: String,
        /// Which of its calls, from 1.
        position: u64,
        /// What the record has.
        recorded: String,
        /// What it did this time.
        now: String,
    },
    /// The server does not do what was asked, and says why.
    #[error("refused: {reason}")]
    Refused {
        /// Why, and what would help.
        reason: String,
    },
}

impl Error {
    /// Whether a method was not run, as its server had no room for the object. The call left nothing behind.
    pub fn is_lack_of_room(&self) -> bool {
        let is_room = |limit: &str| matches!(limit, "instances_max" | "instances_bytes_max");
        matches!(self, Error::LimitExceeded { limit, .. } if is_room(limit))
    }

    /// Wraps any error of the program, so that a cloud function can use `?` on it. The error's own
    /// sources are kept as text.
    pub fn other(error: impl std::error::Error) -> Error {
        let mut text = error.to_string();
        let mut source = error.source();
        while let Some(cause) = source {
            let cause_text = match cause.downcast_ref() {
                Some(of_system) => system_reason(of_system),
                None => cause.to_string(),
            };
            // Many messages end with that of their source.
            if !text.ends_with(&cause_text) {
                text.push_str(": ");
                text.push_str(&cause_text);
            }
            source = cause.source();
        }
        Error::Other(text)
    }

    /// What kind of error it is, without its details.
    ///
    /// ```
    /// use crucial::{ErrorKind, Shared, sync::Counter};
    ///
    /// let error = Shared::<Counter>::open("nobody made it").unwrap_err();
    /// assert_eq!(error.kind(), ErrorKind::NotFound);
    /// assert_eq!(error.kind().to_string(), "NotFound");
    /// ```
    pub const fn kind(&self) -> ErrorKind {
        match self {
            Error::Lost { .. } => ErrorKind::Lost,
            Error::NotFound { .. } => ErrorKind::NotFound,
            Error::UnknownType { .. } => ErrorKind::UnknownType,
            Error::UnknownMethod { .. } => ErrorKind::UnknownMethod,
            Error::BadArguments { .. } => ErrorKind::BadArguments,
            Error::Encoding { .. } => ErrorKind::Encoding,
            Error::Panicked { .. } => ErrorKind::Panicked,
            Error::Poisoned { .. } => ErrorKind::Poisoned,
            Error::TimedOut { .. } => ErrorKind::TimedOut,
            Error::Cancelled => ErrorKind::Cancelled,
            Error::LimitExceeded { .. } => ErrorKind::LimitExceeded,
            Error::Unavailable { .. } => ErrorKind::Unavailable,
            Error::SessionExpired => ErrorKind::SessionExpired,
            Error::Protocol { .. } => ErrorKind::Protocol,
            Error::Nested => ErrorKind::Nested,
            Error::WorkerDied { .. } => ErrorKind::WorkerDied,
            Error::TimeLimit { .. } => ErrorKind::TimeLimit,
            Error::MemoryLimit { .. } => ErrorKind::MemoryLimit,
            Error::Platform { .. } => ErrorKind::Platform,
            Error::Config { .. } => ErrorKind::Config,
            Error::Other(..) => ErrorKind::Other,
            Error::OutOfBounds { .. } => ErrorKind::OutOfBounds,
            Error::Broken { .. } => ErrorKind::Broken,
            Error::LockLost { .. } => ErrorKind::LockLost,
            Error::Fenced => ErrorKind::Fenced,
            Error::Diverged { .. } => ErrorKind::Diverged,
            Error::Refused { .. } => ErrorKind::Refused,
        }
    }

    /// The number of the error on the wire: a table of the protocol (`docs/protocol.md`). A number that was given
    /// out keeps its meaning, and a new error gets the next one.
    pub const fn code(&self) -> u32 {
        match self {
            Error::Lost { .. } => 0,
            Error::NotFound { .. } => 1,
            Error::UnknownType { .. } => 2,
            Error::UnknownMethod { .. } => 3,
            Error::BadArguments { .. } => 4,
            Error::Encoding { .. } => 5,
            Error::Panicked { .. } => 6,
            Error::Poisoned { .. } => 7,
            Error::TimedOut { .. } => 8,
            Error::Cancelled => 9,
            Error::LimitExceeded { .. } => 10,
            Error::Unavailable { .. } => 11,
            Error::SessionExpired => 12,
            Error::Protocol { .. } => 13,
            Error::Nested => 14,
            Error::WorkerDied { .. } => 15,
            Error::TimeLimit { .. } => 16,
            Error::MemoryLimit { .. } => 17,
            Error::Platform { .. } => 18,
            Error::Config { .. } => 19,
            Error::Other(..) => 20,
            Error::OutOfBounds { .. } => 21,
            Error::Broken { .. } => 22,
            Error::LockLost { .. } => 23,
            Error::Fenced => 24,
            Error::Diverged { .. } => 25,
            Error::Refused { .. } => 26,
        }
    }

    pub(crate) fn encoding(what: impl Into<String>, error: impl std::fmt::Display) -> Error {
        Error::Encoding {
            what: what.into(),
            detail: error.to_string(),
        }
    }
}

/// The message, because this is what a `main` that returns an error prints, behind `Error: `. Each message says by itself
/// what kind of error it is.
impl std::fmt::Debug for Error {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        std::fmt::Display::fmt(self, f)
    }
}

impl From<std::io::Error> for Error {
    fn from(error: std::io::Error) -> Error {
        match error.raw_os_error() {
            Some(_) => Error::Other(system_reason(&error)),
            None => Error::other(error),
        }
    }
}

/// An error of the system in words for people: the limit that was exceeded, where that is the reason.
#[doc(hidden)]
pub fn system_reason(error: &std::io::Error) -> String {
    match exceeded_limit(error) {
        Some(limit) => format!("{limit} leaves no room"),
        None => {
            let text = error.to_string();
            match text.split_once(" (os error ") {
                Some((words, _)) if error.raw_os_error().is_some() => words.to_owned(),
                _ => text,
            }
        }
    }
}

/// The limit of the system that was exceeded, if that is what an error says, and what a shell calls it. (The numbers are
/// those of Linux; the standard library has no names for most of them.)
#[doc(hidden)]
pub fn exceeded_limit(error: &std::io::Error) -> Option<&'static str> {
    const EAGAIN: i32 = 11;
    const ENOMEM: i32 = 12;
    const ENFILE: i32 = 23;
    const EMFILE: i32 = 24;
    match error.raw_os_error()? {
        EAGAIN => Some("the limit of processes and threads (`ulimit -u`)"),
        ENOMEM => Some("the memory of this machine, or its limit (`ulimit -v`),"),
        ENFILE => Some("the system's limit of open files"),
        EMFILE => Some("the limit of open files (`ulimit -n`)"),
        _ => None,
    }
}

impl From<String> for Error {
    fn from(message: String) -> Error {
        Error::Other(message)
    }
}

impl From<&str> for Error {
    fn from(message: &str) -> Error {
        Error::Other(message.to_owned())
    }
}

fn within(time: Duration) -> String {
    match time.is_zero() {
        true => "at once, and no time to wait was given".to_owned(),
        false => format!("within {time:?}"),
    }
}

fn last_lines(output: &[String]) -> String {
    if output.is_empty() {
        return String::new();
    }
    format!("; it last printed:\n  {}", output.join("\n  "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, thiserror::Error)]
    #[error("outer")]
    struct Outer {
        source: std::fmt::Error,
    }

    #[test]
    fn sources_are_kept_once() {
        let inner = std::fmt::Error.to_string();
        let outer = Outer {
            source: std::fmt::Error,
        };
        assert_eq!(Error::other(outer).to_string(), format!("outer: {inner}"));
        let twice = std::io::Error::other(inner.clone());
        assert_eq!(Error::from(twice).to_string(), inner);
    }

    /// The table of the protocol. Numbers are never given out anew.
    const CODES: [&str; 27] = [
        "Lost",
        "NotFound",
        "UnknownType",
        "UnknownMethod",
        "BadArguments",
        "Encoding",
        "Panicked",
        "Poisoned",
        "TimedOut",
        "Cancelled",
        "LimitExceeded",
        "Unavailable",
        "SessionExpired",
        "Protocol",
        "Nested",
        "WorkerDied",
        "TimeLimit",
        "MemoryLimit",
        "Platform",
        "Config",
        "Other",
        "OutOfBounds",
        "Broken",
        "LockLost",
        "Fenced",
        "Diverged",
        "Refused",
    ];

    #[test]
    fn the_bytes_of_each_error_begin_with_its_code() {
        // Codes of one byte.
        for code in 0..0x80u8 {
            // Zeros decode as the fields of any variant: empty strings, and numbers.
            let mut bytes = vec![0; 16];
            bytes[0] = code;
            let decoded = postcard::take_from_bytes::<Error>(&bytes).map(|(error, _)| error);
            let expected = CODES.get(usize::from(code)).copied();
            assert_eq!(
                decoded.as_ref().ok().map(|error| error.kind().name()),
                expected,
                "code {code}"
            );
            if let Ok(error) = decoded {
                assert_eq!(error.code(), u32::from(code));
            }
        }
    }

    #[test]
    fn a_limit_of_the_system_is_named_and_no_number_of_an_error() {
        for (number, expected) in [(11, "`ulimit -u`"), (24, "`ulimit -n`"), (12, "memory")] {
            let said = Error::from(std::io::Error::from_raw_os_error(number)).to_string();
            assert!(said.contains(expected), "{said}");
            assert!(!said.contains("os error"), "{said}");
        }
        let missing = std::io::Error::from_raw_os_error(2);
        assert_eq!(system_reason(&missing), "No such file or directory");
        assert_eq!(system_reason(&std::io::Error::other("x")), "x");
        #[derive(Debug, thiserror::Error)]
        #[error("the file: {}", system_reason(source))]
        struct OfFile {
            source: std::io::Error,
        }
        let said = Error::other(OfFile { source: missing }).to_string();
        assert_eq!(said, "the file: No such file or directory");
    }

    #[test]
    fn what_main_prints_is_the_message() {
        let error = Error::Config {
            detail: "wrong".to_owned(),
        };
        assert_eq!(format!("{error:?}"), "wrong");
    }
}
