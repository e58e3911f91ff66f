"""Variants in the paper's world: a variant is trained as the experiments do and tested, its runs
are counted, and drawn as bars. For the questions that ask how often the two groupings are found."""

import statistics
from collections import Counter

import numpy as np
import torch
from matplotlib.figure import Figure
from matplotlib.patches import Patch

import data
import pictures
from beyond import rules, sweep
from beyond.networks import Variant, decide

# A run finds the two groupings if it does so for this share of (image, grouping) pairs.
FOUND = 0.99
# Constants with which rows are made, beside the Settings.
FIXED = {
    "found": FOUND,
    "relaxed": rules.RELAXED,
    "given": data.GIVEN,
    "learned": data.LEARNED,
    "exact": data.EXACT,
}
# The networks that more than one question asks about.
ONE, TWO, TOLD = {"out_channels": 2}, {"out_channels": 4}, {"mask": "pass", "state": "zero"}
PAPER = {
    "single": Variant("One decision", "UNet", ONE),
    "dual": Variant("Two heads", "UNet", TWO),
    "recurrent": Variant("Mask and state fed back", "RecurrentUNet"),
}
INGREDIENTS = {
    "mask-only": Variant("Mask alone fed back", "RecurrentUNet", {"feed_state": False}),
    "state-only": Variant("State alone fed back", "RecurrentUNet", {"feed_mask": False}),
    "told-step": Variant("Told only the pass", "ToldPass"),
}
SEEING = {
    "sequence": Variant("Two U-Nets, one sees the other's mask", "TwoUNets", {"feed_mask": True}),
    "independent": Variant("Two U-Nets", "TwoUNets"),
}
ALIKE = {
    "alike-1e-6": Variant("Two U-Nets alike but for 1e-6", "Twins", {"noise": 1e-6}),
    "alike-1e-3": Variant("Two U-Nets alike but for 1e-3", "Twins", {"noise": 1e-3}),
    "alike-1e-1": Variant("Two U-Nets alike but for 1e-1", "Twins", {"noise": 1e-1}),
    "twin-decoders": Variant(
        "One encoder, two decoders alike but for 1e-3", "Twins", {"shared": "encoder"}
    ),
    "twin-heads": Variant("Two heads alike but for 1e-3", "Twins", {"shared": "trunk"}),
}
NETWORKS = PAPER | INGREDIENTS | SEEING | ALIKE


def show_owner(images, parts, weights, share, generator):
    """Dim, in a share of the images (n, 1, H, W), the own part of the instance that does not own
    the common region to 1/2: these images show their owner. weights (n, 2) says who it is."""
    shows = torch.rand(len(images), generator=generator, device=images.device) < share
    other = (parts[:, [2, 0]] * weights[:, :, None, None]).sum(1, keepdim=True)  # (n, 1, H, W)
    images[shows] -= other[shows] / 2


def tested_where_shown(net, s, seed, device, generator):
    """For images that show their owner, half of them the left one: the share in which some
    decision is the truth, and the share for each decision."""
    images, parts = data.held_out(s, seed, device)
    left = torch.arange(len(images), device=device) % 2 == 0
    weights = torch.stack((left, ~left), 1).float()  # (n, 2)
    show_owner(images, parts, weights, 1, generator)
    ious = data.iou((decide(net, images) > 0.5).float(), data.groupings(parts))
    right = ((ious >= data.EXACT).all(-1) & (weights[:, None] > 0)).any(-1)  # (n, D)
    return {
        "shown_any": right.any(1).float().mean().item(),
        "shown_each": right.float().mean(0).tolist(),
    }


def batch(v, net, s, generator, coins=None, progress=0.5):
    """Draw a batch for the network of a Variant: (loss, decisions (n, D, 2, H, W), parts). coins is
    the generator of one truth for each image and of who is shown; without it both truths count."""
    images, parts = data.sample(s.batch, generator, s.shape, s.noise)
    weights = torch.tensor([[s.m, 1 - s.m]], device=images.device)  # (1, 2) or, by a coin, (n, 2)
    if v.coin and coins is not None:
        left = torch.rand(s.batch, generator=coins, device=images.device) < s.m
        weights = torch.stack((left, ~left), 1).float()
    if v.shown and coins is not None:
        show_owner(images, parts, weights, v.shown, coins)
    masks = decide(net, images)  # (n, D, 2, H, W)
    scores = data.score(masks, data.groupings(parts))  # (n, D, 2 groupings)
    return -rules.value(v.rule, scores, weights, s.beta, progress).mean(), masks, parts


def run(v, seed, s, device, look=None):
    """Train a Variant and test it: a dict of what it ends in. look(net, step, masks, parts) is
    called before each training step with the batch of that step and, as if before one more, with
    the test images at the end.

    It has what data.measure gives; found: whether the two groupings are (see FOUND); found_at:
    the recorded training step from which every recorded batch was exact, if found; outcome: of
    both decisions, in either order; shown: if the second decision sees a mask, the share of
    images of each of its outcomes when that mask is, in place of the first decision, one truth
    or the other.
    """
    s = v.settings(s)
    net, generator = v.begin(s, seed, device)
    # A stream of its own, so that with and without coins the images are the same.
    coins = torch.Generator(device).manual_seed(seed + 3 * data.SEEDS)
    steps, found_at = s.epochs * s.steps_per_epoch, None

    def drawn(progress):
        return batch(v, net, s, generator, coins, progress)

    def watch(step, loss, masks, parts):
        nonlocal found_at
        if look is not None:
            look(net, step, masks, parts)
        if step % s.steps_per_epoch == 0 or (step - 1) % max(1, steps // 100) == 0:
            if data.measure(masks, parts)["oracle_exact"] < FOUND:
                found_at = None
            elif found_at is None:
                found_at = step

    seconds = sweep.train(net, v.optimiser(net, s), drawn, steps, watch)
    images, parts = data.held_out(s, seed, device)
    with torch.no_grad():
        masks = decide(net, images)
    if look is not None:
        look(net, steps + 1, masks, parts)
    net.requires_grad_(False)  # from here on it is tested
    measured = data.measure(masks, parts, s.m)
    found = measured["oracle_exact"] >= FOUND
    row = {
        "found": found,
        # The last batch may miss one image in a hundred and the network still finds the two.
        "found_at": (found_at or steps) if found else None,
        "outcome": " + ".join(sorted(d["outcome"] for d in measured["decisions"])),
        "seconds": seconds,
        "parameters": sum(p.numel() for p in net.parameters()),
        **measured,
    }
    if v.shown:
        row |= tested_where_shown(net, s, seed, device, coins)
    elif getattr(net, "sees_mask", False):
        # Is the second decision an answer to the first? Show it one truth, then the other, as if
        # that had been the first decision.
        row["shown"] = {}
        for first, truth in zip(("left", "right"), data.groupings(parts).unbind(1)):
            *_, last = data.measure(decide(net, images, truth), parts)["decisions"]
            row["shown"][first] = last["outcome_share"]
    return row


def reply(row):
    """What the second decision is when shown, in place of the first one's mask, the truth that
    it gives itself: "same" (then it is no answer to that mask), "opposite" (then it is), or
    "unclear" if neither for at least a share GIVEN of the images. None for a run that did not
    find the two or whose second decision sees no mask."""
    own, shown = row["decisions"][-1]["outcome"], row.get("shown", {})
    if not row["found"] or own not in shown:
        return None
    said, share = max(shown[own].items(), key=lambda item: item[1])
    if share < data.GIVEN or said not in shown:
        return "unclear"
    return "same" if said == own else "opposite"


def summarise(runs, variants):
    """What the runs of each variant ended in: a list of dicts.

    found: how many found the two groupings, interval: Wilson's; median_step: of found_at, over
    those that did; pairs, score: means of oracle_exact and of score; outcomes: how many ended in
    each; replies: see reply. A run that died did not find them. shown_any, shown_each: where
    images show their owner, means of what tested_where_shown gives.
    """
    rows = []
    for name, v in variants.items():
        own = sweep.of(runs, name)
        if not own:
            continue
        lived = [run for run in own if "error" not in run]
        good = [run for run in lived if run["found"]]
        ends = Counter(run.get("outcome", "died") for run in own)
        order = sorted(ends, key=lambda end: (end != "left + right", end == "died", end))
        row = {
            "variant": name,
            "title": v.title,
            "found": len(good),
            "of": len(own),
            "interval": sweep.wilson(len(good), len(own)),
            "median_step": statistics.median(run["found_at"] for run in good) if good else None,
            "outcomes": {end: ends[end] for end in order},
            "found_seeds": [run["seed"] for run in good],
            "failed_seeds": [run["seed"] for run in own if run not in good],
            "parameters": max((run["parameters"] for run in lived), default=0),
            "replies": Counter(filter(None, map(reply, lived))),
            "pairs": sum(run["oracle_exact"] for run in lived) / len(own),
            "score": sum(run["score"] for run in lived) / len(own),
        }
        if v.shown and lived:
            row["shown_any"] = statistics.mean(run["shown_any"] for run in lived)
            row["shown_each"] = np.mean([run["shown_each"] for run in lived], 0).tolist()
        rows.append(row)
    return rows


def table(rows):
    """The rows of summarise as a table in Markdown."""
    head = ["variant", "finds the two", "95% interval", "at step (median)", "outcomes"]
    head += ["seeds that fail", "weights"]
    lines = []
    for r in rows:
        failed = ", ".join(map(str, r["failed_seeds"])) or "-"
        if len(r["failed_seeds"]) > r["found"]:  # the shorter of the two lists
            but = ", ".join(map(str, r["found_seeds"]))
            failed = f"all but {but}" if but else "all"
        outcomes = ", ".join(f"{end} {count}" for end, count in r["outcomes"].items())
        if "shown_each" in r:
            right = " and ".join(f"{share:.0%}" for share in r["shown_each"])
            outcomes += f"; shown, each right in {right}"
        cells = [
            r["title"],
            f"{r['found']}/{r['of']}",
            "{:.0%} to {:.0%}".format(*r["interval"]),
            "-" if r["median_step"] is None else f"{r['median_step']:g}",
            outcomes,
            failed,
            f"{r['parameters']:,}",
        ]
        lines.append(cells)
    return sweep.markdown(head, lines)


def counts(rows, what, title):
    """How many runs find what they should, with the 95% interval: rows are dicts with title,
    found, of and interval. Returns the Figure."""
    ax = Figure(figsize=(9, 1.5 + 0.27 * len(rows)), layout="constrained").subplots()
    for y, row in enumerate(rows):
        ax.plot(row["interval"], [y, y], "k|-", [row["found"] / row["of"]], [y], "ko")
        ax.text(1.05, y, f"{row['found']} of {row['of']}", va="center", fontsize=9)
    ax.set_yticks(range(len(rows)), [row["title"] for row in rows], fontsize=9)
    ax.set(xlim=(-0.03, 1.22), ylim=(len(rows) - 0.4, -0.6), xticks=np.linspace(0, 1, 5))
    ax.set_xlabel(f"share of the runs that find {what}, and its 95% interval")
    ax.figure.suptitle(title)
    return ax.figure


# How an outcome is drawn: as it is painted, and told apart without colours too.
LOOKS = {
    "left": {"fc": pictures.RED},
    "right": {"fc": pictures.YELLOW},
    "both": {"fc": pictures.ORANGE, "hatch": ".."},
    "neither": {"fc": "white"},
    "split": {"fc": "0.85", "hatch": "//"},
    "unlearned": {"fc": "white", "hatch": "xxxx"},
    "died": {"fc": "black"},
}


def bars(groups, title):
    """What runs end in: {question: rows of summarise}, a stacked bar a variant, a stripe a
    decision, and how often the two groupings are found. Returns the Figure."""
    height = 1.9 + sum(0.42 * len(rows) + 0.3 for rows in groups.values())
    fig = Figure(figsize=(11, height), layout="constrained")
    ax, right = fig.subplots(1, 2, sharey=True, width_ratios=(1.9, 1))
    y, places, seen = 0.0, {}, set()
    box = {"boxstyle": "round,pad=0.2", "fc": "white", "ec": "none", "alpha": 0.9}
    for question, rows in groups.items():
        ax.text(0, y, question, weight="bold", va="center", fontsize=10)
        y += 0.7
        for r in rows:
            left = 0.0
            for outcome, count in r["outcomes"].items():
                ends, share = outcome.split(" + "), count / r["of"]
                for k, end in enumerate(ends):
                    seen.add(end)
                    stripe = {**LOOKS[end], "ec": "0.35", "lw": 0, "align": "edge"}
                    high = 0.7 / len(ends)
                    ax.barh(y - 0.35 + k * high, share, high, left, **stripe)
                ax.barh(y, share, 0.7, left, fill=False, ec="black", lw=1.2)
                text = f"{outcome}: {count}" if share > 0.022 * len(outcome) else f"{count}"
                middle = {"ha": "center", "va": "center", "fontsize": 9, "bbox": box}
                ax.text(left + share / 2, y, text, **middle)
                left += share
            right.plot(r["interval"], [y, y], "k|-", [r["found"] / r["of"]], [y], "ko", ms=7)
            right.text(1.1, y, f"{r['found']} of {r['of']}", va="center", fontsize=10)
            places[y] = r["title"]
            y += 1
    ax.set_yticks(list(places), list(places.values()), fontsize=10)
    ax.set(xlim=(0, 1), ylim=(y - 0.4, -0.5), xlabel="share of the runs")
    ax.set_title("What the decisions end in, in how many runs", fontsize=11)
    right.set(xlim=(-0.05, 1.5), xticks=np.linspace(0, 1, 5))
    right.set_xlabel("share of the runs (95% interval)")
    right.set_title("Runs that find both groupings", fontsize=10)
    right.grid(axis="x", color="0.85")
    right.tick_params(axis="y", length=0)
    handles = [Patch(ec="black", label=end, **LOOKS[end]) for end in LOOKS if end in seen]
    text = "Who gets the common region: a bar has a stripe a decision\n"
    text += "(split: a part of it; unlearned: an own part is wrong)"
    fig.legend(handles=handles, title=text, ncols=7, loc="outside lower center", frameon=False)
    fig.suptitle(title)
    return fig
