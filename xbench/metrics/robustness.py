"""Does the map stay the same where nothing of meaning changes: a little noise, a shift of the image?"""

from collections.abc import Callable
from dataclasses import replace

import torch
from torch import Tensor
from torch.nn import functional as F

from xbench.errors import Unsupported
from xbench.metrics.ranks import spearman
from xbench.perturb import levels
from xbench.scene import Scene
from xbench.tensors import Batch

Scores = dict[str, Tensor]
Metric = Callable[[Scene], Scores]


def max_sensitivity(radius: float, draws: int) -> Metric:
    """Return the metric: [B] the largest |Phi(x + d) - Phi(x)| / |Phi(x)| over random d, less is better.

    d is uniform on [-radius, radius] at every pixel and channel; x + d is cut to [0,1]; norms are Euclidean over the raw map,
    the target stays. NaN where the map is all 0, or the method has no answer for some x + d. ``draws`` explanations an image;
    the explainer's own noise is the same in all, so that one that is nothing else scores 0.

    Source: Yeh, Hsieh, Suggala, Inouye, Ravikumar, NeurIPS 2019, by samples and relative, as in Captum.

    Raises
    ------
    ValueError
        The radius is not above 0, or there is no draw.
    """
    if not radius > 0:
        raise ValueError(f"radius={radius}: a radius above 0 is needed, in units of the image's range [0,1]")
    if draws < 1:
        raise ValueError(f"draws={draws}: at least one is needed")

    def measure(scene: Scene) -> Scores:
        batch, clean = scene.batch, scene.explanation.attribution.flatten(1).double()
        size, moved = clean.norm(dim=1), []
        for draw in range(draws):
            noise = scene.backdrop.uniform("sensitivity", draw)
            image = (batch.image + radius * noise.to(batch.image)).clamp(0, 1)
            other = scene.explain(replace(batch, image=image))
            far = (other.attribution.flatten(1).double() - clean).norm(dim=1)
            moved.append(far.masked_fill(~other.answered, float("nan")))
        worst = torch.stack(moved).amax(dim=0) / size  # one draw without an answer leaves the worst unknown
        return {"max_sensitivity": worst.masked_fill(size == 0, float("nan"))}

    return measure


def shift_stability(pixels: int) -> Metric:
    """Return the metric: [B] does the map move with the image? Spearman's correlation in [-1,1], mean over four shifts.

    The image, and all truth beside it, is moved by ``pixels`` up, down, left and right, its border repeated; the map of the
    moved image is compared with the moved map where both see the image. NaN where a map is the same everywhere or missing.

    Raises
    ------
    ValueError
        The shift is not 1 or more.
    Unsupported
        Raised by the metric: the shift leaves less than half of the image in view.
    """
    if pixels < 1:
        raise ValueError(f"pixels={pixels}: a shift of 1 or more is needed")

    def measure(scene: Scene) -> Scores:
        height, width = scene.batch.image.shape[2:]
        if 2 * pixels > min(height, width):
            raise Unsupported(f"pixels={pixels} moves images of {height} x {width} half out of view; less is needed")
        found = []
        for down, right in ((pixels, 0), (-pixels, 0), (0, pixels), (0, -pixels)):
            other = scene.explain(_moved(scene.batch, down, right))
            maps = (scene.explanation.attribution, other.attribution)
            here, there = (levels(each).view(-1, height, width) for each in maps)
            here = here[:, max(0, -down) : height - max(0, down), max(0, -right) : width - max(0, right)]
            there = there[:, max(0, down) : height - max(0, -down), max(0, right) : width - max(0, -right)]
            found.append(spearman(here.flatten(1), there.flatten(1)).masked_fill(~other.answered, float("nan")))
        return {"shift_stability": torch.stack(found).mean(dim=0)}

    return measure


def _moved(batch: Batch, down: int, right: int) -> Batch:
    """Return the samples moved by whole pixels, their borders repeated."""
    height, width = batch.image.shape[2:]
    room = (max(0, right), max(0, -right), max(0, down), max(0, -down))

    def move(image: Tensor | None) -> Tensor | None:
        if image is None:
            return None
        four = image if image.ndim == 4 else image[:, None]
        wide = F.pad(four.float(), room, mode="replicate")
        part = wide[:, :, max(0, -down) : max(0, -down) + height, max(0, -right) : max(0, -right) + width]
        return (part if image.ndim == 4 else part[:, 0]).to(image.dtype)

    image = move(batch.image)
    assert image is not None
    return replace(
        batch,
        image=image,
        mask=move(batch.mask),
        counterfactual=move(batch.counterfactual),
        shortcut=move(batch.shortcut),
        swapped=move(batch.swapped),
    )
