"""Two decisions at once: the paper's Fig. 4 without recurrence.

A U-Net gives two decisions, and the better one counts for each truth: one grouping each
would score 2. It learns one decision, both; the other, never the better one, is hardly
trained. This script saves its picture and numbers, and prints at its end:

                              best of two, by theory    by the paper              here
    outcome                   one left, one right       both, unlearned           unlearned (100.0%); both (100.0%)
    score of the better one   2.000 (of one: 1.500)     as one, 1.500             1.500
    groupings found           100.0%                    none                      0.0%
"""

import time
from dataclasses import asdict, dataclass, field

import torch

import common
import data
import pictures
import theory
from unet import UNet


@dataclass(frozen=True)
class Settings:
    """One set for all three experiments, chosen on seeds from 1000 up."""

    epochs: int = 100  # as in the paper, ten times those of the other two
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
    """The network: four output channels, taken as two decisions of two masks."""
    return UNet(1, 4, s.width, s.depth, generator)


def decide(net, images):
    """Images (n, 1, H, W) -> probabilities (n, D = 2 decisions, 2 instances, H, W)."""
    return torch.sigmoid(net(images)).unflatten(1, (2, 2))


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
    """Fig. 4: a Figure of the decisions and their scores."""
    outcomes = ", ".join(d["outcome"] for d in measured["decisions"])
    title = f"Two decisions at once, by a U-Net: {outcomes}"
    fig, panel = pictures.overview(title, history, film, images, parts, masks)
    pictures.curves(panel.subplots(), history, ceiling)
    return fig


def main(argv=None):
    """Run it with these arguments, or those of the command line: (numbers, Figure)."""
    args, s = common.experiment(__doc__, Settings(), train, argv)
    start, P, b = time.perf_counter(), s.shape.P, s.shape.b
    ceiling = theory.ceiling(P, P, b, s.m)
    net, history, film = train(s, args.seed, args.device)
    images, parts, masks, found = evaluate(net, s, args.seed, args.device)
    best = "one left, one right", f"2.000 (of one: {ceiling:.3f})", "100.0%"
    paper = "both, unlearned", f"as one, {ceiling:.3f}", "none"
    expected = {"best of two, by theory": best}
    expected |= {"by the paper": paper} if s == Settings() else {}
    common.print_findings(found, expected)
    numbers = {"experiment": "exp_dual", "seed": args.seed, "epochs": s.epochs}
    numbers |= {"device": args.device, "seconds": time.perf_counter() - start}
    numbers |= {"ceiling_broken_at": data.broken_at(history, ceiling)}
    numbers |= {"settings": asdict(s), "ceiling": ceiling, **found, "history": history}
    out = f"{args.out}/{numbers['experiment']}"
    common.save(f"{out}.json", numbers)
    fig = plot(s, history, film, images, parts, masks, found, ceiling)
    common.save(f"{out}.png", fig)
    if args.film:
        pictures.save_film(f"{out}.gif", "two decisions at once", history, film, images)
    return numbers, fig


if __name__ == "__main__":
    common.script(main)
