"""What predict says of losses in the styles of public code, against a grid of direct
calls, and what the command for a loss of one's own says."""

import json
import math
import random
import subprocess
import sys

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn
from torch.nn import functional as F

import data
from beyond import losses, yours
from beyond.masks import pair_of, read
from beyond.predict import from_masks, pair, predict

torch.set_num_threads(1)  # the masks are small: a second thread only waits
PARTS = pair().double()
TRUTHS = data.groupings(PARTS[None])[0]  # (2 truths, 2, 32, 32)
WIDE = F.pad(PARTS, [8] * 4)  # 48 x 48


def shared(a, c):
    """The masks (2 truths, 2, H, W) with these shares, the same for both truths."""
    left, common, right = PARTS
    masks = torch.stack((left + a * common, right + c * common))
    return masks.clamp(1e-6, 1 - 1e-6).expand(2, -1, -1, -1).clone()


def classes_of(masks):
    """Masks (n, 2, H, W) as classes (n, 3, H, W), the background first."""
    classes = torch.cat((1 - masks.sum(1, keepdim=True), masks), 1).clamp(min=1e-6)
    return classes / classes.sum(1, keepdim=True)


def index_of(truths):
    return (truths[:, 0] + 2 * truths[:, 1]).long()  # (n, H, W)


def one_hot(truths):
    return F.one_hot(index_of(truths), 3).movedim(-1, 1).to(truths)


# The ways in which losses are called, each by hand: of a loss, masks p and truths t.
def probabilities(f, p, t):
    return f(p, t)


def logits(f, p, t):
    return f(p.logit(), t)


def single(f, p, t):
    return f(p.flatten(0, 1)[:, None].logit(), t.flatten(0, 1)[:, None])


def squeezed(f, p, t):
    return f(p.flatten(0, 1).logit(), t.flatten(0, 1))


def one_mask(f, p, t):
    both = zip(p.flatten(0, 1).logit(), t.flatten(0, 1))
    return torch.stack([f(mask, truth) for mask, truth in both]).mean()


def booleans(f, p, t):
    return f(p, t.bool())


def integers(f, p, t):
    return f(p.logit(), t.long())


def volumes(f, p, t):
    p = p.logit()[:, :, None].repeat(1, 1, 8, 1, 1)  # (n, 2, 8, H, W)
    return f(p, t[:, :, None].repeat(1, 1, 8, 1, 1))


def truth_first(f, p, t):
    return f(t, p)


def signed(f, p, t):
    return f(2 * p - 1, t)


def pair_indices(f, p, t):
    p = p.flatten(0, 1)
    return f(torch.stack((1 - p, p), 1).log(), t.flatten(0, 1).long())


def pair_one_hot(f, p, t):
    p = p.flatten(0, 1)
    t = t.flatten(0, 1)
    return f(torch.stack((1 - p, p), 1), torch.stack((1 - t, t), 1))


def one_hot_classes(f, p, t):
    return f(classes_of(p).log(), one_hot(t))


def background_last(f, p, t):
    return f(classes_of(p).log().roll(-1, 1), one_hot(t).roll(-1, 1))


def indices(f, p, t):
    return f(classes_of(p).log(), index_of(t))


def indices_of_shares(f, p, t):
    return f(classes_of(p), index_of(t))


def channel(f, p, t):
    return f(classes_of(p).log(), index_of(t)[:, None])


def sigmoids(f, p, t):
    background = 1 - PARTS.sum(0).expand(2, 1, -1, -1)
    return f(torch.cat((background, p), 1).logit(1e-6), index_of(t))


EXCLUSIVE = (one_hot_classes, background_last, indices, indices_of_shares, channel)


def cost_of(way, loss, place, kind):
    """The mean cost of shares (a, c) by a direct call."""
    masks = shared(*place).to(kind).requires_grad_().clone()
    return torch.as_tensor(way(loss, masks, TRUTHS.to(kind))).mean().item()


def grid_of(way, loss, kind):
    """The costs {(a, c): cost} of direct calls on a grid of shares."""
    costs = {}
    for i in range(11):
        for j in range(11):
            if way not in EXCLUSIVE or i + j <= 10:
                costs[i / 10, j / 10] = cost_of(way, loss, (i / 10, j / 10), kind)
    return costs


def check(way, loss, kind=torch.float64):
    """Compare predict with direct calls: its costs, and that nothing costs less than
    what it calls best."""
    found = predict(loss)
    costs = grid_of(way, loss, kind)
    assert found["exclusive"] == (way in EXCLUSIVE)
    size = sorted(costs.values())[3 * len(costs) // 4] - min(costs.values())
    for place, cost in zip(found["places"], found["costs"]):
        at = round(place[0], 2), round(place[1], 2)
        if at in costs and 0 < min(at) and max(at) < 1:
            assert cost == pytest.approx(costs[at], rel=1e-4, abs=1e-5 * size), at
    best = cost_of(way, loss, found["best"][0], kind)
    assert best <= min(costs.values()) + 2e-3 * size + 1e-9


def dice(p, t, over=(2, 3)):
    return 1 - 2 * (p * t).sum(over) / (p.sum(over) + t.sum(over)).clamp(min=1e-9)


def tversky(pred, target):  # of all that it is given
    both = (pred * target).sum()
    alarms = (pred * (1 - target)).sum()
    misses = ((1 - pred) * target).sum()
    return 1 - both / (both + 0.1 * alarms + 0.9 * misses)


def clamped_in_place(pred, target):
    return F.binary_cross_entropy(pred.clamp_(1e-7, 1 - 1e-7), target)


def picked(pred, target):
    return -pred[target].log().mean() - (1 - pred[~target]).log().mean()


def truth_and_prediction(y_true, y_pred):
    return losses.tversky_misses(y_pred, y_true)


def of_both_signs(pred, target):
    return F.mse_loss(pred, 2 * target - 1)


def test_probabilities_of_masks():
    check(probabilities, losses.dice)
    check(probabilities, tversky)
    check(probabilities, clamped_in_place)
    check(booleans, picked)
    check(truth_first, truth_and_prediction)
    check(signed, of_both_signs)


def gradient_inside(pred, target):
    cost = F.binary_cross_entropy_with_logits(pred, target)
    (slope,) = torch.autograd.grad(cost, pred, create_graph=True)
    return cost + slope.square().sum()


def counted(pred, target):
    weights = 1 / torch.bincount(target.flatten()).to(pred)
    return F.binary_cross_entropy_with_logits(pred, target.to(pred), weights[target])


def volume_dice(pred, target):
    assert pred.ndim == 5
    return dice(pred.sigmoid(), target, (2, 3, 4))


def test_logits_of_masks():
    check(logits, nn.BCEWithLogitsLoss())
    check(logits, gradient_inside)
    check(integers, counted)
    check(volumes, volume_dice)


def edges(pred, target):
    assert pred.shape[1] == 1
    kernel = torch.tensor([[1.0, 2, 1], [0, 0, 0], [-1, -2, -1]])[None, None].to(pred)
    gap = F.conv2d(pred.sigmoid() - target, kernel)
    return gap.square().mean() + F.binary_cross_entropy_with_logits(pred, target)


def without_channel(pred, target):
    assert pred.ndim == target.ndim == 3
    return F.binary_cross_entropy_with_logits(pred, target)


def distances(pred, target):
    assert pred.ndim == 2
    away = losses.distance(1 - target[None, None])[0, 0]
    return pred.sigmoid() * away / 10 + F.binary_cross_entropy_with_logits(pred, target)


def test_one_mask_at_a_time():
    check(single, edges)
    check(squeezed, without_channel)
    check(one_mask, distances)


def two_channels(x, y):
    p = x.softmax(1)[:, 1]
    t = (y == 1).to(x)
    return F.cross_entropy(x, y) + 1 - 2 * (p * t).sum() / (p.sum() + t.sum())


def second_channel(pred, target):
    assert pred.shape[1] == 2
    return dice(pred[:, 1:], target[:, 1:])


def test_background_and_object_in_two_channels():
    check(pair_indices, two_channels)
    check(pair_one_hot, second_channel)


def background_dropped(pred, target):
    return dice(pred.softmax(1)[:, :-1], target[:, :-1])


def exponential(output, target):  # of log-probabilities
    return dice(output.exp(), F.one_hot(target, 3).movedim(-1, 1))


def evidence(x, y):
    a = F.softplus(x) + 1
    return torch.digamma(a.sum(1)) - torch.digamma(a.gather(1, y[:, None])[:, 0])


def evidence_from_zero(x, y):
    a = x.relu() + 1
    return torch.digamma(a.sum(1)) - torch.digamma(a.gather(1, y[:, None])[:, 0])


def taylor(x, y):
    f = 1 + x + x**2 / 2
    return F.nll_loss((f / f.sum(1, keepdim=True)).log(), y)


def sums_to_one(x, y):
    return F.nll_loss((x / x.sum(1, keepdim=True)).log(), y)


def focal_of_sigmoids(x, y):
    return losses.focal(x.sigmoid(), F.one_hot(y, 3).movedim(-1, 1).to(x))


def test_classes():
    check(one_hot_classes, nn.CrossEntropyLoss(label_smoothing=0.1))
    check(background_last, background_dropped)
    check(indices, nn.NLLLoss())
    check(indices, exponential)
    check(indices_of_shares, taylor)
    check(indices_of_shares, sums_to_one)
    check(sigmoids, focal_of_sigmoids)


@pytest.mark.parametrize("loss", [evidence, evidence_from_zero, taylor, sums_to_one])
def test_classes_exclude_one_another_however_they_are_normalised(loss):
    found = predict(loss)
    assert found["exclusive"]
    assert found["predicted"] == pytest.approx(0.5, abs=1e-3)
    assert found["cut"] == "toss-up"


def test_losses_of_monai():
    monai = pytest.importorskip("monai.losses")
    check(probabilities, monai.TverskyLoss(beta=0.7), torch.float32)
    check(logits, monai.DiceFocalLoss(sigmoid=True), torch.float32)
    softmax = {"to_onehot_y": True, "softmax": True}
    check(channel, monai.DiceLoss(**softmax), torch.float32)
    check(channel, monai.DiceCELoss(**softmax), torch.float32)


def test_losses_of_segmentation_models():
    smp = pytest.importorskip("segmentation_models_pytorch.losses")
    check(logits, smp.DiceLoss("binary"), torch.float32)
    check(logits, smp.JaccardLoss("multilabel"), torch.float32)
    check(indices, smp.LovaszLoss("multiclass"), torch.float32)
    check(sigmoids, smp.FocalLoss("multiclass"), torch.float32)


def test_losses_of_torchvision_and_kornia():
    ops = pytest.importorskip("torchvision.ops")
    check(logits, ops.sigmoid_focal_loss, torch.float32)
    kornia = pytest.importorskip("kornia.losses")
    check(indices, kornia.DiceLoss(), torch.float32)


def test_two_channels_of_a_binary_mask_give_each_mask_its_own_share():
    found = predict(two_channels, WIDE)
    assert found["classes"] == "pair-indices"
    assert found["predicted"] == pytest.approx(0.78, abs=0.005)
    assert found["cut"] == "given"


def test_a_plain_dice_is_of_masks_where_the_pair_fills_the_image():
    a = torch.ones(12, 12)
    a[7:, 7:] = 0
    b = torch.zeros(12, 12)
    b[6:, 6:] = 1
    b[11, 11] = 0
    found = predict(dice, from_masks(a, b))
    assert found["classes"] == "masks"
    assert found["cut"] == "given"
    assert found["others"] == []  # as two channels it would want the object twice


def test_a_background_that_comes_last_and_is_dropped():
    found = predict(background_dropped)
    assert found["predicted"] == "ends tie"
    assert found["cut"] == "not given"


def coarse(pred, target):
    small = F.avg_pool2d(pred, 4)
    pred = F.interpolate(small, scale_factor=4, mode="bilinear")
    return F.binary_cross_entropy_with_logits(pred, target)


def test_logits_are_found_behind_a_coarse_grid():
    found = predict(coarse, WIDE)
    assert found["input"] == "logits"
    assert found["predicted"] == pytest.approx(0.78, abs=0.02)
    assert found["cut"] == "given"


def for_one_image(pred, target):
    return dice(pred.sigmoid().view(3, -1), target.view(3, -1), 1).mean()


def test_a_loss_that_is_written_for_one_image_is_called_with_one():
    found = predict(for_one_image)
    assert found["batch"] == "one"
    assert found["slides_to"] == 1
    assert found["cut"] == "given"


def two_losses(pred, target):
    bce = F.binary_cross_entropy_with_logits(pred, target)
    return {"loss_mask": bce, "loss_dice": 10 * dice(pred.sigmoid(), target).mean()}


def test_a_dict_of_losses_without_a_total_is_added_up():
    found = predict(two_losses, WIDE)
    assert found["takes"] == "the sum of loss_mask, loss_dice"
    assert found["predicted"] == pytest.approx(0.90, abs=0.005)
    assert found["cut"] == "given"


def self_weighted(p, t):
    c = F.binary_cross_entropy(p, t, reduction="none")
    return (2 * (1 - (-c).exp())).clamp(max=1) ** 2 * c


def sharpened(p, t):
    entropy = -p * p.log() - (1 - p) * (1 - p).log()
    return F.binary_cross_entropy(p, t) + 1.5 * entropy.mean()


def inner_tie(loss, low, high):
    """Check that two shares tie and that 1/2 is a maximum between them."""
    found = predict(loss)
    assert found["predicted"] == f"{low} or {high}"
    assert len(found["best"]) == 4  # each instance has the one or the other
    sides = [side[0] for side in found["parts_to"]]
    assert sides == pytest.approx([low, high], abs=0.01)
    assert found["cut"] == "toss-up"
    assert "1/2 is a maximum" in "\n".join(yours.described("mine", found))


def test_inner_ties_are_named_and_a_maximum_at_one_half_parts():
    inner_tie(self_weighted, 0.39, 0.61)
    inner_tie(sharpened, 0.16, 0.84)


def test_one_half_may_be_a_maximum_between_ends_that_tie():
    found = predict(lambda p, t: ((p - t).abs() + 0.001).log())
    assert found["kind"] == "ends tie"
    assert found["parts_to"] == [[0, 0], [1, 1]]


def test_with_one_truth_its_owner_gets_all_and_no_other_does():
    found = predict(losses.focal, truths=[[1, 0]])
    assert found["predicted"] == [1, 0]
    assert "nothing here: one truth" in yours.described("focal", found, [[1, 0]])[-1]


def lovasz_by_channel(pred, target):
    pred = pred.sigmoid()
    first = losses.lovasz(pred[:, :1], target[:, :1])
    return (first + losses.lovasz(pred[:, 1:], target[:, 1:])) / 2


def test_instances_that_are_alike_get_the_same_answer():
    found = predict(lovasz_by_channel)
    assert found["kind"] == "flat"
    assert found["slides_to"] == 0.5
    assert "a cut there is chance" in yours.described("lovasz", found)[3]


def test_a_first_lead_decides_where_one_owner_costs_less():
    found = predict(losses.softmax_dice)
    assert found["predicted"] == "one owner, either"
    assert found["slides_to"] == [1, 0]
    assert found["cut"] == "one owner"


def test_an_averaged_truth_is_the_ambiguity_itself():
    found = predict(losses.dice, truths=[[0.5, 0.5]])
    assert found["predicted"] == 1
    last = yours.described("dice", found, [[0.5, 0.5]])[-1]
    assert "the ambiguity itself, of which the loss makes 1.00" in last


def masks_or_indices(x, y):
    if y.ndim == 3:
        return F.cross_entropy(x, y)
    return F.binary_cross_entropy_with_logits(x, y) + 2 * dice(x.sigmoid(), y).mean()


def test_two_ways_to_understand_a_loss_that_lead_to_another_cut_are_both_named():
    found = predict(masks_or_indices)
    assert found["classes"] == "masks"
    assert found["cut"] == "given"
    assert [other["classes"] for other in found["others"]] == ["indices"]
    assert [other["cut"] for other in found["others"]] == ["toss-up"]
    assert "--classes indices" in "\n".join(yours.described("mine", found))
    assert predict(masks_or_indices, classes="indices")["cut"] == "toss-up"


def test_a_loss_that_pools_a_batch_says_what_one_image_a_batch_does():
    found = predict(lambda p, t: dice(p, t, (0, 2, 3)))
    assert found["predicted"] == 1
    assert found["alone"]["predicted"] == "ends tie"
    assert predict(losses.dice)["alone"] is None
    assert "all truths in one batch" in "\n".join(yours.described("dice", found))


def test_a_form_that_treats_one_instance_otherwise_is_the_last_resort():
    weights = torch.tensor([1.0, 2, 6]).double()
    found = predict(nn.CrossEntropyLoss(weights))
    assert "treats one instance otherwise" in found["asymmetry"]
    assert found["slides_to"][1] == pytest.approx(0.75, abs=0.01)


def uncertain_points(logits, target):  # as PointRend and Mask2Former draw them
    z = logits.flatten(0, 1)[:, None]
    t = target.flatten(0, 1)[:, None]
    places = torch.rand(len(z), 600, 1, 2, dtype=z.dtype) * 2 - 1
    near = F.grid_sample(z, places, align_corners=False).abs()[:, 0, :, 0]
    hard = (-near).topk(150, 1).indices[:, :, None, None].expand(-1, -1, 1, 2)
    places = torch.cat((places.gather(1, hard), places[:, :50]), 1)
    z = F.grid_sample(z, places, align_corners=False)
    t = F.grid_sample(t, places, align_corners=False)
    return F.binary_cross_entropy_with_logits(z, t)


def test_points_at_the_least_certain_places_are_random_and_understood():
    before = torch.random.get_rng_state()
    with torch.no_grad():  # as in a notebook
        found = predict(uncertain_points)
    assert found["input"] == "logits"
    assert found["random"]
    assert found["predicted"] == pytest.approx(0.5, abs=0.05 + found["within"])
    assert torch.equal(torch.random.get_rng_state(), before)


def test_truths_and_priors_count_as_they_should():
    assert predict(losses.iou, truths=[[1, 0], [0, 1], [1, 1]])["predicted"] == 1
    assert predict(losses.iou, truths=[[1, 0], [0, 1], [0, 0]])["predicted"] == 0
    assert predict(losses.iou, priors=[0.7, 0.3])["predicted"] == [1, 0]
    likely = predict(losses.cross_entropy, priors=[0.64, 0.36])["predicted"]
    assert likely == pytest.approx([0.64, 0.36], abs=1e-3)


def refused(said, loss, **options):
    """Check that predict refuses a loss in one line that says this."""
    with pytest.raises(ValueError, match=said) as e:
        predict(loss, **options)
    assert "\n" not in str(e.value)


def coefficient(pred, target):
    return 2 * (pred * target).sum() / (pred + target).sum()


def wrong_attribute(pred, target):
    return pred.no


def test_a_loss_that_means_nothing_is_refused():
    refused("write 1 - score", coefficient)
    whose = "which mask is whose"
    refused(whose, lambda p, t: F.mse_loss(p.sum(1), t.sum(1)), classes="masks")
    free = "false alarms are free"
    refused(free, lambda p, t: -(t * p.log()).sum((1, 2, 3)), classes="masks")
    refused("not finite", lambda p, t: p.mean() * math.nan)
    refused("differs from call", lambda p, t: F.mse_loss(p, t) * random.random())
    refused("it takes classes", nn.CrossEntropyLoss(), classes="masks")


def test_what_cannot_be_called_is_refused():
    refused("name them pred", lambda a, b: losses.tversky_misses(a, b))
    refused("must return a tensor, got None", lambda p, t: None)
    refused("'n'; write def f", lambda p, t, n: p)
    refused("'var'; write def f", nn.GaussianNLLLoss)
    refused(r"AttributeError: .*'no' \(test_yours.py, line \d+\)", wrong_attribute)
    refused("must be a function", 3)


def test_options_that_do_not_fit_are_refused():
    refused("logits must be auto, yes or no, got True", nn.MSELoss(), logits=True)
    refused("order must be one of auto, pred-first", nn.MSELoss(), order="truth")
    refused("classes must be auto or one of masks", nn.MSELoss(), classes="softmax")
    refused("one owner at most", losses.softmax, truths=[[1, 1]])
    refused("truths must be 0 or 1", nn.NLLLoss(), truths=[[0.5, 0.5]])
    refused("truths must be", losses.iou, truths=[[1, 0, 0]])
    refused("priors must be", losses.iou, priors=[1, -1])
    refused("a hundredth of their sum", losses.iou, priors=[0.999, 0.001])
    refused("parts must not", losses.iou, parts=torch.ones(3, 4, 4))
    refused("parts must be masks", losses.iou, parts=torch.ones(2, 4, 4))


# Masks from files: two squares of 8 x 8 that share 4 x 4 pixels of 20 x 24.
A = np.zeros((20, 24), bool)
A[2:10, 2:10] = True
B = np.zeros((20, 24), bool)
B[6:14, 6:14] = True


def saved(folder, array, name="masks.npy"):
    """The path of an array that is saved as .npy or, by Pillow, as a picture."""
    if name.endswith(".npy"):
        np.save(folder / name, array)
    else:
        Image.fromarray(array).save(folder / name)
    return folder / name


def test_masks_of_every_layout_are_read(tmp_path):
    both = np.stack((A, B))
    for array in (both, np.stack((A, B), -1), both[:, None]):
        found, remarks = read(saved(tmp_path, array))
        assert np.array_equal(found, both)
        assert remarks == []


def test_one_mask_of_every_layout_and_pair_of_values_is_read(tmp_path):
    for array in (A[None], A[..., None], A, A * 255, A * 2.0 - 1):
        found, _ = read(saved(tmp_path, array))
        assert np.array_equal(found, A[None])


def test_a_picture_of_any_case_is_read(tmp_path):
    saved(tmp_path, (A * 255).astype(np.uint8), "a.png").rename(tmp_path / "a.PNG")
    assert np.array_equal(read(tmp_path / "a.PNG")[0], A[None])


def test_a_picture_that_was_compressed_is_cut_at_half_and_said_so(tmp_path):
    saved(tmp_path, (A * 255).astype(np.uint8), "a.jpg")
    blurred = np.asarray(Image.open(tmp_path / "a.jpg"))
    assert (blurred > 0).sum() > A.sum()  # what is not 0 is more than the mask
    found, remarks = read(saved(tmp_path, blurred, "a.png"))
    assert np.array_equal(found, A[None])
    assert "cut at" in remarks[0]


def test_a_palette_an_alpha_and_logits_are_named(tmp_path):
    palette = Image.fromarray(A.astype(np.uint8), "P")
    palette.putpalette([200, 200, 200, 10, 10, 10])  # the background is bright
    palette.save(tmp_path / "palette.png")
    found, remarks = read(tmp_path / "palette.png")
    assert np.array_equal(found, A[None])
    assert "first colour" in remarks[0]
    colours = np.zeros((20, 24, 4), np.uint8)
    colours[..., 3] = A * 255
    found, remarks = read(saved(tmp_path, colours, "alpha.png"))
    assert np.array_equal(found, A[None])
    assert "alpha is taken for the mask" in remarks[0]
    steps = np.linspace(2, 6, 24) * np.where(A, 1, -2)
    found, remarks = read(saved(tmp_path, steps))
    assert np.array_equal(found, A[None])
    assert "taken for logits" in remarks[0]
    _, remarks = read(saved(tmp_path, A * 2 - 1))
    assert "-1 and 1" in remarks[0]


def test_a_label_map_nan_and_what_is_no_file_of_masks_are_refused(tmp_path):
    with pytest.raises(ValueError, match="a label map, which cannot hold an overlap"):
        read(saved(tmp_path, A + 2 * (B & ~A)))
    with pytest.raises(ValueError, match="got NaN"):
        read(saved(tmp_path, np.where(A, 1, np.nan)))
    (tmp_path / "empty.npy").touch()
    with pytest.raises(ValueError, match="cannot read"):
        read(tmp_path / "empty.npy")
    with pytest.raises(ValueError, match="masks must be two or more of one size"):
        pair_of([saved(tmp_path, A)])


def test_the_pair_that_shares_most_is_taken_of_many(tmp_path):
    far = np.roll(A, (10, 0), (0, 1))
    near = np.roll(A, (1, 1), (0, 1))
    own = pair_of([saved(tmp_path, np.stack((A, far, B, near)))])
    assert own.parts.sum((1, 2)).tolist() == [15, 49, 15]
    assert own.said[2].startswith("| 0, 3 | 15 | 49 | 15 |")


def test_inverted_masks_and_two_annotations_of_one_object_are_named(tmp_path):
    own = pair_of([saved(tmp_path, ~np.stack((A, B)))])
    assert "seem to be inverted" in own.said[-1]
    shifted = np.roll(A, 1, 0)
    own = pair_of([saved(tmp_path, np.stack((A, shifted)))])
    assert "they seem to annotate one object" in own.said[-1]
    own = pair_of([saved(tmp_path, np.stack((A, B)))])
    assert own.said[-1].startswith("COCO counts a mask")


YOURS = """
import data
import torch

def brier(pred, target):
    import losses
    return losses.own(pred, target) if data.MINE else None

def leaves(pred, target):
    raise SystemExit

def detached(pred, target):
    return ((pred - target) ** 2).mean().detach()
"""


@pytest.fixture
def folder(tmp_path):
    """A folder with a file of losses, and with modules that have the names of ours."""
    (tmp_path / f"{tmp_path.name}.py").write_text(YOURS)
    (tmp_path / "data.py").write_text("MINE = True")
    (tmp_path / "losses.py").write_text(
        "def own(p, t):\n    return ((p - t) ** 2).mean()"
    )
    (tmp_path / "lost.py").write_text("import unet")
    return tmp_path


def command(folder, *argv):
    """Run the command in a process of its own."""
    line = [sys.executable, "-m", "beyond.yours", *argv, "--out", str(folder / "out")]
    return subprocess.run(
        line, check=False, cwd=yours.TOP, capture_output=True, text=True
    )


def test_the_command_names_the_loss_and_saves_under_its_name(folder):
    done = command(folder, f"{folder}/{folder.name}.py:brier")
    lines = done.stdout.splitlines()
    assert done.returncode == 0, done.stderr
    assert lines[0].startswith("brier: probabilities, prediction first, as masks")
    assert lines[1] == "best share of the overlap: 0.50"
    assert lines[-1].endswith('the row "an expert at random")')
    assert json.loads((folder / "out/brier.json").read_text())["cut"] == "toss-up"
    assert (folder / "out/brier.png").read_bytes().startswith(b"\x89PNG")


def test_our_own_files_are_not_found_from_a_file_of_yours(folder):
    done = command(folder, f"{folder}/lost.py:f")
    assert done.returncode == 2
    assert "No module named 'unet' (lost.py, line 1)" in done.stderr
    assert done.stderr.count("\n") == 1


def test_training_with_a_known_loss_says_where_it_ends(tmp_path, capsys):
    quick = ["--train", "--steps", "5", "--seeds", "3", "4", "--out", str(tmp_path)]
    yours.main(["iou", *quick])
    last = capsys.readouterr().out.splitlines()[-1]
    assert last.startswith("trained, seed 4: left gets 0")


@pytest.fixture
def fails(folder, capsys):
    """A function that checks that the command fails in one line that says this."""

    def run(said, *argv):
        with pytest.raises(SystemExit) as e:
            yours.main([*argv, "--out", str(folder / "out")])
        error = capsys.readouterr().err
        assert e.value.code == 2
        assert said in error
        assert error.count("\n") == 1

    return run


def test_a_file_that_cannot_be_used_is_named_in_one_line(folder, fails):
    file = f"{folder}/{folder.name}.py"
    fails("there is no 'no' in", f"{file}:no")
    fails("SystemExit (", f"{file}:leaves")
    fails("there is no file", f"{folder}/none.py:f")
    fails("a name of beyond/losses.py, got", file)
    fails("rename your data.py", f"{file}:brier", "--train")
    fails("masks are .npy or .png", "--masks", file)


def test_options_that_do_not_go_together_are_named_in_one_line(fails):
    fails("it is known how iou is called", "iou", "--logits", "yes")
    fails("give a loss", "--train")
    fails("priors must be 2 numbers", "--truths", "1,0", "0,1", "--priors", "0", "0")
    fails("truths must be (G, 2)", "iou", "--truths", "1,0,0")


def test_the_table_of_all_losses_has_the_truths_by_themselves_and_averaged(monkeypatch):
    few = {name: losses.LOSSES[name] for name in ("iou", "jaccard-metric")}
    monkeypatch.setattr("beyond.yours.LOSSES", few)
    lines = list(yours.table(pair(), [[1, 0], [0, 1]], None))
    assert (
        lines[-1]
        == "| Jaccard metric loss | ends tie | 1.00 | given | 0.50 | 0.50 | toss-up |"
    )


def test_every_habit_of_annotation_is_found_by_its_truths():
    for name, truths in yours.HABITS.items():
        assert yours.habit(truths) == name
    assert yours.habit([[0, 1]]) == "the later label wins"
    assert yours.habit([[1, 0], [0, 1], [1, 1]]) == ""
