//! What a reader reads in a source: comments, texts and names. `syn` drops comments.

/// A piece of a source.
#[derive(Debug, PartialEq, Eq)]
pub enum Piece {
    /// Lines of a comment that follow each other: each with its number.
    Comment(Vec<(usize, String)>),
    /// A literal string: its lines, as they are written.
    Text(Vec<(usize, String)>),
    Name(usize, String),
}

pub fn pieces(source: &str) -> Vec<Piece> {
    let mut lexer = Lexer {
        rest: source,
        line: 1,
        pieces: Vec::new(),
    };
    while !lexer.rest.is_empty() {
        lexer.next();
    }
    lexer.pieces
}

struct Lexer<'a> {
    rest: &'a str,
    line: usize,
    pieces: Vec<Piece>,
}

impl<'a> Lexer<'a> {
    fn next(&mut self) {
        let rest = self.rest;
        let first = rest.chars().next().unwrap_or_default();
        if rest.starts_with("//") {
            self.line_comment();
        } else if rest.starts_with("/*") {
            self.block_comment();
        } else if let Some(hashes) = raw_string(rest) {
            let start = rest.find('"').unwrap_or_default() + 1;
            self.take(start);
            let end = format!("\"{}", "#".repeat(hashes));
            let length = self.rest.find(&end).unwrap_or(self.rest.len());
            self.text(length);
            self.take(end.len());
        } else if first == '"' || rest.starts_with("b\"") || rest.starts_with("c\"") {
            self.take(rest.find('"').unwrap_or_default() + 1);
            self.text(string_length(self.rest));
            self.take(1);
        } else if first == '\'' {
            self.take(character_length(rest));
        } else if first.is_alphabetic() || first == '_' {
            let length = word_length(rest);
            let name = self.take(length).to_owned();
            self.pieces.push(Piece::Name(self.line, name));
        } else if first.is_ascii_digit() {
            self.take(word_length(rest));
        } else {
            self.take(first.len_utf8());
        }
    }

    fn take(&mut self, length: usize) -> &'a str {
        let (taken, rest) = self.rest.split_at(length.min(self.rest.len()));
        self.rest = rest;
        self.line += taken.matches('\n').count();
        taken
    }

    fn text(&mut self, length: usize) {
        let line = self.line;
        let text = self.take(length);
        self.pieces.push(Piece::Text(numbered(line, text)));
    }

    fn line_comment(&mut self) {
        let line = self.line;
        let length = self.rest.find('\n').unwrap_or(self.rest.len());
        let text = self.take(length).trim_start_matches(['/', '!']).to_owned();
        match self.pieces.last_mut() {
            // Only white space is between two comments of following lines.
            Some(Piece::Comment(lines))
                if lines.last().is_some_and(|(last, _)| *last + 1 == line) =>
            {
                lines.push((line, text));
            }
            _ => self.pieces.push(Piece::Comment(vec![(line, text)])),
        }
    }

    fn block_comment(&mut self) {
        let line = self.line;
        let (mut depth, mut length) = (0, 0);
        while length < self.rest.len() {
            let rest = &self.rest[length..];
            if rest.starts_with("/*") {
                (depth, length) = (depth + 1, length + 2);
            } else if rest.starts_with("*/") {
                (depth, length) = (depth - 1, length + 2);
            } else {
                length += rest.chars().next().map_or(1, char::len_utf8);
            }
            if depth == 0 {
                break;
            }
        }
        let text = self.take(length);
        self.pieces.push(Piece::Comment(numbered(line, text)));
    }
}

fn numbered(first: usize, text: &str) -> Vec<(usize, String)> {
    text.split('\n')
        .enumerate()
        .map(|(at, line)| (first + at, line.to_owned()))
        .collect()
}

/// The number of `#` if a raw string begins here.
fn raw_string(rest: &str) -> Option<usize> {
    let rest = rest
        .strip_prefix(['b', 'c'])
        .unwrap_or(rest)
        .strip_prefix('r')?;
    let hashes = rest.len() - rest.trim_start_matches('#').len();
    rest[hashes..].starts_with('"').then_some(hashes)
}

fn string_length(rest: &str) -> usize {
    let mut escaped = false;
    for (at, c) in rest.char_indices() {
        match c {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            '"' => return at,
            _ => {}
        }
    }
    rest.len()
}

/// Of a character; of a lifetime only the quote, so that its name is one.
fn character_length(rest: &str) -> usize {
    let mut inner = rest[1..].char_indices();
    match inner.next() {
        Some((_, '\\')) => {
            inner.next();
            rest[1..]
                .char_indices()
                .skip(2)
                .find(|(_, c)| *c == '\'')
                .map_or(rest.len(), |(at, _)| at + 2)
        }
        Some((_, c)) if rest[1 + c.len_utf8()..].starts_with('\'') => c.len_utf8() + 2,
        _ => 1,
    }
}

fn word_length(rest: &str) -> usize {
    rest.find(|c: char| !(c.is_alphanumeric() || c == '_'))
        .unwrap_or(rest.len())
}

#[cfg(test)]
mod tests {
    use super::{Piece, pieces};

    fn shown(source: &str) -> Vec<String> {
        let join = |lines: Vec<(usize, String)>| {
            let lines: Vec<String> = lines
                .into_iter()
                .map(|(line, text)| format!("{line}:{}", text.trim()))
                .collect();
            lines.join("|")
        };
        let show = |piece| match piece {
            Piece::Comment(lines) => format!("C {}", join(lines)),
            Piece::Text(lines) => format!("T {}", join(lines)),
            Piece::Name(line, name) => format!("N {line}:{name}"),
        };
        pieces(source).into_iter().map(show).collect()
    }

    #[test]
    fn comments_texts_and_names_are_told_apart() {
        assert_eq!(
            shown("/// a \"b\"\n//! c\nfn x // d"),
            ["C 1:a \"b\"|2:c", "N 3:fn", "N 3:x", "C 3:d"]
        );
        assert_eq!(
            shown("/* a /* b */\n c */ x"),
            ["C 1:/* a /* b */|2:c */", "N 2:x"]
        );
        assert_eq!(shown("\"a \\\" // b\" x"), ["T 1:a \\\" // b", "N 1:x"]);
        assert_eq!(shown("r#\"a \" // b\n\"# x"), ["T 1:a \" // b|2:", "N 2:x"]);
        assert_eq!(shown("'\"' 'a' '\\'' &'b x '\\u{1F}'"), ["N 1:b", "N 1:x"]);
        assert_eq!(shown("b\"a\" br\"b\" 0xff 1_u8 'é'"), ["T 1:a", "T 1:b"]);
        assert_eq!(shown("\"open"), ["T 1:open"]);
    }
}
