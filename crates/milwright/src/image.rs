//! Images in and out: PNG and JPEG files to the tensors that programs compute with, and back.

use std::path::Path;

use image::codecs::png::PngEncoder;
use image::{DynamicImage, ExtendedColorType, ImageEncoder as _, ImageReader};

use crate::{Error, FeatureType, Files, Result, Tensor};

/// Reads a PNG or JPEG file as the tensor that an image input becomes: fp32, 1 × channels × height × width, 0 to 255.
/// Colours are put into the order that the model declares, and made grey where it wants grey.
///
/// # Errors
/// The file cannot be read, or the image has another size than the model takes.
pub fn read(path: impl AsRef<Path>, ty: &FeatureType) -> Result<Tensor> {
    let path = path.as_ref();
    let FeatureType::Image { width, height, color, flexibility } = ty else {
        return Err(Error::invalid("the input is not an image").with_hint("give a .npy file").at(path));
    };
    let reader = ImageReader::open(path).and_then(ImageReader::with_guessed_format);
    let reader = reader.map_err(|e| Error::io("open", path, e))?;
    let (w, h) = reader.into_dimensions().map_err(|e| unreadable(path, &e))?;
    let allowed = match flexibility {
        crate::Flexibility::Fixed => (u64::from(w), u64::from(h)) == (*width, *height),
        // The plan says what does not fit.
        _ => true,
    };
    if !allowed {
        return Err(Error::invalid(format!(
            "the image has {w} x {h} pixels, the model takes {width} x {height}"
        ))
        .with_hint("resize the image: how it is resized is part of the result")
        .at(path));
    }
    let reader = ImageReader::open(path).and_then(ImageReader::with_guessed_format);
    let image = reader.map_err(|e| Error::io("open", path, e))?.decode().map_err(|e| unreadable(path, &e))?;
    let planes = planes(&image, color);
    let channels = planes.len();
    let shape = [1, channels, h as usize, w as usize];
    let values = planes.into_iter().flatten().map(f32::from).collect();
    Tensor::from_vec(&shape, values).map_err(|e| Error::invalid(e.to_string()).at(path))
}

fn unreadable(path: &Path, e: &image::ImageError) -> Error {
    Error::invalid(format!("not a PNG or JPEG image, or a damaged one: {e}"))
        .with_hint("open it in another program and save it again")
        .at(path)
}

fn planes(image: &DynamicImage, color: &str) -> Vec<Vec<u8>> {
    if color.starts_with("GRAYSCALE") {
        return vec![image.to_luma8().into_raw()];
    }
    let rgb = image.to_rgb8();
    let plane = |c: usize| rgb.pixels().map(|p| p.0[c]).collect();
    match color {
        "BGR" => [2, 1, 0].map(plane).into(),
        _ => [0, 1, 2].map(plane).into(),
    }
}

/// Writes an image output (1 × channels × height × width, 0 to 255) as a PNG file: under a temporary name first, so that
/// an existing file is replaced whole or not at all. Values are rounded and clamped.
///
/// # Errors
/// The tensor is not an image, or the file cannot be written.
pub fn write_png(path: impl AsRef<Path>, tensor: &Tensor, ty: &FeatureType) -> Result<()> {
    let mut files = Files::default();
    files.png(path, tensor, ty)?;
    files.commit()
}

pub(crate) fn encode_png(tensor: &Tensor, ty: &FeatureType) -> Result<Vec<u8>> {
    let FeatureType::Image { color, .. } = ty else {
        return Err(Error::invalid("the output is not an image"));
    };
    let not_an_image = || Error::invalid(format!("a tensor of shape {:?} is not an image", tensor.shape()));
    let &[1, channels @ (1 | 3), h, w] = tensor.shape() else { return Err(not_an_image()) };
    let (Ok(width), Ok(height)) = (u32::try_from(w), u32::try_from(h)) else { return Err(not_an_image()) };
    let values: Vec<u8> = tensor.to_f64().iter().map(|x| x.round().clamp(0.0, 255.0) as u8).collect();
    let mut pixels = vec![0; values.len()];
    for c in 0..channels {
        let from = if color == "BGR" { channels - 1 - c } else { c };
        for (i, &v) in values[from * h * w..][..h * w].iter().enumerate() {
            pixels[i * channels + c] = v;
        }
    }
    let color = if channels == 1 { ExtendedColorType::L8 } else { ExtendedColorType::Rgb8 };
    let mut png = Vec::new();
    PngEncoder::new(&mut png)
        .write_image(&pixels, width, height, color)
        .map_err(|e| Error::invalid(format!("cannot be written as a PNG image: {e}")))?;
    Ok(png)
}
