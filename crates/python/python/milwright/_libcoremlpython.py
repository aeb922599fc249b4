"""What ``coremltools.libcoremlpython`` offers, on Milwright's engine instead of Core ML.

``milwright.coremltools`` loads this under that name. Classes and methods are those that coremltools calls. Errors are
``RuntimeError``, which is what coremltools catches; the words before the colon are Core ML's, since people and tests
look for them.
"""

from __future__ import annotations

import os
import shutil
import tempfile
import time
import weakref
from pathlib import Path
from typing import Any, Mapping

import numpy as np

import milwright
from milwright import _images

# What Core ML calls some kinds of layers when it describes a compiled network.
_ELEMENTWISE = dict.fromkeys(
    ["add", "multiply", "average", "max", "min", "addBroadcastable", "multiplyBroadcastable"]
    + ["subtractBroadcastable", "divideBroadcastable", "maxBroadcastable", "minBroadcastable"],
    "elementwise",
)

# The newest specification that Milwright reads: iOS 26.
_NEWEST_SPECIFICATION = 10

_DTYPES = {"fp16": np.float32, "fp32": np.float32, "fp64": np.float64, "int32": np.int32, "int8": np.int8}
"""The arrays that features are returned as. NumPy has fp16, coremltools returns it as float32."""


_NOT_ARRAYS = {"dictionary": dict, "string": str, "sequence": (list, tuple)}
"""What Python has for features that are not arrays."""

_KINDS = {
    "mlProgram": "ML Program",
    "neuralNetwork": "a neural network model",
    "neuralNetworkClassifier": "a neural network model",
    "neuralNetworkRegressor": "a neural network model",
}
"""What Core ML calls models in errors."""


class _MLModelProxy:
    """A loaded model."""

    def __init__(
        self,
        path: str,
        compute_units: str,
        function_name: str = "",
        optimization_hints: Mapping[str, str] | None = None,
        asset: _MLModelAssetProxy | None = None,
    ) -> None:
        # On a machine without Core ML all compute units come to one engine, and hints have nothing to say to it. But
        # Core ML computes fp16 programs in fp32 on the CPU, and rounds on the other two.
        precision = "wide" if compute_units == "CPU_ONLY" else "declared"
        del optimization_hints
        start = time.perf_counter_ns()
        function = function_name or None
        if asset is not None:
            self._model = asset._load(function, precision)
        else:
            self._model = _model(_inside(path), function=function, precision=precision)
        self._load_duration = time.perf_counter_ns() - start
        self._predict_duration: int | None = None
        self._path = path
        self._compiled: str | None = path if str(path).rstrip("/").endswith(".mlmodelc") else None
        if self._compiled is None and asset is None and self._model.info["model_type"] != "mlProgram":
            # Nothing is made of these, so that the file is needed, which may be gone later.
            self.get_compiled_model_path()
        # coremltools removes the file as soon as it is loaded. An ML program is all in memory by then.
        if asset is None and self._model.info["model_type"] != "mlProgram":
            self.get_compiled_model_path()

    def predict(self, data: Mapping[str, Any], state: _State | None = None) -> dict[str, Any]:
        inputs = self._inputs(data)
        if state is None and self._model.states:
            # As Core ML has it: an answer from zeros would hide that a program forgets its state.
            name = self._model.states[0]["name"]
            raise RuntimeError(
                f"Error in declared inputs: The input feature for {name} must be an MLState, but it was not: "
                "pass `predict` a state, which `make_state` makes"
            )
        start = time.perf_counter_ns()
        try:
            outputs = self._model.predict(inputs, None if state is None else state._state)
        except milwright.InputError as e:
            raise RuntimeError(f"Error in declared inputs: {e}") from e
        except milwright.Error as e:
            kind = _KINDS.get(self._model.info["model_type"], "the model")
            raise RuntimeError(f"Unable to compute the prediction using {kind}: {e}") from e
        self._predict_duration = time.perf_counter_ns() - start
        return self._outputs(outputs)

    def batchPredict(self, batch: list[Mapping[str, Any]]) -> list[dict[str, Any]]:
        return [self.predict(data, None) for data in batch]

    def newState(self) -> _State:
        return _State(self._model.make_state())

    def get_compiled_model_path(self) -> str:
        if self._compiled is None:
            self._compiled = _compile(self._model, source=self._path)
            weakref.finalize(self, shutil.rmtree, Path(self._compiled).parent, ignore_errors=True)
        return self._compiled

    def get_load_duration_in_nano_seconds(self) -> int | None:
        return self._load_duration

    def get_last_predict_duration_in_nano_seconds(self) -> int | None:
        return self._predict_duration

    def _inputs(self, data: Mapping[str, Any]) -> dict[str, Any]:
        inputs = {}
        declared = {feature["name"]: feature["ty"] for feature in self._model.inputs}
        for name, value in data.items():
            kinds = _NOT_ARRAYS.get(declared.get(name, {}).get("kind", ""), ())
            if isinstance(value, (bytes, str, dict, list, tuple)) and not isinstance(value, kinds):
                kind = type(value).__name__
                raise RuntimeError(f"value type not convertible: the input {name!r} is a {kind}, not an array")
            inputs[name] = _input(value, declared.get(name))
        return inputs

    def _outputs(self, outputs: Mapping[str, Any]) -> dict[str, Any]:
        declared = {feature["name"]: feature["ty"] for feature in self._model.outputs}
        return {name: _output(name, value, declared.get(name)) for name, value in outputs.items()}

    @staticmethod
    def maximum_supported_specification_version() -> int:
        return _NEWEST_SPECIFICATION

    @staticmethod
    def auto_set_specification_version(specification: Any) -> Any:
        # coremltools expects the specification back; it is written with a version that fits what is in it.
        return specification

    @staticmethod
    def compileModel(path: str) -> str:
        return _compile(milwright.Model(path), Path(path).stem, path)

    @staticmethod
    def create_model_asset_from_path(path: str) -> Any:
        return _asset(_MLModelAssetProxy(path=path))

    @staticmethod
    def create_model_asset_from_memory(specification: bytes, blobs: Mapping[str, bytes]) -> Any:
        return _asset(_MLModelAssetProxy(specification=specification, blobs=blobs))

    @staticmethod
    def get_model_structure(path: str) -> Any:
        return _structure(milwright.Model(_inside(path)).structure)[0]

    @staticmethod
    def get_compute_plan(path: str, compute_units: str) -> Any:
        from coremltools.models.compute_plan import MLComputePlan

        del compute_units
        proxy = _MLComputePlanProxy()
        proxy._fill(milwright.Model(_inside(path)))
        return MLComputePlan(proxy)

    @staticmethod
    def get_available_compute_devices() -> list[Any]:
        from coremltools.models.compute_device import MLCPUComputeDevice

        return [MLCPUComputeDevice(_MLCPUComputeDeviceProxy())]

    @staticmethod
    def get_all_compute_devices() -> list[Any]:
        return _MLModelProxy.get_available_compute_devices()


class _State:
    """The states of a model, apart from it."""

    def __init__(self, state: milwright.State) -> None:
        self._state = state

    def read_state(self, name: str) -> np.ndarray:
        value = self._state.read(name)
        return value.astype(np.float32) if value.dtype == np.float16 else value

    def write_state(self, name: str, value: Any) -> None:
        if not isinstance(value, np.ndarray):
            raise RuntimeError(f"the state {name!r} is written as an array, not as a {type(value).__name__}")
        self._state.write(name, value)


class _MLModelAssetProxy:
    """A model that was not loaded yet: a compiled one by its path, or one in memory."""

    def __init__(
        self, *, path: str | None = None, specification: bytes = b"", blobs: Mapping[str, bytes] | None = None
    ) -> None:
        self._path, self._specification = path, specification
        self._weights = {_weight_name(name): bytes(data) for name, data in (blobs or {}).items()}

    def _load(self, function: str | None, precision: str) -> milwright.Model:
        if self._path is not None:
            return _model(_inside(self._path), function=function, precision=precision)
        options = {"function": function, "precision": precision, "images": "array"}
        return milwright.Model.from_bytes(self._specification, self._weights, **options)


class _Device:
    def __init__(self, *_args: Any, **_kwargs: Any) -> None: ...


class _MLCPUComputeDeviceProxy(_Device): ...


class _MLGPUComputeDeviceProxy(_Device): ...


class _MLNeuralEngineComputeDeviceProxy(_Device):
    def get_total_core_count(self) -> int:
        return 0


class _MLComputePlanProxy:
    """What runs where: here, everything on the CPU."""

    def __init__(self, *_args: Any, **_kwargs: Any) -> None:
        self._model_structure: Any = None
        self._costs: dict[int, float] = {}

    def _fill(self, model: milwright.Model) -> None:
        self._model_structure, self._costs = _structure(model.structure)

    @property
    def model_structure(self) -> Any:
        return self._model_structure

    def get_compute_device_usage_for_mlprogram_operation(self, operation: Any) -> Any:
        return None if self._cost(operation) is None else self._usage()

    def get_compute_device_usage_for_neuralnetwork_layer(self, layer: Any) -> Any:
        del layer
        return self._usage()

    def get_estimated_cost_for_mlprogram_operation(self, operation: Any) -> Any:
        from coremltools.models.compute_plan import MLComputePlanCost

        cost = self._cost(operation)
        return None if cost is None else MLComputePlanCost(weight=cost)

    @staticmethod
    def _usage() -> Any:
        from coremltools.models.compute_plan import MLComputePlanDeviceUsage

        (device,) = _MLModelProxy.get_available_compute_devices()
        return MLComputePlanDeviceUsage(preferred_compute_device=device, supported_compute_devices=[device])

    def _cost(self, operation: Any) -> float | None:
        return None if operation.operator_name == "const" else self._costs.get(operation.__proxy__._index)


class _MLModelStructureProgramOperationProxy:
    def __init__(self, index: int) -> None:
        self._index = index


class _MLModelStructureNeuralNetworkLayerProxy: ...


def _model(path: str, **options: Any) -> milwright.Model:
    """A model whose outputs are all arrays: `_output` makes of them what coremltools expects."""
    return milwright.Model(path, images="array", **options)


def _input(value: Any, feature: Mapping[str, Any] | None) -> Any:
    """Core ML takes floats where a model wants integers, as coremltools' tests give them: cut off towards zero."""
    if feature is None or not isinstance(value, np.ndarray) or value.dtype.kind != "f":
        return value
    if feature.get("dtype") != "int32" or not (np.abs(value) < 2.0**31).all():
        return value
    return value.astype(np.int32)


def _output(name: str, value: Any, feature: Mapping[str, Any] | None) -> Any:
    if feature is None or not isinstance(value, np.ndarray):
        return value
    if feature["kind"] == "image":
        return _images.from_array(name, value, feature)
    if feature["kind"] == "sequence":
        return value.tolist()
    if feature["kind"] in ("int64", "double") and value.size:
        return value.reshape(-1)[0].item()
    dtype = _DTYPES.get(feature.get("dtype", ""))
    if dtype is not None:
        value = value.astype(dtype, copy=False)
    # Core ML's arrays have one dimension at least.
    return value.reshape(1) if value.ndim == 0 else value


def _compile(model: milwright.Model, name: str = "model", source: str | None = None) -> str:
    """The path of a compiled model, in a temporary folder of its own.

    Only ML programs have a compiled form here. Others are kept in the folder as they are, for `_inside` to find.
    """
    path = Path(tempfile.mkdtemp(prefix="milwright-"), f"{name}.mlmodelc")
    if model.info["model_type"] == "mlProgram":
        model.compile_to(path)
    elif source is None:
        raise RuntimeError("a model in memory, that is not an ML program, has no compiled form")
    elif Path(source).is_dir():
        shutil.copytree(source, path / "model.mlpackage", copy_function=_link)
    else:
        path.mkdir()
        _link(source, path / "model.mlmodel")
    return str(path)


def _link(source: str, destination: str | Path) -> None:
    """The same file under another name, or a copy where that cannot be."""
    try:
        os.link(source, destination)
    except OSError:
        shutil.copy(source, destination)


def _inside(path: str) -> str:
    """The model that `_compile` put into a folder, or the path itself."""
    kept = [Path(path, name) for name in ("model.mlmodel", "model.mlpackage")]
    return next((str(model) for model in kept if model.exists()), path)


def _asset(proxy: _MLModelAssetProxy) -> Any:
    from coremltools.models.model import MLModelAsset

    return MLModelAsset(proxy)


def _weight_name(name: str) -> str:
    """`weights/weight.bin`, `weight.bin` or the whole name, as the specification has it."""
    if name.startswith("@model_path"):
        return name
    return "@model_path/" + (name if "/" in name else f"weights/{name}")


def _structure(data: Mapping[str, Any]) -> tuple[Any, dict[int, float]]:
    """coremltools' description of a model, and the estimated cost of each op of its program by its number."""
    from coremltools.models import compute_plan as ct

    costs: dict[int, float] = {}

    def named(values: list[dict[str, Any]]) -> list[Any]:
        return [ct.MLModelStructureProgramNamedValueType(v["name"], ct.MLModelStructureProgramValueType()) for v in values]

    def binding(name: str | None) -> Any:
        value = ct.MLModelStructureProgramValue() if name is None else None
        return ct.MLModelStructureProgramBinding(name, value)

    def operation(op: dict[str, Any]) -> Any:
        proxy = _MLModelStructureProgramOperationProxy(len(costs))
        costs[proxy._index] = op["cost"]
        arguments = {
            name: ct.MLModelStructureProgramArgument([binding(b) for b in bindings])
            for name, bindings in op["inputs"].items()
        }
        blocks = [block(b) for b in op["blocks"]]
        return ct.MLModelStructureProgramOperation(arguments, op["operator"], named(op["outputs"]), blocks, proxy)

    def block(data: dict[str, Any]) -> Any:
        operations = [operation(op) for op in data["operations"]]
        return ct.MLModelStructureProgramBlock(named(data["inputs"]), operations, data["outputs"])

    if "pipeline" in data:
        parts = [(name, _structure(part)[0]) for name, part in data["pipeline"]]
        pipeline = ct.MLModelStructurePipeline(sub_models=parts)
        return ct.MLModelStructure(neuralnetwork=None, program=None, pipeline=pipeline), {}
    if "layers" in data:
        layers = [
            ct.MLModelStructureNeuralNetworkLayer(
                layer["name"],
                _ELEMENTWISE.get(layer["kind"], layer["kind"]),
                layer["inputs"],
                layer["outputs"],
                _MLModelStructureNeuralNetworkLayerProxy(),
            )
            for layer in data["layers"]
        ]
        network = ct.MLModelStructureNeuralNetwork(layers)
        return ct.MLModelStructure(neuralnetwork=network, program=None, pipeline=None), {}

    functions = {
        name: ct.MLModelStructureProgramFunction(named(f["inputs"]), block(f["block"]))
        for name, f in data["functions"].items()
    }
    structure = ct.MLModelStructure(neuralnetwork=None, program=ct.MLModelStructureProgram(functions), pipeline=None)
    return structure, costs
