"""Core ML models on any machine: run, optimize, prove.

    import numpy as np, milwright

    model = milwright.Model("digits.mlpackage")
    outputs = model.predict({"image": np.zeros((1, 1, 8, 8), np.float32)})

``import milwright.coremltools`` makes coremltools itself predict here, on systems that have no Core ML.
"""

from __future__ import annotations

import json
import os
import tempfile
from pathlib import Path
from typing import Any, Callable, Mapping, Sequence

import numpy as np

from . import _images, _native
from ._errors import DeadlineError, Error, InputError, ToleranceError, UnsupportedError
from ._native import State, __version__

__all__ = [
    "DeadlineError",
    "Error",
    "InputError",
    "Model",
    "State",
    "ToleranceError",
    "UnsupportedError",
    "__version__",
    "compare",
    "optimize",
]


class Model:
    """A Core ML model (``.mlpackage``, ``.mlmodel``), opened, verified and compiled for this machine.

    ``function`` names one of several functions; ``threads`` is how many one prediction may use, 0 being one per
    core; ``cache`` is a folder that keeps compiled plans from one process to the next. ``precision`` says what fp16
    programs are computed in: ``declared`` rounds every result to fp16, as the Neural Engine and the GPU do; ``wide``
    computes in fp32 and rounds nothing, outputs included, as Core ML does on the CPU.

    Raises :class:`Error` where the file is damaged or the model cannot be run, and says what and where.

    Predictions of one model run one after the other; Python's lock is free meanwhile. For predictions side by side,
    open the model several times.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        *,
        function: str | None = None,
        threads: int = 0,
        cache: str | os.PathLike[str] | None = None,
        precision: str = "declared",
    ) -> None:
        path = os.fspath(path)
        self._adopt(_native.Model(path, function=function, threads=threads, cache=cache, precision=precision))

    @classmethod
    def from_bytes(
        cls,
        specification: bytes,
        weights: Mapping[str, bytes] | None = None,
        *,
        function: str | None = None,
        threads: int = 0,
        precision: str = "declared",
    ) -> Model:
        """A model out of memory: the bytes of its specification, and of its weight files by the names that the
        specification has for them, such as ``@model_path/weights/weight.bin``."""
        model = cls.__new__(cls)
        options = {"function": function, "threads": threads, "precision": precision}
        native = _native.Model.from_bytes(specification, dict(weights or {}), **options)
        model._adopt(native)
        return model

    def _adopt(self, native: _native.Model) -> None:
        self._native = native
        self.info: dict[str, Any] = json.loads(native.info())
        """Everything that the file says about itself: functions, features, metadata."""
        self.function: str = native.function
        """The name of the function that this runs."""
        functions = [f for f in self.info["functions"] if f["name"] == self.function]
        self._features: dict[str, Any] = functions[0] if functions else {"inputs": [], "outputs": [], "states": []}
        self._image_inputs = {f["name"]: f["ty"] for f in self._features["inputs"] if f["ty"]["kind"] == "image"}

    @property
    def inputs(self) -> list[dict[str, Any]]:
        """The inputs, in declared order: name, type, shape, flexibility, whether optional."""
        return self._features["inputs"]

    @property
    def outputs(self) -> list[dict[str, Any]]:
        """The outputs, in declared order."""
        return self._features["outputs"]

    @property
    def states(self) -> list[dict[str, Any]]:
        """The states, in declared order."""
        return self._features["states"]

    @property
    def functions(self) -> list[str]:
        """The names of all functions of the model."""
        return [f["name"] for f in self.info["functions"]]

    @property
    def loaded(self) -> dict[str, Any]:
        """How the model was made ready: backend, time, memory, whether from the cache."""
        return json.loads(self._native.loaded())

    @property
    def structure(self) -> dict[str, Any]:
        """The program: functions, blocks, operations, as plain data without weights."""
        return json.loads(self._native.structure())

    def predict(
        self, inputs: Mapping[str, Any], state: State | None = None, *, timeout: float | None = None
    ) -> dict[str, Any]:
        """Runs the model once.

        Inputs are arrays, or what NumPy makes arrays of, or PIL images for image inputs. Numbers are converted to the
        declared element type; shapes have to fit. Contiguous arrays are read where they are, so another thread must
        not change them meanwhile. Outputs are new arrays; a classifier gives a label, and a dictionary from class to
        probability.

        ``state``, from :meth:`make_state`, is what a stateful model reads and writes; without it the model keeps one
        of its own. ``timeout`` is in seconds: beyond it, :class:`DeadlineError` is raised, also out of endless loops.

        Raises :class:`InputError` where an input is missing, unknown, or of a wrong shape or type.
        """
        if self._image_inputs:
            image = _images.to_array
            inputs = {n: image(v, self._image_inputs[n]) if n in self._image_inputs else v for n, v in inputs.items()}
        return self._native.predict(dict(inputs), state, timeout)

    def predict_batch(self, batch: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
        """Runs the model on each set of inputs."""
        return [self.predict(inputs) for inputs in batch]

    def compile_to(self, path: str | os.PathLike[str]) -> None:
        """Writes the model in its compiled form: a folder ``.mlmodelc``, whole or not at all."""
        self._native.compile_to(os.fspath(path))

    def make_state(self) -> State:
        """New states for a stateful model, all zero."""
        return self._native.make_state()

    def __repr__(self) -> str:
        return f"<milwright.Model {self.info['model_type']}, function {self.function!r}>"


def optimize(
    model: str | os.PathLike[str],
    output: str | os.PathLike[str] | None = None,
    *,
    quantize: str = "none",
    target: str = "auto",
    tolerance: float | None = None,
    inputs: str | os.PathLike[str] | Sequence[Mapping[str, Any]] | None = None,
    seed: int = 0,
    progress: Callable[[str, int, int], None] | None = None,
) -> dict[str, Any]:
    """Makes a model smaller, runs original and result on the same inputs, and writes the result to ``output``.

    ``quantize`` is ``none``, ``float16``, ``int8``, ``palette8``, ``palette6``, ``palette4``, ``palette2`` or
    ``palette1``. ``tolerance`` is the least signal to noise, in dB, of every output: a result that is worse raises
    :class:`ToleranceError`, and nothing is written. ``inputs`` is a folder of ``.npy`` files or a list of sets of
    inputs; without it they are drawn, by ``seed``. ``progress`` is called with a stage, done and total.

    Gives a report: sizes, what was done to each weight, and how far each output is from the original's.
    """
    with _folder(inputs) as folder:
        report = _native.optimize(
            os.fspath(model),
            output,
            quantize=quantize,
            target=target,
            tolerance=tolerance,
            inputs=folder,
            seed=seed,
            progress=progress,
        )
    return json.loads(report)


def compare(
    a: str | os.PathLike[str],
    b: str | os.PathLike[str],
    *,
    inputs: str | os.PathLike[str] | Sequence[Mapping[str, Any]] | None = None,
    function: str | None = None,
    seed: int = 0,
    samples: int = 4,
) -> list[dict[str, Any]]:
    """Runs two models on the same inputs: for each output, how far the second is from the first.

    ``inputs`` is as for :func:`optimize`.
    """
    with _folder(inputs) as folder:
        differences = _native.compare(
            os.fspath(a), os.fspath(b), inputs=folder, function=function, seed=seed, samples=samples
        )
    return json.loads(differences)


class _folder:
    """Sets of inputs as the folder that the native side reads; a folder as it is."""

    def __init__(self, inputs: str | os.PathLike[str] | Sequence[Mapping[str, Any]] | None) -> None:
        self._inputs = inputs
        self._temporary: tempfile.TemporaryDirectory[str] | None = None

    def __enter__(self) -> str | None:
        if self._inputs is None or isinstance(self._inputs, (str, os.PathLike)):
            return None if self._inputs is None else os.fspath(self._inputs)
        self._temporary = tempfile.TemporaryDirectory(prefix="milwright-")
        for i, inputs in enumerate(self._inputs):
            folder = Path(self._temporary.name, f"{i:06}")
            folder.mkdir()
            for name, value in inputs.items():
                np.save(folder / f"{name}.npy", np.asarray(value), allow_pickle=False)
        return self._temporary.name

    def __exit__(self, *_: object) -> None:
        if self._temporary is not None:
            self._temporary.cleanup()
