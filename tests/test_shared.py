"""What machines must share is missed where it is not there, and waited for where it is late."""

import threading
import time

import pytest

from xbench.shared import cache_mark, unshared
from xbench.store import cache_folder


@pytest.fixture
def out(tmp_path):
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "run.json").write_text("{}")
    return tmp_path / "run"


def test_the_mark_of_a_cache_is_drawn_once(monkeypatch, tmp_path):
    mark = cache_mark()
    assert len(mark) == 32
    assert cache_mark() == mark
    monkeypatch.setenv("XBENCH_CACHE", str(tmp_path / "another"))
    assert cache_mark() != mark


def test_a_machine_that_sees_all_of_it_says_nothing(out):
    assert unshared(out, cache_mark()) == ""


def test_another_cache_is_named(out, monkeypatch, tmp_path):
    mark = cache_mark()
    monkeypatch.setenv("XBENCH_CACHE", str(tmp_path / "another"))
    told = unshared(out, mark, 0)
    assert str(cache_folder()) in told
    assert "XBENCH_CACHE must name a folder that all machines share" in told


def test_another_folder_is_named(tmp_path):
    told = unshared(tmp_path / "nowhere", cache_mark(), 0)
    assert f"sees no run in {tmp_path / 'nowhere'}" in told


def test_what_comes_late_is_waited_for(tmp_path):
    mark = cache_mark()

    def write():
        time.sleep(0.3)
        (tmp_path / "run.json").write_text("{}")

    threading.Thread(target=write).start()
    assert unshared(tmp_path, mark, 30) == ""
