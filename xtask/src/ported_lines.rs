//! `cargo xtask ported-lines`: Table 4 of the paper, for the applications in `examples/`.

use std::path::Path;

use similar::{ChangeTag, TextDiff};

/// An application in `examples/`.
struct Application {
    name: &'static str,
    /// What the paper's Table 4 says of it, if it is there.
    paper: Option<Row>,
}

/// A row of the paper's Table 4.
struct Row {
    changed: usize,
    lines: usize,
}

impl Application {
    const fn of_table(name: &'static str, row: Row) -> Application {
        let paper = Some(row);
        Application { name, paper }
    }

    const fn new(name: &'static str) -> Application {
        Application { name, paper: None }
    }
}

#[rustfmt::skip]
const APPLICATIONS: [Application; 10] = [
    Application::of_table("montecarlo", Row { changed: 2, lines: 44 }),
    Application::of_table("logistic", Row { changed: 10, lines: 430 }),
    Application::of_table("kmeans", Row { changed: 8, lines: 329 }),
    Application::of_table("santa", Row { changed: 15, lines: 255 }),
    Application::new("mandelbrot"),
    Application::new("wordcount"),
    Application::new("philosophers"),
    Application::new("forest"),
    Application::new("mapreduce"),
    Application::new("inference"),
];

/// Programs of another hand, which are only ported.
const PROGRAMS: [&str; 5] = ["bank", "pipeline", "pool", "sieve", "life"];

/// Prints Table 4 of the paper for the applications in `examples/`.
pub fn run() -> Result<(), String> {
    let examples = Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples");
    println!(
        "{:12} {:>6} {:>7} {:>10}   paper",
        "program", "lines", "ported", "to server"
    );
    for Application { name, paper } in APPLICATIONS {
        let folder = examples.join(name);
        let before = code(&folder.join("std.rs"))?;
        let moved = code(&folder.join("crucial.rs"))?;
        let types = examples.join(format!("types/src/{name}.rs"));
        let moved = match types.exists() {
            true => changed_lines_with(&before, &moved, &code(&types)?),
            false => changed_lines(&before, &moved),
        };
        let ported = ported(&folder, &before)?;
        let lines = before.lines().count();
        let paper = match paper {
            None => "-".to_owned(),
            Some(Row { changed, lines }) => format!("{changed} of {lines}"),
        };
        println!("{name:12} {lines:>6} {ported:>7} {moved:>10}   {paper}");
    }
    for name in PROGRAMS {
        let folder = examples.join("programs").join(name);
        let before = code(&folder.join("std.rs"))?;
        let ported = ported(&folder, &before)?;
        let lines = before.lines().count();
        println!("{name:12} {lines:>6} {ported:>7} {:>10}   -", "-");
    }
    println!(
        "ported: std's program with `use crucial::std;`. to server: its state as `#[shared]` types, whose methods run on the \
         server.\nEvery changed line counts, imports and derives too, but for blank ones and comments; of a run of changed \
         lines the longer of the removed and the added. Types of shared objects stand in a crate of their own, so that they \
         can be uploaded; they count as if they were in the program, where they fit best, without their imports."
    );
    Ok(())
}

/// How many lines the port of a program changes, if there is one.
fn ported(folder: &Path, before: &str) -> Result<String, String> {
    let path = folder.join("ported.rs");
    match path.exists() {
        true => Ok(changed_lines(before, &code(&path)?).to_string()),
        false => Ok("-".to_owned()),
    }
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

/// The types of shared objects are in a crate of their own, so that they can be uploaded. They count as if
/// they were in the program, where they fit best; so what their file imports does not count again.
fn changed_lines_with(before: &str, after: &str, types: &str) -> usize {
    let is_import = |line: &&str| {
        let line = line.trim_start_matches("pub ");
        line.starts_with("use ") || line.starts_with("mod ")
    };
    let types: String = types
        .split_inclusive('\n')
        .filter(|line| !is_import(line))
        .collect();
    let places = after.match_indices('\n').map(|(end, _)| end + 1);
    let changes = places.map(|place| {
        let (head, tail) = after.split_at(place);
        changed_lines(before, &format!("{head}{types}{tail}"))
    });
    changes.min().unwrap_or(0)
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
    use super::{changed_lines, changed_lines_with};

    #[test]
    fn a_modified_line_counts_once() {
        assert_eq!(changed_lines("a\nb\nc\n", "a\nx\nc\n"), 1);
        assert_eq!(changed_lines("a\nb\nc\n", "a\nc\n"), 1);
        assert_eq!(changed_lines("a\nc\n", "a\nx\ny\nc\n"), 2);
        assert_eq!(changed_lines("a\n", "a\n"), 0);
    }

    #[test]
    fn types_count_where_they_fit_best() {
        assert_eq!(changed_lines_with("a\nt\nb\n", "a\nb\n", "use c;\nt\n"), 0);
        assert_eq!(changed_lines_with("a\nt\nb\n", "a\nb\n", "s\nt\n"), 1);
    }
}
