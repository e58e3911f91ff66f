"""Lead and parting: which way two decisions leave the middle, by theory.

Two decisions d = 1, 2 score S_dg if the grouping g, left or right, is true; δ_g = S_1g - S_2g.
Near δ = 0 the decisions can differ in two directions: the lead (one is ahead for both
groupings) and the parting (each is ahead for one). The smooth maximum feeds both. One-to-one
matching is level in the lead, whatever the network. How fast a direction grows is the network's
own, by the Gram matrix of the gradients of the four scores in weight space. What networks do
is in beyond/exp_parting.py, which prints the claims.
"""

from functools import partial

import numpy as np
import torch
from torch.autograd.functional import hessian, jacobian

from beyond import rules

# Directions in the space of (S_1left, S_1right, S_2left, S_2right).
COMMON = np.array([1, 1, 1, 1]) / 2
LEAD = np.array([1, 1, -1, -1]) / 2
PARTING = np.array([1, -1, -1, 1]) / 2


def worth(rule, scores, beta):
    """What a rule of beyond/rules.py makes of the four scores (1left, 1right, 2left, 2right), a
    tensor (4,), both groupings equally likely: a number, to be made large."""
    halves = torch.full((1, 2), 0.5, dtype=scores.dtype)
    return rules.value(rule, scores.view(1, 2, 2), halves, beta)[0]


def growth(gram, rule, beta):
    """The linear growth of lead λ = (δ_left + δ_right)/2 and parting π = (δ_left - δ_right)/2
    near 0 under gradient ascent at unit speed, from the Gram matrix (4, 4) of the gradients of
    the scores: d(λ, π)/dt = drive + matrix (λ, π). Returns drive (2,) and matrix (2, 2).

    The scores move as dS/dt = Γ J'. Near 0 the slope J' of the rule is common/2 + beta/4 (λ lead +
    π parting) for the smooth maximum, and common/2 + beta/4 π parting for the smooth matching, in
    which no lead feeds itself. The drive of the lead is (1'Γ_11 1 - 1'Γ_22 1)/8: it is there
    where one of the two decisions learns faster. ValueError: another rule.
    """
    if rule not in ("soft", "matched-smooth"):
        raise ValueError(f"rule must be soft or matched-smooth, got {rule!r}")
    directions = np.stack((LEAD, PARTING))  # (2, 4)
    fed = np.diag([1.0 if rule == "soft" else 0.0, 1.0])  # what the rule feeds
    return directions @ gram @ COMMON / 2, beta / 4 * directions @ gram @ directions.T @ fed


def flow(left, right, rule, lead, parting, beta):
    """The two-dimensional model: how (δ_left, δ_right) move if lead and parting have the rates
    lead and parting (Γ along them) and are not coupled. left, right: arrays of δ; rule is "soft"
    or "matched-smooth". Returns two arrays."""
    if rule == "soft":
        pulls = np.tanh(beta * left / 2), np.tanh(beta * right / 2)
        dlead = lead * (pulls[0] + pulls[1]) / 4
        dparting = parting * (pulls[0] - pulls[1]) / 4
    else:
        dlead = 0 * left
        dparting = parting * np.tanh(beta * (left - right) / 4) / 2
    return dlead + dparting, dlead - dparting


def claims(beta=100.0):
    """Check the theory on random scores, rates and Gram matrices, against autograd: {claim: by how
    much it is wrong at most}."""
    generator, worst = torch.Generator().manual_seed(0), {}
    directions = torch.tensor(np.stack((LEAD, PARTING)))  # (2, 4)
    feeds = (
        ("soft", "The maximum feeds lead and parting, each by beta/4", [1, 1]),
        ("matched-smooth", "Smooth matching feeds the parting alone, by beta/4", [0, 1]),
    )
    for _ in range(10):
        for rule, claim, fed in feeds:
            scores = 2 * torch.rand(4, generator=generator).double()
            alike = scores[:2].repeat(2)  # the two decisions score the same: δ = 0
            ahead = scores + torch.randn(1, generator=generator) * directions[0]  # by any lead
            matchings = ("matched", "matched-smooth")
            gained = [worth(r, ahead, beta) - worth(r, scores, beta) for r in matchings]
            roots = torch.randn(4, 4, generator=generator).double()
            gram = roots @ roots.T
            faster = gram[:2, :2].sum() - gram[2:, 2:].sum()  # how much decision 1 is
            drive, matrix = map(torch.from_numpy, growth(gram.numpy(), rule, beta))
            value = partial(worth, rule, beta=beta)  # of scores
            bends = hessian(value, alike) @ directions.T  # (4, 2)
            rates = torch.rand(2, generator=generator).double()  # where nothing is coupled
            lead, parting = rates * (directions @ jacobian(value, scores))
            flows = flow(*(scores[:2] - scores[2:]).numpy(), rule, *rates.numpy(), beta)
            gaps = {
                claim: directions @ bends * 4 / beta - torch.tensor(fed).diag(),
                "Matching, hard or smooth, is level in the lead": torch.stack(gained),
                "Lead and parting are driven as growth says": drive
                - directions @ gram @ jacobian(value, alike),
                "They feed themselves as growth says": matrix - directions @ gram @ bends,
                "The lead is driven where one learns faster": drive[0] - faster / 8,
                "The plane's flow is the rule's": torch.tensor(flows)
                - torch.stack((lead + parting, lead - parting)),
            }
            for key, gap in gaps.items():
                worst[key] = max(gap.abs().max().item(), worst.get(key, 0))
    return worst
