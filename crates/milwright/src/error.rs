//! The library's error type.

use std::fmt;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

/// A result with the library's [`Error`].
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// What went wrong, where, and what to do about it.
///
/// It prints as one sentence that names the file, the function and the op where they are known. Advice is separate:
/// [`hint`](Error::hint).
#[derive(Debug)]
pub struct Error(Box<Inner>);

#[derive(Debug)]
struct Inner {
    kind: ErrorKind,
    path: Option<PathBuf>,
    message: String,
    hint: Option<String>,
    source: Option<Box<dyn std::error::Error + Send + Sync>>,
}

/// The category of an [`Error`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[non_exhaustive]
pub enum ErrorKind {
    /// A file cannot be read or written.
    Io,
    /// A model breaks the rules of its format.
    Malformed,
    /// A model uses something that Milwright knows of but does not handle.
    Unsupported,
    /// An input or an option is wrong: name, shape, element type, value.
    InvalidInput,
    /// There is something already where a result should go, and nothing is to be replaced.
    Exists,
    /// A result differs from the original by more than was allowed, or is NaN or infinite where the original is not.
    Tolerance,
    /// The backend is not available on this machine.
    Unavailable,
    /// A model failed while it ran.
    Runtime,
    /// A model needs more memory than its limit ([`Limits`](crate::Limits)), or than the machine has.
    OutOfMemory,
    /// The work was cancelled.
    Cancelled,
    /// The caller's deadline passed.
    DeadlineExceeded,
    /// The worker process ended, or was killed, before it answered. The next request starts another one.
    WorkerDied,
    /// The states of a session were lost with their worker process: reset the session.
    StateLost,
    /// The queue is full: try again later.
    Overloaded,
}

impl Error {
    /// An error of this kind. The message is a sentence that says what happened.
    pub fn new(kind: ErrorKind, message: impl Into<String>) -> Error {
        Error(Box::new(Inner { kind, path: None, message: message.into(), hint: None, source: None }))
    }

    pub(crate) fn invalid(message: impl Into<String>) -> Error {
        Error::new(ErrorKind::InvalidInput, message)
    }

    /// An error of the operating system. `action` completes "cannot … it".
    pub fn io(action: &str, path: &Path, source: std::io::Error) -> Error {
        Error::from(milwright_formats::Error::io(&format!("{action} it"), source)).at(path)
    }

    /// Names the file.
    #[must_use]
    pub fn at(mut self, path: impl AsRef<Path>) -> Error {
        self.0.path.get_or_insert_with(|| path.as_ref().to_owned());
        self
    }

    /// Prefixes the message with the part of the model that failed, such as `model 2 of the pipeline`.
    #[must_use]
    pub(crate) fn within(mut self, part: &str) -> Error {
        // A path set so far is that of the whole model; the caller that opened the model sets it again.
        self.0.path = None;
        self.0.message = format!("{part}: {}", self.0.message);
        self
    }

    /// Adds advice.
    #[must_use]
    pub fn with_hint(mut self, hint: impl Into<String>) -> Error {
        self.0.hint = Some(hint.into());
        self
    }

    pub(crate) fn with_message(mut self, message: String) -> Error {
        self.0.message = message;
        self
    }

    pub(crate) fn of_kind(mut self, kind: ErrorKind) -> Error {
        self.0.kind = kind;
        self
    }

    pub(crate) fn with_source(mut self, source: impl std::error::Error + Send + Sync + 'static) -> Error {
        self.0.source = Some(Box::new(source));
        self
    }

    /// The category.
    pub fn kind(&self) -> ErrorKind {
        self.0.kind
    }

    /// The sentence, without the file.
    pub(crate) fn message(&self) -> &str {
        &self.0.message
    }

    /// The file that it is about.
    pub fn path(&self) -> Option<&Path> {
        self.0.path.as_deref().or_else(|| self.path_below())
    }

    /// The file that the reader or writer beneath named: it is in the message.
    fn path_below(&self) -> Option<&Path> {
        let source: &(dyn std::error::Error + 'static) = &**self.0.source.as_ref()?;
        source.downcast_ref::<milwright_formats::Error>()?.path()
    }

    /// What to do about it.
    pub fn hint(&self) -> Option<&str> {
        self.0.hint.as_deref()
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(path) = &self.0.path {
            write!(f, "{}: ", path.display())?;
        }
        f.write_str(&self.0.message)
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.0.source.as_ref().map(|s| &**s as &(dyn std::error::Error + 'static))
    }
}

impl From<milwright_formats::Error> for Error {
    fn from(e: milwright_formats::Error) -> Error {
        use milwright_formats::ErrorKind as Kind;
        let kind = match e.kind() {
            Kind::NotFound | Kind::Io => ErrorKind::Io,
            Kind::Unsupported => ErrorKind::Unsupported,
            Kind::Exists => ErrorKind::Exists,
            Kind::InvalidArgument => ErrorKind::InvalidInput,
            _ => ErrorKind::Malformed,
        };
        let error = Error::new(kind, e.to_string());
        match e.hint().map(str::to_owned) {
            Some(hint) => error.with_hint(hint).with_source(e),
            None => error.with_source(e),
        }
    }
}

impl From<milwright_convert::Error> for Error {
    fn from(e: milwright_convert::Error) -> Error {
        use milwright_convert::ErrorKind as Kind;
        let kind = match e.kind() {
            Kind::Unsupported => ErrorKind::Unsupported,
            Kind::Weights => ErrorKind::Io,
            _ => ErrorKind::Malformed,
        };
        let error = Error::new(kind, e.to_string());
        match e.hint().map(str::to_owned) {
            Some(hint) => error.with_hint(hint).with_source(e),
            None => error.with_source(e),
        }
    }
}

impl From<milwright_cache::Error> for Error {
    fn from(e: milwright_cache::Error) -> Error {
        let error = Error::new(ErrorKind::Io, e.to_string());
        match e.hint() {
            Some(hint) => error.with_hint(hint).with_source(e),
            None => error.with_source(e),
        }
    }
}

impl From<milwright_mil::VerifyErrors> for Error {
    fn from(e: milwright_mil::VerifyErrors) -> Error {
        Error::new(ErrorKind::Malformed, format!("the program breaks the rules of MIL:\n{e}"))
            .with_hint("export the model again; if Core ML loads it, please report this as a bug")
            .with_source(e)
    }
}
