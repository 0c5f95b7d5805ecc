"""A map that shows nothing is counted once, under its one cause, at the tolerance that is stated."""

import pytest
import torch
from torch import nn

from xbench.checks import checked
from xbench.metrics.blankness import CAUSES, blankness
from xbench.models import Model
from xbench.scene import Backdrop, Scene
from xbench.seeds import sample_keys
from xbench.tensors import Batch, Explanation


class Flat(nn.Module):
    def forward(self, x):
        return x.flatten(1)[:, :2]


def scene(maps, **extras):
    n = len(maps)
    ids = tuple(map(str, range(n)))
    label = torch.zeros(n, dtype=torch.long)
    batch = Batch(torch.rand(n, 1, *maps.shape[1:]), ids, label, label, sample_keys(0, ids))
    explanation = checked(Explanation(maps, extras={k: torch.tensor(v) for k, v in extras.items()}), batch)
    return Scene(Backdrop(Model(Flat()), batch, torch.zeros(1)), explanation)


def causes(scored):
    found = []
    for i, blank in enumerate(scored["blank_rate"].tolist()):
        names = [name for name in CAUSES if scored[f"{name}_rate"][i]]
        assert len(names) == blank
        found.append(names[0] if names else "ok")
    return found


def bump(height, n=1):
    maps = torch.zeros(n, 4, 4)
    maps[:, 1, 2] = height
    return maps


def test_every_map_is_sound_or_blank_for_one_cause():
    maps = torch.cat([bump(1.0), torch.zeros(1, 4, 4), torch.full((1, 4, 4), 3.0), bump(float("nan")), -bump(1.0)])
    assert causes(blankness(0.0)(scene(maps))) == ["ok", "vanished", "constant", "nonfinite", "ok"]


@pytest.mark.parametrize("tolerance", [0.0, 1e-3, 0.1])
def test_a_map_is_blank_up_to_the_tolerance_of_what_a_full_map_reaches(tolerance):
    heights = [0.0, 0.5e-3, 2e-3, 0.05, 0.2]
    maps = torch.cat([bump(height) for height in heights])
    full = [1.0] * 5
    scored = blankness(tolerance)(scene(maps, reference=full))
    assert scored["blank_rate"].tolist() == [float(height <= tolerance) for height in heights]
    assert scored["vanished_rate"].tolist() == scored["blank_rate"].tolist()
    # On a scale of its own a map is full, however small.
    alone = blankness(tolerance)(scene(maps))
    assert alone["blank_rate"].tolist() == [1, 0, 0, 0, 0]


def test_the_tolerance_follows_the_scale_of_the_full_map():
    maps = bump(1e-6, 2)
    assert blankness(1e-2)(scene(maps, reference=[1e-6, 1.0]))["blank_rate"].tolist() == [0, 1]


def test_weights_that_sum_to_nothing_positive_are_all_negative_and_faded_weights_have_vanished():
    maps = torch.zeros(3, 4, 4)
    found = scene(
        maps, reference=[1.0] * 3, weight=[0.5, 1e-6, 0.0], reference_weight=[0.5] * 3, signed_max=[-0.1, -1e-8, 0.0]
    )
    assert causes(blankness(0.0)(found)) == ["all_negative", "all_negative", "vanished"]
    assert causes(blankness(1e-3)(found)) == ["all_negative", "vanished", "vanished"]


def test_a_raw_flat_map_is_constant_unless_it_is_nothing_on_the_scale_of_the_full_one():
    found = scene(torch.stack([torch.full((4, 4), 1.0), torch.full((4, 4), 1e-9)]), reference=[1.0, 1.0])
    assert causes(blankness(1e-6)(found)) == ["constant", "vanished"]


def test_blank_by_the_metric_without_a_tolerance_is_blank_to_the_ranking():
    maps = torch.cat([bump(1.0), torch.full((1, 4, 4), 2.0), torch.full((1, 4, 4), 2.0) + bump(2.0 * 2**-18)])
    found = scene(maps)
    assert blankness(0.0)(found)["blank_rate"].bool().tolist() == found.blank.tolist() == [False, True, True]


@pytest.mark.parametrize("tolerance", [-0.1, 1.0, 2.0])
def test_a_tolerance_that_is_no_fraction_is_refused(tolerance):
    with pytest.raises(ValueError, match="tolerance="):
        blankness(tolerance)
