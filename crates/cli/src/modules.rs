//! `crucial build`, `push` and `modules`: user types for servers that were built without them.

use std::fmt::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use clap::Subcommand;
use crucial_object::{Error, Result, system_reason};
use crucial_proto::frame::ModuleInfo;
use crucial_runtime::{MODULE_VARIABLE, runtime};
use serde_json::{Value, json};

use super::value::Answer;
use super::{print, program};

/// User types for servers that were built without them.
#[derive(Subcommand)]
pub enum Modules {
    /// Builds the module of a library crate with shared types, and prints its path
    Build {
        /// Further arguments of cargo: -p PACKAGE, --manifest-path PATH, --features ..
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        cargo: Vec<String>,
    },
    /// Uploads a module; its types can be used at once
    Push {
        /// Replace existing types of the same names: their objects move to the new code
        #[arg(long)]
        replace: bool,
        /// MODULE.wasm, as made by `crucial build`
        module: PathBuf,
    },
    /// Builds a program and its types, uploads the types if a server is named, and runs the program
    Run {
        /// The package of the types, may be repeated; by default that of the program, if it has a library
        #[arg(long, value_name = "PACKAGE")]
        types: Vec<String>,
        /// Replace existing types of the same names: their objects move to the new code
        #[arg(long)]
        replace: bool,
        /// Arguments of `cargo run`: -p PACKAGE, --example NAME, --release, .., and, after another --, those of the
        /// program
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        cargo: Vec<String>,
    },
    /// Lists the modules of the servers
    #[command(name = "modules")]
    List {
        #[command(subcommand)]
        operation: Option<ModulesOperation>,
    },
}

#[derive(Subcommand)]
pub enum ModulesOperation {
    /// Removes a module; refused while objects of its types exist
    Remove {
        /// The module's id, or the beginning of the id
        id: String,
    },
}

impl Modules {
    /// Whether the command needs a server. `is_named`: the user has named one.
    pub fn needs_server(&self, is_named: bool) -> bool {
        match self {
            Modules::Build { .. } => false,
            Modules::Run { .. } => is_named,
            _ => true,
        }
    }

    pub fn run(self) -> Result<Answer> {
        match self {
            Modules::Build { cargo } => {
                build(&cargo).map(|path| Answer::of(path.display().to_string()))
            }
            Modules::Push { replace, module } => push(&module, replace).map(Answer::of),
            Modules::Run {
                types,
                replace,
                cargo,
            } => run(&types, replace, &cargo),
            Modules::List { operation: None } => {
                let modules = runtime::current()?.client().modules()?;
                Ok(Answer::of(modules.iter().map(describe).collect::<Vec<_>>()))
            }
            Modules::List {
                operation: Some(ModulesOperation::Remove { id }),
            } => remove(&id),
        }
    }
}

fn cargo() -> Command {
    Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()))
}

fn could_not_start(error: std::io::Error) -> Error {
    Error::Other(format!("cannot run cargo: {}", system_reason(&error)))
}

/// What a module is compiled for.
const WEBASSEMBLY: &str = "wasm32-unknown-unknown";

/// Has rustup install what a module is compiled for, if this toolchain does not have it.
fn install_target() {
    let directory = Command::new("rustc")
        .args(["--print", "target-libdir", "--target", WEBASSEMBLY])
        .output();
    let directory =
        directory.map(|output| String::from_utf8_lossy(&output.stdout).trim().to_owned());
    if directory.is_ok_and(|directory| Path::new(&directory).is_dir()) {
        return;
    }
    print::error(format!("rustup target add {WEBASSEMBLY}"));
    // If this fails, so does cargo, and its error says what to do.
    let _ = Command::new("rustup")
        .args(["target", "add", WEBASSEMBLY])
        .stdout(Stdio::null())
        .status();
}

fn build(arguments: &[String]) -> Result<PathBuf> {
    install_target();
    let output = cargo()
        .args(["rustc", "--lib", "--crate-type", "cdylib", "--release"])
        .args(["--target", WEBASSEMBLY])
        // Debug information would be most of the bytes, and no debugger reads it on a server.
        .args(["--config", "profile.release.debug=false"])
        // A usize has 32 bits here: what fits in the program may not fit in the module, and must not be another number.
        .args(["--config", "profile.release.overflow-checks=true"])
        .args(["--message-format", "json-render-diagnostics"])
        .args(arguments)
        // Servers support vector instructions, but their compiler does not vectorize by itself.
        .args(["--", "-C", "target-feature=+simd128"])
        .args(["-C", "link-arg=--export=__stack_pointer"])
        .stderr(Stdio::inherit())
        .output()
        .map_err(could_not_start)?;
    if !output.status.success() {
        return Err(Error::Other(
            "cargo could not build the library for WebAssembly. Is the target installed (rustup target add \
             wasm32-unknown-unknown)? If the library needs more than WebAssembly has, put the shared types into a \
             package of their own"
                .to_owned(),
        ));
    }
    let messages = String::from_utf8_lossy(&output.stdout);
    let files = messages
        .lines()
        .filter_map(|line| serde_json::from_str::<Value>(line).ok())
        .filter(|message| message["reason"] == "compiler-artifact")
        .flat_map(|message| message["filenames"].as_array().cloned().unwrap_or_default());
    let module = files
        .filter_map(|file| file.as_str().map(str::to_owned))
        .rfind(|file| file.ends_with(".wasm"));
    module.map(PathBuf::from).ok_or_else(|| {
        Error::Other("cargo made no module: is the package a library crate?".to_owned())
    })
}

/// Uploads a module, and returns its description.
fn push(path: &Path, replace: bool) -> Result<Value> {
    let bytes = std::fs::read(path)
        .map_err(|error| Error::Other(format!("{}: {}", path.display(), system_reason(&error))))?;
    let pushed = runtime::current()?.client().push_module(bytes, replace)?;
    let mut description = describe(&pushed.module);
    if replace {
        description["moved"] = pushed.moved.into();
    }
    if let Some(reason) = pushed.reason {
        let left = pushed.left;
        print::error(format!(
            "{left} objects were changed in the meantime and keep their old code: {reason}"
        ));
    }
    Ok(description)
}

/// The options of cargo that also apply to building the types, with the number of their values.
const BUILD_OPTIONS: [(&str, usize); 12] = [
    ("-p", 1),
    ("--package", 1),
    ("--manifest-path", 1),
    ("--target-dir", 1),
    ("-F", 1),
    ("--features", 1),
    ("--no-default-features", 0),
    ("--all-features", 0),
    ("--locked", 0),
    ("--offline", 0),
    ("--frozen", 0),
    ("--config", 1),
];

/// The options of `cargo run` that choose a target.
const TARGET_OPTIONS: [&str; 2] = ["--bin", "--example"];

/// An option of a command line, and its value.
type Flag<'a> = (&'a str, Option<&'a str>);

/// The options of cargo itself among the arguments of `cargo run`.
fn options(arguments: &[String]) -> Vec<Flag<'_>> {
    let mut options = Vec::new();
    let mut words = arguments.iter().take_while(|word| *word != "--");
    while let Some(word) = words.next() {
        let (name, value) = match word.split_once('=') {
            Some((name, value)) => (name, Some(value)),
            None => (word.as_str(), None),
        };
        let takes_one = TARGET_OPTIONS.contains(&name) || BUILD_OPTIONS.contains(&(name, 1));
        let value = match (value, takes_one) {
            (None, true) => words.next().map(String::as_str),
            (value, _) => value,
        };
        options.push((name, value));
    }
    options
}

/// The packages with a library among those that `cargo run` with these options can run.
fn libraries(options: &[Flag<'_>]) -> Result<Vec<String>> {
    let mut command = cargo();
    command.args(["metadata", "--no-deps", "--format-version", "1"]);
    for (_, path) in options
        .iter()
        .filter(|(name, _)| *name == "--manifest-path")
    {
        command.args(["--manifest-path", path.unwrap_or_default()]);
    }
    let output = command
        .stderr(Stdio::inherit())
        .output()
        .map_err(could_not_start)?;
    let metadata: Value = serde_json::from_slice(&output.stdout)
        .map_err(|error| Error::Other(format!("cargo metadata: {error}")))?;
    let default = metadata["workspace_default_members"].as_array();
    let named = options
        .iter()
        .find(|(name, _)| matches!(*name, "-p" | "--package"));
    let target = options
        .iter()
        .find(|(name, _)| TARGET_OPTIONS.contains(name));
    let is_candidate = |package: &&Value| {
        let of_kind = |kind: &str, name: Option<&str>| {
            let mut targets = package["targets"].as_array().into_iter().flatten();
            targets.any(|target| {
                let mut kinds = target["kind"].as_array().into_iter().flatten();
                kinds.any(|of| of == kind) && name.is_none_or(|name| target["name"] == name)
            })
        };
        let is_chosen = match named {
            Some((_, name)) => name.is_some_and(|name| package["name"] == name),
            None => default.is_none_or(|members| members.contains(&package["id"])),
        };
        let has_target = match target {
            Some((option, name)) => of_kind(option.trim_start_matches('-'), *name),
            None => of_kind("bin", None),
        };
        let has_library = ["lib", "rlib", "cdylib"]
            .iter()
            .any(|kind| of_kind(kind, None));
        is_chosen && has_target && has_library
    };
    let packages = metadata["packages"].as_array().into_iter().flatten();
    let names = packages
        .filter(is_candidate)
        .filter_map(|package| package["name"].as_str());
    Ok(names.map(str::to_owned).collect())
}

fn run(types: &[String], replace: bool, arguments: &[String]) -> Result<Answer> {
    let mut command = cargo();
    command.arg("run").args(arguments);
    if runtime::is_running() {
        let options = options(arguments);
        let packages = match types {
            [] => libraries(&options)?,
            types => types.to_vec(),
        };
        let applies = |(name, _): &&Flag<'_>| {
            !matches!(*name, "-p" | "--package")
                && BUILD_OPTIONS.iter().any(|(option, _)| option == name)
        };
        let kept = options.iter().filter(applies);
        let kept: Vec<String> = kept
            .flat_map(|(name, value)| [Some(*name), *value])
            .flatten()
            .map(str::to_owned)
            .collect();
        let mut modules = Vec::new();
        for package in packages {
            let mut arguments = kept.clone();
            arguments.extend(["-p".to_owned(), package]);
            let module = build(&arguments)?;
            let description = push(&module, replace)?;
            print::error(format!(
                "{} is on the server: {description}",
                module.display()
            ));
            modules.push(module);
        }
        let named = std::env::join_paths(&modules).map_err(Error::other)?;
        command.env(MODULE_VARIABLE, named);
        let server = runtime::current()?.servers();
        command.env("CRUCIAL_CLUSTER", server);
    }
    program::run(&mut command)
}

fn remove(id: &str) -> Result<Answer> {
    let client = runtime::current()?.client().clone();
    let modules = client.modules()?;
    let mut found = modules.iter().filter(|info| hex(&info.id).starts_with(id));
    match (found.next(), found.next()) {
        (Some(info), None) => client.remove_module(info.id).map(Answer::whether),
        (None, _) => Ok(Answer::whether(false)),
        (Some(_), Some(_)) => Err(Error::Config {
            detail: format!("several modules have ids that begin with {id}"),
        }),
    }
}

fn describe(info: &ModuleInfo) -> Value {
    let types = info.types.iter().map(|info| {
        let methods = info.methods.iter().map(|method| method.name.clone());
        json!({ "name": info.name, "methods": methods.collect::<Vec<_>>() })
    });
    json!({
        "id": hex(&info.id),
        "bytes": info.bytes,
        "objects": info.objects,
        "hot": info.hot,
        "heated": info.heated,
        "types": types.collect::<Vec<_>>(),
    })
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        // Writing to a string does not fail.
        let _ = write!(text, "{byte:02x}");
        text
    })
}
