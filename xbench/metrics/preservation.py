"""Does the prediction survive noise on the pixels that the map calls irrelevant, and only there?"""

from collections.abc import Callable

import torch
from torch import Tensor

from xbench.metrics.localisation import object_mask, scored, top_k_precision
from xbench.perturb import replaced_in_passes, step_counts
from xbench.scene import Scene

Scores = dict[str, Tensor]
Metric = Callable[[Scene], Scores]

EXTRAS = {
    "noise_objective": "objective",
    "noise_coverage": "coverage",
    "noise_violation": "violation",
    "mask_agreement": "masked_agrees",
    "reference_gap": "reference_gap",
}


def preservation(draws: int, steps: int, amplitude: float) -> Metric:
    """Return the metric: what uniform noise on a growing share q of the pixels does to the prediction.

    With the pixels in order of evidence, the least first, the share q of them gets noise ``amplitude`` * U, U uniform on
    [-1,1], each channel its own; the image is not clipped afterwards. agree(q) is the share of draws after which the
    predicted class is still that of the untouched image; drift(q) the mean over classes and draws of |p_k - p'_k|.

    ``preservation_auc``
        The area under agree(q) for q from 0 to 1, by the trapezoid rule on the true fractions. Of a random order it is
        what the `random` control scores. More is better.
    ``preservation_reversed_auc``
        The same with the pixels of most evidence first; less is better.
    ``preservation_gap``
        The first less the second, in [-1,1]; 0 on average for a map that knows nothing.
    ``preservation_drift``
        The area under drift(q), the least evidence first; less is better.

    A sample whose prediction is not its label has none of them (S1 explains images that are classified correctly). Noise
    comes from the sample's key: it is the same for every q, both orders and all explainers, so that their differences do
    not carry it. (2 ``steps`` - 1) * ``draws`` forwards an image; at q=0 nothing moves, at q=1 both orders are one.

    Of 100 digits, mnist/s1 and five explainers, with 4 draws, the gap of one sample has a standard deviation of .04 to .06
    over other draws, the mean gap of the 100 one of about .006. That network bears noise of amplitude 1 well: a random order
    has an area of .98, a gradient .99; at amplitude 2 they are .79 and .88, and maps differ by more than their errors.

    Source: the noise of Ikeno, Hara, Washio, "Highlighting non-contributing pixels for visual explanation of CNNs",
    JSAI 2018, with any explainer's order of pixels in place of an optimised amplitude.

    Parameters
    ----------
    draws
        Draws of noise a sample, 1 or more.
    steps
        Points q > 0, evenly spread, 1 or more.
    amplitude
        Of the noise, above 0, on the scale on which images lie in [0,1].

    Raises
    ------
    ValueError
        A parameter is out of range.
    """
    if draws < 1 or steps < 1:
        raise ValueError(f"draws={draws}, steps={steps}: at least one draw and one step are needed")
    if not amplitude > 0:
        raise ValueError(f"amplitude={amplitude}: noise of an amplitude above 0 is needed")

    def measure(scene: Scene) -> Scores:
        n = scene.ranks.shape[1]
        counts = step_counts(n, steps)
        right = (scene.backdrop.clean_logits.argmax(dim=1) == scene.batch.label).nonzero().squeeze(1)
        agree, drift = _noised(scene, right, counts[1:], draws, amplitude)
        x = torch.tensor([count / n for count in counts], dtype=torch.float64, device=agree.device)

        def area(start: float, rest: Tensor) -> Tensor:
            y = torch.cat([torch.full_like(rest[:, :1], start), rest], dim=1)
            known = torch.trapezoid(y, x, dim=1)
            return known.new_full((len(scene.batch),), float("nan")).index_copy(0, right, known)

        # Nothing has moved at q=0.
        least, most = area(1, agree[0]), area(1, agree[1])
        return {
            "preservation_auc": least,
            "preservation_reversed_auc": most,
            "preservation_gap": least - most,
            "preservation_drift": area(0, drift[0]),
        }

    return measure


def background_precision() -> Metric:
    """Return the metric: [B] expected share of the k pixels of least evidence outside the mask, k = their number; chance k/n.

    It follows from the localisation precision P, with m pixels in the mask: 1 - m (1 - P) / k, ties included; it says the
    same of an image, but a mean over images weighs them otherwise. NaN where the sample has no mask or no background.
    """

    def precision(scene: Scene, background: Tensor) -> Tensor:
        k = background.sum(dim=1)
        missed = (background.shape[1] - k) * (1 - top_k_precision(scene, ~background))
        return 1 - missed / k

    def measure(scene: Scene) -> Scores:
        mask = object_mask(scene)
        background = ~mask & mask.any(dim=1, keepdim=True)
        return scored(scene, "background_precision", background, precision)

    return measure


def noise_level() -> Metric:
    """Return the metric: [B] what an explainer that optimises noise says of its optimum; NaN for any other.

    ``noise_objective``
        The objective E(w) over fresh draws (extra ``objective``); less is better, below 0 in the explainer's own terms.
    ``noise_coverage``
        The mean of w in [0,1] (``coverage``).
    ``noise_violation``
        The share of fresh draws in which some output moves further than allowed (``violation``); less is better.
    ``mask_agreement``
        1 where the prediction for the image itself survives the explainer's mask units (``masked_agrees``).
    ``reference_gap``
        By how much those move an output of the image itself, at most (``reference_gap``).
    """

    def measure(scene: Scene) -> Scores:
        nothing = torch.full((len(scene.batch),), float("nan"), dtype=torch.float64, device=scene.batch.image.device)
        extras = scene.explanation.extras
        return {score: extras[name].to(nothing) if name in extras else nothing for score, name in EXTRAS.items()}

    return measure


def _noised(scene: Scene, rows: Tensor, counts: list[int], draws: int, amplitude: float) -> tuple[Tensor, Tensor]:
    """Return agree and drift, both [2,R,len(counts)] float64, of the R samples ``rows``: least evidence first, most first."""
    model, clean = scene.model, scene.backdrop.clean_logits[rows]
    image = scene.batch.image[rows]
    size, _, height, width = image.shape
    most = scene.ranks[rows].view(size, 1, height, width)
    # At q=1 both orders are one.
    orders = ((height * width - 1 - most, counts), (most, counts[:-1]))
    p = model.prob(clean)
    agree, drift = (torch.zeros(2 * len(counts) - 1, size, dtype=torch.float64, device=image.device) for _ in range(2))
    for draw in range(draws if size else 0):
        noisy = image + scene.backdrop.uniform("preservation", draw)[rows].to(image) * amplitude
        passed = []
        for place, some in orders:
            for copies in replaced_in_passes(image, noisy, place, some, model.batch_size):
                with torch.no_grad():
                    passed += [model.logits(changed) for changed in copies.flatten(0, 1).split(model.batch_size)]
        logits = torch.cat(passed)
        agree += (logits.argmax(dim=1).view(-1, size) == clean.argmax(dim=1)).double()
        drift += (model.prob(logits).view(-1, *p.shape) - p).abs().mean(dim=2).double()

    def both(found: Tensor) -> Tensor:
        least, most = found[: len(counts)], found[len(counts) :]
        return torch.stack([least.T, torch.cat([most, least[-1:]]).T]) / draws

    return both(agree), both(drift)
