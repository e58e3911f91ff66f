"""How often, and because of what? Parts of the recurrent network left out, other remedies for the
decision that never learns, and other rules than the maximum, each over many seeds.

The paper shows one run of each setting and credits recurrence: the second decision sees the
first. Here every variant is trained on the same images with the Settings of exp_recurrent.py,
but for what its name says, and what its decisions end in is counted. Running this draws the
recorded runs (beyond/rows/controls.jsonl) and prints tables of them; --variants and --seeds train
what is missing, --out FOLDER trains anew. A sweep can be stopped at any time: started again it
goes on. Parts that ran elsewhere are put together by appending their files of rows.
"""

from dataclasses import replace
from functools import partial

import common
import exp_recurrent
from beyond import left_right, sweep
from beyond.left_right import ALIKE, INGREDIENTS, NETWORKS, ONE, PAPER, SEEING, TOLD, TWO
from beyond.networks import Variant

FILES, SEEDS = ("controls",), 20
Settings, FIXED = exp_recurrent.Settings, left_right.FIXED
run, batch = left_right.run, left_right.batch
LONG, SEVENTY, CAPPED = {"epochs": 100}, {"m": 0.7}, "shared-capped 0.75"
HANDED_ON = {
    name: Variant(title, "Handing", options)
    for name, title, options in (
        ("mask-detached", "Mask and state, the mask detached", {"mask": "detached"}),
        ("mask-half", "Mask and state, 1/2 for the mask", {"mask": "half"}),
        ("mask-noise", "Mask and state, noise for the mask", {"mask": "noise"}),
        ("state-detached", "Mask and state, the state detached", {"state": "detached"}),
        ("mask-unit", "Mask alone, a unit without memory", {"state": "zero"}),
        ("told-unit", "Told only the pass, a unit without memory", TOLD),
    )
}
REMEDIES = {
    "relaxed": Variant("Two heads, relaxed maximum", "UNet", TWO, "relaxed"),
    "annealed": Variant("Two heads, annealed maximum", "UNet", TWO, "annealed"),
}
OTHER_UNIT = {
    "dru": Variant("Mask and state, a DRU for the GRU", "RecurrentUNet", {"unit": "dru"}),
    "sru": Variant("Mask and state, an SRU for the GRU", "RecurrentUNet", {"unit": "sru"}),
}
SHARPNESS = {}
for name in ("dual", "recurrent", "told-step"):
    v = NETWORKS[name]
    for beta in (10, 20, 50):
        SHARPNESS[f"{name}-beta-{beta}"] = replace(
            v, title=f"{v.title}, sharpness {beta}", other={"beta": float(beta)}
        )
    SHARPNESS[f"{name}-hard"] = replace(v, title=f"{v.title}, hard maximum", rule="hard")
LONGER = {
    "single-long": Variant("One decision, 100 epochs", "UNet", ONE, other=LONG),
    "dual-long": Variant("Two heads, 100 epochs", "UNet", TWO, other=LONG),
}
# The best of 36 settings of two heads, of sharpness, step size, width and batch, on seeds 1000 to
# 1002; the search is in the history, its runs are in beyond/rows/seeds_1000_1002.
STRONGEST = {
    "dual-beta-5-step-0.001-width-24": Variant(
        "Two heads, sharpness 5, step size 0.001, width 24",
        "UNet",
        TWO,
        other={"beta": 5.0, "learning_rate": 0.001, "width": 24},
    )
}

# One-to-one matching in place of the maximum, and its rivals.
FIVE = {
    name: NETWORKS[name] for name in ("dual", "independent", "twin-heads", "told-step", "recurrent")
}
MATCHED, SMOOTH = (
    {
        f"{name}-{rule}": replace(v, title=f"{v.title}, {text}", rule=rule)
        for name, v in FIVE.items()
    }
    for rule, text in (("matched", "matched"), ("matched-smooth", "matched smoothly"))
)
RIVALS = {
    "dual-" + rule.replace(" ", "-"): Variant(f"Two heads, {text}", "UNet", TWO, rule)
    for rule, text in (
        ("order", "a fixed order: decision 1 is left"),
        ("two-sided 0.1", "drawn to the nearest grouping, weight 0.1"),
        ("two-sided 0.25", "drawn to the nearest grouping, weight 0.25"),
        ("two-sided 0.5", "drawn to the nearest grouping, weight 0.5"),
        ("evolving 0.25", "both trained for a quarter of the steps"),
        ("evolving 0.5", "both trained for half of the steps"),
        ("evolving 0.75", "both trained for three quarters of the steps"),
        ("capped 0.6", "a decision wins at most 0.6 of an image"),
        ("capped 0.75", "a decision wins at most 0.75 of an image"),
        ("capped 0.9", "a decision wins at most 0.9 of an image"),
        ("relaxed 0.02", "relaxed, weight 0.02"),
        ("relaxed 0.1", "relaxed, weight 0.1"),
        ("relaxed 0.2", "relaxed, weight 0.2"),
    )
}
# One truth an image, drawn by a coin; the batch shared out evenly in place of the maximum.
ALONE = {"single-coin": Variant("One decision, batch 4", "UNet", ONE, coin=True)}
SHARED = {}
for name in ("dual", "independent", "recurrent"):
    for end, images, other in (
        ("", 4, {}),
        ("-batch-16", 16, {"batch": 16}),
        ("-batch-64", 64, {"batch": 64}),
    ):
        v = replace(NETWORKS[name], coin=True, other=other)
        title = f"{v.title}, batch {images}"
        SHARED[f"{name}-coin{end}"] = replace(v, title=f"{title}, maximum")
        SHARED[f"{name}-coin-balanced{end}"] = replace(
            v, title=f"{title}, shared evenly", rule="balanced"
        )
# The last number is the share of images that show their owner.
UNEVEN = {
    f"{name}-{end}": replace(
        NETWORKS[name],
        title=f"{NETWORKS[name].title}, {text}",
        rule=rule,
        coin=True,
        other={"batch": 16} | other,
        shown=shown,
    )
    for name, end, text, rule, other, shown in (
        ("dual", "coin-capped", "at most 3/4 of the batch each", CAPPED, {}, 0.0),
        ("dual", "coin-m-70", "m = 0.7, maximum", "soft", SEVENTY, 0.0),
        ("dual", "coin-m-70-balanced", "m = 0.7, shared evenly", "balanced", SEVENTY, 0.0),
        ("dual", "coin-m-70-shared", "m = 0.7, shared 7 : 3", "shared 0.7", SEVENTY, 0.0),
        ("dual", "half", "half show, maximum", "soft", {}, 0.5),
        ("dual", "half-balanced", "half show, shared evenly", "balanced", {}, 0.5),
        ("dual", "half-capped", "half show, at most 3/4 each", CAPPED, {}, 0.5),
        ("recurrent", "coin-m-70", "m = 0.7, maximum", "soft", SEVENTY, 0.0),
        ("recurrent", "half", "half show, maximum", "soft", {}, 0.5),
    )
}
# SGD with momentum in place of Adam.
SGD = {
    f"{name}{end}-sgd-{step}": replace(
        NETWORKS[name],
        title=f"{NETWORKS[name].title}, {text}, SGD {step:g}",
        rule=rule,
        other={"learning_rate": step},
        momentum=0.9,
    )
    for name in ("dual", "independent", "recurrent", "alike-1e-3")
    for rule, text, end in (("soft", "maximum", ""), ("matched", "matched", "-matched"))
    for step in (0.003, 0.01, 0.03, 0.1)
}
# Told only the pass with other step sizes.
STEP_SIZES = {
    f"told-step-{end}": replace(FIVE["told-step"], title=f"Told only the pass, {text}", other=other)
    for end, text, other in (
        ("5e-4", "step size 0.0005", {"learning_rate": 5e-4}),
        ("1e-3", "step size 0.001", {"learning_rate": 1e-3}),
        ("4e-3", "step size 0.004", {"learning_rate": 4e-3}),
        ("half", "step size 0.001, twice the steps", {"learning_rate": 1e-3, "epochs": 20}),
    )
}

# A figure a question, {figure: (its title, {heading: variants})}.
FIGURES = {
    "controls": (
        "Which network finds the two groupings?",
        {
            "The paper's three": PAPER,
            "Must the second decision see the first?": INGREDIENTS,
            "Is it enough to see the first?": SEEING,
            "Same weights, or only the same start? (noise in their spreads)": ALIKE,
        },
    ),
    "controls_rest": (
        "What must be handed on, and what else was tried?",
        {
            "What must mask and state say? (detached: no gradient)": HANDED_ON,
            "Known remedies": REMEDIES,
            "Another unit": OTHER_UNIT,
            "A maximum of another sharpness than 100": SHARPNESS,
            "A longer training": LONGER,
            "Two heads at their strongest": STRONGEST,
        },
    ),
    "matching": (
        "What if decisions and groupings are matched one to one?",
        {
            "The better decision for each grouping": FIVE,
            "One to one, the better pairing": MATCHED,
            "One to one, a smooth maximum over the pairings": SMOOTH,
            "Two heads, rivals of matching": RIVALS,
        },
    ),
    "one_truth": (
        "One truth an image, drawn by a coin: what finds the other one too?",
        {
            "One decision": ALONE,
            "The maximum, or the batch shared out evenly": SHARED,
            "Unequal priors; images that show their owner (batch 16)": UNEVEN,
        },
    ),
    "optimiser": (
        "Is any of this Adam's doing, or the step size's?",
        {"SGD with momentum 0.9": SGD, "Told only the pass": STEP_SIZES},
    ),
}
VARIANTS = {
    name: v
    for _, headings in FIGURES.values()
    for variants in headings.values()
    for name, v in variants.items()
}
DEFAULT = [*PAPER, *INGREDIENTS, *SEEING, *ALIKE, *HANDED_ON, *MATCHED]
# Whose counts are compared; first the lists that were written down before they were run, whose
# p-values are corrected within the list.
PLANNED = [
    [
        ("alike-1e-3", "independent"),
        ("told-step", "alike-1e-3"),
        *((name, "recurrent") for name in ("mask-detached", "mask-half", "mask-noise")),
    ],
    [(f"{name}-{rule}", name) for rule in ("matched", "matched-smooth") for name in FIVE],
    [
        (f"{name}-coin-balanced{end}", f"{name}-coin{end}")
        for name in ("dual", "independent", "recurrent")
        for end in ("", "-batch-16")
    ],
    [("told-step-1e-3", "recurrent"), ("told-unit", "recurrent")],
]
PAIRS = [
    ("mask-only", "told-step"),
    ("recurrent", "told-step"),
    ("recurrent", "recurrent-hard"),
    ("told-step", "independent"),
    ("told-step", "dual"),
    ("sequence", "independent"),
    ("recurrent-beta-10", "dual-beta-10"),
    ("recurrent-beta-10", "told-step-beta-10"),
    ("annealed", "dual"),
]


def report(runs):
    """The summaries, the pictures and the tables of the runs, see sweep."""
    summary = left_right.summarise(runs, VARIANTS)
    saved = {"controls.json": {"experiment": "controls", "variants": summary}}
    by = {row["variant"]: row for row in summary}
    for figure, (title, headings) in FIGURES.items():
        groups = {
            heading: rows
            for heading, variants in headings.items()
            if (rows := [by[name] for name in variants if name in by])
        }
        if groups:
            saved[f"{figure}.png"] = left_right.bars(groups, title)
    tables = left_right.table(summary), sweep.compare(summary, PAIRS, PLANNED)
    return saved, "\n\n".join(filter(None, tables))


main = partial(sweep.main, "controls")

if __name__ == "__main__":
    common.script(main)
