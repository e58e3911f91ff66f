"""Lead and parting: the theory of beyond/lead.py, and what beyond/parting.py makes of rows.

The theory is held against autograd, brute force and one small step of gradient ascent.
"""

import numpy as np
import pytest
import torch
from torch.autograd.functional import jacobian

import data
from beyond import lead, networks, parting, rules, runs, sweep

torch.set_num_threads(1)


def generator(seed):
    return torch.Generator().manual_seed(seed)


# Theory


def test_the_claims_on_the_maximum_and_on_matching_hold():
    found = lead.claims()
    assert len(found) == 9
    assert max(found.values()) < 1e-9


def test_the_claims_on_the_rule_between_them_hold():
    found = lead.claims_between()
    assert len(found) == 6
    assert max(found.values()) < 1e-6


def test_a_claim_that_is_wrong_is_said_to_be_wrong(monkeypatch):
    monkeypatch.setattr(lead, "feed_ratio", lambda beta, tau: 1 / (1 + 2 * beta * tau))
    text = lead.in_words(lead.claims_between())
    wrong = [line for line in text.splitlines() if "wrong by up to" in line]
    assert len(wrong) == 1
    assert wrong[0].startswith("lead : parting feed")


@pytest.mark.parametrize("tau", [0.0, 0.02, 0.5])
def test_the_rule_between_answers_with_the_best_shares_of_all(tau):
    beta = 20.0
    scores = 0.2 * torch.rand(1, 2, 2, generator=generator(3)).double()
    weights = torch.tensor([[0.3, 0.7]]).double()
    # All shares of decision 1 on a grid: what they are worth, by the definition.
    grid = np.linspace(0.002, 0.998, 499)
    left, right = np.meshgrid(grid, grid, indexing="ij")
    P = np.stack((0.3 * left, 0.7 * right, 0.3 * (1 - left), 0.7 * (1 - right)))
    of_one = P[0] + P[1]
    kl = of_one * np.log(2 * of_one) + (1 - of_one) * np.log(2 * (1 - of_one))
    pays = np.tensordot(scores.flatten().numpy(), P, 1)
    value = pays - (P * np.log(P)).sum(0) / beta - tau * kl
    best_left, best_right = np.unravel_index(value.argmax(), value.shape)
    answered = rules.answered(scores, weights, beta, tau)[0, 0] / weights[0]
    assert answered[0].item() == pytest.approx(grid[best_left], abs=0.002)
    assert answered[1].item() == pytest.approx(grid[best_right], abs=0.002)


def test_with_fixed_shares_the_best_is_that_of_a_large_tau():
    scores = 0.2 * torch.rand(1, 2, 3, generator=generator(4)).double()
    weights = torch.tensor([[0.2, 0.3, 0.5]]).double()
    even = torch.tensor([0.5, 0.5]).double()

    def value(scores):
        return lead.fixed_sums_value(scores, even, weights[0], 20.0)

    fixed = jacobian(value, scores[0])
    assert fixed.sum(1) == pytest.approx([0.5, 0.5], abs=1e-6)
    answered = rules.answered(scores, weights, 20.0, 1e4)[0]
    assert fixed.numpy() == pytest.approx(answered.numpy(), abs=1e-4)


def test_tau_and_feed_ratio_are_each_other_s_inverse():
    for ratio in (1, 1 / 2, 1 / 32):
        assert lead.feed_ratio(100, lead.tau_of(ratio, 100)) == pytest.approx(ratio)
    for ratio in (0, 1.1):
        with pytest.raises(ValueError, match=f"ratio must be in .*got {ratio}"):
            lead.tau_of(ratio, 100)


def test_an_unknown_rule_has_no_pulls():
    with pytest.raises(ValueError, match="got 'hard'"):
        lead.pulls(0.1, 0.2, "hard", 100)


MAXIMUM = [key for key, v in parting.VARIANTS.items() if v.rule == "soft"]


@pytest.mark.parametrize("key", MAXIMUM)
@pytest.mark.parametrize("rule", ["soft", "matched_smooth"])
def test_a_small_step_of_ascent_moves_lead_and_parting_as_the_gram_matrix_says(
    key, rule
):
    beta = 1.0
    rate = 1e-6
    net = parting.VARIANTS[key].build(runs.Settings(width=8), generator(2)).double()
    images, parts = data.sample(1, generator(3))
    images = images.double()
    truths = data.groupings(parts).double()

    def scores_now():
        return data.score(networks.decide(net, images), truths)  # (1, 2, 2)

    def lead_and_parting():
        left, right = (scores_now()[0, 0] - scores_now()[0, 1]).tolist()
        return np.array([(left + right) / 2, (left - right) / 2])

    gram = lead.gram_matrix(net, images, truths).numpy()
    feeds = (1, 1) if rule == "soft" else (0, 1)
    drive, matrix = lead.growth(gram, feeds, beta)
    before = lead_and_parting()
    rules.worth(rule, None, scores_now(), lead.HALVES, beta).sum().backward()
    with torch.no_grad():
        for weight in net.parameters():
            if weight.grad is not None:
                weight += rate * weight.grad
    moved = (lead_and_parting() - before) / rate
    # The formula is linear in lead and parting, which are small here.
    assert moved == pytest.approx(drive + matrix @ before, rel=0.01, abs=1e-5)


# What a row says


def row_of(*path, found=True, outcome="left + right"):
    """A row whose second decision scores nothing: path has the scores of the first."""
    scores = [[10 * k, left, right, 0.0, 0.0] for k, (left, right) in enumerate(path)]
    return {"scores": scores, "found": found, "outcome": outcome, "gram": {}}


def test_differences_and_leads_are_those_of_decision_1_over_2():
    row = {"scores": [[40, 0.5, 0.1, 0.3, 0.6]]}
    steps, left, right = parting.differences(row)
    assert steps == [40]
    assert left == pytest.approx([0.2])
    assert right == pytest.approx([-0.5])
    assert parting.lead_at(row, 40) == pytest.approx(-0.15)


def test_a_run_leaves_the_middle_where_a_difference_first_exceeds_the_bound():
    parted = row_of((0, 0), (0.1, 0.1), (0.3, -0.1), (0.5, 0.5))
    assert parting.leaves(parted) == (20, True)
    led = row_of((0, 0), (0.1, -0.1), (0.1, 0.3), (0.5, -0.5))
    assert parting.leaves(led) == (20, False)
    stayed = row_of((0, 0), (0.1, -0.1))
    assert parting.leaves(stayed) == (None, False)


def test_opposite_signs_predict_that_both_groupings_are_found():
    parted = row_of((0, 0), (0.3, -0.1), found=True)
    led = row_of((0, 0), (0.3, 0.1), found=False)
    came_back = row_of((0, 0), (0.3, 0.1), found=True)
    assert parting.as_predicted([parted, led, came_back]) == 2


def test_drive_and_feed_add_up_to_what_the_maximum_moves():
    scores = torch.tensor([0.52, 0.49, 0.5, 0.51]).double()
    roots = torch.randn(4, 4, generator=generator(5)).double()
    gram = roots @ roots.T
    row = {"scores": [[10, *scores.tolist()]], "gram": {"10": gram.tolist()}}

    def maximum(four):
        return rules.soft(four.view(1, 2, 2), lead.HALVES, parting.BETA)[0]

    moved = (gram @ jacobian(maximum, scores)).numpy()
    drive, fed = parting.drive_and_feed(row, 10)
    assert drive[0] + fed[0] == pytest.approx(lead.LEAD @ moved)
    assert drive[1] + fed[1] == pytest.approx(lead.PARTING @ moved)
    level = {"scores": [[10, 0.5, 0.5, 0.5, 0.5]], "gram": {"10": gram.tolist()}}
    _, nothing = parting.drive_and_feed(level, 10)
    assert nothing == pytest.approx([0, 0])


def test_rates_near_0_are_of_matrices_measured_near_0():
    gram = np.diag([4.0, 4.0, 2.0, 2.0])  # common, lead and parting: 3 each
    row = {"scores": [[0, 0, 0, 0, 0], [5, 0.1, 0, 0, 0]], "gram": {}}
    row["gram"] = {"0": gram.tolist(), "5": (gram + np.eye(4)).tolist()}
    assert parting.rates(row)[0] == pytest.approx([3, 3, 3])
    assert parting.rates(row)[5] == pytest.approx([4, 4, 4])
    assert parting.ratios_near_0([row]) == pytest.approx([1, 1])
    row["scores"][0][1] = 0.1
    assert parting.ratios_near_0([row]) is None


def test_ends_have_names():
    found = {"found": True, "outcome": "left + right"}
    assert parting.end_of(found) == "both groupings"
    starved = {"found": False, "outcome": "both + unlearned"}
    assert parting.end_of(starved) == "one decision unlearned"
    slow = {"found": False, "outcome": "both + both"}
    assert parting.end_of(slow) == "both + both"
    other = {"found": False, "outcome": "both + left"}
    assert parting.end_of(other) == "something else"


# Rows


@pytest.fixture(scope="module")
def recorded():
    return sweep.distinct(sweep.recorded(parting.QUESTION, sweep.ROWS))


def test_the_recorded_runs_end_as_they_did(recorded):
    text = parting.summary(recorded)
    assert "Two heads, maximum: 0 of 20" in text
    assert "Two heads, matched: 18 of 20" in text
    assert "175 of 180 end as the signs" in text
    signs = parting.signs_table(recorded)
    assert "| two U-Nets | maximum | 200 to 259 | 59/60 | 91% to 100% | 38/60" in signs
    assert "| told the pass | maximum | from 1000 up | 10/10" in signs
    rates = parting.rates_table(recorded)
    assert (
        "| told the pass | maximum | 16/20 | 0.01 | 0.24 | 1 | 0.0073 | 0.0077" in rates
    )


def test_rows_at_hand_are_reported_whichever_they_are(recorded):
    few = {}
    for key, row in recorded.items():
        if key[0] == "told-step" and key[1] in (12, 13, 205):
            few[key] = row
    few["told-step", 14] = {"variant": "told-step", "seed": 14, "error": "no memory"}
    saved, text = parting.report(few)
    assert set(saved) == {"parting.png"}
    assert "1 of 1 end as the signs" in text
    assert len(parting.counted(few, "told-step")) == 2
    only_tested = {("told-step", 205): recorded["told-step", 205]}
    assert len(parting.counted(only_tested, "told-step")) == 1
    parting.report({})


def test_a_recorded_run_begins_today_as_it_began_then(recorded):
    then = recorded["dual-matched", 0]
    settings = runs.Settings(epochs=1)
    now = parting.run(parting.VARIANTS["dual-matched"], 0, settings, "cpu")
    at_40 = [scores for scores in then["scores"] if scores[0] == 40]
    assert now["scores"][-1] == pytest.approx(at_40[0], abs=2e-3)
    assert now["scores"][0] == pytest.approx(then["scores"][0], abs=1e-5)
    gram = np.array(now["gram"][0])
    assert gram == pytest.approx(np.array(then["gram"]["0"]), rel=1e-3, abs=1e-5)
