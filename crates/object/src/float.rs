//! Floating-point arithmetic with one result on every machine: `min` and `max` of the standard library may
//! choose either of two zeros, and the bits of a computed NaN are the processor's choice.

use std::cmp::Ordering;
use std::ops::Add;

/// `f32` and `f64`.
pub(crate) trait Float: Copy + Add<Output = Self> {
    /// The number itself, or the one NaN that is a result.
    fn canonical(self) -> Self;

    fn is_nan(self) -> bool;

    /// By value, -0.0 below 0.0. A NaN is below all numbers, and equal to others.
    fn rank(self, other: Self) -> Ordering;

    fn plus(self, other: Self) -> Self {
        (self + other).canonical()
    }

    /// The larger number; a NaN only if both are.
    fn larger(self, other: Self) -> Self {
        if self.rank(other).is_lt() {
            other
        } else {
            self.canonical()
        }
    }

    /// The smaller number; a NaN only if both are.
    fn smaller(self, other: Self) -> Self {
        if other.is_nan() || self.rank(other).is_lt() && !self.is_nan() {
            self.canonical()
        } else {
            other
        }
    }
}

macro_rules! floats {
    ($($float:ty: $nan:literal)+) => {$(
        impl Float for $float {
            fn canonical(self) -> Self {
                if self.is_nan() { <$float>::from_bits($nan) } else { self }
            }

            fn is_nan(self) -> bool {
                self.is_nan()
            }

            fn rank(self, other: Self) -> Ordering {
                match (self.is_nan(), other.is_nan()) {
                    (false, false) => self.total_cmp(&other),
                    (one, other) => other.cmp(&one),
                }
            }
        }
    )+};
}

floats! { f32: 0x7fc0_0000 f64: 0x7ff8_0000_0000_0000 }

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn zeros_have_an_order_and_nan_is_one() {
        for (one, other) in [(0.0, -0.0), (-0.0, 0.0)] {
            assert_eq!(f64::larger(one, other).to_bits(), 0.0f64.to_bits());
            assert_eq!(f64::smaller(one, other).to_bits(), (-0.0f64).to_bits());
        }
        let odd = -f64::from_bits(0x7ff8_0000_0000_0123);
        for number in [-1.0, f64::INFINITY, f64::NEG_INFINITY] {
            assert_eq!((number.larger(odd), odd.larger(number)), (number, number));
            assert_eq!((number.smaller(odd), odd.smaller(number)), (number, number));
        }
        let canonical = 0x7ff8_0000_0000_0000;
        let made = [
            odd.larger(odd),
            odd.smaller(odd),
            odd.plus(1.0),
            f64::INFINITY.plus(f64::NEG_INFINITY),
        ];
        assert!(made.iter().all(|nan| nan.to_bits() == canonical));
        assert_eq!((-f32::NAN).plus(1.0).to_bits(), 0x7fc0_0000);
    }
}
