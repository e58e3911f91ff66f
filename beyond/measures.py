"""The field's measures of several decisions where several truths are valid.

masks (n, D decisions, I instances, H, W) and truths (n, G truths, I, H, W) are 0 and 1.
They are compared by the IoU, which is the mean over instances. An instance that is empty
in both has IoU 1, as in the code of Kohl et al. 2018. The functions from accuracy_term to
best_match take tables of IoUs and return one number an image, (n,). All decisions count
alike, and so do all truths.
"""

import math
from itertools import permutations

import torch

import data

MOST = 6  # rows of a square table of which all assignments are tried, 6! = 720


def iou(one, other):
    """Return the IoU (n, A, B) of masks (n, A, I, H, W) with masks (n, B, I, H, W), all 0
    and 1, mean over the I instances. ValueError: shapes or values do not fit."""
    for masks in (one, other):
        if ((masks != 0) & (masks != 1)).any():
            raise ValueError("masks must be 0 and 1: cut probabilities at 1/2")
    ious = data.iou(one.double(), other.double())  # (n, A, B, I)
    one_filled = one.bool().flatten(3).any(3)  # (n, A, I)
    other_filled = other.bool().flatten(3).any(3)  # (n, B, I)
    filled = one_filled[:, :, None] | other_filled[:, None]  # (n, A, B, I)
    return torch.where(filled, ious, 1.0).mean(3)


def distance(ious):
    """Return the mean distance 1 - IoU over all pairs, (n,), from IoUs (n, A, B). As in
    Kohl et al. 2018 a decision that is paired with all decisions is also paired with
    itself."""
    return (1 - ious).mean((1, 2))


def accuracy_term(between):
    """Return twice the mean distance of a decision and a truth, (n,), from their IoUs (n,
    D, G): the GED without its diversity terms. It is 0 at best."""
    return 2 * distance(between)


def ged(between, among_decisions, among_truths):
    """Return the generalised energy distance squared, (n,), with 1 - IoU as distance:
    2 E d(S, Y) - E d(S, S') - E d(Y, Y') of decisions S and truths Y (Kohl et al. 2018,
    arXiv 1806.05034, Eq. 4). 0 is best: the decisions are the truths. The last two terms
    are those of diversity. The IoUs are (n, D, G), (n, D, D) and (n, G, G)."""
    rewarded = distance(among_decisions) + distance(among_truths)
    return accuracy_term(between) - rewarded


def assigned(square):
    """Return the largest mean of a one-to-one assignment, (n,), in square tables (n, rows,
    rows). Up to MOST rows all are tried, and above that SciPy finds it. ValueError: it is
    not installed."""
    rows = square.shape[1]
    if rows <= MOST:
        columns = torch.tensor(list(permutations(range(rows))), device=square.device)
        lines = torch.arange(rows, device=square.device)
        matched = square[:, lines, columns]  # (n, rows!, rows)
        return matched.mean(2).amax(1)
    try:
        from scipy.optimize import linear_sum_assignment
    except ImportError:
        text = f"an assignment of {rows} needs SciPy: pip install scipy"
        raise ValueError(text) from None
    means = []
    for table in square.cpu().numpy():  # it takes one table at a time
        means.append(table[linear_sum_assignment(table, maximize=True)].mean())
    return torch.tensor(means, device=square.device)


def hungarian_iou(between):
    """Return the Hungarian-matched IoU, HM-IoU, (n,), from IoUs (n, D, G): the largest
    mean IoU if each decision is matched with a truth of its own (Kohl et al. 2019, arXiv
    1905.13077). Where D and G differ, both are repeated up to their least common
    multiple, as there. ValueError: see assigned."""
    D, G = between.shape[1:]
    rows = math.lcm(D, G)
    return assigned(between.repeat(1, rows // D, rows // G))


def best_match(between):
    """Return the IoU of a truth with the best decision for it, mean over truths, (n,),
    from their IoUs (n, D, G)."""
    return between.amax(1).mean(1)


def measure(masks, truths):
    """Return the means over images of all measures, as a dict for a row: ged, its
    accuracy_term, hungarian_iou and best_match. Masks and truths are 0 and 1, see iou.
    ValueError: see iou and assigned."""
    between = iou(masks, truths)  # (n, D, G)
    geds = ged(between, iou(masks, masks), iou(truths, truths))  # (n,)
    return {
        "ged": geds.mean().item(),
        "accuracy_term": accuracy_term(between).mean().item(),
        "hungarian_iou": hungarian_iou(between).mean().item(),
        "best_match": best_match(between).mean().item(),
    }
