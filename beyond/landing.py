"""What does a loss do with an ambiguous region? Predicted first, then trained.

losses.predict follows the mean of a loss over the truths while the common region is filled.
Then one network, two heads and the recurrent network are trained with it. Running this
draws the recorded runs (figures/losses.jsonl); --out FOLDER runs everything anew.

--loss FILE.py:NAME predicts your own loss, a function as in losses.py, of probabilities
and truths (n, 2, H, W); --train trains one network with it, on seed 0 or --seeds. A loss
of a softmax over background, left and right says my_loss.exclusive = True.
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


def decide(net, images, loss=None):
    """Images (n, 1, H, W) -> probabilities (n, D decisions, 2, H, W), as a loss has them."""
    logits = net(images)
    logits = logits if logits.ndim == 5 else logits.unflatten(1, (-1, 2))
    if getattr(loss, "exclusive", False):  # background, left, right
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
def train(loss, net, s, seed, device):
    """Train a network with a loss and test it: a dict of what it ends in, for a row."""
    net = net.to(device, memory_format=torch.channels_last)
    optimiser = torch.optim.Adam(net.parameters(), s.learning_rate, fused=True)
    generator = torch.Generator(device).manual_seed(seed + data.SEEDS)
    start = time.perf_counter()
    for step in range(1, s.epochs * s.steps_per_epoch + 1):
        images, parts = data.sample(s.batch, generator, s.shape, s.noise)
        masks = decide(net, images, loss)  # (n, D, 2, H, W)
        cost = objective(loss, masks, data.groupings(parts))
        optimiser.zero_grad()
        cost.backward()
        optimiser.step()
        if step % s.steps_per_epoch == 0:
            common.finite(cost.item(), step)
    row = {"seconds": round(time.perf_counter() - start, 2)}
    images, parts = data.held_out(s, seed, device)
    with torch.no_grad():
        masks = decide(net, images, loss)
    hard = data.measure((masks > 0.5).float(), parts)
    row |= {"outcome": " + ".join(sorted(d["outcome"] for d in hard["decisions"]))}
    row |= {"oracle_exact": (pairs := hard["oracle_exact"]), "found": pairs >= FOUND}
    decisions = data.measure(masks, parts)["decisions"]
    row["shares"] = [[d["common_left"], d["common_right"]] for d in decisions]
    return row


def expect(loss, s):
    """What losses.predict says of a loss in the world of the Settings."""
    _, parts = data.sample(1, torch.Generator().manual_seed(0), s.shape, noise=0)
    return predict(loss, parts[0, [0, 2, 1]])


def loss_of(name):
    """A variant's loss."""
    return LOSSES[name.removesuffix("-heads").removesuffix("-recurrent")]


def run(name, seed, s, device):
    """Train a variant: a dict for a row, see train."""
    net = VARIANTS[name].build(s, torch.Generator().manual_seed(seed))
    return train(loss_of(name), net, s, seed, device)


@common.prepared
def change(name, s):
    """What a variant is, as a dict for the JSON; by "start", see sweep, a network or a
    loss is told from another of the same name."""
    loss, generator = loss_of(name), torch.Generator().manual_seed(0)
    net = VARIANTS[name].build(s, generator)
    images, parts = data.sample(s.batch, generator, s.shape, s.noise)
    cost = objective(loss, decide(net, images, loss), data.groupings(parts))
    return {"net": type(net).__name__, "start": sweep.start(net, cost, generator)}


def summarise(runs, s=Settings()):
    """For each loss what was predicted, see expect, and what came out: {name: dict}.

    measured: the shares of the common region that the single networks give, left and
    right; off: their mean distance from the prediction; gets: who gets it after a cut at
    1/2, in how many runs; heads, recurrent: the runs that find the two groupings."""
    found = {}
    for name, loss in LOSSES.items():
        own = [[r for (v, _), r in sorted(runs.items()) if v == name + e] for e in NETS]
        ends = [Counter(r.get("outcome", "died") for r in rows) for rows in own]
        row = expect(loss, s)
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
        best = r["predicted"] if len(r["best"]) > 1 else f"{r['predicted']:.2f}"
        off = "-" if r["off"] is None else f"{r['off']:.3f}"
        gets = ", ".join(f"{end} {k}" for end, k in r["gets"].items())
        pairs = [f"{r[k]['found']}/{r[k]['of']}" for k in ("heads", "recurrent")]
        cells = [*ABOUT[name], best, f"{r['slides_to']:.2f}", r["cut"], off, gets]
        lines.append([*cells, *pairs])
    return sweep.markdown(head, lines)


def yours(parser, args, s):
    """Predict what the loss of --loss does and, with --train, train with it."""
    for name in ("variants", "workers", "plot_only", "out"):
        if getattr(args, name) is not parser.get_default(name):
            parser.error(f"argument --{name.replace('_', '-')}: not beside --loss")
    seeds = args.seeds if args.seeds is not parser.get_default("seeds") else [0]
    try:
        print(describe(found := expect(loss := load(args.loss or ""), s)))
        for seed in seeds if args.train else ():
            net = VARIANTS["iou"].build(s, torch.Generator().manual_seed(seed))
            row = train(loss, net, s, seed, args.device)
            shares = "left gets {:.2f}, right {:.2f}".format(*row["shares"][0])
            print(f"seed {seed}: {shares}; cut off at 1/2: {row['outcome']}")
    except (Exception, SystemExit) as e:  # noqa: BLE001 - whatever a loss may raise
        kind = "" if isinstance(e, ValueError) else f"{type(e).__name__}: "
        parser.error(f"argument --loss: {kind}{e}".splitlines()[0])
    return found


def main(argv=None):
    """Run what is missing, draw all: the numbers of losses.json and the Figure. With
    --loss, the prediction and None."""
    parser = common.Parser(__doc__)
    parser.add_training()
    sweep.add_options(parser, VARIANTS, list(VARIANTS))
    text = "A loss of your own, of probabilities and truths (n, 2, H, W)."
    parser.add_argument("--loss", metavar="FILE.py:NAME", help=text)
    parser.add_argument("--train", action="store_true", help="Train with it, too.")
    args = parser.parse_args(argv)
    s, _ = parser.settings(Settings(), args, lambda s: change("iou", s))
    if args.loss is not None or args.train:
        return yours(parser, args, s), None
    import exp_losses  # this file, as the processes of a sweep know it

    runs = sweep.collect(parser, args, s, exp_losses, "losses")
    print(table(found := summarise(runs, s)))
    numbers = {"experiment": "exp_losses", "losses": found}
    common.save(f"{args.out}/losses.json", numbers)
    common.save(f"{args.out}/losses.png", fig := pictures.draw_losses(found, ABOUT))
    sweep.exit_if_dead(runs)
    return numbers, fig


if __name__ == "__main__":
    common.script(main)
