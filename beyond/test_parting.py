"""Rules by which decisions are held against groupings, and what they do to two decisions: the
claims of rules.py, lead.py and exp_parting.py."""

import importlib
import itertools
import re
from itertools import product
from pathlib import Path

import numpy as np
import pytest
import torch

import data
from beyond import controls, exp_parting, lead, networks, rules, sweep
from exp_recurrent import Settings


def generator(seed):
    return torch.Generator().manual_seed(seed)


# Rules


def some_scores(n, D, G=2):
    return 2 * torch.rand(n, D, G, generator=generator(1)).double()


def test_matching_is_the_best_of_all_pairings_counted_one_by_one():
    for D, G in ((2, 2), (3, 3), (4, 4), (3, 2)):
        scores = some_scores(20, D, G)
        weights = torch.arange(1.0, G + 1)[None] / sum(range(1, G + 1))
        pairings = [
            sum(weights[0, g] * scores[:, paired[g], g] for g in range(G))
            for paired in itertools.permutations(range(D), G)
        ]
        best = torch.stack(pairings).amax(0)
        assert torch.allclose(rules.value("matched", scores, weights), best)
        smooth = rules.value("matched-smooth", scores, weights, 1e4)
        assert torch.allclose(smooth, best, atol=1e-3)
    with pytest.raises(ValueError, match="at most 6, got 7"):
        rules.pairings(some_scores(1, 7), torch.ones(1, 2))


def test_sharing_out_a_batch_is_the_best_of_all_ways_to_share_it():
    scores = some_scores(6, 2)[..., 0]  # one truth an image
    for low, high in ((1 / 2, 1 / 2), (1 / 3, 1 / 3), (1 / 3, 2 / 3)):
        best = max(
            sum(scores[i, 0] if i in one else scores[i, 1] for i in range(6))
            for k in range(round(6 * low), round(6 * high) + 1)
            for one in itertools.combinations(range(6), k)
        )
        assert torch.isclose(rules.shared_out(scores, low, high).sum(), best)
    weights = torch.eye(2)[torch.tensor([0, 1, 1, 0, 1, 0])].double()
    own = (some_scores(6, 2) * weights[:, None]).sum(2)
    shared = rules.value("balanced", some_scores(6, 2), weights)
    assert torch.equal(shared, rules.shared_out(own, 1 / 2, 1 / 2))
    uneven = rules.value("shared 0.7", some_scores(6, 2), weights)
    assert (uneven == own[:, 0]).sum() == 4 and (uneven == own[:, 1]).sum() == 2


def test_other_rules_are_what_they_say():
    scores = torch.tensor([[[1.0, 0.4], [0.2, 0.5]], [[1.0, 0.9], [0.2, 0.3]]]).double()
    halves = torch.tensor([[0.25, 0.75]]).double()
    expected = {
        "hard": [0.25 + 0.375, 0.25 + 0.675],
        "order": [0.25 + 0.375, 0.25 + 0.225],
        "relaxed 0.2": [0.8 * 0.625 + 0.2 * 0.35, 0.8 * 0.925 + 0.2 * 0.275],
        "relaxed": [0.95 * 0.625 + 0.05 * 0.35, 0.95 * 0.925 + 0.05 * 0.275],
        "two-sided 0.2": [0.8 * 0.625 + 0.2 * 0.75, 0.8 * 0.925 + 0.2 * 0.65],
        "evolving 0.5": [0.25 * 0.6 + 0.75 * 0.45, 0.25 * 0.6 + 0.75 * 0.6],
        # The first image is shared by itself; of the second a quarter goes to decision 2.
        "capped 0.75": [0.625, 0.925 - 0.25 * 0.6],
    }
    for rule, values in expected.items():
        assert rules.value(rule, scores, halves, progress=0.4).tolist() == pytest.approx(values)
    late = rules.value("evolving 0.5", scores, halves, progress=0.6)
    assert torch.equal(late, rules.value("hard", scores, halves))
    for rule, progress in (("soft", 0), ("annealed", 1)):
        sharp = rules.value(rule, scores, halves, 1e4, progress)
        assert torch.allclose(sharp, rules.value("hard", scores, halves), atol=1e-3)
    even = rules.value("annealed", scores, halves, 100.0, 0)  # T = 1: weights e^s
    share = np.exp(scores.numpy()) / np.exp(scores.numpy()).sum(1, keepdims=True)
    assert torch.allclose(even, torch.from_numpy((share * scores.numpy()).sum(1)) @ halves[0])
    with pytest.raises(ValueError, match="got 'none'"):
        rules.value("none", scores, halves)
    for rule, shape in product(
        ("order", "relaxed", "capped 0.6", "two-sided 0.1"), ((3, 2), (2, 3))
    ):
        with pytest.raises(ValueError, match=f"2 groupings, got {shape[0]} and {shape[1]}"):
            rules.value(rule, some_scores(1, *shape), torch.ones(1, shape[1]))


def test_a_table_says_what_is_right_where_the_owner_shows_and_that_runs_died():
    row = sweep.distinct(sweep.read(sweep.ROWS / "controls.jsonl"))["dual-half", 0]
    died = {("dual-half", 1): {"error": "no memory", "seed": 1}}
    for runs, said in (
        (died, "died 1 |"),
        (died | {("dual-half", 0): row}, "died 1; shown, each right in 0% and 100% |"),
    ):
        assert said in controls.report(runs)[1]


# Lead and parting


def test_the_maximum_feeds_lead_and_parting_and_matching_feeds_no_lead(monkeypatch):
    claims = lead.claims()
    assert len(claims) == 7 and max(claims.values()) < 1e-9
    with pytest.raises(ValueError, match="got 'hard'"):
        lead.growth(np.eye(4), "hard", 100.0)
    monkeypatch.setattr(lead, "LEAD", lead.PARTING)
    assert sum(gap > 1e-3 for gap in lead.claims().values()) >= 4


@pytest.mark.parametrize("name", exp_parting.MAXIMUM)
@pytest.mark.parametrize("rule", ["soft", "matched-smooth"])
def test_one_small_gradient_step_moves_lead_and_parting_as_the_gram_matrix_says(name, rule):
    s, beta, rate = Settings(width=8), 1.0, 1e-6
    net = exp_parting.VARIANTS[name].build(s, generator(2)).double()
    images, parts = data.sample(1, generator(3))
    images, truths = images.double(), data.groupings(parts).double()

    def lead_and_parting():
        scores = data.score(networks.decide(net, images), truths)[0]  # (2, 2)
        left, right = (scores[0] - scores[1]).tolist()
        return np.array([left + right, left - right]) / 2, scores.flatten()

    before, scores = lead_and_parting()
    drive, matrix = lead.growth(exp_parting.gram_matrix(net, images, truths).numpy(), rule, beta)
    lead.worth(rule, scores, beta).backward()
    with torch.no_grad():
        for p in net.parameters():
            if p.grad is not None:
                p += rate * p.grad
    moved = (lead_and_parting()[0] - before) / rate
    # The formula is linear in lead and parting, which are small here.
    assert moved == pytest.approx(drive + matrix @ before, rel=0.01, abs=1e-5)


def test_runs_are_predicted_by_the_signs_where_they_leave_the_middle():
    def row(*path):
        return {"scores": [[k, a, b, 0.0, 0.0] for k, (a, b) in enumerate(path)]}

    assert exp_parting.predicted(row((0, 0), (0.1, 0.1), (0.3, -0.1), (0.5, 0.5)))
    assert not exp_parting.predicted(row((0, 0), (0.1, -0.1), (0.1, 0.3), (0.5, -0.5)))
    assert not exp_parting.predicted(row((0, 0), (0.1, -0.1)))
    steps, left, right = exp_parting.differences({"scores": [[7, 5, 4, 2, 3]]})
    assert [*steps, *left, *right] == [7, 3, 1]
    assert exp_parting.end_of({"found": False, "outcome": "both + unlearned"}) == (
        "one decision unlearned"
    )
    assert exp_parting.lead_at({"scores": [[40, 0.5, 0.1, 0.3, 0.6]]}, 40) == pytest.approx(0.15)


def rows_of(name):
    return sweep.distinct(sweep.read(sweep.ROWS / name / "parting.jsonl"))


@pytest.mark.parametrize("kept", ["dual-matched", "told-step"])
def test_rows_at_hand_are_reported_whichever_they_are(kept):
    runs = {key: row for key, row in rows_of(".").items() if key[0] == kept}
    late = {key: row | {"gram": {}} for key, row in runs.items() if key[1] > 4}
    died = {(kept, 3): {"variant": kept, "seed": 3, "error": "no memory"}}
    (row,) = exp_parting.report(late | died)[0]["exp_parting.json"]["variants"]
    assert row["of"] == row["seeds 0-19"]["of"] == len(late) and row["seeds 200-259"]["of"] == 0
    more = {(kept, 99): late[kept, 5] | {"seed": 99}}  # a seed of no group
    (row,) = exp_parting.report(late | more)[0]["exp_parting.json"]["variants"]
    assert row["of"] == len(late) + 1 and row["seeds 0-19"]["of"] == len(late)


def test_a_command_shows_why_the_bound_is_what_it_is(tmp_path, capsys):
    folder = str(sweep.ROWS / "seeds_1000_1009")
    exp_parting.main(["--rows", folder, "--out", str(tmp_path)])
    said = capsys.readouterr().out
    counts = re.findall(r"with the bound (\S+): (\d+) of 30 runs", said)
    assert counts == [("0.02", "22"), ("0.05", "27"), ("0.1", "29"), ("0.2", "30")]
    assert "| Two U-Nets | maximum | seeds from 1000 up | 10/10 |" in said
    for argv, status in ((["--film", "--help"], 0), (["--film", "--seeds", "3"], 2)):
        with pytest.raises(SystemExit) as e:
            exp_parting.main([*argv, "--out", str(tmp_path)])
        assert e.value.code == status


# The README's piece to take


def test_the_printed_loss_is_the_repository_s_and_says_what_is_wrong(tmp_path, monkeypatch):
    readme = Path(__file__).parents[1].joinpath("README.md").read_text(encoding="utf-8")
    blocks = re.findall(r"```python\n(.*?)```", readme, re.DOTALL)
    (block,) = (block for block in blocks if "def ambiguous_loss" in block)
    functions = re.findall(r"def .*?(?=\n\n|$)", block, re.DOTALL)
    assert len(functions) == 2 and max(len(f.splitlines()) for f in functions) <= 25
    (tmp_path / "piece.py").write_text(block)
    monkeypatch.syspath_prepend(tmp_path)
    piece = importlib.import_module("piece")
    score, loss = piece.score, piece.ambiguous_loss
    for D in (2, 3):
        masks = torch.rand(6, D, 2, 8, 8, generator=generator(1)).double()
        truths = (torch.rand(6, D, 2, 8, 8, generator=generator(2)) > 0.5).double()
        scores, prior = data.score(masks, truths), torch.arange(1.0, D + 1).double()
        assert score(masks, truths).dtype == torch.float64
        assert torch.allclose(score(masks, truths), scores, atol=1e-5)
        weights = (prior / prior.sum())[None]
        for match, rule in (("max", "soft"), ("one-to-one", "matched")):
            expected = -rules.value(rule, scores, weights, 20.0).mean()
            assert torch.isclose(loss(masks, truths, match, prior, 20.0), expected, atol=1e-5)
            swapped = loss(masks.flip(1), truths, match, prior, 20.0)  # no decision has a name
            assert torch.isclose(swapped, expected, atol=1e-5)
    first, few = truths[:, :1], masks[:, :2]
    alone = loss(masks, truths, prior=[1, 0, 0])
    assert torch.isclose(alone, loss(masks, first)) and alone != loss(masks, truths)
    balanced = -rules.value("balanced", data.score(few, first), torch.ones(6, 1).double()).mean()
    assert torch.isclose(loss(few, first, "balanced"), balanced, atol=1e-5)
    thirds = data.score(masks, first)[..., 0].detach()  # each of three decisions trains on two
    assert -loss(masks, first, "balanced") <= thirds.amax(1).mean() + 1e-5
    assert score(torch.zeros(1, 1, 1, 2, 2), torch.zeros(1, 1, 1, 2, 2)).item() == 1  # empty: right
    small = masks[:2, :, :, :2, :2].clone().requires_grad_()
    for match, some in (("max", truths), ("one-to-one", truths), ("balanced", first)):
        some = some[:2, :, :, :2, :2]
        assert torch.autograd.gradcheck(lambda x, m=match, t=some: loss(x, t, m), small)
    seven = masks[:, :1].repeat(1, 7, 1, 1, 1)
    for bad, said in (
        (lambda: loss(5 * masks, truths), "must be probabilities"),
        (lambda: loss(masks, truths / 2), "truths must be 0 and 1"),
        (lambda: loss(masks, truths[0]), "do not fit"),
        (lambda: loss(masks, truths, beta=0), "beta positive"),
        (lambda: loss(masks, truths, prior=[0, 0, 0]), "not 0 for all"),
        (lambda: loss(seven, seven.round(), "one-to-one"), "one-to-one .D = G <= 6.*7, 7"),
        (lambda: loss(masks, truths, "balanced"), "balanced .G = 1.*balanced, 3, 3"),
        (lambda: loss(masks, truths, "hungarian"), "max, one-to-one"),
    ):
        with pytest.raises(ValueError, match=said):
            bad()
