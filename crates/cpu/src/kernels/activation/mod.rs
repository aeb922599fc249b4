//! Activation functions.

mod clamped_relu;
mod elu;
mod gelu;
mod leaky_relu;
mod linear_activation;
mod prelu;
mod relu;
mod relu6;
mod scaled_tanh;
mod sigmoid;
mod sigmoid_hard;
mod silu;
mod softmax;
mod softplus;
mod softplus_parametric;
mod softsign;
mod thresholded_relu;

use milwright_mil::{Tensor, TensorType, ops};

use crate::kernel::{Operand, concrete};
use crate::{KernelError, View, convert};

/// ln(1 + eˣ).
fn softplus(x: f32) -> f32 {
    // `max` would lose NaN.
    let positive = if x < 0.0 { 0.0 } else { x };
    positive + (-x.abs()).exp().ln_1p()
}

/// Makes a constant with one element per channel broadcast to `x`, whose shape is [batch, channels, …].
pub(super) fn channel_constant(x: &TensorType, vector: ops::Operand<'_>) -> Result<Operand, KernelError> {
    let unknown = || KernelError::unsupported(format!("input `{}` is not a plain constant", vector.name));
    Ok(Operand::Constant(channel_vector(x, vector.value().ok_or_else(unknown)?)?))
}

/// Returns a vector with one element per channel as fp32, in a shape that broadcasts to `x`.
pub(super) fn channel_vector(x: &TensorType, vector: &Tensor) -> Result<Tensor, KernelError> {
    let mut shape = vec![1; concrete(x)?.len() - 1];
    shape[0] = vector.elements();
    let values = convert::to_f32(&View::from(vector)).into_owned();
    Tensor::from_vec(&shape, values).map_err(|e| KernelError::invalid(e.to_string()))
}

#[cfg(test)]
mod tests {
    use milwright_mil::{OpKind, Opset, Tensor};

    use crate::eager::run_op;

    fn run(kind: OpKind, x: Tensor, parameters: &[(&str, Tensor)]) -> Vec<f32> {
        let x = [x];
        let mut inputs: Vec<(&str, &[Tensor])> = vec![("x", &x)];
        inputs.extend(parameters.iter().map(|(n, t)| (*n, std::slice::from_ref(t))));
        run_op(kind, Opset::Ios17, &inputs, |n| n != "x").unwrap()[0].to_vec().unwrap()
    }

    fn check(kind: OpKind, parameters: &[(&str, f32)], expected: [f32; 4]) {
        let parameters: Vec<_> = parameters.iter().map(|&(n, x)| (n, Tensor::scalar(x))).collect();
        let x = Tensor::from_vec(&[4], vec![-3.0f32, -0.5, 0.25, 8.0]).unwrap();
        for (a, e) in run(kind, x, &parameters).iter().zip(expected) {
            assert!((a - e).abs() <= 3e-7 * e.abs().max(1.0), "{}: {a} for {e}", kind.name());
        }
    }

    #[test]
    fn against_torch() {
        // torch.nn.functional on [-3, -0.5, 0.25, 8], in double precision.
        check(OpKind::Relu, &[], [0.0, 0.0, 0.25, 8.0]);
        check(OpKind::Relu6, &[], [0.0, 0.0, 0.25, 6.0]);
        check(OpKind::Sigmoid, &[], [0.047_425_874, 0.377_540_68, 0.562_176_5, 0.999_664_66]);
        check(OpKind::Silu, &[], [-0.142_277_62, -0.188_770_34, 0.140_544_13, 7.997_317_3]);
        check(OpKind::Softplus, &[], [0.048_587_352, 0.474_077, 0.825_939_4, 8.000_335]);
        check(OpKind::Softsign, &[], [-0.75, -0.333_333_34, 0.2, 0.888_888_9]);
        check(OpKind::Gelu, &[], [-0.004_049_694, -0.154_268_77, 0.149_676_6, 8.0]);
        check(OpKind::Elu, &[("alpha", 2.0)], [-1.900_425_9, -0.786_938_7, 0.25, 8.0]);
        check(OpKind::LeakyRelu, &[("alpha", 0.5)], [-1.5, -0.25, 0.25, 8.0]);
        check(OpKind::LinearActivation, &[("alpha", 2.0), ("beta", 1.0)], [-5.0, 0.0, 1.5, 17.0]);
        check(OpKind::ClampedRelu, &[("alpha", 0.5), ("beta", 2.0)], [-1.5, -0.25, 0.25, 2.0]);
        check(OpKind::SigmoidHard, &[("alpha", 0.2), ("beta", 0.5)], [0.0, 0.4, 0.55, 1.0]);
        check(OpKind::ThresholdedRelu, &[("alpha", 0.25)], [0.0, 0.0, 0.25, 8.0]);
        check(
            OpKind::ScaledTanh,
            &[("alpha", 2.0), ("beta", 0.5)],
            [-1.810_296_7, -0.489_837_32, 0.248_706_01, 1.998_658_7],
        );
    }

    #[test]
    fn gelu_modes() {
        let x = || Tensor::from_vec(&[2], vec![-1.0f32, 2.0]).unwrap();
        for (mode, expected) in [
            ("EXACT", [-0.158_655_25, 1.954_499_7]),
            ("TANH_APPROXIMATION", [-0.158_808, 1.954_597_7]),
            ("SIGMOID_APPROXIMATION", [-0.154_204_23, 1.935_658_6]),
        ] {
            for (a, e) in run(OpKind::Gelu, x(), &[("mode", Tensor::string(mode))]).iter().zip(expected) {
                assert!((a - e).abs() < 5e-7, "{mode}: {a} for {e}");
            }
        }
    }

    #[test]
    fn channels() {
        let x = Tensor::from_vec(&[1, 2, 1, 2], vec![-1.0f32, 1.0, -1.0, 1.0]).unwrap();
        let alpha = Tensor::from_vec(&[2], vec![0.5f32, 0.25]).unwrap();
        assert_eq!(run(OpKind::Prelu, x.clone(), &[("alpha", alpha.clone())]), [-0.5, 1.0, -0.25, 1.0]);
        let beta = Tensor::from_vec(&[2], vec![1.0f32, 2.0]).unwrap();
        let out = run(OpKind::SoftplusParametric, x, &[("alpha", alpha), ("beta", beta)]);
        // alpha * numpy.log1p(numpy.exp(beta * x))
        for (a, e) in out.iter().zip([0.156_630_85, 0.656_630_8, 0.031_732, 0.531_732]) {
            assert!((a - e).abs() < 1e-6);
        }
    }

    #[test]
    fn nan_stays() {
        for kind in [OpKind::Relu, OpKind::Relu6, OpKind::Sigmoid, OpKind::Softplus, OpKind::Gelu] {
            assert!(run(kind, Tensor::scalar(f32::NAN), &[])[0].is_nan(), "{}", kind.name());
        }
    }
}
