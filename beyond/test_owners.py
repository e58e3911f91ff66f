"""Owners of a common region (beyond/owners.py), against counted pixels and the rows."""

import pytest
import torch

import data
from beyond import owners, shares, sweep

torch.set_num_threads(1)  # the images are small


def rng(seed):
    return torch.Generator().manual_seed(seed)


def pixels(mask):
    """The places (y, x) of the pixels of a mask, a set."""
    return set(map(tuple, mask.nonzero().tolist()))


def moved(places, dy, dx):
    return {(y + dy, x + dx) for y, x in places}


@pytest.fixture(scope="module")
def recorded():
    """The runs of the recorded rows, by variant and seed."""
    rows = sweep.recorded(owners.QUESTION, sweep.ROWS)
    fitting, _, wrong = sweep.sorted_out(owners.QUESTION, rows, owners.SETTINGS, "cpu")
    assert wrong == ""
    return sweep.distinct(fitting)


@pytest.mark.parametrize("r", owners.SIZES)
def test_arms_are_equal_and_touch_the_square_but_not_one_another(r):
    _, parts = data.sample(1, rng(1), owners.Arms(4, r))
    left, square, *others = [pixels(part) for part in parts[0]]
    arms = [left, *others]
    assert len(arms) == 4
    assert parts.sum(1).max() == 1  # no pixel is of two parts
    for arm in arms:
        assert len(arm) == len(square) / r
        around = moved(arm, 0, 1) | moved(arm, 0, -1)
        around |= moved(arm, 1, 0) | moved(arm, -1, 0)
        assert around & square
        for other in arms:
            assert other is arm or not around & other


def test_two_arms_of_the_size_of_the_square_are_the_papers_pair():
    images, parts = data.sample(2, rng(1), owners.Arms(2, 1.0))
    expected = data.sample(2, rng(1))
    assert torch.equal(images, expected[0])
    assert torch.equal(parts, expected[1])
    assert torch.equal(owners.groupings(parts), data.groupings(parts))


def decisions_of(parts):
    """Decisions (n, K + 3, K, H, W) that give the common region to 0, 1, ..., K instances,
    to all by half, and to none without the first instance's own part."""
    K = parts.shape[1] - 1
    own = torch.stack([parts[:, k] for k in range(K + 1) if k != 1], 1)  # (n, K, H, W)
    square = parts[:, 1]
    decisions = []
    for given in range(K + 1):
        masks = own.clone()
        for k in range(given):
            masks[:, k] += square
        decisions.append(masks)
    decisions.append(own + square[:, None] / 2)
    without = own.clone()
    without[:, 0] = 0
    decisions.append(without)
    return torch.stack(decisions, 1)


@pytest.mark.parametrize(
    "K, names",
    [
        (2, ["nobody", "one", "all", "split", "unlearned"]),
        (4, ["nobody", "one", "some", "some", "all", "split", "unlearned"]),
    ],
)
def test_a_decision_is_called_by_how_many_instances_it_gives_the_region_to(K, names):
    _, parts = data.sample(3, rng(3), owners.Arms(K, 0.5))
    row = owners.measure(decisions_of(parts), parts, [1 / K] * K)
    assert [decision["outcome"] for decision in row["decisions"]] == names
    for given in range(K + 1):
        decision = row["decisions"][given]
        assert decision["ends"] == ["given"] * given + ["not given"] * (K - given)
        assert decision["shares"] == [1.0] * given + [0.0] * (K - given)
    assert row["decisions"][-1]["ends"][0] == "unlearned"


def test_all_groupings_are_found_by_the_truths_and_not_if_one_is_missing():
    _, parts = data.sample(3, rng(3), owners.Arms(3, 0.5))
    truths = owners.groupings(parts)
    assert owners.measure(truths, parts, [1 / 3] * 3)["oracle_exact"] == 1
    row = owners.measure(truths[:, 1:], parts, [1 / 3] * 3)
    assert row["oracle_exact"] == pytest.approx(2 / 3)
    assert not row["found"]


def test_the_loss_weighs_the_groupings_by_their_priors():
    v = owners.PLANE["K2-m0.7-r0.5"]
    s = v.settings(owners.SETTINGS)
    _, parts = data.sample(s.batch, rng(6), s.shape, s.noise)
    left = decisions_of(parts)[:, 1]  # (n, 2, H, W), a single decision
    loss = owners.loss(v, lambda images: 40 * left - 20, s, rng(6))  # logits
    # All right where left is true, and else each IoU is 72 / (72 + 36).
    assert -loss.item() == pytest.approx(0.7 * 2 + 0.3 * 4 / 3, abs=1e-5)


def test_recorded_counts_are_those_of_the_readme(recorded):
    _, text = owners.report(recorded)
    assert "| 2 | 0.5 | 16/20 | 18/20 | 19/20 | 20/20 | 19/20 | 18/20 | 15/20 |" in text
    assert "| 2 | 0.35 | 0/10 | 0/10 | 0/10 | 0/10 | 8/10 | 9/10 | 7/10 |" in text
    assert "| 3 | 0.333 | 0/10 | 0/10 | 0/10 | 0/10 | 8/10 | 9/10 | 9/10 |" in text
    assert "| heads, K = 3, T = 3, matched | 17/20 | 2.98 |" in text
    assert "| heads, K = 3, T = 2, ambiguous_loss | 0/20 | 2.63 |" in text
    assert "given it in 0/10 runs\nif the region is half as large" in text


def test_a_point_counts_an_instance_with_its_own_prior_and_no_run_that_died():
    row = {"decisions": [{"ends": ["given", "split"]}]}
    runs = {("K2-m0.6-r2", 0): row, ("K2-m0.6-r2", 1): {"error": "no memory"}}
    points = owners.summarise(runs, owners.PLANE)
    assert points == {(2, 0.6, 2): {"given": 1}, (2, 0.4, 2): {"split": 1}}


def test_pies_and_ground_say_where_the_region_is_given(recorded):
    points = owners.summarise(recorded, owners.PLANE)
    ax = owners.plot(points).axes[0]
    given = 0
    for piece in ax.patches:
        if piece.get_facecolor()[:3] == data.ORANGE:
            assert piece.theta2 == 90  # from the top
            given += (piece.theta2 - piece.theta1) / 360
    expected = sum(ends["given"] / ends.total() for ends in points.values())
    assert given == pytest.approx(expected, abs=1e-3)
    (ground,) = ax.collections[0].get_paths()
    assert ground.contains_point((4, -1))  # p = 0.4 and r = 1/2: not given
    assert not ground.contains_point((4, 1))
    assert not shares.untrained_climbs_to_given(0.4, 64, 32, 1024)


def test_a_recorded_run_trained_again_is_the_same(recorded):
    row = recorded["K2-m0.7-r1", 1]
    variant = owners.PLANE["K2-m0.7-r1"]
    again = owners.run(variant, 1, owners.SETTINGS, "cpu")
    assert again["outcome"] == row["outcome"]
    assert again["score"] == pytest.approx(row["score"], abs=1e-3)
    shares_of = again["decisions"][0]["shares"]
    assert shares_of == pytest.approx(row["decisions"][0]["shares"], abs=1e-3)
