//! The memory for intermediate results: one allocation from which steps borrow ranges.

use std::ops::Range;
use std::ptr::NonNull;

use crate::KernelError;
use crate::memory::AlignedBytes;

/// One allocation whose ranges can be borrowed independently.
pub(super) struct Arena {
    /// Owns the allocation, which is only reached through `start`.
    _memory: AlignedBytes,
    start: NonNull<u8>,
    len: usize,
}

// SAFETY: an arena owns its memory, like a `Vec<u8>`; `start` points into it, even after the arena moves.
unsafe impl Send for Arena {}

impl Arena {
    /// Allocates zeroed memory, aligned to 64.
    ///
    /// # Errors
    /// The system does not have the memory.
    pub(super) fn new(len: usize) -> Result<Arena, KernelError> {
        let mut memory = AlignedBytes::try_zeroed(len)?;
        let start = NonNull::from(memory.as_mut()).cast();
        Ok(Arena { _memory: memory, start, len })
    }

    /// Borrows a range for reading.
    ///
    /// # Safety
    /// No overlapping range may be borrowed through [`write`](Arena::write) while the result lives.
    ///
    /// # Panics
    /// The range is not within the arena.
    pub(super) unsafe fn read(&self, range: Range<usize>) -> &[u8] {
        assert!(
            range.start <= range.end && range.end <= self.len,
            "a plan's ranges are checked when it is loaded"
        );
        // SAFETY: the range is within the allocation, whose bytes are initialized; the caller rules out writers.
        unsafe { std::slice::from_raw_parts(self.start.as_ptr().add(range.start), range.len()) }
    }

    /// Borrows a range for writing.
    ///
    /// # Safety
    /// No overlapping range may be borrowed at all while the result lives.
    ///
    /// # Panics
    /// The range is not within the arena.
    #[expect(
        clippy::mut_from_ref,
        reason = "disjoint ranges are borrowed together; the caller keeps them apart"
    )]
    pub(super) unsafe fn write(&self, range: Range<usize>) -> &mut [u8] {
        assert!(
            range.start <= range.end && range.end <= self.len,
            "a plan's ranges are checked when it is loaded"
        );
        // SAFETY: the range is within the allocation, whose bytes are initialized; the caller rules out other borrows.
        unsafe { std::slice::from_raw_parts_mut(self.start.as_ptr().add(range.start), range.len()) }
    }
}
