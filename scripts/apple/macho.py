#!/usr/bin/env python3
"""Reads a Mach-O executable and checks that a Mac would take it: macho.py FILE CPU LIBRARY...

CPU is arm64 or x86_64; each LIBRARY is part of the name of one that has to be linked.
"""

import struct
import sys

MAGIC_64 = 0xFEEDFACF
CPUS = {"arm64": 0x0100000C, "x86_64": 0x01000007}
EXECUTE = 2
LOAD_DYLIB, LOAD_WEAK_DYLIB, MAIN, CODE_SIGNATURE, BUILD_VERSION = 0xC, 0x80000018, 0x80000028, 0x1D, 0x32
MACOS = 1


def main() -> int:
    path, cpu, *libraries = sys.argv[1:]
    with open(path, "rb") as file:
        data = file.read()
    magic, found_cpu, _, kind, count, size = struct.unpack_from("<6I", data)
    problems = []
    if magic != MAGIC_64 or found_cpu != CPUS[cpu] or kind != EXECUTE:
        sys.exit(f"{path}: not a Mach-O executable for {cpu}")
    commands, linked, at = set(), [], 32
    for _ in range(count):
        command, length = struct.unpack_from("<2I", data, at)
        if length < 8 or at + length > 32 + size:
            sys.exit(f"{path}: a load command reaches beyond the others")
        commands.add(command)
        if command in (LOAD_DYLIB, LOAD_WEAK_DYLIB):
            name = at + struct.unpack_from("<I", data, at + 8)[0]
            linked.append(data[name : at + length].split(b"\0")[0].decode())
        if command == BUILD_VERSION:
            platform, oldest = struct.unpack_from("<2I", data, at + 8)
            print(f"platform {platform}, from version {oldest >> 16}.{oldest >> 8 & 255} on")
            if platform != MACOS:
                problems.append("not for macOS")
        at += length
    print("\n".join(linked))
    for library in libraries:
        if not any(library in name for name in linked):
            problems.append(f"{library} is not linked")
    for command, what in [(MAIN, "entry point"), (CODE_SIGNATURE, "signature"), (BUILD_VERSION, "version")]:
        if command not in commands:
            problems.append(f"no {what}")
    for problem in problems:
        print(f"{path}: {problem}", file=sys.stderr)
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
