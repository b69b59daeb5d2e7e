//! Frames: the messages between client and server, as bytes. `docs/protocol.md` is their description.
//!
//! A frame is a length (`u32`, little endian, of all that follows), a kind (`u8`) and a body. The
//! bodies of calls and replies are laid out by hand; the rare ones are postcard.

use bytes::Bytes;
use crucial_object::caller::{Lifetime, Mode};
use crucial_object::guest_abi::TypeDescription;
use crucial_object::{Error, MethodId, ObjectId, RunId, Sequence, SessionId, ThreadId};
use serde::{Deserialize, Serialize};

/// The version of the protocol that this build speaks.
pub const VERSION: u16 = 2;

/// The first bytes of a hello.
pub const MAGIC: [u8; 8] = *b"CRUCIAL\0";

/// The length field.
pub const LENGTH_BYTES: usize = 4;

/// Largest frame, by default, in bytes after the length field.
pub const FRAME_BYTES_MAX: usize = 256 << 20;

/// Calls that a client may have in flight.
pub const CALLS_IN_FLIGHT_MAX: usize = 1 << 20;

/// Largest frame before the handshake is done.
pub const HELLO_BYTES_MAX: usize = 4096;

/// For how many leases of a client a server keeps the results of a session that is silent, from when its lease has ended.
pub const RESULTS_KEPT_LEASES: u64 = 12;

/// A client sends a request again for at most this many leases behind the time at which it knows that its session lived
/// at the request's server. Less than [`RESULTS_KEPT_LEASES`], as clocks drift, and as a server may not know for the rest
/// of its own lease that another one has taken its place.
pub const REPEAT_LEASES: u64 = 8;

mod decode;
mod encode;
mod inspect;
pub mod peer;

pub use decode::{decode_request, decode_response, peek_length, split};
pub use encode::{
    CallFrame, set_acked, set_numbers, write_call, write_cancel, write_hello, write_in_flight,
    write_known_routes, write_moved, write_operation, write_refused, write_reply, write_routes,
    write_welcome,
};
pub use inspect::{ClusterInfo, Inspect, MemberInfo, ObjectInfo, PartitionInfo, ReplicaInfo};

mod kind {
    pub const HELLO: u8 = 1;
    pub const CALL: u8 = 2;
    pub const OPEN: u8 = 3;
    pub const DELETE: u8 = 4;
    pub const CLEAR_POISON: u8 = 5;
    pub const CANCEL: u8 = 6;
    pub const PING: u8 = 7;
    pub const GOODBYE: u8 = 8;
    pub const IN_FLIGHT: u8 = 9;
    pub const BEGIN: u8 = 10;
    pub const FENCE: u8 = 11;
    pub const CLEAR_NAMESPACE: u8 = 12;
    pub const PUSH: u8 = 13;
    pub const MODULES: u8 = 14;
    pub const REMOVE_MODULE: u8 = 15;
    pub const KNOWN_ROUTES: u8 = 16;
    pub const INSPECT: u8 = 17;
    pub const FORGET_LOST: u8 = 18;
    pub const WELCOME: u8 = 0x81;
    pub const RESULT: u8 = 0x82;
    pub const ERROR: u8 = 0x83;
    pub const REFUSED: u8 = 0x84;
    pub const ROUTES: u8 = 0x85;
    pub const MOVED: u8 = 0x86;
}

/// How a module is pushed: flags of [`kind::PUSH`].
mod push {
    pub const REPLACE: u8 = 1;
    pub const CHECK: u8 = 2;
}

/// The first frame of a connection.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hello {
    /// The client's session, which this connection starts or takes up again.
    pub session: SessionId,
    /// The run that it belongs to.
    pub run: RunId,
    /// Whether it owns the run (the run ends with its session) or is a member.
    pub owner: bool,
    /// The namespace of its persistent objects.
    pub namespace: String,
    /// The cloud thread that runs in the client, if it is a worker that has begun one.
    pub attempt: Option<Attempt>,
    /// The version of the routes by which the client sends what comes on this connection, until it
    /// [says](Request::Routes) that it has others; 0: it has none.
    pub routes: u64,
    /// Of a run's owner: how many [fences](Operation::Fence) of earlier times follow. Until they are there no other
    /// session of the run is begun at this server.
    pub fences: u32,
}

/// One attempt of a cloud thread. A newer attempt fences the older ones: they can change nothing more.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Attempt {
    /// The thread.
    pub thread: ThreadId,
    /// Counted from 1.
    pub number: u32,
    /// The session is the thread's own ([`ThreadId::session`]), and passes from attempt to attempt with
    /// the results of its calls.
    pub exactly_once: bool,
}

/// The end of attempts of a cloud thread, wherever they are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fence {
    /// The thread.
    pub thread: ThreadId,
    /// All with a lower number; [`Fence::ALL`]: all.
    pub before: u32,
}

impl Fence {
    /// No attempt may go on.
    pub const ALL: u32 = u32::MAX;
}

/// The server's answer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Welcome {
    /// False if the session has ended at this server: its calls are forgotten.
    pub resumed: bool,
    /// After this much silence the session ends, in milliseconds.
    pub lease_ms: u64,
    /// Largest frame that the server takes.
    pub frame_bytes_max: u64,
    /// Optional abilities of the server; unknown bits mean nothing.
    pub features: u32,
    /// Which server of its cluster this is; never 0. A server that is alone is a cluster of one.
    pub node: u64,
    /// Where the objects of the cluster are.
    pub routes: Routes,
}

/// Where the objects of a cluster are. The cluster can be a single server.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Routes {
    /// Which cluster.
    pub cluster: u64,
    /// Of two, the one with the higher version is the newer.
    pub version: u64,
    /// The servers.
    pub servers: Vec<RouteServer>,
    /// For each partition the place of its primary in `servers`; [`Routes::NONE`]: it has none. The partition of an
    /// object is the first 16 bits of its id, as a big-endian number, times the number of partitions, divided by 2^16.
    pub primaries: Vec<u16>,
}

/// A server of a cluster, as clients see it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RouteServer {
    /// Which.
    pub node: u64,
    /// Its incarnation.
    pub incarnation: u64,
    /// Where the server is reached: an [`Endpoint`](crate::Endpoint). Empty: where the client has connected to.
    pub address: String,
}

impl Routes {
    /// The place of the primary of a partition without one.
    pub const NONE: u16 = u16::MAX;

    /// The partition of an object.
    pub fn partition(&self, object: &ObjectId) -> usize {
        let hash = usize::from(u16::from_be_bytes([object.0[0], object.0[1]]));
        (hash * self.primaries.len()) >> u16::BITS
    }

    /// The server that answers for a partition, if there is one now.
    pub fn primary(&self, partition: usize) -> Option<&RouteServer> {
        self.servers
            .get(usize::from(*self.primaries.get(partition)?))
    }
}

/// On how many servers an object can be.
pub const REPLICAS_MAX: u8 = 3;

/// Creates or finds an object.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct OpenRequest {
    /// The type's name. Behind that of a generic type, in angle brackets, may stand the kinds of its parameters:
    /// `crucial::Map<String, i64>`. An object that was made with others is not opened then.
    pub type_name: String,
    /// The object's key within its namespace.
    pub key: String,
    /// Whether it lives until it is deleted; otherwise it belongs to the session's run.
    pub persistent: bool,
    /// Whether the object may, or must, be there.
    pub mode: OpenMode,
    /// On how many servers it is kept; 0: the default.
    pub replicas: u8,
    /// The encoded initial state.
    #[serde(with = "state_bytes")]
    pub state: Vec<u8>,
}

mod state_bytes {
    use serde::{Deserializer, Serializer, de::Visitor};

    pub fn serialize<S: Serializer>(bytes: &[u8], serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_bytes(bytes)
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<u8>, D::Error> {
        struct ByteString;
        impl Visitor<'_> for ByteString {
            type Value = Vec<u8>;

            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("a byte string")
            }

            fn visit_bytes<E>(self, bytes: &[u8]) -> Result<Vec<u8>, E> {
                Ok(bytes.to_vec())
            }
        }
        deserializer.deserialize_bytes(ByteString)
    }
}

/// [`Mode`], on the wire.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum OpenMode {
    /// Take the object that is there; a missing one is an error.
    Find,
    /// Take the object that is there, or make it.
    FindOrCreate,
    /// Make the object, in place of one that is there.
    Recreate,
}

impl From<Mode> for OpenMode {
    fn from(mode: Mode) -> Self {
        match mode {
            Mode::Find => OpenMode::Find,
            Mode::FindOrCreate => OpenMode::FindOrCreate,
            Mode::Recreate => OpenMode::Recreate,
        }
    }
}

/// A type's name without the kinds of its parameters: of `crucial::Map<String, i64>`, `crucial::Map`.
pub fn base_name(type_name: &str) -> &str {
    type_name.split('<').next().unwrap_or_default()
}

impl OpenRequest {
    /// The name of the type, which is a part of the id.
    pub fn base_name(&self) -> &str {
        base_name(&self.type_name)
    }

    /// The id of the object, for a session of the run and namespace.
    pub fn object(&self, run: &RunId, namespace: &str) -> ObjectId {
        object_id(
            if self.persistent {
                Lifetime::Persistent
            } else {
                Lifetime::Run
            },
            run,
            namespace,
            &self.type_name,
            &self.key,
        )
    }
}

/// The id of an object: see [`ObjectId::of`]. The kinds of the type's parameters are no part of it.
pub fn object_id(
    lifetime: Lifetime,
    run: &RunId,
    namespace: &str,
    type_name: &str,
    key: &str,
) -> ObjectId {
    let type_name = base_name(type_name);
    match lifetime {
        Lifetime::Run => ObjectId::of(&run.namespace(), type_name, key),
        Lifetime::Persistent => ObjectId::of(&format!("ns/{namespace}"), type_name, key),
    }
}

/// A call of a method.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CallRequest {
    /// The object.
    pub object: ObjectId,
    /// The method.
    pub method: MethodId,
    /// For how long it may be parked, in milliseconds; 0: for ever.
    pub timeout_ms: u32,
    /// The encoded tuple of arguments.
    pub args: Bytes,
}

/// A client's frame.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Request {
    /// The handshake.
    Hello {
        /// The protocol version that the client speaks.
        version: u16,
        /// Its contents, if the version is ours.
        hello: Option<Hello>,
    },
    /// A request that gets a reply.
    Numbered {
        /// Its number in the session.
        sequence: Sequence,
        /// The lowest sequence that the session still waits for.
        acked: Sequence,
        /// The operation.
        operation: Operation,
    },
    /// Withdraws a call if it is parked. No reply but the call's.
    Cancel {
        /// The call.
        sequence: Sequence,
        /// Its object.
        object: ObjectId,
    },
    /// Says exactly what the session waits for, when one long wait holds its acknowledgements up. No
    /// reply.
    InFlight(InFlight),
    /// The requests behind this one on the connection are sent by the routes of this version. No reply.
    Routes(u64),
}

/// Of all sequences up to `last`, a session waits for just these.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct InFlight {
    /// The highest sequence that is spoken of.
    pub last: Sequence,
    /// In rising order, at most [`CALLS_IN_FLIGHT_MAX`].
    pub waiting: Vec<Sequence>,
}

impl InFlight {
    /// Whether the session can still wait for `sequence`.
    pub fn needs(&self, sequence: Sequence) -> bool {
        sequence > self.last || self.waiting.binary_search(&sequence).is_ok()
    }
}

/// An operation that a client can request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Operation {
    /// Call a method.
    Call(CallRequest),
    /// Create or find an object. The result is a `bool`: whether it was created.
    Open(OpenRequest),
    /// Remove an object. The result is a `bool`: whether there was one.
    Delete(ObjectId),
    /// Remove an object's poison. The result is a `bool`: whether there was any.
    ClearPoison(ObjectId),
    /// Nothing; it renews the session's lease. The result is empty.
    Ping,
    /// End the session. The result is empty.
    Goodbye,
    /// From here on the session runs this attempt of a cloud thread; the session of an older attempt
    /// ends. The result is empty. If the attempt is fenced itself, its session ends.
    Begin(Attempt),
    /// Remove all persistent objects of the session's namespace. The result is a `u64`: how many.
    ClearNamespace,
    /// Take in a module, on all servers: its bytes. The result is [`Pushed`].
    Push {
        /// Its types may take the place of types of their names in other modules, objects and all.
        replace: bool,
        /// Only see whether it could be taken in.
        check: bool,
        /// WebAssembly.
        module: Bytes,
    },
    /// List the modules. The result is a sequence of [`ModuleInfo`]s.
    Modules,
    /// Remove a module, from all servers. The result is a `bool`: whether there was one.
    RemoveModule([u8; 32]),
    /// Persistent objects that were gone with all of their replicas by the view of this version may be forgotten: their
    /// names are free. The result is a `u64`: how many partitions of this server's view may still lack such objects. It
    /// is to be sent again until that is 0.
    ForgetLost(u64),
    /// Older attempts of a cloud thread may change nothing any more. The result is empty.
    Fence(Fence),
    /// Say something of the server and its cluster. The result is as it says.
    Inspect(Inspect),
}

/// A module was taken in.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pushed {
    /// It.
    pub module: ModuleInfo,
    /// Objects that its types have taken over from other modules.
    pub moved: u64,
    /// Objects that changed meanwhile, so that their state does not fit any more: they keep their old code.
    pub left: u64,
    /// Why one of them does not fit.
    pub reason: Option<String>,
    /// The modules whose types it has replaced.
    pub replaced: Vec<[u8; 32]>,
}

impl ModuleInfo {
    /// A module of this number of bytes, without objects.
    pub fn unused(id: [u8; 32], bytes: u64) -> ModuleInfo {
        ModuleInfo {
            id,
            bytes,
            types: Vec::new(),
            objects: 0,
            hot: 0,
            heated: 0,
        }
    }
}

impl Pushed {
    /// The module is there, and nothing has moved.
    pub fn of(module: ModuleInfo) -> Pushed {
        Pushed {
            module,
            moved: 0,
            left: 0,
            reason: None,
            replaced: Vec::new(),
        }
    }
}

/// A module on a server.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ModuleInfo {
    /// The SHA-256 of its bytes.
    pub id: [u8; 32],
    /// Its size, in bytes.
    pub bytes: u64,
    /// Its types, without those of the library.
    pub types: Vec<TypeDescription>,
    /// Objects of its types.
    pub objects: u64,
    /// Those of them that have an instance in memory.
    pub hot: u64,
    /// How often a call found one of them without, and made it.
    pub heated: u64,
}

/// A server's frame.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Response {
    /// The handshake.
    Welcome(Welcome),
    /// A request's result.
    Reply {
        /// The request.
        sequence: Sequence,
        /// Its encoded result.
        result: Result<Bytes, Error>,
    },
    /// The connection is refused, and closed.
    Refused(Error),
    /// Newer routes. They may come at any time.
    Routes(Routes),
    /// The request was not executed, as its object is elsewhere, or the client's routes are too old to tell: newer
    /// routes are on their way, or have come. It is to be sent again, where they say.
    Moved {
        /// The request.
        sequence: Sequence,
        /// The version of the routes that the server has.
        routes: u64,
    },
}
