"""Shares of a run: together they are the run, whatever happens to one of them."""

import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest

from xbench import api
from xbench.cli import main
from xbench.config import make_config
from xbench.errors import XbenchError
from xbench.plan import make_plan, units
from xbench.plugins import discover
from xbench.shards import Shard, Share, open_share, parse_shard
from xbench.store import Store

pytestmark = pytest.mark.usefixtures("fakes")

RUN = (
    "suite=blobs",
    "device=cpu",
    "limit=none",
    "model=fake/learnt,fake/linear",
    "explainer=fake/weights,controls/random",
)


def planned(out, *settings):
    config = make_config(["suite=blobs", f"out={out}", *settings], discover())
    return make_plan(config)


def means(out):
    rows = json.loads((Path(out) / "leaderboard" / "table.json").read_text())
    return {(row["model"], row["explainer"], row["metric"]): row["mean"] for row in rows}


@pytest.fixture
def one_core():
    """Keep this process and its children to one core: how many there are decides how a training rounds."""
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {min(before)})
    yield
    os.sched_setaffinity(0, before)


def xbench(*arguments, **more):
    return subprocess.Popen([sys.executable, "-m", "xbench", *map(str, arguments)], text=True, **more)


@pytest.mark.parametrize("of", [1, 2, 3, 7, 40])
@pytest.mark.parametrize("settings", [("data.test=1000", "limit=200"), ("seed=0,1,2", "data.test=65", "limit=none")])
def test_shares_are_disjoint_and_together_the_whole(tmp_path, of, settings):
    plan = planned(tmp_path, "explainer=fake/weights,fake/noise", *settings)
    every = {(job.key, unit.part) for unit in units(plan, Store(tmp_path)) for job in unit.jobs}
    shares = [list(units(plan, Share(plan, Shard(number, of)))) for number in range(1, of + 1)]
    found = [(job.key, unit.part) for share in shares for unit in share for job in unit.jobs]
    assert len(found) == len(set(found))
    assert set(found) == every
    assert max(map(len, shares)) - min(map(len, shares)) <= 1


def test_a_share_stays_the_same_whatever_others_have_done(tmp_path):
    plan = planned(tmp_path, "explainer=fake/weights", "data.test=1000", "limit=none")
    share = Share(plan, Shard(2, 3))
    before = [(unit.samples_digest, unit.part) for unit in units(plan, share)]
    others = (each for each in units(plan, Share(plan, Shard(1, 3))))
    done = {(job.key, unit.part) for unit in others for job in unit.jobs}
    again = Share(plan, Shard(2, 3))
    again._has_head = lambda key, part: (key, part) in done  # as if they were committed
    assert [(unit.samples_digest, unit.part) for unit in units(plan, again)] == before


def test_a_share_trains_only_what_its_units_need(tmp_path):
    plan = planned(tmp_path, "model=fake/learnt,fake/linear", "metric=deletion", "explainer=fake/weights", "limit=10")
    needs = [api.missing_fits(plan, Share(plan, Shard(number, 2))) for number in (1, 2)]
    assert sorted(map(len, needs)) == [0, 1]


@pytest.mark.parametrize("text", ["3", "0/3", "4/3", "a/b", "1/", "-1/2", "1/2/3", "²/3", ""])
def test_what_is_no_share_is_one_line(text):
    with pytest.raises(XbenchError, match="written i/n"):
        parse_shard(text)


def test_a_share_is_read():
    assert parse_shard("2/8") == Shard(2, 8)


@pytest.mark.parametrize("argument", ["explainer=fake/noise", "limit=3", "data.test=7", "out=elsewhere", "nonsense"])
def test_what_is_computed_cannot_be_changed_in_a_share(tmp_path, capsys, argument):
    assert main(["run", "suite=blobs", f"out={tmp_path / 'run'}", "limit=10", "--plan"]) == 0
    assert main(["work", str(tmp_path / "run"), "--shard", "1/2", argument]) == 2
    told = capsys.readouterr().err.splitlines()
    assert len(told) == 1
    assert "run.json" in told[0]


def test_a_folder_without_a_run_is_one_line(tmp_path, capsys):
    assert main(["work", str(tmp_path), "--shard", "1/2"]) == 2
    assert "holds no run" in capsys.readouterr().err


def test_another_cache_is_told_before_anything_is_trained_twice(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr("xbench.shards._PATIENCE_SECONDS", 0.0)
    assert main(["run", "suite=blobs", f"out={tmp_path / 'run'}", "limit=10", "--plan"]) == 0
    assert main(["work", str(tmp_path / "run"), "--shard", "1/1", "executor=inline", "-q"]) == 0
    monkeypatch.setenv("XBENCH_CACHE", str(tmp_path / "another"))
    assert main(["work", str(tmp_path / "run"), "--shard", "1/1", "executor=inline"]) == 2
    assert "XBENCH_CACHE must name a folder that all machines share" in capsys.readouterr().err


def test_another_plan_than_the_one_that_was_written_is_refused(tmp_path):
    assert main(["run", "suite=blobs", f"out={tmp_path / 'run'}", "limit=10", "--plan"]) == 0
    registry = discover()
    registry.explainers["fake/weights"] = replace(registry.explainers["fake/weights"], version=2)
    with pytest.raises(XbenchError, match="would compute something else"):
        open_share(tmp_path / "run", Shard(1, 1), (), registry)


def test_what_has_failed_in_one_share_is_left_out_by_the_others_and_tried_again_by_the_run(tmp_path, capsys):
    out = tmp_path / "run"
    run = ["run", "suite=blobs", f"out={out}", "limit=none", "executor=inline", "explainer=fake/raises,fake/weights"]
    assert main([*run, "--plan"]) == 0
    assert "3 units planned" in capsys.readouterr().out
    assert main(["work", str(out), "--shard", "1/2", "executor=inline"]) == 1
    assert "1 cells failed" in capsys.readouterr().out
    assert main(["work", str(out), "--shard", "2/2", "executor=inline"]) == 1
    assert "1 cells left out that had failed before" in capsys.readouterr().out
    assert main([*run, "-q"]) == 1
    told = capsys.readouterr()
    assert "fake/raises" in told.err
    assert "0 slices computed, 1 cells failed" in told.out


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="keeps to one core")
def test_three_shares_at_once_one_of_them_killed_make_the_table_of_one_run(tmp_path, monkeypatch, one_core):
    monkeypatch.setenv("XBENCH_CACHE", str(tmp_path / "inline-cache"))
    assert main(["run", *RUN, f"out={tmp_path / 'inline'}", "executor=inline", "-q"]) == 0
    monkeypatch.setenv("XBENCH_CACHE", str(tmp_path / "cache"))
    out = tmp_path / "run"
    assert main(["run", *RUN, f"out={out}", "--plan"]) == 0
    shares = [xbench("work", out, "--shard", f"{number}/3", "device=cpu", "threads=1", "-q") for number in (1, 2, 3)]
    while not any((tmp_path / "cache").rglob("checkpoint.pt")) and all(share.poll() is None for share in shares):
        time.sleep(0.01)
    assert all(share.poll() is None for share in shares)
    shares[1].send_signal(signal.SIGKILL)
    assert [share.wait(300) for share in shares] == [0, -signal.SIGKILL, 0]
    again = xbench("work", out, "--shard", "2/3", "device=cpu", "-q", stdout=subprocess.PIPE)
    assert again.communicate(timeout=300)[0].startswith(f"share 2/3 of {out}: ")
    assert again.returncode == 0
    done = xbench("run", *RUN, f"out={out}", "-q", stdout=subprocess.PIPE)
    assert "nothing new to compute" in done.communicate(timeout=300)[0]
    assert means(out).keys() == means(tmp_path / "inline").keys()
    for key, value in means(tmp_path / "inline").items():
        assert means(out)[key] == pytest.approx(value, abs=1e-4, nan_ok=True), key


SBATCH = """#!/bin/bash
# Runs an array's jobs at once, and what depends on it afterwards.
for word in "$@"; do
    case $word in
        --array=1-*) n=${word#--array=1-} ;;
        --*) ;;
        *) break ;;
    esac
    echo "$word" >> "$RECORD"
    shift
done
while [[ $1 == --* ]]; do echo "$1" >> "$RECORD"; shift; done
if [ -n "${n:-}" ]; then
    for i in $(seq "$n"); do SLURM_ARRAY_TASK_ID=$i bash "$@" >&2 & done
    wait
    echo "17;cluster"
else
    bash "$@" >&2
fi
"""


@pytest.mark.slow
def test_the_slurm_script_plans_shares_out_and_writes_the_tables(tmp_path, monkeypatch):
    (tmp_path / "sbatch").write_text(SBATCH)
    (tmp_path / "xbench").write_text(f'#!/bin/sh\nexec {sys.executable} -m xbench "$@"\n')
    for name in ("sbatch", "xbench"):
        (tmp_path / name).chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
    out, script = tmp_path / "run", Path(__file__).parent.parent / "docs" / "slurm.sh"
    more = {"SHARES": "2", "XBENCH": str(tmp_path / "xbench"), "RECORD": str(tmp_path / "record")}
    settings = ["suite=blobs", "limit=none", "explainer=fake/weights,fake/noise"]
    command = ["bash", str(script), *settings, f"out={out}", "device=cpu", "threads=1", "--", "--gpus-per-task=0"]
    done = subprocess.run(command, env={**os.environ, **more}, text=True, capture_output=True, timeout=300)
    assert done.returncode == 0, done.stderr
    assert "3 units planned" in done.stdout
    assert f"share 1/2 of {out}: 6 slices computed" in done.stderr
    assert f"share 2/2 of {out}: 3 slices computed" in done.stderr
    assert "nothing new to compute" in done.stderr
    given = (tmp_path / "record").read_text().split()
    assert {"--array=1-2", "--dependency=afterany:17", "--gpus-per-task=0", "--requeue"} <= set(given)
    assert main(["run", *settings, f"out={tmp_path / 'inline'}", "executor=inline", "-q"]) == 0
    for key, value in means(tmp_path / "inline").items():
        assert means(out)[key] == pytest.approx(value, abs=1e-4, nan_ok=True), key
