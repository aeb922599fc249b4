//! The table of layer kinds and the functions that lower them.

use milwright_formats::proto::NeuralNetworkLayer;
use milwright_formats::proto::neural_network_layer::Layer;
use milwright_mil::OpKind::*;
use milwright_mil::ValueId;

use super::net::Net;
use super::{
    activation, control, convolution, elementwise, gather, image, linear, normalization, pool, random,
    recurrent, reduce, select, shape,
};
use crate::lower::Result;

macro_rules! layers {
    ($($variant:ident $name:literal => $lower:expr,)*) => {
        /// The name of a layer's kind in the specification, such as `innerProduct`.
        pub fn kind(layer: &NeuralNetworkLayer) -> &'static str {
            match &layer.layer {
                $(Some(Layer::$variant(_)) => $name,)*
                None => "unknown",
            }
        }

        /// Lowers a layer, and returns its results.
        pub(super) fn lower(net: &mut Net, layer: &Layer, x: &[ValueId]) -> Result<Vec<ValueId>> {
            match layer {
                $(Layer::$variant(params) => call(net, x, &**params, $lower),)*
            }
        }
    };
}

layers! {
    // activations
    Activation "activation" => activation::activation,
    ClampedReLu "clampedReLU" => activation::clamped_relu,
    Gelu "gelu" => activation::gelu,
    // convolutions and pools
    Convolution "convolution" => convolution::convolution,
    Convolution3d "convolution3d" => convolution::convolution_3d,
    Pooling "pooling" => pool::pooling,
    Pooling3d "pooling3d" => pool::pooling_3d,
    GlobalPooling3d "globalPooling3d" => pool::global_pooling_3d,
    // matrices
    InnerProduct "innerProduct" => linear::inner_product,
    Embedding "embedding" => linear::embedding,
    EmbeddingNd "embeddingND" => linear::embedding_nd,
    BatchedMatmul "batchedMatmul" => linear::batched_matmul,
    Dot "dot" => linear::dot,
    // normalization
    Batchnorm "batchnorm" => normalization::batchnorm,
    Mvn "mvn" => normalization::mvn,
    L2normalize "l2normalize" => normalization::l2_normalize,
    Lrn "lrn" => normalization::lrn,
    Softmax "softmax" => normalization::softmax,
    SoftmaxNd "softmaxND" => normalization::softmax_nd,
    LayerNormalization "layerNormalization" => normalization::layer_normalization,
    // images
    Crop "crop" => image::crop,
    Padding "padding" => image::padding,
    ConstantPad "constantPad" => image::constant_pad,
    Upsample "upsample" => image::upsample,
    ResizeBilinear "resizeBilinear" => image::resize_bilinear,
    CropResize "cropResize" => image::crop_resize,
    ReorganizeData "reorganizeData" => image::reorganize_data,
    // element by element
    Unary "unary" => elementwise::unary,
    Clip "clip" => elementwise::clip,
    Ceil "ceil" => |n, x, _| elementwise::function(n, x, Ceil),
    Floor "floor" => |n, x, _| elementwise::function(n, x, Floor),
    Sign "sign" => |n, x, _| elementwise::function(n, x, Sign),
    Round "round" => |n, x, _| elementwise::function(n, x, Round),
    Exp2 "exp2" => |n, x, _| elementwise::function(n, x, Exp2),
    Sin "sin" => |n, x, _| elementwise::function(n, x, Sin),
    Cos "cos" => |n, x, _| elementwise::function(n, x, Cos),
    Tan "tan" => |n, x, _| elementwise::function(n, x, Tan),
    Asin "asin" => |n, x, _| elementwise::function(n, x, Asin),
    Acos "acos" => |n, x, _| elementwise::function(n, x, Acos),
    Atan "atan" => |n, x, _| elementwise::function(n, x, Atan),
    Sinh "sinh" => |n, x, _| elementwise::function(n, x, Sinh),
    Cosh "cosh" => |n, x, _| elementwise::function(n, x, Cosh),
    Tanh "tanh" => |n, x, _| elementwise::function(n, x, Tanh),
    Asinh "asinh" => |n, x, _| elementwise::asinh(n, x),
    Acosh "acosh" => |n, x, _| elementwise::acosh(n, x),
    Atanh "atanh" => |n, x, _| elementwise::function(n, x, Atanh),
    Erf "erf" => |n, x, _| elementwise::function(n, x, Erf),
    Add "add" => |n, x, p| elementwise::fold(n, x, Add, p.alpha),
    Multiply "multiply" => |n, x, p| elementwise::fold(n, x, Mul, p.alpha),
    Max "max" => |n, x, _| elementwise::fold_all(n, x, Maximum),
    Min "min" => |n, x, _| elementwise::fold_all(n, x, Minimum),
    Average "average" => |n, x, _| elementwise::average(n, x),
    Scale "scale" => elementwise::scale,
    Bias "bias" => elementwise::bias,
    AddBroadcastable "addBroadcastable" => |n, x, _| elementwise::binary(n, x, Add),
    SubtractBroadcastable "subtractBroadcastable" => |n, x, _| elementwise::binary(n, x, Sub),
    MultiplyBroadcastable "multiplyBroadcastable" => |n, x, _| elementwise::binary(n, x, Mul),
    DivideBroadcastable "divideBroadcastable" => |n, x, _| elementwise::binary(n, x, RealDiv),
    FloorDivBroadcastable "floorDivBroadcastable" => |n, x, _| elementwise::binary(n, x, FloorDiv),
    ModBroadcastable "modBroadcastable" => |n, x, _| elementwise::binary(n, x, Mod),
    PowBroadcastable "powBroadcastable" => |n, x, _| elementwise::binary(n, x, Pow),
    MaxBroadcastable "maxBroadcastable" => |n, x, _| elementwise::binary(n, x, Maximum),
    MinBroadcastable "minBroadcastable" => |n, x, _| elementwise::binary(n, x, Minimum),
    Equal "equal" => |n, x, p| elementwise::compare(n, x, Equal, p.alpha),
    NotEqual "notEqual" => |n, x, p| elementwise::compare(n, x, NotEqual, p.alpha),
    LessThan "lessThan" => |n, x, p| elementwise::compare(n, x, Less, p.alpha),
    LessEqual "lessEqual" => |n, x, p| elementwise::compare(n, x, LessEqual, p.alpha),
    GreaterThan "greaterThan" => |n, x, p| elementwise::compare(n, x, Greater, p.alpha),
    GreaterEqual "greaterEqual" => |n, x, p| elementwise::compare(n, x, GreaterEqual, p.alpha),
    LogicalAnd "logicalAnd" => |n, x, _| elementwise::logical(n, x, LogicalAnd),
    LogicalOr "logicalOr" => |n, x, _| elementwise::logical(n, x, LogicalOr),
    LogicalXor "logicalXor" => |n, x, _| elementwise::logical(n, x, LogicalXor),
    LogicalNot "logicalNot" => |n, x, _| elementwise::logical_not(n, x),
    WhereBroadcastable "whereBroadcastable" => |n, x, _| elementwise::where_broadcastable(n, x),
    // reductions
    Reduce "reduce" => reduce::reduce,
    ReduceL1 "reduceL1" => |n, x, p| reduce::over(n, x, ReduceL1Norm, &p.axes, p.keep_dims, p.reduce_all),
    ReduceL2 "reduceL2" => |n, x, p| reduce::over(n, x, ReduceL2Norm, &p.axes, p.keep_dims, p.reduce_all),
    ReduceMax "reduceMax" => |n, x, p| reduce::over(n, x, ReduceMax, &p.axes, p.keep_dims, p.reduce_all),
    ReduceMin "reduceMin" => |n, x, p| reduce::over(n, x, ReduceMin, &p.axes, p.keep_dims, p.reduce_all),
    ReduceSum "reduceSum" => |n, x, p| reduce::over(n, x, ReduceSum, &p.axes, p.keep_dims, p.reduce_all),
    ReduceProd "reduceProd" => |n, x, p| reduce::over(n, x, ReduceProd, &p.axes, p.keep_dims, p.reduce_all),
    ReduceMean "reduceMean" => |n, x, p| reduce::over(n, x, ReduceMean, &p.axes, p.keep_dims, p.reduce_all),
    ReduceLogSum "reduceLogSum" =>
        |n, x, p| reduce::over(n, x, ReduceLogSum, &p.axes, p.keep_dims, p.reduce_all),
    ReduceSumSquare "reduceSumSquare" =>
        |n, x, p| reduce::over(n, x, ReduceSumSquare, &p.axes, p.keep_dims, p.reduce_all),
    ReduceLogSumExp "reduceLogSumExp" =>
        |n, x, p| reduce::over(n, x, ReduceLogSumExp, &p.axes, p.keep_dims, p.reduce_all),
    CumSum "cumSum" => reduce::cumsum,
    // sorting and selecting
    TopK "topK" => select::top_k,
    ArgMax "argMax" => |n, x, p| select::arg(n, x, ReduceArgmax, p.axis, p.remove_dim),
    ArgMin "argMin" => |n, x, p| select::arg(n, x, ReduceArgmin, p.axis, p.remove_dim),
    ArgSort "argSort" => select::arg_sort,
    OneHot "oneHot" => select::one_hot,
    WhereNonZero "whereNonZero" => |n, x, _| select::where_non_zero(n, x),
    NonMaximumSuppression "NonMaximumSuppression" => select::non_maximum_suppression,
    MatrixBandPart "matrixBandPart" => |n, x, p| select::band_part(n, x, p.num_lower, p.num_upper),
    LowerTriangular "lowerTriangular" => |n, x, p| select::triangle(n, x, p.k, true),
    UpperTriangular "upperTriangular" => |n, x, p| select::triangle(n, x, p.k, false),
    // gathering and scattering
    Gather "gather" => |n, x, p| gather::gather(n, x, Gather, Some(p.axis)),
    GatherNd "gatherND" => |n, x, _| gather::gather(n, x, GatherNd, None),
    GatherAlongAxis "gatherAlongAxis" => |n, x, p| gather::gather(n, x, GatherAlongAxis, Some(p.axis)),
    Scatter "scatter" => |n, x, p| gather::scatter(n, x, Scatter, Some(p.axis), p.mode),
    ScatterNd "scatterND" => |n, x, p| gather::scatter(n, x, ScatterNd, None, p.mode),
    ScatterAlongAxis "scatterAlongAxis" =>
        |n, x, p| gather::scatter(n, x, ScatterAlongAxis, Some(p.axis), p.mode),
    // shapes
    LoadConstant "loadConstant" => shape::load_constant,
    LoadConstantNd "loadConstantND" => shape::load_constant_nd,
    Reshape "reshape" => shape::reshape,
    ReshapeStatic "reshapeStatic" => shape::reshape_static,
    ReshapeDynamic "reshapeDynamic" => |n, x, _| shape::reshape_dynamic(n, x),
    ReshapeLike "reshapeLike" => |n, x, _| shape::reshape_like(n, x),
    RankPreservingReshape "rankPreservingReshape" => shape::rank_preserving_reshape,
    Flatten "flatten" => shape::flatten,
    FlattenTo2D "flattenTo2D" => shape::flatten_to_2d,
    Permute "permute" => shape::permute,
    Transpose "transpose" => shape::transpose,
    Squeeze "squeeze" => shape::squeeze,
    ExpandDims "expandDims" => shape::expand_dims,
    Concat "concat" => shape::concat,
    ConcatNd "concatND" => shape::concat_nd,
    Stack "stack" => shape::stack,
    Split "split" => shape::split,
    SplitNd "splitND" => shape::split_nd,
    SequenceRepeat "sequenceRepeat" => shape::sequence_repeat,
    Tile "tile" => shape::tile,
    Slice "slice" => shape::slice,
    SliceStatic "sliceStatic" => shape::slice_static,
    SliceDynamic "sliceDynamic" => shape::slice_dynamic,
    SliceBySize "sliceBySize" => shape::slice_by_size,
    Reverse "reverse" => shape::reverse,
    ReverseSeq "reverseSeq" => shape::reverse_sequence,
    SlidingWindows "slidingWindows" => shape::sliding_windows,
    GetShape "getShape" => |n, x, _| shape::get_shape(n, x),
    FillLike "fillLike" => |n, x, p| shape::fill_like(n, x, p.value),
    FillStatic "fillStatic" => |n, _, p| shape::fill_static(n, &p.target_shape, p.value),
    FillDynamic "fillDynamic" => |n, x, p| shape::fill_dynamic(n, x, p.value),
    BroadcastToLike "broadcastToLike" => |n, x, _| shape::broadcast_to_like(n, x),
    BroadcastToStatic "broadcastToStatic" => |n, x, p| shape::broadcast_to_static(n, x, &p.target_shape),
    BroadcastToDynamic "broadcastToDynamic" => |n, x, _| shape::broadcast_to_dynamic(n, x),
    RangeStatic "rangeStatic" => shape::range_static,
    RangeDynamic "rangeDynamic" => shape::range_dynamic,
    // recurrent networks
    SimpleRecurrent "simpleRecurrent" => recurrent::simple,
    Gru "gru" => recurrent::gru,
    UniDirectionalLstm "uniDirectionalLSTM" => recurrent::lstm,
    BiDirectionalLstm "biDirectionalLSTM" => recurrent::bidirectional_lstm,
    // random numbers
    RandomNormalLike "randomNormalLike" =>
        |n, x, p| random::like(n, x, random::normal(p.seed, p.mean, p.std_dev)),
    RandomNormalStatic "randomNormalStatic" =>
        |n, _, p| random::fixed(n, &p.output_shape, random::normal(p.seed, p.mean, p.std_dev)),
    RandomNormalDynamic "randomNormalDynamic" =>
        |n, x, p| random::dynamic(n, x, random::normal(p.seed, p.mean, p.std_dev)),
    RandomUniformLike "randomUniformLike" =>
        |n, x, p| random::like(n, x, random::uniform(p.seed, p.min_val, p.max_val)),
    RandomUniformStatic "randomUniformStatic" =>
        |n, _, p| random::fixed(n, &p.output_shape, random::uniform(p.seed, p.min_val, p.max_val)),
    RandomUniformDynamic "randomUniformDynamic" =>
        |n, x, p| random::dynamic(n, x, random::uniform(p.seed, p.min_val, p.max_val)),
    RandomBernoulliLike "randomBernoulliLike" =>
        |n, x, p| random::like(n, x, random::bernoulli(p.seed, p.prob)),
    RandomBernoulliStatic "randomBernoulliStatic" =>
        |n, _, p| random::fixed(n, &p.output_shape, random::bernoulli(p.seed, p.prob)),
    RandomBernoulliDynamic "randomBernoulliDynamic" =>
        |n, x, p| random::dynamic(n, x, random::bernoulli(p.seed, p.prob)),
    CategoricalDistribution "categoricalDistribution" => random::categorical,
    // control flow
    Copy "copy" => |_, x, _| control::copy(x),
    Branch "branch" => control::branch,
    Loop "loop" => control::repeat,
    LoopBreak "loopBreak" => |n, _, _| control::leave(n, true),
    LoopContinue "loopContinue" => |n, _, _| control::leave(n, false),
    Custom "custom" => control::custom,
}

/// Calls a lowering function; gives closures their argument types.
fn call<P, R: Results>(
    net: &mut Net,
    x: &[ValueId],
    params: &P,
    lower: impl FnOnce(&mut Net, &[ValueId], &P) -> Result<R>,
) -> Result<Vec<ValueId>> {
    R::from_lowered(lower(net, x, params))
}

/// The results of a lowering function: one value or several.
trait Results {
    fn from_lowered(lowered: Result<Self>) -> Result<Vec<ValueId>>
    where
        Self: Sized;
}

impl Results for ValueId {
    fn from_lowered(lowered: Result<ValueId>) -> Result<Vec<ValueId>> {
        lowered.map(|v| vec![v])
    }
}

impl Results for Vec<ValueId> {
    fn from_lowered(lowered: Result<Vec<ValueId>>) -> Result<Vec<ValueId>> {
        lowered
    }
}
