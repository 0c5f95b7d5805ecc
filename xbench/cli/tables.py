"""Tables and lines as a terminal shows them."""

import shutil
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING

from rich.console import Console
from rich.table import Table
from rich.text import Text

if TYPE_CHECKING:
    from xbench.leaderboard import Board

_PIPE_WIDTH = 160


def console(stderr: bool = False) -> Console:
    """Return a console; where the output is not a terminal, lines are wide enough for every table."""
    terminal = (sys.stderr if stderr else sys.stdout).isatty()
    width = None if terminal else max(_PIPE_WIDTH, shutil.get_terminal_size((0, 0)).columns)
    return Console(stderr=stderr, width=width, highlight=False)


def say(text: str, *values: object) -> None:
    """Print a line to standard output."""
    print(text.format(*values))


def print_boards(boards: "Sequence[Board]", primary: str) -> None:
    """Print every board: one table a model."""
    from xbench.tables import pivot  # it needs NumPy, which lists and mistakes do without

    out = console()
    for board in boards:
        for model in dict.fromkeys(row.model for row in board.rows):
            view = pivot([row for row in board.rows if row.model == model], primary)
            title = "; ".join([f"{board.title}, {model}", *view.classifier])
            table = Table(title=Text(title), title_justify="left", header_style="bold")
            for place, name in enumerate(view.header):
                table.add_column(
                    Text(name.replace("_", " ")), justify="left" if place == 1 else "right", no_wrap=place == 1
                )
            for cells in view.body:
                style = "dim" if cells[1].endswith("†") or cells[1] == "chance" else None
                table.add_row(*(Text(cell) for cell in cells), style=style)
            out.print(table)
            for line in view.footnotes:
                out.print(Text(line, style="dim"))


def simple_table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Print rows under a header."""
    table = Table(*header, header_style="bold", box=None, pad_edge=False)
    for row in rows:
        table.add_row(*(Text(cell) for cell in row))
    console().print(table)
