//! Weight files: MIL blob storage, version 2.
//!
//! Little-endian, everything aligned to 64 bytes: a header (number of blobs, version), then for each blob 64 bytes of
//! metadata (sentinel, type, size, offset of the data, padding bits) and its data. A program refers to a blob by the
//! offset of its *metadata*; the first is at 64.
//!
//! Types smaller than a byte are packed from the least significant bit up; 3- and 6-bit elements straddle bytes.
//!
//! ```
//! use milwright_formats::blob::{BlobFile, BlobType, BlobWriter};
//! use std::io::Cursor;
//!
//! let mut writer = BlobWriter::new(Cursor::new(Vec::new()))?;
//! let first = writer.append(BlobType::UInt8, 3, &[1, 2, 3])?;
//! let second = writer.append(BlobType::UInt4, 3, &[0x21, 0x03])?;
//! let bytes = writer.finish()?.into_inner();
//!
//! let file = BlobFile::from_bytes(bytes.into())?;
//! assert_eq!(&file.blob(first)?.data[..], [1, 2, 3]);
//! assert_eq!(file.blob(second)?.len, 3);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

use std::io::{self, Seek, SeekFrom, Write};
use std::path::Path;

use bytes::Bytes;

use crate::{Error, Result, lfs_pointer};
use milwright_files::{FileMap, map_file};

/// Alignment of metadata and data, in bytes, and the size of the header and of one blob's metadata.
pub const ALIGNMENT: u64 = 64;

const VERSION: u32 = 2;
const SENTINEL: u32 = 0xDEAD_BEEF;

/// Element types of blobs. The discriminants are the codes in the file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[expect(missing_docs, reason = "the names say it all")]
#[repr(u32)]
pub enum BlobType {
    Float16 = 1,
    Float32 = 2,
    UInt8 = 3,
    Int8 = 4,
    BFloat16 = 5,
    Int16 = 6,
    UInt16 = 7,
    Int4 = 8,
    UInt1 = 9,
    UInt2 = 10,
    UInt4 = 11,
    UInt3 = 12,
    UInt6 = 13,
    Int32 = 14,
    UInt32 = 15,
    Float8E4M3FN = 16,
    Float8E5M2 = 17,
}

impl BlobType {
    /// Every type, in the order of their codes.
    pub const ALL: [Self; 17] = [
        Self::Float16,
        Self::Float32,
        Self::UInt8,
        Self::Int8,
        Self::BFloat16,
        Self::Int16,
        Self::UInt16,
        Self::Int4,
        Self::UInt1,
        Self::UInt2,
        Self::UInt4,
        Self::UInt3,
        Self::UInt6,
        Self::Int32,
        Self::UInt32,
        Self::Float8E4M3FN,
        Self::Float8E5M2,
    ];

    /// The type with this code in a file.
    pub fn from_code(code: u32) -> Option<Self> {
        Self::ALL.get((code as usize).checked_sub(1)?).copied()
    }

    /// The code in a file.
    pub fn code(self) -> u32 {
        self as u32
    }

    /// Bits that one element takes: 1, 2, 3, 4, 6, 8, 16 or 32.
    pub fn bits(self) -> u32 {
        match self {
            Self::UInt1 => 1,
            Self::UInt2 => 2,
            Self::UInt3 => 3,
            Self::UInt4 | Self::Int4 => 4,
            Self::UInt6 => 6,
            Self::UInt8 | Self::Int8 | Self::Float8E4M3FN | Self::Float8E5M2 => 8,
            Self::Float16 | Self::BFloat16 | Self::Int16 | Self::UInt16 => 16,
            Self::Float32 | Self::Int32 | Self::UInt32 => 32,
        }
    }

    /// Bytes that `len` packed elements take, or `None` if that overflows.
    pub fn byte_len(self, len: u64) -> Option<u64> {
        len.checked_mul(self.bits().into()).map(|bits| bits.div_ceil(8))
    }
}

/// One blob: its type, how many elements it has, and their packed bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Blob {
    /// Type of the elements.
    pub dtype: BlobType,
    /// Number of elements.
    pub len: u64,
    /// The elements, packed: exactly `dtype.byte_len(len)` bytes. A slice of the file, not a copy.
    pub data: Bytes,
}

/// A weight file for reading. Cheap to clone.
#[derive(Clone, Debug)]
pub struct BlobFile {
    data: Bytes,
    count: u32,
    /// The mapping behind `data`, if it is a file.
    map: Option<FileMap>,
}

impl BlobFile {
    /// Maps a weight file into memory and checks its header.
    ///
    /// # Errors
    ///
    /// If the file cannot be read or is not a weight file of version 2.
    pub fn open(path: impl AsRef<Path>) -> Result<Self> {
        let path = path.as_ref();
        let open = || {
            let map = map_file(path, u64::MAX)?;
            let data = map.as_ref().map(FileMap::bytes).unwrap_or_default();
            Ok(Self { map, ..Self::from_bytes(data)? })
        };
        open().map_err(|error: Error| error.at(path))
    }

    /// The whole file.
    pub(crate) fn bytes(&self) -> &Bytes {
        &self.data
    }

    /// Reads a weight file from memory.
    ///
    /// # Errors
    ///
    /// If it is not a weight file of version 2.
    pub fn from_bytes(data: Bytes) -> Result<Self> {
        if let Some(error) = lfs_pointer(&data) {
            return Err(error);
        }
        let header = Fields::at(&data, 0).ok_or_else(|| {
            Error::malformed(format!("not a weight file: {} bytes, shorter than its header", data.len()))
        })?;
        let (count, version) = (header.u32(0), header.u32(4));
        match version {
            VERSION => {}
            1 => {
                return Err(Error::unsupported("weight file of version 1")
                    .with_hint("version 1 was never part of a published package: save the model again"));
            }
            _ => return Err(Error::malformed(format!("not a weight file: version {version}, expected 2"))),
        }
        if u64::from(count) > data.len() as u64 / ALIGNMENT {
            return Err(Error::malformed(format!("{count} blobs do not fit in {} bytes", data.len())));
        }
        Ok(Self { data, count, map: None })
    }

    /// Returns the memory of the mapped file to the system. Its bytes stay the same and are read again when needed.
    pub fn release_memory(&self) {
        if let Some(map) = &self.map {
            map.release();
        }
    }

    /// The number of blobs, according to the header.
    pub fn count(&self) -> u32 {
        self.count
    }

    /// Returns the blob whose metadata is at `offset`, in bytes.
    ///
    /// # Errors
    ///
    /// If there is no blob at `offset`, its metadata is invalid, or its data is outside the file.
    pub fn blob(&self, offset: u64) -> Result<Blob> {
        self.read(offset)
            .map(|(blob, _)| blob)
            .map_err(|what| Error::malformed(format!("weights at offset {offset}: {what}")))
    }

    /// Iterates over all blobs in file order, each with the offset of its metadata. Ends after the first error.
    pub fn blobs(&self) -> impl Iterator<Item = Result<(u64, Blob)>> + '_ {
        let mut next = (self.count > 0).then_some(ALIGNMENT);
        let mut left = self.count;
        std::iter::from_fn(move || {
            let offset = next.take()?;
            let found = self
                .read(offset)
                .map_err(|what| Error::malformed(format!("weights at offset {offset}: {what}")));
            Some(found.map(|(blob, end)| {
                left -= 1;
                next = if left == 0 { None } else { end.checked_next_multiple_of(ALIGNMENT) };
                (offset, blob)
            }))
        })
    }

    /// Reads the blob at `offset`; also returns the end of its data.
    fn read(&self, offset: u64) -> Result<(Blob, u64), String> {
        if offset < ALIGNMENT || !offset.is_multiple_of(ALIGNMENT) {
            return Err(format!("not a multiple of {ALIGNMENT} past the header"));
        }
        let metadata = Fields::at(&self.data, offset)
            .ok_or_else(|| format!("past the end ({} bytes)", self.data.len()))?;
        if metadata.u32(0) != SENTINEL {
            return Err("no blob starts there".to_owned());
        }
        let code = metadata.u32(4);
        let dtype = BlobType::from_code(code).ok_or_else(|| format!("unknown element type {code}"))?;
        let (size, start) = (metadata.u64(8), metadata.u64(16));
        let end = start.checked_add(size).filter(|&end| end <= self.data.len() as u64);
        let end = end.ok_or_else(|| {
            format!("{size} bytes of data at {start} end past the file ({} bytes)", self.data.len())
        })?;
        if start < offset + ALIGNMENT || !start.is_multiple_of(ALIGNMENT) {
            return Err(format!("its data claims to start at {start}"));
        }
        // Writers before iOS 18 left this field uninitialized, and had no type that needs it.
        let padding = if dtype.bits() < 8 { metadata.u64(24) } else { 0 };
        let bits = size.checked_mul(8).and_then(|bits| bits.checked_sub(padding)).filter(|_| padding < 8);
        let bits = bits.ok_or_else(|| format!("{padding} bits of padding in {size} bytes"))?;
        if !bits.is_multiple_of(dtype.bits().into()) {
            return Err(format!("{bits} bits are not a whole number of {dtype:?} elements"));
        }
        let len = bits / u64::from(dtype.bits());
        // Both fit: `end` is at most the length of a slice.
        let data = self.data.slice(start as usize..end as usize);
        Ok((Blob { dtype, len, data }, end))
    }
}

/// 64 bytes of header or metadata.
struct Fields<'a>(&'a [u8; ALIGNMENT as usize]);

impl<'a> Fields<'a> {
    fn at(data: &'a [u8], offset: u64) -> Option<Self> {
        data.get(usize::try_from(offset).ok()?..)?.first_chunk().map(Self)
    }

    fn u32(&self, at: usize) -> u32 {
        u32::from_le_bytes(*self.0[at..].first_chunk().expect("fixed offset"))
    }

    fn u64(&self, at: usize) -> u64 {
        u64::from_le_bytes(*self.0[at..].first_chunk().expect("fixed offset"))
    }
}

/// Writes a weight file, blob by blob.
///
/// Give it a buffered writer, positioned at its start. The file has a valid header only after [`finish`](Self::finish).
#[derive(Debug)]
pub struct BlobWriter<W> {
    inner: W,
    position: u64,
    count: u32,
}

impl<W: Write + Seek> BlobWriter<W> {
    /// Starts a file.
    ///
    /// # Errors
    ///
    /// If writing fails.
    pub fn new(mut inner: W) -> io::Result<Self> {
        inner.write_all(&[0; ALIGNMENT as usize])?;
        Ok(Self { inner, position: ALIGNMENT, count: 0 })
    }

    /// Appends `len` packed elements and returns the offset by which a program refers to them.
    ///
    /// # Errors
    ///
    /// If writing fails, or (`InvalidInput`) if `data` is not exactly `dtype.byte_len(len)` bytes.
    pub fn append(&mut self, dtype: BlobType, len: u64, data: &[u8]) -> io::Result<u64> {
        let size = data.len() as u64;
        if dtype.byte_len(len) != Some(size) {
            let what = format!("{len} elements of {dtype:?} are not {size} bytes");
            return Err(io::Error::new(io::ErrorKind::InvalidInput, what));
        }
        let too_long = || io::Error::new(io::ErrorKind::FileTooLarge, "too many blobs in one weight file");
        let count = self.count.checked_add(1).ok_or_else(too_long)?;
        let offset = self.position.checked_next_multiple_of(ALIGNMENT).ok_or_else(too_long)?;
        let start = offset.checked_add(ALIGNMENT).ok_or_else(too_long)?;
        let end = start.checked_add(size).ok_or_else(too_long)?;
        let padding = size * 8 - len * u64::from(dtype.bits());

        let mut metadata = [0; ALIGNMENT as usize];
        metadata[0..4].copy_from_slice(&SENTINEL.to_le_bytes());
        metadata[4..8].copy_from_slice(&dtype.code().to_le_bytes());
        metadata[8..16].copy_from_slice(&size.to_le_bytes());
        metadata[16..24].copy_from_slice(&start.to_le_bytes());
        metadata[24..32].copy_from_slice(&padding.to_le_bytes());
        self.inner.write_all(&[0; ALIGNMENT as usize][..(offset - self.position) as usize])?;
        self.inner.write_all(&metadata)?;
        self.inner.write_all(data)?;
        self.position = end;
        self.count = count;
        Ok(offset)
    }

    /// Writes the header, flushes, and returns the inner writer.
    ///
    /// # Errors
    ///
    /// If writing fails.
    pub fn finish(mut self) -> io::Result<W> {
        self.inner.seek(SeekFrom::Start(0))?;
        self.inner.write_all(&self.count.to_le_bytes())?;
        self.inner.write_all(&VERSION.to_le_bytes())?;
        self.inner.flush()?;
        Ok(self.inner)
    }
}
