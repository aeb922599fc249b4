//! Reads and writes NumPy's `.npy` files.

use std::io::{self, Read, Write};
use std::path::Path;

use crate::paths::{open_input, stage};
use crate::{DType, Error, Result, Tensor};

const MAGIC: &[u8] = b"\x93NUMPY";
/// NumPy's own headers of arrays take a few hundred bytes at most.
const MAX_HEADER_BYTES: usize = 1 << 16;
/// NumPy's own limit.
const MAX_RANK: usize = 64;
/// The bytes of a code point in NumPy's strings.
const CODE_POINT: usize = 4;
/// The most texts of no length in an array: the file has no bytes for them, but they take memory.
const MAX_EMPTY: usize = 1 << 16;

/// Reads a tensor of floats, integers, bools or strings, in any byte order and memory order. Of NumPy's strings, those of
/// Unicode (`<U`) are read, and objects are not.
///
/// # Errors
/// The file cannot be read, is damaged, or has another element type.
pub fn read(path: impl AsRef<Path>) -> Result<Tensor> {
    let path = path.as_ref();
    let mut file = open_input(path)?;
    read_from(&mut file).map_err(|e| e.at(path))
}

pub(crate) fn read_from(file: &mut impl Read) -> Result<Tensor> {
    let header = Header::read(file)?;
    let bytes = header.shape.iter().try_fold(header.size, |n, &d| n.checked_mul(d));
    let bytes = bytes.ok_or_else(|| damaged("its shape overflows"))?;
    let count = header.shape.iter().try_fold(1usize, |n, &d| n.checked_mul(d));
    if header.size == 0 && count.is_none_or(|n| n > MAX_EMPTY) {
        return Err(damaged("it has too many texts of no length"));
    }
    // The header may claim any size, so memory grows only with the data that the file really has.
    let mut data = Vec::new();
    file.take(bytes as u64).read_to_end(&mut data).map_err(|e| damaged(&e.to_string()))?;
    if data.len() < bytes {
        return Err(damaged("it is shorter than its header says"));
    }
    if header.big_endian {
        // A string is a sequence of code points.
        let size = if header.dtype == DType::String { CODE_POINT } else { header.size };
        data.chunks_exact_mut(size).for_each(<[u8]>::reverse);
    }
    if header.dtype == DType::Bool {
        data.iter_mut().for_each(|b| *b = u8::from(*b != 0));
    }
    if header.fortran_order {
        data = to_row_major(&data, header.size, &header.shape);
    }
    if header.dtype == DType::String {
        let strings = strings(&data, header.size, header.shape.iter().product())?;
        return Tensor::from_strings(&header.shape, strings).map_err(|e| Error::invalid(e.to_string()));
    }
    Tensor::from_bytes(header.dtype, &header.shape, data.into()).map_err(|e| Error::invalid(e.to_string()))
}

/// Decodes NumPy's `<U` type: UTF-32, padded with zeros.
fn strings(data: &[u8], size: usize, count: usize) -> Result<Vec<String>> {
    let text = |i: usize| {
        let codes = data[i * size..(i + 1) * size].chunks_exact(CODE_POINT);
        let codes: Vec<u32> = codes.map(|c| u32::from_le_bytes([c[0], c[1], c[2], c[3]])).collect();
        let len = codes.iter().rposition(|&c| c != 0).map_or(0, |last| last + 1);
        codes[..len].iter().map(|&c| char::from_u32(c)).collect::<Option<String>>()
    };
    let strings = (0..count).map(text).collect::<Option<Vec<String>>>();
    strings.ok_or_else(|| damaged("it has text that is not Unicode"))
}

fn damaged(what: &str) -> Error {
    Error::invalid(format!("not a .npy file, or a damaged one: {what}"))
        .with_hint("copy it again, or save it again with numpy.save")
}

struct Header {
    dtype: DType,
    /// The size of an element in bytes.
    size: usize,
    big_endian: bool,
    fortran_order: bool,
    shape: Vec<usize>,
}

impl Header {
    fn read(file: &mut impl Read) -> Result<Header> {
        let mut take = |n: usize| {
            let mut bytes = vec![0; n];
            file.read_exact(&mut bytes).map(|()| bytes).map_err(|_| damaged("its header is not whole"))
        };
        let start = take(MAGIC.len() + 2)?;
        if !start.starts_with(MAGIC) {
            return Err(damaged("it does not start like one"));
        }
        let len = match start[MAGIC.len()] {
            1 => take(2)?.iter().rev().fold(0, |n, &b| n << 8 | usize::from(b)),
            2 | 3 => take(4)?.iter().rev().fold(0, |n, &b| n << 8 | usize::from(b)),
            version => return Err(damaged(&format!("version {version} of the format is not known"))),
        };
        if len > MAX_HEADER_BYTES {
            return Err(damaged("its header is too long"));
        }
        let text = take(len)?;
        Header::parse(&String::from_utf8_lossy(&text))
    }

    /// Parses the header, a literal of a Python dictionary.
    fn parse(text: &str) -> Result<Header> {
        let field = |key: &str| {
            let quoted = [format!("'{key}'"), format!("\"{key}\"")];
            let after = quoted.iter().find_map(|q| text.split_once(q.as_str())).map(|(_, rest)| rest);
            let value = after.and_then(|rest| rest.trim_start().strip_prefix(':')).map(str::trim_start);
            value.ok_or_else(|| damaged(&format!("its header has no `{key}`")))
        };
        let descr = field("descr")?;
        let Some(quote) = descr.chars().next().filter(|c| matches!(c, '\'' | '"')) else {
            return Err(not_numbers("records"));
        };
        let descr = descr[1..].split(quote).next().unwrap_or_default();
        let (dtype, size) = element(descr.trim_start_matches(['<', '>', '=', '|']))
            .ok_or_else(|| not_numbers(&format!("of the type {descr}")))?;
        let shape = field("shape")?.strip_prefix('(').and_then(|s| s.split_once(')'));
        let (shape, _) = shape.ok_or_else(|| damaged("its shape is not a tuple"))?;
        let dims = shape.split(',').map(|d| d.trim().trim_end_matches('L')).filter(|d| !d.is_empty());
        let shape: Option<Vec<usize>> = dims.map(|d| d.parse().ok()).collect();
        let shape =
            shape.filter(|s| s.len() <= MAX_RANK).ok_or_else(|| damaged("its shape has no meaning"))?;
        let fortran_order = field("fortran_order")?.starts_with("True");
        Ok(Header { dtype, size, big_endian: descr.starts_with('>'), fortran_order, shape })
    }
}

fn not_numbers(what: &str) -> Error {
    Error::invalid(format!("its elements are not numbers, but {what}"))
        .with_hint("save numbers: a.astype('float32') for an array `a`")
}

/// The element type for NumPy's code, and its size in bytes.
fn element(code: &str) -> Option<(DType, usize)> {
    if let Some(width) = code.strip_prefix('U') {
        return Some((DType::String, width.parse::<usize>().ok()?.checked_mul(CODE_POINT)?));
    }
    Some(match code {
        "f2" => (DType::Fp16, 2),
        "f4" => (DType::Fp32, 4),
        "f8" => (DType::Fp64, 8),
        "i1" => (DType::Int8, 1),
        "i2" => (DType::Int16, 2),
        "i4" => (DType::Int32, 4),
        "i8" => (DType::Int64, 8),
        "u1" => (DType::UInt8, 1),
        "u2" => (DType::UInt16, 2),
        "u4" => (DType::UInt32, 4),
        "u8" => (DType::UInt64, 8),
        "b1" => (DType::Bool, 1),
        _ => return None,
    })
}

/// Converts elements from column-major to row-major order.
fn to_row_major(data: &[u8], size: usize, shape: &[usize]) -> Vec<u8> {
    let mut sorted = Vec::with_capacity(data.len());
    let mut index = vec![0; shape.len()];
    for _ in 0..data.len() / size.max(1) {
        let at = index.iter().zip(shape).rev().fold(0, |at, (i, n)| at * n + i);
        sorted.extend_from_slice(&data[at * size..][..size]);
        for (i, n) in index.iter_mut().zip(shape).rev() {
            *i = (*i + 1) % n;
            if *i > 0 {
                break;
            }
        }
    }
    sorted
}

/// Writes a tensor. The write is staged, so an existing file is replaced completely or not at all. Strings become
/// NumPy's fixed-width strings; element types that NumPy lacks become the next larger type.
///
/// # Errors
/// The file cannot be written.
pub fn write(path: impl AsRef<Path>, tensor: &Tensor) -> Result<()> {
    Ok(stage(path.as_ref(), |out| write_to(out, tensor))?.commit()?)
}

/// Writes a tensor as the contents of an `.npy` file, as [`write()`] does.
///
/// # Errors
/// As for `out`.
pub fn write_to(out: &mut impl Write, tensor: &Tensor) -> io::Result<()> {
    let code = match tensor.dtype() {
        DType::Fp16 => "<f2",
        DType::Fp32 => "<f4",
        DType::Fp64 => "<f8",
        DType::Int8 => "|i1",
        DType::Int16 => "<i2",
        DType::Int32 => "<i4",
        DType::Int64 => "<i8",
        DType::UInt8 => "|u1",
        DType::UInt16 => "<u2",
        DType::UInt32 => "<u4",
        DType::UInt64 => "<u8",
        DType::Bool => "|b1",
        DType::Bf16 => {
            write_header(out, "<f4", tensor.shape())?;
            return tensor.to_f64().iter().try_for_each(|&x| out.write_all(&(x as f32).to_le_bytes()));
        }
        DType::String => return write_strings(out, tensor),
        // Integers of fewer than eight bits.
        _ => {
            write_header(out, "|i1", tensor.shape())?;
            let values = tensor.to_i64().unwrap_or_default();
            return values.iter().try_for_each(|&x| out.write_all(&(x as i8).to_le_bytes()));
        }
    };
    write_header(out, code, tensor.shape())?;
    out.write_all(tensor.bytes())
}

/// Writes strings as NumPy's `<U` type: UTF-32, padded with zeros to the longest.
fn write_strings(out: &mut impl Write, tensor: &Tensor) -> io::Result<()> {
    let width = tensor.strings().iter().map(|s| s.chars().count()).max().unwrap_or(0).max(1);
    write_header(out, &format!("<U{width}"), tensor.shape())?;
    for s in tensor.strings() {
        let chars = s.chars().map(u32::from).chain(std::iter::repeat(0)).take(width);
        for c in chars {
            out.write_all(&c.to_le_bytes())?;
        }
    }
    Ok(())
}

fn write_header(out: &mut impl Write, descr: &str, shape: &[usize]) -> io::Result<()> {
    let shape: Vec<String> = shape.iter().map(|n| format!("{n},")).collect();
    let mut header =
        format!("{{'descr': '{descr}', 'fortran_order': False, 'shape': ({}), }}", shape.join(" "));
    // Magic, version and length take 10 bytes; the data starts at a multiple of 64.
    let padded = (10 + header.len() + 1).next_multiple_of(64) - 10;
    header.extend(std::iter::repeat_n(' ', padded - header.len() - 1));
    header.push('\n');
    out.write_all(MAGIC)?;
    out.write_all(&[1, 0])?;
    out.write_all(&(header.len() as u16).to_le_bytes())?;
    out.write_all(header.as_bytes())
}

#[cfg(test)]
mod tests {
    use half::f16;

    use super::*;

    #[test]
    fn numbers_round_trip() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("t.npy");
        let tensors = [
            Tensor::from_vec(&[2, 3], vec![1.5f32, -0.0, f32::INFINITY, 3.0, 4.0, 1e-40]).unwrap(),
            Tensor::from_vec(&[3], [0.1f32, 65504.0, -2.0].map(f16::from_f32).to_vec()).unwrap(),
            Tensor::from_vec(&[0, 4], Vec::<i32>::new()).unwrap(),
            Tensor::scalar(7i64),
            Tensor::from_bools(&[2], &[true, false]).unwrap(),
            Tensor::from_strings(&[2, 1], vec!["na\u{ef}ve \u{1f600}".to_owned(), String::new()]).unwrap(),
            Tensor::from_strings(&[0], Vec::new()).unwrap(),
            Tensor::string("a"),
        ];
        for tensor in tensors {
            write(&path, &tensor).unwrap();
            assert_eq!(read(&path).unwrap(), tensor);
        }
    }

    fn file(descr: &str, fortran_order: &str, shape: &str, data: &[u8]) -> Vec<u8> {
        let header = format!("{{'descr': {descr}, 'fortran_order': {fortran_order}, 'shape': {shape}, }}\n");
        [MAGIC, &[1, 0], &(header.len() as u16).to_le_bytes(), header.as_bytes(), data].concat()
    }

    #[test]
    fn other_orders_are_read() {
        let big = file("'>i2'", "False", "(2,)", &[1, 2, 0xFF, 0xFE]);
        assert_eq!(read_from(&mut &big[..]).unwrap(), Tensor::from_vec(&[2], vec![0x102i16, -2]).unwrap());
        // numpy.save of numpy.asfortranarray([[0, 1, 2], [3, 4, 5]], dtype='u1')
        let columns = file("'|u1'", "True", "(2, 3)", &[0, 3, 1, 4, 2, 5]);
        let rows = Tensor::from_vec(&[2, 3], vec![0u8, 1, 2, 3, 4, 5]).unwrap();
        assert_eq!(read_from(&mut &columns[..]).unwrap(), rows);
        // numpy.array([['a', 'b'], ['', 'cd']], order='F'), as '>U2'
        let text = |s: &str| s.chars().flat_map(|c| u32::from(c).to_be_bytes()).collect::<Vec<u8>>();
        let columns = file("'>U2'", "True", "(2, 2)", &text("a\0\0\0b\0cd"));
        let rows = ["a", "b", "", "cd"].map(str::to_owned).to_vec();
        assert_eq!(read_from(&mut &columns[..]).unwrap(), Tensor::from_strings(&[2, 2], rows).unwrap());
        let python2 = file("\"<f4\"", "False", "(1L,)", &1f32.to_le_bytes());
        assert_eq!(read_from(&mut &python2[..]).unwrap(), Tensor::from_vec(&[1], vec![1f32]).unwrap());
    }

    #[test]
    fn headers_that_lie_are_refused() {
        for (file, what) in [
            (file("'<f4'", "False", "(1000000000000, 1000)", &[0; 16]), "shorter than its header says"),
            (file("'<f4'", "False", "(9223372036854775807, 4)", &[0; 16]), "overflows"),
            (file("'<f4'", "False", "(99999999999999999999,)", &[0; 16]), "no meaning"),
            (file("'<f4'", "False", "(-1,)", &[0; 16]), "no meaning"),
            (file("'<f4'", "False", "4", &[0; 16]), "not a tuple"),
            (file("'<U1'", "False", "(1,)", &0xD800u32.to_le_bytes()), "not Unicode"),
            (file("'<U0'", "False", "(1000000000000,)", &[]), "too many"),
            (file("'<U0'", "True", "(1000000000000, 100000000000)", &[]), "too many"),
            (file("'<S4'", "False", "(2,)", &[0; 16]), "not numbers"),
            (file("'<c8'", "False", "(2,)", &[0; 16]), "not numbers"),
            (file("[('a', '<f4')]", "False", "(2,)", &[0; 16]), "not numbers"),
            (file("'", "False", "(2,)", &[0; 16]), "not numbers"),
            (b"\x93NUMPY\x01\x00\xff".to_vec(), "not whole"),
            (b"\x93NUMPY\x02\x00\xff\xff\xff\xff".to_vec(), "too long"),
        ] {
            let error = read_from(&mut &file[..]).unwrap_err();
            assert!(error.to_string().contains(what), "{error}");
        }
    }
}
