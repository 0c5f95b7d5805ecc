"""How good the classifier itself is."""

from collections.abc import Callable

from torch import Tensor

from xbench.scene import Scene

Scores = dict[str, Tensor]


def accuracy() -> Callable[[Scene], Scores]:
    """Return the metric: [B] 1 where the largest logit is the label's, else 0."""
    return lambda scene: {"accuracy": (scene.backdrop.clean_logits.argmax(dim=1) == scene.batch.label).double()}


def auroc() -> Callable[[Scene], Scores]:
    """Return the metric: [B] the second class's log-odds against the first, whose ROC curve is taken over all samples."""

    def measure(scene: Scene) -> Scores:
        # The difference of logits ranks as the probability does, but does not saturate at 1.
        logits = scene.backdrop.clean_logits.double()
        return {"auroc": logits[:, 1] - logits[:, 0]}

    return measure
