"""Is it an equilibrium? How pairs of heads are pushed, and what is made of their rows."""

import copy

import pytest
import torch

from beyond import equilibrium, runs, sweep

HEADS = equilibrium.VARIANTS["heads"]


def pair():
    """An untrained pair of heads, and a generator of images."""
    return HEADS.begin(runs.Settings(width=4), 0, "cpu")


def test_noise_on_the_idle_head_leaves_the_other_head_and_the_features():
    net, _ = pair()
    before = copy.deepcopy(net.state_dict())
    equilibrium.push(net, "idle 1.0", 1, None, None, seed=0)
    after = net.state_dict()
    for name, weight in after.items():
        if name == "head.weight":
            assert torch.equal(weight[:2], before[name][:2])
            assert not torch.equal(weight[2:], before[name][2:])
        elif name != "head.bias":
            assert torch.equal(weight, before[name])


def test_noise_has_the_size_that_it_says_and_one_direction():
    net, _ = pair()
    before = copy.deepcopy(net)
    small = copy.deepcopy(net)
    equilibrium.add_noise(net.parameters(), 0.2, seed=0)
    equilibrium.add_noise(small.parameters(), 0.1, seed=0)
    for weight, half, old in zip(
        net.parameters(), small.parameters(), before.parameters()
    ):
        assert torch.allclose(weight - old, 2 * (half - old), atol=1e-6)
    moved = net.down[0][0].weight - before.down[0][0].weight
    spread = before.down[0][0].weight.std()
    assert moved.std().item() == pytest.approx(0.2 * spread.item(), rel=0.3)


def test_training_the_idle_head_to_left_leaves_all_else(monkeypatch):
    monkeypatch.setattr(equilibrium, "AFTER", 3)
    net, generator = pair()
    before = copy.deepcopy(net.state_dict())
    equilibrium.train_to_left(net, 0, generator, runs.Settings(width=4))
    after = net.state_dict()
    assert not torch.equal(after["head.weight"][:2], before["head.weight"][:2])
    assert torch.equal(after["head.weight"][2:], before["head.weight"][2:])
    for name, weight in after.items():
        if not name.startswith("head"):
            assert torch.equal(weight, before[name])


def test_a_pair_that_ends_in_both_and_unlearned_is_pushed_in_every_way(monkeypatch):
    monkeypatch.setattr(equilibrium, "AFTER", 1)
    settings = runs.Settings(epochs=1, steps_per_epoch=1, width=4)
    row = equilibrium.run(HEADS, 0, settings, "cpu")
    assert row["outcome"] == "unlearned + unlearned"
    assert row["after"] == {}
    monkeypatch.setattr(equilibrium, "tested", lambda *_: (["unlearned", "both"], 0.25))
    row = equilibrium.run(HEADS, 0, settings, "cpu")
    assert row["outcome"] == "both + unlearned"
    assert list(row["after"]) == list(equilibrium.PUSHES)
    assert row["after"]["left"]["oracle_exact"] == 0.25


def test_what_becomes_of_a_pair_has_a_name():
    finished = ["unlearned", "both"]
    moved = ["left", "both"]

    def name(pushed, end, exact):
        after = {"pushed": pushed, "end": end, "oracle_exact": exact}
        return equilibrium.end_of(after)

    assert name(finished, ["both", "unlearned"], 0.0) == "stays"
    assert name(moved, finished, 0.0) == "returns"
    assert name(finished, moved, 0.5) == "ends elsewhere"
    assert name(moved, ["left", "right"], 1.0) == "finds both groupings"


def test_the_recorded_pairs_end_as_they_did():
    rows = sweep.distinct(sweep.recorded(equilibrium.QUESTION, sweep.ROWS))
    _, text = equilibrium.report(rows)
    assert "the idle head would gain, 1.75 for 1.5" in text
    assert "Of 10 pairs 10 end in both + unlearned" in text
    assert '| the idle head trained to "left" | 0 | 0 | 1 | 9 |' in text
    assert "| noise on all weights, 0.3 | 3 | 0 | 7 | 0 |" in text
    assert "| noise on all weights, 1 | 0 | 3 | 7 | 0 |" in text
    assert "| left | 1.50 | **2.00** | 1.75 | 1.75 | 1.50 |" in text
