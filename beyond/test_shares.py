"""Where one decision lands (beyond/shares.py), against counted pixels, exact fractions,
difference quotients and autograd."""

from fractions import Fraction
from itertools import product

import numpy as np
import pytest
import torch

import theory
from beyond import shares

HALF = Fraction(1, 2)
TINY = Fraction(1, 10**30)
QUARTERS = [Fraction(k, 4) for k in range(5)]
PRIORS = [Fraction(1, 5), Fraction(2, 5), HALF, Fraction(5, 7)]


def counted_iou(mask, truth):
    """The IoU of two sets of pixels."""
    return Fraction(len(mask & truth), len(mask | truth))


def counted_score(a, c, P, b, m):
    """What shares a and c score on average, by counting pixels, which are numbers."""
    left = set(range(P))
    common = list(range(100, 100 + b))
    right = set(range(200, 200 + P))
    left_mask = left | set(common[: int(a * b)])
    right_mask = right | set(common[: int(c * b)])
    with_common = counted_iou(left_mask, left | set(common))
    without = counted_iou(right_mask, right)
    if_left = with_common + without
    with_common = counted_iou(right_mask, right | set(common))
    without = counted_iou(left_mask, left)
    if_right = with_common + without
    return m * if_left + (1 - m) * if_right


def quotient(f, x, *rest):
    """The slope of f in x as a difference quotient, which is off by about 1e-58."""
    return (f(x + TINY, *rest) - f(x - TINY, *rest)) / (2 * TINY)


def test_the_score_is_that_of_counted_pixels_and_a_split_is_eq_1():
    for a, c, m, P, b in product(QUARTERS, QUARTERS, PRIORS, (1, 3), (4, 8)):
        score = shares.score(a, c, Fraction(P), Fraction(b), m)
        assert score == counted_score(a, c, P, b, m)
        if c == 1 - a:
            assert score == theory.I_G(a, Fraction(P), Fraction(P), Fraction(b), m)


def test_the_slope_is_the_difference_quotient():
    for a, p, P, b in product(QUARTERS[1:4], PRIORS, QUARTERS[1:], QUARTERS[1:]):
        expected = quotient(shares.mean_iou, a, p, P, b)
        assert abs(shares.slope(a, p, P, b) - expected) < 1e-50


@pytest.mark.parametrize("r", [0.25, 1, 6])
def test_the_score_is_lowest_at_the_dividing_point_and_rises_on_either_side(r):
    grid = np.linspace(0, 1, 10001)
    values = shares.mean_iou(grid, 0.5, 1, r)
    lowest = shares.dividing_point(1, r)
    assert lowest == pytest.approx(grid[values.argmin()], abs=1e-4)
    assert lowest < 0.5
    assert (np.diff(values[grid > lowest]) > 0).all()
    assert (np.diff(values[grid < lowest]) < 0).all()


def dice(iou):
    """The Dice of a mask with this IoU."""
    return 2 * iou / (1 + iou)


def log_dice(iou):
    return np.log(dice(iou))


@pytest.mark.parametrize(
    "score, bend", [(np.positive, 1), (dice, 1), (np.log, 0), (log_dice, -1)]
)
def test_at_even_odds_the_bend_of_a_score_decides_between_ends_that_tie(score, bend):
    a = np.linspace(0, 1, 101)
    mean = score(shares.mean_iou(a, 1, 1, 8)) + score(shares.mean_iou(a, 0, 1, 8))
    assert mean[0] == pytest.approx(mean[-1])
    middle = mean[1:-1]
    if bend == 0:  # every share scores the same
        assert middle == pytest.approx(mean[0])
    else:
        assert (bend * (mean[0] - middle) > 1e-6).all()


@pytest.mark.parametrize("p", [Fraction(1, 5), Fraction(1, 3), Fraction(2, 5)])
def test_from_the_two_sizes_on_given_is_a_maximum_and_undecided_climbs_there(p):
    lasting = Fraction(float(shares.lasting_size(p)))
    climbing = Fraction(float(shares.climbing_size(p)))
    for size, a in ((lasting, 1), (climbing, HALF)):
        less = size * Fraction(999, 1000)
        more = size * Fraction(1001, 1000)
        assert quotient(shares.mean_iou, a - 2 * TINY, p, 1, less) < 0
        assert quotient(shares.mean_iou, a - 2 * TINY, p, 1, more) > 0


def expected_iou(claimed, p, P, b, area):
    """The expected IoU of a mask of these shares of own part, common region and rest."""
    own, a, rest = claimed
    others = rest * (area - P - b)
    if_owner = (P * own + b * a) / (P + b + others)
    if_not = P * own / (P + b * a + others)
    return p * if_owner + (1 - p) * if_not


def test_the_slopes_of_a_mask_are_those_of_autograd():
    at = torch.tensor([0.9, 0.2, 0.4], dtype=torch.float64, requires_grad=True)
    (expected,) = torch.autograd.grad(expected_iou(at, 0.3, 64, 32, 1024), at)
    slopes = shares.mask_slopes(0.9, 0.2, 0.4, 0.3, 64, 32, 1024)
    assert slopes == pytest.approx(expected.tolist())


def test_untrained_masks_end_where_ascent_by_autograd_ends():
    p = np.array([0.4, 0.4, 0.3, 0.3])
    r = np.array([0.5, 2, 2, 4])
    climbs = shares.untrained_climbs_to_given(p, 64, 64 * r, 1024)
    assert climbs.tolist() == [False, True, False, True]
    for k in range(4):
        logits = torch.zeros(3, dtype=torch.float64)
        for _ in range(800):
            logits.requires_grad_()
            value = expected_iou(logits.sigmoid(), p[k], 64, 64 * r[k], 1024)
            (up,) = torch.autograd.grad(value, logits)
            logits = logits.detach() + 0.05 * up / up.abs().max()
        assert climbs[k] == (logits[1] > 0)


def test_two_decisions_score_what_the_better_one_does_under_each_grouping():
    m, P, b = PRIORS[0], Fraction(2), Fraction(4)
    left_alone = m * 2 + (1 - m) * 2 * P / (P + b)
    assert shares.payoff("left", "unlearned", P, b, m) == left_alone
    assert shares.payoff("left", "right", P, b, m) == 2
    assert shares.payoff("both", "both", P, b, m) == counted_score(1, 1, 2, 4, m)
    assert shares.payoff("unlearned", "unlearned", P, b, m) == 0


@pytest.mark.parametrize("m", [0.5, 1e-17])
def test_left_with_right_is_the_only_equilibrium_so_an_idle_decision_would_gain(m):
    assert shares.equilibria(1, 1, m) == {("left", "right"), ("right", "left")}
    stays = shares.payoff("both", "unlearned", 1, 1, 0.5)
    assert (stays, shares.payoff("both", "left", 1, 1, 0.5)) == (1.5, 1.75)


def test_the_weight_of_an_idle_decision_is_its_share_of_the_gradient():
    scores = torch.tensor([1.4, 1.5], dtype=torch.float64, requires_grad=True)
    (torch.logsumexp(20 * scores, 0) / 20).backward()
    assert shares.idle_weight(0.1, 20) == pytest.approx(scores.grad[0].item())


def test_the_figure_says_the_scores_and_its_arrow_leads_from_undecided_to_both():
    ax = shares.plot().axes[0]
    corners = [box.get_xlabel() for box in ax.child_axes]
    assert corners == ["left: 1.5", "right: 1.5", "both: 1.5", "neither: 1.5"]
    (arrow,) = [text for text in ax.texts if text.get_text() == ""]
    assert (arrow.xyann, arrow.xy) == ((0.5, 0.5), (1, 1))


def test_the_script_says_what_holds_and_saves_its_figure(tmp_path, capsys):
    shares.main(["--out", str(tmp_path / "new")])
    said = capsys.readouterr().out
    assert "a share of 0.414" in said
    assert "| 1/3 | 1.00 | 4.83 |" in said
    assert (tmp_path / "new" / "shares.png").stat().st_size > 10000
