//! What crosses the border to Swift: entries that it knows by number, and texts.

use std::collections::BTreeMap;
use std::ffi::{CStr, CString, c_char};
use std::sync::{Mutex, PoisonError};

use crate::{Error, Result};

/// A table of entries by number. Swift only gets the number, so that a second or late callback finds no entry.
pub(super) struct Table<T>(Mutex<(u64, BTreeMap<u64, T>)>);

impl<T> Table<T> {
    pub const fn new() -> Table<T> {
        Table(Mutex::new((0, BTreeMap::new())))
    }

    /// Adds an entry and returns its number, which is never used again.
    pub fn add(&self, entry: T) -> u64 {
        let (last, entries) = &mut *self.0.lock().unwrap_or_else(PoisonError::into_inner);
        *last += 1;
        entries.insert(*last, entry);
        *last
    }

    pub fn take(&self, number: u64) -> Option<T> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).1.remove(&number)
    }
}

/// The memory of inputs, until Core ML releases it.
pub(super) static OWNERS: Table<Box<dyn Send>> = Table::new();

/// # Safety
/// `start` is null or a text that ends with a zero byte.
pub(super) unsafe fn text(start: *const c_char) -> Option<String> {
    // SAFETY: the caller says so.
    let text = (!start.is_null()).then(|| unsafe { CStr::from_ptr(start) });
    text.map(|text| text.to_string_lossy().into_owned())
}

/// Converts a text to a C string.
pub(super) fn c_text(text: &str, what: &str) -> Result<CString> {
    CString::new(text).map_err(|_| Error::invalid(format!("the {what} {text:?} has a zero byte")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entries_are_taken_once() {
        let table = Table::new();
        let (a, b) = (table.add("a"), table.add("b"));
        assert_eq!((table.take(a), table.take(a), table.take(b)), (Some("a"), None, Some("b")));
        assert!(table.add("c") > b);
    }
}
