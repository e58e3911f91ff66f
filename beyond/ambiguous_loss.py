"""A loss for a network that makes several decisions where several truths are valid.

    masks = torch.sigmoid(net(images)).unflatten(1, (D, I))  # (n, D, I, H, W)
    loss = ambiguous_loss(masks, truths)  # truths (n, G, I, H, W), 0 and 1

A decision is I masks, one for each instance. The truths of all images of the batch are
the columns of one table P, which says how much of each truth each decision answers for.
A decision that scores better answers for more. A decision that answers for more than an
even part of the batch has to pay for it, so that none is left without training.

P is where <P, S> + epsilon entropy(P) - tau KL(sums of the rows || even) is largest, if
each column sums to the weight of its truth. S are the scores. Epsilon and tau are
measured in the spread of the scores, so that their scale plays no part. With tau = 0 this
is the smooth maximum over the decisions, with tau without bound it is smooth matching.
At the default balance, of two decisions, one that is equally far behind for every truth
still answers for a third of them, however far that is. Two decisions of which each is
ahead for one of two truths answer for that one alone.

This file needs nothing but PyTorch, 2.4 or newer: copy it.
"""

import math
from itertools import permutations

import torch

FLOOR = 1e-6  # pixels: an instance that is empty in mask and truth has IoU 1, not 0/0
EPSILON = 0.03  # weight of the entropy, in units of the spread
# Rounds in which P is found. At a balance of 3 the differences from where many more
# rounds would take P, whose entries sum to 1, then add up to 0.06 at most on batches of
# trainings, and to 0.12 on random scores.
ROUNDS = 30
STEP = 1.7  # of the prices, in units of a plain round: above 1 it takes fewer rounds
TINY = 1e-300  # the least that a decision answers for, so that its logarithm is finite


def ambiguous_loss(masks, truths, prior=None, balance=3.0, score=None, ordered=True):
    """Minus the score of the decisions, each truth by its shares, mean over images.

    If your instances have an order (the first one is the left one, say), use it as it
    is. If they have none (COCO, nnU-Net: which one is first means nothing), say
    ordered=False: a decision and a truth are then compared in the best pairing of their
    instances, at most 6. An image with fewer instances than others gets empty ones.

    masks: (n, D decisions, I instances, H, W), probabilities. truths: (n, G, I, H, W), 0
    and 1, the valid truths of each image, or the one that is known. prior: (G,) or
    (n, G), how likely each truth of an image is, in any unit; 0 leaves a truth out.

    balance: tau, from 0 (the maximum) to math.inf (all decisions answer for equal parts).
    Of two decisions, one that is equally far behind for every truth still answers for
    1 / (1 + exp(2 / (balance + 0.03))) of them, which is a third at 3. Raise it where a
    decision still starves. Lower it where each image has one truth and one of them is
    much likelier than the others.

    score: a function of masks and truths that takes the place of soft_iou. It returns
    what each decision scores with each truth, (n, D, G), more is better: minus a loss,
    say. Its masks and truths may have any shape that starts with (n, D) and (n, G).

    In the gradient P is held fixed. At fixed epsilon and tau that is the gradient of the
    largest value above, as far as P has been found (the envelope theorem).

    ValueError: an argument does not fit.
    """
    if not balance >= 0:
        raise ValueError(f"balance must be at least 0, got {balance}")
    scores = compare(masks, truths, score, ordered)  # (n, D, G)
    n, _, G = scores.shape
    weights = weigh(prior, n, G)  # (n, G)
    # On the CPU, in 64 bits: so few numbers take less time there than to start a kernel.
    ahead, spread = centre(scores.detach().cpu().double(), weights)
    P = shares(ahead / spread, weights, balance)  # (n, D, G)
    P = P.to(scores.dtype).to(scores.device)
    return -(P * scores).sum()


def compare(masks, truths, score=None, ordered=True):
    """What each decision scores with each truth, (n, D, G), of 32 bits at least. For the
    arguments see ambiguous_loss. ValueError: what score returns does not fit."""
    score = soft_iou if score is None else score
    scores = score(masks, truths) if ordered else best_pairing(score, masks, truths)
    expected = (len(masks), masks.shape[1], truths.shape[1])
    is_tensor = isinstance(scores, torch.Tensor)
    got = tuple(scores.shape) if is_tensor else type(scores).__name__
    if got != expected:
        raise ValueError(f"score must return (n, D, G), here {expected}, got {got}")
    if not scores.isfinite().all():
        raise ValueError("score must return finite numbers, got NaN or infinity")
    return scores.to(torch.promote_types(scores.dtype, torch.float32))


def check_layout(masks, truths):
    """ValueError: masks and truths are not (n, D, I, H, W) and (n, G, I, H, W)."""
    layout = "masks must be (n, D, I, H, W) and truths (n, G, I, H, W)"
    got = f"got {tuple(masks.shape)} and {tuple(truths.shape)}"
    if 6 in (masks.ndim, truths.ndim):
        raise ValueError(f"{layout}, {got}: of volumes take .flatten(4)")
    if masks.ndim == 5 and truths.ndim == 4:
        raise ValueError(f"{layout}, {got}: of one truth an image take truths[:, None]")
    if not masks.ndim == truths.ndim == 5:
        raise ValueError(f"{layout}, {got}")
    if 0 in masks.shape + truths.shape:
        raise ValueError(f"{layout}, not empty, {got}")
    if len(masks) != len(truths) or masks.shape[2:] != truths.shape[2:]:
        raise ValueError(f"{layout}, with the same n, I, H and W, {got}")


def soft_iou(masks, truths):
    """The soft IoU summed over the instances, (n, D, G), from 0 to I, of 32 bits at
    least. masks: (n, D, I, H, W), probabilities. truths: (n, G, I, H, W), 0 and 1.
    ValueError: other shapes or other values."""
    check_layout(masks, truths)
    dtype = torch.promote_types(masks.dtype, torch.float32)
    p = masks.to(dtype).flatten(3)  # (n, D, I, HW)
    t = truths.to(dtype).flatten(3)  # (n, G, I, HW)
    low, high = torch.stack(p.detach().aminmax()).tolist()
    if math.isnan(low):
        raise ValueError("masks must be probabilities from 0 to 1, got NaN")
    if low < 0 or high > 1:
        got = f"got {low:.3g} to {high:.3g}"
        raise ValueError(
            f"masks must be probabilities from 0 to 1, {got}: take the sigmoid of logits"
        )
    wrong = torch.addcmul(t, t, t, value=-1)  # t - t t, which is 0 for 0 and 1
    if torch.stack(wrong.aminmax()).tolist() != [0, 0]:
        value = t[wrong != 0][0].item()
        raise ValueError(f"truths must be 0 and 1, got {value:.3g}: cut them first")
    with torch.autocast(p.device.type, enabled=False):
        inside = torch.einsum("ndik,ngik->ndgi", p, t)
    union = p.sum(3)[:, :, None] + t.sum(3)[:, None] - inside  # (n, D, G, I)
    return ((inside + FLOOR) / (union + FLOOR)).sum(3)


def best_pairing(score, masks, truths):
    """What each decision scores with each truth, (n, D, G), if instances have no order:
    by the best of all pairings of its instances with those of the truth, for a score
    that is a sum over instances. ValueError: other shapes, more than 6 instances."""
    check_layout(masks, truths)
    instances = masks.shape[2]
    if instances > 6:
        raise ValueError(f"ordered=False takes at most 6 instances, got {instances}")
    # Each instance is scored as if it were a decision, or a truth, of one instance.
    one_masks = masks.flatten(1, 2)[:, :, None]  # (n, D I, 1, H, W)
    one_truths = truths.flatten(1, 2)[:, :, None]  # (n, G I, 1, H, W)
    table = score(one_masks, one_truths)  # (n, D I, G I)
    table = table.unflatten(2, (-1, instances))  # (n, D I, G, I)
    table = table.unflatten(1, (-1, instances))  # (n, D, I, G, I)
    pairs = table.transpose(2, 3)  # (n, D, G, I, I)
    orders = torch.tensor(list(permutations(range(instances))), device=pairs.device)
    one = torch.eye(instances, dtype=pairs.dtype, device=pairs.device)
    pairings = one[orders]  # (I!, I, I), 1 for the pairs of each
    with torch.no_grad(), torch.autocast(pairs.device.type, enabled=False):
        totals = torch.einsum("ndgij,oij->ndgo", pairs, pairings)
    best = pairings[totals.argmax(-1)]  # (n, D, G, I, I)
    return (best * pairs).sum((3, 4))


def weigh(prior, n, G):
    """The weights of the truths of a batch, (n, G), which sum to 1, as 64 bits on the
    CPU. Each image has 1/n, shared out by prior, (G,) or (n, G). ValueError: a prior of
    another shape, below 0 or not finite, of nothing, or one that would be ignored."""
    if prior is None:
        return torch.full((n, G), 1 / (n * G), dtype=torch.float64)
    prior = torch.as_tensor(prior).detach().cpu().double()
    if prior.shape not in ((G,), (n, G)):
        expected = f"(G,) or (n, G), here ({G},) or ({n}, {G})"
        raise ValueError(f"prior must be {expected}, got {tuple(prior.shape)}")
    if not ((prior >= 0) & (prior < math.inf)).all():
        raise ValueError(f"prior must be at least 0 and finite, got {prior.tolist()}")
    prior = prior.expand(n, G)
    total = prior.sum(1, keepdim=True)  # (n, 1)
    if (total == 0).any():
        raise ValueError("prior must not be 0 for all truths of an image")
    if G == 1 and (prior != 1).any():
        raise ValueError(
            "prior would be ignored, each image has one truth: leave it out"
        )
    return prior / total / n


def centre(scores, weights):
    """How far each decision is ahead of the mean over decisions, (n, D, G), and the mean
    of these distances, the spread, which is never 0. scores: (n, D, G)."""
    ahead = scores - scores.mean(1, keepdim=True)
    spread = (weights[:, None] * ahead.abs()).sum((0, 2)).mean()
    return ahead, spread.clamp(min=torch.finfo(spread.dtype).tiny)


def shares(scores, weights, tau, epsilon=EPSILON, rounds=ROUNDS):
    """P, how much of each truth each decision answers for, (n, D, G): see the top.

    scores: (n, D, G), in the unit of tau and epsilon. weights: (n, G), which sum to 1. P
    is found by unbalanced Sinkhorn scaling (Chizat et al. 2018) in the log domain,
    over-relaxed (Thibault et al. 2021). A softmax shares each truth out by what the
    decisions score above their price, then the price rises of those that have more than
    an even part. The first rounds are softer than epsilon, to bring the prices near. The
    columns of P sum to the weights exactly.
    """
    n, D, G = scores.shape
    scores = scores.transpose(0, 1).reshape(D, n * G)
    weights = weights.reshape(n * G, 1)
    prices = scores.new_zeros(D, 1)  # what all decisions pay alike plays no part
    for k in range(rounds):
        soft = max(epsilon, 0.85**k)  # from 1 down to epsilon
        power = 1.0 if tau == math.inf else tau / (tau + soft)
        own = torch.softmax((scores - prices).div_(soft), 0)  # (D, nG)
        parts = own @ weights  # (D, 1)
        logs = parts.clamp_(min=TINY).log_()
        # The price of a plain round is power (price + soft log(part)). STEP goes further.
        prices.mul_(1 + STEP * (power - 1)).add_(logs, alpha=STEP * power * soft)
    P = weights.T * torch.softmax((scores - prices) / epsilon, 0)  # (D, nG)
    return P.view(D, n, G).transpose(0, 1)


@torch.no_grad()
def meter(scores, prior=None):
    """Lead and parting of a batch, two numbers to print or plot. scores: (n, D, G), of
    soft_iou or compare; prior as in ambiguous_loss.

    A lead near 0 and a parting near 1 say that each decision has truths of its own. A
    lead near D/2 and a parting near 0 say that one decision is ahead for all truths, or
    that one is behind for all. Early in a training that is so in most runs, whatever
    they end in; late in it the decision behind is dead. With one truth an image parting
    is seen from image to image.

    c = scores minus their mean over decisions. The lead is the largest |mean of c over
    the truths of the batch| of a decision, at most D/2. The parting is the mean of |c -
    that mean|. Both are in units of the spread, the mean of |c|. For one image and
    D = G = 2, with δ_g = S_1g - S_2g, they are |δ_1 + δ_2| and |δ_1 - δ_2| over
    |δ_1| + |δ_2|: one of them is 1. ValueError: scores or prior do not fit.
    """
    shape = tuple(scores.shape)
    if scores.ndim != 3 or 0 in shape or not scores.isfinite().all():
        expected = "(n, D, G), as soft_iou(masks, truths) is, and finite"
        raise ValueError(f"scores must be {expected}, got shape {shape}")
    n, _, G = scores.shape
    weights = weigh(prior, n, G)  # (n, G)
    ahead, spread = centre(scores.cpu().double(), weights)
    leads = (weights[:, None] * ahead).sum((0, 2))  # (D,)
    rest = (ahead - leads[:, None]).abs()  # (n, D, G)
    parting = (weights[:, None] * rest).sum((0, 2)).mean()
    return (leads.abs().max() / spread).item(), (parting / spread).item()
