"""A component written by the last part of its id: the same one, recorded in full, or one line that names all it can be."""

import pytest

from xbench import cli
from xbench.components import resolve
from xbench.config import make_config
from xbench.errors import XbenchError
from xbench.names import full_ids
from xbench.plan import make_plan
from xbench.plugins import discover
from xbench.testing import subjects

FULL = {"data": "mnist/digits", "model": "mnist/s2[epochs=1]", "explainer": "cam/gradcam,controls/blur[of=cam/gradcam]"}
BARE = {"data": "digits", "model": "s2[epochs=1]", "explainer": "gradcam,blur[of=gradcam]"}


def config(arguments):
    return make_config(arguments, discover())


def refused(arguments):
    with pytest.raises(XbenchError) as caught:
        config(arguments)
    return list(caught.value.lines)


def test_what_is_written_short_has_the_names_and_keys_of_what_is_written_out():
    plans = []
    for words in (FULL, BARE):
        given = [f"{key}={value}" for key, value in words.items()]
        plans.append(make_plan(config(["suite=mnist", "limit=4", "metric=deletion,accuracy", *given])))
    full, bare = plans
    assert [cell.key for cell in full.cells] == [cell.key for cell in bare.cells]
    assert [cell.label for cell in full.cells] == [cell.label for cell in bare.cells]
    assert bare.cells[-1].label.startswith("controls/blur[of=cam/gradcam] on mnist/s2")


@pytest.mark.parametrize(
    ("kind", "name", "home", "ids"),
    [
        ("explainer", "gradcam", "", ["cam/gradcam"]),
        ("explainer", "cam/gradcam", "", ["cam/gradcam"]),
        ("explainer", "am/gradcam", "", []),
        ("explainer", "cam", "", []),
        ("dataset", "grid", "", ["photos/grid"]),
        ("dataset", "folder", "", ["anole/folder", "food/folder", "photos/folder"]),
        ("dataset", "folder", "food", ["food/folder"]),
        ("dataset", "folder", "mnist", ["anole/folder", "food/folder", "photos/folder"]),
        ("metric", "deletion", "photos", ["deletion"]),
        ("model", "small", "photos", ["photos/small"]),
    ],
)
def test_a_short_name_is_one_of_its_home_or_the_only_one_installed(kind, name, home, ids):
    assert full_ids(kind, name, discover(), home) == ids


@pytest.mark.parametrize("suite", ["photos", "food", "anole"])
def test_folder_is_the_suite_s_own(suite):
    assert config([f"suite={suite}", "data=folder"]).data.spec.id == f"{suite}/folder"


def test_a_name_that_can_be_several_is_one_line_with_all_of_them(capsys):
    assert refused(["suite=mnist", "data=folder", "model=small"]) == [
        "dataset 'folder' can be anole/folder, food/folder or photos/folder; write one of them",
        "model 'small' can be chestxray/small or photos/small; write one of them",
    ]
    for verb in ("show", "check"):
        assert cli.main([verb, "folder"]) == 2
        assert capsys.readouterr().err == (
            "xbench: component 'folder' can be anole/folder, food/folder or photos/folder; write one of them\n"
        )


def test_the_suite_s_data_written_short_keep_the_suite_s_parameters():
    assert config(["suite=photos", "data=grid"]).data.text == config(["suite=photos"]).data.text
    assert config(["suite=chestxray", "data=phantom"]).data.params == config(["suite=chestxray"]).data.params


def test_show_and_check_take_short_names(capsys):
    assert cli.main(["show", "gradcam"]) == 0
    assert capsys.readouterr().out.startswith("explainer cam/gradcam\n")
    (subject,) = subjects(["gradcam[score=prob]"])
    assert subject.what == "cam/gradcam[score=prob]"


def test_a_pattern_means_whole_ids_as_ever():
    assert refused(["suite=mnist", "explainer=gradca?"]) == [
        "explainer 'gradca?' matches nothing that is installed; did you mean 'cam/gradcam'? (xbench list explainers)"
    ]


def test_a_misspelt_short_name_is_told_the_nearest():
    mistakes = []
    assert resolve("explainer", "gradcm", discover(), mistakes) is None
    assert "did you mean 'cam/gradcam'" in mistakes[0]
