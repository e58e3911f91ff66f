"""Any angle: which network finds both wholes, and does the second decision look at the first?

In the paper's world "left first, then right" can be a habit: nothing asks the second decision to
look at the first. Here the pair lies at any angle, and a decision is one mask, a whole: a lobe,
its bar and the common region. An image has two wholes, its two truths. Turned by 180 degrees an
image is the same, so that a rule which names a first whole must change at some angle. One
decision scores at most 2/3 on average (see ceiling), two decisions can score 1.

Running this draws the recorded runs (beyond/rows/rotated.jsonl) and prints tables of them; what
else the command line can do is as in beyond/controls.py. With --train [--seed S --epochs N
--device cpu|cuda --out FOLDER] the recurrent network is trained once instead, and
FOLDER/exp_rotated.json and its picture are saved.
"""

import functools
import math
import sys
import time
from dataclasses import asdict, replace

import numpy as np
import torch
from matplotlib.figure import Figure
from matplotlib.patches import Patch

import common
import data
import exp_recurrent
import pictures
from beyond import networks, rules, sweep
from beyond.networks import Variant

FILES, SEEDS = ("rotated",), 20
# Twice as long as exp_recurrent.py trains. There is no prior m: each whole has 1/2.
Settings = functools.partial(exp_recurrent.Settings, epochs=20)
EXACT = 0.9  # a decision finds a whole if its mask, cut off at 1/2, has this IoU with it
FOUND = 0.5  # a run finds both wholes if it does so in more than this share of the images
FIXED = {"exact": EXACT}
ANGLES = tuple(range(0, 180, 5))  # degrees, see by_angle
FROM_CHANGE = np.array(ANGLES) - 87.5  # degrees, see from_change
TURNS = tuple(range(0, 181, 30))  # degrees, see answers
ANSWERS = {"opposite": "#00806a", "same": "#c04a00", "neither": "0.85"}

NETWORKS = {
    name: Variant(title, net, {"out_channels": 1} | options)
    for name, title, net, options in (
        ("one", "One decision", "UNet", {}),
        ("heads", "Two heads", "UNet", {"out_channels": 2}),
        ("independent", "Two U-Nets", "TwoUNets", {}),
        ("told", "Told only the pass", "ToldPass", {}),
        ("told-wide", "Told only the pass, width 28", "ToldPass", {"width": 28}),
        (
            "told-unit",
            "Told only the pass, unit without memory",
            "Handing",
            {"mask": "pass", "state": "zero"},
        ),
        ("mask", "Mask fed back", "RecurrentUNet", {"feed_state": False}),
        ("mask-unit", "Mask fed back, unit without memory", "Handing", {"state": "zero"}),
        ("state", "State fed back", "RecurrentUNet", {"feed_mask": False}),
        ("full", "Mask and state fed back", "RecurrentUNet", {}),
        ("mask-cut", "Both, the mask detached", "Handing", {"mask": "detached"}),
        ("state-cut", "Both, the state detached", "Handing", {"state": "detached"}),
        ("noise", "State, and noise for the mask", "Handing", {"mask": "noise"}),
    )
}
# One-to-one matching in place of the maximum.
MATCHED = {
    f"{name}-matched": replace(
        NETWORKS[name], title=f"{NETWORKS[name].title}, matched", rule="matched"
    )
    for name in ("heads", "independent", "told", "full")
}
# Smaller steps, and as many more of them.
STEPS = {
    "": {},
    "-half": {"learning_rate": 1e-3, "epochs": 40},
    "-quarter": {"learning_rate": 5e-4, "epochs": 80},
}
VARIANTS = dict(NETWORKS)
for size in ("-half", "-quarter"):
    for name, v in NETWORKS.items():
        title = f"{v.title}, step size {STEPS[size]['learning_rate']:g}"
        VARIANTS[name + size] = replace(v, title=title, other=STEPS[size])
VARIANTS |= MATCHED
DEFAULT = list(NETWORKS)
# Those that see a mask, and what they are called where there is a left and a right.
LEFT_RIGHT = {
    "mask": "mask-only",
    "mask-unit": "mask-unit",
    "full": "recurrent",
    "mask-cut": "mask-detached",
    "state-cut": "state-detached",
}
# Whose counts are compared: two lists that were written down before their runs, and one pair,
# each with its own best step size.
PLANNED = [
    [("full", "told"), ("state", "told-unit"), ("mask", "mask-unit"), ("noise", "full")],
    [(name, name.removesuffix("-matched")) for name in MATCHED],
]
PAIRS = [("full-half", "told-quarter")]

decide = functools.partial(networks.decide, instances=1)  # probabilities (n, D, 1, H, W)


def ceiling(shape):
    """The most that one decision can score on average, (P+b)/(2P+b): 2/3 if b = P. Either whole
    scores that, and so does everything; the common region alone scores b/(P+b), which is less."""
    return (shape.P + shape.b) / (2 * shape.P + shape.b)


def place(n, generator, shape, angle=None):
    """Where n pairs lie: their angles (n, 1, 1) in radians and their centres (2, n, 1, 1) in
    pixels, x and y, drawn evenly; the angles are angle (n,) where that is given. ValueError: a
    pair that does not fit at every angle."""
    device, S = generator.device, shape.size
    u_end, v_end = shape.width / 2, shape.height / 2
    if S < 2 * math.hypot(u_end, v_end):
        raise ValueError(f"size must be at least the diagonal of the pair, got {S}")
    if angle is None:
        angle = 2 * math.pi * torch.rand(n, generator=generator, device=device)
    angle = angle[:, None, None]
    cos, sin = angle.cos().abs(), angle.sin().abs()
    # From the centre to the outermost point, along x and along y: (2, n, 1, 1).
    reach = torch.stack((u_end * cos + v_end * sin, u_end * sin + v_end * cos))
    where = torch.rand(2, n, 1, 1, generator=generator, device=device)
    return angle, reach + where * (S - 2 * reach)


def parts_at(angle, centre, shape):
    """The parts (n, 3, H, W) of pairs that lie as place says: a lobe with its bar, the common
    region, the other lobe with its bar. A pixel belongs to the part in which its centre lies: a
    part has its area, P or b, on average, and in an image a few pixels more or less. At an angle
    of zero the first lobe is the left one."""
    middle = torch.arange(shape.size, device=angle.device) + 0.5
    dx, dy = middle[None, None, :] - centre[0], middle[None, :, None] - centre[1]
    cos, sin = angle.cos(), angle.sin()
    u, v = cos * dx + sin * dy, cos * dy - sin * dx  # (n, H, W), along the pair and across it
    half = shape.square / 2
    square = torch.maximum(u.abs(), v.abs()) < half
    lobe = (u.abs() >= half + shape.bar_length) & (u.abs() < shape.width / 2)
    lobe &= v.abs() < shape.lobe_height / 2
    bar = (u.abs() < half + shape.bar_length) & (v.abs() < shape.bar_height / 2)
    own = (bar | lobe) & ~square
    return torch.stack((own & (u < 0), square, own & (u >= 0)), 1).float()


def sample(n, generator, shape, noise, angle=None):
    """Draw n images (n, 1, H, W), as data.sample does, of pairs that lie as place says, and
    their parts (n, 3, H, W), see parts_at."""
    parts = parts_at(*place(n, generator, shape, angle), shape)
    size = n, 1, shape.size, shape.size
    images = torch.randn(size, generator=generator, device=parts.device) * noise
    return images + parts.sum(1, keepdim=True), parts


def held_out(s, seed, device):
    """The images that a run is tested on, from a stream of their own, as sample returns them."""
    generator = torch.Generator(device).manual_seed(seed + 2 * data.SEEDS)
    return sample(s.held_out, generator, s.shape, s.noise)


def wholes(parts):
    """The two truths of each image: (n, 2 wholes, 1 mask, H, W)."""
    one, square, other = parts.unbind(1)
    return torch.stack((one + square, square + other), 1)[:, :, None]


def hits(masks, truths):
    """Which decision of masks (n, D, 1, H, W) finds which whole: (n, D, 2) of 0 and 1."""
    return (data.iou((masks > 0.5).float(), truths)[..., 0] >= EXACT).float()


@torch.no_grad()
def measure(masks, parts):
    """What the decisions on a batch are worth, a dict for the JSON: score, that of the better
    decision, mean over wholes; oracle_exact, the share of (image, whole) pairs that some
    decision finds; pairs, the share of images in which both wholes are found."""
    truths = wholes(parts)
    ious = data.iou((masks > 0.5).float(), truths)[..., 0]  # (n, D, 2 wholes)
    some = hits(masks, truths).amax(1)  # (n, 2)
    return {
        "score": ious.amax(1).mean().item(),
        "oracle_exact": some.mean().item(),
        "pairs": some.amin(1).mean().item(),
    }


def loss_of(v, masks, parts, s):
    """The loss of a Variant's decisions (n, D, 1, H, W)."""
    scores = data.score(masks, wholes(parts))  # (n, D, 2 wholes)
    return -rules.value(v.rule, scores, torch.full_like(scores[:1, 0], 0.5), s.beta).mean()


def train(v, s, seed, device, say=lambda text: None):
    """Train the network of a Variant. Returns it, its history (a dict a recorded step, for the
    JSON) and a film: at these steps, its masks of the first three test images."""
    s = v.settings(s)
    net = v.build(s, torch.Generator().manual_seed(seed))
    net = net.to(device, memory_format=torch.channels_last)  # faster on a CPU
    generator = torch.Generator(device).manual_seed(seed + data.SEEDS)
    watched = held_out(s, seed, device)[0][:3]
    steps = s.epochs * s.steps_per_epoch
    moments, begun = common.recorded(steps), time.perf_counter()
    history, film = [], []

    def batch(progress):
        images, parts = sample(s.batch, generator, s.shape, s.noise)
        masks = decide(net, images)
        return loss_of(v, masks, parts, s), masks, parts

    def watch(step, loss, masks, parts):
        epoch_ends = step % s.steps_per_epoch == 0
        if not epoch_ends and step not in moments:
            return
        row = {
            "epoch": step / s.steps_per_epoch,
            "step": step,
            "loss": loss.item(),
            "seconds": time.perf_counter() - begun,
            **measure(masks, parts),
        }
        history.append(row)
        film.append(decide(net, watched).detach().cpu())
        if epoch_ends:
            line = "epoch {epoch:3.0f}   loss {loss:6.3f}   score {score:.3f}   both wholes in "
            say((line + "{pairs:4.0%} of the batch   {seconds:5.1f} s").format(**row))

    sweep.train(net, v.optimiser(net, s), batch, steps, watch)
    return net.requires_grad_(False), history, film


def gives(net, images, truths, shown):
    """Shown masks (n, 1, H, W) in the first decision's place, what the second one is: the shares
    of images in which it is the first whole, and the other."""
    return hits(decide(net, images, shown)[:, -1:], truths)[:, 0].mean(0).tolist()


def shown_its_own(net, images, truths):
    """See answers."""
    each = hits(decide(net, images), truths) > 0  # (n, D, 2 wholes)
    both = each.any(1).all(1) & each[:, -1].any(1)  # (n,)
    if not both.any():
        return None
    images, truths, its_own = images[both], truths[both], each[both, -1].float()
    order = its_own.argsort(1, descending=True)  # (n, 2), its own whole, then the other
    truths = truths.gather(1, order[:, :, None, None, None].expand_as(truths))
    same, opposite = gives(net, images, truths, truths[:, 0])
    return {"opposite": opposite, "same": same, "neither": 1 - opposite - same}


def answers(net, s, seed, device):
    """What the last decision is when it is shown a mask in place of the one before it, a dict of
    shares of the test images, for the JSON. A state, where one is fed back too, still tells of
    what was drawn.

    shown: shown a whole, how often it is the opposite one, the same, or neither. Half of these
    wholes are what it would have seen anyway, so the opposite is no sign of looking. own: the
    same where it is shown the whole that it gives itself, in the images in which both are found;
    None if there are none. turned: shown the first whole, turned by TURNS about the pair's
    centre, how often it is the first whole, and the other. another: shown a whole of another
    image, how often it is a whole of its own.
    """
    images, parts = held_out(s, seed, device)
    truths = wholes(parts)
    (a, b), (c, d) = (gives(net, images, truths, truths[:, k]) for k in (0, 1))
    opposite, same = (b + c) / 2, (a + d) / 2
    own = shown_its_own(net, images, truths)
    # The same stream again: these are the places of the same images, the first of which are
    # enough here.
    generator = torch.Generator(device).manual_seed(seed + 2 * data.SEEDS)
    angle, centre = (x[..., :64, :, :] for x in place(s.held_out, generator, s.shape))
    images, truths = images[:64], truths[:64]
    turned = [wholes(parts_at(angle + math.radians(turn), centre, s.shape)) for turn in TURNS]
    return {
        "shown": {"opposite": opposite, "same": same, "neither": 1 - (opposite + same)},
        "own": own,
        "turned": [gives(net, images, truths, way[:, 0]) for way in turned],
        "another": sum(gives(net, images, truths, truths[:, 0].roll(1, 0))),
    }


def by_angle(net, s, seed, device, n=8):
    """Decisions on n images at each of ANGLES, a dict for the JSON. first: the shares in which
    the first decision is the first whole, and the other; pairs: the shares in which both are
    found. At the other 180 degrees the wholes change names."""
    generator = torch.Generator(device).manual_seed(seed + 3 * data.SEEDS)
    angle = torch.tensor(ANGLES, device=device).deg2rad().repeat_interleave(n)
    images, parts = sample(len(angle), generator, s.shape, s.noise, angle)
    each = hits(decide(net, images), wholes(parts))  # (36 n, D, 2 wholes)
    first, both = each[:, 0], each.amax(1).amin(1)
    return {
        "first": first.unflatten(0, (-1, n)).mean(1).tolist(),
        "pairs": both.unflatten(0, (-1, n)).mean(1).tolist(),
    }


def tested(net, s, seed, device):
    """What a trained network is worth on the test images, and how it decides: a dict."""
    images, parts = held_out(s, seed, device)
    measured = measure(decide(net, images), parts)
    measured["angle"] = by_angle(net, s, seed, device)
    if getattr(net, "sees_mask", False):
        measured |= answers(net, s, seed, device)
    return measured


def run(name, seed, s, device):
    """Train a variant and test it: a dict of what it ends in, for a row."""
    net, history, _ = train(VARIANTS[name], s, seed, device)
    measured = tested(net, s, seed, device)
    return {
        "outcome": f"both wholes in {measured['pairs']:.0%}",
        "seconds": round(history[-1]["seconds"], 2),
        "parameters": sum(p.numel() for p in net.parameters()),
        **measured,
    }


def change(name, s):
    """What a variant changes, as a dict for its rows, with the fingerprint of sweep.start."""
    v, generator = VARIANTS[name], torch.Generator().manual_seed(0)
    s = v.settings(s)
    net = v.build(s, generator)
    images, parts = sample(s.batch, generator, s.shape, s.noise)
    loss = loss_of(v, decide(net, images), parts, s)
    changed = {"net": v.net, "options": v.options, "other": v.other}
    if v.rule != "soft":
        changed["rule"] = v.rule
    return changed | {"start": sweep.start(net, loss, generator)}


def finders(runs, name):
    """The rows of a variant's runs that found both wholes, by seed."""
    return [row for row in sweep.of(runs, name) if row.get("pairs", 0) > FOUND]


def ways(row):
    """Which whole the first decision of a run is at every direction, clockwise from the right in
    steps of 5 degrees: 1 that whose lobe points there, -1 the other, 0 neither or one as often
    as the other: (72,)."""
    first, other = np.array(row["angle"]["first"]).T  # at an angle of zero the first points left
    return np.concatenate((other - first, first - other))


def from_change(row):
    """The shares of images in which both wholes are found, by the angle from where the first
    decision changes from one whole to the other, see FROM_CHANGE: (36,)."""
    way, n = ways(row), len(ANGLES)
    # The 180 degrees in which it is the same whole most begin where it changes.
    k = max(range(n), key=lambda k: abs(way[k : k + n].sum()))
    return np.roll(row["angle"]["pairs"], n // 2 - k)


def mean(dicts):
    """The mean of dicts of numbers, key by key, or None of none."""
    keys = dicts[0] if dicts else ()
    return {k: float(np.mean([d[k] for d in dicts])) for k in keys} or None


def left_right(name, rows):
    """What answers calls shown and own where there is a left and a right, of the rows of
    beyond/rows/controls.jsonl that found both groupings: (dict of means or None, the same, how
    many rows)."""
    shown, own, other = [], [], {"left": "right", "right": "left"}
    for row in rows:
        if row["variant"] != LEFT_RIGHT.get(name) or not row.get("found"):
            continue
        said = {}
        for truth, shares in row["shown"].items():
            opposite, same = shares.get(other[truth], 0), shares.get(truth, 0)
            said[truth] = {"opposite": opposite, "same": same, "neither": 1 - (opposite + same)}
        shown.append(mean(list(said.values())))
        own.append(said[row["decisions"][-1]["outcome"]])
    return mean(shown), mean(own), len(own)


def summarise(runs):
    """What the runs of each variant found: a list of dicts, for rotated.json.

    found: how many of them found both wholes (see FOUND), interval: Wilson's; pairs: of every
    run, by seed, the share of images in which both are found. The rest are means over those runs
    that found both and were asked (asked: how many). near_change, elsewhere: that share within
    10 degrees of where the first decision changes, and farther off; shown, own, turned, another:
    see answers, with _left_right where there is a left and a right.
    """
    beside = sweep.distinct(sweep.read(sweep.ROWS / "controls.jsonl")).values()
    summary = []
    for name, v in VARIANTS.items():
        every, good = sweep.of(runs, name), finders(runs, name)
        if not every:
            continue
        size = next(size for size in ("-half", "-quarter", "") if name.endswith(size))
        network = name.removesuffix(size)
        curves, near = [from_change(row) for row in good if "angle" in row], {}
        if curves:
            close = abs(FROM_CHANGE) < 10
            near["near_change"] = float(np.array(curves)[:, close].mean())
            near["elsewhere"] = float(np.array(curves)[:, ~close].mean())
        shown, own, sides = left_right(network, beside)
        asked = {key: [row[key] for row in good if row.get(key)] for key in ("shown", "own")}
        lists = {key: [row[key] for row in good if key in row] for key in ("turned", "another")}
        row = {
            "variant": name,
            "network": network,
            "title": v.title,
            "size": size,
            "step_size": v.other.get("learning_rate", every[0]["settings"]["learning_rate"]),
            "found": len(good),
            "of": len(every),
            "interval": sweep.wilson(len(good), len(every)),
            "pairs": {row["seed"]: round(row.get("pairs", 0), 3) for row in every},
            "parameters": max(row.get("parameters", 0) for row in every),
            **near,
            "asked": {
                "angle": len(curves),
                "own": sum("own" in row for row in good),
                "left_right": sides,
            },
            "shown": mean(asked["shown"]),
            "shown_left_right": shown,
            "own": mean(asked["own"]),
            "own_left_right": own,
            **{key: np.mean(rows, 0).tolist() if rows else None for key, rows in lists.items()},
        }
        summary.append(row)
    return summary


def opposites(runs, name):
    """Of every run of a variant that was asked, how often the second decision is the opposite
    whole when it is shown the whole that it gives itself."""
    return [row["own"]["opposite"] for row in finders(runs, name) if row.get("own")]


def table(summary, runs):
    """What summarise returns as a table in Markdown."""
    head = ["network", "step size", "finds both", "95% interval", "% of images, by run"]
    head += ["near the change", "elsewhere", "shown its own: opposite (by run), same, neither"]
    lines = []
    for row in summary:
        own, said = opposites(runs, row["variant"]), "-"
        if own:
            said = "{opposite:.0%} ({low:.0%} to {high:.0%}), {same:.0%}, {neither:.0%}".format(
                low=min(own), high=max(own), **row["own"]
            )
        cells = [
            row["title"],
            f"{row['step_size']:g}",
            f"{row['found']}/{row['of']}",
            "{:.0%} to {:.0%}".format(*row["interval"]),
            " ".join(f"{100 * pair:.0f}" for pair in row["pairs"].values()),
            *(f"{row[key]:.0%}" if key in row else "-" for key in ("near_change", "elsewhere")),
            said,
        ]
        lines.append(cells)
    return sweep.markdown(head, lines)


def draw_success(summary):
    """Which network finds both wholes, a marker a step size: a Figure."""
    fig = Figure(figsize=(9, 8), layout="constrained")
    ax, labels = fig.subplots(), {}
    looks = {"": ("o", "black"), "-half": ("D", "#00806a"), "-quarter": ("s", "#8a4fb0")}
    titles = {name: v.title for name, v in (NETWORKS | MATCHED).items()}
    names = [name for name in titles if any(row["network"] == name for row in summary)]
    for row in summary:
        marker, colour = looks[row["size"]]
        sizes = [other["size"] for other in summary if other["network"] == row["network"]]
        beside = sizes.index(row["size"]) - (len(sizes) - 1) / 2  # of its other step sizes
        y = names.index(row["network"]) + 0.36 * beside
        ax.plot(row["interval"], [y, y], color=colour, lw=1.2)
        (dot,) = ax.plot(row["found"] / row["of"], y, marker, color=colour, ms=7)
        labels.setdefault(f"step size {row['step_size']:g}", dot)
        ax.text(1.05, y, f"{row['found']} of {row['of']}", va="center", color=colour, fontsize=9)
    ax.set_yticks(range(len(names)), [titles[name] for name in names], fontsize=10)
    ax.set(xlim=(-0.03, 1.22), ylim=(len(names) - 0.4, -0.6), xticks=[0, 0.25, 0.5, 0.75, 1])
    ax.set_xlabel("share of the runs that find both wholes, with its 95% interval")
    ax.grid(axis="x", color="0.88")
    fig.legend(labels.values(), labels, ncols=3, loc="outside lower center", frameon=False)
    fig.suptitle(
        "The pair at any angle: which network finds both wholes?\n(a whole: a lobe, its bar and "
        "the common region; the smaller the step, the longer the training)"
    )
    return fig


def draw_look(summary, runs):
    """Whether the second decision looks at the first: what it is when shown, in the first one's
    place, the whole that it gives itself. A Figure."""
    rows = [row for row in summary if row["own"]]
    fig = Figure(figsize=(9, 2 + 1.1 * len(rows)), layout="constrained")
    ax, y, places = fig.subplots(), 0, {}
    for row in rows:
        ax.text(0, y, row["title"], weight="bold", va="center", fontsize=10)
        single = opposites(runs, row["variant"])
        bars = {f"any angle, {len(single)} runs": row["own"]}
        if not row["size"] and row["own_left_right"]:
            bars[f"left and right, {row['asked']['left_right']} runs"] = row["own_left_right"]
        for label, said in bars.items():
            y, left = y + 0.75, 0.0
            places[y] = label
            for answer, part in said.items():
                ax.barh(y, part, 0.62, left, color=ANSWERS[answer], ec="black", lw=0.6)
                text = {"ha": "center", "va": "center", "fontsize": 9}
                text["color"] = "black" if answer == "neither" else "white"
                if part > 0.06:
                    ax.text(left + part / 2, y, f"{part:.0%}", **text)
                left += part
            if label.startswith("any"):
                ax.plot(single, [y + 0.2] * len(single), "D", mfc="white", mec="black", ms=4)
        y += 0.9
    ax.set_yticks(list(places), list(places.values()), fontsize=9)
    ax.set(xlim=(0, 1), ylim=(y - 0.3, -0.6), xlabel="share of the images, mean over runs")
    handles = [Patch(ec="black", fc=ANSWERS[answer], label=answer) for answer in ANSWERS]
    handles += ax.plot([], [], "D", mfc="white", mec="black", ms=4, label="opposite, in one run")
    fig.legend(handles=handles, ncols=4, loc="outside lower center", frameon=False)
    fig.suptitle(
        "Does the second decision look at the first? Shown, in the first one's place, the whole\n"
        "that it gives itself, is it the opposite whole, the same one again, or neither?"
    )
    return fig


def draw_angle(runs):
    """Which way the first decision points, a row a run that finds both wholes, and how often
    both are found by the angle from where it changes. A Figure."""
    fig = Figure(figsize=(9, 10), layout="constrained")
    strips, curves = fig.subplots(2, 1, height_ratios=(1.9, 1))
    looks = {
        "full": ("black", "-"),
        "state": ("#00806a", "--"),
        "noise": ("#c04a00", "-."),
        "told-quarter": ("#8a4fb0", ":"),
        "heads-matched": ("#08519c", (0, (5, 1, 1, 1, 1, 1))),
    }
    rows, marks = [], {}
    for name, (colour, line) in looks.items():
        good = [row for row in finders(runs, name) if "angle" in row]
        if good:
            title = VARIANTS[name].title.replace(", step", ",\nstep")
            marks[len(rows) + (len(good) - 1) / 2] = f"{title}\n({len(good)} runs)"
            rows += [*map(ways, good), np.full(2 * len(ANGLES), np.nan)]
            y = np.mean([from_change(row) for row in good], 0)
            label = VARIANTS[name].title
            curves.plot(FROM_CHANGE, y, color=colour, ls=line, lw=2, label=label)
    for ax in (strips, curves) if not rows else ():
        ax.text(0.5, 0.5, "no run to show", ha="center", transform=ax.transAxes)
    if rows:
        edges = -2.5, 357.5, len(rows) - 1.5, -0.5
        look = {"aspect": "auto", "interpolation": "nearest", "vmin": -1, "vmax": 1}
        strips.imshow(rows[:-1], extent=edges, cmap="RdYlBu", **look)
        curves.legend(loc="lower left", fontsize=9)
    strips.set_yticks(list(marks), list(marks.values()), fontsize=9)
    strips.set(xticks=range(0, 360, 45), xlabel="direction, degrees clockwise from the right")
    strips.set_title(
        "Which whole is the first decision? A row a run. Blue: the one whose lobe points\nin that "
        "direction; red: the other one; pale: now this, now that, or neither",
        fontsize=11,
    )
    curves.set_xlabel("angle from where the first decision changes from one whole to the other")
    curves.set(xlim=(-90, 90), ylim=(0, 1.03), xticks=range(-90, 91, 30))
    curves.set_ylabel("share of the images")
    curves.set_title("Where both wholes are found, mean over these runs", fontsize=11)
    fig.suptitle("The first decision has a habit at any angle too: where does it change?")
    return fig


def report(runs):
    """The summary, the pictures and the tables of the runs, see sweep."""
    summary = summarise(runs)
    numbers = {"experiment": "angles", "settings": next(iter(runs.values()))["settings"]}
    saved = {
        "rotated.json": {**numbers, "found": FOUND, "networks": summary},
        "rotated.png": draw_success(summary),
        "rotated_look.png": draw_look(summary, runs),
        "rotated_angle.png": draw_angle(runs),
    }
    tables = table(summary, runs), sweep.compare(summary, PAIRS, PLANNED)
    return saved, "\n\n".join(filter(None, tables))


def coloured(masks):
    """Masks (n, D, 1, H, W) as pictures.grid takes them, (n, D, 2, H, W): the first decision is
    red, the others are yellow."""
    pair = torch.cat((masks, torch.zeros_like(masks)), 2)
    return torch.cat((pair[:, :1], pair[:, 1:].flip(2)), 1)


def draw_training(history, film, images, parts, masks, most):
    """Three images with their wholes and decisions, the score over the training and, below, one
    image during the training; most is what one decision can score. A Figure."""
    fig = Figure(figsize=(13, 8), layout="constrained")
    top, bottom = fig.subfigures(2, 1, height_ratios=(2, 1))
    left, right = top.subfigures(1, 2, width_ratios=(1.1, 1))
    truths = coloured(wholes(parts[:3]))  # (3, 2, 2, H, W)
    titles = ["input", "one whole", "the other", "decision 1", "decision 2"]
    painted = torch.zeros_like(truths[:, :1]), truths, coloured(masks[:3])
    pictures.grid(left, images[:3], titles, torch.cat(painted, 1))
    ax, y = right.subplots(), [row["score"] for row in history]
    steps = [row["step"] for row in history]
    ax.plot(steps, y, "k", lw=2.5, label="better decision, mean over the two wholes")
    ax.axhline(most, color="0.5", ls="-.", label=f"most that one decision can score, {most:.3f}")
    ax.set(xscale="log", xlabel="training step (logarithmic)", ylim=(0, 1.02))
    ax.set_ylabel("IoU on a batch")
    ax.legend(frameon=False, loc="lower right")
    pictures.strip(bottom, history, [coloured(frame) for frame in film], images[0])
    fig.suptitle("A decision is one mask, a whole: a lobe, its bar and the common region")
    return fig


def train_once(args):
    """Train the recurrent network once, see the top: (numbers of exp_rotated.json, Figure)."""
    s, begun = Settings(epochs=args.epochs), time.perf_counter()
    net, history, film = train(VARIANTS["full"], s, args.seed, args.device, common.say)
    images, parts = held_out(s, args.seed, args.device)
    measured, most = tested(net, s, args.seed, args.device), ceiling(s.shape)
    common.say(f"score of the better decision {measured['score']:.3f}, of one at most {most:.3f}")
    common.say(f"images in which both wholes are found: {measured['pairs']:.1%}")
    numbers = {
        "experiment": "exp_rotated",
        "seed": args.seed,
        "epochs": s.epochs,
        "device": args.device,
        "seconds": time.perf_counter() - begun,
        "settings": asdict(s) | FIXED,
        "ceiling": most,
        **measured,
        "history": history,
    }
    fig = draw_training(history, film, images, parts, decide(net, images), most)
    sweep.save(args.out / "exp_rotated.json", numbers)
    sweep.save(args.out / "exp_rotated.png", fig)
    return numbers, fig


def main(argv=None):
    """See sweep.main and, with --train, train_once."""
    argv = sys.argv[1:] if argv is None else argv
    if "--train" not in argv:
        return sweep.main("angles", argv)
    parser = common.parser(__doc__)
    add, epochs = parser.add_argument, Settings().epochs
    add("--train", action="store_true", help="train the recurrent network once")
    add("--seed", type=common.number("seed", int), default=0, metavar="S", help="of all of it")
    add("--epochs", type=common.number("epochs", int), default=epochs, metavar="N")
    add("--device", choices=("cpu", "cuda"), default="cpu", help="default: %(default)s")
    return train_once(common.parse(parser, argv))


if __name__ == "__main__":
    common.script(main)
