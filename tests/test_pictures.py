"""What a run draws and counts: every picture opens, none of an earlier run stays, and a matrix counts every sample once."""

import csv
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from xbench import api
from xbench.manifest import run_folder
from xbench.report import draw_pictures
from xbench.report.confusion import Confusion, confusions, write_confusions
from xbench.report.contact_sheet import _chosen
from xbench.report.results import read_results
from xbench.report.translations import translation_lines, write_translations
from xbench.store import Store

pytestmark = pytest.mark.usefixtures("fakes")


def ran(out, **settings):
    settings = {"executor": "inline", "device": "cpu", "out": out, **settings}
    api.run("blobs", **settings)
    store = Store(out)
    return read_results(store, run_folder(out)[0]), store


def test_every_picture_of_a_run_opens_and_the_same_run_draws_the_same_bytes(tmp_path):
    results, store = ran(
        tmp_path / "run", model="fake/linear,fake/learnt@*", explainer="controls/random,controls/sobel"
    )
    made = draw_pictures(store, results, tmp_path / "a")
    assert [path.name for path in made] == ["contact_sheet.png", "epochs.png"]
    for path in made:
        with Image.open(path) as image:
            image.load()
            assert min(image.size) > 100
    again = draw_pictures(store, results, tmp_path / "b")
    assert [path.read_bytes() for path in made] == [path.read_bytes() for path in again]


def test_names_that_look_like_formulas_are_drawn_as_they_are(tmp_path):
    found, store = ran(tmp_path / "run", model="fake/linear,fake/learnt@*", explainer="controls/random,controls/sobel")
    results = []
    for each in found:
        names = {"classes": ["$\\frac{$"] * 2, "data": {**each.definition["data"], "text": "$\\frac{$"}}
        names["model"] = {**each.definition["model"], "text": "$\\frac{$"}
        if each.explainer:
            names["explainer"] = {**each.definition["explainer"], "text": "$\\frac{$/$\\sqrt{$"}
        definition = {**each.definition, **names}
        results.append(replace(each, record=replace(each.record, definition=definition)))
    assert [path.name for path in draw_pictures(store, results, tmp_path / "a")] == ["contact_sheet.png", "epochs.png"]


def test_a_matrix_of_many_classes_is_written_without_its_zeros(tmp_path):
    counts = np.zeros((50, 50), dtype=int)
    counts[3, 4] = 7
    names = tuple(f"class{k}" for k in range(50))
    path = write_confusions([Confusion("m", 0, names, counts)], tmp_path / "confusion.csv")
    assert path.read_text().splitlines() == ["model,seed,label,predicted,n", "m,0,class3,class4,7"]


def test_a_picture_of_an_earlier_run_does_not_stay_behind(tmp_path):
    results, store = ran(tmp_path / "run", model="fake/linear,fake/learnt@*", explainer="controls/random")
    draw_pictures(store, results, tmp_path / "t")
    results, store = ran(tmp_path / "run", model="fake/linear", explainer="fake/raises")
    assert draw_pictures(store, results, tmp_path / "t") == []
    assert list((tmp_path / "t").iterdir()) == []


def test_a_confusion_matrix_counts_every_sample_in_the_row_of_its_label(tmp_path):
    results, _ = ran(tmp_path / "run", model="fake/linear", explainer="controls/random", metric="accuracy")
    (found,) = confusions(results)
    own = next(result for result in results if result.explainer is None)
    predicted, labels = own.arrays["predicted"], np.asarray(own.samples["labels"])
    for i in range(len(found.classes)):
        assert found.counts[i].sum() == (labels == i).sum()
        assert found.counts[i, i] == ((labels == i) & (predicted == i)).sum()
    path = write_confusions([found], tmp_path / "confusion.csv")
    rows = list(csv.DictReader(path.open()))
    assert sum(int(row["n"]) for row in rows) == len(labels)
    assert len(found.lines()) == len(found.classes)
    assert write_confusions([], path) is None
    assert not path.exists()


def test_a_sheet_shows_hits_and_misses_of_every_class_class_by_class():
    labels = np.array([0] * 20 + [1] * 20)
    predicted = labels.copy()
    predicted[[3, 4, 5, 6, 25]] = [1, 1, 1, 1, 0]
    shown = _chosen(labels, predicted)
    groups = [(labels[i], labels[i] != predicted[i]) for i in shown]
    assert groups == sorted(groups)
    assert [groups.count(group) for group in [(0, False), (0, True), (1, False), (1, True)]] == [4, 4, 3, 1]


def test_translations_are_counted_jointly_for_who_translates_and_for_nobody_else(tmp_path):
    names = "controls/identity,controls/oracle_difference,controls/random"
    results, _ = ran(tmp_path / "run", model="fake/linear", explainer=names, metric="validity,localisation_precision")
    found = [lines for _, lines in translation_lines(results)]
    truth, nothing = sorted(found, key=lambda lines: "identity" in lines[0])
    assert truth[0].startswith("controls/oracle_difference on fake/linear")
    assert nothing[0].startswith("controls/identity on fake/linear")
    unchanged = [line for line in nothing if line.strip().startswith("predictions changed")]
    assert [line.split(":")[1].split(" of")[0].strip() for line in unchanged] == ["0", "0"]
    path = write_translations([truth, nothing], tmp_path / "translations.txt")
    assert path.read_text().count("McNemar") == 4
    assert write_translations([], path) is None
    assert not path.exists()
