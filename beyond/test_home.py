"""The loss to take home is counted against what it replaces.
python -m pytest beyond/test_home.py"""

from beyond import controls, home, runs, sweep


def made_up(found, outcome="left + right", lead=0.5):
    """Return a row that ended so."""
    meter = [[step, lead, 1.0] for step in home.METERED]
    return {"found": found, "outcome": outcome, "meter": meter}


def test_a_line_counts_the_three_rules_of_one_network_in_one_world():
    for x in home.LINES:
        keys = (x.maximum, x.replaced, x.ours)
        maximum, replaced, ours = (home.VARIANTS[key] for key in keys)
        assert maximum.rule == "soft"
        assert replaced.rule == ("shared" if maximum.coin else "matched")
        assert ours.rule == ("unordered" if maximum.shuffled else "ambiguous_loss")
        assert ours.number == 3.0
        assert maximum.settings(runs.Settings()) == ours.settings(runs.Settings())
        for v in (replaced, ours):
            for name in ("net", "options", "coin", "other", "shown", "shuffled"):
                assert getattr(v, name) == getattr(maximum, name), name


def test_a_count_is_of_the_runs_that_are_there():
    rows = {("three", 0): made_up(True), ("three", 1): made_up(False)}
    assert home.counted(rows, "three") == "1/2 (9% to 91%)"
    assert home.counted(rows, "three-loss") == "-"
    died = {("three", 0): {"error": "the loss is nan"}}
    assert home.counted(died, "three").startswith("0/1")


def test_readings_of_three_heads_are_sorted_by_whether_a_decision_dies():
    rows = {
        ("three", 0): made_up(False, "both + both + unlearned", lead=1.4),
        ("three-loss", 0): made_up(True, lead=0.2),
        ("three-loss", 1): {"error": "the loss is nan"},
    }
    dead, others = home.of_three_heads(rows)
    assert [run[0][1] for run in dead] == [1.4]
    assert [run[0][1] for run in others] == [0.2]


def test_a_run_is_that_of_the_controls_and_has_readings():
    s = runs.Settings(epochs=1, steps_per_epoch=12, held_out=8)
    row = home.run(controls.VARIANTS["dual"], 3, s, "cpu")
    ((step, lead, parting),) = row.pop("meter")
    assert step == 10 and 0 <= lead <= 1 and parting > 0
    expected = runs.run(controls.VARIANTS["dual"], 3, s, "cpu")
    assert {**row, "seconds": 0} == {**expected, "seconds": 0}


def test_the_readme_has_the_counts_of_the_rows():
    question = home.QUESTION
    rows = sweep.recorded(question, sweep.ROWS)
    fitting, _, wrong = sweep.sorted_out(question, rows, question.settings, "cpu")
    assert wrong == ""
    found = sweep.distinct(fitting)
    readme = (sweep.ROWS.parent / "README.md").read_text(encoding="utf-8")
    for x in home.LINES:
        counts = []
        for key in (x.maximum, x.replaced, x.ours):
            own = sweep.of(found, key)
            successes = sum(row.get("found", False) for row in own)
            counts.append(f"{successes}/{len(own)}" if own else "")
        if any(counts):
            line = f"| {x.network} | {x.world} | {' | '.join(counts)} |"
            assert line.replace("|  |", "| |") in readme


def successes(form):
    """How many of the runs by which the balance was chosen succeed, by balance. form is
    how their keys go on, "home" in the first form of the loss."""
    folder = sweep.ROWS / "seeds_1000_1007"
    total = dict.fromkeys(home.BALANCES, 0)
    for row in sweep.read(folder / "home.jsonl") + sweep.read(folder / "rotated.jsonl"):
        if f"-{form}" in row["variant"]:
            total[row["change"]["number"]] += row.get("pairs", row.get("found")) > 0.5
    return total


def test_the_balance_was_chosen_as_the_readme_says():
    assert successes("home") == {1: 28, 3: 21, 10: 22}
    assert successes("loss") == {1: 24, 3: 24, 10: 22}
