"""Which GPU a worker takes, told without torch; the lists are made up, for there may be none here."""

import os
import queue
import subprocess
import sys

import pytest
import torch

from xbench import api, cores, gpus
from xbench.config import make_config
from xbench.cores import workers_of
from xbench.events import Note, Ready, WorkOptions
from xbench.executors.process import start
from xbench.plan import make_plan
from xbench.plugins import discover


@pytest.fixture
def two_gpus(tmp_path, monkeypatch):
    """Let the driver tell of two GPUs, and torch be built for them."""
    for name in ("0000:17:00.0", "0000:65:00.0"):
        (tmp_path / "gpus" / name).mkdir(parents=True)
    monkeypatch.setattr(gpus, "_PROC", tmp_path / "gpus")
    monkeypatch.setattr(gpus, "_DEV", tmp_path / "dev")
    monkeypatch.setattr(gpus, "torch_has_cuda", lambda: True)


@pytest.mark.parametrize(
    ("given", "seen"),
    [
        ("0,1", ["0", "1"]),
        (" 3, 5 ", ["3", "5"]),
        ("GPU-8932f937,MIG-ab12", ["GPU-8932f937", "MIG-ab12"]),
        ("", []),
        ("-1", []),
        ("2,-1,3", ["2"]),
        ("NoDevFiles", []),
    ],
)
def test_the_variable_is_read_as_cuda_reads_it(two_gpus, given, seen):
    assert gpus.visible_gpus({gpus.VISIBLE: given}) == seen


def test_without_the_variable_the_driver_tells(two_gpus):
    assert gpus.visible_gpus({}) == ["0", "1"]


def test_a_container_has_the_gpus_whose_devices_it_was_given(two_gpus, tmp_path):
    (tmp_path / "dev").mkdir()
    for name in ("nvidia1", "nvidiactl", "nvidia-uvm"):
        (tmp_path / "dev" / name).touch()
    assert gpus.visible_gpus({}) == ["0"]


def test_without_the_drivers_list_its_program_tells(tmp_path, monkeypatch):
    monkeypatch.setattr(gpus, "_PROC", tmp_path / "nothing")
    told = "GPU 0: Some (UUID: GPU-1)\n  MIG 1g.5gb Device 0: (UUID: MIG-1)\nGPU 1: Some (UUID: GPU-2)\n"
    monkeypatch.setattr(subprocess, "run", lambda *a, **k: subprocess.CompletedProcess(a, 0, told))
    assert gpus.visible_gpus({}) == ["0", "1"]

    def missing(*arguments, **settings):
        raise FileNotFoundError("nvidia-smi")

    monkeypatch.setattr(subprocess, "run", missing)
    assert gpus.visible_gpus({}) == []


@pytest.mark.parametrize(
    ("device", "number", "visible", "bound", "called"),
    [
        ("auto", 0, None, "0", "auto"),
        ("auto", 1, None, "1", "auto"),
        ("cuda", 2, None, "0", "cuda"),  # a third worker shares the first
        ("cuda:1", 0, None, "1", "cuda"),
        ("cuda:1", 5, "4,7", "7", "cuda"),
        ("auto", 1, "GPU-a,GPU-b", "GPU-b", "auto"),
        ("cpu", 1, None, None, "cpu"),
        ("cuda:2", 0, None, None, "cuda:2"),  # torch says that there is none
        ("cuda", 0, "", "", "cuda"),
    ],
)
def test_a_worker_binds_its_own_gpu(two_gpus, device, number, visible, bound, called):
    environ = {} if visible is None else {gpus.VISIBLE: visible}
    assert gpus.bind(device, number, environ) == called
    assert environ.get(gpus.VISIBLE) == bound


@pytest.mark.parametrize(
    ("device", "visible", "workers"),
    [
        ("auto", None, 2),
        ("cuda", "0,1,2", 3),
        ("cuda:1", None, 1),
        ("cpu", None, 1),
        ("auto", "", 1),
        ("cuda", "-1", 1),
    ],
)
def test_a_run_takes_a_worker_a_gpu(two_gpus, device, visible, workers):
    environ = {} if visible is None else {gpus.VISIBLE: visible}
    assert workers_of(device, 1, environ) == workers


def test_gpus_that_torch_was_not_built_for_count_for_nothing(two_gpus, monkeypatch):
    monkeypatch.setattr(gpus, "torch_has_cuda", lambda: False)
    assert workers_of("auto", 1, {}) == 1
    assert not gpus.on_gpu("auto", {})
    assert gpus.on_gpu("cuda", {})


@pytest.mark.parametrize(
    ("line", "has"),
    [("cuda: Optional[str] = None", False), ("cuda = None", False), ("cuda: Optional[str] = '13.2'", True)],
)
def test_torchs_version_file_says_what_it_was_built_for(tmp_path, monkeypatch, line, has):
    (tmp_path / "torch").mkdir()
    (tmp_path / "torch" / "__init__.py").write_text("raise RuntimeError('imported')")
    (tmp_path / "torch" / "version.py").write_text(f"__version__ = '2.15.0'\ndebug = False\n{line}\nhip = None\n")
    script = "from xbench import gpus; print(gpus.torch_has_cuda())"
    path = os.pathsep.join([str(tmp_path), *sys.path])
    done = subprocess.run(
        [sys.executable, "-c", script], env={**os.environ, "PYTHONPATH": path}, capture_output=True, text=True
    )
    assert done.stdout.strip() == str(has), done.stderr


def test_a_worker_is_bound_before_it_imports_torch(tmp_path, monkeypatch):
    (tmp_path / "torch").mkdir()
    seen = tmp_path / "seen"
    (tmp_path / "torch" / "__init__.py").write_text(
        f"import os\nopen({str(seen)!r}, 'w').write(os.environ['{gpus.VISIBLE}'])\nraise RuntimeError('seen')\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setenv(gpus.VISIBLE, "3,5")
    inbox = queue.Queue()
    process = start(1, WorkOptions(tmp_path, device="cuda"), inbox)
    try:
        assert inbox.get(timeout=60) == (process, None)
    finally:
        process.kill()
    assert seen.read_text() == "5"


@pytest.mark.usefixtures("fakes")
def test_a_run_resolves_how_many_workers_it_takes(two_gpus, tmp_path, monkeypatch):
    taken = []

    class Nobody:
        def __init__(self, options):
            taken.append(options.workers)

        def run(self, tasks):
            return iter(())

        def close(self):
            pass

    monkeypatch.delenv(gpus.VISIBLE, raising=False)
    monkeypatch.setattr(cores, "cores", lambda: 1)
    monkeypatch.setattr(api, "import_attr", lambda name: Nobody)
    registry = discover()
    for settings in ([], ["workers=auto"], ["workers=5"], ["device=cpu"]):
        plan = make_plan(make_config(["suite=blobs", f"out={tmp_path}", *settings], registry))
        api.execute(plan, registry)
    assert taken == [2, 2, 5, 1]


@pytest.mark.skipif(torch.cuda.is_available(), reason="is of a machine without one")
def test_a_gpu_that_torch_cannot_use_is_told(tmp_path, monkeypatch):
    monkeypatch.setenv(gpus.VISIBLE, "5")
    inbox = queue.Queue()
    process = start(0, WorkOptions(tmp_path), inbox)
    try:
        _, told = inbox.get(timeout=60)
    finally:
        process.kill()
    line = Note("worker 0: torch cannot use GPU 5; the CPU computes")
    assert told == line if gpus.torch_has_cuda() else isinstance(told, Ready)
