"""Losses that segmentation networks are trained with, each as a function of masks p and
truths t, both (n, K instances, H, W): p are probabilities, t are 0 and 1. A loss returns
a tensor: a number, or several (of images, instances, pixels), of which the mean counts.

The first line of each says what it is, where it comes from and which library has it
(smp: segmentation_models.pytorch). predict says, without training, what a loss does with
a region that could belong to any of K instances; exp_losses.py holds that against
trained networks. Copied elsewhere this file needs torch alone, if predict gets parts.

Where an instance is in no pixel of t, overlaps and their logarithms are the same for
every mask: false alarms are not punished there unless smooth is more than 0.
"""

import functools
import os
import runpy
import sys

import torch
from torch.nn.functional import binary_cross_entropy

IMAGE, BATCH = (2, 3), (0, 2, 3)  # what is added up before dividing


def checked(loss):
    """A decorator: the loss gets masks and truths as floats of 32 bits or more, in mixed
    precision too, where its sums over pixels would overflow; its options are keywords.
    ValueError: they do not fit."""

    @functools.wraps(loss)
    def run(p, t, **options):
        if p.ndim != 4 or p.shape != t.shape:
            shapes = f"{tuple(p.shape)} and {tuple(t.shape)}"
            raise ValueError(
                f"masks and truths must both be (n, K, H, W), got {shapes}"
            )
        kind = torch.promote_types(p.dtype, torch.float32)
        with torch.autocast(p.device.type, enabled=False):
            return loss(p.to(kind), t.to(kind), **options)

    return run


def overlap(p, t, alarms=1.0, misses=1.0, over=IMAGE, smooth=0.0):
    """Tversky's index of masks and truths, (n, K) or, over a BATCH, (K,). It is the IoU,
    with 1/2 for both false alarms and misses the Dice coefficient."""
    both = (p * t).sum(over) + smooth
    wrong = alarms * (p * (1 - t)).sum(over) + misses * ((1 - p) * t).sum(over)
    return both / (both + wrong).clamp(min=1e-12)


@checked
def iou(p, t):
    """1 - IoU | Rahman and Wang 2016 | MONAI"""
    return 1 - overlap(p, t)


@checked
def dice(p, t, smooth=0.0):
    """1 - Dice | Drozdzal et al. 2016 | MONAI"""
    return 1 - overlap(p, t, 0.5, 0.5, smooth=smooth)


@checked
def dice_squared(p, t):
    """1 - Dice with squares | V-Net, Milletari et al. 2016 | MONAI"""
    return 1 - 2 * (p * t).sum(IMAGE) / (p**2 + t**2).sum(IMAGE).clamp(min=1e-12)


@checked
def iou_batch(p, t):
    """1 - IoU of the batch | - | smp"""
    return 1 - overlap(p, t, over=BATCH)


@checked
def dice_batch(p, t):
    """1 - Dice of the batch | part of nnU-Net, Isensee et al. 2021 | MONAI, smp"""
    return 1 - overlap(p, t, 0.5, 0.5, over=BATCH)


@checked
def log_iou(p, t):
    """-ln IoU | UnitBox, Yu et al. 2016 | smp"""
    return -overlap(p, t).clamp(min=1e-7).log()


@checked
def log_dice(p, t):
    """-ln Dice | part of Wong et al. 2018 | smp"""
    return -overlap(p, t, 0.5, 0.5).clamp(min=1e-7).log()


@checked
def squared_iou(p, t):
    """(1 - IoU)^2 | - | -"""
    return (1 - overlap(p, t)) ** 2


@checked
def tversky_misses(p, t):
    """Tversky, misses 0.7 | Salehi et al. 2017 | MONAI"""
    return 1 - overlap(p, t, 0.3, 0.7)


@checked
def tversky_alarms(p, t):
    """Tversky, false alarms 0.7 | Salehi et al. 2017 | MONAI"""
    return 1 - overlap(p, t, 0.7, 0.3)


@checked
def focal_tversky(p, t):
    """focal Tversky, misses 0.7 | Abraham and Khan 2019 | -"""
    return (1 - overlap(p, t, 0.3, 0.7)).clamp(min=1e-9) ** 0.75


@checked
def cross_entropy(p, t):
    """binary cross-entropy | Mask R-CNN, He et al. 2017 | PyTorch"""
    return binary_cross_entropy(p, t)


@checked
def focal(p, t, alpha=0.25, gamma=2.0):
    """focal | RetinaNet, Lin et al. 2017 | torchvision, MONAI"""
    right = p * t + (1 - p) * (1 - t)  # the probability of what is true
    weight = alpha * t + (1 - alpha) * (1 - t)
    return -(weight * (1 - right) ** gamma * right.clamp(min=1e-7).log()).mean()


@checked
def mask2former(p, t):
    """5 cross-entropy + 5 Dice | Mask2Former, Cheng et al. 2022 | MONAI"""
    return 5 * binary_cross_entropy(p, t) + 5 * dice(p, t, smooth=0.5).mean()


@checked
def sam(p, t):
    """20 focal + Dice | SAM, Kirillov et al. 2023 | MONAI"""
    return 20 * focal(p, t) + dice(p, t, smooth=0.5).mean()


@checked
def lovasz(p, t):
    """Lovasz hinge | Berman et al. 2018 | smp"""
    p, t = p.flatten(2), t.flatten(2)
    errors = 1 - (2 * t - 1) * p.logit(1e-6)  # of a hinge, (n, K, HW)
    errors, order = errors.sort(-1, descending=True)
    t = t.gather(-1, order)
    # The Jaccard loss of the worst pixel, of the two worst ones, and so on.
    missed, alarms, size = t.cumsum(-1), (1 - t).cumsum(-1), t.sum(-1, keepdim=True)
    jaccard = 1 - (size - missed) / (size + alarms).clamp(min=1)
    rises = jaccard.diff(dim=-1, prepend=torch.zeros_like(size))
    return (errors.relu() * rises).sum(-1)


@checked
def softmax(p, t):
    """softmax cross-entropy | U-Net, Ronneberger et al. 2015 | PyTorch"""
    # Classes: background and one an instance. The shares of a pixel add up to 1, so that
    # no pixel is given twice: where masks give away more, there is no such loss, but NaN.
    p, t = (torch.cat((1 - x.sum(1, keepdim=True), x), 1) for x in (p, t))
    p = p.masked_fill(p < -1e-3, torch.nan).clamp(min=1e-7)
    return -(t * p.log()).sum(1)


softmax.exclusive = True  # see predict

ALL = iou, dice, dice_squared, log_iou, log_dice, squared_iou, tversky_misses
ALL += tversky_alarms, focal_tversky, lovasz, iou_batch, dice_batch, cross_entropy
ALL += focal, mask2former, sam, softmax
LOSSES = {f.__name__.replace("_", "-"): f for f in ALL}

# What the best share a of the common region can be.
KINDS = {
    "ends tie": "The two ends tie, a share between loses",
    "one end": "One end is best",
    "in between": "A share in between is best",
    "flat": "Nothing decides: flat",
}


def predict(loss, parts=None):
    """Where a loss leads a network that has learned the own parts: a dict for the JSON.

    parts (K + 1, H, W), 0 and 1, are the own parts of K instances and, last, the common
    region, which each of them owns equally often; without it, those of data.Shape().
    curve is the mean loss over the truths when every mask has the share a of the common
    region, evenly, for each of shares. predicted: the a at which it is lowest, "ends
    tie" or "flat"; kind: which of KINDS that is; best: all a that are as good; slides_to:
    where descent leads from a = 1/2, or from the largest share if that is less; cut: what
    a mask cut off at 1/2 gets there. A loss with an attribute exclusive that is true has
    masks whose shares of a pixel add up to 1 at most.
    ValueError: parts that are no such masks, or a loss that is not finite.
    """
    if parts is None:
        import data

        _, parts = data.sample(1, torch.Generator().manual_seed(0), noise=0)
        parts = parts[0, [0, 2, 1]]
    parts = torch.as_tensor(parts)
    masks = parts.ndim == 3 and len(parts) > 2 and ((parts == 0) | (parts == 1)).all()
    if not (masks and parts.any(-1).any(-1).all() and parts.sum(0).max() == 1):
        text = (
            "parts must be masks (K + 1, H, W) of 0 and 1, none empty, none overlapping"
        )
        raise ValueError(f"{text}, got {tuple(parts.shape)}, {parts.unique()[:5]}")
    own, common_region = parts[:-1].double(), parts[-1].double()
    K, n = len(own), 100
    owner = torch.eye(K, device=parts.device)[:, :, None, None]
    truths = own + owner * common_region  # (K, K, H, W)

    def mean(masks, a):  # (K, H, W), the same for every truth; a loss may work in place
        masks = masks.clamp(1e-7, 1 - 1e-6).expand(K, -1, -1, -1)
        try:
            cost = loss(masks.clone(), truths.clone())
        except RuntimeError as e:
            if "ouble" not in str(e):
                raise
            # Double? It has weights of its own, of 32 bits.
            cost = loss(masks.float(), truths.float())
        if not isinstance(cost, torch.Tensor):
            text = f"the loss must return a tensor, got {cost!r}"
            raise ValueError(text)  # noqa: TRY004 - as all that is wrong here
        cost = cost.double().mean().cpu()
        if not cost.isfinite():
            raise ValueError(f"the loss must be finite, got {cost} for share {a:.2f}")
        return cost

    most = (1 - 1e-6) / K if getattr(loss, "exclusive", False) else 1
    shares, curve = torch.linspace(0, most, n + 1).double(), []
    for a in shares.tolist():
        curve.append(mean(own + a * common_region, a))
    curve, even = torch.stack(curve), 1 / (K + 1)
    # How much there is to lose: inside of the walls that some losses have at the ends,
    # and at least a hundredth of what masks lose that know nothing.
    size = curve.quantile(0.75) - curve.min()
    size = max(size, (mean(torch.full_like(own, even), even) - curve.min()) / 100)

    def lowest(at):  # of the parabola through three points
        if at in (0, n):
            return shares[at].item()
        before, here, after = curve[at - 1 : at + 2]
        bow = (before - 2 * here + after).clamp(min=1e-12)
        return (shares[at] + shares[1] * (before - after) / (2 * bow)).item()

    near = (curve <= curve.min() + 1e-3 * size).nonzero()[:, 0]  # as good as the best
    predicted = lowest(int(curve.argmin()))
    kind = "one end" if predicted in (0, 1) else "in between"
    best = [predicted]
    if near[-1] - near[0] == n and len(near) < n / 2:
        predicted = kind = "ends tie"
        best = [0.0, shares[-1].item()]
    elif len(near) > n / 5:
        predicted = kind = "flat"
        best = shares[near].tolist()
    at = min(round(0.5 * n / shares[-1].item()), n)
    while True:
        down = min(range(max(at - 1, 0), min(at + 2, n + 1)), key=curve.__getitem__)
        if curve[down] >= curve[at] - 1e-5 * size:
            break
        at = down
    slides_to = 0.5 if kind == "flat" and at in near else lowest(at)
    # Trained networks differ by some hundredths: so near to 1/2 the cut is open.
    cut = (
        "given" if slides_to > 0.52 else "not given" if slides_to < 0.48 else "toss-up"
    )
    found = {"predicted": predicted, "kind": kind, "slides_to": slides_to, "cut": cut}
    return found | {"best": best, "shares": shares.tolist(), "curve": curve.tolist()}


def describe(found):
    """What predict returns, in words."""
    best, slides_to = found["predicted"], f"{found['slides_to']:.2f}"
    best = best if isinstance(best, str) else f"a = {best:.2f}"
    text = f"best share of the common region: {best}; from 1/2 it slides to {slides_to}"
    return f"{text}; a mask cut off at 1/2: {found['cut']}"


def load(text):
    """The function that "FILE.py:NAME" names. ValueError: there is none, or its file
    cannot be read or run."""
    path, colon, name = text.rpartition(":")
    if not colon:
        raise ValueError(f"must be FILE.py:NAME, got {text!r}")
    sys.path.append(os.path.dirname(os.path.abspath(path)))  # for what it imports
    try:
        names = runpy.run_path(path)
    except (Exception, SystemExit) as e:  # noqa: BLE001 - whatever the file may raise
        raise ValueError(f"cannot run {path!r}: {type(e).__name__}: {e}") from None
    if callable(found := names.get(name)):
        return found
    raise ValueError(f"there is no function {name!r} in {path!r}")
