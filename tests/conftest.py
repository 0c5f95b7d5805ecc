"""What tests share: a cache of their own, and a fake third-party plugin found by its entry point."""

import os
import sys
from pathlib import Path

import pytest
import torch

# Small tensors: a second thread would only wait for the first.
torch.set_num_threads(1)

FAKES = Path(__file__).parent / "fakes"


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch):
    """Keep every test's trained networks apart from the user's."""
    monkeypatch.setenv("XBENCH_CACHE", str(tmp_path / "cache"))


@pytest.fixture
def fakes(monkeypatch):
    """Install the fake plugin, for this process and for workers."""
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(FAKES), os.environ.get("PYTHONPATH", "")]))
    monkeypatch.syspath_prepend(str(FAKES))
    yield
    for name in [name for name in sys.modules if name.partition(".")[0] == "xbench_fake"]:
        del sys.modules[name]


@pytest.fixture
def real_data():
    """Return the folder of real data, or skip."""
    folder = os.environ.get("XBENCH_DATA")
    if not folder or not Path(folder).is_dir():
        pytest.skip("XBENCH_DATA names no folder of real data")
    return Path(folder)


def pytest_collection_modifyitems(items):
    """Skip GPU tests where there is no GPU."""
    if not torch.cuda.is_available():
        for item in items:
            if "gpu" in item.keywords:
                item.add_marker(pytest.mark.skip(reason="there is no CUDA device"))
