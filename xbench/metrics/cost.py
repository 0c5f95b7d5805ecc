"""What an explanation costs: seconds, network passes and memory, measured around the explainer's call."""

import contextlib
import resource
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import torch

from xbench.models import Model


@dataclass
class Meter:
    """Running sums over the calls it is wrapped around.

    Attributes
    ----------
    seconds
        Wall time, the device idle at both ends.
    images, forwards, backwards
        Images explained, images sent through the network, gradients sent back.
    peak_bytes
        The most device memory held during a call; on the CPU, the most the process ever held.
    """

    model: Model
    seconds: float = 0.0
    images: int = 0
    forwards: int = 0
    backwards: int = 0
    peak_bytes: int = 0

    @contextlib.contextmanager
    def explaining(self, images: int) -> Iterator[None]:
        """Count what happens inside as the explanation of that many images."""
        cuda = self.model.device.type == "cuda"
        if cuda:
            torch.cuda.synchronize(self.model.device)
            torch.cuda.reset_peak_memory_stats(self.model.device)
        before = self.model.passes.forwards, self.model.passes.backwards
        start = time.perf_counter()
        yield
        if cuda:
            torch.cuda.synchronize(self.model.device)
        self.seconds += time.perf_counter() - start
        self.images += images
        self.forwards += self.model.passes.forwards - before[0]
        self.backwards += self.model.passes.backwards - before[1]
        self.peak_bytes = max(self.peak_bytes, self._peak(cuda))

    def _peak(self, cuda: bool) -> int:
        if cuda:
            return torch.cuda.max_memory_allocated(self.model.device)
        unit = 1 if sys.platform == "darwin" else 1024
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit

    def total(self) -> dict[str, Any]:
        """Return the sums as JSON."""
        return {
            "seconds": self.seconds,
            "images": self.images,
            "forwards": self.forwards,
            "backwards": self.backwards,
            "peak_bytes": self.peak_bytes,
            "device": device_name(self.model.device),
            "torch": torch.__version__,
        }


def added(one: Mapping[str, Any], other: Mapping[str, Any]) -> dict[str, Any]:
    """Return what two parts of a slice cost together: sums, the largest peak, the fewest images a pass."""
    chosen: dict[str, Callable[..., Any]] = {"peak_bytes": max, "images_a_pass": min}

    def together(name: str, value: Any) -> Any:
        if name not in one or isinstance(value, str):
            return value
        return chosen[name](one[name], value) if name in chosen else one[name] + value

    return {name: together(name, value) for name, value in other.items()}


def device_name(device: torch.device) -> str:
    """Return a device as people know it."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    return f"cpu, {torch.get_num_threads()} threads"
