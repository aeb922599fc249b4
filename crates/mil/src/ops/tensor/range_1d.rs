//! `range_1d`

use half::f16;

use crate::DType::Fp16;
use crate::op;
use crate::ops::{InferError, Inferred, Known, MAX_PARTIAL, Operand};
use crate::{Dim, TensorType};

op! {
    /// The vector `start`, `start` + `step`, `start` + 2 · `step`, … as long as it has not reached `end`.
    Range1d since Ios13 {
        end: Operand<T>,
        start: Operand<T>,
        step: Operand<T>,
    }
    where T: [Fp16, Fp32, Int32]
    => infer
}

fn infer(p: &Params<'_>) -> Result<Vec<Inferred>, InferError> {
    let dtype = p.start.dtype;
    for t in [p.start, p.end, p.step] {
        require!(t.elements() == Some(1), "input `{}` must be one number, not {t}", t.name);
    }
    let ints = |t: Operand<'_>| t.partial().and_then(|v| v.first().copied().flatten());
    let (count, known) = if dtype.is_int() {
        match (ints(p.start), ints(p.end), ints(p.step)) {
            (Some(start), Some(end), Some(step)) => {
                let count = count_ints(start, end, step)?;
                let values = |n: usize| (0..n as i64).map(|i| Some(start + i * step)).collect();
                (Dim::Fixed(count), (count <= MAX_PARTIAL).then(|| Known::Partial(values(count))))
            }
            _ => (Dim::Unknown, None),
        }
    } else {
        match (p.start.value(), p.end.value(), p.step.value()) {
            (Some(_), Some(_), Some(_)) => {
                let count = count_floats(p.start.float()?, p.end.float()?, p.step.float()?, dtype == Fp16)?;
                (Dim::Fixed(count), None)
            }
            _ => (Dim::Unknown, None),
        }
    };
    Ok(vec![Inferred { ty: TensorType::new(dtype, [count]).into(), known }])
}

/// Returns the number of elements of an int32 range.
///
/// # Errors
/// `step` is zero, or an argument is not an int32.
pub fn count_ints(start: i64, end: i64, step: i64) -> Result<usize, InferError> {
    let fits = |x: i64| i32::try_from(x).is_ok();
    require!(step != 0 && fits(start) && fits(end) && fits(step), "a range cannot step by {step}");
    let (distance, step) = if step > 0 { (end - start, step) } else { (start - end, -step) };
    Ok(if distance <= 0 { 0 } else { ((distance - 1) / step + 1) as usize })
}

/// Returns the number of elements of a float range, computed in the element type's precision.
///
/// # Errors
/// `step` is zero, or the number is not finite or too large for any tensor.
pub fn count_floats(start: f32, end: f32, step: f32, half: bool) -> Result<usize, InferError> {
    let round = |x: f32| if half { f16::from_f32(x).to_f32() } else { x };
    let count = round(round(end - start) / step).ceil();
    require!(count.is_finite() && count < (1u64 << 40) as f32, "a range cannot step by {step}");
    Ok(count.max(0.0) as usize)
}
