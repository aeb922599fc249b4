//! The ways to store weights, all in one list.
//!
//! To add one, write a type that implements [`Scheme`] under `schemes/`, and an entry of [`Quantization`]'s list below.
//! Command line and Python options, the table in the docs, default tolerances and errors are generated from that entry.

use std::fmt;
use std::str::FromStr;

use milwright_mil::{DType, OpKind, Opset, Tensor};

use crate::loss::Loss;
use crate::schemes::{INT8, palette};

/// A method that compresses one weight at a time.
pub trait Scheme: fmt::Debug + Sync {
    /// Compresses a weight to a `constexpr_*` op in the form of `opset`, which is iOS16 or iOS18.
    ///
    /// # Errors
    /// The scheme cannot represent the weight, which then stays as it is; the text says why.
    fn compress(&self, weight: &FloatWeight<'_>, opset: Opset) -> Result<Compressed, &'static str>;
}

/// A weight whose elements are finite.
#[derive(Clone, Copy, Debug)]
pub struct FloatWeight<'a> {
    /// The elements, in row-major order.
    pub values: &'a [f32],
    /// The shape.
    pub shape: &'a [usize],
    /// The element type of the program, fp16 or fp32. Scales and palettes are stored in it.
    pub dtype: DType,
    /// The dimension of the output channels, if every op that uses the weight agrees on it.
    pub channel_axis: Option<usize>,
}

/// The `constexpr_*` op that replaces a weight's `const`.
#[derive(Clone, Debug)]
pub struct Compressed {
    /// The op.
    pub kind: OpKind,
    /// Its inputs, all constants.
    pub inputs: Vec<(&'static str, Tensor)>,
    /// The loss of precision.
    pub loss: Loss,
}

/// The effect of a [`Quantization`] on a program.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Action {
    /// Weights stay as they are.
    Keep,
    /// The whole program computes in fp16 where its ops can: [`float16`](crate::float16).
    Float16,
    /// The scheme compresses each weight.
    Compress(&'static dyn Scheme),
}

/// The list's entry for a [`Quantization`].
#[derive(Clone, Copy, Debug)]
pub struct QuantizationInfo {
    /// The name in the command line and in Python.
    pub name: &'static str,
    /// A description in a few words, for help texts.
    pub doc: &'static str,
    /// The oldest opset that can express the result. Functions of older opsets are raised to it; its ops are a
    /// superset.
    pub min_opset: Opset,
    /// A sentence about what happens to a weight.
    pub effect: &'static str,
    /// The weights that stay as they are, besides those that every scheme leaves alone.
    pub refuses: Option<&'static str>,
    /// The least signal-to-noise ratio of outputs that is accepted by default, in dB.
    pub tolerance_db: f64,
    /// The name of a more precise quantization to try if outputs miss the tolerance.
    pub finer: Option<&'static str>,
    /// The effect.
    pub(crate) action: Action,
}

macro_rules! quantizations {
    ($($variant:ident { $($field:tt)* })+) => {
        /// How weights are stored.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        #[non_exhaustive]
        #[expect(missing_docs, reason = "`QuantizationInfo` has them")]
        pub enum Quantization {
            $($variant,)+
        }

        impl Quantization {
            /// All of them, in the order in which help and docs show them.
            pub const ALL: &'static [Quantization] = &[$(Quantization::$variant),+];

            /// Returns the list's entry for it.
            pub fn info(self) -> &'static QuantizationInfo {
                match self {
                    $(Quantization::$variant => {
                        static INFO: QuantizationInfo = QuantizationInfo { $($field)* };
                        &INFO
                    })+
                }
            }
        }
    };
}

quantizations! {
    None {
        name: "none",
        doc: "As they are",
        min_opset: Opset::Ios15,
        effect: "stays as it is; only graph passes run",
        refuses: None,
        tolerance_db: 40.0,
        finer: None,
        action: Action::Keep,
    }
    Float16 {
        name: "float16",
        doc: "fp16, computed in fp16",
        min_opset: Opset::Ios15,
        effect: "fp16, computed in fp16: see [optimize.md](optimize.md#fp16)",
        refuses: None,
        tolerance_db: 30.0,
        finer: None,
        action: Action::Float16,
    }
    Int8 {
        name: "int8",
        doc: "int8 with a scale per output channel",
        min_opset: Opset::Ios16,
        effect: "−127 … 127 times a scale for each output channel (the second dimension for `conv_transpose`, that of the \
                 result for `matmul`, else the first). The scale is rounded to the weight's type before it is divided by",
        refuses: Some("weights whose users disagree on where their output channels are"),
        tolerance_db: 20.0,
        finer: Some("float16 keeps more"),
        action: Action::Compress(&INT8),
    }
    Palette8 {
        name: "palette8",
        doc: "256 values per tensor",
        min_opset: Opset::Ios16,
        effect: "indices into the 256 values with the least squared error over the tensor",
        refuses: None,
        tolerance_db: 20.0,
        finer: Some("float16 keeps more"),
        action: Action::Compress(&palette::EIGHT),
    }
    Palette6 {
        name: "palette6",
        doc: "64 values per tensor",
        min_opset: Opset::Ios16,
        effect: "indices into the best 64 values",
        refuses: None,
        tolerance_db: 20.0,
        finer: Some("use more bits"),
        action: Action::Compress(&palette::SIX),
    }
    Palette4 {
        name: "palette4",
        doc: "16 values per tensor",
        min_opset: Opset::Ios16,
        effect: "indices into the best 16 values",
        refuses: None,
        tolerance_db: 10.0,
        finer: Some("use more bits"),
        action: Action::Compress(&palette::FOUR),
    }
    Palette2 {
        name: "palette2",
        doc: "4 values per tensor",
        min_opset: Opset::Ios16,
        effect: "indices into the best 4 values",
        refuses: None,
        tolerance_db: 10.0,
        finer: Some("use more bits"),
        action: Action::Compress(&palette::TWO),
    }
    Palette1 {
        name: "palette1",
        doc: "2 values per tensor",
        min_opset: Opset::Ios16,
        effect: "indices into the best 2 values",
        refuses: None,
        tolerance_db: 10.0,
        finer: Some("use more bits"),
        action: Action::Compress(&palette::ONE),
    }
}

impl Quantization {
    /// The name in the command line and in Python.
    pub fn name(self) -> &'static str {
        self.info().name
    }

    /// Whether the whole program is converted to fp16.
    pub fn computes_in_fp16(self) -> bool {
        matches!(self.info().action, Action::Float16)
    }

    /// Returns the scheme that compresses weights, if one does.
    pub fn scheme(self) -> Option<&'static dyn Scheme> {
        match self.info().action {
            Action::Compress(scheme) => Some(scheme),
            Action::Keep | Action::Float16 => None,
        }
    }
}

/// By [name](Quantization::name).
impl fmt::Display for Quantization {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// By [name](Quantization::name).
impl FromStr for Quantization {
    type Err = String;

    fn from_str(name: &str) -> Result<Quantization, String> {
        let found = Quantization::ALL.iter().copied().find(|q| q.name() == name);
        found.ok_or_else(|| {
            let names: Vec<_> = Quantization::ALL.iter().map(|q| q.name()).collect();
            let (last, others) = names.split_last().expect("there is `none`");
            format!("there is no quantization `{name}`; there are {} and {last}", others.join(", "))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_read_back() {
        for &quantization in Quantization::ALL {
            assert_eq!(quantization.to_string().parse(), Ok(quantization));
        }
        let error = "int3".parse::<Quantization>().unwrap_err();
        assert!(
            error.ends_with(
                "there are none, float16, int8, palette8, palette6, palette4, palette2 and palette1"
            )
        );
    }
}
