"""What the losses of losses.py are, and the study of landing.py, against other
computations."""

import json
import math
from importlib.util import find_spec

import numpy as np
import pytest
import torch
from torch.nn import functional as F

import data
from beyond import landing, sweep, training
from beyond.losses import LOSSES
from beyond.predict import pair
from beyond.understand import understand
from beyond.yours import known

PARTS = pair().double()
TRUTHS = data.groupings(PARTS[None])[0]  # (2 truths, 2, 32, 32)


def drawn(*shape, seed=0):
    return torch.rand(*shape, generator=torch.Generator().manual_seed(seed)).double()


def by_hand(p, t):
    """What losses that no library has are for one mask and its truth, lists of
    numbers."""
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
        u, z, one, twice = known(name), right, either, either[:, [0, 0]]
        tried = understand(LOSSES[name])[0]
        assert (u.input, u.exclusive, u.form) == (
            tried.input,
            tried.exclusive,
            tried.form,
        ), name
        if u.exclusive:
            z, one, twice = (training.with_zero(x) for x in (z, one, twice))
        best = u(z.flatten(0, 1), truths.flatten(0, 1)).item()
        for rule in ("hard", "matched"):
            assert training.objective(u, one, truths, rule).item() == pytest.approx(
                best, abs=1e-5
            )
            assert training.objective(u, twice, truths, rule) > best + 1e-3, name
    # One decision that is better for both truths takes both, unless they are matched.
    good, bad = truths.amax(1), 1 - truths.amax(1)
    z = torch.stack((good, bad), 1).clamp(0.01, 0.99).logit().requires_grad_()
    for rule, both in (("hard", False), ("matched", True)):
        cost = training.objective(known("cross-entropy"), z, truths, rule)
        (slope,) = torch.autograd.grad(cost, z)
        assert (slope[:, 1].abs().sum() > 0) == both


def test_a_summary_of_recorded_rows_is_the_recorded_one():
    rows = sweep.distinct(sweep.read(sweep.ROWS / "losses.jsonl"))
    saved, text = landing.report(rows)
    here = json.loads(json.dumps(saved["losses.json"]))["losses"]
    there = json.loads(landing.FIGURES.read_text())["losses"]
    assert list(here) == list(there)
    for name in there:
        assert here[name].pop("off") == pytest.approx(there[name].pop("off"), abs=1e-6)
        assert here[name] == there[name]
    assert "| both 20 | 0/10 | 8/10 |" in text


@pytest.mark.parametrize("name", LOSSES)
def test_the_recorded_prediction_is_that_of_today(name):
    there, here = landing.recorded_prediction(name), landing.prediction(name)
    for key in ("kind", "cut"):
        assert here[key] == there[key]
    assert np.shape(here["best"]) == np.shape(there["best"])
    assert np.allclose(here["best"], there["best"], rtol=0, atol=1e-3)
    assert np.allclose(here["slides_to"], there["slides_to"], rtol=0, atol=1e-3)
    if isinstance(there["predicted"], str):
        assert here["predicted"] == there["predicted"]
    else:
        assert here["predicted"] == pytest.approx(there["predicted"], abs=1e-3)


def test_a_loss_that_is_not_recorded_is_predicted(monkeypatch, tmp_path):
    (tmp_path / "losses.json").write_text('{"losses": {}}')
    monkeypatch.setattr(landing, "FIGURES", tmp_path / "losses.json")
    assert landing.recorded_prediction("iou")["best"] == [0, 1]
