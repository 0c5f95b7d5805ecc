"""The code hash moves with every change of what is computed and with nothing else."""

import ast
import importlib
import importlib.util
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

import xbench
from xbench import codehash, specs

METHOD = '''"""A method."""

import math

from strange_pack.helper import scale


class Method:
    """Does it."""

    def __call__(self, batch):
        """Explain."""
        return scale(batch * 2, "sum") + math.pi


def factory(model, layer=None):
    """Return the method."""
    return Method()
'''
HELPER = '''def scale(batch, how):
    """Scale."""
    return batch / 3
'''


@pytest.fixture
def package(tmp_path, monkeypatch):
    """A small package on the path, and a way to hash it as a new process would."""
    return Package(tmp_path / "here", monkeypatch)


class Package:
    def __init__(self, folder, monkeypatch):
        self.folder, self.monkeypatch = folder, monkeypatch
        monkeypatch.setattr(sys, "dont_write_bytecode", True)
        monkeypatch.syspath_prepend(str(folder))
        self.write(
            {
                "strange_pack/__init__.py": "",
                "strange_pack/method.py": METHOD,
                "strange_pack/helper.py": HELPER,
                "strange_pack/unrelated.py": "x = 1\n",
            }
        )

    def write(self, files):
        for name, text in files.items():
            path = self.folder / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)

    def hash(self, factory="strange_pack.method:factory"):
        for name in [name for name in sys.modules if name.partition(".")[0].startswith("strange_")]:
            self.monkeypatch.delitem(sys.modules, name)
        importlib.invalidate_caches()
        spec = importlib.util.find_spec("xbench.codehash")
        fresh = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(fresh)
        return fresh.code_hash(factory)

    def moved(self, files):
        """Whether the hash moves when files change; they are put back."""
        before = self.hash()
        old = {name: (self.folder / name).read_text() for name in files if (self.folder / name).exists()}
        self.write(files)
        after = self.hash()
        self.write(old)
        assert self.hash() == before
        return before != after


def method(old, new):
    assert old in METHOD
    return {"strange_pack/method.py": METHOD.replace(old, new)}


@pytest.mark.parametrize(
    "change",
    [
        method('"""A method."""', "# A method"),
        method('"""Does it."""', '"""Does it\n\n    in other words."""'),
        method('        """Explain."""\n', ""),
        method('    """Return the method."""\n', "    # a comment instead\n"),
        method("batch * 2, ", "\n    (batch*2),# why\n  "),
        method('"sum"', "'sum'"),
        method("\n\n\nclass", "\nclass"),
        method("import math\n", "import math\n# coding of constants\n"),
    ],
    ids=[
        "comment",
        "class docstring",
        "function docstring",
        "docstring to comment",
        "layout",
        "quotes",
        "blanks",
        "note",
    ],
)
def test_comments_docstrings_and_layout_do_not_move_it(package, change):
    assert not package.moved(change)


@pytest.mark.parametrize(
    "change",
    [
        method("batch * 2", "batch * 3"),
        method("batch * 2", "batch * 2.0"),
        method("batch * 2", 'batch * "2"'),
        method("batch * 2", "batch + 2"),
        method('"sum"', '"max"'),
        method("layer=None", "layer=0"),
        method("math.pi", "math.e"),
        method("return Method()", "Method()"),
        method("class Method:", "class Method(list):"),
        method("    def __call__", "    @staticmethod\n    def __call__"),
        method("import math\n", "import math\n\nX = 'not a docstring'\n"),
        method("def factory", "async def factory"),
    ],
)
def test_a_change_of_code_moves_it(package, change):
    assert package.moved(change)


FROM = "from strange_pack.helper import scale"


@pytest.mark.parametrize(
    "written",
    [
        FROM,
        "from strange_pack import helper",
        "import strange_pack.helper",
        "import strange_pack.helper as other",
        "from . import helper",
        "from .helper import scale",
        "from .helper import *",
        "def late():\n    from .helper import scale",
        "try:\n    from .helper import scale\nexcept ImportError:\n    pass",
    ],
)
def test_a_change_of_an_imported_sibling_moves_it(package, written):
    package.write(method(FROM, written))
    helper = {"strange_pack/helper.py": HELPER.replace("/ 3", "/ 4")}
    assert package.moved(helper)
    assert not package.moved({"strange_pack/helper.py": HELPER.replace("Scale.", "Make it small.")})
    assert not package.moved({"strange_pack/unrelated.py": "x = 2\n"})


def test_what_siblings_import_counts_too_in_circles_and_from_subpackages(package):
    package.write(
        {
            "strange_pack/helper.py": "from .sub import near\nfrom . import method\n" + HELPER,
            "strange_pack/sub/__init__.py": "from .deep import thing\n",
            "strange_pack/sub/near.py": "y = 1\n",
            "strange_pack/sub/deep.py": "from .. import low\nfrom ..sub2.far import z\nthing = 1\n",
            "strange_pack/low.py": "low = 1\n",
            "strange_pack/sub2/__init__.py": "",
            "strange_pack/sub2/far.py": "z = 1\n",
            "strange_pack/sub2/near.py": "y = 1\n",
        }
    )
    assert package.moved({"strange_pack/sub/near.py": "y = 2\n"})
    assert package.moved({"strange_pack/sub/__init__.py": "from .deep import thing as other\n"})
    assert package.moved({"strange_pack/sub/deep.py": "from .. import low\nfrom ..sub2.far import z\nthing = 2\n"})
    assert package.moved({"strange_pack/low.py": "low = 2\n"})
    assert package.moved({"strange_pack/sub2/far.py": "z = 2\n"})
    assert not package.moved({"strange_pack/sub2/near.py": "y = 2\n"})


def test_code_of_other_packages_does_not_count(package):
    package.write(method(FROM, "from strange_other.helper import scale"))
    package.write({"strange_other/__init__.py": "", "strange_other/helper.py": HELPER})
    assert not package.moved({"strange_other/helper.py": "def scale(): pass\n"})
    # A package whose name only begins alike is another one.
    package.write(method(FROM, "from strange_pack2 import scale"))
    package.write({"strange_pack2/__init__.py": HELPER})
    assert not package.moved({"strange_pack2/__init__.py": "def scale(): pass\n"})


def test_two_modules_of_the_same_text_hash_differently_by_what_they_import(package):
    package.write(
        {"strange_pack/a.py": "from .helper import scale\n", "strange_pack/b.py": "from .unrelated import x\n"}
    )
    assert package.hash("strange_pack.a:f") != package.hash("strange_pack.b:f")


def test_a_single_module_beside_no_package_is_hashed(package):
    package.write({"strange_alone.py": "def f(): return 1\n"})
    one = package.hash("strange_alone:f")
    package.write({"strange_alone.py": "def f(): return 2\n"})
    assert len({one, package.hash("strange_alone:f"), "none"}) == 3


def test_it_is_the_same_wherever_the_package_lies_and_in_every_process(package, tmp_path):
    here = package.hash()
    code = "from xbench.codehash import code_hash; print(code_hash('strange_pack.method:factory'))"
    (tmp_path / "there").mkdir()
    (package.folder / "strange_pack").rename(tmp_path / "there" / "strange_pack")
    root = str(Path(xbench.__file__).parents[1])
    for number in ("1", "2"):
        environment = {
            **os.environ,
            "PYTHONPATH": os.pathsep.join([str(tmp_path / "there"), root]),
            "PYTHONHASHSEED": number,
        }
        done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
        assert done.stdout.strip() == here
    assert len(here) == 16
    assert set(here) <= set("0123456789abcdef")


@pytest.mark.parametrize("factory", ["sys:path", "nowhere.at.all:thing", "strange_pack.missing:thing"])
def test_what_has_no_python_source_has_none(package, factory):
    assert package.hash(factory) == "none"


def test_hashing_runs_no_module_below_the_package(package):
    package.write(method("import math\n", "raise RuntimeError('imported')\n"))
    assert package.hash() != "none"


def test_code_of_another_plugin_counts(package):
    package.write(method(FROM, "from xbench_strange.helper import scale"))
    package.write({"xbench_strange/__init__.py": "", "xbench_strange/helper.py": HELPER})
    assert package.moved({"xbench_strange/helper.py": "def scale(): pass\n"})


DECLARED = {"strange_pack/method.py": METHOD + '\nSPEC = ExplainerSpec(name="a", version=1, summary="words")\n'}


@pytest.mark.parametrize(
    ("new", "moves"),
    [
        ('summary="others"', False),
        ('summary="words", meanings={"a": "b"}, citation="c", cites=("d",)', False),
        ('summary="words", quick={"epochs": 1}', False),
        ('summary="words", cost={"forwards": 2}', False),
        ('summary="words", params={"epochs": 1}', True),
    ],
)
def test_what_a_spec_says_in_words_does_not_move_it(package, new, moves):
    package.write(DECLARED)
    text = DECLARED["strange_pack/method.py"]
    assert package.moved({"strange_pack/method.py": text.replace('summary="words"', new)}) is moves
    # The same name is a word in a declaration only.
    package.write({"strange_pack/method.py": text.replace("ExplainerSpec", "explain")})
    assert package.moved({"strange_pack/method.py": text.replace("ExplainerSpec", "explain").replace('"words"', '"x"')})


FIELDS = "class ExplainerSpec:\n    name: str\n    fit: str\n"


@pytest.mark.parametrize(
    ("new", "moves"),
    [
        ("    cost: dict\n", False),
        ("    cost: dict = field(default_factory=dict)\n", False),
        ("    gives: tuple\n", True),
    ],
)
def test_a_field_for_checks_that_came_later_does_not_move_it(package, new, moves):
    # The hashes of metrics reach the harness's specs: records made before the field was there stay the same evidence.
    package.write({"strange_pack/method.py": FIELDS + METHOD})
    assert package.moved({"strange_pack/method.py": FIELDS + new + METHOD}) is moves
    package.write({"strange_pack/method.py": FIELDS.replace("ExplainerSpec", "Other") + METHOD})
    assert package.moved({"strange_pack/method.py": FIELDS.replace("ExplainerSpec", "Other") + new + METHOD})


def test_metrics_keep_the_keys_that_they_had_before_explainers_declared_a_cost():
    now = Path(specs.__file__).read_text()
    before = re.sub(r"^    cost: .*\n", "", now, flags=re.MULTILINE)
    assert before != now
    one, other = ("".join(codehash._shape(ast.parse(text))) for text in (now, before))
    assert one == other
