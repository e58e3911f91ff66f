"""The forms in which a loss is called.

An Understood is a loss of any form that is called in one way: with shares of masks, or
of classes, and with truths that are masks. understand.py finds the form of a loss."""

import contextlib
import math
from dataclasses import dataclass

import torch

EPS = 1e-6  # probabilities are from EPS to 1 - EPS
DEPTH = 8  # of a volume, in which each mask is repeated


@dataclass(frozen=True)
class Form:
    """How predictions and truths are laid out."""

    said: str
    alone: bool = False  # one instance at a time
    classes: bool = False  # channels are classes, of which one is the background
    last: bool = False  # the background is the last class, else the first
    flat: bool = False  # predictions have no channel
    truth_layout: str = "channels"  # or flat or, of classes, indices or index channel

    @property
    def by_index(self):
        """Whether truths are indices of classes."""
        return self.truth_layout in ("indices", "index channel")

    def channels(self, maps, background=None):
        """Maps (n, K, ...) in the channels of the form: (n, K, ...) of masks, (n, K +
        1, ...) of classes with the background first or, alone, (n K, 1 or 2, ...)."""
        if self.alone:
            maps = maps.flatten(0, 1)[:, None]
        if not self.classes:
            return maps
        if background is None or self.alone:
            return with_background(maps)
        return torch.cat((background, maps), 1)

    def lay_predictions(self, x):
        """Predictions in channels as a loss takes them."""
        if self.flat:
            return x[:, 0]
        return x.roll(-1, 1) if self.last else x

    def lay_truths(self, truths):
        """Truths (n, K, ...) as a loss takes them. ValueError: the loss takes indices,
        and a truth is neither 0 nor 1."""
        truths = self.channels(truths)
        if self.last:
            truths = truths.roll(-1, 1)
        if self.truth_layout == "channels":
            return truths.clone()
        if self.truth_layout == "flat":
            return truths[:, 0].clone()
        if not ((truths == 0) | (truths == 1)).all():
            raise ValueError(
                "truths must be 0 or 1 for a loss that takes class indices"
            )
        return truths.argmax(1, keepdim=self.truth_layout == "index channel")


def classes_form(said, truth_layout="channels", last=False):
    """The Form of a loss of classes, of which one is the background."""
    said = f"classes (n, K + 1, H, W){said}"
    return Form(said, classes=True, last=last, truth_layout=truth_layout)


def single_form(said, truth_layout="channels", flat=False):
    """The Form of a loss of one mask in one channel."""
    said = f"one mask at a time, {said}"
    return Form(said, alone=True, flat=flat, truth_layout=truth_layout)


def pair_form(said, truth_layout="channels"):
    """The Form of a loss of one mask and its background in two channels."""
    said = f"background and object (n K, 2, H, W){said}"
    return Form(said, alone=True, classes=True, truth_layout=truth_layout)


FORMS = {
    "masks": Form("masks (n, K, H, W)"),
    "one-hot": classes_form(", the background first"),
    "one-hot-last": classes_form(", the background last", last=True),
    "indices": classes_form(" with truths (n, H, W)", "indices"),
    "indices-last": classes_form(
        ", the background last, with truths (n, H, W)", "indices", last=True
    ),
    "channel": classes_form(" with truths (n, 1, H, W)", "index channel"),
    "single": single_form("(n K, 1, H, W)"),
    "single-flat": single_form("(n K, 1, H, W) with truths (n K, H, W)", "flat"),
    "squeezed": single_form("(n K, H, W)", "flat", flat=True),
    "pair-one-hot": pair_form(""),
    "pair-indices": pair_form(" with truths (n K, H, W)", "indices"),
    "pair-channel": pair_form(" with truths (n K, 1, H, W)", "index channel"),
}
TRUTHS = {"numbers": None, "booleans": torch.bool, "integers": torch.int64}
BATCHES = {
    "all": "",
    "one": "one image at a time",
    "none": "one image at a time, without a dimension for the batch",
    "volumes": f"volumes of {DEPTH} slices",
}
INPUTS = {
    "probabilities": "probabilities",
    "logits": "logits",
    "log-probabilities": "log-probabilities",
    "signed": "masks from -1 to 1",
}


def owned(parts, shares):
    """Masks (G, K, H, W) with shares (G, K) of the common region. parts (K + 1, H, W)
    are own part 1, the common region and own parts 2 to K."""
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
    form_name: str = "masks"  # a key of FORMS
    input: str = "probabilities"  # one of INPUTS
    normalised: bool = False  # the channels of a pixel add up to 1
    truth_first: bool = False
    truth_type: str = "numbers"  # one of TRUTHS
    batch: str = "all"  # one of BATCHES
    dtype: torch.dtype = torch.float64  # 32 bits where the loss fails with 64
    needs_gradient: bool = False  # it takes a gradient inside itself
    takes: str = ""  # which of several results
    asymmetry: str = ""  # how it treats one instance otherwise

    @property
    def form(self):
        """The Form in which the loss is called."""
        return FORMS[self.form_name]

    @property
    def exclusive(self):
        """Whether the shares of the instances add up to 1 at most."""
        return self.normalised and not self.form.alone

    def __call__(self, logits, truths):
        """The loss, a number, of logits as described above."""
        if self.input == "logits" and self.exclusive:
            return self.call(logits, truths)
        if self.input == "logits" and not self.form.classes:
            return self.call(self.form.channels(logits), truths)
        shares = logits.softmax(1) if self.exclusive else logits.sigmoid()
        return self.call(self.inputs(shares), truths)

    def of_masks(self, masks, truths, background=None, least=EPS):
        """The loss of masks (n, K, H, W) that are probabilities, kept from least to 1 -
        least. Classes that do not exclude one another see a background (n, 1, H, W)."""
        masks = masks.clamp(least, 1 - least)
        if self.exclusive:
            classes = with_background(masks).clamp(min=least)
            masks = classes / classes.sum(1, keepdim=True)  # (n, K + 1, H, W)
        return self.call(self.inputs(masks, background), truths)

    def inputs(self, shares, background=None):
        """Probabilities, (n, K, H, W) or of an exclusive loss (n, K + 1, H, W), as what
        the loss takes, in the channels of its form."""
        if not self.exclusive:
            shares = self.form.channels(shares, background)
        elif not self.form.classes:
            shares = shares[:, 1:]
        if self.input == "probabilities":
            return shares
        if self.input == "signed":
            return 2 * shares - 1
        if self.input == "logits" and not self.normalised:
            return shares.logit(EPS)
        logarithms = shares.clamp(min=EPS).log()
        if self.input == "log-probabilities":
            return logarithms
        # A softmax does not see a constant, and a loss of evidence wants it at least 0.
        return logarithms - math.log(EPS)

    def call(self, predictions, truths):
        """The loss of predictions in channels of its form and truths (n, K, H, W)."""
        if self.batch == "volumes":
            predictions = repeated(predictions)
            truths = repeated(truths)
        predictions = self.form.lay_predictions(predictions)
        truths = self.form.lay_truths(truths.to(predictions.dtype))
        if self.truth_type != "numbers":
            truths = truths.to(TRUTHS[self.truth_type])
        if self.batch in ("all", "volumes"):
            return number(self.result(predictions, truths))
        results = []
        for i in range(len(predictions)):
            at = i if self.batch == "none" else slice(i, i + 1)
            results.append(number(self.result(predictions[at], truths[at])))
        return torch.stack(results).mean()

    def result(self, predictions, truths):
        """What a loss returns of predictions and truths, laid out as it takes them."""
        predictions = predictions.clone()  # which a loss may change in place
        with torch.set_grad_enabled(torch.is_grad_enabled() or self.needs_gradient):
            if self.needs_gradient and not predictions.requires_grad:
                predictions = predictions.requires_grad_().clone()
            if self.truth_first:
                return self.loss(truths, predictions)
            return self.loss(predictions, truths)


def repeated(maps):
    """Maps (n, C, H, W) as volumes (n, C, D, H, W), each slice the same."""
    return maps[:, :, None].expand(-1, -1, DEPTH, -1, -1)


def number(result):
    """What a loss returns as one number: of several the first, of a dict the sum of
    what counts. ValueError: it is no real number."""
    if isinstance(result, dict):
        numbers = [number(result[name]) for name in counted(result)]
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


def counted(result):
    """The names in a dict of losses that are added up: the total alone if there is one,
    else those that are called losses, else all."""
    for name in ("loss", "total_loss", "loss_total", "total"):
        if name in result:
            return [name]
    losses = [name for name in result if "loss" in str(name)]
    return losses or list(result)


def taken(result):
    """Which of several results counts, in words, "" where there is only one."""
    if isinstance(result, dict):
        names = [str(name) for name in counted(result)]
        return names[0] if len(names) == 1 else f"the sum of {', '.join(names)}"
    return "the first" if isinstance(result, (tuple, list)) else ""
