#!/usr/bin/env python3
"""Check what `milwright optimize` writes against coremltools.

    python scripts/check_optimize.py MODEL.mlpackage... [--milwright target/release/milwright] [--settings palette4 ...]

For each model and each setting:

* coremltools loads the result, and its description, functions, states and metadata are the original's;
* the inputs and outputs of its program, and the names of its weights, are the original's;
* `decompress_weights` of coremltools gives a model that milwright computes the same numbers with;
* the same weights are compressed as by coremltools at the same setting;
* the error of no weight is larger than that of coremltools' own.

Prints a row for each, with how much faster than coremltools it was (`--repeat` runs of both in turn, the best of each).
`float16` is compared with coremltools' own pass: which ops stay in fp32.
"""

import argparse
import json
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

import packages  # noqa: F401  (silences coremltools)
import coremltools as ct
import coremltools.optimize.coreml as cto
import numpy as np
from coremltools.converters.mil.frontend.milproto.load import load as load_program
from coremltools.converters.mil.mil.passes.defs.quantization import FP16ComputePrecision
from coremltools.models.utils import _apply_graph_pass

SETTINGS = {
    "float16": lambda m: _apply_graph_pass(m, FP16ComputePrecision(op_selector=lambda op: True)),
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

# coremltools' decompression makes a table of every element times every entry of its palette.
MOST_BYTES = 4 << 30


def walk(block):
    for op in block.operations:
        for nested in op.blocks:
            yield from walk(nested)
        yield op


def program_of(model):
    spec = model.get_spec()
    return load_program(
        spec, specification_version=spec.specificationVersion, file_weights_dir=model.weights_dir
    )


def decompressed(op):
    """What a constant stands for."""
    if op.op_type == "const":
        return op.outputs[0].val
    if op.op_type == "constexpr_lut_to_dense":
        # As coremltools' own code has it, without its table, where there is one palette of single values.
        lut = op.lut.val
        if lut.size == lut.shape[-2 if lut.ndim > 1 else -1]:
            if "shape" in op.inputs:
                shape = tuple(op.shape.val)
                bits = np.unpackbits(op.indices.val, bitorder="little")
                width = int(np.log2(lut.size))
                bits = bits[: int(np.prod(shape)) * width].reshape(-1, width)
                indices = (bits * (1 << np.arange(width))).sum(axis=1)
                return lut.ravel()[indices].reshape(shape)
            return lut.ravel()[np.asarray(op.indices.val).astype(np.int32)]
    value = op.materialized_val_inference()
    return value[0] if isinstance(value, tuple) else value


def weights(program):
    """Every weight that could be compressed, by function and name: decompressed, and whether it is compressed."""
    found = {}
    for name, function in program.functions.items():
        for op in walk(function):
            if op.op_type != "const" and not op.op_type.startswith("constexpr"):
                continue
            output = op.outputs[-1]
            users = output.child_ops
            if not users or all(u.op_type.startswith("constexpr") for u in users):
                continue
            types = ct.converters.mil.mil.types
            if not types.is_tensor(output.sym_type) or output.rank < 2 or not types.is_float(output.dtype):
                continue
            if int(np.prod(output.shape)) <= 2048:
                continue
            found[name, output.name] = decompressed(op), op.op_type != "const"
    return found


def bare(name, names):
    """A name without what coremltools adds to it."""
    for end in ("_quantized", "_palettized"):
        if name not in names:
            name = name.removesuffix(end)
    return name


def pair(original, compressed):
    """For each original weight its compressed form: by name, or else the nearest of the same shape."""
    names = {n for _, n in original}
    by_name = {(f, bare(n, names)): v for (f, n), v in compressed.items()}
    pairs, rest = {}, {}
    for key, (value, _) in original.items():
        match = by_name.pop(key, None)
        if match is not None and match[0].shape == value.shape:
            pairs[key] = match
        else:
            rest[key] = value
    for key, value in rest.items():
        same = [k for k, (v, _) in by_name.items() if v.shape == value.shape]
        same = same or [k for k, (v, _) in compressed.items() if v.shape == value.shape]
        if same:
            best = min(same, key=lambda k: squares((by_name.get(k) or compressed[k])[0], value))
            pairs[key] = by_name.pop(best, None) or compressed[best]
    return pairs


def squares(a, b):
    return float(((a.astype(np.float64) - b.astype(np.float64)) ** 2).sum())


def description(spec):
    """What a user sees of a model, comparable."""
    text = ct.proto.Model_pb2.ModelDescription()
    text.CopyFrom(spec.description)
    return text


def interface(program):
    def shape(v):
        # Symbols of unknown dimensions are numbered as they are made.
        return tuple(n if isinstance(n, (int, np.integer)) else "?" for n in v.shape or ())

    return {
        name: (
            [(n, str(v.sym_type), shape(v)) for n, v in f.inputs.items()],
            [(v.name, str(v.dtype)) for v in f.outputs],
        )
        for name, f in program.functions.items()
    }


def compute_types(program):
    """How many ops of each kind compute in fp32, without constants and casts."""
    return Counter(
        op.op_type
        for f in program.functions.values()
        for op in walk(f)
        if op.op_type not in ("const", "cast") and not op.op_type.startswith("constexpr")
        if any(o.is_tensor_or_scalar_of(dtype="fp32") for o in op.outputs)
    )


def optimize(milwright, path, setting, to):
    command = [milwright, "optimize", path, "--quantize", setting, "-o", to, "--json", "--no-cache", "--tolerance", "none"]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(done.stderr.strip().replace("\n", " | "))
    report = json.loads(done.stdout)
    return report, report["optimize_seconds"]


def decibels(output):
    """The signal to noise of an output: infinite where it is equal, minus infinite where there is none."""
    return {"equal": float("inf"), None: float("-inf")}.get(output["snr_db"], output["snr_db"])


def compare(milwright, a, b):
    """The least signal to noise of an output of b against a's, in dB, or what went wrong."""
    command = [milwright, "compare", a, b, "--json", "--no-cache"]
    done = subprocess.run(command, capture_output=True, text=True)
    if not done.stdout:
        return done.stderr.strip()[:200]
    outputs = json.loads(done.stdout)
    broken = sum(o["non_finite"] for o in outputs)
    worst = min(map(decibels, outputs), default=float("inf"))
    return f"{broken} elements are NaN or infinite" if broken else worst


def check(args, path, setting, model, original, folder):
    """A row of the table, and what is wrong."""
    wrong = []
    ours_at = folder / "ours.mlpackage"
    report, our_time = optimize(args.milwright, path, setting, ours_at)
    ours = ct.models.MLModel(str(ours_at), skip_model_load=True)
    program, before = program_of(ours), program_of(model)
    if description(ours.get_spec()) != description(model.get_spec()):
        wrong.append("the description differs")
    if interface(program) != interface(before):
        wrong.append("the interface differs")
    our_weights = weights(program)

    row = {"model": path.stem, "setting": setting}
    theirs, their_time = None, float("inf")
    if not model._is_multifunction():
        try:
            for i in range(args.repeat if setting == "palette4" else 1):
                if i:
                    our_time = min(our_time, optimize(args.milwright, path, setting, ours_at)[1])
                start = time.perf_counter()
                theirs = SETTINGS[setting](model)
                their_time = min(their_time, time.perf_counter() - start)
        except Exception as e:  # noqa: BLE001  whatever coremltools cannot do is part of the comparison
            row["note"] = f"coremltools: {type(e).__name__}: {str(e).splitlines()[0][:90]}"

    if setting == "float16":
        if theirs:
            row["ours"], row["theirs"] = sum(compute_types(program).values()), sum(compute_types(program_of(theirs)).values())
            more = compute_types(program) - compute_types(program_of(theirs))
            theirs_at = folder / "theirs.mlpackage"
            theirs.save(str(theirs_at))
            worst = compare(args.milwright, path, theirs_at)
            row["note"] = f"theirs {worst:.1f} dB" if isinstance(worst, float) else f"theirs: {worst}"
            if more:
                row["note"] += f"; fp32 in ours only: {dict(more)}"
    else:
        pairs = pair(original, our_weights)
        lost = [k for k in original if k not in our_weights]
        if lost:
            wrong.append(f"names lost: {', '.join(n for _, n in lost[:3])} ({len(lost)})")
        missing = [k[1] for k in original if k not in pairs]
        if missing:
            wrong.append(f"no counterpart: {', '.join(missing[:3])}")
        if theirs:
            their_pairs = pair(original, weights(program_of(theirs)))
            row["ours"] = sum(c for _, c in our_weights.values())
            row["theirs"] = sum(c for _, c in weights(program_of(theirs)).values())
            ratios = {}
            for key, (value, _) in original.items():
                if key not in pairs or key not in their_pairs:
                    continue
                (ours_is, a), (theirs_is, b) = pairs[key], their_pairs[key]
                if a != b:
                    wrong.append(f"{key[1]} is compressed by {'us' if a else 'coremltools'} only")
                e, f = squares(ours_is, value), squares(theirs_is, value)
                ratios[key] = 1.0 if e <= f * (1 + 1e-6) and f == 0 else (e / f if f else float("inf"))
            if ratios:
                worst = max(ratios, key=ratios.get)
                row["ratio"], row["median"] = ratios[worst], float(np.median(list(ratios.values())))
                if ratios[worst] > 1 + 1e-6:
                    wrong.append(f"{worst[1]} {list(original[worst][0].shape)}: error {ratios[worst]:.6f} of coremltools'")
    if theirs:
        row["speed"] = their_time / our_time
    row["seconds"] = our_time
    row["size"] = report["bytes_after"] / report["bytes_before"]
    outputs = [o for f in report["proof"]["functions"].values() for o in f]
    row["snr"] = min(map(decibels, outputs), default=float("inf"))

    table = max((v.size * v.itemsize for v, _ in our_weights.values()), default=0)
    table *= 2 ** int(setting[7:]) if setting.startswith("palette") else 1
    if not model._is_multifunction() and table <= MOST_BYTES:
        plain_at = folder / "plain.mlpackage"
        plain = cto.decompress_weights(ours)
        plain.save(str(plain_at))
        row["plain"] = compare(args.milwright, ours_at, plain_at)
        if row["plain"] != float("inf"):
            wrong.append(f"decompress_weights: {row.pop('plain')}")
    return row, wrong


COLUMNS = [
    ("model", 28, "s"),
    ("setting", 10, "s"),
    ("ours", 6, "d"),
    ("theirs", 7, "d"),
    ("ratio", 10, ".4f"),
    ("median", 10, ".4f"),
    ("plain", 8, ".1f"),
    ("snr", 8, ".1f"),
    ("size", 7, ".3f"),
    ("seconds", 9, ".3f"),
    ("speed", 9, ".1f"),
]


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("models", nargs="+", type=Path)
    parser.add_argument("--milwright", default="target/release/milwright")
    parser.add_argument("--settings", nargs="*", default=list(SETTINGS))
    parser.add_argument("--repeat", type=int, default=1, help="runs of palette4, ours and theirs in turn")
    args = parser.parse_args()
    failed = 0
    print("".join(f"{n:<{w}}" if f == "s" else f"{n:>{w}}" for n, w, f in COLUMNS))
    for path in args.models:
        model = ct.models.MLModel(str(path), skip_model_load=True)
        original = weights(program_of(model))
        for setting in args.settings:
            with tempfile.TemporaryDirectory() as folder:
                try:
                    row, wrong = check(args, path, setting, model, original, Path(folder))
                except Exception as e:  # noqa: BLE001  a crash is a finding, and the next model is tried
                    row = {"model": path.stem, "setting": setting}
                    wrong = [f"{type(e).__name__}: {str(e)[:300]}"]
            failed += bool(wrong)
            cells = (f"{row[n]:<{w}{f}}" if f == "s" else f"{row[n]:>{w}{f}}" if n in row else " " * w for n, w, f in COLUMNS)
            print("".join(cells) + (f"  {row['note']}" if "note" in row else "") + ("  FAIL: " + "; ".join(wrong) if wrong else ""), flush=True)
    print(f"{failed} failed" if failed else "all passed")
    sys.exit(1 if failed else 0)


if __name__ == "__main__":
    main()
