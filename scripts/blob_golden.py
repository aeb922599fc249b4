#!/usr/bin/env python3
"""Write crates/formats/tests/data/weight.bin with coremltools' own blob writer.

    pip install coremltools==9.0 && python3 scripts/blob_golden.py

One blob of 13 elements for each element type that coremltools can write, in the order of TYPES; the test
`crates/formats/tests/blob.rs` builds the same file with our writer and compares the bytes. The script also reads
every blob back with coremltools' reader, so that equal bytes mean compatibility in both directions.
"""

import pathlib
import sys

import numpy as np
from coremltools import libmilstoragepython as storage

LEN = 13
# Name of the type in coremltools' methods, numpy type of the elements, values.
TYPES = [
    ("fp16", np.uint16, [0x3C00 + i for i in range(LEN)]),
    ("float", np.float32, [i - 6.5 for i in range(LEN)]),
    ("uint8", np.uint8, [250 - i for i in range(LEN)]),
    ("int8", np.int8, [i - 6 for i in range(LEN)]),
    ("int16", np.int16, [1000 * (i - 6) for i in range(LEN)]),
    ("uint16", np.uint16, [5000 * i for i in range(LEN)]),
    ("int4", np.int8, [i - 6 for i in range(LEN)]),
    ("uint1", np.uint8, [i * i // 3 % 2 for i in range(LEN)]),
    ("uint2", np.uint8, [i % 4 for i in range(LEN)]),
    ("uint4", np.uint8, [i for i in range(LEN)]),
    ("uint3", np.uint8, [i % 8 for i in range(LEN)]),
    ("uint6", np.uint8, [5 * i for i in range(LEN)]),
    ("int32", np.int32, [100_000 * (i - 6) for i in range(LEN)]),
    ("uint32", np.uint32, [300_000_000 * i for i in range(LEN)]),
]


def main() -> None:
    folder = pathlib.Path(__file__).resolve().parent.parent / "crates/formats/tests/data"
    path = str(folder / "weight.bin")
    writer = storage._BlobStorageWriter(path)
    offsets = []
    for name, dtype, values in TYPES:
        offsets.append(getattr(writer, f"write_{name}_data")(np.array(values, dtype)))
    del writer
    reader = storage._BlobStorageReader(path)
    for (name, dtype, values), offset in zip(TYPES, offsets):
        found = np.asarray(getattr(reader, f"read_{name}_data")(offset)).astype(dtype)
        if found.tolist() != np.array(values, dtype).tolist():
            sys.exit(f"{name}: wrote {values}, read {found.tolist()}")
    print(f"{path}: offsets {offsets}")


if __name__ == "__main__":
    main()
