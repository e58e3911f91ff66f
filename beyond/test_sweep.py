"""Rows, sweeps and the command line of a question, on a toy question whose runs take no
time. python -m pytest beyond/test_sweep.py"""

import json
from dataclasses import replace

import pytest
import torch

from beyond import runs, sweep


def toy_run(v, seed, s, device):
    """Find both, but not at seed 13."""
    if seed == 13:
        raise FloatingPointError("the loss is nan at step 40")
    return {"outcome": "left + right", "found": True}


def toy_report(found):
    counts = {key: len(sweep.of(found, key)) for key in TOY.variants}
    return {"toy.json": counts}, f"Found: {counts}"


TOY = sweep.Question(
    name="toy",
    about="A toy.",
    variants={"one": runs.SINGLE, "two": replace(runs.TWO_HEADS, rule="matched")},
    run=toy_run,
    loss=runs.loss,
    report=toy_report,
    settings=runs.Settings(width=4, depth=1),
    fixed={"found": 0.99},
    default=("one",),
    seeds=2,
)


def row_of(key="one", seed=0, s=TOY.settings):
    """Return a row of the toy question, as it is read from a file."""
    row = sweep.label(TOY, key, seed, s, "cpu") | {"outcome": "both"}
    row["change"]["start"] = sweep.fingerprint(TOY, key, s)
    return json.loads(json.dumps(row))


def write(path, *rows):
    path.parent.mkdir(exist_ok=True)
    for row in rows:
        sweep.append(row, path)


# Rows


def test_rows_outlive_a_crash(tmp_path, capsys):
    path = tmp_path / "toy.jsonl"
    write(path, row_of(seed=1))
    with path.open("a") as file:
        file.write('{"variant": "one", "seed"')  # torn by the crash
    write(path, row_of(seed=2))
    assert sweep.read(path) == [row_of(seed=1), row_of(seed=2)]
    assert "which is no row" in capsys.readouterr().out


@pytest.mark.parametrize(
    "written, rule, number",
    [
        ("matched-smooth", "matched_smooth", None),
        ("capped 0.75", "capped", 0.75),
        ("relaxed", "relaxed", 0.05),
        ("balanced", "shared", 0.5),
    ],
)
def test_older_rows_are_translated_where_they_are_read(written, rule, number, tmp_path):
    change = {
        "net": "Handing",
        "options": {"steps": 3},
        "rule": written,
        "momentum": 0.0,
    }
    old = {"settings": {"steps": 2, "relaxed": 0.05}, "change": change}
    write(tmp_path / "toy.jsonl", old)
    (row,) = sweep.read(tmp_path / "toy.jsonl")
    assert row["settings"] == {"passes": 2}
    assert row["change"] == {
        "net": "Recurrent",
        "options": {"passes": 3},
        "rule": rule,
        "number": number,
        "coin": False,
        "other": {},
    }


def test_the_first_row_of_a_run_counts():
    first = row_of()
    assert sweep.distinct([first, row_of() | {"outcome": "left"}]) == {
        ("one", 0): first
    }


def sorted_out(*rows):
    return sweep.sorted_out(TOY, rows, TOY.settings, "cpu", made=True)


def test_a_row_that_is_made_otherwise_does_not_count_and_the_first_is_named():
    row = row_of()
    other_settings = row | {"settings": row["settings"] | {"beta": 10.0}}
    other_rule = row | {"change": row["change"] | {"rule": "hard"}}
    gone = row | {"variant": "gone"}
    fitting, cut, wrong = sorted_out(other_settings, row, other_rule, gone)
    assert fitting == [row]
    assert cut == [gone]
    assert wrong == "one, seed 0: beta is 10.0 there and 100.0 here"


def test_a_fingerprint_tells_another_network_under_the_same_name():
    row = row_of()
    loss, slope = row["change"]["start"]
    for start in ([loss * 1.01, slope], [loss, slope * 1.01]):
        other = row | {"change": row["change"] | {"start": start}}
        assert "start is" in sorted_out(other)[2]
    near = row | {"change": row["change"] | {"start": [loss * 1.0001, slope]}}
    assert sorted_out(near)[2] == ""


# Training


def test_training_takes_steps_and_shows_each_before_it_is_taken():
    net = torch.nn.Linear(1, 1, bias=False)
    torch.nn.init.constant_(net.weight, 8.0)
    optimiser = torch.optim.SGD(net.parameters(), 0.5)
    progress = []
    seen = []

    def loss(share):
        progress.append(share)
        return (net.weight**2).sum() / 2

    def watch(step, cost):
        seen.append((step, cost.item()))

    sweep.train(net, optimiser, loss, 3, watch)
    assert seen == [(1, 32.0), (2, 8.0), (3, 2.0)]  # the weight is halved by each step
    assert progress == [0, 0.5, 1]


def test_training_ends_where_the_loss_is_not_finite():
    net = torch.nn.Linear(1, 1)
    optimiser = torch.optim.SGD(net.parameters(), 1)
    with pytest.raises(FloatingPointError, match="the loss is nan at step 40"):
        sweep.train(net, optimiser, lambda _: net.weight.sum() * float("nan"), 40)


# The command line


def command(out, *words):
    return sweep.main(TOY, ["--out", str(out), *words])


def ending(out, *words):
    with pytest.raises(SystemExit) as end:
        command(out, *words)
    return end.value.code


def test_a_sweep_trains_what_is_missing_and_goes_on_where_it_stopped(tmp_path, capsys):
    command(tmp_path, "--seeds", "0,1")
    assert "2 runs to train" in capsys.readouterr().out
    saved = command(tmp_path, "--seeds", "0-2", "--workers", "2")
    assert "1/1  one seed 2: left + right\n" in capsys.readouterr().out
    assert saved == {"toy.json": {"one": 3, "two": 0}}
    assert json.loads((tmp_path / "toy.json").read_text()) == saved["toy.json"]
    rows = sweep.read(tmp_path / "toy.jsonl")
    assert sorted(row["seed"] for row in rows) == [0, 1, 2]
    assert sorted_out(*rows)[0] == rows


def test_a_run_whose_loss_is_not_finite_is_kept_as_such(tmp_path, capsys):
    command(tmp_path, "--seeds", "13,14", "--workers", "1")
    assert "1/2  one seed 13: died" in capsys.readouterr().out
    dead, other = sweep.read(tmp_path / "toy.jsonl")
    assert dead["error"] == "the loss is nan at step 40"
    assert other["outcome"] == "left + right"


def test_what_is_recorded_is_trained_again_with_anew_alone(tmp_path, monkeypatch):
    monkeypatch.setattr(sweep, "ROWS", tmp_path / "rows")
    write(tmp_path / "rows/toy.jsonl", row_of(seed=0))
    command(tmp_path / "out", "--seeds", "0")
    assert sweep.read(tmp_path / "out/toy.jsonl") == []
    command(tmp_path / "out", "--seeds", "0", "--anew")
    (row,) = sweep.read(tmp_path / "out/toy.jsonl")
    assert row["outcome"] == "left + right"  # where the recorded one has "both"


def test_where_no_recorded_row_counts_it_is_said_why(tmp_path, monkeypatch):
    monkeypatch.setattr(sweep, "ROWS", tmp_path / "rows")
    otherwise = row_of(s=replace(TOY.settings, beta=10.0))
    write(tmp_path / "rows/toy.jsonl", otherwise)
    said = ending(tmp_path / "out")
    assert "none of the 1 recorded rows is made as the code is now: one, seed 0" in said
    assert "beta is 10.0 there and 100.0 here; --anew trains them again" in said


def test_rows_of_another_folder_are_drawn_with_their_own_settings(tmp_path):
    longer = row_of("two", s=replace(TOY.settings, epochs=40))
    write(tmp_path / "a/toy.jsonl", longer)
    drawn = command(tmp_path / "b", "--rows", str(tmp_path / "a"))
    assert drawn == {"toy.json": {"one": 0, "two": 1}}
    said = ending(tmp_path / "a", "--seeds", "0")
    assert "epochs is 40 there and 10 here: give another --out" in said


@pytest.mark.parametrize(
    "words",
    [["--seeds", "5-2"], ["--variants", "one,none"], ["--rows", "there", "--anew"]],
)
def test_what_is_wrong_on_the_command_line_is_said_in_one_line(words, tmp_path, capsys):
    assert ending(tmp_path / "out", *words) == 2
    assert capsys.readouterr().err.count("\n") == 1
