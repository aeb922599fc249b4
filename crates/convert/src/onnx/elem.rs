//! ONNX's element types, and the MIL types that carry them.

use milwright_formats::onnx::proto::tensor_proto::DataType;
use milwright_mil::DType;

use crate::Error;
use crate::lower::Result;

macro_rules! elems {
    ($($variant:ident $code:ident $name:literal $bits:literal $carrier:expr,)*) => {
        /// The element type of an ONNX tensor.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub(super) enum Elem {
            $($variant,)*
        }

        impl Elem {
            /// The element type with this number in a file.
            pub fn from_code(code: i32) -> Result<Elem> {
                match DataType::try_from(code) {
                    $(Ok(DataType::$code) => Ok(Elem::$variant),)*
                    Ok(DataType::Undefined) => Err(Error::malformed("a tensor without an element type")),
                    Ok(other) => Err(Error::unsupported(format!(
                        "the element type {}",
                        other.as_str_name().to_lowercase()
                    ))),
                    Err(_) => Err(Error::unsupported(format!("the element type number {code}"))
                        .with_hint("it is newer than this version: export the model for an older opset")),
                }
            }

            /// The name in ONNX's texts, such as `int64`.
            pub const fn name(self) -> &'static str {
                match self { $(Elem::$variant => $name),* }
            }

            /// The bits of an element in a file; 0 for strings.
            pub const fn bits(self) -> usize {
                match self { $(Elem::$variant => $bits),* }
            }

            /// The type in which a program computes with it, if there is one: MIL computes with fp16, fp32, int32 and
            /// bool.
            pub const fn carrier(self) -> Option<DType> {
                match self { $(Elem::$variant => $carrier),* }
            }
        }
    };
}

elems! {
    Float Float "float" 32 Some(DType::Fp32),
    Float16 Float16 "float16" 16 Some(DType::Fp16),
    Bfloat16 Bfloat16 "bfloat16" 16 Some(DType::Fp32),
    Double Double "double" 64 Some(DType::Fp32),
    Int8 Int8 "int8" 8 Some(DType::Int32),
    Int16 Int16 "int16" 16 Some(DType::Int32),
    Int32 Int32 "int32" 32 Some(DType::Int32),
    Int64 Int64 "int64" 64 Some(DType::Int32),
    Uint8 Uint8 "uint8" 8 Some(DType::Int32),
    Uint16 Uint16 "uint16" 16 Some(DType::Int32),
    Uint32 Uint32 "uint32" 32 Some(DType::Int32),
    Uint64 Uint64 "uint64" 64 Some(DType::Int32),
    Bool Bool "bool" 8 Some(DType::Bool),
    String String "string" 0 None,
    Complex64 Complex64 "complex64" 64 None,
    Complex128 Complex128 "complex128" 128 None,
    Float8E4M3FN Float8e4m3fn "float8e4m3fn" 8 Some(DType::Fp32),
    Float8E4M3FNUZ Float8e4m3fnuz "float8e4m3fnuz" 8 Some(DType::Fp32),
    Float8E5M2 Float8e5m2 "float8e5m2" 8 Some(DType::Fp32),
    Float8E5M2FNUZ Float8e5m2fnuz "float8e5m2fnuz" 8 Some(DType::Fp32),
    Float8E8M0 Float8e8m0 "float8e8m0" 8 Some(DType::Fp32),
    Float4E2M1 Float4e2m1 "float4e2m1" 4 Some(DType::Fp32),
    Uint4 Uint4 "uint4" 4 Some(DType::Int32),
    Int4 Int4 "int4" 4 Some(DType::Int32),
    Uint2 Uint2 "uint2" 2 Some(DType::Int32),
    Int2 Int2 "int2" 2 Some(DType::Int32),
}

impl Elem {
    /// Whether it is a real number.
    pub const fn is_float(self) -> bool {
        matches!(self.carrier(), Some(DType::Fp32 | DType::Fp16))
    }

    /// Whether it is an integer of any width; bool is not.
    pub const fn is_int(self) -> bool {
        matches!(self.carrier(), Some(DType::Int32))
    }

    /// Whether it is an unsigned integer.
    pub const fn is_unsigned(self) -> bool {
        matches!(self, Elem::Uint2 | Elem::Uint4 | Elem::Uint8 | Elem::Uint16 | Elem::Uint32 | Elem::Uint64)
    }

    /// The smallest and largest number of an integer type of at most 32 bits that fits int32.
    pub fn int_range(self) -> Option<(i32, i32)> {
        match (self.is_int(), self.bits(), self.is_unsigned()) {
            (true, bits @ ..=16, true) => Some((0, (1 << bits) - 1)),
            (true, bits @ ..=16, false) => Some((-(1 << (bits - 1)), (1 << (bits - 1)) - 1)),
            _ => None,
        }
    }

    /// The carrier.
    ///
    /// # Errors
    /// Programs cannot compute with this type.
    pub fn carried(self) -> Result<DType> {
        self.carrier().ok_or_else(|| {
            let hint = match self {
                Elem::String => {
                    "programs have no strings: take the text part out of the model, and do it in the app"
                }
                _ => "programs have no complex numbers: export the model with pairs of real numbers",
            };
            Error::unsupported(format!("it computes with elements of type {}", self.name())).with_hint(hint)
        })
    }

    /// The element type of a value that an op made, where the model does not say.
    pub fn of(dtype: DType) -> Elem {
        match dtype {
            DType::Bool => Elem::Bool,
            DType::Fp16 => Elem::Float16,
            d if d.is_float() => Elem::Float,
            _ => Elem::Int64,
        }
    }
}
