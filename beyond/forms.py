"""The forms in which a loss is called.

An Understood is a loss of any form that is called in one way: with the logits of masks
or of classes, and with truths that are masks. Which form a loss has is found out in
understand.py. Copied alone this file needs torch."""

import contextlib
import math
from dataclasses import dataclass

import torch

EPS = 1e-6  # probabilities are from EPS to 1 - EPS
DEPTH = 8  # of a volume, in which each mask is repeated
FORMS = {
    "masks": "masks (n, K, H, W)",
    "single": "one mask at a time, (n K, 1, H, W)",
    "single-flat": "one mask at a time, (n K, 1, H, W) with truths (n K, H, W)",
    "squeezed": "one mask at a time, (n K, H, W)",
    "one-hot": "classes (n, K + 1, H, W), the background first",
    "one-hot-last": "classes (n, K + 1, H, W), the background last",
    "indices": "classes (n, K + 1, H, W) with truths (n, H, W)",
    "channel": "classes (n, K + 1, H, W) with truths (n, 1, H, W)",
    "indices-last": "classes, the background last, with truths (n, H, W)",
    "pair-one-hot": "background and object (n K, 2, H, W)",
    "pair-indices": "background and object (n K, 2, H, W) with truths (n K, H, W)",
    "pair-channel": "background and object (n K, 2, H, W) with truths (n K, 1, H, W)",
}
MASKS = ("masks", "single", "single-flat", "squeezed")
CLASSES = ("one-hot", "one-hot-last", "indices", "channel", "indices-last")
PAIRS = ("pair-one-hot", "pair-indices", "pair-channel")
INDICES = ("indices", "channel", "indices-last", "pair-indices", "pair-channel")
TRUTHS = {"numbers": None, "booleans": torch.bool, "integers": torch.int64}
BATCHES = {
    "all": "",
    "one": "one image at a time",
    "none": "one image at a time, without a dimension for the batch",
}
INPUTS = {
    "probabilities": "probabilities",
    "logits": "logits",
    "log-probabilities": "log-probabilities",
    "signed": "masks from -1 to 1",
}
# Names of the sum in a dict of losses.
TOTALS = ("loss", "total_loss", "loss_total", "total")


def owned(parts, shares):
    """Masks (G, K, H, W) made of parts (K + 1, H, W), which are own part 1, the common
    region and own parts 2 to K. The instances have the shares (G, K) of the common
    region."""
    own = torch.cat((parts[:1], parts[2:]))  # (K, H, W)
    return own + shares.to(parts)[:, :, None, None] * parts[1]


def with_background(masks):
    """Masks (n, K, ...) as classes (n, K + 1, ...), the background first."""
    return torch.cat((1 - masks.sum(1, keepdim=True), masks), 1)


@contextlib.contextmanager
def seeded(seed, like):
    """Within it random numbers are those of a seed, also on the device of a tensor.
    Outside of it they go on as if nothing had been drawn."""
    with torch.random.fork_rng([like.device] if like.is_cuda else []):
        torch.default_generator.manual_seed(seed)
        if like.is_cuda:
            torch.cuda.manual_seed(seed)
        yield


@dataclass(frozen=True)
class Understood:
    """A loss and how it is called. Call it with logits (n, K, H, W) of masks or, if it
    is exclusive, (n, K + 1, H, W) with the background first, and truths (n, K, H, W) of
    0 and 1."""

    loss: object
    form: str = "masks"  # one of FORMS
    input: str = "probabilities"  # one of INPUTS
    exclusive: bool = False  # the shares of a pixel add up to 1 at most
    softmax: bool = False  # adding the same to all channels changes nothing
    truth_first: bool = False
    truths: str = "numbers"  # one of TRUTHS
    batch: str = "all"  # one of BATCHES
    depth: int = 0  # of a volume, 0 of an image
    kind: torch.dtype = torch.float64  # 32 bits where the loss fails with 64
    needs_gradient: bool = False  # it takes a gradient inside itself
    takes: str = ""  # which of several results
    asymmetry: str = ""  # how it treats one instance otherwise

    def __call__(self, logits, truths):
        """The loss, a number, of logits as described above."""
        if self.input == "logits" and (self.exclusive or self.form in MASKS):
            return self.call(logits, truths)
        shares = logits.softmax(1) if self.exclusive else logits.sigmoid()
        return self.call(self.inputs(shares), truths)

    def of_masks(self, masks, truths, background=None, least=EPS):
        """The loss of masks (n, K, H, W) that are probabilities, kept from least to 1 -
        least. background (n, 1, H, W) is where classes that do not exclude one another
        see it."""
        masks = masks.clamp(least, 1 - least)
        if self.exclusive:
            classes = with_background(masks).clamp(min=least)
            masks = classes / classes.sum(1, keepdim=True)  # (n, K + 1, H, W)
        return self.call(self.inputs(masks, background), truths)

    def inputs(self, shares, background=None):
        """Probabilities, (n, K, H, W) or of an exclusive loss (n, K + 1, H, W), as what
        the loss takes, with as many channels as its form has."""
        if self.form in CLASSES and not self.exclusive:
            if background is None:
                background = 1 - shares.sum(1, keepdim=True)
            shares = torch.cat((background, shares), 1).clamp(EPS, 1 - EPS)
        if self.form in MASKS and self.exclusive:
            shares = shares[:, 1:]
        if self.form in PAIRS:
            both = torch.stack((1 - shares, shares), 2)  # (n, K, 2, H, W)
            shares = both.flatten(0, 1)
        if self.input == "probabilities":
            return shares
        if self.input == "signed":
            return 2 * shares - 1
        if self.input == "log-probabilities" or self.softmax:
            return shares.clamp(min=EPS).log()
        if self.exclusive:  # evidence, from 0 up
            return shares.clamp(min=EPS).log() - math.log(EPS)
        return shares.logit(EPS)

    def call(self, predictions, truths):
        """The loss as a number, of predictions as it takes them and truths (n, K, H,
        W)."""
        if self.depth:
            predictions = repeated(predictions, self.depth)
            truths = repeated(truths, self.depth)
        predictions = lay_predictions(self.form, predictions)
        truths = lay_truths(self.form, truths.to(predictions.dtype))
        if self.truths != "numbers":
            truths = truths.to(TRUTHS[self.truths])
        if self.batch == "all":
            return number(self.result(predictions, truths))
        results = []
        for i in range(len(predictions)):
            at = i if self.batch == "none" else slice(i, i + 1)
            results.append(number(self.result(predictions[at], truths[at])))
        return torch.stack(results).mean()

    def result(self, predictions, truths):
        """What the loss returns, of predictions and truths that are laid out as it
        takes them."""
        predictions = predictions.clone()  # which a loss may change in place
        with torch.set_grad_enabled(torch.is_grad_enabled() or self.needs_gradient):
            if self.needs_gradient and not predictions.requires_grad:
                predictions = predictions.requires_grad_().clone()
            if self.truth_first:
                return self.loss(truths, predictions)
            return self.loss(predictions, truths)


def repeated(maps, depth):
    """Maps (n, C, H, W) as volumes (n, C, D, H, W), each slice the same."""
    return maps[:, :, None].expand(-1, -1, depth, -1, -1)


def lay_predictions(form, x):
    """Predictions (n, K, ...) of masks, (n, K + 1, ...) of classes with the background
    first or (n K, 2, ...) of pairs, as the form has them."""
    if form in ("single", "single-flat"):
        return x.flatten(0, 1)[:, None]  # (n K, 1, ...)
    if form == "squeezed":
        return x.flatten(0, 1)  # (n K, ...)
    if form in ("one-hot-last", "indices-last"):
        return x.roll(-1, 1)
    return x


def lay_truths(form, truths):
    """Truths (n, K, ...) as the form has them. ValueError: of an index they are no 0
    and 1."""
    if form in INDICES and not ((truths == 0) | (truths == 1)).all():
        raise ValueError("truths must be 0 or 1 for a loss that takes class indices")
    if form == "masks":
        return truths.clone()
    if form in CLASSES:
        return lay_classes(form, with_background(truths))
    one_by_one = truths.flatten(0, 1)  # (n K, ...)
    if form == "single":
        return one_by_one[:, None].clone()
    if form == "pair-one-hot":
        return torch.stack((1 - one_by_one, one_by_one), 1)
    if form == "pair-indices":
        return one_by_one.long()
    if form == "pair-channel":
        return one_by_one[:, None].long()
    return one_by_one.clone()


def lay_classes(form, classes):
    """Truths as classes (n, K + 1, ...) with the background first, as the form has
    them."""
    if form in ("one-hot-last", "indices-last"):
        classes = classes.roll(-1, 1)
    if form in ("indices", "indices-last"):
        return classes.argmax(1)
    if form == "channel":
        return classes.argmax(1, keepdim=True)
    return classes


def number(result):
    """What a loss returns as one number: of several the first, of a dict see
    named_losses. ValueError: it is no real number."""
    if isinstance(result, dict):
        numbers = [number(result[name]) for name in named_losses(result)]
        return torch.stack(numbers).sum()
    if isinstance(result, (tuple, list)) and len(result):
        return number(result[0])
    try:
        result = torch.as_tensor(result)
    except (TypeError, ValueError, RuntimeError):
        raise ValueError(f"the loss must return a tensor, got {result!r}") from None
    if result.is_complex():
        raise ValueError("the loss must be real, got a complex number")
    return result.double().mean()


def named_losses(result):
    """The names in a dict of losses that are added up: the total alone if there is one,
    else those that are called losses, else all."""
    for name in TOTALS:
        if name in result:
            return [name]
    losses = [name for name in result if "loss" in str(name)]
    return losses or list(result)


def taken(result):
    """Which of several results counts, in words, "" where there is only one."""
    if isinstance(result, dict):
        names = [str(name) for name in named_losses(result)]
        return names[0] if len(names) == 1 else f"the sum of {', '.join(names)}"
    return "the first" if isinstance(result, (tuple, list)) else ""
