//! Options that several programs have.

use std::fmt::Display;
use std::ops::RangeInclusive;
use std::str::FromStr;

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
