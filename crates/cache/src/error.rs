//! The store's error type.

use std::io;
use std::path::PathBuf;

/// Why something could not be stored, listed or removed. Reading never fails: see [`Lookup`](crate::Lookup).
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A file operation failed.
    #[error("cannot {action} '{}': {source}", path.display())]
    Io {
        /// The operation, such as `write`.
        action: &'static str,
        /// The file or folder.
        path: PathBuf,
        /// The file system's error.
        source: io::Error,
    },
    /// The entry alone is larger than the limit for the whole store.
    #[error("an entry of {size} bytes does not fit in a cache of at most {max} bytes")]
    TooLarge {
        /// Size of the entry's file in bytes.
        size: u64,
        /// [`Options::max_bytes`](crate::Options::max_bytes).
        max: u64,
    },
}

impl Error {
    /// Advice for the user, where there is any.
    pub fn hint(&self) -> Option<&'static str> {
        match self {
            Self::Io { source, .. } => match source.kind() {
                io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded | io::ErrorKind::FileTooLarge => {
                    Some("free some space, clear the cache, or choose a cache folder on another disk")
                }
                io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem => {
                    Some("choose a cache folder that this user may write to")
                }
                io::ErrorKind::NotADirectory | io::ErrorKind::AlreadyExists => {
                    Some("a file is where the cache folder should be: choose another cache folder")
                }
                _ => None,
            },
            Self::TooLarge { .. } => Some("raise the size limit of the cache"),
        }
    }
}
