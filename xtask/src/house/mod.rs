//! `cargo xtask house`: the rules of the layout and the style that a program can check.
//!
//! - `rules`: the rules as data, from `xtask/house.toml`; `report`: what a rule finds.
//! - `source`: the modules of a crate, without tests; `resolve`: what a path means in a module; `imports`: which file
//!   needs which.
//! - One file for each rule: `circles`, `layout`, `node`, `size`, `words` (over `lexer`), `markdown`, `walk`.

mod circles;
mod imports;
mod layout;
mod lexer;
mod markdown;
mod node;
mod report;
mod resolve;
mod rules;
mod size;
mod source;
mod walk;
mod words;

use std::path::{Path, PathBuf};

use report::Violation;
use rules::Rules;
use source::Target;

const NAMES: [&str; 8] = [
    "circles",
    "layout",
    "node",
    "size",
    "parameters",
    "words",
    "markdown",
    "walk",
];

/// Checks the rules that are named, or all. The error is the summary.
pub fn run(root: &Path, names: &[String]) -> Result<(), String> {
    if let Some(name) = names.iter().find(|name| !NAMES.contains(&name.as_str())) {
        return Err(format!("{name:?} is no rule: {}", NAMES.join(", ")));
    }
    let rules = Rules::read(root)?;
    let wanted = |name: &str| names.is_empty() || names.iter().any(|n| n == name);
    let mut found = Vec::new();
    if ["circles", "layout", "node", "size", "parameters"]
        .iter()
        .any(|name| wanted(name))
    {
        found.extend(check_crates(root, &rules, &wanted)?);
    }
    if wanted("words") {
        for path in files(
            root,
            &["crates", "examples", "bench", "fuzz", "xtask"],
            "rs",
        )? {
            found.extend(words::check_source(&path, &read(root, &path)?, &rules));
        }
        for path in markdown_files(root)? {
            found.extend(words::check_markdown(&path, &read(root, &path)?, &rules));
        }
        found.extend(words::unused_exceptions(&rules));
    }
    if wanted("markdown") {
        for path in markdown_files(root)? {
            found.extend(markdown::check(&path, &read(root, &path)?, &rules));
        }
    }
    if wanted("walk") {
        let text = read(root, &rules.walk.page)?;
        let source = |file: &str| read(root, &Path::new("crates").join(file)).ok();
        found.extend(walk::check(&text, &rules, &source));
    }
    for exception in &rules.exceptions {
        let path = &exception.path;
        if wanted(&exception.rule) && !root.join(path).exists() {
            let message = format!(
                "an exception is about {}, which does not exist",
                path.display()
            );
            found.push(Violation::new("source", Path::new(rules::FILE), 0, message));
        }
    }
    report::print(&found, NAMES.iter().copied().filter(|name| wanted(name)))
}

fn check_crates(
    root: &Path,
    rules: &Rules,
    wanted: &dyn Fn(&str) -> bool,
) -> Result<Vec<Violation>, String> {
    let mut found = Vec::new();
    let mut targets = Vec::new();
    for package in folders(&root.join("crates"))? {
        let package = PathBuf::from("crates").join(package);
        let name = package
            .file_name()
            .unwrap_or_default()
            .to_string_lossy()
            .into_owned();
        if wanted("size") {
            for path in files(root, &[&format!("crates/{name}/src")], "rs")? {
                found.extend(size::check_lines(&path, &read(root, &path)?, rules));
            }
        }
        parse(root, &package, &mut targets, &mut found);
    }
    parse(root, Path::new("xtask"), &mut targets, &mut found);
    for target in &targets {
        if wanted("circles") {
            found.extend(circles::check(target));
        }
        if wanted("parameters") {
            found.extend(size::check_parameters(target, rules));
        }
    }
    if wanted("node") {
        found.extend(node::check(root, &targets, rules)?);
    }
    if wanted("layout") {
        found.extend(layout::check(&layout::packages(root)?, &targets, rules));
    }
    Ok(found)
}

/// A source that cannot be parsed is a violation, so that the other packages are looked at all the same.
fn parse(root: &Path, package: &Path, targets: &mut Vec<Target>, found: &mut Vec<Violation>) {
    for target in source::targets(root, package) {
        match target {
            Ok(target) => targets.push(target),
            Err(error) => found.push(Violation::new("source", package, 0, error)),
        }
    }
}

/// Wraps Markdown files in place.
pub fn wrap(root: &Path, names: &[String]) -> Result<(), String> {
    let rules = Rules::read(root)?;
    let paths = match names {
        [] => markdown_files(root)?,
        names => names.iter().map(PathBuf::from).collect(),
    };
    for path in paths {
        let before = read(root, &path)?;
        let after = markdown::wrap(&before, rules.limits.markdown_columns);
        if before != after {
            std::fs::write(root.join(&path), after)
                .map_err(|e| format!("{}: {e}", path.display()))?;
            println!("{}: wrapped", path.display());
        }
    }
    Ok(())
}

fn read(root: &Path, path: &Path) -> Result<String, String> {
    std::fs::read_to_string(root.join(path)).map_err(|e| format!("{}: {e}", path.display()))
}

fn markdown_files(root: &Path) -> Result<Vec<PathBuf>, String> {
    files(root, &["."], "md")
}

/// Files with this extension in these folders, in order, relative to the root; without what is built or hidden.
fn files(root: &Path, folders: &[&str], extension: &str) -> Result<Vec<PathBuf>, String> {
    let mut found = Vec::new();
    let mut open: Vec<PathBuf> = folders.iter().map(PathBuf::from).collect();
    while let Some(folder) = open.pop() {
        let entries = std::fs::read_dir(root.join(&folder))
            .map_err(|e| format!("{}: {e}", folder.display()))?;
        for entry in entries {
            let entry = entry.map_err(|e| format!("{}: {e}", folder.display()))?;
            let name = entry.file_name();
            let path = folder.join(&name);
            let path = path.strip_prefix(".").map(Path::to_owned).unwrap_or(path);
            let hidden = name.to_string_lossy().starts_with('.');
            if entry.path().is_dir() {
                if !hidden && name != "target" {
                    open.push(path);
                }
            } else if path.extension().is_some_and(|e| e == extension) {
                found.push(path);
            }
        }
    }
    found.sort();
    Ok(found)
}

/// Names of the folders in a folder that are packages, in order.
fn folders(path: &Path) -> Result<Vec<String>, String> {
    let entries = std::fs::read_dir(path).map_err(|e| format!("{}: {e}", path.display()))?;
    let mut found = Vec::new();
    for entry in entries {
        let entry = entry.map_err(|e| format!("{}: {e}", path.display()))?;
        if entry.path().join("Cargo.toml").exists() {
            found.push(entry.file_name().to_string_lossy().into_owned());
        }
    }
    found.sort();
    Ok(found)
}
