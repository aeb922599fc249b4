//! `cast`

use milwright_mil::ops::defs::Cast;
use milwright_mil::{DType, Element, TensorType};
use num_traits::AsPrimitive;

use crate::{Kernel, KernelError, Params, Prepared, View, ViewMut, with_element};

impl Kernel for Cast {
    fn prepare(p: &Params<'_, Self>, outputs: &[TensorType]) -> Result<Prepared, KernelError> {
        let (slot, from, to) = (p.x.slot, p.x.dtype, outputs[0].dtype);
        if from == to {
            return Ok(Prepared::Alias(slot));
        }
        // fp32 holds every number that fits fp16 exactly, so that the result is rounded only once.
        if matches!(to, DType::Fp16 | DType::Fp32) {
            return Ok(Prepared::unary(slot, |x, out| out.copy_from_slice(x)));
        }
        let run = with_element!(from, T => to_int::<T>(to), else => None);
        let run = run.ok_or_else(|| KernelError::unsupported(format!("cast from {from} to {to}")))?;
        Ok(Prepared::step(move |r| {
            run(&r.inputs[slot], &mut r.outputs[0]);
            Ok(())
        }))
    }
}

type Convert = fn(&View<'_>, &mut ViewMut<'_>);

/// Returns the conversion from `T` (`u8` for bool) to an integer type or bool. Rust's `as` does what Core ML does:
/// floats are truncated and saturate, integers wrap.
fn to_int<T>(to: DType) -> Option<Convert>
where
    T: Element
        + AsPrimitive<i8>
        + AsPrimitive<u8>
        + AsPrimitive<i16>
        + AsPrimitive<u16>
        + AsPrimitive<i32>
        + AsPrimitive<f32>
        + AsPrimitive<i64>,
{
    fn each<T: Element + AsPrimitive<R>, R: Element>(x: &View<'_>, out: &mut ViewMut<'_>) {
        out.slice::<R>().iter_mut().zip(x.slice::<T>()).for_each(|(o, &x)| *o = x.as_());
    }
    Some(match to {
        DType::Bool => |x, out| {
            // Looks at both forms: a float below 1 is 0 as an integer, but not zero.
            let truth = |x: T| {
                let (float, int): (f32, i64) = (x.as_(), x.as_());
                u8::from(float != 0.0 || int != 0)
            };
            out.slice::<u8>().iter_mut().zip(x.slice::<T>()).for_each(|(o, &x)| *o = truth(x));
        },
        DType::Int8 => each::<T, i8>,
        DType::UInt8 => each::<T, u8>,
        DType::Int16 => each::<T, i16>,
        DType::UInt16 => each::<T, u16>,
        DType::Int32 => each::<T, i32>,
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use half::f16;
    use milwright_mil::{OpKind, Opset, Tensor};

    use crate::eager::run_op;

    fn cast(x: Tensor, dtype: &str) -> Tensor {
        let inputs: [(&str, &[Tensor]); 2] = [("x", &[x]), ("dtype", &[Tensor::string(dtype)])];
        run_op(OpKind::Cast, Opset::Ios17, &inputs, |n| n != "x").unwrap().remove(0)
    }

    #[test]
    fn floats_to_integers() {
        let x = [1.9, -1.9, f32::NAN, f32::INFINITY, -1e10, 300.5, -0.0];
        let x = Tensor::from_vec(&[7], x.to_vec()).unwrap();
        assert_eq!(
            cast(x.clone(), "int32").to_i64().unwrap(),
            [1, -1, 0, i64::from(i32::MAX), i64::from(i32::MIN), 300, 0]
        );
        assert_eq!(cast(x.clone(), "uint8").to_i64().unwrap(), [1, 0, 0, 255, 0, 255, 0]);
        assert_eq!(cast(x, "bool").to_i64().unwrap(), [1, 1, 1, 1, 1, 1, 0]);
    }

    #[test]
    fn integers_to_others() {
        let x = Tensor::from_vec(&[4], vec![300i32, -1, 70000, 16_777_217]).unwrap();
        assert_eq!(cast(x.clone(), "int8").to_i64().unwrap(), [44, -1, 112, 1]);
        assert_eq!(cast(x.clone(), "uint16").to_i64().unwrap(), [300, 65535, 4464, 1]);
        assert_eq!(cast(x.clone(), "fp32").to_f64(), [300.0, -1.0, 70000.0, 16_777_216.0]);
        assert_eq!(cast(x, "fp16").to_f64(), [300.0, -1.0, f64::INFINITY, f64::INFINITY]);
        let x = Tensor::from_bools(&[2], &[true, false]).unwrap();
        assert_eq!(cast(x, "fp16").to_vec::<f16>().unwrap(), [f16::ONE, f16::ZERO]);
    }

    #[test]
    fn rank_0_and_empty() {
        assert_eq!(cast(Tensor::scalar(2.5f32), "int32"), Tensor::scalar(2i32));
        assert_eq!(cast(Tensor::from_vec(&[0, 3], Vec::<f32>::new()).unwrap(), "bool").shape(), [0, 3]);
    }
}
