//! The one error of the bridge.

use std::fmt;

/// A result with the bridge's [`Error`].
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// What went wrong. Of an `NSError` it has everything that a reader can use; nothing of Objective-C is left in it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Error {
    kind: ErrorKind,
    message: String,
    details: Option<Box<Details>>,
}

/// What an `NSError` carries besides its description.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Details {
    pub domain: String,
    pub code: i64,
    pub reason: Option<String>,
    pub recovery: Option<String>,
    pub underlying: Option<Error>,
}

/// Whose fault an [`Error`] is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ErrorKind {
    /// There is no Core ML on this system.
    Unavailable,
    /// This version of the system lacks it.
    Unsupported,
    /// An argument makes no sense: a path, a shape, a size.
    Invalid,
    /// An asynchronous prediction of the same model or state has not come back.
    Busy,
    /// It did not come back in the time that the caller gave.
    Timeout,
    /// It was cancelled.
    Cancelled,
    /// Core ML said no, with an `NSError`.
    Framework,
    /// Core ML threw an Objective-C exception.
    Exception,
    /// Core ML answered what it must not answer: nothing, neither result nor error, a wrong class, a wrong size.
    Protocol,
}

impl Error {
    pub(crate) fn new(kind: ErrorKind, message: impl Into<String>) -> Error {
        Error { kind, message: message.into(), details: None }
    }

    pub(crate) fn invalid(message: impl Into<String>) -> Error {
        Error::new(ErrorKind::Invalid, message)
    }

    #[cfg(any(target_vendor = "apple", milwright_standin, swift_linked))]
    pub(crate) fn protocol(message: impl Into<String>) -> Error {
        Error::new(ErrorKind::Protocol, message)
    }

    #[cfg(any(target_vendor = "apple", milwright_standin, swift_linked))]
    pub(crate) fn framework(message: String, details: Details) -> Error {
        Error { kind: ErrorKind::Framework, message, details: Some(Box::new(details)) }
    }

    /// Whose fault it is.
    pub fn kind(&self) -> ErrorKind {
        self.kind
    }

    /// What happened: of an `NSError`, its localized description.
    pub fn message(&self) -> &str {
        &self.message
    }

    /// The domain of an `NSError`, such as `com.apple.CoreML`.
    pub fn domain(&self) -> Option<&str> {
        self.details.as_ref().map(|d| &*d.domain)
    }

    /// The code of an `NSError`, which means something within its domain.
    pub fn code(&self) -> Option<i64> {
        self.details.as_ref().map(|d| d.code)
    }

    /// The failure reason of an `NSError`.
    pub fn reason(&self) -> Option<&str> {
        self.details.as_ref()?.reason.as_deref()
    }

    /// The recovery suggestion of an `NSError`: what to do about it.
    pub fn recovery(&self) -> Option<&str> {
        self.details.as_ref()?.recovery.as_deref()
    }

    /// The error below an `NSError`.
    pub fn underlying(&self) -> Option<&Error> {
        self.details.as_ref()?.underlying.as_ref()
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)?;
        if let Some(reason) = self.reason().filter(|reason| !self.message.contains(reason)) {
            write!(f, ": {reason}")?;
        }
        match &self.details {
            Some(details) => write!(f, " ({} {})", details.domain, details.code),
            None => Ok(()),
        }
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.underlying().map(|e| e as _)
    }
}
