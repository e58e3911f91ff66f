"""Lead and parting: the theory of beyond/lead.py, and what beyond/parting.py makes of rows."""

import numpy as np
import pytest
import torch

import data
from beyond import lead, networks, parting, runs, sweep

torch.set_num_threads(1)


def generator(seed):
    return torch.Generator().manual_seed(seed)


# Theory


def test_the_claims_hold():
    assert len(lead.claims()) == 4
    assert max(lead.claims().values()) < 1e-9
    assert len(lead.claims_between()) == 3
    assert max(lead.claims_between().values()) < 1e-6


def test_a_claim_that_is_wrong_is_said_to_be_wrong(monkeypatch):
    monkeypatch.setattr(lead, "feed_ratio", lambda beta, tau: 1 / (1 + 2 * beta * tau))
    text = lead.in_words(lead.claims_between())
    wrong = [line for line in text.splitlines() if "wrong by up to" in line]
    assert len(wrong) == 1
    assert wrong[0].startswith("lead : parting feed")


@pytest.mark.parametrize("key", ["dual", "recurrent"])
def test_a_small_step_of_ascent_moves_the_scores_as_the_gram_matrix_says(key):
    net = parting.VARIANTS[key].build(runs.Settings(width=8), generator(2)).double()
    images, parts = data.sample(2, generator(3))
    images = images.double()
    truths = data.groupings(parts).double()
    towards = torch.tensor([0.3, -0.1, 0.5, 0.2]).double()  # how much a rule wants each

    def scores_now():
        masks = networks.decide(net, images)
        return data.score(masks, truths).mean(0).flatten()  # (4,)

    gram = lead.gram_matrix(net, images, truths)
    before = scores_now()
    (towards @ before).backward()
    rate = 1e-6
    with torch.no_grad():
        for weight in net.parameters():
            if weight.grad is not None:
                weight += rate * weight.grad
        moved = (scores_now() - before) / rate
    assert moved.numpy() == pytest.approx((gram @ towards).numpy(), rel=0.01)


# What a row says


def row_of(*path, found=True):
    """A row whose second decision scores nothing: path has the scores of the first."""
    scores = [[10 * k, left, right, 0.0, 0.0] for k, (left, right) in enumerate(path)]
    return {"scores": scores, "found": found}


def test_the_lead_is_how_far_decision_1_is_ahead_on_average():
    row = {"scores": [[40, 0.5, 0.1, 0.3, 0.6]]}
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


def test_ends_have_names():
    found = {"found": True, "outcome": "left + right"}
    assert runs.end_of(found) == "both groupings"
    starved = {"found": False, "outcome": "both + unlearned"}
    assert runs.end_of(starved) == "one decision unlearned"
    slow = {"found": False, "outcome": "both + both"}
    assert runs.end_of(slow) == "both + both"
    other = {"found": False, "outcome": "both + left"}
    assert runs.end_of(other) == "something else"


# Rows


@pytest.fixture(scope="module")
def recorded():
    return sweep.distinct(sweep.recorded(parting.QUESTION, sweep.ROWS))


def test_the_recorded_runs_end_as_they_did(recorded):
    text = parting.summary(recorded)
    assert "Two heads, maximum: 0 of 20" in text
    assert "Two heads, matched: 18 of 20" in text
    assert "175 of 180 runs end as the signs" in text
    signs = parting.signs_table(recorded)
    assert "| two U-Nets | maximum | 200 to 259 | 59/60 | 91% to 100% | 38/60" in signs
    assert "| told the pass | maximum | from 1000 up | 10/10" in signs
    rates = parting.rates_table(recorded)
    told = "| told the pass | maximum | 16/20 | 1 | 0.0073 | 0.0077 | 0.001 |"
    assert told in rates


def test_a_report_can_be_made_of_few_rows(recorded):
    few = {("told-step", 205): recorded["told-step", 205]}
    few["told-step", 14] = {"variant": "told-step", "seed": 14, "error": "no memory"}
    _, text = parting.report(few)
    assert "1 of 1 runs end as the signs" in text


def test_a_recorded_run_begins_today_as_it_began_then(recorded):
    then = recorded["dual-matched", 0]
    settings = runs.Settings(epochs=1)
    now = parting.run(parting.VARIANTS["dual-matched"], 0, settings, "cpu")
    at_40 = [scores for scores in then["scores"] if scores[0] == 40]
    assert now["scores"][-1] == pytest.approx(at_40[0], abs=2e-3)
    assert now["scores"][0] == pytest.approx(then["scores"][0], abs=1e-5)
    gram = np.array(now["gram"][0])
    assert gram == pytest.approx(np.array(then["gram"]["0"]), rel=1e-3, abs=1e-5)
