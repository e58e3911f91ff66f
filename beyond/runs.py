"""A run in the paper's world: a variant is trained as the experiments do and tested.

Its runs are counted, put into a table and drawn as bars. This is for the questions that
ask how often both groupings are found, and has the networks that several of them share.
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
from beyond import rules, stats, sweep
from beyond.networks import Variant, decide

# A run finds both groupings if it does so for this share of (image, grouping) pairs.
FOUND = 0.99
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


def tested_where_shown(net, s, seed, device, generator):
    """Test a network on images that all show their owner, which is left in every other
    one. Returns the share in which some decision is the truth, and that of each."""
    images, parts = held_out(s, seed, device)
    left = torch.arange(len(images), device=device) % 2 == 0
    weights = torch.stack((left, ~left), 1).float()  # (n, 2)
    show_owner(images, parts, weights, 1, generator)
    masks = (decide(net, images) > 0.5).float()
    exact = data.iou(masks, data.groupings(parts)) >= data.EXACT  # (n, D, 2, 2)
    right = (exact.all(-1) & (weights[:, None] > 0)).any(-1)  # (n, D)
    return {
        "shown_any": right.any(1).float().mean().item(),
        "shown_each": right.float().mean(0).tolist(),
    }


def draw(v, s, generator, coins=None):
    """Draw a batch for a Variant: images (n, 1, H, W), parts (n, 3, H, W) and the weights
    of the groupings (1, 2) or, where a coin draws one truth for each image, (n, 2). coins
    is the generator of the coin and of who is shown; without it both truths count."""
    images, parts = data.sample(s.batch, generator, s.shape, s.noise)
    weights = torch.tensor([[s.m, 1 - s.m]], device=images.device)
    if v.coin and coins is not None:
        left = torch.rand(s.batch, generator=coins, device=images.device) < s.m
        weights = torch.stack((left, ~left), 1).float()
    if v.shown and coins is not None:
        show_owner(images, parts, weights, v.shown, coins)
    return images, parts, weights


def minus_worth(v, s, masks, parts, weights, progress=0.5):
    """Return the loss of decisions (n, D, 2, H, W) by the rule of a Variant."""
    scores = data.score(masks, data.groupings(parts))  # (n, D, 2 groupings)
    return -rules.worth(v.rule, v.number, scores, weights, s.beta, progress).mean()


def loss(v, net, s, generator):
    """Draw a batch, without a coin, and return the loss of a Variant's network."""
    images, parts, weights = draw(v, s, generator)
    return minus_worth(v, s, decide(net, images), parts, weights)


def run(v, seed, s, device, look=None):
    """Train a Variant and test it. Returns a dict of what it ends in, for a row.

    look(net, step, masks, parts) is called before each training step with the batch of
    that step and, as if before one more, with the test images at the end.

    The dict has what data.measure gives; found: whether both groupings are (see FOUND);
    found_at: if so, the recorded training step from which every recorded batch was exact;
    outcome: of both decisions, in either order; shown: if the second decision sees a
    mask, the share of images of each of its outcomes when that mask is, in place of the
    first decision, one truth or the other.
    """
    s = v.settings(s)
    net, generator = v.begin(s, seed, device)
    # A stream of its own, so that with and without coins the images are the same.
    coins = torch.Generator(device).manual_seed(seed + 3 * data.SEEDS)
    steps = s.epochs * s.steps_per_epoch
    batch = {}
    exact_from = None

    def batch_loss(progress):
        images, parts, weights = draw(v, s, generator, coins)
        batch["masks"] = decide(net, images)
        batch["parts"] = parts
        return minus_worth(v, s, batch["masks"], parts, weights, progress)

    def watch(step, cost):
        nonlocal exact_from
        if look is not None:
            look(net, step, batch["masks"], batch["parts"])
        if step % s.steps_per_epoch == 0 or (step - 1) % max(1, steps // 100) == 0:
            found = data.measure(batch["masks"], batch["parts"])["oracle_exact"]
            if found < FOUND:
                exact_from = None
            elif exact_from is None:
                exact_from = step

    seconds = sweep.train(net, v.optimiser(net, s), batch_loss, steps, watch)
    images, parts = held_out(s, seed, device)
    with torch.no_grad():
        masks = decide(net, images)
    if look is not None:
        look(net, steps + 1, masks, parts)
    net.requires_grad_(False)  # from here on it is tested
    measured = data.measure(masks, parts, s.m)
    found = measured["oracle_exact"] >= FOUND
    row = {
        "found": found,
        # The last batch may miss a pair, and the network still finds both groupings.
        "found_at": (exact_from or steps) if found else None,
        "outcome": " + ".join(sorted(d["outcome"] for d in measured["decisions"])),
        "seconds": seconds,
        "parameters": sum(p.numel() for p in net.parameters()),
        **measured,
    }
    if v.shown:
        row.update(tested_where_shown(net, s, seed, device, coins))
    elif getattr(net, "sees_mask", False):
        row["shown"] = shown_a_truth(net, images, parts)
    return row


def shown_a_truth(net, images, parts):
    """Return what the last decision is when it is shown a truth in place of the first
    decision: for the left and for the right one the share of images of each outcome."""
    by_left, by_right = data.groupings(parts).unbind(1)  # each (n, 2, H, W)
    if_left = data.measure(decide(net, images, by_left), parts)
    if_right = data.measure(decide(net, images, by_right), parts)
    return {
        "left": if_left["decisions"][-1]["outcome_share"],
        "right": if_right["decisions"][-1]["outcome_share"],
    }


def reply(row):
    """Return what the second decision is when shown, in place of the first one's mask,
    the truth that it gives itself: "same" (then it is no answer to that mask), "opposite"
    (then it is), or "unclear" if neither for at least a share data.GIVEN of the images.
    None for a run that did not find both or whose second decision sees no mask."""
    shown = row.get("shown", {})
    own = row["decisions"][-1]["outcome"]
    if not row["found"] or own not in shown:
        return None
    said = max(shown[own], key=shown[own].get)
    if shown[own][said] < data.GIVEN or said not in shown:
        return "unclear"
    return "same" if said == own else "opposite"


def summarise(runs, variants):
    """Return what the runs of each variant ended in, a list of dicts.

    found: how many found both groupings, interval: Wilson's; median_step: of found_at,
    over those that did; outcomes: how many ended in each; replies: how many replied in
    each way; pairs, score: means of oracle_exact and of score. A run that died did not
    find them. Where images show their owner, both_right counts the runs in which both
    decisions are right in 99% of them, and own_side those in which each decision is right
    in half of them: it keeps its side.
    """
    rows = []
    for key, v in variants.items():
        own = sweep.of(runs, key)
        if own:
            rows.append(summary_of(key, v, own))
    return rows


def summary_of(key, v, own):
    """Return what the rows of one variant amount to, see summarise."""
    lived = [run for run in own if "error" not in run]
    good = [run for run in lived if run["found"]]
    ends = Counter(run.get("outcome", "died") for run in own)
    order = sorted(ends, key=lambda end: (end != "left + right", end == "died", end))
    replies = [reply(run) for run in lived]
    row = {
        "variant": key,
        "title": v.title,
        "found": len(good),
        "of": len(own),
        "interval": stats.wilson(len(good), len(own)),
        "median_step": None,
        "outcomes": {end: ends[end] for end in order},
        "found_seeds": [run["seed"] for run in good],
        "failed_seeds": [run["seed"] for run in own if run not in good],
        "parameters": max((run["parameters"] for run in lived), default=0),
        "replies": Counter(said for said in replies if said),
        "pairs": sum(run["oracle_exact"] for run in lived) / len(own),
        "score": sum(run["score"] for run in lived) / len(own),
    }
    if good:
        row["median_step"] = statistics.median(run["found_at"] for run in good)
    if v.shown:
        each = np.array([run["shown_each"] for run in lived]).reshape(-1, 2)
        row["both_right"] = int((each >= FOUND).all(1).sum())
        row["own_side"] = int((abs(each - 0.5) < 0.01).all(1).sum())
    return row


def seeds_that_fail(row):
    """Return which seeds of a row of summarise fail, as a short text."""
    if not row["failed_seeds"]:
        return "-"
    if not row["found_seeds"]:
        return "all"
    if len(row["failed_seeds"]) > row["found"]:  # the shorter of the two lists
        return "all but " + ", ".join(map(str, row["found_seeds"]))
    return ", ".join(map(str, row["failed_seeds"]))


def count_of(row):
    """Return how many runs of a row of summarise find both groupings, as a text. It says
    so where more runs end in left + right than that: an outcome is judged by shares of
    the common region, and finding both by the IoU of masks."""
    text = f"{row['found']} of {row['of']}"
    more = row["outcomes"].get("left + right", 0) - row["found"]
    return text + (f" *{more}" if more > 0 else "")


NOTE = "*k: k more runs end in left + right, but find fewer than 99% of the pairs"


def table(rows):
    """Return the rows of summarise as a table in Markdown."""
    head = ["variant", "finds both", "95% interval", "step", "ends in"]
    head += ["seeds that fail", "weights"]
    lines = []
    for row in rows:
        low, high = row["interval"]
        step = "-" if row["median_step"] is None else f"{row['median_step']:g}"
        ends = ", ".join(f"{end} {count}" for end, count in row["outcomes"].items())
        if "both_right" in row:
            ends += f"; where the owner shows both are right in {row['both_right']}"
            ends += f" and each keeps its side in {row['own_side']}"
        cells = [row["title"], count_of(row), f"{low:.0%} to {high:.0%}", step, ends]
        lines.append([*cells, seeds_that_fail(row), f"{row['parameters']:,}"])
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


def tables(rows, headings):
    """Return a table in Markdown for each of {heading: variants} that has rows, with the
    heading as its caption, and a word on what the columns are."""
    text = [ABOUT] if rows else []
    for heading, own in grouped(rows, headings).items():
        text += [heading, table(own)]
    replied = [row for row in rows if row["replies"]]
    if replied:
        text += [REPLIES, stats.markdown(["variant", *ANSWERS], map(replies, replied))]
    return "\n\n".join(text)


ANSWERS = ("same", "opposite", "unclear")
REPLIES = """What is the second decision where it is shown, in place of the first one, the
grouping that it gives itself? (runs that find both)"""


def replies(row):
    """Return the cells of a row of summarise in the table of replies."""
    return [row["title"], *(row["replies"].get(said, 0) for said in ANSWERS)]


ABOUT = f"""The tables: how many runs find both groupings, the training step from which every
recorded batch is found (the median of these runs) and what the decisions end in.
{NOTE}."""


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
            ax.barh(
                bottom, share, high, left, align="edge", ec="0.35", lw=0, **LOOKS[end]
            )
        ax.barh(y, share, 0.7, left, fill=False, ec="black", lw=1.2)
        fits = share > 0.022 * len(outcome)
        ax.text(
            left + share / 2,
            y,
            f"{outcome}: {count}" if fits else count,
            ha="center",
            va="center",
            fontsize=10,
            bbox={
                "boxstyle": "round,pad=0.2",
                "fc": "white",
                "ec": "none",
                "alpha": 0.9,
            },
        )
        left += share


def bars(rows, headings, title):
    """Draw what runs end in, a bar a variant, and how often both groupings are found.
    rows are those of summarise; headings are {heading: variants below it}. Returns the
    Figure, None where none of the variants has rows."""
    groups = grouped(rows, headings)
    every = []
    for own in groups.values():
        every.extend(own)
    if not every:
        return None
    height = 2.2 + 0.4 * len(every) + 0.3 * len(groups)
    fig = Figure(figsize=(11, height), layout="constrained")
    ax, right = fig.subplots(1, 2, sharey=True, width_ratios=(1.9, 1))
    y = 0.0
    titles = {}
    for heading, own in groups.items():
        ax.text(0, y, heading, weight="bold", va="center", fontsize=10.5)
        y += 0.75
        for row in own:
            draw_bar(ax, y, row)
            right.plot(row["interval"], [y, y], "k|-")
            right.plot(row["found"] / row["of"], y, "ko", ms=7)
            right.text(1.08, y, count_of(row), va="center", fontsize=10)
            titles[y] = row["title"]
            y += 1
    ax.set_yticks(list(titles), list(titles.values()), fontsize=10)
    ax.set_xlim(0, 1)
    ax.set_ylim(y - 0.4, -0.5)
    ax.set_xlabel("share of the runs")
    ax.set_title("What the decisions end in, in how many runs", fontsize=11)
    right.set_xlim(-0.05, 1.6)
    right.set_xticks(np.linspace(0, 1, 5))
    right.set_xlabel("share, with its 95% interval")
    right.set_title("Runs that find both groupings", fontsize=11)
    right.grid(axis="x", color="0.85")
    right.tick_params(axis="y", length=0)

    seen = set()
    for row in every:
        for outcome in row["outcomes"]:
            seen.update(outcome.split(" + "))
    handles = []
    for end, look in LOOKS.items():
        if end in seen:
            handles.append(Patch(ec="black", label=end, **look))
    text = "Who is given the common region: a bar has a stripe a decision"
    if any("*" in count_of(row) for row in every):
        text += "\n" + NOTE
    fig.legend(
        handles=handles,
        title=text,
        ncols=7,
        loc="outside lower center",
        frameon=False,
        fontsize=10,
    )
    fig.suptitle(title, fontsize=13)
    return fig
