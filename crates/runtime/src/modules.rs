//! The modules that a program brings along, for servers that were built without its types.

use std::ffi::OsString;
use std::io;
use std::path::{Path, PathBuf};

use crucial_object::{Error, Result};

/// The environment variable with paths of further modules, separated by colons.
pub const MODULE_VARIABLE: &str = "CRUCIAL_MODULE";

/// A module inside the executable, put there by `crucial::embed_module!`.
#[derive(Debug)]
pub struct EmbeddedModule(pub &'static [u8]);

inventory::collect!(EmbeddedModule);

/// The modules of this program: embedded ones, the one beside the executable, those of [`MODULE_VARIABLE`].
pub(crate) fn program_modules() -> Result<Vec<Vec<u8>>> {
    let mut modules: Vec<Vec<u8>> = inventory::iter::<EmbeddedModule>()
        .map(|module| module.0.to_vec())
        .collect();
    if let Ok(executable) = std::env::current_exe() {
        let mut beside = OsString::from(executable);
        beside.push(".wasm");
        match std::fs::read(&beside) {
            Ok(module) => modules.push(module),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(unreadable(Path::new(&beside), &error)),
        }
    }
    let named = std::env::var_os(MODULE_VARIABLE).unwrap_or_default();
    for path in std::env::split_paths(&named).filter(|path| *path != PathBuf::new()) {
        modules.push(std::fs::read(&path).map_err(|error| unreadable(&path, &error))?);
    }
    Ok(modules)
}

fn unreadable(path: &Path, error: &io::Error) -> Error {
    Error::Config {
        detail: format!("the module {}: {error}", path.display()),
    }
}
