"""Runs that are killed, stopped, starved of disk and damaged at random: what breaks costs only what was in flight.

``python tests/faults/campaign.py --rounds 50 --seed 1``: every round runs one small benchmark, trainings included, to which
one thing happens at a random moment; the same command is then run until it ends. Afterwards the tables and records must be
byte for byte those of a run that nothing happened to, apart from costs; a reader that looks all the while must have met no
damage; and nothing may have been computed twice but what was in flight or damaged. A seed draws the same rounds again, though
not the same microseconds.
"""

import argparse
import collections
import contextlib
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path

from xbench.slices import arrays_file
from xbench.store import Store

HERE = Path(__file__).parent
SETTINGS = (
    "suite=blobs",
    "data=fake/blobs[test=400]",
    "limit=none",
    "model=fake/learnt[pause=0.05]",
    "explainer=fake/weights,fake/noise,fake/trained,controls/random,gradients/gradient",
    "device=cpu",
    "silence=2",
)
PARTS = 7  # slices of 64 of the 400 samples
CELLS = 6  # the classifier and five explainers
EPOCHS = 3
MOMENTS = EPOCHS + PARTS * CELLS
"""How many signs of progress a run gives: a file an epoch, a head a slice."""
WITHIN_SECONDS = 300


class Torn(AssertionError):
    """What must not happen has happened."""


@dataclass
class Place:
    """Where a round runs, and what has been seen of it."""

    folder: Path
    draw: random.Random
    settings: tuple = SETTINGS
    counts: collections.Counter = field(default_factory=collections.Counter)
    in_flight: int = 0
    met: list = field(default_factory=list)

    @property
    def out(self) -> Path:
        return self.folder / "run"

    @property
    def cache(self) -> Path:
        return self.folder / "cache"

    @property
    def ledger(self) -> Path:
        return self.folder / "ledger"

    def start(self, *more, **environment):
        """Start the command, with more settings if given."""
        root = HERE.parent.parent
        paths = [HERE / "preload", HERE.parent / "fakes", root, root / "plugins"]
        given = {
            **os.environ,
            "PYTHONPATH": os.pathsep.join(map(str, paths)),
            "XBENCH_CACHE": str(self.cache),
            "FAULTS_LEDGER": str(self.ledger),
            **environment,
        }
        self.counts["runs"] += 1
        command = [sys.executable, "-m", "xbench", "run", *self.settings, *more, f"out={self.out}"]
        with (self.folder / "told").open("ab") as told:
            return subprocess.Popen(command, env=given, stdout=subprocess.DEVNULL, stderr=told, cwd=self.folder)

    def end(self, process, codes=(0,)):
        """Wait for a command; its exit code must be one of these."""
        try:
            code = process.wait(WITHIN_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            raise Torn(f"a run did not end in {WITHIN_SECONDS} s") from None
        if code not in codes:
            raise Torn(f"exit code {code} where {codes} was due")
        return code

    def told(self):
        """Return all that runs of the round have said."""
        return (self.folder / "told").read_text(errors="replace")

    def progress(self):
        """Return how many signs of progress there are."""
        epochs = sum(1 for _ in self.cache.glob("fits/*/*/epochs/0*.safetensors"))
        return epochs + len(heads(self.out))

    def reach(self, process, moment):
        """Wait until a run has given so many signs of progress, or has ended, and a little longer."""
        while process.poll() is None and self.progress() < moment:
            time.sleep(0.002)
        time.sleep(self.draw.uniform(0, 0.05))

    def any_moment(self):
        return self.draw.randrange(MOMENTS)

    def workers(self, process):
        """Return the processes that a run has started."""
        return [pid for pid, parent in parents() if parent == process.pid]

    def signal(self, pid, number):
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, number)
            self.counts[signal.Signals(number).name] += 1
            self.in_flight += 1

    def computed(self, what):
        """Return how often each slice was computed (``commit``), or each epoch trained (``epoch``), by what it is."""
        lines = (line.partition(" ") for line in self.ledger.read_text().splitlines())
        return collections.Counter(name for kind, _, name in lines if kind == what)

    def left(self):
        """Return the processes that still belong to the round."""
        mark = f"FAULTS_LEDGER={self.ledger}".encode()
        found = []
        for pid, _ in parents():
            with contextlib.suppress(OSError):
                if mark in Path(f"/proc/{pid}/environ").read_bytes():
                    found.append(pid)
        return found

    def settle(self):
        """Wait until none of them is left, which must not take long."""
        deadline = time.monotonic() + 30
        while left := self.left():
            if time.monotonic() > deadline:
                raise Torn(f"processes are left: {left}")
            time.sleep(0.05)


# What can happen.


def worker_killed(place):
    run = place.start()
    place.reach(run, place.any_moment())
    for pid in place.workers(run)[:1]:
        place.signal(pid, signal.SIGKILL)
    place.end(run)


def driver_killed(place):
    run = place.start()
    place.reach(run, place.any_moment())
    place.signal(run.pid, signal.SIGKILL)
    place.end(run, (0, -9))


def both_killed(place):
    run = place.start()
    place.reach(run, place.any_moment())
    order = [run.pid, *place.workers(run)]
    place.draw.shuffle(order)
    for pid in order:
        place.signal(pid, signal.SIGKILL)
    place.end(run, (0, -9))


def worker_stopped(place):
    run = place.start()
    place.reach(run, place.any_moment())
    for pid in place.workers(run)[:1]:
        place.signal(pid, signal.SIGSTOP)
    if place.draw.random() < 0.3:  # and whoever would have replaced it dies
        place.signal(run.pid, signal.SIGKILL)
    place.end(run, (0, -9))


def asked_to_stop(place):
    run = place.start()
    place.reach(run, place.any_moment() + 1)  # before the command line is up, Python itself answers
    place.signal(run.pid, place.draw.choice([signal.SIGTERM, signal.SIGINT]))
    place.end(run, (0, 130, 143, -signal.SIGTERM, -signal.SIGINT))


def disk_full(place):
    flag = place.folder / "full"
    room = int(2 ** place.draw.uniform(8, 18))
    folders = f"{place.out}:{place.cache}"
    code = place.end(place.start(FAULTS_FULL=f"{room}:{flag}:{folders}"), (0, 2))
    place.counts["disks full"] += flag.exists()
    place.in_flight += 1
    last = place.told().splitlines()[-1] if code else ""
    if code and not ("cannot" in last and "No space left on device" in last and str(place.folder) in last):
        raise Torn(f"a full disk ends in {last!r}")


def files_damaged(place):
    run = place.start()
    place.reach(run, place.any_moment() + MOMENTS // 4)
    if run.poll() is None:
        place.signal(run.pid, signal.SIGKILL)
    place.end(run, (0, -9))
    place.settle()
    files = [path for top in (place.out, place.cache) for path in sorted(top.rglob("*")) if path.is_file()]
    files = [path for path in files if path.name not in ("lock", ".lock") and path.suffix not in (".tmp", ".log")]
    with place_unread(place):
        for path in place.draw.sample(files, min(len(files), place.draw.randint(1, 6))):
            damage(path, place.draw)
            place.counts["files damaged"] += 1
            place.in_flight += 1
        place.end(place.start())


def two_at_once(place):
    first = place.start()
    place.reach(first, place.any_moment())
    second = place.start()
    if place.draw.random() < 0.5:
        place.reach(second, place.any_moment())
        place.signal(place.draw.choice([first, second]).pid, signal.SIGKILL)
    place.end(first, (0, -9))
    place.end(second, (0, -9))
    place.in_flight += CELLS  # both may be at the same unit when little is left


FAULTS = (
    worker_killed,
    driver_killed,
    both_killed,
    worker_stopped,
    disk_full,
    files_damaged,
    asked_to_stop,
    two_at_once,
)


def damage(path, draw):
    """Cut a file short, flip a bit of it, empty it, or put a folder in its place."""
    raw = path.read_bytes()
    kind = draw.choice(["cut", "flip", "empty", "folder"])
    if kind == "folder":
        path.unlink()
        path.mkdir()
    elif kind == "flip" and raw:
        at = draw.randrange(len(raw))
        path.write_bytes(raw[:at] + bytes([raw[at] ^ 1 << draw.randrange(8)]) + raw[at + 1 :])
    else:
        path.write_bytes(raw[: draw.randrange(len(raw))] if kind == "cut" and raw else b"")


# What must hold.


def heads(out):
    """Return every head with what a rewritten one would not share."""
    found = {}
    for path in out.glob("records/*/*/[0-9]*.json"):
        if path.name.count(".") == 1:
            with contextlib.suppress(OSError):
                stat = path.stat()
                found[path] = stat.st_ino, stat.st_mtime_ns
    return found


def content(out):
    """Return all that is compared: definitions, heads with their arrays, failures, samples, tables without their costs."""
    found = {path.name: path.read_bytes() for path in (out / "samples").iterdir() if not path.name.startswith(".")}
    for folder in out.glob("records/*/*"):
        for path in [*folder.glob("[0-9]????.json"), folder / "cell.json", folder / "status.json"]:
            if path.exists():
                found[str(path.relative_to(out))] = path.read_bytes()
        for path in folder.glob("[0-9]????.json"):
            arrays = arrays_file(folder, int(path.stem))
            found[str(arrays.relative_to(out))] = arrays.read_bytes()
    rows = json.loads((out / "leaderboard" / "table.json").read_text())
    for row in rows:
        row.pop("seconds_per_image")
    found["table"] = json.dumps(rows).encode()
    return found


def parents():
    """Yield every process with its parent."""
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            with contextlib.suppress(OSError, IndexError, ValueError):
                state, parent = (entry / "stat").read_text().rpartition(")")[2].split()[:2]
                if state != "Z":
                    yield int(entry.name), int(parent)


@contextlib.contextmanager
def reading(place):
    """Read the folder all the while from beside, and keep what is met that is not whole."""
    end = threading.Event()
    place.unread = threading.Event()

    def read():
        while not end.wait(0.2):
            found = Store(place.out).check()
            if not place.unread.is_set():
                place.met.extend(found)
                place.counts["readings"] += 1

    thread = threading.Thread(target=read)
    thread.start()
    try:
        yield
    finally:
        end.set()
        thread.join()


@contextlib.contextmanager
def place_unread(place):
    """While files are damaged on purpose, what the reader meets says nothing."""
    place.unread.set()
    try:
        yield
    finally:
        time.sleep(0.5)
        place.unread.clear()


def one_round(place, fault, expected):
    """Have one thing happen to a run, run it until it ends, and hold the result against the undisturbed one."""
    with reading(place):
        fault(place)
        before = heads(place.out) if fault is not files_damaged else {}
        place.end(place.start())
        after = heads(place.out)
    if rewritten := [path for path, was in before.items() if after.get(path) != was]:
        raise Torn(f"slices that were committed were written again: {rewritten}")
    if place.met:
        raise Torn(f"a reader met what is not whole: {sorted(set(place.met))}")
    if found := Store(place.out).check():
        raise Torn(f"damaged at the end: {found}")
    differs(content(place.out), expected)
    if "Traceback" in place.told():
        raise Torn("a traceback reached the user")
    slices, epochs = place.computed("commit"), place.computed("epoch")
    if len(slices) != PARTS * CELLS:
        raise Torn(f"{len(slices)} slices were committed where {PARTS * CELLS} are due")
    twice = sum(slices.values()) - len(slices)
    place.counts["slices computed"] += sum(slices.values())
    place.counts["slices computed twice"] += twice
    place.counts["epochs trained"] += sum(epochs.values())
    place.counts["epochs trained twice"] += sum(epochs.values()) - len(epochs)
    if twice > place.in_flight:
        raise Torn(f"{twice} slices were computed twice, and no more than {place.in_flight} were in flight or damaged")
    place.settle()


def differs(found, expected):
    """Raise Torn where two runs differ."""
    if names := sorted(name for name in found.keys() | expected.keys() if found.get(name) != expected.get(name)):
        raise Torn(f"not what the undisturbed run gives: {names[:5]}{' and more' if len(names) > 5 else ''}")


def campaign(rounds, seed, folder, say=print):
    """Run rounds of faults, each kind as often as the others; return the counts. Raises Torn with all it takes to look."""
    draw = random.Random(seed)
    whole = Place(folder / "undisturbed", draw)
    whole.folder.mkdir(parents=True)
    whole.end(whole.start())
    expected = content(whole.out)
    faults = []
    while len(faults) < rounds:
        faults += draw.sample(FAULTS, len(FAULTS))
    counts = collections.Counter()
    for number, fault in enumerate(faults[:rounds]):
        place = Place(folder / f"round-{number}", random.Random(f"{seed} {number}"))
        place.folder.mkdir()
        start = time.monotonic()
        try:
            one_round(place, fault, expected)
        except Torn as error:
            told = "\n".join(place.told().splitlines()[-20:])
            raise Torn(
                f"round {number} of seed {seed}, {fault.__name__}: {error}\nleft in {place.folder}; the run said:\n{told}"
            ) from None
        counts += place.counts
        counts[fault.__name__] += 1
        say(f"round {number}: {fault.__name__}: {dict(place.counts)} in {time.monotonic() - start:.1f} s", flush=True)
        shutil.rmtree(place.folder)
    return counts


def main():
    """Run a campaign from the command line."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--rounds", type=int, default=50)
    parser.add_argument("--seed", type=int, default=None, help="the campaign's; drawn and printed unless given")
    arguments = parser.parse_args()
    seed = random.SystemRandom().randrange(10**6) if arguments.seed is None else arguments.seed
    print(f"{arguments.rounds} rounds, --seed {seed}", flush=True)
    folder = Path(tempfile.mkdtemp(prefix="xbench-faults-"))
    start = time.monotonic()
    try:
        counts = campaign(arguments.rounds, seed, folder)
    except Torn as error:
        print(error, file=sys.stderr)
        return 1
    shutil.rmtree(folder)
    for name, count in sorted(counts.items()):
        print(f"{count:6d} {name}")
    print(f"{arguments.rounds} rounds in {time.monotonic() - start:.0f} s: every table as undisturbed, no torn file")
    return 0


if __name__ == "__main__":
    sys.exit(main())
