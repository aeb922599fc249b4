//! `stack`

use crate::DType::{Bool, Fp16, Fp32, Int8, Int16, Int32, UInt8, UInt16};
use crate::op;
use crate::ops::{InferError, Inferred, Kind, Known, OpView, Version, many, required};
use crate::{Opset, TensorType};

op! {
    /// Joins tensors of one shape along a new dimension `axis`, which may be negative (from the end of the result).
    Stack,
    &[Version {
        opset: Opset::Ios13,
        params: &[many("values", Kind::T), required("axis", Kind::INT32).constant()],
        types: &[("T", &[Fp16, Fp32, Int8, Int16, Int32, UInt8, UInt16, Bool])],
    }],
    infer,
}

fn infer(op: &OpView<'_>) -> Result<Vec<Inferred>, InferError> {
    let values = op.tensors("values")?;
    let first = *values.first().ok_or_else(|| InferError("input `values` is empty".into()))?;
    let mut shape = first.shape.clone();
    for (i, t) in values.iter().enumerate() {
        let same = TensorType::new(first.dtype, shape.clone());
        require!(t.agrees(&same), "values[{i}] is {t}, values[0] is {first}");
        for (a, &b) in shape.iter_mut().zip(&t.shape) {
            *a = a.or(b);
        }
    }
    shape.insert(op.axis("axis", first.rank() + 1)?, values.len().into());
    let known = (first.rank() == 0 && first.dtype.is_int()).then(|| partial(op)).flatten();
    Ok(vec![Inferred { ty: TensorType::new(first.dtype, shape).into(), known }])
}

/// Joins what is known of integers, such as dimensions.
fn partial(op: &OpView<'_>) -> Option<Known> {
    let parts: Option<Vec<_>> = op.args("values").iter().map(|a| a.partial()).collect();
    Some(Known::Partial(parts?.concat()))
}
