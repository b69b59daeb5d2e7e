//! An object at one of its servers.

use std::sync::Arc;

use crate::cell::{Call, CallId, Cell, Change, Disposition, Replies, Turn};
use crucial_object::{Error, ObjectId, Result, Sequence, SessionId, TypeInfo};
use crucial_proto::frame::Attempt;

use crate::replication::mutant::Mutant;
use crate::replication::{Epoch, Form, Holding, Image, ImageBody, NodeId, Origin, Version};

/// An object, as far as this server has it. There may be millions, so what most do not have is in a box.
pub struct Replica {
    /// Which change made it.
    pub birth: Version,
    /// Which change made it what it is.
    pub version: Version,
    /// Which request made it.
    pub creator: CallId,
    /// Its home and type, one copy for all objects of both.
    pub origin: Arc<Origin>,
    /// The state, or a note in its place.
    pub body: Body,
    rare: Option<Box<Rare>>,
    /// At the primary: the number of its last change, which replies wait for.
    pub(crate) issued: u64,
    /// At the primary: the join whose node has it.
    pub(crate) copied: u32,
    /// The number of records at which to drop those that are not needed.
    purge_at: u32,
    /// On how many servers it should be.
    pub replicas: u8,
}

#[derive(Default)]
struct Rare {
    /// Its key, unless it is anonymous.
    key: Option<Box<str>>,
    /// Sessions that may hold something of it, in rising order: their end concerns it.
    sessions: Vec<SessionId>,
}

/// The part of an object that a server has.
pub enum Body {
    /// All of it.
    Full(Cell),
    /// A note that the object is elsewhere.
    Stub,
    /// A note that the object was elsewhere.
    Lost,
}

/// Keys that begin so are made by clients for objects without a name. They are not kept.
const ANONYMOUS: char = '#';

impl Replica {
    /// A new object, which has no version before [`Partition::create`](crate::replication::Partition::create).
    pub fn new(
        cell: Cell,
        replicas: u8,
        creator: CallId,
        (origin, key): (Arc<Origin>, &str),
    ) -> Replica {
        let mut replica = Replica {
            birth: Version::default(),
            version: Version::default(),
            creator,
            origin,
            body: Body::Full(cell),
            rare: None,
            issued: 0,
            copied: 0,
            purge_at: 0,
            replicas,
        };
        replica.set_rare(key, Vec::new());
        replica
    }

    fn set_rare(&mut self, key: &str, sessions: Vec<SessionId>) {
        let key = (!key.is_empty() && !key.starts_with(ANONYMOUS)).then(|| key.into());
        if key.is_some() || !sessions.is_empty() {
            self.rare = Some(Box::new(Rare { key, sessions }));
        }
    }

    /// Its key; empty if it is anonymous.
    pub fn key(&self) -> &str {
        let key = self.rare.as_ref().and_then(|rare| rare.key.as_deref());
        key.unwrap_or_default()
    }

    fn tracked(&self) -> &[SessionId] {
        self.rare.as_ref().map_or(&[], |rare| &rare.sessions)
    }

    /// Its end concerns this session from now on.
    fn track(&mut self, session: SessionId) {
        if let Err(place) = self.tracked().binary_search(&session) {
            let sessions = &mut self.rare.get_or_insert_default().sessions;
            sessions.insert(place, session);
        }
    }

    fn untrack(&mut self, session: SessionId) {
        if let Some(rare) = &mut self.rare
            && let Ok(place) = rare.sessions.binary_search(&session)
        {
            rare.sessions.remove(place);
        }
    }

    /// Its type, if the object itself is here.
    pub fn info(&self) -> Option<&'static TypeInfo> {
        match &self.body {
            Body::Full(cell) => Some(cell.info()),
            Body::Stub | Body::Lost => None,
        }
    }

    /// How many completion records it has.
    pub fn records_len(&self) -> usize {
        match &self.body {
            Body::Full(cell) => cell.records_len(),
            Body::Stub | Body::Lost => 0,
        }
    }

    /// The image for a node of this rank. Runs the user's encoding, so no lock may be held.
    pub fn image(&mut self, rank: u8) -> Result<Image> {
        let body = match &mut self.body {
            Body::Full(cell) if self.replicas > rank => ImageBody::Full(Box::new(cell.image()?)),
            Body::Lost => ImageBody::Lost,
            Body::Full(_) | Body::Stub => ImageBody::Stub,
        };
        Ok(self.image_with(body))
    }

    /// The image for a node in place of an object that cannot be encoded.
    pub fn lost_image(&self) -> Image {
        self.image_with(ImageBody::Lost)
    }

    fn image_with(&self, body: ImageBody) -> Image {
        Image {
            birth: self.birth,
            version: self.version,
            replicas: self.replicas,
            creator: self.creator,
            origin: (*self.origin).clone(),
            key: self.key().to_owned(),
            sessions: match body {
                ImageBody::Full(_) => self.tracked().to_vec(),
                ImageBody::Stub | ImageBody::Lost => Vec::new(),
            },
            body,
        }
    }

    /// The replica that an image was made of. `origin` is the shared copy of the image's; `info` is its type, which an image
    /// without a state does not need. Runs the user's decoding, so no lock may be held.
    pub fn from_image(
        image: &Image,
        origin: Arc<Origin>,
        info: Option<&'static TypeInfo>,
    ) -> Result<Replica> {
        let body = match (&image.body, info) {
            (ImageBody::Lost, _) => Body::Lost,
            (ImageBody::Stub, _) => Body::Stub,
            (ImageBody::Full(cell), Some(info)) => Body::Full(Cell::from_image(info, cell)?),
            (ImageBody::Full(cell), None) => {
                return Err(Error::UnknownType {
                    type_name: cell.type_name.clone(),
                });
            }
        };
        let mut replica = Replica {
            birth: image.birth,
            version: image.version,
            creator: image.creator,
            origin,
            body,
            rare: None,
            issued: 0,
            copied: 0,
            purge_at: 0,
            replicas: image.replicas,
        };
        replica.set_rare(&image.key, image.sessions.clone());
        Ok(replica)
    }

    /// The part of the object at an assignment of `rank` that has what this one has.
    pub fn holding(&self, object: ObjectId, rank: u8) -> Holding {
        let form = match self.body {
            Body::Lost => Form::Lost,
            Body::Full(_) if self.replicas > rank => Form::Full,
            Body::Full(_) | Body::Stub => Form::Stub,
        };
        let version = match form {
            Form::Full => self.version,
            Form::Stub | Form::Lost => self.birth,
        };
        Holding {
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

    /// Drops the object's state at this server, where the rank is too low for it.
    pub fn shed(&mut self, rank: u8) {
        if self.replicas <= rank && self.is_full() {
            self.body = Body::Stub;
        }
    }

    /// Marks the object as lost if it is below the rank. A copy that came here meanwhile need not be the newest.
    pub fn lose(&mut self, rank: u8) {
        if self.replicas <= rank {
            self.body = Body::Lost;
        }
    }

    /// The sessions whose end concerns it: they may hold something, or wait.
    pub fn sessions(&self) -> Vec<SessionId> {
        let Body::Full(cell) = &self.body else {
            return Vec::new();
        };
        let tracked = self.tracked().iter().copied();
        let mut all: Vec<_> = tracked.chain(cell.waiting()).collect();
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
            .tracked()
            .iter()
            .copied()
            .chain(cell.recorded())
            .collect();
        all.sort_unstable();
        all.dedup();
        all
    }

    /// The attempts of cloud threads of which a call waits, with that call.
    pub fn waiting_attempts(&self) -> Vec<(Attempt, CallId)> {
        match &self.body {
            Body::Full(cell) => cell.waiting_attempts().collect(),
            Body::Stub | Body::Lost => Vec::new(),
        }
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
        self.tracked().binary_search(&session).is_ok() || cell.knows(session)
    }

    /// Executes a call, as [`apply`](Replica::apply) does its change. `None`: the object is not here.
    pub fn call(&mut self, call: &Call<'_>, turn: &mut Turn<'_>) -> Option<Disposition> {
        if self.info()?.tracks_sessions {
            self.track(call.id.session);
        }
        Some(self.cell()?.call(call, turn))
    }

    /// A change was done here when the primary in which it was to be had ended. No other server has this version.
    pub fn mark_divergent(&mut self, me: NodeId, epoch: Epoch) {
        // Above the number of every real change.
        const DIVERGENT: u64 = 1 << 63;
        self.version = Version {
            epoch,
            change: DIVERGENT | (me.0 & (DIVERGENT - 1)),
        };
    }

    /// Does a change. Its results go to `turn`.
    pub fn apply(&mut self, change: &Change, turn: &mut Turn<'_>) {
        let Some(info) = self.info() else { return };
        match change {
            Change::Call { id, .. } if info.tracks_sessions => self.track(id.session),
            Change::EndSession(session) | Change::Lapse(session) => self.untrack(*session),
            _ => {}
        }
        if let Some(cell) = self.cell() {
            cell.apply(change, turn);
        }
    }

    /// A change that forgets records, if there are at least `at_least`, and at least twice as many as were needed the
    /// last time.
    pub fn purge(&mut self, needed: &dyn Fn(CallId) -> bool, at_least: usize) -> Option<Change> {
        let purge_at = (self.purge_at as usize).max(at_least);
        let cell = self.cell()?;
        if cell.records_len() < purge_at {
            return None;
        }
        let unneeded = match Mutant::ForgetTooEarly.is_planted() {
            true => cell.unneeded(&|_| false),
            false => cell.unneeded(needed),
        };
        let left = cell.records_len() - unneeded.len();
        self.purge_at = (2 * left) as u32;
        (!unneeded.is_empty()).then_some(Change::Forget(unneeded))
    }

    /// Does a change as a follower of a stream, at an assignment of `rank`; whether it had the results that the primary had.
    pub fn follow(
        &mut self,
        (previous, version): (Version, Version),
        change: &Change,
        checksum: u64,
        (rank, parked_max): (u8, usize),
    ) -> bool {
        if !self.is_full() && self.replicas <= rank {
            // The assignment was of a lower rank when it was sent.
            return true;
        }
        if !Mutant::NoVersionCheck.is_planted() {
            if version <= self.version {
                // The change was sent again.
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
            // The replica keeps its version: the next change finds it divergent again if the primary does not hear of
            // it now.
            return false;
        }
        self.version = version;
        true
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
        attempt: call.attempt.map(Box::new),
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
    /// The checksum so far.
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
