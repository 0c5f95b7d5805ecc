"""What runs in another system's process: told of a worker that does as a test says."""

import itertools
import os
import threading
import time
from types import SimpleNamespace

import pytest

from xbench import serving
from xbench.errors import Broken, XbenchError
from xbench.events import Fatal, FitDone, JobDone, JobStarted, TaskDone, WorkOptions
from xbench.serving import Post, serve
from xbench.wire import Alive

KEY = "a" * 64


@pytest.fixture
def told(tmp_path, monkeypatch):
    """Return what is told of a task that a function carries out."""

    def serving_of(work, threads=1, silence=300.0):
        monkeypatch.setattr(
            serving, "_worker", lambda post, tell, log: SimpleNamespace(run=lambda *a: work(tell, *a), rest=int)
        )
        return serve(Post(WorkOptions(tmp_path, silence=silence), "", ""), None, threads, tmp_path / "log")

    return serving_of


def test_the_worker_goes_on_only_when_it_is_known_what_it_begins(told):
    done = []

    def work(tell, task, threads):
        tell(JobStarted(KEY, 0))
        done.append(threads)
        tell(JobDone(KEY, 0, 2))

    events = told(work, threads=3)
    assert next(events) == Alive()
    assert next(events) == JobStarted(KEY, 0)
    assert serving._hand._work_queue.empty()
    assert done == []
    assert next(events) == JobDone(KEY, 0, 2)
    assert done == [3]
    assert [type(event) for event in events] == [TaskDone]


def test_a_worker_with_nothing_else_to_tell_tells_that_it_runs(told):
    go = threading.Event()
    events = told(lambda *words: go.wait(5), silence=0.05)
    assert list(itertools.islice(events, 4)) == [Alive()] * 4
    go.set()
    assert [type(event) for event in events if event != Alive()] == [TaskDone]


@pytest.mark.parametrize(
    ("given", "wish", "device"),
    [
        ("3", "cuda", "cuda:3"),
        ("0", "cpu", "cpu"),
        ("GPU-ab12", "cuda", "cuda"),
        ("0,1", "cuda", "cuda"),
        (None, "cuda", "cuda"),
    ],
)
def test_every_task_works_on_the_gpu_it_is_given(monkeypatch, given, wish, device):
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    if given:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", given)
    assert serving._device(wish) == device
    # CUDA reads it once: a process that is kept sees them all.
    assert ("CUDA_VISIBLE_DEVICES" in os.environ) == (given is not None and device != "cuda:3")


def test_a_process_whose_gpu_broke_down_ends(told, monkeypatch):
    def breaks(tell, *words):
        tell(FitDone(KEY, problem="IndexError"))
        raise Broken("cuda:0 failed")

    class Ended(Exception):
        pass

    heard, known = [], []

    def ends(code):
        known.extend(heard)
        raise Ended(code)

    def hear_slowly():
        for event in told(breaks):
            time.sleep(0.05)
            heard.append(event)

    monkeypatch.setattr(serving.os, "_exit", ends)
    with pytest.raises(Ended, match="1"):
        hear_slowly()
    assert FitDone(KEY, problem="IndexError") in known


def test_what_the_machine_cannot_do_is_fatal_and_what_breaks_is_raised(told, monkeypatch):
    def refuse(*words):
        raise XbenchError("no such device")

    def breaks(*words):
        raise RuntimeError("broken")

    assert list(told(refuse)) == [Alive(), Fatal("no such device")]
    monkeypatch.setitem(serving._kept, "post", "worker")
    with pytest.raises(RuntimeError, match="broken"):
        list(told(breaks))
    assert serving._kept == {}
