//! Messages between nodes about a partition.

use crate::cell::{CallId, CellImage, Change};
use crucial_object::{ObjectId, RunId, Sequence, SessionId};
use serde::{Deserialize, Serialize};

use crate::replication::{Epoch, Version};

/// A message about one partition.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Message {
    /// A new primary asks what an assignment holds. From here on that assignment takes nothing of older epochs.
    Collect {
        /// Of the primary.
        epoch: Epoch,
        /// Of the assignment. Its node may have missed the view, and take itself for the primary.
        rank: u8,
    },
    /// The answer.
    Digest {
        /// As it was asked.
        epoch: Epoch,
        /// The objects that the sender holds.
        holding: Vec<Holding>,
        /// The objects of which it will say later what it holds: it still executes what came before.
        open: Vec<ObjectId>,
    },
    /// A piece of a primary's stream.
    Stream {
        /// Of the primary.
        epoch: Epoch,
        /// The number of the first entry that is not acknowledged.
        base: u64,
        /// The number of the first entry here.
        first: u64,
        /// Without gaps.
        entries: Vec<Entry>,
    },
    /// The receiver of a stream has all entries up to here, in their order.
    Accepted {
        /// As it was sent.
        epoch: Epoch,
        /// The last.
        upto: u64,
        /// What is not here though it should be.
        lacks: Lacks,
    },
    /// The receiver of a stream has another object than its sender.
    Diverged {
        /// As it was sent.
        epoch: Epoch,
        /// Which.
        object: ObjectId,
    },
}

impl Message {
    /// In which epoch it was sent.
    pub fn epoch(&self) -> Epoch {
        match self {
            Message::Collect { epoch, .. }
            | Message::Digest { epoch, .. }
            | Message::Stream { epoch, .. }
            | Message::Accepted { epoch, .. }
            | Message::Diverged { epoch, .. } => *epoch,
        }
    }

    /// The modules that its receiver needs.
    pub fn modules(&self) -> impl Iterator<Item = [u8; 32]> {
        let entries = match self {
            Message::Stream { entries, .. } => entries.as_slice(),
            _ => &[],
        };
        entries.iter().filter_map(|entry| match entry {
            Entry::Install { image, .. } => match &image.body {
                ImageBody::Full(cell) => cell.module,
                ImageBody::Stub | ImageBody::Lost => None,
            },
            _ => None,
        })
    }
}

/// Objects that a node cannot keep: it does not know their type, or has other limits.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Lacks {
    /// Rises with each change: an earlier list may come later.
    pub version: u64,
    /// Some of them, or all.
    pub objects: Vec<ObjectId>,
    /// Whether there are more.
    pub has_more: bool,
}

/// The part of an object that a node holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Holding {
    /// Which.
    pub object: ObjectId,
    /// In which version; of what is not full, with which it began.
    pub version: Version,
    /// What.
    pub form: Form,
}

/// What a node has of an object.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Form {
    /// The object.
    Full,
    /// A note that there is one.
    Stub,
    /// A note that there was one.
    Lost,
}

/// One step of a stream.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Entry {
    /// Forget what you hold of the partition: you get all above this rank.
    Reset {
        /// The rank of the assignment that is to come.
        rank: u8,
    },
    /// You have all above this rank, and will get what changes there.
    Rank {
        /// Of your assignment, or that it is to have.
        rank: u8,
    },
    /// These creations and deletions, and no others, were done.
    Done(Vec<Lifecycle>),
    /// Do what the primary did.
    Apply {
        /// To which object.
        object: ObjectId,
        /// In which version it must be.
        previous: Version,
        /// In which it is then.
        version: Version,
        /// What.
        change: Change,
        /// Of the results.
        checksum: u64,
    },
    /// The object is this, whatever it was.
    Install {
        /// Which.
        object: ObjectId,
        /// The object's image.
        image: Box<Image>,
        /// By which request, if it is new.
        done: Option<Lifecycle>,
        /// As in `Drop`, if it is new and takes the place of another one.
        tombstones: Vec<CallId>,
    },
    /// There is no such object.
    Drop {
        /// Which.
        object: ObjectId,
        /// By which request.
        done: Option<Lifecycle>,
        /// Calls of it that may be repeated: what they did went with it, and they must do it to no other object of its
        /// name.
        tombstones: Vec<CallId>,
    },
}

/// A creation or deletion that was executed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Lifecycle {
    /// The request.
    pub call: CallId,
    /// The lowest sequence that its session still waited for.
    pub acked: Sequence,
    /// Its result: whether it created or deleted something; `None`: the object was gone.
    pub result: Option<bool>,
}

/// The name by which people know an object, and how long it lives.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Origin {
    /// Where its key is one of its own.
    pub home: Home,
    /// Its type.
    pub type_name: String,
}

/// To whom an object belongs.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Home {
    /// To an application run, with which it goes.
    Run(RunId),
    /// To a namespace, until it is deleted.
    Namespace(String),
}

/// A [`Replica`](crate::replication::Replica), on its way.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Image {
    /// As there.
    pub birth: Version,
    /// As there.
    pub version: Version,
    /// As there.
    pub replicas: u8,
    /// As there.
    pub creator: CallId,
    /// As there.
    pub origin: Origin,
    /// As there.
    pub key: String,
    /// As there.
    pub sessions: Vec<SessionId>,
    /// The state, or a note in its place.
    pub body: ImageBody,
}

/// What a node has of an object.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum ImageBody {
    /// The object.
    Full(Box<CellImage>),
    /// A note that there is one.
    Stub,
    /// A note that there was one.
    Lost,
}

impl Image {
    /// The image for a node that is to have no full copy of the object.
    pub fn stub(&self) -> Image {
        Image {
            sessions: Vec::new(),
            body: match self.body {
                ImageBody::Lost => ImageBody::Lost,
                _ => ImageBody::Stub,
            },
            key: self.key.clone(),
            origin: self.origin.clone(),
            ..*self
        }
    }
}

impl Message {
    /// About how many bytes it takes, without encoding it.
    pub fn size(&self) -> usize {
        const HEADER_BYTES: usize = 32;
        match self {
            Message::Collect { .. } | Message::Diverged { .. } => HEADER_BYTES,
            Message::Accepted { lacks, .. } => {
                HEADER_BYTES + lacks.objects.len() * size_of::<ObjectId>()
            }
            Message::Digest { holding, open, .. } => {
                HEADER_BYTES
                    + holding.len() * size_of::<Holding>()
                    + open.len() * size_of::<ObjectId>()
            }
            Message::Stream { entries, .. } => {
                HEADER_BYTES + entries.iter().map(Entry::size).sum::<usize>()
            }
        }
    }
}

impl Entry {
    /// About how many bytes it takes, without encoding it.
    pub fn size(&self) -> usize {
        const HEADER_BYTES: usize = 64;
        match self {
            Entry::Reset { .. } | Entry::Rank { .. } => HEADER_BYTES,
            Entry::Done(done) => HEADER_BYTES + done.len() * size_of::<Lifecycle>(),
            Entry::Apply {
                change: Change::Call { args, .. },
                ..
            } => HEADER_BYTES + args.len(),
            Entry::Apply { .. } => HEADER_BYTES,
            Entry::Install { image, .. } => {
                HEADER_BYTES
                    + match &image.body {
                        ImageBody::Full(cell) => cell.size(),
                        ImageBody::Stub | ImageBody::Lost => 0,
                    }
            }
            Entry::Drop { tombstones, .. } => HEADER_BYTES + tombstones.len() * size_of::<CallId>(),
        }
    }
}
