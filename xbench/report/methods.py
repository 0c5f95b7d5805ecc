"""The methods paragraph of a paper: what was run and how, with every setting that could change a number."""

from collections.abc import Mapping, Sequence

from xbench.leaderboard import Row
from xbench.report.prose import Cite, Name, Prose, series
from xbench.report.references import References
from xbench.report.sheets import Sheet
from xbench.stats import LEVEL, RESAMPLES
from xbench.store import Json, content_key

_TARGETS = {
    "predicted": "the class that the classifier predicts",
    "label": "the true class",
    "annotated": "the class that the mask is evidence for, else the predicted one",
}
_VERSIONS = ("torch", "torchvision", "numpy", "scipy", "scikit-learn")


def methods(
    cells: Sequence[Json],
    manifests: Sequence[Json],
    references: References,
    sheets: Sequence[Sheet],
    rows: Sequence[Row],
) -> list[Prose]:
    """Return a paragraph for each set of cells that are comparable, and one on the statistics and the software.

    Parameters
    ----------
    cells
        Their definitions.
    manifests, references, sheets, rows
        Of the same runs: what ``run.json`` says, what is cited, the tables, and what they were made of.
    """
    groups: dict[str, list[Json]] = {}
    for cell in cells:
        parts = [cell[name] for name in ("suite", "suite_version", "protocol", "data")]
        groups.setdefault(content_key(parts), []).append(cell)
    return [*(_setting(group, references, rows) for group in groups.values()), _statistics(sheets, manifests, rows)]


def _setting(cells: Sequence[Json], references: References, rows: Sequence[Row]) -> Prose:
    first = next((cell for cell in cells if cell["explainer"]), cells[0])
    data = first["data"]
    told: list[str | Name | Cite] = [
        "We ran the suite ", Name(first["suite"]), f" (version {first['suite_version']}, protocol ", Name(first["protocol"]),
        ") of xbench on ", *_component("dataset", data, references), f" (version {data['version']}, digest ",
        Name(data["digest"][:8]), "; ", *_params(data), "; classes ",
        *series([[Name(each)] for each in first["classes"]]), "). ",
    ]  # fmt: skip
    explained = [cell for cell in cells if cell["explainer"]]
    for place in dict.fromkeys((cell["samples"], cell["n"], cell["target"]) for cell in explained):
        target = _TARGETS.get(place[2], "")
        told += [f"Explained are {place[1]} test samples (digest ", Name(place[0][:8]), "), each for "]
        told += [f"{target} (", Name(f"target={place[2]}"), "). "] if target else ["the class ", Name(place[2]), ". "]
    told += _classifiers(cells, references, rows)
    told += _explainers(explained, references)
    told += _metrics(cells, references)
    seeds = sorted({cell["seed"] for cell in cells})
    told += [
        "Seeds of trainings and draws: " if len(seeds) > 1 else "Seed of trainings and draws: ",
        f"{', '.join(map(str, seeds))}.",
    ]
    return told


def _classifiers(cells: Sequence[Json], references: References, rows: Sequence[Row]) -> Prose:
    told: list[str | Name | Cite] = []
    for text, cell in {cell.get("series") or cell["model"]["text"]: cell for cell in cells}.items():
        model = cell["model"]
        told += [
            "The classifier ",
            Name(text),
            Cite(_keys("model", model, references)),
            f" (version {model['version']}; ",
            *_params(model),
        ]
        told += [f"; {model['link']} of its scores" if model.get("link") else "", ")"]
        own = [
            row
            for row in rows
            if row.explainer is None and row.mean is not None and row.model.partition("#")[0] == text
        ]
        if own:
            parts: list[Prose] = [
                [f"{_with_interval(row)} in ", Name(row.metric), f" (n = {row.n_scored})"] for row in own
            ]
            told += [" scores ", *series(parts)]
        told += [". "]
    return told


def _with_interval(row: Row) -> str:
    if row.low is None or row.high is None:
        return f"{row.mean:.3f}"
    return f"{row.mean:.3f} ({row.low:.3f} to {row.high:.3f})"


def _explainers(cells: Sequence[Json], references: References) -> Prose:
    told: list[str | Name | Cite] = []
    for control in (False, True):
        found = {
            cell["explainer"]["text"]: cell["explainer"]
            for cell in cells
            if bool(cell["explainer"]["control"]) is control
        }
        named: list[Prose] = [
            [Name(text), Cite(_keys("explainer", each, references))] for text, each in sorted(found.items())
        ]
        if named:
            told += ["The controls are " if control else "We compared the explainers ", *series(named), ". "]
    if told:
        told += ["Parameters in brackets differ from the defaults of their versions. "]
    return told


def _metrics(cells: Sequence[Json], references: References) -> Prose:
    found = {content_key([each["id"], each["params"]]): each for cell in cells for each in cell["metrics"]}
    named: list[Prose] = []
    for each in found.values():
        settings = _params(each) if each["params"] else []
        version: Prose = [f" (version {each['version']}", *(["; ", *settings] if settings else []), ")"]
        named.append([Name(each["id"]), Cite(_keys("metric", each, references)), *version])
    return ["We measured ", *series(named), ". "] if named else []


def _component(kind: str, part: Json, references: References) -> Prose:
    return [Name(str(part["text"])), Cite(_keys(kind, part, references))]


def _keys(kind: str, part: Json, references: References) -> tuple[str, ...]:
    """Return what a component cites, and what it wraps."""
    keys: dict[str, None] = {}
    inner: Json | None = part
    while inner:
        keys |= dict.fromkeys(references.keys.get((kind, str(inner["id"])), ()))
        inner = inner.get("of")
    return tuple(keys)


def _params(part: Json) -> Prose:
    params: Mapping[str, object] = part["params"]
    shown = [f"{name}={value}" for name, value in params.items() if value not in ("", None)]
    return [Name(", ".join(shown))] if shown else ["no parameters"]


def _statistics(sheets: Sequence[Sheet], manifests: Sequence[Json], rows: Sequence[Row]) -> Prose:
    level = f"{LEVEL:.0%}".replace("%", "\u00a0%")
    groups = sorted({(sheet.n_groups, sheet.n) for sheet in sheets})
    drawn = " or ".join(
        f"{several} images" if several == n else f"{several} groups (patients, specimens), never single images"
        for several, n in groups
    )
    told: list[str | Name | Cite] = [
        f"Intervals hold {level}: percentiles of {RESAMPLES:,} bootstrap resamples, the same for all explainers, that draw "
        f"{drawn or 'groups of samples'}",
        ", and seeds, samples within them" if any(sheet.seeds > 1 for sheet in sheets) else "",
        "; rates have Wilson intervals, widened by what the bootstrap finds. An explainer's rank is one more than the number "
        "of explainers that are better with a paired interval of the difference above zero; best are those of rank one. "
        "Neither is corrected for the number of comparisons (",
        Name("xbench compare"),
        " gives Holm's correction). Controls take no rank. ",
    ]
    for manifest in {content_key([each.get("versions"), each.get("python")]): each for each in manifests}.values():
        versions = manifest.get("versions") or {}
        software = [f"xbench {manifest.get('xbench', '?')}", f"Python {manifest.get('python', '?')}"]
        software += [f"{name} {versions[name]}" for name in _VERSIONS if name in versions]
        told += [f"Software: {', '.join(software)}. "]
    devices = sorted({row.device for row in rows if row.device})
    told += [f"Device: {'; '.join(devices)}."] if devices else []
    return told
