"""What isolation costs: `milwright bench` in the process and in a worker process, in turn.

    cargo build --release -p milwright-cli
    python bench/isolation.py examples/digits.mlpackage MODEL.mlpackage ...

Both run the same model on the same inputs. They are asked in turn, so that what disturbs the machine disturbs both; the
difference of the medians is what goes for two copies into shared memory, two out of it, and two messages.
"""

import argparse
import json
import pathlib
import statistics
import subprocess

ROOT = pathlib.Path(__file__).resolve().parent.parent


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("models", nargs="+")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=0.5, help="for each of the two in a round")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--milwright", default=ROOT / "target/release/milwright")
    args = parser.parse_args()
    print("| model | in this process ms | in a worker ms | difference ms | p99 in a worker ms | load in a worker ms |")
    print("|---|---|---|---|---|---|")
    for model in args.models:
        rounds = [[bench(args, model, flags) for flags in ([], ["--isolated"])] for _ in range(args.rounds)]
        ours, theirs = (statistics.median(r[i]["median_ms"] for r in rounds) for i in range(2))
        difference = statistics.median(b["median_ms"] - a["median_ms"] for a, b in rounds)
        p99 = statistics.median(b["p99_ms"] for _, b in rounds)
        load = statistics.median(b["load_ms"] for _, b in rounds)
        name = pathlib.Path(model).stem
        print(f"| {name} | {ours:.3f} | {theirs:.3f} | {difference:.3f} | {p99:.3f} | {load:.0f} |")


def bench(args, model, flags):
    command = [args.milwright, "bench", model, "--json", "--seconds", str(args.seconds)]
    command += ["--threads", str(args.threads), *flags]
    return json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)


if __name__ == "__main__":
    main()
