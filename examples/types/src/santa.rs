//! The Santa Claus problem (§6.3.3 of the paper): its monitors and its events.

mod event;

use std::task::Poll;

use crucial::shared;
use serde::{Deserialize, Serialize};

pub use event::{Event, Kind};

/// The helpers of one kind that wait for Santa or are with him.
#[derive(Serialize, Deserialize)]
pub struct Group {
    size: u64,
    members: u64,
    round: u64,
    closed: bool,
}

impl Group {
    /// Returns an empty group of at most `size` helpers.
    pub fn new(size: u64) -> Group {
        Group {
            size,
            members: 0,
            round: 0,
            closed: false,
        }
    }
}

/// The monitor in which helpers wait for Santa, and Santa waits for helpers.
#[derive(Serialize, Deserialize)]
pub struct Lobby {
    /// The reindeer, who deliver toys when all have arrived.
    pub reindeer: Group,
    /// The elves, who consult Santa in small groups.
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
    /// A helper joins its group when the group has a free place. Returns `None` when everybody goes home.
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

    /// The group has finished, and other helpers may join.
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
    /// A helper waits for the gate and passes it. Returns false when everybody goes home.
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

    /// Santa opens the gate for `size` helpers, and waits until all have passed.
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

/// The list of events.
#[derive(Default, Serialize, Deserialize)]
pub struct Log {
    events: Vec<Event>,
}

#[shared]
impl Log {
    /// Appends an event.
    pub fn add(&mut self, event: Event) {
        self.events.push(event);
    }

    /// Returns the whole value.
    pub fn events(&self) -> Vec<Event> {
        self.events.clone()
    }
}
