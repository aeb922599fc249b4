"""The wheel, on the example: `pytest crates/python/tests` with the wheel, NumPy and pytest installed."""

import os
import shutil
import sys
import threading
from pathlib import Path

import numpy as np
import pytest

import milwright

EXAMPLES = Path(__file__).resolve().parents[3] / "examples"
DIGITS = EXAMPLES / "digits.mlpackage"


@pytest.fixture(scope="module")
def model():
    return milwright.Model(DIGITS)


@pytest.fixture(scope="module")
def images():
    return np.load(EXAMPLES / "digits_test_x.npy")


def test_the_example_is_classified(model, images):
    labels = np.load(EXAMPLES / "digits_test_y.npy")
    found = [model.predict({"image": image[None]})["digit"] for image in images]
    assert np.mean(np.array(found) == labels) > 0.97


def test_a_classifier_gives_a_label_and_probabilities(model, images):
    outputs = model.predict({"image": images[:1]})
    assert isinstance(outputs["digit"], int)
    assert sum(outputs["digit_probs"].values()) == pytest.approx(1, abs=1e-5)
    assert max(outputs["digit_probs"], key=outputs["digit_probs"].get) == outputs["digit"]


@pytest.mark.parametrize(
    "view",
    [
        lambda x: x.astype(np.float64),
        lambda x: x.astype(np.float16),
        lambda x: x.astype(">f4"),
        lambda x: np.asfortranarray(x),
        lambda x: np.repeat(x, 2, axis=3)[..., ::2],
        lambda x: x[..., ::-1][..., ::-1],
        lambda x: x.tolist(),
    ],
    ids=["fp64", "fp16", "big-endian", "fortran", "strided", "negative-strides", "lists"],
)
def test_arrays_of_any_layout_are_one_input(model, images, view):
    expected = model.predict({"image": images[:1]})["digit_probs"]
    found = model.predict({"image": view(images[:1])})["digit_probs"]
    assert list(found.values()) == pytest.approx(list(expected.values()), abs=1e-6)


@pytest.mark.parametrize(
    ("inputs", "message"),
    [
        ({}, "`image` is missing"),
        ({"picture": np.zeros((1, 1, 8, 8))}, "no input `picture`"),
        ({"image": np.zeros((1, 1, 8, 9))}, r"shape \[1, 1, 8, 9\]"),
        ({"image": np.zeros((8, 8))}, r"shape \[8, 8\]"),
        ({"image": np.zeros((0, 1, 8, 8))}, r"shape \[0, 1, 8, 8\]"),
        ({"image": "seven"}, "`image` is not an array of numbers"),
        ({"image": np.array([object()])}, "`image` is not an array of numbers"),
        ({"image": np.zeros((1, 1, 8, 8), np.complex64)}, "`image` is not an array of numbers"),
        ({"image": [[1, 2], [3]]}, "`image` is not an array of numbers"),
        ({"image": np.ma.masked_greater(np.ones((1, 1, 8, 8)), 0)}, "`image` has masked elements"),
        ({1: np.zeros((1, 1, 8, 8))}, "name of an input is text, not 1"),
        ({"\udc80": np.zeros((1, 1, 8, 8))}, "name of an input is text"),
        ([np.zeros((1, 1, 8, 8))], "a dictionary from their names to arrays, not a list"),
        (None, "a dictionary from their names to arrays"),
    ],
)
def test_wrong_inputs_are_named(model, inputs, message):
    with pytest.raises(milwright.InputError, match=message) as raised:
        model.predict(inputs)
    assert isinstance(raised.value, ValueError) and isinstance(raised.value, RuntimeError)


def test_what_is_no_model_is_an_error(tmp_path):
    path = tmp_path / "model.mlmodel"
    path.write_bytes(b"\xff" * 100)
    with pytest.raises(milwright.Error, match="model.mlmodel"):
        milwright.Model(path)
    with pytest.raises(milwright.Error):
        milwright.Model(tmp_path / "missing.mlpackage")
    with pytest.raises(milwright.InputError, match="no function"):
        milwright.Model(DIGITS, function="decode")


def test_a_deadline_that_has_passed_is_kept(model, images):
    with pytest.raises(milwright.DeadlineError):
        model.predict({"image": images[:1]}, timeout=0.0)
    with pytest.raises(milwright.InputError, match="timeout"):
        model.predict({"image": images[:1]}, timeout=-1.0)


def test_threads_share_a_model(model, images):
    expected = [model.predict({"image": image[None]})["digit"] for image in images[:32]]
    results = {}

    def run(k):
        results[k] = [model.predict({"image": image[None]})["digit"] for image in images[:32]]

    threads = [threading.Thread(target=run, args=(k,)) for k in range(4)]
    [thread.start() for thread in threads]
    [thread.join() for thread in threads]
    assert all(found == expected for found in results.values()) and len(results) == 4


def test_what_is_optimized_is_proved(tmp_path, images):
    output, seen = tmp_path / "small.mlpackage", []
    report = milwright.optimize(
        DIGITS,
        output,
        quantize="palette4",
        tolerance=10,
        inputs=[{"image": image[None]} for image in images[:4]],
        progress=lambda *at: seen.append(at),
    )
    assert report["bytes_after"] < report["bytes_before"] / 4 and seen
    (difference,) = [d for d in milwright.compare(DIGITS, output) if d["name"] == "digit_probs"]
    assert difference["snr_db"] > 10 and difference["reason"] is None
    assert difference["inputs"] == {"kind": "drawn", "seed": 0, "ranges": {"image": "-1 to 1"}}
    assert report["proof"]["inputs"] == {"main": {"kind": "given", "folder": None}} and report["tolerance_db"] == 10
    assert {d["snr_db"] for d in milwright.compare(DIGITS, DIGITS)} == {"equal"}
    before = {path: path.stat().st_mtime_ns for path in output.rglob("*")}
    with pytest.raises(milwright.ToleranceError):
        milwright.optimize(DIGITS, output, force=True, quantize="palette1", tolerance=100)
    with pytest.raises(FileExistsError, match="there already") as raised:
        milwright.optimize(DIGITS, output, quantize="int8")
    assert "force=True" in raised.value.hint and raised.value.filename == str(output)
    assert isinstance(raised.value, milwright.InputError)
    assert before == {path: path.stat().st_mtime_ns for path in output.rglob("*")}
    with pytest.raises(milwright.ToleranceError, match="the default for palette1"):
        milwright.optimize(DIGITS, output, force=True, quantize="palette1")
    assert before == {path: path.stat().st_mtime_ns for path in output.rglob("*")}
    milwright.optimize(DIGITS, output, force=True, quantize="int8")
    assert before != {path: path.stat().st_mtime_ns for path in output.rglob("*")}
    empty = tmp_path / "empty.mlpackage"
    empty.mkdir()
    milwright.optimize(DIGITS, empty, quantize="int8")
    others = tmp_path / "others"
    others.mkdir()
    (others / "mine").touch()
    with pytest.raises(milwright.InputError, match="not a model package"):
        milwright.optimize(DIGITS, others, force=True, quantize="int8")
    lax = milwright.optimize(DIGITS, None, quantize="palette1", tolerance="none")
    assert lax["tolerance_db"] is None
    with pytest.raises(milwright.InputError, match="int3"):
        milwright.optimize(DIGITS, None, quantize="int3")
    with pytest.raises(milwright.InputError, match="decibels"):
        milwright.optimize(DIGITS, None, tolerance="much")


def test_a_plan_is_kept(tmp_path, images):
    for origin in ("compiled", "cached"):
        model = milwright.Model(DIGITS, cache=tmp_path)
        assert model.loaded["plan"] == origin
        model.predict({"image": images[:1]})


def test_a_compiled_model_computes_the_same(tmp_path, model, images):
    model.compile_to(tmp_path / "digits.mlmodelc")
    with pytest.raises(milwright.ExistsError):
        model.compile_to(tmp_path / "digits.mlmodelc")
    model.compile_to(tmp_path / "digits.mlmodelc", force=True)
    compiled = milwright.Model(tmp_path / "digits.mlmodelc")
    assert compiled.predict({"image": images[:1]}) == model.predict({"image": images[:1]})


def test_a_model_without_states_has_an_empty_one(model, images):
    state = model.make_state()
    assert state.names == []
    with pytest.raises(milwright.InputError, match="no state"):
        state.read("cache")
    assert model.predict({"image": images[:1]}, state)


def test_floats_for_integers_are_cut_off_as_core_ml_does():
    from milwright._libcoremlpython import _input

    feature = {"kind": "multi_array", "dtype": "int32"}
    assert _input(np.array([1.75, -2.5]), feature).tolist() == [1, -2]
    assert _input(np.array([np.nan]), feature).dtype == np.float64
    assert _input(np.array([3e9]), feature).dtype == np.float64
    assert _input(np.array([1.5]), {"kind": "multi_array", "dtype": "fp32"}).dtype == np.float64


CLASSIC = Path(__file__).resolve().parents[2] / "milwright" / "tests" / "classic"


def test_dictionaries_text_and_sequences_go_in_and_out():
    words = milwright.Model(CLASSIC / "words.mlmodel").predict({"words": {"good": 2.0, "unheard": 1}})
    assert words["label"] == max(words["scores"], key=words["scores"].get)
    assert set(words["scores"]) == {"up", "down"}
    numbered = milwright.Model(CLASSIC / "numbered_words.mlmodel")
    assert numbered.predict({"x": {np.int64(70): np.float32(-2.0), 5: 9.0}}) == {"y": {0: -2.0}}
    assert numbered.predict({"x": {}}) == {"y": {}}
    assert milwright.Model(CLASSIC / "fill_text.mlmodel").predict({"x": ""})["y"] == "unknown"
    sequence = milwright.Model(CLASSIC / "mapping_of_sequence.mlmodel").predict({"x": ["b", "a"]})
    assert sequence["y"].tolist() == [-(2**60), 1]
    boxes = {"raw_confidence": np.array([[0.9, 0, 0]]), "raw_coordinates": np.ones((1, 4)), "least": 0.95}
    assert milwright.Model(CLASSIC / "detector.mlmodel").predict(boxes)["coordinates"].shape == (0, 4)


@pytest.mark.parametrize("value", [{"a": 1, 2: 3}, {"a": "b"}, {(1,): 2.0}, ["a", 1], 3.0])
def test_what_is_no_dictionary_is_refused(value):
    with pytest.raises(milwright.InputError, match="`words`"):
        milwright.Model(CLASSIC / "words.mlmodel").predict({"words": value})


def test_nothing_is_compared_on_nothing():
    for wrong in ({"samples": 0}, {"samples": -1}, {"inputs": []}, {"inputs": [5]}, {"inputs": np.zeros(3)}):
        with pytest.raises(milwright.InputError):
            milwright.compare(DIGITS, DIGITS, **wrong)


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="names of files are Unicode there")
def test_names_that_are_not_unicode(tmp_path, images):
    model, output = (os.fsdecode(os.fsencode(tmp_path) + name) for name in (b"/\xff.mlpackage", b"/\xfe.mlpackage"))
    shutil.copytree(DIGITS, model)
    assert milwright.optimize(model, output, quantize="float16")["output"].endswith(".mlpackage")
    assert "digit" in milwright.Model(output).predict({"image": images[:1]})
