"""Rows, sweeps and the command line of a question, on a toy question whose runs take no
time. python -m pytest beyond/test_sweep.py"""

import json
import os
import sys
from dataclasses import replace

import pytest
import torch

from beyond import runs, sweep
from beyond.networks import Variant


def toy_run(v, seed, s, device):
    """Find both where the seed is even, die at seed 13, take the process along at 66."""
    if seed == 13:
        raise RuntimeError("no memory\nat all")
    if seed == 66:
        os._exit(1)
    return {"outcome": "left + right", "found": seed % 2 == 0, "epochs": s.epochs}


def toy_report(found):
    if not found:
        raise KeyboardInterrupt
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


def row_of(key="one", seed=0, **end):
    """Return a row of the toy question, as it is read from a file."""
    row = sweep.label(TOY, key, seed, TOY.settings, "cpu")
    row["change"]["start"] = sweep.fingerprint(TOY, key, TOY.settings)
    return json.loads(json.dumps(row | {"outcome": "both"} | end))


def write(path, *rows):
    for row in rows:
        sweep.append(row, path)


# Rows


def test_rows_outlive_a_crash_and_what_is_no_row_is_dropped(tmp_path, capsys):
    path = tmp_path / "toy.jsonl"
    write(path, row_of(seed=1))
    with path.open("a") as file:
        file.write('{"variant": "one", "seed"')  # torn by the crash
    write(path, row_of(seed=2))
    with path.open("a") as file:
        file.write('3\n{"variant": "one"}\n')
    assert [row["seed"] for row in sweep.read(path)] == [1, 2]
    assert capsys.readouterr().out.count("which is no run") == 3


def test_the_first_row_that_finished_counts():
    died = row_of() | {"error": "no memory"}
    del died["outcome"]
    first = row_of(found=True)
    second = row_of(found=False)
    assert sweep.distinct([died, first, second]) == {("one", 0): first}
    assert sweep.distinct([died]) == {("one", 0): died}


def old_row(rule, **settings):
    """Return a row as it was written before rules had numbers."""
    change = {"net": "Handing", "options": {"steps": 3}, "rule": rule, "start": [1, 2]}
    row = {"variant": "one", "seed": 0, "device": "cpu", "change": change}
    return row | {"settings": {"steps": 2, "relaxed": 0.05} | settings, "outcome": ""}


@pytest.mark.parametrize(
    "written, rule, number",
    [
        ("soft", "soft", None),
        ("matched-smooth", "matched_smooth", None),
        ("capped 0.75", "capped", 0.75),
        ("shared-capped 0.75", "shared_capped", 0.75),
        ("transport 0.03", "transport", 0.03),
        ("relaxed", "relaxed", 0.05),
        ("relaxed 0.2", "relaxed", 0.2),
        ("balanced", "shared", 0.5),
    ],
)
def test_older_rows_are_translated_where_they_are_read(written, rule, number, tmp_path):
    write(tmp_path / "toy.jsonl", old_row(written))
    (row,) = sweep.read(tmp_path / "toy.jsonl")
    assert row["change"]["rule"] == rule
    assert row["change"]["number"] == number
    assert row["change"]["net"] == "Recurrent"
    assert row["change"]["options"] == {"passes": 3}
    assert row["settings"] == {"passes": 2}


def test_a_row_of_today_is_read_as_it_was_written(tmp_path):
    row = row_of("two")
    write(tmp_path / "toy.jsonl", row)
    assert sweep.read(tmp_path / "toy.jsonl") == [row]


# What counts


def sorted_out(*rows):
    return sweep.sorted_out(TOY, rows, TOY.settings, "cpu", made=True)


def test_a_row_that_is_made_otherwise_does_not_count_and_the_first_is_named():
    row = row_of()
    other_settings = row | {"settings": row["settings"] | {"beta": 10.0}}
    other_fixed = row | {"settings": row["settings"] | {"found": 0.9}}
    other_rule = row | {"change": row["change"] | {"rule": "hard"}}
    fitting, cut, wrong = sorted_out(other_settings, row, other_fixed, other_rule)
    assert fitting == [row]
    assert cut == []
    assert wrong == "one, seed 0: beta is 10.0 there and 100.0 here"


@pytest.mark.parametrize("change", [{"momentum": 0.9}, {"shown": 0.5}, {"number": 1.0}])
def test_what_an_older_row_does_not_say_it_had_not(change):
    row = row_of()
    for key in ("momentum", "shown", "number"):
        del row["change"][key]
    assert sorted_out(row)[0] == [row]
    changed = replace(TOY, variants={"one": replace(runs.SINGLE, **change)})
    assert sweep.sorted_out(changed, [row], TOY.settings, "cpu")[0] == []


def test_a_fingerprint_tells_another_network_under_the_same_name(monkeypatch):
    row = row_of()
    loss, slope = row["change"]["start"]
    for start in ([loss * 1.01, slope], [loss, slope * 1.01]):
        other = row | {"change": row["change"] | {"start": start}}
        assert "start is" in sorted_out(other)[2]
    near = row | {"change": row["change"] | {"start": [loss * 1.0001, slope]}}
    assert sorted_out(near)[2] == ""


def test_a_library_that_is_missing_leaves_no_fingerprint(monkeypatch):
    monkeypatch.setitem(sys.modules, "monai.networks", None)
    monai = Variant("", "Monai", {"name": "UNet"})
    missing = replace(TOY, variants={"one": monai})
    assert sweep.fingerprint(missing, "one", TOY.settings) is None
    with pytest.raises(OSError, match="pip install monai"):
        monai.build(TOY.settings, torch.Generator())


def test_rows_of_a_variant_that_is_not_here_are_counted_by_their_keys():
    gone = [row_of(seed=seed, found=seed == 0) | {"variant": "gone"} for seed in (0, 1)]
    _, cut, wrong = sorted_out(*gone, row_of())
    assert cut == gone
    assert wrong == ""
    assert "| gone | 1/2 | both 2 |" in sweep.counted(cut)


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
    assert net.weight.item() == 1


def test_training_ends_where_the_loss_is_not_finite():
    net = torch.nn.Linear(1, 1)
    optimiser = torch.optim.SGD(net.parameters(), 1)
    with pytest.raises(FloatingPointError, match="the loss is nan at step 40"):
        sweep.train(net, optimiser, lambda _: net.weight.sum() * float("nan"), 40)


# The command line


def command(out, *words):
    return sweep.main(TOY, ["--out", str(out), *words])


def test_a_sweep_trains_what_is_missing_and_goes_on_where_it_stopped(tmp_path, capsys):
    command(tmp_path, "--seeds", "0,1", "--workers", "1")
    assert "2 of 2 runs are trained" in capsys.readouterr().out
    saved = command(tmp_path, "--seeds", "0-2", "--workers", "2")
    said = capsys.readouterr().out
    assert "1 of 3 runs are trained" in said
    assert "1/1  one seed 2: left + right  (0 min left)" in said
    assert saved == {"toy.json": {"one": 3, "two": 0}}
    assert json.loads((tmp_path / "toy.json").read_text()) == saved["toy.json"]
    rows = sweep.read(tmp_path / "toy.jsonl")
    assert [row["seed"] for row in rows] == [0, 1, 2]
    assert sorted_out(*rows)[0] == rows


@pytest.fixture
def recorded(tmp_path, monkeypatch):
    """Two recorded runs of the toy question."""
    monkeypatch.setattr(sweep, "ROWS", tmp_path / "rows")
    (tmp_path / "rows").mkdir()
    write(tmp_path / "rows/toy.jsonl", row_of(seed=0), row_of(seed=1))


def test_what_is_recorded_is_trained_again_with_anew_alone(recorded, tmp_path, capsys):
    command(tmp_path / "a", "--seeds", "0")
    assert "0 of 1 runs are trained" in capsys.readouterr().out
    command(tmp_path / "a", "--seeds", "0", "--anew")
    assert "1 of 1 runs are trained" in capsys.readouterr().out
    (row,) = sweep.read(tmp_path / "a/toy.jsonl")
    assert row["outcome"] == "left + right"  # where the recorded one has "both"


def test_rows_of_another_folder_are_drawn_with_their_own_settings(recorded, tmp_path):
    command(tmp_path / "a", "--seeds", "0", "--variants", "two", "--epochs", "3")
    drawn = command(tmp_path / "b", "--rows", str(tmp_path / "a"))
    assert drawn == {"toy.json": {"one": 0, "two": 1}}
    assert sweep.read(tmp_path / "a/toy.jsonl")[0]["epochs"] == 3


def ending(out, *words):
    with pytest.raises(SystemExit) as end:
        command(out, *words)
    return end.value.code


def test_a_run_that_dies_is_kept_as_such_and_tried_again(tmp_path):
    for rows in (1, 2):
        said = ending(tmp_path, "--seeds", "13")
        assert said == "error: 1 runs died; started again, they are tried again"
        kept = sweep.read(tmp_path / "toy.jsonl")
        assert [row["error"] for row in kept] == ["RuntimeError: no memory"] * rows


def test_a_process_that_dies_ends_the_sweep_in_one_line(tmp_path):
    assert ending(tmp_path, "--seeds", "66").startswith("error: a process died;")


def test_interrupted_it_ends_with_130(tmp_path, capsys):
    assert ending(tmp_path) == 130  # the toy's report is interrupted without rows
    assert capsys.readouterr().err == "interrupted\n"


@pytest.mark.parametrize(
    "words",
    [
        ["--seeds", "5-2"],
        ["--seeds", "x"],
        ["--epochs", "0"],
        ["--variants", "one,none"],
        ["--workers", "2"],
        ["--rows", "there", "--anew"],
    ],
)
def test_what_is_wrong_on_the_command_line_is_said_in_one_line(words, tmp_path, capsys):
    assert ending(tmp_path / "out", *words) == 2
    assert capsys.readouterr().err.count("\n") == 1
    assert not (tmp_path / "out").exists()


def test_rows_of_another_making_are_not_added_to(tmp_path):
    write(tmp_path / "toy.jsonl", row_of())
    said = ending(tmp_path, "--epochs", "3")
    assert "epochs is 10 there and 3 here: give another --out" in said
