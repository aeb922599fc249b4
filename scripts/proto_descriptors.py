#!/usr/bin/env python3
"""Extract a protobuf schema from the published Python package: that of Core ML (coremltools) or that of ONNX (onnx).

    python3 scripts/proto_descriptors.py (coreml|onnx) OUTPUT.binpb

Every generated `*_pb2.py` module carries its serialized FileDescriptorProto as a bytes literal. This script downloads
one pinned wheel, checks its hash, reads those literals without importing or running anything from the wheel, and
writes them as one FileDescriptorSet. Only the standard library is needed.
"""

import ast
import fnmatch
import hashlib
import pathlib
import subprocess
import sys
import tempfile
import zipfile

# For each schema: the package, its wheel's file name and hash, options of `pip download`, and the modules.
SCHEMAS = {
    "coreml": (
        "coremltools==9.0",
        "coremltools-9.0-cp311-none-manylinux1_x86_64.whl",
        "e9080254a4b9d286e168f3b1bc8616edd5d48ab664c17870b85e496629a00e81",
        ["--platform=manylinux1_x86_64", "--python-version=311", "--implementation=cp", "--abi=none"],
        "coremltools/proto/*_pb2.py",
    ),
    "onnx": (
        "onnx==1.23.2",
        "onnx-1.23.2-cp311-cp311-manylinux_2_27_x86_64.manylinux_2_28_x86_64.whl",
        "c03ecf6b835d136108eeaeeafbd0026fc7b3cf98661409fbc6b63d5a29361348",
        ["--platform=manylinux_2_28_x86_64", "--python-version=311", "--implementation=cp", "--abi=cp311"],
        "onnx/onnx_ml_pb2.py",
    ),
}


def download(schema: str, folder: pathlib.Path) -> pathlib.Path:
    """Downloads a schema's pinned wheel into `folder` and checks its hash."""
    package, name, expected, options, _ = SCHEMAS[schema]
    subprocess.run(
        [sys.executable, "-m", "pip", "download", package, "--no-deps", "--quiet"]
        + ["--disable-pip-version-check", "--only-binary=:all:", "--dest", str(folder)]
        + options,
        check=True,
    )
    wheel = folder / name
    digest = hashlib.sha256(wheel.read_bytes()).hexdigest()
    if digest != expected:
        raise SystemExit(f"{name}: sha256 is {digest}, expected {expected}")
    return wheel


def descriptor(source: str) -> bytes | None:
    """The argument of the one `AddSerializedFile(b'...')` call in a generated module.

    None for NamedParameters_pb2.py, a leftover of an older compiler that nothing imports.
    """
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Call) and getattr(node.func, "attr", "") == "AddSerializedFile":
            return ast.literal_eval(node.args[0])
    return None


def varint(value: int) -> bytes:
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


def main(schema: str, output: str) -> None:
    pattern = SCHEMAS[schema][4]
    with tempfile.TemporaryDirectory() as folder:
        with zipfile.ZipFile(download(schema, pathlib.Path(folder))) as wheel:
            modules = sorted(name for name in wheel.namelist() if fnmatch.fnmatch(name, pattern))
            files = [data for name in modules if (data := descriptor(wheel.read(name).decode()))]
    # FileDescriptorSet { repeated FileDescriptorProto file = 1; }
    data = b"".join(b"\x0a" + varint(len(file)) + file for file in files)
    pathlib.Path(output).write_bytes(data)
    print(f"{output}: {len(files)} files, {len(data)} bytes")


if __name__ == "__main__":
    if len(sys.argv) != 3 or sys.argv[1] not in SCHEMAS:
        raise SystemExit(__doc__)
    main(sys.argv[1], sys.argv[2])
