"""Does it matter where a mask sets out from? Who gets the square, predicted from there.

theory.untrained_end follows a mask of three logits, all alike at first, as it climbs the
expected IoU. It came when the plane of exp_owners.py had been seen, so it is tested here
where nothing had been run: at other priors, which it predicts, and with networks whose
masks are 0.2 or 0.05 on average before the training, in place of 1/2, by the bias of
their last layer, for which it fails. Running this draws the recorded runs
(figures/start.jsonl); --out FOLDER runs everything anew, on seeds 0 to 9.
"""

import math
from functools import partial
from itertools import product

from torch import nn

import arms
import common
import exp_controls
import exp_owners
import pictures
import sweep
import theory
from exp_owners import FIXED, VERSION, Settings  # noqa: F401 (for sweep.py)
from unet import UNet


class Started(UNet):
    """A UNet whose masks are start on average before it is trained, by the bias of its
    last layer, as RetinaNet's are 0.01 (Lin et al. 2017). Those of UNet are 1/2."""

    def __init__(self, start, **options):
        super().__init__(**options)
        nn.init.constant_(self.head.bias, math.log(start / (1 - start)))


def variant(start, m, r):
    """A Variant of two owners whose masks start there."""
    net, options = (UNet, {}) if start == 0.5 else (Started, {"start": start})
    title = f"start {start}, m = {m}, r = {r:g}"
    return exp_owners.variant(title, net, 2, r=r, m=m, **options)


# {(the masks' start, m): what the points are}; the first two are from exp_owners.py.
POINTS = dict.fromkeys(((0.5, 0.5), (0.5, 0.6)), "seen before")
POINTS |= dict.fromkeys(((0.5, 0.65), (0.5, 0.725), (0.5, 0.85)), "new")
POINTS |= {(start, 0.5): f"start {start}" for start in (0.2, 0.05)}
POINTS[0.05, 0.6] = "start 0.05"
VARIANTS = {
    f"start{start}-" * (start != 0.5) + f"K2-m{m}-r{r:g}": variant(start, m, r)
    for (start, m), r in product(POINTS, arms.SIZES)
}
PLANNED = [("start0.2-K2-m0.5-r0.25", "K2-m0.5-r0.25")]
PLANNED += [("start0.05-K2-m0.5-r1", "K2-m0.5-r1")]
run = partial(exp_owners.run, variants=VARIANTS)
change = partial(exp_controls.change, variants=VARIANTS)


def summarise(runs):
    """The points, a list of dicts, see exp_owners.summarise: each with the start of its
    masks, and the rule of an untrained mask that has that start, too."""
    points = exp_owners.summarise(runs, VARIANTS)
    for q in points:
        v, b, p = VARIANTS[q["variant"]], arms.SIZES[q["r"]][0] ** 2, q["p"]
        q["start"] = v.options.get("start", 0.5)
        q["predicted"] = theory.untrained_end(p, b / q["r"], b, 32**2, q["start"])
        q["rules"]["the same, from the start it has"] = q["predicted"]
        q["where"] = POINTS[q["start"], v.other["m"]]
        if q["where"] == "new":
            q["where"] += ", p below 1/2" if p < 0.5 else ", p above 1/2"
    return points


def to_both(runs):
    """How often runs with m = 1/2 give the square to both: rows for exp_controls.compare."""
    found = []
    for name in (name for pair in PLANNED for name in pair):
        _, rows = exp_owners.of(name, runs, VARIANTS)
        if rows:
            k, n = sum(row.get("outcome") == "all" for row in rows), len(rows)
            found.append({"variant": name, "title": VARIANTS[name].title, "found": k})
            found[-1] |= {"of": n, "interval": sweep.wilson(k, n)}
    return found


def table(points):
    """How often the square is given, by start, p and r, as a table in Markdown; in bold
    where the untrained mask has it so."""
    lines = {}
    for q in points:
        line = dict.fromkeys(arms.SIZES, "-")
        line = lines.setdefault((q["start"], q["p"]), line)
        text = f"{q['outcomes'].get('given', 0)}/{sum(q['outcomes'].values())}"
        line[q["r"]] = f"**{text}**" if q["predicted"] == "given" else text
    cells = [[*map("{:.3g}".format, key), *lines[key].values()] for key in lines]
    return sweep.markdown(["start", "p", *(f"r = {r:g}" for r in arms.SIZES)], cells)


def main(argv=None):
    """Run what is missing, draw all: returns the numbers of start.json, the Figure."""
    parser = common.Parser(__doc__)
    parser.add_training()
    sweep.add_options(parser, VARIANTS, list(VARIANTS), 10)
    args = parser.parse_args(argv)
    s, _ = parser.settings(Settings(), args, lambda s: change(args.variants[0], s))
    import exp_start  # this file, as the processes of a sweep know it

    runs = sweep.collect(parser, args, s, exp_start, "start")
    agreed, both = exp_owners.agreement(points := summarise(runs)), to_both(runs)
    print(table(points), exp_owners.agreement_table(agreed), sep="\n\n")
    print(exp_controls.compare(both, {}, PLANNED))
    numbers = {"experiment": "exp_start", "points": points}
    numbers |= {"agreement": agreed, "to_both": both}
    common.save(f"{args.out}/start.json", numbers)
    common.save(f"{args.out}/start.png", fig := pictures.starts(points))
    sweep.exit_if_dead(runs)
    return numbers, fig


if __name__ == "__main__":
    common.script(main)
