"""What predict says of losses in the styles of public code, and what the command for a
loss of one's own says.

A loss that is called in another style is held against a plain one, of probabilities of
masks, and plain ones against direct calls."""

import json
import math
import random
import subprocess
import sys

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F

import data
from beyond import losses, told, yours
from beyond.forms import Understood
from beyond.predict import from_masks, pair, predict

torch.set_num_threads(1)  # the masks are small: a second thread only waits
PARTS = pair().double()
TRUTHS = data.groupings(PARTS[None])[0]  # (2 truths, 2, 32, 32)
WIDE = F.pad(PARTS, [8] * 4)  # 48 x 48


def direct(name, shares):
    """The cost of shares of the common region by a direct call of a loss of ours."""
    left, common, right = PARTS
    masks = torch.stack((left + shares[0] * common, right + shares[1] * common))
    masks = masks.clamp(1e-6, 1 - 1e-6).expand(2, -1, -1, -1)
    return losses.LOSSES[name](masks, TRUTHS).mean().item()


@pytest.mark.parametrize("name", ["iou", "lovasz", "cross-entropy", "softmax"])
def test_costs_are_those_of_direct_calls_and_none_is_below_the_best(name):
    found = predict(yours.known(name))
    costs = found["costs"]
    for at in range(14, 60, 7):
        cost = direct(name, found["places"][at])
        assert costs[at] == pytest.approx(cost, rel=1e-4)
    size = max(found["curve"]) - min(costs)
    for shares in found["best"]:
        assert direct(name, shares) <= min(costs + found["curve"]) + 2e-3 * size


def same(loss, plain, **how):
    """Check that a loss is called as said here, and has the costs of a plain one, the
    name of one of ours or a function."""
    u = yours.known(plain) if isinstance(plain, str) else Understood(plain)
    there = predict(u)
    found = predict(loss)
    for key, value in how.items():
        assert found[key] == value
    assert found["exclusive"] == there["exclusive"]
    assert found["costs"] == pytest.approx(there["costs"], rel=1e-4, abs=1e-4)
    assert found["cut"] == there["cut"]


def says(loss, best, cut, parts=None, **options):
    """Check which share is best and what a cut makes of it. Returns what is said."""
    found = predict(loss, parts, **options)
    if not isinstance(best, str):
        best = pytest.approx(best, abs=0.005)
    assert found["predicted"] == best
    assert found["cut"] == cut
    return found


def dice(p, t, over=(2, 3)):
    return 1 - 2 * (p * t).sum(over) / (p.sum(over) + t.sum(over)).clamp(min=1e-9)


def truth_and_prediction(y_true, y_pred):
    return losses.tversky_misses(y_pred, y_true)


def tversky(pred, target):  # of all that it is given
    both = (pred * target).sum()
    alarms = (pred * (1 - target)).sum()
    misses = ((1 - pred) * target).sum()
    return 1 - both / (both + 0.1 * alarms + 0.9 * misses)


def clamped_in_place(pred, target):
    return F.binary_cross_entropy(pred.clamp_(1e-7, 1 - 1e-7), target)


def picked(pred, target):
    return -torch.cat((pred[target], 1 - pred[~target])).log().mean()


def of_both_signs(pred, target):
    return F.mse_loss(pred, 2 * target - 1)


def in_proportion(pred, target):
    return ((1 - 2 * target) * pred).mean()


def test_probabilities_of_masks():
    same(dice, "dice", classes="masks", input="probabilities")
    same(tversky, tversky, input="probabilities")
    same(in_proportion, in_proportion, input="probabilities")
    same(clamped_in_place, "cross-entropy", input="probabilities")
    same(picked, "cross-entropy", truths="booleans")
    same(truth_and_prediction, "tversky-misses", order="truth-first")
    same(of_both_signs, lambda p, t: 4 * F.mse_loss(p, t), input="signed")


def gradient_inside(pred, target):
    cost = F.binary_cross_entropy_with_logits(pred, target)
    (slope,) = torch.autograd.grad(cost, pred, create_graph=True)
    return cost + 100 * slope.abs().sum()


def with_its_gradient(p, t):
    return F.binary_cross_entropy(p, t) + 100 * (p - t).abs().mean()


def counted(pred, target):
    weights = target.numel() / torch.bincount(target.flatten()).to(pred)
    return F.binary_cross_entropy_with_logits(pred, target.to(pred), weights[target])


def weighted(p, t):
    weights = t / t.mean() + (1 - t) / (1 - t).mean()
    return F.binary_cross_entropy(p, t, weights)


def volume_dice(pred, target):
    return dice(pred.sigmoid(), target, (2, 3, 4))


def test_logits_of_masks():
    same(nn.BCEWithLogitsLoss(), "cross-entropy", input="logits")
    same(gradient_inside, with_its_gradient, input="logits")
    same(counted, weighted, truths="integers", input="logits")
    same(volume_dice, "dice", batch="volumes", input="logits")


def one_channel(pred, target):
    assert pred.shape[1] == target.shape[1] == 1
    return F.binary_cross_entropy_with_logits(pred, target)


def one_channel_squeezed(pred, target):
    assert pred.shape[1] == 1
    return F.binary_cross_entropy_with_logits(pred[:, 0], target)


def without_channel(pred, target):
    assert pred.ndim == target.ndim == 3
    return F.binary_cross_entropy_with_logits(pred, target)


def one_mask(pred, target):
    assert pred.ndim == 2
    return losses.iou(pred.sigmoid()[None, None], target[None, None])


def test_one_mask_at_a_time():
    same(one_channel, "cross-entropy", classes="single", input="logits")
    same(one_channel_squeezed, "cross-entropy", classes="single-flat", input="logits")
    same(without_channel, "cross-entropy", classes="squeezed", input="logits")
    same(one_mask, "iou", batch="none", input="logits")


def two_channels(x, y):
    p = x.softmax(1)[:, 1]
    t = (y == 1).to(x)
    return F.cross_entropy(x, y) + pooled_dice(p, t)


def pooled_dice(p, t):
    return 1 - 2 * (p * t).sum() / (p.sum() + t.sum())


def second_channel(pred, target):
    assert pred.shape[1] == 2
    return dice(pred[:, 1:], target[:, 1:])


def test_background_and_object_in_two_channels():
    def plain(p, t):
        return F.binary_cross_entropy(p, t) + pooled_dice(p, t)

    same(two_channels, plain, classes="pair-indices", input="logits")
    same(second_channel, "dice", classes="pair-one-hot", input="probabilities")


def exponential(output, target):  # of log-probabilities
    return dice(output.exp(), F.one_hot(target, 3).movedim(-1, 1))


def evidence_from_zero(x, y):
    return evidence(x, y, torch.relu)


def evidence(x, y, positive=F.softplus):
    a = positive(x) + 1
    return torch.digamma(a.sum(1)) - torch.digamma(a.gather(1, y[:, None])[:, 0])


def taylor(x, y):
    return sums_to_one(1 + x + x**2 / 2, y)


def sums_to_one(x, y):
    return F.nll_loss((x / x.sum(1, keepdim=True)).log(), y)


def focal_of_sigmoids(x, y):
    return 1.5 * losses.focal(x.sigmoid(), F.one_hot(y, 3).movedim(-1, 1).to(x))


def test_classes():
    same(nn.CrossEntropyLoss(), "softmax", classes="one-hot", input="logits")
    same(nn.NLLLoss(), "softmax", classes="indices", input="log-probabilities")
    same(exponential, "softmax-dice", classes="indices", input="log-probabilities")
    same(sums_to_one, "softmax", classes="indices", input="probabilities")
    same(focal_of_sigmoids, "focal", classes="indices", input="logits")
    says(nn.CrossEntropyLoss(label_smoothing=0.1), 0.483, "toss-up")


@pytest.mark.parametrize("loss", [evidence, evidence_from_zero, taylor])
def test_classes_exclude_one_another_however_they_are_normalised(loss):
    found = says(loss, 0.5, "toss-up")
    assert found["exclusive"]


def test_losses_of_libraries():
    monai = pytest.importorskip("monai.losses")
    smp = pytest.importorskip("segmentation_models_pytorch.losses")
    kornia = pytest.importorskip("kornia.losses")
    ops = pytest.importorskip("torchvision.ops")
    softmax = {"to_onehot_y": True, "softmax": True}
    same(monai.DiceLoss(sigmoid=True), "dice", classes="masks", input="logits")
    same(monai.DiceLoss(**softmax), "softmax-dice", classes="channel")
    same(smp.JaccardLoss("multilabel"), "iou-batch", classes="masks", input="logits")
    same(smp.SoftCrossEntropyLoss(smooth_factor=0), "softmax", classes="indices")
    same(ops.sigmoid_focal_loss, "focal", classes="masks", input="logits")
    same(kornia.BinaryFocalLossWithLogits(0.25), "focal", input="logits")


def test_two_channels_of_a_binary_mask_give_each_mask_its_own_share():
    found = says(two_channels, 0.783, "given", WIDE)
    assert found["classes"] == "pair-indices"


def test_a_plain_dice_is_of_masks_where_the_pair_fills_the_image():
    a = torch.ones(12, 12)
    a[7:, 7:] = 0
    b = torch.zeros(12, 12)
    b[6:, 6:] = 1
    b[11, 11] = 0
    found = says(dice, "ends tie", "given", from_masks(a, b))
    assert found["classes"] == "masks"
    assert found["others"] == []


def test_a_background_that_comes_last_and_is_dropped():
    found = says(
        lambda p, t: dice(p.softmax(1)[:, :-1], t[:, :-1]), "ends tie", "not given"
    )
    assert found["classes"] == "one-hot-last"
    assert "neither instance claims" in told.described("mine", found)[3]


def coarse(pred, target):
    small = F.avg_pool2d(pred, 4)
    pred = F.interpolate(small, scale_factor=4, mode="bilinear")
    return F.binary_cross_entropy_with_logits(pred, target)


def test_logits_are_found_behind_a_coarse_grid():
    found = says(coarse, 0.783, "given", WIDE)
    assert found["input"] == "logits"


def for_one_image(pred, target):
    return dice(pred.sigmoid().view(3, -1), target.view(3, -1), 1).mean()


def test_a_loss_that_is_written_for_one_image_is_called_with_one():
    found = says(for_one_image, "ends tie", "given")
    assert found["batch"] == "one"
    assert found["slides_to"] == 1


def two_losses(pred, target):
    bce = F.binary_cross_entropy_with_logits(pred, target)
    return {"loss_mask": bce, "loss_dice": 10 * dice(pred.sigmoid(), target).mean()}


def test_a_dict_of_losses_without_a_total_is_added_up():
    found = says(two_losses, 0.902, "given", WIDE)
    assert found["takes"] == "the sum of loss_mask, loss_dice"


def total_of_three(pred, target):
    return {"iou": pred.mean(), "loss": F.mse_loss(pred, target), "loss_of_old": 1}


def test_of_several_results_the_first_or_the_total_counts():
    two = says(lambda p, t: (F.mse_loss(p, t), p.mean()), 0.5, "toss-up")
    assert two["takes"] == "the first"
    assert says(total_of_three, 0.5, "toss-up")["takes"] == "loss"


def self_weighted(p, t):
    c = F.binary_cross_entropy(p, t, reduction="none")
    return (2 * (1 - (-c).exp())).clamp(max=1) ** 2 * c


def sharpened(p, t):
    entropy = -p * p.log() - (1 - p) * (1 - p).log()
    return F.binary_cross_entropy(p, t) + 1.5 * entropy.mean()


def inner_tie(loss, low, high):
    """Check that two shares tie and that 1/2 is a maximum between them."""
    found = says(loss, f"{low} or {high}", "toss-up")
    assert len(found["best"]) == 4  # each instance has the one or the other
    sides = [side[0] for side in found["sides"]]
    assert sides == pytest.approx([low, high], abs=0.01)
    assert "1/2 is a maximum" in "\n".join(told.described("mine", found))


def test_inner_ties_are_named_and_a_maximum_at_one_half_parts():
    inner_tie(self_weighted, 0.39, 0.61)
    inner_tie(sharpened, 0.16, 0.84)


def test_one_half_may_be_a_maximum_between_ends_that_tie():
    found = predict(lambda p, t: ((p - t).abs() + 0.001).log())
    assert found["kind"] == "ends tie"
    assert found["sides"] == [[0, 0], [1, 1]]


def test_with_one_truth_its_owner_gets_all_and_no_other_does():
    found = says(losses.focal, [1, 0], "one owner", truths=[[1, 0]])
    last = told.described("focal", found, [[1, 0]])[-1]
    assert "nothing here: one truth leaves nothing open" in last


def lovasz_by_channel(pred, target):
    pred = pred.sigmoid()
    first = losses.lovasz(pred[:, :1], target[:, :1])
    return (first + losses.lovasz(pred[:, 1:], target[:, 1:])) / 2


def test_instances_that_are_alike_get_the_same_answer():
    found = says(lovasz_by_channel, "flat", "toss-up")
    assert found["slides_to"] == 0.5
    assert "a cut there is chance" in told.described("lovasz", found)[3]


def test_instances_that_are_not_alike_go_where_each_is_led():
    priors = [0.64, 0.36]
    found = says(losses.cross_entropy, priors, "one owner", priors=priors)
    assert found["slides_to"] == pytest.approx([0.64, 0.36], abs=0.005)


def test_a_first_lead_decides_where_one_owner_costs_less():
    found = says(losses.softmax_dice, "one owner, either", "one owner")
    assert found["slides_to"] == [1, 0]


def test_classes_may_share_the_region_in_any_way():
    found = says(lambda x, y: 1 - x.softmax(1).gather(1, y[:, None]), "flat", "toss-up")
    assert found["exclusive"]
    assert max(sum(shares) for shares in found["best"]) == pytest.approx(1)


def test_an_averaged_truth_is_the_ambiguity_itself():
    found = says(losses.dice, 1, "given", truths=[[0.5, 0.5]])
    last = told.described("dice", found, [[0.5, 0.5]])[-1]
    assert "the ambiguity itself, of which the loss makes 1.00" in last


def test_of_one_structure_a_region_is_in_its_mask_or_is_not():
    parts = PARTS[:2]
    found = says(losses.dice_squared, 0.449, "not given", parts)
    same = predict(losses.dice_squared)
    assert found["curve"] == pytest.approx(same["curve"])
    assert "one mask cannot be both" in told.described("dice", found, [[1], [0]])[-1]
    assert says(nn.CrossEntropyLoss(), 0.7, "given", parts, priors=[0.7, 0.3])


def masks_or_indices(x, y):
    if y.ndim == 3:
        return F.cross_entropy(x, y)
    return F.binary_cross_entropy_with_logits(x, y) + 2 * dice(x.sigmoid(), y).mean()


def test_two_ways_to_understand_a_loss_that_lead_to_another_cut_are_both_named():
    found = says(masks_or_indices, 0.535, "given")
    assert found["classes"] == "masks"
    assert [other["classes"] for other in found["others"]] == ["indices"]
    assert "--classes indices" in "\n".join(told.described("mine", found))
    says(masks_or_indices, 0.5, "toss-up", classes="indices")


def test_a_loss_that_pools_a_batch_says_what_one_image_a_batch_does():
    found = says(lambda p, t: dice(p, t, (0, 2, 3)), 1, "given")
    assert found["alone"]["predicted"] == "ends tie"
    assert predict(losses.dice)["alone"] is None
    assert "all truths in one batch" in "\n".join(told.described("dice", found))


def test_a_form_that_treats_one_instance_otherwise_is_the_last_resort():
    weights = torch.tensor([1.0, 2, 6]).double()
    found = says(nn.CrossEntropyLoss(weights), [0.25, 0.75], "one owner")
    assert "treats one instance otherwise" in found["asymmetry"]


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
    says(losses.iou, 1, "given", truths=[[1, 0], [0, 1], [1, 1]])
    says(losses.iou, 0, "not given", truths=[[1, 0], [0, 1], [0, 0]])
    says(losses.iou, [1, 0], "one owner", priors=[0.7, 0.3])


def refused(said, loss, **options):
    """Check that predict refuses a loss in one line that says this."""
    with pytest.raises(ValueError, match=said) as e:
        predict(loss, **options)
    assert "\n" not in str(e.value)


def test_a_loss_that_means_nothing_is_refused():
    refused("write 1 - score", lambda p, t: 2 * (p * t).sum() / (p + t).sum())
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
    here = r"AttributeError: .*'no' \(test_yours.py, line \d+\)"
    refused(here, lambda pred, target: pred.no)
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
    refused("parts must be 2 or 3 masks", losses.iou, parts=torch.ones(4, 4, 4))


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
    (tmp_path / "losses.py").write_text("own = lambda p, t: ((p - t) ** 2).mean()")
    (tmp_path / "lost.py").write_text("import unet")
    (tmp_path / "string.py").touch()
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


def test_one_structure_of_your_own_that_two_have_annotated(tmp_path, capsys):
    one = np.zeros((40, 40), bool)
    one[10:30, 10:30] = True
    other = np.zeros((40, 40), bool)
    other[10:30, 12:34] = True
    np.save(tmp_path / "one.npy", one)
    np.save(tmp_path / "other.npy", other)
    masks = ["--masks", str(tmp_path / "one.npy"), str(tmp_path / "other.npy")]
    arguments = ["iou", *masks, "--truths", "1", "0", "--out", str(tmp_path)]
    what = yours.main(arguments)
    said = capsys.readouterr().out
    assert "the mask" in said
    # As of one structure of 360 pixels and a region of 120 that it has or has not.
    parts = torch.zeros(2, 40, 40, dtype=torch.bool)
    parts[0, 10:30, 12:30] = True
    parts[1, 10:30, 10:12] = True
    parts[1, 10:30, 30:34] = True
    expected = predict(yours.known("iou"), parts, truths=[[1.0], [0.0]])
    assert what == json.loads(json.dumps(expected))
    other = predict(yours.known("iou"), parts.flip(0), truths=[[1.0], [0.0]])
    assert what != json.loads(json.dumps(other))


@pytest.fixture
def fails(folder, capsys, monkeypatch):
    """A function that checks that the command fails in one line that says this."""
    monkeypatch.setattr(sys, "path", [*sys.path])

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
    fails("has the name of an installed module", f"{folder}/string.py:f")
    fails("a name of beyond/losses.py, got", file)
    fails("rename your data.py", f"{file}:brier", "--train")
    fails("masks are .npy or .png", "--masks", file)


def test_options_that_do_not_go_together_are_named_in_one_line(fails):
    fails("it is known how iou is called", "iou", "--logits", "yes")
    fails("give a loss", "--train")
    fails("--train goes without", "iou", "--train", "--truths", "1", "0")
    fails("priors must be 2 numbers", "--truths", "1,0", "0,1", "--priors", "0", "0")
    fails("truths must be (G, 2)", "iou", "--truths", "1,0,0")


def test_the_table_has_a_line_for_each_loss(monkeypatch):
    few = {name: losses.LOSSES[name] for name in ("softmax", "jaccard-metric")}
    monkeypatch.setattr("beyond.yours.LOSSES", few)
    averaged = list(yours.table(pair(), [[0.5, 0.5]], None))
    assert averaged[-1] == "| Jaccard metric loss | 0.50 | 0.50 | toss-up |"
    both = list(yours.table(pair(), [[1, 1]], None))
    assert "| truths must give a pixel to one owner" in both[-2]


def test_every_habit_of_annotation_is_found_by_its_truths():
    for name, truths in told.HABITS.items():
        assert told.habit(truths) == name
    assert told.habit([[1, 0]]) == "the later label wins"
    assert told.habit([[1, 0], [0, 1], [1, 1]]) == ""
