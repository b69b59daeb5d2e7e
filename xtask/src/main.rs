//! The project's own chores: `cargo xtask ported-lines`.

use std::path::Path;
use std::process::ExitCode;

use similar::{ChangeTag, TextDiff};

/// An application, and what the paper's Table 4 says of it.
struct Application {
    name: &'static str,
    /// Lines changed, of lines, in the paper.
    paper: (usize, usize),
}

const APPLICATIONS: [Application; 10] = [
    Application {
        name: "montecarlo",
        paper: (2, 44),
    },
    Application {
        name: "logistic",
        paper: (10, 430),
    },
    Application {
        name: "kmeans",
        paper: (8, 329),
    },
    Application {
        name: "santa",
        paper: (15, 255),
    },
    Application {
        name: "mandelbrot",
        paper: (0, 0),
    },
    Application {
        name: "wordcount",
        paper: (0, 0),
    },
    Application {
        name: "philosophers",
        paper: (0, 0),
    },
    Application {
        name: "forest",
        paper: (0, 0),
    },
    Application {
        name: "mapreduce",
        paper: (0, 0),
    },
    Application {
        name: "inference",
        paper: (0, 0),
    },
];

fn main() -> ExitCode {
    match std::env::args().nth(1).as_deref() {
        Some("ported-lines") => match ported_lines() {
            Ok(()) => ExitCode::SUCCESS,
            Err(error) => {
                eprintln!("{error}");
                ExitCode::FAILURE
            }
        },
        _ => {
            eprintln!(
                "cargo xtask ported-lines   lines that differ between the std and the Crucial version of each application"
            );
            ExitCode::FAILURE
        }
    }
}

/// Prints Table 4 of the paper for the applications in `examples/`.
fn ported_lines() -> Result<(), String> {
    println!("{:12} {:>6} {:>8}   paper", "program", "lines", "changed");
    for Application { name, paper } in APPLICATIONS {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR"))
            .join("../examples")
            .join(name);
        let (before, after) = (
            code(&folder.join("std.rs"))?,
            code(&folder.join("crucial.rs"))?,
        );
        let changed = changed_lines(&before, &after);
        let lines = before.lines().count();
        let paper = match paper {
            (_, 0) => "-".to_owned(),
            (changed, lines) => format!("{changed} of {lines}"),
        };
        println!("{name:12} {lines:>6} {changed:>8}   {paper}");
    }
    println!(
        "(Blank lines and comments do not count. A run of changed lines counts as the longer of what went and what came.)"
    );
    Ok(())
}

/// The lines of a source that are code.
fn code(path: &Path) -> Result<String, String> {
    let text = std::fs::read_to_string(path).map_err(|e| format!("{}: {e}", path.display()))?;
    let lines = text.lines().filter(|line| {
        let line = line.trim();
        !line.is_empty() && !line.starts_with("//")
    });
    Ok(lines.map(|line| format!("{line}\n")).collect())
}

fn changed_lines(before: &str, after: &str) -> usize {
    let diff = TextDiff::from_lines(before, after);
    let (mut total, mut gone, mut come) = (0, 0, 0);
    for change in diff.iter_all_changes() {
        match change.tag() {
            ChangeTag::Delete => gone += 1,
            ChangeTag::Insert => come += 1,
            ChangeTag::Equal => {
                total += usize::max(gone, come);
                (gone, come) = (0, 0);
            }
        }
    }
    total + usize::max(gone, come)
}

#[cfg(test)]
mod tests {
    use super::changed_lines;

    #[test]
    fn a_modified_line_counts_once() {
        assert_eq!(changed_lines("a\nb\nc\n", "a\nx\nc\n"), 1);
        assert_eq!(changed_lines("a\nb\nc\n", "a\nc\n"), 1);
        assert_eq!(changed_lines("a\nc\n", "a\nx\ny\nc\n"), 2);
        assert_eq!(changed_lines("a\n", "a\n"), 0);
    }
}
