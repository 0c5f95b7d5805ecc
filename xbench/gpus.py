"""Which GPUs there are, told without torch, and which of them a worker binds before importing it."""

import importlib.util
import re
import subprocess
from collections.abc import MutableMapping
from pathlib import Path

VISIBLE = "CUDA_VISIBLE_DEVICES"
_PROC = Path("/proc/driver/nvidia/gpus")
_DEV = Path("/dev")


def visible_gpus(environ: MutableMapping[str, str]) -> list[str]:
    """Return the GPUs that this process may use, as ``CUDA_VISIBLE_DEVICES`` names them.

    That variable's own list where it is set; else numbers from 0, as many as the driver tells of; none where there is no
    NVIDIA driver.
    """
    if (given := environ.get(VISIBLE)) is not None:
        return _named(given)
    return [str(number) for number in range(_installed())]


def on_gpu(device: str, environ: MutableMapping[str, str]) -> bool:
    """Say whether ``device`` means a GPU here."""
    return device.startswith("cuda") or (device == "auto" and torch_has_cuda() and bool(visible_gpus(environ)))


def bind(device: str, number: int, environ: MutableMapping[str, str]) -> str:
    """Leave one GPU visible to this process, and return what ``device`` is called from then on.

    To be called before torch is imported. What cannot be bound is left as it is: torch says what is wrong with it.

    Parameters
    ----------
    device
        ``auto``, ``cpu``, ``cuda`` or ``cuda:i``.
    number
        Which worker of the run this is: workers take the GPUs in turn, but for ``cuda:i``, which they share.
    environ
        The environment, changed in place.
    """
    if device == "cpu":
        return device
    gpus = visible_gpus(environ)
    kind, _, place = device.partition(":")
    if not gpus or (place and int(place) >= len(gpus)):
        return device
    environ[VISIBLE] = gpus[int(place) if place else number % len(gpus)]
    return kind


def torch_has_cuda() -> bool:
    """Say whether the torch that is installed was built for CUDA, from its version file; yes where that does not tell."""
    spec = importlib.util.find_spec("torch")
    if spec is None or spec.origin is None:
        return False
    try:
        text = (Path(spec.origin).parent / "version.py").read_text(encoding="utf-8")
    except OSError:
        return True
    return re.search(r"^cuda\b[^=\n]*=\s*None\s*$", text, re.MULTILINE) is None


def _named(given: str) -> list[str]:
    """Return the entries up to the first that names no GPU, where CUDA stops reading too."""
    found: list[str] = []
    for entry in (part.strip() for part in given.split(",")):
        if not (entry.isdigit() or entry.startswith(("GPU-", "MIG-"))):
            break
        found.append(entry)
    return found


def _installed() -> int:
    try:
        driven = len(list(_PROC.iterdir()))
    except OSError:  # no driver, or a system that keeps no such list
        pass
    else:
        # A container may see the driver's whole list, and have the devices of its own share only.
        given = sum(path.name.removeprefix("nvidia").isdigit() for path in _DEV.glob("nvidia*"))
        return min(driven, given) if given else driven
    try:
        told = subprocess.run(["nvidia-smi", "-L"], capture_output=True, text=True, timeout=30, check=True).stdout
    except (OSError, subprocess.SubprocessError):
        return 0
    return sum(line.startswith("GPU ") for line in told.splitlines())
