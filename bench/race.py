#!/usr/bin/env python3
"""Race Milwright, in fp32 and fp16, against onnxruntime and OpenVINO on the networks of race_nets.py.

    cargo build --release --no-default-features --manifest-path bench/Cargo.toml
    python bench/race_nets.py target/race
    python bench/race.py target/race [--only a,b] [--threads 1 2] [--rounds 7] [--save]

One process for each engine and network; they are asked in turn, round by round, so that what disturbs the machine
disturbs all of them. A cell is the median over the rounds of the round's fastest run in ms; a ratio is taken within a
round, and the median over the rounds is shown. "peer" is the faster one of onnxruntime and OpenVINO in f32. Peak is
the peak memory of the process in MB, its runtime included. `difference` is the largest from PyTorch's output, divided
by the largest magnitude of that. The roofs of the machine (one thread) are measured in the same run.

Engines: mw (fp32 package), mw16 (fp16 package), mw-SUFFIX (NAME-SUFFIX.mlpackage), ort, ov (OpenVINO, f32), ovd (OpenVINO, its default precision), and
OTHER=PATH for another build of milwright-bench on the fp32 package (OTHER16=PATH: fp16).

`--save` keeps the results in bench/results/KIND.json, KIND being the kind of machine, and writes the table of
docs/speed.md from all kept results. Results of a busy machine say so (`load`). On a machine that has other work to do,
`--cpu` takes the CPU time of a round's runs instead of the clock.
"""

import argparse
import json
import os
import re
import statistics
import subprocess
import sys
from importlib import metadata
from pathlib import Path

HERE = Path(__file__).resolve().parent
RESULTS = HERE / "results"
PAGE = HERE.parent / "docs/speed.md"
PEERS = ("ort", "ov")
# Runs before those that a process counts.
WARM_UP = 2

# A process for an engine with an interface in Python. It speaks the protocol of bench/src/main.rs.
PEER = r"""
import json, sys, time
from pathlib import Path
import numpy as np
engine, model, folder, threads, wanted = sys.argv[1:]
threads = int(threads)
inputs = {path.stem: np.load(path) for path in Path(folder).glob("*.npy")}
if "ids" in inputs:  # ONNX has 64-bit indices
    inputs = {name: array.astype(np.int64) for name, array in inputs.items()}
start = time.perf_counter()
if engine == "ort":
    import onnxruntime
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    run = lambda: session.run(None, inputs)[0]
else:
    import openvino
    config = {"INFERENCE_NUM_THREADS": threads, "NUM_STREAMS": 1, "PERFORMANCE_HINT": "LATENCY"}
    if engine == "ov":
        config["INFERENCE_PRECISION_HINT"] = "f32"
    core = openvino.Core()
    request = core.compile_model(core.read_model(model), "CPU", config).create_infer_request()
    def run():
        request.infer(inputs)
        return request.get_output_tensor(0).data
print(json.dumps({"load_ms": (time.perf_counter() - start) * 1e3}), flush=True)
for line in sys.stdin:
    word, argument = line.split(" ", 1)
    if word == "save":
        np.save(Path(argument.strip()) / "y.npy", run())
        print("{}", flush=True)
        continue
    run(), run()
    times, end = [], time.perf_counter() + float(argument)
    while not times or time.perf_counter() < end:
        start = time.perf_counter()
        run()
        times.append((time.perf_counter() - start) * 1e3)
    times.sort()
    print(json.dumps({"runs": len(times), "min_ms": times[0], "median_ms": times[len(times) // 2]}), flush=True)
"""


class Runner:
    def __init__(self, engine, folder, name, threads, arguments):
        inputs = folder / f"{name}.inputs"
        label, _, program = engine.partition("=")
        if engine in (*PEERS, "ovd"):
            command = [sys.executable, "-c", PEER, engine, folder / f"{name}.onnx", inputs, str(threads), ""]
        else:
            suffix = f"-{label[3:]}" if label.startswith("mw-") else "-fp16" if label.endswith("16") else ""
            package = folder / f"{name}{suffix}.mlpackage"
            command = [program or arguments.program, "milwright", package, inputs, str(threads)]
        self.label = label
        pipes = dict(stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
        environment = os.environ | {"OMP_NUM_THREADS": str(threads)}
        self.process = subprocess.Popen(command, env=environment, **pipes)
        self.rounds = []
        self.ready = json.loads(self.process.stdout.readline())

    def ask(self, line):
        self.process.stdin.write(line + "\n")
        self.process.stdin.flush()
        return json.loads(self.process.stdout.readline())

    def cpu_ms(self):
        """The CPU time that the process has used, all threads."""
        tasks = Path(f"/proc/{self.process.pid}/task").glob("*/schedstat")
        return sum(int(task.read_text().split()[0]) for task in tasks) / 1e6

    def time(self, seconds, cpu):
        before = self.cpu_ms()
        answer = self.ask(f"run {seconds}")
        mean = (self.cpu_ms() - before) / (answer["runs"] + WARM_UP)
        self.rounds.append(mean if cpu else answer["min_ms"])

    def difference(self, want):
        import tempfile

        import numpy as np

        with tempfile.TemporaryDirectory() as folder:
            self.ask("run 0")
            self.ask(f"save {folder}")
            got = np.load(next(Path(folder).glob("*.npy"))).astype(np.float64)
        return float(np.abs(got.ravel() - want.ravel()).max() / np.abs(want).max())

    def peak(self):
        status = Path(f"/proc/{self.process.pid}/status").read_text()
        return int(re.search(r"VmHWM:\s+(\d+)", status)[1]) / 1024

    def close(self):
        self.process.stdin.close()
        self.process.wait()


def race(folder, name, threads, arguments):
    import numpy as np

    want = np.load(folder / f"{name}.y.npy").astype(np.float64)
    runners = []
    for engine in arguments.engines.split(","):
        try:
            runners.append(Runner(engine, folder, name, threads, arguments))
        except json.JSONDecodeError:
            print(f"{name}: {engine} failed", file=sys.stderr)
    differences = {runner.label: runner.difference(want) for runner in runners}
    for turn in range(arguments.rounds):
        first = turn % len(runners)
        for runner in runners[first:] + runners[:first]:
            runner.time(arguments.seconds, arguments.cpu)
    peers = [runner for runner in runners if runner.label in PEERS]
    row = {"network": name, "threads": threads, "engines": {}}
    base = min(peers or runners, key=lambda r: statistics.median(r.rounds))
    for runner in runners:
        ratios = [ours / theirs for ours, theirs in zip(runner.rounds, base.rounds)]
        row["engines"][runner.label] = {
            "ms": statistics.median(runner.rounds),
            "ratio": statistics.median(ratios),
            "load_ms": runner.ready["load_ms"],
            "peak_mb": runner.peak(),
            "difference": differences[runner.label],
        }
        runner.close()
    row["peer"] = base.label
    return row


def machine():
    """The kind of machine, as a file name, and its name."""
    text = Path("/proc/cpuinfo").read_text()
    name = re.search(r"model name\s*: (.*)", text)[1].strip()
    flags = set(re.search(r"flags\s*: (.*)", text)[1].split())
    features = [f for f in ("avx2", "avx512f", "avx512_vnni", "avx512_bf16", "amx_bf16") if f in flags]
    kind = re.sub(r"[^a-z0-9]+", "-", f"{name.split('@')[0]} {' '.join(features[1:])}".lower()).strip("-")
    return kind, f"{name} ({', '.join(features)})"


def geometric_mean(numbers):
    return statistics.geometric_mean(numbers) if numbers else float("nan")


def table(result):
    """Lines of a table in Markdown."""
    labels = list(result["rows"][0]["engines"])
    ours = [label for label in labels if label not in (*PEERS, "ovd")]
    lines = ["| network | threads | " + " | ".join(f"{label} ms" for label in labels)]
    lines[0] += " | " + " | ".join(f"{label} / peer" for label in ours) + " | load ms | peak MB |"
    lines.append("|---" * (4 + len(labels) + len(ours)) + "|")
    for row in result["rows"]:
        cells = [row["network"], str(row["threads"])]
        engines = {label: row["engines"].get(label) for label in labels}
        cells += [f"{e['ms']:.3g}" if e else "–" for e in engines.values()]
        cells += [f"**{engines[label]['ratio']:.2f}**" if engines[label] else "–" for label in ours]
        cells.append(" / ".join(f"{e['load_ms']:.0f}" if e else "–" for e in engines.values()))
        cells.append(" / ".join(f"{e['peak_mb']:.0f}" if e else "–" for e in engines.values()))
        lines.append("| " + " | ".join(cells) + " |")
    for threads in sorted({row["threads"] for row in result["rows"]}):
        rows = [row for row in result["rows"] if row["threads"] == threads]
        means = [geometric_mean([r["engines"][o]["ratio"] for r in rows if o in r["engines"]]) for o in ours]
        cells = ["*geometric mean*", str(threads), *([""] * len(labels)), *(f"**{mean:.2f}**" for mean in means)]
        lines.append("| " + " | ".join([*cells, "", ""]) + " |")
    return lines


def write_page():
    """Write the part of the page between its markers."""
    lines = []
    for path in sorted(RESULTS.glob("*.json")):
        result = json.loads(path.read_text())
        roofs = result["roofs"]
        versions = ", ".join(f"{name} {version}" for name, version in result["versions"].items())
        lines += [f"### {result['machine']}", ""]
        lines += [f"{result['cores']} cores, load {result['load']:.1f} when the run began; {versions}. One thread's "]
        lines[-1] += f"roofs: {roofs['gflops']:.0f} GFLOP/s of multiply-adds in f32, {roofs['read_gb_s']:.1f} GB/s read."
        lines += ["", *table(result), ""]
    text = PAGE.read_text()
    start, end = "<!-- results: written by bench/race.py -->\n", "<!-- end of results -->"
    before, rest = text.split(start)
    PAGE.write_text(before + start + "\n" + "\n".join(lines) + "\n" + end + rest.split(end)[1])


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--only", default="")
    parser.add_argument("--engines", default="mw,mw16,ort,ov,ovd")
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--seconds", type=float, default=0.4, help="for one engine in one round")
    parser.add_argument("--program", type=Path, default=HERE / "target/release/milwright-bench")
    parser.add_argument("--cpu", action="store_true", help="take the mean CPU time, for a busy machine and one thread")
    parser.add_argument("--save", action="store_true")
    arguments = parser.parse_args()
    if arguments.cpu and (arguments.threads != [1] or arguments.save):
        parser.error("--cpu compares single threads, and its results are not kept")
    kind, name = machine()
    load = os.getloadavg()[0]
    roofs = json.loads(subprocess.run([arguments.program, "roofs"], capture_output=True, check=True).stdout)
    versions = {package: metadata.version(package) for package in ("onnxruntime", "openvino")}
    print(f"{name}, load {load:.1f}; {versions}; {roofs}", flush=True)
    names = arguments.only.split(",") if arguments.only else sorted(p.stem for p in arguments.folder.glob("*.onnx"))
    rows = []
    for threads in arguments.threads:
        for network in names:
            rows.append(race(arguments.folder, network, threads, arguments))
            engines = rows[-1]["engines"].items()
            cells = (f"{e} {r['ms']:.3f} ({r['ratio']:.2f}x, load {r['load_ms']:.0f}, {r['peak_mb']:.0f} MB, {r['difference']:.0e})" for e, r in engines)
            print(f"{network:18} t{threads} peer {rows[-1]['peer']}: " + "  ".join(cells), flush=True)
    result = dict(machine=name, cores=os.cpu_count(), load=load, versions=versions, roofs=roofs, rows=rows)
    print("\n".join(table(result)))
    if arguments.save:
        RESULTS.mkdir(exist_ok=True)
        (RESULTS / f"{kind}.json").write_text(json.dumps(result, indent=1) + "\n")
        write_page()


if __name__ == "__main__":
    main()
