//! The bridge's only error type.

use std::fmt;

/// A result with the bridge's [`Error`].
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// What went wrong. It keeps all that a reader can use of an `NSError`, as plain Rust data.
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

/// What kind of failure an [`Error`] is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ErrorKind {
    /// There is no Core ML on this system.
    Unavailable,
    /// This version of the system does not support it.
    Unsupported,
    /// An argument is invalid: a path, a shape, a size.
    Invalid,
    /// Another asynchronous prediction with the same model or state is in flight.
    Busy,
    /// It did not finish within the caller's timeout.
    Timeout,
    /// It was cancelled.
    Cancelled,
    /// Core ML failed, with an `NSError`.
    Framework,
    /// Core ML threw an Objective-C exception.
    Exception,
    /// Core ML broke its protocol: it returned nil, neither result nor error, a wrong class, or a wrong size.
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

    /// The kind of failure.
    pub fn kind(&self) -> ErrorKind {
        self.kind
    }

    /// The message: for an `NSError`, its localized description.
    pub fn message(&self) -> &str {
        &self.message
    }

    /// The domain of an `NSError`, such as `com.apple.CoreML`.
    pub fn domain(&self) -> Option<&str> {
        self.details.as_ref().map(|d| &*d.domain)
    }

    /// The code of an `NSError`; its meaning depends on the domain.
    pub fn code(&self) -> Option<i64> {
        self.details.as_ref().map(|d| d.code)
    }

    /// The failure reason of an `NSError`.
    pub fn reason(&self) -> Option<&str> {
        self.details.as_ref()?.reason.as_deref()
    }

    /// The recovery suggestion of an `NSError`.
    pub fn recovery(&self) -> Option<&str> {
        self.details.as_ref()?.recovery.as_deref()
    }

    /// The underlying error of an `NSError`.
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
