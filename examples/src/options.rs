//! Options that several programs have.

use std::any::TypeId;
use std::ffi::OsString;
use std::fmt::Display;
use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::str::FromStr;

use clap::{Command, Parser};

/// A day, as the longest pause that a program makes.
pub const MILLIS_MAX: u64 = 24 * 3600 * 1000;

/// The options of a program, from its command line.
pub fn parse<O: Parser>() -> O {
    let mut matches = with_signs(O::command()).get_matches();
    O::from_arg_matches_mut(&mut matches).unwrap_or_else(|error| error.exit())
}

/// Lets the values of options begin with a hyphen, so that a number below 0 is refused with the range in which it must be,
/// and not as an unknown option. (Of a text only if it is a number: `--file --threads 2` lacks the file.)
fn with_signs(command: Command) -> Command {
    let texts = [
        TypeId::of::<String>(),
        TypeId::of::<OsString>(),
        TypeId::of::<PathBuf>(),
    ];
    command.mut_args(|arg| {
        let kind = arg.get_value_parser().type_id();
        match arg.get_action().takes_values() {
            true if arg.is_positional() || texts.iter().any(|text| kind == *text) => {
                arg.allow_negative_numbers(true)
            }
            true => arg.allow_hyphen_values(true),
            false => arg,
        }
    })
}

/// The parser of a whole number in a range, as an option's value.
pub fn within<N>(range: RangeInclusive<N>) -> impl Fn(&str) -> Result<N, String> + Clone
where
    N: FromStr + PartialOrd + Display + Clone,
{
    move |text| match text.parse() {
        Ok(number) if range.contains(&number) => Ok(number),
        _ => {
            let (least, most) = (range.start(), range.end());
            Err(format!("a whole number from {least} to {most} is needed"))
        }
    }
}

/// A finite number, as an option's value.
///
/// # Errors
///
/// What is wrong with it.
pub fn finite(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(number) if number.is_finite() => Ok(number),
        _ => Err("a finite number is needed".to_owned()),
    }
}

/// A finite number above 0, as an option's value.
///
/// # Errors
///
/// The value is not such a number.
pub fn positive(text: &str) -> Result<f64, String> {
    match finite(text) {
        Ok(number) if number > 0.0 => Ok(number),
        _ => Err("a finite number above 0 is needed".to_owned()),
    }
}
