//! A crash-safe, content-addressed store of compiled artifacts.
//!
//! The store knows bytes and keys; what they mean is the caller's business. One entry is one file, written once and
//! never changed in place, so that a reader can map it into memory and needs no lock:
//!
//! * **Write**: a unique temporary file in the same folder, `fsync`, rename over the final name, `fsync` of the folder.
//!   When [`Store::put`] has returned `Ok`, the entry survives a power cut; before that, a crash leaves the old entry,
//!   or none.
//! * **Read**: the header, its checksum, the key and the payload's checksum are verified. An entry that is cut short,
//!   damaged, of another format version or stored under a foreign name is a miss with a reason ([`Fault`]), never an
//!   error: [`Store::get_or_create`] builds it again.
//! * **Bound**: after every `put` the least recently used entries go until the total is below [`Options::max_bytes`].
//!
//! Artifacts that are folders have the same guarantees: [`Store::folder_or_create`].
//!
//! Many threads and processes may share a folder. Two that miss the same key at once build it once: the second waits on
//! an advisory file lock. The operating system drops the lock of a dead process, and the wait for a living one is
//! bounded by [`Options::wait`]. Correctness never rests on that lock; without it the work is done twice.
//!
//! Checksums find accidents, not attackers: whoever may write to the folder may store an entry of their choice. Folders
//! that the store makes are private to their owner.
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

mod entry;
mod error;
mod folder;
mod key;
mod storage;
mod store;

pub use entry::{Entry, Fault, Meta, PAYLOAD_ALIGN, Verify};
pub use error::Error;
pub use folder::{Folder, FolderError, Wait};
pub use key::{Key, KeyBuilder, ParseKeyError};
pub use storage::{Disk, FileInfo, LockGuard, NewFile, Storage, aligned_copy};
pub use store::{Cleared, EntryInfo, Fetched, Lookup, Options, Origin, Store, Verified};
