//! An object at one of its servers.

use crucial_core::{Call, CallId, Cell, Change, Disposition, Replies, Turn};
use crucial_object::{Error, ObjectId, Result, Sequence, SessionId, TypeInfo};

use crate::mutant::Mutant;
use crate::{Epoch, Form, Held, Image, ImageBody, Origin, Version};

/// An object, as far as this server has it.
pub struct Replica {
    /// Which change made it.
    pub birth: Version,
    /// Which change made it what it is.
    pub version: Version,
    /// On how many servers it is.
    pub replicas: u8,
    /// Which request made it.
    pub creator: CallId,
    /// What people know it by.
    pub origin: Box<Origin>,
    /// What there is of it.
    pub body: Body,
    /// Sessions that may hold something of it, in rising order: their end concerns it.
    sessions: Vec<SessionId>,
    /// At the primary: the number of its last change, which answers wait for.
    pub(crate) issued: u64,
    /// At the primary: the join whose node has it.
    pub(crate) copied: u64,
    /// With so many records it is time to look which are needed.
    purge_at: usize,
}

/// What a server has of an object.
pub enum Body {
    /// All.
    Full(Box<Cell>),
    /// It is elsewhere.
    Stub,
    /// It was elsewhere.
    Lost,
}

impl Replica {
    /// A new object; it has no version before [`issue`](crate::Partition::create).
    pub fn new(cell: Cell, replicas: u8, creator: CallId, origin: Origin) -> Replica {
        Replica {
            birth: Version::default(),
            version: Version::default(),
            replicas,
            creator,
            origin: Box::new(origin),
            body: Body::Full(Box::new(cell)),
            sessions: Vec::new(),
            issued: 0,
            copied: 0,
            purge_at: 0,
        }
    }

    /// What a seat of `level` gets.
    pub fn image(&mut self, level: u8) -> Result<Image> {
        let body = match &mut self.body {
            Body::Lost => ImageBody::Lost,
            Body::Full(cell) if self.replicas > level => ImageBody::Full(Box::new(cell.image()?)),
            Body::Full(_) | Body::Stub => ImageBody::Stub,
        };
        Ok(Image {
            birth: self.birth,
            version: self.version,
            replicas: self.replicas,
            creator: self.creator,
            origin: (*self.origin).clone(),
            sessions: match body {
                ImageBody::Full(_) => self.sessions.clone(),
                ImageBody::Stub | ImageBody::Lost => Vec::new(),
            },
            body,
        })
    }

    /// What was sent; `find` knows the types, by their names and modules.
    pub fn from_image(
        image: &Image,
        find: impl Fn(&str, Option<[u8; 32]>) -> Option<&'static TypeInfo>,
    ) -> Result<Replica> {
        let body = match &image.body {
            ImageBody::Lost => Body::Lost,
            ImageBody::Stub => Body::Stub,
            ImageBody::Full(cell) => {
                let info =
                    find(&cell.type_name, cell.module).ok_or_else(|| Error::UnknownType {
                        type_name: cell.type_name.clone(),
                    })?;
                Body::Full(Box::new(Cell::from_image(info, cell)?))
            }
        };
        Ok(Replica {
            birth: image.birth,
            version: image.version,
            replicas: image.replicas,
            creator: image.creator,
            origin: Box::new(image.origin.clone()),
            body,
            sessions: image.sessions.clone(),
            issued: 0,
            copied: 0,
            purge_at: 0,
        })
    }

    /// What there is of it at a seat of `level` that has what this one has.
    pub fn held(&self, object: ObjectId, level: u8) -> Held {
        let form = match self.body {
            Body::Lost => Form::Lost,
            Body::Full(_) if self.replicas > level => Form::Full,
            Body::Full(_) | Body::Stub => Form::Stub,
        };
        let version = match form {
            Form::Full => self.version,
            Form::Stub | Form::Lost => self.birth,
        };
        Held {
            object,
            version,
            form,
        }
    }

    /// Whether the object itself is here.
    pub fn is_full(&self) -> bool {
        matches!(self.body, Body::Full(_))
    }

    /// The object; [`None`] if it is elsewhere or lost.
    pub fn cell(&mut self) -> Option<&mut Cell> {
        match &mut self.body {
            Body::Full(cell) => Some(cell),
            Body::Stub | Body::Lost => None,
        }
    }

    /// It goes from this server, where it is below the level.
    pub fn shed(&mut self, level: u8) {
        if self.replicas <= level && self.is_full() {
            self.body = Body::Stub;
        }
    }

    /// What was below the level is lost. What of it came here meanwhile need not be the newest.
    pub fn lose(&mut self, level: u8) {
        if self.replicas <= level {
            self.body = Body::Lost;
        }
    }

    /// The sessions whose end concerns it: they may hold something, or wait.
    pub fn sessions(&self) -> Vec<SessionId> {
        let Body::Full(cell) = &self.body else {
            return Vec::new();
        };
        let known = self.sessions.iter().copied();
        let mut all: Vec<_> = known.chain(cell.waiting()).collect();
        all.sort_unstable();
        all.dedup();
        all
    }

    /// The sessions that may ask it something again, too: each is to live where it is, or its records go.
    pub fn clients(&self) -> Vec<SessionId> {
        let Body::Full(cell) = &self.body else {
            return Vec::new();
        };
        let mut all: Vec<_> = self
            .sessions
            .iter()
            .copied()
            .chain(cell.recorded())
            .collect();
        all.sort_unstable();
        all.dedup();
        all
    }

    /// Whether a session may hold something of it, or wait.
    pub fn is_held_by(&self, session: SessionId) -> bool {
        self.sessions().contains(&session)
    }

    /// Whether the end of a session concerns it.
    pub fn concerns(&self, session: SessionId) -> bool {
        let Body::Full(cell) = &self.body else {
            return false;
        };
        self.sessions.binary_search(&session).is_ok() || cell.knows(session)
    }

    /// Executes a call, as [`apply`](Replica::apply) does its change. `None`: the object is not here.
    pub fn call(&mut self, call: &Call<'_>, turn: &mut Turn<'_>) -> Option<Disposition> {
        let Body::Full(cell) = &mut self.body else {
            return None;
        };
        if cell.info().attends
            && let Err(place) = self.sessions.binary_search(&call.id.session)
        {
            self.sessions.insert(place, call.id.session);
        }
        Some(cell.call(call, turn))
    }

    /// A change was done here when the reign in which it was to be had ended. No other server has this version.
    pub fn stray(&mut self, epoch: Epoch) {
        self.version = Version {
            epoch,
            change: u64::MAX,
        };
    }

    /// Does a change. Its results go to `turn`.
    pub fn apply(&mut self, change: &Change, turn: &mut Turn<'_>) {
        let Body::Full(cell) = &mut self.body else {
            return;
        };
        match (change, self.sessions.binary_search(&session_of(change))) {
            (Change::Call { id, .. }, Err(place)) if cell.info().attends => {
                self.sessions.insert(place, id.session);
            }
            (Change::EndSession(_) | Change::Lapse(_), Ok(place)) => {
                self.sessions.remove(place);
            }
            _ => {}
        }
        cell.apply(change, turn);
    }

    /// A change that forgets records, if it is time for one: there are `at_least` so many, and twice as many as were
    /// needed the last time.
    pub fn purge(&mut self, needed: &dyn Fn(CallId) -> bool, at_least: usize) -> Option<Change> {
        let purge_at = self.purge_at.max(at_least);
        let cell = self.cell()?;
        if cell.records_len() < purge_at {
            return None;
        }
        let unneeded = match Mutant::ForgetTooEarly.is_planted() {
            true => cell.unneeded(&|_| false),
            false => cell.unneeded(needed),
        };
        let left = cell.records_len() - unneeded.len();
        self.purge_at = 2 * left;
        (!unneeded.is_empty()).then_some(Change::Forget(unneeded))
    }

    /// Does a change as a follower of a stream, at a seat of `level`; whether it had the results that the primary had.
    pub fn follow(
        &mut self,
        previous: Version,
        version: Version,
        change: &Change,
        checksum: u64,
        (level, parked_max): (u8, usize),
    ) -> bool {
        if !self.is_full() && self.replicas <= level {
            // The seat was of a lower level when it was sent.
            return true;
        }
        if !Mutant::NoVersionCheck.is_planted() {
            if version <= self.version {
                // It was sent again.
                return true;
            }
            if previous != self.version {
                return false;
            }
        }
        if !self.is_full() {
            return false;
        }
        let mut replies = Checksum::default();
        let mut out = Vec::new();
        let mut turn = Turn::new(&mut replies, &mut out);
        turn.parked_max = parked_max;
        self.apply(change, &mut turn);
        if replies.value() != checksum {
            // It keeps its version, so that it is found to be another one again if the primary does not hear of it now.
            return false;
        }
        self.version = version;
        true
    }
}

fn session_of(change: &Change) -> SessionId {
    match change {
        Change::Call { id, .. } | Change::ClearPoison { id, .. } => id.session,
        Change::Cancel { call, .. } => call.session,
        Change::EndSession(session) | Change::Lapse(session) => *session,
        Change::Forget(_) => SessionId(0),
    }
}

/// A call, as a change.
pub fn change_of(call: &Call<'_>) -> Change {
    Change::Call {
        id: call.id,
        acked: call.acked,
        recording: call.recording,
        method: call.method,
        args: call.args.to_vec(),
    }
}

/// Of the results of a change: as FNV-1a, 64 bits, but of eight bytes at a time.
#[derive(Clone, Debug)]
pub struct Checksum(u64);

impl Default for Checksum {
    fn default() -> Self {
        Checksum(0xcbf2_9ce4_8422_2325)
    }
}

impl Checksum {
    /// What it is so far.
    pub fn value(&self) -> u64 {
        self.0
    }

    /// Of some bytes.
    pub fn of(bytes: &[u8]) -> u64 {
        let mut checksum = Checksum::default();
        checksum.add(bytes);
        checksum.value()
    }

    fn add(&mut self, bytes: &[u8]) {
        let mut words = bytes.chunks_exact(8);
        for word in &mut words {
            let mut eight = [0; 8];
            eight.copy_from_slice(word);
            self.mix(u64::from_le_bytes(eight));
        }
        for byte in words.remainder() {
            self.mix(u64::from(*byte));
        }
        self.mix(bytes.len() as u64);
    }

    fn mix(&mut self, word: u64) {
        let mixed = (self.0 ^ word).wrapping_mul(0x0000_0100_0000_01b3);
        self.0 = mixed ^ (mixed >> 29);
    }

    fn call(
        &mut self,
        CallId {
            session,
            sequence: Sequence(sequence),
        }: CallId,
    ) {
        self.add(&session.0.to_le_bytes());
        self.add(&sequence.to_le_bytes());
    }
}

impl Replies for Checksum {
    fn reply(&mut self, call: CallId, result: Result<&[u8], &Error>) {
        self.call(call);
        match result {
            Ok(bytes) => self.add(bytes),
            // Messages may name what differs from machine to machine.
            Err(_) => self.add(b"error"),
        }
    }
}
