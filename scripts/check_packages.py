#!/usr/bin/env python3
"""Check that coremltools reads what we write, and finds in it what it finds in the original.

    pip install coremltools==9.0 && python3 scripts/check_packages.py FOLDER...

Every .mlpackage below the folders is copied by our reader and writer (the example `copy_package`), loaded with
coremltools, and its messages and weight files are compared.
"""

import pathlib
import subprocess
import sys
import tempfile

import coremltools as ct


def weights(package: pathlib.Path) -> dict[str, bytes]:
    folder = package / "Data/com.apple.CoreML/weights"
    return {path.name: defined(path.read_bytes()) for path in sorted(folder.glob("*.bin"))}


def defined(data: bytes) -> bytes:
    """The file with the last 40 bytes of each blob's metadata zeroed: older writers left them uninitialised."""
    data = bytearray(data)
    at = 64
    for _ in range(int.from_bytes(data[:4], "little")):
        if int.from_bytes(data[at + 4 : at + 8], "little") < 8:
            data[at + 24 : at + 64] = bytes(40)
        size, start = (int.from_bytes(data[at + i : at + i + 8], "little") for i in (8, 16))
        at = (start + size + 63) // 64 * 64
    return bytes(data)


def main(folders: list[str]) -> None:
    root = pathlib.Path(__file__).resolve().parent.parent
    build = ["cargo", "build", "--quiet", "--package", "milwright-formats", "--example", "copy_package"]
    subprocess.run(build, cwd=root, check=True)
    packages = sorted(path for folder in folders for path in pathlib.Path(folder).rglob("*.mlpackage"))
    failures = 0
    for package in packages:
        with tempfile.TemporaryDirectory() as temporary:
            copy = pathlib.Path(temporary) / package.name
            subprocess.run([root / "target/debug/examples/copy_package", package, copy], check=True)
            ct.models.MLModel(str(copy), skip_model_load=True)
            same_model = ct.utils.load_spec(str(copy)) == ct.utils.load_spec(str(package))
            same_weights = weights(copy) == weights(package)
        failures += not (same_model and same_weights)
        print(f"{package.name}: messages {'equal' if same_model else 'DIFFER'}, "
              f"weight bytes {'equal' if same_weights else 'DIFFER'}")
    print(f"{len(packages)} packages, {failures} differ")
    sys.exit(failures > 0 or not packages)


if __name__ == "__main__":
    main(sys.argv[1:])
