"""Lead and parting: which way two decisions leave the middle, by theory.

S_dg is the score of decision d if the grouping g is true, left or right, and delta_g is
S_1g - S_2g. Training starts near delta = 0. From there two decisions can differ in two
directions: in the lead one of them is ahead for both groupings, in the parting each is
ahead for one. A rule (beyond/rules.py) feeds these directions. How fast they then grow is
the network's own matter: it follows from its Gram matrix.

All of this is for two decisions, two groupings and m = 1/2, unless a function says
otherwise, and for gradient flow, while the networks here are trained by Adam.
beyond/parting.py and beyond/law.py hold it against trained networks.
"""

import math

import numpy as np
import torch
from torch.autograd.functional import hessian, jacobian

import data
from beyond import rules
from beyond.networks import decide

# Directions in the space of the four scores (1left, 1right, 2left, 2right).
COMMON = np.array([1, 1, 1, 1]) / 2
LEAD = np.array([1, 1, -1, -1]) / 2
PARTING = np.array([1, -1, -1, 1]) / 2

HALVES = torch.tensor([[0.5, 0.5]], dtype=torch.float64)  # m and n


def gram_matrix(net, images, truths):
    """Return the Gram matrix (4, 4) of a network: the products of the gradients, in all
    of its weights, of the four scores (1left, 1right, 2left, 2right). The scores are
    means over the images (n, 1, H, W), whose truths are (n, 2, 2, H, W)."""
    weights = list(net.parameters())
    scores = data.score(decide(net, images), truths).mean(0)  # (2, 2)
    gradients = []
    for score in scores.flatten():
        slopes = torch.autograd.grad(
            score, weights, retain_graph=True, materialize_grads=True
        )
        flat = [slope.flatten() for slope in slopes]
        gradients.append(torch.cat(flat).double())
    gradients = torch.stack(gradients)  # (4, weights)
    return gradients @ gradients.T


def rate(gram, direction):
    """Return how fast a direction (4,) of the scores grows by a Gram matrix (4, 4)."""
    return direction @ gram @ direction


def growth(gram, feeds, beta):
    """Return how lead and parting grow near 0, from a Gram matrix (4, 4), under gradient
    ascent at unit speed: a drive (2,) and a matrix (2, 2), so that
    d(lead, parting)/dt = drive + matrix (lead, parting).

    The lead is (delta_left + delta_right)/2, the parting (delta_left - delta_right)/2.
    feeds are what the rule feeds the two, in units of beta/4: (1, 1) for the smooth
    maximum, (0, 1) for smooth matching. The scores move as dS/dt = gram J', where near 0
    the slope of the rule is J' = COMMON/2 + beta/4 (feeds (lead, parting)). The drive is
    what COMMON does: it moves the lead where one of the decisions learns faster.
    """
    directions = np.stack((LEAD, PARTING))  # (2, 4)
    drive = directions @ gram @ COMMON / 2
    matrix = beta / 4 * directions @ gram @ directions.T @ np.diag(feeds)
    return drive, matrix


def pulls(left, right, rule, beta):
    """Return the slope of a rule along the lead and along the parting, at any
    delta_left and delta_right (arrays): two arrays. ValueError: a rule that is neither
    "maximum", the smooth one, nor "matched", smoothly."""
    if rule == "maximum":
        at_left = np.tanh(beta * left / 2)
        at_right = np.tanh(beta * right / 2)
        return (at_left + at_right) / 4, (at_left - at_right) / 4
    if rule == "matched":
        return 0.0 * left, np.tanh(beta * (left - right) / 4) / 2
    raise ValueError(f"rule must be maximum or matched, got {rule!r}")


def feed_ratio(beta, tau):
    """Return how much less the rule rules.transport feeds the lead than the parting: 1
    under the maximum (tau = 0), towards 0 under matching (tau without bound)."""
    return 1 / (1 + beta * tau)


def tau_of(ratio, beta):
    """Return the tau at which the feed ratio is this one. ValueError: a ratio outside
    (0, 1]."""
    if not 0 < ratio <= 1:
        raise ValueError(f"ratio must be in (0, 1], got {ratio}")
    return (1 / ratio - 1) / beta


def push_needed(shares, weights, beta, tau):
    """Return the delta (n, G) at which decision 1 of two answers for these shares (n, G)
    of each grouping, if the groupings weigh weights (n, G): the inverse of what
    rules.transport feeds. Any number G of groupings will do.

    The largest <P, S> + entropy / beta - tau KL has a slope of 0 in each share. That
    says delta_g = logit(share_g) / beta + tau logit(share of all). Near equal scores a
    share is 1/2 + q, its logit is 4q, and delta = 4 q / beta + 4 tau mean(q). In the
    parting the mean is 0. In the lead it is q, so that a lead has to be 1 + beta tau
    times as large as a parting to change the shares as much.
    """
    of_all = (weights * shares).sum(1, keepdim=True)  # (n, 1)
    return torch.logit(shares) / beta + tau * torch.logit(of_all)


def fixed_sums_value(scores, rows, columns, beta, rounds=500):
    """Return the largest <P, S> + entropy of P / beta over all P (D, G) with these sums
    of rows (D,) and of columns (G,), by scaling rows and columns in turn (Sinkhorn)."""
    kernel = beta * scores  # (D, G), a logarithm
    for _ in range(rounds):
        kernel = kernel - torch.logsumexp(kernel, 1, keepdim=True) + rows.log()[:, None]
        kernel = kernel - torch.logsumexp(kernel, 0, keepdim=True) + columns.log()
    P = kernel.exp()
    return (P * scores).sum() - (P * kernel).sum() / beta


def claims(beta=100.0):
    """Check what is said of the maximum, of matching and of the Gram matrix, against
    autograd, on random scores, rates and Gram matrices. Returns {claim: by how much it is
    wrong at most}."""
    generator = torch.Generator().manual_seed(0)
    directions = torch.tensor(np.stack((LEAD, PARTING)))  # (2, 4)
    found = {}

    def claim(text, one_side, other_side):
        gap = (one_side - other_side).abs().max().item()
        found[text] = max(gap, found.get(text, 0.0))

    def maximum(scores):
        return rules.soft(scores.view(1, 2, 2), HALVES, beta)[0]

    def matched(scores):
        return rules.matched(scores.view(1, 2, 2), HALVES)[0]

    def matched_smooth(scores):
        return rules.matched_smooth(scores.view(1, 2, 2), HALVES, beta)[0]

    def growing(rule, feeds, equal, gram):
        drive, matrix = growth(gram.numpy(), feeds, beta)
        moved = directions @ gram @ jacobian(rule, equal)
        claim("Lead and parting are driven as growth() says", moved, tensor(drive))
        bent = directions @ gram @ hessian(rule, equal) @ directions.T
        claim("They feed themselves as growth() says", bent, tensor(matrix))
        faster = gram[:2, :2].sum() - gram[2:, 2:].sum()  # how much decision 1 is
        text = "The lead is driven where one decision learns faster"
        claim(text, tensor(drive)[0], faster / 8)

    for _ in range(10):
        scores = 2 * torch.rand(4, generator=generator).double()
        equal = scores[:2].repeat(2)  # both decisions score the same: delta is 0
        ahead = scores + torch.randn(1, generator=generator) * directions[0]
        roots = torch.randn(4, 4, generator=generator).double()
        gram = roots @ roots.T

        fed = directions @ hessian(maximum, equal) @ directions.T * 4 / beta
        text = "The maximum feeds lead and parting alike, by beta/4"
        claim(text, fed, torch.eye(2).double())
        fed = directions @ hessian(matched_smooth, equal) @ directions.T * 4 / beta
        text = "Smooth matching feeds the parting alone, by beta/4"
        claim(text, fed, torch.tensor([[0, 0], [0, 1]]).double())
        text = "Matching is level in the lead, far from 0 too"
        claim(text, matched(ahead), matched(scores))
        text = "Smooth matching is level in the lead, far from 0 too"
        claim(text, matched_smooth(ahead), matched_smooth(scores))

        left, right = (scores[:2] - scores[2:]).numpy()
        text = "Far from 0 the slopes of the maximum are those of pulls()"
        slopes = directions @ jacobian(maximum, scores)
        claim(text, tensor(pulls(left, right, "maximum", beta)), slopes)
        text = "Far from 0 the slopes of smooth matching are those of pulls()"
        slopes = directions @ jacobian(matched_smooth, scores)
        claim(text, tensor(pulls(left, right, "matched", beta)), slopes)

        growing(maximum, (1, 1), equal, gram)
        growing(matched_smooth, (0, 1), equal, gram)
    return found


def claims_between(beta=100.0):
    """Check what is said of the rule between the maximum and matching, as claims() does:
    against the slope that autograd gives of rules.transport, on random scores."""
    generator = torch.Generator().manual_seed(0)
    lead = torch.tensor(LEAD).view(1, 2, 2)
    parting = torch.tensor(PARTING).view(1, 2, 2)
    found = {}

    def claim(text, one_side, other_side):
        gap = abs(one_side - other_side).max().item()
        found[text] = max(gap, found.get(text, 0.0))

    def answered(scores, weights, tau):
        """The slope of the rule in the scores: the shares P, like scores."""
        scores = scores.clone().requires_grad_()
        value = rules.transport(scores, weights, beta, tau).sum()
        return torch.autograd.grad(value, scores)[0]

    step = 1e-5  # of a difference quotient
    for tau in (0.0, 0.01, 0.07, 0.31):
        equal = 2 * torch.rand(1, 1, 2, generator=generator).double().repeat(1, 2, 1)
        fed = {}
        for one in ("lead", "parting"):
            direction = lead if one == "lead" else parting
            above = answered(equal + step * direction, HALVES, tau)
            below = answered(equal - step * direction, HALVES, tau)
            bend = (above - below) / (2 * step)  # (1, 2, 2)
            fed[one] = (bend * direction).sum()
            crossed = (bend * (lead if one == "parting" else parting)).sum()
            claim("Near equal scores the two are fed apart", crossed, 0 * crossed)
        text = "The parting is fed by beta/4, whatever tau is"
        claim(text, fed["parting"] * 4 / beta, torch.tensor(1.0))
        text = "lead : parting feed = 1 / (1 + beta tau)"
        claim(text, fed["lead"] / fed["parting"], torch.tensor(feed_ratio(beta, tau)))

        for G in (2, 3, 4):
            weights = torch.rand(5, G, generator=generator).double() + 0.1
            weights = weights / weights.sum(1, keepdim=True)
            scores = 0.1 * torch.rand(5, 2, G, generator=generator).double()
            P = answered(scores, weights, tau)  # (5, 2, G)
            needed = push_needed(P[:, 0] / weights, weights, beta, tau)
            text = "delta = logit(share)/beta + tau logit(share of all), any G and m"
            claim(text, needed, scores[:, 0] - scores[:, 1])

    tau = 0.07
    small = 1e-4 * torch.randn(5, 2, generator=generator).double()
    exact = push_needed(0.5 + small, HALVES, beta, tau)
    text = "Near 1/2 that is 4 q/beta + 4 tau mean(q), in parts of delta"
    linear = 4 * small / beta + 4 * tau * small.mean(1, keepdim=True)
    claim(text, linear / exact.abs().amax(), exact / exact.abs().amax())

    for D, G in ((2, 2), (3, 2), (3, 4), (4, 4)):
        scores = 2 * torch.rand(D, G, generator=generator).double()
        rows = torch.rand(D, generator=generator).double() + 0.1
        columns = torch.rand(G, generator=generator).double() + 0.1
        rows = rows / rows.sum()
        columns = columns / columns.sum()
        shift = torch.randn(D, 1, generator=generator).double()
        moved = fixed_sums_value(scores + shift, rows, columns, 5.0)
        still = fixed_sums_value(scores, rows, columns, 5.0)
        text = "Fixed shares: a shift of a row pays by its share, any D and G"
        claim(text, moved - still, rows @ shift[:, 0])
    return found


def tensor(numbers):
    """Numbers, or a NumPy array, as a tensor in double precision."""
    return torch.as_tensor(numbers, dtype=torch.float64)


def in_words(found, allowed=1e-6):
    """Return the claims of claims() or claims_between(), one a line, with what came of
    them."""
    lines = []
    for text, gap in found.items():
        holds = gap < allowed and math.isfinite(gap)
        verdict = "holds" if holds else f"wrong by up to {gap:.3g}"
        lines.append(f"{text:<66}{verdict}")
    return "\n".join(lines)
