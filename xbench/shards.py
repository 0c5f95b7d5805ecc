"""A prepared run shared out to processes without an engine: which units are whose, and one share carried out."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from xbench.config import make_config
from xbench.errors import XbenchError
from xbench.manifest import run_folder
from xbench.options import HOW
from xbench.plan import Plan, grouped, make_plan
from xbench.plugins import Registry
from xbench.shared import unshared
from xbench.store import Store

_PATIENCE_SECONDS = 15.0


@dataclass(frozen=True)
class Shard:
    """Share ``number`` (from 1) of ``of``."""

    number: int
    of: int

    def __str__(self) -> str:
        return f"{self.number}/{self.of}"


def parse_shard(text: str) -> Shard:
    """Read ``i/n``. Raises XbenchError where it is not a share."""
    number, _, of = text.partition("/")
    if not (number.isascii() and number.isdigit() and of.isascii() and of.isdigit() and 1 <= int(number) <= int(of)):
        raise XbenchError(f"--shard {text}: a share is written i/n with i from 1 to n, for example 2/8")
    return Shard(int(number), int(of))


class Share(Store):
    """A run's store as one share sees it: what others do, and what has failed, counts as done.

    A unit is the share's whose place among all units of the plan, done or not, is ``number`` - 1 modulo ``of``; so it stays
    whatever is done meanwhile.

    Attributes
    ----------
    failed
        Cell key -> (status, reason) of what had failed before; `xbench.api.prepare` forgets it.
    """

    def __init__(self, plan: Plan, shard: Shard) -> None:
        super().__init__(plan.config.out)
        self.shard = shard
        self._first: dict[str, int] = {}
        ahead = 0
        for cells in grouped(plan):
            self._first |= dict.fromkeys((cell.key for cell in cells), ahead)
            ahead += cells[0].n_slices
        self.units = ahead
        self.failed = {key: found for key in self._first if (found := self.failure(key))}

    def owns(self, key: str, part: int) -> bool:
        """Say whether a cell's slice is in the share."""
        return (self._first[key] + part) % self.shard.of == self.shard.number - 1

    def committed(self, key: str, part: int, samples: str = "") -> bool:
        """Say whether nothing is to be done about a slice."""
        return not self.owns(key, part) or key in self.failed or super().committed(key, part, samples)


def open_share(folder: Path, shard: Shard, arguments: Sequence[str], registry: Registry) -> tuple[Plan, Share]:
    """Return the plan of a prepared run, and the store of one share of it.

    Parameters
    ----------
    folder
        The run's folder, which ``xbench run ... --plan`` has made.
    shard
        Which share.
    arguments
        How to carry it out, as ``key=value``.
    registry
        What is installed.

    Raises
    ------
    XbenchError
        There is no such run, the cache is another one, or what is installed here would compute something else.
    """
    keys, _, manifest = run_folder(folder)
    settings = manifest.get("settings")
    for argument in arguments:
        key = argument.partition("=")[0]
        if key not in HOW and ("." not in key or key.startswith("data.")):
            raise XbenchError(f"{argument}: what is computed stands in {folder / 'run.json'}; here go {', '.join(HOW)}")
    if not isinstance(settings, list):
        raise XbenchError(
            f"{folder / 'run.json'} does not hold the run's settings; plan it again: xbench run ... --plan"
        )
    if problem := unshared(folder, manifest["cache"], _PATIENCE_SECONDS) if manifest.get("cache") else "":
        raise XbenchError(problem)
    plan = make_plan(make_config([*settings, *arguments, f"out={folder}"], registry))
    if [cell.key for cell in plan.cells] != keys:
        raise XbenchError(
            f"what is installed here would compute something else than what was planned in {folder}; install the same "
            "everywhere, or plan again: xbench run ... --plan"
        )
    # Each share begins with another training, so that none waits for one that another could have made meanwhile.
    start = shard.number * len(plan.fits) // shard.of
    return replace(plan, fits=(*plan.fits[start:], *plan.fits[:start])), Share(plan, shard)
