//! Affine quantization of activations.

mod dequantize;
mod quantize;

use milwright_mil::ops::{Axis, Operand};

use crate::KernelError;
use crate::index::count;
use crate::kernel::concrete;

/// Returns the number of consecutive elements that share a scale.
fn inner(input: Operand<'_>, scale: Operand<'_>, axis: Option<Axis>) -> Result<usize, KernelError> {
    let shape = concrete(&input)?;
    let inner = match axis.filter(|_| scale.rank() > 0) {
        None => count(&shape),
        Some(axis) => count(&shape[axis.resolve(shape.len())? + 1..]),
    };
    // Callers divide by this, so it must not be 0 even for an empty tensor.
    Ok(inner.max(1))
}

#[cfg(test)]
mod tests {
    use half::f16;
    use milwright_mil::{OpKind, Opset, Tensor};

    use crate::eager::run_op;

    fn run(kind: OpKind, inputs: &[(&str, Tensor)]) -> Tensor {
        let inputs: Vec<_> = inputs.iter().map(|(n, t)| (*n, std::slice::from_ref(t))).collect();
        run_op(kind, Opset::Ios17, &inputs, |n| n != "input").unwrap().remove(0)
    }

    #[test]
    fn quantize_rounds_and_clips() {
        // numpy: clip(round(x / 0.5) + 3, 0, 255)
        let x = [-2.0f32, 0.25, 0.75, 1.1, 1e9, f32::INFINITY];
        let inputs = [
            ("input", Tensor::from_vec(&[6], x.to_vec()).unwrap()),
            ("scale", Tensor::scalar(0.5f32)),
            ("zero_point", Tensor::scalar(3u8)),
            ("output_dtype", Tensor::string("uint8")),
        ];
        assert_eq!(run(OpKind::Quantize, &inputs).to_i64().unwrap(), [0, 3, 5, 5, 255, 255]);
    }

    #[test]
    fn along_an_axis() {
        let inputs = [
            ("input", Tensor::from_vec(&[2, 2], vec![10i8, 20, 30, -40]).unwrap()),
            ("scale", Tensor::from_vec(&[2], [0.5, 2.0].map(f16::from_f32).to_vec()).unwrap()),
            ("zero_point", Tensor::from_vec(&[2], vec![0i8, 10]).unwrap()),
            ("axis", Tensor::scalar(0i32)),
        ];
        assert_eq!(run(OpKind::Dequantize, &inputs).to_f64(), [5.0, 10.0, 40.0, -100.0]);
        let inputs = [inputs[0].clone(), ("scale", Tensor::scalar(0.5f32))];
        assert_eq!(run(OpKind::Dequantize, &inputs).to_f64(), [5.0, 10.0, 15.0, -20.0]);
    }
}
