#!/usr/bin/env python3
"""Latency of milwright and onnxruntime on the same network, interleaved in one run.

    python bench/onnxruntime.py --models target/models [--milwright target/release/milwright] [--rounds 5]

basic-pitch comes as both formats in one package. Each round runs one engine after the other in processes of their own;
the ratio is that of the two medians of a round, and the table has its median, least and greatest over the rounds.
"""

import argparse
import json
import statistics
import subprocess
import sys
from pathlib import Path

PEER = """
import json, sys, time
import numpy as np, onnxruntime as ort
path, threads, seconds = sys.argv[1], int(sys.argv[2]), float(sys.argv[3])
options = ort.SessionOptions()
options.intra_op_num_threads = threads
session = ort.InferenceSession(path, options, providers=["CPUExecutionProvider"])
shape = [n if isinstance(n, int) else 1 for n in session.get_inputs()[0].shape]
x = {session.get_inputs()[0].name: np.random.default_rng(0).uniform(-1, 1, shape).astype(np.float32)}
for _ in range(3):
    session.run(None, x)
times, start = [], time.perf_counter()
while time.perf_counter() - start < seconds:
    one = time.perf_counter()
    session.run(None, x)
    times.append(time.perf_counter() - one)
print(json.dumps(sorted(times)[len(times) // 2] * 1e3))
"""


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", type=Path, default=Path("target/models"))
    parser.add_argument("--milwright", default="target/release/milwright")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=2.0)
    args = parser.parse_args()
    print(f"{'network':<14}{'threads':>8}{'milwright ms':>14}{'onnxruntime ms':>16}{'ratio':>8}{'least':>8}{'greatest':>10}")
    for threads in (1, 2):
        ours, theirs = [], []
        for _ in range(args.rounds):
            command = [args.milwright, "bench", args.models / "nmp.mlpackage", "--threads", str(threads)]
            command += ["--seconds", str(args.seconds), "--json"]
            ours.append(json.loads(subprocess.check_output(command))["median_ms"])
            command = [sys.executable, "-c", PEER, args.models / "nmp.onnx", str(threads), str(args.seconds)]
            theirs.append(json.loads(subprocess.check_output(command)))
        ratios = [a / b for a, b in zip(ours, theirs, strict=True)]
        print(
            f"{'basic-pitch':<14}{threads:>8}{statistics.median(ours):>14.2f}{statistics.median(theirs):>16.2f}"
            f"{statistics.median(ratios):>8.2f}{min(ratios):>8.2f}{max(ratios):>10.2f}"
        )


if __name__ == "__main__":
    main()
