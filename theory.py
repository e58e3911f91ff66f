"""The theory of "Spurious Equilibrium in Segmentation Models" (Dayanandan and Lall),
Eqs. 1-12, checked and corrected.

A common region of b pixels touches two own regions of P1 and P2 pixels. With
probability m the truth is the left grouping (P1+b, P2), with probability n = 1 - m the
right one (P1, b+P2). A segmentation is scored by the IoU of the left instance plus the
IoU of the right one, averaged over the two truths: between 0 and 2.

Running this script prints a line for every equation, theorem and corollary (how it was
checked, the largest error, the verdict) and saves theory.json and theory.png.

The equations take floats, NumPy arrays or fractions.Fraction alike; with fractions
nothing is rounded. Sizes are in pixels. Only the ratios of P1, P2 and b matter, except
in common_push, where the image has an area too. What is out of range is a ValueError
that names the argument and the value: see check.
"""

from fractions import Fraction
from itertools import product

import numpy as np
from matplotlib.figure import Figure

import common


def check(**arguments):
    """Raise ValueError, with name and value, for what is out of range, NaN included. P,
    P1, P2, b and area are sizes, y is x - 1/2, all else is a share or a probability."""
    for name, value in arguments.items():
        inside, allowed = (value >= 0) & (value <= 1), "in [0, 1]"
        if name in ("P", "P1", "P2", "b", "area"):
            inside, allowed = (value > 0) & (value < np.inf), "positive and finite"
        elif name == "y":
            inside, allowed = abs(value) <= 0.5, "in [-1/2, 1/2]"
        if not (inside if isinstance(inside, bool) else inside.all()):
            raise ValueError(f"{name} must be {allowed}, got {value}")


# --------------------------------------------------------------------------------------
# The paper: a share x of the common region goes to the left instance, the rest right


def I_G(x, P1, P2, b, m):
    """Eq. 1: the average IoU score, in [0, 2], of a split x."""
    check(x=x, P1=P1, P2=P2, b=b, m=m)
    left_true = (P1 + x * b) / (P1 + b) + P2 / (P2 + (1 - x) * b)
    right_true = P1 / (P1 + x * b) + (P2 + (1 - x) * b) / (P2 + b)
    return m * left_true + (1 - m) * right_true


def dI_G(x, P1, P2, b, m):
    """Eq. 2, corrected: the derivative of Eq. 1 in x."""
    check(x=x, P1=P1, P2=P2, b=b, m=m)
    left_true = b / (P1 + b) + P2 * b / (P2 + (1 - x) * b) ** 2
    right_true = -P1 * b / (P1 + x * b) ** 2 - b / (P2 + b)
    return m * left_true + (1 - m) * right_true


def dI_G_as_printed(x, P1, P2, b, m):
    """Eq. 2 as printed: P1 and P2 are exchanged in the curved terms, and m stands where
    n belongs. It is right for P1 = P2 and m = 1/2 only."""
    check(x=x, P1=P1, P2=P2, b=b, m=m)
    curved = P1 * b * m / (b * (1 - x) + P1) ** 2 - P2 * b * m / (P2 + x * b) ** 2
    return curved + b * m / (P1 + b) - b * m / (P2 + b)


def d2I_G(x, P1, P2, b, m):
    """Eq. 3, corrected: the second derivative of Eq. 1 in x."""
    check(x=x, P1=P1, P2=P2, b=b, m=m)
    left_true, right_true = P2 / (P2 + (1 - x) * b) ** 3, P1 / (P1 + x * b) ** 3
    return 2 * b**2 * (m * left_true + (1 - m) * right_true)


def d2I_G_as_printed(x, P1, P2, b, m):
    """Eq. 3 as printed: P1 and P2 are exchanged, so it is right for P1 = P2 only."""
    check(x=x, P1=P1, P2=P2, b=b, m=m)
    left_true = 2 * P1 * b**2 * m / (b * (1 - x) + P1) ** 3
    return left_true + 2 * P2 * b**2 * (1 - m) / (b * x + P2) ** 3


def I_G_at_0(P1, P2, b, m):
    """Eq. 4: the score of x = 0, b to the right instance."""
    check(P1=P1, P2=P2, b=b, m=m)
    return m * (P1 / (P1 + b) + P2 / (P2 + b)) + 2 * (1 - m)


def I_G_at_1(P1, P2, b, m):
    """Eq. 5: the score of x = 1, b to the left instance."""
    check(P1=P1, P2=P2, b=b, m=m)
    return 2 * m + (1 - m) * (P1 / (P1 + b) + P2 / (P2 + b))


def I_equal(x, P, b):
    """Eq. 6: Eq. 1 for P1 = P2 = P and m = n = 1/2."""
    check(x=x, P=P, b=b)
    left_true = (P + x * b) / (P + b) + P / (P + (1 - x) * b)
    right_true = P / (P + x * b) + (P + (1 - x) * b) / (P + b)
    return left_true / 2 + right_true / 2


def dI_equal(x, P, b):
    """Eq. 7: the derivative of Eq. 6 in x."""
    check(x=x, P=P, b=b)
    return (P * b / (b * (1 - x) + P) ** 2 - P * b / (b * x + P) ** 2) / 2


def d2I_equal(x, P, b):
    """Eq. 8: the second derivative of Eq. 6 in x."""
    check(x=x, P=P, b=b)
    return P * b**2 / (b * x + P) ** 3 + P * b**2 / (b * (1 - x) + P) ** 3


def d2I_equal_at_half(P, b):
    """Eq. 9: Eq. 8 at x = 1/2."""
    check(P=P, b=b)
    return 2 * P * b**2 / (b / 2 + P) ** 3


def I_max(P, b):
    """Eq. 10: the score of either end when m = 1/2."""
    check(P=P, b=b)
    return P / (P + b) + 1


def I_symmetric(y, P, b):
    """Eq. 11, corrected: Eq. 6 at x = 1/2 + y and at 1/2 - y."""
    check(y=y, P=P, b=b)
    curved = P / (P + (1 - 2 * y) * b / 2) + P / (P + (1 + 2 * y) * b / 2)
    return ((2 * P + b) / (P + b) + curved) / 2


def I_symmetric_as_printed(y, P, b):
    """Eq. 11 as printed: 1 stands where (2P+b)/(P+b) belongs."""
    check(y=y, P=P, b=b)
    return (1 + P / (P + (1 - 2 * y) * b / 2) + P / (P + (1 + 2 * y) * b / 2)) / 2


def ceiling(P1, P2, b, m):
    """The best average score of one decision, the larger of Eqs. 4 and 5: no shares of
    b to both instances or to neither score more."""
    return np.maximum(I_G_at_0(P1, P2, b, m), I_G_at_1(P1, P2, b, m))


def I_D(P, b):
    """Eq. 12: the score of b to both instances when m = 1/2."""
    check(P=P, b=b)
    return ((P + b) / (P + b) + P / (P + b)) / 2 + (P / (P + b) + (P + b) / (P + b)) / 2


# --------------------------------------------------------------------------------------
# Beyond the paper: a network with a sigmoid per instance gives a share a of the common
# region to the left one and, independently, c to the right one. The paper's split is
# c = 1 - a. Own parts are taken as learned, as there; before they are, see common_push.

CORNERS = {"left": (1, 0), "right": (0, 1), "both": (1, 1), "neither": (0, 0)}  # (a, c)


def F(a, c, P1, P2, b, m):
    """The average score, in [0, 2], of the shares a and c; F(x, 1 - x) is Eq. 1. It is
    convex in a plus convex in c: local maxima are at corners."""
    check(a=a, c=c, P1=P1, P2=P2, b=b, m=m)
    left_true = (P1 + a * b) / (P1 + b) + P2 / (P2 + c * b)
    right_true = P1 / (P1 + a * b) + (P2 + c * b) / (P2 + b)
    return m * left_true + (1 - m) * right_true


def dF(a, c, P1, P2, b, m):
    """The gradient of F: (dF/da, dF/dc)."""
    check(a=a, c=c, P1=P1, P2=P2, b=b, m=m)
    da = m * b / (P1 + b) - (1 - m) * P1 * b / (P1 + a * b) ** 2
    dc = (1 - m) * b / (P2 + b) - m * P2 * b / (P2 + c * b) ** 2
    return da, dc


def common_push(p, area, P1, P2, b, m=0.5):
    """The push on the common region while nothing is learned, (left, right): the slope
    of the expected soft score in one pixel of b, if both masks have the probability p
    all over an image of area pixels. For m = 1/2 it is positive for every p, if the
    image holds the pair: a pixel more costs a poor mask little. A network sets out for
    "both" even below a*."""
    check(p=p, area=area, P1=P1, P2=P2, b=b, m=m)

    def push(P, prior):  # of the instance that owns b with this probability
        with_b, without = (p * area + own * (1 - p) for own in (P + b, P))  # unions
        return prior / with_b - (1 - prior) * p * P / without**2

    return push(P1, m), push(P2, 1 - m)


def dividing_point(P, b, m=0.5):
    """a*, where F is lowest along a: ascent leads to a = 1 from above, to 0 from below.
    For m = 1/2 it is (sqrt(P(P+b)) - P)/b = 1/(1 + sqrt(1 + b/P)) < 1/2. So an
    undecided network, a = c = 1/2, is above it for both instances and climbs to "both",
    never to "neither". For the right instance's c* pass P2 and n. Far from m = 1/2 it
    leaves [0, 1]. ValueError for m = 0, too."""
    check(P=P, b=b, m=m)
    if np.any(m == 0):
        raise ValueError(f"m must be positive for a dividing point, got {m}")
    r = (1 - m) / m
    # (sqrt(r P (P + b)) - P) / b, in a form that does not cancel for small b
    return P * ((r - 1) * P / b + r) / ((r * P * (P + b)) ** 0.5 + P)


def undecided_prior_limit(P, b):
    """Below this m, and above 1 minus it, an undecided network climbs to "both", if
    P1 = P2 = P. For m > 1/2 that is P(P+b)/(P+b/2)^2 < n/m."""
    check(P=P, b=b)
    return (P + b / 2) ** 2 / ((P + b / 2) ** 2 + P * (P + b))


def both_prior_limit(P, b):
    """Below this m, and above 1 minus it, "both" is a local maximum of F, if P1 = P2 =
    P. For m > 1/2 that is P/(P+b) < n/m; the likelier grouping alone scores more, but
    no small step from "both" leads to it."""
    check(P=P, b=b)
    return (P + b) / (2 * P + b)


def undecided_end(P, b, m):
    """The corner to which ascent on F leads from a = c = 1/2, if P1 = P2 = P: "left",
    "right" or "both". F is convex in each share: the signs of the first slopes decide,
    exactly. A slope of zero is a rest that any nudge ends: down, the better side."""
    check(P=P, b=b, m=m)
    half, P, b, m = (Fraction(value) for value in (0.5, P, b, m))
    end = tuple(slope > 0 for slope in dF(half, half, P, P, b, m))
    return next(name for name, corner in CORNERS.items() if corner == end)


def ascend(a, c, P1, P2, b, m, rate=0.05, steps=2000):
    """Gradient ascent on F from (a, c), kept in [0, 1]: the path, (steps + 1, 2). It
    crosses no dividing point: slopes lead away from there."""
    path = [(a, c)]
    for _ in range(steps):
        slopes = dF(*path[-1], P1, P2, b, m)
        moved = (share + rate * up for share, up in zip(path[-1], slopes))
        path.append([min(max(share, 0), 1) for share in moved])
    return np.array(path)


# --------------------------------------------------------------------------------------
# Beyond the paper: two decisions, of which the better one counts for each truth, as two
# players with one payoff. And one mask a decision, the world of exp_rotated.py.

DECISIONS = (*CORNERS, "unlearned")  # the last scores nothing


def scores(decision, P, b):
    """What a decision scores if the left grouping is true and if the right one is."""
    check(P=P, b=b)
    if decision not in DECISIONS:
        raise ValueError(f"decision must be among {DECISIONS}, got {decision!r}")
    if decision == "unlearned":
        return 0 * P, 0 * P
    return F(*CORNERS[decision], P, P, b, 1), F(*CORNERS[decision], P, P, b, 0)


def payoff(first, second, P, b, m):
    """The mean over truths of the better one's score, in [0, 2], of two of DECISIONS."""
    check(m=m)
    left_true, right_true = map(np.maximum, scores(first, P, b), scores(second, P, b))
    return m * left_true + (1 - m) * right_true


def best_answers(other, P, b, m):
    """The DECISIONS that pay most beside another one: a set."""
    pays = {decision: payoff(other, decision, P, b, m) for decision in DECISIONS}
    return {decision for decision, pay in pays.items() if pay == max(pays.values())}


def equilibria(P, b, m):
    """The pairs of DECISIONS in which each is a best answer to the other (Nash): a set.
    For 0 < m < 1 these are (left, right) and (right, left) alone."""
    answers = {decision: best_answers(decision, P, b, m) for decision in DECISIONS}
    pairs = product(DECISIONS, DECISIONS)
    return {(d, e) for d, e in pairs if d in answers[e] and e in answers[d]}


def idle_weight(gap, beta):
    """The share of the gradient that a decision gets whose score is gap below the other
    one's, by the smooth maximum of sharpness beta: 1/(1 + e^(beta gap)). At (both,
    unlearned) it is a plateau, not an equilibrium, that keeps the second one back.
    ValueError: beta not positive and finite."""
    if not 0 < beta < np.inf:
        raise ValueError(f"beta must be positive and finite, got {beta}")
    return np.exp(-np.logaddexp(0, beta * gap))  # which does not overflow


def both_basin(P, b, beta):
    """The share of b that one of two decisions (both, both) must take back from a shape
    until it pays to go on, at m = 1/2; 1 if it never pays. The smooth maximum has a local
    maximum at (both, both), a sharp one has none: the share shrinks as 1/beta. ValueError:
    a size, or beta, not positive and finite."""
    check(P=P, b=b)

    def gain(d):  # the slope of twice the payoff in the share d that is taken back
        left, rest = b / (P + b), P + (1 - d) * b
        lost, won = d * left, P / rest - P / (P + b)  # if that shape owns b, and if not
        rise = idle_weight(-won, beta) * P * b / rest**2
        return rise - idle_weight(lost, beta) * left

    low, high = 0.0, 1.0
    for _ in range(60):  # halve the interval in which it turns
        middle = (low + high) / 2
        low, high = (low, middle) if gain(middle) > 0 else (middle, high)
    return high


def whole_score(a, c, s, P, b):
    """The mean IoU of one mask with two truths that are equally likely, one lobe and the
    square or the other and the square, (P+b) pixels each: the mask has the shares a and c
    of the lobes and s of the square. Neither of the two wholes, nor any other mask,
    scores more than everything does: see whole_ceiling."""
    check(a=a, c=c, s=s, P=P, b=b)
    one, other = a * P + s * b, c * P + s * b
    return (one / (P + b + c * P) + other / (P + b + a * P)) / 2


def whole_ceiling(P, b):
    """The most that whole_score can be, (P+b)/(2P+b): of either whole, and of everything.
    The square alone scores b/(P+b), which is less."""
    check(P=P, b=b)
    return (P + b) / (2 * P + b)


# --------------------------------------------------------------------------------------
# The checks


@np.vectorize
def counted_F(a, c, P1, P2, b, m):
    """F, a Fraction, without any formula: whole pixels are counted. To its P1 own ones
    the left instance gets the first of the b common ones, the right one the last."""
    end, score = int(P1 + b + P2), 0
    left, right = set(range(int(P1 + a * b))), set(range(int(P1 + b - c * b), end))
    for prior, edge in (m, int(P1 + b)), (1 - m, int(P1)):  # where the right one begins
        for mask, truth in (left, set(range(edge))), (right, set(range(edge, end))):
            score += prior * Fraction(len(mask & truth), len(mask | truth))
    return score


def counted_whole(a, c, s, P, b):
    """whole_score, a Fraction, from pixels: one lobe, then the square, then the other."""
    end, score = int(2 * P + b), Fraction(0)
    mask = {*range(int(a * P)), *range(int(P), int(P + s * b))}
    mask |= set(range(end - int(c * P), end))
    for truth in set(range(int(P + b))), set(range(int(P), end)):
        score += Fraction(len(mask & truth), 2 * len(mask | truth))
    return score


def slope(f, x, *rest, h=Fraction(1, 10**30)):
    """Central difference of f(x, *rest) in x. In fractions its error is about h^2."""
    return (f(x + h, *rest) - f(x - h, *rest)) / (2 * h)


def grid(*axes):
    """All combinations of values, as exact fractions: an array for each axis."""
    return np.array([[*map(Fraction, case)] for case in product(*axes)]).T


def check_claims():
    """Check the claims of the paper, and those beyond it, on grids of exact fractions.

    Returns a list of dicts: claim, how (it was checked), error (the largest), verdict
    and, for a wrong printed form, printed_error (its largest) and printed_worst_at."""
    rows = []

    def row(claim, how, *results, verdict="holds", printed=None):
        # A result is a gap, which should be zero, or says whether the claim holds.
        gaps = [1 - r if r.dtype == bool else abs(r) for r in results]
        error = float(np.max(gaps))  # identities: 0; difference quotients: about 1e-58
        verdict = "holds once corrected" if printed else verdict
        verdict = verdict if error < 1e-50 else "FAILS"
        rows.append({"claim": claim, "how": how, "error": error, "verdict": verdict})
        if printed:
            names, case, off = printed
            off, *worst = max(zip(abs(off), *case))
            where = ", ".join(f"{k} = {v}" for k, v in zip(names.split(), worst))
            rows[-1] |= {"printed_error": float(off), "printed_worst_at": where}

    beyond = {"verdict": "holds (beyond the paper)"}
    half, sizes, step = Fraction(1, 2), ("1/3", 1, "9/2"), Fraction(1, 10**6)
    shares, priors = [Fraction(k, 8) for k in range(9)], (0, "1/5", half, "5/7", 1)
    inner = shares[1:-1]  # a central difference needs room on both sides
    quarters, whole = shares[::2], (1, 3, 8)  # of 4 or 8 common pixels; own pixels
    pixels = a, c, *ends = grid(quarters, quarters, whole, whole, (4, 8), priors)
    counted = counted_F(*pixels)
    row("Eq. 1", "pixels counted", (I_G(a, *ends) - counted)[a + c == 1])
    x, *ends = at = grid(inner, sizes, sizes, sizes, priors)
    gap, off = dI_G(*at) - slope(I_G, *at), dI_G_as_printed(*at) - dI_G(*at)
    row("Eq. 2", "difference quotient of Eq. 1", gap, printed=("x P1 P2 b m", at, off))
    gap, off = d2I_G(*at) - slope(dI_G, *at), d2I_G_as_printed(*at) - d2I_G(*at)
    row("Eq. 3", "difference quotient of Eq. 2", gap, printed=("x P1 P2 b m", at, off))
    # Strictly convex: below its chord and bent upwards. And below the better end.
    score, at_0, at_1 = I_G(*at), I_G(0, *ends), I_G(1, *ends)
    below = score < (1 - x) * at_0 + x * at_1, score < np.maximum(at_0, at_1)
    row("Theorem 3.1", "chord, second derivative, best end", d2I_G(*at) > 0, *below)
    # "The maxima will depend on m ... and P_1, P_2 and b." Their value does. Which end
    # is best does not: I(0) - I(1) is n - m times what is positive for all sizes.
    P1, P2, b, m = ends = grid(sizes, sizes, sizes, priors)
    at_0, at_1 = I_G(0, *ends), I_G(1, *ends)
    gap = at_0 - at_1 - (1 - 2 * m) * (2 - P1 / (P1 + b) - P2 / (P2 + b))
    moves = (ceiling(*ends) < ceiling(2 * P1, P2, b, m)) | (m == 0) | (m == 1)
    how = "sizes move the value, not the end"
    row("Remark above Eq. 4", how, gap, moves, verdict="ambiguous")
    row("Eq. 4", "Eq. 1 at x = 0", I_G_at_0(*ends) - at_0)
    row("Eq. 5", "Eq. 1 at x = 1", I_G_at_1(*ends) - at_1)
    # x = 0, b to the right one, is true with probability n. The proof has it so too.
    gain = I_G_at_0(P1, P1, b, m) - I_G_at_1(P1, P1, b, m)
    signs = (gain > 0) == (m < half), (gain < 0) == (m > half)
    how = "Eqs. 4, 5: x = 0 is best when n > m"
    row("Corollary 3.2", how, *signs, verdict="reversed")
    x, P, b = at = grid(inner, sizes, sizes)
    row("Eq. 6", "Eq. 1 with P1 = P2, m = 1/2", I_equal(*at) - I_G(x, P, P, b, half))
    row("Eq. 7", "difference quotient of Eq. 6", dI_equal(*at) - slope(I_equal, *at))
    row("Eq. 8", "difference quotient of Eq. 7", d2I_equal(*at) - slope(dI_equal, *at))
    row("Eq. 9", "Eq. 8 at x = 1/2", d2I_equal_at_half(P, b) - d2I_equal(half, P, b))
    gaps = [I_max(P, b) - I_equal(end, P, b) for end in (0, 1)]
    row("Eq. 10", "Eq. 6 at both ends", *gaps)
    # The slope is zero at 1/2 and has the sign of x - 1/2 elsewhere: one minimum.
    signs = (dI_equal(*at) > 0) == (x > half), (dI_equal(*at) < 0) == (x < half)
    row("Theorem 3.3", "sign of Eq. 7 on both sides of 1/2", *signs)
    y, P, b = at = grid([share - half for share in shares], sizes, sizes)
    right, up, down = I_symmetric(*at), I_equal(half + y, P, b), I_equal(half - y, P, b)
    gaps, off = (right - up, right - down), I_symmetric_as_printed(*at) - right
    row("Eq. 11", "Eq. 6 at 1/2 + y and 1/2 - y", *gaps, printed=("y P b", at, off))
    row("Corollary 3.4", "Eq. 6 mirrored", up - down)
    P, b = grid(whole, (1, 2, 5))
    row("Eq. 12", "pixels counted", I_D(P, b) - counted_F(1, 1, P, P, b, half))
    P, b = at = grid(sizes, sizes)
    row("Theorem 3.5", "Eq. 12 = Eq. 10", I_D(P, b) - I_max(P, b))
    # "Neither" ties as well: a tie prefers none. Nor does it need equal areas.
    tie = [F(*corner, P, P, b, half) - I_max(P, b) for corner in CORNERS.values()]
    how = "four corners of F tie"
    row("  so that both is preferred", how, *tie, verdict="does not follow")
    a, c, *trio = grid((0, 1), (0, 1), sizes, sizes, sizes)
    tie = F(a, c, *trio, half) - ceiling(*trio, half)
    row("  nor are equal areas needed", "they tie for P1 != P2 too", tie, **beyond)
    row("F(a, c)", "pixels counted", F(*pixels) - counted, **beyond)
    best = counted.reshape(5, 5, -1).max((0, 1))  # over the quarters a and c
    gap = ceiling(*pixels[2:, : len(best)]) - best
    row("ceiling", "best F(a, c), pixels counted", gap, **beyond)
    # dF/da is positive where (P + ab)^2 > P(P+b). At a = 1/2 they differ by b^2/4, so
    # an undecided network is above a* and is pushed up, for the right instance too.
    gap, how = (P + b / 2) ** 2 - P * (P + b) - b**2 / 4, "(P+b/2)^2 - P(P+b) = b^2/4"
    both = np.array([undecided_end(*pair, half) == "both" for pair in at.T])
    row("a* < 1/2: undecided goes to both", how, gap, both, **beyond)
    # The pair fills the image, or a quarter of it.
    p, times, *trio = grid(shares, (1, 4), sizes, sizes, sizes)
    push = np.array(common_push(p, times * sum(trio), *trio, half)) > 0
    row("an untrained mask goes to both", "push on it at every level", push, **beyond)
    results = []  # at the bounds the push on c is zero: just below them up, above down
    for bound, c in (undecided_prior_limit, half), (both_prior_limit, 1):
        ms = [bound(P, b) + s for s in (-step, 0, step)]
        lower, zero, upper = (dF(c, c, P, P, b, m)[1] for m in ms)
        results += [lower > 0, zero, upper < 0]
    row("how far m may leave 1/2", "dF/dc changes sign there", *results, **beyond)
    # Two decisions: every answer to every one, with exact payoffs.
    P, b, m = at = grid(sizes, sizes, priors[1:-1])
    two = {("left", "right"), ("right", "left")}
    only = np.array([equilibria(*case) == two for case in at.T])
    row("two decisions: left and right", "every answer to every one", only, **beyond)
    pays = [[payoff("both", d, *case) for case in at.T] for d in ("unlearned", "left")]
    (stuck, moved), q = np.array(pays), P / (P + b)
    gaps, how = (
        (stuck - (1 + q), moved - stuck - m * (1 - q)),
        "the idle one gains by left",
    )
    row("4.1.2: a Nash equilibrium", how, *gaps, moved > stuck, verdict="contradicted")
    a, c, s, P, b = at = grid(quarters, quarters, quarters, (4, 8, 20), (4, 8))
    score, most = whole_score(*at), whole_ceiling(P, b)
    gap = score - np.array([counted_whole(*case) for case in at.T])
    ends = (s == 1) & ((a == 1) & (c * (1 - c) == 0) | (a == 0) & (c == 1))
    signs = (score == most) == ends, (score < most) == ~ends
    how = "pixels counted; three masks tie"
    row("one mask a decision: (P+b)/(2P+b)", how, gap, *signs, **beyond)
    return rows


# --------------------------------------------------------------------------------------
# The figure

MS = {0.3: "#08519c", 0.4: "#5b9bd5", 0.5: "black", 0.6: "#f0a04b", 0.7: "#c04a00"}
THICK, THIN = {"color": "black", "lw": 3.5}, {"color": "#00806a", "lw": 1.8}
PRINTED = {"color": "#d6279a", "ls": (0, (4, 2)), "lw": 1.8}  # a form that is wrong
CEILING = {"color": "0.7", "lw": 7, "solid_capstyle": "butt", "zorder": 0}
WORST = {"marker": "v", "color": "black", "ms": 9, "ls": "none"}
SETTING = """What one decision can score when the truth is ambiguous

Two own regions of P1 and P2 pixels (P if they are equal) touch a common region of b
pixels. The left one owns it with probability m, else the right one.
Dashed in magenta: what the paper prints, where it is wrong."""
READING = """A network gives a share a of the common region to
the left instance and, freely, a share c to the right.

All corners score the same: the tie of Theorem 3.5
prefers none of them. Eq. 12 is the corner "both".
The score rises away from the dashed lines. Undecided,
a = c = 1/2, is above both for every b: the way up
from there leads to "both"."""


def draw_landscape(ax, P, b, m=0.5):
    """Draw F for P1 = P2 = P into a matplotlib Axes: contours (returned), flow of the
    gradient, corners, and dividing points if between 0 and 1."""
    a, c = np.meshgrid(*[np.linspace(0, 1, 101)] * 2)  # (101, 101), a along the columns
    contours = ax.contourf(a, c, F(a, c, P, P, b, m), levels=14, cmap="cividis")
    flow = {"color": "white", "density": 0.55, "linewidth": 0.6, "arrowsize": 0.8}
    ax.streamplot(a, c, *dF(a, c, P, P, b, m), **flow)
    label = "a*, c*: the score is lowest here along a, along c"
    for line, name, turn, p in (ax.axvline, "a*", 90, m), (ax.axhline, "c*", 0, 1 - m):
        star = dividing_point(P, b, p) if p else np.inf
        if 0 < star < 1:
            line(star, color="white", ls="--", lw=1.2, label=label)
            x, y, side = (star - 0.01, 0.02, "right") if turn else (0.02, star, "left")
            look = {"rotation": turn, "ha": side, "color": "white", "fontsize": 8}
            ax.text(x, y, f"{name} = {star:.3f}", va="bottom", **look)
            label = None  # once in the legend
    look = {"fontsize": 9, "va": "center", "zorder": 5}
    look |= {"bbox": {"boxstyle": "round", "fc": "white", "ec": "none", "alpha": 0.85}}
    look |= {"arrowprops": {"arrowstyle": "-", "color": "white"}}
    for name, (i, j) in CORNERS.items():  # names keep off the diagonals: paths go there
        at, text = (0.03 + 0.94 * i, 0.28 + 0.44 * j), f"{F(i, j, P, P, b, m):.3f}"
        side = "right" if i else "left"
        ax.annotate(f"{name}\n{text}", (i, j), at, ha=side, **look)
        ax.plot(i, j, "o", color="white", mec="black", ms=9, clip_on=False, zorder=5)
    ax.set(xlabel="a: share of the common region given to the left instance")
    ax.set(ylabel="c: share of it given to the right instance")
    ax.set(xlim=(0, 1), ylim=(0, 1), aspect="equal")
    return contours


def plot():
    """Draw every equation, the paper's Fig. 2 as (a-c), and F. Returns the Figure."""
    fig = Figure(figsize=(9, 13.5), layout="constrained")
    upper, lower = fig.subfigures(2, 1, height_ratios=(2.6, 1))
    axes = upper.subplot_mosaic("ab;cd;ef")
    P, b, x, ms = 4.0, 1.0, np.linspace(0, 1, 201), np.array([*MS])
    for ax, f in zip(axes.values(), (I_G, dI_G, d2I_G)):
        for m, colour in MS.items():
            y = f(x, P, P, b, m)
            ax.plot(x, y, color=colour, lw=1.5)
            ax.text(1.06, y[-1], f"m = {m}", color=colour, va="center", fontsize=8)
    starts, ends, r = I_G_at_0(P, P, b, ms), I_G_at_1(P, P, b, ms), 4 * x[1:]  # r: b/P
    circles = {"color": "black", "marker": "o", "ls": "none", "ms": 5}
    squares, pair = circles | {"marker": "s"}, circles | {"color": MS[0.3], "ls": ":"}
    y, two, wrong = [0.2, 0.8], np.full(2, 0.3), I_symmetric_as_printed(x - 0.5, 1, 1)
    for panel, across, up, look, name in (
        ("a", x, I_equal(x, P, b), THICK, "Eq. 6: m = 1/2"),
        ("a", 0 * ms, starts, circles, "Eq. 4: the end x = 0"),
        ("a", 0 * ms + 1, ends, squares, "Eq. 5: the end x = 1"),
        ("a", x, 0 * x + I_max(P, b), CEILING, "Eqs. 10, 12: ceiling for m = 1/2"),
        ("a", 0.5, I_equal(0.5, P, b), WORST, "Theorem 3.3: worst split, m = 1/2"),
        ("b", x, dI_equal(x, P, b), THICK, "Eq. 7: m = 1/2"),
        ("b", 0.5, 0, WORST, "slope 0: worst split, m = 1/2"),
        ("b", x, dI_G_as_printed(x, P, P, b, 0.7), PRINTED, "Eq. 2 printed: m = 0.7"),
        ("c", x, d2I_equal(x, P, b), THICK, "Eq. 8: m = 1/2"),
        ("c", 0.5, d2I_equal_at_half(P, b), WORST, "Eq. 9: m = 1/2, x = 1/2"),
        ("c", x, d2I_G(x, P, 3, b, 0.5), THIN, "Eq. 3 corrected: P2 = 3, m = 1/2"),
        ("c", x, d2I_G_as_printed(x, P, 3, b, 0.5), PRINTED, "Eq. 3 printed: P2 = 3"),
        ("d", x, 0 * x + I_max(1, 1), CEILING, "Eq. 10: ceiling"),
        ("d", x, I_symmetric(x - 0.5, 1, 1), THICK, "Eq. 11 corrected, which is Eq. 6"),
        ("d", y, I_symmetric(two, 1, 1), pair, "a symmetric pair scores the same"),
        ("d", x, wrong, PRINTED, "Eq. 11 printed: below Eq. 10 at the ends"),
        ("e", x, ceiling(1, 1, 1, x), CEILING, "ceiling: the better of the two"),
        ("e", x, I_G_at_0(1, 1, 1, x), {"color": MS[0.3]}, "Eq. 4: right gets b"),
        ("e", x, I_G_at_1(1, 1, 1, x), {"color": MS[0.7]}, "Eq. 5: left gets b"),
        ("e", x, 1.5 - abs(x - 0.5), PRINTED, "Corollary 3.2 printed: the worse"),
        ("f", r, I_max(1, r), CEILING, "Eqs. 10, 12: b to one or to both"),
        ("f", r, I_equal(0.5, 1, r), THICK, "Eq. 6 at x = 1/2: b split evenly"),
    ):
        axes[panel].plot(across, up, label=name, **look)
    titles = {
        "a": "Any split is worse than the best end\nEqs. 1, 4-6, 10, 12; P = 4, b = 1",
        "b": "The slope of (a): one minimum\nEqs. 2 (corrected), 7; P = 4, b = 1",
        "c": "The slope rises: (a) is convex\nEqs. 3 (corrected), 8, 9; P = 4, b = 1",
        "d": "The score mirrors itself at x = 1/2\nEqs. 6, 10, 11; b = P, m = 1/2",
        "e": "The likelier owner should get b\nEqs. 4, 5, Corollary 3.2; b = P",
        "f": "The larger b, the more an even split costs\nEqs. 6, 10, 12; m = 1/2",
    }
    below = {"e": "m: probability that the left instance owns b"}
    below |= {"f": "b/P: size of the common region"}
    beside = {"b": "slope of the score", "c": "second derivative of the score"}
    for panel, ax in axes.items():
        ax.set_title(f"({panel}) {titles[panel]}", fontsize=10, loc="left")
        ax.set(xlabel=below.get(panel, "x: share of b given to the left instance"))
        score = "IoU left + IoU right,\naveraged over both truths"
        ax.set(ylabel=beside.get(panel, score))
        legend = ax.legend(fontsize=8, loc="upper center")
        bottom, top = ax.get_ylim()  # room for the legend above the curves
        ax.set_ylim(bottom, top + (top - bottom) * 0.16 * len(legend.texts))
    axes["d"].set_xticks([0, 0.2, 0.5, 0.8, 1], ["0", "1/2 - y", "1/2", "1/2 + y", "1"])
    ax, key = lower.subplots(1, 2)
    lower.colorbar(draw_landscape(ax, 1, 1), ax=ax, label="average score F", shrink=0.8)
    path, red = ascend(0.5, 0.5, 1, 1, 1, 0.5).T, "#e0301e"
    ax.plot(*path, color="white", lw=5, zorder=6)
    ax.plot(*path, color=red, lw=3, label="gradient ascent from undecided", zorder=6)
    ax.plot(0.5, 0.5, "s", color=red, mec="white", ms=10, zorder=7)
    ax.plot([0, 1], [1, 0], "k:", label="the paper's splits, c = 1 - a")
    title = '(g) Why "both": the corners tie, the way there decides\n'
    ax.set_title(title + "own regions learned, b = P, m = 1/2", fontsize=10, loc="left")
    key.text(0, 0.98, READING, va="top", fontsize=9)
    key.legend(*ax.get_legend_handles_labels(), loc="lower left", facecolor="0.6")
    key.axis("off")
    fig.suptitle(SETTING, fontsize=10)
    return fig


def main(argv=None):
    """Check, print, save, draw. Returns the numbers (theory.json) and the Figure."""
    parser = common.Parser(__doc__)
    args = parser.parse_args(argv)
    parser.writable(args.out)
    rows = check_claims()
    print("On a grid of exact fractions; a difference quotient is off by about 1e-57.")
    layout = "{:<36}{:<37}{:>11}   {}"
    print("\n" + layout.format("claim", "checked by", "largest gap", "verdict"))
    for r in rows:
        error = f"{r['error']:.0e}" if r["error"] else "0"
        print(layout.format(r["claim"], r["how"], error, r["verdict"]))
        if "printed_error" in r:
            gap = f"as printed off by up to {r['printed_error']:.3g}"
            print(f"{'':<36}{gap}, at {r['printed_worst_at']}")
    fig2 = {"P": 4.0, "b": 1.0, "m": 0.5, "minimum": [0.5, I_equal(0.5, 4.0, 1.0)]}
    fig2["maxima"] = [[x, I_max(4.0, 1.0)] for x in (0, 1)]
    one = 1, 1, 1, 0.5  # P1, P2, b, m
    corners = {name: F(*corner, *one) for name, corner in CORNERS.items()}
    landscape = {"b_over_P": 1.0, "corners": corners, "undecided": F(0.5, 0.5, *one)}
    landscape["dividing_point"] = dividing_point(1, 1)
    landscape["ascent_ends_at"] = ascend(0.5, 0.5, *one)[-1].tolist()
    landscape["undecided_prior_limit"] = undecided_prior_limit(1, 1)
    landscape["both_prior_limit"] = both_prior_limit(1, 1)
    kinds = [[d, e] for d, e in sorted(equilibria(1, 1, 0.5))]
    two = {"b_over_P": 1.0, "equilibria": kinds}
    two["payoffs"] = {
        d: {e: payoff(d, e, 1, 1, 0.5) for e in DECISIONS} for d in DECISIONS
    }
    two["both_basin"] = {beta: both_basin(1, 1, beta) for beta in (5, 10, 20, 50, 100)}
    gap = payoff("both", "unlearned", 1, 1, 0.5)  # the idle one scores nothing
    two["idle_weight"] = {beta: idle_weight(gap, beta) for beta in two["both_basin"]}
    numbers = {"claims": rows, "fig2": fig2, "landscape": landscape}
    numbers |= {"two_decisions": two, "whole_ceiling": whole_ceiling(1, 1)}
    print(
        "\nTwo decisions (b = P, m = 1/2), by the sharpness of the maximum over them:"
    )
    for beta, share in two["both_basin"].items():
        text = f"sharpness {beta}: (both, both) holds until one takes back {share:.1%} of b"
        weight = two["idle_weight"][beta]
        print(f"{text}; beside (both), an idle one gets {weight:.0e} of the gradient")
    common.save(f"{args.out}/theory.json", numbers)
    common.save(f"{args.out}/theory.png", fig := plot())
    return numbers, fig


if __name__ == "__main__":
    common.script(main)
