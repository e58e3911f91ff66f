"""One number between the maximum and matching: does it tell which way two decisions leave?

The rule rules.transport feeds a lead 1 / (1 + beta tau) times as much as a parting. This
is the feed ratio: 1 under the maximum, towards 0 under matching. The law says that a
network finds both groupings once the feed ratio is below its own parting : lead rate,
which its Gram matrices tell on other seeds. Six tests of it were planned before the runs
were made. The plan stands in beyond/README.md, the theory in beyond/lead.py.

python -m beyond.law prints what holds of the theory, the tests and the counts of the
recorded runs, and draws law.png. --variants and --seeds train what is missing.
"""

import math
from collections import Counter
from dataclasses import replace

import numpy as np
import torch
from matplotlib.figure import Figure
from matplotlib.patches import Circle, Patch, Wedge

import data
from beyond import lead, logistic, runs, stats, sweep
from beyond.lead import LEAD, PARTING
from beyond.networks import decide

FEEDS = (1, 1 / 2, 1 / 4, 1 / 8, 1 / 16, 1 / 32)  # the feed ratios
SHARPNESS = (25, 100, 400, 1600)  # beta; 100 for all, the others for heads alone
BY_HAND = (-0.1, -0.05, -0.02, 0.02, 0.05, 0.1)  # leads put in by hand
ASKED = ("dual", "twin-heads", "independent", "alike-1e-3", "told-step")
HEADS = ("dual", "twin-heads")
TRAINED_ON = range(300, 320)  # the planned seeds
RATES_ON = range(1000, 1010)  # the seeds whose Gram matrices predict
RATES_STEP = 40  # training steps before a Gram matrix

SEEN = 32  # test images on which scores and Gram matrices are measured
LOOK_AT = {0, 5, 10, 20, 30, 40, 60, 80, 100, 120, 160, 200, 300, 400}
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

    ends: what each decision ends in, in their order. scores: lists [training steps,
    1left, 1right, 2left, 2right], the mean scores on SEEN test images after so many
    training steps. batches: lists [training steps, lead, parting, spread] of the batch
    before every tenth step, where spread is the mean distance of the scores from their
    mean over the decisions. gram: the Gram matrix at the end of a run of one epoch. The
    rest says how the run ends, as in runs.run.
    """
    settings = variant.settings(settings)
    images, parts = runs.held_out(settings, seed, device)
    images = images[:SEEN]
    truths = data.groupings(parts[:SEEN])
    scores = []
    batches = []
    grams = {}

    def look(net, step, masks, its_parts):
        done = step - 1
        if done in LOOK_AT:
            with torch.no_grad():
                now = data.score(decide(net, images), truths).mean(0)  # (2, 2)
            scores.append([done, *sweep.rounded(now.flatten().tolist())])
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
    row["scores"] = scores
    row["batches"] = batches
    row["gram"] = grams
    return row


# What the runs amount to


def lived(rows, name):
    """Return the runs of a variant that did not die, by seed."""
    return [row for row in sweep.of(rows, name) if "error" not in row]


def end_of(row):
    """Return which of ENDS a run comes to."""
    if row["found"]:
        return "both groupings"
    if "unlearned" in row["outcome"]:
        return "a decision unlearned"
    return "both + both or other"


def cells_of(rows, name):
    """Return the cells of a network's grid that have runs: log2 of the feed ratios and of
    the sharpness (cells, 2), successes (cells,) and trials (cells,)."""
    x = []
    successes = []
    trials = []
    for feed in FEEDS:
        for beta in SHARPNESS:
            own = lived(rows, key(name, feed, beta))
            if own:
                x.append((math.log2(feed), math.log2(beta)))
                successes.append(sum(row["found"] for row in own))
                trials.append(len(own))
    return np.array(x).reshape(-1, 2), np.array(successes), np.array(trials)


def at_100(rows, name):
    """Return the same for a sharpness of 100 alone, with x (cells,): log2 of the feed
    ratios."""
    x, successes, trials = cells_of(rows, name)
    here = x[:, 1] == math.log2(100)
    return x[here, 0], successes[here], trials[here]


def rate_ratios(rows, name):
    """Return parting : lead of a network's Gram matrices on RATES_ON, an array."""
    ratios = []
    for row in lived(rows, f"{name}-rates"):
        if row["seed"] in RATES_ON:
            gram = np.array(row["gram"][str(RATES_STEP)])
            ratios.append(lead.rate(gram, PARTING) / lead.rate(gram, LEAD))
    return np.array(ratios)


def observed_threshold(rows, name, draws=DRAWS):
    """Return the feed ratio at which half of a network's runs succeed, at a sharpness of
    100, and its 95% interval by a bootstrap over seeds: three numbers, of which 0 and
    infinity are possible. None where there are fewer than two cells."""
    x, successes, trials = at_100(rows, name)
    if len(x) < 2:
        return None
    seeds = set()
    for feed in FEEDS:
        seeds.update(row["seed"] for row in lived(rows, key(name, feed)))
    places = {seed: k for k, seed in enumerate(sorted(seeds))}
    found = np.zeros((len(places), len(x)))
    there = np.zeros((len(places), len(x)))
    for cell, log_feed in enumerate(x):
        for row in lived(rows, key(name, 2**log_feed)):
            found[places[row["seed"]], cell] = row["found"]
            there[places[row["seed"]], cell] = 1
    generator = np.random.default_rng(0)
    drawn = generator.multinomial(len(places), [1 / len(places)] * len(places), draws)
    sample = logistic.half_at(x, drawn @ found, drawn @ there)  # (draws,)
    low, high = np.quantile(sample, (0.025, 0.975), method="inverted_cdf")
    return 2 ** float(logistic.half_at(x, successes, trials)), 2**low, 2**high


def one_alone(row):
    """Return which decision, 1 or 2, is the only one that a run has learned, or 0."""
    learned = [end != "unlearned" for end in row["ends"]]
    if sum(learned) != 1:
        return 0
    return 1 + learned.index(True)


def mcnemar(pairs):
    """Return p of the exact McNemar test for pairs of two truth values each."""
    first = sum(a and not b for a, b in pairs)
    second = sum(b and not a for a, b in pairs)
    n = first + second
    tail = sum(math.comb(n, k) for k in range(min(first, second) + 1))
    return min(1.0, 2 * tail / 2**n)


def led_pairs(rows):
    """Return for each seed with both runs whether decision 1 is the only one learned, if
    it was put ahead by 0.1 and if decision 2 was, under the maximum."""
    other = {row["seed"]: row for row in lived(rows, "led--0.1-soft")}
    pairs = []
    for row in lived(rows, "led-0.1-soft"):
        if row["seed"] in other:
            pair = (one_alone(row) == 1, one_alone(other[row["seed"]]) == 1)
            pairs.append(pair)
    return pairs


def tests(rows):
    """Return the six planned tests, as lists [what is tested, runs, estimate, p]; p is
    None where the runs are not there yet."""
    found = []

    def coefficient(text, x, successes, trials, column):
        if not logistic.determined(x):  # too few cells so far
            found.append([text, int(sum(trials)), "", None])
            return
        estimate, p = logistic.ratio_test(x, successes, trials, column)
        found.append([text, int(sum(trials)), f"{estimate:+.2f} a doubling", p])

    for name in ("dual", "independent"):
        x, successes, trials = at_100(rows, name)
        text = f"{runs.NETWORKS[name].title}, sharpness 100: feed ratio"
        coefficient(text, x[:, None], successes, trials, 0)
    text = f"{runs.NETWORKS['twin-heads'].title}, all: sharpness"
    coefficient(text, *cells_of(rows, "twin-heads"), 1)
    text = f"{runs.NETWORKS['twin-heads'].title}, all: feed ratio"
    coefficient(text, *cells_of(rows, "twin-heads"), 0)
    text = f"{runs.NETWORKS['dual'].title}, all: sharpness (the law says 0)"
    coefficient(text, *cells_of(rows, "dual"), 1)

    pairs = led_pairs(rows)
    text = "lead by hand, 0.1 against -0.1: decision 1 is the only one learned"
    if pairs:
        first = sum(a for a, _ in pairs)
        second = sum(b for _, b in pairs)
        estimate = f"{first} against {second} of {len(pairs)}"
        found.append([text, 2 * len(pairs), estimate, mcnemar(pairs)])
    else:
        found.append([text, 0, "", None])
    return found


# Tables


def tests_table(rows):
    """Return the table of the planned tests, in Markdown. A test that cannot be made yet
    counts as p = 1 in Holm's correction."""
    found = tests(rows)
    corrected = stats.holm([1.0 if p is None else p for _, _, _, p in found])
    lines = []
    for number, test in enumerate(found, 1):
        text, count, estimate, p = test
        line = [number, text, count, estimate or "-"]
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
        predicted = np.median(ratios) if len(ratios) else None
        line = [runs.NETWORKS[name].title]
        if predicted is None:
            line += ["-", "-"]
        else:
            low = as_ratio(ratios.min())
            high = as_ratio(ratios.max())
            line += [as_ratio(predicted), f"{low} to {high}"]
        if observed is None:
            line += ["-", "-", "-"]
        else:
            half, low, high = observed
            inside = predicted is not None and low <= predicted <= high
            line += [as_ratio(half), f"{as_ratio(low)} to {as_ratio(high)}"]
            line.append("yes" if inside else "no")
        lines.append(line)
    head = ["network", "predicted", "its seeds", "observed", "95% interval"]
    return stats.markdown(head + ["the prediction is in it"], lines)


def counts_table(rows):
    """Return the table of how many runs find both groupings, and what failures end in, in
    Markdown: a line a network and sharpness, a column a feed ratio."""
    lines = []
    for name in ASKED:
        for beta in SHARPNESS:
            line = [runs.NETWORKS[name].title, beta]
            for feed in FEEDS:
                own = lived(rows, key(name, feed, beta))
                ends = Counter(end_of(row) for row in own)
                text = f"{ends['both groupings']}/{len(own)}"
                unlearned = ends["a decision unlearned"]
                other = ends["both + both or other"]
                line.append(f"{text} ({unlearned}, {other})" if own else "-")
            if line[2:] != ["-"] * len(FEEDS):
                lines.append(line)
    head = ["network", "sharpness"] + [f"1/{1 / feed:g}" for feed in FEEDS]
    return stats.markdown(head, lines)


def led_table(rows):
    """Return the table of the leads put in by hand, in Markdown."""
    lines = []
    for rule in ("soft", "matched"):
        for ahead in BY_HAND:
            own = lived(rows, f"led-{ahead:g}-{rule}")
            if not own:
                continue
            put_ahead = 1 if ahead > 0 else 2
            follows = sum(one_alone(row) == put_ahead for row in own)
            against = sum(one_alone(row) == 3 - put_ahead for row in own)
            found = sum(row["found"] for row in own)
            rule_name = "maximum" if rule == "soft" else "matched"
            counts = [f"{k}/{len(own)}" for k in (follows, against, found)]
            lines.append([rule_name, f"{ahead:+g}", *counts])
    head = ["rule", "lead of decision 1", "only the one put ahead is learned"]
    return stats.markdown(head + ["only the other", "finds both"], lines)


# A meter


def meter(row):
    """Return how much of the difference between the decisions of a run is lead: the
    recorded training steps (k,), and |lead| / spread of their batches (k,), from 0 to 2,
    where 2 means that one decision is ahead for every image and grouping."""
    steps, ahead, _, spread = np.array(row["batches"]).T
    return steps.astype(int), abs(ahead) / np.maximum(spread, 1e-12)


def alarms(rows, step, threshold):
    """Return what an alarm at a training step tells, where the meter is above a
    threshold, of runs that end with a decision unlearned: how many of them it tells, how
    many there are, how many of the others it alarms at, how many there are."""
    told = dead = false = others = 0
    for row in rows:
        steps, values = meter(row)
        alarm = bool(values[list(steps).index(step)] > threshold)
        if "unlearned" in row["outcome"]:
            dead += 1
            told += alarm
        else:
            others += 1
            false += alarm
    return told, dead, false, others


def planned_runs(rows):
    """Return the runs of all feed ratios that did not die, on the planned seeds."""
    own = []
    for name, variant in VARIANTS.items():
        if variant.rule == "transport":
            own += [row for row in lived(rows, name) if row["seed"] in TRAINED_ON]
    return own


def meter_table(rows):
    """Return the table of the meter, in Markdown: for several training steps and
    thresholds which share of the dead decisions it tells, and of the others it alarms
    at."""
    own = planned_runs(rows)
    lines = []
    for step in (10, 20, 40, 60, 80, 100, 120, 160, 200):
        line = [step]
        for threshold in (1.0, 1.5, 1.9):
            told, dead, false, others = alarms(own, step, threshold)
            line.append(f"{told}/{dead}, {false}/{others}")
        lines.append(line)
    head = ["training step", "above 1", "above 1.5", "above 1.9"]
    return stats.markdown(head, lines)


def meter_in_words(rows, threshold=1.9, allowed=0.05):
    """Return in a sentence from which training step on the meter alarms at no more than
    an allowed share of the runs without a dead decision."""
    own = planned_runs(rows)
    for step in range(0, 400, 10):
        told, dead, false, others = alarms(own, step, threshold)
        if false <= allowed * others:
            return (
                f"At training step {step} |lead| / spread above {threshold:g} tells "
                f"{told} of {dead} dead decisions, and alarms at {false} of {others} "
                "other runs."
            )
    return f"No training step has {allowed:.0%} false alarms or less."


# The figure

ENDS = {
    "both groupings": "#00806a",
    "a decision unlearned": "#c0143c",
    "both + both or other": "#ff9d2e",
}


def draw_diagram(ax, rows, name):
    """Draw the phase diagram of a network into Axes: a pie a feed ratio and sharpness,
    whose parts are what the runs end in, and below it how many find both."""
    for i, feed in enumerate(FEEDS):
        for j, beta in enumerate(SHARPNESS):
            own = lived(rows, key(name, feed, beta))
            if not own:
                ax.add_patch(Circle((i, j), 0.3, fill=False, ec="0.6", ls=":"))
                continue
            ends = Counter(end_of(row) for row in own)
            angle = 90.0
            for end, colour in ENDS.items():
                turn = 360 * ends[end] / len(own)
                if turn:
                    pie = Wedge((i, j), 0.3, angle - turn, angle, fc=colour, ec="none")
                    ax.add_patch(pie)
                angle -= turn
            ax.add_patch(Circle((i, j), 0.3, fill=False, ec="black", lw=0.8))
            text = f"{ends['both groupings']}/{len(own)}"
            paper = {"fc": "white", "ec": "none", "pad": 0.5}
            where = {"ha": "center", "va": "center", "fontsize": 9.5, "bbox": paper}
            ax.text(i, j - 0.43, text, **where)
    ratios = rate_ratios(rows, name)
    if len(ratios):
        place = -math.log2(np.median(ratios))
        ax.axvline(place, color="0.3", ls="--", lw=1.2, zorder=0)
        where = {"ha": "center", "va": "bottom", "fontsize": 10, "color": "0.2"}
        ax.text(place, len(SHARPNESS) - 0.45, "predicted", **where)
    ax.set_xlim(-0.5, len(FEEDS) - 0.5)
    ax.set_ylim(-0.6, len(SHARPNESS) - 0.5)
    ax.set_aspect("equal")
    labels = ["1"] + [f"1/{1 / feed:g}" for feed in FEEDS[1:]]
    ax.set_xticks(range(len(FEEDS)), labels, fontsize=10)
    ax.set_yticks(range(len(SHARPNESS)), SHARPNESS, fontsize=10)
    ax.set_xlabel("feed ratio: how much a lead is fed for a parting", fontsize=10)
    ax.set_title(runs.NETWORKS[name].title + "\n", fontsize=12)


def plot(rows):
    """Draw the phase diagrams of two heads and of twin heads. Returns the Figure."""
    fig = Figure(figsize=(10, 5), layout="constrained")
    left, right = fig.subplots(1, 2, sharey=True)
    draw_diagram(left, rows, "dual")
    draw_diagram(right, rows, "twin-heads")
    left.set_ylabel("sharpness", fontsize=10)
    handles = []
    for end, colour in ENDS.items():
        handles.append(Patch(fc=colour, ec="black", label=end))
    fig.legend(
        handles=handles,
        title="What runs end in (below: how many find both groupings)",
        loc="outside lower center",
        ncols=3,
        frameon=False,
        fontsize=10,
    )
    title = "Two ways to fail: does balance cure the one and sharpness the other?"
    fig.suptitle(title, fontsize=13)
    return fig


def summary(rows):
    """Return in sentences what the runs say."""
    wanted = len(ASKED) * len(RATES_ON) + 10 * 2 * len(BY_HAND)
    for name, variant in VARIANTS.items():
        if variant.rule == "transport":
            wanted += len(TRAINED_ON)
    there = sum("error" not in row for row in rows.values())
    lines = [f"{there} of {wanted} planned runs are there."]
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
    return "\n".join(lines)


def report(rows):
    """Return the figure and the text of the runs, see sweep."""
    texts = [
        summary(rows),
        "The theory, held against autograd:\n" + lead.in_words(lead.claims_between()),
        "The six planned tests: likelihood ratio tests of logistic slopes in log2 of feed "
        "ratio\nand sharpness, and an exact McNemar test.\n\n" + tests_table(rows),
        "The feed ratio at which half of the runs succeed at a sharpness of 100: "
        "predicted from\nthe Gram matrices of seeds 1000 to 1009, and observed, with a "
        f"bootstrap over seeds ({DRAWS} draws).\n\n" + thresholds_table(rows),
        "Runs that find both groupings (in brackets: a decision unlearned; both + both "
        "or other).\n\n" + counts_table(rows),
        "Two heads with a lead put in by hand.\n\n" + led_table(rows),
        "A meter: dead decisions that |lead| / spread of one batch tells, and false "
        "alarms.\n" + meter_in_words(rows) + "\n\n" + meter_table(rows),
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
