"""A run in the paper's world: a variant is trained as the experiments do and tested.

Its runs are counted, put into a table and drawn as bars, for the questions that ask how
often both groupings are found. Here are also the networks that several questions share,
and what they share to train in other worlds and to compare runs in pairs.
"""

import math
import statistics
from collections import Counter
from dataclasses import dataclass, field

import numpy as np
import torch
from matplotlib.figure import Figure
from matplotlib.patches import Patch

import data
from beyond import ambiguous_loss, measures, rules, stats, sweep
from beyond.networks import Variant, decide

# A run finds both groupings if it does so for this share of (image, grouping) pairs.
FOUND = 0.99
PLANNED_SEEDS = range(10)  # of the planned tests in pairs
# Constants with which rows are made, beside the Settings.
FIXED = {
    "found": FOUND,
    "given": data.GIVEN,
    "learned": data.LEARNED,
    "exact": data.EXACT,
}


@dataclass(frozen=True)
class Settings:
    """With what rows are made. These are the defaults of exp_recurrent.py, whose help
    texts say what each is."""

    epochs: int = 10
    steps_per_epoch: int = 40
    batch: int = 4
    learning_rate: float = 2e-3
    beta: float = 100.0
    m: float = 0.5
    noise: float = 0.1
    width: int = 16
    depth: int = 2
    passes: int = 2
    held_out: int = 256  # the experiments' test images
    shape: data.Shape = field(default_factory=data.Shape)


def recorded(steps):
    """Return the training steps that a history records: twenty for every factor of ten,
    and the last one."""
    powers = 10 ** np.arange(0, math.log10(steps), 0.05)
    return {int(step) for step in powers.round()} | {steps}


def held_out(s, seed, device):
    """Return the images that a run is tested on and their parts, see data.sample."""
    return data.sample(s.held_out, data.stream(seed, "test", device), s.shape, s.noise)


SINGLE = Variant("one decision", "UNet", {"out_channels": 2})
TWO_HEADS = Variant("two heads", "UNet", {"out_channels": 4})
RECURRENT = Variant("recurrent", "Recurrent")
MASK_ALONE = Variant(
    "recurrent, the mask alone fed back", "Recurrent", {"feed_state": False}
)
STATE_ALONE = Variant(
    "recurrent, the state alone fed back", "Recurrent", {"feed_mask": False}
)
TOLD = Variant("told the pass", "ToldPass")
SEQUENCE = Variant(
    "two U-Nets, the second sees the first's mask", "TwoUNets", {"feed_mask": True}
)
TWO_UNETS = Variant("two U-Nets", "TwoUNets")
UNETS_ALIKE = Variant("two U-Nets alike but for 1e-3", "Twins", {"noise": 1e-3})
DECODERS_ALIKE = Variant(
    "two decoders alike but for 1e-3", "Twins", {"shared": "encoder"}
)
HEADS_ALIKE = Variant("two heads alike but for 1e-3", "Twins", {"shared": "trunk"})

# The variants that more than one question asks about, by the keys that rows have.
NETWORKS = {
    "single": SINGLE,
    "dual": TWO_HEADS,
    "recurrent": RECURRENT,
    "mask-only": MASK_ALONE,
    "state-only": STATE_ALONE,
    "told-step": TOLD,
    "sequence": SEQUENCE,
    "independent": TWO_UNETS,
    "alike-1e-3": UNETS_ALIKE,
    "twin-decoders": DECODERS_ALIKE,
    "twin-heads": HEADS_ALIKE,
}


def show_owner(images, parts, weights, share, generator):
    """Change a share of the images (n, 1, H, W) in place, so that they show who owns the
    common region: the own part of the other instance is dimmed to 1/2. weights (n, 2) are
    1 for the owner and 0 for the other; parts is (n, 3, H, W)."""
    shows = torch.rand(len(images), generator=generator, device=images.device) < share
    own_of_other = parts[:, [2, 0]] * weights[:, :, None, None]  # (n, 2, H, W)
    other = own_of_other.sum(1, keepdim=True)  # (n, 1, H, W)
    images[shows] -= other[shows] / 2


def draw(v, s, generator, coins=None, sample=data.sample):
    """Draw a batch for a Variant: images (n, 1, H, W), parts (n, 3, H, W) and the weights
    of the groupings (1, 2) or, where a coin draws one truth for each image, (n, 2). coins
    is the generator of the coin and of who is shown; without it both truths count. sample
    draws the images, as data.sample does."""
    images, parts = sample(s.batch, generator, s.shape, s.noise)
    weights = torch.tensor([[s.m, 1 - s.m]], device=images.device)
    if v.coin and coins is not None:
        left = torch.rand(s.batch, generator=coins, device=images.device) < s.m
        weights = torch.stack((left, ~left), 1).float()
    if v.shown and coins is not None:
        show_owner(images, parts, weights, v.shown, coins)
    return images, parts, weights


def shuffle(truths, generator):
    """Return truths (n, G, 2 instances, H, W) in which left and right have changed places
    in about half of the images."""
    n = len(truths)
    changed = torch.rand(n, generator=generator, device=truths.device) < 0.5
    return torch.where(changed[:, None, None, None, None], truths.flip(2), truths)


def in_order(masks, parts):
    """Return decisions (n, D, 2, H, W) with the instances of each in the order that fits
    it better, where a network knows of no order. parts is (n, 3, H, W)."""
    truths = data.groupings(parts)
    as_is = data.score(masks, truths).amax(2)  # (n, D)
    changed = data.score(masks.flip(2), truths).amax(2)
    better = (changed > as_is)[:, :, None, None, None]
    return torch.where(better, masks.flip(2), masks)


def minus_worth(v, s, masks, truths, weights, progress=0.5):
    """Return the loss of decisions (n, D, 2, H, W) by the rule of a Variant. truths is
    (n, 2 groupings, 2, H, W). By the rule "unordered" the order of the instances says
    nothing."""
    if v.rule == "unordered":
        scores = ambiguous_loss.best_pairing(data.score, masks, truths)
    else:
        scores = data.score(masks, truths)  # (n, D, 2 groupings)
    return -rules.worth(v.rule, v.number, scores, weights, s.beta, progress).mean()


def loss(v, net, s, generator):
    """Draw a batch, without a coin, and return the loss of a Variant's network."""
    images, parts, weights = draw(v, s, generator)
    return minus_worth(v, s, decide(net, images), data.groupings(parts), weights)


def trained(v, seed, s, device, batch_loss, watch=None):
    """Return the network of a Variant, trained, and the seconds it took. s are the Settings
    that v.settings returns.

    batch_loss(net, generator, coins, progress) draws a batch from the generator and
    returns its loss. coins is the generator of the coin and of other choices that are not
    the images. It has a stream of its own, so that with and without coins the images are
    the same. watch(net, step, loss) is called before each step is taken.
    """
    net, generator = v.begin(s, seed, device)
    # The seeds below are those of the three streams of data.py.
    coins = torch.Generator(device).manual_seed(seed + 3 * data.SEEDS)

    def loss_at(progress):
        return batch_loss(net, generator, coins, progress)

    def watch_net(step, cost):
        if watch is not None:
            watch(net, step, cost)

    steps = s.epochs * s.steps_per_epoch
    return net, sweep.train(net, v.optimiser(net, s), loss_at, steps, watch_net)


def run(v, seed, s, device, look=None):
    """Train a Variant and test it. Returns a dict of what it ends in, for a row.

    look(net, step, masks, parts) is called before each training step with the batch of
    that step and, as if before one more, with the test images at the end.

    The dict has what data.measure and measures.measure give; found: whether both groupings
    are (see FOUND); found_at: if so, the recorded training step from which every recorded
    batch was exact; outcome: of both decisions, in either order. The field's measures
    weigh both groupings alike, whatever m is.
    """
    s = v.settings(s)
    steps = s.epochs * s.steps_per_epoch
    batch = {}
    exact_from = None

    def batch_loss(net, generator, coins, progress):
        images, parts, weights = draw(v, s, generator, coins)
        masks = decide(net, images)
        truths = data.groupings(parts)
        if v.shuffled:
            truths = shuffle(truths, coins)
        batch["masks"] = in_order(masks.detach(), parts) if v.shuffled else masks
        batch["parts"] = parts
        return minus_worth(v, s, masks, truths, weights, progress)

    def watch(net, step, cost):
        nonlocal exact_from
        if look is not None:
            look(net, step, batch["masks"], batch["parts"])
        ends_epoch = step % s.steps_per_epoch == 0
        is_hundredth = (step - 1) % max(1, steps // 100) == 0
        if ends_epoch or is_hundredth:
            exact = data.measure(batch["masks"], batch["parts"])["oracle_exact"]
            if exact < FOUND:
                exact_from = None
            elif exact_from is None:
                exact_from = step

    net, seconds = trained(v, seed, s, device, batch_loss, watch)
    images, parts = held_out(s, seed, device)
    with torch.no_grad():
        masks = decide(net, images)
    if v.shuffled:
        masks = in_order(masks, parts)
    if look is not None:
        look(net, steps + 1, masks, parts)
    measured = data.measure(masks, parts, s.m)
    found = measured["oracle_exact"] >= FOUND
    if not found:
        exact_from = None
    elif exact_from is None:  # the last batch misses a pair, and the test images do not
        exact_from = steps
    return {
        "found": found,
        "found_at": exact_from,
        "outcome": " + ".join(sorted(d["outcome"] for d in measured["decisions"])),
        "seconds": seconds,
        "parameters": sum(p.numel() for p in net.parameters()),
        **measures.measure((masks > 0.5).float(), data.groupings(parts)),
        **measured,
    }


def lived(rows, name, seeds=None):
    """Return the runs of a variant that did not die, by seed: on these seeds, or all."""
    own = []
    for row in sweep.of(rows, name):
        if "error" not in row and (seeds is None or row["seed"] in seeds):
            own.append(row)
    return own


def paired(rows, one, other, number, seeds):
    """Return a number of the runs of two variants, on those of the seeds on which neither
    died: two arrays."""
    rivals = {row["seed"]: row[number] for row in lived(rows, other, seeds)}
    own = lived(rows, one, rivals.keys())
    ours = np.array([row[number] for row in own])
    theirs = np.array([rivals[row["seed"]] for row in own])
    return ours, theirs


def differences(rows, pairs, number, seeds=PLANNED_SEEDS):
    """Return the differences of a number between the runs of two variants, the first minus
    the second, paired over seeds, as a table in Markdown, "" where no pair has rows.

    pairs are one list of (variant, other variant). p is that of the exact
    sign-flip test, and Holm's correction is for the whole list.
    """
    gaps = {}
    for one, other in pairs:
        ours, theirs = paired(rows, one, other, number, seeds)
        if len(ours):
            gaps[one, other] = ours - theirs
    ps = [stats.sign_flips(gap) for gap in gaps.values()]
    corrected = stats.holm(ps, of=len(pairs))
    lines = []
    for k, pair in enumerate(gaps):
        gap = gaps[pair]
        mean = f"{gap.mean():+.3f}"
        extent = f"{gap.min():+.3f} to {gap.max():+.3f}"
        smaller = f"{(gap < 0).sum()} of {len(gap)}"
        p = f"{ps[k]:.2g}"
        holm = f"{corrected[k]:.2g}"
        lines.append([*pair, mean, extent, smaller, p, holm])
    head = ["variant", "against", "mean difference", "pairs from, to", "below 0"]
    return stats.markdown([*head, "p", "Holm"], lines) if lines else ""


def headline(rows, variants, pair, seeds=PLANNED_SEEDS):
    """Return the mean GED of a pair of variants, see differences, as a sentence, "" where
    they have no rows in common."""
    ours, theirs = paired(rows, *pair, "ged", seeds)
    if not len(ours):
        return ""
    one, other = pair
    text = f"Mean GED of {len(ours)} runs: {variants[one].title} {ours.mean():.2f}; "
    return text + f"{variants[other].title} {theirs.mean():.2f}."


def means(rows, variants, columns, first="network, rule"):
    """Return numbers of the runs of variants as a table in Markdown, "" where none has
    rows. first is the heading of the variants' titles. columns are {name of a number in a
    row: its heading}. A cell is the mean over runs ± the standard deviation. Where rows
    have a list, it has the mean of each entry."""
    lines = []
    for key, v in variants.items():
        own = lived(rows, key)
        if own:
            line = [v.title, len(own)]
            for name in columns:
                values = np.array([row[name] for row in own])  # (runs,) or (runs, D)
                text = ", ".join(f"{x:.3f}" for x in np.atleast_1d(values.mean(0)))
                if values.ndim == 1 and len(own) > 1:
                    text += f" ± {values.std(ddof=1):.3f}"
                line.append(text)
            lines.append(line)
    head = [first, "runs", *columns.values()]
    return stats.markdown(head, lines) if lines else ""


# How a run of two decisions ends: its colour and its marker.
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


def summarise(runs, variants):
    """Return what the runs of each variant ended in, a list of dicts. found: how many
    found both groupings; interval: Wilson's; median_step: of found_at, over those that
    did; outcomes: how many ended in each, left + right first. A run whose loss was not
    finite died, and did not find them."""
    rows = []
    for key, v in variants.items():
        own = sweep.of(runs, key)
        if not own:
            continue
        steps = [run["found_at"] for run in own if run.get("found")]
        ends = Counter(run.get("outcome", "died") for run in own)
        order = sorted(ends, key=lambda end: (end != "left + right", end))
        row = {
            "variant": key,
            "title": v.title,
            "found": len(steps),
            "of": len(own),
            "interval": stats.wilson(len(steps), len(own)),
            "median_step": statistics.median(steps) if steps else None,
            "outcomes": {end: ends[end] for end in order},
        }
        rows.append(row)
    return rows


NOTE = "*k: k more runs end in left + right, but find fewer than 99% of the pairs"


def count_of(row):
    """Return how many runs of a row of summarise find both groupings, as a text. It says
    so where more runs end in left + right than that: an outcome is judged by shares of
    the common region, and finding both by the IoU of masks."""
    text = f"{row['found']} of {row['of']}"
    more = row["outcomes"].get("left + right", 0) - row["found"]
    return text + (f" *{more}" if more > 0 else "")


def table(rows):
    """Return the rows of summarise as a table in Markdown."""
    lines = []
    for row in rows:
        low, high = row["interval"]
        step = "-" if row["median_step"] is None else f"{row['median_step']:g}"
        ends = ", ".join(f"{end} {count}" for end, count in row["outcomes"].items())
        interval = f"{low:.0%} to {high:.0%}"
        lines.append([row["title"], count_of(row), interval, step, ends])
    head = ["variant", "finds both", "95% interval", "step", "ends in"]
    return stats.markdown(head, lines)


def grouped(rows, headings):
    """Return {heading: rows of summarise} of {heading: variants}, where there are any."""
    by_variant = {row["variant"]: row for row in rows}
    groups = {}
    for heading, variants in headings.items():
        own = [by_variant[key] for key in variants if key in by_variant]
        if own:
            groups[heading] = own
    return groups


ABOUT = f"""The tables: how many runs find both groupings, the training step from which every
recorded batch is found (the median of these runs) and what the decisions end in.
{NOTE}."""


def tables(rows, headings):
    """Return a table in Markdown for each of {heading: variants} that has rows, with the
    heading as its caption, and a word on what the columns are."""
    text = [ABOUT]
    for heading, own in grouped(rows, headings).items():
        text += [heading, table(own)]
    return "\n\n".join(text)


def said(about, rows, keys):
    """Return in a sentence how many runs of these variants find both groupings, "" where
    none of them has rows."""
    counts = []
    for row in rows:
        if row["variant"] in keys:
            counts.append(f"{row['title']} {row['found']} of {row['of']}")
    return f"{about}: {'; '.join(counts)}." if counts else ""


# How an outcome is drawn: as data.paint has it, and told apart without colours too.
LOOKS = {
    "left": {"fc": data.RED},
    "right": {"fc": data.YELLOW},
    "both": {"fc": data.ORANGE, "hatch": ".."},
    "neither": {"fc": data.GREY},
    "split": {"fc": data.ORANGE, "hatch": "///"},
    "unlearned": {"fc": data.BLUE},
    "died": {"fc": "black"},
}


def draw_bar(ax, y, row):
    """Draw what the runs of a row of summarise end in, as a bar at the height y: a piece
    for each outcome, with a stripe for each decision."""
    left = 0.0
    for outcome, count in row["outcomes"].items():
        share = count / row["of"]
        ends = outcome.split(" + ")
        high = 0.7 / len(ends)
        for k, end in enumerate(ends):
            bottom = y - 0.35 + k * high
            ax.barh(bottom, share, high, left, align="edge", lw=0, **LOOKS[end])
        ax.barh(y, share, 0.7, left, fill=False, ec="black")
        box = {"boxstyle": "round,pad=0.2", "fc": "white", "ec": "none"}
        fits = share > 0.018 * len(outcome)
        text = f"{outcome}: {count}" if fits else count
        ax.text(left + share / 2, y, text, ha="center", va="center", bbox=box)
        left += share


def bars(rows, headings, title):
    """Draw what runs end in, a bar a variant, and beside it how many find both groupings
    with the 95% interval of their share. rows are those of summarise; headings are
    {heading: variants below it}. Returns the Figure, None where no row is below one."""
    groups = grouped(rows, headings)
    if not groups:
        return None
    fig = Figure(figsize=(11, 5), layout="constrained")
    ax = fig.subplots()
    y = 0
    titles = {}
    seen = set()
    for heading, own in groups.items():
        ax.text(0, y, heading, weight="bold", va="center")
        for row in own:
            y += 1
            draw_bar(ax, y, row)
            low, high = row["interval"]
            ax.text(1.02, y, f"{count_of(row)}  ({low:.0%} to {high:.0%})", va="center")
            titles[y] = row["title"]
            seen.update(" + ".join(row["outcomes"]).split(" + "))
        y += 1
    ax.set(xlim=(0, 1), ylim=(y - 0.5, -0.5), xlabel="share of the runs")
    ax.set_yticks(list(titles), list(titles.values()))
    ax.text(1.02, 0, "find both", weight="bold", va="center")
    fig.set_figheight(1.7 + 0.4 * y)
    handles = [
        Patch(ec="black", label=end, **LOOKS[end]) for end in LOOKS if end in seen
    ]
    about = "Who is given the common region: a bar has a stripe a decision"
    fig.legend(handles=handles, title=about, ncols=7, loc="outside lower center")
    fig.suptitle(title, fontsize=13)
    return fig
