"""What breaks it? The recurrent network with one setting changed at a time.

Each setting of exp_recurrent.py is changed in turn, then the network into the one that Wang et al.
(2019) released, difference by difference. Other people's U-Nets are trained too, and two heads
where a change might help them. Running this draws the recorded runs (beyond/rows/breaks.jsonl);
--variants and --seeds train what is missing, MONAI's U-Nets after "pip install monai".
"""

from dataclasses import replace
from functools import partial
from importlib.util import find_spec

import common
import data
import exp_recurrent
from beyond import left_right, sweep
from beyond.left_right import TWO
from beyond.networks import Variant

FILES, SEEDS = ("breaks",), 10
Settings, FIXED = exp_recurrent.Settings, left_right.FIXED
run, batch = left_right.run, left_right.batch
TWICE = {f"shape.{name}": 2 * pixels for name, pixels in vars(data.Shape()).items()}
SETTINGS = {
    name: Variant(title, "RecurrentUNet", other=other)
    for name, title, other in (
        ("as-is", "as it is", {}),
        ("image-48", "image of 48 pixels, the same shapes", {"shape.size": 48}),
        ("image-64", "image of 64 pixels, the same shapes", {"shape.size": 64}),
        ("double", "everything twice as large", TWICE),
        ("noise-3", "noise 0.3 (0.1)", {"noise": 0.3}),
        ("noise-5", "noise 0.5 (0.1)", {"noise": 0.5}),
        ("width-8", "width 8 (16)", {"width": 8}),
        ("width-32", "width 32 (16)", {"width": 32}),
        ("depth-3", "three poolings (2)", {"depth": 3}),
        ("batch-1", "batch 1 (4)", {"batch": 1}),
        ("batch-16", "batch 16 (4)", {"batch": 16}),
        ("step-quarter", "step size 0.0005 (0.002)", {"learning_rate": 5e-4}),
        ("step-four", "step size 0.008 (0.002)", {"learning_rate": 8e-3}),
        ("b-quarter", "b/P = 1/4 (1)", {"shape.square": 4}),
        ("b-four", "b/P = 4 (1), image of 48", {"shape.square": 16, "shape.size": 48}),
        ("m-55", "m = 0.55 (0.5)", {"m": 0.55}),
        ("m-70", "m = 0.7 (0.5)", {"m": 0.7}),
    )
}
MIGHT_HELP = {"width-32", "batch-16", "step-quarter", "step-four"}
MIGHT_HELP |= {"b-quarter", "b-four", "m-70", "noise-5"}
HEADS = {
    f"heads-{name}": Variant(f"two heads, {v.title}", "UNet", TWO, other=v.other)
    for name, v in SETTINGS.items()
    if name in MIGHT_HELP
}
# How the network of Wang et al. differs from ours, {difference: (theirs, ours)}.
DIFFERENCES = {
    "width": ("width 8", "width 16"),
    "depth": ("four poolings", "two poolings"),
    "blocks": ("DRU of blocks", "DRU of convolutions"),
    "logits": ("logits fed back", "probabilities fed back"),
    "ones": ("1 before the first pass", "1/2, 0 before the first"),
    "bare": ("no normalisation on the way up", "normalised upwards"),
}


def released(title, names):
    """The Variant with these of the DIFFERENCES."""
    options = {name: name in names for name in ("blocks", "logits", "ones", "bare")}
    other = {name: value for name, value in (("width", 8), ("depth", 4)) if name in names}
    return Variant(title, "Released", options, other=other)


WANG = {"wang": released("close to the release of Wang et al.", DIFFERENCES)}
for name, (_, ours) in DIFFERENCES.items():
    WANG[f"wang-without-{name}"] = released(f"theirs, but {ours}", DIFFERENCES.keys() - {name})
for name, (theirs, _) in DIFFERENCES.items():
    if name != "width":  # which is among the settings
        WANG[f"only-{name}"] = released(f"ours with: {theirs}", {name})
MONAI = {
    f"{name}-{end}": Variant(
        f"MONAI's {kind}{name}, {text}", "Monai", {"name": name, "out_channels": channels}
    )
    for end, text, channels in (("single", "one decision", 2), ("heads", "two heads", 4))
    for name, kind in (("BasicUNet", ""), ("UNet", "residual "), ("AttentionUnet", ""))
}
MATCHED = {
    f"{name}-matched": replace(v, title=f"{v.title}, matched", rule="matched")
    for name, v in (SETTINGS | WANG).items()
    if name in ("image-64", "noise-5", "b-four", "wang")
}
VARIANTS = SETTINGS | HEADS | WANG | MONAI | MATCHED
GROUPS = (  # (figure, heading, what stands under it)
    ("breaks", "The recurrent network, one setting changed", SETTINGS),
    ("breaks", "Two heads, one setting changed", HEADS),
    ("breaks", "The recurrent network, matched one to one", MATCHED),
    ("breaks_networks", "The recurrent network of Wang et al. 2019, theirs against ours", WANG),
    ("breaks_networks", "Other people's U-Nets", MONAI),
)
DEFAULT = [name for name in VARIANTS if name not in MONAI or find_spec("monai")]


def report(runs):
    """The summary, the pictures and the table of the runs, see sweep."""
    summary, figures = left_right.summarise(runs, VARIANTS), {}
    for figure, heading, variants in GROUPS:
        shown = [row for row in summary if row["variant"] in variants]
        if shown:
            figures.setdefault(f"{figure}.png", {})[heading] = shown
    title = "What breaks it? (in brackets what is usual; found: 99% of the groupings, IoU 0.95)"
    saved = {name: left_right.bars(groups, title) for name, groups in figures.items()}
    saved["breaks.json"] = {"experiment": "breaks", "variants": summary}
    return saved, left_right.table(summary)


main = partial(sweep.main, "breaks")

if __name__ == "__main__":
    common.script(main)
