"""The methods paragraph of a paper: what was run and how, with every setting that could change a number."""

from collections.abc import Mapping, Sequence

from xbench.report.prose import Cite, Name, Prose, series
from xbench.report.references import References
from xbench.report.sheets import Sheet
from xbench.rows import Row
from xbench.stats import LEVEL, RESAMPLES
from xbench.store import Json, content_key
from xbench.tables import each_seed, shortcuts

_TARGETS = {
    "predicted": "the class that the classifier predicts",
    "label": "the true class",
    "annotated": "the class that the mask is evidence for, else the predicted one",
    "given": "the class given for it",
}
_CLASSES = 10
"""Of more classes only the number is told."""
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
    return [
        *(_setting(group, references, rows) for group in groups.values()),
        _statistics(cells, sheets, manifests, rows),
    ]


def _setting(cells: Sequence[Json], references: References, rows: Sequence[Row]) -> Prose:
    first = next((cell for cell in cells if cell["explainer"]), cells[0])
    data = first["data"]
    told: list[str | Name | Cite] = [
        "We ran the suite ", Name(first["suite"]), f" (version {first['suite_version']}, protocol ", Name(first["protocol"]),
        ") of xbench on ", *_component("dataset", data, references), f" (version {data['version']}, digest ",
        Name(data["digest"][:8]), "; ", *_params(data), "; ", *_class_names(first["classes"]), "). ",
    ]  # fmt: skip
    explained = [cell for cell in cells if cell["explainer"]]
    for place in dict.fromkeys((cell["samples"], cell["n"], cell["target"]) for cell in explained):
        target = _TARGETS.get(place[2], "")
        told += [
            f"Explained {'is 1 test sample' if place[1] == 1 else f'are {place[1]} test samples'} (digest ",
            Name(place[0][:8]),
            "), each for ",
        ]
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


def _class_names(names: Sequence[str]) -> Prose:
    return (
        ["classes ", *series([[Name(each)] for each in names])] if len(names) <= _CLASSES else [f"{len(names)} classes"]
    )


def _classifiers(cells: Sequence[Json], references: References, rows: Sequence[Row]) -> Prose:
    told: list[str | Name | Cite] = []
    found: dict[str, list[Json]] = {}
    for cell in cells:
        model, text = cell["model"], cell.get("series") or cell["model"]["text"]
        found.setdefault(content_key([text, model["version"], model["params"]]), []).append(cell)
    for alike in found.values():
        model, text = alike[0]["model"], alike[0].get("series") or alike[0]["model"]["text"]
        epochs = sorted({int(cell["model"].get("checkpoint") or 0) for cell in alike if cell.get("series")})
        told += [
            "The classifier ",
            Name(text),
            Cite(_keys("model", model, references)),
            f" (version {model['version']}; ",
            *_params(model),
        ]
        told += [f"; {len(epochs)} epochs, {epochs[0]} to {epochs[-1]}" if len(epochs) > 1 else ""]
        told += [f"; {model['link']} of its scores" if model.get("link") else "", ")"]
        # A classifier's rows stand on every board of its data: each number is told once.
        own = {
            (row.metric, row.version, row.mean, row.n): row
            for row in rows
            if row.explainer is None
            and row.mean is not None
            and row.model.partition("#")[0] == text
            and _measured_on(row, alike[0])
        }
        if own:
            parts: list[Prose] = [
                [f"{_with_interval(row)} in ", Name(row.metric), f" (n = {each_seed(row)})"] for row in own.values()
            ]
            told += [" scores ", *series(parts)]
        told += [". "]
    return told


def _measured_on(row: Row, cell: Json) -> bool:
    """Say whether a row's board, as `xbench.leaderboard` calls it, is of a cell's suite, data and protocol."""
    head = f"{cell['suite']} v{cell['suite_version']}, {cell['data']['text']}, {cell['protocol']}"
    tail = row.board.removeprefix(head)
    # Only where two data sets are written alike, their hashes tell them apart.
    same = not tail.startswith(", data ") or tail.startswith(f", data {content_key(cell['data'])[:8]}")
    return same and (row.board == head or tail.startswith(", "))


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
    if any(str(cell["explainer"]["text"]).endswith("]") for cell in cells):
        told += ["Parameters in brackets differ from the defaults of their versions. "]
    return told


def _metrics(cells: Sequence[Json], references: References) -> Prose:
    found = {content_key([each["id"], each.get("params")]): each for cell in cells for each in cell["metrics"]}
    named: list[Prose] = []
    for each in found.values():
        settings = _params(each) if each.get("params") else []
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


def _statistics(
    cells: Sequence[Json], sheets: Sequence[Sheet], manifests: Sequence[Json], rows: Sequence[Row]
) -> Prose:
    level = f"{LEVEL:.0%}".replace("%", "\u00a0%")
    several = sorted({(sheet.n_groups, sheet.n) for sheet in sheets if sheet.n_groups > 1})
    drawn = " or ".join(
        f"{groups} images" if groups == n else f"{groups} groups (patients, specimens), never single images"
        for groups, n in several
    )
    scores = [score for cell in cells for metric in cell["metrics"] for score in metric["scores"]]
    told: list[str | Name | Cite] = []
    if several:
        told += [
            f"Intervals hold {level}: percentiles of {RESAMPLES:,} bootstrap resamples, the same for all explainers, that "
            f"draw {drawn}",
            ", and seeds, samples within them" if any(sheet.seeds[-1] > 1 for sheet in sheets) else "",
        ]
        rates = any(score.get("aggregate") == "rate" for score in scores)
        told += ["; rates have Wilson intervals, widened by what the bootstrap finds. " if rates else ". "]
    if len(several) < len({(sheet.n_groups, sheet.n) for sheet in sheets}):
        told += ["Of one group of samples (one patient, one specimen, one image) there is no interval. "]
    if tuned := list(dict.fromkeys(score["name"] for score in scores if score.get("aggregate") == "tuned")):
        told += [
            "Of each sample, ", *series([[Name(name)] for name in tuned]), " is taken under the setting that is best on the "
            "other half of the groups; intervals take the settings chosen for fixed. ",
        ]  # fmt: skip
    told += [f"{line[:1].upper()}{line[1:]}. " for line in shortcuts(rows)]
    ranked = [line for sheet in sheets for line in sheet.lines if line.rank is not None]
    if ranked:
        told += [
            "An explainer's rank is one more than the number of explainers that are better with a paired interval of the "
            "difference above zero; best are those of rank one. ",
            "Neither intervals nor ranks are corrected for the number of comparisons (",
            Name("xbench compare"),
            " gives Holm's correction). ",
            "Controls take no rank. " if any(sheet.controls for sheet in sheets) else "",
        ]
    for manifest in {content_key([each.get("versions"), each.get("python")]): each for each in manifests}.values():
        versions = manifest.get("versions") or {}
        software = [f"xbench {manifest.get('xbench', '?')}", f"Python {manifest.get('python', '?')}"]
        software += [f"{name} {versions[name]}" for name in _VERSIONS if name in versions]
        told += [f"Software: {', '.join(software)}. "]
    devices = sorted({row.device for row in rows if row.device})
    told += [f"Device: {'; '.join(devices)}."] if devices else []
    return told
