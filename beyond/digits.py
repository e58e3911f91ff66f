"""Handwritten digits that overlap: does the order hold on shapes that nobody here drew?

Two digits lie over one another as silhouettes. Which one is in front cannot be seen, so
the common region could belong to either. Own parts and common region differ in every
image. The left instance is the digit whose pixels lie further left on average. Nothing
else changes: the loss and the rules are those of the paper's world.

The digits are the 1,797 of 8 x 8 pixels that come with scikit-learn. They are enlarged to
16 x 16, bilinearly, and cut at 0.45 of the range.

python -m beyond.digits draws the recorded runs.
"""

from dataclasses import dataclass, replace
from functools import cache

import torch

import data
from beyond import measures, runs, sweep
from beyond.networks import decide

SIDE = 16  # pixels of a digit
CUT = 0.45  # of the range of grey: what is brighter is the digit's
TRAINING = 1400  # so many digits, the first ones, train, and the others test
SMALLEST, LARGEST = 0.2, 1.5  # b/P of either instance; other pairs are drawn again
APART = 2  # pixels at least between the middles of the two digits, from left to right
FOUND = 0.8  # a decision finds a truth if both masks, cut at 1/2, have this IoU


@dataclass(frozen=True)
class Pair:
    """In place of a data.Shape: the image in which two digits lie."""

    size: int = 32  # side of the image


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
    images = parts.sum(1, keepdim=True)
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
# "home" is the loss to take home; a coin draws one truth for each image.
VARIANTS = {"single": runs.SINGLE, "single-coin": replace(runs.SINGLE, coin=True)}
for key, v in NETWORKS.items():
    VARIANTS[key] = v
    VARIANTS[f"{key}-matched"] = replace(v, rule="matched")
    VARIANTS[f"{key}-loss"] = replace(v, rule="ambiguous_loss", number=3.0)
    VARIANTS[f"{key}-coin"] = replace(v, coin=True)
    VARIANTS[f"{key}-coin-shared"] = replace(v, rule="shared", number=0.5, coin=True)
    VARIANTS[f"{key}-coin-loss"] = replace(
        v, rule="ambiguous_loss", number=3.0, coin=True
    )


def loss(v, net, s, generator, coins=None):
    """Draw a batch and return the loss of a Variant's network. coins is the generator of
    the coin that draws one truth for each image; without it both count."""
    images, parts, weights = runs.draw(v, s, generator, coins, sample)
    truths = data.groupings(parts)
    return runs.minus_worth(v, s, decide(net, images), truths, weights)


def percent(numbers):
    """Return numbers as whole percents, in one list."""
    return (100 * numbers).round().int().flatten().tolist()


def image_by_image(decisions, parts):
    """Return what one decision (n, 1, 2, H, W) gives away in each image, as a dict for a
    row. b_over_P: that of the left instance, then that of the right one, of the first
    image and so on; given: the shares of the common region that they get. Both are in
    percent."""
    pixels = parts.sum((2, 3))  # (n, 3)
    ratio = pixels[:, 1:2] / pixels[:, [0, 2]]  # (n, 2)
    given = data.shares(decisions, parts)[:, 0]  # (n, 2)
    return {"b_over_P": percent(ratio), "given": percent(given)}


@torch.no_grad()
def measure(net, images, parts):
    """Return what a network is worth on images, as a dict for a row: data.measure and
    measures.measure; found: the share of the images in which both truths are found, see
    FOUND; of one decision image_by_image too."""
    decisions = decide(net, images)  # (n, D, 2, H, W)
    truths = data.groupings(parts)  # (n, 2 groupings, 2 instances, H, W)
    masks = (decisions > 0.5).float()
    found = (data.iou(masks, truths) >= FOUND).all(-1).any(1).all(1)  # (n,)
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


def report(rows_of_runs):
    """Return the figures of the runs and their text, see sweep."""
    return {}, ""


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
        "found": FOUND,
        "given": data.GIVEN,
        "learned": data.LEARNED,
    },
    default=tuple(VARIANTS),
    seeds=10,
)


if __name__ == "__main__":
    sweep.main(QUESTION)
