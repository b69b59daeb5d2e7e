//! Lines of standard input, which are applied in batches: lines that have arrived are applied before the command waits
//! for more.

use std::io::{BufRead, BufReader, Read};

use crucial_object::{Error, Result, system_reason};
use crucial_proto::frame::FRAME_BYTES_MAX;

use super::print;

/// The largest number of lines in one call.
pub const BATCH_LINES: usize = 10_000;

/// The largest number of bytes in one call, unless a single line is longer.
const BATCH_BYTES: usize = 1 << 18;

/// The longest line: no server accepts more.
const LINE_BYTES_MAX: usize = FRAME_BYTES_MAX;

/// Parses lines, and calls `apply` with up to `batch_lines` of the results at a time. Lines for which `parse` returns
/// `None` are skipped.
///
/// # Errors
///
/// The error names the line that is malformed or could not be applied. All lines before that line are applied.
pub fn apply<T: Clone>(
    input: impl Read,
    batch_lines: usize,
    parse: impl Fn(&str) -> Result<Option<T>, String>,
    apply: impl FnMut(Vec<T>) -> Result<()>,
) -> Result<()> {
    let mut input = BufReader::with_capacity(BATCH_BYTES, input);
    let mut batch = Batch {
        lines: Vec::new(),
        apply,
    };
    for number in 1.. {
        let item = match read(&mut input) {
            Ok(None) => break,
            // Some programs begin a text with a mark of its encoding.
            Ok(Some(line)) if number == 1 => parse(line.strip_prefix('\u{feff}').unwrap_or(&line)),
            Ok(Some(line)) => parse(&line),
            Err(error) => Err(error),
        };
        match item {
            Ok(item) => batch.lines.extend(item.map(|item| (number, item))),
            Err(error) => {
                batch.apply()?;
                return Err(wrong(number, number, &Error::Other(error)));
            }
        }
        if batch.lines.len() >= batch_lines || !input.buffer().contains(&b'\n') {
            batch.apply()?;
        }
    }
    batch.apply()
}

/// Calls `apply` with `words`, or with the lines of standard input if the only word is `-`.
pub fn each(
    words: Vec<String>,
    batch_lines: usize,
    mut apply: impl FnMut(Vec<String>) -> Result<()>,
) -> Result<()> {
    if words != ["-"] {
        return apply(words);
    }
    let whole = |line: &str| Ok(Some(line.to_owned()));
    self::apply(std::io::stdin(), batch_lines, whole, apply)
}

/// The next line, without its line end.
fn read(input: &mut impl BufRead) -> Result<Option<String>, String> {
    let mut line = Vec::new();
    let mut limited = input.take(LINE_BYTES_MAX as u64);
    limited
        .read_until(b'\n', &mut line)
        .map_err(|error| system_reason(&error))?;
    if line.is_empty() {
        return Ok(None);
    }
    if line.pop_if(|last| *last == b'\n').is_some() {
        line.pop_if(|last| *last == b'\r');
    } else if line.len() == LINE_BYTES_MAX {
        return Err(format!("longer than {LINE_BYTES_MAX} bytes"));
    }
    let line = String::from_utf8(line).map_err(|error| {
        let is_utf16 = error.as_bytes().starts_with(b"\xff\xfe") || error.as_bytes().contains(&0);
        match is_utf16 {
            true => "not UTF-8: UTF-16, as it seems, which `iconv -f UTF-16 -t UTF-8` converts",
            false => "not UTF-8",
        }
        .to_owned()
    })?;
    Ok(Some(line))
}

struct Batch<T, A> {
    /// Numbers and parsed lines.
    lines: Vec<(u64, T)>,
    apply: A,
}

impl<T: Clone, A: FnMut(Vec<T>) -> Result<()>> Batch<T, A> {
    fn apply(&mut self) -> Result<()> {
        let lines = std::mem::take(&mut self.lines);
        self.apply_part(&lines)
    }

    /// Halves a batch that is refused as a whole, down to the malformed line.
    fn apply_part(&mut self, lines: &[(u64, T)]) -> Result<()> {
        let [(first, _), .., (last, _)] = lines else {
            return lines.first().map_or(Ok(()), |(number, item)| {
                (self.apply)(vec![item.clone()]).map_err(|error| wrong(*number, *number, &error))
            });
        };
        let items = lines.iter().map(|(_, item)| item.clone()).collect();
        match (self.apply)(items) {
            Err(error) if had_no_effect(&error) => {
                let (front, back) = lines.split_at(lines.len() / 2);
                self.apply_part(front)?;
                self.apply_part(back)
            }
            other => other.map_err(|error| wrong(*first, *last, &error)),
        }
    }
}

/// Whether the call was refused as a whole because of its contents.
fn had_no_effect(error: &Error) -> bool {
    match error {
        Error::BadArguments { .. } => true,
        Error::LimitExceeded { limit, .. } => limit == "frame_bytes_max",
        _ => false,
    }
}

fn wrong(first: u64, last: u64, error: &Error) -> Error {
    let (which, them) = if first == last {
        (format!("line {first}"), "it")
    } else {
        (format!("lines {first} to {last}"), "them")
    };
    let before = match first - 1 {
        0 => format!("no line before {them} is"),
        1 => format!("the line before {them} is"),
        count => format!("the {count} lines before {them} are"),
    };
    let unknown = match error {
        Error::Unavailable { .. } | Error::SessionExpired => "; the others may be".to_owned(),
        _ => String::new(),
    };
    let context = format!("{which} of standard input: {error} ({before} applied{unknown})");
    match error {
        // A time-out has an exit status of its own.
        Error::TimedOut { .. } => {
            print::error(context);
            error.clone()
        }
        _ => Error::Other(context),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The applied calls, and the outcome. A 13 is refused, and so are calls with more than `most` items.
    fn applied(input: &[u8], batch_lines: usize, most: usize) -> (Vec<Vec<u32>>, Result<()>) {
        let mut calls = Vec::new();
        let parse = |line: &str| match line {
            "" => Ok(None),
            line => line
                .parse()
                .map(Some)
                .map_err(|_| "not a number".to_owned()),
        };
        let outcome = apply(input, batch_lines, parse, |items: Vec<u32>| {
            let refused = |limit: &str| Error::LimitExceeded {
                limit: limit.to_owned(),
                max: 0,
                detail: String::new(),
            };
            if items.len() > most {
                return Err(refused("frame_bytes_max"));
            }
            if items.contains(&13) {
                return Err(Error::BadArguments {
                    what: "it".to_owned(),
                    detail: "13".to_owned(),
                });
            }
            if items.contains(&14) {
                return Err(Error::SessionExpired);
            }
            calls.push(items);
            Ok(())
        });
        (calls, outcome)
    }

    #[test]
    fn lines_go_in_batches() {
        let (calls, outcome) = applied(b"1\n2\r\n\n3\n4", 2, 9);
        assert_eq!(
            (calls, outcome),
            (vec![vec![1, 2], vec![3], vec![4]], Ok(()))
        );
        let (calls, outcome) = applied(b"1\n2\n3\n4\n5\n", 100, 2);
        let halves = vec![vec![1, 2], vec![3], vec![4, 5]];
        assert_eq!((calls, outcome), (halves, Ok(())));
        assert_eq!(applied(b"", 2, 9), (vec![], Ok(())));
        let (calls, outcome) = applied(b"\xef\xbb\xbf1\n2\n", 100, 9);
        assert_eq!((calls, outcome), (vec![vec![1, 2]], Ok(())));
    }

    /// The input, the applied lines, and the error: which line, why, and what happened to the lines before.
    type Wrong<'a> = (&'a [u8], &'a [u32], &'a str, &'a str, &'a str);

    #[test]
    fn the_wrong_line_is_named_and_those_before_it_are_applied() {
        let refused = "it does not accept this: 13";
        let lost = Error::SessionExpired.to_string();
        let wrong: [Wrong<'_>; 5] = [
            (
                b"x\n",
                &[],
                "line 1",
                "not a number",
                "no line before it is applied",
            ),
            (
                b"1\n\n\xff\n2\n",
                &[1],
                "line 3",
                "not UTF-8",
                "the 2 lines before it are applied",
            ),
            (
                b"1\n2\n3\n13\n5\n",
                &[1, 2, 3],
                "line 4",
                refused,
                "the 3 lines before it are applied",
            ),
            (
                b"1\n13",
                &[1],
                "line 2",
                refused,
                "the line before it is applied",
            ),
            (
                b"1\n14\n2\n",
                &[],
                "lines 1 to 3",
                &lost,
                "no line before them is applied; the others may be",
            ),
        ];
        for (input, good, which, why, before) in wrong {
            let (calls, outcome) = applied(input, 100, 9);
            assert_eq!(calls.concat(), good);
            let message = format!("{which} of standard input: {why} ({before})");
            assert_eq!(outcome, Err(Error::Other(message)));
        }
    }
}
