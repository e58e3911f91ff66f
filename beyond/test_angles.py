"""Pairs at any angle (beyond/angles.py), against exact geometry, counted pixels and the
rows."""

import math
from dataclasses import replace
from fractions import Fraction

import pytest
import torch

import data
from beyond import angles, sweep

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


def test_a_pixel_is_of_the_part_in_which_its_centre_lies():
    cos, sin = Fraction(-12, 13), Fraction(5, 13)
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


def test_pairs_lie_inside_the_image_and_point_in_all_directions_evenly():
    images, parts = angles.sample(4000, rng(0), data.Shape(), 0.1)
    noise = images - parts.sum(1, keepdim=True)
    assert noise.std().item() == pytest.approx(0.1, abs=0.001)
    area = parts.sum((-1, -2))  # (n, 3)
    assert area.mean(0).tolist() == pytest.approx([64, 64, 64], abs=0.3)
    assert area.sum(1).min() > 180  # of 192: nothing is cut off
    y, x = torch.meshgrid(torch.arange(32.0), torch.arange(32.0), indexing="ij")
    apart = parts[:, 2] - parts[:, 0]  # (n, H, W), from one own part to the other
    angle = torch.atan2((apart * y).sum((-1, -2)), (apart * x).sum((-1, -2)))
    quarter = (angle / (math.pi / 2)).floor()
    for k in range(-2, 2):
        assert (quarter == k).float().mean().item() == pytest.approx(0.25, abs=0.03)


def always(*masks):
    """A network whose decisions are these masks (n, 1, H, W), whatever it sees."""
    decisions = torch.stack(masks, 1)  # (n, D, 1, H, W)
    return lambda images: (decisions - 0.5) * 100  # logits


def test_both_wholes_are_found_where_some_decision_is_each():
    images, parts = angles.sample(40, rng(3), data.Shape(), 0.1)
    one = (parts.sum(1) - parts[:, 2])[:, None]  # (n, 1, H, W)
    other = (parts.sum(1) - parts[:, 0])[:, None]
    found = angles.measure(always(other, one), images, parts)
    assert found == {"score": 1, "pairs": 1, "wins": [0.5, 0.5]}
    half = torch.cat((one[:10], other[10:]))  # as the first decision in ten images
    assert angles.measure(always(one, half), images, parts)["pairs"] == 0.75
    everything = parts.sum(1, keepdim=True)
    for mask in (one, everything):  # no single mask scores more
        alone = angles.measure(always(mask), images, parts)
        assert alone["score"] == pytest.approx(2 / 3, abs=0.01)
        assert alone["pairs"] == 0


def test_a_decision_that_is_behind_for_every_whole_wins_none():
    images, parts = angles.sample(4, rng(3), data.Shape(), 0.1)
    one = angles.wholes(parts)[:, 0]
    everything = parts.sum(1, keepdim=True)
    net = always(0 * one, everything, one)  # the third one wins one whole of two
    assert angles.measure(net, images, parts)["wins"] == [0, 0.5, 0.5]


def test_the_meter_is_read_before_the_steps_that_it_names():
    s = replace(angles.SETTINGS, epochs=1, steps_per_epoch=12, held_out=4)
    row = angles.run(angles.VARIANTS["heads"], 3, s, "cpu")
    ((step, lead, parting),) = row["meter"]
    assert step == 10
    assert 0 <= lead <= 1 and 0 <= parting <= 2


def test_the_maximum_lets_a_decision_count_for_both_wholes_and_matching_does_not():
    s = angles.SETTINGS
    _, parts = angles.sample(s.batch, rng(5), s.shape, s.noise)
    one, other = angles.wholes(parts).unbind(1)  # each (n, 1, H, W)
    net = always(one, 0 * one)
    overlap = data.iou(one[:, None], other[:, None]).mean().item()
    loss = angles.loss(angles.VARIANTS["heads"], net, s, rng(5))
    assert -loss.item() == pytest.approx((1 + overlap) / 2, abs=0.01)
    loss = angles.loss(angles.VARIANTS["heads-matched"], net, s, rng(5))
    assert -loss.item() == pytest.approx(0.5, abs=1e-3)


def test_recorded_counts_are_those_of_the_readme():
    question = angles.QUESTION
    rows = sweep.recorded(question, sweep.ROWS)
    fitting, cut, wrong = sweep.sorted_out(question, rows, angles.SETTINGS, "cpu")
    assert (cut, wrong) == ([], "")
    saved, text = angles.report(sweep.distinct(fitting))
    assert "| recurrent | told the pass | 17/20 | 3/20 | +70.0 |" in text
    assert "| two heads, matched | two heads | 20/20 | 0/20 | +100.0 |" in text
    assert "| recurrent, matched | 19/20 |" in text
    bars = {}
    ax = saved["rotated.png"].axes[0]
    for bar, title in zip(ax.patches, ax.get_yticklabels()):
        bars[title.get_text()] = round(20 * bar.get_width())
    assert len(bars) == len(angles.SHOWN)
    assert bars["recurrent, the state alone fed back"] == 12
    assert bars["told the pass, step size 0.0005"] == 15


def test_readings_are_sorted_by_whether_a_decision_wins_nothing():
    rows = {
        ("heads", 0): {"meter": [[10, 0.9, 0.1]], "wins": [0.96, 0.04]},
        ("heads", 1): {"meter": [[10, 0.8, 0.1]], "wins": [0.5, 0.5]},
        ("heads", 2): {"error": "the loss is nan"},
    }
    assert angles.metered(rows) == ([[[10, 0.9, 0.1]]], [[[10, 0.8, 0.1]]])


def test_a_run_that_died_did_not_find_them():
    runs = {("full", 0): {"pairs": 0.9}, ("full", 1): {"error": "no memory"}}
    (row,) = angles.summarise(runs)
    assert (row["found"], row["of"]) == (1, 2)


def test_the_script_trains_one_network_and_draws_it(tmp_path, monkeypatch, capsys):
    settings = replace(angles.SETTINGS, epochs=1, held_out=8)
    monkeypatch.setattr(angles, "SETTINGS", settings)
    words = ["--train", "--seed", "3", "--out", str(tmp_path / "new")]
    saved = sweep.main(angles.QUESTION, words)
    row = angles.run(angles.VARIANTS["full"], 3, settings, "cpu")
    said = capsys.readouterr().out
    assert f"The score is {row['score']:.3f}." in said
    assert f"Saved in {tmp_path / 'new'}: angles.png." in said
    assert (tmp_path / "new" / "angles.png").stat().st_size > 5000
    (picture,) = saved["angles.png"].axes[0].images
    images, _ = angles.held_out(settings, 3, "cpu")
    first_row = torch.tensor(picture.get_array()[: settings.shape.size])
    assert torch.equal(first_row, torch.cat(list(images[:6, 0]), 1))
    with pytest.raises(SystemExit, match="error: seed must be from 0"):
        sweep.main(angles.QUESTION, ["--train", "--seed", "-1", "--out", str(tmp_path)])
