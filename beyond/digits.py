"""Handwritten digits that overlap: does the order hold on shapes that nobody here drew?

Two digits lie over one another as silhouettes. Which one is in front cannot be seen, so
the common region could belong to either. Own parts and common region differ in every
image. The left instance is the digit whose pixels lie further left on average. Nothing
else changes in the loss and the rules. The training is longer than in the paper's world,
the U-Net has one pooling more, and a truth counts as found from an IoU of 0.8. Which
pixels are common has to be guessed from the outline, but for one variant that sees it.

The digits are the 1,797 of 8 x 8 pixels that come with scikit-learn. They are enlarged to
16 x 16, bilinearly, and cut at 0.45 of the range.

python -m beyond.digits draws the recorded runs. With --train it trains three networks
once, in two minutes, and draws digits.png; --train --help lists its settings.
"""

from dataclasses import dataclass, replace
from functools import cache

import numpy as np
import torch
from matplotlib.figure import Figure

import data
from beyond import measures, rules, runs, shares, stats, sweep
from beyond.networks import decide

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
SEEN = {"shape.overlap": 0.5}
ALL_TRUTHS = {
    "single": runs.SINGLE,
    "single-seen": ruled(runs.SINGLE, "the overlap is seen", other=SEEN),
}
ONE_TRUTH = {"single-coin": ruled(runs.SINGLE, "one truth an image", coin=True)}
for key, v in NETWORKS.items():
    ALL_TRUTHS[key] = ruled(v, "the maximum")
    ALL_TRUTHS[f"{key}-matched"] = ruled(v, "matched", rule="matched")
    ALL_TRUTHS[f"{key}-loss"] = ruled(v, "ambiguous_loss", **HOME)
    ONE_TRUTH[f"{key}-coin"] = ruled(v, "the maximum", coin=True)
    ONE_TRUTH[f"{key}-coin-shared"] = ruled(v, "shared evenly", coin=True, **EVEN)
    ONE_TRUTH[f"{key}-coin-loss"] = ruled(v, "ambiguous_loss", coin=True, **HOME)
VARIANTS = ALL_TRUTHS | ONE_TRUTH
ALONE = ("single", "single-seen", "single-coin")  # one decision: what it gives is drawn
DRAWN = ("single-coin", "dual-coin", "dual-coin-loss")  # by --train
# Written down before it was run, on seeds 0-9: the GED of the first is smaller.
PLANNED = [("dual-coin-loss", "dual-coin")]
MEASURES = {
    "ged": "GED",
    "accuracy_term": "without diversity",
    "hungarian_iou": "HM-IoU",
    "best_match": "best match",
    "found": "both truths found",
}


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

    def batch_loss(net, generator, coins, progress):
        return loss(v, net, s, generator, coins)

    return runs.trained(v, seed, s, device, batch_loss)


def run(v, seed, s, device):
    """Train a Variant and test it. Returns a dict of what it ends in, for a row."""
    s = v.settings(s)
    net, seconds = trained(v, seed, s, device)
    images, parts = held_out(s, seed, device)
    return {"seconds": seconds, **measure(net, images, parts)}


def ends_of(row):
    """Return what the decisions of a run end in, {outcome: for each decision the share of
    the images}, the decision that is unlearned in the fewest images first."""
    shares_of = [decision["outcome_share"] for decision in row["decisions"]]
    shares_of.sort(key=lambda shares: shares.get("unlearned", 0))
    ends = {}
    for outcome in data.OUTCOMES:
        ends[outcome] = [shares.get(outcome, 0.0) for shares in shares_of]
    return ends


def given_away(rows):
    """Return b/P and the given share of all instances in runs of one decision, {variant:
    two arrays}. A run that has not learned the own parts in most images is left out: of it
    nothing is predicted."""
    points = {}
    for key in ALONE:
        learned = []
        for row in runs.lived(rows, key):
            if row["decisions"][0]["outcome_share"].get("unlearned", 0) < 0.5:
                learned.append(row["images"])
        if learned:
            ratio = np.concatenate([images["b_over_P"] for images in learned]) / 100
            given = np.concatenate([images["given"] for images in learned]) / 100
            points[key] = ratio, given
    return points


def table_of_shares(points):
    """Return what one decision gives to an instance, see given_away, as a table in
    Markdown."""
    lines = []
    for key, (ratio, given) in points.items():
        full = f"{np.mean(given >= data.GIVEN):.0%}"
        title = VARIANTS[key].title
        lines.append([title, len(given), f"{np.mean(given):.0%}", full])
    head = ["network", "instances", "mean share", f"{data.GIVEN} or more"]
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
        ax.set_title(VARIANTS[key].title, fontsize=10)
        ax.set_xlabel("b/P of the instance")
    axes[0].set_ylabel("share of the common region that it is given")
    handles = axes[0].get_lines()[1:]
    fig.legend(handles=handles, ncols=2, loc="outside lower center")
    fig.suptitle("How much of the common region does one decision give to an instance?")
    return fig


def report(rows):
    """Return the figure of the runs and their text, see sweep."""
    ended = {}
    for key, row in rows.items():
        ended[key] = row if "error" in row else row | ends_of(row)
    outcomes = {outcome: outcome for outcome in data.OUTCOMES}
    text = "Digits that overlap, one truth an image. "
    text += runs.headline(rows, VARIANTS, PLANNED[0], "ged", "GED")
    text += "The tables have means ± standard deviations over runs.\n\n"
    headings = {"all truths": ALL_TRUTHS, "one truth an image": ONE_TRUTH}
    for heading, variants in headings.items():
        text += f"Trained with {heading}:\n\n"
        text += runs.means(ended, variants, MEASURES) + "\n\n"
        text += "In what share of the images each decision ends so, "
        text += "the more learned one first:\n\n"
        text += runs.means(ended, variants, outcomes) + "\n\n"
    text += "The planned test, GED, paired over seeds:\n\n"
    text += runs.differences(rows, PLANNED, "ged", range(10)) + "\n\n"
    points = given_away(rows)
    text += "What one decision gives of the common region to an instance:\n\n"
    text += table_of_shares(points)
    return {"digits_shares.png": plot_shares(points)} if points else {}, text


def plot(images, parts, decisions):
    """Draw test images (n, 1, H, W), an image a column: its truths and what networks decide
    on it, {title: (n, D, 2, H, W)}. parts is (n, 3, H, W). Returns the Figure."""
    truths = data.groupings(parts)  # (n, 2 groupings, 2 instances, H, W)
    no_masks = torch.zeros_like(truths[:, :1])  # with which the image alone is painted
    blocks = {"image": no_masks, "its two truths": truths, **decisions}
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
        ax.set_ylabel(title.replace(", ", ",\n"), rotation=0, ha="right", va="center")
        ax.spines[:].set_visible(False)
    fig.legend(handles=data.key()[:-1], ncols=6, loc="outside lower center")
    fig.suptitle("Digits that overlap, one truth an image: what do two heads find?")
    return fig


def train_once(args):
    """Train one decision and two heads, these under the maximum and by the loss to take
    home, each with one truth an image, and draw what they decide on eight test images."""
    images, parts = held_out(SETTINGS, args.seed, "cpu")
    decisions = {}
    text = []
    for key in DRAWN:
        title = VARIANTS[key].title
        net, seconds = trained(VARIANTS[key], args.seed, SETTINGS, "cpu")
        ged = measure(net, images, parts)["ged"]
        text.append(f"{title}: GED {ged:.3f}, trained in {seconds:.0f} s")
        with torch.no_grad():
            decisions[title] = decide(net, images[:8])  # (8, D, 2, H, W)
    return {"digits.png": plot(images[:8], parts[:8], decisions)}, "\n".join(text)


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
    once=train_once,
)


if __name__ == "__main__":
    sweep.main(QUESTION)
