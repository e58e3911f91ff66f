"""Any angle: which network finds both wholes, and does the second decision look at the first?

In the paper's world "left first, then right" can be a habit: the second decision need not look at
the first. Here the pair lies at any angle, and a decision is one mask, a whole: a lobe, its bar
and the common region. An image has two wholes, its two truths. Turned by 180 degrees it is the
same image, so that a rule which names a first whole must change at some angle. Running this draws
the recorded runs, with the options of beyond/controls.py. --train, with the flags of
exp_recurrent.py but without a prior and a film, trains the recurrent network once and saves
exp_rotated.json and its picture.
"""

import functools
import math
import sys
import time
from dataclasses import replace

import numpy as np
import torch
from matplotlib.figure import Figure
from matplotlib.patches import Patch

import common
import data
import exp_recurrent
import pictures
from beyond import left_right, networks, rules, sweep
from beyond.left_right import TOLD

FILES, SEEDS = ("rotated",), 20
Settings = functools.partial(exp_recurrent.Settings, epochs=20)  # of which m is not used
EXACT = 0.9  # a decision finds a whole if its mask, cut off at 1/2, has this IoU with it
FOUND = 0.5  # a run finds both wholes if it does so in more than this share of the images
FIXED = {"exact": EXACT}
ANGLES = tuple(range(0, 180, 5))  # degrees, see by_angle
FROM_CHANGE = np.array(ANGLES) - 87.5  # degrees, see from_change
ANSWERS = {"opposite": "#00806a", "same": "#c04a00", "neither": "0.85"}

NETWORKS = {
    name: networks.Variant(title, net, {"out_channels": 1} | options)
    for name, title, net, options in (
        ("one", "One decision", "UNet", {}),
        ("heads", "Two heads", "UNet", {"out_channels": 2}),
        ("independent", "Two U-Nets", "TwoUNets", {}),
        ("told", "Told only the pass", "ToldPass", {}),
        ("told-wide", "Told only the pass, width 28", "ToldPass", {"width": 28}),
        ("told-unit", "Told only the pass, a unit without memory", "Handing", TOLD),
        ("mask", "Mask alone fed back", "RecurrentUNet", {"feed_state": False}),
        ("mask-unit", "Mask alone, a unit without memory", "Handing", {"state": "zero"}),
        ("state", "State alone fed back", "RecurrentUNet", {"feed_mask": False}),
        ("full", "Mask and state fed back", "RecurrentUNet", {}),
        ("mask-cut", "Mask and state, the mask detached", "Handing", {"mask": "detached"}),
        ("state-cut", "Mask and state, the state detached", "Handing", {"state": "detached"}),
        ("noise", "Mask and state, noise for the mask", "Handing", {"mask": "noise"}),
    )
}
MATCHED = ("heads", "independent", "told", "full")  # one to one, in place of the maximum
VARIANTS = {}
for name, v in NETWORKS.items():
    VARIANTS[name] = v
    for size, step, epochs in (("half", 1e-3, 40), ("quarter", 5e-4, 80)):  # as many more steps
        title, other = f"{v.title}, step size {step:g}", {"learning_rate": step, "epochs": epochs}
        VARIANTS[f"{name}-{size}"] = replace(v, title=title, other=other)
    if name in MATCHED:
        VARIANTS[f"{name}-matched"] = replace(v, title=f"{v.title}, matched", rule="matched")
DEFAULT = list(NETWORKS)
# Whose counts are compared: two planned lists and, each with its own best step size, one pair.
PLANNED = [
    [("full", "told"), ("state", "told-unit"), ("mask", "mask-unit"), ("noise", "full")],
    [(f"{name}-matched", name) for name in MATCHED],
]
PAIRS = [("full-half", "told-quarter")]

decide = functools.partial(networks.decide, instances=1)  # probabilities (n, D, 1, H, W)


def parts_at(angle, centre, shape):
    """The parts (n, 3, H, W) of pairs at angles (n, 1, 1), in radians, with centres (2, n, 1, 1),
    x and y in pixels: lobe and bar, the left ones at an angle of zero, common region, bar and lobe.
    A pixel belongs to the part in which its centre lies: on average a part has its area, P or b."""
    middle = torch.arange(shape.size, device=angle.device) + 0.5
    dx, dy = middle[None, None, :] - centre[0], middle[None, :, None] - centre[1]
    cos, sin = angle.cos(), angle.sin()
    u, v = cos * dx + sin * dy, cos * dy - sin * dx  # (n, H, W), along the pair and across it
    half = shape.square / 2
    square = torch.maximum(u.abs(), v.abs()) < half
    joint = half + shape.bar_length  # where the lobe begins
    bar = (u.abs() < joint) & (v.abs() < shape.bar_height / 2)
    lobe = (u.abs() >= joint) & (u.abs() < joint + shape.lobe_width)
    lobe &= v.abs() < shape.lobe_height / 2
    own = (bar | lobe) & ~square
    return torch.stack((own & (u < 0), square, own & (u >= 0)), 1).float()


def sample(n, generator, shape, noise, angle=None):
    """Draw n images (n, 1, H, W), as data.sample does, of pairs at any angle and place, and their
    parts (n, 3, H, W), see parts_at; the angles are angle (n,), in radians, where that is given.
    ValueError: a pair that does not fit at every angle."""
    device, S = generator.device, shape.size
    v_end, u_end = (pixels / 2 for pixels in shape.template().shape)
    if S < 2 * math.hypot(u_end, v_end):
        raise ValueError(f"size must be at least the diagonal of the pair, got {S}")
    if angle is None:
        angle = 2 * math.pi * torch.rand(n, generator=generator, device=device)
    angle = angle[:, None, None]
    cos, sin = angle.cos().abs(), angle.sin().abs()
    # From the centre to the outermost point, along x and along y: (2, n, 1, 1).
    reach = torch.stack((u_end * cos + v_end * sin, u_end * sin + v_end * cos))
    where = torch.rand(2, n, 1, 1, generator=generator, device=device)
    parts = parts_at(angle, reach + where * (S - 2 * reach), shape)
    images = torch.randn(n, 1, S, S, generator=generator, device=device) * noise
    return images + parts.sum(1, keepdim=True), parts


def held_out(s, seed, device):
    """The images that a run is tested on, from a stream of their own, as sample returns them."""
    generator = torch.Generator(device).manual_seed(seed + 2 * data.SEEDS)
    return sample(s.held_out, generator, s.shape, s.noise)


def wholes(parts):
    """The two truths of each image: (n, 2 wholes, 1 mask, H, W)."""
    one, square, other = parts.unbind(1)
    return torch.stack((one + square, square + other), 1)[:, :, None]


def batch(v, net, s, generator):
    """Draw a batch for the network of a Variant: (loss, decisions (n, D, 1, H, W), parts)."""
    images, parts = sample(s.batch, generator, s.shape, s.noise)
    masks = decide(net, images)
    scores = data.score(masks, wholes(parts))  # (n, D, 2 wholes)
    halves = scores.new_full((1, 2), 0.5)
    return -rules.value(v.rule, scores, halves, s.beta).mean(), masks, parts


def hits(masks, truths):
    """Which decision of masks (n, D, 1, H, W) finds which whole: (n, D, 2) of 0 and 1."""
    return (data.iou((masks > 0.5).float(), truths)[..., 0] >= EXACT).float()


@torch.no_grad()
def measure(masks, parts):
    """What the decisions on a batch are worth, a dict for the JSON: score, that of the better
    decision, mean over wholes; pairs, the share of images in which both wholes are found."""
    ious = data.iou((masks > 0.5).float(), wholes(parts))[..., 0]  # (n, D, 2 wholes)
    both = hits(masks, wholes(parts)).amax(1).amin(1)  # (n,)
    return {"score": ious.amax(1).mean().item(), "pairs": both.mean().item()}


def train(v, s, seed, device, say=lambda text: None):
    """Train the network of a Variant: returns it, its history, a dict a recorded step, and a
    film, at these steps its masks of the first test images."""
    s = v.settings(s)
    net, generator = v.begin(s, seed, device)
    watched = held_out(s, seed, device)[0][:3]
    steps = s.epochs * s.steps_per_epoch
    moments = common.recorded(steps) | set(range(0, steps, s.steps_per_epoch))
    history, film = [], []

    def watch(step, loss, masks, parts):
        if step in moments:
            history.append({"step": step, "loss": loss.item(), **measure(masks, parts)})
            film.append(decide(net, watched).detach().cpu())
            say("step {step:5}  loss {loss:6.3f}  both wholes: {pairs:4.0%}".format(**history[-1]))

    sweep.train(net, v.optimiser(net, s), lambda _: batch(v, net, s, generator), steps, watch)
    return net.requires_grad_(False), history, film


def answers(net, s, seed, device):
    """What the last decision is when it is shown a whole in place of the mask before it: the shares
    of the test images in which it is the opposite whole, the same, or neither. A state, where one
    is fed back too, still tells of what was drawn. shown: shown either whole. Half of these are
    what it would have seen anyway, so that the opposite is no sign of looking. own: shown the whole
    that it gives itself, in the images in which both are found; None if there are none."""
    images, parts = held_out(s, seed, device)
    truths = wholes(parts)
    each = hits(decide(net, images), truths)  # (n, D, 2 wholes)
    both = (each.amax(1).amin(1) * each[:, -1].amax(1)).nonzero()[:, 0]  # images
    its_own = each[both, -1].argmax(1)
    one, other = (hits(decide(net, images, truths[:, k])[:, -1:], truths)[:, 0] for k in (0, 1))
    same = torch.stack((one[:, 0], other[:, 1]), 1)  # (n, 2 wholes that are shown)
    opposite = torch.stack((one[:, 1], other[:, 0]), 1)
    said = torch.stack((opposite, same, 1 - opposite - same), 2)  # (n, 2, as in ANSWERS)
    return {
        "shown": dict(zip(ANSWERS, said.mean((0, 1)).tolist())),
        "own": dict(zip(ANSWERS, said[both, its_own].mean(0).tolist())) if len(both) else None,
    }


def by_angle(net, s, seed, device, n=8):
    """Decisions on n images at each of ANGLES. first: the shares in which the first is the first
    whole, and the other; pairs: in which both are found. 180 degrees on, the wholes swap names."""
    generator = torch.Generator(device).manual_seed(seed + 3 * data.SEEDS)
    angle = torch.tensor(ANGLES, device=device).deg2rad().repeat_interleave(n)
    images, parts = sample(len(angle), generator, s.shape, s.noise, angle)
    each = hits(decide(net, images), wholes(parts)).unflatten(0, (-1, n))  # (36, n, D, 2)
    first, both = each[:, :, 0].mean(1), each.amax(2).amin(2).mean(1)
    return {"first": first.tolist(), "pairs": both.tolist()}


def tested(net, s, seed, device):
    """What a trained network is worth on the test images, and how it decides: a dict."""
    images, parts = held_out(s, seed, device)
    ends = measure(decide(net, images), parts) | {"angle": by_angle(net, s, seed, device)}
    return ends | answers(net, s, seed, device) if getattr(net, "sees_mask", False) else ends


def run(v, seed, s, device):
    """Train a Variant and test it: a dict of what it ends in, for a row."""
    begun = time.perf_counter()
    net, _, _ = train(v, s, seed, device)
    seconds = round(time.perf_counter() - begun, 2)
    ends = tested(net, s, seed, device)
    parameters = sum(p.numel() for p in net.parameters())
    outcome = f"both wholes in {ends['pairs']:.0%}"
    return {"outcome": outcome, "seconds": seconds, "parameters": parameters, **ends}


def first_whole(row):
    """Which whole the first decision of a run is in directions 5 degrees apart, clockwise from the
    right, (72,): 1 that whose lobe points there, -1 the other, 0 neither or each as often."""
    first, other = np.array(row["angle"]["first"]).T  # at an angle of zero the first points left
    return np.concatenate((other - first, first - other))


def from_change(row):
    """The shares of images in which both wholes are found, by the angle from where the first
    decision changes from one whole to the other, see FROM_CHANGE: (36,)."""
    whole, n = first_whole(row), len(ANGLES)
    # The 180 degrees in which it is the same whole most begin where it changes.
    k = max(range(n), key=lambda k: abs(whole[k : k + n].sum()))
    return np.roll(row["angle"]["pairs"], n // 2 - k)


def finders(runs, name, key="pairs"):
    """The rows of a variant's runs that found both wholes and have something under key."""
    return [r for r in sweep.of(runs, name) if r.get("pairs", 0) > FOUND and r.get(key)]


def summarise(runs):
    """What the runs of each variant found: a list of dicts, for rotated.json.

    found: how many found both wholes (see FOUND), interval: Wilson's; pairs: of every run, by
    seed, the share of images in which both are found. The rest are means over those runs that
    found both: near_change, elsewhere: that share within 10 degrees of where the first decision
    changes, and farther off; shown, own: see answers.
    """
    summary, near = [], abs(FROM_CHANGE) < 10
    for name, v in VARIANTS.items():
        every, good = sweep.of(runs, name), finders(runs, name)
        if not every:
            continue
        row = {
            "variant": name,
            "title": v.title,
            "step_size": v.settings(Settings()).learning_rate,
            "found": len(good),
            "of": len(every),
            "interval": sweep.wilson(len(good), len(every)),
            "pairs": {row["seed"]: round(row.get("pairs", 0), 3) for row in every},
        }
        if asked := finders(runs, name, "angle"):
            curve = np.mean([from_change(row) for row in asked], 0)
            row |= {"near_change": curve[near].mean(), "elsewhere": curve[~near].mean()}
        for key in ("shown", "own"):
            said = [row[key] for row in finders(runs, name, key)]
            row[key] = {k: np.mean([x[k] for x in said]) for k in said[0]} if said else None
        summary.append(row)
    return summary


def table(summary):
    """What summarise returns as a table in Markdown."""
    head = ["network", "finds both", "95% interval", "% of images, by run", "near the change"]
    head += ["elsewhere", "shown its own: opposite, same, neither"]
    lines = []
    for row in summary:
        near = [f"{row[k]:.0%}" if k in row else "-" for k in ("near_change", "elsewhere")]
        own = ", ".join(f"{part:.0%}" for part in (row["own"] or {}).values()) or "-"
        pairs = " ".join(f"{100 * pair:.0f}" for pair in row["pairs"].values())
        interval = "{:.0%} to {:.0%}".format(*row["interval"])
        lines.append([row["title"], f"{row['found']}/{row['of']}", interval, pairs, *near, own])
    return sweep.markdown(head, lines)


def draw_look(summary, runs):
    """Does the second decision look at the first? A Figure."""
    rows = [row for row in summary if row["own"]]
    fig, titles = Figure(figsize=(9, 2 + 0.62 * len(rows)), layout="constrained"), []
    ax = fig.subplots()
    for y, row in enumerate(rows):
        left, asked = 0.0, finders(runs, row["variant"], "own")
        for answer, part in row["own"].items():
            ax.barh(y, part, 0.6, left, color=ANSWERS[answer], ec="black")
            left += part
        each = [run["own"]["opposite"] for run in asked]
        ax.plot(each, [y] * len(each), "D", mfc="white", mec="black", clip_on=False)
        titles.append(f"{row['title']}\n(runs: {len(asked)})")
    ax.set_yticks(range(len(rows)), titles, fontsize=9)
    ax.set(xlim=(0, 1), ylim=(len(rows) - 0.5, -0.5), xlabel="share of the images")
    handles = [Patch(ec="black", fc=colour, label=name) for name, colour in ANSWERS.items()]
    handles += ax.plot([], [], "D", mfc="white", mec="black", label="opposite, in one run")
    fig.legend(handles=handles, ncols=4, loc="outside lower center", frameon=False)
    fig.suptitle("Does it look? The second decision, shown its own whole in the first one's place")
    return fig


def draw_angle(runs):
    """Which whole the first decision is, by direction, and where both are lost: a Figure."""
    rows, lost, marks, gap = [], [], {}, np.full(2 * len(ANGLES), np.nan)
    for name in ("full", "state", "noise", "told-quarter", "heads-matched"):
        if asked := finders(runs, name, "angle"):
            title = VARIANTS[name].title.replace(", step", ",\nstep")
            marks[len(rows) + (len(asked) - 1) / 2] = f"{title}\n(runs: {len(asked)})"
            rows += [*map(first_whole, asked), gap]
            lost += [*(2 * run["angle"]["pairs"] for run in asked), gap]
    fig = Figure(figsize=(9, 2 + 0.13 * len(rows)), layout="constrained")
    ax, edges = fig.subplots(), (-2.5, 357.5, len(rows) - 0.5, -0.5)
    look = {"cmap": "RdYlBu", "vmin": -1, "vmax": 1, "interpolation": "nearest"}
    ax.imshow(rows or [gap], aspect="auto", extent=edges, **look)
    y, x = np.nonzero(np.array(lost or [gap]) < 0.5)
    ax.plot(5 * x, y, "ko", mec="white", mew=0.5, ms=4)
    ax.set_yticks(list(marks), list(marks.values()), fontsize=9)
    ax.set(xticks=range(0, 360, 45), xlabel="direction, degrees clockwise from the right")
    fig.suptitle(
        "Which whole is the first decision? A row a run that finds both.\nBlue: the one whose lobe "
        "points in that direction; red: the other one; pale: now this,\nnow that, or neither. "
        "Dots: there both are found in fewer than half of the images"
    )
    return fig


def draw_training(images, history, film):
    """What is decided on three images (3, 1, H, W) over the training, and the score: a Figure."""
    columns = {"input": images.repeat_interleave(2, 0)}
    for k in pictures.evenly(history, 8):
        columns["step {step}\nscore {score:.3f}".format(**history[k])] = film[k]
    fig = Figure(figsize=(10, 6.5), layout="constrained")
    for ax, (title, column) in zip(fig.subplots(1, len(columns)), columns.items()):
        ax.imshow(column.reshape(-1, images.shape[-1]).numpy(), cmap="gray", vmin=0, vmax=1)
        ax.set_title(title, fontsize=10)
        ax.set(xticks=[], yticks=[])
    fig.suptitle("Three images; of each, decision 1 above decision 2")
    return fig


def report(runs):
    """The summary, the pictures and the tables of the runs, see sweep."""
    summary = summarise(runs)
    title = "At any angle: which network finds both wholes? (step size 0.002 unless said)"
    saved = {
        "rotated.json": {"experiment": "angles", "found": FOUND, "networks": summary},
        "rotated.png": left_right.counts(summary, "both wholes", title),
        "rotated_look.png": draw_look(summary, runs),
        "rotated_angle.png": draw_angle(runs),
    }
    return saved, table(summary) + "\n\n" + sweep.compare(summary, PAIRS, PLANNED)


def build(s):
    """The recurrent network. ValueError: a pair that does not fit the images at every angle."""
    sample(1, torch.Generator(), s.shape, s.noise)
    return VARIANTS["full"].build(s, None)


def train_once(argv):
    """Train the recurrent network once, see the top: (numbers, Figure)."""
    args, s = common.parse(__doc__, argv, Settings(), build)
    net, history, film = train(VARIANTS["full"], s, args.seed, args.device, print)
    ends = tested(net, s, args.seed, args.device)
    most = (s.shape.P + s.shape.b) / (2 * s.shape.P + s.shape.b)  # of a whole, or of everything
    print(f"both wholes in {ends['pairs']:.1%}, score {ends['score']:.3f} (of one {most:.3f})")
    numbers = common.save_numbers(args, "exp_rotated", s, most, ends, history)
    fig = draw_training(held_out(s, args.seed, args.device)[0][:3].cpu(), history, film)
    sweep.save(args.out / "exp_rotated.png", fig)
    return numbers, fig


def main(argv=None):
    """See sweep.main and, with --train, train_once."""
    argv = sys.argv[1:] if argv is None else argv
    if "--train" in argv:
        return train_once([flag for flag in argv if flag != "--train"])
    return sweep.main("angles", argv)


if __name__ == "__main__":
    common.script(main)
