//! What a worker prints.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::io::{self, PipeReader, Read};
use std::rc::Rc;
use std::sync::Arc;

use tokio::io::unix::AsyncFd;

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
    fd: AsyncFd<PipeReader>,
    /// The beginning of a line.
    partial: RefCell<Vec<u8>>,
}

struct Lines {
    sink: Arc<dyn OutputSink>,
    thread: String,
    last: VecDeque<String>,
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
        while let Ok(mut ready) = pipe.fd.readable().await {
            if pipe.drain(&self.lines) {
                return;
            }
            ready.clear_ready();
        }
    }

    /// A new thread prints from here on.
    pub fn begin(&self, thread: &str) {
        let mut lines = self.lines.borrow_mut();
        thread.clone_into(&mut lines.thread);
        lines.last.clear();
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

    /// The last lines that the present thread printed.
    pub fn last_lines(&self) -> Vec<String> {
        self.lines.borrow().last.iter().cloned().collect()
    }
}

impl Pipe {
    fn new(stream: Stream, reader: PipeReader) -> io::Result<Pipe> {
        rustix::io::ioctl_fionbio(&reader, true)?;
        Ok(Pipe {
            stream,
            fd: AsyncFd::register(reader)?,
            partial: RefCell::default(),
        })
    }

    /// Reads what is there; whether the pipe has ended.
    fn drain(&self, lines: &RefCell<Lines>) -> bool {
        let mut buffer = [0; 16 << 10];
        loop {
            match self.fd.get_ref().read(&mut buffer) {
                Ok(0) => return true,
                Ok(count) => self.split(&buffer[..count], lines),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return error.kind() != io::ErrorKind::WouldBlock,
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
        if self.last.len() == LAST_LINES {
            self.last.pop_front();
        }
        self.last.push_back(line.into_owned());
    }
}
