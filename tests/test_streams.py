"""Tasks carried to an engine: told of one whose processes are scripts, played in this process."""

import itertools
import time
from dataclasses import dataclass, field

import pytest

from xbench import streams
from xbench.events import Fatal, JobDone, JobStarted, TaskDone, WorkOptions
from xbench.plan import Job, Unit
from xbench.stopping import Stoppable
from xbench.streams import Lost, Streams
from xbench.wire import Alive

FIRST, SECOND, THIRD = KEYS = tuple(letter * 64 for letter in "abc")
HANGS = object()


def unit(part=0):
    names = ("model", "data", "seed", "shape", "classes", "labels", "model_fit", "data_root", "oracle_fit")
    words = dict.fromkeys(("data_digest", "samples_digest", "target"), "")
    jobs = tuple(Job(key, None, None, ()) for key in KEYS)
    return Unit(part=part, ids=("x", "y"), jobs=jobs, **dict.fromkeys(names), **words)


def keys(task):
    return tuple(job.key for job in task.jobs)


def done(task):
    """Yield what a worker tells of a task that goes well."""
    yield Alive()
    for job in task.jobs:
        yield JobStarted(job.key, task.part)
        yield JobDone(job.key, task.part, len(task.ids))
    yield TaskDone()


@dataclass
class Played:
    """An engine of as many machines as it is told, one after another: its processes do what a script says of a task."""

    script: object
    rooms: list = field(default_factory=lambda: [1])
    given: list = field(default_factory=list)
    logs: list = field(default_factory=list)
    ended: list = field(default_factory=list)
    most: int = 0
    until: float = field(default_factory=lambda: time.monotonic() + 15)
    _alive: dict = field(default_factory=dict)
    _names: object = field(default_factory=itertools.count)

    def room(self):
        return self.rooms.pop(0) if len(self.rooms) > 1 else self.rooms[0]

    def submit(self, task, log):
        name = next(self._names)
        self._alive[name] = [iter(self.script(task)), None]
        self.given.append(task)
        self.logs.append(log.name)
        self.most = max(self.most, len(self._alive))
        return name

    def wait(self, names, seconds):
        assert set(names) == set(self._alive)
        assert time.monotonic() < self.until, "for ever"
        ready = []
        for name in names:
            tells = self._alive[name]
            if tells[1] is None:
                tells[1] = next(tells[0], "end")
            if tells[1] is not HANGS:
                ready.append(name)
        if not ready:
            time.sleep(seconds)
        return ready

    def hear(self, name):
        event, self._alive[name][1] = self._alive[name][1], None
        if event == "end" or isinstance(event, Lost):
            del self._alive[name]
        if isinstance(event, Lost):
            raise event
        return None if event == "end" else event

    def cancel(self, name):
        self.ended.append(name)
        del self._alive[name]


def play(tmp_path, script, tasks, rooms=(1,), **options):
    engine = Played(script, list(rooms))
    led = Streams(engine, WorkOptions(tmp_path, **options))
    return engine, led, list(led.run(tasks))


def ends(events):
    return [(event.key, event.part, event.status) for event in events if isinstance(event, JobDone)]


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    monkeypatch.setattr(streams, "_START_SECONDS", 0.3)
    monkeypatch.setattr(streams, "_WAIT_SECONDS", 0.02)


def test_every_job_is_done_once_with_no_more_tasks_than_there_is_room_for(tmp_path):
    engine, led, events = play(tmp_path, done, [unit(part) for part in range(7)], [3])
    assert sorted(ends(events)) == [(key, part, "ok") for key in KEYS for part in range(7)]
    assert (engine.most, led.workers, len(engine.given)) == (3, 3, 7)
    assert set(engine.logs) == {"worker-0.log", "worker-1.log", "worker-2.log"}
    assert not any(isinstance(event, Alive) for event in events)


def test_room_that_comes_is_used(tmp_path, monkeypatch):
    monkeypatch.setattr(streams, "_LOOK_SECONDS", -1.0)
    engine, led, _ = play(tmp_path, done, [unit(part) for part in range(7)], [1, 1, 4])
    assert (engine.most, led.workers) == (4, 4)


def test_no_machine_left_ends_the_run(tmp_path, monkeypatch):
    monkeypatch.setattr(streams, "_LOOK_SECONDS", -1.0)
    _, _, events = play(tmp_path, lambda task: [HANGS], [unit()], [1, 0])
    assert [type(event) for event in events] == [Fatal]
    assert "no machine is left" in events[0].text


def test_a_job_beyond_its_budget_is_ended_and_recorded_and_the_rest_goes_on(tmp_path):
    def script(task):
        for event in done(task):
            yield event
            if event == JobStarted(SECOND, 0):
                while True:
                    yield HANGS

    engine, _, events = play(tmp_path, script, [unit()], budget=0.2)
    assert ends(events) == [(FIRST, 0, "ok"), (SECOND, 0, "timeout"), (THIRD, 0, "ok")]
    assert engine.ended == [0]
    assert keys(engine.given[1]) == (THIRD,)


@pytest.mark.parametrize(
    ("machine", "times", "reason"),
    [
        (False, 2, r"ended its process twice (WorkerCrashedError; see "),
        (True, 4, r"ended its process again and again (its machine was lost)"),
    ],
)
def test_a_lost_process_costs_the_job_it_was_at(tmp_path, machine, times, reason):
    def script(task):
        for event in done(task):
            yield event
            if event == JobStarted(SECOND, 0):
                yield Lost("WorkerCrashedError", "signal 11", machine)

    engine, _, events = play(tmp_path, script, [unit()])
    assert ends(events) == [(FIRST, 0, "ok"), (SECOND, 0, "crashed"), (THIRD, 0, "ok")]
    (told,) = [event.reason for event in events if isinstance(event, JobDone) and event.reason]
    assert told.startswith(reason)
    assert [keys(task) for task in engine.given] == [KEYS, *[(SECOND, THIRD)] * (times - 1), (THIRD,)]


def test_a_process_that_tells_nothing_any_more_is_ended_and_its_task_tried_elsewhere(tmp_path):
    silent = []

    def script(task):
        yield Alive()
        yield JobStarted(FIRST, task.part)
        yield JobDone(FIRST, task.part, 2)
        while not silent or silent[0] is task:  # between two jobs there is no budget
            silent[:] = [task]
            yield HANGS
        yield from (event for event in done(task) if getattr(event, "key", "") != FIRST)

    engine, _, events = play(tmp_path, script, [unit()], silence=0.2)
    assert engine.ended == [0]
    assert sorted(set(ends(events))) == [(key, 0, "ok") for key in KEYS]


def test_a_process_that_says_it_runs_is_waited_for(tmp_path):
    def script(task):
        for _ in range(30):
            time.sleep(0.02)
            yield Alive()
        yield from done(task)

    engine, _, events = play(tmp_path, script, [unit()], silence=0.1)
    assert engine.ended == []
    assert len(ends(events)) == 3


def test_where_nobody_ever_tells_anything_the_run_ends(tmp_path):
    engine, led, events = play(tmp_path, lambda task: itertools.repeat(HANGS), [unit(), unit(1)], [2], silence=0.1)
    assert [type(event) for event in events] == [Fatal]
    assert "no worker has given a sign of life for 0.3 s" in events[0].text
    led.close()
    assert engine.ended == [0, 1]


def test_a_fatal_event_ends_the_run(tmp_path):
    engine, led, events = play(tmp_path, lambda task: [Fatal("no cache"), HANGS], [unit(), unit(1)])
    assert events == [Fatal("no cache")]
    led.close()
    assert engine.ended == [0]


def test_stopping_at_once_ends_what_is_in_flight(tmp_path):
    engine = Played(done, [2])
    led = Streams(engine, WorkOptions(tmp_path))
    events = led.run([unit(), unit(1), unit(2)])
    next(events)
    led.close()
    assert sorted(engine.ended) == [0, 1]
    assert len(engine.given) == 2


def test_a_request_to_stop_lets_tasks_in_flight_finish(tmp_path):
    asked, ended = [], []
    tasks = Stoppable([unit(part) for part in range(5)], lambda: bool(asked), lambda event: None)
    engine = Played(done, [2])
    for event in Streams(engine, WorkOptions(tmp_path)).run(tasks):
        asked.append(True)
        ended.append(event)
    assert len(engine.given) == 2
    assert len(ends(ended)) == 6
    assert engine.ended == []
