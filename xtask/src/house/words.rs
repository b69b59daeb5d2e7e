//! Words of the field, and plain English (CONTRIBUTING.md).

use std::path::Path;

use super::lexer::{Piece, pieces};
use super::report::Violation;
use super::rules::{Exception, FILE, Rules};

const RULE: &str = "words";

/// Looks at the comments, texts and names of a source.
pub fn check_source(path: &Path, source: &str, rules: &Rules) -> Vec<Violation> {
    let mut found = Found {
        path,
        rules,
        violations: Vec::new(),
    };
    for piece in pieces(source) {
        match piece {
            Piece::Comment(lines) => {
                found.opening(&lines);
                found.text(&lines);
            }
            Piece::Text(lines) => found.text(&lines),
            Piece::Name(line, name) => found.name(line, &name),
        }
    }
    found.violations
}

/// Looks at all of the text, but not at code.
pub fn check_markdown(path: &Path, text: &str, rules: &Rules) -> Vec<Violation> {
    let mut found = Found {
        path,
        rules,
        violations: Vec::new(),
    };
    let mut paragraph = Vec::new();
    let mut is_code = false;
    for (at, line) in text.lines().enumerate() {
        let fence = line.trim_start().starts_with("```");
        if fence || is_code || line.trim().is_empty() {
            found.text(&std::mem::take(&mut paragraph));
        } else {
            paragraph.push((at + 1, line.to_owned()));
        }
        is_code ^= fence;
    }
    found.text(&paragraph);
    found.violations
}

/// Exceptions to no word of the list.
pub fn unused_exceptions(rules: &Rules) -> Vec<Violation> {
    let listed = |word: &String| rules.words.iter().any(|entry| entry.now.contains(word));
    let known = |word: &String| word.is_empty() || listed(word) || rules.openings.contains(word);
    let unused = rules
        .exceptions
        .iter()
        .filter(|e| e.rule == RULE && !known(&e.word));
    let violation = |exception: &Exception| {
        let message = format!(
            "an exception is about {:?}, which is not in the list",
            exception.word
        );
        Violation::new(RULE, Path::new(FILE), 0, message)
    };
    unused.map(violation).collect()
}

struct Found<'a> {
    path: &'a Path,
    rules: &'a Rules,
    violations: Vec<Violation>,
}

impl Found<'_> {
    /// A phrase may begin in one line and end in the next.
    fn text(&mut self, lines: &[(usize, String)]) {
        let words: Vec<(usize, String)> = lines
            .iter()
            .flat_map(|(line, text)| words(text).map(|word| (*line, word)))
            .collect();
        for entry in &self.rules.words {
            for now in &entry.now {
                let phrase: Vec<&str> = now.split(' ').collect();
                for at in words.windows(phrase.len()) {
                    if at.iter().zip(&phrase).all(|((_, word), part)| word == part) {
                        self.add(at[0].0, now, &format!("{now:?}: {}", entry.word));
                    }
                }
            }
        }
    }

    /// How a comment begins.
    fn opening(&mut self, lines: &[(usize, String)]) {
        let Some((line, text)) = lines.first() else {
            return;
        };
        let first = text.split_whitespace().next().unwrap_or_default();
        if let Some(opening) = self.rules.openings.iter().find(|opening| *opening == first) {
            self.add(
                *line,
                opening,
                &format!("a comment begins with {opening:?}: name the subject"),
            );
        }
    }

    fn name(&mut self, line: usize, name: &str) {
        let parts = parts(name);
        for entry in &self.rules.words {
            for now in entry.now.iter().filter(|now| parts.contains(now)) {
                self.add(
                    line,
                    now,
                    &format!("{now:?} in the name {name}: {}", entry.word),
                );
            }
        }
    }

    fn add(&mut self, line: usize, word: &str, message: &str) {
        let repeated =
            |violation: &Violation| violation.line == line && violation.message == message;
        if !self.rules.is_exception(RULE, self.path, word) && !self.violations.iter().any(repeated)
        {
            self.violations
                .push(Violation::new(RULE, self.path, line, message.to_owned()));
        }
    }
}

/// The words of a text in small letters; a sign between two is a word, so that no phrase goes over the end of a sentence.
fn words(text: &str) -> impl Iterator<Item = String> {
    let mut found = Vec::new();
    let mut word = String::new();
    for c in text.chars().chain([' ']) {
        if c.is_alphanumeric() || c == '_' || c == '\'' {
            word.extend(c.to_lowercase());
            continue;
        }
        if !word.is_empty() {
            found.push(std::mem::take(&mut word));
        }
        // Emphasis and code are within a phrase.
        if !c.is_whitespace() && !"*`\\".contains(c) {
            found.push(c.to_string());
        }
    }
    found.into_iter()
}

/// The words of a name: `taken` and `place` of `TakenPlace` and `taken_place`.
fn parts(name: &str) -> Vec<String> {
    let mut parts = vec![String::new()];
    let mut was_lower = false;
    for c in name.chars() {
        if c == '_' || (c.is_uppercase() && was_lower) {
            parts.push(String::new());
        }
        if c != '_' {
            parts
                .last_mut()
                .into_iter()
                .for_each(|part| part.extend(c.to_lowercase()));
        }
        was_lower = c.is_lowercase();
    }
    parts
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::{check_markdown, check_source, unused_exceptions};
    use crate::house::report::Violation;
    use crate::house::rules::Rules;

    fn rules() -> Rules {
        Rules::of_test(
            r#"
            openings = ["It"]
            words = [
                { now = ["throne", "thrones"], word = "term" },
                { now = ["does not"], word = "never" },
            ]
            exceptions = [
                { rule = "words", path = "play", word = "throne", reason = "a play about a king" },
                { rule = "words", path = "play", word = "chair", reason = "gone" },
            ]
            "#,
        )
    }

    fn lines(found: Vec<Violation>) -> Vec<usize> {
        found.into_iter().map(|violation| violation.line).collect()
    }

    fn source(text: &str) -> Vec<usize> {
        lines(check_source(Path::new("a.rs"), text, &rules()))
    }

    #[test]
    fn words_are_found_in_comments_texts_and_names() {
        assert_eq!(
            source(
                "// The Throne.\nfn f() { \"a throne\" }\nstruct ThroneRoom; let old_throne = 1;"
            ),
            [1, 2, 3, 3]
        );
        assert_eq!(source("// overthrone\nfn f(enthroned: u8) {}"), [0; 0]);
    }

    #[test]
    fn phrases_go_over_lines_and_not_over_sentences() {
        assert_eq!(source("\n// one does\n// not tell"), [2]);
        assert_eq!(source("// one does. Not tell"), [0; 0]);
        assert_eq!(source("// one does\nfn f() {}\n// not"), [0; 0]);
        assert_eq!(source("fn does_not() { \"I `does` not\" }"), [1]);
    }

    #[test]
    fn comments_name_their_subject() {
        assert_eq!(source("/// It is.\n\n/// A thing. It is.\n\n/// Its."), [1]);
    }

    #[test]
    fn markdown_is_looked_at_without_code() {
        let text = "He does\nnot.\n\n```\nthrone\n```\n| throne |";
        assert_eq!(
            lines(check_markdown(Path::new("a.md"), text, &rules())),
            [1, 7]
        );
    }

    #[test]
    fn exceptions_are_by_file_and_word() {
        let found = check_source(
            Path::new("play/a.rs"),
            "// a throne that does not",
            &rules(),
        );
        assert_eq!(found.len(), 1, "{found:?}");
        assert_eq!(unused_exceptions(&rules()).len(), 1);
    }
}
