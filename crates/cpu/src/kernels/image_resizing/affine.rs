//! `affine`

use milwright_mil::TensorType;
use milwright_mil::ops::defs::Affine;

use super::grid::{Grid, Padding};
use crate::convert::{to_f32, write_f32};
use crate::kernel::concrete;
use crate::{Kernel, KernelError, Params, Prepared};

impl Kernel for Affine {
    fn prepare(p: &Params<'_, Self>, outputs: &[TensorType]) -> Result<Prepared, KernelError> {
        let (x, matrix) = (p.x.slot, p.transform_matrix.slot);
        let shape = concrete(&outputs[0])?;
        let (height, width) = (shape[2], shape[3]);
        let grid = Grid { nearest: false, padding: Padding::Constant(0.0) };
        let corners = p.align_corners;
        // From elements to the range -1 to 1, and back. The range spans the elements' centres with `align_corners`,
        // else their edges.
        let unit = move |i: usize, n: usize| match (corners, n) {
            (true, ..=1) => 0.0,
            (true, _) => 2.0 * i as f32 / (n as f32 - 1.0) - 1.0,
            (false, _) => (2.0 * i as f32 + 1.0) / n as f32 - 1.0,
        };
        let element = move |x: f32, n: usize| {
            if corners { (x + 1.0) / 2.0 * (n as f32 - 1.0) } else { ((x + 1.0) * n as f32 - 1.0) / 2.0 }
        };
        Ok(Prepared::step(move |run| {
            let &[_, c, h, w] = run.inputs[x].shape() else {
                return Err(KernelError::invalid("`x` must have rank 4"));
            };
            let (images, maps) = (to_f32(&run.inputs[x]), to_f32(&run.inputs[matrix]));
            let maps: Vec<&[f32]> = maps.chunks_exact(6).collect();
            let mut out = Vec::with_capacity(run.outputs[0].elements());
            for (image, planes) in images.chunks_exact((c * h * w).max(1)).enumerate() {
                let map = maps[if maps.len() == 1 { 0 } else { image }];
                for plane in planes.chunks_exact((h * w).max(1)) {
                    for j in 0..height {
                        for i in 0..width {
                            let (px, py) = (unit(i, width), unit(j, height));
                            let to = |m: &[f32], n: usize| element(m[0] * px + m[1] * py + m[2], n);
                            out.push(grid.sample(plane, [w, h], [to(map, w), to(&map[3..], h)]));
                        }
                    }
                }
            }
            if out.len() != run.outputs[0].elements() {
                return Err(KernelError::invalid("images without elements cannot be sampled"));
            }
            write_f32(&mut run.outputs[0], 0, &out);
            Ok(())
        }))
    }
}

#[cfg(test)]
mod tests {
    use milwright_mil::{OpKind, Opset, Tensor};

    use crate::eager::run_op;

    /// Expected values are those of Core ML's own tests of the op.
    #[test]
    fn maps_positions() {
        let x = [Tensor::from_vec(&[1, 1, 2, 2], vec![11f32, 22., 33., 44.]).unwrap()];
        let matrix = [Tensor::from_vec(&[1, 6], vec![-1f32, -2., -3.7, -1., 3.5, 1.2]).unwrap()];
        let size = [Tensor::scalar(3i32)];
        let strings = ["bilinear", "constant", "normalized_minus_one_to_one"].map(|s| [Tensor::string(s)]);
        let (pad, align) = ([Tensor::scalar(0f32)], [Tensor::from_bools(&[], &[true]).unwrap()]);
        let inputs: [(&str, &[Tensor]); 9] = [
            ("x", &x),
            ("transform_matrix", &matrix),
            ("output_height", &size),
            ("output_width", &size),
            ("sampling_mode", &strings[0]),
            ("padding_mode", &strings[1]),
            ("padding_value", &pad),
            ("coordinates_mode", &strings[2]),
            ("align_corners", &align),
        ];
        let known = |n: &str| n != "x" && n != "transform_matrix";
        let out = run_op(OpKind::Affine, Opset::Ios15, &inputs, known).unwrap()[0].to_vec::<f32>().unwrap();
        let expected = [10.7525, 2.5025, 0.0, 1.98, 0.0, 0.0, 0.0, 0.0, 0.0];
        assert!(out.iter().zip(expected).all(|(a, b)| (a - b).abs() < 1e-3), "{out:?}");
    }
}
