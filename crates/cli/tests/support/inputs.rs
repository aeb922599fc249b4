//! Inputs for the digits model, most of which it does not take.

use std::io::Cursor;

use image::{DynamicImage, GrayImage, ImageFormat, Luma, Rgb, RgbImage};

/// Names and contents.
pub fn all() -> Vec<(&'static str, Vec<u8>)> {
    let gray = DynamicImage::ImageLuma8(gray(8));
    let png = encode(&gray, ImageFormat::Png);
    vec![
        ("big-endian.npy", npy(">f4", "False", "1, 1, 8, 8", &[0; 256])),
        ("bomb.png", with_size(&png, 1 << 30)),
        ("color.png", encode(&DynamicImage::ImageRgb8(color(8)), ImageFormat::Png)),
        ("complex.npy", npy("<c8", "False", "1, 1, 8, 8", &[0; 512])),
        ("corrupt.png", corrupt(&png)),
        ("fortran.npy", npy("<f4", "True", "1, 1, 8, 8", &[0; 256])),
        ("fractions.npy", npy("<f4", "False", "1, 1, 8, 8", &0.5f32.to_le_bytes().repeat(64))),
        ("gray.jpg", encode(&gray, ImageFormat::Jpeg)),
        ("gray.npy", npy_of(&gray)),
        ("gray.png", png.clone()),
        ("half.npy", npy("<f2", "False", "1, 1, 8, 8", &[0; 128])),
        ("int.npy", npy("<i4", "False", "1, 1, 8, 8", &[0; 256])),
        ("large.png", encode(&DynamicImage::ImageLuma8(self::gray(16)), ImageFormat::Png)),
        ("overflow.npy", npy("<f4", "False", "9223372036854775807, 4", &[0; 256])),
        ("petabytes.npy", npy("<f4", "False", "1125899906842624, 1", &[0; 256])),
        ("rank.npy", npy("<f4", "False", "8, 8", &[0; 256])),
        ("record.npy", npy_header("[('a', '<f4')]", "False", "64,", &[0; 256])),
        ("text.npy", npy("<U4", "False", "64,", &[0; 1024])),
        ("truncated.png", png[..png.len() / 2].to_vec()),
        ("wide.npy", npy("<f4", "False", "1, 1, 8, 9", &[0; 288])),
    ]
}

fn gray(size: u32) -> GrayImage {
    GrayImage::from_fn(size, size, |x, y| Luma([(x * y) as u8 % 17]))
}

fn color(size: u32) -> RgbImage {
    RgbImage::from_fn(size, size, |x, y| Rgb([x as u8, y as u8, (x + y) as u8]))
}

fn encode(image: &DynamicImage, format: ImageFormat) -> Vec<u8> {
    let mut bytes = Cursor::new(Vec::new());
    image.write_to(&mut bytes, format).unwrap();
    bytes.into_inner()
}

/// A PNG file whose header claims another width and height, with a checksum that is right.
fn with_size(png: &[u8], size: u32) -> Vec<u8> {
    let mut png = png.to_vec();
    png[16..20].copy_from_slice(&size.to_be_bytes());
    png[20..24].copy_from_slice(&size.to_be_bytes());
    let crc = crc32(&png[12..29]);
    png[29..33].copy_from_slice(&crc.to_be_bytes());
    png
}

fn crc32(bytes: &[u8]) -> u32 {
    let step = |crc: u32| if crc & 1 == 1 { 0xEDB8_8320 ^ (crc >> 1) } else { crc >> 1 };
    !bytes.iter().fold(!0u32, |crc, &byte| (0..8).fold(crc ^ u32::from(byte), |crc, _| step(crc)))
}

fn corrupt(png: &[u8]) -> Vec<u8> {
    let mut png = png.to_vec();
    // In the middle of the compressed pixels.
    let at = png.len() - 30;
    png[at] ^= 0xFF;
    png
}

fn npy_of(image: &DynamicImage) -> Vec<u8> {
    let pixels: Vec<u8> = image.to_luma8().iter().flat_map(|&p| f32::from(p).to_le_bytes()).collect();
    npy("<f4", "False", "1, 1, 8, 8", &pixels)
}

fn npy(descr: &str, fortran_order: &str, shape: &str, data: &[u8]) -> Vec<u8> {
    npy_header(&format!("'{descr}'"), fortran_order, shape, data)
}

fn npy_header(descr: &str, fortran_order: &str, shape: &str, data: &[u8]) -> Vec<u8> {
    let header = format!("{{'descr': {descr}, 'fortran_order': {fortran_order}, 'shape': ({shape}), }}\n");
    let len = u16::try_from(header.len()).unwrap().to_le_bytes();
    [b"\x93NUMPY\x01\x00", &len[..], header.as_bytes(), data].concat()
}
