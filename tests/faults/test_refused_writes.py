"""Where a disk or a folder refuses: one clear line that names the path, exit code 2, and all from before intact."""

import errno
import os
import shutil
from pathlib import Path

import pytest

from xbench.cli import main
from xbench.slices import arrays_file
from xbench.store import Store

pytestmark = pytest.mark.usefixtures("fakes")

SETTINGS = (
    "suite=blobs",
    "limit=70",
    "model=fake/learnt[epochs=2]",
    "explainer=fake/weights,fake/noise,controls/random",
    "metric=accuracy,deletion",
    "executor=inline",
    "device=cpu",
)
REASONS = {
    errno.ENOSPC: "No space left on device",
    errno.EDQUOT: "Disk quota exceeded",
    errno.EROFS: "Read-only file system",
    errno.EACCES: "Permission denied",
    errno.EIO: "Input/output error",
}
# Every file that a run writes, by a part of its path, each with another reason.
PLACES = [
    ("/run.json", errno.EROFS),
    ("/cell.json", errno.EACCES),
    ("/samples/", errno.ENOSPC),
    ("/checkpoint.pt", errno.ENOSPC),
    ("/epochs/", errno.EDQUOT),
    ("/weights.safetensors", errno.EIO),
    ("/fit.json", errno.EACCES),
    ("/colours/", errno.EROFS),
    ("/00000.json", errno.ENOSPC),
    (".cost.json", errno.EDQUOT),
    (".safetensors", errno.ENOSPC),
    ("/cost.json", errno.EIO),
    ("/table.json", errno.ENOSPC),
    ("/table.md", errno.EDQUOT),
    ("/report/", errno.ENOSPC),
]


def go(out):
    return main(["run", *SETTINGS, f"out={out}"])


def kept(out):
    """Return what is committed, by its name without the place."""
    store = Store(out)
    assert store.check() == []
    return {
        (key, part): arrays_file(store.folder(key), part).read_bytes()
        for key in store
        for part in range(3)
        if store.committed(key, part)
    }


def refusing(monkeypatch, what, number):
    """Have writes under a path fail half-way."""
    write = Path.write_bytes

    def half(path, content):
        # A temporary file is called after the one whose place it takes.
        if what in f"{path.parent}/{path.name.removeprefix('.')}" and "pytest" in str(path):
            write(path, bytes(content)[: len(content) // 2])
            raise OSError(number, os.strerror(number), str(path))
        return write(path, content)

    monkeypatch.setattr(Path, "write_bytes", half)


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    return tmp_path_factory.mktemp("undisturbed")


def whole(folder, monkeypatch):
    """Return what an undisturbed run keeps; made by the first test that asks."""
    if not (folder / "run").exists():
        with monkeypatch.context() as patched:
            patched.setenv("XBENCH_CACHE", str(folder / "cache"))
            assert go(folder / "run") == 0
    return kept(folder / "run")


@pytest.mark.slow
@pytest.mark.parametrize(("what", "number"), PLACES, ids=[f"{what} {errno.errorcode[n]}" for what, n in PLACES])
def test_a_write_that_is_refused_is_one_line_and_the_rest_is_intact(
    tmp_path, undisturbed, monkeypatch, capsys, what, number
):
    expected = whole(undisturbed, monkeypatch)
    capsys.readouterr()
    with monkeypatch.context() as patched:
        refusing(patched, what, number)
        assert go(tmp_path / "pytest-run") == 2
    told = capsys.readouterr().err.splitlines()
    assert told[-1].startswith("xbench: cannot write /")
    assert what in told[-1]
    assert REASONS[number] in told[-1]
    assert not any("Traceback" in line for line in told)
    before = kept(tmp_path / "pytest-run")
    assert before.items() <= expected.items()
    assert not list(tmp_path.rglob("*.tmp"))
    assert go(tmp_path / "pytest-run") == 0
    assert kept(tmp_path / "pytest-run") == expected


@pytest.mark.parametrize(
    ("out", "reason"),
    [
        ("file", "File exists"),
        ("file/below", "Not a directory"),
        ("long/" + "x" * 300, "File name too long"),
        ("long/" + "x/" * 3000 + "x", "File name too long"),
    ],
    ids=["a file", "below a file", "a long name", "a long path"],
)
def test_a_folder_that_cannot_be_is_one_line(tmp_path, capsys, out, reason):
    (tmp_path / "file").write_bytes(b"in the way")
    assert go(tmp_path / out) == 2
    (told,) = capsys.readouterr().err.splitlines()
    assert told.startswith(f"xbench: cannot write to {tmp_path / out}"[:200])
    assert told.endswith(reason)
    assert (tmp_path / "file").read_bytes() == b"in the way"


def test_a_cache_that_cannot_be_is_one_line(tmp_path, monkeypatch, capsys):
    (tmp_path / "file").write_bytes(b"in the way")
    monkeypatch.setenv("XBENCH_CACHE", str(tmp_path / "file"))
    assert go(tmp_path / "run") == 2
    told = capsys.readouterr().err.splitlines()[-1]
    assert told.startswith(f"xbench: cannot write to {tmp_path / 'file' / 'fits'}")
    assert told.endswith("Not a directory")


def test_a_folder_that_vanishes_is_one_line_and_the_next_run_makes_it_again(tmp_path, monkeypatch, capsys):
    commit, calls = Store.commit, []

    def vanishing(self, *given, **named):
        commit(self, *given, **named)
        calls.append(given)
        if len(calls) == 3:
            shutil.rmtree(self.root / "records")

    monkeypatch.setattr(Store, "commit", vanishing)
    assert go(tmp_path / "run") == 2
    told = capsys.readouterr().err.splitlines()[-1]
    assert told.startswith(f"xbench: {tmp_path / 'run' / 'records'}")
    assert "cell.json is missing" in told
    assert "run the command again" in told
    assert go(tmp_path / "run") == 0


@pytest.mark.parametrize("number", REASONS)
def test_what_is_made_of_a_run_says_so_where_it_cannot_be_written(tmp_path, monkeypatch, capsys, number):
    assert go(tmp_path / "run") == 0
    run, to = str(tmp_path / "run"), tmp_path / "pytest-to"
    verbs = [
        ["report", run],
        ["report", run, "format=latex"],
        ["leaderboard", run, "--write", str(to)],
        ["ranks", run, "--metric", "deletion", "--to", str(to / "ranks.svg")],
    ]
    for verb in verbs:
        capsys.readouterr()
        with monkeypatch.context() as patched:
            refusing(patched, "/", number)
            assert main(verb) == 2, verb
        (told,) = capsys.readouterr().err.splitlines()
        assert told.startswith("xbench: cannot write /"), verb
        assert REASONS[number] in told, verb
    assert kept(tmp_path / "run")


@pytest.mark.parametrize("to", ["folder", "file/scores.csv", "x" * 300 + ".csv"])
def test_an_export_that_cannot_be_written_is_one_line(tmp_path, capsys, to):
    assert go(tmp_path / "run") == 0
    (tmp_path / "folder.csv").mkdir()
    (tmp_path / "file").write_bytes(b"in the way")
    to = tmp_path / (f"{to}.csv" if to == "folder" else to)
    capsys.readouterr()
    assert main(["export", str(tmp_path / "run"), "--to", str(to)]) == 2
    (told,) = capsys.readouterr().err.splitlines()
    assert told.startswith(f"xbench: cannot write {to}")
    assert not list(tmp_path.rglob("*.tmp"))
    assert (tmp_path / "folder.csv").is_dir()
