"""Is the class still recognised when relevant pixels are replaced by what their neighbours tell? Remove and debias (ROAD)."""

import math

import torch
from torch import Tensor

from xbench.imputation import LinearImputer
from xbench.scene import Backdrop, Curve, Order, Scene
from xbench.seeds import normal

Scores = dict[str, Tensor | Curve]

_TOGETHER = 2**20
"""Numbers that the copies of images imputed in one go hold, where there are several."""


class Road:
    """What is left of a prediction while pixels are removed and imputed, without a fill's colour or edges to tell where.

    For each share p = 1/(steps+1), ..., steps/(steps+1) the round(p n) first pixels in the map's order (ties drawn from
    the sample's key) are replaced, all channels together, by the weighted means of their neighbours
    (`xbench.imputation`) plus normal noise. It is added in [0,1] space and not clipped; each pixel's is the same at every p
    and for every explainer. ``steps`` forwards an image and explainer.

    ``name``
        [B]: the share of the p at which the target is still the predicted class.
    ``name_prob``
        [B]: the mean over p of the target's probability.

    Each has a curve over the true removed shares, from the untouched image (p = 0, not part of the means) to the last p. A
    blank map removes pixels in random order. No score is ever undefined.

    Source: Rong, Leemann, Borisov, Kasneci, Kasneci, "A consistent and efficient evaluation strategy for attribution
    methods", ICML 2022.

    Parameters
    ----------
    name
        The first score's name.
    order
        ``morf``: the most relevant pixels go first, less is better. ``lerf``: the least, more is better.
    steps
        Shares, 1 or more; 9 are the paper's 10 % to 90 %.
    noise
        Standard deviation, on the scale on which images lie in [0,1]; 0 or more.

    Raises
    ------
    ValueError
        A parameter out of its range; when called, an image so small that the last share is all of it.
    """

    def __init__(self, name: str, order: Order, steps: int, noise: float) -> None:
        if steps < 1:
            raise ValueError(f"steps={steps}: at least one share of the pixels is needed")
        if not 0 <= noise < math.inf:
            raise ValueError(
                f"noise={noise}: a standard deviation of 0 or more is needed, in units of the image's [0,1]"
            )
        if order not in ("morf", "lerf"):
            raise ValueError(f"order={order!r}: morf or lerf is needed")
        self.name, self.order, self.steps, self.noise = name, order, steps, noise

    def __call__(self, scene: Scene) -> Scores:
        """Return {name: [B], name_prob: [B], name.curve: the curve, name_prob.curve: the curve}."""
        n = scene.ranks.shape[1]
        counts = [round(n * i / (self.steps + 1)) for i in range(self.steps + 1)]
        if counts[-1] >= n:
            raise ValueError(
                f"steps={self.steps}: the last share of {n} pixels is all of them, with nothing to impute from"
            )
        rank = scene.ranks if self.order == "morf" else n - 1 - scene.ranks
        with torch.no_grad():
            hit, prob = self._scored(scene, rank, counts[1:])
            clean = scene.backdrop.clean_logits
        target = scene.batch.target
        before = ((clean.argmax(dim=1) == target).double(), scene.backdrop.clean_score.double())
        x = torch.tensor([count / n for count in counts], dtype=torch.float64, device=hit.device)
        found: Scores = {}
        for name, first, values in zip((self.name, f"{self.name}_prob"), before, (hit, prob), strict=True):
            found[name] = values.mean(dim=1)
            found[f"{name}.curve"] = Curve(x, torch.cat([first[:, None], values], dim=1))
        return found

    def _scored(self, scene: Scene, rank: Tensor, counts: list[int]) -> tuple[Tensor, Tensor]:
        """Return [B,steps] float64 twice: whether the target is predicted, and its probability."""
        batch, most = scene.batch, scene.model.batch_size
        height, width = batch.image.shape[2:]
        noise = _noise(scene.backdrop, self.noise)
        impute = LinearImputer()
        hits, probs = [], []
        for start in range(0, len(batch), most):
            chunk = slice(start, start + most)
            image, target, place = batch.image[chunk], batch.target[chunk], rank[chunk].view(-1, height, width)
            found = []
            # Several shares of small images are imputed in one go, before the passes take their memory from the caches.
            for group in torch.tensor(counts, device=rank.device).split(max(1, _TOGETHER // image.numel())):
                copies = len(group)
                removed = (place < group.view(-1, 1, 1, 1)).flatten(0, 1)
                filled = impute(_repeated(image, copies), removed)
                filled.addcmul_(_repeated(noise[chunk], copies), removed[:, None].to(filled))
                found += [scene.model.logits(part) for part in filled.split(most)]
            logits, targets = torch.cat(found), target.repeat(len(counts))
            hits.append((logits.argmax(dim=1) == targets).view(len(counts), -1))
            probs.append(scene.model.pick(logits, targets, "prob").view(len(counts), -1))
        return torch.cat(hits, dim=1).T.double(), torch.cat(probs, dim=1).T.double()


def _repeated(value: Tensor, copies: int) -> Tensor:
    return value if copies == 1 else value.repeat(copies, 1, 1, 1)


def road(steps: int, noise: float) -> Road:
    """Return `Road` with the most relevant pixels removed first: less is better."""
    return Road("road", "morf", steps, noise)


def road_lerf(steps: int, noise: float) -> Road:
    """Return `Road` with the least relevant pixels removed first: more is better."""
    return Road("road_lerf", "lerf", steps, noise)


def _noise(backdrop: Backdrop, deviation: float) -> Tensor:
    """Return [B,C,H,W]: the noise of these samples, drawn once for all explainers."""
    key = f"road/{deviation}"
    if key not in backdrop.memo:
        image = backdrop.batch.image
        backdrop.memo[key] = (deviation * normal(backdrop.batch.keys, "road", image.shape[1:])).to(image)
    return backdrop.memo[key]
