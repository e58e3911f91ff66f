"""The questions of breaks.py, equilibrium.py and owners.py."""

import copy
import json
from fractions import Fraction
from itertools import product

import pytest
import torch
from matplotlib.figure import Figure

import data
import exp_dual
from beyond import breaks, equilibrium, networks, owners, sweep
from recurrent_unet import RecurrentUNet
from unet import UNet, initialise

QUICK = {"epochs": 1, "steps_per_epoch": 2, "held_out": 8}


def generator(seed):
    return torch.Generator().manual_seed(seed)


def recorded(question, folder="."):
    paths = [sweep.ROWS / folder / f"{name}.jsonl" for name in question.FILES]
    return [row for path in paths for row in sweep.read(path)]


def plain(numbers):
    return json.loads(json.dumps(numbers), parse_float=lambda text: round(float(text), 9))


@pytest.mark.parametrize("question, count", [(breaks, 401), (equilibrium, 10), (owners, 1290)])
def test_rows_pass_others_are_refused_and_summaries_are_the_recorded_ones(question, count):
    rows, s = recorded(question), question.Settings()
    fitting, wrong = sweep.checked(question, rows, s, "cpu")
    assert len(fitting) == len(rows) >= count and wrong == ""
    for key, values in (("settings", {"m": 0.3}), ("change", {"start": [0.1, 0.1]})):
        other = rows[0] | {key: rows[0][key] | values}
        assert sweep.checked(question, [other], s, "cpu")[0] == []
    saved, text = question.report(sweep.distinct(rows))
    for name in (name for name in saved if name.endswith(".json")):
        kept = json.loads((sweep.ROWS.parent / "figures" / name).read_text())
        assert plain(saved[name]) == plain(kept)
    assert len(saved) > 1 and "| --- |" in text


def test_without_monai_its_rows_are_drawn_and_no_new_ones_are_made(monkeypatch):
    monkeypatch.setattr(breaks, "DEFAULT", list(breaks.SETTINGS))
    rows = [row for row in recorded(breaks) if row["variant"] in breaks.MONAI]
    assert len(sweep.checked(breaks, rows, breaks.Settings(), "cpu")[0]) == len(rows) == 60
    with pytest.raises(OSError, match="pip install monai"):
        breaks.run("UNet-heads", 0, breaks.Settings(), "cpu")


def test_longer_runs_differ_in_their_length_alone_and_are_drawn(tmp_path):
    assert not sweep.checked(owners, recorded(owners, "longer"), owners.Settings(), "cpu")[0]
    saved = owners.main(["--rows", str(sweep.ROWS / "longer"), "--out", str(tmp_path)])
    counts = [row["found"] for row in saved["owners.json"]["networks"] if row["of"] == 10]
    assert counts == [6, 0, 5, 1]
    assert {path.name for path in tmp_path.iterdir()} == {"owners.json", "owners_networks.png"}


@pytest.mark.parametrize("name, seed", [("K2-m0.7-r1", 1), ("heads-K2-T2", 0)])
def test_a_recorded_run_trained_again_is_the_same(name, seed):
    (row,) = (row for row in recorded(owners) if (row["variant"], row["seed"]) == (name, seed))
    end = owners.run(name, seed, owners.Settings(), "cpu")
    assert (end["outcome"], end["found"]) == (row["outcome"], row["found"])
    assert end["score"] == pytest.approx(row["score"], abs=1e-3)
    for now, then in zip(end["decisions"], row["decisions"], strict=True):
        assert now["ends"] == then["ends"] and now.keys() == then.keys()
        assert now["shares"] == pytest.approx(then["shares"], abs=1e-3)


def test_every_question_trains_through_its_run():
    for question, name in ((breaks, "m-70"), (owners, "recurrent-K3-T4"), (equilibrium, "heads")):
        row = next(row for row in recorded(question) if row["variant"] == name and row["seed"])
        end = question.run(name, 0, question.Settings(**QUICK), "cpu")
        assert end.keys() == row.keys() - sweep.KEYS - {"version"}


@pytest.mark.parametrize("K, r", [*product((2, 3, 4), owners.SIZES)])
def test_arms_are_equal_have_their_pixels_and_touch_the_square_alone(K, r):
    images, parts = data.sample(1, generator(1), owners.Arms(K, r), noise=0)
    assert torch.equal(images, parts.sum(1, keepdim=True)) and images.max() == 1
    left, square, *others = ({*map(tuple, part.nonzero().tolist())} for part in parts[0])
    arms = [left, *others]
    assert len(arms) == K and {len(arm) for arm in arms} == {Fraction(len(square)) / Fraction(r)}
    ways = (0, 1), (0, -1), (1, 0), (-1, 0)
    around = [{(y + v, x + u) for y, x in arm for v, u in ways} for arm in arms]
    assert all(near & square for near in around)
    assert not any(around[i] & arms[j] for i, j in product(range(K), range(K)) if i != j)
    assert max(x for _, x in left) < min(x for _, x in square) and left != others[0]


def test_two_arms_are_the_pair_and_others_are_refused():
    pair, arms = (data.sample(5, generator(2), shape) for shape in (data.Shape(), owners.Arms()))
    assert all(map(torch.equal, pair, arms))
    assert torch.equal(data.groupings(pair[1]), owners.groupings(pair[1]))
    with pytest.raises(ValueError, match="r must be among .* got 3"):
        owners.Arms(r=3)


@pytest.mark.parametrize("K", [2, 3, 4])
def test_decisions_are_called_by_what_they_give_to_whom(K):
    _, parts = data.sample(3, generator(3), owners.Arms(K, 0.5))
    own, square = parts[:, [0, *range(2, K + 1)]], parts[:, 1:2]  # (n, K or 1, H, W)
    gets = torch.tril(torch.ones(K + 1, K), -1)[..., None, None]  # none, the first one, ... all
    decisions = torch.cat(
        (own[:, None] + gets * square[:, None], own[:, None].repeat(1, 2, 1, 1, 1)), 1
    )
    decisions[:, -2] += 0.5 * square
    decisions[:, -1, 0] = 0  # no own part
    row = owners.measure(decisions, parts, [1 / K] * K)
    names = ["nobody", "one", *["some"] * (K - 2), "all", "split", "unlearned"]
    assert row["outcome"] == " + ".join(names) and not row["found"]
    for given, decision in enumerate(row["decisions"][: K + 1]):
        assert decision["ends"] == ["given"] * given + ["not given"] * (K - given)
        assert decision["shares"] == [1] * given + [0] * (K - given)
    assert row["decisions"][-1]["ends"] == ["unlearned"] + ["not given"] * (K - 1)
    assert owners.measure(owners.groupings(parts), parts, [1 / K] * K)["oracle_exact"] == 1


@pytest.mark.parametrize("K", [2, 3, 4])
def test_the_score_is_that_of_counted_pixels_each_grouping_with_its_own_prior(K):
    _, parts = data.sample(2, generator(4), owners.Arms(K, 2.0))
    masks = torch.rand(2, 3, K, 32, 32, generator=generator(5)) > 0.8
    prior, own, score = [0.5, 0.3, 0.15, 0.05][:K], [0, *range(2, K + 1)], 0
    for grouping, n in product(range(K), range(2)):
        sums = [0] * 3
        for d, k in product(range(3), range(K)):
            truth = parts[n, own[k]].bool() | (parts[n, 1].bool() & (k == grouping))
            mask = masks[n, d, k]
            sums[d] += (truth & mask).sum().item() / (truth | mask).sum().item()
        score += prior[grouping] * max(sums) / 2
    assert owners.measure(masks.float(), parts, prior)["score"] == pytest.approx(score, abs=1e-5)
    assert owners.Arms(K).priors(0.7) == ([0.7, 1 - 0.7] if K == 2 else [1 / K] * K)


def test_pies_have_the_shares_of_their_outcomes():
    ax = Figure().subplots()
    outcomes = {"given": 3, "not given": 4, "unlearned": 1}
    owners.pies(ax, [{"r": 1, "outcomes": outcomes}], [0.3], ["green"])
    turned = [wedge.theta2 - wedge.theta1 for wedge in ax.patches[1:]]
    assert turned == [45 * outcomes.get(names[0], 0) for _, _, names in owners.LOOKS]


@pytest.mark.parametrize("name", ["only-bare", "only-logits", "only-ones", "only-blocks", "wang"])
def test_the_network_of_wang_et_al_is_ours_but_for_each_of_its_differences(name):
    images, calls = data.sample(2, generator(17))[0], []
    net = breaks.VARIANTS[name].build(breaks.Settings(), generator(17))
    for module in (net.unet.down[0], net.unit):  # called in turn by each pass
        module.register_forward_hook(lambda _, args, out: calls.append(args))
    logits = net(images)
    mask, state = {"only-logits": (0, 0), "only-ones": (1, 1), "wang": (1, 1)}.get(name, (0.5, 0))
    assert (calls[0][0][:, 1:] == mask).all() and (calls[1][1] == state).all()
    sees_logits = name in ("only-logits", "wang")
    seen = logits[:, 0] if sees_logits else torch.sigmoid(logits[:, 0])
    assert torch.equal(calls[2][0][:, 1:], seen)
    kinds = [type(module).__name__ for module in net.unet.merge.modules()]
    assert ("GroupNorm" in kinds) == (name not in ("only-bare", "wang"))
    # Of an old state of 5 half is kept at most, and a tanh added, where the gate is of blocks.
    x = torch.randn(1, calls[1][1].shape[1], 4, 4, generator=generator(6))
    assert (net.unit(x, torch.full_like(x, 5.0)) <= 3).all() == (name in ("only-blocks", "wang"))
    sizes = net.unet.head.in_channels, len(net.unet.up)
    assert sizes == ((8, 4) if name == "wang" else (16, 2))
    ours = initialise(RecurrentUNet(), generator(17))(images)
    none = breaks.released("", ()).build(breaks.Settings(), generator(17))(images)
    assert torch.equal(ours, none) and not torch.equal(logits, ours)


@pytest.mark.parametrize("name", owners.NETWORKS)
def test_networks_make_T_decisions_on_K_instances(name):
    s, (K, T) = owners.Settings(), (int(part[1]) for part in name.split("-")[1:3])
    images, _ = data.sample(2, generator(7), owners.Arms(K))
    masks = networks.decide(owners.VARIANTS[name].build(s, generator(7)), images, instances=K)
    assert masks.shape == (2, T, K, 32, 32)


@pytest.mark.parametrize("name, idle", [*product(equilibrium.PUSHES, (0, 1))])
def test_a_push_moves_what_it_says_by_what_it_says(name, idle, monkeypatch):
    monkeypatch.setattr(equilibrium, "AFTER", 1)
    net, before = (initialise(UNet(1, 4), generator(19)) for _ in range(2))
    equilibrium.push(net, name, idle, generator(19), equilibrium.Settings(), 0)
    pairs = zip(net.named_parameters(), before.parameters())
    moved = {key for (key, p), q in pairs if not torch.equal(p, q)}
    which, _, size = name.partition(" ")
    if which == "none":
        assert not moved
    elif which == "all":
        p, q = net.down[0][3].weight, before.down[0][3].weight
        assert len(moved) > 10
        assert ((p - q).std() / q.std()).item() == pytest.approx(float(size), rel=0.1)
    else:
        assert "head.weight" in moved <= {"head.weight", "head.bias"}
        heads = (net.head.weight - before.head.weight).unflatten(0, (2, 2))
        assert heads[idle].any() and not heads[1 - idle].any()


def test_both_heads_train_as_in_exp_dual_and_go_on_with_adams_moments(monkeypatch):
    s, seen, train = equilibrium.Settings(**QUICK, m=0.7), [], sweep.train

    def spy(net, optimiser, batch, steps):
        seen.append(copy.deepcopy(optimiser.state_dict()))
        train(net, optimiser, batch, steps)

    monkeypatch.setattr(sweep, "train", spy)
    monkeypatch.setattr(equilibrium, "AFTER", 1)
    v, stream = equilibrium.VARIANTS["heads"], generator(3 + data.SEEDS)
    pair = v.build(s, generator(3)).to(memory_format=torch.channels_last)
    adam = v.optimiser(pair, s)
    equilibrium.train(pair, adam, stream, s, 2)
    net, *_ = exp_dual.train(s, 3, "cpu")
    assert all(map(torch.equal, net.parameters(), pair.parameters()))
    for name in equilibrium.PUSHES:
        equilibrium.pushed(pair, adam, stream, name, 1, s, 3, "cpu")
        assert seen[-1]["param_groups"] == adam.state_dict()["param_groups"]
        for k, moments in adam.state_dict()["state"].items():
            assert moments["step"] == 2
            for key, value in moments.items():
                assert torch.equal(seen[-1]["state"][k][key], value)
    assert all(map(torch.equal, net.parameters(), pair.parameters()))  # copies were pushed


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
