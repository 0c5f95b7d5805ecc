"""Tables and lines as a terminal shows them."""

import shutil
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING

from rich.console import Console, ConsoleOptions
from rich.table import Table
from rich.text import Text

if TYPE_CHECKING:
    from xbench.leaderboard import Board
    from xbench.tables import Pivot

_PIPE_WIDTH = 180


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
    from xbench.tables import views  # it needs NumPy, which lists and mistakes do without

    out = console()
    for board in boards:
        for model in dict.fromkeys(row.model for row in board.rows):
            for view in views([row for row in board.rows if row.model == model], primary):
                _print_view(out, f"{board.title}, {model}", view)


def _print_view(out: Console, title: str, view: "Pivot") -> None:
    out.print(Text("; ".join([title, *view.classifier])))
    # The widest form that fits: all intervals, the primary metric's, or as many of the first metrics as there is room for.
    bare = [_bare(cells) for cells in view.body]
    tables = [_board_table(view.header, view.body), _board_table(view.header, bare)]
    for last in range(len(view.header) - 2, 2, -1):
        columns = [*range(last), len(view.header) - 1]
        tables.append(_board_table([view.header[i] for i in columns], [[row[i] for i in columns] for row in bare]))
    fitting = [table for table in tables if out.measure(table, options=_unbounded(out)).maximum <= out.width]
    out.print((fitting or tables[-1:])[0])
    if fitting[:1] != tables[:1]:
        out.print(Text("the terminal is too narrow for all intervals and columns; table.md has them", style="dim"))
    for line in view.footnotes:
        out.print(Text(line, style="dim"))


def _board_table(header: Sequence[str], body: Sequence[Sequence[str]]) -> Table:
    table = Table(header_style="bold")
    for name in header:
        left = name == "explainer"
        table.add_column(Text(name.replace("_", "\n")), justify="left" if left else "right", no_wrap=True)
    for cells in body:
        style = "dim" if cells[1].endswith("†") or cells[1] == "chance" else None
        table.add_row(*(Text(cell) for cell in cells), style=style)
    return table


def _bare(cells: Sequence[str]) -> list[str]:
    return [cell.partition(" ±")[0] for cell in cells]


def _unbounded(out: Console) -> ConsoleOptions:
    return out.options.update(max_width=10_000)


def simple_table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Print rows under a header."""
    table = Table(*header, header_style="bold", box=None, pad_edge=False)
    for row in rows:
        table.add_row(*(Text(cell) for cell in row))
    console().print(table)
