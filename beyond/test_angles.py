"""Pairs at any angle (beyond/angles.py), against exact geometry, counted pixels and the
rows."""

import json
import math
from fractions import Fraction

import pytest
import torch

import data
from beyond import angles, shares, sweep

torch.set_num_threads(1)  # the images are small


def rng(seed):
    return torch.Generator().manual_seed(seed)


def part_of(u, v):
    """The part of a pair at an angle of 0 in which a point lies, None if in none; u is
    along the pair from its centre, v across it. The pair has a square of 6 pixels, bars of
    3 by 4 and lobes of 8 by 12."""
    side = 0 if u < 0 else 2
    if abs(u) < 3:
        return 1 if abs(v) < 3 else None
    if abs(u) < 6:
        return side if abs(v) < 2 else None
    if abs(u) < 14:
        return side if abs(v) < 6 else None
    return None


@pytest.mark.parametrize(
    "cos, sin",
    [
        (Fraction(3, 5), Fraction(4, 5)),
        (Fraction(-12, 13), Fraction(5, 13)),
        (Fraction(-8, 17), Fraction(-15, 17)),
    ],
)
def test_a_pixel_is_of_the_part_in_which_its_centre_lies(cos, sin):
    x, y = Fraction("19.371"), Fraction("17.683")  # the centre of the pair
    expected = torch.zeros(3, 48, 48)
    for row in range(48):
        for column in range(48):
            dx = column + Fraction(1, 2) - x
            dy = row + Fraction(1, 2) - y
            part = part_of(dx * cos + dy * sin, dy * cos - dx * sin)
            if part is not None:
                expected[part, row, column] = 1
    shape = data.Shape(
        size=48, square=6, lobe_height=12, lobe_width=8, bar_height=4, bar_length=3
    )
    angle = torch.tensor(math.atan2(sin, cos)).view(1, 1, 1)
    centre = torch.tensor([float(x), float(y)]).view(2, 1, 1, 1)
    assert torch.equal(angles.parts_at(angle, centre, shape)[0], expected)


def test_pairs_lie_inside_the_image_and_have_their_area_on_average():
    images, parts = angles.sample(3000, rng(0), data.Shape(), 0.1)
    area = parts.sum((-1, -2))  # (n, 3)
    assert area.mean(0).tolist() == pytest.approx([64, 64, 64], abs=0.3)
    assert area.sum(1).min() > 180  # of 192: nothing is cut off
    noise = images - parts.sum(1, keepdim=True)
    assert noise.std().item() == pytest.approx(0.1, abs=0.001)


def test_pairs_point_in_all_directions_evenly():
    _, parts = angles.sample(4000, rng(1), data.Shape(), 0.1)
    y, x = torch.meshgrid(torch.arange(32.0), torch.arange(32.0), indexing="ij")
    lobe = parts[:, 0] / parts[:, 0].sum((-1, -2), keepdim=True)
    square = parts[:, 1] / parts[:, 1].sum((-1, -2), keepdim=True)
    dx = ((lobe - square) * x).sum((-1, -2))
    dy = ((lobe - square) * y).sum((-1, -2))
    quarter = (torch.atan2(dy, dx) / (math.pi / 2)).floor()
    for k in range(-2, 2):
        assert (quarter == k).float().mean().item() == pytest.approx(0.25, abs=0.03)


def test_the_two_wholes_are_all_but_one_own_part_each():
    _, parts = angles.sample(5, rng(2), data.Shape(), 0.1)
    first, second = angles.wholes(parts)[:, :, 0].unbind(1)
    assert torch.equal(first, parts.sum(1) - parts[:, 2])
    assert torch.equal(second, parts.sum(1) - parts[:, 0])


def always(*masks):
    """A network whose decisions are these masks (n, 1, H, W), whatever it sees."""
    decisions = torch.stack(masks, 1)  # (n, D, 1, H, W)

    def net(images, shown=None):
        return (decisions - 0.5) * 100  # logits

    return net


def test_both_wholes_are_found_where_some_decision_is_each():
    images, parts = angles.sample(40, rng(3), data.Shape(), 0.1)
    one, other = angles.wholes(parts).unbind(1)  # each (n, 1, H, W)
    found = angles.measure(always(other, one), images, parts)
    assert found == {"score": 1, "pairs": 1}
    half = torch.cat((one[:10], other[10:]))  # as the first decision in ten images
    assert angles.measure(always(one, half), images, parts)["pairs"] == 0.75
    alone = angles.measure(always(one), images, parts)
    assert alone["pairs"] == 0
    everything = angles.measure(always(one + other - one * other), images, parts)
    for numbers in (alone, everything):  # no single mask scores more
        assert numbers["score"] == pytest.approx(shares.whole_ceiling(64, 64), abs=0.01)


def answering(one, reply):
    """A network whose first decision is the mask one, and whose second one is a reply to
    the mask that it is shown, by default the first decision."""

    def net(images, shown=one):
        first = torch.stack((one[: len(images)], reply(shown)), 1)
        return (first - 0.5) * 100

    return net


@pytest.mark.parametrize("said", ["opposite", "same", "neither"])
def test_what_the_second_decision_says_when_it_is_shown_its_own_whole(said):
    images, parts = angles.sample(20, rng(4), data.Shape(), 0.1)
    one, other = angles.wholes(parts).unbind(1)  # each (n, 1, H, W)

    def reply(shown):
        if said == "opposite":  # whatever it is shown
            return one + other - shown
        if said == "same" or torch.equal(shown, one):
            return other
        return 0 * other

    expected = {"opposite": 0, "same": 0, "neither": 0, said: 1}
    assert angles.shown_its_own(answering(one, reply), images, parts) == expected


def test_only_images_count_in_which_both_wholes_are_found():
    images, parts = angles.sample(20, rng(4), data.Shape(), 0.1)
    one, other = angles.wholes(parts).unbind(1)
    found = torch.arange(20) < 5  # in these images, by a habit
    habit = other * found.view(-1, 1, 1, 1)
    net = answering(one, lambda shown: habit[: len(shown)])
    assert angles.shown_its_own(net, images, parts)["same"] == 1
    assert angles.shown_its_own(always(one, one), images, parts) is None


def test_the_loss_is_minus_the_score_of_the_better_decision():
    s = angles.SETTINGS
    _, parts = angles.sample(s.batch, rng(5), s.shape, s.noise)
    one, other = angles.wholes(parts).unbind(1)
    net = always(one, one)
    overlap = data.iou(one[:, None], other[:, None]).mean()
    for key in ("heads", "heads-matched"):
        loss = angles.loss(angles.VARIANTS[key], net, s, rng(5))
        assert -loss.item() == pytest.approx((1 + overlap.item()) / 2, abs=1e-3)
    # Matched, the better one may not count for both wholes; the maximum lets it.
    net = always(one, 0 * one)
    loss = angles.loss(angles.VARIANTS["heads-matched"], net, s, rng(5))
    assert -loss.item() == pytest.approx(0.5, abs=1e-3)
    loss = angles.loss(angles.VARIANTS["heads"], net, s, rng(5))
    assert -loss.item() == pytest.approx((1 + overlap.item()) / 2, abs=0.01)


def test_recorded_counts_are_those_of_the_readme():
    rows = sweep.recorded(angles.QUESTION, sweep.ROWS)
    fitting, cut, wrong = sweep.sorted_out(
        angles.QUESTION, rows, angles.SETTINGS, "cpu"
    )
    assert (len(fitting), cut, wrong) == (len(rows), [], "")
    saved, text = angles.report(sweep.distinct(fitting))
    assert "| recurrent | told the pass | 17/20 | 3/20 | +70.0 |" in text
    assert "| two heads, matched | two heads | 20/20 | 0/20 | +100.0 |" in text
    assert "| recurrent, matched | 19/20 |" in text
    assert "| 31.5 0.2 68.3 |" in text  # opposite, same, neither
    ax = saved["rotated.png"].axes[0]
    bars = [round(20 * bar.get_width()) for bar in ax.patches]
    assert bars == [0, 0, 1, 3, 3, 12, 17, 15, 18, 20, 20, 20, 19]


def test_a_run_that_died_did_not_find_them():
    runs = {("full", 0): {"pairs": 0.9}, ("full", 1): {"error": "no memory"}}
    (row,) = angles.summarise(runs)
    assert (row["found"], row["of"], row["pairs"]) == (1, 2, [0.9, 0])


def test_the_script_trains_one_network_and_saves_its_picture(tmp_path):
    words = ["--train", "--epochs", "1", "--seed", "3", "--out", str(tmp_path)]
    numbers, _ = angles.main(words)
    assert json.loads((tmp_path / "angles.json").read_text()) == numbers
    assert (tmp_path / "angles.png").stat().st_size > 10000
    assert numbers["history"][-1]["step"] == 40
    # The first loss is that of the untrained network on the first batch.
    s = angles.SETTINGS
    v = angles.VARIANTS["full"]
    net, generator = v.begin(s, 3, "cpu")
    loss = angles.loss(v, net, s, generator).item()
    assert numbers["history"][0]["loss"] == pytest.approx(loss, abs=1e-6)


def test_what_does_not_fit_is_said_in_one_line(capsys):
    with pytest.raises(
        ValueError, match="size must be at least the diagonal .* got 24"
    ):
        angles.sample(1, rng(0), data.Shape(size=24), 0.1)
    with pytest.raises(SystemExit):
        angles.main(["--train", "--epochs", "0"])
    assert "--epochs: must be a whole number" in capsys.readouterr().err
    with pytest.raises(SystemExit, match="error: seed must be from 0"):
        angles.main(["--train", "--seed", "-1"])
