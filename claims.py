"""Every claim of theory.py, checked: the equations, theorems and corollaries of the paper,
and what goes beyond it, on grids of exact fractions, with counted pixels and difference
quotients. `python theory.py` prints the table."""

from fractions import Fraction
from functools import partial
from itertools import product

import numpy as np

import theory as t


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


def counted_owners(K, number, P, b):
    """The mean sum of IoUs, a Fraction, from pixels, if the first so many of K equally
    likely owners get the common region. Every instance has own pixels of its own."""
    common, score = {(None, k) for k in range(b)}, Fraction(0)
    for owner, one in product(range(K), range(K)):
        own = {(one, k) for k in range(P)}
        mask = own | (common if one < number else set())
        truth = own | (common if one == owner else set())
        score += Fraction(len(mask & truth), K * len(mask | truth))
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
    row("Eq. 1", "pixels counted", (t.I_G(a, *ends) - counted)[a + c == 1])
    x, *ends = at = grid(inner, sizes, sizes, sizes, priors)
    gap, off = t.dI_G(*at) - slope(t.I_G, *at), t.dI_G_as_printed(*at) - t.dI_G(*at)
    row("Eq. 2", "difference quotient of Eq. 1", gap, printed=("x P1 P2 b m", at, off))
    gap, off = t.d2I_G(*at) - slope(t.dI_G, *at), t.d2I_G_as_printed(*at) - t.d2I_G(*at)
    row("Eq. 3", "difference quotient of Eq. 2", gap, printed=("x P1 P2 b m", at, off))
    # Strictly convex: below its chord and bent upwards. And below the better end.
    score, at_0, at_1 = t.I_G(*at), t.I_G(0, *ends), t.I_G(1, *ends)
    below = score < (1 - x) * at_0 + x * at_1, score < np.maximum(at_0, at_1)
    row("Theorem 3.1", "chord, second derivative, best end", t.d2I_G(*at) > 0, *below)
    # "The maxima will depend on m ... and P_1, P_2 and b." Their value does. Which end
    # is best does not: I(0) - I(1) is n - m times what is positive for all sizes.
    P1, P2, b, m = ends = grid(sizes, sizes, sizes, priors)
    at_0, at_1 = t.I_G(0, *ends), t.I_G(1, *ends)
    gap = at_0 - at_1 - (1 - 2 * m) * (2 - P1 / (P1 + b) - P2 / (P2 + b))
    moves = (t.ceiling(*ends) < t.ceiling(2 * P1, P2, b, m)) | (m == 0) | (m == 1)
    how = "sizes move the value, not the end"
    row("Remark above Eq. 4", how, gap, moves, verdict="ambiguous")
    row("Eq. 4", "Eq. 1 at x = 0", t.I_G_at_0(*ends) - at_0)
    row("Eq. 5", "Eq. 1 at x = 1", t.I_G_at_1(*ends) - at_1)
    # x = 0, b to the right one, is true with probability n. The proof has it so too.
    gain = t.I_G_at_0(P1, P1, b, m) - t.I_G_at_1(P1, P1, b, m)
    signs = (gain > 0) == (m < half), (gain < 0) == (m > half)
    how = "Eqs. 4, 5: x = 0 is best when n > m"
    row("Corollary 3.2", how, *signs, verdict="reversed")
    x, P, b = at = grid(inner, sizes, sizes)
    row(
        "Eq. 6", "Eq. 1 with P1 = P2, m = 1/2", t.I_equal(*at) - t.I_G(x, P, P, b, half)
    )
    row(
        "Eq. 7", "difference quotient of Eq. 6", t.dI_equal(*at) - slope(t.I_equal, *at)
    )
    row(
        "Eq. 8",
        "difference quotient of Eq. 7",
        t.d2I_equal(*at) - slope(t.dI_equal, *at),
    )
    row(
        "Eq. 9", "Eq. 8 at x = 1/2", t.d2I_equal_at_half(P, b) - t.d2I_equal(half, P, b)
    )
    gaps = [t.I_max(P, b) - t.I_equal(end, P, b) for end in (0, 1)]
    row("Eq. 10", "Eq. 6 at both ends", *gaps)
    # The slope is zero at 1/2 and has the sign of x - 1/2 elsewhere: one minimum.
    signs = (t.dI_equal(*at) > 0) == (x > half), (t.dI_equal(*at) < 0) == (x < half)
    row("Theorem 3.3", "sign of Eq. 7 on both sides of 1/2", *signs)
    y, P, b = at = grid([share - half for share in shares], sizes, sizes)
    right, up, down = (
        t.I_symmetric(*at),
        t.I_equal(half + y, P, b),
        t.I_equal(half - y, P, b),
    )
    gaps, off = (right - up, right - down), t.I_symmetric_as_printed(*at) - right
    row("Eq. 11", "Eq. 6 at 1/2 + y and 1/2 - y", *gaps, printed=("y P b", at, off))
    row("Corollary 3.4", "Eq. 6 mirrored", up - down)
    P, b = grid(whole, (1, 2, 5))
    row("Eq. 12", "pixels counted", t.I_D(P, b) - counted_F(1, 1, P, P, b, half))
    P, b = at = grid(sizes, sizes)
    row("Theorem 3.5", "Eq. 12 = Eq. 10", t.I_D(P, b) - t.I_max(P, b))
    # "Neither" ties as well: a tie prefers none. Nor does it need equal areas.
    tie = [t.F(*corner, P, P, b, half) - t.I_max(P, b) for corner in t.CORNERS.values()]
    how = "four corners of F tie"
    row("  so that both is preferred", how, *tie, verdict="does not follow")
    a, c, *trio = grid((0, 1), (0, 1), sizes, sizes, sizes)
    tie = t.F(a, c, *trio, half) - t.ceiling(*trio, half)
    row("  nor are equal areas needed", "they tie for P1 != P2 too", tie, **beyond)
    row("F(a, c)", "pixels counted", t.F(*pixels) - counted, **beyond)
    best = counted.reshape(5, 5, -1).max((0, 1))  # over the quarters a and c
    gap = t.ceiling(*pixels[2:, : len(best)]) - best
    row("ceiling", "best F(a, c), pixels counted", gap, **beyond)
    # dF/da is positive where (P + ab)^2 > P(P+b). At a = 1/2 they differ by b^2/4, so
    # an undecided network is above a* and is pushed up, for the right instance too.
    gap, how = (P + b / 2) ** 2 - P * (P + b) - b**2 / 4, "(P+b/2)^2 - P(P+b) = b^2/4"
    both = np.array([t.undecided_end(*pair, half) == "both" for pair in at.T])
    row("a* < 1/2: undecided goes to both", how, gap, both, **beyond)
    # The pair fills the image, or a quarter of it.
    p, times, *trio = grid(shares, (1, 4), sizes, sizes, sizes)
    push = np.array(t.common_push(p, times * sum(trio), *trio, half)) > 0
    row("an untrained mask goes to both", "push on it at every level", push, **beyond)
    results = []  # at the bounds the push on c is zero: just below them up, above down
    for bound, c in (t.undecided_prior_limit, half), (t.both_prior_limit, 1):
        ms = [bound(P, b) + s for s in (-step, 0, step)]
        lower, zero, upper = (t.dF(c, c, P, P, b, m)[1] for m in ms)
        results += [lower > 0, zero, upper < 0]
    row("how far m may leave 1/2", "dF/dc changes sign there", *results, **beyond)
    # Two decisions: every answer to every one, with exact payoffs.
    P, b, m = at = grid(sizes, sizes, priors[1:-1])
    two = {("left", "right"), ("right", "left")}
    only = np.array([t.equilibria(*case) == two for case in at.T])
    row("two decisions: left and right", "every answer to every one", only, **beyond)
    pays = [
        [t.payoff("both", d, *case) for case in at.T] for d in ("unlearned", "left")
    ]
    (stuck, moved), q = np.array(pays), P / (P + b)
    gaps, how = (
        (stuck - (1 + q), moved - stuck - m * (1 - q)),
        "the idle one gains by left",
    )
    row("4.1.2: a Nash equilibrium", how, *gaps, moved > stuck, verdict="contradicted")
    a, c, s, P, b = at = grid(quarters, quarters, quarters, (4, 8, 20), (4, 8))
    score, most = t.whole_score(*at), t.whole_ceiling(P, b)
    gap = score - np.array([counted_whole(*case) for case in at.T])
    ends = (s == 1) & ((a == 1) & (c * (1 - c) == 0) | (a == 0) & (c == 1))
    signs = (score == most) == ends, (score < most) == ~ends
    how = "pixels counted; three masks tie"
    row("one mask a decision: (P+b)/(2P+b)", how, gap, *signs, **beyond)
    one_instance(partial(row, **beyond))
    return rows


def one_instance(row):
    """Check what theory.py says of one instance by itself; row as in check_claims."""
    half, sizes, step = Fraction(1, 2), ("1/3", 1, "9/2"), Fraction(1, 10**6)
    shares, priors = (
        [Fraction(k, 8) for k in range(9)],
        (0, "1/5", "1/3", half, "5/7", 1),
    )
    # Eq. 1 is the sum of two. At m = n the mean of the IoUs u and v = q/u is at least
    # their geometric mean, the square root of q: its square exceeds q by (u - v)^2 / 4.
    a, P, b = at = grid(shares, sizes, sizes)
    (u, v), q = t.instance_scores(*at), P / (P + b)
    gaps = u * v - q, t.instance_mean(a, half, P, b) ** 2 - q - (u - v) ** 2 / 4
    row("one instance: IoUs u and q/u", "their product, their mean", *gaps)
    x, P1, P2, b, m = at = grid(shares, sizes, sizes, sizes, priors)
    two = t.instance_mean(x, m, P1, b) + t.instance_mean(1 - x, 1 - m, P2, b)
    row("Eq. 1 is the sum of two", "a = x, p = m and 1 - x, n", two - t.I_G(*at))
    u, k = grid(shares[1:], (1, 2, 3))
    scores = {"IoU": lambda u, k: u**k, "Dice": lambda u, k: (2 * u / (1 + u)) ** k}
    scores["-(1 - IoU)^2"] = lambda u, k: -((1 - u) ** 2)
    scores["-(1 - Dice)^2"] = lambda u, k: -((1 - 2 * u / (1 + u)) ** 2)
    slopes = {name: lambda u, k, g=g: u * slope(g, u, k) for name, g in scores.items()}
    slopes |= {"ln IoU": lambda u, k: 1 + 0 * u, "ln Dice": lambda u, k: 1 / (1 + u)}
    gaps = [
        u * slope(f, u, k) - t.bend(name, u, k if name in ("IoU", "Dice") else 1)
        for name, f in slopes.items()
    ]
    row("which score bends up, which down", "difference quotients", *gaps)
    results, tiny = [], Fraction(1, 10**30)
    for score, case in product(("IoU", "Dice"), grid(priors, sizes, sizes).T):
        p, P, b = case
        start, early, late, end = (
            t.instance_mean(a, *case, score) for a in (0, tiny, 1 - tiny, 1)
        )
        whole = P + b if score == "IoU" else 2 * P + b
        sign = "given" if p > half else "not given" if p < half else "tie"
        peaks = {"given": end > late, "not given": start > early}
        up = slope(t.instance_mean, half, *case, score) > 0
        holds = t.better_end(*case, score) == sign
        holds &= t.local_maxima(*case, score) == {e for e in peaks if peaks[e]}
        holds &= t.climbs_to(*case, score) == ("given" if up else "not given")
        results.append(abs(end - start - (2 * p - 1) * b / whole) + (not holds))
    how = "scores at the ends, and beside them"
    row("any prior: better end, maxima, way", how, np.array(results))
    results = []  # just below its limit in b/P it is not so, just above it is
    for score, p in product(
        ("IoU", "Dice"), map(Fraction, ("1/3", "1/4", "1/7", "2/5"))
    ):
        for kind, limit in zip("mc", t.limits(p, score)):
            for r in Fraction(float(limit)) - step, Fraction(float(limit)) + step:
                top = "given" in t.local_maxima(p, 1, r, score)
                climbs = t.climbs_to(p, 1, r, score) == "given"
                results.append((top if kind == "m" else climbs) == (r > limit))
    row("limits of b/P for any prior", "slopes just below, above", np.array(results))
    inner, sides = shares[1:-1:2], (("1/3", half, "5/7"), (1, 3), (2,), (5, 9))
    *at, p, P, b, area = every = grid(inner, inner, inner, *sides)

    def expected(own, a, rest):  # soft IoU: what is in both over what is in either
        others = rest * (area - P - b)
        owner = (P * own + b * a) / (P + b + others)
        return p * owner + (1 - p) * P * own / (P + b * a + others)

    gaps, found = [], t.mask_slopes(*every)
    for way, up in zip(np.eye(3, dtype=int) * tiny, found):
        high, low = (expected(*(x + s * h for x, h in zip(at, way))) for s in (1, -1))
        gaps.append((high - low) / (2 * tiny) - up)
    signs = found[0] > 0, found[2] <= 0
    row("own part is learned, background too", "difference quotients", *gaps, *signs)
    results = []
    for K, P, b in product((2, 3, 4), (1, 3), (1, 2, 5)):
        found = [*t.owners(K, Fraction(P), Fraction(b)).values()]
        counted = [counted_owners(K, number, P, b) for number in (K, 1, 0)]
        ordered = found == sorted(found) and (len({*found}) == 1) == (K == 2)
        results += [found == counted, ordered]
    how = "pixels counted; all tie for K = 2"
    row("K owners: nobody > one > all", how, np.array(results))
