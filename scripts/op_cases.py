#!/usr/bin/env python3
"""Write the numeric cases for single operations: crates/testkit/ops/FAMILY/OP/CASE-OPSET.mil.

    python scripts/op_cases.py [--out crates/testkit/ops] [--only OP] [--check]

Each case is a program of one operation as text, its inputs and the outputs to expect; the README beside the cases
describes the files. coremltools' builder checks the parameters and infers the output types; the expected values come
from oracle_ops.py, computed in float64, and wherever coremltools can evaluate the operation itself (value inference)
the two must agree. A case is written for the first opset that has the operation and for every later one that changes
it. `--check` writes nothing and fails where a file differs.
"""

import argparse
import sys
from pathlib import Path

import packages  # isort: skip  (first: it silences what follows)

import coremltools as ct
import numpy as np
from coremltools.converters.mil.mil import Builder as mb
from coremltools.converters.mil.mil import Function, Placeholder, types
from coremltools.converters.mil.mil.ops.registry import SSAOpRegistry

from mil_oracle import Arguments
from oracle_ops import OPERATIONS

OUT = Path(__file__).resolve().parent.parent / "crates" / "testkit" / "ops"
OPSETS = {"ios15": ct.target.iOS15, "ios16": ct.target.iOS16, "ios17": ct.target.iOS17, "ios18": ct.target.iOS18}
# Where coremltools' own evaluation is known to differ from what it documents and Core ML does.
NO_SECOND_OPINION = {"scatter_along_axis", "cumsum", "clamped_relu", "concat interleave", "matmul mixed", "matmul mixed_to_int"}
CASES = []


def case(family, op, name, tensors=None, since="ios15", only=None, atol=None, half=False, **parameters):
    """Register a case: `tensors` are run-time inputs by parameter name, `parameters` are constants."""
    CASES.append((family, op, name, tensors or {}, since, only, atol, half, parameters))


class Values:
    """Seeded random values, the same for a case whatever cases come before it."""

    def __init__(self, seed):
        self.random = np.random.default_rng(seed)

    def normal(self, *shape):
        return self.random.normal(size=shape).astype(np.float32).round(3)

    def uniform(self, low, high, *shape):
        return self.random.uniform(low, high, shape).astype(np.float32).round(3)

    def ints(self, low, high, *shape):
        return self.random.integers(low, high, shape).astype(np.int32)

    def bools(self, *shape):
        return self.random.random(shape) < 0.5

    def distinct(self, *shape):
        """Values no two of which are equal, so that orderings have one answer."""
        count = int(np.prod(shape))
        return ((self.random.permutation(count) - count // 2) / 4).astype(np.float32).reshape(shape)


def elementwise():
    v = Values(1)
    domains = {
        "abs": (-3, 3), "acos": (-1, 1), "asin": (-1, 1), "atan": (-3, 3), "atanh": (-0.95, 0.95), "ceil": (-3, 3),
        "cos": (-4, 4), "cosh": (-3, 3), "erf": (-3, 3), "exp": (-4, 3), "exp2": (-4, 4), "floor": (-3, 3),
        "round": (-3, 3), "sign": (-2, 2), "sin": (-4, 4), "sinh": (-3, 3), "sqrt": (0, 5), "square": (-3, 3),
        "tan": (-1.4, 1.4), "tanh": (-3, 3),
    }  # fmt: skip
    for op, (low, high) in domains.items():
        x = v.uniform(low, high, 2, 3, 4)
        x.flat[0], x.flat[1] = (low, high) if op not in ("atanh",) else (0, 0.5)
        case("elementwise_unary", op, "range", {"x": x})
        case("elementwise_unary", op, "half", {"x": x[0]}, half=True)
    halves = np.array([-2.5, -1.5, -0.5, 0.0, 0.5, 1.5, 2.5, 3.49], np.float32)
    case("elementwise_unary", "round", "halves_go_to_even", {"x": halves})
    for op, epsilon in (("inverse", 0.01), ("log", 0.02), ("rsqrt", 0.03)):
        x = v.uniform(0.2, 4, 3, 5)
        case("elementwise_unary", op, "default_epsilon", {"x": x})
        case("elementwise_unary", op, "epsilon", {"x": x}, epsilon=np.float32(epsilon))
    case("elementwise_unary", "threshold", "plain", {"x": v.normal(3, 5)}, alpha=np.float32(0.25))
    case("elementwise_unary", "clip", "plain", {"x": v.normal(3, 5)}, alpha=np.float32(-0.5), beta=np.float32(0.75))
    case("elementwise_unary", "logical_not", "plain", {"x": v.bools(2, 5)})
    values = np.array([-2.7, -1.0, -0.2, 0.0, 0.3, 1.0, 2.7, 100.6], np.float32)
    for kind in ("int32", "bool", "fp16", "fp32"):
        case("elementwise_unary", "cast", f"fp32_to_{kind}", {"x": values}, dtype=kind)
        case("elementwise_unary", "cast", f"int32_to_{kind}", {"x": np.array([-3, 0, 1, 250], np.int32)}, dtype=kind)
        case("elementwise_unary", "cast", f"bool_to_{kind}", {"x": np.array([True, False, True])}, dtype=kind)
    for kind in ("int8", "uint8", "int16", "uint16"):
        small = np.array([0, 1, 17, 100], np.float32)
        case("elementwise_unary", "cast", f"fp32_to_{kind}", {"x": small}, since="ios17", dtype=kind)

    for op in ("add", "sub", "mul", "maximum", "minimum", "real_div", "floor_div", "mod", "pow"):
        positive = op in ("real_div", "floor_div", "mod", "pow")
        for name, left, right in (
            ("same", (2, 3, 4), (2, 3, 4)), ("row", (2, 3, 4), (4,)), ("scalar", (2, 3, 4), ()),
            ("channel", (2, 3, 4), (3, 1)), ("outer", (3, 1), (1, 4)), ("left_row", (4,), (2, 3, 4)),
        ):  # fmt: skip
            x = v.uniform(0.2, 3, *left) if op == "pow" else v.normal(*left)
            y = v.uniform(0.4, 2, *right) if positive else v.normal(*right)
            if right == ():
                case("elementwise_binary", op, name, {"x": x}, y=np.float32(y))
            else:
                case("elementwise_binary", op, name, {"x": x, "y": y})
        if op != "pow":
            x, y = v.ints(-9, 10, 3, 4), v.ints(1, 5, 3, 4)
            if op in ("floor_div", "mod"):
                y *= np.where(v.bools(3, 4), 1, -1).astype(np.int32)
            if op != "real_div":
                case("elementwise_binary", op, "int32", {"x": x, "y": y})
        case("elementwise_binary", op, "half", {"x": v.uniform(0.2, 2, 2, 4), "y": v.uniform(0.5, 2, 2, 4)}, half=True)
    for op in ("equal", "not_equal", "less", "less_equal", "greater", "greater_equal"):
        x = v.ints(-2, 3, 3, 4)
        case("elementwise_binary", op, "int32", {"x": x, "y": v.ints(-2, 3, 3, 4)})
        case("elementwise_binary", op, "fp32", {"x": x.astype(np.float32), "y": v.ints(-2, 3, 4).astype(np.float32)})
    for op in ("logical_and", "logical_or", "logical_xor"):
        case("elementwise_binary", op, "plain", {"x": v.bools(3, 4), "y": v.bools(4)})
    condition = v.bools(3, 4)
    case("control_flow", "select", "plain", {"cond": condition, "a": v.normal(3, 4), "b": v.normal(3, 4)})


def activation():
    v = Values(2)
    x = v.uniform(-4, 4, 2, 3, 5)
    f = np.float32
    for op in ("relu", "relu6", "sigmoid", "silu", "softplus", "softsign"):
        case("activation", op, "plain", {"x": x * 2})
        case("activation", op, "half", {"x": x[0]}, half=True)
    case("activation", "clamped_relu", "plain", {"x": x}, alpha=f(0.2), beta=f(1.5))
    case("activation", "elu", "plain", {"x": x}, alpha=f(0.7))
    for mode in ("EXACT", "TANH_APPROXIMATION", "SIGMOID_APPROXIMATION"):
        case("activation", "gelu", mode.lower(), {"x": x}, mode=mode)
    case("activation", "gelu", "default", {"x": x})
    case("activation", "leaky_relu", "plain", {"x": x}, alpha=f(0.1))
    case("activation", "linear_activation", "plain", {"x": x}, alpha=f(0.5), beta=f(-1.25))
    case("activation", "prelu", "rank4", {"x": v.normal(2, 3, 2, 4)}, alpha=v.uniform(0.1, 0.6, 3))
    case("activation", "prelu", "rank3", {"x": x}, alpha=np.full(3, 0.25, f))
    case("activation", "scaled_tanh", "plain", {"x": x}, alpha=f(1.5), beta=f(0.5))
    case("activation", "sigmoid_hard", "plain", {"x": x}, alpha=f(0.3), beta=f(0.4))
    alpha, beta = v.uniform(0.2, 2, 3), v.uniform(0.2, 2, 3)
    case("activation", "softplus_parametric", "plain", {"x": x}, alpha=alpha, beta=beta)
    case("activation", "thresholded_relu", "plain", {"x": x}, alpha=f(0.5))
    for axis in (-1, 1, 0):
        case("activation", "softmax", f"axis{axis}", {"x": x}, axis=axis)
    case("activation", "softmax", "large", {"x": np.array([[1000, 1001, 999], [-1000, 0, 5]], f)}, axis=-1)


def convolution():
    v = Values(3)
    x = v.normal(1, 4, 5, 6)
    w = v.normal(2, 4, 3, 3)
    b = v.normal(2)
    common = {
        "valid": {"pad_type": "valid"}, "same": {"pad_type": "same"}, "same_stride": {"pad_type": "same", "strides": [2, 2]},
        "custom": {"pad_type": "custom", "pad": [1, 0, 2, 1]}, "stride": {"pad_type": "valid", "strides": [2, 3]},
        "dilation": {"pad_type": "valid", "dilations": [2, 2]},
        "same_dilation": {"pad_type": "same", "dilations": [2, 1]},
        "all": {"pad_type": "custom", "pad": [2, 1, 1, 2], "strides": [2, 1], "dilations": [1, 2]},
    }  # fmt: skip
    for name, options in common.items():
        case("conv", "conv", name, {"x": x}, weight=w, bias=b, **options)
    case("conv", "conv", "same_lower", {"x": x}, since="ios16", weight=w[:, :, :2, :2], pad_type="same_lower", strides=[2, 1])
    case("conv", "conv", "no_bias", {"x": x}, weight=w, pad_type="valid")
    case("conv", "conv", "defaults", {"x": x}, weight=w)
    case("conv", "conv", "pointwise", {"x": x}, weight=v.normal(5, 4, 1, 1), pad_type="valid")
    case("conv", "conv", "pointwise_stride", {"x": x}, weight=v.normal(5, 4, 1, 1), pad_type="valid", strides=[2, 2])
    case("conv", "conv", "depthwise", {"x": x}, weight=v.normal(4, 1, 3, 3), bias=v.normal(4), pad_type="same", groups=4)
    case("conv", "conv", "depthwise_multiplier", {"x": x}, weight=v.normal(8, 1, 3, 3), pad_type="same", groups=4)
    case("conv", "conv", "depthwise_stride", {"x": x}, weight=v.normal(4, 1, 3, 3), pad_type="custom", pad=[1, 1, 1, 1],
         strides=[2, 2], groups=4)  # fmt: skip
    case("conv", "conv", "groups", {"x": x}, weight=v.normal(2, 2, 3, 3), bias=b, pad_type="valid", groups=2)
    case("conv", "conv", "batch", {"x": v.normal(3, 2, 4, 4)}, weight=v.normal(2, 2, 3, 3), pad_type="same")
    case("conv", "conv", "line", {"x": v.normal(2, 3, 9)}, weight=v.normal(4, 3, 3), bias=v.normal(4), pad_type="custom",
         pad=[2, 1], strides=[2])  # fmt: skip
    case("conv", "conv", "line_dilated", {"x": v.normal(1, 3, 12)}, weight=v.normal(4, 3, 3), pad_type="same", dilations=[3])
    case("conv", "conv", "volume", {"x": v.normal(1, 2, 3, 4, 4)}, weight=v.normal(2, 2, 2, 2, 3), bias=v.normal(2),
         pad_type="custom", pad=[0, 1, 1, 0, 1, 1], strides=[1, 2, 1])  # fmt: skip
    case("conv", "conv", "wide_kernel", {"x": v.normal(1, 2, 5, 9)}, weight=v.normal(2, 2, 1, 7), pad_type="same")
    case("conv", "conv", "half", {"x": v.normal(1, 2, 5, 5)}, weight=v.normal(3, 2, 3, 3), pad_type="same", half=True, atol=2e-2)
    case("conv", "conv", "dynamic_weight", {"x": v.normal(1, 2, 5, 5), "weight": v.normal(3, 2, 3, 3)}, pad_type="valid")

    x, w, b = v.normal(1, 4, 4, 5), v.normal(4, 3, 3, 3), v.normal(3)
    common = {
        "valid": {}, "stride": {"strides": [2, 2]}, "custom": {"pad_type": "custom", "pad": [1, 1, 0, 1], "strides": [2, 2]},
        "dilation": {"dilations": [2, 1]}, "same": {"pad_type": "same"}, "same_stride": {"pad_type": "same", "strides": [2, 2]},
    }  # fmt: skip
    for name, options in common.items():
        case("conv", "conv_transpose", name, {"x": x}, weight=w, bias=b, **options)
    case("conv", "conv_transpose", "groups", {"x": x}, weight=v.normal(4, 2, 2, 2), strides=[2, 2], groups=2)
    case("conv", "conv_transpose", "depthwise", {"x": x}, weight=v.normal(4, 1, 3, 3), strides=[2, 2], groups=4)
    case("conv", "conv_transpose", "output_shape", {"x": x}, weight=w, pad_type="custom", pad=[1, 1, 1, 1], strides=[2, 2],
         output_shape=[1, 3, 8, 10])  # fmt: skip
    case("conv", "conv_transpose", "line", {"x": v.normal(2, 3, 5)}, weight=v.normal(3, 2, 4), bias=v.normal(2), strides=[3])
    case("conv", "conv_transpose", "volume", {"x": v.normal(1, 2, 2, 3, 2)}, weight=v.normal(2, 2, 2, 2, 2), strides=[2, 1, 2])


def pooling():
    v = Values(4)
    x = v.normal(1, 2, 6, 7)
    for op in ("max_pool", "avg_pool", "l2_pool"):
        common = {
            "valid": {"pad_type": "valid"}, "stride": {"pad_type": "valid", "strides": [2, 2]},
            "same": {"pad_type": "same", "strides": [2, 2]},
            "custom": {"pad_type": "custom", "pad": [1, 1, 0, 1], "strides": [2, 1]},
            "ceil": {"pad_type": "valid", "strides": [2, 2], "ceil_mode": True},
            "ceil_custom": {"pad_type": "custom", "pad": [1, 1, 1, 1], "strides": [2, 2], "ceil_mode": True},
        }  # fmt: skip
        for name, options in common.items():
            case("pool", op, name, {"x": x}, kernel_sizes=[3, 2], **options)
        case("pool", op, "same_lower", {"x": x}, since="ios16", kernel_sizes=[2, 2], pad_type="same_lower", strides=[2, 2])
        case("pool", op, "global", {"x": x}, kernel_sizes=[6, 7], pad_type="valid")
        case("pool", op, "line", {"x": v.normal(2, 3, 9)}, kernel_sizes=[4], strides=[3], pad_type="custom", pad=[2, 1])
        case("pool", op, "half", {"x": x}, kernel_sizes=[2, 2], strides=[2, 2], pad_type="valid", half=True)
        if op != "l2_pool":
            case("pool", op, "volume", {"x": v.normal(1, 2, 3, 4, 4)}, kernel_sizes=[2, 2, 3], strides=[1, 2, 1],
                 pad_type="custom", pad=[1, 0, 0, 0, 1, 1])  # fmt: skip
    for name, options in {
        "same": {"pad_type": "same", "strides": [2, 2]}, "custom": {"pad_type": "custom", "pad": [1, 1, 1, 0]},
        "ceil": {"pad_type": "custom", "pad": [1, 1, 1, 1], "strides": [2, 2], "ceil_mode": True},
    }.items():  # fmt: skip
        case("pool", "avg_pool", f"{name}_exclude", {"x": x}, kernel_sizes=[3, 3], exclude_padding_from_average=True, **options)


def normalization():
    v = Values(5)
    x = v.normal(2, 3, 4, 5)
    gamma, beta = v.uniform(0.5, 1.5, 3), v.normal(3)
    mean, variance = v.normal(3), v.uniform(0.3, 2, 3)
    case("normalization", "batch_norm", "plain", {"x": x}, mean=mean, variance=variance)
    case("normalization", "batch_norm", "affine", {"x": x}, mean=mean, variance=variance, gamma=gamma, beta=beta,
         epsilon=np.float32(0.01))  # fmt: skip
    case("normalization", "batch_norm", "rank3", {"x": x[0].reshape(1, 3, 20)}, mean=mean, variance=variance, gamma=gamma, beta=beta)
    case("normalization", "instance_norm", "plain", {"x": x})
    case("normalization", "instance_norm", "affine", {"x": x}, gamma=gamma, beta=beta, epsilon=np.float32(0.01))
    case("normalization", "instance_norm", "rank3", {"x": x[:, :, 0]}, gamma=gamma, beta=beta)
    for name, axes in (("last", [-1]), ("last_two", [2, 3]), ("channels", [1]), ("outer_and_last", [0, 3])):
        shape = [x.shape[axis] for axis in sorted(a % 4 for a in axes)]
        case("normalization", "layer_norm", name, {"x": x}, axes=axes, gamma=v.uniform(0.5, 1.5, *shape), beta=v.normal(*shape))
    case("normalization", "layer_norm", "plain", {"x": x}, axes=[-1], epsilon=np.float32(0.001))
    case("normalization", "layer_norm", "all_axes", {"x": x[0, 0]}, axes=[0, 1])
    case("normalization", "l2_norm", "rank3", {"x": x[0]})
    case("normalization", "l2_norm", "rank4", {"x": x}, epsilon=np.float32(0.1))
    case("normalization", "local_response_norm", "plain", {"x": v.normal(1, 7, 2, 3)}, size=3)
    case("normalization", "local_response_norm", "parameters", {"x": v.normal(1, 7, 2, 3)}, size=5, alpha=np.float32(0.05),
         beta=np.float32(0.6), k=np.float32(1.5))  # fmt: skip


def reductions():
    v = Values(6)
    for op in ("sum", "mean", "max", "min", "prod", "l1_norm", "l2_norm", "log_sum", "log_sum_exp", "sum_square"):
        x = v.uniform(0.3, 2, 2, 3, 4) if op in ("log_sum", "prod") else v.normal(2, 3, 4)
        for name, options in {
            "last": {"axes": [-1], "keep_dims": False}, "kept": {"axes": [1], "keep_dims": True},
            "two": {"axes": [0, 2], "keep_dims": False}, "all": {"keep_dims": True}, "first": {"axes": [0]},
        }.items():  # fmt: skip
            case("reduction", f"reduce_{op}", name, {"x": x}, **options)
    for op in ("sum", "max", "min", "prod"):
        case("reduction", f"reduce_{op}", "int32", {"x": v.ints(-4, 5, 2, 3)}, axes=[1])
    for op in ("reduce_argmax", "reduce_argmin"):
        for name, options in {"last": {"axis": -1}, "kept": {"axis": 1, "keep_dims": True}, "first": {"axis": 0}}.items():
            case("reduction", op, name, {"x": v.distinct(2, 3, 4)}, **options)
        case("reduction", op, "tie_takes_the_first", {"x": np.array([[1, 3, 3, 0, 0]], np.float32)}, axis=-1)


def products():
    v = Values(7)
    for name, left, right, options in (
        ("plain", (3, 4), (4, 5), {}), ("batch", (2, 3, 4), (2, 4, 5), {}), ("broadcast", (2, 1, 3, 4), (3, 4, 2), {}),
        ("transpose_x", (4, 3), (4, 5), {"transpose_x": True}), ("transpose_y", (2, 3, 4), (2, 5, 4), {"transpose_y": True}),
        ("transpose_both", (2, 4, 3), (2, 5, 4), {"transpose_x": True, "transpose_y": True}),
    ):  # fmt: skip
        case("linear", "matmul", name, {"x": v.normal(*left), "y": v.normal(*right)}, **options)
        case("linear", "matmul", f"{name}_constant", {"x": v.normal(*left)}, y=v.normal(*right), **options)
    case("linear", "matmul", "half", {"x": v.normal(3, 4), "y": v.normal(4, 2)}, half=True, atol=1e-2)
    case("linear", "matmul", "long", {"x": v.normal(2, 67), "y": v.normal(67, 3)})
    case("linear", "linear", "plain", {"x": v.normal(3, 5)}, weight=v.normal(4, 5), bias=v.normal(4))
    case("linear", "linear", "no_bias", {"x": v.normal(3, 5)}, weight=v.normal(4, 5))
    case("linear", "linear", "rank3", {"x": v.normal(2, 3, 5)}, weight=v.normal(4, 5), bias=v.normal(4))
    case("linear", "linear", "half", {"x": v.normal(3, 5)}, weight=v.normal(4, 5), bias=v.normal(4), half=True, atol=1e-2)
    for name, equation, left, right in (
        ("heads", "nchw,nwhu->nchu", (1, 2, 3, 4), (1, 4, 3, 2)), ("rank3", "chw,whr->chr", (2, 3, 4), (4, 3, 2)),
    ):  # fmt: skip
        case("linear", "einsum", name, {"values": [v.normal(*left), v.normal(*right)]}, equation=equation)
    q, k, value = v.normal(1, 2, 3, 4), v.normal(1, 2, 5, 4), v.normal(1, 2, 5, 6)
    attention = {"query": q, "key": k, "value": value}
    family, op = "transformer", "scaled_dot_product_attention"
    case(family, op, "plain", attention, since="ios18")
    case(family, op, "float_mask", attention | {"attn_mask": v.normal(1, 1, 3, 5)}, since="ios18")
    mask = v.bools(3, 5)
    mask[:, 0] = True
    case(family, op, "bool_mask", attention | {"attn_mask": mask}, since="ios18")
    case(family, op, "rank3", {"query": q[0], "key": k[0], "value": value[0]}, since="ios18")
    # Integers that meet floats; a result of integers comes from whole numbers.
    case("linear", "matmul", "mixed", {"x": v.normal(3, 4)}, y=v.ints(-3, 4, 4, 2), only="ios17")
    case("linear", "matmul", "mixed_to_int", {"x": v.ints(-3, 4, 3, 4)}, y=v.ints(-3, 4, 4, 2).astype(np.float32), only="ios17")
    case("linear", "linear", "mixed", {"x": v.normal(3, 4)}, weight=v.ints(-3, 4, 2, 4), bias=v.ints(-3, 4, 2), only="ios17")


def shapes():
    v = Values(8)
    x = v.normal(2, 3, 4)
    big = v.normal(1, 8, 4, 6)
    t = "tensor"
    for name, shape in (("plain", [4, 6]), ("minus_one", [2, -1]), ("zero", [0, 0, 2, 2][:3]), ("more", [1, 2, 3, 2, 2])):
        if name != "zero":
            case(t, "reshape", name, {"x": x}, shape=shape)
    case(t, "reshape", "keeps_zero", {"x": x}, shape=[0, 4, 3])
    for name, axes in (("front", [0]), ("back", [-1]), ("two", [1, 3])):
        case(t, "expand_dims", name, {"x": x[0]}, axes=axes)
    case(t, "squeeze", "all", {"x": x.reshape(1, 2, 1, 12)})
    case(t, "squeeze", "one", {"x": x.reshape(1, 2, 1, 12)}, axes=[2])
    case(t, "squeeze", "negative", {"x": x.reshape(2, 12, 1)}, axes=[-1])
    for name, perm in (("swap", [0, 2, 1]), ("rotate", [2, 0, 1]), ("negative", [-1, 0, 1])):
        case(t, "transpose", name, {"x": x}, perm=perm)
    case(t, "transpose", "nhwc", {"x": big}, perm=[0, 2, 3, 1])
    case(t, "flatten2d", "plain", {"x": big}, axis=2)
    case(t, "flatten2d", "negative", {"x": x}, axis=-1)
    case(t, "shape", "plain", {"x": x})
    case(t, "identity", "plain", {"x": x})
    for axis in (0, 1, -1):
        parts = [v.normal(2, 3), v.normal(2, 3), v.normal(2, 3)]
        case(t, "concat", f"axis{axis}", {"values": parts}, axis=axis)
        case(t, "stack", f"axis{axis}", {"values": parts}, axis=axis)
    case(t, "concat", "uneven", {"values": [v.normal(2, 1, 3), v.normal(2, 4, 3)]}, axis=1)
    case(t, "concat", "interleave", {"values": [v.normal(1, 2, 2), v.normal(1, 2, 2)]}, axis=1, interleave=True)
    case(t, "concat", "int32", {"values": [v.ints(0, 9, 2), v.ints(0, 9, 3)]}, axis=0)
    case(t, "split", "count", {"x": big}, num_splits=4, axis=1)
    case(t, "split", "sizes", {"x": big}, split_sizes=[1, 5, 2], axis=1)
    case(t, "split", "last", {"x": big}, split_sizes=[2, 4], axis=-1)
    case(t, "tile", "plain", {"x": x[0]}, reps=[2, 3])
    case(t, "tile", "one", {"x": x}, reps=[1, 2, 1])
    for name, mode, pad in (
        ("constant", "constant", [1, 2, 0, 1]), ("reflect", "reflect", [1, 2, 3, 1]), ("replicate", "replicate", [2, 1, 0, 3]),
        ("constant_last", "constant", [2, 3]), ("reflect_last", "reflect", [2, 3]),
        ("constant_all", "constant", [1, 0, 0, 0, 2, 1, 1, 1]),
    ):  # fmt: skip
        options = {"constant_val": np.float32(0.5)} if mode == "constant" else {}
        case(t, "pad", name, {"x": v.normal(1, 2, 4, 5)}, pad=pad, mode=mode, **options)
    case(t, "pad", "defaults", {"x": x}, pad=[1, 1, 2, 0])
    for name, axes in (("one", [1]), ("two", [0, -1])):
        case(t, "reverse", name, {"x": x}, axes=axes)
    case(t, "reverse", "all", {"x": x})
    case(t, "reverse_sequence", "plain", {"x": v.normal(3, 5, 2)}, lengths=[2, 5, 0], seq_axis=1, batch_axis=0)
    s = v.normal(4, 5, 6)
    for name, options in {
        "plain": {"begin": [1, 0, 2], "end": [3, 5, 4]}, "negative": {"begin": [-3, 1, -4], "end": [-1, 4, -1]},
        "stride": {"begin": [0, 1, 0], "end": [4, 5, 6], "stride": [2, 3, 1]},
        "backwards": {"begin": [3, 4, 5], "end": [0, 1, 1], "stride": [-1, -2, -3]},
        "begin_mask": {"begin": [2, 2, 2], "end": [3, 4, 5], "begin_mask": [True, False, True]},
        "end_mask": {"begin": [1, 2, 3], "end": [2, 3, 4], "end_mask": [True, False, True]},
        "backwards_masks": {"begin": [0, 0, 0], "end": [0, 0, 0], "stride": [-1, 1, -2], "begin_mask": [True] * 3,
                            "end_mask": [True] * 3},
        "squeeze": {"begin": [1, 0, -1], "end": [2, 5, 0], "squeeze_mask": [True, False, True]},
        "past_the_end": {"begin": [2, 0, 0], "end": [9, 5, 6]},
    }.items():  # fmt: skip
        case(t, "slice_by_index", name, {"x": s}, **options)
    case(t, "slice_by_index", "int32", {"x": v.ints(-9, 9, 3, 4)}, begin=[0, 1], end=[2, 4])
    case(t, "slice_by_size", "plain", {"x": s}, begin=[1, 0, 2], size=[2, 3, 4])
    case(t, "slice_by_size", "rest", {"x": s}, begin=[1, -2, 0], size=[-1, 2, -1])
    case(t, "slice_update", "plain", {"x": s, "update": v.normal(2, 5, 2)}, since="ios18", begin=[1, 0, 2], end=[3, 5, 4])
    case(t, "slice_update", "stride", {"x": s, "update": v.normal(2, 5, 3)}, since="ios18", begin=[0, 0, 0], end=[4, 5, 6],
         stride=[2, 1, 2], begin_mask=[False, True, False], end_mask=[False, True, False])  # fmt: skip
    case(t, "sliding_windows", "plain", {"x": s}, axis=1, size=3)
    case(t, "sliding_windows", "stride", {"x": s}, axis=-1, size=2, stride=2)
    for name, lower, upper in (("upper", 0, -1), ("lower", -1, 0), ("band", 1, 2)):
        case(t, "band_part", name, {"x": s}, lower=lower, upper=upper)
    case(t, "depth_to_space", "plain", {"x": big}, block_size=2)
    case(t, "space_to_depth", "plain", {"x": big}, block_size=2)
    case(t, "pixel_shuffle", "plain", {"x": big}, upscale_factor=2)
    case(t, "pixel_unshuffle", "plain", {"x": big}, since="ios16", downscale_factor=np.uint32(2))
    case(t, "space_to_batch", "plain", {"x": v.normal(1, 2, 4, 4)}, block_shape=[2, 2], paddings=[[0, 0], [1, 1]])
    case(t, "batch_to_space", "plain", {"x": v.normal(4, 2, 2, 3)}, block_shape=[2, 2], crops=[[0, 0], [1, 1]])
    case("image_resizing", "crop", "plain", {"x": big}, crop_height=[1, 0], crop_width=[2, 1])
    case(t, "fill", "fp32", shape=[2, 3], value=np.float32(-1.5))
    case(t, "fill", "default", shape=[2])
    case(t, "fill", "int32", shape=[4], value=np.int32(7))
    case(t, "fill", "bool", shape=[1, 2], value=np.bool_(True))
    case(t, "fill_like", "plain", {"ref_tensor": x}, since="ios16", value=np.float32(1.5))
    case(t, "range_1d", "int32", {}, start=np.int32(2), end=np.int32(11), step=np.int32(3))
    case(t, "one_hot", "last", {"indices": v.ints(0, 4, 2, 3)}, one_hot_vector_size=4)
    case(t, "one_hot", "first", {"indices": v.ints(0, 4, 5)}, one_hot_vector_size=4, axis=0, on_value=np.float32(2),
         off_value=np.float32(-1))  # fmt: skip
    for axis in (0, 1, -1):
        case(t, "cumsum", f"axis{axis}", {"x": x}, axis=axis)
    case(t, "cumsum", "reverse", {"x": x}, axis=1, reverse=True)
    case(t, "cumsum", "exclusive", {"x": x}, axis=1, exclusive=True)
    case(t, "cumsum", "both", {"x": x}, axis=1, exclusive=True, reverse=True)
    d = v.distinct(3, 4, 5)
    for axis in (-1, 1, 0):
        for ascending in (True, False):
            name = f"axis{axis}_{'up' if ascending else 'down'}"
            case(t, "argsort", name, {"x": d}, axis=axis, ascending=ascending)
            case(t, "topk", name, {"x": d}, axis=axis, ascending=ascending, k=2)
    case(t, "topk", "defaults", {"x": d})
    case(t, "topk", "values_only", {"x": d}, since="ios16", k=3, return_indices=False)
    boxes = np.array([[[5, 5, 4, 4], [5.5, 5, 4, 4], [12, 12, 3, 5], [12, 12.5, 3, 5], [1, 1, 1, 1]]], np.float32)
    scores = np.array([[[0.9], [0.8], [0.3], [0.7], [0.05]]], np.float32)
    options = {"iou_threshold": np.float32(0.5), "score_threshold": np.float32(0.1), "max_boxes": 3}
    case(t, "non_maximum_suppression", "plain", {"boxes": boxes, "scores": scores}, only="ios15", **options)


def indexing():
    v = Values(9)
    x = v.normal(4, 3, 5)
    g = "scatter_gather"
    for axis in (0, 1, -1):
        size = x.shape[axis]
        case(g, "gather", f"axis{axis}", {"x": x, "indices": v.ints(0, size, 4)}, axis=axis)
        case(g, "gather_along_axis", f"axis{axis}", {"x": x, "indices": v.ints(0, size, *x.shape)}, axis=axis)
        case(g, "gather", f"matrix_axis{axis}", {"x": x, "indices": v.ints(0, size, 2, 2)}, axis=axis)
    case(g, "gather", "scalar", {"x": x}, indices=np.int32(2), axis=1)
    case(g, "gather", "negative", {"x": x, "indices": np.array([-1, 0, -4], np.int32)}, only="ios15", axis=0)
    case(g, "gather", "batch", {"x": v.normal(2, 3, 4), "indices": v.ints(0, 3, 2, 2)}, since="ios16", axis=1, batch_dims=1)
    case(g, "gather", "embedding", {"indices": v.ints(0, 6, 2, 3)}, x=v.normal(6, 4), axis=0)
    case(g, "gather_nd", "rows", {"x": x, "indices": v.ints(0, 3, 5, 2)})
    case(g, "gather_nd", "elements", {"x": x, "indices": v.ints(0, 3, 2, 2, 3)})
    case(g, "gather_nd", "batch", {"x": v.normal(2, 3, 4), "indices": v.ints(0, 3, 2, 3, 1)}, since="ios16", batch_dims=1)
    for mode in ("update", "add", "sub", "mul", "div", "max", "min"):
        indices = np.array([2, 0], np.int32)
        case(g, "scatter", mode, {"data": x, "indices": indices, "updates": v.uniform(0.5, 2, 2, 3, 5)}, axis=0, mode=mode)
        case(g, "scatter_nd", mode, {"data": x, "indices": np.array([[1, 2], [3, 0]], np.int32), "updates": v.uniform(0.5, 2, 2, 5)},
             mode=mode)  # fmt: skip
        along = np.argsort(v.distinct(4, 3, 5), axis=0)[:2].astype(np.int32)
        case(g, "scatter_along_axis", mode, {"data": x, "indices": along, "updates": v.uniform(0.5, 2, 2, 3, 5)}, axis=0, mode=mode)
    case(g, "scatter", "repeated_add", {"data": x, "indices": np.array([1, 1, 0], np.int32), "updates": v.normal(4, 3, 5)},
         axis=1, mode="add")  # fmt: skip
    case(g, "scatter", "default_mode_adds", {"data": x, "indices": np.array([1, 3], np.int32), "updates": v.normal(2, 3, 5)})


def resizing():
    v = Values(10)
    x = v.normal(1, 2, 4, 5)
    r = "image_resizing"
    f = np.float32
    for name, height, width in (("whole", 2, 3), ("one_axis", 1, 2)):
        case(r, "upsample_nearest_neighbor", name, {"x": x}, scale_factor_height=height, scale_factor_width=width)
        for corners in (True, False):
            suffix = "corners" if corners else "pixels"
            case(r, "upsample_bilinear", f"{name}_{suffix}", {"x": x}, scale_factor_height=height, scale_factor_width=width,
                 align_corners=corners)  # fmt: skip
    case(r, "upsample_bilinear", "fraction", {"x": x}, scale_factor_height=f(1.5), scale_factor_width=f(2.4), align_corners=False)
    case(r, "upsample_bilinear", "no_half_pixels", {"x": x}, since="ios16", scale_factor_height=2, scale_factor_width=2,
         align_corners=False, half_pixel_centers=False)  # fmt: skip
    case(r, "resize_nearest_neighbor", "up", {"x": x}, target_size_height=8, target_size_width=10)
    case(r, "resize_nearest_neighbor", "down", {"x": x}, target_size_height=2, target_size_width=3)
    for mode in ("DEFAULT", "STRICT_ALIGN_CORNERS", "ALIGN_CORNERS", "OFFSET_CORNERS", "UNALIGN_CORNERS"):
        for name, height, width in (("up", 7, 9), ("down", 3, 2)):
            case(r, "resize_bilinear", f"{mode.lower()}_{name}", {"x": x}, target_size_height=height, target_size_width=width,
                 sampling_mode=mode)  # fmt: skip
            case(r, "resize", f"linear_{mode.lower()}_{name}", {"x": x}, since="ios17", shape=[height, width],
                 resized_dims=np.uint32(2), sampling_mode=mode)  # fmt: skip
    case(r, "resize", "nearest", {"x": x}, since="ios17", shape=[3, 7], resized_dims=np.uint32(2),
         interpolation_mode="NEAREST_NEIGHBOR", sampling_mode="DEFAULT")  # fmt: skip
    case(r, "resize", "keeps_zero", {"x": x}, since="ios17", shape=[1, 0, 0, 7], resized_dims=np.uint32(2))
    matrix = np.array([[0.8, -0.2, 0.1, 0.15, 0.9, -0.05]], f)
    case(r, "affine", "plain", {"x": x, "transform_matrix": matrix}, output_height=3, output_width=4, sampling_mode="bilinear",
         padding_mode="constant", padding_value=f(0), coordinates_mode="normalized_minus_one_to_one", align_corners=True)  # fmt: skip
    inside = v.uniform(-0.95, 0.95, 1, 3, 4, 2)
    across = v.uniform(-1.3, 1.3, 1, 3, 4, 2)
    for padding in ("constant", "border"):
        for corners in (True, False):
            case(r, "resample", f"{padding}_{'corners' if corners else 'pixels'}", {"x": x, "coordinates": across},
                 sampling_mode="bilinear", padding_mode=padding, padding_value=f(0),
                 coordinates_mode="normalized_minus_one_to_one", align_corners=corners)  # fmt: skip
    case(r, "resample", "nearest", {"x": x, "coordinates": inside}, sampling_mode="nearest", padding_mode="constant",
         padding_value=f(0), coordinates_mode="normalized_minus_one_to_one", align_corners=True)  # fmt: skip
    pixels = v.uniform(0, 3, 1, 2, 3, 2)
    case(r, "resample", "unnormalized", {"x": x, "coordinates": pixels}, sampling_mode="bilinear", padding_mode="constant",
         padding_value=f(0), coordinates_mode="unnormalized", align_corners=True)  # fmt: skip
    boxes = np.array([[0, 0, 3, 4], [0.5, 1, 2.5, 3.5]], f)
    for mode in ("ALIGN_CORNERS", "STRICT_ALIGN_CORNERS"):
        case(r, "crop_resize", mode.lower(), {"x": x, "boxes": boxes}, since="ios17", box_indices=[0, 0], target_height=3,
             target_width=2, sampling_mode=mode, box_coordinate_mode="CORNERS_HEIGHT_FIRST")  # fmt: skip
    roi = np.concatenate([np.zeros((2, 1), f), boxes], axis=1).reshape(2, 1, 5, 1, 1)
    case(r, "crop_resize", "roi", {"x": x, "roi": roi}, only="ios15", target_height=3, target_width=2,
         sampling_mode="ALIGN_CORNERS", box_coordinate_mode="CORNERS_HEIGHT_FIRST")  # fmt: skip


def recurrent():
    v = Values(11)
    s, b, i, h = 4, 2, 3, 2
    x = v.normal(s, b, i)
    for direction in ("forward", "reverse"):
        for whole in (True, False):
            name = f"{direction}_{'whole' if whole else 'last'}"
            options = {"direction": direction, "output_sequence": whole}
            case("recurrent", "rnn", name, {"x": x, "initial_h": v.normal(b, h)}, weight_ih=v.normal(h, i), weight_hh=v.normal(h, h),
                 bias=v.normal(h), **options)  # fmt: skip
            case("recurrent", "gru", name, {"x": x, "initial_h": v.normal(b, h)}, weight_ih=v.normal(3 * h, i),
                 weight_hh=v.normal(3 * h, h), bias=v.normal(3 * h), **options)  # fmt: skip
            case("recurrent", "lstm", name, {"x": x, "initial_h": v.normal(b, h), "initial_c": v.normal(b, h)},
                 weight_ih=v.normal(4 * h, i), weight_hh=v.normal(4 * h, h), bias=v.normal(4 * h), **options)  # fmt: skip
    both = {"x": x, "initial_h": v.normal(b, 2 * h), "initial_c": v.normal(b, 2 * h)}
    weights = {f"weight_{kind}{back}": v.normal(4 * h, size) for kind, size in (("ih", i), ("hh", h)) for back in ("", "_back")}
    for whole in (True, False):
        case("recurrent", "lstm", f"bidirectional_{'whole' if whole else 'last'}", both, direction="bidirectional",
             output_sequence=whole, bias=v.normal(4 * h), bias_back=v.normal(4 * h), **weights)  # fmt: skip
    one = {"x": x, "initial_h": v.normal(b, h), "initial_c": v.normal(b, h)}
    case("recurrent", "lstm", "peephole", one, weight_ih=v.normal(4 * h, i), weight_hh=v.normal(4 * h, h),
         peephole=v.normal(3 * h), output_sequence=True)  # fmt: skip
    case("recurrent", "gru", "no_bias", {"x": x, "initial_h": v.normal(b, h)}, weight_ih=v.normal(3 * h, i), weight_hh=v.normal(3 * h, h))
    case("recurrent", "lstm", "more_rows", {"x": x, "initial_h": v.normal(b + 2, h), "initial_c": v.normal(b + 1, h)},
         weight_ih=v.normal(4 * h, i), weight_hh=v.normal(4 * h, h), output_sequence=True)  # fmt: skip


def compressed():
    v = Values(12)
    c, f = "constexpr", np.float32
    packed = np.array([0b11100100, 0b00011011, 0b10010011], np.uint8)
    u8 = v.ints(0, 256, 2, 6).astype(np.uint8)
    i8 = v.ints(-128, 128, 2, 6).astype(np.int8)
    case(c, "constexpr_affine_dequantize", "scalar", since="ios16", only="ios16", quantized_data=u8, zero_point=np.uint8(128),
         scale=f(0.05), axis=0)  # fmt: skip
    case(c, "constexpr_affine_dequantize", "rows", since="ios16", only="ios16", quantized_data=i8,
         zero_point=np.array([3, -7], np.int8), scale=np.array([0.05, 0.5], f), axis=0)  # fmt: skip
    case(c, "constexpr_lut_to_dense", "two_bits", since="ios16", only="ios16", indices=packed, lut=v.normal(4),
         shape=np.array([3, 4], np.uint32))  # fmt: skip
    case(c, "constexpr_lut_to_dense", "six_bits", since="ios16", only="ios16", indices=np.arange(37, 46).astype(np.uint8) * 5 % 251,
         lut=v.normal(64), shape=np.array([12], np.uint32))  # fmt: skip
    case(c, "constexpr_sparse_to_dense", "plain", since="ios16", only="ios16", nonzero_data=v.normal(5),
         mask=np.array([0b01001011, 0b00000010], np.uint8), shape=np.array([3, 4], np.uint32))  # fmt: skip
    case(c, "constexpr_cast", "plain", since="ios16", only="ios16", source_val=v.normal(2, 3).astype(np.float16), output_dtype="fp32")
    case(c, "constexpr_blockwise_shift_scale", "rows", since="ios18", data=i8, scale=v.uniform(0.01, 0.1, 2, 1))
    case(c, "constexpr_blockwise_shift_scale", "blocks", since="ios18", data=i8, scale=v.uniform(0.01, 0.1, 2, 3),
         offset=v.ints(-9, 9, 2, 3).astype(np.int8))  # fmt: skip
    case(c, "constexpr_lut_to_dense", "groups", since="ios18", indices=v.ints(0, 256, 4, 3).astype(np.uint8), lut=v.normal(2, 1, 256, 1))


def quantization():
    v = Values(13)
    x = v.uniform(-8, 8, 2, 3, 2)
    f = np.float32
    for kind in ("int8", "uint8"):
        zero = np.dtype(kind).type(5)
        case("quantization", "quantize", kind, {"input": x}, since="ios17", scale=f(0.05), zero_point=zero, output_dtype=kind)
        q = v.ints(0, 120, 2, 3).astype(kind)
        case("quantization", "dequantize", kind, {}, since="ios17", input=q, scale=f(0.05), zero_point=zero)
    case("quantization", "quantize", "rows", {"input": x}, since="ios17", scale=np.array([0.05, 0.1, 0.2], f), axis=1,
         zero_point=np.array([1, -2, 3], np.int8), output_dtype="int8")  # fmt: skip


NAMES = {"str": "string", "double": "fp64"}


def type_name(kind):
    name = types.builtin_to_string(kind)
    return NAMES.get(name, name)


def number(value):
    value = np.asarray(value)[()]
    if value.dtype == np.bool_:
        return "true" if value else "false"
    if np.issubdtype(value.dtype, np.floating):
        if not np.isfinite(value):
            return str(float(value))
        return np.format_float_positional(value, unique=True, trim="0") if 1e-4 <= abs(value) < 1e7 or value == 0 else \
            np.format_float_scientific(value, unique=True, trim="0")  # fmt: skip
    return str(value)


def literal(variable):
    """A constant of the program as text."""
    value, kind = variable.val, type_name(variable.dtype)
    if isinstance(value, str):
        return f'string("{value}")'
    value = np.asarray(value)
    if value.ndim == 0:
        return f"{kind}({number(value)})"
    elements = ", ".join(number(item) for item in value.reshape(-1))
    return f"tensor<{kind}, {list(value.shape)}>([{elements}])"


def declared_type(variable):
    kind = type_name(variable.dtype)
    return kind if variable.rank == 0 else f"tensor<{kind}, {[int(size) for size in variable.shape]}>"


def halved(value):
    if isinstance(value, list):
        return [halved(item) for item in value]
    return value.astype(np.float16) if isinstance(value, (np.ndarray, np.generic)) and value.dtype == np.float32 else value


def build(op, opset, tensors, parameters):
    """(the operation in a function of its own, {input name: array}): coremltools checks and infers here."""
    inputs = {}
    for name, value in tensors.items():
        for index, item in enumerate(value if isinstance(value, list) else [value]):
            inputs[f"{name}_{index}" if isinstance(value, list) else name] = item
    kinds = {np.dtype(np.float32): types.fp32, np.dtype(np.float16): types.fp16, np.dtype(np.int32): types.int32,
             np.dtype(np.bool_): types.bool}  # fmt: skip
    placeholders = {name: Placeholder(item.shape, kinds[item.dtype]) for name, item in inputs.items()}
    with Function(placeholders, opset_version=opset) as function:
        bound = {
            name: [function.inputs[f"{name}_{index}"] for index in range(len(value))] if isinstance(value, list)
            else function.inputs[name]
            for name, value in tensors.items()
        }  # fmt: skip
        outputs = getattr(mb, op)(**bound, **parameters)
    outputs = outputs if isinstance(outputs, (list, tuple)) else [outputs]
    return outputs[0].op, inputs


def expected(operation, tensors, parameters):
    """The oracle's outputs in float64, in the types that coremltools infers."""
    def wide(value):
        value = np.asarray(value)
        return value.astype(np.float64) if np.issubdtype(value.dtype, np.floating) else value

    arguments = Arguments()
    for name in (*tensors, *parameters):
        given = tensors.get(name)
        if isinstance(given, list):
            arguments[name] = [wide(item) for item in given]
        elif given is not None:
            arguments[name] = wide(given)
        else:
            value = operation.inputs[name].val
            arguments[name] = value if isinstance(value, str) else wide(value)
    results = OPERATIONS[operation.op_type](arguments)
    results = results if isinstance(results, tuple) else (results,)
    out = []
    for result, output in zip(results, operation.outputs, strict=True):
        result = np.asarray(result).astype(types.nptype_from_builtin(output.dtype))
        shape = tuple(int(size) for size in output.shape)
        if result.shape != shape:
            raise AssertionError(f"the oracle gives shape {result.shape}, coremltools infers {shape}")
        out.append(result)
    return out


def second_opinion(op, name, opset, tensors, parameters, results):
    """Where coremltools evaluates the operation on constants, it must agree with the oracle."""
    if not NO_SECOND_OPINION.isdisjoint((op, f"{op} {name}")):
        return
    with Function({}, opset_version=opset):
        outputs = getattr(mb, op)(**tensors, **parameters)
    outputs = outputs if isinstance(outputs, (list, tuple)) else [outputs]
    for output, result in zip(outputs, results, strict=True):
        if output.val is None:
            continue
        loose = 2e-2 if result.dtype == np.float16 else 1e-4
        np.testing.assert_allclose(np.asarray(output.val, np.float64), np.asarray(result, np.float64), rtol=loose, atol=loose)


def render(op, opset_name, operation, inputs, tensors, parameters, results, atol):
    names = ["out"] if len(results) == 1 else [f"out{index}" for index in range(len(results))]
    lines = []
    for name, item in inputs.items():
        values = " ".join(number(value) for value in item.reshape(-1))
        kind = {"float32": "fp32", "float16": "fp16"}.get(str(item.dtype), str(item.dtype))
        lines.append(f"// input {name} {kind} {list(item.shape)} = {values}")
    for name, result, output in zip(names, results, operation.outputs, strict=True):
        values = " ".join(number(value) for value in np.asarray(result).reshape(-1))
        shape = [int(size) for size in output.shape]
        tolerance = f" atol {atol:g}" if np.issubdtype(np.asarray(result).dtype, np.floating) else ""
        lines.append(f"// expect {name} {type_name(output.dtype)} {shape}{tolerance} = {values}")

    def argument(name):
        given = tensors.get(name)
        if isinstance(given, list):
            return "(" + ", ".join(f"{name}_{index}" for index in range(len(given))) + ")"
        return name if given is not None else literal(operation.inputs[name])

    given = [f"{name} = {argument(name)}" for name in (*tensors, *parameters)]
    constant = op.startswith("constexpr_") and opset_name != "ios18"
    call = f"{op}()[{', '.join(given)}]" if constant else f"{op}({', '.join(given)})"
    declared = ", ".join(f"{declared_type(v)} {n}" for v, n in zip(operation.outputs, names, strict=True))
    kinds = {"float32": "fp32", "float16": "fp16"}
    signature = ", ".join(
        f"tensor<{kinds.get(str(item.dtype), str(item.dtype))}, {list(item.shape)}> {name}" for name, item in inputs.items()
    )
    lines += ["program(1.3)", "{", f"    func main<{opset_name}>({signature}) {{", f"        {declared} = {call};"]
    return "\n".join([*lines, f"    }} -> ({', '.join(names)});", "}", ""])


def versions(op, since, only):
    """The opsets to write a case for: the first, and each that redefines the operation."""
    if only:
        return [only]
    found, last = [], None
    for name, target in list(OPSETS.items())[list(OPSETS).index(since) :]:
        known = [version for version in SSAOpRegistry.core_ops.get(op, ()) if version <= target]
        if not known:
            raise ValueError(f"this coremltools has no {op} in {name}: give `since=`, or see scripts/requirements.txt")
        definition = SSAOpRegistry.core_ops[op][max(known)]
        if definition is not last:
            found.append(name)
        last = definition
    return found


def texts():
    """Yield (path, text) for every case."""
    for family, op, name, tensors, since, only, atol, half, parameters in CASES:
        if half:
            tensors = {key: halved(value) for key, value in tensors.items()}
            parameters = {key: halved(value) for key, value in parameters.items()}
        for opset in versions(op, since, only):
            try:
                operation, inputs = build(op, OPSETS[opset], tensors, parameters)
                results = expected(operation, tensors, parameters)
                second_opinion(op, name, OPSETS[opset], tensors, parameters, results)
                largest = max((np.abs(r[np.isfinite(r)]).max(initial=0) for r in results if r.dtype.kind == "f"), default=0)
                allowed = atol or (4e-3 if half else 1e-5) * max(1.0, float(largest) if half else float(largest) / 2)
                text = render(op, opset, operation, inputs, tensors, parameters, results, float(f"{allowed:.1g}"))
            except Exception as error:
                error.add_note(f"in case {op} {name} at {opset}")
                raise
            yield Path(family) / op / f"{name}-{opset}.mil", text


for make in (elementwise, activation, convolution, pooling, normalization, reductions, products, shapes, indexing, resizing,
             recurrent, compressed, quantization):  # fmt: skip
    make()


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=OUT)
    parser.add_argument("--only", help="write the cases of this operation")
    parser.add_argument("--check", action="store_true", help="write nothing; fail where a file differs")
    parser.add_argument("--keep-going", action="store_true", help="report cases that fail and go on")
    arguments = parser.parse_args()
    if arguments.only:
        CASES[:] = [entry for entry in CASES if entry[1] == arguments.only]
    stale, count = [], 0
    every = list(CASES)
    for entry in every:
        CASES[:] = [entry]
        try:
            for path, text in texts():
                place = arguments.out / path
                count += 1
                if arguments.check:
                    if not place.exists() or place.read_text() != text:
                        stale.append(str(path))
                else:
                    place.parent.mkdir(parents=True, exist_ok=True)
                    place.write_text(text)
        except Exception as error:
            if not arguments.keep_going:
                raise
            print(f"{' '.join(getattr(error, '__notes__', []))}: {type(error).__name__}: {str(error).strip()[:300]}")
    print(f"{count} cases")
    if stale:
        sys.exit("differ: " + ", ".join(stale))


if __name__ == "__main__":
    main()
