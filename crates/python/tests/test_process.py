"""The wheel among Python's own: signals, forks, threads of the interpreter, pickles, exceptions."""

import copy
import errno
import os
import pickle
import signal
import subprocess
import sys
import textwrap
from pathlib import Path

import numpy as np
import pytest
import small_models

import milwright

EXAMPLES = Path(__file__).resolve().parents[3] / "examples"
DIGITS = EXAMPLES / "digits.mlpackage"
IMAGE = np.load(EXAMPLES / "digits_test_x.npy")[:1]
posix = pytest.mark.skipif(os.name != "posix", reason="a matter of POSIX: forks and signals")


def script(text, **options):
    """Runs a program beside this file."""
    program = f"import milwright, numpy as np, os, signal, sys, threading, time\nDIGITS = {str(DIGITS)!r}\n"
    command = [sys.executable, "-c", program + textwrap.dedent(text)]
    return subprocess.Popen(
        command, cwd=Path(__file__).parent, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, **options
    )


@posix
@pytest.mark.parametrize("threads", [1, 2, 4])
def test_a_forked_process_predicts_the_same(threads):
    model = milwright.Model(DIGITS, threads=threads)
    expected = model.predict({"image": IMAGE})
    child = os.fork()
    if child == 0:
        same = model.predict({"image": IMAGE}) == expected and model.predict({"image": IMAGE}) == expected
        grandchild = os.fork()
        if grandchild == 0:
            os._exit(0 if model.predict({"image": IMAGE}) == expected else 1)
        os._exit(0 if same and os.waitpid(grandchild, 0)[1] == 0 else 1)
    assert os.waitpid(child, 0)[1] == 0
    assert model.predict({"image": IMAGE}) == expected


@posix
def test_a_process_forked_during_a_prediction_of_another_thread_predicts():
    run = script(
        """
        import small_models
        endless = milwright.Model.from_bytes(small_models.endless(), threads=2)
        thread = threading.Thread(target=lambda: endless.predict({"x": np.zeros(1)}), daemon=True)
        thread.start()
        time.sleep(0.2)
        child = os.fork()
        if child == 0:
            print(endless.predict({"x": np.full(1, 2)})["out"], flush=True)
            os._exit(0)
        os.waitpid(child, 0)
        os._exit(0)
        """
    )
    assert run.communicate(timeout=60)[0] == "[2.]\n"


@posix
def test_a_state_in_use_at_the_fork_is_an_error_not_a_hang():
    run = script(
        """
        import small_models
        endless = milwright.Model.from_bytes(small_models.endless())
        state = endless.make_state()
        threading.Thread(target=lambda: endless.predict({"x": np.zeros(1)}, state), daemon=True).start()
        time.sleep(0.2)
        child = os.fork()
        if child == 0:
            try:
                state.names
            except milwright.Error as e:
                print("in use" in str(e), flush=True)
            os._exit(0)
        os.waitpid(child, 0)
        os._exit(0)
        """
    )
    assert run.communicate(timeout=60)[0] == "True\n"


@posix
@pytest.mark.parametrize(
    "work",
    [
        'milwright.Model.from_bytes(small_models.endless()).predict({"x": np.zeros(1)})',
        # The second prediction of a model whose first was quick.
        'm = milwright.Model.from_bytes(small_models.endless()); m.predict({"x": np.ones(1)}); m.predict({"x": np.zeros(1)})',
        'open("m.mlmodel", "wb").write(small_models.endless()); milwright.compare("m.mlmodel", "m.mlmodel", inputs=[{"x": np.zeros(1)}])',
    ],
    ids=["predict", "second predict", "compare"],
)
def test_ctrl_c_ends_long_work(work, tmp_path):
    run = script(
        f"""
        import small_models
        os.chdir({str(tmp_path)!r})
        print("begun", flush=True)
        try:
            {work.replace("; ", chr(10) + " " * 12)}
        except KeyboardInterrupt:
            print("interrupted")
        """
    )
    assert run.stdout.readline() == "begun\n"
    import time

    time.sleep(1)
    run.send_signal(signal.SIGINT)
    assert run.communicate(timeout=60)[0] == "interrupted\n"


@posix
def test_a_handler_that_does_not_raise_lets_the_work_go_on():
    heard = []
    before = signal.signal(signal.SIGUSR1, lambda *_: heard.append(1))
    try:
        report = milwright.optimize(
            DIGITS,
            quantize="int8",
            progress=lambda *_: None if heard else os.kill(os.getpid(), signal.SIGUSR1),
        )
    finally:
        signal.signal(signal.SIGUSR1, before)
    assert heard and report["bytes_after"] < report["bytes_before"]


@pytest.mark.parametrize("exception", [ValueError, KeyboardInterrupt, SystemExit])
def test_what_progress_raises_ends_the_work(tmp_path, exception):
    def progress(*_):
        raise exception("enough")

    with pytest.raises(exception, match="enough"):
        milwright.optimize(DIGITS, tmp_path / "small.mlpackage", quantize="palette4", progress=progress)
    assert list(tmp_path.iterdir()) == []


def test_what_the_last_call_of_progress_raises_ends_the_work(tmp_path):
    calls = []
    milwright.optimize(DIGITS, quantize="int8", progress=lambda *at: calls.append(at))
    left = iter(calls[:-1])
    with pytest.raises(StopIteration):
        milwright.optimize(DIGITS, tmp_path / "small.mlpackage", quantize="int8", progress=lambda *_: next(left))
    assert list(tmp_path.iterdir()) == []


def test_progress_is_called_on_the_thread_of_the_caller():
    import threading

    seen = set()
    milwright.optimize(DIGITS, quantize="int8", progress=lambda *_: seen.add(threading.get_ident()))
    assert seen == {threading.get_ident()}


def test_a_missing_file_is_a_file_not_found_error(tmp_path):
    path = tmp_path / "missing.mlpackage"
    with pytest.raises(FileNotFoundError, match="missing.mlpackage") as raised:
        milwright.Model(path)
    assert isinstance(raised.value, milwright.Error) and raised.value.errno == errno.ENOENT
    assert raised.value.hint in str(raised.value)
    for work in (lambda: milwright.optimize(path), lambda: milwright.compare(DIGITS, path)):
        with pytest.raises(milwright.MissingFileError):
            work()


@pytest.mark.skipif(os.name != "posix" or os.geteuid() == 0, reason="root may read everything")
def test_a_forbidden_file_is_a_permission_error(tmp_path):
    path = tmp_path / "model.mlmodel"
    path.write_bytes(b"")
    path.chmod(0)
    with pytest.raises(PermissionError):
        milwright.Model(path)


def test_errors_survive_a_pickle(tmp_path):
    with pytest.raises(milwright.MissingFileError) as raised:
        milwright.Model(tmp_path / "missing.mlmodel")
    again = pickle.loads(pickle.dumps(raised.value))
    assert type(again) is milwright.MissingFileError and str(again) == str(raised.value)
    assert (again.kind, again.hint) == (raised.value.kind, raised.value.hint)


@pytest.mark.parametrize("again", [copy.copy, copy.deepcopy, lambda m: pickle.loads(pickle.dumps(m))])
def test_a_model_is_pickled_by_its_path_and_options(again, tmp_path, monkeypatch):
    monkeypatch.chdir(EXAMPLES)
    model = milwright.Model("digits.mlpackage", threads=1, cache=tmp_path, precision="wide")
    expected = model.predict({"image": IMAGE})
    monkeypatch.chdir(tmp_path)
    model = again(model)
    assert model.predict({"image": IMAGE}) == expected
    assert model.loaded["plan"] == "cached"


def test_a_model_of_bytes_says_that_it_cannot_be_pickled():
    model = milwright.Model.from_bytes(small_models.endless())
    with pytest.raises(TypeError, match="save it"):
        pickle.dumps(model)


def test_what_never_ends_is_ended_and_memory_has_a_limit(tmp_path):
    path = tmp_path / "endless.mlmodel"
    path.write_bytes(small_models.endless())
    zero = [{"x": np.zeros(1)}]
    with pytest.raises(milwright.DeadlineError):
        milwright.Model(path).predict(zero[0], timeout=0.5)
    with pytest.raises(milwright.DeadlineError):
        milwright.compare(path, path, inputs=zero, timeout=0.5)
    with pytest.raises(milwright.DeadlineError):
        milwright.optimize(path, tmp_path / "small.mlpackage", quantize="float16", inputs=zero, timeout=0.5)
    assert not (tmp_path / "small.mlpackage").exists()
    with pytest.raises(milwright.InputError, match="timeout"):
        milwright.compare(path, path, inputs=zero, timeout=-1)
    for work in (
        lambda: milwright.Model(DIGITS, memory_limit=100),
        lambda: milwright.compare(DIGITS, DIGITS, memory_limit=100),
        lambda: milwright.optimize(DIGITS, memory_limit=100),
    ):
        with pytest.raises(milwright.OutOfMemoryError, match="limit is 100 bytes|limit is 0.000 GB"):
            work()
