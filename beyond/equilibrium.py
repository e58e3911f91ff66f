"""Does any perturbation return? Ten finished pairs of heads, pushed away.

The paper calls the end state of two heads, one "both" and one idle, analogous to a Nash
equilibrium to which any perturbation returns. theory.py shows that it is none: the idle
head gains by any grouping. Here two heads are trained as exp_dual.py does and then (a) noise
is added to all weights, (b) noise is added to the idle head, (c) the idle head alone is
trained to "left", on features that stay as they are; and the training goes on. Running
this draws the recorded runs (figures/equilibrium.jsonl) and prints what they end in; --out
FOLDER runs everything anew, see exp_controls.py.
"""

import copy
import time
from collections import Counter
from functools import partial

import torch
from matplotlib.figure import Figure
from matplotlib.patches import Patch, Rectangle

import common
import data
import exp_dual
import sweep
import theory
from exp_controls import FOUND, Variant
from unet import UNet

VERSION = 1  # see sweep.py
Settings = partial(exp_dual.Settings, epochs=30)
AFTER = 400  # steps of training after a perturbation, and of the idle head alone
FIXED = {"found": FOUND, "after": AFTER}
VARIANTS = {"heads": Variant("Two heads", UNet, {"out_channels": 4})}
# Noise is so many times the spread of each tensor of weights.
NOISES = {"all": (0.01, 0.1, 0.3, 1.0), "idle": (0.1, 1.0, 10.0)}
LABELS = {"none": "nothing"}
LABELS |= {f"all {n}": f"noise on all weights, {n:g}" for n in NOISES["all"]}
LABELS |= {f"idle {n}": f"noise on the idle head, {n:g}" for n in NOISES["idle"]}
LABELS |= {"left": 'the idle head trained to "left"'}
PUSHES = list(LABELS)
ENDS = {  # what a run does, and how that is drawn
    "stays": {"fc": "0.85", "hatch": "xxxx"},
    "returns": {"fc": "0.6"},
    "ends elsewhere": {"fc": "white", "hatch": "//"},
    "ends in the two groupings": {"fc": "#00806a"},
}


def train(net, optimiser, generator, s, steps, idle=None):
    """Train a network of two heads for so many steps, as exp_dual.py does or, where idle
    is given, that head alone to the left grouping."""
    for step in range(1, steps + 1):
        images, parts = data.sample(s.batch, generator, s.shape, s.noise)
        scores = data.score(exp_dual.decide(net, images), data.groupings(parts))
        if idle is None:
            best = data.soft_maximum(scores, s.beta)  # (n, 2 truths)
            loss = -(s.m * best[:, 0] + (1 - s.m) * best[:, 1]).mean()
        else:
            loss = -scores[:, idle, 0].mean()  # in which the other head has no part
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        if step % s.steps_per_epoch == 0:
            common.finite(loss.item(), step)


def outcome(net, s, seed, device):
    """What the two heads do on the held-out images: ([outcome, outcome], pairs found)."""
    images, parts = data.held_out(s, seed, device)
    with torch.no_grad():
        found = data.measure(exp_dual.decide(net, images), parts, s.m)
    return [d["outcome"] for d in found["decisions"]], found["oracle_exact"]


def push(net, name, idle, generator, s, seed, device):
    """Perturb a network as one of PUSHES says; idle is the head that learned nothing. The
    noise of all sizes has one direction, from a stream of its own."""
    which, _, size = name.partition(" ")
    noise = torch.Generator().manual_seed(seed + 3 * data.SEEDS)
    head = net.head.weight, net.head.bias  # (4, C, 1, 1) and (4,)
    if which == "left":
        optimiser = torch.optim.Adam(head, 10 * s.learning_rate)
        train(net, optimiser, generator, s, AFTER, idle)
    with torch.no_grad():
        for p in {"all": net.parameters(), "idle": head}.get(which, ()):
            way = torch.randn(p.shape, generator=noise).to(p)
            if which == "idle":
                way.unflatten(0, (2, 2))[1 - idle] = 0  # the other head stays as it is
            p += float(size) * p.std() * way


@common.prepared
def run(name, seed, s, device):
    """Train two heads, perturb them in all ways, train on: a dict for a row. after, if one
    is "both" and the other "unlearned": for each of PUSHES, the outcomes once it is
    perturbed and at the end, and the pairs found then. Adam goes on with its moments."""
    net = VARIANTS[name].build(s, torch.Generator().manual_seed(seed))
    net = net.to(device, memory_format=torch.channels_last)
    start = time.perf_counter()
    adam = partial(torch.optim.Adam, lr=s.learning_rate, fused=True)
    optimiser = adam(net.parameters())
    generator = torch.Generator(device).manual_seed(seed + data.SEEDS)
    train(net, optimiser, generator, s, s.epochs * s.steps_per_epoch)
    ends, _ = outcome(net, s, seed, device)
    row = {"outcome": " + ".join(sorted(ends)), "after": {}}
    for push_name in PUSHES if sorted(ends) == ["both", "unlearned"] else ():
        other, stream = copy.deepcopy(net), torch.Generator(device)
        stream.set_state(generator.get_state())
        push(other, push_name, ends.index("unlearned"), stream, s, seed, device)
        pushed, _ = outcome(other, s, seed, device)
        again = adam(other.parameters())
        again.load_state_dict(copy.deepcopy(optimiser.state_dict()))
        train(other, again, stream, s, AFTER)
        end, found = outcome(other, s, seed, device)
        row["after"][push_name] = {"pushed": pushed, "end": end, "oracle_exact": found}
    return row | {"seconds": round(time.perf_counter() - start, 2)}


@common.prepared
def change(name, s):
    """What a variant changes, as a dict for the JSON; for "start" see sweep.start."""
    generator = torch.Generator().manual_seed(0)
    net = VARIANTS[name].build(s, generator)
    images, parts = data.sample(s.batch, generator, s.shape, s.noise)
    scores = data.score(exp_dual.decide(net, images), data.groupings(parts))
    loss = -data.soft_maximum(scores, s.beta).mean()
    return {"net": "UNet", "start": sweep.start(net, loss, generator)}


def end_of(before, after):
    """Which of ENDS a perturbed run comes to; before is its outcome, as in a row."""
    pushed, end = (" + ".join(sorted(after[key])) for key in ("pushed", "end"))
    if after["oracle_exact"] >= FOUND:
        return "ends in the two groupings"
    if end != before:
        return "ends elsewhere"
    return "stays" if pushed == before else "returns"


def summarise(runs):
    """For each of PUSHES what the finished runs came to: a list of dicts."""
    rows = [row for _, row in sorted(runs.items()) if row.get("after")]
    found = []
    for name in PUSHES:
        ends = Counter(end_of(row["outcome"], row["after"][name]) for row in rows)
        outcomes = [row["after"][name]["end"] for row in rows]
        one = {"push": name, "of": len(rows), "ends": {k: ends[k] for k in ENDS}}
        one["outcomes"] = Counter(" + ".join(sorted(pair)) for pair in outcomes)
        one["interval_stays_or_returns"] = None
        if rows:
            kept = ends["stays"] + ends["returns"]
            one["interval_stays_or_returns"] = sweep.wilson(kept, len(rows))
        found.append(one)
    return found


def table(summary):
    """What summarise returns as a table in Markdown."""
    lines = []
    for row in summary:
        ends = ", ".join(f"{end} {count}" for end, count in row["outcomes"].items())
        lines.append([LABELS[row["push"]], *map(str, row["ends"].values()), ends])
    return sweep.markdown(["what is done", *ENDS, "outcomes at the end"], lines)


def plot(summary):
    """The payoffs of two decisions, and what perturbed heads come to. Returns a Figure."""
    fig = Figure(figsize=(12, 5.4), layout="constrained")
    ax, right = fig.subplots(1, 2, width_ratios=(1, 1.25))
    names = theory.DECISIONS
    pays = [[theory.payoff(d, e, 1, 1, 0.5) for e in names] for d in names]
    ax.imshow(pays, cmap="cividis", vmin=0, vmax=2.4)
    nash = theory.equilibria(1, 1, 0.5)
    for i, first in enumerate(names):
        for j, second in enumerate(names):
            colour = "black" if pays[i][j] else "white"
            ax.text(j, i, f"{pays[i][j]:.2f}", ha="center", va="center", color=colour)
            stuck = {first, second} == {"both", "unlearned"}
            if stuck or (first, second) in nash:
                look = {"fill": False, "lw": 2.5, "ec": "red" if stuck else "white"}
                look |= {"ls": "--" if stuck else "-"}
                ax.add_patch(Rectangle((j - 0.45, i - 0.45), 0.9, 0.9, **look))
    ax.set(xticks=range(5), yticks=range(5), xticklabels=names, yticklabels=names)
    ax.set(xlabel="second decision", ylabel="first decision")
    text = "What two decisions earn: the better one's score, mean over truths\n(b = P, "
    text += "m = 1/2; unlearned scores 0)\nwhite: the Nash equilibria; "
    ax.set_title(f"{text}red: where two heads end, no equilibrium", fontsize=10)
    for y, row in enumerate(summary):
        start = 0
        for end, count in row["ends"].items():
            right.barh(y, count, 0.7, start, ec="black", **ENDS[end])
            if count:
                box = {"boxstyle": "round,pad=0.2", "fc": "white", "ec": "none"}
                middle = {"ha": "center", "va": "center", "bbox": box, "fontsize": 9}
                right.text(start + count / 2, y, count, **middle)
            start += count
    right.set_yticks(range(len(summary)), [LABELS[row["push"]] for row in summary])
    right.invert_yaxis()
    right.set(xlabel=f"of {summary[0]['of']} trained pairs of heads")
    right.set_title(
        "What is done to the heads (noise in spreads of the weights),\n"
        f"and where {AFTER} more steps lead",
        fontsize=10,
    )
    means = {"stays": "stays: neither push nor training changes the outcome"}
    means |= {"returns": "returns: the training undoes the push"}
    handles = [
        Patch(ec="black", label=means.get(end, end), **look)
        for end, look in ENDS.items()
    ]
    fig.legend(handles=handles, loc="outside lower right", ncols=2, frameon=False)
    return fig


def main(argv=None):
    """Run what is missing, draw all: the numbers of equilibrium.json, the Figure."""
    parser = common.Parser(__doc__)
    parser.add_training()
    sweep.add_options(parser, VARIANTS, list(VARIANTS), number=10)
    args = parser.parse_args(argv)
    s, _ = parser.settings(Settings(), args, lambda s: change("heads", s))
    import exp_equilibrium  # this file, as the processes of a sweep know it

    runs = sweep.collect(parser, args, s, exp_equilibrium, "equilibrium")
    summary = summarise(runs)
    if left_out := len(runs) - summary[0]["of"]:
        print(f"not both + unlearned before, and left out: {left_out} runs")
    print(table(summary))
    numbers = {"experiment": "exp_equilibrium", "pushes": summary}
    common.save(f"{args.out}/equilibrium.json", numbers)
    common.save(f"{args.out}/equilibrium.png", fig := plot(summary))
    sweep.exit_if_dead(runs)
    return numbers, fig


if __name__ == "__main__":
    common.script(main)
