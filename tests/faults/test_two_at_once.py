"""Two runs in one folder at once: neither is refused, no file is torn at any moment, nothing is trained twice."""

import os
import random
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))
from campaign import Place, content, differs, reading

from xbench.store import Store

SETTINGS = (
    "suite=blobs",
    "data=fake/blobs[test=200]",
    "limit=none",
    "model=fake/learnt[epochs=2,pause=0.05]",
    "device=cpu",
)
EXPLAINERS = ("fake/weights", "fake/noise", "fake/trained", "controls/random")
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not os.path.isdir("/proc/self"), reason="the campaign's tools read /proc"),
]


def place(folder):
    folder.mkdir()
    return Place(folder, random.Random(0), SETTINGS)


@pytest.mark.parametrize(
    "shares",
    [(EXPLAINERS, EXPLAINERS), (EXPLAINERS[:3], EXPLAINERS[1:])],
    ids=["the same explainers", "different explainers"],
)
def test_two_runs_at_once_give_the_records_of_one_run(tmp_path, shares):
    whole, both = place(tmp_path / "whole"), place(tmp_path / "both")
    whole.end(whole.start(f"explainer={','.join(EXPLAINERS)}"))
    with reading(both):
        runs = [both.start(f"explainer={','.join(share)}") for share in shares]
        for run in runs:
            both.end(run)
    assert both.counts["readings"] > 0
    assert both.met == []
    assert Store(both.out).check() == []
    lines = both.told().splitlines()
    assert sum("another run is writing to" in line for line in lines) == 1
    trained = both.computed("epoch")
    assert (len(trained), sum(trained.values())) == (2, 2)
    assert both.computed("commit").keys() == whole.computed("commit").keys()
    before = both.computed("commit")
    both.end(both.start(f"explainer={','.join(EXPLAINERS)}"))  # writes the tables of all, and computes nothing
    assert both.computed("commit") == before
    differs(content(both.out), content(whole.out))
