"""Tables say what was committed: nothing incomparable shares a row or a rank, and nothing missing has a number."""

import csv
import json
import random
from collections import Counter

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from xbench.leaderboard import read_boards
from xbench.slices import arrays_file
from xbench.stats import Bootstrap
from xbench.store import Store, content_key, slice_size
from xbench.tables import markdown, write_tables

N = 100
GROUPS = [f"patient{i // 2}" for i in range(N)]
LABELS = [i % 2 for i in range(N)]
COST = {"seconds": 2.0, "images": 50, "forwards": 100, "backwards": 50, "peak_bytes": 1, "device": "cpu"}
REQUIRED = (
    *("suite", "data", "protocol", "model", "explainer", "metric", "family", "mean", "low", "high", "n_scored", "n"),
    *("higher_is_better", "chance", "rank", "status", "seconds_per_image"),
)
SCORE = {"family": "f", "higher_is_better": True, "chance": None, "aggregate": "mean"}


def metric(name="precision", version=1, code="c", **facts):
    score = {"name": name, **SCORE, **facts}
    return {"id": name, "version": version, "code": code, "params": {}, "scores": [score]}


def cell(explainer="a/one", seed=0, metrics=None, **changes):
    """The definition of a cell as a plan makes it; ``explainer`` None is the classifier alone."""
    component = None
    if explainer:
        component = {"id": explainer, "version": 1, "params": {}, "code": "c", "text": explainer, "control": False}
    return {
        "schema": 1,
        "suite": "fruit",
        "suite_version": 1,
        "protocol": "quick",
        "data": {"id": "d/fruit", "version": 1, "params": {}, "code": "c", "digest": "x", "text": "d/fruit"},
        "classes": ["apple", "pear"],
        "samples": content_key("explained" if explainer else "classified"),
        "n": N,
        "target": "predicted" if explainer else None,
        "model": {"id": "m/net", "version": 1, "params": {}, "code": "c", "text": "m/net"},
        "model_fit": f"fit of seed {seed}",
        "explainer": component,
        "explainer_fit": None,
        "seed": seed,
        "metrics": [metric()] if metrics is None else metrics,
        "missing": {},
        **changes,
    }


def changed(definition, path, value):
    """The definition with one entry changed; a dotted path goes into inner dictionaries."""
    first, _, rest = path.partition(".")
    inner = changed(definition[first], rest, value) if rest else value
    return {**definition, first: inner}


def noise(seed, shift=0.0):
    return np.random.default_rng(seed).normal(size=N) + shift


def define(store, definition):
    key = content_key(definition)
    store.define(key, definition)
    table = {"ids": [f"s{i}" for i in range(N)], "labels": LABELS, "groups": GROUPS}
    store.write_samples(definition["samples"], table)
    return key


def commit(store, definition, weights="w" * 64, parts=None, cost=COST, **columns):
    """Commit a cell's columns [N] slice by slice; ``name__chance`` is a column of chances."""
    key, size = define(store, definition), slice_size(N)
    n_slices = -(-N // size)
    for part in range(n_slices) if parts is None else parts:
        rows = slice(part * size, (part + 1) * size)
        arrays = {
            f"chance/{name.removesuffix('__chance')}" if name.endswith("__chance") else f"score/{name}": values[rows]
            for name, values in columns.items()
        }
        arrays["blank"] = np.zeros(len(LABELS[rows]), np.uint8)
        store.commit(key, part, arrays, weights, cost)
    return key


@pytest.fixture
def store(tmp_path):
    return Store(tmp_path / "run")


def rows_of(*stores, keys=None):
    return [row for board in read_boards(stores, keys) for row in board.rows]


def only(rows, **facts):
    (found,) = [row for row in rows if all(getattr(row, name) == value for name, value in facts.items())]
    return found


def tables(stores, folder, primary=""):
    write_tables(read_boards(stores), folder, primary)
    return {path.name: path.read_bytes() for path in folder.iterdir()}


# One row.


def test_a_row_is_the_mean_with_its_interval_over_groups(store):
    values = noise(0)
    values[:7] = np.nan
    commit(store, cell(), precision=values)
    row = only(rows_of(store))
    expected = Bootstrap(GROUPS).estimate([values])
    assert row.mean == pytest.approx(np.nanmean(values))
    assert (row.low, row.high) == pytest.approx((expected.low, expected.high))
    assert (row.n_scored, row.n, row.seeds, row.rank, row.status) == (N - 7, N, 1, 1, "ok")
    assert row.seconds_per_image == pytest.approx(4 / 100)
    names = ("fruit", "d/fruit", "quick", "m/net", "a/one", "precision", "predicted")
    assert (row.suite, row.data, row.protocol, row.model, row.explainer, row.metric, row.target) == names


def test_rows_have_every_key_that_readers_rely_on(store, tmp_path):
    commit(store, cell(), precision=noise(0))
    store.fail(define(store, cell("a/two")), "error", "it broke")
    found = json.loads(tables([store], tmp_path / "out")["table.json"])
    assert len(found) == 2
    for row in found:
        assert set(REQUIRED) <= set(row)


def test_chance_is_a_number_or_the_mean_of_each_samples_own(store):
    metrics = [metric("fixed", chance=0.5), metric("own", chance="per_sample"), metric("none")]
    chance = np.where(np.arange(N) < 10, np.nan, np.linspace(0, 1, N))
    columns = {"fixed": noise(0), "own": noise(1), "own__chance": chance, "none": noise(2)}
    commit(store, cell(metrics=metrics), **columns)
    found = {row.metric: row.chance for row in rows_of(store)}
    assert found == {"fixed": 0.5, "own": pytest.approx(np.nanmean(chance)), "none": None}


def test_blank_maps_are_counted_among_those_that_the_explainer_has_an_answer_for(store):
    key = commit(store, cell(), precision=noise(0))
    for n_undefined in (0, 32):
        for part, rows, blank in ((0, slice(0, 64), 1), (1, slice(64, N), 0)):
            n = len(LABELS[rows])
            defined = np.ones(n, np.uint8)
            defined[: n_undefined * blank] = 0
            arrays = {"score/precision": noise(0)[rows], "blank": np.full(n, blank, np.uint8), "defined": defined}
            (store.folder(key) / f"{part:05d}.json").unlink()  # what is committed stays as it is
            store.commit(key, part, arrays, "w" * 64, COST)
        assert only(rows_of(store)).blank_rate == pytest.approx((64 - n_undefined) / (N - n_undefined))


def test_the_classifier_has_no_rank_and_its_own_aggregate(store):
    values = np.round(noise(0) + np.asarray(LABELS), 1)
    metrics = [metric("accuracy"), metric("auroc", aggregate="auroc", chance=0.5)]
    commit(store, cell(None, metrics=metrics), accuracy=(values > 0.5).astype(float), auroc=values)
    rows = rows_of(store)
    assert only(rows, metric="auroc").mean == pytest.approx(roc_auc_score(LABELS, values))
    assert only(rows, metric="accuracy").mean == pytest.approx((values > 0.5).mean())
    assert {(row.explainer, row.rank, row.target) for row in rows} == {(None, None, None)}


# Ranks.


def test_ranks_follow_the_metrics_direction_and_ties_share_them(store):
    metrics = [metric("up"), metric("down", higher_is_better=False)]
    base = noise(0)
    for name, shift in (("a/good", 3.0), ("a/same", 3.0), ("a/bad", 0.0)):
        commit(store, cell(name, metrics=metrics), up=base + shift, down=base + shift)
    rows = rows_of(store)
    ranks = {metric: {row.explainer: row.rank for row in rows if row.metric == metric} for metric in ("up", "down")}
    assert ranks["up"] == {"a/good": 1, "a/same": 1, "a/bad": 3}
    assert ranks["down"] == {"a/bad": 1, "a/good": 2, "a/same": 2}
    assert [row.explainer for row in rows if row.metric == "up"] == ["a/good", "a/same", "a/bad"]
    assert [row.explainer for row in rows if row.metric == "down"] == ["a/bad", "a/good", "a/same"]


def test_explainers_compete_on_one_model_only(store):
    commit(store, cell("a/one"), precision=noise(0))
    other = changed(changed(cell("a/two"), "model.text", "m/other"), "model.id", "m/other")
    commit(store, other, precision=noise(0, 5))
    assert [row.rank for row in rows_of(store)] == [1, 1]


# What may not meet.


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("suite", "nuts"),
        ("suite_version", 2),
        ("protocol", "paper"),
        ("data.digest", "y"),
        ("data.version", 2),
        ("data.text", "d/fruit[size=64]"),
        ("samples", content_key("others")),
        ("target", "label"),
    ],
)
def test_other_suites_data_protocols_samples_and_targets_are_other_boards(store, path, value):
    commit(store, cell("a/one"), precision=noise(0))
    commit(store, changed(cell("a/one"), path, value), precision=noise(0, 5))
    commit(store, changed(cell("a/two"), path, value), precision=noise(0, 9))
    boards = sorted(read_boards([store]), key=lambda board: len(board.rows))
    assert [len(board.rows) for board in boards] == [1, 2]
    assert boards[0].rows[0].mean == pytest.approx(noise(0).mean())
    assert boards[0].rows[0].rank == 1
    assert boards[0].title != boards[1].title
    assert len({(row.board, row.model, row.explainer, row.metric) for board in boards for row in board.rows}) == 3


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("metrics", [metric(version=2)]),
        ("metrics", [metric(code="edited")]),
        ("explainer.version", 2),
        ("explainer.code", "edited"),
        ("model.version", 2),
        ("model.code", "edited"),
        ("classes", ["pear", "apple"]),
    ],
)
def test_other_versions_and_code_are_other_rows_under_names_of_their_own(store, path, value):
    commit(store, cell("a/one"), precision=noise(0))
    commit(store, changed(cell("a/one"), path, value), precision=noise(0, 5))
    (board,) = read_boards([store])
    assert sorted(row.mean for row in board.rows) == pytest.approx([noise(0).mean(), noise(0, 5).mean()])
    assert len({(row.model, row.explainer) for row in board.rows}) == 2
    assert {row.seeds for row in board.rows} == {1}
    for row in board.rows:
        assert row.explainer.startswith("a/one#")
        assert row.explainer in markdown(board)


def test_two_versions_of_a_metric_are_two_columns_without_a_common_rank(store):
    second = [metric(version=2), metric("other")]
    commit(store, cell("a/one", metrics=[metric(), metric("other")]), precision=noise(0), other=noise(2))
    commit(store, cell("a/two", metrics=second), precision=noise(0, 5), other=noise(2, 5))
    (board,) = read_boards([store])
    names = {(row.explainer, row.metric.partition("#")[0], row.version): row for row in board.rows}
    one, two = names["a/one", "precision", "precision v1"], names["a/two", "precision", "precision v2"]
    assert (one.rank, two.rank) == (1, 1)
    assert one.metric != two.metric
    assert sorted(row.rank for row in board.rows if row.metric == "other") == [1, 2]
    header = next(line for line in markdown(board).splitlines() if line.startswith("| rank"))
    assert header.count("precision#") == 2


def test_one_training_that_gave_other_weights_elsewhere_is_another_model(tmp_path):
    here, there = Store(tmp_path / "here"), Store(tmp_path / "there")
    for name in ("a/one", "a/two"):
        commit(here, cell(name), weights="1" * 64, precision=noise(0))
    commit(there, cell("a/one"), weights="2" * 64, precision=noise(0, 5))
    commit(there, changed(cell("a/one"), "model_fit", None), weights=None, precision=noise(9))
    rows = rows_of(here, there)
    seen = sorted((row.model, row.explainer, round(row.mean, 6)) for row in rows)
    low, high = round(noise(0).mean(), 6), round(noise(0, 5).mean(), 6)
    assert [one for one in seen if "#" in one[0]] == [
        ("m/net#11111111", "a/one", low),
        ("m/net#11111111", "a/two", low),
        ("m/net#22222222", "a/one", high),
    ]
    assert len(rows) == 4
    assert {row.rank for row in rows} == {1}


def test_a_cell_in_two_folders_counts_once(tmp_path):
    here, there = Store(tmp_path / "here"), Store(tmp_path / "there")
    for one in (here, there):
        commit(one, cell(), precision=noise(0))
    assert [(row.model, row.n) for row in rows_of(here, there)] == [("m/net", N)]


@pytest.mark.parametrize("failed_first", [True, False])
@pytest.mark.parametrize("how", ["failed", "partial"])
def test_a_cell_that_is_whole_in_one_folder_is_whole(tmp_path, failed_first, how):
    good, bad = Store(tmp_path / "good"), Store(tmp_path / "bad")
    commit(good, cell(), precision=noise(0))
    if how == "failed":
        bad.fail(define(bad, cell()), "timeout", "too slow")
    else:
        commit(bad, cell(), parts=[1], precision=noise(0))
    row = only(rows_of(*([bad, good] if failed_first else [good, bad])))
    assert (row.status, row.mean, row.model) == ("ok", pytest.approx(noise(0).mean()), "m/net")


# Seeds.


def test_seeds_are_pooled_into_one_row(store):
    columns = [noise(seed, seed) for seed in range(3)]
    for seed, values in enumerate(columns):
        commit(store, cell(seed=seed), weights=str(seed) * 64, precision=values)
    row = only(rows_of(store))
    expected = Bootstrap(GROUPS, seeds=3).estimate(columns)
    assert row.mean == pytest.approx(np.mean(columns))
    assert (row.low, row.high) == pytest.approx((expected.low, expected.high))
    assert (row.seeds, row.n, row.n_scored) == (3, 3 * N, 3 * N)
    assert row.high - row.low > 1.5


def test_a_seed_that_failed_is_not_passed_over(store):
    commit(store, cell(seed=0), precision=noise(0))
    store.fail(define(store, cell(seed=1)), "oom", "out of memory")
    row = only(rows_of(store))
    assert (row.status, row.reason, row.mean, row.n, row.n_scored) == ("oom", "out of memory", None, 2 * N, 0)


def test_one_seed_trained_on_other_data_is_not_a_second_seed(store):
    for fit in ("on these films", "on those films"):
        for seed in (0, 1):
            commit(store, cell(seed=seed, model_fit=f"{fit} {seed}"), precision=noise(seed))
    rows = rows_of(store)
    assert [row.seeds for row in rows] == [1] * 4
    assert len({row.explainer for row in rows}) == 4


def test_explainers_of_other_seeds_than_most_do_not_compete(store):
    for name, seeds, shift in (("a/one", (0, 1), 0), ("a/two", (0, 2), 5), ("a/three", (0, 1), 3)):
        for seed in seeds:
            commit(store, cell(name, seed=seed), precision=noise(0, shift))
    assert {row.explainer: row.rank for row in rows_of(store)} == {"a/one": 2, "a/three": 1, "a/two": None}


# What has no number.


@pytest.mark.parametrize("status", ["unsupported", "error", "timeout", "oom", "invalid_map", "crashed", "fit_failed"])
def test_what_was_not_computed_has_a_reason_instead_of_numbers(store, tmp_path, status):
    metrics = [metric(chance=0.5)]
    commit(store, cell("a/one", metrics=metrics), precision=noise(0))
    store.fail(commit(store, cell("a/two", metrics=metrics), parts=[0], precision=noise(0)), status, "needs a mask")
    row = only(rows_of(store), explainer="a/two")
    assert row.status == status
    assert row.reason == "needs a mask"
    assert (row.mean, row.low, row.high, row.rank, row.n_scored) == (None, None, None, None, 0)
    assert row.chance == 0.5
    assert f'"status": "{status}"' in tables([store], tmp_path / "out")["table.json"].decode()


def test_missing_slices_make_a_row_partial(store):
    commit(store, cell(), parts=[1], precision=noise(0))
    row = only(rows_of(store))
    assert (row.status, row.mean, row.rank) == ("partial", None, None)
    assert row.reason.startswith("1 of 2 slices done")


def test_a_damaged_slice_gives_no_numbers(store):
    key = commit(store, cell(), precision=noise(0))
    path = arrays_file(store.folder(key), 0)
    path.write_bytes(path.read_bytes()[:-1] + b"\x7f")
    assert only(rows_of(store)).status == "partial"
    assert store.damaged == [path]


def test_a_metric_that_does_not_apply_is_a_row_with_the_reason(store):
    commit(
        store, cell(missing={"validity": "needs translations; the explainer gives attributions"}), precision=noise(0)
    )
    row = only(rows_of(store), metric="validity")
    assert (row.status, row.mean, row.rank) == ("unsupported", None, None)
    assert row.reason == "needs translations; the explainer gives attributions"
    assert only(rows_of(store), metric="precision").status == "ok"


def test_what_is_wholly_unsupported_has_one_reason(store):
    store.fail(
        define(store, cell(missing={"validity": "no translations"})), "unsupported", "the model has no gradients"
    )
    found = {(row.metric, row.status, row.reason) for row in rows_of(store)}
    reason = "the model has no gradients"
    assert found == {("precision", "unsupported", reason), ("validity", "unsupported", reason)}


def test_a_score_that_is_nowhere_defined_is_undefined(store, tmp_path):
    columns = {"precision": np.full(N, np.nan), "precision__chance": np.full(N, np.nan)}
    commit(store, cell(metrics=[metric(chance="per_sample")]), **columns)
    row = only(rows_of(store))
    assert (row.status, row.mean, row.chance, row.n_scored) == ("undefined", None, None, 0)
    assert row.reason
    assert b"NaN" not in tables([store], tmp_path / "out")["table.json"]


def test_a_number_that_cannot_be_formed_from_what_is_defined_is_undefined(store):
    commit(store, cell("a/one", seed=0), precision=noise(0))
    commit(store, cell("a/one", seed=1), precision=np.full(N, np.nan))
    one_class = np.where(np.asarray(LABELS) == 1, noise(1), np.nan)
    commit(store, cell("a/two", metrics=[metric("auroc", aggregate="auroc")]), auroc=one_class)
    for row in rows_of(store):
        assert (row.status, row.mean, row.low, row.high, row.rank) == ("undefined", None, None, None, None)
        assert "values are defined" in row.reason


# Tables.


def full_house(store, cells, weights="w" * 64):
    for definition, columns in cells:
        commit(store, definition, weights=weights, **columns)


def varied_cells():
    metrics = [metric("up", chance=0.1), metric("down", higher_is_better=False, chance="per_sample")]
    for seed in (0, 1):
        yield cell(None, seed=seed, metrics=[metric("accuracy")]), {"accuracy": (noise(seed) > 0).astype(float)}
        for i, name in enumerate(("b/two", "a/one", "c/three[x=1]")):
            definition = cell(name, seed=seed, metrics=metrics, missing={"validity": "no translations"})
            yield definition, {"up": noise(i + seed, i), "down": noise(i), "down__chance": np.full(N, 0.3)}


def test_tables_do_not_depend_on_the_order_in_which_anything_was_committed(tmp_path):
    expected = None
    for attempt in range(4):
        shuffle = random.Random(attempt)
        jobs = [(part, *one) for one in varied_cells() for part in (0, 1)]
        if attempt:
            shuffle.shuffle(jobs)
        store = Store(tmp_path / f"run{attempt}")
        for part, definition, columns in jobs:
            commit(store, definition, parts=[part], **columns)
        store.fail(define(store, cell("z/broken")), "error", "broke")
        found = tables([store], tmp_path / f"out{attempt}", "up")
        assert found.keys() == {"table.json", "table.csv", "table.md"}
        expected = expected or found
        assert found == expected
    assert tables([store], tmp_path / "again", "up") == expected


def test_tables_do_not_depend_on_which_folder_holds_what(tmp_path):
    together, one, other = (Store(tmp_path / name) for name in ("together", "one", "other"))
    cells = list(varied_cells())
    full_house(together, cells)
    full_house(one, cells[::2])
    full_house(other, cells[1::2])
    expected = tables([together], tmp_path / "a", "up")
    assert tables([one, other], tmp_path / "b", "up") == expected
    assert tables([other, one], tmp_path / "c", "up") == expected


def test_only_the_cells_named_are_read(store):
    keys = [commit(store, cell(name), precision=noise(0)) for name in ("a/one", "a/two")]
    assert [row.explainer for row in rows_of(store, keys=keys[1:])] == ["a/two"]
    assert len(rows_of(store, keys=keys + keys)) == 2


def test_json_has_null_and_csv_says_the_same(store, tmp_path):
    full_house(store, varied_cells())
    store.fail(define(store, cell("z/broken")), "error", 'broke, "badly"')
    found = tables([store], tmp_path / "out", "up")

    def refuse(name):
        raise AssertionError(name)

    rows = json.loads(found["table.json"], parse_constant=refuse)
    lines = list(csv.DictReader(found["table.csv"].decode().splitlines()))
    assert len(rows) == len(lines) == 2 * 3 + 3 + 1 + 1
    for row, line in zip(rows, lines, strict=True):
        assert {name: "" if value is None else str(value) for name, value in row.items()} == line
    assert any(row["mean"] is None for row in rows)
    assert (
        Counter((row["board"], row["model"], row["explainer"], row["metric"]) for row in rows).most_common(1)[0][1] == 1
    )


def test_markdown_shows_every_explainer_best_first_and_why_one_has_no_numbers(store):
    full_house(store, varied_cells())
    store.fail(define(store, cell("z/broken", metrics=[metric("up", chance=0.1)])), "timeout", "over its budget of 3 s")
    (board,) = read_boards([store])
    text = markdown(board, "up")
    lines = [line.split(" | ") for line in text.splitlines() if line.startswith("| ") and "---" not in line]
    assert [line[1].strip() for line in lines] == ["explainer", "c/three[x=1]", "a/one", "b/two", "z/broken", "chance"]
    assert "up ↑" in lines[0][2]
    assert "down ↓" in lines[0][3]
    assert f"{only(board.rows, explainer='a/one', metric='up').mean:.3f} [" in lines[2][2]
    assert "z/broken: timeout: over its budget of 3 s" in text
    assert "2 seeds of c/three[x=1], a/one, b/two pooled" in text
    assert "accuracy" in text
    assert lines[-1][2].strip() == "0.100"
    down = markdown(board, "down").splitlines()
    assert next(line for line in down if line.startswith("| rank")).split(" | ")[2] == "down ↓"


def test_the_classifier_stands_on_every_board_of_its_data(store):
    commit(store, cell(None, metrics=[metric("accuracy")]), accuracy=(noise(0) > 0).astype(float))
    commit(store, cell("a/one"), precision=noise(0))
    commit(store, changed(cell("a/one"), "target", "label"), precision=noise(0))
    commit(store, changed(cell("a/one"), "protocol", "paper"), precision=noise(0))
    found = {board.title: [row.explainer for row in board.rows] for board in read_boards([store])}
    assert len(found) == 3
    assert sorted(map(len, found.values())) == [1, 2, 2]
    assert [names for title, names in found.items() if title.startswith("fruit v1, d/fruit, paper")] == [["a/one"]]


def test_an_empty_folder_has_no_boards(tmp_path):
    assert read_boards([Store(tmp_path / "nothing")]) == []
    assert json.loads(tables([Store(tmp_path / "nothing")], tmp_path / "out")["table.json"]) == []


def test_a_cell_without_any_metric_makes_no_row(store):
    store.fail(define(store, cell(metrics=[])), "unsupported", "not for these data")
    assert rows_of(store) == []


# Series of epochs.


def epoch(number, seed=0, **changes):
    text = f"m/net@{number}"
    model = {"id": "m/net", "version": 1, "params": {}, "code": "c", "text": text, "checkpoint": number}
    return cell(seed=seed, model=model, series="m/net@*", **changes)


def test_epochs_of_a_series_are_one_row_whose_interval_draws_a_sample_with_all_its_epochs(store):
    values = [noise(i, shift=i) for i in range(3)]
    for i, column in enumerate(values):
        commit(store, epoch(i + 1), weights=str(i) * 64, precision=column)
    (row,) = rows_of(store)
    expected = Bootstrap(GROUPS * 3).estimate([np.concatenate(values)])
    assert (row.model, row.n, row.seeds) == ("m/net@*", 3 * N, 1)
    assert (row.mean, row.low, row.high) == pytest.approx((expected.mean, expected.low, expected.high))


def test_seeds_of_a_series_are_pooled_seed_by_seed_and_an_epoch_asked_for_alone_stays_alone(store):
    for seed in (0, 1):
        for i in (1, 2):
            commit(store, epoch(i, seed=seed), weights=f"{seed}{i}" * 32, precision=noise(10 * seed + i))
    alone = {**epoch(2), "series": None}
    commit(store, alone, weights="02" * 32, precision=noise(2))
    rows = rows_of(store)
    assert {(row.model, row.seeds, row.n) for row in rows} == {("m/net@*", 2, 4 * N), ("m/net@2", 1, N)}


def test_a_series_that_lacks_an_epoch_of_a_seed_is_not_pooled(store):
    for seed, i in ((0, 1), (0, 2), (1, 1)):
        commit(store, epoch(i, seed=seed), weights=f"{seed}{i}" * 32, precision=noise(i))
    assert all(row.n == N for row in rows_of(store))


# Scores that describe, and rates.


def test_a_score_without_a_better_direction_ranks_nobody_and_has_no_arrow(store, tmp_path):
    metrics = [metric("share", higher_is_better=None)]
    for name, shift in (("a/one", 0.0), ("a/two", 9.0)):
        commit(store, cell(name, metrics=metrics), share=noise(1, shift))
    rows = rows_of(store)
    assert [row.rank for row in rows] == [None, None]
    assert [row.explainer for row in rows] == ["a/two", "a/one"]
    text = tables([store], tmp_path / "t")["table.md"].decode()
    assert "| share |" in text
    assert "no rank" not in text


def test_a_rate_has_wilsons_interval(store):
    metrics = [metric("blank", aggregate="rate", higher_is_better=False)]
    commit(store, cell(metrics=metrics), blank=np.zeros(N))
    (row,) = rows_of(store)
    assert (row.mean, row.low) == (0, 0)
    assert 0 < row.high < 0.1


def test_the_scores_of_one_metric_are_ranked_each_by_itself(store):
    pair = [metric("good")["scores"][0], metric("bad", higher_is_better=False)["scores"][0]]
    both = {**metric("pair"), "scores": pair}
    commit(store, cell("a/one", metrics=[both]), good=noise(1), bad=noise(2))
    commit(store, cell("a/two", metrics=[both]), good=noise(1) + 1, bad=noise(2) + 1)
    found = {(row.explainer, row.metric): row.rank for row in rows_of(store)}
    assert found == {("a/one", "good"): 2, ("a/two", "good"): 1, ("a/one", "bad"): 1, ("a/two", "bad"): 2}


def test_scores_of_translations_are_a_table_of_their_own_with_only_who_translates(store, tmp_path):
    flips = metric("validity", family="translation")
    plain = metric()
    commit(store, cell("a/map", metrics=[plain], missing={"validity": "needs translations"}), precision=noise(1))
    commit(store, cell("a/both", metrics=[plain, flips]), precision=noise(2), validity=noise(3))
    text = tables([store], tmp_path / "t")["table.md"].decode()
    first, second = (part for part in text.split("**m/net**")[1:])
    assert [name in first for name in ("a/map", "a/both", "validity")] == [True, True, False]
    assert [name in second for name in ("a/map", "a/both", "validity")] == [False, True, True]


def test_seeds_are_pooled_whatever_classifier_each_asked_beside_its_own(store):
    for seed in (0, 1):
        commit(
            store, cell(seed=seed, oracle_fit=f"oracle of seed {seed}"), weights=f"{seed}" * 64, precision=noise(seed)
        )
    (row,) = rows_of(store)
    assert (row.explainer, row.seeds) == ("a/one", 2)


def test_the_scale_is_nought_for_chance_and_one_for_truth_whichever_way_is_better(tmp_path):
    store = Store(tmp_path)
    precision, deletion = metric(), metric("deletion", higher_is_better=False)
    means = {"a/random": (0.25, 0.75), "a/oracle": (1.0, 0.25), "a/half": (0.625, 0.5), "a/worse": (0.0, 1.0)}
    marks = {"a/random": "chance", "a/oracle": "truth"}
    for name, (high, low) in means.items():
        made = cell(name, metrics=[precision, deletion])
        made["explainer"]["control"] = marks.get(name, False)
        commit(store, made, precision=np.full(N, high), deletion=np.full(N, low))
    (board,) = read_boards([store])
    found = {(row.explainer, row.metric): (row.gain, row.scaled) for row in board.rows}
    assert found["a/random", "precision"] == found["a/random", "deletion"] == (0, 0)
    assert found["a/oracle", "precision"] == (0.75, 1)
    assert found["a/oracle", "deletion"] == (0.5, 1)
    assert found["a/half", "precision"] == (0.375, 0.5)
    assert found["a/half", "deletion"] == (0.25, 0.5)
    assert found["a/worse", "precision"] == (-0.25, -0.25 / 0.75)


def test_without_a_control_that_knows_nothing_there_is_no_scale(tmp_path):
    store = Store(tmp_path)
    commit(store, cell("a/one"), precision=noise(0))
    (board,) = read_boards([store])
    assert (board.rows[0].gain, board.rows[0].scaled) == (None, None)
