//! Conversions between the types of IR and file.

use milwright_formats::proto::mil_spec as pb;
use milwright_mil::{DType, Dim, TensorType, Type};
use pb::dimension::{ConstantDimension, Dimension, UnknownDimension};

use crate::Error;

/// The element types of the IR, with those of the file.
const DTYPES: &[(DType, pb::DataType)] = &[
    (DType::Bool, pb::DataType::Bool),
    (DType::String, pb::DataType::String),
    (DType::Fp16, pb::DataType::Float16),
    (DType::Fp32, pb::DataType::Float32),
    (DType::Fp64, pb::DataType::Float64),
    (DType::Bf16, pb::DataType::Bfloat16),
    (DType::Int4, pb::DataType::Int4),
    (DType::Int8, pb::DataType::Int8),
    (DType::Int16, pb::DataType::Int16),
    (DType::Int32, pb::DataType::Int32),
    (DType::Int64, pb::DataType::Int64),
    (DType::UInt1, pb::DataType::Uint1),
    (DType::UInt2, pb::DataType::Uint2),
    (DType::UInt3, pb::DataType::Uint3),
    (DType::UInt4, pb::DataType::Uint4),
    (DType::UInt6, pb::DataType::Uint6),
    (DType::UInt8, pb::DataType::Uint8),
    (DType::UInt16, pb::DataType::Uint16),
    (DType::UInt32, pb::DataType::Uint32),
    (DType::UInt64, pb::DataType::Uint64),
];

/// Reads a type from its message.
///
/// # Errors
/// The message is missing or malformed, or has an unknown form.
pub fn read_type(ty: Option<&pb::ValueType>) -> Result<Type, Error> {
    use pb::value_type::Type as Pb;
    let missing = || Error::malformed("a type is missing");
    match ty.and_then(|t| t.r#type.as_ref()).ok_or_else(missing)? {
        Pb::TensorType(t) => read_tensor_type(t).map(Type::Tensor),
        Pb::ListType(t) => {
            let length = t.length.as_ref().map_or(Ok(Dim::Unknown), read_dim)?;
            Ok(Type::List(Box::new(read_type(t.r#type.as_deref())?), length))
        }
        Pb::TupleType(t) => {
            t.types.iter().map(|t| read_type(Some(t))).collect::<Result<_, _>>().map(Type::Tuple)
        }
        Pb::DictionaryType(t) => Ok(Type::Dict(
            Box::new(read_type(t.key_type.as_deref())?),
            Box::new(read_type(t.value_type.as_deref())?),
        )),
        Pb::StateType(t) => Ok(Type::State(Box::new(read_type(t.wrapped_type.as_deref())?))),
    }
}

fn read_tensor_type(t: &pb::TensorType) -> Result<TensorType, Error> {
    if t.rank < 0 {
        return Err(Error::unsupported("a tensor of unknown rank")
            .with_hint("convert the model again with input shapes of a fixed number of dimensions"));
    }
    if t.rank != t.dimensions.len() as i64 {
        return Err(Error::malformed(format!("rank {} but {} dimensions", t.rank, t.dimensions.len())));
    }
    let dtype = read_dtype(t.data_type)?;
    let shape = t.dimensions.iter().map(read_dim).collect::<Result<Vec<_>, _>>()?;
    Ok(TensorType { dtype, shape })
}

pub(super) fn read_dtype(code: i32) -> Result<DType, Error> {
    let pb =
        pb::DataType::try_from(code).map_err(|_| Error::malformed(format!("unknown element type {code}")))?;
    let found = DTYPES.iter().find(|(_, p)| *p == pb);
    found.map(|(d, _)| *d).ok_or_else(|| Error::unsupported(format!("element type {}", pb.as_str_name())))
}

fn read_dim(d: &pb::Dimension) -> Result<Dim, Error> {
    match &d.dimension {
        Some(Dimension::Constant(ConstantDimension { size })) => usize::try_from(*size)
            .map(Dim::Fixed)
            .map_err(|_| Error::malformed(format!("a dimension of {size} is too large for this machine"))),
        Some(Dimension::Unknown(UnknownDimension { variadic: false })) => Ok(Dim::Unknown),
        Some(Dimension::Unknown(_)) => Err(Error::unsupported("a variadic dimension")),
        None => Err(Error::malformed("a dimension is neither constant nor unknown")),
    }
}

pub(super) fn write_type(ty: &Type) -> pb::ValueType {
    use pb::value_type::Type as Pb;
    let boxed = |t: &Type| Some(Box::new(write_type(t)));
    let ty = match ty {
        Type::Tensor(t) => Pb::TensorType(write_tensor_type(t)),
        Type::List(t, n) => {
            Pb::ListType(Box::new(pb::ListType { r#type: boxed(t), length: Some(write_dim(*n)) }))
        }
        Type::Tuple(ts) => Pb::TupleType(pb::TupleType { types: ts.iter().map(write_type).collect() }),
        Type::Dict(k, v) => {
            Pb::DictionaryType(Box::new(pb::DictionaryType { key_type: boxed(k), value_type: boxed(v) }))
        }
        Type::State(t) => Pb::StateType(Box::new(pb::StateType { wrapped_type: boxed(t) })),
    };
    pb::ValueType { r#type: Some(ty) }
}

fn write_tensor_type(t: &TensorType) -> pb::TensorType {
    let (_, dtype) = DTYPES.iter().find(|(d, _)| *d == t.dtype).expect("the table has every element type");
    pb::TensorType {
        data_type: (*dtype).into(),
        rank: t.rank() as i64,
        dimensions: t.shape.iter().map(|d| write_dim(*d)).collect(),
        attributes: Default::default(),
    }
}

fn write_dim(d: Dim) -> pb::Dimension {
    let dimension = match d {
        Dim::Fixed(n) => Dimension::Constant(ConstantDimension { size: n as u64 }),
        Dim::Unknown => Dimension::Unknown(UnknownDimension { variadic: false }),
    };
    pb::Dimension { dimension: Some(dimension) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn types_round_trip() {
        let tensor = Type::Tensor(TensorType::new(DType::Fp16, [Dim::Unknown, Dim::Fixed(3)]));
        let types = [
            tensor.clone(),
            Type::scalar(DType::String),
            Type::List(Box::new(tensor.clone()), Dim::Unknown),
            Type::Tuple(vec![tensor.clone(), Type::scalar(DType::Bool)]),
            Type::Dict(Box::new(Type::scalar(DType::Int64)), Box::new(tensor.clone())),
            Type::State(Box::new(tensor)),
        ];
        for ty in types {
            assert_eq!(read_type(Some(&write_type(&ty))).unwrap(), ty);
        }
    }

    #[test]
    fn every_element_type_has_a_code() {
        for &d in DType::ALL {
            let (_, code) = DTYPES.iter().find(|(e, _)| *e == d).unwrap();
            assert_eq!(read_dtype((*code).into()).unwrap(), d);
        }
    }
}
