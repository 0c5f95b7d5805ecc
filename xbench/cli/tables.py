"""Tables and lines as a terminal shows them."""

import shutil
import sys
import textwrap
from collections.abc import Sequence
from typing import TYPE_CHECKING

from rich.cells import cell_len
from rich.console import Console, ConsoleOptions
from rich.table import Table
from rich.text import Text

from xbench.errors import XbenchError

if TYPE_CHECKING:
    from xbench.leaderboard import Board
    from xbench.store import Store
    from xbench.tables import Pivot

_PIPE_WIDTH = 180
_LAST = 30
"""The least room a last column needs for words."""
_CONTROL = dict.fromkeys([*range(32), 127], "\N{REPLACEMENT CHARACTER}")  # what a terminal would obey


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
    return [cell.partition(" ±")[0] + " ‡" * (" ±" in cell and cell.endswith("‡")) for cell in cells]


def _unbounded(out: Console) -> ConsoleOptions:
    return out.options.update(max_width=10_000)


def refuse_damaged(stores: "Sequence[Store]") -> None:
    """Raise XbenchError, naming the files, where records are not what their hashes say: nothing is told of the rest alone."""
    for store in stores:
        for key in store:
            store.read(key)
    if damaged := [path for store in stores for path in dict.fromkeys(store.damaged)]:
        raise XbenchError(
            *(f"{path} is damaged or was changed: it is not what its hash says" for path in damaged),
            "run the same command again to compute it anew",
        )


def simple_table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Print rows under a header; the last column wraps where it must, the others too where there is no room for it."""
    out = console()
    widths = [max(map(cell_len, column)) for column in zip(header, *rows, strict=True)]
    rest = out.width - sum(widths[:-1]) - 2 * len(widths[:-1])
    if rest < min(_LAST, widths[-1]):
        table = Table(*header, header_style="bold", box=None, pad_edge=False)
        for row in rows:
            table.add_row(*(Text(cell) for cell in row))
        out.print(table)
        return
    # Rich lays out a thousand rows in half a second; this takes none of it.
    for number, row in enumerate([header, *rows]):
        for part, last in enumerate(textwrap.wrap(row[-1], rest) or [""]):
            cells = [*(row[:-1] if part == 0 else [""] * len(row[:-1])), last]
            padded = (cell + " " * (width - cell_len(cell)) for cell, width in zip(cells, widths, strict=True))
            line = "  ".join(padded).rstrip().translate(_CONTROL)
            print(line) if number or not out.is_terminal else out.print(Text(line, style="bold"))
