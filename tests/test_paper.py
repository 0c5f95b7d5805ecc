"""What goes into a paper: the best by the statistics, names that do nothing, references that resolve, the same bytes again."""

import csv
import io
import json
import re
import shutil
import string
import subprocess
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from xbench.bibliography import parse_entries
from xbench.cli import main
from xbench.leaderboard import read_measured
from xbench.report.drawn import _page
from xbench.report.latex import ascii_tex, drawable, escape, markdown_text, plain
from xbench.report.markdown import markdown_sheet
from xbench.report.paper import compile_pdf, read_paper, write_paper
from xbench.report.prose import latex_prose, plain_prose
from xbench.report.references import fields, gather, line
from xbench.report.sheets import PAGE, best_ranks, head, sheets, width
from xbench.report.tex import caption, number, tables
from xbench.stats import rank_groups
from xbench.store import Store, content_key, slice_size
from xbench.tables import pivot, qualities

N = 60
GROUPS = [f"patient{i // 2}" for i in range(N)]
HOSTILE = (
    "<script>alert(1)</script>", "[/bold]", "a_b%c&d", "back\\slash{}", "}{", "~^#$", "*", "--", "\\input{x}", "é ü ß ł",
    "猫/日本語", "a\u202eb\x00", "`rm`'\"", "|",
)  # fmt: skip
COST = {"seconds": 1.0, "images": N, "forwards": 1, "backwards": 1, "peak_bytes": 1, "device": "cpu"}
needs_latex = pytest.mark.skipif(not (shutil.which("pdflatex") and shutil.which("bibtex")), reason="no pdflatex")


def metric(name, higher=True, family="localisation"):
    score = {"name": name, "family": family, "higher_is_better": higher, "chance": None, "aggregate": "mean"}
    return {"id": name, "version": 1, "code": "c", "params": {"fill": "mean"}, "scores": [score]}


def component(name, **facts):
    return {"id": name, "version": 1, "params": {}, "code": "c", "text": name, **facts}


def write_run(folder, columns, metrics, controls=(), seeds=(0,), components=None, names=None, groups=GROUPS, **facts):
    """Write a run whose scores are known: ``columns`` maps explainer to metric to values [N]; ``facts`` are every cell's."""
    named = names or {}
    store, keys = Store(folder), []
    samples = content_key("samples")
    for explainer, scores in columns.items():
        for seed in seeds:
            definition = {
                "schema": 2, "suite": named.get("suite", "fruit"), "suite_version": 1, "protocol": "quick",
                "data": component(named.get("data", "d/fruit"), digest="0123456789abcdef"),
                "classes": [named.get("class", "apple"), "pear"], "samples": samples, "n": N, "target": "predicted",
                "model": component(named.get("model", "m/net")), "model_fit": f"{seed}", "series": None,
                "explainer": component(explainer, control=explainer in controls) if explainer else None,
                "explainer_fit": None, "oracle_fit": None,
                "seed": seed, "metrics": metrics, "missing": {}, **facts,
            }  # fmt: skip
            key = content_key(definition)
            store.define(key, definition)
            for part in range(-(-N // slice_size(N))):
                rows = slice(part * slice_size(N), (part + 1) * slice_size(N))
                arrays = {f"score/{name}": values[rows] for name, values in scores.items()}
                for name, values in scores.items():
                    mean = np.nan_to_num(values[rows]).mean()
                    n = len(values[rows])
                    arrays[f"curve/{name}"] = np.array([[0.0, n], [n * mean, 0.0], [n, n]])
                store.commit(key, part, arrays, "w" * 64, COST)
            keys.append(key)
    store.write_samples(samples, {"ids": [str(i) for i in range(N)], "labels": [0, 1] * (N // 2), "groups": groups})
    manifest = {
        "suite": "fruit", "title": named.get("suite", "Fruit"), "protocol": "quick", "data": "d/fruit",
        "primary": metrics[0]["id"], "cells": keys, "xbench": "0.1.0", "python": "3.11", "versions": {"torch": "2.15"},
    }  # fmt: skip
    if components is not None:
        manifest["components"] = components
    (folder / "run.json").write_text(json.dumps(manifest))
    return folder


def noise(seed, shift=0.0):
    return np.random.default_rng(seed).normal(size=N) * 0.1 + shift


@pytest.fixture
def fruit(tmp_path):
    """Two scores; in the first a/one and a/two cannot be told apart, in the second less is better and a/three is best."""
    shared = noise(0)
    columns = {
        "a/one": {"precision": shared + 0.500 + noise(1), "deletion": noise(5, 0.6)},
        "a/two": {"precision": shared + 0.505 + noise(2), "deletion": noise(6, 0.7)},
        "a/three": {"precision": shared + 0.1, "deletion": noise(7, 0.1)},
        "c/oracle": {"precision": shared + 0.9, "deletion": noise(8, 0.05)},
    }
    metrics = [metric("precision"), metric("deletion", higher=False, family="faithfulness")]
    return write_run(tmp_path / "run", columns, metrics, controls=("c/oracle",))


def measured_of(folder):
    ((title, _, found),) = read_measured([Store(folder)])
    return title, found


# The best.


def test_bold_is_the_best_and_what_cannot_be_told_from_it_and_controls_never(fruit):
    table = tables(read_paper([fruit]).sheets)
    rows = {name: row for name in ("one", "two", "three", "oracle") for row in table.splitlines() if name in row}
    bold = {name: [r"\mathbf" in cell for cell in row.split("&")[2:]] for name, row in rows.items()}
    assert bold == {"one": [True, False], "two": [True, False], "three": [False, True], "oracle": [False, False]}


def test_bold_is_rank_one_of_the_statistics_among_explainers_that_are_no_controls(fruit):
    _, measured = measured_of(fruit)
    found = best_ranks(measured)
    for name, higher in (("precision", True), ("deletion", False)):
        own = [each for each in measured if each.row.metric == name and not each.row.control]
        expected = rank_groups([each.estimate for each in own], higher)
        assert [found["m/net", each.row.explainer, name] for each in own] == expected
    assert not [place for place in found if place[1] == "c/oracle"]


def test_one_explainer_alone_is_not_the_best(tmp_path):
    run = write_run(tmp_path / "run", {"a/one": {"precision": noise(0)}}, [metric("precision")])
    assert r"\mathbf" not in tables(read_paper([run]).sheets)
    assert "bold" not in tables(read_paper([run]).sheets)


def test_a_score_without_a_better_side_has_no_best(tmp_path):
    columns = {f"a/{name}": {"area": noise(i, i)} for i, name in enumerate(("one", "two"))}
    run = write_run(tmp_path / "run", columns, [metric("area", higher=None)])
    assert r"\mathbf" not in tables(read_paper([run]).sheets)


# The table.


def test_explainers_are_in_the_order_of_the_leading_score_and_controls_are_below(fruit):
    (sheet,) = read_paper([fruit]).sheets
    means = [each.entries[0].mean for each in sheet.lines]
    assert means == sorted(means, reverse=True)
    assert [each.name for each in sheet.controls] == ["c/oracle"]
    assert sheet.columns == (("precision", True), ("deletion", False))


def test_the_caption_says_what_was_measured_on_how_many_by_which_test(fruit):
    table = " ".join(tables(read_paper([fruit]).sheets).split())
    for told in (
        "n = 60 samples of 30 groups",
        "one seed",
        r"95\nobreakspace{}\% interval",
        "2,000",
        "paired bootstrap",
        "not corrected",
    ):
        assert told in table


def test_intervals_are_half_a_width_or_both_ends(fruit):
    _, measured = measured_of(fruit)
    first = next(each.row for each in measured if each.row.explainer == "a/three" and each.row.metric == "deletion")
    sheets_ = read_paper([fruit]).sheets
    assert f"\\pm {number((first.high - first.low) / 2)}" in tables(sheets_, "pm")
    assert f"[{number(first.low)},\\,{number(first.high)}]" in tables(sheets_, "range")


def test_what_has_no_value_is_told_below(tmp_path):
    values = noise(0)
    values[:7] = np.nan
    columns = {"a/one": {"precision": values}, "a/two": {"precision": noise(1)}}
    run = write_run(tmp_path / "run", columns, [metric("precision")])
    assert "a/one: 53 of 60 samples have a value" in tables(read_paper([run]).sheets)


@pytest.mark.parametrize("explainers", [2, 12])
def test_no_table_is_wider_than_a_page_and_no_score_is_lost(tmp_path, explainers):
    names = [f"score_number_{i}[amplitude={i}]" for i in range(11)]
    columns = {f"a/explainer{k}": {name: noise(k) for name in names} for k in range(explainers)}
    run = write_run(tmp_path / "run", columns, [metric(name) for name in names])
    found = list(sheets("t", measured_of(run)[1]))
    shown = [name for sheet in found for first, last in sheet.panels for name, _ in sheet.columns[first:last]]
    assert sorted(shown) == sorted(names)
    for sheet in found:
        for first, last in sheet.panels:
            assert sum(width(name) for name, _ in sheet.columns[first:last]) < PAGE
    # Few explainers and many scores: a row a score.
    assert ("\nscore & explainer0 & explainer1 " in tables(found)) is (explainers == 2)


def test_csv_has_a_line_for_every_number_and_says_which_is_best(fruit):
    paths, _ = write_paper([fruit], "csv")
    rows = list(csv.DictReader(io.StringIO(paths[0].read_text())))
    assert {(row["explainer"], row["metric"]): row["best"] for row in rows} == {
        ("a/one", "precision"): "True", ("a/two", "precision"): "True", ("a/three", "precision"): "False",
        ("c/oracle", "precision"): "", ("a/one", "deletion"): "False", ("a/two", "deletion"): "False",
        ("a/three", "deletion"): "True", ("c/oracle", "deletion"): "",
    }  # fmt: skip
    assert {row["n_groups"] for row in rows} == {"30"}


def test_no_name_is_a_formula_to_a_spreadsheet(tmp_path):
    run = write_run(tmp_path / "run", {"=cmd|'/c calc'!A0": {"precision": noise(0)}}, [metric("precision")])
    paths, _ = write_paper([run], "csv")
    (row,) = csv.DictReader(io.StringIO(paths[0].read_text()))
    assert row["explainer"] == "'=cmd|'/c calc'!A0"
    assert float(row["mean"]) == pytest.approx(noise(0).mean(), rel=1e-7)


def test_markdown_has_the_same_numbers_in_bold(fruit):
    write_paper([fruit], "markdown")
    text = (fruit / "report" / "table.md").read_text()
    (row,) = [each for each in text.splitlines() if each.startswith("| ") and "a/three" in each]
    assert re.search(r"\*\*0\.\d+\*\* ±0", row)
    assert len(re.findall(r"\*\*0\.\d+\*\*", text)) == 3


def test_several_folders_share_one_table(tmp_path):
    runs = [
        write_run(tmp_path / name, {f"a/{name}": {"precision": noise(i)}}, [metric("precision")])
        for i, name in enumerate(("one", "two"))
    ]
    (sheet,) = read_paper(runs).sheets
    assert {each.name for each in sheet.lines} == {"a/one", "a/two"}


def test_markdown_says_of_its_own_table_how_controls_and_ranks_are_marked(fruit):
    (sheet,) = read_paper([fruit]).sheets
    for one in (sheet, replace(sheet, turned=True)):
        told = plain_prose(caption(one, "pm", daggers=True))
        assert "Daggers: controls" in told
        assert "ranks" in told
        assert " ".join(told.split()) in markdown_sheet(one, gather([], [])).replace("\\", "")
    assert "Below the line" in plain_prose(caption(sheet, "pm"))


def texts(page):
    return [text.get_text() for text in page.texts]


def test_a_drawn_table_holds_intervals_chance_doubts_and_notes_and_no_name_runs_into_numbers(fruit):
    (sheet,) = read_paper([fruit]).sheets
    long = replace(sheet.lines[0], name="a/" + "very_long " * 12, doubted=True)
    sheet = replace(sheet, lines=(long, *sheet.lines[1:]), chance=(0.125, None), notes=("a note", "‡ a doubt"))
    page = _page(sheet, 0, 2, "range")
    told = texts(page)
    assert "0.125" in told
    assert {"chance", "a note", "‡ a doubt"} <= set(told)
    entry = long.entries[0]
    assert f"{number(entry.mean)} [{number(entry.low)}, {number(entry.high)}]" in told
    assert sum("very_long" in text for text in told) > 1
    assert any("±" in text for text in texts(_page(sheet, 0, 2, "pm")))
    assert "95 % interval" in " ".join(" ".join(told).split())
    for name in page.texts:
        if "very_long" in name.get_text():
            assert name.get_window_extent().x1 < 0.36 * 8.3 * page.dpi


# What is pooled.


def two_of_two_seeds_and_one_of_one(tmp_path):
    """Return folders of two explainers of seeds 0 and 1, and one of seed 0 alone."""
    two = {f"a/{name}": {"precision": noise(i)} for i, name in enumerate(("one", "two"))}
    return [
        write_run(tmp_path / "two", two, [metric("precision")], seeds=(0, 1)),
        write_run(tmp_path / "one", {"a/three": {"precision": noise(3)}}, [metric("precision")]),
    ]


def test_who_has_other_seeds_has_no_rank_and_the_notes_say_so(tmp_path):
    (sheet,) = read_paper(two_of_two_seeds_and_one_of_one(tmp_path)).sheets
    assert {each.name: each.rank is None for each in sheet.lines} == {"a/one": False, "a/two": False, "a/three": True}
    assert "a/three: no rank, for the seeds are others than those of most rows" in sheet.notes
    assert "2 seeds of a/one, a/two pooled; intervals draw seeds, then samples within them" in sheet.notes
    assert "n = 60 samples of 30 groups, 1 to 2 seeds)" in tables([sheet])


def test_blank_maps_and_shortcuts_are_told_below_as_in_the_printed_tables(fruit):
    title, measured = measured_of(fruit)
    row = {"blank_rate": 0.25, "deviation": 0.01, "deviation_max": 0.5}
    changed = [replace(each, row=replace(each.row, **row)) if i == 0 else each for i, each in enumerate(measured)]
    (sheet,) = sheets(title, changed)
    told = "\n".join(sheet.notes)
    assert "25.0% of its maps are blank" in told
    assert "0.0100 and 0.5000" in told
    printed = pivot([each.row for each in changed]).footnotes
    assert set(qualities([each.row for each in changed], [line.name for line in sheet.lines])) <= {*printed}


def test_n_counts_samples_not_their_seeds_nor_their_epochs(tmp_path):
    values = noise(0)
    values[:7] = np.nan
    cells = [
        {"series": "m/net@*", "model": component("m/net", checkpoint=k) | {"text": f"m/net@{k}"}} for k in (1, 2, 3)
    ]
    runs = [
        write_run(tmp_path / str(k), {"a/one": {"precision": values}}, [metric("precision")], seeds=(0, 1), **cell)
        for k, cell in enumerate(cells)
    ]
    paper = read_paper(runs)
    (sheet,) = paper.sheets
    assert (sheet.n, sheet.n_groups, sheet.seeds, sheet.epochs) == (60, 30, (2,), 3)
    assert "n = 60 samples of 30 groups, in 3 epochs, 2 seeds" in tables([sheet])
    assert "a/one: 318 of 360 values are defined (60 samples in 2 seeds and 3 epochs)" in sheet.notes
    told = "".join(map(latex_prose, paper.methods))
    assert "3 epochs, 1 to 3" in told
    assert "30 groups" in told


def test_a_table_is_ordered_and_ranked_by_a_score_that_it_shows(tmp_path):
    names = [f"score{i}" for i in range(9)]
    columns = {
        f"a/explainer_of_a_long_name_{k}": {name: noise(k + 10 * i, k if i < 8 else -k) for i, name in enumerate(names)}
        for k in range(6)
    }
    families = [metric(name, family="first" if i < 8 else "second") for i, name in enumerate(names)]
    found = list(sheets("t", measured_of(write_run(tmp_path / "run", columns, families))[1]))
    assert len(found) > 1
    for sheet in found:
        assert sheet.lead == sheet.columns[0][0]
        means = [line.entries[0].mean for line in sheet.lines]
        assert means == sorted(means, reverse=True)
        assert [line.rank for line in sheet.lines] == sorted(line.rank for line in sheet.lines)
        for first, last in sheet.panels:
            body = tables([replace(sheet, panels=((first, last),), turned=False)])
            assert ("@{}rl" in body) is (first == 0)
            assert ("\n1 & a/" in body) is (first == 0)


def test_the_classifiers_scores_are_told_once_and_of_its_own_data(tmp_path):
    explained = {f"a/{name}": {"precision": noise(i)} for i, name in enumerate(("one", "two"))}
    kinds = [metric("accuracy", family="model")]
    right = [np.repeat([1.0, 0.0], 30), np.repeat([1.0, 0.0], [45, 15])]
    runs = []
    for k, data in enumerate(("d/fruit", "d/other")):
        for target in ("predicted", "label"):
            out = tmp_path / f"{data[2:]}{target}"
            more = {"names": {"data": data}, "seeds": (0, 1, 2)}
            runs.append(write_run(out, explained, [metric("precision")], target=target, **more))
        runs.append(
            write_run(tmp_path / f"{k}", {None: {"accuracy": right[k]}}, kinds, samples=content_key("samples"), **more)
        )
    first, second, _ = ("".join(map(latex_prose, [told])) for told in read_paper(runs).methods)
    for told, mean in ((first, "0.500"), (second, "0.750")):
        assert told.count(" in \\texttt{accuracy}") == 1
        assert f" scores {mean} " in told
        assert "(n = 60 in each of 3 seeds)" in told


# What the methods say and what they do not.


def methods_of(folder):
    return "".join(latex_prose(told) for told in read_paper([folder]).methods)


def test_of_one_group_there_is_no_interval_no_rank_and_nothing_bold(tmp_path):
    columns = {f"a/{name}": {"precision": noise(i)} for i, name in enumerate(("one", "two"))}
    run = write_run(tmp_path / "run", columns, [metric("precision")], groups=["patient"] * N)
    (sheet,) = read_paper([run]).sheets
    assert [line.rank for line in sheet.lines] == [None, None]
    text = tables([sheet])
    assert r"\mathbf" not in text
    assert "60 samples of 1 group," in text
    assert "there is no interval" in text
    told = methods_of(run)
    assert "there is no interval" in told
    for word in ("1 groups", "resamples", "rank", "Wilson", "brackets", "Controls"):
        assert word not in told


def test_sentences_stand_where_they_are_true(fruit, tmp_path):
    told = methods_of(fruit)
    assert "An explainer{}'s rank" in told or "An explainer's rank" in told
    assert "Controls take no rank" in told
    for word in ("Wilson", "brackets", "other half"):
        assert word not in told
    kinds = [metric("hit"), metric("iou_tuned")]
    kinds[0]["scores"][0]["aggregate"], kinds[1]["scores"][0]["aggregate"] = "rate", "tuned"
    columns = {"a/one[k=1]": {"hit": np.repeat([0.0, 1.0], 30), "iou_tuned": np.stack([noise(1), noise(2)], axis=1)}}
    run = write_run(tmp_path / "more", columns, kinds, target="given", classes=[f"class{i}" for i in range(11)])
    told = methods_of(run)
    for words in ("Wilson", "brackets", "other half of the groups", "each for the class given for it", "11 classes"):
        assert words in told
    assert "class3" not in told
    assert "rank" not in told


# Bytes.


def test_two_calls_give_the_same_bytes(fruit):
    first = {path: path.read_bytes() for path in write_paper([fruit], "latex")[0]}
    assert {path.suffix for path in first} == {".tex", ".bib", ".pdf"}
    assert {path: path.read_bytes() for path in write_paper([fruit], "latex")[0]} == first


def test_figures_of_an_earlier_report_do_not_stay_behind(fruit):
    write_paper([fruit], "latex")
    old = fruit / "report" / "figures" / "curves_9.pdf"
    old.write_bytes(b"")
    write_paper([fruit], "latex")
    assert not old.exists()


def test_without_latex_the_pdf_is_drawn_and_says_so(fruit, monkeypatch):
    monkeypatch.setattr("xbench.report.paper.shutil.which", lambda name: None)
    paths, told = write_paper([fruit], "pdf")
    assert paths[-1].read_bytes().startswith(b"%PDF")
    assert "drawn by matplotlib" in told[-1]
    first = paths[-1].read_bytes()
    assert write_paper([fruit], "pdf")[0][-1].read_bytes() == first


# Names.

NAMES = st.text(st.characters(), max_size=40) | st.sampled_from(HOSTILE)


@given(NAMES)
def test_an_escaped_name_is_ascii_that_starts_no_command_and_leaves_no_group_open(text):
    source = escape(text)
    assert source.isascii()
    assert source.isprintable()
    bare = re.sub(
        r"\\[A-Za-z]+\{\}|\{\\[^A-Za-z]\{[A-Za-z]\}\}|\{\\[urHvcdb]\{[A-Za-z]\}\}|\\\(.*?\\\)|\\[%&#$_]", "", source
    )
    assert "\\" not in bare
    assert not set("%&#$_^~") & set(bare)
    depth = 0
    for char in source:
        depth += {"{": 1, "}": -1}.get(char, 0)
        assert depth >= 0
    assert depth == 0


@given(st.text(string.ascii_letters + string.digits + "/ .,:;()+=", max_size=40))
def test_plain_names_stay_as_they_are(text):
    assume(",," not in text)  # TeX would set one low quotation mark
    assert escape(text) == " ".join(text.split())
    assert plain(escape(text)) == " ".join(text.split())


@given(NAMES)
def test_an_escaped_name_says_the_same_with_and_without_breaks(text):
    assert escape(text, breaks=True).replace(r"\allowbreak{}", "") == escape(text)


@given(NAMES)
def test_no_name_ends_a_cell_of_a_markdown_table_or_is_a_tag(text):
    shown = markdown_text(text)
    assert "\n" not in shown
    assert not re.search(r"(?<!\\)(\\\\)*[|<>*`\[\]]", shown)


@given(NAMES)
def test_letters_that_a_font_lacks_are_shown_by_their_code(text):
    assert all(char <= "\u024f" or char in "–—‘’“”…†‡−≤≥→↑↓αβγδελμστω" for char in drawable(text))


@pytest.mark.parametrize(("text", "told"), [("日", "U+65E5"), ("é", r"\'{e}"), ("ß", r"\ss{}"), ("_", r"\_")])
def test_what_is_not_ascii_is_typeset_or_named_by_its_code(text, told):
    assert told in escape(text)
    assert ascii_tex("é_{x}") == r"{\'{e}}_{x}"


@given(NAMES)
def test_the_lines_of_a_heading_hold_the_whole_name(name):
    assert "".join(head(name)).replace("_", "") == name.replace("_", "")


def hostile_run(folder, scores=HOSTILE):
    columns = {name: {score: noise(i + k) for k, score in enumerate(scores)} for i, name in enumerate(HOSTILE)}
    named = dict.fromkeys(("suite", "data", "model", "class"), "%<b>\\x_{$&#日[é]")
    facts = [
        {"kind": "explainer", "id": name, "version": 1, "citation": f"By {name}", "bibtex": []} for name in HOSTILE
    ]
    return write_run(
        folder,
        columns,
        [metric(name, family=name) for name in scores],
        controls=HOSTILE[:3],
        components=facts,
        names=named,
    )


def test_hostile_names_reach_no_page_as_they_are(tmp_path, recwarn):
    run = hostile_run(tmp_path / "run", HOSTILE[:3])
    for kind in ("latex", "markdown", "csv"):
        paths, _ = write_paper([run], kind)
        for path in paths:
            if path.suffix in (".tex", ".bib"):
                text = path.read_text(encoding="ascii")
                assert "<script>" not in text
                assert r"\input{x}" not in text
            if path.suffix == ".md":
                assert "<script>" not in path.read_text()
    assert not [warning for warning in recwarn if "Glyph" in str(warning.message)]


@needs_latex
@pytest.mark.slow
def test_a_paper_of_hostile_names_compiles(tmp_path):
    run = hostile_run(tmp_path / "run")
    paths, told = write_paper([run], "pdf", "range")
    assert told[-1] == "paper.pdf: compiled by pdflatex"
    first = paths[-1].read_bytes()
    assert first.startswith(b"%PDF")
    assert compile_pdf(run / "report") == first
    if shutil.which("pdftotext"):
        shown = subprocess.run(["pdftotext", paths[-1], "-"], capture_output=True, text=True, check=True).stdout
        assert "<script>alert(1)</script>" in shown
        assert "[U+732B]/[U+65E5]" in shown.replace("\n", "")
        assert "[?]" not in shown, "a citation that was not found"


@needs_latex
@pytest.mark.slow
def test_text_of_a_record_reads_no_other_file(tmp_path):
    secret = tmp_path / "secret.tex"
    secret.write_text("SECRET")
    facts = [{"kind": "explainer", "id": "a/one", "bibtex": [f"@misc{{x, note = {{\\input{{{secret}}}}}}}"]}]
    run = write_run(tmp_path / "run", {"a/one": {"precision": noise(0)}}, [metric("precision")], components=facts)
    with pytest.raises(Exception, match="secret"):
        write_paper([run], "pdf")


# References.


def references(*facts, cells=None):
    cells = cells or [
        {"data": component("d/x"), "model": component("m/x"), "explainer": component(fact["id"]), "metrics": []}
        for fact in facts
    ]
    return gather(cells, [{"components": list(facts)}])


def test_a_line_for_readers_becomes_an_entry_whose_note_it_is():
    found = references({"kind": "explainer", "id": "a/b_c", "citation": "Müller & Co: 50 % off {"})
    assert fields(found.entries["xbench-a-b-c"])["note"] == r"M{\"{u}}ller \& Co: 50 \% off \textbraceleft{}"
    assert found.keys["explainer", "a/b_c"] == ("xbench-a-b-c",)
    assert parse_entries(found.bibtex()).keys() == {"xbench-a-b-c"}


def test_a_key_that_is_in_its_entrys_type_is_renamed_alone():
    facts = [
        {"kind": "explainer", "id": name, "bibtex": [f"@misc{{misc, note = {{{name}}}}}"]} for name in ("a/x", "b/x")
    ]
    entries = references(*facts).entries
    assert [text.partition(",")[0] for text in entries.values()] == ["@misc{misc", "@misc{misc-2"]


def test_two_packages_with_one_key_for_two_texts_are_both_cited():
    facts = [{"kind": "explainer", "id": name, "bibtex": [f"@misc{{{key}, note = {{{name}}}}}"]}
             for name, key in (("a/x", "smith"), ("b/x", "smith"), ("c/x", "Smith"))]  # fmt: skip
    found = references(*facts, facts[0])
    assert [fields(entry)["note"] for entry in found.entries.values()] == ["a/x", "b/x", "c/x"]
    assert len({keys for keys in found.keys.values() if keys}) == 3
    assert len({key.lower() for key in found.entries}) == 3


def test_what_a_wrapper_wraps_is_cited_too():
    cell = {"data": component("d/x"), "model": component("m/x"), "metrics": [],
            "explainer": component("c/blur", of=component("a/x"))}  # fmt: skip
    found = references({"kind": "explainer", "id": "a/x", "bibtex": ["@misc{inner, note = {x}}"]}, cells=[cell])
    assert found.keys["explainer", "a/x"] == ("inner",)


def test_a_folder_of_an_earlier_version_takes_what_is_installed_or_says_so(tmp_path):
    columns = {"gradients/gradient": {"precision": noise(0)}, "gone/away": {"precision": noise(1)}}
    run = write_run(tmp_path / "run", columns, [metric("precision")])
    paths, told = write_paper([run], "markdown")
    (line_,) = told
    assert line_.startswith("no citation recorded of ")
    assert "explainer gone/away" in line_
    assert "Simonyan" in paths[1].read_text()


def test_a_run_needs_none_of_its_plugins(tmp_path, monkeypatch):
    facts = [{"kind": kind, "id": name, "citation": "A. Author: It"} for kind, name in
             (("explainer", "gone/away"), ("dataset", "d/fruit"), ("model", "m/net"), ("metric", "precision"))]  # fmt: skip
    run = write_run(tmp_path / "run", {"gone/away": {"precision": noise(1)}}, [metric("precision")], components=facts)
    monkeypatch.setattr("xbench.report.references.discover", lambda: pytest.fail("the plugins were looked for"))
    paths, told = write_paper([run], "markdown")
    assert told == []
    assert "A. Author: It" in paths[1].read_text()


def test_entries_are_read_as_people_write_them():
    entry = '@Article{x, author = "Doe, Jane and M{\\"u}ller, K", title={A {B}, c}, journal = J, year=2001,}'
    assert fields(entry) == {
        "author": 'Doe, Jane and M{\\"u}ller, K', "title": "A {B}, c", "journal": "J", "year": "2001",
    }  # fmt: skip
    assert line(entry) == "Jane Doe and K Müller. A B, c. J, 2001."


def test_every_citation_of_the_methods_is_in_the_bibliography(fruit):
    write_paper([fruit], "latex")
    cited = re.findall(r"\\cite\{([^}]*)\}", (fruit / "report" / "methods.tex").read_text())
    assert {key for keys in cited for key in keys.split(",")} <= set(
        parse_entries((fruit / "report" / "references.bib").read_text())
    )


def test_the_methods_say_every_setting(fruit):
    write_paper([fruit], "latex")
    text = (fruit / "report" / "methods.tex").read_text().replace(r"\allowbreak{}", "")
    for told in (
        "fruit",
        "01234567",
        "60 test samples",
        "target=predicted",
        "fill=mean",
        "2,000",
        "30 groups",
        "torch 2.15",
    ):
        assert told in text


# The command.


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["format=latx"], "did you mean 'latex'?; one of html, latex"),
        (["--format", "docx"], "format=docx: no such format; one of html"),
        (["fromat=latex"], "did you mean 'format'?"),
        (["format=csv", "--format", "csv"], "'format' is given twice"),
        (["intervals=sd"], "one of pm, range"),
    ],
)
def test_a_wrong_setting_is_one_clear_line(fruit, capsys, arguments, told):
    assert main(["report", str(fruit), *arguments]) == 2
    error = capsys.readouterr().err
    assert told in error
    assert len(error.splitlines()) == 1


def test_the_command_prints_what_it_wrote(fruit, capsys):
    assert main(["report", str(fruit), "format=latex"]) == 0
    printed = capsys.readouterr().out.splitlines()
    assert str(fruit / "report" / "table.tex") in printed
    assert str(fruit / "report" / "references.bib") in printed


def test_a_folder_without_a_run_is_one_clear_line(tmp_path, capsys):
    assert main(["report", str(tmp_path), "format=csv"]) == 2
    assert "holds no run" in capsys.readouterr().err


def test_a_run_without_a_number_is_one_clear_line(tmp_path, capsys):
    run = write_run(tmp_path / "run", {"a/one": {"other": noise(0)}}, [metric("precision")])
    assert main(["report", str(run), "format=latex"]) == 2
    assert "nothing to report" in capsys.readouterr().err
