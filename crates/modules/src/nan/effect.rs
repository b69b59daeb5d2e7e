//! How an instruction uses its floating-point operands.

use wasmparser::{Ieee32, Ieee64, Operator};

use super::origin::{COMPUTED, DOUBLE, Kinds, Origin, SINGLE};

pub(super) enum Effect {
    /// Computes a new value. The bits of a NaN operand are ignored if these kinds of arithmetic produced it.
    Computes {
        ignored: Kinds,
        result: Origin,
    },
    /// The result is one of the operands or consists of their lanes, and may also be of these `kinds`.
    Combines {
        ignored: Kinds,
        kinds: Kinds,
    },
    /// The result is one of two operands; an integer on top of them chooses.
    Select,
    /// The sign of the upper operand is observed.
    Copysign,
    /// The result is the operand, perhaps with another sign.
    PassThrough,
    LocalGet(u32),
    /// `local.set` or `local.tee`.
    LocalSet(u32),
    /// May observe all operands. The result is the same on all processors.
    Observes,
}

const fn computes(ignored: Kinds, result: Origin) -> Effect {
    Effect::Computes { ignored, result }
}

/// Returns the effect of an instruction. Instructions that are not listed here observe their operands.
#[rustfmt::skip]
pub(super) fn effect(operator: &Operator<'_>) -> Effect {
    use Operator::*;
    match operator {
        LocalGet { local_index } => Effect::LocalGet(*local_index),
        LocalSet { local_index } | LocalTee { local_index } => Effect::LocalSet(*local_index),
        Drop => computes(COMPUTED, Origin::MOVED),
        Select | TypedSelect { .. } => Effect::Select,

        F32Const { value } => computes(0, single_constant(*value)),
        F64Const { value } => computes(0, double_constant(*value)),
        V128Const { value } => computes(0, vector_constant(*value.bytes())),

        F32Add | F32Sub | F32Mul | F32Div | F32Min | F32Max
        | F32Sqrt | F32Ceil | F32Floor | F32Trunc | F32Nearest
        | F32DemoteF64 => computes(COMPUTED, Origin::SINGLE),
        F64Add | F64Sub | F64Mul | F64Div | F64Min | F64Max
        | F64Sqrt | F64Ceil | F64Floor | F64Trunc | F64Nearest
        | F64PromoteF32 => computes(COMPUTED, Origin::DOUBLE),
        F32Neg | F32Abs | F64Neg | F64Abs => Effect::PassThrough,
        F32Copysign | F64Copysign => Effect::Copysign,
        F32Eq | F32Ne | F32Lt | F32Gt | F32Le | F32Ge
        | F64Eq | F64Ne | F64Lt | F64Gt | F64Le | F64Ge
        | I32TruncF32S | I32TruncF32U | I32TruncF64S | I32TruncF64U
        | I64TruncF32S | I64TruncF32U | I64TruncF64S | I64TruncF64U
        | I32TruncSatF32S | I32TruncSatF32U | I32TruncSatF64S | I32TruncSatF64U
        | I64TruncSatF32S | I64TruncSatF32U | I64TruncSatF64S | I64TruncSatF64U
            => computes(COMPUTED, Origin::MOVED),
        F32ConvertI32S | F32ConvertI32U | F32ConvertI64S | F32ConvertI64U
        | F64ConvertI32S | F64ConvertI32U | F64ConvertI64S | F64ConvertI64U
            => computes(0, Origin::NEVER_NAN),

        F32x4Add | F32x4Sub | F32x4Mul | F32x4Div | F32x4Min | F32x4Max
        | F32x4Sqrt | F32x4Ceil | F32x4Floor | F32x4Trunc | F32x4Nearest
            => computes(SINGLE, Origin::SINGLE),
        F64x2Add | F64x2Sub | F64x2Mul | F64x2Div | F64x2Min | F64x2Max
        | F64x2Sqrt | F64x2Ceil | F64x2Floor | F64x2Trunc | F64x2Nearest
            => computes(DOUBLE, Origin::DOUBLE),
        F32x4DemoteF64x2Zero => computes(DOUBLE, Origin::SINGLE),
        F64x2PromoteLowF32x4 => computes(SINGLE, Origin::DOUBLE),
        F32x4Eq | F32x4Ne | F32x4Lt | F32x4Gt | F32x4Le | F32x4Ge
        | I32x4TruncSatF32x4S | I32x4TruncSatF32x4U => computes(SINGLE, Origin::MOVED),
        F64x2Eq | F64x2Ne | F64x2Lt | F64x2Gt | F64x2Le | F64x2Ge
        | I32x4TruncSatF64x2SZero | I32x4TruncSatF64x2UZero => computes(DOUBLE, Origin::MOVED),

        F32x4Neg | F32x4Abs | F32x4PMin | F32x4PMax | F32x4ExtractLane { .. }
            => Effect::Combines { ignored: SINGLE, kinds: 0 },
        F64x2Neg | F64x2Abs | F64x2PMin | F64x2PMax | F64x2ExtractLane { .. }
            => Effect::Combines { ignored: DOUBLE, kinds: 0 },
        // A lane that is not a NaN in its own width may be a NaN in the other width.
        F32x4Splat | F32x4ReplaceLane { .. } => Effect::Combines { ignored: SINGLE, kinds: SINGLE },
        F64x2Splat | F64x2ReplaceLane { .. } => Effect::Combines { ignored: DOUBLE, kinds: DOUBLE },

        _ => Effect::Observes,
    }
}

fn single_constant(value: Ieee32) -> Origin {
    constant(f32::from_bits(value.bits()).is_nan())
}

fn double_constant(value: Ieee64) -> Origin {
    constant(f64::from_bits(value.bits()).is_nan())
}

/// The origin of a vector constant: its lanes may be of either width.
fn vector_constant(bytes: [u8; 16]) -> Origin {
    let bits = u128::from_le_bytes(bytes);
    let is_single = (0..4).any(|lane| f32::from_bits((bits >> (32 * lane)) as u32).is_nan());
    let is_double = (0..2).any(|lane| f64::from_bits((bits >> (64 * lane)) as u64).is_nan());
    constant(is_single || is_double)
}

fn constant(is_nan: bool) -> Origin {
    if is_nan {
        Origin::MOVED
    } else {
        Origin::NEVER_NAN
    }
}
