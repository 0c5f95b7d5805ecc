"""How a run can be made again: its settings in full, and where the code that it ran came from."""

import hashlib
import json
import subprocess
from collections.abc import Iterable, Iterator
from importlib.metadata import Distribution, PackageNotFoundError, distribution
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlparse, urlunparse
from urllib.request import url2pathname

from xbench.components import Component
from xbench.config import RunConfig
from xbench.plugins import Registry

HARNESS = "xbench-xai"
"""The distribution of the harness and of the first-party plugins."""
LOCAL = "a local folder"


def settings(config: RunConfig) -> list[str]:
    """Return the ``key=value`` arguments that describe a run in full: nothing in them is left to the suite's file.

    Device, batch, workers, budget and folder are left out: they change no number.
    """
    given = {
        "suite": config.suite,
        "protocol": config.protocol,
        "data": config.data.spec.id,
        **{f"data.{name}": value for name, value in config.data.params.items() if value is not None},
        "data.root": config.data_root and config.data_root.absolute(),
        "model": ",".join(dict.fromkeys(model.series_text or model.text for model in config.models)),
        "explainer": ",".join(explainer.text for explainer in config.explainers),
        "metric": ",".join(metric.text for metric in config.metrics),
        "target": config.target,
        "seed": ",".join(map(str, config.seeds)),
        "limit": "none" if config.limit is None else config.limit,
    }
    return [f"{key}={value}" for key, value in given.items() if value not in (None, "")]


def origins(config: RunConfig, registry: Registry) -> dict[str, dict[str, Any]]:
    """Return where each distribution that a run uses came from, by its name.

    Returns
    -------
    ``version``; ``editable`` (its files can change under a run); ``source``, the address it was installed from where that is
    no package index; ``commit``, of the version control that the source is under; ``dirty``, whether that folder holds
    changes that the commit does not, or what is installed is not what the commit holds.
    """
    used = {part.spec.package for part in _parts([config.data, *config.models, *config.explainers, *config.metrics])}
    owners = {plugin.module.split(".")[0].removeprefix("xbench_"): plugin.distribution for plugin in registry.plugins}
    found = {}
    for name in sorted({HARNESS, *(owners[package] for package in used if package in owners)}):
        try:
            found[name] = _origin(distribution(name))
        except PackageNotFoundError:
            found[name] = {"version": "not installed"}
    return found


def _parts(components: Iterable[Component]) -> Iterator[Component]:
    for component in components:
        yield component
        if component.of:
            yield from _parts([component.of])


def _origin(installed: Distribution) -> dict[str, Any]:
    origin: dict[str, Any] = {"version": installed.version, "editable": False, "source": None, "commit": None}
    # https://packaging.python.org/specifications/direct-url: installers write it for all that no index gave.
    try:
        direct = json.loads(installed.read_text("direct_url.json") or "{}")
        url = urlparse(str(direct.get("url", "")))
    except (ValueError, AttributeError):
        return {**origin, "source": "unknown: its direct_url.json is damaged"}
    if not direct:
        return origin
    origin["editable"] = bool(direct.get("dir_info", {}).get("editable"))
    origin["commit"] = direct.get("vcs_info", {}).get("commit_id")
    origin["source"] = urlunparse(url._replace(netloc=url.netloc.rpartition("@")[2]))  # no one's password
    if url.scheme == "file":
        folder = Path(url2pathname(unquote(url.path)))
        origin["source"] = LOCAL  # where it lay is nobody's business
        if commit := _git(folder, "rev-parse", "HEAD"):
            origin["commit"] = commit
            origin["dirty"] = not _is_of(installed, folder) or _git(folder, "status", "--porcelain") != ""
    return origin


def _is_of(installed: Distribution, folder: Path) -> bool:
    """Return whether every Python file that is installed is, to the byte, a file of the folder's last commit."""
    tree = _git(folder, "ls-tree", "-r", "--full-tree", "HEAD") or ""
    blobs = {line.split()[2] for line in tree.splitlines()}
    files = [Path(str(file.locate())) for file in installed.files or () if file.suffix == ".py"]
    try:
        contents = [file.read_bytes() for file in files]
    except OSError:
        return False
    return all(hashlib.sha1(b"blob %d\0%b" % (len(content), content)).hexdigest() in blobs for content in contents)


def _git(folder: Path, *arguments: str) -> str | None:
    try:
        done = subprocess.run(
            ["git", "-C", str(folder), *arguments], capture_output=True, text=True, timeout=20, check=True
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip()
