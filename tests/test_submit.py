"""A leaderboard holds what anyone can make again, and shows nothing but that."""

import json
from pathlib import Path

import pytest

from xbench import api
from xbench.cli import main
from xbench.errors import XbenchError
from xbench.evidence import Changed, Evidence
from xbench.leaderboard import read_boards
from xbench.manifest import run_folder, write_manifest
from xbench.plugins import discover
from xbench.store import Store, content_key
from xbench.submit import explainers, problems, submit
from xbench.tables import markdown
from xbench.verify import verify

pytestmark = pytest.mark.usefixtures("fakes")
CLEAN = {"version": "1.0", "editable": False, "source": None, "commit": None}


def go(out, explainer="fake/weights,controls/random", origin=None, **settings):
    run = api.run(
        "blobs", **{"executor": "inline", "device": "cpu", "limit": 40, **settings}, explainer=explainer, out=out
    )
    come_from(out, CLEAN if origin is None else origin)
    return run


def come_from(folder, origin):
    """Say that all code came from there: tests run on an editable installation."""
    manifest = run_folder(folder)[2]
    assert "xbench-xai" in manifest["origins"]
    manifest["origins"] = dict.fromkeys(manifest["origins"], origin)
    write_manifest(folder, manifest)


def accept(folder, to, doubt=""):
    registry = discover()
    return submit(folder, to, registry, verify(folder, registry, 2, 2, 0, "cpu"), doubt)


def test_accepted_records_make_the_tables_of_the_run(tmp_path):
    go(tmp_path / "run", model="fake/linear,fake/learnt", seed="0,1")
    accept(tmp_path / "run", tmp_path / "lb")
    keys, primary, _ = run_folder(tmp_path / "run")
    run = read_boards([Store(tmp_path / "run")], keys)
    kept = read_boards([Evidence(tmp_path / "lb" / "records" / "blobs")])
    assert [markdown(board, primary) for board in kept] == [markdown(board, primary) for board in run]
    for one, other in zip(run[0].rows, kept[0].rows, strict=True):
        assert one.rank == other.rank
        assert other.mean == pytest.approx(one.mean, rel=1e-8)


@pytest.mark.parametrize(
    ("origin", "said"),
    [
        ({**CLEAN, "editable": True}, "editable"),
        ({**CLEAN, "source": "a local folder", "commit": "abc", "dirty": True}, "uncommitted"),
        ({**CLEAN, "source": "a local folder"}, "version control"),
        ({"version": "not installed"}, "without being installed"),
    ],
)
def test_code_that_nobody_else_can_get_is_refused(tmp_path, origin, said):
    go(tmp_path / "run", origin=origin)
    with pytest.raises(XbenchError, match=said):
        accept(tmp_path / "run", tmp_path / "lb")
    assert not (tmp_path / "lb").exists()


def test_clean_code_under_version_control_is_welcome(tmp_path):
    go(tmp_path / "run", origin={**CLEAN, "source": "a local folder", "commit": "abc", "dirty": False})
    assert problems(tmp_path / "run", discover()) == []


def test_an_explainer_without_a_source_is_refused_and_a_control_needs_none(tmp_path):
    go(tmp_path / "run", explainer="fake/weights,fake/noise,controls/random")
    assert [line.split()[0] for line in problems(tmp_path / "run", discover())] == ["fake/noise"]


def test_a_cell_that_failed_is_refused_with_its_reason(tmp_path):
    go(tmp_path / "run", explainer="fake/weights,fake/touches")
    found = problems(tmp_path / "run", discover())
    assert any("fake/touches" in line and "error" in line for line in found)


def test_a_run_that_is_not_verified_is_refused(tmp_path):
    go(tmp_path / "run")
    head = next((tmp_path / "run" / "records").rglob("00000.json"))
    verdict = verify(tmp_path / "run", discover(), 2, 2, 0, "cpu")
    verdict.mismatches.append("forged")
    with pytest.raises(XbenchError, match="forged"):
        submit(tmp_path / "run", tmp_path / "lb", discover(), verdict)
    head.write_text(head.read_text().replace('"slice":0', '"slice":1'))
    with pytest.raises(XbenchError, match=head.name):
        accept(tmp_path / "run", tmp_path / "lb")


def test_a_second_submission_takes_the_place_of_the_first(tmp_path):
    go(tmp_path / "one", limit=40)
    go(tmp_path / "two", limit=60)
    accept(tmp_path / "one", tmp_path / "lb")
    done = accept(tmp_path / "two", tmp_path / "lb")
    left = {path.name for path in (tmp_path / "lb" / "records" / "blobs").iterdir()}
    assert {path.name for path in done.written} == left
    # The classifier alone is measured on all samples: its record is the same.
    assert len(done.removed) == 2 + 1
    assert accept(tmp_path / "two", tmp_path / "lb").removed == ()


def test_every_changed_record_is_named_and_no_table_is_made(tmp_path, capsys):
    go(tmp_path / "run")
    accept(tmp_path / "run", tmp_path / "lb")
    paths = sorted((tmp_path / "lb" / "records" / "blobs").glob("fake*.json"))
    for path in paths:
        path.write_text(path.read_text().replace('"score/deletion": [0.', '"score/deletion": [1.'))
    with pytest.raises(Changed) as caught:
        Evidence(paths[0].parent)
    assert caught.value.paths == paths
    assert main(["leaderboard", str(tmp_path / "lb")]) == 2
    assert paths[0].name in capsys.readouterr().err
    assert main(["verify", str(tmp_path / "lb")]) == 1
    assert main(["verify", str(paths[0])]) == 1
    assert paths[0].name in capsys.readouterr().out
    whole = next((tmp_path / "lb" / "records" / "blobs").glob("controls*.json"))
    assert main(["verify", str(whole)]) == 0


def test_a_changed_table_of_samples_is_named(tmp_path, capsys):
    go(tmp_path / "run")
    accept(tmp_path / "run", tmp_path / "lb")
    path = next((tmp_path / "lb" / "records" / "blobs").glob("samples-*.json"))
    path.write_text(path.read_text().replace('"groups": ["', '"groups": ["x'))
    assert main(["verify", str(tmp_path / "lb")]) == 1
    assert path.name in capsys.readouterr().out


def test_tables_and_page_are_a_pure_view(tmp_path, capsys):
    go(tmp_path / "run")
    accept(tmp_path / "run", tmp_path / "lb")
    assert main(["leaderboard", str(tmp_path / "lb"), "--check"]) == 1
    assert main(["leaderboard", str(tmp_path / "lb"), "--write"]) == 0
    files = {path: path.read_bytes() for path in (tmp_path / "lb").rglob("*") if path.is_file()}
    assert tmp_path / "lb" / "index.html" in files
    assert main(["leaderboard", str(tmp_path / "lb"), "--check"]) == 0
    assert main(["leaderboard", str(tmp_path / "lb"), "--write"]) == 0
    assert {path: path.read_bytes() for path in files} == files
    capsys.readouterr()
    table = tmp_path / "lb" / "blobs" / "table.md"
    table.write_text(table.read_text().replace("1", "2", 1))
    assert main(["leaderboard", str(tmp_path / "lb"), "--check"]) == 1
    assert str(table) in capsys.readouterr().out


def test_a_doubt_stands_in_every_table(tmp_path):
    go(tmp_path / "run")
    accept(tmp_path / "run", tmp_path / "lb", "reported: maps sent by the authors")
    (board,) = read_boards([Evidence(tmp_path / "lb" / "records" / "blobs")])
    assert {row.doubt for row in board.rows if row.explainer and row.mean is not None} == {
        "reported: maps sent by the authors"
    }
    text = markdown(board, "deletion")
    assert "] ‡ |" in text
    assert "‡ " in text
    assert "reported: maps sent by the authors" in text
    for doubt in ("perhaps", "reported", "reportedly: no"):
        with pytest.raises(XbenchError, match="must begin with"):
            accept(tmp_path / "run", tmp_path / "lb", doubt)


def test_what_rests_on_few_samples_is_called_unreliable(tmp_path):
    many = go(tmp_path / "many", limit=40)
    few = go(tmp_path / "few", limit=10)
    assert {row.doubt for row in many.rows} == {""}
    assert all("too few" in row.doubt for row in few.rows if row.explainer)


def test_no_folder_of_the_submitter_is_published(tmp_path, monkeypatch):
    monkeypatch.setattr("sys.argv", [str(tmp_path / "bin" / "xbench"), "run", f"out={tmp_path}"])
    go(tmp_path / "run", data_root=str(tmp_path))
    accept(tmp_path / "run", tmp_path / "lb")
    for path in Path(tmp_path / "lb").rglob("*.json"):
        assert str(tmp_path) not in path.read_text()


def test_another_target_is_another_board_and_both_stay(tmp_path):
    go(tmp_path / "one", target="predicted")
    go(tmp_path / "two", target="label")
    accept(tmp_path / "one", tmp_path / "lb")
    assert not [path for path in accept(tmp_path / "two", tmp_path / "lb").removed if "classifier" not in path.name]
    assert len(read_boards([Evidence(tmp_path / "lb" / "records" / "blobs")])) == 2


def test_code_of_ones_own_is_refused(tmp_path, monkeypatch):
    (tmp_path / "ownmap.py").write_text("def explain(model, image, target):\n    return image.mean(dim=1)\n")
    monkeypatch.chdir(tmp_path)
    go(tmp_path / "run", explainer="python:ownmap.explain,controls/random")
    assert any("which nobody else has" in line for line in problems(tmp_path / "run", discover()))


def test_a_table_of_no_record_is_told_and_goes(tmp_path, capsys):
    go(tmp_path / "run")
    accept(tmp_path / "run", tmp_path / "lb")
    assert main(["leaderboard", str(tmp_path / "lb"), "--write"]) == 0
    stranger = tmp_path / "lb" / "gone" / "table.md"
    stranger.parent.mkdir()
    stranger.write_text("| 1 | mine/best |")
    assert main(["leaderboard", str(tmp_path / "lb"), "--check"]) == 1
    assert str(stranger) in capsys.readouterr().out
    assert main(["leaderboard", str(tmp_path / "lb"), "--write"]) == 0
    assert not stranger.exists()


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("unmeasured", None),
        ("columns", []),
        ("cost", {}),
        ("run", {}),
        ("columns", {"score/deletion": [1.0]}),
        ("doubt", 3),
    ],
)
def test_a_record_of_another_shape_is_one_line(tmp_path, name, value):
    go(tmp_path / "run")
    accept(tmp_path / "run", tmp_path / "lb")
    path = next((tmp_path / "lb" / "records" / "blobs").glob("fake*.json"))
    content = json.loads(path.read_text())
    del content["digest"]
    content[name] = value
    path.write_text(json.dumps({**content, "digest": content_key(content)}))
    with pytest.raises(XbenchError, match="is no record"):
        Evidence(path.parent)


@pytest.mark.slow
def test_an_explainer_that_fails_its_kit_is_refused(tmp_path, capsys):
    go(tmp_path / "run", explainer="fake/torchs_own,controls/random")
    assert main(["submit", str(tmp_path / "run"), "--to", str(tmp_path / "lb"), "--device", "cpu"]) == 2
    said = capsys.readouterr()
    assert "checking fake/torchs_own" in said.out
    assert "fake/torchs_own fails a check" in said.err
    assert not (tmp_path / "lb").exists()


def test_explainers_that_are_asked_for_conformance_are_those_with_scores_and_no_controls(tmp_path):
    go(tmp_path / "run", explainer="fake/halved[of=fake/weights],controls/random")
    assert explainers(tmp_path / "run") == ["fake/halved", "fake/weights"]
