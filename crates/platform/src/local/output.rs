//! Reads the output of workers, line by line.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::io::{self, PipeReader};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::rc::Rc;
use std::sync::Arc;

use rustix::io::Errno;
use tokio::net::unix::pipe::Receiver;

use crate::sink::{OutputSink, Stream};

/// A longer line is cut into pieces.
const LINE_BYTES_MAX: usize = 64 << 10;

/// How many of a dead worker's last lines are part of its failure.
const LAST_LINES: usize = 10;

/// Most bytes that are read from a pipe before other tasks run.
const READ_BYTES_MAX: usize = 256 << 10;

/// The lines of one worker.
pub(super) struct Output {
    pipes: [Pipe; 2],
    lines: RefCell<Lines>,
}

struct Pipe {
    stream: Stream,
    fd: Receiver,
    /// The pipe's capacity, in bytes.
    capacity: usize,
    /// The beginning of a line that has not ended.
    partial: RefCell<Vec<u8>>,
}

struct Lines {
    sink: Arc<dyn OutputSink>,
    /// The prefix of lines that are printed between invocations.
    worker: String,
    thread: Option<String>,
    last: VecDeque<String>,
    /// Whether an allocation failed.
    out_of_memory: bool,
}

/// How a read of a pipe ended.
#[derive(PartialEq, Eq)]
enum Read {
    /// The pipe is empty.
    Empty,
    /// The pipe may contain more.
    More,
    /// The pipe is closed.
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
                out_of_memory: false,
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
            // The error tells the runtime to wait until the pipe is readable again.
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

    /// Begins an invocation: the following lines are printed by `thread`.
    pub fn begin(&self, thread: &str) {
        self.flush();
        let mut lines = self.lines.borrow_mut();
        lines.thread = Some(thread.to_owned());
        lines.last.clear();
        lines.out_of_memory = false;
    }

    /// Ends an invocation: reads the rest of its output, and completes an unfinished line.
    pub fn finish(&self) {
        self.flush();
        self.lines.borrow_mut().thread = None;
    }

    /// Reads what the pipes contain, and ends unfinished lines.
    fn flush(&self) {
        for pipe in &self.pipes {
            // At most the pipe's capacity was printed before now. Output that arrives during the loop could be
            // endless.
            pipe.read(pipe.capacity, &self.lines);
            let partial = std::mem::take(&mut *pipe.partial.borrow_mut());
            if !partial.is_empty() {
                self.lines.borrow_mut().line(pipe.stream, &partial);
            }
        }
    }

    /// The last lines printed since the last invocation began.
    pub fn last_lines(&self) -> Vec<String> {
        self.lines.borrow().last.iter().cloned().collect()
    }

    /// Whether Rust's message about a failed allocation was printed since the last invocation began. The message
    /// need not be among the last lines, since a backtrace may follow it.
    pub fn is_out_of_memory(&self) -> bool {
        self.lines.borrow().out_of_memory
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

    /// Reads the pipe until it is empty, but not much more than `bytes_max` bytes.
    fn read(&self, bytes_max: usize, lines: &RefCell<Lines>) -> Read {
        let mut buffer = [0; 16 << 10];
        let mut total = 0;
        while total < bytes_max {
            // A direct system call: the runtime may not have noticed yet that the pipe is readable.
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
            let incomplete = if cut {
                incomplete_character_len(&partial)
            } else {
                0
            };
            let end = partial.len() - incomplete;
            lines.borrow_mut().line(self.stream, &partial[..end]);
            partial.drain(..end);
        }
    }
}

/// The number of bytes at the end that begin a UTF-8 character but do not complete it.
fn incomplete_character_len(bytes: &[u8]) -> usize {
    let is_first = |byte: u8| byte >= 0xc0;
    let last = bytes.iter().rev().take(3);
    match last.enumerate().find(|(_, byte)| is_first(**byte)) {
        // The first byte encodes the character's length.
        Some((after, first)) if first.leading_ones() as usize > after + 1 => after + 1,
        _ => 0,
    }
}

impl Lines {
    fn line(&mut self, stream: Stream, bytes: &[u8]) {
        let line = String::from_utf8_lossy(bytes);
        let thread = self.thread.as_ref().unwrap_or(&self.worker);
        let written = catch_unwind(AssertUnwindSafe(|| self.sink.line(stream, thread, &line)));
        if written.is_err() {
            tracing::error!("the output sink panicked");
        }
        self.out_of_memory |= stream == Stream::Stderr
            && line.ends_with(" bytes failed")
            && line.contains("memory allocation of ");
        if self.last.len() == LAST_LINES {
            self.last.pop_front();
        }
        self.last.push_back(line.into_owned());
    }
}
