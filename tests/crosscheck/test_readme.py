"""README.md names every known defect's test, and no other; its table has a row for every comparison."""

import re
from pathlib import Path

HERE = Path(__file__).parent
README = (HERE / "README.md").read_text()
TESTS = "".join(path.read_text() for path in HERE.glob("test_*.py") if path.name != Path(__file__).name)


def test_every_known_defect_stands_in_the_readme_with_its_test():
    shown = set(re.findall(r"def test_known_defect_(\w+)", TESTS))
    assert shown == set(re.findall(r"`((?:quantus|rise|grad_cam|captum)_\w+)`", README))


def test_every_comparison_stands_in_the_readme():
    begun = set(re.findall(r'agree\(\s*f?"([^"{,]+)', TESTS))
    rows = re.findall(r"^\| ([^|]+) \| \d+ \|", README, re.MULTILINE)
    assert begun
    assert {name for name in begun if not any(row.startswith(name) for row in rows)} == set()
