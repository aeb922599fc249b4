//! What goes into Core ML and what comes out, without anything of Objective-C.

use std::collections::BTreeMap;

use bytes::Bytes;

use crate::{Array, Backing, ElementType, Error, Result};

/// How a model is loaded.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Configuration {
    /// Where it may run.
    pub compute_units: ComputeUnits,
    /// Its function; `None` is the default one. macOS 15.
    pub function: Option<String>,
    /// The name that Core ML's own tools show.
    pub display_name: Option<String>,
    /// What to prepare it for. macOS 15.
    pub hints: Option<Hints>,
    /// Whether the GPU may sum fp16 products in fp16.
    pub low_precision_accumulation: bool,
}

/// Where a model may run.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum ComputeUnits {
    /// `cpuOnly`
    CpuOnly,
    /// `cpuAndGPU`
    CpuAndGpu,
    /// `all`
    #[default]
    All,
    /// `cpuAndNeuralEngine`; macOS 13.
    CpuAndNeuralEngine,
}

/// `MLOptimizationHints`
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Hints {
    /// How often the shapes of the inputs change.
    pub reshapes: Reshapes,
    /// What to spend the time of loading on.
    pub specialization: Specialization,
}

/// How often the shapes of the inputs change.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Reshapes {
    /// From prediction to prediction.
    #[default]
    Frequent,
    /// Rarely: each change may take long.
    Infrequent,
}

/// What to spend the time of loading on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Specialization {
    /// Core ML's own choice.
    #[default]
    Default,
    /// Fast predictions, at the price of time and memory.
    FastPrediction,
}

/// Values by name: the inputs or the outputs of a prediction.
pub type Features = BTreeMap<String, Value>;

/// One input or output.
#[derive(Clone, Debug, PartialEq)]
pub enum Value {
    /// An `MLMultiArray`.
    Array(Array),
    /// A pixel buffer.
    Image(Image),
    /// A single integer.
    Int64(i64),
    /// A single number.
    Double(f64),
    /// Text.
    String(String),
    /// Numbers by label, such as the probabilities of classes. The labels are in order.
    Dictionary(Vec<(Label, f64)>),
    /// A sequence of texts.
    Strings(Vec<String>),
    /// A sequence of integers.
    Integers(Vec<i64>),
}

/// The key of a dictionary, or a class.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Label {
    /// An integer.
    Int64(i64),
    /// Text.
    String(String),
}

/// An image: rows of pixels from the top, which Core ML reads where they are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Image {
    format: PixelFormat,
    width: usize,
    height: usize,
    row_bytes: usize,
    data: Bytes,
}

/// How a pixel is stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum PixelFormat {
    /// One byte: `kCVPixelFormatType_OneComponent8`.
    Gray8,
    /// One fp16: `kCVPixelFormatType_OneComponent16Half`.
    Gray16Half,
    /// Blue, green, red, alpha, a byte each: `kCVPixelFormatType_32BGRA`.
    Bgra8,
    /// Alpha, red, green, blue, a byte each: `kCVPixelFormatType_32ARGB`.
    Argb8,
}

impl PixelFormat {
    /// Bytes of one pixel.
    pub fn size(self) -> usize {
        match self {
            PixelFormat::Gray8 => 1,
            PixelFormat::Gray16Half => 2,
            PixelFormat::Bgra8 | PixelFormat::Argb8 => 4,
        }
    }

    /// The code of Core Video.
    pub fn code(self) -> u32 {
        match self {
            PixelFormat::Gray8 => u32::from_be_bytes(*b"L008"),
            PixelFormat::Gray16Half => u32::from_be_bytes(*b"L00h"),
            PixelFormat::Bgra8 => u32::from_be_bytes(*b"BGRA"),
            PixelFormat::Argb8 => 32,
        }
    }

    /// The format of a code of Core Video.
    pub fn from_code(code: u32) -> Option<PixelFormat> {
        [PixelFormat::Gray8, PixelFormat::Gray16Half, PixelFormat::Bgra8, PixelFormat::Argb8]
            .into_iter()
            .find(|format| format.code() == code)
    }
}

impl Image {
    /// An image over `data`, whose rows start `row_bytes` apart.
    ///
    /// # Errors
    /// A side is zero, a row does not fit into `row_bytes`, or `data` is too short.
    pub fn new(
        format: PixelFormat,
        width: usize,
        height: usize,
        row_bytes: usize,
        data: Bytes,
    ) -> Result<Image> {
        let row = width.checked_mul(format.size()).filter(|row| *row <= row_bytes && *row > 0);
        let needed = row.and_then(|row| height.checked_sub(1)?.checked_mul(row_bytes)?.checked_add(row));
        match needed {
            Some(needed) if needed <= data.len() => Ok(Image { format, width, height, row_bytes, data }),
            _ => Err(Error::invalid(format!(
                "{} bytes in rows of {row_bytes} are no image of {width} x {height} {format:?}",
                data.len()
            ))),
        }
    }

    /// How a pixel is stored.
    pub fn format(&self) -> PixelFormat {
        self.format
    }

    /// Pixels in a row.
    pub fn width(&self) -> usize {
        self.width
    }

    /// Rows.
    pub fn height(&self) -> usize {
        self.height
    }

    /// Bytes from one row to the next.
    pub fn row_bytes(&self) -> usize {
        self.row_bytes
    }

    /// The pixels as they lie.
    pub fn data(&self) -> &Bytes {
        &self.data
    }
}

/// Memory for the outputs of one prediction, by name. Outputs that are not named here are copied.
pub type Backings = BTreeMap<String, Backing>;

/// What a loaded model says of itself.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Description {
    /// Its inputs, by name.
    pub inputs: Vec<Feature>,
    /// Its outputs, by name.
    pub outputs: Vec<Feature>,
    /// Its states, by name; none before macOS 15.
    pub states: Vec<Feature>,
    /// Of classifiers: the output that is the class.
    pub predicted_feature: Option<String>,
    /// Of classifiers: the output that has the probabilities.
    pub predicted_probabilities: Option<String>,
    /// Of classifiers: the classes.
    pub class_labels: Vec<Label>,
    /// Who made it, and what for.
    pub metadata: Metadata,
}

/// Who made a model, and what for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Metadata {
    /// What it does.
    pub description: Option<String>,
    /// Its version.
    pub version: Option<String>,
    /// Who made it.
    pub author: Option<String>,
    /// What it may be used for.
    pub license: Option<String>,
    /// Whatever else its maker wrote, by key.
    pub user: BTreeMap<String, String>,
}

/// An input, an output or a state.
#[derive(Clone, Debug, PartialEq)]
pub struct Feature {
    /// Its name.
    pub name: String,
    /// Whether an input may be left out.
    pub optional: bool,
    /// What it holds.
    pub kind: FeatureKind,
}

/// What a feature holds.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum FeatureKind {
    /// A single integer.
    Int64,
    /// A single number.
    Double,
    /// Text.
    String,
    /// An image.
    Image {
        /// Pixels in a row, by default.
        width: usize,
        /// Rows, by default.
        height: usize,
        /// The code of Core Video; see [`PixelFormat::from_code`].
        format: u32,
        /// Other sizes that it may have.
        sizes: ImageSizes,
    },
    /// A multi-array.
    Array {
        /// The element type; `None` is one that is not known here.
        element: Option<ElementType>,
        /// Its shape, by default.
        shape: Vec<usize>,
        /// Other shapes that it may have.
        shapes: Shapes,
    },
    /// Numbers by label.
    Dictionary {
        /// Whether the labels are text, not integers.
        text: bool,
    },
    /// A sequence of integers or texts.
    Sequence,
    /// A state.
    State {
        /// The element type; `None` is one that is not known here.
        element: Option<ElementType>,
        /// Its shape.
        shape: Vec<usize>,
    },
    /// Something that is not known here: the number of its `MLFeatureType`.
    Unknown(i64),
}

/// The shapes that a multi-array may have.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Shapes {
    /// The default one.
    Fixed,
    /// These.
    Enumerated(Vec<Vec<usize>>),
    /// Any within these bounds, one for each dimension: lowest and highest, both allowed; `None` is without bound.
    Range(Vec<(usize, Option<usize>)>),
}

/// The sizes that an image may have.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ImageSizes {
    /// The default one.
    Fixed,
    /// These: width, height.
    Enumerated(Vec<(usize, usize)>),
    /// Any within these bounds, as those of [`Shapes::Range`].
    Range {
        /// Of the width.
        width: (usize, Option<usize>),
        /// Of the height.
        height: (usize, Option<usize>),
    },
}

/// Something that computes.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Device {
    /// The CPU.
    Cpu,
    /// A GPU.
    Gpu,
    /// The Neural Engine.
    NeuralEngine {
        /// Its cores.
        cores: usize,
    },
    /// Something newer: the name of its class.
    Other(String),
}

/// Where Core ML means to run each op of a model.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ComputePlan {
    /// The ops of ML programs, function by function; those of nested blocks come after the op that has them.
    pub ops: Vec<PlannedOp>,
    /// The layers of neural networks.
    pub layers: Vec<PlannedOp>,
}

/// Where Core ML means to run one op or layer.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct PlannedOp {
    /// The function that it is in; empty for layers.
    pub function: String,
    /// The op, such as `ios17.conv`, or the type of the layer.
    pub operator: String,
    /// The names of its outputs.
    pub outputs: Vec<String>,
    /// Where it is going to run; `None` if Core ML does not say, as for constants.
    pub preferred: Option<Device>,
    /// Where it could run.
    pub supported: Vec<Device>,
    /// Its part of the cost of the whole, between 0 and 1.
    pub cost: Option<f64>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn images_are_checked() {
        let image = |width, height, row_bytes, len: usize| {
            Image::new(PixelFormat::Bgra8, width, height, row_bytes, vec![0; len].into()).is_ok()
        };
        assert!(image(2, 3, 8, 24));
        // The last row needs no padding.
        assert!(image(2, 3, 16, 40));
        assert!(!image(2, 3, 16, 39));
        assert!(!image(2, 3, 7, 100));
        assert!(!image(0, 3, 8, 100));
        assert!(!image(2, 0, 8, 100));
        assert!(!image(usize::MAX, 2, usize::MAX, 100));
    }

    #[test]
    fn formats_have_codes() {
        assert_eq!(PixelFormat::Bgra8.code(), 0x4247_5241);
        assert_eq!(PixelFormat::Gray16Half.code(), 0x4c30_3068);
        assert_eq!(PixelFormat::from_code(0x4c30_3038), Some(PixelFormat::Gray8));
        assert_eq!(PixelFormat::from_code(32), Some(PixelFormat::Argb8));
        assert_eq!(PixelFormat::from_code(0), None);
    }
}
