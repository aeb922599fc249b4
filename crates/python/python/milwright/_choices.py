# Made by `cargo xtask docs` from the list of quantizations. Do not edit.
"""The choices that options have."""

from typing import Literal

Quantize = Literal[
    "none",
    "dense",
    "float16",
    "int8",
    "uint8",
    "int4",
    "uint4",
    "palette8",
    "palette6",
    "palette4",
    "palette3",
    "palette2",
    "palette1",
    "unique",
    "prune",
]
