//! Functions that act element by element, and comparisons.

use milwright_mil::OpKind::{self, *};
use milwright_mil::{DType, ValueId};

use super::cast;
use super::compose::{A, V, one};
use super::elem::Elem;
use super::node::Node;
use crate::Error;
use crate::lower::{Lowering, Result, Size, op};

/// A function that MIL has.
pub(super) fn function(n: &mut Node<'_, '_>, kind: OpKind) -> Result<Vec<V>> {
    let x = n.need(0)?;
    // Rounding leaves integers as they are.
    if !n.dtype(x.id)?.is_float() && matches!(kind, Ceil | Floor | Round) {
        return Ok(vec![x]);
    }
    let y = n.un(kind, x.id)?;
    cast::finish(n, y, x.elem)
}

pub(super) fn neg(n: &mut Node<'_, '_>) -> Result<Vec<V>> {
    let x = n.need(0)?;
    let y = n.neg(x.id)?;
    cast::finish(n, y, x.elem)
}

/// The logarithm of 0 is -∞.
pub(super) fn log(n: &mut Node<'_, '_>) -> Result<Vec<V>> {
    let x = n.need(0)?;
    let y = n.log(x.id)?;
    cast::finish(n, y, x.elem)
}

/// A division, because `inverse` would lose the sign of zero.
pub(super) fn reciprocal(n: &mut Node<'_, '_>) -> Result<Vec<V>> {
    let x = n.need(0)?;
    let y = n.div(1.0, x.id)?;
    cast::finish(n, y, x.elem)
}

/// log(x + √(x - 1) · √(x + 1)), whose product does not overflow.
pub(super) fn acosh(n: &mut Node<'_, '_>) -> Result<Vec<V>> {
    let x = n.need(0)?;
    let (less, more) = (n.sub(x.id, 1.0)?, n.add(x.id, 1.0)?);
    let (less, more) = (n.un(Sqrt, less)?, n.un(Sqrt, more)?);
    let root = n.mul(less, more)?;
    let sum = n.add(x.id, root)?;
    let y = n.log(sum)?;
    cast::finish(n, y, x.elem)
}

/// sign(x) · log(|x| + √(x² + 1)); near zero, where that loses digits, x - x³/6 + 3x⁵/40.
pub(super) fn asinh(n: &mut Node<'_, '_>) -> Result<Vec<V>> {
    let x = n.need(0)?;
    let a = n.un(Abs, x.id)?;
    let square = n.mul(a, a)?;
    let root = n.add(square, 1.0)?;
    let root = n.un(Sqrt, root)?;
    // Where the square overflows, the root is |x|.
    let limit = if n.dtype(a)? == DType::Fp16 { 200.0 } else { 1e18 };
    let large = n.greater(a, limit)?;
    let root = n.select(large, a, root)?;
    let half = n.mul(a, 0.5)?;
    let root = n.mul(root, 0.5)?;
    let sum = n.add(half, root)?;
    let log = n.log(sum)?;
    let log = n.add(log, std::f64::consts::LN_2)?;
    let sign = n.un(Sign, x.id)?;
    let far = n.mul(log, sign)?;
    let near = n.mul(square, 3.0 / 40.0)?;
    let near = n.sub(near, 1.0 / 6.0)?;
    let near = n.mul(near, square)?;
    let near = n.add(near, 1.0)?;
    let near = n.mul(near, x.id)?;
    let small = n.less(a, 0.1)?;
    let y = n.select(small, near, far)?;
    cast::finish(n, y, x.elem)
}

pub(super) fn is_nan(n: &mut Node<'_, '_>) -> Result<Vec<V>> {
    let x = n.need(0)?;
    let y = n.not_equal(x.id, x.id)?;
    one(y, Elem::Bool)
}

pub(super) fn is_inf(n: &mut Node<'_, '_>) -> Result<Vec<V>> {
    let x = n.need(0)?;
    let y = match (n.flag("detect_negative", true)?, n.flag("detect_positive", true)?) {
        (true, true) => {
            let a = n.un(Abs, x.id)?;
            n.equal(a, f64::INFINITY)?
        }
        (true, false) => n.equal(x.id, f64::NEG_INFINITY)?,
        (false, true) => n.equal(x.id, f64::INFINITY)?,
        (false, false) => {
            let sizes = n.sizes_of(x.id)?;
            n.full(&sizes, 0.0, DType::Bool)?
        }
    };
    one(y, Elem::Bool)
}

/// Brings the second operand of a version before 7 to the shape that its attributes `broadcast` and `axis` mean.
fn old_broadcast(n: &mut Node<'_, '_>) -> Result<(V, V)> {
    let (a, mut b) = (n.need(0)?, n.need(1)?);
    if n.opset >= 7 || !n.flag("broadcast", false)? {
        return Ok((a, b));
    }
    if let Some(axis) = n.int("axis")? {
        let (rank, own) = (n.rank(a.id)?, n.rank(b.id)?);
        let axis = n.axis(a.id, axis)?;
        let behind = rank.checked_sub(axis + own).ok_or_else(|| Error::malformed("the axis is too high"))?;
        let axes: Vec<i32> = (own as i32..(own + behind) as i32).collect();
        b.id = n.expand_dims(b.id, &axes)?;
    }
    Ok((a, b))
}

/// Addition, subtraction, multiplication. Integers wrap at the width of their type.
pub(super) fn arithmetic(n: &mut Node<'_, '_>, kind: OpKind) -> Result<Vec<V>> {
    let (a, b) = old_broadcast(n)?;
    let y = n.bin(kind, a.id, b.id)?;
    cast::finish(n, y, a.elem)
}

/// Division; integers lose the fraction of the quotient.
pub(super) fn div(n: &mut Node<'_, '_>) -> Result<Vec<V>> {
    let (a, b) = old_broadcast(n)?;
    let y = if n.dtype(a.id)?.is_float() {
        n.div(a.id, b.id)?
    } else if a.elem.is_unsigned() || (not_negative(n, a.id) && not_negative(n, b.id)) {
        n.floor_div(a.id, b.id)?
    } else {
        truncated_quotient(n, a.id, b.id)?
    };
    cast::finish(n, y, a.elem)
}

fn not_negative(n: &Lowering, v: ValueId) -> bool {
    n.known_integers(v).is_some_and(|v| v.iter().all(|&i| i >= 0))
}

/// The quotient of integers without its fraction. `floor_div` rounds down; that is one too low where there is a rest and
/// the signs differ.
fn truncated_quotient(n: &mut Lowering, a: ValueId, b: ValueId) -> Result<ValueId> {
    let quotient = n.floor_div(a, b)?;
    let product = n.mul(quotient, b)?;
    let rest = n.not_equal(product, a)?;
    let negative = n.less(quotient, 0.0)?;
    let low = n.and(rest, negative)?;
    let low = n.cast(low, DType::Int32)?;
    n.add(quotient, low)
}

/// The remainder, with the sign of the divisor, or with `fmod` that of the dividend.
pub(super) fn modulo(n: &mut Node<'_, '_>) -> Result<Vec<V>> {
    let (a, b) = (n.need(0)?, n.need(1)?);
    if !n.flag("fmod", false)? {
        let y = n.modulo(a.id, b.id)?;
        return cast::finish(n, y, a.elem);
    }
    let (dividend, divisor) = (n.un(Abs, a.id)?, n.un(Abs, b.id)?);
    let rest = n.modulo(dividend, divisor)?;
    let rest = if n.dtype(a.id)?.is_float() {
        // A finite number is its own remainder by infinity.
        let infinite = n.equal(divisor, f64::INFINITY)?;
        let finite = n.less(dividend, f64::INFINITY)?;
        let itself = n.and(infinite, finite)?;
        n.select(itself, dividend, rest)?
    } else {
        rest
    };
    let negated = n.neg(rest)?;
    let negative = n.less(a.id, 0.0)?;
    let y = n.select(negative, negated, rest)?;
    cast::finish(n, y, a.elem)
}

/// A power has the type of its base.
pub(super) fn pow(n: &mut Node<'_, '_>) -> Result<Vec<V>> {
    let (a, b) = old_broadcast(n)?;
    let (base, exponent) = (n.dtype(a.id)?, n.dtype(b.id)?);
    let y = match (base.is_float(), exponent.is_float()) {
        (true, _) => {
            let b = n.cast(b.id, base)?;
            n.pow(a.id, b)?
        }
        (false, false) => n.pow(a.id, b.id)?,
        (false, true) => {
            let real = n.float_of(a.id)?;
            let b = n.float_of(b.id)?;
            let y = n.pow(real, b)?;
            n.cast(y, DType::Int32)?
        }
    };
    cast::finish(n, y, a.elem)
}

/// Combines any number of operands.
pub(super) fn variadic(n: &mut Node<'_, '_>, kind: OpKind) -> Result<Vec<V>> {
    let (y, elem) = chain(n, kind)?;
    cast::finish(n, y, elem)
}

pub(super) fn mean(n: &mut Node<'_, '_>) -> Result<Vec<V>> {
    let (y, elem) = chain(n, Add)?;
    let count = n.inputs.len() as f64;
    let y = n.div(y, count)?;
    cast::finish(n, y, elem)
}

fn chain(n: &mut Node<'_, '_>, kind: OpKind) -> Result<(ValueId, Elem)> {
    let x = n.all()?;
    let (first, rest) = x.split_first().ok_or_else(|| Error::malformed("there are no inputs"))?;
    let mut y = first.id;
    for x in rest {
        y = n.bin(kind, y, x.id)?;
    }
    Ok((y, first.elem))
}

pub(super) fn logical(n: &mut Node<'_, '_>, kind: OpKind) -> Result<Vec<V>> {
    let (a, b) = old_broadcast(n)?;
    let y = n.bin(kind, a.id, b.id)?;
    one(y, Elem::Bool)
}

pub(super) fn not(n: &mut Node<'_, '_>) -> Result<Vec<V>> {
    let x = n.value(0)?;
    let y = n.not(x)?;
    one(y, Elem::Bool)
}

pub(super) fn compare(n: &mut Node<'_, '_>, kind: OpKind) -> Result<Vec<V>> {
    let (mut a, mut b) = old_broadcast(n)?;
    for v in [&mut a, &mut b] {
        if v.elem == Elem::String {
            return Err(Error::unsupported("a comparison of strings").with_hint(cast::STRINGS));
        }
        if n.dtype(v.id)? == DType::Bool {
            v.id = n.cast(v.id, DType::Int32)?;
        }
    }
    let y = n.bin(kind, a.id, b.id)?;
    one(y, Elem::Bool)
}

pub(super) fn where_(n: &mut Node<'_, '_>) -> Result<Vec<V>> {
    let (cond, a, b) = (n.need(0)?, n.need(1)?, n.need(2)?);
    if a.elem == Elem::String {
        return Err(Error::unsupported("a choice between strings").with_hint(cast::STRINGS));
    }
    let y = n.select(cond.id, a.id, b.id)?;
    one(y, a.elem)
}

/// Bounds are attributes before version 11 and inputs from then on. If the lower is above the upper one, the result is
/// the upper one everywhere.
pub(super) fn clip(n: &mut Node<'_, '_>) -> Result<Vec<V>> {
    let v = n.need(0)?;
    let (low, high) = if n.opset < 11 {
        let bound = |b: Option<f32>| b.map(|b| A::C(f64::from(b)));
        (bound(n.float("min")?), bound(n.float("max")?))
    } else {
        (bound(n, 1)?, bound(n, 2)?)
    };
    let dtype = n.dtype(v.id)?;
    if let (Some(A::C(low)), Some(A::C(high))) = (low, high)
        && low < high
        && dtype.is_float()
    {
        let (alpha, beta) = (n.number(dtype, low)?, n.number(dtype, high)?);
        let y = op!(n, Clip, x = v.id, alpha = alpha, beta = beta)?;
        return cast::finish(n, y, v.elem);
    }
    let mut y = v.id;
    if let Some(low) = low {
        y = n.max(y, low)?;
    }
    if let Some(high) = high {
        y = n.min(y, high)?;
    }
    one(y, v.elem)
}

/// A bound that is an input. Integers beyond int32 bound nothing that int32 holds.
fn bound(n: &mut Node<'_, '_>, i: usize) -> Result<Option<A>> {
    if !n.has(i) {
        return Ok(None);
    }
    if let Some(c) = n.known_scalar(i) {
        return Ok(Some(A::C(c)));
    }
    let bound = n.value(i)?;
    Ok(Some(A::V(n.scalar(bound)?)))
}

/// A shift by the width of the type or more leaves nothing but the sign, and so does a negative one.
pub(super) fn bit_shift(n: &mut Node<'_, '_>) -> Result<Vec<V>> {
    let (a, by) = (n.need(0)?, n.need(1)?);
    let (bits, signed) =
        cast::width(a.elem).ok_or_else(|| Error::malformed("a shift of a type without bits"))?;
    let left = match n.text("direction")? {
        Some("LEFT") => true,
        Some("RIGHT") => false,
        other => {
            return Err(Error::malformed(format!("the direction {other:?}; it has to be LEFT or RIGHT")));
        }
    };
    // Core ML has 32 bits: of a wider type, only the low ones are there.
    let held = bits.min(32);
    let negative = n.less(by.id, 0.0)?;
    let far = n.greater_equal(by.id, f64::from(held))?;
    let out = n.or(negative, far)?;
    // The power of two of 31 is one that int32 does not have: shift by one less, then by one more.
    let most = n.equal(by.id, f64::from(held - 1))?;
    let last = if held == 32 { Some(most) } else { None };
    let mut by_less = n.select(out, 0.0, by.id)?;
    if let Some(last) = last {
        let one = n.cast(last, DType::Int32)?;
        by_less = n.sub(by_less, one)?;
    }
    let powers: Vec<i32> = (0..31).map(|k| 1 << k).collect();
    let powers = n.int_vector(&powers);
    let factor = n.gather(powers, by_less, 0)?;
    let once = |n: &mut Lowering, v: ValueId, by: A| if left { n.mul(v, by) } else { n.floor_div(v, by) };
    let mut y = once(n, a.id, factor.into())?;
    if let Some(last) = last {
        let more = once(n, y, 2.0.into())?;
        y = n.select(last, more, y)?;
    }
    let rest = if signed && !left {
        let below = n.less(a.id, 0.0)?;
        let below = n.cast(below, DType::Int32)?;
        n.neg(below)?
    } else {
        n.mul(y, 0.0)?
    };
    let y = n.select(out, rest, y)?;
    cast::finish(n, y, a.elem)
}

pub(super) fn bitwise_not(n: &mut Node<'_, '_>) -> Result<Vec<V>> {
    let x = n.need(0)?;
    let (bits, signed) = cast::width(x.elem).ok_or_else(|| Error::malformed("a type without bits"))?;
    let all = if signed || bits >= 32 { -1.0 } else { f64::from((1u32 << bits) - 1) };
    let y = n.sub(all, x.id)?;
    one(y, x.elem)
}

/// MIL has no operations on bits: both operands are taken apart into bits along a new dimension, and put together again.
pub(super) fn bitwise(n: &mut Node<'_, '_>, kind: OpKind) -> Result<Vec<V>> {
    let (a, b) = (n.need(0)?, n.need(1)?);
    let (bits, _) = cast::width(a.elem).ok_or_else(|| Error::malformed("a type without bits"))?;
    let bits = bits.min(32);
    let (rank_a, rank_b) = (n.rank(a.id)?, n.rank(b.id)?);
    let rank = rank_a.max(rank_b);
    if rank > 4 {
        let same = rank_a == rank_b && n.fixed_shape(a.id)? == n.fixed_shape(b.id)?;
        if !same || n.fixed_shape(a.id)?.is_none() {
            return Err(Error::unsupported("an operation on bits of rank 5 that broadcasts")
                .with_hint("expand the operand to the shape of the other before the operation"));
        }
    }
    let flat = |n: &mut Lowering, v: ValueId| if rank > 4 { n.reshape(v, &[-1]) } else { Ok(v) };
    let (left, right) = (flat(n, a.id)?, flat(n, b.id)?);
    let (left, right) = (planes(n, left, bits)?, planes(n, right, bits)?);
    let joined = match kind {
        LogicalAnd => n.mul(left, right)?,
        LogicalOr => n.max(left, right)?,
        _ => {
            let differ = n.not_equal(left, right)?;
            n.cast(differ, DType::Int32)?
        }
    };
    // Of a signed type, the highest bit counts negative; finish wraps it.
    let weights: Vec<i32> = (0..bits).map(|k| 1i32.wrapping_shl(k)).collect();
    let weights = n.int_vector(&weights);
    let weighted = n.mul(joined, weights)?;
    let last = n.rank(weighted)? - 1;
    let mut y = n.sum(weighted, &[last], false)?;
    if rank > 4 {
        let sizes: Vec<Size> = n.sizes_of(a.id)?;
        y = n.reshape_to(y, &sizes)?;
    }
    cast::finish(n, y, a.elem)
}

/// The bits of integers, lowest first, along a new last dimension.
fn planes(n: &mut Lowering, v: ValueId, bits: u32) -> Result<ValueId> {
    let rank = n.rank(v)? as i32;
    let v = n.expand_dims(v, &[rank])?;
    let low = bits.min(31);
    let powers: Vec<i32> = (0..low).map(|k| 1 << k).collect();
    let powers = n.int_vector(&powers);
    let shifted = n.floor_div(v, powers)?;
    let planes = n.modulo(shifted, 2.0)?;
    if bits <= 31 {
        return Ok(planes);
    }
    let sign = n.less(v, 0.0)?;
    let sign = n.cast(sign, DType::Int32)?;
    n.concat(vec![planes, sign], rank as usize)
}
