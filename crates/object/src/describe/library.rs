//! The fields of the library's states, and of the types that its methods mention.

use std::fmt;

use serde::Serialize;

/// A field of a state or of a named type.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Field {
    /// Its name in the source.
    pub name: &'static str,
    /// Its type.
    #[serde(rename = "type")]
    pub type_text: &'static str,
    /// Of a state: what a new object has there, if that is always the same. `0`, `1`, `false`, `None`, or `[]` for
    /// an empty sequence.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub initial: Option<&'static str>,
}

impl fmt::Display for Field {
    /// `token: u64 = 1`
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.name, self.type_text)?;
        match self.initial {
            Some(initial) => write!(f, " = {initial}"),
            None => Ok(()),
        }
    }
}

/// A type that methods mention and that is not one of Rust's own.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct NamedType {
    /// Its name.
    pub name: &'static str,
    /// How it is encoded.
    #[serde(flatten)]
    pub shape: Shape,
}

/// How a named type is encoded.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Shape {
    /// Its fields, one after the other.
    Fields(&'static [Field]),
    /// The number of the variant, from 0. No variant has fields.
    Variants(&'static [&'static str]),
}

/// A field whose value the maker of an object chooses.
const fn chosen(name: &'static str, type_text: &'static str) -> Field {
    Field {
        name,
        type_text,
        initial: None,
    }
}

/// A field that is the same in each new object.
const fn fixed(name: &'static str, type_text: &'static str, initial: &'static str) -> Field {
    Field {
        name,
        type_text,
        initial: Some(initial),
    }
}

const fn fields(name: &'static str, fields: &'static [Field]) -> NamedType {
    NamedType {
        name,
        shape: Shape::Fields(fields),
    }
}

const fn variants(name: &'static str, variants: &'static [&'static str]) -> NamedType {
    NamedType {
        name,
        shape: Shape::Variants(variants),
    }
}

/// The types that methods and states of the library mention.
pub const NAMED_TYPES: &[NamedType] = &[
    fields("BarrierWaitResult", &[chosen("leader", "bool")]),
    fields(
        "Duration",
        &[chosen("seconds", "u64"), chosen("nanoseconds", "u32")],
    ),
    fields(
        "JournalEntry",
        &[
            chosen("what", "String"),
            chosen("fingerprint", "u64"),
            chosen("time", "Option<Duration>"),
        ],
    ),
    variants(
        "Kind",
        &[
            "I8", "I16", "I32", "I64", "U8", "U16", "U32", "U64", "F32", "F64", "Sequence", "Text",
        ],
    ),
    fields(
        "LogLine",
        &[
            chosen("number", "u64"),
            chosen("thread", "String"),
            chosen("time", "Duration"),
            chosen("text", "String"),
        ],
    ),
    variants("Merge", &["Sum", "Max", "Min", "Append"]),
    fields("MergeBy", &[chosen("how", "Merge"), chosen("kind", "Kind")]),
    variants("Reduction", &["Sum", "Min", "Max", "Mean"]),
    variants("Side", &["Sender", "Receiver"]),
];

/// The fields of the state of a library type; [`None`] for any other type.
pub fn state_of(type_name: &str) -> Option<&'static [Field]> {
    let mut states = STATES.iter();
    states.find_map(|(name, fields)| (*name == type_name).then_some(*fields))
}

/// An optional holder of a lock: its session, and its token.
const HOLDER: &str = "Option<(u64, u64)>";

const STATES: &[(&str, &[Field])] = &[
    (
        "crucial::AllReduce",
        &[
            chosen("parties", "u64"),
            chosen("how", "Reduction"),
            fixed("round", "u64", "0"),
            fixed("given", "Vec<(u64, Vec<f64>)>", "[]"),
            fixed("result", "Vec<f64>", "[]"),
            fixed("broken", "Option<u64>", "None"),
        ],
    ),
    ("crucial::AtomicBool", &[chosen("value", "bool")]),
    (
        "crucial::AtomicCell",
        &[chosen("value", "T"), fixed("version", "u64", "0")],
    ),
    ("crucial::AtomicI16", &[chosen("value", "i16")]),
    ("crucial::AtomicI32", &[chosen("value", "i32")]),
    ("crucial::AtomicI64", &[chosen("value", "i64")]),
    ("crucial::AtomicI8", &[chosen("value", "i8")]),
    ("crucial::AtomicIsize", &[chosen("value", "isize")]),
    ("crucial::AtomicU16", &[chosen("value", "u16")]),
    ("crucial::AtomicU32", &[chosen("value", "u32")]),
    ("crucial::AtomicU64", &[chosen("value", "u64")]),
    ("crucial::AtomicU8", &[chosen("value", "u8")]),
    ("crucial::AtomicUsize", &[chosen("value", "usize")]),
    (
        "crucial::Barrier",
        &[
            chosen("parties", "u64"),
            fixed("arrived", "u64", "0"),
            fixed("round", "u64", "0"),
            fixed("broken", "Option<u64>", "None"),
        ],
    ),
    ("crucial::Blob", &[chosen("bytes", "ByteBuf")]),
    (
        "crucial::Condvar",
        &[
            fixed("waiters", "Vec<(u64, u64, bool)>", "[]"),
            fixed("next", "u64", "0"),
        ],
    ),
    (
        "crucial::Channel",
        &[
            chosen("items", "Vec<ByteBuf>"),
            chosen("bound", "Option<u64>"),
            fixed("ends", "Vec<(u64, Side, Option<u64>)>", "[]"),
            fixed("senders", "Vec<u64>", "[]"),
            fixed("next_place", "u64", "0"),
            fixed("receiving", "u64", "0"),
        ],
    ),
    ("crucial::Counter", &[chosen("value", "i64")]),
    (
        "crucial::Journal",
        &[fixed("entries", "Vec<JournalEntry>", "[]")],
    ),
    ("crucial::Latch", &[chosen("count", "u64")]),
    ("crucial::List", &[chosen("items", "Vec<T>")]),
    (
        "crucial::Lock",
        &[
            chosen("value", "Option<ByteBuf>"),
            chosen("poisoned", "bool"),
            fixed("holders", "Vec<(u64, u64, bool, bool)>", "[]"),
            fixed("waiting", "Vec<(u64, bool)>", "[]"),
            fixed("next_place", "u64", "0"),
            fixed("token", "u64", "1"),
        ],
    ),
    (
        "crucial::Logger",
        &[
            fixed("lines", "Vec<LogLine>", "[]"),
            chosen("capacity", "u64"),
            fixed("next", "u64", "0"),
        ],
    ),
    ("crucial::Map", &[chosen("entries", "Vec<(K, V)>")]),
    (
        "crucial::Matrix",
        &[chosen("columns", "u64"), chosen("values", "Vec<f64>")],
    ),
    (
        "crucial::Mutex",
        &[
            chosen("value", "T"),
            fixed("holder", HOLDER, "None"),
            fixed("waiting", "Vec<u64>", "[]"),
            fixed("next_place", "u64", "0"),
            fixed("token", "u64", "1"),
        ],
    ),
    (
        "crucial::OnceLock",
        &[
            chosen("value", "Option<T>"),
            fixed("holder", HOLDER, "None"),
            fixed("token", "u64", "1"),
        ],
    ),
    ("crucial::OrderedMap", &[chosen("entries", "Vec<(K, V)>")]),
    ("crucial::Promise", &[chosen("value", "Option<T>")]),
    (
        "crucial::Queue",
        &[
            chosen("items", "Vec<T>"),
            chosen("capacity", "u64"),
            fixed("closed", "bool", "false"),
        ],
    ),
    (
        "crucial::RwLock",
        &[
            chosen("value", "T"),
            fixed("readers", "Vec<(u64, u64)>", "[]"),
            fixed("writer", HOLDER, "None"),
            fixed("waiting", "Vec<(u64, bool)>", "[]"),
            fixed("next_place", "u64", "0"),
            fixed("token", "u64", "1"),
        ],
    ),
    (
        "crucial::Semaphore",
        &[
            chosen("permits", "u64"),
            fixed("waiting", "Vec<(u64, u64)>", "[]"),
            fixed("next_place", "u64", "0"),
            fixed("held", "Vec<(u64, u64, u64)>", "[]"),
            fixed("token", "u64", "1"),
        ],
    ),
    ("crucial::Set", &[chosen("items", "Vec<T>")]),
    ("crucial::Token", &[chosen("is_there", "bool")]),
];
