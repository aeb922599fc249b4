"""coremltools that predicts, on systems without Core ML.

    import milwright.coremltools     # before or after coremltools
    import coremltools as ct

coremltools talks to Core ML through a native module, ``coremltools.libcoremlpython``, which its wheels have on macOS
only. Importing this puts one in its place that runs ML programs on Milwright's engine, and lifts the checks for macOS
that stand before it. coremltools' files stay as they are. On a Mac this does nothing: there coremltools has Core ML.

It is a plugin for pytest as well: ``pytest -p milwright.coremltools``.

It also has the functions of ``coremltools.optimize.coreml`` that compress weights, on Milwright's optimizer:
``milwright.coremltools.palettize_weights(model, config)``. :func:`install_optimizer` puts them in the place of coremltools'
own.
"""

from __future__ import annotations

import importlib.abc
import importlib.machinery
import importlib.util
import sys
from pathlib import Path
from types import ModuleType
from typing import Any, Callable, Sequence

from milwright._compression import (
    decompress_weights,
    get_weights_metadata,
    linear_quantize_weights,
    palettize_weights,
    prune_weights,
)
from milwright._compression import install as install_optimizer

__all__ = [
    "decompress_weights",
    "get_weights_metadata",
    "install",
    "install_optimizer",
    "linear_quantize_weights",
    "palettize_weights",
    "prune_weights",
]

MODULE = "coremltools.libcoremlpython"

# What coremltools is told where it asks for the version of macOS: any from 15.5 on has everything that it asks for.
MACOS_VERSION = (15, 5)


def _is_macos() -> bool:
    return True


def _macos_version() -> tuple[int, ...]:
    return MACOS_VERSION


# For each module of coremltools that asks whether this is a Mac, what it is to find instead. Modules that imported
# one of these names before this one was loaded are handled in `install`.
_PATCHES: dict[str, dict[str, Any]] = {
    "coremltools._deps": {"_IS_MACOS": True},
    "coremltools.models.utils": {"_is_macos": _is_macos, "_macos_version": _macos_version},
}


class _Finder(importlib.abc.MetaPathFinder):
    """Finds the native module, and sees to the patches when a module that wants them is loaded."""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        if fullname == MODULE:
            return importlib.util.spec_from_file_location(fullname, Path(__file__).with_name("_libcoremlpython.py"))
        if fullname not in _PATCHES:
            return None
        spec = importlib.machinery.PathFinder.find_spec(fullname, path, target)
        if spec is not None and spec.loader is not None:
            spec.loader = _Loader(spec.loader, _PATCHES[fullname])
        return spec


class _Loader(importlib.abc.Loader):
    """Loads a module as its own loader does, then sets names in it."""

    def __init__(self, inner: Any, names: dict[str, Any]) -> None:
        self._inner, self._names = inner, names

    def create_module(self, spec: importlib.machinery.ModuleSpec) -> ModuleType | None:
        return self._inner.create_module(spec)

    def exec_module(self, module: ModuleType) -> None:
        self._inner.exec_module(module)
        vars(module).update(self._names)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)


def install() -> None:
    """Makes coremltools predict. Importing this module calls it; calling it again does nothing."""
    if sys.platform == "darwin" or any(isinstance(finder, _Finder) for finder in sys.meta_path):
        return
    sys.meta_path.insert(0, _Finder())
    loaded = [module for name, module in list(sys.modules.items()) if name.split(".")[0] == "coremltools"]
    if loaded:
        _mend(loaded)


def _mend(modules: list[Any]) -> None:
    """Sets, in modules that were loaded without the native module, what they would have with it."""
    native = importlib.import_module(MODULE)
    names: dict[str, Callable[..., Any] | bool] = {k: v for patch in _PATCHES.values() for k, v in patch.items()}
    names.update({name: value for name, value in vars(native).items() if name.endswith("Proxy")})
    for module in modules:
        for name, value in names.items():
            if name in vars(module):
                setattr(module, name, value)


install()
