"""Two decisions in sequence: the paper's Fig. 4 with recurrence.

A recurrent U-Net gives two decisions, one a step, and the second step sees the first
one's mask (whether that is what does it, exp_controls.py asks). Loss and images are
those of exp_dual.py; in a tenth of the epochs the two decisions are the two groupings.
Running this script prints, at the end:

                                  by the paper                  here
    outcome of the decision(s)    one left, one right           left (100.0%); right (100.0%)
    score of the better decision  above the ceiling, 1.500      2.000
    groupings found               all                           100.0%

and saves exp_recurrent.png and exp_recurrent.json.
"""

import time
from dataclasses import asdict, dataclass, field

import torch
from matplotlib.figure import Figure

import data
import theory
from recurrent_unet import RecurrentUNet


@dataclass(frozen=True)
class Settings:
    """One set for all three experiments, chosen on seeds from 1000 up; epochs alone
    differs, as in the paper."""

    epochs: int = 10
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
    """The network: two output channels, given at each of two steps."""
    return RecurrentUNet(1, 2, s.width, s.depth, generator=generator)


def decide(net, images):
    """Images (n, 1, H, W) -> probabilities (n, D = 2 steps, 2 instances, H, W)."""
    return torch.sigmoid(net(images))


def train(s, seed, device):
    """Train a new network. Returns it and its history, a list of rows for the JSON."""
    net = build(s, torch.Generator().manual_seed(seed))
    net = net.to(device, memory_format=torch.channels_last)  # faster on a CPU
    optimiser = torch.optim.Adam(net.parameters(), s.learning_rate, fused=True)
    generator = torch.Generator(device).manual_seed(seed + data.SEEDS)
    steps = s.epochs * s.steps_per_epoch
    history, start = [], time.perf_counter()
    for step in range(1, steps + 1):
        images, parts = data.sample(s.batch, generator, s.shape, s.noise)
        masks = decide(net, images)  # (n, D, 2, H, W)
        scores = data.score(masks, data.groupings(parts))  # (n, D, 2 truths)
        best = data.soft_maximum(scores, s.beta)  # (n, 2), better one for each truth
        loss = -(s.m * best[:, 0] + (1 - s.m) * best[:, 1]).mean()  # Eq. 1 if D is 1
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        # These images were new to the network, so its masks of them are a fair test of
        # what it was before this step.
        epoch_ends = step % s.steps_per_epoch == 0
        if epoch_ends or (step - 1) % max(1, steps // 100) == 0:
            row = {"epoch": step / s.steps_per_epoch, "step": step, "loss": loss.item()}
            row["seconds"] = time.perf_counter() - start
            history.append(row | data.measure(masks, parts, s.m))
        if epoch_ends:
            print(data.describe(history[-1]), flush=True)
    return net, history


@torch.no_grad()
def evaluate(net, s, seed, device):
    """Test on images from a stream of their own: (images, parts, masks, measured)."""
    generator = torch.Generator(device).manual_seed(seed + 2 * data.SEEDS)
    images, parts = data.sample(s.held_out, generator, s.shape, s.noise)
    masks = decide(net, images)
    return images, parts, masks, data.measure(masks, parts, s.m)


def plot(s, history, images, parts, masks, measured, ceiling):
    """Fig. 4 with recurrence: both decisions painted, their scores over training.

    Returns a Figure.
    """
    fig = Figure(figsize=(13, 5), layout="constrained")
    left, right = fig.subfigures(1, 2, width_ratios=(1.1, 1))
    data.gallery(left, images, parts, masks)
    data.plot_scores(right.subplots(), history, ceiling)
    first, second = (d["outcome"] for d in measured["decisions"])
    outcomes = f"the first is {first}, the second {second}"
    fig.suptitle(f"Two decisions in sequence, by a recurrent U-Net: {outcomes}")
    return fig


def main():
    args = data.experiment_arguments(__doc__, Settings.epochs)
    s, start = Settings(epochs=args.epochs), time.perf_counter()
    net, history = train(s, args.seed, args.device)
    images, parts, masks, measured = evaluate(net, s, args.seed, args.device)
    sizes = s.shape.P, s.shape.P, s.shape.b, s.m
    ceiling = max(theory.I_G_at_0(*sizes), theory.I_G_at_1(*sizes))  # Theorem 3.1
    paper = "one left, one right", f"above the ceiling, {ceiling:.3f}", "all"
    data.print_table(measured, *paper)
    numbers = {"experiment": "exp_recurrent", "seed": args.seed, "epochs": s.epochs}
    numbers |= {"device": args.device, "seconds": time.perf_counter() - start}
    numbers |= {"settings": asdict(s), "ceiling": ceiling}
    numbers |= {"ceiling_broken_at": data.broken_at(history, ceiling), **measured}
    fig = plot(s, history, images, parts, masks, measured, ceiling)
    theory.save(fig, numbers | {"history": history}, args.out, "exp_recurrent")


if __name__ == "__main__":
    theory.script(main)
