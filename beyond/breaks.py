"""What breaks it? The recurrent network with one setting changed at a time.

exp_recurrent.py finds the two groupings with one set of settings. Here each of them is
changed in turn, then the network is changed into the one that Wang et al. (2019) released,
difference by difference; and other people's U-Nets are put in the place of this one. Two
heads are trained too where a change might help them. Running this draws the recorded runs
(figures/breaks.jsonl) and prints a table of them; --out FOLDER runs everything anew, see
exp_controls.py.

The U-Nets of MONAI need "pip install monai" (it is not among the requirements); without
it their recorded runs are drawn all the same.
"""

import importlib.util
from functools import partial

import torch
from torch import nn

import common
import exp_controls
import pictures
import sweep
from exp_controls import FIXED, TWO, Settings, Variant  # noqa: F401 (for sweep.py)
from recurrent_unet import RecurrentUNet
from unet import UNet, block, initialise

VERSION = 1  # see sweep.py


class BlockDRU(nn.Module):
    """The unit that Wang et al. (2019) released: every product of their DRU is a block
    of two convolutions. What leaves a block is at least 0, so the update gate is at least
    1/2: the new state counts at least as much as the old one."""

    def __init__(self, channels):
        super().__init__()
        self.update, self.reset, self.candidate = (
            block(channels, channels) for _ in range(3)
        )

    def forward(self, x, h):
        update = torch.sigmoid(self.update(x))  # (n, C, H, W)
        new = torch.tanh(self.candidate(torch.sigmoid(self.reset(x)) * x))
        return (1 - update) * h + update * new


class Released(RecurrentUNet):
    """The recurrent U-Net with what the code of Wang et al. (2019) does otherwise.

    As their dru in ptsemseg/models/dru.py: the products of the DRU are blocks of two
    convolutions with normalisation and ReLU; the next pass sees logits, not
    probabilities; mask and state are 1 before the first pass; the blocks on the way up
    have no normalisation. Each can be left out. Their width of 8 and four poolings are
    settings. Not copied: that their unit stands in place of the innermost block, and
    their 8 groups in a normalisation. The other arguments are those of RecurrentUNet.
    """

    def __init__(self, blocks=True, logits=True, ones=True, bare=True, **options):
        super().__init__(**options)
        if blocks and self.unit is not None:
            self.unit = BlockDRU(self.unet.down[-1][0].out_channels)
            initialise(self.unit, options.get("generator"))
        for merge in self.unet.merge if bare else ():
            merge[1] = merge[4] = nn.Identity()
            for conv in merge[0], merge[3]:  # which then have a bias of their own
                conv.bias = nn.Parameter(torch.zeros(conv.out_channels))
        self.logits, self.sees_mask = logits, not logits
        self.handed_first = (1.0, 1.0) if ones else (0.0 if logits else 0.5, 0.0)

    def hand_on(self, logits, state, k):
        return logits if self.logits else torch.sigmoid(logits), state


class Monai(nn.Module):
    """A U-Net of MONAI, by the name of its class: images (n, 1, H, W) -> logits (n,
    out_channels, H, W). Its weights are its own draw, seeded by the generator."""

    def __init__(self, name, out_channels=2, width=16, depth=2, generator=None):
        super().__init__()
        from monai.networks import nets

        options = {"spatial_dims": 2, "in_channels": 1, "out_channels": out_channels}
        widths = [width * 2**level for level in range(5)]
        if name == "BasicUNet":  # of four poolings, always
            options["features"] = (*widths, width)
        else:
            options |= {"channels": widths[: depth + 1], "strides": [2] * depth}
        if name == "UNet":
            options["num_res_units"] = 2
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(generator.initial_seed() if generator else 0)
            self.net = getattr(nets, name)(**options)

    def forward(self, images):
        return self.net(images)


def recurrent(title, **other):
    """A variant of the recurrent network; names of a shape's sizes start with shape_."""
    other = {name.replace("shape_", "shape."): value for name, value in other.items()}
    return Variant(title, RecurrentUNet, other=other)


DOUBLE = {"size": 64, "square": 16, "lobe_height": 20, "lobe_width": 12}
DOUBLE |= {"bar_height": 4, "bar_length": 4}
SETTINGS = {
    "as-is": recurrent("as it is"),
    "image-48": recurrent("image of 48 pixels, the same shapes", shape_size=48),
    "image-64": recurrent("image of 64 pixels, the same shapes", shape_size=64),
    "double": recurrent(
        "everything twice as large", **{f"shape_{k}": v for k, v in DOUBLE.items()}
    ),
    "noise-3": recurrent("noise 0.3 (0.1)", noise=0.3),
    "noise-5": recurrent("noise 0.5 (0.1)", noise=0.5),
    "width-8": recurrent("width 8 (16)", width=8),
    "width-32": recurrent("width 32 (16)", width=32),
    "depth-3": recurrent("three poolings (2)", depth=3),
    "batch-1": recurrent("batch 1 (4)", batch=1),
    "batch-16": recurrent("batch 16 (4)", batch=16),
    "step-quarter": recurrent("step size 0.0005 (0.002)", learning_rate=5e-4),
    "step-four": recurrent("step size 0.008 (0.002)", learning_rate=8e-3),
    "b-quarter": recurrent("b/P = 1/4 (1)", shape_square=4),
    # It needs a larger image to lie in; image-48 is what that alone does.
    "b-four": recurrent("b/P = 4 (1), image of 48", shape_square=16, shape_size=48),
    "m-55": recurrent("m = 0.55 (0.5)", m=0.55),
    "m-70": recurrent("m = 0.7 (0.5)", m=0.7),
}
MIGHT_HELP = ["width-32", "batch-16", "step-quarter", "step-four"]
MIGHT_HELP += ["b-quarter", "b-four", "m-70", "noise-5"]
HEADS = {
    f"heads-{name}": Variant(
        f"two heads, {SETTINGS[name].title}", UNet, TWO, other=SETTINGS[name].other
    )
    for name in MIGHT_HELP
}
# Wang et al.'s network, by difference: (what it is, in options, in settings, ours).
DIFFERENCES = {
    "width": ("width 8", {}, {"width": 8}, "width 16"),
    "depth": ("four poolings", {}, {"depth": 4}, "two poolings"),
    "blocks": ("DRU of blocks", {"blocks": True}, {}, "DRU of convolutions"),
    "logits": ("logits fed back", {"logits": True}, {}, "probabilities fed back"),
    "ones": ("1 before the first pass", {"ones": True}, {}, "1/2, 0 before the first"),
    "bare": (
        "no normalisation on the way up",
        {"bare": True},
        {},
        "normalised upwards",
    ),
}
NONE = {"blocks": False, "logits": False, "ones": False, "bare": False}


def released(title, names):
    """The variant with these of the DIFFERENCES."""
    options, other = dict(NONE), {}
    for name in names:
        options |= DIFFERENCES[name][1]
        other |= DIFFERENCES[name][2]
    return Variant(title, Released, options, other=other)


WANG = {"wang": released("close to the release of Wang et al.", DIFFERENCES)}
for name, (*_, ours) in DIFFERENCES.items():
    rest = [key for key in DIFFERENCES if key != name]
    WANG[f"wang-without-{name}"] = released(f"theirs, but {ours}", rest)
for name, (text, *_) in DIFFERENCES.items():
    if name != "width":  # which is among the settings
        WANG[f"only-{name}"] = released(f"ours with: {text}", [name])
OTHERS = {
    f"{name}-{heads}": Variant(
        f"{title}, {text}", Monai, {"name": name, "out_channels": channels}
    )
    for heads, text, channels in (
        ("single", "one decision", 2),
        ("heads", "two heads", 4),
    )
    for name, title in (
        ("BasicUNet", "MONAI's BasicUNet"),
        ("UNet", "MONAI's residual UNet"),
        ("AttentionUnet", "MONAI's AttentionUnet"),
    )
}
GROUPS = {
    "The recurrent network, one setting changed": SETTINGS,
    "Two heads, one setting changed": HEADS,
    "The recurrent network of Wang et al. 2019": WANG,
    "Other people's U-Nets, one decision": {k: OTHERS[k] for k in list(OTHERS)[:3]},
    "Other people's U-Nets, two heads": {k: OTHERS[k] for k in list(OTHERS)[3:]},
}
VARIANTS = {name: v for group in GROUPS.values() for name, v in group.items()}
run = partial(exp_controls.run, variants=VARIANTS)
summarise = partial(exp_controls.summarise, variants=VARIANTS)


HAVE_MONAI = importlib.util.find_spec("monai") is not None
DEFAULT = [name for name in VARIANTS if HAVE_MONAI or name not in OTHERS]


def change(name, s):
    """See exp_controls.change; where MONAI is not installed, its networks cannot be
    compared with those of a row."""
    if name not in DEFAULT:
        v = VARIANTS[name]
        changed = {"net": "Monai", "options": v.options, "rule": v.rule}
        return changed | {"coin": v.coin, "other": v.other, "start": None}
    return exp_controls.change(name, s, variants=VARIANTS)


def main(argv=None):
    """Run what is missing, draw all: returns the numbers of breaks.json, the Figure."""
    parser = common.Parser(__doc__)
    parser.add_training()
    sweep.add_options(parser, VARIANTS, DEFAULT, number=10)
    args = parser.parse_args(argv)
    if wrong := [name for name in args.variants if name not in DEFAULT]:
        parser.error(f"argument --variants: {wrong[0]} needs: pip install monai")
    first = args.variants[0]
    s, _ = parser.settings(Settings(), args, lambda s: run(first, 0, s, "cpu"))
    import exp_breaks  # this file, as the processes of a sweep know it

    runs = sweep.collect(parser, args, s, exp_breaks, "breaks")
    summary, groups = summarise(runs), {}
    for question, names in GROUPS.items():
        rows = [row for row in summary if row["variant"] in names]
        if rows:  # what is compared with comes first, then failures
            order = {r["variant"]: r["found"] / r["of"] for r in rows}
            order |= dict.fromkeys(("as-is", "wang"), -1)
            groups[question] = sorted(rows, key=lambda row: order[row["variant"]])
    title = "What breaks it? Failures first; 400 steps, in brackets what is usual\n"
    title += "outcomes by probabilities; found: an IoU of 0.95 for 99% of the pairs"
    figures = {"breaks": pictures.bars(groups, title, row=0.38)}
    numbers = exp_controls.report(args.out, "breaks", runs, summary, figures)
    return numbers, figures["breaks"]


if __name__ == "__main__":
    common.script(main)
