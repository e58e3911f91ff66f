"""Two owners or more: who gets a square that K arms share?

K = 2, 3 or 4 arms of P pixels touch a square of b = rP pixels, which one of them owns: of
two the left one with probability m, of more each alike. One decision is trained all over
the plane of r and p, the probability to own it; T decisions are to find all K groupings.
Running this draws the recorded runs (figures/owners.jsonl); --out FOLDER runs all anew, the
plane on seeds 0 to 9, the rest on 0 to 19.
"""

import time
from collections import Counter
from fractions import Fraction
from functools import partial
from itertools import product

import torch

import arms
import common
import data
import exp_controls
import exp_looking
import pictures
import sweep
import theory
from exp_controls import FIXED, FOUND, ToldPass, Variant  # noqa: F401 (for sweep.py)
from recurrent_unet import RecurrentUNet
from unet import UNet

VERSION = 1  # see sweep.py
Settings = partial(exp_controls.Settings, shape=arms.Arms())


def variant(title, net, K, T=1, r=1.0, m=0.5, heads=1, **options):
    """A Variant that makes T decisions on a square with K arms."""
    other = {"shape.K": K, "shape.r": r, "steps": T, "m": m}
    return Variant(title, net, {"out_channels": K * heads} | options, other=other)


KINDS = {f"K2-m{m}": (2, m) for m in (0.5, 0.55, 0.6, 0.7, 0.8)}
KINDS |= {"K3": (3, 0.5), "K4": (4, 0.5)}  # of three or four m says nothing
PLANE = {
    f"{kind}-r{r:g}": variant(f"{kind}, r = {r:g}", UNet, K, r=r, m=m)
    for kind, (K, m) in KINDS.items()
    for r in arms.SIZES
}
DECIDE = ((2, 2), (3, 3), (4, 4), (3, 4))  # owners K, decisions T
NETWORKS = {
    f"{name}-K{K}-T{T}": variant(title, net, K, T, heads=T if net is UNet else 1)
    for name, title, net in (
        ("recurrent", "Recurrent", RecurrentUNet),
        ("told", "Told only the pass", ToldPass),
        ("heads", "Heads of one U-Net", UNet),
    )
    for K, T in DECIDE
}
VARIANTS, FEWER = PLANE | NETWORKS, dict.fromkeys(PLANE, 10)  # see sweep.py
PLANNED = [(f"recurrent-K{K}-T{T}", f"told-K{K}-T{T}") for K, T in DECIDE]  # to compare
change = partial(exp_controls.change, variants=VARIANTS)


@common.prepared
def run(name, seed, s, device, variants=VARIANTS):
    """Train a variant as the experiments do and test it: a dict for a row."""
    v = variants[name]
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
    masks = decide(images).detach()
    row |= arms.measure(masks, parts, prior)
    row["found"] = row["oracle_exact"] >= FOUND
    if seed == 0:
        shown = torch.cat((parts.sum(1, True), parts[:, 1:2], masks[:, 0]), 1)
        row["masks"] = exp_looking.pack(shown[[0, -1]])  # (2, 2 + K, H, W), see flips
    return row


# What may decide whether an instance is given the square, by p, P, b; a tie counts as given.
# The first is "predicted"; the last came after the runs: exp_start.py puts it to the test.
RULES = {
    "where undecided climbs": theory.climbs_to,
    "the end that scores more": lambda p, P, b: arms.ENDS[p < 0.5],
    "given, if that is a local maximum": partial(theory.climbs_to, a=1),
    "where an untrained mask climbs": partial(theory.untrained_end, area=32**2),
}
NEAR, WHERE = 1.5, ("away", "near")  # near: r is within this factor of theory's T(p)


def of(name, runs, variants=VARIANTS):
    """The Settings of a variant, and its rows by seed."""
    rows = [row for (variant, _), row in sorted(runs.items()) if variant == name]
    return variants[name].settings(Settings()), rows


def summarise(runs, plane=PLANE):
    """The points of the plane, a list of dicts, see RULES and NEAR. With two owners each
    mask is a point with its own p, with more each decision. Runs that died do not count."""
    points = []
    for name in plane:
        (s, rows), ends = of(name, runs, plane), {}
        K, r, b = s.shape.K, s.shape.r, arms.SIZES[s.shape.r][0] ** 2
        for row in (row for row in rows if "error" not in row):
            said = row["decisions"][0]["ends"] if K == 2 else [row["outcome"]]
            for p, end in zip(exp_controls.priors(s), said):
                ends.setdefault(Fraction(p).limit_denominator(99), Counter())[end] += 1
        for p, outcomes in ends.items():  # p a Fraction, so that theory is exact
            T = theory.limits(p)[1]
            rules = {k: rule(p, b / r, b) for k, rule in RULES.items()}
            rules = {k: arms.ALIKE[end] if K > 2 else end for k, end in rules.items()}
            point = {"variant": name, "K": K, "p": float(p), "r": r, "rules": rules}
            point |= {"predicted": next(iter(rules.values())), "outcomes": outcomes}
            points.append(point | {"where": WHERE[T / NEAR < r < T * NEAR]})
    return points


def agreement(points):
    """How many points (most of the runs) and outcomes are as each rule has it."""
    rows = []
    rules = points[0]["rules"] if points else ()
    for rule, where in product(rules, dict.fromkeys(q["where"] for q in points)):
        here = [q for q in points if q["where"] == where]
        k = [q["outcomes"].get(q["rules"][rule], 0) for q in here]
        n = [sum(q["outcomes"].values()) for q in here]
        good = sum(2 * i > j for i, j in zip(k, n))
        row = {"rule": rule, "where": where, "as_predicted": good, "of": len(here)}
        rows.append(row | {"outcomes_as_predicted": sum(k), "of_outcomes": sum(n)})
    return rows


def networks(runs):
    """How many runs find all K groupings (see FOUND): a list of dicts."""
    found = []
    for name in NETWORKS:
        s, rows = of(name, runs)
        if rows:
            k, n = sum(row.get("found", False) for row in rows), len(rows)
            row = {"variant": name, "network": VARIANTS[name].title}
            row |= {"K": s.shape.K, "T": s.steps}
            row["title"] = "{network}, K = {K}, T = {T}".format(**row)
            found.append(row | {"found": k, "of": n, "interval": sweep.wilson(k, n)})
    return found


def plane_table(points):
    """How often the square is given, by p and r, as a table in Markdown."""
    lines = {}
    for q in points:
        ends, line = q["outcomes"], dict.fromkeys(arms.SIZES, "-")
        line = lines.setdefault((q["K"], q["p"]), line)
        given = ends.get("given", 0) + ends.get("all", 0)
        line[q["r"]] = f"{given}/{sum(ends.values())}" + " (near)" * (
            q["where"] == "near"
        )
    cells = [[f"{K}", f"{p:.3g}", *line.values()] for (K, p), line in lines.items()]
    return sweep.markdown(["owners", "p", *(f"r = {r:g}" for r in arms.SIZES)], cells)


def agreement_table(agreed):
    """What agreement returns as a table in Markdown."""
    head = ["rule", "where", "points as predicted", "outcomes as predicted"]
    text = "{rule}|{where}|{as_predicted}/{of}|{outcomes_as_predicted}/{of_outcomes}"
    return sweep.markdown(head, [text.format(**row).split("|") for row in agreed])


def table(found):
    """What networks returns as a table in Markdown."""
    head = ["network", "owners", "decisions", "finds all", "95% interval"]
    text = "{network}|{K}|{T}|{found}/{of}|{interval[0]:.0%} to {interval[1]:.0%}"
    return sweep.markdown(head, [text.format(**row).split("|") for row in found])


def flips(runs):
    """Two owners and three, r = 1, seed 0, {title: (1, 2 + K, H, W)}: figure, square, masks."""
    found = {}
    for name, K in (("K2-m0.5-r1", "Two"), ("K3-r1", "Three")):
        if "masks" in (row := runs.get((name, 0), {})):
            shown = exp_looking.unpack(row["masks"], row["settings"]["shape"]["size"])
            found[f"{K} owners: given to {row['outcome']}"] = shown[:1, :, 0]
    return found


def main(argv=None):
    """Run what is missing, draw all: returns the numbers of owners.json, the Figure."""
    parser = common.Parser(__doc__)
    parser.add_training()
    sweep.add_options(parser, VARIANTS, list(VARIANTS))
    args = parser.parse_args(argv)
    s, _ = parser.settings(Settings(), args, lambda s: change(args.variants[0], s))
    import exp_owners  # this file, as the processes of a sweep know it

    runs = sweep.collect(parser, args, s, exp_owners, "owners")
    found, agreed = networks(runs), agreement(points := summarise(runs))
    print(plane_table(points), agreement_table(agreed), table(found), sep="\n\n")
    print(exp_controls.compare(found, {}, PLANNED))
    numbers = {"experiment": "exp_owners", "near": NEAR, "points": points}
    numbers |= {"agreement": agreed, "networks": found}
    common.save(f"{args.out}/owners.json", numbers)
    common.save(f"{args.out}/owners.png", fig := pictures.owners(numbers, flips(runs)))
    sweep.exit_if_dead(runs)
    return numbers, fig


if __name__ == "__main__":
    common.script(main)
