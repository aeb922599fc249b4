//! The features of a model: its inputs, outputs and states, as Core ML declares them.

use std::fmt;

use milwright_mil::{DType, Dim, TensorType};
use serde::{Serialize, Serializer};

use crate::legacy::declared_axis;

/// An input, output or state.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct FeatureInfo {
    /// The name.
    pub name: String,
    /// The author's description.
    pub description: String,
    /// Whether the input may be left out.
    pub optional: bool,
    /// The value of every element of an optional tensor that is left out.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub default: Option<f64>,
    /// How image pixels are scaled first: by a network's preprocessing, or by the first ops of a program.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub preprocessing: Option<Preprocessing>,
    /// The shape of an array in the program; `None` for sizes that depend on the inputs.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub program_shape: Option<Vec<Option<u64>>>,
    /// The type.
    pub ty: FeatureType,
}

/// The scaling of an image before anything else: `scale · pixel + bias`.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Preprocessing {
    /// One factor, or one for each channel, in the order of the input's channels.
    pub scale: Vec<f64>,
    /// One bias, or one for each channel.
    pub bias: Vec<f64>,
    /// Whether a mean image is subtracted.
    pub mean_image: bool,
}

/// The type of a feature.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum FeatureType {
    /// A tensor.
    MultiArray {
        /// The element type.
        dtype: ArrayType,
        /// The default shape; empty (null in JSON) if none is declared.
        #[serde(serialize_with = "declared_shape")]
        shape: Vec<u64>,
        /// Which other shapes it may have.
        flexibility: Flexibility,
    },
    /// An image.
    Image {
        /// Width in pixels.
        width: u64,
        /// Height in pixels.
        height: u64,
        /// The colour space.
        color: ColorSpace,
        /// Which other sizes it may have, as (height, width).
        flexibility: Flexibility,
    },
    /// An integer.
    Int64,
    /// A floating-point number.
    Double,
    /// A string.
    String,
    /// A dictionary of numbers.
    Dictionary {
        /// The type of the keys.
        key: KeyType,
    },
    /// A sequence.
    Sequence {
        /// The type of the elements.
        element: KeyType,
    },
    /// A state, which is kept between predictions.
    State {
        /// The element type.
        dtype: ArrayType,
        /// The shape.
        shape: Vec<u64>,
    },
    /// The file does not declare the type.
    Unknown,
}

/// The shapes that a feature may have besides its default.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Flexibility {
    /// None.
    #[default]
    Fixed,
    /// One of these shapes.
    Enumerated {
        /// Each shape.
        shapes: Vec<Vec<u64>>,
    },
    /// A range of sizes for each dimension.
    Range {
        /// The smallest and the largest size of each.
        dimensions: Vec<SizeRange>,
    },
}

/// The sizes that a dimension may have. In JSON, a pair; -1 for no upper bound.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SizeRange {
    /// The smallest size.
    pub least: u64,
    /// The largest size; `None` means unlimited.
    pub most: Option<u64>,
}

impl SizeRange {
    /// Whether a dimension may have this size.
    pub fn contains(&self, size: u64) -> bool {
        size >= self.least && self.most.is_none_or(|most| size <= most)
    }
}

impl fmt::Display for SizeRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let least = self.least;
        match self.most {
            None => write!(f, "{least} or more"),
            Some(most) if most == least => write!(f, "{least}"),
            Some(most) => write!(f, "{least} to {most}"),
        }
    }
}

impl Serialize for SizeRange {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let most = self.most.map_or(-1, |most| i64::try_from(most).unwrap_or(i64::MAX));
        (self.least, most).serialize(serializer)
    }
}

/// Declares an enum whose variants have a name in the specification, in JSON and in what people read.
macro_rules! named {
    ($(#[$doc:meta])* $name:ident { $($(#[$variant_doc:meta])* $variant:ident $text:literal,)+ }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub enum $name {
            $($(#[$variant_doc])* $variant,)+
        }

        impl $name {
            /// The name.
            pub fn name(self) -> &'static str {
                match self {
                    $($name::$variant => $text,)+
                }
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.pad(self.name())
            }
        }

        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.serialize_str(self.name())
            }
        }
    };
}

named! {
    /// The element type of an array.
    ArrayType {
        /// Half precision.
        Float16 "fp16",
        /// Single precision.
        Float32 "fp32",
        /// Double precision.
        Double "fp64",
        /// 32-bit integers.
        Int32 "int32",
        /// 8-bit integers.
        Int8 "int8",
        /// The file declares none, or one that is not known.
        Unknown "unknown",
    }
}

named! {
    /// The colour space of an image, which also gives the order of its channels.
    ColorSpace {
        /// Red, green, blue.
        Rgb "RGB",
        /// Blue, green, red.
        Bgr "BGR",
        /// One channel of 8 bits.
        Grayscale "GRAYSCALE",
        /// One channel of half-precision floats.
        GrayscaleFloat16 "GRAYSCALE_FLOAT16",
        /// The file declares none.
        Invalid "INVALID_COLOR_SPACE",
        /// The file declares one that is not known.
        Unknown "unknown",
    }
}

named! {
    /// The type of a dictionary's keys, or of a sequence's elements.
    KeyType {
        /// 64-bit integers.
        Int64 "int64",
        /// Strings.
        String "string",
    }
}

impl ArrayType {
    /// The element type of tensors; `None` if it is unknown.
    pub fn dtype(self) -> Option<DType> {
        Some(match self {
            ArrayType::Float16 => DType::Fp16,
            ArrayType::Float32 => DType::Fp32,
            ArrayType::Double => DType::Fp64,
            ArrayType::Int32 => DType::Int32,
            ArrayType::Int8 => DType::Int8,
            ArrayType::Unknown => return None,
        })
    }

    /// Whether the elements are integers.
    pub fn is_int(self) -> bool {
        matches!(self, ArrayType::Int32 | ArrayType::Int8)
    }
}

impl ColorSpace {
    /// The number of channels: 1 for the grey ones, otherwise 3.
    pub fn channels(self) -> usize {
        match self {
            ColorSpace::Grayscale | ColorSpace::GrayscaleFloat16 => 1,
            _ => 3,
        }
    }
}

fn declared_shape<S: Serializer>(shape: &Vec<u64>, serializer: S) -> Result<S::Ok, S::Error> {
    if shape.is_empty() { serializer.serialize_none() } else { serializer.collect_seq(shape) }
}

/// The shape to draw for an input: sizes that the program fixes, then the declared default.
pub(crate) fn default_shape(ty: &TensorType, feature: Option<&FeatureType>) -> Vec<usize> {
    let (default, flexibility): (Vec<u64>, _) = match feature {
        Some(FeatureType::MultiArray { shape, flexibility, .. }) => (shape.clone(), Some(flexibility)),
        Some(FeatureType::Image { width, height, .. }) => (vec![1, 1, *height, *width], None),
        _ => (Vec::new(), None),
    };
    let axis = |declared: usize, d: usize| declared_axis(ty.rank(), declared, d);
    let lowest = |d: usize| match flexibility {
        Some(Flexibility::Range { dimensions }) => {
            dimensions.get(axis(dimensions.len(), d)?).map(|r| r.least)
        }
        Some(Flexibility::Enumerated { shapes }) => {
            shapes.first().and_then(|s| s.get(axis(s.len(), d)?)).copied()
        }
        _ => None,
    };
    let size = |(d, dim): (usize, &Dim)| {
        let declared = axis(default.len(), d).and_then(|d| default.get(d)).copied().filter(|&n| n > 0);
        dim.fixed().unwrap_or_else(|| declared.or(lowest(d)).unwrap_or(1).max(1) as usize)
    };
    ty.shape.iter().enumerate().map(size).collect()
}
