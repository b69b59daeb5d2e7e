//! Markdown is wrapped at one width, except for what cannot be: tables, code, headings, a long link.

use std::collections::HashSet;
use std::path::Path;

use super::report::Violation;
use super::rules::Rules;

const RULE: &str = "markdown";

pub fn check(path: &Path, text: &str, rules: &Rules) -> Vec<Violation> {
    if rules.is_exception(RULE, path, "") {
        return Vec::new();
    }
    let max = rules.limits.markdown_columns;
    let wrapped = wrap(text, max);
    // Lines that stay as they are cannot be wrapped.
    let kept: HashSet<&str> = wrapped.lines().collect();
    let mut found = Vec::new();
    for (at, line) in text.lines().enumerate() {
        let columns = line.chars().count();
        if columns > max && !kept.contains(line) {
            let message = format!(
                "{columns} columns, and {max} is the most: `cargo xtask wrap {}`",
                path.display()
            );
            found.push(Violation::new(RULE, path, at + 1, message));
        }
    }
    found
}

/// Fills the lines of paragraphs and list items.
pub fn wrap(text: &str, columns: usize) -> String {
    let mut out = String::new();
    let mut open: Option<Paragraph> = None;
    let mut fence: Option<&str> = None;
    for line in text.lines() {
        let content = line.trim();
        if let Some(mark) = fence {
            if content.starts_with(mark) {
                fence = None;
            }
            push(&mut out, line);
            continue;
        }
        let is_code = line.starts_with("    ") && open.is_none() && marker(content) == 0;
        if is_code || stands_alone(content) {
            close(&mut open, &mut out, columns);
            fence = ["```", "~~~"]
                .into_iter()
                .find(|mark| content.starts_with(mark));
            push(&mut out, line);
            continue;
        }
        let indent = line.len() - line.trim_start().len();
        if open.is_none() || marker(content) > 0 {
            close(&mut open, &mut out, columns);
            let (first, rest) = content.split_at(marker(content));
            open = Some(Paragraph {
                first: format!("{}{first}", &line[..indent]),
                indent: indent + first.chars().count(),
                text: rest.to_owned(),
            });
        } else if let Some(paragraph) = &mut open {
            paragraph.text.push(' ');
            paragraph.text.push_str(content);
        }
        if line.ends_with("  ") || line.ends_with('\\') {
            // A line break that is meant.
            if let Some(paragraph) = &mut open {
                let end = if line.ends_with('\\') { "" } else { "  " };
                paragraph.text.push_str(end);
            }
            close(&mut open, &mut out, columns);
        }
    }
    close(&mut open, &mut out, columns);
    out
}

struct Paragraph {
    /// What its first line begins with: white space, the marker of a list item.
    first: String,
    /// Of its other lines.
    indent: usize,
    text: String,
}

fn push(out: &mut String, line: &str) {
    out.push_str(line);
    out.push('\n');
}

/// Lines that are no part of a paragraph.
fn stands_alone(content: &str) -> bool {
    let is_definition = content.starts_with('[') && content.contains("]: ");
    let is_rule = !content.is_empty() && content.chars().all(|c| "-=*_".contains(c));
    let is_block = ["#", "|", ">", "<", "```", "~~~"]
        .iter()
        .any(|mark| content.starts_with(mark));
    content.is_empty() || is_definition || is_rule || is_block
}

/// The length of a list item's marker, with the space behind it.
fn marker(content: &str) -> usize {
    let digits = content.len()
        - content
            .trim_start_matches(|c: char| c.is_ascii_digit())
            .len();
    let rest = &content[digits..];
    let is_marker = match digits {
        0 => rest.starts_with(['-', '*', '+']),
        1..=3 => rest.starts_with(['.', ')']),
        // The end of a sentence with a year, rather.
        _ => false,
    };
    let spaces = rest
        .get(1..)
        .map_or(0, |rest| rest.len() - rest.trim_start_matches(' ').len());
    if is_marker && spaces > 0 {
        digits + 1 + spaces
    } else {
        0
    }
}

fn close(open: &mut Option<Paragraph>, out: &mut String, columns: usize) {
    let Some(paragraph) = open.take() else { return };
    let mut line = paragraph.first;
    let mut is_first = true;
    for token in tokens(&paragraph.text) {
        let width = line.chars().count() + 1 + token.chars().count();
        if !is_first && width > columns {
            push(out, &line);
            line = " ".repeat(paragraph.indent);
            is_first = true;
        }
        if !is_first {
            line.push(' ');
        }
        line.push_str(&token);
        is_first = false;
    }
    if paragraph.text.ends_with("  ") {
        line.push_str("  ");
    }
    push(out, &line);
}

/// Words, with a piece of code as one, and with no word first in a line that would begin something else there.
fn tokens(text: &str) -> Vec<String> {
    let mut tokens: Vec<String> = Vec::new();
    let mut rest = text.trim();
    while !rest.is_empty() {
        let length = token_length(rest);
        let (token, behind) = rest.split_at(length);
        rest = behind.trim_start();
        let is_mark = marker(&format!("{token} ")) > 0
            || ["#", "|", ">", "<", "```", "~~~"]
                .iter()
                .any(|mark| token.starts_with(mark))
            || token.chars().all(|c| "-=*_".contains(c));
        match tokens.last_mut() {
            Some(last) if is_mark => {
                last.push(' ');
                last.push_str(token);
            }
            _ => tokens.push(token.to_owned()),
        }
    }
    tokens
}

fn token_length(text: &str) -> usize {
    let mut at = 0;
    while let Some(c) = text[at..].chars().next() {
        if c == ' ' {
            return at;
        }
        if c == '`' {
            let ticks = text[at..].len() - text[at..].trim_start_matches('`').len();
            let behind = at + ticks;
            at = match text[behind..].find(&text[at..behind]) {
                Some(end) => behind + end + ticks,
                None => behind,
            };
            continue;
        }
        at += c.len_utf8();
    }
    text.len()
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::{check, wrap};
    use crate::house::rules::Rules;

    #[test]
    fn paragraphs_are_filled() {
        assert_eq!(
            wrap("one two three\nfour\n\nfive\n", 10),
            "one two\nthree four\n\nfive\n"
        );
        assert_eq!(wrap("  one two\n  three\n", 9), "  one two\n  three\n");
    }

    #[test]
    fn list_items_keep_their_indent() {
        assert_eq!(
            wrap("- one two three\n- four\n  five\n", 9),
            "- one two\n  three\n- four\n  five\n"
        );
        assert_eq!(
            wrap("10. one two three\n    four\n", 12),
            "10. one two\n    three\n    four\n"
        );
        assert_eq!(
            wrap("- one\n\n  two three\n", 9),
            "- one\n\n  two\n  three\n"
        );
        assert_eq!(
            wrap("- a\n  - one two three\n", 11),
            "- a\n  - one two\n    three\n"
        );
    }

    #[test]
    fn what_cannot_be_wrapped_stays() {
        for text in [
            "```sh\none two three\n\n- a\n```\n",
            "| one | two | three |\n|---|---|---|\n",
            "# one two three\n",
            "    one two three\n",
            "https://one.two.three\n",
            "[one]: https://one.two\n",
            "> one two three\n",
            "`one two three`\n",
        ] {
            assert_eq!(wrap(text, 8), text);
        }
    }

    #[test]
    fn no_line_begins_something_new() {
        assert_eq!(wrap("one two - three\n", 8), "one\ntwo -\nthree\n");
        assert_eq!(wrap("it took 199. Then\n", 8), "it\ntook 199.\nThen\n");
        assert_eq!(wrap("one\n1999) two\n", 20), "one 1999) two\n");
        assert_eq!(wrap("one  \ntwo\\\nthree\n", 20), "one  \ntwo\\\nthree\n");
    }

    #[test]
    fn long_lines_are_found_where_they_can_be_wrapped() {
        let rules = Rules::of_test(
            r#"
            limits = { file_lines = 1, parameters = 1, markdown_columns = 8 }
            exceptions = [{ rule = "markdown", path = "made.md", reason = "generated" }]
            "#,
        );
        let text = "one two\n\nthree four\n\n| five | six |\n\n`seven eight`\n";
        let found = check(Path::new("a.md"), text, &rules);
        assert_eq!(
            found
                .iter()
                .map(|violation| violation.line)
                .collect::<Vec<_>>(),
            [3]
        );
        assert_eq!(check(Path::new("made.md"), text, &rules), []);
    }
}
