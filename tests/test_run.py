"""A run from end to end on the fake plugin, in this process: results depend on nothing they should not depend on."""

import json

import pytest

from xbench import api
from xbench.errors import XbenchError
from xbench.store import Store

pytestmark = pytest.mark.usefixtures("fakes")


def scores(run):
    return {(row.model, row.explainer, row.metric): row.mean for row in run.rows}


def go(out, suite="blobs", **settings):
    return api.run(suite, out=out, executor="inline", device="cpu", **settings)


def same(one, other, tolerance=0.0):
    assert one.keys() == other.keys()
    for key, value in one.items():
        if value is None:
            assert other[key] is None, key
        else:
            assert other[key] == pytest.approx(value, abs=tolerance), key


def test_a_run_ranks_truth_first_and_chance_last(tmp_path):
    run = go(tmp_path / "run")
    assert run.failures == []
    found = {row.explainer: row for row in run.rows if row.metric == "localisation_precision"}
    assert found["controls/oracle"].mean == 1
    assert found["controls/oracle"].rank == 1
    noise = found["fake/noise"]
    assert noise.low < noise.chance < noise.high
    assert found["fake/weights"].low > noise.high
    assert found["fake/weights"].rank < noise.rank


def test_running_again_computes_nothing_and_changes_no_byte(tmp_path):
    first = go(tmp_path / "run")
    files = {path: path.read_bytes() for path in (tmp_path / "run").rglob("*") if path.is_file()}
    again = go(tmp_path / "run")
    assert first.outcome.computed > 0
    assert again.outcome.computed == 0
    assert files.keys() == {path for path in (tmp_path / "run").rglob("*") if path.is_file()}
    changed = [path.name for path, content in files.items() if path.read_bytes() != content]
    assert set(changed) <= {"run.json"}


@pytest.mark.parametrize("batch", [1, 7, 64, 1000])
def test_batch_size_changes_no_score(tmp_path, batch):
    same(scores(go(tmp_path / "a", batch=13)), scores(go(tmp_path / "b", batch=batch)), 1e-6)


def test_more_samples_leave_the_scores_of_the_first_ones_alone(tmp_path):
    few, many = go(tmp_path / "few", limit=30), go(tmp_path / "many", limit=140)

    def columns(run):
        store = Store(run.folder)
        found = {}
        for key in store:
            record = store.read(key)
            if record.definition["explainer"]:
                ids = store.samples(record.definition["samples"])["ids"]
                values = record.arrays["score/deletion"]
                found[record.definition["explainer"]["text"]] = dict(zip(ids, values, strict=True))
        return found

    small, large = columns(few), columns(many)
    assert len(small["fake/noise"]) == 30
    for explainer, values in small.items():
        for sample, value in values.items():
            assert large[explainer][sample] == pytest.approx(value, abs=1e-6, nan_ok=True)


def test_another_seed_moves_the_noise_and_a_row_pools_seeds(tmp_path):
    one, two, both = (go(tmp_path / str(i), seed=seed) for i, seed in enumerate(("0", "1", "0,1")))
    key = ("fake/linear", "fake/noise", "deletion")
    assert scores(one)[key] != scores(two)[key]
    assert scores(both)[key] == pytest.approx((scores(one)[key] + scores(two)[key]) / 2)
    key = ("fake/linear", "controls/oracle", "localisation_precision")
    assert scores(one)[key] == scores(two)[key]


def test_undefined_explanations_are_counted_not_scored(tmp_path):
    run = go(tmp_path / "run")
    half = next(row for row in run.rows if row.explainer == "fake/half" and row.metric == "deletion")
    assert 0 < half.n_scored < half.n


def test_one_broken_explainer_costs_its_own_cells_only(tmp_path):
    broken = ["raises", "nan", "shape", "integers", "touches", "hooks", "refuses", "no_factory", "complains"]
    alone = go(tmp_path / "alone", explainer="fake/weights,fake/noise")
    names = ["fake/weights", *(f"fake/{name}" for name in broken), "fake/noise"]
    run = go(tmp_path / "run", explainer=",".join(names))
    same({key: value for key, value in scores(run).items() if key in scores(alone)}, scores(alone))
    status = {row.explainer: (row.status, row.reason) for row in run.rows if row.metric == "deletion"}
    assert status["fake/raises"] == ("error", "ValueError: no idea")
    assert status["fake/nan"][0] == "invalid_map"
    assert "NaN" in status["fake/nan"][1]
    assert status["fake/shape"][0] == "invalid_map"
    assert "is needed" in status["fake/shape"][1]
    assert status["fake/integers"][0] == "invalid_map"
    assert "changed the weights of weight" in status["fake/touches"][1]
    assert "changed the hooks" in status["fake/hooks"][1]
    assert status["fake/refuses"] == ("unsupported", "only works on Sundays")
    assert status["fake/no_factory"][0] == "error"
    assert len(run.failures) == len(broken)


def test_the_traceback_of_a_failure_is_kept(tmp_path):
    go(tmp_path / "run", explainer="fake/raises,fake/weights")
    (status,) = (tmp_path / "run" / "records").rglob("status.json")
    detail = json.loads(status.read_text())["detail"]
    assert "broken.py" in detail
    assert detail.rstrip().endswith("ValueError: no idea")


def test_a_run_of_which_nothing_can_be_computed_says_why(tmp_path):
    with pytest.raises(XbenchError, match="nothing can be computed: fake/elsewhere is for other"):
        go(tmp_path / "run", model="fake/elsewhere")


def test_a_failed_cell_is_tried_again(tmp_path):
    go(tmp_path / "run", explainer="fake/raises")
    again = go(tmp_path / "run", explainer="fake/raises")
    assert [status for _, status, _ in again.failures] == ["error"]


def test_a_damaged_slice_is_computed_again(tmp_path):
    first = go(tmp_path / "run")
    victim = sorted((tmp_path / "run" / "records").rglob("00000.*.safetensors"))[0]
    content = bytearray(victim.read_bytes())
    content[-1] ^= 1
    victim.write_bytes(bytes(content))
    again = go(tmp_path / "run")
    assert again.outcome.computed == 1
    same(scores(first), scores(again))


def test_a_wrapper_names_what_it_wraps(tmp_path):
    run = go(tmp_path / "run", explainer="fake/weights,fake/halved[of=fake/weights]")
    found = scores(run)
    name = ("fake/linear", "fake/halved[of=fake/weights]", "deletion")
    assert found[name] == found["fake/linear", "fake/weights", "deletion"]


def test_a_wrapped_model_keeps_its_net_its_recipe_and_its_parameters(tmp_path):
    plain, wrapped = "fake/learnt[epochs=2]", "fake/again[of=fake/learnt[epochs=2]]"
    run = go(tmp_path / "run", model=[plain, wrapped], explainer="fake/noise,controls/oracle")
    assert run.failures == []
    found = scores(run)
    assert {model for model, _, _ in found} == {plain, wrapped}
    for (model, explainer, metric), value in found.items():
        assert value == found[plain, explainer, metric], (model, explainer, metric)


def test_a_wrapped_model_is_for_the_data_of_the_one_inside(tmp_path):
    with pytest.raises(XbenchError, match="fake/linear has no training that fake/again could change"):
        go(tmp_path / "run", model="fake/again[of=fake/linear]")
    with pytest.raises(XbenchError, match="mnist/s2 is for mnist/"):
        go(tmp_path / "run", model="fake/again[of=mnist/s2]")
    with pytest.raises(XbenchError, match="without @"):
        go(tmp_path / "run", model="fake/again[of=fake/learnt@2]")


def test_a_model_for_other_data_is_unsupported_with_the_reason(tmp_path):
    run = go(tmp_path / "run", model="fake/linear,fake/elsewhere")
    row = next(row for row in run.rows if row.model == "fake/elsewhere" and row.explainer == "fake/weights")
    assert (row.status, row.mean) == ("unsupported", None)
    assert "not for fake/blobs" in row.reason


def test_an_explainer_with_a_fit_is_trained_once(tmp_path):
    first = go(tmp_path / "a", explainer="fake/trained")
    second = go(tmp_path / "b", explainer="fake/trained")
    assert (first.outcome.fitted, second.outcome.fitted) == (1, 0)
    same(scores(first), scores(second))


def test_a_training_that_fails_costs_its_own_cells_only(tmp_path):
    run = go(tmp_path / "run", explainer="fake/unfit,fake/weights")
    row = next(row for row in run.rows if row.explainer == "fake/unfit")
    assert row.status == "fit_failed"
    assert "the recipe is bad" in row.reason
    assert next(row for row in run.rows if row.explainer == "fake/weights").status == "ok"


def test_a_checkpoint_is_another_model(tmp_path):
    run = go(tmp_path / "run", model="fake/learnt@1,fake/learnt", explainer="gradients/gradient,controls/random")
    assert run.failures == []
    found = scores(run)
    assert (
        found["fake/learnt@1", "gradients/gradient", "deletion"]
        != found["fake/learnt", "gradients/gradient", "deletion"]
    )
    assert run.outcome.fitted == 1


def test_a_checkpoint_that_was_not_kept_says_so(tmp_path):
    with pytest.raises(XbenchError, match=r"fake/learnt@9: it is trained for \d epochs; one from 1 to"):
        go(tmp_path / "run", model="fake/learnt@9", explainer="controls/random")


def test_tables_hold_null_where_there_is_no_number(tmp_path):
    go(tmp_path / "run", explainer="fake/weights,fake/raises")
    rows = json.loads((tmp_path / "run" / "leaderboard" / "table.json").read_text())
    required = (
        "suite data protocol model explainer metric family mean low high n_scored n higher_is_better chance rank status"
    )
    assert all(set(required.split()) | {"seconds_per_image"} <= row.keys() for row in rows)
    broken = [row for row in rows if row["explainer"] == "fake/raises"]
    assert broken
    assert all(row["mean"] is row["low"] is row["rank"] is None for row in broken)


def test_target_may_be_a_class_the_label_or_the_prediction(tmp_path):
    found = {}
    for target in ("left", "label", "predicted"):
        run = go(tmp_path / target, target=target, explainer="fake/weights")
        store = Store(run.folder)
        record = next(r for r in map(store.read, store) if r.definition["explainer"])
        found[target] = record.arrays["target"].tolist()
        labels = store.samples(record.definition["samples"])["labels"]
        expected = {"left": [0] * 100, "label": labels, "predicted": record.arrays["predicted"].tolist()}
        assert found[target] == expected[target]


def test_a_target_that_is_no_class_is_refused_with_a_hint(tmp_path):
    with pytest.raises(XbenchError, match="did you mean 'right'"):
        go(tmp_path / "run", target="rihgt")


def test_a_device_that_is_not_there_is_refused(tmp_path):
    with pytest.raises(XbenchError, match="device=cuda:99"):
        api.run("blobs", out=tmp_path / "run", executor="inline", device="cuda:99")


def test_an_explainer_without_any_answer_has_rows_without_numbers(tmp_path):
    run = go(tmp_path / "run", explainer="fake/nowhere,fake/weights")
    rows = [row for row in run.rows if row.explainer == "fake/nowhere"]
    assert {row.status for row in rows} == {"undefined"}
    assert all(row.mean is None and row.blank_rate is None for row in rows)


@pytest.mark.parametrize(
    ("metric", "reason"),
    [
        ("forgetful", "did not return forgetful.chance"),
        ("endless", "infinite 'endless'"),
        ("unbounded", "outside its bounds 0 to 1"),
        ("meddling", "changed the images"),
    ],
)
def test_a_broken_metric_is_named_in_the_reason(tmp_path, metric, reason):
    run = go(tmp_path / "run", explainer="fake/weights", metric=f"deletion,{metric}")
    ((_, status, told),) = run.failures
    assert status == "error"
    assert reason in told
    assert metric in told or metric == "meddling"


def test_noise_from_torchs_own_generator_is_the_same_after_a_resume(tmp_path):
    go(tmp_path / "run", explainer="fake/torchs_own", limit=150)
    victim = sorted((tmp_path / "run" / "records").rglob("00001.*.safetensors"))[-1]
    content = victim.read_bytes()
    victim.unlink()
    again = go(tmp_path / "run", explainer="fake/weights,fake/torchs_own", limit=150)
    assert again.outcome.computed > 0
    assert victim.read_bytes() == content


def test_a_wrapper_reads_the_map_as_the_wrapped_explainer_means_it(tmp_path):
    run = go(tmp_path / "run", explainer="fake/weights,fake/background,fake/halved[of=fake/background]")
    found = {row.explainer: row.mean for row in run.rows if row.metric == "localisation_precision"}
    assert found["fake/background"] == pytest.approx(found["fake/weights"])
    assert found["fake/halved[of=fake/background]"] == pytest.approx(found["fake/weights"])


def test_a_wrapper_of_what_must_be_trained_is_unsupported(tmp_path):
    run = go(tmp_path / "run", explainer="fake/halved[of=fake/trained],fake/weights")
    row = next(row for row in run.rows if row.explainer == "fake/halved[of=fake/trained]")
    assert row.status == "unsupported"
    assert "which is trained" in row.reason


def test_a_second_run_in_a_folder_says_so_once_and_goes_on(tmp_path):
    from xbench.alone import alone
    from xbench.config import make_config
    from xbench.events import Note
    from xbench.plan import make_plan
    from xbench.plugins import discover

    registry = discover()
    settings = ["suite=blobs", f"out={tmp_path / 'run'}", "executor=inline", "device=cpu"]
    plan = make_plan(make_config(settings, registry))
    events = []
    with alone(tmp_path / "run") as first:
        outcome = api.execute(plan, registry, events.append)
    assert first
    assert (outcome.computed > 0, outcome.failures) == (True, ())
    (told,) = (event.text for event in events if isinstance(event, Note))
    assert told == f"another run is writing to {tmp_path / 'run'}: what it commits is not computed again"


def test_the_order_of_units_changes_neither_what_is_done_nor_that_it_is_done_once(tmp_path):
    from random import Random

    from xbench.config import make_config
    from xbench.plan import make_plan, units
    from xbench.plugins import discover

    settings = ["suite=blobs", f"out={tmp_path / 'run'}", "limit=none", "model=fake/linear,fake/learnt"]
    plan = make_plan(make_config(settings, discover()))
    places = [
        [(job.key, unit.part) for unit in units(plan, Store(tmp_path), draw=draw) for job in unit.jobs]
        for draw in (None, Random(1), Random(2))
    ]
    assert len(set(places[0])) == len(places[0]) > 20
    assert [sorted(each) for each in places] == [sorted(places[0])] * 3
    assert len({tuple(each) for each in places}) == 3


def test_a_damaged_table_of_samples_is_written_again(tmp_path):
    first = go(tmp_path / "run")
    for path in (tmp_path / "run" / "samples").iterdir():
        path.write_bytes(path.read_bytes()[:-9])
    same(scores(first), scores(go(tmp_path / "run")))


def test_one_sample_has_a_score_but_no_interval(tmp_path):
    run = go(tmp_path / "run", limit=1)
    row = next(row for row in run.rows if row.explainer == "controls/oracle" and row.metric == "deletion")
    assert row.mean is not None
    assert row.low is row.high is None
    assert {row.rank for row in run.rows if row.metric == "deletion" and row.mean is not None} == {1}


def test_a_key_holds_how_a_map_is_read(fakes):
    from dataclasses import replace

    from xbench.components import resolve
    from xbench.plugins import discover

    one = resolve("explainer", "fake/weights", discover(), [])
    other = replace(one, spec=replace(one.spec, polarity="positive"))
    assert one.definition() != other.definition()


def test_metrics_that_explain_again_run_on_trained_and_wrapped_explainers_and_cost_no_other_score(tmp_path):
    run = go(
        tmp_path / "run",
        model="fake/learnt,fake/linear",
        explainer="fake/half,fake/trained,fake/halved[of=fake/weights],controls/random",
        metric="deletion,mprt,efficient_mprt,random_logit,max_sensitivity[draws=2],shift_stability[pixels=1]",
        limit=20,
    )
    assert run.failures == []
    found = {(row.model, row.explainer, row.metric): row for row in run.rows}
    # A network without layers to draw afresh has no such score, and keeps the others.
    assert found["fake/linear", "controls/random", "mprt"].status == "unsupported"
    assert found["fake/linear", "controls/random", "deletion"].mean is not None
    for name in ("fake/half", "fake/trained", "controls/random"):
        assert found["fake/learnt", name, "mprt"].status in ("ok", "undefined")
        assert found["fake/learnt", name, "deletion"].mean is not None
    random = found["fake/learnt", "controls/random", "mprt"]
    assert random.low <= 0.1
    assert abs(random.mean) < 0.2


def test_a_run_records_how_much_of_its_time_was_inside_passes(tmp_path):
    explained = go(tmp_path / "run", explainer="fake/weights,controls/random")
    cost = json.loads((tmp_path / "run" / "cost.json").read_text())
    assert 0 < cost["device_busy"] == explained.outcome.device_busy < 1
    assert cost["device_busy"] == cost["network_seconds"] / cost["wall_seconds"]
    assert cost["slices"] == explained.outcome.computed > 0
    before = (tmp_path / "run" / "cost.json").read_bytes()
    assert go(tmp_path / "run", explainer="fake/weights,controls/random").outcome.device_busy is None
    assert (tmp_path / "run" / "cost.json").read_bytes() == before  # nothing was computed


def test_a_shortcut_is_recorded_with_its_deviation(tmp_path):
    metric = "deletion,deletion[steps=3],deletion[precision=bf16]"
    found = go(tmp_path / "run", explainer="fake/weights,controls/random", limit=60, metric=metric)
    for row in found.rows:
        if row.metric == "deletion":
            assert row.deviation is row.deviation_max is None
        else:
            assert abs(row.deviation) <= row.deviation_max < 0.2
    assert "shortcuts, by how much an explainer's mean" in (tmp_path / "run" / "leaderboard" / "table.md").read_text()


def test_why_a_metric_has_no_answer_stands_in_the_table_and_the_records(tmp_path):
    settings = {"explainer": "fake/weights,controls/random", "metric": "deletion,completeness", "limit": 20}
    for _ in range(2):  # the second time from the records alone
        rows = [row for row in go(tmp_path / "run", **settings).rows if row.metric == "completeness_error"]
        assert {row.status for row in rows} == {"unsupported"}
        assert all("promises nothing that its maps add up to" in row.reason for row in rows)


def test_truth_is_beaten_by_nobody_on_any_metric_of_localisation_and_noise_lands_at_chance(tmp_path):
    names = (
        "localisation_precision",
        "pointing_game",
        "relevance_mass",
        "average_precision",
        "mask_auroc",
        "iou_tuned",
    )
    metrics = ",".join((*names, "iou", "iou[threshold=half]"))
    found = go(tmp_path / "run", explainer="controls/*,fake/weights,fake/noise", metric=metrics, limit=120)
    by_metric = {}
    for row in found.rows:
        if row.mean is not None and row.family == "localisation":
            by_metric.setdefault(row.metric, {})[row.explainer] = row
    assert len(by_metric) == 8
    for rows in by_metric.values():
        assert rows["controls/oracle"].mean == max(row.mean for row in rows.values()) == pytest.approx(1)
        random = rows["controls/random"]
        assert random.chance is None or random.low <= random.chance <= random.high
