"""What must not grow, or not much: memory with the samples, planning and listing with the cells."""

import hashlib
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
from safetensors.numpy import save as to_bytes
from timing import Row

from xbench.api import missing_fits
from xbench.components import Component
from xbench.config import make_config
from xbench.data import Index, Samples
from xbench.keys import canonical, content_key, sealed, slice_size
from xbench.manifest import run_folder
from xbench.metrics import xbench_metrics
from xbench.plan import make_plan, units, write_plan
from xbench.plugins import discover
from xbench.specs import DatasetSpec, ExplainerSpec, ModelSpec
from xbench.store import Store

EXPLAINERS, MODELS, SEEDS, METRICS = 100, 100, 20, 25
ROUNDS = 3
OWN = Path(__file__).stem


class Squares:
    """Any number of images, each made when it is asked for."""

    def __init__(self, test, size):
        self.test, self.size = test, size

    def index(self, split):
        count = self.test if split == "test" else 64
        ids = tuple(f"{split}-{i:07d}" for i in range(count))
        shape = (1, self.size, self.size)
        return Index(ids, np.arange(count) % 2, ids, shape, ("left", "right"), f"{split} {count} {self.size}")

    def load(self, ids):
        rng = np.random.default_rng([int(name.rpartition("-")[2]) for name in ids])
        image = rng.random((len(ids), 1, self.size, self.size), dtype=np.float32)
        return Samples(image, mask=image[:, 0] > 0.5)


def squares(root, *, test, size):
    return Squares(test, size)


def generated(explainers, models, seeds, metrics=METRICS, test=1000, fitting=1.0, trained=0.0):
    """Return the settings of a run of fake components; ``fitting`` is the share of pairs of model and explainer that can be
    computed, ``trained`` the share of explainers that are trained."""
    kinds = [spec for spec in xbench_metrics() if spec.level == "explainer"][:metrics]
    nets = [
        ModelSpec(
            name=f"net{i}", version=1, factory=f"{OWN}:Squares", fit=f"{OWN}:Squares", package="fake", params={"width": i},
            has=("gradients", "conv_layer") if i < fitting * models else ("gradients",),
        )
        for i in range(models)
    ]  # fmt: skip
    methods = [
        ExplainerSpec(
            name=f"method{i}", version=1, factory=f"{OWN}:squares", package="fake", params={"layer": 0, "n": i},
            needs=("gradients", "conv_layer"), fit=f"{OWN}:squares" if i < trained * explainers else None,
        )
        for i in range(explainers)
    ]  # fmt: skip
    data = DatasetSpec(name="squares", version=1, factory=f"{OWN}:squares", package="fake", has=("mask",))
    return replace(
        make_config(["suite=mnist", "device=cpu", "executor=inline"], discover()),
        suite="generated", title="", primary="deletion", limit=None, notes=(),
        data=Component(data, {"test": test, "size": 16}),
        models=tuple(Component(spec, dict(spec.params)) for spec in nets),
        explainers=tuple(Component(spec, dict(spec.params)) for spec in methods),
        metrics=tuple(Component(spec, dict(spec.params)) for spec in kinds),
        seeds=tuple(range(seeds)),
    )  # fmt: skip


def store_of(folder, config):
    """Write the folder of a finished run: every cell committed, with scores that are drawn, not measured."""
    plan = make_plan(replace(config, out=folder))
    store = Store(folder)
    write_plan(plan, store)
    rng = np.random.default_rng(0)
    shared = {}
    for cell in plan.cells:
        at = store.folder(cell.key)
        for part in range(cell.n_slices):
            size = slice_size(len(cell.selection.ids))
            rows = min(size, len(cell.selection.ids) - part * size)
            # One of a few files of arrays, under another name: a name costs less than a file.
            place = rows, rng.integers(8)
            if place not in shared:
                shared[place] = _arrays(folder, place, cell, rng)
            path, digest = shared[place]
            head = {"schema": 2, "key": cell.key, "slice": part, "arrays": digest}
            head |= {"weights": cell.model_fit, "explainer_weights": cell.explainer_fit}
            cost = {"seconds": 1.0, "images": rows, "forwards": 0, "backwards": 0, "peak_bytes": 0, "device": "none"}
            cost["digest"] = content_key([cell.key, part, cost])
            os.link(path, at / f"{part:05d}.{digest[:16]}.safetensors")
            (at / f"{part:05d}.{digest[:16]}.cost.json").write_bytes(canonical(cost))
            (at / f"{part:05d}.json").write_bytes(canonical(sealed(head)))
    manifest = {
        "cells": [cell.key for cell in plan.cells], "slices": [cell.n_slices for cell in plan.cells],
        "primary": config.primary, "suite": config.suite, "protocol": config.protocol,
    }  # fmt: skip
    (folder / "run.json").write_text(json.dumps(sealed(manifest)))


def _arrays(folder, place, cell, rng):
    rows, number = place
    columns = {f"score/{name}": rng.random(rows) for metric in cell.metrics for name, _ in metric.scores()}
    columns |= {
        f"chance/{name}": rng.random(rows)
        for metric in cell.metrics for name, score in metric.scores() if score.chance == "per_sample"
    }  # fmt: skip
    columns |= {name: rng.random((rows, s.width)) for metric in cell.metrics for n, s in metric.scores()
                if s.width > 1 for name in [f"score/{n}"]}  # fmt: skip
    columns |= {"predicted": rng.integers(0, 2, rows), "target": rng.integers(0, 2, rows)}
    columns |= {"blank": np.zeros(rows, np.uint8), "defined": np.ones(rows, np.uint8)}
    raw = to_bytes({name: np.ascontiguousarray(value) for name, value in columns.items()})
    path = folder / f"{rows}-{number}.shared"
    path.write_bytes(raw)
    return path, hashlib.sha256(raw).hexdigest()


def rows(device):
    """Yield the rows: seconds of planning and listing, and memory of a run's processes against the number of samples."""
    case = f"{EXPLAINERS} explainers, {MODELS} models, {SEEDS} seeds, {METRICS} metrics"
    config = generated(EXPLAINERS, MODELS, SEEDS)
    seconds, before = [], _peak()
    for _ in range(ROUNDS):
        start = time.process_time()
        plan = make_plan(config)
        seconds.append(time.process_time() - start)
    note = f"{len(plan.cells):,} cells, {(_peak() - before) / 2**20:.0f} MiB; the best of {ROUNDS}, of one core"
    yield Row("plan", case, min(seconds), 5.0, min(seconds), max(seconds), unit="s", note=note)
    start, before = time.process_time(), _peak()
    plan = make_plan(generated(EXPLAINERS, MODELS, 1, test=1_000_000))
    spent = time.process_time() - start
    note = f"{len(plan.cells):,} cells on {len(plan.test):,} samples, {(_peak() - before) / 2**20:.0f} MiB; of one core"
    yield Row("plan, many samples", case, spent, None, spent, spent, unit="s", note=note)
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder) / "store"
        root.mkdir()
        store_of(root, generated(EXPLAINERS, MODELS, SEEDS // 2, metrics=3, test=64))
        first = make_plan(replace(generated(EXPLAINERS, MODELS, 1), out=Path(folder) / "first"))
        start, store = time.process_time(), Store(first.config.out)
        write_plan(first, store)
        missing_fits(first, store)
        next(units(first, store))
        spent = time.process_time() - start
        note = f"{len(first.cells):,} cells: definitions written, trainings looked for; of one core"
        yield Row("from the plan to the first unit", case, spent, None, spent, spent, unit="s", note=note)
        for name, call, bound in (("list a store", _listed, 5.0), ("xbench status", _status, None)):
            seconds = []
            for _ in range(ROUNDS):
                start = time.process_time()
                count = call(root)
                seconds.append(time.process_time() - start)
            note = f"{count:,} cells; the best of {ROUNDS}, of one core"
            yield Row(name, "sharded folders", min(seconds), bound, min(seconds), max(seconds), unit="s", note=note)
        yield from memory(Path(folder), device, 1_000, 100_000)


def memory(folder, device, few, many):
    """Yield how much larger the peak memory of a run's worker and of its driver is with many samples than with few."""
    peaks = [_run(folder / str(count), device, count) for count in (few, many)]
    for place, (name, bound) in enumerate((("memory of the worker", 1.05), ("memory of the run itself", None))):
        small, large = (peak[place] for peak in peaks)
        each = (large - small) / (many - few)
        note = f"{many:,} samples against {few:,}: {small / 2**20:.0f} and {large / 2**20:.0f} MiB, {each:.0f} bytes a sample"
        ratio = large / small
        yield Row(name, "a generated set", ratio, bound, ratio, ratio, note=note)


def _run(folder, device, count):
    """Run two controls on images that are made as they are asked for; return the peaks of worker and driver in bytes."""
    home = Path(__file__).resolve().parent
    places = os.pathsep.join([str(home.parent / "fakes"), os.environ.get("PYTHONPATH", "")])
    settings = ["suite=blobs", f"data.test={count}", "limit=none", "explainer=controls/random,fake/weights"]
    settings += ["metric=localisation_precision,deletion[steps=4]", f"device={device}", "workers=1", f"out={folder}"]
    with tempfile.TemporaryDirectory() as cache:
        done = subprocess.run(
            [sys.executable, str(home / "peak.py"), "run", "-q", *settings],
            env={**os.environ, "PYTHONPATH": places, "XBENCH_CACHE": cache}, capture_output=True, text=True,
        )  # fmt: skip
    if done.returncode:
        raise SystemExit(f"{' '.join(settings)} ended with {done.returncode}: {done.stderr[-2000:]}")
    driver, worker = map(int, done.stdout.split()[-2:])
    return worker, driver


def _listed(root):
    return len(list(Store(root)))


def _status(root):
    keys, _, manifest = run_folder(root)
    store = Store(root)
    return sum(store.glance(key, n)[0] == "ok" for key, n in zip(keys, manifest["slices"], strict=True))


def _peak():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
