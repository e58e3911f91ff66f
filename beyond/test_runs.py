"""A run is that of the script at the top, and is counted, put into words and drawn as it
ended. python -m pytest beyond/test_runs.py"""

from dataclasses import replace

import pytest
import torch

import data
import exp_dual
import exp_recurrent
import exp_single
from beyond import breaks, controls, runs, sweep

QUICK = runs.Settings(epochs=1, steps_per_epoch=6, held_out=8, m=0.7)
WORDS = ["--epochs", "1", "--steps-per-epoch", "6", "--test-images", "8", "--m", "0.7"]
WORDS += ["--seed", "3", "--device", "cpu", "--out"]


def generator(seed):
    return torch.Generator().manual_seed(seed)


def test_the_settings_of_rows_are_the_defaults_of_the_script():
    usual = vars(exp_recurrent.arguments([]))
    settings = vars(runs.Settings())
    for name in settings.keys() - {"held_out", "shape"}:
        assert settings[name] == usual[name], name
    assert settings["held_out"] == usual["test_images"]
    assert settings["shape"] == data.Shape(usual["size"], usual["square"])


@pytest.mark.parametrize(
    "script, key, words",
    [
        (exp_single, "single", []),
        (exp_dual, "dual-matched", ["--matched"]),
        (exp_recurrent, "recurrent", []),
    ],
)
def test_a_run_gives_the_numbers_of_the_script_at_the_top(script, key, words, tmp_path):
    numbers, _ = script.main([*WORDS, str(tmp_path), *words])
    row = runs.run(controls.VARIANTS[key], 3, QUICK, "cpu")
    assert row["score"] == pytest.approx(numbers["score"], abs=1e-4)
    for ours, theirs in zip(row["decisions"], numbers["decisions"], strict=True):
        for name in ("common_left", "common_right", "score_left_grouping"):
            assert ours[name] == pytest.approx(theirs[name], abs=1e-4)


def test_a_recorded_run_trained_again_is_the_same():
    rows = sweep.recorded(controls.QUESTION, sweep.ROWS)
    row = sweep.distinct(rows)["single", 3]
    again = sweep.attempt(controls.QUESTION, "single", 3, runs.Settings(), "cpu")
    new = {"ged", "accuracy_term", "hungarian_iou", "best_match"}
    assert again.keys() - new == row.keys() - {"version"}
    assert sweep.difference(row, again) == ""
    assert again["outcome"] == row["outcome"]
    assert again["score"] == pytest.approx(row["score"], abs=1e-3)


def test_a_run_has_the_measures_of_the_field():
    row = runs.run(runs.TWO_HEADS, 3, replace(QUICK, m=0.5), "cpu")
    # With m = 1/2 both groupings count alike, and a score is a sum over two instances.
    assert row["best_match"] == pytest.approx(row["score"] / 2, abs=1e-6)
    total = 0
    for decision in row["decisions"]:
        total += decision["score_left_grouping"] + decision["score_right_grouping"]
    # Eight IoUs: of two decisions, with two groupings, of two instances.
    assert row["accuracy_term"] == pytest.approx(2 * (1 - total / 8), abs=1e-6)


def test_images_and_coins_have_streams_of_their_own():
    def batch_loss(net, generator, coins, progress):
        assert generator.initial_seed() == data.stream(5, "training").initial_seed()
        streams = {data.stream(5, name).initial_seed() for name in data.STREAMS}
        assert coins.initial_seed() not in streams
        assert coins.initial_seed() == 5 + 3 * data.SEEDS  # as rows were made
        return sum(weight.sum() for weight in net.parameters())

    runs.trained(runs.SINGLE, 5, QUICK, "cpu", batch_loss)


def ged_row(seed, ged):
    """A row of a run with this GED."""
    return {"seed": seed, "ged": ged, "areas": [ged, 2 * ged]}


def geds():
    """Runs of two variants, of which one died and one is not of the planned seeds."""
    rows = {}
    for seed in (0, 1, 2, 10):
        rows["dual", seed] = ged_row(seed, 0.5)
        rows["single", seed] = ged_row(seed, 0.4 - seed / 10)
    rows["single", 2] = {"seed": 2, "error": "the loss is nan"}
    return rows


def test_differences_are_of_pairs_on_the_planned_seeds():
    pairs = [("single", "dual"), ("single", "recurrent"), ("recurrent", "dual")]
    (line,) = runs.differences(geds(), pairs, "ged").splitlines()[2:]
    # -0.1 and -0.2; two of the four ways to set the signs are as far from 0.
    cells = "| single | dual | -0.150 | -0.200 to -0.100 | 2 of 2 | 0.5 | 1 |"
    assert line == cells
    assert runs.differences(geds(), pairs[1:], "ged") == ""
    title = runs.headline(geds(), runs.NETWORKS, pairs[0])
    assert title == "Mean GED of 2 runs: one decision 0.35; two heads 0.50."
    assert runs.headline(geds(), runs.NETWORKS, pairs[1]) == ""


def test_means_are_over_the_runs_that_did_not_die():
    columns = {"ged": "GED", "areas": "areas of both"}
    (head, _, single) = runs.means(
        geds(), {"single": runs.SINGLE, "told-step": runs.TOLD}, columns
    ).splitlines()
    assert head == "| network, rule | runs | GED | areas of both |"
    # 0.4, 0.3 and -0.6.
    assert single == "| one decision | 3 | 0.033 ± 0.551 | 0.033, 0.067 |"
    assert runs.means(geds(), {"told-step": runs.TOLD}, columns) == ""


@pytest.mark.parametrize(
    "batches, test_images, found_at",
    [
        ([0, 1, 0, 1, 1], 1, 4),
        ([0, 1, 0, 1, 0], 1, 5),  # the last batch misses a pair
        ([0, 1, 0, 1, 1], 0, None),
    ],
)
def test_a_run_finds_both_at_the_step_from_which_all_recorded_batches_are_exact(
    batches, test_images, found_at, monkeypatch
):
    exact = iter([*batches, test_images])

    def measure(masks, parts, m=0.5):
        return {
            "decisions": [{"outcome": "x"}],
            "score": 1,
            "oracle_exact": next(exact),
        }

    monkeypatch.setattr(data, "measure", measure)
    s = runs.Settings(epochs=1, steps_per_epoch=5, held_out=4)
    row = runs.run(runs.SINGLE, 0, s, "cpu")
    assert row["found"] == (found_at is not None)
    assert row["found_at"] == found_at


def test_a_coin_draws_one_truth_for_each_image_and_the_images_stay():
    v = replace(runs.SINGLE, coin=True)
    s = runs.Settings(batch=400, m=0.7)
    with_coin = generator(0)
    without = generator(0)
    coins = generator(1)
    for _ in range(2):  # batches
        images, _, weights = runs.draw(v, s, with_coin, coins)
        expected, _, both = runs.draw(runs.SINGLE, s, without, coins)
        assert torch.equal(images, expected)
        assert both.tolist() == [[pytest.approx(0.7), pytest.approx(0.3)]]
        assert (weights.sum(1) == 1).all()
        assert weights[:, 0].mean().item() == pytest.approx(0.7, abs=0.05)


def test_an_image_that_shows_its_owner_has_the_other_own_part_at_half():
    images, parts = data.sample(200, generator(0))
    left = torch.arange(200) % 2 == 0
    weights = torch.stack((left, ~left), 1).float()
    shown = images.clone()
    runs.show_owner(shown, parts, weights, 0.5, generator(1))
    change = images - shown  # (n, 1, H, W)
    of_left_own = (change[:, 0] * parts[:, 0]).sum((1, 2)) / parts[:, 0].sum((1, 2))
    of_right_own = (change[:, 0] * parts[:, 2]).sum((1, 2)) / parts[:, 2].sum((1, 2))
    assert set(of_left_own[left].round(decimals=3).tolist()) == {0.0}
    assert set(of_left_own[~left].round(decimals=3).tolist()) == {0.0, 0.5}
    assert set(of_right_own[left].round(decimals=3).tolist()) == {0.0, 0.5}
    dimmed = (of_left_own + of_right_own > 0).float()
    assert dimmed.mean().item() == pytest.approx(0.5, abs=0.1)
    outside = 1 - parts[:, [0, 2]].sum(1, keepdim=True)
    assert (change * outside).abs().max() == 0


def test_instances_that_are_shuffled_are_put_in_order_again():
    _, parts = data.sample(50, generator(0))
    truths = data.groupings(parts)
    shuffled = runs.shuffle(truths, generator(1))
    changed = (shuffled != truths).flatten(1).any(1)
    assert 15 <= changed.sum() <= 35
    assert torch.equal(shuffled[changed], truths[changed].flip(2))
    assert torch.equal(runs.in_order(shuffled, parts), truths)


@pytest.mark.parametrize("change", [{"shown": 0.5}, {"shuffled": True}])
def test_a_run_is_trained_with_what_its_variant_says(change):
    coin = replace(runs.TWO_HEADS, coin="shown" in change)
    as_usual = runs.run(coin, 3, QUICK, "cpu")
    changed = runs.run(replace(coin, **change), 3, QUICK, "cpu")
    assert changed["decisions"] != as_usual["decisions"]


def test_without_an_order_a_shuffled_truth_costs_nothing():
    v = replace(runs.TWO_HEADS, shuffled=True, rule="unordered", number=3.0)
    _, parts = data.sample(4, generator(0))
    truths = data.groupings(parts)
    halves = torch.full((1, 2), 0.5)
    loss = runs.minus_worth(v, QUICK, truths.flip(2), truths, halves)
    assert loss.item() == pytest.approx(-2)


def made_up(seed, outcome, found=False):
    """Return a row that ended so."""
    found_at = 80 + seed if found else None
    return {"seed": seed, "outcome": outcome, "found": found, "found_at": found_at}


MIXED = (
    made_up(0, "left + right", found=True),
    made_up(1, "left + right", found=True),
    made_up(2, "left + right"),  # but below 99% of the pairs
    made_up(3, "both + unlearned"),
    {"seed": 4, "error": "the loss is nan"},
)


def summary():
    by_seed = {("dual", row["seed"]): row for row in MIXED}
    return runs.summarise(by_seed, {"dual": runs.TWO_HEADS, "single": runs.SINGLE})


def test_a_table_has_what_runs_ended_in_and_where_left_and_right_is_not_both_found():
    ends = "left + right 3, both + unlearned 1, died 1"
    cells = f"| two heads | 2 of 5 *1 | 12% to 77% | 80.5 | {ends} |"
    assert runs.table(summary()).splitlines()[2:] == [cells]


def test_bars_are_as_wide_as_the_shares_of_the_outcomes():
    figure = runs.bars(summary(), {"Heading": {"dual": runs.TWO_HEADS}}, "Question?")
    (ax,) = figure.axes
    frames = [bar for bar in ax.patches if not bar.get_fill()]
    assert [bar.get_width() for bar in frames] == pytest.approx([0.6, 0.2, 0.2])
    written = [text.get_text() for text in ax.texts]
    assert written[:2] == ["Heading", "left + right: 3"]
    assert "2 of 5 *1  (12% to 77%)" in written
    stripes = [bar for bar in ax.patches if bar.get_fill()]
    colours = [bar.get_facecolor()[:3] for bar in stripes]
    assert colours[:2] == [data.RED, data.YELLOW]
    assert sum(bar.get_height() for bar in stripes[:2]) == pytest.approx(0.7)
    assert runs.bars(summary(), {"Heading": {"single": runs.SINGLE}}, "?") is None


def test_controls_and_breaks_say_what_was_found():
    found = sweep.distinct(sweep.recorded(controls.QUESTION, sweep.ROWS))
    saved, text = controls.report(found)
    assert sorted(saved) == ["controls.png", "matching.png", "one_truth.png"]
    first, second, *_ = text.split("\n\n")
    assert "recurrent 20 of 20; told the pass 16 of 20; two U-Nets 7 of 20" in first
    assert "two heads 0 of 20" in first and "two heads, matched 18 of 20" in first
    assert "shared evenly 16 of 20" in second
    assert "| two heads, matched | two heads | 18/20 | 0/20 | +90.0 |" in text
    broken = sweep.distinct(sweep.recorded(breaks.QUESTION, sweep.ROWS))
    assert "With 11 of 17 settings every recurrent run" in breaks.report(broken)[1]


def test_all_planned_tests_are_of_variants_that_are_here():
    for pairs in (*controls.PLANNED, controls.NOT_PLANNED):
        for pair in pairs:
            assert set(pair) <= controls.VARIANTS.keys()
    assert [len(pairs) for pairs in controls.PLANNED] == [5, 10, 6, 2]
