"""What a user may write as ``key=value`` about a run, and the reading of it; every mistake is reported, all at once."""

from collections.abc import Sequence
from dataclasses import dataclass, field

from xbench.errors import did_you_mean
from xbench.refs import convert_scalar, split_outside_brackets

LISTS = {"model": "models", "explainer": "explainers", "metric": "metrics"}
"""The keys that name components, and what a suite calls them."""

_MOST_OF_A_MACHINE = 1024
_EXAMPLES = {"workers": "2 or workers=auto", "threads": 2}


@dataclass
class Options:
    """What a user may write as ``key=value``; None means: as the suite says."""

    suite: str | None = None
    protocol: str = "quick"
    data: str | None = None
    data_params: dict[str, str] = field(default_factory=dict)
    model: list[str] | None = None
    explainer: list[str] | None = None
    metric: list[str] | None = None
    target: str | None = None
    seed: list[int] | None = None
    limit: int | None = None
    no_limit: bool = False
    batch: int | None = None
    device: str = "auto"
    workers: int | None = None
    threads: int | None = None
    executor: str = "local"
    executor_params: dict[str, str] = field(default_factory=dict)
    budget: float = 600.0
    silence: float = 300.0
    out: str | None = None


KEYS = {
    "suite": ("NAME", "which suite to run (xbench list suites)"),
    "protocol": ("quick|paper", "the suite's settings: minutes on two cores, or the papers' own"),
    "data": (
        "ID",
        "another data set, its last part is enough; data.NAME=VALUE sets its parameters, data.root=PATH where real files lie",
    ),
    "model": (
        "ID,...",
        "classifiers; * and ? match, [name=value] sets parameters, @N takes epoch N's weights; python:FILE.FUNCTION your own",
    ),
    "explainer": (
        "ID,...",
        "explanation methods, written likewise: 'cam/*,gradients/smoothgrad[n=20],python:mine.explain'",
    ),
    "metric": ("NAME,...", "metrics: 'deletion,insertion[fill=zero]'"),
    "target": ("predicted|label|annotated|CLASS", "the class whose score is explained"),
    "seed": ("N,...", "training and noise seeds; a row pools them"),
    "limit": ("N|none", "how many test samples to score"),
    "batch": ("N", "images in a forward pass; never changes a result"),
    "device": ("auto|cpu|cuda[:i]", "where to compute; auto takes CUDA when there is one"),
    "workers": ("auto|N", "processes; auto: one a GPU, or on the CPU up to four that share the cores"),
    "threads": ("N", "CPU threads of a worker while it explains and scores; its share of the cores unless given"),
    "executor": (
        "local|inline|...",
        "what carries the work (xbench list executors); EXECUTOR.NAME=VALUE sets its parameters (xbench show EXECUTOR)",
    ),
    "budget": ("SECONDS", "the longest an explainer may take for one slice of samples"),
    "silence": (
        "SECONDS",
        "how long a worker may give no sign of life (stopped, or in a call that lets no Python run); 300 unless given",
    ),
    "out": ("DIR", "where records and tables go; default runs/SUITE"),
}

HOW = ("device", "workers", "threads", "batch", "budget", "silence", "executor")
"""The keys that say how a run is carried out, and change no number."""


def parse_options(arguments: Sequence[str]) -> tuple[Options, list[str]]:
    """Read ``key=value`` arguments; return what could be read and a line for every mistake."""
    options, mistakes, seen = Options(), [], set()
    for argument in arguments:
        key, sign, value = argument.partition("=")
        if not sign or not key or not value:
            mistakes.append(f"{argument!r} is not written key=value, for example suite=chestxray")
            continue
        if key in seen:
            mistakes.append(f"{key!r} is given twice; say it once, with commas between several values")
            continue
        seen.add(key)
        if key.startswith("data.") and len(key) > 5:
            options.data_params[key[5:]] = value
        elif all(key.partition(".")):
            options.executor_params[key] = value
        elif key not in KEYS:
            hint = did_you_mean(key, KEYS) or f"; the keys are {', '.join(KEYS)}"
            mistakes.append(f"unknown key {key!r}{hint}")
        else:
            try:
                _set(options, key, value)
            except ValueError as error:
                mistakes.append(f"{key}={value}: {error}")
    return options, mistakes


def _set(options: Options, key: str, value: str) -> None:
    if key == "limit" and value.lower() in ("none", "null", "all"):
        options.no_limit = True
    elif key == "workers" and value == "auto":
        options.workers = None
    elif key in ("limit", "batch", "workers", "threads"):
        number = convert_scalar(value, int, f", for example {key}={_EXAMPLES.get(key, 200)}")
        assert isinstance(number, int)
        if number < 1:
            raise ValueError("must be 1 or more")
        if key in ("workers", "threads") and number > _MOST_OF_A_MACHINE:
            raise ValueError(f"must be {_MOST_OF_A_MACHINE} or fewer")
        setattr(options, key, number)
    elif key in ("budget", "silence"):
        seconds = convert_scalar(value, float, f", for example {key}=600")
        assert isinstance(seconds, float)
        if seconds <= 0:
            raise ValueError("must be more than 0 seconds")
        if key == "silence" and seconds < 2:
            raise ValueError("must be 2 seconds or more: a worker speaks a few times in that time")
        setattr(options, key, seconds)
    elif key == "seed":
        options.seed = [int(str(convert_scalar(part, int, ", for example seed=0,1"))) for part in value.split(",")]
    elif key == "device":
        kind, _, number = value.partition(":")
        if kind not in ("auto", "cpu", "cuda") or (number and (kind != "cuda" or not number.isdigit())):
            raise ValueError("a device is auto, cpu, cuda or cuda:0")
        options.device = value
    elif key in LISTS:
        setattr(options, key, split_outside_brackets(value))
    else:
        setattr(options, key, value)
