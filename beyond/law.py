"""One number between the maximum and matching: does it tell which way two decisions leave?

The rule "transport T" of beyond/rules.py feeds a lead 1 / (1 + beta T) times as much as a parting:
this is the feed ratio. It is 1 under the maximum and 0 under matching. By the law a network finds
both groupings once the feed ratio is below its own parting : lead rate. Running this draws nothing
yet: it trains the planned runs (beyond/rows/law.jsonl), see the plan in beyond/README.md.
"""

from collections import Counter
from dataclasses import replace
from functools import partial

import torch

import common
import data
import exp_recurrent
from beyond import left_right, sweep
from beyond.exp_parting import SEEN, gram_matrix
from beyond.left_right import NETWORKS
from beyond.networks import decide

FILES, SEEDS = ("law",), 20
Settings, FIXED, batch = exp_recurrent.Settings, left_right.FIXED, left_right.batch
FEEDS = (1, 1 / 2, 1 / 4, 1 / 8, 1 / 16, 1 / 32)
SHARPNESS = (25, 100, 400, 1600)
LEADS = (-0.1, -0.05, -0.02, 0.02, 0.05, 0.1)
LOOK_AT = {0, 5, 10, 20, 30, 40, 60, 80, 100, 120, 160, 200, 300, 400}
ASKED = ("dual", "twin-heads", "independent", "alike-1e-3", "told-step")


def at(name, feed, beta):
    """The network of that name at a feed ratio and a sharpness."""
    v, tau = NETWORKS[name], (1 / feed - 1) / beta
    title = f"{v.title}, feed ratio 1/{1 / feed:g}, sharpness {beta}"
    return replace(v, title=title, rule=f"transport {tau:g}", other={"beta": float(beta)})


VARIANTS = {}
for name in ASKED:
    for feed in FEEDS:
        for beta in SHARPNESS if name in ("dual", "twin-heads") else (100,):
            VARIANTS[f"{name}-feed-{feed:g}-beta-{beta}"] = at(name, feed, beta)
for lead in LEADS:
    for rule in ("soft", "matched"):
        v = replace(NETWORKS["dual"], net="Led", options={"lead": lead}, rule=rule)
        VARIANTS[f"led-{lead:g}-{rule}"] = replace(v, title=f"Two heads, lead {lead:g}, {rule}")
for name in ASKED:
    v = replace(NETWORKS[name], other={"epochs": 1})
    VARIANTS[f"{name}-rates"] = replace(v, title=f"{v.title}, its rates")
DEFAULT = list(VARIANTS)


def run(v, seed, s, device):
    """Train a Variant, see left_right.run: a dict for a row. ends: what each decision ends in, in
    their order; scores: the four mean scores on SEEN held-out images after so many training steps,
    [steps, 1left, 1right, 2left, 2right]; batches: before every tenth step, of that step's batch,
    [steps, lead, parting, spread], the spread being the mean distance of the scores from their
    mean over the decisions; gram: the Gram matrix at the end of a run of one epoch."""
    s = v.settings(s)
    images, parts = data.held_out(s, seed, device)
    seen, truths = images[:SEEN], data.groupings(parts[:SEEN])
    path, batches, grams = [], [], {}

    def look(net, step, masks, its_parts):
        done = step - 1
        with torch.no_grad():
            if done in LOOK_AT:
                scores = data.score(decide(net, seen), truths).mean(0)  # (2, 2)
                path.append([done, *sweep.rounded(scores.flatten().tolist())])
            if done % 10 == 0:
                scores = data.score(masks, data.groupings(its_parts))  # (n, 2, 2)
                left, right = (scores[:, 0] - scores[:, 1]).mean(0).tolist()
                spread = (scores - scores.mean(1, keepdim=True)).abs().mean().item()
                row = (left + right) / 2, (left - right) / 2, spread
                batches.append([done, *sweep.rounded(row)])
        if s.epochs == 1 and done == s.steps_per_epoch:
            grams[done] = [sweep.rounded(line) for line in gram_matrix(net, seen, truths).tolist()]

    end = left_right.run(v, seed, s, device, look)
    kept = {key: end[key] for key in ("found", "outcome", "seconds", "oracle_exact", "score")}
    ends = [d["outcome"] for d in end["decisions"]]
    return kept | {"ends": ends, "scores": path, "batches": batches, "gram": grams}


def report(runs):
    """How many runs of each variant find both groupings, see sweep."""
    rows = []
    for name in VARIANTS:
        own = sweep.of(runs, name)
        if own:
            ends = Counter(row.get("outcome", "died") for row in own)
            found = sum(row.get("found", False) for row in own)
            rows.append([name, f"{found}/{len(own)}", dict(ends)])
    return {}, sweep.markdown(["variant", "finds both", "ends in"], rows)


main = partial(sweep.main, "law")

if __name__ == "__main__":
    common.script(main)
