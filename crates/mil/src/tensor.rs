//! Tensors: a program's constants, and the inputs and outputs of a run.

mod convert;

use std::sync::Arc;

use bytes::Bytes;
use half::{bf16, f16};

use crate::{DType, TensorType};

/// A dense row-major tensor. Clones are cheap: they share the bytes, which may lie in a memory-mapped file. The bytes
/// are always aligned for the element type.
#[derive(Clone, Debug)]
pub struct Tensor {
    dtype: DType,
    shape: Vec<usize>,
    data: Data,
}

#[derive(Clone, Debug)]
enum Data {
    /// Little-endian; elements under a byte are packed, least significant bit first.
    Bytes(Bytes),
    Strings(Arc<[String]>),
}

/// The reason why a tensor could not be made or read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum TensorError {
    /// The number of elements or bytes does not fit in memory.
    #[error("shape {0:?} has too many elements")]
    TooLarge(Vec<usize>),
    /// The number of bytes does not match element type and shape.
    #[error("{dtype} tensor of shape {shape:?} needs {expected} bytes, not {actual}")]
    WrongLength {
        /// The element type asked for.
        dtype: DType,
        /// The shape asked for.
        shape: Vec<usize>,
        /// The number of bytes that is needed.
        expected: usize,
        /// The number of bytes given.
        actual: usize,
    },
    /// The tensor has another element type.
    #[error("expected {expected} elements, found {actual}")]
    WrongType {
        /// The element type asked for.
        expected: DType,
        /// The element type of the tensor.
        actual: DType,
    },
}

/// A Rust type that is stored as a tensor element.
pub trait Element: bytemuck::Pod + Send + Sync {
    /// The element type that it stands for.
    const DTYPE: DType;
}

macro_rules! elements {
    ($($t:ty => $d:ident),* $(,)?) => {
        $(impl Element for $t { const DTYPE: DType = DType::$d; })*
    };
}
elements! {
    f16 => Fp16, f32 => Fp32, f64 => Fp64, bf16 => Bf16,
    i8 => Int8, i16 => Int16, i32 => Int32, i64 => Int64,
    u8 => UInt8, u16 => UInt16, u32 => UInt32, u64 => UInt64,
}

impl Tensor {
    /// Makes a tensor of packed little-endian bytes. Copies them only if they are not aligned for the element type, as
    /// happens with small constants in a protobuf message.
    ///
    /// # Errors
    /// The size overflows, or `data` has another length than element type and shape need. Strings have no byte form.
    pub fn from_bytes(dtype: DType, shape: &[usize], data: Bytes) -> Result<Tensor, TensorError> {
        let expected = byte_len(dtype, shape)?;
        if expected != data.len() {
            return Err(TensorError::WrongLength {
                dtype,
                shape: shape.to_vec(),
                expected,
                actual: data.len(),
            });
        }
        Ok(Tensor { dtype, shape: shape.to_vec(), data: Data::Bytes(aligned(data, dtype)) })
    }

    /// Makes a tensor that takes ownership of `elements`.
    ///
    /// # Errors
    /// The number of elements is not the product of `shape`.
    pub fn from_vec<T: Element>(shape: &[usize], elements: Vec<T>) -> Result<Tensor, TensorError> {
        let expected = byte_len(T::DTYPE, shape)?;
        let actual = size_of_val(elements.as_slice());
        if expected != actual {
            return Err(TensorError::WrongLength {
                dtype: T::DTYPE,
                shape: shape.to_vec(),
                expected,
                actual,
            });
        }
        Ok(Tensor {
            dtype: T::DTYPE,
            shape: shape.to_vec(),
            data: Data::Bytes(Bytes::from_owner(PodVec(elements))),
        })
    }

    /// A rank-0 tensor.
    pub fn scalar<T: Element>(element: T) -> Tensor {
        Tensor {
            dtype: T::DTYPE,
            shape: Vec::new(),
            data: Data::Bytes(Bytes::from_owner(PodVec(vec![element]))),
        }
    }

    /// A bool tensor.
    ///
    /// # Errors
    /// The number of elements is not the product of `shape`.
    pub fn from_bools(shape: &[usize], elements: &[bool]) -> Result<Tensor, TensorError> {
        Tensor::from_bytes(
            DType::Bool,
            shape,
            elements.iter().map(|&b| u8::from(b)).collect::<Vec<_>>().into(),
        )
    }

    /// A string tensor.
    ///
    /// # Errors
    /// The number of elements is not the product of `shape`.
    pub fn from_strings(shape: &[usize], elements: Vec<String>) -> Result<Tensor, TensorError> {
        let expected = product(shape)?;
        if expected != elements.len() {
            let (shape, actual) = (shape.to_vec(), elements.len());
            return Err(TensorError::WrongLength { dtype: DType::String, shape, expected, actual });
        }
        Ok(Tensor { dtype: DType::String, shape: shape.to_vec(), data: Data::Strings(elements.into()) })
    }

    /// A rank-0 string tensor.
    pub fn string(s: impl Into<String>) -> Tensor {
        Tensor { dtype: DType::String, shape: Vec::new(), data: Data::Strings(Arc::from([s.into()])) }
    }

    /// The element type.
    pub fn dtype(&self) -> DType {
        self.dtype
    }

    /// The dimensions, outermost first.
    pub fn shape(&self) -> &[usize] {
        &self.shape
    }

    /// The number of elements.
    pub fn elements(&self) -> usize {
        self.shape.iter().product()
    }

    /// Element type and shape.
    pub fn ty(&self) -> TensorType {
        TensorType::fixed(self.dtype, &self.shape)
    }

    /// The packed little-endian bytes; empty for strings.
    pub fn bytes(&self) -> &[u8] {
        match &self.data {
            Data::Bytes(b) => b,
            Data::Strings(_) => &[],
        }
    }

    /// The packed bytes as a shared buffer; empty for strings.
    pub fn shared_bytes(&self) -> Bytes {
        match &self.data {
            Data::Bytes(b) => b.clone(),
            Data::Strings(_) => Bytes::new(),
        }
    }

    /// The strings; empty for other element types.
    pub fn strings(&self) -> &[String] {
        match &self.data {
            Data::Strings(s) => s,
            Data::Bytes(_) => &[],
        }
    }

    /// Returns the same elements in another shape.
    ///
    /// # Errors
    /// The number of elements differs.
    pub fn reshaped(&self, shape: &[usize]) -> Result<Tensor, TensorError> {
        let (expected, actual) = (product(shape)?, self.elements());
        if expected != actual {
            return Err(TensorError::WrongLength {
                dtype: self.dtype,
                shape: shape.to_vec(),
                expected,
                actual,
            });
        }
        Ok(Tensor { dtype: self.dtype, shape: shape.to_vec(), data: self.data.clone() })
    }

    /// Copies the elements.
    ///
    /// # Errors
    /// The tensor has another element type than `T`.
    pub fn to_vec<T: Element>(&self) -> Result<Vec<T>, TensorError> {
        if self.dtype != T::DTYPE {
            return Err(TensorError::WrongType { expected: T::DTYPE, actual: self.dtype });
        }
        Ok(bytemuck::pod_collect_to_vec(self.bytes()))
    }

    /// Borrows the elements; `None` if the element type is not that of `T`.
    pub fn as_slice<T: Element>(&self) -> Option<&[T]> {
        if self.dtype != T::DTYPE { None } else { bytemuck::try_cast_slice(self.bytes()).ok() }
    }

    /// Returns every element as `f64`, for any element type (bools are 0 and 1); empty for strings.
    pub fn to_f64(&self) -> Vec<f64> {
        fn widen<T: Element>(t: &Tensor, f: impl Fn(T) -> f64) -> Vec<f64> {
            let bytes = t.bytes().chunks_exact(size_of::<T>());
            bytes.map(|c| f(bytemuck::pod_read_unaligned(c))).collect()
        }
        match self.dtype {
            DType::String => Vec::new(),
            DType::Fp16 => widen::<f16>(self, f64::from),
            DType::Bf16 => widen::<bf16>(self, f64::from),
            DType::Fp32 => widen::<f32>(self, f64::from),
            DType::Fp64 => widen::<f64>(self, |x| x),
            DType::UInt64 => widen::<u64>(self, |x| x as f64),
            _ => self
                .to_i64()
                .expect("every other element type is an integer")
                .iter()
                .map(|&x| x as f64)
                .collect(),
        }
    }

    /// Returns every element as `i64`; `None` for floats and strings. `uint64` wraps above `i64::MAX`.
    pub fn to_i64(&self) -> Option<Vec<i64>> {
        fn widen<T: Element>(t: &Tensor, f: impl Fn(T) -> i64) -> Vec<i64> {
            let bytes = t.bytes().chunks_exact(size_of::<T>());
            bytes.map(|c| f(bytemuck::pod_read_unaligned(c))).collect()
        }
        Some(match self.dtype {
            DType::Bool | DType::UInt8 => widen::<u8>(self, i64::from),
            DType::Int8 => widen::<i8>(self, i64::from),
            DType::Int16 => widen::<i16>(self, i64::from),
            DType::Int32 => widen::<i32>(self, i64::from),
            DType::Int64 => widen::<i64>(self, |x| x),
            DType::UInt16 => widen::<u16>(self, i64::from),
            DType::UInt32 => widen::<u32>(self, i64::from),
            DType::UInt64 => widen::<u64>(self, |x| x as i64),
            DType::Int4 => self.unpacked().iter().map(|&x| i64::from((x << 4) as i8 >> 4)).collect(),
            d if d.is_sub_byte() => self.unpacked().iter().map(|&x| i64::from(x)).collect(),
            _ => return None,
        })
    }

    /// Unpacks the elements of a sub-byte tensor into one byte each, not sign-extended.
    fn unpacked(&self) -> Vec<u8> {
        unpack_bits(self.bytes(), self.dtype.bits(), self.elements())
    }
}

/// Two tensors are equal if their element types, shapes and bytes are: NaN equals itself, 0.0 differs from -0.0.
impl PartialEq for Tensor {
    fn eq(&self, other: &Tensor) -> bool {
        self.dtype == other.dtype
            && self.shape == other.shape
            && self.bytes() == other.bytes()
            && self.strings() == other.strings()
    }
}

/// Unpacks `count` values of `bits` (1 to 8) bits, which are packed least significant bit first, into one byte each.
pub fn unpack_bits(packed: &[u8], bits: usize, count: usize) -> Vec<u8> {
    let mask = ((1u16 << bits) - 1) as u8;
    (0..count)
        .map(|i| {
            let (byte, shift) = (i * bits / 8, i * bits % 8);
            let low = u16::from(packed[byte]);
            let high = u16::from(packed.get(byte + 1).copied().unwrap_or(0));
            (((high << 8 | low) >> shift) as u8) & mask
        })
        .collect()
}

/// The inverse of [`unpack_bits`]. Drops bits above `bits`.
pub fn pack_bits(values: &[u8], bits: usize) -> Vec<u8> {
    let mask = (1u64 << bits) - 1;
    let mut packed = Vec::with_capacity((values.len() * bits).div_ceil(8));
    // Eight values fill as many bytes as a value has bits.
    for eight in values.chunks(8) {
        let mut wide = 0u64;
        for (i, &v) in eight.iter().enumerate() {
            wide |= (u64::from(v) & mask) << (i * bits);
        }
        packed.extend_from_slice(&wide.to_le_bytes()[..(eight.len() * bits).div_ceil(8)]);
    }
    packed
}

fn product(shape: &[usize]) -> Result<usize, TensorError> {
    let n = shape.iter().try_fold(1usize, |n, &d| n.checked_mul(d));
    n.filter(|&n| n <= isize::MAX as usize).ok_or_else(|| TensorError::TooLarge(shape.to_vec()))
}

fn byte_len(dtype: DType, shape: &[usize]) -> Result<usize, TensorError> {
    dtype.byte_len(product(shape)?).ok_or_else(|| TensorError::TooLarge(shape.to_vec()))
}

/// Returns the bytes, copied if they are not aligned for this element type. This includes an empty slice: it has an
/// address, too.
fn aligned(data: Bytes, dtype: DType) -> Bytes {
    fn aligned_for<T: bytemuck::Pod + Send>(data: Bytes) -> Bytes {
        match bytemuck::try_cast_slice::<u8, T>(&data) {
            Ok(_) => data,
            Err(_) => Bytes::from_owner(PodVec(bytemuck::pod_collect_to_vec::<u8, T>(&data))),
        }
    }
    match dtype.bits() {
        16 => aligned_for::<u16>(data),
        32 => aligned_for::<u32>(data),
        64 => aligned_for::<u64>(data),
        _ => data,
    }
}

/// Lets `Bytes` own a typed vector and so keep its alignment.
struct PodVec<T>(Vec<T>);

impl<T: bytemuck::Pod> AsRef<[u8]> for PodVec<T> {
    fn as_ref(&self) -> &[u8] {
        bytemuck::cast_slice(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn packing_round_trips() {
        for bits in 1..=8 {
            let values: Vec<u8> = (0..77u32).map(|i| (i * 37 % (1 << bits)) as u8).collect();
            let packed = pack_bits(&values, bits);
            assert_eq!(packed.len(), (77 * bits).div_ceil(8));
            assert_eq!(unpack_bits(&packed, bits, 77), values);
        }
    }

    #[test]
    fn int4_is_sign_extended() {
        let t = Tensor::from_bytes(DType::Int4, &[3], vec![0xf1, 0x08].into()).unwrap();
        assert_eq!(t.to_i64().unwrap(), [1, -1, -8]);
    }

    #[test]
    fn bytes_are_read_wherever_they_lie() {
        fn check<T: Element + PartialEq + std::fmt::Debug>(elements: &[T]) {
            for count in 0..elements.len() {
                let bytes: &[u8] = bytemuck::cast_slice(&elements[..count]);
                for shift in 0..16 {
                    let block = Bytes::from([vec![0; shift], bytes.to_vec()].concat());
                    let t = Tensor::from_bytes(T::DTYPE, &[count], block.slice(shift..)).unwrap();
                    assert_eq!(t.as_slice::<T>(), Some(&elements[..count]), "{} at {shift}", T::DTYPE);
                }
            }
        }
        check(&[1u8, 2, 3, 4, 5, 6, 7, 8, 9, 10]);
        check(&[1i16, -2, 3, -4, 5, -6, 7, -8, 9, -10]);
        check(&[1i32, -2, 3, -4, 5, -6, 7, -8, 9, -10]);
        check(&[1i64, -2, 3, -4, 5, -6, 7, -8, 9, -10]);
        check(&[f16::ONE, f16::NEG_ONE, f16::MAX]);
        check(&[bf16::ONE, bf16::NEG_ONE, bf16::MAX]);
        check(&[1.0f32, -2.0, 3.0]);
        check(&[1.0f64, -2.0, 3.0]);
    }

    #[test]
    fn sizes_are_checked() {
        assert!(matches!(
            Tensor::from_bytes(DType::Fp32, &[usize::MAX, 2], Bytes::new()),
            Err(TensorError::TooLarge(_))
        ));
        assert!(Tensor::from_vec(&[2, 2], vec![1f32; 3]).is_err());
    }
}
