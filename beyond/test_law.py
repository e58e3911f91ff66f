"""One number between the maximum and matching: the fits of beyond/logistic.py, the
planned tests, thresholds and the meter of beyond/law.py, on rows made up for it."""

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


def test_a_fit_to_two_cells_goes_through_both():
    x = np.array([[0.0], [3.0]])
    (intercept, slope), likelihood = logistic.fit(x, [5, 12], [20, 16])
    assert intercept == pytest.approx(math.log(5 / 15), abs=1e-4)
    assert intercept + 3 * slope == pytest.approx(math.log(12 / 4), abs=1e-4)
    expected = log_likelihood((5 / 20, 12 / 16), (5, 12), (20, 16))
    assert likelihood == pytest.approx(expected)


def test_a_fit_to_more_cells_is_where_the_slope_of_the_likelihood_is_0():
    random = np.random.default_rng(1)
    x = random.normal(size=(12, 2))
    trials = np.full(12, 20)
    successes = random.integers(0, 21, 12)
    coefficients, _ = logistic.fit(x, successes, trials)
    X = np.column_stack((np.ones(12), x))
    p = 1 / (1 + np.exp(-X @ coefficients))
    assert (successes - trials * p) @ X == pytest.approx([0, 0, 0], abs=1e-4)


def test_many_fits_at_once_are_those_made_alone():
    x = np.array([[-2.0], [-1.0], [0.0]])
    successes = np.array([[20, 10, 1], [20, 20, 0], [0, 0, 0]])
    trials = np.full((3, 3), 20)
    together, likelihoods = logistic.fit(x, successes, trials)
    for k in range(3):
        alone, likelihood = logistic.fit(x, successes[k], trials[k])
        assert together[k] == pytest.approx(alone)
        assert likelihoods[k] == pytest.approx(likelihood)


def test_the_ratio_test_of_two_cells_is_the_g_test():
    x = np.array([[0.0], [3.0]])
    successes, trials = (5, 12), (20, 16)
    _, p = logistic.ratio_test(x, successes, trials, 0)
    each = log_likelihood((5 / 20, 12 / 16), successes, trials)
    pooled = log_likelihood((17 / 36, 17 / 36), successes, trials)
    assert p == pytest.approx(math.erfc(math.sqrt(each - pooled)), rel=1e-4)


def test_separated_cells_have_a_finite_fit_and_their_true_likelihood_ratio():
    x = np.array([[-3.0], [-2.0], [-1.0], [0.0]])
    successes, trials = (20, 20, 0, 0), (20, 20, 20, 20)
    slope, p = logistic.ratio_test(x, successes, trials, 0)
    assert -100 < slope < -5
    pooled = log_likelihood([0.5] * 4, successes, trials)  # each cell for itself has 0
    assert p == pytest.approx(math.erfc(math.sqrt(-pooled)), rel=0.01)
    half = logistic.half_at(x[:, 0], np.array(successes), np.array(trials))
    assert -2 < half < -1


def test_one_half_is_nowhere_if_success_does_not_fall():
    x = np.array([-2.0, -1.0, 0.0])
    trials = np.array([20, 20, 20])
    assert logistic.half_at(x, np.array([20, 20, 20]), trials) == math.inf
    assert logistic.half_at(x, np.array([0, 0, 0]), trials) == -math.inf
    assert logistic.half_at(x, np.array([1, 2, 3]), trials) == -math.inf


def test_coefficients_of_a_constant_cannot_be_told_apart():
    assert logistic.determined(np.array([[0.0, 1.0], [1.0, 1.0], [0.0, 2.0]]))
    assert not logistic.determined(np.array([[0.0, 1.0], [1.0, 1.0], [2.0, 1.0]]))
    assert not logistic.determined(np.zeros((0, 2)))


# The plan


def test_all_runs_of_the_plan_are_variants_at_their_feed_ratio():
    assert len(law.VARIANTS) == 5 * 6 + 2 * 3 * 6 + 12 + 5
    for feed in law.FEEDS:
        variant = law.VARIANTS[law.key("twin-heads", feed, 400)]
        assert variant.other == {"beta": 400.0}
        assert lead.feed_ratio(400, variant.number) == pytest.approx(feed, rel=1e-5)
    assert law.VARIANTS["led--0.05-matched"].options == {"lead": -0.05}
    assert law.VARIANTS["told-step-rates"].other == {"epochs": 1}


def test_mcnemar_counts_the_pairs_that_differ():
    assert law.mcnemar([(True, False)] * 10) == 2 / 2**10
    assert law.mcnemar([(True, False)] * 5 + [(False, True)] * 5) == 1
    assert law.mcnemar([(True, False)] * 7 + [(True, True)] * 9) == 2 / 2**7
    assert law.mcnemar([(True, True)]) == 1


# Rows that are made up


EVEN = [(step, 0.0, 0.1, 0.1) for step in range(0, 401, 10)]


def made_up(ends, batches=EVEN):
    """The end of a run that ends in this, with batches that have no lead."""
    return {
        "found": sorted(ends) == ["left", "right"],
        "outcome": " + ".join(sorted(ends)),
        "ends": ends,
        "batches": [list(batch) for batch in batches],
    }


GOOD = ["left", "right"]
STARVED = ["both", "unlearned"]
SLOW = ["both", "both"]


def add(rows, key, seed, end, **more):
    rows[key, seed] = {"variant": key, "seed": seed, **end, **more}


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
    half, low, high = law.observed_threshold(rows_with_thresholds(), "dual")
    assert half == pytest.approx(1 / 8, rel=0.15)
    assert 1 / 16 < low < half < high < 1 / 4
    again = law.observed_threshold(rows_with_thresholds(), "dual")
    assert again == (half, low, high)  # the draws are seeded


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
    add(rows, "led-0.1-matched", 300, made_up(GOOD))
    planned = law.tests(rows)[5]
    assert planned[2] == "10 against 0 of 10"
    assert planned[3] == 2 / 2**10
    table = law.led_table(rows)
    assert "| maximum | +0.1 | 10/10 | 0/10 | 0/10 |" in table
    assert "| maximum | -0.1 | 9/10 | 0/10 | 1/10 |" in table
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


def test_the_report_can_be_made_of_whatever_rows_are_there():
    law.report({})
    rows = rows_with_thresholds()
    few = dict(list(rows.items())[:5])
    add(few, "dual-rates", 1000, {"error": "no memory"})
    saved, text = law.report(few)
    assert set(saved) == {"law.png"}
    assert "5 of 1490 planned runs are there" in text


# The meter


def test_the_meter_is_2_where_one_decision_is_ahead_for_every_image():
    row = made_up(STARVED, [(0, 0.3, 0.1, 0.15), (10, -0.1, 0.4, 0.2)])
    steps, values = law.meter(row)
    assert steps.tolist() == [0, 10]
    assert values == pytest.approx([2, 0.5])


def test_alarms_are_told_from_false_alarms():
    own = [
        made_up(STARVED, [(10, 0.3, 0, 0.15)]),
        made_up(STARVED, [(10, 0.1, 0, 0.15)]),
        made_up(GOOD, [(10, -0.3, 0, 0.15)]),
        made_up(SLOW, [(10, 0.1, 0, 0.15)]),
        made_up(GOOD, [(10, 0.1, 0, 0.15)]),
    ]
    assert law.alarms(own, 10, 1.5) == (1, 2, 1, 3)


# Rows that are trained


def test_a_run_of_one_epoch_is_the_beginning_of_a_recorded_longer_one():
    then = sweep.distinct(sweep.read(sweep.ROWS / "parting.jsonl"))["dual", 0]
    variant = law.VARIANTS["dual-rates"]
    now = law.run(variant, 0, runs.Settings(), "cpu")
    at_40 = [scores for scores in then["scores"] if scores[0] == 40]
    assert now["scores"][-1] == pytest.approx(at_40[0], abs=2e-3)
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
    _, values = law.meter(now)
    assert values[-1] == pytest.approx(2, rel=1e-4)
