//! `crucial build`, `push` and `modules`: user types for servers that were built without them.

use std::fmt::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use clap::Subcommand;
use crucial_core::frame::ModuleInfo;
use crucial_object::{Error, Result};
use serde_json::{Value, json};

use super::value::Answer;
use crate::runtime;

/// User types for servers that were built without them.
#[derive(Subcommand)]
pub enum Modules {
    /// Builds the module of a library crate with shared types, and prints where it is
    Build {
        /// What else cargo is told: -p PACKAGE, --manifest-path PATH, --features ..
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        cargo: Vec<String>,
    },
    /// Uploads a module; its types can be used at once
    Push {
        /// MODULE.wasm, as `crucial build` made it
        module: PathBuf,
    },
    /// Lists the modules of the server
    #[command(name = "modules")]
    List {
        #[command(subcommand)]
        operation: Option<ModulesOperation>,
    },
}

#[derive(Subcommand)]
pub enum ModulesOperation {
    /// Removes a module; refused while there are objects of its types
    Remove {
        /// Its id, or the beginning of it
        id: String,
    },
}

impl Modules {
    /// Whether it needs a server.
    pub fn needs_server(&self) -> bool {
        !matches!(self, Modules::Build { .. })
    }

    pub fn run(self) -> Result<Answer> {
        match self {
            Modules::Build { cargo } => build(&cargo),
            Modules::Push { module } => push(&module),
            Modules::List { operation: None } => {
                let modules = runtime::current()?.client.modules()?;
                Ok(Answer::of(modules.iter().map(describe).collect::<Vec<_>>()))
            }
            Modules::List {
                operation: Some(ModulesOperation::Remove { id }),
            } => remove(&id),
        }
    }
}

fn build(arguments: &[String]) -> Result<Answer> {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let output = Command::new(&cargo)
        .args(["rustc", "--lib", "--crate-type", "cdylib", "--release"])
        .args(["--target", "wasm32-unknown-unknown"])
        .args(["--message-format", "json-render-diagnostics"])
        .args(arguments)
        .stderr(Stdio::inherit())
        .output()
        .map_err(|error| Error::Other(format!("{}: {error}", cargo.display())))?;
    if !output.status.success() {
        return Err(Error::Other(
            "cargo could not build it (is the target there? rustup target add wasm32-unknown-unknown)"
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
    module
        .map(Answer::of)
        .ok_or_else(|| Error::Other("cargo made no module: is it a library crate?".to_owned()))
}

fn push(path: &Path) -> Result<Answer> {
    let bytes = std::fs::read(path)
        .map_err(|error| Error::Other(format!("{}: {error}", path.display())))?;
    let info = runtime::current()?.client.push_module(bytes)?;
    Ok(Answer::of(describe(&info)))
}

fn remove(id: &str) -> Result<Answer> {
    let client = runtime::current()?.client.clone();
    let modules = client.modules()?;
    let mut found = modules.iter().filter(|info| hex(&info.id).starts_with(id));
    match (found.next(), found.next()) {
        (Some(info), None) => client.remove_module(info.id).map(Answer::whether),
        (None, _) => Ok(Answer::whether(false)),
        (Some(_), Some(_)) => Err(Error::Config {
            detail: format!("there are several modules whose ids begin with {id}"),
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
