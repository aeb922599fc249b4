#!/usr/bin/env python3
"""Check what `milwright optimize` writes against coremltools.

    python scripts/check_optimize.py MODEL.mlpackage... [--milwright target/release/milwright]

For each model and each quantization: the result loads in coremltools; `decompress_weights` of coremltools gives the
numbers that milwright computes with (both are written out and compared by `milwright compare`); and the error of every
weight is no larger than that of coremltools' own compression at the same setting. Prints a row for each, and how much
faster than coremltools it was.
"""

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import coremltools as ct
import coremltools.optimize.coreml as cto
import numpy as np
from coremltools.converters.mil.frontend.milproto.load import load as load_program

SETTINGS = {
    "int8": lambda m: cto.linear_quantize_weights(
        m, cto.OptimizationConfig(cto.OpLinearQuantizerConfig(mode="linear_symmetric"))
    ),
    **{
        f"palette{n}": lambda m, n=n: cto.palettize_weights(
            m, cto.OptimizationConfig(cto.OpPalettizerConfig(mode="kmeans", nbits=n))
        )
        for n in (8, 6, 4, 2, 1)
    },
}


def weights(model):
    """Every constant that is larger than coremltools' threshold, by name and shape, decompressed."""
    program = load_program(
        model.get_spec(), specification_version=model.get_spec().specificationVersion, file_weights_dir=model.weights_dir
    )
    found = {}
    for function in program.functions.values():
        for op in function.operations:
            if op.op_type == "const" or op.op_type.startswith("constexpr"):
                value = op.outputs[0].val if op.op_type == "const" else op.materialized_val_inference()
                if isinstance(value, np.ndarray) and value.size > 2048 and value.dtype.kind == "f" and value.ndim > 1:
                    found[op.outputs[0].name] = value.astype(np.float64)
    return found


def error(original, compressed):
    """Sum of squared errors over the weights of the same shape, paired in order."""
    total, unmatched = 0.0, list(compressed.values())
    for value in original.values():
        # Names change in coremltools' passes; shapes and the nearest values do not.
        same = [i for i, other in enumerate(unmatched) if other.shape == value.shape]
        if not same:
            raise SystemExit(f"no weight of shape {value.shape} in the compressed model")
        best = min(same, key=lambda i: float(((unmatched[i] - value) ** 2).sum()))
        total += float(((unmatched.pop(best) - value) ** 2).sum())
    return total


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("models", nargs="+", type=Path)
    parser.add_argument("--milwright", default="target/release/milwright")
    parser.add_argument("--settings", nargs="*", default=list(SETTINGS))
    args = parser.parse_args()
    failed = 0
    print(f"{'model':<28}{'setting':<10}{'our error':>12}{'theirs':>12}{'decompressed':>14}{'speed-up':>10}")
    for path in args.models:
        model = ct.models.MLModel(str(path), skip_model_load=True)
        original = weights(model)
        for setting in args.settings:
            with tempfile.TemporaryDirectory() as folder:
                ours = Path(folder) / "ours.mlpackage"
                command = [args.milwright, "optimize", path, "--quantize", setting, "-o", ours, "--json", "--no-cache"]
                done = subprocess.run(command, capture_output=True, text=True, check=True)
                our_time = json.loads(done.stdout)["optimize_seconds"]
                start = time.perf_counter()
                theirs = SETTINGS[setting](model)
                their_time = time.perf_counter() - start
                loaded = ct.models.MLModel(str(ours), skip_model_load=True)
                plain = Path(folder) / "plain.mlpackage"
                cto.decompress_weights(loaded).save(str(plain))
                compare = [args.milwright, "compare", ours, plain, "--json", "--no-cache"]
                outputs = json.loads(subprocess.run(compare, capture_output=True, text=True, check=True).stdout)
                same = all(o["snr_db"] is None for o in outputs)
                our_error, their_error = error(original, weights(loaded)), error(original, weights(theirs))
            good = same and our_error <= their_error * (1 + 1e-6)
            failed += not good
            print(
                f"{path.stem:<28}{setting:<10}{our_error:>12.5g}{their_error:>12.5g}"
                f"{'equal' if same else 'DIFFERS':>14}{their_time / our_time:>9.1f}x{'' if good else '   FAIL'}",
                flush=True,
            )
    print(f"{failed} failed" if failed else "all passed")
    sys.exit(1 if failed else 0)


if __name__ == "__main__":
    main()
