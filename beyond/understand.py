"""How is a loss called? Found out by trying.

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
4. A loss is exclusive, so that the shares of a pixel add up to 1 at most, if it takes classes
   (but those of sigmoids), if it is not defined where masks overlap, or says loss.exclusive = True.
"""

import contextlib
import inspect
import math
import os
import re
import traceback
from dataclasses import dataclass, field, replace
from pathlib import Path

import torch

EPS = 1e-6  # probabilities are from EPS to 1 - EPS
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
WHOSE = "it does not count which mask is whose"
OURS = {str(Path(__file__).with_name(name)) for name in ("understand.py", "predict.py")}


def owned(parts, shares):
    """Masks (G, K, H, W) made of parts (K + 1, H, W), where instances have the shares (G, K) of
    the common region."""
    own = torch.cat((parts[:1], parts[2:]))
    return own + shares.to(parts)[:, :, None, None] * parts[1]


def with_background(masks):
    """Masks (n, K, H, W) as classes (n, K + 1, H, W), the background first."""
    return torch.cat((1 - masks.sum(1, keepdim=True), masks), 1)


@contextlib.contextmanager
def seeded(seed, like):
    """Within it random numbers are those of a seed, also on the device of a tensor; outside of it
    they go on as if nothing had been drawn."""
    with torch.random.fork_rng([like.device] if like.is_cuda else []):
        torch.default_generator.manual_seed(seed)
        if like.is_cuda:
            torch.cuda.manual_seed(seed)
        yield


def blame(error):
    """An exception in one line: its type, its text, and the line that raised it, where there is
    one outside of the installed libraries that line."""
    frames = traceback.extract_tb(error.__traceback__)
    frames = [
        f for f in frames if f.filename not in OURS and not f.filename.startswith("<")
    ]
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
    return [
        re.sub("(?<=[a-z])(?=[A-Z])", "_", name).lower() for name in (first, second)
    ]


def truth_first(names):
    """Whether the truth is the first of two arguments, by their names: True, False, or None where
    they do not say."""
    one, other = (
        bool(TRUTH.search(name)) - bool(PREDICTION.search(name)) for name in names
    )
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
            predictions = (
                predictions if self.form == "squeezed" else predictions[:, None]
            )
            truths = truths[:, None] if self.form == "single" else truths
        if self.form in ("indices", "channel"):
            if not (truths.amax(1) == 1).all():
                raise ValueError(
                    "truths must be 0 or 1 for a loss that takes class indices"
                )
            truths = truths.argmax(1, keepdim=self.form == "channel")
        predictions = predictions.clone()  # which a loss may change in place
        first, second = (
            (truths, predictions) if self.truth_first else (predictions, truths)
        )
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
            with torch.no_grad(), seeded(seed, truths):
                x, t = (x.to(self.kind, copy=True) for x in (predictions, truths))
                return self.call(x, t).item()
        except (Exception, SystemExit) as e:  # noqa: BLE001 - whatever a loss may raise
            self.error = self.error or blame(e)
            return math.nan

    def leads(self, here, there, truths):
        """Whether the gradient of call leads from predictions here to those there."""
        x = here.to(self.kind).requires_grad_()
        try:
            (slope,) = torch.autograd.grad(
                self.call(x.clone(), truths.to(self.kind)), x
            )
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
    shares = (
        EPS + (1 - 2 * K * EPS) * perfect
    )  # leaves something to a background of its own
    least, most = u.cost(shares, truths), u.cost(undecided, truths)
    gain = most - least
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
    here, shifted, doubled = (
        u.cost(x, truths) for x in (wave, wave + wave[:, :1], 2 * wave)
    )
    softmax = abs(here - shifted) < 1e-5 * abs(here) < abs(here - doubled)

    if logits != "yes" and not softmax and gain < -1e-3 * max(abs(most), abs(least)):
        hint = "(write 1 - score for a score; --logits yes if it takes logits)"
        return (
            -1 if u.form == "masks" else 3,
            f"{costs}: perfect ones must cost less {hint}",
        )
    if logits == "yes" or (
        logits == "auto" and (softmax or sharp or (vague and named))
    ):
        if softmax and not u.classes:
            return 5, "its channels are a softmax: it takes classes"
        u = replace(u, input="logits", exclusive=softmax)
        least, most = at[scale], at[0]
        perfect, undecided = scale * (2 * perfect - 1), torch.zeros_like(perfect)
    elif logits == "auto" and vague:
        return 1, "it may take probabilities or logits: say which (--logits yes or no)"
    elif logits == "auto" and least - at[1] > 0.1 * gain and at[3] > at[1]:
        text = "masks of -1 and 1 cost less than those of 0 and 1"
        return (
            1,
            f"{text}: write def f(pred, target): return loss(2 * pred - 1, target)",
        )
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
        return (
            3,
            f"perfect masks cost {least:.4g}, undecided ones {most:.4g}: they must cost less",
        )
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
    if (
        u.form == "masks"
        and not only
        and one == again
        and abs(one - other) > 1e-3 * gain
    ):
        return (
            -1,
            "it treats the first mask otherwise: say what it is (--classes masks or one-hot)",
        )
    if u.input == "probabilities":
        alarms = (
            torch.maximum(perfect, perfect.roll((5, 5), (2, 3))),
            torch.ones_like(perfect),
        )
        if all(
            u.cost(x.clamp(EPS, 1 - EPS), truths) <= least + 1e-3 * gain for x in alarms
        ):
            return 2, "false alarms are free"
        undefined = math.isnan(u.cost(torch.full_like(perfect, 0.9), truths))
        u = replace(u, exclusive=getattr(u.loss, "exclusive", undefined))
    return 0, u


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
    choices = {
        "logits": ("auto", "yes", "no"),
        "classes": ("auto", *FORMS),
        "order": ORDERS,
    }
    for name, value in {"logits": logits, "classes": classes, "order": order}.items():
        if value not in choices[name]:
            raise ValueError(
                f"{name} must be one of {', '.join(choices[name])}, got {value!r}"
            )
    if inspect.isclass(loss):
        try:
            loss = loss()
        except TypeError as e:
            name = loss.__name__
            raise ValueError(
                f"{e}: write f = {name}(...) and name f, no class"
            ) from None
    if not callable(loss):
        raise ValueError(f"the loss must be a function, got {loss!r}")  # noqa: TRY004
    if isinstance(loss, torch.nn.Module):
        loss.to(parts.device)
    names = arguments(loss)
    first = truth_first(names) if order == "auto" else order == "truth-first"
    truths = owned(parts.double(), torch.eye(len(parts) - 1))  # (K, K, H, W)
    truths = truths.repeat(
        2, 1, 1, 1
    )  # twice, so that no number of images is one of classes
    fitting, misfits = [], []
    for truth in (False, True) if first is None else (first,):
        for form in FORMS if classes == "auto" else (classes,):
            named, only = "logit" in " ".join(names), classes != "auto"
            rank, answer = fit(
                Understood(loss, truth, form), truths, logits, named, only
            )
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
        one, other = (
            u(classes if u.exclusive else wave, truths).item() for u in fitting
        )
        if not math.isclose(one, other, rel_tol=1e-5):
            text = "either argument may be the truth: name them pred and target"
            raise ValueError(f"{text} (or --order {' or '.join(ORDERS[1:])})")
    return fitting[0]
