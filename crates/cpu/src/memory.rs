//! Aligned memory.

use bytes::Bytes;

/// Every buffer starts at a multiple of this many bytes: a cache line, and the widest vector register.
pub const ALIGN: usize = 64;

#[derive(Clone, Copy, bytemuck::Pod, bytemuck::Zeroable)]
#[repr(C, align(64))]
struct Line([u8; ALIGN]);

/// Zeroed bytes whose start is aligned to [`ALIGN`].
pub(crate) struct AlignedBytes {
    lines: Vec<Line>,
    len: usize,
}

impl AlignedBytes {
    /// `len` zero bytes. The pages are taken from the system when they are first touched.
    pub(crate) fn zeroed(len: usize) -> AlignedBytes {
        AlignedBytes { lines: bytemuck::zeroed_vec(len.div_ceil(ALIGN)), len }
    }

    pub(crate) fn as_mut(&mut self) -> &mut [u8] {
        &mut bytemuck::cast_slice_mut(&mut self.lines)[..self.len]
    }
}

impl AsRef<[u8]> for AlignedBytes {
    fn as_ref(&self) -> &[u8] {
        &bytemuck::cast_slice(&self.lines)[..self.len]
    }
}

/// A copy, in the byte order of the machine.
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

/// The same bytes, copied if they do not start at a multiple of `align`.
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
