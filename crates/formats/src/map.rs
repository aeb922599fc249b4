//! Read-only memory maps as `Bytes`.

use std::fs::File;
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
    pub fn new(file: &File, start: u64, len: usize) -> std::io::Result<FileMap> {
        // SAFETY: as in `map_file`; the caller keeps the file to itself and only ever appends to it.
        let map = unsafe { memmap2::MmapOptions::new().offset(start).len(len).map(file) }?;
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
pub(crate) fn map_file(path: &Path, max_len: u64) -> Result<Option<FileMap>> {
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
    // SAFETY: the map is read-only and private to this process, and lives as long as the `Bytes` that own it. We cannot
    // rule out that another process truncates the file meanwhile, which turns a later read into SIGBUS, or rewrites it
    // in place, which changes bytes that were already checked. The crate's documentation asks users not to, and our own
    // writers only ever replace files by renaming. This is the contract of every mapping loader.
    let map = unsafe { Mmap::map(&file) }.map_err(|error| Error::io("map it into memory", error).at(path))?;
    Ok(Some(FileMap(Arc::new(map))))
}

/// Returns the bytes of a regular file of at most `max_len` bytes.
pub(crate) fn map_bytes(path: &Path, max_len: u64) -> Result<Bytes> {
    Ok(map_file(path, max_len)?.map(|map| map.bytes()).unwrap_or_default())
}
