"""When must the second decision look at the first?

The networks of exp_controls.py, and some that tell memory from machinery, in the world of
exp_rotated.py, where the pair lies at any angle and "left first, then right" is no habit
at hand. Which of them find both wholes? What is the second decision when it is shown
another mask in the first one's place? At which angle does the first decision change from
one whole to the other, and is the pair found there? Running this draws the recorded runs
(figures/rotated.jsonl) and prints a table of them; with --out, --variants or --seeds it
trains those that are missing, see exp_controls.py.
"""

import os
from dataclasses import asdict, replace
from itertools import product

import numpy as np
import torch
from matplotlib.figure import Figure
from matplotlib.patches import Patch

import common
import data
import exp_controls
import exp_rotated
import pictures
import sweep
from exp_controls import Handing, ToldPass, TwoUNets, Variant
from exp_rotated import ANGLES, TURNS, Settings
from recurrent_unet import RecurrentUNet
from unet import UNet

VERSION = 1  # see sweep.py
# A run finds both wholes if it does so in more than this share of the images.
FOUND = 0.5
FIXED = {"exact": exp_rotated.EXACT}
WATCHED = 2  # images whose masks a row keeps, to be drawn
# A unit without memory: its layers are there, but its state is zero in every pass.
FORGETS = {"state": "zero"}
PASS = {"mask": "pass", "state": "zero"}
NETWORKS = {
    name: Variant(title, net, {"out_channels": 1} | options)
    for name, title, net, options in (
        ("one", "One decision", UNet, {}),
        ("heads", "Two heads", UNet, {"out_channels": 2}),
        ("independent", "Two U-Nets", TwoUNets, {}),
        ("told", "Told only the pass", ToldPass, {}),
        ("told-wide", "Told only the pass, width 28", ToldPass, {"width": 28}),
        ("told-unit", "Told only the pass, unit without memory", Handing, PASS),
        ("mask", "Mask fed back", RecurrentUNet, {"feed_state": False}),
        ("mask-unit", "Mask fed back, unit without memory", Handing, FORGETS),
        ("state", "State fed back", RecurrentUNet, {"feed_mask": False}),
        ("full", "Mask and state fed back", RecurrentUNet, {}),
        ("mask-cut", "Both, the mask detached", Handing, {"mask": "detached"}),
        ("state-cut", "Both, the state detached", Handing, {"state": "detached"}),
        ("noise", "State, and noise for the mask", Handing, {"mask": "noise"}),
    )
}
# Those that see a mask, and what they are called in exp_controls.py.
LEFT_RIGHT = {"mask": "mask-only", "mask-unit": "mask-unit", "full": "recurrent"}
LEFT_RIGHT |= {"mask-cut": "mask-detached", "state-cut": "state-detached"}
# Smaller steps, and as many more of them; how each step size is drawn.
STEPS = {
    "": ("", {}),
    "-half": (", step size 0.001", {"learning_rate": 1e-3, "epochs": 40}),
    "-quarter": (", step size 0.0005", {"learning_rate": 5e-4, "epochs": 80}),
}
LOOKS = {"": ("o", "black"), "-half": ("D", "#00806a"), "-quarter": ("s", "#8a4fb0")}
VARIANTS = {
    name + size: replace(v, other=other, title=v.title + text)
    for size, (text, other) in STEPS.items()
    for name, v in NETWORKS.items()
}
# Whose counts are compared: those that were written down before the runs.
PLANNED = [("full", "told"), ("state", "told-unit"), ("mask", "mask-unit")]
PLANNED += [("noise", "full")]
PAIRS = {"full-half": ("told-quarter",)}  # each with its own best step size
FROM_CHANGE = np.array(ANGLES) - 87.5  # degrees, see from_change
ANSWERS = {"opposite": "#00806a", "same": "#c04a00", "neither": "0.85"}


def pack(masks):
    """Masks (n, D, 1, H, W), cut off at 1/2, as a text for the JSON, see unpack."""
    return np.packbits((masks > 0.5).cpu().numpy()).tobytes().hex()


def unpack(text, size):
    """What pack was given: masks (n, D, 1, size, size) of WATCHED images, 0 and 1."""
    bits = np.unpackbits(np.frombuffer(bytes.fromhex(text), np.uint8))
    return torch.from_numpy(bits).float().view(WATCHED, -1, 1, size, size)


@common.prepared
def run(name, seed, s, device):
    """Train a variant and test it: a dict of what it ends in, for a row."""
    v = VARIANTS[name]
    s = v.settings(s)
    quiet = {"say": lambda *_, **__: None}
    net, history, _ = exp_rotated.train(s, seed, device, v.build, **quiet)
    _, _, masks, row = exp_rotated.evaluate(net, s, seed, device)
    row |= {"outcome": f"both wholes in {row['pairs']:.0%}"}
    row |= {"seconds": round(history[-1]["seconds"], 2)}
    row |= {"parameters": sum(p.numel() for p in net.parameters())}
    row |= {"masks": pack(masks[:WATCHED])}
    row |= {"angle": exp_rotated.by_angle(net, s, seed, device)}
    if exp_controls.sees_mask(net):
        row |= exp_rotated.answers(net, s, seed, device)
    return row


@common.prepared
def change(name, s):
    """What a variant changes, as a dict for the JSON; for "start" see sweep.start."""
    v, generator = VARIANTS[name], torch.Generator().manual_seed(0)
    s = v.settings(s)
    net = v.build(s, generator)
    images, parts = exp_rotated.sample(s.batch, generator, s.shape, s.noise)
    masks, truths = exp_rotated.decide(net, images), exp_rotated.wholes(parts)
    loss = -data.soft_maximum(data.score(masks, truths), s.beta).mean()
    changed = {"net": v.net.__name__, "options": v.options, "other": v.other}
    return changed | {"start": sweep.start(net, loss, generator)}


def ways(row):
    """Which whole the first decision of a run takes at every direction, clockwise from
    the right in steps of 5 degrees: 1 that whose lobe points there, -1 the other, 0
    neither or one as often as the other: (72,)."""
    first, other = np.array(row["angle"]["first"]).T  # unturned, the first points left
    return np.concatenate((other - first, first - other))


def from_change(row):
    """The shares of images in which both wholes are found, by the angle from where the
    first decision changes from one whole to the other, see FROM_CHANGE: (36,)."""
    way, n = ways(row), len(ANGLES)
    # The half turn in which it takes the same whole most begins where it changes.
    k = max(range(n), key=lambda k: abs(way[k : k + n].sum()))
    return np.roll(row["angle"]["pairs"], n // 2 - k)


def mean(dicts):
    """The mean of dicts of numbers, key by key, or None of none."""
    keys = dicts[0] if dicts else ()
    return {k: float(np.mean([d[k] for d in dicts])) for k in keys} or None


def left_right(name, rows):
    """What exp_rotated.answers calls shown and own, in the world with left and right, of
    the rows of exp_controls.py that found both groupings: mean dicts, or None; runs: how
    many these are."""
    answers, other = {"shown": [], "own": []}, {"left": "right", "right": "left"}
    for row in rows:
        if row["variant"] != LEFT_RIGHT.get(name) or not row.get("found"):
            continue
        said = {}
        for truth, shares in row["shown"].items():
            pair = {
                "opposite": shares.get(other[truth], 0),
                "same": shares.get(truth, 0),
            }
            said[truth] = pair | {"neither": 1 - sum(pair.values())}
        answers["shown"].append(mean(list(said.values())))
        answers["own"].append(said[row["decisions"][-1]["outcome"]])
    found = {key: mean(values) for key, values in answers.items()}
    return found | {"runs": len(answers["own"])}


def summarise(runs):
    """What the runs of each variant found: a list of dicts, for rotated.json.

    found: how many of them found both wholes (see FOUND), interval: Wilson's; pairs: of
    every run, by seed, the share of images in which both are found. The rest are means
    over those runs that found both and were asked (asked: how many). near_change, elsewhere:
    that share within 10 degrees of where the first decision changes, and farther off;
    shown, own, turned, another: see exp_rotated.answers, with _left_right in the world with
    left and right.
    """
    path = os.path.join(sweep.HERE, "figures", "controls.jsonl")
    there, rows = sweep.distinct(sweep.read(path)).values(), []
    for size, name in product(STEPS, NETWORKS):
        own = [r for (key, _), r in sorted(runs.items()) if key == name + size]
        if not own:
            continue
        good = [r for r in own if r.get("pairs", 0) > FOUND]
        usual = own[0]["settings"]["learning_rate"]
        row = {"variant": name + size, "network": name}
        row |= {"title": VARIANTS[name + size].title, "size": size}
        row |= {"step_size": STEPS[size][1].get("learning_rate", usual)}
        row |= {"found": len(good), "of": len(own)}
        row["interval"] = sweep.wilson(len(good), len(own))
        row["pairs"] = {r["seed"]: round(r.get("pairs", 0), 3) for r in own}
        row["parameters"] = max(r.get("parameters", 0) for r in own)
        curves = np.array([from_change(r) for r in good if "angle" in r])
        if len(curves):
            near = abs(FROM_CHANGE) < 10
            row |= {"near_change": float(curves[:, near].mean())}
            row |= {"elsewhere": float(curves[:, ~near].mean())}
        beside = left_right(name, there)
        row["asked"] = {"angle": len(curves), "own": sum("own" in r for r in good)}
        row["asked"]["left_right"] = beside.pop("runs")
        for key in ("shown", "own"):
            row[key] = mean([r[key] for r in good if r.get(key)])
            row[f"{key}_left_right"] = beside[key]
        for key in ("turned", "another"):
            found = [r[key] for r in good if key in r]
            row[key] = np.mean(found, 0).tolist() if found else None
        rows.append(row)
    return rows


def table(summary):
    """What summarise returns as a table in Markdown."""
    head = ["network", "step size", "finds both", "95% interval", "% of images, by run"]
    head += ["near the change", "elsewhere", "shown its own: opposite, same, neither"]
    lines = []
    for r in summary:
        interval = "{:.0%} to {:.0%}".format(*r["interval"])
        pairs = " ".join(f"{100 * pair:.0f}" for pair in r["pairs"].values())
        cells = [r["title"], f"{r['step_size']:g}", f"{r['found']}/{r['of']}", interval]
        jump = [f"{r[k]:.0%}" if k in r else "-" for k in ("near_change", "elsewhere")]
        own = ", ".join(f"{share:.0%}" for share in (r["own"] or {}).values()) or "-"
        lines.append([*cells, pairs, *jump, own])
    return sweep.markdown(head, lines)


def compared(summary):
    """See exp_controls.compare."""
    return exp_controls.compare(summary, PAIRS, PLANNED)


def draw_images(fig, runs, s):
    """Into a SubFigure: two test images and what networks decide on them, seed 0."""
    rows = {name: runs.get((name, 0), {}) for name in ("heads", "told", "mask", "full")}
    # On CUDA the images are others.
    names = [n for n, r in rows.items() if "masks" in r and r["device"] == "cpu"]
    images, _ = exp_rotated.test_images(s, 0, "cpu")
    titles = "input", "decision 1", "decision 2"
    for k, half in enumerate(
        fig.subfigures(1, WATCHED, width_ratios=(1.13, 1)) if names else ()
    ):
        masks = [unpack(runs[name, 0]["masks"], s.shape.size)[k] for name in names]
        masks = coloured_with_input(torch.stack(masks))
        same = images[k].expand(len(names), 1, -1, -1)
        axes = pictures.grid(half, same, titles, masks)
        for name, ax in zip(names, axes[:, 0] if k == 0 else ()):
            ax.set_ylabel(NETWORKS[name].title.replace(" fed", "\nfed"), fontsize=8)
    text = f"Two test images, seed 0, step size {s.learning_rate:g}"
    text += "\nred, yellow: the masks; where nothing is coloured, the mask is empty"
    fig.suptitle(text, fontsize=11)


def coloured_with_input(masks):
    """Two decisions (n, 2, 1, H, W) -> (n, 3, 2, H, W) for pictures.grid: the input as it
    is, the first decision red, the second yellow."""
    painted = exp_rotated.coloured(masks)
    return torch.cat((torch.zeros_like(painted[:, :1]), painted), 1)


def draw_success(ax, summary):
    """Into Axes: in how many runs each network finds both wholes, at each step size."""
    names = [name for name in NETWORKS if any(r["network"] == name for r in summary)]
    used = {r["size"]: f"step size {r['step_size']:g}" for r in summary}
    for r in summary:
        marker, colour = LOOKS[r["size"]]
        sizes = [other["size"] for other in summary if other["network"] == r["network"]]
        k = sizes.index(r["size"]) - (len(sizes) - 1) / 2  # beside its other sizes
        y, label = names.index(r["network"]) + 0.36 * k, used.pop(r["size"], None)
        ax.plot(r["interval"], [y, y], "-", color=colour, lw=1.2)
        share = r["found"] / r["of"]
        ax.plot(share, y, marker, color=colour, ms=6, ls="none", label=label)
        text = {"va": "center", "fontsize": 8, "color": colour}
        ax.text(1.04, y, f"{r['found']} of {r['of']}", **text)
    ax.set_yticks(range(len(names)), [NETWORKS[n].title for n in names], fontsize=9)
    ax.set(xlim=(-0.03, 1.3), ylim=(len(names) - 0.4, -0.6), xticks=[0, 0.5, 1])
    ax.set_xlabel("share of the runs that find both (95% interval)")
    ax.grid(axis="x", color="0.88")
    ax.legend(fontsize=8, ncols=3, **pictures.UNDER)
    text = (
        "Which network finds both wholes,\nat an IoU of 0.9 in over half of the images?"
    )
    ax.set_title(text, fontsize=11)


def draw_shown(ax, summary):
    """Into Axes: shown the whole that it gives itself in the first one's place, what the
    second decision is: here and, below, in the world with left and right. A state, where
    one is fed back too, still tells of the first decision."""
    usual = {r["network"]: r for r in summary if r["own"] and not r["size"]}
    places = {}
    for y, (name, r) in enumerate(usual.items()):
        asked = r["asked"]
        for key, low, where in (
            ("own", 0, f"{NETWORKS[name].title} ({asked['own']} asked): any angle"),
            ("own_left_right", 0.4, f"left and right ({asked['left_right']} runs)"),
        ):
            start, places[y + low] = 0, where
            for answer, share in (r[key] or {}).items():
                look = {"color": ANSWERS[answer], "ec": "black", "lw": 0.6}
                ax.barh(y + low, share, 0.34, start, **look)
                middle = {"ha": "center", "va": "center", "fontsize": 8}
                middle["color"] = "black" if answer == "neither" else "white"
                if share > 0.06:
                    ax.text(start + share / 2, y + low, f"{share:.0%}", **middle)
                start += share
    ax.set_yticks(list(places), list(places.values()), fontsize=8)
    ax.invert_yaxis()
    ax.set(xlim=(0, 1), xlabel="share of the images")
    handles = [Patch(color=colour, label=name) for name, colour in ANSWERS.items()]
    ax.legend(handles=handles, ncols=3, fontsize=8, **pictures.UNDER)
    text = "Does it look? What the second decision is when shown,\nin the first one's place,"
    ax.set_title(f"{text} the whole that it gives itself", fontsize=11)


def draw_turned(ax, summary):
    """Into Axes: shown a whole A turned about the pair's centre, what the second one is."""
    r = next((r for r in summary if r["network"] == "full" and r["turned"]), None)
    for k, answer in enumerate(("opposite", "same")) if r else ():
        y = [pair[1 - k] for pair in r["turned"]]
        label = "the other whole, B" if k == 0 else "A"
        ax.plot(TURNS, y, "o-", color=ANSWERS[answer], label=label)
    ax.set(xticks=TURNS, ylim=(0, 1), ylabel="share of the images")
    ax.set_xlabel("by how much A is turned, degrees: at 180 it is B")
    if r:
        ax.legend(fontsize=8, loc="upper center")
    runs = f"Mask and state fed back ({r['asked']['angle'] if r else 0} runs)"
    title = f"{runs}: shown one whole, A,\nturned about the centre: what is the second decision?"
    ax.set_title(title, fontsize=11)


def draw_angle(strips, curves, runs):
    """Into two Axes: for every run that finds both, which way the lobe points that the
    first decision takes; how often both are found, by the angle from where it changes."""
    rows, marks = [], {}
    colours = ("black", "#00806a", "#c04a00", "#8a4fb0", "#08519c")
    names = "full", "state", "noise", "told-quarter", "mask-quarter"
    for name, colour in zip(names, colours):
        own = [r for (key, _), r in sorted(runs.items()) if key == name]
        good = [r for r in own if "angle" in r and r["pairs"] > FOUND]
        if good:
            v, n = VARIANTS[name], len(good)
            step = v.other.get("learning_rate", good[0]["settings"]["learning_rate"])
            title = v.title.partition(", step")[0]
            text = f"{n} runs asked, at {step:g}"
            marks[len(rows) + (n - 1) / 2] = f"{title}\n{text}"
            rows += [*map(ways, good), np.full(2 * len(ANGLES), np.nan)]
            y = np.mean([from_change(r) for r in good], 0)
            look = {"color": colour, "ls": ("-", "--", "-.", ":")[len(marks) % 4 - 1]}
            curves.plot(FROM_CHANGE, y, label=f"{title}, {step:g}", **look)
    if rows:
        look = {"cmap": "RdYlBu", "vmin": -1, "vmax": 1, "interpolation": "nearest"}
        edges = -2.5, 357.5, len(rows) - 1.5, -0.5
        strips.imshow(rows[:-1], aspect="auto", extent=edges, **look)
        curves.legend(fontsize=8, loc="lower right")
    strips.set_yticks(list(marks), list(marks.values()), fontsize=8)
    strips.set(xticks=range(0, 360, 45))
    strips.set_xlabel("direction, degrees clockwise from the right")
    text = (
        "Each row a run. Blue: the first decision takes the lobe that points\nthere; "
    )
    text += "red: the other one; pale: now this, now that, or neither"
    strips.set_title(text, fontsize=11)
    curves.set_xlabel("angle from where the first decision changes, degrees")
    curves.set(ylim=(0, 1.02), ylabel="images in which both are found")
    text = "Is the pair found where the first decision changes? Means over these runs"
    curves.set_title(text, fontsize=11)


def plot(summary, runs, s):
    """The evidence: a Figure of images, success, answers when shown, and angles."""
    fig = Figure(figsize=(14, 15), layout="constrained")
    top, bottom = fig.subfigures(2, 1, height_ratios=(1, 1.2))
    left, right = top.subfigures(1, 2, width_ratios=(1, 1.2))
    draw_images(left, runs, s)
    draw_success(right.subplots(), summary)
    left, right = bottom.subfigures(1, 2, width_ratios=(1, 1.2))
    shown, turned = left.subplots(2, 1, height_ratios=(1.7, 1))
    draw_shown(shown, summary)
    draw_turned(turned, summary)
    draw_angle(*right.subplots(2, 1, height_ratios=(1.7, 1)), runs)
    for ax in fig.axes:
        if not ax.has_data():
            ax.text(0.5, 0.5, "no run to show", ha="center", transform=ax.transAxes)
    text = "When must the second decision look at the first? The pair at any angle"
    fig.suptitle(f"{text}; a decision is one mask, the whole that owns the square")
    return fig


def main(argv=None):
    """Run what is missing, draw all: returns the numbers of rotated.json, the Figure."""
    parser = common.Parser(__doc__)
    parser.add_training()
    sweep.add_options(parser, VARIANTS, list(NETWORKS))
    args = parser.parse_args(argv)
    first = args.variants[0]
    s, _ = parser.settings(Settings(), args, lambda s: run(first, 0, s, "cpu"))
    import exp_looking  # this file, as the processes of a sweep know it

    if s.steps != 2 or s.held_out < WATCHED:
        parser.error(f"steps must be 2 and held_out at least {WATCHED}")
    runs = sweep.collect(parser, args, s, exp_looking, "rotated")
    made = next(iter(runs.values()))["settings"]  # with which the rows were made
    shape = data.Shape(**made["shape"])
    s = Settings(**{k: made[k] for k in vars(s)} | {"shape": shape})
    summary = summarise(runs)
    print(table(summary) + "\n\n" + compared(summary))
    numbers = {"experiment": "exp_looking", "settings": asdict(s) | FIXED}
    numbers |= {"found": FOUND, "networks": summary}
    common.save(f"{args.out}/rotated.json", numbers)
    common.save(f"{args.out}/rotated.png", fig := plot(summary, runs, s))
    sweep.exit_if_dead(runs)
    return numbers, fig


if __name__ == "__main__":
    common.script(main)
