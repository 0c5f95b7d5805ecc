"""What a report says beside numbers and maps: translations counted, scores that agree, what failed, what defines the run."""

import contextlib
import shlex
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from xbench.errors import XbenchError
from xbench.report.confusion import confusions
from xbench.report.results import Result
from xbench.report.translations import CAVEAT, by_another, heading, translated
from xbench.rows import Measured
from xbench.store import Json
from xbench.trust import FEWEST, Agreement, Trust, trust_of
from xbench.unread import scores_in, unread_in

_CLASSES = 20
"""Of how many classes a matrix is still drawn."""


@dataclass(frozen=True)
class Heat:
    """A number in a cell: ``level`` from 0 to 10 (or -10 to 10) is its colour."""

    text: str
    level: int
    title: str = ""


@dataclass(frozen=True)
class Matrix:
    """A confusion matrix: a row a true class, a column a predicted one; colours are shares of the row."""

    title: str
    classes: tuple[str, ...]
    rows: list[list[Heat]]


@dataclass(frozen=True)
class Translation:
    """What an explainer's translations did to predictions."""

    title: str
    control: bool
    before: Matrix
    after: Matrix
    rates: list[tuple[str, list[str]]]
    notes: list[str]
    directions: list[str]


@dataclass(frozen=True)
class Agreements:
    """How far a classifier's scores order the explainers alike.

    Attributes
    ----------
    truth
        The score that knows the truth, or an empty string where there is none to go by.
    reason
        Why there is none.
    listed
        Each other score's agreement with the truth: name, rho, interval.
    names, rows
        All pairs.
    """

    board: str
    model: str
    truth: str
    reason: str
    listed: list[tuple[str, str, str, Heat]]
    names: list[str]
    rows: list[list[Heat | None]]


def matrices(results: Sequence[Result]) -> list[Matrix]:
    """Return the confusion matrix of every classifier that was measured whole."""
    return [
        matrix_of(f"{one.model} (seed {one.seed}), {int(one.counts.sum())} samples", one.classes, one.counts)
        for one in confusions(results)
        if len(one.classes) <= _CLASSES
    ]


def matrix_of(title: str, classes: tuple[str, ...], counts: np.ndarray) -> Matrix:
    """Return counts [K,K] with their colours."""
    rows = []
    for name, row in zip(classes, counts, strict=True):
        shares = row / max(int(row.sum()), 1)
        told = [f"{n} of {row.sum()} {name} taken for {other}" for n, other in zip(row, classes, strict=True)]
        rows.append([Heat(str(n), round(10 * share), text) for n, share, text in zip(row, shares, told, strict=True)])
    return Matrix(title, classes, rows)


def translations(results: Sequence[Result]) -> list[Translation]:
    """Return what every translating explainer did, methods before controls."""
    found = []
    for result, table in translated(results):
        margins, classes = table.margins, table.classes
        sides = [k for k in (0, 1) if margins.n(k)]
        rates = [
            ("predicted the other class before", [str(margins.predicted_before(k)) for k in sides]),
            ("predicted the other class after (validity)", [str(margins.validity(k)) for k in sides]),
            ("net shift", [f"{margins.net_shift(k) * 100:+.1f} points" for k in sides]),
            ("predictions changed", [str(table.flip_rate(k)) for k in sides]),
            ("right before, turned after (corrected flip rate)", [str(table.corrected_flip_rate(k)) for k in sides]),
            ("wrong before, right after (unflip rate)", [str(table.unflip_rate(k)) for k in sides]),
            ("McNemar's p", [f"{table.mcnemar(k):.2g}" for k in sides]),
            ("fails on what was classified wrongly?", [str(table.difficulty(k)) for k in sides]),
        ]
        notes = [CAVEAT]
        if (independent := by_another(result)) is not None:
            notes.append(
                f"By the independently trained classifier, which is free of that, both classes: {independent}."
            )
        found.append(
            Translation(
                heading(result),
                result.control,
                matrix_of("before", classes, margins.before),
                matrix_of("after translation", classes, margins.after),
                rates,
                notes,
                [f"{classes[k]} to {classes[1 - k]}" for k in sides],
            )
        )
    return sorted(found, key=lambda one: one.control)


def agreements(measured: Sequence[tuple[str, str, list[Measured]]], primary: str) -> list[Agreements]:
    """Return how far scores agree on every classifier; nothing where fewer than four explainers were measured."""
    reason = f"no score that knows the truth was measured of {FEWEST} explainers"
    try:
        made = [_agreements(one) for one in trust_of(measured, "", primary)]
    except XbenchError as error:
        made, reason = [], str(error).partition(";")[0]
    # Without a score that knows the truth the primary one stands in: agreement is not trust, but worth a look.
    with contextlib.suppress(XbenchError):
        done = {(one.board, one.model) for one in made}
        instead = [one for one in trust_of(measured, primary, primary) if (one.board, one.model) not in done]
        made += [_agreements(one, reason) for one in instead]
    return made


def _agreements(found: Trust, reason: str = "") -> Agreements:
    pairs = {frozenset((pair.one, pair.other)): pair for pair in [*found.with_truth, *found.between]}
    order = [found.truth, *(pair.one for pair in found.with_truth)]
    names = [
        *order,
        *dict.fromkeys(name for pair in found.between for name in (pair.one, pair.other) if name not in order),
    ]
    rows = [[None if one == other else _heat(pairs.get(frozenset((one, other)))) for other in names] for one in names]
    listed = [
        (pair.one, _rho(pair.rho), f"[{_rho(pair.low)}, {_rho(pair.high)}]", _heat(pair)) for pair in found.with_truth
    ]
    return Agreements(found.board, found.model, "" if reason else found.truth, reason, listed, names, rows)


def _heat(pair: Agreement | None) -> Heat:
    if pair is None or np.isnan(pair.rho):
        return Heat("–", 0, "not known")
    told = f"{pair.one} and {pair.other}: {_rho(pair.rho)} [{_rho(pair.low)}, {_rho(pair.high)}], {pair.explainers} explainers"
    return Heat(f"{pair.rho:+.2f}".replace("-", "−"), round(10 * pair.rho), told)


def _rho(value: float) -> str:
    return "–" if np.isnan(value) else f"{value:+.2f}".replace("-", "−")


def failures(results: Iterable[Result]) -> list[tuple[str, str, list[str]]]:
    """Return (status, reason, what it is true of) of everything without a number, what failed before what does not apply."""
    found: dict[tuple[str, str], list[str]] = {}
    for result in results:
        who = f"{result.explainer or 'the classifier'} on {result.model} (seed {result.seed})"
        if not result.ok:
            found.setdefault((result.record.status, result.record.reason), []).append(who)
        reasons: dict[str, list[str]] = {}
        for score, why in {**result.definition.get("missing", {}), **scores_in(result.record.unmeasured)}.items():
            reasons.setdefault(why, []).append(score)
        found |= {("cannot be read", why): [name] for name, why in unread_in(result.record.unmeasured).items()}
        # Of a cell that is unsupported as a whole the reason says it already.
        for why, scores in reasons.items() if result.record.status != "unsupported" else ():
            found.setdefault(("not measured", why), []).append(f"{who}: {', '.join(scores)}")
    late = ("unsupported", "not measured")
    order = sorted(found, key=lambda one: (one[0] in late, late.index(one[0]) if one[0] in late else 0))
    return [(status, reason, found[status, reason]) for status, reason in order]


Facts = list[tuple[str, str]]


def provenance(manifest: Mapping[str, Any], results: Sequence[Result]) -> dict[str, Any]:
    """Return everything that defines the run: words for people, and a line for every component and cell."""
    run: Facts = [("command", shlex.join(map(str, manifest.get("command", ()))))]
    run += [(name, str(manifest[name])) for name in ("suite", "protocol", "data", "primary") if name in manifest]
    run += [("xbench", str(manifest.get("xbench", ""))), ("Python", str(manifest.get("python", "")))]
    run += [("machine", str(manifest.get("machine", "")))]
    run += [
        (name, str(version)) for name, version in dict(manifest.get("versions", {})).items() if name != "xbench-xai"
    ]
    if isinstance(settings := manifest.get("settings"), list):
        run.append(("settings", shlex.join(map(str, settings))))
    told = {"command", "settings", "suite", "protocol", "data", "primary", "xbench", "python", "machine", "versions"}
    # What later versions write down is shown too, whatever it is.
    run += [
        (name, _plain(value))
        for name, value in sorted(manifest.items())
        if name not in {*told, "title", "cells", "notes"} and isinstance(value, (str, int, float, bool, dict))
    ]
    parts: dict[tuple[str, str], Facts] = {}
    for result in results:
        cell = result.definition
        parts.setdefault(("data", cell["data"]["text"]), _component(cell["data"], digest=cell["data"].get("digest")))
        fits: Json = {"fit": cell.get("model_fit"), "weights": result.record.weights}
        named = f"{cell['model']['text']} (seed {result.seed})"
        if not result.series:
            parts.setdefault(("model", named), _component(cell["model"], **fits))
        if cell["explainer"]:
            parts.setdefault(
                ("explainer", cell["explainer"]["text"]), _component(cell["explainer"], fit=cell.get("explainer_fit"))
            )
        for metric in cell["metrics"]:
            scores = ", ".join(score["name"] for score in metric["scores"])
            parts.setdefault(("metric", scores), _component(metric))
    cells = [
        {
            "key": result.record.key,
            "model": result.model,
            "explainer": result.explainer or "the classifier",
            "seed": result.seed,
            "n": result.definition["n"],
            "status": result.record.status,
            "weights": result.record.weights or "",
        }
        for result in results
    ]
    return {
        "run": run,
        "notes": [str(note) for note in manifest.get("notes", [])],
        "parts": parts,
        "cells": cells,
        "sources": _sources(manifest.get("components", [])),
    }


def _sources(components: Iterable[Mapping[str, Any]]) -> list[tuple[str, list[str], list[str]]]:
    """Return every citation with the components that rest on it, and its BibTeX entries."""
    found: dict[str, tuple[list[str], list[str]]] = {}
    for component in components:
        if citation := str(component.get("citation") or ""):
            whose, entries = found.setdefault(citation, ([], []))
            whose.append(str(component.get("text") or component.get("id")))
            entries += [str(entry) for entry in component.get("bibtex", []) if str(entry) not in entries]
    return [(citation, list(dict.fromkeys(whose)), entries) for citation, (whose, entries) in found.items()]


def _component(definition: Mapping[str, Any], **more: str | None) -> Facts:
    facts = [(name, str(definition[name])) for name in ("id", "version") if name in definition]
    facts += [("parameters", _plain(definition["params"]))] if definition.get("params") else []
    facts += [("code", str(definition["code"]))] if definition.get("code") else []
    return facts + [(name, value) for name, value in more.items() if value]


def _plain(value: Any) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{name}={_plain(inner)}" for name, inner in sorted(value.items()))
    return str(value)


def costs(results: Sequence[Result], spent: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Return what the run took, in words; ``spent`` is what ``cost.json`` holds of the last call."""
    found = []
    if "device_busy" in spent:
        found.append(("inside passes of the classifier", f"{spent['device_busy']:.0%} of the last call's time"))
    if "wall_seconds" in spent:
        what = (
            f"{spent['wall_seconds']:.0f} s for {spent.get('slices', '?')} slices, {spent.get('workers', '?')} workers"
        )
        found.append(("explaining and scoring", what))
    own = [result.record.cost for result in results if result.explainer]
    found.append(("explanations alone", f"{sum(cost['seconds'] for cost in own):.1f} s"))
    found.append(
        ("passes", f"{sum(c['forwards'] for c in own):,} forward, {sum(c['backwards'] for c in own):,} backward")
    )
    peak = max((result.record.cost["peak_bytes"] for result in results), default=0)
    found.append(("peak memory", f"{peak / 2**20:,.0f} MiB"))
    devices = sorted({name for result in results for name in result.record.cost["devices"]})
    return [*found, ("devices", "; ".join(devices))]
