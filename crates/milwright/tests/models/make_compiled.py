#!/usr/bin/env python3
"""Makes the compiled neural networks of this folder, and what they are to give.

    python make_compiled.py      # needs coremltools 9.0 (for the description's message), NumPy, PyTorch

The folders are written as docs/compiled.md describes them, without Core ML's compiler. PyTorch computes the results.
Each case is NAME.mlmodelc, and NAME.json as make.py has it.
"""

import json
import shutil
import struct
from pathlib import Path

import coremltools as ct
import numpy as np
import torch
import torch.nn.functional as F

from make import plain

HERE = Path(__file__).parent
RNG = np.random.default_rng(7)
CASES = {}
NETWORK, CLASSIFIER, PIPELINE = 500, 403, 202
FLOAT = ct.proto.FeatureTypes_pb2.ArrayFeatureType.FLOAT32
GRAY, RGB = 10, 20


def case(make):
    CASES[make.__name__] = make
    return make


def normal(*shape):
    return RNG.standard_normal(shape).astype(np.float32)


class Network:
    """A compiled network: layers, shapes, blobs."""

    def __init__(self, ranks):
        self.ranks, self.layers, self.shapes = ranks, [], {}
        self.blobs, self.transforms = [], {}

    def blob(self, array, room=0):
        """The number of a new blob. Those in between make each start at a multiple of 64 once all are there."""
        data = np.ascontiguousarray(array).tobytes() + bytes(room)
        self.blobs.append(data)
        return 2 * len(self.blobs) - 1

    def shape(self, name, *sizes):
        named = dict(zip(("w", "h", "k", "n", "seq"), reversed(sizes)))
        self.shapes[name] = {"k": 1, "w": 1, "n": 1, "h": 1, **named}
        if self.ranks:
            self.shapes[name]["_rank"] = len(sizes)

    def add(self, kind, bottom, top, *sizes, **attributes):
        """A layer; `sizes` are those of its result, or a list for each of several."""
        tops = top.split(",")
        for name, shape in zip(tops, sizes if len(tops) > 1 else [sizes]):
            self.shape(name, *shape)
        layer = {"type": kind, "name": tops[0] + "_layer", "bottom": bottom, "top": top, "debug_info": top}
        self.layers.append({**layer, "weights": {}, **attributes})

    def convolution(self, bottom, top, sizes, weight, bias=None, groups=1, stride=(1, 1), half=False, **attributes):
        c, k, h, w = weight.shape
        numbers = {"blob_weights_f16": self.blob(weight.astype(np.float16))} if half else {}
        numbers = numbers or {"blob_weights": self.blob(weight)}
        if bias is not None:
            numbers["blob_biases"] = self.blob(bias)
        fixed = {"fused_relu": 0, "fused_tanh": 0, "pad_fill_mode": 0, "pad_value": 0, "has_batch_norm": 0,
                 "n_parallel": 1, "pad_t": 0, "pad_b": 0, "pad_l": 0, "pad_r": 0, "hint_fallback_from_metal": 1}
        if stride != (1, 1):
            fixed |= {"stride_y": stride[0], "stride_x": stride[1]}
        self.add("convolution", bottom, top, *sizes, **{
            **fixed, "C": c, "K": k * groups, "Nx": w, "Ny": h, "n_groups": groups, "has_biases": int(bias is not None),
            **numbers, **attributes})

    def inner_product(self, bottom, top, sizes, weight, bias, **attributes):
        c, b = weight.shape
        # The compiler leaves room for three more of each bias.
        numbers = {"blob_biases": self.blob(bias, 3 * bias.nbytes)}
        if "weights" not in attributes:
            numbers["blob_weights"] = self.blob(weight)
        fixed = {"has_relu": 0, "has_tanh": 0, "has_prelu": 0, "has_biases": 1}
        self.add("inner_product", bottom, top, *sizes, nB=b, nC=c, **{**fixed, **numbers, **attributes})

    def pool(self, bottom, top, sizes, window, stride, **attributes):
        fixed = {"pad_fill_mode": 0, "pad_value": 0, "pad_t": 0, "pad_b": 0, "pad_l": 0, "pad_r": 0, "pad_mode": 2,
                 "top_shape_style": 0, "average_count_exclude_padding": 0}
        self.add("pool", bottom, top, *sizes, **{
            **fixed, "size_y": window[0], "size_x": window[1], "stride_y": stride[0], "stride_x": stride[1],
            **attributes})

    def elementwise(self, bottom, top, sizes, operation, alpha=1, beta=0, **attributes):
        self.add("elementwise", bottom, top, *sizes, operation=operation, alpha=alpha, beta=beta,
                 **{"fused_relu": 0, **attributes})

    def write(self, folder, outputs):
        for layer in self.layers:
            if layer["top"] in outputs:
                layer["attributes"] = {"is_output": 1}
        net = {"storage": "model.espresso.weights", "analyses": {}, "properties": {}, "format_version": 200,
               "metadata_in_weights": [], "layers": self.layers}
        if self.transforms:
            net["transform_params"] = self.transforms
        (folder / "model.espresso.net").write_text(json.dumps(net, indent=1))
        (folder / "model.espresso.shape").write_text(json.dumps({"layer_shapes": self.shapes}))
        count = 2 * len(self.blobs)
        table, data = struct.pack("<Q", count), b""
        for i, blob in enumerate(self.blobs):
            gap = -(8 + 16 * count + len(data)) % 64
            table += struct.pack("<QQQQ", 2 * i, gap, 2 * i + 1, len(blob))
            data += bytes(gap) + blob
        (folder / "model.espresso.weights").write_bytes(table + data)
        if self.transforms:
            tables = [[value] * len(self.transforms) for value in (1.0, 0.0, 1.0, 0.0, 0.0, 0.0, 0.0)]
            tables.append([transform["scale"] for transform in self.transforms.values()])
            entries = lambda table: b"".join(
                sized(name.encode()) + struct.pack("<f", value) for name, value in zip(self.transforms, table))
            (folder / "model").mkdir()
            (folder / "model/coremldata.bin").write_bytes(
                b"".join(struct.pack("<Q", len(table)) + entries(table) for table in tables))
        (folder / "neural_network_optionals").mkdir()
        (folder / "neural_network_optionals/coremldata.bin").write_bytes(bytes(40))


def sized(data):
    return struct.pack("<Q", len(data)) + data


def header(folder, code, version, description, rest=b""):
    data = struct.pack("<II20x", code, 1) + sized(b"generic") + struct.pack("<I28x", version)
    (folder / "coremldata.bin").write_bytes(data + sized(description.SerializeToString()) + rest)


def names(values):
    return struct.pack("<Q", len(values)) + b"".join(sized(v.encode()) for v in values)


def described(inputs, outputs):
    """A description; inputs and outputs are shapes by name, or width, height and colour of an image."""
    description = ct.proto.Model_pb2.ModelDescription()
    for features, found in ((description.input, inputs), (description.output, outputs)):
        for name, shape in found.items():
            feature = features.add(name=name)
            if isinstance(shape, dict):
                feature.type.imageType.width, feature.type.imageType.height = shape["width"], shape["height"]
                feature.type.imageType.colorSpace = shape["color"]
            else:
                feature.type.multiArrayType.shape.extend(shape)
                feature.type.multiArrayType.dataType = FLOAT
    return description


def classes(description, labels, name, probabilities):
    """Makes it the description of a classifier; what follows it in the header."""
    description.predictedFeatureName, description.predictedProbabilitiesName = "kind", probabilities
    scores = description.output.add(name=probabilities)
    kind = description.output.add(name="kind")
    if isinstance(labels[0], str):
        scores.type.dictionaryType.stringKeyType.SetInParent()
        kind.type.stringType.SetInParent()
        rest = struct.pack("<Q", 100) + names(labels)
    else:
        scores.type.dictionaryType.int64KeyType.SetInParent()
        kind.type.int64Type.SetInParent()
        rest = struct.pack(f"<QQ{len(labels)}q", 101, len(labels), *labels)
    return struct.pack("<Q", CLASSIFIER) + rest + sized(name.encode()) + names([name])


t = torch.from_numpy


def small_classifier(folder, labels, version=1):
    """An old network, of five dimensions: convolutions, pools, a classifier of grey images."""
    net = Network(ranks=False)
    net.shape("image", 1, 9, 11)
    net.transforms["image"] = {"scale": 0.0078125, "bias_r": -1.0, "bias_g": -1.0, "bias_b": -1.0, "bias_a": 0,
                               "center_mean": 0, "is_network_bgr": 0}
    w1, b1, w2, w3, b3 = normal(4, 1, 4, 3), normal(4), normal(6, 2, 3, 2), normal(5, 6 * 3 * 4) / 8, normal(5)
    w4, b4 = normal(3, 5), normal(3)
    # The larger part of the padding comes first.
    net.convolution("image", "conv", (4, 9, 11), w1, b1, pad_mode=4, fused_relu=1)
    net.pool("conv", "last", (4, 5, 6), (2, 2), (2, 2), avg_or_max=1, pad_mode=0, top_shape_style=2)
    net.convolution("last", "groups", (6, 3, 4), w2, None, 2, (1, 2), pad_mode=0, pad_l=2, pad_r=0, pad_t=0, pad_b=0,
                    fused_tanh=1)
    net.add("flatten", "groups", "flat", 72, 1, 1, mode=0, nd_axis=0)
    net.inner_product("flat", "hidden", (5, 1, 1), w3, b3, has_tanh=1)
    net.inner_product("hidden", "logits", (3, 1, 1), w4, b4)
    net.add("softmax", "logits", "scores", 3, 1, 1, C=2)
    net.write(folder, ["scores"])
    description = described({"image": {"width": 11, "height": 9, "color": GRAY}}, {})
    rest = classes(description, labels, "scores", "scores")
    header(folder, CLASSIFIER, version, description, rest)

    def run(image):
        x = t(image) / 128 - 1
        x = F.conv2d(F.pad(x, (1, 1, 2, 1)), t(w1), t(b1)).relu()
        x = F.max_pool2d(x, 2, 2, ceil_mode=True)
        x = F.conv2d(F.pad(x, (2, 0, 0, 0)), t(w2), None, (1, 2), 0, 1, 2).tanh()
        x = (x.reshape(1, -1) @ t(w3).T + t(b3)).tanh()
        scores = (x @ t(w4).T + t(b4)).softmax(-1)[0]
        return {"kind": labels[int(scores.argmax())], "scores": scores}

    return run


@case
def compiled_classifier(folder):
    run = small_classifier(folder, ["cat", "dog, or wolf", "Füchse"])
    images = [RNG.integers(0, 256, (1, 1, 9, 11)).astype(np.float32) for _ in range(3)]
    return [({"image": image}, run(image)) for image in images]


@case
def compiled_layers(folder):
    """A network whose tensors have ranks: every layer, and every code, that is read."""
    net = Network(ranks=True)
    x = normal(1, 8, 7, 3)
    net.shape("x", *x.shape)
    outputs = {}

    def give(name, value):
        value = t(value) if isinstance(value, np.ndarray) else value
        assert [net.shapes[name].get(k, 1) for k in ("seq", "n", "k", "h", "w")][5 - value.dim():] == list(value.shape)
        outputs[name] = value
        return value

    # Channels first: from the last dimension to the first, which of the input each is.
    net.add("transpose", "x", "image", 1, 3, 8, 7, axis_w=1, axis_h=2, axis_k=0, axis_n=3, axis_seq=4)
    image = give("image", t(x).permute(0, 3, 1, 2).contiguous())

    w, b = normal(4, 3, 4, 3), normal(4)
    half = t(w.astype(np.float16).astype(np.float32))
    net.convolution("image", "same", (1, 4, 4, 4), w, b, stride=(2, 2), half=True, pad_mode=1)
    same = give("same", F.conv2d(F.pad(image, (1, 1, 1, 1)), half, t(b), 2))
    depthwise = normal(3, 1, 3, 3)
    net.convolution("image", "dilated", (1, 3, 4, 5), depthwise, None, 3, pad_mode=0, dilation_y=2, dilation_x=1)
    give("dilated", F.conv2d(image, t(depthwise), None, 1, 0, (2, 1), 3))
    codes, scale, bias = RNG.integers(0, 256, (2, 3, 2, 2)).astype(np.uint8), normal(2) / 64, normal(2)
    numbers = {"W_U8": net.blob(codes), "per_ch_qscale": net.blob(scale), "per_ch_qbias": net.blob(bias)}
    fixed = {"fused_relu": 0, "fused_tanh": 0, "pad_fill_mode": 0, "pad_value": 0, "has_batch_norm": 0, "n_parallel": 1,
             "has_biases": 0, "pad_mode": 2}
    net.add("convolution", "image", "coded", 1, 2, 7, 6, C=2, K=3, Nx=2, Ny=2, n_groups=1, weights=numbers, **fixed)
    weight = codes.astype(np.float32) * scale.reshape(2, 1, 1, 1) + bias.reshape(2, 1, 1, 1)
    give("coded", F.conv2d(image, t(weight)))

    net.pool("image", "average", (1, 3, 5, 4), (3, 2), (2, 2), avg_or_max=0, pad_mode=0, pad_t=2, pad_b=1, pad_r=1)
    give("average", F.avg_pool2d(F.pad(image, (0, 1, 2, 1)), (3, 2), 2))
    net.pool("image", "global", (1, 3, 1, 1), (8, 7), (1, 1), avg_or_max=0, pad_mode=0, is_global=1,
             average_count_exclude_padding=1)
    give("global", image.mean((2, 3), keepdim=True))
    net.pool("image", "largest", (1, 3, 4, 3), (2, 2), (2, 2), avg_or_max=1)
    largest = give("largest", F.max_pool2d(image, 2))

    functions = {
        0: torch.relu, 1: torch.tanh, 2: lambda v: F.leaky_relu(v, 0.25), 3: torch.sigmoid, 6: lambda v: v * 0.5 - 2,
        8: lambda v: F.elu(v, 0.75), 9: lambda v: torch.where(v >= 0.125, v, 0), 10: F.softplus, 12: F.softsign,
    }
    alphas = {2: 0.25, 6: 0.5, 8: 0.75, 9: 0.125}
    for mode, function in functions.items():
        options = {"alpha": alphas[mode]} if mode in alphas else {}
        net.add("activation", "image", f"mode{mode}", 1, 3, 8, 7, mode=mode, beta=-2 if mode == 6 else 0, **options)
        give(f"mode{mode}", function(image))
    numbers = {2: lambda v: v + 3, 3: lambda v: v * 0.125, 24: torch.abs, 117: torch.floor, 118: torch.ceil}
    for operation, function in numbers.items():
        net.elementwise("image", f"op{operation}", (1, 3, 8, 7), operation, {2: 3, 3: 0.125}.get(operation, 1))
        give(f"op{operation}", function(image))
    net.elementwise("image", "clipped", (1, 3, 8, 7), 119, -0.5, 0.25)
    give("clipped", image.clamp(-0.5, 0.25))
    net.elementwise("image,global", "sum", (1, 3, 8, 7), 0, nd_mode=True, fused_relu=1)
    give("sum", (image + outputs["global"]).relu())
    net.elementwise("image,clipped", "product", (1, 3, 8, 7), 1)
    give("product", image * outputs["clipped"])

    params = normal(3, 4)
    net.add("batchnorm", "image", "instance", 1, 3, 8, 7, C=3, training=1, training_instancenorm=1,
            training_eps=1e-3, training_momentum=0.9, blob_batchnorm_params=net.blob(params))
    give("instance", F.instance_norm(image, None, None, t(params[:, 0].copy()), t(params[:, 1].copy()), eps=1e-3))

    net.add("upsample", "largest", "large", 1, 3, 8, 9, mode=0, scaling_factor_x=3, scaling_factor_y=2,
            align_corners=0, is_legacy_mode=0, use_fractional_scale_factors=0, fractional_scaling_factor_x=1,
            fractional_scaling_factor_y=1)
    large = give("large", largest.repeat_interleave(2, 2).repeat_interleave(3, 3))
    net.add("crop", "large", "cropped", 1, 3, 8, 7, t=0, b=0, l=2, r=0)
    cropped = give("cropped", large[:, :, :, 2:])
    net.add("concat", "image,cropped", "joined", 1, 6, 8, 7)
    joined = give("joined", torch.cat([image, cropped], 1))
    net.add("split_nd", "joined", "first,second", (1, 3, 8, 7), (1, 3, 8, 7), nd_axis=1, begin_0=0, begin_1=0)
    give("first", joined[:, :3])
    give("second", joined[:, 3:])

    constant = normal(1, 3, 1, 7)
    net.add("load_constant", "", "constant", 3, 1, 7, constant_blob=net.blob(constant), n=1, k=3, h=1, w=7, nd_rank=3)
    net.elementwise("image,constant", "shifted", (1, 3, 8, 7), 0, nd_mode=True)
    give("shifted", image + t(constant[0]))

    net.add("reshape", "image", "rows", 24, 7, mode=0, version=1, dynamic_shape=False, dst_nd_rank=2, dst_seq=1,
            dst_n=1, dst_k=1, dst_h=-1, dst_w=7)
    rows = give("rows", image.reshape(24, 7))
    net.add("softmax_nd", "rows", "soft", 24, 7, nd_axis=-1)
    soft = give("soft", rows.softmax(-1))
    net.add("expand_dims", "soft", "expanded", 24, 7, 1, axes_0=2, size_of_axes=1, nd_axis=0)
    net.add("copy", "expanded", "again", 24, 7, 1)
    net.add("squeeze", "again", "squeezed", 24, 7, axes_0=2, size_of_axes=1, nd_axis=0, version=1)
    give("squeezed", soft)
    codes, scale, bias = RNG.integers(0, 256, (4, 7)).astype(np.uint8), normal(4) / 64, normal(4)
    numbers = {"W_U8": net.blob(codes), "per_ch_qscale": net.blob(scale), "per_ch_qbias": net.blob(bias)}
    b = np.abs(normal(4)) * 4
    net.inner_product("squeezed", "y", (24, 4), codes, b, weights=numbers, quantization_mode=1, has_relu=1)
    weight = codes.astype(np.float32) * scale[:, None] + bias[:, None]
    give("y", (soft @ t(weight).T + t(b)).relu())

    given = {name: list(value.shape) for name, value in outputs.items()}
    net.write(folder, list(given))
    header(folder, NETWORK, 4, described({"x": x.shape}, given), struct.pack("<Q", NETWORK) + names(list(given)))
    return [({"x": x}, outputs)]


@case
def compiled_pipeline(folder):
    """A network that gives a grey image, and one that classifies it."""
    first, second = folder / "model0", folder / "model1"
    first.mkdir()
    second.mkdir()
    net = Network(ranks=True)
    net.shape("pixels", 1, 1, 9, 11)
    net.add("activation", "pixels", "image", 1, 1, 9, 11, mode=6, alpha=-1, beta=255)
    net.write(first, ["image"])
    gray = {"width": 11, "height": 9, "color": GRAY}
    header(first, NETWORK, 4, described({"pixels": (1, 1, 9, 11)}, {"image": gray}))
    run = small_classifier(second, [7, -1, 1 << 40], 4)
    description = described({"pixels": (1, 1, 9, 11)}, {})
    classes(description, [7, -1, 1 << 40], "scores", "scores")
    header(folder, 200, 4, description)
    x = RNG.integers(0, 256, (1, 1, 9, 11)).astype(np.float32)
    return [({"pixels": x}, run(255 - x))]


def main():
    for name, make in CASES.items():
        torch.manual_seed(0)
        folder = HERE / f"{name}.mlmodelc"
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir()
        rows = [
            {"inputs": {k: plain(v) for k, v in i.items()}, "outputs": {k: plain(v) for k, v in o.items()}}
            for i, o in make(folder)
        ]
        (HERE / f"{name}.json").write_text("[\n" + ",\n".join(json.dumps(row) for row in rows) + "\n]\n")


if __name__ == "__main__":
    main()
