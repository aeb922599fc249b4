//! The sizes that an input may have: which are the default ones, and how Core ML is told.

use std::collections::BTreeMap;

use milwright_formats::proto::array_feature_type::{EnumeratedShapes, Shape, ShapeFlexibility, ShapeRange};
use milwright_formats::proto::{self as pb, SizeRange, feature_type};
use milwright_mil::infer::infer;
use milwright_mil::{Dim, Function, TensorType, Type};

use super::border::Feature;
use super::{Options, Size};

/// Sizes that are tried as the default of those that the model leaves open, until the program fits together.
const CANDIDATES: [usize; 12] = [1, 2, 4, 8, 16, 32, 64, 128, 224, 256, 320, 512];
/// The largest size of a dimension that the model leaves open, in a package: Core ML plans memory for the largest one,
/// and takes none without an end for ML programs.
const MAX_BATCH: usize = 64;
const MAX_SIZE: usize = 2048;

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
    let open = open_sizes(inputs);
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
                let is_batch = open.get(&name).copied().unwrap_or(false);
                let most = if is_batch { MAX_BATCH } else { MAX_SIZE };
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

/// The names of the sizes that are open, and whether each is a batch: the first of several dimensions wherever it occurs.
fn open_sizes(inputs: &[Feature]) -> BTreeMap<String, bool> {
    let mut open: BTreeMap<String, bool> = BTreeMap::new();
    for feature in inputs {
        for (i, name) in feature.names.iter().enumerate().filter(|(i, _)| feature.sizes[*i].is_open()) {
            let Some(name) = name else { continue };
            let is_batch = i == 0 && feature.sizes.len() > 1;
            *open.entry(name.clone()).or_insert(true) &= is_batch;
        }
    }
    open
}

/// The default sizes by their names: 1 for batches, and for all others the first number with which the program fits
/// together.
fn defaults(function: &Function, inputs: &[Feature], options: &Options) -> BTreeMap<String, usize> {
    let open = open_sizes(inputs);
    let with = |n: usize| -> BTreeMap<String, usize> {
        open.iter().map(|(name, &is_batch)| (name.clone(), if is_batch { 1 } else { n })).collect()
    };
    if open.is_empty() {
        return BTreeMap::new();
    }
    let fits = |sizes: &BTreeMap<String, usize>| {
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
        errors.is_empty() && function[function.body].outputs.iter().all(|&v| has_elements(v))
    };
    CANDIDATES.into_iter().map(with).find(fits).unwrap_or_else(|| with(1))
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
