#!/usr/bin/env python3
"""The time from a model's file to a session that is ready, of two builds of the command.

    python bench/load.py OLD NEW MODEL...

OLD and NEW are two `milwright` binaries. Each model is loaded without a cache (compiled anew) and from a cache that
holds its plan, by both builds in turn; the fastest of five loads counts.
"""

import json
import math
import subprocess
import sys
import tempfile
from pathlib import Path

ROUNDS = 5


def load_ms(binary, model, cache):
    """How long one load takes, in milliseconds, as `milwright bench` measures it."""
    cached = ["--cache-dir", str(cache)] if cache else ["--no-cache"]
    command = [binary, "bench", model, "--json", "--seconds", "0.05", *cached]
    result = subprocess.run(command, capture_output=True, text=True)
    if result.returncode:
        sys.exit(f"{binary}: {result.stderr.strip()}")
    return json.loads(result.stdout)["load_ms"]


def fastest(binaries, model, caches):
    """The fastest load by each build, interleaved."""
    times = [[] for _ in binaries]
    for _ in range(ROUNDS):
        for binary, cache, found in zip(binaries, caches, times):
            found.append(load_ms(binary, model, cache))
    return [min(found) for found in times]


def main():
    if len(sys.argv) < 4:
        sys.exit(__doc__)
    binaries, models = sys.argv[1:3], sys.argv[3:]
    ratios = [[], []]
    print(f"{'ms':32}  {'compiled: old':>13} {'new':>8} {'ratio':>6}  {'cached: old':>11} {'new':>8} {'ratio':>6}")
    with tempfile.TemporaryDirectory() as folder:
        for model in models:
            caches = [Path(folder, build) for build in ("old", "new")]
            for binary, cache in zip(binaries, caches):
                load_ms(binary, model, cache)
            cold, warm = fastest(binaries, model, [None, None]), fastest(binaries, model, caches)
            for found, (old, new) in zip(ratios, (cold, warm)):
                found.append(new / old)
            row = f"{cold[0]:13.1f} {cold[1]:8.1f} {ratios[0][-1]:6.2f}  {warm[0]:11.1f} {warm[1]:8.1f}"
            print(f"{Path(model).name:32}  {row} {ratios[1][-1]:6.2f}", flush=True)
    means = [math.exp(sum(map(math.log, found)) / len(found)) for found in ratios]
    print(f"geometric means: compiled {means[0]:.2f}, cached {means[1]:.2f}")


if __name__ == "__main__":
    main()
