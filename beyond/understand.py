"""How is a loss called? Found out by trying.

All FORMS are tried, see trial.py, and all that fit are kept. A form that treats
instances otherwise is kept only if no other fits, and says so. A loss that works with
any number of channels is read with one channel an instance."""

import inspect
import math
import re
from dataclasses import replace

import torch

from beyond.forms import BATCHES, FORMS, Understood
from beyond.trial import Misfit, Reached, Scene, tried

ORDERS = ("auto", "pred-first", "truth-first")

# What names of arguments say; the short ones are words of their own: y_gt, not length.
TRUTH = re.compile("true|truth|target|label|annot|(^|_)(gt|ref)(_|$)|^[ty]$")
PREDICTION = re.compile("pred|input|logit|output|prob|score|(^|_)hat(_|$)|^[pxz]$")


def needless(form_name, fitting):
    """Whether there is no need to try a form, since the loss fits in one that differs
    by the number of channels alone."""
    form = FORMS[form_name]
    # Every loss of classes also works on background and object.
    if fitting and form.alone and form.classes:
        return True
    for u in fitting:
        # A loss of masks often takes any number of channels, and so classes too.
        if u.form_name != "masks" and u.form.classes != form.classes:
            continue
        # Integers as indices also run in a loss that picks pixels by booleans.
        if u.form.by_index == form.by_index or u.truth_type == "booleans":
            return True
    return False


def search(first, scene, form_names, logits):
    """All that a loss may be, a list of Understood: of a batch of images or, where
    these do not tell, of one image at a time, or of volumes. What treats one instance
    otherwise counts if nothing else fits. Misfit: nothing fits."""
    misfits = []
    for batch in BATCHES:
        fitting = []
        uneven = []
        for form_name in form_names:
            if needless(form_name, fitting):
                continue
            u = replace(first, form_name=form_name, batch=batch)
            try:
                u = tried(u, scene, logits)
            except Misfit as e:
                misfits.append(e)
                continue
            found = uneven if u.asymmetry else fitting
            found.append(u)
        if fitting or uneven:
            return fitting or uneven[:1]
        furthest = max(misfits, key=lambda misfit: misfit.reached)
        if furthest.reached == Reached.INSTANCES:
            break
    raise furthest


def arguments(loss):
    """The names of a loss's first two arguments, "" where they have none.
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
    return [*names, "", ""][:2]


def meaning(name):
    """Return "truth" or "prediction" if a name says that alone, else ""."""
    words = re.sub("(?<=[a-z])(?=[A-Z])", "_", name).lower()  # yTrue is y_true
    truth = TRUTH.search(words)
    prediction = PREDICTION.search(words)
    if truth and not prediction:
        return "truth"
    if prediction and not truth:
        return "prediction"
    return ""


def orders_of(loss, order):
    """Whether the truth is the first argument, a list of what is to be tried. The names
    say it; where they do not, both are tried."""
    first, second = map(meaning, arguments(loss))
    if order != "auto":
        return [order == "truth-first"]
    if first == second:
        return [False, True]
    if first == "truth" or second == "prediction":
        return [True]
    return [False]


def loss_of(thing, device):
    """A loss as a function, of a function, a module, or a class of one.
    ValueError: it is none of these, or the class needs arguments."""
    if inspect.isclass(thing):
        try:
            thing = thing()
        except TypeError as e:
            text = f"write f = {thing.__name__}(...) and name f, no class"
            raise ValueError(f"{e}: {text}") from None
    if not callable(thing):
        raise ValueError(f"the loss must be a function, got {thing!r}")  # noqa: TRY004
    return thing.to(device) if isinstance(thing, torch.nn.Module) else thing


def understand(loss, device="cpu", logits="auto", classes="auto", order="auto"):
    """All that a loss may be, a list of Understood, the likeliest first. logits is yes,
    no or auto; classes is one of FORMS or auto; order is one of ORDERS. ValueError: an
    option is none of these, or no form fits."""
    if logits not in ("auto", "yes", "no"):
        raise ValueError(f"logits must be auto, yes or no, got {logits!r}")
    if classes not in ("auto", *FORMS):
        forms = ", ".join(FORMS)
        raise ValueError(f"classes must be auto or one of {forms}, got {classes!r}")
    if order not in ORDERS:
        raise ValueError(f"order must be one of {', '.join(ORDERS)}, got {order!r}")
    loss = loss_of(loss, device)
    scene = Scene(device)
    form_names = FORMS if classes == "auto" else [classes]
    found = []
    misfits = []
    for truth_first in orders_of(loss, order):
        first = Understood(loss, truth_first=truth_first)
        try:
            found.append(search(first, scene, form_names, logits))
        except Misfit as e:
            misfits.append(e)
    if len(found) == 2:
        check_orders(found[0][0], found[1][0], scene)
    if found:
        return found[0]
    furthest = max(misfits, key=lambda misfit: misfit.reached)
    text = f"the loss does not fit as {furthest.form.said}: {furthest}"
    if furthest.reached == Reached.RAISED:
        text += "; write def f(pred, target): return loss(...)"
    raise ValueError(text)


def check_orders(one, other, scene):
    """ValueError: it matters which argument is the truth, and nothing says which is."""
    here = scene.cost_of(one, scene.blurred(one, 0.3))
    there = scene.cost_of(other, scene.blurred(other, 0.3))
    if not math.isclose(here, there, rel_tol=1e-5):
        text = "either argument may be the truth: name them pred and target"
        raise ValueError(f"{text} (or --order {' or '.join(ORDERS[1:])})")
