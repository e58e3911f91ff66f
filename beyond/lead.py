"""Lead and parting: which way two decisions leave the middle, by theory.

S_dg is the score of decision d if the grouping g is true, left or right, and delta_g is
S_1g - S_2g. Training starts near delta = 0. From there two decisions can differ in two
directions: in the lead one of them is ahead for both groupings, in the parting each is
ahead for one. A rule (beyond/rules.py) feeds these directions. How fast they then grow is
the network's own matter: it follows from its Gram matrix.

This is for two decisions, two groupings and m = 1/2, unless a function says otherwise.
beyond/parting.py and beyond/law.py hold it against trained networks.
"""

import numpy as np
import torch
from torch.autograd.functional import hessian

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


def feed_ratio(beta, tau):
    """Return how much less the rule rules.transport feeds the lead than the parting: 1
    under the maximum (tau = 0), towards 0 under matching (tau without bound).

    The largest <P, S> + entropy / beta - tau KL has a slope of 0 in each share that
    decision 1 answers for. That says delta_g = logit(share of g) / beta + tau logit(share
    of all). Near equal scores a share is 1/2 + q, its logit is 4q, and delta = 4 q / beta
    + 4 tau mean(q). In the parting the mean is 0. In the lead it is q, so that a lead has
    to be 1 + beta tau times as large as a parting to change the shares as much.
    """
    return 1 / (1 + beta * tau)


def tau_of(ratio, beta):
    """Return the tau at which the feed ratio is this one."""
    return (1 / ratio - 1) / beta


def fed(direction, scores, beta, tau, step=1e-5):
    """Return how much rules.transport curves along a direction (1, 2, 2) of the scores
    (1, 2, 2): a difference quotient of its slope, which is P."""
    above = rules.answered(scores + step * direction, HALVES, beta, tau)
    below = rules.answered(scores - step * direction, HALVES, beta, tau)
    return ((above - below) * direction).sum() / (2 * step)


def note(found, text, one_side, other_side):
    """Note in found, which is {claim: by how much it is wrong at most}, how far the two
    sides of a claim are apart."""
    gap = (one_side - other_side).abs().max().item()
    found[text] = float(np.maximum(gap, found.get(text, 0.0)))


def claims(beta=100.0):
    """Check what is said of the maximum and of matching against autograd, on random
    scores. Returns {claim: by how much it is wrong at most}."""
    generator = torch.Generator().manual_seed(0)
    directions = torch.tensor(np.stack((LEAD, PARTING)))  # (2, 4)
    found = {}

    def maximum(scores):
        return rules.soft(scores.view(1, 2, 2), HALVES, beta)[0]

    def matched(scores):
        return rules.matched(scores.view(1, 2, 2), HALVES)[0]

    def matched_smooth(scores):
        return rules.matched_smooth(scores.view(1, 2, 2), HALVES, beta)[0]

    for _ in range(10):
        scores = 2 * torch.rand(4, generator=generator).double()
        equal = scores[:2].repeat(2)  # both decisions score the same: delta is 0
        ahead = scores + torch.randn(1, generator=generator) * directions[0]

        text = "The maximum feeds lead and parting alike, by beta/4"
        bend = directions @ hessian(maximum, equal) @ directions.T  # (2, 2)
        note(found, text, bend * 4 / beta, torch.eye(2))
        text = "Smooth matching feeds the parting alone, by beta/4"
        bend = directions @ hessian(matched_smooth, equal) @ directions.T
        note(found, text, bend * 4 / beta, torch.tensor([[0, 0], [0, 1]]))
        text = "Matching is level in the lead, far from 0 too"
        note(found, text, matched(ahead), matched(scores))
        text = "Smooth matching is level in the lead, far from 0 too"
        note(found, text, matched_smooth(ahead), matched_smooth(scores))
    return found


def claims_between(beta=100.0):
    """Check what is said of the rule between the maximum and matching, as claims() does,
    against what decision 1 answers for by rules.answered."""
    generator = torch.Generator().manual_seed(0)
    lead = torch.tensor(LEAD).view(1, 2, 2)
    parting = torch.tensor(PARTING).view(1, 2, 2)
    found = {}
    for tau in (0.0, 0.01, 0.07, 0.31):
        equal = 2 * torch.rand(1, 1, 2, generator=generator).double().repeat(1, 2, 1)
        of_lead = fed(lead, equal, beta, tau)
        of_parting = fed(parting, equal, beta, tau)
        text = "The parting is fed by beta/4, whatever tau is"
        note(found, text, of_parting * 4 / beta, torch.tensor(1.0))
        text = "lead : parting feed = 1 / (1 + beta tau)"
        note(found, text, of_lead / of_parting, torch.tensor(feed_ratio(beta, tau)))

        small = 1e-6 * torch.rand(5, 2, 2, generator=generator).double()
        q = 2 * rules.answered(small, HALVES, beta, tau)[:, 0] - 0.5  # (5, 2)
        needed = 4 * q / beta + 4 * tau * q.mean(1, keepdim=True)
        text = "Near 0 delta = 4 q/beta + 4 tau mean(q)"
        note(found, text, 1e6 * needed, 1e6 * (small[:, 0] - small[:, 1]))
    return found


def in_words(found, allowed=1e-6):
    """Return the claims of claims() or claims_between(), one a line, with what came of
    them."""
    lines = []
    for text, gap in found.items():
        verdict = "holds" if gap < allowed else f"wrong by up to {gap:.3g}"
        lines.append(f"{text:<54}{verdict}")
    return "\n".join(lines)
