"""The shape of the house: imports point one way, and the harness knows no plugin."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
HARNESS = ROOT / "xbench"

# A module may import those on its own line and on the lines above it.
LAYERS = [
    {"errors", "reading", "forms", "specs", "data", "wire"},
    {
        "hookspecs",
        "seeds",
        "store",
        "keys",
        "atomic",
        "cache",
        "slices",
        "sample_files",
        "record",
        "manifest",
        "signals",
        "alone",
        "codehash",
        "refs",
        "options",
        "suite_files",
        "events",
        "class_lists",
        "unread",
        "folder",
        "folder_layouts",
        "picture_files",
        "weights",
        "user_code",
        "stored_maps",
        "map_writer",
    },
    {"tensors", "plugins", "suites", "memory", "gpus"},
    {"cores"},
    {"names", "models", "components", "perturb", "imputation"},
    {"costs", "scene", "config", "checks", "fits", "devices"},
    {"fit_tasks", "metrics", "training", "columns", "building"},
    {"cells", "plan", "scoring"},
    {"own_arguments", "own_model", "own_explanations", "stopping", "kept"},
    {"adapters"},
    {
        "attempts",
        "machines",
        "shared",
        "serving",
        "streams",
        "work",
        "worker",
        "executors",
        "stats",
        "flips",
        "paired",
        "pools",
        "rows",
        "friedman",
        "bibliography",
    },
    {"leaderboard", "export", "curves", "evidence", "origin"},
    {"tables", "comparison", "trust", "mean_ranks"},
    {"report"},
    {"results", "kept_maps"},
    {"own_records", "own_maps"},
    {"api"},
    {"estimate", "shards", "claims", "recompute", "verify"},
    {"submit", "scaffold"},
    {"testing"},
    {"cli", "__main__", "__init__"},
]
LEVEL = {name: level for level, names in enumerate(LAYERS) for name in names}


def imports(path):
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and node.module and not node.level:
            yield from [node.module] if node.module != "xbench" else [f"xbench.{alias.name}" for alias in node.names]
        elif isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)


def part(path):
    inner = path.relative_to(HARNESS)
    return inner.parts[0].removesuffix(".py")


@pytest.mark.parametrize("path", sorted(HARNESS.rglob("*.py")), ids=lambda path: str(path.relative_to(HARNESS)))
def test_imports_point_one_way(path):
    own = part(path)
    assert own in LEVEL, f"{own} has no place in the house yet"
    for name in imports(path):
        assert not name.startswith("xbench_"), f"{path} imports the plugin {name}"
        pieces = name.split(".")
        if pieces[0] == "xbench" and len(pieces) > 1 and pieces[1] in LEVEL:
            assert LEVEL[pieces[1]] <= LEVEL[own], f"{own} must not import {pieces[1]}"


@pytest.mark.parametrize("path", sorted(HARNESS.rglob("*.py")), ids=lambda path: str(path.relative_to(HARNESS)))
def test_a_module_says_in_one_line_why_it_exists(path):
    text = ast.get_docstring(ast.parse(path.read_text()))
    assert text
    assert len(text.splitlines()[0]) > 10


def test_the_wheel_carries_every_plugin_and_each_has_an_entry_point():
    import tomllib

    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    folders = {f"plugins/{path.name}" for path in (ROOT / "plugins").glob("xbench_*") if path.is_dir()}
    assert folders == set(project["tool"]["hatch"]["build"]["targets"]["wheel"]["packages"]) - {"xbench"}
    modules = set(project["project"]["entry-points"]["xbench"].values())
    assert {Path(folder).name for folder in folders} <= modules
