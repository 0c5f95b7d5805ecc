"""Fitted artifacts: fit key -> cached weights; one process trains, the others wait; a killed training resumes by epoch."""

import hashlib
import io
import json
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import torch
from filelock import FileLock, Timeout
from safetensors import SafetensorError
from safetensors.torch import load as parse_safetensors
from safetensors.torch import save as to_safetensors
from torch import Tensor, nn

from xbench.atomic import remove_own, sweep_folder, write_atomic
from xbench.cache import damaged_fit, epoch_file, file_sha256, fit_folder, fit_info
from xbench.data import Dataset, Index
from xbench.errors import CannotWrite
from xbench.keys import sealed
from xbench.models import Model

_DIGEST_BYTES = 32
Report = Callable[[int, int, str], None]
Recipe = Callable[["FitContext"], Mapping[str, Tensor]]


class Objective(Protocol):
    """What a classifier's training minimises in place of its recipe's own loss.

    Attributes
    ----------
    needs_masks
        Whether it is called with masks where the data have some.
    progress
        The share of the training that is behind, set before every step.
    monitors
        Scalars of the last step by name; their means over each epoch are noted beside the weights.
    """

    needs_masks: bool
    progress: float
    monitors: Mapping[str, Tensor]

    @property
    def ready(self) -> bool:
        """Whether an epoch that ends now may be kept as the best one of a training that stops early."""

    def __call__(
        self,
        module: nn.Module,
        image: Tensor,
        label: Tensor,
        mask: Tensor | None,
        classification: Callable[[Tensor], Tensor],
    ) -> Tensor:
        """Return the scalar loss of a step.

        Parameters
        ----------
        module
            The net, in training mode.
        image, label
            [B,C,H,W] as the recipe's augmentation left them, and [B] int64 (of images blended by mixup, the label of the
            larger part).
        mask
            [B,H,W] bool, augmented as the images were, empty where a sample has none; or None.
        classification
            The recipe's own loss of logits [B,K].
        """


@dataclass
class FitContext:
    """What a training recipe gets.

    Attributes
    ----------
    dataset, train, valid
        The data set and the indices of its training and validation splits.
    params
        The component's resolved parameters.
    seed
        The fit seed; all of a training's randomness must come from it.
    device
        Where to train.
    module
        For a model: the freshly built net on ``device``, its weights drawn from ``seed``.
    model
        For an explainer: the classifier to be explained.
    report
        ``report(done, total, text)`` shows progress.
    folder
        Where checkpoints go.
    keep_epochs
        Whether `keep` stores the weights of each epoch.
    wrapped_fit
        For a model that wraps another: the other's recipe, with its own parameters, to be called with this context or a
        changed one.
    objective
        What `xbench.training.train_classifier` minimises in place of the recipe's own loss, or None.
    """

    dataset: Dataset
    train: Index
    valid: Index
    params: Mapping[str, Any]
    seed: int
    device: torch.device
    folder: Path
    report: Report = lambda done, total, text: None
    module: nn.Module | None = None
    model: Model | None = None
    keep_epochs: bool = False
    notes: dict[str, Any] = field(default_factory=dict)
    wrapped_fit: Recipe | None = None
    objective: Objective | None = None

    def resume(self) -> dict[str, Any] | None:
        """Return what the last `checkpoint` stored, on the CPU, or None at the start (or where it is damaged)."""
        path = self.folder / "checkpoint.pt"
        try:
            raw = path.read_bytes()
        except FileNotFoundError:
            return None
        except OSError:
            raw = b""
        content, told = raw[:-_DIGEST_BYTES], raw[-_DIGEST_BYTES:]
        # Compared before it is parsed: torch.load does not notice a flipped bit.
        if hashlib.sha256(content).digest() == told:
            found: dict[str, Any] = torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)
            return found
        remove_own(path)
        self.report(0, 0, f"checkpoint {path} is damaged: it is not what its hash says; training starts anew")
        return None

    def checkpoint(self, state: Mapping[str, Any]) -> None:
        """Store tensors, numbers and strings from which `resume` goes on; replaces the last one atomically.

        Raises CannotWrite where it cannot be written.
        """
        content = io.BytesIO()
        torch.save(dict(state), content)
        # Behind the archive, where torch.load does not mind it.
        content.write(hashlib.sha256(content.getvalue()).digest())
        write_atomic(self.folder / "checkpoint.pt", content.getvalue(), own=True)

    def keep(self, epoch: int, state: Mapping[str, Tensor]) -> None:
        """Store the weights after an epoch (1, 2, ...), where the component keeps them."""
        if self.keep_epochs:
            write_atomic(epoch_file(self.folder, epoch), to_safetensors(_contiguous(state)), own=True)


@dataclass(frozen=True)
class Fit:
    """A finished fit: weights on the CPU, the SHA-256 of their file, and what was noted when it was made."""

    state: dict[str, Tensor]
    sha256: str
    info: Mapping[str, Any]


def load_fit(key: str, checkpoint: int | None = None) -> Fit | None:
    """Return a finished fit (or its weights after one epoch), or None; a damaged file counts as missing."""
    folder = fit_folder(key)
    info = fit_info(folder) or {}
    path, told = folder / "weights.safetensors", info.get("sha256", "")
    if checkpoint is not None:
        # Earlier versions recorded no hashes of epochs.
        path, told = epoch_file(folder, checkpoint), info.get("kept", {}).get(str(checkpoint))
    try:
        raw = path.read_bytes()
        sha256 = hashlib.sha256(raw).hexdigest()
        return Fit(parse_safetensors(raw), sha256, info) if info and told in (None, sha256) else None
    except (OSError, SafetensorError):
        return None


def obtain_fit(
    key: str,
    definition: Mapping[str, Any],
    train: Callable[[Path], tuple[Mapping[str, Tensor], Mapping[str, Any]]],
    waiting: Callable[[], None] = lambda: None,
) -> Fit:
    """Return the fit of this key, training it first where the cache has none.

    Parameters
    ----------
    key
        The fit key.
    definition
        What the key is the hash of; stored beside the weights.
    train
        Called with the fit's folder; returns the state dict and notes for the record.
    waiting
        Called once where another process is training the same at this moment.

    Raises
    ------
    CannotWrite
        The cache cannot be written.
    """
    if found := _whole(key):
        return found
    folder = fit_folder(key)
    lock = FileLock(folder / "lock")
    try:
        folder.mkdir(parents=True, exist_ok=True)
        try:
            lock.acquire(timeout=0)
        except Timeout:
            waiting()
            lock.acquire()
    except OSError as error:
        raise CannotWrite(f"cannot write to {folder}: {error.strerror or error}") from error
    try:
        if found := _whole(key):  # another process trained it while we waited
            return found
        for each in (folder, folder / "epochs"):
            sweep_folder(each)
        start = time.monotonic()
        state, notes = train(folder)
        raw = to_safetensors(_contiguous(state))
        info = {
            **notes,
            "key": key,
            "definition": definition,
            "sha256": hashlib.sha256(raw).hexdigest(),
            "seconds": round(time.monotonic() - start, 3),
            "kept": {str(int(path.stem)): file_sha256(path) for path in sorted(folder.glob("epochs/*.safetensors"))},
        }
        write_atomic(folder / "weights.safetensors", raw, own=True)
        # JSON has no NaN, which a recipe may note.
        plain = json.loads(json.dumps(info, default=str), parse_constant=lambda name: None)
        write_atomic(folder / "fit.json", json.dumps(sealed(plain), indent=1, sort_keys=True).encode(), own=True)
        remove_own(folder / "checkpoint.pt")
    finally:
        lock.release()
    found = load_fit(key)
    if found is None:
        raise OSError(f"the fit just written to {folder} cannot be read back")
    return found


def _whole(key: str) -> Fit | None:
    """Return a finished fit if all that was kept of it is what was recorded."""
    return None if damaged_fit(key, None) else load_fit(key)


def _contiguous(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {name: value.detach().to("cpu").contiguous().clone() for name, value in state.items()}
