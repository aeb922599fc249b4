//! Translates each layer of a compiled network to the layer of the specification that it was compiled from.
//!
//! The format is not published. A meaning is included here only if a model shows it beside its source or through its
//! known results, or if independent descriptions agree on it; [`docs/compiled.md`] lists them. Everything else is
//! refused.
//!
//! [`docs/compiled.md`]: https://github.com/milwright/milwright/blob/main/docs/compiled.md

use super::attributes::{Attributes, unknown};
use super::blobs::Blobs;
use super::shapes::{Shape, Shapes};
use crate::proto::activation_params::NonlinearityType as Function;
use crate::proto::border_amounts::EdgeSizes;
use crate::proto::convolution_layer_params::ConvolutionPaddingType;
use crate::proto::neural_network_layer::Layer;
use crate::proto::pooling_layer_params::{PoolingPaddingType, PoolingType, ValidCompletePadding};
use crate::proto::same_padding::SamePaddingMode;
use crate::proto::unary_function_layer_params::Operation;
use crate::proto::{
    ActivationElu, ActivationLeakyReLu, ActivationLinear, ActivationParams, ActivationReLu,
    ActivationSigmoid, ActivationSoftplus, ActivationSoftsign, ActivationTanh, ActivationThresholdedReLu,
    AddLayerParams, BatchnormLayerParams, BorderAmounts, CeilLayerParams, ClipLayerParams, ConcatLayerParams,
    ConcatNdLayerParams, ConvolutionLayerParams, CopyLayerParams, CropLayerParams, ExpandDimsLayerParams,
    FlattenLayerParams, FloorLayerParams, InnerProductLayerParams, LoadConstantLayerParams,
    LoadConstantNdLayerParams, MultiplyLayerParams, PoolingLayerParams, ReshapeStaticLayerParams,
    SamePadding, SoftmaxLayerParams, SoftmaxNdLayerParams, SplitNdLayerParams, SqueezeLayerParams,
    TransposeLayerParams, UnaryFunctionLayerParams, UpsampleLayerParams, ValidPadding, WeightParams,
};
use crate::{Error, Result};

/// The values of numeric attributes that were not set.
const UNSET: [f32; 2] = [0.0, 1.0];

/// Facts about the network that all its layers share.
pub(super) struct Context {
    pub blobs: Blobs,
    pub shapes: Shapes,
    /// Whether inputs may have other shapes than those in the file.
    pub flexible: bool,
}

/// A layer, and the function that is applied to its result.
pub(super) struct Meaning {
    pub layer: Layer,
    pub then: Option<Function>,
}

/// Translates a layer with these inputs and outputs.
pub(super) fn read(
    kind: &str,
    a: &mut Attributes<'_>,
    context: &mut Context,
    inputs: &[&str],
    outputs: &[&str],
) -> Result<Meaning> {
    let plain = |layer| Meaning { layer, then: None };
    let shape = |names: &[&str]| match names {
        [name] => context.shapes.of(name).copied(),
        _ => Err(Error::unsupported(format!("it has {} inputs or outputs, where 1 is known", names.len()))),
    };
    let meaning = match kind {
        "convolution" => convolution(a, &mut context.blobs)?,
        "inner_product" => inner_product(a, &mut context.blobs)?,
        "pool" => {
            let (input, output) = (shape(inputs)?, shape(outputs)?);
            plain(pool(a, &input, &output, context.flexible)?)
        }
        "activation" => plain(activation(activation_function(a)?)),
        "elementwise" => elementwise(a, inputs.len())?,
        "batchnorm" => plain(instance_norm(a, &mut context.blobs)?),
        "softmax" => plain(softmax(a, context.shapes.exact)?),
        "softmax_nd" => plain(softmax_nd(a, context.shapes.exact)?),
        "flatten" => plain(flatten(a, context.shapes.exact)?),
        "reshape" => plain(reshape(a, context.shapes.exact)?),
        "transpose" => plain(transpose(a, &shape(inputs)?)?),
        "expand_dims" | "squeeze" => plain(dimensions(a, kind, context.shapes.exact)?),
        "split_nd" => plain(split(a, context.shapes.exact, outputs.len())?),
        "concat" => plain(concat(a, &context.shapes, inputs, outputs)?),
        "upsample" => plain(upsample(a)?),
        "crop" => plain(crop(a, inputs.len())?),
        "load_constant" => plain(load_constant(a, context, outputs)?),
        "copy" => plain(Layer::Copy(Box::new(CopyLayerParams {}))),
        _ => {
            return Err(Error::unsupported("layers of this type are not read from compiled networks"));
        }
    };
    a.finish()?;
    if !USE_WEIGHTS.contains(&kind)
        && let Some((name, _)) = a.blobs()?.first()
    {
        return Err(Error::unsupported(format!("its weights `{name}` have no known meaning")));
    }
    Ok(meaning)
}

/// The layers that may have weights by name.
const USE_WEIGHTS: [&str; 2] = ["convolution", "inner_product"];

fn convolution(a: &mut Attributes<'_>, blobs: &mut Blobs) -> Result<Meaning> {
    a.is("n_parallel", &[1.0])?;
    a.is("has_batch_norm", &[0.0])?;
    let (outputs, inputs, groups) = (a.size("C")?, a.size("K")?, a.size_or("n_groups", 1)?);
    let kernel = [a.size("Ny")?, a.size("Nx")?];
    if inputs % groups != 0 || outputs % groups != 0 {
        let message = format!("{inputs} channels become {outputs}, in {groups} groups");
        return Err(Error::malformed(message));
    }
    let count = product(&[outputs, inputs / groups, kernel[0], kernel[1]])?;
    let weights = weights(a, blobs, count, outputs)?;
    let has_bias = a.flag("has_biases")?;
    let bias = bias(a, blobs, has_bias, outputs)?;
    let padding = match padding(a)? {
        Padding::Amounts(amounts) => ConvolutionPaddingType::Valid(valid(amounts)),
        Padding::Same(same) => ConvolutionPaddingType::Same(same),
    };
    let layer = ConvolutionLayerParams {
        output_channels: outputs,
        kernel_channels: inputs / groups,
        n_groups: groups,
        kernel_size: kernel.to_vec(),
        stride: vec![a.size_or("stride_y", 1)?, a.size_or("stride_x", 1)?],
        dilation_factor: vec![a.size_or("dilation_y", 1)?, a.size_or("dilation_x", 1)?],
        has_bias,
        weights,
        bias,
        convolution_padding_type: Some(padding),
        ..ConvolutionLayerParams::default()
    };
    let then = fused(a, "fused_relu", "fused_tanh")?;
    Ok(Meaning { layer: Layer::Convolution(Box::new(layer)), then })
}

fn inner_product(a: &mut Attributes<'_>, blobs: &mut Blobs) -> Result<Meaning> {
    a.is("has_prelu", &[0.0])?;
    let (inputs, outputs) = (a.size("nB")?, a.size("nC")?);
    let weights = weights(a, blobs, product(&[outputs, inputs])?, outputs)?;
    let has_bias = a.flag("has_biases")?;
    let bias = bias(a, blobs, has_bias, outputs)?;
    let layer = InnerProductLayerParams {
        input_channels: inputs,
        output_channels: outputs,
        has_bias,
        weights,
        bias,
        int8_dynamic_quantize: false,
    };
    let then = fused(a, "has_relu", "has_tanh")?;
    Ok(Meaning { layer: Layer::InnerProduct(Box::new(layer)), then })
}

/// Reads the weights of a matrix or a convolution kernel, output channels first.
fn weights(
    a: &mut Attributes<'_>,
    blobs: &mut Blobs,
    count: u64,
    channels: u64,
) -> Result<Option<Box<WeightParams>>> {
    const LOOKED_UP: [&str; 2] = ["quantization_lut_weights_blob", "quantization_ranges_blob"];
    if LOOKED_UP.iter().any(|key| a.has(key)) {
        return Err(Error::unsupported("its weights are looked up in ranges, whose layout is not known"));
    }
    let named = a.blobs()?;
    let by_name = |name: &str| named.iter().find(|(found, _)| *found == name).map(|(_, number)| *number);
    let (single, half) = (a.has("blob_weights"), a.has("blob_weights_f16"));
    match (single, half, named.len()) {
        (true, false, 0) => blobs.weights(a.int("blob_weights")?, count),
        (false, true, 0) => blobs.half_weights(a.int("blob_weights_f16")?, count),
        (false, false, 3) => {
            // Each stored number is multiplied by a scale; then a bias is added.
            a.is("quantization_mode", &[1.0])?;
            let numbers = ["W_U8", "per_ch_qscale", "per_ch_qbias"].map(by_name);
            let [Some(codes), Some(scale), Some(bias)] = numbers else { return Err(unknown_form(&named)) };
            blobs.quantized_weights([codes, scale, bias], count, channels)
        }
        (false, false, 0) => Err(Error::unsupported("it has no weights in a form that is known")),
        _ => Err(unknown_form(&named)),
    }
}

fn unknown_form(named: &[(&str, i64)]) -> Error {
    let names: Vec<&str> = named.iter().take(8).map(|(name, _)| *name).collect();
    Error::unsupported(format!("its weights are in a form that is not known: {}", names.join(", ")))
}

fn bias(
    a: &mut Attributes<'_>,
    blobs: &mut Blobs,
    has_bias: bool,
    count: u64,
) -> Result<Option<Box<WeightParams>>> {
    match (has_bias, a.has("blob_biases")) {
        (true, _) => blobs.weights(a.int("blob_biases")?, count),
        (false, false) => Ok(None),
        (false, true) => Err(Error::unsupported("it has biases and says that it has none")),
    }
}

/// The activation that a layer applies to its own result, if any.
fn fused(a: &mut Attributes<'_>, relu: &str, tanh: &str) -> Result<Option<Function>> {
    match (a.flag(relu)?, a.flag(tanh)?) {
        (false, false) => Ok(None),
        (true, false) => Ok(Some(Function::ReLu(ActivationReLu {}))),
        (false, true) => Ok(Some(Function::Tanh(ActivationTanh {}))),
        (true, true) => Err(Error::unsupported(format!("`{relu}` and `{tanh}` at once"))),
    }
}

/// How the input of a pool or a convolution is padded.
enum Padding {
    /// Top, bottom, left, right.
    Amounts([u64; 4]),
    Same(SamePadding),
}

fn padding(a: &mut Attributes<'_>) -> Result<Padding> {
    a.is("pad_fill_mode", &[0.0])?;
    a.is("pad_value", &[0.0])?;
    let amounts = [a.amount("pad_t")?, a.amount("pad_b")?, a.amount("pad_l")?, a.amount("pad_r")?];
    let same = |mode: SamePaddingMode| Padding::Same(SamePadding { asymmetry_mode: mode.into() });
    let found = match a.int("pad_mode")? {
        0 => return Ok(Padding::Amounts(amounts)),
        1 => same(SamePaddingMode::BottomRightHeavy),
        2 => Padding::Amounts([0; 4]),
        4 => same(SamePaddingMode::TopLeftHeavy),
        mode => return Err(unknown("pad_mode", mode)),
    };
    if amounts != [0; 4] {
        return Err(Error::unsupported("amounts of padding in a mode that computes them"));
    }
    Ok(found)
}

fn valid([top, bottom, left, right]: [u64; 4]) -> ValidPadding {
    ValidPadding { padding_amounts: Some(borders([top, bottom, left, right])) }
}

fn borders([top, bottom, left, right]: [u64; 4]) -> BorderAmounts {
    let edges = |start_edge_size, end_edge_size| EdgeSizes { start_edge_size, end_edge_size };
    BorderAmounts { border_amounts: vec![edges(top, bottom), edges(left, right)] }
}

fn pool(a: &mut Attributes<'_>, input: &Shape, output: &Shape, flexible: bool) -> Result<Layer> {
    let kind = match a.int("avg_or_max")? {
        0 => PoolingType::Average,
        1 => PoolingType::Max,
        other => return Err(unknown("avg_or_max", other)),
    };
    let exclude_padding = a.flag("average_count_exclude_padding")?;
    let global = a.flag("is_global")?;
    let sizes = [a.size("size_y")?, a.size("size_x")?];
    let strides = [a.size_or("stride_y", 1)?, a.size_or("stride_x", 1)?];
    let padding = match (a.int_or("top_shape_style", 0)?, padding(a)?) {
        (0, Padding::Amounts(amounts)) => PoolingPaddingType::Valid(valid(amounts)),
        (0, Padding::Same(same)) => PoolingPaddingType::Same(same),
        (2, Padding::Amounts([0, 0, 0, 0])) => {
            last_pixel(kind, input, output, sizes, strides, flexible || global)?;
            let padding_amounts = vec![0, 0];
            PoolingPaddingType::IncludeLastPixel(ValidCompletePadding { padding_amounts })
        }
        (2, _) => return Err(Error::unsupported("`top_shape_style` 2 with padding")),
        (other, _) => return Err(unknown("top_shape_style", other)),
    };
    Ok(Layer::Pooling(Box::new(PoolingLayerParams {
        r#type: kind.into(),
        kernel_size: sizes.to_vec(),
        stride: strides.to_vec(),
        avg_pool_exclude_padding: exclude_padding,
        global_pooling: global,
        pooling_padding_type: Some(padding),
    })))
}

/// Checks how a pool in this style treats the end of its input, from the model's shapes. They show that the last window
/// may reach beyond the end if one has to. If all windows end within the input, the question does not matter, as long
/// as inputs have no other shapes.
fn last_pixel(
    kind: PoolingType,
    input: &Shape,
    output: &Shape,
    sizes: [u64; 2],
    strides: [u64; 2],
    others: bool,
) -> Result<()> {
    let mut reaches_beyond = false;
    for (i, axis) in [Shape::HEIGHT, Shape::WIDTH].into_iter().enumerate() {
        let moves = input.sizes[axis].checked_sub(sizes[i]);
        let moves = moves.ok_or_else(|| Error::malformed("its window is larger than its input"))?;
        reaches_beyond |= moves % strides[i] != 0;
        if output.sizes[axis] != moves.div_ceil(strides[i]) + 1 {
            return Err(Error::unsupported("its windows do not end as `top_shape_style` 2 is known to mean"));
        }
    }
    if reaches_beyond && kind == PoolingType::Average {
        return Err(Error::unsupported("an average of a window that reaches beyond the end"));
    }
    if !reaches_beyond && others {
        return Err(Error::unsupported("`top_shape_style` 2 of an input that may have other shapes"));
    }
    Ok(())
}

fn activation(function: Function) -> Layer {
    Layer::Activation(Box::new(ActivationParams { nonlinearity_type: Some(function) }))
}

pub(super) fn activation_layer(function: Function) -> Layer {
    activation(function)
}

fn activation_function(a: &mut Attributes<'_>) -> Result<Function> {
    let mode = a.int("mode")?;
    let one = matches!(mode, 2 | 8 | 9);
    if mode != 6 {
        if !one {
            a.is("alpha", &UNSET)?;
        }
        a.is("beta", &UNSET)?;
    }
    Ok(match mode {
        0 => Function::ReLu(ActivationReLu {}),
        1 => Function::Tanh(ActivationTanh {}),
        2 => Function::LeakyReLu(ActivationLeakyReLu { alpha: a.float("alpha")? }),
        3 => Function::Sigmoid(ActivationSigmoid {}),
        6 => Function::Linear(ActivationLinear { alpha: a.float("alpha")?, beta: a.float_or("beta", 0.0)? }),
        8 => Function::Elu(ActivationElu { alpha: a.float("alpha")? }),
        9 => Function::ThresholdedReLu(ActivationThresholdedReLu { alpha: a.float("alpha")? }),
        10 => Function::Softplus(ActivationSoftplus {}),
        12 => Function::Softsign(ActivationSoftsign {}),
        other => return Err(unknown("mode", other)),
    })
}

fn elementwise(a: &mut Attributes<'_>, inputs: usize) -> Result<Meaning> {
    // Whether shapes may differ. No effect: they are broadcast in any case.
    a.flag("nd_mode")?;
    let operation = a.int("operation")?;
    let relu = a.flag("fused_relu")?;
    let wanted = if operation <= 1 { 2 } else { 1 };
    if inputs != wanted {
        let message = format!("`operation` {operation} is known with {wanted} inputs, not with {inputs}");
        return Err(Error::unsupported(message));
    }
    match operation {
        0 | 1 => {
            a.is("alpha", &[1.0])?;
            a.is("beta", &[0.0])?;
        }
        2 | 3 => a.is("beta", &[0.0])?,
        119 => {}
        _ => {
            a.is("alpha", &UNSET)?;
            a.is("beta", &UNSET)?;
        }
    }
    let unary = |operation: Operation| {
        Layer::Unary(Box::new(UnaryFunctionLayerParams {
            r#type: operation.into(),
            scale: 1.0,
            ..UnaryFunctionLayerParams::default()
        }))
    };
    let layer = match operation {
        0 => Layer::Add(Box::new(AddLayerParams { alpha: 0.0 })),
        1 => Layer::Multiply(Box::new(MultiplyLayerParams { alpha: 1.0 })),
        2 => Layer::Add(Box::new(AddLayerParams { alpha: a.float("alpha")? })),
        3 => Layer::Multiply(Box::new(MultiplyLayerParams { alpha: a.float("alpha")? })),
        24 => unary(Operation::Abs),
        117 => Layer::Floor(Box::new(FloorLayerParams {})),
        118 => Layer::Ceil(Box::new(CeilLayerParams {})),
        119 => {
            let (min_val, max_val) = (a.float("alpha")?, a.float("beta")?);
            if min_val > max_val {
                return Err(Error::malformed(format!("it clips to {min_val} to {max_val}")));
            }
            Layer::Clip(Box::new(ClipLayerParams { min_val, max_val }))
        }
        other => return Err(unknown("operation", other)),
    };
    Ok(Meaning { layer, then: relu.then_some(Function::ReLu(ActivationReLu {})) })
}

/// Translates those layers of this type that compute the mean and variance of each channel of each instance.
fn instance_norm(a: &mut Attributes<'_>, blobs: &mut Blobs) -> Result<Layer> {
    // The momentum of training. No effect on predictions.
    a.float_or("training_momentum", 0.0)?;
    if !a.flag("training")? || !a.flag("training_instancenorm")? {
        return Err(Error::unsupported(
            "a batch normalization with stored mean and variance, whose epsilon is not known",
        ));
    }
    let epsilon = a.float("training_eps")?;
    if epsilon <= 0.0 {
        return Err(Error::unsupported(format!("an epsilon of {epsilon}")));
    }
    let channels = a.size("C")?;
    // Gamma, beta, mean and variance of the first channel, then of the second, and so on.
    let params = blobs.floats(a.int("blob_batchnorm_params")?, product(&[channels, 4])?)?;
    let column = |i: usize| {
        let float_value = params.chunks_exact(4).map(|channel| channel[i]).collect();
        Some(Box::new(WeightParams { float_value, ..WeightParams::default() }))
    };
    Ok(Layer::Batchnorm(Box::new(BatchnormLayerParams {
        channels,
        compute_mean_var: true,
        instance_normalization: true,
        epsilon,
        gamma: column(0),
        beta: column(1),
        mean: None,
        variance: None,
    })))
}

fn softmax(a: &mut Attributes<'_>, exact: bool) -> Result<Layer> {
    // The axis: width, height or channel.
    a.is("C", &[2.0])?;
    if exact {
        return Err(Error::unsupported("it is known for tensors of five dimensions only"));
    }
    Ok(Layer::Softmax(Box::new(SoftmaxLayerParams {})))
}

fn softmax_nd(a: &mut Attributes<'_>, exact: bool) -> Result<Layer> {
    only_exact(exact)?;
    Ok(Layer::SoftmaxNd(Box::new(SoftmaxNdLayerParams { axis: a.int("nd_axis")? })))
}

fn flatten(a: &mut Attributes<'_>, exact: bool) -> Result<Layer> {
    // Channels first.
    a.is("mode", &[0.0])?;
    a.is("nd_axis", &[0.0])?;
    if exact {
        return Err(Error::unsupported("it is known for tensors of five dimensions only"));
    }
    Ok(Layer::Flatten(Box::new(FlattenLayerParams { mode: 0 })))
}

fn reshape(a: &mut Attributes<'_>, exact: bool) -> Result<Layer> {
    only_exact(exact)?;
    a.is("mode", &[0.0])?;
    a.is("version", &[1.0])?;
    a.is("dynamic_shape", &[0.0])?;
    let rank = a.size("dst_nd_rank")?;
    let mut sizes = Vec::with_capacity(5);
    for key in ["dst_seq", "dst_n", "dst_k", "dst_h", "dst_w"] {
        let size = a.int(key)?;
        // One size may be -1, which stands for the remaining elements.
        if size < 1 && size != -1 {
            return Err(unknown(key, size));
        }
        sizes.push(size);
    }
    let target_shape = last(&sizes, rank)?;
    if target_shape.iter().filter(|&&size| size == -1).count() > 1 {
        return Err(Error::malformed("more than one size is to be found out"));
    }
    Ok(Layer::ReshapeStatic(Box::new(ReshapeStaticLayerParams { target_shape })))
}

/// Returns the last `rank` of five sizes; the others must be 1.
fn last(sizes: &[i64], rank: u64) -> Result<Vec<i64>> {
    let cut = usize::try_from(rank).ok().and_then(|rank| sizes.len().checked_sub(rank));
    let cut = cut.ok_or_else(|| Error::malformed(format!("a rank of {rank}")))?;
    let (before, sizes) = sizes.split_at(cut);
    if before.iter().any(|&size| size != 1) {
        return Err(Error::malformed(format!("sizes before the last {rank} that are not 1")));
    }
    Ok(sizes.to_vec())
}

fn transpose(a: &mut Attributes<'_>, input: &Shape) -> Result<Layer> {
    let rank = input.rank.unwrap_or(5);
    let mut axes = Vec::with_capacity(rank);
    // For each output dimension, from the last to the first: the input dimension it comes from, counted from the last,
    // too.
    for (i, key) in ["axis_w", "axis_h", "axis_k", "axis_n", "axis_seq"].into_iter().enumerate() {
        let from = a.int(key)?;
        if i >= rank {
            if from != i as i64 {
                return Err(Error::malformed(format!("its `{key}` is {from}, in a rank of {rank}")));
            }
            continue;
        }
        let from = usize::try_from(from).ok().filter(|&from| from < rank);
        let from = from.ok_or_else(|| Error::malformed(format!("its `{key}` is not below {rank}")))?;
        axes.push((rank - 1 - from) as u64);
    }
    axes.reverse();
    let mut sorted = axes.clone();
    sorted.sort_unstable();
    if sorted.iter().enumerate().any(|(i, &axis)| axis != i as u64) {
        return Err(Error::malformed("its axes are not a permutation"));
    }
    Ok(Layer::Transpose(Box::new(TransposeLayerParams { axes })))
}

/// Translates layers that add or remove dimensions of size 1.
fn dimensions(a: &mut Attributes<'_>, kind: &str, exact: bool) -> Result<Layer> {
    only_exact(exact)?;
    a.is("nd_axis", &[0.0])?;
    a.is("version", &[0.0, 1.0])?;
    let count = a.size("size_of_axes")?;
    if count > 5 {
        return Err(Error::malformed(format!("{count} axes")));
    }
    let axes = (0..count).map(|i| a.int(&format!("axes_{i}"))).collect::<Result<Vec<i64>>>()?;
    Ok(match kind {
        "squeeze" => Layer::Squeeze(Box::new(SqueezeLayerParams { axes, squeeze_all: false })),
        _ => Layer::ExpandDims(Box::new(ExpandDimsLayerParams { axes })),
    })
}

fn split(a: &mut Attributes<'_>, exact: bool, outputs: usize) -> Result<Layer> {
    only_exact(exact)?;
    // The start of each part. They are 0 if all parts have the same size.
    a.all_zero("begin_")?;
    let axis = a.int("nd_axis")?;
    Ok(Layer::SplitNd(Box::new(SplitNdLayerParams {
        axis,
        num_splits: outputs as u64,
        split_sizes: Vec::new(),
    })))
}

/// Translates a concatenation. The shapes tell its axis.
fn concat(a: &mut Attributes<'_>, shapes: &Shapes, inputs: &[&str], outputs: &[&str]) -> Result<Layer> {
    let [output] = outputs else {
        return Err(Error::malformed(format!("it has {} outputs", outputs.len())));
    };
    if a.has("axis") {
        return Err(Error::unsupported("its attribute `axis` has no known meaning"));
    }
    let output = shapes.of(output)?;
    let inputs = inputs.iter().map(|name| shapes.of(name)).collect::<Result<Vec<&Shape>>>()?;
    let sum = |axis: usize| inputs.iter().try_fold(0u64, |sum, shape| sum.checked_add(shape.sizes[axis]));
    let fits = |axis: &usize| {
        let others = (0..5).filter(|other| other != axis);
        let same = |other: usize| inputs.iter().all(|shape| shape.sizes[other] == output.sizes[other]);
        sum(*axis) == Some(output.sizes[*axis]) && others.into_iter().all(same)
    };
    let axes: Vec<usize> = (0..5).filter(fits).collect();
    if axes != [Shape::CHANNEL] {
        return Err(Error::unsupported("a concatenation that is not along the channels, by its shapes"));
    }
    Ok(if shapes.exact {
        Layer::ConcatNd(Box::new(ConcatNdLayerParams { axis: -3, interleave: false }))
    } else {
        Layer::Concat(Box::new(ConcatLayerParams { sequence_concat: false }))
    })
}

/// Translates those layers of this type that repeat pixels.
fn upsample(a: &mut Attributes<'_>) -> Result<Layer> {
    a.is("mode", &[0.0])?;
    a.is("align_corners", &[0.0])?;
    a.is("is_legacy_mode", &[0.0])?;
    a.is("use_fractional_scale_factors", &[0.0])?;
    a.is("fractional_scaling_factor_x", &[1.0, 0.0])?;
    a.is("fractional_scaling_factor_y", &[1.0, 0.0])?;
    let scaling_factor = vec![a.size("scaling_factor_y")?, a.size("scaling_factor_x")?];
    Ok(Layer::Upsample(Box::new(UpsampleLayerParams { scaling_factor, ..UpsampleLayerParams::default() })))
}

fn crop(a: &mut Attributes<'_>, inputs: usize) -> Result<Layer> {
    if inputs != 1 {
        return Err(Error::unsupported(format!("it is known with 1 input, not with {inputs}")));
    }
    let amounts = [a.amount("t")?, a.amount("b")?, a.amount("l")?, a.amount("r")?];
    let crop_amounts = Some(borders(amounts));
    Ok(Layer::Crop(Box::new(CropLayerParams { crop_amounts, ..CropLayerParams::default() })))
}

fn load_constant(a: &mut Attributes<'_>, context: &mut Context, outputs: &[&str]) -> Result<Layer> {
    let [n, k, h, w] = [a.size("n")?, a.size("k")?, a.size("h")?, a.size("w")?];
    let count = product(&[n, k, h, w])?;
    let data = context.blobs.weights(a.int("constant_blob")?, count)?;
    let rank = a.size_or("nd_rank", 4)?;
    if context.shapes.exact {
        let shape = last(&[1, n, k, h, w].map(|size| size as i64), rank)?;
        let shape = shape.into_iter().map(|size| size as u64).collect();
        return Ok(Layer::LoadConstantNd(Box::new(LoadConstantNdLayerParams { shape, data })));
    }
    if n != 1 {
        return Err(Error::unsupported(format!("a constant of a batch of {n}: {outputs:?}")));
    }
    Ok(Layer::LoadConstant(Box::new(LoadConstantLayerParams { shape: vec![k, h, w], data })))
}

fn only_exact(exact: bool) -> Result<()> {
    if exact { Ok(()) } else { Err(Error::unsupported("it is not known for tensors of five dimensions")) }
}

fn product(sizes: &[u64]) -> Result<u64> {
    let product = sizes.iter().try_fold(1u64, |n, &size| n.checked_mul(size));
    product.ok_or_else(|| Error::malformed(format!("a shape of {sizes:?}")))
}
