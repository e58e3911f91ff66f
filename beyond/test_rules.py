"""Each rule, against brute force or the numbers of one image by hand.
python -m pytest beyond/test_rules.py"""

import itertools

import pytest
import torch

from beyond import rules

HALVES = torch.tensor([[0.5, 0.5]]).double()
# Two images. Of the first each decision wins a grouping, of the second one wins both.
SCORES = torch.tensor(
    [
        [[1.0, 0.4], [0.2, 0.5]],
        [[1.0, 0.9], [0.2, 0.3]],
    ]
).double()
WEIGHTS = torch.tensor([[0.25, 0.75]]).double()


def some_scores(n, D, G):
    return 2 * torch.rand(n, D, G, generator=torch.Generator().manual_seed(1)).double()


@pytest.mark.parametrize(
    "rule, number, first, second",
    [
        ("hard", None, 0.25 * 1.0 + 0.75 * 0.5, 0.25 * 1.0 + 0.75 * 0.9),
        ("order", None, 0.25 * 1.0 + 0.75 * 0.5, 0.25 * 1.0 + 0.75 * 0.3),
        ("relaxed", 0.2, 0.8 * 0.625 + 0.2 * 0.35, 0.8 * 0.925 + 0.2 * 0.275),
        ("two_sided", 0.2, 0.8 * 0.625 + 0.2 * 0.75, 0.8 * 0.925 + 0.2 * 0.65),
        ("evolving", 0.5, 0.25 * 0.6 + 0.75 * 0.45, 0.25 * 0.6 + 0.75 * 0.6),
        ("evolving", 0.4, 0.25 * 1.0 + 0.75 * 0.5, 0.25 * 1.0 + 0.75 * 0.9),
        ("capped", 0.75, 0.625, 0.925 - 0.25 * 0.6),  # right is cheaper to leave
        ("released", 0.5, 0.625, 0.925 - 0.3 * 0.6),  # at most 0.7 after 0.4
        ("over_batch", None, 0.25 * 1.0 + 0.75 * 0.4, 0.25 * 1.0 + 0.75 * 0.9),
        ("first_frozen", 0.5, 0.25 * 1.0 + 0.75 * 0.4, 0.25 * 1.0 + 0.75 * 0.9),
        ("first_frozen", 0.4, 0.25 * 1.0 + 0.75 * 0.5, 0.25 * 1.0 + 0.75 * 0.9),
    ],
)
def test_two_images_count_what_they_do_by_hand(rule, number, first, second):
    worth = rules.worth(rule, number, SCORES, WEIGHTS, progress=0.4)
    assert worth.tolist() == pytest.approx([first, second])


def test_the_decision_that_is_frozen_has_no_gradient():
    scores = SCORES.clone().requires_grad_()
    worth = rules.first_frozen(scores, WEIGHTS, share=0.4, progress=0.4)
    (slope,) = torch.autograd.grad(worth.sum(), scores)
    expected = torch.zeros(2, 2, 2)
    expected[0, 1, 1] = 0.75  # decision 2 is better for right in the first image
    assert torch.equal(slope.float(), expected)


@pytest.mark.parametrize(
    "smooth, sharp",
    [("soft", "hard"), ("annealed", "hard"), ("matched_smooth", "matched")],
)
def test_smooth_rules_come_to_the_sharp_ones_as_beta_grows(smooth, sharp):
    near = rules.worth(smooth, None, SCORES, WEIGHTS, beta=1e4, progress=1)
    assert torch.allclose(near, rules.worth(sharp, None, SCORES, WEIGHTS), atol=1e-3)


def test_annealed_starts_with_weights_e_to_the_score():
    share = torch.softmax(SCORES, 1)
    expected = (share * SCORES).sum(1) @ WEIGHTS[0]
    assert torch.allclose(rules.annealed(SCORES, WEIGHTS, 100.0, progress=0), expected)


@pytest.mark.parametrize("D, G", [(2, 2), (3, 2), (4, 4)])
def test_matched_is_the_best_of_all_ways_counted_one_by_one(D, G):
    scores = some_scores(20, D, G)
    weights = torch.arange(1.0, G + 1).double()[None] / sum(range(1, G + 1))
    for image, worth in zip(scores, rules.matched(scores, weights)):
        ways = []
        for way in itertools.permutations(range(D), G):
            ways.append(sum(weights[0, g] * image[way[g], g] for g in range(G)))
        assert worth == pytest.approx(max(ways).item())


@pytest.mark.parametrize("share", [1 / 2, 1 / 3])
def test_sharing_a_batch_is_the_best_of_all_ways_to_share_it(share):
    scores = some_scores(6, 2, 2)
    truths = torch.eye(2)[[0, 1, 1, 0, 1, 0]].double()  # one truth an image
    own = (scores * truths[:, None]).sum(2)  # (6, 2)
    ways = []
    for chosen in itertools.product((0, 1), repeat=6):
        if chosen.count(0) == 6 * share:
            ways.append(sum(own[k, chosen[k]].item() for k in range(6)))
    worth = rules.worth("shared", share, scores, truths)
    assert worth.sum().item() == pytest.approx(max(ways))


def transport_problem(shares, scores, weights, beta, tau):
    """What transport makes as large as possible, of the shares of decision 1."""
    P = torch.stack((weights * shares, weights * (1 - shares)))  # (2, G)
    decisions = P.sum(1)
    entropy = -(P * P.log()).sum()
    distance = (decisions * (decisions / 0.5).log()).sum()
    return (P * scores).sum() + entropy / beta - tau * distance


@pytest.mark.parametrize("tau", [0.0, 0.1, 2.0])
def test_the_shares_of_transport_are_the_best_on_a_fine_grid(tau):
    scores = some_scores(1, 2, 2)
    shares = rules.answered(scores, WEIGHTS, 5.0, tau)[0, 0] / WEIGHTS[0]  # (2,)
    best = transport_problem(shares, scores[0], WEIGHTS[0], 5.0, tau)
    grid = torch.linspace(0.005, 0.995, 100).double()
    for left, right in itertools.product(grid, grid):
        there = torch.stack((left, right))
        assert transport_problem(there, scores[0], WEIGHTS[0], 5.0, tau) <= best + 1e-9


@pytest.mark.parametrize("tau, other", [(0.0, "soft"), (1e6, "matched_smooth")])
def test_transport_goes_from_the_maximum_to_matching(tau, other):
    scores = (some_scores(5, 2, 2) / 20).requires_grad_()
    ours = rules.worth("transport", tau, scores, HALVES, beta=20.0)
    (ours,) = torch.autograd.grad(ours.sum(), scores)
    theirs = rules.worth(other, None, scores, HALVES, beta=20.0)
    (theirs,) = torch.autograd.grad(theirs.sum(), scores)
    assert torch.allclose(ours, theirs, atol=1e-4)


def test_what_does_not_fit_is_refused():
    with pytest.raises(ValueError, match="'none'"):
        rules.worth("none", None, SCORES, WEIGHTS)
    with pytest.raises(ValueError, match="'capped' is for 2 decisions, got 3"):
        rules.worth("capped", 0.5, some_scores(1, 3, 2), WEIGHTS)
    with pytest.raises(ValueError, match="got 1 and 2"):
        rules.matched(some_scores(1, 1, 2), WEIGHTS)
