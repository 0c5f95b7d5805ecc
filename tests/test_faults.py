"""Runs in worker processes: what hangs, dies or is killed costs only what was in flight."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from xbench import api
from xbench.store import Store, fit_folder

pytestmark = pytest.mark.usefixtures("fakes")


def scores(run):
    return {(row.model, row.explainer, row.metric): row.mean for row in run.rows}


def command(out, *settings):
    return [sys.executable, "-m", "xbench", "run", "suite=blobs", f"out={out}", "device=cpu", "limit=none", *settings]


def records(out):
    """Return every committed file that is compared: all but costs, and what killed writers left."""
    found = (path for path in (Path(out) / "records").rglob("[!.]*") if path.is_file() and ".cost" not in path.name)
    return {str(path.relative_to(out)): path.read_bytes() for path in found}


def test_hanging_and_dying_explainers_cost_their_own_cells_only(tmp_path):
    names = "fake/weights,fake/exits,fake/hangs,fake/noise"
    run = api.run("blobs", out=tmp_path / "run", device="cpu", explainer=names, budget=3, limit=70)
    status = {row.explainer: (row.status, row.reason) for row in run.rows if row.metric == "deletion"}
    assert status["fake/weights"][0] == status["fake/noise"][0] == "ok"
    assert status["fake/exits"] == ("crashed", "ended its process twice (exit code 7)")
    assert status["fake/hangs"][0] == "timeout"
    assert "budget of 3 s" in status["fake/hangs"][1]
    alone = api.run("blobs", out=tmp_path / "alone", device="cpu", explainer="fake/weights,fake/noise", limit=70)
    assert {key: scores(run)[key] for key in scores(alone)} == scores(alone)


@pytest.mark.skipif(os.name != "posix", reason="forks")
def test_a_child_that_a_hanging_explainer_leaves_does_not_hold_up_the_run(tmp_path):
    start = time.monotonic()
    names = "fake/forks,fake/weights"
    run = api.run("blobs", out=tmp_path / "run", device="cpu", explainer=names, budget=2, limit=10)
    assert time.monotonic() - start < 50
    status = {row.explainer: row.status for row in run.rows if row.metric == "deletion"}
    assert status == {"fake/forks": "timeout", "fake/weights": "ok"}


def test_a_module_in_the_working_folder_does_not_shadow_a_plugin(tmp_path, monkeypatch):
    (tmp_path / "xbench_fake").mkdir()
    (tmp_path / "xbench_fake" / "__init__.py").write_text("raise RuntimeError('the wrong one')")
    (tmp_path / "queue.py").write_text("raise RuntimeError('the wrong one')")
    monkeypatch.chdir(tmp_path)
    assert api.run("blobs", out=tmp_path / "run", device="cpu", explainer="fake/weights", limit=10).failures == []


def test_the_number_of_workers_changes_no_score(tmp_path):
    one = api.run("blobs", out=tmp_path / "1", device="cpu", workers=1, limit=150)
    two = api.run("blobs", out=tmp_path / "2", device="cpu", workers=2, limit=150)
    assert scores(one).keys() == scores(two).keys()
    for key, value in scores(one).items():
        assert scores(two)[key] == pytest.approx(value, abs=1e-6), key


@pytest.mark.skipif(os.name != "posix", reason="sends signals")
def test_a_run_killed_anywhere_continues_to_the_same_bytes(tmp_path, monkeypatch):
    settings = ("model=fake/learnt[pause=0.05]", "explainer=gradients/*,controls/random")
    monkeypatch.setenv("XBENCH_CACHE", str(tmp_path / "whole-cache"))
    subprocess.run(command(tmp_path / "whole", *settings), check=True, capture_output=True, timeout=200)
    whole = records(tmp_path / "whole")

    monkeypatch.setenv("XBENCH_CACHE", str(tmp_path / "killed-cache"))
    checkpoint = tmp_path / "killed-cache" / "fits"
    moments = [lambda: any(checkpoint.rglob("checkpoint.pt")), lambda: any((tmp_path / "killed").rglob("00000.json"))]
    for reached in moments:
        process = subprocess.Popen(command(tmp_path / "killed", *settings), stderr=subprocess.DEVNULL)
        deadline = time.monotonic() + 100
        while not reached() and process.poll() is None and time.monotonic() < deadline:
            time.sleep(0.01)
        assert process.poll() is None, "it ended before it could be killed"
        process.send_signal(signal.SIGKILL)
        process.wait()
    assert set(records(tmp_path / "killed")) < set(whole)
    done = subprocess.run(
        command(tmp_path / "killed", *settings), check=True, capture_output=True, text=True, timeout=200
    )
    assert records(tmp_path / "killed") == whole
    assert "nothing new" not in done.stdout
    tables = [
        [
            {name: value for name, value in row.items() if name != "seconds_per_image"}
            for row in json.loads(path.read_text())
        ]
        for path in (tmp_path / name / "leaderboard" / "table.json" for name in ("whole", "killed"))
    ]
    assert tables[0] == tables[1]


def test_a_training_resumed_after_each_epoch_ends_in_the_same_weights(tmp_path, monkeypatch):
    """Interrupt the training itself at every checkpoint, in this process."""
    from xbench.fits import FitContext

    hashes = {}
    original = FitContext.checkpoint
    for interrupted in (False, True):
        monkeypatch.setenv("XBENCH_CACHE", str(tmp_path / f"cache-{interrupted}"))
        calls = []

        def checkpoint(self, state, stop=interrupted, calls=calls):
            original(self, state)
            calls.append(state["epoch"])
            if stop and len(calls) < 3:
                raise KeyboardInterrupt

        monkeypatch.setattr(FitContext, "checkpoint", checkpoint)
        for _ in range(3):
            try:
                run = api.run(
                    "blobs",
                    out=tmp_path / f"run-{interrupted}",
                    executor="inline",
                    device="cpu",
                    model="fake/learnt",
                    explainer="controls/random",
                )
                break
            except KeyboardInterrupt:
                continue
        assert calls == [1, 2, 3]
        store = Store(run.folder)
        hashes[interrupted] = {store.read(key).weights for key in store}
    assert hashes[True] == hashes[False]


def test_a_damaged_checkpoint_and_damaged_weights_are_trained_again(tmp_path):
    def go(out):
        return api.run(
            "blobs", out=out, executor="inline", device="cpu", model="fake/learnt", explainer="controls/random"
        )

    first = go(tmp_path / "a")
    store = Store(first.folder)
    fit = next(store.definition(key)["model_fit"] for key in store)
    weights = fit_folder(fit) / "weights.safetensors"
    content = weights.read_bytes()
    weights.write_bytes(content[:-3])
    (fit_folder(fit) / "checkpoint.pt").write_bytes(b"not a checkpoint")
    second = go(tmp_path / "b")
    assert second.outcome.fitted == 1
    assert weights.read_bytes() == content
    assert scores(first) == scores(second)


def test_a_disk_that_is_full_in_a_training_ends_the_run_and_blames_no_recipe(tmp_path, monkeypatch):
    from xbench import fits
    from xbench.errors import CannotWrite

    def full(path, content, **how):
        raise CannotWrite(f"cannot write {path}: No space left on device")

    monkeypatch.setattr(fits, "write_atomic", full)
    with pytest.raises(CannotWrite, match="No space left"):
        api.run("blobs", out=tmp_path, executor="inline", device="cpu", model="fake/learnt", explainer="fake/weights")
    assert not list(tmp_path.rglob("status.json"))


@pytest.mark.skipif(os.name != "posix" or os.geteuid() == 0, reason="root may write anywhere")
def test_a_folder_that_cannot_be_written_is_one_line(tmp_path):
    tmp_path.chmod(0o500)
    done = subprocess.run(command(tmp_path / "run"), capture_output=True, text=True)
    tmp_path.chmod(0o700)
    assert done.returncode == 2
    assert done.stderr.startswith("xbench: cannot write")


def test_a_file_where_the_folder_should_be_is_one_line(tmp_path):
    (tmp_path / "run").write_text("in the way")
    done = subprocess.run(command(tmp_path / "run"), capture_output=True, text=True)
    assert done.returncode == 2
    assert done.stderr.startswith("xbench: cannot write")
    assert len(done.stderr.splitlines()) == 1
