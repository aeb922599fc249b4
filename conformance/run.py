#!/usr/bin/env python3
"""Runs coremltools' own tests on Milwright.

    python conformance/run.py ops                   # one suite of suites.toml, whole
    python conformance/run.py ops --sample 3        # three cases of each test function
    python conformance/run.py quick                 # a fixed sample of several suites: minutes
    python conformance/run.py ops -- -k TestConv    # what follows -- goes to pytest

The first run makes a virtual environment (coremltools, a CPU-only torch, pytest) and builds the wheel into it;
`--venv` and `--no-build` use what there is. The table that comes out has a row for each folder: how many cases were
collected, how many of them predicted, and how each ended (`known`: in known_differences.json; `half`: see HALF_DATA in
plugin.py; `xfailed` and `skipped`: coremltools says so itself); `--markdown` writes it for docs. Every result is a line
of JSON in target/conformance/SUITE.jsonl. Exit code 1 if a test failed that is not a known difference.
"""

import argparse
import collections
import json
import os
import subprocess
import sys
import tomllib
import venv
from pathlib import Path

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent
OUTCOMES = ["passed", "failed", "error", "known", "half", "xfailed", "xpassed", "skipped"]


def main():
    arguments, extra = sys.argv[1:], []
    if "--" in arguments:
        at = arguments.index("--")
        arguments, extra = arguments[:at], arguments[at + 1 :]
    suites = tomllib.loads((HERE / "suites.toml").read_text())
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("suite", choices=[*suites, "quick"])
    parser.add_argument("--sample", type=int, default=0, help="cases of each test function; 0 is all")
    parser.add_argument("--seed", default="0", help="of the sample")
    parser.add_argument("--workers", type=int, default=os.cpu_count())
    parser.add_argument("--venv", type=Path, help="the environment to use, instead of one in .cache")
    parser.add_argument("--no-build", action="store_true", help="use the wheel that is installed")
    parser.add_argument("--results", type=Path, default=ROOT / "target/conformance")
    parser.add_argument("--markdown", action="store_true", help="print the table as Markdown")
    args = parser.parse_args(arguments)

    framework = suites.get(args.suite, {}).get("framework", "torch")
    python = environment(args.venv or ROOT / f".cache/conformance-{framework}", framework)
    if not args.no_build:
        build(python)
    args.results = args.results.resolve()
    args.results.mkdir(parents=True, exist_ok=True)
    failures = 0
    for name, suite in suites.items():
        if args.suite == name:
            failures += run(python, name, suite, args.sample, args, extra)
        elif args.suite == "quick" and "quick" in suite:
            failures += run(python, name, suite, suite["quick"], args, extra)
    sys.exit(1 if failures else 0)


def run(python, name, suite, sample, args, extra):
    results = args.results / f"{name}.jsonl"
    results.unlink(missing_ok=True)
    package = Path(subprocess.check_output([python, "-c", FIND], text=True).strip())
    env = {
        **os.environ,
        **suite.get("env", {}),
        "MILWRIGHT_PRECISION": suite.get("precision", ""),
        "MILWRIGHT_SAMPLE": str(sample),
        "MILWRIGHT_SEED": args.seed,
        "MILWRIGHT_SUITE": name,
        "MILWRIGHT_KNOWN": str(HERE / "known_differences.json"),
        "MILWRIGHT_RESULTS": str(results),
        # A build that is not installed can be put before the one that is.
        "PYTHONPATH": os.pathsep.join(filter(None, [str(HERE), os.environ.get("PYTHONPATH")])),
        # One thread each: there are as many processes as cores.
        "OMP_NUM_THREADS": "1",
        # Some tests make random data of their own accord; a run is to be repeatable.
        "PYTHONHASHSEED": "0",
    }
    command = [python, "-m", "pytest", "-p", "plugin", "-q", "-o", "addopts=", "-p", "no:cacheprovider"]
    command += ["--tb=line", "--timeout=300", "--continue-on-collection-errors", "-W", "ignore"]
    command += ["--rootdir", str(package), "--no-header"]
    workers = min(args.workers, suite.get("workers", args.workers))
    if workers > 1:
        command += ["-n", str(workers)]
    command += [str(package / path) for path in suite["paths"]] + extra
    print(f"{name}: {suite['about']}", file=sys.stderr)
    # The work folder is one to fill with what tests leave behind.
    scratch = args.results / "scratch"
    scratch.mkdir(exist_ok=True)
    code = subprocess.call(command, env=env, cwd=scratch, stdout=sys.stderr)
    if code not in (0, 1):
        sys.exit(f"pytest ended with {code}")
    return report(results, args.markdown)


def report(results, markdown):
    """Prints a row for each folder and, below, why tests were skipped; gives the number of failures."""
    entries = [json.loads(line) for line in results.open(encoding="utf-8")] if results.exists() else []
    # A test has an entry for each phase that did not pass; the last one but a teardown's counts.
    tests = {entry["test"]: entry for entry in entries}
    folders = collections.defaultdict(collections.Counter)
    reasons = collections.Counter()
    for name, entry in tests.items():
        row = folders[str(Path(name.split("::")[0]).parent)]
        row["collected"] += 1
        row["predicted"] += entry["predictions"] > 0
        row["optimized"] += entry.get("optimized", 0) > 0
        row["left"] += entry.get("left", 0) > 0
        row[entry["outcome"]] += 1
        if entry["outcome"] in ("skipped", "xfailed"):
            reasons[entry["outcome"], entry["why"].splitlines()[0][:100] if entry["why"] else ""] += 1
    columns = ["collected", "predicted", *OUTCOMES]
    # In the suites that put Milwright's optimizer in the place of coremltools': where it worked, and where it left work
    # to coremltools.
    if any(entry.get("optimized") or entry.get("left") for entry in entries):
        columns[2:2] = ["optimized", "left"]
    table = [["folder", *columns]]
    table += [[folder, *(str(row[c]) for c in columns)] for folder, row in sorted(folders.items())]
    total = sum(folders.values(), collections.Counter())
    table.append(["all", *(str(total[c]) for c in columns)])
    show(table, markdown)
    if not markdown:
        for (outcome, why), count in reasons.most_common(20):
            print(f"{count:>7} {outcome}: {why}")
    return total["failed"] + total["error"]


def show(table, markdown):
    if markdown:
        table.insert(1, ["---"] + ["--:"] * (len(table[0]) - 1))
        print("\n".join("| " + " | ".join(row) + " |" for row in table))
        return
    widths = [max(len(row[i]) for row in table) for i in range(len(table[0]))]
    for row in table:
        print("  ".join(cell.rjust(w) if i else cell.ljust(w) for i, (cell, w) in enumerate(zip(row, widths))))


FIND = "import importlib.util, os; print(os.path.dirname(importlib.util.find_spec('coremltools').origin))"


def environment(folder, framework):
    """The interpreter of a virtual environment with everything that the tests import. PyTorch and TensorFlow want
    different versions of NumPy."""
    python = folder / ("Scripts/python.exe" if os.name == "nt" else "bin/python")
    if not python.exists():
        venv.create(folder, with_pip=True)
        files = ["-r", HERE / "requirements.txt", "-r", HERE / f"requirements-{framework}.txt"]
        subprocess.check_call([python, "-m", "pip", "install", "-q", *files])
        if framework == "torch":
            subprocess.check_call([python, HERE / "cpu_torch.py"])
    return python


def build(python):
    """Builds the wheel of this checkout and installs it."""
    wheels = ROOT / "target/wheels"
    command = [python, "-m", "maturin", "build", "--release", "--manifest-path", ROOT / "crates/python/Cargo.toml"]
    subprocess.check_call([*command, "--interpreter", python, "--out", wheels], stdout=sys.stderr)
    newest = max(wheels.glob("milwright-*.whl"), key=lambda path: path.stat().st_mtime)
    subprocess.check_call([python, "-m", "pip", "install", "-q", "--force-reinstall", "--no-deps", newest])


if __name__ == "__main__":
    main()
