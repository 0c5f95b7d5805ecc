"""Missing pixels from their neighbours: the linear system of ROAD, solved for many images and masks at once.

A removed pixel is the weighted mean of its 8 neighbours, 1/6 for those that share an edge and 1/12 for those that share a
corner; neighbours outside the image are left out and the other weights scaled up to the sum 1 (Rong, Leemann, Borisov,
Kasneci, Kasneci, "A consistent and efficient evaluation strategy for attribution methods", ICML 2022).

Each row times 12 and its sum of weights inside the image is symmetric: row sum - [1 2 1]' [1 2 1] + 4, a graph's Laplacian
with whole numbers in it, so that rounding has no direction. Its product with an image is eight additions. Conjugate gradients
solve it, preconditioned by one multigrid cycle (one Jacobi sweep before and after, bilinear interpolation between the even
pixels of a grid and all of them). In two dimensions a coarse grid has the same stencil. What it knows of the pixels that are
kept is a penalty on the diagonal, added up from the finer grid but never worth more than a neighbourhood: so an isolated
pixel fades with the logarithm of the spacing, as in the plane. 4 to 11 iterations suffice, whatever the mask.
"""

import torch
from torch import Tensor
from torch.nn import functional as F

TOLERANCE = 5e-5
"""An image is done when its preconditioned residual, an estimate of the error, is nowhere larger: in units of the image.

The last one is then added, so that the true error is about half of it at most, well below the noise of .01 that follows.
"""

_MOST = 100
_SMALLEST = 7
_SWEEPS = 4
_SCALE = 12.0
_PIECE = {"cpu": 28 * 28 * 64, "cuda": 2**25}
"""Numbers solved for at once: on a CPU few, so that all buffers stay in a core's own cache."""


class LinearImputer:
    """Fills removed pixels; it keeps its working memory between calls.

    Parameters
    ----------
    tolerance
        See `TOLERANCE`; float32 reaches about 5e-6.

    Attributes
    ----------
    iterations
        Of every solve so far.
    """

    def __init__(self, tolerance: float = TOLERANCE) -> None:
        self.tolerance = tolerance
        self.iterations: list[int] = []
        self._solvers: dict[object, _Solver] = {}

    def __call__(self, image: Tensor, removed: Tensor) -> Tensor:
        """Return images whose removed pixels are the weighted means of their neighbours.

        The masks may all differ. A result does not depend on what else is in the batch but for rounding.

        Parameters
        ----------
        image
            [B,C,H,W] float32 or float64; values of removed pixels are not looked at.
        removed
            [B,H,W] bool, shared by the channels.

        Returns
        -------
        [B,C,H,W]: the image where it is kept, the imputed values elsewhere.

        Raises
        ------
        ValueError
            Every pixel of an image is removed.
        RuntimeError
            It does not converge, as of an image that is not finite.
        """
        values = image[0].numel()
        together = max(1, _PIECE.get(image.device.type, _PIECE["cpu"]) // values)
        found = torch.empty_like(image)
        for part, mask, out in zip(*(tensor.split(together) for tensor in (image, removed, found)), strict=True):
            key = (part.shape, part.dtype, part.device)
            if key not in self._solvers:
                self._solvers[key] = _Solver(part)
            self._solvers[key].solve(part, mask[:, None], self.tolerance, out)
            self.iterations.append(self._solvers[key].iterations)
        return found


class _Level:
    """One grid of the multigrid cycle and its working memory; tensors [B,C,H+2,W+2] have a margin of zeros."""

    def __init__(self, like: Tensor, height: int, width: int) -> None:
        padded = (*like.shape[:2], height + 2, width + 2)
        self.total, self.rest, self.found, self.spread, self.right = (like.new_zeros(padded) for _ in range(5))
        n, w = self.total.numel(), width + 2
        one, two = like.new_zeros(n), like.new_zeros(n)
        # Views of two flat buffers and of the result: sums of neighbours in rows, then in columns.
        self._first = one[: n - 1]
        self._steps = (
            (one[1 : n - 1], one[: n - 2], two[: n - 2]),
            (two[w : n - 2], two[: n - 2 - w], one[: n - 2 - w]),
            (one[w : n - 2 - w], one[: n - 2 - 2 * w], self.total.view(-1)[w + 1 : n - w - 1]),
        )
        self._pairs: dict[int, tuple[Tensor, Tensor]] = {}
        self._even = self.halved(self.total), self.halved(self.spread)
        self.inside = _inner(self.right), _inner(self.found)
        inside = like.new_ones(1, 1, height, width)
        self.rows = _inner(_box(_padded(inside)))
        # 4 is the pixel's own weight in the box; in an image of one pixel there is nothing else.
        self.least = 1 / (self.rows - 4).clamp(min=1)
        self._pooled = (4 / self.rows)[..., ::2, ::2]
        grid = torch.zeros_like(inside)
        grid[..., ::2, ::2] = 1
        self.share = 1 / _inner(_box(_padded(grid)))
        fields = (len(like), 1, height + 2, width + 2)
        self.diagonal, self.step, self.weight = (like.new_zeros(fields) for _ in range(3))
        small = max(height, width) <= _SMALLEST
        self.coarse = None if small else _Level(like, (height + 1) // 2, (width + 1) // 2)

    def prepare(self, kept: Tensor) -> None:
        """Set up the finest grid for kept pixels [B,1,H,W] (0 or 1): they have no steps and no part in coarser grids."""
        removed = 1 - kept
        _inner(self.diagonal).copy_(self.rows)
        torch.mul(removed, self.least, out=_inner(self.step))
        if self.coarse is not None:
            torch.mul(removed, self.share, out=_inner(self.weight))
            self.coarse.penalise(self.gathered(_SCALE * kept))

    def penalise(self, penalty: Tensor) -> None:
        """Set up a coarser grid, whose pixels [B,1,H,W] are all unknown, with a penalty on each."""
        diagonal = self.rows + penalty
        _inner(self.diagonal).copy_(diagonal)
        _inner(self.step).copy_(1 / (diagonal - 4).clamp(min=1))
        if self.coarse is not None:
            _inner(self.weight).copy_(self.share)
            self.coarse.penalise(self.gathered(_SCALE * penalty / (_SCALE + penalty)))

    def gathered(self, worth: Tensor) -> Tensor:
        """Return penalties of this grid, each worth [B,1,H,W] at most a neighbourhood, added up on the coarser one."""
        _inner(self.right).copy_(worth)
        return self.halved(self.box(self.right))[:, :1] * self._pooled

    def box(self, value: Tensor) -> Tensor:
        """Return the sums over 3x3 pixels with weights [1 2 1]' [1 2 1]; the result is overwritten by the next call.

        ``value`` is one of the buffers, for its views are kept: on small images making them costs as much as adding.
        """
        if (pair := self._pairs.get(id(value))) is None:
            flat = value.view(-1)
            pair = self._pairs[id(value)] = flat[1:], flat[:-1]
        torch.add(*pair, out=self._first)
        for one, other, out in self._steps:
            torch.add(one, other, out=out)
        return self.total

    def residual(self, right: Tensor, value: Tensor) -> Tensor:
        """Return right - A value, wrong where pixels are kept; the result is overwritten by the next call."""
        torch.addcmul(right, self.diagonal, value, value=-1, out=self.rest)
        return self.rest.add_(self.box(value))

    @staticmethod
    def halved(value: Tensor) -> Tensor:
        """Return a view of the pixels that the coarser grid has too."""
        return value[..., 1:-1:2, 1:-1:2]

    def cycle(self, right: Tensor) -> Tensor:
        """Return about A^-1 right by one symmetric cycle; the result is overwritten by the next call."""
        found = torch.mul(right, self.step, out=self.found)
        if self.coarse is None:
            for _ in range(_SWEEPS):
                found.addcmul_(self.residual(right, found), self.step)
            return found
        # The residual of one sweep from nothing: right - diagonal * right / (diagonal - 4) is -4 found.
        rest = torch.add(self.box(found), found, alpha=-4, out=self.rest).mul_(self.weight)
        self.box(rest)
        self.coarse.inside[0].copy_(self._even[0])
        self.coarse.cycle(self.coarse.right)
        self._even[1].copy_(self.coarse.inside[1])
        found.addcmul_(self.box(self.spread), self.weight)
        return found.addcmul_(self.residual(right, found), self.step)


class _Solver:
    """Conjugate gradients for batches of one shape."""

    def __init__(self, like: Tensor) -> None:
        self.level = _Level(like, *like.shape[2:])
        self.value, self.right, self.path, self.scratch = (torch.zeros_like(self.level.total) for _ in range(4))
        self.iterations = 0

    def solve(self, image: Tensor, removed: Tensor, tolerance: float, out: Tensor) -> None:
        """Write images [B,C,H,W] to ``out``, their removed pixels [B,1,H,W] imputed."""
        level, value, right, path, scratch = self.level, self.value, self.right, self.path, self.scratch
        # Whole, margins too: an image that was not finite must not be remembered.
        value.zero_()
        path.zero_()
        kept = (~removed).to(image)
        count = kept.sum(dim=(2, 3), keepdim=True)
        if not count.all():
            raise ValueError("every pixel of an image is removed: nothing is left to impute from")
        level.prepare(kept)
        # The mean first: what is left to compute is small, and of a constant image nothing.
        known = _inner(value)
        # By bits, for `torch.where` takes five times as long on a CPU, and a product would let a NaN through.
        bits = torch.int32 if image.element_size() == 4 else torch.int64
        hidden, shown = -removed.to(bits), image.view(bits)
        torch.bitwise_and(shown, ~hidden, out=known.view(bits))
        total = known.sum(dim=(2, 3), keepdim=True)
        mean = total / count
        known.sub_(mean).mul_(kept)
        # What right and push hold where pixels are kept is never looked at: there steps, weights and paths are zero.
        right.copy_(level.box(value))
        active, before = torch.ones_like(mean), torch.ones_like(mean)
        for self.iterations in range(_MOST):
            found = level.cycle(right)
            done = active * (torch.abs(found, out=scratch).amax(dim=(2, 3), keepdim=True) <= tolerance)
            if done.any():
                # What has converged takes its last correction whole, and rests.
                value.addcmul_(found, done)
                active -= done
                if not active.any():
                    imputed = torch.add(known, mean, out=_inner(scratch)).view(bits)
                    torch.bitwise_xor(shown, imputed.bitwise_xor_(shown).bitwise_and_(hidden), out=out.view(bits))
                    return
            power = self._dot(right, found)
            torch.addcmul(found, path, power / before, out=path)
            before = _or_one(power)
            push = torch.addcmul(level.box(path), level.diagonal, path, value=-1, out=level.rest)
            size = active * power / _or_one(-self._dot(path, push))
            value.addcmul_(path, size)
            right.addcmul_(push, size)
        raise RuntimeError(f"imputation did not reach {tolerance:g} in {_MOST} iterations")

    def _dot(self, one: Tensor, other: Tensor) -> Tensor:
        return torch.mul(one, other, out=self.scratch).sum(dim=(2, 3), keepdim=True)


def _or_one(value: Tensor) -> Tensor:
    return torch.where(value > 0, value, 1.0)


def _padded(value: Tensor) -> Tensor:
    return F.pad(value, (1, 1, 1, 1))


def _inner(value: Tensor) -> Tensor:
    return value[..., 1:-1, 1:-1]


def _box(value: Tensor) -> Tensor:
    total = value[..., 1:] + value[..., :-1]
    total = total[..., 1:] + total[..., :-1]
    total = total[..., 1:, :] + total[..., :-1, :]
    return F.pad(total[..., 1:, :] + total[..., :-1, :], (1, 1, 1, 1))
