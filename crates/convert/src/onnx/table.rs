//! The list of ONNX ops: which function lowers each, or why none does.
//!
//! An entry is one line: the domain, the name, the opset versions in which the op changed, and the function that lowers
//! it, or the reason why no program can compute it and what the user can do. What is supported, refused and unknown,
//! and the ops in docs/onnx.md (`cargo xtask docs`), follow from this list.
//!
//! A lowering function gets a `Node`, which has inputs and attributes with their types checked, and returns one
//! value, several, or `Val`s, which state the ONNX element type of the result.

use milwright_mil::OpKind;

use super::activation::Soft;
use super::item::Item;
use super::node::{Node, Results};
use super::reduce::Reduce;
use super::{
    activation, attention, cast, contrib, control, conv, elementwise, fused, gather, layout, linear, loops,
    loss, matrix, ml, norm, packed, pad, pool, qlinear, quantize, random, recurrent, reduce, resize, sample,
    select, sequence, shape, signal, slice, text,
};
use crate::lower::Result;

/// An ONNX op.
pub struct Entry {
    /// The domain; empty for ai.onnx.
    pub domain: &'static str,
    /// The name.
    pub name: &'static str,
    /// The first opset that has the op.
    pub since: u32,
    /// The opsets in which the op changed, oldest first.
    pub versions: &'static [u32],
    pub(super) how: How,
}

/// What becomes of an op.
#[derive(Clone, Copy)]
pub(super) enum How {
    Lower(fn(&mut Node<'_, '_>) -> Result<Vec<Item>>),
    /// No program can compute it: why, and what the user can do.
    Refuse {
        reason: &'static str,
        remedy: &'static str,
    },
}

/// The newest version of each domain that this table describes.
const NEWEST: &[(&str, u32)] = &[(ONNX, 28), (ML, 5), (MICROSOFT, 1), (PREVIEW, 1), (TRAINING, 1)];

const ONNX: &str = "";
const ML: &str = "ai.onnx.ml";
const MICROSOFT: &str = "com.microsoft";
const PREVIEW: &str = "ai.onnx.preview";
const TRAINING: &str = "ai.onnx.preview.training";

/// The reason of ops that could be lowered, and are not yet.
pub const LATER: &str = "is not supported yet";
const LATER_HINT: &str = "docs/onnx.md lists the ops that are supported";
const STRINGS: &str = "programs have no strings: take the text part out of the model, and do it in the app";
const MAPS: &str = "programs have no dictionaries: take this part out of the model, and do it in the app";

/// The form of an entry in the list below.
macro_rules! entries {
    (@how refuse $reason:expr, $remedy:expr) => { How::Refuse { reason: $reason, remedy: $remedy } };
    (@how $lower:expr) => { How::Lower(|n| call(n, $lower)) };
    ($($domain:ident $name:literal [$since:literal $(, $version:literal)*] => { $($how:tt)+ })*) => {
        /// Every op that is known.
        pub static OPS: &[Entry] = &[$(Entry {
            domain: $domain,
            name: $name,
            since: $since,
            versions: &[$since $(, $version)*],
            how: entries!(@how $($how)+),
        }),*];
    };
}

entries! {
    // element by element (elementwise.rs)
    ONNX "Abs" [1, 6, 13] => { |n| elementwise::function(n, OpKind::Abs) }
    ONNX "Acos" [7, 22] => { |n| elementwise::function(n, OpKind::Acos) }
    ONNX "Acosh" [9, 22] => { elementwise::acosh }
    ONNX "Add" [1, 6, 7, 13, 14] => { |n| elementwise::arithmetic(n, OpKind::Add) }
    ONNX "And" [1, 7] => { |n| elementwise::logical(n, OpKind::LogicalAnd) }
    ONNX "Asin" [7, 22] => { |n| elementwise::function(n, OpKind::Asin) }
    ONNX "Asinh" [9, 22] => { elementwise::asinh }
    ONNX "Atan" [7, 22] => { |n| elementwise::function(n, OpKind::Atan) }
    ONNX "Atanh" [9, 22] => { |n| elementwise::function(n, OpKind::Atanh) }
    ONNX "BitCast" [26] => { cast::bit_cast }
    ONNX "BitShift" [11, 28] => { elementwise::bit_shift }
    ONNX "BitwiseAnd" [18] => { |n| elementwise::bitwise(n, OpKind::LogicalAnd) }
    ONNX "BitwiseNot" [18] => { elementwise::bitwise_not }
    ONNX "BitwiseOr" [18] => { |n| elementwise::bitwise(n, OpKind::LogicalOr) }
    ONNX "BitwiseXor" [18] => { |n| elementwise::bitwise(n, OpKind::LogicalXor) }
    ONNX "Cast" [1, 6, 9, 13, 19, 21, 23, 24, 25, 28] => { cast::cast }
    ONNX "CastLike" [15, 19, 21, 23, 24, 25] => { cast::cast_like }
    ONNX "Ceil" [1, 6, 13] => { |n| elementwise::function(n, OpKind::Ceil) }
    ONNX "Celu" [12, 28] => { activation::celu }
    ONNX "Clip" [1, 6, 11, 12, 13] => { elementwise::clip }
    ONNX "Cos" [7, 22] => { |n| elementwise::function(n, OpKind::Cos) }
    ONNX "Cosh" [9, 22] => { |n| elementwise::function(n, OpKind::Cosh) }
    ONNX "Div" [1, 6, 7, 13, 14] => { elementwise::div }
    ONNX "Elu" [1, 6, 22] => { |n| activation::with(n, OpKind::Elu, 1.0, None) }
    ONNX "Equal" [1, 7, 11, 13, 19] => { |n| elementwise::compare(n, OpKind::Equal) }
    ONNX "Erf" [9, 13] => { |n| elementwise::function(n, OpKind::Erf) }
    ONNX "Exp" [1, 6, 13] => { |n| elementwise::function(n, OpKind::Exp) }
    ONNX "Floor" [1, 6, 13] => { |n| elementwise::function(n, OpKind::Floor) }
    ONNX "Gelu" [20] => { activation::gelu }
    ONNX "Greater" [1, 7, 9, 13] => { |n| elementwise::compare(n, OpKind::Greater) }
    ONNX "GreaterOrEqual" [12, 16] => { |n| elementwise::compare(n, OpKind::GreaterEqual) }
    ONNX "HardSigmoid" [1, 6, 22] => { |n| activation::with(n, OpKind::SigmoidHard, 0.2, Some(0.5)) }
    ONNX "HardSwish" [14, 22] => { activation::hard_swish }
    ONNX "IsInf" [10, 20] => { elementwise::is_inf }
    ONNX "IsNaN" [9, 13, 20] => { elementwise::is_nan }
    ONNX "LeakyRelu" [1, 6, 16] => { |n| activation::with(n, OpKind::LeakyRelu, 0.01, None) }
    ONNX "Less" [1, 7, 9, 13] => { |n| elementwise::compare(n, OpKind::Less) }
    ONNX "LessOrEqual" [12, 16] => { |n| elementwise::compare(n, OpKind::LessEqual) }
    ONNX "Log" [1, 6, 13] => { elementwise::log }
    ONNX "Max" [1, 6, 8, 12, 13] => { |n| elementwise::variadic(n, OpKind::Maximum) }
    ONNX "Mean" [1, 6, 8, 13] => { elementwise::mean }
    ONNX "Min" [1, 6, 8, 12, 13] => { |n| elementwise::variadic(n, OpKind::Minimum) }
    ONNX "Mish" [18, 22] => { activation::mish }
    ONNX "Mod" [10, 13, 28] => { elementwise::modulo }
    ONNX "Mul" [1, 6, 7, 13, 14] => { |n| elementwise::arithmetic(n, OpKind::Mul) }
    ONNX "Neg" [1, 6, 13] => { elementwise::neg }
    ONNX "Not" [1] => { elementwise::not }
    ONNX "Or" [1, 7] => { |n| elementwise::logical(n, OpKind::LogicalOr) }
    ONNX "PRelu" [1, 6, 7, 9, 16] => { activation::prelu }
    ONNX "Pow" [1, 7, 12, 13, 15] => { elementwise::pow }
    ONNX "Reciprocal" [1, 6, 13] => { elementwise::reciprocal }
    ONNX "Relu" [1, 6, 13, 14] => { activation::relu }
    ONNX "Round" [11, 22] => { |n| elementwise::function(n, OpKind::Round) }
    ONNX "Selu" [1, 6, 22] => { activation::selu }
    ONNX "Shrink" [9] => { activation::shrink }
    ONNX "Sigmoid" [1, 6, 13] => { |n| elementwise::function(n, OpKind::Sigmoid) }
    ONNX "Sign" [9, 13] => { |n| elementwise::function(n, OpKind::Sign) }
    ONNX "Sin" [7, 22] => { |n| elementwise::function(n, OpKind::Sin) }
    ONNX "Sinh" [9, 22] => { |n| elementwise::function(n, OpKind::Sinh) }
    ONNX "Softplus" [1, 22] => { |n| elementwise::function(n, OpKind::Softplus) }
    ONNX "Softsign" [1, 22] => { |n| elementwise::function(n, OpKind::Softsign) }
    ONNX "Sqrt" [1, 6, 13] => { |n| elementwise::function(n, OpKind::Sqrt) }
    ONNX "Sub" [1, 6, 7, 13, 14] => { |n| elementwise::arithmetic(n, OpKind::Sub) }
    ONNX "Sum" [1, 6, 8, 13] => { |n| elementwise::variadic(n, OpKind::Add) }
    ONNX "SwiGLU" [28] => { activation::swiglu }
    ONNX "Swish" [24] => { activation::swish }
    ONNX "Tan" [7, 22] => { |n| elementwise::function(n, OpKind::Tan) }
    ONNX "Tanh" [1, 6, 13] => { |n| elementwise::function(n, OpKind::Tanh) }
    ONNX "ThresholdedRelu" [10, 22] => { activation::thresholded_relu }
    ONNX "Where" [9, 16] => { elementwise::where_ }
    ONNX "Xor" [1, 7] => { |n| elementwise::logical(n, OpKind::LogicalXor) }
    ONNX "Dropout" [1, 6, 7, 10, 12, 13, 22] => { activation::dropout }
    // shapes (shape.rs)
    ONNX "Constant" [1, 9, 11, 12, 13, 19, 21, 23, 24, 25] => { shape::constant }
    ONNX "ConstantOfShape" [9, 20, 21, 23, 24, 25] => { shape::constant_of_shape }
    ONNX "Identity" [1, 13, 14, 16, 19, 21, 23, 24, 25] => { shape::identity }
    ONNX "Shape" [1, 13, 15, 19, 21, 23, 24, 25] => { shape::shape }
    ONNX "Size" [1, 13, 19, 21, 23, 24, 25] => { shape::size }
    ONNX "Reshape" [1, 5, 13, 14, 19, 21, 23, 24, 25] => { shape::reshape }
    ONNX "Flatten" [1, 9, 11, 13, 21, 23, 24, 25] => { shape::flatten }
    ONNX "Squeeze" [1, 11, 13, 21, 23, 24, 25] => { layout::squeeze_any }
    ONNX "Unsqueeze" [1, 11, 13, 21, 23, 24, 25] => { layout::unsqueeze_any }
    ONNX "Transpose" [1, 13, 21, 23, 24, 25] => { shape::transpose }
    ONNX "Concat" [1, 4, 11, 13] => { slice::concat }
    ONNX "Split" [1, 2, 11, 13, 18] => { slice::split }
    ONNX "Slice" [1, 10, 11, 13] => { layout::slice_any }
    ONNX "Expand" [8, 13] => { shape::expand }
    ONNX "Tile" [1, 6, 13] => { shape::tile }
    ONNX "Range" [11, 27] => { shape::range }
    ONNX "EyeLike" [9, 22] => { shape::eye_like }
    ONNX "Trilu" [14] => { shape::trilu }
    ONNX "Pad" [1, 2, 11, 13, 18, 19, 21, 23, 24, 25] => { pad::pad }
    ONNX "CenterCropPad" [18] => { layout::center_crop_pad_any }
    ONNX "DepthToSpace" [1, 11, 13, 28] => { shape::depth_to_space }
    ONNX "SpaceToDepth" [1, 13, 28] => { layout::space_to_depth }
    ONNX "Col2Im" [18] => { conv::col2im }
    ONNX "ReverseSequence" [10, 28] => { slice::reverse_sequence }
    // matrices (linear.rs)
    ONNX "MatMul" [1, 9, 13] => { linear::matmul }
    ONNX "Gemm" [1, 6, 7, 9, 11, 13] => { linear::gemm }
    ONNX "Einsum" [12, 28] => { matrix::einsum }
    ONNX "Det" [11, 22] => { matrix::det }
    // convolutions (conv.rs)
    ONNX "Conv" [1, 11, 22] => { conv::conv }
    ONNX "ConvTranspose" [1, 11, 22] => { conv::conv_transpose }
    ONNX "DeformConv" [19, 22] => { conv::deform_conv }
    ONNX "CausalConvWithState" [27] => { conv::causal_conv_with_state }
    // pools (pool.rs)
    ONNX "AveragePool" [1, 7, 10, 11, 19, 22] => { pool::average_pool }
    ONNX "MaxPool" [1, 8, 10, 11, 12, 22] => { pool::max_pool }
    ONNX "LpPool" [1, 2, 11, 18, 22] => { pool::lp_pool }
    ONNX "GlobalAveragePool" [1, 22] => { pool::global }
    ONNX "GlobalLpPool" [1, 2, 22] => { pool::global }
    ONNX "GlobalMaxPool" [1, 22] => { pool::global }
    ONNX "MaxUnpool" [9, 11, 22] => { pool::max_unpool }
    ONNX "MaxRoiPool" [1, 22] => { sample::max_roi_pool }
    ONNX "RoiAlign" [10, 16, 22] => { sample::roi_align }
    // normalization (norm.rs)
    ONNX "BatchNormalization" [1, 6, 7, 9, 14, 15] => { norm::batch }
    ONNX "InstanceNormalization" [1, 6, 22] => { norm::instance }
    ONNX "LayerNormalization" [17] => { norm::layer }
    ONNX "GroupNormalization" [18, 21] => { norm::group }
    ONNX "RMSNormalization" [23] => { norm::rms }
    ONNX "LRN" [1, 13] => { norm::lrn }
    ONNX "LpNormalization" [1, 22] => { norm::lp }
    ONNX "MeanVarianceNormalization" [9, 13] => { norm::mean_variance }
    ONNX "Softmax" [1, 11, 13] => { |n| activation::softmax(n, Soft::Max) }
    ONNX "LogSoftmax" [1, 11, 13] => { |n| activation::softmax(n, Soft::LogMax) }
    ONNX "Hardmax" [1, 11, 13] => { |n| activation::softmax(n, Soft::HardMax) }
    // reductions (reduce.rs)
    ONNX "ReduceL1" [1, 11, 13, 18] => { |n| reduce::reduce(n, Reduce::L1) }
    ONNX "ReduceL2" [1, 11, 13, 18] => { |n| reduce::reduce(n, Reduce::L2) }
    ONNX "ReduceLogSum" [1, 11, 13, 18, 28] => { |n| reduce::reduce(n, Reduce::LogSum) }
    ONNX "ReduceLogSumExp" [1, 11, 13, 18, 28] => { |n| reduce::reduce(n, Reduce::LogSumExp) }
    ONNX "ReduceMax" [1, 11, 12, 13, 18, 20] => { |n| reduce::reduce(n, Reduce::Max) }
    ONNX "ReduceMean" [1, 11, 13, 18] => { |n| reduce::reduce(n, Reduce::Mean) }
    ONNX "ReduceMin" [1, 11, 12, 13, 18, 20] => { |n| reduce::reduce(n, Reduce::Min) }
    ONNX "ReduceProd" [1, 11, 13, 18] => { |n| reduce::reduce(n, Reduce::Prod) }
    ONNX "ReduceSum" [1, 11, 13] => { |n| reduce::reduce(n, Reduce::Sum) }
    ONNX "ReduceSumSquare" [1, 11, 13, 18] => { |n| reduce::reduce(n, Reduce::SumSquare) }
    ONNX "ArgMax" [1, 11, 12, 13] => { |n| reduce::arg(n, OpKind::ReduceArgmax) }
    ONNX "ArgMin" [1, 11, 12, 13] => { |n| reduce::arg(n, OpKind::ReduceArgmin) }
    ONNX "CumSum" [11, 14] => { |n| reduce::cumulative(n, false) }
    ONNX "CumProd" [26] => { |n| reduce::cumulative(n, true) }
    // selecting, gathering and scattering (select.rs)
    ONNX "Compress" [9, 11, 28] => { gather::compress }
    ONNX "Gather" [1, 11, 13] => { slice::gather }
    ONNX "GatherElements" [11, 13] => { gather::gather_elements }
    ONNX "GatherND" [11, 12, 13] => { gather::gather_nd }
    ONNX "NonMaxSuppression" [10, 11] => { select::non_max_suppression }
    ONNX "NonZero" [9, 13] => { select::non_zero }
    ONNX "OneHot" [9, 11, 28] => { gather::one_hot }
    ONNX "Scatter" [9, 11] => { gather::scatter_elements }
    ONNX "ScatterElements" [11, 13, 16, 18] => { gather::scatter_elements }
    ONNX "ScatterND" [11, 13, 16, 18] => { gather::scatter_nd }
    ONNX "TensorScatter" [24] => { gather::tensor_scatter }
    ONNX "TopK" [1, 10, 11, 24] => { select::top_k }
    ONNX "Unique" [11, 28] => { select::unique }
    // images (resize.rs)
    ONNX "Resize" [10, 11, 13, 18, 19] => { resize::resize }
    ONNX "Upsample" [1, 7, 9, 10] => { resize::upsample }
    ONNX "GridSample" [16, 20, 22] => { sample::grid_sample }
    ONNX "AffineGrid" [20] => { sample::affine_grid }
    ONNX "ImageDecoder" [20] => { refuse "decodes image files", "decode images before the model: Core ML takes images and arrays" }
    // recurrent networks (recurrent.rs)
    ONNX "GRU" [1, 3, 7, 14, 22] => { recurrent::gru }
    ONNX "LSTM" [1, 7, 14, 22] => { recurrent::lstm }
    ONNX "RNN" [1, 7, 14, 22] => { recurrent::rnn }
    ONNX "LinearAttention" [27] => { attention::linear }
    // attention (attention.rs)
    ONNX "Attention" [23, 24, 25] => { attention::attention }
    ONNX "RotaryEmbedding" [23] => { attention::rotary }
    // quantization (quantize.rs)
    ONNX "QuantizeLinear" [10, 13, 19, 21, 23, 24, 25, 28] => { quantize::quantize }
    ONNX "DequantizeLinear" [10, 13, 19, 21, 23, 24, 25, 28] => { quantize::dequantize }
    ONNX "DynamicQuantizeLinear" [11] => { quantize::dynamic_quantize }
    ONNX "QLinearConv" [10] => { qlinear::conv }
    ONNX "QLinearMatMul" [10, 21] => { qlinear::matmul }
    ONNX "ConvInteger" [10] => { quantize::conv_integer }
    ONNX "MatMulInteger" [10] => { quantize::matmul_integer }
    // control flow (control.rs)
    ONNX "If" [1, 11, 13, 16, 19, 21, 23, 24, 25] => { control::branch }
    ONNX "Loop" [1, 11, 13, 16, 19, 21, 23, 24, 25] => { loops::repeat }
    ONNX "Scan" [8, 9, 11, 16, 19, 21, 23, 24, 25] => { loops::scan }
    // sequences and optionals (sequence.rs)
    ONNX "ConcatFromSequence" [11] => { sequence::concat }
    ONNX "Optional" [15, 28] => { sequence::optional }
    ONNX "OptionalGetElement" [15, 18, 28] => { sequence::get_element }
    ONNX "OptionalHasElement" [15, 18, 28] => { sequence::has_element }
    ONNX "SequenceAt" [11] => { sequence::at }
    ONNX "SequenceConstruct" [11] => { sequence::construct }
    ONNX "SequenceEmpty" [11] => { sequence::empty }
    ONNX "SequenceErase" [11] => { sequence::erase }
    ONNX "SequenceInsert" [11] => { sequence::insert }
    ONNX "SequenceLength" [11] => { sequence::length }
    ONNX "SequenceMap" [17] => { sequence::map }
    ONNX "SplitToSequence" [11, 24] => { sequence::split }
    // random numbers (random.rs)
    ONNX "Bernoulli" [15, 22] => { random::bernoulli }
    ONNX "Multinomial" [7, 22] => { random::multinomial }
    ONNX "RandomNormal" [1, 22] => { |n| random::normal(n, false) }
    ONNX "RandomNormalLike" [1, 22] => { |n| random::normal(n, true) }
    ONNX "RandomUniform" [1, 22] => { |n| random::uniform(n, false) }
    ONNX "RandomUniformLike" [1, 22] => { |n| random::uniform(n, true) }
    // signals (signal.rs)
    ONNX "BlackmanWindow" [17] => { |n| signal::window(n, [0.42, 0.5, 0.08]) }
    ONNX "DFT" [17, 20] => { signal::dft }
    ONNX "HammingWindow" [17] => { |n| signal::window(n, [25.0 / 46.0, 21.0 / 46.0, 0.0]) }
    ONNX "HannWindow" [17] => { |n| signal::window(n, [0.5, 0.5, 0.0]) }
    ONNX "MelWeightMatrix" [17] => { signal::mel_weights }
    ONNX "STFT" [17] => { signal::stft }
    // losses (loss.rs)
    ONNX "NegativeLogLikelihoodLoss" [12, 13, 22] => { loss::negative_log_likelihood }
    ONNX "SoftmaxCrossEntropyLoss" [12, 13] => { loss::softmax_cross_entropy }
    // text (text.rs)
    ONNX "RegexFullMatch" [20] => { refuse "computes with strings", STRINGS }
    ONNX "StringConcat" [20] => { refuse "computes with strings", STRINGS }
    ONNX "StringNormalizer" [10] => { refuse "computes with strings", STRINGS }
    ONNX "StringSplit" [20] => { refuse "computes with strings", STRINGS }
    ONNX "TfIdfVectorizer" [9] => { text::tf_idf }
    // ai.onnx.ml (ml.rs)
    ML "ArrayFeatureExtractor" [1] => { ml::array_feature_extractor }
    ML "Binarizer" [1] => { ml::binarizer }
    ML "CastMap" [1] => { refuse "computes with dictionaries", MAPS }
    ML "CategoryMapper" [1] => { refuse "maps between strings and numbers", cast::STRINGS }
    ML "DictVectorizer" [1] => { refuse "computes with dictionaries", MAPS }
    ML "FeatureVectorizer" [1] => { ml::feature_vectorizer }
    ML "Imputer" [1] => { ml::imputer }
    ML "LabelEncoder" [1, 2, 4] => { ml::label_encoder }
    ML "LinearClassifier" [1] => { ml::linear_classifier }
    ML "LinearRegressor" [1] => { ml::linear_regressor }
    ML "Normalizer" [1] => { ml::normalizer }
    ML "OneHotEncoder" [1] => { ml::one_hot_encoder }
    ML "SVMClassifier" [1] => { ml::svm_classifier }
    ML "SVMRegressor" [1] => { ml::svm_regressor }
    ML "Scaler" [1] => { ml::scaler }
    ML "TreeEnsemble" [5] => { ml::tree_ensemble }
    ML "TreeEnsembleClassifier" [1, 3, 5] => { ml::tree_classifier }
    ML "TreeEnsembleRegressor" [1, 3, 5] => { ml::tree_regressor }
    ML "ZipMap" [1] => { ml::zip_map }
    // previews
    PREVIEW "FlexAttention" [1] => { attention::flex }
    // training
    TRAINING "Adagrad" [1] => { loss::adagrad }
    TRAINING "Adam" [1] => { loss::adam }
    TRAINING "Gradient" [1] => { refuse "differentiates a graph", "export the model for inference: training stays in the framework" }
    TRAINING "Momentum" [1] => { loss::momentum }
    // ONNX Runtime (microsoft.rs)
    MICROSOFT "Attention" [1] => { attention::runtime::attention }
    MICROSOFT "MultiHeadAttention" [1] => { |n| attention::runtime::multi_head(n, &attention::runtime::MULTI_HEAD) }
    MICROSOFT "GroupQueryAttention" [1] => { attention::runtime::group_query }
    MICROSOFT "DecoderMaskedMultiHeadAttention" [1] => { |n| attention::runtime::multi_head(n, &attention::runtime::DECODER) }
    MICROSOFT "PackedAttention" [1] => { refuse "computes with sequences of different lengths packed into one", "export the model with padding" }
    MICROSOFT "QAttention" [1] => { attention::runtime::quantized }
    MICROSOFT "EmbedLayerNormalization" [1] => { |n| fused::embed_layer(n, &fused::EMBED) }
    MICROSOFT "QEmbedLayerNormalization" [1] => { |n| fused::embed_layer(n, &fused::QUANTIZED_EMBED) }
    MICROSOFT "SkipLayerNormalization" [1] => { |n| fused::skip_layer(n, false) }
    MICROSOFT "SkipSimplifiedLayerNormalization" [1] => { |n| fused::skip_layer(n, true) }
    MICROSOFT "BiasGelu" [1] => { |n| fused::gelu(n, "EXACT") }
    MICROSOFT "FastGelu" [1] => { |n| fused::gelu(n, "TANH_APPROXIMATION") }
    MICROSOFT "Gelu" [1] => { |n| fused::gelu(n, "EXACT") }
    MICROSOFT "QuickGelu" [1] => { fused::quick_gelu }
    MICROSOFT "BiasSplitGelu" [1] => { fused::bias_split_gelu }
    MICROSOFT "BiasAdd" [1] => { fused::bias_add }
    MICROSOFT "RotaryEmbedding" [1] => { attention::runtime::rotary }
    MICROSOFT "GemmaRotaryEmbedding" [1] => { attention::runtime::gemma_rotary }
    MICROSOFT "FusedConv" [1] => { fused::conv }
    MICROSOFT "FusedGemm" [1] => { fused::gemm }
    MICROSOFT "FusedMatMul" [1] => { fused::matmul }
    MICROSOFT "TransposeMatMul" [1] => { fused::matmul }
    MICROSOFT "GroupNorm" [1] => { |n| fused::group(n, false) }
    MICROSOFT "SkipGroupNorm" [1] => { |n| fused::group(n, true) }
    MICROSOFT "NhwcConv" [1] => { fused::nhwc_conv }
    MICROSOFT "NhwcMaxPool" [1] => { pool::nhwc_max_pool }
    MICROSOFT "MatMulNBits" [1] => { packed::matmul_n_bits }
    MICROSOFT "GatherBlockQuantized" [1] => { packed::gather_blocks }
    MICROSOFT "MatMulBnb4" [1] => { packed::matmul_bnb4 }
    MICROSOFT "QMoE" [1] => { contrib::quantized_mixture }
    MICROSOFT "MoE" [1] => { contrib::mixture }
    MICROSOFT "DequantizeLinear" [1] => { quantize::dequantize }
    MICROSOFT "QuantizeLinear" [1] => { quantize::quantize }
    MICROSOFT "DynamicQuantizeLSTM" [1] => { recurrent::dynamic_quantize_lstm }
    MICROSOFT "DynamicQuantizeMatMul" [1] => { qlinear::dynamic_matmul }
    MICROSOFT "MatMulIntegerToFloat" [1] => { qlinear::matmul_to_float }
    MICROSOFT "QGemm" [1] => { qlinear::gemm }
    MICROSOFT "QLinearAdd" [1] => { |n| qlinear::arithmetic(n, OpKind::Add) }
    MICROSOFT "QLinearMul" [1] => { |n| qlinear::arithmetic(n, OpKind::Mul) }
    MICROSOFT "QLinearAveragePool" [1] => { qlinear::average_pool }
    MICROSOFT "QLinearGlobalAveragePool" [1] => { qlinear::global_average_pool }
    MICROSOFT "QLinearConcat" [1] => { qlinear::concat }
    MICROSOFT "QLinearLeakyRelu" [1] => { qlinear::leaky_relu }
    MICROSOFT "QLinearSigmoid" [1] => { qlinear::sigmoid }
    MICROSOFT "QLinearSoftmax" [1] => { qlinear::softmax }
    MICROSOFT "QLinearConv" [1] => { qlinear::conv }
    MICROSOFT "QLinearReduceMean" [1] => { qlinear::reduce_mean }
    MICROSOFT "NhwcFusedConv" [1] => { fused::nhwc_conv }
    MICROSOFT "QLinearWhere" [1] => { qlinear::where_ }
    MICROSOFT "Inverse" [1] => { contrib::inverse }
    MICROSOFT "CDist" [1] => { contrib::cdist }
    MICROSOFT "GridSample" [1] => { sample::grid_sample }
    MICROSOFT "CropAndResize" [1] => { contrib::crop_and_resize }
    MICROSOFT "Rfft" [1] => { refuse "is code of ONNX Runtime for GPUs, without a reference", "export the model for opset 17 or later, with DFT" }
    MICROSOFT "Irfft" [1] => { refuse "is code of ONNX Runtime for GPUs, without a reference", "export the model for opset 17 or later, with DFT" }
    MICROSOFT "Trilu" [1] => { shape::trilu }
    MICROSOFT "Unique" [1] => { fused::unique }
    MICROSOFT "Range" [1] => { shape::range }
    MICROSOFT "Pad" [1] => { |n| { n.opset = 18; pad::pad(n) } }
    MICROSOFT "GatherND" [1] => { gather::gather_nd }
    MICROSOFT "ExpandDims" [1] => { fused::expand_dims }
    MICROSOFT "BeamSearch" [1] => { refuse "generates text in a loop of its own", "export the decoder alone, and generate in the app" }
    MICROSOFT "GreedySearch" [1] => { refuse "generates text in a loop of its own", "export the decoder alone, and generate in the app" }
    MICROSOFT "Sampling" [1] => { refuse "generates text in a loop of its own", "export the decoder alone, and generate in the app" }
    MICROSOFT "Tokenizer" [1] => { refuse "computes with strings", STRINGS }
    MICROSOFT "WordConvEmbedding" [1] => { refuse LATER, LATER_HINT }
    // written by ONNX Runtime with the domain of ai.onnx, which has no such op
    ONNX "SimplifiedLayerNormalization" [1] => { norm::simplified_layer }
}

impl Entry {
    /// Why the op is refused and what the user can do; `None` if it is supported.
    pub fn refusal(&self) -> Option<(&'static str, &'static str)> {
        match self.how {
            How::Lower(_) => None,
            How::Refuse { reason, remedy } => Some((reason, remedy)),
        }
    }
}

/// The domain by the name that the list uses: `ai.onnx` is another name of the empty one.
pub(super) fn domain(name: &str) -> &str {
    if name == "ai.onnx" { ONNX } else { name }
}

/// The op of a domain with this name.
pub(super) fn find(domain: &str, name: &str) -> Option<&'static Entry> {
    OPS.iter().find(|e| e.name == name && e.domain == domain)
}

/// The newest version of a domain that is known; `None` for an unknown domain.
pub(super) fn newest(domain: &str) -> Option<u32> {
    NEWEST.iter().find(|(name, _)| *name == domain).map(|(_, newest)| *newest)
}

/// The names of a domain's ops.
pub(super) fn names(domain: &str) -> impl Iterator<Item = &'static str> {
    OPS.iter().filter(move |e| e.domain == domain).map(|e| e.name)
}

/// Calls a lowering function; gives closures their argument types.
fn call<R: Results>(
    node: &mut Node<'_, '_>,
    lower: impl FnOnce(&mut Node<'_, '_>) -> Result<R>,
) -> Result<Vec<Item>> {
    lower(node)?.items(node)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_list_is_in_order() {
        let mut seen = std::collections::HashSet::new();
        for entry in OPS {
            assert!(seen.insert((entry.domain, entry.name)), "{} is listed twice", entry.name);
            assert!(entry.versions.is_sorted(), "{}", entry.name);
            let newest = newest(entry.domain).unwrap();
            assert!(entry.versions.iter().all(|&v| v <= newest), "{}", entry.name);
        }
    }
}
