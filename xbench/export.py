"""Records as flat tables: every sample's scores, a line a sample and score, as CSV, Parquet or a DataFrame."""

import importlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from xbench.atomic import replacing
from xbench.errors import CannotWrite, XbenchError
from xbench.record import for_tables
from xbench.stats import Array, cross_tuned
from xbench.store import Json, Records

if TYPE_CHECKING:
    import pandas as pd

PLACE = ("suite", "protocol", "data", "model", "explainer")
HEADER = (*PLACE, "seed", "sample", "group", "label", "predicted", "target", "metric", "value")

# What makes a spreadsheet take a text for a formula, as OWASP lists it under "CSV injection".
_FORMULA = tuple("=+-@\t\r\n＝＋－＠")

Ints = NDArray[np.int64]


@dataclass(frozen=True)
class Block:
    """The scores of one cell on its n samples.

    Attributes
    ----------
    place
        Suite, protocol, data, model, explainer; the last is None for the classifier alone.
    seed
        The cell's.
    digest, samples, groups
        The sample set, its ids and groups.
    classes
        Names of the classes.
    label, predicted, target
        [n] positions in ``classes``; -1 where there is none.
    scores
        Score name -> [n], NaN where it is undefined.
    """

    place: tuple[str | None, ...]
    seed: int
    digest: str
    samples: Sequence[str]
    groups: Sequence[str]
    classes: Sequence[str]
    label: Ints
    predicted: Ints
    target: Ints
    scores: Mapping[str, Array]

    def __len__(self) -> int:
        return len(self.scores) * len(self.samples)


def blocks(store: Records, keys: Iterable[str]) -> Iterator[Block]:
    """Yield the scores of every cell that is whole; those that failed have none."""
    tables: dict[str, Json] = {}
    for key in keys:
        record = for_tables(store.read(key))
        if record.status != "ok":
            continue
        cell, digest = record.definition, record.definition["samples"]
        if digest not in tables:
            tables[digest] = store.samples(digest)
        table, n = tables[digest], len(tables[digest]["ids"])
        nothing = np.full(n, -1)
        scores = {name: record.arrays[name] for name in record.arrays if name.startswith("score/")}
        yield Block(
            place=(
                *(cell["suite"], cell["protocol"], cell["data"]["text"], cell["model"]["text"]),
                cell["explainer"]["text"] if cell["explainer"] else None,
            ),
            seed=cell["seed"],
            digest=digest,
            samples=table["ids"],
            groups=table["groups"],
            classes=cell["classes"],
            label=np.asarray(table["labels"], dtype=np.int64),
            predicted=record.arrays.get("predicted", nothing).astype(np.int64),
            target=record.arrays.get("target", nothing).astype(np.int64),
            scores={
                name.removeprefix("score/"): cross_tuned(values, table["groups"]) if values.ndim > 1 else values
                for name, values in scores.items()
            },
        )


def score_frame(store: Records, keys: Iterable[str]) -> "pd.DataFrame":
    """Return the columns of `HEADER`, texts as categoricals; a line a sample and score, NaN where it is undefined."""
    import pandas as pd

    found = list(blocks(store, keys))
    sizes = [len(block) for block in found]
    columns: dict[str, Any] = {}
    for place, name in enumerate(PLACE):
        codes, names = _codes([block.place[place] for block in found])
        columns[name] = _categorical(np.repeat(codes, sizes), names)
    columns["seed"] = np.repeat(np.array([block.seed for block in found], dtype=np.int64), sizes)
    for name in ("sample", "group"):
        columns[name] = _shared_names(found, name + "s")
    names = list(dict.fromkeys(text for block in found for text in block.classes))
    for name in ("label", "predicted", "target"):
        parts = [np.tile(_renamed(getattr(block, name), block.classes, names), len(block.scores)) for block in found]
        columns[name] = _categorical(_joined(parts), names)
    metrics = list(dict.fromkeys(name for block in found for name in block.scores))
    place_of = {name: place for place, name in enumerate(metrics)}
    parts = [np.repeat([place_of[name] for name in block.scores], len(block.samples)) for block in found]
    columns["metric"] = _categorical(_joined(parts), metrics)
    columns["value"] = np.concatenate([np.empty(0), *(values for block in found for values in block.scores.values())])
    return pd.DataFrame(columns)


def write_scores(store: Records, keys: Iterable[str], path: Path) -> int:
    """Write the lines of `score_frame` cell by cell, as CSV or Parquet by the file's suffix; return their number.

    Raises
    ------
    XbenchError
        The suffix is neither .csv nor .parquet, pyarrow is missing, or the file cannot be written.
    """
    writers: dict[str, Callable[[Iterable[Block], Path], int]] = {".csv": _csv_file, ".parquet": _parquet_file}
    if path.suffix not in writers:
        raise XbenchError(f"{path}: scores are written as .csv or .parquet, by the file's suffix")
    if not path.parent.is_dir():
        raise CannotWrite(f"cannot write {path}: {path.parent} is no folder")
    with replacing(path) as temporary:
        return writers[path.suffix](blocks(store, keys), temporary)


def write_csv(found: Iterable[Block], file: IO[str]) -> int:
    """Write blocks as CSV: a number in full, nothing where a score is undefined; return the number of lines.

    A text that a spreadsheet would take for a formula gets an apostrophe in front, unless it is a number.
    """
    file.write(",".join(HEADER) + "\n")
    count = 0
    for block in found:
        classes = [*map(csv_text, block.classes), ""]
        before = ",".join([*(csv_text(text or "") for text in block.place), str(block.seed)])
        people = zip(block.samples, block.groups, block.label, block.predicted, block.target, strict=True)
        heads = [
            f"{before},{csv_text(sample)},{csv_text(group)},{classes[label]},{classes[predicted]},{classes[target]},"
            for sample, group, label, predicted, target in people
        ]
        for metric, values in block.scores.items():
            name = csv_text(metric)
            numbers = ("" if value != value else repr(value) for value in values.tolist())
            file.writelines([f"{head}{name},{number}\n" for head, number in zip(heads, numbers, strict=True)])
        count += len(block)
    return count


def harmless(text: str) -> str:
    """Return a text that no spreadsheet takes for a formula: an apostrophe stands before one that begins like it."""
    return "'" + text if text.startswith(_FORMULA) and not _is_number(text) else text


def csv_text(text: str) -> str:
    """Return a text as a CSV field: quoted where it must be, and harmless to spreadsheets."""
    text = harmless(text)
    return '"' + text.replace('"', '""') + '"' if any(mark in text for mark in ',"\r\n') else text


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return text == text.strip()


def _csv_file(found: Iterable[Block], path: Path) -> int:
    with path.open("w", newline="", encoding="utf-8") as file:
        return write_csv(found, file)


def _parquet_file(found: Iterable[Block], path: Path) -> int:
    try:
        pa, pq = (importlib.import_module(name) for name in ("pyarrow", "pyarrow.parquet"))
    except ImportError:
        raise XbenchError("a .parquet file needs pyarrow: pip install 'xbench-xai[parquet]', or choose .csv") from None
    text = pa.dictionary(pa.int32(), pa.string())
    kinds = dict.fromkeys(HEADER, text) | {"seed": pa.int64(), "value": pa.float64()}
    schema, count = pa.schema(list(kinds.items())), 0

    def named(codes: Any, names: Sequence[str]) -> Any:
        places = pa.array(codes.astype(np.int32), mask=np.asarray(codes < 0))
        return pa.DictionaryArray.from_arrays(places, pa.array(names, pa.string()))

    with pq.ParquetWriter(path, schema) as writer:
        for block in found:
            repeats, n = len(block.scores), len(block.samples)
            columns = [
                *(named(np.full(len(block), 0 if name is not None else -1), [name or ""]) for name in block.place),
                pa.array(np.full(len(block), block.seed, dtype=np.int64)),
                named(np.tile(np.arange(n), repeats), block.samples),
                named(np.tile(np.arange(n), repeats), block.groups),
                *(
                    named(np.tile(codes, repeats), block.classes)
                    for codes in (block.label, block.predicted, block.target)
                ),
                named(np.repeat(np.arange(repeats), n), list(block.scores)),
                pa.array(np.concatenate([np.empty(0), *block.scores.values()]), from_pandas=True),
            ]
            writer.write_table(pa.Table.from_arrays(columns, schema=schema))
            count += len(block)
    return count


def _codes(texts: Sequence[str | None]) -> tuple[Any, list[str]]:
    names = list(dict.fromkeys(text for text in texts if text is not None))
    place_of = {name: place for place, name in enumerate(names)}
    return np.array([-1 if text is None else place_of[text] for text in texts], dtype=_smallest(len(names))), names


def _shared_names(found: Sequence[Block], name: str) -> Any:
    """Return the samples' or groups' names of all blocks; those of one sample set are looked up once."""
    sets = {block.digest: getattr(block, name) for block in found}
    names = list(dict.fromkeys(text for texts in sets.values() for text in texts))
    place_of = {text: place for place, text in enumerate(names)}
    small = _smallest(len(names))
    codes = {digest: np.array([place_of[text] for text in texts], dtype=small) for digest, texts in sets.items()}
    return _categorical(_joined([np.tile(codes[block.digest], len(block.scores)) for block in found]), names)


def _renamed(codes: Ints, own: Sequence[str], names: Sequence[str]) -> Any:
    """Return positions in ``own`` as positions in ``names``; -1 stays."""
    table = np.array([*(names.index(text) for text in own), -1], dtype=_smallest(len(names)))
    return table[codes]


def _smallest(count: int) -> Any:
    return next(kind for kind in (np.int8, np.int16, np.int32, np.int64) if count <= np.iinfo(kind).max)


def _joined(parts: Sequence[Any]) -> Any:
    return np.concatenate(parts) if parts else np.empty(0, dtype=np.int8)


def _categorical(codes: Any, names: Sequence[str]) -> Any:
    import pandas as pd

    return pd.Categorical.from_codes(codes.astype(_smallest(len(names)), copy=False), categories=list(names))
