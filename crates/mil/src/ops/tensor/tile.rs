//! `tile`

use crate::op;
use crate::ops::{InferError, Inferred, list};
use crate::{Dim, TensorType};

op! {
    /// Repeats `x`, `reps[i]` times along each dimension i. A number that only a run computes may be 0, which makes an
    /// empty result; coremltools takes no constant of 0.
    Tile since Ios13 {
        x: Operand<T>,
        reps: Operand<[Int32]>,
    }
    where T: [Fp16, Fp32, Int32, Bool]
    => infer
}

fn infer(p: &Params<'_>) -> Result<Vec<Inferred>, InferError> {
    let x = p.x;
    let reps = p.reps.partial().unwrap_or_else(|| vec![None; x.rank()]);
    require!(reps.len() == x.rank(), "input `reps` has {} elements, `x` has rank {}", reps.len(), x.rank());
    require!(reps.iter().flatten().all(|&n| n >= 0), "input `reps` must not be negative: {}", list(&reps));
    let repeat = |(&d, &n): (&Dim, &Option<i64>)| match n {
        Some(1) => d,
        Some(n) => d.map(|d| d.checked_mul(n as usize)),
        None => Dim::Unknown,
    };
    let shape: Vec<Dim> = x.shape.iter().zip(&reps).map(repeat).collect();
    Ok(vec![TensorType::new(x.dtype, shape).into()])
}
