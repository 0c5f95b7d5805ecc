"""The suites themselves: their files are sound, and on real data they meet what their papers and this project promise."""

import math

import pytest

from xbench import api
from xbench.config import make_config
from xbench.plugins import discover

SUITES = sorted(discover().suites)


@pytest.mark.parametrize("protocol", ["quick", "paper"])
@pytest.mark.parametrize("suite", SUITES)
def test_every_protocol_of_every_suite_resolves(suite, protocol):
    config = make_config([f"suite={suite}", f"protocol={protocol}"], discover())
    assert config.models
    assert config.explainers
    assert config.primary in {name for metric in config.metrics for name, _ in metric.scores()}


def by_explainer(run, metric):
    return {row.explainer: row for row in run.rows if row.metric == metric and row.explainer}


def one(run, metric):
    return next(row for row in run.rows if row.metric == metric)


def nothing_failed(run):
    assert run.failures == []
    assert {row.status for row in run.rows} <= {"ok", "unsupported", "undefined"}
    assert all(row.reason for row in run.rows if row.status != "ok")


def localisation_is_sound(run):
    """Nothing above the oracle, the random control at chance."""
    found = by_explainer(run, "localisation_precision")
    best = found["controls/oracle"]
    assert best.mean == 1
    scored = [row for row in found.values() if row.mean is not None]
    assert max(row.mean for row in scored) <= best.mean
    random = found["controls/random"]
    assert random.low <= random.chance <= random.high
    blank = found["controls/constant"]
    assert blank.mean == pytest.approx(blank.chance)
    assert blank.blank_rate == 1


@pytest.mark.slow
def test_chestxray_quick_ranks_explainers_against_known_truth(tmp_path):
    names = "controls/*,gradients/gradient,cam/gradcam_pp,translation/ag_cyclegan"
    run = api.run("chestxray", out=tmp_path / "run", device="cpu", explainer=names)
    nothing_failed(run)
    localisation_is_sound(run)
    assert 0.94 <= one(run, "accuracy").mean <= 0.995
    ring = by_explainer(run, "difference_precision")
    assert ring["controls/oracle_difference"].mean == 1
    assert ring["controls/random"].low <= ring["controls/random"].chance <= ring["controls/random"].high
    # Translation explains what changes the class where Grad-CAM++ does not (S0), and beats the paper's rates of validity.
    assert ring["translation/ag_cyclegan"].low > 1.5 * ring["cam/gradcam_pp"].high
    for source, paper in (("normal", 0.577), ("enlarged", 0.612)):
        assert by_explainer(run, f"validity[from={source}]")["translation/ag_cyclegan"].low > paper
    for control in ("noise_flip_rate", "swapped_flip_rate"):
        assert by_explainer(run, control)["translation/ag_cyclegan"].mean < 0.2
    distance = by_explainer(run, "counterfactual_distance")["translation/ag_cyclegan"]
    assert distance.high < distance.chance
    assert by_explainer(run, "oracle_validity")["translation/ag_cyclegan"].low > 0.8


@pytest.mark.slow
def test_anole_quick_shows_the_perch_that_a_plain_training_learns(tmp_path):
    run = api.run(
        "anole", out=tmp_path / "run", device="cpu", limit=40, model="anole/slim", explainer="controls/*,cam/gradcam"
    )
    nothing_failed(run)
    localisation_is_sound(run)
    assert 0.7 <= one(run, "accuracy").mean <= 0.93
    assert one(run, "swap_flip_rate").low > 0.1
    found = by_explainer(run, "localisation_precision")
    assert found["cam/gradcam"].low > found["controls/random"].high


@pytest.mark.slow
def test_mnist_quick_runs_on_the_bundled_digits(tmp_path):
    run = api.run("mnist", out=tmp_path / "run", device="cpu", limit=60)
    nothing_failed(run)
    localisation_is_sound(run)
    assert one(run, "accuracy").mean >= 0.94


@pytest.mark.slow
@pytest.mark.realdata
def test_mnist_on_real_files(tmp_path, real_data):
    run = api.run(
        "mnist", out=tmp_path / "run", device="cpu", data="mnist/mnist", limit=200, explainer="controls/*,gradients/*"
    )
    nothing_failed(run)
    localisation_is_sound(run)
    accuracy = one(run, "accuracy")
    assert accuracy.n == 10_000
    assert accuracy.mean >= 0.985
    deletion = by_explainer(run, "deletion")
    chance = deletion["controls/random"]
    for name in ("gradients/gradient", "gradients/smoothgrad", "gradients/input_x_gradient"):
        assert deletion[name].high < chance.low, name


@pytest.mark.slow
@pytest.mark.realdata
def test_chestxray_on_real_films(tmp_path, real_data):
    root = real_data / "nih"
    names = "controls/*,gradients/*,cam/gradcam"
    run = api.run(
        "chestxray",
        out=tmp_path / "run",
        device="cpu",
        data="chestxray/nih",
        data_root=root,
        data_size=64,
        explainer=names,
    )
    nothing_failed(run)
    localisation_is_sound(run)
    auroc = one(run, "auroc")
    assert auroc.mean >= 0.75
    assert auroc.low < auroc.mean < auroc.high
    boxed = by_explainer(run, "localisation_precision")["cam/gradcam"]
    assert boxed.n_scored == 9
    assert boxed.n == 200


@pytest.mark.gpu
@pytest.mark.slow
def test_the_mnist_suite_on_cuda_equals_the_cpu(tmp_path):
    runs = [api.run("mnist", out=tmp_path / device, device=device, limit=100) for device in ("cpu", "cuda")]
    nothing_failed(runs[1])
    scores = [{(row.explainer, row.metric): row.mean for row in run.rows} for run in runs]
    assert scores[0].keys() == scores[1].keys()
    for key, value in scores[0].items():
        other = scores[1][key]
        assert (value is None) == (other is None), key
        assert value is None or math.isclose(value, other, abs_tol=1e-4), (key, value, other)
