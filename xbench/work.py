"""The only loop model -> batch -> explainer -> check -> metrics -> commit; and the trainings it rests on."""

import contextlib
import dataclasses
import functools
import os
import sys
import time
import traceback
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from xbench.checks import InvalidMap, ModelTouched, checked, fingerprint
from xbench.columns import Columns, gallery_images, gallery_rows
from xbench.components import Component, factory_of, import_attr
from xbench.data import Dataset
from xbench.devices import choose_device, halving, images_a_pass, keep_freed_memory
from xbench.errors import CannotWrite, Unsupported
from xbench.events import Event, FitDone, FitProgress, JobDone, JobStarted, Note, WorkOptions
from xbench.fit_tasks import FitTask, open_dataset
from xbench.fits import Fit, FitContext, Recipe, load_fit, obtain_fit
from xbench.keys import canonical, read_sealed, sealed
from xbench.memory import out_of_memory
from xbench.metrics.cost import Meter, added
from xbench.models import Model
from xbench.plan import Job, Unit
from xbench.scene import Backdrop, Explain, Scene
from xbench.scoring import Stage, ask, build_explainer, clean_logits, evenly, mean_colour, one_line, score
from xbench.seeds import stable_int
from xbench.specs import ExplainerSpec, ModelSpec
from xbench.store import Arrays, Store, cache_folder, content_key, fit_folder, gallery_key, write_atomic
from xbench.tensors import Batch, make_batch
from xbench.unread import Mended, as_unmeasured, readable, with_stand_ins
from xbench.weights import only_tensors

Emit = Callable[[Event], None]
_BLOCK = 64
"""Samples that are held at once, or as many as a pass takes if that is more."""


@dataclasses.dataclass
class _Tally:
    """What a job has come to in the blocks of a slice that went by; ``unread``: why samples could not be read, by id."""

    columns: Columns = dataclasses.field(default_factory=Columns)
    cost: dict[str, Any] = dataclasses.field(default_factory=dict)
    unread: dict[str, str] = dataclasses.field(default_factory=dict)

    def add(self, columns: Columns, cost: dict[str, Any], unread: dict[str, str]) -> None:
        """Add a block."""
        self.columns.extend(columns)
        self.cost = added(self.cost, cost)
        self.unread |= unread


class Worker:
    """One process's worth of work: takes fits and units, commits results, says how it goes.

    Parameters
    ----------
    options
        Device, batch, folder.
    emit
        Called with every event.
    number
        Which worker of the run this is; spreads workers over GPUs.
    """

    def __init__(self, options: WorkOptions, emit: Emit, number: int = 0) -> None:
        keep_freed_memory()
        self.options, self.emit = options, emit
        self.device = choose_device(options.device, number)
        self.store = Store(options.out)
        self._models: dict[str, tuple[Model, str | None]] = {}
        self._datasets: dict[str, Dataset] = {}
        self._explainers: dict[str, Callable[[Batch], object]] = {}
        self._oracles: dict[str, tuple[Model, str | None]] = {}
        self._noted: set[str] = set()
        # Of trained explainers, which are built again for every network that forgets.
        self._trained: dict[str, Fit] = {}
        torch.backends.cuda.matmul.allow_tf32 = False
        torch.backends.cudnn.allow_tf32 = False
        torch.backends.cudnn.deterministic = True

    def run(self, task: FitTask | Unit, threads: int | None = None) -> None:
        """Carry out one task; whatever breaks becomes an event and a record."""
        if threads:
            torch.set_num_threads(threads)
        with only_tensors():  # a plugin may load files of anybody's
            if isinstance(task, FitTask):
                self._fit(task)
            else:
                self._unit(task)

    def _fit(self, task: FitTask) -> None:
        start = time.monotonic()
        try:
            obtain_fit(
                task.key,
                task.definition,
                lambda folder: self._train(task, folder),
                lambda: self.emit(Note(f"{task.label}: another process is training it; waiting for its weights")),
            )
        except CannotWrite:
            raise
        except Exception as error:
            write_atomic(fit_folder(task.key) / "failure.txt", _trace().encode())
            self.emit(FitDone(task.key, time.monotonic() - start, one_line(error)))
        else:
            self.emit(FitDone(task.key, time.monotonic() - start))

    def _train(self, task: FitTask, folder: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
        dataset = Mended(self._dataset(task.data, task.data_root), self._note)
        spec = task.component.spec
        context = FitContext(
            dataset=dataset,
            train=dataset.index("train"),
            valid=dataset.index("valid"),
            params=task.component.params,
            seed=task.seed,
            device=self.device,
            folder=folder,
            report=lambda done, total, text: self.emit(FitProgress(task.key, done, total, text)),
            keep_epochs=isinstance(spec, ModelSpec) and spec.checkpoints,
        )
        if isinstance(spec, ModelSpec):
            context.module = build_module(task.component, task.shape, task.classes, task.seed).to(self.device)
        else:
            assert task.model is not None
            context.model = self._model(task.model, task.model_fit, task.shape, task.classes, task.seed)[0]
        return dict(recipe_of(task.component)(context)), context.notes

    def _unit(self, unit: Unit) -> None:
        """Carry out a unit block by block, so that memory does not grow with a slice, and commit its jobs with the last."""
        going = {job.key: _Tally() for job in unit.jobs}
        size = self._pass(unit.shape)
        step = -(-_BLOCK // size) * size
        for start in range(0, len(unit.ids), step):
            rows = slice(start, start + step)
            jobs = tuple(job for job in unit.jobs if job.key in going)
            if not jobs:
                return
            block = dataclasses.replace(unit, ids=unit.ids[rows], labels=unit.labels[rows], jobs=jobs)
            self._block(block, unit, start, going)

    def _block(self, block: Unit, unit: Unit, start: int, going: "dict[str, _Tally]") -> None:
        """Carry out the jobs that go on for some samples of a unit, from place ``start``; those that fail go no further."""
        stage: Stage | None
        try:
            stage = self._stage(block)
        except CannotWrite:
            raise
        except Exception as error:
            for job in block.jobs:
                reason = f"before any explainer ran: {one_line(error)}"
                self._give_up(job.key, unit, "oom" if out_of_memory(error) else "error", reason, _trace())
            going.clear()
            return
        last = start + len(block.ids) == len(unit.ids)
        for job in block.jobs:
            if self.store.committed(job.key, unit.part, unit.samples_digest):  # meanwhile, by another run
                self.emit(JobDone(job.key, unit.part, len(unit.ids), found=True))
                del going[job.key]
                continue
            self.emit(JobStarted(job.key, unit.part))
            status, reason, detail, tally = "ok", "", "", going[job.key]
            try:
                if stage is None:
                    stage = self._stage(block)
                self._job(job, block, stage, tally, first=start == 0)
                if last:
                    self._commit(job, unit, stage, tally)
            except Unsupported as error:
                status, reason = "unsupported", one_line(error, name=False)
            except InvalidMap as error:
                status, reason = "invalid_map", one_line(error, name=False)
            except ModelTouched as error:
                status, reason = "error", one_line(error, name=False)
            except CannotWrite:
                raise  # no cell's fault, and nothing more could be kept
            except Exception as error:
                status, reason, detail = "error", one_line(error), _trace()
                if out_of_memory(error):
                    status, reason = "oom", f"out of memory with one image a pass on {self.device}"
                with contextlib.suppress(OSError, ValueError):  # a full disk, or a plugin that closed it
                    print(detail, file=sys.stderr)  # the worker's log
            if status != "ok":
                del going[job.key]
                self._give_up(job.key, unit, status, reason, detail)
                # Whatever it left behind goes before the next one starts.
                self._explainers.clear()
                self._models.clear()
                stage = None
            elif last:
                seconds = float(tally.cost["network_seconds"])
                self.emit(JobDone(job.key, unit.part, len(unit.ids), network_seconds=seconds))

    def measure(self, unit: Unit) -> Arrays:
        """Return the columns of a unit's one job, made in one pass, without committing them; raises whatever breaks."""
        with only_tensors():
            stage, (job,) = self._stage(unit), unit.jobs
            return self._score(job, stage, self._pass(unit.shape), ())[0].arrays()

    def _give_up(self, key: str, unit: Unit, status: str, reason: str, detail: str = "") -> None:
        self.store.fail(key, status, reason, detail)
        self.emit(JobDone(key, unit.part, len(unit.ids), status, reason))

    def _stage(self, unit: Unit) -> Stage:
        model, weights = self._model(unit.model, unit.model_fit, unit.shape, unit.classes, unit.seed)
        dataset = self._dataset(unit.data, unit.data_root)
        found = dataset.load(unit.ids)
        samples = with_stand_ins(found)
        labels = torch.tensor(unit.labels, dtype=torch.int64)
        batch = make_batch(samples, unit.ids, labels, unit.seed, len(unit.classes)).to(self.device)
        listed = "classes" in unit.data.spec.params
        logits = clean_logits(model, batch, len(unit.classes), self.device, listed)
        batch = batch.with_target(_targets(unit.target, batch, logits, unit.classes))
        oracle: tuple[Model | None, str | None] = None, None
        if unit.oracle_fit:
            if unit.oracle_fit not in self._oracles:
                made = self._loaded(unit.model.trained, unit.oracle_fit, unit.shape, unit.classes, unit.seed)
                self._oracles = {unit.oracle_fit: made}
            oracle = self._oracles[unit.oracle_fit]
        mean, untouched = self._mean(dataset, unit), fingerprint(model.module)
        return Stage(model, weights, batch, logits, mean, untouched, unit.classes, *oracle, unread=found.unread)

    def _job(self, job: Job, block: Unit, stage: Stage, tally: "_Tally", *, first: bool) -> None:
        """Explain and score a block of samples; ``first``: the first of its slice, which keeps pictures."""
        rows: Sequence[int] = ()
        if block.part == 0 and first and job.explainer:
            shown = [place for place in range(len(block.ids)) if place not in stage.unread]
            labels, guesses = (side[shown].tolist() for side in (stage.batch.label, stage.logits.argmax(dim=1)))
            rows = [shown[place] for place in gallery_rows(labels, guesses)]
            pictures, known = gallery_key(block.samples_digest, rows), len(self.store.damaged)
            if not self.store.has_gallery(pictures):
                self.store.write_gallery(pictures, gallery_images(stage.batch, rows))
            for path in self.store.damaged[known:]:
                self._note(_damaged(path))

        def smaller(size: int) -> None:
            stage.backdrops.clear()
            self.emit(Note(f"out of memory; going on with {size} images a pass"))

        found = halving(lambda size: self._score(job, stage, size, rows), self._pass(block.shape), self.device, smaller)
        tally.add(*found, {block.ids[place]: why for place, why in stage.unread.items()})

    def _commit(self, job: Job, unit: Unit, stage: Stage, tally: "_Tally") -> None:
        tally.columns.check()
        trained = self._trained.get(job.explainer_fit or "")
        explained_by = trained.sha256 if trained else None
        asks = any("oracle" in getattr(metric.spec, "uses", ()) for metric in job.metrics)
        oracle = stage.oracle_weights if asks else None
        untold = tally.columns.unmeasured | as_unmeasured(tally.unread)
        arrays = tally.columns.arrays()
        self.store.commit(job.key, unit.part, arrays, stage.weights, tally.cost, explained_by, untold, oracle)

    def _score(self, job: Job, stage: Stage, size: int, rows: Sequence[int]) -> tuple[Columns, dict[str, Any]]:
        explained = functools.partial(self._explained, job) if job.explainer else None
        return score(stage, size, job.metrics, explained, rows, self._note)

    def _note(self, text: str) -> None:
        """Say it once, however many explainers and batches it is true of."""
        if text not in self._noted:
            self._noted.add(text)
            self.emit(Note(text))

    def _explained(self, job: Job, backdrop: Backdrop, meter: Meter) -> Scene:
        assert job.explainer is not None
        assert isinstance(job.explainer.spec, ExplainerSpec)
        component, fit = job.explainer, job.explainer_fit
        if job.key not in self._explainers:
            self._explainers[job.key] = self._explainer(component, fit, backdrop.model)

        def rebind(model: Model) -> Explain:
            known = model is backdrop.model
            explainer = self._explainers[job.key] if known else self._explainer(component, fit, model)
            return lambda batch: checked(ask(explainer, batch, job.key), batch)

        if component.innermost.stored:  # nobody can be asked, and to look up takes no time worth telling
            found = ask(self._explainers[job.key], backdrop.batch, job.key)
            return Scene(backdrop, checked(found, backdrop.batch), component.polarity)
        with meter.explaining(len(backdrop.batch)):
            found = ask(self._explainers[job.key], backdrop.batch, job.key)
        return Scene(backdrop, checked(found, backdrop.batch), component.polarity, rebind)

    def _explainer(self, component: Component, fit: str | None, model: Model) -> Callable[[Batch], object]:
        if not fit:
            return build_explainer(component, model)
        found = self._trained.get(fit) or load_fit(fit)
        if found is None:
            raise FileNotFoundError(f"the fit of {component.text} is not in {fit_folder(fit)}")
        self._trained[fit] = found
        state = {name: value.to(self.device, copy=True) for name, value in found.state.items()}
        return build_explainer(component, model, state)

    def _model(
        self, component: Component, fit: str | None, shape: tuple[int, int, int], classes: tuple[str, ...], seed: int
    ) -> tuple[Model, str | None]:
        key = content_key([component.definition(), fit, list(shape), list(classes), seed])
        if key not in self._models:
            self._models.clear()
            self._explainers.clear()
            self._models[key] = self._loaded(component, fit, shape, classes, seed)
        return self._models[key]

    def _loaded(
        self, component: Component, fit: str | None, shape: tuple[int, int, int], classes: tuple[str, ...], seed: int
    ) -> tuple[Model, str | None]:
        module, weights = build_module(component, shape, classes, seed), None
        if fit:
            found = load_fit(fit, component.checkpoint)
            if found is None:
                what = "weights" if component.checkpoint is None else f"weights of epoch {component.checkpoint}"
                raise FileNotFoundError(f"the {what} of {component.text} are not in {fit_folder(fit)}")
            module.load_state_dict(found.state)
            weights = found.sha256
        spec = component.network.spec
        assert isinstance(spec, ModelSpec)
        return Model(module.to(self.device), spec.link, self._pass(shape)), weights

    def _pass(self, shape: tuple[int, int, int]) -> int:
        return self.options.batch or images_a_pass(self.device, shape)

    def _dataset(self, component: Component, root: Path | None) -> Dataset:
        key = f"{component.text} {root}"
        if key not in self._datasets:
            self._datasets[key] = open_dataset(component, root)
        return self._datasets[key]

    def _mean(self, dataset: Dataset, unit: Unit) -> Tensor:
        """Return [C]: the mean colour over at most 256 test samples, evenly spread; kept in the cache."""
        path = cache_folder() / "colours" / f"{content_key([unit.data.definition(), unit.data_digest])}.json"
        kept = read_sealed(path)
        if kept is None:
            if os.path.lexists(path):
                self._note(_damaged(path))
            ids = dataset.index("test").ids
            kept = {"mean": mean_colour(readable(dataset.load([ids[i] for i in evenly(len(ids))])).image)}
            write_atomic(path, canonical(sealed(kept)), own=True)
        return torch.tensor(kept["mean"], dtype=torch.float32, device=self.device)


def build_module(
    component: Component, shape: tuple[int, int, int], classes: tuple[str, ...], seed: int
) -> torch.nn.Module:
    """Return a classifier's net, its weights drawn from the seed; one that wraps another starts from the other's."""
    params: dict[str, Any] = dict(component.params)
    if component.of:
        params["of"] = build_module(component.of, shape, classes, seed)
    factory = factory_of(component.spec)  # before the seed is set: a module that is imported may draw numbers
    torch.manual_seed(stable_int("init", component.spec.id, seed))
    return factory(shape, classes, **params)


def recipe_of(component: Component) -> Recipe:
    """Return how a component is trained: its own recipe, given its own parameters and that of the model it wraps."""
    spec, of = component.spec, component.of
    assert isinstance(spec, (ModelSpec, ExplainerSpec))
    assert spec.fit
    fit: Recipe = import_attr(spec.fit)
    wrapped = recipe_of(of) if of and isinstance(spec, ModelSpec) else None
    return lambda context: fit(dataclasses.replace(context, params=component.params, wrapped_fit=wrapped))


def _trace(size: int = 10_000) -> str:
    """Return the traceback of the error at hand; of one whose message is huge, the beginning and the end."""
    text = traceback.format_exc()
    return text if len(text) <= 2 * size else f"{text[:size]}\n[...]\n{text[-size:]}"


def _targets(policy: str, batch: Batch, logits: Tensor, classes: tuple[str, ...]) -> Tensor:
    predicted = logits.argmax(dim=1)
    if policy == "label":
        return batch.label
    if policy == "predicted":
        return predicted
    if policy == "annotated":
        # A mask that speaks of one class is only a truth about that class: it is the one explained.
        if batch.mask is None or batch.mask_class is None:
            return predicted
        speaks = batch.mask.flatten(1).any(dim=1) & (batch.mask_class >= 0)
        return torch.where(speaks, batch.mask_class, predicted)
    return torch.full_like(batch.label, classes.index(policy))


def _damaged(path: Path) -> str:
    return f"{path} was damaged and is made again"
