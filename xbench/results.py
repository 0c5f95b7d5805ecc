"""A finished run as Python sees it: its table, comparisons, scores, curves and maps."""

import html
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from xbench.cells import Cell
from xbench.comparison import Comparison, compare
from xbench.curves import curve_frame
from xbench.export import score_frame
from xbench.kept_maps import Maps, kept_maps
from xbench.leaderboard import Board, read_boards
from xbench.manifest import run_folder
from xbench.rows import Row, worth
from xbench.store import Store
from xbench.tables import Pivot, views

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True)
class Outcome:
    """What carrying out a plan did.

    Attributes
    ----------
    computed
        Slices committed now.
    failures
        (cell, status, reason) of every cell that could be computed in principle and was not.
    device_busy
        The share of the wall time of explaining and scoring, a worker's on average and its start included, that was spent
        inside passes of the classifier explained; None where nothing was computed. It is kept in ``cost.json``, of the last
        call that computed something.
    damaged
        Files that were not what their hashes say, and were made again.
    """

    computed: int
    fitted: int
    failures: tuple[tuple[Cell, str, str], ...]
    device_busy: float | None = None
    damaged: tuple[Path, ...] = ()


@dataclass(frozen=True)
class Comparisons(Sequence[Comparison]):
    """Two explainers, or two classifiers, beside each other; printed, it is what ``xbench compare`` says.

    Attributes
    ----------
    a, b
        What is compared.
    found
        A `Comparison` a score.
    """

    a: str
    b: str
    found: tuple[Comparison, ...]

    def __getitem__(self, place: Any) -> Any:
        return self.found[place]

    def __len__(self) -> int:
        return len(self.found)

    def __repr__(self) -> str:
        where = len({(one.board, one.place) for one in self.found}) > 1
        return "\n".join(
            f"{one.metric}{f' ({one.place or one.board})' if where else ''}: {one.sentence(self.a, self.b)}"
            for one in self.found
        )

    def table(self) -> "pd.DataFrame":
        """Return a line a score: the means of A and B, the difference with its interval, p-values, effect, the winner."""
        import pandas as pd

        lines = []
        for one in self.found:
            plain = {name: value for name, value in asdict(one).items() if name != "difference"}
            told = asdict(one.difference)
            told["difference"] = told.pop("mean")
            told["samples"] = told.pop("n")
            lines.append({**plain, **told, "differ": one.differ, "winner": one.winner})
        return pd.DataFrame(lines)


class Run:
    """A finished run.

    Parameters
    ----------
    folder
        Where its records and tables are.
    keys
        Its cells.
    primary
        The score that its tables are ordered by.
    outcome
        What was done just now; None of a run that was opened.
    keep
        Whatever must live as long as the folder is read.

    Attributes
    ----------
    boards
        Its tables.
    """

    def __init__(
        self, folder: Path, keys: Sequence[str], primary: str, outcome: Outcome | None = None, keep: object = None
    ) -> None:
        self.folder, self.keys, self.primary = folder, tuple(keys), primary
        self.boards: list[Board] = read_boards([Store(folder)], self.keys)
        self._outcome, self._keep = outcome, keep

    @classmethod
    def load(cls, folder: str | Path) -> "Run":
        """Return the run that a folder holds. Raises XbenchError where it holds none."""
        keys, primary, _ = run_folder(Path(folder))
        return cls(Path(folder), keys, primary)

    @property
    def outcome(self) -> Outcome:
        """What was done just now; of a run that was opened, nothing."""
        return self._outcome or Outcome(0, 0, ())

    @property
    def failures(self) -> list[tuple[str, str, str]]:
        """What failed, as (explainer on model, status, reason).

        Of a run that was opened without what is unsupported, and with what is unfinished or was scored on different weights.
        """
        if self._outcome:
            return [(cell.label, status, reason) for cell, status, reason in self._outcome.failures]
        store, found = Store(self.folder), []
        for key in self.keys:
            record = store.read(key)
            if record.status not in ("ok", "unsupported"):
                cell = record.definition
                who = cell["explainer"]["text"] if cell["explainer"] else "classifier"
                label = f"{who} on {cell['model']['text']} (seed {cell['seed']})"
                found.append((label, record.status, record.reason))
        return found

    @property
    def rows(self) -> list[Row]:
        """All rows of all tables: a number with its interval and rank each, or why there is none."""
        return [row for board in self.boards for row in board.rows]

    def table(self, intervals: bool = False) -> "pd.DataFrame":
        """Return a line an explainer and classifier, a column a score, best first; NaN where there is no number.

        Parameters
        ----------
        intervals
            Put three columns behind each score: ``<score> low`` and ``<score> high``, its 95 % interval, and
            ``<score> rank``.

        Returns
        -------
        ``rank`` and the order are those of the primary score, as in the printed table; ``control`` marks what a method must
        beat; ``seconds_per_image`` is the explanation's. Of a run with several tables ``board`` says which.
        """
        import pandas as pd

        lines: list[dict[str, Any]] = []
        measured: dict[str, None] = {}
        for board, model, rows in self._models():
            lead, metrics = _metrics(rows, self.primary)
            measured |= dict.fromkeys(metrics)
            for name in _by_rank(rows, lead):
                own = {row.metric: row for row in rows if row.explainer == name}
                line: dict[str, Any] = {
                    "rank": own[lead].rank if lead in own else None,
                    "explainer": name,
                    "model": model,
                }
                if len(self.boards) > 1:
                    line["board"] = board.title
                line["control"] = any(row.control for row in own.values())
                for metric, row in own.items():
                    line[metric] = row.mean
                    if intervals:
                        line |= {f"{metric} low": row.low, f"{metric} high": row.high, f"{metric} rank": row.rank}
                seconds = (row.seconds_per_image for row in own.values() if row.seconds_per_image is not None)
                line["seconds_per_image"] = next(seconds, None)
                lines.append(line)
        parts = ("", " low", " high", " rank") if intervals else ("",)
        scores = [metric + part for metric in measured for part in parts]
        facts = ["rank", "explainer", "model", *(["board"] if len(self.boards) > 1 else []), "control"]
        frame = pd.DataFrame(lines, columns=[*facts, *scores, "seconds_per_image"])
        ranks = [name for name in frame.columns if name == "rank" or (name in scores and name.endswith(" rank"))]
        numbers = [name for name in (*scores, "seconds_per_image") if name not in ranks]
        return frame.astype({**dict.fromkeys(numbers, "float64"), **dict.fromkeys(ranks, "Int64")})

    def compare(self, a: str, b: str, metric: str | Sequence[str] | None = None) -> Comparisons:
        """Compare two explainers, or two classifiers, by every score or by those named.

        Raises
        ------
        XbenchError
            A name is not in the records, or nothing was measured alike for both.
        """
        metrics = [metric] if isinstance(metric, str) else metric
        return Comparisons(a, b, tuple(compare([Store(self.folder)], a, b, metrics, self.keys)))

    def scores(self) -> "pd.DataFrame":
        """Return a line a sample and score, texts as categoricals (`xbench.export.HEADER`); NaN where it is undefined.

        The rows of the classifier alone have no explainer and no target.
        """
        return score_frame(Store(self.folder), self.keys)

    def curves(self) -> "pd.DataFrame":
        """Return the mean curves, a line a point (`xbench.curves.curve_frame`)."""
        return curve_frame(Store(self.folder), self.keys)

    def explanations(self) -> list[Maps]:
        """Return the maps that are kept of the first samples, an item an explainer, classifier and seed."""
        return list(kept_maps(Store(self.folder), self.keys))

    def report(self) -> Path:
        """Write the report, one HTML file that needs nothing else, and return its path."""
        from xbench.report.html import write_report

        return write_report(self.folder)

    def __repr__(self) -> str:
        explainers = len({row.explainer for row in self.rows if row.explainer})
        models, metrics = (len({getattr(row, name) for row in self.rows}) for name in ("model", "metric"))
        counts = [f"{n} {what}{'s' * (n != 1)}" for n, what in ((explainers, "explainer"), (models, "classifier"))]
        return f"Run({str(self.folder)!r}: {', '.join(counts)}, {metrics} scores, {len(self.failures)} failed)"

    def _repr_html_(self) -> str:
        return "\n".join(
            _html(f"{board.title}, {model}", view)
            for board, model, rows in self._models()
            for view in views(rows, self.primary)
        )

    def _models(self) -> Iterator[tuple[Board, str, list[Row]]]:
        for board in self.boards:
            for model in dict.fromkeys(row.model for row in board.rows):
                yield board, model, [row for row in board.rows if row.model == model]


def open_run(folder: str | Path) -> Run:
    """Return the finished run that a folder holds. Raises XbenchError where it holds none."""
    return Run.load(folder)


def _metrics(rows: Sequence[Row], primary: str) -> tuple[str, list[str]]:
    """Return the score that orders a model's explainers, and all that have numbers, that one first."""
    scored = list(dict.fromkeys(row.metric for row in rows if row.explainer and row.mean is not None))
    lead = primary if primary in scored else next(iter(scored), "")
    return lead, [name for name in (lead, *(name for name in scored if name != lead)) if name]


def _by_rank(rows: Sequence[Row], lead: str) -> list[str]:
    leading = {row.explainer: row for row in rows if row.metric == lead}
    names = dict.fromkeys(row.explainer for row in rows if row.explainer)
    return sorted(names, key=lambda name: (worth(leading[name]) if name in leading else (3, 0.0), name))


def _html(title: str, view: Pivot) -> str:
    def line(cells: Sequence[str], tag: str) -> str:
        return "<tr>" + "".join(f"<{tag}>{html.escape(cell)}</{tag}>" for cell in cells) + "</tr>"

    caption = html.escape("; ".join([title, *view.classifier]))
    body = "".join(line(cells, "td") for cells in view.body)
    notes = "".join(f"<li>{html.escape(text)}</li>" for text in view.footnotes)
    return f"<table><caption>{caption}</caption>{line(view.header, 'th')}{body}</table><ul>{notes}</ul>"
