#!/usr/bin/env python3
"""Make quantized and fused variants of float ONNX models, and compare Milwright with ONNX Runtime on each.

    python3 scripts/onnx_variants.py --milwright target/release/milwright [--only MODEL] [--variant NAME] [MODEL.onnx …]

ONNX Runtime's own tools make the variants: static quantization (QDQ and QOperator), dynamic quantization,
`MatMulNBits`, the fusions of its session at the level EXTENDED and of `onnxruntime.transformers.optimizer`. Without
models, six small ones are made here. Each variant runs in ONNX Runtime on one thread without optimizations, in
`milwright run`, and in `milwright run` after `milwright convert`. The table says for each how far the outputs are apart:

* Weights alone are quantized, or nodes are fused: at most 1e-4 of the output's largest value (3e-3 for models in fp16).
* Activations are quantized, too: sums of floats in another order may fall on the other side of a rounding step, and every
  later layer sees that. Then the distance counts in parts of what quantization itself changed: the largest
  difference between the variant and the float model, both in ONNX Runtime; at most a quarter of it.

The last column is the size of the package in parts of the variant's file: weights have to stay as small as they are.
Needs numpy, onnx, onnxruntime and sympy.
"""

import argparse
import contextlib
import io
import logging
import pathlib
import subprocess
import sys
import tempfile

import numpy as np
import onnx
import onnxruntime as ort
from check_onnx import feeds, identifier, outputs_of
from onnx import TensorProto, helper, numpy_helper
from onnxruntime import quantization as q
from onnxruntime.quantization.matmul_bnb4_quantizer import MatMulBnb4Quantizer
from onnxruntime.quantization.matmul_nbits_quantizer import MatMulNBitsQuantizer, QuantFormat
from onnxruntime.quantization.shape_inference import quant_pre_process

# What part of the error of quantization a different rounding may be.
ROUNDING = 0.25


class Calibration(q.CalibrationDataReader):
    """A few feeds, from which the ranges of activations are taken."""

    def __init__(self, path, count=4):
        session = session_of(path)
        self.feeds = iter([feeds(path, session, i % 2) for i in range(count)])

    def get_next(self):
        return next(self.feeds, None)


def static(form, weights, activations, channels=False, **extra):
    def make(source, target):
        q.quantize_static(
            source,
            target,
            Calibration(source),
            quant_format=form,
            weight_type=weights,
            activation_type=activations,
            per_channel=channels,
            extra_options=extra,
        )

    return make


def dynamic(weights, channels=False):
    return lambda source, target: q.quantize_dynamic(source, target, weight_type=weights, per_channel=channels)


def blocks(bits, symmetric, form=QuantFormat.QOperator, size=32, level=None):
    def make(source, target):
        maker = MatMulNBitsQuantizer(
            onnx.load(source),
            bits=bits,
            block_size=size,
            is_symmetric=symmetric,
            accuracy_level=level,
            quant_format=form,
        )
        maker.process()
        maker.model.save_model_to_file(str(target))

    return make


def bnb4(kind):
    def make(source, target):
        maker = MatMulBnb4Quantizer(onnx.load(source), kind, 64)
        maker.process()
        maker.model.save_model_to_file(str(target))

    return make


def fused(level):
    def make(source, target):
        options = ort.SessionOptions()
        options.graph_optimization_level = level
        options.optimized_model_filepath = str(target)
        ort.InferenceSession(str(source), options, providers=["CPUExecutionProvider"])

    return make


def transformer(half=False):
    def make(source, target):
        from onnxruntime.transformers import optimizer

        made = optimizer.optimize_model(str(source), model_type="bert", num_heads=0, hidden_size=0, opt_level=0)
        if half:
            made.convert_float_to_float16()
        made.save_model_to_file(str(target))

    return make


def then(*makers):
    """One after the other."""

    def make(source, target):
        steps = [source, *[target.with_suffix(f".{i}.onnx") for i in range(len(makers) - 1)], target]
        for maker, before, after in zip(makers, steps, steps[1:]):
            maker(before, after)

    return make


QDQ, OPS = q.QuantFormat.QDQ, q.QuantFormat.QOperator
U8, S8, U16, S16, S4, U4 = (
    q.QuantType.QUInt8, q.QuantType.QInt8, q.QuantType.QUInt16, q.QuantType.QInt16, q.QuantType.QInt4, q.QuantType.QUInt4,
)  # fmt: skip
EXTENDED = ort.GraphOptimizationLevel.ORT_ENABLE_EXTENDED
# Name, how it is made, whether activations are quantized.
VARIANTS = [
    ("qdq-u8", static(QDQ, U8, U8), True),
    ("qdq-s8", static(QDQ, S8, S8), True),
    ("qdq-s8-channels", static(QDQ, S8, U8, True), True),
    ("qdq-symmetric", static(QDQ, S8, S8, ActivationSymmetric=True, WeightSymmetric=True), True),
    ("qdq-u16", static(QDQ, S8, U16), True),
    ("qdq-s16", static(QDQ, S16, S16), True),
    ("qdq-s4", static(QDQ, S4, U8), True),
    ("qdq-u4-channels", static(QDQ, U4, U16, True), True),
    ("qdq-tensors", static(QDQ, S8, U8, DedicatedQDQPair=True, AddQDQPairToWeight=True), True),
    ("operators-u8", static(OPS, U8, U8), True),
    ("operators-s8", static(OPS, S8, S8), True),
    ("operators-s8-channels", static(OPS, S8, U8, True), True),
    ("dynamic-u8", dynamic(U8), True),
    ("dynamic-s8", dynamic(S8), True),
    ("dynamic-s8-channels", dynamic(S8, True), True),
    ("blocks-4", blocks(4, False), False),
    ("blocks-4-symmetric", blocks(4, True, size=16), False),
    ("blocks-4-int8", blocks(4, True, level=4), True),
    ("blocks-8", blocks(8, False), False),
    ("blocks-2", blocks(2, False), False),
    ("blocks-4-qdq", blocks(4, False, QuantFormat.QDQ), False),
    ("blocks-8-qdq", blocks(8, True, QuantFormat.QDQ), False),
    ("nf4", bnb4(MatMulBnb4Quantizer.NF4), False),
    ("fp4", bnb4(MatMulBnb4Quantizer.FP4), False),
    ("extended", fused(EXTENDED), False),
    ("qdq-u8-extended", then(static(QDQ, U8, U8), fused(EXTENDED)), True),
    ("qdq-s8-extended", then(static(QDQ, S8, U8, True), fused(EXTENDED)), True),
    ("operators-extended", then(static(OPS, U8, U8), fused(EXTENDED)), True),
    ("dynamic-extended", then(dynamic(S8), fused(EXTENDED)), True),
    ("blocks-4-qdq-extended", then(blocks(4, False, QuantFormat.QDQ), fused(EXTENDED)), True),
    ("transformer", transformer(), False),
    ("transformer-fp16", transformer(half=True), False),
    ("transformer-dynamic", then(transformer(), dynamic(S8)), True),
    ("transformer-qdq", then(transformer(), static(QDQ, S8, U8)), True),
    ("transformer-blocks", then(transformer(), blocks(4, True)), False),
]


# The models that are made here.


class Graph:
    """A graph under construction, with weights from one generator."""

    def __init__(self, seed):
        self.rng = np.random.default_rng(seed)
        self.nodes, self.weights = [], []

    def weight(self, *shape, scale=None):
        scale = scale or 1.0 / np.sqrt(np.prod(shape[1:]) if len(shape) > 2 else shape[0])
        return self.constant((self.rng.standard_normal(shape) * scale).astype(np.float32))

    def constant(self, value):
        name = f"w{len(self.weights)}"
        self.weights.append(numpy_helper.from_array(np.asarray(value), name))
        return name

    def add(self, op, *inputs, **attributes):
        name = f"v{len(self.nodes)}"
        self.nodes.append(helper.make_node(op, list(inputs), [name], name=f"n{len(self.nodes)}", **attributes))
        return name

    def model(self, name, inputs, outputs, path):
        def info(name, kind, shape):
            return helper.make_tensor_value_info(name, kind, shape)

        graph = helper.make_graph(self.nodes, name, [info(*i) for i in inputs], [info(*o) for o in outputs], self.weights)
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
        onnx.checker.check_model(model, full_check=True)
        onnx.save(onnx.shape_inference.infer_shapes(model), path)


def perceptron(path):
    g = Graph(1)
    x = "x"
    for width_in, width in [(96, 200), (200, 100), (100, 72)]:
        x = g.add("Gemm", x, g.weight(width_in, width), g.weight(width, scale=0.1))
        x = g.add("Relu", x)
    y = g.add("MatMul", x, g.weight(72, 40))
    y = g.add("Softmax", y, axis=-1)
    g.model("perceptron", [("x", TensorProto.FLOAT, ["batch", 96])], [(y, TensorProto.FLOAT, ["batch", 40])], path)


def convolutions(path):
    g = Graph(2)
    x = g.add("Conv", "image", g.weight(16, 3, 3, 3), g.weight(16, scale=0.1), pads=[1] * 4, strides=[2, 2])
    x = g.add("Relu", x)
    skip = x
    x = g.add("Conv", x, g.weight(16, 1, 3, 3), g.weight(16, scale=0.1), pads=[1] * 4, group=16)
    x = g.add("Clip", x, g.constant(np.float32(0)), g.constant(np.float32(6)))
    x = g.add("Conv", x, g.weight(16, 16, 1, 1), g.weight(16, scale=0.1))
    x = g.add("Add", x, skip)
    x = g.add("MaxPool", x, kernel_shape=[2, 2], strides=[2, 2])
    a = g.add("Conv", x, g.weight(24, 16, 3, 3), g.weight(24, scale=0.1), pads=[1] * 4)
    a = g.add("LeakyRelu", a, alpha=0.1)
    b = g.add("Conv", x, g.weight(24, 16, 1, 1), g.weight(24, scale=0.1))
    b = g.add("Sigmoid", b)
    x = g.add("Concat", a, b, axis=1)
    x = g.add("Conv", x, g.weight(48, 48, 3, 3), g.weight(48, scale=0.1), pads=[1] * 4)
    x = g.add("Mul", x, x)
    x = g.add("AveragePool", x, kernel_shape=[2, 2], strides=[2, 2])
    x = g.add("GlobalAveragePool", x)
    x = g.add("Flatten", x)
    y = g.add("Gemm", x, g.weight(10, 48), g.weight(10, scale=0.1), transB=1)
    shape = ["batch", 3, 32, 32]
    g.model("convolutions", [("image", TensorProto.FLOAT, shape)], [(y, TensorProto.FLOAT, ["batch", 10])], path)


def segmenter(path):
    """Goes down and up again, with a transposed convolution and a resize."""
    g = Graph(3)
    a = g.add("Conv", "image", g.weight(24, 3, 3, 3), g.weight(24, scale=0.1), pads=[1] * 4)
    a = g.add("Tanh", a)
    b = g.add("Conv", a, g.weight(48, 24, 3, 3), g.weight(48, scale=0.1), pads=[1] * 4, strides=[2, 2])
    b = g.add("HardSwish", b)
    c = g.add("ConvTranspose", b, g.weight(48, 24, 2, 2), g.weight(24, scale=0.1), strides=[2, 2])
    c = g.add("Add", c, a)
    scales = g.constant(np.array([1, 1, 2, 2], np.float32))
    d = g.add("Resize", c, "", scales, mode="nearest", coordinate_transformation_mode="asymmetric", nearest_mode="floor")
    e = g.add("Conv", d, g.weight(4, 24, 3, 3), g.weight(4, scale=0.1), pads=[1] * 4)
    y = g.add("Softmax", e, axis=1)
    shape = ["batch", 3, 16, 24]
    g.model("segmenter", [("image", TensorProto.FLOAT, shape)], [(y, TensorProto.FLOAT, ["batch", 4, 32, 48])], path)


def encoder(path, layers=2, width=64, heads=4, words=120):
    """A BERT: embeddings, masked attention, erf Gelu. Written as exporters write it, so that fusions find it."""
    g = Graph(4)
    size = width // heads

    def norm(x):
        mean = g.add("ReduceMean", x, axes=[-1], keepdims=1)
        centered = g.add("Sub", x, mean)
        square = g.add("Pow", centered, g.constant(np.float32(2)))
        variance = g.add("ReduceMean", square, axes=[-1], keepdims=1)
        root = g.add("Sqrt", g.add("Add", variance, g.constant(np.float32(1e-12))))
        scaled = g.add("Mul", g.add("Div", centered, root), g.weight(width, scale=1.0))
        return g.add("Add", scaled, g.weight(width, scale=0.1))

    def dense(x, rows, columns):
        return g.add("Add", g.weight(columns, scale=0.1), g.add("MatMul", x, g.weight(rows, columns)))

    word = g.add("Gather", g.weight(words, width, scale=1.0), "input_ids")
    kind = g.add("Gather", g.weight(2, width, scale=1.0), "token_type_ids")
    x = g.add("Add", word, kind)
    length = g.add("Gather", g.add("Shape", "input_ids"), g.constant(np.int64(1)), axis=0)
    ends = g.add("Unsqueeze", length, g.constant(np.array([0])))
    places = g.constant(np.arange(64)[None])
    places = g.add("Slice", places, g.constant(np.array([0])), ends, g.constant(np.array([1])))
    x = g.add("Add", x, g.add("Gather", g.weight(64, width, scale=1.0), places))
    x = norm(x)
    mask = g.add("Cast", g.add("Unsqueeze", "attention_mask", g.constant(np.array([1, 2]))), to=TensorProto.FLOAT)
    mask = g.add("Mul", g.add("Sub", g.constant(np.float32(1)), mask), g.constant(np.float32(-10000)))
    for _ in range(layers):
        q, k, v = (dense(x, width, width) for _ in range(3))
        shape = g.constant(np.array([0, 0, heads, size]))
        q = g.add("Transpose", g.add("Reshape", q, shape), perm=[0, 2, 1, 3])
        k = g.add("Transpose", g.add("Reshape", k, shape), perm=[0, 2, 3, 1])
        v = g.add("Transpose", g.add("Reshape", v, shape), perm=[0, 2, 1, 3])
        scores = g.add("Div", g.add("MatMul", q, k), g.constant(np.float32(size**0.5)))
        probabilities = g.add("Softmax", g.add("Add", scores, mask), axis=-1)
        context = g.add("Transpose", g.add("MatMul", probabilities, v), perm=[0, 2, 1, 3])
        context = g.add("Reshape", context, g.constant(np.array([0, 0, width])))
        x = norm(g.add("Add", dense(context, width, width), x))
        inner = dense(x, width, 2 * width)
        erf = g.add("Erf", g.add("Div", inner, g.constant(np.float32(2**0.5))))
        gelu = g.add("Mul", inner, g.add("Add", erf, g.constant(np.float32(1))))
        gelu = g.add("Mul", gelu, g.constant(np.float32(0.5)))
        x = norm(g.add("Add", dense(gelu, 2 * width, width), x))
    ids = [(name, TensorProto.INT64, ["batch", "seq"]) for name in ("input_ids", "attention_mask", "token_type_ids")]
    g.model("encoder", ids, [(x, TensorProto.FLOAT, ["batch", "seq", width])], path)


def decoder(path, width=64, heads=4, words=96):
    """A causal block with the tanh Gelu, gates, and a tied head."""
    g = Graph(5)
    size = width // heads
    table = g.weight(words, width, scale=0.5)
    x = g.add("Gather", table, "tokens")
    h = g.add("LayerNormalization", x, g.weight(width, scale=1.0), g.weight(width, scale=0.1), epsilon=1e-5)
    shape = g.constant(np.array([0, 0, heads, size]))
    q, k, v = (g.add("Reshape", g.add("MatMul", h, g.weight(width, width)), shape) for _ in range(3))
    q = g.add("Transpose", q, perm=[0, 2, 1, 3])
    k = g.add("Transpose", k, perm=[0, 2, 3, 1])
    v = g.add("Transpose", v, perm=[0, 2, 1, 3])
    scores = g.add("Mul", g.add("MatMul", q, k), g.constant(np.float32(size**-0.5)))
    length = g.add("Slice", g.add("Shape", "tokens"), g.constant(np.array([1])), g.constant(np.array([2])))
    square = g.add("ConstantOfShape", g.add("Concat", length, length, axis=0), value=numpy_helper.from_array(np.array([-1e9], np.float32)))
    causal = g.add("Trilu", square, g.constant(np.int64(1)), upper=1)
    probabilities = g.add("Softmax", g.add("Add", scores, causal), axis=-1)
    context = g.add("Transpose", g.add("MatMul", probabilities, v), perm=[0, 2, 1, 3])
    context = g.add("Reshape", context, g.constant(np.array([0, 0, width])))
    x = g.add("Add", x, g.add("MatMul", context, g.weight(width, width)))
    h = g.add("LayerNormalization", x, g.weight(width, scale=1.0), g.weight(width, scale=0.1), epsilon=1e-5)
    a = g.add("Add", g.add("MatMul", h, g.weight(width, 96)), g.weight(96, scale=0.1))
    cube = g.add("Pow", a, g.constant(np.float32(3)))
    inner = g.add("Add", a, g.add("Mul", cube, g.constant(np.float32(0.044715))))
    tanh = g.add("Tanh", g.add("Mul", inner, g.constant(np.float32((2 / np.pi) ** 0.5))))
    gelu = g.add("Mul", g.add("Mul", a, g.constant(np.float32(0.5))), g.add("Add", tanh, g.constant(np.float32(1))))
    gate = g.add("MatMul", h, g.weight(width, 96))
    gate = g.add("Mul", gate, g.add("Sigmoid", gate))
    x = g.add("Add", x, g.add("MatMul", g.add("Mul", gelu, gate), g.weight(96, width)))
    y = g.add("MatMul", x, g.add("Transpose", table, perm=[1, 0]))
    tokens = ("tokens", TensorProto.INT64, ["batch", "seq"])
    g.model("decoder", [tokens], [(y, TensorProto.FLOAT, ["batch", "seq", words])], path)


def recurrent(path, width=40, hidden=48):
    g = Graph(6)
    x = g.add("Conv", "sound", g.weight(width, 1, 5), g.weight(width, scale=0.1), pads=[2, 2], strides=[2])
    x = g.add("Transpose", g.add("Relu", x), perm=[2, 0, 1])
    weights = [g.weight(2, 4 * hidden, width, scale=0.2), g.weight(2, 4 * hidden, hidden, scale=0.2)]
    x = g.add("LSTM", x, *weights, g.weight(2, 8 * hidden, scale=0.1), hidden_size=hidden, direction="bidirectional")
    x = g.add("Transpose", x, perm=[2, 0, 1, 3])
    x = g.add("Reshape", x, g.constant(np.array([0, 0, 2 * hidden])))
    y = g.add("Add", g.add("MatMul", x, g.weight(2 * hidden, 30)), g.weight(30, scale=0.1))
    y = g.add("LogSoftmax", y, axis=-1)
    g.model("recurrent", [("sound", TensorProto.FLOAT, ["batch", 1, 40])], [(y, TensorProto.FLOAT, ["batch", 20, 30])], path)


MODELS = [perceptron, convolutions, segmenter, encoder, decoder, recurrent]


def session_of(path):
    options = ort.SessionOptions()
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.intra_op_num_threads = 1
    return ort.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])


def distance(found, wanted):
    """The largest difference of two outputs; infinite if their forms differ."""
    if found.shape != wanted.shape:
        return np.inf
    a, b = found.astype(np.float64), wanted.astype(np.float64)
    if (np.isnan(a) != np.isnan(b)).any():
        return np.inf
    return np.abs(a - b)[~np.isnan(a)].max(initial=0)


def steps_of(path):
    """The step of each output that is dequantized."""
    graph = onnx.load(path).graph
    made = {output: node for node in graph.node for output in node.output}
    known = {tensor.name: numpy_helper.to_array(tensor) for tensor in graph.initializer}
    steps = {}
    for output in graph.output:
        node = made.get(output.name)
        while node is not None and node.op_type in ("Flatten", "Reshape", "Identity", "Transpose"):
            node = made.get(node.input[0])
        if node is not None and node.op_type == "DequantizeLinear" and known[node.input[1]].size == 1:
            steps[output.name] = float(known[node.input[1]].item())
    return steps


def compare(milwright, source, variant, rounds, folder):
    """The worst distance in parts of what is tolerated, for the file and for the package; the package's size."""
    session, plain = session_of(variant), session_of(source)
    names = [output.name for output in session.get_outputs()]
    package = folder / "model.mlpackage"
    forms = [("direct", variant, lambda name: name), ("converted", package, identifier)]
    subprocess.run(
        [milwright, "convert", str(variant), "--output", str(package), "--precision", "float32", "--force"],
        check=True, capture_output=True, text=True,
    )  # fmt: skip
    worst, steps = {}, steps_of(variant)
    half = any(t.data_type == TensorProto.FLOAT16 for t in onnx.load(variant).graph.initializer)
    for number in range(2):
        given = feeds(source, session, number)
        wanted = dict(zip(names, session.run(None, given)))
        original = plain.run(None, given)
        for form, model, rename in forms:
            inner = folder / f"{form}-{number}"
            inner.mkdir(exist_ok=True)
            found = outputs_of(milwright, model, given, names, inner, rename)
            for name, exact in zip(names, original):
                largest = max(np.abs(wanted[name]).max(initial=0), 1e-2)
                bound = (3e-3 if half else 1e-4) * largest
                if rounds:
                    bound = max(bound, ROUNDING * distance(wanted[name], exact), 1.001 * steps.get(name, 0))
                worst[form] = max(worst.get(form, 0), distance(found[name], wanted[name]) / bound)
    size = sum(file.stat().st_size for file in package.rglob("*") if file.is_file())
    return worst["direct"], worst["converted"], size / variant.stat().st_size


def ops_of(path):
    """The ops of a model that only quantizers and optimizers write."""
    graph = onnx.load(path, load_external_data=False).graph
    plain = {"DequantizeLinear", "QuantizeLinear", "QLinearConv", "QLinearMatMul", "MatMulInteger", "ConvInteger"}
    return sorted({n.op_type for n in graph.node if n.domain or n.op_type in plain})


def check(milwright, source, name, make, rounds):
    """Prints a line; returns whether the variant agrees, or None if the tools cannot make it."""
    with tempfile.TemporaryDirectory() as temporary:
        folder = pathlib.Path(temporary)
        target = folder / "variant.onnx"
        # Tools without shapes of activations quantize less.
        prepared = folder / source.name
        try:
            with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
                try:
                    quant_pre_process(str(source), str(prepared), skip_symbolic_shape=True)
                except Exception:  # noqa: BLE001
                    onnx.save(onnx.load(source), prepared)
                make(prepared, target)
            session_of(target)
        except Exception as error:  # noqa: BLE001: the tools raise anything
            print(f"   -    {source.stem:14} {name:24} not made: {str(error).splitlines()[0][:90]}", flush=True)
            return None
        ops = ops_of(target)
        try:
            direct, converted, size = compare(milwright, source, target, rounds, folder)
        except (subprocess.CalledProcessError, RuntimeError) as error:
            text = getattr(error, "stderr", None) or str(error)
            print(f"FAIL    {source.stem:14} {name:24} {text.strip()[:700]}", flush=True)
            return False
        agrees = max(direct, converted) <= 1
        numbers = f"{direct:8.4f} {converted:8.4f} {size:6.2f}"
        print(f"{'ok  ' if agrees else 'FAIL'}    {source.stem:14} {name:24} {numbers}  {' '.join(ops)}", flush=True)
        return agrees


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--milwright", required=True)
    parser.add_argument("--only", default="", help="a part of the model's name")
    parser.add_argument("--variant", default="", help="a part of the variant's name")
    parser.add_argument("models", nargs="*", type=pathlib.Path)
    args = parser.parse_args()
    ort.set_default_logger_severity(4)
    logging.disable()
    results = []
    print("        model          variant                    direct  package   size  ops")
    with tempfile.TemporaryDirectory() as temporary:
        models = list(args.models)
        for make in [] if models else MODELS:
            models.append(pathlib.Path(temporary) / f"{make.__name__}.onnx")
            make(models[-1])
        for source in models:
            for name, make, rounds in VARIANTS:
                if args.only in source.stem and args.variant in name:
                    results.append(check(args.milwright, source, name, make, rounds))
    made = [r for r in results if r is not None]
    print(f"{sum(made)} of {len(made)} variants agree; the tools cannot make {len(results) - len(made)}")
    sys.exit(not all(made))


if __name__ == "__main__":
    main()
