"""The part of test_beyond.py on shares.py: python -m pytest beyond/test_shares.py"""

from fractions import Fraction
from itertools import product

import matplotlib
import numpy as np
import pytest
import torch
from matplotlib.figure import Figure

import theory
from beyond import shares

ONE, HALF, TINY = Fraction(1), Fraction(1, 2), Fraction(1, 10**30)
QUARTERS, PRIORS = [ONE * k / 4 for k in range(5)], (0 * ONE, ONE / 5, HALF, ONE * 5 / 7, ONE)
SIZES = [*product((ONE / 3, ONE, ONE * 9 / 2), repeat=2)]  # P, b


def iou(mask, truth):
    """The IoU of two sets of pixels, exactly."""
    return Fraction(len(mask & truth), len(mask | truth))


def counted(a, c, P1, P2, b):
    """What shares a and c score if the left and if the right grouping is true, from pixels."""
    left, common, right = {*range(P1)}, [*range(50, 50 + b)], {*range(99, 99 + P2)}
    masks = left | {*common[: int(a * b)]}, right | {*common[: int(c * b)]}
    truths = (left | {*common}, right), (left, right | {*common})
    return [sum(map(iou, masks, truth)) for truth in truths]


def quotient(f, x, *rest):
    """Central difference of f in x; of exact fractions it is off by about 1e-58."""
    return (f(x + TINY, *rest) - f(x - TINY, *rest)) / (2 * TINY)


def test_F_is_the_score_of_counted_pixels_all_corners_tie_at_one_half_and_none_beats_the_ceiling():
    for a, c, m, P, b in product(QUARTERS, QUARTERS, PRIORS, (1, 3), (4, 8)):
        score, ends = np.dot(counted(a, c, P, 5, b), (m, 1 - m)), (ONE * P, 5 * ONE, b, m)
        assert shares.F(a, c, *ends) == score <= theory.ceiling(*ends)
        assert c != 1 - a or score == theory.I_G(a, *ends)
        assert m != HALF or not {a, c} <= {0, 1} or score == theory.ceiling(*ends)


def test_an_instance_climbs_away_from_its_dividing_point_and_scores_more_at_its_likelier_end():
    for (P, b), p, a in product(SIZES, PRIORS, QUARTERS[1:-1]):
        up = quotient(shares.mean_iou, a, p, P, b)
        assert abs(up - shares.slope(a, p, P, b)) < 1e-50
        assert shares.climbs_to(p, P, b, a) == ("given" if up > 0 else "not given")
        gain = shares.mean_iou(1, p, P, b) - shares.mean_iou(0, p, P, b)
        assert gain == (2 * p - 1) * b / (P + b)
    for (P, b), p in product(SIZES, (0.5, 0.45, 0.6)):
        star, grid = shares.dividing_point(P, b, p), np.linspace(0, 1, 10001)
        lowest = grid[shares.mean_iou(grid, p, float(P), float(b)).argmin()]
        assert lowest == pytest.approx(min(max(star, 0), 1), abs=1e-4)
        assert p != 0.5 or star < 0.5  # undecided is above it and climbs to "both"
    assert shares.dividing_point(1.0, 1e-9) == pytest.approx(0.5, abs=1e-9)  # no cancellation


def test_how_far_m_may_leave_one_half_before_undecided_and_both_itself_leave_for_one_side():
    for (P, b), (k, a) in product(SIZES, enumerate((HALF, ONE))):
        n = 1 - shares.prior_limits(P, b)[k]
        ends = [shares.climbs_to(p, P, b, a) for p in (n + TINY, n - TINY)]
        assert ends == ["given", "not given"]
    huge = np.array([3 * 10**9])  # whose squares are no 64-bit integers
    assert shares.prior_limits(huge, huge)[0] == pytest.approx([9 / 17])


@pytest.mark.parametrize("score", ["IoU", "Dice"])
def test_the_sizes_from_which_given_is_a_maximum_and_undecided_climbs_there(score):
    def mean(a, p, r):  # P = 1
        ious = (1 + a * r) / (1 + r), 1 / (1 + a * r)
        own, other = ious if score == "IoU" else [2 * u / (1 + u) for u in ious]
        return p * own + (1 - p) * other

    for p, (k, a) in product((ONE / 3, ONE / 4, ONE * 2 / 5), enumerate((ONE, HALF))):
        near = [Fraction(float(shares.limits(p, score)[k]) * x) for x in (1 - 1e-9, 1 + 1e-9)]
        assert [quotient(mean, a, p, r) > 0 for r in near] == [False, True]
    assert shares.limits(0.5, score) == (0, 0)


def expected(x, k, at, p, P, b, area):
    """The expected soft IoU of a mask with the shares at, the k-th of which is x."""
    own, a, rest = (*at[:k], x, *at[k + 1 :])
    others = rest * (area - P - b)
    if_owner = (P * own + b * a) / (P + b + others)
    return p * if_owner + (1 - p) * P * own / (P + b * a + others)


def test_a_mask_that_has_learned_nothing_is_pushed_to_both_and_ends_where_autograd_ends():
    levels = ONE / 8, HALF, ONE * 7 / 8
    for *at, p, P, b in product(levels, levels, levels, (ONE / 3, HALF), (1, 3), (2,)):
        slopes = shares.mask_slopes(*at, p, P * ONE, b, 9)
        ups = [quotient(expected, x, k, at, p, P, b, 9) for k, x in enumerate(at)]
        assert max(abs(x - y) for x, y in zip(slopes, ups)) < 1e-50
        assert p != HALF or shares.mask_slopes(at[0], at[0], at[0], p, P, b, 9)[1] > 0
    for p, r, start in ((0.4, 0.5, 0.5), (0.4, 2, 0.5), (0.3, 4, 0.5), (0.3, 4, 0.1)):
        logits = torch.full((3,), np.log(start / (1 - start)), requires_grad=True)
        for _ in range(600):
            value = expected(logits[0].sigmoid(), 0, logits.sigmoid(), p, 64, 64 * r, 1024)
            (up,) = torch.autograd.grad(value, logits)
            logits = (logits + 0.05 * up / up.abs().max()).detach().requires_grad_()
        end = "given" if logits[1] > 0 else "not given"
        assert shares.untrained_end(p, 64, 64 * r, 1024, start) == end


def test_of_two_decisions_left_with_right_is_the_only_equilibrium_so_an_idle_one_gains():
    two = {("left", "right"), ("right", "left")}
    for P, b, m in product((1, 4), (2, 8), PRIORS[1:-1]):
        scores = {name: counted(*at, P, P, b) for name, at in shares.CORNERS.items()}
        scores["unlearned"], pays = (0, 0), {}
        for pair in product(scores, scores):
            pays[pair] = np.dot([*map(max, *(scores[name] for name in pair))], (m, 1 - m))
            assert shares.payoff(*pair, ONE * P, b, m) == pays[pair]
        best = {d: max(pays[d, other] for other in scores) for d in scores}
        nash = {(d, e) for d, e in pays if pays[d, e] == best[d] == best[e]}
        assert shares.equilibria(P, b, m) == nash == two
        assert pays["both", "left"] > pays["both", "unlearned"]  # not as 4.1.2 has it
    assert shares.equilibria(1e-9, 1e-300, 1e-17) == two  # exact, where floats would tie


def test_the_smooth_maximum_leaves_an_idle_decision_alone_and_keeps_two_boths_together():
    scores = torch.tensor([1.4, 1.5], dtype=torch.float64, requires_grad=True)
    (torch.logsumexp(20 * scores, 0) / 20).backward()
    assert shares.idle_weight(ONE / 10, 20) == pytest.approx(scores.grad[0].item())

    def pays(taken, too, beta):  # so much is taken back by one both, and by the other
        masks = (1 - taken, 1), (1, 1 - too)
        pairs = [[shares.F(*mask, 1, 1, 1, k) for k in (1, 0)] for mask in masks]
        return np.logaddexp(*beta * np.array(pairs)).mean() / beta

    for beta in (5, 20, 100):
        edge = shares.both_basin(1, 1, beta)
        before, at, after = (pays(edge + k, 0, beta) for k in (-1e-4, 0, 1e-4))
        assert before > at < after and edge < 1 - shares.dividing_point(1, 1)
    lowest = min(np.linspace(0, 0.05, 501), key=lambda taken: pays(taken, taken, 100))
    assert [lowest, shares.both_basin(1, 1, 100)] == pytest.approx([0.009, 0.016], abs=5e-4)


def test_no_mask_beats_a_whole_or_everything_against_two_wholes():
    P, b, scores = 8, 4, {}
    one, square, other = [*range(P)], [*range(50, 50 + b)], [*range(99, 99 + P)]
    for i, j, k in product(range(P + 1), range(b + 1), range(P + 1)):
        mask = {*one[:i], *square[:j], *other[:k]}
        scores[i, j, k] = iou(mask, {*one, *square}) / 2 + iou(mask, {*square, *other}) / 2
    best = {at for at, score in scores.items() if score == shares.whole_ceiling(ONE * P, b)}
    assert best == {(P, b, 0), (0, b, P), (P, b, P)} and max(scores.values()) == scores[P, b, P]


def test_the_sliders_and_the_plane_show_where_an_instance_goes():
    matplotlib.use("agg")
    fig, sliders = shares.main(["--explore"])
    sliders[3].set_val(60)  # m in %
    lines = {line.get_label(): line.get_xydata().tolist() for line in fig.axes[0].lines}
    assert lines["its end"] == [[1, 0]] and "c* = 0.732: the lowest score" in lines
    ax = Figure().subplots()
    shares.draw_plane(ax)
    rules = shares.climbs_to, lambda *at: shares.untrained_end(*at, 1024)
    for line, ends in zip(ax.lines, rules):
        for p, r in [at for at in line.get_xydata() if 0.1 < at[1] < 12][::6]:
            assert [ends(p, 64, 64 * r * k) for k in (0.99, 1.01)] == ["not given", "given"]


def test_the_script_prints_what_holds_and_saves_its_numbers(tmp_path, capsys):
    numbers, fig = shares.main(["--out", str(tmp_path)])
    said = capsys.readouterr().out.splitlines()
    assert [line[:16] for line in said if "wrong by" in line] == ["4.1.2 as printed"]
    assert sum(line.endswith(" holds") for line in said) == len(numbers["claims"]) - 1
    assert {x.get_text()[-5:] for x in fig.axes[0].texts} == {"1.500"}  # the corners
    assert '"ascent_ends_at": [' in (tmp_path / "shares.json").read_text()


def test_what_is_out_of_range_is_named():
    for name, f, *at in (
        ("a", shares.mean_iou, float("nan"), 0.5, 1, 1),
        ("b/P", shares.dividing_point, 1e200, 1e-300),
        ("P", shares.climbs_to, 0.5, float("inf"), 1),
        ("area", shares.untrained_end, 0.5, 2, 1, 2.5),
        ("start", shares.untrained_end, 0.5, 1, 1, 9, 1.0),
        ("decision", shares.payoff, "left", "up", 1, 1, 0.5),
        ("gap", shares.idle_weight, float("nan"), 1),
    ):
        with pytest.raises(ValueError, match=f"^{name} must be"):
            f(*at)
