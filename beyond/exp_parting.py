"""Why two heads starve, why two passes part, and why matching parts anything.

The theory is in beyond/lead.py: two decisions can differ in the lead and in the parting; the
smooth maximum feeds both, matching the parting alone. How fast they grow is the network's own.
Decisions that share their weights share what both groupings ask for, so their lead hardly
moves; two heads and two U-Nets do not.

Running this draws the recorded runs (beyond/rows/parting.jsonl): Gram matrices and paths of
(δ_left, δ_right) through the training. --variants and --seeds train what is missing.
--film FOLDER trains two heads, matched, once and saves their film. On rows of seeds from 1000 up
(--rows beyond/rows/seeds_1000_1009) it says what each of BOUNDS would have told.
"""

import argparse
import sys
from collections import Counter
from dataclasses import replace
from itertools import cycle
from pathlib import Path

import numpy as np
import torch
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

import common
import data
import pictures
from beyond import left_right, sweep
from beyond.lead import COMMON, LEAD, PARTING, claims, flow
from beyond.left_right import NETWORKS
from beyond.networks import decide
from exp_recurrent import Settings

FILES, SEEDS = ("parting", "seeds_200_259/parting"), 20
FIXED, batch = left_right.FIXED, left_right.batch
MATCHABLE = ("dual", "twin-heads", "independent", "told-step", "recurrent")
MAXIMUM = {
    name: NETWORKS[name]
    for name in ("alike-1e-3", "twin-decoders", "mask-only", "state-only", *MATCHABLE)
}
MATCHED = {f"{name}-matched": replace(NETWORKS[name], rule="matched") for name in MATCHABLE}
VARIANTS = MAXIMUM | MATCHED
DEFAULT = [*MAXIMUM, *MATCHED]
RATES_AT = (0, 5, 10, 20, 30, 40, 60, 80, 120)  # training steps after which Γ is measured
RATES_UP_TO = 10  # on seeds below this
# Seeds of which the signs are to tell the end; GROUPS are those that are told apart.
CHOSEN_ON, SIGNS_ON = range(1000, 10**6), range(200, 260)
GROUPS = {"seeds 0-19": range(20), "seeds 200-259": SIGNS_ON, "seeds from 1000 up": CHOSEN_ON}
SEEN = 32  # held-out images on which all is measured
# Where |δ_left| or |δ_right| first exceeds this, the signs are to tell how a run ends; of the
# BOUNDS the one with most runs right on seeds 1000 to 1009.
BOUNDS = (0.02, 0.05, 0.1, 0.2)
BOUND = 0.2

# Parting : lead in the drawn flow: near 0 under the maximum networks have 0.11 to 0.31.
MODEL = 0.2


def gram_matrix(net, images, truths):
    """The Gram matrix Γ (4, 4) of the gradients in weight space of the scores S_dg, means over
    the images, in the order 1left, 1right, 2left, 2right."""
    weights = list(net.parameters())
    gradients = []
    for score in data.score(decide(net, images), truths).mean(0).flatten():
        slopes = torch.autograd.grad(score, weights, retain_graph=True, materialize_grads=True)
        gradients.append(torch.cat([slope.flatten() for slope in slopes]).double())
    gradients = torch.stack(gradients)  # (4, weights)
    return gradients @ gradients.T


def run(v, seed, s, device):
    """Train a Variant, see left_right.run: a dict for a row. scores: the four mean scores on
    SEEN held-out images after so many training steps, [steps, 1left, 1right, 2left, 2right]; gram:
    {steps: Γ} on seeds below RATES_UP_TO; what it ends in, as in left_right.run."""
    s = v.settings(s)
    images, parts = data.held_out(s, seed, device)
    seen, truths = images[:SEEN], data.groupings(parts[:SEEN])
    steps = s.epochs * s.steps_per_epoch
    looked_at = {0, steps, *RATES_AT, *range(0, 121, 4), *common.recorded(steps)}
    path, grams = [], {}

    def look(net, step, masks, parts):
        done = step - 1
        if done in looked_at:
            with torch.no_grad():
                scores = data.score(decide(net, seen), truths).mean(0)  # (2, 2)
            path.append([done, *sweep.rounded(scores.flatten().tolist())])
        if done in RATES_AT and seed < RATES_UP_TO:
            gram = gram_matrix(net, seen, truths)
            grams[done] = [sweep.rounded(line) for line in gram.tolist()]

    end = left_right.run(v, seed, s, device, look)
    kept = "found", "outcome", "seconds", "oracle_exact", "score"
    return {key: end[key] for key in kept} | {"scores": path, "gram": grams}


def differences(row):
    """The path of a run: training steps (k,), δ_left (k,), δ_right (k,)."""
    steps, *scores = np.array(row["scores"]).T
    return steps, scores[0] - scores[2], scores[1] - scores[3]


def predicted(row, bound=BOUND):
    """Whether a run is to find both groupings: at the first recorded step at which |δ_left| or
    |δ_right| exceeds the bound, the two have opposite signs."""
    _, left, right = differences(row)
    out = np.maximum(abs(left), abs(right)) > bound
    if not out.any():
        return False
    first = out.argmax()
    return bool(left[first] * right[first] < 0)


def as_predicted(rows, bound=BOUND):
    """How many of these runs end as predicted."""
    return sum(predicted(row, bound) == row["found"] for row in rows)


def rates(rows, beta):
    """The rates of runs, Γ along the three directions: at each of RATES_AT the medians over the
    runs, and the medians of parting : lead and lead : common over all Γ measured while both |δ|
    were below 1/beta. None of none."""
    at, near = {}, []
    for row in rows:
        steps, left, right = differences(row)
        for step, gram in row["gram"].items():
            three = [along @ np.array(gram) @ along for along in (COMMON, LEAD, PARTING)]
            at.setdefault(int(step), []).append(three)
            k = list(steps).index(int(step))
            if max(abs(left[k]), abs(right[k])) < 1 / beta:
                near.append((three[2] / three[1], three[1] / three[0]))
    names = "common", "lead", "parting"
    medians = {step: dict(zip(names, np.median(values, 0))) for step, values in at.items()}
    ratios = dict(zip(("parting : lead", "lead : common"), np.median(near, 0))) if near else None
    return {"at": medians, "near 0": ratios, "measured near 0": len(near)}


def lead_at(row, step):
    """How far one decision of a run is ahead after so many training steps, |δ_left + δ_right|/2."""
    steps, left, right = differences(row)
    return abs(left + right)[list(steps).index(step)] / 2


def usual(runs, name):
    """The runs of a variant that lived, and of these those that are counted and drawn: all but
    SIGNS_ON, which are for the signs alone, or all where there are no others."""
    lived = [row for row in sweep.of(runs, name) if "error" not in row]
    return lived, [row for row in lived if row["seed"] not in SIGNS_ON] or lived


def summarise(runs):
    """For each variant, how many runs find both groupings, what they end in, their rates, the
    median of their leads at training step 40; and of several seeds how many runs end as
    predicted: a list of dicts. Runs that died do not count."""
    rows = []
    for name, v in VARIANTS.items():
        lived, own = usual(runs, name)
        if not lived:
            continue
        row = {
            "variant": name,
            "title": v.title,
            "rule": v.rule,
            "found": sum(run["found"] for run in own),
            "of": len(own),
            "outcomes": Counter(run["outcome"] for run in own),
            "lead at step 40": np.median([lead_at(run, 40) for run in own]),
            "rates": rates([run for run in own if run["gram"]], Settings().beta),
        }
        for key, seeds in GROUPS.items():
            some = [run for run in lived if run["seed"] in seeds]
            row[key] = {
                "as predicted": as_predicted(some),
                "of": len(some),
                "find both": sum(run["found"] for run in some),
            }
        rows.append(row)
    return rows


def tables(summary):
    """The tables of the runs, in Markdown: rates, and the rule of the signs."""
    lines = []
    for r in summary:
        near = r["rates"]["near 0"]
        cells = [r["title"], RULE_NAMES[r["rule"]], f"{r['found']}/{r['of']}"]
        cells += [f"{x:.3g}" for x in near.values()] if near else ["-", "-"]
        at = r["rates"]["at"].get(40)
        cells += [f"{x:.2g}" for x in at.values()] if at else ["-"] * 3
        lines.append([*cells, f"{r['lead at step 40']:.3f}"])
    head = ["network", "rule", "finds both", "parting : lead", "lead : common"]
    head += ["common at step 40", "lead", "parting", "how large the lead is then"]
    first, lines = sweep.markdown(head, lines), []
    for r in summary:
        for key in GROUPS:
            right, n, both = (r[key][name] for name in ("as predicted", "of", "find both"))
            if n:
                low, high = sweep.wilson(right, n)
                most = max(both, n - both)
                cells = [r["title"], RULE_NAMES[r["rule"]], key, f"{right}/{n}"]
                lines.append([*cells, f"{low:.0%} to {high:.0%}", f"{most}/{n}"])
    head = ["network", "rule", "seeds", "ends as the signs say", "95% interval", "commoner outcome"]
    return first + "\n\n" + sweep.markdown(head, lines)


RULE_NAMES = {"soft": "maximum", "matched": "matched"}
# How a run ends, and its colour.
ENDS = {
    "both groupings": "#00806a",
    "one decision unlearned": "#d62728",
    "both + both": "#ff8c0a",
    "something else": "0.55",
}
EQUAL, OPPOSITE = "#fde3dc", "#e2f2de"  # the quadrants of equal and of opposite signs


def end_of(row):
    """Which of ENDS a run comes to."""
    if row["found"]:
        return "both groupings"
    if "unlearned" in row["outcome"]:
        return "one decision unlearned"
    return "both + both" if row["outcome"] == "both + both" else "something else"


def stretched(x, near=0.01):
    """δ for an axis that is linear within near = 1/beta and logarithmic beyond."""
    return np.sign(x) * np.log10(1 + abs(x) / near)


def draw_plane(ax, rows, rule, lead, parting, beta=100.0):
    """Draw into Axes the flow of the model and on it the paths of runs, coloured by their ends. In
    the red quadrants one decision is ahead for both groupings, in the green ones each for one."""
    edge = float(stretched(np.array(1.6)))
    x, y = np.meshgrid(*[np.linspace(-edge, edge, 41)] * 2)  # (41, 41)
    for low, side, colour in ((0, edge, EQUAL), (-edge, edge, OPPOSITE)):
        ax.fill_between((0, edge), low, low + side, color=colour, lw=0, zorder=0)
        ax.fill_between((-edge, 0), -low - side, -low, color=colour, lw=0, zorder=0)
    left, right = (np.sign(z) * (10 ** abs(z) - 1) / beta for z in (x, y))
    speeds = flow(left, right, rule, lead, parting, beta)
    # The axes stretch what they show, and the arrows with it.
    u, v = (speed / (1 / beta + abs(at)) for speed, at in zip(speeds, (left, right)))
    ax.streamplot(x, y, u, v, color="0.6", density=0.8, linewidth=0.8, arrowsize=0.9, zorder=1)
    for row in rows:
        _, *path = differences(row)
        colour = ENDS[end_of(row)]
        ax.plot(*map(stretched, path), color=colour, lw=0.9, alpha=0.6, zorder=2)
        ax.plot(*(stretched(d[-1:]) for d in path), "o", color=colour, ms=4, zorder=3)
    ticks = [-1, -0.1, 0, 0.1, 1]
    for axis in (ax.xaxis, ax.yaxis):
        axis.set_ticks(stretched(np.array(ticks)), [f"{tick:g}" for tick in ticks])
    ax.axhline(0, color="black", lw=0.8)
    ax.axvline(0, color="black", lw=0.8)
    ax.set(xlim=(-edge, edge), ylim=(-edge, edge), aspect="equal")
    ax.set_xlabel("score of decision 1 minus 2, if left is true")


def draw_rates(ax, summary, titles):
    """Draw into Axes the rate of the lead of every network against that of the parting."""
    dots = [
        (r["rates"]["at"][40], titles.index(r["title"]) + 1, 2 * r["found"] > r["of"])
        for r in summary
        if r["rule"] == "soft" and 40 in r["rates"]["at"]
    ]
    dots.sort(key=lambda dot: dot[0]["parting"])
    # Some dots are close: their numbers stand to the left and to the right in turn.
    sides = cycle(({"xytext": (-9, 0), "ha": "right"}, {"xytext": (9, 0), "ha": "left"}))
    for (at, k, most), side in zip(dots, sides):
        place, colour = (at["lead"], at["parting"]), "#00806a" if most else "#d62728"
        ax.plot(*place, "o", color=colour, ms=8, mec="black")
        look = {"textcoords": "offset points", "va": "center", "color": colour, "weight": "bold"}
        ax.annotate(f"{k}", place, **side, **look)
    ax.plot([1e-3, 0.3], [1e-3, 0.3], ":", color="0.4")
    text = "above the line the parting\nis faster than the lead"
    ax.text(1e-3, 0.1, text, fontsize=9, color="0.3")
    ax.set(xscale="log", yscale="log", xlabel="rate of the lead", ylabel="rate of the parting")
    ax.set(xlim=(8e-4, 1.3), ylim=(1.5e-3, 0.2))


def draw_found(ax, summary, titles):
    """Draw into Axes how many runs of each network find both groupings, by rule."""
    looks = {"soft": ("o", "white", -0.17), "matched": ("D", "#00806a", 0.17)}
    for r in summary:
        marker, colour, shift = looks[r["rule"]]
        y = titles.index(r["title"]) + shift
        ax.plot(sweep.wilson(r["found"], r["of"]), [y, y], "k-", lw=1)
        ax.plot(r["found"] / r["of"], y, marker, mfc=colour, mec="black", ms=7)
        ax.text(1.05, y, f"{r['found']} of {r['of']}", va="center", fontsize=9)
    ax.set_yticks(range(len(titles)), [f"{title}  {k}" for k, title in enumerate(titles, 1)])
    ax.set(xlim=(-0.03, 1.4), ylim=(len(titles) - 0.5, -0.5), xticks=[0, 0.5, 1])
    ax.set_xlabel("share of the runs (95% interval)")
    ax.grid(axis="x", color="0.88")


def plot(summary, runs):
    """Why two heads starve, why two passes part and what matching changes, in one picture: paths
    on the plane, rates, counts. Returns the Figure."""
    fig = Figure(figsize=(11, 10.5), layout="constrained")
    top, bottom = fig.subfigures(2, 1, height_ratios=(1.45, 1))
    planes = top.subplots(1, 2, sharey=True)
    for ax, (rule, model, title) in zip(
        planes,
        (
            ("soft", "soft", "Maximum: for each grouping the better decision counts"),
            ("matched", "matched-smooth", "Matched: each decision has a grouping of its own"),
        ),
    ):
        names = [name for name, v in VARIANTS.items() if v.rule == rule]
        rows = [row for name in names for row in usual(runs, name)[1]]
        draw_plane(ax, rows, model, lead=1, parting=MODEL)
        ax.set_title(f"{title} ({len(rows)} runs)", fontsize=10)
    planes[0].set_ylabel("score of decision 1 minus 2, if right is true")
    handles = [Line2D([], [], color=colour, lw=3, label=end) for end, colour in ENDS.items()]
    handles += [
        Line2D([], [], color="0.6", label=f"flow of the model, parting : lead = {MODEL}"),
        Patch(fc=EQUAL, label="lead: one is ahead for both groupings"),
        Patch(fc=OPPOSITE, label="parting: each is ahead for one"),
    ]
    top.legend(handles=handles, loc="outside lower center", ncols=4, frameon=False, fontsize=9)
    below, beside = bottom.subplots(1, 2)
    titles = [*dict.fromkeys(r["title"] for r in summary)]  # their places are their numbers
    draw_rates(below, summary, titles)
    below.set_title(
        "How fast the two grow, at training step 40\n(green: most runs find both)", fontsize=10
    )
    draw_found(beside, summary, titles)
    beside.set_title("Find both: circles, maximum; diamonds, matched", fontsize=10)
    top.suptitle("Training starts in the middle: which way do two decisions leave?\n", fontsize=13)
    return fig


def plot_flows():
    """The flow of the two-dimensional model near 0: the maximum at three ratios of the rates, and
    matching. Returns the Figure."""
    fig = Figure(figsize=(11, 3.8), layout="constrained")
    for ax, (rule, lead, parting, title) in zip(
        fig.subplots(1, 4, sharey=True),
        (
            ("soft", 1, 0.25, "maximum\nlead four times as fast"),
            ("soft", 1, 1, "maximum\nparting as fast as the lead"),
            ("soft", 0.25, 1, "maximum\nparting four times as fast"),
            ("matched-smooth", 1, 1, "matched\nat any ratio"),
        ),
    ):
        draw_plane(ax, [], rule, lead, parting)
        ax.set_title(title, fontsize=11)
        ax.set_xlabel("")
    fig.supxlabel("score of decision 1 minus 2, if left is true", fontsize=10)
    fig.supylabel("the same, if right is true", fontsize=10)
    fig.suptitle("Green: each decision is ahead for one grouping; pink: one is ahead for both")
    return fig


def report(runs):
    """The summary, the pictures and the tables of the runs, see sweep."""
    summary = summarise(runs)
    numbers = {"experiment": "exp_parting", "bound": BOUND, "variants": summary}
    saved = {
        "exp_parting.json": numbers,
        "parting.png": plot(summary, runs),
        "parting_flows.png": plot_flows(),
    }
    holds = [
        f"{claim:<52} {'holds' if gap < 1e-9 else f'wrong by up to {gap:.3g}'}"
        for claim, gap in claims().items()
    ]
    tried = [row for (_, seed), row in runs.items() if seed in CHOSEN_ON and "error" not in row]
    for bound in BOUNDS if tried else ():
        right = f"{as_predicted(tried, bound)} of {len(tried)} runs end as the signs say"
        holds.append(f"seeds from 1000 up, with the bound {bound:g}: {right}")
    return saved, "\n".join(holds) + "\n\n" + tables(summary)


def save_film(out):
    """Train two heads, matched, as the experiments do, seed 0, and save OUT/matched.gif."""
    s, v, seed = Settings(), VARIANTS["dual-matched"], 0
    images, parts = (x[:3] for x in data.held_out(s, seed, "cpu"))
    recorded, history, film = common.recorded(s.epochs * s.steps_per_epoch), [], []

    def look(net, step, masks, its_parts):
        if step in recorded:
            history.append({"step": step, **data.measure(masks, its_parts, s.m)})
            with torch.no_grad():
                film.append(decide(net, images))

    left_right.run(v, seed, s, "cpu", look)
    shown = "Two at once, matched", "decision", history, film, images, parts
    out.mkdir(parents=True, exist_ok=True)
    common.save(out / "matched.gif", lambda path: pictures.save_film(path, *shown))


def main(argv=None):
    """See sweep.main; with --film, save_film."""
    argv = sys.argv[1:] if argv is None else argv
    if not any(flag.partition("=")[0] == "--film" for flag in argv):
        return sweep.main("exp_parting", argv)
    layout = {"formatter_class": argparse.RawDescriptionHelpFormatter, "allow_abbrev": False}
    parser = argparse.ArgumentParser(usage=argparse.SUPPRESS, description=__doc__, **layout)
    parser.add_argument("--film", type=Path, nargs="?", metavar="FOLDER", help="else that of --out")
    parser.add_argument("--out", type=Path, default=Path("out"), help="default: %(default)s")
    args = parser.parse_args(argv)
    return save_film(args.film or args.out)


if __name__ == "__main__":
    common.script(main)
