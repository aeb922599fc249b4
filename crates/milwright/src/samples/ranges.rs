//! Ranges of numbers that a classical model can tell apart. An input that is always on the same side of every
//! threshold proves nothing.

use std::fmt;

use milwright_formats::proto::model::Type;
use milwright_formats::proto::tree_ensemble_parameters::TreeNode;
use milwright_formats::proto::{self as pb};

use crate::{FunctionInfo, Model};

/// The smallest and the largest number to draw.
pub(super) type Range = (f64, f64);

/// The range of each of the `count` elements of an input, if the model says something about it.
pub(super) fn ranges(model: &Model, input: &str, count: usize) -> Option<Vec<Range>> {
    let parts = model.pipeline();
    if parts.is_empty() {
        let first = place(model.info().function(None)?, input)?;
        return of(model.specification(), first, count);
    }
    // The first model of a pipeline that takes the input. A feature vectorizer passes it on to the next one.
    let mut name = input.to_owned();
    let mut skipped = 0usize;
    for part in parts {
        let function = part.info().function(None)?;
        let Some(first) = place(function, &name) else { continue };
        match &part.specification().r#type {
            Some(Type::FeatureVectorizer(m)) => {
                let before = m.input_list.iter().take_while(|c| c.input_column != name);
                skipped = before.map(|c| c.input_dimensions as usize).fold(skipped, usize::saturating_add);
                name = function.outputs.first()?.name.clone();
            }
            Some(Type::Identity(_)) => {}
            _ => return of(part.specification(), first.saturating_add(skipped), count),
        }
    }
    None
}

/// The strings or integers that a model knows.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Known {
    Words(Vec<String>),
    Numbers(Vec<i64>),
}

impl fmt::Display for Known {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Known::Words(words) => write!(f, "{} texts", words.len()),
            Known::Numbers(numbers) => write!(f, "{} numbers", numbers.len()),
        }
    }
}

/// The values that the first model with this input knows for it.
pub(super) fn known(model: &Model, input: &str) -> Option<Known> {
    if let Some(part) = model
        .pipeline()
        .iter()
        .find(|part| part.info().function(None).is_some_and(|f| f.inputs.named(input).is_some()))
    {
        return known(part, input);
    }
    use pb::categorical_mapping::MappingType as M;
    use pb::dict_vectorizer::Map as D;
    use pb::one_hot_encoder::CategoryType as C;
    let found = match model.specification().r#type.as_ref()? {
        Type::DictVectorizer(m) => match m.map.as_ref()? {
            D::StringToIndex(words) => Known::Words(words.vector.clone()),
            D::Int64ToIndex(numbers) => Known::Numbers(numbers.vector.clone()),
        },
        Type::OneHotEncoder(m) => match m.category_type.as_ref()? {
            C::StringCategories(words) => Known::Words(words.vector.clone()),
            C::Int64Categories(numbers) => Known::Numbers(numbers.vector.clone()),
        },
        Type::CategoricalMapping(m) => match m.mapping_type.as_ref()? {
            M::StringToInt64Map(m) => Known::Words(m.map.keys().cloned().collect()),
            M::Int64ToStringMap(m) => Known::Numbers(m.map.keys().copied().collect()),
        },
        _ => return None,
    };
    let is_empty = match &found {
        Known::Words(words) => words.is_empty(),
        Known::Numbers(numbers) => numbers.is_empty(),
    };
    (!is_empty).then_some(found)
}

/// The number of elements in front of those of an input.
fn place(function: &FunctionInfo, input: &str) -> Option<usize> {
    let at = function.inputs.position(input)?;
    let count = |i: &crate::FeatureInfo| match &i.ty {
        crate::FeatureType::MultiArray { shape, .. } => {
            shape.iter().fold(1, |n: u64, &d| n.saturating_mul(d)) as usize
        }
        _ => 1,
    };
    Some(function.inputs[..at].iter().map(count).fold(0, usize::saturating_add))
}

fn of(model: &pb::Model, first: usize, count: usize) -> Option<Vec<Range>> {
    match model.r#type.as_ref()? {
        Type::TreeEnsembleRegressor(m) => thresholds(&m.tree_ensemble.as_ref()?.nodes, first, count),
        Type::TreeEnsembleClassifier(m) => thresholds(&m.tree_ensemble.as_ref()?.nodes, first, count),
        // The inputs that a scaler maps to −1 … 1.
        Type::Scaler(m) => {
            let at = |values: &[f64], i: usize, default: f64| match values {
                [] => default,
                [one] => *one,
                many => many.get(i).copied().unwrap_or(default),
            };
            let range = |i: usize| {
                let (shift, scale) = (at(&m.shift_value, i, 0.0), at(&m.scale_value, i, 1.0));
                let width = if scale == 0.0 { 1.0 } else { 1.0 / scale.abs() };
                (-shift - width, -shift + width)
            };
            Some((0..count).map(|i| range(first.saturating_add(i))).collect())
        }
        _ => None,
    }
}

/// For each element, a range slightly larger than that of the thresholds that the trees compare it with.
fn thresholds(nodes: &[TreeNode], first: usize, count: usize) -> Option<Vec<Range>> {
    let mut found: Vec<Option<Range>> = vec![None; count];
    // A leaf has no threshold; the field is zero.
    for node in nodes.iter().filter(|n| n.true_child_node_id != n.false_child_node_id) {
        let at = (node.branch_feature_index as usize).checked_sub(first);
        let value = node.branch_feature_value;
        if let Some(range) = at.and_then(|at| found.get_mut(at)).filter(|_| value.is_finite()) {
            let (low, high) = range.unwrap_or((value, value));
            *range = Some((low.min(value), high.max(value)));
        }
    }
    let wider = |range: Option<Range>| {
        range.map_or((-1.0, 1.0), |(low, high)| {
            let margin = if high > low { 0.25 * (high - low) } else { 0.5 * low.abs().max(1.0) };
            (low - margin, high + margin)
        })
    };
    Some(found.into_iter().map(wider).collect())
}
