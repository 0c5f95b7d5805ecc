"""A run, or a leaderboard, as one HTML file that opens from disk: tables, curves, maps and what defines the run."""

import base64
import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from xbench.leaderboard import Board, read_boards
from xbench.manifest import run_folder
from xbench.report.results import read_results
from xbench.store import Store, write_atomic

if TYPE_CHECKING:
    from jinja2 import Environment

TEMPLATES = Path(__file__).parent / "templates"


def write_report(folder: Path, *, costs: bool = True) -> Path:
    """Write ``report/index.html`` into a run's folder, made from its records alone; return its path.

    Parameters
    ----------
    folder
        What ``xbench run`` wrote, of this version or an earlier one.
    costs
        Without them nothing is shown that was timed or measured of the machine's memory: the same records then give the
        same bytes wherever they were made.

    Raises
    ------
    XbenchError
        The folder holds no run, or a cell's definition is damaged.
    CannotWrite
        The disk or the permissions forbid it.
    """
    path = folder / "report" / "index.html"
    write_atomic(path, _report(folder, costs).encode())
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
    return _render("leaderboard.html.j2", title=title, notes=list(notes), sections=found, paretos=paretos(rows, found))


def _report(folder: Path, costs: bool) -> str:
    # Jinja, Pillow and pandas take most of a second to import: only who writes a report pays.
    from xbench.report import facts
    from xbench.report.charts import curve_charts, paretos
    from xbench.report.epoch_grid import epoch_grids
    from xbench.report.gallery import galleries
    from xbench.report.ranking import sections

    keys, primary, manifest = run_folder(folder)
    store = Store(folder)
    results = read_results(store, keys)
    boards = read_boards([store], keys)
    found = sections(boards, primary, costs)
    agreeing, unknown = facts.agreements(store, keys, primary)
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
        galleries=galleries(store, results),
        grids=epoch_grids(store, results, primary),
        matrices=facts.matrices(results),
        translations=facts.translations(results),
        agreements=agreeing,
        no_agreement=unknown,
        failures=facts.failures(results),
        provenance=facts.provenance(manifest, results),
        costs=facts.costs(results, _json(folder / "cost.json")) if costs else [],
    )


def _json(path: Path) -> dict[str, Any]:
    try:
        found = json.loads(path.read_bytes())
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


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

    return Environment(
        loader=FileSystemLoader(TEMPLATES, encoding="utf-8"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
