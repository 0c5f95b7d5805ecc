"""What a translated image changes: how much, where, as the attention says or not, and in which order it turns the class."""

from collections.abc import Callable

import numpy as np
import torch
from scipy.ndimage import distance_transform_edt
from torch import Tensor

import xbench.perturb as perturb
from xbench.metrics.localisation import scored
from xbench.metrics.ranks import spearman
from xbench.metrics.translation import sides, translated_image
from xbench.scene import Curve, Scene

Scores = dict[str, Tensor]
Metric = Callable[[Scene], Scores]

CHANGED = 1.5 / 255
"""A pixel differs when a channel does by more than this: one grey level is rounding, two are not (`Batch.difference`)."""


def proximity() -> Metric:
    """Return the metric: how far the translated image x^ is from the image x, [B], 0 where it is the same.

    ``l1`` is the mean of |x^ - x| over pixels and channels, ``l2`` the root of the mean of its square (both in units of
    the range [0,1]), ``changed_share`` the share of pixels that differ by more than one grey level of 255 in any channel.
    Less is better only beside a validity: a translation that does nothing is nearest.
    """

    def measure(scene: Scene) -> Scores:
        change = translated_image(scene) - scene.batch.image
        flat = change.flatten(1).double()
        return {
            "l1": flat.abs().mean(dim=1),
            "l2": flat.square().mean(dim=1).sqrt(),
            "changed_share": (change.abs() > CHANGED).any(dim=1).flatten(1).double().mean(dim=1),
        }

    return measure


def difference_mass(margin: float) -> Metric:
    """Return the metric: [B] share of |x^ - x| (channels averaged) near the object; chance is the area that counts.

    A mask counts whichever class it is evidence for: a translation should act on the object in either direction, to
    take a finding away or to add one. It counts with a border of ``margin`` times the image's shorter side, for what
    appears may lie beside the object: of the exact difference between a normal and an enlarged heart (chestxray/phantom),
    9 % lies inside the normal heart, 97 % inside its mask with a border of .1. A translation that changes nothing scores
    chance.

    Raises
    ------
    ValueError
        The margin is not in [0, 1].
    """
    if not 0 <= margin <= 1:
        raise ValueError(f"margin={margin}: a fraction of the image's shorter side from 0 to 1 is needed")

    def measure(scene: Scene) -> Scores:
        mask = scene.batch.mask
        assert mask is not None, "the plan offers this metric only where there are masks"
        near = _bordered(mask, margin * min(mask.shape[1:])) if margin else mask
        return scored(scene, "difference_mass", near.flatten(1), _mass_inside)

    return measure


def counterfactual_distance() -> Metric:
    """Return the metric: the translated image against the exact one of the other class; NaN where these do not differ.

    ``counterfactual_distance`` [B] is the mean of |x^ - exact| over pixels and channels, in units of the range [0,1]; what
    stands as chance is the distance of doing nothing, the mean of |x - exact|. ``ring_mass`` [B] is the share of
    |x^ - x| where the exact image differs; chance is that ring's area, which a translation that changes nothing scores.
    """

    def measure(scene: Scene) -> Scores:
        exact, ring = scene.batch.counterfactual, scene.batch.difference
        assert exact is not None, "the plan offers this metric only where the exact counterfactual is known"
        assert ring is not None
        unknown = ~ring.flatten(1).any(dim=1)
        images = {
            "counterfactual_distance": translated_image(scene),
            "counterfactual_distance.chance": scene.batch.image,
        }
        scores = {
            name: (image - exact).flatten(1).double().abs().mean(dim=1).masked_fill(unknown, float("nan"))
            for name, image in images.items()
        }
        return scores | scored(scene, "ring_mass", ring.flatten(1), _mass_inside)

    return measure


def attention_agreement(tau: float, top: float) -> Metric:
    """Return the metric: whether the attribution A says where the image changes, D = |x^ - x| averaged over channels.

    With x^ = A G + (1 - A) x and A in [0,1], D <= A |G - x| at every pixel.

    ``attention_agreement``
        [B] Spearman's rank correlation of A and D over pixels, tied values sharing their mean rank; NaN where one of them
        is the same everywhere.
    ``attention_mass``, ``attention_area``
        [B] share of D where A >= ``tau``, in A's own units (AG-CycleGAN's threshold is .1); NaN where nothing changes. The
        share of the image where it is so stands beside it, for an attention of 1 everywhere holds the whole change.
    ``attention_iou``
        [B] intersection over union of the highest ``top`` of all pixels of A and of D, from the expected intersection over
        ties drawn at random; chance is k / (2 n - k) for k of n pixels, which a blank map scores.

    Raises
    ------
    ValueError
        A parameter is not in [0, 1], or ``top`` is 0.
    """
    if not 0 <= tau <= 1:
        raise ValueError(f"tau={tau}: an attention from 0 to 1 is needed")
    if not 0 < top <= 1:
        raise ValueError(f"top={top}: a share of the pixels above 0, up to 1, is needed")

    def measure(scene: Scene) -> Scores:
        attention, difference = scene.levels, perturb.levels(_difference(scene))
        n = difference.shape[1]
        k = max(1, round(top * n))
        shared = (_in_top(attention, k) * _in_top(difference, k)).sum(dim=1)
        wide = scene.explanation.attribution.flatten(1) >= tau
        return {
            "attention_agreement": spearman(attention, difference),
            "attention_mass": _mass_inside(scene, wide).masked_fill((difference == 0).all(dim=1), float("nan")),
            "attention_area": wide.double().mean(dim=1),
            "attention_iou": shared / (2 * k - shared),
            "attention_iou.chance": torch.full_like(shared, k / (2 * n - k)),
        }

    return measure


def cout(steps: int) -> Callable[[Scene], dict[str, Tensor | Curve]]:
    """Return the metric: do the pixels that change most turn the class first? [B] in [-1,1], more is better.

    Pixels of x^ enter x in ``steps`` steps, the largest |x^ - x| (summed over channels) first, ties in the sample's seeded
    order; COUT = AUC(p_t) - AUC(p_y) over the true fractions of pixels, with the label y and the class t to which the
    image is translated. Where nothing changes it is p_t(x) - p_y(x). ``cout.curve`` is p_t - p_y along the path.

    Source: Khorram, Li, "Cycle-consistent counterfactuals by latent transformations", CVPR 2022; without the scaling by
    the largest change, which divides by 0 where there is none.

    Raises
    ------
    ValueError
        There is no step.
    """
    if steps < 1:
        raise ValueError(f"steps={steps}: a curve needs at least one step")

    def measure(scene: Scene) -> dict[str, Tensor | Curve]:
        model, image, translated = scene.model, scene.batch.image, translated_image(scene)
        label, target = sides(scene)

        def lead(logits: Tensor) -> Tensor:
            copies = len(logits) // len(label)
            return model.pick(logits, target.repeat(copies), "prob") - model.pick(logits, label.repeat(copies), "prob")

        level = perturb.levels((translated - image).abs().sum(dim=1))
        rank, n = perturb.ranks(level, scene.backdrop.ties), level.shape[1]
        counts = perturb.step_counts(n, steps)
        with torch.no_grad():
            # The area is linear in the curve, so that the difference of two areas is the area of one difference.
            inner = perturb.perturbed_scores(
                lambda images, copies: lead(model.logits(images)),
                image,
                translated,
                rank,
                counts[1:-1],
                model.batch_size,
            )
        ends = lead(scene.backdrop.clean_logits)[:, None], lead(scene.translated_logits)[:, None]
        x = torch.tensor([count / n for count in counts], dtype=torch.float64, device=inner.device)
        curve = Curve(x, torch.cat([ends[0], inner, ends[1]], dim=1).double())
        return {"cout": curve.area(), "cout.curve": curve}

    return measure


def _in_top(level: Tensor, k: int) -> Tensor:
    """Return [B,n] float64: the probability that a pixel is one of the k highest, ties drawn at random."""
    threshold = level.kthvalue(level.shape[1] - k + 1, dim=1, keepdim=True).values
    above, tied = level > threshold, level == threshold
    places_left = k - above.sum(dim=1, keepdim=True)
    return above.double() + tied * places_left / tied.sum(dim=1, keepdim=True).double()


def _difference(scene: Scene) -> Tensor:
    """Return [B,H,W] float64: |x^ - x| averaged over channels."""
    return (translated_image(scene) - scene.batch.image).double().abs().mean(dim=1)


def _mass_inside(scene: Scene, mask: Tensor) -> Tensor:
    """Return [B]: the share of the difference inside the mask [B,n]; its area where nothing differs."""
    mass = _difference(scene).flatten(1)
    total = mass.sum(dim=1)
    return torch.where(total > 0, (mass * mask).sum(dim=1) / total, mask.double().mean(dim=1))


def _bordered(mask: Tensor, width: float) -> Tensor:
    """Return masks [B,H,W] with all pixels not further from them than ``width``; an empty mask stays empty."""
    each = [distance_transform_edt(~one) <= width if one.any() else np.zeros_like(one) for one in mask.cpu().numpy()]
    return torch.as_tensor(np.stack(each), device=mask.device)
