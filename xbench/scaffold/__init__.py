"""What ``xbench new`` writes: a plugin package of five files that works before a line of it is changed."""

import keyword
import re
from pathlib import Path
from string import Template

from xbench.errors import XbenchError
from xbench.specs import NAME

KINDS = ("explainer", "model", "dataset", "metric")
_TEMPLATES = Path(__file__).parent / "templates"
_TRY = {
    "explainer": "suite=mnist explainer='$name/*,cam/gradcam,controls/*' limit=50",
    "model": "suite=mnist model=$name/$name limit=50",
    "dataset": "suite=mnist data=$name/$name model=photos/small explainer='gradients/*,controls/*' limit=50",
    "metric": "suite=mnist metric=$name,deletion limit=50",
}


def files(kind: str, name: str) -> dict[str, str]:
    """Return the contents of a package's files by their paths in its folder.

    Parameters
    ----------
    kind
        One of `KINDS`.
    name
        Of the component and of its package ``xbench_<name>``.

    Raises
    ------
    XbenchError
        The name is no name for a component.
    """
    if keyword.iskeyword(name):
        raise XbenchError(f"name {name!r} is a word of Python's own; another one is needed, for example my_{name}")
    if not re.fullmatch(NAME, name):
        raise XbenchError(f"name {name!r} must be lower-case letters, digits and _, and begin with a letter: my_{kind}")
    if name.startswith("xbench_"):
        raise XbenchError(f"name {name!r}: the package becomes xbench_{name}; write {name.removeprefix('xbench_')!r}")
    article = "an" if kind == "explainer" else "a"
    values = {"name": name, "kind": kind, "id": id_of(kind, name), "dashed": name.replace("_", "-")}
    values |= {"run": trial(kind, name), "article": article, "Article": article.title()}
    made = {
        "pyproject.toml": "pyproject.toml",
        f"xbench_{name}/__init__.py": f"{kind}.py",
        "README.md": "README.md",
        f"tests/test_{name}.py": "test.py",
        ".gitignore": "gitignore",
    }
    return {
        path: Template((_TEMPLATES / f"{template}.txt").read_text(encoding="utf-8")).substitute(values)
        for path, template in made.items()
    }


def id_of(kind: str, name: str) -> str:
    """Return the id of the component in the package of that name."""
    return name if kind == "metric" else f"{name}/{name}"


def trial(kind: str, name: str) -> str:
    """Return the command that runs it."""
    return "xbench run " + Template(_TRY[kind]).substitute(name=name)


def write_package(kind: str, name: str, folder: Path) -> list[Path]:
    """Write a package into a new folder and return its files.

    Raises
    ------
    XbenchError
        The folder holds something already, or cannot be written.
    """
    contents = files(kind, name)
    try:
        if folder.exists() and any(folder.iterdir()):
            raise XbenchError(f"{folder} is not empty; choose another folder with --to DIR")
        for path, text in contents.items():
            target = folder / path
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_text(text, encoding="utf-8")
    except OSError as error:
        raise XbenchError(f"cannot write to {folder}: {error.strerror or error}") from error
    return [folder / path for path in contents]
