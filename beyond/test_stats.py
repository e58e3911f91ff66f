"""Intervals and tests, against their definitions. python -m pytest beyond/test_stats.py"""

import math
from fractions import Fraction

import pytest

from beyond import stats


@pytest.mark.parametrize("k", [0, 7, 20])
def test_wilsons_ends_are_where_the_share_seen_is_z_standard_deviations_away(k):
    for p in stats.wilson(k, 20):
        away = 1.959964 * math.sqrt(p * (1 - p) / 20)
        assert abs(k / 20 - p) == pytest.approx(away, abs=1e-6)


@pytest.mark.parametrize("k, n", [(3, 2), (0, 0)])
def test_a_count_above_its_total_is_refused(k, n):
    with pytest.raises(ValueError, match=f"got {k} of {n}"):
        stats.wilson(k, n)


def test_the_interval_of_a_difference_is_that_of_newcombes_table():
    # Newcombe 1998, table II, method 10: 56/70 - 48/80 and 10/10 - 0/10.
    interval = stats.difference_interval(56, 70, 48, 80)
    assert interval == pytest.approx((0.0524, 0.3339), abs=1e-4)
    interval = stats.difference_interval(10, 10, 0, 10)
    assert interval == pytest.approx((0.6075, 1.0000), abs=1e-4)


def test_fishers_p_adds_up_all_tables_that_are_at_most_as_likely():
    ways = [math.comb(10, k) * math.comb(10, 12 - k) for k in range(2, 11)]
    seen = math.comb(10, 9) * math.comb(10, 3)
    p = Fraction(sum(way for way in ways if way <= seen), math.comb(20, 12))
    assert stats.fisher(9, 10, 3, 10) == pytest.approx(float(p))


def test_holm_multiplies_the_smallest_p_most_and_keeps_the_order():
    corrected = stats.holm([0.01, 0.04, 0.03, 0.005])
    assert corrected == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert stats.holm([0.9, 0.8]) == [1, 1]
    assert stats.holm([0.01, 0.04], of=4) == stats.holm([0.01, 0.04, 1, 1])[:2]


def test_a_planned_test_is_corrected_for_its_whole_list_even_if_others_were_not_run():
    rows = [
        {"variant": "a", "title": "A", "found": 9, "of": 10},
        {"variant": "b", "title": "B", "found": 3, "of": 10},
    ]
    planned = [("a", "b"), ("a", "c"), ("c", "b")]
    table = stats.compare(rows, [("b", "a")], [planned])
    _, _, first, second = table.splitlines()
    assert first.startswith("| A | B | 9/10 | 3/10 | +60.0 | +17.1 to +80.9 | 0.02 |")
    assert first.endswith(f"| {3 * stats.fisher(9, 10, 3, 10):.2g} |")
    assert second.startswith("| B | A | 3/10 | 9/10 | -60.0 |")
    assert second.endswith("| - |")


def test_sign_flips_of_ranks_are_the_signed_rank_test():
    scipy_stats = pytest.importorskip("scipy.stats")
    ranks = [1, -2, 3, 4, -5, 6, 7, 8, 9, 10]
    p = scipy_stats.wilcoxon(ranks, method="exact").pvalue
    assert stats.sign_flips(ranks) == pytest.approx(p)
    assert stats.sign_flips([-0.1, -0.2, -0.4]) == 2 / 8
    assert stats.sign_flips([-0.3, 0.1, 0.2, 0.01]) == 1  # 0.01 twice but for rounding
    with pytest.raises(ValueError, match="must be 1 to 20, got 0"):
        stats.sign_flips([])


def test_an_alarm_is_exceeded_by_at_most_a_tenth_of_the_others():
    others = [[[10, 0.1 * k], [40, 0.0]] for k in range(1, 11)]  # signals 0.1 to 1
    dead = [[[10, 0.85], [40, 0.2]], [[10, 0.95], [40, 0.1]], [[10, 0.99], [40, -1]]]
    lines = stats.alarms(dead, others).splitlines()[2:]
    assert lines == ["| 10 | 0.9 | 2/3 | 1/10 |", "| 40 | 0 | 2/3 | 0/10 |"]


def test_a_signal_at_its_ceiling_is_not_above_an_alarm_there():
    others = [[[10, 1.0]], [[10, 0.999998]]]
    dead = [[[10, 1.000004]], [[10, 1.0]]]
    assert stats.alarms(dead, others).splitlines()[2] == "| 10 | 1 | 0/2 | 0/2 |"
