//! What to do to weights: steps with their options, as users write them.
//!
//! ```text
//! int8                               one step of the list of quantizations, with its defaults
//! int4:block=32                      options after a colon, separated by commas
//! prune:sparsity=0.75+palette4       steps after a plus, which work on the result of the one before
//! joint+int8                         a step that works on weights that are compressed already, too
//! ```

use std::fmt;
use std::str::FromStr;

use milwright_mil::{DType, Opset};

use crate::scheme::{Action, Quantization};
use crate::schemes::linear::{Blocks, Linear};
use crate::schemes::palette::{Palette, Spread};
use crate::schemes::prune::{Prune, Rule};
use crate::weights::MIN_ELEMENTS;

/// The word before steps that follow those of an earlier compression.
const JOINT: &str = "joint";

/// How the weights of a program are stored: a [`Quantization`] with options, or several of them one after the other.
///
/// ```
/// use milwright_mil::Opset;
/// use milwright_optimize::{Compression, Quantization};
///
/// let blocks: Compression = "int4:block=32".parse()?;
/// assert_eq!(blocks.min_opset(), Opset::Ios18);
/// assert_eq!(blocks.to_string(), "int4:block=32");
/// assert_eq!(Compression::from(Quantization::Int8), "int8:channel".parse()?);
/// assert!("prune:sparsity=0.75+palette4".parse::<Compression>().is_ok());
/// # Ok::<(), String>(())
/// ```
#[derive(Clone, Debug, PartialEq)]
pub struct Compression {
    /// Whether weights that are compressed already are expanded first.
    pub dense: bool,
    /// Whether the steps follow those that compressed a weight already. Weights that are not compressed take them, too.
    pub joint: bool,
    /// Whether the whole program is converted to fp16 first.
    pub float16: bool,
    /// What is done to each weight, in order. Nothing if there are none.
    pub steps: Vec<Step>,
    /// Weights with no more elements than this stay as they are.
    pub min_elements: usize,
}

/// One step.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum Step {
    /// Integers with scales.
    Linear(Linear),
    /// Indices into tables.
    Palette(Palette),
    /// Zeros that are not stored.
    Prune(Prune),
}

impl From<Quantization> for Compression {
    fn from(quantization: Quantization) -> Compression {
        let none = Compression {
            dense: false,
            joint: false,
            float16: false,
            steps: Vec::new(),
            min_elements: MIN_ELEMENTS,
        };
        match &quantization.info().action {
            Action::Keep => none,
            Action::Expand => Compression { dense: true, ..none },
            Action::Float16 => Compression { float16: true, ..none },
            Action::Compress(step) => Compression { steps: vec![step.clone()], ..none },
        }
    }
}

impl Default for Compression {
    /// No compression.
    fn default() -> Compression {
        Quantization::None.into()
    }
}

impl From<Step> for Compression {
    fn from(step: Step) -> Compression {
        Compression { steps: vec![step], ..Compression::default() }
    }
}

impl Compression {
    /// Whether weights and program stay as they are.
    pub fn is_none(&self) -> bool {
        !self.dense && !self.float16 && self.steps.is_empty()
    }

    /// The oldest opset that can express the result.
    pub fn min_opset(&self) -> Opset {
        match &self.steps[..] {
            [] => Opset::Ios15,
            [only] if !self.joint => only.min_opset(),
            _ => Opset::Ios18,
        }
    }

    /// The lowest SNR of outputs that is accepted by default, in dB.
    pub fn tolerance_db(&self) -> f64 {
        let of_float16 = if self.float16 { Quantization::Float16 } else { Quantization::None };
        let steps = self.steps.iter().map(Step::tolerance_db);
        steps.fold(of_float16.info().tolerance_db, f64::min)
    }

    /// What to try if outputs miss the tolerance.
    pub fn finer(&self) -> Option<&'static str> {
        let prunes = |s: &Step| matches!(s, Step::Prune(_));
        if self.steps.iter().any(prunes) {
            return Some("prune less");
        }
        match self.steps.last()? {
            Step::Linear(l) if l.dtype.bits() == 4 && !matches!(l.blocks, Blocks::Along(_)) => {
                Some("int4:block=32 or int8 keeps more")
            }
            Step::Linear(l) if l.dtype.bits() == 4 => Some("int8 keeps more"),
            Step::Palette(p) if p.bits.is_some_and(|b| b < 8) || p.vector > 1 => Some("use more bits"),
            _ => Some("float16 keeps more"),
        }
    }

    /// Checks that `opset` can express the result.
    ///
    /// # Errors
    /// It cannot; the text names the option that needs a newer one, and what the opset can express instead.
    pub fn check_opset(&self, opset: Opset) -> Result<(), String> {
        let needed = self.min_opset();
        if opset >= needed {
            return Ok(());
        }
        if let [first, _, ..] = &self.steps[..] {
            let first = Compression { steps: vec![first.clone()], ..self.clone() };
            let instead = match first.check_opset(opset) {
                Ok(()) => format!("`{first}` alone works"),
                Err(why) => why,
            };
            let needed = needed.text_name();
            return Err(format!(
                "`{self}` needs {needed}, as every combination of steps does; for {} {instead}",
                opset.text_name()
            ));
        }
        if self.joint {
            let needed = needed.text_name();
            return Err(format!(
                "`{self}` needs {needed}, as every combination of steps does; for {} expand weights first, with `dense`, and \
                 compress them in one step",
                opset.text_name()
            ));
        }
        let (what, instead) = self.steps.first().map_or(("", String::new()), |s| s.older(opset));
        Err(format!("{what} need {}; for {} {instead}", needed.text_name(), opset.text_name()))
    }

    /// The name as a part of file names: letters, digits, `.` and `-`.
    pub fn file_name(&self) -> String {
        let mut name = String::new();
        for c in self.to_string().chars() {
            if c.is_ascii_alphanumeric() || c == '.' {
                name.push(c);
            } else if !name.ends_with('-') {
                name.push('-');
            }
        }
        name
    }
}

impl Step {
    fn min_opset(&self) -> Opset {
        let is_new = match self {
            Step::Linear(l) => l.dtype.bits() < 8 || matches!(l.blocks, Blocks::Along(_) | Blocks::Each(_)),
            Step::Palette(p) => p.group.is_some() || p.vector > 1 || p.rows || p.bits == Some(3),
            Step::Prune(_) => false,
        };
        if is_new { Opset::Ios18 } else { Opset::Ios16 }
    }

    /// Which of its parts an old opset cannot express, and what it can.
    fn older(&self, opset: Opset) -> (&'static str, String) {
        if opset < Opset::Ios16 {
            return ("compressed weights", "only float16 works".into());
        }
        match self {
            Step::Linear(l) if l.dtype.bits() < 8 => {
                ("integers of 4 bits", "int8 works, or palette4 of the same size".into())
            }
            Step::Linear(_) => ("scales for blocks", "int8 with a scale for each channel works".into()),
            Step::Palette(p) if p.bits == Some(3) => {
                ("palettes of 3 bits", "palette4 and palette2 work".into())
            }
            Step::Palette(p) => {
                let one = Palette { group: None, axis: None, vector: 1, rows: false, ..p.clone() };
                (
                    "several tables, vectors and scales of rows",
                    format!("`{}` works, with one table", Step::Palette(one)),
                )
            }
            Step::Prune(_) => ("pruned weights", "only float16 works".into()),
        }
    }

    fn tolerance_db(&self) -> f64 {
        const FINE: f64 = 20.0;
        const COARSE: f64 = 10.0;
        const SAME: f64 = 40.0;
        match self {
            Step::Linear(l) if l.dtype.bits() == 8 => FINE,
            Step::Palette(p) => match p.bits {
                None => SAME,
                Some(bits) if usize::from(bits) >= 6 * p.vector => FINE,
                Some(_) => COARSE,
            },
            // What is below a tiny threshold is not missed.
            Step::Prune(p) if matches!(p.rule, Rule::Threshold { threshold, .. } if threshold <= 1e-9) => {
                SAME
            }
            Step::Linear(_) | Step::Prune(_) => COARSE,
        }
    }

    /// The entry of the list.
    fn quantization(&self) -> Quantization {
        match self {
            Step::Linear(l) => match l.dtype {
                DType::UInt8 => Quantization::UInt8,
                DType::Int4 => Quantization::Int4,
                DType::UInt4 => Quantization::UInt4,
                _ => Quantization::Int8,
            },
            Step::Palette(p) => match p.bits {
                None => Quantization::Unique,
                Some(8) => Quantization::Palette8,
                Some(6) => Quantization::Palette6,
                Some(4) => Quantization::Palette4,
                Some(3) => Quantization::Palette3,
                Some(2) => Quantization::Palette2,
                Some(_) => Quantization::Palette1,
            },
            Step::Prune(_) => Quantization::Prune,
        }
    }

    /// Sets an option, such as `block=32` or `uniform`.
    fn set(&mut self, key: &str, value: &str) -> Result<(), String> {
        let name = self.quantization();
        let unknown = || {
            let options = OPTIONS.iter().filter(|o| o.suits(name)).map(|o| format!("`{}`", o.form));
            let options: Vec<_> = options.collect();
            format!("`{name}` has no option `{key}`; it has {}", options.join(", "))
        };
        let option = OPTIONS.iter().find(|o| o.suits(name) && o.key() == key).ok_or_else(unknown)?;
        if option.form.contains('=') == value.is_empty() {
            return Err(format!("the option `{key}` is written `{}`", option.form));
        }
        let wrong = || format!("`{value}` is no value for `{}`", option.form);
        let count = || value.parse::<usize>().ok().filter(|&n| n > 0).ok_or_else(wrong);
        let share = || value.parse::<f64>().ok().filter(|x| (0.0..=1.0).contains(x)).ok_or_else(wrong);
        match (self, key) {
            (Step::Linear(l), "tensor") => l.blocks = Blocks::Tensor,
            (Step::Linear(l), "channel") => l.blocks = Blocks::Channel,
            (Step::Linear(l), "asymmetric") => l.symmetric = false,
            (Step::Linear(l), "block") if value.contains('x') => {
                let sizes: Option<Vec<usize>> = value.split('x').map(|n| n.parse().ok()).collect();
                l.blocks = Blocks::Each(sizes.ok_or_else(wrong)?);
            }
            (Step::Linear(l), "block") => l.blocks = Blocks::Along(count()?),
            (Step::Palette(p), "uniform") => p.spread = Spread::Uniform,
            (Step::Palette(p), "group") => p.group = Some(count()?),
            (Step::Palette(p), "axis") => p.axis = Some(value.parse().map_err(|_| wrong())?),
            (Step::Palette(p), "vector") => p.vector = count()?,
            (Step::Palette(p), "rows") => p.rows = true,
            (Step::Prune(p), "threshold") => {
                let threshold =
                    value.parse().ok().filter(|t: &f32| t.is_finite() && *t >= 0.0).ok_or_else(wrong)?;
                let least = if let Rule::Threshold { least, .. } = p.rule { least } else { Prune::LEAST };
                p.rule = Rule::Threshold { threshold, least };
            }
            (Step::Prune(p), "least") => match &mut p.rule {
                Rule::Threshold { least, .. } => *least = share()?,
                _ => return Err("the option `least` goes with a threshold".into()),
            },
            (Step::Prune(p), "sparsity") => p.rule = Rule::Magnitude { sparsity: share()?, block: 1, dim: 0 },
            (Step::Prune(p), "block") => match &mut p.rule {
                Rule::Magnitude { block, .. } => *block = count()?,
                _ => return Err("the option `block` comes after `sparsity`".into()),
            },
            (Step::Prune(p), "dim") => match &mut p.rule {
                Rule::Magnitude { dim, .. } | Rule::Ratio { dim, .. } => {
                    *dim = value.parse().ok().filter(|&d| d < 2).ok_or_else(wrong)?;
                }
                Rule::Threshold { .. } => {
                    return Err("the option `dim` comes after `block` or `ratio`".into());
                }
            },
            (Step::Prune(p), "ratio") => {
                let (n, m) = value.split_once(':').ok_or_else(wrong)?;
                let (n, m): (usize, usize) =
                    (n.parse().map_err(|_| wrong())?, m.parse().map_err(|_| wrong())?);
                if n > m || m == 0 {
                    return Err(wrong());
                }
                p.rule = Rule::Ratio { n, m, dim: 1 };
            }
            _ => return Err(unknown()),
        }
        Ok(())
    }

    /// Checks that its options go together.
    fn check(&self) -> Result<(), String> {
        match self {
            Step::Palette(p) if p.vector > 1 && p.spread == Spread::Uniform => {
                Err("values at equal distances are numbers, not vectors: leave out `uniform` or `vector`"
                    .into())
            }
            Step::Palette(p) if p.rows && (p.group.is_some() || p.vector > 1 || p.bits.is_none()) => {
                Err("scales of rows go with one table of numbers: leave out `rows`, or the other options"
                    .into())
            }
            Step::Palette(p) if p.axis.is_some() && p.group.is_none() && p.vector == 1 => {
                Err("`axis` says along which dimension `group` or `vector` goes: add one of them".into())
            }
            _ => Ok(()),
        }
    }
}

/// An option of a step, for help and errors.
#[derive(Clone, Copy, Debug)]
pub struct StepOption {
    /// How it is written: a word, or `key=VALUE`.
    pub form: &'static str,
    /// The steps that have it.
    pub of: &'static [Family],
    /// What it does.
    pub doc: &'static str,
}

macro_rules! families {
    ($($(#[$doc:meta])* $family:ident $name:literal,)+) => {
        /// A family of steps, which have the same options.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        #[non_exhaustive]
        pub enum Family {
            $($(#[$doc])* $family,)+
        }

        impl Family {
            /// All of them, in the order in which help shows them.
            pub const ALL: &'static [Family] = &[$(Family::$family),+];

            /// How help and docs call it.
            pub fn name(self) -> &'static str {
                match self {
                    $(Family::$family => $name,)+
                }
            }
        }
    };
}

families! {
    /// int8, uint8, int4, uint4.
    Linear "integers",
    /// The palettes.
    Palette "palettes",
    /// Tables of the values that occur.
    Unique "unique",
    /// Pruning.
    Prune "prune",
}

impl Quantization {
    /// The family that decides which options it has, if it compresses weights.
    pub fn family(self) -> Option<Family> {
        match &self.info().action {
            Action::Keep | Action::Expand | Action::Float16 => None,
            Action::Compress(Step::Linear(_)) => Some(Family::Linear),
            Action::Compress(Step::Palette(p)) if p.bits.is_none() => Some(Family::Unique),
            Action::Compress(Step::Palette(_)) => Some(Family::Palette),
            Action::Compress(Step::Prune(_)) => Some(Family::Prune),
        }
    }
}

impl StepOption {
    fn key(&self) -> &'static str {
        self.form.split_once('=').map_or(self.form, |(key, _)| key)
    }

    fn suits(&self, quantization: Quantization) -> bool {
        quantization.family().is_some_and(|f| self.of.contains(&f))
    }
}

/// All options, in the order in which help and docs show them.
pub const OPTIONS: &[StepOption] = &[
    StepOption { form: "tensor", of: &[Family::Linear], doc: "one scale for the whole tensor" },
    StepOption {
        form: "channel",
        of: &[Family::Linear],
        doc: "one scale for each output channel (the default)",
    },
    StepOption {
        form: "block=N",
        of: &[Family::Linear],
        doc: "one scale for every N elements along the input channels of an output channel; or a size for each dimension, as in \
              `block=1x16`, where 0 is the whole dimension",
    },
    StepOption {
        form: "asymmetric",
        of: &[Family::Linear],
        doc: "with zero points, so that the whole range of the integers covers what lies between the least and the largest element",
    },
    StepOption {
        form: "uniform",
        of: &[Family::Palette],
        doc: "values at equal distances from the least to the largest element",
    },
    StepOption {
        form: "group=N",
        of: &[Family::Palette, Family::Unique],
        doc: "a table for every N output channels",
    },
    StepOption {
        form: "axis=D",
        of: &[Family::Palette, Family::Unique],
        doc: "the dimension that groups and vectors are along, instead of that of the output channels",
    },
    StepOption {
        form: "vector=N",
        of: &[Family::Palette, Family::Unique],
        doc: "an index stands for N elements, of neighboring output channels",
    },
    StepOption {
        form: "rows",
        of: &[Family::Palette],
        doc: "one table times a scale for each output channel",
    },
    StepOption {
        form: "threshold=T",
        of: &[Family::Prune],
        doc: "elements of this magnitude or less become zero (the default, 1e-12)",
    },
    StepOption {
        form: "least=SHARE",
        of: &[Family::Prune],
        doc: "with a threshold: weights that get a smaller share of zeros stay as they are (0.5)",
    },
    StepOption {
        form: "sparsity=SHARE",
        of: &[Family::Prune],
        doc: "this share of the elements, those of the least magnitude, becomes zero",
    },
    StepOption {
        form: "block=N",
        of: &[Family::Prune],
        doc: "after `sparsity`: blocks of N elements along `dim` become zero together, for the weights of conv and linear",
    },
    StepOption {
        form: "ratio=N:M",
        of: &[Family::Prune],
        doc: "N of every M elements along `dim` become zero, for the weights of conv and linear",
    },
    StepOption {
        form: "dim=D",
        of: &[Family::Prune],
        doc: "after `block` (0) or `ratio` (1): the dimension, 0 or 1",
    },
    StepOption {
        form: "min=N",
        of: Family::ALL,
        doc: "weights with no more than N elements stay as they are (2048)",
    },
];

impl FromStr for Compression {
    type Err = String;

    fn from_str(text: &str) -> Result<Compression, String> {
        let mut all = Compression::default();
        let (joint, text) = text
            .split_once('+')
            .filter(|(first, _)| first.trim() == JOINT)
            .map_or_else(|| (false, text), |(_, rest)| (true, rest));
        all.joint = joint;
        for (i, step) in text.split('+').enumerate() {
            let (name, options) = step.split_once(':').unwrap_or((step, ""));
            let quantization: Quantization = name.trim().parse()?;
            let options = options.split(',').map(str::trim).filter(|o| !o.is_empty());
            let found = Compression::from(quantization);
            let Some(mut step) = found.steps.first().cloned() else {
                if let Some(option) = options.into_iter().next() {
                    return Err(format!("`{quantization}` has no option `{option}`, nor any other"));
                }
                // What is done to whole programs comes before the steps of weights, and only once.
                let is_alone = found.is_none() && text.contains('+');
                if is_alone
                    || !all.steps.is_empty()
                    || (found.dense && i > 0)
                    || (found.float16 && all.float16)
                {
                    return Err(format!(
                        "`{quantization}` is no step that follows another: `dense` comes first, `float16` next"
                    ));
                }
                all.dense |= found.dense;
                all.float16 |= found.float16;
                continue;
            };
            for option in options {
                let (key, value) = option.split_once('=').unwrap_or((option, ""));
                if key == "min" {
                    let min = value
                        .parse()
                        .map_err(|_| format!("`{value}` is no number of elements for `min=N`"))?;
                    all.min_elements = min;
                } else {
                    step.set(key, value)?;
                }
            }
            step.check()?;
            all.steps.push(step);
        }
        all.check()?;
        if joint && (all.steps.is_empty() || all.dense || all.float16) {
            return Err(format!(
                "`{JOINT}` is followed by what is done to weights that are compressed already, and by that only"
            ));
        }
        Ok(all)
    }
}

impl Compression {
    /// Checks that each step can work on the result of the one before.
    ///
    /// # Errors
    /// One cannot; the text says which.
    pub fn check(&self) -> Result<(), String> {
        for pair in self.steps.windows(2) {
            let fits = match (&pair[0], &pair[1]) {
                (Step::Prune(_), Step::Linear(_) | Step::Palette(_))
                | (Step::Palette(_), Step::Linear(_))
                | (Step::Linear(_), Step::Palette(_)) => true,
                (_, Step::Prune(_)) => !matches!(pair[0], Step::Prune(_)),
                _ => false,
            };
            if !fits {
                return Err(format!(
                    "`{}` cannot follow `{}`: what is joined is prune, a palette and integers, each once",
                    pair[1], pair[0]
                ));
            }
            if let (Step::Palette(_), Step::Linear(l)) = (&pair[0], &pair[1])
                && matches!(l.blocks, Blocks::Along(_) | Blocks::Each(_))
            {
                return Err(format!(
                    "`{}` cannot follow `{}`: the values of a table have one scale; leave out `block`",
                    pair[1], pair[0]
                ));
            }
            if let (Step::Linear(_), Step::Palette(p)) = (&pair[0], &pair[1])
                && (p.vector > 1 || p.rows)
            {
                return Err(format!(
                    "`{}` cannot follow `{}`: tables are of integers, which scales then multiply; leave out `vector` and `rows`",
                    pair[1], pair[0]
                ));
            }
        }
        if self.steps.len() > 3 {
            return Err("at most three steps can be joined: prune, a palette and integers".into());
        }
        Ok(())
    }
}

/// As it is read: the options that are not the defaults, in the order of [`OPTIONS`].
impl fmt::Display for Compression {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut steps: Vec<String> = Vec::new();
        if self.joint {
            steps.push(JOINT.into());
        }
        if self.dense {
            steps.push(Quantization::Dense.name().into());
        }
        if self.float16 {
            steps.push(Quantization::Float16.name().into());
        }
        steps.extend(self.steps.iter().map(Step::to_string));
        if steps.is_empty() {
            steps.push(Quantization::None.name().into());
        }
        let mut text = steps.join("+");
        if self.min_elements != MIN_ELEMENTS && !self.steps.is_empty() {
            let last = steps.last().map_or("", String::as_str);
            text.push(if last.contains(':') { ',' } else { ':' });
            text += &format!("min={}", self.min_elements);
        }
        f.write_str(&text)
    }
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut options: Vec<String> = Vec::new();
        match self {
            Step::Linear(l) => {
                match &l.blocks {
                    Blocks::Tensor => options.push("tensor".into()),
                    Blocks::Channel => {}
                    Blocks::Along(n) => options.push(format!("block={n}")),
                    Blocks::Each(sizes) => {
                        let sizes: Vec<_> = sizes.iter().map(usize::to_string).collect();
                        options.push(format!("block={}", sizes.join("x")));
                    }
                }
                if !l.symmetric {
                    options.push("asymmetric".into());
                }
            }
            Step::Palette(p) => {
                if p.spread == Spread::Uniform {
                    options.push("uniform".into());
                }
                options.extend(p.group.map(|n| format!("group={n}")));
                options.extend(p.axis.map(|n| format!("axis={n}")));
                if p.vector > 1 {
                    options.push(format!("vector={}", p.vector));
                }
                if p.rows {
                    options.push("rows".into());
                }
            }
            Step::Prune(p) => match p.rule {
                Rule::Threshold { threshold, least } => {
                    if threshold != Prune::THRESHOLD {
                        options.push(format!("threshold={threshold:e}"));
                    }
                    if least != Prune::LEAST {
                        options.push(format!("least={least}"));
                    }
                }
                Rule::Magnitude { sparsity, block, dim } => {
                    options.push(format!("sparsity={sparsity}"));
                    if block > 1 {
                        options.push(format!("block={block}"));
                    }
                    if dim != 0 {
                        options.push(format!("dim={dim}"));
                    }
                }
                Rule::Ratio { n, m, dim } => {
                    options.push(format!("ratio={n}:{m}"));
                    if dim != 1 {
                        options.push(format!("dim={dim}"));
                    }
                }
            },
        }
        let name = self.quantization();
        if options.is_empty() { write!(f, "{name}") } else { write!(f, "{name}:{}", options.join(",")) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<Compression, String> {
        text.parse()
    }

    #[test]
    fn texts_are_read_back() {
        for text in [
            "none",
            "float16",
            "int8",
            "uint8:tensor,asymmetric",
            "int4:block=32",
            "int4:block=1x16",
            "uint4:block=0x8x3x3,asymmetric,min=10",
            "palette4:uniform",
            "palette3:group=16,axis=1",
            "palette8:vector=2",
            "palette6:rows",
            "unique",
            "prune",
            "prune:threshold=1e-3,least=0.25",
            "prune:sparsity=0.75,block=4,dim=1",
            "prune:ratio=2:4",
            "prune:sparsity=0.5+int8",
            "prune:ratio=1:2,dim=0+palette4+int8",
            "palette4+int8:min=100",
            "int8+palette4",
            "float16+int8",
            "dense",
            "dense+float16+palette4",
            "joint+int8:tensor",
            "joint+palette4:group=8,min=10",
        ] {
            let compression = parse(text).unwrap_or_else(|e| panic!("{text}: {e}"));
            assert_eq!(compression.to_string(), text);
        }
        for &quantization in Quantization::ALL {
            assert_eq!(parse(quantization.name()), Ok(quantization.into()));
        }
        assert_eq!(parse("prune:sparsity=0.5+int8").unwrap().file_name(), "prune-sparsity-0.5-int8");
    }

    #[test]
    fn every_listed_option_is_read() {
        for option in OPTIONS {
            let value = if option.form.contains('=') { "=1" } else { "" };
            for q in Quantization::ALL.iter().filter(|&&q| option.suits(q)) {
                let text = format!("{q}:{}{value}", option.key());
                let error = parse(&text).err().unwrap_or_default();
                assert!(!error.contains("has no option"), "{text}: {error}");
            }
        }
    }

    #[test]
    fn wrong_ones_say_why() {
        for (text, why) in [
            ("int3", "there is no quantization `int3`"),
            ("int8:block", "is written `block=N`"),
            ("int8:group=4", "`int8` has no option `group`; it has `tensor`, `channel`, `block=N`"),
            ("int8:block=0", "`0` is no value for `block=N`"),
            ("palette4:uniform,vector=2", "not vectors"),
            ("palette4:rows,group=2", "leave out `rows`"),
            ("palette4:axis=1", "add one of them"),
            ("prune:sparsity=2", "`2` is no value"),
            ("prune:ratio=5:4", "`5:4` is no value"),
            ("prune:block=4", "comes after `sparsity`"),
            ("int8+int4", "`int4` cannot follow `int8`"),
            ("palette4+int8:block=4", "leave out `block`"),
            ("float16:tensor", "nor any other"),
            ("int8+float16", "`float16` next"),
            ("float16+dense", "`dense` comes first"),
            ("none+int8", "comes first"),
            ("joint", "there is no quantization `joint`"),
            ("joint+dense", "is followed by"),
            ("joint+float16+int8", "is followed by"),
            ("int8+joint", "there is no quantization `joint`"),
        ] {
            let error = parse(text).unwrap_err();
            assert!(error.contains(why), "{text}: {error}");
        }
    }

    #[test]
    fn old_opsets_have_less() {
        for (text, opset, why) in [
            ("int4", Opset::Ios17, "integers of 4 bits need ios18; for ios17 int8 works, or palette4"),
            ("int8:block=32", Opset::Ios16, "scales for blocks need ios18; for ios16 int8 with a scale"),
            ("palette3", Opset::Ios16, "palettes of 3 bits need ios18; for ios16 palette4 and palette2 work"),
            ("palette4:group=8", Opset::Ios17, "for ios17 `palette4` works, with one table"),
            ("prune+int8", Opset::Ios17, "for ios17 `prune` alone works"),
            ("joint+int8", Opset::Ios17, "for ios17 expand weights first"),
            ("int8", Opset::Ios15, "compressed weights need ios16; for ios15 only float16 works"),
        ] {
            let error = parse(text).unwrap().check_opset(opset).unwrap_err();
            assert!(error.contains(why), "{text}: {error}");
            assert_eq!(parse(text).unwrap().check_opset(Opset::Ios18), Ok(()));
        }
    }
}
