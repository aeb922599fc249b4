//! The sizes that an input may have: which are the default ones, and how Core ML is told.

use std::collections::BTreeMap;

use milwright_formats::proto::array_feature_type::{EnumeratedShapes, Shape, ShapeFlexibility, ShapeRange};
use milwright_formats::proto::{self as pb, SizeRange, feature_type};
use milwright_mil::infer::{Facts, infer};
use milwright_mil::{Arg, Dim, Function, OpId, OpKind, TensorType, Type};

use super::border::Feature;
use super::{Options, Size};

/// Sizes that are tried as the default of those that the model leaves open, until the program fits together.
const CANDIDATES: [usize; 12] = [1, 2, 4, 8, 16, 32, 64, 128, 224, 256, 320, 512];
/// More of them for signals: frames of speech and music, as nets take them that hear one frame at a time.
const FRAMES: [usize; 10] = [400, 480, 576, 640, 768, 1024, 1280, 1536, 2048, 4096];
/// The default length of a signal, if the program fits together with it: a second of speech.
const SIGNAL: usize = 16_000;

/// What a size that the model leaves open is likely to count.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Open {
    /// Items of a batch: the first of several dimensions.
    Batch,
    /// Samples of a signal, such as a waveform: the last dimension of real numbers, the others being one or the batch.
    Signal,
    Other,
}

impl Open {
    /// The largest size in a package: Core ML plans memory for the largest one, and takes none without an end for ML
    /// programs.
    fn most(self) -> usize {
        match self {
            Open::Batch => 64,
            Open::Signal => 1 << 20,
            Open::Other => 2048,
        }
    }
}

impl Size {
    /// The size that is meant if nobody says another.
    pub(super) fn default(&self) -> usize {
        match self {
            Size::Fixed(n) | Size::Range(n, _) => *n,
            Size::OneOf(all) => all.first().copied().unwrap_or(1),
        }
    }

    fn is_open(&self) -> bool {
        matches!(self, Size::Range(_, None))
    }
}

/// Chooses the default sizes of inputs, and describes which others they may have.
pub(super) fn choose(
    function: &Function,
    inputs: &[Feature],
    model: &mut pb::Model,
    options: &Options,
    notes: &mut Vec<String>,
) {
    let defaults = defaults(function, inputs, options);
    let default = |feature: &Feature, i: usize| {
        let named = feature.names.get(i).cloned().flatten();
        let chosen = named.and_then(|name| defaults.get(&name).copied());
        let least = feature.sizes[i].default();
        chosen.filter(|_| feature.sizes[i].is_open()).map_or(least, |chosen| chosen.max(least))
    };
    let Some(description) = &mut model.description else { return };
    let open = open_sizes(function, inputs);
    let mut bounded = BTreeMap::new();
    for (described, feature) in description.input.iter_mut().zip(inputs) {
        let Some(feature_type::Type::MultiArrayType(array)) =
            described.r#type.as_mut().and_then(|t| t.r#type.as_mut())
        else {
            continue;
        };
        if feature.sizes.iter().all(|s| matches!(s, Size::Fixed(_))) {
            continue;
        }
        array.shape = (0..feature.sizes.len()).map(|i| default(feature, i) as i64).collect();
        let mut sizes = feature.sizes.clone();
        if options.for_package {
            for (i, size) in sizes.iter_mut().enumerate().filter(|(_, s)| s.is_open()) {
                let name = feature.names[i].clone().unwrap_or_default();
                let most = open.get(&name).copied().unwrap_or(Open::Other).most();
                let most = most.max(2 * default(feature, i));
                *size = Size::Range(size.default(), Some(most));
                bounded.insert(name, (default(feature, i), most));
            }
        }
        array.shape_flexibility = Some(flexibility(&sizes));
    }
    for (name, (default, most)) in bounded {
        notes.push(format!(
            "the size `{name}` may be 1 to {most}, and is {default} by default: `--size {name}=FIRST..LAST` says otherwise"
        ));
    }
}

/// The names of the sizes that are open, and what each counts.
fn open_sizes(function: &Function, inputs: &[Feature]) -> BTreeMap<String, Open> {
    let mut open: BTreeMap<String, (bool, bool, bool)> = BTreeMap::new();
    for feature in inputs {
        let ty = &function[feature_value(function, feature)].ty;
        let is_real = ty.as_tensor().is_some_and(|t| t.dtype.is_float());
        let last = feature.sizes.len() - usize::from(!feature.sizes.is_empty());
        for (i, name) in feature.names.iter().enumerate().filter(|(i, _)| feature.sizes[*i].is_open()) {
            let Some(name) = name else { continue };
            let is_alone = |(j, size): (usize, &Size)| match size {
                Size::Fixed(n) => *n == 1,
                _ => j == 0 || j == last,
            };
            let is_signal = is_real && i == last && feature.sizes.iter().enumerate().all(is_alone);
            let (is_first, is_of_several, is_always_signal) =
                open.entry(name.clone()).or_insert((true, false, true));
            *is_first &= i == 0;
            *is_of_several |= feature.sizes.len() > 1;
            *is_always_signal &= is_signal;
        }
    }
    let kind = |(is_first, is_of_several, is_signal)| match () {
        () if is_first && is_of_several => Open::Batch,
        () if is_signal => Open::Signal,
        () => Open::Other,
    };
    open.into_iter().map(|(name, seen)| (name, kind(seen))).collect()
}

/// The default sizes by their names: 1 for batches, [`SIGNAL`] for signals if the program fits together with it and can run,
/// and for all others the first number with which it does.
fn defaults(function: &Function, inputs: &[Feature], options: &Options) -> BTreeMap<String, usize> {
    let open = open_sizes(function, inputs);
    let with = |n: usize, signal: usize| -> BTreeMap<String, usize> {
        let size = |open: &Open| match open {
            Open::Batch => 1,
            Open::Signal => signal,
            Open::Other => n,
        };
        open.iter().map(|(name, open)| (name.clone(), size(open))).collect()
    };
    if open.is_empty() {
        return BTreeMap::new();
    }
    // How many reads would be outside of what they read from; `None` if the program does not fit together.
    let misfits = |sizes: &BTreeMap<String, usize>| {
        let types: Vec<Type> = inputs
            .iter()
            .map(|feature| {
                let declared = function[feature_value(function, feature)].ty.clone();
                let Type::Tensor(declared) = declared else { return declared };
                let dim = |(i, d): (usize, &Dim)| match d {
                    Dim::Fixed(_) => *d,
                    Dim::Unknown => {
                        let name = feature.names.get(i).cloned().flatten();
                        let size = name.and_then(|name| sizes.get(&name).copied());
                        let least = feature.sizes[i].default();
                        Dim::Fixed(size.map_or(least, |size| size.max(least)))
                    }
                };
                let shape: Vec<Dim> = declared.shape.iter().enumerate().map(dim).collect();
                TensorType::new(declared.dtype, shape).into()
            })
            .collect();
        let engine = options.engine.map(|e| e as &dyn milwright_mil::Evaluate);
        let (facts, errors) = infer(function, &types, engine);
        let has_elements =
            |value| facts.ty(function, value).as_tensor().and_then(TensorType::elements) != Some(0);
        let fits = errors.is_empty() && function[function.body].outputs.iter().all(|&v| has_elements(v));
        fits.then(|| reads_outside(function, &facts))
    };
    let has_signal = open.values().any(|open| *open == Open::Signal);
    let long = CANDIDATES.into_iter().filter(|_| has_signal).map(|n| with(n, SIGNAL));
    let short = CANDIDATES.into_iter().chain(FRAMES.into_iter().filter(|_| has_signal)).map(|n| with(n, n));
    let mut best: Option<(usize, BTreeMap<String, usize>)> = None;
    for sizes in long.chain(short) {
        match misfits(&sizes) {
            Some(0) => return sizes,
            Some(count) if best.as_ref().is_none_or(|(least, _)| count < *least) => {
                best = Some((count, sizes))
            }
            _ => {}
        }
    }
    best.map_or_else(|| with(1, 1), |(_, sizes)| sizes)
}

/// How many ops read with an index that is known to be out of range, as those do that take a size for 1 which is another.
fn reads_outside(function: &Function, facts: &Facts) -> usize {
    let is_outside = |&op: &OpId| {
        let op = &function[op];
        let known = |name: &str| -> Option<Vec<i64>> {
            match op.args(name) {
                [Arg::Const(value)] => value.as_tensor()?.to_i64(),
                [Arg::Value(v)] => facts.value(*v)?.as_tensor()?.to_i64(),
                _ => None,
            }
        };
        let size = || {
            let shape = &facts.ty(function, op.value("x")?).as_tensor()?.shape;
            let axis = known("axis").map_or(0, |axis| axis[0]);
            let axis = if axis < 0 { axis + shape.len() as i64 } else { axis };
            shape.get(usize::try_from(axis).ok()?)?.fixed()
        };
        op.kind == OpKind::Gather
            && size().zip(known("indices")).is_some_and(|(size, indices)| {
                indices.iter().any(|&i| i >= size as i64 || i < -(size as i64))
            })
    };
    function.walk().iter().filter(|op| is_outside(op)).count()
}

/// The value of an input: ids change when a function is finished, positions do not.
fn feature_value(function: &Function, feature: &Feature) -> milwright_mil::ValueId {
    let found = function.inputs.iter().find(|&&v| function[v].name == feature.name);
    found.copied().unwrap_or(feature.value)
}

/// The shapes that an input may have.
pub(super) fn flexibility(sizes: &[Size]) -> ShapeFlexibility {
    let choices = sizes.iter().filter_map(|s| match s {
        Size::OneOf(all) => Some(all.len()),
        _ => None,
    });
    let count = choices.max();
    if let Some(count) = count.filter(|_| sizes.iter().all(|s| !matches!(s, Size::Range(..)))) {
        // Sizes with choices go together: the first with the first.
        let size = |size: &Size, i: usize| match size {
            Size::OneOf(all) => all.get(i).or(all.last()).copied().unwrap_or(1) as i64,
            other => other.default() as i64,
        };
        let shapes = (0..count).map(|i| Shape { shape: sizes.iter().map(|s| size(s, i)).collect() });
        return ShapeFlexibility::EnumeratedShapes(EnumeratedShapes { shapes: shapes.collect() });
    }
    let range = |size: &Size| match size {
        Size::Fixed(n) => SizeRange { lower_bound: *n as u64, upper_bound: *n as i64 },
        Size::Range(a, b) => SizeRange { lower_bound: *a as u64, upper_bound: b.map_or(-1, |b| b as i64) },
        Size::OneOf(all) => SizeRange {
            lower_bound: all.iter().copied().min().unwrap_or(1) as u64,
            upper_bound: all.iter().copied().max().unwrap_or(1) as i64,
        },
    };
    ShapeFlexibility::ShapeRange(ShapeRange { size_ranges: sizes.iter().map(range).collect() })
}
