//! The content of files: mapped into memory, or read to aligned memory.

use std::fs::File;
use std::io::{self, Read as _};
use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use memmap2::Mmap;

use crate::{Error, Result, open_regular};

/// A memory-mapped file, or part of one. Cheap to clone.
#[derive(Clone, Debug)]
pub struct FileMap(Arc<Mmap>);

impl FileMap {
    /// Maps a part of a file that its owner has finished writing. `start` must be a multiple of the page size.
    ///
    /// # Errors
    ///
    /// If the system cannot map it.
    pub fn new(file: &File, start: u64, len: usize) -> io::Result<FileMap> {
        // SAFETY: as in `whole`; the caller keeps the file to itself and only ever appends to it.
        let map = unsafe { memmap2::MmapOptions::new().offset(start).len(len).map(file) }?;
        Ok(FileMap(Arc::new(map)))
    }

    /// Maps a whole file, which must not be empty.
    ///
    /// # Errors
    ///
    /// If the system cannot map it.
    pub fn whole(file: &File) -> io::Result<FileMap> {
        // SAFETY: the map is read-only and private to this process, and lives as long as the `Bytes` that own it. We
        // cannot rule out that another process truncates the file meanwhile, which turns a later read into SIGBUS, or
        // rewrites it in place, which changes bytes that were already checked. The crate's documentation asks users not
        // to, and our own writers only ever replace files by renaming. This is the contract of every mapping loader.
        let map = unsafe { Mmap::map(file) }?;
        Ok(FileMap(Arc::new(map)))
    }

    /// The bytes. They keep the map alive.
    pub fn bytes(&self) -> Bytes {
        Bytes::from_owner(self.clone())
    }

    /// Returns the memory of the map to the system. The bytes stay the same: they are read from the file again when
    /// accessed. For passes over more weights than memory can hold.
    pub fn release(&self) {
        // SAFETY: the map is backed by a file and never written to, so dropped pages come back with the same bytes.
        // (This advice discards private changes to a map, and there are none.)
        #[cfg(unix)]
        let released = unsafe { self.0.unchecked_advise(memmap2::UncheckedAdvice::DontNeed) };
        // It is only advice: a system that ignores it uses more memory, and nothing else changes.
        #[cfg(unix)]
        drop(released);
    }
}

impl AsRef<[u8]> for FileMap {
    fn as_ref(&self) -> &[u8] {
        &self.0
    }
}

/// Maps a regular file of at most `max_len` bytes. Returns `None` for an empty file.
///
/// # Errors
///
/// If it is larger, not a regular file, or cannot be mapped.
pub fn map_file(path: &Path, max_len: u64) -> Result<Option<FileMap>> {
    let file = open_regular(path)?;
    let metadata = file.metadata().map_err(|error| Error::io("open it", error).at(path))?;
    if metadata.len() > max_len {
        return Err(
            Error::limit(format!("{} bytes, more than the limit of {max_len}", metadata.len())).at(path)
        );
    }
    if metadata.len() == 0 {
        return Ok(None);
    }
    let map = FileMap::whole(&file).map_err(|error| Error::io("map it into memory", error).at(path))?;
    Ok(Some(map))
}

/// Returns the bytes of a regular file of at most `max_len` bytes.
///
/// # Errors
///
/// Those of [`map_file`].
pub fn map_bytes(path: &Path, max_len: u64) -> Result<Bytes> {
    Ok(map_file(path, max_len)?.map(|map| map.bytes()).unwrap_or_default())
}

/// Copies bytes to memory whose address is a multiple of `align`, a power of two.
pub fn aligned_copy(bytes: &[u8], align: usize) -> Bytes {
    let mut buffer = Vec::<u8>::with_capacity(bytes.len() + align);
    let start = buffer.as_ptr().align_offset(align);
    buffer.resize(start, 0);
    buffer.extend_from_slice(bytes);
    Bytes::from_owner(buffer).slice(start..)
}

/// Reads a file into memory whose address is a multiple of `align`, a power of two.
///
/// # Errors
///
/// If it cannot be read, or the memory for it cannot be had.
pub fn read_aligned(mut file: File, align: usize) -> io::Result<Bytes> {
    let len = usize::try_from(file.metadata()?.len()).map_err(|_| io::ErrorKind::OutOfMemory)?;
    let mut buffer = Vec::<u8>::new();
    buffer.try_reserve_exact(len.saturating_add(align)).map_err(|_| io::ErrorKind::OutOfMemory)?;
    let start = buffer.as_ptr().align_offset(align);
    buffer.resize(start, 0);
    file.read_to_end(&mut buffer)?;
    // If the file grows while it is read, the buffer is reallocated and may lose its alignment.
    if buffer[start..].as_ptr().align_offset(align) != 0 {
        return Ok(aligned_copy(&buffer[start..], align));
    }
    Ok(Bytes::from_owner(buffer).slice(start..))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn copies_are_aligned() {
        for len in 0..200 {
            let copy = aligned_copy(&vec![3; len], 64);
            assert_eq!(copy.as_ptr().align_offset(64), 0);
            assert_eq!(copy, vec![3; len]);
        }
    }
}
