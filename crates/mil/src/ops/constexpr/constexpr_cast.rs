//! `constexpr_cast`

use crate::DType::Fp32;
use crate::TensorType;
use crate::op;
use crate::ops::{InferError, Inferred};

op! {
    /// Weights stored in fp16, as fp32.
    ConstexprCast since Ios16 {
        source_val: Const<[Fp16]>,
        output_dtype: Str,
    }
    => infer
}

fn infer(p: &Params<'_>) -> Result<Vec<Inferred>, InferError> {
    let dtype = p.output_dtype;
    require!(dtype == "fp32", "input `output_dtype` is \"{dtype}\"; it can be fp32");
    Ok(vec![TensorType::new(Fp32, p.source_val.shape.clone()).into()])
}
