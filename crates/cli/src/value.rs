//! Values, as commands read and print them.

use std::fmt::Display;
use std::ops::RangeInclusive;
use std::str::FromStr;
use std::time::Duration;

use crucial_proto::Endpoint;
use crucial_runtime::whole_number;
use serde_json::{Value, json};

use super::print;

/// The result of a command.
pub struct Answer {
    value: Value,
    /// The lines that are printed without `--json`, where they differ from the value.
    lines: Option<Vec<Value>>,
    exit: Exit,
}

/// How a command ends.
enum Exit {
    Done,
    NoValue,
    /// With the exit status of another program, which has printed its own output.
    As(u8),
}

impl Answer {
    /// Success without a value.
    pub fn done() -> Answer {
        Answer::of(Value::Null)
    }

    /// A value. `null` prints nothing.
    pub fn of(value: impl Into<Value>) -> Answer {
        Answer {
            value: value.into(),
            lines: None,
            exit: Exit::Done,
        }
    }

    /// Other lines to print without `--json`.
    pub fn with_lines(mut self, lines: impl FnOnce(&Value) -> Vec<Value>) -> Answer {
        self.lines = Some(lines(&self.value));
        self
    }

    /// A value, or the exit status for no value.
    pub fn maybe(value: Option<impl Into<Value>>) -> Answer {
        Answer {
            exit: match value {
                Some(_) => Exit::Done,
                None => Exit::NoValue,
            },
            value: value.map_or(Value::Null, Into::into),
            lines: None,
        }
    }

    /// Whether an attempt succeeded, as a value and in the exit status.
    pub fn whether(worked: bool) -> Answer {
        Answer {
            value: worked.into(),
            lines: None,
            exit: if worked { Exit::Done } else { Exit::NoValue },
        }
    }

    /// The exit status of another program.
    pub fn exit(code: u8) -> Answer {
        Answer {
            exit: Exit::As(code),
            ..Answer::done()
        }
    }

    /// Pairs of keys and values.
    pub fn entries<V: Into<Value>>(entries: Vec<(String, V)>) -> Answer {
        let entries = entries
            .into_iter()
            .map(|(key, value)| json!([key, value.into()]));
        Answer::of(Value::Array(entries.collect()))
    }

    /// The exit status; `no_value` if there is no value.
    pub fn code(&self, no_value: u8) -> u8 {
        match self.exit {
            Exit::Done => 0,
            Exit::NoValue => no_value,
            Exit::As(code) => code,
        }
    }

    /// Prints the value as JSON, or a line for each item.
    pub fn print(&self, as_json: bool) -> crucial_object::Result<()> {
        match &self.value {
            _ if matches!(self.exit, Exit::As(_)) => Ok(true),
            value if as_json => print::lines([value]),
            _ if self.lines.is_some() => print::lines(self.lines.iter().flatten().map(line)),
            Value::Null => Ok(true),
            Value::Array(items) => print::lines(items.iter().map(line)),
            other => print::lines([line(other)]),
        }
        .map(drop)
    }
}

/// Text without quotes; the parts of a pair separated by a tab.
fn line(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        Value::Array(items) => items.iter().map(line).collect::<Vec<_>>().join("\t"),
        other => other.to_string(),
    }
}

/// How many signs of a wrong text a message shows.
const SHOWN_MAX: usize = 60;

/// A text as a message shows it: the beginning of a long one.
pub fn quoted(text: &str) -> String {
    match text.char_indices().nth(SHOWN_MAX) {
        Some((end, _)) => format!("{:?} ..", &text[..end]),
        None => format!("{text:?}"),
    }
}

/// Parses `10s`, `500ms`, `2m`. A number without a unit is in seconds.
pub fn duration(text: &str) -> Result<Duration, String> {
    let units = [("ms", 0.001), ("s", 1.0), ("m", 60.0), ("", 1.0)];
    let (number, factor) = units
        .iter()
        .find_map(|(unit, factor)| Some((text.strip_suffix(unit)?, factor)))
        .unwrap_or((text, &1.0));
    let seconds: f64 = number
        .parse()
        .map_err(|_| format!("{text:?} is not a duration: write 10s, 500ms or 2m"))?;
    Duration::try_from_secs_f64(seconds * factor)
        .map_err(|_| format!("{text:?} is not a duration that can be waited for"))
}

/// The parser of a whole number in a range.
pub fn within<N>(range: RangeInclusive<N>) -> impl Fn(&str) -> Result<N, String> + Clone
where
    N: FromStr + PartialOrd + Display + Clone,
{
    move |text| whole_number(text, &range)
}

/// The parser of the address at which servers reach each other.
pub fn reachable(text: &str) -> Result<String, String> {
    match text.trim().parse().and_then(Endpoint::reachable) {
        Ok(endpoint @ Endpoint::Tcp { .. }) => Ok(endpoint.to_string()),
        Ok(Endpoint::Unix(_)) => {
            Err("servers of a cluster reach each other at HOST:PORT".to_owned())
        }
        Err(error) => Err(error.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_in_their_range() {
        let parse = within(1..=300u16);
        assert_eq!((parse("1"), parse("300")), (Ok(1), Ok(300)));
        for wrong in ["", "0", "301", "70000", "-1", "1.5", "x", " 1"] {
            let error = parse(wrong).unwrap_err();
            assert_eq!(
                error, "a whole number from 1 to 300 is expected",
                "{wrong:?}"
            );
        }
    }

    #[test]
    fn a_long_text_is_shown_in_part() {
        assert_eq!(quoted("a\0"), "\"a\\0\"");
        assert_eq!(
            quoted(&"é".repeat(61)),
            format!("\"{}\" ..", "é".repeat(60))
        );
    }

    #[test]
    fn durations() {
        assert_eq!(duration("500ms"), Ok(Duration::from_millis(500)));
        assert_eq!(duration("1.5"), Ok(Duration::from_millis(1500)));
        assert_eq!(duration("2m"), Ok(Duration::from_secs(120)));
        assert!(duration("soon").is_err() && duration("-1s").is_err() && duration("").is_err());
    }
}
