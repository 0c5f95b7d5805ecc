"""Handwritten digits as data sets: MNIST from idx files, and scikit-learn's bundled digits."""

import hashlib
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from xbench.data import Dataset, Floats, Index, Ints, Samples
from xbench.errors import XbenchError
from xbench.store import cache_folder
from xbench_mnist.idx import NAMES, find_idx, read_idx

SIDE = 28
CLASSES = tuple("0123456789")
STROKE = 0.5
PUBLISHED = {"train": 60_000, "test": 10_000}

Bytes = NDArray[np.uint8]


@dataclass(frozen=True)
class Part:
    """One split: n sample ids, pixels [n,28,28] from 0 to 255, labels [n]."""

    ids: tuple[str, ...]
    pixels: Bytes
    labels: Ints
    digest: str
    notes: tuple[str, ...] = ()


@dataclass
class Digits:
    """A `xbench.data.Dataset` of digits held in memory; ``read`` gives a split by name and is called once a split."""

    read: Callable[[str], Part]
    _parts: dict[str, Part] = field(default_factory=dict)
    _place: dict[str, tuple[str, int]] = field(default_factory=dict)

    def index(self, split: str) -> Index:
        """Return the index of ``train``, ``valid`` or ``test``; every digit is its own group."""
        part = self._part(split)
        return Index(part.ids, part.labels, part.ids, (1, SIDE, SIDE), CLASSES, part.digest, notes=part.notes)

    def load(self, ids: Sequence[str]) -> Samples:
        """Return images [B,1,28,28] in [0,1] and stroke masks [B,28,28]: pixels above .5, whatever class is explained.

        Raises KeyError for an id that is in no split.
        """
        for split in ("test", "valid", "train"):
            if all(name in self._place for name in ids):
                break
            self._part(split)
        places = [self._place[name] for name in ids]
        pixels = [self._parts[split].pixels[i] for split, i in places]
        image = np.array(pixels, np.float32).reshape(len(ids), SIDE, SIDE) / np.float32(255)
        return Samples(image[:, None], mask=image > STROKE, mask_class=np.full(len(ids), -1, np.int64))

    def _part(self, split: str) -> Part:
        if split not in self._parts:
            part = self._parts[split] = self.read(split)
            self._place |= {name: (split, i) for i, name in enumerate(part.ids)}
        return self._parts[split]


def mnist(root: Path | None) -> Dataset:
    """Return MNIST: train = the training file without its last twelfth, valid = that twelfth, test = the test file.

    Of the published files that is 55,000, 5,000 and 10,000. An id names the file and the place in it.

    Parameters
    ----------
    root
        A folder that holds the four idx files (packed or not), or ``raw`` or ``MNIST/raw`` with them. None takes
        ``$XBENCH_DATA`` where MNIST is there, else xbench's cache folder, into which they are then downloaded.

    Raises
    ------
    XbenchError
        The folder has no such files, one of them is damaged or missing, or the download failed; raised by `index`.
    """

    @cache
    def folder() -> Path:
        return _mnist_folder(root)

    @cache
    def contents(file: str) -> tuple[Bytes, Ints, str]:
        return _read_file(folder(), file)

    def read(split: str) -> Part:
        file = "test" if split == "test" else "train"
        images, labels, digest = contents(file)
        cut = len(labels) - len(labels) // 12
        part = {"train": slice(0, cut), "valid": slice(cut, None), "test": slice(None)}[split]
        note = f"{folder() / NAMES[file][0]} holds {len(labels):,} images; MNIST's has {PUBLISHED[file]:,}"
        return Part(
            ids=tuple(f"mnist-{file}-{i:05d}" for i in range(len(labels)))[part],
            pixels=images[part],
            labels=labels[part],
            digest=hashlib.sha256(f"mnist 1 {split} {digest}".encode()).hexdigest(),
            notes=() if len(labels) == PUBLISHED[file] else (note,),
        )

    return Digits(read)


def digits(root: Path | None = None) -> Dataset:
    """Return scikit-learn's 1,797 handwritten digits (8x8, 17 grey levels), enlarged to 28x28 by bicubic interpolation.

    They come with scikit-learn, so ``root`` is ignored. The split, 1,102/149/546, keeps the class shares and is fixed.
    """
    return Digits(_read_digits)


def _mnist_folder(root: Path | None) -> Path:
    if root is not None:
        root = root.expanduser()
        if found := _holding(root):
            return found
        raise XbenchError(
            f"data.root={root} {'holds no MNIST files' if root.is_dir() else 'is not a folder'}: "
            f"{NAMES['test'][0]}[.gz] and its three companions are looked for in MNIST/raw, raw and the folder itself"
        )
    given = os.environ.get("XBENCH_DATA")
    if given and (found := _holding(Path(given).expanduser())):
        return found
    cached = cache_folder() / "data"
    # torchvision unpacks a file once its MD5 is right: an unpacked one is whole, a packed one may be a broken download.
    whole = all((cached / "MNIST/raw" / name).is_file() for names in NAMES.values() for name in names)
    return cached / "MNIST/raw" if whole else _download(cached)


def _holding(root: Path) -> Path | None:
    """Return the folder at or under ``root`` with at least one of the idx files."""
    for folder in (root / "MNIST/raw", root / "raw", root):
        if any(find_idx(folder, name) for names in NAMES.values() for name in names):
            return folder
    return None


def _download(cached: Path) -> Path:
    from filelock import FileLock
    from torchvision.datasets import MNIST

    try:
        cached.mkdir(parents=True, exist_ok=True)
        with FileLock(cached / "mnist.lock"):
            MNIST(str(cached), download=True)
    except (OSError, RuntimeError) as error:
        reason = (str(error).strip() or type(error).__name__).splitlines()[-1]
        raise XbenchError(
            f"MNIST could not be downloaded into {cached} ({reason}); set data.root to a folder with its four idx "
            "files, or XBENCH_DATA to one with MNIST/raw; data=mnist/digits needs no file"
        ) from error
    return cached / "MNIST/raw"


def _read_file(folder: Path, file: str) -> tuple[Bytes, Ints, str]:
    """Return images [n,28,28], labels [n] and the SHA-256 of both, of the ``train`` or ``test`` files."""
    paths = []
    for name in NAMES[file]:
        path = find_idx(folder, name)
        if path is None:
            raise XbenchError(f"{folder} has no {name} and no {name}.gz; data=mnist/mnist needs it")
        paths.append(path)
    images, labels = read_idx(paths[0], 3), read_idx(paths[1], 1)
    if images.shape[1:] != (SIDE, SIDE):
        raise XbenchError(
            f"{paths[0]} holds images of {images.shape[1]} x {images.shape[2]} pixels; MNIST's have 28 x 28"
        )
    if len(images) != len(labels):
        raise XbenchError(f"{paths[0]} holds {len(images)} images but {paths[1]} {len(labels)} labels")
    if len(labels) and labels.max() > 9:
        raise XbenchError(f"{paths[1]} holds the label {labels.max()}; MNIST's are 0 to 9")
    digest = hashlib.sha256(images.tobytes())
    digest.update(labels.tobytes())
    return images, labels.astype(np.int64), digest.hexdigest()


@cache
def _read_digits(split: str) -> Part:
    from sklearn.datasets import load_digits

    bundle = load_digits()
    small, labels = bundle.images.astype(np.uint8), bundle.target.astype(np.int64)
    ids = [f"digits-{i:04d}" for i in range(len(labels))]
    chosen = np.flatnonzero(_digits_sides(ids, labels) == ("train", "valid", "test").index(split))
    raw = b"digits 1 " + split.encode() + small.tobytes() + labels.tobytes()
    return Part(
        ids=tuple(ids[i] for i in chosen),
        pixels=np.stack([_enlarged(small[i]) for i in chosen]),
        labels=labels[chosen],
        digest=hashlib.sha256(raw).hexdigest(),
    )


def _enlarged(small: Bytes) -> Bytes:
    """Return [28,28] from 0 to 255 of [8,8] from 0 to 16."""
    image: Floats = small.astype(np.float32) * np.float32(255 / 16)
    large = np.asarray(Image.fromarray(image).resize((SIDE, SIDE), Image.Resampling.BICUBIC), np.float32)
    pixels: Bytes = large.round().clip(0, 255).astype(np.uint8)
    return pixels


def _digits_sides(ids: Sequence[str], labels: Ints) -> Ints:
    """Return [n]: 0 train, 1 valid, 2 test, of each class the same shares in an order that hangs on the ids alone."""
    side = np.zeros(len(ids), np.int64)
    for label in range(len(CLASSES)):
        members = np.flatnonzero(labels == label).tolist()
        members.sort(key=lambda i: hashlib.sha256(ids[i].encode()).digest())
        n_test, n_valid = round(0.304 * len(members)), round(0.083 * len(members))
        side[members[:n_test]] = 2
        side[members[n_test : n_test + n_valid]] = 1
    return side
