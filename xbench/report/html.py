"""A run, or a leaderboard, as one HTML file that opens from disk: tables, curves, maps and what defines the run."""

import base64
import hashlib
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from xbench.keys import read_sealed
from xbench.leaderboard import Board, ranked_boards, read_measured
from xbench.manifest import run_folder
from xbench.report.results import read_results
from xbench.rows import Measured
from xbench.store import Store, write_atomic

if TYPE_CHECKING:
    from jinja2 import Environment
    from markupsafe import Markup

    from xbench.report.ranking import Section

_JOINTS = "/_[=,"
_PARTS = re.compile(f"([{re.escape(_JOINTS)}])")
Group = tuple[str, str, list[Measured]]
TEMPLATES = Path(__file__).parent / "templates"


def write_report(folder: Path, *, costs: bool = True, measured: Sequence[Group] | None = None) -> Path:
    """Write ``report/index.html`` into a run's folder, made from its records alone; return its path.

    Parameters
    ----------
    folder
        What ``xbench run`` wrote, of this version or an earlier one.
    costs
        Without them nothing is shown that was timed or measured of the machine's memory: the same records then give the
        same bytes on every machine with the same versions of this package and of NumPy, Pillow and Jinja.
    measured
        What `read_measured` yields of the run's cells, where it is at hand: intervals take most of a report's time.

    Raises
    ------
    XbenchError
        The folder holds no run, or a cell's definition is damaged.
    CannotWrite
        The disk or the permissions forbid it.
    """
    path = folder / "report" / "index.html"
    write_atomic(path, _report(folder, costs, measured).encode(errors="backslashreplace"))
    return path


def leaderboard_page(
    boards: Sequence[Board], title: str, notes: Sequence[str] = (), primaries: Mapping[str, str] | None = None
) -> str:
    """Return a page of tables of several suites, each with quality against cost.

    Parameters
    ----------
    boards
        What to show, in this order.
    title, notes
        The page's title, and lines below it.
    primaries
        Suite -> the metric that orders its tables; without one the first metric does.
    """
    from xbench.report.charts import paretos
    from xbench.report.ranking import sections

    found = [each for board in boards for each in sections([board], (primaries or {}).get(board.suite, ""))]
    rows = [row for board in boards for row in board.rows]
    return _render(
        "leaderboard.html.j2",
        title=title,
        notes=list(notes),
        sections=found,
        names=_short_names(found),
        paretos=paretos(rows, found),
    )


def _short_names(found: "Sequence[Section]") -> list[str]:
    """Return what the links to sections say: the suite, with the model and the rest of the board where they tell apart."""
    forms = [
        [one.board.partition(",")[0] for one in found],
        [f"{one.board.partition(',')[0]}, {one.model}" for one in found],
        [f"{one.board}, {one.model}" for one in found],
    ]
    return [next((form[i] for form in forms if form.count(form[i]) == 1), forms[-1][i]) for i in range(len(found))]


def _report(folder: Path, costs: bool, measured: Sequence[Group] | None) -> str:
    # Jinja, Pillow and pandas take most of a second to import: only who writes a report pays.
    from xbench.report import facts
    from xbench.report.charts import curve_charts, paretos
    from xbench.report.epoch_grid import epoch_grids
    from xbench.report.gallery import galleries
    from xbench.report.ranking import sections

    keys, primary, manifest = run_folder(folder)
    store = Store(folder)
    results = read_results(store, keys)
    measured = list(read_measured([store], keys)) if measured is None else measured
    boards = ranked_boards(measured)
    found = sections(boards, primary, costs)
    lines = [line for section in found for table in section.tables for line in table.lines]
    ranked = list(dict.fromkeys(line.explainer.partition("#")[0] for line in lines))
    own = [result for result in results if result.explainer]
    return _render(
        "report.html.j2",
        title=str(manifest.get("title") or manifest.get("suite") or folder.name),
        manifest=manifest,
        primary=primary,
        n=sorted({result.definition["n"] for result in own}),
        target=", ".join(sorted({str(result.definition["target"]) for result in own})),
        classes=results[0].classes if results else (),
        sections=found,
        paretos=paretos([row for board in boards for row in board.rows], found) if costs else [],
        charts=curve_charts(store, keys, found),
        galleries=galleries(store, results, ranked),
        grids=epoch_grids(store, results, primary),
        matrices=facts.matrices(results),
        translations=facts.translations(results),
        agreements=facts.agreements(measured, primary),
        failures=facts.failures(results),
        provenance=facts.provenance(manifest, results),
        costs=facts.costs(results, read_sealed(folder / "cost.json") or {}) if costs else [],
    )


def _render(template: str, **values: Any) -> str:
    style, script = (_asset(name) for name in ("report.css", "report.js"))
    policy = (
        f"default-src 'none'; style-src '{_hash(style)}'; script-src '{_hash(script)}'; img-src data:; "
        "base-uri 'none'; form-action 'none'"
    )
    return _environment().get_template(template).render(style=style, script=script, policy=policy, **values)


def _asset(name: str) -> str:
    return (TEMPLATES / name).read_text(encoding="utf-8")


def _hash(text: str) -> str:
    return "sha256-" + base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()


def _environment() -> "Environment":
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    from xbench.report.charts import BOTTOM, HIGH, LEFT, RIGHT, WIDE

    made = Environment(
        loader=FileSystemLoader(TEMPLATES, encoding="utf-8"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    made.filters["breakable"] = _breakable
    made.globals["frame"] = {"wide": WIDE, "high": HIGH, "left": LEFT, "right": RIGHT, "bottom": BOTTOM}
    return made


def _breakable(name: str) -> "Markup":
    """Return a name that a narrow column may break where people would; what is copied from the page is the name itself."""
    from markupsafe import Markup, escape

    return Markup("").join(
        escape(part) + Markup("<wbr>" if part in _JOINTS else "") for part in _PARTS.split(name) if part
    )
