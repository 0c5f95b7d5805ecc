"""Does a map keep what its method promises?"""

from collections.abc import Callable

import torch
from torch import Tensor

from xbench.errors import Unsupported
from xbench.scene import Scene

Scores = dict[str, Tensor]
Metric = Callable[[Scene], Scores]

_NOTHING = 1e-6


def completeness() -> Metric:
    """Return the metric: [B] how far the map's sum is from what it should be, |sum - total| / (|sum| + |total|) in [0,1].

    0 where they are equal, 1 where the map is blank or has the wrong sign; a map c > 0 times as large as it should be scores
    |c - 1| / (c + 1). NaN where sum and total are both below 1e-6, for then there was nothing to hand out. The sum is that
    of the raw map, in float64.

    The total [B] is what the explainer says that it hands out, in ``Explanation.extras["total"]``: the difference of the
    score from that of a baseline for integrated gradients and DeepLIFT, the score itself for relevance propagation.

    Source: Sundararajan, Taly, Yan, "Axiomatic attribution for deep networks", ICML 2017 (completeness; in relevance
    propagation the same is called conservation). They ask whether the two are equal; the measure is this harness's own.

    Raises
    ------
    Unsupported
        Raised by the metric: the explainer gives no total.
    ValueError
        Raised by the metric: the total is not one number a sample.
    """

    def measure(scene: Scene) -> Scores:
        total = scene.explanation.extras.get("total")
        if total is None:
            raise Unsupported("the explainer promises nothing that its maps add up to (it gives no extra named total)")
        if total.shape != (len(scene.batch),):
            raise ValueError(f"the extra total has shape {tuple(total.shape)}; ({len(scene.batch)},) is needed")
        whole = scene.explanation.attribution.flatten(1).sum(dim=1, dtype=torch.float64)
        total = total.detach().to(whole)
        size, promised = whole.abs(), total.abs()
        error = (whole - total).abs() / (size + promised)
        return {"completeness_error": error.masked_fill(torch.maximum(size, promised) < _NOTHING, float("nan"))}

    return measure
