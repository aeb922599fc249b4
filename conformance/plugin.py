"""The pytest plugin of `run.py`: chooses cases, counts predictions, marks known differences, writes results.

It is configured through the environment, since worker processes inherit that:

    MILWRIGHT_PRECISION   only cases of this precision, where a case has one
    MILWRIGHT_SAMPLE      so many cases of each test function, chosen by MILWRIGHT_SEED
    MILWRIGHT_KNOWN       a JSON file: known differences, test to reason
    MILWRIGHT_SUITE       the suite that runs
    MILWRIGHT_RESULTS     where each test's outcome goes, a line of JSON each
    MILWRIGHT_OPTIMIZER   if set, Milwright's functions take the place of coremltools.optimize's, and Milwright reads each
                          configuration that coremltools reads, with the same result
"""

import collections
import copy
import importlib.util
import json
import os
import platform
import random
import re

import numpy as np
import pytest

import milwright
import milwright.coremltools  # noqa: F401  (before coremltools, which the tests import)

# What is known of the test that runs.
_predictions = 0
_half_data = False
_largest_difference = None
_optimizations = 0
_left_to_coremltools = 0

# Cases of the strict suite whose program has fp16 inputs or constants are compared with values that were computed from
# fp32 ones, or in fp16: no engine that computes in fp32 gets those. A difference up to this, relative to the largest
# expected value where that is above 1, is put down to it, and counted apart.
HALF_DATA = 4e-3

_HAS_TORCH = importlib.util.find_spec("torch") is not None


def pytest_configure(config):
    from coremltools import libcoremlpython as native

    # Where Core ML fails on Macs with Intel's processors, coremltools' tests ask for the machine and skip.
    platform.machine = lambda: "arm64"

    load, predict = native._MLModelProxy.__init__, native._MLModelProxy.predict
    assert_allclose = np.testing.assert_allclose

    def loading(self, *args, **kwargs):
        global _half_data
        load(self, *args, **kwargs)
        blocks = [function["block"] for function in self._model.structure["functions"].values()]
        operations = [operation for block in blocks for operation in block["operations"]]
        outputs = [o["type"] for op in operations if op["operator"].startswith("const") for o in op["outputs"]]
        _half_data |= any("fp16" in type for type in outputs)
        _half_data |= any(feature["ty"].get("dtype") == "fp16" for feature in self._model.inputs)

    def counted(self, *args, **kwargs):
        global _predictions
        _predictions += 1
        return predict(self, *args, **kwargs)

    def remembered(actual, desired, *args, **kwargs):
        global _largest_difference
        try:
            assert_allclose(actual, desired, *args, **kwargs)
        except AssertionError:
            with np.errstate(all="ignore"):
                actual, desired = np.asarray(actual, np.float64), np.asarray(desired, np.float64)
                if actual.shape == desired.shape and actual.size:
                    _largest_difference = np.max(np.abs(actual - desired)) / max(1, np.max(np.abs(desired)))
            raise

    if os.environ.get("MILWRIGHT_OPTIMIZER"):
        _put_optimizer()
    native._MLModelProxy.__init__ = loading
    native._MLModelProxy.predict = counted
    np.testing.assert_allclose = remembered


def _put_optimizer():
    """Puts Milwright's functions in the place of coremltools', and counts what each test has them do."""
    import coremltools.optimize.coreml as coreml
    from coremltools.optimize.coreml._config import _normalize_dtype
    from milwright import _compression, _native

    milwright.coremltools.install_optimizer()
    optimized, original = _compression._optimized, _compression._original

    def counted(*args, **kwargs):
        global _optimizations
        _optimizations += 1
        return optimized(*args, **kwargs)

    def left(name):
        global _left_to_coremltools
        # What describes weights describes those that Milwright expanded.
        _left_to_coremltools += name != "get_weights_metadata"
        return original(name)

    _compression._optimized, _compression._original = counted, left

    def name(value):
        return _compression._dtype_name(_normalize_dtype(value))

    def same(of_text, of_object):
        """Checks that Milwright reads a configuration as coremltools does."""
        global _optimizations
        _optimizations += 1
        ours = json.loads(_native.forms(json.dumps(of_text, default=name)))
        theirs = json.loads(_native.forms(json.dumps(of_object)))
        assert ours == theirs, (of_text, ours, theirs)

    def of_entry(cls):
        read = cls._from_dict.__func__

        def reading(cls, config):
            given = dict(config)
            found = read(cls, config)
            entry = _compression._entry(found)
            same({"config_type": cls.__name__, "global_config": given}, {"global_config": entry})
            return found

        cls._from_dict = classmethod(reading)

    for cls in (
        coreml.OpLinearQuantizerConfig,
        coreml.OpPalettizerConfig,
        coreml.OpThresholdPrunerConfig,
        coreml.OpMagnitudePrunerConfig,
    ):
        of_entry(cls)

    whole = coreml.OptimizationConfig
    read = whole.from_dict.__func__

    def reading(cls, config):
        given = copy.deepcopy(config)
        try:
            found = read(cls, config)
        except Exception:
            # What coremltools refuses, Milwright refuses, or it leaves everything as it is.
            try:
                forms = json.loads(_native.forms(json.dumps(given, default=name)))
            except milwright.InputError:
                forms = {}
            assert not any(forms.values()), (given, forms)
            raise
        if any(given.get(key) for key in ("global_config", "op_type_configs", "op_name_configs")):
            same(given, _compression._settings(found, {*_compression._FIELDS}))
        return found

    whole.from_dict = classmethod(reading)


def pytest_collection_modifyitems(config, items):
    items[:] = _sample([item for item in items if _precise(item)])
    known = _known()
    for item in items:
        reason = known.get(_name(item.nodeid))
        if reason is not None:
            item.add_marker(pytest.mark.xfail(reason=f"known difference: {reason}", strict=False))


def _precise(item):
    wanted = os.environ.get("MILWRIGHT_PRECISION")
    backend = getattr(item, "callspec", None) and item.callspec.params.get("backend")
    found = re.search(r"fp16|fp32", str(backend)) if backend is not None else None
    return not wanted or found is None or found.group() == wanted


def _sample(items):
    count = int(os.environ.get("MILWRIGHT_SAMPLE", "0"))
    if not count:
        return items
    groups = collections.defaultdict(list)
    for item in items:
        groups[item.nodeid.split("[")[0]].append(item)
    chance = random.Random(os.environ.get("MILWRIGHT_SEED", "0"))
    chosen = set()
    for group in groups.values():
        chosen.update(map(id, chance.sample(group, min(count, len(group)))))
    return [item for item in items if id(item) in chosen]


def _known():
    path = os.environ.get("MILWRIGHT_KNOWN")
    if not path:
        return {}
    with open(path, encoding="utf-8") as file:
        found = json.load(file)
    # One with a suite is known there only: the same test may run in several.
    suite = os.environ.get("MILWRIGHT_SUITE")
    return {test: entry["reason"] for test, entry in found.items() if entry.get("suite", suite) == suite}


def _name(nodeid):
    """The test's place in coremltools: its id as seen from wherever pytest was started has more or less before it."""
    return nodeid.split("site-packages/")[-1].split("coremltools/")[-1]


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item, nextitem):
    global _predictions, _half_data, _largest_difference, _optimizations, _left_to_coremltools
    _predictions, _half_data, _largest_difference = 0, False, None
    _optimizations, _left_to_coremltools = 0, 0
    return (yield)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item, call):
    report = yield
    report.user_properties.append(("predictions", _predictions))
    report.user_properties.append(("optimized", _optimizations))
    report.user_properties.append(("left", _left_to_coremltools))
    explained = _half_data and _largest_difference is not None and _largest_difference <= HALF_DATA
    if report.when == "call" and report.failed and explained and "fp32" in str(item.nodeid):
        report.outcome, report.wasxfail = "skipped", "fp16 data"
    # Most tests that want PyTorch are skipped where it is not installed; a few fail for want of it.
    if report.failed and not _HAS_TORCH and "'torch'" in str(call.excinfo.value):
        report.outcome, report.longrepr = "skipped", (str(item.path), None, "Skipped: PyTorch not found")
    return report


def pytest_collectreport(report):
    """A file that cannot be imported."""
    if report.failed:
        wants_torch = not _HAS_TORCH and "'torch'" in str(report.longrepr)
        outcome, why = ("skipped", "PyTorch not found") if wants_torch else ("error", str(report.longrepr)[-2000:])
        _write({"test": _name(report.nodeid), "outcome": outcome, "predictions": 0, "seconds": 0, "why": why})


def pytest_runtest_logreport(report):
    if report.when != "call" and report.outcome == "passed":
        return
    counts = dict(report.user_properties)
    entry = {
        "test": _name(report.nodeid),
        "outcome": _outcome(report),
        "predictions": counts.get("predictions", 0),
        "optimized": counts.get("optimized", 0),
        "left": counts.get("left", 0),
        "seconds": round(report.duration, 3),
        "why": _why(report),
    }
    _write(entry)


def _write(entry):
    """Reports are seen in every process; only the one that has no controller above it writes."""
    path = os.environ.get("MILWRIGHT_RESULTS")
    if not path or "PYTEST_XDIST_WORKER" in os.environ:
        return
    with open(path, "a", encoding="utf-8") as file:
        file.write(json.dumps(entry) + "\n")


def _outcome(report):
    expected = getattr(report, "wasxfail", None)
    if expected is not None:
        if expected == "fp16 data":
            return "half"
        known = "known difference: " in expected
        return ("known" if known else "xfailed") if report.outcome == "skipped" else "xpassed"
    if report.outcome == "failed" and report.when != "call":
        return "error"
    return report.outcome


def _why(report):
    if getattr(report, "wasxfail", None):
        return report.wasxfail
    if report.outcome == "skipped" and isinstance(report.longrepr, tuple):
        return report.longrepr[2].removeprefix("Skipped: ")
    if report.outcome == "failed":
        crash = getattr(report.longrepr, "reprcrash", None)
        text = crash.message if crash else str(report.longrepr)[-2000:]
        return text[:2000]
    return ""
