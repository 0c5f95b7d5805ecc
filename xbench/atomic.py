"""Files that are whole or not there: written beside their place, put on the disk, then given their name."""

import contextlib
import os
import secrets
import time
from collections.abc import Iterator
from pathlib import Path

from xbench.errors import CannotWrite

STALE_SECONDS = 3600
"""The age at which what a writer left behind is taken for rubbish: none is at work on one file for so long."""


def write_atomic(path: Path, content: bytes, *, own: bool = False, flush: bool = True) -> None:
    """Write a file so that a reader, or a crash at any moment, sees the old content or the new, never a part.

    Parameters
    ----------
    path
        The file; its folder is made if need be.
    content
        All of it.
    own
        Whether the path is ours alone, so that a folder in its place is damage and is set aside.
    flush
        Whether to wait for the disk; what is validated by a hash and can be written again need not.

    Raises
    ------
    CannotWrite
        The disk or the permissions forbid it; names the path.
    """
    with replacing(path, own=own, flush=flush) as temporary:
        temporary.write_bytes(content)


def write_first(path: Path, content: bytes) -> None:
    """Write a file as `write_atomic` does, unless one of that name is there: of several writers the first one wins."""
    with _beside(path) as temporary:
        temporary.write_bytes(content)
        _sync(temporary)
        try:
            os.link(temporary, path)
        except FileExistsError:
            return
        except OSError:  # a file system without second names
            if path.exists():
                return
            os.replace(temporary, path)
        _sync(path.parent)


@contextlib.contextmanager
def replacing(path: Path, *, own: bool = False, flush: bool = True) -> Iterator[Path]:
    """Yield the name under which to write what takes the place of ``path`` at the end; see `write_atomic`."""
    with _beside(path) as temporary:
        yield temporary
        if flush:
            _sync(temporary)
        try:
            os.replace(temporary, path)
        except OSError:
            if not own or path.is_symlink() or not path.is_dir():
                raise
            _set_aside(path)
            os.replace(temporary, path)
        if flush:
            _sync(path.parent)


def remove_own(path: Path) -> None:
    """Remove a file of ours, if it is there; a folder in its place is set aside."""
    try:
        path.unlink(missing_ok=True)
    except OSError as error:
        if path.is_symlink() or not path.is_dir():
            raise CannotWrite(f"cannot remove {path}: {error.strerror or error}") from error
        _set_aside(path)


def sweep_folder(folder: Path) -> None:
    """Remove from a folder what crashed writers left an hour ago or more."""
    for name in list_names(folder):
        if name.startswith(".") and name.endswith(".tmp"):
            remove_stale(folder / name)


def remove_stale(path: Path) -> None:
    """Remove a file that was written an hour ago or more."""
    with contextlib.suppress(OSError):
        if time.time() - path.stat().st_mtime > STALE_SECONDS:
            path.unlink()


def list_names(folder: Path | str) -> list[str]:
    """Return the names in a folder, or none where it cannot be read."""
    try:
        return os.listdir(folder)
    except OSError:
        return []


@contextlib.contextmanager
def _beside(path: Path) -> Iterator[Path]:
    # Not mkstemp, whose files only their owner may read: folders of results are shared.
    temporary = path.with_name(f".{path.name}.{os.getpid()}-{secrets.token_hex(4)}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        yield temporary
    except OSError as error:
        why = error.strerror or error
        raise CannotWrite(f"cannot write {path}: {why}; what was committed before is intact") from error
    finally:
        with contextlib.suppress(OSError):
            temporary.unlink()


def _set_aside(path: Path) -> None:
    try:
        path.rmdir()
    except OSError:  # it holds something, which is not ours to delete
        path.rename(path.with_name(f".{path.name}.{secrets.token_hex(4)}.damaged"))


def _sync(path: Path) -> None:
    """Put a file, or the names in a folder, on the disk."""
    folder = path.is_dir()
    if folder and os.name != "posix":
        return
    handle = os.open(path, os.O_RDONLY if folder or os.name == "posix" else os.O_RDWR)
    try:
        os.fsync(handle)
    except OSError:
        if not folder:  # some network file systems refuse it for folders; the rename itself has succeeded
            raise
    finally:
        os.close(handle)
