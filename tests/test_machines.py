"""What fits on machines."""

import pytest

from xbench.errors import XbenchError
from xbench.machines import room, takes, takes_to_train

SMALL, LARGE, GPUS = {"CPU": 2.0}, {"CPU": 9.0, "memory": 1.0}, {"CPU": 4.0, "GPU": 8.0}


@pytest.mark.parametrize(
    ("machines", "needs", "fit"),
    [
        ([SMALL, LARGE], {"CPU": 1}, 11),
        ([SMALL, LARGE], {"CPU": 4}, 2),
        ([SMALL, GPUS], {"CPU": 1, "GPU": 1}, 4),
        ([GPUS], {"CPU": 5, "GPU": 1}, 0),
        ([], {"CPU": 1}, 0),
        ([{}], {"CPU": 1}, 0),
    ],
)
def test_each_worker_is_on_one_machine(machines, needs, fit):
    assert room(machines, needs) == fit


def test_a_gpu_is_taken_where_it_is_asked_for_or_there():
    assert takes("auto", 2, [SMALL]) == takes("cpu", 2, [GPUS]) == {"CPU": 2}
    assert takes("auto", 2, [SMALL, GPUS]) == takes("cuda", 2, [GPUS]) == {"CPU": 2, "GPU": 1}


@pytest.mark.parametrize(
    ("device", "threads", "told"),
    [("cuda", 1, r"takes 1 CPU and 1 GPU, and no .* \(machines: 2, CPU: 11, GPU: 0\)"), ("cpu", 10, "takes 10 CPU")],
)
def test_what_no_machine_has_is_told(device, threads, told):
    with pytest.raises(XbenchError, match=told):
        takes(device, threads, [SMALL, LARGE])


def test_a_training_takes_as_many_cores_whatever_machine_it_comes_to():
    assert takes_to_train([LARGE, SMALL], {"CPU": 1}) == {"CPU": 2}
    assert takes_to_train([LARGE, SMALL], {"CPU": 4}) == {"CPU": 9}
    assert takes_to_train([GPUS], {"CPU": 1, "GPU": 1}) == {"CPU": 1, "GPU": 1}
