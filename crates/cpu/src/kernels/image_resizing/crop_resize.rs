//! `crop_resize`

use milwright_mil::TensorType;
use milwright_mil::ops::defs::CropResize;
use milwright_mil::ops::image_resizing::crop_resize::{BoxMode, box_mode};
use milwright_mil::ops::image_resizing::sampling::Sampling;

use super::lines::{Tap, place};
use crate::convert::{to_f32, write_f32};
use crate::kernel::concrete;
use crate::{Kernel, KernelError, Params, Prepared, View};

impl Kernel for CropResize {
    fn prepare(p: &Params<'_, Self>, _: &[TensorType]) -> Result<Prepared, KernelError> {
        let old = p.boxes.is_none();
        let boxes = p.boxes.or(p.roi).ok_or_else(|| KernelError::invalid("input `boxes` is missing"))?;
        let columns = if old { concrete(&boxes)?[2] } else { 4 };
        let (x, boxes) = (p.x.slot, boxes.slot);
        let indices = p.box_indices.map(|t| t.slot);
        let boxes_as = Boxes {
            mode: box_mode(p.box_coordinate_mode)?,
            normalized: p.normalized_coordinates,
            scale: f64::from(p.spatial_scale),
            sampling: Sampling::from_name(p.sampling_mode)?,
        };
        let pad = p.pad_value;
        let size = [p.target_height as usize, p.target_width as usize];
        Ok(Prepared::step(move |run| {
            let &[b, c, h, w] = run.inputs[x].shape() else {
                return Err(KernelError::invalid("`x` must have rank 4"));
            };
            let (images, coordinates) = (to_f32(&run.inputs[x]), to_f32(&run.inputs[boxes]));
            let named = named(&coordinates, columns, indices.map(|i| run.inputs[i]))?;
            // Appends crops in the order of the output: each box crops its own image, or every image if it names none.
            let mut out = Vec::with_capacity(run.outputs[0].elements());
            for (n, row) in coordinates.chunks_exact(columns).enumerate() {
                let taps = boxes_as.taps(&row[columns - 4..], [h, w], size);
                let of: Vec<usize> = match &named {
                    Some(images) => vec![images[n]],
                    None if old => (0..b).collect(),
                    None => vec![n],
                };
                for image in of {
                    if image >= b {
                        return Err(KernelError::invalid(format!("box {n} is for image {image} of {b}")));
                    }
                    for plane in images[image * c * h * w..][..c * h * w].chunks_exact((h * w).max(1)) {
                        crop(plane, w, &taps, pad, &mut out);
                    }
                }
            }
            if out.len() != run.outputs[0].elements() {
                return Err(KernelError::invalid("the crops have another shape than the program declares"));
            }
            write_f32(&mut run.outputs[0], 0, &out);
            Ok(())
        }))
    }
}

/// Returns the image of each box, if the boxes name their images.
fn named(
    boxes: &[f32],
    columns: usize,
    indices: Option<View<'_>>,
) -> Result<Option<Vec<usize>>, KernelError> {
    let invalid = || KernelError::invalid("a box is for a negative image");
    if let Some(indices) = indices {
        let indices = indices.to_i64().ok_or_else(invalid)?;
        return indices
            .into_iter()
            .map(|i| usize::try_from(i).map_err(|_| invalid()))
            .collect::<Result<_, _>>()
            .map(Some);
    }
    if columns == 5 {
        let index = |row: &[f32]| if row[0] >= 0.0 { Ok(row[0] as usize) } else { Err(invalid()) };
        return boxes.chunks_exact(5).map(index).collect::<Result<_, _>>().map(Some);
    }
    Ok(None)
}

/// The meaning of a box's numbers.
struct Boxes {
    mode: BoxMode,
    normalized: bool,
    scale: f64,
    sampling: Sampling,
}

impl Boxes {
    /// Returns the samples of a box's rows and columns; `None` for those outside the image.
    fn taps(&self, numbers: &[f32], image: [usize; 2], size: [usize; 2]) -> [Vec<Option<Tap>>; 2] {
        [0, 1].map(|d| {
            let column = if self.mode.width_first { 1 - d } else { d };
            let last = image[d] as f64 - 1.0;
            let number = |i: usize| {
                let x = f64::from(numbers[i]) * self.scale;
                if self.normalized { x * last } else { x }
            };
            let (a, b) = (number(column), number(column + 2));
            let (first, end) = if self.mode.center { (a - b / 2.0, a + b / 2.0) } else { (a, b) };
            let tap = |i| {
                let position = place(self.sampling, i, size[d], first, end);
                // Positions have rounding errors, so allow a small distance at the edges.
                (-1e-4..=last + 1e-4).contains(&position).then(|| Tap::at(position, image[d]))
            };
            (0..size[d]).map(tap).collect()
        })
    }
}

/// Appends one crop of an image of width `w`.
fn crop(plane: &[f32], w: usize, [rows, columns]: &[Vec<Option<Tap>>; 2], pad: f32, out: &mut Vec<f32>) {
    for row in rows {
        out.extend(columns.iter().map(|column| match (row, column) {
            (Some(r), Some(c)) => {
                let line = |y: usize| c.mix(plane[y * w + c.low], plane[y * w + c.high]);
                r.mix(line(r.low), line(r.high))
            }
            _ => pad,
        }));
    }
}

#[cfg(test)]
mod tests {
    use milwright_mil::{OpKind, Opset, Tensor};

    use crate::eager::run_op;

    fn run(opset: Opset, boxes: &[f32], shape: &[usize], size: i32, normalized: bool) -> Vec<f32> {
        let x = [Tensor::from_vec(&[1, 1, 4, 4], (1..17).map(|i| i as f32).collect::<Vec<_>>()).unwrap()];
        let boxes = [Tensor::from_vec(shape, boxes.to_vec()).unwrap()];
        let size = [Tensor::scalar(size)];
        let normalized = [Tensor::from_bools(&[], &[normalized]).unwrap()];
        let sampling = [Tensor::string("ALIGN_CORNERS")];
        let indices = [Tensor::from_vec(&[shape[0]], vec![0i32; shape[0]]).unwrap()];
        let pad = [Tensor::scalar(10f32)];
        let mut inputs: Vec<(&str, &[Tensor])> = vec![
            ("x", &x),
            (if opset < Opset::Ios17 { "roi" } else { "boxes" }, &boxes),
            ("target_height", &size),
            ("target_width", &size),
            ("normalized_coordinates", &normalized),
            ("sampling_mode", &sampling),
        ];
        if opset >= Opset::Ios16 {
            inputs.push(("pad_value", &pad));
        }
        if opset >= Opset::Ios17 {
            inputs.push(("box_indices", &indices));
        }
        let known = |n: &str| !matches!(n, "x" | "roi" | "boxes" | "box_indices");
        run_op(OpKind::CropResize, opset, &inputs, known).unwrap()[0].to_vec().unwrap()
    }

    /// Expected values are those of Core ML's own tests of the op.
    #[test]
    fn crops_boxes() {
        let close = |a: Vec<f32>, b: &[f32]| {
            assert!(a.len() == b.len() && a.iter().zip(b).all(|(a, b)| (a - b).abs() < 1e-3), "{a:?}");
        };
        let roi = [1, 1, 4, 1, 1];
        close(run(Opset::Ios15, &[1., 1., 2., 2.], &roi, 2, false), &[6., 7., 10., 11.]);
        close(run(Opset::Ios15, &[1., 1., 2., 2.], &roi, 1, false), &[8.5]);
        close(run(Opset::Ios15, &[2., 2., 1., 1.], &roi, 2, false), &[11., 10., 7., 6.]);
        let third = 1. / 3.;
        close(run(Opset::Ios15, &[0., 0., 0., third, third], &[1, 1, 5, 1, 1], 2, true), &[1., 2., 5., 6.]);
        let boxes = [0.1, 0.3, 1.3, 1.0, 0.5, 1.8, 1.0, 0.3, 0.0, 0.4, 0.6, 0.7];
        let expected = [3.1, 5.2, 10., 10., 10., 7.9, 10., 13.9, 2.2, 3.1, 9.4, 10.3];
        close(run(Opset::Ios17, &boxes, &[3, 4], 2, true), &expected);
    }
}
