//! `upsample_bilinear`

use milwright_mil::TensorType;
use milwright_mil::ops::defs::UpsampleBilinear;
use milwright_mil::ops::image_resizing::sampling::Sampling;

use super::lines::Resize;
use crate::{Kernel, KernelError, Params, Prepared};

impl Kernel for UpsampleBilinear {
    fn prepare(p: &Params<'_, Self>, _: &[TensorType]) -> Result<Prepared, KernelError> {
        let x = p.x.slot;
        let align = p.align_corners;
        let half = p.half_pixel_centers.unwrap_or(!align);
        let resize = Resize::Linear(match (align, half) {
            (true, _) => Sampling::StrictAlignCorners,
            (false, true) => Sampling::UnalignCorners,
            (false, false) => Sampling::Default,
        });
        Ok(Prepared::step(move |run| resize.run(2, run.inputs[x], &mut run.outputs[0], run.pool)))
    }
}

#[cfg(test)]
mod tests {
    use milwright_mil::{OpKind, Opset, Tensor};

    use crate::eager::run_op;

    /// Expected values are those of Core ML's own tests of the op.
    #[test]
    fn places_samples_by_corners_or_centres() {
        let x = [Tensor::from_vec(&[1, 1, 1, 2], vec![1f32, 2.]).unwrap()];
        let run = |align, half| {
            let (h, w) = ([Tensor::scalar(2i32)], [Tensor::scalar(3i32)]);
            let flag = |b| [Tensor::from_bools(&[], &[b]).unwrap()];
            let (align, half) = (flag(align), flag(half));
            let inputs: [(&str, &[Tensor]); 5] = [
                ("x", &x),
                ("scale_factor_height", &h),
                ("scale_factor_width", &w),
                ("align_corners", &align),
                ("half_pixel_centers", &half),
            ];
            let out = run_op(OpKind::UpsampleBilinear, Opset::Ios16, &inputs, |n| n != "x").unwrap();
            assert_eq!(out[0].shape(), [1, 1, 2, 6]);
            out[0].to_vec::<f32>().unwrap()[6..].to_vec()
        };
        let close =
            |a: Vec<f32>, b: [f32; 6]| assert!(a.iter().zip(b).all(|(a, b)| (a - b).abs() < 1e-4), "{a:?}");
        close(run(true, false), [1.0, 1.2, 1.4, 1.6, 1.8, 2.0]);
        close(run(false, true), [1.0, 1.0, 1.33333, 1.66667, 2.0, 2.0]);
        close(run(false, false), [1.0, 1.33333, 1.66667, 2.0, 2.0, 2.0]);
    }
}
