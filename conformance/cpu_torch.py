#!/usr/bin/env python3
"""Installs PyTorch for the CPU from PyPI.

    python cpu_torch.py

PyPI's wheel for Linux on x86-64 is the one for CUDA, and asks for gigabytes of NVIDIA's libraries just to be imported.
This installs it without them, and writes libraries of the same names that have what the loader looks for: every
function of theirs says that there is no device. What runs on the CPU is PyTorch's own code, as it is. Needs a C
compiler and readelf; does nothing where torch can be imported.
"""

import re
import subprocess
import sys
import sysconfig
import tempfile
from pathlib import Path

PACKAGES = ["torch==2.7.0", "torchvision==0.22.0"]
# What these import from Python.
NEEDED = ["filelock", "fsspec", "jinja2", "networkx", "sympy", "typing-extensions"]
NVIDIA_LIBRARY = re.compile(r"lib(cu|nv|nccl)")
NVIDIA_SYMBOL = re.compile(r"_*(cu|nv|nccl)")
# cudaErrorNoDevice
NO_DEVICE = 100


def main():
    if imports():
        return
    pip("--no-deps", *PACKAGES)
    pip(*NEEDED)
    folder = Path(sysconfig.get_path("purelib"), "torch/lib")
    for name, symbols in libraries(folder).items():
        build(folder / name, symbols)
    if not imports():
        # Once more, to show why.
        sys.exit(subprocess.call([sys.executable, "-c", "import torch"]))


def imports():
    return subprocess.run([sys.executable, "-c", "import torch"], capture_output=True).returncode == 0


def pip(*arguments):
    subprocess.check_call([sys.executable, "-m", "pip", "install", "-q", *arguments])


def readelf(*arguments):
    return subprocess.run(["readelf", "-W", *map(str, arguments)], capture_output=True, text=True, check=True).stdout


def libraries(folder):
    """NVIDIA's libraries that torch's name and that are not there, each with the functions that are wanted of it."""
    wanted, present = {}, {path.name for path in folder.iterdir()}
    for library in folder.glob("*.so*"):
        for name in re.findall(r"\(NEEDED\).*\[(.+?)\]", readelf("-d", library)):
            if NVIDIA_LIBRARY.match(name) and name not in present:
                wanted.setdefault(name, set())
        for line in readelf("--dyn-syms", library).splitlines():
            columns = line.split()
            if len(columns) < 8 or columns[6] != "UND":
                continue
            symbol, _, version = columns[7].partition("@")
            if NVIDIA_SYMBOL.match(symbol):
                # A symbol's version has the name of its library. One has no versions.
                wanted.setdefault(version.lstrip("@") or "libcufile.so.0", set()).add(symbol)
    return wanted


def build(path, symbols):
    """Compiles a library of this name with these functions."""
    with tempfile.TemporaryDirectory() as folder:
        source, versions = Path(folder, "library.c"), Path(folder, "versions")
        source.write_text("\n".join(map(function, sorted(symbols))) + "\nint nothing;\n")
        versions.write_text(f"{path.name} {{ global: *; }};\n")
        command = ["cc", "-w", "-shared", "-fPIC", f"-Wl,-soname,{path.name}", f"-Wl,--version-script={versions}"]
        subprocess.check_call([*command, "-o", path, source])


def function(name):
    """C for a function of CUDA's on a machine that has no device."""
    if name == "__cudaRegisterFatBinary":
        # It runs when torch is loaded, and the result is passed on.
        return f"static void *handle[8]; void **{name}(void *x) {{ return handle; }}"
    if name.startswith("__cuda"):
        return f"void {name}(void) {{}}"
    if re.search("String|ErrorName|StatusName", name):
        return f'const char *{name}(int error) {{ return "no device"; }}'
    if name in ("cudaGetLastError", "cudaPeekAtLastError"):
        return f"int {name}(void) {{ return 0; }}"
    if name == "cudaGetDeviceCount":
        return f"int {name}(int *count) {{ *count = 0; return {NO_DEVICE}; }}"
    return f"int {name}(void) {{ return {NO_DEVICE}; }}"


if __name__ == "__main__":
    main()
