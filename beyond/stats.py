"""Intervals and tests for counts, and a table: how sure may one be of k runs of n?

Pure functions that need nothing of ours, so that this file can be copied alone.
"""

import itertools
import math

Z = 1.959964  # a normal deviate is further away in 5% of the cases


def wilson(k, n):
    """Return the 95% interval (low, high) of Wilson 1927 for a share that is seen k times
    in n. ValueError: k and n are no count and its total."""
    if not 0 <= k <= n or n < 1:
        raise ValueError(f"k of n must be a count of at least 1, got {k} of {n}")
    middle = k + Z**2 / 2
    half = Z * math.sqrt(k * (n - k) / n + Z**2 / 4)
    low = max(0.0, middle - half) / (n + Z**2)
    high = min(1.0, (middle + half) / (n + Z**2))
    return low, high


def difference_interval(k1, n1, k2, n2):
    """Return the 95% interval (low, high) of k1/n1 - k2/n2, shares of independent runs:
    method 10 of Newcombe 1998 (Statistics in Medicine 17, p. 873)."""
    p1 = k1 / n1
    p2 = k2 / n2
    low1, high1 = wilson(k1, n1)
    low2, high2 = wilson(k2, n2)
    low = p1 - p2 - math.hypot(p1 - low1, high2 - p2)
    high = p1 - p2 + math.hypot(high1 - p1, p2 - low2)
    return low, high


def fisher(k1, n1, k2, n2):
    """Return the p-value of Fisher's exact test, two-sided, for k1 of n1 against k2 of
    n2: that of all tables with the same margins that are at most as likely."""
    found = k1 + k2
    seen = math.comb(n1, k1) * math.comb(n2, k2)
    total = 0
    for k in range(max(0, found - n2), min(found, n1) + 1):
        ways = math.comb(n1, k) * math.comb(n2, found - k)
        if ways <= seen:
            total += ways
    return total / math.comb(n1 + n2, found)


def sign_flips(differences):
    """Return the p-value of the exact sign-flip test, two-sided, of paired differences
    (Fisher 1935): of all ways to flip their signs, the share whose mean is at least as far
    from 0 as the one seen. ValueError: there are none, or more than 20."""
    n = len(differences)
    if not 1 <= n <= 20:
        raise ValueError(f"differences must be 1 to 20, got {n}")
    seen = abs(math.fsum(differences))
    slack = 1e-9 * math.fsum(map(abs, differences))  # equal but for rounding
    as_far = 0
    for signs in itertools.product((1, -1), repeat=n):
        flipped = math.fsum(s * d for s, d in zip(signs, differences))
        as_far += abs(flipped) >= seen - slack
    return as_far / 2**n


def holm(ps, of=None):
    """Return the p-values of several tests, each corrected for all of them by the method
    of Holm 1979. of is how many were planned, if some were not run: these count as p = 1.
    """
    of = len(ps) if of is None else of
    smallest_first = sorted(range(len(ps)), key=ps.__getitem__)
    corrected = [0.0] * len(ps)
    before = 0.0
    for rank, k in enumerate(smallest_first):
        before = max(before, min(1.0, (of - rank) * ps[k]))
        corrected[k] = before
    return corrected


def markdown(head, rows):
    """Return a table in Markdown: the names of its columns, then rows of cells."""
    lines = [head, ["---"] * len(head)]
    lines.extend(rows)
    return "\n".join(f"| {' | '.join(map(str, cells))} |" for cells in lines)


def alarms(dead, others):
    """Return how well a signal tells what dies from what does not, a table in Markdown, ""
    where one of the lists is empty.

    dead and others are lists of runs, a run is a list of readings [training steps,
    signal, ...], of the same steps in all. At each of them the alarm is set so that at
    most a tenth of the others exceed it. The column told has how many of the dead do. The
    alarm is set on the runs that it is counted on.
    """
    if not dead or not others:
        return ""
    lines = []
    for k, (step, *_) in enumerate(dead[0]):
        # Rows are rounded: a signal at its ceiling is not above an alarm at its ceiling.
        calm = sorted(round(run[k][1], 4) for run in others)
        allowed = len(calm) // 10  # false alarms
        alarm = calm[-1 - allowed]
        told = sum(round(run[k][1], 4) > alarm for run in dead)
        wrong = sum(signal > alarm for signal in calm)
        cells = [step, f"{alarm:.3g}", f"{told}/{len(dead)}", f"{wrong}/{len(calm)}"]
        lines.append(cells)
    return markdown(["training step", "alarm above", "told", "false alarms"], lines)


def compared(one, other):
    """Return the cells of two rows in the table of compare, and their p-value."""
    counts = (one["found"], one["of"], other["found"], other["of"])
    low, high = difference_interval(*counts)
    points = 100 * (one["found"] / one["of"] - other["found"] / other["of"])
    p = fisher(*counts)
    cells = [
        one["title"],
        other["title"],
        f"{one['found']}/{one['of']}",
        f"{other['found']}/{other['of']}",
        f"{points:+.1f}",
        f"{100 * low:+.1f} to {100 * high:+.1f}",
        f"{p:.2g}",
    ]
    return cells, p


def compare(rows, pairs, planned=()):
    """Return how pairs of rows differ, as a table in Markdown, "" where no pair is there.

    rows are dicts with variant, title, found and of; a pair is two variants. The
    difference is in percentage points, with its 95% interval; p is that of Fisher's exact
    test. planned are lists of pairs: their p-values are corrected within the whole list
    by Holm's method, where a test that was not run counts as p = 1.
    """
    by_variant = {row["variant"]: row for row in rows}
    lines = []
    for group in (*planned, pairs):
        tests = []
        for one, other in group:
            if one in by_variant and other in by_variant:
                tests.append(compared(by_variant[one], by_variant[other]))
        corrected = holm([p for _, p in tests], of=len(group))
        for (cells, _), p in zip(tests, corrected):
            lines.append([*cells, "-" if group is pairs else f"{p:.2g}"])
    head = ["variant", "against", "finds", "finds", "points", "95% interval", "p"]
    return markdown(head + ["Holm"], lines) if lines else ""
