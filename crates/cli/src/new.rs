//! `crucial new`: a program to begin with, which builds, runs and has a test as it is.

use std::fs;
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};

use clap::{Arg, ArgMatches, Command, value_parser};
use serde_json::json;

use super::print;

/// The files of the program, and what they are made of.
const FILES: [(&str, &str); 5] = [
    ("Cargo.toml", include_str!("../template/manifest.toml")),
    (".gitignore", include_str!("../template/gitignore")),
    ("README.md", include_str!("../template/README.md")),
    ("src/lib.rs", include_str!("../template/lib.rs")),
    ("src/main.rs", include_str!("../template/main.rs")),
];

/// What the files have in place of the program's name, as a package and as a crate, and of the dependency.
const PACKAGE: &str = "program-name";
const CRATE: &str = "program_name";
const DEPENDENCY: &str = "crucial = CRUCIAL";

/// Bytes of the longest name: the executable is a file, beside others whose names begin with its own.
const NAME_BYTES_MAX: usize = 64;

/// Names that cargo or the compiler has taken, or that the program's dependencies have.
const TAKEN: [&str; 12] = [
    "alloc",
    "build",
    "core",
    "crucial",
    "deps",
    "examples",
    "incremental",
    "proc-macro",
    "proc_macro",
    "serde",
    "std",
    "test",
];

/// The words of the language, which name no crate.
const KEYWORDS: [&str; 52] = [
    "Self", "abstract", "as", "async", "await", "become", "box", "break", "const", "continue",
    "crate", "do", "dyn", "else", "enum", "extern", "false", "final", "fn", "for", "gen", "if",
    "impl", "in", "let", "loop", "macro", "match", "mod", "move", "mut", "override", "priv", "pub",
    "ref", "return", "self", "static", "struct", "super", "trait", "true", "try", "type", "typeof",
    "unsafe", "unsized", "use", "virtual", "where", "while", "yield",
];

/// The command.
pub fn command() -> Command {
    Command::new("new")
        .about("Makes a program to begin with: a shared type of its own, cloud threads, a test")
        .arg(
            Arg::new("path")
                .value_name("NAME")
                .required(true)
                .value_parser(value_parser!(PathBuf))
                .help("The program's name: that of a folder here, or the last part of a path, which does not exist yet"),
        )
        .arg(
            Arg::new("crucial")
                .long("crucial")
                .value_name("PATH")
                .value_parser(value_parser!(PathBuf))
                .help("A checkout of Crucial to build with; by default the published version that this command has"),
        )
}

/// Makes the program. No server is asked.
pub fn run(matches: &ArgMatches) -> Result<(), String> {
    let path: &PathBuf = matches.get_one("path").expect("clap requires it");
    let name = name(path)?;
    let dependency = match matches.get_one::<PathBuf>("crucial") {
        Some(path) => checkout(path)?,
        None => toml(env!("CARGO_PKG_VERSION")),
    };
    create(path, |file, text| match file {
        "Cargo.toml" => text
            .replace(PACKAGE, name)
            .replace(DEPENDENCY, &format!("crucial = {dependency}")),
        _ if file.ends_with(".rs") => text.replace(CRATE, &name.replace('-', "_")),
        _ => text.replace(PACKAGE, name),
    })?;
    let line = match matches.get_flag("json") {
        true => json!({ "name": name, "path": path.display().to_string() }).to_string(),
        false => format!("cd {} && cargo run --release", quoted(path)),
    };
    print::lines([line])
        .map(drop)
        .map_err(|error| error.to_string())
}

/// The name of the program in this folder, if a crate can have it.
fn name(path: &Path) -> Result<&str, String> {
    let refuse = |name: &str, why: &str| {
        Err(format!(
            "a program cannot be named {name:?}: {why}. A name has letters from a to z, digits, - and _, and begins \
             with a letter"
        ))
    };
    let Some(last) = path.file_name() else {
        return refuse(&path.display().to_string(), "the path ends with no name");
    };
    let Some(name) = last.to_str() else {
        return refuse(&last.display().to_string(), "it is not UTF-8");
    };
    let is_letter = |c: &char| c.is_ascii_alphabetic();
    if name.chars().next().is_none_or(|first| !is_letter(&first)) {
        return refuse(name, "it begins with no letter");
    }
    if let Some(strange) = name
        .chars()
        .find(|c| !c.is_ascii_alphanumeric() && !"-_".contains(*c))
    {
        return refuse(name, &format!("it has {strange:?} in it"));
    }
    if name.len() > NAME_BYTES_MAX {
        return refuse(name, &format!("it is longer than {NAME_BYTES_MAX} bytes"));
    }
    if KEYWORDS.contains(&name) {
        return refuse(name, "it is a word of the language");
    }
    if TAKEN.contains(&name) {
        return refuse(name, "the name is taken by Rust, cargo or a dependency");
    }
    Ok(name)
}

/// The dependency on the crate in a checkout: that of its workspace, or the crate itself.
fn checkout(path: &Path) -> Result<String, String> {
    let refuse = |why: &str| {
        Err(format!(
            "--crucial {}: {why}. The folder of a checkout of Crucial is expected",
            path.display()
        ))
    };
    let path = match path.canonicalize() {
        Ok(path) => path,
        Err(error) => return refuse(&error.to_string()),
    };
    let is_crate = |path: &PathBuf| {
        let manifest = fs::read_to_string(path.join("Cargo.toml")).unwrap_or_default();
        manifest
            .lines()
            .any(|line| line.trim() == "name = \"crucial\"")
    };
    let places = [path.join("crates/crucial"), path];
    match places.into_iter().find(is_crate) {
        Some(place) => match place.to_str() {
            Some(place) => Ok(format!("{{ path = {} }}", toml(place))),
            None => refuse("a path in Cargo.toml is UTF-8"),
        },
        None => refuse("the crate `crucial` is not there"),
    }
}

/// A string of TOML: what JSON escapes, TOML does in the same way.
fn toml(text: &str) -> String {
    json!(text).to_string()
}

/// Writes the files into a folder that did not exist, or leaves none behind.
fn create(path: &Path, fill: impl Fn(&str, &str) -> String) -> Result<(), String> {
    let fail = |path: &Path, error: io::Error| match error.kind() {
        ErrorKind::AlreadyExists => format!(
            "{} exists already: choose another name, or remove it first",
            path.display()
        ),
        _ => format!("cannot create {}: {error}", path.display()),
    };
    if let Some(parent) = path.parent() {
        fs::create_dir_all(parent)
            .map_err(|error| format!("cannot create the folder {}: {error}", parent.display()))?;
    }
    fs::create_dir(path).map_err(|error| fail(path, error))?;
    let written = fs::create_dir(path.join("src"))
        .map_err(|error| fail(&path.join("src"), error))
        .and_then(|()| {
            FILES.iter().try_for_each(|(file, text)| {
                let place = path.join(file);
                fs::write(&place, fill(file, text)).map_err(|error| fail(&place, error))
            })
        });
    if written.is_err() {
        // The error that is told is the first.
        let _ = fs::remove_dir_all(path);
    }
    written
}

/// A path as a word of a shell's command line.
fn quoted(path: &Path) -> String {
    let text = path.display().to_string();
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "/._-".contains(c);
    match text.chars().all(is_plain) {
        true => text,
        false => format!("'{}'", text.replace('\'', "'\\''")),
    }
}
