"""How many passes the optimised noise takes at most."""

from typing import Any

BUDGETS = {"draft": (100, 12), "fast": (250, 100), "paper": (15_000, 100)}
"""Steps and draws of the presets."""
_HELD_OUT, _MASKS = 100, 3


def noncontributing(
    shape: tuple[int, int, int], classes: int, *, preset: str, steps: int, draws: int, **_: Any
) -> dict[str, int]:
    """A forward pass for each draw, and one there and back for each output that it moves: all of them at worst.

    On MNIST few are moved: 1,290 forward passes an image by ``draft`` (``python benchmarks/noise.py``).
    """
    most = (steps or BUDGETS[preset][0]) * (draws or BUDGETS[preset][1])
    return {"forwards": most * (1 + classes) + _HELD_OUT + _MASKS, "backwards": most * classes}
