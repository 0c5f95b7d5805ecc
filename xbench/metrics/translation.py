"""Does a translated image change the prediction, and to the other class? Flips, with the controls that must not flip."""

from collections.abc import Callable

import torch
from torch import Tensor

from xbench.errors import did_you_mean
from xbench.models import Model
from xbench.scene import Scene

Scores = dict[str, Tensor]
Metric = Callable[[Scene], Scores]

CONTROLS = {"cycle_flip_rate": "cycle", "noise_flip_rate": "noised", "swapped_flip_rate": "swapped"}


def translation_flip_rate() -> Metric:
    """Return the metric: what the classifier says of an image [B] before and after its translation.

    With the label y and the other class t, to which the image is translated:

    ``translation_flip_rate``
        1 where the prediction after is another than before. Of a translation away from t it is 1 too: read it beside
        ``corrected_flip_rate``.
    ``corrected_flip_rate``
        1 where the prediction after is t, of the samples whose prediction before was y; NaN for the others. A sample
        that the classifier took for t from the start proves no translation, so this leaves it out.
    ``unflip_rate``
        1 where the prediction after is y, of the samples whose prediction before was t; NaN for the others. Less is
        better: these went the wrong way.
    ``net_shift``
        1[after = t] - 1[before = t], in {-1,0,1}; its mean is what confusion matrices before and after can tell.
    ``confidence_gain``
        p_t(after) - p_t(before), in [-1,1].

    Source: the confusion matrices of Tsutsui's study, with the joint counts that they leave out (`xbench.flips`).
    """

    def measure(scene: Scene) -> Scores:
        label, target = sides(scene)
        clean, translated = scene.backdrop.clean_logits, scene.translated_logits
        before, after = clean.argmax(dim=1), translated.argmax(dim=1)
        gain = scene.model.pick(translated, target, "prob").double() - scene.model.pick(clean, target, "prob").double()
        return {
            "translation_flip_rate": (after != before).double(),
            "corrected_flip_rate": _of(before == label, after == target),
            "unflip_rate": _of(before == target, after == label),
            "net_shift": (after == target).double() - (before == target).double(),
            "confidence_gain": gain,
        }

    return measure


def validity(**params: str) -> Metric:
    """Return the metric: [B] 1 where the prediction after the translation is the other class t, whatever it was before.

    Parameters
    ----------
    **params
        ``from``: the name of a class, to which samples are restricted by their label (the others get NaN); empty for all.

    Raises
    ------
    TypeError
        Another parameter is given.
    ValueError
        Raised by the metric, which is the first to know the classes: there is no class of that name.
    """
    if unknown := params.keys() - {"from"}:
        raise TypeError(f"validity has no parameter {', '.join(sorted(unknown))}; its one parameter is from")
    source = params.get("from", "")

    def measure(scene: Scene) -> Scores:
        label, target = sides(scene)
        counted = torch.ones_like(label, dtype=torch.bool)
        if source:
            classes = scene.backdrop.classes
            if source not in classes:
                hint = did_you_mean(source, classes) or f"; one of {', '.join(classes)}"
                raise ValueError(f"validity[from={source}]: there is no such class{hint}")
            counted = label == classes.index(source)
        return {"validity": _of(counted, scene.translated_logits.argmax(dim=1) == target)}

    return measure


def oracle_flip_rate() -> Metric:
    """Return the metric: what a classifier trained independently of the one explained says of the translation, [B].

    ``oracle_flip_rate`` and ``oracle_validity`` are 1 where its prediction changed, and where it is t after: a change of
    the image that only the explained network sees, an adversarial one, moves neither. ``oracle_agreement`` is 1 where the
    two classifiers predict the same of the translated image. It describes: what it should be is the agreement on the
    images themselves, which a translation that changes nothing has too.

    Source: Hvilshoj, Iosifidis, Assent, "On quantitative evaluations of counterfactuals", arXiv 2111.00177 (Oracle score).
    """

    def measure(scene: Scene) -> Scores:
        _, target = sides(scene)
        oracle = scene.backdrop.oracle
        assert oracle is not None, "the plan offers this metric only where a second classifier is trained"
        before = scene.backdrop.oracle_logits.argmax(dim=1)
        after = predicted(oracle, translated_image(scene))
        return {
            "oracle_flip_rate": (after != before).double(),
            "oracle_validity": (after == target).double(),
            "oracle_agreement": (after == scene.translated_logits.argmax(dim=1)).double(),
        }

    return measure


def translation_controls() -> Metric:
    """Return the metric: [B] 1 where an image that must not flip does; less is better, and 0 is what a sound method scores.

    The explainer gives the images [B,C,H,W] in [0,1] as extras; without one its score is NaN.

    ``cycle_flip_rate``
        ``cycle``: translated and back again, so the image itself if the method keeps what it need not change.
    ``noise_flip_rate``
        ``noised``: a random change of the same size in the same place. Where it flips, so does any change.
    ``swapped_flip_rate``
        ``swapped``: a change made for another image, of another place. Where it flips, the change is a stamp that fits all.

    Raises
    ------
    ValueError
        Raised by the metric: an extra is not of the images' shape.
    """

    def measure(scene: Scene) -> Scores:
        before = scene.backdrop.clean_logits.argmax(dim=1)
        scores = {}
        for score, name in CONTROLS.items():
            image = scene.explanation.extras.get(name)
            if image is None:
                scores[score] = torch.full_like(before, float("nan"), dtype=torch.float64)
                continue
            if image.shape != scene.batch.image.shape:
                need = tuple(scene.batch.image.shape)
                raise ValueError(f"the extra {name!r} has shape {tuple(image.shape)}; {need} is needed")
            scores[score] = (predicted(scene.model, image.to(scene.batch.image)) != before).double()
        return scores

    return measure


def sides(scene: Scene) -> tuple[Tensor, Tensor]:
    """Return the labels [B] int64 and the classes [B] int64 to which the images are translated."""
    target = scene.batch.counter_target
    assert target is not None, "the plan offers this metric only for data of two classes"
    return scene.batch.label, target


def translated_image(scene: Scene) -> Tensor:
    """Return the translated images [B,C,H,W] in [0,1]. Raises ValueError where the explainer promised them and gave none."""
    image = scene.explanation.counterfactual
    if image is None:
        raise ValueError("the explanation holds no translated image")
    return image


def predicted(model: Model, image: Tensor) -> Tensor:
    """Return [B] int64: the classes of images [B,C,H,W], in passes that the model can take."""
    with torch.no_grad():
        return torch.cat([model.logits(part).argmax(dim=1) for part in image.split(model.batch_size)])


def _of(counted: Tensor, hit: Tensor) -> Tensor:
    """Return [B]: 1 or 0 for a hit or none where the sample counts, else NaN."""
    return hit.double().masked_fill(~counted, float("nan"))
