"""PIL images to the arrays that programs compute with, and back."""

from __future__ import annotations

from typing import Any, Mapping

import numpy as np

from ._errors import InputError

_MODES = {"RGB": "RGB", "BGR": "RGB", "GRAYSCALE": "L", "GRAYSCALE_FLOAT16": "F"}


def to_array(value: Any, feature: Mapping[str, Any]) -> Any:
    """A PIL image as 1 × channels × height × width, 0 to 255, in the colour order that the feature declares; anything
    else as it is."""
    if not hasattr(value, "convert"):
        return value
    color = feature["color"]
    mode = _MODES.get(color)
    if mode is None:
        raise InputError(f"the model declares an image of an unknown colour space, {color}", kind="InvalidInput")
    if mode == "F" and value.mode != "F":
        raise InputError(f"the model takes an image of mode F, this one has mode {value.mode}", kind="InvalidInput")
    size = (feature["width"], feature["height"])
    if feature.get("flexibility", {}).get("kind", "fixed") == "fixed" and value.size != size:
        raise InputError(f"the image has {value.size} pixels, the model takes {size}", kind="InvalidInput")
    pixels = np.asarray(value.convert(mode), np.float32)
    planes = pixels[None] if pixels.ndim == 2 else pixels.transpose(2, 0, 1)
    return np.ascontiguousarray(planes[::-1] if color == "BGR" else planes)[None]


def from_array(array: np.ndarray, feature: Mapping[str, Any]) -> Any:
    """1 × channels × height × width, 0 to 255, as a PIL image: RGBA, L, or F."""
    from PIL import Image

    planes = array.reshape(array.shape[-3:])
    if feature["color"] == "GRAYSCALE_FLOAT16":
        return Image.fromarray(planes[0].astype(np.float32), "F")
    planes = np.clip(np.rint(planes), 0, 255).astype(np.uint8)
    if len(planes) == 1:
        return Image.fromarray(planes[0], "L")
    if feature["color"] == "BGR":
        planes = planes[::-1]
    alpha = np.full_like(planes[:1], 255)
    return Image.fromarray(np.ascontiguousarray(np.concatenate([planes, alpha]).transpose(1, 2, 0)), "RGBA")
