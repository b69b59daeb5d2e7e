//! The types linked into this executable, described for clients in other languages: what `crucial types` prints, and
//! what `docs/methods.md` is made from.
//!
//! Methods come from `#[shared]`. What the macro does not see, the fields of states and of the types that methods
//! mention, is the table in `library`; the test `methods_page` holds it to what is encoded.

use serde::Serialize;

use crate::signature::{Argument, Supplied, TypeParameter};
use crate::{Access, Method, TypeInfo, registry};

mod library;

pub use library::{Field, NAMED_TYPES, NamedType, Shape, state_of};

/// The name of every library type begins with this.
pub const LIBRARY: &str = "crucial::";

/// All that is described.
#[derive(Clone, Debug, Serialize)]
pub struct Catalog {
    /// The shared types, by name.
    pub types: Vec<TypeEntry>,
    /// The types that methods and states of the library mention.
    pub named: &'static [NamedType],
}

/// A shared type.
#[derive(Clone, Debug, Serialize)]
pub struct TypeEntry {
    /// Its name on servers.
    pub name: &'static str,
    /// Its type parameters.
    pub parameters: &'static [TypeParameter],
    /// Of a library type: the fields of its state.
    pub state: Option<&'static [Field]>,
    /// Its methods, in the order of the source.
    pub methods: Vec<MethodEntry>,
}

/// A method of a shared type.
#[derive(Clone, Debug, Serialize)]
pub struct MethodEntry {
    /// Its name in the source.
    pub name: &'static str,
    /// Its number on the wire.
    pub number: u32,
    /// What a call carries.
    pub arguments: &'static [Argument],
    /// What a call returns.
    pub result: &'static str,
    /// Whether a call can wait.
    pub waits: bool,
    /// Whether a call changes nothing.
    pub reads: bool,
    /// Whether the method itself can fail, with an error of the call.
    pub fallible: bool,
    /// The parameters that the server supplies.
    pub supplied: &'static [Supplied],
    /// What it does.
    pub summary: String,
}

/// The types linked into this executable.
pub fn catalog() -> Catalog {
    catalog_of(|_| true)
}

/// The types of the library.
pub fn library_catalog() -> Catalog {
    catalog_of(|info| info.name.starts_with(LIBRARY))
}

fn catalog_of(includes: impl Fn(&TypeInfo) -> bool) -> Catalog {
    let types = registry::types().filter(|info| includes(info));
    let mut types: Vec<TypeEntry> = types.map(describe_type).collect();
    types.sort_by_key(|entry| entry.name);
    Catalog {
        types,
        named: NAMED_TYPES,
    }
}

fn describe_type(info: &'static TypeInfo) -> TypeEntry {
    TypeEntry {
        name: info.name,
        parameters: info.parameters,
        state: state_of(info.name),
        methods: info.methods.iter().filter_map(describe_method).collect(),
    }
}

/// Linked types all have signatures.
fn describe_method(method: &Method) -> Option<MethodEntry> {
    let signature = method.signature?;
    Some(MethodEntry {
        name: method.name,
        number: method.id.0,
        arguments: signature.arguments,
        result: signature.result,
        waits: method.waits,
        reads: method.access == Access::Read,
        fallible: signature.fallible,
        supplied: signature.supplied,
        summary: plain(signature.summary),
    })
}

/// Documentation without the targets of its links: `[text](target)` is its text.
fn plain(documentation: &str) -> String {
    let mut plain = String::new();
    let mut rest = documentation;
    while let Some(open) = rest.find('[') {
        let (before, link) = rest.split_at(open);
        plain.push_str(before);
        rest = match link.find(']') {
            Some(close) => {
                plain.push_str(&link[1..close]);
                let behind = &link[close + 1..];
                match (behind.starts_with('('), behind.find(')')) {
                    (true, Some(end)) => &behind[end + 1..],
                    _ => behind,
                }
            }
            None => {
                plain.push('[');
                &link[1..]
            }
        };
    }
    plain.push_str(rest);
    plain
}

impl TypeEntry {
    /// The name with the type parameters: `crucial::Map<K, V>`.
    pub fn title(&self) -> String {
        let names: Vec<_> = self.parameters.iter().map(|p| p.name).collect();
        match names.is_empty() {
            true => self.name.to_owned(),
            false => format!("{}<{}>", self.name, names.join(", ")),
        }
    }
}

impl MethodEntry {
    /// The arguments in one line: `key: K, value: V`.
    pub fn argument_list(&self) -> String {
        let arguments = self.arguments.iter();
        let list: Vec<_> = arguments
            .map(|argument| format!("{}: {}", argument.name, argument.type_text))
            .collect();
        list.join(", ")
    }

    /// What a client has to know of a call: `reads`, `waits`, `fallible`; `session`, if the method is told whose call
    /// it is.
    pub fn traits(&self) -> String {
        let traits = [
            (self.reads, "reads"),
            (self.waits, "waits"),
            (self.fallible, "fallible"),
            (self.supplied.contains(&Supplied::Caller), "session"),
        ];
        let set: Vec<_> = traits
            .into_iter()
            .filter_map(|(is_set, name)| is_set.then_some(name))
            .collect();
        set.join(", ")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn links_become_their_text() {
        for (documentation, expected) in [
            ("no link", "no link"),
            (
                "if it is [reset](BarrierProxy::reset) meanwhile, [`Error`].",
                "if it is reset meanwhile, `Error`.",
            ),
            ("an open [ bracket", "an open [ bracket"),
        ] {
            assert_eq!(plain(documentation), expected);
        }
    }
}
