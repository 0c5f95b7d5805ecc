"""Does the model's output follow the pixels that the explanation calls relevant? Areas under perturbation curves."""

from collections.abc import Callable

from torch import Tensor

from xbench.scene import Curve, Order, Scene, Wanted

Scores = dict[str, Tensor | Curve]


class CurveArea:
    """The area under one perturbation curve.

    Parameters
    ----------
    name
        The score's name.
    order, fill, steps
        The path: which pixels first, what replaces them, in how many steps.
    backwards
        Read the path from the fill to the image.
    """

    def __init__(self, name: str, order: Order, fill: str, steps: int, *, backwards: bool) -> None:
        if steps < 1:
            raise ValueError(f"steps={steps}: a curve needs at least one step")
        self.name, self.backwards = name, backwards
        self.wanted: tuple[Wanted, ...] = ((order, fill, steps),)

    def __call__(self, scene: Scene) -> Scores:
        """Return {name: [B] area in [0,1], name.curve: the curve}."""
        curve = scene.curve(*self.wanted[0])
        if self.backwards:
            curve = curve.reversed()
        return {self.name: curve.area(), f"{self.name}.curve": curve}


def deletion(fill: str, steps: int) -> Callable[[Scene], Scores]:
    """Return the deletion metric (MoRF): the probability falls early where the map is faithful, so less is better.

    Source: Petsiuk, Das, Saenko, "RISE", BMVC 2018; here with both end points and the true fractions on the x axis.
    """
    return CurveArea("deletion", "morf", fill, steps, backwards=False)


def insertion(fill: str, steps: int) -> Callable[[Scene], Scores]:
    """Return the insertion metric: pixels appear on the fill, the most relevant first; more is better.

    It is computed as LeRF deletion with the same fill, read backwards, which is the same path. Source as `deletion`.
    """
    return CurveArea("insertion", "lerf", fill, steps, backwards=True)
