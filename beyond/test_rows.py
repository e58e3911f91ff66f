"""Every recorded row is made as today's code would make it: the fingerprint of its
untrained network is that of now. python -m pytest beyond/test_rows.py"""

import importlib.util
from collections import Counter
from pathlib import Path

import pytest
import torch

from beyond import (
    angles,
    breaks,
    controls,
    digits,
    equilibrium,
    home,
    landing,
    law,
    owners,
    parting,
    readers,
    sweep,
)

torch.set_num_threads(1)  # the networks are small: a second thread only waits
QUESTION_OF = {
    "breaks": breaks.QUESTION,
    "controls": controls.QUESTION,
    "digits": digits.QUESTION,
    "equilibrium": equilibrium.QUESTION,
    "home": home.QUESTION,
    "law": law.QUESTION,
    "losses": landing.QUESTION,
    "owners": owners.QUESTION,
    "parting": parting.QUESTION,
    "readers": readers.QUESTION,
    "rotated": angles.QUESTION,
    "start": owners.QUESTION,
}
# How many rows of each file are of variants that only an earlier commit has (sweep.CUT).
CUT = {
    "breaks": 176,
    "controls": 306,
    "longer/controls": 80,
    "longer_seeds_1000_1002/controls": 48,
    "seeds_1000_1002/controls": 73,
    "seeds_1000_1009/controls": 150,
    "seeds_1000_1007/home": 96,
    "seeds_1000_1007/rotated": 24,
    "start": 210,
}
FILES = sorted(sweep.ROWS.rglob("*.jsonl"))


def name_of(path):
    return path.relative_to(sweep.ROWS).with_suffix("").as_posix()


def needs_monai(question, row):
    return row["variant"] in question.variants and row["change"]["net"] == "Monai"


@pytest.mark.parametrize("path", FILES, ids=name_of)
def test_every_row_has_the_fingerprint_of_todays_code(path):
    question = QUESTION_OF[path.stem]
    if question is digits.QUESTION:
        pytest.importorskip("sklearn")  # with which its images come
    rows = sweep.read(path)
    if importlib.util.find_spec("monai") is None:
        rows = [row for row in rows if not needs_monai(question, row)]
    s = sweep.made_with(question.settings, rows[0])
    fitting, cut, wrong = sweep.sorted_out(question, rows, s, "cpu", made=True)
    assert wrong == ""
    assert len(cut) == CUT.get(name_of(path), 0), Counter(row["variant"] for row in cut)
    assert len(fitting) + len(cut) == len(rows)


def test_no_row_is_lost():
    assert sum(len(path.read_text().splitlines()) for path in FILES) >= 9693


def test_the_readme_says_how_many_rows_are_of_earlier_commits():
    readme = Path(__file__).with_name("README.md").read_text(encoding="utf-8")
    assert f"{sum(CUT.values())} rows are of variants that only" in readme
