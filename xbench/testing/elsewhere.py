"""A device that is not the CPU, played on a CPU: finds tensors made on the wrong one where there is no GPU."""

from collections.abc import Callable, Iterator, Mapping
from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

from xbench.testing.law import Failed

DEVICE = torch.device("meta")
"""What tensors of the played device say that they are on."""

_MARK = "_xbench_on_the_host"
_MOVES = {"to", "type_as", "copy_", "cuda"}
_READS_SHAPE_OF_OTHER = {"expand_as", "view_as", "reshape_as"}
_INDEXES = {"__getitem__", "__setitem__"}
_ASKS = {"_has_compatible_shallow_copy_type", "has_compatible_shallow_copy_type", "is_same_size"}


class Elsewhere(TorchFunctionMode):
    """Inside, every tensor that comes from images and network is on another device, and one made without a device is not.

    Operations that mix both raise `Failed`, as they would raise on a GPU: a tensor of a single value may go along, and so
    may indices. Nothing leaves the CPU.
    """

    def __enter__(self) -> "Elsewhere":
        """Begin; `torch.from_numpy` is the one way to make a tensor that torch does not let a mode see."""
        self._from_numpy = torch.from_numpy
        setattr(torch, "from_numpy", lambda ndarray: _mark(self._from_numpy(ndarray)))  # noqa: B010
        super().__enter__()  # type: ignore[no-untyped-call]
        return self

    def __exit__(self, *error: Any) -> None:
        """End."""
        torch.from_numpy = self._from_numpy
        super().__exit__(*error)  # type: ignore[no-untyped-call]

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        """Watch one operation."""
        kwargs = dict(kwargs or {})
        name = getattr(func, "__name__", "")
        of = getattr(getattr(func, "__self__", None), "__name__", "")
        if name == "__get__" and of == "device":
            return torch.device("cpu") if _marked(args[0]) else DEVICE
        if name == "__set__" and of == "data":  # what Module.to does to its weights
            setattr(args[0], _MARK, _marked(args[1]))
            return func(*args)
        if name == "_parse_to":  # Module.to reads its arguments, and moves each weight itself
            return func(*args, **kwargs)
        tensors = [one for one in _leaves((args, kwargs)) if isinstance(one, Tensor)]
        asked = [one for one in _leaves((args, kwargs)) if _is_device(one)]
        if name in ("numpy", "__array__") and tensors and not _marked(tensors[0]):
            raise Failed(
                "a tensor on the images' device was turned into a NumPy array; on a GPU that is an error (.cpu())"
            )
        on_host = _on_host(name, tensors, asked)
        found = func(*_here(args), **_here(kwargs))
        if isinstance(found, Tensor):
            return _placed(
                found, on_host, made=not any(found is one for one in tensors), moved=name in _MOVES | {"cpu"}
            )
        if on_host:
            for one in _leaves(found):
                if isinstance(one, Tensor):
                    _mark(one)
        return found


def _on_host(name: str, tensors: list[Tensor], asked: list[Any]) -> bool:
    """Return whether what an operation gives is on the host. Raises Failed where it mixes devices."""
    if name == "cpu":
        return True
    if asked:
        return not any(torch.device(one) == DEVICE for one in asked)
    if not tensors:
        return True
    if name in _MOVES:
        return all(_marked(one) for one in tensors) if name != "copy_" else _marked(tensors[0])
    if name in _READS_SHAPE_OF_OTHER:
        return _marked(tensors[0])
    if name in _INDEXES and not _marked(tensors[0]):
        return False
    if name in _ASKS:
        return False
    large = [one for one in tensors if one.ndim > 0]
    if any(map(_marked, large)) and not all(map(_marked, large)):
        stranger = next(one for one in large if _marked(one))
        raise Failed(
            f"{name.strip('_')} mixes a tensor {list(stranger.shape)} on the CPU with one on the images' device; a GPU "
            "refuses that"
        )
    return all(map(_marked, large or tensors))


def _placed(found: Tensor, on_host: bool, made: bool, moved: bool) -> Tensor:
    if moved and not made and _marked(found) != on_host:
        found = found.detach() if not found.requires_grad else found.view_as(found)  # a move that moved nothing
        return _mark(found) if on_host else found
    return _mark(found) if on_host and made else found


def _marked(tensor: Any) -> bool:
    return getattr(tensor, _MARK, False)


def _mark(tensor: Tensor) -> Tensor:
    setattr(tensor, _MARK, True)
    return tensor


def _is_device(value: object) -> bool:
    if isinstance(value, torch.device):
        return True
    return isinstance(value, str) and value.partition(":")[0] in ("cpu", "cuda", "meta")


def _leaves(value: Any) -> Iterator[Any]:
    if isinstance(value, (tuple, list)):
        for one in value:
            yield from _leaves(one)
    elif isinstance(value, dict):
        for one in value.values():
            yield from _leaves(one)
    else:
        yield value


def _here(value: Any) -> Any:
    """Return arguments with the played device replaced by the one that plays it."""
    if isinstance(value, torch.device) and value == DEVICE:
        return torch.device("cpu")
    if type(value) in (tuple, list):
        return type(value)(_here(one) for one in value)
    if type(value) is dict:
        return {name: _here(one) for name, one in value.items()}
    return value
