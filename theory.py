"""The theory of "Spurious Equilibrium in Segmentation Models" (Dayanandan and Lall),
Eqs. 1-12, checked and corrected.

A common region of b pixels touches two own regions of P1 and P2 pixels. With
probability m the truth is the left grouping (P1+b, P2), with probability n = 1 - m the
right one (P1, b+P2). A segmentation is scored by the IoU of the left instance plus the
IoU of the right one, averaged over the two truths: between 0 and 2.

Running this script prints a line for every equation, theorem and corollary (how it was
checked, the largest error, the verdict) and saves theory.json and theory.png. With
--explore it opens a window on the landscape of F instead.

The equations take floats, NumPy arrays or fractions.Fraction alike; with fractions
nothing is rounded. Sizes are in pixels. Only the ratios of P1, P2 and b matter, except
in common_push, where the image has an area too. What is out of range is a ValueError
that names the argument and the value: see check.
"""

from fractions import Fraction
from itertools import product

import numpy as np

import common


def check(**arguments):
    """Raise ValueError, with name and value, for what is out of range, NaN included. P,
    P1, P2, b, area and power are positive, y is x - 1/2, all else is a share or a
    probability."""
    for name, value in arguments.items():
        inside, allowed = (value >= 0) & (value <= 1), "in [0, 1]"
        if name in ("P", "P1", "P2", "b", "area", "power"):
            inside, allowed = (value > 0) & (value < np.inf), "positive and finite"
        elif name == "y":
            inside, allowed = abs(value) <= 0.5, "in [-1/2, 1/2]"
        if not (inside if isinstance(inside, bool) else inside.all()):
            raise ValueError(f"{name} must be {allowed}, got {value}")


def exact(**arguments):
    """The arguments as Fractions, once check has seen them; a float is what it is."""
    check(**arguments)
    kept = int, Fraction
    return [
        Fraction(x if isinstance(x, kept) else float(x)) for x in arguments.values()
    ]


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
    image holds the pair: a pixel more costs a poor mask little. So a network would set
    out for "both" even below a*; where it arrives, says untrained_end."""
    check(p=p, area=area, P1=P1, P2=P2, b=b, m=m)
    sides = (P1, m), (P2, 1 - m)
    return tuple(mask_slopes(p, p, p, prior, P, b, area)[1] / b for P, prior in sides)


def dividing_point(P, b, m=0.5, score="IoU"):
    """a*, where F is lowest along a: ascent leads to a = 1 from above, to 0 from below.
    For m = 1/2 it is (sqrt(P(P+b)) - P)/b = 1/(1 + sqrt(1 + b/P)) < 1/2, for Dice too.
    So an undecided network, a = c = 1/2, is above it for both instances and climbs to
    "both", never to "neither". For the right instance's c* pass P2 and n. Far from
    m = 1/2 a* leaves [0, 1], and for Dice it may be infinite. ValueError for m = 0."""
    check(P=P, b=b, m=m)
    instance_scores(1, P, b, score)  # which checks the score
    if np.any(m == 0):
        raise ValueError(f"m must be positive for a dividing point, got {m}")
    r = (1 - m) / m
    # (sqrt(r P (P + b)) - P) / b, in a form that does not cancel for small b
    star = P * ((r - 1) * P / b + r) / ((r * P * (P + b)) ** 0.5 + P)
    if score == "IoU":
        return star
    # v/(1 - v) - 2P/b with v^2 = r P/(P + b), in such a form
    gap = b + P * (1 - r)
    star = (b * star - (1 - r) * P * (1 + 2 * P / b)) / np.where(gap > 0, gap, 1)
    return np.where(gap > 0, star, np.inf)[()]


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
    exactly. A slope of zero counts as down, to the better side."""
    half, (P, b, m) = Fraction(1, 2), exact(P=P, b=b, m=m)
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
# Beyond the paper: one instance by itself. It owns the common region with probability p
# and gets a share a of it; p is m or n with two owners, 1/K with K equally likely ones.
# The mean score over all instances is the sum of such terms: each has its way alone.


def instance_scores(a, P, b, score="IoU"):
    """What an instance that gets a share a of b scores: (if it owns b, if it does not).
    The IoUs are u = (P+ab)/(P+b) and q/u with q = P/(P+b): their product is q for every
    a. ValueError: a score that is neither IoU nor Dice."""
    check(a=a, P=P, b=b)
    ious = (P + a * b) / (P + b), P / (P + a * b)
    if score not in ("IoU", "Dice"):
        raise ValueError(f"score must be IoU or Dice, got {score!r}")
    return ious if score == "IoU" else tuple(2 * u / (1 + u) for u in ious)


def instance_mean(a, p, P, b, score="IoU"):
    """f(a), the mean score of an instance that gets a share a of b: p u + (1-p) q/u."""
    check(p=p)
    own, other = instance_scores(a, P, b, score)
    return p * own + (1 - p) * other


def instance_slope(a, p, P, b, score="IoU"):
    """The derivative of instance_mean in a. It changes its sign once at most, from minus
    to plus: local maxima are at the ends, a = 1 (given) and a = 0 (not given)."""
    check(p=p)
    instance_scores(a, P, b, score)  # which checks the rest
    if score == "IoU":
        own, other = b / (P + b), P * b / (P + a * b) ** 2
    else:
        own = 2 * b * (P + b) / (2 * P + b + a * b) ** 2
        other = 2 * P * b / (2 * P + a * b) ** 2
    return p * own - (1 - p) * other


def better_end(p, P, b, score="IoU"):
    """Which end scores more, "given", "not given" or "tie": f(1) - f(0) is 2p - 1 times
    b/(P+b), for Dice times b/(2P+b), so that p alone decides."""
    p, P, b = exact(p=p, P=P, b=b)
    gain = instance_mean(1, p, P, b, score) - instance_mean(0, p, P, b, score)
    return "given" if gain > 0 else "not given" if gain < 0 else "tie"


def local_maxima(p, P, b, score="IoU"):
    """Which ends no small step improves: a set of "given" and "not given". For IoU "given"
    is one while b/P > 1/p - 2, "not given" while b/P > 1/(1-p) - 2."""
    p, P, b = exact(p=p, P=P, b=b)
    up = {"given": instance_slope(1, p, P, b, score) > 0}
    up["not given"] = instance_slope(0, p, P, b, score) < 0
    return {end for end, holds in up.items() if holds}


def climbs_to(p, P, b, score="IoU", a=0.5):
    """The end to which ascent leads from a share a, "given" or "not given"; at the very
    dividing point, "not given"."""
    a, p, P, b = exact(a=a, p=p, P=P, b=b)
    return "given" if instance_slope(a, p, P, b, score) > 0 else "not given"


def mask_slopes(own, a, rest, p, P, b, area):
    """The gradient of the expected soft IoU of a mask in its shares own of the own part,
    a of the common region and rest of the other pixels of an image of area pixels: a
    triple. The first is never negative, the last never positive: own part and background
    are learned whatever p is. ValueError: an area below P + b."""
    check(own=own, a=a, rest=rest, p=p, P=P, b=b, area=area)
    others = area - P - b
    if np.any(others < 0):
        raise ValueError(f"area must be at least P + b, got {area}")
    if_owner, if_not = P + b + others * rest, P + a * b + others * rest  # unions
    own_slope = p * P / if_owner + (1 - p) * P / if_not
    slope = p * b / if_owner - (1 - p) * P * own * b / if_not**2
    alarm = p * (P * own + a * b) / if_owner**2 + (1 - p) * P * own / if_not**2
    return own_slope, slope, -alarm * others


def untrained_end(p, P, b, area, start=0.5):
    """The end to which a mask climbs that has learned nothing, "given" or "not given".

    It is the smallest network there is: three logits, of the shares of mask_slopes, all
    of them start at first. It climbs the expected IoU by its gradient; while own part and
    background are poor, a pixel of b more costs little. Where a has come to when both are
    learned decides, see climbs_to. ValueError: see mask_slopes, or a start of 0 or 1."""
    check(start=start)
    p, P, b, area, start = map(float, (p, P, b, area, start))
    if start in (0, 1):
        raise ValueError(f"start must be between 0 and 1, got {start}")
    logits = [np.log(start / (1 - start))] * 3
    for _ in range(20000):  # some hundred are enough
        own, a, rest = shares = [1 / (1 + np.exp(-x)) for x in logits]
        slopes = mask_slopes(*shares, p, P, b, area)
        rates = [g * x * (1 - x) for g, x in zip(slopes, shares)]  # in the logits
        if own > 1 - 1e-4 and (area - P - b) * rest < 1e-4 * P:
            break
        pace = 0.05 / max(map(abs, rates))  # even steps: the way is the same
        logits = [x + pace * rate for x, rate in zip(logits, rates)]
    return climbs_to(p, P, b, a=a)


def owners(K, P, b, score="IoU"):
    """The mean sum of the scores of K instances, of which each owns b equally often, if
    "all" get it, "one" or "nobody". For K > 2 nobody beats one beats all; for K = 2 they
    tie. ValueError: K not a whole number from 2."""
    if not (2 <= K < np.inf and K == int(K)):
        raise ValueError(f"K must be a whole number from 2, got {K}")
    prior = Fraction(1, int(K))
    given, not_given = (instance_mean(a, prior, P, b, score) for a in (1, 0))
    one = given + (K - 1) * not_given
    return {"all": K * given, "one": one, "nobody": K * not_given}


def limits(p, score="IoU"):
    """The b/P above which giving b to an instance with prior p is a local maximum, and
    above which an undecided network, a = 1/2, climbs to it: a pair, (0, 0) from p = 1/2
    on; p is a number. With s = 1/p - 2 (K - 2 for K equally likely owners): for IoU s and
    T = 2s + 2 sqrt(s(s+1)), for Dice T and the root of r^3 = s(3r+4)^2. ValueError for
    p = 0, too: nothing makes it a maximum."""
    check(p=p)
    instance_scores(1, 1, 1, score)  # which checks the score
    if p == 0:
        raise ValueError(f"p must be positive for a limit, got {p}")
    if p >= 0.5:
        return 0, 0
    s = 1 / p - 2
    T = 2 * s + 2 * (s * (s + 1)) ** 0.5
    if score == "IoU":
        return s, T
    roots = np.roots([1, *(float(-s * k) for k in (9, 24, 16))])
    return T, roots.real.max()  # the others are negative or complex, and to the left


def bend(score, u, power=1):
    """The second derivative, in ln u, of a score that is a function of the IoU u. At
    p = 1/2 an instance has the IoUs u and q/u, whose logarithms have the same mean for
    every share: the two ends tie. Where the score bends up (> 0, convex) they are best
    and a*, see dividing_point, is worst; where it is straight (0) nothing decides; where
    it bends down a* is best. IoU^power bends up throughout, Dice^power where u < power.
    ValueError: a score that is not known, or a power of another score than these two."""
    check(u=u, power=power)
    if score not in BENDS:
        raise ValueError(f"score must be among {', '.join(BENDS)}, got {score!r}")
    if np.any(power != 1) and score not in ("IoU", "Dice"):
        raise ValueError(f"power must be 1 for {score}, got {power}")
    return BENDS[score](u, power)


BENDS = {
    "IoU": lambda u, k: k**2 * u**k,
    "Dice": lambda u, k: k * (2 * u / (1 + u)) ** k * (k - u) / (1 + u) ** 2,
    "ln IoU": lambda u, k: 0 * u,
    "ln Dice": lambda u, k: -u / (1 + u) ** 2,
    "-(1 - IoU)^2": lambda u, k: 2 * u * (1 - 2 * u),
    "-(1 - Dice)^2": lambda u, k: 4 * u * (1 - 4 * u + u**2) / (1 + u) ** 4,
}


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
    unlearned) a plateau, no equilibrium, can keep the second one back.
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


def main(argv=None):
    """Check, print, save, draw. Returns the numbers (theory.json) and the Figure; with
    --explore what landscape.explore does."""
    # Whoever copies this file to have the equations needs neither.
    import claims
    import landscape

    parser = common.Parser(__doc__)
    text = "Open a window on the landscape, with sliders, instead of the checks."
    parser.add_argument("--explore", action="store_true", help=text)
    args = parser.parse_args(argv)
    if args.explore:
        try:
            return landscape.explore()
        except (ImportError, RuntimeError) as e:  # matplotlib's: it can open no window
            parser.error(f"argument --explore: {str(e).splitlines()[0]}")
    parser.writable(args.out)
    rows = claims.check_claims()
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
    shares = {"b_over_P": 1.0, "corners": corners, "undecided": F(0.5, 0.5, *one)}
    shares["dividing_point"] = dividing_point(1, 1)
    shares["ascent_ends_at"] = ascend(0.5, 0.5, *one)[-1].tolist()
    shares["undecided_prior_limit"] = undecided_prior_limit(1, 1)
    shares["both_prior_limit"] = both_prior_limit(1, 1)
    kinds = [[d, e] for d, e in sorted(equilibria(1, 1, 0.5))]
    two = {"b_over_P": 1.0, "equilibria": kinds}
    two["payoffs"] = {
        d: {e: payoff(d, e, 1, 1, 0.5) for e in DECISIONS} for d in DECISIONS
    }
    two["both_basin"] = {beta: both_basin(1, 1, beta) for beta in (5, 10, 20, 50, 100)}
    gap = payoff("both", "unlearned", 1, 1, 0.5)  # the idle one scores nothing
    two["idle_weight"] = {beta: idle_weight(gap, beta) for beta in two["both_basin"]}
    numbers = {"claims": rows, "fig2": fig2, "landscape": shares}
    numbers |= {"two_decisions": two, "whole_ceiling": whole_ceiling(1, 1)}
    print(
        "\nTwo decisions (b = P, m = 1/2), by the sharpness of the maximum over them:"
    )
    for beta, share in two["both_basin"].items():
        text = f"sharpness {beta}: (both, both) holds until one takes back {share:.1%} of b"
        weight = two["idle_weight"][beta]
        print(f"{text}; beside (both), an idle one gets {weight:.0e} of the gradient")
    numbers["owners"] = {
        K: {f: [float(r) for r in limits(Fraction(1, K), f)] for f in ("IoU", "Dice")}
        for K in (2, 3, 4)
    }
    print(
        "\nK equally likely owners: the b/P from which b to all is a local maximum, and"
    )
    print("from which an undecided network climbs to it; below, it goes to nobody:")
    for K, rs in numbers["owners"].items():
        text = "; ".join("{}: {:.2f}, {:.2f}".format(f, *r) for f, r in rs.items())
        print(f"K = {K}: {text}")
    common.save(f"{args.out}/theory.json", numbers)
    common.save(f"{args.out}/theory.png", fig := landscape.plot())
    return numbers, fig


if __name__ == "__main__":
    common.script(main)
