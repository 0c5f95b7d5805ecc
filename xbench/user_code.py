"""A function of one's own as a component, ``python:module.function``: declared by its signature, without a package."""

import importlib
import inspect
import os
import sys
from collections.abc import Mapping, Sequence
from types import ModuleType
from typing import Any, get_args

from xbench.errors import XbenchError, did_you_mean
from xbench.specs import ExplainerSpec, ModelSpec, Param, Polarity, Spec

PREFIX = "python:"
_STAMP = "__xbench_read__"
_ADAPTERS = {"explainer": "xbench.adapters:explainer_of", "model": "xbench.adapters:model_of"}
_POLARITIES: tuple[Polarity, ...] = get_args(Polarity)
_MODEL_PARAMS: dict[str, Param] = {"weights": "none", "normalise": "none", "mean": "", "std": "", "link": "softmax"}
_MODEL_CHOICES: dict[str, tuple[Param, ...]] = {
    "normalise": ("none", "half", "imagenet"),
    "link": ("softmax", "sigmoid"),
}
_MODEL_MEANINGS = {
    "weights": "a file with the network's state dict (.safetensors or torch); none: as the function makes it",
    "normalise": "what images in [0,1] become: half: -1 to 1; imagenet: less ImageNet's mean, by its deviation",
    "mean": "what is taken off an image, a number or [R,G,B]",
    "std": "what an image is then divided by, a number or [R,G,B]",
    "link": "how logits become probabilities: one class of all (softmax) or each on its own (sigmoid)",
}
GIVEN = ("shape", "classes")
"""What a model's function is given by the harness, where it has parameters of these names."""
EXPLAINER_PARAMS: dict[str, Param] = {"polarity": "signed"}
"""What the harness wants to know of an explainer's function, unless the function has a parameter of that name itself."""


def is_own(id: str) -> bool:
    """Say whether an id names a function rather than what is installed."""
    return id.startswith(PREFIX)


def own_spec(kind: str, id: str, given: Sequence[tuple[str, object]]) -> ExplainerSpec | ModelSpec:
    """Return the declaration of a function, made from its signature.

    An explainer's function takes (model, image, target) and parameters with defaults; `xbench.adapters` says what they are.
    The parameter ``polarity`` is the harness's, as `ExplainerSpec` has it, unless the function has one itself.
    A model's function returns a network; it may have parameters ``shape`` (C, H, W) and ``classes`` (names), which the
    harness gives.

    Parameters
    ----------
    kind
        ``explainer`` or ``model``.
    id
        ``python:module.function``. The module may lie in the working folder, from where it is imported (installed modules
        come first); workers find it there too.
    given
        The parameters that a user writes: one without a default must be among them, and where the function takes any
        (``**more``) they are its parameters.

    Raises
    ------
    XbenchError
        There is no such module or function, the module cannot be imported, or the signature does not do. One line.
    """
    if kind not in _ADAPTERS:
        raise XbenchError(f"{id}: a {kind} is no plain function; it takes a package of its own (plugins/README.md)")
    module, name, function = _function(id)
    takes = _signature(id, function)
    written = dict(given)
    factory = f"{module}:{name}"
    if kind == "explainer":
        kept = {name: value for name, value in EXPLAINER_PARAMS.items() if name not in [one.name for one in takes]}
        signed: Polarity = "signed"
        polarity = next((one for one in _POLARITIES if kept and one == written.get("polarity")), signed)
        return ExplainerSpec(
            name=id,
            version=1,
            factory=factory,
            adapter=_ADAPTERS[kind],
            params={**_params(id, _after_three(id, takes), takes, written, kept), **kept},
            choices=dict.fromkeys(kept, _POLARITIES),
            meanings=dict.fromkeys(
                kept,
                "what a large value means: evidence for the target, of whatever sign, or that a pixel counts for nothing",
            ),
            polarity=polarity,
            summary=_summary(function),
        )
    rest = [one for one in takes if one.name not in (*GIVEN, *_MODEL_PARAMS)]
    if needs := [one.name for one in takes if one.name in _MODEL_PARAMS and not _optional(one)]:
        raise XbenchError(f"{id} needs {needs[0]}=, which the harness keeps for itself; give it a default there")
    if str(written.get("normalise", "none")) != "none" and ("mean" in written or "std" in written):
        raise XbenchError(f"{id}: normalise says what mean and std are; write the one or the others")
    for one in ("mean", "std"):
        numbers(one, str(written.get(one, "")))
    link = str(written.get("link", "softmax"))
    return ModelSpec(
        name=id,
        version=1,
        factory=factory,
        adapter=_ADAPTERS[kind],
        params={**_params(id, rest, takes, written, _MODEL_PARAMS), **_MODEL_PARAMS},
        choices=_MODEL_CHOICES,
        meanings=_MODEL_MEANINGS,
        link="sigmoid" if link == "sigmoid" else "softmax",
        summary=_summary(function),
    )


def own_kind(id: str) -> str:
    """Return ``explainer`` or ``model``, by the signature: it takes a model, or needs three arguments, or it makes a network.

    Raises XbenchError as `own_spec` does.
    """
    takes = _signature(id, _function(id)[2])
    places = [one for one in takes if one.kind in (one.POSITIONAL_ONLY, one.POSITIONAL_OR_KEYWORD)]
    needed = [one for one in places if not _optional(one)]
    if any(one.name in GIVEN for one in needed):
        return "model"
    three = len(needed) >= 3 or any(one.kind is one.VAR_POSITIONAL for one in takes)
    return "explainer" if three or (needed and needed[0].name == "model") else "model"


def said_twice(spec: Spec) -> frozenset[str]:
    """Return the parameters of a function's declaration that only say what a field of it says."""
    own = isinstance(spec, ExplainerSpec) and spec.adapter == _ADAPTERS["explainer"]
    return frozenset(spec.choices) if own else frozenset()


def numbers(name: str, text: str) -> tuple[float, ...] | None:
    """Return the numbers of ``0.5`` or ``[0.485,0.456,0.406]``, None of an empty text. Raises XbenchError for anything else."""
    try:
        return tuple(float(part) for part in text.strip().strip("[]").split(",") if part.strip()) or None
    except ValueError:
        raise XbenchError(f"{name}={text} is neither a number nor a list like [0.485,0.456,0.406]") from None


def _function(id: str) -> tuple[str, str, Any]:
    """Return the module's name, the function's and the function."""
    module, _, name = id.removeprefix(PREFIX).rpartition(".")
    if not module or not name.isidentifier() or not all(part.isidentifier() for part in module.split(".")):
        raise XbenchError(f"{id} is not written python:module.function, for example python:mine.explain")
    return module, name, _attribute(id, _imported(id, module), name)


def _signature(id: str, function: Any) -> list[inspect.Parameter]:
    try:
        return list(inspect.signature(function).parameters.values())
    except (ValueError, TypeError) as error:
        raise XbenchError(f"{id} has no signature to read ({error}); write a Python function that calls it") from error


def _imported(id: str, module: str) -> ModuleType:
    # Behind all that is installed, so that a file called like a library takes no library's place.
    if (here := os.getcwd()) not in sys.path and "" not in sys.path:
        sys.path.append(here)
    importlib.invalidate_caches()  # the file may be younger than the last look into its folder
    try:
        return _as_it_is_now(importlib.import_module(module))
    except KeyboardInterrupt:
        raise
    except BaseException as error:  # a module may raise anything, SystemExit too
        if isinstance(error, ModuleNotFoundError) and error.name and f"{module}.".startswith(f"{error.name}."):
            where = f"{error.name.replace('.', os.sep)}.py is not in {here}, and no such package is installed"
            raise XbenchError(f"{id}: there is no module {error.name!r}: {where}") from error
        reason = " ".join(f"{type(error).__name__}: {error}".split())
        raise XbenchError(f"{id}: the module {module!r} cannot be imported ({reason})") from error


def _as_it_is_now(module: ModuleType) -> ModuleType:
    """Return a module, read again where its file was changed since: its key goes by the file, so must its numbers."""
    path = getattr(module, "__file__", None)
    stamp = os.stat(path).st_mtime_ns if path and os.path.exists(path) else 0
    if vars(module).setdefault(_STAMP, stamp) != stamp:
        module = importlib.reload(module)
        setattr(module, _STAMP, stamp)
    return module


def _attribute(id: str, module: ModuleType, name: str) -> Any:
    where = getattr(module, "__file__", None) or "built in"
    if not hasattr(module, name):
        names = [name for name, value in vars(module).items() if callable(value) and not name.startswith("_")]
        raise XbenchError(f"{id}: {where} has no function {name!r}{did_you_mean(name, names)}")
    found = getattr(module, name)
    if not callable(found):
        raise XbenchError(f"{id}: {name!r} in {where} is of type {type(found).__name__}; a function is needed")
    if not isinstance(found, type) and hasattr(found, "forward"):
        raise XbenchError(f"{id}: {name!r} in {where} is a network; write a function that returns it")
    return found


def _after_three(id: str, takes: Sequence[inspect.Parameter]) -> list[inspect.Parameter]:
    """Return an explainer's parameters behind (model, image, target)."""
    places = [one for one in takes if one.kind in (one.POSITIONAL_ONLY, one.POSITIONAL_OR_KEYWORD)]
    if len(places) < 3 and not any(one.kind is one.VAR_POSITIONAL for one in takes):
        names = ", ".join(str(one) for one in takes) or "nothing"
        raise XbenchError(f"{id} takes ({names}); an explainer takes (model, image, target) and returns a map [B,H,W]")
    first = [one.name for one in places[:3]]
    return [one for one in takes if one.name not in first]


def _params(
    id: str,
    rest: Sequence[inspect.Parameter],
    takes: Sequence[inspect.Parameter],
    written: Mapping[str, object],
    kept: Mapping[str, Param],
) -> dict[str, Param]:
    """Return names and defaults of what a user may set; a default that is no single value cannot be."""
    params: dict[str, Param] = {}
    for one in rest:
        if one.kind in (one.VAR_POSITIONAL, one.VAR_KEYWORD):
            continue
        if not _optional(one):
            if one.name not in written or one.kind is one.POSITIONAL_ONLY:
                raise XbenchError(f"{id} needs {one.name!r}: write {id}[{one.name}=...], or give it a default")
            params[one.name] = None
        elif one.default is None or isinstance(one.default, (bool, int, float, str)):
            params[one.name] = one.default
    if any(one.kind is one.VAR_KEYWORD for one in takes):
        named = {one.name for one in takes}
        params |= {name: None for name in written if name not in named and name not in kept}
    return params


def _optional(one: inspect.Parameter) -> bool:
    return one.default is not one.empty or one.kind in (one.VAR_POSITIONAL, one.VAR_KEYWORD)


def _summary(function: Any) -> str:
    return (inspect.getdoc(function) or "").partition("\n")[0].strip()
