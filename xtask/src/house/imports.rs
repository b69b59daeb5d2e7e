//! Which file needs which: all paths of a target, in imports, code, macros and attributes.

use std::collections::{BTreeMap, BTreeSet};

use proc_macro2::{Delimiter, TokenStream, TokenTree};
use quote::ToTokens;

use super::resolve::Meaning;
use super::source::{Definition, Target};

/// The first path of a file that leads into another file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Need {
    pub line: usize,
    pub path: String,
}

/// A path, and where it is.
#[derive(Debug)]
pub struct Use {
    pub module: usize,
    pub line: usize,
    pub path: Vec<String>,
}

/// The files that each file needs: `(from, to)`.
pub fn needs(target: &Target) -> BTreeMap<(usize, usize), Need> {
    let mut needs: BTreeMap<(usize, usize), Need> = BTreeMap::new();
    for Use { module, line, path } in uses(target) {
        let from = target.file_of(module);
        for meaning in target.resolve(module, &path) {
            let Meaning::Item(other) = meaning else {
                continue;
            };
            let to = target.file_of(other);
            if from != to {
                let path = path.join("::");
                needs.entry((from, to)).or_insert(Need { line, path });
            }
        }
    }
    needs
}

/// Paths into other crates, in full: `(file, line, path)`.
pub fn externals(target: &Target) -> BTreeSet<(usize, usize, Vec<String>)> {
    let mut found = BTreeSet::new();
    for Use { module, line, path } in uses(target) {
        for meaning in target.resolve(module, &path) {
            if let Meaning::External(path) = meaning {
                found.insert((target.file_of(module), line, path));
            }
        }
    }
    for (index, module) in target.modules.iter().enumerate() {
        for glob in &module.globs {
            for meaning in target.resolve(index, &glob.path) {
                let Meaning::External(path) = meaning else {
                    continue;
                };
                // Which of the module's names are meant is not known: each one that could be.
                for used in names_in(target, index) {
                    let mut path = path.clone();
                    path.push(used);
                    found.insert((module.file, glob.line, path));
                }
            }
        }
    }
    found
}

fn names_in(target: &Target, module: usize) -> BTreeSet<String> {
    let mut found = Vec::new();
    for item in &target.modules[module].items {
        scan(item.to_token_stream(), false, &mut found);
    }
    found
        .into_iter()
        .filter_map(|(path, _)| path.into_iter().next())
        .collect()
}

/// All paths, without imports that have a visibility: only code that takes a name from there uses it.
pub fn uses(target: &Target) -> Vec<Use> {
    let mut uses = Vec::new();
    for (index, module) in target.modules.iter().enumerate() {
        let definitions = module.names.values().flatten();
        for definition in definitions {
            if let Definition::Import(import) = definition
                && !import.is_reexport
            {
                let path = import.path.clone();
                uses.push(Use {
                    module: index,
                    line: import.line,
                    path,
                });
            }
        }
        for item in &module.items {
            let mut found = Vec::new();
            scan(item.to_token_stream(), false, &mut found);
            uses.extend(found.into_iter().map(|(path, line)| Use {
                module: index,
                line,
                path,
            }));
        }
    }
    uses.sort_by_key(|u| u.line);
    uses
}

/// Finds paths in tokens, so that those in macros count as well.
fn scan(tokens: TokenStream, in_attribute: bool, found: &mut Vec<(Vec<String>, usize)>) {
    let tokens: Vec<TokenTree> = tokens.into_iter().collect();
    let mut next = 0;
    while next < tokens.len() {
        let at = next;
        next += 1;
        match &tokens[at] {
            TokenTree::Group(group) => {
                let attribute =
                    group.delimiter() == Delimiter::Bracket && is_attribute(&tokens, at);
                if !(attribute && starts_with(group.stream(), "doc")) {
                    scan(group.stream(), in_attribute || attribute, found);
                }
            }
            TokenTree::Literal(literal) if in_attribute => {
                // `#[serde(with = "path::of::module")]`
                let text = literal.to_string();
                let path = text
                    .trim_matches('"')
                    .split("::")
                    .map(str::to_owned)
                    .collect::<Vec<_>>();
                let is_name = |part: &String| {
                    part.chars().all(|c| c.is_alphanumeric() || c == '_') && !part.is_empty()
                };
                if text.starts_with('"') && path.len() > 1 && path.iter().all(is_name) {
                    found.push((path, literal.span().start().line));
                }
            }
            TokenTree::Ident(ident) => {
                let mut path = vec![ident.to_string()];
                while is_punct(&tokens, next, ':') && is_punct(&tokens, next + 1, ':') {
                    let Some(TokenTree::Ident(part)) = tokens.get(next + 2) else {
                        break;
                    };
                    path.push(part.to_string());
                    next += 3;
                }
                match before(&tokens, at) {
                    Before::Nothing if path.len() > 1 || is_name(&tokens, at) => {}
                    Before::Nothing | Before::Part => continue,
                    Before::Root => path.insert(0, "::".to_owned()),
                }
                found.push((path, ident.span().start().line));
            }
            _ => {}
        }
    }
}

enum Before {
    Nothing,
    /// A leading `::`.
    Root,
    /// What makes the word a field, a method, a lifetime, or a part of a type's path.
    Part,
}

fn before(tokens: &[TokenTree], at: usize) -> Before {
    let back = |n: usize, c: char| at >= n && is_punct(tokens, at - n, c);
    if back(1, ':') && back(2, ':') {
        return match back(3, '>') {
            true => Before::Part,
            false => Before::Root,
        };
    }
    let is_member = back(1, '.') && !back(2, '.');
    let is_variable = back(1, '$') && !matches!(&tokens[at], TokenTree::Ident(i) if *i == "crate");
    match is_member || is_variable || back(1, '\'') {
        true => Before::Part,
        false => Before::Nothing,
    }
}

/// Whether a word alone may name an item: a type or constant; a function or macro that is called. Others are variables.
fn is_name(tokens: &[TokenTree], at: usize) -> bool {
    let TokenTree::Ident(ident) = &tokens[at] else {
        return false;
    };
    if ident.to_string().starts_with(char::is_uppercase) {
        return true;
    }
    let defined = at > 0 && matches!(&tokens[at - 1], TokenTree::Ident(i) if *i == "fn");
    match tokens.get(at + 1) {
        Some(TokenTree::Group(group)) => group.delimiter() == Delimiter::Parenthesis && !defined,
        Some(TokenTree::Punct(punct)) => punct.as_char() == '!',
        _ => false,
    }
}

fn is_punct(tokens: &[TokenTree], at: usize, c: char) -> bool {
    matches!(tokens.get(at), Some(TokenTree::Punct(punct)) if punct.as_char() == c)
}

fn is_attribute(tokens: &[TokenTree], at: usize) -> bool {
    (at >= 1 && is_punct(tokens, at - 1, '#'))
        || (at >= 2 && is_punct(tokens, at - 1, '!') && is_punct(tokens, at - 2, '#'))
}

fn starts_with(tokens: TokenStream, word: &str) -> bool {
    matches!(tokens.into_iter().next(), Some(TokenTree::Ident(ident)) if ident == word)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::path::Path;

    use super::{externals, needs};
    use crate::house::source::Target;

    fn parse(files: &[(&str, &str)]) -> Target {
        let read = |path: &Path| {
            let file = files.iter().find(|(name, _)| Path::new(name) == path);
            file.map(|(_, text)| (*text).to_owned())
        };
        Target::parse(Path::new("."), Path::new("lib.rs"), &read).unwrap()
    }

    fn edges(files: &[(&str, &str)]) -> Vec<String> {
        let target = parse(files);
        let path = |file: usize| target.files[file].path.display().to_string();
        let needs = needs(&target);
        let mut found: Vec<String> = needs
            .iter()
            .map(|((from, to), need)| format!("{} {} {}", path(*from), need.line, path(*to)))
            .collect();
        found.sort();
        found
    }

    #[test]
    fn imports_and_paths_lead_to_the_file_that_defines() {
        let lib = ("lib.rs", "mod a; mod b; mod c;");
        let b = ("b.rs", "pub struct B; pub fn make() {}");
        let imported = ("a.rs", "use crate::b::B;\nfn f(_: B) {}");
        let inline = ("a.rs", "\nfn f() { crate::b::make() }");
        let by_module = ("a.rs", "use super::b;\n\nfn f() { b::make() }");
        let in_macro = ("a.rs", "fn f() { assert!(x(\n  crate::b::make())) }");
        let in_function = ("a.rs", "fn f() {\n use crate::{c, b::B as D}; D; }");
        let c = ("c.rs", "");
        for (a, line) in [
            (imported, 1),
            (inline, 2),
            (by_module, 3),
            (in_macro, 2),
            (in_function, 2),
        ] {
            assert_eq!(
                edges(&[lib, a, b, c]),
                [format!("a.rs {line} b.rs")],
                "{a:?}"
            );
        }
    }

    #[test]
    fn a_path_goes_through_reexports_and_folders() {
        let files = [
            ("lib.rs", "pub mod a;\nmod b;\npub use b::deep::Deep;"),
            ("a/mod.rs", "mod inner; pub use self::inner::*;"),
            ("a/inner.rs", "use crate::Deep; pub struct Inner(Deep);"),
            ("b.rs", "pub mod deep;"),
            (
                "b/deep.rs",
                "\npub struct Deep; fn f(_: crate::a::Inner) {}",
            ),
        ];
        assert_eq!(
            edges(&files),
            ["a/inner.rs 1 b/deep.rs", "b/deep.rs 2 a/inner.rs"]
        );
    }

    #[test]
    fn a_reexport_is_a_use_only_where_its_name_is_used() {
        let child = ("a.rs", "pub struct A;");
        assert_eq!(edges(&[("lib.rs", "mod a; pub use a::A;"), child]), [""; 0]);
        assert_eq!(
            edges(&[("lib.rs", "mod a; pub use a::A;\nfn f() -> A { A }"), child]),
            ["lib.rs 2 a.rs"]
        );
        assert_eq!(
            edges(&[("lib.rs", "mod a; pub use a::*;\nfn f() -> A { A }"), child]),
            ["lib.rs 2 a.rs"]
        );
    }

    #[test]
    fn a_glob_needs_what_is_used_of_it() {
        let a = ("a.rs", "use super::*;\nfn f(x: B) { x.c() }");
        let b = ("b.rs", "pub struct B;");
        let lib = ("lib.rs", "mod a; mod b; use b::B; struct Own(B); fn c() {}");
        assert_eq!(edges(&[lib, a, b]), ["a.rs 2 b.rs", "lib.rs 1 b.rs"]);
    }

    #[test]
    fn tests_do_not_count() {
        let lib = ("lib.rs", "mod a; mod b;");
        let a = (
            "a.rs",
            "#[cfg(test)] use crate::b::B; #[cfg(test)] mod tests { use crate::b::B; } #[test] fn t() { crate::b::f() }
             struct S; impl S { #[cfg(test)] fn t() { crate::b::f() } }
             fn f() { #[cfg(test)] crate::b::m!(); #[cfg(all(test, unix))] { crate::b::f() } }
             #[cfg(test)] mod missing;",
        );
        assert_eq!(edges(&[lib, a, ("b.rs", "")]), [""; 0]);
    }

    #[test]
    fn parts_of_a_file_are_the_file() {
        let files = [
            ("lib.rs", "mod a; struct Own;"),
            (
                "a.rs",
                "mod inner { pub struct X(super::super::Own); }\nfn f(_: inner::X) {} struct Y<'b>(&'b u8);",
            ),
        ];
        assert_eq!(edges(&files), ["a.rs 1 lib.rs"]);
    }

    #[test]
    fn attributes_name_modules() {
        let files = [
            ("lib.rs", "mod a; mod b;"),
            (
                "a.rs",
                "/// crate::b::B\nstruct A(\n#[serde(with = \"crate::b::encoding\")] u8);",
            ),
            ("b.rs", "pub mod encoding { pub fn serialize() {} }"),
        ];
        // A module alone is no item; `with` is followed by the macro.
        assert_eq!(edges(&files), [""; 0]);
        let files = [
            files[0],
            (
                "a.rs",
                "struct A(\n#[serde(serialize_with = \"crate::b::f\")] u8);",
            ),
            ("b.rs", "pub fn f() {}"),
        ];
        assert_eq!(edges(&files), ["a.rs 2 b.rs"]);
    }

    #[test]
    fn names_of_other_crates_are_in_full() {
        let target = parse(&[(
            "lib.rs",
            "use std::time; use std::sync::*; use std::thread as t; fn f(_: Condvar) { time::Instant::now(); t::spawn(); ::mio::X; }",
        )]);
        let found: BTreeSet<String> = externals(&target)
            .into_iter()
            .map(|(_, _, path)| path.join("::"))
            .collect();
        for name in [
            "std::time::Instant::now",
            "std::sync::Condvar",
            "std::thread::spawn",
            "mio::X",
        ] {
            assert!(found.contains(name), "{name}: {found:?}");
        }
    }
}
