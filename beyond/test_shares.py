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
    for (P, b), p in product(SIZES, (0.5, 0.48, 0.52)):
        star = shares.dividing_point(P, b, p)
        assert not 0 < star < 1 or abs(shares.slope(star, p, P, b)) < 1e-12
        assert p != 0.5 or 0 < star < 0.5  # undecided is above it and climbs to "both"
    assert shares.dividing_point(1.0, 1e-9) == pytest.approx(0.5, abs=1e-9)  # no cancellation
    # How far m may leave 1/2 before undecided does not go to both, and before both does not last.
    for (P, b), (k, a) in product(SIZES, enumerate((HALF, ONE))):
        n = 1 - shares.prior_limits(P, b)[k]
        ends = [shares.climbs_to(p, P, b, a) for p in (n + TINY, n - TINY)]
        assert ends == ["given", "not given"]
    huge = np.array([3 * 10**9])  # whose squares are no 64-bit integers
    assert shares.prior_limits(huge, huge)[0] == pytest.approx([9 / 17])


SCORES = {"IoU": lambda u: u, "Dice": lambda u: 2 * u / (1 + u), "ln IoU": np.log}
SCORES["ln Dice"] = lambda u: np.log(2 * u / (1 + u))


def mean(a, p, r, score):
    """The mean of a score for an instance of P = 1 that gets a share a of b = r."""
    own, other = SCORES[score]((1 + a * r) / (1 + r)), SCORES[score](1 / (1 + a * r))
    return p * own + (1 - p) * other


def test_the_sizes_from_which_given_is_a_maximum_and_undecided_climbs_there():
    for score, p in product(("IoU", "Dice"), (ONE / 3, ONE / 4, ONE * 2 / 5)):
        for a, limit in zip((ONE, HALF), shares.limits(p, score)):
            ends = [Fraction(float(limit) * k) for k in (1 - 1e-9, 1 + 1e-9)]
            assert [quotient(mean, a, p, r, score) > 0 for r in ends] == [False, True]
    assert shares.limits(0.5) == (0, 0)


def test_at_even_odds_the_ends_tie_and_the_bend_of_a_score_decides_what_lies_between():
    for (score, bend), r in product(zip(SCORES, (1, 1, 0, -1)), (0.1, 1, 8)):
        scores = mean(np.linspace(0, 1, 101), 0.5, r, score)
        rise = scores - mean(shares.dividing_point(1, r), 0.5, r, score)
        assert rise[0] == pytest.approx(rise[-1]) and (bend * rise > -1e-12).all()
        assert (abs(rise[0]) < 1e-12) == (bend == 0)


def expected(shares_of_mask, p, P, b, area):
    """The expected soft IoU of a mask, by its definition, and its gradient in the shares."""
    own, a, rest = shares_of_mask
    others = rest * (area - P - b)
    value = p * (P * own + b * a) / (P + b + others) + (1 - p) * P * own / (P + b * a + others)
    return value, torch.autograd.grad(value, shares_of_mask, retain_graph=True)[0]


def test_a_mask_that_has_learned_nothing_is_pushed_to_both_and_ends_where_autograd_ends():
    for *at, p, r in product(*[(0.1, 0.5, 0.9)] * 3, (0.3, 0.5), (0.5, 2)):
        at = torch.tensor(at, dtype=torch.float64, requires_grad=True)
        slopes = shares.mask_slopes(*at.tolist(), p, 64, 64 * r, 1024)
        assert slopes == pytest.approx(expected(at, p, 64, 64 * r, 1024)[1].tolist())
        assert slopes[1] > 0 or p < 0.5 or at.unique().numel() > 1
    for p, r, start in ((0.4, 0.5, 0.5), (0.4, 2, 0.5), (0.3, 4, 0.5), (0.3, 4, 0.1)):
        logits = torch.full((3,), np.log(start / (1 - start)))
        for _ in range(600):
            at = logits.sigmoid().requires_grad_()
            up = expected(at, p, 64, 64 * r, 1024)[1] * (at * (1 - at)).detach()
            logits += 0.05 * up / up.abs().max()
        end = "given" if logits[1] > 0 else "not given"
        assert shares.untrained_end(p, 64, 64 * r, 1024, start) == end


def test_of_two_decisions_left_with_right_is_the_only_equilibrium_so_an_idle_one_gains():
    two = {("left", "right"), ("right", "left")}
    for P, b, m in product((1, 4), (2, 8), PRIORS[1:-1]):
        corners = (("left", 1, 0), ("right", 0, 1), ("both", 1, 1), ("neither", 0, 0))
        scores = {name: counted(*at, P, P, b) for name, *at in corners}
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
    one, square, other = range(P), range(50, 50 + b), range(99, 99 + P)
    for i, j, k in product(range(P + 1), range(b + 1), range(P + 1)):
        mask = {*one[:i], *square[:j], *other[:k]}
        scores[i, j, k] = (iou(mask, {*one, *square}) + iou(mask, {*square, *other})) / 2
    best = [at for at in scores if scores[at] == max(scores.values())]
    assert best == [(0, b, P), (P, b, 0), (P, b, P)]
    assert scores[P, b, P] == shares.whole_ceiling(ONE * P, b)


def test_the_sliders_and_the_plane_show_where_an_instance_goes():
    matplotlib.use("agg")
    fig, sliders = shares.main(["--explore"])
    sliders[3].set_val(60)  # m in %
    lines = {line.get_label(): line.get_xydata().tolist() for line in fig.axes[0].lines}
    assert lines["its end"] == [[1, 0]] and "c* = 0.732: the lowest score" in lines
    said = {text.get_text().replace("\n", " ") for text in fig.axes[0].texts}
    assert said == {"left 1.600", "right 1.400", "both 1.500", "neither 1.500"}
    ax = Figure().subplots()
    shares.draw_plane(ax)
    rules = shares.climbs_to, lambda *at: shares.untrained_end(*at, 1024)
    for line, ends in zip(ax.lines, rules):
        for p, r in [at for at in line.get_xydata() if 0.1 < at[1] < 12][::6]:
            assert [ends(p, 64, 64 * r * k) for k in (0.99, 1.01)] == ["not given", "given"]


def test_the_script_prints_what_holds_and_saves_its_numbers(tmp_path, capsys):
    numbers, _ = shares.main(["--out", str(tmp_path)])
    said = capsys.readouterr().out.splitlines()
    assert [line[:16] for line in said if "wrong by" in line] == ["4.1.2 as printed"]
    assert sum(line.endswith(" holds") for line in said) == len(numbers["claims"]) - 1
    assert (tmp_path / "shares.json").exists() and (tmp_path / "shares.png").exists()


def test_what_is_out_of_range_is_named():
    for name, f, *at in (
        ("p", shares.mean_iou, 0.5, float("nan"), 1, 1),
        ("a", shares.slope, 1.1, 0.5, 1, 1),
        ("P", shares.climbs_to, 0.5, float("inf"), 1),
        ("b/P", shares.dividing_point, 1e200, 1e-300),
        ("area", shares.untrained_end, 0.5, 2, 1, 2.5),
        ("start", shares.untrained_end, 0.5, 1, 1, 9, 1.0),
        ("decision", shares.payoff, "left", "up", 1, 1, 0.5),
        ("gap", shares.idle_weight, float("nan"), 1),
    ):
        with pytest.raises(ValueError, match=f"^{name} must be"):
            f(*at)
