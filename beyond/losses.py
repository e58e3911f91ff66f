"""Losses that segmentation networks are trained with, each a function of masks p and truths
t, both (n, K instances, H, W): p are probabilities (of bce_dice_logits logits), t are 0 and 1.
A loss returns a tensor: a number, or several (of images, instances, pixels), of which the mean
counts. The first line of each says what it is | where it comes from | which library has it
(smp: segmentation_models.pytorch). Copied alone this file needs torch.

Where an instance is in no pixel of t, overlaps and their logarithms are the same for every
mask: false alarms are not punished there unless smooth is more than 0.
"""

import functools

import torch
from torch.nn.functional import binary_cross_entropy, max_pool2d
from torch.nn.functional import binary_cross_entropy_with_logits as entropy_of_logits

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
    """-ln IoU | UnitBox, of boxes, Yu et al. 2016 | smp"""
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


def with_background(p, t):
    """Masks and truths as classes, background and one an instance, (n, K + 1, H, W): the shares
    of a pixel add up to 1. Where masks give away more there is no such loss, but NaN."""
    p, t = (torch.cat((1 - x.sum(1, keepdim=True), x), 1) for x in (p, t))
    return p.masked_fill(p < -1e-3, torch.nan).clamp(min=1e-7), t


@checked
def softmax(p, t):
    """softmax cross-entropy | U-Net, Ronneberger et al. 2015 | PyTorch"""
    p, t = with_background(p, t)
    return -(t * p.log()).sum(1)


@checked
def softmax_dice(p, t):
    """softmax Dice, with background | Drozdzal et al. 2016 | MONAI"""
    return 1 - overlap(*with_background(p, t), 0.5, 0.5)


@checked
def nnunet(p, t):
    """softmax cross-entropy + Dice of the batch | nnU-Net, Isensee et al. 2021 | nnU-Net"""
    return softmax(p, t).mean() + dice_batch(p, t).mean()


softmax.exclusive = softmax_dice.exclusive = nnunet.exclusive = True  # see trial.py


@checked
def bce_dice_logits(logits, t):
    """cross-entropy + Dice, of logits | nnU-Net's regions, Isensee et al. 2021 | nnU-Net"""
    return entropy_of_logits(logits, t) + dice(logits.sigmoid(), t).mean()


@checked
def generalised_dice(p, t):
    """generalised Dice | Sudre et al. 2017 | MONAI"""
    weight = 1 / t.sum(IMAGE).clamp(min=1) ** 2  # (n, K)
    both, sizes = (weight * x.sum(IMAGE) for x in (p * t, p + t))
    return 1 - 2 * both.sum(1) / sizes.sum(1)


@checked
def log_cosh_dice(p, t):
    """log cosh (1 - Dice) | Jadon 2020 | -"""
    return (1 - overlap(p, t, 0.5, 0.5)).cosh().log()


@checked
def jaccard_metric(p, t):
    """Jaccard metric loss | Wang et al. 2023 | -"""
    sizes, apart = (p + t).sum(IMAGE), (p - t).abs().sum(IMAGE)
    return 1 - (sizes - apart) / (sizes + apart).clamp(min=1e-12)


def skeleton(x, rounds=3):
    """The soft skeleton (n, K, H, W) of masks: what opening takes away from them as they are
    eroded (Shit et al. 2021)."""

    def erode(x):
        return -torch.maximum(
            max_pool2d(-x, (3, 1), 1, (1, 0)), max_pool2d(-x, (1, 3), 1, (0, 1))
        )

    found = torch.zeros_like(x)
    for _ in range(rounds + 1):
        smaller = erode(x)
        ridge = (x - max_pool2d(smaller, 3, 1, 1)).relu()
        found, x = found + (ridge - found * ridge).relu(), smaller
    return found


@checked
def cl_dice(p, t):
    """clDice + Dice | Shit et al. 2021 | MONAI"""
    thin_p, thin_t = skeleton(p), skeleton(t)
    precision = ((thin_p * t).sum(IMAGE) + 1) / (thin_p.sum(IMAGE) + 1)
    recall = ((thin_t * p).sum(IMAGE) + 1) / (thin_t.sum(IMAGE) + 1)
    centre_line = 1 - 2 * precision * recall / (precision + recall)
    return (centre_line + dice(p, t, smooth=0.5)) / 2


def distance(masks):
    """Of every pixel, the distance to the nearest one outside of its mask, 0 if it is outside
    itself: (n, K, H, W). Exact, along the rows and then along the columns."""
    squares = torch.full_like(masks, 1e9).where(masks > 0.5, 0)
    for _ in range(2):
        x = torch.arange(squares.shape[-1], device=masks.device)
        steps = (x[:, None] - x) ** 2  # (W, W), then (H, H)
        squares = (squares[..., None, :] + steps).amin(-1).mT
    return squares.where(squares < 1e9, 0).sqrt()


@checked
def boundary(p, t):
    """boundary, signed distance maps | Kervadec et al. 2019 | MONAI"""
    inside, outside = distance(t), distance(1 - t)
    return p * (outside - (inside - 1).relu())


@checked
def hausdorff(p, t):
    """Hausdorff, distance maps | Karimi and Salcudean 2019 | MONAI"""
    near_p, near_t = (distance(x) + distance(1 - x) for x in (p.detach(), t))
    return (p - t) ** 2 * (near_p**2 + near_t**2)


@checked
def top_k(p, t, part=0.1):
    """cross-entropy of the worst tenth | Wu et al. 2016 | nnU-Net"""
    costs = binary_cross_entropy(p, t, reduction="none").flatten()
    return costs.topk(max(1, int(part * len(costs)))).values


@checked
def poly(p, t, epsilon=1.0):
    """cross-entropy + epsilon (1 - p) | PolyLoss, Leng et al. 2022 | -"""
    right = p * t + (1 - p) * (1 - t)
    return binary_cross_entropy(p, t, reduction="none") + epsilon * (1 - right)


@checked
def unified_focal(p, t, delta=0.7, gamma=0.5):
    """unified focal, asymmetric | Yeung et al. 2022 | MONAI"""
    p = p.clamp(1e-7, 1 - 1e-7)
    focal = -delta * t * p.log() - (1 - delta) * p**gamma * (1 - t) * (1 - p).log()
    alarms, misses = 1 - delta, delta
    fore = (1 - overlap(p, t, alarms, misses)).clamp(min=1e-9) ** (1 - gamma)
    back = 1 - overlap(1 - p, 1 - t, alarms, misses)
    return (focal.mean(IMAGE) + fore + back) / 4


@checked
def cropped(p, t):
    """cross-entropy in the truth's box | YOLACT, Bolya et al. 2019 | ultralytics"""
    box = torch.ones_like(t)
    for axis in IMAGE:  # from its first to its last row, then column
        any_here = t.amax(5 - axis, keepdim=True)
        after = any_here.cummax(axis).values
        box = box * after * any_here.flip(axis).cummax(axis).values.flip(axis)
    costs = binary_cross_entropy(p, t, reduction="none") * box
    return costs.sum(IMAGE) / box.sum(IMAGE).clamp(min=1)


ALL = iou, dice, dice_squared, log_iou, log_dice, squared_iou, tversky_misses
ALL += tversky_alarms, focal_tversky, lovasz, iou_batch, dice_batch, cross_entropy
ALL += focal, mask2former, sam, softmax
ALL += (
    generalised_dice,
    log_cosh_dice,
    cl_dice,
    boundary,
    hausdorff,
    top_k,
    poly,
    unified_focal,
)
ALL += softmax_dice, nnunet, bce_dice_logits, jaccard_metric, cropped
LOSSES = {f.__name__.replace("_", "-"): f for f in ALL}
