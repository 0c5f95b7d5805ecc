"""A stranger's package works before a line of it is changed: installed from its own folder, checked, run, ranked, tested."""

import os
import subprocess
import sys
import tomllib

import pytest

from xbench.cli import main
from xbench.scaffold import KINDS, files

RUN = {
    "explainer": ["explainer=mine/mine,controls/random"],
    "model": ["model=mine/mine[epochs=1]", "explainer=controls/random"],
    "dataset": ["data=mine/mine", "model=photos/small[epochs=1]", "explainer=controls/random"],
    "metric": ["metric=mine", "explainer=gradients/gradient,controls/random"],
}


@pytest.mark.parametrize("kind", KINDS)
def test_it_is_five_files_and_a_short_module(kind):
    made = files(kind, "mine")
    assert len(made) == 5
    assert tomllib.loads(made["pyproject.toml"])["project"]["entry-points"]["xbench"] == {"mine": "xbench_mine"}
    module = made["xbench_mine/__init__.py"]
    compile(module, "mine", "exec")
    assert "$" not in "".join(made.values())
    assert sum(1 for line in module.splitlines() if line.strip()) < 30
    assert len([line for line in made["tests/test_mine.py"].splitlines() if line.strip()]) <= 4


@pytest.mark.parametrize(
    ("name", "said"),
    [("Mine", "lower-case"), ("class", "my_class"), ("xbench_mine", "write 'mine'"), ("a/b", "lower")],
)
def test_a_name_that_cannot_be_is_refused(name, said, capsys, tmp_path):
    assert main(["new", "explainer", name, "--to", str(tmp_path / "x")]) == 2
    assert said in capsys.readouterr().err
    assert not (tmp_path / "x").exists()


def test_nothing_is_overwritten(tmp_path, capsys):
    (tmp_path / "precious").write_text("mine")
    assert main(["new", "explainer", "mine", "--to", str(tmp_path)]) == 2
    assert "not empty" in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["precious"]


@pytest.mark.parametrize("kind", KINDS)
def test_what_is_printed_are_the_files_and_the_next_three_commands(kind, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert main(["new", kind, "my_own"]) == 0
    lines = [line.strip() for line in capsys.readouterr().out.splitlines()]
    assert all((tmp_path / line).is_file() for line in lines[1:6])
    ident = "my_own" if kind == "metric" else "my_own/my_own"
    install, check, run = lines[-3:]
    assert install == "pip install -e xbench-my-own"
    assert check == f"xbench check {ident}"
    readme = (tmp_path / "xbench-my-own" / "README.md").read_text()
    assert run in readme
    assert ("An explainer" if kind == "explainer" else f"A {kind}") in readme


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_a_strangers_package_is_installed_checked_run_and_ranked(kind, tmp_path):
    folder, site = tmp_path / "xbench-mine", tmp_path / "site"
    xbench = [sys.executable, "-m", "xbench"]

    def do(*command, **extra):
        paths = os.pathsep.join([str(site), os.environ.get("PYTHONPATH", "")])
        done = subprocess.run(
            command, cwd=tmp_path, env={**os.environ, "PYTHONPATH": paths, **extra}, capture_output=True, text=True
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    do(*xbench, "new", kind, "mine")
    # An environment of its own, without a network: its folder is installed beside what is there.
    pip = [sys.executable, "-m", "pip", "install", "-q", "--no-deps", "--no-build-isolation", "--target", str(site)]
    do(*pip, str(folder))
    ident = "mine" if kind == "metric" else "mine/mine"
    assert "mine" in do(*xbench, "list", f"{kind}s")
    assert "1 " + kind in do(*xbench, "list", "plugins", "mine")
    do(*xbench, "check", ident)
    small = [] if any(text.startswith("model=") for text in RUN[kind]) else ["model=mnist/s2[epochs=1]"]
    table = do(*xbench, "run", "suite=mnist", *RUN[kind], *small, "limit=12", "out=out")
    assert "mine" in table
    assert (tmp_path / "out" / "report" / "index.html").exists()
    do(sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", str(folder))
