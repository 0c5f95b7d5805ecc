"""The only loop model -> batch -> explainer -> check -> metrics -> commit; and the trainings it rests on."""

import contextlib
import dataclasses
import functools
import sys
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from xbench.building import build_module, recipe_of
from xbench.checks import InvalidMap, ModelTouched, checked, fingerprint
from xbench.columns import Columns, gallery_images, gallery_rows
from xbench.devices import choose_device, halving, keep_freed_memory, must_work, plain_floats
from xbench.errors import CannotWrite, Unsupported
from xbench.events import Event, FitDone, FitProgress, JobDone, JobStarted, Note, WorkOptions
from xbench.fit_tasks import FitTask
from xbench.fits import FitContext, obtain_fit
from xbench.kept import Kept, remade
from xbench.memory import out_of_memory
from xbench.metrics.cost import Meter, added
from xbench.models import Model
from xbench.plan import Job, Unit
from xbench.scene import Backdrop, Explain, Scene
from xbench.scoring import Stage, ask, clean_logits, one_line, score
from xbench.specs import ExplainerSpec, ModelSpec
from xbench.store import Arrays, Store, fit_folder, gallery_key, write_atomic
from xbench.tensors import Batch, make_batch
from xbench.unread import Mended, as_unmeasured, with_stand_ins
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
        self._kept = Kept(self.device, options.batch, self._note)
        self._noted: set[str] = set()
        # How many images a pass a job takes where more were too many for the device's memory, by its cell's key.
        self._most: dict[str, int] = {}

    def run(self, task: FitTask | Unit, threads: int | None = None) -> None:
        """Carry out one task; whatever breaks becomes an event and a record."""
        if threads:
            torch.set_num_threads(threads)
        with self._own_ways():
            if isinstance(task, FitTask):
                self._fit(task)
            else:
                self._unit(task)

    @contextlib.contextmanager
    def _own_ways(self) -> Iterator[None]:
        """Inside, torch does as results need it, whoever's process this is."""
        # A plugin may say no more than "cuda".
        here = torch.cuda.device(self.device) if self.device.type == "cuda" else contextlib.nullcontext()
        with only_tensors(), plain_floats(), here:
            yield

    def rest(self) -> None:
        """Give back what torch keeps of a GPU's memory without using it: another process may be given that GPU next."""
        if self.device.type == "cuda":
            torch.cuda.empty_cache()

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
            must_work(self.device)
        else:
            self.emit(FitDone(task.key, time.monotonic() - start))

    def _train(self, task: FitTask, folder: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
        dataset = Mended(self._kept.dataset(task.data, task.data_root), self._note)
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
            context.model = self._kept.model(task.model, task.model_fit, task.shape, task.classes, task.seed)[0]
        return dict(recipe_of(task.component)(context)), context.notes

    def _unit(self, unit: Unit) -> None:
        """Carry out a unit block by block, so that memory does not grow with a slice, and commit its jobs with the last."""
        going = {job.key: _Tally() for job in unit.jobs}
        size = self._kept.images_a_pass(unit.shape)
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
            must_work(self.device)
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
                    status, reason = "oom", f"out of memory with one image a pass on {self.device} ({reason})"
                with contextlib.suppress(OSError, ValueError):  # a full disk, or a plugin that closed it
                    print(detail, file=sys.stderr)  # the worker's log
            if status != "ok":
                del going[job.key]
                self._give_up(job.key, unit, status, reason, detail)
                # Whatever it left behind goes before the next one starts.
                self._kept.forget()
                stage = None
                must_work(self.device)
            elif last:
                seconds = float(tally.cost["network_seconds"])
                self.emit(JobDone(job.key, unit.part, len(unit.ids), network_seconds=seconds))

    def measure(self, unit: Unit) -> Arrays:
        """Return the columns of a unit's one job, made in one pass, without committing them; raises whatever breaks."""
        with self._own_ways():
            stage, (job,) = self._stage(unit), unit.jobs
            return self._score(job, stage, self._kept.images_a_pass(unit.shape), ())[0].arrays()

    def _give_up(self, key: str, unit: Unit, status: str, reason: str, detail: str = "") -> None:
        self.store.fail(key, status, reason, detail)
        self.emit(JobDone(key, unit.part, len(unit.ids), status, reason))

    def _stage(self, unit: Unit) -> Stage:
        model, weights = self._kept.model(unit.model, unit.model_fit, unit.shape, unit.classes, unit.seed)
        dataset = self._kept.dataset(unit.data, unit.data_root)
        found = dataset.load(unit.ids)
        samples = with_stand_ins(found)
        labels = torch.tensor(unit.labels, dtype=torch.int64)
        batch = make_batch(samples, unit.ids, labels, unit.seed, len(unit.classes)).to(self.device)
        listed = "classes" in unit.data.spec.params
        logits = clean_logits(model, batch, len(unit.classes), self.device, listed)
        batch = batch.with_target(_targets(unit.target, batch, logits, unit.classes))
        oracle, oracle_weights = self._kept.oracle(unit)
        mean, untouched = self._kept.mean_colour(dataset, unit), fingerprint(model.module)
        return Stage(
            model, weights, batch, logits, mean, untouched, unit.classes, oracle, oracle_weights, unread=found.unread
        )

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
                self._note(remade(path))

        size = self._kept.images_a_pass(block.shape)
        tried = [min(size, self._most.get(job.key, size))]

        def smaller(size: int) -> None:
            stage.backdrops.clear()
            tried.append(size)
            self.emit(Note(f"out of memory; going on with {size} images a pass"))

        found = halving(lambda size: self._score(job, stage, size, rows), tried[0], self.device, smaller)
        self._most[job.key] = tried[-1]  # in the slice's other blocks, and in other slices
        tally.add(*found, {block.ids[place]: why for place, why in stage.unread.items()})

    def _commit(self, job: Job, unit: Unit, stage: Stage, tally: "_Tally") -> None:
        tally.columns.check()
        explained_by = self._kept.explained_by(job.explainer_fit)
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
        component, fit, built = job.explainer, job.explainer_fit, self._kept.explainers
        if job.key not in built:
            built[job.key] = self._kept.explainer(component, fit, backdrop.model)

        def rebind(model: Model) -> Explain:
            explainer = built[job.key] if model is backdrop.model else self._kept.explainer(component, fit, model)
            return lambda batch: checked(ask(explainer, batch, job.key), batch)

        if component.innermost.stored:  # nobody can be asked, and to look up takes no time worth telling
            found = ask(built[job.key], backdrop.batch, job.key)
            return Scene(backdrop, checked(found, backdrop.batch), component.polarity)
        with meter.explaining(len(backdrop.batch)):
            found = ask(built[job.key], backdrop.batch, job.key)
        return Scene(backdrop, checked(found, backdrop.batch), component.polarity, rebind)


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
