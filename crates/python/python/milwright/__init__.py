"""Core ML models on any machine: run, optimize, convert, prove.

    import numpy as np, milwright

    model = milwright.Model("digits.mlpackage")
    outputs = model.predict({"image": np.zeros((1, 1, 8, 8), np.float32)})

``import milwright.coremltools`` makes coremltools itself predict here, on systems that have no Core ML.
"""

from __future__ import annotations

import json
import os
from typing import Any, Callable, Literal, Mapping, Sequence, Union

import numpy as np

from . import _images, _native
from ._choices import Quantize
from ._errors import (
    DeadlineError,
    Error,
    ExistsError,
    FileError,
    FilePermissionError,
    InputError,
    MissingFileError,
    OutOfMemoryError,
    ToleranceError,
    UnsupportedError,
)
from ._native import State, __version__

__all__ = [
    "DeadlineError",
    "Error",
    "ExistsError",
    "FileError",
    "FilePermissionError",
    "InputError",
    "MissingFileError",
    "Model",
    "OutOfMemoryError",
    "State",
    "ToleranceError",
    "UnsupportedError",
    "__version__",
    "compare",
    "convert",
    "inspect",
    "optimize",
    "weights",
]

StrPath = Union[str, "os.PathLike[str]"]
Precision = Literal["declared", "wide"]
Images = Literal["pil", "array"]
Fit = Literal["crop", "pad", "stretch", "exact"]
Target = Literal["auto", "ane", "gpu", "cpu"]

TargetOS = Literal["ios15", "ios16", "ios17", "ios18"]
ComputePrecision = Literal["float32", "float16"]
Metric = Literal["snr", "kl", "top1", "psnr"]
Size = Union[int, str, "tuple[int, int | None]", "list[int]"]

# The threads of a session are not there in a process that is forked off: models load again what they need.
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_native.forked)


class Model:
    """A Core ML model (``.mlpackage``, ``.mlmodel``), opened, verified and compiled for this machine.

    ``function`` names one of several functions; ``threads`` is how many one prediction may use, 0 being one per
    core; ``cache`` is a folder that keeps compiled plans from one process to the next. ``precision`` says what fp16
    programs are computed in: ``declared`` rounds every result to fp16, as the Neural Engine and the GPU do; ``wide``
    computes in fp32 and rounds nothing, outputs included, as Core ML does on the CPU. ``images`` says what outputs
    that are images come as: PIL images (which wants Pillow), or arrays. ``memory_limit`` is how many bytes the
    intermediate results of one prediction may take, 8 GiB by default: a model that needs more raises
    :class:`OutOfMemoryError`.

    Raises :class:`Error` where the file is damaged or the model cannot be run, and says what and where;
    :class:`MissingFileError`, which is a ``FileNotFoundError``, where there is none.

    Predictions of one model run one after the other; Python's lock is free meanwhile. For predictions side by side,
    open the model several times. Ctrl-C ends loading and predicting. A model can be pickled: what opens it is the path
    and these options, so that the file has to be there. After ``os.fork`` the child loads a session of its own, whose
    states begin at zero.
    """

    def __init__(
        self,
        path: StrPath,
        *,
        function: str | None = None,
        threads: int = 0,
        cache: StrPath | None = None,
        precision: Precision = "declared",
        images: Images = "pil",
        memory_limit: int | None = None,
    ) -> None:
        path, cache = os.path.abspath(path), None if cache is None else os.path.abspath(cache)
        options = {"function": function, "threads": threads, "cache": cache, "precision": precision}
        options["memory_limit"] = memory_limit
        self._adopt(_native.Model(path, **options), images)
        self._source = (path, {**options, "images": images})

    @classmethod
    def from_bytes(
        cls,
        specification: bytes,
        weights: Mapping[str, bytes] | None = None,
        *,
        function: str | None = None,
        threads: int = 0,
        precision: Precision = "declared",
        images: Images = "pil",
        memory_limit: int | None = None,
    ) -> Model:
        """A model out of memory: the bytes of its specification, and of its weight files by the names that the
        specification has for them, such as ``@model_path/weights/weight.bin``."""
        model = cls.__new__(cls)
        options = {"function": function, "threads": threads, "precision": precision, "memory_limit": memory_limit}
        native = _native.Model.from_bytes(specification, dict(weights or {}), **options)
        model._adopt(native, images)
        return model

    def _adopt(self, native: _native.Model, images: str) -> None:
        if images not in ("pil", "array"):
            raise InputError(f'images is "pil" or "array", not {images!r}', kind="InvalidInput")
        self._native = native
        self._source: tuple[str, dict[str, Any]] | None = None
        self.info: dict[str, Any] = json.loads(native.info())
        """Everything that the file says about itself: functions, features, metadata."""
        self.function: str = native.function
        """The name of the function that this runs."""
        functions = [f for f in self.info["functions"] if f["name"] == self.function]
        self._features: dict[str, Any] = functions[0] if functions else {"inputs": [], "outputs": [], "states": []}
        self._image_inputs = {f["name"]: f["ty"] for f in self._features["inputs"] if f["ty"]["kind"] == "image"}
        outputs = self._features["outputs"] if images == "pil" else []
        self._image_outputs = {f["name"]: f["ty"] for f in outputs if f["ty"]["kind"] == "image"}

    def __reduce__(self) -> Any:
        if self._source is None:
            raise TypeError("a model made from bytes cannot be pickled: save it, and open the file")
        path, options = self._source
        return _open, (path, options)

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

        Inputs are arrays, or what NumPy makes arrays of; text, lists of text, and dictionaries from text or whole
        numbers to numbers, where a model takes such. Numbers are converted to the declared element type; shapes have to
        fit. Contiguous arrays are read where they are, so another thread must not change them meanwhile.
        Image inputs take PIL images, ``uint8`` pixels (height × width × RGB, or height × width), or arrays of
        1 × channels × height × width in the declared colour order. Outputs are new arrays, and PIL images where the
        model gives images; a classifier gives a label, and a dictionary from class to probability.

        ``state``, from :meth:`make_state`, is what a stateful model reads and writes; without it the model keeps one
        of its own. ``timeout`` is in seconds: beyond it, :class:`DeadlineError` is raised, also out of endless loops.

        Raises :class:`InputError` where an input is missing, unknown, or of a wrong shape or type.
        """
        if not isinstance(inputs, Mapping):
            raise InputError(
                f"the inputs of a model are a dictionary from their names to arrays, not a {type(inputs).__name__}",
                kind="InvalidInput",
                hint=f"the names are: {', '.join(feature['name'] for feature in self.inputs)}",
            )
        inputs = dict(inputs)
        for name, feature in self._image_inputs.items():
            if name in inputs:
                inputs[name] = _images.to_array(name, inputs[name], feature)
        outputs = self._native.predict(inputs, state, timeout)
        for name, feature in self._image_outputs.items():
            if name in outputs:
                outputs[name] = _images.from_array(name, outputs[name], feature)
        return outputs

    def predict_batch(self, batch: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
        """Runs the model on each set of inputs."""
        return [self.predict(inputs) for inputs in batch]

    def compile_to(self, path: StrPath, *, force: bool = False) -> None:
        """Writes the model in its compiled form: a folder ``.mlmodelc``, whole or not at all.

        A compiled model that is there already raises :class:`ExistsError`; with ``force`` it is replaced."""
        self._native.compile_to(os.fspath(path), force=force)

    def make_state(self) -> State:
        """New states for a stateful model, all zero."""
        return self._native.make_state()

    def __repr__(self) -> str:
        return f"<milwright.Model {self.info['model_type']}, function {self.function!r}>"


def _open(path: str, options: dict[str, Any]) -> Model:
    """What unpickles a model."""
    return Model(path, **options)


def optimize(
    model: StrPath,
    output: StrPath | None = None,
    *,
    force: bool = False,
    quantize: Quantize | str = "none",
    config: StrPath | Mapping[str, Any] | None = None,
    target: Target = "auto",
    target_os: TargetOS | None = None,
    tolerance: float | Literal["none"] | None = None,
    proof: bool = True,
    calibrate: bool = False,
    smallest: bool = False,
    metric: Metric = "snr",
    max_bytes: int | None = None,
    plot: StrPath | None = None,
    inputs: StrPath | Sequence[Mapping[str, Any]] | None = None,
    fit: Fit = "crop",
    seed: int = 0,
    progress: Callable[[str, int, int], None] | None = None,
    timeout: float | None = None,
    memory_limit: int | None = None,
) -> dict[str, Any]:
    """Makes a model smaller, runs original and result on the same inputs, and writes the result to ``output``. A package
    that is there already raises :class:`ExistsError` before anything is done; with ``force`` it is replaced.

    ``quantize`` is how weights are stored: one of :data:`Quantize`, possibly with options (``int4:block=32``), or several
    joined by a plus (``prune:sparsity=0.75+palette4``); docs/quantizations.md explains them. ``config`` says it by the types
    and names of the ops that use weights, instead: a file in YAML, or a dictionary, as for coremltools'
    ``OptimizationConfig``; its settings can be forms (``{"op_type_configs": {"linear": "int4:block=32"}}``). ``target_os`` is the oldest
    system that the result must run on, as for :func:`convert`; without it, a newer one is chosen if that form needs it.
    With ``proof=False`` the models are not run, and the report says so (``proved``). With ``calibrate=True``, half of
    ``inputs`` observes what weights are multiplied with, so that outputs lose least, and the other half proves the result.

    With ``smallest=True``, a form is searched for each weight, such that the result is the smallest within ``tolerance``, or the
    best of at most ``max_bytes``: some of ``inputs`` observe and compare, the others prove the result. ``metric`` is what
    ``tolerance`` is about: ``snr`` and ``psnr`` in dB, ``kl`` in nats, ``top1`` as a share from 0 to 1. The report has
    what was found under ``search``, and ``plot`` is an SVG file with all choices that were run. A ``timeout`` ends the
    search early, with the best so far.

    ``tolerance`` is
    the least signal to noise, in dB, of every output: a result that is worse raises :class:`ToleranceError`, and nothing is
    written. ``None`` is the default of the setting, which the same page gives; ``"none"`` lifts it. ``inputs``
    is a folder of ``.npy`` files and pictures, or a list of sets of inputs; without it they are drawn, by ``seed``, and the
    proof is a smoke test. ``fit`` says what is done with pictures in a folder that have another size than the model takes:
    they are cut to it (``crop``), put on black (``pad``), scaled out of proportion (``stretch``), or refused (``exact``).
    ``progress`` is called with a stage, done and total. ``timeout`` is in seconds, for all of it: beyond it,
    :class:`DeadlineError` is raised, and nothing is written; without it, each prediction may take ten minutes.
    ``memory_limit`` is as for :class:`Model`.

    Gives a report: sizes, what was done to each weight, and how far each output is from the original's (as
    :func:`compare`), on which inputs.
    """
    report = _native.optimize(
        os.fspath(model),
        None if output is None else os.fspath(output),
        force=force,
        quantize=quantize,
        config=_configuration(config, quantize),
        target=target,
        target_os=target_os,
        tolerance=tolerance,
        proof=proof,
        calibrate=calibrate,
        smallest=smallest,
        metric=metric,
        max_bytes=max_bytes,
        plot=None if plot is None else os.fspath(plot),
        inputs=_given(model, inputs),
        fit=fit,
        seed=seed,
        progress=progress,
        timeout=timeout,
        memory_limit=memory_limit,
    )
    return json.loads(report)


def convert(
    model: StrPath,
    output: StrPath | None = None,
    *,
    size: Mapping[str, Size] | None = None,
    freeze: Mapping[str, Any] | None = None,
    target_os: TargetOS | None = None,
    precision: ComputePrecision = "float32",
    tolerance: float | Literal["none"] | None = None,
    report: bool = False,
    force: bool = False,
    inputs: StrPath | Sequence[Mapping[str, Any]] | None = None,
    fit: Fit = "crop",
    seed: int = 0,
    threads: int = 0,
    progress: Callable[[str, int, int], None] | None = None,
    timeout: float | None = None,
    memory_limit: int | None = None,
) -> dict[str, Any]:
    """Writes an ONNX model or a neural network as an ML program, in an ``.mlpackage``, and proves that it computes the same.

    Names, shapes, image types, class labels, descriptions and metadata stay. Of a pipeline, the networks in it are converted.
    Both models run on the same inputs; where an output differs, :class:`ToleranceError` is raised, and nothing is written.
    What cannot be converted (trees, say) raises :class:`UnsupportedError`.

    ``target_os`` is the oldest system that the result is for: ``ios15``, ``ios16``, ``ios17`` or ``ios18``, those of Apple's
    other systems of that year included; ``None`` is the oldest that has what the result needs. ``precision`` is what it computes
    in: ``float32``, as the network does, or ``float16``, as the Neural Engine and the GPU do. ``tolerance`` is as for
    :func:`optimize`: 80 dB by default, 30 for ``float16``.

    Of an ONNX model, sizes stay open that have a name or none. ``size`` says more about some, by name or as ``INPUT.NUMBER``:
    a number; a first and a last size, ``(1, 512)``, the last ``None`` if there is no end; a list of choices; or one of these
    as text, ``"1..512"``. ``freeze`` makes constants of inputs.

    Without ``output`` nothing is written, and the report is all. With ``report=True`` it also has ``ops``, how many ops of
    each kind the result has. ``threads`` is how many the proof may use, 0 being one per core. The others are as for
    :func:`optimize`.

    Gives a report: ``model_type`` that it was, ``target_os`` and ``specification_version`` that it has now, of an ONNX model
    how many nodes of each op were ``lowered``, and what :func:`optimize` reports.
    """
    found = _native.convert(
        os.fspath(model),
        None if output is None else os.fspath(output),
        force=force,
        target_os=target_os,
        precision=precision,
        sizes=[(name, _size(name, value)) for name, value in (size or {}).items()],
        freeze=None if freeze is None else dict(freeze),
        tolerance=tolerance,
        inputs=_given(model, inputs),
        fit=fit,
        seed=seed,
        threads=threads,
        progress=progress,
        timeout=timeout,
        memory_limit=memory_limit,
    )
    result: dict[str, Any] = json.loads(found)
    if report and output is not None:
        info = inspect(output)
        result["ops"] = next(f["ops"] for f in info["functions"] if f["name"] == info["default_function"])
    return result


def _size(name: str, size: Size) -> str:
    """The sizes that a dimension may have, as text."""
    if isinstance(size, str):
        return size
    if isinstance(size, tuple) and len(size) == 2:
        first, last = size
        return f"{first}..{'' if last is None else last}"
    if isinstance(size, Sequence):
        return ",".join(str(one) for one in size)
    if isinstance(size, (int, np.integer)):
        return str(size)
    raise InputError(
        f"the size `{name}` is a {type(size).__name__}",
        kind="InvalidInput",
        hint="give a number, a pair of a first and a last size, or a list of choices",
    )


def _configuration(config: StrPath | Mapping[str, Any] | None, quantize: str) -> str | None:
    """The text of a configuration: JSON is YAML, too."""
    if config is None:
        return None
    if quantize != "none":
        message = "both `quantize` and `config` say how weights are stored"
        raise InputError(message, kind="InvalidInput", hint="leave out one of them; a global setting of `config` can be a form")
    if isinstance(config, Mapping):
        return json.dumps(config)
    return _native.read_text(os.fspath(config))


def weights(model: StrPath, *, min_elements: int = 2048) -> list[dict[str, Any]]:
    """The weights of a model with at least ``min_elements`` elements: name, shape, ``form`` (how it is stored), share of zeros
    (``sparsity``), number of distinct values, and the ops that use it, with their constants by parameter. Compressed weights
    are described as they are when expanded."""
    return json.loads(_native.weights(os.fspath(model), min_elements=min_elements))


def compare(
    a: StrPath,
    b: StrPath,
    *,
    inputs: StrPath | Sequence[Mapping[str, Any]] | None = None,
    fit: Fit = "crop",
    function: str | None = None,
    seed: int = 0,
    samples: int = 4,
    timeout: float | None = None,
    memory_limit: int | None = None,
) -> list[dict[str, Any]]:
    """Runs two models on the same inputs: for each output, how far the second is from the first.

    ``snr_db`` of an output is a number, the string ``"equal"``, or ``None``: then ``reason`` or ``faults`` say why there
    is none. ``faults`` is what is wrong at any tolerance (a lost output, another shape), ``inputs`` what was run: given, or
    drawn with which seed and ranges. ``inputs``, ``fit``, ``timeout`` and ``memory_limit`` are as for :func:`optimize`. Without
    ``function`` all functions are compared, and where there are several, each row has a ``function``; ``inputs`` are for
    the default one.
    """
    if samples < 1:
        raise InputError(f"`samples` is {samples}: at least one set of inputs is needed", kind="InvalidInput")
    differences = _native.compare(
        os.fspath(a),
        os.fspath(b),
        inputs=_given(a, inputs, function),
        fit=fit,
        function=function,
        seed=seed,
        samples=samples,
        timeout=timeout,
        memory_limit=memory_limit,
    )
    return json.loads(differences)


def inspect(model: StrPath) -> dict[str, Any]:
    """What a model file of any type says about itself: functions, features, metadata. Nothing is loaded or run."""
    return json.loads(_native.info(os.fspath(model)))


def _given(
    model: StrPath, inputs: StrPath | Sequence[Mapping[str, Any]] | None, function: str | None = None
) -> str | list[dict[str, Any]] | None:
    """Inputs as the native side takes them: a folder, or sets in which images are arrays."""
    if inputs is None or isinstance(inputs, (str, os.PathLike)):
        return None if inputs is None else os.fspath(inputs)
    sets = list(inputs)
    wrong = next((one for one in sets if not isinstance(one, Mapping)), None)
    if wrong is not None:
        raise InputError(
            f"`inputs` has a {type(wrong).__name__} where a set of inputs belongs",
            kind="InvalidInput",
            hint="give a folder, or a list of dictionaries from the names of inputs to arrays",
        )
    info = inspect(model)
    name = info["default_function"] if function is None else function
    features = [f for declared in info["functions"] if declared["name"] == name for f in declared["inputs"]]
    images = {f["name"]: f["ty"] for f in features if f["ty"]["kind"] == "image"}
    return [
        {n: _images.to_array(n, value, images[n]) if n in images else value for n, value in one.items()} for one in sets
    ]
