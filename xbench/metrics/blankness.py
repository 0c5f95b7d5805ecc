"""Does the map show anything at all, and if not, why?"""

from collections.abc import Callable

import torch
from torch import Tensor

from xbench.perturb import LEVELS
from xbench.scene import Scene

Scores = dict[str, Tensor]
CAUSES = ("vanished", "all_negative", "constant", "nonfinite")


def blankness(tolerance: float) -> Callable[[Scene], Scores]:
    """Return the metric: [B] 1 where a map is blank, and 1 for its one cause.

    A map L is blank where it is not finite, or where max L - min L <= max(``tolerance`` * R, max|L| / 65,536). R is what a
    full map of this image, target and network reaches: the explainer says so in ``extras["reference"]`` (Grad-CAM: the
    maximum of its map for the logit); of any other explainer R is max|L|. The last term is the step to which the harness
    rounds a map before it ranks it. The causes, of which the first that holds counts:

    ``nonfinite``
        The map holds NaN or infinite values.
    ``constant``
        It has the same value everywhere, and that is not 0 on the scale of R.
    ``all_negative``
        The channels have weight (``extras["weight"]`` = max|alpha| is above ``tolerance`` times that of the full map,
        ``extras["reference_weight"]``), but their sum is nowhere positive (``extras["signed_max"]`` <= 0): the ReLU leaves
        nothing.
    ``vanished``
        All that is left: the weights, or the map, have faded below the tolerance.

    Source: the count of maps "in which nothing is visualised", Sakai, Takenaka, JSAI 2019, with the tolerance that a
    count by eye leaves out.

    Raises
    ------
    ValueError
        The tolerance is not in [0, 1).
    """
    if not 0 <= tolerance < 1:
        raise ValueError(f"tolerance={tolerance}: a fraction of the full map from 0 up to, not including, 1 is needed")

    def measure(scene: Scene) -> Scores:
        explanation, extras = scene.explanation, scene.explanation.extras
        flat = explanation.attribution.flatten(1).double()
        peak, extent = flat.abs().amax(dim=1), flat.amax(dim=1) - flat.amin(dim=1)
        full = extras["reference"].double().to(peak) if "reference" in extras else peak
        nonfinite = torch.zeros_like(peak, dtype=torch.bool)
        if explanation.nonfinite is not None:
            nonfinite = explanation.nonfinite
        blank = nonfinite | (extent <= torch.maximum(tolerance * full, peak / LEVELS))
        constant = (peak > 0) & (peak > tolerance * full) & (extent <= peak / LEVELS)
        negative = torch.zeros_like(blank)
        if {"weight", "reference_weight", "signed_max"} <= extras.keys():
            weighs = extras["weight"].to(peak) > tolerance * extras["reference_weight"].to(peak)
            negative = weighs & (extras["signed_max"].to(peak) <= 0)
        scores, left = {"blank_rate": blank}, blank
        for name, holds in (("nonfinite", nonfinite), ("constant", constant), ("all_negative", negative)):
            scores[f"{name}_rate"] = left & holds
            left = left & ~holds
        scores["vanished_rate"] = left
        return {name: value.double() for name, value in scores.items()}

    return measure
