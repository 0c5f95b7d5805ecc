"""How many passes the perturbing explainers take: forward ones, for none looks at gradients."""

from typing import Any

Shape = tuple[int, int, int]


def rise(shape: Shape, classes: int, *, n: int, **_: Any) -> dict[str, int]:
    """A pass for each mask."""
    return {"forwards": n, "backwards": 0}


def lime(shape: Shape, classes: int, *, n: int, **_: Any) -> dict[str, int]:
    """A pass for each sample."""
    return {"forwards": n, "backwards": 0}


def kernel_shap(shape: Shape, classes: int, *, n: int, **_: Any) -> dict[str, int]:
    """A pass for each coalition, of which there are fewer where few superpixels have few."""
    return {"forwards": n, "backwards": 0}


def occlusion(shape: Shape, classes: int, *, window: int, stride: int, **_: Any) -> dict[str, int]:
    """A pass for each place of the window, and one of the image."""
    height, width = shape[1:]
    size = window or max(1, round(min(height, width) / 7))
    step = stride or max(1, size // 2)
    down, across = (-(-max(0, side - size) // step) + 1 for side in (height, width))
    return {"forwards": down * across + 1, "backwards": 0}
