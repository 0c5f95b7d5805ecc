"""How simple is the map? Few pixels that hold all evidence, or evidence everywhere; says nothing of whether it is right."""

from collections.abc import Callable

import torch
from torch import Tensor

from xbench.perturb import sort_rows
from xbench.scene import Scene

Scores = dict[str, Tensor]
Metric = Callable[[Scene], Scores]


def complexity(share: float) -> Metric:
    """Return the metric: three measures [B] of the positive evidence v >= 0 over n pixels; NaN where there is none at all.

    ``sparseness``
        The Gini index sum (2 i - n - 1) v_i / (n sum v), v ascending: 0 for a uniform map, (n - 1)/n for a single pixel
        (Chalasani, Chen, Chowdhury, Wu, Jha, ICML 2020).
    ``entropy``
        -sum q ln q with q = v / sum v, in units of ln n: 0 for a single pixel, 1 for a uniform map (Bhatt, Weller, Moura,
        IJCAI 2020, without the unit).
    ``effective_complexity``
        The share of pixels above ``share`` times the highest: the same for a map and its multiple (Nguyen, Martinez, 2020,
        who take an absolute threshold).

    Raises
    ------
    ValueError
        The share is not in [0, 1).
    """
    if not 0 <= share < 1:
        raise ValueError(f"share={share}: a fraction of the highest pixel from 0 up to, not including, 1 is needed")

    def measure(scene: Scene) -> Scores:
        value = scene.positive
        n, total = value.shape[1], value.sum(dim=1)
        place = torch.arange(1, n + 1, dtype=torch.float64, device=value.device)
        # In float32, as maps are: where none is below 0, the bits as whole numbers have the same order and are sorted sooner.
        ordered = sort_rows(value.float().view(torch.int32)).view(torch.float32).double()
        gini = ordered @ (2 * place - n - 1) / (n * total)
        q = value / total[:, None]
        bits = torch.special.entr(q).sum(dim=1)
        top = value.amax(dim=1, keepdim=True)
        scores = {
            "sparseness": gini,
            "entropy": bits / torch.log(torch.tensor(float(max(n, 2)), dtype=torch.float64)),
            "effective_complexity": (value > share * top).sum(dim=1).double() / n,
        }
        return {name: score.masked_fill(total <= 0, float("nan")) for name, score in scores.items()}

    return measure
