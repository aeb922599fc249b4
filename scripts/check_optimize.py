#!/usr/bin/env python3
"""Check what `milwright optimize` writes against coremltools.

    python scripts/check_optimize.py MODEL.mlpackage... [--milwright target/release/milwright] [--settings palette4 ...]
    python scripts/check_optimize.py --made         models of weights of many kinds, made here


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
import re
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

import packages  # noqa: F401  (silences coremltools)
import coremltools as ct
import coremltools.optimize._utils as cto_utils
import coremltools.optimize.coreml as cto
import numpy as np
from coremltools.converters.mil.frontend.milproto.load import load as load_program
from coremltools.converters.mil.mil.passes.defs.quantization import FP16ComputePrecision
from coremltools.models.utils import _apply_graph_pass



def linear(dtype, granularity="per_channel", mode="linear_symmetric", **more):
    return [("linear_quantize_weights", cto.OpLinearQuantizerConfig(mode=mode, dtype=dtype, granularity=granularity, **more))]


def palette(nbits, mode="kmeans", **more):
    return [("palettize_weights", cto.OpPalettizerConfig(mode=mode, nbits=nbits, **more))]


def group(nbits, size, **more):
    return palette(nbits, granularity="per_grouped_channel", group_size=size, **more)


def prune(**more):
    return [("prune_weights", cto.OpMagnitudePrunerConfig(**more))]


def threshold(value, least):
    return [("prune_weights", cto.OpThresholdPrunerConfig(threshold=value, minimum_sparsity_percentile=least))]


def half(model):
    return _apply_graph_pass(model, FP16ComputePrecision(op_selector=lambda op: True))


# What coremltools does for each of our settings: its functions and their configurations, one after the other.
SETTINGS = {
    "float16": half,
    "int8": linear("int8"),
    "int8:tensor": linear("int8", "per_tensor"),
    "int8:asymmetric": linear("int8", mode="linear"),
    "uint8": linear("uint8"),
    "uint8:tensor,asymmetric": linear("uint8", "per_tensor", "linear"),
    "int4": linear("int4"),
    "int4:asymmetric": linear("int4", mode="linear"),
    "uint4": linear("uint4"),
    "uint4:block=8,asymmetric": linear("uint4", "per_block", "linear", block_size=8),
    "int4:block=8": linear("int4", "per_block", block_size=8),
    "int8:block=16": linear("int8", "per_block", block_size=16),
    **{f"palette{n}": palette(n) for n in (8, 6, 4, 3, 2, 1)},
    "palette4:uniform": palette(4, "uniform"),
    "palette6:uniform": palette(6, "uniform"),
    "unique": palette(None, "unique"),
    "palette4:group=8": group(4, 8),
    "palette2:group=4": group(2, 4),
    "palette4:vector=2": palette(4, cluster_dim=2),
    "palette6:vector=4": palette(6, cluster_dim=4),
    "palette3:group=16,vector=2": group(3, 16, cluster_dim=2),
    "palette8:vector=2": palette(8, cluster_dim=2),
    "prune:threshold=0.01,least=0.01": threshold(0.01, 0.01),
    "prune:sparsity=0.5": prune(target_sparsity=0.5),
    "prune:sparsity=0.75": prune(target_sparsity=0.75),
    "prune:sparsity=0.5,block=2": prune(target_sparsity=0.5, block_size=2),
    "prune:sparsity=0.5,block=4,dim=1": prune(target_sparsity=0.5, block_size=4, dim=1),
    "prune:ratio=2:4": prune(n_m_ratio=(2, 4)),
    "prune:ratio=1:3,dim=0": prune(n_m_ratio=(1, 3), dim=0),
    "prune:sparsity=0.5+int8": prune(target_sparsity=0.5) + linear("int8"),
    "prune:sparsity=0.75+int4:block=8": prune(target_sparsity=0.75) + linear("int4", "per_block", block_size=8),
    "prune:sparsity=0.5+palette4": prune(target_sparsity=0.5) + palette(4),
    "palette4+int8": palette(4) + linear("int8", "per_tensor"),
    "palette4:group=8+int8": group(4, 8) + linear("int8"),
    "int8+palette4": linear("int8") + palette(4),
    "prune:sparsity=0.5+palette4+int8": prune(target_sparsity=0.5) + palette(4) + linear("int8", "per_tensor"),
    "int8+prune:sparsity=0.5": linear("int8") + prune(target_sparsity=0.5),
    "palette4+prune:sparsity=0.5": palette(4) + prune(target_sparsity=0.5),
    # coremltools has no scale of rows: its flag of that name scales the other dimension.
    "palette4:rows": None,
    "palette8:rows": None,
    "palette4:rows+int8": None,
}


def theirs_of(setting, model):
    """What coremltools makes of a model at a setting; `None` where it has nothing of the kind."""
    steps = SETTINGS[setting]
    if callable(steps) or steps is None:
        return steps and steps(model)
    for i, (name, config) in enumerate(steps):
        model = getattr(cto, name)(model, cto.OptimizationConfig(config), joint_compression=i > 0)
    return model


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


def value(var):
    """The value of an input, which may come from another op that compresses."""
    return var.val if var.op is None or var.op.op_type == "const" else decompressed(var.op)[var.op.outputs.index(var)]


def decompressed(op):
    """What each output of a constant or of an op that compresses stands for, by coremltools' functions."""
    get = {name: value(var) for name, var in op.inputs.items() if var is not None and not isinstance(var, (list, tuple))}
    if op.op_type == "const":
        return [op.outputs[0].val]
    if op.op_type == "constexpr_lut_to_dense":
        lut = get["lut"]
        if "shape" in get:
            lut = lut.reshape([1] * len(get["shape"]) + [-1, 1])
            bits = np.unpackbits(get["indices"], bitorder="little")
            width = int(np.log2(lut.size))
            bits = bits[: int(np.prod(get["shape"])) * width].reshape(-1, width)
            get["indices"] = (bits * (1 << np.arange(width))).sum(axis=1).reshape(get["shape"])
        if lut.size == lut.shape[-2]:
            # As coremltools' own code has it, without its table of every element times every entry.
            return [lut.ravel()[np.asarray(get["indices"]).astype(np.int32)]]
        return [cto_utils.lut_to_dense(get["indices"], lut, get.get("vector_axis"))]
    if op.op_type == "constexpr_sparse_to_dense":
        mask = get["mask"]
        if "shape" in get:
            mask = np.unpackbits(mask, count=int(np.prod(get["shape"])), bitorder="little").reshape(get["shape"])
        return [cto_utils.sparse_to_dense(get["nonzero_data"], np.asarray(mask).astype(np.uint8))]
    if op.op_type == "constexpr_blockwise_shift_scale":
        return [cto_utils.dequantize_by_scale_and_zp(get["data"], get["scale"], get.get("offset"))]
    if op.op_type == "constexpr_sparse_blockwise_shift_scale":
        mask = np.asarray(get["data_mask"]).astype(np.uint8)
        dense = cto_utils.sparse_to_dense(get["nonzero_data"], mask)
        dense = cto_utils.dequantize_by_scale_and_zp(dense, get["scale"], get.get("offset"))
        return [mask, dense[mask != 0]]
    if op.op_type == "constexpr_lut_to_sparse":
        mask = np.asarray(get["indices_mask"]).astype(np.uint8)
        indices = cto_utils.sparse_to_dense(get["indices_nonzero_data"], mask)
        axis, vector = get.get("vector_axis"), get["lut"].shape[-1]
        dense = cto_utils.lut_to_dense(indices, get["lut"], axis)
        mask = np.repeat(mask, vector, axis=int(axis)) if vector > 1 else mask
        return [mask, dense[mask != 0]]
    found = op.materialized_val_inference()
    return list(found) if isinstance(found, tuple) else [found]


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
            found[name, output.name] = decompressed(op)[-1], op.op_type != "const"
    return found


def bare(name, names):
    """A name without what coremltools adds to it."""
    for end in 2 * ("_quantized", "_palettized", "_sparsified"):
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
                theirs = theirs_of(setting, model)
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
                if a != b and (a or theirs_is.any()):
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
    bits = re.search(r"palette(\d)|unique", setting)
    table *= 2 ** int(bits[1] or 8) if bits else 1
    if not model._is_multifunction() and table <= MOST_BYTES:
        plain_at = folder / "plain.mlpackage"
        plain = cto.decompress_weights(ours)
        plain.save(str(plain_at))
        row["plain"] = compare(args.milwright, ours_at, plain_at)
        if row["plain"] != float("inf"):
            wrong.append(f"decompress_weights: {row.pop('plain')}")
    return row, wrong


def made(folder, names=()):
    """Models of weights of many kinds: for each op, element type and opset; heavy tails, tiny ones, rows of unlike size."""
    mb, types = ct.converters.mil.Builder, ct.converters.mil.mil.types
    random = np.random.default_rng(0)

    def weight(kind, shape, dtype):
        x = random.standard_normal(shape)
        if kind == "heavy":
            x = random.standard_t(2, shape)
        elif kind == "rows":
            x *= np.exp(random.standard_normal((shape[0],) + (1,) * (len(shape) - 1)) * 2)
        elif kind == "tiny":
            x *= 1e-6
        elif kind == "sparse":
            x[random.random(shape) < 0.6] = 0
        elif kind == "few":
            x = np.round(x * 2)
        elif kind == "positive":
            x = np.abs(x) + 0.5
        return (x * 0.1).astype(dtype)

    for target, name in ((ct.target.iOS16, "16"), (ct.target.iOS18, "18")):
        for dtype, short in ((np.float16, "half"), (np.float32, "single")):
            if names and f"{short}-{name}" not in names:
                continue
            float_type = types.fp16 if dtype == np.float16 else types.fp32
            w = lambda kind, shape: weight(kind, shape, dtype)  # noqa: B023, E731

            @mb.program(
                input_specs=[mb.TensorSpec((1, 64), float_type), mb.TensorSpec((1, 32, 8, 8), float_type)],
                opset_version=target,
            )
            def program(x, image):
                parts = []
                for kind in ("normal", "heavy", "rows", "tiny", "sparse", "few", "positive"):
                    parts.append(mb.linear(x=x, weight=w(kind, (160, 64)), name=f"linear_{kind}"))
                parts.append(mb.matmul(x=x, y=w("normal", (64, 96)), name="matmul_right"))
                parts.append(mb.matmul(x=x, y=w("rows", (96, 64)), transpose_y=True, name="matmul_turned"))
                y = mb.conv(x=image, weight=w("normal", (48, 32, 3, 3)), name="conv")
                y = mb.conv(x=y, weight=w("rows", (48, 24, 3, 3)), groups=2, name="conv_groups")
                y = mb.conv_transpose(x=y, weight=w("normal", (48, 32, 2, 2)), name="conv_transpose")
                parts.append(mb.reshape(x=y, shape=(1, -1)))
                return mb.concat(values=parts, axis=1, name="result")

            model = ct.convert(
                program,
                convert_to="mlprogram",
                minimum_deployment_target=target,
                compute_precision=ct.precision.FLOAT32,
                pass_pipeline=ct.PassPipeline.EMPTY,
                skip_model_load=True,
            )
            path = folder / f"made-{short}-{name}.mlpackage"
            model.save(str(path))
            yield path


COLUMNS = [
    ("model", 28, "s"),
    ("setting", 34, "s"),
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
    parser.add_argument("models", nargs="*", type=Path)
    parser.add_argument("--made", nargs="*", help="models that this script makes: all, or those of these names, such as half-18")
    parser.add_argument("--milwright", default="target/release/milwright")
    parser.add_argument("--settings", nargs="*", default=list(SETTINGS))
    parser.add_argument("--repeat", type=int, default=1, help="runs of palette4, ours and theirs in turn")
    args = parser.parse_args()
    failed = 0
    print("".join(f"{n:<{w}}" if f == "s" else f"{n:>{w}}" for n, w, f in COLUMNS))
    made_in = tempfile.TemporaryDirectory()
    for path in [*args.models, *(made(Path(made_in.name), args.made) if args.made is not None else [])]:
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
