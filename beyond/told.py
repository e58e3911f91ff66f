"""What predict returns, in words and in a picture."""

import numpy as np
from matplotlib.figure import Figure

from beyond.forms import BATCHES, FORMS, INPUTS
from beyond.landscape import DRAWS

# Those of data.py, which is not imported: a data.py may lie beside your file.
RED = (0.88, 0.20, 0.20)
YELLOW = (1.00, 0.90, 0.20)
ORANGE = (1.00, 0.52, 0.05)
HABITS = {  # rows of the table in beyond/README.md, and the truths that stand for them
    "the later label wins": [[0, 1]],
    "left out, or a class of its own": [[0, 0]],
    "both masks": [[1, 1]],
    "an expert at random": [[0, 1], [1, 0]],
    "averaged": [[0.5, 0.5]],
}
MATCH = (
    "let as many decisions as there are truths be matched with them one to one or, with one "
    "truth an image too, be trained by beyond/ambiguous_loss.py"
)
CUTS = {  # what a cut makes of the common region, for two instances
    "given": "both instances claim the overlap",
    "not given": "neither instance claims the overlap: it is a hole",
    "toss-up": "a toss-up, pixel by pixel: each mask claims some of it by chance",
    "one owner": "one instance claims the overlap",
}
CUTS_OF_ONE = {
    "given": "the mask includes the region",
    "not given": "the mask leaves the region out",
    "toss-up": "a toss-up, pixel by pixel: the mask has some of it by chance",
}


def said(value):
    """A share or several, or the word for it."""
    if isinstance(value, list):
        return ", ".join(f"{share:.2f}" for share in value)
    return value if isinstance(value, str) else f"{value:.2f}"


def of_one(what):
    """Whether there is one instance, of what predict returns."""
    return len(what["best"][0]) == 1


def call_said(what):
    """How a loss is understood, of what predict returns, in one line."""
    order = "truth first" if what["order"] == "truth-first" else "prediction first"
    form = FORMS[what["classes"]].said
    words = [f"{INPUTS[what['input']]}, {order}, as {form}"]
    exclusive = what["exclusive"]
    words.append("one owner of a pixel at most" if exclusive else "not exclusive")
    if what["truths"] != "numbers":
        words.append(f"truths are {what['truths']}")
    if what["batch"] != "all":
        words.append(BATCHES[what["batch"]])
    if what["takes"]:
        words.append(f"of what it returns, {what['takes']}")
    if what["random"]:
        words.append(f"random, so the mean of {DRAWS} draws")
    if what["asymmetry"]:
        words.append(what["asymmetry"])
    return "; ".join(words)


def best_said(what):
    """The best shares of the common region, of what predict returns."""
    if what["kind"] == "flat":
        low = what["best"][0][0]
        high = what["best"][-1][0]
        sums = [sum(shares) for shares in what["best"]]
        one = what["exclusive"] and np.allclose(sums, 1, atol=1e-3)
        together = " that add up to 1" if one else ""
        cost = f"{min(what['curve']):.3g} there and at most {max(what['curve']):.3g}"
        return f"any from {low:.2f} to {high:.2f}{together} (the mean loss is {cost})"
    if what["kind"] == "ends tie":
        return "0 or 1, which tie; every share between is worse"
    if what["kind"] == "inner tie":
        return f"{what['predicted']}, which tie; what lies between is worse"
    if what["random"] and what["kind"] == "in between":
        return f"{said(what['predicted'])}, give or take {what['within']:.2f}"
    return said(what["predicted"])


def end_said(what):
    """Where an undecided network goes, of what predict returns."""
    if not what["gradient"]:
        return "nowhere: there is no gradient (a metric, or steps)"
    if what["sides"]:
        low, high = what["sides"]
        return f"{low[0]:.2f} or {high[0]:.2f}, pixel by pixel: 1/2 is a maximum"
    if what["predicted"] == "one owner, either" and what["cut"] == "one owner":
        return f"{said(what['slides_to'])}, or the other way round"
    return said(what["slides_to"])


def cut_said(what):
    """What a cut makes of the common region, of what predict returns."""
    words = (CUTS_OF_ONE if of_one(what) else CUTS).get(what["cut"], what["cut"])
    if what["kind"] == "flat":
        words += " (nothing decides between these shares: a cut there is chance)"
    return words


def habit(truths):
    """The row of HABITS that truths stand for, "" if none. Of one truth it does not
    matter which of the two owns the region."""
    truths = [[float(share) for share in truth] for truth in truths]
    if len(truths) == 1:
        truths = [sorted(truths[0])]
    for name, row in HABITS.items():
        if sorted(truths) == row:
            return name
    return ""


def advice(what, truths):
    """What to do in this case, of what predict returns and the truths (G, K)."""
    row = "" if of_one(what) else habit(truths)
    pointer = f' (beyond/README.md, the row "{row}")' if row else ""
    if len(truths) == 1 and set(truths[0]) <= {0, 1}:
        return f"nothing here: one truth leaves nothing open{pointer}"
    if len(truths) == 1:
        text = "the averaged truth is the ambiguity itself, of which the loss makes "
        return f"{text}{said(what['slides_to'])}; keep each annotation apart{pointer}"
    if of_one(what):
        return f"one mask cannot be both outlines, two can: {MATCH} (beyond/README.md)"
    if what["cut"] == "given":
        text = "right if an overlap may belong to both; if each image has one owner,"
        return f"{text} one decision does not find it: {MATCH}{pointer}"
    if what["kind"] == "flat":
        text = "do not cut: nothing decides where in this range a network ends"
        return f"{text}; {MATCH}{pointer}"
    if what["cut"] == "not given":
        return f"the overlap is lost to both: {MATCH}{pointer}"
    return f"one decision is not right for every truth: {MATCH}{pointer}"


def described(name, what, truths=None):
    """What predict returns for a loss of this name and these truths, in lines."""
    where = "the largest class of a pixel" if what["exclusive"] else "masks cut at 1/2"
    region = "the region that it has or has not" if of_one(what) else "the overlap"
    lines = [
        f"{name}: {call_said(what)}",
        f"best share of {region}: {best_said(what)}",
        f"an undecided network goes to: {end_said(what)}",
        f"{where}: {cut_said(what)}",
    ]
    for other in what["others"]:
        how = f"{INPUTS[other['input']]}, {FORMS[other['classes']].said}"
        text = f"it also fits as {how}: {said(other['predicted'])}, {other['cut']}"
        logits = "yes" if other["input"] == "logits" else "no"
        choice = f"--classes {other['classes']} --logits {logits}"
        lines.append(f"{text} (choose by {choice})")
    if what["alone"]:
        alone = what["alone"]
        text = "the loss pools a batch, and this is with all truths in one batch"
        one = f"{said(alone['predicted'])}, {alone['cut']}"
        lines.append(f"{text}; with one image a batch: {one}")
    lines.append(f"to do: {advice(what, truths or HABITS['an expert at random'])}")
    return lines


def draw(name, what, parts):
    """Draw masks of parts (3, H, W), red, yellow and, where both claim a pixel, orange,
    and the mean loss over their shares, of what predict returns. Returns the Figure."""
    fig = Figure(figsize=(11, 5), layout="constrained")
    picture, plane = fig.subplots(1, 2)
    rgb = np.full((*parts.shape[1:], 3), 0.15)  # (H, W, 3)
    for part, colour in zip(parts.numpy() > 0, (RED, ORANGE, YELLOW)):
        rgb[part] = colour
    picture.imshow(rgb, interpolation="nearest")
    picture.set(xticks=[], yticks=[], title="instances, and the region in question")
    if of_one(what):
        plane.plot(what["shares"], what["curve"])
        plane.set(xlabel="share of the region", ylabel="mean loss over the truths")
    else:
        draw_plane(fig, plane, what)
    plane.set_title(f"{name}: best {said(what['predicted'])}; cut: {what['cut']}")
    return fig


def draw_plane(fig, ax, what):
    """Draw the mean loss in the plane of two shares, and where a network ends."""
    places = np.array(what["places"])  # (M, 2)
    costs = np.array(what["costs"])
    # Walls at the ends, as those of a logarithm, would hide what lies between.
    top = costs[(places.min(1) > 0.05) & (places.max(1) < 0.95)].max()
    if np.ptp(costs) < 1e-6 * abs(top):  # the same everywhere, but for rounding
        costs = np.full_like(costs, top)
    levels = np.linspace(costs.min(), top, 21) if top > costs.min() else 21
    shade = ax.tricontourf(*places.T, costs, levels, cmap="viridis", extend="max")
    fig.colorbar(shade, label="mean loss over the truths")
    best = np.array(what["best"])  # (ties, 2)
    look = {"mec": "black", "clip_on": False}
    ax.plot(best[:, 0], best[:, 1], "wD", ms=11, label="best", **look)
    start = 1 / 3 if what["exclusive"] else 1 / 2
    end = what["slides_to"]
    end = end if isinstance(end, list) else [end, end]
    for a, c in what["sides"] or [end]:
        ax.plot([start, a], [start, c], "o:", color="white", mec="black")
        ax.plot(a, c, "r*", ms=18, **look)
    ax.plot([], [], "r*", ms=12, mec="black", label="where an undecided network goes")
    ax.set(xlabel="share of the first instance", ylabel="share of the second")
    ax.legend(loc="upper center", ncols=2, bbox_to_anchor=(0.5, -0.13), frameon=False)
