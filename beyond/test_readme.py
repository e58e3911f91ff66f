"""The page at the top: what it shows runs as it stands there, and exercises end as their
answers say. python -m pytest beyond/test_readme.py"""

import importlib
import re
import subprocess
import sys
from pathlib import Path

import pytest

README = Path(__file__).parents[1].joinpath("README.md").read_text(encoding="utf-8")
# Of each exercise: the script, its options, the answer.
EXERCISES = re.findall(
    r"`python (\w+)\.py (--[^`]*)`: .*?</summary>(.*?)</details>", README, re.DOTALL
)


def test_the_whole_effect_is_seen_in_a_block_pasted_into_an_empty_folder(tmp_path):
    block = re.search(r"```python\n(.*?)```", README, re.DOTALL)[1]
    block = block.replace("range(400)", "range(250)")  # long enough
    script = "import matplotlib\nmatplotlib.use('agg')\n" + block
    (tmp_path / "effect.py").write_text(script)
    command = [sys.executable, "-I", "effect.py"]  # -I: nothing of this folder is found
    ran = subprocess.run(
        command, cwd=tmp_path, capture_output=True, text=True, check=True
    )
    scores = [float(line.split()[-1]) for line in ran.stdout.splitlines()]
    one, two, sequence = scores
    assert 1.4 < one < 1.51
    assert 1.4 < two < 1.51
    assert sequence > 1.9
    assert (tmp_path / "effect.png").stat().st_size > 10**4


def test_the_block_has_at_most_sixty_lines():
    block = re.search(r"```python\n(.*?)```", README, re.DOTALL)[1]
    assert len(block.splitlines()) <= 60


@pytest.mark.parametrize("script, options, answer", EXERCISES)
def test_an_exercise_ends_as_its_answer_says(script, options, answer, tmp_path):
    # Shorter than the page has it, where it does not say how long.
    words = ["--epochs", "6", *options.split(), "--device", "cpu", "--out"]
    numbers, _ = importlib.import_module(script).main([*words, str(tmp_path)])
    ends = {decision["outcome"] for decision in numbers["decisions"]}
    named = set(re.findall("left|right|both|unlearned", answer.lower()))
    assert f"{numbers['score']:.3f}" in answer
    assert ends <= (named or {"left", "right"})


def test_the_page_has_eight_exercises():
    assert len(EXERCISES) == 8


def test_of_three_decisions_at_once_two_stay_unlearned(tmp_path):
    words = ["--decisions", "3", "--epochs", "10", "--device", "cpu", "--out"]
    numbers, _ = importlib.import_module("exp_dual").main([*words, str(tmp_path)])
    ends = sorted(decision["outcome"] for decision in numbers["decisions"])
    assert ends == ["both", "unlearned", "unlearned"]
