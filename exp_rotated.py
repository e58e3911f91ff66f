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
import sys
import time
from dataclasses import asdict, dataclass, field, replace

import numpy as np
import torch
from matplotlib.figure import Figure

import common
import data
import pictures
import sweep
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
    turned: shown the first whole, turned by TURNS about the pair's centre, the shares in
    which it is the first whole, and the other; another: shown a whole of another image,
    the share in which it is a whole of its own.
    """
    images, parts = test_images(s, seed, device)
    truths = wholes(parts)
    (a, b), (c, d) = (gives(net, images, truths, truths[:, k]) for k in (0, 1))
    shown = {"opposite": (b + c) / 2, "same": (a + d) / 2}
    shown["neither"] = 1 - sum(shown.values())
    # The same stream again: these are the places of the same images, the first of which
    # are enough here.
    generator = torch.Generator(device).manual_seed(seed + 2 * data.SEEDS)
    turn, centre = (x[..., :64, :, :] for x in place(s.held_out, generator, s.shape))
    images, truths = images[:64], truths[:64]
    another = sum(gives(net, images, truths, truths[:, 0].roll(1, 0)))
    ways = [parts_at(turn + math.radians(way), centre, s.shape) for way in TURNS]
    turned = [gives(net, images, truths, wholes(way)[:, 0]) for way in ways]
    return {"shown": shown, "turned": turned, "another": another}


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


def plot(history, film, images, parts, masks, ceiling):
    """Three images with their wholes and decisions, the score over training, one image
    during the training. Returns a Figure."""

    def two(masks):  # (n, k, 1, H, W): the first is painted red, the others yellow
        none = torch.zeros_like(masks)
        first = torch.arange(masks.shape[1])[None, :, None, None, None] == 0
        return torch.cat(
            (torch.where(first, masks, none), torch.where(first, none, masks)), 2
        )

    fig = Figure(figsize=(13, 8), layout="constrained")
    top, bottom = fig.subfigures(2, 1, height_ratios=(2, 1))
    left, right = top.subfigures(1, 2, width_ratios=(1.1, 1))
    shown = [torch.zeros_like(two(wholes(parts[:3]))[:, :1]), two(wholes(parts[:3]))]
    titles = ["input", "one whole", "the other"]
    titles += [f"decision {d + 1}" for d in range(masks.shape[1])]
    pictures.grid(left, images[:3], titles, torch.cat([*shown, two(masks[:3])], 1))
    ax, steps = right.subplots(), [row["step"] for row in history]
    ax.plot(
        steps,
        [row["score"] for row in history],
        color="black",
        lw=2.5,
        label="better decision",
    )
    ax.axhline(
        ceiling, color="0.5", ls="-.", label=f"most that one can score, {ceiling:.3f}"
    )
    ax.set(
        xscale="log",
        xlabel="training step (logarithmic)",
        ylabel="IoU on a batch",
        ylim=(0, 1.02),
    )
    ax.legend(frameon=False, loc="lower right")
    pictures.strip(bottom, history, [two(frame) for frame in film], images[0].cpu())
    return fig


def main(argv=None):
    """Run it with these arguments, or those of the command line: (numbers, Figure)."""
    argv = sys.argv[1:] if argv is None else list(argv)
    if "--sweep" in argv:
        return many([word for word in argv if word != "--sweep"])
    args, s = common.experiment(__doc__, Settings(), train, argv)
    start, P, b = time.perf_counter(), s.shape.P, s.shape.b
    net, history, film = train(s, args.seed, args.device)
    images, parts = test_images(s, args.seed, args.device)
    masks = decide(net, images).detach()
    ceiling, found = (P + b) / (2 * P + b), measure(masks, parts)
    print(
        f"score of the better decision {found['score']:.3f}, of one at most {ceiling:.3f}"
    )
    print(f"images in which both wholes are found: {found['pairs']:.1%}")
    numbers = {"experiment": "exp_rotated", "seed": args.seed, "epochs": s.epochs}
    numbers |= {"device": args.device, "seconds": time.perf_counter() - start}
    numbers |= {"settings": asdict(s) | FIXED, "ceiling": ceiling, **found}
    numbers |= {"shown": answers(net, images, parts), "history": history}
    common.save(f"{args.out}/exp_rotated.json", numbers)
    fig = plot(history, film, images, parts, masks, ceiling)
    common.save(f"{args.out}/exp_rotated.png", fig)
    return numbers, fig


def many(argv):
    """The sweep: run what is missing, print for each variant in how many images of each
    run both wholes are found. Returns {(variant, seed): row}."""
    import exp_rotated  # this file, as the processes of a sweep know it

    parser = common.Parser(__doc__)
    parser.add_training()
    sweep.add_options(parser, VARIANTS, list(NETWORKS))
    args = parser.parse_args(argv)
    first = args.variants[0]
    s, _ = parser.settings(Settings(), args, lambda s: run(first, 0, s, "cpu"))
    runs = sweep.collect(parser, args, s, exp_rotated, "rotated")
    for name in VARIANTS:
        own = [row for (variant, _), row in sorted(runs.items()) if variant == name]
        pairs = ", ".join(
            f"{row['pairs']:.0%}" if "pairs" in row else "died" for row in own
        )
        if own:
            print(f"{name:<18}{pairs}")
    return runs


if __name__ == "__main__":
    common.script(main)
