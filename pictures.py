"""How masks and scores are shown: painted images, galleries, films, curves, bars."""

from fractions import Fraction

import numpy as np
import torch
from matplotlib.animation import PillowWriter
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Circle, Patch, Rectangle, Wedge
from matplotlib.transforms import ScaledTranslation

import common
import data
import landscape
import losses

RED, YELLOW, ORANGE = (0.88, 0.20, 0.20), (1.00, 0.90, 0.20), (1.00, 0.52, 0.05)
BLUE, GREEN = (0.25, 0.50, 0.95), (0.15, 0.62, 0.35)
# How an outcome is drawn: as it is painted, and told apart without colours too.
LOOKS = {
    "left": {"fc": RED},
    "right": {"fc": YELLOW},
    "both": {"fc": ORANGE, "hatch": ".."},
    "neither": {"fc": "white"},
    "split": {"fc": "0.85", "hatch": "//"},
    "unlearned": {"fc": "white", "hatch": "xxxx"},
    "died": {"fc": "black"},
}
# The same for one instance and, of three or four, for a decision; what that means.
ENDS = {"given": {"fc": ORANGE}, "all": {"fc": ORANGE}, "one": {"fc": RED}}
ENDS |= {"some": {"fc": RED}, "not given": {"fc": "white"}, "nobody": {"fc": "white"}}
ENDS |= {"split": {"fc": "0.6"}, "unlearned": {"fc": "black"}}
MEANS = {"given": "given (three or four owners: to all)"}
MEANS |= {"one": "to one or to some of them"}
MEANS |= {"not given": "not given (three or four: to nobody)"}
MEANS |= {"split": "a part given", "unlearned": "the rest of a shape is wrong"}
PREDICTED = {"given": "#ffdcb5", "not given": "#cfe0f1"}  # as in landscape.REGIONS
RINGS = {2: ("black", 0.8), 3: ("#00806a", 2.5), 4: ("#8a4fb0", 2.5)}  # by owners
BOX = {"boxstyle": "round,pad=0.2", "fc": "white", "ec": "none", "alpha": 0.9}
# Where a legend stands: below a figure, below Axes.
BELOW = {"loc": "outside lower center", "frameon": False}
UNDER = {"loc": "upper center", "bbox_to_anchor": (0.5, -0.13)}


def paint(images, masks):
    """images (n, 1, H, W), masks (n, 2, H, W) of one decision -> RGB (n, H, W, 3) in
    [0, 1], a tensor on the CPU: left instance red, right one yellow, both orange and,
    where both masks exceed 1/2, dotted; shares in between mix; unclaimed is grey. A third
    and a fourth instance are blue and green; orange is what several of them claim."""
    images, masks = images.detach().cpu(), masks.detach().cpu()
    rest = 1 - masks  # (n, K, H, W), what an instance does not claim
    grey = 0.15 + 0.8 * images[:, 0, ..., None].clamp(0, 1)  # (n, H, W, 1)
    rgb, several = rest.prod(1)[..., None] * grey, 1 - rest.prod(1)
    for k, colour in enumerate((RED, YELLOW, BLUE, GREEN)[: masks.shape[1]]):
        others = torch.cat((rest[:, :k], rest[:, k + 1 :]), 1)
        alone = masks[:, k] * others.prod(1)  # (n, H, W), claimed by this one only
        rgb = rgb + alone[..., None] * torch.tensor(colour)  # (n, H, W, 3)
        several = several - alone
    rgb = rgb + several[..., None] * torch.tensor(ORANGE)
    dots = (masks > 0.5).sum(1) > 1  # (n, H, W)
    dots[:, ::2] = dots[:, :, ::2] = False
    rgb[dots] *= 0.6
    return rgb.clamp(0, 1)


def grid(fig, images, titles, masks, parts=None):
    """Fill a Figure or SubFigure with images (n, 1, H, W), a row each, painted with each
    of masks (n, columns, 2, H, W), and outline the common region if parts (n, 3, H, W)
    are given. Returns the Axes (n, columns)."""
    axes = fig.subplots(*masks.shape[:2], squeeze=False)
    for j, title in enumerate(titles):
        axes[0, j].set_title(title, fontsize=9)
        for i, rgb in enumerate(paint(images, masks[:, j])):
            axes[i, j].imshow(rgb.numpy(), interpolation="nearest")
            axes[i, j].set(xticks=[], yticks=[])
            if parts is not None:
                y, x = parts[i, 1].cpu().nonzero().T
                low = x.min().item() - 0.5, y.min().item() - 0.5
                side = (x.max() - x.min()).item() + 1
                axes[i, j].add_patch(Rectangle(low, side, side, fill=False, ls="--"))
    return axes


def gallery(fig, images, parts, masks=None, rows=3):
    """Fill a matplotlib SubFigure: a row an image, with the input, both truths and each
    decision of masks (n, D, 2, H, W), if given, under its outcome for that image."""
    images, parts = images[:rows], parts[:rows]
    truths = data.groupings(parts)  # (rows, 2, 2, H, W)
    masks = truths[:, :0] if masks is None else masks[:rows]
    titles = ["input", "left owns it", "right owns it"]
    titles += [f"decision {d + 1}" for d in range(masks.shape[1])]
    painted = torch.cat((torch.zeros_like(truths[:, :1]), truths, masks), 1)
    axes = grid(fig, images, titles, painted, parts)
    for row, found in zip(axes, data.outcomes(masks, parts)):
        for ax, outcome in zip(row[3:], found):
            ax.set_xlabel(data.OUTCOMES[outcome], fontsize=9)
    looks = {"left": "left instance", "right": "right instance", "both": "both"}
    if not masks.shape[1]:
        del looks["both"]  # no truth is that
    handles = [Patch(ec="black", label=v, **LOOKS[k]) for k, v in looks.items()]
    handles.append(Patch(fill=False, ls="--", label="common region"))
    fig.legend(handles=handles, fontsize=9, ncols=4, **BELOW)


def evenly(history, n):
    """The places of at most n rows of a history, evenly spaced on a logarithmic axis."""
    steps = np.array([row["step"] for row in history])
    wanted = np.geomspace(1, steps[-1], n)
    return sorted({int(np.abs(steps - step).argmin()) for step in wanted})


def strip(fig, history, film, image, columns=11):
    """Fill a matplotlib SubFigure with one image's decisions over the training: a row a
    decision, a column a step, dense early. film is the list of masks (n, D, 2, H, W) of
    n images at the steps of history; image (1, H, W) is the first of these."""
    chosen = evenly(history, columns)
    masks = torch.stack([film[k][0] for k in chosen], 1)  # (D, columns, 2, H, W)
    titles = [f"step {history[k]['step']}" for k in chosen]
    axes = grid(fig, image.expand(len(masks), 1, -1, -1), titles, masks)
    for d, ax in enumerate(axes[:, 0]):
        ax.set_ylabel(f"decision {d + 1}", fontsize=9)
    fig.suptitle("The first of these images during the training", fontsize=10)


def overview(title, history, film, images, parts, masks):
    """The picture of an experiment: gallery, strip and, at the right, room for a panel.
    Returns the Figure and the SubFigure of that panel."""
    rows = 1 + masks.shape[1]
    fig = Figure(figsize=(13, 5.2 + 1.4 * rows), layout="constrained")
    top, bottom = fig.subfigures(2, 1, height_ratios=(5.2, rows))
    left, right = top.subfigures(1, 2, width_ratios=(1.1, 1))
    gallery(left, images, parts, masks)
    strip(bottom, history, film, images[0])
    fig.suptitle(title)
    return fig, right


def curves(ax, history, ceiling):
    """Draw into a matplotlib Axes, over training, the score of each decision against
    each grouping, of the better one, and the ceiling of a single decision."""
    steps = [row["step"] for row in history]
    colours = ("tab:blue", "tab:olive", "tab:purple", "tab:brown", "tab:cyan")
    for d in range(len(history[0]["decisions"])):
        look = {"color": colours[d % 5], "ls": ("-", "--", ":")[d % 3], "lw": 1.2}
        for grouping, marker in (("left", "<"), ("right", ">")):
            y = [row["decisions"][d][f"score_{grouping}_grouping"] for row in history]
            look |= {"label": f"decision {d + 1} if the truth is {grouping}"}
            ax.plot(steps, y, marker=marker, ms=6, markevery=(0.04 * d, 0.1), **look)
    y = [row["score"] for row in history]
    ax.plot(steps, y, color="black", lw=2.5, label="better decision, mean")
    label = f"most that one decision can score, {ceiling:.3f}"
    ax.axhline(ceiling, color="0.5", ls="-.", label=label)
    if (step := data.broken_at(history, ceiling)) is not None:
        label = f"above {ceiling:.3f} from step {step}"
        ax.axvline(step, color="0.5", ls=":", label=label)
    ax.set(xscale="log", xlabel="training step (logarithmic)", ylim=(0, 2.05))
    ax.set_ylabel("score on a batch (IoU left + IoU right)")
    ax.legend(fontsize=8, frameon=False, ncols=2, **UNDER)


def path(ax, history):
    """Draw into the Axes of landscape.draw_landscape the shares (a, c) that decision 1
    gives over training, each in the colour it paints the common region."""
    first = [row["decisions"][0] for row in history]
    shares = torch.tensor([(d["common_left"], d["common_right"]) for d in first])
    colours = paint(torch.ones(len(first), 1, 1, 1), shares[:, :, None, None])[:, 0, 0]
    a, c = shares.T.numpy()  # (rows,)
    ax.plot(a, c, color="black", lw=1.2, zorder=6)
    early = np.array([d["outcome"] == "unlearned" for d in first])
    look = {"s": 70, "edgecolors": "black", "linewidths": 0.8, "zorder": 7}
    label = "the network in training, in the colour of its common region"
    ax.scatter(a[~early], c[~early], c=colours.numpy()[~early], label=label, **look)
    label = "white: own parts not learned, so that the ground does not hold yet"
    ax.scatter(a[early], c[early], c="white", label=label, **look | {"s": 25})
    text = {"textcoords": "offset points", "fontsize": 9, "bbox": BOX, "zorder": 8}
    ax.annotate("untrained", (a[0], c[0]), xytext=(12, -16), **text)
    ax.legend(facecolor="0.6", fontsize=9, **UNDER)  # grey, since a* is drawn in white


def save_film(path, title, history, film, images):
    """Save a GIF: the first test images (n, 1, H, W) and what is decided on them, film
    as in strip, over the training, with step and score."""
    blank = torch.zeros_like(film[0][:, :1])  # (n, 1, 2, H, W), the input as it is
    n, columns = len(blank), 1 + film[0].shape[1]
    side, gap = 64 / 80, 4 / 80  # inches at 80 dpi: two pixels a pixel compress well
    width, height = (side + gap) * columns + gap, (side + gap) * n + 0.8
    fig = Figure(figsize=(width, height))
    titles = ["input"] + [f"decision {d}" for d in range(1, columns)]
    axes = grid(fig, images[:n], titles, torch.cat((blank, film[0]), 1))
    edges = gap / width, 0.3 / height, 1 - gap / width, 1 - 0.5 / height
    fig.subplots_adjust(*edges, gap / side, gap / side)
    fig.suptitle(title, fontsize=9, y=0.99)
    footer = fig.text(0.5, 0.08 / height, "", ha="center", fontsize=9)
    rows = evenly(history, 90 // columns)  # more columns, fewer frames

    def write(temporary):
        writer = PillowWriter(fps=8)
        with writer.saving(fig, temporary, dpi=80):
            for k in rows + [rows[-1]] * 12:  # the end stands still
                for column, masks in zip(axes.T[1:], film[k].unbind(1)):
                    for ax, rgb in zip(column, paint(images[:n], masks)):
                        # Fewer colours, a smaller file.
                        ax.images[0].set_data((rgb * 16).round().numpy() / 16)
                footer.set_text("step {step}, score {score:.2f}".format(**history[k]))
                writer.grab_frame()

    common.save(path, write)


def bars(groups, title, row=0.52):
    """What runs end in: a row a variant, of exp_controls.summarise, under its question
    {question: rows}; a stacked bar, and how often the two groupings are found. A row is
    so many inches high. Returns the Figure."""
    height = 1.7 + row * sum(len(shown) + 0.6 for shown in groups.values())
    fig = Figure(figsize=(11, height), layout="constrained")
    ax, right = fig.subplots(1, 2, sharey=True, width_ratios=(1.9, 1))
    middle = {"ha": "center", "va": "center", "fontsize": 9, "bbox": BOX}
    y, places, seen = 0.0, {}, set()
    for question, shown in groups.items():
        ax.text(0, y, question, weight="bold", va="center")
        y += 0.6
        for r in shown:
            start = 0.0
            for outcome, count in r["outcomes"].items():
                ends, share = outcome.split(" + "), count / r["of"]
                seen |= set(ends)
                high = 0.68 / len(ends)
                for k, end in enumerate(ends):  # a stripe a decision
                    look = LOOKS[end] | {"ec": "0.35", "lw": 0, "align": "edge"}
                    ax.barh(y - 0.34 + k * high, share, high, start, **look)
                ax.barh(y, share, 0.68, start, fill=False, ec="black", lw=1.2)
                name = f"{outcome}: " if share > 0.019 * len(outcome) else ""
                ax.text(start + share / 2, y, f"{name}{count}", **middle)
                start += share
            share = r["found"] / r["of"]
            right.plot(r["interval"], [y, y], "k|-", [share], [y], "ko", ms=7)
            right.text(1.06, y, f"{r['found']} of {r['of']}", va="center", fontsize=9)
            places[y] = r["title"]
            y += 1
    ax.set_yticks(list(places), list(places.values()), fontsize=9)
    ax.set(xlim=(0, 1), ylim=(y - 0.4, -0.5), xlabel="share of the runs")
    ax.set_title("What the decisions end in, and in how many runs", fontsize=11)
    right.set(xlim=(-0.03, 1.4), xticks=np.linspace(0, 1, 5))
    right.set_xlabel("share of the runs (95% interval)")
    right.set_title("Runs that find the two groupings", fontsize=11)
    right.grid(axis="x", color="0.85")
    right.tick_params(axis="y", length=0)
    handles = [Patch(ec="black", label=k, **LOOKS[k]) for k in LOOKS if k in seen]
    text = "Who gets the common region: a bar has a stripe a decision\n"
    text += "(split: a part of it; unlearned: the rest of a shape is wrong)"
    fig.legend(handles=handles, title=text, fontsize=10, ncols=7, **BELOW)
    fig.suptitle(title)
    return fig


def pie(ax, x, y, counts, looks, ring=("black", 0.8), radius=0.115):
    """Draw into Axes, at (x, y), counts {name: count} as a pie, each in its look of looks;
    a ring of that colour and width around it; the radius is in inches."""
    place = ScaledTranslation(x, y, ax.transData)
    where = {"transform": ax.figure.dpi_scale_trans + place, "zorder": 5}
    total, end = sum(counts.values()), 90.0  # degrees: from the top, clockwise
    for name in looks:
        start, end = end, end - 360 * counts.get(name, 0) / total
        if start > end:
            look = looks[name] | where | {"ec": "0.2", "lw": 0.5 * (end > -270)}
            ax.add_patch(Wedge((0, 0), radius, end, start, **look))
    colour, width = ring
    ax.add_patch(Circle((0, 0), radius, fill=False, ec=colour, lw=width, **where))


def successes(ax, rows):
    """Draw into Axes how often networks find all groupings, a row each: a dot and its 95%
    interval. rows are dicts with network, K, T, found, of, interval; a name once."""
    y, places, before = 0.0, {}, None
    for r in rows:
        if r["network"] != before:
            before = r["network"]
            ax.text(0, y, before, weight="bold", va="center", fontsize=9)
            y += 0.8
        ax.plot(r["interval"], [y, y], "k|-", [r["found"] / r["of"]], [y], "ko", ms=6)
        ax.text(1.05, y, f"{r['found']} of {r['of']}", va="center", fontsize=9)
        places[y] = f"{r['K']} owners, {r['T']} decisions"
        y += 0.8
    ax.set_yticks(list(places), list(places.values()), fontsize=9)
    ax.set(xlim=(-0.03, 1.3), ylim=(y - 0.3, -0.5), xticks=[0, 0.25, 0.5, 0.75, 1])
    ax.set_xlabel("share of the runs (95% interval)")
    ax.grid(axis="x", color="0.88")


def owners(numbers, flips):
    """The Figure of exp_owners.py: on the plane of landscape.draw_plane what runs ended in,
    an example with two owners beside one with three, and which networks find all. numbers
    are those of owners.json, flips what that function returns."""
    points, agreed = numbers["points"], numbers["agreement"]
    fig = Figure(figsize=(15, 10), layout="constrained")
    left, right = fig.subfigures(1, 2, width_ratios=(1.5, 1))
    ax = left.subplots()
    landscape.draw_plane(ax)
    for point in points:
        pie(ax, point["p"], point["r"], point["outcomes"], ENDS, RINGS[point["K"]])
    lines, _ = ax.get_legend_handles_labels()
    ring = {"ls": "none", "marker": "o", "mfc": "none", "ms": 11}
    for K, (colour, width) in RINGS.items():
        look = ring | {"mec": colour, "mew": width}
        lines += ax.plot(
            [], [], label=f"{K} owners" + ", equally likely" * (K > 2), **look
        )
    seen = {end for point in points for end in point["outcomes"]}
    names = {k: text for k, text in MEANS.items() if k != "split" or k in seen}
    handles = [Patch(ec="black", label=text, **ENDS[k]) for k, text in names.items()]
    left.legend(handles=handles + lines, fontsize=9, ncols=3, **BELOW)
    first = [row for row in agreed if row["rule"] == agreed[0]["rule"]]
    texts = {"away": "away from the bold line", "near": "near it"}
    found = ", ".join(
        f"{row['as_predicted']} of {row['of']} points {texts[row['where']]}"
        for row in first
    )
    text = "Who gets the square? Background: theory, for one instance. Pies: trained\n"
    ax.set_title(f"{text}networks. As the bold line says end {found}", fontsize=11)
    top, bottom = right.subfigures(2, 1, height_ratios=(1, 2.5))
    halves = top.subfigures(1, 2)
    for half, (title, shown) in zip(halves, flips.items()):
        masks = torch.stack((0 * shown[:, 2:], shown[:, 2:]), 1)  # (1, 2, K, H, W)
        grid(half, shown[:, :1], ["image, no noise", "decision"], masks, shown)
        half.suptitle(title, fontsize=10)
    text = "A mask of its own colour for each instance; orange: claimed by several"
    top.supxlabel(text, fontsize=9)
    ax = bottom.subplots()
    successes(ax, numbers["networks"])
    text = "Which networks find all groupings?\n(r = 1, owners equally likely)"
    ax.set_title(text, fontsize=11)
    return fig


def starts(points):
    """The Figure of exp_start.py: for each start of the masks a panel with what runs ended
    in, by prior and size, on the colour of what was predicted. points are what its
    summarise returns."""
    panels = {}
    for q in points:
        panels.setdefault(q["start"], {}).setdefault(q["p"], []).append(q)
    widths = [len(columns) + 0.6 for columns in panels.values()]
    fig = Figure(figsize=(max(2 + 0.55 * sum(widths), 8), 5.6), layout="constrained")
    axes = fig.subplots(1, len(panels), squeeze=False, width_ratios=widths)[0]
    sizes = sorted({q["r"] for q in points})
    for ax, (start, columns) in zip(axes, panels.items()):
        for x, p in enumerate(sorted(columns)):
            for q in columns[p]:
                y = sizes.index(q["r"])
                colour = PREDICTED[q["predicted"]]
                ax.add_patch(Rectangle((x - 0.5, y - 0.5), 1, 1, fc=colour, ec="white"))
                pie(ax, x, y, q["outcomes"], ENDS, radius=0.14)
        names = [
            f"{p:.3g}\n(new)" if "new" in columns[p][0]["where"] else f"{p:.3g}"
            for p in sorted(columns)
        ]
        ax.set_xticks(range(len(columns)), names)
        ax.set(xlim=(-0.5, len(columns) - 0.5), ylim=(-0.5, len(sizes) - 0.5))
        ax.set_yticks(range(len(sizes)), [str(Fraction(r)) for r in sizes])
        ax.tick_params(labelsize=9, length=0)
        name = "1/2" if start == 0.5 else f"{start}"
        ax.set_title(f"untrained masks are\n{name} on average", fontsize=10)
    axes[0].set_ylabel("r = b/P: size of the square")
    axes[0].set_xlabel("p: probability that this instance owns the square")
    handles = [Patch(fc=c, label=f"predicted: {end}") for end, c in PREDICTED.items()]
    seen = {end for q in points for end in q["outcomes"]}
    texts = {end: "a part" if end == "split" else end for end in ENDS if end in seen}
    texts |= {"unlearned": MEANS["unlearned"]} if "unlearned" in seen else {}
    handles += [
        Patch(ec="black", label=f"trained: {t}", **ENDS[k]) for k, t in texts.items()
    ]
    fig.legend(handles=handles, fontsize=9, ncols=3, **BELOW)
    text = "Who gets the square? Background: where a mask of three logits climbs. "
    fig.suptitle(text + "Pies: trained networks", fontsize=11)
    return fig


def draw_world(shape, x):
    """The grouping problem of Fig. 1a, the common region split at x, and images of a
    data.Shape with both their groupings. Returns the Figure."""
    fig = Figure(figsize=(12, 4.6), layout="constrained")
    left, right = fig.subfigures(1, 2, width_ratios=(1.1, 1))
    # One pair without noise, the common region split at x between the two instances.
    generator = torch.Generator().manual_seed(0)
    images, parts = data.sample(1, generator, data.Shape(size=shape.width), noise=0)
    own_left, middle, own_right = parts[0]  # each (H, W)
    to_left = middle * (middle.cumsum(1) <= x * shape.square)
    masks = torch.stack((own_left + to_left, middle - to_left + own_right))
    title = "The grouping problem (Fig. 1a): who owns the common region b?"
    ax = grid(left, images, [""], masks[None, None], parts)[0, 0]
    for part, text, shift in zip(parts[0], ("$P_1$", "$b$", "$P_2$"), (0, 1, 0)):
        v, u = part.nonzero().float().mean(0).tolist()
        ax.text(u + shift, v, text, ha="center", va="center", fontsize=24)
    v, u = (corner - 0.5 for corner in middle.nonzero().amin(0).tolist())
    cut, end = u + x * shape.square, u + shape.square
    arrow = {"arrowstyle": "<->", "color": "white", "shrinkA": 0, "shrinkB": 0}
    look = {"color": "white", "ha": "center", "fontsize": 13}
    for low, high, text in ((u, cut, "$x$"), (cut, end, "$1-x$")):
        ax.annotate("", (low, v - 1.6), (high, v - 1.6), arrowprops=arrow)
        ax.text((low + high) / 2, v - 2.7, text, **look)
    ax.set(title=title, ylim=(end - u + v + 5, v - 5), facecolor="0.15")  # as painted
    ax.set_xlabel("a share x of b goes to the left instance, 1 - x to the right one")
    gallery(right, *data.sample(3, torch.Generator().manual_seed(0), shape))
    right.suptitle("Three images and the two valid groupings of each", fontsize=10)
    return fig


def draw_losses(found, about):
    """What losses do with the common region: a row a loss, with its predicted and its
    trained shares, and what a user gets. found is that of exp_losses.summarise, about
    {name: [title, source, library]}. Returns the Figure."""
    fig = Figure(figsize=(14, 11), layout="constrained")
    ax, y, places, kind = fig.subplots(), 0, {}, None
    columns = {1.04: "cut off at 1/2,\nit goes to", 1.4: "two heads find\nboth truths"}
    columns |= {1.6: "two passes do\n(hard choice)"}
    for x, text in columns.items():
        ax.text(x, -1, text, weight="bold", va="center")
    for name, r in found.items():
        if kind != r["kind"]:
            kind = r["kind"]
            ax.text(0, y, losses.KINDS[kind], weight="bold", va="center")
            y += 1
        look = {"marker": "D", "ms": 12, "ls": "none", "mec": "black", "clip_on": False}
        if kind == "flat":
            low, high = r["best"][0], r["best"][-1]
            ax.barh(y, high - low, 0.5, low, fc="0.85", ec="black", zorder=1)
        else:
            ax.plot(r["best"], [y] * len(r["best"]), mfc="white", **look)
        if abs(r["slides_to"] - 0.5) > 0.05:
            arrow = {"arrowstyle": "->", "color": "0.5", "shrinkB": 6}
            ax.annotate("", (r["slides_to"], y), (0.5, y), arrowprops=arrow)
        for side, (colour, up) in enumerate(((RED, -0.2), (YELLOW, 0.2))):
            x = [pair[side] for pair in r["measured"]]
            look = {"s": 22, "color": colour, "ec": "black", "lw": 0.5, "zorder": 3}
            ax.scatter(x, [y + up] * len(x), clip_on=False, **look)
        gets = [
            f"{end} {k}" for end, k in sorted(r["gets"].items(), key=lambda e: -e[1])
        ]
        gets = ", ".join(gets[:2]) + ",\n" * (len(gets) > 2) + ", ".join(gets[2:])
        pairs = [f"{r[k]['found']} of {r[k]['of']}" for k in ("heads", "recurrent")]
        for x, text in zip(columns, (gets, *pairs)):
            ax.text(x, y, text, va="center", fontsize=9)
        title, source, _ = about[name]
        places[y] = title if source == "-" else f"{title}\n({source})"
        y += 1
    ax.plot([0.5, 0.5], [-0.5, y], color="0.5", ls=":", zorder=0)
    ax.set_yticks(list(places), list(places.values()), fontsize=9)
    ax.set(xlim=(-0.02, 1.75), ylim=(y - 0.4, -1.6), xticks=np.linspace(0, 1, 5))
    ax.set_xlabel("a: share of the common region that a shape is given", loc="left")
    ax.spines[["top", "right"]].set_visible(False)
    ax.spines["bottom"].set_bounds(0, 1)
    dot = {"marker": "o", "ls": "none", "mec": "black", "ms": 6}
    diamond = {"marker": "D", "ls": "none", "mec": "black", "mfc": "white", "ms": 9}
    handles = [
        Line2D([], [], label="predicted, the best share (two: they tie)", **diamond),
        Patch(fc="0.85", ec="black", label="predicted: all these are as good"),
        Line2D([], [], color="0.5", label="predicted, the way from 1/2 (arrow)"),
        Line2D([], [], mfc=RED, label="trained: the left shape, a dot a seed", **dot),
        Line2D([], [], mfc=YELLOW, label="trained: the right shape", **dot),
    ]
    fig.legend(handles=handles, ncols=3, fontsize=10, **BELOW)
    fig.suptitle("What a loss does with a region that either of two shapes could own")
    return fig
