"""Why two heads starve, why two passes part, and why matching parts anything.

The theory is in beyond/lead.py. Two decisions can differ in the lead and in the parting.
The smooth maximum feeds both, matching feeds the parting alone, and how fast they grow is
the network's own matter. Here it is measured. A row has the scores of both decisions
through the training and, on ten seeds, the Gram matrices.

python -m beyond.parting prints what holds of the theory and what the recorded runs say,
and draws parting.png. --variants and --seeds train what is missing.
"""

from dataclasses import replace

import numpy as np
import torch
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

import data
from beyond import lead, runs, stats, sweep
from beyond.lead import COMMON, LEAD, PARTING
from beyond.networks import decide

SEEN = 32  # test images on which scores and Gram matrices are measured
RATES_AT = (0, 5, 10, 20, 30, 40, 60, 80, 120)  # training steps with a Gram matrix
RATES_UP_TO = 10  # Gram matrices are measured on seeds below this
BETA = runs.Settings().beta  # of all rows

# Where |delta_left| or |delta_right| first exceeds this bound, the signs of both are to
# tell how a run ends. The bound was chosen on seeds from 1000 up, of 0.02, 0.05, 0.1 and
# 0.2. The rule was tested on seeds 200 to 259.
BOUND = 0.2
COUNTED = range(20)  # seeds of the counts and of the figure
GROUPS = {
    "0 to 19": COUNTED,
    "200 to 259": range(200, 260),
    "from 1000 up": range(1000, 10**6),
}

VARIANTS = {}
for name in (
    "dual",
    "independent",
    "alike-1e-3",
    "twin-decoders",
    "twin-heads",
    "told-step",
    "mask-only",
    "state-only",
    "recurrent",
):
    VARIANTS[name] = runs.NETWORKS[name]
for name in ("dual", "independent", "twin-heads", "told-step", "recurrent"):
    VARIANTS[f"{name}-matched"] = replace(runs.NETWORKS[name], rule="matched")
RULES = {"soft": "maximum", "matched": "matched"}


def run(variant, seed, settings, device):
    """Train a variant and return the end of its row.

    scores: lists [training steps, 1left, 1right, 2left, 2right], the mean scores of both
    decisions on SEEN test images after so many training steps. gram: the Gram matrix
    after so many training steps, {steps: 4 lists of 4}, on seeds below RATES_UP_TO. The
    rest says how the run ends, as in runs.run.
    """
    settings = variant.settings(settings)
    images, parts = runs.held_out(settings, seed, device)
    images = images[:SEEN]
    truths = data.groupings(parts[:SEEN])
    last = settings.epochs * settings.steps_per_epoch
    often = range(0, 121, 4)
    steps = {0, last, *RATES_AT, *often, *runs.recorded(last)}
    scores = []
    grams = {}

    def look(net, step, masks, parts):
        done = step - 1
        if done in steps:
            with torch.no_grad():
                now = data.score(decide(net, images), truths).mean(0)  # (2, 2)
            scores.append([done, *sweep.rounded(now.flatten().tolist())])
        if done in RATES_AT and seed < RATES_UP_TO:
            gram = lead.gram_matrix(net, images, truths)
            grams[done] = [sweep.rounded(line) for line in gram.tolist()]

    end = runs.run(variant, seed, settings, device, look)
    row = {"scores": scores, "gram": grams}
    for key in ("found", "outcome", "seconds", "oracle_exact", "score"):
        row[key] = end[key]
    return row


# What a row says


def differences(row):
    """Return the path of a run: its recorded training steps, delta_left and delta_right,
    each an array (k,)."""
    steps, left1, right1, left2, right2 = np.array(row["scores"]).T
    return steps, left1 - left2, right1 - right2


def lead_at(row, step):
    """Return by how much decision 1 of a run is ahead of decision 2 after so many
    training steps: (delta_left + delta_right)/2."""
    steps, left, right = differences(row)
    k = list(steps).index(step)
    return (left[k] + right[k]) / 2


def leaves(row):
    """Return when and how a run leaves the middle: the first recorded training step at
    which |delta_left| or |delta_right| exceeds BOUND, and whether their signs are
    opposite then. (None, False) if neither does."""
    steps, left, right = differences(row)
    outside = np.maximum(abs(left), abs(right)) > BOUND
    if not outside.any():
        return None, False
    first = outside.argmax()
    return int(steps[first]), bool(left[first] * right[first] < 0)


def as_predicted(rows):
    """Return how many of these runs end as the signs say: opposite signs predict that
    both groupings are found. A run that never leaves the middle is predicted to fail."""
    right = 0
    for row in rows:
        _, opposite = leaves(row)
        right += opposite == row["found"]
    return right


# What the runs amount to


def rates_table(rows):
    """Return the table of the rates of growth, in Markdown."""
    lines = []
    for name, variant in VARIANTS.items():
        own = runs.lived(rows, name, COUNTED)
        grams = [np.array(row["gram"]["40"]) for row in own if row["gram"]]
        if not grams:
            continue
        found = sum(row["found"] for row in own)
        line = [variant.title, RULES[variant.rule], f"{found}/{len(own)}"]
        for direction in (COMMON, LEAD, PARTING):
            median = np.median([lead.rate(gram, direction) for gram in grams])
            line.append(f"{median:.2g}")
        size = np.median([abs(lead_at(row, 40)) for row in own])
        lines.append([*line, f"{size:.2g}"])
    head = ["network", "rule", "finds both", "common", "lead", "parting"]
    return stats.markdown([*head, "size of the lead"], lines)


def signs_table(rows):
    """Return the table of the rule of the signs, in Markdown."""
    lines = []
    for name, variant in VARIANTS.items():
        for group, seeds in GROUPS.items():
            own = runs.lived(rows, name, seeds)
            if not own:
                continue
            right = as_predicted(own)
            low, high = stats.wilson(right, len(own))
            found = sum(row["found"] for row in own)
            commoner = max(found, len(own) - found)
            times = []
            for row in own:
                step, _ = leaves(row)
                if step is not None:
                    times.append(step)
            when = f"{np.median(times):g}" if times else "-"
            line = [variant.title, RULES[variant.rule], group, f"{right}/{len(own)}"]
            line += [f"{low:.0%} to {high:.0%}", f"{commoner}/{len(own)}"]
            lines.append([*line, when, len(own) - len(times)])
    head = ["network", "rule", "seeds", "ends as the signs say", "95% interval"]
    head += ["commoner end", "leaves at step (median)", "never leaves"]
    return stats.markdown(head, lines)


def summary(rows):
    """Return in sentences what the runs say."""
    lines = []
    for name in ("dual", "dual-matched"):
        own = runs.lived(rows, name, COUNTED)
        found = sum(row["found"] for row in own)
        rule = RULES[VARIANTS[name].rule]
        lines.append(
            f"Two heads, {rule}: {found} of {len(own)} runs find both groupings."
        )
    planned = []
    for name in VARIANTS:
        planned += runs.lived(rows, name, GROUPS["200 to 259"])
    lines.append(
        f"On the planned seeds 200 to 259 {as_predicted(planned)} of {len(planned)} runs "
        "end as the signs of delta say."
    )
    return "\n".join(lines)


# The figure


# How a run ends: its colour, and the marker of its last point.
def draw_plane(ax, rows):
    """Draw the plane of delta_left and delta_right into Axes, and on it the paths of
    these runs, in the colours of their ends."""
    edge = 1.7
    ax.set_xscale("symlog", linthresh=1 / BETA)
    ax.set_yscale("symlog", linthresh=1 / BETA)
    one_ahead = "#f7e6e0"
    each_ahead = "#e3f1ea"
    ax.axvspan(-edge, 0, 0, 0.5, color=one_ahead, lw=0)
    ax.axvspan(-edge, 0, 0.5, 1, color=each_ahead, lw=0)
    ax.axvspan(0, edge, 0, 0.5, color=each_ahead, lw=0)
    ax.axvspan(0, edge, 0.5, 1, color=one_ahead, lw=0)
    where = {"ha": "center", "transform": ax.transAxes, "fontsize": 11}
    ax.text(0.74, 0.95, "1 is ahead for both", **where)
    ax.text(0.26, 0.02, "2 is ahead for both", **where)
    ax.text(0.26, 0.95, "each is ahead for one", **where)
    ax.text(0.74, 0.02, "each is ahead for one", **where)
    for row in sorted(rows, key=lambda row: not row["found"]):  # failures on top
        _, left, right = differences(row)
        colour, marker = runs.ENDS[runs.end_of(row)]
        ax.plot(left, right, color=colour, lw=0.9, alpha=0.5)
        ax.plot(left[-1], right[-1], marker, color=colour, mec="white", mew=0.5, ms=7)
    ticks = (-1, -0.1, 0, 0.1, 1)
    ax.set_xticks(ticks, ticks)
    ax.set_yticks(ticks, ticks)
    ax.set_xlim(-edge, edge)
    ax.set_ylim(-edge, edge)
    ax.set_box_aspect(1)
    ax.set_xlabel("score of decision 1 minus 2, left grouping", fontsize=11)


def plot(rows):
    """Draw the paths of the runs of two heads on the plane, under the maximum and
    matched. Returns the Figure."""
    fig = Figure(figsize=(10, 6.3), layout="constrained")
    axes = fig.subplots(1, 2, sharey=True)
    for ax, key in zip(axes, ("dual", "dual-matched")):
        drawn = runs.lived(rows, key, COUNTED)
        draw_plane(ax, drawn)
        found = sum(row["found"] for row in drawn)
        rule = RULES[VARIANTS[key].rule]
        title = f"Two heads, {rule}: {found} of {len(drawn)} runs find both groupings"
        ax.set_title(title, fontsize=12)
    axes[0].set_ylabel("score of decision 1 minus 2, right grouping", fontsize=11)
    handles = []
    for end, (colour, marker) in runs.ENDS.items():
        if end == "both + both":  # which no run of two heads comes to
            continue
        handles.append(Line2D([], [], color=colour, marker=marker, ms=8, label=end))
    fig.legend(
        handles=handles, loc="outside lower center", ncols=4, frameon=False, fontsize=11
    )
    fig.suptitle(
        "Training starts in the middle: which way do two heads leave?", fontsize=14
    )
    return fig


def report(rows):
    """Return the figure and the text of the runs, see sweep."""
    texts = [
        summary(rows),
        "The theory, held against autograd:\n" + lead.in_words(lead.claims()),
        "How fast common score, lead and parting grow at training step 40, by the Gram "
        f"matrix\n(medians of seeds below {RATES_UP_TO}), and the size of the lead then "
        "(seeds 0 to 19).\n\n" + rates_table(rows),
        f"The signs of delta where one of them first exceeds {BOUND}: opposite signs "
        "predict\nthat both groupings are found.\n\n" + signs_table(rows),
    ]
    return {"parting.png": plot(rows)}, "\n\n".join(texts)


QUESTION = sweep.Question(
    name="parting",
    about=__doc__,
    variants=VARIANTS,
    run=run,
    loss=runs.loss,
    report=report,
    settings=runs.Settings(),
    fixed=runs.FIXED,
    files=("seeds_200_259/parting", "seeds_1000_1009/parting"),
    default=tuple(VARIANTS),
)

if __name__ == "__main__":
    sweep.main(QUESTION)
