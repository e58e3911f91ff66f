"""What does a loss do with a region that any of K instances could own? Said without training.

predict looks at the mean of a loss over the truths while the shares of the common region
change; understand finds out by trying how the loss is called; from_masks takes two masks of
one's own. Copied alone this file needs torch.

How a loss is understood:
1. Order. The parameters' names say which argument is the truth (true, target, gt, label) and
   which the prediction (pred, input, logit, output); where they do not, both orders are tried.
2. Classes. The FORMS are tried from the first to the last. One fits if perfect masks cost less
   in it than undecided ones, if every instance and image counts, and if it matters whose mask is
   whose. If perfect masks cost more in the first form, it is a score, and no other is tried.
   Channels that are a softmax (adding as much to all changes nothing), or probabilities of which
   false alarms are free, are classes.
3. Input. The loss takes logits if it has a softmax, or if perfect masks cost clearly less as -20
   and 20 than as 0 and 1, and the same as -40 and 40, or, where that is vague, by its name; else,
   of classes only, log-probabilities if these cost nothing where perfect; else probabilities.
4. Draws. A loss that is random is the mean of DRAWS, always the same; shares whose costs differ
   by less than three standard errors are as good as one another.
5. A loss is exclusive, so that the shares of a pixel add up to 1 at most, if it takes classes
   (but those of sigmoids), if it is not defined where masks overlap, or says loss.exclusive = True.
"""

import inspect
import math
import os
import re
import traceback
from dataclasses import dataclass, field, replace

import torch

EPS = 1e-6  # probabilities are from EPS to 1 - EPS
DRAWS = 64  # of a loss that is random
ORDERS = "auto", "pred-first", "truth-first"
FORMS = {
    "masks": "masks (n, K, H, W)",
    "one-hot": "classes (n, K + 1, H, W), the background first",
    "indices": "classes (n, K + 1, H, W) with truths (n, H, W)",
    "channel": "classes (n, K + 1, H, W) with truths (n, 1, H, W)",
    "single": "one mask at a time, (n K, 1, H, W)",
    "single-flat": "one mask at a time, (n K, 1, H, W) with truths (n K, H, W)",
    "squeezed": "one mask at a time, (n K, H, W)",
}
# What names of arguments say; the short ones are words of their own: y_gt, not length.
TRUTH = re.compile("true|truth|target|label|annot|(^|_)(gt|ref)(_|$)|^[ty]$")
PREDICTION = re.compile("pred|input|logit|output|prob|score|(^|_)hat(_|$)|^[pxz]$")


def pair():
    """The parts (3, 32, 32) of the pair of data.py: left own part, common region, right own
    part, of 64 pixels each."""
    left, common = torch.zeros(2, 32, 32)
    left[11:21, 4:10] = left[15:17, 10:12] = common[12:20, 12:20] = 1
    return torch.stack((left, common, left.flip(-1)))


def from_masks(mask_a, mask_b):
    """The parts (3, H, W) of two masks (H, W), 0 where off: what only a has, what both have,
    what only b has. ValueError: the masks do not fit, or one of the parts is empty."""
    a, b = (torch.as_tensor(mask) != 0 for mask in (mask_a, mask_b))
    if a.ndim != 2 or a.shape != b.shape:
        shapes = f"{tuple(a.shape)} and {tuple(b.shape)}"
        raise ValueError(f"mask_a and mask_b must both be (H, W), got {shapes}")
    parts = torch.stack((a & ~b, a & b, b & ~a)).float()
    for part, name in zip(parts, ("only in mask_a", "in both masks", "only in mask_b")):
        if not part.any():
            raise ValueError(f"mask_a and mask_b must overlap in part: no pixel is {name}")
    return parts


def owned(parts, shares):
    """Masks (G, K, H, W) made of parts (K + 1, H, W), where instances have the shares (G, K) of
    the common region."""
    own = torch.cat((parts[:1], parts[2:]))
    return own + shares.to(parts)[:, :, None, None] * parts[1]


def with_background(masks):
    """Masks (n, K, H, W) as classes (n, K + 1, H, W), the background first."""
    return torch.cat((1 - masks.sum(1, keepdim=True), masks), 1)


def blame(error):
    """An exception in one line: its type, its text, and the line that raised it, where there is
    one outside of the installed libraries that line."""
    frames = traceback.extract_tb(error.__traceback__)
    frames = [f for f in frames if f.filename != __file__ and not f.filename.startswith("<")]
    lines = [line.strip() for line in str(error).splitlines() if line.strip()] or [""]
    text = lines[-1] if "TorchScript" in lines[0] else lines[0]
    if isinstance(error, ValueError) and not frames:
        return text
    libraries = os.path.dirname(os.path.dirname(torch.__file__))
    frames = [f for f in frames if not f.filename.startswith(libraries)] or frames
    place = [f"({os.path.basename(f.filename)}, line {f.lineno})" for f in frames[-1:]]
    return " ".join([f"{type(error).__name__}: {text}".removesuffix(": "), *place])


def arguments(loss):
    """The names of a loss's first two arguments in lower case, "" where they have none.
    ValueError: it cannot be called with two arguments."""
    f = getattr(loss, "_orig_mod", loss)  # of a compiled module
    f = f.forward if isinstance(f, torch.nn.Module) else f
    try:
        signature = inspect.signature(f)
        names = list(signature.parameters)
        signature.bind(None, None)
    except TypeError as e:
        text = f"the loss must take a prediction and a truth, but {e}"
        raise ValueError(f"{text}; write def f(pred, target): return ...") from None
    except ValueError:  # no signature: not written in Python
        names = []
    if hasattr(f, "schema"):  # scripted
        names = [argument.name for argument in f.schema.arguments]
    first, second = [name for name in [*names, "", ""] if name != "self"][:2]
    return [re.sub("(?<=[a-z])(?=[A-Z])", "_", name).lower() for name in (first, second)]


def truth_first(names):
    """Whether the truth is the first of two arguments, by their names: True, False, or None where
    they do not say."""
    one, other = (bool(TRUTH.search(name)) - bool(PREDICTION.search(name)) for name in names)
    return None if one == other else one > other


@dataclass
class Understood:
    """A loss and how it is called. Call it with logits (n, K, H, W) of masks or, if it is
    exclusive, (n, K + 1, H, W) with the background first, and truths (n, K, H, W) of 0 and 1."""

    loss: object
    truth_first: bool
    form: str  # one of FORMS
    input: str = "probabilities"
    exclusive: bool = False
    kind: torch.dtype = torch.float64  # 32 bits where the loss fails with 64
    takes: str = ""  # which of several results
    error: str = field(default="", repr=False)  # what it raised first

    def __call__(self, logits, truths):
        if self.exclusive:
            if self.input == "log-probabilities":
                logits = logits.log_softmax(1)
            elif self.input == "probabilities":
                logits = logits.softmax(1)
            return self.call(logits if self.classes else logits[:, 1:], truths)
        if self.input == "logits" and not self.classes:
            return self.call(logits, truths)
        x = logits.sigmoid()
        if self.classes:
            x = with_background(x).clamp(EPS, 1 - EPS)
        return self.call(x.logit() if self.input == "logits" else x, truths)

    @property
    def classes(self):
        """Whether the background is a channel."""
        return self.form in ("one-hot", "indices", "channel")

    def call(self, predictions, truths):
        """The loss as a number, of predictions as it takes them and truths (n, K, H, W)."""
        if self.classes:
            truths = with_background(truths)
        elif self.form != "masks":
            predictions, truths = predictions.flatten(0, 1), truths.flatten(0, 1)
            predictions = predictions if self.form == "squeezed" else predictions[:, None]
            truths = truths[:, None] if self.form == "single" else truths
        if self.form in ("indices", "channel"):
            if not (truths.amax(1) == 1).all():
                raise ValueError("truths must be 0 or 1 for a loss that takes class indices")
            truths = truths.argmax(1, keepdim=self.form == "channel")
        predictions = predictions.clone()  # which a loss may change in place
        first, second = (truths, predictions) if self.truth_first else (predictions, truths)
        result = self.loss(first, second)
        if isinstance(result, dict):
            names = ("loss", "total_loss", "loss_total", "total", *result)
            self.takes = next(name for name in names if name in result)
            result = result[self.takes]
        elif isinstance(result, (tuple, list)):
            self.takes, result = "the first of several", result[0]
        try:
            result = torch.as_tensor(result)
        except (TypeError, RuntimeError):
            raise ValueError(f"the loss must return a tensor, got {result!r}") from None
        if result.is_complex():
            raise ValueError("the loss must be real, got a complex number")
        return result.double().mean()

    def cost(self, predictions, truths, seed=0):
        """What call returns as a float, NaN if it raises anything; a random loss draws by seed."""
        try:
            with torch.no_grad(), torch.random.fork_rng(devices=[]):
                torch.default_generator.manual_seed(seed)
                x, t = (x.to(self.kind, copy=True) for x in (predictions, truths))
                return self.call(x, t).item()
        except (Exception, SystemExit) as e:  # noqa: BLE001 - whatever a loss may raise
            self.error = self.error or blame(e)
            return math.nan

    def leads(self, here, there, truths):
        """Whether the gradient of call leads from predictions here to those there."""
        x = here.to(self.kind).requires_grad_()
        try:
            (slope,) = torch.autograd.grad(self.call(x.clone(), truths.to(self.kind)), x)
        except RuntimeError:  # there is no gradient
            return False
        return (slope * (there - here)).sum().item() < 0


def fit(u, truths, logits, named=False, only=False):
    """Try a loss in one order and form with truths (n, K, H, W): (0, u that knows its input) or,
    where it does not fit, (rank, why). The lowest rank says most, one below 0 that no other form
    is worth a trial. named: its argument is called logits; only: no other form is meant."""
    K = truths.shape[1]
    perfect = with_background(truths) if u.classes else truths
    undecided = torch.full_like(perfect, 1 / (K + 1))
    if math.isnan(u.cost(undecided, truths)):
        u = replace(u, kind=torch.float32, error="")
    shares = EPS + (1 - 2 * K * EPS) * perfect  # leaves something to a background of its own
    least, most = u.cost(shares, truths), u.cost(undecided, truths)
    gain, no_less = most - least, 1e-3 * max(abs(most), abs(least))
    costs = f"perfect masks cost {least:.4g}, undecided ones {most:.4g}"

    # Masks that are -s and s.
    scales = 0.3, 1, 3, 20
    at = {s: u.cost(s * (2 * perfect - 1), truths) for s in (0, *scales, 40, 200, 400)}
    scale = min(scales, key=lambda s: math.inf if math.isnan(at[s]) else at[s])
    sharp, late = (
        least - at[s] > 0.1 * (at[0] - at[s]) > 0
        and abs(at[2 * s] - at[s]) < 0.01 * (at[0] - at[s])
        for s in (20, 200)
    )
    vague = late or (least - at[3] > 0.1 * gain and at[20] > at[3])
    # Any masks, the same plus as much in all channels of a pixel, and twice as much.
    wave = torch.linspace(-1, 1, perfect.numel()).view_as(perfect).to(perfect)
    wave = perfect / 3 + wave / 5 + 0.4
    here, shifted, doubled = (u.cost(x, truths) for x in (wave, wave + wave[:, :1], 2 * wave))
    softmax = abs(here - shifted) < 1e-5 * abs(here) < abs(here - doubled)

    if logits != "yes" and not softmax and gain < -no_less:
        hint = "(write 1 - score for a score; --logits yes if it takes logits)"
        return -1 if u.form == "masks" else 3, f"{costs}: perfect ones must cost less {hint}"
    if logits == "yes" or (logits == "auto" and (softmax or sharp or (vague and named))):
        if softmax and not u.classes:
            return 5, "its channels are a softmax: it takes classes"
        u = replace(u, input="logits", exclusive=softmax)
        least, most = at[scale], at[0]
        perfect, undecided = scale * (2 * perfect - 1), torch.zeros_like(perfect)
    elif logits == "auto" and vague:
        return 1, "it may take probabilities or logits: say which (--logits yes or no)"
    elif logits == "auto" and least - at[1] > 0.1 * gain and at[3] > at[1]:
        text = "masks of -1 and 1 cost less than those of 0 and 1"
        return 1, f"{text}: write def f(pred, target): return loss(2 * pred - 1, target)"
    elif u.classes:
        logs = [x.clamp(min=EPS).log() for x in (perfect, undecided)]
        least_log, most_log = (u.cost(x, truths) for x in logs)
        u = replace(u, exclusive=True)
        if abs(least_log) < 1e-3 * most_log:
            u = replace(u, input="log-probabilities")
            (perfect, undecided), least, most = logs, least_log, most_log
    gain = most - least
    if math.isnan(gain):
        return 4, u.error or "it is not finite"
    if abs(gain) <= 1e-9 * abs(most) and u.leads(undecided, perfect, truths):
        return 0, u  # the value says nothing, the gradient does
    if gain <= 1e-3 * max(abs(most), abs(least)):
        return 3, f"perfect masks cost {least:.4g}, undecided ones {most:.4g}: they must cost less"
    why = ignores(u, truths, perfect, undecided, least + 1e-3 * gain)
    if why:
        return -1 if why == WHOSE and u.form == "masks" else 2, why
    if u.classes:
        return 0, u
    one, again, other = (
        u.cost(wave, truths),
        u.cost(wave, truths, seed=1),
        u.cost(wave.roll(1, 1), truths.roll(1, 1)),
    )
    if u.form == "masks" and not only and one == again and abs(one - other) > 1e-3 * gain:
        return -1, "it treats the first mask otherwise: say what it is (--classes masks or one-hot)"
    if u.input == "probabilities":
        alarms = torch.maximum(perfect, perfect.roll((5, 5), (2, 3))), torch.ones_like(perfect)
        if all(u.cost(x.clamp(EPS, 1 - EPS), truths) <= least + 1e-3 * gain for x in alarms):
            return 2, "false alarms are free"
        undefined = math.isnan(u.cost(torch.full_like(perfect, 0.9), truths))
        u = replace(u, exclusive=getattr(u.loss, "exclusive", undefined))
    return 0, u


WHOSE = "it does not count which mask is whose"


def ignores(u, truths, perfect, undecided, level):
    """What a loss takes no notice of, "" if of nothing: an image or an instance that is spoiled in
    perfect predictions, or whose mask is whose, costs no more than level."""
    for i in range(len(truths)):
        spoiled = perfect.clone()
        spoiled[i] = undecided[i]
        if u.cost(spoiled, truths) <= level:
            return f"image {i + 1} of a batch does not count: it must be a mean over images"
    for k in range(truths.shape[1]):
        missed, others = perfect.clone(), perfect.clone()
        if u.classes:  # its pixels are called background, or the next instance's
            missed[:, 0], missed[:, k + 1] = perfect[:, k + 1], perfect[:, 0]
            missed = missed.where(truths[:, k : k + 1] > 0, perfect)
            others[:, 1:] = perfect[:, 1:].roll(1, 1)
        else:
            missed[:, k], others = undecided[:, k], perfect.roll(1, 1)
        if u.cost(missed, truths) <= level:
            return f"the mask of instance {k + 1} does not count"
        if u.cost(others, truths) <= level:
            return WHOSE
    return ""


def understand(loss, parts, logits="auto", classes="auto", order="auto"):
    """A loss as an Understood, tried on truths made of parts (K + 1, H, W). logits: yes, no or
    auto; classes: one of FORMS or auto; order: pred-first, truth-first or auto.
    ValueError: the loss cannot be called, or perfect masks cost no less than undecided ones."""
    choices = {"logits": ("auto", "yes", "no"), "classes": ("auto", *FORMS), "order": ORDERS}
    for name, value in {"logits": logits, "classes": classes, "order": order}.items():
        if value not in choices[name]:
            raise ValueError(f"{name} must be one of {', '.join(choices[name])}, got {value!r}")
    if inspect.isclass(loss):
        try:
            loss = loss()
        except TypeError as e:
            name = loss.__name__
            raise ValueError(f"{e}: write f = {name}(...) and name f, no class") from None
    if not callable(loss):
        raise ValueError(f"the loss must be a function, got {loss!r}")  # noqa: TRY004
    if isinstance(loss, torch.nn.Module):
        loss.to(parts.device)
    names = arguments(loss)
    first = truth_first(names) if order == "auto" else order == "truth-first"
    truths = owned(parts.double(), torch.eye(len(parts) - 1))  # (K, K, H, W)
    truths = truths.repeat(2, 1, 1, 1)  # twice, so that no number of images is one of classes
    fitting, misfits = [], []
    for truth in (False, True) if first is None else (first,):
        for form in FORMS if classes == "auto" else (classes,):
            named, only = "logit" in " ".join(names), classes != "auto"
            rank, answer = fit(Understood(loss, truth, form), truths, logits, named, only)
            if rank == 0:
                fitting.append(answer)
            else:
                misfits.append((rank, f"as {FORMS[form]}: {answer}"))
            if rank <= 0:
                break
    if not fitting:
        rank, why = min(misfits, key=lambda misfit: misfit[0])
        if rank > 0 and misfits[0][0] == 4 and why != misfits[0][1]:
            why = f"{misfits[0][1]}; and {why}"  # what it raised for plain masks comes first
        more = "; write def f(pred, target): return loss(...)" if rank == 4 else ""
        raise ValueError(f"the loss does not fit {why}{more}")
    if len(fitting) == 2:
        wave = torch.linspace(-2, 2, truths.numel()).view_as(truths).to(truths)
        classes = torch.cat((-wave[:, :1], wave), 1)
        one, other = (u(classes if u.exclusive else wave, truths).item() for u in fitting)
        if not math.isclose(one, other, rel_tol=1e-5):
            text = "either argument may be the truth: name them pred and target"
            raise ValueError(f"{text} (or --order {' or '.join(ORDERS[1:])})")
    return fitting[0]


class Mean:
    """The mean of a loss over truths (N, K, H, W) as a function of shares (K,) of the common
    region; the own parts are learned. gradient: whether one was seen."""

    def __init__(self, u, parts, truths, progress=None):
        self.u, self.parts, self.truths = u, parts, truths.to(u.kind)
        self.progress, self.evaluations = progress, 0
        middle = 1 / (truths.shape[1] + 1)
        with torch.no_grad():
            seeds = *[0] * 9, 1  # so often, as its own random numbers may be few
            *first, other = (self(self.even(middle), seed).item() for seed in seeds)
        if max(first) - min(first) > 1e-6 * abs(max(first)) + 1e-12:
            text = "it must draw its random numbers by torch, and hold a schedule still"
            raise ValueError(f"the loss differs from call to call: {text}")
        self.random = not math.isclose(first[0], other, rel_tol=1e-6, abs_tol=1e-12)
        undecided, undecided_shares = torch.full_like(parts[None, 1:], middle), self.even(middle)
        self.gradient = bool(self.slope(self.of, undecided).any())
        # How much of a slope is due to own parts and background, which EPS keeps from being right.
        one, two = (
            self.slope(
                lambda x, k=k: self.of(owned(parts, x[None]), least=k * EPS), undecided_shares
            )
            for k in (1, 2)
        )
        self.unlearned = (two - one).abs().max().item()

    def slope(self, mean, x):
        """The gradient of mean at x, 0 where there is none."""
        x, slope = x.clone().requires_grad_(), None
        with torch.enable_grad():
            try:
                value = mean(x)
            except ValueError:  # as a metric in NumPy, which knows no gradients, raises
                value = mean(x.detach())
            if value.requires_grad:
                try:
                    (slope,) = torch.autograd.grad(value, x, allow_unused=True)
                except Exception as e:  # noqa: BLE001 - whatever a loss may raise
                    raise ValueError(blame(e)) from None
        return torch.zeros_like(x) if slope is None else slope.nan_to_num()

    def even(self, share):
        """The same share for every instance, (K,)."""
        return self.parts.new_full((len(self.parts) - 1,), share)

    def __call__(self, shares, seed=None):
        return self.of(owned(self.parts, shares[None]), seed)

    def of(self, masks, seed=None, least=EPS):
        """The mean loss of masks (1, K, H, W) with all truths."""
        value = self.draws(masks, seed, least).mean()
        if not value.isfinite():
            raise ValueError(f"the loss must be finite, got {value.item()}")
        return value

    def at(self, places):
        """The loss at places, each (K,): (M, draws)."""
        values = torch.stack([self.draws(owned(self.parts, x[None])) for x in places]).cpu()
        if not values.isfinite().all():
            raise ValueError(f"the loss must be finite, got {values[~values.isfinite()][0]}")
        return values

    def draws(self, masks, seed=None, least=EPS):
        """The loss of masks (1, K, H, W), kept from least to 1 - least, with all truths: (1,) or,
        if it is random, (DRAWS,)."""
        self.evaluations += 1
        if self.progress:
            self.progress(self.evaluations)
        masks = masks.clamp(least, 1 - least)
        logits = masks.logit()
        if self.u.exclusive:
            logits = with_background(masks).clamp(min=least).log()
        logits = logits.to(self.u.kind).expand(len(self.truths), -1, -1, -1)
        seeds = (seed,)
        if seed is None and self.random:
            seeds = range(DRAWS)
        values = []
        devices = [masks.device] if masks.is_cuda else []
        with torch.random.fork_rng(devices, enabled=seeds != (None,)):
            for k in seeds:
                if k is not None:
                    torch.default_generator.manual_seed(k)
                    if masks.is_cuda:
                        torch.cuda.manual_seed(k)
                try:
                    values.append(self.u(logits.clone(), self.truths.clone()))
                except (Exception, SystemExit) as e:  # noqa: BLE001 - whatever a loss may raise
                    raise ValueError(blame(e)) from None
        return torch.stack(values)

    def descend(self, shares, level, even=False):
        """Where the gradient leads shares (K,) of which it moves the logits. A slope below level
        is none. Each logit has its own step, halved when its slope turns (Rprop); even: all move
        alike."""
        shares = shares.clamp(EPS, 1 - EPS)
        rest = 1 - shares.sum() if self.u.exclusive else 1 - shares
        logits = (shares / rest.clamp(min=EPS)).log()
        step, before = torch.full_like(logits, 0.4), torch.zeros_like(logits)
        for _ in range(100):
            slope = self.slope(self, shares)
            if even:
                slope = slope.mean().expand(len(shares))
            if self.u.exclusive:
                slope = slope - (shares * slope).sum()
            way = -slope.sign().where(slope.abs() > level, 0)
            step = (step / 2).where(way * before < 0, (1.3 * step).clamp(max=3))
            logits, before, old = (logits + way * step).clamp(-14, 14), way, shares
            shares = logits.sigmoid()
            if self.u.exclusive:
                shares = torch.cat((logits.new_zeros(1), logits)).softmax(0)[1:]
            if (shares - old).abs().max() < 1e-4:
                break
        return shares.where(shares > 0.002, 0).where(shares < 0.998, 1).detach()


def elsewhere(K, exclusive):
    """Shares (M, K) of the common region, K at a time: of two instances a grid, of more the
    corners and the ways there from the middle."""
    ends = torch.linspace(0, 1, 11 if K == 2 else 2).double()
    places = torch.cartesian_prod(*[ends] * K)
    if K > 2:
        middle = 1 / K if exclusive else 1 / 2
        places = torch.cat([middle + t * (places - middle) for t in (0.25, 0.5, 0.75, 1)])
    return places[places.sum(1) < 1 + EPS] if exclusive else places


def lowest(curve, shares, at):
    """The share near a point of a curve at which it is lowest, of the parabola through three."""
    if at in (0, len(curve) - 1):
        return shares[at].item()
    before, here, after = curve[at - 1 : at + 2]
    bow = (before - 2 * here + after).clamp(min=1e-12)
    steps = ((before - after) / (2 * bow)).clamp(-1, 1)  # no farther, where it is noisy
    return (shares[at] + steps * shares[1]).item()


def errors(draws):
    """Three standard errors of the means of draws (M, N), 0 of a single draw."""
    return 3 * draws.std(1, correction=0) / draws.shape[1] ** 0.5


def best_even(curve, shares, near):
    """Where a curve (101,) over shares is lowest, near says where as good as that: (predicted,
    kind, all shares that are as good)."""
    near = near.nonzero()[:, 0]
    if near[-1] - near[0] == len(curve) - 1 and len(near) < len(curve) / 2:
        return "ends tie", "ends tie", [0.0, shares[-1].item()]
    if len(near) > len(curve) / 5:
        return "flat", "flat", shares[near].tolist()
    share = lowest(curve, shares, int(curve.argmin()))
    return share, "one end" if share in (0, 1) else "in between", [share]


def cut(shares, exclusive, margin=0.04):
    """What becomes of shares that differ by a margin from network to network: of each at a cut at
    1/2 or, where they exclude one another, if the largest class counts."""
    words = []
    for k, share in enumerate(shares):
        rivals = [*shares[:k], *shares[k + 1 :], 1 - sum(shares)] if exclusive else [1 - share]
        ahead = share - max(rivals)
        words.append("given" if ahead > margin else "not given" if ahead < -margin else "toss-up")
    if words.count("given") == 1 and words.count("not given") == len(words) - 1:
        return "one owner"
    return words[0] if len(set(words)) == 1 else ", ".join(words)


def checked(parts, truths, priors):
    """Parts (K + 1, H, W), and truths (G, K), each as often as priors say, see predict."""
    parts = torch.as_tensor(pair() if parts is None else parts).double()
    masks = parts.ndim == 3 and 2 < len(parts) < 12 and ((parts == 0) | (parts == 1)).all()
    if not (masks and parts.any(-1).any(-1).all() and parts.sum(0).max() == 1):
        text = "parts must be masks (K + 1, H, W), K from 2 to 10, none empty, none overlapping"
        raise ValueError(f"{text}, got {tuple(parts.shape)}, {parts.unique()[:5]}")
    K = len(parts) - 1
    try:
        truths = torch.eye(K) if truths is None else torch.as_tensor(truths)
        priors = None if priors is None else torch.as_tensor(priors).double().tolist()
    except (TypeError, ValueError) as e:
        raise ValueError(f"truths and priors must be numbers: {e}") from None
    inside = truths.ndim == 2 and ((truths >= 0) & (truths <= 1)).all()
    if not inside or truths.shape[1] != K or not len(truths):
        raise ValueError(f"truths must be (G, {K}) shares from 0 to 1, got {truths.tolist()}")
    if priors is None:
        return parts, truths.to(parts)
    fit_truths = isinstance(priors, list) and len(priors) == len(truths)
    if not fit_truths or min(priors) < 0 or not 0 < sum(priors) < math.inf:
        raise ValueError(f"priors must be {len(truths)} numbers from 0 up, got {priors}")
    times = [round(100 * p / sum(priors)) for p in priors]
    if any(p and not k for p, k in zip(priors, times)):
        raise ValueError(f"priors must be 0 or at least a hundredth of their sum, got {priors}")
    times = torch.tensor([k // math.gcd(*times) for k in times])
    return parts, truths.repeat_interleave(times, 0).to(parts)


def predict(loss, parts=None, *, truths=None, priors=None, progress=None, **how):
    """Where a loss leads a network that has learned the own parts: a dict for the JSON.

    parts (K + 1, H, W), 0 and 1, are own part 1, the common region, own part 2 to K, as
    data.sample has them; else those of pair(). truths (G, K) are the shares of the common region
    that instances own in each truth; else each of them once all of it. priors say, to a
    hundredth, how often each is true; else they are equal. progress is called with the number of
    evaluations so far. how is logits, classes or order, see understand.

    curve: the mean loss if every mask has the share a of the common region, for a in shares;
    costs: if instances have places (M, K). predicted: the a of the lowest, "ends tie", "flat",
    "one owner, either", or a share for each instance; kind: "ends tie", "one end", "in between",
    "flat", "one owner" or "uneven"; best: all shares of all instances that are as good.
    slides_to: where the gradient leads undecided masks, one share or one for each instance;
    cut: what a cut at 1/2 makes of that, or the largest class, "given", "not given", "toss-up",
    "one owner" or one of these for each; gradient: whether there is one. input, order, classes,
    exclusive, takes, random: how the loss is understood; within: of a random loss, how exact the
    best share is.
    ValueError: parts, truths or priors that are none; a loss that is not understood, not finite,
    or another at every call; what it raises.
    """
    parts, owners = checked(parts, truths, priors)
    K = owners.shape[1]
    u = loss if isinstance(loss, Understood) else understand(loss, parts, **how)
    if u.exclusive and owners.sum(1).max() > 1:
        raise ValueError("truths must give a pixel to one owner at most for this loss")
    mean = Mean(u, parts, owned(parts, owners), progress)
    shares = torch.linspace(0, (1 - EPS) / K if u.exclusive else 1, 101).double()
    places = elsewhere(K, u.exclusive)
    with torch.no_grad():
        curves = mean.at([mean.even(a) for a in shares.tolist()])  # (101, draws)
        many = mean.at(places.to(parts))  # (M, draws)
    curve, costs = curves.mean(1), many.mean(1)
    best_draws = curves[curve.argmin()]
    # Costs that differ by less are the same: a thousandth of what there is to lose, inside of the
    # walls that some losses have at the ends; and what numbers are exact to.
    size = curve.quantile(0.75) - curve.min()
    exact = (1e-9 if u.kind == torch.float64 else 1e-6) * curve.abs().max()
    slack = max(1e-3 * size, exact, 3 * mean.unlearned)
    # A slope below this is none: of rounding, of what is not quite learned, of random draws.
    steep = mean.slope(mean, mean.even(0.1)).abs().max().cpu()
    doubt = errors(curves[55:56] - curves[45:46]) / (shares[55] - shares[45])
    level = max(1e-3 * steep, exact, K * doubt.item(), 3 * mean.unlearned) / K
    near = curve <= curve.min() + slack + errors(curves - best_draws)
    within = 0.0
    if mean.random:
        within = (shares[near].max() - shares[near].min()).item() / 2
    predicted, kind, best = best_even(curve, shares, near)
    best = [[a] * K for a in best]
    doubts = errors(many - best_draws)
    as_good = costs <= curve.min() + slack + doubts
    mixed = (places.amin(1) == 0) & (places.amax(1) == 1)  # some have it and others have not
    if u.exclusive and kind == "in between" and as_good[mixed].all():
        predicted = kind = "flat"  # whichever way they share it
        best = places[as_good].tolist()
    elif kind in ("one end", "ends tie") and as_good[mixed].any():
        predicted = kind = "ends tie"
        best += places[mixed & as_good].tolist()

    # Where shares that differ are better.
    apart = bool((costs < curve.min() - slack - doubts).any())
    place = places[costs.argmin()] if apart else mean.even(shares[curve.argmin()].item())
    place = mean.descend(place.to(parts), level)
    with torch.no_grad():
        deeper = mean(place).cpu() <= min(costs.min(), curve.min()) + slack / 100
    if deeper and place.max() - place.min() > 0.005:
        owner = sorted(place.tolist()) == [0] * (K - 1) + [1]
        best = places[costs <= costs.min() + slack + doubts].tolist() if owner else [place.tolist()]
        if not owner and K == 2 and mean(place.flip(0)).cpu() <= mean(place).cpu() + slack:
            best.append(place.flip(0).tolist())
        kind = "one owner" if owner else "uneven"
        predicted = "one owner, either" if owner and len(best) == K else place.tolist()

    # Where undecided masks go, and where if the first has slightly more than the others.
    start = mean.even(1 / (K + 1) if u.exclusive else 1 / 2)
    alike = mean.random and not apart  # what differs is by chance
    end = mean.descend(start, level, alike)
    moved = bool((end - start).abs().max() > 1e-3)
    if not alike and (moved or u.exclusive):
        tipped = mean.descend(start + 0.01 * torch.eye(K)[0].to(start), level)
        end = tipped if tipped.max() - tipped.min() > 0.1 else end
    slides_to = end.tolist()
    if end.max() - end.min() < 0.01:
        slides_to = end.mean().item()
        low = max(int((shares - slides_to).abs().argmin()) - 1, 0)
        at = low + int(curve[low : low + 3].argmin())
        if mean.random and kind == "in between" and abs(predicted - slides_to) < 2 * within:
            slides_to = predicted
        elif moved and kind != "flat" and abs(shares[at] - slides_to) < 0.02:
            slides_to = lowest(curve, shares, at)  # as exact as predicted
        if moved and kind == "flat" and curve.max() - curve.min() <= slack:
            # The value is the same everywhere, but the gradient, which trains, is not 0.
            predicted, best = slides_to, [[slides_to] * K]
            kind = "one end" if slides_to in (0, 1) else "in between"
        end = mean.even(slides_to)
    return {
        "predicted": predicted,
        "kind": kind,
        "slides_to": slides_to,
        "cut": cut(end.tolist(), u.exclusive, 0.04 + 2 * within),
        "best": best,
        "input": u.input,
        "order": "truth-first" if u.truth_first else "pred-first",
        "classes": u.form,
        "exclusive": u.exclusive,
        "gradient": mean.gradient,
        "takes": u.takes,
        "random": mean.random,
        "within": within,
        "shares": shares.tolist(),
        "curve": curve.tolist(),
        "places": places.tolist(),
        "costs": costs.tolist(),
    }
