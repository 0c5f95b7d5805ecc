"""The local executor against workers that freeze, vanish, talk without end, or spoil the pipes between them."""

import os
import queue
import signal
import subprocess
import sys
import time

import pytest

from xbench import api, wire
from xbench.attempts import Attempts
from xbench.config import make_config
from xbench.errors import CannotWrite, XbenchError
from xbench.events import Fatal, JobDone, JobStarted, Note, Ready, TaskDone, WorkOptions
from xbench.executors import local
from xbench.executors import process as processes
from xbench.executors.local import LocalExecutor
from xbench.executors.process import WorkerProcess, start
from xbench.plan import make_plan, units
from xbench.plugins import discover
from xbench.stopping import Stoppable
from xbench.store import Store

pytestmark = [pytest.mark.usefixtures("fakes"), pytest.mark.skipif(os.name != "posix", reason="sends signals")]


def options(folder, **settings):
    return WorkOptions(folder.absolute(), device="cpu", **settings)


def some_units(folder, explainers="fake/weights", limit="limit=none"):
    """Return the units of a run whose cells are defined in the folder."""
    plan = make_plan(make_config(["suite=blobs", f"explainer={explainers}", limit, f"out={folder}"], discover()))
    store = Store(folder)
    for cell in plan.cells:
        store.define(cell.key, cell.definition)
    return list(units(plan, store))


def statuses(run):
    return {row.explainer: (row.status, row.reason) for row in run.rows if row.metric == "deletion"}


def means(run):
    return {row.explainer: row.mean for row in run.rows if row.metric == "deletion"}


@pytest.fixture
def fake_worker(tmp_path):
    """Return what makes a worker that does nothing; all are killed in the end."""
    made = []

    def make(number=0, **settings):
        child = subprocess.Popen(["sleep", "60"], start_new_session=True)
        made.append(WorkerProcess(number=number, process=child, log=tmp_path / "log", ready=True, **settings))
        return made[-1]

    yield make
    for process in made:
        process.kill()


@pytest.mark.slow
def test_what_spoils_the_pipes_costs_its_own_cell_only(tmp_path):
    names = ["prints", "closes", "closes_all", "vanishes", "complains_at_length", "comes_back", "weights"]
    explainers = ",".join(f"fake/{name}" for name in names)
    run = api.run("blobs", out=tmp_path / "run", device="cpu", explainer=explainers, limit=20)
    told = statuses(run)
    assert told["fake/vanishes"][0] == "crashed"
    assert "killed by signal 9, as the system does where memory runs out" in told["fake/vanishes"][1]
    assert told["fake/complains_at_length"][0] == "error"
    assert len(told["fake/complains_at_length"][1]) < 3000
    assert max(path.stat().st_size for path in (tmp_path / "run").rglob("status.json")) < 100_000
    # Whoever closes the pipe that its end is told by has committed before: the next worker finds that.
    for name in ("prints", "closes", "closes_all", "comes_back", "weights"):
        assert told[f"fake/{name}"][0] == "ok", told
        assert means(run)[f"fake/{name}"] == means(run)["fake/weights"]


def test_a_gpu_that_breaks_down_costs_one_cell_and_its_process(tmp_path):
    names = "fake/breaks_the_gpu,fake/weights"
    run = api.run("blobs", out=tmp_path / "run", device="cpu", explainer=names, limit=20, workers=1)
    told = statuses(run)
    assert told["fake/breaks_the_gpu"] == ("error", "IndexError: index out of bounds")
    assert told["fake/weights"][0] == "ok"
    assert "only another process can use it again" in (tmp_path / "run" / "logs" / "worker-0.log").read_text()


@pytest.mark.slow
def test_a_worker_that_is_stopped_in_a_job_is_replaced_and_nothing_is_lost(tmp_path, monkeypatch):
    monkeypatch.setenv("FAKE_ONCE", str(tmp_path / "once"))
    names = "fake/freezes,fake/weights"
    run = api.run("blobs", out=tmp_path / "run", device="cpu", explainer=names, limit=20, silence=4)
    assert (tmp_path / "once").exists()
    assert run.failures == []
    assert means(run)["fake/freezes"] == means(run)["fake/weights"]


@pytest.mark.slow
def test_a_worker_that_is_stopped_while_it_starts_is_replaced(tmp_path, monkeypatch):
    stopped = []

    def start_and_stop(number, settings, inbox):
        process = start(number, settings, inbox)
        if not stopped:
            os.kill(process.process.pid, signal.SIGSTOP)
            stopped.append(process)
        return process

    monkeypatch.setattr(local, "start", start_and_stop)
    monkeypatch.setattr(local, "_START_SECONDS", 5.0)
    todo = some_units(tmp_path, limit="limit=10")
    executor = LocalExecutor(options(tmp_path, silence=4))
    try:
        done = [event for event in executor.run(todo) if isinstance(event, JobDone)]
    finally:
        executor.close()
    assert [event.status for event in done] == ["ok"] * sum(len(unit.jobs) for unit in todo)
    assert stopped[0].process.returncode == -signal.SIGKILL


def test_a_silent_worker_is_killed_and_its_task_tried_again_then_set_aside(tmp_path, fake_worker):
    unit, *_ = some_units(tmp_path)
    executor = LocalExecutor(options(tmp_path, silence=30))
    told = []
    for _ in range(2):
        process = fake_worker(task=unit, busy=True)
        executor._processes = [process]
        list(executor._heard(process, JobStarted(unit.jobs[1].key, 0)))
        assert list(executor._look(time.monotonic() + 29)) == []
        told += executor._look(time.monotonic() + 31)
        assert process.process.returncode == -signal.SIGKILL
        unit = executor._attempts.next()
    assert [type(event) for event in told] == [Note, Note, JobDone]
    assert told[0].text.startswith("worker 0 is replaced: killed after 30 s without a sign of life")
    assert told[2].status == "crashed"
    assert "without a sign of life; silence=SECONDS waits longer" in told[2].reason
    assert told[2].key not in [job.key for job in unit.jobs]


def test_a_worker_has_its_time_to_load_torch_however_little_silence_is_borne(tmp_path, fake_worker):
    unit, *_ = some_units(tmp_path)
    executor = LocalExecutor(options(tmp_path, silence=2))
    process = fake_worker(task=unit, busy=True)
    process.ready = False
    executor._processes = [process]
    assert list(executor._look(time.monotonic() + 59)) == []
    assert [type(event) for event in executor._look(time.monotonic() + 61)] == [Note]


def test_a_parent_that_was_stopped_itself_blames_no_worker(tmp_path, fake_worker, monkeypatch):
    """The clock jumps between two looks; what the worker had said meanwhile is still in the pipe."""
    unit, *_ = some_units(tmp_path)
    executor = LocalExecutor(options(tmp_path, silence=30, budget=30))
    process = fake_worker()
    executor._processes = [process]
    monkeypatch.setattr(WorkerProcess, "send", lambda *_: None)
    real, ahead = time.monotonic, [0.0]
    monkeypatch.setattr(local.time, "monotonic", lambda: real() + ahead[0])
    executor._inbox.put((process, JobStarted(unit.jobs[0].key, 0)))
    executor._inbox.put((process, Note("later")))
    found = []
    for event in executor.run([unit]):
        found.append(event)
        if isinstance(event, JobStarted):
            ahead[0] = 1000.0
        elif isinstance(event, Note):
            executor._inbox.put((process, JobDone(unit.jobs[0].key, 0, 64)))
        elif isinstance(event, JobDone) and event.key == unit.jobs[0].key:
            assert event.status == "ok"
            for job in unit.jobs[1:]:
                executor._inbox.put((process, JobDone(job.key, 0, 64)))
            executor._inbox.put((process, TaskDone()))
    assert {event.status for event in found if isinstance(event, JobDone)} == {"ok"}


def test_endless_talk_of_one_worker_does_not_hide_that_another_overruns_its_budget(tmp_path, fake_worker):
    first, second, *_ = some_units(tmp_path)
    executor = LocalExecutor(options(tmp_path, workers=2, budget=1))
    talker, hanging = fake_worker(0, task=first, busy=True), fake_worker(1, task=second, busy=True)
    executor._processes = [talker, hanging]
    executor._inbox.put((hanging, JobStarted(second.jobs[0].key, second.part)))
    executor._inbox.put((talker, Note("0")))
    start = time.monotonic()
    for event in executor.run([]):
        if isinstance(event, Note):
            executor._inbox.put((talker, Note("more")))
        if isinstance(event, JobDone):
            break
        assert time.monotonic() - start < 20
    assert (event.status, event.key) == ("timeout", second.jobs[0].key)
    executor.close()


def test_a_task_larger_than_a_pipe_does_not_wait_for_a_stopped_worker(tmp_path):
    process = start(0, options(tmp_path), queue.Queue())
    try:
        os.kill(process.process.pid, signal.SIGSTOP)
        before = time.monotonic()
        process.send(b"x" * 10_000_000)
        assert time.monotonic() - before < 5
    finally:
        process.kill()


@pytest.mark.skipif(sys.platform != "linux", reason="asks the kernel of Linux")
def test_a_stopped_worker_ends_with_its_parent_and_so_does_what_it_started(tmp_path):
    """It may hold the lock of a training, for which the next run would wait."""
    script = (
        "import os, pathlib, queue, signal, sys, time\n"
        "from xbench.events import WorkOptions\n"
        "from xbench.executors.process import start\n"
        f"process = start(0, WorkOptions(pathlib.Path({str(tmp_path)!r}), device='cpu'), queue.Queue())\n"
        "print(process.process.pid, flush=True)\n"
        "time.sleep(60)\n"
    )
    parent = subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True)
    worker = int(parent.stdout.readline())
    deadline = time.monotonic() + 20
    while threads(worker) < 3 and time.monotonic() < deadline:  # it has been bound and reads
        time.sleep(0.02)
    os.kill(worker, signal.SIGSTOP)
    parent.kill()
    parent.wait()
    deadline = time.monotonic() + 20
    while alive(worker) and time.monotonic() < deadline:
        time.sleep(0.05)
    ended = not alive(worker)
    if not ended:
        os.kill(worker, signal.SIGKILL)
    assert ended


def threads(pid):
    return len(os.listdir(f"/proc/{pid}/task"))


def alive(pid):
    try:
        return "Z" not in open(f"/proc/{pid}/stat").read().rpartition(")")[2].split()[0]
    except OSError:
        return False


def test_a_log_that_cannot_be_written_is_one_line(tmp_path):
    (tmp_path / "logs" / "worker-0.log").mkdir(parents=True)
    with pytest.raises(CannotWrite, match=r"cannot write .*worker-0.log: Is a directory"):
        start(0, options(tmp_path), queue.Queue())


def test_a_system_without_room_for_a_worker_is_one_line(tmp_path, monkeypatch):
    def refuse(*arguments, **settings):
        raise BlockingIOError(11, "Resource temporarily unavailable")

    monkeypatch.setattr(processes.subprocess, "Popen", refuse)
    with pytest.raises(XbenchError, match="cannot start worker 0: Resource temporarily unavailable"):
        start(0, options(tmp_path), queue.Queue())


def test_a_worker_that_cannot_begin_ends_the_run_with_the_last_line_of_its_log(tmp_path, monkeypatch):
    (tmp_path / "torch").mkdir()
    (tmp_path / "torch" / "__init__.py").write_text("raise ImportError('libcudart.so.13 is not there')")
    todo = some_units(tmp_path, limit="limit=10")
    monkeypatch.syspath_prepend(str(tmp_path))
    executor = LocalExecutor(options(tmp_path))
    *others, last = executor.run(todo)
    assert {type(event) for event in others} <= {Note}
    assert isinstance(last, Fatal)
    assert last.text.startswith("a worker ended twice before its first task (exit code 1); see ")
    assert last.text.endswith("ImportError: libcudart.so.13 is not there")
    assert executor._processes == []


def test_more_workers_than_units_start_no_more_than_are_needed(tmp_path):
    todo = some_units(tmp_path, limit="limit=10")
    todo = todo[:2]
    executor = LocalExecutor(options(tmp_path, workers=50))
    try:
        events = list(executor.run(todo))
    finally:
        executor.close()
    assert sum(isinstance(event, Ready) for event in events) <= len(todo)
    assert all(event.seconds > 0 for event in events if isinstance(event, TaskDone))


def test_what_a_lost_worker_left_is_not_begun_again_where_the_run_is_to_stop(tmp_path, fake_worker):
    unit, *_ = some_units(tmp_path)
    asked = []
    attempts = Attempts(options(tmp_path))
    attempts.begin(Stoppable([unit, unit], lambda: bool(asked), lambda event: None))
    process = fake_worker(task=attempts.next(), busy=True)
    attempts.give_back(process)
    assert attempts.next() == unit
    attempts.give_back(fake_worker(task=unit))
    asked.append(1)
    assert attempts.next() is None


def test_garbage_in_the_pipe_is_no_message():
    import io

    with pytest.raises(ValueError, match="something else has written into the pipe"):
        wire.receive(io.BytesIO(b"\xff" * 16))
    assert wire.receive(io.BytesIO(wire.pack(Ready("cpu")))) == Ready("cpu")
    assert wire.receive(io.BytesIO(wire.pack(Ready("cpu"))[:-1])) is None


def test_a_unit_gets_a_workers_share_of_the_cores_or_what_was_asked_and_a_training_all(
    tmp_path, monkeypatch, fake_worker
):
    """The number of threads decides how a training's sums are rounded: its weights must not depend on the workers."""
    monkeypatch.setattr(local.os, "sched_getaffinity", lambda pid: range(12), raising=False)
    plan = make_plan(make_config(["suite=blobs", "model=fake/learnt", f"out={tmp_path}"], discover()))
    unit, *_ = some_units(tmp_path)
    sent = []
    monkeypatch.setattr(WorkerProcess, "send", lambda self, message: sent.append(message[1]))
    for workers, threads in ((1, None), (4, None), (20, None), (4, 2)):
        executor = LocalExecutor(options(tmp_path, workers=workers, threads=threads))
        executor._processes = [fake_worker(), fake_worker(1)]
        executor._give(unit)
        executor._give(plan.fits[0])
    assert sent == [12, 12, 3, 12, 1, 12, 2, 12]
