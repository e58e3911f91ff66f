"""The claims of beyond/ and the tools that they rest on. python -m pytest (from the top)"""

import itertools
import json
import math
from fractions import Fraction

import numpy as np
import pytest
import torch

import data
from beyond import controls, exp_parting, left_right, networks, rules, sweep
from exp_recurrent import Settings
from recurrent_unet import RecurrentUNet
from unet import initialise


def generator(seed):
    return torch.Generator().manual_seed(seed)


# Rows and what they amount to


@pytest.mark.parametrize("question", [controls, exp_parting])
def test_every_recorded_row_passes_its_fingerprint_and_other_settings_are_refused(question):
    for name in question.FILES:
        rows = sweep.read(sweep.ROWS / f"{name}.jsonl")
        fitting, wrong = sweep.checked(question, rows, question.Settings(), "cpu")
        assert len(rows) > 100 and len(fitting) == len(rows) and wrong == ""
    row = json.loads(json.dumps(rows[0]))
    for key, value in (("beta", 10.0), ("found", 0.9), ("m", 0.7)):
        other = row | {"settings": row["settings"] | {key: value}}
        fitting, wrong = sweep.checked(question, [other, row], question.Settings(), "cpu")
        assert fitting == [row] and f"{key} is {value} there" in wrong
    for change in ({"start": [row["change"]["start"][0] + 0.01, 0]}, {"rule": "hard"}):
        other = row | {"change": row["change"] | change}
        assert sweep.checked(question, [other], question.Settings(), "cpu")[0] == []


def test_rows_outlive_a_crash_and_what_is_no_row_is_dropped(tmp_path, capsys):
    path = tmp_path / "rows.jsonl"
    row = {"variant": "a", "seed": 0, "device": "cpu", "torch": "2", "settings": {}, "change": {}}
    sweep.append(row | {"error": "no memory"}, path)
    with path.open("a") as f:
        f.write('{"variant": "a", "seed"')  # torn
    sweep.append(row | {"outcome": "both"}, path)
    with path.open("a") as f:
        f.write('3\n[]\n{"variant": "a"}\n' + json.dumps(row | {"settings": 3, "outcome": ""}))
    rows = sweep.read(path)
    assert [len(rows), capsys.readouterr().out.count("which is no run")] == [2, 5]
    assert sweep.distinct(rows) == {("a", 0): row | {"outcome": "both"}}


def test_statistics_are_those_of_their_definitions():
    for k, n in ((0, 20), (7, 20), (20, 20), (99, 100)):
        for p in sweep.wilson(k, n):  # where the share seen is z standard deviations away
            assert abs(k / n - p) == pytest.approx(1.959964 * math.sqrt(p * (1 - p) / n), abs=1e-6)
    (a, n), (b, m) = (9, 10), (3, 10)
    low, high = sweep.difference_interval(a, n, b, m)  # Newcombe 1998, method 10
    (l1, u1), (l2, u2) = sweep.wilson(a, n), sweep.wilson(b, m)
    assert low == pytest.approx(0.6 - math.sqrt((0.9 - l1) ** 2 + (u2 - 0.3) ** 2))
    assert high == pytest.approx(0.6 + math.sqrt((u1 - 0.9) ** 2 + (0.3 - l2) ** 2))
    ways = [
        Fraction(math.comb(10, i) * math.comb(10, 12 - i), math.comb(20, 12)) for i in range(11)
    ]
    ways = [w for w in ways if w]
    assert sweep.fisher(9, 10, 3, 10) == pytest.approx(float(sum(w for w in ways if w <= ways[7])))
    assert sweep.holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    for wrong in ((3, 2), (-1, 2), (0, 0)):
        with pytest.raises(ValueError, match="k of n"):
            sweep.wilson(*wrong)


def test_a_sweep_trains_what_is_missing_and_draws_it(tmp_path, capsys):
    def run(*more):
        arguments = ["--variants", "single", "--seeds", "3", "--epochs", "1", "--workers", "1"]
        saved = sweep.main("controls", [*arguments, "--anew", "--out", str(tmp_path), *more])
        return saved["controls.json"]["variants"], capsys.readouterr().out

    summary, said = run()
    assert "1 of 1 runs are trained" in said and summary[0]["of"] == 1
    (row,) = sweep.read(tmp_path / "controls.jsonl")
    assert (row["variant"], row["seed"], row["settings"]["epochs"]) == ("single", 3, 1)
    assert "0 of 1 runs are trained" in run()[1]
    assert (tmp_path / "controls.png").read_bytes().startswith(b"\x89PNG")
    for wrong in (["--epochs", "2"], ["--variants", "none"], ["--seeds", "5-2"], ["--epochs", "0"]):
        with pytest.raises(SystemExit) as e:
            run(*wrong)
        assert e.value.code == 2 and capsys.readouterr().err.count("\n") == 1


@pytest.mark.parametrize("name", ["single"])
def test_a_recorded_run_trained_again_is_the_same(name):
    rows = sweep.read(sweep.ROWS / "controls.jsonl")
    (row,) = (row for row in rows if (row["variant"], row["seed"]) == (name, 3))
    again = sweep.attempt("controls", name, 3, Settings(), "cpu")
    assert again["outcome"] == row["outcome"]
    assert again["score"] == pytest.approx(row["score"], abs=1e-3)
    for one, other in zip(again["decisions"], row["decisions"]):
        assert one["common_left"] == pytest.approx(other["common_left"], abs=1e-3)


def made_up(found, decisions, **more):
    row = {"found": found, "found_at": 80 if found else None, "parameters": 1, "oracle_exact": 0.5}
    ends = " + ".join(sorted(d["outcome"] for d in decisions))
    return row | {"score": 1.5, "outcome": ends, "decisions": decisions, **more}


def test_summaries_count_runs_and_say_what_a_shown_truth_is_answered_with():
    left, right = {"outcome": "left"}, {"outcome": "right"}
    same = {"left": {"left": 1.0}, "right": {"right": 0.95, "split": 0.05}}
    opposite = {"left": {"right": 1.0}, "right": {"left": 1.0}}
    unclear = {"left": {"left": 1.0}, "right": {"right": 0.8, "left": 0.2}}
    rows = [made_up(True, [left, right], shown=shown) for shown in (same, opposite, unclear)]
    assert [left_right.reply(row) for row in rows] == ["same", "opposite", "unclear"]
    rows += [made_up(False, [right, right], shown=same), {"error": "no memory"}]
    runs = {("recurrent", seed): row | {"seed": seed} for seed, row in enumerate(rows)}
    (summary,) = left_right.summarise(runs, {"recurrent": left_right.PAPER["recurrent"]})
    assert (summary["found"], summary["of"], summary["failed_seeds"]) == (3, 5, [3, 4])
    assert summary["outcomes"] == {"left + right": 3, "right + right": 1, "died": 1}
    assert summary["replies"] == {"same": 1, "opposite": 1, "unclear": 1}


def test_a_run_is_found_at_the_step_from_which_all_recorded_batches_are_exact(monkeypatch):
    exact = iter([0, 1, 0, 1, 1, 1])  # of four training steps, then of the test
    measured = {"decisions": [{"outcome": "left"}], "score": 1.0}

    def measure(masks, parts, m=0.5):
        return measured | {"oracle_exact": next(exact)}

    monkeypatch.setattr(left_right.data, "measure", measure)
    s = Settings(epochs=1, steps_per_epoch=5, held_out=4)
    row = left_right.run(left_right.PAPER["single"], 0, s, "cpu")
    assert (row["found"], row["found_at"]) == (True, 4)


# Rules


def some_scores(n, D, G=2):
    return 2 * torch.rand(n, D, G, generator=generator(1)).double()


def test_matching_is_the_best_of_all_pairings_counted_one_by_one():
    for D, G in ((2, 2), (3, 3), (4, 4), (3, 2)):
        scores = some_scores(20, D, G)
        weights = torch.arange(1.0, G + 1)[None] / sum(range(1, G + 1))
        pairings = [
            sum(weights[0, g] * scores[:, way[g], g] for g in range(G))
            for way in itertools.permutations(range(D), G)
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


# Networks


def test_the_recurrent_network_with_all_switches_off_is_the_papers():
    images = torch.randn(2, 1, 32, 32, generator=generator(0))
    ours = initialise(RecurrentUNet(), generator(5))
    assert torch.equal(networks.Recurrent(generator=generator(5))(images), ours(images))


def inputs_of(module, net, images, k=0):
    """The k-th input of a module, each time that it runs."""
    seen = []
    module.register_forward_hook(lambda module, x, y: seen.append(x[k]))
    net(images)
    return seen


def second_input(options, shown=None):
    """What the second pass sees in place of a mask, and the first logits."""
    net, seen = networks.Recurrent(width=8, generator=generator(1), **options), []
    net.unet.down[0].register_forward_hook(lambda module, x, y: seen.append(x[0]))
    logits = net(torch.randn(2, 1, 16, 16, generator=generator(2)), shown)
    return seen[1][:, 1:], logits[:, 0], net


def test_what_a_pass_hands_on_is_as_its_switch_says():
    for option in ({}, {"mask": "detached"}):
        mask, first, net = second_input(option)
        assert torch.equal(mask, torch.sigmoid(first)) and net.sees_mask
        assert mask.requires_grad == (not option)
    for mask, value in (("half", 0.5), ("pass", 1.0)):
        seen, _, net = second_input({"mask": mask})
        assert (seen == value).all() and not net.sees_mask
    noise = second_input({"mask": "noise"})[0]
    assert 0.2 < noise.std() < 0.4 and not torch.equal(noise, second_input({})[0])
    assert second_input({"feed_mask": False})[0].shape[1] == 0
    shown = torch.rand(2, 2, 16, 16, generator=generator(3))
    assert torch.equal(second_input({}, shown)[0], shown)
    for state, states in (("own", 2), ("detached", 2), ("zero", 1)):
        net = networks.Recurrent(width=8, state=state, generator=generator(1))
        seen = inputs_of(net.unit, net, torch.randn(2, 1, 16, 16, generator=generator(2)), 1)
        assert (seen[0] == 0).all() and (seen[1] == 0).all() == (states == 1)
        assert seen[1].requires_grad == (state == "own")


def test_networks_are_told_or_see_or_start_as_their_names_say():
    images = torch.randn(2, 1, 32, 32, generator=generator(0))
    net = networks.ToldPass(steps=3, generator=generator(1))
    seen = inputs_of(net.unet.down[0], net, images)
    assert net(images).shape == (2, 3, 2, 32, 32)
    seen = seen[:3]
    assert [x[:, 1].unique().tolist() for x in seen] == [[0], [1], [2]]
    net = networks.TwoUNets(feed_mask=True, generator=generator(1))
    seen, first = inputs_of(net.second.down[0], net, images), net(images)[:, 0]
    assert torch.equal(seen[0], torch.cat((images, torch.sigmoid(first)), 1))
    for shared, alike in (("nothing", 0), ("encoder", 12), ("trunk", 32)):
        net = networks.Twins(shared=shared, generator=generator(1))
        pairs = list(zip(net.first.parameters(), net.second.parameters()))
        assert sum(p is q for p, q in pairs) >= alike
        far = [(p - q).std() / p.std() for p, q in pairs if p is not q and p.std() > 0]
        assert max(abs(x - 1e-3) for x in far if x > 0) < 1e-3
    net = networks.Started(0.2, generator=generator(1))
    assert torch.sigmoid(net(images)).mean().item() == pytest.approx(0.2, abs=0.05)
    assert networks.Recurrent(unit="sru").unit.reset is None
    v = networks.Variant("", "UNet", {"out_channels": 4}, other={"shape.square": 6, "m": 0.7})
    assert (v.settings(Settings()).shape.square, v.settings(Settings()).m) == (6, 0.7)


# Lead and parting


@pytest.mark.parametrize("rule", ["soft", "matched-smooth"])
def test_the_maximum_feeds_lead_and_parting_and_matching_feeds_no_lead(rule):
    beta, common = 100.0, torch.full((4,), 0.7).double()
    ways = [torch.tensor(way) for way in (exp_parting.LEAD, exp_parting.PARTING)]

    def worth(x):
        return exp_parting.worth(rule, common + x[0] * ways[0] + x[1] * ways[1], beta)

    bend = torch.autograd.functional.hessian(worth, torch.zeros(2).double())
    lead = beta / 4 if rule == "soft" else 0.0
    assert torch.allclose(bend, torch.tensor([[lead, 0], [0, beta / 4]]).double(), atol=1e-9)
    if rule == "matched-smooth":  # level everywhere, not only near 0
        values = [worth(torch.tensor([lead, 0.3])) for lead in (-1.0, 0.0, 0.5)]
        assert torch.allclose(torch.stack(values), values[0])
    # Rates one and two along the ways, not coupled: the plane's flow is the linear one near 0.
    gram = np.outer(exp_parting.LEAD, exp_parting.LEAD)
    gram = gram + 2 * np.outer(exp_parting.PARTING, exp_parting.PARTING)
    drive, matrix = exp_parting.growth(gram, rule, beta)
    left, right = 3e-5, -1e-5
    speeds = exp_parting.flow(np.array(left), np.array(right), rule, 1, 2, beta)
    dlead, dparting = matrix @ [(left + right) / 2, (left - right) / 2]
    assert drive == pytest.approx([0, 0])
    assert speeds == pytest.approx((dlead + dparting, dlead - dparting), rel=1e-4)


@pytest.mark.parametrize("name", exp_parting.MAXIMUM)
@pytest.mark.parametrize("rule", ["soft", "matched-smooth"])
def test_one_small_gradient_step_moves_lead_and_parting_as_the_gram_matrix_says(name, rule):
    s, beta, rate = Settings(width=8), 1.0, 1e-6
    net = exp_parting.VARIANTS[name].build(s, generator(2)).double()
    images, parts = data.sample(1, generator(3))
    images, truths = images.double(), data.groupings(parts).double()

    def ways():
        scores = data.score(networks.decide(net, images), truths)[0]  # (2, 2)
        left, right = (scores[0] - scores[1]).tolist()
        return np.array([left + right, left - right]) / 2, scores.flatten()

    before, scores = ways()
    drive, matrix = exp_parting.growth(
        exp_parting.gram_matrix(net, images, truths).numpy(), rule, beta
    )
    exp_parting.worth(rule, scores, beta).backward()
    with torch.no_grad():
        for p in net.parameters():
            if p.grad is not None:
                p += rate * p.grad
    moved = (ways()[0] - before) / rate
    # The formula is linear in lead and parting, which are small here.
    assert moved == pytest.approx(drive + matrix @ before, rel=0.01, abs=1e-5)


def test_runs_are_predicted_by_the_signs_where_they_leave_the_middle():
    def row(*ways):
        return {"scores": [[k, a, b, 0.0, 0.0] for k, (a, b) in enumerate(ways)]}

    assert exp_parting.predicted(row((0, 0), (0.1, 0.1), (0.3, -0.1), (0.5, 0.5)))
    assert not exp_parting.predicted(row((0, 0), (0.1, -0.1), (0.1, 0.3), (0.5, -0.5)))
    assert not exp_parting.predicted(row((0, 0), (0.1, -0.1)))
    steps, left, right = exp_parting.differences({"scores": [[7, 5, 4, 2, 3]]})
    assert [*steps, *left, *right] == [7, 3, 1]
    assert exp_parting.end_of({"found": False, "outcome": "both + unlearned"}) == (
        "one decision unlearned"
    )
