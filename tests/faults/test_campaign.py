"""Eight rounds of faults, one of each kind: what breaks costs only what was in flight."""

import os
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))
import campaign

ROUNDS = 8


@pytest.mark.slow
@pytest.mark.skipif(not os.path.isdir("/proc/self"), reason="finds processes in /proc")
def test_whatever_breaks_the_tables_are_those_of_an_undisturbed_run(tmp_path):
    counts = campaign.campaign(ROUNDS, seed=int.from_bytes(os.urandom(3), "little"), folder=tmp_path / "campaign")
    for name, count in sorted(counts.items()):
        print(f"{count:6d} {name}")
    assert all(counts[fault.__name__] == 1 for fault in campaign.FAULTS)
    assert counts["readings"] > 0
