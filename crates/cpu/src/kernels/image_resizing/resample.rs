//! `resample`

use milwright_mil::TensorType;
use milwright_mil::ops::defs::Resample;

use super::grid::{Grid, Padding};
use crate::convert::{to_f32, write_f32};
use crate::{Kernel, KernelError, Params, Prepared};

impl Kernel for Resample {
    fn prepare(p: &Params<'_, Self>, _: &[TensorType]) -> Result<Prepared, KernelError> {
        let (x, coordinates) = (p.x.slot, p.coordinates.slot);
        let align = p.align_corners;
        let padding = match p.padding_mode {
            "constant" => Padding::Constant(p.padding_value),
            "border" => Padding::Border,
            "reflection" => Padding::Reflection,
            _ => Padding::Symmetric,
        };
        let grid = Grid { nearest: p.sampling_mode == "nearest", padding };
        // Converts a coordinate along a dimension of n elements to a position in elements.
        let unnormalized = p.coordinates_mode == "unnormalized";
        let signed = p.coordinates_mode == "normalized_minus_one_to_one";
        let position = move |x: f32, n: usize| {
            let unit = if signed { (x + 1.0) / 2.0 } else { x };
            match (unnormalized, align) {
                (true, _) => x,
                (false, true) => unit * (n as f32 - 1.0),
                (false, false) => unit * n as f32 - 0.5,
            }
        };
        Ok(Prepared::step(move |run| {
            let &[_, c, h, w] = run.inputs[x].shape() else {
                return Err(KernelError::invalid("`x` must have rank 4"));
            };
            let (images, at) = (to_f32(&run.inputs[x]), to_f32(&run.inputs[coordinates]));
            let samples: usize = run.outputs[0].shape()[2..].iter().product();
            let mut out = Vec::with_capacity(run.outputs[0].elements());
            for (image, at) in at.chunks_exact((2 * samples).max(1)).enumerate() {
                let places = at.chunks_exact(2).map(|p| [position(p[0], w), position(p[1], h)]);
                let places: Vec<[f32; 2]> = places.collect();
                for plane in images[image * c * h * w..][..c * h * w].chunks_exact((h * w).max(1)) {
                    out.extend(places.iter().map(|&p| grid.sample(plane, [w, h], p)));
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
    fn samples_in_every_mode() {
        let x = [Tensor::from_vec(&[1, 1, 2, 2], vec![11f32, 22., 33., 44.]).unwrap()];
        let at = vec![-1f32, -2., -3.7, -1., 0., 0., 3.5, 1.2];
        let at = [Tensor::from_vec(&[1, 2, 2, 2], at).unwrap()];
        let run = |sampling: &str, padding: &str, coordinates: &str, align| {
            let strings = [sampling, padding, coordinates].map(|s| [Tensor::string(s)]);
            let align = [Tensor::from_bools(&[], &[align]).unwrap()];
            let pad = [Tensor::scalar(6.17f32)];
            let inputs: [(&str, &[Tensor]); 7] = [
                ("x", &x),
                ("coordinates", &at),
                ("sampling_mode", &strings[0]),
                ("padding_mode", &strings[1]),
                ("padding_value", &pad),
                ("coordinates_mode", &strings[2]),
                ("align_corners", &align),
            ];
            let known = |n: &str| n != "x" && n != "coordinates";
            run_op(OpKind::Resample, Opset::Ios15, &inputs, known).unwrap()[0].to_vec::<f32>().unwrap()
        };
        let close =
            |a: Vec<f32>, b: [f32; 4]| assert!(a.iter().zip(b).all(|(a, b)| (a - b).abs() < 1e-3), "{a:?}");
        close(run("bilinear", "constant", "normalized_minus_one_to_one", true), [8.585, 6.17, 27.5, 6.17]);
        close(run("nearest", "border", "unnormalized", false), [11., 11., 11., 44.]);
        close(run("bilinear", "reflection", "normalized_zero_to_one", true), [22., 36.3, 11., 34.1]);
        close(run("nearest", "symmetric", "normalized_zero_to_one", false), [22., 33., 11., 33.]);
    }
}
