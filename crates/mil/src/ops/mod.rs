//! The table of ops. Each op is declared once, in its own file under its family.
//!
//! To add an op, write `FAMILY/OP.rs` with the [`op!`](crate::op) macro and add one line to
//! [`for_each_op!`](crate::for_each_op). All other code that must know every op expands that list, in this crate and in
//! others, and does not compile until it handles the op.

/// For type inference: returns an [`InferError`] with this text if the condition does not hold.
macro_rules! require {
    ($condition:expr, $($text:tt)+) => {
        if !$condition {
            return Err($crate::ops::InferError(format!($($text)+)));
        }
    };
}

/// Formats whole numbers, some of them unknown: `[1, ?, 24]`.
pub(crate) fn list(numbers: &[Option<i64>]) -> String {
    let texts: Vec<String> = numbers.iter().map(|n| n.map_or("?".into(), |n| n.to_string())).collect();
    format!("[{}]", texts.join(", "))
}

pub mod declare;
mod params;
mod view;

pub use declare::{Default, Effect, Kind, OpDef, Param, Var, Version};
#[doc(hidden)]
pub use declare::{is_constant, is_variadic};
pub use params::{Axes, Axis, Bound, Number, Operand};
#[doc(hidden)]
pub use params::{Place, Read};
pub(crate) use view::MAX_PARTIAL;
pub use view::{ArgView, InferError, Inferred, Known, OpView, dim};

/// Calls a macro with the one list of ops: `Type "mil_name" family::module,` for each.
#[macro_export]
macro_rules! for_each_op {
    ($callback:ident) => {
        $callback! {
            // constant
            Const "const" constant::constant,
            // activation
            ClampedRelu "clamped_relu" activation::clamped_relu,
            Elu "elu" activation::elu,
            Gelu "gelu" activation::gelu,
            LeakyRelu "leaky_relu" activation::leaky_relu,
            LinearActivation "linear_activation" activation::linear_activation,
            Prelu "prelu" activation::prelu,
            Relu "relu" activation::relu,
            Relu6 "relu6" activation::relu6,
            ScaledTanh "scaled_tanh" activation::scaled_tanh,
            Sigmoid "sigmoid" activation::sigmoid,
            SigmoidHard "sigmoid_hard" activation::sigmoid_hard,
            Silu "silu" activation::silu,
            Softmax "softmax" activation::softmax,
            Softplus "softplus" activation::softplus,
            SoftplusParametric "softplus_parametric" activation::softplus_parametric,
            Softsign "softsign" activation::softsign,
            ThresholdedRelu "thresholded_relu" activation::thresholded_relu,
            // classify
            Classify "classify" classify::classify,
            // constexpr
            ConstexprAffineDequantize "constexpr_affine_dequantize" constexpr::constexpr_affine_dequantize,
            ConstexprBlockwiseShiftScale "constexpr_blockwise_shift_scale" constexpr::constexpr_blockwise_shift_scale,
            ConstexprCast "constexpr_cast" constexpr::constexpr_cast,
            ConstexprLutToDense "constexpr_lut_to_dense" constexpr::constexpr_lut_to_dense,
            ConstexprLutToSparse "constexpr_lut_to_sparse" constexpr::constexpr_lut_to_sparse,
            ConstexprSparseBlockwiseShiftScale "constexpr_sparse_blockwise_shift_scale" constexpr::constexpr_sparse_blockwise_shift_scale,
            ConstexprSparseToDense "constexpr_sparse_to_dense" constexpr::constexpr_sparse_to_dense,
            // control_flow
            Cond "cond" control_flow::cond,
            ListGather "list_gather" control_flow::list_gather,
            ListLength "list_length" control_flow::list_length,
            ListRead "list_read" control_flow::list_read,
            ListScatter "list_scatter" control_flow::list_scatter,
            ListWrite "list_write" control_flow::list_write,
            MakeList "make_list" control_flow::make_list,
            Select "select" control_flow::select,
            WhileLoop "while_loop" control_flow::while_loop,
            // conv
            Conv "conv" conv::conv,
            ConvQuantized "conv_quantized" conv::conv_quantized,
            ConvTranspose "conv_transpose" conv::conv_transpose,
            // elementwise_binary
            Add "add" elementwise_binary::add,
            Equal "equal" elementwise_binary::equal,
            FloorDiv "floor_div" elementwise_binary::floor_div,
            Greater "greater" elementwise_binary::greater,
            GreaterEqual "greater_equal" elementwise_binary::greater_equal,
            Less "less" elementwise_binary::less,
            LessEqual "less_equal" elementwise_binary::less_equal,
            LogicalAnd "logical_and" elementwise_binary::logical_and,
            LogicalOr "logical_or" elementwise_binary::logical_or,
            LogicalXor "logical_xor" elementwise_binary::logical_xor,
            Maximum "maximum" elementwise_binary::maximum,
            Minimum "minimum" elementwise_binary::minimum,
            Mod "mod" elementwise_binary::modulo,
            Mul "mul" elementwise_binary::mul,
            NotEqual "not_equal" elementwise_binary::not_equal,
            Pow "pow" elementwise_binary::pow,
            RealDiv "real_div" elementwise_binary::real_div,
            Sub "sub" elementwise_binary::sub,
            // elementwise_unary
            Abs "abs" elementwise_unary::abs,
            Acos "acos" elementwise_unary::acos,
            Asin "asin" elementwise_unary::asin,
            Atan "atan" elementwise_unary::atan,
            Atanh "atanh" elementwise_unary::atanh,
            Cast "cast" elementwise_unary::cast,
            Ceil "ceil" elementwise_unary::ceil,
            Clip "clip" elementwise_unary::clip,
            Cos "cos" elementwise_unary::cos,
            Cosh "cosh" elementwise_unary::cosh,
            Erf "erf" elementwise_unary::erf,
            Exp "exp" elementwise_unary::exp,
            Exp2 "exp2" elementwise_unary::exp2,
            Floor "floor" elementwise_unary::floor,
            Inverse "inverse" elementwise_unary::inverse,
            Log "log" elementwise_unary::log,
            LogicalNot "logical_not" elementwise_unary::logical_not,
            Round "round" elementwise_unary::round,
            Rsqrt "rsqrt" elementwise_unary::rsqrt,
            Sign "sign" elementwise_unary::sign,
            Sin "sin" elementwise_unary::sin,
            Sinh "sinh" elementwise_unary::sinh,
            Sqrt "sqrt" elementwise_unary::sqrt,
            Square "square" elementwise_unary::square,
            Tan "tan" elementwise_unary::tan,
            Tanh "tanh" elementwise_unary::tanh,
            Threshold "threshold" elementwise_unary::threshold,
            // image_resizing
            Affine "affine" image_resizing::affine,
            Crop "crop" image_resizing::crop,
            CropResize "crop_resize" image_resizing::crop_resize,
            Resample "resample" image_resizing::resample,
            Resize "resize" image_resizing::resize,
            ResizeBilinear "resize_bilinear" image_resizing::resize_bilinear,
            ResizeNearestNeighbor "resize_nearest_neighbor" image_resizing::resize_nearest_neighbor,
            UpsampleBilinear "upsample_bilinear" image_resizing::upsample_bilinear,
            UpsampleNearestNeighbor "upsample_nearest_neighbor" image_resizing::upsample_nearest_neighbor,
            // linear
            Einsum "einsum" linear::einsum,
            Linear "linear" linear::linear,
            Matmul "matmul" linear::matmul,
            // normalization
            BatchNorm "batch_norm" normalization::batch_norm,
            InstanceNorm "instance_norm" normalization::instance_norm,
            L2Norm "l2_norm" normalization::l2_norm,
            LayerNorm "layer_norm" normalization::layer_norm,
            LocalResponseNorm "local_response_norm" normalization::local_response_norm,
            // pool
            AvgPool "avg_pool" pool::avg_pool,
            L2Pool "l2_pool" pool::l2_pool,
            MaxPool "max_pool" pool::max_pool,
            // quantization
            Dequantize "dequantize" quantization::dequantize,
            Quantize "quantize" quantization::quantize,
            // random
            RandomBernoulli "random_bernoulli" random::random_bernoulli,
            RandomCategorical "random_categorical" random::random_categorical,
            RandomNormal "random_normal" random::random_normal,
            RandomUniform "random_uniform" random::random_uniform,
            // recurrent
            Gru "gru" recurrent::gru,
            Lstm "lstm" recurrent::lstm,
            Rnn "rnn" recurrent::rnn,
            // reduction
            ReduceArgmax "reduce_argmax" reduction::reduce_argmax,
            ReduceArgmin "reduce_argmin" reduction::reduce_argmin,
            ReduceL1Norm "reduce_l1_norm" reduction::reduce_l1_norm,
            ReduceL2Norm "reduce_l2_norm" reduction::reduce_l2_norm,
            ReduceLogSum "reduce_log_sum" reduction::reduce_log_sum,
            ReduceLogSumExp "reduce_log_sum_exp" reduction::reduce_log_sum_exp,
            ReduceMax "reduce_max" reduction::reduce_max,
            ReduceMean "reduce_mean" reduction::reduce_mean,
            ReduceMin "reduce_min" reduction::reduce_min,
            ReduceProd "reduce_prod" reduction::reduce_prod,
            ReduceSum "reduce_sum" reduction::reduce_sum,
            ReduceSumSquare "reduce_sum_square" reduction::reduce_sum_square,
            // scatter_gather
            Gather "gather" scatter_gather::gather,
            GatherAlongAxis "gather_along_axis" scatter_gather::gather_along_axis,
            GatherNd "gather_nd" scatter_gather::gather_nd,
            Scatter "scatter" scatter_gather::scatter,
            ScatterAlongAxis "scatter_along_axis" scatter_gather::scatter_along_axis,
            ScatterNd "scatter_nd" scatter_gather::scatter_nd,
            // state
            ReadState "read_state" state::read_state,
            WriteState "write_state" state::write_state,
            // tensor
            Argsort "argsort" tensor::argsort,
            BandPart "band_part" tensor::band_part,
            BatchToSpace "batch_to_space" tensor::batch_to_space,
            Concat "concat" tensor::concat,
            Cumsum "cumsum" tensor::cumsum,
            DepthToSpace "depth_to_space" tensor::depth_to_space,
            ExpandDims "expand_dims" tensor::expand_dims,
            Fill "fill" tensor::fill,
            FillLike "fill_like" tensor::fill_like,
            Flatten2d "flatten2d" tensor::flatten2d,
            Identity "identity" tensor::identity,
            NonMaximumSuppression "non_maximum_suppression" tensor::non_maximum_suppression,
            NonZero "non_zero" tensor::non_zero,
            OneHot "one_hot" tensor::one_hot,
            Pad "pad" tensor::pad,
            PixelShuffle "pixel_shuffle" tensor::pixel_shuffle,
            PixelUnshuffle "pixel_unshuffle" tensor::pixel_unshuffle,
            Range1d "range_1d" tensor::range_1d,
            Reshape "reshape" tensor::reshape,
            ReshapeLike "reshape_like" tensor::reshape_like,
            Reverse "reverse" tensor::reverse,
            ReverseSequence "reverse_sequence" tensor::reverse_sequence,
            Shape "shape" tensor::shape,
            SliceByIndex "slice_by_index" tensor::slice_by_index,
            SliceBySize "slice_by_size" tensor::slice_by_size,
            SliceUpdate "slice_update" tensor::slice_update,
            SlidingWindows "sliding_windows" tensor::sliding_windows,
            SpaceToBatch "space_to_batch" tensor::space_to_batch,
            SpaceToDepth "space_to_depth" tensor::space_to_depth,
            Split "split" tensor::split,
            Squeeze "squeeze" tensor::squeeze,
            Stack "stack" tensor::stack,
            Tile "tile" tensor::tile,
            Topk "topk" tensor::topk,
            Transpose "transpose" tensor::transpose,
            // transformer
            ScaledDotProductAttention "scaled_dot_product_attention" transformer::scaled_dot_product_attention,
        }
    };
}

macro_rules! op_kinds {
    ($($variant:ident $name:literal $family:ident::$module:ident,)*) => {
        /// The kind of an op.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
        #[non_exhaustive]
        pub enum OpKind {
            $(#[doc = concat!("`", $name, "`")] $variant,)*
        }

        impl OpKind {
            /// Every operation, in the order of the table.
            pub const ALL: &[OpKind] = &[$(OpKind::$variant),*];

            /// The name in MIL.
            pub const fn name(self) -> &'static str {
                match self { $(OpKind::$variant => $name),* }
            }

            /// The family: the folder that the declaration is in.
            pub const fn family(self) -> Family {
                match self { $(OpKind::$variant => family::$family),* }
            }

            /// What the op computes, in Markdown.
            pub const fn doc(self) -> &'static str {
                match self { $(OpKind::$variant => <$family::$module::$variant as OpDef>::DOC),* }
            }

            /// The op's effect besides computing its outputs from its inputs.
            pub const fn effect(self) -> Effect {
                match self { $(OpKind::$variant => <$family::$module::$variant as OpDef>::EFFECT),* }
            }

            /// Every version, oldest first.
            pub const fn versions(self) -> &'static [Version] {
                match self { $(OpKind::$variant => <$family::$module::$variant as OpDef>::VERSIONS),* }
            }

            /// The op with this MIL name.
            pub fn from_name(name: &str) -> Option<OpKind> {
                match name { $($name => Some(OpKind::$variant),)* _ => None }
            }

            /// Infers the types of an op's outputs, and their known elements.
            ///
            /// # Errors
            /// The inputs do not fit each other; the text says how. The caller adds which op it was.
            pub fn infer(self, op: &OpView<'_>) -> Result<Vec<Inferred>, InferError> {
                match self { $(OpKind::$variant => {
                    <$family::$module::$variant as OpDef>::params(op)
                        .and_then(|p| <$family::$module::$variant as OpDef>::infer(&p))
                })* }
            }
        }

        /// The ops as types, for traits that each of them must implement.
        pub mod defs {
            $(pub use super::$family::$module::$variant;)*
        }
    };
}

macro_rules! families {
    ($($module:ident $variant:ident,)*) => {
        $(pub mod $module;)*

        /// A family of ops: the folder that their declarations are in.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
        #[non_exhaustive]
        pub enum Family {
            $(#[doc = concat!("`", stringify!($module), "`")] $variant,)*
        }

        impl Family {
            /// Its name: that of the folder.
            pub const fn name(self) -> &'static str {
                match self { $(Family::$variant => stringify!($module)),* }
            }
        }

        /// The families by the names in the table of ops.
        mod family {
            $(
                #[expect(non_upper_case_globals, reason = "named like the folder, as in the table of ops")]
                pub(super) const $module: super::Family = super::Family::$variant;
            )*
        }
    };
}

families! {
    activation Activation,
    classify Classify,
    constant Constant,
    constexpr Constexpr,
    control_flow ControlFlow,
    conv Conv,
    elementwise_binary ElementwiseBinary,
    elementwise_unary ElementwiseUnary,
    image_resizing ImageResizing,
    linear Linear,
    normalization Normalization,
    pool Pool,
    quantization Quantization,
    random Random,
    recurrent Recurrent,
    reduction Reduction,
    scatter_gather ScatterGather,
    state State,
    tensor Tensor,
    transformer Transformer,
}

for_each_op!(op_kinds);

impl OpKind {
    /// Whether it expands a compressed constant when a model is loaded.
    pub const fn is_constexpr(self) -> bool {
        matches!(self.family(), Family::Constexpr)
    }

    /// The version that a function of this opset uses: the newest that is not newer than the opset.
    pub fn version(self, opset: crate::Opset) -> Option<&'static Version> {
        self.versions().iter().rev().find(|v| v.opset <= opset)
    }
}
