#!/usr/bin/env python3
"""Race `milwright optimize` against coremltools.optimize.coreml: CPU time, peak memory, and the bytes that come out.

    python bench/optimize_race.py target/release/milwright [--only linears|convs] [--proof] [SETTING ...]

Each run is a process of its own with one thread. Models are made here: 24 linears of 1024 x 1024, and 16 convolutions of
256 x 256 x 3 x 3, both in fp16. Of coremltools, `call` is the CPU time of the function alone, from a loaded model to a saved
one; `whole` also has the import of the module. Milwright's time is that of the whole command, without proof, and with `--proof`
also that with a proof on eight samples. Ratios are against `call`, which is what suits coremltools best. Memory is the
largest resident memory of the process; pages of mapped files count. Needs coremltools 9.0.
"""

import argparse
import os
import pathlib
import resource
import subprocess
import sys
import tempfile

HERE = pathlib.Path(__file__).resolve()

# The name, Milwright's form, what coremltools calls it, and how many times faster it should be.
SETTINGS = {
    "int8": ("int8", 'linear(mode="linear_symmetric", dtype="int8")', 20),
    "int4 block 32": ("int4:block=32", 'linear(mode="linear_symmetric", dtype="int4", granularity="per_block", block_size=32)', 20),
    "uint4 block 32": ("uint4:block=32,asymmetric", 'linear(mode="linear", dtype="uint4", granularity="per_block", block_size=32)', 20),
    "k-means 4": ("palette4", 'palette(mode="kmeans", nbits=4)', 50),
    "k-means 6": ("palette6", 'palette(mode="kmeans", nbits=6)', 50),
    "k-means 8": ("palette8", 'palette(mode="kmeans", nbits=8)', 5),
    "k-means 4, groups of 16": ("palette4:group=16", 'palette(mode="kmeans", nbits=4, granularity="per_grouped_channel", group_size=16)', 100),
    "k-means 4, groups of 32": ("palette4:group=32", 'palette(mode="kmeans", nbits=4, granularity="per_grouped_channel", group_size=32)', 100),
    "vectors of 2, 4 bits": ("palette4:vector=2", 'palette(mode="kmeans", nbits=4, cluster_dim=2)', 100),
    "vectors of 2, 6 bits": ("palette6:vector=2", 'palette(mode="kmeans", nbits=6, cluster_dim=2)', 100),
    "vectors of 2, 8 bits": ("palette8:vector=2", 'palette(mode="kmeans", nbits=8, cluster_dim=2)', 100),
    "vectors of 4, 8 bits": ("palette8:vector=4", 'palette(mode="kmeans", nbits=8, cluster_dim=4)', 100),
    "prune 75 %": ("prune:sparsity=0.75", "prune(target_sparsity=0.75)", 5),
}  # fmt: skip


def theirs(model, call, output):
    """Compresses with coremltools, in this process; prints the CPU time of the call."""
    import time

    import coremltools as ct
    import coremltools.optimize.coreml as cto

    def linear(**options):
        return cto.linear_quantize_weights, cto.OpLinearQuantizerConfig(**options)

    def palette(**options):
        return cto.palettize_weights, cto.OpPalettizerConfig(**options)

    def prune(**options):
        return cto.prune_weights, cto.OpMagnitudePrunerConfig(**options)

    function, config = eval(call, {"linear": linear, "palette": palette, "prune": prune})
    start = time.process_time()
    loaded = ct.models.MLModel(model, skip_model_load=True)
    function(loaded, cto.OptimizationConfig(global_config=config)).save(output)
    print(time.process_time() - start)


def make(kind, path):
    """Makes a model, with weights that are drawn from a normal distribution."""
    import coremltools as ct
    import numpy as np
    from coremltools.converters.mil import Builder as mb
    from coremltools.converters.mil.mil import types

    rng = np.random.default_rng(1)
    shape = (1, 64, 1024) if kind == "linears" else (1, 256, 16, 16)

    @mb.program(input_specs=[mb.TensorSpec(shape, dtype=types.fp16)], opset_version=ct.target.iOS18)
    def program(x):
        for _ in range(24 if kind == "linears" else 16):
            if kind == "linears":
                x = mb.linear(x=x, weight=rng.normal(0, 1024**-0.5, (1024, 1024)).astype(np.float16))
            else:
                weight = rng.normal(0, 2304**-0.5, (256, 256, 3, 3)).astype(np.float16)
                x = mb.conv(x=x, weight=weight, pad_type="same")
            x = mb.tanh(x=x)
        return x

    model = ct.convert(program, minimum_deployment_target=ct.target.iOS18, skip_model_load=True, compute_precision=ct.precision.FLOAT16)
    model.save(path)
    samples = path.parent / f"{kind}-samples"
    samples.mkdir()
    name = model.get_spec().description.input[0].name
    for i in range(8):
        (samples / str(i)).mkdir()
        np.save(samples / str(i) / f"{name}.npy", rng.normal(0, 1, shape).astype(np.float16))


def measured(command):
    """The CPU seconds of a command, its largest memory in MB, and what it printed."""
    env = {**os.environ, "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
    with tempfile.TemporaryFile() as out:
        child = subprocess.Popen([str(word) for word in command], stdout=out, stderr=subprocess.PIPE, env=env)
        errors = child.stderr.read()
        _, status, usage = os.wait4(child.pid, 0)
        child.returncode = os.waitstatus_to_exitcode(status)
        out.seek(0)
        printed = out.read().decode()
    if child.returncode:
        raise SystemExit(f"{command}\n{errors.decode()[-2000:]}")
    return usage.ru_utime + usage.ru_stime, usage.ru_maxrss / 1024, printed


def size(path):
    return sum(f.stat().st_size for f in path.rglob("*") if f.is_file())


def main():
    if sys.argv[1:2] == ["--theirs"]:
        return theirs(*sys.argv[2:])
    if sys.argv[1:2] == ["--make"]:
        return make(sys.argv[2], pathlib.Path(sys.argv[3]))
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("milwright")
    parser.add_argument("settings", nargs="*", default=list(SETTINGS), help="names of settings, all by default")
    parser.add_argument("--only", choices=["linears", "convs"])
    parser.add_argument("--proof", action="store_true", help="also with a proof on eight samples")
    parser.add_argument("--least", type=int, default=3, help="runs of Milwright, of which the fastest counts")
    args = parser.parse_intermixed_args()
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    print("| model | setting | coremltools: call s | whole s | MB | Milwright s | MB | times faster | goal | memory | with proof s | times faster | bytes, ours : theirs |")
    print("|---|---|---|---|---|---|---|---|---|---|---|---|---|")
    with tempfile.TemporaryDirectory() as folder:
        folder = pathlib.Path(folder)
        for kind in ["linears", "convs"]:
            if args.only not in (None, kind):
                continue
            model = folder / f"{kind}.mlpackage"
            measured([sys.executable, HERE, "--make", kind, model])
            for name in args.settings:
                form, call, goal = SETTINGS[name]
                ours, other = folder / "ours.mlpackage", folder / "theirs.mlpackage"
                whole, memory, printed = measured([sys.executable, HERE, "--theirs", model, call, other])
                alone = float(printed.split()[-1])
                command = [args.milwright, "optimize", model, "--quantize", form, "--threads", "1", "--force", "-o", ours]
                runs = [measured([*command, "--no-proof"])[:2] for _ in range(args.least)]
                seconds, megabytes = min(runs)
                proof = ["–", "–"]
                if args.proof:
                    proved = min(measured([*command, "--tolerance", "none", "--inputs", folder / f"{kind}-samples"])[0] for _ in range(args.least))
                    proof = [f"{proved:.2f}", f"{alone / proved:.1f}"]
                print(
                    f"| {kind} | {name} | {alone:.2f} | {whole:.2f} | {memory:.0f} | {seconds:.3f} | {megabytes:.0f} | {alone / seconds:.1f} | {goal} "
                    f"| 1/{memory / megabytes:.1f} | {' | '.join(proof)} | {size(ours) / size(other):.3f} |",
                    flush=True,
                )


if __name__ == "__main__":
    main()
