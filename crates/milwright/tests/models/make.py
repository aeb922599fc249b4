#!/usr/bin/env python3
"""Makes the models of this folder that are not ML programs, and what they are to give.

    python make.py      # needs coremltools 9.0, NumPy, PyTorch, scikit-learn before 1.8

coremltools builds the models; NumPy, PyTorch and scikit-learn compute the results. Each case is NAME.mlmodel, and
NAME.json: a list of predictions, with inputs and outputs as shape and elements in row-major order.
"""

import json
from pathlib import Path

import coremltools as ct
import numpy as np
import torch
from coremltools.models import datatypes
from coremltools.models.neural_network import NeuralNetworkBuilder, flexible_shape_utils, quantization_utils

HERE = Path(__file__).parent
RNG = np.random.default_rng(1)
CASES = {}


def case(make):
    CASES[make.__name__] = make
    return make


def normal(*shape):
    return RNG.standard_normal(shape).astype(np.float32)


def network(inputs, outputs, **options):
    """A builder; inputs are shapes by name, and are used as they are."""
    options = {"disable_rank5_shape_mapping": True, **options}
    features = [(name, datatypes.Array(*shape)) for name, shape in inputs.items()]
    return NeuralNetworkBuilder(features, [(name, None) for name in outputs], **options)


@case
def convolution():
    """Groups, strides, dilation, uneven padding; then a transposed one; then pools of both kinds."""
    w, b, x = normal(6, 2, 3, 3), normal(6), normal(1, 4, 9, 8)
    v = normal(6, 2, 3, 3)
    builder = network({"x": x.shape}, ["conv", "deconv", "average", "last"])
    builder.add_convolution("conv", 2, 6, 3, 3, 2, 1, "valid", 2, w.transpose(2, 3, 1, 0), b, True, input_name="x",
                            output_name="conv", dilation_factors=[1, 2], padding_top=1, padding_left=2)
    builder.add_convolution("deconv", 6, 4, 3, 3, 2, 2, "valid", 2, v.transpose(2, 3, 0, 1), None, False, True,
                            input_name="conv", output_name="deconv", padding_top=1, padding_bottom=1,
                            padding_left=1, padding_right=1)
    builder.add_pooling("average", 3, 2, 2, 2, "AVERAGE", "VALID", "x", "average", exclude_pad_area=False,
                        padding_top=1, padding_bottom=1)
    builder.add_pooling("last", 2, 2, 2, 2, "MAX", "INCLUDE_LAST_PIXEL", "x", "last")
    t = torch.from_numpy
    conv = torch.nn.functional.conv2d(torch.nn.functional.pad(t(x), (2, 0, 1, 0)), t(w), t(b), (2, 1), 0, (1, 2), 2)
    deconv = torch.nn.functional.conv_transpose2d(conv, t(v), None, 2, 1, 0, 2)
    average = torch.nn.functional.avg_pool2d(torch.nn.functional.pad(t(x), (0, 0, 1, 1)), (3, 2), 2)
    last = torch.nn.functional.max_pool2d(t(x), 2, 2, ceil_mode=True)
    return builder.spec, [({"x": x}, {"conv": conv, "deconv": deconv, "average": average, "last": last})]


@case
def normalization():
    x, gamma, beta, mean = normal(2, 3, 4, 5), normal(3), normal(3), normal(3)
    variance = RNG.uniform(0.5, 2, 3).astype(np.float32)
    builder = network({"x": x.shape}, ["batch", "instance", "mvn", "l2", "softmax", "layer"])
    builder.add_batchnorm("batch", 3, gamma, beta, mean, variance, "x", "batch", epsilon=1e-3)
    builder.add_batchnorm("instance", 3, gamma, beta, input_name="x", output_name="instance", compute_mean_var=True,
                          instance_normalization=True)
    builder.add_mvn("mvn", "x", "mvn", across_channels=True, normalize_variance=True, epsilon=1e-4)
    builder.add_l2_normalize("l2", "x", "l2")
    builder.add_softmax("softmax", "x", "softmax")
    g, b = normal(4, 5), normal(4, 5)
    builder.add_layer_normalization("layer", "x", "layer", [4, 5], g, b, eps=1e-3)
    c = (1, 3, 1, 1)
    xd = x.astype(np.float64)

    def centred(axes, eps):
        d = xd - xd.mean(axes, keepdims=True)
        return d / np.sqrt((d**2).mean(axes, keepdims=True) + eps)

    batch = (xd - mean.reshape(c)) / np.sqrt(variance.reshape(c) + 1e-3) * gamma.reshape(c) + beta.reshape(c)
    instance = centred((2, 3), 1e-5) * gamma.reshape(c) + beta.reshape(c)
    e = np.exp(xd - xd.max(1, keepdims=True))
    outputs = {
        "batch": batch,
        "instance": instance,
        "mvn": centred((1, 2, 3), 1e-4),
        "l2": xd / np.sqrt((xd**2).sum((1, 2, 3), keepdims=True) + 1e-6),
        "softmax": e / e.sum(1, keepdims=True),
        "layer": centred((2, 3), 1e-3) * g + b,
    }
    return builder.spec, [({"x": x}, outputs)]


@case
def recurrent():
    """A bidirectional LSTM as PyTorch has it, and a GRU whose reset gate comes before the product."""
    steps, batch, size, hidden = 4, 2, 3, 5
    x = normal(steps, batch, size, 1, 1)
    lstm = torch.nn.LSTM(size, hidden, bidirectional=True)
    weights = {name: p.detach().numpy() for name, p in lstm.named_parameters()}

    def gates(name):
        i, f, z, o = np.split(weights[name], 4)
        return [i, f, o, z]

    builder = network({"x": x.shape}, ["lstm", "h", "c", "h_back", "c_back", "gru"])
    bias = [a + b for a, b in zip(gates("bias_ih_l0"), gates("bias_hh_l0"))]
    back = [a + b for a, b in zip(gates("bias_ih_l0_reverse"), gates("bias_hh_l0_reverse"))]
    zeros = np.zeros((1, batch, hidden, 1, 1))
    for name in ("h0", "c0", "h1", "c1"):
        builder.add_load_constant_nd(name, name, zeros, zeros.shape)
    builder.add_bidirlstm("lstm", gates("weight_hh_l0"), gates("weight_ih_l0"), bias, gates("weight_hh_l0_reverse"),
                          gates("weight_ih_l0_reverse"), back, hidden, size, ["x", "h0", "c0", "h1", "c1"],
                          ["lstm", "h", "c", "h_back", "c_back"], output_all=True)
    w, r, b = [normal(hidden, size) for _ in "zro"], [normal(hidden, hidden) for _ in "zro"], list(normal(3, hidden))
    builder.add_gru("gru", r, w, b, hidden, size, ["x", "h0"], ["gru"], output_all=True)
    y, (h, c) = lstm(torch.from_numpy(x[..., 0, 0]))
    state, states = np.zeros((batch, hidden)), []
    sigmoid = lambda v: np.clip(0.2 * v + 0.5, 0, 1)  # the hard one, which is the builder's choice
    for step in x[..., 0, 0].astype(np.float64):
        z = sigmoid(step @ w[0].T + state @ r[0].T + b[0])
        reset = sigmoid(step @ w[1].T + state @ r[1].T + b[1])
        o = np.tanh(step @ w[2].T + (state * reset) @ r[2].T + b[2])
        state = (1 - z) * o + z * state
        states.append(state)
    five = lambda v: v.detach().numpy()[None, ..., None, None]
    outputs = {
        "lstm": y.detach().numpy()[..., None, None],
        "h": five(h[0]),
        "c": five(c[0]),
        "h_back": five(h[1]),
        "c_back": five(c[1]),
        "gru": np.stack(states)[..., None, None],
    }
    return builder.spec, [({"x": x}, outputs)]


@case
def resizing():
    x = normal(1, 2, 3, 4)
    outputs = ["nearest", "corners", "half", "plain", "reflected", "shuffled"]
    builder = network({"x": x.shape}, outputs)
    builder.add_upsample("nearest", 2, 3, "x", "nearest", "NN")
    builder.add_upsample("corners", 2, 3, "x", "corners", "BILINEAR", "ALIGN_CORNERS_TRUE")
    builder.add_upsample("half", 2, 3, "x", "half", "BILINEAR", "ALIGN_CORNERS_FALSE")
    builder.add_resize_bilinear("plain", "x", "plain", 6, 8, "UPSAMPLE_MODE")
    builder.add_padding("reflected", 1, 2, 2, 1, input_name="x", output_name="reflected", padding_type="reflection")
    builder.add_slice("even", "x", "even", "height", 0, 2, 1)
    builder.add_reorganize_data("shuffled", "even", "shuffled", "SPACE_TO_DEPTH", 2)
    t = torch.from_numpy(x)
    up = torch.nn.functional.interpolate
    rows = np.minimum(np.arange(6) * 3 / 6, 2)
    columns = np.minimum(np.arange(8) * 4 / 8, 3)

    def at(values, places, axis):
        low = np.floor(places).astype(int)
        high = np.minimum(low + 1, values.shape[axis] - 1)
        part = (places - low).reshape([-1 if a == axis else 1 for a in range(values.ndim)])
        return values.take(low, axis) * (1 - part) + values.take(high, axis) * part

    even = x[:, :, :2]
    blocks = even.reshape(1, 2, 1, 2, 2, 2).transpose(0, 3, 5, 1, 2, 4).reshape(1, 8, 1, 2)
    return builder.spec, [({"x": x}, {
        "nearest": up(t, scale_factor=(2, 3)),
        "corners": up(t, scale_factor=(2, 3), mode="bilinear", align_corners=True),
        "half": up(t, scale_factor=(2, 3), mode="bilinear", align_corners=False),
        "plain": at(at(x.astype(np.float64), rows, 2), columns, 3),
        "reflected": np.pad(x, ((0, 0), (0, 0), (2, 1), (1, 2)), "reflect"),
        "shuffled": blocks,
    })]


@case
def quantized():
    """Weights of 3 bits in a lookup table, and of 4 bits with a scale for each row."""
    x = normal(2, 6)
    specs, results = [], []
    for bits, mode in ((3, "linear_lut"), (4, "linear")):
        builder = network({"x": x.shape}, ["y"])
        builder.add_inner_product("y", normal(4, 6), normal(4), 6, 4, True, "x", "y")
        model = ct.models.MLModel(builder.spec, skip_model_load=True)
        spec = quantization_utils.quantize_weights(model, bits, mode).get_spec()
        p = spec.neuralNetwork.layers[0].innerProduct
        raw = np.frombuffer(p.weights.rawValue, np.uint8)
        codes = np.unpackbits(raw)[: 24 * bits].reshape(24, bits) @ (2 ** np.arange(bits)[::-1])
        q = p.weights.quantization
        if mode == "linear":
            scale, bias = np.array(q.linearQuantization.scale), np.array(q.linearQuantization.bias)
            w = codes.reshape(4, 6) * scale.reshape(-1, 1) + bias.reshape(-1, 1)
        else:
            w = np.array(q.lookupTableQuantization.floatValue)[codes].reshape(4, 6)
        specs.append(spec)
        results.append(x @ w.T + values(p.bias, 4))
    both = network({"x": x.shape}, ["table", "scaled"]).spec
    for spec, name in zip(specs, ("table", "scaled")):
        layer = both.neuralNetwork.layers.add()
        layer.CopyFrom(spec.neuralNetwork.layers[0])
        layer.name = layer.output[0] = name
    both.specificationVersion = max(s.specificationVersion for s in specs)
    return both, [({"x": x}, {"table": results[0], "scaled": results[1]})]


def values(weights, count):
    """The numbers in WeightParams, plain or quantized."""
    if weights.floatValue:
        return np.array(weights.floatValue)
    bits, q = weights.quantization.numberOfBits, weights.quantization
    bit = np.unpackbits(np.frombuffer(weights.rawValue, np.uint8))
    codes = bit[: count * bits].reshape(count, bits) @ (2 ** np.arange(bits)[::-1])
    if q.WhichOneof("QuantizationType") == "linearQuantization":
        return codes * np.array(q.linearQuantization.scale) + np.array(q.linearQuantization.bias)
    return np.array(q.lookupTableQuantization.floatValue)[codes]


@case
def control_flow():
    """A loop that doubles until a limit, which it leaves at 80, and a branch on whether it took more than two turns."""
    builder = network({"x": (1,)}, ["y", "turns", "z"])
    builder.add_copy("y", "x", "y")
    builder.add_fill_static("turns", "turns", [1], 0.0)
    loop = builder.add_loop("loop", max_iterations=5)
    test = NeuralNetworkBuilder(nn_spec=loop.loop.conditionNetwork, disable_rank5_shape_mapping=True)
    test.add_less_than("small", ["y"], "small", alpha=100.0)
    loop.loop.conditionVar = "small"
    body = NeuralNetworkBuilder(nn_spec=loop.loop.bodyNetwork, disable_rank5_shape_mapping=True)
    body.add_elementwise("double", ["y"], "double", "MULTIPLY", alpha=2.0)
    body.add_copy("again", "double", "y")
    body.add_greater_than("large", ["y"], "large", alpha=79.0, use_greater_than_equal=False)
    out = body.add_branch("out", "large")
    NeuralNetworkBuilder(nn_spec=out.branch.ifBranch, disable_rank5_shape_mapping=True).add_loop_break("break")
    body.add_elementwise("one_more", ["turns"], "one_more", "ADD", alpha=1.0)
    body.add_copy("count", "one_more", "turns")
    builder.add_greater_than("long", ["turns"], "long", alpha=2.0)
    branch = builder.add_branch("branch", "long")
    for net, function in ((branch.branch.ifBranch, "MULTIPLY"), (branch.branch.elseBranch, "ADD")):
        inner = NeuralNetworkBuilder(nn_spec=net, disable_rank5_shape_mapping=True)
        inner.add_elementwise("z", ["y"], "z", function, alpha=-1.0)

    def run(x):
        y, turns = x, 0
        while y < 100 and turns < 5:
            y = 2 * y
            if y > 79:
                break
            turns += 1
        return {"x": np.array([x])}, {"y": [y], "turns": [turns], "z": [-y if turns > 2 else y - 1]}

    return builder.spec, [run(x) for x in (1.0, 40.0, 60.0, 200.0)]


@case
def classifier():
    """From an image with a scaler, in the five dimensions of old networks."""
    builder = NeuralNetworkBuilder([("image", datatypes.Array(3, 2, 2))], [("probs", None)], mode="classifier")
    w, b = normal(3, 12), normal(3)
    builder.add_flatten("flat", 0, "image", "flat")
    builder.add_inner_product("scores", w, b, 12, 3, True, "flat", "scores")
    builder.add_softmax("probs", "scores", "probs")
    builder.set_class_labels(["cat", "dog", "eel"], prediction_blob="probs")
    builder.set_pre_processing_parameters(image_input_names=["image"], is_bgr=True, red_bias=-1, green_bias=-2,
                                          blue_bias=-3, image_scale=0.5)
    x = RNG.integers(0, 256, (1, 3, 2, 2)).astype(np.float32)
    scaled = 0.5 * x + np.array([-3, -2, -1]).reshape(1, 3, 1, 1)
    scores = w @ scaled.reshape(-1) + b
    p = np.exp(scores - scores.max())
    p /= p.sum()
    label = ["cat", "dog", "eel"][int(p.argmax())]
    return builder.spec, [({"image": x}, {"probs": p, "classLabel": label})]


@case
def old_sequence():
    """An old network takes the length of a sequence, and the batch, when it runs."""
    builder = NeuralNetworkBuilder([("x", datatypes.Array(3))], [("y", datatypes.Array(2))])
    w, r, b = normal(2, 3), normal(2, 2), normal(2)
    builder.add_simple_rnn("y", r, w, b, 2, 3, "TANH", ["x", "h"], ["y", "h_out"], output_all=True)
    builder.add_optionals([("h", 2)], [("h_out", 2)])

    def run(x):
        state, states = np.zeros((x.shape[1], 2)), []
        for step in x.astype(np.float64):
            state = np.tanh(step @ w.T + state @ r.T + b)
            states.append(state)
        return np.stack(states)

    one, many = normal(1, 1, 3), normal(4, 2, 3)
    return builder.spec, [
        ({"x": one[0, 0]}, {"y": run(one)[0, 0], "h_out": run(one)[0, 0]}),
        ({"x": many[..., None, None], "h": np.zeros((1, 2, 2, 1, 1), np.float32)},
         {"y": run(many)[..., None, None], "h_out": run(many)[-1:][..., None, None]}),
    ]


@case
def flexible():
    """Shapes that are computed: everything but the last dimension is flattened, then restored."""
    builder = network({"x": (2, 3, 4)}, ["y", "shape"])
    builder.add_get_shape("shape", "x", "shape")
    builder.add_slice_static("last", "shape", "last", [-1], [0], [1], [False], [True])
    builder.add_load_constant_nd("rest", "rest", np.array([-1.0]), (1,))
    builder.add_concat_nd("target", ["rest", "last"], "target", 0)
    builder.add_reshape_dynamic("flat", ["x", "target"], "flat")
    builder.add_cumsum("sums", ["flat"], "sums", axis=0)
    builder.add_reshape_dynamic("y", ["sums", "shape"], "y")
    spec = builder.spec
    flexible_shape_utils.set_multiarray_ndshape_range(spec, "x", [1, 1, 1], [5, 5, 5])

    def run(*shape):
        x = normal(*shape)
        sums = x.astype(np.float64).reshape(-1, shape[-1]).cumsum(0).reshape(shape)
        return {"x": x}, {"y": sums, "shape": np.array(shape, np.float64)}

    return spec, [run(2, 3, 4), run(1, 5, 2), run(4, 1, 1)]


@case
def regressor():
    from sklearn.linear_model import LinearRegression

    x = RNG.standard_normal((20, 3))
    model = LinearRegression().fit(x, x @ [1, -2, 3] + 0.5 + RNG.standard_normal(20))
    spec = ct.converters.sklearn.convert(model, ["a", "b", "c"], "y").get_spec()
    return spec, [(dict(zip("abc", row)), {"y": model.predict([row])[0]}) for row in x[:3]]


@case
def tree_classifier():
    from sklearn.tree import DecisionTreeClassifier

    x = RNG.standard_normal((60, 3)).astype(np.float32)
    y = np.where(x[:, 0] > 0, np.where(x[:, 1] > 0, "a", "b"), "c")
    model = DecisionTreeClassifier(max_depth=4, random_state=0).fit(x, y)
    spec = ct.converters.sklearn.convert(model, "x", "kind").get_spec()
    result = lambda row: {"kind": str(model.predict([row])[0]), "classProbability": model.predict_proba([row])[0]}
    return spec, [({"x": row.astype(np.float64)}, result(row)) for row in x[:5]]


@case
def pipeline():
    """Gaps are filled, then scaled, then normalized."""
    from sklearn.pipeline import Pipeline
    from sklearn.preprocessing import Normalizer, StandardScaler

    x = RNG.standard_normal((30, 4)) * 3 + 1
    model = Pipeline([("scale", StandardScaler()), ("unit", Normalizer("l2"))]).fit(x)
    spec = ct.converters.sklearn.convert(model, "x", "y").get_spec()
    return spec, [({"x": row}, {"y": model.transform([row])[0]}) for row in x[:3]]


def plain(value):
    if isinstance(value, str):
        return value
    array = np.asarray(value.detach() if isinstance(value, torch.Tensor) else value, np.float64)
    return {"shape": list(array.shape), "elements": [float(f"{v:.12g}") for v in array.ravel()]}


def main():
    for name, make in CASES.items():
        torch.manual_seed(0)
        spec, predictions = make()
        ct.utils.save_spec(spec, str(HERE / f"{name}.mlmodel"))
        rows = [
            {"inputs": {k: plain(v) for k, v in i.items()}, "outputs": {k: plain(v) for k, v in o.items()}}
            for i, o in predictions
        ]
        (HERE / f"{name}.json").write_text("[\n" + ",\n".join(json.dumps(row) for row in rows) + "\n]\n")


if __name__ == "__main__":
    main()
