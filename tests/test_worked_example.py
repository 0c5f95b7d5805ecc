"""README's worked example: it prints what README shows, and its analysis errs as seldom as README says."""

import re
from pathlib import Path

import numpy as np
import pytest

README = (Path(__file__).parent.parent / "README.md").read_text()
SECTION = re.search(r"^## Statistics, by example\n(.*?)^## ", README, re.MULTILINE | re.DOTALL)[1]
CODE = re.search(r"```python\n(.*?)```", SECTION, re.DOTALL)[1]


def test_the_example_prints_what_is_shown(capsys):
    exec(compile(CODE, "README.md", "exec"), {})
    assert capsys.readouterr().out == re.search(r"```text\n(.*?)```", SECTION, re.DOTALL)[1]


@pytest.mark.parametrize(("patients", "films"), [(60, 1), (60, 3)], ids=["images", "clusters"])
def test_its_intervals_hold_a_known_difference_in_93_to_97_percent_and_it_finds_none_in_94(patients, films):
    own = {}
    exec(compile(CODE, "README.md", "exec"), own)
    rng, held, wrong = np.random.default_rng(1), 0, 0
    for _ in range(500):
        (better, _, worse), patient = own["scores"](rng, (0.10, 0.01, 0.00), patients, films)
        # With the known difference taken off, nothing is left to be found.
        (low, high), told = own["versus"](better - 0.10, worse, patient)
        held += low <= 0 <= high
        wrong += told.p <= 0.05
    assert 0.93 <= held / 500 <= 0.97
    assert wrong / 500 <= 0.06
    for share in (held / 500, wrong / 500):
        assert f"{share:.1%}".replace("%", " %") in SECTION
