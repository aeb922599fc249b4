//! `constexpr_affine_dequantize`

use crate::TensorType;
use crate::op;
use crate::ops::{InferError, Inferred};

op! {
    /// Weights stored as 8-bit integers: `scale` · (`quantized_data` - `zero_point`).
    ///
    /// `scale` and `zero_point` are scalars, or vectors along the dimension `axis` of the data. The result has the
    /// type of `scale`.
    ConstexprAffineDequantize since Ios16 {
        quantized_data: Const<SrcT>,
        zero_point: Const<ZeroPointT>,
        scale: Const<DstT>,
        axis: Axis,
    }
    where SrcT: [Int8, UInt8], ZeroPointT: [Fp32, Int8, UInt8], DstT: [Fp16, Fp32]
    => infer
}

fn infer(p: &Params<'_>) -> Result<Vec<Inferred>, InferError> {
    let (data, scale) = (p.quantized_data, p.scale);
    let size = data.shape[p.axis.resolve(data.rank())?];
    for t in [scale, p.zero_point] {
        let fits = t.rank() == 0 || t.rank() == 1 && t.shape[0].agrees(size);
        require!(fits, "input `{}` must be a scalar or a vector of {size} elements, not {t}", t.name);
    }
    Ok(vec![TensorType::new(scale.dtype, data.shape.clone()).into()])
}
