"""What a campaign puts into every process of a run: a ledger of what was computed, and a disk that fills up.

``FAULTS_LEDGER`` names the file to which each commit of a slice, and each epoch of a training, adds a line. ``FAULTS_FULL``
is ``BYTES:FLAG:FOLDER:...``: after that many bytes of this process, or once the file FLAG is there, whatever is written under a
FOLDER fails with ENOSPC, in the middle of a write.
"""

import builtins
import errno
import io
import os

if ledger := os.environ.get("FAULTS_LEDGER"):
    from xbench import store

    _write_slice, _replace = store.write_slice, os.replace

    def _note(line):
        handle = os.open(ledger, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
        os.write(handle, f"{line}\n".encode())
        os.close(handle)

    def _commit(folder, key, part, *given):
        _note(f"commit {key} {part}")
        return _write_slice(folder, key, part, *given)

    def _rename(source, target, **given):
        _replace(source, target, **given)
        if os.path.basename(os.path.dirname(target)) == "epochs":
            _note(f"epoch {target}")

    store.write_slice, os.replace = _commit, _rename

if full := os.environ.get("FAULTS_FULL"):
    _left, _flag, *_folders = full.split(":")
    _left = int(_left)
    _open = io.open

    class _Filling(io.FileIO):
        """A file on a disk that fills up."""

        def write(self, content):
            global _left
            content = memoryview(content).cast("B")
            room = 0 if os.path.exists(_flag) else max(_left, 0)
            if len(content) <= room:
                _left -= len(content)
                return super().write(content)
            super().write(content[:room])
            _left = 0
            os.close(os.open(_flag, os.O_WRONLY | os.O_CREAT))
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), self.name)

    def _opening(file, mode="r", buffering=-1, *given, **options):
        inside = isinstance(file, (str, os.PathLike)) and os.path.abspath(file).startswith(tuple(_folders))
        if mode not in ("wb", "xb", "w", "x") or not inside:
            return _open(file, mode, buffering, *given, **options)
        raw = io.BufferedWriter(_Filling(file, mode[0]))
        return raw if "b" in mode else io.TextIOWrapper(raw, *given, **options)

    io.open = builtins.open = _opening
