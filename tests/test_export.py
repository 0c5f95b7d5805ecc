"""Exported scores are the run's own to the last digit, in every form, and no name in them is a formula."""

import csv
import importlib
import io

import numpy as np
import pandas as pd
import pytest
import torch

import xbench
from xbench.cli import main
from xbench.errors import XbenchError
from xbench.export import HEADER, csv_text, write_scores
from xbench.store import Store

HOSTILE = ['=HYPERLINK("http://x")', "+1+1", "-2+3", "@SUM(A1)", "\t=1", "a,b", 'say "x"', "line\nbreak", "-1.5", "＝1"]


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """Maps of hostile names on images of hostile ids, one score undefined on some."""
    images = np.random.default_rng(0).random((20, 1, 8, 8), dtype=np.float32)
    masks = images[:, 0] > 0.7
    masks[::4] = False
    maps = {name: np.roll(images[:, 0], i, axis=0) for i, name in enumerate(HOSTILE)}
    return xbench.evaluate(
        torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(64, 3)),
        images,
        maps,
        ["deletion", "deletion[fill=zero,steps=14]", "localisation_precision", "accuracy"],
        labels=np.arange(20) % 3,
        masks=masks,
        ids=[f"{HOSTILE[i % 10]}{i}" for i in range(20)],
        groups=[HOSTILE[i // 4] for i in range(20)],
        classes=["=a", "b", "c"],
        out=tmp_path_factory.mktemp("exported") / "run",
    )


def lines(text):
    return list(csv.reader(io.StringIO(text, newline="")))


def plain(frame):
    return [[None if pd.isna(value) else value for value in line] for line in frame.itertuples(index=False)]


def test_csv_holds_the_scores_of_the_run_to_the_last_digit(run, tmp_path):
    count = write_scores(Store(run.folder), run.keys, tmp_path / "scores.csv")
    found = lines((tmp_path / "scores.csv").read_bytes().decode())
    assert tuple(found[0]) == HEADER
    want = plain(run.scores())
    assert len(found) - 1 == len(want) == count
    for line, values in zip(found[1:], want, strict=True):
        seed, value = HEADER.index("seed"), HEADER.index("value")
        texts = [text for place, text in enumerate(line) if place not in (seed, value)]
        own = [text for place, text in enumerate(values) if place not in (seed, value)]
        # The apostrophe is all that changes.
        assert [text.removeprefix("'") for text in texts] == [text or "" for text in own]
        assert int(line[seed]) == values[seed]
        assert (float(line[value]) if line[value] else None) == values[value]
    assert any(line[-1] == "" for line in found[1:])


def test_no_field_is_a_formula_and_numbers_stay_numbers(run, tmp_path):
    write_scores(Store(run.folder), run.keys, tmp_path / "scores.csv")
    for line in lines((tmp_path / "scores.csv").read_bytes().decode())[1:]:
        for field in line:
            if field[:1] in tuple("=+-@\t\r\n＝"):
                float(field)
    assert csv_text("=1+1") == "'=1+1"
    assert csv_text("-1.5") == "-1.5"
    assert csv_text("plain") == "plain"
    assert csv_text('=a,"b"') == '"\'=a,""b"""'


def test_parquet_holds_the_table_of_scores(run, tmp_path):
    pytest.importorskip("pyarrow")
    write_scores(Store(run.folder), run.keys, tmp_path / "scores.parquet")
    found = pd.read_parquet(tmp_path / "scores.parquet")
    want = run.scores()
    assert found.columns.tolist() == want.columns.tolist()
    assert plain(found) == plain(want)
    assert str(found["sample"].dtype) == "category"


def test_without_pyarrow_csv_is_the_way_out(run, tmp_path, monkeypatch):
    def absent(name):
        raise ImportError(name)

    monkeypatch.setattr(importlib, "import_module", absent)
    with pytest.raises(XbenchError, match=r"needs pyarrow: pip install 'xbench-xai\[parquet\]'"):
        write_scores(Store(run.folder), run.keys, tmp_path / "scores.parquet")
    assert list(tmp_path.iterdir()) == []


def test_the_command_prints_what_it_writes(run, tmp_path, capsys):
    assert main(["export", str(run.folder), "--to", str(tmp_path / "scores.csv")]) == 0
    assert capsys.readouterr().out == f"wrote {len(run.scores())} scores to {tmp_path / 'scores.csv'}\n"
    assert main(["export", str(run.folder)]) == 0
    assert capsys.readouterr().out == (tmp_path / "scores.csv").read_bytes().decode()


@pytest.mark.parametrize(
    ("name", "match"), [("scores.xlsx", ".csv or .parquet"), ("no/scores.csv", "cannot write"), ("scores", ".csv or")]
)
def test_what_cannot_be_written_is_one_line(run, tmp_path, capsys, name, match):
    assert main(["export", str(run.folder), "--to", str(tmp_path / name)]) == 2
    err = capsys.readouterr().err
    assert match in err
    assert len(err.splitlines()) == 1
    assert list(tmp_path.iterdir()) == []


def test_a_run_without_scores_is_an_empty_table(run, tmp_path):
    found = write_scores(Store(run.folder), [], tmp_path / "scores.csv")
    assert (found, (tmp_path / "scores.csv").read_text()) == (0, ",".join(HEADER) + "\n")
    pytest.importorskip("pyarrow")
    write_scores(Store(run.folder), [], tmp_path / "scores.parquet")
    assert pd.read_parquet(tmp_path / "scores.parquet").columns.tolist() == list(HEADER)
