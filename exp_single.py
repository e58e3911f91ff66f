"""One decision: the paper's Fig. 3.

A U-Net gives each of two instances a mask, trained on the average score of both truths
(Eq. 1). It gives the common region to both: never entirely right, yet no decision scores
more. This script saves its picture and numbers, and prints at its end:

                              by theory                 by the paper              here
    outcome                   both                      both                      both (100.0%)
    score of the better one   1.500                     the most, 1.500           1.500
    groupings found           0.0%                      none                      0.0%
"""

import time
from dataclasses import asdict, dataclass, field

import torch

import common
import data
import landscape
import pictures
import theory
from unet import UNet


@dataclass(frozen=True)
class Settings:
    """One set for all three experiments, chosen on seeds from 1000 up."""

    epochs: int = 10  # as in the paper; exp_dual.py has ten times as many
    steps_per_epoch: int = 40  # the paper does not say how long an epoch is
    batch: int = 4  # images a step, new ones each time: no training set to memorise
    learning_rate: float = 2e-3  # of Adam
    beta: float = 100.0  # sharpness of the differentiable maximum over decisions
    m: float = 0.5  # prior probability that the left grouping is true; n = 1 - m
    noise: float = 0.1  # standard deviation of the noise in the images
    width: int = 16  # channels of the first level of the U-Net
    depth: int = 2  # poolings of the U-Net
    held_out: int = 256  # images of the final evaluation
    shape: data.Shape = field(default_factory=data.Shape)  # P1 = P2 = b = 64 pixels


def build(s, generator):
    """The network: two output channels, one mask for each instance."""
    return UNet(1, 2, s.width, s.depth, generator)


def decide(net, images):
    """Images (n, 1, H, W) -> probabilities (n, D = 1 decision, 2 instances, H, W)."""
    return torch.sigmoid(net(images)).unflatten(1, (1, 2))


@common.prepared
def train(s, seed, device):
    """Train a new network. Returns it, its history (a dict a recorded step, for the
    JSON) and a film: at these steps, its masks of the first three test images."""
    net = build(s, torch.Generator().manual_seed(seed))
    net = net.to(device, memory_format=torch.channels_last)  # faster on a CPU
    optimiser = torch.optim.Adam(net.parameters(), s.learning_rate, fused=True)
    generator = torch.Generator(device).manual_seed(seed + data.SEEDS)
    watched = data.held_out(s, seed, device)[0][:3]
    steps = s.epochs * s.steps_per_epoch
    moments = common.moments(steps)  # dense early, where things happen
    history, film, start = [], [], time.perf_counter()
    for step in range(1, steps + 1):
        images, parts = data.sample(s.batch, generator, s.shape, s.noise)
        masks = decide(net, images)  # (n, D, 2, H, W)
        scores = data.score(masks, data.groupings(parts))  # (n, D, 2 truths)
        best = data.soft_maximum(scores, s.beta)  # (n, 2), better one for each truth
        loss = -(s.m * best[:, 0] + (1 - s.m) * best[:, 1]).mean()  # Eq. 1 if D is 1
        epoch_ends = step % s.steps_per_epoch == 0
        if epoch_ends or step in moments:
            # These images are new to the network: a fair test of it before this step.
            row = {"epoch": step / s.steps_per_epoch, "step": step, "loss": loss.item()}
            common.finite(row["loss"], step)
            row["seconds"] = time.perf_counter() - start
            history.append(row | data.measure(masks, parts, s.m))
            film.append(decide(net, watched).detach().cpu())
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        if epoch_ends:
            print(common.describe(history[-1]), flush=True)
    return net, history, film


@common.prepared
@torch.no_grad()
def evaluate(net, s, seed, device):
    """Test on the held-out images: (images, parts, masks, measured)."""
    images, parts = data.held_out(s, seed, device)
    masks = decide(net, images)
    return images, parts, masks, data.measure(masks, parts, s.m)


def plot(s, history, film, images, parts, masks, measured, ceiling):
    """Fig. 3: a Figure of the decision, and of its way over theory.F."""
    outcome = measured["decisions"][0]["outcome"]
    title = f"One decision, by a U-Net: {outcome}, score {measured['score']:.3f}"
    fig, panel = pictures.overview(title, history, film, images, parts, masks)
    ax = panel.subplots()
    P, b = s.shape.P, s.shape.b
    contours = landscape.draw_landscape(ax, P, P, b, s.m, 1 - s.m)
    panel.colorbar(contours, ax=ax, label="average score F(a, c)", shrink=0.8)
    pictures.path(ax, history)
    title = "The network's way over the score, own parts learned"
    ax.set_title(title, fontsize=10)
    return fig


def main(argv=None):
    """Run it with these arguments, or those of the command line: (numbers, Figure)."""
    args, s = common.experiment(__doc__, Settings(), train, argv)
    start, P, b = time.perf_counter(), s.shape.P, s.shape.b
    ceiling = theory.ceiling(P, P, b, s.m)
    net, history, film = train(s, args.seed, args.device)
    images, parts, masks, found = evaluate(net, s, args.seed, args.device)
    end = theory.undecided_end(P, b, s.m)
    score = theory.F(*theory.CORNERS[end], P, P, b, s.m)
    close = P / (P + b) >= data.EXACT  # a small b, with or without, is found anyway
    share = 1.0 if close else 0.5 * (end in ("left", "right"))
    paper = "both", f"the most, {ceiling:.3f}", "none"
    expected = {"by theory": (end, f"{score:.3f}", f"{share:.1%}")}
    expected |= {"by the paper": paper} if s == Settings() else {}
    common.print_findings(found, expected)
    numbers = {"experiment": "exp_single", "seed": args.seed, "epochs": s.epochs}
    numbers |= {"device": args.device, "seconds": time.perf_counter() - start}
    numbers |= {"ceiling_broken_at": data.broken_at(history, ceiling)}
    numbers |= {"settings": asdict(s), "ceiling": ceiling, **found, "history": history}
    out = f"{args.out}/{numbers['experiment']}"
    common.save(f"{out}.json", numbers)
    fig = plot(s, history, film, images, parts, masks, found, ceiling)
    common.save(f"{out}.png", fig)
    if args.film:
        pictures.save_film(f"{out}.gif", "one decision", history, film, images)
    return numbers, fig


if __name__ == "__main__":
    common.script(main)
