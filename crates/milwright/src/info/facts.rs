//! Derives facts about models: class labels, the scaling of images, the amount of computation, and the systems that
//! run them.

use crate::kinds::pipeline;
use crate::{ColorSpace, Preprocessing};
use milwright_formats::proto::{self as pb, model};
use milwright_mil::{Arg, BlockId, Function, Op, OpKind, TensorType, Value, ValueId, param};

use super::{ClassLabels, Systems};
use crate::legacy::declared_axis;

/// The systems that introduced a specification version.
pub(super) fn systems(specification_version: i32) -> Option<Systems> {
    let (ios, macos) = match specification_version {
        1 => ("11", "10.13"),
        2 => ("11.2", "10.13.2"),
        3 => ("12", "10.14"),
        4 => ("13", "10.15"),
        5 => ("14", "11"),
        6 => ("15", "12"),
        7 => ("16", "13"),
        8 => ("17", "14"),
        9 => ("18", "15"),
        10 => ("26", "26"),
        _ => return None,
    };
    Some(Systems { ios: ios.to_owned(), macos: macos.to_owned() })
}

/// The class labels of a classifier that is not a program; for a pipeline, those of its last classifier.
pub(super) fn class_labels(model: &pb::Model) -> Option<ClassLabels> {
    use model::Type as T;
    if let Some(pipeline) = pipeline(model) {
        return pipeline.models.iter().rev().find_map(class_labels);
    }
    macro_rules! labels {
        ($labels:expr, $module:ident) => {
            match $labels {
                Some(pb::$module::ClassLabels::StringClassLabels(l)) => {
                    Some(ClassLabels::Text(l.vector.clone()))
                }
                Some(pb::$module::ClassLabels::Int64ClassLabels(l)) => {
                    Some(ClassLabels::Int64(l.vector.clone()))
                }
                None => None,
            }
        };
    }
    match model.r#type.as_ref()? {
        T::NeuralNetworkClassifier(m) => labels!(&m.class_labels, neural_network_classifier),
        T::GlmClassifier(m) => labels!(&m.class_labels, glm_classifier),
        T::TreeEnsembleClassifier(m) => labels!(&m.class_labels, tree_ensemble_classifier),
        T::SupportVectorClassifier(m) => labels!(&m.class_labels, support_vector_classifier),
        T::KNearestNeighborsClassifier(m) => labels!(&m.class_labels, k_nearest_neighbors_classifier),
        T::NonMaximumSuppression(m) => labels!(&m.class_labels, non_maximum_suppression),
        _ => None,
    }
}

/// The class labels of a program that ends with a `classify` op.
pub(super) fn program_classes(function: &Function) -> Option<ClassLabels> {
    let body = &function[function.body];
    let op = body.ops.iter().map(|&op| &function[op]).find(|op| op.kind == OpKind::Classify)?;
    let classes = crate::classifier::classes(constant(function, op, param!(Classify.classes))?)?;
    Some(match classes.to_i64() {
        Some(numbers) => ClassLabels::Int64(numbers),
        None => ClassLabels::Text(classes.strings().to_vec()),
    })
}

/// How a network scales its images, by input. An empty name stands for the first image.
pub(super) fn network_preprocessing(model: &pb::Model) -> Vec<(String, NetworkScaling)> {
    use model::Type as T;
    let list = match &model.r#type {
        Some(T::NeuralNetwork(n)) => &n.preprocessing,
        Some(T::NeuralNetworkRegressor(n)) => &n.preprocessing,
        Some(T::NeuralNetworkClassifier(n)) => &n.preprocessing,
        _ => return Vec::new(),
    };
    list.iter().map(|p| (p.feature_name.clone(), NetworkScaling(p.clone()))).collect()
}

/// A network's preprocessing message.
pub(super) struct NetworkScaling(pb::NeuralNetworkPreprocessing);

impl NetworkScaling {
    /// Converts the message, with the biases in the order of an image's channels.
    pub fn in_order_of(&self, color: ColorSpace) -> Preprocessing {
        use pb::neural_network_preprocessing::Preprocessor;
        match &self.0.preprocessor {
            Some(Preprocessor::Scaler(s)) => {
                let bias = match color {
                    ColorSpace::Bgr => vec![s.blue_bias, s.green_bias, s.red_bias],
                    ColorSpace::Grayscale | ColorSpace::GrayscaleFloat16 => vec![s.gray_bias],
                    _ => vec![s.red_bias, s.green_bias, s.blue_bias],
                };
                let bias = bias.into_iter().map(f64::from).collect();
                Preprocessing { scale: vec![f64::from(s.channel_scale)], bias, mean_image: false }
            }
            Some(Preprocessor::MeanImage(_)) => {
                Preprocessing { scale: vec![1.0], bias: vec![0.0], mean_image: true }
            }
            None => Preprocessing { scale: vec![1.0], bias: vec![0.0], mean_image: false },
        }
    }
}

/// The scaling at the start of a program: a product with constants, then a sum. Each has one constant, or one per
/// channel, and each op is the only user of its input.
pub(super) fn first_ops(function: &Function, image: ValueId) -> Option<Preprocessing> {
    let mut at = image;
    let (mut scale, mut bias): (Option<Vec<f64>>, Option<Vec<f64>>) = (None, None);
    while bias.is_none() {
        let Some(op) = only_user(function, at) else { break };
        let [output] = op.outputs[..] else { break };
        let other = |f: fn(f64) -> f64| {
            let first = op.value(param!(Mul.x)) == Some(at);
            let name = if first { param!(Mul.y) } else { param!(Mul.x) };
            Some(channel_numbers(constant(function, op, name)?)?.into_iter().map(f).collect::<Vec<_>>())
        };
        match op.kind {
            OpKind::Cast | OpKind::Identity => {}
            OpKind::Mul if scale.is_none() => match other(|x| x) {
                Some(numbers) => scale = Some(numbers),
                None => break,
            },
            OpKind::RealDiv if scale.is_none() && op.value(param!(RealDiv.x)) == Some(at) => {
                match other(|x| 1.0 / x) {
                    Some(numbers) => scale = Some(numbers),
                    None => break,
                }
            }
            OpKind::Add => bias = other(|x| x),
            OpKind::Sub if op.value(param!(Sub.x)) == Some(at) => bias = other(|x| -x),
            _ => break,
        }
        if matches!(op.kind, OpKind::Add | OpKind::Sub) && bias.is_none() {
            break;
        }
        at = output;
    }
    if scale.is_none() && bias.is_none() {
        return None;
    }
    Some(Preprocessing {
        scale: scale.unwrap_or_else(|| vec![1.0]),
        bias: bias.unwrap_or_else(|| vec![0.0]),
        mean_image: false,
    })
}

fn only_user(function: &Function, value: ValueId) -> Option<&Op> {
    let mut users =
        function.walk().into_iter().map(|op| &function[op]).filter(|op| op.values().any(|v| v == value));
    let user = users.next()?;
    users.next().is_none().then_some(user)
}

/// The elements of a constant with one number, or one per channel: all other dimensions have size 1.
fn channel_numbers(value: &Value) -> Option<Vec<f64>> {
    let tensor = value.as_tensor().filter(|t| t.elements() <= 4 && t.elements() > 0)?;
    let shape = tensor.shape();
    let is_along_channels = match shape.len() {
        0 => true,
        n => shape.iter().enumerate().all(|(d, &size)| size == 1 || d + 3 == n),
    };
    is_along_channels.then(|| tensor.to_f64())
}

fn constant<'a>(function: &'a Function, op: &'a Op, name: &str) -> Option<&'a Value> {
    match op.args(name) {
        [Arg::Const(value)] => Some(value),
        [Arg::Value(v)] => function.const_value(*v),
        _ => None,
    }
}

/// The sizes of a tensor, reduced to the `declared` dimensions of a network's feature.
pub(super) fn declared_sizes(ty: &TensorType, declared: usize) -> Vec<Option<u64>> {
    let size = |d: usize| ty.shape.get(d).and_then(|d| d.fixed()).map(|n| n as u64);
    let rank = ty.rank();
    let kept: Vec<usize> = (0..rank).filter(|&d| declared_axis(rank, declared, d).is_some()).collect();
    // The remaining dimensions may be dropped if their size is 1.
    let others_are_one = (0..rank).filter(|d| !kept.contains(d)).all(|d| size(d) == Some(1));
    if kept.len() == declared && declared > 0 && others_are_one {
        kept.into_iter().map(size).collect()
    } else {
        (0..rank).map(size).collect()
    }
}

/// The multiply-add operations of one run; `None` if a shape that matters is not fixed, or if one of the operations is
/// inside a loop or a branch.
pub(super) fn multiply_adds(function: &Function) -> Option<u64> {
    let mut sum = 0u64;
    for &op in &function[function.body].ops {
        let op = &function[op];
        sum = sum.saturating_add(op_multiply_adds(function, op)?);
        for &block in &op.blocks {
            if block_multiplies(function, block) {
                return None;
            }
        }
    }
    Some(sum)
}

fn block_multiplies(function: &Function, block: BlockId) -> bool {
    function[block].ops.iter().map(|&op| &function[op]).any(|op| {
        op_multiply_adds(function, op) != Some(0) || op.blocks.iter().any(|&b| block_multiplies(function, b))
    })
}

fn op_multiply_adds(function: &Function, op: &Op) -> Option<u64> {
    let sizes = |name: &str| -> Option<Vec<u64>> {
        let shape = match op.args(name) {
            [Arg::Value(v)] => function[*v].ty.as_tensor()?.fixed_shape()?,
            [Arg::Const(value)] => value.as_tensor()?.shape().to_vec(),
            _ => return None,
        };
        Some(shape.into_iter().map(|n| n as u64).collect())
    };
    let product = |sizes: &[u64]| sizes.iter().fold(1u64, |n, &d| n.saturating_mul(d));
    let output = || function[*op.outputs.first()?].ty.as_tensor()?.fixed_shape();
    let written = || Some(output()?.iter().fold(1u64, |n, &d| n.saturating_mul(d as u64)));
    let flag = |name: &str| {
        let value = constant(function, op, name).and_then(|v| Some(v.as_tensor()?.to_f64()));
        value.is_some_and(|v| v.first() == Some(&1.0))
    };
    Some(match op.kind {
        OpKind::Conv => written()?.saturating_mul(product(sizes(param!(Conv.weight))?.get(1..)?)),
        OpKind::ConvTranspose => {
            let weight = sizes(param!(ConvTranspose.weight))?;
            product(&sizes(param!(ConvTranspose.x))?).saturating_mul(product(weight.get(1..)?))
        }
        OpKind::Linear => {
            product(&sizes(param!(Linear.x))?).saturating_mul(*sizes(param!(Linear.weight))?.first()?)
        }
        OpKind::Matmul => {
            let x = sizes(param!(Matmul.x))?;
            let from_end = if flag(param!(Matmul.transpose_x)) && x.len() > 1 { 2 } else { 1 };
            written()?.saturating_mul(x[x.len().checked_sub(from_end)?])
        }
        OpKind::Einsum => {
            let equation =
                constant(function, op, param!(Einsum.equation))?.as_tensor()?.strings().first()?.clone();
            let (inputs, _) = equation.split_once("->")?;
            let mut labels: Vec<(char, u64)> = Vec::new();
            for (arg, letters) in op.args(param!(Einsum.values)).iter().zip(inputs.split(',')) {
                let Arg::Value(v) = arg else { return None };
                let shape = function[*v].ty.as_tensor()?.fixed_shape()?;
                for (letter, size) in letters.trim().chars().zip(shape) {
                    if !labels.iter().any(|(l, n)| *l == letter && *n >= size as u64) {
                        labels.retain(|(l, _)| *l != letter);
                        labels.push((letter, size as u64));
                    }
                }
            }
            labels.iter().fold(1u64, |n, (_, d)| n.saturating_mul(*d))
        }
        OpKind::Lstm | OpKind::Gru | OpKind::Rnn => {
            let x = sizes(param!(Lstm.x))?;
            let weights = [
                param!(Lstm.weight_ih),
                param!(Lstm.weight_hh),
                param!(Lstm.weight_ih_back),
                param!(Lstm.weight_hh_back),
            ];
            let weights = weights.iter().filter(|w| !op.args(w).is_empty());
            let per_step = weights.map(|w| Some(product(&sizes(w)?))).sum::<Option<u64>>()?;
            product(x.get(..2)?).saturating_mul(per_step)
        }
        OpKind::ScaledDotProductAttention => {
            let (query, key, value) = (
                sizes(param!(ScaledDotProductAttention.query))?,
                sizes(param!(ScaledDotProductAttention.key))?,
                sizes(param!(ScaledDotProductAttention.value))?,
            );
            let keys = *key.get(key.len().checked_sub(2)?)?;
            product(&query).saturating_mul(keys).saturating_add(
                product(&query[..query.len() - 1]).saturating_mul(keys).saturating_mul(*value.last()?),
            )
        }
        // The computation of these ops is not counted.
        OpKind::ConvQuantized => return None,
        _ => 0,
    })
}
