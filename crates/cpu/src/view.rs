//! Borrowed tensors: what kernels read and write.

use milwright_mil::{DType, Element, Tensor, TensorType};

use crate::{KernelError, Memory};

/// A dense row-major tensor that a kernel reads. Bytes are aligned for the element type; sub-byte elements are packed.
#[derive(Clone, Copy, Debug)]
pub struct View<'a> {
    dtype: DType,
    shape: &'a [usize],
    bytes: &'a [u8],
    strings: &'a [String],
}

/// A dense row-major tensor that a kernel writes. Its old contents are arbitrary.
#[derive(Debug)]
pub struct ViewMut<'a> {
    dtype: DType,
    shape: &'a [usize],
    bytes: &'a mut [u8],
}

impl<'a> View<'a> {
    /// Makes a view. The bytes must be aligned for the element type, and as long as element type and shape require.
    pub fn new(dtype: DType, shape: &'a [usize], bytes: &'a [u8]) -> View<'a> {
        View { dtype, shape, bytes, strings: &[] }
    }

    /// The element type.
    pub fn dtype(&self) -> DType {
        self.dtype
    }

    /// The dimensions, outermost first.
    pub fn shape(&self) -> &'a [usize] {
        self.shape
    }

    /// The number of elements.
    pub fn elements(&self) -> usize {
        self.shape.iter().product()
    }

    /// The element type and shape.
    pub fn ty(&self) -> TensorType {
        TensorType::fixed(self.dtype, self.shape)
    }

    /// The bytes; empty for strings.
    pub fn bytes(&self) -> &'a [u8] {
        self.bytes
    }

    /// The strings; empty for other element types.
    pub fn strings(&self) -> &'a [String] {
        self.strings
    }

    /// The elements. Bools read as `u8`, 0 or 1.
    ///
    /// # Panics
    /// `T` is not the element type: a bug of the kernel.
    #[track_caller]
    pub fn slice<T: Element>(&self) -> &'a [T] {
        check::<T>(self.dtype);
        // An empty slice may have any address, even one that is not aligned for an element.
        if self.bytes.is_empty() { &[] } else { bytemuck::cast_slice(self.bytes) }
    }

    /// The elements as words as wide as `T`, for kernels that only move data.
    ///
    /// # Panics
    /// `T` is not as wide as the element type: a bug of the kernel.
    #[track_caller]
    pub fn words<T: bytemuck::Pod>(&self) -> &'a [T] {
        assert_eq!(size_of::<T>() * 8, self.dtype.bits(), "words of {}", self.dtype);
        if self.bytes.is_empty() { &[] } else { bytemuck::cast_slice(self.bytes) }
    }

    /// A tensor with a copy of the elements.
    pub fn to_tensor(self) -> Tensor {
        let made = if self.dtype == DType::String {
            Tensor::from_strings(self.shape, self.strings.to_vec())
        } else {
            Tensor::from_bytes(self.dtype, self.shape, self.bytes.to_vec().into())
        };
        made.expect("a view is as long as its shape says")
    }

    /// Like [`to_tensor`](View::to_tensor), within a memory budget.
    pub(crate) fn to_tensor_in(self, memory: &Memory) -> Result<Tensor, KernelError> {
        if self.dtype == DType::String {
            return Ok(self.to_tensor());
        }
        let mut copy = memory.zeroed(self.bytes.len())?;
        copy.as_mut().copy_from_slice(self.bytes);
        Tensor::from_bytes(self.dtype, self.shape, copy.into())
            .map_err(|e| KernelError::invalid(e.to_string()))
    }

    /// Returns every element as `i64`, for small integer inputs of any width, such as indices. `None` for floats and
    /// strings.
    pub fn to_i64(self) -> Option<Vec<i64>> {
        match self.dtype {
            DType::Int32 => Some(self.slice::<i32>().iter().map(|&x| x.into()).collect()),
            _ => self.to_tensor().to_i64(),
        }
    }
}

/// Views a whole tensor, whose bytes are aligned for its element type.
impl<'a> From<&'a Tensor> for View<'a> {
    fn from(t: &'a Tensor) -> View<'a> {
        View { dtype: t.dtype(), shape: t.shape(), bytes: t.bytes(), strings: t.strings() }
    }
}

impl<'a> ViewMut<'a> {
    /// Makes a view. The bytes must be aligned for the element type, and as long as element type and shape require.
    pub fn new(dtype: DType, shape: &'a [usize], bytes: &'a mut [u8]) -> ViewMut<'a> {
        ViewMut { dtype, shape, bytes }
    }

    /// The element type.
    pub fn dtype(&self) -> DType {
        self.dtype
    }

    /// The dimensions, outermost first.
    pub fn shape(&self) -> &'a [usize] {
        self.shape
    }

    /// The number of elements.
    pub fn elements(&self) -> usize {
        self.shape.iter().product()
    }

    /// The bytes.
    pub fn bytes(&mut self) -> &mut [u8] {
        self.bytes
    }

    /// The elements. Bools are `u8`, 0 or 1.
    ///
    /// # Panics
    /// `T` is not the element type: a bug of the kernel.
    #[track_caller]
    pub fn slice<T: Element>(&mut self) -> &mut [T] {
        check::<T>(self.dtype);
        if self.bytes.is_empty() { &mut [] } else { bytemuck::cast_slice_mut(self.bytes) }
    }

    /// The elements as words as wide as `T`, for kernels that only move data.
    ///
    /// # Panics
    /// `T` is not as wide as the element type: a bug of the kernel.
    #[track_caller]
    pub fn words<T: bytemuck::Pod>(&mut self) -> &mut [T] {
        assert_eq!(size_of::<T>() * 8, self.dtype.bits(), "words of {}", self.dtype);
        if self.bytes.is_empty() { &mut [] } else { bytemuck::cast_slice_mut(self.bytes) }
    }

    /// A read-only view of the same tensor.
    pub fn view(&self) -> View<'_> {
        View::new(self.dtype, self.shape, self.bytes)
    }
}

#[track_caller]
fn check<T: Element>(dtype: DType) {
    let same = T::DTYPE == dtype || (dtype == DType::Bool && T::DTYPE == DType::UInt8);
    assert!(same, "a kernel reads {} as {}", dtype, T::DTYPE);
}
