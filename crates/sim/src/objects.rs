//! The objects that clients use.

use crucial_object::caller::Lifetime;
use crucial_object::sync::Semaphore;
use crucial_object::{ObjectId, RunId, SharedType, encode};
use crucial_proto::frame::{OpenMode, OpenRequest, object_id};
use rand::Rng;
use rand_chacha::ChaCha8Rng;
use serde_bytes::ByteBuf;

use crate::brittle::Brittle;
use crate::modules;

/// The namespace of all objects.
pub const NAMESPACE: &str = "simulation";

/// An object that clients use.
#[derive(Clone, Copy, Debug)]
pub struct Object {
    pub id: ObjectId,
    pub key: u32,
    pub kind: Kind,
    pub replicas: u8,
    /// Whether the object is deleted now and then.
    pub is_volatile: bool,
    /// Whether servers can now and then not encode or decode it.
    pub is_brittle: bool,
    /// Whether its type is one of modules.
    pub is_uploaded: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Counter,
    Queue,
    Lock,
}

impl Kind {
    fn type_name(self, (is_brittle, is_uploaded): (bool, bool)) -> &'static str {
        match self {
            Kind::Counter if is_brittle => <Brittle as SharedType>::NAME,
            Kind::Counter if is_uploaded => modules::COUNTER,
            Kind::Queue if is_uploaded => modules::QUEUE,
            Kind::Counter => "crucial::AtomicI64",
            Kind::Queue => "crucial::Queue",
            Kind::Lock => "crucial::Semaphore",
        }
    }

    fn initial_state(self) -> Vec<u8> {
        let state = match self {
            Kind::Counter => encode(&0i64),
            Kind::Queue => encode(&(Vec::<ByteBuf>::new(), 1u64 << 20, false)),
            Kind::Lock => encode(&Semaphore::new(1)),
        };
        state.expect("a state of the library")
    }
}

impl Object {
    pub fn type_name(&self) -> &'static str {
        self.kind.type_name((self.is_brittle, self.is_uploaded))
    }

    pub fn open(&self, mode: OpenMode) -> OpenRequest {
        OpenRequest {
            type_name: self.type_name().to_owned(),
            key: self.key.to_string(),
            persistent: true,
            mode,
            replicas: self.replicas,
            state: self.kind.initial_state(),
        }
    }
}

/// The objects of one run, with as many replicas as `choices` offer.
pub fn objects(random: &mut ChaCha8Rng, choices: [u8; 4]) -> Vec<Object> {
    let count = random.random_range(3..=6);
    let object = |_| {
        let key: u32 = random.random();
        let kind = match random.random_range(0..4) {
            0 => Kind::Queue,
            1 => Kind::Lock,
            _ => Kind::Counter,
        };
        let is_brittle = kind == Kind::Counter && random.random_range(0..3) == 0;
        Object {
            id: id(kind.type_name((is_brittle, false)), key),
            key,
            kind,
            replicas: choices[random.random_range(0..4)],
            is_volatile: random.random_range(0..3) == 0,
            is_brittle,
            is_uploaded: false,
        }
    };
    (0..count).map(object).collect()
}

/// Objects of uploaded types. A module can be removed when they are deleted.
pub fn uploaded_objects(random: &mut ChaCha8Rng, choices: [u8; 4]) -> Vec<Object> {
    let count = random.random_range(1..=2);
    let object = |_| {
        let key: u32 = random.random();
        let kind = [Kind::Counter, Kind::Queue][random.random_range(0..2)];
        Object {
            id: id(kind.type_name((false, true)), key),
            key,
            kind,
            replicas: choices[random.random_range(0..4)],
            is_volatile: true,
            is_brittle: false,
            is_uploaded: true,
        }
    };
    (0..count).map(object).collect()
}

fn id(type_name: &str, key: u32) -> ObjectId {
    let run = RunId([0; 16]);
    object_id(
        Lifetime::Persistent,
        &run,
        NAMESPACE,
        type_name,
        &key.to_string(),
    )
}
