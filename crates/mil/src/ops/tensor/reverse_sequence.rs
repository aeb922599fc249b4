//! `reverse_sequence`

use crate::DType::{Bool, Fp16, Fp32, Int8, Int16, Int32, UInt8, UInt16};
use crate::Opset;
use crate::op;
use crate::ops::{Default, InferError, Inferred, Kind, OpView, Version, optional, required};

op! {
    /// Reverses the first `lengths[i]` elements along `seq_axis`, for each place i along `batch_axis`. The elements
    /// after them stay.
    ReverseSequence,
    &[
        Version {
            opset: Opset::Ios13,
            params: &[
                required("x", Kind::T),
                required("lengths", Kind::INT32),
                optional("seq_axis", Kind::INT32, Default::Int(0)).constant(),
                optional("batch_axis", Kind::INT32, Default::Int(0)).constant(),
            ],
            types: &[("T", &[Fp16, Fp32, Int32, Bool])],
        },
        Version {
            opset: Opset::Ios17,
            params: &[
                required("x", Kind::T),
                required("lengths", Kind::Var("U")),
                optional("seq_axis", Kind::INT32, Default::Int(0)).constant(),
                optional("batch_axis", Kind::INT32, Default::Int(0)).constant(),
            ],
            types: &[
                ("T", &[Fp16, Fp32, Int8, Int16, Int32, UInt8, UInt16, Bool]),
                ("U", &[Int8, Int16, Int32]),
            ],
        },
    ],
    infer,
}

fn infer(op: &OpView<'_>) -> Result<Vec<Inferred>, InferError> {
    let (x, lengths) = (op.tensor("x")?, op.tensor("lengths")?);
    op.axis("seq_axis", x.rank())?;
    let batch = x.shape[op.axis("batch_axis", x.rank())?];
    require!(
        lengths.rank() == 1 && lengths.shape[0].agrees(batch),
        "input `lengths` must be a vector of {batch} elements, not {lengths}"
    );
    Ok(vec![x.clone().into()])
}
