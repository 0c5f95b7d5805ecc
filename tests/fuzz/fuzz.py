"""Hostile inputs for every reader and verb: ``python tests/fuzz/fuzz.py --inputs 20000 --seed 0``.

Each input ends in a value or in XbenchError; never in another error, a hang, much memory or a file where none should be. What
fails is kept under ``--keep`` and made again by ``--only NUMBER --seed SEED``.
"""

import argparse
import collections
import faulthandler
import os
import shutil
import sys
import tempfile
import time
import traceback
import warnings
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))

import guard
import targets
import torch

from xbench.errors import XbenchError

_LONGEST = 20_000
"""Characters of an error's message: a page is nobody's clear line."""


def one(number: int, seed: int, base: Path) -> tuple[str, str, str]:
    """Make and read one input; return the reader, the outcome and, where it failed, how."""
    name, rng = targets.draw(number, seed)
    folder = base / "input"
    shutil.rmtree(folder, ignore_errors=True)
    (folder / "cwd").mkdir(parents=True)
    (folder / "cache").mkdir()
    os.environ["XBENCH_CACHE"] = str(folder / "cache")
    os.chdir(folder / "cwd")
    read = targets.TARGETS[name][1](folder, rng)
    before = _listing(base)
    outcome, told = "read", ""
    with guard.watched(folder) as written:
        try:
            read()
        except XbenchError as error:
            outcome = "refused"
            if len(str(error)) > _LONGEST or not str(error).strip():
                outcome, told = "FAILED", f"the message has {len(str(error)):,} characters: {str(error)[:200]!r}"
        except KeyboardInterrupt:
            raise
        except BaseException:
            outcome, told = "FAILED", traceback.format_exc()
    os.chdir(base)
    if written:
        outcome, told = "FAILED", f"it wrote to {', '.join(written[:5])}"
    elif _listing(base) != before:
        outcome, told = "FAILED", "a file outside the input's folder changed"
    return name, outcome, told


def _listing(base: Path) -> list[tuple[str, int, int]]:
    """Return what lies beside the input's folder."""
    found = []
    for entry in os.scandir(base):
        if entry.name != "input":
            state = entry.stat(follow_symlinks=False)
            found.append((entry.name, state.st_size, state.st_mtime_ns))
    return sorted(found)


def main() -> int:
    """Run inputs, print how they ended, return 1 where one failed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--inputs", type=int, default=2000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", type=int, help="one input again, by its number")
    parser.add_argument("--keep", type=Path, default=Path("fuzz-failures"), help="where inputs that failed are kept")
    given = parser.parse_args()
    keep = given.keep.absolute()
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    memory = Path("/dev/shm")  # where there is one: half of the time would go by waiting for a disk
    base = Path(tempfile.mkdtemp(prefix="fuzz-", dir=memory if memory.is_dir() else None))
    os.environ["XBENCH_CACHE"] = str(base / "cache")
    os.environ["MPLCONFIGDIR"] = str(base / "matplotlib")
    os.environ.pop("XBENCH_DATA", None)
    start = time.monotonic()
    failed = 0
    try:
        targets.prepare(base / "good")
        import matplotlib.font_manager  # noqa: F401 - it writes a cache of its own

        guard.install()
        counts: dict[str, collections.Counter[str]] = collections.defaultdict(collections.Counter)
        for number in range(given.inputs) if given.only is None else [given.only]:
            # A hang in foreign code, which no signal's handler interrupts: its traceback, and an end.
            faulthandler.dump_traceback_later(2 * guard.WALL_SECONDS, exit=True)
            name, outcome, told = one(number, given.seed, base)
            counts[name][outcome] += 1
            if not (number + 1) % 1000:
                print(f"{number + 1:,} inputs, {failed} failed", file=sys.stderr, flush=True)
            if outcome == "FAILED":
                failed += 1
                print(f"input {number} of seed {given.seed}, {name}:\n{told}", flush=True)
                shutil.copytree(
                    base / "input",
                    keep / f"{given.seed}-{number}-{name}",
                    dirs_exist_ok=True,
                    symlinks=True,
                    ignore=_pipes,
                )
        faulthandler.cancel_dump_traceback_later()
    finally:
        os.chdir("/")
        shutil.rmtree(base, ignore_errors=True)
    outcomes = ("read", "refused", "FAILED")
    print(f"{'reader':<22}" + "".join(f"{outcome:>10}" for outcome in outcomes))
    for name in sorted(counts):
        print(f"{name:<22}" + "".join(f"{counts[name][outcome]:>10,}" for outcome in outcomes))
    total = [sum(counts[name][outcome] for name in counts) for outcome in outcomes]
    print(f"{'all':<22}" + "".join(f"{number:>10,}" for number in total))
    print(f"{sum(total):,} inputs of seed {given.seed} in {time.monotonic() - start:.0f} s; {failed} failed")
    return 1 if failed else 0


def _pipes(folder, names):
    return [name for name in names if not (Path(folder, name).is_file() or Path(folder, name).is_dir())]


if __name__ == "__main__":
    sys.exit(main())
