"""What the README at the top promises comes out: its block of code, its exercises."""

import re
import shlex
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

HERE = Path(__file__).parent.parent
README = (HERE / "README.md").read_text(encoding="utf-8")


def blocks():
    """The README's blocks of Python."""
    return re.findall(r"```python\n(.*?)```", README, re.DOTALL)


def exercises():
    """The exercises: the words of each command and its answer."""
    found = re.findall(
        r"^\d\. `python (.+?)`.*?</summary>(.+?)</details>",
        README,
        re.DOTALL | re.MULTILINE,
    )
    return [(shlex.split(command), answer) for command, answer in found]


@pytest.fixture(scope="module")
def printed(tmp_path_factory):
    """What the commands of the exercises print, two at a time."""
    folder = tmp_path_factory.mktemp("exercises")

    def run(words):
        script, *flags = words
        command = [sys.executable, HERE / script, *flags, "--device", "cpu"]
        return subprocess.check_output(command, cwd=folder, text=True)

    with ThreadPoolExecutor(2) as pool:
        return list(pool.map(run, [words for words, _ in exercises()]))


@pytest.mark.parametrize("k", range(8))
def test_an_exercise_scores_what_its_answer_says(printed, k):
    _, answer = exercises()[k]
    promised = re.findall(r"\d\.\d{3}", answer)[0]
    scored = re.search(r"The score is (\d\.\d{3})", printed[k])[1]
    assert float(scored) == pytest.approx(float(promised), abs=0.01)


def test_an_exercise_ends_in_what_its_answer_says(printed):
    left = "gives the common region to the left instance"
    right = "gives the common region to the right instance"
    both = "gives the common region to both instances"
    assert printed[0].count(left) == 1
    assert printed[1].count(both) == 1
    assert printed[2].count(both) == 1
    assert printed[3].count(both) == 1
    assert printed[4].count(left) + printed[4].count(right) == 3
    assert printed[5].count(both) == 2
    assert printed[6].count(left) == 2
    assert (printed[7].count(left), printed[7].count(right)) == (1, 1)


def effect(changes, folder):
    """Run the block that shows the whole effect, changed, and return its lines."""
    (code,) = [block for block in blocks() if "def network(heads)" in block]
    for before, after in changes:
        assert code.count(before) == 1
        code = code.replace(before, after)
    (folder / "effect.py").write_text(code, encoding="utf-8")
    command = [sys.executable, "effect.py"]
    printed = subprocess.check_output(command, cwd=folder, text=True)
    assert (folder / "effect.png").stat().st_size > 10_000
    return printed.splitlines()


def test_the_whole_effect_runs_anywhere_and_shows_what_it_says(tmp_path):
    lines = effect([], tmp_path)
    names = [line.split(": score ")[0] for line in lines]
    scores = [float(line.split(": score ")[1]) for line in lines]
    assert names == ["one decision", "two at once", "two in sequence"]
    assert scores == pytest.approx([1.5, 1.5, 2.0], abs=0.02)


def test_the_whole_effect_shows_three_heads_too(tmp_path):
    two = 'show_effect(axes[1], "two at once", heads=2)'
    three = 'show_effect(axes[1], "three at once", heads=3)'
    lines = effect([(two, three), ("range(400)", "range(2)")], tmp_path)
    assert lines[1].startswith("three at once: score")


def test_the_piece_to_take_runs_beside_the_file_that_it_copies(tmp_path):
    (code,) = [block for block in blocks() if "from ambiguous_loss" in block]
    begin = """
import torch

net = torch.nn.Conv2d(1, 4, 1)
images = torch.rand(3, 1, 8, 8)
truths = (torch.rand(3, 2, 2, 8, 8) > 0.5).float()
"""
    end = """
loss.backward()
ahead = soft_iou(masks, truths).detach()
ahead = ahead - ahead.mean(1, keepdim=True)
print(lead, (ahead.mean((0, 2)).abs().max() / ahead.abs().mean()).item())
print(parting, net.weight.grad.abs().sum().item())
"""
    loss = (HERE / "beyond/ambiguous_loss.py").read_text(encoding="utf-8")
    (tmp_path / "ambiguous_loss.py").write_text(loss, encoding="utf-8")
    (tmp_path / "piece.py").write_text(begin + code + end, encoding="utf-8")
    command = [sys.executable, "piece.py"]
    printed = subprocess.check_output(command, cwd=tmp_path, text=True)
    lead, by_hand, parting, slope = [float(word) for word in printed.split()]
    assert lead == pytest.approx(by_hand, rel=1e-4)
    assert parting > 0
    assert slope > 0
