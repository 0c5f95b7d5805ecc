"""Agreement of metrics: two orders that are the same agree fully, better is always up, and the interval is the samples'."""

import numpy as np
import pytest
from scipy.stats import spearmanr

from xbench import api
from xbench.cli import main
from xbench.errors import XbenchError
from xbench.store import Store
from xbench.trust import agreement, trust


def columns(**scores):
    """One column a score: explainers a, b, ... with means and resamples that scatter around them."""
    rng = np.random.default_rng(0)
    return {
        score: {name: (mean, mean + rng.normal(0, 0.01, 500)) for name, mean in zip("abcdefgh", means, strict=False)}
        for score, means in scores.items()
    }


def test_the_same_order_agrees_fully_and_the_opposite_one_not_at_all():
    made = columns(one=[1, 2, 3, 4, 5], same=[10, 20, 30, 40, 50], opposite=[5, 4, 3, 2, 1])
    assert (agreement("one", "same", made).rho, agreement("one", "opposite", made).rho) == (1, -1)
    found = agreement("one", "same", made)
    assert (found.low, found.high, found.explainers) == (1, 1, 5)


def test_it_is_spearmans_correlation_with_ties_sharing_ranks():
    one, other = [1.0, 2, 2, 3, 0, 7], [3.0, 1, 1, 4, 1, 5]
    assert agreement("one", "other", columns(one=one, other=other)).rho == pytest.approx(
        spearmanr(one, other).statistic
    )


def test_an_order_that_the_samples_do_not_fix_has_a_wide_interval():
    near = columns(one=[1, 2, 3, 4, 5], near=[1, 1.001, 1.002, 1.003, 1.004])
    found = agreement("one", "near", near)
    assert found.rho == 1
    assert found.low < 0.5


def test_all_alike_agree_with_nothing_and_three_are_too_few():
    made = columns(one=[1, 2, 3, 4], flat=[1, 1, 1, 1], few=[1, 2, 3])
    made["flat"] = {name: (1.0, np.ones(500)) for name in "abcd"}
    assert np.isnan(agreement("one", "flat", made).rho)
    assert agreement("one", "few", made).explainers == 3
    assert np.isnan(agreement("one", "few", made).rho)


@pytest.mark.usefixtures("fakes")
def test_of_a_run_controls_are_left_out_and_lower_scores_turned(tmp_path, capsys):
    explainers = "fake/weights,fake/noise,fake/background,fake/half,fake/torchs_own,controls/oracle,controls/random"
    api.run("blobs", out=tmp_path / "run", executor="inline", device="cpu", limit=60, explainer=explainers)
    (found,) = trust([Store(tmp_path / "run")], "localisation_precision")
    assert {pair.explainers for pair in found.with_truth} == {5}
    assert all(pair.other == "localisation_precision" for pair in found.with_truth)
    # Deletion, whose lower values are better, orders weights that are known to be right before noise.
    deletion = next(pair for pair in found.with_truth if pair.one == "deletion")
    assert deletion.rho > 0
    assert main(["trust", str(tmp_path / "run")]) == 0
    assert "deletion" in capsys.readouterr().out
    for wrong, said in (
        ("localization_precision", "'localization_precision' orders no explainers here; did you mean"),
    ):
        with pytest.raises(XbenchError, match=said):
            trust([Store(tmp_path / "run")], wrong)
    assert trust([Store(tmp_path / "run")], primary="deletion")[0].truth == found.truth == "localisation_precision"
