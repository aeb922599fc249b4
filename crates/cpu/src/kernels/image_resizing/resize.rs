//! `resize`

use milwright_mil::ops::defs::Resize;
use milwright_mil::ops::image_resizing::sampling::Sampling;
use milwright_mil::{DType, TensorType};

use super::lines;
use crate::kernels::tensor::moves::{ints, produce};
use crate::{Kernel, KernelError, Params, Prepared};

impl Kernel for Resize {
    fn prepare(p: &Params<'_, Self>, outputs: &[TensorType]) -> Result<Prepared, KernelError> {
        let (x, shape) = (p.x.slot, p.shape.slot);
        let resized = p.resized_dims as usize;
        let sampling = Sampling::from_name(p.sampling_mode)?;
        let linear = p.interpolation_mode == "LINEAR";
        if linear && outputs[0].dtype == DType::Int32 {
            return Err(KernelError::unsupported("linear interpolation of integers"));
        }
        let resize = if linear { lines::Resize::Linear(sampling) } else { lines::Resize::Nearest(sampling) };
        produce(
            outputs,
            move |inputs| {
                let (sizes, mut to) = (ints(inputs, shape)?, inputs[x].shape().to_vec());
                let invalid =
                    || KernelError::invalid(format!("`shape` is {sizes:?} for {resized} dimensions"));
                let first = to.len().checked_sub(resized).ok_or_else(invalid)?;
                let skip = sizes.len().checked_sub(resized).ok_or_else(invalid)?;
                for (d, &n) in to[first..].iter_mut().zip(&sizes[skip..]) {
                    let n = usize::try_from(n).map_err(|_| invalid())?;
                    *d = if n == 0 { *d } else { n };
                }
                Ok(to)
            },
            move |inputs, out, pool| resize.run(resized, inputs[x], out, pool),
        )
    }
}

#[cfg(test)]
mod tests {
    use milwright_mil::{OpKind, Opset, Tensor};

    use crate::eager::run_op;

    /// Expected values are those of Core ML's own tests of the op.
    #[test]
    fn resizes_to_constant_and_dynamic_shapes() {
        for known in [true, false] {
            let run = |x: &[f32], shape: &[usize], to: &[i32], mode: &str| {
                let x = [Tensor::from_vec(shape, x.to_vec()).unwrap()];
                let to = [Tensor::from_vec(&[to.len()], to.to_vec()).unwrap()];
                let (dims, mode) = ([Tensor::scalar(2u32)], [Tensor::string(mode)]);
                let inputs: [(&str, &[Tensor]); 4] =
                    [("x", &x), ("shape", &to), ("resized_dims", &dims), ("interpolation_mode", &mode)];
                let constant = |n: &str| n != "x" && (known || n != "shape");
                let out = run_op(OpKind::Resize, Opset::Ios17, &inputs, constant).unwrap();
                (out[0].shape().to_vec(), out[0].to_vec::<f32>().unwrap())
            };
            let nearest = run(&[-6., 9.], &[1, 1, 2, 1], &[1, 1, 3, 2], "NEAREST_NEIGHBOR");
            assert_eq!(nearest, (vec![1, 1, 3, 2], vec![-6., -6., 9., 9., 9., 9.]));
            let linear = run(&[0., 1.], &[1, 1, 2], &[0, 5], "LINEAR");
            assert_eq!(linear, (vec![1, 1, 5], vec![0., 0.4, 0.8, 1., 1.]));
        }
    }
}
