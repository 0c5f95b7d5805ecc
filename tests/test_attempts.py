"""What the loss of a process costs: told of flights that take off, crash, overrun and are given back."""

from types import SimpleNamespace

import pytest

from xbench.attempts import Attempts, Flight
from xbench.events import FitDone, JobDone, JobStarted, WorkOptions
from xbench.fit_tasks import FitTask
from xbench.plan import Job, Unit
from xbench.store import Store

KEYS = tuple(letter * 64 for letter in "abc")


def unit(part=0, keys=KEYS):
    rest = dict.fromkeys(("model_fit", "data_root", "oracle_fit"))
    jobs = tuple(Job(key, None, None, ()) for key in keys)
    words = dict.fromkeys(("data_digest", "samples_digest", "target"), "")
    named = SimpleNamespace(text="m")
    return Unit(
        model=named, data=named, seed=0, shape=(1, 2, 2), classes=(), part=part, ids=("x", "y"), labels=(0, 1),
        jobs=jobs, **rest, **words,
    )  # fmt: skip


def fit():
    named = SimpleNamespace(text="m")
    return FitTask(KEYS[0], {}, named, 0, named, None, (1, 2, 2), ())


@pytest.fixture
def attempts(tmp_path):
    return Attempts(WorkOptions(tmp_path, budget=7))


def keys(task):
    return tuple(job.key for job in task.jobs)


def take(attempts):
    return Flight(task=attempts.next())


def test_a_job_is_tried_twice_then_recorded_and_the_rest_goes_on(attempts, tmp_path):
    attempts.begin([unit()])
    first = take(attempts)
    attempts.heard(first, JobStarted(KEYS[0], 0))
    attempts.heard(first, JobDone(KEYS[0], 0, 2))
    attempts.heard(first, JobStarted(KEYS[1], 0))
    assert list(attempts.crashed(first, "signal 9")) == []
    second = take(attempts)
    assert keys(second.task) == KEYS[1:]
    attempts.heard(second, JobStarted(KEYS[1], 0))
    assert list(attempts.crashed(second, "signal 9")) == [
        JobDone(KEYS[1], 0, 2, "crashed", "ended its process twice (signal 9)")
    ]
    assert Store(tmp_path).failure(KEYS[1]) == ("crashed", "ended its process twice (signal 9)")
    third = take(attempts)
    assert keys(third.task) == KEYS[2:]
    attempts.heard(third, JobDone(KEYS[2], 0, 2))
    assert third.task is None
    assert attempts.next() is None


def test_what_failed_once_is_left_out_of_later_slices(attempts):
    attempts.begin([unit(0), unit(1), unit(2, KEYS[:1])])
    flight = take(attempts)
    attempts.heard(flight, JobDone(KEYS[0], 0, 2, "error", "no idea"))
    assert keys(attempts.next()) == KEYS[1:]
    assert attempts.next() is None


def test_where_no_job_had_begun_all_of_a_unit_is_set_aside(attempts):
    attempts.begin([unit(), unit(1)])
    for _ in range(2):
        events = list(attempts.crashed(take(attempts), "exit code 1"))
    assert [(event.key, event.status) for event in events] == [(key, "crashed") for key in KEYS]
    assert attempts.next() is None


def test_a_training_is_tried_twice(attempts):
    attempts.begin([fit()])
    assert list(attempts.crashed(take(attempts), "signal 9")) == []
    assert list(attempts.crashed(take(attempts), "signal 9")) == [
        FitDone(KEYS[0], problem="ended its process twice (signal 9)")
    ]
    assert attempts.next() is None


def test_a_finished_training_is_not_given_out_again_when_its_process_is_lost(attempts):
    attempts.begin([fit()])
    flight = take(attempts)
    attempts.heard(flight, FitDone(KEYS[0], 1.0))
    assert list(attempts.crashed(flight, "signal 9")) == []
    assert attempts.next() is None


def test_a_lost_machine_weighs_less_than_a_crash(attempts):
    attempts.begin([unit(keys=KEYS[:1])])
    told = []
    for _ in range(4):
        flight = take(attempts)
        attempts.heard(flight, JobStarted(KEYS[0], 0))
        told.append([event.reason for event in attempts.crashed(flight, "its machine was lost", weight=0.5)])
    assert told == [[], [], [], ["ended its process again and again (its machine was lost)"]]


def test_an_overdue_job_is_recorded_and_the_rest_given_back(attempts, tmp_path):
    attempts.begin([unit()])
    flight = take(attempts)
    assert flight.deadline == float("inf")
    attempts.heard(flight, JobStarted(KEYS[0], 0))
    assert flight.deadline < float("inf")
    (event,) = attempts.overdue(flight)
    assert (event.status, event.n) == ("timeout", 2)
    assert "budget of 7 s" in event.reason
    assert Store(tmp_path).failure(KEYS[0])[0] == "timeout"
    assert flight == Flight()
    assert keys(attempts.next()) == KEYS[1:]


def test_what_was_lost_goes_first(attempts):
    attempts.begin([unit(0), unit(1)])
    attempts.give_back(take(attempts))
    assert attempts.next().part == 0
