"""The inline executor: one worker, whatever was asked, in a process that it leaves as it was."""

import json

import pytest
import torch

import xbench.work
from xbench import api
from xbench.errors import XbenchError

pytestmark = pytest.mark.usefixtures("fakes")


def test_a_gpu_that_breaks_down_ends_the_run_with_one_line(tmp_path, monkeypatch):
    monkeypatch.setattr(
        xbench.work, "must_work", xbench.work.must_work
    )  # put back afterwards: the explainer changes it
    with pytest.raises(XbenchError, match=r"cuda:0 failed .*: what is committed is kept"):
        api.run("blobs", out=tmp_path, executor="inline", device="cpu", explainer="fake/breaks_the_gpu", limit=10)
    assert [json.loads(path.read_text())["status"] for path in tmp_path.rglob("status.json")] == ["error"]


def test_it_is_one_worker_and_gives_the_process_its_threads_back(tmp_path):
    before = torch.get_num_threads()
    run = api.run("blobs", out=tmp_path, executor="inline", device="cpu", workers=3, threads=before + 1, limit=10)
    assert run.failures == []
    assert json.loads((tmp_path / "cost.json").read_text())["workers"] == 1
    devices = {json.loads(path.read_text())["device"] for path in tmp_path.rglob("*.cost.json")}
    assert devices == {f"cpu, {before + 1} threads"}
    assert torch.get_num_threads() == before
