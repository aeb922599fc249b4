//! The file format of an entry. All numbers are little-endian.
//!
//! | bytes | what |
//! |---|---|
//! | 0..8 | [`MAGIC`] |
//! | 8..12 | [`FORMAT`] |
//! | 12..16 | length of the metadata |
//! | 16..24 | length of the payload |
//! | 24..32 | when it was made, seconds since 1970 |
//! | 32..64 | the key |
//! | 64..96 | BLAKE3 of the payload |
//! | 96..128 | BLAKE3 of bytes 0..96 and 128..(start of the payload) |
//! | 128.. | the metadata: kind and model, each with a `u16` length; zeros up to a multiple of 64 |
//! | … | the payload, to the end of the file |

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use bytes::Bytes;

use crate::Key;

/// Name of the file that lists an artifact's files.
pub(crate) const LIST: &str = "entry";

/// Payloads start at a multiple of this many bytes, in the file and in memory.
pub const PAYLOAD_ALIGN: usize = 64;

/// Not text, and changed by any program that rewrites line endings.
const MAGIC: [u8; 8] = *b"\x89MWC\r\n\x1a\n";
const FORMAT: u32 = 1;
const FIXED: usize = 128;
const MAX_NAME: usize = 1024;
const MAX_META: usize = 2 * (2 + MAX_NAME);
/// The longest header, with metadata and padding.
pub(crate) const MAX_HEADER: usize = (FIXED + MAX_META).next_multiple_of(PAYLOAD_ALIGN);

/// The description of an entry in a listing. It is not part of the key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Meta {
    kind: String,
    model: String,
}

impl Meta {
    /// `kind` names the sort of artifact, `model` the model it was made from. Both are truncated to 1,024 bytes, so
    /// that a long name does not keep an artifact out of the cache.
    pub fn new(kind: &str, model: &str) -> Self {
        let cut = |name: &str| name[..name.floor_char_boundary(MAX_NAME)].to_owned();
        Self { kind: cut(kind), model: cut(model) }
    }

    /// The sort of artifact, such as `plan`.
    pub fn kind(&self) -> &str {
        &self.kind
    }

    /// The model that it was made from.
    pub fn model(&self) -> &str {
        &self.model
    }

    fn encode(&self) -> Vec<u8> {
        let mut out = Vec::new();
        for name in [&self.kind, &self.model] {
            out.extend_from_slice(&(name.len() as u16).to_le_bytes());
            out.extend_from_slice(name.as_bytes());
        }
        out
    }

    fn decode(mut bytes: &[u8]) -> Option<Self> {
        let mut name = || {
            let (len, rest) = bytes.split_first_chunk::<2>()?;
            let (name, rest) = rest.split_at_checked(usize::from(u16::from_le_bytes(*len)))?;
            bytes = rest;
            Some(std::str::from_utf8(name).ok()?.to_owned())
        };
        let meta = Self { kind: name()?, model: name()? };
        bytes.is_empty().then_some(meta)
    }
}

/// How much of an entry is checked when it is loaded.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Verify {
    /// The header and the checksum of the whole payload. The default, because BLAKE3 reads some gigabytes a second, the
    /// first run needs the same pages anyway, and an undetected flipped bit in a weight would give wrong results.
    #[default]
    Full,
    /// The header, the key and the file's length, but not the payload, so that loading time does not depend on the
    /// size. For folders on storage with checksums of its own. [`Store::verify`](crate::Store::verify) still reads
    /// everything.
    Header,
}

/// A stored artifact.
#[derive(Clone, Debug)]
pub struct Entry {
    /// Its description.
    pub meta: Meta,
    /// When it was stored, to the second.
    pub created: SystemTime,
    /// Its bytes, aligned to [`PAYLOAD_ALIGN`]. A large file is mapped where the platform can.
    pub payload: Bytes,
}

/// What is wrong with an entry.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Fault {
    /// The file cannot be read; the text is the file system's error.
    #[error("the file cannot be read: {0}")]
    Unreadable(String),
    /// The file is shorter than a header.
    #[error("the file is too short for a header ({0} bytes)")]
    NoHeader(u64),
    /// The file is not a cache entry.
    #[error("the file is not a cache entry")]
    NotAnEntry,
    /// The entry was written by a version of the store with another format.
    #[error("the entry has format {0}; this version reads format {FORMAT}")]
    Format(u32),
    /// The header does not match its checksum.
    #[error("the header is damaged")]
    Header,
    /// The entry was stored under another key; or, for a folder, its artifact has another name.
    #[error("the entry belongs to another key")]
    OtherKey,
    /// The file is shorter or longer than the header says.
    #[error("the file has {found} bytes where its header says {expected}")]
    Length {
        /// Bytes that the header promises.
        expected: u64,
        /// Bytes that the file has.
        found: u64,
    },
    /// The payload does not match its checksum.
    #[error("the payload is damaged")]
    Payload,
    /// A file of a folder entry is missing.
    #[error("the file '{0}' is missing")]
    Missing(String),
}

/// A header whose own checksum matched.
#[derive(Debug)]
pub(crate) struct Header {
    pub(crate) meta: Meta,
    pub(crate) created: SystemTime,
    payload_start: usize,
    payload_hash: [u8; 32],
}

/// Encodes the header that precedes `payload` in the file.
pub(crate) fn encode_header(key: &Key, meta: &Meta, created: SystemTime, payload: &[u8]) -> Vec<u8> {
    let meta = meta.encode();
    let seconds = created.duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
    let mut out = Vec::with_capacity(MAX_HEADER);
    out.extend_from_slice(&MAGIC);
    out.extend_from_slice(&FORMAT.to_le_bytes());
    out.extend_from_slice(&(meta.len() as u32).to_le_bytes());
    out.extend_from_slice(&(payload.len() as u64).to_le_bytes());
    out.extend_from_slice(&seconds.to_le_bytes());
    out.extend_from_slice(key.as_bytes());
    out.extend_from_slice(blake3::hash(payload).as_bytes());
    out.extend_from_slice(&[0; 32]);
    out.extend_from_slice(&meta);
    out.resize(out.len().next_multiple_of(PAYLOAD_ALIGN), 0);
    let checksum = header_checksum(&out);
    out[96..FIXED].copy_from_slice(&checksum);
    out
}

/// Decodes and checks `file`, the whole content of the file stored under `key`.
pub(crate) fn decode(file: &Bytes, key: &Key, verify: Verify) -> Result<Entry, Fault> {
    let head = &file[..file.len().min(MAX_HEADER)];
    let header = decode_header(head, file.len() as u64, key)?;
    let payload = file.slice(header.payload_start..);
    if verify == Verify::Full && *blake3::hash(&payload).as_bytes() != header.payload_hash {
        return Err(Fault::Payload);
    }
    Ok(Entry { meta: header.meta, created: header.created, payload })
}

/// Decodes a header from the start of a file (its first [`MAX_HEADER`] bytes, or all of it) and checks the file's
/// length against it.
pub(crate) fn decode_header(head: &[u8], file_len: u64, key: &Key) -> Result<Header, Fault> {
    let Some((fixed, _)) = head.split_first_chunk::<FIXED>() else {
        return Err(Fault::NoHeader(file_len));
    };
    if fixed[..8] != MAGIC {
        return Err(Fault::NotAnEntry);
    }
    let format = u32_at(fixed, 8);
    if format != FORMAT {
        return Err(Fault::Format(format));
    }
    let meta_len = u32_at(fixed, 12) as usize;
    if meta_len > MAX_META {
        return Err(Fault::Header);
    }
    let payload_start = (FIXED + meta_len).next_multiple_of(PAYLOAD_ALIGN);
    let header = head.get(..payload_start).ok_or(Fault::NoHeader(file_len))?;
    if header_checksum(header) != fixed[96..FIXED] {
        return Err(Fault::Header);
    }
    if fixed[32..64] != *key.as_bytes() {
        return Err(Fault::OtherKey);
    }
    let expected = u64_at(fixed, 16).checked_add(payload_start as u64).ok_or(Fault::Header)?;
    if expected != file_len {
        return Err(Fault::Length { expected, found: file_len });
    }
    let meta = Meta::decode(&header[FIXED..FIXED + meta_len]).ok_or(Fault::Header)?;
    let created = UNIX_EPOCH.checked_add(Duration::from_secs(u64_at(fixed, 24))).ok_or(Fault::Header)?;
    let mut payload_hash = [0; 32];
    payload_hash.copy_from_slice(&fixed[64..96]);
    Ok(Header { meta, created, payload_start, payload_hash })
}

/// The checksum of a whole header, without the checksum field. `header` has at least [`FIXED`] bytes.
fn header_checksum(header: &[u8]) -> [u8; 32] {
    *blake3::Hasher::new().update(&header[..96]).update(&header[FIXED..]).finalize().as_bytes()
}

fn u32_at(fixed: &[u8; FIXED], at: usize) -> u32 {
    u32::from_le_bytes(std::array::from_fn(|i| fixed[at + i]))
}

fn u64_at(fixed: &[u8; FIXED], at: usize) -> u64 {
    u64::from_le_bytes(std::array::from_fn(|i| fixed[at + i]))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::KeyBuilder;

    fn sample(payload: &[u8]) -> (Key, Vec<u8>) {
        let key = KeyBuilder::new("test").field("n", payload).finish();
        let created = UNIX_EPOCH + Duration::from_secs(1_700_000_000);
        let mut file = encode_header(&key, &Meta::new("plan", "a model"), created, payload);
        file.extend_from_slice(payload);
        (key, file)
    }

    #[test]
    fn round_trips() {
        for payload in [&b""[..], b"x", &[7; 1000]] {
            let (key, file) = sample(payload);
            assert_eq!((file.len() - payload.len()) % PAYLOAD_ALIGN, 0);
            let entry = decode(&file.into(), &key, Verify::Full).unwrap();
            assert_eq!(&entry.payload[..], payload);
            assert_eq!((entry.meta.kind(), entry.meta.model()), ("plan", "a model"));
            assert_eq!(entry.created, UNIX_EPOCH + Duration::from_secs(1_700_000_000));
        }
    }

    #[test]
    fn every_flipped_bit_is_found() {
        let (key, file) = sample(&[7; 100]);
        for at in 0..file.len() {
            for bit in 0..8 {
                let mut bad = file.clone();
                bad[at] ^= 1 << bit;
                decode(&bad.into(), &key, Verify::Full).expect_err(&format!("byte {at}, bit {bit}"));
            }
        }
    }

    #[test]
    fn every_wrong_length_is_found() {
        let (key, file) = sample(&[7; 100]);
        for len in 0..file.len() {
            for verify in [Verify::Full, Verify::Header] {
                decode(&file[..len].to_vec().into(), &key, verify).expect_err(&format!("{len} bytes"));
            }
        }
        let longer = [&file[..], b"\0"].concat();
        assert!(matches!(decode(&longer.into(), &key, Verify::Header), Err(Fault::Length { .. })));
    }

    #[test]
    fn another_key_is_found() {
        let (_, file) = sample(b"one");
        let (other, _) = sample(b"two");
        assert_eq!(decode(&file.into(), &other, Verify::Full).unwrap_err(), Fault::OtherKey);
    }

    #[test]
    fn long_names_are_cut_between_characters() {
        let meta = Meta::new("k", &"é".repeat(2000));
        assert_eq!(meta.model().len(), 1024);
        let meta = Meta::new("k", &format!("x{}", "é".repeat(2000)));
        assert_eq!(meta.model().len(), 1023);
        assert_eq!(Meta::decode(&meta.encode()), Some(meta));
    }
}
