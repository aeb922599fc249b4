//! Functions of one tensor, element by element.

mod abs;
mod acos;
mod asin;
mod atan;
mod atanh;
mod cast;
mod ceil;
mod clip;
mod cos;
mod cosh;
mod erf;
mod exp;
mod exp2;
mod floor;
mod inverse;
mod log;
mod logical_not;
mod round;
mod rsqrt;
mod sign;
mod sin;
mod sinh;
mod sqrt;
mod square;
mod tan;
mod tanh;
mod threshold;

use milwright_mil::DType;
use milwright_mil::ops::{Number, Operand};

use crate::{KernelError, Prepared, math};

/// Prepares a function of the float tensor `x`.
pub(super) fn float(
    x: Operand<'_>,
    f: impl Fn(f32) -> f32 + Send + Sync + 'static,
) -> Result<Prepared, KernelError> {
    Ok(Prepared::unary(x.slot, move |x, out| math::each(x, out, &f)))
}

/// Prepares a function of `x`, with one form for floats and another for int32.
fn float_or_int(
    x: Operand<'_>,
    f: impl Fn(f32) -> f32 + Send + Sync + 'static,
    g: impl Fn(i32) -> i32 + Send + Sync + 'static,
) -> Result<Prepared, KernelError> {
    if x.dtype != DType::Int32 {
        return float(x, f);
    }
    let slot = x.slot;
    Ok(Prepared::step(move |run| {
        let x = run.inputs[slot].slice::<i32>();
        run.outputs[0].slice::<i32>().iter_mut().zip(x).for_each(|(o, &x)| *o = g(x));
        Ok(())
    }))
}

/// Returns `epsilon`. The default is rounded to the element type of `x`, as a constant would be.
fn epsilon(x: Operand<'_>, epsilon: Number<'_>) -> f32 {
    let mut value = [epsilon.value];
    if epsilon.bound.is_none() {
        crate::convert::round_to(x.dtype, &mut value);
    }
    value[0]
}

#[cfg(test)]
mod tests {
    use half::f16;
    use milwright_mil::{OpKind, Opset, Tensor};

    use crate::eager::run_op;

    fn run(kind: OpKind, x: Tensor) -> Tensor {
        run_op(kind, Opset::Ios17, &[("x", &[x])], |_| false).unwrap().remove(0)
    }

    fn floats(kind: OpKind, x: &[f32]) -> Vec<f32> {
        run(kind, Tensor::from_vec(&[x.len()], x.to_vec()).unwrap()).to_vec().unwrap()
    }

    fn halves(kind: OpKind, x: &[f32]) -> Vec<f64> {
        let x: Vec<f16> = x.iter().map(|&x| f16::from_f32(x)).collect();
        run(kind, Tensor::from_vec(&[x.len()], x).unwrap()).to_f64()
    }

    fn ints(kind: OpKind, x: &[i32]) -> Vec<i32> {
        run(kind, Tensor::from_vec(&[x.len()], x.to_vec()).unwrap()).to_vec().unwrap()
    }

    #[test]
    fn against_numpy() {
        // numpy.NAME(numpy.float32([-0.75, 0.1, 0.5])), and math.erf.
        let x = [-0.75, 0.1, 0.5];
        let cases: &[(OpKind, [f32; 3])] = &[
            (OpKind::Abs, [0.75, 0.1, 0.5]),
            (OpKind::Acos, [2.418_858_3, 1.470_629, std::f32::consts::FRAC_PI_3]),
            (OpKind::Asin, [-0.848_062_1, 0.100_167_42, std::f32::consts::FRAC_PI_6]),
            (OpKind::Atan, [-0.643_501_1, 0.099_668_65, 0.463_647_6]),
            (OpKind::Atanh, [-0.972_955_07, 0.100_335_35, 0.549_306_15]),
            (OpKind::Cos, [0.731_688_86, 0.995_004_2, 0.877_582_55]),
            (OpKind::Cosh, [1.294_683_3, 1.005_004_2, 1.127_626]),
            (OpKind::Erf, [-0.711_155_65, 0.112_462_915, 0.520_499_9]),
            (OpKind::Exp, [0.472_366_57, 1.105_170_9, 1.648_721_3]),
            (OpKind::Exp2, [0.594_603_54, 1.071_773_4, std::f32::consts::SQRT_2]),
            (OpKind::Sin, [-0.681_638_8, 0.099_833_414, 0.479_425_55]),
            (OpKind::Sinh, [-0.822_316_76, 0.100_166_75, 0.521_095_3]),
            (OpKind::Square, [0.5625, 0.01, 0.25]),
            (OpKind::Tan, [-0.931_596_46, 0.100_334_67, 0.546_302_5]),
            (OpKind::Tanh, [-0.635_148_94, 0.099_667_99, 0.462_117_16]),
        ];
        for (kind, expected) in cases {
            for (a, e) in floats(*kind, &x).iter().zip(expected) {
                assert!((a - e).abs() <= 2e-7 * e.abs().max(1.0), "{}: {a} for {e}", kind.name());
            }
        }
    }

    #[test]
    fn rounding() {
        let x = [-1.5, -0.5, 0.5, 1.5, 2.5, f32::INFINITY];
        assert_eq!(floats(OpKind::Round, &x), [-2.0, -0.0, 0.0, 2.0, 2.0, f32::INFINITY]);
        assert_eq!(floats(OpKind::Floor, &x), [-2.0, -1.0, 0.0, 1.0, 2.0, f32::INFINITY]);
        assert_eq!(floats(OpKind::Ceil, &x), [-1.0, -0.0, 1.0, 2.0, 3.0, f32::INFINITY]);
        assert_eq!(floats(OpKind::Sign, &x[..3]), [-1.0, -1.0, 1.0]);
        assert!(floats(OpKind::Sign, &[f32::NAN])[0].is_nan());
        assert!(floats(OpKind::Sqrt, &[-1.0])[0].is_nan());
    }

    #[test]
    fn integers_are_exact() {
        assert_eq!(ints(OpKind::Abs, &[i32::MIN, -3, 2_000_000_001]), [i32::MIN, 3, 2_000_000_001]);
        assert_eq!(ints(OpKind::Exp2, &[-1, 0, 30, 31]), [0, 1, 1 << 30, i32::MAX]);
        assert_eq!(ints(OpKind::Square, &[-46341, 5]), [-2_147_479_015, 25]);
        assert_eq!(ints(OpKind::Sign, &[-9, 0, 9]), [-1, 0, 1]);
    }

    #[test]
    fn epsilon_defaults_are_of_the_type() {
        // numpy: log(x + T(1e-45)), 1 / (x + T(1e-4)), 1 / sqrt(x + T(1e-12)).
        assert_eq!(floats(OpKind::Log, &[0.0])[0], -103.278_93);
        assert_eq!(halves(OpKind::Log, &[0.0]), [f64::NEG_INFINITY]);
        assert_eq!(floats(OpKind::Inverse, &[0.0])[0], 10_000.0);
        assert_eq!(halves(OpKind::Inverse, &[0.0]), [10_000.0]);
        assert_eq!(floats(OpKind::Rsqrt, &[0.0, 4.0]), [1e6, 0.5]);
        assert_eq!(halves(OpKind::Rsqrt, &[0.0]), [f64::INFINITY]);
    }

    #[test]
    fn limits() {
        let x = Tensor::from_vec(&[4], vec![-2.0f32, 0.5, 2.0, f32::NAN]).unwrap();
        let inputs: [(&str, &[Tensor]); 3] =
            [("x", &[x]), ("alpha", &[Tensor::scalar(-1.0f32)]), ("beta", &[Tensor::scalar(1.0f32)])];
        let out = run_op(OpKind::Clip, Opset::Ios17, &inputs, |n| n != "x").unwrap();
        let out = out[0].to_vec::<f32>().unwrap();
        assert_eq!(out[..3], [-1.0, 0.5, 1.0]);
        assert!(out[3].is_nan());
        let x = Tensor::from_vec(&[2], vec![16_777_217i32, 5]).unwrap();
        let inputs: [(&str, &[Tensor]); 2] = [("x", &[x]), ("alpha", &[Tensor::scalar(16_777_216i32)])];
        let out = run_op(OpKind::Threshold, Opset::Ios15, &inputs, |n| n != "x").unwrap();
        assert_eq!(out[0].to_vec::<i32>().unwrap(), [16_777_217, 16_777_216]);
    }

    #[test]
    fn empty_and_rank_0() {
        assert_eq!(floats(OpKind::Exp, &[]), []);
        assert_eq!(run(OpKind::Exp, Tensor::scalar(0.0f32)), Tensor::scalar(1.0f32));
        let x = Tensor::from_bools(&[2], &[true, false]).unwrap();
        assert_eq!(run(OpKind::LogicalNot, x).to_i64().unwrap(), [0, 1]);
    }
}
