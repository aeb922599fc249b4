#!/usr/bin/env python3
"""Write large ONNX models with random weights, for measuring how fast they convert and in how much memory.

    python3 scripts/big_onnx.py FOLDER [vgg19|densenet121|wide ...]
    /usr/bin/time -v milwright convert FOLDER/vgg19.onnx -o vgg19.mlpackage

`vgg19` (575 MB) and `densenet121` (32 MB) have the layers and shapes of the networks of that name; `wide` has 3 GB of weights
in another file. Needs numpy and onnx.
"""

import argparse
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

rng = np.random.default_rng(0)


class Net:
    """A graph that grows by one layer at a time."""

    def __init__(self):
        self.nodes, self.weights = [], []

    def weight(self, *shape):
        name = f"w{len(self.weights)}"
        scale = np.float32(np.sqrt(2 / max(1, int(np.prod(shape[1:])))))
        values = rng.standard_normal(shape, dtype=np.float32) * scale if len(shape) > 1 else np.ones(shape, np.float32) * 0.1
        self.weights.append(numpy_helper.from_array(values.astype(np.float32), name))
        return name

    def add(self, op, *inputs, **attributes):
        name = f"{op.lower()}{len(self.nodes)}"
        self.nodes.append(helper.make_node(op, list(inputs), [name], **attributes))
        return name

    def conv(self, x, channels, out, size, stride=1, bias=True):
        pad = size // 2
        weights = [self.weight(out, channels, size, size)] + ([self.weight(out)] if bias else [])
        return self.add("Conv", x, *weights, kernel_shape=[size] * 2, strides=[stride] * 2, pads=[pad] * 4)

    def norm(self, x, channels):
        scale, shift, mean, variance = (self.weight(channels) for _ in range(4))
        return self.add("Relu", self.add("BatchNormalization", x, scale, shift, mean, variance))

    def model(self, shape, y, result):
        graph = helper.make_graph(
            self.nodes, "net",
            [helper.make_tensor_value_info("x", TensorProto.FLOAT, shape)],
            [helper.make_tensor_value_info(y, TensorProto.FLOAT, result)],
            self.weights,
        )  # fmt: skip
        return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def vgg19(path):
    net, x, channels = Net(), "x", 3
    for out, count in ((64, 2), (128, 2), (256, 4), (512, 4), (512, 4)):
        for _ in range(count):
            x, channels = net.add("Relu", net.conv(x, channels, out, 3)), out
        x = net.add("MaxPool", x, kernel_shape=[2, 2], strides=[2, 2])
    x = net.add("Flatten", x)
    for features, out in ((25088, 4096), (4096, 4096), (4096, 1000)):
        x = net.add("Gemm", x, net.weight(out, features), net.weight(out), transB=1)
        x = net.add("Relu", x) if out == 4096 else x
    onnx.save(net.model([1, 3, 224, 224], x, [1, 1000]), path)


def densenet121(path):
    net = Net()
    x, channels = net.norm(net.conv("x", 3, 64, 7, 2, bias=False), 64), 64
    x = net.add("MaxPool", x, kernel_shape=[3, 3], strides=[2, 2], pads=[1] * 4)
    for block, count in enumerate((6, 12, 24, 16)):
        for _ in range(count):
            y = net.conv(net.norm(x, channels), channels, 128, 1, bias=False)
            y = net.conv(net.norm(y, 128), 128, 32, 3, bias=False)
            x, channels = net.add("Concat", x, y, axis=1), channels + 32
        if block < 3:
            x = net.conv(net.norm(x, channels), channels, channels // 2, 1, bias=False)
            x, channels = net.add("AveragePool", x, kernel_shape=[2, 2], strides=[2, 2]), channels // 2
    x = net.add("Flatten", net.add("GlobalAveragePool", net.norm(x, channels)))
    x = net.add("Gemm", x, net.weight(1000, channels), net.weight(1000), transB=1)
    onnx.save(net.model([1, 3, 224, 224], x, [1, 1000]), path)


def wide(path):
    net, x = Net(), "x"
    data = path.with_suffix(".data")
    with data.open("wb") as file:
        for i in range(12):
            values = rng.standard_normal((8192, 8192), dtype=np.float32) * np.float32(0.015)
            tensor = TensorProto(name=f"m{i}", dims=values.shape, data_type=TensorProto.FLOAT)
            tensor.data_location = TensorProto.EXTERNAL
            for key, value in (("location", data.name), ("offset", file.tell()), ("length", values.nbytes)):
                tensor.external_data.add(key=key, value=str(value))
            file.write(values.tobytes())
            net.weights.append(tensor)
            x = net.add("Relu", net.add("MatMul", x, f"m{i}"))
    path.write_bytes(net.model([1, 8192], x, [1, 8192]).SerializeToString())


def main():
    makers = {"vgg19": vgg19, "densenet121": densenet121, "wide": wide}
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("models", nargs="*", help=", ".join(makers))
    args = parser.parse_args()
    args.folder.mkdir(parents=True, exist_ok=True)
    for name in args.models or makers:
        makers[name](args.folder / f"{name}.onnx")
        print(args.folder / f"{name}.onnx", flush=True)


if __name__ == "__main__":
    main()
