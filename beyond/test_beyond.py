"""The claims of beyond/ and the tools that they rest on, but for rules and parting
(test_parting.py) and losses (test_losses.py). python -m pytest (from the top)"""

import copy
import importlib
import json
import math
import re
import subprocess
import sys
from dataclasses import replace
from fractions import Fraction
from itertools import product
from pathlib import Path

import matplotlib
import numpy as np
import pytest
import torch
from matplotlib.figure import Figure

import data
import exp_dual
import theory
from beyond import (
    angles,
    breaks,
    controls,
    equilibrium,
    exp_parting,
    left_right,
    networks,
    owners,
    shares,
    sweep,
)
from exp_recurrent import Settings
from recurrent_unet import RecurrentUNet
from unet import UNet, initialise

torch.set_num_threads(1)  # the images are small: a second thread gains little


def generator(seed):
    return torch.Generator().manual_seed(seed)


# Rows and what they amount to


@pytest.mark.parametrize("question", [controls, exp_parting])
def test_every_recorded_row_passes_its_fingerprint_and_others_do_not(question, monkeypatch):
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
    for change in ({"momentum": 0.9}, {"shown": 0.5}):  # of which an older row says nothing
        v = replace(question.VARIANTS[row["variant"]], **change)
        monkeypatch.setitem(question.VARIANTS, row["variant"], v)
        assert sweep.checked(question, [row], question.Settings(), "cpu")[0] == []


def test_rows_outlive_a_crash_and_what_is_no_row_is_dropped(tmp_path, capsys):
    path = tmp_path / "rows.jsonl"
    row = {"variant": "a", "seed": 0, "device": "cpu", "torch": "2", "settings": {"m": 0.5}}
    row["change"] = {"start": [0.1, 0.2]}
    sweep.append(row | {"error": "no memory"}, path)
    with path.open("a") as f:
        f.write('{"variant": "a", "seed"')  # torn
    sweep.append(row | {"outcome": "both"}, path)
    with path.open("a") as f:
        f.write('3\n[]\n{"variant": "a"}\n')
        for wrong in ({"settings": 3}, {"settings": {}}, {"seed": "x"}, {"variant": ["a"]}):
            f.write(json.dumps(row | {"outcome": ""} | wrong) + "\n")
    rows = sweep.read(path)
    assert [len(rows), capsys.readouterr().out.count("which is no run")] == [2, 8]
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
    tables = [math.comb(10, i) * math.comb(10, 12 - i) for i in range(2, 11)]
    p = Fraction(sum(t for t in tables if t <= tables[7]), math.comb(20, 12))
    assert sweep.fisher(9, 10, 3, 10) == pytest.approx(float(p))
    assert sweep.holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    rows = [{"variant": v, "title": v, "found": k, "of": 10} for v, k in (("a", 9), ("b", 3))]
    lines = sweep.compare(rows, [("a", "b")], [[("a", "b"), ("a", "c"), ("c", "b")]]).splitlines()
    corrected = [line.split(" | ")[-1] for line in lines[2:]]
    assert corrected == [f"{3 * float(p):.2g} |", "- |"]  # two of the three were not run
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


def test_a_recorded_run_trained_again_is_the_same():
    row = sweep.distinct(sweep.read(sweep.ROWS / "controls.jsonl"))["single", 3]
    again = sweep.attempt("controls", "single", 3, Settings(), "cpu")
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


# Where one decision lands

ONE, HALF, TINY = Fraction(1), Fraction(1, 2), Fraction(1, 10**30)
QUARTERS, PRIORS = [ONE * k / 4 for k in range(5)], (0 * ONE, ONE / 5, HALF, ONE * 5 / 7, ONE)
SIZES = [*product((ONE / 3, ONE, ONE * 9 / 2), repeat=2)]  # P, b


def iou(mask, truth):
    """The IoU of two sets of pixels, exactly."""
    return Fraction(len(mask & truth), len(mask | truth))


def counted(a, c, P1, P2, b):
    """What shares a and c score if the left and if the right grouping is true, from pixels."""
    left, common, right = {*range(P1)}, [*range(50, 50 + b)], {*range(99, 99 + P2)}
    masks = left | {*common[: int(a * b)]}, right | {*common[: int(c * b)]}
    truths = (left | {*common}, right), (left, right | {*common})
    return [sum(map(iou, masks, truth)) for truth in truths]


def quotient(f, x, *rest):
    """Central difference of f in x; of exact fractions it is off by about 1e-58."""
    return (f(x + TINY, *rest) - f(x - TINY, *rest)) / (2 * TINY)


def test_F_is_the_score_of_counted_pixels_all_corners_tie_at_one_half_and_none_beats_the_ceiling():
    for a, c, m, P, b in product(QUARTERS, QUARTERS, PRIORS, (1, 3), (4, 8)):
        score, ends = np.dot(counted(a, c, P, 5, b), (m, 1 - m)), (ONE * P, 5 * ONE, b, m)
        assert shares.F(a, c, *ends) == score <= theory.ceiling(*ends)
        assert c != 1 - a or score == theory.I_G(a, *ends)
        assert m != HALF or not {a, c} <= {0, 1} or score == theory.ceiling(*ends)


def test_an_instance_climbs_away_from_its_dividing_point_and_scores_more_at_its_likelier_end():
    for (P, b), p, a in product(SIZES, PRIORS, QUARTERS[1:-1]):
        up = quotient(shares.mean_iou, a, p, P, b)
        assert abs(up - shares.slope(a, p, P, b)) < 1e-50
        assert shares.climbs_to(p, P, b, a) == ("given" if up > 0 else "not given")
        gain = shares.mean_iou(1, p, P, b) - shares.mean_iou(0, p, P, b)
        assert gain == (2 * p - 1) * b / (P + b)
    for (P, b), p in product(SIZES, (0.5, 0.48, 0.52)):
        star = shares.dividing_point(P, b, p)
        assert not 0 < star < 1 or abs(shares.slope(star, p, P, b)) < 1e-12
        assert p != 0.5 or 0 < star < 0.5  # undecided is above it and climbs to "both"
    assert shares.dividing_point(1.0, 1e-9) == pytest.approx(0.5, abs=1e-9)  # no cancellation
    # How far m may leave 1/2 before undecided does not go to both, and before both does not last.
    for (P, b), (k, a) in product(SIZES, enumerate((HALF, ONE))):
        n = 1 - shares.prior_limits(P, b)[k]
        ends = [shares.climbs_to(p, P, b, a) for p in (n + TINY, n - TINY)]
        assert ends == ["given", "not given"]
    huge = np.array([3 * 10**9])  # whose squares are no 64-bit integers
    assert shares.prior_limits(huge, huge)[0] == pytest.approx([9 / 17])


SCORES = {"IoU": lambda u: u, "Dice": lambda u: 2 * u / (1 + u), "ln IoU": np.log}
SCORES["ln Dice"] = lambda u: np.log(2 * u / (1 + u))


def mean(a, p, r, score):
    """The mean of a score for an instance of P = 1 that gets a share a of b = r."""
    own, other = SCORES[score]((1 + a * r) / (1 + r)), SCORES[score](1 / (1 + a * r))
    return p * own + (1 - p) * other


def test_the_sizes_from_which_given_is_a_maximum_and_undecided_climbs_there():
    for score, p in product(("IoU", "Dice"), (ONE / 3, ONE / 4, ONE * 2 / 5)):
        for a, limit in zip((ONE, HALF), shares.limits(p, score)):
            ends = [Fraction(float(limit) * k) for k in (1 - 1e-9, 1 + 1e-9)]
            assert [quotient(mean, a, p, r, score) > 0 for r in ends] == [False, True]
    assert shares.limits(0.5) == (0, 0)


def test_at_even_odds_the_ends_tie_and_the_bend_of_a_score_decides_what_lies_between():
    for (score, bend), r in product(zip(SCORES, (1, 1, 0, -1)), (0.1, 1, 8)):
        scores = mean(np.linspace(0, 1, 101), 0.5, r, score)
        rise = scores - mean(shares.dividing_point(1, r), 0.5, r, score)
        assert rise[0] == pytest.approx(rise[-1]) and (bend * rise > -1e-12).all()
        assert (abs(rise[0]) < 1e-12) == (bend == 0)


def expected(shares_of_mask, p, P, b, area):
    """The expected soft IoU of a mask, by its definition, and its gradient in the shares."""
    own, a, rest = shares_of_mask
    others = rest * (area - P - b)
    value = p * (P * own + b * a) / (P + b + others) + (1 - p) * P * own / (P + b * a + others)
    return value, torch.autograd.grad(value, shares_of_mask, retain_graph=True)[0]


def test_a_mask_that_has_learned_nothing_is_pushed_to_both_and_ends_where_autograd_ends():
    for *at, p, r in product(*[(0.1, 0.5, 0.9)] * 3, (0.3, 0.5), (0.5, 2)):
        at = torch.tensor(at, dtype=torch.float64, requires_grad=True)
        slopes = shares.mask_slopes(*at.tolist(), p, 64, 64 * r, 1024)
        assert slopes == pytest.approx(expected(at, p, 64, 64 * r, 1024)[1].tolist())
        assert slopes[1] > 0 or p < 0.5 or at.unique().numel() > 1
    for p, r, start in ((0.4, 0.5, 0.5), (0.4, 2, 0.5), (0.3, 4, 0.5), (0.3, 4, 0.1)):
        logits = torch.full((3,), np.log(start / (1 - start)))
        for _ in range(600):
            at = logits.sigmoid().requires_grad_()
            up = expected(at, p, 64, 64 * r, 1024)[1] * (at * (1 - at)).detach()
            logits += 0.05 * up / up.abs().max()
        end = "given" if logits[1] > 0 else "not given"
        assert shares.untrained_end(p, 64, 64 * r, 1024, start) == end


def test_of_two_decisions_left_with_right_is_the_only_equilibrium_so_an_idle_one_gains():
    two = {("left", "right"), ("right", "left")}
    for P, b, m in product((1, 4), (2, 8), PRIORS[1:-1]):
        corners = (("left", 1, 0), ("right", 0, 1), ("both", 1, 1), ("neither", 0, 0))
        scores = {name: counted(*at, P, P, b) for name, *at in corners}
        scores["unlearned"], pays = (0, 0), {}
        for pair in product(scores, scores):
            pays[pair] = np.dot([*map(max, *(scores[name] for name in pair))], (m, 1 - m))
            assert shares.payoff(*pair, ONE * P, b, m) == pays[pair]
        best = {d: max(pays[d, other] for other in scores) for d in scores}
        nash = {(d, e) for d, e in pays if pays[d, e] == best[d] == best[e]}
        assert shares.equilibria(P, b, m) == nash == two
        assert pays["both", "left"] > pays["both", "unlearned"]  # not as 4.1.2 has it
    assert shares.equilibria(1e-9, 1e-300, 1e-17) == two  # exact, where floats would tie


def test_the_smooth_maximum_leaves_an_idle_decision_alone_and_keeps_two_boths_together():
    scores = torch.tensor([1.4, 1.5], dtype=torch.float64, requires_grad=True)
    (torch.logsumexp(20 * scores, 0) / 20).backward()
    assert shares.idle_weight(ONE / 10, 20) == pytest.approx(scores.grad[0].item())

    def pays(taken, too, beta):  # so much is taken back by one both, and by the other
        masks = (1 - taken, 1), (1, 1 - too)
        pairs = [[shares.F(*mask, 1, 1, 1, k) for k in (1, 0)] for mask in masks]
        return np.logaddexp(*beta * np.array(pairs)).mean() / beta

    for beta in (5, 20, 100):
        edge = shares.both_basin(1, 1, beta)
        before, at, after = (pays(edge + k, 0, beta) for k in (-1e-4, 0, 1e-4))
        assert before > at < after and edge < 1 - shares.dividing_point(1, 1)
    lowest = min(np.linspace(0, 0.05, 501), key=lambda taken: pays(taken, taken, 100))
    assert [lowest, shares.both_basin(1, 1, 100)] == pytest.approx([0.009, 0.016], abs=5e-4)


def test_no_mask_beats_a_whole_or_everything_against_two_wholes():
    P, b, scores = 8, 4, {}
    one, square, other = range(P), range(50, 50 + b), range(99, 99 + P)
    for i, j, k in product(range(P + 1), range(b + 1), range(P + 1)):
        mask = {*one[:i], *square[:j], *other[:k]}
        scores[i, j, k] = (iou(mask, {*one, *square}) + iou(mask, {*square, *other})) / 2
    best = [at for at in scores if scores[at] == max(scores.values())]
    assert best == [(0, b, P), (P, b, 0), (P, b, P)]
    assert scores[P, b, P] == shares.whole_ceiling(ONE * P, b)


def test_the_sliders_and_the_plane_show_where_an_instance_goes():
    matplotlib.use("agg")
    fig, sliders = shares.main(["--explore"])
    sliders[3].set_val(60)  # m in %
    lines = {line.get_label(): line.get_xydata().tolist() for line in fig.axes[0].lines}
    assert lines["its end"] == [[1, 0]] and "c* = 0.732: the lowest score" in lines
    said = {text.get_text().replace("\n", " ") for text in fig.axes[0].texts}
    assert said == {"left 1.600", "right 1.400", "both 1.500", "neither 1.500"}
    ax = Figure().subplots()
    shares.draw_plane(ax)
    rules = shares.climbs_to, lambda *at: shares.untrained_end(*at, 1024)
    for line, ends in zip(ax.lines, rules):
        for p, r in [at for at in line.get_xydata() if 0.1 < at[1] < 12][::6]:
            assert [ends(p, 64, 64 * r * k) for k in (0.99, 1.01)] == ["not given", "given"]


def test_the_script_prints_what_holds_and_saves_its_numbers(tmp_path, capsys):
    numbers, _ = shares.main(["--out", str(tmp_path)])
    said = capsys.readouterr().out.splitlines()
    assert [line[:16] for line in said if "wrong by" in line] == ["4.1.2 as printed"]
    assert sum(line.endswith(" holds") for line in said) == len(numbers["claims"]) - 1
    assert (tmp_path / "shares.json").exists() and (tmp_path / "shares.png").exists()


def test_what_is_out_of_range_is_named():
    for name, f, *at in (
        ("p", shares.mean_iou, 0.5, float("nan"), 1, 1),
        ("a", shares.slope, 1.1, 0.5, 1, 1),
        ("P", shares.climbs_to, 0.5, float("inf"), 1),
        ("b/P", shares.dividing_point, 1e200, 1e-300),
        ("area", shares.untrained_end, 0.5, 2, 1, 2.5),
        ("start", shares.untrained_end, 0.5, 1, 1, 9, 1.0),
        ("decision", shares.payoff, "left", "up", 1, 1, 0.5),
        ("gap", shares.idle_weight, float("nan"), 1),
    ):
        with pytest.raises(ValueError, match=f"^{name} must be"):
            f(*at)


# Any angle

FIGURES, KEYS = sweep.ROWS.parent / "figures", ("opposite", "same", "neither")


def knowing(first, second):  # a network of these decisions, the second of what it is shown
    return lambda images, shown=first: (torch.stack((first, second(shown)), 1) - 0.5) * 100


@pytest.mark.parametrize("cos, sin", [("3/5", "4/5"), ("-12/13", "5/13"), ("-8/17", "-15/17")])
def test_a_pixel_is_of_the_part_in_which_its_centre_lies_by_exact_geometry(cos, sin):
    cos, sin, x, y = map(Fraction, (cos, sin, "19.371", "17.683"))
    ends, heights = (-14, -6, -3, 3, 6, 14), (12, 4, 6, 4, 12)  # of lobe, bar, square, bar, lobe
    shape, expected = data.Shape(48, 6, 12, 8, 4, 3), torch.zeros(3, 48, 48)
    for row, column in torch.ones(48, 48).nonzero().tolist():
        dx, dy = column + Fraction(1, 2) - x, row + Fraction(1, 2) - y
        u, v = dx * cos + dy * sin, dy * cos - dx * sin
        for part, low, high, height in zip((0, 0, 1, 2, 2), ends, ends[1:], heights):
            expected[part, row, column] += low <= u < high and abs(v) < Fraction(height, 2)
    angle, centre = torch.tensor(math.atan2(sin, cos)), torch.tensor([float(x), float(y)])
    parts = angles.parts_at(angle.view(1, 1, 1), centre.view(2, 1, 1, 1), shape)
    assert torch.equal(parts[0], expected)


def test_pairs_lie_inside_and_one_decision_scores_two_thirds_at_most():
    _, parts = angles.sample(3000, torch.Generator().manual_seed(0), data.Shape(), 0.1)
    area, truths = parts.sum((-1, -2)), angles.wholes(parts)
    assert area.mean(0).tolist() == pytest.approx([64] * 3, abs=0.3) and area.sum(1).min() > 180
    assert torch.equal(truths[:, :, 0], parts.sum(1, True) - parts[:, [2, 0]])
    i, j, k = (torch.arange(65.0).view(65, *[1] * d) for d in (2, 1, 0))  # pixels of each part
    assert ((i + j) / (128 + k) + (k + j) / (128 + i)).max().item() == pytest.approx(4 / 3)
    half = torch.cat((truths[:1500], truths[1500:, :1].expand(-1, 2, -1, -1, -1)))
    everything = truths.amax(1, True)
    for masks, value in ((truths, (1, 1)), (half, (5 / 6, 0.5)), (everything, (2 / 3, 0))):
        assert tuple(angles.measure(masks, parts).values()) == pytest.approx(value, abs=0.005)
    with pytest.raises(ValueError, match="size must be at least the diagonal of the pair, got 24"):
        angles.sample(1, torch.Generator(), data.Shape(size=24), 0.1)


def test_answers_tell_looking_from_a_habit():
    s, stream = angles.Settings(held_out=32), torch.Generator().manual_seed(2 * data.SEEDS)
    one, other = angles.wholes(angles.sample(32, stream, s.shape, s.noise)[1]).unbind(1)
    few = (torch.arange(32) < 8).view(32, 1, 1, 1)
    for second, shown, own in (
        (lambda shown: one + other - shown, [1, 0, 0], [1, 0, 0]),
        (lambda shown: other, [0.5, 0.5, 0], [0, 1, 0]),  # a habit
        (lambda shown: few * (one + other - shown), [0.25, 0, 0.75], [1, 0, 0]),  # own: of the few
    ):
        answers = angles.answers(knowing(one, second), s, 0, "cpu")
        assert [[answers[of][k] for k in KEYS] for of in ("shown", "own")] == [shown, own]
    assert angles.answers(knowing(one, lambda shown: one), s, 0, "cpu")["own"] is None


def test_where_the_first_decision_changes_and_that_both_are_lost_there():
    s, angle = angles.Settings(), torch.tensor(angles.ANGLES).deg2rad().repeat_interleave(8)
    stream = torch.Generator().manual_seed(5 + 3 * data.SEEDS)
    truths = angles.wholes(angles.sample(288, stream, s.shape, s.noise, angle)[1])
    x = (truths * torch.arange(32)).sum((2, 3, 4)) / truths.sum((2, 3, 4))  # (n, 2), their middles
    apart = (x[:, 0] - x[:, 1]).abs().view(-1, 1, 1, 1) > 8.7 * math.sin(math.radians(17))
    right, left = (truths[range(288), k] for k in (x.argmax(1), x.argmin(1)))
    found = angles.by_angle(knowing(right, lambda shown: left * apart), s, 5, "cpu")
    row = {"seed": 5, "pairs": 0.9, "angle": found}
    first, pairs, at = angles.first_whole(row), angles.from_change(row), abs(angles.FROM_CHANGE)
    assert (first[[*range(17), *range(56, 72)]] == 1).all() and (first[20:53] == -1).all()
    assert (pairs[at < 10] == 0).all() and (pairs[at > 20] == 1).all()
    (summary,) = angles.summarise({("full", 5): row})
    assert [summary["near_change"], summary["found"]] == [0, 1] and summary["elsewhere"] > 0.9
    ax = angles.draw_angle({("full", 5): row}).axes[0]
    blue = [ax.images[0].cmap(ax.images[0].norm(whole))[2] for whole in first[[0, 36]]]
    dots = {*ax.lines[0].get_xdata()}
    assert blue[0] > 0.5 > blue[1] and {85, 90, 95} <= dots < {*range(70, 290)}


def test_all_recorded_rows_pass_and_give_the_recorded_summary(tmp_path, capsys):
    saved = angles.main(["--out", str(tmp_path)])
    fit, _, of, *_ = capsys.readouterr().out.split()
    assert fit == of and int(of) >= 303 and len([*tmp_path.iterdir()]) == 4
    new, old = (
        json.loads((folder / "rotated.json").read_text(), parse_float=lambda x: round(float(x), 9))
        for folder in (tmp_path, FIGURES)
    )
    bars = [round(bar.get_width(), 9) for bar in saved["rotated_look.png"].axes[0].patches]
    assert bars == [row["own"][k] for row in old["networks"] if row["own"] for k in KEYS]
    counts = [text.get_text() for text in saved["rotated.png"].axes[0].texts]
    assert new == old and counts == [f"{row['found']} of {row['of']}" for row in old["networks"]]
    rows = sweep.read(sweep.ROWS / "seeds_1000_1004" / "rotated.jsonl")
    assert sweep.checked(angles, rows, angles.Settings(), "cpu") == (rows, "") and len(rows) == 119


def test_a_training_is_the_same_again_and_begins_as_the_recorded_one(tmp_path):
    numbers, _ = angles.main(["--train", "--epochs", "1", "--seed", "3", "--out", str(tmp_path)])
    new, old = (json.loads((f / "exp_rotated.json").read_text()) for f in (tmp_path, FIGURES))
    v, s = angles.VARIANTS["full"], angles.Settings(epochs=1)
    (_, recorded, _), (_, again, _) = (angles.train(v, s, seed, "cpu") for seed in (0, 3))
    assert new == numbers | {"history": again, "ceiling": pytest.approx(2 / 3)}
    assert all(abs(a["loss"] - b["loss"]) < 1e-3 for a, b in zip(recorded, old["history"]))
    images, parts = angles.sample(4, generator(3 + data.SEEDS), s.shape, 0.1)
    masks = angles.decide(v.build(s, generator(3)), images)
    better = data.soft_maximum(data.score(masks, angles.wholes(parts)), s.beta)
    assert again[0]["loss"] == pytest.approx(-better.mean().item(), abs=1e-6)


# What breaks it, an equilibrium, owners

ALL = (breaks, 401, "| 7/10 |"), (equilibrium, 10, "| 3 | 0 | 7 | 0 |"), (owners, 1290, "| 0.065 |")
QUICK = {"epochs": 1, "steps_per_epoch": 2, "held_out": 8}


def recorded(question):
    return [row for f in question.FILES for row in sweep.read(sweep.ROWS / f"{f}.jsonl")]


@pytest.mark.parametrize("question, count, said", ALL)
def test_rows_pass_others_are_refused_and_summaries_stay(question, count, said):
    rows, s = recorded(question), question.Settings()
    fitting, wrong = sweep.checked(question, rows, s, "cpu")
    assert len(fitting) == len(rows) >= count and wrong == ""
    for key, values in (("settings", {"m": 0.3}), ("change", {"start": [0.1, 0.1]})):
        other = rows[0] | {key: rows[0][key] | values}
        assert sweep.checked(question, [other], s, "cpu")[0] == []
    saved, text = question.report(sweep.distinct(rows))
    for name in (name for name in saved if name.endswith(".json")):
        kept = json.loads((sweep.ROWS.parent / "figures" / name).read_text())
        assert json.loads(json.dumps(saved[name])) == kept
    assert said in text


def test_longer_rows_are_drawn_apart_and_those_of_monai_without_it(tmp_path, monkeypatch):
    rows, folder = sweep.read(sweep.ROWS / "longer/owners.jsonl"), str(sweep.ROWS / "longer")
    assert not sweep.checked(owners, rows, owners.Settings(), "cpu")[0]
    saved = owners.main(["--rows", folder, "--out", str(tmp_path)])
    assert [row["found"] for row in saved["owners.json"]["networks"]] == [6, 0, 5, 1]
    assert {path.name for path in tmp_path.iterdir()} == {"owners.json", "owners_networks.png"}
    monkeypatch.setitem(sys.modules, "monai.networks", None)
    rows = [row for row in recorded(breaks) if row["variant"] in breaks.MONAI]
    assert len(sweep.checked(breaks, rows, breaks.Settings(), "cpu")[0]) == len(rows) == 60
    with pytest.raises(OSError, match="pip install monai"):
        breaks.run(breaks.VARIANTS["UNet-heads"], 0, breaks.Settings(), "cpu")


@pytest.mark.parametrize("name, seed", [("K2-m0.7-r1", 1), ("heads-K2-T2", 0)])
def test_a_recorded_run_of_owners_trained_again_is_the_same(name, seed):
    row = sweep.distinct(recorded(owners))[name, seed]
    end = owners.run(owners.VARIANTS[name], seed, owners.Settings(), "cpu")
    assert (end["outcome"], end["score"]) == (row["outcome"], pytest.approx(row["score"], abs=1e-3))
    for now, then in zip(end["decisions"], row["decisions"], strict=True):
        assert now["shares"] == pytest.approx(then["shares"], abs=1e-3)


def test_runs_end_in_rows_as_the_recorded_ones():
    for question, name in ((breaks, "m-70"), (equilibrium, "heads"), (owners, "told-K3-T4")):
        row = next(row for row in recorded(question) if row["variant"] == name and row["seed"])
        end = question.run(question.VARIANTS[name], 0, question.Settings(**QUICK), "cpu")
        assert end.keys() == row.keys() - sweep.KEYS.keys() - {"version"}
    assert [len(decision["shares"]) for decision in end["decisions"]] == [3, 3, 3, 3]


@pytest.mark.parametrize("K, r", [*product((2, 3, 4), owners.SIZES)])
def test_arms_are_equal_have_their_pixels_and_touch_the_square_alone(K, r):
    images, parts = data.sample(2, generator(1), owners.Arms(K, r))
    left, square, *others = ({*map(tuple, part.nonzero().tolist())} for part in parts[0])
    arms, steps = [left, *others], ((0, 1), (0, -1), (1, 0), (-1, 0))
    assert len(arms) == K and {len(arm) for arm in arms} == {len(square) / r}
    around = [{(y + v, x + u) for y, x in arm for v, u in steps} for arm in arms]
    assert all(near & square for near in around) and parts.sum(1).max() == 1
    assert not any(around[i] & arms[j] for i, j in product(range(K), range(K)) if i != j)
    assert (K, r) != (2, 1) or all(map(torch.equal, (images, parts), data.sample(2, generator(1))))


@pytest.mark.parametrize("K", [2, 3, 4])
def test_decisions_are_called_by_what_they_give_to_whom(K):
    _, parts = data.sample(3, generator(3), owners.Arms(K, 0.5))
    own, square = parts[:, [0, *range(2, K + 1)]], parts[:, 1:2]  # (n, K or 1, H, W)
    decisions = [own + (torch.arange(K) < k)[:, None, None] * square for k in range(K + 1)]
    decisions += [own + 0.5 * square, own * (torch.arange(K) > 0)[:, None, None]]
    row = owners.measure(torch.stack(decisions, 1), parts, [1 / K] * K)
    names = ["nobody", "one", *["some"] * (K - 2), "all", "split", "unlearned"]
    assert row["outcome"] == " + ".join(names) and not row["found"]
    for k, decision in enumerate(row["decisions"][: K + 1]):
        assert decision["ends"] == ["given"] * k + ["not given"] * (K - k)
        assert decision["shares"] == [1] * k + [0] * (K - k)
    assert owners.measure(owners.groupings(parts), parts, [1 / K] * K)["oracle_exact"] == 1


@pytest.mark.parametrize("K", [2, 3, 4])
def test_the_score_is_that_of_counted_pixels_each_grouping_with_its_own_prior(K):
    _, parts = data.sample(2, generator(4), owners.Arms(K, 2.0))
    masks = torch.rand(2, 3, K, 32, 32, generator=generator(5)) > 0.8
    prior, score = [0.5, 0.3, 0.15, 0.05][:K], 0
    for grouping, n in product(range(K), range(2)):
        sums = [0] * 3
        for d, k in product(range(3), range(K)):
            truth = (parts[n, (0, 2, 3, 4)[k]] + parts[n, 1] * (k == grouping)).bool()
            sums[d] += ((truth & masks[n, d, k]).sum() / (truth | masks[n, d, k]).sum()).item()
        score += prior[grouping] * max(sums) / 2
    assert owners.measure(masks.float(), parts, prior)["score"] == pytest.approx(score, abs=1e-5)


def test_pies_show_outcomes_and_rings_what_was_predicted():
    died = {"variant": "K2-m0.5-r1", "seed": 99, "error": "no memory"}
    points = owners.summarise_starts(sweep.distinct([*recorded(owners), died]))
    patches = owners.plot_starts(points).axes[0].patches
    for q, ring, given in zip(points, patches[::5], patches[1::5], strict=True):
        assert (ring.get_facecolor()[2] > 0.5) == (q["predicted"] == "not given")  # it is blue
        turned = (given.theta2 - given.theta1) / 360 * sum(q["outcomes"].values())
        assert turned == pytest.approx(q["outcomes"]["given"])


@pytest.mark.parametrize("name", ["bare", "logits", "ones", "blocks", "bare logits ones blocks"])
def test_the_network_of_wang_et_al_is_ours_but_for_each_of_its_differences(name):
    (images, _), calls = data.sample(2, generator(17)), []
    net = breaks.released("", name.split()).build(breaks.Settings(), generator(17))
    for module in (net.unet.down[0], net.unit):  # called in turn by each pass
        module.register_forward_hook(lambda _, args, out: calls.append(args))
    logits = net(images)
    mask, state = {"logits": (0, 0), "bare": (0.5, 0), "blocks": (0.5, 0)}.get(name, (1, 1))
    assert (calls[0][0][:, 1:] == mask).all() and (calls[1][1] == state).all()
    seen = logits[:, 0] if "logits" in name else torch.sigmoid(logits[:, 0])
    assert torch.equal(calls[2][0][:, 1:], seen) and net.sees_mask == ("logits" not in name)
    assert str(net.unet.merge).count("GroupNorm") == (0 if "bare" in name else 4)
    x = calls[1][0]  # a gate of blocks keeps at most half of an old state, and adds a tanh
    assert (net.unit(x, torch.full_like(x, 5.0)) <= 3.5).all() == ("blocks" in name)


@pytest.mark.parametrize("name, idle", [*product(equilibrium.PUSHES, (0, 1))])
def test_a_push_moves_what_it_says_by_what_it_says(name, idle, monkeypatch):
    monkeypatch.setattr(equilibrium, "AFTER", 1)
    net, before = (initialise(UNet(1, 4), generator(19)) for _ in range(2))
    equilibrium.push(net, name, idle, generator(19), equilibrium.Settings(), 0)
    moves = {k: p.detach() - before.get_parameter(k) for k, p in net.named_parameters()}
    moved = {k for k, move in moves.items() if move.any()}
    which, _, size = name.partition(" ")
    if which == "all":
        spread = moves["down.0.3.weight"].std() / before.down[0][3].weight.std()
        assert len(moved) > 10 and spread.item() == pytest.approx(float(size), rel=0.1)
    else:
        assert moved <= {"head.weight", "head.bias"}
        own, other = moves["head.weight"].unflatten(0, (2, 2))[[idle, 1 - idle]]
        assert own.any() == (which != "none") and not other.any()
    if which == "left":
        images, parts = data.sample(4, generator(19))
        scores = data.score(exp_dual.decide(before, images), data.groupings(parts))[:, idle, 0]
        scores.mean().backward()
        assert torch.allclose(net.head.weight.grad, -before.head.weight.grad, atol=1e-6)


def test_both_heads_train_as_in_exp_dual_and_go_on_with_adams_moments(monkeypatch):
    def spy(net, optimiser, batch, steps):
        seen.append(copy.deepcopy(optimiser.state_dict()))
        train(net, optimiser, batch, steps)

    s, seen, train = equilibrium.Settings(**QUICK, m=0.7), [], sweep.train
    monkeypatch.setattr(sweep, "train", spy)
    monkeypatch.setattr(equilibrium, "AFTER", 1)
    v, stream = equilibrium.VARIANTS["heads"], generator(3 + data.SEEDS)
    pair = v.build(s, generator(3)).to(memory_format=torch.channels_last)
    adam = v.optimiser(pair, s)
    equilibrium.train(pair, adam, stream, s, 2)
    kept, net = str((adam.state_dict(), stream.get_state().sum())), exp_dual.train(s, 3, "cpu")[0]
    for name in equilibrium.PUSHES:
        equilibrium.pushed(pair, adam, stream, name, 1, s, 3, "cpu")
        assert str((seen[-1], stream.get_state().sum())) == kept
        assert all(map(torch.equal, net.parameters(), pair.parameters()))


def test_what_a_pushed_pair_comes_to():
    both, left = ["unlearned", "both"], ["left", "unlearned"]
    for pushed, end, exact, said in (
        (both, both, 0.5, "stays"),
        (left, both, 0.5, "returns"),
        (both, left, 0.98, "ends elsewhere"),
        (both, ["right", "left"], 0.99, "ends in the two groupings"),
    ):
        after = {"pushed": pushed, "end": end, "oracle_exact": exact}
        assert equilibrium.end_of("both + unlearned", after) == said
    assert "| left | 1.50 | **2.00** | 1.75 | 1.75 | 1.50 |" in equilibrium.payoffs()
    ended = {"outcome": "both + both", "after": {}}, {"error": "no memory"}
    _, said = equilibrium.report({("heads", seed): row for seed, row in enumerate(ended)})
    assert said == "Not both + unlearned, so not pushed: 1 runs"


# The README

README = Path(__file__).parents[1].joinpath("README.md").read_text(encoding="utf-8")
EXERCISES = re.findall(
    r"`python (\w+)\.py (--[^`]*)`: .*?</summary>(.*?)</details>", README, re.DOTALL
)


def test_the_whole_effect_is_seen_in_sixty_lines_pasted_into_an_empty_folder(tmp_path):
    block = re.search(r"```python\n(.*?)```", README, re.DOTALL)[1]
    assert len(block.splitlines()) <= 60
    block = block.replace("range(400)", "range(250)")  # long enough
    (tmp_path / "effect.py").write_text("import matplotlib\nmatplotlib.use('agg')\n" + block)
    command = [sys.executable, "-I", "effect.py"]  # -I: nothing of this folder is found
    said = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=True).stdout
    one, two, sequence = (float(line.rpartition(" ")[2]) for line in said.splitlines())
    assert 1.4 < one < 1.51 and 1.4 < two < 1.51 and sequence > 1.9
    assert (tmp_path / "effect.png").stat().st_size > 10**4


@pytest.mark.parametrize("script, options, answer", EXERCISES)
def test_an_exercise_ends_as_its_answer_says(script, options, answer, tmp_path):
    # Shorter than the README has it, where it does not say how long.
    arguments = ["--epochs", "6", *options.split(), "--device", "cpu", "--out", str(tmp_path)]
    numbers, _ = importlib.import_module(script).main(arguments)
    ends = {decision["outcome"] for decision in numbers["decisions"]}
    named = set(re.findall("left|right|both|unlearned", answer.lower()))
    assert f"{numbers['score']:.3f}" in answer
    assert ends <= named if named else ends == {"left", "right"}


def test_of_three_decisions_at_once_two_stay_unlearned_and_the_printed_theory_says_so(
    tmp_path, capsys
):
    arguments = ["--decisions", "3", "--epochs", "10", "--device", "cpu", "--out", str(tmp_path)]
    numbers, _ = importlib.import_module("exp_dual").main(arguments)
    assert "both, 2 unlearned" in capsys.readouterr().out
    ends = sorted(decision["outcome"] for decision in numbers["decisions"])
    assert ends == ["both", "unlearned", "unlearned"]


def test_the_readme_has_eight_exercises():
    assert len(EXERCISES) == 8
