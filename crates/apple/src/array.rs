//! Arrays over plain memory.

use std::fmt;
use std::ptr;
use std::sync::Arc;

use bytes::Bytes;

use crate::{Error, Result};

/// The element types of Core ML's arrays.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ElementType {
    /// 16-bit floating point; macOS 12.
    Float16,
    /// 32-bit floating point.
    Float32,
    /// 64-bit floating point.
    Float64,
    /// 8-bit signed integers; macOS 26.
    Int8,
    /// 32-bit signed integers.
    Int32,
}

impl ElementType {
    /// Bytes of one element.
    pub fn size(self) -> usize {
        match self {
            ElementType::Int8 => 1,
            ElementType::Float16 => 2,
            ElementType::Float32 | ElementType::Int32 => 4,
            ElementType::Float64 => 8,
        }
    }
}

/// An array over shared memory. Core ML reads that memory itself; nothing is copied on the way in.
#[derive(Clone, PartialEq, Eq)]
pub struct Array {
    element: ElementType,
    shape: Vec<usize>,
    /// One per dimension, in elements.
    strides: Vec<usize>,
    data: Bytes,
}

impl Array {
    /// Creates an array of packed elements, outermost dimension first, in the machine's byte order.
    ///
    /// # Errors
    /// `data` has another length than the shape needs, or the size overflows.
    pub fn new(element: ElementType, shape: &[usize], data: Bytes) -> Result<Array> {
        let expected = packed_len(element, shape)?;
        if data.len() != expected {
            let actual = data.len();
            return Err(Error::invalid(format!(
                "an array of {shape:?} {element:?} has {expected} bytes, not {actual}"
            )));
        }
        Ok(Array { element, shape: shape.to_vec(), strides: packed_strides(shape), data })
    }

    /// Creates an array with gaps between its elements: `strides` has one number of elements for each dimension.
    ///
    /// # Errors
    /// The number of strides differs from the number of dimensions, or an element would lie outside `data`.
    pub fn strided(element: ElementType, shape: &[usize], strides: &[usize], data: Bytes) -> Result<Array> {
        let needed = span(element, shape, strides)?;
        if needed > data.len() {
            let actual = data.len();
            return Err(Error::invalid(format!(
                "an array of {shape:?} {element:?} with the strides {strides:?} needs {needed} bytes, not {actual}"
            )));
        }
        Ok(Array { element, shape: shape.to_vec(), strides: strides.to_vec(), data })
    }

    /// The element type.
    pub fn element(&self) -> ElementType {
        self.element
    }

    /// The dimensions, outermost first.
    pub fn shape(&self) -> &[usize] {
        &self.shape
    }

    /// Elements from one index to the next, for each dimension.
    pub fn strides(&self) -> &[usize] {
        &self.strides
    }

    /// All of the memory, including the gaps that strides leave.
    pub fn data(&self) -> &Bytes {
        &self.data
    }

    /// The elements without gaps: the memory itself if it has none, otherwise a copy.
    pub fn packed(&self) -> Bytes {
        let len = self.shape.iter().product::<usize>() * self.element.size();
        if is_packed(&self.shape, &self.strides) {
            return self.data.slice(..len);
        }
        gather(&self.data, self.element.size(), &self.shape, &self.strides).into()
    }
}

impl fmt::Debug for Array {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?} {:?} strides {:?}, {} bytes", self.element, self.shape, self.strides, self.data.len())
    }
}

/// Memory for an output. A prediction writes to it and returns it as the memory of an [`Array`].
#[derive(Debug)]
pub struct Backing {
    element: ElementType,
    shape: Vec<usize>,
    memory: Memory,
}

impl Backing {
    /// Allocates memory, all zero.
    ///
    /// # Errors
    /// The size overflows.
    pub fn new(element: ElementType, shape: &[usize]) -> Result<Backing> {
        let words = packed_len(element, shape)?.div_ceil(size_of::<u64>());
        Backing::over(element, shape, Words(vec![0; words]))
    }

    /// Uses the caller's memory, which must have at least the bytes of the packed elements. It is dropped with the
    /// array.
    ///
    /// # Errors
    /// The memory is too small, it is not aligned to its elements, or the size overflows.
    pub fn over(
        element: ElementType,
        shape: &[usize],
        memory: impl AsMut<[u8]> + Send + 'static,
    ) -> Result<Backing> {
        let len = packed_len(element, shape)?;
        let mut region = Region { start: ptr::null_mut(), len, owner: Box::into_raw(Box::new(memory)) };
        // SAFETY: only the region has the owner, which lives as long as the region.
        let slice = unsafe { (*region.owner).bytes() };
        if slice.len() < len {
            let actual = slice.len();
            return Err(Error::invalid(format!(
                "the memory of an output has {actual} bytes, it needs {len}"
            )));
        }
        let start = slice.as_mut_ptr();
        if !start.addr().is_multiple_of(element.size()) {
            return Err(Error::invalid("the memory of an output is not aligned to its elements"));
        }
        region.start = start;
        Ok(Backing { element, shape: shape.to_vec(), memory: Memory(Arc::new(region)) })
    }

    /// The element type.
    pub fn element(&self) -> ElementType {
        self.element
    }

    /// The dimensions, outermost first.
    pub fn shape(&self) -> &[usize] {
        &self.shape
    }

    #[cfg(any(target_vendor = "apple", milwright_standin))]
    pub(crate) fn memory(&self) -> &Memory {
        &self.memory
    }

    /// Bytes of the output.
    pub fn size(&self) -> usize {
        self.memory.0.len
    }
}

/// Zeroed memory, aligned for every element type.
struct Words(Vec<u64>);

impl AsMut<[u8]> for Words {
    fn as_mut(&mut self) -> &mut [u8] {
        let len = size_of_val(self.0.as_slice());
        // SAFETY: the vector's memory is initialised, `len` bytes long, and any bytes are a u64; the borrow of `self`
        // keeps it exclusive.
        unsafe { std::slice::from_raw_parts_mut(self.0.as_mut_ptr().cast(), len) }
    }
}

trait Owner: Send {
    fn bytes(&mut self) -> &mut [u8];
}

impl<T: AsMut<[u8]> + Send> Owner for T {
    fn bytes(&mut self) -> &mut [u8] {
        self.as_mut()
    }
}

/// The memory of a [`Backing`]: Core ML writes to it during one prediction; afterwards it is only read.
#[derive(Clone)]
pub(crate) struct Memory(Arc<Region>);

struct Region {
    start: *mut u8,
    len: usize,
    /// A raw pointer from a `Box`, because moving a `Box` would assert exclusive access to its content and invalidate
    /// `start`. It is never used again, only dropped.
    owner: *mut dyn Owner,
}

impl Drop for Region {
    fn drop(&mut self) {
        // SAFETY: the pointer comes from `Box::into_raw`, and this runs once.
        drop(unsafe { Box::from_raw(self.owner) });
    }
}

// SAFETY: the owner is Send, and the pointer is to memory that the owner keeps. Nobody writes through it while it is
// shared: `Backing` is not Clone, a prediction takes it by value, and the caller can only read what it gets back.
unsafe impl Send for Region {}
// SAFETY: as above; the owner is not reachable by reference.
unsafe impl Sync for Region {}

impl Memory {
    /// The start of the memory. Only Core ML writes there, and only during the one prediction that took the backing.
    #[cfg(any(target_vendor = "apple", milwright_standin))]
    pub(crate) fn start(&self) -> *mut u8 {
        self.0.start
    }

    /// The memory for reading, once the prediction that wrote it is over.
    #[cfg(any(target_vendor = "apple", milwright_standin))]
    pub(crate) fn into_bytes(self) -> Bytes {
        Bytes::from_owner(self)
    }
}

impl fmt::Debug for Memory {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} bytes", self.0.len)
    }
}

impl AsRef<[u8]> for Memory {
    fn as_ref(&self) -> &[u8] {
        // SAFETY: `start` and `len` are those of the owner's initialised slice, which lives as long as the region. It
        // is called when the prediction is over: see `into_bytes`.
        unsafe { std::slice::from_raw_parts(self.0.start, self.0.len) }
    }
}

/// The strides of an array without gaps.
pub(crate) fn packed_strides(shape: &[usize]) -> Vec<usize> {
    let mut strides = vec![1; shape.len()];
    for i in (1..shape.len()).rev() {
        strides[i - 1] = strides[i] * shape[i].max(1);
    }
    strides
}

/// Whether an array has no gaps. The stride of a dimension of length 1 does not matter.
pub(crate) fn is_packed(shape: &[usize], strides: &[usize]) -> bool {
    shape.contains(&0)
        || packed_strides(shape)
            .iter()
            .zip(strides)
            .zip(shape)
            .all(|((want, have), n)| *n == 1 || want == have)
}

/// The size in bytes of an array without gaps.
pub(crate) fn packed_len(element: ElementType, shape: &[usize]) -> Result<usize> {
    // The product ignores zeros, because strides are computed from it, too.
    shape
        .iter()
        .try_fold(element.size(), |n, d| n.checked_mul((*d).max(1)))
        .filter(|n| isize::try_from(*n).is_ok())
        .map(|n| if shape.contains(&0) { 0 } else { n })
        .ok_or_else(|| Error::invalid(format!("the size of an array of {shape:?} overflows")))
}

/// Bytes from the first element to the end of the last.
pub(crate) fn span(element: ElementType, shape: &[usize], strides: &[usize]) -> Result<usize> {
    packed_len(element, shape)?;
    if shape.len() != strides.len() {
        return Err(Error::invalid(format!(
            "the shape {shape:?} and the strides {strides:?} differ in length"
        )));
    }
    if shape.contains(&0) {
        return Ok(0);
    }
    shape
        .iter()
        .zip(strides)
        .try_fold(1usize, |n, (d, s)| n.checked_add((d - 1).checked_mul(*s)?))
        .and_then(|n| n.checked_mul(element.size()))
        .filter(|n| isize::try_from(*n).is_ok())
        .ok_or_else(|| Error::invalid(format!("the strides {strides:?} of the shape {shape:?} overflow")))
}

/// Copies the elements of `data` to memory without gaps. The caller has compared [`span`] with the length of `data`.
pub(crate) fn gather(data: &[u8], size: usize, shape: &[usize], strides: &[usize]) -> Vec<u8> {
    let mut packed = Vec::with_capacity(shape.iter().product::<usize>() * size);
    each(shape, strides, |at| packed.extend_from_slice(&data[at * size..][..size]));
    packed
}

/// Copies packed elements to the places that the strides give. The caller has compared [`span`] with the length of
/// `data`.
#[cfg(any(target_vendor = "apple", milwright_standin, swift_linked))]
pub(crate) fn scatter(packed: &[u8], data: &mut [u8], size: usize, shape: &[usize], strides: &[usize]) {
    let mut elements = packed.chunks_exact(size);
    each(shape, strides, |at| {
        if let Some(element) = elements.next() {
            data[at * size..][..size].copy_from_slice(element);
        }
    });
}

/// Calls `call` with the offset of every element, the last dimension fastest.
fn each(shape: &[usize], strides: &[usize], mut call: impl FnMut(usize)) {
    if shape.contains(&0) {
        return;
    }
    let mut index = vec![0; shape.len()];
    let mut at = 0;
    loop {
        call(at);
        let mut d = shape.len();
        loop {
            if d == 0 {
                return;
            }
            d -= 1;
            if index[d] + 1 < shape[d] {
                index[d] += 1;
                at += strides[d];
                break;
            }
            at -= strides[d] * index[d];
            index[d] = 0;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn numbers(n: u8) -> Bytes {
        (0..n).collect::<Vec<u8>>().into()
    }

    #[test]
    fn packed_arrays_share_their_memory() {
        let data = numbers(24);
        let array = Array::new(ElementType::Float32, &[2, 3], data.clone()).unwrap();
        assert_eq!(array.strides(), [3, 1]);
        assert_eq!(array.packed().as_ptr(), data.as_ptr());
        // Bytes behind the elements do not belong to them; the stride of a single row does not matter.
        let longer = Array::strided(ElementType::Float32, &[1, 3], &[99, 1], data.slice(4..20)).unwrap();
        assert_eq!(longer.packed(), data.slice(4..16));
        assert_eq!(longer.packed().as_ptr(), data[4..].as_ptr());
    }

    #[test]
    fn strides_are_followed() {
        // Two rows of three elements in rows of four, and the same read by columns.
        let rows = Array::strided(ElementType::Int8, &[2, 3], &[4, 1], numbers(8)).unwrap();
        assert_eq!(&rows.packed()[..], [0, 1, 2, 4, 5, 6]);
        let columns = Array::strided(ElementType::Int8, &[3, 2], &[1, 4], numbers(8)).unwrap();
        assert_eq!(&columns.packed()[..], [0, 4, 1, 5, 2, 6]);
        let deep = Array::strided(ElementType::Int8, &[2, 2, 2], &[1, 4, 2], numbers(8)).unwrap();
        assert_eq!(&deep.packed()[..], [0, 2, 4, 6, 1, 3, 5, 7]);
        let wide = Array::strided(ElementType::Float16, &[2], &[2], numbers(8)).unwrap();
        assert_eq!(&wide.packed()[..], [0, 1, 4, 5]);
    }

    #[test]
    fn what_lies_outside_is_refused() {
        assert!(Array::new(ElementType::Float32, &[2, 3], numbers(23)).is_err());
        assert!(Array::new(ElementType::Float32, &[2, 3], numbers(25)).is_err());
        assert!(Array::strided(ElementType::Int8, &[2, 3], &[4, 1], numbers(6)).is_err());
        assert!(Array::strided(ElementType::Int8, &[2, 3], &[4], numbers(8)).is_err());
        assert!(Array::new(ElementType::Int8, &[usize::MAX, 2], numbers(0)).is_err());
        assert!(Array::new(ElementType::Int8, &[1 << 33, 1 << 32], numbers(0)).is_err());
        assert!(Array::new(ElementType::Int8, &[usize::MAX, 2, 0], numbers(0)).is_err());
        assert!(Array::strided(ElementType::Int8, &[2], &[usize::MAX], numbers(8)).is_err());
        assert!(Array::strided(ElementType::Int8, &[3], &[1 << 63], numbers(8)).is_err());
        assert!(Array::strided(ElementType::Float64, &[2], &[1 << 61], numbers(8)).is_err());
        assert!(Array::strided(ElementType::Int8, &[2, 3], &[4, 1], numbers(7)).is_ok());
    }

    #[test]
    fn empty_arrays_have_a_size_that_could_be() {
        assert!(Array::new(ElementType::Int8, &[0, 2], numbers(0)).is_ok());
        assert!(Array::strided(ElementType::Int8, &[0, 2], &[2, 1], numbers(0)).is_ok());
        assert!(Array::strided(ElementType::Int8, &[2, 0], &[9, 9], numbers(0)).unwrap().packed().is_empty());
        assert!(Array::strided(ElementType::Int8, &[0, usize::MAX, 2], &[1, 1, 1], numbers(0)).is_err());
        assert!(Array::new(ElementType::Int8, &[0, usize::MAX, 2], numbers(0)).is_err());
        assert!(Array::new(ElementType::Int8, &[0, 1 << 63], numbers(0)).is_err());
        assert_eq!(packed_strides(&[3, 0, 2]), [2, 2, 1]);
    }

    #[test]
    fn a_scalar_is_one_element() {
        let array = Array::new(ElementType::Int8, &[], numbers(1)).unwrap();
        assert_eq!(&array.packed()[..], [0]);
    }

    #[test]
    fn backings_are_checked() {
        assert!(Backing::over(ElementType::Float32, &[2], vec![0u8; 7]).is_err());
        let mut memory = vec![0u8; 64];
        let odd = 1 + memory.as_mut_ptr().addr() % 2;
        struct At(Vec<u8>, usize);
        impl AsMut<[u8]> for At {
            fn as_mut(&mut self) -> &mut [u8] {
                &mut self.0[self.1..]
            }
        }
        assert!(Backing::over(ElementType::Float32, &[2], At(memory, odd)).is_err());
        // Aligned, but not as much as its elements need.
        let mut memory = vec![0u8; 64];
        let even = (2 + memory.as_mut_ptr().addr().wrapping_neg() % 4) % 64;
        assert!(Backing::over(ElementType::Float32, &[2], At(memory, even)).is_err());
        assert_eq!(Backing::new(ElementType::Float64, &[3]).unwrap().memory.as_ref(), [0; 24]);
        // Neither the whole words that were allocated, nor all of the caller's memory.
        let odd = Backing::new(ElementType::Float32, &[3]).unwrap();
        assert_eq!((odd.memory.as_ref().len(), odd.size()), (12, 12));
        assert_eq!(Backing::over(ElementType::Int8, &[3], vec![0u8; 5]).unwrap().memory.as_ref(), [0; 3]);
    }
}
