"""Every key claim as a test: python -m pytest test_all.py

Formulas are compared with something that does not share their code: exact fractions,
autograd, counted pixels, or a network trained here and now.
"""

import dataclasses
import json
import os
import re
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from fractions import Fraction
from itertools import product
from pathlib import Path

import numpy as np
import pytest
import torch

import data
import exp_controls
import exp_dual
import exp_recurrent
import exp_single
import theory
from recurrent_unet import RecurrentUNet
from unet import UNet

torch.set_num_threads(1)  # both as in data.experiment_arguments
torch.backends.cudnn.deterministic = True
HERE = Path(__file__).resolve().parent


def start(script, *arguments, **options):
    command = [sys.executable, "-u", HERE / script, *map(str, arguments)]
    options |= {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    return subprocess.Popen(command, **options)


def start_interruptible(*arguments, **options):
    # A test run in the background may ignore SIGINT, and a child would inherit that.
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    process = start(*arguments, **options)
    signal.signal(signal.SIGINT, before)
    return process


@pytest.fixture(scope="session", autouse=True)
def scripts(tmp_path_factory):
    """Every script, run in a folder of its own: name -> (folder, status, output).

    One after the other in the background, so that they take a second core, not time.
    """
    runs = {name: ("--epochs", 1, "--seed", 5) for name in EXPERIMENTS}
    runs |= {name: ("--out", "here") for name in ("theory", "data")}
    runs["exp_controls"] = ("--epochs", 1, "--seeds", 5, "--variants", "dual,single")

    def run(name):
        folder = tmp_path_factory.mktemp(name)
        process = start(f"{name}.py", *runs[name], cwd=folder)
        output, errors = process.communicate()
        return folder, process.returncode, output + errors

    with ThreadPoolExecutor(max_workers=1) as pool:
        yield {name: pool.submit(run, name) for name in runs}


EXPERIMENTS = {"exp_single": 1, "exp_dual": 2, "exp_recurrent": 2}  # decisions
HALF = Fraction(1, 2)
SIZES = [Fraction(1, 2), Fraction(3), Fraction(7)]
PRIORS = [Fraction(0), Fraction(1, 3), HALF, Fraction(1)]
SHARES = [Fraction(k, 10) for k in range(11)]
ENDS = list(product(SIZES, SIZES, SIZES, PRIORS))  # (P1, P2, b, m)
GENERAL = [(x, *end) for x in SHARES for end in ENDS]  # (x, P1, P2, b, m)
EQUAL = list(product(SHARES, SIZES, SIZES))  # (x, P, b)


def derivative(f, x, *rest):
    """df/dx by autograd in double precision."""
    x = torch.tensor(float(x), dtype=torch.float64, requires_grad=True)
    (slope,) = torch.autograd.grad(f(x, *map(float, rest)), x)
    return slope.item()


def masks_of(parts, left_share, right_share):
    """Hard masks (n, 1, 2, H, W): own parts, and of the common region left_share pixels
    from the start of the reading order and right_share pixels from its end."""
    n, common = len(parts), parts[:, 1].flatten(1)  # (n, HW)
    rank = common.cumsum(1) * common  # 1, 2, ... over the common pixels, 0 elsewhere
    first = (rank > 0) & (rank <= left_share)
    last = rank > common.sum(1, keepdim=True) - right_share
    left = parts[:, 0].flatten(1) + first
    right = parts[:, 2].flatten(1) + last
    return torch.stack((left, right), 1).view(n, 1, 2, *parts.shape[-2:])


# --------------------------------------------------------------------------------------
# The paper's equations


def test_eq_1_is_the_counted_iou_of_a_split():
    for P1, P2, b, m in product((1, 4), (2, 5), (1, 3), PRIORS):
        for i in range(b + 1):
            pixels = np.arange(P1 + b + P2)
            left, right = pixels < P1 + i, pixels >= P1 + i
            expected = 0
            for prior, edge in ((m, P1 + b), (1 - m, P1)):  # where the right one starts
                for mask, truth in ((left, pixels < edge), (right, pixels >= edge)):
                    both, either = (mask & truth).sum(), (mask | truth).sum()
                    expected += prior * Fraction(int(both), int(either))
            assert theory.I_G(Fraction(i, b), P1, P2, b, m) == expected


def test_eq_2_and_3_corrected_are_the_derivatives_of_eq_1():
    for case in GENERAL[::7]:
        assert float(theory.dI_G(*case)) == pytest.approx(derivative(theory.I_G, *case))
        slope = derivative(theory.dI_G, *case)
        assert float(theory.d2I_G(*case)) == pytest.approx(slope)


def test_eq_2_and_3_as_printed_are_wrong_unless_sizes_and_priors_are_equal():
    x, P1, P2, b = Fraction(1, 4), Fraction(4), Fraction(2), Fraction(1)
    for printed, right in (
        (theory.dI_G_as_printed, theory.dI_G),
        (theory.d2I_G_as_printed, theory.d2I_G),
    ):
        assert printed(x, P1, P2, b, HALF) != right(x, P1, P2, b, HALF)
        assert printed(x, P1, P1, b, HALF) == right(x, P1, P1, b, HALF)
    m = Fraction(1, 3)  # Eq. 2 also has m for n; Eq. 3 does not
    assert theory.dI_G_as_printed(x, P1, P1, b, m) != theory.dI_G(x, P1, P1, b, m)
    assert theory.d2I_G_as_printed(x, P1, P1, b, m) == theory.d2I_G(x, P1, P1, b, m)


def test_eq_4_and_5_are_the_ends_of_eq_1():
    for end in ENDS:
        assert theory.I_G_at_0(*end) == theory.I_G(0, *end)
        assert theory.I_G_at_1(*end) == theory.I_G(1, *end)


def test_remark_under_eq_5_is_wrong_the_best_end_depends_on_the_prior_alone():
    for P1, P2, b, m in ENDS:
        gain = theory.I_G_at_1(P1, P2, b, m) - theory.I_G_at_0(P1, P2, b, m)
        assert (gain > 0) == (m > HALF) and (gain < 0) == (m < HALF)


def test_theorem_3_1_the_score_is_convex_and_its_maximum_at_an_end():
    for end in ENDS:
        scores = [theory.I_G(x, *end) for x in SHARES]
        second = [a - 2 * b + c for a, b, c in zip(scores, scores[1:], scores[2:])]
        assert min(second) > 0
        assert max(scores[1:-1]) < max(scores[0], scores[-1])


def test_corollary_3_2_is_stated_the_wrong_way_round():
    for P, b in product(SIZES, SIZES):
        at_0, at_1 = (
            f(P, P, b, Fraction(2, 3)) for f in (theory.I_G_at_0, theory.I_G_at_1)
        )
        assert at_1 > at_0  # m > n, and x = 1 is best; the paper says x = 0


def test_eq_6_to_10_are_eq_1_for_equal_sizes_and_priors():
    for x, P, b in EQUAL:
        assert theory.I_equal(x, P, b) == theory.I_G(x, P, P, b, HALF)
        assert theory.dI_equal(x, P, b) == theory.dI_G(x, P, P, b, HALF)
        assert theory.d2I_equal(x, P, b) == theory.d2I_G(x, P, P, b, HALF)
        assert theory.d2I_equal_at_half(P, b) == theory.d2I_equal(HALF, P, b) > 0
        assert theory.I_max(P, b) == theory.I_equal(0, P, b) == theory.I_equal(1, P, b)


def test_theorem_3_3_the_even_split_is_the_only_minimum():
    for x, P, b in EQUAL:
        slope = theory.dI_equal(x, P, b)
        assert (slope > 0) == (x > HALF) and (slope < 0) == (x < HALF)


def test_corollary_3_4_and_eq_11_corrected_symmetry_around_one_half():
    for x, P, b in EQUAL:
        assert theory.I_equal(x, P, b) == theory.I_equal(1 - x, P, b)
        for y in (x - HALF, HALF - x):
            assert theory.I_symmetric(y, P, b) == theory.I_equal(x, P, b)


def test_eq_11_as_printed_contradicts_eq_10():
    for P, b in product(SIZES, SIZES):
        gap = theory.I_max(P, b) - theory.I_symmetric_as_printed(HALF, P, b)
        assert gap == P / (2 * (P + b))  # half of (2P+b)/(P+b) - 1


def test_theorem_3_5_and_eq_12_both_ties_with_one_grouping():
    for P, b in product(SIZES, SIZES):
        assert theory.I_D(P, b) == theory.I_max(P, b) == theory.F(1, 1, P, P, b, HALF)


def test_every_line_that_theory_prints_holds_and_a_broken_formula_would_show(
    monkeypatch,
):
    rows = theory.check_claims()
    assert len(rows) == 23 and not [r for r in rows if r["verdict"] == "FAILS"]
    monkeypatch.setattr(theory, "dI_G", theory.dI_G_as_printed)
    failed = [r["claim"] for r in theory.check_claims() if r["verdict"] == "FAILS"]
    assert failed == ["Eq. 2", "Eq. 3"]


# --------------------------------------------------------------------------------------
# Beyond the paper: two shares


def test_all_four_corners_tie_and_nothing_beats_them():
    for P1, P2, b in product(SIZES, SIZES, SIZES):
        corners = {theory.F(a, c, P1, P2, b, HALF) for a, c in theory.CORNERS.values()}
        assert len(corners) == 1
        inside = product(SHARES[1:-1], SHARES)
        assert all(theory.F(a, c, P1, P2, b, HALF) < max(corners) for a, c in inside)
    for case in GENERAL[::11]:  # the paper's splits are the line c = 1 - a
        assert theory.F(case[0], 1 - case[0], *case[1:]) == theory.I_G(*case)


def test_the_gradient_of_F_is_that_of_autograd():
    for P1, P2, b, m in ENDS[::5]:
        for a, c in ((0.2, 0.7), (0.5, 0.5)):
            point = torch.tensor([a, c], dtype=torch.float64, requires_grad=True)
            value = theory.F(*point, *map(float, (P1, P2, b, m)))
            expected = torch.autograd.grad(value, point)[0].tolist()
            found = [float(d) for d in theory.dF(a, c, P1, P2, b, m)]
            assert found == pytest.approx(expected)


def test_before_anything_is_learned_the_push_is_towards_both():
    _, parts = data.sample(1, torch.Generator().manual_seed(14))
    common = parts[0, 1].double()
    for p, m in product((0.05, 0.2, 0.5, 0.9), (0.5, 0.51)):
        masks = torch.full((1, 1, 2, 32, 32), p, dtype=torch.float64)
        scores = data.score(masks.requires_grad_(), data.groupings(parts).double())
        expected = scores @ torch.tensor([m, 1 - m], dtype=torch.float64)
        (slope,) = torch.autograd.grad(expected.sum(), masks)
        push = (slope[0, 0] * common).sum((-1, -2)) / common.sum()  # (2 instances,)
        assert push.tolist() == pytest.approx(
            theory.common_push(p, 1024, 64, 64, 64, m)
        )
        assert push.min() > 0
    # Even from where F, which takes the own parts as learned, leads to "neither".
    assert max(theory.dF(0.2, 0.2, 64, 64, 64, 0.5)) < 0


def test_undecided_lies_above_the_dividing_point_and_climbs_to_both():
    assert 0 < theory.dividing_point(1.0, 1e-9) < 0.5  # no cancellation
    for P, b in product((0.01, 1, 4, 100), (0.01, 1, 30)):
        a = theory.dividing_point(P, b)
        assert 0 < a < 0.5
        lowest = min(
            np.linspace(0, 1, 2001), key=lambda s: theory.F(s, 0, P, P, b, 0.5)
        )
        assert a == pytest.approx(lowest, abs=1e-3)
    for start, end in ((0.5, 1), (0.38, 0)):  # a* = 0.414 lies between
        path = theory.ascend(start, start, 1, 1, 1, 0.5)
        assert path[-1].tolist() == [end, end]


def test_how_far_the_prior_may_leave_one_half():
    limit = theory.undecided_prior_limit(1, 1)
    assert limit == pytest.approx(9 / 17)
    assert theory.ascend(0.5, 0.5, 1, 1, 1, limit - 0.005, steps=9000)[-1].tolist() == [
        1,
        1,
    ]
    assert theory.ascend(0.5, 0.5, 1, 1, 1, limit + 0.005, steps=9000)[-1].tolist() == [
        1,
        0,
    ]
    assert theory.both_prior_limit(1, 1) == pytest.approx(2 / 3)
    assert theory.ascend(0.95, 0.95, 1, 1, 1, 0.64)[-1].tolist() == [1, 1]
    assert theory.ascend(0.95, 0.95, 1, 1, 1, 0.69)[-1].tolist() == [1, 0]


def test_theory_takes_floats_and_arrays_and_fractions_alike():
    x = np.linspace(0, 1, 5)
    whole = theory.I_G(x, 4, 3, 1, 0.25)
    assert whole.shape == (5,)
    for k, value in enumerate(whole):
        exact = theory.I_G(Fraction(k, 4), 4, 3, 1, Fraction(1, 4))
        assert isinstance(exact, Fraction) and float(exact) == pytest.approx(value)


@pytest.mark.parametrize(
    "f, arguments, name",
    [
        (theory.I_G, (1.5, 1, 1, 1, 0.5), "x"),
        (theory.I_G, (float("nan"), 1, 1, 1, 0.5), "x"),
        (theory.I_G, (np.array([0.5, -0.1]), 1, 1, 1, 0.5), "x"),
        (theory.dI_G, (0.5, 0, 1, 1, 0.5), "P1"),
        (theory.d2I_G, (0.5, 1, -2, 1, 0.5), "P2"),
        (theory.I_max, (float("inf"), 1), "P"),
        (theory.I_D, (1, float("nan")), "b"),
        (theory.I_G_at_0, (1, 1, 1, 1.01), "m"),
        (theory.I_symmetric, (0.6, 1, 1), "y"),
        (theory.F, (0, 2, 1, 1, 1, 0.5), "c"),
        (theory.dividing_point, (1, 1, 0), "m"),
    ],
)
def test_theory_refuses_bad_arguments_by_name_and_value(f, arguments, name):
    with pytest.raises(ValueError, match=rf"^{name} must be .*, got "):
        f(*arguments)


# --------------------------------------------------------------------------------------
# The images, their score and outcome


@pytest.mark.parametrize("shape", [data.Shape(), data.Shape(square=4, lobe_width=7)])
def test_images_have_the_stated_areas_and_two_groupings(shape):
    images, parts = data.sample(50, torch.Generator().manual_seed(1), shape)
    assert images.shape == (50, 1, 32, 32) and parts.shape == (50, 3, 32, 32)
    areas = parts.sum((-1, -2))
    assert (areas == torch.tensor([shape.P, shape.b, shape.P])).all()
    assert parts.sum(1).max() == 1  # the three parts do not overlap
    truths = data.groupings(parts)
    assert (truths.sum(2) == parts.sum(1, keepdim=True)).all()  # each is a partition
    assert (truths[:, 0, 0] - truths[:, 1, 0] == parts[:, 1]).all()  # b changes hands
    assert (images - parts.sum(1, keepdim=True)).std() == pytest.approx(0.1, rel=0.02)


def test_positions_cover_the_image_evenly():
    _, parts = data.sample(20000, torch.Generator().manual_seed(2))
    corner = parts.sum(1).flatten(1).argmax(1)  # top left pixel of the left lobe
    y, x = corner // 32, corner % 32
    counts = torch.bincount(y * 9 + x, minlength=23 * 9)  # 23 x 9 positions
    assert len(counts) == 23 * 9 and counts.min() > 50 and counts.max() < 150


def test_nothing_in_the_image_tells_the_groupings_apart():
    shape = data.Shape()
    # The pair mirrors itself, with the common region in its middle ...
    swapped = torch.tensor([0, 3, 2, 1], dtype=torch.uint8)[shape.template().long()]
    assert (shape.template().flip(1) == swapped).all()
    # ... every part is equally bright and equally noisy ...
    images, parts = data.sample(2000, torch.Generator().manual_seed(3), shape)
    for part in parts.unbind(1):
        pixels = images[:, 0][part == 1]
        assert pixels.mean() == pytest.approx(1, abs=0.002)
        assert pixels.std() == pytest.approx(0.1, abs=0.002)
    # ... and left and right halves are alike on average, wherever the pair lies.
    images, _ = data.sample(20000, torch.Generator().manual_seed(13), shape)
    mean = images.mean((0, 1))  # (H, W), of 20,000 images with sd below 1/2 a pixel
    assert (mean - mean.flip(1)).abs().max() < 6 * 0.5 * (2 / 20000) ** 0.5


@pytest.mark.parametrize("shape", [data.Shape(), data.Shape(square=5, lobe_height=9)])
def test_the_score_of_a_hard_split_is_eq_1_exactly(shape):
    _, parts = data.sample(4, torch.Generator().manual_seed(4), shape)
    P, b = shape.P, shape.b
    for k in range(b + 1):
        masks = masks_of(parts, k, b - k).double()
        scores = data.score(masks, data.groupings(parts).double())
        for m in (0.0, 0.3, 0.5, 1.0):
            expected = m * scores[:, 0, 0] + (1 - m) * scores[:, 0, 1]
            formula = theory.I_G(k / b, P, P, b, m)
            assert expected.tolist() == pytest.approx([formula] * 4, abs=1e-14)


def test_the_score_of_soft_or_overlapping_shares_is_F():
    _, parts = data.sample(3, torch.Generator().manual_seed(5))
    left, common, right = parts.double().unbind(1)
    truths = data.groupings(parts).double()
    for a, c in product((0, 0.25, 1), (0, 0.5, 1)):
        soft = torch.stack((left + a * common, c * common + right), 1)[:, None]
        hard = masks_of(parts, int(64 * a), int(64 * c)).double()
        expected = theory.F(a, c, 64, 64, 64, 0.5)
        for masks in (soft, hard):
            found = data.score(masks, truths).mean(-1).flatten().tolist()
            assert found == pytest.approx([expected] * 3, abs=1e-14)


def test_the_gradient_of_the_score_is_that_of_finite_differences():
    generator = torch.Generator().manual_seed(6)
    small = data.Shape(8, 2, 2, 1, 1, 1)
    _, parts = data.sample(2, generator, small)
    masks = torch.rand(2, 2, 2, 8, 8, generator=generator, dtype=torch.float64)
    truths = data.groupings(parts).double()

    def loss(masks):
        return data.soft_maximum(data.score(masks, truths), beta=5.0)

    assert torch.autograd.gradcheck(loss, masks.requires_grad_())


def test_the_soft_maximum_is_a_maximum_with_the_stated_gap():
    scores = torch.rand(100, 2, 2, generator=torch.Generator().manual_seed(7)) * 2
    for beta in (1.0, 10.0, 100.0):
        gap = scores.amax(1) - data.soft_maximum(scores, beta)
        assert gap.min() > -1e-6 and gap.max() < np.log(2) / beta + 1e-6
    single = scores[:, :1]
    assert torch.allclose(data.soft_maximum(single, 100.0), single[:, 0])


def test_outcomes_name_what_the_masks_do():
    _, parts = data.sample(2, torch.Generator().manual_seed(8))
    shares = {"left": (64, 0), "right": (0, 64), "both": (64, 64), "neither": (0, 0)}
    shares |= {"split": (32, 32)}
    for name, (a, c) in shares.items():
        found = data.outcomes(masks_of(parts, a, c), parts).flatten().tolist()
        assert [data.OUTCOMES[k] for k in found] == [name] * 2
    swapped = masks_of(parts, 64, 0).flip(2)  # the instances exchanged
    everything = torch.ones_like(swapped)
    for masks in (swapped, everything, everything * 0, everything * 0.5):
        found = data.outcomes(masks, parts).flatten().tolist()
        assert [data.OUTCOMES[k] for k in found] == ["unlearned"] * 2


def test_oracle_exact_needs_both_groupings():
    _, parts = data.sample(6, torch.Generator().manual_seed(9))
    left, right, both = (masks_of(parts, *s) for s in ((64, 0), (0, 64), (64, 64)))
    for masks, exact, score in (
        ((left, right), 1.0, 2.0),
        ((left, left), 0.5, 1.5),
        ((both, left), 0.5, 1.75),
        ((both, both), 0.0, 1.5),
    ):
        measured = data.measure(torch.cat(masks, 1), parts)
        assert measured["oracle_exact"] == exact
        assert measured["score"] == pytest.approx(score)


def test_paint_is_red_yellow_and_orange_and_mixtures_in_between():
    image = torch.ones(1, 1, 1, 1)

    def painted(a, c):
        return data.paint(image, torch.tensor([a, c]).view(1, 2, 1, 1)).flatten()

    for shares, colour in (
        ((1.0, 0.0), data.RED),
        ((0.0, 1.0), data.YELLOW),
        ((1.0, 1.0), data.ORANGE),
    ):
        assert torch.allclose(painted(*shares), torch.tensor(colour))
    corners = [painted(*map(float, s)) for s in theory.CORNERS.values()]
    assert torch.allclose(painted(0.5, 0.5), sum(corners) / 4)


@pytest.mark.parametrize(
    "change, name",
    [
        ({"square": 0}, "square"),
        ({"square": 2.5}, "square"),
        ({"bar_height": 8}, "bar_height"),
        ({"size": 23}, "size"),
        ({"square": 40}, "size"),
    ],
)
def test_impossible_sizes_are_refused(change, name):
    with pytest.raises(ValueError, match=f"^{name} must be .*, got "):
        data.Shape(**change)


def test_functions_refuse_bad_arguments():
    generator = torch.Generator()
    for call, name in (
        (lambda: data.sample(0, generator), "n"),
        (lambda: data.sample(1, generator, noise=float("nan")), "noise"),
        (lambda: data.soft_maximum(torch.ones(1, 2), 0.0), "beta"),
        (lambda: UNet(width=6), "width"),
        (lambda: UNet(depth=0), "depth"),
        (lambda: UNet(out_channels=0), "out_channels"),
        (lambda: UNet()(torch.zeros(1, 3, 32, 32)), "x"),
        (lambda: UNet(depth=3)(torch.zeros(1, 1, 32, 36)), "H and W of x"),
        (lambda: RecurrentUNet(steps=0), "steps"),
        (lambda: RecurrentUNet(in_channels=0), "in_channels"),
        (lambda: RecurrentUNet()(torch.zeros(1, 3, 32, 32)), "images"),
        (lambda: RecurrentUNet(unit="lstm"), "unit"),
        (lambda: exp_controls.share(torch.ones(1, 2, 2), "best", 1.0, 0), "rule"),
        (lambda: exp_controls.wilson(0, 0), "n"),
        (lambda: exp_controls.wilson(3, 2), "k"),
    ):
        with pytest.raises(ValueError, match=f"^{name} must .*, got "):
            call()


# --------------------------------------------------------------------------------------
# The networks


def test_networks_give_the_stated_shapes_and_every_weight_learns():
    images = torch.randn(2, 1, 32, 32, generator=torch.Generator().manual_seed(10))
    for net, shape in (
        (UNet(1, 4, width=8, depth=3), (2, 4, 32, 32)),
        (RecurrentUNet(width=8, steps=3), (2, 3, 2, 32, 32)),
        (RecurrentUNet(width=8, unit="dru"), (2, 2, 2, 32, 32)),
        (RecurrentUNet(width=8, unit="sru"), (2, 2, 2, 32, 32)),
        (exp_controls.ToldStep(width=8), (2, 2, 2, 32, 32)),
        (exp_controls.TwoUNets(width=8, feed_mask=True), (2, 2, 2, 32, 32)),
    ):
        logits = net(images)
        assert logits.shape == shape
        logits.square().mean().backward()
        idle = [k for k, p in net.named_parameters() if not p.grad.abs().sum() > 0]
        assert not idle


def test_what_a_step_sees_of_the_one_before():
    images = torch.randn(1, 1, 32, 32, generator=torch.Generator().manual_seed(11))
    for mask, state in product((True, False), repeat=2):
        generator = torch.Generator().manual_seed(12)
        net = RecurrentUNet(feed_mask=mask, feed_state=state, generator=generator)
        first, second = net(images)[0]
        assert torch.equal(first, second) == (not mask and not state)
    first_alone = RecurrentUNet(steps=1, generator=torch.Generator().manual_seed(12))
    first = RecurrentUNet(steps=2, generator=torch.Generator().manual_seed(12))
    assert torch.equal(first_alone(images)[:, 0], first(images)[:, 0])


def test_same_seed_same_numbers_and_another_seed_others():
    s = exp_recurrent.Settings(epochs=1, steps_per_epoch=3)
    runs = [exp_recurrent.train(s, seed, "cpu") for seed in (0, 0, 1)]
    losses = [[row["loss"] for row in history] for _, history in runs]
    assert losses[0] == losses[1] != losses[2]
    weights = [torch.cat([p.flatten() for p in n.parameters()]) for n, _ in runs]
    assert torch.equal(weights[0], weights[1])


# --------------------------------------------------------------------------------------
# The experiments


def test_all_three_experiments_have_the_same_settings_but_for_epochs():
    settings = [
        dataclasses.asdict(e.Settings(epochs=1))
        for e in (exp_single, exp_dual, exp_recurrent)
    ]
    assert settings[0] == settings[1] == settings[2]


def test_the_common_region_is_orange_for_single_stage_output():
    s = exp_single.Settings()  # 10 epochs, as in the paper
    net, _ = exp_single.train(s, 0, "cpu")
    images, parts, masks, measured = exp_single.evaluate(net, s, 0, "cpu")
    assert measured["decisions"][0]["outcome_share"] == {"both": 1.0}
    assert measured["score"] == pytest.approx(theory.I_max(64, 64), abs=0.01)
    assert measured["oracle_exact"] == 0
    common = data.paint(images, masks[:, 0])[parts[:, 1] == 1]  # (pixels, RGB)
    assert torch.allclose(common, torch.tensor(data.ORANGE), atol=0.1)


def found(experiment, seed):
    """Train as the script does, for 8 epochs: does the network find both groupings?"""
    s = experiment.Settings(epochs=8)
    net, _ = experiment.train(s, seed, "cpu")
    return experiment.evaluate(net, s, seed, "cpu")[-1]["oracle_exact"] >= 0.99


# Not every run of either network comes out alike (the README counts them), so one
# run against the claim is outvoted if the next two seeds both bear it out.


def test_the_recurrent_network_finds_both_groupings_in_eight_epochs():
    assert found(exp_recurrent, 0) or all(found(exp_recurrent, s) for s in (1, 2))


def test_the_dual_network_does_not_find_both_groupings_in_the_same_epochs():
    assert not found(exp_dual, 0) or not any(found(exp_dual, s) for s in (1, 2))


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
@pytest.mark.parametrize("experiment", [exp_single, exp_dual, exp_recurrent])
def test_cuda_trains_as_the_cpu_does(experiment):
    s = experiment.Settings(epochs=1, steps_per_epoch=4)
    runs = [experiment.train(s, 0, "cuda")[1] for _ in range(2)]
    losses = [[row["loss"] for row in history] for history in runs]
    assert losses[0] == losses[1]
    generator = torch.Generator().manual_seed(0)
    images, parts = data.sample(8, generator)
    net = experiment.build(s, generator)
    cpu = experiment.decide(net, images)
    cuda = experiment.decide(net.cuda(), images.cuda())
    assert torch.allclose(cpu, cuda.cpu(), atol=1e-2)
    found = data.score(cuda, data.groupings(parts).cuda()).cpu()
    assert torch.allclose(found, data.score(cpu, data.groupings(parts)), atol=1e-2)


# --------------------------------------------------------------------------------------
# The scripts and the README


def test_the_snippets_in_the_readme_run():
    readme = (HERE / "README.md").read_text()
    snippets = re.findall(r"```python\n(.*?)```", readme, re.DOTALL)
    assert len(snippets) == 2
    code = "\n".join(snippets)
    for long, short in (("range(20)", "range(1)"), ("steps=40", "steps=2")):
        assert long in code
        code = code.replace(long, short)
    subprocess.run([sys.executable, "-c", code], cwd=HERE, check=True)


@pytest.mark.parametrize("name", EXPERIMENTS)
def test_experiments_run_from_another_folder_and_leave_picture_and_json(name, scripts):
    folder, status, output = scripts[name].result()
    assert status == 0 and "Traceback" not in output
    assert output.count("epoch") == 1 and "by the paper" in output
    assert sorted(os.listdir(folder / "figures")) == [f"{name}.json", f"{name}.png"]
    assert (folder / "figures" / f"{name}.png").read_bytes().startswith(b"\x89PNG")
    numbers = json.loads((folder / "figures" / f"{name}.json").read_text())
    assert (numbers["experiment"], numbers["seed"], numbers["epochs"]) == (name, 5, 1)
    assert numbers["ceiling"] == 1.5 and 0 <= numbers["score"] <= 2
    assert len(numbers["decisions"]) == EXPERIMENTS[name]
    assert numbers["history"][0]["step"] == 1
    for decision in numbers["decisions"]:
        assert sum(decision["outcome_share"].values()) == pytest.approx(1)


@pytest.mark.parametrize("name", ["theory", "data"])
def test_theory_and_data_run_and_leave_picture_and_json(name, scripts):
    folder, status, output = scripts[name].result()
    assert status == 0 and "FAILS" not in output
    assert sorted(os.listdir(folder / "here")) == [f"{name}.json", f"{name}.png"]
    json.loads((folder / "here" / f"{name}.json").read_text())


def test_theory_does_without_torch(tmp_path):
    code = "import sys; sys.modules['torch'] = None; import theory; theory.plot()"
    subprocess.run([sys.executable, "-c", code], cwd=HERE, check=True)


@pytest.mark.parametrize(
    "arguments, said",
    [
        (["--epochs", "0"], "--epochs"),
        (["--epochs", "many"], "--epochs"),
        (["--seed", "-1"], "--seed"),
        (["--seed", "1.5"], "--seed"),
        (["--device", "abacus"], "--device"),
        (["--out", __file__], "--out"),
        (["--out", os.path.join(__file__, "below")], "--out"),
        (["--outt", "x"], "--outt"),
        pytest.param(
            ["--device", "cuda"],
            "no CUDA device",
            marks=pytest.mark.skipif(torch.cuda.is_available(), reason="has CUDA"),
        ),
    ],
)
def test_bad_input_ends_with_one_line_and_status_2(
    arguments, said, monkeypatch, capsys
):
    monkeypatch.setattr(sys, "argv", ["exp_single.py", *arguments])
    with pytest.raises(SystemExit) as end:
        exp_single.main()
    output = capsys.readouterr()
    assert end.value.code == 2 and output.out == ""
    assert output.err.count("\n") == 1 and said in output.err


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no SIGINT to send")
def test_an_interrupted_run_leaves_the_earlier_files_whole(tmp_path):
    earlier = {name: tmp_path / name for name in ("exp_single.png", "exp_single.json")}
    for path in earlier.values():
        path.write_text("earlier")
    arguments = ["--out", tmp_path, "--epochs", 1000]
    process = start_interruptible("exp_single.py", *arguments, cwd=tmp_path)
    try:
        assert process.stdout.readline().startswith("epoch")
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate(timeout=60)
    finally:
        process.kill()
    assert process.returncode == 130
    assert errors.count("\n") == 1 and "interrupted" in errors
    assert sorted(os.listdir(tmp_path)) == sorted(earlier)
    assert all(path.read_text() == "earlier" for path in earlier.values())


def test_a_failed_save_leaves_the_earlier_files_whole(tmp_path):
    class HalfWritten:
        def savefig(self, path, **_):
            Path(path).write_text("half a pic")
            raise self.error

    class DiskFull(HalfWritten):
        error = OSError("disk full")

    class Interrupted(HalfWritten):
        error = KeyboardInterrupt

    for fig, numbers, error in (
        (DiskFull(), {"score": 1.5}, OSError),
        (Interrupted(), {"score": 1.5}, KeyboardInterrupt),
        (theory.Figure(), {"score": float("nan")}, ValueError),
    ):
        (tmp_path / "x.png").write_text("earlier")
        with pytest.raises(error):
            theory.save(fig, numbers, str(tmp_path), "x")
        assert os.listdir(tmp_path) == ["x.png"]
        assert (tmp_path / "x.png").read_text() == "earlier"


# --------------------------------------------------------------------------------------
# The controls


@pytest.mark.parametrize(
    "k, n, interval",
    # Newcombe 1998, Statistics in Medicine 17, p. 861, method 3
    [
        (81, 263, (0.2553, 0.3662)),
        (15, 148, (0.0624, 0.1605)),
        (0, 20, (0, 0.1611)),
        (1, 29, (0.0061, 0.1718)),
    ],
)
def test_the_interval_is_that_of_the_literature(k, n, interval):
    assert exp_controls.wilson(k, n) == pytest.approx(interval, abs=5e-5)
    low, high = exp_controls.wilson(n - k, n)
    assert (1 - high, 1 - low) == pytest.approx(interval, abs=5e-5)


@pytest.mark.parametrize("experiment", [exp_single, exp_dual, exp_recurrent])
def test_the_controls_train_as_the_experiments_do(experiment):
    s = experiment.Settings(epochs=1, steps_per_epoch=3, held_out=8)
    net, _ = experiment.train(s, 4, "cpu")
    measured = experiment.evaluate(net, s, 4, "cpu")[-1]
    s = exp_controls.Settings(epochs=1, steps_per_epoch=3, held_out=8)
    row = exp_controls.run(experiment.__name__.removeprefix("exp_"), 4, s, "cpu")
    assert {key: row[key] for key in measured} == measured


def test_controls_see_what_they_are_said_to_see():
    images = torch.randn(1, 1, 32, 32, generator=torch.Generator().manual_seed(11))
    for name, v in exp_controls.MAIN.items():
        calls, passes = [], []
        net = v.net(generator=torch.Generator().manual_seed(0), **v.options)
        for unet in (m for m in net.modules() if isinstance(m, UNet)):
            unet.register_forward_hook(lambda *call, to=calls: to.append(call))
            unet.head.register_forward_hook(lambda *call, to=passes: to.append(call))
        logits = net(images).unflatten(1, (-1, 2)) if v.passes == 1 else net(images)
        assert logits.shape[1] == (1 if name.startswith("single") else 2)
        assert len(passes) == v.passes
        if name == "told-step":  # the image, and a sign of the step
            first, second = (x[0] for _, (x,), _ in calls)
            assert torch.equal(first[:1], images[0]) and not first[1].any()
            assert torch.equal(second, first + torch.tensor([0, 1])[:, None, None])
        if v.net is exp_controls.TwoUNets:  # does the first decision reach the second?
            logits[:, 1].sum().backward()
            seen = net.first.head.weight.grad.abs().sum() > 0
            assert seen == (name == "sequence")


@pytest.mark.parametrize("name", ["recurrent", "mask-only", "sequence", "dru"])
def test_the_second_decision_sees_what_it_is_shown(name):
    generator = torch.Generator().manual_seed(13)
    images, parts = data.sample(2, generator)
    v = exp_controls.MAIN[name]
    net = v.net(generator=generator, **v.options)
    with torch.no_grad():
        logits = net(images)  # (n, 2 decisions, 2, H, W)
        assert torch.equal(net(images, torch.sigmoid(logits[:, 0])), logits)
        truth = data.groupings(parts)[:, 0]
        first, second = net(images, truth).unbind(1)
        assert torch.equal(first, logits[:, 0])
        assert not torch.equal(second, logits[:, 1])
        if name in ("mask-only", "sequence"):  # nothing but the mask and the image
            unet = net.unet if name == "mask-only" else net.second
            assert torch.equal(second, unet(torch.cat((images, truth), 1)))


def test_whether_the_second_decision_answers_the_first():
    row = {"found": True, "decisions": [{"outcome": "left"}, {"outcome": "right"}]}
    for right, share, expected in (
        ("right", 0.9, "same"),
        ("right", 0.8, "unclear"),
        ("left", 0.9, "opposite"),
        ("split", 1.0, "unclear"),
    ):
        shown = {"left": {"right": 1.0}, "right": {right: share, "both": 1 - share}}
        assert exp_controls.reply(row | {"shown": shown}) == expected
    assert exp_controls.reply(row | {"shown": shown, "found": False}) is None
    assert exp_controls.reply(row) is None
    assert exp_controls.reply({"error": "gone"}) is None


def test_how_two_decisions_share_a_truth():
    scores = torch.tensor([[[1.0, 0.2], [0.5, 2.0]]], requires_grad=True)
    for rule, progress, expected in (
        ("hard", 0, [[1, 0], [0, 1]]),
        ("soft", 0, [[1, 0], [0, 1]]),
        ("relaxed", 0, [[0.95, 0.05], [0.05, 0.95]]),
        ("annealed", 0, torch.softmax(scores[0], 0).tolist()),
        ("annealed", 1, [[1, 0], [0, 1]]),
    ):
        best = exp_controls.share(scores, rule, 100.0, progress)
        (slope,) = torch.autograd.grad(best.sum(), scores)
        assert slope[0].tolist() == [pytest.approx(row, abs=1e-6) for row in expected]


def controls_here(arguments, monkeypatch):
    monkeypatch.setattr(sys, "argv", ["exp_controls.py", *map(str, arguments)])
    exp_controls.main()


def row_of(name, seed, epochs=10, **rest):
    row = exp_controls.label(name, seed, exp_controls.Settings(epochs), "cpu")
    return json.dumps(row | rest) + "\n"


DONE = {"outcome": "left + right", "found": True, "found_at": 64, "parameters": 9}
DONE["decisions"] = [{"outcome": "left"}, {"outcome": "right"}]


def test_a_sweep_leaves_what_the_experiments_do(scripts):
    folder, status, output = scripts["exp_controls"].result()
    assert status == 0, output
    files = {p.name: p.read_text() for p in (folder / "figures").glob("controls.json*")}
    assert (folder / "figures" / "controls.png").stat().st_size > 10_000
    rows = {
        row["variant"]: row
        for row in map(json.loads, files["controls.jsonl"].split("\n")[:-1])
    }
    summary = json.loads(files["controls.json"])["variants"]
    assert [row["variant"] for row in summary] == ["single", "dual"]
    for row in summary:
        name = f"exp_{row['variant']}"
        alone = scripts[name].result()[0] / "figures" / f"{name}.json"  # seed 5 too
        alone = json.loads(alone.read_text())
        assert rows[row["variant"]]["decisions"] == alone["decisions"]
        assert row["failed_seeds"] == [5] and f"| {row['title']} | 0/1 | " in output
        ends = sorted(d["outcome"] for d in alone["decisions"])
        assert row["outcomes"] == {" + ".join(ends): 1}


def test_a_killed_sweep_goes_on_where_it_was(tmp_path, monkeypatch, capsys):
    path, out = tmp_path / "controls.jsonl", ["--out", tmp_path]
    out += ["--epochs", 1, "--workers", 2, "--device", "cpu"]
    both = ["--variants", "single,dual-long", "--seeds", "0"]
    process = start("exp_controls.py", *out, *both, cwd=tmp_path)
    try:
        assert "0 of 2" in process.stdout.readline()
        assert "1/2  single seed 0: " in process.stdout.readline()
    finally:
        process.kill()
        # Both ends of the pipe are closed only when the children have ended as well.
        process.communicate(timeout=60)
    (row,) = path.read_text().splitlines()
    path.write_text(row + "\n" + row[:50])  # as if torn while a row was written

    def here(jobs, *_):  # real ones have run above and in the test before
        return (json.loads(row_of(*job, 1, **DONE)) for job in jobs)

    monkeypatch.setattr(exp_controls, "sweep", here)
    controls_here([*out, "--variants", "single", "--seeds", "0-1"], monkeypatch)
    output = capsys.readouterr().out
    assert "torn" in output and "1 of 2" in output and "1/1  single seed 1: " in output
    assert "| 1/2 | 9% to 91% |" in output
    lines = path.read_text().splitlines()
    assert lines[0] == row and json.loads(lines[1])["seed"] == 1 and len(lines) == 2


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no SIGINT to send")
def test_an_interrupted_sweep_ends_with_one_line_and_leaves_no_process(tmp_path):
    arguments = ["--out", tmp_path, "--variants", "dual-long", "--device", "cpu"]
    process = start_interruptible(
        "exp_controls.py", *arguments, cwd=tmp_path, start_new_session=True
    )
    try:
        assert "0 of 20" in process.stdout.readline()
        time.sleep(1)  # while the server of processes loads, which must not hear it
        os.killpg(process.pid, signal.SIGINT)  # as Ctrl-C does, to the whole group
        _, errors = process.communicate(timeout=60)  # until the children end as well
    finally:
        process.kill()
    assert process.returncode == 130
    assert errors.count("\n") == 1 and "interrupted" in errors


def test_rows_of_several_machines_are_put_together(tmp_path, monkeypatch, capsys):
    died = row_of("recurrent", 0, error="MemoryError: out of it")
    found = row_of("recurrent", 0, **DONE)
    other = row_of("recurrent", 0, **DONE | {"found_at": 128})
    torn = found[:70]  # at the end of a file, and another one after it
    odd = json.dumps(json.loads(found) | {"settings": 3}) + "\n"
    rows = [died, torn, found, "not a row\n", "[1]\n", odd, other]
    (tmp_path / "controls.jsonl").write_text("".join(rows))
    controls_here(["--plot-only", "--out", tmp_path], monkeypatch)
    output = capsys.readouterr().out
    assert output.count("dropped") == 4 and "dropped b'not a row'" in output
    assert "| 1/1 | 21% to 100% | 64 | left + right 1 | - | 9 | 2 |" in output


def test_a_run_that_died_counts_as_one_that_did_not_find_both(
    tmp_path, monkeypatch, capsys
):
    (tmp_path / "controls.jsonl").write_text(row_of("dual", 2, error="gone"))
    with pytest.raises(SystemExit) as end:
        controls_here(["--plot-only", "--out", tmp_path], monkeypatch)
    output = capsys.readouterr().out
    assert end.value.code == 1 and "runs that died: 1" in output
    assert "| 0/1 | 0% to 79% | - | died 1 | all | - | 1 |" in output


@pytest.mark.parametrize("plot_only", [True, False])
def test_rows_of_other_settings_are_not_mixed_in(
    plot_only, tmp_path, monkeypatch, capsys
):
    path = tmp_path / "controls.jsonl"
    path.write_text(row_of("dual", 0, 10, **DONE) + row_of("single", 1, 20, **DONE))
    arguments = ["--out", tmp_path, "--seeds", "0", "--variants", "dual"]
    with pytest.raises(SystemExit) as end:
        controls_here(arguments + ["--plot-only"] * plot_only, monkeypatch)
    errors = capsys.readouterr().err
    assert end.value.code == 2 and errors.count("\n") == 1
    assert "single seed 1" in errors and "epochs is 20 there and 10 here" in errors
    changed = json.loads(row_of("dual", 0, **DONE))
    changed["settings"]["code"], changed["change"]["rule"] = "?", "hard"
    settings = exp_controls.settings_of(exp_controls.Settings())
    difference = exp_controls.difference(changed, settings)
    assert "code is ? there" in difference and "rule is hard there" in difference


@pytest.mark.parametrize(
    "arguments, said",
    [
        (["--variants", "dual,triple"], "'triple'"),
        (["--seeds", "5-3"], "'5-3'"),
        (["--seeds", "0,5-"], "'5-'"),
        (["--seeds", "1,,2"], "''"),
        (["--seeds", "1000000"], "below 1000000"),
        (["--plot-only"], "no runs"),
    ],
)
def test_the_controls_refuse_bad_input(arguments, said, tmp_path, monkeypatch, capsys):
    with pytest.raises(SystemExit) as end:
        controls_here([*arguments, "--out", tmp_path], monkeypatch)
    output = capsys.readouterr()
    assert end.value.code == 2 and output.out == ""
    assert output.err.count("\n") == 1 and said in output.err


def test_a_run_that_dies_is_a_row_that_says_so():
    s = exp_controls.Settings(epochs=1, steps_per_epoch=2, learning_rate=1e38)
    row = exp_controls.attempt("single", 0, s, "cpu")
    assert row["error"] == "FloatingPointError: the loss is nan at step 2"
    assert (row["variant"], row["seed"]) == ("single", 0)


def die(*_):
    os._exit(9)  # as when the system kills it for its memory


@pytest.mark.parametrize("windows", [False, True])
def test_a_process_that_dies_is_a_row_that_says_so(windows, monkeypatch):
    monkeypatch.setattr(exp_controls, "work", die)
    if windows:  # which has neither a server of processes nor signal masks
        monkeypatch.setattr(sys, "platform", "win32")
        for name in ("pthread_sigmask", "SIG_BLOCK", "SIG_UNBLOCK"):
            monkeypatch.delattr(signal, name, raising=False)
    jobs = [("single", 3), ("single", 4)][windows:]  # the death of one is not the end
    rows = list(exp_controls.sweep(jobs, exp_controls.Settings(), "cpu", 1))
    assert [row["seed"] for row in rows] == [seed for _, seed in jobs]
    assert {row["error"] for row in rows} == {"the process died with status 9"}


def test_what_died_is_run_again_and_what_ended_is_not(tmp_path, monkeypatch):
    ended, died = row_of("dual", 0, **DONE), row_of("dual", 1, error="gone")
    (tmp_path / "controls.jsonl").write_text(ended + died)
    asked = []

    def none(jobs, *_):
        return asked.extend(jobs) or []

    monkeypatch.setattr(exp_controls, "sweep", none)
    with pytest.raises(SystemExit):  # since a run is still dead
        controls_here(
            ["--variants", "dual", "--seeds", "0-2", "--out", tmp_path], monkeypatch
        )
    assert asked == [("dual", 1), ("dual", 2)]


@pytest.mark.parametrize("m, same", [(1.0, True), (0.5, False)])
def test_a_coin_draws_one_truth_and_leaves_the_images(m, same):
    s = exp_controls.Settings(epochs=1, steps_per_epoch=3, held_out=8, m=m)
    both, one = (
        exp_controls.run(name, 4, s, "cpu") for name in ("single", "single-coin")
    )
    assert (both["decisions"] == one["decisions"]) == same


def test_every_outcome_can_be_drawn():
    assert set(exp_controls.LOOKS) == {*data.OUTCOMES, "died"}
