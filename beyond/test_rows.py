"""Every recorded row is made as today's code would make it: the fingerprint of its
untrained network is that of now. python -m pytest beyond/test_rows.py"""

from collections import Counter
from importlib.util import find_spec

import pytest
import torch

from beyond import (
    angles,
    breaks,
    controls,
    equilibrium,
    landing,
    law,
    owners,
    parting,
    sweep,
)

torch.set_num_threads(1)  # the networks are small: a second thread only waits
QUESTIONS = {
    "angles": angles.QUESTION,
    "breaks": breaks.QUESTION,
    "controls": controls.QUESTION,
    "equilibrium": equilibrium.QUESTION,
    "landing": landing.QUESTION,
    "law": law.QUESTION,
    "owners": owners.QUESTION,
    "parting": parting.QUESTION,
}
# How many rows of each file are of variants that only an earlier commit has (sweep.CUT).
CUT = {
    "breaks": 116,
    "controls": 180,
    "longer/controls": 80,
    "longer_seeds_1000_1002/controls": 48,
    "seeds_1000_1002/controls": 73,
    "seeds_1000_1009/controls": 150,
    "start": 210,
}
FILES = sorted(sweep.ROWS.rglob("*.jsonl"))


def name_of(path):
    return path.relative_to(sweep.ROWS).with_suffix("").as_posix()


def question_of(path):
    """Return the question that has a file of that name, in whatever folder."""
    for question in QUESTIONS.values():
        names = [name.split("/")[-1] for name in (question.name, *question.files)]
        if path.stem in names:
            return question
    raise LookupError(f"no question has {path}")


@pytest.mark.parametrize("path", FILES, ids=name_of)
def test_every_row_has_the_fingerprint_of_todays_code(path):
    question = question_of(path)
    rows = sweep.read(path)
    s = sweep.made_with(question.settings, rows[0])
    fitting, cut, wrong = sweep.sorted_out(question, rows, s, "cpu", made=True)
    assert wrong == ""
    assert len(cut) == CUT.get(name_of(path), 0), Counter(row["variant"] for row in cut)
    assert len(fitting) + len(cut) == len(path.read_text().splitlines())
    of_monai = {row["variant"] for row in rows if row["change"]["net"] == "Monai"}
    if of_monai and not find_spec("monai"):
        text = "all others agree; without MONAI these have no fingerprint here"
        pytest.skip(f"{text}: {', '.join(sorted(of_monai))}")


def test_no_row_is_lost():
    assert sum(len(path.read_text().splitlines()) for path in FILES) >= 6863
