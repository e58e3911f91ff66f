"""Two owners or more: who gets a square that K arms share?

The square, b = rP pixels, touches K = 2, 3 or 4 arms of P pixels each, and any of these
instances can own it: K groupings. Of two the left one does with probability m, else all
are equally likely. By theory.py each instance has its way alone, by the probability p that
it is the owner and by r: two equally likely owners both get the square, and of three or
four nobody does, unless it is large. Here networks of one decision are trained all over
the plane of p and r, and networks of T decisions to find all K groupings. Running this
draws the recorded runs (figures/owners.jsonl) and prints what they end in; --out FOLDER
runs everything anew, the plane on seeds 0 to 9, the rest on 0 to 19, see exp_controls.py.
"""

import time
from collections import Counter
from functools import partial

import torch
from matplotlib.figure import Figure

import common
import data
import exp_controls
import exp_looking
import exp_recurrent
import landscape
import pictures
import sweep
import theory
from exp_controls import FOUND, ToldPass, Variant
from recurrent_unet import RecurrentUNet
from unet import UNet

VERSION = 1  # see sweep.py
Settings = partial(exp_recurrent.Settings, shape=data.Arms())
FIXED = {"found": FOUND, "given": data.GIVEN, "learned": data.LEARNED}
FIXED |= {"exact": data.EXACT}


def variant(title, net, K, T=1, r=1.0, m=0.5, heads=1):
    """A Variant that makes T decisions on a square with K arms."""
    other = {"shape.K": K, "shape.r": r, "steps": T, "m": m}
    return Variant(title, net, {"out_channels": K * heads}, other=other)


KINDS = {f"K2-m{m}": (2, m) for m in (0.5, 0.55, 0.6, 0.7, 0.8)}
KINDS |= {"K3": (3, 0.5), "K4": (4, 0.5)}  # of three or four m says nothing
PLANE = {
    f"{kind}-r{r:g}": variant(f"{kind}, r = {r:g}", UNet, K, r=r, m=m)
    for kind, (K, m) in KINDS.items()
    for r in data.ARM_SIZES
}
NETWORKS = {
    f"{name}-K{K}-T{T}": variant(title, net, K, T, heads=T if net is UNet else 1)
    for name, title, net in (
        ("recurrent", "Recurrent", RecurrentUNet),
        ("told", "Told only the pass", ToldPass),
        ("heads", "Heads of one U-Net", UNet),
    )
    for K, T in ((2, 2), (3, 3), (4, 4), (3, 4))
}
VARIANTS = PLANE | NETWORKS
FEWER = dict.fromkeys(PLANE, 10)  # see sweep.py
change = partial(exp_controls.change, variants=VARIANTS)


def outcome(instances):
    """What a decision is, given what each of its instances ends in, see data.ENDS."""
    for end in ("unlearned", "split"):
        if end in instances:
            return end
    given = instances.count("given")
    return {0: "nobody", len(instances): "all", 1: "one"}.get(given, "some")


def measure(masks, parts, prior):
    """What decisions are worth, a dict for the JSON, as of data.measure. masks (n, D, K,
    H, W), parts (n, K + 1, H, W). decisions: of each the commonest outcome, the share of
    every one and, of its instances, the commonest ends and the mean shares of the square."""
    ious = data.iou((masks > 0.5).float(), data.groupings(parts))  # (n, D, K, K)
    shares, decisions = data.common_shares(masks, parts).mean(0), []  # (D, K)
    for found, share in zip(data.ends(masks, parts).unbind(1), shares):
        words = [[data.ENDS[k] for k in image] for image in found.tolist()]  # n lists
        counts = Counter(map(outcome, words)).most_common()
        row = {"outcome": counts[0][0]}
        row["outcome_share"] = {name: k / len(words) for name, k in counts}
        row["ends"] = [Counter(ends).most_common(1)[0][0] for ends in zip(*words)]
        decisions.append(row | {"shares": share.tolist()})
    best = ious.sum(-1).amax(1).mean(0)  # (K,), against each grouping
    score = sum(p * x for p, x in zip(prior, best.tolist()))
    exact = (ious >= data.EXACT).all(-1).any(1).float().mean().item()
    return {"score": score, "oracle_exact": exact, "decisions": decisions}


@common.prepared
def run(name, seed, s, device):
    """Train a variant as the experiments do and test it: a dict of what it ends in, for a
    row. masks, for seed 0: the figure, the square and the first decision's K masks of test
    images, packed (n, 2 + K, H, W)."""
    v = VARIANTS[name]
    s = v.settings(s)
    net = v.build(s, torch.Generator().manual_seed(seed))
    net = net.to(device, memory_format=torch.channels_last)
    optimiser = torch.optim.Adam(net.parameters(), s.learning_rate, fused=True)
    generator = torch.Generator(device).manual_seed(seed + data.SEEDS)
    prior, start = exp_controls.priors(s), time.perf_counter()
    weights = torch.tensor([prior], device=device)  # (1, K)
    decide = partial(exp_controls.decide, net, instances=s.shape.K)
    for step in range(1, s.epochs * s.steps_per_epoch + 1):
        images, parts = data.sample(s.batch, generator, s.shape, s.noise)
        masks = decide(images)  # (n, D, K, H, W)
        loss = exp_controls.objective(v, s, masks, parts, weights, None)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        if step % s.steps_per_epoch == 0:
            common.finite(loss.item(), step)
    row = {"seconds": round(time.perf_counter() - start, 2)}
    images, parts = data.held_out(s, seed, device)
    with torch.no_grad():
        masks = decide(images)
    row |= measure(masks, parts, prior)
    row["found"] = row["oracle_exact"] >= FOUND
    row["outcome"] = " + ".join(d["outcome"] for d in row["decisions"])
    if seed == 0:
        shown = torch.cat((parts.sum(1, True), parts[:, 1:2], masks[:, 0]), 1)
        row["masks"] = exp_looking.pack(shown[: exp_looking.WATCHED])
    return row


# What is said to decide where an instance with prior p ends up; the first one is tested.
RULES = {
    "where undecided climbs": theory.climbs_to,
    "the end that scores more": theory.better_end,
    "given where a local maximum": lambda *at: (
        "given" if "given" in theory.local_maxima(*at) else "not given"
    ),
}
NEAR = 1.5  # a point is near the boundary if r is within this factor of theory's T(p)


def predicted(rule, K, p, r):
    """What one of RULES says: of one instance if K is 2, else of the decision."""
    end = RULES[rule](p, 1, r)
    return end if K == 2 else {"given": "all", "not given": "nobody"}[end]


def of(name, runs):
    """Its Settings and its rows, by seed."""
    s = VARIANTS[name].settings(Settings())
    return s, [row for (variant, _), row in sorted(runs.items()) if variant == name]


def summarise(runs):
    """The points of the plane, a list of dicts: what runs that did not die ended in, each
    of two instances by its own p, of more the decision; near: see NEAR."""
    points, rule = [], next(iter(RULES))
    for name in PLANE:
        (s, rows), ends = of(name, runs), {}
        K, r = s.shape.K, s.shape.r
        for first in (row["decisions"][0] for row in rows if "error" not in row):
            found = first["ends"] if K == 2 else [first["outcome"]]
            for p, end in zip(exp_controls.priors(s), found):
                ends.setdefault(round(p, 6), Counter())[end] += 1
        for p, outcomes in ends.items():
            point = {"K": K, "p": p, "r": r, "predicted": predicted(rule, K, p, r)}
            turn = theory.limits(p)[1]
            near = turn / NEAR < r < turn * NEAR
            points.append(point | {"outcomes": dict(outcomes), "near": near})
    return points


def agreement(points):
    """By rule, away from the boundary and near it: how many points end as predicted, in
    more than half of their runs, and how many runs; ties predict nothing."""
    found = {rule: {} for rule in RULES}
    for rule in RULES:
        for where in ("away", "near"):
            counts = []
            for point in points:
                end = predicted(rule, *(point[key] for key in ("K", "p", "r")))
                if point["near"] == (where == "near") and end != "tie":
                    outcomes = point["outcomes"]
                    counts.append((outcomes.get(end, 0), sum(outcomes.values())))
            good = sum(2 * k > n for k, n in counts)
            runs, of_runs = (sum(column) for column in zip(*counts, (0, 0)))
            row = {"as_predicted": good, "of": len(counts)}
            found[rule][where] = row | {"runs": runs, "of_runs": of_runs}
    return found


def networks(runs):
    """How many runs find all K groupings (see FOUND), a list of dicts."""
    found = []
    for name in NETWORKS:
        s, rows = of(name, runs)
        if rows:
            k = sum(row.get("found", False) for row in rows)
            row = {"network": VARIANTS[name].title, "K": s.shape.K, "T": s.steps}
            row |= {"found": k, "of": len(rows)}
            found.append(row | {"interval": sweep.wilson(k, len(rows))})
    return found


def tables(points, agreed, found):
    """All that as tables in Markdown."""
    lines = {}
    for point in points:
        K, p, outcomes = point["K"], point["p"], point["outcomes"]
        line = lines.setdefault((K, p), dict.fromkeys(data.ARM_SIZES, "-"))
        given, n = outcomes.get("given" if K == 2 else "all", 0), sum(outcomes.values())
        line[point["r"]] = f"{given}/{n}" + " near" * point["near"]
    head = ["owners", "p"] + [f"given, r = {r:g}" for r in data.ARM_SIZES]
    cells = [[str(K), f"{p:.3g}", *line.values()] for (K, p), line in lines.items()]
    text = [sweep.markdown(head, cells)]
    head = ["rule"] + [
        f"{w}: {x}" for w in ("away", "near") for x in ("points", "runs")
    ]
    cells = [[rule] for rule in agreed]
    for line, by in zip(cells, agreed.values()):
        for c in by.values():
            line += [f"{c['as_predicted']}/{c['of']}", f"{c['runs']}/{c['of_runs']}"]
    text.append(sweep.markdown(head, cells))
    head, cells = ["network", "owners", "decisions", "finds all", "95% interval"], []
    for r in found:
        share = "{:.0%} to {:.0%}".format(*r["interval"])
        count = f"{r['found']}/{r['of']}"
        cells.append([r["network"], str(r["K"]), str(r["T"]), count, share])
    return "\n\n".join([*text, sweep.markdown(head, cells)])


ENDS = {  # how what an instance, or a decision of three or four, ends in is drawn
    "given": {"fc": pictures.ORANGE},
    "all": {"fc": pictures.ORANGE},
    "one": {"fc": pictures.RED},
    "some": {"fc": pictures.RED},
    "not given": {"fc": "white"},
    "nobody": {"fc": "white"},
    "split": {"fc": "0.6"},
    "unlearned": {"fc": "black"},
}
RINGS = {2: ("black", 0.8), 3: ("#00806a", 2.5), 4: ("#8a4fb0", 2.5)}


def draw_flip(fig, runs):
    """Into a SubFigure: a test image of two arms and of three, and the decision on it."""
    halves = fig.subfigures(1, 2)
    for half, name, arms in zip(halves, ("K2-m0.5-r1", "K3-r1"), ("two", "three")):
        _, rows = of(name, runs)
        row = next((row for row in rows if "masks" in row), None)
        if row is not None:
            size = row["settings"]["shape"]["size"]
            shown = exp_looking.unpack(row["masks"], size)[:1, :, 0]  # (1, 2 + K, H, W)
            masks = torch.stack((0 * shown[:, 2:], shown[:, 2:]), 1)
            titles = f"{arms} arms", "the decision"
            pictures.grid(half, shown[:, :1], titles, masks, shown)
            ends = Counter(row.get("outcome", "died") for row in rows)
            text = ", ".join(f"{end}: {k} of {len(rows)}" for end, k in ends.items())
            half.suptitle(f"{arms} owners\n{text}", fontsize=10)


def plot(points, found, runs):
    """The plane, the flip and the networks: a Figure."""
    fig = Figure(figsize=(15, 9.5), layout="constrained")
    left, right = fig.subfigures(1, 2, width_ratios=(1.5, 1))
    ax = left.subplots()
    landscape.draw_plane(ax)
    for point in points:
        ring = RINGS[point["K"]]
        pictures.pie(ax, point["p"], point["r"], point["outcomes"], ENDS, ring)
    handles, _ = ax.get_legend_handles_labels()
    ax.legend(handles=handles)
    top, bottom = right.subfigures(2, 1, height_ratios=(1, 1.7))
    draw_flip(top, runs)
    pictures.successes(bottom.subplots(), found)
    return fig


def main(argv=None):
    """Run what is missing, draw all: returns the numbers of owners.json, the Figure."""
    parser = common.Parser(__doc__)
    parser.add_training()
    sweep.add_options(parser, VARIANTS, list(VARIANTS))
    args = parser.parse_args(argv)
    first = args.variants[0]
    s, _ = parser.settings(Settings(), args, lambda s: run(first, 0, s, "cpu"))
    import exp_owners  # this file, as the processes of a sweep know it

    runs = sweep.collect(parser, args, s, exp_owners, "owners")
    points, found = summarise(runs), networks(runs)
    agreed = agreement(points)
    print(tables(points, agreed, found))
    numbers = {"experiment": "exp_owners", "near": NEAR, "points": points}
    numbers |= {"agreement": agreed, "networks": found}
    common.save(f"{args.out}/owners.json", numbers)
    common.save(f"{args.out}/owners.png", fig := plot(points, found, runs))
    sweep.exit_if_dead(runs)
    return numbers, fig


if __name__ == "__main__":
    common.script(main)
