//! `concat`

use crate::op;
use crate::ops::{InferError, Inferred, Known, Operand};
use crate::{Dim, TensorType};

op! {
    /// Joins tensors along the dimension `axis`.
    ///
    /// `values` are tensors of one element type whose shapes are equal except along `axis`; `axis` may be negative
    /// (from the end). Scalars are joined to a vector. With `interleave`, all must have the same shape, and the
    /// result takes their slices along `axis` in turn: a₀ b₀ a₁ b₁ ….
    Concat since Ios13 {
        values: Many<T>,
        axis: Axis,
        interleave: bool = false,
    }
    where T: [Fp16, Fp32, Int8, Int16, Int32, UInt8, UInt16, Bool]
    => infer
}

fn infer(p: &Params<'_>) -> Result<Vec<Inferred>, InferError> {
    let values = &p.values;
    let first = *values.first().ok_or_else(|| InferError("input `values` is empty".into()))?;
    let axis = p.axis.resolve(first.rank().max(1))?;
    let mut shape = if first.rank() == 0 { vec![Dim::Fixed(1)] } else { first.shape.clone() };
    for (i, t) in values.iter().enumerate().skip(1) {
        require!(
            t.rank() == first.rank(),
            "values[{i}] has rank {}, values[0] has {}",
            t.rank(),
            first.rank()
        );
        if first.rank() == 0 {
            shape[0] = (i + 1).into();
        }
        for (d, &size) in t.shape.iter().enumerate() {
            if d == axis && !p.interleave {
                shape[d] = shape[d].zip_with(size, usize::checked_add);
            } else {
                let known = shape[d];
                require!(known.agrees(size), "values[{i}] is {size} in dimension {d}, values[0] is {known}");
                shape[d] = known.or(size);
            }
        }
    }
    if p.interleave && first.rank() > 0 {
        shape[axis] = shape[axis].map(|n| n.checked_mul(values.len()));
    }
    let small = first.rank() <= 1 && first.dtype.is_int() && !p.interleave;
    let known = small.then(|| partial(values)).flatten();
    Ok(vec![Inferred { ty: TensorType::new(first.dtype, shape).into(), known }])
}

/// Joins the known elements of small integer vectors, such as shapes.
fn partial(values: &[Operand<'_>]) -> Option<Known> {
    let parts: Option<Vec<_>> = values.iter().map(Operand::partial).collect();
    Some(Known::Partial(parts?.concat()))
}
