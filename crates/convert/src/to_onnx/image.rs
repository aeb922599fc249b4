//! Resizing and sampling of images.

use milwright_mil::DType;
use milwright_mil::ops::Operand;

use super::graph::{FIX, Node, Result, int, ints, text};
use super::{implement, refuse};
use crate::Error;

type Made = Result<Vec<String>>;

/// How positions in the result and in the input belong together.
fn coordinates(mode: &str, sizes: &[(Option<usize>, i64)]) -> Result<&'static str> {
    let single = sizes.iter().any(|&(from, to)| to == 1 && from != Some(1));
    Ok(match mode {
        "STRICT_ALIGN_CORNERS" => "align_corners",
        "ALIGN_CORNERS" if !single => "align_corners",
        "DEFAULT" => "asymmetric",
        "UNALIGN_CORNERS" => "half_pixel",
        other => return Err(Error::unsupported(format!("resizing with the sampling mode `{other}`"))),
    })
}

/// Resizes the last dimensions to these sizes.
fn resize(
    n: &mut Node<'_, '_>,
    x: &Operand<'_>,
    sizes: &[i64],
    coordinates: &str,
    mode: &str,
    nearest: &str,
) -> Made {
    let name = n.of(x)?;
    let first = x.rank() - sizes.len();
    let sizes = n.int64s(sizes);
    let more = vec![
        text("coordinate_transformation_mode", coordinates),
        text("mode", mode),
        text("nearest_mode", nearest),
        ints("axes", first as i64..x.rank() as i64),
    ];
    Ok(vec![n.add_with("Resize", &[&name, "", "", &sizes], more)])
}

/// The last two sizes after scaling, rounded down.
fn scaled(x: &Operand<'_>, height: f32, width: f32) -> Result<[i64; 2]> {
    let rank = x.rank();
    let size = |axis: usize, factor: f32| match x.shape[axis].fixed() {
        Some(size) => Ok((f64::from(factor) * size as f64).floor() as i64),
        None => Err(Error::unsupported("scaling an image of open size").with_hint(FIX)),
    };
    Ok([size(rank - 2, height)?, size(rank - 1, width)?])
}

/// The last two sizes, before and after.
fn pairs(x: &Operand<'_>, sizes: &[i64]) -> Vec<(Option<usize>, i64)> {
    let first = x.rank() - sizes.len();
    sizes.iter().enumerate().map(|(i, &s)| (x.shape[first + i].fixed(), s)).collect()
}

/// Where every sample is taken.
fn sample(
    n: &mut Node<'_, '_>,
    x: &Operand<'_>,
    grid: &str,
    sampling: &str,
    padding: (&str, f32),
    align: bool,
) -> Made {
    let padding = match padding {
        ("constant", 0.0) => "zeros",
        ("border", _) => "border",
        ("reflection", _) if align => "reflection",
        ("symmetric", _) if !align => "reflection",
        (mode, value) => {
            return Err(Error::unsupported(format!("samples outside of the image: `{mode}`, {value}")));
        }
    };
    let mode = if sampling == "nearest" { "nearest" } else { "linear" };
    let name = n.of(x)?;
    let more = vec![text("mode", mode), text("padding_mode", padding), int("align_corners", align.into())];
    Ok(vec![n.add_with("GridSample", &[&name, grid], more)])
}

implement! {
    Affine: |n, p| {
        let matrix = n.of(&p.transform_matrix)?;
        let matrix = n.reshape(&matrix, &[-1, 2, 3]);
        let batch = p.x.shape[0].fixed().ok_or_else(|| Error::unsupported("an open batch").with_hint(FIX))?;
        if p.transform_matrix.shape[0].fixed() != Some(batch) {
            return Err(Error::unsupported("one map for a batch of images"));
        }
        let size = n.int64s(&[batch as i64, 1, p.output_height, p.output_width]);
        let grid = n.add_with("AffineGrid", &[&matrix, &size], vec![int("align_corners", p.align_corners.into())]);
        sample(n, &p.x, &grid, p.sampling_mode, (p.padding_mode, p.padding_value), p.align_corners)
    };
    Crop: |n, p| {
        let mut x = n.of(&p.x)?;
        for (axis, cut) in [(-2, &p.crop_height), (-1, &p.crop_width)] {
            let end = if cut[1] == 0 { i64::MAX } else { -cut[1] };
            x = n.slice(&x, axis, cut[0], end);
        }
        Ok(vec![x])
    };
    Resample: |n, p| {
        let mut grid = n.of_as(&p.coordinates, p.x.dtype)?;
        let (dtype, align) = (p.x.dtype, p.align_corners);
        match p.coordinates_mode {
            "normalized_minus_one_to_one" => {}
            "normalized_zero_to_one" => {
                let (two, one) = (n.scalar(dtype, 2.0)?, n.scalar(dtype, 1.0)?);
                grid = n.add("Mul", &[&grid, &two]);
                grid = n.add("Sub", &[&grid, &one]);
            }
            _ => {
                // In elements: -1 to 1 over their centres, or their edges.
                let sizes = [p.x.shape[3].fixed(), p.x.shape[2].fixed()];
                let [Some(width), Some(height)] = sizes else {
                    return Err(Error::unsupported("positions in an image of open size").with_hint(FIX));
                };
                let pair = |a: f32, b: f32| milwright_mil::Tensor::from_vec(&[2], vec![a, b]).ok().and_then(|t| t.converted(dtype));
                let (w, h) = (width as f32, height as f32);
                let (factor, shift) = if align {
                    (pair(2.0 / (w - 1.0).max(1.0), 2.0 / (h - 1.0).max(1.0)), pair(-1.0, -1.0))
                } else {
                    (pair(2.0 / w, 2.0 / h), pair(1.0 / w - 1.0, 1.0 / h - 1.0))
                };
                for (op, tensor) in [("Mul", factor), ("Add", shift)] {
                    let tensor = tensor.ok_or_else(|| Error::unsupported(format!("positions of type {dtype}")))?;
                    let constant = n.constant(&tensor)?;
                    grid = n.add(op, &[&grid, &constant]);
                }
            }
        }
        sample(n, &p.x, &grid, p.sampling_mode, (p.padding_mode, p.padding_value), align)
    };
    Resize: |n, p| {
        let wanted = p.shape.ints().map_err(|_| Error::unsupported("sizes that only a run knows").with_hint(FIX))?;
        let count = p.resized_dims as usize;
        let first = p.x.rank() - count;
        let mut sizes = Vec::new();
        for (i, &size) in wanted[wanted.len() - count..].iter().enumerate() {
            sizes.push(match (size, p.x.shape[first + i].fixed()) {
                (0, Some(kept)) => kept as i64,
                (0, None) => return Err(Error::unsupported("an open size that stays").with_hint(FIX)),
                (size, _) => size,
            });
        }
        let nearest = p.interpolation_mode == "NEAREST_NEIGHBOR";
        let mode = if nearest && p.sampling_mode == "DEFAULT" { "UNALIGN_CORNERS" } else { p.sampling_mode };
        let coordinates = coordinates(mode, &pairs(&p.x, &sizes))?;
        resize(n, &p.x, &sizes, coordinates, if nearest { "nearest" } else { "linear" }, "round_prefer_ceil")
    };
    ResizeBilinear: |n, p| {
        let sizes = [p.target_size_height, p.target_size_width];
        let coordinates = coordinates(p.sampling_mode, &pairs(&p.x, &sizes))?;
        resize(n, &p.x, &sizes, coordinates, "linear", "floor")
    };
    ResizeNearestNeighbor: |n, p| {
        resize(n, &p.x, &[p.target_size_height, p.target_size_width], "asymmetric", "nearest", "floor")
    };
    UpsampleBilinear: |n, p| {
        let sizes = scaled(&p.x, p.scale_factor_height, p.scale_factor_width)?;
        let mode = match (p.align_corners, p.half_pixel_centers.unwrap_or(!p.align_corners)) {
            (true, _) => "align_corners",
            (false, true) => "half_pixel",
            (false, false) => "asymmetric",
        };
        resize(n, &p.x, &sizes, mode, "linear", "floor")
    };
    UpsampleNearestNeighbor: |n, p| {
        let (height, width) = (p.scale_factor_height, p.scale_factor_width);
        if height.fract() == 0.0 && width.fract() == 0.0 && p.x.dtype != DType::Bool {
            let name = n.of(&p.x)?;
            let factors = milwright_mil::Tensor::from_vec(&[2], vec![height, width]);
            let factors = n.constant(&factors.map_err(|e| Error::malformed(e.to_string()))?)?;
            let more = vec![
                text("coordinate_transformation_mode", "asymmetric"),
                text("mode", "nearest"),
                text("nearest_mode", "floor"),
                ints("axes", [p.x.rank() as i64 - 2, p.x.rank() as i64 - 1]),
            ];
            return Ok(vec![n.add_with("Resize", &[&name, "", &factors], more)]);
        }
        let sizes = scaled(&p.x, height, width)?;
        resize(n, &p.x, &sizes, "asymmetric", "nearest", "floor")
    };
}

refuse! {
    CropResize: "`RoiAlign` averages samples, and takes other positions";
}
