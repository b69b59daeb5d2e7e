//! What a path means in a module.

use super::source::{Definition, Target};

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Meaning {
    /// An item that this module defines.
    Item(usize),
    Module(usize),
    /// Of another crate, or no path that this crate defines.
    External(Vec<String>),
}

/// Names that are being looked up, so that imports that name each other end.
type Open = Vec<(usize, String)>;

impl Target {
    /// All that a path can mean; several meanings come of `cfg` and of name spaces.
    pub fn resolve(&self, module: usize, path: &[String]) -> Vec<Meaning> {
        self.resolve_from(module, path, &mut Vec::new())
    }

    fn resolve_from(&self, module: usize, path: &[String], open: &mut Open) -> Vec<Meaning> {
        let Some((first, rest)) = path.split_first() else {
            return vec![Meaning::Module(module)];
        };
        match first.as_str() {
            "::" => vec![Meaning::External(rest.to_vec())],
            "crate" => self.resolve_in(0, rest, open),
            "self" | "super" => self.resolve_in(module, path, open),
            "Self" => Vec::new(),
            name => {
                let found = self.look_up(module, name, open);
                if found.is_empty() {
                    return vec![Meaning::External(path.to_vec())];
                }
                self.follow(found, rest, open)
            }
        }
    }

    fn resolve_in(&self, module: usize, path: &[String], open: &mut Open) -> Vec<Meaning> {
        let Some((first, rest)) = path.split_first() else {
            return vec![Meaning::Module(module)];
        };
        match first.as_str() {
            "self" => self.resolve_in(module, rest, open),
            "super" => match self.modules[module].parent {
                Some(parent) => self.resolve_in(parent, rest, open),
                None => Vec::new(),
            },
            name => {
                let found = self.look_up(module, name, open);
                if found.is_empty() {
                    // A macro has made it, there.
                    return vec![Meaning::Item(module)];
                }
                self.follow(found, rest, open)
            }
        }
    }

    fn follow(&self, found: Vec<Meaning>, rest: &[String], open: &mut Open) -> Vec<Meaning> {
        let mut meanings = Vec::new();
        for meaning in found {
            match meaning {
                Meaning::Item(module) => meanings.push(Meaning::Item(module)),
                Meaning::Module(module) => meanings.extend(self.resolve_in(module, rest, open)),
                Meaning::External(mut path) => {
                    path.extend_from_slice(rest);
                    meanings.push(Meaning::External(path));
                }
            }
        }
        meanings
    }

    fn look_up(&self, module: usize, name: &str, open: &mut Open) -> Vec<Meaning> {
        if open.iter().any(|(m, n)| *m == module && n == name) {
            return Vec::new();
        }
        open.push((module, name.to_owned()));
        let known = &self.modules[module];
        let mut found = Vec::new();
        for definition in known.names.get(name).into_iter().flatten() {
            match definition {
                Definition::Item => found.push(Meaning::Item(module)),
                Definition::Module(inner) => found.push(Meaning::Module(*inner)),
                Definition::Import(import) => {
                    found.extend(self.resolve_from(module, &import.path, open))
                }
            }
        }
        if found.is_empty() {
            for glob in &known.globs {
                for meaning in self.resolve_from(module, &glob.path, open) {
                    if let Meaning::Module(other) = meaning {
                        found.extend(self.look_up(other, name, open));
                    }
                }
            }
        }
        open.pop();
        found
    }
}
