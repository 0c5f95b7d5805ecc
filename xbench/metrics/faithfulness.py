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
        _steps(steps)
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


class SymmetricGain:
    """LeRF against MoRF on one fill: what keeping the relevant pixels is worth over removing them.

    ``srg`` [B] in [-1,1] is the area of the LeRF curve less that of the MoRF curve (symmetric relevance gain; Bluecher,
    Vielhaben, Strodthoff, TMLR 2024); its expectation over random orders is 0. ``lerf`` is the former area.
    """

    def __init__(self, fill: str, steps: int) -> None:
        _steps(steps)
        self.wanted: tuple[Wanted, ...] = (("morf", fill, steps), ("lerf", fill, steps))

    def __call__(self, scene: Scene) -> Scores:
        """Return {srg: [B], lerf: [B], lerf.curve: the curve}."""
        morf, lerf = (scene.curve(*wanted) for wanted in self.wanted)
        return {"srg": lerf.area() - morf.area(), "lerf": lerf.area(), "lerf.curve": lerf}


def srg(fill: str, steps: int) -> Callable[[Scene], Scores]:
    """Return `SymmetricGain`."""
    return SymmetricGain(fill, steps)


class NormalisedArea:
    """Deletion and insertion on the way from the fill's probability (0) to the image's (1).

    ``normalised_deletion`` and ``normalised_insertion`` [B] are (AUC - p_fill) / (p_image - p_fill) of the MoRF and the
    LeRF curve of one fill, the latter read backwards; NaN where the image's probability is not above the fill's by ``least``,
    for nothing is lost there. ``aopc`` [B] is the mean of p_image - p_k over the points of the MoRF curve, the image's
    own among them (Samek, Binder, Montavon, Lapuschkin, Mueller, TNNLS 2017, by pixels).
    """

    def __init__(self, fill: str, steps: int, least: float) -> None:
        _steps(steps)
        if not 0 < least <= 1:
            raise ValueError(f"least={least}: a difference of probabilities above 0, up to 1, is needed")
        self.least = least
        self.wanted: tuple[Wanted, ...] = (("morf", fill, steps), ("lerf", fill, steps))

    def __call__(self, scene: Scene) -> Scores:
        """Return {normalised_deletion: [B], normalised_insertion: [B], aopc: [B]}."""
        morf, lerf = (scene.curve(*wanted) for wanted in self.wanted)
        image, fill = morf.y[:, 0], morf.y[:, -1]
        drop = image - fill
        areas = {
            name: ((curve.area() - fill) / drop).masked_fill(drop < self.least, float("nan"))
            for name, curve in (("normalised_deletion", morf), ("normalised_insertion", lerf.reversed()))
        }
        return {**areas, "aopc": (image[:, None] - morf.y).mean(dim=1)}


def normalised_area(fill: str, steps: int, least: float) -> Callable[[Scene], Scores]:
    """Return `NormalisedArea`."""
    return NormalisedArea(fill, steps, least)


def _steps(steps: int) -> None:
    if steps < 1:
        raise ValueError(f"steps={steps}: a curve needs at least one step")
