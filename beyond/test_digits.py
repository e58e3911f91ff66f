"""Digits that overlap (beyond/digits.py), against counted pixels, fractions and Pillow."""

import statistics
import sys
from dataclasses import replace
from fractions import Fraction

import numpy as np
import pytest
import torch
from PIL import Image

import data
from beyond import digits, sweep

sklearn_datasets = pytest.importorskip("sklearn.datasets")
torch.set_num_threads(1)  # the images are small


def rng(seed):
    return torch.Generator().manual_seed(seed)


def pixels(mask):
    """The pixels (row, column) of a mask (H, W), as a set."""
    return set(map(tuple, mask.nonzero().tolist()))


def moved(some):
    """A set of pixels, moved into the corner at the top left."""
    top = min(y for y, x in some)
    left = min(x for y, x in some)
    return frozenset((y - top, x - left) for y, x in some)


def counted(parts):
    """The pixels of each of parts (n, 3, H, W): left own part, common region, right own
    part, three sets an image."""
    return [list(map(pixels, three)) for three in parts]


def test_a_silhouette_is_the_digit_enlarged_as_pillow_does_and_cut():
    grey = sklearn_datasets.load_digits().images.astype(np.float32)
    silhouettes = digits.silhouettes()
    assert silhouettes.shape == (1797, 16, 16)
    for k in (0, 700, 1796):
        larger = Image.fromarray(grey[k]).resize((16, 16), Image.Resampling.BILINEAR)
        expected = np.asarray(larger) > 0.45 * 16
        assert np.array_equal(silhouettes[k].numpy(), expected)


def test_every_pair_overlaps_within_the_bounds_and_left_is_left():
    _, parts = digits.sample(150, rng(0))
    ratios = []
    for left, common, right in counted(parts):
        assert len(left | common | right) == len(left) + len(common) + len(right)
        ratios.append(len(common) / len(left))
        ratios.append(len(common) / len(right))
        left_middle = statistics.mean(x for y, x in left | common)
        right_middle = statistics.mean(x for y, x in common | right)
        assert right_middle - left_middle >= 2 - 1e-4
    assert 0.2 <= min(ratios) < 0.25
    assert 1 < max(ratios) <= 1.5


def bars(P1, b, P2):
    """A pair of silhouettes, (1, 2, 1, 32): two bars of one pixel's height."""
    pair = torch.zeros(1, 2, 1, 32)
    pair[0, 0, 0, : P1 + b] = 1
    pair[0, 1, 0, P1 : P1 + b + P2] = 1
    return pair


@pytest.mark.parametrize("P1, b, P2", [(8, 12, 8), (10, 2, 10), (2, 2, 2)])
def test_a_pair_on_the_bounds_is_shown(P1, b, P2):
    assert digits.fits(bars(P1, b, P2))


@pytest.mark.parametrize(
    "P1, b, P2",
    [(8, 13, 9), (9, 13, 8), (11, 2, 10), (10, 2, 11), (10, 0, 10), (1, 1, 1)],
)
def test_a_pair_beyond_the_bounds_or_too_near_is_not_shown(P1, b, P2):
    assert not digits.fits(bars(P1, b, P2))


def test_the_image_shows_the_union_alone():
    images, parts = digits.sample(200, rng(1))
    noise = images[:, 0] - (parts.sum(1) > 0).float()
    assert noise.mean().item() == pytest.approx(0, abs=0.001)
    assert noise.std().item() == pytest.approx(0.1, abs=0.001)


def test_training_and_test_show_digits_of_their_own():
    shapes = [moved(pixels(silhouette)) for silhouette in digits.silhouettes()]
    training = set(shapes[:1400])
    test = set(shapes[1400:])
    assert len(shapes[1400:]) == 397
    s = replace(digits.SETTINGS, held_out=100)
    for left, common, right in counted(digits.sample(100, rng(2))[1]):
        assert {moved(left | common), moved(common | right)} <= training
    seen = set()
    for left, common, right in counted(digits.held_out(s, 0, "cpu")[1]):
        seen |= {moved(left | common), moved(common | right)}
    assert seen <= test
    assert len(seen) > 100


def test_a_seed_says_what_is_drawn():
    first, _ = digits.sample(20, rng(3))
    again, _ = digits.sample(20, rng(3))
    assert torch.equal(first, again)
    assert not torch.equal(first, digits.sample(20, rng(4))[0])


def always(*decisions):
    """A network that makes these decisions (n, 2, H, W), whatever it sees."""
    masks = torch.stack(decisions, 1)  # (n, D, 2, H, W)
    return lambda images: (masks - 0.5) * 100  # logits


def test_both_truths_are_at_distance_0_in_any_order():
    images, parts = digits.sample(30, rng(5))
    left, right = data.groupings(parts).unbind(1)  # each (n, 2, H, W)
    row = digits.measure(always(right, left), images, parts)
    assert row["ged"] == pytest.approx(0, abs=1e-9)
    assert (row["found"], row["hungarian_iou"]) == (1, 1)
    assert row["outcome"] == "left + right"
    assert digits.measure(always(left, left), images, parts)["found"] < 0.7
    right_alone = right * torch.tensor([0.0, 1.0]).view(2, 1, 1)  # no left instance
    assert digits.measure(always(left, right_alone), images, parts)["found"] < 0.7


def test_a_decision_that_says_both_is_as_far_as_its_pixels_say():
    images, parts = digits.sample(30, rng(6))
    own_left, common, own_right = parts.unbind(1)
    both = torch.stack((own_left + common, common + own_right), 1)
    row = digits.measure(always(both), images, parts)
    distances = []
    ratios = []
    for three in parts.sum((2, 3)).int().tolist():
        P1, b, P2 = map(Fraction, three)
        wrong_left = b / (P1 + b)  # 1 - IoU of the left instance, if right owns b
        wrong_right = b / (P2 + b)
        # 2 E d(S, Y) - E d(Y, Y'), each a mean over two instances.
        distances.append(
            (wrong_left + wrong_right) / 2 - (wrong_left + wrong_right) / 4
        )
        ratios += [round(100 * b / P1), round(100 * b / P2)]
    assert row["ged"] == pytest.approx(float(sum(distances) / 30))
    assert row["outcome"] == "both"
    away = np.abs(np.subtract(row["images"]["b_over_P"], ratios))
    assert away.max() <= 1  # halves are rounded either way
    assert row["images"]["given"] == [100] * 60


def test_given_is_left_then_right_image_by_image():
    images, parts = digits.sample(2, rng(7))
    own_left, common, own_right = parts.unbind(1)
    shares = torch.tensor([[0.2, 0.7], [1.0, 0.0]])[:, :, None, None]
    own = torch.stack((own_left, own_right), 1)
    decision = own + shares * common[:, None]  # (2, 2, H, W)

    def net(images):
        return decision.logit(eps=1e-6)

    assert digits.measure(net, images, parts)["images"]["given"] == [20, 70, 100, 0]


def test_the_loss_is_of_digits_and_the_coin_draws_one_truth():
    s = replace(digits.SETTINGS, batch=200)
    _, parts = digits.sample(200, rng(8))
    left, right = data.groupings(parts).unbind(1)
    overlap = data.score(left[:, None], right[:, None]).mean().item()
    maximum = digits.VARIANTS["dual"]
    assert digits.loss(maximum, always(left, right), s, rng(8)).item() < -1.99
    alone = digits.loss(maximum, always(left, left), s, rng(8)).item()
    assert alone == pytest.approx(-(2 + overlap) / 2, abs=0.01)
    coin = digits.VARIANTS["dual-coin"]
    heads = torch.rand(200, generator=rng(9)) < 0.5
    drawn_truth = torch.where(heads[:, None, None, None], left, right)
    net = always(drawn_truth, drawn_truth)
    assert digits.loss(coin, net, s, rng(8), rng(9)).item() < -1.99
    assert digits.loss(coin, net, s, rng(8)).item() > -1.9  # without coins both count


def row_of(ged, *ends):
    """A row of a run with this GED, whose decisions end so."""
    decisions = [{"outcome_share": share} for share in ends]
    row = dict.fromkeys(digits.MEASURES, ged) | {"decisions": decisions}
    if len(ends) == 1:
        row["images"] = {"b_over_P": [25, 50, 100, 40], "given": [100, 97, 0, 51]}
    return row


def test_the_report_says_what_the_rows_say():
    idle = {"unlearned": 1.0}
    half = {"both": 0.5, "split": 0.5}
    runs = {}
    for seed, gain in enumerate((0.1, 0.2, 0.3)):
        runs["single", seed] = row_of(0.5, half) | {"seed": seed}
        runs["dual-coin", seed] = row_of(0.4, idle, half) | {"seed": seed}
        runs["dual-coin-loss", seed] = row_of(0.4 - gain, half, half) | {"seed": seed}
    runs["single", 3] = row_of(0.5, idle) | {"seed": 3}  # has learned no own parts
    runs["dual-coin", 3] = row_of(0.4, idle, half) | {"seed": 3}  # without a pair
    runs["dual-coin-loss", 3] = {"seed": 3, "error": "not finite"}
    saved, text = digits.report(runs)
    assert "| two heads, ambiguous_loss | 3 | 0.200 ± 0.100 |" in text
    # left, right, both, neither, split; then unlearned, and how many in all images.
    ends = "0.000, 0.000 | 0.000, 0.000 | 0.500, 0.000 | 0.000, 0.000 | 0.500, 0.000"
    idle = "0.000, 1.000 | 1.000 ± 0.000"
    assert f"| two heads, the maximum | 4 | {ends} | {idle} |" in text
    test = "-0.200 | -0.300 to -0.100 | 3 of 3 | 0.25 | 0.25"
    assert f"| dual-coin-loss | dual-coin | {test} |" in text
    # a* is 0.472, 0.449, 0.414 and 0.458.
    assert "| all truths | 12 | 62% | 75% | 50% |" in text
    points = saved["digits_shares.png"].axes[0].get_lines()[0]
    assert points.get_xdata().tolist() == [0.25, 0.5, 1, 0.4] * 3


def test_a_decision_is_idle_if_it_is_unlearned_in_all_images():
    row = row_of(0.5, {"unlearned": 1.0}, {"unlearned": 0.6, "split": 0.4})
    assert digits.ends_of(row)["idle"] == 1
    assert digits.ends_of(row)["unlearned"] == [0.6, 1.0]


def test_a_report_has_no_heading_without_rows():
    rows = {("dual", 0): row_of(0.5, {"split": 1.0}, {"split": 1.0}) | {"seed": 0}}
    saved, text = digits.report(rows)
    assert saved == {}
    assert "Trained with all truths:\n\n| network" in text
    assert "one truth an image:" not in text
    assert "planned" not in text


def test_the_script_trains_three_networks_and_draws_them(tmp_path, monkeypatch, capsys):
    few = replace(digits.SETTINGS, epochs=1, steps_per_epoch=1, batch=2, held_out=9)
    monkeypatch.setattr(digits, "SETTINGS", few)
    words = ["--train", "--seed", "3", "--out", str(tmp_path)]
    saved = sweep.main(digits.QUESTION, words)
    v = digits.VARIANTS["dual-coin-loss"]
    end = digits.run(v, 3, few, "cpu")
    assert f"ambiguous_loss: GED {end['ged']:.3f}" in capsys.readouterr().out
    assert (tmp_path / "digits.png").stat().st_size > 20_000

    images, parts = digits.held_out(few, 3, "cpu")
    net, _ = digits.trained(v, 3, few, "cpu")
    with torch.no_grad():
        decisions = digits.decide(net, images)
    strips = [ax.images[0].get_array() for ax in saved["digits.png"].axes]
    last = data.groupings(parts)[7]  # of the eighth image, (2 groupings, 2, H, W)
    for strip, pairs in ((strips[1], last), (strips[-1], decisions[7])):
        for k in range(2):
            cell = strip[32 * k : 32 * k + 32, -33:-1]
            assert np.allclose(cell, data.paint(images[7], pairs[k], parts[7]))


def test_without_scikit_learn_one_line_says_what_is_missing(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "sklearn.datasets", None)
    digits.silhouettes.cache_clear()
    with pytest.raises(SystemExit, match="error: .*pip install scikit-learn"):
        sweep.main(digits.QUESTION, ["--train", "--out", str(tmp_path)])
    digits.silhouettes.cache_clear()


def test_where_the_overlap_is_seen_the_common_region_alone_is_brighter():
    shape = digits.VARIANTS["single-seen"].settings(digits.SETTINGS).shape
    images, parts = digits.sample(20, rng(10), shape, noise=0)
    expected = (parts.sum(1) + 0.5 * parts[:, 1])[:, None]
    assert torch.equal(images, expected)
    assert torch.equal(digits.sample(20, rng(10), noise=0)[1], parts)


@pytest.fixture(scope="module")
def recorded():
    """The recorded runs, {(variant, seed): row}."""
    rows = sweep.recorded(digits.QUESTION, sweep.ROWS)
    return sweep.distinct(rows)


def readme():
    """The words of beyond/README.md."""
    text = (sweep.ROWS.parent / "README.md").read_text(encoding="utf-8")
    return " ".join(text.split())


def test_the_readme_has_the_planned_test_of_the_rows(recorded):
    _, text = digits.report(recorded)
    assert "| told-step-loss | told-step | +0.002 | -0.015 to +0.030 |" in text
    assert "| recurrent-loss | recurrent | +0.002 | -0.012 to +0.030 |" in text
    assert "The pairs of runs of one seed go from -0.015 to +0.030" in readme()
    test = "-0.268 | -0.366 to -0.102 | 10 of 10 | 0.002"
    assert f"| dual-coin-loss | dual-coin | {test}" in text
    heading = "Trained with one truth an image:"
    after = text[text.index(heading) :].splitlines()
    assert after[4].startswith("| one decision | 10 | 0.397 ± 0.159 |")
    words = (
        "-0.268, and the ten go from -0.366 to -0.102 (exact sign-flip test, p = 0.002)"
    )
    assert words in readme()


def cells(recorded, key):
    """The cells of a variant in the README's table."""
    rows = [recorded[key, seed] for seed in range(10)]
    geds = [row["ged"] for row in rows]
    hungarian = statistics.mean(row["hungarian_iou"] for row in rows)
    found = statistics.mean(row["found"] for row in rows)
    ged = f"{statistics.mean(geds):.3f} ± {statistics.stdev(geds):.3f}"
    return f"{ged} | {hungarian:.3f} | {found:.0%} |"


RULES = {  # the ends of the keys, with all truths and with one truth an image
    "the maximum": ("", "-coin"),
    "matched; shared evenly": ("-matched", "-coin-shared"),
    "ambiguous_loss": ("-loss", "-coin-loss"),
}


@pytest.mark.parametrize("key", digits.NETWORKS)
@pytest.mark.parametrize("rule", RULES)
def test_the_table_of_the_readme_is_that_of_the_rows(recorded, key, rule):
    all_truths, one_truth = RULES[rule]
    line = f"| {digits.NETWORKS[key].title} | {rule} | "
    line += f"{cells(recorded, key + all_truths)} {cells(recorded, key + one_truth)}"
    assert line in readme()
    alone = f"{cells(recorded, 'single')} {cells(recorded, 'single-coin')}"
    assert f"| one decision | | {alone}" in readme()


def test_one_decision_without_a_run_that_has_learned_nothing(recorded):
    rows = [recorded["single-coin", seed] for seed in range(10)]
    learned = [row["ged"] for row in rows if row["outcome"] != "unlearned"]
    assert len(learned) == 9
    mean = f"{statistics.mean(learned):.2f}"
    assert f"or {mean} without a run that has learned nothing" in readme()


def test_under_the_maximum_one_of_two_heads_or_u_nets_is_unlearned(recorded):
    unlearned = {}
    for (key, _), row in recorded.items():
        most = max(map(digits.unlearned_in, row["decisions"]))
        unlearned.setdefault(key, []).append(most)
    counts = {key: sum(share == 1 for share in unlearned[key]) for key in unlearned}
    no_passes = ("dual", "dual-coin", "independent", "independent-coin")
    assert sum(counts[key] for key in no_passes) == 39
    assert "in 39 of 40 runs" in readme()
    passes = ("told-step", "told-step-coin", "recurrent", "recurrent-coin")
    assert [counts[key] for key in passes] == [0] * 4
