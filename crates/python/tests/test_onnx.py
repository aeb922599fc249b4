"""ONNX models in the wheel: conversion with options, the drop-in for coremltools' converter, the check with ONNX Runtime."""

import sys

import numpy as np
import pytest

import milwright
import milwright.onnx


def _varint(n):
    out = bytearray()
    while n > 127:
        out.append(n & 127 | 128)
        n >>= 7
    return bytes(out + bytes([n]))


def _field(number, value):
    """A field of a protobuf message: a number, or bytes."""
    if isinstance(value, int):
        return _varint(number << 3) + _varint(value)
    value = value.encode() if isinstance(value, str) else value
    return _varint(number << 3 | 2) + _varint(len(value)) + value


def _value(name, elem, dims):
    dims = b"".join(_field(1, _field(1, d) if isinstance(d, int) else _field(2, d)) for d in dims)
    return _field(1, name) + _field(2, _field(1, _field(1, elem) + _field(2, dims)))


def _node(op, inputs, output):
    return b"".join(_field(1, name) for name in inputs) + _field(2, output) + _field(4, op)


def _tensor(name, array):
    dims = b"".join(_field(1, n) for n in array.shape)
    return dims + _field(2, 1) + _field(8, name) + _field(9, array.astype("<f4").tobytes())


WEIGHT = np.arange(12, dtype=np.float32).reshape(3, 4) - 5


@pytest.fixture
def model(tmp_path):
    """y:0 = relu(x.0 · w) · k for k of one number."""
    nodes = [_node("MatMul", ["x.0", "w"], "p"), _node("Relu", ["p"], "r"), _node("Mul", ["r", "k"], "y:0")]
    graph = b"".join(_field(1, node) for node in nodes) + _field(2, "g") + _field(5, _tensor("w", WEIGHT))
    graph += _field(11, _value("x.0", 1, ["batch", 3])) + _field(11, _value("k", 1, []))
    graph += _field(12, _value("y:0", 1, ["batch", 4]))
    path = tmp_path / "model.onnx"
    path.write_bytes(_field(1, 8) + _field(7, graph) + _field(8, _field(1, "") + _field(2, 17)))
    return path


@pytest.fixture
def inputs():
    return {"x.0": np.array([[1, 2, 3], [-1, 0, 1]], np.float32), "k": np.float32(2)}


def expected(inputs):
    return np.maximum(inputs["x.0"] @ WEIGHT, 0) * inputs["k"]


def test_an_onnx_model_is_run(model, inputs):
    found = milwright.Model(model).predict({"x.0": inputs["x.0"], "k": [2]})
    np.testing.assert_allclose(found["y:0"], expected(inputs))


def test_sizes_and_constants_are_options(model, inputs, tmp_path):
    package = tmp_path / "out.mlpackage"
    report = milwright.convert(model, package, size={"batch": (1, 8)}, freeze={"k": np.float32(2)}, report=True)
    assert report["model_type"] == "onnx" and report["lowered"] == {"MatMul": 1, "Mul": 1, "Relu": 1}
    assert report["ops"]["relu"] == 1
    made = milwright.Model(package)
    assert [i["name"] for i in made.inputs] == ["x_0"]
    assert made.inputs[0]["ty"]["flexibility"]["dimensions"] == [[1, 8], [3, 3]]
    np.testing.assert_allclose(made.predict({"x_0": inputs["x.0"]})["y_0"], expected(inputs))


@pytest.mark.parametrize(
    ("size", "shape"), [(2, [2, 3]), ("2", [2, 3]), ([2, 4], [2, 3]), ((2, None), [2, 3]), ("2..4", [2, 3])]
)
def test_a_size_is_said_in_several_ways(model, tmp_path, size, shape):
    package = tmp_path / "out.mlpackage"
    milwright.convert(model, package, size={"batch": size})
    assert milwright.inspect(package)["functions"][0]["inputs"][0]["ty"]["shape"] == shape


def test_what_is_no_size_is_said(model):
    with pytest.raises(milwright.InputError, match="`batch`.*`many` is not a size"):
        milwright.convert(model, size={"batch": "many"})
    with pytest.raises(milwright.InputError, match="the size `batch` is a float"):
        milwright.convert(model, size={"batch": 1.5})
    with pytest.raises(milwright.Error, match="no input has a size named `bach`"):
        milwright.convert(model, size={"bach": 1})


def test_a_tolerance_that_cannot_be_met_writes_nothing(model, tmp_path):
    package = tmp_path / "out.mlpackage"
    with pytest.raises(milwright.ToleranceError):
        milwright.convert(model, package, precision="float16", tolerance=200)
    assert not package.exists()


def test_given_inputs_have_the_names_of_the_onnx_model(model, inputs, tmp_path):
    package = tmp_path / "out.mlpackage"
    report = milwright.convert(model, package, inputs=[{"x.0": inputs["x.0"], "k": np.array([2], np.float32)}])
    assert package.exists() and report["proved"]


def test_compare_finds_what_was_renamed(model, tmp_path):
    package = tmp_path / "out.mlpackage"
    milwright.convert(model, package)
    [row] = milwright.compare(model, package)
    assert row["name"] == "y:0" and row["snr_db"] == "equal" and not row["faults"]
    [row] = milwright.compare(package, model)
    assert row["name"] == "y_0" and row["snr_db"] == "equal" and not row["faults"]


def test_the_drop_in_converts(model, inputs, tmp_path):
    made = milwright.onnx.to_coreml(str(model), minimum_ios_deployment_target="16", onnx_coreml_input_shape_map={"x.0": [2, 3]})
    path = tmp_path / "saved.mlpackage"
    made.save(str(path))
    saved = milwright.Model(path)
    assert saved.inputs[0]["ty"]["shape"] == [2, 3]
    assert saved.info["specification_version"] == 7
    np.testing.assert_allclose(saved.predict({"x_0": inputs["x.0"], "k": [2]})["y_0"], expected(inputs))


@pytest.mark.parametrize(
    "arguments",
    [
        {"image_input_names": ["x.0"]},
        {"preprocessing_args": {"image_scale": 2}},
        {"class_labels": ["a"]},
        {"add_custom_layers": True},
        {"mode": "classifier"},
    ],
)
def test_the_drop_in_refuses_what_it_would_ignore(model, arguments):
    with pytest.raises(milwright.UnsupportedError) as error:
        milwright.onnx.to_coreml(model, **arguments)
    assert "leave it out" in error.value.hint


def test_the_drop_in_checks_shapes(model):
    with pytest.raises(milwright.InputError, match="has 2 dimensions"):
        milwright.onnx.to_coreml(model, onnx_coreml_input_shape_map={"x.0": [2]})
    with pytest.raises(milwright.InputError, match="dimension 1 .* is 3"):
        milwright.onnx.to_coreml(model, onnx_coreml_input_shape_map={"x.0": [2, 4]})


def test_the_check_says_what_it_needs(model, inputs, monkeypatch):
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(ImportError, match="pip install onnxruntime"):
        milwright.onnx.check(model, inputs)


def test_the_check_compares_with_onnx_runtime(model, inputs, tmp_path):
    pytest.importorskip("onnxruntime")
    package = tmp_path / "out.mlpackage"
    milwright.convert(model, package)
    found = milwright.onnx.check(model, inputs, package=package)
    assert found["agrees"] and [row["model"] for row in found["outputs"]] == ["onnx", "package"]
    milwright.convert(model, package, freeze={"k": np.float32(3)}, force=True)
    with pytest.raises(milwright.InputError):
        milwright.onnx.check(model, inputs, package=package)


def test_names_are_read_from_the_metadata():
    names = milwright.onnx._original_names({"user_defined": {"onnx.names": r"a_b=a\;b; c=d=e\\f"}})
    assert names == {"a_b": "a;b", "c": r"d=e\f"}
