"""ONNX models: a drop-in for the converter that coremltools had, and a check against ONNX Runtime.

    import milwright.onnx

    model = milwright.onnx.to_coreml("model.onnx", minimum_ios_deployment_target="16")
    model.save("model.mlpackage")
    milwright.onnx.check("model.onnx", {"x": x}, package="model.mlpackage")

:func:`milwright.convert` has all options, and needs neither coremltools nor onnx.
"""

from __future__ import annotations

import os
import tempfile
from pathlib import Path
from typing import Any, Callable, Mapping, Sequence

import numpy as np

from . import ComputePrecision, InputError, Model, StrPath, UnsupportedError, convert

__all__ = ["check", "to_coreml"]

# What ``coremltools.converters.onnx.convert`` did to images and classes, with what does it now.
_REFUSED = {
    "preprocessing_args": "scale and shift in the network, before exporting it",
    "image_output_names": "the outputs of the result are arrays",
    "deprocessing_args": "scale and shift in the network, before exporting it",
    "class_labels": "look labels up by the index of the largest output",
    "custom_conversion_functions": "`milwright.convert` knows all ops that it can, and there are no custom layers in ML programs",
    "image_input_names": "the inputs of the result are arrays",
}


def to_coreml(
    model: Any,
    mode: str | None = None,
    image_input_names: Sequence[str] = (),
    preprocessing_args: Mapping[str, Any] | None = None,
    image_output_names: Sequence[str] = (),
    deprocessing_args: Mapping[str, Any] | None = None,
    class_labels: Any = None,
    predicted_feature_name: str = "classLabel",
    add_custom_layers: bool = False,
    custom_conversion_functions: Mapping[str, Callable[..., Any]] | None = None,
    onnx_coreml_input_shape_map: Mapping[str, Sequence[int]] | None = None,
    minimum_ios_deployment_target: str | None = None,
    *,
    precision: ComputePrecision = "float32",
    **options: Any,
) -> Any:
    """Converts an ONNX model, or the file of one, as ``coremltools.converters.onnx.convert`` did.

    Gives a ``coremltools.models.MLModel`` where coremltools is installed, and otherwise a :class:`milwright.Model` of the
    result with a method ``save``. ``onnx_coreml_input_shape_map`` fixes the shapes of inputs by their names. The result is an ML
    program, which needs iOS 15: an older ``minimum_ios_deployment_target`` is raised to that, and ``None`` is the oldest that
    serves. Further ``options`` are those of :func:`milwright.convert`.

    Images, labels and custom layers raise :class:`UnsupportedError`, which says what to do instead: arguments that would be
    ignored are refused.
    """
    given = {
        "image_input_names": image_input_names,
        "preprocessing_args": preprocessing_args,
        "image_output_names": image_output_names,
        "deprocessing_args": deprocessing_args,
        "class_labels": class_labels,
        "custom_conversion_functions": custom_conversion_functions,
    }
    if add_custom_layers:
        given["custom_conversion_functions"] = {"": None}
    for name, value in given.items():
        if value is not None and len(value) > 0:
            raise UnsupportedError(
                f"to_coreml does not take `{name}`", kind="Unsupported", hint=f"leave it out: {_REFUSED[name]}"
            )
    if mode not in (None, "regressor", "classifier"):
        raise InputError(f"there is no mode {mode!r}", kind="InvalidInput", hint="leave it out")
    if mode == "classifier":
        raise UnsupportedError(
            "to_coreml does not take the mode of classifiers",
            kind="Unsupported",
            hint=f"leave it out: {_REFUSED['class_labels']}",
        )
    size = dict(options.pop("size", None) or {})
    for name, shape in (onnx_coreml_input_shape_map or {}).items():
        size.update(_open_sizes(model, name, shape))
    # The folder lives as long as the result, which may read its weights again when it is saved.
    folder = tempfile.TemporaryDirectory(prefix="milwright-")
    path = model
    if hasattr(model, "SerializeToString"):
        path = os.path.join(folder.name, "model.onnx")
        Path(path).write_bytes(model.SerializeToString())
    package = os.path.join(folder.name, "model.mlpackage")
    convert(
        path,
        package,
        size=size,
        target_os=options.pop("target_os", None) or _target_os(minimum_ios_deployment_target),
        precision=precision,
        **options,
    )
    try:
        import coremltools
    except ImportError:
        result: Any = _Converted(package)
    else:
        result = coremltools.models.MLModel(package, skip_model_load=not _is_macos())
    result._milwright_folder = folder
    return result


class _Converted(Model):
    """A converted model, where there is no coremltools."""

    def save(self, path: StrPath) -> None:
        """Writes the package."""
        import shutil

        assert self._source is not None
        shutil.copytree(self._source[0], path)


def _is_macos() -> bool:
    import sys

    return sys.platform == "darwin"


def _target_os(minimum: str | None) -> Any:
    """The system of a version of iOS."""
    if minimum is None:
        return None
    try:
        version = int(str(minimum).split(".", maxsplit=1)[0])
    except ValueError:
        message = f"minimum_ios_deployment_target is {minimum!r}, which is no version"
        raise InputError(message, kind="InvalidInput", hint='give one such as "16"') from None
    if version < 15:
        return None
    return f"ios{min(version, 18)}"


def _open_sizes(model: Any, name: str, shape: Sequence[int]) -> dict[str, int]:
    """The sizes of an input that the model leaves open, by their places."""
    declared = _shape(model, name)
    if declared is None:
        return {f"{name}.{i}": int(n) for i, n in enumerate(shape)}
    if len(declared) != len(shape):
        raise InputError(
            f"the input `{name}` has {len(declared)} dimensions, and its shape in onnx_coreml_input_shape_map {len(shape)}",
            kind="InvalidInput",
        )
    for i, (wanted, found) in enumerate(zip(shape, declared)):
        if found is not None and found != int(wanted):
            raise InputError(
                f"dimension {i} of the input `{name}` is {found} in the model: it cannot be {wanted}", kind="InvalidInput"
            )
    return {f"{name}.{i}": int(n) for i, (n, found) in enumerate(zip(shape, declared)) if found is None}


def _shape(model: Any, name: str) -> list[int | None] | None:
    """The declared sizes of an input of a model in memory or in a file, ``None`` where one is open."""
    from . import inspect

    if hasattr(model, "graph"):
        values = [value for value in model.graph.input if value.name == name]
        if not values:
            return None
        dims = values[0].type.tensor_type.shape.dim
        return [int(d.dim_value) if d.HasField("dim_value") and d.dim_value > 0 else None for d in dims]
    info = inspect(model)
    inputs = info["functions"][0]["inputs"]
    feature = next((f for f in inputs if f["name"] == name), None)
    if feature is None:
        return None
    ty = feature["ty"]
    flexibility = ty["flexibility"]
    ranges = flexibility.get("dimensions") if isinstance(flexibility, dict) else None
    if ranges is None:
        return [int(n) for n in ty["shape"]]
    return [int(least) if least == most else None for least, most in ranges]


def check(
    path: StrPath,
    inputs: Mapping[str, Any] | Sequence[Mapping[str, Any]],
    *,
    package: StrPath | None = None,
    tolerance: float = 1e-4,
) -> dict[str, Any]:
    """Runs an ONNX model in ONNX Runtime and in Milwright on the same inputs, a set or several. With ``package``, what the
    model was converted to runs, too. Needs onnxruntime: ``pip install onnxruntime``.

    ONNX Runtime runs without optimizations and on one thread. Numbers agree if they differ by at most ``tolerance`` times the
    output's largest absolute value; integers and truth values have to be equal. Inputs and outputs have the names of the
    ONNX model.

    Gives ``agrees``, and for each model, set and output a row in ``outputs``: ``model``, ``set``, ``name``, ``agrees``,
    ``max_abs``, ``largest``, and ``reason`` where the two cannot be compared.
    """
    try:
        import onnxruntime
    except ImportError as error:
        raise ImportError(
            "milwright.onnx.check compares with ONNX Runtime, which is not installed: pip install onnxruntime; "
            "milwright.compare needs nothing else, and compares the model with its package"
        ) from error
    sets = [dict(inputs)] if isinstance(inputs, Mapping) else [dict(one) for one in inputs]
    if not sets:
        raise InputError("there are no inputs to compare on", kind="InvalidInput")
    settings = onnxruntime.SessionOptions()
    settings.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    settings.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(os.fspath(path), settings, providers=["CPUExecutionProvider"])
    names = [output.name for output in session.get_outputs()]
    types = {spec.name: _TYPES.get(spec.type) for spec in session.get_inputs()}
    models = [("onnx", Model(path))]
    if package is not None:
        models.append(("package", Model(package)))
    rows = []
    for number, one in enumerate(sets):
        given = {name: np.asarray(value, types.get(name)) for name, value in one.items()}
        wanted = dict(zip(names, session.run(None, given)))
        for what, model in models:
            renamed = _original_names(model.info)
            taken = {feature["name"] for feature in model.inputs}
            # An output may have the old name of an input.
            new_inputs = {old: new for new, old in renamed.items() if new in taken}
            new = {old: new for new, old in renamed.items() if new not in taken}
            # Core ML has no scalars.
            fed = {new_inputs.get(name, name): value.reshape(value.shape or (1,)) for name, value in given.items()}
            found = model.predict(fed)
            for name in names:
                row = _row(found.get(new.get(name, name)), wanted[name], tolerance)
                rows.append({"model": what, "set": number, "name": name, **row})
    return {"agrees": all(row["agrees"] for row in rows), "outputs": rows}


_TYPES = {
    "tensor(float)": np.float32,
    "tensor(float16)": np.float16,
    "tensor(double)": np.float64,
    "tensor(int64)": np.int64,
    "tensor(int32)": np.int32,
    "tensor(int16)": np.int16,
    "tensor(int8)": np.int8,
    "tensor(uint8)": np.uint8,
    "tensor(bool)": np.bool_,
}


def _original_names(info: Mapping[str, Any]) -> dict[str, str]:
    """The names that a package's inputs and outputs have in the ONNX model, where they differ."""
    text = info.get("user_defined", {}).get("onnx.names", "")
    entries, escaped = [""], False
    for c in text:
        if c == "\\" and not escaped:
            escaped = True
            continue
        if c == ";" and not escaped:
            entries.append("")
        else:
            entries[-1] += c
        escaped = False
    pairs = (entry[1:] if entry.startswith(" ") else entry for entry in entries)
    return {new: old for new, sign, old in (pair.partition("=") for pair in pairs) if sign}


def _row(found: Any, wanted: Any, tolerance: float) -> dict[str, Any]:
    """How far an output is from the one that is wanted."""

    def apart(reason: str) -> dict[str, Any]:
        return {"agrees": False, "max_abs": None, "largest": None, "reason": reason}

    if found is None:
        return apart("the model does not have it")
    if not isinstance(wanted, np.ndarray):
        return apart(f"it is a {type(wanted).__name__} in ONNX Runtime")
    if found.shape != wanted.shape:
        return apart(f"its shape is {found.shape}, not {wanted.shape}")
    a, b = found.astype(np.float64), wanted.astype(np.float64)
    if (np.isnan(a) != np.isnan(b)).any() or (a[np.isinf(b)] != b[np.isinf(b)]).any() or np.isinf(a[np.isfinite(b)]).any():
        return apart("NaN or infinity in only one of the two")
    finite = np.isfinite(b)
    largest = float(np.abs(b[finite]).max(initial=0))
    max_abs = float(np.abs(a[finite] - b[finite]).max(initial=0))
    limit = tolerance * largest if np.issubdtype(wanted.dtype, np.floating) else 0.0
    return {"agrees": max_abs <= limit, "max_abs": max_abs, "largest": largest, "reason": None}
