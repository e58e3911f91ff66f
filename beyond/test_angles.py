"""The world of any angle, its measures and its rows (beyond/angles.py)."""

import json
import math
from fractions import Fraction

import pytest
import torch

import data
from beyond import angles, sweep

torch.set_num_threads(1)  # the images are small: a second thread gains little
FIGURES, KEYS = sweep.ROWS.parent / "figures", ("opposite", "same", "neither")


def knowing(first, second):  # a network of these decisions, the second of what it is shown
    return lambda images, shown=first: (torch.stack((first, second(shown)), 1) - 0.5) * 100


@pytest.mark.parametrize("cos, sin", [("3/5", "4/5"), ("-12/13", "5/13"), ("-8/17", "-15/17")])
def test_a_pixel_is_of_the_part_in_which_its_centre_lies_by_exact_geometry(cos, sin):
    cos, sin, x, y = map(Fraction, (cos, sin, "19.371", "17.683"))
    ends, heights = (-14, -6, -3, 3, 6, 14), (12, 4, 6, 4, 12)  # of lobe, bar, square, bar, lobe
    shape, expected = data.Shape(48, 6, 12, 8, 4, 3), torch.zeros(3, 48, 48)
    for row, column in torch.ones(48, 48).nonzero().tolist():
        dx, dy = column + Fraction(1, 2) - x, row + Fraction(1, 2) - y
        u, v = dx * cos + dy * sin, dy * cos - dx * sin
        for part, low, high, height in zip((0, 0, 1, 2, 2), ends, ends[1:], heights):
            expected[part, row, column] += low <= u < high and abs(v) < Fraction(height, 2)
    angle, centre = torch.tensor(math.atan2(sin, cos)), torch.tensor([float(x), float(y)])
    parts = angles.parts_at(angle.view(1, 1, 1), centre.view(2, 1, 1, 1), shape)
    assert torch.equal(parts[0], expected)


def test_pairs_lie_inside_and_one_decision_scores_two_thirds_at_most():
    _, parts = angles.sample(3000, torch.Generator().manual_seed(0), data.Shape(), 0.1)
    area, truths = parts.sum((-1, -2)), angles.wholes(parts)
    assert area.mean(0).tolist() == pytest.approx([64] * 3, abs=0.3) and area.sum(1).min() > 180
    assert torch.equal(truths[:, :, 0], parts.sum(1, True) - parts[:, [2, 0]])
    i, j, k = (torch.arange(65.0).view(65, *[1] * d) for d in (2, 1, 0))  # pixels of each part
    assert ((i + j) / (128 + k) + (k + j) / (128 + i)).max().item() == pytest.approx(4 / 3)
    half = torch.cat((truths[:1500], truths[1500:, :1].expand(-1, 2, -1, -1, -1)))
    everything = truths.amax(1, True)
    for masks, value in ((truths, (1, 1)), (half, (5 / 6, 0.5)), (everything, (2 / 3, 0))):
        assert tuple(angles.measure(masks, parts).values()) == pytest.approx(value, abs=0.005)
    with pytest.raises(ValueError, match="size must be at least the diagonal of the pair, got 24"):
        angles.sample(1, torch.Generator(), data.Shape(size=24), 0.1)


def test_answers_tell_looking_from_a_habit():
    s, stream = angles.Settings(held_out=32), torch.Generator().manual_seed(2 * data.SEEDS)
    one, other = angles.wholes(angles.sample(32, stream, s.shape, s.noise)[1]).unbind(1)
    few = (torch.arange(32) < 8).view(32, 1, 1, 1)
    for second, shown, own in (
        (lambda shown: one + other - shown, [1, 0, 0], [1, 0, 0]),
        (lambda shown: other, [0.5, 0.5, 0], [0, 1, 0]),  # a habit
        (lambda shown: few * (one + other - shown), [0.25, 0, 0.75], [1, 0, 0]),  # own: of the few
    ):
        answers = angles.answers(knowing(one, second), s, 0, "cpu")
        assert [[answers[of][k] for k in KEYS] for of in ("shown", "own")] == [shown, own]
    assert angles.answers(knowing(one, lambda shown: one), s, 0, "cpu")["own"] is None


def test_where_the_first_decision_changes_and_that_both_are_lost_there():
    s, angle = angles.Settings(), torch.tensor(angles.ANGLES).deg2rad().repeat_interleave(8)
    stream = torch.Generator().manual_seed(5 + 3 * data.SEEDS)
    truths = angles.wholes(angles.sample(288, stream, s.shape, s.noise, angle)[1])
    x = (truths * torch.arange(32)).sum((2, 3, 4)) / truths.sum((2, 3, 4))  # (n, 2), their middles
    apart = (x[:, 0] - x[:, 1]).abs().view(-1, 1, 1, 1) > 8.7 * math.sin(math.radians(17))
    right, left = (truths[range(288), k] for k in (x.argmax(1), x.argmin(1)))
    found = angles.by_angle(knowing(right, lambda shown: left * apart), s, 5, "cpu")
    row = {"seed": 5, "pairs": 0.9, "angle": found}
    ways, pairs, at = angles.ways(row), angles.from_change(row), abs(angles.FROM_CHANGE)
    assert (ways[[*range(17), *range(56, 72)]] == 1).all() and (ways[20:53] == -1).all()
    assert (pairs[at < 10] == 0).all() and (pairs[at > 20] == 1).all()
    (summary,) = angles.summarise({("full", 5): row})
    assert [summary["near_change"], summary["found"]] == [0, 1] and summary["elsewhere"] > 0.9
    ax = angles.draw_angle({("full", 5): row}).axes[0]
    blue = [ax.images[0].cmap(ax.images[0].norm(way))[2] for way in ways[[0, 36]]]
    dots = {*ax.lines[0].get_xdata()}
    assert blue[0] > 0.5 > blue[1] and {85, 90, 95} <= dots < {*range(70, 290)}


def test_all_recorded_rows_pass_and_give_the_recorded_summary(tmp_path, capsys):
    saved = angles.main(["--out", str(tmp_path)])
    fit, _, of, *_ = capsys.readouterr().out.split()
    assert fit == of and int(of) >= 303 and len([*tmp_path.iterdir()]) == 4
    new, old = (
        json.loads((folder / "rotated.json").read_text(), parse_float=lambda x: round(float(x), 9))
        for folder in (tmp_path, FIGURES)
    )
    bars = [round(bar.get_width(), 9) for bar in saved["rotated_look.png"].axes[0].patches]
    assert bars == [row["own"][k] for row in old["networks"] if row["own"] for k in KEYS]
    counts = [text.get_text() for text in saved["rotated.png"].axes[0].texts]
    assert new == old and counts == [f"{row['found']} of {row['of']}" for row in old["networks"]]
    rows = sweep.read(sweep.ROWS / "seeds_1000_1004" / "rotated.jsonl")
    assert sweep.checked(angles, rows, angles.Settings(), "cpu") == (rows, "") and len(rows) == 119


def test_a_training_is_the_same_again_and_begins_as_the_recorded_one(tmp_path):
    numbers, _ = angles.main(["--train", "--epochs", "1", "--seed", "3", "--out", str(tmp_path)])
    new, old = (json.loads((f / "exp_rotated.json").read_text()) for f in (tmp_path, FIGURES))
    v, s = angles.VARIANTS["full"], angles.Settings(epochs=1)
    (_, recorded, _), (_, again, _) = (angles.train(v, s, seed, "cpu") for seed in (0, 3))
    assert new == numbers | {"history": again, "ceiling": pytest.approx(2 / 3)}
    assert all(abs(a["loss"] - b["loss"]) < 1e-3 for a, b in zip(recorded, old["history"]))
    images, parts = angles.sample(4, torch.Generator().manual_seed(3 + data.SEEDS), s.shape, 0.1)
    masks = angles.decide(v.build(s, torch.Generator().manual_seed(3)), images)
    assert again[0]["loss"] == pytest.approx(angles.loss_of(v, masks, parts, s).item(), abs=1e-6)
