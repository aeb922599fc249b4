//! Constants, in a message or in a weight file.

use bytes::Bytes;
use milwright_formats::Package;
use milwright_formats::blob::BlobType;
use milwright_formats::proto::mil_spec as pb;
use milwright_mil::{DType, Dim, Tensor, TensorType, Type, Value};
use pb::tensor_value::Value as Data;
use pb::value::immediate_value::Value as Immediate;

use super::types::{read_type, write_type};
use crate::Error;

/// The element types that weight files can hold, with their types there.
const BLOB_TYPES: &[(DType, BlobType)] = &[
    (DType::Fp16, BlobType::Float16),
    (DType::Fp32, BlobType::Float32),
    (DType::Bf16, BlobType::BFloat16),
    (DType::Int4, BlobType::Int4),
    (DType::Int8, BlobType::Int8),
    (DType::Int16, BlobType::Int16),
    (DType::Int32, BlobType::Int32),
    (DType::UInt1, BlobType::UInt1),
    (DType::UInt2, BlobType::UInt2),
    (DType::UInt3, BlobType::UInt3),
    (DType::UInt4, BlobType::UInt4),
    (DType::UInt6, BlobType::UInt6),
    (DType::UInt8, BlobType::UInt8),
    (DType::UInt16, BlobType::UInt16),
    (DType::UInt32, BlobType::UInt32),
];

/// Returns the type that tensors of this element type have in a weight file.
pub(super) fn blob_type(dtype: DType) -> Option<BlobType> {
    BLOB_TYPES.iter().find(|(d, _)| *d == dtype).map(|(_, b)| *b)
}

pub(super) fn read_value(value: &pb::Value, package: &Package) -> Result<Value, Error> {
    let ty = read_type(value.r#type.as_ref())?;
    match &value.value {
        Some(pb::value::Value::BlobFileValue(blob)) => {
            read_blob(tensor_type(&ty)?, &blob.file_name, blob.offset, package).map(Value::Tensor)
        }
        Some(pb::value::Value::ImmediateValue(immediate)) => {
            // Empty lists and tuples may have no payload.
            read_immediate(ty, immediate.value.as_ref(), package)
        }
        None => Err(Error::malformed("a constant has no value")),
    }
}

fn read_immediate(ty: Type, value: Option<&Immediate>, package: &Package) -> Result<Value, Error> {
    let empty_tensor = pb::TensorValue::default();
    match (&ty, value) {
        (Type::Tensor(t), Some(Immediate::Tensor(v))) => read_tensor(t, v).map(Value::Tensor),
        (Type::Tensor(t), None) => read_tensor(t, &empty_tensor).map(Value::Tensor),
        (Type::List(element, length), list) => {
            let values = match list {
                Some(Immediate::List(v)) => v.values.as_slice(),
                None => &[],
                _ => return Err(mismatch(&ty)),
            };
            if !length.agrees(Dim::Fixed(values.len())) {
                return Err(Error::malformed(format!("a list of {length} has {} elements", values.len())));
            }
            Ok(Value::List((**element).clone(), read_all(values, package)?))
        }
        (Type::Tuple(types), tuple) => {
            let values = match tuple {
                Some(Immediate::Tuple(v)) => v.values.as_slice(),
                None => &[],
                _ => return Err(mismatch(&ty)),
            };
            if types.len() != values.len() {
                return Err(Error::malformed(format!(
                    "a tuple of {} has {} elements",
                    types.len(),
                    values.len()
                )));
            }
            read_all(values, package).map(Value::Tuple)
        }
        (Type::Dict(k, v), dict) => {
            let pairs = match dict {
                Some(Immediate::Dictionary(d)) => d.values.as_slice(),
                None => &[],
                _ => return Err(mismatch(&ty)),
            };
            let missing = || Error::malformed("a dictionary entry lacks its key or its value");
            let pair = |p: &pb::dictionary_value::KeyValuePair| {
                let key = p.key.as_ref().ok_or_else(missing)?;
                let value = p.value.as_ref().ok_or_else(missing)?;
                Ok((read_value(key, package)?, read_value(value, package)?))
            };
            let pairs = pairs.iter().map(pair).collect::<Result<_, Error>>()?;
            Ok(Value::Dict((**k).clone(), (**v).clone(), pairs))
        }
        _ => Err(mismatch(&ty)),
    }
}

fn read_all(values: &[pb::Value], package: &Package) -> Result<Vec<Value>, Error> {
    values.iter().map(|v| read_value(v, package)).collect()
}

fn mismatch(ty: &Type) -> Error {
    Error::malformed(format!("the constant's value is not of its type, {ty}"))
}

fn tensor_type(ty: &Type) -> Result<&TensorType, Error> {
    ty.as_tensor().ok_or_else(|| Error::malformed(format!("a {ty} cannot be in a weight file")))
}

/// Reads the tensor at an offset of a weight file. The file is named as in the model.
pub(super) fn read_blob(
    ty: &TensorType,
    file_name: &str,
    offset: u64,
    package: &Package,
) -> Result<Tensor, Error> {
    let blob = package.blob_at(file_name, offset).map_err(|e| {
        let error = Error::malformed(format!("a weight cannot be read: {e}"));
        match e.hint() {
            Some(hint) => error.with_hint(hint),
            None => error.with_hint("the package is damaged: copy or download it again, or export it again"),
        }
    })?;
    if blob_type(ty.dtype) != Some(blob.dtype) {
        let found = blob.dtype;
        return Err(Error::malformed(format!(
            "the program says that the weight at offset {offset} is {}, the weight file says {found:?}",
            ty.dtype
        )));
    }
    from_bytes(ty, blob.data)
}

/// Makes a tensor of bytes, whose number must be what the type requires.
fn from_bytes(ty: &TensorType, data: Bytes) -> Result<Tensor, Error> {
    let shape = fixed_shape(ty)?;
    Tensor::from_bytes(ty.dtype, &shape, data).map_err(|e| Error::malformed(e.to_string()))
}

fn fixed_shape(ty: &TensorType) -> Result<Vec<usize>, Error> {
    ty.fixed_shape().ok_or_else(|| Error::malformed(format!("a constant of unknown shape, {ty}")))
}

fn read_tensor(ty: &TensorType, value: &pb::TensorValue) -> Result<Tensor, Error> {
    let shape = fixed_shape(ty)?;
    let wrong = |found: &str| Err(Error::malformed(format!("the elements of a {ty} are stored as {found}")));
    let tensor = match (ty.dtype, &value.value) {
        (_, None) => match ty.dtype {
            DType::String => Tensor::from_strings(&shape, Vec::new()),
            _ => Tensor::from_bytes(ty.dtype, &shape, Bytes::new()),
        },
        (DType::Fp32, Some(Data::Floats(v))) => Tensor::from_vec(&shape, v.values.clone()),
        (DType::Fp64, Some(Data::Doubles(v))) => Tensor::from_vec(&shape, v.values.clone()),
        (DType::Bool, Some(Data::Bools(v))) => Tensor::from_bools(&shape, &v.values),
        (DType::String, Some(Data::Strings(v))) => Tensor::from_strings(&shape, v.values.clone()),
        (DType::Int64, Some(Data::LongInts(v))) => Tensor::from_vec(&shape, v.values.clone()),
        (DType::UInt64, Some(Data::LongInts(v))) => {
            Tensor::from_vec(&shape, v.values.iter().map(|&x| x as u64).collect())
        }
        (DType::Int32, Some(Data::Ints(v))) => Tensor::from_vec(&shape, v.values.clone()),
        (DType::UInt32, Some(Data::Ints(v))) => {
            Tensor::from_vec(&shape, v.values.iter().map(|&x| x as u32).collect())
        }
        (DType::Int16, Some(Data::Ints(v))) => return narrow(&shape, &v.values, |x| i16::try_from(x).ok()),
        (DType::UInt16, Some(Data::Ints(v))) => return narrow(&shape, &v.values, |x| u16::try_from(x).ok()),
        (DType::Int8, Some(Data::Ints(v))) => return narrow(&shape, &v.values, |x| i8::try_from(x).ok()),
        (DType::UInt8, Some(Data::Ints(v))) => return narrow(&shape, &v.values, |x| u8::try_from(x).ok()),
        (DType::String | DType::Bool, Some(Data::Bytes(_))) => return wrong("bytes"),
        (dtype, Some(Data::Bytes(v))) => Tensor::from_bytes(dtype, &shape, v.values.clone()),
        (_, Some(Data::Floats(_))) => return wrong("floats"),
        (_, Some(Data::Doubles(_))) => return wrong("doubles"),
        (_, Some(Data::Bools(_))) => return wrong("bools"),
        (_, Some(Data::Strings(_))) => return wrong("strings"),
        (_, Some(Data::LongInts(_) | Data::Ints(_))) => return wrong("integers"),
    };
    tensor.map_err(|e| Error::malformed(e.to_string()))
}

fn narrow<T: milwright_mil::Element>(
    shape: &[usize],
    values: &[i32],
    f: impl Fn(i32) -> Option<T>,
) -> Result<Tensor, Error> {
    let narrowed: Option<Vec<T>> = values.iter().map(|&x| f(x)).collect();
    let narrowed =
        narrowed.ok_or_else(|| Error::malformed(format!("an element does not fit {}", T::DTYPE)))?;
    Tensor::from_vec(shape, narrowed).map_err(|e| Error::malformed(e.to_string()))
}

/// Writes a constant into its message.
pub(super) fn write_value(value: &Value) -> pb::Value {
    let immediate = match value {
        Value::Tensor(t) => Immediate::Tensor(write_tensor(t)),
        Value::List(_, v) => Immediate::List(pb::ListValue { values: v.iter().map(write_value).collect() }),
        Value::Tuple(v) => Immediate::Tuple(pb::TupleValue { values: v.iter().map(write_value).collect() }),
        Value::Dict(_, _, pairs) => {
            let pair = |(k, v): &(Value, Value)| pb::dictionary_value::KeyValuePair {
                key: Some(write_value(k)),
                value: Some(write_value(v)),
            };
            Immediate::Dictionary(pb::DictionaryValue { values: pairs.iter().map(pair).collect() })
        }
    };
    pb::Value {
        doc_string: String::new(),
        r#type: Some(write_type(&value.ty())),
        value: Some(pb::value::Value::ImmediateValue(pb::value::ImmediateValue { value: Some(immediate) })),
    }
}

/// Makes the message for a constant that is in a weight file.
pub(super) fn write_blob(tensor: &Tensor, blob: pb::value::BlobFileValue) -> pb::Value {
    pb::Value {
        doc_string: String::new(),
        r#type: Some(write_type(&Type::Tensor(tensor.ty()))),
        value: Some(pb::value::Value::BlobFileValue(blob)),
    }
}

/// The format prescribes the field for the elements: readers look in no other.
fn write_tensor(t: &Tensor) -> pb::TensorValue {
    use pb::tensor_value::{
        RepeatedBools, RepeatedBytes, RepeatedDoubles, RepeatedFloats, RepeatedInts, RepeatedLongInts,
        RepeatedStrings,
    };
    let of_type = "the element type was matched";
    let ints = || t.to_i64().expect(of_type).into_iter();
    let data = match t.dtype() {
        DType::Bool => Data::Bools(RepeatedBools { values: t.bytes().iter().map(|&b| b != 0).collect() }),
        DType::String => Data::Strings(RepeatedStrings { values: t.strings().to_vec() }),
        DType::Fp32 => Data::Floats(RepeatedFloats { values: t.to_vec().expect(of_type) }),
        DType::Fp64 => Data::Doubles(RepeatedDoubles { values: t.to_vec().expect(of_type) }),
        DType::Int64 | DType::UInt64 => Data::LongInts(RepeatedLongInts { values: ints().collect() }),
        DType::Int16 | DType::UInt16 | DType::Int32 => {
            Data::Ints(RepeatedInts { values: ints().map(|x| x as i32).collect() })
        }
        _ => Data::Bytes(RepeatedBytes { values: t.shared_bytes() }),
    };
    pb::TensorValue { value: Some(data) }
}
