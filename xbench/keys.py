"""What names are made of: the one JSON form of a value, and its hash."""

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

Json = dict[str, Any]


def canonical(value: Any) -> bytes:
    """Return the one JSON form of a value: sorted keys, no spaces, no NaN."""
    return encoded(canonical_text(value))


def canonical_text(value: Any) -> str:
    """Return the one JSON form of a value as text."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False, ensure_ascii=False)


def encoded(text: str) -> bytes:
    """Return a text in UTF-8. A path or a log that is none holds halves of surrogate pairs, which pass."""
    return text.encode(errors="surrogatepass")


def content_key(value: Any) -> str:
    """Return the SHA-256 of a value's canonical JSON, 64 hex digits."""
    return hashlib.sha256(canonical(value)).hexdigest()


def is_key_of(key: str, value: Any) -> bool:
    """Say whether a value that was read, whatever it is, hashes to a key."""
    try:
        return content_key(value) == key
    except ValueError:  # a NaN: nothing that we wrote
        return False


def gallery_key(samples: str, rows: Sequence[int]) -> str:
    """Return the name of the pictures of some samples: ``rows`` are positions in the sample set of that digest."""
    return content_key([samples, list(map(int, rows))])


def slice_size(n: int) -> int:
    """Return how many samples a slice holds: a fixed function of the number of samples, 64 to 1,024."""
    return max(64, min(1024, -(-n // 64)))


def sealed(value: Json) -> Json:
    """Return a value with its own hash as its member ``digest``."""
    return {**value, "digest": content_key(value)}


def unsealed(value: Json) -> Json | None:
    """Return a value without its digest, or None where it is not what that says; earlier versions wrote none."""
    rest = {name: each for name, each in value.items() if name != "digest"}
    return rest if "digest" not in value or is_key_of(value["digest"], rest) else None


def read_sealed(path: Path) -> Json | None:
    """Return the object in a file without its digest, or None where it cannot be read or is not what that says."""
    found = read_json(path)
    return None if found is None else unsealed(found)


def read_json(path: Path) -> Json | None:
    """Return the object in a file, or None where it cannot be read or is none."""
    try:
        return parse_json(path.read_bytes())
    except OSError:
        return None


def parse_json(raw: bytes) -> Json | None:
    """Return the object that a text is, or None."""
    try:
        value = json.loads(raw)
    except (ValueError, RecursionError):
        return None
    return value if isinstance(value, dict) else None
