"""PIL images to the arrays that programs compute with, and back."""

from __future__ import annotations

from typing import Any, Mapping

import numpy as np

from ._errors import InputError, UnsupportedError

_MODES = {"RGB": "RGB", "BGR": "RGB", "GRAYSCALE": "L", "GRAYSCALE_FLOAT16": "F"}


def to_array(name: str, value: Any, feature: Mapping[str, Any]) -> Any:
    """A picture as 1 × channels × height × width, 0 to 255, in the colour order that the feature declares.

    A PIL image is converted. An array in that form, with or without the first dimension, is passed on. Pixels as
    imaging libraries have them (``uint8``, height × width × RGB, or height × width of a gray picture) are reordered;
    any other array is an error, since a guess could scramble it.
    """
    color = feature["color"]
    mode = _MODES.get(color)
    if mode is None:
        raise _wrong(name, f"the model declares an image of an unknown colour space, {color}")
    if hasattr(value, "convert"):
        pixels = _of_pil(name, value, mode)
    else:
        array = np.asarray(value)
        planes = _planes(array, 3 if mode == "RGB" else 1)
        if planes is not None:
            return planes
        pixels = _pixels(name, array, mode)
    height, width = pixels.shape[:2]
    size = (feature["width"], feature["height"])
    if feature.get("flexibility", {}).get("kind", "fixed") == "fixed" and (width, height) != size:
        raise _wrong(name, f"the image has {width} × {height} pixels, the model takes {size[0]} × {size[1]}")
    planes = pixels[None] if pixels.ndim == 2 else pixels.transpose(2, 0, 1)
    planes = planes[::-1] if color == "BGR" else planes
    return np.ascontiguousarray(planes, np.float32)[None]


def _of_pil(name: str, image: Any, mode: str) -> np.ndarray:
    if mode == "F" and image.mode != "F":
        raise _wrong(name, f"the model takes an image of mode F, this one has mode {image.mode}")
    return np.asarray(image.convert(mode), np.float32)


def _planes(array: np.ndarray, channels: int) -> np.ndarray | None:
    """The array, if it has the form that models compute with."""
    if array.ndim == 4 and array.shape[1] == channels:
        return array
    # A picture of 3 × 3 pixels could be meant either way: bytes are taken for pixels.
    is_picture = array.dtype == np.uint8 and array.shape[-1] == channels
    if array.ndim == 3 and array.shape[0] == channels and not is_picture:
        return array[None]
    return None


def _pixels(name: str, array: np.ndarray, mode: str) -> np.ndarray:
    """Height × width × RGB, or height × width, of an array of bytes."""
    pixels = array[0] if array.ndim == 4 and array.shape[0] == 1 else array
    if mode == "RGB":
        fits, wanted = pixels.ndim == 3 and pixels.shape[-1] == 3, "height × width × 3 (RGB) of uint8"
    else:
        pixels = pixels[..., 0] if pixels.ndim == 3 and pixels.shape[-1] == 1 else pixels
        fits, wanted = pixels.ndim == 2, "height × width of uint8"
    if not fits or pixels.dtype != np.uint8 or mode == "F":
        channels = 3 if mode == "RGB" else 1
        wanted = f"a PIL image, 1 × {channels} × height × width" + ("" if mode == "F" else f", or {wanted}")
        raise _wrong(name, f"an array of {array.dtype} with the shape {list(array.shape)}; the model takes {wanted}")
    return pixels


def _wrong(name: str, message: str) -> InputError:
    return InputError(f"the input `{name}`: {message}", kind="InvalidInput")


def from_array(name: str, array: np.ndarray, feature: Mapping[str, Any]) -> Any:
    """1 × channels × height × width, 0 to 255, as a PIL image: RGBA, L, or F."""
    from PIL import Image

    channels = 3 if feature["color"] in ("RGB", "BGR") else 1
    shape = array.shape if isinstance(array, np.ndarray) else ()
    if len(shape) < 3 or shape[-3] != channels or array.size != np.prod(shape[-3:]) or not array.size:
        found = f"has the shape {list(shape)}" if isinstance(array, np.ndarray) else f"is a {type(array).__name__}"
        raise UnsupportedError(
            f"the output `{name}` is declared as an image of {feature['color']}, and {found}",
            kind="Unsupported",
            hint='open the model with images="array" to have it as an array',
        )
    planes = array.reshape(array.shape[-3:])
    if feature["color"] == "GRAYSCALE_FLOAT16":
        return Image.fromarray(planes[0].astype(np.float32), "F")
    planes = np.nan_to_num(np.clip(np.rint(planes), 0, 255)).astype(np.uint8)
    if channels == 1:
        return Image.fromarray(planes[0], "L")
    if feature["color"] == "BGR":
        planes = planes[::-1]
    alpha = np.full_like(planes[:1], 255)
    return Image.fromarray(np.ascontiguousarray(np.concatenate([planes, alpha]).transpose(1, 2, 0)), "RGBA")
