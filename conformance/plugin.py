"""The pytest plugin of `run.py`: chooses cases, counts predictions, marks known differences, writes results.

It is configured through the environment, since worker processes inherit that:

    MILWRIGHT_PRECISION   only cases of this precision, where a case has one
    MILWRIGHT_SAMPLE      so many cases of each test function, chosen by MILWRIGHT_SEED
    MILWRIGHT_KNOWN       a JSON file: known differences, test to reason
    MILWRIGHT_RESULTS     where each test's outcome goes, a line of JSON each
"""

import collections
import json
import os
import random
import re

import pytest

import milwright.coremltools  # noqa: F401  (before coremltools, which the tests import)

_predictions = 0


def pytest_configure(config):
    from coremltools import libcoremlpython as native

    predict = native._MLModelProxy.predict

    def counted(self, *args, **kwargs):
        global _predictions
        _predictions += 1
        return predict(self, *args, **kwargs)

    native._MLModelProxy.predict = counted


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
        return {test: entry["reason"] for test, entry in json.load(file).items()}


def _name(nodeid):
    """The test's place in coremltools: its id as seen from wherever pytest was started has more or less before it."""
    return nodeid.split("site-packages/")[-1].split("coremltools/")[-1]


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item, nextitem):
    global _predictions
    _predictions = 0
    return (yield)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item, call):
    report = yield
    report.user_properties.append(("predictions", _predictions))
    return report


def pytest_runtest_logreport(report):
    """Runs in every process; only the one that has no controller above it writes."""
    path = os.environ.get("MILWRIGHT_RESULTS")
    if not path or "PYTEST_XDIST_WORKER" in os.environ:
        return
    if report.when != "call" and report.outcome == "passed":
        return
    entry = {
        "test": _name(report.nodeid),
        "outcome": _outcome(report),
        "predictions": dict(report.user_properties).get("predictions", 0),
        "seconds": round(report.duration, 3),
        "why": _why(report),
    }
    with open(path, "a", encoding="utf-8") as file:
        file.write(json.dumps(entry) + "\n")


def _outcome(report):
    expected = getattr(report, "wasxfail", None)
    if expected is not None:
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
