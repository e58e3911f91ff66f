"""Why two heads starve, why two passes part, and why matching parts anything.

Two decisions d = 1, 2 score S_dg if the grouping g, left or right, is true; δ_g = S_1g - S_2g.
Near δ = 0 the decisions can differ in two directions: the lead (one is ahead for both
groupings) and the parting (each is ahead for one). The smooth maximum feeds both. One-to-one
matching depends on δ_left - δ_right alone: it feeds the parting and is level in the lead,
whatever the network. How fast a direction grows is the network's own, by the Gram matrix of the
gradients of the four scores in weight space. Decisions that share their weights share what both
groupings ask for, so their lead hardly moves; two heads and two U-Nets do not.

Running this draws the recorded runs (beyond/rows/parting.jsonl): Gram matrices and ways of
(δ_left, δ_right) through the training. --variants and --seeds train what is missing.
"""

import math
import statistics
import time
from dataclasses import replace

import numpy as np
import torch
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

import common
import data
from beyond import left_right, rules, sweep
from beyond.left_right import ALIKE, FIXED, FOUND, INGREDIENTS, PAPER, SEEING
from beyond.networks import decide
from exp_recurrent import Settings

FILES, SEEDS = ("parting",), 20
# The networks, and what they are called here; the last five are matched, too.
TITLES = {
    "alike-1e-3": "two U-Nets alike but for 1e-3",
    "twin-decoders": "one encoder, two decoders alike but for 1e-3",
    "mask-only": "mask alone fed back",
    "state-only": "state alone fed back",
    "dual": "two heads",
    "twin-heads": "two heads alike but for 1e-3",
    "independent": "two U-Nets",
    "told-step": "told only the pass",
    "recurrent": "mask and state fed back",
}
EVERY = PAPER | INGREDIENTS | SEEING | ALIKE
MAXIMUM = {name: replace(EVERY[name], title=title) for name, title in TITLES.items()}
MATCHED = {f"{name}-matched": replace(v, rule="matched") for name, v in MAXIMUM.items()}
VARIANTS = MAXIMUM | MATCHED
DEFAULT = [*MAXIMUM, *(f"{name}-matched" for name in [*TITLES][4:])]
RATES_AT = (0, 5, 10, 20, 30, 40, 60, 80, 120)  # training steps after which Γ is measured
RATES_UP_TO = 10  # on seeds below this
SEEN = 32  # held-out images on which all is measured
# Where |δ_left| or |δ_right| first exceeds this, the signs are to tell how a run ends; of the
# BOUNDS the one with most runs right on seeds 1000 to 1009.
BOUNDS = (0.02, 0.05, 0.1, 0.2)
BOUND = 0.2

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
    ways = np.stack((LEAD, PARTING))  # (2, 4)
    fed = np.diag([1.0 if rule == "soft" else 0.0, 1.0])  # what the rule feeds
    return ways @ gram @ COMMON / 2, beta / 4 * ways @ gram @ ways.T @ fed


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


def gram_matrix(net, images, truths):
    """The Gram matrix Γ (4, 4) of the gradients in weight space of the scores S_dg, means over
    the images, in the order 1left, 1right, 2left, 2right."""
    weights = list(net.parameters())
    gradients = []
    for score in data.score(decide(net, images), truths).mean(0).flatten():
        slopes = torch.autograd.grad(score, weights, retain_graph=True, materialize_grads=True)
        gradients.append(torch.cat([slope.flatten() for slope in slopes]).double())
    gradients = torch.stack(gradients)  # (4, weights)
    return gradients @ gradients.T


def rounded(numbers):
    """Floats as a row keeps them: six digits."""
    return [float(f"{x:.6g}") for x in numbers]


def run(name, seed, s, device):
    """Train a variant as left_right.run does: a dict for a row. scores: the four mean scores on
    SEEN held-out images after so many training steps, [steps, 1left, 1right, 2left, 2right]; gram:
    {steps: Γ} on seeds below RATES_UP_TO; what it ends in, as in left_right.run."""
    v = VARIANTS[name]
    s = v.settings(s)
    net = v.build(s, torch.Generator().manual_seed(seed))
    net = net.to(device, memory_format=torch.channels_last)
    generator = torch.Generator(device).manual_seed(seed + data.SEEDS)
    weights = torch.tensor([[s.m, 1 - s.m]], device=device)
    images, parts = data.held_out(s, seed, device)
    seen, truths = images[:SEEN], data.groupings(parts[:SEEN])
    steps = s.epochs * s.steps_per_epoch
    looked_at = {0, steps, *RATES_AT, *range(0, 121, 4), *common.recorded(steps)}
    way, grams = [], {}

    def look(done):
        if done in looked_at:
            with torch.no_grad():
                scores = data.score(decide(net, seen), truths).mean(0)  # (2, 2)
            way.append([done, *rounded(scores.flatten().tolist())])
        if done in RATES_AT and seed < RATES_UP_TO:
            grams[done] = [rounded(line) for line in gram_matrix(net, seen, truths).tolist()]

    def batch(progress):
        images, parts = data.sample(s.batch, generator, s.shape, s.noise)
        scores = data.score(decide(net, images), data.groupings(parts))
        return (-rules.value(v.rule, scores, weights, s.beta, progress).mean(),)

    begun = time.perf_counter()
    sweep.train(net, v.optimiser(net, s), batch, steps, lambda step, _: look(step - 1))
    look(steps)
    with torch.no_grad():
        measured = data.measure(decide(net, images), parts, s.m)
    return {
        "found": measured["oracle_exact"] >= FOUND,
        "outcome": " + ".join(sorted(d["outcome"] for d in measured["decisions"])),
        "seconds": round(time.perf_counter() - begun, 2),
        "oracle_exact": measured["oracle_exact"],
        "score": measured["score"],
        "scores": way,
        "gram": grams,
    }


def change(name, s):
    """What a variant changes, see left_right.change."""
    return left_right.change(VARIANTS[name], s)
