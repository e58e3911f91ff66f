"""Who gets the common region, if K instances touch it, of any size and with any prior?

Two, three or four arms of P pixels touch a square of b = r P pixels, which one of them
owns. Of two arms the left one owns it with probability m, of more each is as likely. A
network with one decision is trained all over the plane of r and p, the prior of an
instance, and held against what the theory of shares.py says of that instance. Then T
decisions are to find all K groupings.

python -m beyond.owners draws the recorded runs; with --rows beyond/rows/longer those with
four times the training steps.
"""

from collections import Counter
from dataclasses import dataclass, replace
from fractions import Fraction

import numpy as np
import torch
from matplotlib.figure import Figure
from matplotlib.patches import Patch

import data
from beyond import rules, runs, shares, stats, sweep
from beyond.networks import Variant, decide

ENDS = ("given", "not given", "split", "unlearned")  # what becomes of an instance
OUTCOMES = ("nobody", "one", "some", "all", "split", "unlearned")  # of a decision


@dataclass(frozen=True)
class Sizes:
    """The sizes of the square and of an arm, in pixels. An arm is a bar, which touches the
    square, and a lobe at its end."""

    square: int
    bar_width: int
    bar_length: int
    lobe_width: int
    lobe_length: int


# By r = b/P. From r = 2 on an arm is about half as large, so that all fits.
SIZES = {
    0.125: Sizes(3, 1, 2, 7, 10),
    0.25: Sizes(4, 2, 2, 6, 10),
    0.5: Sizes(6, 4, 2, 8, 8),
    1.0: Sizes(8, 2, 2, 10, 6),  # of which two arms are the pair of data.Shape
    2.0: Sizes(8, 4, 2, 6, 4),
    4.0: Sizes(12, 2, 2, 8, 4),
    8.0: Sizes(16, 4, 2, 6, 4),
}


@dataclass(frozen=True)
class Arms:
    """In place of a data.Shape: a square that K equal arms touch, left, right, up and
    down."""

    K: int = 2  # 2, 3 or 4
    r: float = 1.0  # one of SIZES
    size: int = 32  # side of the image

    def priors(self, m):
        """Return how likely each instance owns the square, a list: m and 1 - m for two
        instances; of more each is as likely."""
        return [m, 1 - m] if self.K == 2 else [1 / self.K] * self.K

    def template(self):
        """Return the figure as small integers, (height, width): 2 is the square, 1, 3, 4
        and 5 are the arms, 0 is what is around them."""
        sizes = SIZES[self.r]
        reach = sizes.bar_length + sizes.lobe_length
        side = sizes.square + 2 * reach
        arm = torch.zeros(side, side, dtype=torch.uint8)  # to the left
        top = (side - sizes.lobe_width) // 2
        arm[top : top + sizes.lobe_width, : sizes.lobe_length] = 1
        top = (side - sizes.bar_width) // 2
        arm[top : top + sizes.bar_width, sizes.lobe_length : reach] = 1
        labels = arm + 3 * arm.rot90(2)
        if self.K > 2:
            labels += 4 * arm.rot90(3)  # up
        if self.K > 3:
            labels += 5 * arm.rot90(1)  # down
        labels[reach : side - reach, reach : side - reach] = 2
        drawn = labels > 0
        return labels[drawn.any(1)][:, drawn.any(0)]


def groupings(parts):
    """Return the K truths of images with these parts (n, K + 1, H, W), of which the second
    is the common region: (n, K groupings, K instances, H, W). Grouping k gives it to
    instance k."""
    common = parts[:, 1]  # (n, H, W)
    own = torch.cat((parts[:, :1], parts[:, 2:]), 1)  # (n, K, H, W)
    truths = []
    for k in range(own.shape[1]):
        truth = own.clone()
        truth[:, k] += common
        truths.append(truth)
    return torch.stack(truths, 1)


def judge(masks, parts):
    """Return what each instance of each decision ends in, as an index into ENDS (n, D, K),
    and what each decision does, as an index into OUTCOMES (n, D): to how many instances it
    gives the common region. masks is (n, D, K, H, W), parts (n, K + 1, H, W). Shares and
    own parts are judged as in data.outcomes."""
    K = masks.shape[2]
    outside = (1 - parts[:, 1])[:, None, None]  # (n, 1, 1, H, W), of the common region
    own = torch.cat((parts[:, :1], parts[:, 2:]), 1)[:, None]  # (n, 1, K, H, W)
    own_iou = data.iou((masks > 0.5) * outside, own)[:, :, 0]  # (n, D, K)
    share = data.shares(masks, parts)  # (n, D, K)
    end = torch.full(share.shape, ENDS.index("split"), device=share.device)
    end[share >= data.GIVEN] = ENDS.index("given")
    end[share <= 1 - data.GIVEN] = ENDS.index("not given")
    end[own_iou < data.LEARNED] = ENDS.index("unlearned")

    given = (end == ENDS.index("given")).sum(-1)  # (n, D)
    outcome = torch.full(given.shape, OUTCOMES.index("some"), device=given.device)
    outcome[given == 0] = OUTCOMES.index("nobody")
    outcome[given == 1] = OUTCOMES.index("one")
    outcome[given == K] = OUTCOMES.index("all")
    outcome[(end == ENDS.index("split")).any(-1)] = OUTCOMES.index("split")
    outcome[(end == ENDS.index("unlearned")).any(-1)] = OUTCOMES.index("unlearned")
    return end, outcome


@torch.no_grad()
def measure(masks, parts, priors):
    """Return what decisions (n, D, K, H, W) are worth, as a dict for a row, see
    data.measure. priors weighs the K groupings. For each decision it has its commonest
    outcome and, for each instance, its commonest end and its mean share of the common
    region. parts is (n, K + 1, H, W)."""
    ious = data.iou((masks > 0.5).float(), groupings(parts))  # (n, D, K, K)
    best = ious.sum(-1).amax(1).mean(0)  # (K,), of the better decision
    exact = (ious >= data.EXACT).all(-1).any(1).float().mean().item()
    end, outcome = judge(masks, parts)  # (n, D, K) and (n, D)
    decisions = []
    for d in range(masks.shape[1]):
        decision = {
            "outcome": OUTCOMES[outcome[:, d].mode().values],
            "ends": [ENDS[k] for k in end[:, d].mode(0).values],
            "shares": data.shares(masks, parts)[:, d].mean(0).tolist(),
        }
        decisions.append(decision)
    return {
        "outcome": " + ".join(decision["outcome"] for decision in decisions),
        "score": sum(p * x for p, x in zip(priors, best.tolist())),
        "oracle_exact": exact,
        "found": exact >= runs.FOUND,
        "decisions": decisions,
    }


def one_decision(K, r, m=0.5):
    """Return the Variant of a single decision on K instances. Of three or four instances
    m says nothing."""
    other = {"shape.K": K, "shape.r": r, "passes": 1, "m": m}
    title = f"one decision, K = {K}, m = {m}, r = {r:g}"
    return Variant(title, "UNet", {"out_channels": K}, other=other)


def several(title, net, K, T):
    """Return the Variant of T decisions on K instances. A UNet makes all of them at once,
    with K masks for each; the other networks make one a pass."""
    other = {"shape.K": K, "shape.r": 1.0, "passes": T, "m": 0.5}
    options = {"out_channels": K * T if net == "UNet" else K}
    return Variant(f"{title}, K = {K}, T = {T}", net, options, other=other)


PLANE = {}
LATER = {}  # points that came when those of PLANE had been seen
for r in SIZES:
    for m in (0.5, 0.55, 0.6, 0.7, 0.8):
        PLANE[f"K2-m{m}-r{r:g}"] = one_decision(2, r, m)
    PLANE[f"K3-r{r:g}"] = one_decision(3, r)
    PLANE[f"K4-r{r:g}"] = one_decision(4, r)
    for m in (0.65, 0.725, 0.85):
        LATER[f"K2-m{m}-r{r:g}"] = one_decision(2, r, m)

NETWORKS = {}
for K, T in ((2, 2), (3, 3), (4, 4), (3, 4)):  # instances and decisions
    NETWORKS[f"recurrent-K{K}-T{T}"] = several("recurrent", "Recurrent", K, T)
    NETWORKS[f"told-K{K}-T{T}"] = several("told the pass", "ToldPass", K, T)
    NETWORKS[f"heads-K{K}-T{T}"] = several("heads", "UNet", K, T)
# Two lists of tests, written down before they were run.
PASSES = [
    ("recurrent-K2-T2", "told-K2-T2"),
    ("recurrent-K3-T3", "told-K3-T3"),
    ("recurrent-K4-T4", "told-K4-T4"),
    ("recurrent-K3-T4", "told-K3-T4"),
]
MATCHED = []
for key in ("recurrent-K3-T3", "recurrent-K4-T4", "heads-K3-T3", "heads-K4-T4"):
    title = f"{NETWORKS[key].title}, matched"
    NETWORKS[f"{key}-matched"] = replace(NETWORKS[key], title=title, rule="matched")
    MATCHED.append((f"{key}-matched", key))
# Fewer decisions than groupings, and the loss to take home.
NETWORKS["heads-K3-T2"] = several("heads", "UNet", 3, 2)
for key in ("heads-K3-T3", "heads-K4-T4", "heads-K3-T2"):
    title = f"{NETWORKS[key].title}, ambiguous_loss"
    v = replace(NETWORKS[key], title=title, rule="ambiguous_loss", number=3.0)
    NETWORKS[f"{key}-loss"] = v
SETTINGS = runs.Settings(shape=Arms())


def loss(v, net, s, generator):
    """Draw a batch and return the loss of a Variant's network."""
    images, parts = data.sample(s.batch, generator, s.shape, s.noise)
    masks = decide(net, images, instances=s.shape.K)  # (n, D, K, H, W)
    scores = data.score(masks, groupings(parts))  # (n, D, K groupings)
    weights = torch.tensor([s.shape.priors(s.m)], device=images.device)  # (1, K)
    return -rules.worth(v.rule, v.number, scores, weights, s.beta).mean()


def run(v, seed, s, device):
    """Train a Variant as the experiments do and test it. Returns a dict for a row."""
    s = v.settings(s)

    def batch_loss(net, generator, coins, progress):
        return loss(v, net, s, generator)

    net, seconds = runs.trained(v, seed, s, device, batch_loss)
    images, parts = runs.held_out(s, seed, device)
    with torch.no_grad():
        masks = decide(net, images, instances=s.shape.K)
    return {"seconds": seconds, **measure(masks, parts, s.shape.priors(s.m))}


# What a decision on three or four instances does, in the words of a single instance.
AS_AN_END = {"all": "given", "nobody": "not given", "one": "split", "some": "split"}


def summarise(rows_of_runs, variants):
    """Return what the runs of a single decision ended in, a dict of Counters by (K, p, r):
    how many ended how. With two instances each of them counts, with its own p; with more a
    decision counts, see AS_AN_END. Runs that died do not count."""
    points = {}
    for key, v in variants.items():
        s = v.settings(SETTINGS)
        for row in sweep.of(rows_of_runs, key):
            if "error" in row:
                continue
            ends = row["decisions"][0]["ends"]
            if s.shape.K > 2:
                ends = [AS_AN_END.get(row["outcome"], row["outcome"])]
            for p, end in zip(s.shape.priors(s.m), ends):
                point = s.shape.K, round(p, 3), s.shape.r
                points.setdefault(point, Counter())[end] += 1
    return points


def given(points, K, p, r):
    """Return how many runs of a point gave the common region, a text."""
    ends = points.get((K, p, r), Counter())
    return f"{ends['given']}/{ends.total()}"


def plane(points):
    """Return how many runs gave the common region, by K, p and r, as a table in
    Markdown."""
    lines = []
    for K, p in sorted({(K, p) for K, p, r in points}):
        lines.append([K, p] + [given(points, K, p, r) for r in SIZES])
    return stats.markdown(["K", "p"] + [f"r = {Fraction(r)}" for r in SIZES], lines)


def counted(rows_of_runs):
    """Return how many runs of NETWORKS find all groupings, a list of dicts as
    stats.compare needs them."""
    counts = []
    for key, v in NETWORKS.items():
        own = sweep.of(rows_of_runs, key)
        found = sum(row.get("found", False) for row in own)
        if own:
            row = {"variant": key, "title": v.title, "found": found, "of": len(own)}
            scores = [run["score"] for run in own if "error" not in run]
            row["score"] = sum(scores) / len(scores)
            counts.append(row)
    return counts


# The ends as the pieces of a pie, and their colours.
PIECES = {
    "given": data.ORANGE,
    "not given": "white",
    "split": "0.6",
    "unlearned": "black",
}


def plot(points):
    """Draw the plane of p and r: the ground says what theory says, and a pie what the
    trained networks do, from the top clockwise. Returns the Figure."""
    fig = Figure(figsize=(9, 8.4), layout="constrained")
    ax = fig.subplots()  # x is 10 p and y is log2 r, so that pies are round
    p = np.linspace(0.16, 0.499, 100)
    r = 2 ** np.linspace(-3.6, 3.6, 200)
    climbs = shares.untrained_climbs_to_given(p, 64, 64 * r[:, None], 32**2)  # (r, p)
    turn = r[climbs.argmax(0)]  # the first r that climbs
    ax.set_facecolor("#ffe3c4")
    text = "blue ground: not given, as an untrained mask climbs"
    ax.fill_between(10 * p, -3.6, np.log2(turn), color="#d5e3f0", lw=0, label=text)
    text = "the prediction before: given above this line"
    ax.plot(10 * p, np.log2(shares.climbing_size(p)), "k--", label=text)
    for (_, prior, size), ends in points.items():
        drawn = [piece for piece in PIECES if ends[piece]]
        ax.pie(
            [ends[piece] for piece in drawn],
            colors=[PIECES[piece] for piece in drawn],
            center=(10 * prior, np.log2(size)),
            radius=0.12,
            startangle=90,
            counterclock=False,
            wedgeprops={"ec": "black", "zorder": 3},
            frame=True,
        )
    for K in (3, 4):
        ax.text(10 / K, -3.4, f"K = {K}", ha="center")
    ax.set_xlim(1.6, 8.4)
    ax.set_ylim(-3.6, 3.6)
    ax.set_xticks(range(2, 9), [f"{k / 10:g}" for k in range(2, 9)])
    ax.set_yticks([np.log2(r) for r in SIZES], [str(Fraction(r)) for r in SIZES])
    ax.set_xlabel("p: how often the instance owns the common region")
    ax.set_ylabel("r = b/P: how large the common region is")
    handles = ax.get_legend_handles_labels()[0]
    for piece, colour in PIECES.items():
        handles.append(Patch(fc=colour, ec="black", label=f"pie: {piece}"))
    fig.legend(handles=handles, ncols=2, loc="outside lower center")
    fig.suptitle("One decision: is an instance given the common region?", fontsize=13)
    return fig


def report(rows_of_runs):
    """Return the figure of the runs and their text, see sweep."""
    first = summarise(rows_of_runs, PLANE)
    every = summarise(rows_of_runs, PLANE | LATER)
    counts = counted(rows_of_runs)
    saved = {}
    text = ""
    if first:
        saved["owners.png"] = plot(first)
        text += "An instance that owns the common region in 2 of 5 images is given it "
        text += (
            f"in {given(first, 2, 0.4, 0.5)} runs\nif the region is half as large as "
        )
        text += f"its own part, and in {given(first, 2, 0.4, 2)} if twice as large.\n\n"
        text += "Runs in which the instance is given the common region (of three or "
        text += f"four: all are):\n\n{plane(every)}\n\n"
    if counts:
        lines = []
        for row in counts:
            found = f"{row['found']}/{row['of']}"
            lines.append([row["title"], found, f"{row['score']:.2f}"])
        text += "Runs in which T decisions find all groupings of K instances:\n\n"
        text += stats.markdown(["network", "finds all", "mean score"], lines)
        text += "\n\nPlanned tests, in two lists that are corrected each on its own:"
        text += "\n\n" + stats.compare(counts, (), (PASSES, MATCHED))
    return saved, text


QUESTION = sweep.Question(
    name="owners",
    about=__doc__,
    variants=PLANE | LATER | NETWORKS,
    run=run,
    loss=loss,
    report=report,
    settings=SETTINGS,
    fixed=runs.FIXED,
    files=("start",),
    default=tuple(PLANE | LATER | NETWORKS),
    seeds=10,
)


if __name__ == "__main__":
    sweep.main(QUESTION)
