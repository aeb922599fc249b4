//! `stack`

use crate::TensorType;
use crate::op;
use crate::ops::{InferError, Inferred, Known, Operand};

op! {
    /// Joins tensors of one shape along a new dimension `axis`, which may be negative (from the end of the result).
    Stack since Ios13 {
        values: Many<T>,
        axis: Axis,
    }
    where T: [Fp16, Fp32, Int8, Int16, Int32, UInt8, UInt16, Bool]
    => infer
}

fn infer(p: &Params<'_>) -> Result<Vec<Inferred>, InferError> {
    let values = &p.values;
    let first = *values.first().ok_or_else(|| InferError("input `values` is empty".into()))?;
    let mut shape = first.shape.clone();
    for (i, t) in values.iter().enumerate() {
        let same = TensorType::new(first.dtype, shape.clone());
        require!(t.agrees(&same), "values[{i}] is {t}, values[0] is {first}");
        for (a, &b) in shape.iter_mut().zip(&t.shape) {
            *a = a.or(b);
        }
    }
    shape.insert(p.axis.resolve(first.rank() + 1)?, values.len().into());
    let known = (first.rank() == 0 && first.dtype.is_int()).then(|| partial(values)).flatten();
    Ok(vec![Inferred { ty: TensorType::new(first.dtype, shape).into(), known }])
}

/// Joins the known elements of integers, such as dimensions.
fn partial(values: &[Operand<'_>]) -> Option<Known> {
    let parts: Option<Vec<_>> = values.iter().map(Operand::partial).collect();
    Some(Known::Partial(parts?.concat()))
}
