"""How is a loss called? Found out by trying.

All FORMS are tried, on a picture of our own, and all that fit are kept. A form fits if

1. perfect masks cost less in it than undecided ones,
2. the value stays when images change places, and when instances change places with
   their truths,
3. the value does not stay when the masks of two instances change places alone.

What the loss takes is found by values alone. It takes logits if perfect masks of -20
and 20 cost less than those of 0 and 1. Classes exclude one another, however they are
normalised, if the others no longer matter where the right one has been raised by far.

A form that treats instances otherwise is kept only if no other fits, and says so. A
loss that works with any number of channels is read with one channel an instance."""

import inspect
import math
import os
import re
import traceback
from dataclasses import replace
from pathlib import Path

import torch

from beyond.forms import (
    BATCHES,
    CLASSES,
    DEPTH,
    EPS,
    FORMS,
    INDICES,
    MASKS,
    PAIRS,
    TRUTHS,
    Understood,
    seeded,
    taken,
    with_background,
)

ORDERS = ("auto", "pred-first", "truth-first")
STEADY = "it must draw its random numbers by torch, and hold a schedule still"

# What names of arguments say; the short ones are words of their own: y_gt, not length.
TRUTH = re.compile("true|truth|target|label|annot|(^|_)(gt|ref)(_|$)|^[ty]$")
PREDICTION = re.compile("pred|input|logit|output|prob|score|(^|_)hat(_|$)|^[pxz]$")
OURS = [str(Path(__file__).with_name(f"{name}.py")) for name in ("forms", "predict")]
OURS.append(__file__)

# How far a trial came: the message speaks of the form that came furthest. From
# INSTANCES on it is known what the loss means: no other way to call it is tried.
RAISED, NOT_FINITE, NO_GAIN, LAYOUT, IMAGES, INSTANCES, SCORE = range(7)


class Misfit(ValueError):
    """A form that a loss does not fit: how far it came, and why it came no further."""

    def __init__(self, reached, why):
        super().__init__(why)
        self.reached = reached
        self.form = ""


def further(one, other):
    """The one of two Misfits that came further, of which the first may be None."""
    return other if one is None or other.reached > one.reached else one


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
    """The picture on which forms are tried: images of 64 x 64, in which K instances lie
    above and below a common region that each of them owns in turn. Nearly all of it is
    background, and no instance fills its box."""

    def __init__(self, K, device="cpu"):
        columns = (K + 1) // 2
        left = 32 - 4 * columns
        own = torch.zeros(K, 64, 64, dtype=torch.float64, device=device)
        common = torch.zeros(64, 64, dtype=torch.float64, device=device)
        common[28:36, left : left + 8 * columns] = 1
        for k in range(K):
            top = 20 + 16 * (k % 2)
            x = left + 8 * (k // 2)
            own[k, top : top + 8, x : x + 8] = 1
            own[k, top : top + 4, x : x + 4] = 0
        owners = torch.eye(K, device=device).repeat(2, 1)  # twice: n is not K + 1
        self.K = K
        self.truths = own + owners[:, :, None, None] * common  # (n, K, 64, 64)
        noise = torch.rand(2 * K, K, 64, 64, generator=torch.Generator().manual_seed(0))
        strength = torch.linspace(0.3, 1, 2 * K * K).view(2 * K, K, 1, 1).to(own)
        # Masks of which no two are alike, neither perfect nor undecided.
        self.some = strength * (0.2 + noise.to(own) / 3 + self.truths / 3) / K

    def channels(self, u):
        """Perfect predictions of 0 and 1, in as many channels as the form has."""
        if u.form in CLASSES:
            return with_background(self.truths)
        if u.form in PAIRS:
            return torch.stack((1 - self.truths, self.truths), 2).flatten(0, 1)
        return self.truths

    def inset(self, u):
        """Perfect predictions of nearly 0 and 1, whose channels add up to what they
        did."""
        right = self.channels(u)
        return EPS + (1 - right.shape[1] * EPS) * right

    def blurred(self, u, blur):
        """Perfect shares, (n, K, 64, 64) or of an exclusive loss (n, K + 1, 64, 64),
        that are mixed with so much of undecided ones."""
        if u.exclusive:
            return (1 - blur) * with_background(self.truths) + blur / (self.K + 1)
        return (1 - blur) * self.truths + blur / 2

    def cost(self, u, predictions, truths=None, seed=0):
        """What u.call returns as a float, NaN if it raises anything. A random loss
        draws by seed."""
        truths = self.truths if truths is None else truths
        try:
            with torch.no_grad(), seeded(seed, truths):
                return u.call(predictions.to(u.kind), truths.to(u.kind)).item()
        except (Exception, SystemExit):  # noqa: BLE001 - whatever a loss may raise
            return math.nan

    def cost_of(self, u, shares, truths=None, seed=0):
        """The cost of shares as blurred returns them."""
        return self.cost(u, u.inputs(shares), truths, seed)

    def scaled(self, u, *sizes):
        """The costs of perfect predictions of -s and s, {s: cost}."""
        signs = 2 * self.channels(u) - 1
        return {s: self.cost(u, s * signs) for s in sizes}


def that_runs(u, scene):
    """u with 64 bits or 32, and with or without a gradient inside, as it first runs.
    Misfit: it does not. ValueError: it is another loss at every call."""
    undecided = torch.full_like(scene.channels(u), 1 / (scene.K + 1))
    reason = None
    for kind in (torch.float64, torch.float32):
        for needs_gradient in (False, True):
            tried = replace(u, kind=kind, needs_gradient=needs_gradient)
            try:
                with torch.no_grad(), seeded(0, scene.truths):
                    value = tried.call(undecided.to(kind), scene.truths.to(kind)).item()
            except (Exception, SystemExit) as e:  # noqa: BLE001 - whatever it may raise
                reason = reason or blame(e)
                continue
            if not math.isfinite(value):
                raise Misfit(NOT_FINITE, f"it is not finite but {value}")
            again = scene.cost(tried, undecided)
            if not math.isclose(value, again, rel_tol=1e-6, abs_tol=1e-12):
                raise ValueError(f"the loss differs from call to call: {STEADY}")
            return tried
    raise Misfit(RAISED, reason)


def fades(u, scene):
    """Whether the other classes no longer matter where the right one has been raised by
    far, as it is if the loss normalises its channels."""
    right = scene.channels(u)
    first, second = (1, 2) if u.form in CLASSES else (0, 1)
    where = right[:, first] == 1  # (n, 64, 64)
    effects = []
    for height in (0.0, 30.0):
        low = torch.zeros_like(right)
        low[:, first] = height * where
        high = low.clone()
        high[:, second] = 3.0 * where
        effects.append(abs(scene.cost(u, high) - scene.cost(u, low)))
    return effects[1] < 0.3 * effects[0]


def shift_free(u, scene):
    """Whether adding the same to all channels changes nothing, but twice as much
    does."""
    x = scene.channels(u) / 2 + torch.linspace(-1, 1, 64).to(scene.truths)
    here = scene.cost(u, x)
    shifted = abs(here - scene.cost(u, x + 0.7))
    doubled = abs(here - scene.cost(u, 2 * x))
    return shifted < 1e-5 * abs(here) < doubled


def rows_are_classes(u, scene):
    """Whether a loss, called without channels, is a softmax over rows or columns:
    adding the same to all pixels of a column, or of a row, changes nothing."""
    x = 0.5 + scene.channels(u) / 3
    steepness = torch.arange(1, x.shape[1] + 1).to(x)  # of each channel its own
    ramp = steepness[:, None, None] * torch.linspace(0, 1, 64).to(x).expand_as(x)
    here = scene.cost(u, x)
    columns = abs(here - scene.cost(u, x + ramp))
    rows = abs(here - scene.cost(u, x + ramp.mT))
    return min(columns, rows) < 1e-5 * abs(here)


def wants_object_twice(u, scene):
    """Whether a loss wants both channels, of background and object, to be the
    object."""
    right = scene.inset(u)
    return scene.cost(u, right[:, 1:].expand_as(right)) < scene.cost(u, right)


def readings(u, scene, logits):
    """What a loss may take, a list of Understood, the likelier one first. Misfit: its
    channels are not what the form means."""
    normalised = fades(u, scene)
    if u.form in MASKS and normalised:
        raise Misfit(LAYOUT, "its channels exclude one another: it takes classes")
    if u.form in PAIRS and wants_object_twice(u, scene):
        raise Misfit(LAYOUT, "it takes one mask, not background and object")
    if rows_are_classes(u, scene):
        raise Misfit(LAYOUT, "it takes the rows of an image for classes")
    u = replace(u, softmax=normalised and shift_free(u, scene))
    of_logits = replace(u, input="logits", exclusive=normalised and u.form in CLASSES)
    if logits == "yes" or (u.softmax and logits == "auto"):
        return [of_logits]
    bounded = replace(u, input=bounded_input(u, scene), exclusive=u.form in CLASSES)
    if u.form in MASKS:  # losses.py says it of its own
        bounded = replace(bounded, exclusive=getattr(u.loss, "exclusive", False))
    if logits == "no" or bounded.input == "log-probabilities":
        return [bounded]
    scale = logit_scale(u, scene)
    if scale == 20:
        return [of_logits]
    if scale == 0 or normalised:  # a Taylor softmax grows on both sides
        return [bounded]
    if "logit" in " ".join(arguments(u.loss)):
        return [of_logits]
    return [of_logits, bounded]


def settled_inside(u, scene, part):
    """Whether perfect predictions of 0 and 1 cost next to nothing, which no loss of
    logits does, or more than those of 1/2, as a score does. part is how little is
    nothing."""
    inside = scene.cost(u, scene.inset(u))
    half = scene.cost(u, torch.full_like(scene.channels(u), 0.5))
    return inside > half or abs(inside) < part * abs(half)


def logit_scale(u, scene):
    """20 if perfect masks of -20 and 20 cost clearly less than those of 0 and 1, 3 if
    only those of -3 and 3 do, 0 if neither. A loss whose cost falls on in proportion is
    none of logits."""
    if settled_inside(u, scene, 0.01):
        return 0
    at = scene.scaled(u, 0, 3, 10, 20)
    if at[0] > at[10] and at[10] - at[20] > 0.8 * (at[0] - at[10]):
        return 0
    inside = scene.cost(u, scene.inset(u))
    for scale in (20, 3):
        if inside - at[scale] > 0.1 * (at[0] - at[scale]) > 0:
            return scale
    return 0


def bounded_input(u, scene):
    """Which of INPUTS but logits: of classes log-probabilities if these cost nothing
    where they are perfect, masks from -1 to 1 if these cost least, else
    probabilities."""
    if u.softmax or settled_inside(u, scene, 1e-3):
        return "probabilities"
    right = scene.inset(u)
    if u.form in MASKS:
        at = scene.scaled(u, 0, 1, 3)
        less = scene.cost(u, right) - at[1] > 0.1 * (at[0] - at[1]) > 0
        return "signed" if less and at[3] > at[1] else "probabilities"
    undecided = torch.full_like(right, 1 / right.shape[1])
    if abs(scene.cost(u, right.log())) < 1e-3 * scene.cost(u, undecided.log()):
        return "log-probabilities"
    return "probabilities"


def checked(u, scene):
    """u, which fits, with what it takes and how it treats instances otherwise.
    Misfit."""
    costs = {}
    for blur in (2e-6, 0.02, 0.2):  # label smoothing likes best what is not quite sure
        value = scene.cost_of(u, scene.blurred(u, blur))
        costs[blur] = math.inf if math.isnan(value) else value
    blur = min(costs, key=costs.get)
    least, most = costs[blur], scene.cost_of(u, scene.blurred(u, 1))
    gain, size = most - least, max(abs(most), abs(least))
    if not math.isfinite(gain):
        said = "it is not finite where masks are perfect or undecided"
        raise Misfit(NOT_FINITE, said)
    perfect = scene.blurred(u, blur)
    said = f"perfect masks cost {least:.4g}, undecided ones {most:.4g}"
    if gain < -1e-3 * size and u.form in MASKS:
        hint = "write 1 - score for a score; --logits yes for logits"
        raise Misfit(SCORE, f"{said}: perfect ones must cost less ({hint})")
    if gain <= 1e-3 * size:
        raise Misfit(NO_GAIN, f"{said}: perfect ones must cost less")
    check_whose(u, scene, perfect, least + 1e-3 * gain)
    some = with_background(scene.some) if u.exclusive else scene.some
    exact = (1e-5 if u.kind == torch.float64 else 1e-4) * gain
    if not alike(u, scene, some, some.roll(1, 0), scene.truths.roll(1, 0), exact):
        raise Misfit(IMAGES, "images do not count alike: it must be a mean over images")
    u = replace(u, takes=takes_of(u, scene))
    if alike(u, scene, some, turned(u, some), scene.truths.roll(1, 1), exact):
        return u
    return replace(u, asymmetry="it treats one instance otherwise than another")


def check_whose(u, scene, perfect, level):
    """Misfit: it does not matter which mask is whose, or how large a mask is."""
    if scene.cost_of(u, turned(u, perfect)) <= level:
        raise Misfit(INSTANCES, "it does not count which mask is whose")
    if u.form not in MASKS or u.exclusive:
        return
    larger = torch.maximum(perfect, perfect.roll((5, 5), (2, 3)))
    everything = torch.full_like(perfect, perfect.max().item())
    if max(scene.cost_of(u, larger), scene.cost_of(u, everything)) <= level:
        raise Misfit(INSTANCES, "false alarms are free")


def turned(u, shares):
    """Shares whose instances have changed places."""
    if u.exclusive:
        return torch.cat((shares[:, :1], shares[:, 1:].roll(1, 1)), 1)
    return shares.roll(1, 1)


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
    return seen[0] if seen else ""


def fitting_in(u, scene, logits):
    """All that a loss may be in one form, a list of Understood. Misfit: nothing."""
    found, misfit = [], None
    for v in readings(that_runs(u, scene), scene, logits):
        try:
            found.append(checked(v, scene))
        except Misfit as e:
            misfit = further(misfit, e)
    if not found:
        raise misfit
    return found


def fitting_truths(u, scene, logits):
    """The same with the first kind of truths that fits: numbers, booleans or
    integers."""
    misfit, kinds = None, list(TRUTHS)
    if u.form in INDICES:
        kinds = ["numbers"]
    for kind in kinds:
        try:
            return fitting_in(replace(u, truths=kind), scene, logits)
        except Misfit as e:
            misfit = further(misfit, e)
    misfit.form = u.form
    raise misfit


def needless(form, fitting):
    """Whether there is no need to try a form, since the loss fits as masks: it differs
    by the number of channels alone, or has indices where masks are boolean."""
    masks = [u for u in fitting if u.form in MASKS and not u.asymmetry]
    if not masks:
        return False
    if form in INDICES:
        return masks[0].truths == "booleans"
    return form in MASKS or masks[0].form == "masks"


def kept(fitting):
    """Of all that fit those that differ by more than the number of channels: a loss of
    classes also works on background and object."""
    masks = first_of(fitting, ("masks",))
    one_by_one = first_of(fitting, ("single", "single-flat", "squeezed"))
    one_hot = first_of(fitting, ("one-hot", "one-hot-last"))
    indices = first_of(fitting, ("indices", "channel", "indices-last"))
    pairs = first_of(fitting, PAIRS)
    if one_hot or indices:
        pairs = []
    return masks + one_hot + indices + one_by_one + pairs


def first_of(fitting, forms):
    """Those that fit in the first of these forms in which any does."""
    for form in forms:
        found = [u for u in fitting if u.form == form]
        if found:
            return found
    return []


def search(first, scene, forms, logits):
    """All that a loss may be, a list of Understood: of a batch of images or, where
    these do not tell, of one image at a time, or of volumes. What treats one instance
    otherwise counts if nothing else fits. Misfit: nothing fits."""
    fitting, misfit = [], None
    for depth in (0, DEPTH):
        for batch in BATCHES:
            for form in forms:
                u = replace(first, form=form, batch=batch, depth=depth)
                if needless(form, fitting):
                    continue
                try:
                    fitting += fitting_truths(u, scene, logits)
                except Misfit as e:
                    misfit = further(misfit, e)
            even = [u for u in fitting if not u.asymmetry]
            if even:
                return kept(even)
            if fitting:
                return kept(fitting)[:1]
            if misfit.reached >= INSTANCES:
                raise misfit
    raise misfit


def arguments(loss):
    """The names of a loss's first two arguments in lower case, "" where they have none.
    ValueError: it cannot be called with two arguments."""
    function = loss.forward if isinstance(loss, torch.nn.Module) else loss
    try:
        signature = inspect.signature(function)
        names = list(signature.parameters)
        signature.bind(None, None)
    except TypeError as e:
        text = f"the loss must take a prediction and a truth, but {e}"
        raise ValueError(f"{text}; write def f(pred, target): return ...") from None
    except ValueError:  # no signature: not written in Python
        names = []
    first, second, *_ = [*names, "", ""]
    return [words_of(first), words_of(second)]


def words_of(name):
    """A name like yTrue as y_true."""
    return re.sub("(?<=[a-z])(?=[A-Z])", "_", name).lower()


def orders_of(loss, order):
    """Whether the truth is the first argument, a list of what is to be tried. The names
    say it; where they do not, both are tried."""
    first, second = arguments(loss)
    if order != "auto":
        return [order == "truth-first"]
    first_says = bool(TRUTH.search(first)) - bool(PREDICTION.search(first))
    second_says = bool(TRUTH.search(second)) - bool(PREDICTION.search(second))
    if first_says == second_says:
        return [False, True]
    return [first_says > second_says]


def loss_of(thing, device):
    """A loss as a function, of a function, a module, or a class of one. ValueError."""
    if inspect.isclass(thing):
        try:
            thing = thing()
        except TypeError as e:
            text = f"write f = {thing.__name__}(...) and name f, no class"
            raise ValueError(f"{e}: {text}") from None
    if not callable(thing):
        raise ValueError(f"the loss must be a function, got {thing!r}")  # noqa: TRY004
    if isinstance(thing, torch.nn.Module):
        thing.to(device)
    return thing


def understand(loss, K=2, device="cpu", logits="auto", classes="auto", order="auto"):
    """All that a loss of K instances may be, a list of Understood, the likeliest first.
    logits is yes, no or auto; classes is one of FORMS or auto; order is one of ORDERS.
    ValueError: an option is none of these, or no form fits."""
    if logits not in ("auto", "yes", "no"):
        raise ValueError(f"logits must be auto, yes or no, got {logits!r}")
    if classes != "auto" and classes not in FORMS:
        forms = ", ".join(FORMS)
        raise ValueError(f"classes must be auto or one of {forms}, got {classes!r}")
    if order not in ORDERS:
        raise ValueError(f"order must be one of {', '.join(ORDERS)}, got {order!r}")
    loss, scene = loss_of(loss, device), Scene(K, device)
    forms = FORMS if classes == "auto" else (classes,)
    found, misfit = [], None
    for truth_first in orders_of(loss, order):
        first = Understood(loss, truth_first=truth_first)
        try:
            found.append(search(first, scene, forms, logits))
        except Misfit as e:
            misfit = further(misfit, e)
    if len(found) == 2:
        check_orders(found[0][0], found[1][0], scene)
    if found:
        return found[0]
    text = f"the loss does not fit as {FORMS[misfit.form]}: {misfit}"
    if misfit.reached == RAISED:
        text += "; write def f(pred, target): return loss(...)"
    raise ValueError(text)


def check_orders(one, other, scene):
    """ValueError: it matters which argument is the truth, and nothing says which is."""
    here = scene.cost_of(one, scene.blurred(one, 0.3))
    there = scene.cost_of(other, scene.blurred(other, 0.3))
    if not math.isclose(here, there, rel_tol=1e-5):
        text = "either argument may be the truth: name them pred and target"
        raise ValueError(f"{text} (or --order {' or '.join(ORDERS[1:])})")
