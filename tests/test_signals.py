"""Ctrl-C once, twice, and SIGTERM: what is committed stays, exit codes tell, and the same command ends in the same bytes."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from xbench.events import JobDone, UnitGiven
from xbench.signals import CtrlC, Terminated, terminating

pytestmark = pytest.mark.skipif(os.name != "posix", reason="sends signals")


def begin(out, *settings, begun=None, seconds="0"):
    """Start a run of three slices of a slow cell, a quick one and the classifier's."""
    command = [
        sys.executable,
        "-m",
        "xbench",
        "run",
        "-q",
        "suite=blobs",
        f"out={out}",
        "device=cpu",
        "limit=none",
        "workers=1",
    ]
    return subprocess.Popen(
        [*command, *settings],
        env={**os.environ, "FAKE_SECONDS": seconds, "FAKE_BEGUN": str(begun or "")},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        # A shell that runs the tests in its background has Ctrl-C ignored.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )


def wait_until(reached, process):
    deadline = time.monotonic() + 60
    while not reached() and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.01)
    assert process.poll() is None, process.stderr.read()


def records(out):
    """Return every committed file that is compared: all but costs."""
    found = (path for path in (Path(out) / "records").rglob("*") if path.is_file() and ".cost" not in path.name)
    return {str(path.relative_to(out)): path.read_bytes() for path in found}


def slices(out):
    return sum(name.endswith(".safetensors") for name in records(out))


@pytest.mark.slow
@pytest.mark.usefixtures("fakes")
@pytest.mark.parametrize("executor", ["local", "inline"])
def test_a_run_that_is_stopped_in_every_way_ends_in_the_same_bytes(tmp_path, executor):
    settings = ("explainer=fake/slow,controls/random", f"executor={executor}")
    whole = begin(tmp_path / "whole", *settings)
    assert whole.wait(timeout=120) == 0, whole.stderr.read()
    assert slices(tmp_path / "whole") == 9
    out = tmp_path / "stopped"

    def stopped(name, seconds, *signals):
        begun = tmp_path / name
        process = begin(out, *settings, begun=begun, seconds=seconds)
        wait_until(begun.exists, process)
        for number in signals:
            process.send_signal(number)
            time.sleep(0.5)
        code = process.wait(timeout=30)
        assert not (out / "leaderboard").exists()
        return code, process.stderr.read().splitlines(), slices(out)

    last = "xbench: stopped; what was committed stays, run the same command again to go on"
    first = "finishing 2 slices in flight; Ctrl-C again stops at once"
    assert stopped("terminated", "60", signal.SIGTERM) == (143, [last], 1)
    assert stopped("once", "2", signal.SIGINT) == (130, [first, last], 3)
    if executor == "inline":  # it tells of the classifier's slice when its unit has ended
        first = first.replace("2", "3")
    assert stopped("twice", "60", signal.SIGINT, signal.SIGINT) == (130, [first, last], 4)

    again = begin(out, *settings)
    assert again.wait(timeout=120) == 0, again.stderr.read()
    assert records(out) == records(tmp_path / "whole")


@pytest.mark.slow
@pytest.mark.usefixtures("fakes")
def test_one_ctrl_c_ends_a_training_at_once(tmp_path):
    process = begin(tmp_path / "run", "model=fake/learnt[epochs=50,pause=1]", "explainer=controls/random")
    wait_until(lambda: any((tmp_path / "cache").rglob("lock")), process)
    process.send_signal(signal.SIGINT)
    assert process.wait(timeout=20) == 130
    assert len(process.stderr.read().splitlines()) == 1


@pytest.fixture
def ctrl_c():
    """Return what answers Ctrl-C, and the lines it says."""
    said, before = [], signal.signal(signal.SIGINT, signal.default_int_handler)
    with CtrlC(said.append) as answer:
        yield answer, said
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    signal.signal(signal.SIGINT, before)


def test_ctrl_c_before_any_unit_is_given_out_ends_at_once(ctrl_c):
    answer, _ = ctrl_c
    with pytest.raises(KeyboardInterrupt):
        signal.raise_signal(signal.SIGINT)
    assert not answer()


def test_ctrl_c_counts_what_it_waits_for(ctrl_c):
    answer, said = ctrl_c
    for part in range(2):
        answer.hear(UnitGiven(("a", "b", "c"), part))
    answer.hear(JobDone("a", 0, 10))
    answer.hear(JobDone("b", 0, 10, "error", "broken"))  # and so its other slice is not tried
    signal.raise_signal(signal.SIGINT)
    assert answer()
    deadline = time.monotonic() + 10
    while not said and time.monotonic() < deadline:
        time.sleep(0.01)
    assert said == ["finishing 3 slices in flight; Ctrl-C again stops at once"]
    with pytest.raises(KeyboardInterrupt):
        signal.raise_signal(signal.SIGINT)


def test_ctrl_c_that_somebody_else_answers_stays_theirs():
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        with CtrlC(print):
            assert signal.getsignal(signal.SIGINT) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGINT, before)


@pytest.fixture
def default_sigterm():
    """Have nobody answer SIGTERM: Ray, in a test of this process, leaves an answer of its own."""
    before = signal.signal(signal.SIGTERM, signal.SIG_DFL)
    yield
    signal.signal(signal.SIGTERM, before)


def test_sigterm_ends_a_command_and_what_was_there_before_comes_back(default_sigterm):
    with pytest.raises(Terminated), terminating():
        signal.raise_signal(signal.SIGTERM)
    assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL
