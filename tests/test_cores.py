"""How many workers a run takes by itself, and that it does not matter when they start."""

import pytest

from xbench import api, cores
from xbench.executors import local


@pytest.mark.parametrize(
    ("units", "of_cores", "gibibytes", "workers"),
    [
        (100, 2, 24, 2),
        (100, 16, 64, 4),
        (3, 16, 64, 3),
        (100, 16, 8, 2),
        (100, 16, 2, 1),
        (0, 16, 64, 1),
        (9, 1, 64, 1),
    ],
)
def test_the_cpu_takes_as_many_as_there_are_units_cores_and_memory_for(
    monkeypatch, units, of_cores, gibibytes, workers
):
    monkeypatch.setattr(cores, "cores", lambda: of_cores)
    monkeypatch.setattr(cores, "memory", lambda: gibibytes * 2**30)
    assert cores.workers_of("cpu", units, {}) == workers


def test_a_container_has_its_own_memory(tmp_path, monkeypatch):
    monkeypatch.setattr(cores, "_CGROUP", tmp_path / "memory.max")
    whole = cores.memory()
    for text, told in (("max\n", whole), (f"{2**20}\n", 2**20), (f"{2**80}\n", whole)):
        (tmp_path / "memory.max").write_text(text)
        assert cores.memory() == told


def test_a_short_run_starts_one_process_and_a_long_one_gets_the_same_bytes_from_more(fakes, tmp_path, monkeypatch):
    monkeypatch.setattr("xbench.api.workers_of", lambda device, units, environ: 2)
    found = []
    for seconds, processes in ((600.0, 1), (0.0, 2)):
        monkeypatch.setattr(local, "_ALONE_SECONDS", seconds)
        folder = tmp_path / str(processes)
        run = api.run("blobs", out=folder, device="cpu", explainer="fake/weights,controls/random", limit=300)
        assert not run.failures
        assert len(list((folder / "logs").glob("worker-*.log"))) == processes
        records = folder / "records"
        files = (path for path in records.rglob("*") if path.is_file() and ".cost" not in path.name)
        found.append({path.relative_to(records): path.read_bytes() for path in files})
    assert found[0] == found[1]
