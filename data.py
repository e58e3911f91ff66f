"""The ambiguous world: images of two overlapping dumbbells whose shared square could
belong to either.

    left lobe = bar = [common square] = bar = right lobe

Grouped one way the left dumbbell owns the square (P1+b, P2), grouped the other way the
right one does (P1, b+P2). The left grouping is true with probability m, the right one
with n = 1 - m, and nothing in the image tells which. Here are the images, both
groupings of each, the score of a segmentation (Eq. 1 made differentiable) and what
outcome a segmentation is. Running this script saves data.png, the grouping problem of
Fig. 1a and a few images with their two groupings, and data.json.
"""

import math
from dataclasses import asdict, dataclass, fields
from numbers import Integral

import torch

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
# all runs come from streams of their own: seed, seed + SEEDS, seed + 2 SEEDS; what else
# an experiment draws comes from seed + 3 SEEDS.
SEEDS = 10**6


@dataclass(frozen=True)
class Shape:
    """The sizes, in pixels, of an image and of the two dumbbells in it, which mirror
    each other. With the default ones P1 = P2 = b = 64. Sizes that make no dumbbell or
    do not fit the image raise ValueError."""

    K = 2  # instances
    size: int = 32  # side of the image
    square: int = 8  # side of the common square, b = square^2
    lobe_height: int = 10
    lobe_width: int = 6
    bar_height: int = 2  # a bar joins a lobe to the square; both are own part
    bar_length: int = 2

    def __post_init__(self):
        for field in fields(self):
            name, value = field.name, getattr(self, field.name)
            if not isinstance(value, Integral) or value < 1:
                raise ValueError(f"{name} must be a whole number > 0, got {value}")
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
        lobe = self.lobe_height, self.lobe_width
        bar = self.bar_height, self.bar_length
        square, x = (self.square, self.square), 0
        for label, (h, w) in zip((1, 1, 2, 3, 3), (lobe, bar, square, bar, lobe)):
            top = (self.height - h) // 2
            labels[top : top + h, x : x + w] = label
            x += w
        return labels


def sample(n, generator, shape=Shape(), noise=0.1):
    """Draw n images of the pair at random positions, on the generator's device.

    Returns the images (n, 1, H, W), 1 on the pair, 0 around it, plus Gaussian noise of
    that standard deviation; and the parts (n, 3, H, W), which are 1 on P1, on b and on
    P2; for the Arms of arms.py (n, K + 1, H, W). No truth is drawn: the image cannot
    depend on it. ValueError: n below 1, noise negative or not finite.
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
    last = 1 + int(canvas.max())
    values = torch.arange(1, last, dtype=torch.uint8, device=device)[:, None, None]
    parts = (labels == values).float()  # (n, 3, H, W)
    images = torch.randn(n, 1, S, S, generator=generator, device=device).mul_(noise)
    return images.add_(labels > 0), parts


def held_out(s, seed, device):
    """The images that a run is tested on, from a stream of their own, as sample returns
    them. s has held_out (how many), shape and noise: the Settings of any experiment."""
    generator = torch.Generator(device).manual_seed(seed + 2 * SEEDS)
    return sample(s.held_out, generator, s.shape, s.noise)


def groupings(parts):
    """The two valid groupings of images with these parts (n, 3, H, W), the left one
    (P1+b, P2) and the right one (P1, b+P2): (n, 2 groupings, 2 instances, H, W). Of K
    instances, (n, K + 1, H, W), each owns b in its grouping: (n, K, K, H, W)."""
    own, common = torch.cat((parts[:, :1], parts[:, 2:]), 1), parts[:, 1]
    owns = torch.eye(own.shape[1], device=parts.device)[..., None, None]
    return own[:, None] + owns * common[:, None, None]


def iou(masks, truths):
    """IoU of every instance in every decision with every grouping, (n, D, G, 2).

    masks (n, D, 2, H, W) are the probabilities of D decisions, truths (n, G, 2, H, W).
    With masks of 0 and 1 it is the usual IoU, otherwise the soft one: products in place
    of the intersection. It is at least of single precision, under autocast too, and 0
    where mask and truth are empty. ValueError: shapes that do not fit.
    """
    fit = masks.ndim == truths.ndim == 5 and len(masks) == len(truths)
    if not (fit and masks.shape[2:] == truths.shape[2:]):
        text = f"{tuple(masks.shape)} and {tuple(truths.shape)}"
        raise ValueError(
            f"masks, truths must be (n, D, 2, H, W), (n, G, 2, H, W), got {text}"
        )
    dtype = torch.promote_types(masks.dtype, torch.float32)
    p, t = masks.flatten(-2).to(dtype), truths.flatten(-2).to(dtype)
    with torch.autocast(masks.device.type, enabled=False):
        # (n, D, 2, HW), (n, G, 2, HW) -> (n, D, G, 2)
        intersection = torch.einsum("ndik,ngik->ndgi", p, t)
        union = p.sum(-1)[:, :, None] + t.sum(-1)[:, None] - intersection
        return intersection / union.clamp(min=torch.finfo(dtype).tiny)


def score(masks, truths):
    """Eq. 1 made differentiable: IoU left + IoU right in [0, 2], (n, D, G), for masks
    (n, D, 2, H, W) and truths (n, G, 2, H, W), to be weighed by m and n as there."""
    return iou(masks, truths).sum(-1)


def soft_maximum(scores, beta, dim=1):
    """A smooth maximum over dim, log(mean(exp(beta scores))) / beta.

    It is our choice for the paper's "differential form of maximum function" (4.1). It
    lies at most log(D)/beta below the maximum of D scores and is exact for equal ones;
    its gradient is shared out by a softmax. ValueError: beta not positive and finite.
    """
    if not 0 < beta < math.inf:
        raise ValueError(f"beta must be positive and finite, got {beta}")
    scores = scores.to(torch.promote_types(scores.dtype, torch.float32))
    return (torch.logsumexp(beta * scores, dim) - math.log(scores.shape[dim])) / beta


def common_shares(masks, parts):
    """The shares (a, c) of the common region that go left and right, (n, D, 2), those
    of theory.F. masks (n, D, 2, H, W), parts (n, 3, H, W); so for K instances."""
    common = parts[:, 1]  # (n, H, W)
    given = (masks * common[:, None, None]).sum((-1, -2))  # (n, D, 2), pixels
    return given / common.sum((-1, -2))[:, None, None]


def outcomes(masks, parts):
    """What each decision does, (n, D), as an index into OUTCOMES. masks (n, D, 2, H, W),
    parts (n, 3, H, W). "left": the common region goes to the left instance, (P1+b, P2);
    "both": to both; "split": some share in between; see GIVEN and LEARNED."""
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

    masks (n, D, 2, H, W), parts (n, 3, H, W). score: the better decision's, mean over
    images and over groupings, weighed by m and 1 - m; oracle_exact: the share of
    (image, grouping) pairs that some decision finds, see EXACT; decisions: for each,
    the commonest outcome and the share of images of every outcome, the mean shares of
    the common region given to the left and to the right instance, and the mean score
    against each grouping. Scores are those of the masks cut off at 1/2; shares are
    means of the probabilities, so that an undecided network is not taken for a decided
    one. ValueError: m not in [0, 1].
    """
    if not 0 <= m <= 1:
        raise ValueError(f"m must be in [0, 1], got {m}")
    ious = iou((masks > 0.5).float(), groupings(parts))  # (n, D, G, 2)
    scores = ious.sum(-1)  # (n, D, G)
    found = outcomes(masks, parts)  # (n, D)
    shares = common_shares(masks, parts).mean(0)  # (D, 2)
    decisions = []
    for d in range(masks.shape[1]):
        counts = torch.bincount(found[:, d], minlength=len(OUTCOMES)).tolist()
        outcome_share = {o: k / len(masks) for o, k in zip(OUTCOMES, counts) if k}
        decision = {"outcome": max(outcome_share, key=outcome_share.get)}
        decision["outcome_share"] = outcome_share
        for k, side in enumerate(("left", "right")):
            decision[f"common_{side}"] = shares[d, k].item()
            decision[f"score_{side}_grouping"] = scores[:, d, k].mean().item()
        decisions.append(decision)
    score = (scores.amax(1).mean(0) @ scores.new_tensor([m, 1 - m])).item()
    exact = (ious >= EXACT).all(-1).any(1).float().mean().item()
    return {"score": score, "oracle_exact": exact, "decisions": decisions}


def broken_at(history, ceiling):
    """The recorded training step from which on the better decision scored above the
    ceiling of a single one (by 0.01, to be beyond rounding), or None."""
    step = None
    for row in reversed(history):
        if row["score"] <= ceiling + 0.01:
            break
        step = row["step"]
    return step


def main(argv=None):
    """Draw the world; returns the numbers of data.json and the Figure."""
    # Whoever copies this file to have the images needs none of these.
    import common
    import pictures
    import theory

    parser = common.Parser(__doc__)
    args = parser.parse_args(argv)
    parser.writable(args.out)
    shape, x = Shape(), 0.25
    numbers = {"shape": asdict(shape), "P1": shape.P, "P2": shape.P, "b": shape.b}
    numbers |= {"x": x, "score_of_split": theory.I_equal(x, shape.P, shape.b)}
    numbers |= {"ceiling": theory.I_max(shape.P, shape.b)}
    common.save(f"{args.out}/data.json", numbers)
    fig = pictures.draw_world(shape, x)
    common.save(f"{args.out}/data.png", fig)
    return numbers, fig


if __name__ == "__main__":
    import common

    common.script(main)
