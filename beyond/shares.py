"""The pictures of theory.py: the paper's Fig. 2 and, beyond it, the landscape of the two
shares that a network gives, drawn once or explored in a window."""

from fractions import Fraction

import numpy as np
from matplotlib.backend_bases import FigureManagerBase
from matplotlib.figure import Figure
from matplotlib.widgets import Slider

import theory as t

MS = {0.3: "#08519c", 0.4: "#5b9bd5", 0.5: "black", 0.6: "#f0a04b", 0.7: "#c04a00"}
THICK, THIN = {"color": "black", "lw": 3.5}, {"color": "#00806a", "lw": 1.8}
PRINTED = {"color": "#d6279a", "ls": (0, (4, 2)), "lw": 1.8}  # a form that is wrong
CEILING = {"color": "0.7", "lw": 7, "solid_capstyle": "butt", "zorder": 0}
RED = "#e0301e"  # of a path
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
a = c = 1/2, is above the two for every b: the way up
from there leads to "both"."""

# The sliders of explore: (name, lowest, highest, at first, step, what it is).
SLIDERS = (
    ("P1", 1, 256, 64, 1, "own pixels of the left instance"),
    ("P2", 1, 256, 64, 1, "own pixels of the right instance"),
    ("b", 1, 256, 64, 1, "pixels of the common region"),
    ("m", 0, 1, 0.5, 0.01, "left one owns b in 2m/K, right one in 2(1-m)/K"),
    ("K", 2, 6, 2, 1, "instances that may own b; two are drawn"),
)


def draw_landscape(ax, P1, P2, b, p1=0.5, p2=0.5):
    """Draw into a matplotlib Axes the mean score of two instances that own b with the
    priors p1 and p2, which is F if these are m and 1 - m: contours (returned), flow of
    the gradient, corners, and dividing points if between 0 and 1. ValueError: see
    theory.check."""
    sides = (P1, p1), (P2, p2)

    def score(*shares):
        return sum(t.instance_mean(x, p, P, b) for x, (P, p) in zip(shares, sides))

    a, c = np.meshgrid(*[np.linspace(0, 1, 101)] * 2)  # (101, 101), a along the columns
    contours = ax.contourf(a, c, score(a, c), levels=14, cmap="cividis")
    slopes = (t.instance_slope(x, p, P, b) for x, (P, p) in zip((a, c), sides))
    flow = {"color": "white", "density": 0.55, "linewidth": 0.6, "arrowsize": 0.8}
    ax.streamplot(a, c, *slopes, **flow)
    label = "a*, c*: the score is lowest here along a, along c"
    for line, name, turn, (P, p) in zip((ax.axvline, ax.axhline), "ac", (90, 0), sides):
        star = t.dividing_point(P, b, p) if p else np.inf
        if 0 < star < 1:
            line(star, color="white", ls="--", lw=1.2, label=label)
            # The text stays inside, and clear of the corners' names and of a*'s.
            x, y, side = star + (0.035 if star < 0.06 else -0.01), 0.02, "right"
            if not turn:
                x, y, side = 0.02, star - 0.03 * (star > 0.94), "left"
                if star < 0.38 or abs(star - 0.72) < 0.1:
                    x = 0.45
            look = {"rotation": turn, "ha": side, "color": "white", "fontsize": 8}
            ax.text(x, y, f"{name}* = {star:.3f}", va="bottom", **look)
            label = None  # once in the legend
    look = {"fontsize": 9, "va": "center", "zorder": 5}
    look |= {"bbox": {"boxstyle": "round", "fc": "white", "ec": "none", "alpha": 0.85}}
    look |= {"arrowprops": {"arrowstyle": "-", "color": "white"}}
    # Names keep off the diagonals: paths go there.
    for name, (i, j) in t.CORNERS.items():
        at, text = (0.03 + 0.94 * i, 0.28 + 0.44 * j), f"{score(i, j):.3f}"
        side = "right" if i else "left"
        ax.annotate(f"{name}\n{text}", (i, j), at, ha=side, **look)
        ax.plot(i, j, "o", color="white", mec="black", ms=9, clip_on=False, zorder=5)
    ax.set(xlabel="a: share of the common region given to the left instance")
    ax.set(ylabel="c: share of it given to the right instance")
    ax.set(xlim=(0, 1), ylim=(0, 1), aspect="equal")
    return contours


def draw_path(ax, path, label):
    """Draw a path (n, 2) of ascent, its start marked, into the Axes of draw_landscape."""
    ax.plot(*path.T, color="white", lw=5, zorder=6)
    ax.plot(*path.T, color=RED, lw=3, label=label, zorder=6)
    ax.plot(*path[0], "s", color=RED, mec="white", ms=10, zorder=7)


# What theory says of one instance, by its prior p (across) and r = b/P: the colour of a
# region, where its words stand and what they are.
REGIONS = (
    ("#cfe0f1", 0.27, 2**-1.5, "NOT GIVEN:\nthe only local maximum"),
    ("#e4eef8", 0.298, 2**1.5, "NOT GIVEN scores more;\ngiven: a maximum too"),
    ("#ffe3c4", 0.411, 2**2.5, "GIVEN: undecided climbs there,\nthough it scores less"),
    ("#ffcf9c", 0.68, 2**-1.5, "GIVEN:\nthe only local maximum"),
    ("#ffdcb5", 0.65, 2**2.5, "GIVEN scores more;\nnot given: a maximum too"),
)


def turn(p, bottom, top, P=64, area=32**2):
    """The size r = b/P from which theory.untrained_end is "given", between two sizes; NaN
    where it turns outside of them."""
    ends = [t.untrained_end(p, P, r * P, area) for r in (bottom, top)]
    if ends != ["not given", "given"]:
        return np.nan
    for _ in range(10):  # halve the interval, on a logarithmic scale
        r = (bottom * top) ** 0.5
        given = t.untrained_end(p, P, r * P, area) == "given"
        bottom, top = (bottom, r) if given else (r, top)
    return (bottom * top) ** 0.5


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
        look["bbox"] = {"fc": colour, "ec": "none", "pad": 1}  # clear of the lines
        ax.text(x, y, text, **look)
    look = {"color": "black", "zorder": 1}
    ax.plot(
        p[less],
        T[less],
        lw=2.2,
        label="above, undecided climbs to given: r = T(p)",
        **look,
    )
    ps = np.linspace(low, 0.498, 30)  # P = 64 in an image of 32 x 32 pixels
    label = "above, an untrained mask (P = 64) climbs to given"
    ax.plot(ps, [turn(p, bottom, top) for p in ps], "#b0176b", lw=1.8, label=label)
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
    starts, ends = t.I_G_at_0(P, P, b, ms), t.I_G_at_1(P, P, b, ms)
    r, eq11 = 4 * x[1:], t.I_symmetric(x - 0.5, 1, 1)  # r: b/P
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
        ("d", x, eq11, THICK, "Eq. 11 corrected, which is Eq. 6"),
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
    contours = draw_landscape(ax, 1, 1, 1)
    lower.colorbar(contours, ax=ax, label="average score F", shrink=0.8)
    path = t.ascend(0.5, 0.5, 1, 1, 1, 0.5)
    draw_path(ax, path, "gradient ascent from undecided")
    ax.plot([0, 1], [1, 0], "k:", label="the paper's splits, c = 1 - a")
    title = '(g) Why "both": the corners tie, so the way there counts\n'
    ax.set_title(title + "own regions learned, b = P, m = 1/2", fontsize=10, loc="left")
    key.text(0, 0.98, READING, va="top", fontsize=9)
    key.legend(*ax.get_legend_handles_labels(), loc="lower left", facecolor="0.6")
    key.axis("off")
    fig.suptitle(SETTING, fontsize=10)
    return fig


def climb(start, sides, b):
    """The way up from the shares start = (a, c) if sides are ((P1, p1), (P2, p2)): the
    path, (n, 2). Unlike theory.ascend it moves at an even pace, since slopes may be tiny,
    and its end is exact: that of theory.climbs_to."""
    shares = np.array(start, float)
    ends = [t.climbs_to(p, P, b, a=x) == "given" for x, (P, p) in zip(start, sides)]
    path, way = [shares], 2 * np.array(ends) - 1
    while (shares != ends).any():
        slopes = [t.instance_slope(x, p, P, b) for x, (P, p) in zip(shares, sides)]
        # Each share moves one way only; from a rest it is nudged.
        speeds = np.abs(slopes).clip(1e-12) * (shares != ends)
        shares = (shares + 0.01 * way * speeds / speeds.max()).clip(0, 1)
        path.append(shares)
    return np.array(path)


def in_words(path, sides, b):
    """What a landscape holds, as text: where the path of climb leads, the best corners and
    the local maxima. It is exact if the priors are Fractions."""

    def names(ends):  # of the corners with one of these ends for either instance
        of = {"not given", "tie"}, {"given", "tie"}  # the shares 0 and 1
        i, j = ([bool(of[x] & found) for x in (0, 1)] for found in ends)
        return ", ".join(k for k, (a, c) in t.CORNERS.items() if i[a] and j[c])

    start, end = map(tuple, path[[0, -1]])
    where = "a = {:.3f}, c = {:.3f}".format(*start)
    where = "undecided, a = c = 1/2," if start == (0.5, 0.5) else where
    end = next(k for k, corner in t.CORNERS.items() if corner == end)
    best = names([{t.better_end(p, P, b)} for P, p in sides])
    tie = "s, which tie exactly" if "," in best else ""
    maxima = names([t.local_maxima(p, P, b) for P, p in sides])
    text = "b is the left one's with probability {:.3f},\nthe right one's with {:.3f}."
    text = text.format(*(float(p) for _, p in sides))
    text += f"\n\nAscent from {where}\nleads to: {end}\n\nBest corner{tie}:\n{best}"
    return f"{text}\n\nNo small step improves:\n{maxima}"


def explore(show=True):
    """Open a window with draw_landscape and SLIDERS; a click sets where the ascent
    starts. Returns the Figure and the sliders {name: Slider}, when the window is closed
    or, in a notebook, at once. Not shown, it needs no display. ImportError: there is
    none, or matplotlib cannot use it."""
    import matplotlib.pyplot as plt  # which nothing else here needs

    fig = plt.figure(figsize=(11, 6.6))
    if show and type(fig.canvas.manager).show is FigureManagerBase.show:
        plt.close(fig)
        raise ImportError(
            f"no window here: matplotlib's backend is {plt.get_backend()}"
        )
    ax = fig.add_axes((0.06, 0.1, 0.5, 0.83))
    bar = fig.add_axes((0.59, 0.1, 0.015, 0.83))
    words = fig.text(0.7, 0.46, "", va="top", fontsize=10)
    start, sliders = [0.5, 0.5], {}
    for k, (name, low, high, value, step, text) in enumerate(SLIDERS):
        scale = "log" if high > 9 else "linear"
        place = fig.add_axes((0.73, 0.9 - 0.09 * k, 0.22, 0.03), xscale=scale)
        place.set_title(text, fontsize=8, loc="left", pad=2)
        look = {"valstep": step, "valfmt": "%.2f" if step < 1 else "%d"}
        sliders[name] = s = Slider(place, name, low, high, valinit=value, **look)
        s.label.set_x(-0.05)
        s.valtext.set_x(1.05)

    def update(_=None):
        P1, P2, b, K = (round(sliders[name].val) for name in ("P1", "P2", "b", "K"))
        m = Fraction(round(100 * sliders["m"].val), 100)  # exact, so that ties are seen
        sides = (P1, 2 * m / K), (P2, 2 * (1 - m) / K)
        ax.clear()
        bar.clear()
        contours = draw_landscape(ax, P1, P2, b, *(float(p) for _, p in sides))
        fig.colorbar(contours, cax=bar, format="%.8g")
        path = climb(start, sides, b)
        draw_path(ax, path, "ascent")
        ax.plot(*path[-1], "*", color=RED, mec="white", ms=18, clip_on=False, zorder=7)
        title = "Mean score of the two instances. A click sets the start."
        ax.set_title(title, fontsize=10, loc="left")
        words.set_text(in_words(path, sides, b))
        fig.canvas.draw_idle()

    def click(event):
        if event.inaxes is ax and not fig.canvas.widgetlock.locked():  # else it zooms
            start[:] = np.clip((event.xdata, event.ydata), 0, 1)
            update()

    for slider in sliders.values():
        slider.drawon = False  # update draws
        slider.on_changed(update)
    fig.canvas.mpl_connect("button_press_event", click)
    update()
    if show:
        plt.show()
    return fig, sliders
