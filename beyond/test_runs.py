"""A run is that of the script at the top, and is counted, put into words and drawn as it
ended. python -m pytest beyond/test_runs.py"""

from dataclasses import replace

import matplotlib
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


@pytest.mark.parametrize("script", [exp_single, exp_dual, exp_recurrent])
def test_the_settings_of_rows_are_the_defaults_of_the_scripts(script):
    usual = vars(script.arguments([]))
    settings = vars(runs.Settings())
    for name in settings.keys() & usual.keys():
        if name != "epochs" or script is exp_recurrent:
            assert settings[name] == usual[name], name
    assert settings["held_out"] == usual["test_images"]
    assert settings["shape"] == data.Shape(usual["size"], usual["square"])
    own = settings.keys() - usual.keys()
    assert own <= {"held_out", "shape", "passes", "beta"}  # one decision has no maximum


@pytest.mark.parametrize(
    "script, key, words",
    [
        (exp_single, "single", []),
        (exp_dual, "dual", []),
        (exp_recurrent, "recurrent", []),
        (exp_dual, "dual-matched", ["--matched"]),
        (exp_recurrent, "recurrent-matched", ["--matched"]),
    ],
)
def test_a_run_gives_the_numbers_of_the_script_at_the_top(script, key, words, tmp_path):
    numbers, _ = script.main([*WORDS, str(tmp_path), *words])
    row = runs.run(controls.VARIANTS[key], 3, QUICK, "cpu")
    assert row["score"] == pytest.approx(numbers["score"], abs=1e-4)
    for ours, theirs in zip(row["decisions"], numbers["decisions"], strict=True):
        for name in ("common_left", "common_right", "score_left_grouping"):
            assert ours[name] == pytest.approx(theirs[name], abs=1e-4)


def test_the_losses_of_a_run_are_those_of_the_script_at_the_top():
    args = exp_recurrent.arguments([*WORDS, "out"])
    net = controls.RECURRENT.build(QUICK, data.stream(3, "weights"))
    images, _ = runs.held_out(QUICK, 3, "cpu")
    history, _ = exp_recurrent.train(args, net, images)
    seen = {}

    def look(net, step, masks, parts):
        if step <= 6:
            weights = torch.tensor([[0.7, 0.3]])
            loss = runs.minus_worth(controls.RECURRENT, QUICK, masks, parts, weights)
            seen[step] = loss.item()

    runs.run(controls.RECURRENT, 3, QUICK, "cpu", look)
    assert runs.recorded(6) == {row["step"] for row in history}
    for row in history:
        assert seen[row["step"]] == pytest.approx(row["loss"], abs=1e-5)


def test_a_recorded_run_trained_again_is_the_same():
    rows = sweep.recorded(controls.QUESTION, sweep.ROWS)
    row = sweep.distinct(rows)["single", 3]
    again = sweep.attempt(controls.QUESTION, "single", 3, runs.Settings(), "cpu")
    assert sweep.difference(row, again) == ""
    assert again["outcome"] == row["outcome"]
    assert again["score"] == pytest.approx(row["score"], abs=1e-3)
    now, then = again["decisions"][0], row["decisions"][0]
    assert now["common_left"] == pytest.approx(then["common_left"], abs=1e-3)


@pytest.mark.parametrize("key", ["recurrent", "dual-half", "dual-capped-0.75"])
def test_a_run_ends_in_what_a_recorded_row_has(key):
    rows = sweep.recorded(controls.QUESTION, sweep.ROWS)
    row = sweep.distinct(rows)[key, 0]
    end = runs.run(controls.VARIANTS[key], 0, QUICK, "cpu")
    assert end.keys() == row.keys() - sweep.KEYS - {"version", "torch"}


def test_a_run_finds_both_at_the_step_from_which_all_recorded_batches_are_exact(
    monkeypatch,
):
    exact = iter([0, 1, 0, 1, 1, 1])  # of the batches of steps 1 to 5, then of the test

    def measure(masks, parts, m=0.5):
        return {
            "decisions": [{"outcome": "x"}],
            "score": 1,
            "oracle_exact": next(exact),
        }

    monkeypatch.setattr(data, "measure", measure)
    s = runs.Settings(epochs=1, steps_per_epoch=5, held_out=4)
    row = runs.run(runs.SINGLE, 0, s, "cpu")
    assert row["found"]
    assert row["found_at"] == 4


# One truth an image


def test_a_coin_draws_one_truth_for_each_image_and_the_images_stay():
    v = replace(runs.SINGLE, coin=True)
    s = runs.Settings(batch=400, m=0.7)
    images, _, weights = runs.draw(v, s, generator(0), generator(1))
    expected, _, both = runs.draw(runs.SINGLE, s, generator(0), generator(1))
    assert torch.equal(images, expected)
    assert both.tolist() == [[pytest.approx(0.7), pytest.approx(0.3)]]
    assert (weights.sum(1) == 1).all()
    assert weights[:, 0].mean().item() == pytest.approx(0.7, abs=0.05)


def test_half_of_the_images_show_their_owner_by_the_others_dimmed_own_part():
    v = replace(runs.SINGLE, coin=True, shown=0.5)
    s = runs.Settings(batch=200)
    images, parts, weights = runs.draw(v, s, generator(0), generator(1))
    plain, *_ = runs.draw(replace(v, shown=0.0), s, generator(0), generator(1))
    dimmed = (plain - images)[:, 0]  # (n, H, W)
    left, right = parts[:, 0] / 2, parts[:, 2] / 2
    other = torch.where(weights[:, :1, None] > 0, right, left)
    shows = dimmed.abs().amax((1, 2)) > 0.1
    assert shows.float().mean().item() == pytest.approx(0.5, abs=0.1)
    assert torch.allclose(dimmed[shows], other[shows], atol=1e-6)


class OneTruth(torch.nn.Module):
    """Knows from a dimmed own part who owns the common region, and answers so with its
    first decision. Its second decision is always left."""

    def forward(self, images):
        _, parts = runs.held_out(QUICK, 3, "cpu")
        by_left, by_right = data.groupings(parts).unbind(1)  # each (n, 2, H, W)
        light = (images * parts[:, [0, 2]]).sum((2, 3))  # (n, 2)
        left_owns = (light[:, 0] > light[:, 1])[:, None, None, None]
        right_answer = torch.where(left_owns, by_left, by_right)
        return 20 * torch.stack((right_answer, by_left), 1) - 10


def test_where_the_owner_shows_each_decision_is_right_or_not():
    shown = runs.tested_where_shown(OneTruth(), QUICK, 3, "cpu", generator(0))
    assert shown == {"shown_any": 1.0, "shown_each": [1.0, 0.5]}


# What runs amount to


def made_up(seed, ends, found=False, **more):
    """Return a row that ended so: ends are texts such as "left", one a decision."""
    row = {"seed": seed, "found": found, "found_at": 80 + seed if found else None}
    decisions = [{"outcome": end} for end in ends]
    row |= {"outcome": " + ".join(sorted(ends)), "decisions": decisions}
    return row | {"parameters": 1234, "oracle_exact": 0.5, "score": 1.5} | more


def summary(*rows):
    by_seed = {("dual", row["seed"]): row for row in rows}
    (row,) = runs.summarise(by_seed, {"dual": runs.TWO_HEADS})
    return row


MIXED = (
    made_up(0, ["left", "right"], found=True),
    made_up(1, ["right", "left"], found=True),
    made_up(2, ["right", "left"]),  # but below 99% of the pairs
    made_up(3, ["unlearned", "both"]),
    {"seed": 4, "error": "no memory"},
)


def test_a_summary_counts_runs_and_one_that_died_did_not_find_both():
    row = summary(*MIXED)
    assert [row["found"], row["of"]] == [2, 5]
    assert row["median_step"] == 80.5
    assert row["outcomes"] == {"left + right": 3, "both + unlearned": 1, "died": 1}
    assert list(row["outcomes"])[-1] == "died"
    assert [row["found_seeds"], row["failed_seeds"]] == [[0, 1], [2, 3, 4]]


def test_where_the_owner_shows_runs_are_counted_by_what_their_decisions_do():
    ends = ["left", "right"]
    rows = {
        ("dual", 0): made_up(0, ends, True, shown_each=[1.0, 0.995]),
        ("dual", 1): made_up(1, ends, True, shown_each=[0.5, 0.5]),
        ("dual", 2): made_up(2, ends, True, shown_each=[1.0, 0.5]),
        ("dual", 3): {"seed": 3, "error": "no memory"},
    }
    v = replace(runs.TWO_HEADS, shown=0.5)
    (row,) = runs.summarise(rows, {"dual": v})
    assert [row["both_right"], row["own_side"]] == [1, 1]
    said = "where the owner shows both are right in 1 and each keeps its side in 1 |"
    assert said in runs.table([row])


def test_a_count_says_where_left_and_right_is_not_both_found():
    assert runs.count_of(summary(*MIXED)) == "2 of 5 *1"
    assert runs.count_of(summary(*MIXED[:2])) == "2 of 2"


@pytest.mark.parametrize(
    "rows, said",
    [
        (MIXED, "all but 0, 1"),
        (MIXED[:3], "2"),
        (MIXED[:2], "-"),
        (MIXED[2:], "all"),
    ],
)
def test_the_shorter_list_of_seeds_is_named(rows, said):
    assert runs.seeds_that_fail(summary(*rows)) == said


def test_a_table_has_what_runs_ended_in():
    table = runs.table([summary(*MIXED)])
    cells = "| two heads | 2 of 5 *1 | 12% to 77% | 80.5 | "
    cells += "left + right 3, both + unlearned 1, died 1 | all but 0, 1 | 1,234 |"
    assert table.splitlines()[2] == cells


@pytest.mark.parametrize(
    "left, right, said",
    [
        ({"left": 1.0}, {"right": 0.95, "split": 0.05}, "same"),
        ({"right": 1.0}, {"left": 1.0}, "opposite"),
        ({"left": 1.0}, {"right": 0.8, "left": 0.2}, "unclear"),
        ({"left": 1.0}, {"both": 1.0}, "unclear"),
    ],
)
def test_a_second_decision_is_told_its_own_truth_and_replies(left, right, said):
    shown = {"left": left, "right": right}
    assert runs.reply(made_up(0, ["left", "right"], True, shown=shown)) == said
    assert runs.reply(made_up(0, ["left", "right"], False, shown=shown)) is None
    assert runs.reply(made_up(0, ["left", "right"], True)) is None


class Copy(torch.nn.Module):
    """Its first decision is empty, its second one is what it is shown."""

    def forward(self, images, shown):
        return 20 * torch.stack((0 * shown, shown), 1) - 10


def test_the_last_decision_is_asked_what_it_says_to_each_truth():
    images, parts = runs.held_out(QUICK, 0, "cpu")
    said = runs.shown_a_truth(Copy(), images, parts)
    assert said == {"left": {"left": 1.0}, "right": {"right": 1.0}}


def test_bars_are_as_wide_as_the_shares_of_the_outcomes():
    row = summary(*MIXED)
    figure = runs.bars([row], {"Heading": {"dual": runs.TWO_HEADS}}, "Question?")
    ax, right = figure.axes
    frames = [bar for bar in ax.patches if not bar.get_fill()]
    assert [bar.get_width() for bar in frames] == pytest.approx([0.6, 0.2, 0.2])
    written = [text.get_text() for text in ax.texts]
    assert written == ["Heading", "left + right: 3", "1", "died: 1"]
    assert [text.get_text() for text in right.texts] == ["2 of 5 *1"]
    stripes = [bar.get_facecolor()[:3] for bar in ax.patches if bar.get_fill()]
    assert stripes[:2] == [data.RED, data.YELLOW]
    assert runs.bars([row], {"Heading": {"single": runs.SINGLE}}, "Question?") is None


# The questions


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


def test_nothing_in_the_figures_is_smaller_than_ten_pixels_at_900():
    found = sweep.distinct(sweep.recorded(controls.QUESTION, sweep.ROWS))
    for figure in controls.report(found)[0].values():
        pixels_a_point = 900 / figure.get_figwidth() / 72
        for text in figure.findobj(matplotlib.text.Text):
            if text.get_text():
                assert text.get_fontsize() * pixels_a_point >= 10
