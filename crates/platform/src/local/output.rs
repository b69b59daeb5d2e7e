//! What a worker prints.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::io::{self, PipeReader};
use std::rc::Rc;
use std::sync::Arc;

use rustix::io::Errno;
use tokio::net::unix::pipe::Receiver;

use crate::{OutputSink, Stream};

/// A longer line is cut into pieces.
const LINE_BYTES_MAX: usize = 64 << 10;

/// How many of its last lines tell how a worker died.
const LAST_LINES: usize = 10;

/// The lines of one worker.
pub(super) struct Output {
    pipes: [Pipe; 2],
    lines: RefCell<Lines>,
}

struct Pipe {
    stream: Stream,
    fd: Receiver,
    /// The beginning of a line.
    partial: RefCell<Vec<u8>>,
}

struct Lines {
    sink: Arc<dyn OutputSink>,
    thread: String,
    last: VecDeque<String>,
    /// It said that an allocation failed.
    starved: bool,
}

impl Output {
    pub fn new(
        stdout: PipeReader,
        stderr: PipeReader,
        thread: String,
        sink: Arc<dyn OutputSink>,
    ) -> io::Result<Rc<Output>> {
        let output = Rc::new(Output {
            pipes: [
                Pipe::new(Stream::Stdout, stdout)?,
                Pipe::new(Stream::Stderr, stderr)?,
            ],
            lines: RefCell::new(Lines {
                sink,
                thread,
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
            let ended = pipe.fd.try_io(|| match pipe.drain(&self.lines) {
                true => Ok(()),
                false => Err(io::ErrorKind::WouldBlock.into()),
            });
            if ended.is_ok() {
                return;
            }
        }
    }

    /// A new thread prints from here on.
    pub fn begin(&self, thread: &str) {
        let mut lines = self.lines.borrow_mut();
        thread.clone_into(&mut lines.thread);
        lines.last.clear();
        lines.starved = false;
    }

    /// Takes in all that was printed up to now; a line that has not ended ends here.
    pub fn finish(&self) {
        for pipe in &self.pipes {
            pipe.drain(&self.lines);
            let partial = std::mem::take(&mut *pipe.partial.borrow_mut());
            if !partial.is_empty() {
                self.lines.borrow_mut().line(pipe.stream, &partial);
            }
        }
    }

    /// Whether the present thread died of a failed allocation, as Rust reports it.
    pub fn is_starved(&self) -> bool {
        self.lines.borrow().starved
    }

    /// The last lines that the present thread printed.
    pub fn last_lines(&self) -> Vec<String> {
        self.lines.borrow().last.iter().cloned().collect()
    }
}

impl Pipe {
    fn new(stream: Stream, reader: PipeReader) -> io::Result<Pipe> {
        Ok(Pipe {
            stream,
            fd: Receiver::from_owned_fd(reader.into())?,
            partial: RefCell::default(),
        })
    }

    /// Reads what is there; whether the pipe has ended.
    fn drain(&self, lines: &RefCell<Lines>) -> bool {
        let mut buffer = [0; 16 << 10];
        loop {
            // Not through the runtime, which may not know yet that there is something.
            match rustix::io::read(&self.fd, &mut buffer) {
                Ok(0) => return true,
                Ok(count) => self.split(&buffer[..count], lines),
                Err(Errno::INTR) => {}
                Err(error) => return error != Errno::WOULDBLOCK,
            }
        }
    }

    fn split(&self, bytes: &[u8], lines: &RefCell<Lines>) {
        let mut partial = self.partial.borrow_mut();
        for piece in bytes.split_inclusive(|byte| *byte == b'\n') {
            partial.extend_from_slice(piece);
            if partial.ends_with(b"\n") || partial.len() >= LINE_BYTES_MAX {
                if partial.ends_with(b"\n") {
                    partial.pop();
                }
                lines.borrow_mut().line(self.stream, &partial);
                partial.clear();
            }
        }
    }
}

impl Lines {
    fn line(&mut self, stream: Stream, bytes: &[u8]) {
        let line = String::from_utf8_lossy(bytes);
        self.sink.line(stream, &self.thread, &line);
        self.starved |= line.starts_with("memory allocation of ") && line.ends_with(" bytes failed");
        if self.last.len() == LAST_LINES {
            self.last.pop_front();
        }
        self.last.push_back(line.into_owned());
    }
}
