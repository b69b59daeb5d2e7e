//! Threads that the machine may refuse.

use std::io;
use std::thread::{Builder, JoinHandle};

use crucial_object::system_reason;
use rustix::process::{Resource, getrlimit};

/// Starts a thread with a name.
///
/// # Errors
///
/// The machine refuses it: the error says so in words that a user understands, as that of the system is about something
/// else ("Resource temporarily unavailable").
pub fn start<T: Send + 'static>(
    name: &str,
    run: impl FnOnce() -> T + Send + 'static,
) -> io::Result<JoinHandle<T>> {
    let thread = Builder::new().name(name.to_owned());
    thread.spawn(run).map_err(|error| refused(name, &error))
}

/// The error of a thread that could not be started, in words that a user understands.
pub fn refused(name: &str, error: &io::Error) -> io::Error {
    let reason = reason(error);
    io::Error::new(
        error.kind(),
        format!("cannot start the thread {name}: {reason}"),
    )
}

/// Why the machine refuses a thread or a process, with the number that is needed.
pub fn reason(error: &io::Error) -> String {
    let reason = system_reason(error);
    match error.kind() {
        io::ErrorKind::WouldBlock => reason + &number_of_processes(),
        _ => reason,
    }
}

/// Threads and processes of a program with a server of its own and one worker, besides a thread of the server for each core.
const PROCESSES: usize = 16;

/// The limit of processes and threads, in numbers.
fn number_of_processes() -> String {
    let cores = std::thread::available_parallelism().map_or(1, Into::into);
    let needed = PROCESSES + cores;
    match getrlimit(Resource::Nproc).current {
        Some(most) => format!(
            ": all that this user runs may have {most}, and a program with a worker needs {needed}"
        ),
        None => format!(
            ": a program with a worker needs {needed}, and a container has a limit of its own"
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_machine_refuses_is_said_in_words() {
        let named = start("crucial-named", || {
            std::thread::current().name().map(str::to_owned)
        });
        assert_eq!(
            named.unwrap().join().unwrap().as_deref(),
            Some("crucial-named")
        );
        for (number, limit) in [
            (rustix::io::Errno::AGAIN, "`ulimit -u`"),
            (rustix::io::Errno::NOMEM, "`ulimit -v`"),
        ] {
            let said = refused("crucial-named", &number.into()).to_string();
            assert!(
                said.contains("crucial-named") && said.contains(limit),
                "{said}"
            );
            assert!(!said.contains("os error"), "{said}");
        }
    }
}
