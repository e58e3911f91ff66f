"""How several decisions are held against several valid groupings: a function a rule.

Each returns what every image counts, (n,), to be made large. scores is (n, D decisions, G
groupings). weights is (n or 1, G): how probable each grouping is or, where one truth is
known, 1 for it and 0 for the others.
"""

from itertools import permutations

import torch
from torch.nn.functional import logsigmoid

import data
from beyond import ambiguous_loss


def soft(scores, weights, beta):
    """The maximum, as the experiments have it: the smooth maximum of sharpness beta."""
    return (weights * data.soft_maximum(scores, beta)).sum(1)


def hard(scores, weights):
    """The maximum itself: the better decision counts for each grouping."""
    return (weights * scores.amax(1)).sum(1)


def relaxed(scores, weights, weight):
    """The worse of two decisions has a weight too (Rupprecht et al. 2017)."""
    mixed = (1 - weight) * scores.amax(1) + weight * scores.amin(1)  # (n, G)
    return (weights * mixed).sum(1)


def annealed(scores, weights, beta, progress):
    """Decisions are weighed by softmax(score / T), where T falls from 1 to 1 / beta while
    progress, that of the training, goes from 0 to 1 (Perera et al. 2024)."""
    share = torch.softmax(scores.detach() * beta**progress, 1)  # (n, D, G)
    return (weights * (share * scores).sum(1)).sum(1)


def evolving(scores, weights, share, progress):
    """All decisions are trained for a first share of the training, then the better one
    for each grouping (Makansi et al. 2019)."""
    if progress < share:
        return (weights * scores.mean(1)).sum(1)
    return hard(scores, weights)


def pairings(scores, weights):
    """Return what each way to give every grouping a decision of its own scores, (n,
    ways). ValueError: fewer decisions than groupings."""
    D, G = scores.shape[1:]
    if D < G:
        raise ValueError(f"decisions must be at least the groupings, got {D} and {G}")
    ways = torch.tensor(list(permutations(range(D), G)), device=scores.device)
    weighed = scores * weights[:, None]  # (n, D, G)
    return weighed[:, ways, torch.arange(G, device=scores.device)].sum(-1)


def matched(scores, weights):
    """Each decision takes a grouping of its own, as suits them best (Stewart et al. 2016;
    Carion et al. 2020)."""
    return pairings(scores, weights).amax(1)


def matched_smooth(scores, weights, beta):
    """The smooth maximum over the ways to match."""
    return data.soft_maximum(pairings(scores, weights)[..., None], beta)[:, 0]


def order(scores, weights):
    """Decision 1 is left, decision 2 is right."""
    return weights[:, 0] * scores[:, 0, 0] + weights[:, 1] * scores[:, 1, 1]


def two_sided(scores, weights, weight):
    """Every decision is drawn to its nearest grouping too, with a weight. All groupings
    are possible."""
    return (1 - weight) * hard(scores, weights) + weight * scores.amax(2).mean(1)


def capped(scores, weights, most):
    """One of two decisions wins at most a share of an image (after Gao et al. 2023): if
    it wins both groupings, it leaves a part of the cheaper one to the other."""
    best = scores.argmax(1)  # (n, 2 groupings)
    wins_all = best[:, 0] == best[:, 1]  # (n,)
    cheapest = (scores.amax(1) - scores.amin(1)).amin(1)  # (n,)
    return hard(scores, weights) - torch.where(wins_all, (1 - most) * cheapest, 0)


def released(scores, weights, most, progress):
    """As capped, but the share of an image that one decision may win rises from most at
    the start of the training to 1 at its end (after Gao et al. 2023)."""
    return capped(scores, weights, most + (1 - most) * progress)


def over_batch(scores, weights):
    """Each grouping is answered by the decision that scores better on it over the whole
    batch."""
    totals = (weights[:, None] * scores).sum(0)  # (D, G)
    best = totals.argmax(0)  # (G,)
    groupings = torch.arange(len(best), device=best.device)
    return (weights * scores[:, best, groupings]).sum(1)


def first_frozen(scores, weights, share, progress):
    """Decision 1 is trained alone for a first share of the training (after Schmidt et
    al. 2022). Then its scores have no gradient, and the better decision counts. What two
    heads share is still trained by the other one."""
    if progress < share:
        return (weights * scores[:, 0]).sum(1)
    frozen = torch.cat((scores[:, :1].detach(), scores[:, 1:]), 1)  # (n, D, G)
    return hard(frozen, weights)


def shared(scores, weights, share):
    """Each image of a batch is given to one of two decisions. Decision 1 has a share of
    the batch: the images on which it is furthest ahead."""
    own = (scores * weights[:, None]).sum(2)  # (n, 2)
    n = len(own)
    furthest_first = (own[:, 0] - own[:, 1]).argsort(descending=True)
    decision = torch.ones(n, dtype=torch.long, device=own.device)
    decision[furthest_first[: round(n * share)]] = 0
    return own.gather(1, decision[:, None])[:, 0]


def answered(scores, weights, beta, tau):
    """Return how much each of two decisions answers for each grouping, the shares P (n,
    2, G) that transport weighs the scores with.

    Decision 1 has of grouping g the share sigmoid(beta (S_1g - S_2g) + l). Here l =
    -beta tau logit(its share of all groupings), which is found by bisection in double
    precision and has no gradient.
    """
    with torch.no_grad():
        ahead = beta * (scores[:, 0] - scores[:, 1]).double()  # (n, G)
        weights = weights.double()
        logs = weights.clamp(min=1e-300).log()
        high = ahead.abs().amax(1, keepdim=True)  # (n, 1), l is between -high and high
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


def transport(scores, weights, beta, tau):
    """One transport problem (after De Plaen et al. 2023), the maximum at tau = 0 and
    smooth matching at a large tau: the largest <P, scores> + entropy of P / beta - tau
    KL(shares of the decisions || even), over all P whose columns sum to the weights.
    What is returned is <P, scores> at the best P, which has the same gradient."""
    return (answered(scores, weights, beta, tau) * scores).sum((1, 2))


def take_home(scores, weights, balance):
    """The loss to take home, beyond/ambiguous_loss.py. All groupings of the batch are the
    columns of one table of shares P."""
    n = len(scores)
    weights = weights.expand(n, -1).cpu().double() / n  # (n, G)
    ahead, spread = ambiguous_loss.centre(scores.detach().cpu().double(), weights)
    P = ambiguous_loss.shares(ahead / spread, weights, balance)  # (n, D, G)
    return n * (P.to(scores.device, scores.dtype) * scores).sum((1, 2))


# With what rows by the loss to take home are made, which an untrained network hardly shows.
OF_THE_LOSS = {
    "epsilon": ambiguous_loss.EPSILON,
    "rounds": ambiguous_loss.ROUNDS,
    "step": ambiguous_loss.STEP,
}
OF_TWO = ("order", "relaxed", "capped", "released", "shared", "transport")


def worth(rule, number, scores, weights, beta=100.0, progress=0.0):
    """Return what each image counts by the rule of this name, (n,). number is that of the
    rules that have one. ValueError: another rule, or one of two decisions for others."""
    D = scores.shape[1]
    if rule in OF_TWO and D != 2:
        raise ValueError(f"rule {rule!r} is for 2 decisions, got {D}")
    if rule == "soft":
        return soft(scores, weights, beta)
    if rule == "hard":
        return hard(scores, weights)
    if rule == "annealed":
        return annealed(scores, weights, beta, progress)
    if rule == "matched":
        return matched(scores, weights)
    if rule == "matched_smooth":
        return matched_smooth(scores, weights, beta)
    if rule == "order":
        return order(scores, weights)
    if rule == "relaxed":
        return relaxed(scores, weights, number)
    if rule == "evolving":
        return evolving(scores, weights, number, progress)
    if rule == "two_sided":
        return two_sided(scores, weights, number)
    if rule == "capped":
        return capped(scores, weights, number)
    if rule == "released":
        return released(scores, weights, number, progress)
    if rule == "over_batch":
        return over_batch(scores, weights)
    if rule == "first_frozen":
        return first_frozen(scores, weights, number, progress)
    if rule == "shared":
        return shared(scores, weights, number)
    if rule == "transport":
        return transport(scores, weights, beta, number)
    if rule in ("ambiguous_loss", "unordered"):  # which differ in how scores are made
        return take_home(scores, weights, number)
    raise ValueError(f"rule must be one of beyond/rules.py, got {rule!r}")
