"""The pair at any angle: two decisions in sequence where no habit is at hand.

In the world of the other experiments "left first, then right" can be a habit: nothing
asks the second decision to look at the first. Here the pair is turned by any angle, and
a decision is one mask: the whole that owns the square (a lobe, its bar, the square).
There are two such wholes, and so two truths. Turned by 180 degrees the picture is the
same: a rule that names a first whole cannot be continuous, at some angle it must jump.

A decision scores its IoU. One decision can score (P+b)/(2P+b) on average, 2/3 for
b = P: one of the wholes and everything tie. Two decisions can score 1. This script
trains the recurrent network and saves its picture and numbers. exp_looking.py asks
which network finds both wholes, and whether the second decision looks at the first.
"""

import math
import time
from dataclasses import asdict, dataclass, field

import torch
from matplotlib.figure import Figure

import common
import data
import pictures
import theory
from recurrent_unet import RecurrentUNet

# A decision finds a whole if its mask, cut off at 1/2, has this IoU with it.
EXACT = 0.9
ANGLES = tuple(range(0, 180, 5))  # degrees, see by_angle
TURNS = tuple(range(0, 181, 30))  # degrees, see answers


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
    if theory.whole_ceiling(shape.P, shape.b) >= EXACT:
        raise ValueError(
            f"square is too large to tell the wholes apart, {shape.square}"
        )
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


def build(s, generator):
    """The network: one output channel, given at each of s.steps passes."""
    return RecurrentUNet(1, 1, s.width, s.depth, s.steps, generator=generator)


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
def train(s, seed, device, build=build, say=print):
    """Train what build(s, generator) returns: it, its history (a dict a recorded step,
    for the JSON) and a film: at these steps, its masks of the first three test images."""
    net = build(s, torch.Generator().manual_seed(seed))
    net = net.to(device, memory_format=torch.channels_last)  # faster on a CPU
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
            row = {"epoch": step / s.steps_per_epoch, "step": step, "loss": loss.item()}
            common.finite(row["loss"], step)
            row["seconds"] = time.perf_counter() - start
            history.append(row | measure(masks, parts))
            film.append(decide(net, watched).detach().cpu())
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        if epoch_ends:
            line = "epoch {epoch:3.0f}   loss {loss:6.3f}   score {score:.3f}"
            line += "   both wholes in {pairs:4.0%} of the batch   {seconds:5.1f} s"
            say(line.format(**history[-1]), flush=True)
    return net, history, film


def test_images(s, seed, device):
    """The held-out images, from a stream of their own: (images, parts)."""
    generator = torch.Generator(device).manual_seed(seed + 2 * data.SEEDS)
    return sample(s.held_out, generator, s.shape, s.noise)


@common.prepared
@torch.no_grad()
def evaluate(net, s, seed, device):
    """Test on the held-out images: (images, parts, masks, measured)."""
    images, parts = test_images(s, seed, device)
    masks = decide(net, images)
    return images, parts, masks, measure(masks, parts)


@torch.no_grad()
def gives(net, images, truths, shown):
    """Shown masks (n, 1, H, W) in the first decision's place, what the second one is: the
    shares of images in which it is the first truth, and the second."""
    second = (decide(net, images, shown)[:, -1:] > 0.5).float()
    found = data.iou(second, truths)[:, 0, :, 0] >= EXACT  # (n, 2 truths)
    return found.float().mean(0).tolist()


@common.prepared
def answers(net, s, seed, device):
    """What the last decision is when it is shown a mask in place of the one before it, a
    dict of shares of the test images, for the JSON. A state, where one is fed back too,
    still tells of what was drawn.

    shown: shown a whole, how often it is the opposite one, the same, or neither. Half of
    these wholes are what it would have seen anyway, so the opposite is no sign of looking.
    own: the same where it is shown the whole that it gives itself, in the images in which
    both are found; None if there are none. turned: shown the first whole, turned by TURNS
    about the pair's centre, how often it is the first whole, and the other. another: shown
    a whole of another image, how often it is a whole of its own.
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
    both = found.any(1).all(1) & found[:, -1].any(1)  # (n,)
    if not both.any():
        return None
    images, truths, its_own = images[both], truths[both], found[both, -1].float()
    order = its_own.argsort(1, descending=True)  # (n, 2), its own whole, then the other
    truths = truths.gather(1, order[:, :, None, None, None].expand_as(truths))
    same, opposite = gives(net, images, truths, truths[:, 0])
    return {"opposite": opposite, "same": same, "neither": 1 - opposite - same}


@common.prepared
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
    pictures.strip(bottom, history, [coloured(frame) for frame in film], images[0])
    return fig


def main(argv=None):
    """Run it with these arguments, or those of the command line: (numbers, Figure)."""
    args, s = common.experiment(__doc__, Settings(), train, argv)
    start, ceiling = time.perf_counter(), theory.whole_ceiling(s.shape.P, s.shape.b)
    net, history, film = train(s, args.seed, args.device)
    images, parts, masks, found = evaluate(net, s, args.seed, args.device)
    score = f"score of the better decision {found['score']:.3f}"
    print(f"{score}, of one decision at most {ceiling:.3f}")
    print(f"images in which both wholes are found: {found['pairs']:.1%}")
    numbers = {"experiment": "exp_rotated", "seed": args.seed, "epochs": s.epochs}
    numbers |= {"device": args.device, "seconds": time.perf_counter() - start}
    numbers |= {"settings": asdict(s) | {"exact": EXACT}}
    numbers |= {"ceiling": ceiling, **found}
    numbers |= answers(net, s, args.seed, args.device)
    numbers |= {"angle": by_angle(net, s, args.seed, args.device), "history": history}
    common.save(f"{args.out}/exp_rotated.json", numbers)
    fig = plot(history, film, images, parts, masks, ceiling)
    common.save(f"{args.out}/exp_rotated.png", fig)
    if args.film:
        title, film = "two wholes, in sequence", [coloured(frame) for frame in film]
        pictures.save_film(f"{args.out}/exp_rotated.gif", title, history, film, images)
    return numbers, fig


if __name__ == "__main__":
    common.script(main)
