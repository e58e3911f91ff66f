"""Is it an equilibrium? Ten finished pairs of heads, pushed away.

The paper calls the end of two heads, one "both" and one idle, analogous to a Nash equilibrium to
which any perturbation returns. Its payoffs make it none: the idle head gains by either grouping.
Here pairs are trained as exp_dual.py does. Then all weights or those of the idle head get noise, or
that head alone is trained to "left" on features that stay as they are; then both train on. Running
this draws the recorded runs (beyond/rows/equilibrium.jsonl); --seeds trains what is missing.
"""

import copy
import time
from collections import Counter
from functools import partial

import torch
from matplotlib.figure import Figure

import common
import data
import exp_dual
from beyond import left_right, shares, sweep

FILES, SEEDS, DEFAULT = ("equilibrium",), 10, ["heads"]
VARIANTS = {"heads": left_right.PAPER["dual"]}
Settings = partial(exp_dual.Settings, epochs=30)
AFTER = 400  # training steps after a push, and of the idle head alone
FIXED = {"found": left_right.FOUND, "after": AFTER}
batch = left_right.batch
PUSHES = {  # what is done to the heads; noise is in spreads of each tensor of weights
    "none": "nothing",
    **{f"all {n}": f"noise on all weights, {n:g}" for n in (0.01, 0.1, 0.3, 1.0)},
    **{f"idle {n}": f"noise on the idle head, {n:g}" for n in (0.1, 1.0, 10.0)},
    "left": 'the idle head trained to "left"',
}
ENDS = {  # what becomes of a pair that was pushed, and how that is drawn
    "stays": {"fc": "0.85", "hatch": "xxxx"},
    "returns": {"fc": "0.6"},
    "ends elsewhere": {"fc": "white", "hatch": "//"},
    "ends in the two groupings": {"fc": "#00806a"},
}


def train(net, optimiser, generator, s, steps, idle=None):
    """Train a network of two heads as exp_dual.py does or, where the number of a head is given
    for idle, that one to the left grouping."""

    def drawn(progress):
        loss, masks, parts = batch(VARIANTS["heads"], net, s, generator)
        if idle is None:
            return [loss]
        return [-data.score(masks, data.groupings(parts))[:, idle, 0].mean()]

    sweep.train(net, optimiser, drawn, steps)


@torch.no_grad()
def tested(net, s, seed, device):
    """What the two heads do on the held-out images: ([outcome, outcome], share of pairs found)."""
    images, parts = data.held_out(s, seed, device)
    measured = data.measure(exp_dual.decide(net, images), parts, s.m)
    return [d["outcome"] for d in measured["decisions"]], measured["oracle_exact"]


def push(net, name, idle, generator, s, seed):
    """Push a network as PUSHES says; idle is the number of the head that has learned nothing.
    The noise of all sizes has one direction, from a stream of its own."""
    which, _, size = name.partition(" ")
    stream = torch.Generator().manual_seed(seed + 3 * data.SEEDS)
    head = net.head.weight, net.head.bias  # (4, C, 1, 1) and (4,)
    if which == "left":  # in whose loss the other head has no part
        train(net, torch.optim.Adam(head, 10 * s.learning_rate), generator, s, AFTER, idle)
    with torch.no_grad():
        for p in {"all": net.parameters(), "idle": head}.get(which, ()):
            noise = torch.randn(p.shape, generator=stream).to(p)
            if which == "idle":
                noise.unflatten(0, (2, 2))[1 - idle] = 0  # the other head stays as it is
            p += float(size) * p.std() * noise


def pushed(net, optimiser, generator, name, idle, s, seed, device):
    """Push a copy of a trained pair and train it on, on the images that would have come next: a
    dict of its outcomes once it is pushed and at the end, and the share of pairs found then."""
    net, stream = copy.deepcopy(net), torch.Generator(device)
    stream.set_state(generator.get_state())
    push(net, name, idle, stream, s, seed)
    outcomes, _ = tested(net, s, seed, device)
    again = torch.optim.Adam(net.parameters(), fused=True)
    again.load_state_dict(copy.deepcopy(optimiser.state_dict()))  # it goes on with its moments
    train(net, again, stream, s, AFTER)
    end, exact = tested(net, s, seed, device)
    return {"pushed": outcomes, "end": end, "oracle_exact": exact}


def run(v, seed, s, device):
    """Train two heads; if one ends in "both" and one unlearned, push them in every way and train
    on: a dict for a row. after has for each of PUSHES what pushed returns."""
    begun = time.perf_counter()
    net, generator = v.begin(s, seed, device)
    optimiser = v.optimiser(net, s)
    train(net, optimiser, generator, s, s.epochs * s.steps_per_epoch)
    ends, _ = tested(net, s, seed, device)
    after = {}
    if sorted(ends) == ["both", "unlearned"]:
        idle = ends.index("unlearned")
        for name in PUSHES:
            after[name] = pushed(net, optimiser, generator, name, idle, s, seed, device)
    seconds = round(time.perf_counter() - begun, 2)
    return {"outcome": " + ".join(sorted(ends)), "after": after, "seconds": seconds}


def end_of(before, after):
    """Which of ENDS a pair comes to that had the outcome before; after is what pushed returns."""
    middle, end = (" + ".join(sorted(after[key])) for key in ("pushed", "end"))
    if after["oracle_exact"] >= left_right.FOUND:
        return "ends in the two groupings"
    if end != before:
        return "ends elsewhere"
    return "stays" if middle == before else "returns"


def summarise(rows):
    """For each of PUSHES what the pairs came to, a list of dicts."""
    summary = []
    for name in PUSHES:
        ends = Counter(end_of(row["outcome"], row["after"][name]) for row in rows)
        outcomes = Counter(" + ".join(sorted(row["after"][name]["end"])) for row in rows)
        kept = ends["stays"] + ends["returns"]
        summary.append(
            {
                "push": name,
                "of": len(rows),
                "ends": {end: ends[end] for end in ENDS},
                "outcomes": outcomes,
                "interval_stays_or_returns": sweep.wilson(kept, len(rows)),
            }
        )
    return summary


def payoffs():
    """What two decisions score together (b = P, m = 1/2), as a table; the equilibria in bold."""
    lines, nash = [], shares.equilibria(1, 1, 0.5)
    for first in shares.DECISIONS:
        cells = [first]
        for second in shares.DECISIONS:
            score = f"{shares.payoff(first, second, 1, 1, 0.5):.2f}"
            cells.append(f"**{score}**" if (first, second) in nash else score)
        lines.append(cells)
    return sweep.markdown(["", *shares.DECISIONS], lines)


def plot(summary):
    """What becomes of pushed pairs, a bar a push. Returns the Figure."""
    fig = Figure(figsize=(10, 4.8), layout="constrained")
    ax, left = fig.subplots(), [0] * len(summary)
    box = {"boxstyle": "round,pad=0.2", "fc": "white", "ec": "none"}
    for end, look in ENDS.items():
        counts = [row["ends"][end] for row in summary]
        bars = ax.barh(range(len(summary)), counts, 0.7, left, ec="black", label=end, **look)
        ax.bar_label(bars, [count or "" for count in counts], label_type="center", bbox=box)
        left = [x + count for x, count in zip(left, counts)]
    ax.set_yticks(range(len(summary)), [PUSHES[row["push"]] for row in summary])
    ax.set(xlim=(0, max(left)), ylim=(len(summary) - 0.5, -0.5), xlabel="pairs of heads")
    ax.set_title(f"What {AFTER} training steps make of pushed heads (noise in spreads of weights)")
    fig.legend(loc="outside lower center", ncols=4, frameon=False)
    return fig


def report(runs):
    """The summary, the picture and the table of the runs, see sweep."""
    rows = [row for _, row in sorted(runs.items()) if row.get("after")]
    dead = sum("error" in row for row in runs.values())
    said = f"Not both + unlearned, so not pushed: {len(runs) - len(rows) - dead} runs"
    if not rows:
        return {}, said
    summary, lines = summarise(rows), []
    for row in summary:
        outcomes = ", ".join(f"{outcome} {count}" for outcome, count in row["outcomes"].items())
        lines.append([PUSHES[row["push"]], *row["ends"].values(), outcomes])
    table = sweep.markdown(["what is done", *ENDS, "outcomes at the end"], lines)
    numbers = {"experiment": "equilibrium", "pushes": summary}
    saved = {"equilibrium.json": numbers, "equilibrium.png": plot(summary)}
    return saved, f"{payoffs()}\n\n{table}\n\n{said}"


main = partial(sweep.main, "equilibrium")

if __name__ == "__main__":
    common.script(main)
