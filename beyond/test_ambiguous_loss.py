"""The loss to take home, against what is computed here by other means."""

import math
import subprocess
import sys
from itertools import permutations
from pathlib import Path

import pytest
import torch

import data
from beyond import ambiguous_loss as module
from beyond.ambiguous_loss import ambiguous_loss, compare, meter, shares, soft_iou
from beyond.test_gpu import Gpu

TAU = 0.3
EPSILON = 0.1


def random(*shape, seed=0):
    """Numbers from 0 to 1, of 64 bits."""
    generator = torch.Generator().manual_seed(seed)
    return torch.rand(*shape, generator=generator, dtype=torch.float64)


def even(n, G):
    """Weights of n images with G truths each, which sum to 1."""
    return torch.full((n, G), 1 / (n * G), dtype=torch.float64)


def masks_and_truths(n=3, D=2, G=2, instances=2, seed=0):
    """Random masks (n, D, I, 5, 4) and truths (n, G, I, 5, 4)."""
    masks = random(n, D, instances, 5, 4, seed=seed)
    truths = random(n, G, instances, 5, 4, seed=seed + 1).round()
    return masks, truths


def answers(scores, **options):
    """The shares (n, D, G) that ambiguous_loss gives to these scores: minus its slope."""
    n, D, G = scores.shape
    scores = scores.clone().requires_grad_()
    masks, truths = torch.empty(n, D), torch.empty(n, G)
    loss = ambiguous_loss(masks, truths, score=lambda *_: scores, **options)
    return -torch.autograd.grad(loss, scores)[0]


def value(P, scores, tau=TAU, epsilon=EPSILON):
    """<P, S> + epsilon entropy(P) - tau KL(sums of the rows || even), a number."""
    rows = P.sum((0, 2))
    entropy = -(P * P.log()).sum()
    distance = (rows * (rows * len(rows)).log()).sum()
    return (P * scores).sum() + epsilon * entropy - tau * distance


# The shares


@pytest.mark.parametrize("D", [2, 3, 4])
def test_without_bound_and_sharp_the_shares_are_the_best_permutation(D):
    places = torch.arange(D)
    orders = list(permutations(range(D)))
    for seed in range(5):
        scores = random(1, D, D, seed=seed)
        totals = [scores[0, places, order].sum().item() for order in orders]
        best = orders[totals.index(max(totals))]
        expected = torch.zeros(1, D, D, dtype=torch.float64)
        expected[0, places, best] = 1
        P = shares(scores, even(1, D), math.inf, epsilon=0.002, rounds=300)
        assert torch.equal((D * P).round(), expected)


def test_without_balance_the_shares_are_the_slope_of_the_smooth_maximum():
    scores = random(3, 4, 2).requires_grad_()
    weights = random(3, 2, seed=1)
    maximum = (weights * data.soft_maximum(scores, 1 / EPSILON)).sum()
    slope = torch.autograd.grad(maximum, scores)[0]
    assert torch.allclose(shares(scores.detach(), weights, 0.0, EPSILON), slope)


def test_the_shares_are_the_slope_of_the_largest_value_by_finite_differences():
    scores = random(2, 3, 2)
    weights = random(2, 2, seed=1)
    weights = weights / weights.sum()

    def largest(scores):
        return value(shares(scores, weights, TAU, EPSILON, rounds=500), scores)

    P = shares(scores, weights, TAU, EPSILON, rounds=500)
    for place in torch.eye(scores.numel(), dtype=torch.float64):
        step = 1e-4 * place.view_as(scores)
        slope = (largest(scores + step) - largest(scores - step)) / 2e-4
        assert slope.item() == pytest.approx(
            (P * place.view_as(P)).sum().item(), abs=1e-7
        )


def test_no_other_shares_have_a_larger_value():
    scores = random(2, 3, 2)
    weights = even(2, 2)
    best = shares(scores, weights, TAU, EPSILON, rounds=500)
    for seed in range(20):
        other = best * (1 + 0.2 * random(2, 3, 2, seed=seed))
        other = weights[:, None] * other / other.sum(1, keepdim=True)
        assert value(other, scores) < value(best, scores)


@pytest.mark.parametrize("balance", [0.0, 0.5, 3.0, math.inf])
def test_few_rounds_come_near_to_the_shares_of_many(balance):
    ahead = random(16, 2, 1) - 0.4  # one truth an image, the first decision leads
    ahead, spread = module.centre(ahead, even(16, 1))
    few = shares(ahead / spread, even(16, 1), balance)
    many = shares(ahead / spread, even(16, 1), balance, rounds=5000)
    assert (few - many).abs().sum() < 0.05


@pytest.mark.parametrize("D, G", [(2, 2), (3, 1), (4, 2), (6, 1)])
def test_few_rounds_come_near_enough_for_any_number_of_decisions(D, G):
    generator = torch.Generator().manual_seed(D)
    for _ in range(50):
        scores = torch.randn(4, D, G, generator=generator).double()
        ahead, spread = module.centre(scores, even(4, G))
        few = shares(ahead / spread, even(4, G), 3.0)
        many = shares(ahead / spread, even(4, G), 3.0, rounds=600)
        assert (few - many).abs().sum() < 0.13


@pytest.mark.parametrize("balance", [0.0, 0.01, 3.0])
def test_one_decision_of_many_that_is_far_behind_leaves_all_shares_finite(balance):
    scores = torch.ones(1, 60, 2).double()
    scores[:, 0] = 0
    ahead, spread = module.centre(scores, even(1, 2))
    P = shares(ahead / spread, even(1, 2), balance)
    assert P.isfinite().all()
    assert P.sum() == pytest.approx(1)


def test_each_truth_is_answered_for_whole_and_at_infinity_by_all_alike():
    P = answers(random(5, 3, 2), balance=math.inf)
    assert torch.allclose(P.sum(1), even(5, 2))
    P = shares(random(5, 3, 2), even(5, 2), math.inf, rounds=1000)
    assert torch.allclose(P.sum((0, 2)), torch.full((3,), 1 / 3).double())


@pytest.mark.parametrize("size", [1e-6, 1.0, 1e3])
def test_a_parting_of_any_size_gives_each_decision_a_truth_of_its_own(size):
    scores = size * torch.tensor([[[1.0, -1.0], [-1.0, 1.0]]]).double()
    weights = even(1, 2)
    ahead, spread = module.centre(scores, weights)
    P = shares(ahead / spread, weights, 3.0)
    own = torch.tensor([[[0.5, 0.0], [0.0, 0.5]]]).double()
    assert torch.allclose(P, own, atol=1e-6)


@pytest.mark.parametrize("balance", [0.3, 1.0, 3.0])
def test_a_decision_that_is_behind_everywhere_still_answers_for_a_known_part(balance):
    scores = torch.tensor([[2.0, 2.0], [0.5, 0.5]]).double().expand(4, 2, 2)
    part = answers(scores, balance=balance).sum((0, 2))[1].item()
    assert part == pytest.approx(1 / (1 + math.exp(2 / (balance + 0.03))), rel=0.02)


def test_the_scale_of_the_scores_and_what_all_decisions_share_play_no_part():
    scores = random(4, 3, 2)
    shared = random(4, 1, 2, seed=1)
    P = answers(scores)
    assert torch.allclose(answers(1000 * scores), P)
    assert torch.allclose(answers(scores / 1000), P)
    assert torch.allclose(answers(scores + shared), P)


@pytest.mark.parametrize("D", [1, 2, 3])
def test_decisions_that_score_alike_answer_evenly(D):
    alike = random(4, 1, 2).expand(4, D, 2)
    for balance in (0.0, 3.0, math.inf):
        P = answers(alike, balance=balance)
        assert torch.allclose(P, torch.full_like(P, 1 / (8 * D)))


# The truths of a batch


def test_several_truths_of_an_image_are_as_many_images_with_one_truth():
    scores = random(3, 2, 2)
    apart = torch.cat((scores[..., :1], scores[..., 1:]))  # (6, 2, 1)
    P = answers(apart)
    assert torch.allclose(answers(scores), torch.cat((P[:3], P[3:]), 2))


def test_a_truth_that_is_twice_as_likely_is_as_if_it_were_listed_twice():
    scores = random(3, 2, 2)
    listed = scores[..., [0, 0, 1]]
    P = answers(listed)
    together = torch.stack((P[..., 0] + P[..., 1], P[..., 2]), 2)
    assert torch.allclose(answers(scores, prior=[2, 1]), together)


def test_a_truth_that_is_left_out_does_not_matter():
    masks, truths = masks_and_truths()
    padded = torch.cat((truths, random(3, 1, 2, 5, 4, seed=7).round()), 1)
    loss = ambiguous_loss(masks, truths)
    assert torch.isclose(ambiguous_loss(masks, padded, prior=[1, 1, 0]), loss)
    scores = random(3, 2, 3)
    scores[0, :, 2] = torch.tensor([1e3, -1e3])
    prior = torch.tensor([[1, 1, 0], [1, 1, 1], [0, 0, 1]])
    P = answers(scores, prior=prior)
    scores[0, :, 2] = 0
    assert torch.allclose(answers(scores, prior=prior), P)
    assert (P[0, :, 2] == 0).all()
    assert torch.allclose(P.sum((1, 2)), torch.full((3,), 1 / 3).double())


def test_neither_images_nor_decisions_have_an_order():
    scores = random(4, 3, 2)
    P = answers(scores)
    images = torch.tensor([2, 0, 3, 1])
    assert torch.allclose(answers(scores[images]), P[images])
    assert torch.allclose(answers(scores.flip(1)), P.flip(1))


# The scores


def test_soft_iou_is_the_score_of_the_experiments():
    masks, truths = masks_and_truths(D=3)
    assert torch.allclose(soft_iou(masks, truths), data.score(masks, truths))


def test_an_instance_that_is_empty_in_mask_and_truth_scores_1():
    masks, truths = masks_and_truths(instances=3)
    scores = soft_iou(masks, truths)
    empty = torch.zeros(3, 2, 1, 5, 4).double()
    masks, truths = torch.cat((masks, empty), 2), torch.cat((truths, empty), 2)
    assert torch.allclose(soft_iou(masks, truths), scores + 1)
    unordered = compare(masks[:, :, 3:], truths[:, :, 3:], ordered=False)
    assert torch.allclose(unordered, torch.ones_like(unordered))


@pytest.mark.parametrize("instances", [1, 2, 3])
def test_instances_without_an_order_are_compared_in_their_best_pairing(instances):
    masks, truths = masks_and_truths(D=3, instances=instances)
    orders = permutations(range(instances))
    scores = [soft_iou(masks[:, :, list(order)], truths) for order in orders]
    expected = torch.stack(scores).amax(0)
    assert torch.allclose(compare(masks, truths, ordered=False), expected)
    loss = ambiguous_loss(masks, truths, score=lambda *_: expected)
    shuffled = masks.flip(2)
    assert torch.isclose(ambiguous_loss(shuffled, truths, ordered=False), loss)


def test_a_score_of_ones_own_takes_the_place_of_soft_iou():
    masks, truths = masks_and_truths()

    def minus_squares(masks, truths):
        return -((masks[:, :, None] - truths[:, None]) ** 2).sum((3, 4, 5))

    scores = minus_squares(masks, truths)
    P = answers(scores)
    loss = ambiguous_loss(masks, truths, score=minus_squares)
    assert torch.isclose(loss, -(P * scores).sum())
    best = torch.maximum(scores, minus_squares(masks.flip(2), truths))
    unordered = compare(masks, truths, minus_squares, ordered=False)
    assert torch.allclose(unordered, best)


# The loss


def test_the_gradient_is_that_of_the_scores_at_fixed_shares():
    masks, truths = masks_and_truths()
    ahead, spread = module.centre(soft_iou(masks, truths), even(3, 2))
    P = shares(ahead / spread, even(3, 2), 3.0)
    masks.requires_grad_()

    def at_fixed_shares(masks):
        return -(P * soft_iou(masks, truths)).sum()

    assert torch.autograd.gradcheck(at_fixed_shares, masks)
    expected = torch.autograd.grad(at_fixed_shares(masks), masks)[0]
    got = torch.autograd.grad(ambiguous_loss(masks, truths), masks)[0]
    assert torch.allclose(got, expected)


def test_of_one_decision_the_loss_is_minus_its_mean_score():
    masks, truths = masks_and_truths(D=1, G=3)
    scores = soft_iou(masks, truths)[:, 0]  # (n, G)
    weights = torch.tensor([0.5, 0.3, 0.2])
    loss = ambiguous_loss(masks, truths, prior=weights)
    assert torch.isclose(loss, -(scores * weights).sum(1).mean())


@pytest.mark.parametrize("ordered", [True, False])
def test_masks_of_16_bits_and_autocast_are_computed_in_32(ordered):
    masks, truths = masks_and_truths(n=50, D=3, G=3, instances=3)
    masks = masks.bfloat16()
    expected = ambiguous_loss(masks.float(), truths.float(), ordered=ordered)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        loss = ambiguous_loss(masks, truths.bool(), ordered=ordered)
    assert loss.dtype == torch.float32
    assert torch.equal(loss, expected)


def test_masks_need_not_be_contiguous():
    masks, truths = masks_and_truths()
    turned = masks.transpose(3, 4).contiguous().transpose(3, 4)
    assert torch.isclose(ambiguous_loss(turned, truths), ambiguous_loss(masks, truths))


@pytest.mark.parametrize("ordered", [True, False])
def test_on_another_device_nothing_is_mixed_and_the_loss_is_the_same(ordered):
    masks, truths = masks_and_truths()
    prior = torch.tensor([0.7, 0.3])
    expected = ambiguous_loss(masks, truths, prior, ordered=ordered)
    with Gpu():
        there = [x.to("cuda") for x in (masks, truths, prior)]
        loss = ambiguous_loss(*there, ordered=ordered)
        assert loss.device.type == "cuda"
        numbers = meter(soft_iou(there[0], there[1]), there[2])
    assert torch.equal(loss, expected)
    assert numbers == meter(soft_iou(masks, truths), prior)


def test_copied_alone_the_file_works(tmp_path):
    source = Path(module.__file__).read_text(encoding="utf-8")
    use = "print(ambiguous_loss(torch.ones(1, 2, 1, 2, 2), torch.ones(1, 2, 1, 2, 2)))"
    copy = tmp_path / "copy.py"
    copy.write_text(f"{source}\n{use}\n", encoding="utf-8")
    command = [sys.executable, "-I", str(copy)]
    printed = subprocess.check_output(command, text=True, cwd=tmp_path)
    assert printed == "tensor(-1.)\n"


def refused(said, masks, truths, **options):
    """Assert that the loss refuses these arguments in one line, in which it says this."""
    with pytest.raises(ValueError) as error:
        ambiguous_loss(masks, truths, **options)
    message = str(error.value)
    assert said in message
    assert "\n" not in message


def test_what_does_not_fit_is_refused_in_one_line():
    masks, truths = masks_and_truths()  # (3, 2, 2, 5, 4)
    volume = masks[..., None]  # (3, 2, 2, 5, 4, 1)
    one = truths[:, :1]
    seven = masks.repeat(1, 1, 4, 1, 1)[:, :, :7]
    layout = "masks must be (n, D, I, H, W) and truths (n, G, I, H, W)"
    refused(layout, masks, truths[:, 0])
    refused(layout, masks[:, 0], truths[:, 0])
    refused(f"{layout}, with the same", masks, truths[:2])
    refused(f"{layout}, with the same", masks, truths[..., :3])
    refused(f"{layout}, with the same", masks, truths[:, :, :1], ordered=False)
    refused(f"{layout}, not empty", masks[:0], truths[:0])
    refused("volumes take .flatten(4)", volume, volume.round())
    refused("at most 6 instances, got 7", seven, seven.round(), ordered=False)
    refused("0 to 1, got NaN", masks * math.nan, truths)
    refused("-0.5 to 0.5", masks.round() - 0.5, truths)
    refused("take the sigmoid of logits", 8 * masks - 4, truths)
    refused("got 0 to 255: take the sigmoid", 255 * masks.round(), truths)
    refused("truths must be 0 and 1, got 255", masks, 255 * truths)
    refused("truths must be 0 and 1, got 0.5", masks, truths / 2)
    refused("truths must be 0 and 1, got -1", masks, -truths)
    refused("truths must be 0 and 1, got nan", masks, truths * math.nan)
    refused("here (2,) or (3, 2), got (3,)", masks, truths, prior=[1, 1, 1])
    refused("at least 0 and finite", masks, truths, prior=[1, -1])
    refused("at least 0 and finite", masks, truths, prior=[1, math.inf])
    refused("at least 0 and finite", masks, truths, prior=[1, math.nan])
    refused("not be 0 for all", masks, truths, prior=[[1, 1], [0, 0], [1, 0]])
    refused("not be 0 for all", masks, one, prior=[[1], [0], [1]])
    refused("prior would be ignored", masks, one, prior=[0.7])
    refused("prior would be ignored", masks, one, prior=[[0.7], [0.7], [0.3]])
    refused("balance must be at least 0, got -1", masks, truths, balance=-1)
    refused("balance must be at least 0, got nan", masks, truths, balance=math.nan)
    refused("got (3, 2)", masks, truths, score=lambda *_: torch.ones(3, 2))
    refused("got float", masks, truths, score=lambda *_: 1.0)
    nothing = torch.full((3, 2, 2), math.nan)
    refused("score must return finite", masks, truths, score=lambda *_: nothing)


def test_what_the_refusal_of_a_volume_advises_is_taken():
    masks, truths = masks_and_truths()
    volume = masks.unflatten(3, (5, 1)), truths.unflatten(3, (5, 1))
    flat = [x.flatten(4) for x in volume]
    assert torch.isclose(ambiguous_loss(*flat), ambiguous_loss(masks, truths))


def test_a_prior_of_ones_for_one_truth_an_image_is_taken():
    masks, truths = masks_and_truths(G=1)
    loss = ambiguous_loss(masks, truths, prior=torch.ones(3, 1))
    assert torch.equal(loss, ambiguous_loss(masks, truths))


# The meter


def test_of_one_image_the_meter_is_the_lead_and_the_parting():
    for seed in range(5):
        scores = random(1, 2, 2, seed=seed)
        left, right = (scores[0, 0] - scores[0, 1]).tolist()
        lead, parting = abs(left + right) / 2, abs(left - right) / 2  # λ and π
        mean = (abs(left) + abs(right)) / 2
        assert meter(scores) == pytest.approx((lead / mean, parting / mean))


def test_the_meter_tells_a_dead_decision_from_two_that_part():
    dead = torch.tensor([[1.5, 1.5], [0.2, 0.2]])
    parted = torch.tensor([[2.0, 1.0], [1.0, 2.0]])
    assert meter(dead.expand(3, 2, 2)) == pytest.approx((1, 0))
    assert meter(parted.expand(3, 2, 2)) == pytest.approx((0, 1))
    assert meter(torch.ones(3, 2, 2)) == (0, 0)
    one_ahead = torch.tensor([[1.5, 1.5], [0.2, 0.2], [0.2, 0.2], [0.2, 0.2]])
    assert meter(one_ahead[None]) == pytest.approx((2, 0))  # D/2
    assert meter(-one_ahead[None]) == pytest.approx((2, 0))  # one behind


def test_the_meter_sees_a_parting_from_image_to_image_and_no_truth_left_out():
    parted = torch.tensor([[[2.0], [1.0]], [[1.0], [2.0]]])  # (2 images, 2, 1 truth)
    assert meter(parted) == pytest.approx((0, 1))
    lead = torch.tensor([[9.0], [0.0]]).expand(2, 2, 1)
    padded = torch.cat((parted, lead), 2)
    assert meter(padded, prior=[1, 0]) == pytest.approx((0, 1))


def test_the_meter_has_no_unit():
    scores = random(4, 3, 2)
    assert meter(1000 * scores) == pytest.approx(meter(scores))
    with pytest.raises(ValueError, match="finite, got shape"):
        meter(scores[0])
    with pytest.raises(ValueError, match="finite, got shape"):
        meter(scores * math.nan)
