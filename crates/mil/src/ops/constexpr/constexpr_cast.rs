//! `constexpr_cast`

use crate::DType::{Fp16, Fp32};
use crate::op;
use crate::ops::{InferError, Inferred, Kind, OpView, Version, required};
use crate::{Opset, TensorType};

op! {
    /// Weights stored in fp16, as fp32.
    ConstexprCast,
    &[Version {
        opset: Opset::Ios16,
        params: &[
            required("source_val", Kind::Of(&[Fp16])).constant(),
            required("output_dtype", Kind::STRING).constant(),
        ],
        types: &[],
    }],
    infer,
}

fn infer(op: &OpView<'_>) -> Result<Vec<Inferred>, InferError> {
    let dtype = op.str("output_dtype")?;
    require!(dtype == "fp32", "input `output_dtype` is \"{dtype}\"; it can be fp32");
    Ok(vec![TensorType::new(Fp32, op.tensor("source_val")?.shape.clone()).into()])
}
