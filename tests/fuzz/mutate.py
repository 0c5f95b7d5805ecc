"""Hostile forms of good files: bytes cut, flipped, inserted, spliced and lied about; values of JSON swapped for worse ones."""

import copy
import json
import random

HOSTILE = (
    None,
    True,
    -1,
    0,
    1,
    2**31,
    2**63,
    10**30,
    1e308,
    float("nan"),
    float("inf"),
    "",
    " ",
    "../../../escaped",
    "/tmp/escaped",
    "..",
    "a/b",
    "\0",
    "\ud800",
    "\ufeffbom",
    "[/bold]",
    "<script>",
    "{x}",
    "%s",
    "a" * 5000,
    "9" * 5000,
    [],
    {},
    [[]],
    [None],
    {"": None},
    [1, "two", {}],
)
TEXTS = (
    b"[" * 100_000,
    b'{"a":' * 50_000,
    b"9" * 100_000,
    b"NaN",
    b"-Infinity",
    b"\xef\xbb\xbf",
    b"\xff\xfe",
    b"\0",
    b'"',
    b",",
    b"\n",
    b"\r",
    b"../../../escaped",
    b"/tmp/escaped",
    b"a" * 200_000,
    b"&a [*a, *a]",
    b"!!python/object/apply:os.system ['touch /tmp/escaped']",
    b"\xed\xa0\x80",
    b"\xc3\x28",
    b"1e999",
    b"\xe2\x80\xae",
)
NUMBERS = (0, 1, 0x7F, 0xFF, 0x7FFF, 0xFFFF, 2**31 - 1, 2**32 - 1, 2**63 - 1, 2**64 - 1)


def spoilt(raw: bytes, rng: random.Random, others: tuple[bytes, ...] = ()) -> bytes:
    """Return a file's bytes after one to four changes."""
    for _ in range(rng.randint(1, 4)):
        raw = rng.choice(WAYS)(raw, rng, others)
    return raw


def truncate(raw, rng, others):
    return raw[: rng.randrange(len(raw) + 1)]


def flip(raw, rng, others):
    made = bytearray(raw)
    for _ in range(rng.randint(1, 8) if made else 0):
        made[rng.randrange(len(made))] ^= 1 << rng.randrange(8)
    return bytes(made)


def insert(raw, rng, others):
    at = rng.randrange(len(raw) + 1)
    return raw[:at] + rng.choice(TEXTS) + raw[at:]


def replace(raw, rng, others):
    at = rng.randrange(len(raw) + 1)
    new = rng.choice(TEXTS)
    return raw[:at] + new + raw[at + len(new) :]


def splice(raw, rng, others):
    other = rng.choice(others) if others else raw[::-1]
    return raw[: rng.randrange(len(raw) + 1)] + other[rng.randrange(len(other) + 1) :]


def swap(raw, rng, others):
    return rng.choice(others) if others else b""


def lie(raw, rng, others):
    """Write a number over a place that may be a length."""
    size = rng.choice((1, 2, 4, 8))
    if len(raw) < size:
        return raw
    at = rng.randrange(min(len(raw) - size, rng.choice((16, 64, 4096))) + 1)
    number = rng.choice(NUMBERS) % 2 ** (8 * size)
    return raw[:at] + number.to_bytes(size, rng.choice(("little", "big"))) + raw[at + size :]


def repeat(raw, rng, others):
    start = rng.randrange(len(raw) + 1)
    part = raw[start : start + rng.randint(1, 400)]
    return raw[:start] + part * rng.randint(2, 30) + raw[start:]


def empty(raw, rng, others):
    return b""


WAYS = (truncate, flip, flip, insert, replace, splice, swap, lie, lie, repeat, empty)


def worse(value, rng: random.Random):
    """Return a deep copy of a JSON value of which one to three parts are others."""
    made = copy.deepcopy(value)
    for _ in range(rng.randint(1, 3)):
        places = list(_places(made))
        if not places:
            return rng.choice(HOSTILE)
        inner, key = rng.choice(places)
        way = rng.random()
        if way < 0.6:
            inner[key] = copy.deepcopy(rng.choice(HOSTILE))
        elif way < 0.75:
            del inner[key]
        elif way < 0.9:
            _, other = rng.choice(places)
            inner[key] = copy.deepcopy(rng.choice([one[name] for one, name in places if name == other] or [None]))
        elif isinstance(inner, list):
            inner.extend(copy.deepcopy(inner))
        else:
            inner[rng.choice(("", "x", "..", "\0", "digest"))] = rng.choice(HOSTILE)
    return made


def _places(value):
    """Yield every place in a value, those further up as often as all below them."""
    if isinstance(value, dict):
        for key in list(value):
            yield value, key
            yield from _places(value[key])
    elif isinstance(value, list):
        for i in range(min(len(value), 4)):
            yield value, i
            yield from _places(value[i])


def written(value) -> bytes:
    """Return JSON, whatever is in it."""
    return json.dumps(value).encode(errors="surrogatepass")
