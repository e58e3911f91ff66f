"""How several decisions are held against several valid groupings: what a rule counts of their
scores. A rule is a name and, for some, a number: "soft", "relaxed 0.1".

For each grouping the better decision: "soft", the paper's smooth maximum, and "hard"; "relaxed W"
gives the worse decision the weight W (Rupprecht et al. 2017); "annealed" weighs decisions by
softmax(score / T), where T falls from 1 to 1/beta over the training (Perera et al. 2024);
"evolving W" trains all decisions for a first share W of the training (Makansi et al. 2019).

One to one: "matched", the best pairing of decisions with groupings, and "matched-smooth"
(Stewart et al. 2016; Carion et al. 2020); "order", decision 1 is left; "capped W" lets a decision
win at most a share W of an image (Gao et al. 2023); "two-sided W" draws every decision to its
nearest grouping too, with the weight W.

One truth an image: "balanced" shares the batch out evenly, so that each decision trains on the half
on which it is furthest ahead; "shared W" gives decision 1 a share W; "shared-capped W" leaves
an image to its better decision while none has more than a share W of the batch.

"transport T" lies between the maximum and one-to-one matching, see transported: T = 0 is "soft",
a large T "matched-smooth".
"""

from itertools import permutations

import torch
from torch.nn.functional import logsigmoid

import data

RELAXED = 0.05  # the weight of the worse decision in "relaxed", where none is given
PLAIN = ("soft", "hard", "annealed", "matched", "matched-smooth", "order", "balanced")
SIZED = ("relaxed", "evolving", "two-sided", "capped", "shared", "shared-capped", "transport")
OF_TWO = ("order", "relaxed", "two-sided", "capped")  # for two decisions on two groupings


def pairings(scores, weights):
    """What each one-to-one pairing of D decisions with G groupings scores, (n, pairings): scores
    (n, D, G), weighed by weights (n or 1, G). ValueError: D above 6, or below G."""
    D, G = scores.shape[1:]
    if not G <= D <= 6:
        raise ValueError(f"decisions must be at least the groupings and at most 6, got {D} and {G}")
    paired = torch.tensor(list(permutations(range(D), G)), device=scores.device)  # (pairings, G)
    groupings = torch.arange(G, device=scores.device)
    return (scores * weights[:, None])[:, paired, groupings].sum(-1)


def shared_out(scores, low, high):
    """What each image of a batch scores by the one of two decisions that it is given to, (n,):
    scores (n, 2). Decision 1 gets those on which it is furthest ahead, as many as it wins but at
    least a share low and at most a share high of them. ValueError: other than two decisions."""
    if scores.shape[1] != 2:
        raise ValueError(f"a batch is shared between 2 decisions, got {scores.shape[1]}")
    n, ahead = len(scores), scores[:, 0] - scores[:, 1]
    order = ahead.argsort(descending=True)
    number = min(max(int((ahead > 0).sum()), round(n * low)), round(n * high))
    decision = torch.ones_like(order)
    decision[order[:number]] = 0
    return scores.gather(1, decision[:, None])[:, 0]


def answered(scores, weights, beta, tau):
    """How much of each grouping each of two decisions answers for, the shares P (n, 2, G): the
    largest sum of P scores + entropy of P / beta - tau KL(shares of the decisions || even) over
    all P whose columns sum to the weights (n or 1, G). Decision 1 has of grouping g the share
    sigmoid(beta δ_g + l), where l = -beta tau logit(its share of all) is found by bisection in
    double precision, without a gradient. ValueError: other than two decisions."""
    if scores.shape[1] != 2:
        raise ValueError(f"transport is for 2 decisions, got {scores.shape[1]}")
    with torch.no_grad():
        ahead = beta * (scores[:, 0] - scores[:, 1]).double()  # (n, G)
        weights = weights.double()
        logs = weights.clamp(min=1e-300).log()
        high = ahead.abs().amax(1, keepdim=True)  # (n, 1): l lies between -high and high
        low = -high
        for _ in range(60):
            middle = (low + high) / 2
            one = torch.logsumexp(logs + logsigmoid(ahead + middle), 1, keepdim=True)
            other = torch.logsumexp(logs + logsigmoid(-ahead - middle), 1, keepdim=True)
            too_high = middle > -beta * tau * (one - other)
            high = torch.where(too_high, middle, high)
            low = torch.where(too_high, low, middle)
        share = torch.sigmoid(ahead + middle)  # (n, G)
        return (weights[:, None] * torch.stack((share, 1 - share), 1)).to(scores)


def transported(scores, weights, beta, tau):
    """What an image counts, (n,), under the shares P of answered: <P, scores>, whose gradient is
    that of the largest value, as P is the best."""
    return (answered(scores, weights, beta, tau) * scores).sum((1, 2))


def value(rule, scores, weights, beta=100.0, progress=0.0):
    """What each image counts by a rule, (n,), to be made large: scores (n, D decisions, G
    groupings), the groupings weighed by weights (n or 1, G), of which one is 1 where one truth
    is known; progress is that of the training, from 0 to 1. "two-sided" and "capped" are for
    groupings that are all possible. ValueError: another rule, or not the decisions it is for."""
    name, _, number = rule.partition(" ")
    if name not in (SIZED if number else (*PLAIN, "relaxed")):
        raise ValueError(f"rule must be one of those above, got {rule!r}")
    if name in OF_TWO and scores.shape[1:] != (2, 2):
        got = " and ".join(map(str, scores.shape[1:]))
        raise ValueError(f"{name} is for 2 decisions and 2 groupings, got {got}")
    size = float(number or RELAXED)
    weighed = scores * weights[:, None]  # (n, D, G)
    if name == "soft":
        return (weights * data.soft_maximum(scores, beta)).sum(1)
    if name == "hard" or name == "evolving" and progress >= size:
        return (weights * scores.amax(1)).sum(1)
    if name == "evolving":
        return (weights * scores.mean(1)).sum(1)
    if name == "relaxed":
        return (weights * ((1 - size) * scores.amax(1) + size * scores.amin(1))).sum(1)
    if name == "annealed":
        share = torch.softmax(scores.detach() * beta**progress, 1)  # (n, D, G)
        return (share * weighed).sum((1, 2))
    if name == "matched":
        return pairings(scores, weights).amax(1)
    if name == "matched-smooth":
        return data.soft_maximum(pairings(scores, weights)[..., None], beta)[:, 0]
    if name == "transport":
        return transported(scores, weights, beta, size)
    if name == "order":
        return weighed.diagonal(dim1=1, dim2=2).sum(1)
    if name == "two-sided":
        return (1 - size) * weighed.amax(1).sum(1) + size * scores.amax(2).mean(1)
    if name == "capped":
        best = scores.argmax(1)  # (n, G)
        wins_all = (best == best[:, :1]).all(1)  # (n,)
        cheapest = (scores.amax(1) - scores.amin(1)).amin(1)  # to leave to the other, (n,)
        return weighed.amax(1).sum(1) - torch.where(wins_all, (1 - size) * cheapest, 0)
    bounds = {"balanced": (0.5, 0.5), "shared": (size, size), "shared-capped": (1 - size, size)}
    return shared_out(weighed.sum(2), *bounds[name])
