"""What a worker holds does not grow with the samples of a run, nor what a plan holds with the seeds of a pair."""

import os
import pickle
import subprocess
import sys

import pytest

from xbench.config import make_config
from xbench.plan import make_plan, units
from xbench.plugins import discover
from xbench.store import Store

pytestmark = pytest.mark.usefixtures("fakes")

# In a process of its own, as a worker is: it gets units and never sees the plan.
SCRIPT = """
import pickle, resource, sys
from xbench.events import WorkOptions
from xbench.work import Worker
options, units = pickle.load(open(sys.argv[1], "rb"))
worker = Worker(options, lambda event: None)
for unit in units:
    worker.run(unit)
unit = 1 if sys.platform == "darwin" else 1024
print(len(units), resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit)
"""


def peak(folder, count, few):
    """Return the peak memory in bytes of a worker that does ``few`` units from either end of a run of ``count`` samples."""
    from xbench.events import WorkOptions

    settings = (
        f"suite=blobs data.test={count} limit=none explainer=controls/random,fake/weights device=cpu out={folder}"
    )
    plan = make_plan(make_config([*settings.split(), "metric=localisation_precision,deletion[steps=4]"], discover()))
    found = list(units(plan, Store(folder)))
    options = WorkOptions(out=folder, device="cpu", batch=None, budget=600.0, workers=1)
    path = folder.with_suffix(".pickle")
    path.write_bytes(pickle.dumps((options, [*found[:few], *found[-few:]])))
    done = subprocess.run([sys.executable, "-c", SCRIPT, path], capture_output=True, text=True, env=dict(os.environ))
    assert done.returncode == 0, done.stderr
    told, memory = map(int, done.stdout.split())
    assert told == 2 * few
    return memory


@pytest.mark.skipif(sys.platform == "win32", reason="there is no resource module")
def test_a_worker_holds_no_more_of_many_samples_than_of_few(tmp_path):
    small, large = peak(tmp_path / "small", 1_000, 3), peak(tmp_path / "large", 20_000, 3)
    assert large < 1.05 * small, f"{small / 2**20:.0f} and {large / 2**20:.0f} MiB"


def test_what_seeds_share_a_plan_holds_once():
    def held(seeds):
        numbers = ",".join(map(str, range(seeds)))
        cells = make_plan(make_config(["suite=blobs", f"seed={numbers}"], discover())).cells
        return (
            len(cells),
            {id(piece) for cell in cells for piece in cell.shared},
            {id(cell.selection) for cell in cells},
        )

    one, many = held(1), held(50)
    assert many[0] == 50 * one[0]
    assert list(map(len, many[1:])) == list(map(len, one[1:]))
