"""Written components become resolved ones: a spec with all its parameters, checked against what is installed."""

import importlib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from xbench.codehash import code_hash
from xbench.errors import XbenchError, did_you_mean
from xbench.names import full_ids, several
from xbench.plugins import Registry
from xbench.refs import Ref, is_pattern, matching, param_text, parse_ref, typed_params
from xbench.specs import DatasetSpec, ExplainerSpec, MetricSpec, ModelSpec, Param, Polarity, ScoreSpec, Spec
from xbench.user_code import is_own, own_spec, said_twice
from xbench.weights import weights_sha256

if TYPE_CHECKING:
    from xbench.stored_maps import StoredMaps


@dataclass(frozen=True)
class Component:
    """A component as a run uses it.

    Attributes
    ----------
    spec, params
        The declaration and all parameters.
    checkpoint
        The epoch of a model's weights, or None for the last.
    of
        The component that a wrapper wraps.
    series
        Whether the checkpoint is one of all, written ``@*``; a table then pools them.
    """

    spec: Spec
    params: dict[str, Param]
    checkpoint: int | None = None
    of: "Component | None" = None
    series: bool = False

    @property
    def trained(self) -> "Component":
        """The same with the weights of its last epoch, whichever checkpoint this is."""
        return replace(self, checkpoint=None, series=False)

    @property
    def network(self) -> "Component":
        """Of a classifier, the one whose net it is: itself, or what it wraps in the end."""
        return self.of.network if self.of and isinstance(self.spec, ModelSpec) else self

    @property
    def series_text(self) -> str | None:
        """How a user writes the whole series, or None where this is no part of one."""
        return self.trained.text + "@*" if self.series else None

    @property
    def text(self) -> str:
        """How a user writes it: the id, the parameters that are not default, the checkpoint."""
        params = {**self.params, "of": self.of.text} if self.of else self.params
        tail = f"@{self.checkpoint}" if self.checkpoint is not None else ""
        return self.spec.id + param_text(self.spec, params) + tail

    @property
    def shown(self) -> str:
        """What records and tables call it: as `text`, with the names of stored maps in place of their folders."""
        params = {**self.params, "of": self.of.shown} if self.of else self.params
        if stored := self.stored:
            params = {**params, "maps": stored.name}
        return replace(self, params=params, of=None).text if params != self.params else self.text

    @property
    def stored(self) -> "StoredMaps | None":
        """The maps that an explainer looks up, or None where it makes them. Raises XbenchError where they are not sound."""
        if not getattr(self.spec, "stored", False):
            return None
        from xbench.stored_maps import read_stored  # NumPy, which lists and mistakes do without

        return read_stored(str(self.params["maps"]))

    @property
    def innermost(self) -> "Component":
        """Of a wrapper, what it wraps in the end."""
        return self.of.innermost if self.of else self

    @property
    def polarity(self) -> Polarity:
        """How the maps of an explainer are to be read: as those of the one that it wraps."""
        inner = self.innermost
        assert isinstance(inner.spec, ExplainerSpec)
        return stored.polarity if (stored := inner.stored) else inner.spec.polarity

    def definition(self) -> dict[str, Any]:
        """Return what enters a content key: id, version, parameters and code."""
        left_out = said_twice(self.spec) | ({"of"} if self.of else set())
        value: dict[str, Any] = {
            "id": self.spec.id,
            "version": self.spec.version,
            "params": {name: param for name, param in self.params.items() if name not in left_out},
            "code": code_hash(self.spec.factory),
        }
        for name in ("polarity", "link"):
            if hasattr(self.spec, name):
                value[name] = getattr(self.network.spec, name)
        if fit := getattr(self.spec, "fit", None):
            value["fit_code"] = code_hash(fit)
        # Another file under the same path is another model.
        weights = self.params.get("weights")
        if isinstance(self.spec, ModelSpec) and isinstance(weights, str) and (sha256 := weights_sha256(weights)):
            value["weights"] = sha256
        if stored := self.stored:
            value["params"] = {name: param for name, param in value["params"].items() if name != "maps"}
            value["maps"] = {"sha256": stored.digest, "name": stored.name, "citation": stored.citation}
            value["polarity"] = stored.polarity
        if self.checkpoint is not None:
            value["checkpoint"] = self.checkpoint
        if self.of:
            value["of"] = self.of.definition()
        return value

    def scores(self) -> list[tuple[str, ScoreSpec]]:
        """Return a metric's (score name as tables show it, its spec)."""
        assert isinstance(self.spec, MetricSpec)
        tail = param_text(self.spec, self.params)
        return [(score.name + tail, score) for score in self.spec.scores]


def import_attr(path: str) -> Any:
    """Return what ``"module:attr"`` names. Raises ImportError or AttributeError as import does."""
    module, _, name = path.partition(":")
    return getattr(importlib.import_module(module), name)


def factory_of(spec: Spec) -> Any:
    """Return a component's factory; of a plain function, what its adapter makes of it."""
    made = import_attr(spec.factory)
    adapter = getattr(spec, "adapter", None)
    return import_attr(adapter)(made) if adapter else made


def resolve(
    kind: str,
    text: str,
    registry: Registry,
    mistakes: list[str],
    more: Mapping[str, object] | None = None,
    home: str = "",
) -> Component | None:
    """Return the one component written, with ``more`` parameters, or None with a line for every mistake.

    An id may be written by its last part alone (`full_ids`); ``home`` is the package that then comes first.
    """
    try:
        ref = parse_ref(text)
    except ValueError as error:
        mistakes.append(str(error))
        return None
    given = (*ref.params, *(more or {}).items())
    if is_own(ref.id):
        try:
            spec: Spec = own_spec(kind, ref.id, given)
        except XbenchError as error:
            mistakes += error.lines
            return None
    elif len(names := full_ids(kind, ref.id, registry, home)) == 1:
        spec = registry.of_kind(kind)[names[0]]
    else:
        mistakes.append(several(kind, ref.id, names) if names else _absent(kind, ref.id, registry))
        return None
    params, faults = typed_params(spec, given)
    mistakes += faults
    if (ref.series or ref.checkpoint is not None) and not getattr(spec, "checkpoints", False):
        at = "*" if ref.series else ref.checkpoint
        mistakes.append(f"{text}: {kind} {ref.id!r} keeps no checkpoints; write it without @{at}")
    if getattr(spec, "stored", False) and not faults:
        mistakes += _unsound(spec, params.get("maps"))
    inner = None
    if getattr(spec, "wraps", False):
        wrapped = params.get("of")
        if wrapped is None:
            example = {"explainer": "cam/gradcam", "model": "anole/slim"}[kind]
            mistakes.append(f"{text}: say what it wraps, for example {ref.id}[of={example}]")
        else:
            inner = resolve(kind, str(wrapped), registry, mistakes, home=home)
            if inner and isinstance(spec, ModelSpec) and not getattr(inner.spec, "fit", None):
                mistakes.append(f"{text}: {inner.text} has no training that {ref.id} could change")
            if inner and "@" in str(wrapped).rpartition("]")[2]:
                mistakes.append(f"{text}: a wrapped component has no checkpoint; write it without @")
    return Component(spec, params, ref.checkpoint, inner)


def expand(
    kind: str, texts: Sequence[object], registry: Registry, mistakes: list[str], home: str = ""
) -> tuple[Component, ...]:
    """Return the components that a list of ids and patterns names, each once, in order; ``home`` as of `resolve`.

    A pattern leaves out wrappers, which cannot stand alone, and stored maps, of which none are installed.
    """
    found: dict[str, Component] = {}
    for text in (str(written).strip() for written in texts):
        try:
            ref = parse_ref(text)
        except ValueError as error:
            mistakes.append(str(error))
            continue
        if not is_pattern(ref):
            if one := resolve(kind, text, registry, mistakes, home=home):
                found |= {each.text: each for each in _epochs(one, ref, mistakes)}
            continue
        installed = registry.of_kind(kind)
        hits = [name for name in matching(ref.id, installed) if not _wants_more(installed[name])]
        if not hits:
            mistakes.append(_absent(kind, ref.id, registry, "matches nothing that is installed"))
        for name in hits:
            if one := resolve(kind, name + text[len(ref.id) :], registry, mistakes):
                found |= {each.text: each for each in _epochs(one, ref, mistakes)}
    return tuple(found.values())


def _wants_more(spec: Spec) -> bool:
    return getattr(spec, "wraps", False) or getattr(spec, "stored", False)


def _unsound(spec: Spec, folder: object) -> Sequence[str]:
    """Return what is wrong with the maps that a folder holds."""
    if not folder:
        return [f"say where the maps are: {spec.id}[maps=DIR] (xbench.write_maps makes such a folder)"]
    from xbench.stored_maps import read_stored

    try:
        read_stored(str(folder))
    except XbenchError as error:
        return error.lines
    return []


def _epochs(one: Component, ref: Ref, mistakes: list[str]) -> list[Component]:
    """Return the component itself, or for ``@*`` one of every epoch that its parameter ``epochs`` makes it train."""
    epochs = one.params.get("epochs")
    known = isinstance(epochs, int)
    if ref.checkpoint is not None and known and not 1 <= ref.checkpoint <= int(str(epochs)):
        mistakes.append(f"{one.text}: it is trained for {epochs} epochs; one from 1 to {epochs} is needed")
    if not ref.series:
        return [one]
    if not known:
        mistakes.append(f"{one.spec.id}@*: it has no parameter epochs; write the checkpoints one by one")
        return []
    return [replace(one, checkpoint=epoch, series=True) for epoch in range(1, int(str(epochs)) + 1)]


def _absent(kind: str, name: str, registry: Registry, what: str = "is not installed") -> str:
    if reason := registry.disabled.get((kind, name)):
        return reason
    broken = [plugin for plugin in registry.plugins if plugin.problem]
    package = name.partition("/")[0]
    for plugin in broken:
        if plugin.module.split(".")[0].removeprefix("xbench_") == package:
            return f"{kind} {name!r} cannot be used: its plugin {plugin.module!r} is broken ({plugin.problem})"
    hint = did_you_mean(name, registry.of_kind(kind))
    if kind in ("explainer", "model") and re.fullmatch(r"\w+(\.\w+)+", name):
        hint = f"; a function of your own is written python:{name}"
    return f"{kind} {name!r} {what}{hint} (xbench list {kind}s)"


def needs_unmet(spec: ExplainerSpec, model: ModelSpec, data_has: Sequence[str], n_classes: int) -> str:
    """Return why an explainer cannot work on a model and a data set, or an empty string."""
    for need in spec.needs:
        if need == "two_classes":
            if n_classes != 2:
                return f"needs two classes; the data set has {n_classes}"
        elif need in ("mask", "counterfactual", "shortcut"):
            if need not in data_has:
                return f"needs a {need} for its truth; the data set has none"
        elif need not in model.has:
            return f"needs {need} of the model; {model.id} does not declare it"
    return ""


def explainer_unmet(explainer: Component, model: ModelSpec, data: DatasetSpec, n_classes: int) -> str:
    """Return why an explainer, or one that it wraps, cannot work here, or an empty string."""
    assert isinstance(explainer.spec, ExplainerSpec)
    reason = needs_unmet(explainer.spec, model, data.has, n_classes)
    if not reason and explainer.of:
        assert isinstance(explainer.of.spec, ExplainerSpec)
        reason = explainer_unmet(explainer.of, model, data, n_classes)
        if not reason and explainer.of.spec.fit:
            reason = (
                f"wraps {explainer.of.spec.id}, which is trained; only explainers without a training can be wrapped"
            )
    return reason


def score_facts(metric: Component) -> list[dict[str, Any]]:
    """Return what a table must know of a metric's scores; it travels with the record, so that tables need no plugins."""
    assert isinstance(metric.spec, MetricSpec)
    return [
        {
            "name": name,
            "family": metric.spec.family,
            "higher_is_better": score.higher_is_better,
            "chance": score.chance,
            "aggregate": score.aggregate,
        }
        for name, score in metric.scores()
    ]


def metric_unmet(metric: MetricSpec, model: ModelSpec, data: DatasetSpec, gives: Sequence[str], n_classes: int) -> str:
    """Return why a metric cannot measure explanations of these kinds on a model and a data set, or an empty string."""
    if "oracle" in metric.uses and not model.fit:
        return f"needs a classifier trained independently of the one explained; {model.id} has no training"
    for need in metric.needs:
        if need == "two_classes":
            if n_classes != 2:
                return f"needs two classes; the data set has {n_classes}"
        elif need in ("attribution", "translation"):
            if {"attribution": "attribution", "translation": "counterfactual"}[need] not in gives:
                return f"needs {need}s; the explainer gives {' and '.join(gives)}"
        elif need not in data.has:
            what = {"swapped": "samples whose shortcut is swapped"}.get(need, f"a {need}")
            return f"needs {what}; {data.id} has none"
    return ""
