"""What a loss is, and what predict says of it, against what is computed here by other means."""

import importlib
import json
import math
import sys
from importlib.util import find_spec
from pathlib import Path

import matplotlib.image
import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F

import data
from beyond import landing, losses, sweep
from beyond import predict as predict_module
from beyond.losses import LOSSES
from beyond.predict import from_masks, pair, predict
from beyond.understand import understand

PARTS = pair().double()
TRUTHS = data.groupings(PARTS[None])[0]  # (2 truths, 2, 32, 32)


def drawn(*shape, seed=0):
    return torch.rand(*shape, generator=torch.Generator().manual_seed(seed)).double()


def masks_of(a, c):
    """The masks with these shares, the same for both truths."""
    left, common, right = PARTS
    masks = torch.stack((left + a * common, right + c * common))
    return masks.clamp(1e-6, 1 - 1e-6).expand(2, -1, -1, -1).clone()


# The ways in which losses are called, as functions of masks and truths.
def probabilities(f):
    return lambda pred, target: f(pred, target)


def logits(f):
    return lambda pred, target: f(pred.logit(), target)


def indices(f, channel=False):
    def wrapped(pred, target):
        p, t = (torch.cat((1 - x.sum(1, keepdim=True), x), 1) for x in (pred, target))
        return f(p.clamp(min=1e-6).log(), t.argmax(1, keepdim=channel))

    wrapped.exclusive = True
    return wrapped


def channel(f):
    return indices(f, channel=True)


def sigmoids(f):  # one a class
    return lambda p, t: indices(
        lambda x, index: f(x.exp().clamp(max=1 - 1e-6).logit(), index)
    )(p, t)


# {module of a library: its losses, each after its own way}
LIBRARIES = {
    "torch.nn": """
        probabilities BCELoss(), probabilities MSELoss(), logits BCEWithLogitsLoss(),
        logits MultiLabelSoftMarginLoss(), indices CrossEntropyLoss(), indices NLLLoss(),
        indices CrossEntropyLoss(label_smoothing=0.1)""",
    "monai.losses": """
        probabilities DiceLoss(), probabilities TverskyLoss(beta=0.7), logits FocalLoss(),
        logits DiceLoss(sigmoid=True), logits GeneralizedDiceLoss(sigmoid=True),
        logits DiceFocalLoss(sigmoid=True), logits MCCLoss(sigmoid=True),
        channel DiceLoss(to_onehot_y=True; softmax=True),
        channel DiceCELoss(to_onehot_y=True; softmax=True),
        channel FocalLoss(to_onehot_y=True; use_softmax=True)""",
    "segmentation_models_pytorch.losses": """
        logits DiceLoss('binary'), logits FocalLoss('binary'), logits JaccardLoss('multilabel'),
        logits TverskyLoss('multilabel'), indices DiceLoss('multiclass'),
        indices LovaszLoss('multiclass'), sigmoids FocalLoss('multiclass'),
        logits SoftBCEWithLogitsLoss(), probabilities MCCLoss()""",
    "torchvision.ops": "logits sigmoid_focal_loss",
    "kornia.losses": """
        indices DiceLoss(), indices FocalLoss(0.5), indices TverskyLoss(0.5; 0.5),
        logits BinaryFocalLossWithLogits(0.25)""",
    "pytorch_toolbelt.losses": """
        logits BinaryFocalLoss(), logits BalancedBCEWithLogitsLoss(),
        indices SoftCrossEntropyLoss(), logits JaccardLoss('multilabel')""",
}


def library_losses():
    """[(way, loss)] of all of LIBRARIES that are installed."""
    found = []
    for module, text in LIBRARIES.items():
        library = module.split(".")[0]
        if find_spec(library):
            names = vars(importlib.import_module(module))
            for way, loss in (row.split(maxsplit=1) for row in text.split(",")):
                row = globals()[way], eval(loss.replace(";", ","), dict(names))
                found.append(pytest.param(*row, id=f"{library} {loss}"))
    return found


@pytest.mark.parametrize("way, loss", library_losses())
def test_a_loss_of_a_library_is_predicted_in_its_own_form_and_wrapped(way, loss):
    raw, wrapped = predict(loss), predict(way(loss))
    assert raw["exclusive"] == (way in (indices, channel))
    assert (
        way.__name__ in ("indices", "channel", "sigmoids")
        or raw["input"] == way.__name__
    )
    for (a, c), cost in list(zip(raw["places"], raw["costs"]))[::7]:
        expected = way(loss)(masks_of(a, c).float(), TRUTHS.float()).mean().item()
        assert cost == pytest.approx(expected, rel=1e-3, abs=1e-6)
    assert (raw["kind"], raw["cut"]) == (wrapped["kind"], wrapped["cut"])
    for key in ("predicted", "slides_to"):
        one, other = raw[key], wrapped[key]
        assert one == other or one == pytest.approx(other, abs=2e-3), key
    best = way(loss)(masks_of(*raw["best"][0]).float(), TRUTHS.float()).mean().item()
    assert best <= min(raw["costs"]) + 1e-3 * (max(raw["costs"]) - min(raw["costs"]))


def row_of(*sizes):
    """Parts (K + 1, 1, W) in a row of pixels: sizes of own part 1, the common region, own part 2
    to K; and a background of 9 in 10."""
    labels = torch.arange(len(sizes)).repeat_interleave(torch.tensor(sizes))
    labels = F.pad(labels, (0, 9 * len(labels)), value=-1)
    return (labels == torch.arange(len(sizes))[:, None]).float()[:, None]


def truth_first(y_true, y_pred):
    return losses.tversky_misses(y_pred, y_true)


def points(p, t):
    places = torch.randint(0, 1024, (300,))
    return F.mse_loss(p.flatten(2)[..., places], t.flatten(2)[..., places])


def plateau(p, t):
    dice, entropy = losses.dice(p, t).mean(), F.binary_cross_entropy(p, t)
    return dice / dice.detach() + entropy / entropy.detach()


def smoothed(pred, target):
    return F.binary_cross_entropy_with_logits(pred, 0.9 * target + 0.05)


def first_channel(p, t):
    return F.cross_entropy(p, t[:, 0].long())


def numpy_metric(pred, target):
    return float(((pred.numpy() > 0.5) != target.numpy()).mean())


def shared_dice(
    p, t
):  # of the batch, over all instances: how they share the region is one
    return 1 - 2 * (p[:, 1:] * t[:, 1:]).sum() / (p[:, 1:] + t[:, 1:]).sum()


def coefficient(pred, target):
    return 2 * (pred * target).sum() / (pred + target).sum()


def foreground(pred, target):
    return 1 - coefficient(pred[:, 1], target[:, 1])


def softmax_coefficient(pred, target):  # the Dice loss of MONAI without the background
    p, t = pred.softmax(1)[:, 1:], target[:, 1:]
    return 1 - 2 * (p * t).sum((2, 3)) / (p.sum((2, 3)) + t.sum((2, 3)) + 1e-5)


def sampled(measure, points=112):
    """A loss on points, of which each mask has its own."""

    def loss(logits, target):
        places = torch.randint(0, 1024, (*logits.shape[:2], points))
        z, t = (x.flatten(2).gather(2, places) for x in (logits, target))
        return measure(z.sigmoid()[..., None], t[..., None])

    return loss


def points_between(pred_masks, gt_masks):  # between pixels, as in Mask2Former
    masks, truths = (x.flatten(0, 1)[:, None] for x in (pred_masks, gt_masks))
    places = torch.rand(len(masks), 200, 1, 2, dtype=masks.dtype) * 2 - 1
    z = F.grid_sample(masks, places, align_corners=False)
    t = F.grid_sample(truths, places, align_corners=False, mode="nearest")
    return F.binary_cross_entropy_with_logits(z, t)


def clamped(pred, target):
    return F.binary_cross_entropy(pred.clamp_(1e-7, 1 - 1e-7), target)


def squeezed(pred, target):
    assert pred.ndim == target.ndim == 3
    return F.binary_cross_entropy_with_logits(pred, target)


def parts_and_total(pred, target):
    parts = {
        "bce": F.binary_cross_entropy(pred, target),
        "dice": losses.dice(pred, target).mean(),
    }
    return parts | {"total": 5 * parts["dice"] + 0.05 * parts["bce"]}


def weighted(pred, target):
    return (
        F.mse_loss(pred, target, reduction="none").mean((0, 2, 3))
        * torch.tensor([1, 3])
    ).sum()


def said_later(pred, target):
    raise RuntimeError("\n  the reason\nand more")


def broken(p, t):
    raise RuntimeError


class Kernel(nn.Module):
    """A loss with a buffer of 32 bits and an argument more."""

    def __init__(self, schedule=False):
        super().__init__()
        self.register_buffer("kernel", torch.ones(1, 1, 3, 3) / 9)
        self.calls, self.schedule = 0, schedule

    def forward(self, output, gt, weight=1.0):
        self.calls += self.schedule
        apart = F.conv2d((output - gt).flatten(0, 1)[:, None], self.kernel)
        return {"shape": apart, "loss": (weight + self.calls) * apart.square()}


@pytest.mark.parametrize(
    "loss, options, expected",
    [
        (
            nn.BCEWithLogitsLoss,
            {},
            {"predicted": 0.5, "input": "logits", "cut": "toss-up"},
        ),
        (smoothed, {"logits": "yes"}, {"predicted": 0.5, "input": "logits"}),
        (
            nn.CrossEntropyLoss(),
            {},
            {"predicted": 0.5, "classes": "one-hot", "exclusive": True},
        ),
        (
            nn.CrossEntropyLoss(label_smoothing=0.25),
            {},
            {"predicted": 0.458, "input": "logits"},
        ),
        (
            lambda logits, target: smoothed(logits, target),
            {},
            {"input": "logits", "predicted": 0.5},
        ),
        (
            losses.log_iou,
            {"parts": F.pad(PARTS, [40] * 4)},
            {"slides_to": 0.5, "cut": "toss-up"},
        ),
        (
            first_channel,
            {},
            {"predicted": 0.5, "classes": "channel", "exclusive": True},
        ),
        (
            lambda p, t: -(t * p.log()).sum(1),
            {},
            {"predicted": 0.5, "classes": "one-hot"},
        ),
        (truth_first, {}, {"predicted": 1.0, "order": "truth-first", "cut": "given"}),
        (lambda a, b: F.mse_loss(a, b), {}, {"predicted": 0.5, "order": "pred-first"}),
        (points, {}, {"predicted": 0.5, "random": True}),
        (Kernel, {}, {"predicted": 0.5, "takes": "loss", "random": False}),
        (lambda p, t: (F.mse_loss(p, t), 0), {}, {"predicted": 0.5, "gradient": True}),
        (
            lambda p, t: ((p - t).abs() ** 0.5).mean(),
            {},
            {"predicted": "ends tie", "slides_to": 0.5},
        ),
        (
            lambda p, t: losses.iou((p > 0.5).double(), t),
            {},
            {"gradient": False, "kind": "flat"},
        ),
        (
            lambda p, t: 1 - float(((p > 0.5) == t).double().mean()),
            {},
            {"gradient": False},
        ),
        (numpy_metric, {}, {"gradient": False, "kind": "flat"}),
        (nn.L1Loss, {}, {"gradient": True, "kind": "flat", "slides_to": 0.5}),
        (
            losses.softmax_dice,
            {},
            {"predicted": "one owner, either", "cut": "one owner"},
        ),
        (softmax_coefficient, {}, {"predicted": "ends tie", "cut": "not given"}),
        (sampled(F.binary_cross_entropy), {}, {"predicted": 0.5, "cut": "toss-up"}),
        (
            sampled(losses.dice),
            {},
            {"cut": "toss-up", "random": True, "slides_to": 0.5},
        ),
        (sampled(losses.dice, 30), {}, {"predicted": "ends tie", "slides_to": 0.5}),
        (
            points_between,
            {},
            {"cut": "toss-up", "input": "logits", "kind": "in between"},
        ),
        (clamped, {}, {"predicted": 0.5, "gradient": True}),
        (squeezed, {}, {"predicted": 0.5, "classes": "squeezed"}),
        (parts_and_total, {}, {"takes": "total", "predicted": 0.9776, "cut": "given"}),
        (lambda p, t: 1 - coefficient((p > 0).double(), t), {}, {"gradient": False}),
        (
            losses.iou,
            {"parts": row_of(200, 8, 200)},
            {"slides_to": 1.0, "cut": "given"},
        ),
        (shared_dice, {}, {"predicted": "flat", "exclusive": True, "cut": "toss-up"}),
        (losses.iou, {"truths": [[1, 0], [0, 1]] * 125}, {"predicted": "ends tie"}),
        (losses.cropped, {}, {"predicted": 1.0, "cut": "given"}),
        (weighted, {"classes": "masks"}, {"predicted": 0.5, "cut": "toss-up"}),
        (
            lambda p, t: -(t.flatten(2) * p.flatten(2).log_softmax(2)).sum(2),
            {},
            {"exclusive": False},
        ),
        (losses.hausdorff, {}, {"cut": "not given"}),
        (losses.jaccard_metric, {}, {"predicted": "ends tie", "cut": "given"}),
        (
            losses.jaccard_metric,
            {"truths": [[0.5, 0.5]]},
            {"predicted": 0.5, "cut": "toss-up"},
        ),
        (losses.dice, {"truths": [[0.5, 0.5]]}, {"predicted": 1.0, "cut": "given"}),
        (losses.iou, {"truths": [[1, 0], [0, 1], [1, 1]]}, {"predicted": 1.0}),
        (losses.iou, {"truths": [[1, 0], [0, 1], [0, 0]]}, {"predicted": 0.0}),
        (
            losses.iou,
            {"priors": [0.7, 0.3]},
            {"predicted": [1.0, 0.0], "cut": "one owner"},
        ),
        (losses.cross_entropy, {"priors": [0.7, 0.3]}, {"predicted": [0.7, 0.3]}),
        (torch.jit.script(smoothed), {"logits": "yes"}, {"predicted": 0.5}),
    ],
)
def test_a_loss_is_predicted_as_it_is_meant(loss, options, expected):
    before = torch.random.get_rng_state()
    with torch.no_grad():  # as in a notebook
        found = predict(loss, **options)
    assert torch.equal(torch.random.get_rng_state(), before)
    json.dumps(found, allow_nan=False)
    for key, value in expected.items():
        number = not isinstance(value, str)
        exact = 2e-3 + 2 * found["within"]
        assert found[key] == (pytest.approx(value, abs=exact) if number else value), key


@pytest.mark.parametrize(
    "loss, options, said",
    [
        (
            losses.overlap,
            {},
            "perfect masks cost 1, undecided ones 0.07.*write 1 - score",
        ),
        (coefficient, {}, "write 1 - score"),
        (lambda p, t: coefficient(p.sigmoid(), t), {}, "write 1 - score"),
        (lambda p, t: ((p > 0.5) == (t > 0)).double().mean(), {}, "write 1 - score"),
        (lambda p, t: -10 * F.mse_loss(p, t).log10(), {}, "write 1 - score"),
        (foreground, {}, "the mask of instance . does not count"),
        (
            lambda p, t: F.mse_loss(p.sum(1), t.sum(1)),
            {"classes": "masks"},
            "which mask is whose",
        ),
        (
            lambda p, t: F.binary_cross_entropy((p / 10).sigmoid(), t),
            {},
            "probabilities or logits",
        ),
        (
            lambda refined, mask: losses.tversky_misses(refined, mask),
            {},
            "name them pred",
        ),
        (
            lambda p, t: F.mse_loss(p, 2 * t - 1),
            {},
            r"return loss\(2 \* pred - 1, target\)",
        ),
        (lambda p, t: F.mse_loss(p[0], t[0]), {}, "image 2 of a batch does not count"),
        (lambda p, t: F.mse_loss(p.amax(1), t.amax(1)), {}, "which mask is whose"),
        (lambda p, t: F.cross_entropy(p, (t > 0).long()), {}, "which mask is whose"),
        (weighted, {}, "treats the first mask otherwise"),
        (lambda p, t: torch.complex(F.mse_loss(p, t), p.mean()), {}, "must be real"),
        (said_later, {}, r"RuntimeError: the reason \(test_losses.py"),
        (
            nn.BCEWithLogitsLoss(),
            {"logits": True},
            "logits must be one of auto, yes, no, got True",
        ),
        (
            nn.MSELoss(),
            {"order": "truth first"},
            "order must be one of auto, pred-first",
        ),
        (nn.MSELoss(), {"classes": "softmax"}, "classes must be one of auto, masks"),
        (losses.iou, {"priors": 0.5}, "priors must be"),
        (losses.iou, {"truths": "1,0 0,1"}, "must be numbers"),
        (first_channel, {"classes": "masks"}, "a softmax: it takes classes"),
        (
            lambda p, t: F.mse_loss(p[:, 1:], t[:, 1:]),
            {"classes": "masks"},
            "instance 1 does not",
        ),
        (smoothed, {}, "probabilities or logits: say which"),
        (lambda a, b: losses.tversky_misses(a, b), {}, "name them pred and target"),
        (Kernel(schedule=True), {}, "differs from call to call"),
        (lambda p, t, n: p, {}, "'n'; write def f"),
        (nn.GaussianNLLLoss, {}, "'var'; write def f"),
        (lambda p, t: None, {}, "must return a tensor, got None"),
        (lambda p, t: p.mean() * math.nan, {}, "not finite"),
        (lambda p, t: p.no, {}, r"AttributeError: .*'no' \(test_losses.py, line \d+\)"),
        (broken, {}, r": RuntimeError \(test_losses.py, line \d+\)"),
        (losses.softmax, {"truths": [[1, 1]]}, "one owner at most"),
        (nn.NLLLoss(), {"truths": [[0.5, 0.5]]}, "truths must be 0 or 1"),
        (losses.iou, {"truths": [[1, 0, 0]]}, "truths must be"),
        (losses.iou, {"truths": [[math.nan, 1]]}, "truths must be"),
        (losses.iou, {"priors": [1, -1]}, "priors must be"),
        (losses.iou, {"priors": [0.999, 0.001]}, "a hundredth of their sum"),
        (losses.iou, {"parts": torch.ones(3, 4, 4)}, "parts must be"),
        (losses.iou, {"parts": torch.ones(2, 4)}, "parts must be"),
        (losses.iou, {"parts": torch.eye(12)[:, None]}, "K from 2 to 10"),
        (3, {}, "must be a function"),
    ],
)
def test_what_cannot_be_predicted_is_refused_in_one_line(loss, options, said):
    with pytest.raises(ValueError, match=said) as e:
        predict(loss, **options)
    assert "\n" not in str(e.value)


@pytest.mark.parametrize(
    "sizes", [(12, 12, 12), (5, 12, 20), (12, 60, 12, 12), (4, 9, 30, 12)]
)
def test_every_instance_gets_the_share_that_is_best_for_its_own_size(sizes):
    a, K = torch.linspace(0, 1, 10**5 + 1).double()[1:-1], len(sizes) - 1
    own, b = torch.tensor([sizes[0], *sizes[2:]]).double()[:, None], sizes[1]
    given, taken, p = (
        (own + a * b) / (own + b),
        own / (own + a * b),
        1 / K,
    )  # IoU, (K, shares)
    for name, scores in {
        "iou": (given, taken),
        "squared-iou": (-((1 - given) ** 2), -((1 - taken) ** 2)),
        "log-dice": [(2 * x / (1 + x)).log() for x in (given, taken)],
        "cross-entropy": (a.log().expand(K, -1), (1 - a).log().expand(K, -1)),
    }.items():
        costs = -(p * scores[0] + (1 - p) * scores[1])
        best, found = (
            a[costs.argmin(1)].round(decimals=4),
            predict(LOSSES[name], row_of(*sizes)),
        )
        for shares in found["best"]:
            at = [(x - a).abs().argmin() for x in torch.tensor(shares).double()]
            cost = sum(row[i] for row, i in zip(costs, at))
            assert cost == pytest.approx(costs.amin(1).sum().item(), rel=1e-3, abs=1e-4)
        if name != "iou" or K > 2:  # of two the ends tie
            assert found["best"][0] == pytest.approx(best.tolist(), abs=3e-3)
        middle = len(a) // 2
        climbs = [row[middle + 1] < row[middle] for row in costs]
        slides = torch.as_tensor(found["slides_to"]).expand(K)
        if name == "iou":
            assert [x > 0.9 for x in slides.tolist()] == climbs


def test_the_lowest_of_a_noisy_curve_is_at_most_a_step_away():
    shares = torch.linspace(0, 1, 11)
    assert predict_module.lowest((shares - 0.62) ** 2, shares, 6) == pytest.approx(0.62)
    assert predict_module.lowest(1 - shares, shares, 6) == pytest.approx(
        0.7
    )  # a line has none


def test_the_gradient_is_followed_where_the_value_is_flat():
    found, a = predict(plateau), torch.linspace(0.3, 0.7, 401).double()
    products = []  # the gradient is that of ln Dice loss + ln cross-entropy
    for x in a.tolist():
        p = masks_of(x, x)
        products.append(
            losses.dice(p, TRUTHS).mean() * F.binary_cross_entropy(p, TRUTHS)
        )
    at = a[torch.stack(products).argmin()].item()
    assert found["slides_to"] == found["predicted"] == pytest.approx(at, abs=5e-3)
    assert max(found["curve"]) == pytest.approx(2) == min(found["curve"])
    four = sorted(predict(losses.iou)["best"])
    assert four == [[0, 0], [0, 1], [1, 0], [1, 1]]
    even, one = (
        losses.softmax_dice(masks_of(*x), TRUTHS).mean() for x in ((0.5, 0.5), (1, 0))
    )
    assert [one.item(), even.item()] == pytest.approx([0.1111, 0.1143], abs=1e-4)


def by_hand(p, t):
    """What losses that no library has are for one mask and its truth, lists of numbers."""
    both, apart = (
        sum(a * b for a, b in zip(p, t)),
        sum(abs(a - b) for a, b in zip(p, t)),
    )
    both_sizes, alarms, misses = sum(p) + sum(t), sum(p) - both, sum(t) - both
    iou, dice = both / (both_sizes - both), 2 * both / both_sizes
    right = [a if b else 1 - a for a, b in zip(p, t)]
    entropies = [-math.log(x) for x in right]
    entropy, box = sum(entropies) / len(p), slice(t.index(1), len(t) - t[::-1].index(1))
    return {
        "squared-iou": (1 - iou) ** 2,
        "focal-tversky": (1 - both / (both + 0.3 * alarms + 0.7 * misses)) ** 0.75,
        "cross-entropy": entropy,
        "log-cosh-dice": math.log(math.cosh(1 - dice)),
        "jaccard-metric": 1 - (both_sizes - apart) / (both_sizes + apart),
        "bce-dice-logits": entropy + 1 - dice,
        "poly": entropy + 1 - sum(right) / len(p),
        "cropped": sum(entropies[box]) / len(entropies[box]),
    }


def test_losses_are_what_a_few_pixels_give_by_hand():
    p, t = drawn(2, 3, 1, 20, seed=7), (drawn(2, 3, 1, 20, seed=8) < 0.4).double()
    rows = [
        by_hand(*pair)
        for pair in zip(p.flatten(0, 2).tolist(), t.flatten(0, 2).tolist())
    ]
    expected = {name: sum(row[name] for row in rows) / 6 for name in rows[0]}
    right = (p * t + (1 - p) * (1 - t)).flatten().sort().values
    expected["top-k"] = -right[:12].log().mean().item()  # of 120 pixels
    for name, value in expected.items():
        given = p.logit() if name == "bce-dice-logits" else p
        for x, y in ((given, t), (given.mT, t.mT)):
            assert LOSSES[name](x, y).mean().item() == pytest.approx(value), name
    few, one = (
        p / 4,
        torch.zeros(2, 3, 1, 20).scatter(1, (drawn(2, 1, 1, 20) * 3).long(), 1),
    )
    full = torch.cat((1 - few.sum(1, keepdim=True), few), 1)
    entropy = F.cross_entropy(full.log(), one.argmax(1) + 1).item()
    dice = (
        2 * (few * one).sum((2, 3)) / (few + one).sum((2, 3))
    )  # no pixel is background
    batch = 2 * (few * one).sum((0, 2, 3)) / (few + one).sum((0, 2, 3))
    for name, value in {
        "softmax": entropy,
        "softmax-dice": 1 - dice.sum().item() / 8,
        "nnunet": entropy + 1 - batch.mean().item(),
    }.items():
        assert LOSSES[name](few, one).mean().item() == pytest.approx(value)
        assert LOSSES[name](3 * p, one).isnan().any()
    for (
        name,
        loss,
    ) in LOSSES.items():  # in half precision as in single, and with a gradient
        half = few.half().requires_grad_()
        cost = loss(half, one.bool()).mean()
        assert cost.item() == pytest.approx(
            loss(half.double(), one).mean().item(), rel=2e-3
        ), name
        assert torch.autograd.grad(cost, half)[0].isfinite().all()


def test_losses_are_those_of_the_libraries_that_are_installed():
    p, t = (
        drawn(3, 2, 16, 16),
        F.max_pool2d((drawn(3, 2, 16, 16, seed=1) < 0.1).double(), 3, 1, 1),
    )
    z, expected = p.logit(), {}
    one_by_one = [x.flatten(0, 1)[:, None] for x in (p, t)]  # each (6, 1, 16, 16)
    if find_spec("monai"):
        from monai import losses as m

        exact = {"smooth_nr": 0, "smooth_dr": 1e-12}
        smooth = m.DiceLoss(smooth_nr=1, smooth_dr=1)(p, t)
        focal = m.FocalLoss(gamma=2, alpha=0.25)(z, t)
        thin = m.SoftDiceclDiceLoss(smooth_nr=1, smooth_dr=1, smooth=1e-12)(*one_by_one)
        expected = {
            "iou": m.DiceLoss(jaccard=True, **exact)(p, t),
            "dice": m.DiceLoss(**exact)(p, t),
            "dice-squared": m.DiceLoss(squared_pred=True, **exact)(p, t),
            "dice-batch": m.DiceLoss(batch=True, **exact)(p, t),
            "tversky-misses": m.TverskyLoss(alpha=0.3, beta=0.7, **exact)(p, t),
            "tversky-alarms": m.TverskyLoss(alpha=0.7, beta=0.3, **exact)(p, t),
            "generalised-dice": m.GeneralizedDiceLoss(**exact)(p, t),
            "mask2former": 5 * F.binary_cross_entropy(p, t) + 5 * smooth,
            "sam": 20 * focal + smooth,
            "cl-dice": thin,
            "boundary": m.BoundaryLoss()(p, t),
            "unified-focal": m.AsymmetricUnifiedFocalLoss()(*one_by_one),
        }
        if find_spec("scipy"):
            expected["hausdorff"] = m.HausdorffDTLoss(include_background=True)(p, t)
    if find_spec("torchvision"):
        from torchvision.ops import sigmoid_focal_loss

        expected["focal"] = sigmoid_focal_loss(z, t, reduction="mean")
    if find_spec("segmentation_models_pytorch"):
        from segmentation_models_pytorch import losses as s

        exact = {"mode": "binary", "from_logits": False, "eps": 1e-12, "log_loss": True}
        for name, loss in (
            ("log-iou", s.JaccardLoss(**exact)),
            ("log-dice", s.DiceLoss(**exact)),
        ):
            expected[name] = (
                sum(loss(x[None], y[None]) for x, y in zip(*one_by_one)) / 6
            )
        expected["iou-batch"] = s.JaccardLoss(
            "multilabel", from_logits=False, eps=1e-12
        )(p, t)
        lovasz = s.LovaszLoss("binary", per_image=True)
        expected["lovasz"] = lovasz(one_by_one[0].logit().float(), one_by_one[1])
    if not expected:
        pytest.skip("no library is installed")
    for name, value in expected.items():
        assert LOSSES[name](p, t).mean().item() == pytest.approx(
            value.item(), abs=1e-5
        ), name


def test_the_better_decision_or_the_better_pairing_counts():
    parts = data.sample(3, torch.Generator().manual_seed(2))[1]
    truths = data.groupings(parts)  # (3, 2 truths, 2, H, W)
    right = truths.clamp(0.01, 0.99).logit()
    either = torch.stack(
        (right[0], right[1].flip(0), right[2])
    )  # decisions in either order
    for name in LOSSES:
        u, z, one, twice = landing.known(name), right, either, either[:, [0, 0]]
        tried = understand(LOSSES[name], PARTS)
        assert (u.input, u.exclusive, u.form) == (
            tried.input,
            tried.exclusive,
            tried.form,
        ), name
        if u.exclusive:
            z, one, twice = (landing.with_zero(x) for x in (z, one, twice))
        best = u(z.flatten(0, 1), truths.flatten(0, 1)).item()
        for rule in ("hard", "matched"):
            assert landing.objective(u, one, truths, rule).item() == pytest.approx(
                best, abs=1e-5
            )
            assert landing.objective(u, twice, truths, rule) > best + 1e-3, name
    # One decision that is better for both truths takes both, unless they are matched.
    good, bad = truths.amax(1), 1 - truths.amax(1)
    z = torch.stack((good, bad), 1).clamp(0.01, 0.99).logit().requires_grad_()
    for rule, both in (("hard", False), ("matched", True)):
        cost = landing.objective(landing.known("cross-entropy"), z, truths, rule)
        (slope,) = torch.autograd.grad(cost, z)
        assert (slope[:, 1].abs().sum() > 0) == both


def test_a_summary_of_recorded_rows_is_the_recorded_one():
    rows = sweep.distinct(sweep.read(sweep.ROWS / "losses.jsonl"))
    recorded = json.loads((Path(__file__).parent / "figures/losses.json").read_text())
    few = {}
    for key, row in rows.items():
        if key[0].split("-")[0] in ("iou", "softmax"):
            few[key] = row
    saved, text = landing.report(few)
    summary = json.loads(json.dumps(saved["losses.json"]))["losses"]
    for name in ("iou", "softmax"):
        here, there = summary[name], recorded["losses"][name]
        assert here["gets"] == there["gets"]
        assert here["heads"] == there["heads"]
        assert here["off"] == pytest.approx(there["off"], abs=1e-4)
    assert "| both 20 | 0/10 | 8/10 |" in text


YOURS = """
import data, torch
from losses import own
def brier(p, t): return own(p, t)
def lazy(p, t):
    import data
    return own(p, t) if data.MINE else None
bce = torch.nn.BCEWithLogitsLoss()
def detached(p, t): return own(p, t).detach()
def leaves(p, t): raise SystemExit
def net():
    layers, channels = [], 1
    for _ in range(5):
        layers += [torch.nn.Conv2d(channels, 8, 3, padding=1), torch.nn.BatchNorm2d(8)]
        layers, channels = [*layers, torch.nn.MaxPool2d(2)], 8
    layers += [torch.nn.BatchNorm2d(8), torch.nn.Dropout(), torch.nn.Upsample(scale_factor=32)]
    return torch.nn.Sequential(*layers, torch.nn.Conv2d(8, 2, 1))
flat = torch.nn.L1Loss
number = 3
"""


def test_a_loss_a_network_and_masks_of_your_own(tmp_path, capsys, monkeypatch):
    few = {name: LOSSES[name] for name in ("iou", "jaccard-metric")}
    monkeypatch.setattr("beyond.yours.LOSSES", few)
    (tmp_path / "my.py").write_text(YOURS)
    (tmp_path / "data.py").write_text("MINE = True")
    (tmp_path / "losses.py").write_text("def own(p, t): return ((p - t) ** 2).mean()")
    (tmp_path / "lost.py").write_text("import unet")
    (tmp_path / "exit.py").write_text("raise SystemExit(0)")
    file, out = f"{tmp_path}/my.py", ["--out", str(tmp_path / "out")]

    def run(*argv):
        found = landing.main([*argv, *out])
        return found, capsys.readouterr().out.splitlines()

    for name in ("brier", "lazy"):
        found, lines = run("--loss", f"{file}:{name}")
        assert found["predicted"] == pytest.approx(0.5, abs=1e-3) and len(lines) == 5
    assert "unet" in sys.modules and not hasattr(sys.modules["data"], "MINE")
    assert not sys.modules.keys() & {"my", "losses"}
    assert (
        json.loads((tmp_path / "out/landing.json").read_text())["input"]
        == "probabilities"
    )
    quick = ["--train", "--epochs", "1", "--seeds", "3,4"]
    found, lines = run("--loss", f"{file}:bce", "--net", f"{file}:net", *quick)
    assert "understood: logits" in lines[0] and lines[-1].startswith(
        "trained, seed 4: left gets 0"
    )
    assert (tmp_path / "out/landing.png").read_bytes().startswith(b"\x89PNG")
    a, b, c = torch.zeros(3, 16, 16, dtype=torch.bool)
    a[2:10, 2:10] = b[6:14, 6:14] = c[8:15, 9:15] = True
    np.save(tmp_path / "a.npy", a)
    matplotlib.image.imsave(tmp_path / "b.png", b.numpy(), cmap="gray")
    np.save(tmp_path / "all.npy", torch.stack((a, c, b)))
    np.save(tmp_path / "c.npy", c)
    (tmp_path / "empty.npy").touch()
    np.save(tmp_path / "small.npy", np.eye(4))
    np.savez(tmp_path / "several.npz", a=a)
    (tmp_path / "several.npz").rename(tmp_path / "several.npy")
    (tmp_path / "cut.png").write_bytes((tmp_path / "b.png").read_bytes()[:60])
    parts = from_masks(a.numpy(), b)
    assert parts.sum((1, 2)).tolist() == [48, 16, 48] and torch.equal(
        parts[1] > 0, a & b
    )
    found, lines = run(
        "--masks", f"{tmp_path}/a.npy", f"{tmp_path}/b.png", "--loss", "iou"
    )
    assert (
        lines[2] == "| 0, 1 | 48 | 16 | 48 | 0.33, 0.33 | 0.14 |"
        and found["cut"] == "given"
    )
    _, lines = run("--masks", f"{tmp_path}/all.npy")
    assert [line.split(" | ")[0] for line in lines[2:5]] == [
        "| 1, 2",
        "| 0, 2",
        "| 0, 1",
    ]
    three = [f"{tmp_path}/{name}" for name in ("a.npy", "c.npy", "b.png")]
    assert run("--masks", *three)[1][:5] == lines[:5]
    found, _ = run("--loss", f"{file}:flat")
    assert found["kind"] == "flat"
    _, lines = run("--truths", "1,0", "0,1")
    assert (
        lines[3]
        == "| Jaccard metric loss | ends tie | 1.00 | given | 0.50 | 0.50 | toss-up |"
    )
    for argv, said in (
        (["--loss", f"{file}:no"], "there is no 'no' in"),
        (["--loss", f"{file}:number"], "must be a function"),
        (["--loss", f"{file}:leaves"], "SystemExit (my.py, line 10)"),
        (
            ["--loss", f"{tmp_path}/lost.py:f"],
            "No module named 'unet' (lost.py, line 1)",
        ),
        (["--loss", f"{tmp_path}/exit.py:f"], "SystemExit"),
        (["--loss", f"{tmp_path}/none.py:f"], "FileNotFoundError"),
        (["--loss", file], "must be FILE.py:NAME"),
        (["--loss", f"{tmp_path}/all.npy:f"], "must be FILE.py:NAME"),
        (["--loss", f"{file}:detached", *quick], "no gradient"),
        (
            ["--loss", f"{file}:brier", "--net", f"{file}:number", *quick],
            "--train: TypeError",
        ),
        (
            ["--masks", f"{tmp_path}/a.npy"],
            "masks must be one file (n, H, W) or several",
        ),
        (["--masks", f"{tmp_path}/empty.npy"], "cannot read"),
        (["--masks", f"{tmp_path}/several.npy"], "it holds several arrays"),
        (
            [
                "--masks",
                f"{tmp_path}/a.npy",
                f"{tmp_path}/b.png",
                f"{tmp_path}/small.npy",
            ],
            "(4, 4)",
        ),
        (["--masks", f"{tmp_path}/cut.png"], "cannot read"),
        (["--truths", "1,0", "0,1", "--priors", "0", "0"], "priors must be"),
        (["--loss", "iou", "--net", "iou"], "--net: must be FILE.py:NAME"),
        (["--train"], "give --loss"),
        (["--loss", "iou", "--variants", "iou"], "unrecognized arguments"),
    ):
        with pytest.raises(SystemExit) as e:
            run(*argv)
        error = capsys.readouterr().err
        assert e.value.code == 2 and said in error and error.count("\n") == 1, error
