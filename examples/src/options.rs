//! Options that several programs have.

/// A finite number, as an option's value.
///
/// # Errors
///
/// What is wrong with it.
pub fn finite(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(number) if number.is_finite() => Ok(number),
        Ok(_) => Err("a finite number is needed".to_owned()),
        Err(error) => Err(error.to_string()),
    }
}
