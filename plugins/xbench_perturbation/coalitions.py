"""Which players to leave in a game whose Shapley values are wanted, and how much each choice weighs."""

import itertools
import math

import torch
from torch import Tensor

from xbench.seeds import integers, sample_keys


def shapley_coalitions(players: int, count: int, draw: int = 0) -> tuple[Tensor, Tensor]:
    """Return coalitions that stand for the Shapley kernel, the whole and the empty one left out.

    Sizes s and M-s together weigh 1/(s (M-s)) for each of the two. From the outermost sizes inwards, all coalitions of a
    pair of sizes are taken as long as the kernel asks for each of them at least once; size 1 always. What is left of the
    budget goes to random coalitions of the sizes left, in proportion to their weight, each with its complement (Lundberg
    and Lee 2017, section 4.1, and the authors' code; Covert and Lee 2021 on complements). With ``count`` of 2**M or more
    all coalitions are there.

    Dropping a player from all coalitions leaves coalitions that stand for the kernel of the other players.

    Parameters
    ----------
    players
        M, 1 or more.
    count
        The most coalitions, the whole and the empty one included: at least ``fewest(players)``.
    draw
        Another number gives other random coalitions.

    Returns
    -------
    present [N,M] bool with N <= count - 2, and their weights [N] float64: they add up to 1, or to the part of the single
    players and their complements where the budget ends with them.
    """
    sizes = range(1, players // 2 + 1)
    mass = {s: _pairs(players, s) / (s * (players - s)) for s in sizes}
    total = sum(mass.values())
    budget = count - 2
    chosen: list[Tensor] = [torch.zeros(0, players, dtype=torch.bool)]
    weights: list[Tensor] = [torch.zeros(0, dtype=torch.float64)]
    rest = list(sizes)
    for s in sizes:
        left = sum(mass[size] for size in rest)
        number = math.comb(players, s) * _pairs(players, s)
        if s > 1 and budget * mass[s] / left < number:
            break
        members = torch.tensor(list(itertools.combinations(range(players), s)))
        present = torch.zeros(len(members), players, dtype=torch.bool).scatter_(1, members, True)
        chosen += [present, ~present] if _pairs(players, s) == 2 else [present]
        weights.append(torch.full((number,), mass[s] / total / number, dtype=torch.float64))
        budget -= number
        rest.remove(s)
    if rest and budget >= 2:
        pairs = budget // 2
        shares = torch.tensor([mass[s] for s in rest], dtype=torch.float64)
        # The sizes themselves are not random: each comes as often as its weight says.
        quantile = (torch.arange(pairs, dtype=torch.float64) + 0.5) / pairs * shares.sum()
        size = torch.tensor(rest)[torch.searchsorted(shares.cumsum(dim=0), quantile)]
        noise = integers(sample_keys(draw, ("masks",)), "perturbation/kernel_shap", (pairs, players))[0]
        present = noise.argsort(dim=1, stable=True).argsort(dim=1) < size[:, None]
        chosen += [present, ~present]
        weights.append(torch.full((2 * pairs,), float(shares.sum()) / total / (2 * pairs), dtype=torch.float64))
    return torch.cat(chosen), torch.cat(weights)


def fewest(players: int) -> int:
    """Return the least ``count`` of `shapley_coalitions`: with all single players the regression has one solution."""
    return min(1 << players, 2 * players + 2)


def _pairs(players: int, size: int) -> int:
    return 1 if 2 * size == players else 2
