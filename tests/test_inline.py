"""The inline executor: one worker, whatever was asked, in a process that it leaves as it was."""

import json

import pytest
import torch

from xbench import api

pytestmark = pytest.mark.usefixtures("fakes")


def test_it_is_one_worker_and_gives_the_process_its_threads_back(tmp_path):
    before = torch.get_num_threads()
    run = api.run("blobs", out=tmp_path, executor="inline", device="cpu", workers=3, threads=before + 1, limit=10)
    assert run.failures == []
    assert json.loads((tmp_path / "cost.json").read_text())["workers"] == 1
    devices = {json.loads(path.read_text())["device"] for path in tmp_path.rglob("*.cost.json")}
    assert devices == {f"cpu, {before + 1} threads"}
    assert torch.get_num_threads() == before
