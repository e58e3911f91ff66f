"""The field's measures (beyond/measures.py), against fractions, counted pixels and SciPy."""

import sys
from fractions import Fraction

import numpy as np
import pytest
import torch

from beyond import measures

torch.set_num_threads(1)  # the tables are small


def blobs(n, count, seed):
    """Masks of 0 and 1, (n, count, 2 instances, 6, 6). Of the first image the second
    instance is empty in all."""
    generator = torch.Generator().manual_seed(seed)
    masks = (torch.rand(n, count, 2, 6, 6, generator=generator) > 0.4).float()
    masks[0, :, 1] = 0
    return masks


def counted(one, other):
    """The IoU of two decisions (2, 6, 6), mean over instances, by counted pixels."""
    total = Fraction(0)
    for a, b in zip(one.tolist(), other.tolist()):
        a_pixels = {(y, x) for y in range(6) for x in range(6) if a[y][x]}
        b_pixels = {(y, x) for y in range(6) for x in range(6) if b[y][x]}
        union = len(a_pixels | b_pixels)
        total += Fraction(len(a_pixels & b_pixels), union) if union else 1
    return total / 2


def test_iou_is_that_of_counted_pixels_and_1_where_both_are_empty():
    masks = blobs(2, 3, seed=0)
    truths = blobs(2, 2, seed=1)
    masks[1, 0, 1] = 0  # this instance is empty in one of them alone
    table = measures.iou(masks, truths)
    for n, d, g in np.ndindex(2, 3, 2):
        expected = counted(masks[n, d], truths[n, g])
        assert table[n, d, g].item() == pytest.approx(float(expected), abs=1e-12)


def test_ged_is_the_energy_distance_of_all_pairs():
    masks = blobs(1, 3, seed=2)
    truths = blobs(1, 2, seed=3)

    def distance(some, others):
        pairs = [1 - counted(one, other) for one in some for other in others]
        return sum(pairs) / len(pairs)

    between = distance(masks[0], truths[0])
    rewarded = distance(masks[0], masks[0]) + distance(truths[0], truths[0])
    row = measures.measure(masks, truths)
    assert row["ged"] == pytest.approx(float(2 * between - rewarded), abs=1e-12)
    assert row["accuracy_term"] == pytest.approx(float(2 * between), abs=1e-12)


def test_of_one_decision_by_hand():
    # Truths of 2 and 3 pixels share 1, and the decision is the first of them.
    first = torch.tensor([[1.0, 1, 0, 0]])
    second = torch.tensor([[0.0, 1, 1, 1]])
    masks = first[None, None, None]  # (1, 1, 1, 1, 4)
    truths = torch.stack((first, second))[None, :, None]  # (1, 2, 1, 1, 4)
    row = measures.measure(masks, truths)
    # IoU 1 and 1/4: E d(S, Y) = 3/8, E d(S, S') = 0, E d(Y, Y') = 3/8.
    assert row["ged"] == pytest.approx(2 * 3 / 8 - 3 / 8)
    assert row["accuracy_term"] == pytest.approx(3 / 4)
    assert row["hungarian_iou"] == row["best_match"] == pytest.approx(5 / 8)


def test_the_truths_themselves_are_at_distance_0_in_any_order_and_repeated():
    truths = blobs(4, 2, seed=4)
    row = measures.measure(truths[:, [1, 0, 0, 1]], truths)
    assert row["ged"] == pytest.approx(0, abs=1e-12)
    assert row["hungarian_iou"] == row["best_match"] == pytest.approx(1)
    # Twice the first truth: each truth has a best decision, but not one of its own.
    assert measures.measure(truths[:, [0, 0]], truths)["ged"] > 0.1


@pytest.mark.parametrize("D, G", [(1, 2), (2, 2), (2, 4), (3, 2), (4, 3), (16, 4)])
def test_the_hungarian_iou_is_that_of_scipy(D, G):
    optimize = pytest.importorskip("scipy.optimize")
    table = torch.rand(5, D, G, generator=torch.Generator().manual_seed(D))
    found = measures.hungarian_iou(table)
    for one, value in zip(table.numpy(), found):
        square = np.kron(np.ones((48 // D, 48 // G)), one)  # 48: a multiple of all
        pairs = optimize.linear_sum_assignment(square, maximize=True)
        assert value.item() == pytest.approx(square[pairs].mean(), abs=1e-6)


def test_all_assignments_tried_are_as_good_as_those_that_scipy_finds(monkeypatch):
    pytest.importorskip("scipy.optimize")
    table = torch.rand(50, 4, 2, generator=torch.Generator().manual_seed(0))
    tried = measures.hungarian_iou(table)
    monkeypatch.setattr(measures, "MOST", 3)
    assert measures.hungarian_iou(table).tolist() == pytest.approx(tried.tolist())


def test_without_scipy_a_large_assignment_says_what_is_missing(monkeypatch):
    monkeypatch.setitem(sys.modules, "scipy.optimize", None)
    with pytest.raises(ValueError, match="an assignment of 12 needs SciPy"):
        measures.hungarian_iou(torch.rand(1, 4, 3))


def test_what_does_not_fit_is_refused():
    masks = blobs(2, 2, seed=5)
    with pytest.raises(ValueError, match="must be 0 and 1"):
        measures.iou(masks, 0.5 * masks)
    with pytest.raises(
        ValueError, match=r"got \(2, 2, 2, 6, 6\) and \(1, 2, 2, 6, 6\)"
    ):
        measures.iou(masks, masks[:1])
