"""Where one decision lands, and why in "both" if every corner ties.

A network gives a share a of the common region to the left instance and, freely, a share c to the
right one; the paper's split is c = 1 - a. Where own parts are learned the score is a sum of a term
an instance, so that each goes its way alone: it owns the common region with prior p (m or 1 - m).
python -m beyond.shares [--out out] prints what holds and saves OUT/shares.png and shares.json;
python -m beyond.shares --explore opens a window with sliders.
"""

import json
import sys
from bisect import bisect
from fractions import Fraction
from itertools import product

import numpy as np
from matplotlib.figure import Figure

import common
import theory

CORNERS = {"left": (1, 0), "right": (0, 1), "both": (1, 1), "neither": (0, 0)}  # (a, c)
DECISIONS = (*CORNERS, "unlearned")  # the last scores nothing


def check(**arguments):
    """Raise ValueError, with name and value, for what is out of range, NaN included: sizes and a
    sharpness beta are positive and finite, all else is a share or a probability."""
    for name, value in arguments.items():
        inside, allowed = (value >= 0) & (value <= 1), "in [0, 1]"
        if name in ("P", "b", "b/P", "area", "beta"):
            inside, allowed = (value > 0) & (value < np.inf), "positive and finite"
        if not np.all(inside):
            raise ValueError(f"{name} must be {allowed}, got {value}")


def exact(*values):
    """Numbers as Fractions; a float is what it is."""
    return [Fraction(x if isinstance(x, (int, Fraction)) else float(x)) for x in values]


def mean_iou(a, p, P, b):
    """The mean IoU of an instance that gets a share a of b: p u + (1 - p) q/u, where
    u = (P+ab)/(P+b) is its IoU if it owns b and q = P/(P+b)."""
    check(a=a, p=p, P=P, b=b)
    return p * (P + a * b) / (P + b) + (1 - p) * P / (P + a * b)


def slope(a, p, P, b):
    """The derivative of mean_iou in a. It turns to plus once at most: maxima are at the ends."""
    check(a=a, p=p, P=P, b=b)
    return p * b / (P + b) - (1 - p) * P * b / (P + a * b) ** 2


def dividing_point(P, b, p=0.5):
    """a*, where mean_iou is lowest: ascent leads to a = 1 from above, to a = 0 from below. For
    p = 1/2 it is 1/(1 + sqrt(1 + b/P)) < 1/2, so that an undecided network, a = c = 1/2, climbs to
    "both". Far from p = 1/2 it leaves [0, 1]. ValueError: p = 0, or b/P is 0 or infinite."""
    check(p=p, P=P, b=b, **{"b/P": b / P})
    if np.any(p == 0):
        raise ValueError(f"p must be positive for a dividing point, got {p}")
    r, odds = b / P, (1 - p) / p
    # (sqrt(odds (1 + r)) - 1) / r, in a form that does not cancel for small r
    return ((odds - 1) / r + odds) / ((odds * (1 + r)) ** 0.5 + 1)


def climbs_to(p, P, b, a=0.5):
    """Where ascent leads from a share a, exactly: "given" (1), or "not given" (0), as from a*."""
    check(a=a, p=p, P=P, b=b)
    return "given" if slope(*exact(a, p, P, b)) > 0 else "not given"


def limits(p, score="IoU"):
    """The b/P above which "given" is a local maximum for an instance with prior p, and above which
    an undecided network, a = 1/2, climbs to it: a pair, (0, 0) from p = 1/2 on. With s = 1/p - 2
    these are s and T = 2s + 2 sqrt(s(s+1)); for Dice T and the root of r^3 = s(3r+4)^2."""
    check(p=p)
    if p == 0 or score not in ("IoU", "Dice"):
        raise ValueError(f"p must be positive, score IoU or Dice, got {p} and {score!r}")
    if p >= 0.5:
        return 0, 0
    s = 1 / p - 2
    T = 2 * s + 2 * (s * (s + 1)) ** 0.5
    roots = np.roots([1, *(float(-s * k) for k in (9, 24, 16))])
    return (s, T) if score == "IoU" else (T, roots.real.max())  # other roots lie to the left


def mask_slopes(own, a, rest, p, P, b, area):
    """The gradient of the expected soft IoU of a mask in its shares own of the own part, a of the
    common region and rest of the other pixels of an image of area pixels: a triple. The first is
    never negative, the last never positive: own part and background are learned whatever p is."""
    check(own=own, a=a, rest=rest, p=p, P=P, b=b, area=area)
    others = area - P - b
    if np.any(others < 0):
        raise ValueError(f"area must be at least P + b, got {area}")
    if_owner, if_not = P + b + others * rest, P + a * b + others * rest  # unions
    own_slope = p * P / if_owner + (1 - p) * P / if_not
    a_slope = p * b / if_owner - (1 - p) * P * own * b / if_not**2
    alarm = p * (P * own + a * b) / if_owner**2 + (1 - p) * P * own / if_not**2
    return own_slope, a_slope, -alarm * others


def untrained_end(p, P, b, area, start=0.5):
    """The end to which a mask climbs that has learned nothing: three logits, of the shares of
    mask_slopes, all start at first, climb the expected IoU. While own part and background are poor,
    a pixel of b more costs little; where a has come to when both are learned decides."""
    p, P, b, area, start = map(float, (p, P, b, area, start))
    if not 0 < start < 1:
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


def F(a, c, P1, P2, b, m):
    """The average score of the shares a and c; F(x, 1 - x) is Eq. 1. Its maxima are at corners."""
    return mean_iou(a, m, P1, b) + mean_iou(c, 1 - m, P2, b)


def prior_limits(P, b):
    """Below these m, and above 1 minus them, an undecided network climbs to "both", and "both" is a
    local maximum of F, if P1 = P2 = P: a pair."""
    check(P=P, b=b)
    r = b / P
    return (1 + r / 2) ** 2 / ((1 + r / 2) ** 2 + 1 + r), (1 + r) / (2 + r)


def payoff(first, second, P, b, m):
    """What two of DECISIONS score, in [0, 2]: the mean over truths of the better one's score."""
    check(P=P, b=b, m=m)
    best = [0 * P, 0 * P]  # if the left grouping is true, and if the right one is
    for decision in (first, second):
        if decision not in DECISIONS:
            raise ValueError(f"decision must be among {DECISIONS}, got {decision!r}")
        if decision != "unlearned":
            best = [max(x, F(*CORNERS[decision], P, P, b, k)) for x, k in zip(best, (1, 0))]
    return m * best[0] + (1 - m) * best[1]


def equilibria(P, b, m):
    """The pairs of DECISIONS in which each is a best answer to the other (Nash), a set, exactly."""
    pays = {pair: payoff(*pair, *exact(P, b, m)) for pair in product(DECISIONS, DECISIONS)}
    best = {other: max(pays[answer, other] for answer in DECISIONS) for other in DECISIONS}
    return {(d, e) for d, e in pays if pays[d, e] == best[d] == best[e]}


def idle_weight(gap, beta):
    """The share of the gradient, by the smooth maximum of sharpness beta, of a decision whose score
    is gap below the other one's. So a plateau, no equilibrium, can keep (both, unlearned)."""
    gap, beta = np.asarray(gap, float), float(beta)
    check(beta=beta)
    if np.isnan(gap).any():
        raise ValueError(f"gap must be a number, got {gap}")
    return np.exp(-np.logaddexp(0, beta * gap))  # which does not overflow


def both_basin(P, b, beta):
    """The share of b that one of two decisions (both, both) must take back from an instance until
    it pays to go on, at m = 1/2: 1.6% for b = P and beta = 100, or 0.9% each if both move. A sharp
    maximum has no local maximum there: the share shrinks as 1/beta. It is at most 1 - a*."""
    check(P=P, b=b, beta=beta)
    low, high, loss = 0.0, 1.0, b / (P + b)  # of IoU, if all is taken back from its owner
    for _ in range(60):  # halve the interval in which the slope of the payoff turns
        taken = (low + high) / 2
        rest = P + (1 - taken) * b
        won, lost = P / rest - P / (P + b), taken * loss  # if the other owns b, and if not
        rise = idle_weight(-won, beta) * P * b / rest**2 - idle_weight(lost, beta) * loss
        low, high = (low, taken) if rise > 0 else (taken, high)
    return high


def whole_ceiling(P, b):
    """The most that one mask scores against two equally likely wholes, a lobe and the square or the
    other lobe and the square, P + b pixels each: of either whole, and of everything."""
    check(P=P, b=b)
    return (P + b) / (2 * P + b)


def claims():
    """Check it on a grid of exact fractions: {claim: by how much it is wrong at most}."""
    worst, half, pair = {}, Fraction(1, 2), {("left", "right"), ("right", "left")}
    shares = [*product([Fraction(k, 4) for k in range(5)], repeat=2)]
    for case in product((1, 4), (2, 5), (4, 8), ("1/5", half, "2/3")):
        P1, P2, b, m = case = [*map(Fraction, case)]
        pixels = [theory.counted(P1 + a * b, P1 + b - c * b, *case) for a, c in shares]
        gain = mean_iou(1, m, P1, b) - mean_iou(0, m, P1, b)
        stays, moves = (payoff("both", answer, P1, b, m) for answer in ("unlearned", "left"))
        gaps = {  # a difference, or True for a statement that does not hold
            "F is the score of counted pixels": [F(*at, *case) for at in shares] != pixels,
            "No shares beat the ceiling of Eqs. 4 and 5": max(pixels) - theory.ceiling(*case),
            "At m = 1/2 all corners tie": len({F(*x, P1, P2, b, half) for x in CORNERS.values()})
            > 1,
            "Undecided climbs to both at m = 1/2": climbs_to(half, P1, b) != "given",
            "So does what has learned nothing": untrained_end(half, P1, b, 99) != "given",
            "An instance scores more at its likelier end": gain - (2 * m - 1) * b / (P1 + b),
            "Of two decisions only left with right is stable": equilibria(P1, b, m) != pair,
            "4.1.2 as printed: so is both with unlearned": moves - stays,
        }
        worst |= {claim: max(abs(float(gap)), worst.get(claim, 0)) for claim, gap in gaps.items()}
    return worst


def draw_landscape(ax, sides, b):
    """Draw into Axes the score of two instances, sides ((P1, p1), (P2, p2)), over their shares: the
    flow upwards, the dividing points, the corners and the way from undecided. Returns contours."""
    axis, ((P1, p1), (P2, p2)) = np.linspace(0, 1, 101), sides
    score = mean_iou(axis, p1, P1, b) + mean_iou(axis, p2, P2, b)[:, None]  # (c, a)
    contours = ax.contourf(axis, axis, score, levels=14, cmap="cividis")
    field = axis, axis, *np.meshgrid(slope(axis, p1, P1, b), slope(axis, p2, P2, b))
    ax.streamplot(*field, color="white", density=0.55, linewidth=0.6, arrowsize=0.8)
    way = {"start_points": [(0.5, 0.5)], "integration_direction": "forward"}
    ax.streamplot(*field, color="crimson", linewidth=4, zorder=3, **way)
    end = [climbs_to(p, P, b) == "given" for P, p in sides]
    ax.plot(0.5, 0.5, "s", color="crimson", mec="white", ms=10, label="undecided, and the way up")
    ax.plot(*end, "*", color="crimson", mec="white", ms=18, clip_on=False, label="its end")
    for line, name, (P, p) in ((ax.axvline, "a*", sides[0]), (ax.axhline, "c*", sides[1])):
        star = dividing_point(P, b, p) if p else np.inf
        if 0 < star < 1:
            line(star, color="white", ls="--", label=f"{name} = {star:.3f}: the lowest score")
    for name, (i, j) in CORNERS.items():
        text, at = f"{name}\n{score[-j, -i]:.3f}", (0.03 + 0.94 * i, 0.28 + 0.44 * j)
        ax.text(*at, text, ha="right" if i else "left", va="center", bbox={"fc": "white"})
    ax.set(aspect="equal", xlabel="a: share of b for the left", ylabel="c: share for the right one")
    return contours


def draw_plane(ax, low=0.15, high=0.85, bottom=2**-3.6, top=2**3.6):
    """Draw into Axes where an instance goes, see climbs_to, by its prior p and the size r = b/P of
    the common region: orange is given, blue not. An untrained mask has P = 64, area = 32^2."""
    p, r = np.linspace(low, 0.499, 60), np.geomspace(bottom, top, 2000)
    T = np.clip([limits(x)[1] for x in p], bottom, top)
    ax.set(facecolor="#ffe3c4", xlim=(low, high), ylim=(bottom, top), yscale="log")
    ax.fill_between(p, bottom, T, color="#cfe0f1", lw=0)
    ax.plot(p, T, "k", lw=2.2, label="above, an undecided network climbs to given")
    given = [lambda y, x=x: untrained_end(x, 64, 64 * y, 32**2) == "given" for x in p[::2]]
    edge = np.append(r, np.nan)[[bisect(r, False, key=key) for key in given]]
    ax.plot(p[::2], edge, "#b0176b", lw=2, label="above, an untrained mask climbs to given")
    ax.axvline(0.5, color="k", ls=":", label="both ends score the same: p = 1/2")
    ax.set_yticks([2.0**k for k in range(-3, 4)], ["1/8", "1/4", "1/2", "1", "2", "4", "8"])
    ax.set(xlabel="p: probability to own the common region", ylabel="r = b/P: its relative size")


def plot():
    """The landscape for b = P and m = 1/2, where all corners tie. Returns the Figure."""
    fig = Figure(figsize=(7, 7.6), layout="constrained")
    ax = fig.subplots()
    fig.colorbar(draw_landscape(ax, ((1, 0.5), (1, 0.5)), 1), label="average score", shrink=0.8)
    ax.plot([0, 1], [1, 0], "k:", label="the paper's splits, c = 1 - a")
    ax.set_title("Why both, if every corner ties?\nUndecided is above a* and above c*.")
    fig.legend(loc="outside lower center", ncols=2, facecolor="0.6")
    return fig


def explore():
    """Open a window with draw_landscape and its sliders. Returns them, once it is closed."""
    import matplotlib.pyplot as plt
    from matplotlib.widgets import Slider

    fig, sliders = plt.figure(figsize=(7, 8.6)), []
    ax = fig.add_axes((0.12, 0.3, 0.8, 0.62))
    for k, (name, high) in enumerate((("P1", 256), ("P2", 256), ("b", 256), ("m in %", 100))):
        place = fig.add_axes((0.2, 0.18 - 0.05 * k, 0.6, 0.03))
        sliders.append(Slider(place, name, 1, high, valinit=min(high / 2, 64), valstep=1))
        sliders[-1].on_changed(lambda _: update())

    def update():
        P1, P2, b, percent = (slider.val for slider in sliders)
        ax.clear()
        draw_landscape(ax, ((P1, percent / 100), (P2, 1 - percent / 100)), b)
        fig.canvas.draw_idle()

    update()
    plt.show()
    return fig, sliders


def main(argv=None):
    """Print what holds, save numbers and picture. Returns them; with --explore see explore."""
    if "--explore" in (sys.argv if argv is None else argv):
        return explore()
    args, _ = common.parse(__doc__, argv)
    one, betas, (limit, both_limit) = (1, 1, 1, 0.5), (5, 10, 20, 50, 100), prior_limits(1, 1)
    numbers = {
        "claims": claims(),
        "landscape": {
            "corners": {name: F(*corner, *one) for name, corner in CORNERS.items()},
            "undecided": F(0.5, 0.5, *one),
            "dividing_point": dividing_point(1, 1),
            "ascent_ends_at": [float(climbs_to(0.5, 1, 1) == "given")] * 2,
            "undecided_prior_limit": limit,
            "both_prior_limit": both_limit,
        },
        "two_decisions": {
            "equilibria": sorted(equilibria(1, 1, 0.5)),
            "payoffs": {d: {e: payoff(d, e, 1, 1, 0.5) for e in DECISIONS} for d in DECISIONS},
            "both_basin": {beta: both_basin(1, 1, beta) for beta in betas},
            "idle_weight": {beta: idle_weight(F(1, 1, *one), beta) for beta in betas},
        },
        "whole_ceiling": whole_ceiling(1, 1),
        "owners": {
            K: {f: [*map(float, limits(1 / K, f))] for f in ("IoU", "Dice")} for K in (2, 3, 4)
        },
    }
    for claim, gap in numbers["claims"].items():
        print(f"{claim:<49}", "holds" if gap < 1e-50 else f"wrong by up to {gap:.3g}")
    fig, text = plot(), json.dumps(numbers, indent=1)
    common.save(args.out / "shares.json", lambda path: path.write_text(text))
    common.save(args.out / "shares.png", lambda path: fig.savefig(path, dpi=110))
    return numbers, fig


if __name__ == "__main__":
    common.script(main)
