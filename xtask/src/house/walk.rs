//! The page that walks a call: each function that a row of its tables names is in the row's file, and there are few
//! files and crates.

use std::collections::BTreeSet;
use std::path::Path;

use super::report::Violation;
use super::rules::Rules;

const RULE: &str = "walk";

/// `read` gives the text of a file below `crates`, if there is one.
pub fn check(text: &str, rules: &Rules, read: &dyn Fn(&str) -> Option<String>) -> Vec<Violation> {
    let walk = &rules.walk;
    let mut found = Vec::new();
    let mut report = |line: usize, message| {
        found.push(Violation::new(RULE, &walk.page, line, message));
    };
    let mut files = BTreeSet::new();
    for (at, line) in text.lines().enumerate() {
        let cells: Vec<&str> = line.split('|').map(str::trim).collect();
        let ["", file, functions, _, ""] = cells[..] else {
            continue;
        };
        let [file] = code(file)[..] else { continue };
        files.insert(file);
        let Some(source) = read(file) else {
            report(at + 1, format!("no file crates/{file}"));
            continue;
        };
        for function in code(functions) {
            let name = function.rsplit("::").next().unwrap_or(function);
            if !defines(&source, name) {
                report(at + 1, format!("no function {name} in crates/{file}"));
            }
        }
    }
    let crates = files
        .iter()
        .filter_map(|file| Path::new(file).iter().next());
    let crates: BTreeSet<_> = crates.collect();
    for (what, number, max) in [
        ("files", files.len(), walk.files),
        ("crates", crates.len(), walk.crates),
    ] {
        if number == 0 || number > max {
            report(0, format!("{number} {what}, and {max} are the most"));
        }
    }
    found
}

/// The pieces of code of a cell.
fn code(cell: &str) -> Vec<&str> {
    cell.split('`').skip(1).step_by(2).collect()
}

fn defines(source: &str, name: &str) -> bool {
    let head = format!("fn {name}");
    let mut heads = source.match_indices(&head);
    heads.any(|(at, _)| source[at + head.len()..].starts_with(['(', '<']))
}

#[cfg(test)]
mod tests {
    use super::check;
    use crate::house::rules::Rules;

    fn found(text: &str) -> Vec<(usize, String)> {
        let rules = Rules::parse(
            r#"
            openings = []
            words = []
            pure = []
            limits = { file_lines = 1, parameters = 1, markdown_columns = 8 }
            node = { folder = "node", forbidden = [] }
            server = { package = "server", types = [], from = "node" }
            walk = { page = "walk.md", files = 2, crates = 1 }
            "#,
        )
        .unwrap();
        let read = |file: &str| {
            let source = "pub fn call_all() {}\nfn send<T>() {}\n// fn begin\n";
            (file != "a/src/none.rs").then(|| source.to_owned())
        };
        let found = check(text, &rules, &read).into_iter();
        found.map(|found| (found.line, found.message)).collect()
    }

    #[test]
    fn functions_are_looked_for_in_the_file_of_their_row() {
        let text = "# `a/src/none.rs`\n\n| file | function | what |\n|---|---|---|\n\
                    | `a/src/lib.rs` | `A::call_all`, `send` | `all` |\n| made | `call` | a |\n";
        assert_eq!(found(text), []);
        let text = "| `a/src/lib.rs` | `call`, `A::begin` | a |\n| `a/src/none.rs` | | a |\n";
        let expected = [
            (1, "no function call in crates/a/src/lib.rs".to_owned()),
            (1, "no function begin in crates/a/src/lib.rs".to_owned()),
            (2, "no file crates/a/src/none.rs".to_owned()),
        ];
        assert_eq!(found(text), expected);
    }

    #[test]
    fn files_and_crates_are_counted() {
        let row = |file: &str| format!("| `{file}` | `send` | a |\n");
        let text = [row("a/src/a.rs"), row("a/src/b.rs"), row("a/src/a.rs")].concat();
        assert_eq!(found(&text), []);
        let text = [text, row("b/src/c.rs")].concat();
        let expected = [
            (0, "3 files, and 2 are the most".to_owned()),
            (0, "2 crates, and 1 are the most".to_owned()),
        ];
        assert_eq!(found(&text), expected);
        // Without tables the page walks nothing.
        assert_eq!(found("").len(), 2);
    }
}
