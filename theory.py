"""The theory of "Spurious Equilibrium in Segmentation Models" (Dayanandan and Lall),
Eqs. 1-12, checked and corrected.

A common region of b pixels touches two own regions of P1 and P2 pixels. With
probability m the truth is the left grouping (P1+b, P2), with probability n = 1 - m the
right one (P1, b+P2). A segmentation is scored by the IoU of the left instance plus the
IoU of the right one, averaged over the two truths: between 0 and 2.

Running this script prints a line for every equation, theorem and corollary (how it was
checked, the largest error, the verdict) and saves theory.png (the paper's Fig. 2, and
the landscape in which a real network moves) and theory.json.

The equations take floats, NumPy arrays or fractions.Fraction alike: with fractions the
identities are checked exactly, without rounding. Sizes are in pixels, but only the
ratio b : P matters.
"""

import argparse
import json
import os
import sys
import tempfile
from fractions import Fraction
from itertools import product

import numpy as np
from matplotlib.figure import Figure


def check(**arguments):
    """Raise ValueError, with name and value, for what is out of range, NaN included.

    P, P1, P2, b and area are sizes (positive and finite), y is a distance from x = 1/2
    (at most 1/2), everything else is a share or a probability, in [0, 1].
    """
    for name, value in arguments.items():
        if name in ("P", "P1", "P2", "b", "area"):
            inside, allowed = (value > 0) & (value < np.inf), "positive and finite"
        elif name == "y":
            inside, allowed = (value >= -0.5) & (value <= 0.5), "in [-1/2, 1/2]"
        else:
            inside, allowed = (value >= 0) & (value <= 1), "in [0, 1]"
        if not (inside if isinstance(inside, bool) else inside.all()):
            raise ValueError(f"{name} must be {allowed}, got {value}")


# --------------------------------------------------------------------------------------
# The paper: the common region is split, a share x of it goes to the left instance and
# 1 - x to the right one.


def I_G(x, P1, P2, b, m):
    """Eq. 1: the average IoU score, in [0, 2], of a split x. ValueError: see check."""
    check(x=x, P1=P1, P2=P2, b=b, m=m)
    n = 1 - m
    left_true = (P1 + x * b) / (P1 + b) + P2 / (P2 + (1 - x) * b)
    right_true = P1 / (P1 + x * b) + (P2 + (1 - x) * b) / (P2 + b)
    return m * left_true + n * right_true


def dI_G(x, P1, P2, b, m):
    """Eq. 2, corrected: the derivative of Eq. 1 in x. ValueError: see check."""
    check(x=x, P1=P1, P2=P2, b=b, m=m)
    n = 1 - m
    return (
        m * P2 * b / (P2 + (1 - x) * b) ** 2
        + m * b / (P1 + b)
        - n * P1 * b / (P1 + x * b) ** 2
        - n * b / (P2 + b)
    )


def dI_G_as_printed(x, P1, P2, b, m):
    """Eq. 2 as printed. In the curved terms P1 and P2 are exchanged, and the last two
    have m where n belongs; so it is right for P1 = P2 and m = 1/2 only."""
    check(x=x, P1=P1, P2=P2, b=b, m=m)
    return (
        P1 * b * m / (b * (1 - x) + P1) ** 2
        + b * m / (P1 + b)
        - P2 * b * m / (P2 + x * b) ** 2
        - b * m / (P2 + b)
    )


def d2I_G(x, P1, P2, b, m):
    """Eq. 3, corrected: the second derivative of Eq. 1 in x. ValueError: see check."""
    check(x=x, P1=P1, P2=P2, b=b, m=m)
    n = 1 - m
    return (
        2 * m * P2 * b**2 / (P2 + (1 - x) * b) ** 3
        + 2 * n * P1 * b**2 / (P1 + x * b) ** 3
    )


def d2I_G_as_printed(x, P1, P2, b, m):
    """Eq. 3 as printed: P1 and P2 are exchanged, so it is right for P1 = P2 only."""
    check(x=x, P1=P1, P2=P2, b=b, m=m)
    n = 1 - m
    return (
        2 * P1 * b**2 * m / (b * (1 - x) + P1) ** 3
        + 2 * P2 * b**2 * n / (b * x + P2) ** 3
    )


def I_G_at_0(P1, P2, b, m):
    """Eq. 4: the score of x = 0, the common region to the right instance.

    ValueError: see check.
    """
    check(P1=P1, P2=P2, b=b, m=m)
    return m * (P1 / (P1 + b) + P2 / (P2 + b)) + 2 * (1 - m)


def I_G_at_1(P1, P2, b, m):
    """Eq. 5: the score of x = 1, the common region to the left instance.

    ValueError: see check.
    """
    check(P1=P1, P2=P2, b=b, m=m)
    return 2 * m + (1 - m) * (P1 / (P1 + b) + P2 / (P2 + b))


def I_equal(x, P, b):
    """Eq. 6: Eq. 1 for P1 = P2 = P and m = n = 1/2. ValueError: see check."""
    check(x=x, P=P, b=b)
    left_true = (P + x * b) / (P + b) + P / (P + (1 - x) * b)
    right_true = P / (P + x * b) + (P + (1 - x) * b) / (P + b)
    return left_true / 2 + right_true / 2


def dI_equal(x, P, b):
    """Eq. 7: the derivative of Eq. 6 in x. ValueError: see check."""
    check(x=x, P=P, b=b)
    return (P * b / (b * (1 - x) + P) ** 2 - P * b / (b * x + P) ** 2) / 2


def d2I_equal(x, P, b):
    """Eq. 8: the second derivative of Eq. 6 in x. ValueError: see check."""
    check(x=x, P=P, b=b)
    return P * b**2 / (b * x + P) ** 3 + P * b**2 / (b * (1 - x) + P) ** 3


def d2I_equal_at_half(P, b):
    """Eq. 9: Eq. 8 at x = 1/2. ValueError: see check."""
    check(P=P, b=b)
    return 2 * P * b**2 / (b / 2 + P) ** 3


def I_max(P, b):
    """Eq. 10: the ceiling, the best average score of one decision when m = 1/2.

    ValueError: see check.
    """
    check(P=P, b=b)
    return P / (P + b) + 1


def I_symmetric(y, P, b):
    """Eq. 11, corrected: Eq. 6 at x = 1/2 + y, the same as at x = 1/2 - y.

    ValueError: see check.
    """
    check(y=y, P=P, b=b)
    return (
        (2 * P + b) / (P + b)
        + P / (P + (1 - 2 * y) * b / 2)
        + P / (P + (1 + 2 * y) * b / 2)
    ) / 2


def I_symmetric_as_printed(y, P, b):
    """Eq. 11 as printed: 1 stands where (2P+b)/(P+b) belongs, so that y = 1/2
    contradicts Eq. 10."""
    check(y=y, P=P, b=b)
    return (1 + P / (P + (1 - 2 * y) * b / 2) + P / (P + (1 + 2 * y) * b / 2)) / 2


def I_D(P, b):
    """Eq. 12: the score of giving the common region to both instances when m = 1/2.

    ValueError: see check.
    """
    check(P=P, b=b)
    return ((P + b) / (P + b) + P / (P + b)) / 2 + (P / (P + b) + (P + b) / (P + b)) / 2


# --------------------------------------------------------------------------------------
# Beyond the paper: a network with one sigmoid per instance does not choose one x. It
# gives a share a of the common region to the left instance and, independently, a share
# c to the right one. The paper's split is the line c = 1 - a. As in the paper, the own
# parts are taken as learned; before they are, see common_push.

CORNERS = {"left": (1, 0), "right": (0, 1), "both": (1, 1), "neither": (0, 0)}  # (a, c)


def F(a, c, P1, P2, b, m):
    """The average score, in [0, 2], of the shares a and c; F(x, 1 - x) is Eq. 1.

    F is a convex function of a alone plus a convex function of c alone, so its local
    maxima are at corners. ValueError: see check.
    """
    check(a=a, c=c, P1=P1, P2=P2, b=b, m=m)
    n = 1 - m
    left_true = (P1 + a * b) / (P1 + b) + P2 / (P2 + c * b)
    right_true = P1 / (P1 + a * b) + (P2 + c * b) / (P2 + b)
    return m * left_true + n * right_true


def dF(a, c, P1, P2, b, m):
    """The gradient of F: (dF/da, dF/dc). ValueError: see check."""
    check(a=a, c=c, P1=P1, P2=P2, b=b, m=m)
    n = 1 - m
    da = m * b / (P1 + b) - n * P1 * b / (P1 + a * b) ** 2
    dc = n * b / (P2 + b) - m * P2 * b / (P2 + c * b) ** 2
    return da, dc


def common_push(p, area, P1, P2, b, m=0.5):
    """The push on the common region while nothing is learned: (left, right).

    It is the derivative of the expected soft score by the probability of one pixel of
    the common region when both masks have the probability p all over an image of area
    pixels. For m = 1/2 it is positive for every p on every image that holds the pair: a
    pixel more costs a poor mask little. So the network sets out towards "both", even
    from below a*. ValueError: see check.
    """
    check(p=p, area=area, P1=P1, P2=P2, b=b, m=m)

    def push(P, prior):  # of the instance that owns b with this probability
        with_b = p * area + (P + b) * (1 - p)  # its soft union if it does
        without = p * area + P * (1 - p)  # and if it does not
        return prior / with_b - (1 - prior) * p * P / without**2

    return push(P1, m), push(P2, 1 - m)


def dividing_point(P, b, m=0.5):
    """a*, where F is lowest along a: gradient ascent leads up from above it to a = 1,
    down from below it to a = 0.

    For m = 1/2 it is (sqrt(P(P+b)) - P)/b = 1/(1 + sqrt(1 + b/P)), which is below 1/2
    for every b > 0: an undecided network, a = c = 1/2, is above it for both instances
    and climbs to "both", never to "neither". For the right instance's c* pass P2 and n.
    Far from m = 1/2 it leaves [0, 1]. ValueError: see check; and m = 0.
    """
    check(P=P, b=b, m=m)
    if np.any(m == 0):
        raise ValueError(f"m must be positive for a dividing point, got {m}")
    r = (1 - m) / m
    # (sqrt(r P (P + b)) - P) / b, in a form that does not cancel for small b
    return P * ((r - 1) * P / b + r) / ((r * P * (P + b)) ** 0.5 + P)


def undecided_prior_limit(P, b):
    """The largest m with which an undecided network climbs to "both", P1 = P2 = P.

    a = c = 1/2 lies above both dividing points while P(P+b)/(P+b/2)^2 < n/m. The
    smallest such m is 1 minus this. ValueError: see check.
    """
    check(P=P, b=b)
    return (P + b / 2) ** 2 / ((P + b / 2) ** 2 + P * (P + b))


def both_prior_limit(P, b):
    """The largest m with which "both" is a local maximum of F at all, P1 = P2 = P.

    It is one while P/(P+b) < n/m. For m > 1/2 the likelier grouping alone scores more,
    but from "both" no small step leads there. ValueError: see check.
    """
    check(P=P, b=b)
    return (P + b) / (2 * P + b)


def ascend(a, c, P1, P2, b, m, rate=0.05, steps=2000):
    """Gradient ascent on F from (a, c), kept in [0, 1]: the path, (steps + 1, 2)."""
    path = [(a, c)]
    for _ in range(steps):
        da, dc = dF(a, c, P1, P2, b, m)
        a, c = min(max(a + rate * da, 0), 1), min(max(c + rate * dc, 0), 1)
        path.append((a, c))
    return np.array(path)


# --------------------------------------------------------------------------------------
# The checks


def counted_score(left, right, P1, P2, b, m):
    """The average score, a Fraction, without any formula: pixels are counted.

    left and right are the sets of pixels that a segmentation gives to the instances.
    Pixels 0 to P1 - 1 are the left one's own, the next b are the common region, and the
    last P2 the right one's own.
    """
    own_left, own_right = set(range(P1)), set(range(P1 + b, P1 + b + P2))
    common = set(range(P1, P1 + b))

    def iou(prediction, truth):
        return Fraction(len(prediction & truth), len(prediction | truth))

    left_true = iou(left, own_left | common) + iou(right, own_right)
    right_true = iou(left, own_left) + iou(right, common | own_right)
    return m * left_true + (1 - m) * right_true


def counted_F(i, j, P1, P2, b, m):
    """counted_score when the left instance gets the first i common pixels, the right
    instance the last j."""
    left, right = set(range(P1 + i)), set(range(P1 + b - j, P1 + b + P2))
    return counted_score(left, right, P1, P2, b, m)


def slope(f, x, *rest, h=Fraction(1, 10**30)):
    """Central difference of f(x, *rest) in x.

    In exact arithmetic the step can be tiny: the error is about h^2, never rounding.
    """
    return (f(x + h, *rest) - f(x - h, *rest)) / (2 * h)


def check_claims():
    """Check every numbered claim of the paper by exact arithmetic, and those beyond it.

    Returns a list of dicts: claim, how (it was checked), error (the largest, over all
    cases), verdict and, where a printed form is wrong, printed_error (by how much it is
    wrong at most, over the same cases) and printed_worst_at.
    """
    half = Fraction(1, 2)
    sizes = [Fraction(1, 3), Fraction(1), Fraction(9, 2)]
    shares = [Fraction(k, 8) for k in range(9)]
    inner = shares[1:-1]  # a central difference needs room on both sides
    priors = [Fraction(0), Fraction(1, 5), half, Fraction(5, 7), Fraction(1)]
    trios = list(product(sizes, sizes, sizes))  # (P1, P2, b)
    ends = list(product(sizes, sizes, sizes, priors))  # (P1, P2, b, m)
    general = [(x, *end) for x, end in product(inner, ends)]  # (x, P1, P2, b, m)
    pairs = list(product(sizes, sizes))  # (P, b)
    equal = list(product(inner, sizes, sizes))  # (x, P, b)
    counts = list(product((1, 3, 8), (1, 4, 8), (1, 2, 5), priors))  # whole pixels
    rows = []

    def row(claim, how, errors, verdict="holds", printed=None):
        error = max(abs(e) for e in errors)
        # 1e-50 is as good as zero: identities give 0, difference quotients about 1e-58.
        verdict = verdict if error < Fraction(1, 10**50) else "FAILS"
        entry = {"claim": claim, "how": how, "error": float(error), "verdict": verdict}
        if printed:
            wrong, right, names, cases = printed
            gap, worst = max((abs(wrong(*c) - right(*c)), c) for c in cases)
            where = ", ".join(f"{k} = {v}" for k, v in zip(names, worst))
            entry |= {"printed_error": float(gap), "printed_worst_at": where}
        rows.append(entry)

    e = [
        I_G(Fraction(i, b), P1, P2, b, m) - counted_F(i, b - i, P1, P2, b, m)
        for P1, P2, b, m in counts
        for i in range(b + 1)
    ]
    row("Eq. 1", "pixels counted", e)

    once, names = "holds once corrected", ("x", "P1", "P2", "b", "m")
    e = [dI_G(*case) - slope(I_G, *case) for case in general]
    printed = dI_G_as_printed, dI_G, names, general
    row("Eq. 2", "difference quotient of Eq. 1", e, once, printed)
    e = [d2I_G(*case) - slope(dI_G, *case) for case in general]
    printed = d2I_G_as_printed, d2I_G, names, general
    row("Eq. 3", "difference quotient of Eq. 2", e, once, printed)

    # Strictly convex: below its chord and bent upwards; and any split is worse than the
    # better end. An error is 1 for a case where that is not so.
    e = []
    for x, end in product(inner, ends):
        at_x, at_0, at_1 = (I_G(share, *end) for share in (x, 0, 1))
        below = at_x < (1 - x) * at_0 + x * at_1 and at_x < max(at_0, at_1)
        e.append(0 if below and d2I_G(x, *end) > 0 else 1)
    row("Theorem 3.1", "chord, second derivative, best end", e)

    row("Eq. 4", "Eq. 1 at x = 0", [I_G_at_0(*c) - I_G(0, *c) for c in ends])
    row("Eq. 5", "Eq. 1 at x = 1", [I_G_at_1(*c) - I_G(1, *c) for c in ends])

    # I(0) - I(1) is n - m times a factor that is positive whatever P1, P2 and b are.
    e = []
    for P1, P2, b, m in ends:
        gap = I_G_at_0(P1, P2, b, m) - I_G_at_1(P1, P2, b, m)
        e += [gap - (1 - 2 * m) * (2 - P1 / (P1 + b) - P2 / (P2 + b))]
    row("Remark under Eq. 5", "sizes do not move the best end", e, "does not hold")

    # x = 0 gives the common region to the right instance, which is right with
    # probability n. The paper's proof says so too; its statement says m.
    e = []
    for (P, b), m in product(pairs, priors):
        gap = I_G_at_0(P, P, b, m) - I_G_at_1(P, P, b, m)
        e.append(0 if (gap > 0, gap < 0) == (m < half, m > half) else 1)
    row("Corollary 3.2", "Eqs. 4, 5: x = 0 is best when n > m", e, "reversed")

    e = [I_equal(x, P, b) - I_G(x, P, P, b, half) for x, P, b in equal]
    row("Eq. 6", "Eq. 1 with P1 = P2, m = 1/2", e)
    e = [dI_equal(*case) - slope(I_equal, *case) for case in equal]
    row("Eq. 7", "difference quotient of Eq. 6", e)
    e = [d2I_equal(*case) - slope(dI_equal, *case) for case in equal]
    row("Eq. 8", "difference quotient of Eq. 7", e)
    e = [d2I_equal_at_half(P, b) - d2I_equal(half, P, b) for P, b in pairs]
    row("Eq. 9", "Eq. 8 at x = 1/2", e)
    e = [I_max(P, b) - I_equal(x, P, b) for P, b in pairs for x in (0, 1)]
    row("Eq. 10", "Eq. 6 at both ends", e)

    # The slope is zero at 1/2 and has the sign of x - 1/2 elsewhere: one minimum.
    e = [dI_equal(half, P, b) for P, b in pairs]
    for x, P, b in equal:
        if x != half:
            e.append(0 if dI_equal(x, P, b) * (x - half) > 0 else 1)
    row("Theorem 3.3", "sign of Eq. 7 on both sides of 1/2", e)

    e = [I_symmetric(x - half, P, b) - I_equal(x, P, b) for x, P, b in equal]
    e += [I_symmetric(half - x, P, b) - I_equal(x, P, b) for x, P, b in equal]
    cases = [(x - half, P, b) for x, (P, b) in product(shares, pairs)]
    printed = I_symmetric_as_printed, I_symmetric, ("y", "P", "b"), cases
    row("Eq. 11", "Eq. 6 at 1/2 + y and 1/2 - y", e, once, printed)
    e = [I_equal(x, P, b) - I_equal(1 - x, P, b) for x, P, b in equal]
    row("Corollary 3.4", "Eq. 6 mirrored", e)

    pixels = [(Fraction(P), Fraction(b)) for P, b in product((1, 3, 8), (1, 2, 5))]
    e = [I_D(P, b) - counted_F(int(b), int(b), int(P), int(P), int(b), half)
         for P, b in pixels]  # fmt: skip
    row("Eq. 12", "pixels counted", e)
    row("Theorem 3.5", "Eq. 12 = Eq. 10", [I_D(P, b) - I_max(P, b) for P, b in pairs])

    # "Neither" ties as well, and so do all four for unequal sizes: a tie prefers none.
    e = []
    for trio, (a, c) in product(trios, CORNERS.values()):
        e.append(F(a, c, *trio, half) - F(1, 1, *trio, half))
    row("  so that both is preferred", "four corners of F tie", e, "does not follow")

    beyond = "holds (beyond the paper)"
    e = [
        F(Fraction(i, b), Fraction(j, b), P1, P2, b, m) - counted_F(i, j, P1, P2, b, m)
        for P1, P2, b, m in counts
        for i, j in product(range(b + 1), range(b + 1))
    ]
    row("F(a, c)", "pixels counted", e, beyond)

    # dF/da is positive where (P + ab)^2 > P(P+b). At a = 1/2 they differ by b^2/4, so
    # an undecided network is above a* and is pushed up, for the right instance too.
    e = [(P + b / 2) ** 2 - P * (P + b) - b**2 / 4 for P, b in pairs]
    for P, b in pairs:
        e.append(0 if min(dF(half, half, P, P, b, half)) > 0 else 1)
    row("a* < 1/2: undecided goes to both", "(P+b/2)^2 - P(P+b) = b^2/4", e, beyond)

    e = []
    for p, (P1, P2, b) in product(shares, trios):
        tight = P1 + P2 + b  # the smallest image, and a larger one
        for area in (tight, 4 * tight):
            e.append(0 if min(common_push(p, area, P1, P2, b, half)) > 0 else 1)
    row("an untrained mask goes to both", "push on it at every level", e, beyond)

    e, step = [], Fraction(1, 10**6)
    for P, b in pairs:  # just inside the limits the push on c is up, just outside down
        for limit, at in (
            (undecided_prior_limit(P, b), half),
            (both_prior_limit(P, b), 1),
        ):
            inside, outside = (dF(at, at, P, P, b, limit + s)[1] for s in (-step, step))
            e.append(0 if inside > 0 > outside else 1)
    row("how far m may leave 1/2", "dF/dc changes sign there", e, beyond)
    return rows


# --------------------------------------------------------------------------------------
# The figure


def draw_landscape(ax, P, b, m=0.5):
    """Draw F(a, c) for P1 = P2 = P into a matplotlib Axes: filled contours (returned),
    the gradient's flow, the dividing points (dashed) and the four corners."""
    grid = np.linspace(0, 1, 101)
    a, c = np.meshgrid(grid, grid)  # (101, 101), a along the columns
    contours = ax.contourf(a, c, F(a, c, P, P, b, m), levels=14, cmap="cividis")
    flow = dF(a, c, P, P, b, m)
    ax.streamplot(
        a, c, *flow, color="white", density=0.55, linewidth=0.6, arrowsize=0.8
    )
    star = dividing_point(P, b, m)
    look = {"color": "white", "linestyle": "--", "linewidth": 1.2}
    ax.axvline(star, label="a* and c*: arrows (gradient) lead away from them", **look)
    ax.axhline(dividing_point(P, b, 1 - m), **look)
    ax.text(
        star - 0.045, 0.02, f"a* = {star:.3f}", color="white", fontsize=8, rotation=90
    )
    box = {"boxstyle": "round", "fc": "white", "ec": "none", "alpha": 0.85}
    for name, (i, j) in CORNERS.items():
        up = {"both": -75}.get(name, -28 if j else 28)  # clear of exp_single's path
        ax.plot(i, j, "o", color="white", mec="black", ms=9, clip_on=False, zorder=5)
        ax.annotate(
            f"{name}\n{F(i, j, P, P, b, m):.3f}",
            (i, j),
            xytext=(-10 if i else 10, up),
            textcoords="offset points",
            ha="right" if i else "left",
            va="center",
            fontsize=9,
            bbox=box,
            zorder=5,
        )
    ax.set_xlabel("a: share of the common region given to the left instance")
    ax.set_ylabel("c: share of it given to the right instance")
    ax.set(xlim=(0, 1), ylim=(0, 1), aspect="equal")
    return contours


def plot():
    """Fig. 2 (three panels) and the landscape F(a, c) for b = P, as in the experiments.

    Returns the Figure and a dict of its numbers.
    """
    P, b, m = 4.0, 1.0, 0.5  # those of Fig. 2
    others = ((0.3, "-"), (0.4, "--"), (0.6, "-."), (0.7, ":"))  # m and line style
    x = np.linspace(0, 1, 201)
    fig = Figure(figsize=(12, 9.5), layout="constrained")
    axes = fig.subplots(2, 2).ravel()
    panels = (
        (I_G, "average IoU score", "(a) The score of a split is convex (Eq. 1)"),
        (
            dI_G,
            "slope",
            "(b) For m = 1/2 its slope is zero at x = 1/2 (Eq. 2, corrected)",
        ),
        (d2I_G, "second derivative", "(c) It bends up everywhere (Eq. 3, corrected)"),
    )
    for ax, (f, label, title) in zip(axes, panels):
        for prior, style in others:
            ax.plot(
                x, f(x, P, P, b, prior), style, c="0.6", lw=0.9, label=f"m = {prior}"
            )
        ax.plot(x, f(x, P, P, b, m), color="black", linewidth=2.5, label=f"m = {m}")
        ax.set_xlabel("x: share of the common region given to the left instance")
        ax.set_ylabel(label)
        ax.set_title(title, fontsize=10, loc="left")
    low, high = I_equal(0.5, P, b), I_max(P, b)
    axes[0].plot(0.5, low, "v", color="tab:blue", ms=10, label="minimum, x = 1/2")
    label = f"two maxima, 1 + P/(P+b) = {high:.3f}"
    axes[0].plot([0, 1], [high, high], "^", color="tab:red", ms=10, label=label)
    axes[1].plot(0.5, 0, "v", color="tab:blue", ms=10, label="minimum, x = 1/2")
    for ax, place in zip(axes, ("upper center", "lower right", "upper center")):
        ax.legend(fontsize=8, ncols=2, loc=place)
    axes[1].axhline(0, color="0.8", linewidth=0.8, zorder=0)

    ax, square = axes[3], (P, P, P)  # b = P, where a* is well away from 1/2
    contours = draw_landscape(ax, P, P)
    fig.colorbar(contours, ax=ax, label="average score F(a, c)", shrink=0.85)
    path = ascend(0.5, 0.5, *square, 0.5)
    label = "gradient ascent from undecided, a = c = 1/2"
    ax.plot(*path.T, color="tab:red", linewidth=3, label=label)
    ax.plot(0.5, 0.5, "s", color="tab:red", markeredgecolor="white", markersize=9)
    ax.plot([0, 1], [1, 0], ":", color="black", label="the paper's splits, c = 1 - a")
    ax.legend(
        fontsize=8, loc="upper center", bbox_to_anchor=(0.5, -0.11), facecolor="0.6"
    )
    title = "(d) Two free shares, own parts learned, b = P, m = 1/2:\n"
    ax.set_title(
        title + "corners tie, undecided leads to both", fontsize=10, loc="left"
    )
    title = "What one decision can score when the truth is ambiguous"
    fig.suptitle(f"{title} (a-c: P1 = P2 = {P:g}, b = {b:g})")

    fig2 = {
        "P": P,
        "b": b,
        "m": m,
        "minimum": [0.5, low],
        "maxima": [[0, high], [1, high]],
    }
    landscape = {
        "b_over_P": 1.0,
        "corners": {name: F(*at, *square, 0.5) for name, at in CORNERS.items()},
        "undecided": F(0.5, 0.5, *square, 0.5),
        "dividing_point": dividing_point(P, P),
        "ascent_ends_at": path[-1].tolist(),
        "undecided_prior_limit": undecided_prior_limit(P, P),
        "both_prior_limit": both_prior_limit(P, P),
    }
    return fig, {"fig2": fig2, "landscape": landscape}


# --------------------------------------------------------------------------------------
# Command line and files, for every script


class Parser(argparse.ArgumentParser):
    """An ArgumentParser with --out whose errors are one line and exit status 2."""

    def __init__(self, doc):
        layout = argparse.RawDescriptionHelpFormatter
        super().__init__(description=doc, formatter_class=layout)
        text = "folder for the picture and the JSON, default %(default)s"
        self.add_argument("--out", type=writable_folder, default="figures", help=text)

    def error(self, message):
        self.exit(2, f"{self.prog}: error: {message}\n")


def writable_folder(path):
    """An argparse type: make the folder, try to write into it, return its path."""
    try:
        os.makedirs(path, exist_ok=True)
        tempfile.TemporaryFile(dir=path).close()
    except OSError as e:
        raise argparse.ArgumentTypeError(f"cannot write to {path!r}: {e.strerror}")
    return path


def save(fig, numbers, out, name):
    """Write OUT/name.png and OUT/name.json and say so.

    Each is written under a temporary name and renamed, so that no half-written file is
    left under its own. NaN and infinity, which JSON does not know, raise ValueError.
    """
    lines = []
    for key, value in numbers.items():  # a line a key, and a line a row of a history
        text = json.dumps(value, allow_nan=False)
        if isinstance(value, list) and value and isinstance(value[0], dict):
            rows = [json.dumps(row, allow_nan=False) for row in value]
            text = "[\n  " + ",\n  ".join(rows) + "\n ]"
        lines.append(f" {json.dumps(key)}: {text}")
    paths = [os.path.join(out, f"{name}.{ending}") for ending in ("png", "json")]
    temporary = [f"{path}.{os.getpid()}.tmp" for path in paths]
    try:
        fig.savefig(temporary[0], format="png", dpi=110)
        with open(temporary[1], "w") as f:
            f.write("{\n" + ",\n".join(lines) + "\n}\n")
        for old, new in zip(temporary, paths):
            os.replace(old, new)
    finally:
        for path in temporary:
            if os.path.exists(path):
                os.remove(path)
    print(f"saved {paths[0]} and {paths[1]}")


def script(main):
    """Run a script's main function, with one line in place of a traceback for Ctrl-C
    (status 130) and for files that cannot be written (status 2)."""
    try:
        main()
    except KeyboardInterrupt:
        print("interrupted: earlier files are left whole", file=sys.stderr)
        sys.exit(130)
    except OSError as e:
        print(f"error: {e}", file=sys.stderr)
        sys.exit(2)


def main():
    args = Parser(__doc__).parse_args()
    rows = check_claims()
    layout = "{:<34}{:<37}{:>11}   {}"
    print(layout.format("claim", "checked by", "largest gap", "verdict"))
    for r in rows:
        error = f"{r['error']:.0e}" if r["error"] else "0"
        print(layout.format(r["claim"], r["how"], error, r["verdict"]))
        if "printed_error" in r:
            gap = f"as printed off by up to {r['printed_error']:.3g}"
            print(f"{'':<34}{gap}, at {r['printed_worst_at']}")
    fig, numbers = plot()
    save(fig, {"claims": rows, **numbers}, args.out, "theory")


if __name__ == "__main__":
    script(main)
