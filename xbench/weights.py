"""Weights that were trained elsewhere: a local file or published ones, checked against the network before any is set."""

import contextlib
import functools
import hashlib
import io
import os
import re
import warnings
import zipfile
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from xbench.errors import XbenchError

if TYPE_CHECKING:  # `weights_sha256` serves the planner, which works without torch
    from torch import Tensor, nn

# Under which name files wrap a state dict: Lightning and most scripts; a few others; torchvision's references.
_WRAPPERS = ("state_dict", "model_state_dict", "model")
_SHOWN = 3
_WORD = 10_000  # letters of the longest word in a weights file's pickles
_FORCE, _FORCE_NOT = "TORCH_FORCE_WEIGHTS_ONLY_LOAD", "TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD"


@dataclass(frozen=True)
class Loaded:
    """What `load_weights` did.

    Attributes
    ----------
    source
        ``imagenet``, or the file's absolute path.
    sha256
        Of the file; of published weights, that of a safetensors file of them.
    names
        The tensors that were set, as the network calls them.
    kept
        Those of the head that were left as built, because the source has none or of another size.
    """

    source: str
    sha256: str
    names: tuple[str, ...]
    kept: tuple[str, ...]

    @property
    def summary(self) -> str:
        """One line for a person."""
        left = f"; {_some(self.kept)} left as built" if self.kept else ""
        return f"{len(self.names)} tensors loaded from {self.source} (SHA-256 {self.sha256[:12]}){left}"


def load_weights(
    module: "nn.Module",
    weights: str,
    *,
    published: "Callable[[], Mapping[str, Tensor]] | None" = None,
    head: tuple[str, ...] = (),
    rename: Callable[[str], str] = lambda name: name,
) -> Loaded | None:
    """Set a network's weights, all of them or, where something is wrong, none.

    Parameters
    ----------
    module
        The network, changed in place.
    weights
        ``none`` leaves it as built. ``imagenet`` takes the published weights. Anything else is a file: ``.safetensors``, or
        whatever `torch.save` wrote of a state dict, bare or under ``state_dict``; ``~`` is the home folder, a relative
        path starts at the working folder (``./imagenet`` for a file of that name). A torch file is read with
        ``weights_only=True``, so that nothing in it can run. One prefix that all names of a file share (``module.``,
        ``network.``) is left out where the network does not know it.
    published
        Returns the published state dict, downloading it; called for ``imagenet`` only. None: there is none.
    head
        How the names of the last layer begin, e.g. ``("fc.",)``. A head for other classes is no fault: all of it stays as
        built.
    rename
        Turns a name of the source into the network's.

    Returns
    -------
    What was loaded, or None for ``none``.

    Raises
    ------
    XbenchError
        There is no such file, it is no weights file or holds more than tensors, or it does not fit; the published weights
        do not exist or could not be fetched. One line each.
    """
    if weights == "none":
        return None
    if weights == "imagenet":
        found, sha256, source = *_fetch(published), "imagenet"
    else:
        found, sha256, source = _read(weights)
    wanted = module.state_dict()
    found = _without_prefix({rename(name): value for name, value in found.items()}, wanted)
    shapes = {name: tuple(value.shape) for name, value in found.items()}
    # Counts of batches, which only training with momentum None reads; files from before 2018 have none.
    needed = [name for name in wanted if not name.endswith("num_batches_tracked")]
    kept: tuple[str, ...] = ()
    if any(name.startswith(head) and shapes.get(name) != tuple(wanted[name].shape) for name in needed):
        kept = tuple(name for name in wanted if name.startswith(head))
        found = {name: value for name, value in found.items() if not name.startswith(head)}
        needed = [name for name in needed if name not in kept]
    missing = [name for name in needed if name not in found]
    extra = [name for name in found if name not in wanted and not name.endswith("num_batches_tracked")]
    other = [
        f"{name} {list(shapes[name])} where the network has {list(wanted[name].shape)}"
        for name in wanted
        if name in found and shapes[name] != tuple(wanted[name].shape)
    ]
    faults = [("missing", missing), ("too much", extra), ("of another shape", other)]
    if any(names for _, names in faults) or not found:
        said = "; ".join(f"{len(names)} {what}: {_some(names)}" for what, names in faults if names)
        raise XbenchError(f"weights={weights} do not fit the network: {said or 'there is nothing but a head'}")
    # Only now, when every shape is the network's own: a tensor of a few bytes can say that it has a million million numbers.
    chosen = {name: value for name, value in found.items() if name in wanted}
    if broken := [name for name, value in chosen.items() if value.is_floating_point() and not value.isfinite().all()]:
        raise XbenchError(f"weights={weights} are not finite numbers in {_some(broken)}")
    module.load_state_dict(chosen, strict=False)
    return Loaded(source, sha256, tuple(chosen), kept)


@contextlib.contextmanager
def only_tensors() -> Iterator[None]:
    """Inside, ``torch.load`` reads tensors only, whatever its caller asks for, here and in processes that are started."""
    before = {name: os.environ.pop(name, None) for name in (_FORCE, _FORCE_NOT)}
    os.environ[_FORCE] = "1"
    try:
        yield
    finally:
        os.environ.pop(_FORCE, None)
        os.environ.update({name: value for name, value in before.items() if value is not None})


def weights_sha256(weights: str) -> str | None:
    """Return the SHA-256 of the file that `load_weights` would read, or None for ``none`` and ``imagenet``; without torch.

    Raises XbenchError where there is no such file.
    """
    if weights in ("none", "imagenet"):
        return None
    path = _path(weights)
    try:
        state = path.stat()
        return _file_sha256(path, state.st_size, state.st_mtime_ns)
    except OSError as error:
        raise _unreadable(weights, path, error) from error


@functools.cache
def _file_sha256(path: Path, size: int, stamp: int) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _path(weights: str) -> Path:
    return Path(weights).expanduser().absolute()


def _unreadable(weights: str, path: Path, error: OSError) -> XbenchError:
    if not path.exists():
        why = f"there is no file {path}"
    elif path.is_dir():
        why = f"{path} is a folder"
    else:
        why = f"{path} cannot be read ({error.strerror or error})"
    return XbenchError(f"weights={weights}: {why}; a .safetensors or torch file, imagenet or none is needed")


def _fetch(published: "Callable[[], Mapping[str, Tensor]] | None") -> "tuple[Mapping[str, Tensor], str]":
    from safetensors.torch import save

    if published is None:
        raise XbenchError("weights=imagenet: this network has no published weights; weights=PATH takes a local file")
    try:
        found = published()
    except (
        Exception
    ) as error:  # a download fails in many ways: no name, no route, a proxy's page, a wrong hash, a full disk
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise XbenchError(
            f"weights=imagenet could not be fetched ({reason}); weights=PATH takes a local file, weights=none starts anew"
        ) from error
    return found, hashlib.sha256(save({name: value.contiguous() for name, value in found.items()})).hexdigest()


def _read(weights: str) -> "tuple[Mapping[str, Tensor], str, str]":
    """Return a file's state dict, the SHA-256 of the very bytes it was read from, and its path."""
    import torch
    from safetensors.torch import load

    path = _path(weights)
    try:
        raw = path.read_bytes()
    except OSError as error:
        raise _unreadable(weights, path, error) from error
    try:
        if path.suffix == ".safetensors":
            state: object = load(raw)
        else:
            _refuse_bomb(raw)
            _refuse_long_words(raw)
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # torch's thoughts about a pickle that it then refuses
                state = torch.load(io.BytesIO(raw), map_location="cpu", weights_only=True)
    except XbenchError as error:
        raise XbenchError(f"weights={weights} is refused: {error}") from error
    except Exception as error:  # whatever a parser makes of bytes that are something else
        if hidden := re.search(r"GLOBAL ([\w.]+)", str(error)):
            raise XbenchError(
                f"weights={weights} is refused: it holds {hidden[1]}, and only tensors are safe to read; "
                "torch.save(network.state_dict(), PATH) writes such a file"
            ) from error
        raise XbenchError(f"weights={weights}: {path} is no weights file (.safetensors, torch), or damaged") from error
    for name in _WRAPPERS:
        if isinstance(state, Mapping) and isinstance(state.get(name), Mapping):
            state = state[name]
    if isinstance(state, Mapping) and (odd := [name for name, value in state.items() if _is_odd(value)]):
        raise XbenchError(
            f"weights={weights}: {path} holds tensors without plain numbers ({_some(map(_name, odd))}); dense ones are needed"
        )
    if not (isinstance(state, Mapping) and state and all(isinstance(value, torch.Tensor) for value in state.values())):
        what = (
            f"a {type(state).__name__}"
            if not isinstance(state, Mapping)
            else f"entries like {_some(map(_name, state))}"
        )
        raise XbenchError(f"weights={weights}: {path} holds {what}; a state dict (names and tensors) is needed")
    return {_name(name): value for name, value in state.items()}, hashlib.sha256(raw).hexdigest(), str(path)


def _refuse_bomb(raw: bytes) -> None:
    """Raise XbenchError where a torch file, which is a zip, would unpack to more than it is: torch.save never packs."""
    if not zipfile.is_zipfile(io.BytesIO(raw)):
        return
    with zipfile.ZipFile(io.BytesIO(raw)) as archive:
        entries = archive.infolist()
    size = sum(entry.file_size for entry in entries)
    if any(entry.compress_type != zipfile.ZIP_STORED for entry in entries) or size > len(raw):
        raise XbenchError(
            f"it is packed, {size:,} bytes in {len(raw):,}; torch.save writes {len(entries):,} entries as they are"
        )


def _refuse_long_words(raw: bytes) -> None:
    """Raise XbenchError where a torch file's pickles hold a word without end.

    What torch refuses it looks through for three phrases, in time that grows with the square of the longest word.
    """
    import pickletools

    if raw.startswith(b"PK\x03\x04"):  # as torch tells the two formats apart
        with zipfile.ZipFile(io.BytesIO(raw)) as archive:
            pickles = [io.BytesIO(archive.read(name)) for name in archive.namelist() if name.endswith("data.pkl")]
    else:  # that of before torch 1.6: five pickles one behind the other, then the numbers
        pickles = [io.BytesIO(raw)] * 5
    for pickle in pickles:
        for _, word, _ in pickletools.genops(pickle):
            text = word.decode("latin-1") if isinstance(word, bytes | bytearray) else word
            if isinstance(text, str) and any(len(part) > _WORD for part in text.split()):
                raise XbenchError(
                    f"it holds a word of more than {_WORD:,} letters, over which torch may take minutes; "
                    "torch.save(network.state_dict(), PATH) writes names and tensors alone"
                )


def _is_odd(value: object) -> bool:
    """Return whether a tensor has other numbers than a network's: sparse, quantised, complex, or none at all."""
    import torch

    if not isinstance(value, torch.Tensor):
        return False
    dense = (
        value.layout is torch.strided and value.device.type == "cpu" and not value.is_quantized and not value.is_nested
    )
    return not dense or value.is_complex()


def _name(key: object) -> str:
    """Return a state dict's key as text; of what is none only its type, for it may be nested without end."""
    return key if isinstance(key, str) else f"a {type(key).__name__}"


def _without_prefix(found: "dict[str, Tensor]", wanted: "Mapping[str, Tensor]") -> "dict[str, Tensor]":
    """Return the names without a first part that all share, if that is how the network knows any of them."""
    first = {name.partition(".")[0] for name in found}
    if len(first) == 1 and not found.keys() & wanted.keys():
        bare = {name.partition(".")[2]: value for name, value in found.items()}
        if bare.keys() & wanted.keys():
            return bare
    return found


def _some(names: Iterable[str]) -> str:
    every = list(names)
    more = f" and {len(every) - _SHOWN} more" if len(every) > _SHOWN else ""
    return ", ".join(every[:_SHOWN]) + more
