//! `batch_to_space`

use milwright_mil::TensorType;
use milwright_mil::ops::defs::BatchToSpace;
use milwright_mil::ops::tensor::space_to_batch::blocks;

use super::moves::by_width;
use crate::{Kernel, KernelError, Params, Prepared, View, ViewMut};

impl Kernel for BatchToSpace {
    fn prepare(p: &Params<'_, Self>, _: &[TensorType]) -> Result<Prepared, KernelError> {
        let (slot, dtype) = (p.x.slot, p.x.dtype);
        let (block, crops) = blocks(&p.block_shape, "crops", &p.crops)?;
        let crops = [crops[0][0], crops[1][0]];
        Ok(Prepared::step(move |run| {
            by_width!(dtype, spread(run.inputs[slot], block, crops, &mut run.outputs[0]));
            Ok(())
        }))
    }
}

/// Copies each element of the output from its place in the batches of `x`.
fn spread<T: bytemuck::Pod>(x: View<'_>, block: [usize; 2], crops: [usize; 2], out: &mut ViewMut<'_>) {
    let &[n, c, height, width] = out.shape() else { return };
    let (h, w) = (x.shape()[2], x.shape()[3]);
    let (x, out) = (x.words::<T>(), out.words::<T>());
    for row in 0..n * c * height {
        let (k, channel, y) = (row / (c * height), row / height % c, row % height + crops[0]);
        for column in 0..width {
            let at = column + crops[1];
            let batch = (y % block[0] * block[1] + at % block[1]) * n + k;
            out[row * width + column] = x[((batch * c + channel) * h + y / block[0]) * w + at / block[1]];
        }
    }
}

#[cfg(test)]
mod tests {
    use milwright_mil::{OpKind, Opset, Tensor};

    use crate::eager::run_op;

    /// The example in TensorFlow's documentation, and its inverse.
    #[test]
    fn moves_batches_there_and_back() {
        let x = Tensor::from_vec(&[1, 1, 4, 4], (1..17).map(|i| i as f32).collect::<Vec<_>>()).unwrap();
        let block = [Tensor::from_vec(&[2], vec![2i32, 2]).unwrap()];
        let edges = [Tensor::from_vec(&[2, 2], vec![0i32, 0, 2, 0]).unwrap()];
        let inputs: [(&str, &[Tensor]); 3] =
            [("x", std::slice::from_ref(&x)), ("block_shape", &block), ("paddings", &edges)];
        let out = run_op(OpKind::SpaceToBatch, Opset::Ios15, &inputs, |n| n != "x").unwrap();
        assert_eq!(out[0].shape(), [4, 1, 2, 3]);
        assert_eq!(
            out[0].to_vec::<f32>().unwrap()[..12],
            [0., 1., 3., 0., 9., 11., 0., 2., 4., 0., 10., 12.]
        );
        let inputs: [(&str, &[Tensor]); 3] = [("x", &out), ("block_shape", &block), ("crops", &edges)];
        let back = run_op(OpKind::BatchToSpace, Opset::Ios15, &inputs, |n| n != "x").unwrap();
        assert_eq!(back[0], x);
    }
}
