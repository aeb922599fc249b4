#!/usr/bin/env python3
"""Extract the Core ML protobuf schema from the published coremltools package.

    python3 scripts/proto_descriptors.py OUTPUT.binpb

coremltools ships no .proto files, but every generated `*_pb2.py` module carries its serialized FileDescriptorProto
as a bytes literal. This script downloads one pinned wheel, checks its hash, reads those literals without importing
or running anything from the wheel, and writes them as one FileDescriptorSet. Only the standard library is needed.
"""

import ast
import hashlib
import pathlib
import subprocess
import sys
import tempfile
import zipfile

WHEEL = "coremltools-9.0-cp311-none-manylinux1_x86_64.whl"
SHA256 = "e9080254a4b9d286e168f3b1bc8616edd5d48ab664c17870b85e496629a00e81"


def download(folder: pathlib.Path) -> pathlib.Path:
    """Downloads the pinned wheel into `folder` and checks its hash."""
    subprocess.run(
        [sys.executable, "-m", "pip", "download", "coremltools==9.0", "--no-deps", "--quiet"]
        + ["--disable-pip-version-check", "--only-binary=:all:", "--platform=manylinux1_x86_64"]
        + ["--python-version=311", "--implementation=cp", "--abi=none", "--dest", str(folder)],
        check=True,
    )
    wheel = folder / WHEEL
    digest = hashlib.sha256(wheel.read_bytes()).hexdigest()
    if digest != SHA256:
        raise SystemExit(f"{WHEEL}: sha256 is {digest}, expected {SHA256}")
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


def main(output: str) -> None:
    with tempfile.TemporaryDirectory() as folder:
        with zipfile.ZipFile(download(pathlib.Path(folder))) as wheel:
            modules = sorted(
                name
                for name in wheel.namelist()
                if name.startswith("coremltools/proto/") and name.endswith("_pb2.py")
            )
            files = [data for name in modules if (data := descriptor(wheel.read(name).decode()))]
    # FileDescriptorSet { repeated FileDescriptorProto file = 1; }
    data = b"".join(b"\x0a" + varint(len(file)) + file for file in files)
    pathlib.Path(output).write_bytes(data)
    print(f"{output}: {len(files)} files, {len(data)} bytes")


if __name__ == "__main__":
    if len(sys.argv) != 2:
        raise SystemExit(__doc__)
    main(sys.argv[1])
