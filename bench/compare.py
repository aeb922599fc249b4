#!/usr/bin/env python3
"""Latency of milwright, onnxruntime, tract and rten on the same networks, interleaved in one run.

    cargo build --release --manifest-path bench/Cargo.toml
    python bench/compare.py [--models target/models] [--only GLOB] [--threads 1 2] [--rounds 9] [--cpu] [--json]

Each engine runs in a process of its own (bench/src), all with the same inputs. First their outputs are compared: the
largest absolute difference from onnxruntime's is printed, and more than a model's tolerance ends the run with 1. Then
they are timed in short rounds, one engine after the other, round by round; which one starts goes round, too. A round's
time is that of its fastest run, on which other programs weigh least; `--json` has the medians, too. A cell is the
median over the rounds; a ratio is milwright's time divided by the other engine's in the same round, as median [least,
greatest] over the rounds: below 1, milwright is faster.

On a machine that has other work to do, `--cpu` takes the CPU time of a round's runs instead of the clock (Linux). It
says nothing about more than one thread, since threads that wait may spin.

The models come from scripts/fetch_models.py, convert_models.py and export_onnx.py.
"""

import argparse
import fnmatch
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from importlib import metadata, util
from pathlib import Path

import numpy as np

HERE = Path(__file__).resolve().parent
ENGINES = ("milwright", "onnxruntime", "tract", "rten")
# Outputs of float32 programs, and of PiperSR's float16 program on pixels of 0 to 255.
FP32, PIXELS = 1e-4, 1.0
# Runs before those that the program counts.
WARM_UP = 2
# For threads of the engine before to fall asleep.
PAUSE = 0.05


@dataclass(frozen=True)
class Network:
    package: str
    onnx: str
    inputs: str
    tolerance: float = FP32


NETWORKS = {
    "basic-pitch": Network("nmp.mlpackage", "nmp.onnx", "converted/nmp.inputs"),
    "MiniLM, 128 tokens": Network("converted/minilm.mlpackage", "onnx/minilm.onnx", "converted/minilm.inputs"),
    "MobileNetV2, 224x224": Network(
        "converted/mobilenet_v2.mlpackage", "onnx/mobilenet_v2.onnx", "converted/mobilenet_v2.inputs"
    ),
    "PiperSR 2x, 128x128": Network(
        "PiperSR_2x.mlpackage", "onnx/PiperSR_2x.onnx", "converted/PiperSR_2x.inputs", PIXELS
    ),
    "digits": Network(str(HERE.parent / "examples/digits.mlpackage"), "onnx/digits.onnx", "onnx/digits.inputs"),
}


class Engine:
    """A process that has one engine and one model ready."""

    def __init__(self, program, name, network, models, threads):
        model = network.package if name == "milwright" else network.onnx
        command = [program, name, models / model, models / network.inputs, str(threads)]
        environment = os.environ | {"ORT_DYLIB_PATH": str(onnxruntime_library())}
        self.name = name
        self.process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment
        )
        self.load_ms = self.answer()["load_ms"]

    def answer(self):
        line = self.process.stdout.readline()
        if not line:
            sys.exit(f"{self.name} stopped with {self.process.wait()}")
        return json.loads(line)

    def cpu_ms(self):
        """The CPU time that the process has used, all threads."""
        tasks = Path(f"/proc/{self.process.pid}/task").glob("*/schedstat")
        return sum(int(task.read_text().split()[0]) for task in tasks) / 1e6

    def time(self, seconds, cpu):
        """One round: `ms` is the time of its fastest run, or the mean CPU time of all."""
        before = self.cpu_ms() if cpu else 0
        timed = self.ask(f"run {seconds}")
        mean = (self.cpu_ms() - before) / (timed["runs"] + WARM_UP) if cpu else None
        return timed | {"ms": mean if cpu else timed["min_ms"]}

    def ask(self, line):
        self.process.stdin.write(line + "\n")
        self.process.stdin.flush()
        return self.answer()

    def outputs(self):
        with tempfile.TemporaryDirectory() as folder:
            self.ask("run 0")
            self.ask(f"save {folder}")
            arrays = [np.load(path) for path in Path(folder).glob("*.npy")]
        return [array for array in arrays if array.dtype == np.float32]  # all but a label

    def close(self):
        self.process.stdin.close()
        self.process.wait()


def onnxruntime_library():
    folder = Path(util.find_spec("onnxruntime").origin).parent / "capi"
    (library,) = folder.glob("libonnxruntime.*.dylib" if sys.platform == "darwin" else "libonnxruntime.so.*")
    return library


def largest_difference(outputs, reference):
    """Over all outputs. Formats name and order them differently: each is compared with the nearest of its size."""

    def nearest(array):
        same = [other for other in reference if other.size == array.size]
        return min(float(np.abs(other.ravel() - array.ravel()).max()) for other in same)

    if len(outputs) != len(reference):
        sys.exit(f"{len(outputs)} outputs, the reference has {len(reference)}")
    return max(nearest(array) for array in outputs)


def compare(name, network, threads, arguments):
    """Time all engines on one network: a dict for `--json`."""
    engines = [Engine(arguments.program, engine, network, arguments.models, threads) for engine in ENGINES]
    outputs = {engine.name: engine.outputs() for engine in engines}
    differences = {name: largest_difference(arrays, outputs["onnxruntime"]) for name, arrays in outputs.items()}
    rounds = {engine.name: [] for engine in engines}
    for turn in range(arguments.rounds):
        first = turn % len(engines)
        for engine in engines[first:] + engines[:first]:
            time.sleep(PAUSE)
            rounds[engine.name].append(engine.time(arguments.seconds, arguments.cpu))
    result = {"network": name, "threads": threads, "tolerance": network.tolerance, "engines": {}}
    for engine in engines:
        pairs = zip(rounds["milwright"], rounds[engine.name], strict=True)
        ratios = [ours["ms"] / theirs["ms"] for ours, theirs in pairs]
        result["engines"][engine.name] = {
            "ms": statistics.median(one["ms"] for one in rounds[engine.name]),
            "rounds": rounds[engine.name],
            "load_ms": engine.load_ms,
            "milwright_ratio": {"median": statistics.median(ratios), "least": min(ratios), "greatest": max(ratios)},
            "difference": differences[engine.name],
        }
        engine.close()
    return result


def versions():
    """Of the peers, and of the machine."""
    lock = (HERE / "Cargo.lock").read_text()
    found = {"onnxruntime": metadata.version("onnxruntime")}
    for crate, name in (("tract-onnx", "tract"), ("rten", "rten")):
        found[name] = lock.split(f'name = "{crate}"\nversion = "')[1].split('"')[0]
    return found


def machine():
    model = platform.processor()
    if Path("/proc/cpuinfo").exists():
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        model = next((line.split(": ")[1] for line in lines if line.startswith("model name")), model)
    return {"cpu": model, "cores": os.cpu_count(), "system": platform.system()}


def row(result):
    cells = [result["network"], str(result["threads"])]
    engines = result["engines"]
    cells += [f"{engines[name]['ms']:.3g}" for name in ENGINES]
    for name in ENGINES[1:]:
        ratio = engines[name]["milwright_ratio"]
        cells.append(f"**{ratio['median']:.2f}** [{ratio['least']:.2f}, {ratio['greatest']:.2f}]")
    cells.append(" / ".join(f"{engines[name]['difference']:.1e}" for name in ENGINES if name != "onnxruntime"))
    return f"| {' | '.join(cells)} |"


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", type=Path, default=HERE.parent / "target/models")
    parser.add_argument("--program", type=Path, default=HERE / "target/release/milwright-bench")
    parser.add_argument("--only", default="*", help="networks to run, as a glob")
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--seconds", type=float, default=0.5, help="for one engine in one round")
    parser.add_argument("--cpu", action="store_true", help="compare CPU times, which other programs disturb less")
    parser.add_argument("--json", action="store_true", help="print everything as one JSON object")
    arguments = parser.parse_args()
    if arguments.cpu and arguments.threads != [1]:
        parser.error("--cpu compares single threads: add --threads 1")
    about = {"versions": versions(), "machine": machine(), "load_average_before": os.getloadavg(), "cpu": arguments.cpu}
    if not arguments.json:
        print("; ".join(f"{key} {value}" for key, value in about["versions"].items()))
        print(f"{about['machine']['cpu']}, {about['machine']['cores']} cores; load {os.getloadavg()[0]:.2f}\n")
        print("| network | threads |" + "".join(f" {name} ms |" for name in ENGINES), end="")
        print("".join(f" milwright / {name} |" for name in ENGINES[1:]) + " difference: milwright / tract / rten |")
        print("|---" * (3 + 2 * len(ENGINES) - 1) + "|")
    results = []
    for name, network in NETWORKS.items():
        if not fnmatch.fnmatch(name, arguments.only):
            continue
        for threads in arguments.threads:
            results.append(compare(name, network, threads, arguments))
            if not arguments.json:
                print(row(results[-1]), flush=True)
    if arguments.json:
        print(json.dumps(about | {"results": results}, indent=2))
    wrong = [
        f"{result['network']}: {engine} differs by {found['difference']:.1e}, more than {result['tolerance']:.0e}"
        for result in results
        for engine, found in result["engines"].items()
        if not found["difference"] <= result["tolerance"]
    ]
    if wrong:
        sys.exit("\n".join(wrong))


if __name__ == "__main__":
    main()
