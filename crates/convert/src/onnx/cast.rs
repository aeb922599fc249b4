//! Element types: what carries them, how results are brought back to them, and casts.
//!
//! All integers are carried as int32; double, bfloat16 and the 8-bit and 4-bit floats as fp32.

use milwright_mil::OpKind::*;
use milwright_mil::{DType, ValueId};

use super::compose::{V, one};
use super::elem::Elem;
use super::node::Node;
use crate::Error;
use crate::lower::{Lowering, Result, op};

pub(super) const STRINGS: &str =
    "Core ML has no strings inside a model: map strings to numbers before it and numbers to strings after it";

/// The type that carries elements of a type.
pub(super) fn carrier(elem: Elem) -> Result<DType> {
    elem.carried()
}

/// The element type with this number.
pub(super) fn elem_of(code: i64) -> Result<Elem> {
    Elem::from_code(i32::try_from(code).unwrap_or(-1))
}

/// The bits of an integer type, and whether it is signed.
pub(super) fn width(elem: Elem) -> Option<(u32, bool)> {
    elem.is_int().then(|| (elem.bits() as u32, !elem.is_unsigned()))
}

/// A result that may be outside of its type: integers wrap, floats of fewer bits are rounded.
pub(super) fn finish(n: &mut Lowering, y: ValueId, elem: Elem) -> Result<Vec<V>> {
    let y = match elem {
        Elem::Bfloat16 => round_to(n, y, &BF16)?,
        _ => wrap(n, y, elem)?,
    };
    one(y, elem)
}

/// The low bits of int32 values, as the type means them.
pub(super) fn wrap(n: &mut Lowering, v: ValueId, elem: Elem) -> Result<ValueId> {
    match width(elem) {
        Some((bits @ ..=16, false)) => n.modulo(v, f64::from(1u32 << bits)),
        Some((bits @ ..=16, true)) => {
            let half = f64::from(1u32 << (bits - 1));
            let up = n.add(v, half)?;
            let low = n.modulo(up, 2.0 * half)?;
            n.sub(low, half)
        }
        _ => Ok(v),
    }
}

/// A float type that fp32 contains.
pub(super) struct Small {
    /// Stored bits of the fraction.
    fraction: i32,
    /// The exponent of the smallest normal number.
    lowest: i32,
    /// The largest finite number.
    largest: f64,
    /// What becomes of larger numbers when they are not saturated: infinity or NaN.
    overflow: f64,
}

const BF16: Small =
    Small { fraction: 7, lowest: -126, largest: 3.389_531_389_251_535_5e38, overflow: f64::INFINITY };

fn small(elem: Elem) -> Option<Small> {
    let small = |fraction, lowest, largest, overflow| Some(Small { fraction, lowest, largest, overflow });
    match elem {
        Elem::Bfloat16 => Some(BF16),
        Elem::Float8E4M3FN => small(3, -6, 448.0, f64::NAN),
        Elem::Float8E4M3FNUZ => small(3, -7, 240.0, f64::NAN),
        Elem::Float8E5M2 => small(2, -14, 57344.0, f64::INFINITY),
        Elem::Float8E5M2FNUZ => small(2, -15, 57344.0, f64::NAN),
        Elem::Float4E2M1 => small(1, 0, 6.0, f64::NAN),
        _ => None,
    }
}

/// Rounds fp32 to a smaller float type, halves to even; what is too large overflows.
fn round_to(n: &mut Lowering, x: ValueId, to: &Small) -> Result<ValueId> {
    let x = n.cast(x, DType::Fp32)?;
    let a = n.un(Abs, x)?;
    // The exponent, from a logarithm that may be off by a little at powers of two.
    let lowest = 2f64.powi(to.lowest);
    let held = n.max(a, lowest)?;
    let held = n.min(held, f64::from(f32::MAX))?;
    let log = n.log(held)?;
    let log = n.mul(log, std::f64::consts::LOG2_E)?;
    let exponent = n.un(Floor, log)?;
    let exponent = n.max(exponent, f64::from(to.lowest))?;
    let exponent = n.min(exponent, 127.0)?;
    let power = op!(n, Exp2, x = exponent)?;
    let high = n.greater(power, held)?;
    let half = n.mul(power, 0.5)?;
    let power = n.select(high, half, power)?;
    // Halved, so that it does not overflow.
    let part = n.mul(held, 0.5)?;
    let low = n.less_equal(power, part)?;
    let double = n.mul(power, 2.0)?;
    let power = n.select(low, double, power)?;
    // Dividing by powers of two is exact.
    let scaled = n.div(x, power)?;
    let scaled = n.mul(scaled, f64::from(1 << to.fraction))?;
    let whole = n.un(Round, scaled)?;
    let back = n.mul(whole, 1.0 / f64::from(1 << to.fraction))?;
    let y = n.mul(back, power)?;
    // Infinity and NaN stay.
    let infinite = n.equal(a, f64::INFINITY)?;
    n.select(infinite, x, y)
}

pub(super) fn cast(n: &mut Node<'_, '_>) -> Result<Vec<V>> {
    let x = n.need(0)?;
    let to = if n.opset < 6 {
        let name = n.text("to")?.unwrap_or_default().to_lowercase();
        (1..=16).filter_map(|code| Elem::from_code(code).ok()).find(|e| e.name() == name)
    } else {
        n.int("to")?.map(elem_of).transpose()?
    };
    let to = to.ok_or_else(|| Error::malformed("the attribute `to` names no element type"))?;
    let saturate = n.flag("saturate", true)?;
    let mode = n.text_or("round_mode", "up")?;
    let y = to_elem(n, x, to, saturate, mode)?;
    one(y, to)
}

pub(super) fn cast_like(n: &mut Node<'_, '_>) -> Result<Vec<V>> {
    let (x, like) = (n.need(0)?, n.need(1)?);
    let saturate = n.flag("saturate", true)?;
    let mode = n.text_or("round_mode", "up")?;
    let y = to_elem(n, x, like.elem, saturate, mode)?;
    one(y, like.elem)
}

/// Converts a value to another element type.
pub(super) fn to_elem(n: &mut Lowering, x: V, to: Elem, saturate: bool, mode: &str) -> Result<ValueId> {
    if x.elem == to {
        return Ok(x.id);
    }
    let (from, carried) = (carrier(x.elem)?, carrier(to)?);
    if to == Elem::Bool {
        return n.bool_of(x.id);
    }
    if width(to).is_some() {
        let whole = n.cast(x.id, DType::Int32)?;
        let wider = match (width(x.elem), width(to)) {
            (Some((a, true)), Some((b, true))) | (Some((a, false)), Some((b, _))) => a > b,
            _ => from != DType::Bool,
        };
        return if wider { wrap(n, whole, to) } else { Ok(whole) };
    }
    if to == Elem::Float8E8M0 {
        return to_e8m0(n, x.id, saturate, mode);
    }
    let Some(small) = small(to) else { return n.cast(x.id, carried) };
    let y = round_to(n, x.id, &small)?;
    if to == Elem::Bfloat16 {
        return Ok(y);
    }
    let a = n.un(Abs, y)?;
    let too_large = n.greater(a, small.largest)?;
    let sign = n.un(Sign, y)?;
    // The 4-bit type has no infinity and no NaN and always saturates.
    let replaced = if saturate || to == Elem::Float4E2M1 {
        n.mul(sign, small.largest)?
    } else {
        n.mul(sign, small.overflow)?
    };
    let y = n.select(too_large, replaced, y)?;
    if to == Elem::Float4E2M1 {
        // Nor has it a NaN, which becomes zero.
        let nan = n.not_equal(y, y)?;
        return n.select(nan, -0.0, y);
    }
    Ok(y)
}

/// Powers of two from 2⁻¹²⁷ to 2¹²⁷.
fn to_e8m0(n: &mut Lowering, x: ValueId, saturate: bool, mode: &str) -> Result<ValueId> {
    let x = n.cast(x, DType::Fp32)?;
    let a = n.un(Abs, x)?;
    let lowest = 2f64.powi(-126);
    let held = n.max(a, lowest)?;
    let held = n.min(held, 2f64.powi(127))?;
    let log = n.log(held)?;
    let log = n.mul(log, std::f64::consts::LOG2_E)?;
    let exponent = n.un(Floor, log)?;
    let power = op!(n, Exp2, x = exponent)?;
    let high = n.greater(power, held)?;
    let half = n.mul(power, 0.5)?;
    let power = n.select(high, half, power)?;
    let part = n.mul(held, 0.5)?;
    let low = n.less_equal(power, part)?;
    let double = n.mul(power, 2.0)?;
    let power = n.select(low, double, power)?;
    let larger = match mode {
        "down" => None,
        "up" => Some(n.greater(held, power)?),
        _ => {
            let middle = n.mul(power, 1.5)?;
            Some(n.greater_equal(held, middle)?)
        }
    };
    let y = match larger {
        Some(larger) => {
            let double = n.mul(power, 2.0)?;
            let double = if saturate { n.min(double, 2f64.powi(127))? } else { double };
            n.select(larger, double, power)?
        }
        None => power,
    };
    let nan = n.not_equal(x, x)?;
    n.select(nan, f64::NAN, y)
}

/// Types of equal width keep their bits; only integers can.
pub(super) fn bit_cast(n: &mut Node<'_, '_>) -> Result<Vec<V>> {
    let x = n.need(0)?;
    let to = n.int("to")?.map(elem_of).transpose()?;
    let to = to.ok_or_else(|| Error::malformed("the attribute `to` names no element type"))?;
    if to == x.elem {
        return Ok(vec![x]);
    }
    match (width(x.elem), width(to)) {
        (Some((a, _)), Some((b, _))) if a == b && a <= 32 => {
            let y = wrap(n, x.id, to)?;
            one(y, to)
        }
        _ => Err(Error::unsupported(format!("the bits of {:?} as {to:?}", x.elem)).with_hint(
            "Core ML cannot look at the bits of a float or of 64-bit integers: reinterpret them before the model",
        )),
    }
}
