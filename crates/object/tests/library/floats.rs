//! Floating-point arithmetic as the library promises it: bit by bit the same everywhere.

use crucial_object::sync::Reduction;

/// The bits: which NaN it is, and the sign of a zero.
pub fn bits(values: impl IntoIterator<Item = f64>) -> Vec<u64> {
    values.into_iter().map(f64::to_bits).collect()
}

/// What a computed value is.
pub fn computed(value: f64) -> f64 {
    if value.is_nan() {
        f64::from_bits(0x7ff8_0000_0000_0000)
    } else {
        value
    }
}

/// One after the other.
pub fn reduced(how: Reduction, values: &[f64]) -> f64 {
    let sum = || values[1..].iter().fold(values[0], |sum, value| sum + value);
    let numbers = values.iter().copied().filter(|value| !value.is_nan());
    computed(match how {
        Reduction::Sum => sum(),
        Reduction::Mean => sum() / values.len() as f64,
        Reduction::Min => numbers.min_by(f64::total_cmp).unwrap_or(f64::NAN),
        Reduction::Max => numbers.max_by(f64::total_cmp).unwrap_or(f64::NAN),
    })
}

/// Values that are easily got wrong.
pub const SPECIAL: [f64; 8] = [
    0.0,
    -0.0,
    f64::NAN,
    -f64::NAN,
    f64::from_bits(0x7ff0_0000_0000_0001),
    f64::INFINITY,
    f64::NEG_INFINITY,
    f64::MIN_POSITIVE,
];
