//! Files and folders that are complete or absent, on any system: what everything that Milwright stores rests on.
//!
//! * [`StagedFile`] and [`StagedFolder`] write under a temporary name, sync, and rename.
//! * [`open_regular`] opens files, and never waits for a pipe or reads a device.
//! * [`FileMap`] maps files into memory.
//! * [`locks`] has advisory locks on files and folders.
//! * [`disk`] has every call that changes the disk, so that tests (with the feature `faults`) can make each of them fail.
//!
//! Callers that map files must keep one rule: **do not truncate a file or rewrite it in place while it is mapped.** The
//! writers of this crate keep it: they write a new file and rename it.

pub mod disk;
mod error;
pub mod locks;
mod map;
mod regular;
mod staging;

#[cfg(feature = "faults")]
pub use disk::faults;
pub use error::{Error, ErrorKind, Result};
pub use map::{FileMap, aligned_copy, map_bytes, map_file, read_aligned};
pub use regular::{check_destination, is_device_name, open_regular, open_without_links};
pub use staging::{Existing, StagedFile, StagedFolder, abandon_writes, is_empty};
