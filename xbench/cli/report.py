"""``xbench report``: a run as a page to look at, or as what a paper needs."""

import argparse
from pathlib import Path

from xbench.errors import XbenchError, did_you_mean

_FORMATS = ("html", "latex", "markdown", "csv", "pdf")
_INTERVALS = ("pm", "range")
_KEYS = {"format": _FORMATS, "intervals": _INTERVALS}


def add_verbs(verbs: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add the verb."""
    parser = verbs.add_parser(
        "report",
        help="write a run as a page (HTML), or for a paper: LaTeX, Markdown, CSV, PDF",
        description="Write a report of a run into its folder. latex: tables with the statistically best in bold, figures, a "
        "methods paragraph and references.bib, and a document that puts them together; markdown: the same to read; csv: a "
        "line a number; pdf: the document compiled. Several folders share one table; it is written beside the first.",
    )
    parser.add_argument("arguments", nargs="+", metavar="DIR", help="runs' folders; format=..., intervals=pm|range")
    parser.add_argument("--format", default=None, metavar="|".join(_FORMATS), help="default html")
    parser.add_argument(
        "--intervals", default=None, metavar="|".join(_INTERVALS), help="mean ± half a width, or [low, high]"
    )
    parser.set_defaults(call=report)


def report(arguments: argparse.Namespace) -> int:
    """Carry out ``xbench report``."""
    from xbench.cli.tables import refuse_damaged
    from xbench.manifest import run_folder
    from xbench.store import Store

    folders, chosen = _parse(arguments)
    kind, told = chosen.get("format", "html"), list[str]()
    for folder in folders:
        run_folder(folder)
    refuse_damaged([Store(folder) for folder in folders])
    if kind == "html":
        from xbench.report.html import write_report

        paths = [write_report(folder) for folder in folders]
    else:
        from xbench.report.paper import write_paper

        paths, told = write_paper(folders, kind, "range" if chosen.get("intervals") == "range" else "pm")
    for line in told:
        # Names are the user's: a terminal obeys none of them.
        print("".join(char if char.isprintable() else "\N{REPLACEMENT CHARACTER}" for char in line))
    for path in paths:
        print(path)
    return 0


def _parse(arguments: argparse.Namespace) -> tuple[list[Path], dict[str, str]]:
    """Return the folders and the settings; a folder whose name looks like a setting is written ./format=x."""
    folders: list[Path] = []
    chosen = {key: value for key in _KEYS if (value := getattr(arguments, key)) is not None}
    for text in arguments.arguments:
        key, sign, value = text.partition("=")
        if not sign or "/" in key or Path(text).exists():
            folders.append(Path(text))
        elif key not in _KEYS:
            hint = did_you_mean(key, _KEYS) or f"; the keys are {', '.join(_KEYS)}"
            raise XbenchError(f"unknown key {key!r}{hint}")
        elif key in chosen:
            raise XbenchError(f"{key!r} is given twice; say it once")
        else:
            chosen[key] = value
    for key, value in chosen.items():
        if value not in _KEYS[key]:
            options = ", ".join(_KEYS[key])
            raise XbenchError(f"{key}={value}: no such {key}{did_you_mean(value, _KEYS[key])}; one of {options}")
    if not folders:
        raise XbenchError("no folder is given; for example xbench report runs/mnist format=latex")
    return folders, chosen
