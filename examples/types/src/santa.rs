//! The Santa Claus problem (§6.3.3 of the paper): its monitors, and what happened.

mod event;

use std::task::Poll;

use crucial::shared;
use serde::{Deserialize, Serialize};

pub use event::{Event, Kind};

/// The helpers of one kind that wait for Santa, or are with him.
#[derive(Serialize, Deserialize)]
pub struct Group {
    size: u64,
    members: u64,
    round: u64,
    closed: bool,
}

impl Group {
    /// An empty group, of at most `size`.
    pub fn new(size: u64) -> Group {
        Group {
            size,
            members: 0,
            round: 0,
            closed: false,
        }
    }
}

/// Where helpers wait for Santa, and Santa waits for helpers.
#[derive(Serialize, Deserialize)]
pub struct Lobby {
    /// They deliver toys when all are there.
    pub reindeer: Group,
    /// They consult Santa, a few at a time.
    pub elves: Group,
}

impl Lobby {
    fn group(&mut self, kind: Kind) -> &mut Group {
        match kind {
            Kind::Reindeer => &mut self.reindeer,
            Kind::Elf => &mut self.elves,
        }
    }
}

#[shared]
impl Lobby {
    /// A helper joins its group when there is room; `None` when everybody goes home.
    pub fn join(&mut self, kind: Kind) -> Poll<Option<u64>> {
        let group = self.group(kind);
        if group.closed {
            return Poll::Ready(None);
        }
        if group.members == group.size {
            return Poll::Pending;
        }
        group.members += 1;
        Poll::Ready(Some(group.round))
    }

    /// Santa sleeps until a group is complete. Reindeer go first.
    pub fn sleep(&self) -> Poll<Kind> {
        if self.reindeer.members == self.reindeer.size {
            Poll::Ready(Kind::Reindeer)
        } else if self.elves.members == self.elves.size {
            Poll::Ready(Kind::Elf)
        } else {
            Poll::Pending
        }
    }

    /// The group is done, and others may join.
    pub fn dismiss(&mut self, kind: Kind) {
        let group = self.group(kind);
        group.members = 0;
        group.round += 1;
    }

    /// Everybody goes home.
    pub fn close(&mut self) {
        self.reindeer.closed = true;
        self.elves.closed = true;
    }
}

/// A gate lets a whole group through when Santa opens it.
#[derive(Default, Serialize, Deserialize)]
pub struct Gate {
    free: u64,
    closed: bool,
}

#[shared]
impl Gate {
    /// A helper waits for the gate, and goes through; false when everybody goes home.
    pub fn pass(&mut self) -> Poll<bool> {
        if self.free == 0 && !self.closed {
            return Poll::Pending;
        }
        self.free -= u64::from(!self.closed);
        Poll::Ready(!self.closed)
    }

    /// Everybody goes home.
    pub fn close(&mut self) {
        self.closed = true;
    }

    /// Santa opens the gate for `size` helpers, and waits until all are through.
    pub fn operate(&mut self, size: u64, #[ticket] opened: &mut Option<()>) -> Poll<()> {
        if opened.is_none() {
            self.free = size;
            *opened = Some(());
        }
        if self.free == 0 {
            Poll::Ready(())
        } else {
            Poll::Pending
        }
    }
}

/// What happened.
#[derive(Default, Serialize, Deserialize)]
pub struct Log {
    events: Vec<Event>,
}

#[shared]
impl Log {
    /// It goes on.
    pub fn add(&mut self, event: Event) {
        self.events.push(event);
    }

    /// All of it.
    pub fn events(&self) -> Vec<Event> {
        self.events.clone()
    }
}
