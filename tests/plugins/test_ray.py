"""The executor on Ray: whatever the machines of a cluster do, the table is that of one process."""

import contextlib
import importlib.util
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

import pytest

from xbench import api
from xbench.cli import main
from xbench.config import make_config
from xbench.errors import XbenchError
from xbench.events import WorkOptions
from xbench.plugins import discover
from xbench.store import Store
from xbench_ray.executor import RayExecutor

needs_ray = pytest.mark.skipif(importlib.util.find_spec("ray") is None, reason="Ray is not installed (extra `ray`)")
pytestmark = pytest.mark.usefixtures("fakes")

STORE = 80 * 2**20
SLOW = """
import time


def explain(model, image, target):
    time.sleep(0.3)
    return image.mean(dim=1)
"""


@pytest.fixture(scope="module")
def cluster():
    """Three machines of one core, as far as Ray is told, in processes of this one."""
    pytest.importorskip("ray")
    from ray.cluster_utils import Cluster

    # A training takes all cores there are, and how many decides how it rounds.
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {min(before)})
    node = {"num_cpus": 1, "object_store_memory": STORE, "include_dashboard": False}
    # `auto` finds what was started last, as a file of this folder tells; the path to a socket must be short.
    folder = tempfile.mkdtemp(prefix="xbray")
    monkeypatch = pytest.MonkeyPatch()
    monkeypatch.setenv("RAY_TMPDIR", folder)
    made = Cluster(initialize_head=True, head_node_args=node)
    node.pop("include_dashboard")
    made.extra = [made.add_node(**node) for _ in range(2)]
    yield made
    made.shutdown()
    monkeypatch.undo()
    shutil.rmtree(folder, ignore_errors=True)
    os.sched_setaffinity(0, before)


def means(run):
    return {(row.model, row.explainer, row.metric): row.mean for row in run.rows}


def equal(found, expected):
    assert found.keys() == expected.keys()
    for key, value in expected.items():
        assert found[key] == pytest.approx(value, abs=1e-4, nan_ok=True), key


def left(mark):
    """Return the commands of processes that have a text in their environment."""
    found = []
    for place in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            if int(place.name) != os.getpid() and mark.encode() in (place / "environ").read_bytes():
                found.append((place / "cmdline").read_bytes())
    return found


@needs_ray
@pytest.mark.slow
def test_a_machine_lost_in_the_middle_costs_nothing_but_what_was_in_flight(tmp_path, monkeypatch, cluster):
    (tmp_path / "slow.py").write_text(SLOW)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    settings = {"device": "cpu", "limit": "none", "data_test": 1500, "model": "fake/learnt"}
    settings |= {"explainer": "python:slow.explain,controls/random", "metric": "accuracy,deletion,pointing_game"}
    monkeypatch.setenv("XBENCH_CACHE", str(tmp_path / "inline-cache"))
    inline = api.run("blobs", out=tmp_path / "inline", executor="inline", **settings)
    monkeypatch.setenv("XBENCH_CACHE", str(tmp_path / "cache"))
    out = tmp_path / "run"

    def lose():
        deadline = time.monotonic() + 240
        while len(list(out.glob("records/*/*/0????.json"))) < 8 and time.monotonic() < deadline:
            time.sleep(0.02)
        cluster.remove_node(cluster.extra.pop(), allow_graceful=False)

    thread = threading.Thread(target=lose)
    thread.start()
    run = api.run("blobs", out=out, executor="ray", **{"ray.address": cluster.address}, **settings)
    thread.join()
    assert len(cluster.extra) == 1
    assert run.outcome.failures == ()
    store, expected = Store(out), Store(tmp_path / "inline")
    assert {key: store.read(key).n_slices for key in store} == {key: expected.read(key).n_slices for key in expected}
    equal(means(run), means(inline))
    assert {path.name for path in (out / "logs").iterdir()} == {"worker-0.log", "worker-1.log", "worker-2.log"}


@needs_ray
@pytest.mark.slow
@pytest.mark.usefixtures("cluster")
def test_hanging_and_dying_explainers_cost_their_own_cells_only(tmp_path, monkeypatch):
    # A token that this machine has for other clusters: shown to one that asks for none, no word of its workers arrives.
    monkeypatch.setenv("RAY_AUTH_TOKEN", "0" * 64)
    settings = {"device": "cpu", "limit": 70, "metric": "deletion", "budget": 4, "out": tmp_path / "run"}
    names = "fake/exits,fake/weights,fake/hangs,fake/noise"
    run = api.run("blobs", executor="ray", explainer=names, **{"ray.address": "auto"}, **settings)
    status = {row.explainer: (row.status, row.reason) for row in run.rows if row.metric == "deletion"}
    assert status["fake/weights"][0] == status["fake/noise"][0] == "ok"
    assert status["fake/exits"][0] == "crashed"
    assert "ended its process twice" in status["fake/exits"][1]
    assert status["fake/hangs"][0] == "timeout"
    assert "budget of 4 s" in status["fake/hangs"][1]


@needs_ray
@pytest.mark.slow
def test_what_no_machine_of_the_cluster_has_is_told_and_not_waited_for(tmp_path, cluster):
    start = time.monotonic()
    where = {"executor": "ray", "ray.address": cluster.address, "out": tmp_path / "run", "limit": 10}
    with pytest.raises(XbenchError, match=r"1 GPU, and no machine of the cluster has that .*GPU: 0"):
        api.run("blobs", device="cuda", **where)
    with pytest.raises(XbenchError, match=r"64 CPU"):
        api.run("blobs", device="cpu", threads=64, **where)
    assert time.monotonic() - start < 60


@needs_ray
@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/environ").exists(), reason="looks into /proc")
def test_a_run_that_starts_ray_itself_leaves_nothing_behind_and_prints_nothing_of_it(tmp_path, monkeypatch):
    settings = {"limit": 20, "device": "cpu", "explainer": "fake/weights,fake/noise"}
    inline = api.run("blobs", out=tmp_path / "inline", executor="inline", **settings)
    monkeypatch.setenv("XBENCH_MARK", str(tmp_path))
    out = tmp_path / "run"
    words = [f"{name}={value}" for name, value in settings.items()]
    command = [sys.executable, "-m", "xbench", "run", "suite=blobs", "executor=ray", f"out={out}", *words, "workers=2"]
    done = subprocess.run([*command, "-q"], capture_output=True, text=True, timeout=300)
    assert (done.returncode, done.stderr) == (0, "")
    assert left(str(tmp_path)) == []
    equal(means(api.run("blobs", out=out, executor="inline", **settings)), means(inline))
    again = subprocess.run([*command, "-q"], capture_output=True, text=True, timeout=300)
    assert "nothing new to compute" in again.stdout

    process = subprocess.Popen([*command, "seed=1"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    while not any(b"ray::" in each or b"default_worker" in each for each in left(str(tmp_path))):
        assert process.poll() is None
        time.sleep(0.1)
    process.send_signal(signal.SIGTERM)
    assert process.wait(60) == 143
    deadline = time.monotonic() + 20
    while left(str(tmp_path)) and time.monotonic() < deadline:
        time.sleep(0.2)
    assert left(str(tmp_path)) == []


@needs_ray
@pytest.mark.slow
def test_an_address_where_no_cluster_is_costs_one_line_and_seconds(tmp_path, capsys):
    start, address = time.monotonic(), "127.0.0.1:1"
    settings = ["suite=blobs", "executor=ray", f"ray.address={address}", f"out={tmp_path / 'run'}", "limit=10", "-q"]
    assert main(["run", *settings]) == 2
    assert time.monotonic() - start < 40
    told = capsys.readouterr().err.splitlines()
    assert len(told) == 1
    assert told[0].startswith(f"xbench: ray.address={address}: no Ray cluster answers there")


def test_without_ray_the_extra_is_named(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(XbenchError, match=r"install the extra `ray` \(pip install 'xbench-xai\[ray\]'"):
        api.run("blobs", executor="ray", out=tmp_path / "run", limit=10)


def test_one_gpu_by_number_is_refused(tmp_path):
    with pytest.raises(XbenchError, match="say device=cuda"):
        RayExecutor(WorkOptions(tmp_path, device="cuda:1"))


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        (["ray.address=auto"], "ray.address is a parameter of executor=ray, and this run has executor=local"),
        (["executor=ray", "ray.adress=auto"], "no parameter 'adress'; did you mean 'address'?"),
        (["rai.address=auto"], "unknown key 'rai.address'"),
    ],
)
def test_parameters_go_to_the_executor_that_has_them(settings, told):
    with pytest.raises(XbenchError) as caught:
        make_config(["suite=blobs", *settings], discover())
    assert len(caught.value.lines) == 1
    assert told in caught.value.lines[0]
