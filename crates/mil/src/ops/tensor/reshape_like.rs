//! `reshape_like`

use crate::op;
use crate::ops::{InferError, Inferred, Operand};
use crate::{Dim, TensorType};

op! {
    /// The elements of `x` in a shape put together from the shapes of other tensors.
    ///
    /// The dimensions from `begins[i]` to `ends[i]` (from the end of the shape where negative) of each
    /// `ref_tensors[i]` follow each other; `end_masks[i]` takes all dimensions from `begins[i]` on.
    ReshapeLike since Ios16, Ios17 {
        x: Operand<T>,
        ref_tensors: ManyAny,
        begins: ManyConst<[Int32]>,
        ends: ManyConst<[Int32]>,
        end_masks: ManyConst<[Bool]>,
    }
    where T: [Fp16, Fp32, Int32, Bool] since Ios17 [Int8, Int16, UInt8, UInt16]
    => infer
}

fn infer(p: &Params<'_>) -> Result<Vec<Inferred>, InferError> {
    let x = p.x;
    let refs = p.ref_tensors.iter().map(|t| t.tensor()).collect::<Result<Vec<_>, _>>()?;
    let (begins, ends, masks) = (&p.begins, &p.ends, &p.end_masks);
    require!(
        [begins.len(), ends.len(), masks.len()] == [refs.len(); 3],
        "`ref_tensors`, `begins`, `ends` and `end_masks` must have the same length"
    );
    let mut shape = Vec::new();
    for (i, t) in refs.iter().enumerate() {
        let place = |arg: Operand<'_>| -> Result<usize, InferError> {
            let at = match arg.partial().as_deref() {
                Some(&[Some(at)]) => at,
                _ => return Err(InferError("`begins` and `ends` must be constant integers".into())),
            };
            let rank = t.rank() as i64;
            Ok((if at < 0 { at.saturating_add(rank) } else { at }).clamp(0, rank) as usize)
        };
        let begin = place(begins[i])?;
        let end = if bool(masks[i])? { t.rank() } else { place(ends[i])? };
        shape.extend_from_slice(t.shape.get(begin..end).unwrap_or_default());
    }
    let volume = |dims: &[Dim]| dims.iter().fold(Dim::Fixed(1), |n, &d| n.zip_with(d, usize::checked_mul));
    let (from, to) = (volume(&x.shape), volume(&shape));
    require!(from.agrees(to), "{from} elements of `x` cannot fill a shape of {to}");
    Ok(vec![TensorType::new(x.dtype, shape).into()])
}

fn bool(mask: Operand<'_>) -> Result<bool, InferError> {
    mask.bool().map_err(|_| InferError("`end_masks` must be constant bools".into()))
}
