"""Why two heads starve, why two passes part, and why matching parts anything.

The theory is in beyond/lead.py. Two decisions can differ in the lead and in the parting.
The smooth maximum feeds both, matching feeds the parting alone, and how fast they grow is
the network's own matter. Here it is measured. A row has the scores of both decisions
through the training and, on ten seeds, the Gram matrices.

python -m beyond.parting prints what holds of the theory and what the recorded runs say,
and draws parting.png. --variants and --seeds train what is missing.
"""

from collections import Counter
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
LEADS_AT = (40, 120, 400)  # training steps whose leads are in the table
BETA = runs.Settings().beta  # of all rows

# Where |delta_left| or |delta_right| first exceeds this bound, the signs of both are to
# tell how a run ends. The bound was chosen on seeds from 1000 up, of 0.02, 0.05, 0.1 and
# 0.2. The rule was tested on seeds 200 to 259.
BOUND = 0.2
GROUPS = {
    "0 to 19": range(20),
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


def leaves(row, bound=BOUND):
    """Return when and how a run leaves the middle: the first recorded training step at
    which |delta_left| or |delta_right| exceeds the bound, and whether their signs are
    opposite then. (None, False) if neither does."""
    steps, left, right = differences(row)
    outside = np.maximum(abs(left), abs(right)) > bound
    if not outside.any():
        return None, False
    first = outside.argmax()
    return int(steps[first]), bool(left[first] * right[first] < 0)


def as_predicted(rows, bound=BOUND):
    """Return how many of these runs end as the signs say: opposite signs predict that
    both groupings are found. A run that never leaves the middle is predicted to fail."""
    right = 0
    for row in rows:
        _, opposite = leaves(row, bound)
        right += opposite == row["found"]
    return right


def rates(row):
    """Return the rates of a run, {training step: (common, lead, parting)}: its Gram
    matrices along the three directions."""
    along = {}
    for step, gram in row["gram"].items():
        gram = np.array(gram)
        directions = (COMMON, LEAD, PARTING)
        along[int(step)] = [lead.rate(gram, direction) for direction in directions]
    return along


def ratios_near_0(rows):
    """Return lead : common and parting : lead, medians over all Gram matrices of these
    runs that were measured while both |delta| were below 1/beta. None if none was."""
    near = []
    for row in rows:
        steps, left, right = differences(row)
        size = np.maximum(abs(left), abs(right))
        for step, (common, of_lead, of_parting) in rates(row).items():
            if size[list(steps).index(step)] < 1 / BETA:
                near.append((of_lead / common, of_parting / of_lead))
    return np.median(near, 0) if near else None


def drive_and_feed(row, step):
    """Return what moves lead and parting of a run under the maximum after so many
    training steps: the drive (2,), which is there if all scores are equal, and (2,) what
    the maximum feeds beyond it. Both are by the Gram matrix, see lead.growth()."""
    steps, left, right = differences(row)
    k = list(steps).index(step)
    gram = np.array(row["gram"][str(step)])
    lead_slope, parting_slope = lead.pulls(left[k], right[k], "maximum", BETA)
    directions = np.stack((LEAD, PARTING))
    drive = directions @ gram @ COMMON / 2
    fed = directions @ gram @ (lead_slope * LEAD + parting_slope * PARTING)
    return drive, fed


# What the runs amount to


def lived(rows, name):
    """Return the runs of a variant that did not die, by seed."""
    return [row for row in sweep.of(rows, name) if "error" not in row]


def counted(rows, name):
    """Return the runs of a variant that are counted and drawn. The seeds on which the
    signs were chosen and tested are not, unless there are no others."""
    every = lived(rows, name)
    others = []
    for row in every:
        if row["seed"] not in GROUPS["200 to 259"] and row["seed"] < 1000:
            others.append(row)
    return others or every


def name_of(variant):
    """Return the first two cells of a variant's lines in tables: network and rule."""
    return [variant.title, RULES[variant.rule]]


def rates_table(rows):
    """Return the table of the rates, in Markdown."""
    lines = []
    for name, variant in VARIANTS.items():
        own = counted(rows, name)
        measured = [row for row in own if row["gram"]]
        if not measured:
            continue
        found = sum(row["found"] for row in own)
        near = ratios_near_0(measured)
        at_40 = np.median([rates(row)[40] for row in measured], 0)
        cells = name_of(variant) + [f"{found}/{len(own)}"]
        cells += ["-", "-"] if near is None else [f"{ratio:.2g}" for ratio in near]
        cells += [f"{rate:.2g}" for rate in at_40]
        lines.append(cells)
    head = ["network", "rule", "finds both", "lead : common near 0"]
    head += ["parting : lead near 0", "common at step 40", "lead", "parting"]
    return stats.markdown(head, lines)


def leads_table(rows):
    """Return the table of the leads, in Markdown."""
    lines = []
    for name, variant in VARIANTS.items():
        own = counted(rows, name)
        if not own:
            continue
        cells = name_of(variant)
        for step in LEADS_AT:
            size = np.median([abs(lead_at(row, step)) for row in own])
            cells.append(f"{size:.2g}")
        starved = [row for row in own if "unlearned" in row["outcome"]]
        for step in (0, 5):
            same = 0
            for row in starved:
                same += lead_at(row, step) * lead_at(row, LEADS_AT[-1]) > 0
            cells.append(f"{same}/{len(starved)}" if starved else "-")
        lines.append(cells)
    head = ["network", "rule"]
    head += [f"lead at step {step}" for step in LEADS_AT]
    head += ["the last leader is ahead at step 0", "at step 5"]
    return stats.markdown(head, lines)


def drives_table(rows):
    """Return the table that holds the drive of lead and parting against what the maximum
    feeds, in Markdown."""
    lines = []
    for name, variant in VARIANTS.items():
        measured = [row for row in counted(rows, name) if row["gram"]]
        if variant.rule != "soft" or not measured:
            continue
        cells = [variant.title]
        for direction in (0, 1):
            for step in (10, 40):
                more = 0
                for row in measured:
                    drive, fed = drive_and_feed(row, step)
                    more += abs(fed[direction]) > abs(drive[direction])
                cells.append(f"{more}/{len(measured)}")
        lines.append(cells)
    head = ["network", "lead, step 10", "step 40", "parting, step 10", "step 40"]
    return stats.markdown(head, lines)


def signs_table(rows):
    """Return the table of the rule of the signs, in Markdown."""
    lines = []
    for name, variant in VARIANTS.items():
        for group, seeds in GROUPS.items():
            own = [row for row in lived(rows, name) if row["seed"] in seeds]
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
            cells = name_of(variant) + [group, f"{right}/{len(own)}"]
            cells += [f"{low:.0%} to {high:.0%}", f"{commoner}/{len(own)}"]
            lines.append(cells + [when, str(len(own) - len(times))])
    head = ["network", "rule", "seeds", "ends as the signs say", "95% interval"]
    head += ["commoner end", "leaves at step (median)", "never leaves"]
    return stats.markdown(head, lines)


# The figure

# How a run ends: its colour, and the marker of its last point.
ENDS = {
    "both groupings": ("#00806a", "o"),
    "one decision unlearned": ("#c0143c", "X"),
    "both + both": ("#ff8c0a", "s"),
    "something else": ("0.4", "v"),
}


def end_of(row):
    """Return which of ENDS a run comes to."""
    if row["found"]:
        return "both groupings"
    if "unlearned" in row["outcome"]:
        return "one decision unlearned"
    if row["outcome"] == "both + both":
        return "both + both"
    return "something else"


def stretched(delta):
    """Return the place of a delta on an axis that is linear below 1/beta and logarithmic
    beyond."""
    return np.sign(delta) * np.log10(1 + BETA * abs(delta))


def draw_plane(ax, rows):
    """Draw the plane of delta_left and delta_right into Axes, and on it the paths of
    these runs, in the colours of their ends."""
    edge = float(stretched(1.7))
    lead_side = "#f7e6e0"  # where one decision is ahead for both groupings
    parting_side = "#e3f1ea"  # where each is ahead for one
    ax.fill_between((0, edge), 0, edge, color=lead_side, lw=0)
    ax.fill_between((-edge, 0), -edge, 0, color=lead_side, lw=0)
    ax.fill_between((-edge, 0), 0, edge, color=parting_side, lw=0)
    ax.fill_between((0, edge), -edge, 0, color=parting_side, lw=0)
    good = [row for row in rows if row["found"]]
    failed = [row for row in rows if not row["found"]]
    for row in good + failed:  # failures are drawn on top
        _, left, right = differences(row)
        x = stretched(left)
        y = stretched(right)
        colour, marker = ENDS[end_of(row)]
        ax.plot(x, y, color=colour, lw=0.9, alpha=0.5)
        ax.plot(x[-1], y[-1], marker, color=colour, mec="white", mew=0.5, ms=7)
    where = {"ha": "center", "va": "center", "fontsize": 11, "color": "0.25"}
    far = 0.37 * edge
    ax.text(far, 0.93 * edge, "1 ahead for both", **where)
    ax.text(-far, -0.93 * edge, "2 ahead for both", **where)
    ax.text(-far, 0.93 * edge, "each ahead for one", **where)
    ax.text(far, -0.93 * edge, "each ahead for one", **where)
    ticks = np.array([-1, -0.1, 0, 0.1, 1])
    labels = [f"{tick:g}" for tick in ticks]
    ax.set_xticks(stretched(ticks), labels)
    ax.set_yticks(stretched(ticks), labels)
    ax.axhline(0, color="black", lw=0.8)
    ax.axvline(0, color="black", lw=0.8)
    ax.set_xlim(-edge, edge)
    ax.set_ylim(-edge, edge)
    ax.set_aspect("equal")
    ax.set_xlabel("score of decision 1 minus 2, if left is true", fontsize=11)


def plot(rows):
    """Draw the paths of the runs on the plane, under the maximum and matched. Returns the
    Figure."""
    fig = Figure(figsize=(10, 6.1), layout="constrained")
    maximum, matched = fig.subplots(1, 2, sharey=True)
    for ax, rule in ((maximum, "soft"), (matched, "matched")):
        drawn = []
        for name, variant in VARIANTS.items():
            if variant.rule == rule:
                drawn += counted(rows, name)
        draw_plane(ax, drawn)
        ends = Counter(end_of(row) for row in drawn)
        found = ends["both groupings"]
        title = f"{RULES[rule]}: {found} of {len(drawn)} runs find both"
        ax.set_title(title.capitalize(), fontsize=12)
    maximum.set_ylabel("score of decision 1 minus 2, if right is true", fontsize=11)
    handles = []
    for end, (colour, marker) in ENDS.items():
        handles.append(Line2D([], [], color=colour, marker=marker, ms=8, label=end))
    fig.legend(
        handles=handles, loc="outside lower center", ncols=4, frameon=False, fontsize=11
    )
    fig.suptitle(
        "Training starts in the middle: which way do two decisions leave?", fontsize=14
    )
    return fig


def summary(rows):
    """Return in sentences what the runs say."""
    lines = []
    for name in ("dual", "dual-matched"):
        own = counted(rows, name)
        if own:
            found = sum(row["found"] for row in own)
            rule = RULES[VARIANTS[name].rule]
            lines.append(
                f"Two heads, {rule}: {found} of {len(own)} runs find both groupings."
            )
    tested = []
    for name in VARIANTS:
        for row in lived(rows, name):
            if row["seed"] in GROUPS["200 to 259"]:
                tested.append(row)
    if tested:
        right = as_predicted(tested)
        text = f"{right} of {len(tested)} end as the signs of delta say."
        lines.append(f"Of the runs on seeds 200 to 259, which were planned, {text}")
    return "\n".join(lines)


def report(rows):
    """Return the figure and the text of the runs, see sweep."""
    texts = [
        summary(rows),
        "The theory, held against autograd:\n" + lead.in_words(lead.claims()),
        "Rates: the Gram matrix along common, lead and parting, medians of seeds below "
        f"{RATES_UP_TO}.\n'Near 0' is while both |delta| are below 1/beta.\n\n"
        + rates_table(rows),
        "Leads: their size, medians. Of the runs that end with a decision unlearned, in "
        "how many\nthe decision that is ahead at the end was ahead before.\n\n"
        + leads_table(rows),
        "Under the maximum, in how many runs what it feeds exceeds the drive, by size."
        "\n\n" + drives_table(rows),
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
