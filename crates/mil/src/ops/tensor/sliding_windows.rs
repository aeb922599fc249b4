//! `sliding_windows`

use crate::DType::{Bool, Fp16, Fp32, Int8, Int16, Int32, UInt8, UInt16};
use crate::op;
use crate::ops::{Default, InferError, Inferred, Kind, OpView, Param, Version, optional, required};
use crate::{Opset, TensorType};

op! {
    /// Every window of `size` elements along `axis`, one each `stride` elements.
    ///
    /// Dimension `axis` becomes two: the (n - size) / stride + 1 windows, and the elements of a window.
    SlidingWindows,
    &[
        Version { opset: Opset::Ios13, params: PARAMS, types: &[("T", &[Fp16, Fp32, Int32])] },
        Version {
            opset: Opset::Ios17,
            params: PARAMS,
            types: &[("T", &[Fp16, Fp32, Int8, Int16, Int32, UInt8, UInt16, Bool])],
        },
    ],
    infer,
}

const PARAMS: &[Param] = &[
    required("x", Kind::T),
    required("axis", Kind::INT32).constant(),
    required("size", Kind::INT32).constant(),
    optional("stride", Kind::INT32, Default::Int(1)).constant(),
];

fn infer(op: &OpView<'_>) -> Result<Vec<Inferred>, InferError> {
    let x = op.tensor("x")?;
    let axis = op.axis("axis", x.rank())?;
    let (size, stride) = (op.int("size")?, op.int("stride")?);
    require!(size > 0 && stride > 0, "inputs `size` and `stride` must be positive, not {size} and {stride}");
    let (size, stride) = (size as usize, stride as usize);
    let mut shape = x.shape.clone();
    if let Some(n) = shape[axis].fixed() {
        require!(size <= n, "a window of {size} does not fit a dimension of size {n}");
        shape[axis] = ((n - size) / stride + 1).into();
    }
    shape.insert(axis + 1, size.into());
    Ok(vec![TensorType::new(x.dtype, shape).into()])
}
