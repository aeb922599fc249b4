"""Writes tests of ONNX Runtime's own ops, with the outputs that ONNX Runtime computes.

    python scripts/onnx_runtime_ops.py [--out target/onnx-nodes] [--only PART]

Each test is a model of one node, in the layout of `onnx_nodes.py`: `runtime/NAME/model.onnx`, its first data set, and
`runtime/tests.tsv`. Weights are constants of the model. Outputs are those of ONNX Runtime on one thread without
optimizations; results that are codes may differ by one where the real number is on the edge of two.

`cargo run -p milwright-testkit --bin onnx_nodes -- target/onnx-nodes/runtime` reads it.
"""

import argparse
import shutil
from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
from onnx import helper, numpy_helper

MICROSOFT = "com.microsoft"
F, H, U8, S8, I32, I64, BOOL = np.float32, np.float16, np.uint8, np.int8, np.int32, np.int64, np.bool_


class Tests:
    """The tests, made one by one."""

    def __init__(self, only):
        self.only, self.tests = only, []
        self.rng = None

    def add(self, name, op, feeds, constants=(), outputs=1, domain=MICROSOFT, atol=1e-5, missing=(), **attributes):
        """A node with inputs in the order of `feeds` and `constants`, whose names are sorted."""
        if self.only not in name:
            return
        values = {**feeds, **dict(constants)}
        last = max(values)
        names = [f"i{i}" if i in values else "" for i in range(last + 1)]
        results = [f"o{i}" if i not in missing else "" for i in range(outputs)]
        node = helper.make_node(op, names, results, domain=domain, **attributes)
        inputs = [
            helper.make_tensor_value_info(f"i{i}", helper.np_dtype_to_tensor_dtype(v.dtype), v.shape)
            for i, v in feeds.items()
        ]
        weights = [numpy_helper.from_array(v, f"i{i}") for i, v in dict(constants).items()]
        kept = [helper.make_empty_tensor_value_info(r) for r in results if r]
        graph = helper.make_graph([node], name, inputs, kept, weights)
        opsets = [helper.make_opsetid("", 17), helper.make_opsetid(MICROSOFT, 1)]
        model = helper.make_model(graph, opset_imports=opsets, ir_version=8)
        options = ort.SessionOptions()
        options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
        options.intra_op_num_threads = 1
        session = ort.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
        wanted = session.run(None, {f"i{i}": v for i, v in feeds.items()})
        del graph.output[:]
        for name_, value in zip([r for r in results if r], wanted):
            kind = helper.np_dtype_to_tensor_dtype(value.dtype)
            graph.output.append(helper.make_tensor_value_info(name_, kind, value.shape))
        model = helper.make_model(graph, opset_imports=opsets, ir_version=8)
        if any(np.isnan(w.astype(np.float64)).any() for w in wanted):
            raise ValueError(f"{name}: NaN in the reference")
        self.tests.append((name, model, list(feeds.values()), wanted, atol))

    def floats(self, *shape, scale=1.0):
        return (self.rng.standard_normal(shape) * scale).astype(F)

    def codes(self, dtype, *shape):
        info = np.iinfo(dtype)
        return self.rng.integers(info.min, info.max + 1, shape).astype(dtype)

    def scales(self, *shape):
        return (self.rng.random(shape) * 0.02 + 0.01).astype(F)


def f(x):
    return np.float32(x).reshape(())


def activations(t):
    x, b = t.floats(2, 3, 8, scale=2), t.floats(8)
    for op in ("Gelu", "FastGelu", "QuickGelu"):
        t.add(op.lower(), op, {0: x})
    t.add("quickgelu_alpha", "QuickGelu", {0: x}, alpha=0.7)
    t.add("fastgelu_bias", "FastGelu", {0: x}, {1: b})
    t.add("biasgelu", "BiasGelu", {0: x}, {1: b})


def products(t):
    a, b = t.floats(2, 3, 5), t.floats(5, 4)
    t.add("fusedmatmul_alpha", "FusedMatMul", {0: a}, {1: b}, alpha=0.25)
    t.add("fusedmatmul_right", "FusedMatMul", {0: a}, {1: t.floats(4, 5)}, transB=1, alpha=2.0)
    t.add("fusedmatmul_left", "FusedMatMul", {0: t.floats(2, 5, 3), 1: t.floats(2, 5, 4)}, transA=1)
    t.add("fusedmatmul_batch", "FusedMatMul", {0: t.floats(3, 2, 4, 5), 1: t.floats(2, 4, 5, 6)}, transBatchA=1)
    t.add("transposematmul", "TransposeMatMul", {0: a, 1: t.floats(2, 4, 5)}, transB=1)
    for name, extra in [
        ("Relu", {}),
        ("LeakyRelu", {"activation_alpha": 0.2}),
        ("Tanh", {}),
        ("Sigmoid", {}),
        ("HardSigmoid", {"activation_alpha": 0.3, "activation_beta": 0.4}),
    ]:
        t.add(f"fusedgemm_{name.lower()}", "FusedGemm", {0: t.floats(3, 5)}, {1: b, 2: t.floats(4)}, activation=name, alpha=0.5, beta=2.0, **extra)  # fmt: skip
    image, weight, bias = t.floats(1, 3, 6, 7), t.floats(4, 3, 3, 3), t.floats(4)
    for name, extra in [
        ("Relu", []),
        ("LeakyRelu", [0.2]),
        ("Tanh", []),
        ("Sigmoid", []),
        ("HardSigmoid", [0.3, 0.4]),
        ("Clip", [-1.0, 1.5]),
    ]:
        extra = {"activation_params": extra} if extra else {}
        t.add(f"fusedconv_{name.lower()}", "FusedConv", {0: image}, {1: weight, 2: bias}, activation=name, pads=[1] * 4, **extra)
    t.add("fusedconv_sum", "FusedConv", {0: image, 3: t.floats(1, 4, 4, 5)}, {1: weight, 2: bias}, activation="Relu")


def norms(t):
    x, skip, width = t.floats(2, 3, 8), t.floats(2, 3, 8), 8
    scale, shift, bias = t.floats(width), t.floats(width), t.floats(width)
    t.add("skiplayer", "SkipLayerNormalization", {0: x, 1: skip}, {2: scale, 3: shift}, epsilon=1e-5)
    t.add("skiplayer_bias", "SkipLayerNormalization", {0: x, 1: skip}, {2: scale, 3: shift, 4: bias}, outputs=4, missing=(1, 2))
    t.add("skiplayer_broadcast", "SkipLayerNormalization", {0: x, 1: t.floats(3, 8)}, {2: scale})
    t.add("skiplayer_computed", "SkipLayerNormalization", {0: x, 1: skip, 2: scale, 3: shift})
    t.add("skiprms", "SkipSimplifiedLayerNormalization", {0: x, 1: skip}, {2: scale}, outputs=4, missing=(1, 2), epsilon=1e-5)
    t.add("skiprms_bias", "SkipSimplifiedLayerNormalization", {0: x, 1: skip}, {2: scale, 3: bias})
    t.add("simplifiedlayer", "SimplifiedLayerNormalization", {0: x}, {1: scale}, domain="", epsilon=1e-5)
    ids, kinds = t.rng.integers(0, 9, (2, 4)).astype(I32), t.rng.integers(0, 2, (2, 4)).astype(I32)
    tables = {2: t.floats(9, width), 3: t.floats(6, width), 4: t.floats(2, width), 5: scale, 6: shift}
    mask = np.array([[1, 1, 1, 1], [1, 1, 0, 0]], I32)
    t.add("embedlayer", "EmbedLayerNormalization", {0: ids, 1: kinds}, tables, outputs=2, epsilon=1e-5)
    t.add("embedlayer_mask", "EmbedLayerNormalization", {0: ids, 1: kinds, 7: mask}, tables, outputs=3)
    places = np.array([[3, 2, 1, 0], [0, 1, 2, 5]], I32)
    without = {i: v for i, v in tables.items() if i != 4}
    t.add("embedlayer_places", "EmbedLayerNormalization", {0: ids, 8: places}, without, outputs=2)
    codes = {i: t.codes(U8, *v.shape) for i, v in tables.items()}
    scales = {8 + i: f(0.01 + 0.002 * i) for i in range(5)}
    zeros = {13 + i: np.uint8(120 + i).reshape(()) for i in range(5)}
    t.add("qembedlayer", "QEmbedLayerNormalization", {0: ids, 1: kinds, 7: mask}, {**codes, **scales, **zeros}, outputs=2, atol=1e-4)


def attention(t):
    batch, steps, width, heads = 2, 5, 12, 3
    size = width // heads
    x, weight, bias = t.floats(batch, steps, width), t.floats(width, 3 * width, scale=0.3), t.floats(3 * width)
    base = ({0: x}, {1: weight, 2: bias})
    mask = np.array([[1, 1, 1, 1, 1], [1, 1, 1, 0, 0]], I32)

    def add(name, feeds=(), constants=(), **attributes):
        t.add(f"attention_{name}", "Attention", {**base[0], **dict(feeds)}, {**base[1], **dict(constants)}, num_heads=heads, **attributes)

    add("plain")
    add("mask", {3: mask})
    add("mask_filter", {3: mask}, mask_filter_value=-50.0)
    add("mask_3d", {3: t.rng.integers(0, 2, (batch, steps, steps)).astype(I32)})
    add("lengths", {3: np.array([5, 3], I32)})
    add("ends_and_starts", {3: np.array([5, 4, 0, 2], I32)})
    add("causal", unidirectional=1)
    add("causal_mask", {3: mask}, unidirectional=1)
    add("scale", scale=0.7)
    add("bias", {5: t.floats(1, heads, steps, steps)})
    add("past", {4: t.floats(2, batch, heads, 3, size)}, outputs=2)
    add("past_causal", {4: t.floats(2, batch, heads, 3, size)}, outputs=2, unidirectional=1)
    t.add("attention_sizes", "Attention", {0: x}, {1: t.floats(width, 12 + 12 + 18), 2: t.floats(42)}, num_heads=heads, qkv_hidden_sizes=[12, 12, 18])
    codes, columns = t.codes(U8, batch, steps, width), t.codes(S8, width, 3 * width)
    for kind, scales, zero in [
        ("tensor", f(0.01), np.int8(3).reshape(())),
        ("columns", np.abs(t.floats(3 * width, scale=0.01)) + F(0.001), t.codes(S8, 3 * width) // 8),
    ]:
        constants = {1: columns, 2: bias, 3: f(0.02), 4: scales, 6: np.uint8(121).reshape(()), 7: zero}
        t.add(f"qattention_{kind}", "QAttention", {0: codes}, constants, num_heads=heads, atol=1e-4)
        t.add(f"qattention_{kind}_mask", "QAttention", {0: codes, 5: np.array([5, 3], I32)}, constants, num_heads=heads, atol=1e-4)

    q, k, v = t.floats(batch, steps, width), t.floats(batch, 4, width), t.floats(batch, 4, 18)

    def many(name, feeds, constants=(), **attributes):
        t.add(f"multihead_{name}", "MultiHeadAttention", feeds, constants, num_heads=heads, **attributes)

    many("plain", {0: q, 1: k, 2: v})
    many("bias", {0: q, 1: k, 2: v}, {3: t.floats(12 + 12 + 18)})
    many("padding", {0: q, 1: k, 2: v, 4: np.array([[1, 1, 1, 1], [1, 1, 0, 0]], I32)})
    many("lengths", {0: q, 1: k, 2: v, 4: np.array([4, 2], I32)})
    many("added", {0: q, 1: k, 2: v, 5: t.floats(batch, 1, steps, 4)})
    many("scale", {0: q, 1: k, 2: v}, scale=0.4)
    many("heads", {0: q, 1: t.floats(batch, heads, 4, size), 2: t.floats(batch, heads, 4, size)})
    own = {0: q, 1: t.floats(batch, steps, width), 2: t.floats(batch, steps, width)}
    past = {6: t.floats(batch, heads, 3, size), 7: t.floats(batch, heads, 3, size)}
    many("causal", own, unidirectional=1)
    many("past", {**own, **past}, outputs=3)
    many("past_causal", {**own, **past}, outputs=3, unidirectional=1)


def grouped(t):
    batch, steps, heads, shared, size = 2, 4, 4, 2, 16
    angle = np.arange(16)[:, None] / 10.0 ** np.linspace(0, 2, size // 2)[None]
    cos, sin = np.cos(angle).astype(F), np.sin(angle).astype(F)

    def inputs(batch, steps, past=None, ends=None, total=None):
        feeds = {
            0: t.floats(batch, steps, heads * size),
            1: t.floats(batch, steps, shared * size),
            2: t.floats(batch, steps, shared * size),
        }
        if past is not None:
            feeds |= {3: t.floats(batch, shared, past, size), 4: t.floats(batch, shared, past, size)}
        total = total if total is not None else steps + (past or 0)
        feeds[5] = np.array(ends if ends is not None else [total - 1] * batch, I32)
        feeds[6] = np.array(total, I32)
        return feeds

    def add(name, feeds, constants=(), **attributes):
        t.add(f"groupquery_{name}", "GroupQueryAttention", feeds, constants, outputs=3, num_heads=heads, kv_num_heads=shared, **attributes)

    add("first", inputs(batch, steps))
    add("first_empty", inputs(batch, steps, past=0))
    add("next", inputs(batch, 1, past=5))
    add("several", inputs(1, 3, past=5))
    add("rotary", inputs(batch, steps), {7: cos, 8: sin}, do_rotary=1)
    add("rotary_next", inputs(batch, 1, past=5), {7: cos, 8: sin}, do_rotary=1)
    add("rotary_interleaved", inputs(batch, 1, past=5), {7: cos, 8: sin}, do_rotary=1, rotary_interleaved=1)
    add("lengths", inputs(batch, 1, past=5, ends=[5, 3], total=6), {7: cos, 8: sin}, do_rotary=1)
    add("window", inputs(batch, 1, past=5), local_window_size=3)
    add("window_first", inputs(batch, steps), local_window_size=2)
    add("softcap", inputs(batch, steps), softcap=2.0)
    add("smooth", inputs(batch, steps), smooth_softmax=1)
    add("sink", {**inputs(batch, steps), 11: t.floats(heads)})
    add("scale", inputs(batch, steps), scale=0.2)
    add("bias", {**inputs(batch, 1, past=5), 10: t.floats(1, heads, 1, 6)})
    packed = inputs(batch, steps)
    packed = {0: t.floats(batch, steps, (heads + 2 * shared) * size), 5: packed[5], 6: packed[6]}
    add("packed", packed, {7: cos, 8: sin}, do_rotary=1)

    x, places = t.floats(batch, steps, heads * size), np.array([[0, 1, 2, 3], [5, 6, 7, 8]], I64)

    def rotary(name, feeds, constants, **attributes):
        t.add(f"rotary_{name}", "RotaryEmbedding", feeds, constants, **attributes)

    rotary("flat", {0: x, 1: places}, {2: cos, 3: sin})
    rotary("offset", {0: x, 1: np.array([4], I64)}, {2: cos, 3: sin})
    rotary("interleaved", {0: x, 1: places}, {2: cos, 3: sin}, interleaved=1)
    rotary("heads", {0: t.floats(batch, heads, steps, size), 1: places}, {2: cos, 3: sin})
    rotary("part", {0: x, 1: places}, {2: cos[:, :2].copy(), 3: sin[:, :2].copy()}, num_heads=heads, rotary_embedding_dim=4)


def blocks(t):
    def packed(bits, *shape):
        return t.codes(U8, *shape[:-1], shape[-1] * bits // 8)

    for bits in (2, 4, 8):
        for name, rows, terms, block in [("small", 6, 32, 16), ("large", 40, 96, 32), ("short", 33, 80, 32)]:
            count = -(-terms // block)
            x = t.floats(2, 3, terms)
            constants = {1: packed(bits, rows, count, block), 2: t.floats(rows, count, scale=0.1)}
            where = {"N": rows, "K": terms, "block_size": block, "bits": bits}
            t.add(f"nbits{bits}_{name}", "MatMulNBits", {0: x}, constants, atol=1e-4, **where)
            zero = t.codes(U8, rows, -(-count * bits // 8))
            t.add(f"nbits{bits}_{name}_zero", "MatMulNBits", {0: x}, {**constants, 3: zero}, atol=1e-4, **where)
            if bits == 4:
                real = t.rng.integers(0, 16, (rows, count)).astype(F)
                t.add(f"nbits4_{name}_real", "MatMulNBits", {0: x}, {**constants, 3: real}, atol=1e-4, **where)
                t.add(f"nbits4_{name}_bias", "MatMulNBits", {0: x}, {**constants, 5: t.floats(rows)}, atol=1e-4, **where)
    for kind in (0, 1):
        for name, rows, terms, block in [("small", 5, 16, 16), ("large", 40, 64, 32), ("across", 6, 24, 16)]:
            constants = {1: t.codes(U8, rows * terms // 2), 2: np.abs(t.floats(-(-rows * terms // block)))}
            t.add(f"bnb4_{kind}_{name}", "MatMulBnb4", {0: t.floats(3, terms)}, constants, atol=1e-4, N=rows, K=terms, block_size=block, quant_type=kind)
    ids = np.array([[0, 5, 2], [39, 7, 7]], I64)
    for bits in (4, 8):
        data, scales = packed(bits, 40, 64), t.floats(40, 2)
        where = {"bits": bits, "block_size": 32, "quantize_axis": 1, "gather_axis": 0}
        t.add(f"gatherblocks{bits}", "GatherBlockQuantized", {1: ids}, {0: data, 2: scales}, **where)
        zero = t.codes(U8, 40, 2 * bits // 8)
        t.add(f"gatherblocks{bits}_zero", "GatherBlockQuantized", {1: ids - 1}, {0: data, 2: scales, 3: zero}, **where)


def codes(t):
    """Ops on codes: a result may be the next code where the real number is between two."""
    one = {"atol": 1}
    for name, dtype in [("u8", U8), ("s8", S8)]:
        zero = lambda z, dtype=dtype: np.array(z, dtype)  # noqa: E731
        middle = 128 if dtype == U8 else 0
        x, y = t.codes(dtype, 2, 3, 4, 6), t.codes(dtype, 2, 3, 4, 6)
        first, second = {1: f(0.03), 2: zero(middle + 5)}, {4: f(0.021), 5: zero(middle - 3)}
        third = {6: f(0.05), 7: zero(middle)}
        for op in ("QLinearAdd", "QLinearMul"):
            t.add(f"{op.lower()}_{name}", op, {0: x, 3: y}, {**first, **second, **third}, **one)
            t.add(f"{op.lower()}_{name}_constant", op, {0: x}, {3: t.codes(dtype, 6), **first, **second, **third}, **one)
        result = {3: f(0.02), 4: zero(middle - 100)}
        t.add(f"qlinearsigmoid_{name}", "QLinearSigmoid", {0: x}, {**first, **result}, **one)
        t.add(f"qlinearleakyrelu_{name}", "QLinearLeakyRelu", {0: x}, {**first, **result}, alpha=0.1, **one)
        small = {3: f(1 / 256), 4: zero(0 if dtype == U8 else -128)}
        t.add(f"qlinearsoftmax_{name}", "QLinearSoftmax", {0: x}, {**first, **small}, opset=13, axis=-1, **one)
        t.add(f"qlinearsoftmax_{name}_axis", "QLinearSoftmax", {0: x}, {**first, **small}, opset=13, axis=1, **one)
        t.add(f"qlinearsoftmax_{name}_old", "QLinearSoftmax", {0: x}, {**first, **small}, opset=12, axis=2, **one)
        t.add(f"qlinearaveragepool_{name}", "QLinearAveragePool", {0: x}, {**first, **result}, kernel_shape=[2, 3], strides=[1, 2], **one)
        t.add(f"qlinearaveragepool_{name}_pads", "QLinearAveragePool", {0: x}, {**first, **result}, kernel_shape=[3, 3], pads=[1] * 4, count_include_pad=1, **one)
        t.add(f"qlinearaveragepool_{name}_last", "QLinearAveragePool", {0: x}, {**first, **result}, kernel_shape=[2, 2], channels_last=1, **one)
        t.add(f"qlinearglobalaveragepool_{name}", "QLinearGlobalAveragePool", {0: x}, {**first, **result}, **one)
        t.add(f"qlinearglobalaveragepool_{name}_last", "QLinearGlobalAveragePool", {0: x}, {**first, **result}, channels_last=1, **one)
        parts = {3: f(0.03), 4: zero(middle + 5), 6: f(0.02), 7: zero(middle)}
        t.add(f"qlinearconcat_{name}", "QLinearConcat", {2: x, 5: y}, {0: f(0.04), 1: zero(middle), **parts}, axis=1, **one)
        condition = t.rng.integers(0, 2, (2, 3, 4, 6)).astype(BOOL)
        parts = {2: f(0.03), 3: zero(middle + 5), 5: f(0.02), 6: zero(middle), 7: f(0.04), 8: zero(middle)}
        t.add(f"qlinearwhere_{name}", "QLinearWhere", {0: condition, 1: x, 4: y}, parts, **one)
        t.add(f"nhwcmaxpool_{name}", "NhwcMaxPool", {0: x}, kernel_shape=[2, 2], strides=[2, 1])
        a = t.codes(dtype, 3, 40)
        for kind, scales, zeros in [
            ("tensor", f(0.02), zero(middle + 4)),
            ("columns", np.abs(t.floats(30, scale=0.01)) + F(0.002), np.full(30, middle, dtype)),
        ]:
            b = {3: t.codes(dtype, 40, 30), 4: scales, 5: zeros}
            bias = {6: t.rng.integers(-3000, 3000, 30).astype(I32)}
            y = {7: f(0.3), 8: zero(middle)}
            t.add(f"qgemm_{name}_{kind}", "QGemm", {0: a}, {**first, **b, **bias, **y}, **one)
            t.add(f"qgemm_{name}_{kind}_real", "QGemm", {0: a}, {**first, **b}, alpha=0.5, atol=1e-3)
            b[3] = b[3].T.copy()
            t.add(f"qgemm_{name}_{kind}_right", "QGemm", {0: a}, {**first, **b, **y}, transB=1, **one)
            b = {1: t.codes(dtype, 40, 30), 3: scales, 5: zeros}
            t.add(f"integertofloat_{name}_{kind}", "MatMulIntegerToFloat", {0: a}, {2: f(0.03), 4: first[2], **b, 6: t.floats(30)}, atol=1e-3)
            b = {1: b[1], 2: scales, 3: zeros}
            t.add(f"dynamicmatmul_{name}_{kind}", "DynamicQuantizeMatMul", {0: t.floats(3, 40)}, {**b, 4: t.floats(30)}, atol=1e-3)
        image, weight = t.codes(dtype, 1, 5, 6, 4), t.codes(S8, 8, 4, 3, 3)
        conv = {1: f(0.03), 2: zero(middle + 2), 3: weight, 4: np.abs(t.floats(8, scale=0.01)) + F(0.001), 5: np.zeros(8, S8)}
        conv |= {6: f(0.2), 7: zero(middle), 8: t.rng.integers(-2000, 2000, 8).astype(I32)}
        t.add(f"qlinearconv_{name}_last", "QLinearConv", {0: image}, conv, channels_last=1, pads=[1] * 4, **one)
        t.add(f"qlinearconv_{name}", "QLinearConv", {0: image.transpose(0, 3, 1, 2).copy()}, conv, domain="", **one)
        t.add(f"matmulinteger_{name}", "MatMulInteger", {0: t.codes(U8, 3, 1100)}, {1: t.codes(dtype, 1100, 20), 2: np.uint8(9).reshape(()), 3: t.codes(dtype, 20)}, domain="")
    zeros = {2: np.array(7, U8), 3: np.array(100, U8)}
    t.add("convinteger", "ConvInteger", {0: t.codes(U8, 1, 80, 5, 5)}, {1: t.codes(U8, 4, 80, 3, 3), **zeros}, domain="")


def lstm(t):
    for name, directions, each in [("forward", 1, 1), ("both", 2, 32)]:
        x, hidden = t.floats(6, 2, 10), 8
        shape = (directions,) if each == 1 else (directions, each)
        constants = {
            1: t.codes(S8, directions, 10, 4 * hidden),
            2: t.codes(S8, directions, hidden, 4 * hidden),
            3: t.floats(directions, 8 * hidden),
            8: np.abs(t.floats(*shape, scale=0.005)) + F(0.001),
            9: np.zeros(shape, S8),
            10: np.abs(t.floats(*shape, scale=0.005)) + F(0.001),
            11: np.zeros(shape, S8),
        }
        direction = {1: "forward", 2: "bidirectional"}[directions]
        t.add(f"quantizedlstm_{name}", "DynamicQuantizeLSTM", {0: x}, constants, outputs=3, hidden_size=hidden, direction=direction, atol=1e-4)


def others(t):
    t.add("inverse", "Inverse", {0: t.floats(3, 5, 5)}, atol=1e-3)
    t.add("inverse_pivot", "Inverse", {0: np.array([[0, 2, 1], [1, 0, 0], [3, 0, 1]], F)})
    for metric in ("sqeuclidean", "euclidean"):
        t.add(f"cdist_{metric}", "CDist", {0: t.floats(5, 7), 1: t.floats(4, 7)}, metric=metric)
    boxes = np.array([[0, 0, 1, 1], [0.2, 0.1, 0.7, 0.9], [-0.3, 0.5, 1.2, 0.6], [0.9, 0.8, 0.1, 0.2]], F)
    which, size = np.array([0, 1, 1, 0], I32), np.array([4, 5], I32)
    for mode in ("bilinear", "nearest"):
        t.add(f"cropandresize_{mode}", "CropAndResize", {0: t.floats(2, 3, 7, 9), 1: boxes}, {2: which, 3: size}, mode=mode, extrapolation_value=0.5)
    t.add("cropandresize_one", "CropAndResize", {0: t.floats(2, 3, 7, 9), 1: boxes}, {2: which, 3: np.array([1, 1], I32)})
    t.add("unique", "Unique", {0: np.array([2, 1, 1, 3, 4, 3], F)}, outputs=3)
    t.add("expanddims", "ExpandDims", {0: t.floats(2, 3)}, {1: np.array(-1, I32)})
    t.add("gathernd", "GatherND", {0: t.floats(2, 3, 4)}, {1: np.array([[1, 2], [0, 0]], I64)})
    t.add("pad", "Pad", {0: t.floats(2, 3)}, {1: np.array([0, 1, 1, 2], I64), 2: f(0.5)})
    t.add("pad_reflect", "Pad", {0: t.floats(3, 4)}, {1: np.array([1, 0, 0, 2], I64)}, mode="reflect")
    t.add("range", "Range", {}, {0: f(1), 1: f(7), 2: f(2)})
    t.add("trilu", "Trilu", {0: t.floats(3, 4)}, {1: np.array(1, I64)}, upper=0)
    rows, router = t.floats(6, 8), t.floats(6, 4)
    layers = {2: t.floats(4, 16, 8, scale=0.3), 3: t.floats(4, 16), 4: t.floats(4, 8, 16, scale=0.3), 5: t.floats(4, 8)}
    for kind in ("relu", "gelu", "silu", "identity"):
        t.add(f"moe_{kind}", "MoE", {0: rows, 1: router}, layers, k=2, activation_type=kind, atol=1e-4)
    t.add("moe_normalized", "MoE", {0: rows, 1: router}, layers, k=2, activation_type="silu", normalize_routing_weights=1, atol=1e-4)
    halves = {**layers, 4: t.floats(4, 8, 8, scale=0.3)}
    t.add("moe_swiglu", "MoE", {0: rows, 1: router}, halves, k=2, activation_type="swiglu", swiglu_fusion=1, activation_alpha=1.7, activation_beta=1.0, atol=1e-4)  # fmt: skip
    codes = {2: t.codes(U8, 4, 16, 16), 3: t.scales(4, 16), 4: t.floats(4, 16), 5: t.codes(U8, 4, 32, 8), 6: t.scales(4, 32), 7: t.floats(4, 32)}
    wide, zeros = t.floats(6, 32), {11: t.codes(U8, 4, 8), 12: t.codes(U8, 4, 16)}
    for kind, more in (("relu", {}), ("silu", {"normalize_routing_weights": 1})):
        t.add(f"qmoe_4_{kind}", "QMoE", {0: wide, 1: router}, codes, k=2, activation_type=kind, atol=1e-4, **more)
    t.add("qmoe_4_zeros", "QMoE", {0: wide, 1: router}, codes | zeros, k=1, activation_type="gelu", atol=1e-4)
    eight = {2: t.codes(U8, 4, 16, 32), 3: t.scales(4, 16), 5: t.codes(U8, 4, 32, 16), 6: t.scales(4, 32)}
    t.add("qmoe_8", "QMoE", {0: wide, 1: router}, eight, k=2, expert_weight_bits=8, activation_type="silu", atol=1e-4)
    blocked = {2: t.codes(U8, 4, 16, 16), 3: t.scales(4, 16, 2), 5: t.codes(U8, 4, 32, 8), 6: t.scales(4, 32, 1)}
    t.add("qmoe_4_blocks", "QMoE", {0: wide, 1: router}, blocked, k=2, block_size=16, activation_type="silu", atol=1e-4)
    regions = np.array([[0, 0, 0, 7, 5], [1, 2.4, 1.5, 9, 8], [1, -3, -2, 3, 3], [0, 6, 5, 5, 4], [1, 12, 9, 30, 30]], F)
    for scale in (1.0, 0.7):
        t.add(f"max_roi_pool_{scale}", "MaxRoiPool", {0: t.floats(2, 3, 7, 11), 1: regions}, domain="", pooled_shape=[3, 2], spatial_scale=scale)


GROUPS = [activations, products, norms, attention, grouped, blocks, codes, lstm, others]


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("target/onnx-nodes"))
    parser.add_argument("--only", default="", help="only tests with this text in their name")
    parser.add_argument("--keep-going", action="store_true", help="leave out tests that ONNX Runtime cannot run")
    args = parser.parse_args()
    ort.set_default_logger_severity(4)
    tests = Tests(args.only)
    if args.keep_going:
        plain = tests.add

        def add(name, *rest, **named):
            try:
                plain(name, *rest, **named)
            except Exception as error:  # noqa: BLE001
                print(f"{name}: {str(error).splitlines()[0][:200]}")

        tests.add = add
    for number, group in enumerate(GROUPS):
        tests.rng = np.random.default_rng(number)
        group(tests)
    folder = args.out / "runtime"
    shutil.rmtree(folder, ignore_errors=True)
    lines = []
    for name, model, inputs, outputs, atol in tests.tests:
        data = folder / name / "test_data_set_0"
        data.mkdir(parents=True)
        (folder / name / "model.onnx").write_bytes(model.SerializeToString())
        for kind, values, infos in [("input", inputs, model.graph.input), ("output", outputs, model.graph.output)]:
            for i, (value, info) in enumerate(zip(values, infos)):
                (data / f"{kind}_{i}.pb").write_bytes(numpy_helper.from_array(value, info.name).SerializeToString())
        lines.append(f"{name}\t0.001\t{atol}\n")
    (folder / "tests.tsv").write_text("".join(sorted(lines)))
    print(f"{folder}: {len(lines)} tests")


if __name__ == "__main__":
    main()
