"""When must the second decision look at the first? The pair at a random angle.

In the world of the other experiments "left first, then right" can be a habit: nothing
asks the second decision to look at the first. Here the pair is turned by any angle, and
a decision is one mask: the whole that owns the square (a lobe, its bar, the square).
There are two such wholes, and so two truths. Turned by 180 degrees the picture is the
same: a rule that names a first whole cannot be continuous, at some angle it must jump.

A decision scores its IoU. One decision can score (P+b)/(2P+b) on average, 2/3 for
b = P: one of the wholes and everything tie. Two decisions can score 1. This script
trains the recurrent network once and saves its picture and numbers; with --sweep it
trains all NETWORKS over many seeds and prints in how many images both wholes are found.
"""

import math
import os
import sys
import time
from dataclasses import asdict, dataclass, field, replace

import numpy as np
import torch
from matplotlib.figure import Figure
from matplotlib.patches import Patch

import common
import data
import pictures
import sweep
import theory
from exp_controls import Handing, ToldPass, TwoUNets, Variant
from recurrent_unet import RecurrentUNet
from unet import UNet

VERSION = 1  # see sweep.py
# A decision finds a whole if its mask, cut off at 1/2, has this IoU with it.
EXACT = 0.9
# A run finds the two wholes if it does so in more than this share of the images.
FOUND = 0.5
FIXED = {"exact": EXACT}
ANGLES = tuple(range(0, 180, 5))  # degrees, see by_angle
TURNS = tuple(range(0, 181, 30))  # degrees, see answers
WATCHED = 2  # images whose masks a row keeps, to be drawn


@dataclass(frozen=True)
class Settings:
    """Those of exp_recurrent.py, but for twice as long a training."""

    epochs: int = 20
    steps_per_epoch: int = 40
    batch: int = 4
    learning_rate: float = 2e-3
    beta: float = 100.0
    noise: float = 0.1
    width: int = 16
    depth: int = 2
    steps: int = 2  # passes of the recurrent network, one decision each
    held_out: int = 256
    shape: data.Shape = field(default_factory=data.Shape)  # P = b = 64 pixels


def place(n, generator, shape, turn=None):
    """Where n pairs lie: their angles (n, 1, 1) in radians and their centres (2, n, 1, 1)
    in pixels, x and y, drawn evenly; the angles are turn (n,) where that is given.
    ValueError: a pair that does not fit when it is turned."""
    device, S = generator.device, shape.size
    u_end, v_end = shape.width / 2, shape.height / 2
    if S < 2 * math.hypot(u_end, v_end):
        raise ValueError(f"size must be at least its diagonal for any angle, got {S}")
    if turn is None:
        turn = 2 * math.pi * torch.rand(n, generator=generator, device=device)
    turn = turn[:, None, None]
    cos, sin = turn.cos().abs(), turn.sin().abs()
    # From the centre to the outermost point, along x and along y: (2, n, 1, 1).
    reach = torch.stack((u_end * cos + v_end * sin, u_end * sin + v_end * cos))
    where = torch.rand(2, n, 1, 1, generator=generator, device=device)
    return turn, reach + where * (S - 2 * reach)


def parts_at(turn, centre, shape):
    """The parts (n, 3, H, W) of pairs that lie as place says: a lobe with its bar, the
    square, the other lobe with its bar. A pixel belongs to the part in which its centre
    lies: a part has its area, P or b, on average, and an image a few pixels more or less.
    At an angle of zero the first lobe is the left one."""
    middle = torch.arange(shape.size, device=turn.device) + 0.5
    dx, dy = middle[None, None, :] - centre[0], middle[None, :, None] - centre[1]
    cos, sin = turn.cos(), turn.sin()
    u, v = cos * dx + sin * dy, cos * dy - sin * dx  # (n, H, W), along and across it
    half = shape.square / 2
    square = torch.maximum(u.abs(), v.abs()) < half
    lobe = (u.abs() >= half + shape.bar_length) & (u.abs() < shape.width / 2)
    lobe &= v.abs() < shape.lobe_height / 2
    bar = (u.abs() < half + shape.bar_length) & (v.abs() < shape.bar_height / 2)
    own = (bar | lobe) & ~square
    return torch.stack((own & (u < 0), square, own & (u >= 0)), 1).float()


def sample(n, generator, shape, noise, turn=None):
    """Draw n images (n, 1, H, W), as data.sample does, of pairs that lie as place says,
    and their parts (n, 3, H, W), see parts_at."""
    parts = parts_at(*place(n, generator, shape, turn), shape)
    size = n, 1, shape.size, shape.size
    images = torch.randn(size, generator=generator, device=parts.device).mul_(noise)
    return images.add_(parts.sum(1, keepdim=True)), parts


def wholes(parts):
    """The two truths of each image: (n, 2 truths, 1 mask, H, W)."""
    one, square, other = parts.unbind(1)
    return torch.stack((one + square, square + other), 1)[:, :, None]


ONE = {"out_channels": 1}  # a mask a decision
NETWORKS = {
    "one": Variant("One decision", UNet, ONE),
    "heads": Variant("Two heads", UNet, {"out_channels": 2}),
    "independent": Variant("Two U-Nets", TwoUNets, ONE),
    "told": Variant("Told only the pass", ToldPass, ONE),
    "told-wide": Variant("the same, wide", ToldPass, ONE | {"width": 28}),
    "told-unit": Variant(
        "the same, with the unit but no memory",
        Handing,
        ONE | {"mask": "pass", "state": "zero"},
    ),
    "mask": Variant("Mask fed back", RecurrentUNet, ONE | {"feed_state": False}),
    "mask-unit": Variant(
        "the same, with the unit but no memory", Handing, ONE | {"state": "zero"}
    ),
    "state": Variant("State fed back", RecurrentUNet, ONE | {"feed_mask": False}),
    "full": Variant("Mask and state fed back", RecurrentUNet, ONE),
    "mask-cut": Variant("the same, mask detached", Handing, ONE | {"mask": "detached"}),
    "state-cut": Variant(
        "the same, state detached", Handing, ONE | {"state": "detached"}
    ),
    "noise": Variant("the same, noise for the mask", Handing, ONE | {"mask": "noise"}),
}
# Those that see a mask, and what they are called in exp_controls.py.
LEFT_RIGHT = {"mask": "mask-only", "mask-unit": "mask-unit", "full": "recurrent"}
LEFT_RIGHT |= {"mask-cut": "mask-detached", "state-cut": "state-detached"}
SMALLER = {"-half": {"learning_rate": 1e-3, "epochs": 40}}
SMALLER["-quarter"] = {"learning_rate": 5e-4, "epochs": 80}
VARIANTS = NETWORKS | {  # the same with smaller steps, and as many more of them
    name + size: replace(v, other=other)
    for size, other in SMALLER.items()
    for name, v in NETWORKS.items()
}


def decide(net, images, *shown):
    """Images (n, 1, H, W) -> probabilities (n, D decisions, 1 mask, H, W)."""
    masks = torch.sigmoid(net(images, *shown))
    return masks if masks.ndim == 5 else masks.unflatten(1, (-1, 1))


@torch.no_grad()
def measure(masks, parts):
    """What the decisions on a batch are worth, a dict for the JSON: score, that of the
    better decision, mean over truths; oracle_exact, the share of (image, truth) pairs
    that some decision finds; pairs, the share of images in which both are found."""
    ious = data.iou((masks > 0.5).float(), wholes(parts))[..., 0]  # (n, D, 2 truths)
    found = (ious >= EXACT).any(1).float()  # (n, 2)
    numbers = {"score": ious.amax(1).mean().item(), "oracle_exact": found.mean().item()}
    return numbers | {"pairs": found.amin(1).mean().item()}


@common.prepared
def train(s, seed, device, name="full"):
    """Train a new network: it, its history and a film of three test images."""
    net = VARIANTS[name].build(s, torch.Generator().manual_seed(seed))
    net = net.to(device, memory_format=torch.channels_last)
    optimiser = torch.optim.Adam(net.parameters(), s.learning_rate, fused=True)
    generator = torch.Generator(device).manual_seed(seed + data.SEEDS)
    watched = test_images(s, seed, device)[0][:3]
    steps = s.epochs * s.steps_per_epoch
    moments = common.moments(steps)
    history, film, start = [], [], time.perf_counter()
    for step in range(1, steps + 1):
        images, parts = sample(s.batch, generator, s.shape, s.noise)
        masks = decide(net, images)  # (n, D, 1, H, W)
        scores = data.score(masks, wholes(parts))  # (n, D, 2 truths)
        loss = -data.soft_maximum(scores, s.beta).mean()
        epoch_ends = step % s.steps_per_epoch == 0
        if epoch_ends or step in moments:
            row = {"step": step, "loss": common.finite(loss.item(), step)}
            row["seconds"] = time.perf_counter() - start
            history.append(row | measure(masks, parts))
            film.append(decide(net, watched).detach().cpu())
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        if epoch_ends and name == "full":
            text = f"step {step:4}   score {history[-1]['score']:.3f}"
            print(f"{text}   {row['seconds']:5.1f} s", flush=True)
    return net, history, film


def test_images(s, seed, device):
    """The held-out images, from a stream of their own: (images, parts)."""
    generator = torch.Generator(device).manual_seed(seed + 2 * data.SEEDS)
    return sample(s.held_out, generator, s.shape, s.noise)


@torch.no_grad()
def gives(net, images, truths, shown):
    """Shown masks (n, 1, H, W) in the first decision's place, what the second one is: the
    shares of images in which it is the first truth, and the second."""
    second = (decide(net, images, shown)[:, -1:] > 0.5).float()
    found = data.iou(second, truths)[:, 0, :, 0] >= EXACT  # (n, 2 truths)
    return found.float().mean(0).tolist()


def answers(net, s, seed, device):
    """What the second decision makes of what it is shown, a dict for the JSON.

    shown: shown a whole, the share in which it is the opposite one, the same, or neither;
    own: the same, where it is shown the whole that it gives itself, in the images in
    which both are found, or None (half of the time a whole is what the first decision is
    anyway, and the opposite is no sign of looking); turned: shown the first whole, turned by TURNS about the pair's centre, the shares in
    which it is the first whole, and the other; another: shown a whole of another image,
    the share in which it is a whole of its own.
    """
    images, parts = test_images(s, seed, device)
    truths = wholes(parts)
    (a, b), (c, d) = (gives(net, images, truths, truths[:, k]) for k in (0, 1))
    shown = {"opposite": (b + c) / 2, "same": (a + d) / 2}
    shown["neither"] = 1 - sum(shown.values())
    own = shown_its_own(net, images, truths)
    # The same stream again: these are the places of the same images, the first of which
    # are enough here.
    generator = torch.Generator(device).manual_seed(seed + 2 * data.SEEDS)
    turn, centre = (x[..., :64, :, :] for x in place(s.held_out, generator, s.shape))
    images, truths = images[:64], truths[:64]
    another = sum(gives(net, images, truths, truths[:, 0].roll(1, 0)))
    ways = [parts_at(turn + math.radians(way), centre, s.shape) for way in TURNS]
    turned = [gives(net, images, truths, wholes(way)[:, 0]) for way in ways]
    return {"shown": shown, "own": own, "turned": turned, "another": another}


@torch.no_grad()
def shown_its_own(net, images, truths):
    """See answers."""
    masks = (decide(net, images) > 0.5).float()  # (n, D, 1, H, W)
    found = data.iou(masks, truths)[..., 0] >= EXACT  # (n, D, 2 truths)
    both = found.any(1).all(1)  # (n,)
    if not both.any():
        return None
    images, truths, its_own = images[both], truths[both], found[both, -1].float()
    order = its_own.argsort(1, descending=True)  # (n, 2), its own whole, then the other
    truths = truths.gather(1, order[:, :, None, None, None].expand_as(truths))
    same, opposite = gives(net, images, truths, truths[:, 0])
    return {"opposite": opposite, "same": same, "neither": 1 - opposite - same}


@torch.no_grad()
def by_angle(net, s, seed, device, n=8):
    """Decisions on n images at each of ANGLES, half a turn, a dict for the JSON. first:
    the shares in which the first decision is the first whole, and the other; pairs: the
    shares in which both are found. At the other half of a turn the wholes change names."""
    generator = torch.Generator(device).manual_seed(seed + 3 * data.SEEDS)
    turn = torch.tensor(ANGLES, device=device).deg2rad().repeat_interleave(n)
    images, parts = sample(len(turn), generator, s.shape, s.noise, turn)
    ious = data.iou((decide(net, images) > 0.5).float(), wholes(parts))[..., 0]
    found = (ious >= EXACT).float()  # (36 n, D, 2 truths)
    first, pairs = found[:, 0], found.amax(1).amin(1)
    first = first.unflatten(0, (-1, n)).mean(1)  # (36, 2)
    return {
        "first": first.tolist(),
        "pairs": pairs.unflatten(0, (-1, n)).mean(1).tolist(),
    }


@common.prepared
def run(name, seed, s, device):
    """Train a variant and test it: a dict of what it ends in, for a row."""
    s = VARIANTS[name].settings(s)
    net, history, _ = train(s, seed, device, name)
    images, parts = test_images(s, seed, device)
    masks = decide(net, images).detach()  # (n, D, 1, H, W)
    row = measure(masks, parts)
    row |= {"outcome": f"both wholes in {row['pairs']:.0%}"}
    row |= {"seconds": round(history[-1]["seconds"], 2)}
    row |= {"parameters": sum(p.numel() for p in net.parameters())}
    row["masks"] = pack(masks[:WATCHED])
    row["angle"] = by_angle(net, s, seed, device)
    if getattr(net, "sees_mask", getattr(net, "feed_mask", False)):
        row |= answers(net, s, seed, device)
    return row


def pack(masks):
    """Masks (n, D, 1, H, W), cut off at 1/2, as a text for the JSON, see unpack."""
    return np.packbits((masks > 0.5).cpu().numpy()).tobytes().hex()


def unpack(text, size):
    """What pack was given: masks (n, D, 1, size, size) of WATCHED images, 0 and 1."""
    bits = np.unpackbits(np.frombuffer(bytes.fromhex(text), np.uint8))
    return torch.from_numpy(bits).float().view(WATCHED, -1, 1, size, size)


@common.prepared
def change(name, s):
    """What a variant changes, as a dict for the JSON; for "start" see sweep.start."""
    v, generator = VARIANTS[name], torch.Generator().manual_seed(0)
    s = v.settings(s)
    net = v.build(s, generator)
    images, parts = sample(s.batch, generator, s.shape, s.noise)
    scores = data.score(decide(net, images), wholes(parts))
    start = sweep.start(net, -data.soft_maximum(scores, s.beta).mean(), generator)
    return {
        "net": v.net.__name__,
        "options": v.options,
        "other": v.other,
        "start": start,
    }


def coloured(masks):
    """Masks (n, D, 1, H, W) as pictures.paint takes them, (n, D, 2, H, W): the first
    decision is red, the others are yellow."""
    pair = torch.cat((masks, torch.zeros_like(masks)), 2)
    return torch.cat((pair[:, :1], pair[:, 1:].flip(2)), 1)


def plot(history, film, images, parts, masks, ceiling):
    """Three images with their wholes and decisions, the score over training, one image
    during the training. Returns a Figure."""
    fig = Figure(figsize=(13, 8), layout="constrained")
    top, bottom = fig.subfigures(2, 1, height_ratios=(2, 1))
    left, right = top.subfigures(1, 2, width_ratios=(1.1, 1))
    truths = coloured(wholes(parts[:3]))  # (3, 2, 2, H, W)
    titles = ["input", "one whole", "the other"]
    titles += [f"decision {d + 1}" for d in range(masks.shape[1])]
    shown = torch.zeros_like(truths[:, :1]), truths, coloured(masks[:3])
    pictures.grid(left, images[:3], titles, torch.cat(shown, 1))
    left.suptitle("A decision is one mask: the whole that owns the square", fontsize=10)
    ax, y = right.subplots(), [row["score"] for row in history]
    look = {"color": "black", "lw": 2.5, "label": "better decision, mean over truths"}
    ax.plot([row["step"] for row in history], y, **look)
    label = f"most that one decision can score, {ceiling:.3f}"
    ax.axhline(ceiling, color="0.5", ls="-.", label=label)
    ax.set(xscale="log", xlabel="training step (logarithmic)", ylim=(0, 1.02))
    ax.set_ylabel("IoU on a batch")
    ax.legend(frameon=False, loc="lower right")
    pictures.strip(bottom, history, [coloured(frame) for frame in film], images[:1, 0])
    return fig


def jump(row):
    """Where a run's first decision changes from one whole to the other: an index into
    ANGLES, the first angle at which it takes another whole than at the one before."""
    way = [a - b for a, b in row["angle"]["first"]]
    way.append(-way[0])  # half a turn on, the wholes have changed names
    turns = [k for k in range(1, len(way)) if (way[k] > 0) != (way[k - 1] > 0)]
    return min(turns, key=lambda k: abs(way[k] + way[k - 1]), default=0) % len(ANGLES)


def from_jump(row):
    """The shares of images in which both wholes are found, by the angle from the jump:
    the first is that at -90 degrees."""
    pairs = row["angle"]["pairs"]
    return np.roll(pairs, len(pairs) // 2 - jump(row))


def here_and_there(rows, variant):
    """What the second decision of runs that found both is, when shown a truth in the
    first one's place, {"opposite", "same", "neither"}: here, of these rows, and in the
    world with left and right, of the recorded runs of a variant of exp_controls.py."""
    here = [row["shown"] for row in rows if "shown" in row]
    path = os.path.join(sweep.HERE, "figures", "controls.jsonl")
    there = []
    for row in sweep.read(path) if variant else ():
        if row["variant"] == variant and row.get("found"):
            left, right = row["shown"]["left"], row["shown"]["right"]
            opposite = (left.get("right", 0) + right.get("left", 0)) / 2
            same = (left.get("left", 0) + right.get("right", 0)) / 2
            there.append({"opposite": opposite, "same": same})
            there[-1]["neither"] = 1 - opposite - same
    means = [
        {k: round(float(np.mean([r[k] for r in found])), 4) for k in found[0]}
        for found in (here, there)
        if found
    ]
    return {
        "shown": means[0] if here else None,
        "shown_left_right": means[-1] if there else None,
    }


def summarise(runs):
    """What the runs of each variant found: a list of dicts, for rotated.json.

    found: how many of them found the two wholes (see FOUND), interval: Wilson's; pairs:
    of every run, in seeds' order, the share of images in which both are; near_jump and
    off_jump: that share within 10 degrees of the first decision's jump and elsewhere,
    mean over the runs that found both; shown: see here_and_there; turned, another: see
    answers, means over those runs.
    """
    rows = []
    for variant, v in VARIANTS.items():
        own = [row for (name, _), row in sorted(runs.items()) if name == variant]
        if not own:
            continue
        name = variant if variant in NETWORKS else variant.rpartition("-")[0]
        good = [row for row in own if row.get("pairs", 0) > FOUND]
        row = {"network": name, "title": NETWORKS[name].title}
        row["step_size"] = v.other.get(
            "learning_rate", own[0]["settings"]["learning_rate"]
        )
        row |= {"found": len(good), "of": len(own)}
        row["interval"] = sweep.wilson(len(good), len(own))
        row["seeds"] = [r["seed"] for r in own]
        row["pairs"] = [round(r.get("pairs", 0), 3) for r in own]
        row["died"] = {r["seed"]: r["error"] for r in own if "error" in r}
        row["parameters"] = max(r.get("parameters", 0) for r in own)
        turned = [from_jump(r) for r in good if "angle" in r]
        if turned:
            middle = len(ANGLES) // 2
            near = np.zeros(len(ANGLES), bool)
            near[middle - 2 : middle + 2] = True  # the jump lies before the middle
            mean = np.mean(turned, 0)
            row["near_jump"], row["off_jump"] = (
                float(mean[w].mean()) for w in (near, ~near)
            )
        row |= here_and_there(good, LEFT_RIGHT.get(name))
        for key in ("turned", "another"):
            found = [r[key] for r in good if key in r]
            row[key] = np.mean(found, 0).round(4).tolist() if found else None
        rows.append(row)
    return rows


def table(summary):
    """What summarise returns as a table in Markdown."""
    head = ["network", "step size", "finds both", "95% interval", "images in each run"]
    head += [
        "near the jump",
        "elsewhere",
        "shown one: opposite, same, neither",
        "weights",
    ]
    lines = []
    for r in summary:
        interval = "{:.0%} to {:.0%}".format(*r["interval"])
        pairs = " ".join(f"{pair:.0%}"[:-1] for pair in r["pairs"])
        cells = [r["title"], f"{r['step_size']:g}", f"{r['found']}/{r['of']}", interval]
        cells.append(f"{pairs} %")
        for key in ("near_jump", "off_jump"):
            cells.append(f"{r[key]:.0%}" if key in r else "-")
        cells.append(
            ", ".join(f"{x:.0%}" for x in r["shown"].values()) if r["shown"] else "-"
        )
        lines.append([*cells, f"{r['parameters']:,}"])
    return sweep.markdown(head, lines)


def draw_success(ax, summary):
    """Into Axes: in how many runs each network finds both wholes, for each step size."""
    names = [name for name in NETWORKS if any(r["network"] == name for r in summary)]
    looks = {1: ("o", "black"), 0.5: ("D", "#00806a"), 0.25: ("s", "#8a4fb0")}
    common_step, used = summary[0]["step_size"], set()
    for r in summary:
        size = r["step_size"] / common_step
        marker, colour = looks.get(size, ("x", "0.5"))
        k = list(looks).index(size) if size in looks else 0
        y, share = names.index(r["network"]) + 0.24 * k - 0.12, r["found"] / r["of"]
        label = None if size in used else f"step size {r['step_size']:g}"
        used.add(size)
        look = {
            "color": colour,
            "marker": marker,
            "ms": 6,
            "ls": "none",
            "label": label,
        }
        ax.plot(r["interval"], [y, y], "-", color=colour, lw=1.2)
        ax.plot([share], [y], **look)
        text = {"va": "center", "fontsize": 8, "color": colour}
        ax.text(1.04 + 0.24 * k, y, f"{r['found']} of {r['of']}", **text)
    titles = [NETWORKS[name].title for name in names]
    ax.set_yticks(range(len(names)), titles, fontsize=9)
    ax.set(xlim=(-0.03, 1.7), ylim=(len(names) - 0.4, -0.6), xticks=[0, 0.5, 1])
    ax.set_xlabel("share of the runs that find both (95% interval)")
    ax.grid(axis="x", color="0.88")
    ax.legend(fontsize=8, loc="upper center", bbox_to_anchor=(0.4, -0.1), ncols=3)
    ax.set_title("Which network finds both wholes?", fontsize=11)


def draw_shown(ax, summary):
    """Into Axes: shown one whole in the first one's place, what the second decision is,
    here and, below it, in the world with left and right."""
    looks = {"opposite": "#00806a", "same": "#c04a00", "neither": "0.85"}
    best = {r["network"]: r for r in summary if r["shown"]}  # the smallest step size
    places = {}
    for y, (name, r) in enumerate(best.items()):
        for key, low, where in (
            ("shown", 0, "any angle"),
            ("shown_left_right", 0.4, "left, right"),
        ):
            start = 0
            places[y + low] = f"{NETWORKS[name].title}: {where}" if not low else where
            for answer, share in (r[key] or {}).items():
                ax.barh(
                    y + low, share, 0.34, start, color=looks[answer], ec="black", lw=0.6
                )
                if share > 0.06:
                    middle = {"ha": "center", "va": "center", "fontsize": 8}
                    middle["color"] = "black" if answer == "neither" else "white"
                    ax.text(start + share / 2, y + low, f"{share:.0%}", **middle)
                start += share
    ax.set_yticks(list(places), list(places.values()), fontsize=8)
    ax.invert_yaxis()
    ax.set(xlim=(0, 1), xlabel="share of the images")
    handles = [Patch(color=colour, label=answer) for answer, colour in looks.items()]
    ax.legend(
        handles=handles,
        ncols=3,
        fontsize=8,
        loc="upper center",
        bbox_to_anchor=(0.4, -0.16),
    )
    ax.set_title(
        "Does the second decision look? Shown one whole as\nthe first decision, it gives the opposite, the same, neither",
        fontsize=11,
    )


def draw_angle(strips, curves, runs):
    """Into two Axes: for every run that finds both, which way the lobe points that the
    first decision takes; and how often both are found, by the angle from the jump."""
    rows, marks = [], {}
    colours = ("black", "#00806a", "#c04a00", "#8a4fb0", "#08519c")
    for name, colour in zip(
        ("full", "state", "noise", "told-half", "mask-half"), colours
    ):
        good = [
            r
            for (v, _), r in sorted(runs.items())
            if v == name and "angle" in r and r["pairs"] > FOUND
        ]
        if not good:
            continue
        v = VARIANTS[name]
        title = f"{v.title} ({v.other.get('learning_rate', 0.002):g})"
        marks[len(rows) + (len(good) - 1) / 2] = f"{v.title}\n{len(good)} runs"
        for r in good:
            one, other = np.array(r["angle"]["first"]).T
            way = one - other
            rows.append(np.concatenate((way, -way)))
        rows.append(np.full(2 * len(ANGLES), np.nan))
        y = np.mean([from_jump(r) for r in good], 0)
        curves.plot([angle - 90 for angle in ANGLES], y, color=colour, label=title)
    if rows:
        strips.imshow(
            rows[:-1],
            aspect="auto",
            cmap="RdYlBu",
            vmin=-1,
            vmax=1,
            extent=(0, 360, len(rows) - 1.5, -0.5),
            interpolation="nearest",
        )
        strips.set_yticks(list(marks), list(marks.values()), fontsize=8)
    strips.set(xticks=range(0, 361, 90), xlabel="the direction of a lobe, degrees")
    strips.set_title(
        "Blue: the first decision takes the lobe that points there", fontsize=11
    )
    curves.set(
        xlabel="angle from where the first decision changes, degrees", ylim=(0, 1.02)
    )
    curves.set_ylabel("images in which both are found")
    curves.legend(fontsize=8, loc="lower right")
    curves.set_title("Near the jump the pair is lost", fontsize=11)


def overview(summary, runs, s):
    """The Figure of the evidence."""
    fig = Figure(figsize=(14, 15), layout="constrained")
    top, bottom = fig.subfigures(2, 1, height_ratios=(1.1, 1))
    left, right = top.subfigures(1, 2, width_ratios=(1, 1.15))
    halves = left.subfigures(1, WATCHED)
    names = [
        name
        for name in ("one", "heads", "told", "mask", "full")
        if "masks" in runs.get((name, 0), {})
    ]
    images, _ = test_images(s, 0, "cpu")
    for k, half in enumerate(halves if names else ()):
        painted = []
        for name in names:
            masks = coloured(unpack(runs[name, 0]["masks"], s.shape.size)[k : k + 1])[0]
            none = torch.zeros(3 - len(masks), *masks.shape[1:])
            painted.append(torch.cat((none[:1], masks, none[1:])))
        axes = pictures.grid(
            half,
            images[k : k + 1].expand(len(names), -1, -1, -1),
            ["input", "decision 1", "decision 2"],
            torch.stack(painted),
        )
        for name, row in zip(names, axes):
            if name == "one":
                row[2].axis("off")
            if k == 0:
                row[0].set_ylabel(
                    NETWORKS[name]
                    .title.replace(" fed", "\nfed")
                    .replace(" only", "\nonly"),
                    fontsize=9,
                )
    left.suptitle(
        f"Two test images, seed 0, step size {s.learning_rate:g}", fontsize=11
    )
    draw_success(right.subplots(), summary)
    axes = bottom.subplots(2, 2, width_ratios=(1, 1.15))
    axes[0, 0].remove()
    axes[1, 0].remove()
    draw_shown(bottom.add_subplot(1, 2, 1), summary)
    draw_angle(*axes[:, 1], runs)
    text = "When must the second decision look at the first? The pair at any angle"
    fig.suptitle(f"{text}: a decision is one mask, the whole that owns the square")
    return fig


def main(argv=None):
    """Run it with these arguments, or those of the command line: (numbers, Figure)."""
    argv = sys.argv[1:] if argv is None else list(argv)
    if "--sweep" in argv:
        return many([word for word in argv if word != "--sweep"])
    args, s = common.experiment(__doc__, Settings(), train, argv)
    start, ceiling = time.perf_counter(), theory.whole_ceiling(s.shape.P, s.shape.b)
    net, history, film = train(s, args.seed, args.device)
    images, parts = test_images(s, args.seed, args.device)
    masks = decide(net, images).detach()
    found = measure(masks, parts)
    score = f"score of the better decision {found['score']:.3f}"
    print(f"{score}, of one decision at most {ceiling:.3f}")
    print(f"images in which both wholes are found: {found['pairs']:.1%}")
    numbers = {"experiment": "exp_rotated", "seed": args.seed, "epochs": s.epochs}
    numbers |= {"device": args.device, "seconds": time.perf_counter() - start}
    numbers |= {"settings": asdict(s) | FIXED, "ceiling": ceiling, **found}
    numbers |= answers(net, s, args.seed, args.device)
    numbers |= {"angle": by_angle(net, s, args.seed, args.device), "history": history}
    common.save(f"{args.out}/exp_rotated.json", numbers)
    fig = plot(history, film, images, parts, masks, ceiling)
    common.save(f"{args.out}/exp_rotated.png", fig)
    if args.film:
        title, film = "two wholes, in sequence", [coloured(frame) for frame in film]
        pictures.save_film(f"{args.out}/exp_rotated.gif", title, history, film, images)
    return numbers, fig


def many(argv):
    """The sweep: run what is missing, draw and print what each variant found. Returns the
    numbers of rotated.json and the Figure."""
    import exp_rotated  # this file, as the processes of a sweep know it

    parser = common.Parser(__doc__)
    parser.add_training()
    sweep.add_options(parser, VARIANTS, list(NETWORKS))
    args = parser.parse_args(argv)
    first = args.variants[0]
    s, _ = parser.settings(Settings(), args, lambda s: run(first, 0, s, "cpu"))
    runs = sweep.collect(parser, args, s, exp_rotated, "rotated")
    summary = summarise(runs)
    print(table(summary))
    numbers = {"experiment": "exp_rotated", "settings": asdict(s) | FIXED}
    numbers |= {"found": FOUND, "networks": summary}
    common.save(f"{args.out}/rotated.json", numbers)
    common.save(f"{args.out}/rotated.png", fig := overview(summary, runs, s))
    return numbers, fig


if __name__ == "__main__":
    common.script(main)
