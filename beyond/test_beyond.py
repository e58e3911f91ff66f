"""The claims of beyond/ and the tools that they rest on. python -m pytest (from the top)"""

import importlib
import json
import math
import re
import subprocess
import sys
from fractions import Fraction
from pathlib import Path

import pytest
import torch

from beyond import controls, exp_parting, left_right, networks, sweep
from exp_recurrent import Settings
from recurrent_unet import RecurrentUNet
from unet import initialise


def generator(seed):
    return torch.Generator().manual_seed(seed)


# Rows and what they amount to


@pytest.mark.parametrize("question", [controls, exp_parting])
def test_every_recorded_row_passes_its_fingerprint_and_other_settings_are_refused(question):
    for name in question.FILES:
        rows = sweep.read(sweep.ROWS / f"{name}.jsonl")
        fitting, wrong = sweep.checked(question, rows, question.Settings(), "cpu")
        assert len(rows) > 100 and len(fitting) == len(rows) and wrong == ""
    row = json.loads(json.dumps(rows[0]))
    for key, value in (("beta", 10.0), ("found", 0.9), ("m", 0.7)):
        other = row | {"settings": row["settings"] | {key: value}}
        fitting, wrong = sweep.checked(question, [other, row], question.Settings(), "cpu")
        assert fitting == [row] and f"{key} is {value} there" in wrong
    for change in ({"start": [row["change"]["start"][0] + 0.01, 0]}, {"rule": "hard"}):
        other = row | {"change": row["change"] | change}
        assert sweep.checked(question, [other], question.Settings(), "cpu")[0] == []


def test_rows_outlive_a_crash_and_what_is_no_row_is_dropped(tmp_path, capsys):
    path = tmp_path / "rows.jsonl"
    row = {"variant": "a", "seed": 0, "device": "cpu", "torch": "2", "settings": {}, "change": {}}
    sweep.append(row | {"error": "no memory"}, path)
    with path.open("a") as f:
        f.write('{"variant": "a", "seed"')  # torn
    sweep.append(row | {"outcome": "both"}, path)
    with path.open("a") as f:
        f.write('3\n[]\n{"variant": "a"}\n' + json.dumps(row | {"settings": 3, "outcome": ""}))
    rows = sweep.read(path)
    assert [len(rows), capsys.readouterr().out.count("which is no run")] == [2, 5]
    assert sweep.distinct(rows) == {("a", 0): row | {"outcome": "both"}}


def test_statistics_are_those_of_their_definitions():
    for k, n in ((0, 20), (7, 20), (20, 20), (99, 100)):
        for p in sweep.wilson(k, n):  # where the share seen is z standard deviations away
            assert abs(k / n - p) == pytest.approx(1.959964 * math.sqrt(p * (1 - p) / n), abs=1e-6)
    (a, n), (b, m) = (9, 10), (3, 10)
    low, high = sweep.difference_interval(a, n, b, m)  # Newcombe 1998, method 10
    (l1, u1), (l2, u2) = sweep.wilson(a, n), sweep.wilson(b, m)
    assert low == pytest.approx(0.6 - math.sqrt((0.9 - l1) ** 2 + (u2 - 0.3) ** 2))
    assert high == pytest.approx(0.6 + math.sqrt((u1 - 0.9) ** 2 + (0.3 - l2) ** 2))
    ways = [
        Fraction(math.comb(10, i) * math.comb(10, 12 - i), math.comb(20, 12)) for i in range(11)
    ]
    ways = [w for w in ways if w]
    assert sweep.fisher(9, 10, 3, 10) == pytest.approx(float(sum(w for w in ways if w <= ways[7])))
    assert sweep.holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    for wrong in ((3, 2), (-1, 2), (0, 0)):
        with pytest.raises(ValueError, match="k of n"):
            sweep.wilson(*wrong)


def test_a_sweep_trains_what_is_missing_and_draws_it(tmp_path, capsys):
    def run(*more):
        arguments = ["--variants", "single", "--seeds", "3", "--epochs", "1", "--workers", "1"]
        saved = sweep.main("controls", [*arguments, "--anew", "--out", str(tmp_path), *more])
        return saved["controls.json"]["variants"], capsys.readouterr().out

    summary, said = run()
    assert "1 of 1 runs are trained" in said and summary[0]["of"] == 1
    (row,) = sweep.read(tmp_path / "controls.jsonl")
    assert (row["variant"], row["seed"], row["settings"]["epochs"]) == ("single", 3, 1)
    assert "0 of 1 runs are trained" in run()[1]
    assert (tmp_path / "controls.png").read_bytes().startswith(b"\x89PNG")
    for wrong in (["--epochs", "2"], ["--variants", "none"], ["--seeds", "5-2"], ["--epochs", "0"]):
        with pytest.raises(SystemExit) as e:
            run(*wrong)
        assert e.value.code == 2 and capsys.readouterr().err.count("\n") == 1


@pytest.mark.parametrize("name", ["single"])
def test_a_recorded_run_trained_again_is_the_same(name):
    rows = sweep.read(sweep.ROWS / "controls.jsonl")
    (row,) = (row for row in rows if (row["variant"], row["seed"]) == (name, 3))
    again = sweep.attempt("controls", name, 3, Settings(), "cpu")
    assert again["outcome"] == row["outcome"]
    assert again["score"] == pytest.approx(row["score"], abs=1e-3)
    for one, other in zip(again["decisions"], row["decisions"]):
        assert one["common_left"] == pytest.approx(other["common_left"], abs=1e-3)


def made_up(found, decisions, **more):
    row = {"found": found, "found_at": 80 if found else None, "parameters": 1, "oracle_exact": 0.5}
    ends = " + ".join(sorted(d["outcome"] for d in decisions))
    return row | {"score": 1.5, "outcome": ends, "decisions": decisions, **more}


def test_summaries_count_runs_and_say_what_a_shown_truth_is_answered_with():
    left, right = {"outcome": "left"}, {"outcome": "right"}
    same = {"left": {"left": 1.0}, "right": {"right": 0.95, "split": 0.05}}
    opposite = {"left": {"right": 1.0}, "right": {"left": 1.0}}
    unclear = {"left": {"left": 1.0}, "right": {"right": 0.8, "left": 0.2}}
    rows = [made_up(True, [left, right], shown=shown) for shown in (same, opposite, unclear)]
    assert [left_right.reply(row) for row in rows] == ["same", "opposite", "unclear"]
    rows += [made_up(False, [right, right], shown=same), {"error": "no memory"}]
    runs = {("recurrent", seed): row | {"seed": seed} for seed, row in enumerate(rows)}
    (summary,) = left_right.summarise(runs, {"recurrent": left_right.PAPER["recurrent"]})
    assert (summary["found"], summary["of"], summary["failed_seeds"]) == (3, 5, [3, 4])
    assert summary["outcomes"] == {"left + right": 3, "right + right": 1, "died": 1}
    assert summary["replies"] == {"same": 1, "opposite": 1, "unclear": 1}


def test_a_run_is_found_at_the_step_from_which_all_recorded_batches_are_exact(monkeypatch):
    exact = iter([0, 1, 0, 1, 1, 1])  # of four training steps, then of the test
    measured = {"decisions": [{"outcome": "left"}], "score": 1.0}

    def measure(masks, parts, m=0.5):
        return measured | {"oracle_exact": next(exact)}

    monkeypatch.setattr(left_right.data, "measure", measure)
    s = Settings(epochs=1, steps_per_epoch=5, held_out=4)
    row = left_right.run(left_right.PAPER["single"], 0, s, "cpu")
    assert (row["found"], row["found_at"]) == (True, 4)


# Networks


def test_the_recurrent_network_with_all_switches_off_is_the_papers():
    images = torch.randn(2, 1, 32, 32, generator=generator(0))
    ours = initialise(RecurrentUNet(), generator(5))
    assert torch.equal(networks.Recurrent(generator=generator(5))(images), ours(images))


def inputs_of(module, net, images, k=0):
    """The k-th input of a module, each time that it runs."""
    seen = []
    module.register_forward_hook(lambda module, x, y: seen.append(x[k]))
    net(images)
    return seen


def second_input(options, shown=None):
    """What the second pass sees in place of a mask, and the first logits."""
    net, seen = networks.Recurrent(width=8, generator=generator(1), **options), []
    net.unet.down[0].register_forward_hook(lambda module, x, y: seen.append(x[0]))
    logits = net(torch.randn(2, 1, 16, 16, generator=generator(2)), shown)
    return seen[1][:, 1:], logits[:, 0], net


def test_what_a_pass_hands_on_is_as_its_switch_says():
    for option in ({}, {"mask": "detached"}):
        mask, first, net = second_input(option)
        assert torch.equal(mask, torch.sigmoid(first)) and net.sees_mask
        assert mask.requires_grad == (not option)
    for mask, value in (("half", 0.5), ("pass", 1.0)):
        seen, _, net = second_input({"mask": mask})
        assert (seen == value).all() and not net.sees_mask
    noise = second_input({"mask": "noise"})[0]
    assert 0.2 < noise.std() < 0.4 and not torch.equal(noise, second_input({})[0])
    assert second_input({"feed_mask": False})[0].shape[1] == 0
    shown = torch.rand(2, 2, 16, 16, generator=generator(3))
    assert torch.equal(second_input({}, shown)[0], shown)
    for state, states in (("own", 2), ("detached", 2), ("zero", 1)):
        net = networks.Recurrent(width=8, state=state, generator=generator(1))
        seen = inputs_of(net.unit, net, torch.randn(2, 1, 16, 16, generator=generator(2)), 1)
        assert (seen[0] == 0).all() and (seen[1] == 0).all() == (states == 1)
        assert seen[1].requires_grad == (state == "own")


def test_networks_are_told_or_see_or_start_as_their_names_say():
    images = torch.randn(2, 1, 32, 32, generator=generator(0))
    net = networks.ToldPass(steps=3, generator=generator(1))
    seen = inputs_of(net.unet.down[0], net, images)
    assert net(images).shape == (2, 3, 2, 32, 32)
    seen = seen[:3]
    assert [x[:, 1].unique().tolist() for x in seen] == [[0], [1], [2]]
    net = networks.TwoUNets(feed_mask=True, generator=generator(1))
    seen, first = inputs_of(net.second.down[0], net, images), net(images)[:, 0]
    assert torch.equal(seen[0], torch.cat((images, torch.sigmoid(first)), 1))
    for shared, alike in (("nothing", 0), ("encoder", 12), ("trunk", 32)):
        net = networks.Twins(shared=shared, generator=generator(1))
        pairs = list(zip(net.first.parameters(), net.second.parameters()))
        assert sum(p is q for p, q in pairs) >= alike
        far = [(p - q).std() / p.std() for p, q in pairs if p is not q and p.std() > 0]
        assert max(abs(x - 1e-3) for x in far if x > 0) < 1e-3
    net = networks.Started(0.2, generator=generator(1))
    assert torch.sigmoid(net(images)).mean().item() == pytest.approx(0.2, abs=0.05)
    assert networks.Recurrent(unit="sru").unit.reset is None
    v = networks.Variant("", "UNet", {"out_channels": 4}, other={"shape.square": 6, "m": 0.7})
    assert (v.settings(Settings()).shape.square, v.settings(Settings()).m) == (6, 0.7)


# The README

README = Path(__file__).parents[1].joinpath("README.md").read_text(encoding="utf-8")
EXERCISES = re.findall(
    r"`python (\w+)\.py (--[^`]*)`: .*?</summary>(.*?)</details>", README, re.DOTALL
)


def test_the_whole_effect_is_seen_in_sixty_lines_pasted_into_an_empty_folder(tmp_path):
    block = re.search(r"```python\n(.*?)```", README, re.DOTALL)[1]
    assert len(block.splitlines()) <= 60
    block = block.replace("range(400)", "range(250)")  # long enough
    (tmp_path / "effect.py").write_text("import matplotlib\nmatplotlib.use('agg')\n" + block)
    command = [sys.executable, "-I", "effect.py"]  # -I: nothing of this folder is found
    said = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=True).stdout
    one, two, sequence = (float(line.rpartition(" ")[2]) for line in said.splitlines())
    assert 1.4 < one < 1.51 and 1.4 < two < 1.51 and sequence > 1.9
    assert (tmp_path / "effect.png").stat().st_size > 10**4


@pytest.mark.parametrize("script, options, answer", EXERCISES)
def test_an_exercise_ends_as_its_answer_says(script, options, answer, tmp_path):
    # Shorter than the README has it, where it does not say how long.
    arguments = ["--epochs", "6", *options.split(), "--device", "cpu", "--out", str(tmp_path)]
    numbers, _ = importlib.import_module(script).main(arguments)
    ends = {decision["outcome"] for decision in numbers["decisions"]}
    named = set(re.findall("left|right|both|unlearned", answer.lower()))
    assert f"{numbers['score']:.3f}" in answer
    assert ends <= named if named else ends == {"left", "right"}


def test_the_readme_has_eight_exercises():
    assert len(EXERCISES) == 8
