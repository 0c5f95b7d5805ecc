"""Hostile inputs in the quick suite: 2,000 for every reader and verb, in a process of their own whose memory is bounded."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

FUZZ = Path(__file__).parent / "fuzz.py"


@pytest.mark.skipif(sys.platform != "linux", reason="bounds memory and time as Linux does")
def test_two_thousand_hostile_inputs_end_in_a_value_or_in_one_clear_error(tmp_path):
    command = [sys.executable, str(FUZZ), "--inputs", "2000", "--seed", "0", "--keep", str(tmp_path / "kept")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=1800, cwd=tmp_path)
    print(done.stdout)
    assert done.returncode == 0, done.stdout[-6000:] + done.stderr[-2000:]
    assert re.search(r"^2,000 inputs of seed 0 in \d+ s; 0 failed$", done.stdout, re.M)
    counts = dict(re.findall(r"^(\w+) +[\d,]+ +([\d,]+) +0$", done.stdout, re.M))
    assert len(counts) >= 18
    # Inputs that are all read would find nothing.
    assert int(counts["all"].replace(",", "")) > 1000
