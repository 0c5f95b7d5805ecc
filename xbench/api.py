"""The Python face: run a suite, follow it, read its table."""

import contextlib
import json
import os
import platform
import random
import sys
import time
from collections.abc import Callable, Iterator
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import xbench
from xbench.alone import alone
from xbench.atomic import remove_own, write_atomic
from xbench.bibliography import component_facts
from xbench.cache import damaged_fit, is_finished
from xbench.cells import Cell
from xbench.components import import_attr
from xbench.config import RunConfig, make_config
from xbench.cores import workers_of
from xbench.errors import XbenchError
from xbench.events import Event, Fatal, FitDone, JobDone, Note, WorkOptions
from xbench.fit_tasks import FitTask
from xbench.keys import read_sealed, sealed
from xbench.manifest import write_manifest
from xbench.origin import origins, settings
from xbench.plan import Executor, Plan, count_units, make_plan, units, write_plan
from xbench.plugins import Registry, discover
from xbench.report.html import write_report
from xbench.results import Outcome, Run
from xbench.stopping import Stoppable
from xbench.store import Store
from xbench.tables import write_tables


def run(suite: str, **settings: object) -> Run:
    """Run a suite and return its tables.

    Parameters
    ----------
    suite
        A suite's name.
    settings
        The keys of the command line: ``run("mnist", explainer="cam/*", limit=100, device="cpu")``; ``data_root`` and
        ``data_size`` stand for ``data.root`` and ``data.size``.

    Raises
    ------
    XbenchError
        A setting is wrong, data are missing, a folder cannot be written.
    """
    arguments = [f"suite={suite}"]
    for name, value in settings.items():
        key = name.replace("data_", "data.", 1) if name.startswith("data_") else name
        text = ",".join(map(str, value)) if isinstance(value, (list, tuple)) else str(value)
        arguments.append(f"{key}={text}")
    registry = discover()
    config = make_config(arguments, registry)
    plan = make_plan(config)
    outcome = execute(plan, registry)
    made = Run(config.out, [cell.key for cell in plan.cells], config.primary, outcome)
    write_tables(made.boards, config.out / "leaderboard", config.primary)
    write_report(config.out)
    return made


def execute(
    plan: Plan,
    registry: Registry,
    listen: Callable[[Event], None] = lambda event: None,
    stopping: Callable[[], bool] = lambda: False,
    share: Store | None = None,
    store: Store | None = None,
) -> Outcome:
    """Carry out what is not committed yet; what breaks is recorded and the rest goes on.

    Parameters
    ----------
    plan
        What to do.
    registry
        Where the executor is found.
    listen
        Hears every event, for a progress display.
    stopping
        Whether to stop: asked before every unit; those in flight are finished.
    share
        Of a run that has been prepared (`prepare`) and is shared out, the store that knows which part to do (`xbench.shards`).
    store
        That of the run's folder where the caller has read it: what it knows to be whole is not read again.

    Raises
    ------
    XbenchError
        Nothing can go on: no such device, the folder cannot be written.
    """
    config = plan.config
    if share is not None:
        return _carry_out(plan, registry, share, listen, stopping, None)
    store = store or Store(config.out)
    with alone(config.out) as first:
        if not first:
            listen(Note(f"another run is writing to {config.out}: what it commits is not computed again"))
        prepare(plan, registry, store)
        return _carry_out(plan, registry, store, listen, stopping, None if first else random.Random())


def prepare(plan: Plan, registry: Registry, store: Store, mark: str | None = None) -> None:
    """Write down what is to be done, and forget what failed, so that it is tried again.

    ``mark`` is that of the cache (`xbench.shared`), for a run that several machines are to share.
    """
    store.sweep()
    write_plan(plan, store)
    if damaged := _write_manifest(plan, registry, mark):
        store.damaged.append(damaged)
    costs = plan.config.out / "cost.json"
    if os.path.lexists(costs) and read_sealed(costs) is None:
        store.damaged.append(costs)
        remove_own(costs)
    for cell in plan.cells:
        if not cell.unsupported:
            store.forgive(cell.key)


def _carry_out(
    plan: Plan,
    registry: Registry,
    store: Store,
    listen: Callable[[Event], None],
    stopping: Callable[[], bool],
    draw: random.Random | None,
) -> Outcome:
    config = plan.config
    runnable = {cell.key: cell for cell in plan.cells if not cell.unsupported}
    options = WorkOptions(
        out=config.out.absolute(),
        device=config.device,
        batch=config.batch,
        threads=config.threads,
        budget=config.budget,
        workers=config.workers or workers_of(config.device, count_units(plan), os.environ),
        silence=config.silence,
        own_choice=config.workers is None,
    )
    failed: dict[str, tuple[str, str]] = {}
    counts = {"slices": 0, "fits": 0}
    network = 0.0

    def follow(events: Iterator[Event]) -> None:
        nonlocal network
        for event in events:
            listen(event)
            if isinstance(event, Fatal):
                raise XbenchError(event.text)
            if isinstance(event, JobDone) and event.status == "ok":
                counts["slices"] += not event.found
                network += event.network_seconds
            elif isinstance(event, JobDone):
                failed[event.key] = (event.status, event.reason)
            elif isinstance(event, FitDone) and event.problem:
                failed[event.key] = ("fit_failed", event.problem)
            elif isinstance(event, FitDone):
                counts["fits"] += 1

    with _executor(config, registry, options) as executor:
        for stage in _fit_stages(plan, store, failed):
            follow(executor.run(stage))
        for cell in runnable.values():
            _fail_without_fit(cell, store, failed)
        start = time.monotonic()
        left = units(plan, store, skip=failed, draw=draw)
        follow(executor.run(Stoppable(left, stopping, listen)))
        wall = time.monotonic() - start
        workers = getattr(executor, "workers", options.workers)
    busy = network / (wall * workers) if counts["slices"] else None
    if busy is not None:
        cost = {"device_busy": busy, "network_seconds": network, "wall_seconds": wall, "slices": counts["slices"]}
        costs = config.out / "cost.json"
        write_atomic(costs, json.dumps(sealed({**cost, "workers": workers}), indent=1).encode(), own=True)
    failures = tuple((runnable[key], *failed[key]) for key in runnable if key in failed)
    damage = tuple(dict.fromkeys([*store.damaged, *store.without_cost]))
    return Outcome(counts["slices"], counts["fits"], failures, busy, damage)


def missing_fits(plan: Plan, store: Store) -> list[str]:
    """Return the keys of the fits that some cell with missing slices needs and the cache has not."""
    needed: dict[str, set[int]] = {}  # and the epochs whose weights are explained
    for cell in plan.cells:
        whole = (store.committed(cell.key, part, cell.selection.digest) for part in range(cell.n_slices))
        if not cell.unsupported and not all(whole):
            for fit in filter(None, (cell.model_fit, cell.explainer_fit, cell.oracle_fit)):
                needed.setdefault(fit, set())
            if cell.model_fit and cell.model.checkpoint is not None:
                needed[cell.model_fit].add(cell.model.checkpoint)
    by_key = {fit.key: fit for fit in plan.fits}
    for key in list(needed):
        for fit in by_key[key].after:
            needed.setdefault(fit, set())
    missing = []
    for key in (fit.key for fit in plan.fits if fit.key in needed):
        damaged = damaged_fit(key, needed[key])
        store.damaged.extend(damaged)
        if damaged or not is_finished(key):
            missing.append(key)
    return missing


def _fit_stages(plan: Plan, store: Store, failed: dict[str, tuple[str, str]]) -> Iterator[list[FitTask]]:
    """Yield the fits to train, those that others rest on first."""
    missing = set(missing_fits(plan, store))
    left = [fit for fit in plan.fits if fit.key in missing]
    while left:
        waiting = {fit.key for fit in left}
        stage = [fit for fit in left if waiting.isdisjoint(fit.after)]
        left = [fit for fit in left if not waiting.isdisjoint(fit.after)]
        ready = [fit for fit in stage if failed.keys().isdisjoint(fit.after)]
        for fit in stage:
            if not failed.keys().isdisjoint(fit.after):
                failed[fit.key] = ("fit_failed", "the model it explains could not be trained")
        if ready:
            yield ready


def _fail_without_fit(cell: Cell, store: Store, failed: dict[str, tuple[str, str]]) -> None:
    for fit, what in (
        (cell.model_fit, cell.model),
        (cell.explainer_fit, cell.explainer),
        (cell.oracle_fit, cell.model),
    ):
        if fit in failed and what is not None and cell.key not in failed:
            reason = f"training {what.text} failed: {failed[fit][1]}"
            store.fail(cell.key, "fit_failed", reason)
            failed[cell.key] = ("fit_failed", reason)


@contextlib.contextmanager
def _executor(config: RunConfig, registry: Registry, options: WorkOptions) -> Iterator[Executor]:
    executor: Executor = import_attr(registry.executors[config.executor].factory)(options, **config.executor_params)
    try:
        yield executor
    finally:
        executor.close()


def _write_manifest(plan: Plan, registry: Registry, mark: str | None) -> Path | None:
    config = plan.config
    packages = ("xbench-xai", "torch", "torchvision", "numpy", "scipy", "pandas", "scikit-learn")
    manifest = {
        "command": sys.argv,
        "suite": config.suite,
        "title": config.title,
        "protocol": config.protocol,
        "data": config.data.text,
        "primary": config.primary,
        "settings": settings(config),
        "cells": [cell.key for cell in plan.cells],
        "slices": [cell.n_slices for cell in plan.cells],
        "components": component_facts(plan, registry),
        "notes": plan.notes,
        "xbench": xbench.__version__,
        "python": platform.python_version(),
        "machine": platform.platform(),
        "versions": {name: _version(name) for name in packages},
        "origins": origins(plan.config, registry),
        **({"cache": mark} if mark else {}),
    }
    return write_manifest(config.out, manifest)


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "not installed"
