"""At any angle: which network finds both wholes?

In the paper's world "left first, then right" can be a habit, so that the second decision
need not look at the first. Here the pair lies at any angle. A decision is one mask, which
should be a whole: a lobe, its bar and the common region. An image has two wholes, its two
truths. Turned by 180 degrees it is the same image with the wholes exchanged, so that no
rule for the first decision can be right at every angle.

python -m beyond.angles draws the recorded runs. With --train it trains the recurrent
network once, in half a minute, and draws it.
"""

import math
from dataclasses import replace

import numpy as np
import torch
from matplotlib.figure import Figure

import data
from beyond import ambiguous_loss, rules, runs, stats, sweep
from beyond.networks import Variant, decide

EXACT = 0.9  # a decision finds a whole if its mask, cut at 1/2, has this IoU with it
IDLE = 0.05  # a decision is idle if it is the best for fewer images and wholes
FOUND = 0.5  # a run finds both wholes if it does in more than this share of the images
METERED = (10, 40, 80, 160, 320)  # training steps after which the meter is read
SETTINGS = runs.Settings(epochs=20)  # m is not used: both wholes are equally likely


def network(title, net, **options):
    """Return the Variant of a network that makes one mask a decision."""
    return Variant(title, net, {"out_channels": 1, **options})


NETWORKS = {
    "one": network("one decision", "UNet"),
    "heads": network("two heads", "UNet", out_channels=2),
    "independent": network("two U-Nets", "TwoUNets"),
    "told": network("told the pass", "ToldPass"),
    "told-wide": network("told the pass, width 28", "ToldPass", width=28),
    "told-unit": network(
        "told the pass, a unit without memory", "Recurrent", mask="pass", state="zero"
    ),
    "mask": network(
        "recurrent, the mask alone fed back", "Recurrent", feed_state=False
    ),
    "mask-unit": network("recurrent, a unit without memory", "Recurrent", state="zero"),
    "state": network(
        "recurrent, the state alone fed back", "Recurrent", feed_mask=False
    ),
    "full": network("recurrent", "Recurrent"),
    "mask-cut": network("recurrent, the mask detached", "Recurrent", mask="detached"),
    "state-cut": network(
        "recurrent, the state detached", "Recurrent", state="detached"
    ),
    "noise": network("recurrent, noise for the mask", "Recurrent", mask="noise"),
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
for key in ("heads", "independent"):
    title = f"{NETWORKS[key].title}, ambiguous_loss"
    v = replace(NETWORKS[key], title=title, rule="ambiguous_loss", number=3.0)
    VARIANTS[f"{key}-loss"] = v
for balance in (1.0, 10.0):  # 3 was chosen against these on seeds 1000 to 1007
    title = f"two heads, ambiguous_loss, balance {balance:g}"
    v = replace(VARIANTS["heads-loss"], title=title, number=balance)
    VARIANTS[f"heads-loss-{balance:g}"] = v
for key in NETWORKS:
    if key != "one":
        VARIANTS[f"{key}-half"] = smaller_steps(key, 1e-3, 40)
for key in ("heads", "independent", "told", "told-unit", "mask", "mask-unit"):
    VARIANTS[f"{key}-quarter"] = smaller_steps(key, 5e-4, 80)

# What the figure shows; the table has the rest too.
SHOWN = [
    "one",
    "heads",
    "independent",
    "told",
    "mask",
    "state",
    "full",
    "told-quarter",
    "full-half",
    "heads-loss",
    "heads-matched",
    "independent-matched",
    "told-matched",
    "full-matched",
]
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
    (2, n, 1, 1), x and y in pixels. At an angle of 0 they are the left own part, the common
    region and the right own part. A pixel is of the part in which its centre lies."""
    middle = torch.arange(shape.size, device=angle.device) + 0.5
    dx = middle[None, None, :] - centre[0]  # (n, 1, W)
    dy = middle[None, :, None] - centre[1]  # (n, H, 1)
    along = angle.cos() * dx + angle.sin() * dy  # (n, H, W), from the centre
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
    places, and their parts (n, 3, H, W), see parts_at."""
    device = generator.device
    height, width = shape.template().shape
    angle = 2 * math.pi * torch.rand(n, generator=generator, device=device)
    angle = angle[:, None, None]  # (n, 1, 1)
    cos = angle.cos().abs()
    sin = angle.sin().abs()
    reach_x = (width * cos + height * sin) / 2  # from the centre to the outermost point
    reach_y = (width * sin + height * cos) / 2
    reach = torch.stack((reach_x, reach_y))  # (2, n, 1, 1)
    where = torch.rand(2, n, 1, 1, generator=generator, device=device)
    parts = parts_at(angle, reach + where * (shape.size - 2 * reach), shape)
    images = parts.sum(1, keepdim=True)
    grain = torch.randn(images.shape, generator=generator, device=device)
    return images + noise * grain, parts


def held_out(s, seed, device):
    """Return the images that a run is tested on and their parts, see sample."""
    return sample(s.held_out, data.stream(seed, "test", device), s.shape, s.noise)


def wholes(parts):
    """Return the two truths of images with these parts: (n, 2 wholes, 1 mask, H, W)."""
    one, common, other = parts.unbind(1)  # each (n, H, W)
    return torch.stack((one + common, common + other), 1)[:, :, None]


def batch_scores(net, s, generator):
    """Draw a batch and return what each decision scores with each whole, (n, D, 2)."""
    images, parts = sample(s.batch, generator, s.shape, s.noise)
    masks = decide(net, images, instances=1)  # (n, D, 1, H, W)
    return data.score(masks, wholes(parts))


def minus_worth(v, s, scores):
    """Return the loss of a batch by the rule of a Variant."""
    halves = scores.new_full((1, 2), 0.5)
    return -rules.worth(v.rule, v.number, scores, halves, s.beta).mean()


def loss(v, net, s, generator):
    """Draw a batch and return the loss of a Variant's network."""
    return minus_worth(v, s, batch_scores(net, s, generator))


@torch.no_grad()
def measure(net, images, parts):
    """Return what a network is worth on images, as a dict. score: the IoU of the better
    decision, mean over both wholes. pairs: the share of the images in which both wholes
    are found. wins: for each decision the share of images and wholes for which it is the
    best."""
    masks = (decide(net, images, instances=1) > 0.5).float()  # (n, D, 1, H, W)
    ious = data.iou(masks, wholes(parts))[..., 0]  # (n, D, 2 wholes)
    pairs = (ious >= EXACT).any(1).all(1).float()  # (n,)
    best = ious.argmax(1).flatten()  # (2 n,), the number of a decision
    wins = torch.bincount(best, minlength=ious.shape[1]) / len(best)
    return {
        "score": ious.amax(1).mean().item(),
        "pairs": pairs.mean().item(),
        "wins": wins.tolist(),
    }


def trained(v, seed, s, device):
    """Return the network of a Variant, trained, the seconds it took, and the readings of
    the meter: lists [training steps, lead, parting] of the batch before the next step."""
    batch = {}
    readings = []

    def batch_loss(net, generator, coins, progress):
        batch["scores"] = batch_scores(net, s, generator)
        return minus_worth(v, s, batch["scores"])

    def watch(net, step, cost):
        if step - 1 in METERED:
            reading = ambiguous_loss.meter(batch["scores"])
            readings.append([step - 1, *sweep.rounded(reading)])

    net, seconds = runs.trained(v, seed, s, device, batch_loss, watch)
    return net, seconds, readings


def run(v, seed, s, device):
    """Train a Variant and test it. Returns a dict of what it ends in, for a row."""
    s = v.settings(s)
    net, seconds, readings = trained(v, seed, s, device)
    images, parts = held_out(s, seed, device)
    row = {"seconds": seconds, "meter": readings, **measure(net, images, parts)}
    row["outcome"] = f"both wholes in {row['pairs']:.0%}"
    return row


def summarise(rows_of_runs):
    """Return how many runs of each variant found both wholes, and of how many: a list of
    dicts with variant, title, found and of."""
    summary = []
    for key, v in VARIANTS.items():
        own = sweep.of(rows_of_runs, key)
        found = sum(row.get("pairs", 0) > FOUND for row in own)
        if own:
            row = {"variant": key, "title": v.title, "found": found, "of": len(own)}
            summary.append(row)
    return summary


def metered(rows_of_runs):
    """Return the readings of the meter, two lists: of the runs of several decisions
    that end with an idle one, see IDLE, and of the others. Older rows have none."""
    dead = []
    others = []
    for row in rows_of_runs.values():
        if "meter" in row and len(row["wins"]) > 1:
            if min(row["wins"]) < IDLE:
                dead.append(row["meter"])
            else:
                others.append(row["meter"])
    return dead, others


def plot(summary):
    """Draw how many runs of SHOWN find both wholes, with the 95% interval, beside an image
    and its wholes. Returns the Figure."""
    fig = Figure(figsize=(9, 5), layout="constrained")
    ax = fig.subplots()
    for row in summary:
        if row["variant"] in SHOWN:
            share = row["found"] / row["of"]
            ax.barh(row["title"], share, 0.62, color="#5b9bd5")
            ends = stats.wilson(row["found"], row["of"])
            ax.plot(ends, [row["title"]] * 2, "k|-")
            ax.text(1.03, row["title"], f"{row['found']} of {row['of']}", va="center")
    ax.invert_yaxis()
    ax.set_xlim(0, 1.15)
    ax.set_xticks(np.linspace(0, 1, 5))
    ax.set_xlabel("share of the runs, with its 95% interval")

    images, parts = sample(1, data.stream(0, "test"), SETTINGS.shape, SETTINGS.noise)
    pictures = torch.cat((images, wholes(parts)[0]))  # (3, 1, H, W)
    box = ax.inset_axes((0.4, 0.72, 0.45, 0.25))
    strip = torch.cat(list(pictures[:, 0]), 1).numpy()  # (H, 3 W)
    box.imshow(strip, cmap="gray", vmin=0, vmax=1)
    box.set_xticks((16, 48, 80), ("image", "a whole", "the other"))
    box.set_yticks(())
    fig.suptitle("At any angle: which network finds both wholes?")
    return fig


def report(rows_of_runs):
    """Return the figure of the runs and their text, see sweep."""
    summary = summarise(rows_of_runs)
    lines = []
    found = {}
    for row in summary:
        low, high = stats.wilson(row["found"], row["of"])
        interval = f"{low:.0%} to {high:.0%}"
        lines.append([row["title"], f"{row['found']}/{row['of']}", interval])
        found[row["variant"]] = f"{row['found']} of {row['of']}"
    text = ""
    if "heads-matched" in found and "full" in found:
        text += f"Matched, two heads find both wholes in {found['heads-matched']} "
        text += f"runs. Under the maximum\ntwo heads do in {found['heads']}, and the "
        text += f"recurrent network in {found['full']}.\n\n"
    text += "Runs that find both wholes in more than half of their test images:\n\n"
    text += stats.markdown(["network", "finds both", "95% interval"], lines)
    text += "\n\nPlanned tests, in two lists that are corrected each on its own, and "
    text += "another:\n\n"
    text += stats.compare(summary, BEST_STEPS, (INGREDIENTS, MATCHED))
    alarms = stats.alarms(*metered(rows_of_runs))
    if alarms:
        text += "\n\nDoes a large lead tell that a decision ends without a whole?\n\n"
        text += alarms
    return {"rotated.png": plot(summary)}, text


def train_once(seed):
    """Train the recurrent network once and print what it finds. Returns the picture of six
    test images and its decisions, {file name: Figure}."""
    net, seconds, _ = trained(VARIANTS["full"], seed, SETTINGS, "cpu")
    images, parts = held_out(SETTINGS, seed, "cpu")
    ends = measure(net, images, parts)
    print(f"Both wholes are found in {ends['pairs']:.0%} of {len(images)} test images.")
    print(f"The score is {ends['score']:.3f}. The training took {seconds:.0f} s.")

    with torch.no_grad():
        masks = decide(net, images[:6], instances=1)  # (6, 2, 1, H, W)
    rows = torch.cat((images[:6], masks[:, :, 0]), 1)  # (6, 3, H, W)
    size = SETTINGS.shape.size
    fig = Figure(figsize=(9, 4), layout="constrained")
    ax = fig.subplots()
    picture = rows.permute(1, 2, 0, 3)  # (3, H, 6, W)
    picture = picture.reshape(3 * size, 6 * size).numpy()
    ax.imshow(picture, cmap="gray", vmin=0, vmax=1)
    ax.set_axis_off()
    ax.set_title("Six test images, the first decision and the second decision")
    return {"angles.png": fig}


QUESTION = sweep.Question(
    name="rotated",
    about=__doc__,
    variants=VARIANTS,
    run=run,
    loss=loss,
    report=report,
    settings=SETTINGS,
    fixed={"exact": EXACT, **rules.OF_THE_LOSS},
    default=tuple(NETWORKS),
    once=train_once,
)

if __name__ == "__main__":
    sweep.main(QUESTION)
