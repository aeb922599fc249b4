//! Raises functions to newer opsets.

use milwright_mil::{Arg, DType, Function, Input, OpKind, Opset, Tensor, Value, param};

/// Raises a function to `opset`, if it is older. Compressed constants get the form that they have from iOS18 on.
pub(crate) fn raise(function: &mut Function, opset: Opset) {
    if function.opset >= opset {
        return;
    }
    if function.opset < Opset::Ios18 && opset >= Opset::Ios18 {
        for op in function.walk() {
            match function[op].kind {
                OpKind::ConstexprLutToDense => unpack_indices(function, op),
                OpKind::ConstexprSparseToDense => unpack_mask(function, op),
                _ => {}
            }
        }
    }
    function.opset = opset;
}

fn tensor(function: &Function, op: milwright_mil::OpId, name: &str) -> Option<Tensor> {
    match function[op].args(name) {
        [Arg::Const(value)] => value.as_tensor().cloned(),
        [Arg::Value(value)] => function.const_value(*value).and_then(Value::as_tensor).cloned(),
        _ => None,
    }
}

fn replace(
    function: &mut Function,
    op: milwright_mil::OpId,
    inputs: Vec<(&'static str, Tensor)>,
    shape: &str,
) {
    let inputs_now = &mut function[op].inputs;
    inputs_now.retain(|i| i.name != shape && inputs.iter().all(|(name, _)| i.name != *name));
    inputs_now.extend(inputs.into_iter().map(|(name, tensor)| Input::constant(name, tensor)));
}

/// Indices that are packed in bytes get a type of that many bits, and the shape of the result.
fn unpack_indices(function: &mut Function, op: milwright_mil::OpId) {
    const INDICES: &str = param!(ConstexprLutToDense.indices);
    const LUT: &str = param!(ConstexprLutToDense.lut);
    const SHAPE: &str = param!(ConstexprLutToDense.shape);
    let (Some(indices), Some(lut), Some(shape)) =
        (tensor(function, op, INDICES), tensor(function, op, LUT), dims(function, op, SHAPE))
    else {
        return;
    };
    let dtype = match lut.elements() {
        2 => DType::UInt1,
        4 => DType::UInt2,
        16 => DType::UInt4,
        64 => DType::UInt6,
        256 => DType::UInt8,
        _ => return,
    };
    let mut lut_shape = vec![1; shape.len()];
    lut_shape.extend([lut.elements(), 1]);
    if let (Ok(indices), Ok(lut)) =
        (Tensor::from_bytes(dtype, &shape, indices.shared_bytes()), lut.reshaped(&lut_shape))
    {
        replace(function, op, vec![(INDICES, indices), (LUT, lut)], SHAPE);
    }
}

fn unpack_mask(function: &mut Function, op: milwright_mil::OpId) {
    const MASK: &str = param!(ConstexprSparseToDense.mask);
    const SHAPE: &str = param!(ConstexprSparseToDense.shape);
    let (Some(mask), Some(shape)) = (tensor(function, op, MASK), dims(function, op, SHAPE)) else { return };
    if let Ok(mask) = Tensor::from_bytes(DType::UInt1, &shape, mask.shared_bytes()) {
        replace(function, op, vec![(MASK, mask)], SHAPE);
    }
}

fn dims(function: &Function, op: milwright_mil::OpId, name: &str) -> Option<Vec<usize>> {
    tensor(function, op, name)?.to_i64()?.into_iter().map(|n| usize::try_from(n).ok()).collect()
}
