"""What goes into a paper: tables, figures, the methods paragraph and the references of a run, as files beside it."""

import os
import shutil
import subprocess
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path

from xbench.curves import MeanCurve, mean_curves
from xbench.errors import XbenchError
from xbench.leaderboard import read_measured
from xbench.manifest import run_folder
from xbench.mean_ranks import Ranking, ranks
from xbench.report import tex
from xbench.report.methods import methods
from xbench.report.prose import Name, Prose, latex_prose, markdown_prose
from xbench.report.references import References, gather
from xbench.report.sheets import Intervals, Sheet, best_ranks, sheets
from xbench.rows import Measured, Row
from xbench.store import Json, Store, write_atomic
from xbench.tables import rows_csv, values_of

_SECONDS = 120


@dataclass(frozen=True)
class Paper:
    """All that the formats are made of: read once, from the records alone."""

    title: str
    measured: tuple[tuple[str, tuple[Measured, ...]], ...]
    sheets: tuple[Sheet, ...]
    methods: tuple[Prose, ...]
    references: References
    rankings: tuple[Ranking, ...]
    curves: tuple[MeanCurve, ...]


def read_paper(folders: Sequence[Path], intervals: Intervals = "pm") -> Paper:
    """Read one or several runs. Raises XbenchError where a folder holds no run, or a run no number."""
    runs = [run_folder(folder) for folder in folders]
    stores = [Store(folder) for folder in folders]
    keys = list(dict.fromkeys(key for own, _, _ in runs for key in own))
    primary = runs[0][1]
    manifests: list[Json] = [manifest for _, _, manifest in runs]
    measured = tuple((title, tuple(found)) for title, _, found in read_measured(stores, keys))
    shown = tuple(sheet for title, found in measured for sheet in sheets(title, found, primary, intervals))
    if not shown:
        raise XbenchError(f"nothing to report: no explainer in {', '.join(map(str, folders))} has a number yet")
    cells = [(store, key) for own, store in zip(runs, stores, strict=True) for key in own[0]]
    definitions = [store.read(key).definition for store, key in cells]
    references = gather(definitions, manifests)
    rows = [replace(each.row, board=title) for title, found in measured for each in found]
    try:
        rankings = ranks(stores, "", keys, primary)[0]
    except XbenchError:  # fewer than three explainers, or a score that no patient has: there is nothing to draw
        rankings = []
    return Paper(
        title="; ".join(dict.fromkeys(str(manifest.get("title") or manifest.get("suite")) for manifest in manifests)),
        measured=measured,
        sheets=shown,
        methods=tuple(methods(definitions, manifests, references, shown, rows)),
        references=references,
        rankings=tuple(rankings),
        curves=tuple(mean_curves(cells)),
    )


def write_paper(folders: Sequence[Path], kind: str, intervals: Intervals = "pm") -> tuple[list[Path], list[str]]:
    """Write a report of one or several runs into ``report/`` of the first folder.

    Parameters
    ----------
    folders
        Runs' folders.
    kind
        ``latex``: table.tex, methods.tex, paper.tex that takes them in, references.bib, figures; ``markdown``: table.md,
        methods.md, paper.md that holds both, and the same references and figures; ``csv``: table.csv, a line a number;
        ``pdf``: paper.pdf, compiled where there is a pdflatex, else drawn.
    intervals
        ``pm`` writes half an interval's width behind a mean, ``range`` both its ends.

    Returns
    -------
    The paths written, and lines for the user.

    Raises
    ------
    XbenchError
        A folder holds no run, or pdflatex fails.
    """
    paper, folder = read_paper(folders, intervals), folders[0] / "report"
    told = list(paper.references.problems)
    if kind == "csv":
        return [_write(folder / "table.csv", csv_text(paper))], told
    if kind == "markdown":
        figures = _figures(paper, folder)
        contents = {**_markdown(paper, folder, figures, intervals), "references.bib": paper.references.bibtex()}
        paths = [_write(folder / name, content) for name, content in contents.items()]
        return [*paths, *(path for path, _ in figures)], told
    figures = _figures(paper, folder)
    paths = [*_write_latex(paper, folder, figures, intervals), *(path for path, _ in figures)]
    if kind == "pdf":
        return _pdf(paper, folder, paths, told, intervals)
    return paths, told


def _write(path: Path, text: str) -> Path:
    write_atomic(path, text.encode())
    return path


def _write_latex(paper: Paper, folder: Path, figures: Sequence[tuple[Path, Prose]], intervals: Intervals) -> list[Path]:
    placed = [(path.relative_to(folder).as_posix(), told) for path, told in figures]
    contents = {
        "table.tex": tex.tables(paper.sheets, intervals),
        "methods.tex": "\n\n".join(map(latex_prose, paper.methods)) + "\n",
        "paper.tex": tex.document(paper.title, placed, bool(paper.references.entries)),
        "references.bib": paper.references.bibtex(),
    }
    return [_write(folder / name, content) for name, content in contents.items()]


def _figures(paper: Paper, folder: Path) -> list[tuple[Path, Prose]]:
    """Draw every figure; those of an earlier report do not stay behind."""
    # Matplotlib takes most of a second to import: only who draws pays.
    from xbench.report.figures import curve_figures, draw_curves, draw_ranking

    made: list[tuple[Path, Prose]] = []
    home = folder / "figures"
    for number, ranking in enumerate(paper.rankings, start=1):
        made.append((home / f"critical_{number}.pdf", [
            "Mean ranks by ", Name(ranking.metric), " of explanations of ", Name(ranking.model),
            f" over {ranking.test.n} {ranking.blocks} (1 is best; {ranking.board}). Bars join explainers that cannot be told "
            "apart: Friedman's test, Nemenyi's critical difference at 5\u00a0%.",
        ]))  # fmt: skip
        draw_ranking(ranking, made[-1][0])
    for number, figure in enumerate(curve_figures(paper.curves), start=1):
        made.append((home / f"curves_{number}.pdf", [
            "Mean curves of explanations of ", Name(figure.model), " on ", Name(figure.data),
            ", over the share of each score's path. Grey: controls.",
        ]))  # fmt: skip
        draw_curves(figure, made[-1][0])
    for old in {*home.glob("critical_*.pdf"), *home.glob("curves_*.pdf")} - {path for path, _ in made}:
        old.unlink()
    return made


def csv_text(paper: Paper) -> str:
    """Return every number as a line: the columns of `xbench.rows.Row`, the groups, and whether it is the best."""
    lines = []
    for title, measured in paper.measured:
        found = best_ranks(measured)
        for each in measured:
            row = each.row
            rank = found.get((row.model, row.explainer or "", row.metric))
            groups = each.estimate.source.n_groups if each.estimate else ""
            best = "" if rank is None else rank == 1
            lines.append({**values_of(row), "board": title, "n_groups": groups, "best": best})
    return rows_csv([*(item.name for item in fields(Row)), "n_groups", "best"], lines)


def _markdown(
    paper: Paper, folder: Path, figures: Sequence[tuple[Path, Prose]], intervals: Intervals
) -> dict[str, str]:
    """Return tables, methods with numbered references, and both with the figures, by name."""
    from xbench.report.latex import markdown_text
    from xbench.report.markdown import markdown_sheet

    references = paper.references
    table = "\n\n".join(markdown_sheet(sheet, references, intervals) for sheet in paper.sheets)
    parts = ["## Methods", *(markdown_prose(told, references) for told in paper.methods)]
    if references.lines:
        lines = enumerate(references.lines.values(), start=1)
        parts += ["## References", "\n".join(f"{place}. {markdown_text(line)}" for place, line in lines)]
    drawn = [
        f"[{path.stem}]({path.relative_to(folder).as_posix()}): {markdown_prose(told, references)}"
        for path, told in figures
    ]
    methods = "\n\n".join(parts)
    whole = "\n\n".join([f"# {markdown_text(paper.title)}", table, *drawn, methods])
    return {"table.md": table + "\n", "methods.md": methods + "\n", "paper.md": whole + "\n"}


def _pdf(
    paper: Paper, folder: Path, paths: list[Path], told: list[str], intervals: Intervals
) -> tuple[list[Path], list[str]]:
    target = folder / "paper.pdf"
    if shutil.which("pdflatex") and shutil.which("bibtex"):
        write_atomic(target, compile_pdf(folder))
        return [*paths, target], [*told, "paper.pdf: compiled by pdflatex"]
    from xbench.report.drawn import drawn_pdf

    write_atomic(target, drawn_pdf(paper.sheets, paper.rankings, paper.curves, intervals))
    return [*paths, target], [
        *told,
        "paper.pdf: tables and figures only, drawn by matplotlib, for there is no pdflatex",
    ]


def compile_pdf(folder: Path) -> bytes:
    """Return paper.tex of a folder as PDF. Raises XbenchError with LaTeX's own complaint."""
    with tempfile.TemporaryDirectory() as place:
        work = Path(place) / "report"
        shutil.copytree(folder, work, ignore=shutil.ignore_patterns("*.html", "paper.pdf"))
        # What a record or a plugin put into the source reads and writes no other file and starts no program.
        safe = {"openin_any": "p", "openout_any": "p", "SOURCE_DATE_EPOCH": "0", "FORCE_SOURCE_DATE": "1"}
        latex = ["pdflatex", "-no-shell-escape", "-interaction=nonstopmode", "-halt-on-error", "paper.tex"]
        cited = "\\bibliography{" in (work / "paper.tex").read_text()
        for command in [latex, *([["bibtex", "paper"]] if cited else []), latex, latex]:
            done = _carry_out(command, work, {**os.environ, **safe})
            # BibTeX's exit code 1 is a warning's.
            if done and not (command[0] == "bibtex" and (work / "paper.bbl").exists()):
                raise XbenchError(f"{command[0]} cannot make {folder / 'paper.pdf'}: {done}")
        return (work / "paper.pdf").read_bytes()


def _carry_out(command: list[str], folder: Path, environment: dict[str, str]) -> str:
    """Run a program; return why it failed, or an empty string."""
    try:
        done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, timeout=_SECONDS, check=False)
    except (OSError, subprocess.TimeoutExpired) as error:
        return " ".join(str(error).split())
    if done.returncode == 0:
        return ""
    lines = done.stdout.decode(errors="replace").splitlines()
    complaint = [line for place, line in enumerate(lines) if line.startswith("!") or lines[place - 1].startswith("!")]
    return " ".join(" ".join(complaint or lines[-3:]).split())
