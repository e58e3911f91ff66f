"""Is it an equilibrium? Ten finished pairs of heads, pushed away from where they end.

The paper calls the end of two heads, one "both" and one that has learned nothing,
analogous to a Nash equilibrium to which any perturbation returns. Here pairs of heads are
trained as exp_dual.py does. Then a pair is pushed: all of its weights or those of the
idle head get noise, or that head alone is trained to "left" on features that stay as they
are. Then both train on.

python -m beyond.equilibrium prints the payoffs and what became of the recorded pairs.
--seeds trains what is missing.
"""

import copy
import time
from collections import Counter

import torch

import data
from beyond import runs, shares, stats, sweep
from beyond.networks import decide

AFTER = 400  # training steps after a push, and of the idle head alone
PUSHES = {  # the name of a push in rows, and its words; noise is in spreads of a tensor
    "none": "nothing",
    "all 0.01": "noise on all weights, 0.01",
    "all 0.1": "noise on all weights, 0.1",
    "all 0.3": "noise on all weights, 0.3",
    "all 1.0": "noise on all weights, 1",
    "idle 0.1": "noise on the idle head, 0.1",
    "idle 1.0": "noise on the idle head, 1",
    "idle 10.0": "noise on the idle head, 10",
    "left": 'the idle head trained to "left"',
}
ENDS = ("stays", "returns", "ends elsewhere", "finds both groupings")

VARIANTS = {"heads": runs.NETWORKS["dual"]}


def train(variant, net, optimiser, generator, settings, steps):
    """Train both heads, as exp_dual.py does."""

    def batch_loss(progress):
        return runs.loss(variant, net, settings, generator)

    sweep.train(net, optimiser, batch_loss, steps)


def train_to_left(net, idle, generator, s):
    """Train the last layer, so that the head of this number (0 or 1) gives the common
    region to the left instance. The other head has no part in the loss."""
    last_layer = [net.head.weight, net.head.bias]
    optimiser = torch.optim.Adam(last_layer, 10 * s.learning_rate)

    def batch_loss(progress):
        images, parts = data.sample(s.batch, generator, s.shape, s.noise)
        scores = data.score(decide(net, images), data.groupings(parts))  # (n, 2, 2)
        return -scores[:, idle, 0].mean()

    sweep.train(net, optimiser, batch_loss, AFTER)


@torch.no_grad()
def add_noise(weights, size, seed, idle=None):
    """Add Gaussian noise to tensors of weights, size times the spread of each, in one
    direction for all sizes. Where idle is the number of a head, the weights are those of
    the last layer, (4, ...), and the other head stays as it is."""
    stream = torch.Generator().manual_seed(seed + 3 * data.SEEDS)
    for weight in weights:
        noise = torch.randn(weight.shape, generator=stream).to(weight)
        if idle is not None:
            of_heads = noise.unflatten(0, (2, 2))  # (2 heads, 2 instances, ...)
            of_heads[1 - idle] = 0
        weight += size * weight.std() * noise


def push(net, name, idle, generator, settings, seed):
    """Push a network as PUSHES says. idle is the number of the idle head."""
    which, _, size = name.partition(" ")
    if which == "all":
        add_noise(net.parameters(), float(size), seed)
    if which == "idle":
        add_noise([net.head.weight, net.head.bias], float(size), seed, idle)
    if which == "left":
        train_to_left(net, idle, generator, settings)


@torch.no_grad()
def tested(net, settings, seed, device):
    """Return what the two heads end in on the test images, a list of two outcomes, and
    the share of pairs of an image and a grouping that are found."""
    images, parts = runs.held_out(settings, seed, device)
    measured = data.measure(decide(net, images), parts, settings.m)
    outcomes = [decision["outcome"] for decision in measured["decisions"]]
    return outcomes, measured["oracle_exact"]


def run(variant, seed, s, device):
    """Train two heads and, if one ends in "both" and one unlearned, push copies of them
    in every way and train these on. Returns the end of a row.

    after has for each of PUSHES the outcomes once the pair is pushed and at the end, and
    the share of pairs found then. Each copy goes on with the moments of Adam and with the
    images that would have come next.
    """
    begun = time.perf_counter()
    net, generator = variant.begin(s, seed, device)
    optimiser = variant.optimiser(net, s)
    train(variant, net, optimiser, generator, s, s.epochs * s.steps_per_epoch)
    ends, _ = tested(net, s, seed, device)
    after = {}
    if sorted(ends) == ["both", "unlearned"]:
        idle = ends.index("unlearned")
        for name in PUSHES:
            pushed = copy.deepcopy(net)
            images = torch.Generator(device)
            images.set_state(generator.get_state())
            push(pushed, name, idle, images, s, seed)
            middle, _ = tested(pushed, s, seed, device)
            again = variant.optimiser(pushed, s)
            again.load_state_dict(copy.deepcopy(optimiser.state_dict()))
            train(variant, pushed, again, images, s, AFTER)
            end, exact = tested(pushed, s, seed, device)
            after[name] = {"pushed": middle, "end": end, "oracle_exact": exact}
    seconds = round(time.perf_counter() - begun, 2)
    return {"outcome": " + ".join(sorted(ends)), "after": after, "seconds": seconds}


def end_of(after):
    """Return which of ENDS a pushed pair of both and unlearned comes to, by what its row
    says of the push."""
    if after["oracle_exact"] >= runs.FOUND:
        return "finds both groupings"
    if sorted(after["end"]) != ["both", "unlearned"]:
        return "ends elsewhere"
    return "stays" if sorted(after["pushed"]) == sorted(after["end"]) else "returns"


def payoffs_table():
    """Return what two decisions score together for b = P and m = 1/2, in Markdown. The
    equilibria are bold."""
    nash = shares.equilibria(1, 1, 0.5)
    lines = []
    for first in shares.DECISIONS:
        line = [first]
        for second in shares.DECISIONS:
            score = f"{shares.payoff(first, second, 1, 1, 0.5):.2f}"
            line.append(f"**{score}**" if (first, second) in nash else score)
        lines.append(line)
    return stats.markdown(["", *shares.DECISIONS], lines)


def report(rows):
    """Return the text of the runs, see sweep. There is no figure."""
    pairs = [row for row in rows.values() if row.get("after")]
    ends = {}
    for name in PUSHES:
        ends[name] = Counter(end_of(row["after"][name]) for row in pairs)
    lines = []
    for name, words in PUSHES.items():
        lines.append([words] + [ends[name][end] for end in ENDS])
    idle = shares.payoff("both", "unlearned", 1, 1, 0.5)
    moved = shares.payoff("both", "left", 1, 1, 0.5)
    weight = float(shares.idle_weight(1.5, 100))
    answer = (
        "The end of two heads is no equilibrium: the idle head would gain, "
        f"{moved:g} for {idle:g}.\nYet where it is 1.5 behind, the maximum of sharpness "
        f"100 leaves it {weight:.0e} of the gradient."
    )
    of_payoffs = (
        "What two decisions score together (b = P, m = 1/2), the mean over groupings of "
        "the\nbetter one's score. Equilibria are bold."
    )
    of_pushes = (
        f"Of {len(rows)} pairs {len(pairs)} end in both + unlearned and are pushed. This "
        f"is what {AFTER} training steps\nmake of them. Noise is in spreads of each "
        "tensor of weights."
    )
    pushed = stats.markdown(["what is done", *ENDS], lines)
    texts = [answer, of_payoffs, payoffs_table(), of_pushes, pushed]
    return {}, "\n\n".join(texts)


QUESTION = sweep.Question(
    name="equilibrium",
    about=__doc__,
    variants=VARIANTS,
    run=run,
    loss=runs.loss,
    report=report,
    settings=runs.Settings(epochs=30),
    fixed=runs.FIXED | {"after": AFTER},
    default=("heads",),
    seeds=10,
)

if __name__ == "__main__":
    sweep.main(QUESTION)
