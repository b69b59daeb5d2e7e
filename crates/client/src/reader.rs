//! Replies: one thread at a time reads them for all.

use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use bytes::BytesMut;
use crucial_core::SpinPolicy;
use crucial_core::frame::{self, Response};
use crucial_object::{Error, Result};

use crate::Client;
use crate::pending::{Slot, Woken};
use crate::socket::Socket;

/// How much one read takes.
const READ_BYTES_MAX: usize = 128 << 10;

/// The state of whoever reads.
pub(crate) struct Reader {
    buffer: BytesMut,
    scratch: Box<[u8]>,
    spin: SpinPolicy,
}

impl Reader {
    /// A reader that has read `rest` already.
    pub fn new(rest: BytesMut) -> Reader {
        Reader {
            buffer: rest,
            scratch: vec![0; READ_BYTES_MAX].into(),
            spin: SpinPolicy::default(),
        }
    }

    /// Starts over on a new connection.
    pub fn restart(&mut self, rest: BytesMut) {
        self.buffer = rest;
    }
}

impl Client {
    /// Waits for the result of a call.
    pub(crate) fn wait(&self, slot: &Arc<Slot>) -> Result<Vec<u8>> {
        loop {
            if let Some(mut reader) = self.reader.try_lock() {
                self.read_until(&mut reader, None, || slot.is_done());
                self.pass_on(reader);
                return slot.take();
            }
            self.followers.lock().push(slot.clone());
            // The reader may have left before it could see this follower.
            if let Some(reader) = self.reader.try_lock() {
                self.pass_on(reader);
                if slot.is_done() {
                    return slot.take();
                }
                continue;
            }
            if let Woken::Done = slot.follow() {
                return slot.take();
            }
        }
    }

    /// Reads for all until `done`, or for `limit`.
    pub(crate) fn read_until(
        &self,
        reader: &mut Reader,
        limit: Option<Duration>,
        done: impl Fn() -> bool,
    ) {
        let start = Instant::now();
        while !done() {
            let socket = self.socket();
            if self.take_replies(reader, &socket) {
                continue;
            }
            let left = match limit {
                Some(limit) => match limit.checked_sub(start.elapsed()) {
                    Some(left) => Some(left),
                    None => return,
                },
                None => None,
            };
            self.wait_readable(reader, &socket, left);
        }
    }

    /// Reads once, if there is something within a moment.
    pub(crate) fn read_once(&self, reader: &mut Reader) {
        let socket = self.socket();
        if !self.take_replies(reader, &socket) {
            socket.wait(Some(Duration::from_millis(10)));
            self.take_replies(reader, &socket);
        }
    }

    fn wait_readable(&self, reader: &mut Reader, socket: &Socket, limit: Option<Duration>) {
        let spin = self.config.spin;
        if !spin.is_zero() && !socket.has_unsent() && reader.spin.should_spin() {
            let start = Instant::now();
            let mut found = false;
            while !found && start.elapsed() < spin {
                found = self.take_replies(reader, socket);
            }
            reader.spin.spun(found);
            if found {
                return;
            }
        }
        socket.wait(limit);
    }

    /// Reads what is there and hands it out; whether there was something.
    fn take_replies(&self, reader: &mut Reader, socket: &Socket) -> bool {
        let failure = match socket.read(&mut reader.scratch) {
            Ok(0) => "the server closed the connection".to_owned(),
            Ok(count) => {
                reader.buffer.extend_from_slice(&reader.scratch[..count]);
                match self.hand_out(reader) {
                    Ok(()) => return true,
                    Err(error) => {
                        // What was refused once would be refused again.
                        self.fail_all(&error);
                        error.to_string()
                    }
                }
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return false,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => return true,
            Err(error) => error.to_string(),
        };
        self.reconnect(reader, &failure);
        true
    }

    fn hand_out(&self, reader: &mut Reader) -> Result<()> {
        while let Some(frame) = frame::split(&mut reader.buffer, u32::MAX as usize)? {
            match frame::decode_response(frame)? {
                Response::Reply { sequence, result } => {
                    let slot = self.calls.lock().in_flight.remove(&sequence.0);
                    // It can be unknown: a call that was sent twice is answered twice.
                    if let Some(slot) = slot {
                        slot.complete(result.map(Into::into), &self.tasks);
                    }
                }
                Response::Refused(error) => return Err(error),
                Response::Welcome(_) => {
                    return Err(Error::Protocol {
                        detail: "a second welcome".to_owned(),
                    });
                }
            }
        }
        Ok(())
    }

    /// Fails all calls in flight.
    pub(crate) fn fail_all(&self, error: &Error) {
        let slots = std::mem::take(&mut self.calls.lock().in_flight);
        for slot in slots.into_values() {
            slot.complete(Err(error.clone()), &self.tasks);
        }
    }

    /// Whether tasks wait, for whom nobody reads but the keeper.
    pub(crate) fn has_tasks(&self) -> bool {
        self.tasks.load(Ordering::Acquire) > 0
    }
}
