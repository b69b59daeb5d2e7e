//! The client's own thread: gives signs of life, sends again what is to be sent again, sees to it that there are
//! connections, and reads where no other thread does.

use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use crucial_object::Result;
use rustix::event::{PollFd, PollFlags};

use super::link::Link;
use super::net::{Directory, Net};
use super::socket::{Socket, poll};
use crate::session::TICK_MS;

/// How many reads from one link may follow each other.
const READS_MAX: usize = 64;

/// For how long the thread reads for tasks from a single server before it looks around.
const READ_FOR_TASKS: Duration = Duration::from_millis(100);

pub(crate) fn start(net: &Arc<Net>) -> Result<()> {
    let weak = Arc::downgrade(net);
    crucial_local::thread::start("crucial-client", move || beat(&weak))?;
    Ok(())
}

/// Runs until the client is dropped. It holds the client only while it does something.
fn beat(net: &Weak<Net>) {
    let mut next_ms = 0;
    loop {
        let Some(strong) = net.upgrade() else { return };
        strong.look_around(&mut next_ms);
        let now_ms = strong.now_ms();
        let until_ms = strong.session().next_look_ms(now_ms);
        let until = strong.instant(until_ms);
        if !wait(strong, until) {
            return;
        }
    }
}

/// Waits until then, or until the client needs its thread. While tasks wait it reads for them. False if the thread is to
/// end.
fn wait(net: Arc<Net>, until: Instant) -> bool {
    let waker = net.waker.clone();
    if !net.has_tasks() {
        drop(net);
        return waker.wait(until);
    }
    let directory = net.directory();
    if let [only] = &directory.links[..] {
        return match net.read_for_tasks(only, until) {
            true => waker.end_wait(),
            false => {
                drop(net);
                waker.wait(until)
            }
        };
    }
    drop(net);
    let unread = unread(&directory);
    waker.wait_on(until, |woken, left| {
        let mut fds = vec![PollFd::from_borrowed_fd(woken, PollFlags::IN)];
        fds.extend(unread.iter().map(|(socket, link)| {
            let mut flags = PollFlags::IN;
            flags.set(PollFlags::OUT, link.has_backlog());
            PollFd::from_borrowed_fd(socket.fd(), flags)
        }));
        poll(&mut fds, Some(left));
    })
}

/// The sockets from which nobody reads now.
fn unread(directory: &Directory) -> Vec<(Arc<Socket>, Arc<Link>)> {
    let sockets = directory.links.iter().filter_map(|link| {
        let socket = link.reader.try_lock()?.socket()?.clone();
        // Whoever came meanwhile found the reader busy.
        link.appoint();
        Some((socket, link.clone()))
    });
    sockets.collect()
}

impl Net {
    /// Reads from the only server while tasks wait; false if there is nothing to read from.
    fn read_for_tasks(&self, link: &Arc<Link>, until: Instant) -> bool {
        let until = until.min(Instant::now() + READ_FOR_TASKS);
        // While a thread reads for itself it reads for the tasks as well.
        let Some(mut reader) = link.reader.try_lock_until(until) else {
            return true;
        };
        let is_up = reader.is_up();
        self.read_until(link, &mut reader, Some(until), || {
            !self.has_tasks() || self.waker.is_urgent()
        });
        drop(reader);
        link.appoint();
        is_up
    }

    fn look_around(&self, next_ms: &mut u64) {
        let directory = self.directory();
        for link in &directory.links {
            self.read_for_nobody(link);
            if link.take_heard() {
                let now_ms = self.now_ms();
                self.session().on_heard(link.member, now_ms);
            }
        }
        let now_ms = self.now_ms();
        self.give_signs(now_ms);
        self.send_due(&directory, now_ms);
        if now_ms < *next_ms {
            return;
        }
        *next_ms = now_ms + TICK_MS;
        self.fail_overdue(now_ms);
        self.connect_wanted();
        let lacks_news = self.session().lacks_news(now_ms);
        if lacks_news {
            self.connect_all(&directory);
        }
        let probes = self.session().begin_probing(now_ms);
        if probes {
            self.probe_seeds();
        }
    }

    /// Reads from a link what is there, unless somebody does.
    fn read_for_nobody(&self, link: &Arc<Link>) {
        if link.has_backlog() {
            link.flush(&mut link.out());
        }
        let Some(mut reader) = link.reader.try_lock() else {
            return;
        };
        for _ in 0..READS_MAX {
            if !self.take_replies(link, &mut reader) {
                break;
            }
        }
        drop(reader);
        link.appoint();
    }

    /// Tells servers that the client lives.
    fn give_signs(&self, now_ms: u64) {
        let due = self.session().signs_due(now_ms);
        for link in due.into_iter().filter_map(|member| self.link(member)) {
            link.write_with(&mut link.out(), |unsent| {
                self.session().write_sign(link.member, now_ms, unsent);
            });
        }
    }

    /// Sends again what was answered "moved", and has waited for a moment.
    fn send_due(&self, directory: &Directory, now_ms: u64) {
        let due = self.session().due(now_ms);
        let Some(due) = due else { return };
        if due.lacks_routes {
            self.connect_all(directory);
        }
        for link in &directory.links {
            link.write_with(&mut link.out(), |unsent| {
                self.session().send_due(&due, link.member, unsent);
            });
        }
        self.session().postpone_due(now_ms);
    }

    /// Fails calls that could not be sent for too long.
    fn fail_overdue(&self, now_ms: u64) {
        let overdue = self.session().take_overdue(self.config.patience, now_ms);
        for (call, error) in overdue {
            call.waiter.complete(Err(error), &self.tasks);
        }
    }

    fn connect_all(&self, directory: &Directory) {
        directory.links.iter().for_each(|link| self.connect(link));
    }
}
