"""What does a loss do with an ambiguous region? Predicted first, then trained.

predict (from losses.py) follows the mean of a loss over the truths while the common
region is filled, which takes no training. Then the network of exp_single.py is trained
with the loss, and two heads and the recurrent network, too. Running this draws the
recorded runs (figures/losses.jsonl) and prints a table of them; --out FOLDER runs
everything anew, see exp_controls.py.

With --loss FILE.py:NAME it predicts what a loss of your own does, a function of masks
and truths as those in losses.py, and with --train also trains the single network.
"""

import time
from collections import Counter
from dataclasses import dataclass, field

import torch

import common
import data
import pictures
import sweep
from exp_controls import FOUND, ONE, TWO, Variant
from losses import KINDS, LOSSES, describe, load, predict
from recurrent_unet import RecurrentUNet
from unet import UNet

VERSION = 1  # see sweep.py
FIXED = {"found": FOUND, "learned": data.LEARNED, "exact": data.EXACT}
NETS = {"": (UNet, ONE), "-heads": (UNet, TWO), "-recurrent": (RecurrentUNet, {})}
# {loss: [what it is, where it comes from, which library has it]}
ABOUT = {name: loss.__doc__.split(" | ") for name, loss in LOSSES.items()}
VARIANTS = {
    name + end: Variant(ABOUT[name][0] + end.replace("-", ", "), *net)
    for end, net in NETS.items()
    for name in LOSSES
}


@dataclass(frozen=True)
class Settings:
    """Those of exp_single.py without m and beta: both owners are equally likely."""

    epochs: int = 10
    steps_per_epoch: int = 40
    batch: int = 4  # images a step; each counts with both truths
    learning_rate: float = 2e-3
    noise: float = 0.1
    width: int = 16
    depth: int = 2
    steps: int = 2  # passes of the recurrent network
    held_out: int = 256
    shape: data.Shape = field(default_factory=data.Shape)  # P1 = P2 = b = 64 pixels


def decide(net, images, exclusive=False):
    """Images (n, 1, H, W) -> probabilities (n, D decisions, 2, H, W)."""
    logits = net(images)
    logits = logits if logits.ndim == 5 else logits.unflatten(1, (-1, 2))
    if exclusive:  # background, left, right
        background = torch.zeros_like(logits[:, :, :1])
        return torch.cat((background, logits), 2).softmax(2)[:, :, 1:]
    return torch.sigmoid(logits)


def objective(loss, masks, truths):
    """The loss of decisions (n, D, 2, H, W) if for each image and truth (n, 2 truths, 2,
    H, W) only the better one counts: a hard choice, as the losses differ in scale."""
    n, D, G = *masks.shape[:2], truths.shape[1]
    if D > 1:
        p = masks.detach().repeat_interleave(G, 1).flatten(0, 1)  # (n D G, 2, H, W)
        t = truths.repeat(1, D, 1, 1, 1).flatten(0, 1)
        alone = torch.vmap(lambda p, t: loss(p[None], t[None]).mean())(p, t)
        best = alone.view(n, D, G).argmin(1)  # (n, G)
        masks = masks[torch.arange(n, device=best.device)[:, None], best]
    else:
        masks = masks.expand(-1, G, -1, -1, -1)  # (n, G, 2, H, W)
    return loss(masks.flatten(0, 1), truths.flatten(0, 1)).mean()


@common.prepared
def train(loss, net, s, seed, device, exclusive=False):
    """Train a network with a loss and test it: a dict of what it ends in, for a row."""
    net = net.to(device, memory_format=torch.channels_last)
    optimiser = torch.optim.Adam(net.parameters(), s.learning_rate, fused=True)
    generator = torch.Generator(device).manual_seed(seed + data.SEEDS)
    start = time.perf_counter()
    for step in range(1, s.epochs * s.steps_per_epoch + 1):
        images, parts = data.sample(s.batch, generator, s.shape, s.noise)
        masks = decide(net, images, exclusive)  # (n, D, 2, H, W)
        cost = objective(loss, masks, data.groupings(parts))
        optimiser.zero_grad()
        cost.backward()
        optimiser.step()
        if step % s.steps_per_epoch == 0:
            common.finite(cost.item(), step)
    row = {"seconds": round(time.perf_counter() - start, 2)}
    images, parts = data.held_out(s, seed, device)
    with torch.no_grad():
        masks = decide(net, images, exclusive)
    soft, hard = (data.measure(m, parts) for m in (masks, (masks > 0.5).float()))
    row |= {"outcome": " + ".join(sorted(d["outcome"] for d in hard["decisions"]))}
    row |= {
        "found": hard["oracle_exact"] >= FOUND,
        "oracle_exact": hard["oracle_exact"],
    }
    for key, measured in (("shares", soft), ("cut", hard)):
        both = [[d["common_left"], d["common_right"]] for d in measured["decisions"]]
        row[key] = both  # of the common region, for each decision
    return row


def parts_of(name):
    """A variant's loss, and whether shares are exclusive: softmax gives no pixel twice."""
    loss = name.removesuffix("-heads").removesuffix("-recurrent")
    return LOSSES[loss], loss == "softmax"


def run(name, seed, s, device):
    """Train a variant: a dict for a row, see train."""
    loss, exclusive = parts_of(name)
    net = VARIANTS[name].build(s, torch.Generator().manual_seed(seed))
    return train(loss, net, s, seed, device, exclusive)


@common.prepared
def change(name, s):
    """What a variant is, as a dict for the JSON; by "start", see sweep, a network or a
    loss is told from another of the same name."""
    (loss, exclusive), generator = parts_of(name), torch.Generator().manual_seed(0)
    net = VARIANTS[name].build(s, generator)
    images, parts = data.sample(s.batch, generator, s.shape, s.noise)
    cost = objective(loss, decide(net, images, exclusive), data.groupings(parts))
    return {"net": type(net).__name__, "start": sweep.start(net, cost, generator)}


def summarise(runs):
    """For each loss what was predicted, see predict, and what came out: {name: dict}.

    measured: the shares of the common region that the single networks give, left and
    right; off: their mean distance from the prediction; gets: what masks cut off at 1/2
    do with it, in how many runs; heads, recurrent: the runs that find the two groupings.
    """
    found = {}
    for name, loss in LOSSES.items():
        own = [[r for (v, _), r in sorted(runs.items()) if v == name + e] for e in NETS]
        ends = [Counter(r.get("outcome", "died") for r in rows) for rows in own]
        row = predict(loss, name == "softmax")
        shares = torch.tensor([r["shares"][0] for r in own[0] if "shares" in r])
        off = (shares[..., None] - torch.tensor(row["best"])).abs().amin(-1)
        row |= {"measured": shares.tolist(), "gets": ends[0]}
        row["off"] = off.mean().item() if len(off) else None
        for key, rows, outcomes in zip(("heads", "recurrent"), own[1:], ends[1:]):
            k, n = sum(r.get("found", False) for r in rows), len(rows)
            row[key] = {"found": k, "of": n, "outcomes": outcomes}
            row[key]["interval"] = sweep.wilson(k, n) if n else None
        if any(own):
            found[name] = {k: v for k, v in row.items() if k not in ("shares", "curve")}
    at = {k: ([*KINDS].index(r["kind"]), -r["slides_to"]) for k, r in found.items()}
    return {name: found[name] for name in sorted(found, key=at.get)}


def table(found):
    """What summarise returns as a table in Markdown."""
    head = ["loss", "from", "in", "predicted share", "1/2 slides to", "cut at 1/2"]
    head += ["off", "gives the region to", "two heads", "two passes"]
    lines = []
    for name, r in found.items():
        best = r["predicted"]
        best = best if isinstance(best, str) else f"{best:.2f}"
        off = "-" if r["off"] is None else f"{r['off']:.3f}"
        gets = ", ".join(f"{end} {k}" for end, k in r["gets"].items())
        pairs = [f"{r[k]['found']}/{r[k]['of']}" for k in ("heads", "recurrent")]
        cells = [*ABOUT[name], best, f"{r['slides_to']:.2f}", r["cut"], off, gets]
        lines.append([*cells, *pairs])
    return sweep.markdown(head, lines)


def yours(parser, args, s):
    """Predict what the loss of --loss does and, with --train, train with it."""
    try:
        print(describe(found := predict(loss := load(args.loss))))
        if args.train:
            seed = args.seeds[0]
            net = VARIANTS["iou"].build(s, torch.Generator().manual_seed(seed))
            row = train(loss, net, s, seed, args.device)
            text = "seed {}: left gets {:.2f}, right {:.2f}; cut off at 1/2: {}"
            print(text.format(seed, *row["shares"][0], row["outcome"]))
    except Exception as e:  # noqa: BLE001 - whatever a loss of somebody else's may raise
        parser.error(f"argument --loss: {type(e).__name__}: {e}".splitlines()[0])
    return found


def main(argv=None):
    """Run what is missing, draw all: the numbers of losses.json and the Figure. With
    --loss, the prediction and None."""
    parser = common.Parser(__doc__)
    parser.add_training()
    sweep.add_options(parser, VARIANTS, list(VARIANTS))
    parser.add_argument("--loss", metavar="FILE.py:NAME", help="A loss of your own.")
    parser.add_argument("--train", action="store_true", help="Train with it as well.")
    args = parser.parse_args(argv)
    s, _ = parser.settings(Settings(), args, lambda s: change("iou", s))
    if args.loss:
        return yours(parser, args, s), None
    import exp_losses  # this file, as the processes of a sweep know it

    runs = sweep.collect(parser, args, s, exp_losses, "losses")
    print(table(found := summarise(runs)))
    numbers = {"experiment": "exp_losses", "losses": found}
    common.save(f"{args.out}/losses.json", numbers)
    fig = pictures.draw_losses(found, ABOUT, KINDS)
    common.save(f"{args.out}/losses.png", fig)
    sweep.exit_if_dead(runs)
    return numbers, fig


if __name__ == "__main__":
    common.script(main)
