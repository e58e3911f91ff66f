"""Two decisions at once: the paper's Fig. 4 without recurrence.

A U-Net with four output channels makes two decisions; each truth is scored by the better of them, so the two groupings,
one each, would score 2. DOCSTRING
"""

import time
from dataclasses import asdict, dataclass

import torch
from matplotlib.figure import Figure

import data
import theory
from unet import UNet


@dataclass(frozen=True)
class Settings:
    """The same in all three experiments but for epochs, where they follow the paper; chosen on seeds from 1000 up."""

    epochs: int = 100
    steps_per_epoch: int = 32  # the paper does not say how long its epochs are
    batch: int = 8  # images a step, drawn anew each time: there is no training set to memorise
    learning_rate: float = 3e-3  # of Adam
    beta: float = 100.0  # sharpness of the differentiable maximum over the decisions
    m: float = 0.5  # prior probability that the left grouping is the true one; n = 1 - m
    noise: float = 0.1  # standard deviation of the images' noise, on a contrast of 1
    width: int = 12  # channels of the U-Net's first level
    depth: int = 2  # its poolings
    held_out: int = 256  # images of the final evaluation
    shape: data.Shape = data.Shape()  # sizes in pixels; P1 = P2 = b = 64


def decide(net, images):
    """The network's two decisions: images (n, 1, H, W) -> probabilities (n, 2 decisions, 2 instances, H, W)."""
    return torch.sigmoid(net(images)).unflatten(1, (2, 2))


def train(s, seed, device):
    """Train a new network with Settings s. Returns it and its history, about 100 rows of data.measure for the JSON."""
    net = UNet(1, 4, s.width, s.depth, generator=torch.Generator().manual_seed(seed))
    net = net.to(device, memory_format=torch.channels_last)  # a fifth faster on a CPU
    optimiser = torch.optim.Adam(net.parameters(), lr=s.learning_rate)
    generator = torch.Generator(device).manual_seed(seed + data.SEEDS)
    steps, history, start = s.epochs * s.steps_per_epoch, [], time.perf_counter()
    for step in range(steps):
        images, parts = data.sample(s.batch, generator, s.shape, s.noise)  # (n, 1, H, W), (n, 3, H, W)
        masks = decide(net, images)  # (n, D, 2, H, W)
        scores = data.score(masks, data.groupings(parts))  # (n, D, G): every decision against both truths
        best = data.soft_maximum(scores, s.beta)  # (n, G): each truth is scored by the decision that suits it
        loss = -(s.m * best[:, 0] + (1 - s.m) * best[:, 1]).mean()  # minus Eq. 1 where there is one decision
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        # The batch was new to the network, so its masks are a test; step counts the updates made before it.
        if step % max(1, steps // 100) == 0:
            row = {"epoch": step / s.steps_per_epoch, "step": step, "loss": loss.item()}
            history.append(row | data.measure(masks, parts))
        if (step + 1) % s.steps_per_epoch == 0:
            epoch, now = (step + 1) // s.steps_per_epoch, data.describe(data.measure(masks, parts))
            print(f"epoch {epoch:3}  loss {loss.item():.3f}  common region to: {now}  {time.perf_counter() - start:5.1f} s")
    return net, history


@torch.no_grad()
def evaluate(net, s, seed, device):
    """Images the network never saw, and what it makes of them: (images, parts, masks, data.measure of them)."""
    generator = torch.Generator(device).manual_seed(seed + 2 * data.SEEDS)
    images, parts = data.sample(s.held_out, generator, s.shape, s.noise)
    masks = decide(net, images)
    return images, parts, masks, data.measure(masks, parts)


def plot(history, images, parts, masks, measured, ceiling):
    """Fig. 4 without recurrence: both decisions painted, and their scores over training. Returns a Figure."""
    outcomes = " and ".join(d["outcome"] for d in measured["decisions"])
    fig = Figure(figsize=(13, 5), layout="constrained")
    left, right = fig.subfigures(1, 2, width_ratios=(1.1, 1))
    data.gallery(left, images, parts, masks, measured)
    ax = right.subplots()
    data.plot_scores(ax, history, ceiling)
    ax.set_title(f"both groupings found for {measured['oracle_exact']:.0%} of the images and truths", fontsize=10)
    fig.suptitle(f"Two decisions made at once by a U-Net: {outcomes}")
    return fig


def main():
    args = data.experiment_arguments(__doc__, Settings.epochs)
    s, start = Settings(epochs=args.epochs), time.perf_counter()
    net, history = train(s, args.seed, args.device)
    images, parts, masks, measured = evaluate(net, s, args.seed, args.device)
    seconds, ceiling = time.perf_counter() - start, theory.I_max(s.shape.P, s.shape.b)
    first, second = (d["outcome"] for d in measured["decisions"])
    data.print_table(
        [
            ("decision 1", "both", first),
            ("decision 2", "unlearned", second),
            ("score of the better decision", f"{ceiling:.3f} (both)", f"{measured['score']:.3f}"),
            ("groupings found (oracle_exact)", "0", f"{measured['oracle_exact']:.3f}"),
        ]
    )
    numbers = {"experiment": "exp_dual", "seed": args.seed, "epochs": s.epochs, "device": args.device,
               "seconds": seconds, "settings": asdict(s), "ceiling": ceiling, **measured, "history": history}  # fmt: skip
    theory.save(plot(history, images, parts, masks, measured, ceiling), numbers, args.out, "exp_dual")


if __name__ == "__main__":
    main()
