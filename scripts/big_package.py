#!/usr/bin/env python3
"""Make a large package that is sparse on disk, optimize it without proof, and show time and the largest memory.

    python3 scripts/big_package.py --milwright target/release/milwright [--gb 10] [--form int4:block=32] [--folder /tmp]

The package is a chain of `linear` ops of 4096 x 4096 in fp16. Only the first 64 KiB of each weight are numbers, the rest is a hole
(zeros): it takes as long to read, and little space. The result is not sparse. Memory is the largest resident memory of the
process, mapped pages included. Needs coremltools.
"""

import argparse
import os
import pathlib
import shutil
import struct
import subprocess
import tempfile
import time

import coremltools as ct
import numpy as np
from coremltools.converters.mil import Builder as mb
from coremltools.converters.mil.mil import types

SIDE = 4096


def make(path, count):
    """A package of coremltools with one such op, whose op and weight are repeated."""
    @mb.program(input_specs=[mb.TensorSpec((1, SIDE), dtype=types.fp16)], opset_version=ct.target.iOS18)
    def program(x):
        return mb.linear(x=x, weight=np.ones((SIDE, SIDE), np.float16), name="op")

    with tempfile.TemporaryDirectory() as folder:
        one = pathlib.Path(folder) / "one.mlpackage"
        ct.convert(program, minimum_deployment_target=ct.target.iOS18, skip_model_load=True).save(one)
        shutil.copytree(one, path)
    data = path / "Data/com.apple.CoreML"
    spec = ct.proto.Model_pb2.Model()
    spec.ParseFromString((data / "model.mlmodel").read_bytes())
    (function,) = spec.mlProgram.functions.values()
    (block,) = function.block_specializations.values()
    linear = next(o for o in block.operations if o.type == "linear")
    named = lambda name: next(o for o in block.operations if o.outputs and o.outputs[0].name == name)
    weight = named(linear.inputs["weight"].arguments[0].name)
    left_out = [weight, linear]
    if "bias" in linear.inputs:
        left_out.append(named(linear.inputs["bias"].arguments[0].name))
        del linear.inputs["bias"]
    others = [o for o in block.operations if not any(o is x for x in left_out)]
    weight, linear = type(weight).FromString(weight.SerializeToString()), type(linear).FromString(linear.SerializeToString())
    others = [type(o).FromString(o.SerializeToString()) for o in others]
    # A cast of the result, and its constant, come last.
    ends = [i for i, o in enumerate(others) if linear.outputs[0].name in str(o.inputs)]
    first = min(ends, default=len(others))
    before, after = others[:first], others[first:]
    source, result = linear.inputs["x"].arguments[0].name, linear.outputs[0].name
    del block.operations[:]
    block.operations.extend(before)
    entry = 64 + SIDE * SIDE * 2
    for i in range(count):
        w, op = block.operations.add(), block.operations.add()
        w.CopyFrom(weight)
        op.CopyFrom(linear)
        w.outputs[0].name = f"weight_{i}"
        w.attributes["name"].immediateValue.tensor.strings.values[:] = [f"weight_{i}"]
        w.attributes["val"].blobFileValue.offset = 64 + i * entry
        op.inputs["weight"].arguments[0].name = f"weight_{i}"
        op.inputs["x"].arguments[0].name = source
        source = result if i == count - 1 else f"step_{i}"
        op.outputs[0].name = source
        op.attributes["name"].immediateValue.tensor.strings.values[:] = [source]
    block.operations.extend(after)
    (data / "model.mlmodel").write_bytes(spec.SerializeToString())
    rng = np.random.default_rng(1)
    with open(data / "weights/weight.bin", "wb") as file:
        file.write(struct.pack("<II", count, 2).ljust(64, b"\0"))
        for i in range(count):
            at = 64 + i * entry
            file.seek(at)
            # The head of a blob: a mark, fp16, its bytes and where they are.
            file.write(struct.pack("<IIQQ", 0xDEADBEEF, 1, SIDE * SIDE * 2, at + 64).ljust(64, b"\0"))
            file.write(rng.normal(0, 0.02, 1 << 15).astype(np.float16).tobytes())
        file.truncate(64 + count * entry)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--milwright", required=True)
    parser.add_argument("--gb", type=float, default=10)
    parser.add_argument("--form", action="append", help="may be given several times")
    parser.add_argument("--folder", help="where there is space for the result, twice")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=args.folder) as folder:
        model, out = pathlib.Path(folder) / "big.mlpackage", pathlib.Path(folder) / "small.mlpackage"
        make(model, round(args.gb * 1e9 / (SIDE * SIDE * 2)))
        print("| form | GB before | GB after | s | CPU s | largest memory, MB |\n|---|---|---|---|---|---|")
        size = lambda path: sum(f.stat().st_size for f in path.rglob("*") if f.is_file()) / 1e9
        for form in args.form or ["int4:block=32"]:
            start = time.monotonic()
            command = [args.milwright, "optimize", model, "--quantize", form, "--no-proof", "--force", "-o", out]
            child = subprocess.Popen(command, stdout=subprocess.DEVNULL)
            _, status, usage = os.wait4(child.pid, 0)
            if status:
                raise SystemExit(f"{form}: exit {os.waitstatus_to_exitcode(status)}")
            seconds = time.monotonic() - start
            print(f"| `{form}` | {size(model):.2f} | {size(out):.2f} | {seconds:.0f} | {usage.ru_utime + usage.ru_stime:.0f} | {usage.ru_maxrss / 1024:.0f} |", flush=True)
            shutil.rmtree(out)


if __name__ == "__main__":
    main()
