"""One form of a loss is tried, on a picture of our own.

A form fits if

1. perfect masks cost less in it than undecided ones,
2. the value stays when images change places, and when instances change places with
   their truths,
3. the value does not stay when the masks of two instances change places alone.

What the loss takes is found by values alone. It takes logits if perfect masks of -20
and 20 cost less than those of 0 and 1. Classes exclude one another, however they are
normalised, if the others no longer matter where the right one is raised by far."""

import itertools
import math
import os
import traceback
from dataclasses import replace
from enum import IntEnum
from pathlib import Path

import torch

from beyond.forms import EPS, TRUTHS, seeded, taken, with_background

STEADY = "it must draw its random numbers by torch, and hold a schedule still"
OURS = [str(Path(__file__).with_name(name)) for name in ("forms.py", "landscape.py")]
OURS.append(__file__)


class Reached(IntEnum):
    """How far a trial came. The message speaks of the form that came furthest."""

    RAISED = 0
    NOT_FINITE = 1
    UNSTEADY = 2
    NO_GAIN = 3
    LAYOUT = 4
    IMAGES = 5
    INSTANCES = 6  # It is known what the loss means: no other way to call it is tried.


class Misfit(ValueError):
    """A Form that a loss does not fit: how far it came, and why it came no further."""

    def __init__(self, u, reached, why):
        super().__init__(why)
        self.form = u.form
        self.reached = reached


def blame(error):
    """An exception in one line: its type, its text, and the line that raised it, where
    there is one outside of the installed libraries that line."""
    text = str(error).strip().partition("\n")[0]
    said = f"{type(error).__name__}: {text}".removesuffix(": ")
    frames = []
    for frame in traceback.extract_tb(error.__traceback__):
        if frame.filename not in OURS and not frame.filename.startswith("<"):
            frames.append(frame)
    if not frames:
        return text if isinstance(error, ValueError) else said
    libraries = os.path.dirname(os.path.dirname(torch.__file__))
    own = [f for f in frames if not f.filename.startswith(libraries)] or frames
    return f"{said} ({os.path.basename(own[-1].filename)}, line {own[-1].lineno})"


class Scene:
    """The picture on which forms are tried: images of 64 x 64, in which two instances
    lie above and below a common region that each of them owns in turn. Nearly all of it
    is background, and no instance fills its box."""

    def __init__(self, device="cpu"):
        truths = torch.zeros(4, 2, 64, 64, dtype=torch.float64, device=device)
        truths[:, 0, 24:28, 28:36] = 1
        truths[:, 0, 20:24, 32:36] = 1
        truths[:, 1, 40:44, 28:36] = 1
        truths[:, 1, 36:40, 32:36] = 1
        truths[0::2, 0, 28:36, 28:36] = 1
        truths[1::2, 1, 28:36, 28:36] = 1
        self.truths = truths
        noise = torch.rand(4, 2, 64, 64, generator=torch.Generator().manual_seed(0))
        strength = torch.linspace(0.15, 0.5, 8).view(4, 2, 1, 1).to(truths)
        # Masks of which no two are alike, neither perfect nor undecided.
        self.some = strength * (0.2 + noise.to(truths) / 3 + truths / 3)

    def inset(self, u):
        """Perfect predictions of nearly 0 and 1, whose channels keep their sum."""
        right = u.form.channels(self.truths)
        return EPS + (1 - right.shape[1] * EPS) * right

    def blurred(self, u, blur):
        """Perfect shares, (n, 2, 64, 64) or of an exclusive loss (n, 3, 64, 64), that
        are mixed with so much of undecided ones, 1/2 of a mask or 1/3 of a class."""
        if u.exclusive:
            return (1 - blur) * with_background(self.truths) + blur / 3
        return (1 - blur) * self.truths + blur / 2

    def cost(self, u, predictions, truths=None, seed=0):
        """What u.call returns by a seed, as a float. It is NaN if u.call raises."""
        truths = self.truths if truths is None else truths
        try:
            with torch.no_grad(), seeded(seed, truths):
                return u.call(predictions.to(u.dtype), truths.to(u.dtype)).item()
        except (Exception, SystemExit):  # noqa: BLE001 - whatever a loss may raise
            return math.nan

    def cost_of(self, u, shares, truths=None, seed=0):
        """The cost of shares as blurred returns them."""
        return self.cost(u, u.inputs(shares), truths, seed)

    def scaled(self, u, size):
        """The cost of perfect predictions of -size and size."""
        return self.cost(u, size * (2 * u.form.channels(self.truths) - 1))


def that_runs(u, scene):
    """u with the truths, the bits and the gradient inside with which it first runs.
    Misfit: it does not, or it is another loss at every call."""
    # 1/3 is a probability of either kind, masks or classes.
    undecided = torch.full_like(u.form.channels(scene.truths), 1 / 3)
    types = ["numbers"] if u.form.by_index else TRUTHS
    ways = itertools.product(types, (torch.float64, torch.float32), (False, True))
    reason = None
    for truth_type, dtype, inside in ways:
        way = replace(u, truth_type=truth_type, dtype=dtype, needs_gradient=inside)
        try:
            with torch.no_grad(), seeded(0, scene.truths):
                value = way.call(undecided.to(dtype), scene.truths.to(dtype)).item()
        except (Exception, SystemExit) as e:  # noqa: BLE001 - whatever it may raise
            reason = reason or blame(e)
            continue
        if not math.isfinite(value):
            raise Misfit(u, Reached.NOT_FINITE, f"it is not finite but {value}")
        again = scene.cost(way, undecided)
        if not math.isclose(value, again, rel_tol=1e-6, abs_tol=1e-12):
            why = f"it differs from call to call: {STEADY}"
            raise Misfit(u, Reached.UNSTEADY, why)
        return way
    raise Misfit(u, Reached.RAISED, reason)


def fades(u, scene):
    """Whether the other classes no longer matter where the right one has been raised by
    far, as it is if the loss normalises its channels."""
    right = u.form.channels(scene.truths)
    if right.shape[1] == 1:
        return False
    where = right[:, -2] == 1  # (n, 64, 64)
    effects = []
    for height in (0.0, 30.0):
        low = torch.zeros_like(right)
        low[:, -2] = height * where
        high = low.clone()
        high[:, -1] = 3.0 * where
        effects.append(abs(scene.cost(u, high) - scene.cost(u, low)))
    return effects[1] < 0.3 * effects[0]


def shift_free(u, scene):
    """Whether adding the same to all channels changes nothing, but doubling does."""
    x = u.form.channels(scene.truths) / 2 + torch.linspace(-1, 1, 64).to(scene.truths)
    here = scene.cost(u, x)
    shifted = abs(here - scene.cost(u, x + 0.7))
    doubled = abs(here - scene.cost(u, 2 * x))
    return shifted < 1e-5 * abs(here) < doubled


def rows_are_classes(u, scene):
    """Whether a loss, called without channels, is a softmax over rows or columns:
    adding the same to all pixels of a column, or of a row, changes nothing."""
    x = 0.5 + u.form.channels(scene.truths) / 3
    ramp = torch.linspace(0, 1, 64).to(x).expand_as(x)
    here = scene.cost(u, x)
    columns = abs(here - scene.cost(u, x + ramp))
    rows = abs(here - scene.cost(u, x + ramp.mT))
    return min(columns, rows) < 1e-5 * abs(here)


def reading(u, scene, logits):
    """u with what it takes. Misfit: its channels are not what the form means."""
    normalised = fades(u, scene)
    if normalised and not u.form.classes:
        why = "its channels exclude one another: it takes classes"
        raise Misfit(u, Reached.LAYOUT, why)
    if (u.form.flat or u.batch == "none") and rows_are_classes(u, scene):
        raise Misfit(u, Reached.LAYOUT, "it takes the rows of an image for classes")
    if logits == "auto":
        logits = "yes" if takes_logits(u, scene, normalised) else "no"
    if logits == "yes":
        return replace(u, input="logits", normalised=normalised)
    exclusive = getattr(u.loss, "exclusive", False)  # losses.py says it of its own
    return replace(u, input=bounded(u, scene), normalised=u.form.classes or exclusive)


def settled_inside(u, scene, part):
    """Whether perfect predictions of 0 and 1 cost less than a part of those of 1/2,
    which no loss of logits does, or more than all of it, as a score does."""
    right = scene.inset(u)
    inside = scene.cost(u, right)
    half = scene.cost(u, torch.full_like(right, 0.5))
    return inside > half or abs(inside) < part * abs(half)


def takes_logits(u, scene, normalised):
    """Whether perfect masks of -20 and 20 cost clearly less than those of 0 and 1. A
    softmax takes logits. A loss whose cost falls on in proportion does not."""
    if normalised and shift_free(u, scene):
        return True
    if settled_inside(u, scene, 0.01) or bounded(u, scene) == "log-probabilities":
        return False
    undecided = scene.scaled(u, 0)
    ten = scene.scaled(u, 10)
    twenty = scene.scaled(u, 20)
    if undecided > ten and ten - twenty > 0.8 * (undecided - ten):
        return False
    inside = scene.cost(u, scene.inset(u))
    return inside - twenty > 0.1 * (undecided - twenty) > 0


def bounded(u, scene):
    """Which of INPUTS but logits: of classes log-probabilities if perfect ones cost
    nothing, masks from -1 to 1 if these cost least, else probabilities."""
    if settled_inside(u, scene, 1e-3):
        return "probabilities"
    right = scene.inset(u)
    if not u.form.classes:
        one = scene.scaled(u, 1)
        less = scene.cost(u, right) - one > 0.1 * (scene.scaled(u, 0) - one) > 0
        return "signed" if less and scene.scaled(u, 3) > one else "probabilities"
    undecided = torch.full_like(right, 1 / right.shape[1])
    if abs(scene.cost(u, right.log())) < 1e-3 * scene.cost(u, undecided.log()):
        return "log-probabilities"
    return "probabilities"


def checked(u, scene):
    """u, which fits, with how it treats instances otherwise. Misfit: perfect masks do
    not cost least, a cost is not finite, or images do not count alike."""
    costs = {}
    for blur in (2e-6, 0.02, 0.2):  # label smoothing likes best what is not quite sure
        value = scene.cost_of(u, scene.blurred(u, blur))
        costs[blur] = math.inf if math.isnan(value) else value
    blur = min(costs, key=costs.get)
    least = costs[blur]
    most = scene.cost_of(u, scene.blurred(u, 1))
    gain = most - least
    if not math.isfinite(gain):
        why = "it is not finite where masks are perfect or undecided"
        raise Misfit(u, Reached.NOT_FINITE, why)
    if gain <= 1e-3 * max(abs(most), abs(least)):
        why = f"perfect masks cost {least:.4g}, undecided ones {most:.4g}"
        why += ": perfect ones must cost less"
        if least > most:
            why += " (write 1 - score for a score; --logits yes for logits)"
        raise Misfit(u, Reached.NO_GAIN, why)
    check_whose(u, scene, scene.blurred(u, blur), least + 1e-3 * gain)
    some = with_background(scene.some) if u.exclusive else scene.some
    margin = (1e-5 if u.dtype == torch.float64 else 1e-4) * gain
    if not alike(u, scene, some, some.roll(1, 0), scene.truths.roll(1, 0), margin):
        why = "images do not count alike: it must be a mean over images"
        raise Misfit(u, Reached.IMAGES, why)
    if alike(u, scene, some, turned(u, some), scene.truths.roll(1, 1), margin):
        return u
    return replace(u, asymmetry="it treats one instance otherwise than another")


def check_whose(u, scene, perfect, level):
    """Misfit: it does not matter which mask is whose, or how large a mask is."""
    if scene.cost_of(u, turned(u, perfect)) <= level:
        raise Misfit(u, Reached.INSTANCES, "it does not count which mask is whose")
    if u.form.classes or u.exclusive:
        return
    larger = torch.maximum(perfect, perfect.roll((5, 5), (2, 3)))
    everything = torch.full_like(perfect, perfect.max().item())
    if max(scene.cost_of(u, larger), scene.cost_of(u, everything)) <= level:
        raise Misfit(u, Reached.INSTANCES, "false alarms are free")


def turned(u, shares):
    """Shares whose instances have changed places."""
    return shares[:, [0, 2, 1]] if u.exclusive else shares.flip(1)


def alike(u, scene, shares, moved, moved_truths, margin):
    """Whether the value stays, but for a margin, when shares and truths have moved. The
    mean of a random loss stays, but for four standard errors."""
    here = draws(u, scene, shares, scene.truths)
    there = draws(u, scene, moved, moved_truths)
    variance = (here.var(correction=0) + there.var(correction=0)) / len(here)
    return abs(here.mean() - there.mean()) <= margin + 4 * variance.sqrt()


def draws(u, scene, shares, truths):
    """The costs of shares by one seed or, of a random loss, by sixteen."""
    first = scene.cost_of(u, shares, truths, 0)
    if first == scene.cost_of(u, shares, truths, 1):
        return torch.tensor([first]).double()
    values = [scene.cost_of(u, shares, truths, seed) for seed in range(16)]
    return torch.tensor(values).double()


def takes_of(u, scene):
    """Which of several results counts, see taken."""
    seen = []

    def watched(first, second):
        result = u.loss(first, second)
        seen.append(taken(result))
        return result

    scene.cost_of(replace(u, loss=watched), scene.blurred(u, 0.5))
    return seen[0]


def tried(u, scene, logits):
    """u, of which the form is known, with all that is to be known of how it is called.
    Misfit: the loss does not fit in this form."""
    u = checked(reading(that_runs(u, scene), scene, logits), scene)
    return replace(u, takes=takes_of(u, scene))
