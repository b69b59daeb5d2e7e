//! The rules as data: `xtask/house.toml`.

use std::path::{Path, PathBuf};

use serde::Deserialize;

pub const FILE: &str = "xtask/house.toml";

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Rules {
    pub limits: Limits,
    /// Which packages may depend on what.
    pub pure: Vec<Pure>,
    pub server: Server,
    pub node: Node,
    #[serde(default)]
    pub walk: Walk,
    pub words: Vec<Word>,
    /// How no comment begins: its referent would be elsewhere.
    pub openings: Vec<String>,
    #[serde(default)]
    pub exceptions: Vec<Exception>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Limits {
    pub file_lines: usize,
    /// Of a function, without `self`.
    pub parameters: usize,
    pub markdown_columns: usize,
}

/// A package without I/O.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Pure {
    /// Names that the package may have.
    pub packages: Vec<String>,
    /// All that it may depend on. Development dependencies are free.
    pub dependencies: Vec<String>,
}

/// The shell.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Server {
    pub package: String,
    /// Types that only one of its dependencies may define: the server's insides.
    pub types: Vec<String>,
    pub from: String,
}

/// The server without I/O.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Node {
    /// Its folder, which has a `clippy.toml` with what is disallowed.
    pub folder: PathBuf,
    /// Modules and crates of which it uses nothing, besides what `clippy.toml` names one by one.
    pub forbidden: Vec<String>,
}

/// The page that walks a call.
#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Walk {
    pub page: PathBuf,
    /// How many files it passes at most.
    pub files: usize,
    /// How many crates these are of at most.
    pub crates: usize,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Word {
    /// Words or phrases, of one meaning: in comments, texts and documentation, and single words in names as well.
    pub now: Vec<String>,
    /// What the field calls it.
    pub word: String,
}

/// A place where a rule need not hold.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Exception {
    pub rule: String,
    /// A file, or a folder with all that is in it.
    pub path: PathBuf,
    /// The word, where the rule is `words`.
    #[serde(default)]
    pub word: String,
    /// Why; nothing but a reader looks at it.
    #[expect(dead_code, reason = "each exception has to have one")]
    pub reason: String,
}

impl Rules {
    pub fn read(root: &Path) -> Result<Self, String> {
        let text = std::fs::read_to_string(root.join(FILE)).map_err(|e| format!("{FILE}: {e}"))?;
        Self::parse(&text)
    }

    pub fn parse(text: &str) -> Result<Self, String> {
        toml::from_str(text).map_err(|e| format!("{FILE}: {e}"))
    }

    /// The rules of a test: those of the text, and otherwise rules that forbid nothing.
    #[cfg(test)]
    pub fn of_test(text: &str) -> Self {
        const OTHERWISE: &str = r#"
            openings = []
            words = []
            pure = []
            limits = { file_lines = 1, parameters = 1, markdown_columns = 1 }
            node = { folder = "node", forbidden = [] }
            server = { package = "server", types = [], from = "node" }
        "#;
        let mut rules: toml::Table = toml::from_str(OTHERWISE).unwrap();
        rules.extend(toml::from_str::<toml::Table>(text).unwrap());
        rules.try_into().unwrap()
    }

    pub fn is_exception(&self, rule: &str, path: &Path, word: &str) -> bool {
        self.exceptions.iter().any(|exception| {
            exception.rule == rule
                && path.starts_with(&exception.path)
                && (exception.word.is_empty() || exception.word == word)
        })
    }
}
