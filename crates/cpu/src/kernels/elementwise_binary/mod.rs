//! Functions of two tensors, element by element.

mod add;
mod equal;
mod floor_div;
mod greater;
mod greater_equal;
mod less;
mod less_equal;
mod logical_and;
mod logical_or;
mod logical_xor;
mod maximum;
mod minimum;
mod modulo;
mod mul;
mod not_equal;
mod pow;
mod real_div;
mod sub;

use milwright_mil::ops::Operand;
use milwright_mil::{DType, Element, TensorType};

use crate::index::Walk;
use crate::kernel::concrete;
use crate::{KernelError, Prepared, math};

/// Prepares a function of two tensors, with one form for floats and another for int32.
fn float_or_int(
    [x, y]: [Operand<'_>; 2],
    outputs: &[TensorType],
    f: impl Fn(f32, f32) -> f32 + Send + Sync + 'static,
    g: impl Fn(i32, i32) -> i32 + Send + Sync + 'static,
) -> Result<Prepared, KernelError> {
    if x.dtype == DType::Int32 {
        return step([x, y], outputs, g);
    }
    Ok(Prepared::binary([x.slot, y.slot], move |x, y, out| math::each_pair(x, y, out, &f)))
}

/// Prepares a function of two tensors, broadcast, that cannot be fused. `u8` stands for bool.
fn step<T: Element + Default, R: Element>(
    [x, y]: [Operand<'_>; 2],
    outputs: &[TensorType],
    f: impl Fn(T, T) -> R + Send + Sync + 'static,
) -> Result<Prepared, KernelError> {
    /// Elements that are broadcast at a time.
    const BLOCK: usize = 1024;
    let shape = concrete(&outputs[0])?;
    let operand = |t: Operand<'_>| concrete(&t).map(|from| (t.slot, Walk::broadcast(&from, &shape)));
    let (x, y) = (operand(x)?, operand(y)?);
    Ok(Prepared::step(move |run| {
        let mut buffers = [[T::default(); BLOCK]; 2];
        let [xs, ys] = &mut buffers;
        let (xv, yv) = (run.inputs[x.0].slice::<T>(), run.inputs[y.0].slice::<T>());
        for (i, out) in run.outputs[0].slice::<R>().chunks_mut(BLOCK).enumerate() {
            let xs = block(xv, &x.1, i * BLOCK, &mut xs[..out.len()]);
            let ys = block(yv, &y.1, i * BLOCK, &mut ys[..out.len()]);
            for ((o, &x), &y) in out.iter_mut().zip(xs).zip(ys) {
                *o = f(x, y);
            }
        }
        Ok(())
    }))
}

/// Returns the elements of a walk from `start` on: borrowed if they are contiguous, else copied to `buffer`.
fn block<'a, T: Element>(from: &'a [T], walk: &Walk, start: usize, buffer: &'a mut [T]) -> &'a [T] {
    if walk.is_dense() {
        return &from[start..start + buffer.len()];
    }
    walk.gather(from, start, buffer);
    buffer
}

#[cfg(test)]
mod tests {
    use milwright_mil::{OpKind, Opset, Tensor};

    use crate::eager::run_op;

    fn run(kind: OpKind, x: &Tensor, y: &Tensor) -> Tensor {
        let inputs: [(&str, &[Tensor]); 2] = [("x", std::slice::from_ref(x)), ("y", std::slice::from_ref(y))];
        run_op(kind, Opset::Ios15, &inputs, |_| false).unwrap().remove(0)
    }

    fn floats(kind: OpKind, x: &[f32], y: &[f32]) -> Vec<f32> {
        let t = |v: &[f32]| Tensor::from_vec(&[v.len()], v.to_vec()).unwrap();
        run(kind, &t(x), &t(y)).to_vec().unwrap()
    }

    fn ints(kind: OpKind, x: &[i32], y: &[i32]) -> Vec<i64> {
        let t = |v: &[i32]| Tensor::from_vec(&[v.len()], v.to_vec()).unwrap();
        run(kind, &t(x), &t(y)).to_i64().unwrap()
    }

    #[test]
    fn signs_as_in_python() {
        // numpy.float32 // and %.
        let (x, y) =
            ([7.0, -7.0, 7.0, -7.0, 1.0, -1.0, 5.5], [3.0, 3.0, -3.0, -3.0, 0.1, f32::INFINITY, 0.5]);
        assert_eq!(floats(OpKind::FloorDiv, &x, &y), [2.0, -3.0, -3.0, 2.0, 9.0, -1.0, 11.0]);
        assert_eq!(floats(OpKind::Mod, &x, &y), [1.0, 2.0, -2.0, -1.0, 0.099_999_99, f32::INFINITY, 0.0]);
        let (x, y) = ([7, -7, 7, -7, 5, i32::MIN], [3, 3, -3, -3, 0, -1]);
        assert_eq!(ints(OpKind::FloorDiv, &x, &y), [2, -3, -3, 2, 0, i64::from(i32::MIN)]);
        assert_eq!(ints(OpKind::Mod, &x, &y), [1, 2, -2, -1, 0, 0]);
        assert_eq!(ints(OpKind::RealDiv, &x, &y), [2, -2, -2, 2, 0, i64::from(i32::MIN)]);
    }

    #[test]
    fn special_floats() {
        let nan = f32::NAN;
        assert!(floats(OpKind::Maximum, &[nan, 1.0], &[1.0, nan]).iter().all(|x| x.is_nan()));
        assert!(floats(OpKind::Minimum, &[nan, 1.0], &[1.0, nan]).iter().all(|x| x.is_nan()));
        assert_eq!(floats(OpKind::RealDiv, &[1.0, -1.0], &[0.0, 0.0]), [f32::INFINITY, f32::NEG_INFINITY]);
        assert!(floats(OpKind::Mod, &[1.0], &[0.0])[0].is_nan());
        assert_eq!(
            floats(OpKind::Pow, &[2.0, 9.0, 0.0, -8.0], &[10.0, 0.5, 0.0, 3.0]),
            [1024.0, 3.0, 1.0, -512.0]
        );
        let t = |x: f32| Tensor::scalar(x);
        let truth = |kind, x, y| run(kind, &t(x), &t(y)).to_i64().unwrap()[0];
        assert_eq!(truth(OpKind::Equal, nan, nan), 0);
        assert_eq!(truth(OpKind::NotEqual, nan, nan), 1);
        assert_eq!(truth(OpKind::Equal, 0.0, -0.0), 1);
        assert_eq!(truth(OpKind::LessEqual, nan, 1.0), 0);
    }

    #[test]
    fn integers_wrap() {
        assert_eq!(ints(OpKind::Add, &[i32::MAX], &[1]), [i64::from(i32::MIN)]);
        assert_eq!(ints(OpKind::Mul, &[1 << 20], &[1 << 20]), [0]);
        assert_eq!(ints(OpKind::Pow, &[3, 2, -1, -1, 1, 2], &[4, -1, -2, -3, -9, 40]), [81, 0, 1, -1, 1, 0]);
    }

    #[test]
    fn broadcasting() {
        let column = Tensor::from_vec(&[3, 1], vec![10i32, 20, 30]).unwrap();
        let row = Tensor::from_vec(&[2], vec![1i32, 2]).unwrap();
        let out = run(OpKind::Sub, &column, &row);
        assert_eq!(out.shape(), [3, 2]);
        assert_eq!(out.to_i64().unwrap(), [9, 8, 19, 18, 29, 28]);
        let out = run(OpKind::Greater, &row, &column);
        assert_eq!(out.to_i64().unwrap(), [0; 6]);
        let column = Tensor::from_vec(&[3, 1], vec![10f32, 20.0, 30.0]).unwrap();
        let row = Tensor::from_vec(&[1, 2], vec![1f32, 2.0]).unwrap();
        assert_eq!(run(OpKind::Add, &column, &row).to_f64(), [11.0, 12.0, 21.0, 22.0, 31.0, 32.0]);
        let empty = Tensor::from_vec(&[0, 1], Vec::<f32>::new()).unwrap();
        assert_eq!(run(OpKind::Add, &empty, &row).shape(), [0, 2]);
        assert_eq!(run(OpKind::Add, &Tensor::scalar(1f32), &Tensor::scalar(2f32)), Tensor::scalar(3f32));
        let many: Vec<i32> = (0..5000).collect();
        let x = Tensor::from_vec(&[5000], many.clone()).unwrap();
        assert_eq!(run(OpKind::Add, &x, &Tensor::scalar(0i32)), x);
    }

    #[test]
    fn logic() {
        let x = Tensor::from_bools(&[4], &[false, false, true, true]).unwrap();
        let y = Tensor::from_bools(&[4], &[false, true, false, true]).unwrap();
        assert_eq!(run(OpKind::LogicalAnd, &x, &y).to_i64().unwrap(), [0, 0, 0, 1]);
        assert_eq!(run(OpKind::LogicalOr, &x, &y).to_i64().unwrap(), [0, 1, 1, 1]);
        assert_eq!(run(OpKind::LogicalXor, &x, &y).to_i64().unwrap(), [0, 1, 1, 0]);
    }
}
