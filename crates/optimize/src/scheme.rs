//! The ways to store weights, all in one list.
//!
//! Command line and Python options, the table in the docs, default tolerances and errors are generated from its entries.

use std::fmt;
use std::str::FromStr;

use milwright_mil::{DType, Opset};

use crate::compression::{Compression, Step};
use crate::schemes::linear::Linear;
use crate::schemes::palette::Palette;
use crate::schemes::prune::Prune;

/// The effect of a [`Quantization`] on a program.
#[derive(Clone, Debug)]
pub(crate) enum Action {
    /// Weights stay as they are.
    Keep,
    /// Compressed weights are expanded: [`expand`](crate::expand()).
    Expand,
    /// The whole program computes in fp16 where its ops can: [`float16`](crate::float16).
    Float16,
    /// The step compresses each weight.
    Compress(Step),
}

/// The list's entry for a [`Quantization`].
#[derive(Clone, Debug)]
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
    /// The forms of it that a search for the smallest model tries.
    pub searched: &'static [Searched],
    /// The effect.
    pub(crate) action: Action,
}

/// A form that a search tries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Searched {
    /// The options that follow the name, if any.
    pub options: &'static str,
    /// Whether the Neural Engine is known to run it.
    pub neural_engine: bool,
}

impl Searched {
    const PLAIN: Searched = Searched::with("");
    const ROWS: Searched = Searched::with("rows");

    const fn with(options: &'static str) -> Searched {
        Searched { options, neural_engine: true }
    }

    const fn not_on_neural_engine(self) -> Searched {
        Searched { neural_engine: false, ..self }
    }
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
        searched: &[],
        action: Action::Keep,
    }
    Dense {
        name: "dense",
        doc: "Compressed weights are expanded",
        min_opset: Opset::Ios15,
        effect: "gets its plain form, if it was compressed; `dense+int4:block=32` compresses it anew",
        refuses: None,
        tolerance_db: 40.0,
        searched: &[],
        action: Action::Expand,
    }
    Float16 {
        name: "float16",
        doc: "fp16, computed in fp16",
        min_opset: Opset::Ios15,
        effect: "fp16, computed in fp16: see [optimize.md](optimize.md#fp16)",
        refuses: None,
        tolerance_db: 30.0,
        searched: &[],
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
        searched: &[Searched::PLAIN],
        action: Action::Compress(Step::Linear(Linear::new(DType::Int8))),
    }
    UInt8 {
        name: "uint8",
        doc: "As int8, unsigned",
        min_opset: Opset::Ios16,
        effect: "0 … 254 around 127, times the same scales",
        refuses: Some("as for `int8`"),
        tolerance_db: 20.0,
        searched: &[],
        action: Action::Compress(Step::Linear(Linear::new(DType::UInt8))),
    }
    Int4 {
        name: "int4",
        doc: "int4 with a scale per output channel",
        min_opset: Opset::Ios18,
        effect: "−7 … 7 times a scale for each output channel; `int4:block=32` keeps more",
        refuses: Some("as for `int8`"),
        tolerance_db: 10.0,
        searched: &[Searched::with("block=32").not_on_neural_engine()],
        action: Action::Compress(Step::Linear(Linear::new(DType::Int4))),
    }
    UInt4 {
        name: "uint4",
        doc: "As int4, unsigned",
        min_opset: Opset::Ios18,
        effect: "0 … 14 around 7, times the same scales",
        refuses: Some("as for `int8`"),
        tolerance_db: 10.0,
        searched: &[],
        action: Action::Compress(Step::Linear(Linear::new(DType::UInt4))),
    }
    Palette8 {
        name: "palette8",
        doc: "256 values per tensor",
        min_opset: Opset::Ios16,
        effect: "indices into the 256 values with the least squared error over the tensor",
        refuses: None,
        tolerance_db: 20.0,
        searched: &[Searched::PLAIN, Searched::ROWS],
        action: Action::Compress(Step::Palette(Palette::new(8))),
    }
    Palette6 {
        name: "palette6",
        doc: "64 values per tensor",
        min_opset: Opset::Ios16,
        effect: "indices into the best 64 values",
        refuses: None,
        tolerance_db: 20.0,
        searched: &[Searched::PLAIN, Searched::ROWS],
        action: Action::Compress(Step::Palette(Palette::new(6))),
    }
    Palette4 {
        name: "palette4",
        doc: "16 values per tensor",
        min_opset: Opset::Ios16,
        effect: "indices into the best 16 values",
        refuses: None,
        tolerance_db: 10.0,
        searched: &[Searched::PLAIN, Searched::ROWS],
        action: Action::Compress(Step::Palette(Palette::new(4))),
    }
    Palette3 {
        name: "palette3",
        doc: "8 values per tensor",
        min_opset: Opset::Ios18,
        effect: "indices into the best 8 values",
        refuses: None,
        tolerance_db: 10.0,
        searched: &[Searched::PLAIN, Searched::ROWS],
        action: Action::Compress(Step::Palette(Palette::new(3))),
    }
    Palette2 {
        name: "palette2",
        doc: "4 values per tensor",
        min_opset: Opset::Ios16,
        effect: "indices into the best 4 values",
        refuses: None,
        tolerance_db: 10.0,
        searched: &[Searched::PLAIN, Searched::ROWS],
        action: Action::Compress(Step::Palette(Palette::new(2))),
    }
    Palette1 {
        name: "palette1",
        doc: "2 values per tensor",
        min_opset: Opset::Ios16,
        effect: "indices into the best 2 values",
        refuses: None,
        tolerance_db: 10.0,
        searched: &[Searched::PLAIN, Searched::ROWS],
        action: Action::Compress(Step::Palette(Palette::new(1))),
    }
    Unique {
        name: "unique",
        doc: "Tables of the values that occur, without loss",
        min_opset: Opset::Ios16,
        effect: "indices of as few bits as the distinct values need, without loss",
        refuses: Some("weights with more than 256 distinct values"),
        tolerance_db: 40.0,
        searched: &[Searched::PLAIN],
        action: Action::Compress(Step::Palette(Palette::unique())),
    }
    Prune {
        name: "prune",
        doc: "Zeros are not stored",
        min_opset: Opset::Ios16,
        effect: "a bit for each element, and those that are not zero; `prune:sparsity=0.75` makes zeros of the smallest",
        refuses: Some("weights of which less than half is zero, unless options say otherwise"),
        tolerance_db: 40.0,
        searched: &[Searched::PLAIN],
        action: Action::Compress(Step::Prune(Prune::zeros())),
    }
}

impl Quantization {
    /// The forms that a search for the smallest model tries, in the order of the list. For the Neural Engine, only those
    /// that it is known to run.
    pub fn searched(for_neural_engine: bool) -> impl Iterator<Item = Compression> {
        let forms = |&q: &Quantization| q.info().searched.iter().map(move |form| (q, form));
        let suits = move |(_, form): &(Quantization, &Searched)| form.neural_engine || !for_neural_engine;
        let read = |(q, form): (Quantization, &Searched)| {
            let options = if form.options.is_empty() { String::new() } else { format!(":{}", form.options) };
            format!("{q}{options}").parse().expect("a test reads every form of the list")
        };
        Quantization::ALL.iter().flat_map(forms).filter(suits).map(read)
    }

    /// The name in the command line and in Python.
    pub fn name(self) -> &'static str {
        self.info().name
    }

    /// Whether the whole program is converted to fp16.
    pub fn computes_in_fp16(self) -> bool {
        matches!(self.info().action, Action::Float16)
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
    fn a_search_tries_forms_that_are_what_they_say() {
        let forms: Vec<String> = Quantization::searched(false).map(|c| c.to_string()).collect();
        let listed = Quantization::ALL.iter().map(|q| q.info().searched.len()).sum::<usize>();
        assert_eq!(forms.len(), listed);
        assert!(forms.contains(&"palette4:rows".to_owned()) && forms.contains(&"int4:block=32".to_owned()));
        assert!(Quantization::searched(true).all(|c| !c.to_string().starts_with("int4")));
    }

    #[test]
    fn names_are_read_back() {
        for &quantization in Quantization::ALL {
            assert_eq!(quantization.to_string().parse(), Ok(quantization));
            let (info, compression) = (quantization.info(), Compression::from(quantization));
            assert_eq!(info.min_opset, compression.min_opset(), "{quantization}");
            assert_eq!(info.tolerance_db, compression.tolerance_db(), "{quantization}");
        }
        let error = "int3".parse::<Quantization>().unwrap_err();
        assert!(error.contains("there are none, dense, float16, int8, uint8"), "{error}");
        assert!(Quantization::ALL.iter().all(|q| error.contains(q.name())), "{error}");
    }
}
