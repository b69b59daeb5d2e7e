//! What a rule finds, and how it is printed.

use std::fmt::{Display, Formatter, Result as Formatted};
use std::path::{Path, PathBuf};

/// A place where a rule does not hold, and what to do there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Violation {
    pub rule: &'static str,
    pub path: PathBuf,
    /// 0: the file as a whole.
    pub line: usize,
    pub message: String,
}

impl Violation {
    pub fn new(rule: &'static str, path: &Path, line: usize, message: String) -> Self {
        let path = path.to_owned();
        Self {
            rule,
            path,
            line,
            message,
        }
    }
}

impl Display for Violation {
    fn fmt(&self, f: &mut Formatter<'_>) -> Formatted {
        let Self {
            rule,
            path,
            line,
            message,
        } = self;
        match line {
            0 => write!(f, "{}: {rule}: {message}", path.display()),
            _ => write!(f, "{}:{line}: {rule}: {message}", path.display()),
        }
    }
}

/// Prints all violations, and fails if there are any, with their number for each rule.
pub fn print<'a>(found: &[Violation], rules: impl Iterator<Item = &'a str>) -> Result<(), String> {
    for violation in found {
        println!("{violation}");
    }
    let counts: Vec<String> = rules
        .map(|rule| format!("{rule} {}", found.iter().filter(|v| v.rule == rule).count()))
        .collect();
    let counts = counts.join(", ");
    if found.is_empty() {
        println!("house: no violations ({counts})");
        Ok(())
    } else {
        Err(format!("house: {} violations ({counts})", found.len()))
    }
}
