"""A component or a suite in words: labelled facts, torch-free, from what it declares."""

from collections.abc import Sequence

from xbench.cli.examples import Settings, data_of, listed, settings_of, suites_with
from xbench.components import Component
from xbench.costs import declared_cost
from xbench.errors import XbenchError
from xbench.plugins import PASSES, Plugin, Registry
from xbench.refs import matching
from xbench.specs import DatasetSpec, ExplainerSpec, MetricSpec, ModelSpec, Param, Spec
from xbench.suite_files import read_suite

Facts = list[tuple[str, str]]

_NEEDS = {
    "gradients": "gradients of the network",
    "conv_layer": "a convolutional layer",
    "mask": "data with masks",
    "counterfactual": "data with exact counterfactuals",
    "shortcut": "data with a planted shortcut",
    "swapped": "data whose shortcut can be exchanged",
    "two_classes": "two classes",
    "attribution": "an explainer that gives attributions",
    "translation": "an explainer that gives translated images",
}
_GIVES = {"attribution": "an attribution map", "counterfactual": "a translated image (counterfactual)"}
_POLARITY = {
    "signed": "signed: above 0 for the target, below 0 against it",
    "positive": "positive: the larger, the more evidence, of whatever sign",
    "non_contributing": "non_contributing: the larger, the less a pixel counts; ranked backwards",
}
_STOCHASTIC = {False: "no", True: "yes: its noise comes from the seed and the sample"}
_CONTROL = {
    False: "no",
    True: "yes: a method that does not beat it shows nothing",
    "chance": "chance: it knows nothing, 0 on a table's scale",
    "truth": "truth: it knows the answer, 1 on a table's scale",
}
_HAS = {
    "mask": "masks of the object",
    "counterfactual": "exact counterfactuals",
    "shortcut": "a planted shortcut",
    "swapped": "the shortcut exchanged",
    "gradients": "gradients",
    "conv_layer": "convolutional layers",
}
_TYPES: dict[type, str] = {bool: "true or false", int: "whole number", float: "number", str: "text"}
_AGGREGATES = {
    "mean": "mean",
    "rate": "share of samples",
    "auroc": "ROC area over samples",
    "tuned": "mean, tuned on the other half",
}


def facts(registry: Registry, spec: Spec) -> Facts:
    """Return what a component declares, as (label, text) in the order in which they are to be read."""
    suites = [
        suite if len(protocols) == len(settings_of(registry, suite)) else f"{suite} (protocol {', '.join(protocols)})"
        for suite, protocols in suites_with(registry, spec).items()
    ]
    found = [
        *_own(spec),
        ("in suites", ", ".join(suites)),
        ("source", spec.citation),
        ("BibTeX keys", ", ".join(spec.cites)),
    ]
    found += [("known to fail", f"{name}: {reason}") for name, reason in spec.known_failures.items()]
    fit = getattr(spec, "fit", None)
    found += [("version", str(spec.version)), ("from", _home(registry.plugins, spec)), ("code", spec.factory)]
    return [(label, text) for label, text in [*found, ("training code", fit or "")] if text]


def parameters(spec: Spec) -> list[list[str]]:
    """Return a line a parameter: name (``*``: the order of explainers depends on it), type, default, choices, meaning."""
    marked = spec.sensitive_to if isinstance(spec, MetricSpec) else ()
    lines = []
    for name, value in spec.params.items():
        wrapped = name == "of" and getattr(spec, "wraps", False)
        kind = f"id of {'an explainer' if spec.kind == 'explainer' else f'a {spec.kind}'}" if wrapped else ""
        choices = ", ".join(_shown(choice) for choice in spec.choices.get(name, ()))
        default = "to be given" if wrapped else _shown(value)
        kind = kind or _TYPES.get(type(value), "number or text")
        lines.append([name + "*" * (name in marked), kind, default, choices, spec.meanings.get(name, "")])
    return lines


def scores(spec: MetricSpec) -> list[list[str]]:
    """Return a line a score: name, which side is better, range, what chance scores, how samples become one number."""
    lines = []
    for score in spec.scores:
        low, high = (f"{end:g}" for end in score.bounds)
        better = {True: "more", False: "less", None: "neither"}[score.higher_is_better]
        known = isinstance(score.chance, (int, float))
        chance = f"{score.chance:g}" if known else "by sample" if score.chance else "none"
        lines.append([score.name, better, f"{low} .. {high}", chance, _AGGREGATES[score.aggregate]])
    return lines


def suite_facts(registry: Registry, name: str) -> Facts:
    """Return what a suite is made of, as (label, text), a protocol's changes last. Raises XbenchError on a broken file."""
    path = registry.suites[name]
    whole = read_suite(path)
    found = [
        ("data", _data(whole)),
        *((key, _listed(registry, key, listed(whole, key))) for key in ("models", "explainers", "metrics")),
        ("ranked by", str(whole.get("primary") or "its first score")),
        ("explains", _target(str(whole.get("target", "predicted")))),
        ("seeds", _seeds(whole.get("seed", [0]))),
        ("notes", "; ".join(map(str, whole.get("notes") or ()))),
    ]
    for protocol, settings in settings_of(registry, name).items():
        changes = (whole.get("protocols") or {}).get(protocol) or {}
        said = {"data": _data(settings), "seed": f"seeds {_seeds(settings.get('seed', [0]))}"}
        said |= {"limit": "all test samples" if settings.get("limit") is None else f"{settings['limit']} test samples"}
        said |= {
            "target": f"explains {_target(str(settings.get('target')))}",
            "primary": f"ranked by {settings.get('primary')}",
        }
        said |= {key: f"{key} {', '.join(listed(settings, key))}" for key in ("models", "explainers", "metrics")}
        told = [said.get(key, str(key)) for key in changes if key != "notes"]
        told += [said["limit"]] * ("limit" not in changes and "limit" in whole)
        found.append((f"protocol {protocol}", "; ".join(told) or "as above, all test samples"))
    found += [("version", str(whole.get("version", ""))), ("file", str(path))]
    return [(label, text) for label, text in found if text]


def _own(spec: Spec) -> Facts:
    if isinstance(spec, ExplainerSpec):
        elsewhere = (
            "as the maps have it" if spec.stored else "that of the explainer that it wraps" if spec.wraps else ""
        )
        trained = "no" if not spec.fit else "yes: once for each model, data set and seed, before it explains"
        return [
            ("gives", " and ".join(_GIVES[each] for each in spec.gives)),
            ("polarity", elsewhere or _POLARITY[spec.polarity]),
            ("needs", "" if spec.adapter else _needs(spec.needs) + ", beside what the other one needs" * spec.wraps),
            (
                "stochastic",
                "as it likes: torch's generator is seeded" if spec.adapter else _STOCHASTIC[spec.stochastic],
            ),
            ("control", _CONTROL[spec.control]),
            ("trained", trained),
            ("cost", _cost(spec)),
            ("wraps", "another explainer, named by of" if spec.wraps else ""),
            ("stored", "its maps were made elsewhere and are read from a folder" if spec.stored else ""),
        ]
    if isinstance(spec, ModelSpec):
        link = {"softmax": "softmax of the logits", "sigmoid": "sigmoid of one logit"}[spec.link]
        return [
            ("datasets", "those of the model that it wraps" if spec.wraps else ", ".join(spec.datasets)),
            ("probability", "as of the model that it wraps" if spec.wraps else link),
            (
                "has",
                "what the model has that it wraps"
                if spec.wraps
                else ", ".join(_HAS.get(each, each) for each in spec.has),
            ),
            ("trained", "yes: once for each data set and seed, and kept" if spec.fit else "no"),
            (
                "checkpoints",
                f"of every epoch, written {spec.id}@1, {spec.id}@2, ... or {spec.id}@*" if spec.checkpoints else "no",
            ),
            ("wraps", "another model, named by of" if spec.wraps else ""),
        ]
    if isinstance(spec, DatasetSpec):
        return [("has", ", ".join(["images and labels", *(_HAS.get(each, each) for each in spec.has)]))]
    if isinstance(spec, MetricSpec):
        level = {"explainer": "explainer: a number for each of them", "model": "model: of the classifier alone"}[
            spec.level
        ]
        uses = {"oracle": "a second classifier, trained independently of the one explained"}
        return [
            ("family", spec.family),
            ("level", level),
            ("needs", _needs(spec.needs)),
            ("uses", ", ".join(uses.get(each, each) for each in spec.uses)),
        ]
    return []


def _cost(spec: ExplainerSpec) -> str:
    """Return the passes that a map takes at most, by the defaults; of what or how many it hangs on, if it does."""
    usual, small = ((3, 224, 224), 10), ((3, 32, 32), 2)
    try:
        most, other = (declared_cost(Component(spec, dict(spec.params)), *size) for size in (usual, small))
    except XbenchError as error:
        return str(error)
    if not most:
        return ""
    some = [f"{most[name]:,} {name.removesuffix('s')}" for name in PASSES if most.get(name)]
    said = [f"at most {' and '.join(some)} pass{'es' * (set(most.values()) != {1})} an image"] if some else []
    said += [f"{name.removesuffix('s')} passes, as many as the network makes it" for name in PASSES if name not in most]
    text = "; ".join(said) or "no pass through the network"
    if most != other:
        text += ", of 3 x 224 x 224 and ten classes"
    if isinstance(spec.cost, str):
        text += ", with its parameters as below"
    return text + ", beside what the other one takes" * spec.wraps


def _needs(needs: Sequence[str]) -> str:
    return ", ".join(_NEEDS.get(need, need) for need in needs) or "nothing"


def _home(plugins: Sequence[Plugin], spec: Spec) -> str:
    """Return the distribution and its version, and the plugin's name."""
    for plugin in plugins:
        top = plugin.module.partition(":")[0].split(".")[0].removeprefix("xbench_")
        if top == spec.package and not plugin.problem and any(kind == spec.kind for kind, _ in plugin.components):
            return f"{plugin.distribution} {plugin.version}, plugin {plugin.name}"
    return ""


def _shown(value: Param) -> str:
    if value is None or value == "":
        return "none" if value is None else "empty"
    return str(value).lower() if isinstance(value, bool) else str(value)


def _data(settings: Settings) -> str:
    name, params = data_of(settings)
    return name + (f" with {', '.join(f'{key}={value}' for key, value in params.items())}" if params else "")


def _listed(registry: Registry, key: str, texts: Sequence[str]) -> str:
    """Return what a suite lists, a pattern with how many components it stands for."""
    installed = registry.of_kind(key.removesuffix("s"))
    parts = []
    for text in texts:
        hits = [name for name in matching(text, installed) if not getattr(installed[name], "wraps", False)]
        bare = "[" not in text and ("*" in text.partition("@")[0] or "?" in text)
        parts.append(f"{text} ({len(hits)})" if bare else text)
    return ", ".join(parts)


def _target(target: str) -> str:
    words = {
        "predicted": "the predicted class",
        "label": "the class of the label",
        "annotated": "the class that the mask is evidence for, else the predicted one",
    }
    return words.get(target, f"the class {target}")


def _seeds(seeds: object) -> str:
    return ", ".join(map(str, seeds)) if isinstance(seeds, list) else str(seeds)
