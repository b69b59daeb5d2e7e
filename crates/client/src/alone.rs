//! A server that is alone: whoever reads connects again, and all wait for it meanwhile.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Instant;

use crucial_object::Error;

use crate::Client;
use crate::handshake::{self, Dialed, PATIENT, PAUSE_FIRST, PAUSE_LAST};
use crate::link::{Link, State};
use crate::reader::Reader;

impl Client {
    /// The connection broke: makes another, and sends on it what was not answered. If that takes
    /// longer than the client's patience, or the server has forgotten the session, the calls in flight
    /// fail.
    pub(crate) fn reconnect(&self, link: &Arc<Link>, reader: &mut Reader, failure: &str) {
        link.cut();
        tracing::debug!(endpoint = %self.endpoint, failure, "connection lost");
        let started = Instant::now();
        let mut pause = PAUSE_FIRST;
        loop {
            if let Some(ended) = self.ended.get() {
                return self.fail_all(ended);
            }
            let mut hello = handshake::hello(&self.config, self.session);
            hello.resume = true;
            hello.attempt = *self.attempt.lock();
            match handshake::dial(&self.endpoint, &self.config, hello, PATIENT)
                .map_err(|rejected| rejected.error)
            {
                Ok(dialed) if !handshake::is_alone(&dialed.welcome.routes) => {
                    return self.fail_all(&Error::Protocol {
                        detail: "the server is part of a cluster now, and was alone".to_owned(),
                    });
                }
                Ok(dialed) => return self.resume(link, reader, dialed),
                Err(Error::Unavailable { .. })
                    if started.elapsed() + pause < self.config.patience =>
                {
                    // Not for synchronisation: a server that is starting again needs a moment.
                    std::thread::sleep(pause);
                    pause = (2 * pause).min(PAUSE_LAST);
                }
                Err(error) => {
                    // A thread that was fenced stays so.
                    if error == Error::Fenced {
                        self.end(Error::Fenced);
                    }
                    return self.fail_all(&error);
                }
            }
        }
    }

    fn resume(&self, link: &Arc<Link>, reader: &mut Reader, dialed: Dialed) {
        let welcome = &dialed.welcome;
        self.frame_bytes_max
            .store(welcome.frame_bytes_max as usize, Ordering::Relaxed);
        link.lease_ms.store(welcome.lease_ms, Ordering::Relaxed);
        if !welcome.resumed {
            self.fail_all(&Error::SessionExpired);
        }
        // A call that is made meanwhile comes behind the old ones.
        let mut out = link.out();
        if out.state == State::Closed {
            return;
        }
        let socket = Arc::new(dialed.socket);
        link.connected(&mut out, socket.clone(), self.next_connection());
        reader.restart(socket, out.connection, dialed.rest);
        self.calls.lock().send(link, &mut out, |_| true);
        link.flush(&mut out);
    }
}
