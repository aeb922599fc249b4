//! `reshape_like`

use crate::DType::{Bool, Fp16, Fp32, Int8, Int16, Int32, UInt8, UInt16};
use crate::op;
use crate::ops::{ArgView, InferError, Inferred, Kind, OpView, Param, Version, many, required};
use crate::{Dim, Opset, TensorType, Value};

op! {
    /// The elements of `x` in a shape put together from the shapes of other tensors.
    ///
    /// The dimensions from `begins[i]` to `ends[i]` (from the end of the shape where negative) of each
    /// `ref_tensors[i]` follow each other; `end_masks[i]` takes all dimensions from `begins[i]` on.
    ReshapeLike,
    &[
        Version { opset: Opset::Ios16, params: PARAMS, types: &[("T", &[Fp16, Fp32, Int32, Bool])] },
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
    many("ref_tensors", Kind::Any),
    many("begins", Kind::INT32).constant(),
    many("ends", Kind::INT32).constant(),
    many("end_masks", Kind::BOOL).constant(),
];

fn infer(op: &OpView<'_>) -> Result<Vec<Inferred>, InferError> {
    let x = op.tensor("x")?;
    let refs = op.tensors("ref_tensors")?;
    let (begins, ends, masks) = (op.args("begins"), op.args("ends"), op.args("end_masks"));
    require!(
        [begins.len(), ends.len(), masks.len()] == [refs.len(); 3],
        "`ref_tensors`, `begins`, `ends` and `end_masks` must have the same length"
    );
    let mut shape = Vec::new();
    for (i, t) in refs.iter().enumerate() {
        let place = |arg: &ArgView<'_>| -> Result<usize, InferError> {
            let at = match arg.partial().as_deref() {
                Some(&[Some(at)]) => at,
                _ => return Err(InferError("`begins` and `ends` must be constant integers".into())),
            };
            let rank = t.rank() as i64;
            Ok((if at < 0 { at.saturating_add(rank) } else { at }).clamp(0, rank) as usize)
        };
        let begin = place(&begins[i])?;
        let end = if bool(&masks[i])? { t.rank() } else { place(&ends[i])? };
        shape.extend_from_slice(t.shape.get(begin..end).unwrap_or_default());
    }
    let volume = |dims: &[Dim]| dims.iter().fold(Dim::Fixed(1), |n, &d| n.zip_with(d, usize::checked_mul));
    let (from, to) = (volume(&x.shape), volume(&shape));
    require!(from.agrees(to), "{from} elements of `x` cannot fill a shape of {to}");
    Ok(vec![TensorType::new(x.dtype, shape).into()])
}

fn bool(arg: &ArgView<'_>) -> Result<bool, InferError> {
    match arg.value().and_then(Value::as_tensor) {
        Some(t) if t.dtype() == Bool && t.elements() == 1 => Ok(t.bytes()[0] != 0),
        _ => Err(InferError("`end_masks` must be constant bools".into())),
    }
}
