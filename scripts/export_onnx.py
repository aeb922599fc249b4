#!/usr/bin/env python3
"""Write ONNX files of the networks that bench/ compares engines on, with the weights of their Core ML packages.

    python scripts/fetch_models.py
    python scripts/convert_models.py --only 'm*'
    python scripts/export_onnx.py [--models target/models]

Under MODELS/onnx: MiniLM and MobileNetV2 from the PyTorch networks that convert_models.py converts; PiperSR and the
digits example, which are at hand as packages only, translated operation by operation. All compute in float32:
PiperSR's float16 weights are widened, since engines for ONNX run float16 on a CPU by way of float32, or not at all.
basic-pitch comes with an ONNX file of its own.
"""

import argparse
from pathlib import Path

from convert_models import TEXT, Context, vision  # isort: skip  (first: it silences what follows)

import numpy as np
import onnx
import torch
import torchvision
from onnx import TensorProto, helper, numpy_helper

import networks
from fetch_models import DEFAULT_OUT
from mil_oracle import Model, Run

# LayerNormalization is one operation from 17 on; all engines of the comparison read it.
OPSET = 17
EXAMPLES = Path(__file__).resolve().parent.parent / "examples"


def minilm(context, path):
    folder = context.models / "minilm"
    ids, mask = networks.word_pieces(TEXT, folder / "vocab.txt", 128)
    module = networks.MiniLM.load(folder)
    export(module, (ids, mask), path, ["input_ids", "attention_mask"], ["last_hidden_state", "embedding"])


def mobilenet_v2(context, path):
    module = vision(context, torchvision.models.mobilenet_v2, 224)
    export(module, (torch.zeros(1, 3, 224, 224),), path, ["image"], ["logits"])


def export(module, inputs, path, input_names, output_names):
    torch.onnx.export(
        module.eval(), inputs, path, input_names=input_names, output_names=output_names, opset_version=OPSET,
        dynamo=False,
    )  # fmt: skip


def pipersr(context, path):
    translate(context.models / "PiperSR_2x.mlpackage", path)


def digits(context, path):
    translate(EXAMPLES / "digits.mlpackage", path)
    inputs = path.with_suffix(".inputs")
    inputs.mkdir(exist_ok=True)
    np.save(inputs / "image.npy", np.load(EXAMPLES / "digits_test_x.npy")[:1])


def translate(package, path):
    """The package's program as an ONNX file; only operations that `OPERATIONS` lists."""
    model = Model(package)
    program = model.spec.mlProgram.functions["main"]
    block = program.block_specializations[program.opset]
    run = Run(model, program.opset, {})
    graph = Graph()
    shapes = {value.name: shape_of(value) for value in program.inputs}
    values = {name: Value(name) for name in shapes}
    outputs = list(block.outputs)
    for operation in block.operations:
        arguments = {name: run.binding(given.arguments[0], values) for name, given in operation.inputs.items()}
        if operation.type == "classify":  # ONNX has no labels: the probabilities are the output
            outputs = [arguments["probabilities"]]
            continue
        (result,) = operation.outputs
        shapes[result.name] = shape_of(result)
        if operation.type == "const":
            values[result.name] = model.value(operation.attributes["val"])
        else:
            OPERATIONS[operation.type](graph, result.name, arguments, shapes[result.name])
            values[result.name] = Value(result.name)

    def features(names):
        return [helper.make_tensor_value_info(name, TensorProto.FLOAT, shapes[name]) for name in names]

    inputs = features(value.name for value in program.inputs)
    made = helper.make_graph(graph.nodes, package.stem, inputs, features(outputs), graph.tensors)
    made = helper.make_model(made, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=8)
    onnx.checker.check_model(made, full_check=True)
    onnx.save(made, path)


def shape_of(value):
    return [dimension.constant.size for dimension in value.type.tensorType.dimensions]


class Value(str):
    """The name of something computed, where a plain array is a constant."""


class Graph:
    """The nodes and constant tensors so far."""

    def __init__(self):
        self.nodes, self.tensors = [], []

    def add(self, kind, result, *inputs, **attributes):
        """One node; inputs that are arrays become constant tensors."""
        names = []
        for index, given in enumerate(inputs):
            if not isinstance(given, Value):
                self.tensors.append(numpy_helper.from_array(np.asarray(given), f"{result}.{index}"))
                given = self.tensors[-1].name
            names.append(given)
        self.nodes.append(helper.make_node(kind, names, [result], name=result, **attributes))
        return Value(result)


def conv(graph, result, arguments, _):
    padding = str(arguments["pad_type"])
    if padding == "same":
        pads = {"auto_pad": "SAME_UPPER"}
    else:
        pad = ints(arguments["pad"]) if padding == "custom" else [0] * 4
        pads = {"pads": pad[0::2] + pad[1::2]}
    graph.add(
        "Conv", result, arguments["x"], arguments["weight"], arguments["bias"],
        kernel_shape=arguments["weight"].shape[2:], strides=ints(arguments["strides"]),
        dilations=ints(arguments["dilations"]), group=int(arguments["groups"]), **pads,
    )  # fmt: skip


def max_pool(graph, result, arguments, _):
    if str(arguments["pad_type"]) != "valid" and any(ints(arguments["pad"])):
        raise ValueError(f"{result}: a padded max_pool is not translated")
    graph.add(
        "MaxPool", result, arguments["x"], kernel_shape=ints(arguments["kernel_sizes"]), strides=ints(arguments["strides"])
    )


def silu(graph, result, arguments, _):
    graph.add("Mul", result, arguments["x"], graph.add("Sigmoid", f"{result}.sigmoid", arguments["x"]))


def pixel_shuffle(graph, result, arguments, _):
    graph.add("DepthToSpace", result, arguments["x"], blocksize=int(arguments["upscale_factor"]), mode="CRD")


def reshape(graph, result, arguments, shape):
    graph.add("Reshape", result, arguments["x"], np.array(shape, np.int64))


def linear(graph, result, arguments, _):
    graph.add("Gemm", result, arguments["x"], arguments["weight"], arguments["bias"], transB=1)


def ints(array):
    return [int(item) for item in np.asarray(array).reshape(-1)]


OPERATIONS = {
    "add": lambda graph, result, arguments, _: graph.add("Add", result, arguments["x"], arguments["y"]),
    "cast": lambda graph, result, arguments, _: graph.add("Identity", result, arguments["x"]),
    "clip": lambda graph, result, arguments, _: graph.add(
        "Clip", result, arguments["x"], arguments["alpha"], arguments["beta"]
    ),
    "conv": conv,
    "linear": linear,
    "max_pool": max_pool,
    "mul": lambda graph, result, arguments, _: graph.add("Mul", result, arguments["x"], arguments["y"]),
    "pixel_shuffle": pixel_shuffle,
    "relu": lambda graph, result, arguments, _: graph.add("Relu", result, arguments["x"]),
    "reshape": reshape,
    "silu": silu,
    "softmax": lambda graph, result, arguments, _: graph.add(
        "Softmax", result, arguments["x"], axis=int(arguments["axis"])
    ),
}


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--models", type=Path, default=DEFAULT_OUT, help="the folder that fetch_models.py filled")
    context = Context(parser.parse_args().models)
    folder = context.models / "onnx"
    folder.mkdir(exist_ok=True)
    makers = {"minilm": minilm, "mobilenet_v2": mobilenet_v2, "PiperSR_2x": pipersr, "digits": digits}
    for name, make in makers.items():
        make(context, folder / f"{name}.onnx")
        print(folder / f"{name}.onnx", flush=True)


if __name__ == "__main__":
    main()
