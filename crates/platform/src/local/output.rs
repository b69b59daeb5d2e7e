//! What a worker prints.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::io::{self, PipeReader};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::rc::Rc;
use std::sync::Arc;

use rustix::io::Errno;
use tokio::net::unix::pipe::Receiver;

use crate::{OutputSink, Stream};

/// A longer line is cut into pieces.
const LINE_BYTES_MAX: usize = 64 << 10;

/// How many of its last lines tell how a worker died.
const LAST_LINES: usize = 10;

/// At most so much is read from a pipe before others have their turn.
const READ_BYTES_MAX: usize = 256 << 10;

/// The lines of one worker.
pub(super) struct Output {
    pipes: [Pipe; 2],
    lines: RefCell<Lines>,
}

struct Pipe {
    stream: Stream,
    fd: Receiver,
    /// The most that it holds.
    capacity: usize,
    /// The beginning of a line.
    partial: RefCell<Vec<u8>>,
}

struct Lines {
    sink: Arc<dyn OutputSink>,
    /// Who prints between invocations.
    worker: String,
    thread: Option<String>,
    last: VecDeque<String>,
    starved: bool,
}

/// What a pipe had.
#[derive(PartialEq, Eq)]
enum Read {
    /// All is read that there was.
    Empty,
    /// There may be more.
    More,
    /// Nothing will come any more.
    End,
}

impl Output {
    pub fn new(
        stdout: PipeReader,
        stderr: PipeReader,
        worker: String,
        sink: Arc<dyn OutputSink>,
    ) -> io::Result<Rc<Output>> {
        let output = Rc::new(Output {
            pipes: [
                Pipe::new(Stream::Stdout, stdout)?,
                Pipe::new(Stream::Stderr, stderr)?,
            ],
            lines: RefCell::new(Lines {
                sink,
                worker,
                thread: None,
                last: VecDeque::new(),
                starved: false,
            }),
        });
        for index in 0..output.pipes.len() {
            let output = output.clone();
            tokio::task::spawn_local(async move { output.follow(index).await });
        }
        Ok(output)
    }

    /// Reads a pipe until its end.
    async fn follow(&self, index: usize) {
        let pipe = &self.pipes[index];
        while pipe.fd.readable().await.is_ok() {
            // The runtime learns from the error that there is no more for now.
            let read = pipe
                .fd
                .try_io(|| match pipe.read(READ_BYTES_MAX, &self.lines) {
                    Read::Empty => Err(io::ErrorKind::WouldBlock.into()),
                    read => Ok(read),
                });
            match read {
                Ok(Read::End) => return,
                Ok(_) => tokio::task::yield_now().await,
                Err(_) => {}
            }
        }
    }

    /// A thread prints from here on.
    pub fn begin(&self, thread: &str) {
        self.take_in();
        let mut lines = self.lines.borrow_mut();
        lines.thread = Some(thread.to_owned());
        lines.last.clear();
        lines.starved = false;
    }

    /// The thread has printed all that it will: takes that in; a line that has not ended ends here.
    pub fn finish(&self) {
        self.take_in();
        self.lines.borrow_mut().thread = None;
    }

    fn take_in(&self) {
        for pipe in &self.pipes {
            // No more than that was printed before; what comes meanwhile could go on for ever.
            pipe.read(pipe.capacity, &self.lines);
            let partial = std::mem::take(&mut *pipe.partial.borrow_mut());
            if !partial.is_empty() {
                self.lines.borrow_mut().line(pipe.stream, &partial);
            }
        }
    }

    /// The last lines that were printed, since the last thread began.
    pub fn last_lines(&self) -> Vec<String> {
        self.lines.borrow().last.iter().cloned().collect()
    }

    /// Whether Rust said that an allocation was refused, since the last thread began. (Not looked for among
    /// the last lines: a backtrace may follow.)
    pub fn is_starved(&self) -> bool {
        self.lines.borrow().starved
    }
}

impl Pipe {
    fn new(stream: Stream, reader: PipeReader) -> io::Result<Pipe> {
        let capacity = rustix::pipe::fcntl_getpipe_size(&reader)?;
        Ok(Pipe {
            stream,
            fd: Receiver::from_owned_fd(reader.into())?,
            capacity,
            partial: RefCell::default(),
        })
    }

    /// Reads what is there, and stops at `bytes_max` or soon after.
    fn read(&self, bytes_max: usize, lines: &RefCell<Lines>) -> Read {
        let mut buffer = [0; 16 << 10];
        let mut total = 0;
        while total < bytes_max {
            // Not through the runtime, which may not know yet that there is something.
            match rustix::io::read(&self.fd, &mut buffer) {
                Ok(0) => return Read::End,
                Ok(count) => {
                    total += count;
                    self.split(&buffer[..count], lines);
                }
                Err(Errno::INTR) => {}
                Err(Errno::WOULDBLOCK) => return Read::Empty,
                Err(_) => return Read::End,
            }
        }
        Read::More
    }

    fn split(&self, mut bytes: &[u8], lines: &RefCell<Lines>) {
        let mut partial = self.partial.borrow_mut();
        while !bytes.is_empty() {
            let room = LINE_BYTES_MAX - partial.len();
            let window = &bytes[..bytes.len().min(room + 1)];
            let newline = window.iter().position(|byte| *byte == b'\n');
            let (length, rest) = match newline {
                Some(at) => (at, at + 1),
                None if window.len() > room => (room, room),
                None => return partial.extend_from_slice(bytes),
            };
            partial.extend_from_slice(&bytes[..length]);
            bytes = &bytes[rest..];
            let cut = newline.is_none();
            let begun = if cut { begun_character(&partial) } else { 0 };
            let end = partial.len() - begun;
            lines.borrow_mut().line(self.stream, &partial[..end]);
            partial.drain(..end);
        }
    }
}

/// How many bytes at the end are the beginning of a character of UTF-8.
fn begun_character(bytes: &[u8]) -> usize {
    let is_first = |byte: u8| byte >= 0xc0;
    let last = bytes.iter().rev().take(3);
    match last.enumerate().find(|(_, byte)| is_first(**byte)) {
        // The first byte says how many there are.
        Some((after, first)) if first.leading_ones() as usize > after + 1 => after + 1,
        _ => 0,
    }
}

impl Lines {
    fn line(&mut self, stream: Stream, bytes: &[u8]) {
        let line = String::from_utf8_lossy(bytes);
        let thread = self.thread.as_ref().unwrap_or(&self.worker);
        let told = catch_unwind(AssertUnwindSafe(|| self.sink.line(stream, thread, &line)));
        if told.is_err() {
            tracing::error!("the sink for what workers print panicked");
        }
        self.starved |= stream == Stream::Stderr
            && line.ends_with(" bytes failed")
            && line.contains("memory allocation of ");
        if self.last.len() == LAST_LINES {
            self.last.pop_front();
        }
        self.last.push_back(line.into_owned());
    }
}
