"""The records of maps made elsewhere: those that a run of the same maps would write."""

import hashlib
import traceback
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

import xbench
from xbench.checks import checked, fingerprint
from xbench.columns import gallery_images, gallery_rows
from xbench.components import Component, metric_unmet, score_facts
from xbench.data import Floats, Samples, samples_digest
from xbench.devices import halving
from xbench.errors import XbenchError
from xbench.fit_tasks import CONTENT_SCHEMA
from xbench.manifest import write_manifest
from xbench.metrics.cost import Meter
from xbench.own_model import OWN_MODEL, Lent
from xbench.scene import Backdrop, Scene
from xbench.scoring import Stage, one_line, score
from xbench.specs import DatasetSpec, MetricSpec, Polarity
from xbench.store import Json, Store, content_key, gallery_key, slice_size
from xbench.tensors import Explanation, make_batch


@dataclass(frozen=True, eq=False)
class Given:
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


def score_all(store: Store, lent: Lent, given: Given, metrics: Sequence[Component]) -> tuple[list[str], str]:
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


def _stages(lent: Lent, given: Given) -> "list[Stage]":
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
    given: Given,
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


def _reader(given: Given, name: str) -> Callable[[Backdrop, Meter], Scene]:
    """Return what makes a scene of the given maps. Nobody is asked, and no time is taken."""
    place_of = {sample: place for place, sample in enumerate(given.ids)}

    def explained(backdrop: Backdrop, meter: Meter) -> Scene:
        places = [place_of[sample] for sample in backdrop.batch.sample_id]
        explanation = checked(Explanation(torch.from_numpy(given.maps[name][places])), backdrop.batch)
        return Scene(backdrop, explanation, given.polarity[name])

    return explained


def _applicable(metrics: Sequence[Component], given: Given) -> tuple[list[Component], dict[str, str]]:
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


def _definition(lent: Lent, given: Given, data: str, samples: str) -> Json:
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


def _data_digest(given: Given) -> str:
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
