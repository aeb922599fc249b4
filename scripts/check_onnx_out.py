#!/usr/bin/env python3
"""Run exported ONNX models in ONNX Runtime: the numeric cases of all ops, or packages.

    MILWRIGHT_ONNX_OUT=target/onnx-out cargo test -p milwright-testkit --test to_onnx
    python3 scripts/check_onnx_out.py target/onnx-out
    python3 scripts/check_onnx_out.py --milwright target/release/milwright MODEL.mlpackage ...

A folder has the cases that the test kept: `NAME.onnx`, and `NAME.txt` with inputs, expected outputs and tolerances.
A package is exported (`milwright convert MODEL.mlpackage -o MODEL.onnx`), and runs in both engines on random inputs, or
those of `MODEL.inputs/` beside it: every output must be within 1e-4 of its largest value (1e-2 for programs that compute in fp16).
Needs numpy and onnxruntime.
"""

import argparse
import pathlib
import re
import subprocess
import sys
import tempfile

import numpy as np
import onnxruntime as ort

DTYPES = {"fp16": "float16", "fp32": "float32", "bool": "bool"}
LINE = re.compile(r"// (input|expect) (\S+) (\S+) \[(.*?)\](?: atol (\S+))? =(.*)")


def session_of(path):
    settings = ort.SessionOptions()
    settings.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    settings.intra_op_num_threads = 1
    return ort.InferenceSession(str(path), settings, providers=["CPUExecutionProvider"])


def case(path):
    """What is wrong with a case; nothing if it is right."""
    inputs, expected = {}, []
    for line in path.with_suffix(".txt").read_text().splitlines():
        found = LINE.match(line)
        if not found:
            continue
        kind, name, dtype, shape, tolerance, values = found.groups()
        words = {"true": 1, "false": 0}
        numbers = [words[v] if v in words else float(v) for v in values.split()]
        shape = [int(n) for n in shape.split(",") if n.strip()]
        array = np.array(numbers, np.float64).reshape(shape).astype(DTYPES.get(dtype, dtype))
        if kind == "input":
            inputs[name] = array
        else:
            expected.append((name, array, float(tolerance or 0)))
    found = session_of(path).run([name for name, _, _ in expected], inputs)
    for (name, wanted, tolerance), value in zip(expected, found):
        if value.shape != wanted.shape or value.dtype != wanted.dtype:
            return f"{name}: {value.dtype} {value.shape}, expected {wanted.dtype} {wanted.shape}"
        a, b = value.astype(np.float64), wanted.astype(np.float64)
        magnitude = np.abs(b[np.isfinite(b)]).max(initial=0)
        # fp16 is rounded at other places.
        relative = 2e-3 if wanted.dtype == np.float16 else 1e-5
        with np.errstate(invalid="ignore"):
            apart = np.where((a == b) | (np.isnan(a) & np.isnan(b)), 0, np.abs(a - b))
        if not (apart <= tolerance + relative * magnitude).all():
            return f"{name}: {np.nanmax(apart):.3g} of {magnitude:.3g} (allowed {tolerance})"
    return ""


def package(milwright, path):
    with tempfile.TemporaryDirectory() as temporary:
        folder = pathlib.Path(temporary)
        target = folder / "model.onnx"
        done = subprocess.run([milwright, "convert", str(path), "-o", str(target)], capture_output=True, text=True, check=False)
        if done.returncode:
            return "refused: " + done.stderr.strip()
        session = session_of(target)
        rng = np.random.default_rng(0)
        given, command = {}, [milwright, "run", str(path), "--output", str(folder / "out"), "--json"]
        for i, spec in enumerate(session.get_inputs()):
            shape = [n if isinstance(n, int) else 1 + i for i, n in enumerate(spec.shape)]
            beside = path.with_suffix(".inputs") / f"{spec.name}.npy"
            if beside.exists():
                value = np.load(beside)
            elif "int" in spec.type:
                value = rng.integers(0, 2, shape).astype(np.int32)
            else:
                value = rng.standard_normal(shape).astype(np.float16 if "16" in spec.type else np.float32)
            given[spec.name] = value
            np.save(folder / f"{i}.npy", value)
            command += ["--input", f"{spec.name}={folder / f'{i}.npy'}"]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            return "does not run: " + done.stderr.strip()
        half = any("float16" in spec.type for spec in [*session.get_inputs(), *session.get_outputs()]) or "fp16" in path.stem
        for spec, value in zip(session.get_outputs(), session.run(None, given)):
            file = folder / "out" / f"{spec.name}.npy"
            if not file.exists() or value.dtype.kind not in "fiub":
                continue
            wanted = np.load(file).astype(np.float64)
            if value.shape != wanted.shape:
                return f"{spec.name}: shape {value.shape}, not {wanted.shape}"
            apart = np.abs(value - wanted).max(initial=0) / max(np.abs(wanted).max(initial=0), 1e-2)
            if not apart <= (1e-2 if half else 1e-4):
                return f"{spec.name}: {apart:.2e} of the largest value"
    return ""


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--milwright")
    parser.add_argument("places", nargs="+", type=pathlib.Path)
    args = parser.parse_args()
    ort.set_default_logger_severity(4)
    bad = total = 0
    for place in args.places:
        is_package = place.suffix in (".mlpackage", ".mlmodel", ".mlmodelc")
        for path in [place] if is_package else sorted(place.glob("*.onnx")):
            try:
                problem = package(args.milwright, path) if is_package else case(path)
            except Exception as error:  # noqa: BLE001: one bad model must not hide the others
                problem = f"{type(error).__name__}: {str(error).splitlines()[0][:200]}"
            total += 1
            bad += bool(problem)
            if problem or is_package:
                print(f"{'FAIL' if problem else 'ok  '} {path.stem}: {problem}", flush=True)
    print(f"{total - bad} of {total} agree")
    sys.exit(bool(bad))


if __name__ == "__main__":
    main()
