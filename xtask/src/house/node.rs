//! The server without I/O uses nothing that is I/O, a thread, a clock, the environment or a random number.
//!
//! Clippy checks the same by the types, from `clippy.toml` in the node's folder; the paths are checked here, too, so
//! that modules and crates are forbidden as a whole, and a `clippy.toml` that is not read is no gap.

use std::path::Path;

use serde::Deserialize;

use super::imports::externals;
use super::report::Violation;
use super::rules::Rules;
use super::source::Target;

const RULE: &str = "node";

/// The part of a `clippy.toml` that is of interest.
#[derive(Deserialize)]
#[serde(rename_all = "kebab-case")]
struct Clippy {
    disallowed_types: Vec<Disallowed>,
    disallowed_methods: Vec<Disallowed>,
    disallowed_macros: Vec<Disallowed>,
}

#[derive(Deserialize)]
struct Disallowed {
    path: String,
    reason: String,
}

pub fn check(root: &Path, targets: &[Target], rules: &Rules) -> Result<Vec<Violation>, String> {
    let folder = &rules.node.folder;
    let node: Vec<&Target> = targets
        .iter()
        .filter(|target| target.folder == *folder)
        .collect();
    if node.is_empty() {
        return Ok(vec![Violation::new(
            RULE,
            folder,
            0,
            "there is no such package".to_owned(),
        )]);
    }
    let path = folder.join("clippy.toml");
    let Ok(text) = std::fs::read_to_string(root.join(&path)) else {
        let message =
            "is missing: disallowed types, methods and macros of the server without I/O".to_owned();
        return Ok(vec![Violation::new(RULE, &path, 0, message)]);
    };
    let forbidden = forbidden(&text, rules).map_err(|e| format!("{}: {e}", path.display()))?;
    Ok(node
        .into_iter()
        .flat_map(|target| check_target(target, &forbidden))
        .collect())
}

/// Paths, and why not.
fn forbidden(clippy: &str, rules: &Rules) -> Result<Vec<(String, String)>, toml::de::Error> {
    let clippy: Clippy = toml::from_str(clippy)?;
    let named = clippy
        .disallowed_types
        .into_iter()
        .chain(clippy.disallowed_methods);
    let mut forbidden: Vec<(String, String)> =
        named.map(|entry| (entry.path, entry.reason)).collect();
    for Disallowed { path, reason } in clippy.disallowed_macros {
        // The macros of std are there without an import.
        let name = path.rsplit("::").next().unwrap_or_default().to_owned();
        forbidden.extend([(name, reason.clone()), (path, reason)]);
    }
    for path in &rules.node.forbidden {
        let reason =
            "no I/O, threads, clocks, environment or random numbers: an input or an output instead";
        forbidden.push((path.clone(), reason.to_owned()));
    }
    Ok(forbidden)
}

fn check_target(target: &Target, forbidden: &[(String, String)]) -> Vec<Violation> {
    let mut found: Vec<Violation> = Vec::new();
    for (file, line, path) in externals(target) {
        let path = path.join("::");
        let Some((_, reason)) = forbidden.iter().find(|(entry, _)| is_in(&path, entry)) else {
            continue;
        };
        let at = &target.files[file].path;
        // An import and what it is used for in the same line are one.
        if found
            .iter()
            .any(|violation| violation.path == *at && violation.line == line)
        {
            continue;
        }
        found.push(Violation::new(RULE, at, line, format!("{path}: {reason}")));
    }
    found
}

fn is_in(path: &str, entry: &str) -> bool {
    let rest = path.strip_prefix(entry).or_else(|| {
        path.strip_prefix("core")?
            .strip_prefix(entry.strip_prefix("std")?)
    });
    rest.is_some_and(|rest| rest.is_empty() || rest.starts_with("::"))
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::{check_target, forbidden, is_in};
    use crate::house::rules::Rules;
    use crate::house::source::Target;

    #[test]
    fn clippy_and_house_have_one_list() {
        let clippy = r#"
            disallowed-types = [{ path = "std::time::Instant", reason = "the time comes in" }]
            disallowed-methods = [{ path = "std::thread::spawn", reason = "work goes out" }]
            disallowed-macros = [{ path = "std::println", reason = "the shell prints" }]
        "#;
        let rules = Rules::of_test(r#"node = { folder = "node", forbidden = ["std::fs"] }"#);
        let list = forbidden(clippy, &rules).unwrap();
        let paths: Vec<&str> = list.iter().map(|(path, _)| path.as_str()).collect();
        assert_eq!(
            paths,
            [
                "std::time::Instant",
                "std::thread::spawn",
                "println",
                "std::println",
                "std::fs"
            ]
        );
    }

    fn found(source: &str) -> Vec<usize> {
        let read = |_: &Path| Some(source.to_owned());
        let target = Target::parse(Path::new("node"), Path::new("node/src/lib.rs"), &read).unwrap();
        let entry = |path: &str| (path.to_owned(), String::new());
        let forbidden = [
            "std::time::Instant",
            "std::fs",
            "std::sync::Condvar",
            "rustix",
            "println",
        ]
        .map(entry);
        check_target(&target, &forbidden)
            .into_iter()
            .map(|violation| violation.line)
            .collect()
    }

    #[test]
    fn imports_paths_and_modules_are_found() {
        assert_eq!(found("use std::time::{Duration,\nInstant};"), [2]);
        assert_eq!(
            found("use std::{fs,\nio};\n fn f() { fs::read(x) }"),
            [1, 3]
        );
        assert_eq!(found("fn f() {\nprintln!() }"), [2]);
        assert_eq!(found("\nfn f() { rustix::fs::sync() }"), [2]);
        assert_eq!(found("use std::sync::*;\nstruct A(Condvar);"), [1]);
        assert_eq!(
            found("use std::time;\nfn f() { vec![time::Instant::now()] }"),
            [2]
        );
    }

    #[test]
    fn what_is_allowed_or_a_test_is_not() {
        assert_eq!(
            found(
                "use std::time::Duration; use std::sync::Arc; use crate::fs; mod fs {} struct Instant;"
            ),
            [0; 0]
        );
        assert_eq!(found("#[cfg(test)] mod tests { use std::fs; }"), [0; 0]);
        assert!(!is_in("std::fsx", "std::fs"));
        assert!(is_in("core::time::Instant", "std::time::Instant"));
    }
}
