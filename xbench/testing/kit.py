"""The conformance kit: which checks a component has, and what comes of them."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import torch

from xbench.components import Component, resolve
from xbench.errors import Unsupported, XbenchError, did_you_mean
from xbench.names import full_ids, several
from xbench.plugins import Plugin, Registry, discover
from xbench.refs import Ref, is_pattern, matching, parse_ref, typed_params
from xbench.scoring import one_line
from xbench.specs import Param, Spec
from xbench.testing.datasets import DATASET_CHECKS
from xbench.testing.explainers import EXPLAINER_CHECKS
from xbench.testing.law import CannotTell, Check, Failed, NotApplicable, Outcome
from xbench.testing.metrics import METRIC_CHECKS
from xbench.testing.models import MODEL_CHECKS
from xbench.testing.subjects import DatasetSubject, ExplainerSubject, MetricSubject, ModelSubject, Subject
from xbench.testing.toys import TOY_EXPLAINER, TOY_MODEL, toy_component
from xbench.user_code import is_own, own_kind, own_spec

CHECKS: Mapping[str, tuple[Check, ...]] = {
    "explainer": EXPLAINER_CHECKS,
    "metric": METRIC_CHECKS,
    "dataset": DATASET_CHECKS,
    "model": MODEL_CHECKS,
}
_SUBJECTS: Mapping[str, type[Subject]] = {
    "explainer": ExplainerSubject,
    "metric": MetricSubject,
    "dataset": DatasetSubject,
    "model": ModelSubject,
}


def subjects(
    texts: Sequence[str], registry: Registry | None = None, root: Path | None = None, data: str | None = None
) -> list[Subject]:
    """Return the components that ids and patterns name, of all kinds, each with its quick parameters.

    Parameters
    ----------
    texts
        ``cam/gradcam``, ``cam/gradcam[score=prob]``, ``mine/*``, ``deletion``, ``python:mine.explain``. Parameters written
        stand before quick ones; a wrapper wraps a toy whatever it is told.
    registry
        What is installed; None looks.
    root
        A folder of real data, for data sets that read one.
    data
        The data set with which models are looked at; None: the first installed that a model is for and that opens.

    Raises
    ------
    XbenchError
        Nothing of that name has checks, or a parameter is wrong.
    """
    registry = registry or discover()
    found: dict[tuple[str, str], Subject] = {}
    mistakes: list[str] = []
    own = resolve("dataset", data, registry, mistakes) if data else None
    for text in texts:
        try:
            ref = parse_ref(text)
        except ValueError as error:
            mistakes.append(str(error))
            continue
        for spec in _specs(ref, registry, mistakes):
            if subject := _subject(spec, ref, registry, root, mistakes):
                subject.chosen_data = own
                found[spec.kind, subject.what] = subject
    if mistakes:
        raise XbenchError(*mistakes)
    return list(found.values())


def judge(check: Check, subject: Subject) -> Outcome:
    """Return what comes of one check. A known failure that does not fail is a failure."""
    reason = subject.component.spec.known_failures.get(check.name)
    outcome = _judged(check, subject)
    if reason is None or outcome.status == "not applicable":
        return outcome
    if outcome.status == "failed":
        return replace(outcome, status="expected failure", message=f"{reason} ({outcome.message})")
    return Outcome(check, "failed", f"it passes, though known_failures says: {reason}; take the entry out")


def conformance(subject: Subject) -> Iterator[Outcome]:
    """Yield the outcome of every check of a component; behind a gate that stays shut, none says anything."""
    shut = ""
    for check in CHECKS[subject.component.spec.kind]:
        if shut:
            yield Outcome(check, "not applicable", shut)
            continue
        outcome = judge(check, subject)
        shut = outcome.shuts
        yield outcome


def _judged(check: Check, subject: Subject) -> Outcome:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        try:
            check.run(subject)
        except Failed as error:
            return Outcome(check, "failed", str(error))
        except NotApplicable as error:
            return Outcome(check, "not applicable", str(error), silent=isinstance(error, CannotTell))
        except (Unsupported, XbenchError) as error:
            return Outcome(check, "not applicable", f"it says: {one_line(error, name=False)}", silent=True)
        except Exception as error:
            return Outcome(check, "failed", f"it raised {one_line(error)}")
    return Outcome(check, "passed")


def _specs(ref: Ref, registry: Registry, mistakes: list[str]) -> list[Spec]:
    """Return the declarations that a name or a pattern means, of all kinds; or that of a function of one's own."""
    if is_own(ref.id):
        try:
            return [own_spec(own_kind(ref.id), ref.id, ref.params)]
        except XbenchError as error:
            mistakes += error.lines
            return []
    found = [registry.of_kind(kind)[name] for kind in CHECKS for name in _named(ref, registry, kind)]
    exact = [spec for spec in found if spec.id == ref.id]
    ids = list(dict.fromkeys(spec.id for spec in exact or found))
    if not found:
        mistakes.append(_nothing(ref.id, registry))
    elif len(ids) > 1 and not is_pattern(ref):
        mistakes.append(several("component", ref.id, ids))
    return exact or found


def _named(ref: Ref, registry: Registry, kind: str) -> list[str]:
    return matching(ref.id, registry.of_kind(kind)) if is_pattern(ref) else full_ids(kind, ref.id, registry)


def _nothing(name: str, registry: Registry) -> str:
    known = [one for kind in CHECKS for one in registry.of_kind(kind)]
    for kind in CHECKS:
        if reason := registry.disabled.get((kind, name)):
            return reason
    for plugin in registry.plugins:
        if plugin.problem and _package(plugin) == name.partition("/")[0]:
            return f"{name!r} cannot be checked: its plugin {plugin.module!r} is broken ({plugin.problem})"
    kinds = "|".join(f"{kind}s" for kind in CHECKS)
    return (
        f"no explainer, metric, dataset or model {name!r} is installed{did_you_mean(name, known)} (xbench list {kinds})"
    )


def _subject(spec: Spec, ref: Ref, registry: Registry, root: Path | None, mistakes: list[str]) -> Subject | None:
    _, faults = typed_params(spec, ref.params)
    mistakes += faults
    if faults:
        return None
    written = dict(ref.params)
    params: dict[str, Param]
    params, _ = typed_params(spec, (*((n, v) for n, v in spec.quick.items() if n not in written), *ref.params))
    inner = None
    if getattr(spec, "wraps", False):
        inner = toy_component(TOY_EXPLAINER if spec.kind == "explainer" else TOY_MODEL)
        params["of"] = inner.text
    plugin = next((one for one in registry.plugins if _owns(one, spec)), None)
    names = tuple(check.name for check in CHECKS[spec.kind])
    return _SUBJECTS[spec.kind](Component(spec, params, of=inner), plugin, names, registry, root)


def _owns(plugin: Plugin, spec: Spec) -> bool:
    return not plugin.problem and _package(plugin) == spec.package and spec.kind in dict(plugin.components)


def _package(plugin: Plugin) -> str:
    return plugin.module.split(".")[0].removeprefix("xbench_")
