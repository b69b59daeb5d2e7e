//! Threads that the machine may refuse.

use std::io;
use std::thread::{Builder, JoinHandle};

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

fn refused(name: &str, error: &io::Error) -> io::Error {
    let why = match error.kind() {
        io::ErrorKind::WouldBlock | io::ErrorKind::OutOfMemory => {
            "the machine has no memory or no process for it left: look at `ulimit -u`, `ulimit -v` and the limits of the \
             container"
                .to_owned()
        }
        _ => error.to_string(),
    };
    io::Error::new(
        error.kind(),
        format!("cannot start the thread {name}: {why}"),
    )
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
        for number in [rustix::io::Errno::AGAIN, rustix::io::Errno::NOMEM] {
            let said = refused("crucial-named", &number.into()).to_string();
            assert!(
                said.contains("crucial-named") && said.contains("ulimit -u"),
                "{said}"
            );
            assert!(!said.contains("os error"), "{said}");
        }
    }
}
