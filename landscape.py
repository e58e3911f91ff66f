"""The pictures of theory.py: the paper's Fig. 2 and, beyond it, the landscape of the two
shares that a network gives."""

import numpy as np
from matplotlib.figure import Figure

import theory as t

MS = {0.3: "#08519c", 0.4: "#5b9bd5", 0.5: "black", 0.6: "#f0a04b", 0.7: "#c04a00"}
THICK, THIN = {"color": "black", "lw": 3.5}, {"color": "#00806a", "lw": 1.8}
PRINTED = {"color": "#d6279a", "ls": (0, (4, 2)), "lw": 1.8}  # a form that is wrong
CEILING = {"color": "0.7", "lw": 7, "solid_capstyle": "butt", "zorder": 0}
WORST = {"marker": "v", "color": "black", "ms": 9, "ls": "none"}
SETTING = """What one decision can score when the truth is ambiguous

Two own regions of P1 and P2 pixels (P if they are equal) touch a common region of b
pixels. The left one owns it with probability m, else the right one.
Dashed in magenta: what the paper prints, where it is wrong."""
READING = """A network gives a share a of the common region to
the left instance and, freely, a share c to the right.

All corners score the same: the tie of Theorem 3.5
prefers none of them. Eq. 12 is the corner "both".
The score rises away from the dashed lines. Undecided,
a = c = 1/2, is above both for every b: the way up
from there leads to "both"."""


def draw_landscape(ax, P, b, m=0.5):
    """Draw F for P1 = P2 = P into a matplotlib Axes: contours (returned), flow of the
    gradient, corners, and dividing points if between 0 and 1."""
    a, c = np.meshgrid(*[np.linspace(0, 1, 101)] * 2)  # (101, 101), a along the columns
    contours = ax.contourf(a, c, t.F(a, c, P, P, b, m), levels=14, cmap="cividis")
    flow = {"color": "white", "density": 0.55, "linewidth": 0.6, "arrowsize": 0.8}
    ax.streamplot(a, c, *t.dF(a, c, P, P, b, m), **flow)
    label = "a*, c*: the score is lowest here along a, along c"
    for line, name, turn, p in (ax.axvline, "a*", 90, m), (ax.axhline, "c*", 0, 1 - m):
        star = t.dividing_point(P, b, p) if p else np.inf
        if 0 < star < 1:
            line(star, color="white", ls="--", lw=1.2, label=label)
            x, y, side = (star - 0.01, 0.02, "right") if turn else (0.02, star, "left")
            look = {"rotation": turn, "ha": side, "color": "white", "fontsize": 8}
            ax.text(x, y, f"{name} = {star:.3f}", va="bottom", **look)
            label = None  # once in the legend
    look = {"fontsize": 9, "va": "center", "zorder": 5}
    look |= {"bbox": {"boxstyle": "round", "fc": "white", "ec": "none", "alpha": 0.85}}
    look |= {"arrowprops": {"arrowstyle": "-", "color": "white"}}
    # Names keep off the diagonals: paths go there.
    for name, (i, j) in t.CORNERS.items():
        at, text = (0.03 + 0.94 * i, 0.28 + 0.44 * j), f"{t.F(i, j, P, P, b, m):.3f}"
        side = "right" if i else "left"
        ax.annotate(f"{name}\n{text}", (i, j), at, ha=side, **look)
        ax.plot(i, j, "o", color="white", mec="black", ms=9, clip_on=False, zorder=5)
    ax.set(xlabel="a: share of the common region given to the left instance")
    ax.set(ylabel="c: share of it given to the right instance")
    ax.set(xlim=(0, 1), ylim=(0, 1), aspect="equal")
    return contours


# What theory says of one instance, by its prior p (across) and r = b/P: the colour of a
# region, where its words stand and what they are.
REGIONS = (
    ("#cfe0f1", 0.27, 2**-1.5, "NOT GIVEN:\nthe only local maximum"),
    ("#e4eef8", 0.298, 2**1.5, "NOT GIVEN scores more;\ngiven: a maximum too"),
    ("#ffe3c4", 0.405, 2**2.5, "GIVEN: undecided climbs there,\nthough it scores less"),
    ("#ffcf9c", 0.68, 2**-1.5, "GIVEN:\nthe only local maximum"),
    ("#ffdcb5", 0.65, 2**2.5, "GIVEN scores more;\nnot given: a maximum too"),
)


def draw_plane(ax, low=0.15, high=0.85, bottom=2**-3.6, top=2**3.6):
    """Draw into Axes to which end an instance by itself goes, see theory.climbs_to, by
    its prior and the size of the common region, and where the other end holds too."""
    p = np.linspace(low, high, 400)
    s, T = np.array([t.limits(x) for x in p]).T  # (400,)
    other = np.array([t.limits(1 - x)[0] for x in p])
    zeros, tops = np.full(400, bottom), np.full(400, top)
    less = p < 0.5
    bands = ((less, zeros, s), (less, s, T), (less, T, tops))
    bands += ((~less, zeros, other), (~less, other, tops))
    for (colour, x, y, text), (where, lower, upper) in zip(REGIONS, bands):
        lower, upper = (np.clip(edge, bottom, top) for edge in (lower, upper))
        ax.fill_between(p, lower, upper, where=where, color=colour, lw=0, zorder=0)
        look = {"ha": "center", "va": "center", "fontsize": 9, "zorder": 4}
        ax.text(x, y, text, **look)
    look = {"color": "black", "zorder": 1}
    ax.plot(
        p[less],
        T[less],
        lw=2.2,
        label="above, undecided climbs to given: r = T(p)",
        **look,
    )
    text = "above, both ends are local maxima"
    for side, edge in ((less, s), (~less, other)):
        ax.plot(p[side], edge[side], "--", lw=1.2, label=text, **look)
        text = None  # once in the legend
    ax.axvline(0.5, ls=":", lw=1.2, label="both ends score the same: p = 1/2", **look)
    ax.set(xlim=(low, high), ylim=(bottom, top), yscale="log")
    sizes = [2.0**k for k in range(-3, 4)]
    names = ["1/8", "1/4", "1/2", "1", "2", "4", "8"]
    ax.set_yticks(sizes, names)
    ax.set_yticks([], minor=True)
    ax.set_xlabel("p: probability that this instance owns the square")
    ax.set_ylabel("r = b/P: size of the square, in sizes of an instance's own part")


def plot():
    """Draw every equation, the paper's Fig. 2 as (a-c), and F. Returns the Figure."""
    fig = Figure(figsize=(9, 13.5), layout="constrained")
    upper, lower = fig.subfigures(2, 1, height_ratios=(2.6, 1))
    axes = upper.subplot_mosaic("ab;cd;ef")
    P, b, x, ms = 4.0, 1.0, np.linspace(0, 1, 201), np.array([*MS])
    for ax, f in zip(axes.values(), (t.I_G, t.dI_G, t.d2I_G)):
        for m, colour in MS.items():
            y = f(x, P, P, b, m)
            ax.plot(x, y, color=colour, lw=1.5)
            ax.text(1.06, y[-1], f"m = {m}", color=colour, va="center", fontsize=8)
    starts, ends, r = (
        t.I_G_at_0(P, P, b, ms),
        t.I_G_at_1(P, P, b, ms),
        4 * x[1:],
    )  # r: b/P
    circles = {"color": "black", "marker": "o", "ls": "none", "ms": 5}
    squares, pair = circles | {"marker": "s"}, circles | {"color": MS[0.3], "ls": ":"}
    y, two, wrong = [0.2, 0.8], np.full(2, 0.3), t.I_symmetric_as_printed(x - 0.5, 1, 1)
    for panel, across, up, look, name in (
        ("a", x, t.I_equal(x, P, b), THICK, "Eq. 6: m = 1/2"),
        ("a", 0 * ms, starts, circles, "Eq. 4: the end x = 0"),
        ("a", 0 * ms + 1, ends, squares, "Eq. 5: the end x = 1"),
        ("a", x, 0 * x + t.I_max(P, b), CEILING, "Eqs. 10, 12: ceiling for m = 1/2"),
        ("a", 0.5, t.I_equal(0.5, P, b), WORST, "Theorem 3.3: worst split, m = 1/2"),
        ("b", x, t.dI_equal(x, P, b), THICK, "Eq. 7: m = 1/2"),
        ("b", 0.5, 0, WORST, "slope 0: worst split, m = 1/2"),
        ("b", x, t.dI_G_as_printed(x, P, P, b, 0.7), PRINTED, "Eq. 2 printed: m = 0.7"),
        ("c", x, t.d2I_equal(x, P, b), THICK, "Eq. 8: m = 1/2"),
        ("c", 0.5, t.d2I_equal_at_half(P, b), WORST, "Eq. 9: m = 1/2, x = 1/2"),
        ("c", x, t.d2I_G(x, P, 3, b, 0.5), THIN, "Eq. 3 corrected: P2 = 3, m = 1/2"),
        ("c", x, t.d2I_G_as_printed(x, P, 3, b, 0.5), PRINTED, "Eq. 3 printed: P2 = 3"),
        ("d", x, 0 * x + t.I_max(1, 1), CEILING, "Eq. 10: ceiling"),
        (
            "d",
            x,
            t.I_symmetric(x - 0.5, 1, 1),
            THICK,
            "Eq. 11 corrected, which is Eq. 6",
        ),
        ("d", y, t.I_symmetric(two, 1, 1), pair, "a symmetric pair scores the same"),
        ("d", x, wrong, PRINTED, "Eq. 11 printed: below Eq. 10 at the ends"),
        ("e", x, t.ceiling(1, 1, 1, x), CEILING, "ceiling: the better of the two"),
        ("e", x, t.I_G_at_0(1, 1, 1, x), {"color": MS[0.3]}, "Eq. 4: right gets b"),
        ("e", x, t.I_G_at_1(1, 1, 1, x), {"color": MS[0.7]}, "Eq. 5: left gets b"),
        ("e", x, 1.5 - abs(x - 0.5), PRINTED, "Corollary 3.2 printed: the worse"),
        ("f", r, t.I_max(1, r), CEILING, "Eqs. 10, 12: b to one or to both"),
        ("f", r, t.I_equal(0.5, 1, r), THICK, "Eq. 6 at x = 1/2: b split evenly"),
    ):
        axes[panel].plot(across, up, label=name, **look)
    titles = {
        "a": "Any split is worse than the best end\nEqs. 1, 4-6, 10, 12; P = 4, b = 1",
        "b": "The slope of (a): one minimum\nEqs. 2 (corrected), 7; P = 4, b = 1",
        "c": "The slope rises: (a) is convex\nEqs. 3 (corrected), 8, 9; P = 4, b = 1",
        "d": "The score mirrors itself at x = 1/2\nEqs. 6, 10, 11; b = P, m = 1/2",
        "e": "The likelier owner should get b\nEqs. 4, 5, Corollary 3.2; b = P",
        "f": "The larger b, the more an even split costs\nEqs. 6, 10, 12; m = 1/2",
    }
    below = {"e": "m: probability that the left instance owns b"}
    below |= {"f": "b/P: size of the common region"}
    beside = {"b": "slope of the score", "c": "second derivative of the score"}
    for panel, ax in axes.items():
        ax.set_title(f"({panel}) {titles[panel]}", fontsize=10, loc="left")
        ax.set(xlabel=below.get(panel, "x: share of b given to the left instance"))
        score = "IoU left + IoU right,\naveraged over both truths"
        ax.set(ylabel=beside.get(panel, score))
        legend = ax.legend(fontsize=8, loc="upper center")
        bottom, top = ax.get_ylim()  # room for the legend above the curves
        ax.set_ylim(bottom, top + (top - bottom) * 0.16 * len(legend.texts))
    axes["d"].set_xticks([0, 0.2, 0.5, 0.8, 1], ["0", "1/2 - y", "1/2", "1/2 + y", "1"])
    ax, key = lower.subplots(1, 2)
    lower.colorbar(draw_landscape(ax, 1, 1), ax=ax, label="average score F", shrink=0.8)
    path, red = t.ascend(0.5, 0.5, 1, 1, 1, 0.5).T, "#e0301e"
    ax.plot(*path, color="white", lw=5, zorder=6)
    ax.plot(*path, color=red, lw=3, label="gradient ascent from undecided", zorder=6)
    ax.plot(0.5, 0.5, "s", color=red, mec="white", ms=10, zorder=7)
    ax.plot([0, 1], [1, 0], "k:", label="the paper's splits, c = 1 - a")
    title = '(g) Why "both": the corners tie, the way there decides\n'
    ax.set_title(title + "own regions learned, b = P, m = 1/2", fontsize=10, loc="left")
    key.text(0, 0.98, READING, va="top", fontsize=9)
    key.legend(*ax.get_legend_handles_labels(), loc="lower left", facecolor="0.6")
    key.axis("off")
    fig.suptitle(SETTING, fontsize=10)
    return fig
