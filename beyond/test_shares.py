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


def counted_score(a, c, P1, P2, b, m):
    """What shares a and c score on average, by counting pixels, which are numbers."""
    left = set(range(P1))
    common = list(range(100, 100 + b))
    right = set(range(200, 200 + P2))
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
    for a, c, m, P1, b in product(QUARTERS, QUARTERS, PRIORS, (1, 3), (4, 8)):
        score = shares.score(a, c, Fraction(P1), Fraction(5), Fraction(b), m)
        assert score == counted_score(a, c, P1, 5, b, m)
        if c == 1 - a:
            assert score == theory.I_G(a, Fraction(P1), Fraction(5), Fraction(b), m)


def test_no_shares_beat_the_better_grouping_and_at_even_odds_all_corners_tie():
    for m, P1, b in product(PRIORS, (1, 3), (4, 8)):
        sizes = (Fraction(P1), Fraction(5), Fraction(b), m)
        ceiling = theory.ceiling(*sizes)
        for a, c in product(QUARTERS, QUARTERS):
            assert shares.score(a, c, *sizes) <= ceiling
        if m == HALF:
            for a, c in shares.CORNERS.values():
                assert shares.score(a, c, *sizes) == ceiling


def test_the_slope_is_the_difference_quotient():
    for a, p, P, b in product(QUARTERS[1:4], PRIORS, QUARTERS[1:], QUARTERS[1:]):
        expected = quotient(shares.mean_iou, a, p, P, b)
        assert abs(shares.slope(a, p, P, b) - expected) < 1e-50


@pytest.mark.parametrize("p", [0.47, 0.5, 0.52])
@pytest.mark.parametrize("r", [0.25, 1, 6])
def test_the_score_is_lowest_at_the_dividing_point_and_rises_on_either_side(p, r):
    grid = np.linspace(0, 1, 10001)
    lowest = grid[shares.mean_iou(grid, p, 1, r).argmin()]
    assert np.clip(shares.dividing_point(1, r, p), 0, 1) == pytest.approx(
        lowest, abs=1e-4
    )
    rises = np.diff(shares.mean_iou(grid, p, 1, r)) > 0
    assert rises[grid[:-1] > lowest].all()
    assert not rises[grid[1:] <= lowest].any()


def test_at_even_odds_the_dividing_point_is_below_one_half_even_for_a_tiny_region():
    for r in (1e-9, 0.1, 1, 100):
        assert shares.dividing_point(1, r) < 0.5
        assert shares.climbs_to_given(HALF, 1, Fraction(r))
    # Where rounding would show: the exact series is 1/2 - r/8.
    assert shares.dividing_point(1, 1e-9) == pytest.approx(0.5 - 1.25e-10, abs=1e-15)


def test_steps_uphill_from_one_half_each_end_in_both():
    a, c, h = 0.5, 0.5, 1e-6
    for _ in range(200):
        here = shares.score(a, c, 1, 1, 1, 0.5)
        up_a = (shares.score(a - h, c, 1, 1, 1, 0.5) - here) / -h
        up_c = (shares.score(a, c - h, 1, 1, 1, 0.5) - here) / -h
        a = min(1, a + 0.1 * up_a)
        c = min(1, c + 0.1 * up_c)
    assert (a, c) == shares.CORNERS["both"]


@pytest.mark.parametrize("p", PRIORS[:2] + [Fraction(1, 3)])
def test_from_the_two_sizes_on_given_is_a_maximum_and_undecided_climbs_there(p):
    lasting = Fraction(float(shares.lasting_size(p)))
    climbing = Fraction(float(shares.climbing_size(p)))
    for size, a in ((lasting, 1), (climbing, HALF)):
        less = size * Fraction(999, 1000)
        more = size * Fraction(1001, 1000)
        assert quotient(shares.mean_iou, a - 2 * TINY, p, 1, less) < 0
        assert quotient(shares.mean_iou, a - 2 * TINY, p, 1, more) > 0


def test_of_k_equally_likely_owners_one_and_all_tie_at_the_size_k_minus_2():
    for K in (2, 3, 4, 7):
        assert shares.lasting_size(Fraction(1, K)) == K - 2


def expected_iou(claimed, p, P, b, area):
    """The expected IoU of a mask of these shares of own part, common region and rest."""
    own, a, rest = claimed
    others = rest * (area - P - b)
    if_owner = (P * own + b * a) / (P + b + others)
    if_not = P * own / (P + b * a + others)
    return p * if_owner + (1 - p) * if_not


@pytest.mark.parametrize("own", [0.1, 0.9])
@pytest.mark.parametrize("a", [0.2, 0.7])
@pytest.mark.parametrize("p, b", [(0.3, 32), (0.5, 128)])
def test_the_slopes_of_a_mask_are_those_of_autograd(own, a, p, b):
    at = torch.tensor([own, a, 0.4], dtype=torch.float64, requires_grad=True)
    (expected,) = torch.autograd.grad(expected_iou(at, p, 64, b, 1024), at)
    slopes = shares.mask_slopes(own, a, 0.4, p, 64, b, 1024)
    assert slopes == pytest.approx(expected.tolist())


@pytest.mark.parametrize(
    "p, r, start", [(0.4, 0.5, 0.5), (0.4, 2, 0.5), (0.3, 4, 0.5), (0.3, 4, 0.1)]
)
def test_an_untrained_mask_ends_where_ascent_by_autograd_ends(p, r, start):
    logits = torch.full((3,), start, dtype=torch.float64).logit()
    for _ in range(800):
        logits.requires_grad_()
        value = expected_iou(logits.sigmoid(), p, 64, 64 * r, 1024)
        (up,) = torch.autograd.grad(value, logits)
        logits = logits.detach() + 0.05 * up / up.abs().max()
    climbs = shares.untrained_climbs_to_given(p, 64, 64 * r, 1024, start)
    assert climbs == (logits[1] > 0)


def test_many_untrained_masks_at_once_end_as_each_alone():
    p = np.array([0.2, 0.4, 0.4, 0.5])
    b = np.array([64, 32, 128, 8])
    together = shares.untrained_climbs_to_given(p, 64, b, 1024)
    for k in range(4):
        assert together[k] == shares.untrained_climbs_to_given(p[k], 64, b[k], 1024)
    assert together.tolist() == [False, False, True, True]


def counted_payoff(first, second, P, b, m):
    """What two decisions score together, by counting pixels."""
    total = 0
    for truth, weight in ((1, m), (0, 1 - m)):
        best = 0
        for decision in (first, second):
            if decision != "unlearned":
                a, c = shares.CORNERS[decision]
                best = max(best, counted_score(a, c, P, P, b, truth))
        total += weight * best
    return total


@pytest.mark.parametrize("P, b, m", [(1, 2, HALF), (4, 2, HALF), (2, 4, PRIORS[0])])
def test_the_payoffs_are_those_of_counted_pixels(P, b, m):
    for first, second in product(shares.DECISIONS, shares.DECISIONS):
        expected = counted_payoff(first, second, P, b, m)
        assert shares.payoff(first, second, Fraction(P), Fraction(b), m) == expected


@pytest.mark.parametrize("m", [0.5, 0.3, 1e-17])
def test_left_with_right_is_the_only_equilibrium_so_an_idle_decision_would_gain(m):
    assert shares.equilibria(1, 1, m) == {("left", "right"), ("right", "left")}
    stays = shares.payoff("both", "unlearned", 1, 1, 0.5)
    assert (stays, shares.payoff("both", "left", 1, 1, 0.5)) == (1.5, 1.75)


def test_the_weight_of_an_idle_decision_is_its_share_of_the_gradient():
    scores = torch.tensor([1.4, 1.5], dtype=torch.float64, requires_grad=True)
    (torch.logsumexp(20 * scores, 0) / 20).backward()
    assert shares.idle_weight(0.1, 20) == pytest.approx(scores.grad[0].item())
    assert shares.idle_weight(1e6, 100) == 0


def test_no_mask_beats_a_whole_or_everything_against_two_wholes():
    P, b = 8, 4
    best = 0
    for i, j, k in product(range(P + 1), range(b + 1), range(P + 1)):
        mask = set(range(i)) | set(range(50, 50 + j)) | set(range(99, 99 + k))
        one = set(range(P)) | set(range(50, 50 + b))
        other = set(range(50, 50 + b)) | set(range(99, 99 + P))
        best = max(best, (counted_iou(mask, one) + counted_iou(mask, other)) / 2)
    assert shares.whole_ceiling(Fraction(P), Fraction(b)) == best


def test_the_figure_says_the_scores_and_its_arrow_leads_from_undecided_to_both():
    ax = shares.plot().axes[0]
    corners = [box.get_xlabel() for box in ax.child_axes]
    assert corners == ["left: 1.5", "right: 1.5", "both: 1.5", "neither: 1.5"]
    (arrow,) = [text for text in ax.texts if text.get_text() == ""]
    assert (arrow.xyann, arrow.xy) == ((0.5, 0.5), (1, 1))
    squares = [box.images[0].get_array()[7, 13] for box in ax.child_axes]
    red, yellow, orange, white = squares
    assert red[1] < orange[1] < yellow[1]
    assert white.min() > 0.9


def test_the_script_says_what_holds_and_saves_its_figure(tmp_path, capsys):
    shares.main(["--out", str(tmp_path / "new")])
    said = capsys.readouterr().out
    assert "a share of 0.414" in said
    assert "| 1/3 | 1.00 | 4.83 |" in said
    assert (tmp_path / "new" / "shares.png").stat().st_size > 10000


def test_what_is_out_of_range_is_named_with_its_value():
    with pytest.raises(ValueError, match="p must be from 0 to 1, got nan"):
        shares.mean_iou(0.5, float("nan"), 1, 1)
    with pytest.raises(ValueError, match="a must be from 0 to 1, got 1.1"):
        shares.slope(1.1, 0.5, 1, 1)
    with pytest.raises(ValueError, match="P must be positive and finite, got inf"):
        shares.climbs_to_given(0.5, float("inf"), 1)
    with pytest.raises(ValueError, match="p must be positive and finite, got 0"):
        shares.dividing_point(1, 1, 0)
    with pytest.raises(ValueError, match=r"area must be at least P \+ b, got 2.5"):
        shares.untrained_climbs_to_given(0.5, 2, 1, 2.5)
    with pytest.raises(ValueError, match="start must be between 0 and 1, got 1.0"):
        shares.untrained_climbs_to_given(0.5, 1, 1, 9, 1.0)
    with pytest.raises(ValueError, match="decision must be one of .* got 'up'"):
        shares.payoff("left", "up", 1, 1, 0.5)
