//! Converts images: PNG and JPEG files to tensors, and tensors to PNG files.
//!
//! Photos are read as Pillow reads them for viewing: rotated as their EXIF data says (`ImageOps.exif_transpose`), and
//! converted to grey with the weights of `convert("L")` (ITU-R 601). Transparency is dropped, not blended; colour
//! profiles are not applied; of an animation, only the first frame is read.

use std::fs::File;
use std::io::{BufRead, BufReader, Read as _, Seek as _, Write as _};
use std::path::Path;

use image::codecs::png::PngEncoder;
use image::imageops::FilterType;
use image::metadata::Orientation;
use image::{
    DynamicImage, ExtendedColorType, GrayImage, ImageDecoder, ImageEncoder as _, ImageFormat, ImageReader,
    Limits, Luma,
};

use crate::paths::{open_input, stage};
use crate::words::words;
use crate::{ColorSpace, Error, FeatureType, Flexibility, Result, Tensor};

/// How to make an image of another size fit a model.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Fit {
    /// Scale the image, keeping its proportions, to cover the model's size, and crop what exceeds it on both sides.
    /// This is the default of Apple's Vision.
    #[default]
    Crop,
    /// Scale the image, keeping its proportions, to fit inside the model's size, and centre it on black.
    Pad,
    /// Scale the image to the model's size, even if that distorts it.
    Stretch,
    /// Return an error.
    Exact,
}

words!(Fit, "way to fit images", "crop" => Crop, "pad" => Pad, "stretch" => Stretch, "exact" => Exact);

/// The largest number of pixels: somewhat more than large cameras have.
const MAX_PIXELS: u64 = 1 << 27;
/// The memory for a file's profiles and texts, of which real images have a few megabytes at most.
const MAX_HEADER_MEMORY: u64 = 16 << 20;
/// Memory per pixel: four channels of 16 bits, once as stored and once converted.
const MAX_PIXEL_BYTES: u64 = 16;

/// Reads a PNG or JPEG file as the tensor for an image input: fp32, 1 × channels × height × width, 0 to 255. Channels
/// get the order that the model declares. Colours are converted to grey if the model takes grey, and 16 bits to 8.
///
/// # Errors
/// The file cannot be read, or the image has another size than the model takes.
pub fn read(path: impl AsRef<Path>, ty: &FeatureType) -> Result<Tensor> {
    read_fitted(path, ty, Fit::Exact)
}

/// Reads a PNG or JPEG file as [`read`] does, and makes it fit a model of another size. Resampling uses a triangle
/// filter that widens when it shrinks an image, like PIL's `BILINEAR`; values may differ from PIL's by 1.
///
/// # Errors
/// The file cannot be read, or the image has another size and `fit` is `Fit::Exact`.
pub fn read_fitted(path: impl AsRef<Path>, ty: &FeatureType, fit: Fit) -> Result<Tensor> {
    let path = path.as_ref();
    let FeatureType::Image { width, height, color, flexibility } = ty else {
        return Err(Error::invalid("the input is not an image").with_hint("give a .npy file").at(path));
    };
    let source = Source::open(path)?;
    let (w, h) = source.dimensions()?;
    let pixels = u64::from(w) * u64::from(h);
    if pixels > MAX_PIXELS {
        return Err(Error::invalid(format!(
            "the image has {w} x {h} pixels; more than {MAX_PIXELS} are not read"
        ))
        .with_hint("make the image smaller: how that is done is part of the result")
        .at(path));
    }
    let fits = match flexibility {
        Flexibility::Fixed => (u64::from(w), u64::from(h)) == (*width, *height),
        // The plan checks an exact fit later, and its error says what does not fit.
        _ if fit == Fit::Exact => true,
        flexibility => takes(flexibility, [u64::from(h), u64::from(w)], [*height, *width]),
    };
    if !fits && fit == Fit::Exact {
        return Err(Error::invalid(format!(
            "the image has {w} x {h} pixels, the model takes {width} x {height}"
        ))
        .with_hint("resize the image: how it is resized is part of the result")
        .at(path));
    }
    let mut decoder = source.decoder(MAX_HEADER_MEMORY + pixels * MAX_PIXEL_BYTES)?;
    let orientation = orientation(&mut decoder);
    let decoded = DynamicImage::from_decoder(decoder).map_err(|e| unreadable(path, &e))?;
    // 16-bit samples and transparency are dropped in the end, and would only affect the resampling.
    let mut image = match color.channels() == 1 {
        true => DynamicImage::ImageLuma8(grey(decoded)),
        false => DynamicImage::ImageRgb8(decoded.into_rgb8()),
    };
    image.apply_orientation(orientation);
    if !fits {
        let size = |n: u64| u32::try_from(n).ok().filter(|n| (1..=MAX_SIDE).contains(n));
        let (Some(width), Some(height)) = (size(*width), size(*height)) else {
            let message = format!("the model takes images of {width} x {height} pixels, which is no size");
            return Err(Error::invalid(message).at(path));
        };
        image = fitted(&image, width, height, fit);
    }
    let planes = planes(&image, *color);
    let channels = planes.len();
    let shape = [1, channels, image.height() as usize, image.width() as usize];
    let values = planes.into_iter().flatten().map(f32::from).collect();
    Tensor::from_vec(&shape, values).map_err(|e| Error::invalid(e.to_string()).at(path))
}

/// The width and height of a PNG or JPEG file in pixels, after the rotation in its EXIF data. Pixels are not decoded.
///
/// # Errors
/// The file cannot be read.
pub fn dimensions(path: impl AsRef<Path>) -> Result<(u32, u32)> {
    Source::open(path.as_ref())?.dimensions()
}

/// The rotation in the EXIF data. Damaged EXIF data is ignored, because the photo is still readable.
fn orientation(decoder: &mut impl ImageDecoder) -> Orientation {
    decoder.orientation().unwrap_or(Orientation::NoTransforms)
}

/// Converts an image to grey with Pillow's weights.
fn grey(image: DynamicImage) -> GrayImage {
    if !image.color().has_color() {
        return image.into_luma8();
    }
    let image = image.into_rgb8();
    let luma = |[r, g, b]: [u8; 3]| {
        let weighted = 19595 * u32::from(r) + 38470 * u32::from(g) + 7471 * u32::from(b);
        ((weighted + 0x8000) >> 16) as u8
    };
    GrayImage::from_fn(image.width(), image.height(), |x, y| Luma([luma(image.get_pixel(x, y).0)]))
}

/// The largest side length of a resized image.
const MAX_SIDE: u32 = 1 << 14;

/// Whether an input accepts images of this height and width besides the default size.
fn takes(flexibility: &Flexibility, size: [u64; 2], default: [u64; 2]) -> bool {
    size == default
        || match flexibility {
            Flexibility::Fixed => false,
            Flexibility::Enumerated { shapes } => shapes.iter().any(|s| s[..] == size),
            Flexibility::Range { dimensions } => {
                dimensions.iter().zip(size).all(|(range, n)| range.contains(n))
            }
        }
}

fn fitted(image: &DynamicImage, width: u32, height: u32, fit: Fit) -> DynamicImage {
    let (w, h) = (f64::from(image.width()), f64::from(image.height()));
    let (across, down) = (f64::from(width) / w, f64::from(height) / h);
    let scaled = |scale: f64| {
        let side = |n: f64, limit: u32| ((n * scale).round() as u32).clamp(1, limit);
        (side(w, MAX_SIDE), side(h, MAX_SIDE))
    };
    match fit {
        Fit::Stretch | Fit::Exact => image.resize_exact(width, height, FilterType::Triangle),
        Fit::Crop => {
            // The image is cropped before it is scaled, so that pixels outside the crop do not affect the result.
            let scale = across.max(down);
            let part = |n: u32, wanted: u32| ((f64::from(wanted) / scale).round() as u32).clamp(1, n);
            let (part_w, part_h) = (part(image.width(), width), part(image.height(), height));
            let (x, y) = ((image.width() - part_w) / 2, (image.height() - part_h) / 2);
            image.crop_imm(x, y, part_w, part_h).resize_exact(width, height, FilterType::Triangle)
        }
        Fit::Pad => {
            let (w, h) = scaled(across.min(down));
            let (w, h) = (w.min(width), h.min(height));
            let small = image.resize_exact(w, h, FilterType::Triangle);
            let mut canvas = match small {
                DynamicImage::ImageLuma8(_) => DynamicImage::new_luma8(width, height),
                _ => DynamicImage::new_rgb8(width, height),
            };
            let (x, y) = ((width - w) / 2, (height - h) / 2);
            image::imageops::overlay(&mut canvas, &small, i64::from(x), i64::from(y));
            canvas
        }
    }
}

/// A PNG file, or a complete JPEG file.
struct Source<'a> {
    path: &'a Path,
    file: File,
    format: ImageFormat,
}

impl Source<'_> {
    fn open(path: &Path) -> Result<Source<'_>> {
        let io = |e| Error::io("read", path, e);
        let mut file = open_input(path)?;
        let len = file.metadata().map_err(io)?.len();
        if len > MAX_FILE_BYTES {
            return Err(Error::invalid(format!("{len} bytes are too many for an image")).at(path));
        }
        let mut start = Vec::new();
        (&mut file).take(64).read_to_end(&mut start).map_err(io)?;
        file.rewind().map_err(io)?;
        let format = match image::guess_format(&start).ok() {
            Some(format @ ImageFormat::Png) => format,
            Some(format @ ImageFormat::Jpeg) => {
                if !is_whole_jpeg(&mut BufReader::new(&file)) {
                    return Err(damaged("it ends in the middle").at(path));
                }
                format
            }
            other => return Err(other_format(&start, other).at(path)),
        };
        Ok(Source { path, file, format })
    }

    /// A decoder from the start, which uses at most `memory` bytes at a time. A JPEG file is read into memory as a whole
    /// in addition.
    fn decoder(&self, memory: u64) -> Result<impl ImageDecoder> {
        (&self.file).rewind().map_err(|e| Error::io("read", self.path, e))?;
        let mut reader = ImageReader::new(BufReader::new(&self.file));
        reader.set_format(self.format);
        let mut limits = Limits::default();
        limits.max_alloc = Some(memory);
        reader.limits(limits);
        reader.into_decoder().map_err(|e| unreadable(self.path, &e))
    }

    /// The width and height after the rotation in the EXIF data.
    fn dimensions(&self) -> Result<(u32, u32)> {
        // Limits the memory for the data before the pixels, whatever size that data claims.
        let mut decoder = self.decoder(MAX_HEADER_MEMORY)?;
        let (w, h) = decoder.dimensions();
        Ok(match orientation(&mut decoder) {
            Orientation::Rotate90
            | Orientation::Rotate270
            | Orientation::Rotate90FlipH
            | Orientation::Rotate270FlipH => (h, w),
            _ => (w, h),
        })
    }
}

/// Longer files are refused. The largest photos have a tenth of this.
const MAX_FILE_BYTES: u64 = 1 << 30;

/// Whether a JPEG file is complete. Decoders fill missing parts with grey.
fn is_whole_jpeg(file: &mut impl BufRead) -> bool {
    fn next(file: &mut impl BufRead) -> Option<u8> {
        let mut byte = [0];
        file.read_exact(&mut byte).ok().map(|()| byte[0])
    }
    /// The next marker.
    fn marker(file: &mut impl BufRead) -> Option<u8> {
        loop {
            file.skip_until(0xFF).ok()?;
            let mut byte = next(file)?;
            while byte == 0xFF {
                byte = next(file)?;
            }
            // In pixel data, each 0xFF is followed by a zero or by the number of a restart marker.
            if !matches!(byte, 0 | 0xD0..=0xD7) {
                return Some(byte);
            }
        }
    }
    let mut walk = || -> Option<()> {
        while let Some(found) = marker(file) {
            match found {
                0xD9 => return Some(()),
                0xD8 | 0x01 => {}
                // The content of a segment may contain markers: a thumbnail, for example, has its own end marker.
                _ => {
                    let len = u16::from_be_bytes([next(file)?, next(file)?]).checked_sub(2)?;
                    let skipped = std::io::copy(&mut file.take(len.into()), &mut std::io::sink()).ok()?;
                    (skipped == u64::from(len)).then_some(())?;
                }
            }
        }
        None
    };
    walk().is_some()
}

fn damaged(what: &str) -> Error {
    Error::invalid(format!("not a PNG or JPEG image, or a damaged one: {what}"))
        .with_hint("open it in another program and save it again")
}

/// The error for a file that is neither PNG nor JPEG, with the format that it has.
fn other_format(start: &[u8], format: Option<ImageFormat>) -> Error {
    let brand = start.get(4..12).unwrap_or_default();
    let name = match format {
        Some(ImageFormat::Gif) => "a GIF image",
        Some(ImageFormat::WebP) => "a WebP image",
        Some(ImageFormat::Tiff) => "a TIFF image",
        Some(ImageFormat::Bmp) => "a BMP image",
        Some(ImageFormat::Avif) => "an AVIF image",
        Some(_) => "an image of another format",
        None if [&b"ftypheic"[..], b"ftypheix", b"ftyphevc", b"ftypmif1", b"ftypmsf1"].contains(&brand) => {
            "a HEIC image"
        }
        None if start.starts_with(b"\x93NUMPY") => {
            let error = Error::invalid("a NumPy array, not an image");
            return error.with_hint("let its name end in .npy");
        }
        None if start.is_empty() => {
            return Error::invalid("an empty file, not an image").with_hint("copy it again");
        }
        None => {
            return Error::invalid("not an image: it starts neither like a PNG nor like a JPEG file")
                .with_hint("images are read as PNG and JPEG, arrays as .npy");
        }
    };
    Error::invalid(format!("{name}, which is not read")).with_hint(
        "save it as PNG or JPEG; in Python: PIL.Image.open(FILE).convert(\"RGB\").save(\"photo.png\")",
    )
}

fn unreadable(path: &Path, e: &image::ImageError) -> Error {
    damaged(&e.to_string()).at(path)
}

fn planes(image: &DynamicImage, color: ColorSpace) -> Vec<Vec<u8>> {
    if color.channels() == 1 {
        return vec![image.to_luma8().into_raw()];
    }
    let rgb = image.to_rgb8();
    let plane = |c: usize| rgb.pixels().map(|p| p.0[c]).collect();
    match color {
        ColorSpace::Bgr => [2, 1, 0].map(plane).into(),
        _ => [0, 1, 2].map(plane).into(),
    }
}

/// Writes an image output (1 × channels × height × width, 0 to 255) as a PNG file, rounding and clamping its values.
/// The write is staged, so an existing file is replaced completely or not at all.
///
/// # Errors
/// The tensor is not an image, or the file cannot be written.
pub fn write_png(path: impl AsRef<Path>, tensor: &Tensor, ty: &FeatureType) -> Result<()> {
    let path = path.as_ref();
    let encoded = encode_png(tensor, ty).map_err(|e| e.at(path))?;
    Ok(stage(path, |out| out.write_all(&encoded))?.commit()?)
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
        let from = if *color == ColorSpace::Bgr { channels - 1 - c } else { c };
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
