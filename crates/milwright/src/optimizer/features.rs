//! Keeps the features between the models of a pipeline consistent. Core ML compares the element types and shapes of
//! arrays, and refuses a pipeline in which the output of one model has another type than the input of a later one. A
//! neural network may declare arrays of doubles, but an ML program cannot. If a network becomes a program, its
//! neighbours' declarations have to change, too.

use std::collections::HashMap;

use milwright_formats::proto::array_feature_type::ShapeFlexibility;
use milwright_formats::proto::{ArrayFeatureType, FeatureDescription, Model, feature_type::Type, model};

use crate::kinds::part_name;
use crate::kinds::pipeline;

/// A place where a feature is declared: on the pipeline itself, or on one of its models.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Site {
    part: Option<usize>,
    is_input: bool,
    at: usize,
}

/// Finds features whose declarations agreed in `before` but not in `after`, because networks have become programs, and
/// changes them to the programs' types. Returns notes about the changes, and about features that could not be changed.
pub(super) fn align(before: &Model, after: &mut Model) -> Vec<String> {
    let mut notes = Vec::new();
    // A change to a pipeline's features affects the models inside it, and the other way round.
    for _ in 0..=levels(before) * 2 {
        if !align_within(before, after, "", &mut notes) {
            break;
        }
    }
    notes
}

/// How deep pipelines nest in a model. The decoder bounds the depth.
fn levels(model: &Model) -> usize {
    pipeline(model).map_or(0, |p| 1 + p.models.iter().map(levels).max().unwrap_or(0))
}

/// Aligns the features of a model and of those inside it, once. Returns whether anything changed.
fn align_within(before: &Model, after: &mut Model, within: &str, notes: &mut Vec<String>) -> bool {
    let Some(parts) = pipeline(before).map(|p| &p.models) else { return false };
    let names = pipeline(before).map_or(&[][..], |p| &p.names);
    let mut changed = false;
    for (i, part) in parts.iter().enumerate() {
        let name = format!("{within}{}: ", part_name(i, names));
        if let Some(inner) = part_mut(after, i) {
            changed |= align_within(part, inner, &name, notes);
        }
    }
    for sites in groups(before) {
        let types = |model: &Model| -> Vec<Option<Type>> {
            sites
                .iter()
                .map(|&site| feature(model, site).and_then(|f| f.r#type.as_ref()?.r#type.clone()))
                .collect()
        };
        let (old, new) = (types(before), types(after));
        if !all_agree(&old) || all_agree(&new) {
            continue;
        }
        let has_changed = |i: &usize| old[*i] != new[*i];
        let programs: Vec<bool> =
            sites.iter().map(|s| s.part.and_then(|p| part_of(after, p)).is_some_and(is_program)).collect();
        let mut places = 0..sites.len();
        let Some(chosen) =
            places.clone().find(|i| has_changed(i) && programs[*i]).or_else(|| places.find(has_changed))
        else {
            continue;
        };
        for i in 0..sites.len() {
            if agree(new[chosen].as_ref(), new[i].as_ref()) {
                continue;
            }
            let Site { part, is_input, .. } = sites[i];
            let place = part.map_or(within.to_owned(), |p| format!("{within}{}: ", part_name(p, names)));
            let what = if is_input { "input" } else { "output" };
            let name = feature(after, sites[i]).map_or(String::new(), |f| f.name.clone());
            let (Some(Type::MultiArrayType(wanted)), Some(Type::MultiArrayType(_)), false) =
                (&new[chosen], &new[i], programs[i])
            else {
                let note = format!(
                    "{place}the {what} `{name}` is not of the type that the models beside it have for it: Core ML refuses that"
                );
                if !notes.contains(&note) {
                    notes.push(note);
                }
                continue;
            };
            if let Some(ty) = feature_mut(after, sites[i]).and_then(|f| f.r#type.as_mut()) {
                ty.r#type = Some(Type::MultiArrayType(wanted.clone()));
                notes.push(format!(
                    "{place}the {what} `{name}` is declared as the programs beside it have it"
                ));
                changed = true;
            }
        }
    }
    changed
}

/// Groups the places that have to agree: where a feature is produced, and where it is used.
fn groups(model: &Model) -> Vec<Vec<Site>> {
    let mut groups: Vec<Vec<Site>> = Vec::new();
    let mut latest: HashMap<&str, usize> = HashMap::new();
    for (at, feature) in features(model, true).iter().enumerate() {
        latest.insert(&feature.name, groups.len());
        groups.push(vec![Site { part: None, is_input: true, at }]);
    }
    for (i, part) in pipeline(model).map_or(&[][..], |p| &p.models).iter().enumerate() {
        for (at, feature) in features(part, true).iter().enumerate() {
            if let Some(&group) = latest.get(feature.name.as_str()) {
                groups[group].push(Site { part: Some(i), is_input: true, at });
            }
        }
        for (at, feature) in features(part, false).iter().enumerate() {
            latest.insert(&feature.name, groups.len());
            groups.push(vec![Site { part: Some(i), is_input: false, at }]);
        }
    }
    for (at, feature) in features(model, false).iter().enumerate() {
        if let Some(&group) = latest.get(feature.name.as_str()) {
            groups[group].push(Site { part: None, is_input: false, at });
        }
    }
    groups
}

fn features(model: &Model, inputs: bool) -> &[FeatureDescription] {
    let description = model.description.as_deref();
    description.map_or(&[], |d| if inputs { &d.input } else { &d.output })
}

fn feature(model: &Model, site: Site) -> Option<&FeatureDescription> {
    let declared = site.part.map_or(Some(model), |part| part_of(model, part))?;
    features(declared, site.is_input).get(site.at)
}

fn feature_mut(model: &mut Model, site: Site) -> Option<&mut FeatureDescription> {
    let declared = match site.part {
        Some(part) => part_mut(model, part)?,
        None => model,
    };
    let description = declared.description.as_deref_mut()?;
    let features = if site.is_input { &mut description.input } else { &mut description.output };
    features.get_mut(site.at)
}

fn part_of(model: &Model, i: usize) -> Option<&Model> {
    pipeline(model)?.models.get(i)
}

/// A model of a pipeline, as a mutable reference.
pub(super) fn part_mut(model: &mut Model, i: usize) -> Option<&mut Model> {
    let pipeline = match &mut model.r#type {
        Some(model::Type::Pipeline(p)) => Some(p),
        Some(model::Type::PipelineClassifier(p)) => p.pipeline.as_mut(),
        Some(model::Type::PipelineRegressor(p)) => p.pipeline.as_mut(),
        _ => None,
    };
    pipeline?.models.get_mut(i)
}

fn is_program(model: &Model) -> bool {
    matches!(model.r#type, Some(model::Type::MlProgram(_)))
}

fn all_agree(types: &[Option<Type>]) -> bool {
    types.windows(2).all(|pair| agree(pair[0].as_ref(), pair[1].as_ref()))
}

/// Whether Core ML accepts one of these types where the other is declared.
fn agree(a: Option<&Type>, b: Option<&Type>) -> bool {
    match (a, b) {
        (Some(Type::MultiArrayType(a)), Some(Type::MultiArrayType(b))) => {
            let is_fixed = a.shape_flexibility.is_none() && b.shape_flexibility.is_none();
            a.data_type == b.data_type && rank(a) == rank(b) && (!is_fixed || a.shape == b.shape)
        }
        (Some(a), Some(b)) => std::mem::discriminant(a) == std::mem::discriminant(b),
        (a, b) => a.is_none() == b.is_none(),
    }
}

fn rank(array: &ArrayFeatureType) -> usize {
    match &array.shape_flexibility {
        Some(ShapeFlexibility::EnumeratedShapes(shapes)) => {
            shapes.shapes.first().map_or(0, |s| s.shape.len())
        }
        Some(ShapeFlexibility::ShapeRange(range)) => range.size_ranges.len(),
        None => array.shape.len(),
    }
}
