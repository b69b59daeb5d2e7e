//! What clients in other languages read of the library: `docs/methods.md` and `clients/python/types.json`. Both are
//! made from what `#[shared]` says of the types. This fails when they are stale;
//! `CRUCIAL_BLESS=1 cargo test -p crucial-object --test methods_page` writes them.

use std::collections::BTreeSet;
use std::fmt::Write;
use std::path::{Path, PathBuf};

use crucial_object::collections::{Blob, List, Map, Matrix, OrderedMap, Queue, Set};
use crucial_object::describe::{Catalog, Field, NAMED_TYPES, Shape, library_catalog, state_of};
use crucial_object::drop_in::{Channel, Lock, Token};
use crucial_object::sync::{
    AllReduce, AtomicBool, AtomicCell, AtomicI8, AtomicI16, AtomicI32, AtomicI64, AtomicIsize,
    AtomicU8, AtomicU16, AtomicU32, AtomicU64, AtomicUsize, Barrier, Condvar, Counter, Latch,
    Mutex, OnceLock, Promise, Reduction, RwLock, Semaphore,
};
use crucial_object::{
    Encoding, Journal, JournalEntry, LogLine, Logger, Merge, MethodId, SharedType, encode, registry,
};
use serde::Serialize;

const INTRODUCTION: &str = "\
# The methods of the library

The shared types that every server has, for clients in other languages; [protocol.md](protocol.md) says how calls and
values travel. `crucial types --json` prints the same for programs. This page is generated from the sources
(`CRUCIAL_BLESS=1 cargo test -p crucial-object --test methods_page`): change the types, not the page.

- **number**: what a call carries in place of the name.
- **arguments**: a tuple, in this order. What the server itself supplies (the caller's session, the memory of a call
  that waits) is left out: it is no argument.
- **result**: the result's type, without the `Poll` of a method that waits and the `Result` of a fallible one.
- **reads**: the method changes nothing; a repeated call is executed again. **waits**: the call may be parked.
  **fallible**: the method itself may fail, with one of the protocol's errors. A `Result` that stands under *result* is
  a value: the call has succeeded. **session**: what the call takes belongs to its session, and comes back when the
  session ends.
- **state**: the fields of the object's value, as a client that makes one encodes them. `= 0` is what a new one has
  there.
- **Type parameters** (`T`, `K`, `V`) are sealed: the value is encoded first, and travels as a byte string. The `K` of
  an `OrderedMap` is encoded in the sorted format, all others in postcard.
";

/// The width of a page.
const WIDTH: usize = 120;

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

/// Compares a file with what it should be, or writes it.
fn hold(path: &str, expected: &str) {
    let file = root().join(path);
    if std::env::var_os("CRUCIAL_BLESS").is_some() {
        std::fs::create_dir_all(file.parent().unwrap()).unwrap();
        std::fs::write(&file, expected).unwrap();
        return;
    }
    let found = std::fs::read_to_string(&file).unwrap_or_default();
    assert!(
        found == expected,
        "{path} is stale: CRUCIAL_BLESS=1 cargo test -p crucial-object --test methods_page"
    );
}

fn page(catalog: &Catalog) -> String {
    let mut page = INTRODUCTION.to_owned();
    for entry in &catalog.types {
        let _ = write!(page, "\n## {}\n\n", entry.title());
        page.push_str(&wrapped("State:", entry.state.unwrap_or_default()));
        page.push_str(
            "\n\n| method | number | arguments | result | call | what it does |\n|---|---|---|---|---|---|\n",
        );
        for method in &entry.methods {
            let _ = writeln!(
                page,
                "| `{}` | `{:#010x}` | {} | {} | {} | {} |",
                method.name,
                method.number,
                code(&method.argument_list()),
                code(method.result),
                method.traits(),
                cell(&method.summary),
            );
        }
    }
    page.push_str(
        "\n## Named types\n\nA struct is its fields, one after the other; an enum is the number of its variant, from 0.\n\n\
         | type | encoded as |\n|---|---|\n",
    );
    for named in catalog.named {
        let shape = match named.shape {
            Shape::Fields(fields) => fields.iter().map(field).collect::<Vec<_>>().join(", "),
            Shape::Variants(variants) => {
                let variants = variants.iter().enumerate();
                let variants: Vec<_> = variants.map(|(i, name)| format!("{i} `{name}`")).collect();
                format!("enum: {}", variants.join(", "))
            }
        };
        let _ = writeln!(page, "| `{}` | {shape} |", named.name);
    }
    page
}

fn field(field: &Field) -> String {
    format!("`{field}`")
}

/// Breaks a list of fields into lines.
fn wrapped(start: &str, fields: &[Field]) -> String {
    let mut lines = vec![start.to_owned()];
    for (index, field) in fields.iter().enumerate() {
        let end = if index + 1 == fields.len() { '.' } else { ',' };
        let part = format!("`{field}`{end}");
        match lines.last_mut() {
            Some(line) if line.len() + 1 + part.len() <= WIDTH => {
                line.push(' ');
                line.push_str(&part);
            }
            _ => lines.push(part),
        }
    }
    lines.join("\n")
}

/// Code in a cell of a table.
fn code(text: &str) -> String {
    match text {
        "" => String::new(),
        "()" => "–".to_owned(),
        text => format!("`{text}`"),
    }
}

fn cell(text: &str) -> String {
    text.replace('|', "\\|")
}

#[test]
fn the_page_is_that_of_the_sources() {
    hold("docs/methods.md", &page(&library_catalog()));
}

fn to_json(value: &impl Serialize) -> String {
    serde_json::to_string(value).unwrap()
}

#[test]
fn the_python_client_has_the_types_of_the_sources() {
    // A line for each type, so that a change shows as one.
    let catalog = library_catalog();
    let types = catalog.types.iter().map(to_json).collect::<Vec<_>>();
    let named = catalog.named.iter().map(to_json).collect::<Vec<_>>();
    let json = format!(
        "{{\"types\": [\n{}\n], \"named\": [\n{}\n]}}\n",
        types.join(",\n"),
        named.join(",\n")
    );
    let whole: serde_json::Value = serde_json::from_str(&json).unwrap();
    assert_eq!(whole, serde_json::to_value(&catalog).unwrap());
    hold("clients/python/types.json", &json);
}

#[test]
fn each_linked_method_is_described() {
    let catalog = library_catalog();
    for entry in &catalog.types {
        let info = registry::find(entry.name).unwrap();
        assert_eq!(entry.methods.len(), info.methods.len(), "{}", entry.name);
        assert!(
            entry.state.is_some(),
            "{} has no state in the table",
            entry.name
        );
        for method in &entry.methods {
            assert_eq!(method.number, MethodId::of(method.name).0);
            assert!(!method.summary.is_empty(), "{} {}", entry.name, method.name);
        }
    }
    let names: Vec<_> = catalog.types.iter().map(|entry| entry.name).collect();
    assert!(names.contains(&"crucial::Semaphore"), "{names:?}");
}

/// A type text, taken apart.
#[derive(Debug, PartialEq)]
struct Parsed {
    /// Empty for a tuple.
    name: String,
    inner: Vec<Parsed>,
}

/// Takes a type off the front of `text`.
fn parse(text: &mut &str) -> Parsed {
    *text = text.trim_start();
    let end = text
        .find(|c: char| !(c.is_alphanumeric() || c == '_' || c == ':'))
        .unwrap_or(text.len());
    let (name, rest) = text.split_at(end);
    let name = name.to_owned();
    *text = rest;
    let close = match text.chars().next() {
        Some('<') => '>',
        Some('(') if name.is_empty() => ')',
        _ => {
            assert!(!name.is_empty(), "no type: {text:?}");
            return Parsed {
                name,
                inner: Vec::new(),
            };
        }
    };
    let mut inner = Vec::new();
    loop {
        *text = text[1..].trim_start();
        if text.starts_with(close) {
            break;
        }
        inner.push(parse(text));
        assert!(text.starts_with([',', close]), "{text:?}");
        if text.starts_with(close) {
            break;
        }
    }
    *text = &text[1..];
    Parsed { name, inner }
}

fn parse_whole(mut text: &str) -> Parsed {
    let parsed = parse(&mut text);
    assert_eq!(text, "", "behind {parsed:?}");
    parsed
}

/// Reads a value of this type, as docs/protocol.md says; gives it back as text.
fn read(ty: &Parsed, bytes: &mut &[u8]) -> String {
    let inner = |index: usize| &ty.inner[index];
    match ty.name.as_str() {
        "" => {
            let parts: Vec<_> = ty.inner.iter().map(|part| read(part, bytes)).collect();
            format!("({})", parts.join(", "))
        }
        "u8" | "i8" | "bool" => match (ty.name.as_str(), take(bytes, 1)[0]) {
            ("bool", byte) => (byte == 1).to_string(),
            (_, byte) => byte.to_string(),
        },
        "u16" | "u32" | "u64" | "usize" => varint(bytes).to_string(),
        "i16" | "i32" | "i64" | "isize" => {
            let zigzag = varint(bytes);
            ((zigzag >> 1) as i64 ^ -((zigzag & 1) as i64)).to_string()
        }
        "f64" => f64::from_le_bytes(take(bytes, 8).try_into().unwrap()).to_string(),
        "String" | "ByteBuf" | "T" | "K" | "V" => {
            let length = varint(bytes);
            format!("{:?}", take(bytes, length as usize))
        }
        "Option" => match take(bytes, 1)[0] {
            0 => "None".to_owned(),
            _ => format!("Some({})", read(inner(0), bytes)),
        },
        "Vec" => {
            let length = varint(bytes);
            let items: Vec<_> = (0..length).map(|_| read(inner(0), bytes)).collect();
            format!("[{}]", items.join(", "))
        }
        "Result" => match varint(bytes) {
            0 => format!("Ok({})", read(inner(0), bytes)),
            _ => format!("Err({})", read(inner(1), bytes)),
        },
        name => {
            let named = NAMED_TYPES.iter().find(|named| named.name == name);
            match named
                .unwrap_or_else(|| panic!("{name} is no named type"))
                .shape
            {
                Shape::Variants(variants) => variants[varint(bytes) as usize].to_owned(),
                Shape::Fields(fields) => {
                    let fields = fields.iter();
                    let parts: Vec<_> = fields
                        .map(|field| read(&parse_whole(field.type_text), bytes))
                        .collect();
                    format!("{{{}}}", parts.join(", "))
                }
            }
        }
    }
}

fn take<'a>(bytes: &mut &'a [u8], count: usize) -> &'a [u8] {
    let (taken, rest) = bytes.split_at(count);
    *bytes = rest;
    taken
}

fn varint(bytes: &mut &[u8]) -> u64 {
    let mut value = 0;
    for shift in (0..).step_by(7) {
        let byte = take(bytes, 1)[0];
        value |= u64::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            break;
        }
    }
    value
}

/// All types that a text mentions.
fn mentioned(ty: &Parsed, names: &mut BTreeSet<String>) {
    if !ty.name.is_empty() {
        names.insert(ty.name.clone());
    }
    ty.inner.iter().for_each(|inner| mentioned(inner, names));
}

#[test]
fn every_type_that_is_mentioned_can_be_encoded_by_the_pages() {
    const PLAIN: [&str; 18] = [
        "bool", "u8", "u16", "u32", "u64", "usize", "i8", "i16", "i32", "i64", "isize", "f32",
        "f64", "String", "ByteBuf", "Option", "Vec", "Result",
    ];
    for entry in library_catalog().types {
        let mut names = BTreeSet::new();
        for method in &entry.methods {
            let arguments = method.arguments.iter().map(|argument| argument.type_text);
            for text in arguments.chain([method.result]) {
                mentioned(&parse_whole(text), &mut names);
            }
        }
        for field in entry.state.unwrap() {
            mentioned(&parse_whole(field.type_text), &mut names);
        }
        for name in names {
            let is_known = PLAIN.contains(&name.as_str())
                || NAMED_TYPES.iter().any(|named| named.name == name)
                || entry.parameters.iter().any(|p| p.name == name);
            assert!(is_known, "{} mentions {name}", entry.name);
        }
    }
}

/// Reads a new object's state by the table, and checks what is the same in each.
fn check_state<T: SharedType + Serialize>(value: &T, checked: &mut BTreeSet<&'static str>) {
    let fields = state_of(T::NAME).unwrap_or_else(|| panic!("{} is not in the table", T::NAME));
    let encoded = encode(value).unwrap();
    let mut bytes = &encoded[..];
    for field in fields {
        let found = read(&parse_whole(field.type_text), &mut bytes);
        if let Some(initial) = field.initial {
            assert_eq!(found, initial, "{}::{}", T::NAME, field.name);
        }
    }
    assert!(bytes.is_empty(), "{} has more fields", T::NAME);
    checked.insert(T::NAME);
}

#[test]
fn new_objects_have_the_fields_of_the_table() {
    let mut checked = BTreeSet::new();
    let checked_all = &mut checked;
    macro_rules! check {
        ($($value:expr;)+) => { $(check_state(&$value, checked_all);)+ };
    }
    check! {
        AllReduce::new(300, Reduction::Mean);
        AtomicBool::new(true);
        AtomicCell::new(300u64);
        AtomicI16::new(-300);
        AtomicI32::new(-300);
        AtomicI64::new(-300);
        AtomicI8::new(-3);
        AtomicIsize::new(-300);
        AtomicU16::new(300);
        AtomicU32::new(300);
        AtomicU64::new(300);
        AtomicU8::new(200);
        AtomicUsize::new(300);
        Barrier::new(300);
        Blob::new(vec![1, 2, 3]);
        Channel::new([vec![1, 2].into()], Some(300));
        Condvar::new();
        Counter::new(-300);
        Journal::default();
        Latch::new(300);
        List::from(vec![1u8, 2]);
        Lock::new(Some(vec![1, 2].into()), true);
        Logger::with_capacity(300);
        Map::from_iter([(1u8, 2u16)]);
        Matrix::new(2, 3);
        Mutex::new(300u64);
        OnceLock::<u64>::new();
        OrderedMap::from_iter([(1u8, 2u16)]);
        Promise::<u64>::new();
        Queue::<u64>::new(300);
        RwLock::new(300u64);
        Semaphore::new(300);
        Set::from_iter([1u8, 2]);
        Token::default();
    }
    let catalog = library_catalog();
    let all: BTreeSet<_> = catalog.types.iter().map(|entry| entry.name).collect();
    assert_eq!(checked, all);
}

/// Reads a value by the name of its type.
fn read_as(type_text: &str, value: &impl Serialize) -> String {
    let encoded = encode(value).unwrap();
    let mut bytes = &encoded[..];
    let found = read(&parse_whole(type_text), &mut bytes);
    assert!(bytes.is_empty(), "{type_text} has more fields");
    found
}

#[test]
fn named_types_are_encoded_as_the_table_says() {
    for (merge, name) in [
        (Merge::Sum, "Sum"),
        (Merge::Max, "Max"),
        (Merge::Min, "Min"),
        (Merge::Append, "Append"),
    ] {
        assert_eq!(read_as("Merge", &merge), name);
    }
    for (how, name) in [
        (Reduction::Sum, "Sum"),
        (Reduction::Min, "Min"),
        (Reduction::Max, "Max"),
        (Reduction::Mean, "Mean"),
    ] {
        assert_eq!(read_as("Reduction", &how), name);
    }
    let time = std::time::Duration::new(300, 5);
    assert_eq!(read_as("Duration", &time), "{300, 5}");
    let line = LogLine {
        number: 300,
        thread: String::new(),
        time,
        text: String::new(),
    };
    assert_eq!(read_as("LogLine", &line), "{300, [], {300, 5}, []}");
    let mut entry = JournalEntry::new(String::new(), &[]);
    entry.fingerprint = 300;
    assert_eq!(read_as("JournalEntry", &entry), "{[], 300, None}");
}

#[test]
fn only_the_keys_of_ordered_maps_are_sorted() {
    for entry in library_catalog().types {
        for parameter in entry.parameters {
            let is_sorted = entry.name == "crucial::OrderedMap" && parameter.name == "K";
            let expected = match is_sorted {
                true => Encoding::Sorted,
                false => Encoding::Sealed,
            };
            assert_eq!(parameter.encoding, expected, "{}", entry.title());
        }
    }
}
