//! Connections: each that is needed and not there has a thread that sees to it.

use std::sync::atomic::Ordering;
use std::sync::{Arc, Weak};

use crucial_local::files;
use crucial_object::{Error, Result};
use crucial_proto::Endpoint;

use super::handshake::{self, BRISK, Dialed, PATIENT, PAUSE_FIRST, PAUSE_LAST};
use super::link::Link;
use super::net::Net;
use super::outage::Outage;
use crate::session::{Fit, Introduction, Member};

impl Net {
    /// Sees to it that there is a connection to this server.
    pub fn connect(&self, link: &Arc<Link>) {
        if !self.session().begin_connecting(link.member) {
            return;
        }
        // The heartbeat thread looks for calls that wait for too long.
        self.waker.wake_urgently();
        let (net, of) = (self.weak(), link.clone());
        let thread =
            crucial_local::thread::start("crucial-connect", move || keep_dialing(&net, &of));
        if let Err(error) = thread {
            tracing::warn!(%error, "no thread to connect with");
            // The heartbeat thread tries again.
            self.session().give_up_connecting(link.member);
        }
    }

    /// Connects to the server of a link once. Gives `false` if the link needs another attempt.
    fn on_dialed(
        &self,
        link: &Arc<Link>,
        introduction: &Introduction,
        dialed: Result<Dialed>,
    ) -> bool {
        let connected = dialed.and_then(|dialed| {
            self.on_welcome(Some(link.member), &link.address, introduction, dialed)
        });
        let error = match connected {
            Ok(connected) => return connected.is_some_and(|other| Arc::ptr_eq(&other, link)),
            Err(error) => error,
        };
        tracing::debug!(address = link.address, %error, "no connection");
        match error {
            // The server is down, or starts, or does not know the run's owner yet.
            Error::Unavailable { reason, .. } => {
                self.session().on_connect_failed(link.member, reason);
            }
            Error::Fenced => self.end_with(&Error::Fenced),
            // Files are closed again.
            error if files::is_exhausted(&error) => {
                self.session()
                    .on_connect_failed(link.member, error.to_string());
            }
            error => {
                let failed = self.session().fail_at(link.member, error);
                self.fail(failed);
            }
        }
        false
    }

    /// A server that was reached at `reached`, where `member` is expected, has said welcome: takes its routes up, and
    /// the connection for the link to it, which is given back.
    fn on_welcome(
        &self,
        member: Option<Member>,
        reached: &str,
        introduction: &Introduction,
        dialed: Dialed,
    ) -> Result<Option<Arc<Link>>> {
        let welcome = &dialed.welcome;
        let fit = self.session().fit(member, welcome)?;
        match fit {
            Fit::Ours => self.on_routes(welcome.routes.clone(), reached)?,
            Fit::Another => self.on_other_cluster(reached, welcome.routes.clone())?,
        }
        // The server can be in another incarnation than the one that was dialed: then it has another link.
        let now = Member::of(&welcome.routes, welcome.node);
        let link = now.and_then(|member| self.link(member));
        if let Some(link) = &link {
            self.attach(link, introduction, dialed);
        }
        Ok(link)
    }

    /// Uses a connection for a link, and sends what waits for it.
    pub fn attach(&self, link: &Arc<Link>, introduction: &Introduction, dialed: Dialed) {
        if self.session().is_up(link.member) {
            // Whoever reads there would be waited for.
            return;
        }
        let mut reader = link.reader.lock();
        let taking = self.taking();
        let mut out = link.out();
        let mut frames = Vec::new();
        let now_ms = self.now_ms();
        let connected = self.session().on_connected(
            link.member,
            introduction,
            &dialed.welcome,
            now_ms,
            &mut frames,
        );
        let Some((connection, expired)) = connected else {
            return;
        };
        let socket = Arc::new(dialed.socket);
        link.connected(&mut out, socket.clone(), frames);
        reader.restart(socket, connection, dialed.rest);
        drop(out);
        drop(taking);
        self.fail(expired);
        if let Err(error) = self.hand_out(link, &mut reader) {
            self.on_lost(link, &mut reader, error.into());
        }
        self.pass_on(link, reader);
    }

    /// Tries the configured servers, as none of the members answers.
    pub fn probe_seeds(&self) {
        if self.probing.swap(true, Ordering::AcqRel) {
            return;
        }
        let introduction = self.session().introduction();
        let net = self.weak();
        let seeds: Vec<Endpoint> = self.config.candidates().collect();
        let spawned = crucial_local::thread::start("crucial-probe", move || {
            try_seeds(&net, &seeds, &introduction);
            if let Some(net) = net.upgrade() {
                net.probing.store(false, Ordering::Release);
            }
        });
        if spawned.is_err() {
            self.probing.store(false, Ordering::Release);
        }
    }
}

/// Runs until there is a connection, or it is not needed any more. It holds the client only while it does something.
fn keep_dialing(net: &Weak<Net>, link: &Arc<Link>) {
    let endpoint = link.address.parse::<Endpoint>();
    let mut pause = PAUSE_FIRST;
    let mut outage = Outage::begin();
    loop {
        let Some(strong) = net.upgrade() else { return };
        let introduction = strong.session().introduce(link.member);
        let Some(introduction) = introduction else {
            return;
        };
        let config = strong.config.clone();
        let is_alone = !strong.has_several();
        let limits = match is_alone {
            true => PATIENT,
            false => BRISK,
        };
        drop(strong);
        let dialed = endpoint.clone().and_then(|endpoint| {
            handshake::dial(&endpoint, &config, introduction.hello.clone(), limits)
        });
        let Some(strong) = net.upgrade() else { return };
        let failure = dialed.as_ref().err().map(Error::to_string);
        if strong.on_dialed(link, &introduction, dialed) {
            return outage.end(&config, &link.address);
        }
        drop(strong);
        if let Some(failure) = failure.filter(|_| is_alone) {
            outage.go_on(&config, &failure);
        }
        // Back-off, on a thread that only dials: nothing announces that a server has started.
        std::thread::sleep(pause);
        pause = (2 * pause).min(PAUSE_LAST);
    }
}

/// Goes through the seeds once, until one answers.
fn try_seeds(net: &Weak<Net>, seeds: &[Endpoint], introduction: &Introduction) {
    for endpoint in seeds {
        let Some(config) = net.upgrade().map(|net| net.config.clone()) else {
            return;
        };
        let dialed = handshake::dial(endpoint, &config, introduction.hello.clone(), BRISK);
        let Some(net) = net.upgrade() else { return };
        if let Ok(dialed) = dialed {
            let connected = net.on_welcome(None, &endpoint.to_string(), introduction, dialed);
            if matches!(connected, Ok(Some(_))) {
                return;
            }
        }
    }
}
