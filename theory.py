"""The theory of "Spurious Equilibrium in Segmentation Models" (Dayanandan and Lall), Eqs. 1-12, checked and corrected.

A common region of b pixels touches two own regions of P1 and P2 pixels. With probability m the truth is the left
grouping (P1+b, P2), with probability n = 1 - m the right one (P1, b+P2). A segmentation is scored by the IoU of the
left instance plus the IoU of the right one, averaged over the two truths: between 0 and 2.

Running this script prints a line for every equation, theorem and corollary (how it was checked, the largest error, the
verdict) and saves theory.png (the paper's Fig. 2, and the landscape in which a real network moves) and theory.json.

Every function takes floats, NumPy arrays or fractions.Fraction alike: with fractions the identities are checked
exactly, without rounding. Sizes are in pixels, but only the ratio b : P matters.
"""

import argparse
import json
import os
import signal
import tempfile
from fractions import Fraction
from itertools import product

import numpy as np
from matplotlib.figure import Figure


def check(**arguments):
    """Raise ValueError, with name and value, for a size that is not positive or a share or prior outside [0, 1].

    P, P1, P2 and b are sizes (positive and finite), y is a distance from x = 1/2, everything else is in [0, 1].
    """
    for name, value in arguments.items():
        v = np.asarray(value)
        if name in ("P", "P1", "P2", "b"):
            if not np.all((v > 0) & (v < np.inf)):  # written so that NaN fails too
                raise ValueError(f"{name} must be positive and finite, got {value}")
        elif name == "y":
            if not np.all((v >= -0.5) & (v <= 0.5)):
                raise ValueError(f"y must be in [-1/2, 1/2], got {value}")
        elif not np.all((v >= 0) & (v <= 1)):
            raise ValueError(f"{name} must be in [0, 1], got {value}")


# ---------------------------------------------------------------------------------------------------------------------
# The paper: the common region is split, a share x of it goes to the left instance and 1 - x to the right one.


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
    """Eq. 2 as printed: P1 and P2 exchanged in the curved terms, and m in the last two where n belongs."""
    check(x=x, P1=P1, P2=P2, b=b, m=m)
    return (
        P1 * b * m / (b * (1 - x) + P1) ** 2
        + b * m / (P1 + b)
        - P2 * b * m / (P2 + x * b) ** 2
        - b * m / (P2 + b)
    )


def d2I_G(x, P1, P2, b, m):
    """Eq. 3, corrected: the second derivative of Eq. 1 in x, positive everywhere. ValueError: see check."""
    check(x=x, P1=P1, P2=P2, b=b, m=m)
    n = 1 - m
    return (
        2 * m * P2 * b**2 / (P2 + (1 - x) * b) ** 3
        + 2 * n * P1 * b**2 / (P1 + x * b) ** 3
    )


def d2I_G_as_printed(x, P1, P2, b, m):
    """Eq. 3 as printed: P1 and P2 exchanged."""
    check(x=x, P1=P1, P2=P2, b=b, m=m)
    n = 1 - m
    return (
        2 * P1 * b**2 * m / (b * (1 - x) + P1) ** 3
        + 2 * P2 * b**2 * n / (b * x + P2) ** 3
    )


def I_G_at_0(P1, P2, b, m):
    """Eq. 4: the score of giving the whole common region to the right instance (x = 0). ValueError: see check."""
    check(P1=P1, P2=P2, b=b, m=m)
    return m * (P1 / (P1 + b) + P2 / (P2 + b)) + 2 * (1 - m)


def I_G_at_1(P1, P2, b, m):
    """Eq. 5: the score of giving the whole common region to the left instance (x = 1). ValueError: see check."""
    check(P1=P1, P2=P2, b=b, m=m)
    return 2 * m + (1 - m) * (P1 / (P1 + b) + P2 / (P2 + b))


def I_equal(x, P, b):
    """Eq. 6: Eq. 1 for P1 = P2 = P and m = n = 1/2. ValueError: see check."""
    check(x=x, P=P, b=b)
    return ((P + x * b) / (P + b) + P / (P + (1 - x) * b)) / 2 + (
        P / (P + x * b) + (P + (1 - x) * b) / (P + b)
    ) / 2


def dI_equal(x, P, b):
    """Eq. 7: the derivative of Eq. 6 in x, zero at x = 1/2 alone. ValueError: see check."""
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
    """Eq. 10: the ceiling 1 + P/(P+b), the best average score of one decision (m = 1/2). ValueError: see check."""
    check(P=P, b=b)
    return P / (P + b) + 1


def I_symmetric(y, P, b):
    """Eq. 11, corrected: Eq. 6 at x = 1/2 + y or 1/2 - y, which are equal. ValueError: see check."""
    check(y=y, P=P, b=b)
    return (
        (2 * P + b) / (P + b)
        + P / (P + (1 - 2 * y) * b / 2)
        + P / (P + (1 + 2 * y) * b / 2)
    ) / 2


def I_symmetric_as_printed(y, P, b):
    """Eq. 11 as printed: with 1 where (2P+b)/(P+b) belongs, so that at y = 1/2 it contradicts Eq. 10."""
    check(y=y, P=P, b=b)
    return (1 + P / (P + (1 - 2 * y) * b / 2) + P / (P + (1 + 2 * y) * b / 2)) / 2


def I_D(P, b):
    """Eq. 12: the score of giving the whole common region to both instances (m = 1/2). ValueError: see check."""
    check(P=P, b=b)
    return ((P + b) / (P + b) + P / (P + b)) / 2 + (P / (P + b) + (P + b) / (P + b)) / 2


# ---------------------------------------------------------------------------------------------------------------------
# Beyond the paper: a network with one sigmoid per instance does not choose one x. It gives a share a of the common
# region to the left instance and, independently, a share c to the right one. The paper's split is the line c = 1 - a.

CORNERS = {"left": (1, 0), "right": (0, 1), "both": (1, 1), "neither": (0, 0)}  # (a, c)


def F(a, c, P1, P2, b, m):
    """The average score, in [0, 2], of the shares a and c; F(x, 1 - x) is Eq. 1. ValueError: see check.

    F is a convex function of a alone plus a convex function of c alone, so its local maxima are at corners.
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


def dividing_point(P, b, m=0.5):
    """a*, the share at which F is lowest along a: gradient ascent goes up to 1 from above it, down to 0 from below.

    For m = 1/2 it is (sqrt(P(P+b)) - P)/b = 1/(1 + sqrt(1 + b/P)), which is below 1/2 for every b > 0: an undecided
    network, a = c = 1/2, is above it for both instances and so climbs to "both", never to "neither".
    For the right instance's c* pass P2 and n. The value may leave [0, 1] when m is far from 1/2. m = 0: ValueError.
    """
    check(P=P, b=b, m=m)
    if not np.all(np.asarray(m) > 0):
        raise ValueError(f"m must be positive for a dividing point, got {m}")
    return (((1 - m) / m * P * (P + b)) ** 0.5 - P) / b


def undecided_prior_limit(P, b):
    """The largest m (and 1 minus the smallest) with which an undecided network still climbs to "both" (P1 = P2 = P).

    a = c = 1/2 lies above both dividing points while P(P+b)/(P+b/2)^2 < n/m (and < m/n). ValueError: see check.
    """
    check(P=P, b=b)
    return (P + b / 2) ** 2 / ((P + b / 2) ** 2 + P * (P + b))


def both_prior_limit(P, b):
    """The largest m with which "both" is a local maximum of F at all (P1 = P2 = P): while P/(P+b) < n/m.

    For m > 1/2 the likelier grouping alone scores more, but no small step leads there. ValueError: see check.
    """
    check(P=P, b=b)
    return (P + b) / (2 * P + b)


def ascend(a, c, P1, P2, b, m, rate=0.05, steps=2000):
    """Gradient ascent on F from (a, c), kept in the unit square. Returns the path, (steps + 1, 2)."""
    path = [(a, c)]
    for _ in range(steps):
        da, dc = dF(a, c, P1, P2, b, m)
        a, c = min(max(a + rate * da, 0), 1), min(max(c + rate * dc, 0), 1)
        path.append((a, c))
    return np.array(path)


# ---------------------------------------------------------------------------------------------------------------------
# The checks


def counted_score(left, right, P1, P2, b, m):
    """The average score by counting pixels: no formula, only sets of pixels. left and right are sets of pixel numbers.

    Pixels 0..P1-1 are the left instance's own, the next b the common region, the last P2 the right instance's own.
    """
    own_left, common, own_right = (
        set(range(P1)),
        set(range(P1, P1 + b)),
        set(range(P1 + b, P1 + b + P2)),
    )

    def iou(prediction, truth):
        return Fraction(len(prediction & truth), len(prediction | truth))

    left_true = iou(left, own_left | common) + iou(right, own_right)
    right_true = iou(left, own_left) + iou(right, common | own_right)
    return m * left_true + (1 - m) * right_true


def counted_F(i, j, P1, P2, b, m):
    """counted_score of the masks that give i of the b common pixels to the left and the last j to the right."""
    left, right = set(range(P1 + i)), set(range(P1 + b - j, P1 + b + P2))
    return counted_score(left, right, P1, P2, b, m)


def slope(f, x, *rest, h=Fraction(1, 10**30)):
    """Central difference of f(x, *rest) in x. Exact arithmetic allows a tiny step: the error is h^2, not rounding."""
    return (f(x + h, *rest) - f(x - h, *rest)) / (2 * h)


def check_claims():
    """Check every numbered claim of the paper by exact arithmetic, and those beyond it.

    Returns a list of dicts: claim, how, error (the largest, over all cases), verdict and, for a printed form that is
    wrong, printed_error (by how much it is wrong at most, over the same cases) and printed_worst_at.
    """
    half = Fraction(1, 2)
    sizes = [Fraction(1, 3), Fraction(1), Fraction(9, 2)]
    shares = [Fraction(k, 8) for k in range(9)]
    inner = shares[1:-1]  # a central difference needs room on both sides
    priors = [Fraction(0), Fraction(1, 5), half, Fraction(5, 7), Fraction(1)]
    general = list(product(inner, sizes, sizes, sizes, priors))  # (x, P1, P2, b, m)
    ends = list(product(sizes, sizes, sizes, priors))  # (P1, P2, b, m)
    equal = list(product(inner, sizes, sizes))  # (x, P, b)
    pairs = list(product(sizes, sizes))  # (P, b)
    counts = list(
        product((1, 3, 8), (1, 4, 8), (1, 2, 5), priors)
    )  # whole pixels: (P1, P2, b, m)
    rows = []

    def largest(errors):
        return float(max(abs(e) for e in errors))

    def row(claim, how, error, right="holds", wrong="FAILS", **more):
        # 1e-50 stands for zero: exact identities give 0 and difference quotients about 1e-58
        rows.append(
            {
                "claim": claim,
                "how": how,
                "error": error,
                "verdict": right if error < 1e-50 else wrong,
                **more,
            }
        )

    def printed(errors, cases, names):
        errors = [abs(e) for e in errors]
        worst = errors.index(max(errors))
        where = ", ".join(f"{k} = {v}" for k, v in zip(names, cases[worst]))
        return {"printed_error": float(errors[worst]), "printed_worst_at": where}

    e = [I_G(Fraction(i, b), P1, P2, b, m) - counted_F(i, b - i, P1, P2, b, m)
         for P1, P2, b, m in counts for i in range(b + 1)]  # fmt: skip
    row("Eq. 1", "pixels counted", largest(e))

    e = [dI_G(*case) - slope(I_G, *case) for case in general]
    p = printed(
        [dI_G_as_printed(*case) - dI_G(*case) for case in general],
        general,
        ("x", "P1", "P2", "b", "m"),
    )
    row(
        "Eq. 2", "difference quotient of Eq. 1", largest(e), "holds once corrected", **p
    )

    e = [d2I_G(*case) - slope(dI_G, *case) for case in general]
    p = printed(
        [d2I_G_as_printed(*case) - d2I_G(*case) for case in general],
        general,
        ("x", "P1", "P2", "b", "m"),
    )
    row(
        "Eq. 3", "difference quotient of Eq. 2", largest(e), "holds once corrected", **p
    )

    # Convex: below its chords, and no split beats the better end.
    e = [
        max(0, I_G(x, *c) - ((1 - x) * I_G(0, *c) + x * I_G(1, *c)))
        for x, c in product(shares, ends)
    ]
    e += [
        max(0, I_G(x, *c) - max(I_G(0, *c), I_G(1, *c)))
        for x, c in product(shares, ends)
    ]
    e += [max(0, -d2I_G(*case)) for case in general]
    row("Theorem 3.1", "chords, second derivative, best end", largest(e))

    row("Eq. 4", "Eq. 1 at x = 0", largest([I_G_at_0(*c) - I_G(0, *c) for c in ends]))
    row("Eq. 5", "Eq. 1 at x = 1", largest([I_G_at_1(*c) - I_G(1, *c) for c in ends]))

    # I(0) - I(1) = (n - m)(2 - P1/(P1+b) - P2/(P2+b)), and the second factor is positive: only n - m has a say.
    e = [(I_G_at_0(P1, P2, b, m) - I_G_at_1(P1, P2, b, m)) - (1 - 2 * m) * (2 - P1 / (P1 + b) - P2 / (P2 + b))
         for P1, P2, b, m in ends]  # fmt: skip
    row(
        "Remark under Eq. 5",
        "best end is set by m alone, not P1, P2, b",
        largest(e),
        "does not hold",
    )

    # x = 0 gives the common region to the right instance, which is right with probability n. The proof says so too.
    e = [
        max(0, (I_G_at_1(P, P, b, m) - I_G_at_0(P, P, b, m)) * (1 - 2 * m))
        for (P, b), m in product(pairs, priors)
    ]
    row(
        "Corollary 3.2",
        "Eqs. 4 and 5: x = 0 is best when n > m",
        largest(e),
        "reversed",
    )

    row(
        "Eq. 6",
        "Eq. 1, P1 = P2, m = 1/2",
        largest([I_equal(x, P, b) - I_G(x, P, P, b, half) for x, P, b in equal]),
    )
    e = [dI_equal(x, P, b) - slope(I_equal, x, P, b) for x, P, b in equal]
    row("Eq. 7", "difference quotient of Eq. 6", largest(e))
    e = [d2I_equal(x, P, b) - slope(dI_equal, x, P, b) for x, P, b in equal]
    row("Eq. 8", "difference quotient of Eq. 7", largest(e))
    row(
        "Eq. 9",
        "Eq. 8 at x = 1/2",
        largest([d2I_equal_at_half(P, b) - d2I_equal(half, P, b) for P, b in pairs]),
    )
    row(
        "Eq. 10",
        "Eq. 6 at both ends",
        largest([I_max(P, b) - I_equal(x, P, b) for P, b in pairs for x in (0, 1)]),
    )

    # The slope has the sign of x - 1/2 and is zero there, so 1/2 is the only minimum and the ends are the maxima.
    e = [dI_equal(half, P, b) for P, b in pairs]
    e += [
        max(0, -dI_equal(x, P, b) * (x - half)) + (dI_equal(x, P, b) == 0)
        for x, P, b in equal
        if x != half
    ]
    row("Theorem 3.3", "sign of Eq. 7 on both sides of 1/2", largest(e))

    e = [
        I_symmetric(s * (x - half), P, b) - I_equal(x, P, b)
        for x, P, b in equal
        for s in (1, -1)
    ]
    ys = list(product([x - half for x in shares], sizes, sizes))
    p = printed(
        [I_symmetric_as_printed(*case) - I_symmetric(*case) for case in ys],
        ys,
        ("y", "P", "b"),
    )
    row(
        "Eq. 11",
        "Eq. 6 at x = 1/2 + y and 1/2 - y",
        largest(e),
        "holds once corrected",
        **p,
    )
    row(
        "Corollary 3.4",
        "Eq. 6 mirrored",
        largest([I_equal(x, P, b) - I_equal(1 - x, P, b) for x, P, b in equal]),
    )

    e = [
        I_D(Fraction(P), Fraction(b)) - counted_F(b, b, P, P, b, half)
        for P, b in product((1, 3, 8), (1, 2, 5))
    ]
    row("Eq. 12", "pixels counted", largest(e))
    row(
        "Theorem 3.5",
        "Eq. 12 against Eq. 10",
        largest([I_D(P, b) - I_max(P, b) for P, b in pairs]),
    )

    # All four corners tie, "neither" among them and unequal sizes too, so the tie cannot say why it is "both".
    e = [F(a, c, P1, P2, b, half) - F(1, 1, P1, P2, b, half)
         for P1, P2, b in product(sizes, sizes, sizes) for a, c in CORNERS.values()]  # fmt: skip
    row(
        '"Both" preferred for its score',
        "four corners of F tie, so no preference",
        largest(e),
        "does not follow",
    )

    e = [F(Fraction(i, b), Fraction(j, b), P1, P2, b, m) - counted_F(i, j, P1, P2, b, m)
         for P1, P2, b, m in counts for i in range(b + 1) for j in range(b + 1)]  # fmt: skip
    row("F(a, c)", "pixels counted", largest(e), "holds (beyond the paper)")

    # a* is irrational, but (P + a* b)^2 = P(P+b) is not: dF/da at the rational point (P + ab)^2 = s has the sign of
    # s - P(P+b). At a = 1/2 that is (P + b/2)^2 - P(P+b) = b^2/4 > 0: the undecided network is pushed up.
    e = [(P + b * half) ** 2 - P * (P + b) - b**2 / 4 for P, b in pairs]
    e += [max(0, -min(dF(half, half, P, P, b, half))) for P, b in pairs]
    row(
        "a* < 1/2: undecided climbs to both",
        "(P + b/2)^2 - P(P+b) = b^2/4",
        largest(e),
        "holds (beyond the paper)",
    )

    e = []
    for P, b in pairs:  # just inside the limits the push is up, just outside it is down
        for limit, point in (
            (undecided_prior_limit(P, b), half),
            (both_prior_limit(P, b), Fraction(1)),
        ):
            step = Fraction(1, 10**6)
            inside, outside = (
                dF(point, point, P, P, b, limit + s)[1] for s in (-step, step)
            )
            e += [max(0, -inside), max(0, outside), dF(point, point, P, P, b, limit)[1]]
    row(
        "How far m may leave 1/2",
        "dF/dc changes sign there",
        largest(e),
        "holds (beyond the paper)",
    )
    return rows


# ---------------------------------------------------------------------------------------------------------------------
# The figure


def draw_landscape(ax, P, b, m=0.5):
    """Draw F(a, c) for P1 = P2 = P into a matplotlib Axes: its corners, the dividing points and the gradient's flow."""
    grid = np.linspace(0, 1, 101)
    a, c = np.meshgrid(grid, grid)  # (101, 101), a along the columns
    contours = ax.contourf(a, c, F(a, c, P, P, b, m), levels=14, cmap="cividis")
    da, dc = dF(a, c, P, P, b, m)
    ax.streamplot(
        a, c, da, dc, color="white", density=0.55, linewidth=0.6, arrowsize=0.8
    )
    for line, point in (
        (ax.axvline, dividing_point(P, b, m)),
        (ax.axhline, dividing_point(P, b, 1 - m)),
    ):
        line(point, color="white", linestyle="--", linewidth=1.2)
    ax.annotate(f"a* = {dividing_point(P, b, m):.3f}", (dividing_point(P, b, m), 0.02), color="white", fontsize=8,
                xytext=(-3, 0), textcoords="offset points", ha="right", rotation=90, va="bottom")  # fmt: skip
    for name, (i, j) in CORNERS.items():
        ax.plot(
            i,
            j,
            "o",
            color="white",
            markeredgecolor="black",
            markersize=9,
            clip_on=False,
            zorder=5,
        )
        text = f"{name}\n{F(i, j, P, P, b, m):.3f}"
        offset = (-8 if i else 8, -8 if j else 8)
        ax.annotate(text, (i, j), xytext=offset, textcoords="offset points", ha="right" if i else "left",
                    va="top" if j else "bottom", fontsize=9, zorder=5,
                    bbox={"boxstyle": "round", "fc": "white", "ec": "none", "alpha": 0.85})  # fmt: skip
    ax.set(xlabel="a: share of the common region given to the left instance",
           ylabel="c: share given to the right instance", xlim=(0, 1), ylim=(0, 1), aspect="equal")  # fmt: skip
    return contours


def plot(P=4.0, b=1.0, m=0.5, others=(0.3, 0.4, 0.6, 0.7)):
    """Fig. 2 (three panels) and the landscape F(a, c) for b = P, as in the experiments. Returns (Figure, numbers)."""
    x = np.linspace(0, 1, 201)
    fig = Figure(figsize=(12, 9.5), layout="constrained")
    axes = fig.subplots(2, 2).ravel()
    panels = (
        (
            I_G,
            "Average IoU score",
            "(a) The score of a split is convex: worst in the middle (Eq. 1)",
        ),
        (dI_G, "Slope", "(b) Its slope is zero once, at x = 1/2 (Eq. 2, corrected)"),
        (
            d2I_G,
            "Second derivative",
            "(c) Its second derivative is positive (Eq. 3, corrected)",
        ),
    )
    for ax, (f, label, title) in zip(axes, panels):
        for k, prior in enumerate(others):
            ax.plot(x, f(x, P, P, b, prior), color="0.6", linewidth=0.9, linestyle=("-", "--", "-.", ":")[k],
                    label=f"m = {prior}")  # fmt: skip
        ax.plot(x, f(x, P, P, b, m), color="black", linewidth=2.5, label=f"m = {m}")
        ax.set(
            xlabel="x: share of the common region given to the left instance",
            ylabel=label,
            xlim=(-0.02, 1.02),
        )
        ax.set_title(title, fontsize=10, loc="left")
    axes[0].plot(
        0.5,
        I_equal(0.5, P, b),
        "v",
        color="tab:blue",
        markersize=10,
        label="minimum, x = 1/2",
    )
    axes[0].plot([0, 1], [I_max(P, b)] * 2, "^", color="tab:red", markersize=10, clip_on=False,
                 label=f"two maxima, 1 + P/(P+b) = {I_max(P, b):.3f}")  # fmt: skip
    axes[1].plot(0.5, 0, "v", color="tab:blue", markersize=10)
    axes[1].axhline(0, color="0.8", linewidth=0.8, zorder=0)
    axes[0].legend(fontsize=8, ncols=2, loc="upper center")

    ax, b_net = axes[3], P  # the experiments have b = P, where a* is well away from 1/2
    fig.colorbar(
        draw_landscape(ax, P, b_net, m),
        ax=ax,
        label="average score F(a, c)",
        shrink=0.85,
    )
    path = ascend(0.5, 0.5, P, P, b_net, m)
    ax.plot(
        *path.T,
        color="tab:red",
        linewidth=3,
        label='gradient ascent from undecided (1/2, 1/2) ends in "both"',
    )
    ax.plot(0.5, 0.5, "s", color="tab:red", markeredgecolor="white", markersize=9)
    ax.plot(
        [0, 1],
        [1, 0],
        color="black",
        linestyle=":",
        label="the paper's splits, c = 1 - a",
    )
    ax.legend(
        fontsize=8,
        loc="upper center",
        bbox_to_anchor=(0.5, -0.12),
        ncols=1,
        frameon=False,
    )
    ax.set_title(
        "(d) Two free shares: all four corners tie (b = P, m = 1/2)",
        fontsize=10,
        loc="left",
    )
    fig.suptitle(
        f"What one decision can score when the truth is ambiguous: panels a-c for P1 = P2 = {P:g}, b = {b:g}"
    )
    numbers = {
        "fig2": {"P": P, "b": b, "m": m, "minimum": [0.5, I_equal(0.5, P, b)], "maxima": [[0, I_equal(0.0, P, b)], [1, I_equal(1.0, P, b)]]},
        "landscape": {
            "b_over_P": 1.0,
            "corners": {name: F(i, j, P, P, b_net, m) for name, (i, j) in CORNERS.items()},
            "undecided": F(0.5, 0.5, P, P, b_net, m),
            "dividing_point": dividing_point(P, b_net, m),
            "ascent_ends_at": path[-1].tolist(),
            "undecided_prior_limit": undecided_prior_limit(P, b_net),
            "both_prior_limit": both_prior_limit(P, b_net),
        },
    }  # fmt: skip
    return fig, numbers


# ---------------------------------------------------------------------------------------------------------------------
# Command line and files, for every script


class Parser(argparse.ArgumentParser):
    """An ArgumentParser with --out, whose errors are one line on standard error and exit status 2."""

    def __init__(self, doc):
        super().__init__(
            description=doc, formatter_class=argparse.RawDescriptionHelpFormatter
        )
        self.add_argument(
            "--out",
            type=writable_folder,
            default="figures",
            help="folder for the picture and the JSON",
        )
        signal.signal(
            signal.SIGINT,
            lambda *_: self.exit(130, "interrupted: earlier files are left whole\n"),
        )

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
    """Write OUT/name.png and OUT/name.json, each under a temporary name first, so that no half-written file is left.

    numbers must hold no NaN or infinity (ValueError), which JSON does not know.
    """
    lines = []
    for (
        key,
        value,
    ) in (
        numbers.items()
    ):  # one line a key, and in a list of dicts (a history) one line a dict
        text = json.dumps(value, allow_nan=False)
        if isinstance(value, list) and value and isinstance(value[0], dict):
            text = (
                "[\n  "
                + ",\n  ".join(json.dumps(row, allow_nan=False) for row in value)
                + "\n ]"
            )
        lines.append(f" {json.dumps(key)}: {text}")
    text = "{\n" + ",\n".join(lines) + "\n}"
    png, js = (os.path.join(out, f"{name}.{ext}") for ext in ("png", "json"))
    try:
        fig.savefig(png + ".tmp", format="png", dpi=110)
        with open(js + ".tmp", "w") as f:
            f.write(text + "\n")
        os.replace(png + ".tmp", png)
        os.replace(js + ".tmp", js)
    finally:
        for leftover in (png + ".tmp", js + ".tmp"):
            if os.path.exists(leftover):
                os.remove(leftover)
    print(f"saved {png} and {js}")


def main():
    args = Parser(__doc__).parse_args()
    rows = check_claims()
    print(f"{'claim':<37}{'checked by':<44}{'largest error':>14}  verdict")
    for r in rows:
        print(
            f"{r['claim']:<37}{r['how']:<44}{r['error'] and format(r['error'], '.0e') or '0':>14}  {r['verdict']}"
        )
        if "printed_worst_at" in r:
            print(
                f"{'':<37}as printed it is off by up to {r['printed_error']:.3f}, at {r['printed_worst_at']}"
            )
    fig, numbers = plot()
    save(fig, {"claims": rows, **numbers}, args.out, "theory")


if __name__ == "__main__":
    main()
