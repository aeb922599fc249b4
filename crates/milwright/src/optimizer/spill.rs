//! A temporary file for compressed weights.

use std::collections::HashMap;
use std::fs::File;
use std::io::{self, Seek as _, SeekFrom, Write as _};
use std::path::{Path, PathBuf};

use milwright_formats::{
    FileMap, Package, PackageWriter, blob::BlobType, proto::mil_spec::value::BlobFileValue,
};
use milwright_mil::Tensor;
use milwright_optimize::Store;

use crate::{Cancel, Error, ErrorKind, Result};

/// After reading this many bytes, mapped files are released, so that memory does not grow with the model. Weights are
/// read and written one by one.
const RELEASE_BYTES: usize = 16 << 20;

/// Keeps compressed weights in an unnamed temporary file until the result is written, so that they take no memory.
pub(super) struct Spill<'a> {
    source: Option<&'a Package>,
    file: File,
    destination: PathBuf,
    end: u64,
    maps: Vec<FileMap>,
    /// Bytes that were read since the last release.
    unreleased: usize,
    cancel: Cancel,
}

impl<'a> Spill<'a> {
    /// Creates the file in the folder of the destination.
    pub(super) fn create(
        destination: &Path,
        source: Option<&'a Package>,
        cancel: Cancel,
    ) -> Result<Spill<'a>> {
        let folder = destination.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
        let file = tempfile::tempfile_in(folder).map_err(|e| Error::io("write", destination, e))?;
        let destination = destination.to_owned();
        Ok(Spill { source, file, destination, end: 0, maps: Vec::new(), unreleased: 0, cancel })
    }

    /// Converts an error of the optimizer.
    pub(super) fn error(&self, error: &milwright_optimize::Error) -> Error {
        if let milwright_optimize::Error::Config(why) = error {
            return Error::invalid(why.clone());
        }
        Error::new(ErrorKind::Io, error.to_string())
            .with_hint("free some space, or write to another disk")
            .at(&self.destination)
    }

    /// Counts bytes that were read from mapped files.
    fn read(&mut self, bytes: usize) {
        self.unreleased += bytes;
        if self.unreleased >= RELEASE_BYTES {
            if let Some(package) = self.source {
                package.release_memory();
            }
            self.maps.iter().for_each(FileMap::release);
            self.unreleased = 0;
        }
    }
}

impl Store for Spill<'_> {
    fn store(&mut self, tensor: Tensor) -> io::Result<Tensor> {
        /// Smaller tensors are not worth a mapping.
        const MIN_BYTES: usize = 1 << 16;
        /// Mappings start at page boundaries; this is a multiple of every page size in use.
        const PAGE: u64 = 1 << 16;
        if self.cancel.is_cancelled() {
            return Err(io::ErrorKind::Interrupted.into());
        }
        // The original had at most 32 bits per element.
        self.read(tensor.bytes().len().saturating_mul(32 / tensor.dtype().bits().clamp(1, 32)));
        if tensor.bytes().len() < MIN_BYTES {
            return Ok(tensor);
        }
        let start = self.end.next_multiple_of(PAGE);
        self.file.seek(SeekFrom::Start(start))?;
        self.file.write_all(tensor.bytes())?;
        self.end = start + tensor.bytes().len() as u64;
        let map = FileMap::new(&self.file, start, tensor.bytes().len())?;
        self.maps.push(map.clone());
        Tensor::from_bytes(tensor.dtype(), tensor.shape(), map.bytes()).map_err(io::Error::other)
    }
}

/// Writes weights to the package.
///
/// Equal weights are written once, because functions of a model often share them.
pub(super) struct Weights<'a, 'b> {
    pub writer: &'a mut PackageWriter,
    /// The weight file of the package.
    pub file: &'a str,
    pub spill: &'a mut Spill<'b>,
    pub written: HashMap<(BlobType, usize, blake3::Hash), BlobFileValue>,
}

impl milwright_convert::ml_program::WeightSink for Weights<'_, '_> {
    fn store(
        &mut self,
        dtype: BlobType,
        elements: usize,
        data: &[u8],
    ) -> Result<BlobFileValue, milwright_formats::Error> {
        let key = (dtype, elements, blake3::hash(data));
        if let Some(written) = self.written.get(&key) {
            return Ok(written.clone());
        }
        let written = self.writer.append_to(self.file, dtype, elements as u64, data)?;
        self.spill.read(data.len());
        self.written.insert(key, written.clone());
        Ok(written)
    }
}
