"""Writes the node tests of the onnx package as files.

    python scripts/onnx_nodes.py [--out target/onnx-nodes] [--freeze] [--only PART]

The package has the tests as Python objects. Each becomes a folder, in the layout that its other tests have:

    node/NAME/model.onnx, test_data_set_0/input_0.pb, …, test_data_set_0/output_0.pb

A `.pb` file holds a TensorProto (or a SequenceProto or OptionalProto, if the value is one that holds no tensor). Beside them stand
`tests.tsv` (name, rtol, atol) and, with `--freeze`, a second set `frozen/NAME`: the same tests with every input but the
first one of floats made an initializer, as it is in the models that exporters write. The folder has about 60 MB; it is
written only where it is missing or written by another version of the package.

`cargo run -p milwright-testkit --bin onnx_nodes -- target/onnx-nodes/node` reads it.
"""

import argparse
import shutil
from pathlib import Path

import onnx
from onnx import TensorProto, numpy_helper
from onnx.backend.test.loader import load_model_tests

FLOATS = {TensorProto.FLOAT, TensorProto.FLOAT16, TensorProto.DOUBLE, TensorProto.BFLOAT16}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("target/onnx-nodes"))
    parser.add_argument("--freeze", action="store_true", help="write the tests with frozen inputs, too")
    parser.add_argument("--only", default="", help="only tests with this text in their name")
    args = parser.parse_args()

    tests = [t for t in load_model_tests(kind="node") if args.only in t.name]
    write(args.out, "node", tests, freeze=False)
    if args.freeze:
        write(args.out, "frozen", tests, freeze=True)


def write(out: Path, kind: str, tests: list, *, freeze: bool) -> None:
    folder = out / kind
    stamp = folder / "VERSION"
    wanted = f"onnx {onnx.__version__}, {len(tests)} tests\n"
    if stamp.exists() and stamp.read_text() == wanted:
        print(f"{folder}: {len(tests)} tests, already there")
        return
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    lines = []
    for test in tests:
        model = onnx.ModelProto()
        model.CopyFrom(test.model)
        [(inputs, outputs)] = test.data_sets
        protos = [to_proto(v, x) for v, x in zip(model.graph.input, inputs)]
        kept = list(range(len(protos)))
        if freeze:
            kept = freeze_inputs(model, protos)
        data = folder / test.name / "test_data_set_0"
        data.mkdir(parents=True)
        (folder / test.name / "model.onnx").write_bytes(model.SerializeToString())
        for i, k in enumerate(kept):
            (data / f"input_{i}.pb").write_bytes(protos[k].SerializeToString())
        for i, (value, x) in enumerate(zip(model.graph.output, outputs)):
            (data / f"output_{i}.pb").write_bytes(to_proto(value, x).SerializeToString())
        lines.append(f"{test.name}\t{test.rtol}\t{test.atol}\n")
    (folder / "tests.tsv").write_text("".join(sorted(lines)))
    stamp.write_text(wanted)
    print(f"{folder}: {len(tests)} tests")


def to_proto(value: onnx.ValueInfoProto, x):
    """The value as the message that its declared type asks for."""
    kind = value.type.WhichOneof("value")
    if isinstance(x, (onnx.TensorProto, onnx.SequenceProto, onnx.OptionalProto, onnx.MapProto)):
        return x
    if kind == "optional_type":
        # An optional that holds a tensor is written as that tensor, which is what a Core ML model can take.
        element = value.type.optional_type.elem_type.WhichOneof("value")
        if element == "tensor_type" and x is not None:
            return numpy_helper.from_array(x, value.name)
        dtype = onnx.OptionalProto.SEQUENCE if element == "sequence_type" else onnx.OptionalProto.TENSOR
        return numpy_helper.from_optional(x, value.name, dtype if x is not None else None)
    if kind == "sequence_type":
        return numpy_helper.from_list(x, value.name)
    if kind == "map_type":
        return numpy_helper.from_dict(x, value.name)
    return numpy_helper.from_array(x, value.name)


def freeze_inputs(model: onnx.ModelProto, protos: list) -> list[int]:
    """Makes initializers of all inputs but one. Returns the places of those that stay."""
    graph = model.graph
    tensors = [i for i, v in enumerate(graph.input) if v.type.WhichOneof("value") == "tensor_type"]
    floats = [i for i in tensors if graph.input[i].type.tensor_type.elem_type in FLOATS]
    first = (floats or tensors)[:1]
    kept = [i for i in range(len(graph.input)) if i in first or i not in tensors]
    for i in tensors:
        if i not in kept:
            proto = onnx.TensorProto()
            proto.CopyFrom(protos[i])
            proto.name = graph.input[i].name
            graph.initializer.append(proto)
    inputs = [graph.input[i] for i in kept]
    del graph.input[:]
    graph.input.extend(inputs)
    return kept


if __name__ == "__main__":
    main()
