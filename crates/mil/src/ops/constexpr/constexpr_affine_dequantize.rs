//! `constexpr_affine_dequantize`

use crate::DType::{Fp16, Fp32, Int8, UInt8};
use crate::op;
use crate::ops::{InferError, Inferred, Kind, OpView, Version, required};
use crate::{Opset, TensorType};

op! {
    /// Weights stored as 8-bit integers: `scale` · (`quantized_data` - `zero_point`).
    ///
    /// `scale` and `zero_point` are scalars, or vectors along the dimension `axis` of the data. The result has the
    /// type of `scale`.
    ConstexprAffineDequantize,
    &[Version {
        opset: Opset::Ios16,
        params: &[
            required("quantized_data", Kind::Var("SrcT")).constant(),
            required("zero_point", Kind::Var("ZeroPointT")).constant(),
            required("scale", Kind::Var("DstT")).constant(),
            required("axis", Kind::INT32).constant(),
        ],
        types: &[("SrcT", &[Int8, UInt8]), ("ZeroPointT", &[Int8, UInt8, Fp32]), ("DstT", &[Fp16, Fp32])],
    }],
    infer,
}

fn infer(op: &OpView<'_>) -> Result<Vec<Inferred>, InferError> {
    let (data, scale) = (op.tensor("quantized_data")?, op.tensor("scale")?);
    let size = data.shape[op.axis("axis", data.rank())?];
    for name in ["scale", "zero_point"] {
        let t = op.tensor(name)?;
        let fits = t.rank() == 0 || t.rank() == 1 && t.shape[0].agrees(size);
        require!(fits, "input `{name}` must be a scalar or a vector of {size} elements, not {t}");
    }
    Ok(vec![TensorType::new(scale.dtype, data.shape.clone()).into()])
}
