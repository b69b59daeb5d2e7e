//! The origins of floating-point values, and the kinds of values that they may have.

/// A set of [`MOVED`], [`SINGLE`] and [`DOUBLE`].
pub(super) type Kinds = u8;

pub(super) const MOVED: Kinds = 1;
/// Computed as `f32`, alone or as lanes of a vector.
pub(super) const SINGLE: Kinds = 2;
/// Computed as `f64`, alone or as lanes of a vector.
pub(super) const DOUBLE: Kinds = 4;
pub(super) const COMPUTED: Kinds = SINGLE | DOUBLE;

/// The origin of a value: the index of a node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Origin(pub u32);

impl Origin {
    pub const NEVER_NAN: Origin = Origin(0);
    pub const MOVED: Origin = Origin(1);
    pub const SINGLE: Origin = Origin(2);
    pub const DOUBLE: Origin = Origin(3);
    /// The target of edges for values that are used and go no further.
    pub const OBSERVER: Origin = Origin(4);

    /// The kinds of the origins above, which do not change.
    pub const FIXED: [Kinds; 5] = [0, MOVED, SINGLE, DOUBLE, 0];

    pub fn is_fixed(self) -> bool {
        (self.0 as usize) < Origin::FIXED.len()
    }
}
