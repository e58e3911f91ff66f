"""Train decisions with a loss, to see whether they land where predict says.

The images are those of data.py. The loss sees both groupings of each image."""

import torch

import data
from beyond import runs, sweep


def with_zero(logits):
    """Return logits (..., 2, H, W) with a background of 0 before them, (..., 3, H, W)."""
    return torch.cat((torch.zeros_like(logits[..., :1, :, :]), logits), -3)


def decide(net, images, u):
    """Return the logits (n, D decisions, 2, H, W) of images (n, 1, H, W), as the loss u is
    called with them, and their probabilities (n, D, 2, H, W). Where u is exclusive the
    logits have the background before them, (n, D, 3, H, W)."""
    logits = net(images)
    if logits.ndim == 4:
        logits = logits.unflatten(1, (-1, 2))
    if not u.exclusive:
        return logits, logits.sigmoid()
    logits = with_zero(logits)
    return logits, logits.softmax(2)[:, :, 1:]


def objective(u, logits, truths, rule="hard"):
    """Return the loss u of decisions (n, D, 2 or 3, H, W) with truths (n, G, 2, H, W).

    Of several decisions the better one counts for each image and truth or, if the rule
    is "matched", the better pairing of two with two. Both choices are hard, as the losses
    differ in scale."""
    n, D = logits.shape[:2]
    G = truths.shape[1]
    if D == 1:
        chosen = logits.expand(-1, G, -1, -1, -1)
    else:
        best = choice(costs(u, logits.detach(), truths), rule)  # (n, G)
        images = torch.arange(n, device=best.device)[:, None]
        chosen = logits[images, best]  # (n, G, 2 or 3, H, W)
    return u(chosen.flatten(0, 1), truths.flatten(0, 1))


def costs(u, logits, truths):
    """Return the loss u, (n, D, G), of each decision (n, D, 2 or 3, H, W) with each truth
    (n, G, 2, H, W)."""
    D, G = logits.shape[1], truths.shape[1]
    logits = logits.repeat_interleave(G, 1).flatten(0, 1)  # (n D G, 2 or 3, H, W)
    truths = truths.repeat(1, D, 1, 1, 1).flatten(0, 1)  # (n D G, 2, H, W)
    alone = torch.vmap(lambda z, t: u(z[None], t[None]))(logits, truths)
    return alone.view(-1, D, G)


def choice(costs, rule):
    """Return which decision each truth takes, (n, G), of costs (n, D, G): the better one
    or, if the rule is "matched", that of the better pairing of two with two."""
    if rule != "matched":
        return costs.argmin(1)
    straight = costs[:, 0, 0] + costs[:, 1, 1]
    crossed = costs[:, 0, 1] + costs[:, 1, 0]
    return torch.stack((straight > crossed, straight <= crossed), 1).long()


def loss_of(u, net, s, generator, rule="hard"):
    """Draw a batch with Settings s and return the loss of a network, see objective."""
    images, parts = data.sample(s.batch, generator, s.shape, s.noise)
    logits, _ = decide(net, images, u)
    return objective(u, logits, data.groupings(parts), rule)


def train(u, net, s, seed, device, rule="hard"):
    """Train a network with a loss and Settings s, and test it. Returns the end of a row:
    shares are those of the common region that each decision gives left and right, and
    outcome is what masks cut at 1/2 are. FloatingPointError: the loss is not finite."""
    net = net.to(device, memory_format=torch.channels_last)
    optimiser = torch.optim.Adam(net.parameters(), s.learning_rate, fused=True)
    generator = data.stream(seed, "training", device)
    steps = s.epochs * s.steps_per_epoch

    def batch_loss(progress):
        return loss_of(u, net, s, generator, rule)

    seconds = sweep.train(net, optimiser, batch_loss, steps)
    images, parts = runs.held_out(s, seed, device)
    with torch.no_grad():
        _, masks = decide(net, images, u)
    cut = data.measure((masks > 0.5).float(), parts)
    decisions = data.measure(masks, parts)["decisions"]
    return {
        "seconds": seconds,
        "outcome": " + ".join(sorted(d["outcome"] for d in cut["decisions"])),
        "oracle_exact": cut["oracle_exact"],
        "found": cut["oracle_exact"] >= runs.FOUND,
        "shares": [[d["common_left"], d["common_right"]] for d in decisions],
    }


def train_single(u, seed, steps, device="cpu"):
    """Train the U-Net of unet.py with a loss for so many training steps, see train."""
    s = runs.Settings(epochs=1, steps_per_epoch=steps)
    net = runs.SINGLE.build(s, data.stream(seed, "weights"))
    return train(u, net, s, seed, device)
