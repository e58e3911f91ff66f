"""What does a loss do with an ambiguous region? Predicted first, then trained.

One network, two heads (also matched one to one) and the recurrent network are trained
with each loss of beyond/losses.py. Running this draws the recorded runs
(beyond/rows/losses.jsonl). --train trains what is missing. What a loss of your own does
is said by beyond/yours.py."""

import json
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

import data
from beyond import runs, stats, sweep
from beyond.losses import LOSSES
from beyond.networks import Variant
from beyond.predict import predict
from beyond.told import said
from beyond.training import loss_of, train
from beyond.yours import ABOUT, known

FIGURES = Path(__file__).parent / "figures/losses.json"
SAID = ("predicted", "kind", "slides_to", "cut", "best")  # what prediction says
ONE = {"out_channels": 2}
TWO = {"out_channels": 4}


@dataclass(frozen=True)
class Trained(Variant):
    """A Variant that is trained with a loss of LOSSES."""

    loss: str = ""


VARIANTS = {}
for name in LOSSES:
    title = ABOUT[name][0]
    VARIANTS[name] = Trained(f"{title}, one decision", "UNet", ONE, "hard", loss=name)
    VARIANTS[f"{name}-heads"] = Trained(
        f"{title}, two heads", "UNet", TWO, "hard", loss=name
    )
    VARIANTS[f"{name}-recurrent"] = Trained(
        f"{title}, recurrent", "Recurrent", {}, "hard", loss=name
    )
    VARIANTS[f"{name}-heads-matched"] = Trained(
        f"{title}, two heads, matched", "UNet", TWO, "matched", loss=name
    )
AT_THE_ENDS = ("ends tie", "one end")  # the kinds of the first figure
ENDS = ("", "-heads", "-recurrent", "-heads-matched")  # of the keys of a loss
KINDS = {  # headings, by what predict says
    "ends tie": "The two ends tie, a share between loses",
    "one end": "One end is best",
    "in between": "A share in between is best",
    "one owner": "One owner is best, either",
    "uneven": "Every instance has a best share of its own",
    "flat": "Nothing decides: flat",
}


def loss(v, net, s, generator):
    """Draw a batch and return the loss of a Variant's network."""
    return loss_of(known(v.loss), net, s, generator, v.rule)


def run(v, seed, s, device):
    """Train a Variant: the end of a row."""
    net = v.build(s, data.stream(seed, "weights"))
    return train(known(v.loss), net, s, seed, device, v.rule)


def prediction(name):
    """Return what predict says of a loss, without its curves. best has the shares that
    are the same for both instances, one number each, or else pairs of shares."""
    found = predict(known(name))
    even = [shares[0] for shares in found["best"] if max(shares) == min(shares)]
    return {
        "predicted": found["predicted"],
        "kind": found["kind"],
        "slides_to": found["slides_to"],
        "cut": found["cut"],
        "best": even or found["best"],
    }


def recorded_prediction(name):
    """Return what prediction said of a loss when the figures were drawn, or says now of
    one that is not in them. All at once would take longer than everything else here.
    test_losses.py holds what is recorded to what is said today."""
    losses = json.loads(FIGURES.read_text())["losses"]
    if name not in losses:
        return prediction(name)
    return {key: losses[name][key] for key in SAID}


def distance_off(measured, best):
    """Return the mean distance of measured shares [(left, right)] from the nearest of the
    best ones, which prediction describes. None: nothing is measured."""
    if not measured:
        return None
    shares, best = torch.tensor(measured), torch.tensor(best)  # (runs, 2), (ties,)
    if best.ndim == 1:
        apart = (shares[..., None] - best).abs()  # (runs, 2, ties)
    else:
        apart = (shares[:, None] - best).abs().mean(2)  # (runs, ties)
    return apart.amin(-1).mean().item()


def count_found(rows):
    """Return how many of these runs find both groupings, with what they end in."""
    found = sum(row.get("found", False) for row in rows)
    return {
        "found": found,
        "of": len(rows),
        "outcomes": Counter(row.get("outcome", "died") for row in rows),
        "interval": stats.wilson(found, len(rows)) if rows else None,
    }


def summarise(rows):
    """For each trained loss what prediction says, and what came out: {name: dict}.

    measured: the shares of the common region that the single networks give, left and
    right; off: their mean distance from the best ones; gets: who gets it after a cut at
    1/2, in how many runs; heads, recurrent, matched: the runs that find the two
    groupings."""
    summary = {}
    for name in LOSSES:
        own = {end: sweep.of(rows, name + end) for end in ENDS}
        if not any(own.values()):
            continue
        row = recorded_prediction(name)
        row["measured"] = [r["shares"][0] for r in own[""] if "shares" in r]
        row["off"] = distance_off(row["measured"], row["best"])
        row["gets"] = Counter(r.get("outcome", "died") for r in own[""])
        row["heads"] = count_found(own["-heads"])
        row["recurrent"] = count_found(own["-recurrent"])
        if own["-heads-matched"]:
            row["matched"] = count_found(own["-heads-matched"])
        summary[name] = row
    return dict(sorted(summary.items(), key=lambda item: order(item[1])))


def order(row):
    """In which order losses are shown: by kind, then from the most given."""
    return list(KINDS).index(row["kind"]), -np.max(row["slides_to"])


def table(summary):
    """What summarise returns as a table in Markdown."""
    head = [
        "loss",
        "from",
        "in",
        "predicted share",
        "1/2 slides to",
        "cut at 1/2",
        "off",
    ]
    head += ["gives the region to", "two heads", "two passes", "two heads, matched"]
    lines = []
    for name, r in summary.items():
        off = "-" if r["off"] is None else f"{r['off']:.3f}"
        gets = ", ".join(f"{end} {count}" for end, count in r["gets"].items())
        cells = [
            *ABOUT[name],
            said(r["predicted"]),
            said(r["slides_to"]),
            r["cut"],
            off,
            gets,
        ]
        lines.append([*cells, *counts_found(r)])
    return stats.markdown(head, lines)


def counts_found(row):
    """How many runs of two heads, two passes and matched heads find the two groupings."""
    rows = (row.get(key) for key in ("heads", "recurrent", "matched"))
    return [f"{r['found']}/{r['of']}" if r and r["of"] else "-" for r in rows]


COLUMNS = {  # of texts beside the shares, and where they stand
    1.05: "cut at 1/2, the\nregion goes to",
    1.50: "two heads\nfind both",
    1.79: "two passes\nfind both",
    2.08: "two heads,\nmatched",
}


def draw_shares(ax, y, row):
    """Draw into Axes, at a height y, which shares a loss is predicted to like best, the
    way there from 1/2, and which shares trained networks give."""
    best = np.ravel(row["best"])
    if row["kind"] == "flat":
        ax.barh(y, best[-1] - best[0], 0.5, best[0], fc="0.85", ec="black")
    else:
        look = {"ms": 12, "mfc": "white", "mec": "black", "clip_on": False}
        ax.plot(best, 0 * best + y, "D", **look)
    for end in np.unique(row["slides_to"]):
        if abs(end - 0.5) > 0.05:
            arrow = {"arrowstyle": "->", "color": "0.5", "shrinkB": 6}
            ax.annotate("", (end, y), (0.5, y), arrowprops=arrow)
    left = np.array([pair[0] for pair in row["measured"]])
    right = np.array([pair[1] for pair in row["measured"]])
    dot = {"s": 22, "ec": "black", "lw": 0.5, "zorder": 3, "clip_on": False}
    ax.scatter(left, 0 * left + y - 0.2, color=data.RED, **dot)
    ax.scatter(right, 0 * right + y + 0.2, color=data.YELLOW, **dot)


def draw_texts(ax, y, row):
    """Write beside them what a cut makes of it, and how many runs find both."""
    gets = [f"{end} {count}" for end, count in row["gets"].most_common()]
    lines = [", ".join(gets[k : k + 2]) for k in range(0, len(gets), 2)]
    texts = ["\n".join(lines), *counts_found(row)]
    for x, text in zip(COLUMNS, texts):
        ax.text(x, y, text, va="center", fontsize=11.5)


def handles():
    """What the looks in the figure mean."""
    mark = {"marker": "o", "ls": "none", "mec": "black", "ms": 6}
    diamond = {"marker": "D", "ls": "none", "mec": "black", "ms": 9}
    return [
        Line2D([], [], mfc="white", label="predicted: the best share", **diamond),
        Patch(fc="0.85", ec="black", label="predicted: all these are as good"),
        Line2D([], [], color="0.5", label="predicted: the way from 1/2"),
        Line2D([], [], mfc=data.RED, label="trained: left, a dot a seed", **mark),
        Line2D([], [], mfc=data.YELLOW, label="trained: right", **mark),
    ]


def draw(summary, title):
    """A row a loss: its best and its trained shares, and what a user gets. Returns the
    Figure."""
    fig = Figure(figsize=(13, 3 + 0.48 * len(summary)), layout="constrained")
    ax = fig.subplots()
    for x, text in COLUMNS.items():
        ax.text(x, -1, text, weight="bold", va="center", fontsize=11.5)
    names = {}
    kind = None
    y = 0
    for name, row in summary.items():
        if kind != row["kind"]:
            kind = row["kind"]
            ax.text(0, y, KINDS[kind], weight="bold", va="center", fontsize=11.5)
            y += 1
        draw_shares(ax, y, row)
        draw_texts(ax, y, row)
        loss, source, _ = ABOUT[name]
        names[y] = loss if source == "-" else f"{loss}\n({source})"
        y += 1
    ax.plot([0.5, 0.5], [-0.5, y], color="0.5", ls=":", zorder=0)
    ax.set_yticks(list(names), list(names.values()))
    ax.set_xticks(np.linspace(0, 1, 5))
    ax.tick_params(labelsize=11.5)
    ax.set_xlim(-0.02, 2.32)
    ax.set_ylim(y - 0.4, -1.6)
    below = "share of the common region that an instance is given"
    ax.set_xlabel(below, loc="left", fontsize=11.5)
    ax.spines[["top", "right"]].set_visible(False)
    ax.spines["bottom"].set_bounds(0, 1)
    look = {"fontsize": 11.5, "loc": "outside lower center", "frameon": False}
    fig.legend(handles=handles(), ncols=3, **look)
    fig.suptitle(title, fontsize=13)
    return fig


def report(rows):
    """The summary, its picture and its table, see sweep."""
    summary = summarise(rows)
    ends = {k: row for k, row in summary.items() if row["kind"] in AT_THE_ENDS}
    rest = {k: row for k, row in summary.items() if k not in ends}
    question = "What does a loss do with a region that either of two could own?"
    saved = {"losses.json": {"experiment": "losses", "losses": summary}}
    if ends:
        text = f"{question} These give all or nothing."
        saved["losses_ends.png"] = draw(ends, text)
    if rest:
        text = f"{question} These give a part, or to one owner."
        saved["losses_between.png"] = draw(rest, text)
    learned = []
    for row in summary.values():
        trained = sum(row["gets"].values())
        if row["gets"]["unlearned"] < trained:
            learned.append(row["off"])
    said = f"Of {len(summary)} losses {len(learned)} learn the own parts."
    if learned:
        said += f" Their shares lie within {max(learned):.3f} of the predicted ones."
    caption = "Where each loss was predicted to end, and where it ended"
    return saved, f"{said}\n\n{caption}\n\n{table(summary)}"


QUESTION = sweep.Question(
    name="losses",
    about=__doc__,
    variants=VARIANTS,
    run=run,
    loss=loss,
    report=report,
    settings=runs.Settings(),
    fixed=runs.FIXED,
    default=tuple(VARIANTS),
)


def main(argv=None):
    """See sweep.main."""
    return sweep.main(QUESTION, argv)


if __name__ == "__main__":
    main()
