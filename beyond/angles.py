"""Any angle: which network finds both wholes, and does the second decision answer the first?

In the paper's world "left first, then right" can be a habit, so that the second decision
need not look at the first. Here the pair lies at any angle. A decision is one mask, which
should be a whole: a lobe, its bar and the common region. An image has two wholes, its two
truths. Turned by 180 degrees it is the same image with the wholes exchanged, so that no
rule for the first decision can be right at every angle.

python -m beyond.angles draws the recorded runs. With --train it trains the recurrent
network once and saves out/angles.png and angles.json; --train --help lists its settings.
"""

import argparse
import math
import sys
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import torch
from matplotlib.figure import Figure

import data
from beyond import rules, runs, shares, stats, sweep
from beyond.networks import Variant, decide

EXACT = 0.9  # a decision finds a whole if its mask, cut at 1/2, has this IoU with it
FOUND = 0.5  # a run finds both wholes if it does in more than this share of the images
SETTINGS = runs.Settings(epochs=20)  # m is not used: both wholes are equally likely


def recurrent(title, **options):
    """Return the Variant of a recurrent network that makes one mask a pass."""
    return Variant(title, "Recurrent", {"out_channels": 1, **options})


NETWORKS = {
    "one": Variant("one decision", "UNet", {"out_channels": 1}),
    "heads": Variant("two heads", "UNet", {"out_channels": 2}),
    "independent": Variant("two U-Nets", "TwoUNets", {"out_channels": 1}),
    "told": Variant("told the pass", "ToldPass", {"out_channels": 1}),
    "told-wide": Variant(
        "told the pass, width 28", "ToldPass", {"out_channels": 1, "width": 28}
    ),
    "told-unit": recurrent(
        "told the pass, a unit without memory", mask="pass", state="zero"
    ),
    "mask": recurrent("recurrent, the mask alone fed back", feed_state=False),
    "mask-unit": recurrent("recurrent, a unit without memory", state="zero"),
    "state": recurrent("recurrent, the state alone fed back", feed_mask=False),
    "full": recurrent("recurrent"),
    "mask-cut": recurrent("recurrent, the mask detached", mask="detached"),
    "state-cut": recurrent("recurrent, the state detached", state="detached"),
    "noise": recurrent("recurrent, noise for the mask", mask="noise"),
}


def smaller_steps(key, rate, epochs):
    """Return one of NETWORKS with another step size and length of the training."""
    other = {"learning_rate": rate, "epochs": epochs}
    title = f"{NETWORKS[key].title}, step size {rate:g}"
    return replace(NETWORKS[key], title=title, other=other)


VARIANTS = dict(NETWORKS)
for key in ("heads", "independent", "told", "full"):
    title = f"{NETWORKS[key].title}, matched"
    VARIANTS[f"{key}-matched"] = replace(NETWORKS[key], title=title, rule="matched")
for key in NETWORKS:
    if key != "one":
        VARIANTS[f"{key}-half"] = smaller_steps(key, 1e-3, 40)
for key in ("heads", "independent", "told", "told-unit", "mask", "mask-unit"):
    VARIANTS[f"{key}-quarter"] = smaller_steps(key, 5e-4, 80)

# What the figure shows; the table has the rest too.
SHOWN = {
    "The maximum": ("one", "heads", "independent", "told", "mask", "state", "full"),
    "The maximum, smaller steps": ("told-quarter", "full-half"),
    "Matched": ("heads-matched", "independent-matched", "told-matched", "full-matched"),
}
# Two planned lists of tests and, each with its own best step size, one pair.
INGREDIENTS = [
    ("full", "told"),
    ("state", "told-unit"),
    ("mask", "mask-unit"),
    ("noise", "full"),
]
MATCHED = [
    ("heads-matched", "heads"),
    ("independent-matched", "independent"),
    ("told-matched", "told"),
    ("full-matched", "full"),
]
BEST_STEPS = [("full-half", "told-quarter")]


def parts_at(angle, centre, shape):
    """Return the parts (n, 3, H, W) of pairs at angles (n, 1, 1), in radians, with centres
    (2, n, 1, 1), x and y in pixels. At an angle of 0 the parts are the left own part, the
    common region and the right own part. A pixel is of the part in which its centre lies,
    so that a part has its area, P or b, on average."""
    middle = torch.arange(shape.size, device=angle.device) + 0.5
    dx = middle[None, None, :] - centre[0]  # (n, 1, W)
    dy = middle[None, :, None] - centre[1]  # (n, H, 1)
    along = (
        angle.cos() * dx + angle.sin() * dy
    )  # (n, H, W), from the centre of the pair
    across = (angle.cos() * dy - angle.sin() * dx).abs()
    distance = along.abs()
    square_end = shape.square / 2
    bar_end = square_end + shape.bar_length
    lobe_end = bar_end + shape.lobe_width
    square = (distance < square_end) & (across < square_end)
    bar = (distance < bar_end) & (across < shape.bar_height / 2)
    lobe = (distance >= bar_end) & (distance < lobe_end)
    lobe = lobe & (across < shape.lobe_height / 2)
    own = (bar | lobe) & ~square
    return torch.stack((own & (along < 0), square, own & (along >= 0)), 1).float()


def sample(n, generator, shape, noise):
    """Draw n images (n, 1, H, W), as data.sample does, of pairs at random angles and
    places, and their parts (n, 3, H, W), see parts_at. ValueError: a pair that does not
    fit into the image at every angle."""
    device = generator.device
    size = shape.size
    height, width = shape.template().shape
    if size < math.hypot(height, width):
        text = "size must be at least the diagonal of the pair"
        raise ValueError(f"{text}, got {size} ({math.hypot(height, width):.1f})")
    angle = 2 * math.pi * torch.rand(n, generator=generator, device=device)
    angle = angle[:, None, None]  # (n, 1, 1)
    cos = angle.cos().abs()
    sin = angle.sin().abs()
    reach_x = (width * cos + height * sin) / 2  # from the centre to the outermost point
    reach_y = (width * sin + height * cos) / 2
    reach = torch.stack((reach_x, reach_y))  # (2, n, 1, 1)
    where = torch.rand(2, n, 1, 1, generator=generator, device=device)
    parts = parts_at(angle, reach + where * (size - 2 * reach), shape)
    images = torch.randn(n, 1, size, size, generator=generator, device=device) * noise
    return images + parts.sum(1, keepdim=True), parts


def held_out(s, seed, device):
    """Return the images that a run is tested on and their parts, see sample."""
    return sample(s.held_out, data.stream(seed, "test", device), s.shape, s.noise)


def wholes(parts):
    """Return the two truths of images with these parts: (n, 2 wholes, 1 mask, H, W)."""
    one, common, other = parts.unbind(1)  # each (n, H, W)
    return torch.stack((one + common, common + other), 1)[:, :, None]


def loss(v, net, s, generator):
    """Draw a batch and return the loss of a Variant's network."""
    images, parts = sample(s.batch, generator, s.shape, s.noise)
    masks = decide(net, images, instances=1)  # (n, D, 1, H, W)
    scores = data.score(masks, wholes(parts))  # (n, D, 2 wholes)
    halves = scores.new_full((1, 2), 0.5)
    return -rules.worth(v.rule, v.number, scores, halves, s.beta).mean()


def hits(masks, truths):
    """Return which decision of masks (n, D, 1, H, W) finds which whole: (n, D, 2)."""
    return data.iou((masks > 0.5).float(), truths)[..., 0] >= EXACT


@torch.no_grad()
def measure(net, images, parts):
    """Return what a network is worth on images, as a dict. score: the IoU of the better
    decision, mean over both wholes. pairs: the share of the images in which both wholes
    are found."""
    masks = decide(net, images, instances=1)  # (n, D, 1, H, W)
    ious = data.iou((masks > 0.5).float(), wholes(parts))[..., 0]  # (n, D, 2 wholes)
    both = hits(masks, wholes(parts)).any(1).all(1)  # (n,)
    return {
        "score": ious.amax(1).mean().item(),
        "pairs": both.float().mean().item(),
    }


@torch.no_grad()
def shown_its_own(net, images, parts):
    """Return what the last decision is when, in place of the mask before it, it is shown
    the very whole that it gives itself: the shares of the images in which it is the
    opposite whole, the same, and neither. An answer to what it is shown is the opposite;
    a habit is the same. Only images count in which both wholes are found; None if there
    are none. A state that is fed back too still tells of what the first decision was."""
    truths = wholes(parts)
    found = hits(decide(net, images, instances=1), truths)  # (n, D, 2 wholes)
    chosen = found.any(1).all(1) & found[:, -1].any(1)  # (n,)
    if not chosen.any():
        return None
    images, truths = images[chosen], truths[chosen]
    n = torch.arange(len(images))
    own = found[chosen, -1].int().argmax(1)  # (n,), 0 or 1
    masks = decide(net, images, truths[n, own], instances=1)
    said = hits(masks, truths)[:, -1].float()  # (n, 2 wholes)
    opposite = said[n, 1 - own].mean().item()
    same = said[n, own].mean().item()
    return {"opposite": opposite, "same": same, "neither": 1 - opposite - same}


def train(v, s, net, generator, watch=None):
    """Train the network of a Variant, see sweep.train. Returns the seconds it took."""

    def batch_loss(progress):
        return loss(v, net, s, generator)

    steps = s.epochs * s.steps_per_epoch
    return sweep.train(net, v.optimiser(net, s), batch_loss, steps, watch)


def run(v, seed, s, device):
    """Train a Variant and test it. Returns a dict of what it ends in, for a row."""
    s = v.settings(s)
    net, generator = v.begin(s, seed, device)
    seconds = train(v, s, net, generator)
    images, parts = held_out(s, seed, device)
    row = {"seconds": seconds, **measure(net, images, parts)}
    row["outcome"] = f"both wholes in {row['pairs']:.0%}"
    row["parameters"] = sum(p.numel() for p in net.parameters())
    if getattr(net, "sees_mask", False):
        row["own"] = shown_its_own(net, images, parts)
    return row


def summarise(rows_of_runs):
    """Return what the runs of each variant found, a list of dicts.

    found: how many found both wholes (see FOUND), interval: Wilson's; pairs: for each
    run the share of its images in which both are found; own: the mean of shown_its_own
    over the runs that found both.
    """
    summary = []
    for key, v in VARIANTS.items():
        own = sweep.of(rows_of_runs, key)
        if not own:
            continue
        good = [row for row in own if row.get("pairs", 0) > FOUND]
        row = {
            "variant": key,
            "title": v.title,
            "found": len(good),
            "of": len(own),
            "interval": stats.wilson(len(good), len(own)),
            "pairs": [row.get("pairs", 0) for row in own],
            "own": None,
        }
        replies = [row["own"] for row in good if row.get("own")]
        if replies:
            row["own"] = {}
            for said in ("opposite", "same", "neither"):
                row["own"][said] = np.mean([reply[said] for reply in replies])
        summary.append(row)
    return summary


def table(summary):
    """Return what summarise returns as a table in Markdown."""
    lines = []
    for row in summary:
        low, high = row["interval"]
        pairs = " ".join(f"{100 * share:.0f}" for share in row["pairs"])
        own = "-"
        if row["own"]:
            own = " ".join(f"{100 * share:.1f}" for share in row["own"].values())
        found = f"{row['found']}/{row['of']}"
        interval = f"{low:.0%} to {high:.0%}"
        lines.append([row["title"], found, interval, pairs, own])
    head = ["network", "finds both", "95% interval", "% of the images, by run"]
    return stats.markdown(head + ["% opposite, same, neither"], lines)


def draw_wholes(ax):
    """Draw what a whole is into Axes, where they are empty: an image and its wholes."""
    images, parts = sample(1, data.stream(0, "test"), SETTINGS.shape, SETTINGS.noise)
    one, other = wholes(parts)[0, :, 0]  # each (H, W)
    pictures = {"image": images[0, 0], "a whole": one, "the other": other}
    for k, (text, picture) in enumerate(pictures.items()):
        box = ax.inset_axes((0.44 + 0.13 * k, 0.71, 0.12, 0.2))
        box.imshow(picture.numpy(), cmap="gray", vmin=0, vmax=1)
        box.set(xticks=[], yticks=[])
        box.set_title(text, fontsize=11)


def plot(summary):
    """Draw how many runs find both wholes, with the 95% interval. Returns the Figure."""
    by_key = {row["variant"]: row for row in summary}
    fig = Figure(figsize=(9, 5.6), layout="constrained")
    ax = fig.subplots()
    y = 0.0
    titles = {}
    for heading, keys in SHOWN.items():
        ax.text(0, y, heading, weight="bold", va="center", fontsize=11)
        y += 0.9
        for key in keys:
            if key not in by_key:
                continue
            row = by_key[key]
            share = row["found"] / row["of"]
            ax.barh(y, share, 0.62, color="#5b9bd5")
            ax.plot(row["interval"], [y, y], "k|-")
            ax.text(1.03, y, f"{row['found']} of {row['of']}", va="center", fontsize=11)
            titles[y] = row["title"]
            y += 1

    draw_wholes(ax)
    ax.set_yticks(list(titles), list(titles.values()), fontsize=11)
    ax.set_xlim(0, 1.2)
    ax.set_ylim(y - 0.4, -0.6)
    ax.set_xticks(np.linspace(0, 1, 5))
    ax.set_xlabel("share of the runs, with its 95% interval", fontsize=11)
    fig.suptitle("At any angle: which network finds both wholes?", fontsize=13)
    return fig


def report(rows_of_runs):
    """Return the figure of the runs and their text, see sweep."""
    summary = summarise(rows_of_runs)
    found = {row["variant"]: f"{row['found']} of {row['of']}" for row in summary}
    text = ""
    if "heads-matched" in found and "full" in found:
        text += (
            f"Matched, two heads find both wholes in {found['heads-matched']} runs. "
        )
        text += f"Under the maximum\ntwo heads do in {found['heads']}, and the "
        text += f"recurrent network in {found['full']}.\n\n"
    text += (
        "Runs that find both wholes in more than half of their test images and, for "
    )
    text += "those, what\nthe last decision is when it is shown its own whole:\n\n"
    text += f"{table(summary)}\n\n"
    text += (
        "Planned tests, in two lists that are corrected each on its own, and another:"
    )
    text += "\n\n" + stats.compare(summary, BEST_STEPS, (INGREDIENTS, MATCHED))
    return {"rotated.png": plot(summary)}, text


QUESTION = sweep.Question(
    name="rotated",
    about=__doc__,
    variants=VARIANTS,
    run=run,
    loss=loss,
    report=report,
    settings=SETTINGS,
    fixed={"exact": EXACT},
    default=tuple(NETWORKS),
)


def arguments(argv=None):
    """Return the settings of --train, from the command line or a list of words."""
    text = "Train the recurrent network once on pairs at any angle, and draw it."
    parser = argparse.ArgumentParser(description=text, usage=argparse.SUPPRESS)
    add = parser.add_argument
    add("--train", action="store_true", help="which is what you do here")
    add("--epochs", type=sweep.count, default=20, help="of 40 training steps")
    add("--matched", action="store_true", help="each decision has its own whole")
    add("--seed", type=int, default=0, help="of the weights and the images")
    add("--device", choices=("cpu", "cuda"), default="cpu", help="(default: cpu)")
    add("--out", type=Path, default=Path("out"), help="folder of the results")
    args = parser.parse_args(argv)
    if args.device == "cuda" and not torch.cuda.is_available():
        parser.error("argument --device: there is no CUDA device")
    return args


def plot_training(images, history, film):
    """Draw three images (3, 1, H, W) and the decisions on them over the training. film has
    masks (3, D, 1, H, W) for each row of history. Returns the Figure."""
    columns = min(8, len(film))
    moments = np.linspace(0, len(film) - 1, columns).round().astype(int)
    D = film[0].shape[1]
    fig = Figure(figsize=(1.1 * (columns + 1), 3.3 * D + 0.9), layout="constrained")
    axes = fig.subplots(1, columns + 1)
    shown = [images.repeat_interleave(D, 0)] + [film[k] for k in moments]
    titles = ["input"]
    for k in moments:
        titles.append(f"step {history[k]['step']}\nscore {history[k]['score']:.3f}")
    for ax, masks, title in zip(axes, shown, titles):
        column = masks.reshape(-1, images.shape[-1])  # (3 D H, W)
        ax.imshow(column.cpu().numpy(), cmap="gray", vmin=0, vmax=1)
        ax.set_title(title, fontsize=10)
        ax.set(xticks=[], yticks=[])
    fig.suptitle("Three test images; for each, the first decision above the second")
    return fig


def train_once(argv=None):
    """Train the recurrent network once, print and save. Returns the numbers and the
    Figure."""
    args = arguments(argv)
    torch.set_num_threads(1)
    s = replace(SETTINGS, epochs=args.epochs)
    v = VARIANTS["full-matched" if args.matched else "full"]
    net, generator = v.begin(s, args.seed, args.device)
    images, parts = held_out(s, args.seed, args.device)
    args.out.mkdir(parents=True, exist_ok=True)
    moments = runs.recorded(s.epochs * s.steps_per_epoch)
    history = []
    film = []

    def watch(step, cost):
        if step in moments:
            row = {"step": step, "loss": cost.item()}
            row.update(measure(net, images[:32], parts[:32]))
            history.append(row)
            with torch.no_grad():
                film.append(decide(net, images[:3], instances=1))
            text = f"step {step:5}  loss {row['loss']:6.3f}  score {row['score']:.3f}"
            print(f"{text}  both wholes in {row['pairs']:4.0%}", flush=True)

    print("On 32 test images: the score, and in how many both wholes are found.")
    seconds = train(v, s, net, generator, watch)
    ends = measure(net, images, parts)
    most = shares.whole_ceiling(s.shape.P, s.shape.b)
    print(f"Both wholes are found in {ends['pairs']:.1%} of {s.held_out} test images.")
    print(f"The score is {ends['score']:.3f}; one decision has {most:.3f} at most.")
    numbers = {
        "experiment": "angles",
        "seed": args.seed,
        "matched": args.matched,
        "settings": asdict(s),
        "seconds": seconds,
        "ceiling": most,
        **ends,
        "own": shown_its_own(net, images, parts),
        "history": history,
    }
    fig = plot_training(images[:3], history, film)
    sweep.save(args.out / "angles.json", numbers)
    sweep.save(args.out / "angles.png", fig)
    print(f"Saved {args.out / 'angles'}.json and .png")
    return numbers, fig


def main(argv=None):
    """Draw or train recorded runs, see sweep.main, or with --train one network."""
    argv = sys.argv[1:] if argv is None else argv
    if "--train" not in argv:
        return sweep.main(QUESTION, argv)
    try:
        return train_once(argv)
    except (ValueError, OSError, FloatingPointError) as error:
        sys.exit(f"error: {error}")
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        sys.exit(130)


if __name__ == "__main__":
    main()
