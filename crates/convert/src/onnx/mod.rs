//! Converts ONNX models to IR, with the description that a Core ML model has.
//!
//! [`read()`] lowers each node to MIL ops that compute the same. `table` lists every op with the function that lowers
//! it, or with the reason why none does; there is a file for each family. If nodes cannot be lowered, the error lists
//! them all, each with its name, its op and the reason.
//!
//! * `elem`, `stored`: element types, and constants in all forms in which files store them.
//! * `coded`: quantized constants, which stay as small as they are.
//! * `item`: what names refer to. The ONNX element type is kept beside the MIL type that carries it: double and
//!   bfloat16 are computed in fp32, all integers in int32.
//! * `graph`, `order`: the importer; it sorts nodes, resolves names, and puts the bodies of functions in place of their
//!   calls.
//! * `node`: what a lowering function sees of its node.
//! * `border`: inputs and outputs, and the description of the model.
//! * `outline`: what a file says of itself, for models that cannot be imported.

mod activation;
mod attention;
mod border;
mod cast;
mod coded;
mod compose;
mod contrib;
mod control;
mod conv;
mod elem;
mod elementwise;
mod flexible;
mod fused;
mod gather;
mod graph;
mod item;
mod layout;
mod linear;
mod loops;
mod loss;
mod matrix;
mod ml;
mod node;
mod norm;
mod order;
mod outline;
mod packed;
mod pad;
mod permute;
mod pool;
mod qlinear;
mod quantize;
mod random;
mod rank;
mod recurrent;
mod reduce;
mod resize;
mod sample;
mod select;
mod sequence;
mod shape;
mod signal;
mod slice;
mod stored;
pub mod table;
mod text;

use std::collections::BTreeMap;

use milwright_formats::onnx::OnnxFile;
use milwright_formats::proto as pb;
use milwright_mil::{Evaluate, Opset, Program, Tensor};

use crate::Error;
use crate::names::make_identifiers;
use graph::Importer;
pub use outline::{Outline, OutlineWeight, outline};

pub use border::original_names;

/// How a model is imported.
#[derive(Clone, Default)]
pub struct Options {
    /// The opset of the program; `None` for the oldest one that serves.
    pub opset: Option<Opset>,
    /// The sizes of dimensions by their names, as the model names them.
    pub sizes: BTreeMap<String, Size>,
    /// Inputs that become constants.
    pub frozen: BTreeMap<String, Tensor>,
    /// Whether the program is for a package: its inputs and outputs get names that Core ML takes, and sizes without an end
    /// get one.
    pub for_package: bool,
    /// What runs ops on constants. Without it, only what type inference knows is folded.
    pub engine: Option<&'static (dyn Evaluate + Sync)>,
}

impl std::fmt::Debug for Options {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Options")
            .field("opset", &self.opset)
            .field("sizes", &self.sizes)
            .field("frozen", &self.frozen.keys())
            .field("for_package", &self.for_package)
            .finish_non_exhaustive()
    }
}

/// The sizes that a dimension may have.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Size {
    /// One size.
    Fixed(usize),
    /// Any size from the first to the second; without an end if that is `None`. The first is also the default.
    Range(usize, Option<usize>),
    /// One of these sizes; the first is the default.
    OneOf(Vec<usize>),
}

/// Parses `N`, `FIRST..LAST`, `FIRST..`, or several sizes with commas between.
impl std::str::FromStr for Size {
    type Err = String;
    fn from_str(text: &str) -> Result<Size, String> {
        let number = |text: &str| {
            let number = text.trim().parse::<usize>().ok().filter(|&n| n <= i32::MAX as usize);
            number.ok_or_else(|| format!("`{text}` is not a size"))
        };
        if let Some((first, last)) = text.split_once("..") {
            let last = last.trim_start_matches('=');
            let (first, last) =
                (number(first)?, if last.trim().is_empty() { None } else { Some(number(last)?) });
            if last.is_some_and(|last| last < first) {
                return Err("the range ends before it begins".to_owned());
            }
            Ok(Size::Range(first, last))
        } else if text.contains(',') {
            Ok(Size::OneOf(text.split(',').map(number).collect::<Result<_, _>>()?))
        } else {
            Ok(Size::Fixed(number(text)?))
        }
    }
}

/// An imported model.
#[derive(Clone, Debug)]
pub struct Imported {
    /// The program.
    pub program: Program,
    /// The model without its program: description, metadata and version.
    pub model: pb::Model,
    /// What the import had to assume, in sentences.
    pub notes: Vec<String>,
    /// How many nodes of each op were lowered.
    pub ops: BTreeMap<String, usize>,
}

/// The elements of a tensor of a file.
#[derive(Clone, Debug)]
pub struct Numbers {
    /// The element type's name, such as `int64`.
    pub elem: &'static str,
    /// The sizes of the dimensions.
    pub shape: Vec<usize>,
    /// The elements.
    pub values: Vec<f64>,
    /// The elements of an integer or bool type, exactly.
    pub ints: Option<Vec<i64>>,
}

impl Numbers {
    /// A number rounded to the element type.
    pub fn rounded(&self, x: f64) -> f64 {
        match self.elem {
            "float16" => half::f16::from_f64(x).to_f64(),
            "bfloat16" => half::bf16::from_f64(x).to_f64(),
            _ => x,
        }
    }
}

/// Reads a tensor whose data is in the message.
///
/// # Errors
/// It is malformed, or has elements that are no numbers.
pub fn numbers(proto: &milwright_formats::onnx::proto::TensorProto) -> Result<Numbers, Error> {
    let stored = stored::Stored::read_inline(proto)?;
    if stored.elem == elem::Elem::String {
        return Err(Error::unsupported("strings are no numbers"));
    }
    let (shape, ints) = (stored.tensor.shape().to_vec(), stored.ints());
    Ok(Numbers { elem: stored.elem.name(), shape, values: stored.numbers(), ints })
}

/// The opsets in which a model is tried, if none is wanted.
const CANDIDATES: [Opset; 4] = [Opset::Ios15, Opset::Ios16, Opset::Ios17, Opset::Ios18];

/// Imports a model.
///
/// # Errors
/// The model is malformed, or has nodes that cannot be lowered; the error lists them.
pub fn read(file: &OnnxFile, options: &Options) -> Result<Imported, Error> {
    if let Some(opset) = options.opset {
        return Ok(attempt(file, options, opset)?.0);
    }
    let mut at = 0;
    loop {
        let opset = CANDIDATES[at];
        let is_last = at + 1 == CANDIDATES.len();
        match attempt(file, options, opset) {
            Ok((imported, wanted)) => match wanted.filter(|&w| w > opset && !is_last) {
                Some(wanted) => at = CANDIDATES.iter().position(|&c| c >= wanted).unwrap_or(at + 1),
                None => return Ok(imported),
            },
            Err(error) if is_last => return Err(error),
            Err(_) => at += 1,
        }
    }
}

/// Imports a model for an opset. Also returns the newest opset that a node asked for.
fn attempt(file: &OnnxFile, options: &Options, opset: Opset) -> Result<(Imported, Option<Opset>), Error> {
    let graph = file.model().graph.as_deref().ok_or_else(|| Error::malformed("the model has no graph"))?;
    let mut importer = Importer::new(file, opset)?;
    if let Some(engine) = options.engine {
        importer.builder.fold_with(engine);
    }
    let names = border::Names::new(graph, options);
    names.reserve(&mut importer);
    let inputs = border::bind_inputs(&mut importer, graph, &names, options)?;
    let results: Vec<&str> = graph.output.iter().map(|o| o.name()).collect();
    importer.lower(&graph.node, &results)?;
    importer.faults.check("nodes")?;
    let outputs = border::outputs(&mut importer, graph, &names)?;
    let mut model = border::describe(&importer, file.model(), graph, &inputs, &outputs, &names);
    let wanted = importer.wanted;
    let (mut notes, ops) = (std::mem::take(&mut importer.notes), std::mem::take(&mut importer.counts));
    notes.extend(names.notes());
    let mut function = importer.finish(outputs.iter().map(|o| o.value).collect());
    make_identifiers(&mut function);
    flexible::choose(&function, &inputs, &mut model, options, &mut notes);
    let mut program = Program::default();
    program.functions.insert("main".into(), function);
    Ok((Imported { program, model, notes, ops }, wanted))
}
