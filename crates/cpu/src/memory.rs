//! Aligned memory and memory limits.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;

use crate::{DEFAULT_MEMORY, KernelError};

/// The alignment of every buffer: a cache line, and the widest vector register.
pub const ALIGN: usize = 64;

/// Steps with at least this many bytes of temporary copies first ask the system whether it has the memory.
const LARGE: usize = 64 << 20;

/// A memory budget for values with data-dependent sizes. Clones share the budget.
#[derive(Clone, Debug)]
pub struct Memory(Arc<Account>);

#[derive(Debug)]
struct Account {
    limit: u64,
    taken: AtomicU64,
}

impl Memory {
    /// A budget of `limit` bytes, of which `taken` are in use already.
    pub fn new(limit: u64, taken: u64) -> Memory {
        Memory(Arc::new(Account { limit, taken: taken.into() }))
    }

    /// Allocates `len` zero bytes. Dropping them returns them to the budget.
    ///
    /// # Errors
    /// The limit leaves less, or the system has less.
    pub(crate) fn zeroed(&self, len: usize) -> Result<AlignedBytes, KernelError> {
        let Account { limit, taken } = &*self.0;
        let before = taken.fetch_add(len as u64, Ordering::Relaxed);
        let charge = Charge { account: Arc::clone(&self.0), len: len as u64 };
        if before.saturating_add(len as u64) > *limit {
            return Err(exceeds(len as u64, before, *limit));
        }
        Ok(AlignedBytes { _charge: Some(charge), ..AlignedBytes::try_zeroed(len)? })
    }
}

/// The default limit, with nothing in use.
impl Default for Memory {
    fn default() -> Memory {
        Memory::new(DEFAULT_MEMORY, 0)
    }
}

/// Makes the error for a value that exceeds the limit.
pub(crate) fn exceeds(len: u64, taken: u64, limit: u64) -> KernelError {
    let taken = if taken == 0 { String::new() } else { format!(" on top of {}", size(taken)) };
    KernelError::Memory(format!("it needs {} of memory{taken}; the limit is {}", size(len), size(limit)))
}

/// Checks that the system has the memory for a step's temporary copies, if they are `LARGE`.
///
/// # Errors
/// The system does not have the memory.
pub(crate) fn ask_for(len: usize) -> Result<(), KernelError> {
    if len >= LARGE && Vec::<u8>::new().try_reserve_exact(len).is_err() {
        return Err(unavailable(len));
    }
    Ok(())
}

fn unavailable(len: usize) -> KernelError {
    KernelError::Memory(format!("the system does not have {} of memory for it", size(len as u64)))
}

/// Formats a number of bytes for people.
pub(crate) fn size(bytes: u64) -> String {
    let units = ["kB", "MB", "GB", "TB", "PB", "EB"];
    let (mut value, mut unit) = (bytes as f64 / 1e3, 0);
    while value >= 1e3 && unit + 1 < units.len() {
        (value, unit) = (value / 1e3, unit + 1);
    }
    if bytes < 1000 { format!("{bytes} bytes") } else { format!("{value:.1} {}", units[unit]) }
}

#[derive(Clone, Copy, bytemuck::Pod, bytemuck::Zeroable)]
#[repr(C, align(64))]
struct Line([u8; ALIGN]);

/// Zeroed bytes whose start is aligned to [`ALIGN`].
pub(crate) struct AlignedBytes {
    lines: Vec<Line>,
    len: usize,
    /// Returns the bytes to the budget when it is dropped.
    _charge: Option<Charge>,
}

/// Bytes that are taken from a budget.
struct Charge {
    account: Arc<Account>,
    len: u64,
}

impl Drop for Charge {
    fn drop(&mut self) {
        self.account.taken.fetch_sub(self.len, Ordering::Relaxed);
    }
}

impl AlignedBytes {
    /// Allocates `len` zero bytes. The system provides the pages when they are first touched.
    ///
    /// Aborts the process if the system does not have them. Where a model determines the size, use [`Memory::zeroed`]
    /// or [`try_zeroed`](AlignedBytes::try_zeroed) instead.
    pub(crate) fn zeroed(len: usize) -> AlignedBytes {
        let lines = bytemuck::zeroed_vec(len.div_ceil(ALIGN));
        want_large_pages(&lines);
        AlignedBytes { lines, len, _charge: None }
    }

    /// Like [`zeroed`](AlignedBytes::zeroed), but returns an error if the system does not have the memory.
    pub(crate) fn try_zeroed(len: usize) -> Result<AlignedBytes, KernelError> {
        let lines = bytemuck::try_zeroed_vec(len.div_ceil(ALIGN)).map_err(|()| unavailable(len))?;
        want_large_pages(&lines);
        Ok(AlignedBytes { lines, len, _charge: None })
    }

    pub(crate) fn as_mut(&mut self) -> &mut [u8] {
        &mut bytemuck::cast_slice_mut(&mut self.lines)[..self.len]
    }
}

/// Asks the system for large pages, which cost fewer faults and look-ups, if the memory is large enough for any.
#[cfg(target_os = "linux")]
fn want_large_pages(lines: &[Line]) {
    const LEAST: usize = 4 << 20;
    const PAGE: usize = 4096;
    let bytes: &[u8] = bytemuck::cast_slice(lines);
    if bytes.len() < LEAST {
        return;
    }
    let skip = bytes.as_ptr().align_offset(PAGE);
    let len = (bytes.len() - skip) / PAGE * PAGE;
    // SAFETY: the range is inside the allocation. The call changes neither what is mapped nor what it contains; if the
    // system refuses it, the pages stay small.
    unsafe {
        libc::madvise(bytes.as_ptr().add(skip).cast_mut().cast(), len, libc::MADV_HUGEPAGE);
    }
}

#[cfg(not(target_os = "linux"))]
fn want_large_pages(_: &[Line]) {}

impl AsRef<[u8]> for AlignedBytes {
    fn as_ref(&self) -> &[u8] {
        &bytemuck::cast_slice(&self.lines)[..self.len]
    }
}

/// Copies the floats, in the machine's byte order.
impl From<&[f32]> for AlignedBytes {
    fn from(values: &[f32]) -> AlignedBytes {
        let mut bytes = AlignedBytes::zeroed(size_of_val(values));
        bytes.as_mut().copy_from_slice(bytemuck::cast_slice(values));
        bytes
    }
}

impl From<AlignedBytes> for Bytes {
    fn from(bytes: AlignedBytes) -> Bytes {
        Bytes::from_owner(bytes)
    }
}

/// Returns the bytes, copied if they do not start at a multiple of `align`.
pub(crate) fn aligned(bytes: Bytes, align: usize) -> Bytes {
    if bytes.as_ptr().addr().is_multiple_of(align) {
        return bytes;
    }
    let mut copy = AlignedBytes::zeroed(bytes.len());
    copy.as_mut().copy_from_slice(&bytes);
    copy.into()
}

/// Rounds a size up to a multiple of [`ALIGN`].
pub(crate) fn align_up(len: usize) -> Option<usize> {
    len.checked_next_multiple_of(ALIGN)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_account_has_a_limit() {
        let memory = Memory::new(1000, 100);
        let first = memory.zeroed(800).unwrap();
        let error = memory.zeroed(101).err().unwrap().to_string();
        assert_eq!(error, "it needs 101 bytes of memory on top of 900 bytes; the limit is 1.0 kB");
        // Freed bytes can be taken again, and shared memory counts once.
        let shared: Bytes = first.into();
        let again = shared.clone();
        drop(shared);
        assert!(memory.zeroed(101).is_err());
        drop(again);
        assert!(memory.zeroed(900).is_ok());
    }

    #[test]
    fn what_the_system_does_not_have_is_an_error() {
        assert!(Memory::new(u64::MAX, 0).zeroed(isize::MAX as usize / 2).is_err());
        assert!(ask_for(isize::MAX as usize / 2).is_err());
        assert!(ask_for(LARGE).is_ok());
    }
}
