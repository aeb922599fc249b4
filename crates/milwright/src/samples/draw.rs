//! Draws samples that fit what a model declares.

mod uses;

use std::collections::hash_map::Entry;
use std::collections::{BTreeMap, HashMap};
use std::fmt;

use milwright_mil::engine::CompileOptions;
use milwright_mil::infer::{Facts, infer};
use milwright_mil::{DType, Dim, Function, Tensor, TensorType, Type, ValueId};
use rand_xoshiro::Xoshiro256PlusPlus;
use rand_xoshiro::rand_core::{Rng, SeedableRng};

use super::ranges::{Known, Range, known, ranges};
use super::{SampleSource, Samples};
use crate::classifier::Classifier;
use crate::feature::default_shape;
use crate::legacy::declared_axis;
use crate::target::{reference_engine, reference_ops};
use crate::{
    ColorSpace, Dictionary, Error, ErrorKind, FeatureType, Flexibility, InferenceRequest, KeyType,
    LoadOptions, Model, Result, SizeRange,
};
use uses::{Uses, bounds, table_size};

impl Samples {
    /// Draws `count` samples. Equal seeds give equal samples on every machine.
    ///
    /// Floats are uniform in -1 … 1. Image pixels are from 0 to 255. Integers that index a table are uniform over its
    /// rows; other integers and bools are 0 or 1. Masks are a row of ones, then zeros, and lengths are at most those of the sequences.
    /// Flexible inputs get their default shape; if more than one sample is drawn, lengths that are 1 by default but may
    /// be much larger are 8. If more than one sample is drawn, there are also [`others`](Samples::others): at the smallest
    /// shape and at up to twice the default, or at the smallest and largest of the enumerated shapes. The inputs of a
    /// pipeline fit the models that take them. Optional inputs of classical models are left out; but inputs that
    /// replace a value of the model, such as a detector's thresholds, are given in every second sample.
    ///
    /// # Errors
    /// There is no such function, or an input has a type that cannot be drawn.
    pub fn draw(model: &Model, function: Option<&str>, seed: u64, count: usize) -> Result<Samples> {
        Samples::draw_within(model, function, seed, count, &LoadOptions::default())
    }

    /// Draws samples as [`draw`](Samples::draw) does, within the memory limit of `options`, until cancelled.
    ///
    /// # Errors
    /// As for [`draw`](Samples::draw); the samples would take more memory than the limit, which is checked before they
    /// are drawn; or the call was cancelled.
    pub fn draw_within(
        model: &Model,
        function: Option<&str>,
        seed: u64,
        count: usize,
        options: &LoadOptions,
    ) -> Result<Samples> {
        let mut random = Xoshiro256PlusPlus::seed_from_u64(seed);
        let inputs = inputs(model, function, count > 1, options)?;
        check_size(&inputs, count, options.limits.memory).map_err(|e| e.at(model.path()))?;
        let mut requests = Vec::with_capacity(count);
        for set in 0..count {
            options.cancel.check().map_err(|e| e.at(model.path()))?;
            requests.push(draw(&inputs, set, &mut random).map_err(|e| e.at(model.path()))?);
        }
        let mut others = Vec::new();
        for size in 0..if count > 1 { 2 } else { 0 } {
            options.cancel.check().map_err(|e| e.at(model.path()))?;
            let at_size = inputs.iter().map(|i| {
                let (shape, values) = i.others[size].clone();
                Drawn { shape, values, ..i.clone() }
            });
            let at_size: Vec<Drawn> = at_size.collect();
            let is_other = at_size.iter().zip(&inputs).any(|(other, input)| other.shape != input.shape);
            if is_other && check_size(&at_size, 1, options.limits.memory).is_ok() {
                others.push(draw(&at_size, count, &mut random).map_err(|e| e.at(model.path()))?);
            }
        }
        let ranges = ranges_in_words(&inputs);
        Ok(Samples { requests, source: SampleSource::Drawn { seed, ranges }, others })
    }
}

/// What was drawn for each input. Of very many, only the first are named: every output of a report repeats it.
fn ranges_in_words(inputs: &[Drawn]) -> BTreeMap<String, String> {
    const NAMED: usize = 64;
    let named = inputs.iter().take(NAMED).map(|i| (i.name.clone(), i.values.to_string()));
    let others = inputs.len().saturating_sub(NAMED);
    named.chain((others > 0).then(|| ("others".to_owned(), format!("of {others} more inputs")))).collect()
}

/// Draws one sample.
fn draw(inputs: &[Drawn], set: usize, random: &mut Xoshiro256PlusPlus) -> Result<InferenceRequest> {
    let mut request = InferenceRequest::new();
    for input in inputs {
        request = match &input.values {
            Values::LeftOut => request,
            // Even samples use the model's own value.
            Values::Now(_) if set.is_multiple_of(2) => request,
            Values::Counts(keys) => request.dictionary(&input.name, counts(keys, random)),
            _ => request.input(&input.name, input.draw(random)?),
        };
    }
    Ok(request)
}

/// An input and how to draw it.
#[derive(Clone)]
struct Drawn {
    name: String,
    shape: Vec<usize>,
    values: Values,
    /// The dimensions whose size is a guess, each with its largest size.
    open: Vec<(usize, usize)>,
    /// A small and a large shape that the input may have as well, each with the values for it; equal to `shape` if
    /// there is no other.
    others: [(Vec<usize>, Values); 2],
}

/// The kinds of values to draw.
#[derive(Clone, Debug, PartialEq)]
enum Values {
    /// Real numbers from -1 to 1.
    Unit,
    /// Whole numbers from 0 to 255.
    Pixels,
    /// Real numbers from 0 to 255, for images of fp16.
    RealPixels,
    /// Integers from 0 up to, but not including, this.
    Below(u64),
    /// Truth values.
    Truth,
    /// Values that the model knows; if none are known, any strings or small integers.
    Of(Known),
    /// A dictionary of some of these keys with integers from 1 to 3.
    Counts(Known),
    /// Real numbers, each with its own range.
    Ranges(Vec<Range>),
    /// Ones, then zeros, along the last dimension, with at least one 1.
    Mask,
    /// Integers from 1 to this.
    Lengths(u64),
    /// Nothing: it is optional.
    LeftOut,
    /// A real number in this range in every second sample. In the others, the model uses its own value.
    Now(Range),
    /// A real number in this range, so that the model finds some of its table within the bound that it is.
    Bound(Range),
}

impl fmt::Display for Values {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Values::Unit => f.write_str("-1 to 1"),
            Values::Pixels => f.write_str("pixels, 0 to 255"),
            Values::RealPixels => f.write_str("pixels, 0 to 255, with fractions"),
            Values::Below(2) => f.write_str("0 or 1"),
            Values::Below(n) => write!(f, "whole numbers, 0 to {}", n - 1),
            Values::Truth => f.write_str("true or false"),
            Values::Of(known) => write!(f, "of {known}"),
            Values::Counts(known) => write!(f, "1 to 3 for some of {known}"),
            Values::Ranges(ranges) => {
                let low = ranges.iter().map(|r| r.0).fold(f64::INFINITY, f64::min);
                let high = ranges.iter().map(|r| r.1).fold(f64::NEG_INFINITY, f64::max);
                write!(f, "{low:.4} to {high:.4}, around what the model compares with")
            }
            Values::Mask => f.write_str("a mask: ones, then zeros"),
            Values::Lengths(n) => write!(f, "lengths, 1 to {n}"),
            Values::LeftOut => f.write_str("left out"),
            Values::Now((low, high)) => write!(f, "left out, or {low:.4} to {high:.4}"),
            Values::Bound((low, high)) => {
                write!(f, "{low:.4} to {high:.4}, a bound of what the model looks up")
            }
        }
    }
}

/// Refuses inputs that would take more memory than the limit.
fn check_size(inputs: &[Drawn], count: usize, limit: u64) -> Result<()> {
    let sizes = inputs.iter().map(|input| (input, input.bytes()));
    let total = sizes.clone().fold(0u64, |sum, (_, size)| sum.saturating_add(size));
    let total = total.saturating_mul(count as u64);
    let Some((largest, _)) = sizes.max_by_key(|(_, size)| *size).filter(|_| total > limit) else {
        return Ok(());
    };
    let message = format!(
        "drawing {count} sets of inputs takes {} of memory, and the limit is {}: the input `{}` has the shape {:?}",
        size_in_words(total),
        size_in_words(limit),
        largest.name,
        largest.shape
    );
    let hint = "raise the limit with --memory-limit (`Limits::memory`), or give fewer: --inputs DIR";
    Err(Error::new(ErrorKind::OutOfMemory, message).with_hint(hint))
}

fn size_in_words(bytes: u64) -> String {
    if bytes < 1_000_000 { format!("{bytes} bytes") } else { format!("{:.3} GB", bytes as f64 / 1e9) }
}

impl Drawn {
    /// The largest number of bytes that a drawn value of the input takes.
    fn bytes(&self) -> u64 {
        let size = match self.values {
            Values::Truth => 1,
            Values::Of(Known::Words(_)) => size_of::<String>() as u64,
            Values::Of(_) | Values::Ranges(_) | Values::Counts(_) => 8,
            _ => 4,
        };
        self.shape.iter().fold(size, |n, &d| n.saturating_mul(d as u64))
    }

    fn draw(&self, random: &mut Xoshiro256PlusPlus) -> Result<Tensor> {
        let shape = &self.shape[..];
        let elements = shape.iter().try_fold(1usize, |n, &d| n.checked_mul(d)).filter(|&n| n <= MAX_ELEMENTS);
        let too_large = || {
            Error::new(
                ErrorKind::Unsupported,
                format!("the input `{}` of shape {shape:?} is too large to draw", self.name),
            )
            .with_hint("give it: --inputs DIR")
        };
        let elements = elements.ok_or_else(too_large)?;
        let all = 0..elements;
        let tensor = match &self.values {
            Values::Unit => Tensor::from_vec(shape, all.map(|_| unit(random) * 2.0 - 1.0).collect()),
            Values::Pixels => {
                Tensor::from_vec(shape, all.map(|_| (random.next_u64() >> 56) as f32).collect())
            }
            Values::RealPixels => Tensor::from_vec(shape, all.map(|_| unit(random) * 255.0).collect()),
            Values::Below(n) => Tensor::from_vec(
                shape,
                all.map(|_| ((random.next_u64() >> 33) % (*n).max(1)) as i32).collect(),
            ),
            Values::Lengths(n) => Tensor::from_vec(
                shape,
                all.map(|_| 1 + ((random.next_u64() >> 33) % (*n).max(1)) as i32).collect(),
            ),
            Values::Truth => {
                Tensor::from_bools(shape, &all.map(|_| random.next_u64() >> 63 == 1).collect::<Vec<_>>())
            }
            // Not used: `counts` draws dictionaries, and optional inputs are left out.
            Values::Counts(_) | Values::LeftOut => Tensor::from_vec(shape, vec![0f64; elements]),
            Values::Of(Known::Words(words)) => {
                let draw = |_| words[(random.next_u64() >> 33) as usize % words.len()].clone();
                Tensor::from_strings(shape, all.map(draw).collect())
            }
            Values::Of(Known::Numbers(numbers)) => {
                let draw = |_| numbers[(random.next_u64() >> 33) as usize % numbers.len()];
                Tensor::from_vec(shape, all.map(draw).collect())
            }
            Values::Ranges(ranges) => {
                let draw = |(low, high): &Range| low + (high - low) * f64::from(unit(random));
                Tensor::from_vec(shape, ranges.iter().map(draw).collect())
            }
            Values::Mask => Tensor::from_vec(shape, mask(shape, elements, random)),
            Values::Now((low, high)) => {
                Tensor::from_vec(shape, all.map(|_| low + (high - low) * f64::from(unit(random))).collect())
            }
            Values::Bound((low, high)) => {
                let draw = |_| (low + (high - low) * f64::from(unit(random))) as f32;
                Tensor::from_vec(shape, all.map(draw).collect())
            }
        };
        tensor.map_err(|e| Error::invalid(e.to_string()))
    }
}

/// Larger inputs are not drawn.
const MAX_ELEMENTS: usize = 1 << 30;

/// The values that a model knows for an input of strings or integers, or values that may do.
fn known_or_any(model: &Model, input: &str, element: KeyType) -> Known {
    known(model, input).unwrap_or_else(|| match element {
        KeyType::Int64 => Known::Numbers(vec![0, 1, 2, 3]),
        KeyType::String => Known::Words(WORDS.map(str::to_owned).into()),
    })
}

/// Strings for a model that does not list any.
const WORDS: [&str; 4] = ["a", "good day", "Milwright", "0"];

/// A dictionary with half of the keys, but at least one.
fn counts(keys: &Known, random: &mut Xoshiro256PlusPlus) -> Dictionary {
    let first = (random.next_u64() >> 33) as usize;
    let mut count = |i: usize, n: usize| {
        let bits = random.next_u64() >> 32;
        (i == first % n || bits & 1 == 0).then_some(1.0 + (bits >> 1) as f64 % 3.0)
    };
    match keys {
        Known::Words(words) => {
            let entries =
                words.iter().enumerate().filter_map(|(i, w)| Some((w.clone(), count(i, words.len())?)));
            Dictionary::from_strings(entries.collect::<Vec<_>>())
        }
        Known::Numbers(numbers) => {
            let entries =
                numbers.iter().enumerate().filter_map(|(i, &k)| Some((k, count(i, numbers.len())?)));
            Dictionary::from_ints(entries.collect::<Vec<_>>())
        }
    }
}

/// The length of a drawn sequence.
const SEQUENCE: usize = 3;

/// Inputs with more elements get one range for all of them.
const MAX_RANGES: usize = 1 << 16;

/// A number from 0 up to, but not including, 1.
fn unit(random: &mut Xoshiro256PlusPlus) -> f32 {
    (random.next_u64() >> 40) as f32 / (1u64 << 24) as f32
}

fn mask(shape: &[usize], elements: usize, random: &mut Xoshiro256PlusPlus) -> Vec<i32> {
    let row = shape.last().copied().unwrap_or(1).max(1);
    let mut values = Vec::with_capacity(elements);
    while values.len() < elements {
        let ones = 1 + (random.next_u64() >> 33) as usize % row;
        values.extend((0..row).map(|i| i32::from(i < ones)));
    }
    values
}

/// The inputs of a model.
fn inputs(
    model: &Model,
    function: Option<&str>,
    may_grow: bool,
    options: &LoadOptions,
) -> Result<Vec<Drawn>> {
    match model.program() {
        Ok(_) => program_inputs(model, function, may_grow, options),
        Err(_) => features(model, function, may_grow, options),
    }
}

/// The inputs of a program.
fn program_inputs(
    model: &Model,
    function: Option<&str>,
    may_grow: bool,
    options: &LoadOptions,
) -> Result<Vec<Drawn>> {
    let program = model.function(function)?;
    let info = model.info().function(function);
    let mut inputs = Vec::new();
    for &input in &program.inputs {
        let value = &program[input];
        let Type::Tensor(ty) = &value.ty else { continue };
        let feature = info.and_then(|f| f.inputs.named(&value.name)).map(|f| &f.ty);
        let values = match feature {
            Some(FeatureType::Image { color, .. }) => pixels(*color),
            _ if is_mask(&value.name) && ty.dtype != DType::Bool => Values::Mask,
            _ if is_length(&value.name) && ty.dtype.is_int() => Values::Lengths(1),
            _ => match ty.dtype {
                DType::Bool => Values::Truth,
                dtype if dtype.is_int() => Values::Below(2),
                dtype if dtype.is_float() => Values::Unit,
                dtype => {
                    let error =
                        Error::new(ErrorKind::Unsupported, format!("inputs of type {dtype} cannot be drawn"));
                    return Err(error.with_hint("give it: --inputs DIR").at(model.path()));
                }
            },
        };
        let open = open_dimensions(model, ty, feature);
        let shape = default_shape(ty, feature);
        inputs.push(Drawn {
            name: value.name.clone(),
            others: [(shape.clone(), values.clone()), (shape.clone(), values.clone())],
            shape,
            values,
            open,
        });
    }
    fit_lengths(model, function, &mut inputs, options)?;
    if may_grow && !model.has_five_dimensions() {
        grow(program, &mut inputs);
    }
    let declared = program.inputs_by_name();
    for input in &mut inputs {
        let value = declared.get(input.name.as_str()).map(|&v| &program[v]);
        let feature = info.and_then(|f| f.inputs.named(&input.name)).map(|f| &f.ty);
        if let Some(ty) = value.and_then(|v| v.ty.as_tensor()) {
            input.others = other_shapes(ty, feature, &input.shape).map(|shape| (shape, input.values.clone()));
        }
    }
    // Sequences have the lengths that were left open.
    let longest = |shape: fn(&Drawn, usize) -> Option<&usize>| {
        let open = inputs.iter().flat_map(|input| input.open.iter().map(move |&(d, _)| shape(input, d)));
        open.flatten().copied().filter(|&n| n > 1).min().unwrap_or(1) as u64
    };
    let lengths = [
        longest(|i, d| i.shape.get(d)),
        longest(|i, d| i.others[0].0.get(d)),
        longest(|i, d| i.others[1].0.get(d)),
    ];
    for input in inputs.iter_mut().filter(|input| matches!(input.values, Values::Lengths(_))) {
        input.values = Values::Lengths(lengths[0]);
        input.others[0].1 = Values::Lengths(lengths[1]);
        input.others[1].1 = Values::Lengths(lengths[2]);
    }
    bounds(program, &mut inputs);
    // A table may be an input, or computed: its size is known when the shapes of inputs are.
    let rows = rows_of_tables(program, &inputs, |input| &input.shape);
    let others = [0, 1].map(|size| rows_of_tables(program, &inputs, |input| &input.others[size].0));
    for (i, input) in inputs.iter_mut().enumerate() {
        if let Some(values) = rows[i].clone() {
            input.values = values;
        }
        for (other, found) in input.others.iter_mut().zip(&others) {
            if let Some(values) = found[i].clone() {
                other.1 = values;
            }
        }
    }
    Ok(inputs)
}

/// What is known about a program at shapes of its inputs, and whether it fits together then.
fn facts_at<'a>(program: &Function, shape: impl Fn(&str) -> Option<&'a Vec<usize>>) -> (Facts, bool) {
    let ty = |&value: &ValueId| {
        let declared = &program[value].ty;
        let drawn = shape(&program[value].name);
        match (declared.as_tensor(), drawn) {
            (Some(ty), Some(drawn)) if ty.rank() == drawn.len() => TensorType::fixed(ty.dtype, drawn).into(),
            _ => declared.clone(),
        }
    };
    let types: Vec<Type> = program.inputs.iter().map(ty).collect();
    let (facts, errors) = infer(program, &types, Some(reference_ops()));
    (facts, errors.is_empty())
}

/// A size of 1 that is only the least of many becomes this one.
const GROWN: usize = 8;

/// A size with a largest one below this is that of a batch.
const LONG: usize = 128;

/// Draws more than one element where the model leaves a length open, if the program fits together then: a mask, a
/// sequence or a graph of one element proves little.
fn grow(program: &Function, inputs: &mut [Drawn]) {
    let grown = |input: &Drawn| {
        let mut shape = input.shape.clone();
        for &(d, most) in &input.open {
            let is_batch = most < LONG || (most == usize::MAX && d == 0 && shape.len() > 1);
            if shape[d] == 1 && !is_batch {
                shape[d] = GROWN;
            }
        }
        (input.name.clone(), shape)
    };
    let grown: HashMap<String, Vec<usize>> = inputs.iter().map(grown).collect();
    let is_larger = inputs.iter().any(|i| grown[&i.name] != i.shape);
    if is_larger && facts_at(program, |name| grown.get(name)).1 {
        inputs.iter_mut().for_each(|input| input.shape.clone_from(&grown[&input.name]));
    }
}

/// For each input that indexes tables, the values that it may have at these shapes.
fn rows_of_tables(
    program: &Function,
    inputs: &[Drawn],
    shape: impl Fn(&Drawn) -> &Vec<usize>,
) -> Vec<Option<Values>> {
    let shapes: HashMap<&str, _> = inputs.iter().map(|input| (input.name.as_str(), shape(input))).collect();
    let (facts, _) = facts_at(program, |name| shapes.get(name).copied());
    let declared = program.inputs_by_name();
    let uses = Uses::of(program);
    let values = |input: &Drawn| {
        let indexes = matches!(input.values, Values::Below(_) | Values::Unit);
        let value = declared.get(input.name.as_str()).copied();
        let rows = table_size(program, &facts, &uses, value.filter(|_| indexes)?)?;
        Some(Values::Below(rows.clamp(1, i32::MAX as usize) as u64))
    };
    inputs.iter().map(values).collect()
}

fn pixels(color: ColorSpace) -> Values {
    if color == ColorSpace::GrayscaleFloat16 { Values::RealPixels } else { Values::Pixels }
}

/// Whether an input is a mask, judged by its name, such as `attention_mask`.
fn is_mask(name: &str) -> bool {
    name.to_ascii_lowercase().contains("mask")
}

/// Whether an input has the lengths of sequences, judged by its name.
fn is_length(name: &str) -> bool {
    let name = name.to_ascii_lowercase();
    ["length", "lengths", "_len", "_lens"].iter().any(|end| name.ends_with(end))
}

/// The inputs of a model without a program.
fn features(
    model: &Model,
    function: Option<&str>,
    may_grow: bool,
    options: &LoadOptions,
) -> Result<Vec<Drawn>> {
    let mut found = Vec::new();
    let mut of_parts = HashMap::new();
    for input in model.info().function(function).map_or(&[][..], |f| &f.inputs) {
        let alone = |values| Drawn {
            name: input.name.clone(),
            shape: Vec::new(),
            values,
            open: Vec::new(),
            others: [(Vec::new(), Values::LeftOut), (Vec::new(), Values::LeftOut)],
        };
        match model.value_for(&input.name) {
            Some(range) => {
                found.push(alone(Values::Now(range)));
                continue;
            }
            None if input.optional => {
                found.push(alone(Values::LeftOut));
                continue;
            }
            None => {}
        }
        // The program or pipeline that takes the input knows more about it: tables, masks, lengths.
        if let Some(i) = first_taker(model, &input.name) {
            let part = &model.pipeline()[i];
            let drawn = match of_parts.entry(i) {
                Entry::Occupied(known) => known.into_mut(),
                Entry::Vacant(unknown) => unknown.insert(inputs(part, None, may_grow, options)?),
            };
            if let Some(drawn) = drawn.iter().find(|drawn| drawn.name == input.name) {
                found.push(drawn.clone());
                continue;
            }
        }
        let (shape, values) = match &input.ty {
            FeatureType::Double => (Vec::new(), Values::Unit),
            FeatureType::Int64 => {
                (Vec::new(), known(model, &input.name).map_or(Values::Below(2), Values::Of))
            }
            FeatureType::String => {
                (Vec::new(), Values::Of(known_or_any(model, &input.name, KeyType::String)))
            }
            FeatureType::Sequence { element } => {
                (vec![SEQUENCE], Values::Of(known_or_any(model, &input.name, *element)))
            }
            FeatureType::Dictionary { key } => {
                (Vec::new(), Values::Counts(known_or_any(model, &input.name, *key)))
            }
            FeatureType::MultiArray { shape, dtype, .. } => {
                let shape = shape.iter().map(|&n| n as usize).collect();
                (shape, if dtype.is_int() { Values::Below(2) } else { Values::Unit })
            }
            FeatureType::Image { width, height, color, .. } => {
                (vec![1, color.channels(), *height as usize, *width as usize], pixels(*color))
            }
            _ => {
                let message = format!("the input `{}` cannot be drawn", input.name);
                let error = Error::new(ErrorKind::Unsupported, message).with_hint("give it: --inputs DIR");
                return Err(error.at(model.path()));
            }
        };
        let count = shape.iter().try_fold(1usize, |n, &d| n.checked_mul(d)).filter(|&n| n <= MAX_RANGES);
        let ranges = count.filter(|_| values == Values::Unit).and_then(|n| ranges(model, &input.name, n));
        let values = ranges.map_or(values, Values::Ranges);
        let others = [(shape.clone(), values.clone()), (shape.clone(), values.clone())];
        found.push(Drawn { name: input.name.clone(), shape, values, open: Vec::new(), others });
    }
    Ok(found)
}

/// The first model of a pipeline that takes an input, if it is a program or a pipeline. Old networks do not count,
/// because the tensors of their converted programs have five dimensions: their inputs are drawn as declared.
fn first_taker(model: &Model, input: &str) -> Option<usize> {
    let takes = |part: &Model| part.info().function(None).is_some_and(|f| f.inputs.named(input).is_some());
    let at = model.pipeline().iter().position(|part| takes(part))?;
    let part = &model.pipeline()[at];
    let knows = (part.program().is_ok() && !part.has_five_dimensions()) || !part.pipeline().is_empty();
    knows.then_some(at)
}

/// A small and a large shape that a flexible input may have besides the drawn one: the ends of the declared range, but
/// at most twice as large.
fn other_shapes(ty: &TensorType, feature: Option<&FeatureType>, shape: &[usize]) -> [Vec<usize>; 2] {
    let none = || [shape.to_vec(), shape.to_vec()];
    let (flexibility, is_image) = match feature {
        Some(FeatureType::MultiArray { flexibility, .. }) => (flexibility, false),
        Some(FeatureType::Image { flexibility, .. }) => (flexibility, true),
        _ => return none(),
    };
    // An image declares height and width, which come last.
    let axis = |declared: usize, d: usize| {
        if is_image { (d + declared).checked_sub(ty.rank()) } else { declared_axis(ty.rank(), declared, d) }
    };
    let with = |size: &dyn Fn(usize, usize) -> Option<u64>| -> Vec<usize> {
        let of = |(d, dim): (usize, &Dim)| {
            let size = size(d, shape[d]).filter(|_| dim.fixed().is_none());
            size.map_or(shape[d], |n| usize::try_from(n).unwrap_or(usize::MAX).max(1))
        };
        ty.shape.iter().enumerate().map(of).collect()
    };
    match flexibility {
        Flexibility::Fixed => none(),
        Flexibility::Range { dimensions } => {
            let range = |d: usize| dimensions.get(axis(dimensions.len(), d)?);
            let most = |d: usize, now: usize| {
                let twice = 2 * now as u64;
                range(d).map(|r| r.most.map_or(twice, |most| most.min(twice)))
            };
            [with(&|d, _| range(d).map(|r| r.least)), with(&most)]
        }
        Flexibility::Enumerated { shapes } => {
            let size = |s: &&Vec<u64>| s.iter().fold(1u64, |n, &d| n.saturating_mul(d));
            let (Some(least), Some(most)) = (shapes.iter().min_by_key(size), shapes.iter().max_by_key(size))
            else {
                return none();
            };
            let of = |s: &Vec<u64>| with(&|d, _| s.get(axis(s.len(), d)?).copied());
            [of(least), of(most)]
        }
    }
}

/// Lengths to try for an input whose length the model does not declare, or declares only a lower bound for.
const LENGTHS: [usize; 12] = [80, 96, 100, 128, 150, 160, 200, 256, 300, 384, 400, 512];

/// Finds a length for inputs of undeclared length if their default does not compile: the shortest one that does. For
/// example, an old text network may declare length 1 but flatten 4 elements.
fn fit_lengths(
    model: &Model,
    function: Option<&str>,
    inputs: &mut [Drawn],
    options: &LoadOptions,
) -> Result<()> {
    if inputs.iter().all(|i| i.open.is_empty()) || compiles(model, function, inputs, options) {
        return Ok(());
    }
    let before: Vec<Vec<usize>> = inputs.iter().map(|i| i.shape.clone()).collect();
    for length in (2..=64).chain(LENGTHS) {
        options.cancel.check().map_err(|e| e.at(model.path()))?;
        for input in inputs.iter_mut() {
            for &(d, most) in &input.open {
                input.shape[d] = length.min(most);
            }
        }
        if compiles(model, function, inputs, options) {
            return Ok(());
        }
    }
    inputs.iter_mut().zip(before).for_each(|(input, shape)| input.shape = shape);
    Ok(())
}

fn compiles(model: &Model, function: Option<&str>, inputs: &[Drawn], options: &LoadOptions) -> bool {
    let stop = || options.cancel.is_cancelled();
    let limits = CompileOptions { memory: options.limits.memory, cancel: Some(&stop) };
    let function = function.unwrap_or(&model.info().default_function);
    let shapes: Vec<(&str, &[usize])> =
        inputs.iter().map(|i| (i.name.as_str(), i.shape.as_slice())).collect();
    let Ok(program) = model.program() else { return true };
    let engine = reference_engine();
    match Classifier::detach(program, function) {
        Ok(Some((program, _))) => engine.compile(&program, function, &shapes, limits).is_ok(),
        Ok(None) => engine.compile(program, function, &shapes, limits).is_ok(),
        Err(_) => true,
    }
}

/// The dimensions whose size is a guess, each with its largest size: those without a declared size or with only a
/// lower bound, and in an old network the first dimension of a vector, which is the position in a sequence.
fn open_dimensions(model: &Model, ty: &TensorType, feature: Option<&FeatureType>) -> Vec<(usize, usize)> {
    let Some(FeatureType::MultiArray { shape, flexibility, .. }) = feature else { return Vec::new() };
    if model.has_five_dimensions() {
        let is_vector = shape.len() == 1 && ty.shape.first().is_some_and(|d| d.fixed().is_none());
        return if is_vector { vec![(0, usize::MAX)] } else { Vec::new() };
    }
    let Flexibility::Range { dimensions } = flexibility else { return Vec::new() };
    let open = |(d, dim): (usize, &Dim)| {
        let axis = declared_axis(ty.rank(), dimensions.len(), d)?;
        let &SizeRange { least, most } = dimensions.get(axis)?;
        let default = shape.get(axis).copied().unwrap_or(least);
        let is_guess = dim.fixed().is_none() && default <= least;
        is_guess.then(|| (d, most.and_then(|n| usize::try_from(n).ok()).unwrap_or(usize::MAX)))
    };
    ty.shape.iter().enumerate().filter_map(open).collect()
}
