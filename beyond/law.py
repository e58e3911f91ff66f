"""One number between the maximum and matching: does it tell which way two decisions leave?

The rule rules.transport feeds a lead 1 / (1 + beta tau) times as much as a parting. This
is the feed ratio: 1 under the maximum, towards 0 under matching. The law says that a
network finds both groupings once the feed ratio is below its own parting : lead rate,
which its Gram matrices tell on other seeds. Six tests of it were planned before the runs
were made. The plan stands in beyond/README.md of commit 97df3ba, the theory in
beyond/lead.py.

python -m beyond.law prints what holds of the theory, the tests and the counts of the
recorded runs, and draws law.png. --variants and --seeds train what is missing.
"""

import math
from collections import Counter
from dataclasses import replace

import numpy as np
import torch
from matplotlib.figure import Figure
from matplotlib.patches import Patch

import data
from beyond import lead, logistic, runs, stats, sweep
from beyond.lead import LEAD, PARTING

FEEDS = (1, 1 / 2, 1 / 4, 1 / 8, 1 / 16, 1 / 32)  # the feed ratios
RATIOS = ("1", "1/2", "1/4", "1/8", "1/16", "1/32")  # in words
SHARPNESS = (25, 100, 400, 1600)  # beta; 100 for all, the others for heads alone
BY_HAND = (-0.1, -0.05, -0.02, 0.02, 0.05, 0.1)  # leads put in by hand
LED_ON = range(300, 310)  # their seeds
ASKED = ("dual", "twin-heads", "independent", "alike-1e-3", "told-step")
HEADS = ("dual", "twin-heads")
TRAINED_ON = range(300, 320)  # the planned seeds
RATES_ON = range(1000, 1010)  # the seeds whose Gram matrices predict
RATES_STEP = 40  # training steps before a Gram matrix
SEEN = 32  # test images on which a Gram matrix is measured
METERED = (10, 40, 80, 160)  # training steps after which the meter is read
DRAWS = 2000  # of the bootstrap over seeds


def key(name, feed, beta=100):
    """Return the key of a network at a feed ratio and a sharpness."""
    return f"{name}-feed-{feed:g}-beta-{beta}"


def at(name, feed, beta):
    """Return a network at a feed ratio and a sharpness, as a variant."""
    network = runs.NETWORKS[name]
    tau = float(f"{lead.tau_of(feed, beta):g}")  # as many digits as rows have
    return replace(
        network,
        title=f"{network.title}, feed ratio 1/{1 / feed:g}, sharpness {beta}",
        rule="transport",
        number=tau,
        other={"beta": float(beta)},
    )


VARIANTS = {}
for name in ASKED:
    for feed in FEEDS:
        for beta in SHARPNESS:
            if name in HEADS or beta == 100:
                VARIANTS[key(name, feed, beta)] = at(name, feed, beta)
for ahead in BY_HAND:
    for rule in ("soft", "matched"):
        VARIANTS[f"led-{ahead:g}-{rule}"] = replace(
            runs.NETWORKS["dual"],
            title=f"two heads, decision 1 ahead by {ahead:g}, {rule}",
            net="Led",
            options={"lead": ahead},
            rule=rule,
        )
for name in ASKED:
    VARIANTS[f"{name}-rates"] = replace(
        runs.NETWORKS[name],
        title=f"{runs.NETWORKS[name].title}, its rates",
        other={"epochs": 1},
    )


def run(variant, seed, settings, device):
    """Train a variant and return the end of its row.

    ends: what each decision ends in, in their order. batches: lists [training steps,
    lead, parting, spread] of the batch before every tenth step, where spread is the mean
    distance of the scores from their mean over the decisions. gram: the Gram matrix at
    the end of a run of one epoch. The rest says how the run ends, as in runs.run.
    """
    settings = variant.settings(settings)
    images, parts = runs.held_out(settings, seed, device)
    images = images[:SEEN]
    truths = data.groupings(parts[:SEEN])
    batches = []
    grams = {}

    def look(net, step, masks, its_parts):
        done = step - 1
        if done % 10 == 0:
            with torch.no_grad():
                now = data.score(masks, data.groupings(its_parts))  # (n, 2, 2)
            left, right = (now[:, 0] - now[:, 1]).mean(0).tolist()
            spread = (now - now.mean(1, keepdim=True)).abs().mean().item()
            three = ((left + right) / 2, (left - right) / 2, spread)
            batches.append([done, *sweep.rounded(three)])
        if settings.epochs == 1 and done == RATES_STEP:
            gram = lead.gram_matrix(net, images, truths)
            grams[done] = [sweep.rounded(line) for line in gram.tolist()]

    end = runs.run(variant, seed, settings, device, look)
    row = {}
    for name in ("found", "outcome", "seconds", "oracle_exact", "score"):
        row[name] = end[name]
    row["ends"] = [decision["outcome"] for decision in end["decisions"]]
    row["batches"] = batches
    row["gram"] = grams
    return row


# What the runs amount to


def cell(rows, name, feed, beta=100):
    """Return the planned runs of a network at a feed ratio and a sharpness."""
    return runs.lived(rows, key(name, feed, beta), TRAINED_ON)


def grid(rows, name, sharpness=SHARPNESS):
    """Return the grid of a network: log2 of feed ratio and sharpness (cells, 2), and
    whether its planned runs find both groupings (seeds, cells), nan where one is not
    there."""
    x = []
    columns = []
    for feed in FEEDS:
        for beta in sharpness:
            column = np.full(len(TRAINED_ON), np.nan)
            for row in cell(rows, name, feed, beta):
                column[row["seed"] - TRAINED_ON.start] = row["found"]
            x.append((math.log2(feed), math.log2(beta)))
            columns.append(column)
    return np.array(x), np.stack(columns, 1)


def rate_ratios(rows, name):
    """Return parting : lead of a network's Gram matrices on RATES_ON, an array."""
    ratios = []
    for row in runs.lived(rows, f"{name}-rates", RATES_ON):
        gram = np.array(row["gram"][str(RATES_STEP)])
        ratios.append(lead.rate(gram, PARTING) / lead.rate(gram, LEAD))
    return np.array(ratios)


def observed_threshold(rows, name):
    """Return the feed ratio at which half of a network's runs succeed, at a sharpness of
    100, and its 95% interval by a bootstrap over seeds: three numbers, of which 0 and
    infinity are possible. None where there are fewer than two cells."""
    x, found = grid(rows, name, (100,))
    x = x[:, 0]
    found = found[~np.isnan(found).all(1)]  # of the seeds that have a run
    there = ~np.isnan(found)  # (seeds, cells)
    found = np.nan_to_num(found)
    if there.any(0).sum() < 2:
        return None
    half = logistic.half_at(x, found.sum(0), there.sum(0))
    n = len(found)
    drawn = np.random.default_rng(0).multinomial(n, [1 / n] * n, DRAWS)  # (draws, n)
    sample = logistic.half_at(x, drawn @ found, drawn @ there)  # (draws,)
    low, high = np.quantile(sample, (0.025, 0.975), method="inverted_cdf")
    return 2**half, 2**low, 2**high


def one_alone(row):
    """Return which decision, 1 or 2, is the only one that a run has learned, or 0."""
    learned = [end != "unlearned" for end in row["ends"]]
    if sum(learned) != 1:
        return 0
    return 1 + learned.index(True)


# The planned tests: lists [what is tested, runs, estimate, p]; p is None where the runs
# are not there yet.


def slope_test(rows, name, what, column, sharpness=SHARPNESS):
    """Return the likelihood ratio test of one coefficient of the logistic regression of
    success: 0 is that of the feed ratio, 1 that of the sharpness."""
    x, found = grid(rows, name, sharpness)
    if len(sharpness) == 1:
        x = x[:, [0]]
    trials = (~np.isnan(found)).sum(0)  # (cells,)
    text = f"{runs.NETWORKS[name].title}, {what}"
    if not logistic.determined(x[trials > 0]):  # too few cells so far
        return [text, trials.sum(), "-", None]
    successes = np.nansum(found, 0)
    estimate, p = logistic.ratio_test(x, successes, trials, column)
    said = f"{estimate:+.2f} a doubling"
    if len(sharpness) > 1:
        coefficients, _ = logistic.fit(x, successes, trials)
        said += f", of the other {coefficients[2 - column]:+.2f}"
        # Not planned: is the sum of both logarithms, which is that of 1/tau, enough?
        together = x.sum(1, keepdims=True)
        _, one = logistic.fit(together, successes, trials)
        _, two = logistic.fit(x, successes, trials)
        gain = max(0.0, 2 * float(two - one))
        said += f"; equal, not planned: p = {math.erfc(math.sqrt(gain / 2)):.2g}"
    return [text, trials.sum(), said, p]


def mcnemar(first, second):
    """Return p of the exact McNemar test, of how many pairs say yes in the first alone
    and how many in the second alone."""
    n = first + second
    tail = sum(math.comb(n, k) for k in range(min(first, second) + 1))
    return min(1.0, 2 * tail / 2**n)


def led_test(rows):
    """Return the test on pairs of one seed, under the maximum: is decision 1 the only one
    that is learned if it is put ahead by 0.1, and if decision 2 is?"""
    text = "lead by hand, 0.1 against -0.1: decision 1 is the only one learned"
    behind = {}
    for row in runs.lived(rows, "led--0.1-soft", LED_ON):
        behind[row["seed"]] = one_alone(row) == 1
    pairs = Counter()
    for row in runs.lived(rows, "led-0.1-soft", LED_ON):
        if row["seed"] in behind:
            pairs[one_alone(row) == 1, behind[row["seed"]]] += 1
    n = pairs.total()
    if not n:
        return [text, 0, "-", None]
    ahead_alone = pairs[True, False]
    behind_alone = pairs[False, True]
    either = pairs[True, True]
    estimate = f"{ahead_alone + either} against {behind_alone + either} of {n}"
    return [text, 2 * n, estimate, mcnemar(ahead_alone, behind_alone)]


def tests(rows):
    """Return the six planned tests."""
    return [
        slope_test(rows, "dual", "sharpness 100: feed ratio", 0, (100,)),
        slope_test(rows, "independent", "sharpness 100: feed ratio", 0, (100,)),
        slope_test(rows, "twin-heads", "all: sharpness", 1),
        slope_test(rows, "twin-heads", "all: feed ratio", 0),
        slope_test(rows, "dual", "all: sharpness (the law says 0)", 1),
        led_test(rows),
    ]


# Tables


def tests_table(rows):
    """Return the table of the planned tests, in Markdown. A test that cannot be made yet
    counts as p = 1 in Holm's correction."""
    found = tests(rows)
    corrected = stats.holm([1.0 if test[3] is None else test[3] for test in found])
    lines = []
    for number, (text, count, estimate, p) in enumerate(found, 1):
        line = [number, text, count, estimate]
        if p is None:
            line += ["-", "-"]
        else:
            line += [f"{p:.2g}", f"{corrected[number - 1]:.2g}"]
        lines.append(line)
    return stats.markdown(["", "planned", "runs", "estimate", "p", "Holm"], lines)


def as_ratio(x):
    """Return a feed ratio as people read it, as in 1/11."""
    if x > FEEDS[0]:
        return "above 1"
    if x < FEEDS[-1]:
        return "below 1/32"
    return f"1/{1 / x:.3g}"


def thresholds_table(rows):
    """Return the table of predicted and observed thresholds, in Markdown."""
    lines = []
    for name in ASKED:
        ratios = rate_ratios(rows, name)
        observed = observed_threshold(rows, name)
        line = [runs.NETWORKS[name].title, "-", "-", "-", "-", "-"]
        if len(ratios):
            predicted = np.median(ratios)
            line[1] = as_ratio(predicted)
            line[2] = f"{as_ratio(ratios.min())} to {as_ratio(ratios.max())}"
        if observed is not None:
            half, low, high = observed
            line[3] = as_ratio(half)
            line[4] = f"{as_ratio(low)} to {as_ratio(high)}"
        if len(ratios) and observed is not None:
            line[5] = "yes" if low <= predicted <= high else "no"
        lines.append(line)
    head = ["network", "predicted", "its seeds", "observed", "95% interval"]
    return stats.markdown([*head, "the prediction is in it"], lines)


def counts_table(rows):
    """Return the table of how many runs find both groupings, and what failures end in, in
    Markdown: a line a network and sharpness, a column a feed ratio."""
    lines = []
    for name in ASKED:
        for beta in SHARPNESS:
            line = [runs.NETWORKS[name].title, beta]
            for feed in FEEDS:
                own = cell(rows, name, feed, beta)
                ends = Counter(runs.end_of(row) for row in own)
                found = ends["both groupings"]
                unlearned = ends["one decision unlearned"]
                other = len(own) - found - unlearned
                text = f"{found}/{len(own)} ({unlearned}, {other})"
                line.append(text if own else "-")
            if line[2:] != ["-"] * len(FEEDS):
                lines.append(line)
    return stats.markdown(["network", "sharpness", *RATIOS], lines)


def led_table(rows):
    """Return the table of the leads put in by hand, in Markdown."""
    lines = []
    for rule in ("soft", "matched"):
        for ahead in BY_HAND:
            own = runs.lived(rows, f"led-{ahead:g}-{rule}", LED_ON)
            if not own:
                continue
            put_ahead = 1 if ahead > 0 else 2
            alone = Counter(one_alone(row) for row in own)
            found = sum(row["found"] for row in own)
            line = ["maximum" if rule == "soft" else "matched", f"{ahead:+g}"]
            for count in (alone[put_ahead], alone[3 - put_ahead], found):
                line.append(f"{count}/{len(own)}")
            lines.append(line)
    head = ["rule", "lead of decision 1", "only the one put ahead is learned"]
    return stats.markdown([*head, "only the other", "finds both"], lines)


def readings(row):
    """Return what the meter of ambiguous_loss.py reads in a run, lists [training steps,
    lead]: a lead of 1 means that one decision is ahead for every image and grouping."""
    pairs = []
    for step, ahead, _, spread in row["batches"]:
        if step in METERED:
            pairs.append([step, abs(ahead) / max(2 * spread, 1e-12)])
    return pairs


def meter_table(rows):
    """Return how well the meter tells a decision that ends unlearned, a table in
    Markdown, of the runs of all feed ratios."""
    dead = []
    others = []
    for name, variant in VARIANTS.items():
        if variant.rule == "transport":
            for row in runs.lived(rows, name, TRAINED_ON):
                if runs.end_of(row) == "one decision unlearned":
                    dead.append(readings(row))
                else:
                    others.append(readings(row))
    return stats.alarms(dead, others)


# The figure

COLOURS = [colour for colour, _ in runs.ENDS.values()]


def draw_diagram(ax, rows, name):
    """Draw the phase diagram of a network into Axes: a pie a feed ratio and sharpness,
    whose parts are what the runs end in, and below it how many find both."""
    for i, feed in enumerate(FEEDS):
        for j, beta in enumerate(SHARPNESS):
            own = cell(rows, name, feed, beta)
            if not own:
                continue
            ends = Counter(runs.end_of(row) for row in own)
            ax.pie(
                [ends[end] for end in runs.ENDS],
                colors=COLOURS,
                center=(i, j),
                radius=0.3,
                startangle=90,
                counterclock=False,
                frame=True,
            )
            text = f"{ends['both groupings']}/{len(own)}"
            on_white = {"fc": "white", "ec": "none", "pad": 0.5}
            ax.text(i, j - 0.5, text, ha="center", fontsize=9.5, bbox=on_white)
    ratios = rate_ratios(rows, name)
    if len(ratios):
        place = -math.log2(np.median(ratios))
        ax.axvline(place, color="0.3", ls="--", lw=1.2, zorder=0)
        ax.text(place, len(SHARPNESS) - 0.45, "predicted", ha="center", fontsize=10)
    ax.set_xlim(-0.5, len(FEEDS) - 0.5)
    ax.set_ylim(-0.6, len(SHARPNESS) - 0.5)
    ax.set_aspect("equal")
    ax.set_xticks(range(len(FEEDS)), RATIOS, fontsize=10)
    ax.set_yticks(range(len(SHARPNESS)), SHARPNESS, fontsize=10)
    ax.set_xlabel("feed ratio: how much a lead is fed for a parting", fontsize=10)
    ax.set_title(runs.NETWORKS[name].title + "\n", fontsize=12)


def plot(rows):
    """Draw the phase diagrams of two heads and of twin heads. Returns the Figure."""
    fig = Figure(figsize=(10, 5), layout="constrained")
    left, right = fig.subplots(1, 2)
    draw_diagram(left, rows, "dual")
    draw_diagram(right, rows, "twin-heads")
    left.set_ylabel("sharpness", fontsize=10)
    handles = []
    for end, colour in zip(runs.ENDS, COLOURS):
        handles.append(Patch(fc=colour, label=end))
    fig.legend(
        handles=handles,
        title="What runs end in (below: how many find both groupings)",
        loc="outside lower center",
        ncols=4,
        frameon=False,
        fontsize=10,
    )
    title = "Two ways to fail: does balance cure the one and sharpness the other?"
    fig.suptitle(title, fontsize=13)
    return fig


def summary(rows):
    """Return in sentences what the runs say, and whether some are still missing."""
    lines = []
    for name in ("dual", "independent"):
        observed = observed_threshold(rows, name)
        ratios = rate_ratios(rows, name)
        if observed is not None and len(ratios):
            half, low, high = observed
            lines.append(
                f"{runs.NETWORKS[name].title}: half of the runs succeed at "
                f"a feed ratio of {as_ratio(half)} ({as_ratio(low)} to {as_ratio(high)})"
                f"; predicted is {as_ratio(np.median(ratios))}."
            )
    between = sum(variant.rule == "transport" for variant in VARIANTS.values())
    planned = between * len(TRAINED_ON) + (len(VARIANTS) - between) * 10
    there = sum("error" not in row for row in rows.values())
    if there < planned:
        lines.append(f"{there} of the {planned} planned runs were made.")
    return "\n".join(lines)


def report(rows):
    """Return the figure and the text of the runs, see sweep."""
    texts = [
        summary(rows),
        "The theory, held against the rule:\n" + lead.in_words(lead.claims_between()),
        "The six planned tests: likelihood ratio tests of logistic slopes in log2 of feed "
        "ratio\nand sharpness, and an exact McNemar test.\n\n" + tests_table(rows),
        "The feed ratio at which half of the runs succeed at a sharpness of 100: "
        "predicted from\nthe Gram matrices of seeds 1000 to 1009, and observed, with a "
        f"bootstrap over seeds ({DRAWS} draws).\n\n" + thresholds_table(rows),
        "Runs that find both groupings, by feed ratio (in brackets: a decision unlearned; "
        "both + both\nor other).\n\n" + counts_table(rows),
        "Two heads with a lead put in by hand.\n\n" + led_table(rows),
        "A meter: does a large lead tell that a decision ends unlearned?\n\n"
        + meter_table(rows),
    ]
    return {"law.png": plot(rows)}, "\n\n".join(texts)


QUESTION = sweep.Question(
    name="law",
    about=__doc__,
    variants=VARIANTS,
    run=run,
    loss=runs.loss,
    report=report,
    settings=runs.Settings(),
    fixed=runs.FIXED,
    default=tuple(VARIANTS),
)

if __name__ == "__main__":
    sweep.main(QUESTION)
