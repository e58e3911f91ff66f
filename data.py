"""The ambiguous world: images of two overlapping dumbbells whose shared square could
belong to either.

    left lobe = bar = [common square] = bar = right lobe

Grouped one way the left dumbbell owns the square (P1+b, P2), grouped the other way the
right one does (P1, b+P2). The left grouping is true with probability m, the right one
with n = 1 - m, and nothing in the image tells which. Here are the images, both
groupings of each, the score of a segmentation (Eq. 1 made differentiable), what outcome
it is (left, right, both, neither, split, unlearned) and how it is painted (red, yellow,
orange).

Running this script saves data.png, the grouping problem of Fig. 1a and a few images
with their two groupings, and data.json.
"""

import argparse
import math
from dataclasses import asdict, dataclass, fields
from numbers import Integral

import torch
from matplotlib.figure import Figure
from matplotlib.patches import Patch, Rectangle

import theory

OUTCOMES = ("left", "right", "both", "neither", "split", "unlearned")
# An instance is given the common region if its mask covers at least this share of it,
# and is not given it if the mask covers at most 1 - GIVEN; anything between is a split.
GIVEN = 0.9
# A decision is unlearned if, outside the common region, the IoU of either of its masks,
# cut off at 1/2, with the instance's own part is below this.
LEARNED = 0.75
# A decision finds a grouping if both its masks, cut off at 1/2, reach this IoU with it.
EXACT = 0.95
# Seeds are below this, so that the weights, the training images and the test images of
# all runs come from streams of their own: seed, seed + SEEDS, seed + 2 SEEDS.
SEEDS = 10**6


@dataclass(frozen=True)
class Shape:
    """The sizes, in pixels, of an image and of the two dumbbells in it, which mirror
    each other.

    With the default sizes P1 = P2 = b = 64. Sizes that make no dumbbell or do not fit
    the image raise ValueError.
    """

    size: int = 32  # side of the image
    square: int = 8  # side of the common square, b = square^2
    lobe_height: int = 10
    lobe_width: int = 6
    bar_height: int = (
        2  # the bar joins a lobe to the square; lobe and bar are an instance's own part
    )
    bar_length: int = 2

    def __post_init__(self):
        for field in fields(self):
            value = getattr(self, field.name)
            if not isinstance(value, Integral) or value < 1:
                raise ValueError(
                    f"{field.name} must be a whole number > 0, got {value}"
                )
        if self.bar_height >= min(self.lobe_height, self.square):
            allowed = "below lobe_height and square"  # or it is no bar
            raise ValueError(f"bar_height must be {allowed}, got {self.bar_height}")
        needed = max(self.height, self.width)
        if needed > self.size:
            raise ValueError(f"size must be at least {needed}, got {self.size}")

    @property
    def height(self):
        """Height of the pair in pixels."""
        return max(self.lobe_height, self.square)

    @property
    def width(self):
        """Width of the pair in pixels."""
        return 2 * (self.lobe_width + self.bar_length) + self.square

    @property
    def P(self):
        """Pixels of each instance's own part, P1 = P2."""
        return self.lobe_height * self.lobe_width + self.bar_height * self.bar_length

    @property
    def b(self):
        """Pixels of the common region."""
        return self.square**2

    def template(self):
        """The pair, (height, width) uint8: 1 is left own part, 2 common, 3 right."""
        labels = torch.zeros(self.height, self.width, dtype=torch.uint8)
        lobe, bar = (
            (self.lobe_height, self.lobe_width),
            (self.bar_height, self.bar_length),
        )
        square = (self.square, self.square)
        x = 0
        for label, (h, w) in zip((1, 1, 2, 3, 3), (lobe, bar, square, bar, lobe)):
            top = (self.height - h) // 2
            labels[top : top + h, x : x + w] = label
            x += w
        return labels


def sample(n, generator, shape=Shape(), noise=0.1):
    """Draw n images of the pair at random positions, on the generator's device.

    Returns the images (n, 1, H, W), 1 on the pair, 0 around it, plus Gaussian noise of
    that standard deviation; and the parts (n, 3, H, W), which are 1 on P1, on b and on
    P2. No truth is drawn: the image cannot depend on it. ValueError: n below 1, noise
    negative or not finite.
    """
    if n < 1:
        raise ValueError(f"n must be at least 1, got {n}")
    if not 0 <= noise < math.inf:
        raise ValueError(f"noise must be at least 0 and finite, got {noise}")
    device, S, h, w = generator.device, shape.size, shape.height, shape.width
    # The template in the bottom right corner of a larger canvas: a window of S x S
    # whose corner lies (dy, dx) inside it shows the pair at every position in turn, so
    # one lookup places all n images.
    canvas = torch.zeros(2 * S - h, 2 * S - w, dtype=torch.uint8, device=device)
    canvas[S - h : S, S - w : S] = shape.template().to(device)
    windows = canvas.unfold(0, S, 1).unfold(1, S, 1)  # (S-h+1, S-w+1, S, S), a view
    dy = torch.randint(0, S - h + 1, (n,), generator=generator, device=device)
    dx = torch.randint(0, S - w + 1, (n,), generator=generator, device=device)
    labels = windows[dy, dx][:, None]  # (n, 1, H, W)
    values = torch.tensor([1, 2, 3], dtype=torch.uint8, device=device).view(3, 1, 1)
    parts = (labels == values).float()  # (n, 3, H, W)
    images = torch.randn(n, 1, S, S, generator=generator, device=device).mul_(noise)
    return images.add_(labels > 0), parts


def groupings(parts):
    """The two valid groupings of each image: (n, 2 groupings, 2 instances, H, W).

    parts (n, 3, H, W) is what sample returns. [:, 0] is the left grouping (P1+b, P2),
    [:, 1] the right one (P1, b+P2).
    """
    left, common, right = parts.unbind(1)  # each (n, H, W)
    truths = torch.stack((left + common, right, left, common + right), 1)
    return truths.unflatten(1, (2, 2))


def iou(masks, truths):
    """IoU of every instance in every decision with every grouping, (n, D, G, 2).

    masks (n, D, 2, H, W) are the probabilities of D decisions, truths (n, G, 2, H, W).
    With masks of 0 and 1 it is the usual IoU, otherwise the soft one: products in place
    of the intersection.
    """
    p, t = masks.flatten(-2), truths.flatten(-2)  # (n, D, 2, HW), (n, G, 2, HW)
    intersection = torch.einsum("ndik,ngik->ndgi", p, t)
    union = p.sum(-1)[:, :, None] + t.sum(-1)[:, None] - intersection
    return intersection / union


def score(masks, truths):
    """Eq. 1 made differentiable: IoU left + IoU right in [0, 2], (n, D, G).

    masks (n, D, 2, H, W), truths (n, G, 2, H, W). Weighing the two groupings by m and n
    gives Eq. 1 itself.
    """
    return iou(masks, truths).sum(-1)


def soft_maximum(scores, beta, dim=1):
    """A smooth maximum over dim, log(mean(exp(beta scores))) / beta.

    It is our choice for the paper's "differential form of maximum function" (4.1). It
    lies at most log(D)/beta below the maximum of D scores and is exact for equal ones;
    its gradient is shared out by a softmax. ValueError: beta not positive and finite.
    """
    if not 0 < beta < math.inf:
        raise ValueError(f"beta must be positive and finite, got {beta}")
    return (torch.logsumexp(beta * scores, dim) - math.log(scores.shape[dim])) / beta


def common_shares(masks, parts):
    """The shares (a, c) of the common region that go left and right, (n, D, 2).

    masks (n, D, 2, H, W), parts (n, 3, H, W); a and c are those of theory.F.
    """
    common = parts[:, 1]  # (n, H, W)
    given = torch.einsum("ndihw,nhw->ndi", masks, common)  # pixels
    return given / common.sum((-1, -2))[:, None, None]


def outcomes(masks, parts):
    """What each decision does, (n, D), as an index into OUTCOMES.

    masks (n, D, 2, H, W), parts (n, 3, H, W). "left": the common region goes to the
    left instance, (P1+b, P2); "both": to both; "split": some share in between. GIVEN
    and LEARNED are the thresholds.
    """
    left, common, right = parts.unbind(1)  # each (n, H, W)
    own = torch.stack((left, right), 1)[:, None]  # (n, 1, 2, H, W)
    outside = (masks > 0.5) * (1 - common)[:, None, None]  # (n, D, 2, H, W)
    shares = common_shares(masks, parts)  # (n, D, 2)
    a, c = (shares >= GIVEN).unbind(-1)  # each (n, D)
    not_a, not_c = (shares <= 1 - GIVEN).unbind(-1)
    outcome = torch.full(a.shape, OUTCOMES.index("split"), device=a.device)
    for k, case in enumerate((a & not_c, not_a & c, a & c, not_a & not_c)):
        outcome[case] = k  # left, right, both, neither
    outcome[(iou(outside, own) < LEARNED).any((-2, -1))] = OUTCOMES.index("unlearned")
    return outcome


@torch.no_grad()
def measure(masks, parts, m=0.5):
    """What the decisions on a batch are worth, as a dict for the JSON.

    masks (n, D, 2, H, W), parts (n, 3, H, W). Returns
    score: the better decision's score, mean over images and over groupings, weighed by
    m and 1 - m; oracle_exact: the share of (image, grouping) pairs that some decision
    finds, see EXACT; decisions: for each, the commonest outcome and the share of images
    of every outcome, the mean shares of the common region given to the left and to the
    right instance, and the mean score against the left and the right grouping. Scores
    are those of the masks cut off at 1/2; shares are means of the probabilities, so
    that an undecided network is not taken for a decided one.
    """
    ious = iou((masks > 0.5).float(), groupings(parts))  # (n, D, G, 2)
    scores = ious.sum(-1)  # (n, D, G)
    found = outcomes(masks, parts)  # (n, D)
    shares = common_shares(masks, parts).mean(0)  # (D, 2)
    decisions = []
    for d in range(masks.shape[1]):
        counts = torch.bincount(found[:, d], minlength=len(OUTCOMES)).tolist()
        outcome_share = {o: k / len(masks) for o, k in zip(OUTCOMES, counts) if k}
        decision = {
            "outcome": max(outcome_share, key=outcome_share.get),
            "outcome_share": outcome_share,
            "common_left": shares[d, 0].item(),
            "common_right": shares[d, 1].item(),
            "score_left_grouping": scores[:, d, 0].mean().item(),
            "score_right_grouping": scores[:, d, 1].mean().item(),
        }
        decisions.append(decision)
    return {
        "score": (scores.amax(1).mean(0) @ scores.new_tensor([m, 1 - m])).item(),
        "oracle_exact": (ious >= EXACT).all(-1).any(1).float().mean().item(),
        "decisions": decisions,
    }


def broken_at(history, ceiling):
    """The recorded training step from which on the better decision scored above the
    ceiling of a single one (by 0.01, to be beyond rounding), or None."""
    step = None
    for row in reversed(history):
        if row["score"] <= ceiling + 0.01:
            break
        step = row["step"]
    return step


# --------------------------------------------------------------------------------------
# Pictures

RED, YELLOW, ORANGE = (0.88, 0.20, 0.20), (1.00, 0.90, 0.20), (1.00, 0.52, 0.05)


def paint(images, masks):
    """Paint masks on images: left instance red, right one yellow, both orange, and a
    share in between as a mixture; what no instance claims stays grey.

    images (n, 1, H, W), masks (n, 2, H, W) of one decision -> RGB (n, H, W, 3) in
    [0, 1], ready for imshow.
    """
    a, c = masks[:, 0, ..., None], masks[:, 1, ..., None]  # (n, H, W, 1)
    red, yellow, orange = torch.tensor((RED, YELLOW, ORANGE), device=masks.device)
    grey = 0.15 + 0.8 * images[:, 0, ..., None].clamp(0, 1)  # (n, H, W, 1)
    colour = a * (1 - c) * red + (1 - a) * c * yellow + a * c * orange  # (n, H, W, 3)
    return (1 - a) * (1 - c) * grey + colour


def show(ax, rgb, part, title=""):
    """Draw an RGB image (H, W, 3) into a matplotlib Axes and outline part (H, W)."""
    ax.imshow(rgb.detach().cpu().clamp(0, 1), interpolation="nearest")
    y, x = part.cpu().nonzero().unbind(1)
    corner, side = (x.min() - 0.5, y.min() - 0.5), x.max() - x.min() + 1
    ax.add_patch(Rectangle(corner, side, side, fill=False, linestyle="--"))
    ax.set_title(title, fontsize=9)
    ax.set(xticks=[], yticks=[])


def gallery(fig, images, parts, masks=None, rows=3):
    """Fill a matplotlib SubFigure: a row an image, with the input, both truths and each
    decision of masks (n, D, 2, H, W), if given, under its outcome for that image."""
    truths = groupings(parts)
    columns = [("input", torch.zeros_like(truths[:, 0]))]
    columns += [("truth: left owns it", truths[:, 0])]
    columns += [("truth: right owns it", truths[:, 1])]
    if masks is not None:
        found = outcomes(masks[:rows], parts[:rows])  # (rows, D)
        columns += [(f"decision {d + 1}", masks[:, d]) for d in range(found.shape[1])]
    axes = fig.subplots(rows, len(columns), squeeze=False)
    for j, (title, painted) in enumerate(columns):
        for i, rgb in enumerate(paint(images[:rows], painted[:rows])):
            show(axes[i, j], rgb, parts[i, 1], title if i == 0 else "")
            if j >= 3:
                axes[i, j].set_xlabel(OUTCOMES[found[i, j - 3]], fontsize=9)
    colours = {"left instance": RED, "right instance": YELLOW, "both": ORANGE}
    handles = [Patch(fc=c, ec="black", label=label) for label, c in colours.items()]
    handles.append(Patch(fill=False, linestyle="--", label="common region"))
    place = {"loc": "outside lower center", "ncols": 4, "frameon": False}
    fig.legend(handles=handles, fontsize=9, **place)


def plot_scores(ax, history, ceiling):
    """Draw into a matplotlib Axes, over training, the score of each of two decisions
    against each grouping, of the better one, and the ceiling of a single decision."""
    steps = [row["step"] for row in history]
    for d, (color, style) in enumerate((("tab:blue", "-"), ("tab:green", "--"))):
        for grouping, marker in (("left", "<"), ("right", ">")):
            y = [row["decisions"][d][f"score_{grouping}_grouping"] for row in history]
            look = {"color": color, "linestyle": style, "marker": marker, "ms": 5}
            label = f"decision {d + 1} if the truth is {grouping}"
            ax.plot(steps, y, **look, linewidth=1.2, markevery=0.1, label=label)
    y = [row["score"] for row in history]
    ax.plot(steps, y, color="black", linewidth=2.5, label="better decision, mean")
    label = f"ceiling of one decision, {ceiling:.3f}"
    ax.axhline(ceiling, color="tab:red", linestyle="-.", label=label)
    if (step := broken_at(history, ceiling)) is not None:
        ax.axvline(step, color="0.4", ls=":", label=f"ceiling broken, step {step}")
    ax.set(xlabel="training step", ylabel="score (IoU left + IoU right)")
    ax.set_ylim(0, 2.05)
    place = {"loc": "upper center", "bbox_to_anchor": (0.5, -0.12), "ncols": 2}
    ax.legend(fontsize=8, frameon=False, **place)


def plot_path(ax, history):
    """Draw into the Axes of theory.draw_landscape the shares (a, c) that decision 1
    gives over training, each in the colour it paints the common region."""
    first = [row["decisions"][0] for row in history]
    shares = torch.tensor([(d["common_left"], d["common_right"]) for d in first])
    a, c = shares.T  # (rows,)
    colours = paint(torch.ones(len(a), 1, 1, 1), shares[:, :, None, None])[:, 0, 0]
    ax.plot(a, c, color="black", linewidth=1.2, zorder=6)
    label = "the network during training, in the colour it paints the common region"
    look = {"s": 70, "edgecolors": "black", "linewidths": 0.8, "zorder": 7}
    ax.scatter(a, c, c=colours, label=label, **look)
    box = {"boxstyle": "round", "fc": "white", "ec": "none", "alpha": 0.85}
    text = {"textcoords": "offset points", "fontsize": 9, "bbox": box, "zorder": 8}
    ax.annotate("untrained", (a[0], c[0]), xytext=(12, -16), **text)
    place = {"loc": "upper center", "bbox_to_anchor": (0.5, -0.1)}
    ax.legend(facecolor="0.6", fontsize=9, **place)  # grey, since a* is drawn in white


def plot():
    """The grouping problem of Fig. 1a, and images with both their groupings.

    Returns the Figure and a dict of its numbers.
    """
    shape, x = Shape(), 0.25
    fig = Figure(figsize=(12, 4.6), layout="constrained")
    left, right = fig.subfigures(1, 2, width_ratios=(1.1, 1))

    # One pair without noise, the common region split at x between the two instances.
    tight = Shape(size=shape.width)
    images, parts = sample(1, torch.Generator().manual_seed(0), tight, noise=0)
    own_left, common, own_right = parts[0]  # each (H, W)
    to_left = common * (common.cumsum(1) <= x * shape.square)
    masks = torch.stack((own_left + to_left, common - to_left + own_right))[None]
    ax = left.subplots()
    show(ax, paint(images, masks)[0], common)
    for part, text, shift in zip(parts[0], ("$P_1$", "$b$", "$P_2$"), (0, 1, 0)):
        v, u = part.nonzero().float().mean(0).tolist()
        ax.text(u + shift, v, text, ha="center", va="center", fontsize=24)
    v, u = (corner - 0.5 for corner in common.nonzero().amin(0).tolist())
    cut, end = u + x * shape.square, u + shape.square
    for low, high, text in ((u, cut, "$x$"), (cut, end, "$1-x$")):
        arrow = {"arrowstyle": "<->", "color": "white", "shrinkA": 0, "shrinkB": 0}
        ax.annotate("", (low, v - 1.6), (high, v - 1.6), arrowprops=arrow)
        ax.text(
            (low + high) / 2, v - 2.7, text, color="white", ha="center", fontsize=13
        )
    ax.set_ylim(v + shape.square + 5, v - 5)
    ax.set_facecolor("0.15")  # as paint draws the background
    ax.set_title("The grouping problem (Fig. 1a): who owns the common region b?")
    ax.set_xlabel("a share x of b goes to the left instance, 1 - x to the right one")

    gallery(right, *sample(3, torch.Generator().manual_seed(0), shape))
    right.suptitle("Three images and the two valid groupings of each", fontsize=10)
    P, b = shape.P, shape.b
    numbers = {"shape": asdict(shape), "P1": P, "P2": P, "b": b, "x": x}
    numbers |= {"score_of_split": theory.I_equal(x, P, b)}
    return fig, numbers | {"ceiling": theory.I_max(P, b)}


# --------------------------------------------------------------------------------------
# Console


def whole(low, high):
    """An argparse type: a whole number from low to high."""

    def parse(text):
        plain = text.isascii() and text.isdigit() and len(text) < 20
        if not (plain and low <= int(text) <= high):
            allowed = f"a whole number from {low} to {high}"
            raise argparse.ArgumentTypeError(f"must be {allowed}, got {text!r}")
        return int(text)

    return parse


def device(text):
    """An argparse type: auto, cpu or cuda -> "cpu" or "cuda", whichever is there."""
    if text not in ("auto", "cpu", "cuda"):
        raise argparse.ArgumentTypeError(f"must be auto, cpu or cuda, got {text!r}")
    if text == "cuda" and not torch.cuda.is_available():
        raise argparse.ArgumentTypeError("there is no CUDA device for 'cuda'")
    return text.replace("auto", "cuda" if torch.cuda.is_available() else "cpu")


def prepare():
    """Set PyTorch up for training in this process."""
    torch.backends.cudnn.deterministic = True  # the same seed gives the same numbers
    # These images are so small that a second thread gains a fifth at best, and where
    # another program keeps the core busy the wait for it costs twenty times as much.
    torch.set_num_threads(1)


def experiment_arguments(doc, epochs):
    """Parse the command line of an experiment: --epochs --seed --device --out.

    Bad input ends the program with one line and status 2. device is "cpu" or "cuda".
    """
    parser = theory.Parser(doc)
    text = "length of the training, default %(default)s"
    parser.add_argument("--epochs", type=whole(1, 10**6), default=epochs, help=text)
    text = "of the weights and of the images, default %(default)s"
    parser.add_argument("--seed", type=whole(0, SEEDS - 1), default=0, help=text)
    text = "auto, cpu or cuda, default auto: CUDA where there is one"
    parser.add_argument("--device", type=device, default="auto", help=text)
    args = parser.parse_args()
    prepare()
    return args


def describe(row):
    """A row of a history as a line for the console."""
    decisions = "  |  ".join(
        f"left {d['common_left']:.2f}, right {d['common_right']:.2f}: {d['outcome']:<9}"
        for d in row["decisions"]
    )
    return (
        f"epoch {row['epoch']:3.0f}   loss {row['loss']:6.3f}   "
        f"common region to {decisions}   {row['seconds']:5.1f} s"
    )


def print_table(measured, outcomes, score, found):
    """Print what the held-out images gave beside what the paper leads one to expect."""
    here = [
        f"{d['outcome']} ({d['outcome_share'][d['outcome']]:.1%})"
        for d in measured["decisions"]
    ]
    for row in (
        ("", "by the paper", "here"),
        ("outcome of the decision(s)", outcomes, "; ".join(here)),
        ("score of the better decision", score, f"{measured['score']:.3f}"),
        ("groupings found", found, f"{measured['oracle_exact']:.1%}"),
    ):
        print("{:<30}{:<30}{}".format(*row))


def main():
    args = theory.Parser(__doc__).parse_args()
    fig, numbers = plot()
    theory.save(fig, numbers, args.out, "data")


if __name__ == "__main__":
    theory.script(main)
