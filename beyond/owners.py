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
from matplotlib.patches import Circle, Patch, Wedge
from matplotlib.transforms import ScaledTranslation

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

    @property
    def b(self):
        """The pixels of the square, the common region."""
        return self.square**2

    @property
    def P(self):
        """The pixels of an arm."""
        return self.bar_width * self.bar_length + self.lobe_width * self.lobe_length


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
    """In place of a data.Shape: a square that K equal arms touch, left, right, up and down.
    ValueError: a K, r or size that is not there."""

    K: int = 2
    r: float = 1.0
    size: int = 32  # side of the image

    def __post_init__(self):
        if self.K not in (2, 3, 4):
            raise ValueError(f"K must be 2, 3 or 4, got {self.K}")
        if self.r not in SIZES:
            raise ValueError(f"r must be one of {tuple(SIZES)}, got {self.r}")
        if self.size != 32:
            raise ValueError(f"size must be 32, got {self.size}")

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
    outcome, the share of the images of each outcome and, for each instance, its commonest
    end and its mean share of the common region. parts is (n, K + 1, H, W)."""
    ious = data.iou((masks > 0.5).float(), groupings(parts))  # (n, D, K, K)
    best = ious.sum(-1).amax(1).mean(0)  # (K,), of the better decision
    exact = (ious >= data.EXACT).all(-1).any(1).float().mean().item()
    end, outcome = judge(masks, parts)  # (n, D, K) and (n, D)
    given = data.shares(masks, parts).mean(0)  # (D, K)
    decisions = []
    for d in range(masks.shape[1]):
        share = {}
        for k, name in enumerate(OUTCOMES):
            count = int((outcome[:, d] == k).sum())
            if count:
                share[name] = count / len(masks)
        decision = {
            "outcome": max(share, key=share.get),
            "outcome_share": share,
            "ends": [ENDS[k] for k in end[:, d].mode(0).values],
            "shares": given[d].tolist(),
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
    channels = K * T if net == "UNet" else K
    return Variant(
        f"{title}, K = {K}, T = {T}", net, {"out_channels": channels}, other=other
    )


PLANE = {}  # the first points
NEW = {}  # those that came after the rule "where an untrained mask climbs"
for r in SIZES:
    for m in (0.5, 0.55, 0.6, 0.7, 0.8):
        PLANE[f"K2-m{m}-r{r:g}"] = one_decision(2, r, m)
    PLANE[f"K3-r{r:g}"] = one_decision(3, r)
    PLANE[f"K4-r{r:g}"] = one_decision(4, r)
    for m in (0.65, 0.725, 0.85):
        NEW[f"K2-m{m}-r{r:g}"] = one_decision(2, r, m)

CASES = ("K2-T2", "K3-T3", "K4-T4", "K3-T4")  # instances and decisions
NETWORKS = {}
for case in CASES:
    K, T = int(case[1]), int(case[4])
    NETWORKS[f"recurrent-{case}"] = several("recurrent", "Recurrent", K, T)
    NETWORKS[f"told-{case}"] = several("told the pass", "ToldPass", K, T)
    NETWORKS[f"heads-{case}"] = several("heads", "UNet", K, T)
MATCHED = ("recurrent-K3-T3", "recurrent-K4-T4", "heads-K3-T3", "heads-K4-T4")
for key in MATCHED:
    title = f"{NETWORKS[key].title}, matched"
    NETWORKS[f"{key}-matched"] = replace(NETWORKS[key], title=title, rule="matched")
# Two lists of tests, written down before they were run.
PLANNED = [
    [(f"recurrent-{case}", f"told-{case}") for case in CASES],
    [(f"{key}-matched", key) for key in MATCHED],
]
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
    net, generator = v.begin(s, seed, device)

    def batch_loss(progress):
        return loss(v, net, s, generator)

    steps = s.epochs * s.steps_per_epoch
    seconds = sweep.train(net, v.optimiser(net, s), batch_loss, steps)
    images, parts = runs.held_out(s, seed, device)
    with torch.no_grad():
        masks = decide(net, images, instances=s.shape.K)
    return {"seconds": seconds, **measure(masks, parts, s.shape.priors(s.m))}


# What may decide whether an instance is given the common region. The first rule is the
# prediction, the last one came when the points of PLANE had been seen.
RULES = (
    "where an undecided share climbs (the prediction)",
    "the end that scores more (p alone)",
    "given, if that is a local maximum",
    "where an untrained mask climbs",
)
NEAR = 1.5  # r is near T, where the first rule turns, if within this factor of it


def summarise(rows_of_runs, variants):
    """Return the points of the plane, a list of dicts.

    With two instances each of them is a point, with its own p; with more a decision is
    one. outcomes: how many runs ended how; given: how many were given the common region
    (of three or four instances: all were), not_given: how many were not (nobody was);
    rules: for each of RULES whether it says given; near: see NEAR. Runs that died do not
    count.
    """
    points = []
    for key, v in variants.items():
        s = v.settings(SETTINGS)
        K, r = s.shape.K, s.shape.r
        seen = {}  # the outcomes by p, which is exact, as the theory is
        for row in sweep.of(rows_of_runs, key):
            if "error" in row:
                continue
            ends = row["decisions"][0]["ends"] if K == 2 else [row["outcome"]]
            for p, end in zip(s.shape.priors(s.m), ends):
                p = Fraction(p).limit_denominator(99)
                seen.setdefault(p, Counter())[end] += 1
        for p, outcomes in seen.items():
            point = {
                "variant": key,
                "K": K,
                "p": float(p),
                "r": r,
                "outcomes": outcomes,
                "given": outcomes["given"] + outcomes["all"],
                "not_given": outcomes["not given"] + outcomes["nobody"],
                "rules": exact_rules(p, SIZES[r].P, SIZES[r].b),
                "near": bool(1 / NEAR < shares.climbing_size(p) / r < NEAR),
            }
            points.append(point)
    climbs = untrained_rule(
        np.array([point["p"] for point in points]),
        np.array([SIZES[point["r"]].P for point in points]),
        np.array([SIZES[point["r"]].b for point in points]),
    )
    for point, climb in zip(points, climbs):
        point["rules"].append(bool(climb))
    return points


def exact_rules(p, P, b):
    """Return what the first three RULES say of an instance with prior p, a Fraction, and P
    and b pixels: a list, True where it is given the common region."""
    return [
        shares.climbs_to_given(p, P, b),
        p >= Fraction(1, 2),  # at 1/2 both ends score the same
        shares.climbs_to_given(p, P, b, a=1),
    ]


def untrained_rule(p, P, b):
    """Return what the last of RULES says, for arrays of one length."""
    return shares.untrained_climbs_to_given(p, P, b, area=32**2)


def agreement(points, rule):
    """Return at how many of these points most runs end as rule number rule says, a text."""
    right = 0
    for point in points:
        ends = point["given"] if point["rules"][rule] else point["not_given"]
        right += 2 * ends > point["outcomes"].total()
    return f"{right}/{len(points)}"


def agreements(points, new):
    """Return how many points end as each rule says, as a table in Markdown."""
    away = [point for point in points if not point["near"]]
    columns = {
        "away from T": away,
        "of these p below 1/2": [point for point in away if point["p"] < 0.5],
        "near T": [point for point in points if point["near"]],
        "new, p below 1/2": [point for point in new if point["p"] < 0.5],
    }
    lines = []
    for rule, name in enumerate(RULES):
        counts = [agreement(column, rule) for column in columns.values()]
        lines.append([name, *counts])
    return stats.markdown(["rule", *columns], lines)


def plane(points):
    """Return how many runs gave the common region, by K, p and r, as a table in
    Markdown."""
    lines = {}
    for point in points:
        line = lines.setdefault((point["K"], -point["p"]), {})
        near = " (near)" if point["near"] else ""
        line[point["r"]] = f"{point['given']}/{point['outcomes'].total()}{near}"
    rows = []
    for K, minus_p in sorted(lines):
        cells = [lines[K, minus_p].get(r, "-") for r in SIZES]
        rows.append([K, f"{-minus_p:.3g}", *cells])
    head = ["K", "p"] + [f"r = {Fraction(r)}" for r in SIZES]
    return stats.markdown(head, rows)


def counted(rows_of_runs):
    """Return how many runs of NETWORKS find all groupings, a list of dicts as
    stats.compare needs them."""
    counts = []
    for key, v in NETWORKS.items():
        own = sweep.of(rows_of_runs, key)
        if own:
            found = sum(row.get("found", False) for row in own)
            row = {"variant": key, "title": v.title, "found": found, "of": len(own)}
            counts.append(row)
    return counts


def several_decisions(counts):
    """Return the counts as a table in Markdown: a line for each of CASES."""
    by_key = {row["variant"]: f"{row['found']}/{row['of']}" for row in counts}
    lines = []
    for case in CASES:
        line = [f"{case[1]}, {case[4]}"]
        for name in ("recurrent", "told", "heads"):
            line.append(by_key.get(f"{name}-{case}", "-"))
        for name in ("recurrent", "heads"):
            line.append(by_key.get(f"{name}-{case}-matched", "-"))
        lines.append(line)
    head = ["instances, decisions", "recurrent", "told the pass", "heads"]
    return stats.markdown(head + ["recurrent, matched", "heads, matched"], lines)


def turning_size(p):
    """Return the r above which an untrained mask climbs to given, for an array of priors,
    by halving an interval of sizes; P is 64."""
    low = np.full_like(p, 1 / 16)
    high = np.full_like(p, 16.0)
    for _ in range(10):
        middle = (low * high) ** 0.5
        climbs = untrained_rule(p, np.full_like(p, 64), 64 * middle)
        high = np.where(climbs, middle, high)
        low = np.where(climbs, low, middle)
    return high


# How what runs end in is drawn in a pie.
PIES = {
    "given": (data.ORANGE, "given (of three or four: to all)"),
    "not given": ("white", "not given (to nobody)"),
    "split": ("0.6", "a part given, or to some"),
    "unlearned": ("black", "an own part not learned"),
}
PIECE = {"all": "given", "nobody": "not given", "one": "split", "some": "split"}


def draw_pie(ax, point):
    """Draw what the runs of a point end in into Axes, as a pie at (p, r), from the top
    clockwise."""
    middle = ScaledTranslation(point["p"], point["r"], ax.transData)
    place = ax.figure.dpi_scale_trans + middle  # a pie is measured in inches
    ax.add_patch(Circle((0, 0), 0.13, fc="black", transform=place, zorder=5))
    counts = Counter()
    for end, count in point["outcomes"].items():
        counts[PIECE.get(end, end)] += count
    angle = 90.0
    for piece, (colour, _) in PIES.items():
        turn = 360 * counts[piece] / counts.total()
        wedge = Wedge((0, 0), 0.11, angle - turn, angle, fc=colour, transform=place)
        wedge.set_zorder(5)
        ax.add_patch(wedge)
        angle -= turn


def plot(points):
    """Draw the plane of p and r: the ground says what theory says, and a pie what the
    trained networks do. Returns the Figure."""
    fig = Figure(figsize=(9, 8.4), layout="constrained")
    ax = fig.subplots()
    low, high, bottom, top = 0.16, 0.84, 2**-3.6, 2**3.6
    p = np.linspace(low, 0.499, 40)
    turn = np.clip(turning_size(p), bottom, top)
    ax.set_facecolor("#ffe3c4")
    text = "ground: not given, as an untrained mask climbs"
    ax.fill_between(p, bottom, turn, color="#d5e3f0", lw=0, label=text)
    T = np.clip(shares.climbing_size(p), bottom, top)
    ax.plot(p, T, "k--", label="the prediction before: given above this line")
    ax.axvline(0.5, color="k", ls=":", label="p = 1/2: given and not given tie")
    for point in points:
        draw_pie(ax, point)
    for K in (3, 4):
        ax.text(1 / K, 0.09, f"{K} instances", ha="center", fontsize=10)
    ax.set_yscale("log")
    ax.set_xlim(low, high)
    ax.set_ylim(bottom, top)
    ax.set_yticks(list(SIZES), [str(Fraction(r)) for r in SIZES], fontsize=11)
    ax.minorticks_off()
    ax.set_xlabel("p: how often the instance owns the common region", fontsize=11)
    ax.set_ylabel("r = b/P: how large the common region is", fontsize=11)
    handles = []
    for colour, text in PIES.values():
        handles.append(Patch(fc=colour, ec="black", label=f"pie: {text}"))
    text = "ground: given, as an untrained mask climbs"
    handles.append(Patch(fc="#ffe3c4", label=text))
    handles += ax.get_legend_handles_labels()[0]
    fig.legend(handles=handles, ncols=2, fontsize=10, loc="outside lower center")
    fig.suptitle("One decision: is an instance given the common region?", fontsize=13)
    return fig


def report(rows_of_runs):
    """Return the figure of the runs and their text, see sweep."""
    points = summarise(rows_of_runs, PLANE)
    new = summarise(rows_of_runs, NEW)
    counts = counted(rows_of_runs)
    saved = {}
    text = ""
    if points:
        saved["owners.png"] = plot(points)
        away = [point for point in points if not point["near"]]
        text += f"One decision ends as predicted at {agreement(away, 0)} points of the "
        text += "plane of prior and size,\nand as an untrained mask climbs at "
        text += f"{agreement(away, 3)}.\n\n"
        text += "Runs in which the instance is given the common region (of three or "
        text += f"four: all are;\nnear: r is within a factor of {NEAR} of T, where the "
        text += f"prediction turns):\n\n{plane(points + new)}\n\n"
        text += (
            "Points at which most runs end as the rule says (new: trained after the "
        )
        text += f"last rule was chosen):\n\n{agreements(points, new)}\n\n"
    if counts:
        text += "Runs in which several decisions find all groupings (r = 1):\n\n"
        text += f"{several_decisions(counts)}\n\n"
        text += "Planned tests, in two lists that are corrected each on its own:\n\n"
        text += stats.compare(counts, (), PLANNED)
    return saved, text


QUESTION = sweep.Question(
    name="owners",
    about=__doc__,
    variants=PLANE | NEW | NETWORKS,
    run=run,
    loss=loss,
    report=report,
    settings=SETTINGS,
    fixed=runs.FIXED,
    files=("start",),
    default=tuple(PLANE) + tuple(NEW) + tuple(NETWORKS),
    seeds=10,
)


if __name__ == "__main__":
    sweep.main(QUESTION)
