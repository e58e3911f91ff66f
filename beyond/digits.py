"""Handwritten digits that overlap: do the rules rank alike on shapes of the real world?

Two digits lie over one another as silhouettes. Which one is in front cannot be seen, so
the common region could belong to either. Own parts and common region differ in every
image. The left instance is the digit whose pixels lie further left on average.

The loss and the rules are those of the paper's world. The training takes 30 epochs in
batches of 8, the U-Net has three poolings, and a truth counts as found from an IoU of
0.8. Which pixels are common has to be guessed from the outline. One variant sees it.

The digits are the 1,797 of 8 x 8 pixels that come with scikit-learn. They are enlarged to
16 x 16, bilinearly, and cut at 0.45 of the range.

python -m beyond.digits draws the recorded runs. With --train it trains three networks
once, in two minutes, and draws digits.png.
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
TRAINING = 1400  # so many digits, the first ones, are for training
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
    """Return the mean columns, (n, 2), of the pixels of silhouettes (n, 2, H, W)."""
    columns = torch.arange(pairs.shape[-1], device=pairs.device)
    return (pairs * columns).sum((2, 3)) / pairs.sum((2, 3))


def fits(pairs):
    """Return whether pairs of silhouettes (n, 2, H, W) are what a network is shown, (n,):
    b/P of either is from SMALLEST to LARGEST, and their middles are APART."""
    b = pairs.prod(1).sum((1, 2))[:, None]  # (n, 1)
    P = pairs.sum((2, 3)) - b  # (n, 2)
    in_bounds = (b >= SMALLEST * P) & (b <= LARGEST * P)  # (n, 2)
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
    found = torch.zeros(0, 3, shape.size, shape.size, device=generator.device)
    while len(found) < n:  # a fifth of the pairs fit
        pairs = candidates(8 * n, generator, shape.size, digits)
        found = torch.cat((found, parts_of(pairs[fits(pairs)])))
    parts = found[:n]
    images = parts.sum(1, keepdim=True) + shape.overlap * parts[:, 1:2]  # (n, 1, H, W)
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


def changed(v, words, **changes):
    """Return a Variant with these changes, and with these words at the end of its title."""
    return replace(v, title=f"{v.title}, {words}", **changes)


HOME = {"rule": "ambiguous_loss", "number": 3.0}
EVEN = {"rule": "shared", "number": 0.5}
SEEN = {"shape.overlap": 0.5}
ALL_TRUTHS = {
    "single": runs.SINGLE,
    "single-seen": changed(runs.SINGLE, "the common region is seen", other=SEEN),
}
ONE_TRUTH = {"single-coin": replace(runs.SINGLE, coin=True)}
for key, v in NETWORKS.items():
    ALL_TRUTHS[key] = changed(v, "the maximum")
    ALL_TRUTHS[f"{key}-matched"] = changed(v, "matched", rule="matched")
    ALL_TRUTHS[f"{key}-loss"] = changed(v, "ambiguous_loss", **HOME)
    ONE_TRUTH[f"{key}-coin"] = changed(v, "the maximum", coin=True)
    ONE_TRUTH[f"{key}-coin-shared"] = changed(v, "shared evenly", coin=True, **EVEN)
    ONE_TRUTH[f"{key}-coin-loss"] = changed(v, "ambiguous_loss", coin=True, **HOME)
VARIANTS = ALL_TRUTHS | ONE_TRUTH
ALONE = {  # one decision, of which it is drawn what it gives
    "single": "all truths",
    "single-seen": "all truths, the common region is seen",
    "single-coin": "one truth an image",
}
DRAWN = ("single-coin", "dual-coin", "dual-coin-loss")  # by --train
# Written down before it was run: the first variant has a smaller GED than the second.
PLANNED = [("dual-coin-loss", "dual-coin")]
NOT_PLANNED = [
    ("dual-loss", "dual"),
    ("independent-loss", "independent"),
    ("independent-coin-loss", "independent-coin"),
    ("told-step-loss", "told-step"),
    ("told-step-coin-loss", "told-step-coin"),
    ("recurrent-loss", "recurrent"),
    ("recurrent-coin-loss", "recurrent-coin"),
]
MEASURES = {
    "ged": "GED",
    "accuracy_term": "without diversity",
    "hungarian_iou": "HM-IoU",
    "best_match": "best match",
    "found": "both truths found",
}


def loss(v, net, s, generator, coins=None):
    """Draw a batch and return the loss of a Variant's network. coins is the generator of
    the coin that draws one truth for each image; without it all truths count."""
    images, parts, weights = runs.draw(v, s, generator, coins, sample)
    truths = data.groupings(parts)
    return runs.minus_worth(v, s, decide(net, images), truths, weights)


def percent(values):
    """Return values (n, 2 instances) in whole percent, as a list: those of the left and the
    right instance of the first image, and so on."""
    return (100 * values).round().int().flatten().tolist()


@torch.no_grad()
def measure(net, images, parts):
    """Return what a network is worth on images, as a dict for a row: data.measure and
    measures.measure; found: the share of the images in which both truths are found, see
    EXACT. Of one decision there is more, images, instance by instance, see percent: b/P,
    and the share of the common region that is given."""
    decisions = decide(net, images)  # (n, D, 2, H, W)
    truths = data.groupings(parts)  # (n, 2 groupings, 2 instances, H, W)
    masks = (decisions > 0.5).float()
    ious = data.iou(masks, truths)  # (n, D, 2 groupings, 2 instances)
    exact = (ious >= EXACT).all(3)  # (n, D, 2 groupings)
    found = exact.any(1).all(1)  # (n,), whether both truths are found
    worth = data.measure(decisions, parts)
    outcome = " + ".join(sorted(d["outcome"] for d in worth["decisions"]))
    row = {"outcome": outcome, "found": found.float().mean().item()}
    row |= measures.measure(masks, truths)
    row |= worth
    if decisions.shape[1] == 1:
        pixels = parts.sum((2, 3))  # (n, 3)
        ratio = pixels[:, 1:2] / pixels[:, [0, 2]]  # (n, 2), b/P
        given = data.shares(decisions, parts)[:, 0]  # (n, 2)
        row["images"] = {"b_over_P": percent(ratio), "given": percent(given)}
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


def unlearned_in(decision):
    """Return the share of the images in which a decision of a row is unlearned."""
    return decision["outcome_share"].get("unlearned", 0.0)


def ends_of(row):
    """Return what the decisions of a run end in, {outcome: for each decision the share of
    the images}, the decision that is unlearned in the fewest images first. idle: how many
    of them are unlearned in all images."""
    decisions = sorted(row["decisions"], key=unlearned_in)
    ends = {}
    for outcome in data.OUTCOMES:
        ends[outcome] = [one["outcome_share"].get(outcome, 0.0) for one in decisions]
    ends["idle"] = sum(unlearned_in(one) == 1 for one in decisions)
    return ends


def given_away(rows):
    """Return b/P and the given share of all instances in runs of one decision, {variant:
    two arrays}. A run that has not learned the own parts in most images is left out: of it
    nothing is predicted."""
    points = {}
    for key in ALONE:
        learned = []
        for row in runs.lived(rows, key):
            if unlearned_in(row["decisions"][0]) < 0.5:
                learned.append(row["images"])
        if learned:
            ratio = np.concatenate([one["b_over_P"] for one in learned]) / 100
            given = np.concatenate([one["given"] for one in learned]) / 100
            points[key] = ratio, given
    return points


def table_of_shares(points):
    """Return what one decision gives to an instance, see given_away, as a table in
    Markdown. From above a* a share climbs to 1, see beyond/shares.py."""
    lines = []
    for key in points:
        ratio, given = points[key]
        mean = f"{np.mean(given):.0%}"
        above = f"{np.mean(given > shares.dividing_point(1, ratio)):.0%}"
        full = f"{np.mean(given >= data.GIVEN):.0%}"
        lines.append([ALONE[key], len(given), mean, above, full])
    head = ["one decision", "instances", "mean share", "above a*"]
    return stats.markdown([*head, f"{data.GIVEN} or more"], lines)


def plot_shares(points):
    """Draw the share that one decision gives to an instance over the instance's b/P, a
    point an instance, see given_away. Returns the Figure."""
    fig = Figure(figsize=(11, 4.4), layout="constrained")
    axes = fig.subplots(1, len(points), squeeze=False, sharey=True)[0]
    r = np.linspace(SMALLEST, LARGEST, 50)
    for ax, key in zip(axes, points):
        ratio, given = points[key]
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


ABOUT = """The tables have means ± standard deviations over runs. In the second of each two
are the shares of the images in which a decision ends so. The decision that is learned in
more of them comes first. The last column is how many decisions are unlearned in all."""

ABOUT_SHARES = """What one decision gives of the common region to an instance, in the runs that
learned the own parts:"""


def report(rows):
    """Return the figure of the runs and their text, see sweep."""
    with_ends = {}
    for run_of, row in rows.items():
        with_ends[run_of] = row
        if "error" not in row:
            with_ends[run_of] = row | ends_of(row)
    outcomes = {outcome: outcome for outcome in data.OUTCOMES}  # each its own heading
    outcomes["idle"] = "unlearned in all images"
    text = "Digits that overlap.\n"
    planned = runs.differences(rows, PLANNED, "ged")
    if planned:
        text += f"One truth an image. {runs.headline(rows, VARIANTS, PLANNED[0])}\n"
    text += f"\n{ABOUT}\n\n"
    headings = {"all truths": ALL_TRUTHS, "one truth an image": ONE_TRUTH}
    for heading, variants in headings.items():
        worth = runs.means(with_ends, variants, MEASURES)
        if worth:
            ends = runs.means(with_ends, variants, outcomes)
            text += f"Trained with {heading}:\n\n{worth}\n\n{ends}\n\n"
    if planned:
        text += f"The planned test, GED, paired over seeds:\n\n{planned}\n\n"
    others = runs.differences(rows, NOT_PLANNED, "ged")
    if others:
        text += f"Not planned, GED, paired over seeds:\n\n{others}\n\n"
    points = given_away(rows)
    saved = {}
    if points:
        saved["digits_shares.png"] = plot_shares(points)
        text += f"{ABOUT_SHARES}\n\n{table_of_shares(points)}"
    return saved, text


def plot(images, parts, decisions):
    """Draw images (n, 1, H, W) with these parts, (n, 3, H, W). Each image has a column, with
    its truths and the decisions of networks, {title: (n, D, 2, H, W)}. Returns the
    Figure."""
    truths = data.groupings(parts)  # (n, 2 groupings, 2 instances, H, W)
    no_masks = torch.zeros_like(truths[:, :1])  # with which the image alone is painted
    blocks = {"image": no_masks, "its two truths": truths, **decisions}
    heights = [masks.shape[1] for masks in blocks.values()]
    fig = Figure(figsize=(10.5, 8), layout="constrained")
    axes = fig.subplots(len(blocks), 1, height_ratios=heights)
    for ax, (title, masks) in zip(axes, blocks.items()):
        columns = []
        for k in range(len(images)):
            cells = [data.paint(images[k], pair, parts[k]) for pair in masks[k]]
            column = np.concatenate(cells)  # (D H, W, 3)
            # A white line on either side: (D H, W + 2, 3).
            columns.append(np.pad(column, ((0, 0), (1, 1), (0, 0)), constant_values=1))
        ax.imshow(np.concatenate(columns, 1), interpolation="nearest")
        ax.set(xticks=[], yticks=[])
        ax.set_ylabel(title.replace(", ", ",\n"), rotation=0, ha="right", va="center")
        ax.spines[:].set_visible(False)
    key = data.key()[:-1]  # without the dashed line
    fig.legend(handles=key, ncols=6, loc="outside lower center")
    fig.suptitle("Digits that overlap, one truth an image: what do two heads find?")
    return fig


def train_once(seed):
    """Train one decision and two heads with one truth an image, the two heads under the
    maximum and by the loss to take home. Returns the picture of what they decide on eight
    test images, {file name: Figure}."""
    images, parts = held_out(SETTINGS, seed, "cpu")
    decisions = {}
    for key in DRAWN:
        v = VARIANTS[key]
        net, seconds = trained(v, seed, v.settings(SETTINGS), "cpu")
        ged = measure(net, images, parts)["ged"]
        print(f"{v.title}: GED {ged:.3f}, trained in {seconds:.0f} s", flush=True)
        with torch.no_grad():
            decisions[v.title] = decide(net, images[:8])  # (8, D, 2, H, W)
    return {"digits.png": plot(images[:8], parts[:8], decisions)}


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
