"""Maps made elsewhere, scored without a plugin: `xbench.evaluate` writes the records that a run of them would write."""

import hashlib
import tempfile
import traceback
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

import xbench
from xbench.alone import alone
from xbench.checks import checked, fingerprint
from xbench.columns import gallery_images, gallery_rows
from xbench.components import Component, expand, metric_unmet, score_facts
from xbench.data import Floats, Samples, samples_digest
from xbench.devices import halving
from xbench.errors import XbenchError, did_you_mean
from xbench.fit_tasks import CONTENT_SCHEMA
from xbench.manifest import run_folder, write_manifest
from xbench.metrics.cost import Meter
from xbench.own_model import (
    OWN_MODEL,
    Lent,
    Link,
    as_array,
    borrowed,
    checked_ids,
    checked_images,
    checked_names,
    checked_targets,
    checked_whole,
    numbers,
)
from xbench.plugins import discover
from xbench.results import Run
from xbench.scene import Backdrop, Scene
from xbench.scoring import Stage, evenly, mean_colour, one_line, score
from xbench.specs import DatasetSpec, MetricSpec, Polarity
from xbench.store import Json, Store, content_key, gallery_key, slice_size
from xbench.tensors import Explanation, make_batch


@dataclass(frozen=True, eq=False)
class _Given:
    """What was given, checked: n samples, and maps of them by name, each with how it is to be read."""

    pixels: Floats
    ids: tuple[str, ...]
    labels: NDArray[np.int64] | None
    groups: tuple[str, ...]
    masks: NDArray[np.bool_] | None
    target: Tensor
    target_text: str
    colour: Tensor
    classes: tuple[str, ...]
    maps: Mapping[str, Floats]
    polarity: Mapping[str, Polarity]
    seed: int


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
        maps = _maps(explanations, len(pixels), pixels.shape[2:])
        given = _Given(
            pixels=pixels,
            ids=checked_ids(ids, len(pixels)),
            labels=_labels(labels, *lent.logits.shape),
            groups=_names(groups, "groups", len(pixels)) if groups is not None else checked_ids(ids, len(pixels)),
            masks=_masks(masks, len(pixels), pixels.shape[2:]),
            target=checked_targets(targets, lent.logits),
            target_text="predicted" if targets is None else "given",
            colour=_colour(colour, pixels),
            classes=_classes(classes, lent.n_classes),
            maps=maps,
            polarity=_polarity(polarity, maps),
            seed=checked_whole(seed, "seed"),
        )
        temporary = None if out is not None else tempfile.TemporaryDirectory(prefix="xbench-")
        folder = Path(out) if out is not None else Path(temporary.name if temporary else "")
        with alone(folder):
            _check_unused(folder)
            keys, primary = _score_all(Store(folder), lent, given, chosen)
    return Run(folder, keys, primary, keep=temporary)


def _check_unused(folder: Path) -> None:
    """Raise XbenchError where a folder holds the run of a suite, whose ``run.json`` would be lost."""
    if (folder / "run.json").exists():
        suite, protocol = (run_folder(folder)[2].get(key) for key in ("suite", "protocol"))
        if (suite, protocol) != ("evaluate", "own"):
            raise XbenchError(f"{folder} holds a run of the suite {suite!r}; choose another folder as out=")


def _score_all(store: Store, lent: Lent, given: _Given, metrics: Sequence[Component]) -> tuple[list[str], str]:
    """Commit a cell for the classifier, where it is measured, and one for each method; return keys and the first score."""
    specs = {metric.text: metric.spec for metric in metrics}
    own = [metric for metric in metrics if getattr(specs[metric.text], "level", "") == "model"]
    rest = [metric for metric in metrics if metric not in own]
    data = _data_digest(given)
    samples = samples_digest(data, given.ids)
    labels = [-1] * len(given.ids) if given.labels is None else given.labels.tolist()
    store.write_samples(samples, {"ids": given.ids, "labels": labels, "groups": given.groups})
    common = _definition(lent, given, data, samples)
    keys = []
    stages = list(_stages(lent, given))
    for name, wanted in [*([(None, own)] if own else []), *((name, rest) for name in given.maps)]:
        fit, missing = _applicable(wanted, given)
        definition = {**common, "metrics": [{**each.definition(), "scores": score_facts(each)} for each in fit]}
        definition |= {"missing": missing, "explainer": None, "target": None}
        if name is not None:
            kept = {"text": name, "id": name, "version": 1, "params": {}, "control": False}
            kept |= {"polarity": given.polarity[name], "maps": _sha256(given.maps[name])}
            definition |= {"explainer": kept, "target": given.target_text}
        key = content_key(definition)
        keys.append(key)
        store.define(key, definition)
        store.forgive(key)
        try:
            for part, stage in enumerate(stages):
                _commit(store, key, part, stage, given, name, fit, samples)
        except XbenchError:
            raise
        except Exception as error:
            store.fail(key, "error", one_line(error), traceback.format_exc())
    primary = next((shown for metric in rest for shown, _ in metric.scores()), "")
    _write_manifest(store.root, keys, primary)
    return keys, primary


def _stages(lent: Lent, given: _Given) -> "list[Stage]":
    """Return the samples slice by slice, as a run would commit them."""
    labels = torch.full((len(given.ids),), -1) if given.labels is None else torch.from_numpy(given.labels)
    size, device, stages = slice_size(len(given.ids)), lent.model.device, []
    untouched = fingerprint(lent.model.module)
    for start in range(0, len(given.ids), size):
        rows = slice(start, start + size)
        samples = Samples(given.pixels[rows], mask=None if given.masks is None else given.masks[rows])
        made = make_batch(samples, given.ids[rows], labels[rows], given.seed, lent.n_classes).to(device)
        stages.append(
            Stage(
                model=lent.model,
                weights=None,
                batch=made.with_target(given.target[rows].to(device)),
                logits=lent.logits[rows].to(device),
                mean=given.colour.to(device),
                untouched=untouched,
                classes=given.classes,
                oracle=None,
            )
        )
    return stages


def _commit(
    store: Store,
    key: str,
    part: int,
    stage: Stage,
    given: _Given,
    name: str | None,
    metrics: Sequence[Component],
    samples: str,
) -> None:
    rows: Sequence[int] = ()
    if part == 0 and name is not None:
        rows = gallery_rows(stage.batch.label.tolist(), stage.logits.argmax(dim=1).tolist())
        if not store.has_gallery(gallery_key(samples, rows)):
            store.write_gallery(gallery_key(samples, rows), gallery_images(stage.batch, rows))
    explained = None if name is None else _reader(given, name)
    batch, device = stage.model.batch_size, stage.model.device
    columns, cost = halving(lambda size: score(stage, size, metrics, explained, rows), batch, device)
    columns.check()
    store.commit(key, part, columns.arrays(), None, cost, unmeasured=columns.unmeasured)


def _reader(given: _Given, name: str) -> Callable[[Backdrop, Meter], Scene]:
    """Return what makes a scene of the given maps. Nobody is asked, and no time is taken."""
    place_of = {sample: place for place, sample in enumerate(given.ids)}

    def explained(backdrop: Backdrop, meter: Meter) -> Scene:
        places = [place_of[sample] for sample in backdrop.batch.sample_id]
        explanation = checked(Explanation(torch.from_numpy(given.maps[name][places])), backdrop.batch)
        return Scene(backdrop, explanation, given.polarity[name])

    return explained


def _applicable(metrics: Sequence[Component], given: _Given) -> tuple[list[Component], dict[str, str]]:
    """Return the metrics that can be measured, and why the scores of the others cannot."""
    data = DatasetSpec(
        package="own", name="images", version=1, factory="-:-", has=("mask",) if given.masks is not None else ()
    )
    fit: list[Component] = []
    missing: dict[str, str] = {}
    for metric in metrics:
        assert isinstance(metric.spec, MetricSpec)
        why = metric_unmet(metric.spec, OWN_MODEL, data, ("attribution",), len(given.classes))
        if metric.spec.level == "model" and given.labels is None:
            why = "needs labels, and none are given"
        if (source := metric.params.get("from")) and source not in given.classes:
            why = f"there is no class {source!r}; the classes are {', '.join(given.classes)}"
        if why:
            missing |= {shown: why for shown, _ in metric.scores()}
        else:
            fit.append(metric)
    return fit, missing


def _definition(lent: Lent, given: _Given, data: str, samples: str) -> Json:
    """Return what all cells share."""
    name = type(getattr(lent.model.module, "network", lent.model.module)).__name__
    weights = hashlib.sha256()
    for key, value in sorted(lent.model.module.state_dict().items()):
        weights.update(f"{key} {list(value.shape)} {value.dtype}".encode())
        weights.update(value.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes())
    return {
        "schema": CONTENT_SCHEMA,
        "suite": "evaluate",
        "suite_version": 1,
        "protocol": "own",
        "data": {"id": "own/images", "version": 1, "params": {}, "digest": data, "text": "own/images"},
        "classes": list(given.classes),
        "samples": samples,
        "n": len(given.ids),
        "model": {"text": f"own/{name}", "id": f"own/{name}", "link": lent.model.link, "weights": weights.hexdigest()},
        "model_fit": None,
        "series": None,
        "explainer_fit": None,
        "oracle_fit": None,
        "seed": given.seed,
    }


def _data_digest(given: _Given) -> str:
    """Return a hash of all that is known of the images and of what is explained of them."""
    arrays = (given.pixels, given.labels, given.masks, given.target.numpy(), given.colour.numpy())
    return content_key([None if array is None else _sha256(array) for array in arrays])


def _sha256(array: NDArray[Any]) -> str:
    return hashlib.sha256(f"{array.dtype} {array.shape} ".encode() + np.ascontiguousarray(array).tobytes()).hexdigest()


def _write_manifest(folder: Path, keys: Sequence[str], primary: str) -> None:
    manifest = {
        "command": [],
        "suite": "evaluate",
        "title": "Maps made elsewhere",
        "protocol": "own",
        "data": "own/images",
        "primary": primary,
        "cells": keys,
        "notes": [],
        "xbench": xbench.__version__,
        "versions": {"torch": torch.__version__, "numpy": np.__version__},
    }
    write_manifest(folder, manifest)


def _metrics(texts: Sequence[str]) -> tuple[Component, ...]:
    mistakes: list[str] = []
    written = [texts] if isinstance(texts, str) else checked_names(texts, "metrics")
    found = expand("metric", written, discover(), mistakes)
    if mistakes or not found:
        raise XbenchError(*(mistakes or ["no metric is named; ['deletion', 'insertion'] names two"]))
    return found


def _maps(explanations: Any, n: int, size: tuple[int, ...]) -> dict[str, Floats]:
    named = explanations if isinstance(explanations, Mapping) else {"maps": explanations}
    if not named:
        raise XbenchError("there is no explanation; {name: maps [n,H,W]} is needed")
    found = {}
    for name, given in named.items():
        if not isinstance(name, str) or not name.strip():
            raise XbenchError(f"{name!r} is no name for maps; a text is needed")
        checked_names([name], "the names of maps")
        array = as_array(given, f"the maps of {name!r}")
        if array.shape != (n, *size):
            raise XbenchError(f"the maps of {name!r} have shape {list(array.shape)}; {[n, *size]} is needed")
        if array.dtype.kind not in "fiu":
            raise XbenchError(f"the maps of {name!r} are {array.dtype}; numbers are needed")
        if not (finite := np.isfinite(array).all(axis=(1, 2))).all():
            raise XbenchError(
                f"{int((~finite).sum())} of the {n} maps of {name!r} hold NaN or infinite values, the first at place "
                f"{int(np.argmin(finite))}; score the others without these samples"
            )
        found[name] = np.ascontiguousarray(array, dtype=np.float32)
    return found


def _labels(labels: Any, n: int, n_classes: int) -> NDArray[np.int64] | None:
    if labels is None:
        return None
    array = as_array(labels, "labels")
    if array.shape != (n,) or array.dtype.kind not in "iu":
        raise XbenchError(
            f"labels are {array.dtype} of shape {list(array.shape)}; a class number for each of {n} is needed"
        )
    if array.min() < 0 or array.max() >= n_classes:
        raise XbenchError(f"labels hold {array.min()} to {array.max()}; the network's classes are 0 to {n_classes - 1}")
    return array.astype(np.int64)


def _masks(masks: Any, n: int, size: tuple[int, ...]) -> NDArray[np.bool_] | None:
    if masks is None:
        return None
    array = as_array(masks, "masks")
    if array.shape != (n, *size):
        raise XbenchError(f"masks have shape {list(array.shape)}; {[n, *size]} is needed")
    if array.dtype != bool and not np.isin(array, (0, 1)).all():
        raise XbenchError(
            f"masks are {array.dtype} with values other than 0 and 1; true where the object is, is needed"
        )
    return array.astype(bool)


def _names(given: Sequence[object], what: str, n: int) -> tuple[str, ...]:
    names = checked_names(given, what)
    if len(names) != n:
        raise XbenchError(f"there are {len(names)} {what}; {n} are needed")
    return names


def _classes(classes: Sequence[str] | None, n_classes: int) -> tuple[str, ...]:
    names = _names(range(n_classes) if classes is None else classes, "classes", n_classes)
    if len(set(names)) < n_classes:
        raise XbenchError(f"classes {', '.join(names)} are not {n_classes} different names")
    return names


def _colour(colour: Any, pixels: Floats) -> Tensor:
    values = mean_colour(pixels[evenly(len(pixels))]) if colour is None else numbers(colour, "colour")
    found = torch.tensor(np.asarray(values), dtype=torch.float32)
    if found.shape != (pixels.shape[1],) or not ((found >= 0) & (found <= 1)).all():
        raise XbenchError(f"colour={colour}: a number in [0,1] for each of {pixels.shape[1]} channels is needed")
    return found


def _polarity(polarity: Polarity | Mapping[str, Polarity], maps: Mapping[str, Floats]) -> dict[str, Polarity]:
    each: dict[str, Polarity] = {}
    named = polarity if isinstance(polarity, Mapping) else dict.fromkeys(maps, polarity)
    for name in named:
        if name not in maps:
            raise XbenchError(f"polarity names maps {name!r:.60}, and there are none{did_you_mean(str(name), maps)}")
    for name in maps:
        one = named.get(name, "signed")
        if not isinstance(one, str) or one not in get_args(Polarity):
            raise XbenchError(f"polarity {one!r:.60} of {name!r} is not one of {', '.join(get_args(Polarity))}")
        each[name] = one
    return each
