#!/usr/bin/env python3
"""Run real models with milwright and compare every output with the reference that torch or onnxruntime gave.

    python scripts/check_models.py --models target/models [--milwright target/release/milwright] [NAME ...]

The references are made by convert_models.py (NAME.inputs/*.npy, NAME.outputs/*.npy; torch in fp32) and, for
basic-pitch, by onnxruntime here. A model that computes in fp16 is held to fp16's precision. Prints a row for each
model; the exit status is 1 if one is off.
"""

import argparse
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np

# Absolute error, relative to 1 or to the largest reference value.
FP32, FP16 = 1e-4, 3e-2


def run(milwright, model, inputs, function=None):
    """Outputs by name, or the text of the error."""
    with tempfile.TemporaryDirectory() as folder:
        command = [milwright, "run", model, "--output", folder, "--no-cache"]
        command += [x for name, file in inputs.items() for x in ("--input", f"{name}={file}")]
        if function:
            command += ["--function", function]
        done = subprocess.run(command, capture_output=True, text=True)
        if done.returncode:
            return done.stderr.split("error: ")[-1].strip().splitlines()[0]
        return {p.stem: np.load(p) for p in Path(folder).glob("*.npy")}


def worst(outputs, references):
    """The largest error over all outputs, relative to max(1, largest reference value)."""
    errors = []
    for name, reference in references.items():
        if name not in outputs:
            # A classifier's scores have two names: the network's and the description's.
            name = next((n for n in outputs if n.endswith("_probs")), name)
        if name not in outputs:
            return f"output {name} is missing; there are {', '.join(outputs)}"
        output = outputs[name]
        if reference.dtype.kind in "US":
            errors.append(0.0 if (output == reference).all() else np.inf)
            continue
        if output.size != reference.size:
            return f"output {name} has the shape {output.shape}, not {reference.shape}"
        a, b = output.astype(np.float64).ravel(), reference.astype(np.float64).ravel()
        if not np.array_equal(np.isnan(a), np.isnan(b)):
            return f"output {name} has NaN where the reference has not, or the reverse"
        scale = max(1.0, float(np.nanmax(np.abs(b), initial=0.0)))
        errors.append(float(np.nanmax(np.abs(a - b), initial=0.0)) / scale)
    return max(errors, default=0.0)


def cases(models):
    """(name, model, inputs, references, function)"""
    converted = models / "converted"
    for package in sorted(converted.glob("*.mlpackage")):
        for inputs in sorted(converted.glob(f"{package.stem}.inputs")) + sorted(
            converted.glob(f"{package.stem}.*.inputs")
        ):
            case = inputs.name.removesuffix(".inputs")
            part = case.removeprefix(package.stem).removeprefix(".")
            if part.startswith("step"):
                continue  # Further predictions of a stateful model need one session: see the library's tests.
            references = {p.stem: np.load(p) for p in (converted / f"{case}.outputs").glob("*.npy")}
            files = {p.stem: p for p in inputs.glob("*.npy")}
            yield case, package, files, references, part if package.stem == "two_functions" and part else None


def basic_pitch(milwright, models):
    """basic-pitch against onnxruntime on random input and on speech."""
    import onnxruntime

    session = onnxruntime.InferenceSession(models / "nmp.onnx", providers=["CPUExecutionProvider"])
    speech = np.fromfile(models / "data" / "speech-8khz-s16.raw", dtype="<i2").astype(np.float32) / 32768
    speech = np.interp(np.arange(43844) / 22050, np.arange(speech.size) / 8000, speech).astype(np.float32)
    signals = {"random": np.random.default_rng(0).uniform(-1, 1, 43844).astype(np.float32), "speech": speech}
    for kind, signal in signals.items():
        signal = signal.reshape(1, 43844, 1)
        expected = session.run(None, {session.get_inputs()[0].name: signal})
        with tempfile.TemporaryDirectory() as folder:
            file = Path(folder) / "input_2.npy"
            np.save(file, signal)
            outputs = run(milwright, models / "nmp.mlpackage", {"input_2": file})
        if isinstance(outputs, str):
            yield f"nmp ({kind})", outputs
            continue
        # The two files name their outputs differently: pair them by shape, then by distance.
        errors = []
        for reference in expected:
            same = [o for o in outputs.values() if o.shape == reference.shape]
            errors.append(min(float(np.abs(o - reference).max()) for o in same))
        yield f"nmp ({kind})", max(errors)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", type=Path, default=Path("target/models"))
    parser.add_argument("--milwright", default="target/release/milwright")
    parser.add_argument("names", nargs="*", help="only these models")
    args = parser.parse_args()
    failed = 0

    def report(name, error, limit):
        nonlocal failed
        bad = isinstance(error, str) or not error <= limit
        failed += bad
        text = error if isinstance(error, str) else f"{error:.2e} (limit {limit:.0e})"
        print(f"{'FAIL' if bad else 'ok':<5}{name:<40}{text}", flush=True)

    if not args.names or "nmp" in args.names:
        for name, error in basic_pitch(args.milwright, args.models):
            report(name, error, FP32)
    for case, package, files, references, function in cases(args.models):
        if args.names and package.stem not in args.names:
            continue
        outputs = run(args.milwright, package, files, function)
        error = outputs if isinstance(outputs, str) else worst(outputs, references)
        half = any(word in package.stem for word in ("fp16", "image", "accumulator", "key_value"))
        report(case, error, FP16 if half and "fp32" not in package.stem else FP32)
    print(f"{failed} failed" if failed else "all passed")
    sys.exit(1 if failed else 0)


if __name__ == "__main__":
    main()
