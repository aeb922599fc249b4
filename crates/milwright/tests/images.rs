//! Images of every kind, against what Pillow sees in them; and files that are none, or would take more memory than an image
//! does.

use std::fs;
use std::io::Write as _;
use std::path::Path;

use flate2::write::ZlibEncoder;
use flate2::{Compression, Crc};
use milwright::image::{self, Fit};
use milwright::{ColorSpace, ErrorKind, FeatureType, Flexibility, Result, SizeRange, Tensor, npz};

const SIDE: u32 = 8;
const BOMB: usize = 128 << 20;

fn gray() -> FeatureType {
    FeatureType::Image {
        width: SIDE.into(),
        height: SIDE.into(),
        color: ColorSpace::Grayscale,
        flexibility: Flexibility::Fixed,
    }
}

/// An image of any size.
fn any(color: ColorSpace) -> FeatureType {
    let flexibility = Flexibility::Range { dimensions: vec![SizeRange { least: 1, most: None }; 2] };
    FeatureType::Image { width: 20, height: 12, color, flexibility }
}

fn folder() -> std::path::PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/images")
}

/// Rows of pixels of channels, as Pillow has them, out of planes.
fn pixels(tensor: &Tensor) -> (Vec<usize>, Vec<f64>) {
    let &[1, channels, h, w] = tensor.shape() else { panic!("{:?}", tensor.shape()) };
    let values = tensor.to_f64();
    let at = |y: usize, x: usize, c: usize| values[(c * h + y) * w + x];
    let all = (0..h).flat_map(|y| (0..w).map(move |x| (y, x)));
    let all = all.flat_map(|(y, x)| (0..channels).map(move |c| (y, x, c)));
    let shape = if channels == 1 { vec![h, w] } else { vec![h, w, channels] };
    (shape, all.map(|(y, x, c)| at(y, x, c)).collect())
}

/// `tests/images` is made by `scripts/images.py`, and so is `pillow.npz`.
#[test]
fn pillow_sees_the_same() {
    // Decoders of JPEG round in places of their own; of CMYK, each rounds four channels to three.
    let tolerance = |name: &str| match name {
        "cmyk.jpg" => 4.0,
        name if name.ends_with(".jpg") => 3.0,
        _ => 0.0,
    };
    let expected = npz::read(folder().join("pillow.npz")).unwrap();
    assert_eq!(expected.len(), 2 * 22);
    for (key, expected) in expected {
        let (name, kind) = key.rsplit_once('.').unwrap();
        let path = folder().join(name);
        let color = if kind == "rgb" { ColorSpace::Rgb } else { ColorSpace::Grayscale };
        let (shape, found) = pixels(&image::read(&path, &any(color)).unwrap());
        assert_eq!(shape, expected.shape(), "{key}");
        let (h, w) = (shape[0] as u32, shape[1] as u32);
        assert_eq!(image::dimensions(&path).unwrap(), (w, h), "{key}");
        let errors = found.iter().zip(expected.to_f64()).map(|(a, b)| (a - b).abs());
        let worst = errors.fold(0.0, f64::max);
        assert!(worst <= tolerance(name), "{key}: {worst}");
    }
    // Blue comes first where a model declares that.
    let blue_first = image::read(folder().join("rgb.png"), &any(ColorSpace::Bgr)).unwrap().to_f64();
    let red_first = image::read(folder().join("rgb.png"), &any(ColorSpace::Rgb)).unwrap().to_f64();
    assert_eq!(blue_first[..240], red_first[480..]);
}

#[test]
fn other_images_are_refused_by_name() {
    for (name, what) in
        [("animated.gif", "a GIF image"), ("photo.webp", "a WebP image"), ("photo.bmp", "a BMP image")]
    {
        let error = image::read(folder().join(name), &any(ColorSpace::Rgb)).unwrap_err();
        assert!(error.to_string().contains(what), "{error}");
        assert!(error.hint().unwrap().contains("PNG"), "{error}");
    }
}

/// Decoders make grey of what is missing.
#[test]
fn a_photo_that_was_cut_off_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("cut.jpg");
    for name in ["rgb.jpg", "progressive.jpg", "grey.jpg", "exif_6.jpg", "rgb.png", "grey16.png"] {
        let whole = fs::read(self::folder().join(name)).unwrap();
        for len in (0..whole.len() - 12).step_by(7).chain([whole.len() - 1]) {
            if len == whole.len() - 1 && name.ends_with(".png") {
                continue;
            }
            fs::write(&path, &whole[..len]).unwrap();
            let error = image::read(&path, &any(ColorSpace::Rgb)).unwrap_err();
            assert_eq!((error.kind(), error.path()), (ErrorKind::InvalidInput, Some(&*path)), "{name} {len}");
        }
        // What follows the end does not matter: cameras put films there.
        fs::write(&path, [&whole[..], b"more"].concat()).unwrap();
        assert!(image::read(&path, &any(ColorSpace::Rgb)).is_ok(), "{name}");
        for at in (0..whole.len()).step_by(3) {
            let mut changed = whole.clone();
            changed[at] ^= 0xFF;
            fs::write(&path, changed).unwrap();
            let _: Result<Tensor> = image::read(&path, &any(ColorSpace::Grayscale));
        }
    }
}

/// What it unpacks to is zeros.
fn zeros(len: usize) -> Vec<u8> {
    let block = vec![0; 1 << 20];
    let mut encoder = ZlibEncoder::new(Vec::new(), Compression::fast());
    let mut left = len;
    while left > 0 {
        let part = left.min(block.len());
        encoder.write_all(&block[..part]).unwrap();
        left -= part;
    }
    encoder.finish().unwrap()
}

fn chunk(kind: &[u8; 4], data: &[u8]) -> Vec<u8> {
    let mut crc = Crc::new();
    crc.update(kind);
    crc.update(data);
    [&(data.len() as u32).to_be_bytes(), &kind[..], data, &crc.sum().to_be_bytes()].concat()
}

/// A grey PNG file of black pixels, which claims to have a width and a height, with other chunks before its pixels.
fn png(width: u32, height: u32, others: &[u8], pixels: usize) -> Vec<u8> {
    let header = [&width.to_be_bytes()[..], &height.to_be_bytes(), &[8, 0, 0, 0, 0]].concat();
    let chunks =
        [chunk(b"IHDR", &header), others.to_vec(), chunk(b"IDAT", &zeros(pixels)), chunk(b"IEND", &[])];
    [&b"\x89PNG\r\n\x1a\n"[..], &chunks.concat()].concat()
}

/// A JPEG file that claims a size.
fn jpeg(width: u16, height: u16) -> Vec<u8> {
    let mut bytes = fs::read(folder().join("grey.jpg")).unwrap();
    let frame = bytes.windows(2).position(|w| w == [0xFF, 0xC0]).unwrap();
    bytes[frame + 5..frame + 7].copy_from_slice(&height.to_be_bytes());
    bytes[frame + 7..frame + 9].copy_from_slice(&width.to_be_bytes());
    bytes
}

/// The most memory that this process has had, in bytes.
#[cfg(target_os = "linux")]
fn peak() -> usize {
    let status = fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
    line.trim().trim_end_matches(" kB").parse::<usize>().unwrap() << 10
}

/// All of it is one test: memory is that of the process.
#[cfg(target_os = "linux")]
#[test]
fn hostile_images() {
    let folder = tempfile::tempdir().unwrap();
    let read = |path: &Path| image::read_fitted(path, &gray(), Fit::Crop);
    let sound = (SIDE * (SIDE + 1)) as usize;
    let path = folder.path().join("sound.png");
    fs::write(&path, png(SIDE, SIDE, &[], sound)).unwrap();
    assert_eq!(read(&path).unwrap().shape(), [1, 1, 8, 8]);

    let bomb = zeros(BOMB);
    let before = peak();
    let profile = [&b"name\0\0"[..], &bomb].concat();
    let text = [&b"key\0\0"[..], &bomb].concat();
    let international = [&b"key\0\x01\0\0\0"[..], &bomb].concat();
    for (kind, data) in [(b"iCCP", profile), (b"zTXt", text), (b"iTXt", international)] {
        let path = folder.path().join("bomb.png");
        fs::write(&path, png(SIDE, SIDE, &chunk(kind, &data), sound)).unwrap();
        // Whether it is an error or left out: it is not unpacked.
        if let Ok(tensor) = read(&path) {
            assert_eq!(tensor.shape(), [1, 1, 8, 8]);
        }
    }
    for (width, height) in [(1 << 30, 1 << 30), (1 << 16, 1 << 16), (u32::MAX >> 1, 1), (1, 1 << 29)] {
        let path = folder.path().join("huge.png");
        fs::write(&path, png(width, height, &[], sound)).unwrap();
        assert_eq!(read(&path).unwrap_err().kind(), ErrorKind::InvalidInput, "{width} x {height}");
    }
    for (width, height) in [(u16::MAX, u16::MAX), (0, 8), (8, 0)] {
        let path = folder.path().join("huge.jpg");
        fs::write(&path, jpeg(width, height)).unwrap();
        assert_eq!(read(&path).unwrap_err().kind(), ErrorKind::InvalidInput, "{width} x {height}");
    }
    // Chunks that lie about their length, or are not whole.
    for claimed in [u32::MAX, u32::MAX >> 1, 1 << 30, 1 << 20] {
        let lying = [&claimed.to_be_bytes()[..], b"zTXt", b"key\0\0x"].concat();
        fs::write(&path, png(SIDE, SIDE, &lying, sound)).unwrap();
        let _ = read(&path);
        let lying = [&claimed.to_be_bytes()[..], b"IDAT"].concat();
        fs::write(&path, png(SIDE, SIDE, &lying, sound)).unwrap();
        assert_eq!(read(&path).unwrap_err().kind(), ErrorKind::InvalidInput, "{claimed}");
    }
    // More pixels than there should be.
    fs::write(&path, png(SIDE, SIDE, &[], BOMB)).unwrap();
    let _ = read(&path);
    let grown = peak() - before;
    assert!(grown < 64 << 20, "{grown} bytes");

    let pipe = folder.path().join("pipe.png");
    assert!(std::process::Command::new("mkfifo").arg(&pipe).status().unwrap().success());
    let link = folder.path().join("link.png");
    std::os::unix::fs::symlink("/dev/zero", &link).unwrap();
    for path in [pipe, link, folder.path().to_owned()] {
        let error = read(&path).unwrap_err();
        assert_eq!((error.kind(), error.path()), (ErrorKind::InvalidInput, Some(&*path)));
        assert!(image::dimensions(&path).is_err());
    }
    let pointer = folder.path().join("pointer.png");
    fs::write(&pointer, "version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 8448\n").unwrap();
    assert!(read(&pointer).unwrap_err().hint().unwrap().contains("git lfs pull"));
}
