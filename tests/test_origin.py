"""A run's settings, as it writes them down, describe it in full; and it says where its code came from."""

import dataclasses
import json
import subprocess
from importlib.metadata import PathDistribution

import pytest

from xbench.config import make_config
from xbench.origin import _origin, origins, settings
from xbench.plugins import discover
from xbench.store import canonical

REGISTRY = discover()


def meaning(config):
    """All of a configuration but what changes no number."""
    free = ("device", "batch", "workers", "threads", "executor", "budget", "silence")
    free += ("out", "notes", "title", "primary")
    return {item.name: getattr(config, item.name) for item in dataclasses.fields(config) if item.name not in free}


@pytest.mark.parametrize(
    "arguments",
    [
        *([f"suite={suite}", f"protocol={name}"] for suite in REGISTRY.suites for name in ("quick", "paper")),
        ["suite=chestxray", "data.size=32", "seed=3,1", "limit=none", "target=enlarged", "data.root=/some/where"],
        ["suite=mnist", "model=mnist/s2@*,mnist/s2[epochs=2]@1", "metric=deletion[fill=zero],deletion"],
        ["suite=chestxray", "explainer=controls/blur[of=cam/gradcam[score=prob]],noise/*"],
        ["suite=anole", "model=gain/self[of=anole/slim[epochs=3]]"],
    ],
    ids=" ".join,
)
def test_settings_describe_the_run_in_full(arguments):
    config = make_config(arguments, REGISTRY)
    again = make_config(settings(config), REGISTRY)
    assert meaning(again) == meaning(config)


def installed(folder, files=(), **direct):
    """Make a distribution as an installer leaves it."""
    info = folder / "mine-1.0.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: mine\nVersion: 1.0\n")
    if direct:
        (info / "direct_url.json").write_text(json.dumps(direct))
    for name, text in dict(files).items():
        (folder / name).write_text(text)
    (info / "RECORD").write_text("".join(f"{name},,\n" for name in dict(files)))
    return PathDistribution(info)


def git(folder, *arguments):
    subprocess.run(["git", "-C", folder, "-c", "user.name=a", "-c", "user.email=a@b", *arguments], check=True)


def test_where_code_came_from(tmp_path):
    assert _origin(installed(tmp_path / "index"))["editable"] is False
    assert _origin(installed(tmp_path / "index2")).get("source") is None
    url = (tmp_path / "with space").as_uri()
    (tmp_path / "with space").mkdir()
    editable = _origin(installed(tmp_path / "a", url=url, dir_info={"editable": True}))
    assert editable["editable"]
    assert editable["commit"] is None
    git(tmp_path / "with space", "init", "-q")
    (tmp_path / "with space" / "code.py").write_text("1")
    git(tmp_path / "with space", "add", "code.py")
    git(tmp_path / "with space", "commit", "-qm", "one")
    clean = _origin(installed(tmp_path / "b", url=url, dir_info={}))
    assert len(clean["commit"]) == 40
    assert clean["dirty"] is False
    (tmp_path / "with space" / "code.py").write_text("2")
    assert _origin(installed(tmp_path / "c", url=url, dir_info={}))["dirty"] is True
    git(tmp_path / "with space", "checkout", "-q", "code.py")
    assert _origin(installed(tmp_path / "e", files={"code.py": "1"}, url=url, dir_info={}))["dirty"] is False
    assert _origin(installed(tmp_path / "f", files={"code.py": "other"}, url=url, dir_info={}))["dirty"] is True
    secret = _origin(installed(tmp_path / "g", url="https://user:token@host/y.git", vcs_info={"commit_id": "abc"}))
    assert secret["source"] == "https://host/y.git"
    vcs = {"vcs": "git", "commit_id": "abc"}
    assert _origin(installed(tmp_path / "d", url="https://x/y.git", vcs_info=vcs))["commit"] == "abc"
    assert str(tmp_path) not in canonical(clean).decode()


def test_every_distribution_of_a_run_is_named(fakes):
    registry = discover()
    config = make_config(["suite=blobs", "explainer=fake/halved[of=fake/weights],controls/random"], registry)
    assert set(origins(config, registry)) == {"xbench-fake", "xbench-xai"}
