"""Handwritten digits that overlap: does the order hold on shapes that nobody here drew?

Two digits lie over one another as silhouettes. Which one is in front cannot be seen, so
the common region could belong to either. Own parts and common region differ in every
image. The left instance is the digit whose pixels lie further left on average. Nothing
else changes in the loss and the rules. The training is longer than in the paper's world,
the U-Net has one pooling more, and a truth counts as found from an IoU of 0.8. Which
pixels are common has to be guessed from the outline, but for one variant that sees it.

The digits are the 1,797 of 8 x 8 pixels that come with scikit-learn. They are enlarged to
16 x 16, bilinearly, and cut at 0.45 of the range.

python -m beyond.digits draws the recorded runs. With --train it trains the three
networks whose decisions digits.png shows, in two minutes, and saves these decisions.
"""

import argparse
import statistics
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path

import numpy as np
import torch
from matplotlib.figure import Figure

import data
from beyond import measures, rules, runs, shares, stats, sweep
from beyond.networks import Variant, decide

SIDE = 16  # pixels of a digit
CUT = 0.45  # of the range of grey: what is brighter is the digit's
TRAINING = 1400  # so many digits, the first ones, train, and the others test
SMALLEST, LARGEST = 0.2, 1.5  # b/P of either instance; other pairs are drawn again
APART = 2  # pixels at least between the middles of the two digits, from left to right
EXACT = 0.8  # a decision finds a truth if each mask, cut at 1/2, has this IoU


@dataclass(frozen=True)
class Pair:
    """In place of a data.Shape: the image in which two digits lie."""

    size: int = 32  # side of the image
    overlap: float = 0.0  # by how much the common region is brighter; 0: not to be seen


SETTINGS = runs.Settings(epochs=30, batch=8, depth=3, shape=Pair())


@cache
def silhouettes():
    """Return all digits as silhouettes of 0 and 1, (1797, SIDE, SIDE). ValueError:
    scikit-learn, with which they come, is not installed."""
    try:
        from sklearn.datasets import load_digits
    except ImportError:
        raise ValueError(
            "the digits come with scikit-learn: pip install scikit-learn"
        ) from None
    grey = torch.tensor(load_digits().images).float() / 16  # (1797, 8, 8), from 0 to 1
    larger = torch.nn.functional.interpolate(
        grey[:, None], (SIDE, SIDE), mode="bilinear"
    )
    return (larger[:, 0] > CUT).float()


def candidates(n, generator, size, digits):
    """Draw n pairs of digits (N, SIDE, SIDE) at random places in an image of side size:
    two silhouettes each, (n, 2, H, W)."""
    device = generator.device
    # A digit stands in the middle of a larger canvas. A window of the size of an image,
    # whose corner is (top, left), shows the digit at one of all positions.
    margin = size - SIDE
    canvas = torch.nn.functional.pad(digits.to(device), (margin,) * 4)
    windows = canvas.unfold(1, size, 1).unfold(2, size, 1)  # (N, tops, lefts, H, W)
    which = torch.randint(len(digits), (n, 2), generator=generator, device=device)
    top = torch.randint(margin + 1, (n, 2), generator=generator, device=device)
    left = torch.randint(margin + 1, (n, 2), generator=generator, device=device)
    return windows[which, top, left]


def middles(pairs):
    """Return the mean column of the pixels of each of two silhouettes (n, 2, H, W): (n,
    2)."""
    columns = torch.arange(pairs.shape[-1], device=pairs.device)
    return (pairs * columns).sum((2, 3)) / pairs.sum((2, 3))


def fits(pairs):
    """Return whether pairs of silhouettes (n, 2, H, W) are what a network is shown, (n,):
    b/P of both is from SMALLEST to LARGEST, and their middles are APART."""
    b = pairs.prod(1).sum((1, 2))[:, None]  # (n, 1)
    P = pairs.sum((2, 3)) - b  # (n, 2)
    in_bounds = (b >= SMALLEST * P) & (b <= LARGEST * P) & (b > 0)  # (n, 2)
    one, other = middles(pairs).unbind(1)  # each (n,)
    return in_bounds.all(1) & ((one - other).abs() >= APART)


def parts_of(pairs):
    """Return the parts (n, 3, H, W) of pairs of silhouettes (n, 2, H, W), as data.sample
    does: left own part, common region, right own part. The left silhouette is the one
    whose middle lies further left."""
    one, other = middles(pairs).unbind(1)  # each (n,)
    first_is_left = (one < other)[:, None, None]
    left = torch.where(first_is_left, pairs[:, 0], pairs[:, 1])  # (n, H, W)
    right = torch.where(first_is_left, pairs[:, 1], pairs[:, 0])
    common = left * right
    return torch.stack((left - common, common, right - common), 1)


def sample(n, generator, shape=Pair(), noise=0.1, digits=None):
    """Draw n images (n, 1, H, W), as data.sample does, of two digits that overlap, and
    their parts (n, 3, H, W), see parts_of. The digits are those that train unless others
    (N, SIDE, SIDE) are given."""
    if digits is None:
        digits = silhouettes()[:TRAINING]
    parts = torch.zeros(0, 3, shape.size, shape.size, device=generator.device)
    while len(parts) < n:  # a fifth of the pairs fit
        pairs = candidates(8 * n, generator, shape.size, digits)
        parts = torch.cat((parts, parts_of(pairs[fits(pairs)])))
    parts = parts[:n]
    images = parts.sum(1, keepdim=True) + shape.overlap * parts[:, 1:2]
    grain = torch.randn(images.shape, generator=generator, device=generator.device)
    return images + noise * grain, parts


def held_out(s, seed, device):
    """Return the images that a run is tested on, of digits that do not train, and their
    parts, see sample."""
    digits = silhouettes()[TRAINING:]
    test = data.stream(seed, "test", device)
    return sample(s.held_out, test, s.shape, s.noise, digits)


NETWORKS = {
    "dual": runs.TWO_HEADS,
    "independent": runs.TWO_UNETS,
    "told-step": runs.TOLD,
    "recurrent": runs.RECURRENT,
}


def ruled(v, words, **how):
    """Return a Variant with another rule, in words, and so on."""
    return replace(v, title=f"{v.title}, {words}", **how)


# "loss" is the loss to take home; a coin draws one truth for each image.
HOME = {"rule": "ambiguous_loss", "number": 3.0}
EVEN = {"rule": "shared", "number": 0.5}
VARIANTS = {
    "single": runs.SINGLE,
    "single-seen": Variant(
        "one decision, the overlap is seen",
        "UNet",
        {"out_channels": 2},
        other={"shape.overlap": 0.5},
    ),
    "single-coin": replace(runs.SINGLE, coin=True),
}
for key, v in NETWORKS.items():
    VARIANTS[key] = ruled(v, "the maximum")
    VARIANTS[f"{key}-matched"] = ruled(v, "matched", rule="matched")
    VARIANTS[f"{key}-loss"] = ruled(v, "ambiguous_loss", **HOME)
    VARIANTS[f"{key}-coin"] = ruled(v, "the maximum", coin=True)
    VARIANTS[f"{key}-coin-shared"] = ruled(v, "shared evenly", coin=True, **EVEN)
    VARIANTS[f"{key}-coin-loss"] = ruled(v, "ambiguous_loss", coin=True, **HOME)
ALONE = {  # of which it is drawn what one decision gives away
    "single": "one decision",
    "single-seen": "one decision, the overlap is seen",
    "single-coin": "one decision, one truth an image",
}
PLANNED_SEEDS = range(10)  # of the planned test
PICTURED = ("single-coin", "dual-coin", "dual-coin-loss")  # of the seed 0
MEASURES = {
    "ged": "GED",
    "accuracy_term": "without diversity",
    "hungarian_iou": "HM-IoU",
    "best_match": "best match",
    "found": "both truths found",
}
MASKS = sweep.ROWS / "digits_masks.npz"  # what they decide on eight test images


def loss(v, net, s, generator, coins=None):
    """Draw a batch and return the loss of a Variant's network. coins is the generator of
    the coin that draws one truth for each image; without it both count."""
    images, parts, weights = runs.draw(v, s, generator, coins, sample)
    truths = data.groupings(parts)
    return runs.minus_worth(v, s, decide(net, images), truths, weights)


def image_by_image(decisions, parts):
    """Return what one decision (n, 1, 2, H, W) gives away in each image, as a dict for a
    row. b_over_P: that of the left instance, then that of the right one, of the first
    image and so on; given: the shares of the common region that they get. Both are in
    percent."""
    pixels = parts.sum((2, 3))  # (n, 3)
    ratio = pixels[:, 1:2] / pixels[:, [0, 2]]  # (n, 2)
    given = data.shares(decisions, parts)[:, 0]  # (n, 2)
    numbers = torch.stack((ratio, given))  # (2, n, 2)
    percent = (100 * numbers).round().int().flatten(1)  # (2, 2 n)
    return {"b_over_P": percent[0].tolist(), "given": percent[1].tolist()}


@torch.no_grad()
def measure(net, images, parts):
    """Return what a network is worth on images, as a dict for a row: data.measure and
    measures.measure; found: the share of the images in which both truths are found, see
    EXACT; of one decision image_by_image too."""
    decisions = decide(net, images)  # (n, D, 2, H, W)
    truths = data.groupings(parts)  # (n, 2 groupings, 2 instances, H, W)
    masks = (decisions > 0.5).float()
    exact = (data.iou(masks, truths) >= EXACT).all(3)  # (n, D, 2 groupings)
    found = exact.any(1).all(1)  # (n,), whether both truths are found
    worth = data.measure(decisions, parts)
    outcome = " + ".join(sorted(d["outcome"] for d in worth["decisions"]))
    row = {"outcome": outcome, "found": found.float().mean().item()}
    row |= measures.measure(masks, truths) | worth
    if decisions.shape[1] == 1:
        row["images"] = image_by_image(decisions, parts)
    return row


def trained(v, seed, s, device):
    """Return the network of a Variant, trained, and the seconds it took."""
    net, generator = v.begin(s, seed, device)
    coins = torch.Generator(device).manual_seed(seed + 3 * data.SEEDS)

    def batch_loss(progress):
        return loss(v, net, s, generator, coins)

    steps = s.epochs * s.steps_per_epoch
    return net, sweep.train(net, v.optimiser(net, s), batch_loss, steps)


def run(v, seed, s, device):
    """Train a Variant and test it. Returns a dict of what it ends in, for a row."""
    s = v.settings(s)
    net, seconds = trained(v, seed, s, device)
    images, parts = held_out(s, seed, device)
    return {"seconds": seconds, **measure(net, images, parts)}


def mean_of(rows, name):
    """Return the mean of a number over rows and, of several, its standard deviation, as a
    text."""
    values = [row[name] for row in rows]
    text = f"{statistics.mean(values):.3f}"
    return f"{text} ± {statistics.stdev(values):.3f}" if len(values) > 1 else text


def ends_of(rows, rank):
    """Return what a decision ends in, mean over rows, as a text. rank 0 is, of each run,
    the decision that is unlearned in the fewest images, 1 is the other one."""
    if rank >= len(rows[0]["decisions"]):
        return "-"
    total = dict.fromkeys(data.OUTCOMES, 0.0)
    for row in rows:
        fractions = [decision["outcome_share"] for decision in row["decisions"]]
        fractions.sort(key=lambda fraction: fraction.get("unlearned", 0))
        for end, fraction in fractions[rank].items():
            total[end] += fraction / len(rows)
    return ", ".join(f"{end} {share:.0%}" for end, share in total.items())


def tables(rows_of_runs, coin):
    """Return the measures of the variants with or without a coin, and what their decisions
    end in, as two tables in Markdown."""
    worth = []
    ends = []
    for key, v in VARIANTS.items():
        rows = runs.lived(rows_of_runs, key)
        if v.coin == coin and rows:
            numbers = [mean_of(rows, name) for name in MEASURES]
            worth.append([v.title, len(rows), *numbers])
            ends.append([v.title, ends_of(rows, 0), ends_of(rows, 1)])
    text = stats.markdown(["network, rule", "runs", *MEASURES.values()], worth)
    text += "\n\nWhat becomes of the common region, image by image:\n\n"
    return text + stats.markdown(
        ["network, rule", "the more learned decision", "the other"], ends
    )


def given_away(rows_of_runs):
    """Return b/P and the given share of all instances in runs of one decision, {variant:
    two arrays}. A run that has not learned the own parts in most images is left out: of it
    nothing is predicted."""
    points = {}
    for key in ALONE:
        rows = []
        for row in runs.lived(rows_of_runs, key):
            if row["decisions"][0]["outcome_share"].get("unlearned", 0) < 0.5:
                rows.append(row)
        if rows:
            ratio = np.concatenate([row["images"]["b_over_P"] for row in rows]) / 100
            given = np.concatenate([row["images"]["given"] for row in rows]) / 100
            points[key] = ratio, given
    return points


def table_of_shares(points):
    """Return what one decision gives to an instance, see given_away, as a table in
    Markdown."""
    lines = []
    for key, (ratio, given) in points.items():
        above = np.mean(given > shares.dividing_point(1, ratio))
        full = np.mean(given >= data.GIVEN)
        mean = f"{np.mean(given):.3f}"
        lines.append([ALONE[key], len(given), mean, f"{above:.1%}", f"{full:.1%}"])
    head = ["network", "instances", "mean share", "above a*", f"{data.GIVEN} or more"]
    return stats.markdown(head, lines)


def plot_shares(points):
    """Draw the share that one decision gives to an instance over the instance's b/P, a
    point an instance, see given_away. Returns the Figure."""
    fig = Figure(figsize=(11, 4.4), layout="constrained")
    axes = fig.subplots(1, len(points), squeeze=False, sharey=True)[0]
    r = np.linspace(SMALLEST, LARGEST, 50)
    for ax, (key, (ratio, given)) in zip(axes, points.items()):
        ax.plot(ratio, given, ".", color=data.ORANGE, ms=3, alpha=0.3)
        ax.plot(r, np.ones(50), "k", label="predicted: an undecided half climbs to 1")
        lowest = shares.dividing_point(1, r)
        ax.plot(r, lowest, "k--", label="a*: from above it a share climbs to 1")
        ax.set_title(ALONE[key], fontsize=10)
        ax.set_xlabel("b/P of the instance")
    axes[0].set_ylabel("share of the common region that it is given")
    handles = axes[0].get_lines()[1:]
    fig.legend(handles=handles, ncols=2, loc="outside lower center")
    fig.suptitle("How much of the common region does one decision give to an instance?")
    return fig


def plot_masks(path):
    """Draw a file of decisions on test images, as MASKS is one: an image a column, its two
    truths and the decisions below. Returns the Figure."""
    loaded = {}
    with np.load(path) as file:
        for name in file:
            loaded[name] = torch.from_numpy(file[name]) / 255
    images = loaded["images"]
    parts = loaded["parts"]
    truths = data.groupings(parts)  # (n, 2 groupings, 2 instances, H, W)
    no_masks = torch.zeros_like(truths[:, :1])  # with which the image alone is painted
    blocks = {"image": no_masks, "its two truths": truths}
    for key in PICTURED:
        blocks[VARIANTS[key].title.replace(", ", ",\n")] = loaded[key]
    heights = [masks.shape[1] for masks in blocks.values()]
    fig = Figure(figsize=(10.5, 8), layout="constrained")
    axes = fig.subplots(len(blocks), 1, height_ratios=heights)
    for ax, (title, masks) in zip(axes, blocks.items()):
        columns = []
        for k in range(len(images)):
            cells = [data.paint(images[k], mask, parts[k]) for mask in masks[k]]
            column = np.concatenate(cells)  # (D H, W, 3)
            columns.append(np.pad(column, ((0, 0), (1, 1), (0, 0)), constant_values=1))
        ax.imshow(np.concatenate(columns, 1), interpolation="nearest")
        ax.set(xticks=[], yticks=[])
        ax.set_ylabel(title, rotation=0, ha="right", va="center")
        ax.spines[:].set_visible(False)
    fig.legend(handles=data.key()[:-1], ncols=6, loc="outside lower center")
    fig.suptitle("Digits that overlap, one truth an image: what do two heads find?")
    return fig


def report(rows_of_runs):
    """Return the figures of the runs and their text, see sweep."""
    saved = {"digits.png": plot_masks(MASKS)} if MASKS.exists() else {}
    text = ""
    pair = ("dual-coin-loss", "dual-coin")
    ours, maximum = runs.paired(rows_of_runs, *pair, "ged", PLANNED_SEEDS)
    if len(ours):
        text += "With one truth an image two heads have a mean GED of "
        text += f"{ours.mean():.2f} by the loss to take home\n"
        text += f"and {maximum.mean():.2f} under the maximum.\n"
    points = given_away(rows_of_runs)
    if "single" in points and "single-seen" in points:
        hidden = points["single"][1].mean()
        seen = points["single-seen"][1].mean()
        text += f"One decision gives an instance {hidden:.0%} of the common region, "
        text += f"and\n{seen:.0%} where the overlap can be seen.\n"
    text += "\nMeans ± standard deviations over runs. Trained with all truths:\n\n"
    text += tables(rows_of_runs, coin=False)
    text += "\n\nTrained with one truth an image:\n\n"
    text += tables(rows_of_runs, coin=True) + "\n"
    if points:
        saved["digits_shares.png"] = plot_shares(points)
        text += "\nWhat one decision gives to an instance:\n\n"
        text += table_of_shares(points) + "\n"
    if len(ours):
        more = ours - maximum
        text += "\nThe planned test: two heads, one truth an image, GED by the loss to "
        text += "take home minus\nGED under the maximum, in pairs of runs of one seed. "
        text += f"Mean {more.mean():+.3f},\nfrom {more.min():+.3f} to {more.max():+.3f}"
        text += (
            f", {len(more)} pairs; sign-flip test, p = {stats.sign_flips(more):.2g}."
        )
    return saved, text.strip()


def train_pictured(argv):
    """Train the networks of PICTURED and save what they decide on the first eight test
    images, as MASKS keeps it, and digits.png."""
    text = "Train the three networks whose decisions digits.png shows."
    parser = argparse.ArgumentParser(description=text, usage=argparse.SUPPRESS)
    parser.add_argument("--train", action="store_true", help="which you do here")
    parser.add_argument("--out", type=Path, default=Path("out"), help="folder to use")
    args = parser.parse_args(argv)
    images, parts = held_out(SETTINGS, 0, "cpu")
    shown = {"images": images[:8], "parts": parts[:8]}
    for key in PICTURED:
        net, seconds = trained(VARIANTS[key], 0, SETTINGS, "cpu")
        print(f"{VARIANTS[key].title}: {seconds:.0f} s", flush=True)
        with torch.no_grad():
            shown[key] = decide(net, images[:8])  # (8, D, 2, H, W)
    for name, picture in shown.items():
        shown[name] = (255 * picture.clamp(0, 1)).round().byte().numpy()
    args.out.mkdir(parents=True, exist_ok=True)
    np.savez_compressed(args.out / MASKS.name, **shown)
    sweep.save(args.out / "digits.png", plot_masks(args.out / MASKS.name))
    print(f"Saved in {args.out}: {MASKS.name}, digits.png.")


QUESTION = sweep.Question(
    name="digits",
    about=__doc__,
    variants=VARIANTS,
    run=run,
    loss=loss,
    report=report,
    settings=SETTINGS,
    fixed={
        "digit_side": SIDE,
        "digit_cut": CUT,
        "training_digits": TRAINING,
        "b_over_P": [SMALLEST, LARGEST],
        "apart": APART,
        "found": EXACT,
        "given": data.GIVEN,
        "learned": data.LEARNED,
        **rules.OF_THE_LOSS,
    },
    default=tuple(VARIANTS),
    seeds=10,
    once=train_pictured,
)


if __name__ == "__main__":
    sweep.main(QUESTION)
