//! `concat`

use crate::DType::{Bool, Fp16, Fp32, Int32};
use crate::op;
use crate::ops::{Default, InferError, Inferred, Kind, Known, OpView, Version, many, optional, required};
use crate::{Dim, Opset, TensorType};

op! {
    /// Joins tensors along the dimension `axis`.
    ///
    /// `values` are tensors of one element type whose shapes are equal except along `axis`; `axis` may be negative
    /// (from the end). With `interleave`, all must have the same shape, and the result takes their slices along
    /// `axis` in turn: a₀ b₀ a₁ b₁ ….
    Concat,
    &[Version {
        opset: Opset::Ios13,
        params: &[
            many("values", Kind::T),
            required("axis", Kind::INT32).constant(),
            optional("interleave", Kind::BOOL, Default::Bool(false)).constant(),
        ],
        types: &[("T", &[Fp16, Fp32, Int32, Bool])],
    }],
    infer,
}

fn infer(op: &OpView<'_>) -> Result<Vec<Inferred>, InferError> {
    let values = op.tensors("values")?;
    let first = *values.first().ok_or_else(|| InferError("input `values` is empty".into()))?;
    let axis = op.axis("axis", first.rank())?;
    let mut shape = first.shape.clone();
    for (i, t) in values.iter().enumerate().skip(1) {
        if t.rank() != first.rank() {
            return Err(InferError(format!(
                "values[{i}] has rank {}, values[0] has {}",
                t.rank(),
                first.rank()
            )));
        }
        for (d, &size) in t.shape.iter().enumerate() {
            if d == axis {
                shape[d] = shape[d].zip_with(size, usize::checked_add);
            } else if !shape[d].agrees(size) {
                return Err(InferError(format!(
                    "values[{i}] is {size} in dimension {d}, values[0] is {}",
                    shape[d]
                )));
            } else if shape[d] == Dim::Unknown {
                shape[d] = size;
            }
        }
    }
    let known = (first.rank() == 1 && first.dtype.is_int()).then(|| partial(op)).flatten();
    Ok(vec![Inferred { ty: TensorType::new(first.dtype, shape).into(), known }])
}

/// Joins what is known of small integer vectors, such as shapes.
fn partial(op: &OpView<'_>) -> Option<Known> {
    let parts: Option<Vec<_>> = op.args("values").iter().map(|a| a.partial()).collect();
    Some(Known::Partial(parts?.concat()))
}
