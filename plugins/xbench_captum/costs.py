"""How many passes Captum's explainers take, where parameters decide."""

from typing import Any

Shape = tuple[int, int, int]
_PROBES = 3
"""Passes in which DeepLIFT looks whether it has a rule for all that the network does."""


def integrated_gradients(shape: Shape, classes: int, *, steps: int, **_: Any) -> dict[str, int]:
    """A pass there and back for each point of the path; two forward for what the map must add up to."""
    return {"forwards": steps + 2, "backwards": steps}


def gradient_shap(shape: Shape, classes: int, *, n: int, **_: Any) -> dict[str, int]:
    """A pass there and back for each fill."""
    return {"forwards": n, "backwards": n}


def deeplift_shap(shape: Shape, classes: int, *, n: int, **_: Any) -> dict[str, int]:
    """Image and fill there and back, for each fill."""
    return {"forwards": 2 * n + _PROBES, "backwards": 2 * n}


def feature_ablation(shape: Shape, classes: int, *, cells: int, **_: Any) -> dict[str, int]:
    """A pass for each cell, and one of the image."""
    return {"forwards": cells**2 + 1, "backwards": 0}


def shapley_sampling(shape: Shape, classes: int, *, cells: int, n: int, **_: Any) -> dict[str, int]:
    """A pass for each cell, and one of the fill, in every order; two for what the map must add up to."""
    return {"forwards": n * (cells**2 + 1) + 2, "backwards": 0}
