//! Reads NumPy's `.npz` files: zip archives of `.npy` files, stored or deflated.

use std::io::Read;
use std::path::Path;

use bytes::Bytes;

use crate::paths::open_input;
use crate::{Error, Result, Tensor, npy};

/// The archive ends with its end record, of 22 bytes and a comment.
const END: &[u8] = b"PK\x05\x06";
const END_LEN: usize = 22;
const MAX_COMMENT: usize = 1 << 16;
const ENTRY: &[u8] = b"PK\x01\x02";
const ENTRY_LEN: usize = 46;
const LOCAL: &[u8] = b"PK\x03\x04";
const LOCAL_LEN: usize = 30;
/// The largest number of bytes to read or to unpack. Inputs are small.
const MAX_BYTES: u64 = 1 << 32;

/// Reads all arrays of a `.npz` file with their names, in the order of the file.
///
/// # Errors
/// The file cannot be read, is damaged, or contains anything but arrays of numbers.
pub fn read(path: impl AsRef<Path>) -> Result<Vec<(String, Tensor)>> {
    let path = path.as_ref();
    let file = open_input(path)?;
    let mut data = Vec::new();
    file.take(MAX_BYTES).read_to_end(&mut data).map_err(|e| Error::io("read", path, e))?;
    read_from(&data.into()).map_err(|e| e.at(path))
}

fn read_from(data: &Bytes) -> Result<Vec<(String, Tensor)>> {
    let from = data.len().saturating_sub(END_LEN + MAX_COMMENT);
    let ends = (from..data.len().saturating_sub(END_LEN - 1)).rev();
    let end = ends.into_iter().find(|&at| data[at..].starts_with(END));
    let end = end.ok_or_else(|| damaged("it has no directory"))?;
    let count = u16_at(data, end + 10)?;
    let mut at = u32_at(data, end + 16)? as usize;
    let mut arrays: Vec<(String, Tensor)> = Vec::new();
    for _ in 0..count {
        if !data.get(at..).is_some_and(|d| d.starts_with(ENTRY)) {
            return Err(damaged("its directory is not whole"));
        }
        let (method, packed, size) = (u16_at(data, at + 10)?, u32_at(data, at + 20)?, u32_at(data, at + 24)?);
        let name_len = usize::from(u16_at(data, at + 28)?);
        let others = usize::from(u16_at(data, at + 30)?) + usize::from(u16_at(data, at + 32)?);
        let local = u32_at(data, at + 42)? as usize;
        let name = part(data, at + ENTRY_LEN, name_len)?;
        let name = String::from_utf8_lossy(&name).into_owned();
        at += ENTRY_LEN + name_len + others;
        let array = name.strip_suffix(".npy").ok_or_else(|| {
            Error::invalid(format!("it holds `{name}`, which is not an array"))
                .with_hint("save arrays only, with numpy.savez")
        })?;
        let content = content(data, local, method, packed as usize, size as usize)?;
        let tensor =
            npy::read_from(&mut &content[..]).map_err(|e| e.within(&format!("the array `{array}`")))?;
        arrays.push((array.to_owned(), tensor));
    }
    Ok(arrays)
}

/// Extracts one file of the archive.
fn content(data: &Bytes, local: usize, method: u16, packed: usize, size: usize) -> Result<Bytes> {
    if !data.get(local..).is_some_and(|d| d.starts_with(LOCAL)) {
        return Err(damaged("a file is not where its directory says"));
    }
    let names = usize::from(u16_at(data, local + 26)?) + usize::from(u16_at(data, local + 28)?);
    let bytes = part(data, local + LOCAL_LEN + names, packed)?;
    match method {
        0 => Ok(bytes),
        8 => {
            // The directory may claim any size, so memory grows only with what is unpacked.
            let mut unpacked = Vec::new();
            let mut decoder = flate2::read::DeflateDecoder::new(&bytes[..]).take(size as u64 + 1);
            decoder.read_to_end(&mut unpacked).map_err(|e| damaged(&e.to_string()))?;
            if unpacked.len() == size { Ok(unpacked.into()) } else { Err(damaged("a file has another size")) }
        }
        method => Err(damaged(&format!("it is packed in a way that is not known ({method})"))),
    }
}

fn part(data: &Bytes, at: usize, len: usize) -> Result<Bytes> {
    let end = at.checked_add(len).filter(|&end| end <= data.len());
    end.map(|end| data.slice(at..end)).ok_or_else(|| damaged("it ends in the middle"))
}

fn u16_at(data: &Bytes, at: usize) -> Result<u16> {
    let bytes = part(data, at, 2)?;
    Ok(u16::from_le_bytes([bytes[0], bytes[1]]))
}

fn u32_at(data: &Bytes, at: usize) -> Result<u32> {
    let bytes = part(data, at, 4)?;
    Ok(u32::from_le_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]))
}

fn damaged(what: &str) -> Error {
    Error::invalid(format!("not a .npz file, or a damaged one: {what}"))
        .with_hint("copy it again, or save it again with numpy.savez")
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Made by `numpy.savez_compressed(f, a=numpy.arange(3, dtype='u1'))` and `savez` of the same.
    const DEFLATED: &str = include_str!("npz/deflated.hex");
    const STORED: &str = include_str!("npz/stored.hex");

    fn bytes(hex: &str) -> Bytes {
        let digits: Vec<u8> = hex.bytes().filter(u8::is_ascii_hexdigit).collect();
        let byte = |pair: &[u8]| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap();
        digits.chunks(2).map(byte).collect::<Vec<u8>>().into()
    }

    #[test]
    fn what_numpy_saves() {
        let expected = [("a".to_owned(), Tensor::from_vec(&[3], vec![0u8, 1, 2]).unwrap())];
        for file in [DEFLATED, STORED] {
            assert_eq!(read_from(&bytes(file)).unwrap(), expected);
        }
    }

    #[test]
    fn damaged_archives_are_refused() {
        let whole = bytes(DEFLATED);
        for len in 0..whole.len() {
            assert!(read_from(&whole.slice(..len)).is_err(), "{len} bytes");
        }
        for at in 0..whole.len() {
            let mut changed = whole.to_vec();
            changed[at] ^= 0xFF;
            let _ = read_from(&changed.into());
        }
    }
}
