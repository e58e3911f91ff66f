"""Who gets the common region? K instances touch it, of any size and with any prior.

K = 2, 3 or 4 arms of P pixels touch a square of b = rP pixels, which one of them owns: of two the
left one with probability m, of more each alike. (1) One decision is trained all over the plane of r
and p, the probability to own b, and held against what theory says of one instance (shares.py).
(2) The rule that fits best came when these points had been seen; new priors, and masks that are not
1/2 before the training, put it to the test. (3) T decisions are to find all K groupings. Running
this draws the recorded runs (seeds 0 to 9, of (3) 0 to 19), --rows beyond/rows/longer longer ones.
"""

from collections import Counter
from dataclasses import dataclass, replace
from fractions import Fraction
from functools import partial
from itertools import product

import torch
from matplotlib.figure import Figure
from matplotlib.patches import Circle, Patch, Wedge
from matplotlib.transforms import ScaledTranslation
from torch.nn.functional import one_hot

import common
import data
import exp_recurrent
import pictures
from beyond import left_right, rules, shares, sweep
from beyond.left_right import FOUND
from beyond.networks import Variant, decide

# For r = b/P: the square's side; of an arm the bar next to it and the lobe at its end, each
# (across, along). An arm has P = 64, 72, 36 or 32 pixels.
SIZES = {
    1 / 8: (3, (1, 2), (7, 10)),
    1 / 4: (4, (2, 2), (6, 10)),
    1 / 2: (6, (4, 2), (8, 8)),
    1.0: (8, (2, 2), (10, 6)),  # two arms are the pair of data.Shape
    2.0: (8, (4, 2), (6, 4)),
    4.0: (12, (2, 2), (8, 4)),
    8.0: (16, (4, 2), (6, 4)),
}


@dataclass(frozen=True)
class Arms:
    """In place of a data.Shape: a square that K equal arms touch, 2 to 4 of them, left, right, up
    and down, with b = rP. ValueError: a K, r or size that is not there."""

    K: int = 2
    r: float = 1.0  # see SIZES
    size: int = 32  # side of the image

    def __post_init__(self):
        for name, known in (("K", (2, 3, 4)), ("r", tuple(SIZES)), ("size", (32,))):
            if getattr(self, name) not in known:
                raise ValueError(f"{name} must be among {known}, got {getattr(self, name)}")

    def priors(self, m):
        """How likely each grouping is, a list: m and 1 - m for two instances, else all alike."""
        return [m, 1 - m] if self.K == 2 else [1 / self.K] * self.K

    def template(self):
        """The figure, (height, width) uint8: 2 is the square; 1, 3, 4, 5 are the arms."""
        square, bar, lobe = SIZES[self.r]
        reach = bar[1] + lobe[1]
        side = square + 2 * reach
        labels = torch.zeros(side, side, dtype=torch.uint8)
        # Every arm is drawn to the left and then rotated about the square's centre.
        for label, quarters in ((1, 0), (3, 2), (4, 3), (5, 1))[: self.K]:
            arm = torch.zeros_like(labels)
            for (across, along), x in ((lobe, 0), (bar, lobe[1])):
                top = (side - across) // 2
                arm[top : top + across, x : x + along] = label
            labels += arm.rot90(quarters)
        labels[reach : reach + square, reach : reach + square] = 2
        drawn = labels > 0
        return labels[drawn.any(1)][:, drawn.any(0)]


def groupings(parts):
    """The K truths of images with these parts (n, K + 1, H, W), of which the second is the common
    region; each instance owns it in one of them: (n, K groupings, K instances, H, W)."""
    own = torch.cat((parts[:, :1], parts[:, 2:]), 1)  # (n, K, H, W)
    owns = torch.eye(own.shape[1], device=parts.device)[..., None, None]  # (K, K, 1, 1)
    return own[:, None] + owns * parts[:, None, 1:2]


ENDS = ("given", "not given", "split", "unlearned")  # what becomes of an instance
OUTCOMES = ("nobody", "one", "some", "all", "split", "unlearned")  # to whom a decision gives b


def judge(masks, parts):
    """What each instance of each decision ends in, (n, D, K), as an index into ENDS, and what each
    decision does, (n, D), into OUTCOMES. masks (n, D, K, H, W), parts (n, K + 1, H, W)."""
    rest = (1 - parts[:, 1])[:, None, None]  # (n, 1, 1, H, W), all but the common region
    own = groupings(parts)[:, :1] * rest  # (n, 1, K, H, W)
    learned = data.iou((masks > 0.5) * rest, own)[:, :, 0] >= data.LEARNED  # (n, D, K)
    share = data.shares(masks, parts)  # (n, D, K)
    end = torch.full_like(share, ENDS.index("split"), dtype=torch.long)
    end[share >= data.GIVEN] = ENDS.index("given")
    end[share <= 1 - data.GIVEN] = ENDS.index("not given")
    end[~learned] = ENDS.index("unlearned")
    given = (end == ENDS.index("given")).sum(-1)  # (n, D)
    outcome = given.clamp(max=2)  # nobody, one, some
    outcome[given == end.shape[-1]] = OUTCOMES.index("all")
    for worse in ("split", "unlearned"):
        outcome[(end == ENDS.index(worse)).any(-1)] = OUTCOMES.index(worse)
    return end, outcome


def measure(masks, parts, prior):
    """What the decisions of K instances are worth, as a dict for a row, see data.measure; prior
    weighs the K groupings. Of a decision's instances it has the commonest of ENDS and the mean
    share of the common region given to each. masks (n, D, K, H, W), parts (n, K + 1, H, W)."""
    ious = data.iou((masks > 0.5).float(), groupings(parts))  # (n, D, K, K)
    best = ious.sum(-1).amax(1).mean(0)  # (K,), against each grouping
    exact = (ious >= data.EXACT).all(-1).any(1).float().mean().item()
    end, outcome = judge(masks, parts)  # (n, D, K) and (n, D)
    kinds = one_hot(outcome, len(OUTCOMES)).float().mean(0)  # (D, 6), the shares of images
    decisions = [
        {
            "outcome": OUTCOMES[kind.argmax()],
            "outcome_share": {o: share for o, share in zip(OUTCOMES, kind.tolist()) if share},
            "ends": [ENDS[k] for k in instances.mode(0).values],
            "shares": given.tolist(),
        }
        for kind, instances, given in zip(kinds, end.unbind(1), data.shares(masks, parts).mean(0))
    ]
    return {
        "outcome": " + ".join(d["outcome"] for d in decisions),
        "score": sum(p * x for p, x in zip(prior, best.tolist())),
        "oracle_exact": exact,
        "found": exact >= FOUND,
        "decisions": decisions,
    }


def variant(title, net, K, T=1, r=1.0, m=0.5, **options):
    """A Variant that makes T decisions on K instances; a UNet makes all of them at once."""
    channels = K * T if net == "UNet" else K
    other = {"shape.K": K, "shape.r": r, "steps": T, "m": m}
    return Variant(title, net, {"out_channels": channels} | options, other=other)


def one_decision(K, *ms, start=0.5):
    """The Variants of a single decision for these m and every r, {name: Variant}; start is the mean
    of its masks before the training. Of three or four instances m says nothing."""
    net, options, prefix = "UNet", {}, ""
    if start != 0.5:
        net, options, prefix = "Started", {"start": start}, f"start{start}-"
    variants = {}
    for m, r in product(ms, SIZES):
        name, title = f"K2-m{m}" if K == 2 else f"K{K}", f"start {start}, m = {m}, r = {r:g}"
        variants[f"{prefix}{name}-r{r:g}"] = variant(title, net, K, 1, r, m, **options)
    return variants


PLANE = one_decision(2, 0.5, 0.55, 0.6, 0.7, 0.8) | one_decision(3, 0.5) | one_decision(4, 0.5)
SEEN = one_decision(2, 0.5, 0.6)
STARTS = SEEN | one_decision(2, 0.65, 0.725, 0.85) | one_decision(2, 0.5, start=0.2)
STARTS |= one_decision(2, 0.5, 0.6, start=0.05)
DECIDE = ((2, 2), (3, 3), (4, 4), (3, 4))  # instances K, decisions T
NETWORKS = {
    f"{name}-K{K}-T{T}": variant(f"{title}, K = {K}, T = {T}", net, K, T)
    for name, title, net in (
        ("recurrent", "Mask and state fed back", "RecurrentUNet"),
        ("told", "Told only the pass", "ToldPass"),
        ("heads", "Heads", "UNet"),
    )
    for K, T in DECIDE
}
MATCHED = ("recurrent-K3-T3", "recurrent-K4-T4", "heads-K3-T3", "heads-K4-T4")
for name in MATCHED:
    v = NETWORKS[name]
    NETWORKS[f"{name}-matched"] = replace(v, title=f"{v.title}, matched", rule="matched")
VARIANTS = PLANE | STARTS | NETWORKS
FILES, SEEDS, DEFAULT = ("owners", "start"), 10, list(VARIANTS)
FIXED = left_right.FIXED
Settings = partial(exp_recurrent.Settings, shape=Arms())
# Whose counts are compared, in lists written down before, p corrected within each.
PLANNED = [
    [(f"recurrent-K{K}-T{T}", f"told-K{K}-T{T}") for K, T in DECIDE],
    [(f"{name}-matched", name) for name in MATCHED],
    [("start0.2-K2-m0.5-r0.25", "K2-m0.5-r0.25"), ("start0.05-K2-m0.5-r1", "K2-m0.5-r1")],
]


def batch(v, net, s, generator):
    """Draw a batch for the network of a Variant: [its loss]."""
    images, parts = data.sample(s.batch, generator, s.shape, s.noise)
    masks = decide(net, images, instances=s.shape.K)  # (n, D, K, H, W)
    weights = torch.tensor([s.shape.priors(s.m)], device=generator.device)  # (1, K)
    scores = data.score(masks, groupings(parts))  # (n, D, K groupings)
    return [-rules.value(v.rule, scores, weights, s.beta).mean()]


def run(v, seed, s, device):
    """Train a Variant as the experiments do and test it: a dict for a row."""
    s = v.settings(s)
    net, generator = v.begin(s, seed, device)
    optimiser, steps = v.optimiser(net, s), s.epochs * s.steps_per_epoch
    seconds = sweep.train(net, optimiser, lambda _: batch(v, net, s, generator), steps)
    images, parts = data.held_out(s, seed, device)
    masks = decide(net, images, instances=s.shape.K).detach()
    return {"seconds": seconds, **measure(masks, parts, s.shape.priors(s.m))}


# What may decide whether b is given: the first is the prediction, the last came after PLANE.
RULES = {
    "where undecided climbs": shares.climbs_to,
    "the end that scores more": lambda p, P, b: "given" if p >= 0.5 else "not given",  # or tie
    "given, if that is a local maximum": partial(shares.climbs_to, a=1),
    "where an untrained mask climbs": partial(shares.untrained_end, area=32**2),
}
NEAR = 1.5  # r is near if within this factor of where the first rule turns, T(p)
ALIKE = {"given": "all", "not given": "nobody"}  # a decision whose instances end alike


def summarise(runs, variants):
    """The points of the plane, a list of dicts, see RULES and NEAR. With two instances each mask is
    a point with its own p, with more each decision. Runs that died do not count."""
    points = []
    for name, v in variants.items():
        s, seen = v.settings(Settings()), {}
        K, r, b = s.shape.K, s.shape.r, SIZES[s.shape.r][0] ** 2
        for row in sweep.of(runs, name):
            if "error" not in row:
                said = row["decisions"][0]["ends"] if K == 2 else [row["outcome"]]
                for p, end in zip(s.shape.priors(s.m), said):
                    seen.setdefault(Fraction(p).limit_denominator(99), Counter())[end] += 1
        for p, ends in seen.items():  # p is exact, and so is theory
            said = {rule: end(p, b / r, b) for rule, end in RULES.items()}
            if K > 2:
                said = {rule: ALIKE[end] for rule, end in said.items()}
            T = shares.limits(p)[1]
            q = {"variant": name, "K": K, "p": float(p), "r": r, "rules": said, "outcomes": ends}
            points.append(q | {"where": "near" if T / NEAR < r < T * NEAR else "away"})
    return points


def summarise_starts(runs):
    """The points of STARTS, with their start, what it predicts and, for where, what they are."""
    points = summarise(runs, STARTS)
    for q in points:
        p, b = q["p"], SIZES[q["r"]][0] ** 2
        q["start"] = start = STARTS[q["variant"]].options.get("start", 0.5)
        q["predicted"] = shares.untrained_end(p, b / q["r"], b, 32**2, start)
        q["rules"]["the same, from the start it has"] = q["predicted"]
        side = "below" if p < 0.5 else "above"
        kind = f"new, p {side} 1/2" if start == 0.5 else f"start {start}"
        q["where"] = "seen before" if q["variant"] in SEEN else kind
    return points


def agreement(points):
    """How many points (most of the runs) and outcomes are as each rule has it: a list of dicts."""
    rows, wheres = [], dict.fromkeys(q["where"] for q in points)
    for rule, where in product(points[0]["rules"] if points else (), wheres):
        here = [q for q in points if q["where"] == where]
        right = [q["outcomes"].get(q["rules"][rule], 0) for q in here]
        total = [sum(q["outcomes"].values()) for q in here]
        good = sum(2 * k > n for k, n in zip(right, total))
        row = {"rule": rule, "where": where, "as_predicted": good, "of": len(here)}
        rows.append(row | {"outcomes_as_predicted": sum(right), "of_outcomes": sum(total)})
    return rows


def counted(runs, names, key, value):
    """How many runs of these variants have such a value: rows for sweep.compare."""
    rows = []
    for name in names:
        hits = [row.get(key) == value for row in sweep.of(runs, name)]
        if hits:
            row = {"variant": name, "title": VARIANTS[name].title, "found": sum(hits)}
            rows.append(row | {"of": len(hits), "interval": sweep.wilson(sum(hits), len(hits))})
    return rows


LOOKS = (  # how outcomes are drawn in a pie
    (pictures.ORANGE, "given (of three or four: to all)", ("given", "all")),
    ("white", "not given (to nobody)", ("not given", "nobody")),
    ("0.6", "a part given, or to some", ("split", "one", "some")),
    ("black", "an own part not learned", ("unlearned",)),
)


def pies(ax, points, xs, rings):
    """Draw points into Axes at (x, r) as pies in rings, and below what the colours of pies mean."""
    for q, x, ring in zip(points, xs, rings, strict=True):
        place = ax.figure.dpi_scale_trans + ScaledTranslation(x, q["r"], ax.transData)  # in inches
        ax.add_patch(Circle((0, 0), 0.14, fc=ring, transform=place, zorder=5))
        total, end = sum(q["outcomes"].values()), 90.0  # degrees: from the top, clockwise
        for colour, _, outcomes in LOOKS:
            count = sum(q["outcomes"].get(name, 0) for name in outcomes)
            begin, end = end, end - 360 * count / total
            ax.add_patch(Wedge((0, 0), 0.11, end, begin, fc=colour, transform=place, zorder=5))
    handles = [Patch(fc=colour, ec="black", label=text) for colour, text, _ in LOOKS]
    handles += ax.get_legend_handles_labels()[0]
    ax.figure.legend(handles=handles, ncols=2, fontsize=9, loc="outside lower center")


def plot_plane(points):
    """What one decision does all over the plane of prior and size. Returns the Figure."""
    ax = Figure(figsize=(10, 9), layout="constrained").subplots()
    shares.draw_plane(ax)
    pies(ax, points, [q["p"] for q in points], ["black"] * len(points))
    for K in (3, 4):
        ax.text(1 / K, 0.09, f"{K} instances", ha="center", fontsize=9)
    ax.set_title("Who gets the common region? Pies: trained networks. Background: theory")
    return ax.figure


def plot_starts(points):
    """The same at other priors and other starts of the masks. Returns the Figure."""
    ax = Figure(figsize=(10, 6), layout="constrained").subplots()
    columns = sorted({(-q["start"], q["p"]) for q in points})
    xs = [columns.index((-q["start"], q["p"])) for q in points]
    colours = {"given": pictures.ORANGE, "not given": "#2166ac"}
    pies(ax, points, xs, [colours[q["predicted"]] for q in points])
    ax.set_xticks(range(len(columns)), [f"{p:.3g}\n{-start}" for start, p in columns])
    ax.set(xlim=(-0.5, len(columns) - 0.5), ylim=(0.09, 11), yscale="log", ylabel="r = b/P")
    ax.set_yticks(list(SIZES), [str(Fraction(r)) for r in SIZES])
    ax.set_xlabel("p; below it the mean of a mask before the training")
    ax.set_title("Does the start of a mask decide? Rings: predicted from it (blue: not given)")
    return ax.figure


def report(runs):
    """The summaries, the pictures and the tables of the runs, see sweep."""
    points, tested = summarise(runs, PLANE), summarise_starts(runs)
    networks = counted(runs, NETWORKS, "found", True)
    both = counted(runs, [name for pair in PLANNED[2] for name in pair], "outcome", "all")
    owners = {"experiment": "owners", "points": points, "agreement": agreement(points)}
    start = {"experiment": "start", "points": tested, "agreement": agreement(tested)}
    saved = {"owners.json": owners | {"networks": networks}}
    if networks:
        title = "How often do T decisions find all groupings of K instances? (r = 1)"
        saved["owners_networks.png"] = left_right.counts(networks, "all groupings", title)
    if points:
        saved["owners.png"] = plot_plane(points)
    if tested:
        saved |= {"start.json": start | {"to_both": both}, "start.png": plot_starts(tested)}
    text = "{rule}|{where}|{as_predicted}/{of}|{outcomes_as_predicted}/{of_outcomes}"
    lines = [text.format(**row).split("|") for row in owners["agreement"] + start["agreement"]]
    tables = [sweep.markdown(["rule", "where", "points as predicted", "outcomes"], lines)]
    lines = [[row["title"], f"{row['found']}/{row['of']}"] for row in networks]
    tables.append(sweep.markdown(["network", "finds all"], lines))
    tables.append(sweep.compare([*networks, *both], (), PLANNED))
    return saved, "\n\n".join(tables)


main = partial(sweep.main, "owners")

if __name__ == "__main__":
    common.script(main)
