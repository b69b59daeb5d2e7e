//! A connected socket that does not block, and what waits to be written to it.

use std::io::{self, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::UnixStream;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use parking_lot::{Mutex, MutexGuard};
use rustix::event::{PollFd, PollFlags, Timespec};

pub(crate) enum Stream {
    Tcp(TcpStream),
    Unix(UnixStream),
}

pub(crate) struct Socket {
    stream: Stream,
    /// What the socket has not taken yet.
    unsent: Mutex<Vec<u8>>,
    broken: AtomicBool,
}

impl Socket {
    pub fn new(stream: Stream) -> io::Result<Socket> {
        match &stream {
            Stream::Tcp(stream) => {
                stream.set_nodelay(true)?;
                stream.set_nonblocking(true)?;
            }
            Stream::Unix(stream) => stream.set_nonblocking(true)?,
        }
        Ok(Socket {
            stream,
            unsent: Mutex::default(),
            broken: AtomicBool::new(false),
        })
    }

    fn fd(&self) -> BorrowedFd<'_> {
        match &self.stream {
            Stream::Tcp(stream) => stream.as_fd(),
            Stream::Unix(stream) => stream.as_fd(),
        }
    }

    /// Reads what is there.
    pub fn read(&self, buffer: &mut [u8]) -> io::Result<usize> {
        match &self.stream {
            Stream::Tcp(stream) => (&*stream).read(buffer),
            Stream::Unix(stream) => (&*stream).read(buffer),
        }
    }

    fn write_some(&self, bytes: &[u8]) -> io::Result<usize> {
        match &self.stream {
            Stream::Tcp(stream) => (&*stream).write(bytes),
            Stream::Unix(stream) => (&*stream).write(bytes),
        }
    }

    /// Writes a frame behind those that wait; whether the socket took all of it. A broken socket takes
    /// everything: what was not answered is sent on the next.
    pub fn write(&self, frame: &[u8]) -> bool {
        let mut unsent = self.unsent.lock();
        if !unsent.is_empty() {
            unsent.extend_from_slice(frame);
            return self.flush_locked(&mut unsent);
        }
        let written = self.write_all_it_takes(frame);
        unsent.extend_from_slice(&frame[written..]);
        unsent.is_empty()
    }

    /// Writes what waits; whether that was all.
    pub fn flush(&self) -> bool {
        self.flush_locked(&mut self.unsent.lock())
    }

    /// The right to write, for who has more than one frame to write.
    pub fn lock(&self) -> MutexGuard<'_, Vec<u8>> {
        self.unsent.lock()
    }

    fn flush_locked(&self, unsent: &mut Vec<u8>) -> bool {
        let written = self.write_all_it_takes(unsent);
        unsent.drain(..written);
        unsent.is_empty()
    }

    fn write_all_it_takes(&self, bytes: &[u8]) -> usize {
        let mut written = 0;
        while written < bytes.len() {
            match self.write_some(&bytes[written..]) {
                Ok(count) if count > 0 => written += count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return written,
                _ => {
                    self.fail();
                    return bytes.len();
                }
            }
        }
        written
    }

    pub fn has_unsent(&self) -> bool {
        !self.is_broken() && !self.unsent.lock().is_empty()
    }

    /// Waits until the socket can be read, or written if something waits to be; or for `timeout`.
    pub fn wait(&self, timeout: Option<Duration>) {
        let mut flags = PollFlags::IN;
        if self.has_unsent() {
            flags |= PollFlags::OUT;
        }
        self.poll(flags, timeout);
        if flags.contains(PollFlags::OUT) {
            self.flush();
        }
    }

    /// Waits a moment for the socket to take more, and gives it more.
    pub fn wait_writable(&self) {
        self.poll(PollFlags::OUT, Some(Duration::from_millis(10)));
        self.flush();
    }

    fn poll(&self, flags: PollFlags, timeout: Option<Duration>) {
        let timeout = timeout.map(|timeout| Timespec {
            tv_sec: timeout.as_secs() as i64,
            tv_nsec: timeout.subsec_nanos().into(),
        });
        let fd = self.fd();
        // An interruption, or an error of the socket, shows at the next read.
        let _ = rustix::event::poll(&mut [PollFd::new(&fd, flags)], timeout.as_ref());
    }

    pub fn is_broken(&self) -> bool {
        self.broken.load(Ordering::Acquire)
    }

    /// Gives the connection up. Whoever reads from it sees its end.
    pub fn fail(&self) {
        self.broken.store(true, Ordering::Release);
        let _ = match &self.stream {
            Stream::Tcp(stream) => stream.shutdown(Shutdown::Both),
            Stream::Unix(stream) => stream.shutdown(Shutdown::Both),
        };
    }
}
