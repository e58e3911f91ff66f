"""The questions of breaks.py, equilibrium.py and owners.py."""

import copy
import json
from itertools import product

import pytest
import torch

import data
import exp_dual
from beyond import breaks, equilibrium, owners, sweep
from unet import UNet, initialise

ALL = (breaks, 401, "| 7/10 |"), (equilibrium, 10, "| 3 | 0 | 7 | 0 |"), (owners, 1290, "| 0.065 |")
QUICK = {"epochs": 1, "steps_per_epoch": 2, "held_out": 8}


def generator(seed):
    return torch.Generator().manual_seed(seed)


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
    monkeypatch.setattr(breaks, "DEFAULT", list(breaks.SETTINGS))
    rows = [row for row in recorded(breaks) if row["variant"] in breaks.MONAI]
    assert len(sweep.checked(breaks, rows, breaks.Settings(), "cpu")[0]) == len(rows) == 60
    with pytest.raises(OSError, match="pip install monai"):
        breaks.run("UNet-heads", 0, breaks.Settings(), "cpu")


@pytest.mark.parametrize("name, seed", [("K2-m0.7-r1", 1), ("heads-K2-T2", 0)])
def test_a_recorded_run_trained_again_is_the_same(name, seed):
    (row,) = (row for row in recorded(owners) if (row["variant"], row["seed"]) == (name, seed))
    end = owners.run(name, seed, owners.Settings(), "cpu")
    assert (end["outcome"], end["score"]) == (row["outcome"], pytest.approx(row["score"], abs=1e-3))
    for now, then in zip(end["decisions"], row["decisions"], strict=True):
        assert now["shares"] == pytest.approx(then["shares"], abs=1e-3)


def test_runs_end_in_rows_as_the_recorded_ones():
    for question, name in ((breaks, "m-70"), (equilibrium, "heads"), (owners, "told-K3-T4")):
        row = next(row for row in recorded(question) if row["variant"] == name and row["seed"])
        end = question.run(name, 0, question.Settings(**QUICK), "cpu")
        assert end.keys() == row.keys() - sweep.KEYS - {"version"}
    assert [len(decision["shares"]) for decision in end["decisions"]] == [3, 3, 3, 3]


@pytest.mark.parametrize("K, r", [*product((2, 3, 4), owners.SIZES)])
def test_arms_are_equal_have_their_pixels_and_touch_the_square_alone(K, r):
    images, parts = data.sample(2, generator(1), owners.Arms(K, r))
    left, square, *others = ({*map(tuple, part.nonzero().tolist())} for part in parts[0])
    arms, ways = [left, *others], ((0, 1), (0, -1), (1, 0), (-1, 0))
    assert len(arms) == K and {len(arm) for arm in arms} == {len(square) / r}
    around = [{(y + v, x + u) for y, x in arm for v, u in ways} for arm in arms]
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
