//! Read-only memory maps as `Bytes`.

use std::fs::{self, File};
use std::path::Path;

use bytes::Bytes;
use memmap2::Mmap;

use crate::{Error, Result};

/// Maps a regular file of at most `max_len` bytes.
pub(crate) fn map_file(path: &Path, max_len: u64) -> Result<Bytes> {
    // Looked at before it is opened: opening a FIFO would block.
    let metadata = fs::metadata(path).map_err(|error| Error::io("open it", error).at(path))?;
    if !metadata.is_file() {
        return Err(Error::malformed("not a regular file").at(path));
    }
    if metadata.len() > max_len {
        return Err(
            Error::limit(format!("{} bytes, more than the limit of {max_len}", metadata.len())).at(path)
        );
    }
    if metadata.len() == 0 {
        return Ok(Bytes::new());
    }
    let file = File::open(path).map_err(|error| Error::io("open it", error).at(path))?;
    // SAFETY: the map is read-only and private to this process, and it lives as long as the `Bytes` that own it. What
    // cannot be ruled out is that another process truncates the file meanwhile, which turns a later read into SIGBUS,
    // or rewrites it in place, which changes bytes that were already checked. The crate's documentation asks users not
    // to, and our own writers only ever replace files by renaming. This is the contract of every mapping loader.
    let map = unsafe { Mmap::map(&file) }.map_err(|error| Error::io("map it into memory", error).at(path))?;
    Ok(Bytes::from_owner(map))
}

/// Maps a part of a file that its owner has written and does not change any more. `start` is a multiple of the page size.
///
/// # Errors
///
/// If the system refuses.
pub fn map_range(file: &File, start: u64, len: usize) -> std::io::Result<Bytes> {
    // SAFETY: as in `map_file`; the caller keeps the file to itself and only ever appends to it.
    let map = unsafe { memmap2::MmapOptions::new().offset(start).len(len).map(file) }?;
    Ok(Bytes::from_owner(map))
}
