//! `softmax`

use milwright_mil::TensorType;
use milwright_mil::ops::defs::Softmax;

use crate::kernel::concrete;
use crate::math;
use crate::rows::{Rows, map_rows};
use crate::{Kernel, KernelError, Params, Prepared};

impl Kernel for Softmax {
    fn prepare(p: &Params<'_, Self>, outputs: &[TensorType]) -> Result<Prepared, KernelError> {
        let shape = concrete(&outputs[0])?;
        let rows = Rows::new(&shape, &[p.axis.resolve(shape.len())?]);
        let slot = p.x.slot;
        Ok(Prepared::step(move |run| {
            map_rows(&rows, &run.inputs[slot], &mut run.outputs[0], run.pool, |_, row| softmax(row));
            Ok(())
        }))
    }
}

fn softmax(row: &mut [f32]) {
    let max = math::max(row);
    // An infinite maximum makes NaN, as in NumPy.
    math::update(row, |x| math::exp1(x - max));
    let scale = 1.0 / math::sum(row);
    math::update(row, |x| x * scale);
}

#[cfg(test)]
mod tests {
    use half::f16;
    use milwright_mil::{OpKind, Opset, Tensor};

    use crate::eager::run_op;

    fn softmax(x: Tensor, axis: i32) -> Tensor {
        let inputs: [(&str, &[Tensor]); 2] = [("x", &[x]), ("axis", &[Tensor::scalar(axis)])];
        run_op(OpKind::Softmax, Opset::Ios15, &inputs, |n| n != "x").unwrap().remove(0)
    }

    #[test]
    fn against_numpy() {
        // scipy.special.softmax
        let x = Tensor::from_vec(&[2, 3], vec![1f32, 2.0, 3.0, 1000.0, 1000.0, -1000.0]).unwrap();
        let expected = [0.090_030_57, 0.244_728_47, 0.665_240_96, 0.5, 0.5, 0.0];
        for (a, e) in softmax(x.clone(), -1).to_f64().iter().zip(expected) {
            assert!((a - e).abs() < 1e-7);
        }
        let expected = [0.0, 0.0, 1.0, 1.0, 1.0, 0.0];
        assert_eq!(softmax(x, 0).to_f64(), expected);
        let x = Tensor::from_vec(&[3], [1.0, 2.0, 3.0].map(f16::from_f32).to_vec()).unwrap();
        assert_eq!(softmax(x, 0).to_f64(), [0.090_026_855_468_75, 0.244_750_976_562_5, 0.665_039_062_5]);
    }

    #[test]
    fn empty() {
        let x = Tensor::from_vec(&[2, 0], Vec::<f32>::new()).unwrap();
        assert_eq!(softmax(x, 1).shape(), [2, 0]);
    }
}
