//! Constant tensors: from every form in which an ONNX file stores them to MIL tensors.

use bytes::Bytes;
use half::{bf16, f16};
use milwright_formats::onnx::OnnxFile;
use milwright_formats::onnx::proto::tensor_proto::DataLocation;
use milwright_formats::onnx::proto::{SparseTensorProto, TensorProto};
use milwright_mil::{DType, Tensor, unpack_bits};

use super::elem::Elem;
use crate::Error;
use crate::lower::{Result, tensor_of};

/// A constant tensor as the file stores it.
///
/// The MIL tensor has the element type of the same name where MIL has it. Other types are stored as what their bits
/// are: fp8 as uint8, fp4 as uint4; int2 is int8.
#[derive(Clone, Debug)]
pub(super) struct Stored {
    pub elem: Elem,
    pub tensor: Tensor,
}

/// The most elements of a tensor that is made larger than it is stored: of a sparse one.
const MAX_DENSE: usize = 1 << 28;

impl Stored {
    pub fn new(elem: Elem, tensor: Tensor) -> Stored {
        Stored { elem, tensor }
    }

    /// Reads a tensor. Bytes in the file are not copied where the MIL type is the same.
    pub fn read(file: &OnnxFile, proto: &TensorProto) -> Result<Stored> {
        Self::read_with(Some(file), proto)
    }

    /// Reads a tensor whose data is in the message.
    pub fn read_inline(proto: &TensorProto) -> Result<Stored> {
        Self::read_with(None, proto)
    }

    fn read_with(file: Option<&OnnxFile>, proto: &TensorProto) -> Result<Stored> {
        let elem = Elem::from_code(proto.data_type())?;
        let shape = shape(&proto.dims)?;
        if proto.segment.is_some() {
            return Err(Error::unsupported("a tensor in segments")
                .with_hint("no exporter writes them any more: save the model again with the onnx package"));
        }
        if elem == Elem::String {
            let strings = proto.string_data.iter().map(|s| String::from_utf8_lossy(s).into_owned()).collect();
            let tensor =
                Tensor::from_strings(&shape, strings).map_err(|e| Error::malformed(e.to_string()))?;
            return Ok(Stored { elem, tensor });
        }
        elem.carried()?;
        let dtype = stored_type(elem);
        let count = shape.iter().try_fold(1usize, |n, &d| n.checked_mul(d));
        let too_large = || Error::malformed(format!("a tensor of shape {shape:?} is too large"));
        let count = count.filter(|&n| n <= isize::MAX as usize / 16).ok_or_else(too_large)?;
        let length = (count * elem.bits()).div_ceil(8);
        let bytes = if proto.data_location() == DataLocation::External {
            let file = file.ok_or_else(|| Error::malformed("the data is in another file"))?;
            Some(file.external_data(proto, length as u64).map_err(|e| {
                let error = Error::malformed(e.to_string());
                match e.hint() {
                    Some(hint) => error.with_hint(hint),
                    None => error,
                }
            })?)
        } else {
            proto.raw_data.clone()
        };
        let bytes = match bytes {
            Some(bytes) => bytes,
            None => typed(proto, elem, count)?,
        };
        if bytes.len() != length {
            return Err(Error::malformed(format!(
                "a {} tensor of shape {shape:?} needs {length} bytes, not {}",
                elem.name(),
                bytes.len()
            )));
        }
        let bytes = match file {
            Some(file) => file.aligned(bytes, elem.bits().div_ceil(8)),
            None => bytes,
        };
        let bytes = match elem {
            Elem::Bool if bytes.iter().any(|&b| b > 1) => bytes.iter().map(|&b| u8::from(b != 0)).collect(),
            // Two's complement of two bits has no MIL type.
            Elem::Int2 => unpack_bits(&bytes, 2, count)
                .iter()
                .map(|&b| (b << 6).cast_signed() >> 6)
                .map(i8::cast_unsigned)
                .collect(),
            _ => bytes,
        };
        let tensor = Tensor::from_bytes(dtype, &shape, bytes).map_err(|e| Error::malformed(e.to_string()))?;
        Ok(Stored { elem, tensor })
    }

    /// Reads a sparse tensor, as a dense one.
    pub fn read_sparse(file: &OnnxFile, proto: &SparseTensorProto) -> Result<Stored> {
        let missing = || Error::malformed("a sparse tensor without values or indices");
        let values = Stored::read(file, proto.values.as_deref().ok_or_else(missing)?)?;
        let indices = Stored::read(file, proto.indices.as_deref().ok_or_else(missing)?)?;
        let shape = shape(&proto.dims)?;
        let count = shape.iter().try_fold(1usize, |n, &d| n.checked_mul(d)).filter(|&n| n <= MAX_DENSE);
        let count = count.ok_or_else(|| Error::unsupported(format!("a sparse tensor of shape {shape:?}")))?;
        let places =
            indices.tensor.to_i64().ok_or_else(|| Error::malformed("indices that are no integers"))?;
        let given = values.tensor.elements();
        let flat: Option<Vec<usize>> = match indices.tensor.shape() {
            [n] if *n == given => places.iter().map(|&i| usize::try_from(i).ok()).collect(),
            [n, rank] if *n == given && *rank == shape.len() && *rank > 0 => places
                .chunks_exact(*rank)
                .map(|place| {
                    place.iter().zip(&shape).try_fold(0usize, |at, (&i, &size)| {
                        let i = usize::try_from(i).ok().filter(|&i| i < size)?;
                        at.checked_mul(size)?.checked_add(i)
                    })
                })
                .collect(),
            _ => None,
        };
        let outside = || Error::malformed("an index of a sparse tensor is outside its shape");
        let flat = flat.filter(|flat| flat.iter().all(|&i| i < count)).ok_or_else(outside)?;
        let bits = values.tensor.dtype().bits();
        if bits < 8 || values.elem == Elem::String {
            return Err(Error::unsupported(format!("a sparse tensor of {}", values.elem.name())));
        }
        let size = bits / 8;
        let mut bytes = vec![0u8; count * size];
        for (value, &at) in values.tensor.bytes().chunks_exact(size).zip(&flat) {
            bytes[at * size..][..size].copy_from_slice(value);
        }
        let tensor = Tensor::from_bytes(values.tensor.dtype(), &shape, bytes.into());
        Ok(Stored { elem: values.elem, tensor: tensor.map_err(|e| Error::malformed(e.to_string()))? })
    }

    /// The tensor in the type that programs compute with.
    ///
    /// # Errors
    /// An integer is outside the range of int32, or a program cannot compute with the type.
    pub fn carried(&self) -> Result<Tensor> {
        let (tensor, elem) = (&self.tensor, self.elem);
        let dtype = elem.carried()?;
        if tensor.dtype() == dtype {
            return Ok(tensor.clone());
        }
        match elem {
            Elem::Bfloat16 | Elem::Double => {
                let values: Vec<f32> = tensor.to_f64().iter().map(|&x| x as f32).collect();
                tensor_of(tensor.shape(), values)
            }
            _ if elem.is_float() => {
                let codes = tensor.to_i64().unwrap_or_default();
                let values: Vec<f32> = codes.iter().map(|&c| small_float(elem, c as u8)).collect();
                tensor_of(tensor.shape(), values)
            }
            _ => {
                let numbers = tensor.to_i64().unwrap_or_default();
                let narrow = |&n: &i64| i32::try_from(n).ok().filter(|_| elem != Elem::Uint64 || n >= 0);
                let values: Option<Vec<i32>> = numbers.iter().map(narrow).collect();
                let values = values.ok_or_else(|| {
                    let wide = numbers.iter().find(|n| narrow(n).is_none()).copied().unwrap_or_default();
                    Error::unsupported(format!("the constant {wide} of type {} does not fit int32", elem.name()))
                        .with_hint("Core ML computes with int32: use a smaller number, such as 2147483647, for \"as large as possible\"")
                })?;
                tensor_of(tensor.shape(), values)
            }
        }
    }

    /// The integers, exactly; `None` for other types.
    pub fn ints(&self) -> Option<Vec<i64>> {
        if self.elem.is_float() { None } else { self.tensor.to_i64() }
    }

    /// The numbers; integers above 2^53 are rounded. Empty for strings.
    pub fn numbers(&self) -> Vec<f64> {
        match self.elem {
            Elem::Float | Elem::Float16 | Elem::Bfloat16 | Elem::Double => self.tensor.to_f64(),
            elem if elem.is_float() => {
                let codes = self.tensor.to_i64().unwrap_or_default();
                codes.iter().map(|&c| f64::from(small_float(elem, c as u8))).collect()
            }
            _ => self.tensor.to_f64(),
        }
    }
}

/// The MIL type in which a tensor is stored.
fn stored_type(elem: Elem) -> DType {
    match elem {
        Elem::Float => DType::Fp32,
        Elem::Float16 => DType::Fp16,
        Elem::Bfloat16 => DType::Bf16,
        Elem::Double => DType::Fp64,
        Elem::Int8 | Elem::Int2 => DType::Int8,
        Elem::Int16 => DType::Int16,
        Elem::Int32 => DType::Int32,
        Elem::Int64 => DType::Int64,
        Elem::Uint16 => DType::UInt16,
        Elem::Uint32 => DType::UInt32,
        Elem::Uint64 => DType::UInt64,
        Elem::Bool => DType::Bool,
        Elem::Float4E2M1 | Elem::Uint4 => DType::UInt4,
        Elem::Int4 => DType::Int4,
        Elem::Uint2 => DType::UInt2,
        Elem::String => DType::String,
        _ => DType::UInt8,
    }
}

/// Reads sizes, which must not be negative.
pub(super) fn shape(dims: &[i64]) -> Result<Vec<usize>> {
    let size = |&n: &i64| usize::try_from(n).map_err(|_| Error::malformed(format!("a tensor of size {n}")));
    dims.iter().map(size).collect()
}

/// The bytes of a tensor whose elements are in a typed field.
fn typed(proto: &TensorProto, elem: Elem, count: usize) -> Result<Bytes> {
    /// The low bytes of numbers, each of which must fit.
    fn low<const N: usize>(numbers: &[i32], lowest: i32, highest: i32) -> Result<Vec<u8>> {
        if let Some(n) = numbers.iter().find(|&&n| n < lowest || n > highest) {
            return Err(Error::malformed(format!("the element {n} of a tensor does not fit its type")));
        }
        Ok(numbers.iter().flat_map(|n| n.to_le_bytes().into_iter().take(N)).collect())
    }
    let ints = &proto.int32_data;
    let bytes: Vec<u8> = match elem {
        Elem::Float => proto.float_data.iter().flat_map(|x| x.to_le_bytes()).collect(),
        Elem::Double => proto.double_data.iter().flat_map(|x| x.to_le_bytes()).collect(),
        Elem::Int64 => proto.int64_data.iter().flat_map(|x| x.to_le_bytes()).collect(),
        Elem::Uint64 => proto.uint64_data.iter().flat_map(|x| x.to_le_bytes()).collect(),
        Elem::Uint32 => {
            let narrow =
                |&x: &u64| u32::try_from(x).map_err(|_| Error::malformed(format!("{x} does not fit uint32")));
            let numbers = proto.uint64_data.iter().map(narrow).collect::<Result<Vec<u32>>>()?;
            numbers.iter().flat_map(|x| x.to_le_bytes()).collect()
        }
        Elem::Int32 => ints.iter().flat_map(|x| x.to_le_bytes()).collect(),
        Elem::Float16 | Elem::Bfloat16 | Elem::Uint16 => low::<2>(ints, 0, 0xffff)?,
        Elem::Int16 => low::<2>(ints, -0x8000, 0x7fff)?,
        Elem::Int8 => low::<1>(ints, -0x80, 0x7f)?,
        Elem::Bool => ints.iter().map(|&n| u8::from(n != 0)).collect(),
        // Eight bits each, also where a byte holds several elements.
        _ => low::<1>(ints, -0x80, 0xff)?,
    };
    // A tensor without elements has no data. Nor has one whose other fields are all empty and that is not empty.
    if bytes.is_empty() && count > 0 {
        return Err(Error::malformed("a tensor without data"));
    }
    Ok(bytes.into())
}

/// The value of an fp8 or fp4 number.
pub(super) fn small_float(elem: Elem, code: u8) -> f32 {
    let scaled = |exponent: u32, mantissa: u32, bits: u32, bias: i32| -> f32 {
        let (mantissa, one) = (mantissa as f32, (1u32 << bits) as f32);
        match exponent {
            0 => mantissa / one * 2f32.powi(1 - bias),
            _ => (1.0 + mantissa / one) * 2f32.powi(exponent as i32 - bias),
        }
    };
    let wide = u32::from(code);
    let negative = |x: f32, is: bool| if is { -x } else { x };
    match elem {
        Elem::Float8E4M3FN => match code & 0x7f {
            0x7f => f32::NAN,
            _ => negative(scaled(wide >> 3 & 15, wide & 7, 3, 7), code > 0x7f),
        },
        Elem::Float8E4M3FNUZ => match code {
            0x80 => f32::NAN,
            _ => negative(scaled(wide >> 3 & 15, wide & 7, 3, 8), code > 0x7f),
        },
        Elem::Float8E5M2 => match code & 0x7f {
            0x7d..=0x7f => f32::NAN,
            0x7c => negative(f32::INFINITY, code > 0x7f),
            _ => negative(scaled(wide >> 2 & 31, wide & 3, 2, 15), code > 0x7f),
        },
        Elem::Float8E5M2FNUZ => match code {
            0x80 => f32::NAN,
            _ => negative(scaled(wide >> 2 & 31, wide & 3, 2, 16), code > 0x7f),
        },
        Elem::Float8E8M0 => match code {
            0xff => f32::NAN,
            _ => 2f32.powi(i32::from(code) - 127),
        },
        Elem::Float4E2M1 => negative(scaled(wide >> 1 & 3, wide & 1, 1, 1), code & 8 != 0),
        Elem::Float16 => f16::from_bits(u16::from(code)).to_f32(),
        _ => bf16::from_bits(u16::from(code)).to_f32(),
    }
}
