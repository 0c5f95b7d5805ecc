"""Maps made elsewhere, scored without a plugin: `xbench.evaluate`."""

import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from torch import nn

from xbench.alone import alone
from xbench.components import Component, expand
from xbench.errors import XbenchError
from xbench.manifest import run_folder
from xbench.own_arguments import (
    checked_classes,
    checked_colour,
    checked_ids,
    checked_images,
    checked_labels,
    checked_maps,
    checked_masks,
    checked_n_names,
    checked_names,
    checked_polarity,
    checked_targets,
    checked_whole,
)
from xbench.own_model import Link, borrowed
from xbench.own_records import Given, score_all
from xbench.plugins import discover
from xbench.results import Run
from xbench.specs import Polarity
from xbench.store import Store


def evaluate(
    model: nn.Module,
    images: Any,
    explanations: Any,
    metrics: Sequence[str] = ("deletion", "insertion"),
    labels: Any = None,
    masks: Any = None,
    targets: Any = None,
    groups: Sequence[object] | None = None,
    mean: float | Sequence[float] | None = None,
    std: float | Sequence[float] | None = None,
    batch: int = 64,
    *,
    link: Link | None = None,
    ids: Sequence[str] | None = None,
    classes: Sequence[str] | None = None,
    colour: Sequence[float] | None = None,
    polarity: Polarity | Mapping[str, Polarity] = "signed",
    seed: int = 0,
    out: str | Path | None = None,
) -> Run:
    """Score and rank maps that were made elsewhere; the numbers are those that a run gives for the same maps.

    Parameters
    ----------
    model, mean, std, link, batch
        The classifier that the maps explain, as for `xbench.explain`.
    images
        [n,C,H,W], floating point in [0,1].
    explanations
        Name -> maps [n,H,W], raw: larger is more evidence for the target; or the maps of one method.
    metrics
        As on the command line: ``deletion``, ``deletion[fill=zero]``, ``localisation_*``. What cannot be measured has rows
        with the reason; a metric that asks an explainer again cannot be, for there are only its maps.
    labels
        [n] the true classes; accuracy, and what looks at correctly classified images alone, need them.
    masks
        [n,H,W] bool: where the object is, for metrics of localisation; an image without a true pixel has no mask.
    targets
        The class that the maps explain, one for all or one each; None: the class predicted.
    groups
        [n] names: what images of one patient or specimen share; intervals draw these. None: every image is its own.
    ids
        [n] names, from which, with ``seed``, ties are broken and noise is drawn; None: their places.
    classes
        Names of the K classes; None: their numbers.
    colour
        [C] the mean colour that the fill ``mean`` takes; None: that of the images.
    polarity
        How maps are to be read, for all or by name: ``signed``, ``positive`` or ``non_contributing`` (`xbench.specs`).
    out
        A folder to keep the records in, for ``xbench compare``, ``report`` and the others; None: they go with the result.
        Not that of a run of a suite.

    Raises
    ------
    XbenchError
        Images, maps, masks, labels, targets or groups are of the wrong shape or range or hold NaN, or a metric does not
        exist; the folder holds a run of a suite; one clear line.
    """
    pixels = checked_images(images)
    chosen = _metrics(metrics)
    with borrowed(model, mean, std, link, pixels, batch) as lent:
        maps = checked_maps(explanations, len(pixels), pixels.shape[2:])
        given = Given(
            pixels=pixels,
            ids=checked_ids(ids, len(pixels)),
            labels=checked_labels(labels, *lent.logits.shape),
            groups=checked_n_names(groups, "groups", len(pixels))
            if groups is not None
            else checked_ids(ids, len(pixels)),
            masks=checked_masks(masks, len(pixels), pixels.shape[2:]),
            target=checked_targets(targets, lent.logits),
            target_text="predicted" if targets is None else "given",
            colour=checked_colour(colour, pixels),
            classes=checked_classes(classes, lent.n_classes),
            maps=maps,
            polarity=checked_polarity(polarity, maps),
            seed=checked_whole(seed, "seed"),
        )
        temporary = None if out is not None else tempfile.TemporaryDirectory(prefix="xbench-")
        folder = Path(out) if out is not None else Path(temporary.name if temporary else "")
        with alone(folder):
            _check_unused(folder)
            keys, primary = score_all(Store(folder), lent, given, chosen)
    return Run(folder, keys, primary, keep=temporary)


def _check_unused(folder: Path) -> None:
    """Raise XbenchError where a folder holds the run of a suite, whose ``run.json`` would be lost."""
    if (folder / "run.json").exists():
        suite, protocol = (run_folder(folder)[2].get(key) for key in ("suite", "protocol"))
        if (suite, protocol) != ("evaluate", "own"):
            raise XbenchError(f"{folder} holds a run of the suite {suite!r}; choose another folder as out=")


def _metrics(texts: Sequence[str]) -> tuple[Component, ...]:
    mistakes: list[str] = []
    written = [texts] if isinstance(texts, str) else checked_names(texts, "metrics")
    found = expand("metric", written, discover(), mistakes)
    if mistakes or not found:
        raise XbenchError(*(mistakes or ["no metric is named; ['deletion', 'insertion'] names two"]))
    return found
