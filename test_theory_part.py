"""The theory's part of test_all.py: python -m pytest test_theory_part.py"""

import shutil
import subprocess
import sys
from fractions import Fraction
from itertools import product

import pytest
from matplotlib.text import Text

import theory as t

ONE, HALF, TINY = Fraction(1), Fraction(1, 2), Fraction(1, 10**30)
SIZES, PRIORS = (ONE / 3, ONE, ONE * 9 / 2), (0 * ONE, ONE / 5, HALF, ONE * 5 / 7, ONE)
EQUAL = [*product([ONE * k / 8 for k in range(9)], SIZES, SIZES)]  # x, P, b
CASES = [*product([ONE * k / 8 for k in range(9)], SIZES, SIZES, SIZES, PRIORS)]  # x, P1, P2, b, m
PIXELS = [*product((ONE, 4 * ONE), (2 * ONE, 5 * ONE), (1, 3), PRIORS)]  # whole P1, P2, b; m


def is_slope(df, f, x, *rest):
    """Whether df is the difference quotient of f in x, which is off by about 1e-58."""
    quotient = (f(x + TINY, *rest) - f(x - TINY, *rest)) / (2 * TINY)
    return abs(quotient - df(x, *rest)) < Fraction(1, 10**50)


def counted(left, right, P1, P2, b, m):
    """The average score without any formula, from pixels counted from left to right: the left
    mask has the first so many, the right mask the last so many."""
    pixels, score = [*range(int(P1 + b + P2))], 0
    masks = {*pixels[: int(left)]}, {*pixels[len(pixels) - int(right) :]}
    for prior, edge in ((m, int(P1 + b)), (1 - m, int(P1))):  # where the true right one begins
        for mask, truth in zip(masks, ({*pixels[:edge]}, {*pixels[edge:]})):
            score += prior * Fraction(len(mask & truth), len(mask | truth))
    return score


def test_eq_1_is_the_average_score_of_counted_pixels():
    for k, (P1, P2, b, m) in product(range(4), PIXELS):
        k = min(k, b)  # so many common pixels go to the left instance
        assert t.I_G(ONE * k / b, P1, P2, b, m) == counted(P1 + k, P2 + b - k, P1, P2, b, m)


def test_eq_2_corrected_is_the_slope_of_eq_1_as_printed_it_needs_equal_sizes_and_priors():
    right, printed = t.dI_G, t.dI_G_as_printed
    assert all(is_slope(right, t.I_G, *at) for at in CASES)
    assert all(printed(x, P, P, b, HALF) == right(x, P, P, b, HALF) for x, P, b in EQUAL)
    for P2, m, wrong in ((ONE, ONE * 7 / 10, 0), (2 * ONE, HALF, ONE * 131 / 900)):  # P1 = b = 1
        assert printed(HALF, ONE, P2, ONE, m) == wrong != right(HALF, ONE, P2, ONE, m)


def test_eq_3_corrected_is_the_slope_of_eq_2_as_printed_it_needs_equal_sizes():
    right, printed = t.d2I_G, t.d2I_G_as_printed
    assert all(is_slope(right, t.dI_G, *at) for at in CASES)
    assert all(printed(x, P, P, b, ONE / 5) == right(x, P, P, b, ONE / 5) for x, P, b in EQUAL)
    at = 0, ONE, 2 * ONE, ONE, HALF
    assert (printed(*at), right(*at)) == (ONE * 3 / 8, ONE * 29 / 27)


def test_theorem_3_1_the_average_score_is_convex_so_a_split_is_worse_than_the_better_end():
    for x, *rest in CASES:
        at_0, at_1 = t.I_G(0, *rest), t.I_G(1, *rest)
        chord = (1 - x) * at_0 + x * at_1
        assert x in (0, 1) or t.I_G(x, *rest) < chord <= max(at_0, at_1)


def test_eqs_4_and_5_are_the_ends_and_the_larger_is_the_most_that_any_two_masks_score():
    for P1, P2, b, m in PIXELS:
        at, sizes = (P1, P2, b, m), range(1, int(P1 + P2 + b))
        assert t.I_G_at_0(*at) == counted(P1, b + P2, *at)
        assert t.I_G_at_1(*at) == counted(P1 + b, P2, *at)
        assert t.ceiling(*at) == max(counted(*pair, *at) for pair in product(sizes, sizes))


def test_corollary_3_2_is_printed_in_reverse_the_likelier_owner_should_get_the_common_region():
    for P, b, m in product((ONE, 3 * ONE), (1, 2), PRIORS):
        gain = counted(P + b, P, P, P, b, m) - counted(P, P + b, P, P, b, m)
        assert (gain > 0) == (m > HALF) and (gain < 0) == (m < HALF)
        assert t.I_G_at_1(P, P, b, m) - t.I_G_at_0(P, P, b, m) == gain


def test_eq_6_is_eq_1_for_equal_sizes_and_priors():
    assert all(t.I_equal(x, P, b) == t.I_G(x, P, P, b, HALF) for x, P, b in EQUAL)


def test_eqs_7_and_8_are_the_first_and_second_derivative_of_eq_6():
    assert all(is_slope(t.dI_equal, t.I_equal, *at) for at in EQUAL)
    assert all(is_slope(t.d2I_equal, t.dI_equal, *at) for at in EQUAL)


def test_eq_9_is_eq_8_in_the_middle_and_eq_10_is_eq_6_at_either_end():
    for _, *at in EQUAL:
        assert t.d2I_equal_at_half(*at) == t.d2I_equal(HALF, *at) > 0
        assert t.I_max(*at) == t.I_equal(0, *at) == t.I_equal(1, *at)


def test_theorem_3_3_the_even_split_is_worst_and_either_end_best():
    for x, *at in EQUAL:
        assert (t.I_equal(x, *at) > t.I_equal(HALF, *at)) == (x != HALF)
        assert (t.I_equal(x, *at) < t.I_max(*at)) == (0 < x < 1)


def test_corollary_3_4_the_score_is_symmetric_about_one_half_eq_11_as_printed_is_too_low():
    for x, P, b in EQUAL:
        score = t.I_symmetric(x - HALF, P, b)
        assert score == t.I_equal(x, P, b) == t.I_equal(1 - x, P, b)
        assert score - t.I_symmetric_as_printed(x - HALF, P, b) == P / (P + b) / 2


def test_eq_12_and_theorem_3_5_orange_ties_with_either_grouping_but_so_does_neither():
    for P, b in product((ONE, 3 * ONE, 8 * ONE), (1, 2, 5)):
        orange, neither = (counted(P + k, P + k, P, P, b, HALF) for k in (b, 0))
        assert orange == t.I_D(P, b) == t.I_max(P, b) == neither


def test_fig_2_draws_in_each_panel_what_its_legend_says():
    drawn = {  # where a line begins; its first, middle and last value
        "a: Eqs. 10, 12: the ceiling for m = 1/2": (0, 1.8, 1.8, 1.8),
        "a: Eq. 6: m = 1/2": (0, 1.8, 1.7889, 1.8),
        "a: Eq. 4: the end x = 0": (0, 1.88, 1.8, 1.72),
        "a: Eq. 5: the end x = 1": (1, 1.72, 1.8, 1.88),
        "a: _m = 0.7": (0, 1.72, 1.7889, 1.88),
        "b: _m = 0.7": (0, 0.117, 0.159, 0.207),
        "b: Eq. 7: m = 1/2, slope 0 at x = 1/2": (0, -0.045, 0, 0.045),
        "b: Eq. 2 as printed: m = 0.7": (0, 2.8 / 25 - 0.175, 0, 0.175 - 2.8 / 25),
        "c: Eq. 8: m = 1/2": (0, 0.0945, 0.0878, 0.0945),
        "c: Eq. 9: m = 1/2, x = 1/2": (0.5, 0.0878, 0.0878, 0.0878),
        "c: Eq. 3 corrected: P2 = 3, m = 1/2": (0, 0.1094, 0.1139, 0.1431),
        "c: Eq. 3 as printed: P2 = 3": (0, 0.1431, 0.1139, 0.1094),
        "d: Eq. 11 corrected, which is Eq. 6": (0, 1.5, 1.4167, 1.5),
        "d: Eq. 11 as printed": (0, 1.25, 1.1667, 1.25),
        "e: Eq. 4: the right one gets b": (0, 2, 1.5, 1),
        "e: Eq. 5: the left one gets b": (0, 1, 1.5, 2),
        "e: Corollary 3.2 as printed: the worse": (0, 1, 1.5, 1),
        "f: Eqs. 10, 12: b to one or to both": (0, 2, 1.3333, 1.2),
        "f: Eq. 6 at x = 1/2: b split evenly": (0, 2, 1.1667, 0.9333),
    }
    fig = t.plot()
    for panel, line in ((panel, k) for panel, ax in zip("abcdef", fig.axes) for k in ax.lines):
        x, y, name = *line.get_data(), f"{panel}: {line.get_label()}"
        data = [x[0], y[0], y[len(y) // 2], y[-1]]
        assert name not in drawn or data == pytest.approx(drawn.pop(name), abs=1e-4)
    assert not drawn
    sizes = [text.get_fontsize() for text in fig.findobj(Text) if text.get_text()]
    assert min(sizes) / 72 * 900 / fig.get_figwidth() >= 10  # pixels, if it is 900 wide


def test_theory_runs_alone_and_says_what_holds_and_what_does_not(tmp_path):
    shutil.copy(t.__file__, tmp_path)
    command = [sys.executable, "-I", "theory.py"]
    run = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=True)
    said = {line[:44].split(":")[0]: line[44:] for line in run.stdout.splitlines()}
    names = [f"Eq. {k}" for k in (1, *range(4, 11), 12)] + ["Theorem 3.1", "Corollary 3.2 reversed"]
    names += ["Theorem 3.3", "Corollary 3.4", "Theorem 3.5"]
    printed = ["Eq. 2", "Eq. 3", "Eq. 11"]
    assert all(said[name] == " holds" for name in names + [f"{k} corrected" for k in printed])
    assert all("wrong" in said[f"{k} as printed"] for k in [*printed, "Corollary 3.2"])
    assert (tmp_path / "out/theory.png").stat().st_size > 10**5
