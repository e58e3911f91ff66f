"""Where one decision lands, and why in "both" although left, right, both and neither tie.

A network with a mask for each instance gives a share a of the common region to the left
instance and a share c to the right one. The two shares are free of each other; the paper's
split is the case c = 1 - a. Once the own parts are learned the score is a sum of one term
for each instance. So each instance goes its own way, and all that counts for it is how
often it owns the common region: its prior p, which is m for the left instance and 1 - m
for the right one.

Here is that way for any prior and any size of the common region, and what two decisions
are worth together. The functions take floats, NumPy arrays or fractions.Fraction alike.
python -m beyond.shares prints what follows for b = P and draws it: out/shares.png.
"""

import argparse
import sys
from fractions import Fraction
from pathlib import Path

import numpy as np
import torch
from matplotlib.figure import Figure

import data
from beyond.stats import markdown

# The shares (a, c) of the four decisions that split nothing.
CORNERS = {"left": (1, 0), "right": (0, 1), "both": (1, 1), "neither": (0, 0)}
DECISIONS = ("left", "right", "both", "neither", "unlearned")  # the last scores nothing


def mean_iou(a, p, P, b):
    """Return the mean IoU of an instance that gets a share a of the common region and owns
    it with prior p. P and b are the pixels of its own part and of the common region."""
    if_owner = (P + a * b) / (P + b)
    if_not = P / (P + a * b)
    return p * if_owner + (1 - p) * if_not


def slope(a, p, P, b):
    """Return the derivative of mean_iou in a. As a grows it turns from minus to plus once
    at most, so that the largest mean IoU is at an end, a = 0 or a = 1."""
    return p * b / (P + b) - (1 - p) * P * b / (P + a * b) ** 2


def dividing_point(P, b):
    """Return the share a* at which mean_iou is lowest for p = 1/2. Ascent leads from above
    it to a = 1 and from below it to a = 0. It is below 1/2, so that an undecided share of
    1/2 climbs to a = 1."""
    return 1 / (1 + (1 + b / P) ** 0.5)


def lasting_size(p):
    """Return s, the b/P above which a = 1 is a local maximum of mean_iou.

    The slope at a = 1 is positive for p (1 + r) > 1 - p, so that s = 1/p - 2, or 0 from
    p = 1/2 on. For K equally likely owners it is K - 2.
    """
    return np.maximum(1 / p - 2, 0)


def climbing_size(p):
    """Return T, the b/P above which an undecided share, a = 1/2, climbs to a = 1.

    The slope at a = 1/2 is positive for p (1 + r/2)^2 > (1 - p) (1 + r), so that
    T = 2 s + 2 sqrt(s (s + 1)), with the s of lasting_size.
    """
    s = lasting_size(p)
    return 2 * s + 2 * (s * (s + 1)) ** 0.5


def mask_slopes(own, a, rest, p, P, b, area):
    """Return the derivatives of the expected IoU of one mask in the three shares that it
    claims: own of the own part, a of the common region and rest of all other pixels of an
    image of area pixels."""
    others = area - P - b
    union_if_owner = P + b + others * rest
    union_if_not = P + a * b + others * rest
    own_slope = p * P / union_if_owner + (1 - p) * P / union_if_not
    a_slope = p * b / union_if_owner - (1 - p) * P * own * b / union_if_not**2
    wrong_if_owner = p * (P * own + a * b) / union_if_owner**2
    wrong_if_not = (1 - p) * P * own / union_if_not**2
    return own_slope, a_slope, -others * (wrong_if_owner + wrong_if_not)


def untrained_climbs_to_given(p, P, b, area):
    """Return whether a mask that has learned nothing climbs to a = 1, for arrays too.

    The mask has three logits, those of the shares of mask_slopes, which are 1/2 at first.
    While own part and background are poor, a wrong pixel in the common region costs
    little.
    """
    own = a = rest = 0.0  # the logits
    for _ in range(800):
        shares = [1 / (1 + np.exp(-logit)) for logit in (own, a, rest)]
        slopes = mask_slopes(*shares, p, P, b, area)
        rates = [s * x * (1 - x) for s, x in zip(slopes, shares)]  # of the logits
        pace = 0.05 / np.max(np.abs(rates), 0)  # even steps lead along the same way
        own = own + pace * rates[0]
        a = a + pace * rates[1]
        rest = rest + pace * rates[2]
    return slope(1 / (1 + np.exp(-a)), p, P, b) > 0


def score(a, c, P, b, m):
    """Return the average score of the shares a and c, for P1 = P2 = P. With c = 1 - a it is
    Eq. 1. Its largest value is at one of the CORNERS."""
    return mean_iou(a, m, P, b) + mean_iou(c, 1 - m, P, b)


def payoff(first, second, P, b, m):
    """Return what two of the DECISIONS score together, from 0 to 2: the score of the better
    one under each grouping, averaged over the groupings."""
    if_left = [0]
    if_right = [0]
    for decision in (first, second):
        if decision != "unlearned":
            a, c = CORNERS[decision]
            if_left.append(score(a, c, P, b, 1))
            if_right.append(score(a, c, P, b, 0))
    return m * max(if_left) + (1 - m) * max(if_right)


def equilibria(P, b, m):
    """Return the pairs of DECISIONS in which each is a best answer to the other (Nash), as
    a set. The payoffs are compared as exact fractions."""
    sizes = Fraction(P), Fraction(b), Fraction(m)
    found = set()
    for first in DECISIONS:
        for second in DECISIONS:
            here = payoff(first, second, *sizes)
            best_first = max(payoff(other, second, *sizes) for other in DECISIONS)
            best_second = max(payoff(first, other, *sizes) for other in DECISIONS)
            if here == best_first == best_second:
                found.add((first, second))
    return found


def idle_weight(gap, beta):
    """Return the share of the gradient that the smooth maximum of sharpness beta leaves to
    the worse of two decisions, whose score is gap below the better one's."""
    return np.exp(-np.logaddexp(0, beta * gap))  # 1 / (1 + e^(beta gap))


def thumbnail(ax, x, y, a, c, text):
    """Paint the pair with shares a and c of its common region in the middle (x, y) of a
    small box, in units of the Axes, and write a text below it."""
    labels = torch.nn.functional.pad(data.Shape().template(), (2, 2, 2, 2))  # (14, 28)
    parts = torch.stack([labels == 1, labels == 2, labels == 3]).float()
    masks = torch.stack([parts[0] + a * parts[1], parts[2] + c * parts[1]])
    box = ax.inset_axes((x - 0.14, y - 0.08, 0.28, 0.14))
    box.imshow(data.paint((labels[None] > 0).float(), masks, parts))
    box.set(xticks=[], yticks=[])
    box.set_xlabel(text, fontsize=12)


def plot():
    """Draw the average score over the shares a and c, for b = P and m = 1/2, with the way
    that an undecided network takes. A lighter grey is a higher score. Returns the Figure."""
    fig = Figure(figsize=(9, 6.5))
    ax = fig.add_axes((0.23, 0.1, 0.54, 0.75))
    share = np.linspace(0, 1, 101)
    average = score(share, share[:, None], 1, 1, 0.5)  # (c, a)
    ax.contourf(share, share, average, levels=14, cmap="Greys_r", vmin=1.36)
    up = slope(share, 0.5, 1, 1)  # of either instance
    up_a, up_c = np.meshgrid(up, up)
    ax.streamplot(share, share, up_a, up_c, color="w", linewidth=0.9, density=0.5)

    lowest = dividing_point(1, 1)
    ax.plot(lowest, lowest, "kv", ms=9)
    box = {"fontsize": 12, "va": "center", "bbox": {"fc": "w", "ec": "none"}}
    text = f"lowest: {score(lowest, lowest, 1, 1, 0.5):.3f}"
    ax.text(lowest - 0.05, lowest, text, ha="right", **box)
    way = {"arrowstyle": "simple", "fc": data.ORANGE, "ec": "k", "mutation_scale": 34}
    ax.annotate("", (1, 1), (0.5, 0.5), arrowprops=way)
    ax.plot(0.5, 0.5, "o", color=data.ORANGE, mec="k", ms=13)
    text = f"undecided,\none half each: {score(0.5, 0.5, 1, 1, 0.5):.3f}"
    ax.text(0.57, 0.48, text, **box)

    for name, (a, c) in CORNERS.items():
        text = f"{name}: {score(a, c, 1, 1, 0.5):.1f}"
        thumbnail(ax, -0.22 + 1.44 * a, 0.08 + 0.86 * c, a, c, text)
        ax.plot(a, c, "o", color="w", mec="k", ms=10, clip_on=False)
    ax.set(xticks=(0, 0.5, 1), yticks=(0, 0.5, 1))
    ax.set_xlabel("share of the common region for the left instance", fontsize=11)
    ax.set_ylabel("share for the right instance", fontsize=11)
    title = "Left, right, both and neither tie at 1.5. Why does training end in both?\n"
    title += "It starts undecided, past the lowest point, where uphill is towards both."
    fig.suptitle(title, fontsize=13)
    return fig


def sizes():
    """Return a table in Markdown: from which size of the common region on an instance is
    given it, by its prior."""
    rows = []
    for p in (Fraction(1, 2), Fraction(2, 5), Fraction(1, 3), Fraction(1, 4)):
        rows.append([p, f"{float(lasting_size(p)):.2f}", f"{climbing_size(p):.2f}"])
    local = "given is a local maximum above b/P ="
    return markdown(["prior", local, "undecided climbs there above"], rows)


def main(argv=None):
    """Print what follows and save the figure."""
    parser = argparse.ArgumentParser(description="Where one decision lands, and why.")
    out = {"type": Path, "default": Path("out"), "help": "folder of the figure"}
    parser.add_argument("--out", **out)
    args = parser.parse_args(argv)
    tie = score(1, 1, 1, 1, 0.5)
    print(f"Left, right, both and neither score {tie} (b = P, both owners as likely).")
    print("The score is lowest where each instance has a share of", end=" ")
    print(f"{dividing_point(1, 1):.3f}, so that")
    print("an undecided network, which gives one half to each, climbs to both.")
    print("\nHow large the common region must be for an instance to be given it:\n")
    print(sizes())
    args.out.mkdir(parents=True, exist_ok=True)
    plot().savefig(args.out / "shares.png", dpi=100)
    print("\nSaved", args.out / "shares.png")


if __name__ == "__main__":
    try:
        main()
    except OSError as error:
        sys.exit(f"error: {error}")
