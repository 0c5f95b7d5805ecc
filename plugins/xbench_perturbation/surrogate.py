"""LIME and KernelSHAP: linear surrogates of the score as a function of which superpixels are shown."""

from typing import Literal

import torch
from torch import Tensor

from xbench.errors import Unsupported
from xbench.models import Model
from xbench.seeds import sample_keys, uniform
from xbench.tensors import Batch, Explainer
from xbench_perturbation.coalitions import fewest, shapley_coalitions
from xbench_perturbation.passes import Score, pair_scores, plain_fill
from xbench_perturbation.segments import Superpixels, cut, segment_means, sizes_of

Fill = Literal["segment", "zero", "mean"]


def lime(
    model: Model,
    score: Score,
    n: int,
    superpixels: Superpixels,
    segments: int,
    fill: Fill,
    kernel_width: float,
    ridge: float,
    draw: int,
) -> Explainer:
    """Return LIME: each pixel gets its superpixel's coefficient in `lime_fit` (Ribeiro, Singh, Guestrin 2016).

    ``n`` samples show each superpixel with odds 1/2, the first one all of them; they are the same for every image, batch
    and seed, and ``draw`` changes them. ``n`` forwards an image. The authors' code takes 1,000 samples and superpixels of
    quickshift; half of that, and a segmentation of our own, are for speed.

    Parameters
    ----------
    model
        The classifier to explain.
    score
        Whether the target's logit is fitted or its probability (as in the authors' code).
    n
        Samples, 2 or more.
    superpixels, segments
        How the image is cut, and into at most how many pieces (`xbench_perturbation.segments.cut`).
    fill
        What a hidden superpixel shows: ``mean``, the image's mean colour; ``segment``, its own, as in the authors' code;
        or ``zero``, black. Superpixels that follow the strokes of a drawing hide nothing in their own colour: on 20 digits
        deletion was .72 with ``segment``, .12 with ``mean`` and .73 for random maps.
    kernel_width, ridge
        Of `lime_fit`, above 0; the authors' are .25 and 1.
    draw
        Any whole number; another one gives other samples.

    Returns
    -------
    Explainer of signed maps [B,H,W] float32, in units of the score.

    Raises
    ------
    Unsupported
        When a number is out of range.
    """
    _check_segments("lime", segments)
    if n < 2:
        raise Unsupported(f"perturbation/lime: n is {n}; at least 2 samples are needed")
    for name, value in (("kernel_width", kernel_width), ("ridge", ridge)):
        if not value > 0:
            raise Unsupported(f"perturbation/lime: {name} is {value}; a number above 0 is needed")

    def explain(batch: Batch) -> Tensor:
        game = Game(batch, superpixels, segments, fill)
        noise = uniform(sample_keys(draw, ("masks",)), "perturbation/lime", (n, game.players))[0]
        present = noise.to(batch.image.device) < 0.5
        present[0] = True
        scores = game.scores(model, present, score)
        return game.spread(lime_fit(present, scores, game.used, kernel_width, ridge))

    return explain


def kernel_shap(
    model: Model, score: Score, n: int, superpixels: Superpixels, segments: int, fill: Fill, draw: int
) -> Explainer:
    """Return KernelSHAP: each pixel gets its superpixel's Shapley value by `shapley_fit` (Lundberg and Lee 2017).

    The coalitions of `shapley_coalitions` are the same for every image, batch and seed; ``draw`` changes the random ones.
    The values of all superpixels add up to s(x) - s(x with all of them hidden). With 2**M or fewer coalitions allowed by
    ``n`` they are the Shapley values themselves. At most ``n`` forwards an image; the authors' code takes 2 M + 2,048.

    Parameters
    ----------
    model
        The classifier to explain.
    score
        Whether s is the target's logit or its probability.
    n
        The most coalitions, at least two for each superpixel and two more.
    superpixels, segments
        How the image is cut, and into at most how many pieces M (`xbench_perturbation.segments.cut`).
    fill
        What a hidden superpixel shows: ``mean``, the image's mean colour; ``segment``, its own; or ``zero``, black.
    draw
        Any whole number; another one gives other coalitions.

    Returns
    -------
    Explainer of signed maps [B,H,W] float32, in units of the score.

    Raises
    ------
    Unsupported
        When a number is out of range.
    """
    _check_segments("kernel_shap", segments)
    if n < fewest(segments):
        raise Unsupported(
            f"perturbation/kernel_shap: n is {n}; {segments} superpixels need at least {fewest(segments)} coalitions"
        )

    def explain(batch: Batch) -> Tensor:
        game = Game(batch, superpixels, segments, fill)
        present, weights = shapley_coalitions(game.players, n, draw)
        ends = torch.tensor([[True], [False]]).expand(2, game.players)
        scores = game.scores(model, torch.cat([ends, present]).to(batch.image.device), score)
        return game.spread(shapley_fit(present.to(scores.device), weights.to(scores), scores, game.used))

    return explain


class Game:
    """Images cut into superpixels, the players, each shown or hidden.

    Attributes
    ----------
    players : int
        M, the same for all images.
    labels : Tensor
        [B,H,W] int64 in 0 .. M-1.
    used : Tensor
        [B,M] bool: False for a player without pixels, which is none.
    """

    def __init__(self, batch: Batch, kind: Superpixels, segments: int, fill: Fill) -> None:
        self.batch = batch
        self.labels, self.players = cut(batch.image, kind, segments)
        self.used = sizes_of(self.labels, self.players) > 0
        if fill == "segment":
            self.hidden = segment_means(batch.image, self.labels, self.players)
        else:
            self.hidden = plain_fill(fill, batch.image)

    def scores(self, model: Model, present: Tensor, score: Score) -> Tensor:
        """Return [B,N] float64: the score of each image with the superpixels of present [N,M] bool shown."""
        image, labels = self.batch.image, self.labels.flatten(1)

        def partly(row: Tensor, number: Tensor) -> Tensor:
            shown = present[number].gather(1, labels[row]).view(-1, 1, *image.shape[-2:])
            return torch.where(shown, image[row], self.hidden[row])

        return pair_scores(model, self.batch.target, len(present), partly, score).double()

    def spread(self, values: Tensor) -> Tensor:
        """Return the map [B,H,W] in which every pixel has the value [B,M] of its superpixel."""
        return values.gather(1, self.labels.flatten(1)).view_as(self.labels).to(self.batch.image.dtype)


def lime_fit(present: Tensor, scores: Tensor, used: Tensor, kernel_width: float, ridge: float) -> Tensor:
    """Return LIME's coefficients: the ridge regression of scores on what is present, near samples weighing more.

    Minimises sum_i w_i (s_i - b - c . z_i)^2 + ridge |c|^2 over c and b, with w = sqrt(exp(-d^2 / kernel_width^2)) and d
    the cosine distance 1 - sqrt(k / M) between a sample that shows k of M superpixels and the one that shows all of them
    (the authors' code: lime/lime_image.py, lime_base.py).

    Parameters
    ----------
    present
        [N,M] bool.
    scores
        [B,N] float64.
    used
        [B,M] bool: which players an image has.
    kernel_width, ridge
        Above 0.

    Returns
    -------
    [B,M] float64, 0 for players that an image does not have.
    """
    shown = present.to(scores)
    members = used.to(scores)
    distance = 1 - (members @ shown.T / members.sum(dim=1, keepdim=True)).sqrt()
    weights = torch.exp(-(distance.square()) / kernel_width**2).sqrt()
    total = weights.sum(dim=1, keepdim=True)
    # Centred by the weighted means, the intercept drops out; per unit of weight, the ridge is divided too.
    weights = weights / total
    centre = weights @ shown
    moment = shown.T @ (weights[:, :, None] * shown) - centre[:, :, None] * centre[:, None]
    right = (weights * scores) @ shown - centre * (weights * scores).sum(dim=1, keepdim=True)
    penalty = ridge / total[:, :, None] * torch.eye(shown.shape[1]).to(moment)
    solution: Tensor = torch.linalg.solve(_restricted(moment + penalty, used), right * members)
    return solution


def shapley_fit(present: Tensor, weights: Tensor, scores: Tensor, used: Tensor) -> Tensor:
    """Return the values that fit the scores best and add up exactly: KernelSHAP's regression.

    Minimises sum_S w_S (s_S - s_0 - sum_(i in S) v_i)^2 subject to sum_i v_i = s_all - s_0, through the linear system of
    its Lagrange function (Lundberg and Lee 2017, theorem 2; Covert and Lee 2021, eq. 7).

    Parameters
    ----------
    present, weights
        [N,M] bool and [N] float64: `shapley_coalitions`.
    scores
        [B,N+2] float64: with everything shown, with nothing shown, then of each coalition.
    used
        [B,M] bool: which players an image has.

    Returns
    -------
    [B,M] float64, 0 for players that an image does not have.
    """
    shown, members = present.to(scores), used.to(scores)
    gain = scores[:, 2:] - scores[:, 1:2]
    size, players = members.shape
    moment = (shown.T @ (weights[:, None] * shown)).expand(size, -1, -1)
    system = torch.zeros(size, players + 1, players + 1).to(scores)
    system[:, :-1, :-1] = _restricted(moment, used)
    system[:, :-1, -1] = system[:, -1, :-1] = members
    right = torch.cat([(weights * gain) @ shown * members, scores[:, :1] - scores[:, 1:2]], dim=1)
    solution: Tensor = torch.linalg.solve(system, right)
    return solution[:, :-1]


def _restricted(matrix: Tensor, used: Tensor) -> Tensor:
    """Return matrices [B,M,M] with the rows and columns of unused players those of the unit matrix."""
    members = used.to(matrix)
    return matrix * members[:, :, None] * members[:, None] + torch.diag_embed(1 - members)


def _check_segments(name: str, segments: int) -> None:
    if segments < 1:
        raise Unsupported(f"perturbation/{name}: segments is {segments}; at least 1 superpixel is needed")
