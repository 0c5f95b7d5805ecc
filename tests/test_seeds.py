"""The noise is uniform, uncorrelated, and the same for a sample whatever company it is in."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from xbench import seeds

GOLDEN = [[2447345996, 1785075294], [1593128241, 1058037174]]
N_SAMPLES, N_POSITIONS = 64, 4096
IDS = [f"{i:05d}" for i in range(N_SAMPLES)]
# All draws are fixed, so nothing here can flicker; true noise is outside these bounds once in 10,000 times.
Z = stats.norm.isf(0.5e-4)


def keys(seed=0, ids=IDS):
    return seeds.sample_keys(seed, ids)


def correlation(a, b):
    return float(np.corrcoef(a.flatten().double(), b.flatten().double())[0, 1])


@pytest.fixture(scope="module")
def uniform():
    return seeds.uniform(keys(), "test", (N_POSITIONS,))


def test_integers_match_a_slow_reference_in_python_integers():
    def mix(value):
        value = (value ^ (value >> 16)) * 0x7FEB352D % 2**32
        value = (value ^ (value >> 15)) * 0x846CA68B % 2**32
        return value ^ (value >> 16)

    words = keys()[:3]
    for draw in (0, 7):
        salt = seeds.stable_int("test", draw, bits=64)
        expected = []
        for first, second in words.tolist():
            high = mix(first ^ (salt >> 32))
            low = mix(((second ^ (salt % 2**32)) + high) % 2**32)
            expected.append([mix((mix(position ^ high) + low) % 2**32) for position in range(50)])
        assert seeds.integers(words, "test", (50,), draw).tolist() == expected


def test_integers_stay_what_published_records_were_made_from():
    drawn = seeds.integers(seeds.sample_keys(0, ["a", "b"]), "stream", (2,), draw=1)
    assert drawn.dtype == torch.int64
    assert drawn.tolist() == GOLDEN


def test_uniform_is_float32_in_steps_on_zero_to_one(uniform):
    assert uniform.dtype == torch.float32
    assert uniform.shape == (N_SAMPLES, N_POSITIONS)
    assert 0 <= uniform.min() < 1e-4
    assert 1 - 1e-4 < uniform.max() < 1
    assert torch.equal(uniform * 2**24, (uniform * 2**24).round())


@pytest.mark.parametrize("power", [1, 2, 3, 4])
def test_moments_of_uniform(uniform, power):
    spread = math.sqrt((1 / (2 * power + 1) - 1 / (power + 1) ** 2) / uniform.numel())
    assert abs(float((uniform.double() ** power).mean()) - 1 / (power + 1)) < Z * spread


@pytest.mark.parametrize("seed", [0, 1, 2])
@pytest.mark.parametrize("shift", [28, 8, 0], ids=["high bits", "middle bits", "low bits"])
def test_chi_square_of_sixteen_bins(seed, shift):
    values = seeds.integers(keys(seed), "bins", (N_POSITIONS,)) >> shift & 15
    counts = np.bincount(values.flatten().numpy(), minlength=16)
    assert 1e-4 < stats.chisquare(counts).pvalue < 1 - 1e-4


@pytest.mark.parametrize("position", [0, 1, 2, 100])
def test_chi_square_of_sixteen_bins_across_samples_at_one_position(position):
    values = seeds.uniform(keys(ids=[f"image {i}" for i in range(4000)]), "bins", (position + 1,))[:, position]
    counts = np.bincount((values * 16).long().numpy(), minlength=16)
    assert 1e-4 < stats.chisquare(counts).pvalue < 1 - 1e-4


@pytest.mark.parametrize("lag", [1, 2, 3, 4, 8, 16, 28, 64, 224, 256])
def test_positions_are_uncorrelated(uniform, lag):
    assert abs(correlation(uniform[:, lag:], uniform[:, :-lag])) < Z / math.sqrt(uniform[:, lag:].numel())


@pytest.mark.parametrize("lag", [1, 2, 10])
def test_samples_are_uncorrelated(uniform, lag):
    assert abs(correlation(uniform[lag:], uniform[:-lag])) < Z / math.sqrt(uniform[lag:].numel())


@pytest.mark.parametrize(
    "other",
    [
        pytest.param(lambda: seeds.uniform(keys(), "test", (N_POSITIONS,), draw=1), id="draw"),
        pytest.param(lambda: seeds.uniform(keys(), "tesu", (N_POSITIONS,)), id="stream"),
        pytest.param(lambda: seeds.uniform(keys(seed=1), "test", (N_POSITIONS,)), id="seed"),
        pytest.param(
            lambda: seeds.uniform(keys(), "test", (N_POSITIONS + 1,), draw=1)[:, 1:], id="draw, next position"
        ),
    ],
)
def test_draws_streams_and_seeds_are_uncorrelated(uniform, other):
    assert abs(correlation(uniform, other())) < Z / math.sqrt(uniform.numel())


def test_no_two_samples_draws_or_streams_share_noise():
    drawn = torch.cat([seeds.integers(keys(), stream, (4,), draw) for stream in ("a", "b") for draw in range(20)])
    assert len(drawn.unique(dim=0)) == len(drawn)


@settings(max_examples=25, deadline=None, derandomize=True)
@given(data=st.data())
def test_noise_of_a_sample_is_the_same_bytes_in_any_batch(data):
    order = data.draw(st.permutations(range(8)))
    cuts = sorted(data.draw(st.sets(st.integers(1, 7), max_size=4)))
    whole = seeds.sample_keys(3, IDS[:8])
    for draw_noise in (
        lambda some: seeds.uniform(some, "a", (3, 5)),
        lambda some: seeds.normal(some, "a", (3, 5), 2),
        lambda some: seeds.permutation(some, "a", 15),
    ):
        expected = draw_noise(whole)[order]
        bounds = zip([0, *cuts], [*cuts, 8], strict=True)
        parts = [draw_noise(seeds.sample_keys(3, [IDS[i] for i in order[start:stop]])) for start, stop in bounds]
        assert torch.cat(parts).numpy().tobytes() == expected.numpy().tobytes()


def test_normal_has_the_moments_of_the_standard_normal():
    values = seeds.normal(keys(), "test", (N_POSITIONS,))
    assert values.dtype == torch.float32
    exact = values.double()
    for power, moment in ((1, 0), (2, 1), (3, 0), (4, 3)):
        # Var(z^p) = E z^2p - (E z^p)^2, with E z^2, z^4, z^6, z^8 = 1, 3, 15, 105.
        spread = math.sqrt(({1: 1, 2: 3, 3: 15, 4: 105}[power] - moment**2) / values.numel())
        assert abs(float((exact**power).mean()) - moment) < Z * spread


def test_normal_is_distributed_as_the_normal_and_uncorrelated():
    values = seeds.normal(keys(), "test", (N_POSITIONS,))
    assert stats.kstest(values[:16].flatten().numpy(), "norm").pvalue > 1e-4
    assert abs(correlation(values[:, 1:], values[:, :-1])) < Z / math.sqrt(values[:, 1:].numel())
    assert abs(correlation(values, seeds.normal(keys(), "test", (N_POSITIONS,), 1))) < Z / math.sqrt(values.numel())
    # Radius and angle share nothing: otherwise squares of neighbours, or of |z|, would be tied.
    assert abs(correlation(values[1:] ** 2, values[:-1] ** 2)) < Z / math.sqrt(values[1:].numel())


def test_permutation_is_a_permutation_and_each_place_is_equally_likely():
    drawn = seeds.permutation(keys(ids=[str(i) for i in range(6000)]), "test", 6)
    assert drawn.dtype == torch.int64
    assert torch.equal(drawn.sort(dim=1).values, torch.arange(6).expand(6000, 6))
    for place in range(6):
        assert stats.chisquare(np.bincount(drawn[:, place].numpy(), minlength=6)).pvalue > 1e-4


def test_keys_differ_by_seed_and_by_sample():
    drawn = torch.cat([keys(seed) for seed in range(5)])
    assert drawn.shape == (5 * N_SAMPLES, 2)
    assert drawn.dtype == torch.int64
    assert drawn.min() >= 0
    assert drawn.max() < 2**32
    assert len(drawn.unique(dim=0)) == len(drawn)
    assert len(drawn[:, 0].unique()) == len(drawn[:, 1].unique()) == len(drawn)


def test_keys_of_no_samples():
    assert seeds.sample_keys(0, []).shape == (0, 2)
    assert seeds.uniform(seeds.sample_keys(0, []), "a", (2, 3)).shape == (0, 2, 3)


@settings(max_examples=25, deadline=None, derandomize=True)
@given(st.lists(st.text(), min_size=1, max_size=3), st.integers(1, 64))
def test_stable_int_stays_below_its_bound(parts, bits):
    assert 0 <= seeds.stable_int(*parts, bits=bits) < 2**bits


def test_stable_int_keeps_its_parts_apart():
    assert seeds.stable_int("ab", "c") != seeds.stable_int("a", "bc")
    assert seeds.stable_int(1, "2") == seeds.stable_int("1", 2)


@pytest.mark.gpu
def test_gpu_draws_the_same_integers():
    drawn = seeds.integers(keys().cuda(), "test", (N_POSITIONS,))
    assert torch.equal(drawn.cpu(), seeds.integers(keys(), "test", (N_POSITIONS,)))
