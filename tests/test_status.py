"""What ``xbench status`` says of a folder by its names, and what only by reading it."""

import pytest

from xbench import api
from xbench.cli import main
from xbench.store import Store

pytestmark = pytest.mark.usefixtures("fakes")


@pytest.fixture
def folder(tmp_path):
    api.run("blobs", executor="inline", device="cpu", out=tmp_path / "run", explainer="fake/weights,fake/raises")
    return tmp_path / "run"


def test_names_tell_of_a_slice_that_is_gone_and_of_a_failure(folder, capsys):
    assert main(["status", str(folder)]) == 1
    told = capsys.readouterr().out
    assert "2 ok, 1 error" in told
    assert "no idea" in told
    assert "--check" in told
    key = next(
        key for key in Store(folder) if (Store(folder).definition(key)["explainer"] or {}).get("text") == "fake/weights"
    )
    next(Store(folder).folder(key).glob("00001.*safetensors")).unlink()
    assert main(["status", str(folder)]) == 1
    assert "1 of 2 slices done" in capsys.readouterr().out


def test_damage_inside_a_file_is_found_where_every_file_is_read(folder, capsys):
    path = next(iter(sorted((folder / "records").rglob("*.safetensors"))))
    path.write_bytes(path.read_bytes()[:-1] + b"?")
    assert main(["status", str(folder)]) == 1
    assert f"damaged: {path}" not in capsys.readouterr().out
    assert main(["status", "--check", str(folder)]) == 1
    assert f"damaged: {path}" in capsys.readouterr().out
