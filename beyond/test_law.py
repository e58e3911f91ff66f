"""One number between the maximum and matching: the fits of beyond/logistic.py and, on rows
made up for it, the planned tests, thresholds and the meter of beyond/law.py."""

import math

import numpy as np
import pytest
import torch

import data
from beyond import law, lead, logistic, networks, runs, sweep

torch.set_num_threads(1)

# Logistic regression


def log_likelihood(p, successes, trials):
    """Of counts with these probabilities; 0 log 0 is 0."""
    total = 0.0
    for q, k, n in zip(p, successes, trials):
        total += k * math.log(q) if k else 0.0
        total += (n - k) * math.log(1 - q) if n > k else 0.0
    return total


def test_each_of_many_fits_is_where_the_slope_of_its_likelihood_is_0():
    random = np.random.default_rng(1)
    x = random.normal(size=(12, 2))
    trials = np.full((3, 12), 20)
    successes = random.integers(0, 21, (3, 12))
    coefficients, _ = logistic.fit(x, successes, trials)
    X = np.column_stack((np.ones(12), x))
    p = 1 / (1 + np.exp(-coefficients @ X.T))
    assert (successes - trials * p) @ X == pytest.approx(np.zeros((3, 3)), abs=1e-4)


def test_the_ratio_test_of_two_cells_is_the_g_test():
    x = np.array([[0.0], [3.0]])
    successes, trials = (5, 12), (20, 16)
    _, p = logistic.ratio_test(x, successes, trials, 0)
    each = log_likelihood((5 / 20, 12 / 16), successes, trials)
    pooled = log_likelihood((17 / 36, 17 / 36), successes, trials)
    assert p == pytest.approx(math.erfc(math.sqrt(each - pooled)), rel=1e-4)


def test_separated_cells_have_a_finite_fit_and_their_true_likelihood():
    x = np.array([[-3.0], [-2.0], [-1.0], [0.0]])
    successes, trials = (20, 20, 0, 0), (20, 20, 20, 20)
    (_, slope), likelihood = logistic.fit(x, successes, trials)
    assert -100 < slope < -5
    assert (
        -0.001 < likelihood <= 0
    )  # without a ridge it comes as near to 0 as one likes
    half = logistic.half_at(x[:, 0], np.array(successes), np.array(trials))
    assert -2 < half < -1


def test_one_half_is_nowhere_if_success_does_not_fall():
    x = np.array([-2.0, -1.0, 0.0])
    trials = np.array([20, 20, 20])
    assert logistic.half_at(x, np.array([20, 20, 20]), trials) == math.inf
    assert logistic.half_at(x, np.array([0, 0, 0]), trials) == -math.inf
    assert logistic.half_at(x, np.array([1, 2, 3]), trials) == -math.inf


# The plan


def test_all_runs_of_the_plan_are_variants_at_their_feed_ratio():
    assert len(law.VARIANTS) == 5 * 6 + 2 * 3 * 6 + 12 + 5
    for feed in law.FEEDS:
        variant = law.VARIANTS[law.key("twin-heads", feed, 400)]
        assert variant.other == {"beta": 400.0}
        assert lead.feed_ratio(400, variant.number) == pytest.approx(feed, rel=1e-5)
    assert law.VARIANTS["led--0.05-matched"].options == {"lead": -0.05}
    assert law.VARIANTS["told-step-rates"].other == {"epochs": 1}


def test_mcnemar_is_a_fair_coin_for_the_pairs_that_differ():
    assert law.mcnemar(10, 0) == 2 / 2**10
    assert law.mcnemar(1, 4) == 2 * (1 + 5) / 2**5
    assert law.mcnemar(5, 5) == 1


# Rows that are made up


EVEN = [(step, 0.0, 0.1, 0.1) for step in range(0, 401, 10)]


def made_up(ends, batches=EVEN):
    """The end of a run that ends in this, with batches that have no lead."""
    return {
        "found": sorted(ends) == ["left", "right"],
        "outcome": " + ".join(sorted(ends)),
        "ends": ends,
        "batches": batches,
    }


GOOD = ["left", "right"]
STARVED = ["both", "unlearned"]
SLOW = ["both", "both"]


def add(rows, key, seed, end):
    rows[key, seed] = {"variant": key, "seed": seed, **end}


def rows_with_thresholds():
    """Two heads that succeed from a feed ratio of 1/8 on, or 1/16 on every other seed,
    whatever the sharpness; twin heads that succeed from a sharpness of 400 on."""
    rows = {}
    for seed in range(300, 320):
        for feed in law.FEEDS:
            for beta in law.SHARPNESS:
                allowed = 1 / 8 if seed % 2 else 1 / 16
                end = GOOD if feed <= allowed else STARVED
                add(rows, law.key("dual", feed, beta), seed, made_up(end))
                end = GOOD if beta >= 400 else SLOW
                add(rows, law.key("twin-heads", feed, beta), seed, made_up(end))
    return rows


def test_the_observed_threshold_lies_where_half_of_the_runs_succeed():
    rows = rows_with_thresholds()
    for feed in law.FEEDS:
        for seed in law.TRAINED_ON:  # another sharpness does not count
            add(rows, law.key("dual", feed, 400), seed, made_up(GOOD))
    half, low, high = law.observed_threshold(rows, "dual")
    assert half == pytest.approx(1 / 8, rel=0.15)
    assert 1 / 16 < low < half < high < 1 / 4


def test_the_planned_tests_tell_balance_from_sharpness():
    found = law.tests(rows_with_thresholds())
    assert len(found) == 6
    p = [test[3] for test in found]
    assert p[0] < 1e-6  # two heads, by the feed ratio
    assert p[1] is None  # two U-Nets were not run
    assert p[2] < 1e-6  # twin heads, by the sharpness
    assert p[3] > 0.99  # and not by the feed ratio
    assert p[4] > 0.99  # two heads, not by the sharpness
    assert p[5] is None
    assert found[0][2].startswith("-")
    assert found[2][2].startswith("+")


def test_a_lead_by_hand_is_followed_where_the_one_put_ahead_alone_is_learned():
    rows = {}
    for seed in range(300, 310):
        add(rows, "led-0.1-soft", seed, made_up(["both", "unlearned"]))
        add(rows, "led--0.1-soft", seed, made_up(["unlearned", "both"]))
    add(rows, "led--0.1-soft", 300, made_up(GOOD))
    add(rows, "led--0.1-soft", 301, made_up(["both", "unlearned"]))
    add(rows, "led-0.1-matched", 300, made_up(GOOD))
    planned = law.tests(rows)[5]
    assert planned[2] == "10 against 1 of 10"
    assert planned[3] == 2 / 2**9
    table = law.led_table(rows)
    assert "| maximum | +0.1 | 10/10 | 0/10 | 0/10 |" in table
    assert "| maximum | -0.1 | 8/10 | 1/10 | 1/10 |" in table
    assert "| matched | +0.1 | 0/1 | 0/1 | 1/1 |" in table


def test_failures_are_counted_by_their_kind():
    rows = {}
    for seed, end in enumerate((GOOD, STARVED, STARVED, SLOW, ["both", "left"]), 300):
        add(rows, law.key("dual", 1), seed, made_up(end))
    assert "| two heads | 100 | 1/5 (2, 2) |" in law.counts_table(rows)


def test_the_prediction_is_the_median_of_parting_by_lead_on_other_seeds():
    rows = {}
    ratios = (0.1, 0.2, 0.4)
    for seed, ratio in enumerate(ratios, 1000):
        gram = np.outer(lead.LEAD, lead.LEAD) + ratio * np.outer(
            lead.PARTING, lead.PARTING
        )
        end = made_up(SLOW) | {"gram": {"40": gram.tolist()}}
        add(rows, "dual-rates", seed, end)
        add(rows, "dual-rates", seed - 700, end | {"gram": {"40": np.eye(4).tolist()}})
    assert law.rate_ratios(rows, "dual") == pytest.approx(ratios)
    assert "| two heads | 1/5 |" in law.thresholds_table(rows)


def test_a_report_of_some_rows_says_that_others_are_missing():
    rows = dict(list(rows_with_thresholds().items())[:5])
    add(rows, "dual-rates", 1000, {"error": "no memory"})
    _, text = law.report(rows)
    assert "5 of the 1490 planned runs were made" in text


def test_alarms_are_told_from_false_alarms():
    rows = {}
    ahead = [(step, -0.3, 0.0, 0.15) for step in range(0, 401, 10)]
    key = law.key("dual", 1)
    add(rows, key, 300, made_up(STARVED, ahead))
    add(rows, key, 301, made_up(STARVED, EVEN))
    add(rows, key, 302, made_up(GOOD, ahead))
    add(rows, key, 303, made_up(SLOW, EVEN))
    add(rows, key, 304, made_up(GOOD, EVEN))
    assert "| 40 | 1 | 0/2 | 0/3 |" in law.meter_table(rows)
    for seed in range(305, 320):  # so that one of the others is below a tenth of them
        add(rows, key, seed, made_up(GOOD, EVEN))
    assert "| 40 | 0 | 1/2 | 1/18 |" in law.meter_table(rows)


# Rows that are trained


def test_a_run_of_one_epoch_is_the_beginning_of_a_recorded_longer_one():
    then = sweep.distinct(sweep.read(sweep.ROWS / "parting.jsonl"))["dual", 0]
    variant = law.VARIANTS["dual-rates"]
    now = law.run(variant, 0, runs.Settings(), "cpu")
    gram = np.array(now["gram"][40])
    assert gram == pytest.approx(np.array(then["gram"]["40"]), rel=0.02, abs=1e-3)

    # The first batch, by hand.
    settings = variant.settings(runs.Settings())
    net, generator = variant.begin(settings, 0, "cpu")
    images, parts = data.sample(4, generator)
    with torch.no_grad():
        scores = data.score(networks.decide(net, images), data.groupings(parts))
    (a, b), (c, d) = scores.mean(0).tolist()
    spread = (scores[:, 0] - scores[:, 1]).abs().mean().item() / 2
    expected = [0, (a + b - c - d) / 2, (a - b - c + d) / 2, spread]
    assert now["batches"][0] == pytest.approx(expected, rel=1e-3, abs=1e-5)
    # After 40 training steps one head is ahead for every image and grouping.
    assert len(now["batches"]) == 5
    assert law.readings(now)[1] == [40, pytest.approx(1, rel=1e-4)]
