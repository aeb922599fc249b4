//! Inputs and results of Core ML, without anything of Objective-C.

use std::collections::BTreeMap;

use bytes::Bytes;

use crate::{Array, Backing, ElementType, Error, Result};

/// How a model is loaded.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Configuration {
    /// The hardware it may run on.
    pub compute_units: ComputeUnits,
    /// The function to run; `None` is the default one. macOS 15.
    pub function: Option<String>,
    /// The name that Core ML's own tools show.
    pub display_name: Option<String>,
    /// What to optimize loading for. macOS 15.
    pub hints: Option<Hints>,
    /// Whether the GPU may accumulate fp16 products in fp16.
    pub low_precision_accumulation: bool,
}

/// The hardware that a model may run on.
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
    /// With every prediction.
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
    /// Fast predictions, at the cost of a longer load and more memory.
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
    /// Numbers by label, such as the probabilities of classes, in order of the labels.
    Dictionary(Vec<(Label, f64)>),
    /// A sequence of texts.
    Strings(Vec<String>),
    /// A sequence of integers.
    Integers(Vec<i64>),
}

/// The key of a dictionary, or a class label.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Label {
    /// An integer.
    Int64(i64),
    /// Text.
    String(String),
}

/// An image: rows of pixels, top row first. Core ML reads them in place.
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

    /// Core Video's code for this format.
    pub fn code(self) -> u32 {
        match self {
            PixelFormat::Gray8 => u32::from_be_bytes(*b"L008"),
            PixelFormat::Gray16Half => u32::from_be_bytes(*b"L00h"),
            PixelFormat::Bgra8 => u32::from_be_bytes(*b"BGRA"),
            PixelFormat::Argb8 => 32,
        }
    }

    /// The format that has this code in Core Video.
    pub fn from_code(code: u32) -> Option<PixelFormat> {
        [PixelFormat::Gray8, PixelFormat::Gray16Half, PixelFormat::Bgra8, PixelFormat::Argb8]
            .into_iter()
            .find(|format| format.code() == code)
    }
}

impl Image {
    /// Creates an image over `data`, whose rows start `row_bytes` apart.
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

    /// The bytes of all rows, with their padding.
    pub fn data(&self) -> &Bytes {
        &self.data
    }
}

/// Memory for the outputs of one prediction, by name. Outputs without a backing are copied.
pub type Backings = BTreeMap<String, Backing>;

/// The description of a loaded model.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Description {
    /// Its inputs, by name.
    pub inputs: Vec<Feature>,
    /// Its outputs, by name.
    pub outputs: Vec<Feature>,
    /// Its states, by name; none before macOS 15.
    pub states: Vec<Feature>,
    /// For a classifier: the output with the predicted class.
    pub predicted_feature: Option<String>,
    /// For a classifier: the output with the probabilities.
    pub predicted_probabilities: Option<String>,
    /// For a classifier: the classes.
    pub class_labels: Vec<Label>,
    /// Its author, description and license.
    pub metadata: Metadata,
}

/// The author, description and license of a model.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Metadata {
    /// What it does.
    pub description: Option<String>,
    /// Its version.
    pub version: Option<String>,
    /// Who made it.
    pub author: Option<String>,
    /// Its license.
    pub license: Option<String>,
    /// Other entries, by key.
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

/// The type of a feature.
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
        /// The element type; `None` if this crate does not know it.
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
        /// The element type; `None` if this crate does not know it.
        element: Option<ElementType>,
        /// Its shape.
        shape: Vec<usize>,
    },
    /// A type that this crate does not know: the number of its `MLFeatureType`.
    Unknown(i64),
}

/// The shapes that a multi-array may have.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Shapes {
    /// The default one.
    Fixed,
    /// These.
    Enumerated(Vec<Vec<usize>>),
    /// Any shape within these bounds, one pair for each dimension: lowest and highest, both included; `None` is
    /// unbounded.
    Range(Vec<(usize, Option<usize>)>),
}

/// The sizes that an image may have.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ImageSizes {
    /// The default one.
    Fixed,
    /// These: width, height.
    Enumerated(Vec<(usize, usize)>),
    /// Any size within these bounds, which are like those of [`Shapes::Range`].
    Range {
        /// Of the width.
        width: (usize, Option<usize>),
        /// Of the height.
        height: (usize, Option<usize>),
    },
}

/// A compute device.
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
    /// A newer kind of device: the name of its class.
    Other(String),
}

/// The devices on which Core ML plans to run the ops of a model.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ComputePlan {
    /// The ops of ML programs, function by function; the ops of nested blocks follow the op that contains them.
    pub ops: Vec<PlannedOp>,
    /// The layers of neural networks.
    pub layers: Vec<PlannedOp>,
}

/// The devices on which Core ML plans to run, or could run, one op or layer.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct PlannedOp {
    /// The function that contains it; empty for layers.
    pub function: String,
    /// The op, such as `ios17.conv`, or the type of the layer.
    pub operator: String,
    /// The names of its outputs.
    pub outputs: Vec<String>,
    /// The device it will run on; `None` if Core ML does not say, as for constants.
    pub preferred: Option<Device>,
    /// The devices it could run on.
    pub supported: Vec<Device>,
    /// Its share of the total cost, between 0 and 1.
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
