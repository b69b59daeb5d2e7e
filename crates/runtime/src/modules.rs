//! The modules that a program brings along, for servers that were built without its types.

use std::ffi::OsString;
use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use crucial_object::{Error, Result, system_reason};

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
    for path in named_modules() {
        modules.push(std::fs::read(&path).map_err(|error| unreadable(&path, &error))?);
    }
    Ok(modules)
}

/// The first bytes of each module.
const MARK: &[u8] = b"\0asm";

/// Whether the files of [`MODULE_VARIABLE`] can be read and are modules, before any is needed.
///
/// # Errors
///
/// [`Error::Config`], which names the variable and the file.
pub(crate) fn check_named() -> Result<()> {
    named_modules().try_for_each(|path| {
        let mut mark = Vec::new();
        let read =
            File::open(&path).and_then(|file| file.take(MARK.len() as u64).read_to_end(&mut mark));
        let wrong = match read {
            Err(error) => system_reason(&error),
            Ok(_) if mark != MARK => "not a module, as `crucial build` makes them".to_owned(),
            Ok(_) => return Ok(()),
        };
        Err(Error::Config {
            detail: format!("{MODULE_VARIABLE}: {}: {wrong}", path.display()),
        })
    })
}

fn named_modules() -> impl Iterator<Item = PathBuf> {
    let named = std::env::var_os(MODULE_VARIABLE).unwrap_or_default();
    let paths: Vec<PathBuf> = std::env::split_paths(&named).collect();
    paths.into_iter().filter(|path| *path != PathBuf::new())
}

fn unreadable(path: &Path, error: &io::Error) -> Error {
    Error::Config {
        detail: format!("the module {}: {}", path.display(), system_reason(error)),
    }
}
