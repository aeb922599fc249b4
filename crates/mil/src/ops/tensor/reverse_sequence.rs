//! `reverse_sequence`

use crate::op;
use crate::ops::{InferError, Inferred};

op! {
    /// Reverses the first `lengths[i]` elements along `seq_axis`, for each place i along `batch_axis`. The elements
    /// after them stay.
    ReverseSequence since Ios13, Ios17 {
        x: Operand<T>,
        lengths: Operand<[Int32] until Ios17, U>,
        seq_axis: Axis = 0,
        batch_axis: Axis = 0,
    }
    where
        T: [Fp16, Fp32, Int32, Bool] since Ios17 [Int8, Int16, UInt8, UInt16],
        U: since Ios17 [Int8, Int16, Int32]
    => infer
}

fn infer(p: &Params<'_>) -> Result<Vec<Inferred>, InferError> {
    let (x, lengths) = (p.x, p.lengths);
    p.seq_axis.resolve(x.rank())?;
    let batch = x.shape[p.batch_axis.resolve(x.rank())?];
    require!(
        lengths.rank() == 1 && lengths.shape[0].agrees(batch),
        "input `lengths` must be a vector of {batch} elements, not {lengths}"
    );
    Ok(vec![x.into()])
}
