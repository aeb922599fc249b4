"""The functions of ``coremltools.optimize.coreml``, on Milwright's optimizer.

They take and give ``coremltools.models.MLModel``, with the signatures and configurations of coremltools 9.0. Models with
several functions are taken, too. What they do differently on purpose is in docs/optimize.md.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from typing import Any, Callable

import milwright

# The settings of each class that mean something in a file. `lut_function` is code: coremltools runs that itself.
_FIELDS: dict[str, tuple[str, ...]] = {
    "OpLinearQuantizerConfig": ("mode", "dtype", "granularity", "block_size", "weight_threshold"),
    "OpPalettizerConfig": (
        "mode",
        "nbits",
        "granularity",
        "group_size",
        "channel_axis",
        "cluster_dim",
        "enable_per_channel_scale",
        "weight_threshold",
    ),
    "OpThresholdPrunerConfig": ("threshold", "minimum_sparsity_percentile", "weight_threshold"),
    "OpMagnitudePrunerConfig": ("target_sparsity", "block_size", "n_m_ratio", "dim", "weight_threshold"),
}


def linear_quantize_weights(mlmodel: Any, config: Any, joint_compression: bool = False) -> Any:
    """As ``coremltools.optimize.coreml.linear_quantize_weights``."""
    return _compressed("linear_quantize_weights", mlmodel, config, joint_compression, {"OpLinearQuantizerConfig"})


def palettize_weights(mlmodel: Any, config: Any, joint_compression: bool = False) -> Any:
    """As ``coremltools.optimize.coreml.palettize_weights``."""
    return _compressed("palettize_weights", mlmodel, config, joint_compression, {"OpPalettizerConfig"})


def prune_weights(mlmodel: Any, config: Any, joint_compression: bool = False) -> Any:
    """As ``coremltools.optimize.coreml.prune_weights``."""
    classes = {"OpThresholdPrunerConfig", "OpMagnitudePrunerConfig"}
    return _compressed("prune_weights", mlmodel, config, joint_compression, classes)


def decompress_weights(mlmodel: Any) -> Any:
    """As ``coremltools.optimize.coreml.decompress_weights``; weights keep their names."""
    return _optimized(mlmodel, quantize="dense")


def get_weights_metadata(mlmodel: Any, weight_threshold: int = 2048) -> Any:
    """As ``coremltools.optimize.coreml.get_weights_metadata``. Compressed weights are described as they are when
    expanded, and not by their parts."""
    return _original("get_weights_metadata")(decompress_weights(mlmodel), weight_threshold)


def _compressed(name: str, mlmodel: Any, config: Any, joint_compression: bool, classes: set[str]) -> Any:
    settings = _settings(config, classes)
    if _has_code(config):
        # Tables that a function in Python makes are left to coremltools.
        return _original(name)(mlmodel, config, joint_compression=joint_compression)
    if joint_compression:
        settings["joint_compression"] = "true"
    if mlmodel.get_spec().specificationVersion < _IOS18:
        _check_old(config, joint_compression)
    return _optimized(mlmodel, config=settings, target_os=_target_os(mlmodel))


_IOS18 = 9


def _check_old(config: Any, joint_compression: bool) -> None:
    """Refuses what systems before iOS 18 do not have, in coremltools' words, and says what they have."""
    target = "Please re-convert your model with minimum_deployment_target set to at least ct.target.iOS18."
    if joint_compression:
        one_step = "For older systems, `decompress_weights` comes before another compression."
        raise ValueError(f"Joint compression is only supported since iOS18. {target} {one_step}")
    for one in _all(config):
        palette = type(one).__name__ == "OpPalettizerConfig"
        granularity = getattr(getattr(one, "granularity", None), "name", "").lower()
        what = "palettization" if palette else "quantization"
        is_four = not palette and _dtype_name(getattr(one, "dtype", "int8")) in ("int4", "uint4")
        if granularity in ("per_block", "per_grouped_channel"):
            older = "per_tensor" if palette else "per_channel with int8"
            newer = f"The {granularity} {what} is supported since iOS18"
        elif getattr(one, "cluster_dim", 1) > 1:
            newer, older = "The vector palettization is supported since iOS18", "cluster_dim=1"
        elif getattr(one, "enable_per_channel_scale", False):
            newer = "Palettization with per-channel-scale is only supported since iOS18"
            older = "enable_per_channel_scale=False"
        elif palette and one.nbits == 3:
            newer, older = "Palettization with 3 bits is only supported since iOS18", "nbits=4 or nbits=2"
        elif is_four:
            newer, older = "The 4-bit quantization is supported since iOS18", "int8, or a palette with nbits=4"
        else:
            continue
        raise ValueError(f"{newer}. {target} For older systems there is {older} instead.")


def _target_os(mlmodel: Any) -> milwright.TargetOS | None:
    """The oldest system that the model is for: forms that it does not have are refused, as in coremltools. Weights can be
    compressed from iOS 16 on, and coremltools raises older models to it."""
    version = mlmodel.get_spec().specificationVersion
    names: dict[int, milwright.TargetOS] = {6: "ios16", 7: "ios16", 8: "ios17", 9: "ios18"}
    return names.get(version)


# The functions that `install` has replaced.
_ORIGINALS: dict[str, Callable[..., Any]] = {}


def _original(name: str) -> Callable[..., Any]:
    import coremltools.optimize.coreml as coreml

    found: Callable[..., Any] = _ORIGINALS.get(name) or getattr(coreml, name)
    return found


def install() -> None:
    """Puts these functions in the place of coremltools' own. Calling it again does nothing."""
    import coremltools.optimize.coreml as coreml

    for function in (
        linear_quantize_weights,
        palettize_weights,
        prune_weights,
        decompress_weights,
        get_weights_metadata,
    ):
        name = function.__name__
        if getattr(coreml, name) is not function:
            _ORIGINALS[name] = getattr(coreml, name)
            setattr(coreml, name, function)


def _all(config: Any) -> list[Any]:
    named = [*(config.op_type_configs or {}).values(), *(config.op_name_configs or {}).values()]
    return [one for one in [config.global_config, *named] if one is not None]


def _has_code(config: Any) -> bool:
    return any(getattr(one, "lut_function", None) is not None for one in _all(config))


def _settings(config: Any, classes: set[str]) -> dict[str, Any]:
    """An ``OptimizationConfig`` as a dictionary that Milwright reads."""
    for one in _all(config):
        if type(one).__name__ not in classes:
            only = ", ".join(sorted(classes))
            raise ValueError(f"only {only} can be given here, not {type(one).__name__}")
    return {
        "global_config": _entry(config.global_config),
        "op_type_configs": {name: _entry(one) for name, one in (config.op_type_configs or {}).items()},
        "op_name_configs": {name: _entry(one) for name, one in (config.op_name_configs or {}).items()},
    }


def _entry(config: Any) -> dict[str, Any] | None:
    if config is None:
        return None
    name = type(config).__name__
    found: dict[str, Any] = {"config_type": name}
    for field in _FIELDS[name]:
        value = getattr(config, field, None)
        if value is None:
            continue
        if field == "granularity":
            value = value.name.lower()
        elif field == "dtype":
            value = _dtype_name(value)
        elif field == "mode":
            value = value.lower()
        elif isinstance(value, tuple):
            value = list(value)
        found[field] = value
    granularity = found.get("granularity")
    if granularity != "per_block" and name == "OpLinearQuantizerConfig":
        found.pop("block_size", None)
    if granularity == "per_tensor":
        found.pop("group_size", None)
    return found


def _dtype_name(dtype: Any) -> str:
    from coremltools.converters.mil.mil import types

    return dtype if isinstance(dtype, str) else str(types.builtin_to_string(dtype))


def _warn_of_skipped(report: dict[str, Any]) -> None:
    """Says in coremltools' log which weights stay as they are, with its words where it has some."""
    from coremltools import _logger

    for weight in report["weights"]:
        why, name = weight.get("skipped"), weight["name"]
        if why is None:
            continue
        if "distinct values" in why:
            why = f"Unique values in weight cannot be represented by 8 bits palettization. {why}"
        elif "divisible by vectors" in why:
            _logger.warning(f"The `cluster_dim` is invalid for {name}: {why}. Skipped this op.")
            continue
        _logger.warning(f"{why[0].upper()}{why[1:]}: {name}. Skipped this op.")


def _optimized(mlmodel: Any, **options: Any) -> Any:
    """Writes a model, optimizes it, and reads the result as coremltools' functions give it."""
    import coremltools as ct
    from coremltools.converters.mil.frontend.milproto.load import load as load_program

    folder = tempfile.mkdtemp(prefix="milwright-")
    # The result stays until the model is let go of, as coremltools' own temporary packages do.
    before, after = os.path.join(folder, "before.mlpackage"), f"{folder}.mlpackage"
    try:
        mlmodel.save(before)
        report = milwright.optimize(before, after, proof=False, **options)
        _warn_of_skipped(report)
    except milwright.Error as error:
        raise ValueError(str(error)) from error
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    result = ct.models.MLModel(
        after,
        is_temp_package=True,
        compute_units=mlmodel.compute_unit,
        skip_model_load=mlmodel.__proxy__ is None,
    )
    spec = result.get_spec()
    result._mil_program = load_program(
        spec, specification_version=spec.specificationVersion, file_weights_dir=result.weights_dir
    )
    return result
