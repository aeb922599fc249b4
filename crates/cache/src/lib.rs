//! A crash-safe, content-addressed store of compiled artifacts.
//!
//! The store knows bytes and keys; the caller knows what they mean. An entry is one file, written once and never
//! changed in place, so that a reader can map it into memory and needs no lock:
//!
//! * **Write**: a unique temporary file in the same folder, `fsync`, rename to the final name, `fsync` of the folder.
//!   After [`Store::put`] has returned `Ok`, the entry survives a power cut. A crash before that leaves the old entry,
//!   or none.
//! * **Read**: the store checks the header, its checksum, the key and the payload's checksum. An entry that is
//!   truncated, damaged, of another format version or under the name of another key is a miss with a reason
//!   ([`Fault`]), never an error: [`Store::get_or_create`] builds it again.
//! * **Size limit**: every `put` evicts the least recently used entries until the total is at most
//!   [`Options::max_bytes`].
//!
//! Artifacts that are folders ([`Store::folder_or_create`]) have the same guarantees.
//!
//! Many threads and processes may share a folder. If two miss the same key at the same time, one builds it and the
//! other waits on an advisory file lock. The operating system releases the lock when its process dies, and
//! [`Options::wait`] limits the wait for a living process. The lock only saves work: without it, both build the entry,
//! and the result is the same.
//!
//! Checksums detect accidental damage, not attacks: anybody who may write to the folder can store any entry. Folders
//! that the store creates are private to their owner.
//!
//! ```
//! use milwright_cache::{KeyBuilder, Meta, Options, Store};
//!
//! # let folder = tempfile::tempdir()?;
//! # let dir = folder.path().join("plans");
//! let store = Store::open(&dir, Options::default())?;
//! let key = KeyBuilder::new("plan").field("model", b"model bytes").field("cpu", b"avx2,fma").finish();
//! let meta = Meta::new("plan", "digits");
//! let compile = || Ok::<_, std::convert::Infallible>(b"compiled".to_vec());
//! let first = store.get_or_create(&key, &meta, compile)?;
//! assert_eq!(&first.payload[..], b"compiled");
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

#![forbid(unsafe_code)]

mod entry;
mod error;
mod key;
mod storage;
mod store;

pub use entry::{Entry, Fault, Meta, PAYLOAD_ALIGN, Verify};
pub use error::Error;
pub use key::{Key, KeyBuilder, ParseKeyError};
pub use storage::{Disk, FileInfo, LockGuard, NewFile, Storage};
pub use store::{
    Cleared, EntryInfo, Fetched, Folder, FolderError, Lookup, Options, Origin, Store, Verified, Wait,
};
