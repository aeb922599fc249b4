#!/usr/bin/env python3
"""Execute an ML program operation by operation in numpy and PyTorch: the reference for models and single operations.

    python scripts/mil_oracle.py MODEL.mlpackage INPUTS.npy-folder [--function F] [--out DIR] [--all] [--check DIR]

It shares no code with the engine that it judges: packages are read here from protobuf and blob file directly, and the
operations' meanings are written in oracle_ops.py. Slow, and meant to be. From Python:

    model = Model("m.mlpackage")
    outputs = model.predict({"x": array})                  # dict of arrays by name
    values = model.predict({"x": array}, keep=True)        # every intermediate value too

Floats are computed in float32 (or `precision=np.float64`); with `rounding=True` each result is rounded to the type
that the program declares, so a float16 program is rounded after every operation.
"""

import argparse
import struct
import sys
from pathlib import Path

import packages  # isort: skip  (first: it silences what follows)

import numpy as np
from coremltools.proto import MIL_pb2, Model_pb2

from oracle_ops import OPERATIONS

NAMES = {number: name for name, number in MIL_pb2.DataType.items()}
NUMPY = {
    "BOOL": np.bool_, "STRING": np.str_, "FLOAT16": np.float16, "FLOAT32": np.float32, "FLOAT64": np.float64,
    "INT8": np.int8, "INT16": np.int16, "INT32": np.int32, "INT64": np.int64, "UINT8": np.uint8, "UINT16": np.uint16,
    "UINT32": np.uint32, "UINT64": np.uint64, "INT4": np.int8, "UINT4": np.uint8, "UINT1": np.uint8,
    "UINT2": np.uint8, "UINT3": np.uint8, "UINT6": np.uint8,
}  # fmt: skip
BITS = {"INT4": 4, "UINT4": 4, "UINT1": 1, "UINT2": 2, "UINT3": 3, "UINT6": 6}


class Model:
    """One package (or `.mlmodel` file of an ML program), ready to be executed."""

    def __init__(self, path, precision=np.float32, rounding=False):
        path = Path(path)
        self.data = path / "Data/com.apple.CoreML" if path.is_dir() else path.parent
        spec_path = self.data / "model.mlmodel" if path.is_dir() else path
        self.spec = Model_pb2.Model.FromString(spec_path.read_bytes())
        self.precision, self.rounding = precision, rounding
        self.blobs = {}

    def functions(self):
        return list(self.spec.mlProgram.functions)

    def initial_state(self, function="main"):
        """Zeros for every state of `function`: pass the same dict to successive predictions."""
        states = {}
        for given in self.spec.mlProgram.functions[function].inputs:
            if given.type.WhichOneof("type") == "stateType":
                declared = given.type.stateType.wrappedType.tensorType
                shape = [dimension.constant.size for dimension in declared.dimensions]
                states[given.name] = np.zeros(shape, self.numpy_type(declared))
        return states

    def predict(self, inputs, function="main", state=None, keep=False):
        if function not in self.spec.mlProgram.functions:
            raise KeyError(f"no function {function}; there are {', '.join(self.functions())}")
        program = self.spec.mlProgram.functions[function]
        block = program.block_specializations[program.opset]
        run = Run(self, program.opset, self.initial_state(function) if state is None else state)
        values = {}
        for given in program.inputs:
            if given.name in run.state:
                values[given.name] = State(given.name)
            elif given.name in inputs:
                values[given.name] = run.declared(np.asarray(inputs[given.name]), given.type)
            else:
                raise KeyError(f"input {given.name} is missing")
        run.block(block, values)
        return values if keep else {name: values[name] for name in block.outputs}

    def numpy_type(self, tensor_type):
        kind = NUMPY[NAMES[tensor_type.dataType]]
        return self.precision if kind in (np.float16, np.float32) else kind

    def value(self, value):
        """The numpy array, string or list of a constant."""
        kind = value.type.WhichOneof("type")
        if kind == "listType":
            return [self.value(item) for item in value.immediateValue.list.values]
        if kind == "tupleType":
            return tuple(self.value(item) for item in value.immediateValue.tuple.values)
        declared = value.type.tensorType
        name = NAMES[declared.dataType]
        shape = [dimension.constant.size for dimension in declared.dimensions]
        if value.WhichOneof("value") == "blobFileValue":
            array = self.blob(value.blobFileValue, name, int(np.prod(shape)))
        else:
            tensor = value.immediateValue.tensor
            which = tensor.WhichOneof("value")
            stored = getattr(tensor, which).values if which else []
            if which == "bytes":
                array = unpack(stored, name, int(np.prod(shape)))
            else:
                array = np.array(list(stored), NUMPY[name])
        array = array.reshape(shape)
        if name == "STRING":
            return str(array) if array.ndim == 0 else array
        return array.astype(self.precision) if name in ("FLOAT16", "FLOAT32") else array

    def blob(self, reference, name, count):
        file = reference.fileName.removeprefix("@model_path/")
        if file not in self.blobs:
            self.blobs[file] = (self.data / file).read_bytes()
        data = self.blobs[file]
        sentinel, _, size, offset = struct.unpack_from("<IIQQ", data, reference.offset)
        if sentinel != 0xDEADBEEF:
            raise ValueError(f"no blob at offset {reference.offset} of {file}")
        return unpack(data[offset : offset + size], name, count)


def unpack(data, name, count):
    """`count` elements of type `name` out of little-endian bytes; sub-byte elements are packed low bits first."""
    if name not in BITS:
        return np.frombuffer(data, NUMPY[name], count)
    width = BITS[name]
    bits = np.unpackbits(np.frombuffer(data, np.uint8), bitorder="little")[: count * width].reshape(count, width)
    values = (bits.astype(np.uint8) << np.arange(width, dtype=np.uint8)).sum(axis=1, dtype=np.uint8)
    if name == "INT4":
        return (values.astype(np.int8) ^ 8) - 8
    return values


class State(str):
    """A reference to a state, by its name."""


class Arguments(dict):
    """An operation's inputs by parameter name, with readers for the constant ones."""

    def ints(self, name, default=None):
        return default if self.get(name) is None else [int(item) for item in np.asarray(self[name]).reshape(-1)]

    def int(self, name, default=None):
        return default if self.get(name) is None else int(np.asarray(self[name]).reshape(-1)[0])

    def number(self, name, default=None):
        return default if self.get(name) is None else np.asarray(self[name]).reshape(-1)[0]

    def flag(self, name, default=False):
        return default if self.get(name) is None else bool(np.asarray(self[name]).reshape(-1)[0])

    def text(self, name, default=None):
        return default if self.get(name) is None else str(self[name])


class Run:
    """One prediction: executes blocks over an environment of values."""

    def __init__(self, model, opset, state):
        self.model, self.opset, self.state = model, opset, state

    def block(self, block, values):
        for operation in block.operations:
            try:
                self.operation(operation, values)
            except Exception as error:
                outputs = ", ".join(output.name for output in operation.outputs)
                error.add_note(f"in {operation.type} -> {outputs}")
                raise
        return [values[name] for name in block.outputs]

    def operation(self, operation, values):
        if operation.type == "const":
            results = (self.model.value(operation.attributes["val"]),)
        else:
            arguments = Arguments(
                (name, self.model.value(value)) for name, value in operation.attributes.items() if name != "name"
            )
            for name, argument in operation.inputs.items():
                bound = [self.binding(binding, values) for binding in argument.arguments]
                many = len(bound) != 1 or name in ("loop_vars", "values", "ref_tensors", "begins", "ends", "end_masks")
                arguments[name] = bound if many else bound[0]
            results = self.call(operation, arguments, values)
        for output, result in zip(operation.outputs, results, strict=True):
            values[output.name] = self.declared(result, output.type)

    def binding(self, binding, values):
        if binding.WhichOneof("binding") == "value":
            return self.model.value(binding.value)
        return values[binding.name]

    def call(self, operation, arguments, values):
        if operation.type == "cond":
            taken = operation.blocks[0 if arguments.flag("pred") else 1]
            return self.block(taken, dict(values))
        if operation.type == "while_loop":
            condition, body = operation.blocks
            carried = list(arguments["loop_vars"])
            while bool(self.block(condition, values | named(condition, carried))[0]):
                carried = self.block(body, values | named(body, carried))
            return carried
        if operation.type == "read_state":
            return (self.state[arguments["input"]],)
        if operation.type == "write_state":
            self.state[arguments["input"]] = np.array(arguments["data"])
            return (self.state[arguments["input"]],)[: len(operation.outputs)]
        if operation.type not in OPERATIONS:
            raise NotImplementedError(f"the oracle has no {operation.type}")
        results = OPERATIONS[operation.type](arguments)
        return results if isinstance(results, tuple) else (results,)

    def declared(self, value, value_type):
        """`value` in the type that the program declares for it."""
        if value_type.WhichOneof("type") != "tensorType" or isinstance(value, (list, dict, str)):
            return value
        name = NAMES[value_type.tensorType.dataType]
        value = np.asarray(value)
        if name in ("STRING",):
            return value
        if name in ("FLOAT16", "FLOAT32"):
            if self.model.rounding:
                with np.errstate(over="ignore"):
                    value = value.astype(NUMPY[name])
            return value.astype(self.model.precision)
        return value.astype(NUMPY[name])


def named(block, values):
    return {given.name: value for given, value in zip(block.inputs, values, strict=True)}


def load_arrays(folder):
    return {path.stem: np.load(path) for path in sorted(Path(folder).glob("*.npy"))}


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("model", type=Path)
    parser.add_argument("inputs", type=Path, help="a folder of .npy files named after the inputs")
    parser.add_argument("--function", default="main")
    parser.add_argument("--out", type=Path, help="write each output here as NAME.npy")
    parser.add_argument("--all", action="store_true", help="write every intermediate value too")
    parser.add_argument("--check", type=Path, help="a folder of expected .npy files: print the largest differences")
    parser.add_argument("--rounding", action="store_true", help="round every result to its declared type")
    arguments = parser.parse_args()
    model = Model(arguments.model, rounding=arguments.rounding)
    values = model.predict(load_arrays(arguments.inputs), arguments.function, keep=arguments.all or bool(arguments.check))
    if arguments.out:
        arguments.out.mkdir(parents=True, exist_ok=True)
        for name, value in values.items():
            if isinstance(value, np.ndarray):
                np.save(arguments.out / f"{name}.npy", value)
    if arguments.check:
        worst = 0.0
        for name, expected in load_arrays(arguments.check).items():
            if values[name].shape != expected.shape and values[name].size == expected.size:
                expected = expected.reshape(values[name].shape)
            difference = np.abs(values[name].astype(np.float64) - expected).max(initial=0.0)
            worst = max(worst, difference)
            print(f"{name}: {list(expected.shape)} largest difference {difference:.3g}")
        sys.exit(0 if worst < 1e-4 else 1)


if __name__ == "__main__":
    main()
