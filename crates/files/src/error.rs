//! The error type of everything that reads and writes files.

use std::borrow::Cow;
use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

/// A result with this crate's [`Error`].
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Why a file could not be read or written.
///
/// [`kind`](Self::kind) is for programs and the `Display` text (`PATH: what is wrong`) for people; [`hint`](Self::hint)
/// gives advice.
pub struct Error(Box<Inner>);

struct Inner {
    kind: ErrorKind,
    message: Cow<'static, str>,
    path: Option<PathBuf>,
    hint: Option<Cow<'static, str>>,
    source: Option<Box<dyn std::error::Error + Send + Sync>>,
}

/// The kinds of [`Error`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ErrorKind {
    /// There is no such file, or the model refers to one that is missing.
    NotFound,
    /// A folder, a pipe or a device is where a file should be.
    NotAFile,
    /// The operating system failed: permissions, a full disk, a broken device.
    Io,
    /// The bytes do not follow the format.
    Malformed,
    /// The format is known, but Milwright does not read or write it.
    Unsupported,
    /// A bound on untrusted input is exceeded.
    LimitExceeded,
    /// There is something already where nothing should be replaced.
    Exists,
    /// The caller passed an invalid argument, such as data whose length does not fit its type.
    InvalidArgument,
}

impl Error {
    /// What kind of failure this is.
    pub fn kind(&self) -> ErrorKind {
        self.0.kind
    }

    /// The file or folder concerned, if there is one.
    pub fn path(&self) -> Option<&Path> {
        self.0.path.as_deref()
    }

    /// Advice, if there is any. Not part of the `Display` text.
    pub fn hint(&self) -> Option<&str> {
        self.0.hint.as_deref()
    }

    /// An error of this kind. The message says what is wrong; the file's path is added by [`at`](Self::at).
    pub fn new(kind: ErrorKind, message: impl Into<Cow<'static, str>>) -> Self {
        Self(Box::new(Inner { kind, message: message.into(), path: None, hint: None, source: None }))
    }

    /// Bytes that do not follow their format.
    pub fn malformed(message: impl Into<Cow<'static, str>>) -> Self {
        Self::new(ErrorKind::Malformed, message)
    }

    /// A bound that is exceeded.
    pub fn limit(message: impl Into<Cow<'static, str>>) -> Self {
        Self::new(ErrorKind::LimitExceeded, message)
    }

    /// An argument that is wrong.
    pub fn invalid(message: impl Into<Cow<'static, str>>) -> Self {
        Self::new(ErrorKind::InvalidArgument, message)
    }

    /// Something at a destination where nothing may be replaced.
    pub fn exists() -> Self {
        Self::new(ErrorKind::Exists, "it is there already")
            .with_hint("choose another name, or remove it first")
    }

    /// A form that is known and not handled.
    pub fn unsupported(message: impl Into<Cow<'static, str>>) -> Self {
        Self::new(ErrorKind::Unsupported, message)
    }

    /// The error of a failed system call; `doing` completes "cannot …".
    pub fn io(doing: &str, error: io::Error) -> Self {
        let (kind, hint) = match error.kind() {
            io::ErrorKind::NotFound => (ErrorKind::NotFound, Some("check the path")),
            io::ErrorKind::NotADirectory => {
                (ErrorKind::Io, Some("check the path: a file is where a folder should be"))
            }
            io::ErrorKind::InvalidInput => (ErrorKind::InvalidArgument, None),
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded | io::ErrorKind::FileTooLarge => {
                (ErrorKind::Io, Some("free some space, or write to another disk"))
            }
            io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem => {
                (ErrorKind::Io, Some("check the permissions of the file and of its folder"))
            }
            _ => (ErrorKind::Io, None),
        };
        let message = format!("cannot {doing}: {error}").into();
        Self(Box::new(Inner {
            kind,
            message,
            path: None,
            hint: hint.map(Cow::from),
            source: Some(error.into()),
        }))
    }

    /// A copy of this error, without its source.
    pub fn again(&self) -> Self {
        let Inner { kind, message, path, hint, .. } = &*self.0;
        let (message, path, hint) = (message.clone(), path.clone(), hint.clone());
        Self(Box::new(Inner { kind: *kind, message, path, hint, source: None }))
    }

    /// Adds the file's path, unless a lower layer has added a more precise one.
    #[must_use]
    pub fn at(mut self, path: impl Into<PathBuf>) -> Self {
        self.0.path.get_or_insert_with(|| path.into());
        self
    }

    /// Adds advice.
    #[must_use]
    pub fn with_hint(mut self, hint: impl Into<Cow<'static, str>>) -> Self {
        self.0.hint = Some(hint.into());
        self
    }

    /// Adds the error behind this one.
    #[must_use]
    pub fn with_source(mut self, source: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Self {
        self.0.source = Some(source.into());
        self
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0.path {
            Some(path) => write!(f, "{}: {}", path.display(), self.0.message),
            None => f.write_str(&self.0.message),
        }
    }
}

impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Error")
            .field("kind", &self.0.kind)
            .field("message", &self.0.message)
            .field("path", &self.0.path)
            .field("hint", &self.0.hint)
            .finish_non_exhaustive()
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.0.source.as_ref().map(|source| &**source as _)
    }
}
