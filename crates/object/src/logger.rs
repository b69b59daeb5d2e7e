//! A log that many threads write and the client reads.

use std::collections::VecDeque;
use std::fmt;
use std::task::Poll;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::valid::is_new;
use crate::{Wake, shared};

/// Lines that threads write, wherever they run, in one order, with thread and time; whoever follows it sees
/// them as they come.
///
/// What a cloud thread prints appears at the client anyway. A logger is for what should be kept, be in one order, or
/// be seen by another program.
///
/// It keeps the last `capacity` lines; who reads too slowly is told how many it has missed.
///
/// ```
/// use crucial::{Logger, Shared};
///
/// let log = Shared::new(Logger::default())?;
/// log.log("begun")?;
/// log.log(format!("{} of {}", 1, 2))?;
/// let lines = log.lines()?;
/// assert_eq!((lines.len(), lines[1].text.as_str()), (2, "1 of 2"));
/// # Ok::<(), crucial::Error>(())
/// ```
#[derive(Clone, Debug, Serialize, Deserialize)]
#[doc(alias = "SharedLogger")]
pub struct Logger {
    lines: VecDeque<LogLine>,
    capacity: u64,
    /// The number of the next line.
    next: u64,
}

/// A line of a [`Logger`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LogLine {
    /// Its number, from 0.
    pub number: u64,
    /// The cloud thread, or thread, that wrote it.
    pub thread: String,
    /// When, by the clock of the thread's machine, since 1970.
    pub time: Duration,
    /// What it says.
    pub text: String,
}

/// `[thread] 12:34:56.789 text`, in UTC.
impl fmt::Display for LogLine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let seconds = self.time.as_secs();
        let (hours, minutes) = (seconds / 3600 % 24, seconds / 60 % 60);
        let milliseconds = self.time.subsec_millis();
        write!(
            f,
            "[{}] {hours:02}:{minutes:02}:{:02}.{milliseconds:03} {}",
            self.thread,
            seconds % 60,
            self.text
        )
    }
}

impl Logger {
    /// Lines that a logger keeps by default.
    pub const CAPACITY: u64 = 10_000;

    /// A logger that keeps the last [`Logger::CAPACITY`] lines.
    pub const fn new() -> Logger {
        Logger::with_capacity(Logger::CAPACITY)
    }

    /// A logger that keeps the last `capacity` lines, at least one.
    pub const fn with_capacity(capacity: u64) -> Logger {
        Logger {
            lines: VecDeque::new(),
            capacity: if capacity == 0 { 1 } else { capacity },
            next: 0,
        }
    }
}

impl Default for Logger {
    fn default() -> Self {
        Logger::new()
    }
}

#[shared(name = "crucial::Logger", crate = crate)]
impl Logger {
    /// Nothing was written.
    #[valid]
    fn valid(&self) -> Result<(), String> {
        is_new(self.lines.is_empty() && self.next == 0, "no lines")?;
        is_new(self.capacity > 0, "room for a line")
    }

    /// Appends a line.
    fn append(&mut self, thread: String, time: Duration, text: String) {
        if self.lines.len() as u64 >= self.capacity {
            self.lines.pop_front();
        }
        self.lines.push_back(LogLine {
            number: self.next,
            thread,
            time,
            text,
        });
        self.next += 1;
    }

    /// The lines from the number `from` on; blocks until there is one.
    pub fn read(&self, from: u64) -> Poll<Vec<LogLine>> {
        if from >= self.next {
            return Poll::Pending;
        }
        let lines = self.lines.iter().filter(|line| line.number >= from);
        Poll::Ready(lines.cloned().collect())
    }

    /// The lines that are kept.
    pub fn lines(&self) -> Vec<LogLine> {
        self.lines.iter().cloned().collect()
    }

    /// At most `count` of the lines that are kept, from the number `from` on.
    pub fn page(&self, from: u64, count: u64) -> Vec<LogLine> {
        let lines = self.lines.iter().filter(|line| line.number >= from);
        let count = usize::try_from(count).unwrap_or(usize::MAX);
        lines.take(count).cloned().collect()
    }

    /// How many lines were written, kept or not.
    pub fn len(&self) -> u64 {
        self.next
    }

    /// Whether nothing was written.
    pub fn is_empty(&self) -> bool {
        self.next == 0
    }

    /// A line wakes all who read.
    #[wake]
    fn wake(&self) -> Wake {
        Wake::All
    }
}

#[cfg(not(target_family = "wasm"))]
pub use follow::Follower;

#[cfg(not(target_family = "wasm"))]
mod follow {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicU64, Ordering};
    use std::thread::JoinHandle;
    use std::time::{Duration, SystemTime};

    use super::{LogLine, Logger};
    use crate::{Error, Result, Shared, caller};

    /// A follower looks this often whether it is to end.
    const LOOK: Duration = Duration::from_millis(50);

    /// No end yet.
    const OPEN: u64 = u64::MAX;

    impl Shared<Logger> {
        /// Writes a line, with this thread's name and the time.
        #[doc(alias("info", "println"))]
        pub fn log(&self, text: impl Into<String>) -> Result<()> {
            let time = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
            let thread = caller::thread_name().to_string();
            self.append(thread, time.unwrap_or_default(), text.into())
        }

        /// Gives each line to `sink`, from the oldest that is kept on, in a thread of this process, until the
        /// follower is dropped.
        pub fn follow(&self, mut sink: impl FnMut(&LogLine) + Send + 'static) -> Result<Follower> {
            let caller = caller::current()?;
            let logger = self.with_timeout(LOOK);
            let end = Arc::new(AtomicU64::new(OPEN));
            let until = end.clone();
            let thread = std::thread::Builder::new()
                .name("crucial-logger".to_owned())
                .spawn(move || {
                    caller::with(caller, || {
                        let mut next = 0;
                        while next < until.load(Ordering::Acquire) {
                            match logger.read(next) {
                                Ok(lines) => {
                                    lines.iter().for_each(&mut sink);
                                    next = lines.last().map_or(next, |line| line.number + 1);
                                }
                                Err(Error::TimedOut { .. }) => {}
                                // The logger is gone, and so are its lines.
                                Err(_) => return,
                            }
                        }
                    });
                })?;
            Ok(Follower {
                logger: self.clone(),
                end,
                thread: Some(thread),
            })
        }

        /// Prints each line, as `[thread] time text`, until the follower is dropped.
        pub fn print(&self) -> Result<Follower> {
            self.follow(|line| println!("{line}"))
        }
    }

    /// Reads a [`Logger`]. When it is dropped, it first hands out what was written until then.
    #[must_use = "it reads until it is dropped"]
    #[derive(Debug)]
    pub struct Follower {
        logger: Shared<Logger>,
        end: Arc<AtomicU64>,
        thread: Option<JoinHandle<()>>,
    }

    impl Drop for Follower {
        fn drop(&mut self) {
            // If there is no server any more, nothing is left to read.
            self.end
                .store(self.logger.len().unwrap_or(0), Ordering::Release);
            if let Some(thread) = self.thread.take() {
                let _ = thread.join();
            }
        }
    }
}
