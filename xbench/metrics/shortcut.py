"""Does the network rest on a planted shortcut, and does the map show it?"""

from collections.abc import Callable

import torch
from torch import Tensor

from xbench.metrics.localisation import mass_inside, scored
from xbench.scene import Scene

Scores = dict[str, Tensor]


def shortcut_share() -> Callable[[Scene], Scores]:
    """Return the metric: [B] share of the positive attribution that lies on the shortcut.

    It describes network and map together, so neither direction is better: a faithful map shows a large share where the
    network rests on the shortcut, and a small one where it does not. Chance is the shortcut's share of the image.
    """

    def measure(scene: Scene) -> Scores:
        shortcut = scene.batch.shortcut
        assert shortcut is not None, "the plan offers this metric only where a shortcut is known"
        return scored(scene, "shortcut_share", shortcut.flatten(1), mass_inside)

    return measure


def swap_accuracy() -> Callable[[Scene], Scores]:
    """Return the metric: the classifier on the same samples with the shortcut of another class.

    ``swap_accuracy`` [B] is 1 where the largest logit is still the label's; ``swap_flip_rate`` [B] is 1 where the swap
    changed the prediction. A network that does not look at the shortcut keeps its accuracy and flips nothing.
    """

    def measure(scene: Scene) -> Scores:
        swapped = scene.batch.swapped
        assert swapped is not None, "the plan offers this metric only where samples exist with a swapped shortcut"
        with torch.no_grad():
            after = scene.model.logits(swapped).argmax(dim=1)
        before = scene.backdrop.clean_logits.argmax(dim=1)
        return {
            "swap_accuracy": (after == scene.batch.label).double(),
            "swap_flip_rate": (after != before).double(),
        }

    return measure
