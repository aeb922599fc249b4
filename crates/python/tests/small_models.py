"""Small models as bytes, without coremltools: the messages of Core ML's format, as far as the tests need them."""

import struct

FLOAT32, BOOL, STRING = 11, 1, 2
"""Element types of MIL."""
RGB, BGR, GRAYSCALE = 20, 30, 10
"""Colour spaces of image features."""
_ARRAY_FLOAT32 = 65568


def endless():
    """A loop that never ends where its input is below 1: x stays what it is."""
    x = _named("x", [1])
    condition = _block(
        [_named("a", [1])],
        [_const("one", 1.0), _op("less", {"x": "a", "y": "one"}, "less", BOOL, [1]), _op("squeeze", {"x": "less"}, "go", BOOL, [])],
        "go",
    )
    body = _block(
        [_named("b", [1])], [_const("factor", 1.0), _op("mul", {"x": "b", "y": "factor"}, "same", FLOAT32, [1])], "same"
    )
    loop = _op("while_loop", {"loop_vars": "x"}, "out", FLOAT32, [1], blocks=[condition, body])
    return _model([_feature("x", _array([1]))], [_feature("out", _array([1]))], [x], [loop], "out")


def picture(color, height, width):
    """Gives back the picture that it gets."""
    shape = [1, 1 if color == GRAYSCALE else 3, height, width]
    image = _field(4, _field(1, width) + _field(2, height) + _field(3, color))
    same = _op("identity", {"x": "photo"}, "copy", FLOAT32, shape)
    return _model([_feature("photo", image)], [_feature("copy", image)], [_named("photo", shape)], [same], "copy")


def declared_picture(color, shape):
    """Gives back the array that it gets, and declares it as a picture, whatever its shape is."""
    image = _field(4, _field(1, 2) + _field(2, 2) + _field(3, color))
    same = _op("identity", {"x": "x"}, "copy", FLOAT32, shape)
    return _model([_feature("x", _array(shape))], [_feature("copy", image)], [_named("x", shape)], [same], "copy")


def _model(inputs, outputs, arguments, operations, result):
    description = b"".join(_field(1, i) for i in inputs) + b"".join(_field(10, o) for o in outputs)
    block = _entry("CoreML7", _block([], operations, result))
    function = b"".join(_field(1, a) for a in arguments) + _field(2, "CoreML7") + _field(3, block)
    program = _field(1, 1) + _field(2, _entry("main", function))
    return _field(1, 8) + _field(2, description) + _field(502, program)


def _feature(name, kind):
    return _field(1, name) + _field(3, kind)


def _array(shape):
    return _field(5, b"".join(_field(1, n) for n in shape) + _field(2, _ARRAY_FLOAT32))


def _block(inputs, operations, output):
    return b"".join(_field(1, i) for i in inputs) + _field(2, output) + b"".join(_field(3, o) for o in operations)


def _op(kind, inputs, output, dtype, shape, blocks=()):
    bound = (_field(2, _entry(name, _field(1, _field(1, value)))) for name, value in inputs.items())
    nested = b"".join(_field(4, block) for block in blocks)
    return _field(1, kind) + b"".join(bound) + _field(3, _named(output, shape, dtype)) + nested + _name(output)


def _const(name, number):
    value = _field(2, _type(FLOAT32, [])) + _field(3, _field(1, _field(1, _field(1, struct.pack("<f", number)))))
    return _field(1, "const") + _field(3, _named(name, [])) + _field(5, _entry("val", value)) + _name(name)


def _name(name):
    value = _field(2, _type(STRING, [])) + _field(3, _field(1, _field(4, _field(1, name))))
    return _field(5, _entry("name", value))


def _named(name, shape, dtype=FLOAT32):
    return _field(1, name) + _field(2, _type(dtype, shape))


def _type(dtype, shape):
    dimensions = b"".join(_field(3, _field(1, _field(1, n))) for n in shape)
    return _field(1, _field(1, dtype) + _field(2, len(shape)) + dimensions)


def _entry(key, value):
    return _field(1, key) + _field(2, value)


def _field(number, value):
    """A field of a message: a whole number, or bytes."""
    if isinstance(value, int):
        return _varint(number << 3) + _varint(value)
    data = value.encode() if isinstance(value, str) else value
    return _varint(number << 3 | 2) + _varint(len(data)) + data


def _varint(n):
    result = bytearray()
    while n > 0x7F:
        result.append(n & 0x7F | 0x80)
        n >>= 7
    return bytes(result) + bytes([n])
