//! `layer_norm`

use crate::TensorType;
use crate::op;
use crate::ops::elementwise_unary::same_as;
use crate::ops::{InferError, Inferred};

op! {
    /// (x - mean) / √(variance + epsilon) · gamma + beta, with the statistics of `x` over the dimensions
    /// `axes`.
    ///
    /// `axes` (default: all) may be negative (from the end). `gamma` (default: ones) and `beta` (default:
    /// zeros) have the shape of those dimensions of `x`, in the order of `x`. From iOS17 on the parameters
    /// may have another float type than `x`; `epsilon` may in any opset: coremltools writes its default in
    /// fp32. The result has the type of `x`.
    LayerNorm since Ios13, Ios17 {
        x: Operand<T>,
        axes: Option<Axes>,
        gamma: Option<Const<T until Ios17, U>>,
        beta: Option<Const<T until Ios17, U>>,
        epsilon: f32<E> = 1e-5,
    }
    where T: [Fp16, Fp32], U: since Ios17 [Fp16, Fp32], E: [Fp16, Fp32]
    => infer
}

fn infer(p: &Params<'_>) -> Result<Vec<Inferred>, InferError> {
    let x = p.x;
    let axes = p.axes.as_ref().map(|a| a.resolve(x.rank())).transpose()?;
    let normalized = |d: &usize| axes.as_ref().is_none_or(|a| a.contains(d));
    let expected: Vec<_> = (0..x.rank()).filter(normalized).map(|d| x.shape[d]).collect();
    for t in [p.gamma, p.beta].into_iter().flatten() {
        if !t.agrees(&TensorType::new(t.dtype, expected.clone())) {
            let expected = TensorType::new(t.dtype, expected);
            return Err(InferError(format!(
                "input `{}` is {t}, but the axes of `x` make {expected}",
                t.name
            )));
        }
    }
    same_as(p.x)
}
