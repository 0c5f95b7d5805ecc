"""What is left of a table of several metrics when one of them fails."""

import pytest
import quantus

QUIET = {"disable_warnings": True, "display_progressbar": False}


def test_known_defect_quantus_loses_all_results_when_one_metric_fails(case):
    """Its evaluate prints the error and then looks up a result that was never stored."""
    made = case(side=10, channels=3)  # ROAD fails on images in colour

    def evaluated(metrics):
        return quantus.evaluate(
            metrics=metrics,
            xai_methods={"maps": made.maps[:, None].numpy()},
            model=made.net,
            x_batch=made.image.numpy(),
            y_batch=made.target.numpy(),
            s_batch=(made.maps > 0.3)[:, None].numpy(),
        )

    good = {"rank": quantus.RelevanceRankAccuracy(return_aggregate=True, **QUIET)}
    assert "rank" in evaluated(good)["maps"]
    with pytest.raises(KeyError, match="call_kwargs_empty"):
        evaluated(good | {"road": quantus.ROAD(percentages=[50], **QUIET)})
