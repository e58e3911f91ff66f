"""The losses of losses.py and the study of landing.py against other computations."""

import json
import math

import numpy as np
import pytest
import torch
from torch.nn import functional as F

import data
from beyond import landing, sweep, training
from beyond.losses import LOSSES
from beyond.understand import understand
from beyond.yours import known

torch.set_num_threads(1)  # the masks are small: a second thread only waits


def drawn(*shape, seed=0):
    return torch.rand(*shape, generator=torch.Generator().manual_seed(seed)).double()


def by_hand(p, t):
    """What losses that no library has are of one mask and its truth, two lists."""
    both = sum(a * b for a, b in zip(p, t))
    apart = sum(abs(a - b) for a, b in zip(p, t))
    sizes = sum(p) + sum(t)
    alarms = sum(p) - both
    misses = sum(t) - both
    iou = both / (sizes - both)
    dice = 2 * both / sizes
    right = [a if b else 1 - a for a, b in zip(p, t)]
    entropies = [-math.log(x) for x in right]
    entropy = sum(entropies) / len(p)
    box = entropies[t.index(1) : len(t) - t[::-1].index(1)]
    return {
        "squared-iou": (1 - iou) ** 2,
        "focal-tversky": (1 - both / (both + 0.3 * alarms + 0.7 * misses)) ** 0.75,
        "cross-entropy": entropy,
        "log-cosh-dice": math.log(math.cosh(1 - dice)),
        "jaccard-metric": 1 - (sizes - apart) / (sizes + apart),
        "bce-dice-logits": entropy + 1 - dice,
        "poly": entropy + 1 - sum(right) / len(p),
        "cropped": sum(box) / len(box),
    }


def test_losses_of_masks_are_what_a_few_pixels_give_by_hand():
    p = drawn(2, 3, 1, 20, seed=7)
    t = (drawn(2, 3, 1, 20, seed=8) < 0.4).double()
    pairs = zip(p.flatten(0, 2).tolist(), t.flatten(0, 2).tolist())
    rows = [by_hand(mask, truth) for mask, truth in pairs]
    for name in rows[0]:
        value = sum(row[name] for row in rows) / 6
        given = p.logit() if name == "bce-dice-logits" else p
        assert LOSSES[name](given, t).mean().item() == pytest.approx(value), name
        turned = LOSSES[name](given.mT, t.mT)
        assert turned.mean().item() == pytest.approx(value), name
    right = (p * t + (1 - p) * (1 - t)).flatten().sort().values
    worst = -right[:12].log().mean().item()  # of 120 pixels
    assert LOSSES["top-k"](p, t).mean().item() == pytest.approx(worst)


def classes():
    """Masks that add up to less than 1, (2, 3, 1, 20), and truths of which each pixel
    has one, none being background."""
    index = (drawn(2, 1, 1, 20) * 3).long()
    truths = torch.zeros(2, 3, 1, 20).scatter(1, index, 1)
    return drawn(2, 3, 1, 20, seed=7) / 4, truths


def test_losses_of_classes_are_what_a_few_pixels_give_by_hand():
    p, t = classes()
    full = torch.cat((1 - p.sum(1, keepdim=True), p), 1)  # (2, 4, 1, 20)
    entropy = F.cross_entropy(full.log(), t.argmax(1) + 1).item()
    dice = 2 * (p * t).sum((2, 3)) / (p + t).sum((2, 3))
    of_batch = 2 * (p * t).sum((0, 2, 3)) / (p + t).sum((0, 2, 3))
    expected = {
        "softmax": entropy,
        "softmax-dice": 1 - dice.sum().item() / 8,
        "nnunet": entropy + 1 - of_batch.mean().item(),
    }
    for name, value in expected.items():
        assert LOSSES[name](p, t).mean().item() == pytest.approx(value)
        assert LOSSES[name](12 * p, t).isnan().any()


@pytest.mark.parametrize("name", LOSSES)
def test_a_loss_is_in_half_precision_what_it_is_in_double(name):
    p, t = classes()
    half = p.half().requires_grad_()
    cost = LOSSES[name](half, t.bool()).mean()
    exact = LOSSES[name](half.double(), t).mean().item()
    assert cost.item() == pytest.approx(exact, rel=2e-3)
    (slope,) = torch.autograd.grad(cost, half)
    assert slope.isfinite().all()


# Masks and truths for the libraries, (3, 2, 16, 16), and one by one, (6, 1, 16, 16).
MASKS = drawn(3, 2, 16, 16)
OWNED = F.max_pool2d((drawn(3, 2, 16, 16, seed=1) < 0.1).double(), 3, 1, 1)
MASK_EACH = MASKS.flatten(0, 1)[:, None]
OWNED_EACH = OWNED.flatten(0, 1)[:, None]


def same(name, value):
    """Check that a loss of ours is the value of a library's."""
    ours = LOSSES[name](MASKS, OWNED).mean().item()
    assert ours == pytest.approx(value.item(), abs=1e-5), name


def test_losses_are_those_of_monai():
    m = pytest.importorskip("monai.losses")
    exact = {"smooth_nr": 0, "smooth_dr": 1e-12}
    smooth = m.DiceLoss(smooth_nr=1, smooth_dr=1)(MASKS, OWNED)
    focal = m.FocalLoss(gamma=2, alpha=0.25)(MASKS.logit(), OWNED)
    misses = m.TverskyLoss(alpha=0.3, beta=0.7, **exact)
    alarms = m.TverskyLoss(alpha=0.7, beta=0.3, **exact)
    lines = m.SoftDiceclDiceLoss(smooth_nr=1, smooth_dr=1, smooth=1e-12)
    same("iou", m.DiceLoss(jaccard=True, **exact)(MASKS, OWNED))
    same("dice", m.DiceLoss(**exact)(MASKS, OWNED))
    same("dice-squared", m.DiceLoss(squared_pred=True, **exact)(MASKS, OWNED))
    same("dice-batch", m.DiceLoss(batch=True, **exact)(MASKS, OWNED))
    same("tversky-misses", misses(MASKS, OWNED))
    same("tversky-alarms", alarms(MASKS, OWNED))
    same("generalised-dice", m.GeneralizedDiceLoss(**exact)(MASKS, OWNED))
    same("mask2former", 5 * F.binary_cross_entropy(MASKS, OWNED) + 5 * smooth)
    same("sam", 20 * focal + smooth)
    same("cl-dice", lines(MASK_EACH, OWNED_EACH))
    same("boundary", m.BoundaryLoss()(MASKS, OWNED))
    same("unified-focal", m.AsymmetricUnifiedFocalLoss()(MASK_EACH, OWNED_EACH))


def test_the_hausdorff_loss_is_that_of_monai():
    m = pytest.importorskip("monai.losses")
    pytest.importorskip("scipy")
    same("hausdorff", m.HausdorffDTLoss(include_background=True)(MASKS, OWNED))


def test_the_focal_loss_is_that_of_torchvision():
    ops = pytest.importorskip("torchvision.ops")
    same("focal", ops.sigmoid_focal_loss(MASKS.logit(), OWNED, reduction="mean"))


def test_losses_are_those_of_segmentation_models():
    smp = pytest.importorskip("segmentation_models_pytorch.losses")
    exact = {"from_logits": False, "eps": 1e-12}
    iou = smp.JaccardLoss("binary", log_loss=True, **exact)
    dice = smp.DiceLoss("binary", log_loss=True, **exact)
    each = list(zip(MASK_EACH[:, None], OWNED_EACH[:, None]))
    same("log-iou", sum(iou(p, t) for p, t in each) / 6)
    same("log-dice", sum(dice(p, t) for p, t in each) / 6)
    same("iou-batch", smp.JaccardLoss("multilabel", **exact)(MASKS, OWNED))
    lovasz = smp.LovaszLoss("binary", per_image=True)
    same("lovasz", lovasz(MASK_EACH.logit().float(), OWNED_EACH))


@pytest.mark.parametrize("name", LOSSES)
def test_a_loss_of_ours_is_understood_as_it_is_called(name):
    u = known(name)
    tried = understand(LOSSES[name])[0]
    assert tried.input == u.input
    assert tried.exclusive == u.exclusive
    assert tried.form_name == u.form_name


def three_pairs():
    """The truths (3, 2, 2, H, W) of three images and decisions that are right, as
    logits, of which the second image has them the other way round."""
    _, parts = data.sample(3, torch.Generator().manual_seed(2))
    truths = data.groupings(parts)
    right = truths.clamp(0.01, 0.99).logit()
    return truths, torch.stack((right[0], right[1].flip(0), right[2]))


@pytest.mark.parametrize("rule", ["hard", "matched"])
@pytest.mark.parametrize("name", LOSSES)
def test_the_better_decision_or_the_better_pairing_counts(name, rule):
    u = known(name)
    truths, decisions = three_pairs()
    right = truths.clamp(0.01, 0.99).logit()
    if u.exclusive:
        decisions = training.with_zero(decisions)
        right = training.with_zero(right)
    best = u(right.flatten(0, 1), truths.flatten(0, 1)).item()
    cost = training.objective(u, decisions, truths, rule).item()
    assert cost == pytest.approx(best, abs=1e-5)
    alike = decisions[:, [0, 0]]
    assert training.objective(u, alike, truths, rule) > best + 1e-3


@pytest.mark.parametrize("rule, trained", [("hard", False), ("matched", True)])
def test_a_decision_that_is_worse_for_both_truths_is_trained_if_matched(rule, trained):
    truths, _ = three_pairs()
    good = truths.amax(1)  # (3, 2, H, W)
    decisions = torch.stack((good, 1 - good), 1).clamp(0.01, 0.99).logit()
    decisions.requires_grad_()
    cost = training.objective(known("cross-entropy"), decisions, truths, rule)
    (slope,) = torch.autograd.grad(cost, decisions)
    assert slope[:, 1].any() == trained


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
    there = landing.recorded_prediction(name)
    here = landing.prediction(name)
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
