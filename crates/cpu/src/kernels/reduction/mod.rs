//! Reductions along dimensions.

mod reduce_argmax;
mod reduce_argmin;
mod reduce_l1_norm;
mod reduce_l2_norm;
mod reduce_log_sum;
mod reduce_log_sum_exp;
mod reduce_max;
mod reduce_mean;
mod reduce_min;
mod reduce_prod;
mod reduce_sum;
mod reduce_sum_square;

use milwright_mil::ops::{Axes, Axis, Operand};
use milwright_mil::{DType, TensorType};

use crate::convert::{to_f32, write_f32};
use crate::kernel::concrete;
use crate::rows::Rows;
use crate::{KernelError, Prepared};

/// Reduces the dimensions `axes` of `x`, with one function for floats and another for int32.
fn reduce(
    x: Operand<'_>,
    axes: Option<&Axes>,
    float: impl Fn(&[f32]) -> f32 + Send + Sync + 'static,
    int: impl Fn(&[i32]) -> i32 + Send + Sync + 'static,
) -> Result<Prepared, KernelError> {
    let shape = concrete(&x)?;
    let axes = Axes::or_all(axes, shape.len())?;
    let (slot, dtype, rows) = (x.slot, x.dtype, Rows::new(&shape, &axes));
    Ok(Prepared::step(move |run| {
        let (x, out) = (&run.inputs[slot], &mut run.outputs[0]);
        match dtype {
            DType::Int32 => rows.fold(x.slice::<i32>(), out.slice::<i32>(), run.pool, &int),
            DType::Fp32 => rows.fold(x.slice::<f32>(), out.slice::<f32>(), run.pool, &float),
            _ => {
                let mut wide = vec![0.0; rows.count];
                rows.fold(&to_f32(x), &mut wide, run.pool, &float);
                write_f32(out, 0, &wide);
            }
        }
        Ok(())
    }))
}

/// Finds the index of the element along `axis` that `beats` all others: the first of equal ones, or the first NaN.
fn arg(
    x: Operand<'_>,
    axis: Axis,
    outputs: &[TensorType],
    float: impl Fn(f32, f32) -> bool + Send + Sync + 'static,
    int: impl Fn(i32, i32) -> bool + Send + Sync + 'static,
) -> Result<Prepared, KernelError> {
    let shape = concrete(&x)?;
    let axis = axis.resolve(shape.len())?;
    if shape[axis] == 0 {
        return Err(KernelError::invalid(format!("dimension {axis} of `x` is empty")));
    }
    let (slot, dtype, rows) = (x.slot, x.dtype, Rows::new(&shape, &[axis]));
    let narrow = outputs[0].dtype == DType::UInt16;
    Ok(Prepared::step(move |run| {
        let (x, out, pool) = (&run.inputs[slot], &mut run.outputs[0], run.pool);
        let float = |row: &[f32]| first(row, |x, best| float(x, best) || (x.is_nan() && !best.is_nan()));
        let int = |row: &[i32]| first(row, &int);
        match (dtype, narrow) {
            (DType::Int32, false) => rows.fold(x.slice(), out.slice::<i32>(), pool, |r| int(r) as i32),
            (DType::Int32, true) => rows.fold(x.slice(), out.slice::<u16>(), pool, |r| int(r) as u16),
            (_, false) => rows.fold(&to_f32(x), out.slice::<i32>(), pool, |r| float(r) as i32),
            (_, true) => rows.fold(&to_f32(x), out.slice::<u16>(), pool, |r| float(r) as u16),
        }
        Ok(())
    }))
}

/// Returns the index of the first element that no later element beats.
fn first<T: Copy>(row: &[T], beats: impl Fn(T, T) -> bool) -> usize {
    let mut best = 0;
    for (i, &x) in row.iter().enumerate() {
        if beats(x, row[best]) {
            best = i;
        }
    }
    best
}

#[cfg(test)]
mod tests {
    use half::f16;
    use milwright_mil::{OpKind, Opset, Tensor};

    use crate::eager::run_op;

    fn run(kind: OpKind, x: Tensor, parameters: &[(&str, Tensor)]) -> Tensor {
        let x = [x];
        let mut inputs: Vec<(&str, &[Tensor])> = vec![("x", &x)];
        inputs.extend(parameters.iter().map(|(n, t)| (*n, std::slice::from_ref(t))));
        run_op(kind, Opset::Ios17, &inputs, |n| n != "x").unwrap().remove(0)
    }

    fn axes(v: &[i32]) -> (&'static str, Tensor) {
        ("axes", Tensor::from_vec(&[v.len()], v.to_vec()).unwrap())
    }

    #[test]
    fn against_numpy() {
        // numpy on [[1, 2, 4], [-8, 16, 0.5]], axis=1.
        let x = || Tensor::from_vec(&[2, 3], vec![1f32, 2.0, 4.0, -8.0, 16.0, 0.5]).unwrap();
        for (kind, expected) in [
            (OpKind::ReduceSum, [7.0, 8.5]),
            (OpKind::ReduceMean, [2.333_333_3, 2.833_333_3]),
            (OpKind::ReduceMax, [4.0, 16.0]),
            (OpKind::ReduceMin, [1.0, -8.0]),
            (OpKind::ReduceProd, [8.0, -64.0]),
            (OpKind::ReduceSumSquare, [21.0, 320.25]),
            (OpKind::ReduceL1Norm, [7.0, 24.5]),
            (OpKind::ReduceL2Norm, [4.582_575_7, 17.895_53]),
            (OpKind::ReduceLogSum, [1.945_910_1, 2.140_066_1]),
            (OpKind::ReduceLogSumExp, [4.169_846_3, 16.0]),
        ] {
            let out = run(kind, x(), &[axes(&[-1])]);
            assert_eq!(out.shape(), [2]);
            for (a, e) in out.to_f64().iter().zip(expected) {
                assert!((a - e).abs() < 2e-6, "{}: {a} for {e}", kind.name());
            }
        }
    }

    #[test]
    fn shapes() {
        let x = || Tensor::from_vec(&[2, 1, 2], vec![1i32, 2, 3, 4]).unwrap();
        let keep = ("keep_dims", Tensor::from_bools(&[], &[true]).unwrap());
        assert_eq!(run(OpKind::ReduceSum, x(), &[]), Tensor::scalar(10i32));
        let out = run(OpKind::ReduceSum, x(), &[axes(&[0, 2]), keep.clone()]);
        assert_eq!((out.shape(), out.to_i64().unwrap()), (&[1, 1, 1][..], vec![10]));
        let out = run(OpKind::ReduceSum, x(), &[axes(&[0])]);
        assert_eq!((out.shape(), out.to_i64().unwrap()), (&[1, 2][..], vec![4, 6]));
        let out = run(OpKind::ReduceArgmax, x(), &[("axis", Tensor::scalar(0i32)), keep]);
        assert_eq!((out.shape(), out.to_i64().unwrap()), (&[1, 1, 2][..], vec![1, 1]));
    }

    #[test]
    fn integers() {
        let x = || Tensor::from_vec(&[3], vec![i32::MAX, 3, -4]).unwrap();
        let int = |kind| run(kind, x(), &[]).to_i64().unwrap()[0];
        assert_eq!(int(OpKind::ReduceSum), i64::from(i32::MAX) - 1);
        assert_eq!(int(OpKind::ReduceMean), 715_827_882);
        assert_eq!(int(OpKind::ReduceMax), i64::from(i32::MAX));
        assert_eq!(int(OpKind::ReduceProd), 12);
        let x = Tensor::from_vec(&[2], vec![-5i32, 2]).unwrap();
        assert_eq!(run(OpKind::ReduceMean, x, &[]), Tensor::scalar(-1i32));
    }

    #[test]
    fn first_of_equals_and_nan() {
        let x = || Tensor::from_vec(&[4], vec![1f32, 7.0, 7.0, 1.0]).unwrap();
        assert_eq!(run(OpKind::ReduceArgmax, x(), &[]), Tensor::scalar(1i32));
        assert_eq!(run(OpKind::ReduceArgmin, x(), &[]), Tensor::scalar(0i32));
        let u16s = ("output_dtype", Tensor::string("uint16"));
        assert_eq!(run(OpKind::ReduceArgmax, x(), &[u16s]), Tensor::scalar(1u16));
        let x = || Tensor::from_vec(&[3], vec![1f32, f32::NAN, 9.0]).unwrap();
        assert_eq!(run(OpKind::ReduceArgmax, x(), &[]), Tensor::scalar(1i32));
        assert_eq!(run(OpKind::ReduceArgmin, x(), &[]), Tensor::scalar(1i32));
        assert!(run(OpKind::ReduceMax, x(), &[]).to_f64()[0].is_nan());
    }

    #[test]
    fn extremes() {
        let half =
            |x: &[f32]| Tensor::from_vec(&[x.len()], x.iter().map(|&x| f16::from_f32(x)).collect()).unwrap();
        // The sum overflows a half, the mean does not.
        assert_eq!(run(OpKind::ReduceSum, half(&[60000.0; 4]), &[]).to_f64(), [f64::INFINITY]);
        assert_eq!(run(OpKind::ReduceMean, half(&[60000.0; 4]), &[]).to_f64(), [60000.0]);
        let x = || Tensor::from_vec(&[2], vec![1000f32, 1000.0]).unwrap();
        let out = run(OpKind::ReduceLogSumExp, x(), &[]).to_f64()[0];
        assert!((out - 1_000.693_147).abs() < 1e-4);
        let infinite = Tensor::from_vec(&[2], vec![f32::NEG_INFINITY; 2]).unwrap();
        assert_eq!(run(OpKind::ReduceLogSumExp, infinite, &[]).to_f64(), [f64::NEG_INFINITY]);
        let empty = || Tensor::from_vec(&[0, 2], Vec::<f32>::new()).unwrap();
        assert_eq!(run(OpKind::ReduceSum, empty(), &[axes(&[0])]).to_f64(), [0.0, 0.0]);
        assert_eq!(run(OpKind::ReduceProd, empty(), &[]).to_f64(), [1.0]);
        assert_eq!(run(OpKind::ReduceMax, empty(), &[]).to_f64(), [f64::NEG_INFINITY]);
    }
}
