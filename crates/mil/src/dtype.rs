//! Element types and opset versions.

use std::fmt;
use std::str::FromStr;

macro_rules! dtypes {
    ($($(#[$doc:meta])* $variant:ident $name:literal $bits:literal,)*) => {
        /// The type of one element of a tensor, by the names that MIL's text form uses.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub enum DType {
            $($(#[$doc])* $variant,)*
        }

        impl DType {
            /// Every element type.
            pub const ALL: &[DType] = &[$(DType::$variant),*];

            /// The name in MIL's text form, such as `fp16`.
            pub const fn name(self) -> &'static str {
                match self { $(DType::$variant => $name),* }
            }

            /// The bits of an element in a weight file; 0 for strings, which have no fixed size.
            pub const fn bits(self) -> usize {
                match self { $(DType::$variant => $bits),* }
            }
        }

        impl FromStr for DType {
            type Err = ();

            fn from_str(s: &str) -> Result<DType, ()> {
                match s { $($name => Ok(DType::$variant),)* _ => Err(()) }
            }
        }
    };
}

dtypes! {
    /// One byte per element, 0 or 1.
    Bool "bool" 8,
    /// UTF-8 text.
    String "string" 0,
    /// IEEE half precision.
    Fp16 "fp16" 16,
    /// IEEE single precision.
    Fp32 "fp32" 32,
    /// IEEE double precision.
    Fp64 "fp64" 64,
    /// The upper half of an fp32 number.
    Bf16 "bf16" 16,
    /// Two's complement, packed two to a byte.
    Int4 "int4" 4,
    /// Two's complement, 8 bits.
    Int8 "int8" 8,
    /// Two's complement, 16 bits.
    Int16 "int16" 16,
    /// Two's complement, 32 bits.
    Int32 "int32" 32,
    /// Two's complement, 64 bits.
    Int64 "int64" 64,
    /// Packed eight to a byte, least significant bit first.
    UInt1 "uint1" 1,
    /// Packed four to a byte, least significant bits first.
    UInt2 "uint2" 2,
    /// Packed, least significant bit first; an element may straddle bytes.
    UInt3 "uint3" 3,
    /// Packed two to a byte, least significant bits first.
    UInt4 "uint4" 4,
    /// Packed, least significant bit first; an element may straddle bytes.
    UInt6 "uint6" 6,
    /// Unsigned, 8 bits.
    UInt8 "uint8" 8,
    /// Unsigned, 16 bits.
    UInt16 "uint16" 16,
    /// Unsigned, 32 bits.
    UInt32 "uint32" 32,
    /// Unsigned, 64 bits.
    UInt64 "uint64" 64,
}

impl DType {
    /// Whether elements are packed several to a byte.
    pub const fn is_sub_byte(self) -> bool {
        self.bits() > 0 && self.bits() < 8
    }

    /// Whether it is fp16, bf16, fp32 or fp64.
    pub const fn is_float(self) -> bool {
        matches!(self, DType::Fp16 | DType::Bf16 | DType::Fp32 | DType::Fp64)
    }

    /// Whether it is a signed or unsigned integer of any width; bool is not.
    pub const fn is_int(self) -> bool {
        !self.is_float() && !matches!(self, DType::Bool | DType::String)
    }

    /// Whether it is a signed integer of any width.
    pub const fn is_signed_int(self) -> bool {
        matches!(self, DType::Int4 | DType::Int8 | DType::Int16 | DType::Int32 | DType::Int64)
    }

    /// Returns the bytes of `elements` packed elements; `None` if the size overflows or is not fixed.
    pub fn byte_len(self, elements: usize) -> Option<usize> {
        match self {
            DType::String => None,
            _ => Some(elements.checked_mul(self.bits())?.div_ceil(8)),
        }
    }
}

impl fmt::Display for DType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

macro_rules! opsets {
    ($($(#[$doc:meta])* $variant:ident $coreml:literal $text:literal $spec:literal,)*) => {
        /// A version of the op set. Later opsets contain the earlier ones.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub enum Opset {
            $($(#[$doc])* $variant,)*
        }

        impl Opset {
            /// Every opset, oldest first.
            pub const ALL: &[Opset] = &[$(Opset::$variant),*];

            /// The name in a model file: `CoreML5` and so on.
            pub const fn coreml_name(self) -> &'static str {
                match self { $(Opset::$variant => $coreml),* }
            }

            /// The name in MIL's text form: `ios15` and so on.
            pub const fn text_name(self) -> &'static str {
                match self { $(Opset::$variant => $text),* }
            }

            /// The specification version that introduced the opset.
            pub const fn specification_version(self) -> i32 {
                match self { $(Opset::$variant => $spec),* }
            }
        }
    };
}

opsets! {
    /// Core ML 3.
    Ios13 "CoreML3" "ios13" 4,
    /// Core ML 4.
    Ios14 "CoreML4" "ios14" 5,
    /// Core ML 5: the first with ML programs.
    Ios15 "CoreML5" "ios15" 6,
    /// Core ML 6.
    Ios16 "CoreML6" "ios16" 7,
    /// Core ML 7.
    Ios17 "CoreML7" "ios17" 8,
    /// Core ML 8: states, sub-byte integers.
    Ios18 "CoreML8" "ios18" 9,
    /// Core ML 9: int8 model inputs and outputs; no new ops.
    Ios26 "CoreML9" "ios26" 10,
}

impl Opset {
    /// The opset with this file name (`CoreML5`) or text name (`ios15`).
    pub fn from_name(name: &str) -> Option<Opset> {
        Opset::ALL.iter().copied().find(|o| o.coreml_name() == name || o.text_name() == name)
    }
}

impl fmt::Display for Opset {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.text_name())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_round_trip() {
        for &d in DType::ALL {
            assert_eq!(d.name().parse(), Ok(d));
        }
        for &o in Opset::ALL {
            assert_eq!(Opset::from_name(o.coreml_name()), Some(o));
            assert_eq!(Opset::from_name(o.text_name()), Some(o));
        }
    }

    #[test]
    fn packed_sizes() {
        assert_eq!(DType::UInt3.byte_len(3), Some(2));
        assert_eq!(DType::Fp32.byte_len(usize::MAX), None);
        assert_eq!(DType::String.byte_len(1), None);
    }
}
