"""Does the model's output follow the pixels that the explanation calls relevant? Areas under perturbation curves."""

from abc import ABC, abstractmethod
from collections.abc import Sequence

import torch
from torch import Tensor

from xbench.metrics.declared.faithfulness import STEPS
from xbench.scene import Curve, Order, Precision, Scene

Scores = dict[str, Tensor | Curve]


class FromCurves(ABC):
    """A metric that reads its scores off perturbation curves.

    A curve of fewer than `STEPS` steps, or in bfloat16, is a shortcut: one sample in 16, chosen by its key, then gets the full
    curve too, and ``<score>.deviation`` [B] says by how much the score differs from the full one's; NaN for the others.

    Parameters
    ----------
    orders
        Which pixels go first, a curve each.
    fill, steps, precision
        What replaces the pixels, in how many steps, and whether the passes on the way run in bfloat16.
    """

    def __init__(self, orders: Sequence[Order], fill: str, steps: int, precision: Precision) -> None:
        if steps < 1:
            raise ValueError(f"steps={steps}: a curve needs at least one step")
        self.orders, self.fill, self.steps, self.precision = orders, fill, steps, precision

    @abstractmethod
    def read(self, *curves: Curve) -> Scores:
        """Return the scores [B] of the curves, one for each order, and under ``<score>.curve`` those worth drawing."""

    def __call__(self, scene: Scene) -> Scores:
        """Return what `read` gives, and deviations of shortcuts."""
        found = self.read(*(scene.curve(order, self.fill, self.steps, self.precision) for order in self.orders))
        if self.steps >= STEPS and self.precision == "float32":
            return found
        rows, steps = scene.watched, max(self.steps, STEPS)
        full: Scores = {}
        if len(rows):
            full = self.read(*(scene.curve(order, self.fill, steps, watched=True) for order in self.orders))
        deviations: Scores = {}
        for name, short in found.items():
            if isinstance(short, Tensor):
                difference = torch.full_like(short, float("nan"))
                if isinstance(exact := full.get(name), Tensor):
                    difference[rows] = short[rows] - exact
                deviations[f"{name}.deviation"] = difference
        return found | deviations


class CurveArea(FromCurves):
    """The area under one curve, [B] in [0,1]; read from the fill to the image where it goes ``backwards``."""

    def __init__(
        self, name: str, order: Order, fill: str, steps: int, precision: Precision, *, backwards: bool
    ) -> None:
        super().__init__((order,), fill, steps, precision)
        self.name, self.backwards = name, backwards

    def read(self, *curves: Curve) -> Scores:
        """Return {name: [B] area, name.curve: the curve}."""
        curve = curves[0].reversed() if self.backwards else curves[0]
        return {self.name: curve.area(), f"{self.name}.curve": curve}


def deletion(fill: str, steps: int, precision: Precision = "float32") -> FromCurves:
    """Return the deletion metric (MoRF): the probability falls early where the map is faithful, so less is better.

    Source: Petsiuk, Das, Saenko, "RISE", BMVC 2018; here with both end points and the true fractions on the x axis.
    """
    return CurveArea("deletion", "morf", fill, steps, precision, backwards=False)


def insertion(fill: str, steps: int, precision: Precision = "float32") -> FromCurves:
    """Return the insertion metric: pixels appear on the fill, the most relevant first; more is better.

    It is computed as LeRF deletion with the same fill, read backwards, which is the same path. Source as `deletion`.
    """
    return CurveArea("insertion", "lerf", fill, steps, precision, backwards=True)


class SymmetricGain(FromCurves):
    """LeRF against MoRF on one fill: what keeping the relevant pixels is worth over removing them.

    ``srg`` [B] in [-1,1] is the area of the LeRF curve less that of the MoRF curve (symmetric relevance gain; Bluecher,
    Vielhaben, Strodthoff, TMLR 2024); its expectation over random orders is 0. ``lerf`` is the former area.
    """

    def read(self, *curves: Curve) -> Scores:
        """Return {srg: [B], lerf: [B], lerf.curve: the curve}."""
        morf, lerf = curves
        return {"srg": lerf.area() - morf.area(), "lerf": lerf.area(), "lerf.curve": lerf}


def srg(fill: str, steps: int, precision: Precision = "float32") -> FromCurves:
    """Return `SymmetricGain`."""
    return SymmetricGain(("morf", "lerf"), fill, steps, precision)


class NormalisedArea(FromCurves):
    """Deletion and insertion on the way from the fill's probability (0) to the image's (1).

    ``normalised_deletion`` and ``normalised_insertion`` [B] are (AUC - p_fill) / (p_image - p_fill) of the MoRF and the
    LeRF curve of one fill, the latter read backwards; NaN where the image's probability is not above the fill's by ``least``,
    for nothing is lost there. ``aopc`` [B] is the mean of p_image - p_k over the points of the MoRF curve, the image's
    own among them (Samek, Binder, Montavon, Lapuschkin, Mueller, TNNLS 2017, by pixels).
    """

    def __init__(self, fill: str, steps: int, least: float, precision: Precision) -> None:
        super().__init__(("morf", "lerf"), fill, steps, precision)
        if not 0 < least <= 1:
            raise ValueError(f"least={least}: a difference of probabilities above 0, up to 1, is needed")
        self.least = least

    def read(self, *curves: Curve) -> Scores:
        """Return {normalised_deletion: [B], normalised_insertion: [B], aopc: [B]}."""
        morf, lerf = curves
        image, fill = morf.y[:, 0], morf.y[:, -1]
        drop = image - fill
        areas = {
            name: ((curve.area() - fill) / drop).masked_fill(drop < self.least, float("nan"))
            for name, curve in (("normalised_deletion", morf), ("normalised_insertion", lerf.reversed()))
        }
        return {**areas, "aopc": (image[:, None] - morf.y).mean(dim=1)}


def normalised_area(fill: str, steps: int, least: float, precision: Precision = "float32") -> FromCurves:
    """Return `NormalisedArea`."""
    return NormalisedArea(fill, steps, least, precision)
