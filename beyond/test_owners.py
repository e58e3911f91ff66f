"""Owners of a common region (beyond/owners.py), against counted pixels and the rows."""

from itertools import product

import numpy as np
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


@pytest.mark.parametrize("K, r", list(product((2, 3, 4), owners.SIZES)))
def test_arms_are_equal_and_touch_the_square_but_not_one_another(K, r):
    _, parts = data.sample(1, rng(1), owners.Arms(K, r))
    left, square, *others = [pixels(part) for part in parts[0]]
    arms = [left, *others]
    assert len(arms) == K
    assert parts.sum(1).max() == 1  # no pixel is of two parts
    for arm in arms:
        assert len(arm) == len(square) / r == owners.SIZES[r].P
        around = (
            moved(arm, 0, 1) | moved(arm, 0, -1) | moved(arm, 1, 0) | moved(arm, -1, 0)
        )
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
        (3, ["nobody", "one", "some", "all", "split", "unlearned"]),
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
        assert decision["outcome_share"] == {names[given]: 1.0}
    assert row["decisions"][-1]["ends"][0] == "unlearned"


@pytest.mark.parametrize("K", [2, 3, 4])
def test_all_groupings_are_found_by_the_truths_and_not_if_one_is_missing(K):
    _, parts = data.sample(3, rng(3), owners.Arms(K, 0.5))
    truths = owners.groupings(parts)
    assert owners.measure(truths, parts, [1 / K] * K)["oracle_exact"] == 1
    row = owners.measure(truths[:, 1:], parts, [1 / K] * K)
    assert row["oracle_exact"] == pytest.approx(1 - 1 / K)
    assert not row["found"]


@pytest.mark.parametrize("K", [2, 3, 4])
def test_the_score_is_that_of_counted_pixels_each_grouping_with_its_prior(K):
    _, parts = data.sample(2, rng(4), owners.Arms(K, 2.0))
    masks = torch.rand(2, 3, K, 32, 32, generator=rng(5)) > 0.8
    priors = [0.5, 0.3, 0.15, 0.05][:K]
    square = [pixels(image[1]) for image in parts]
    score = 0
    for n, owner in product(range(2), range(K)):
        sums = [0, 0, 0]
        for d, k in product(range(3), range(K)):
            mask = pixels(masks[n, d, k])
            truth = pixels(parts[n, k if k == 0 else k + 1])
            if k == owner:
                truth = truth | square[n]
            sums[d] += len(mask & truth) / len(mask | truth)
        score += priors[owner] * max(sums) / 2
    row = owners.measure(masks.float(), parts, priors)
    assert row["score"] == pytest.approx(score, abs=1e-5)


def test_the_loss_weighs_the_groupings_by_their_priors():
    s = owners.PLANE["K2-m0.7-r0.5"].settings(owners.SETTINGS)
    images, parts = data.sample(s.batch, rng(6), s.shape, s.noise)
    both = decisions_of(parts)[:, 2]  # (n, 2, H, W), a single decision

    def net(seen):
        assert torch.equal(seen, images)
        return 40 * both - 20  # logits

    expected = shares.score(1, 1, owners.SIZES[0.5].P, owners.SIZES[0.5].P, 36, 0.7)
    loss = owners.loss(owners.PLANE["K2-m0.7-r0.5"], net, s, rng(6))
    assert -loss.item() == pytest.approx(expected, abs=1e-5)


def test_recorded_counts_are_those_of_the_readme(recorded):
    points = owners.summarise(recorded, owners.PLANE)
    new = owners.summarise(recorded, owners.NEW)
    text = owners.plane(points + new)
    assert "| 2 | 0.5 | 16/20 | 18/20 | 19/20 | 20/20 | 19/20 | 18/20 | 15/20 |" in text
    assert (
        "| 3 | 0.333 | 0/10 | 0/10 | 0/10 | 0/10 | 8/10 | 9/10 (near) | 9/10 |" in text
    )
    rules = owners.agreements(points, new)
    assert "the prediction) | 66/70 | 31/35 | 3/7 | 17/21 |" in rules
    assert "untrained mask climbs | 70/70 | 35/35 | 6/7 | 20/21 |" in rules
    several = owners.several_decisions(owners.counted(recorded))
    assert "| 3, 3 | 13/20 | 7/20 | 0/20 | 19/20 | 17/20 |" in several


def test_a_point_counts_an_instance_with_its_own_prior_and_no_run_that_died():
    row = {"decisions": [{"ends": ["given", "split"]}]}
    runs = {("K2-m0.6-r2", 0): row, ("K2-m0.6-r2", 1): {"error": "no memory"}}
    likely, other = owners.summarise(runs, owners.PLANE)
    assert (likely["p"], likely["outcomes"], likely["given"]) == (0.6, {"given": 1}, 1)
    assert (other["p"], other["outcomes"], other["given"]) == (0.4, {"split": 1}, 0)
    # At p = 0.4 an undecided share climbs above r = 2.73; the other three rules differ.
    assert likely["rules"] == [True, True, True, True]
    assert other["rules"] == [False, False, True, True]
    assert other["near"]


def test_at_even_odds_given_counts_as_the_end_that_scores_more():
    row = {"decisions": [{"ends": ["given", "given"]}]}
    (even,) = owners.summarise({("K2-m0.5-r1", 0): row}, owners.PLANE)
    assert even["outcomes"] == {"given": 2}
    assert even["rules"] == [True, True, True, True]


def test_pies_show_in_how_many_runs_the_region_is_given(recorded):
    points = owners.summarise(recorded, owners.PLANE)
    ax = owners.plot(points).axes[0]
    assert len(ax.patches) == 5 * len(points)  # a circle and four pieces each
    for point, piece in zip(points, ax.patches[1::5]):
        turned = (piece.theta2 - piece.theta1) / 360
        assert turned == pytest.approx(point["given"] / point["outcomes"].total())
        assert piece.theta2 == 90  # from the top
        assert piece.get_facecolor()[:3] == data.ORANGE


def test_the_ground_turns_where_an_untrained_mask_does():
    (turn,) = owners.turning_size(np.array([0.4]))
    less = shares.untrained_climbs_to_given(0.4, 64, 64 * turn * 0.98, 1024)
    more = shares.untrained_climbs_to_given(0.4, 64, 64 * turn * 1.02, 1024)
    assert (less, more) == (False, True)


def test_a_recorded_run_trained_again_is_the_same(recorded):
    row = recorded["K2-m0.7-r1", 1]
    variant = owners.PLANE["K2-m0.7-r1"]
    again = owners.run(variant, 1, owners.SETTINGS, "cpu")
    assert again["outcome"] == row["outcome"]
    assert again["score"] == pytest.approx(row["score"], abs=1e-3)
    assert again["decisions"][0]["shares"] == pytest.approx(
        row["decisions"][0]["shares"], abs=1e-3
    )


def test_sizes_that_are_not_there_are_named():
    with pytest.raises(ValueError, match="K must be 2, 3 or 4, got 5"):
        owners.Arms(5)
    with pytest.raises(ValueError, match="r must be one of .* got 3"):
        owners.Arms(2, 3)
    with pytest.raises(ValueError, match="size must be 32, got 64"):
        owners.Arms(2, 1.0, 64)
