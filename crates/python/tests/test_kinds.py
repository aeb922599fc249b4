"""Models that are not single ML programs, and their conversion to these."""

import inspect
import typing
from pathlib import Path

import numpy as np
import pytest

import milwright

MODELS = Path(__file__).resolve().parents[2] / "milwright" / "tests" / "models"
PIPELINES = MODELS.parent / "pipelines"
NETWORK = MODELS / "classifier.mlmodel"


def test_networks_become_ml_programs(tmp_path):
    output, seen = tmp_path / "new.mlpackage", []
    report = milwright.convert(NETWORK, output, progress=lambda *at: seen.append(at))
    assert (report["model_type"], report["target_os"], report["specification_version"]) == (
        "neuralNetworkClassifier",
        "iOS 15",
        6,
    )
    assert report["proof"]["inputs"]["main"]["kind"] == "drawn" and report["tolerance_db"] == 80
    assert seen and {stage for stage, _, _ in seen} <= {"compressing", "proving", "writing"}
    info = milwright.inspect(output)
    assert info["model_type"] == "mlProgram"
    assert [f["name"] for f in milwright.Model(output).outputs] == [f["name"] for f in milwright.Model(NETWORK).outputs]
    assert all(d["faults"] == [] for d in milwright.compare(NETWORK, output))
    # It can be compiled now.
    milwright.Model(output).compile_to(tmp_path / "new.mlmodelc")
    assert milwright.inspect(str(tmp_path / "new.mlmodelc"))["model_type"] == "mlProgram"
    half = milwright.convert(NETWORK, None, precision="float16", target_os="ios17", seed=3)
    assert (half["target_os"], half["output"], half["tolerance_db"]) == ("iOS 17", None, 30)
    # Inputs as they are, and from a folder, as strings or paths.
    network = MODELS / "convolution.mlmodel"
    (feature,) = milwright.Model(network).inputs
    given = np.random.default_rng(0).standard_normal(feature["ty"]["shape"]).astype(np.float32)
    report = milwright.convert(str(network), inputs=[{feature["name"]: given}], threads=1)
    assert report["proof"]["inputs"]["main"] == {"kind": "given", "folder": None}
    folder = tmp_path / "inputs"
    folder.mkdir()
    np.save(folder / f"{feature['name']}.npy", given)
    assert milwright.convert(network, inputs=folder)["proof"]["inputs"]["main"]["folder"] == str(folder)


def test_what_is_not_converted_is_an_error(tmp_path):
    there = tmp_path / "there.mlpackage"
    milwright.convert(NETWORK, there)
    with pytest.raises(milwright.ExistsError, match="there already") as raised:
        milwright.convert(NETWORK, there)
    assert "force=True" in raised.value.hint
    milwright.convert(NETWORK, there, force=True)
    for write in (milwright.convert, milwright.optimize):
        for name in ("new.mlmodel", "new.mlmodelc", "new.onnx", "new.json"):
            with pytest.raises(milwright.InputError, match="ends in .mlpackage") as raised:
                write(NETWORK, tmp_path / name)
            assert raised.value.hint == f"write to {tmp_path / 'new.mlpackage'}"
    for name in ("new.mlmodel", "new.mlpackage", "new.zip"):
        with pytest.raises(milwright.InputError, match="ends in .mlmodelc"):
            milwright.Model(there).compile_to(tmp_path / name)
    # Words are looked at, also where they would not be used.
    for write in (milwright.convert, milwright.optimize):
        with pytest.raises(milwright.InputError, match="one of crop, pad, stretch, exact"):
            write(NETWORK, fit="squash")
    with pytest.raises(milwright.InputError, match="snr"):
        milwright.optimize(NETWORK, metric="rmse")
    with pytest.raises(milwright.InputError, match="one of ios15, ios16, ios17, ios18"):
        milwright.convert(NETWORK, target_os="ios14")
    with pytest.raises(milwright.InputError, match="one of float32, float16"):
        milwright.convert(NETWORK, precision="int8")
    with pytest.raises(milwright.UnsupportedError, match="treeEnsembleClassifier"):
        milwright.convert(MODELS / "tree_classifier.mlmodel")
    with pytest.raises(FileNotFoundError):
        milwright.convert(tmp_path / "none.mlmodel")
    with pytest.raises(milwright.DeadlineError):
        milwright.convert(NETWORK, tmp_path / "late.mlpackage", timeout=0)
    with pytest.raises(KeyError):
        milwright.convert(NETWORK, tmp_path / "late.mlpackage", progress=lambda *at: {}["none"])
    assert not (tmp_path / "late.mlpackage").exists()


@pytest.mark.parametrize("path", sorted(PIPELINES.glob("*.ml*")), ids=lambda path: path.stem)
def test_pipelines_of_all_kinds(tmp_path, path):
    """Each is described, run, compared, optimized and converted; the numbers are compared in the library's tests."""
    model = milwright.Model(path)
    assert milwright.inspect(path)["pipeline"] and model.structure["pipeline"]
    assert all(d["faults"] == [] and d["snr_db"] == "equal" for d in milwright.compare(path, path))
    report = milwright.optimize(path, tmp_path / "o.mlpackage", quantize="none")
    assert report["proof"]["functions"]["main"]
    assert milwright.convert(path, tmp_path / "c.mlpackage")["model_type"] == model.info["model_type"]
    outputs = [f["name"] for f in model.outputs]
    assert [f["name"] for f in milwright.Model(tmp_path / "c.mlpackage").outputs] == outputs


def test_the_classes_are_those_of_the_declared_classifier():
    """Two models of the pipeline are classifiers; the probabilities that it declares are the first one's."""
    outputs = milwright.Model(PIPELINES / "classes_within.mlmodel").predict({"x": np.ones(4)})
    assert set(outputs["chances"]) == {"red", "green", "blue"} and outputs["color"] in outputs["chances"]
    assert outputs["step"] in (10, -20, 30)


def test_states_of_pipelines():
    model = milwright.Model(PIPELINES / "states.mlmodel")
    state = model.make_state()
    assert state.names == ["model 1 of the pipeline: sum", "model 3 of the pipeline: sum"]
    first, second = (model.predict({"x": np.ones(3)}, state)["a"] for _ in range(2))
    assert first.tolist() == [1, 1, 1] and second.tolist() == [1.5, 1.5, 1.5]
    assert state.read("model 1 of the pipeline: sum").tolist() == [1.5, 1.5, 1.5]


def test_every_choice_is_typed():
    """Choices are `Literal`s, paths are strings or `os.PathLike`s, in every function."""
    functions = [milwright.Model.__init__, milwright.Model.compile_to, milwright.optimize, milwright.convert]
    functions += [milwright.compare, milwright.inspect]
    for function in functions:
        hints = typing.get_type_hints(function, vars(milwright))
        assert set(inspect.signature(function).parameters) - {"self"} <= set(hints), function
        for name in ("quantize", "target", "precision", "target_os", "images"):
            if name in hints:
                assert "Literal" in str(hints[name]), (function, name)
        for name in ("path", "model", "output", "a", "b", "cache"):
            if name in hints:
                assert "PathLike" in str(hints[name]), (function, name)
