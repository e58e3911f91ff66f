"""What does a loss do with an ambiguous region? Predicted first (beyond/predict.py), then trained.

One network, two heads (also matched one to one) and the recurrent network are trained with each
loss of beyond/losses.py. Running this draws the recorded runs (beyond/rows/losses.jsonl);
--variants and --seeds train what is missing.

--loss FILE.py:NAME says in five lines what a loss of your own does, a function (or a module) of a
prediction and a truth, and saves a picture; --train trains with it, seed 0 or --seeds, the network
of unet.py or --net FILE.py:NAME, which makes one. A name of beyond/losses.py does too: --loss iou.
--logits, --classes and --order say what is otherwise found out, see beyond/understand.py.
--masks A B, two .npy or .png files, takes your own pair of masks, and one file (n, H, W) all pairs
in it. --truths 1,0 0,1 1,1 --priors 0.4 0.4 0.2 are the truths that annotators give: the shares of
the common region that each instance owns. Without --loss these print a table of all losses.
"""

import sys
from collections import Counter
from dataclasses import dataclass

import numpy as np
import torch
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

import data
from beyond import predict, runs, stats, sweep, yours
from beyond.losses import LOSSES
from beyond.networks import Variant
from beyond.yours import ABOUT, known, said

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


def with_zero(logits):
    """Logits (..., 2, H, W) with a background of 0 before them, (..., 3, H, W)."""
    return torch.cat((torch.zeros_like(logits[..., :1, :, :]), logits), -3)


def decide(net, images, u):
    """Images (n, 1, H, W) -> logits (n, D decisions, 2, H, W) as the loss u is called with, three
    where it is exclusive, and their probabilities (n, D, 2, H, W)."""
    logits = net(images)
    if logits.ndim == 4:
        logits = logits.unflatten(1, (-1, 2))
    if not u.exclusive:
        return logits, logits.sigmoid()
    logits = with_zero(logits)
    return logits, logits.softmax(2)[:, :, 1:]


def objective(u, logits, truths, rule="hard"):
    """The loss of decisions (n, D, 2 or 3, H, W) with truths (n, G, 2, H, W) if for each image
    and truth only the better decision counts or, "matched", the better pairing of two with two:
    hard choices, as the losses differ in scale."""
    n, D, G = *logits.shape[:2], truths.shape[1]
    if D == 1:
        chosen = logits.expand(-1, G, -1, -1, -1)
    else:
        z = (
            logits.detach().repeat_interleave(G, 1).flatten(0, 1)
        )  # (n D G, 2 or 3, H, W)
        t = truths.repeat(1, D, 1, 1, 1).flatten(0, 1)
        alone = torch.vmap(lambda z, t: u(z[None], t[None]))(z, t).view(n, D, G)
        best = alone.argmin(1)  # (n, G), the decision of each truth
        if rule == "matched":
            one, other = (
                alone[:, 0, 0] + alone[:, 1, 1],
                alone[:, 0, 1] + alone[:, 1, 0],
            )
            best = torch.stack((one > other, one <= other), 1).long()
        chosen = logits[torch.arange(n, device=best.device)[:, None], best]
    return u(chosen.flatten(0, 1), truths.flatten(0, 1))


def loss_of(u, net, s, generator, rule="hard"):
    """Draw a batch and return the loss of a network, see objective."""
    images, parts = data.sample(s.batch, generator, s.shape, s.noise)
    return objective(u, decide(net, images, u)[0], data.groupings(parts), rule)


def loss(v, net, s, generator):
    """Draw a batch and return the loss of a Variant's network."""
    return loss_of(known(v.loss), net, s, generator, v.rule)


def train(u, net, s, seed, device, rule="hard"):
    """Train a network with a loss and test it: a dict of what it ends in, for a row."""
    net = net.to(device, memory_format=torch.channels_last)
    optimiser = torch.optim.Adam(net.parameters(), s.learning_rate, fused=True)
    generator = data.stream(seed, "training", device)
    steps = s.epochs * s.steps_per_epoch

    def batch_loss(progress):
        return loss_of(u, net, s, generator, rule)

    seconds = sweep.train(net, optimiser, batch_loss, steps)
    images, parts = runs.held_out(s, seed, device)
    with torch.no_grad():
        _, masks = decide(net, images, u)
    cut = data.measure((masks > 0.5).float(), parts)
    decisions = data.measure(masks, parts)["decisions"]
    return {
        "seconds": seconds,
        "outcome": " + ".join(sorted(d["outcome"] for d in cut["decisions"])),
        "oracle_exact": cut["oracle_exact"],
        "found": cut["oracle_exact"] >= runs.FOUND,
        "shares": [[d["common_left"], d["common_right"]] for d in decisions],
    }


def run(v, seed, s, device):
    """Train a Variant: the end of a row."""
    net = v.build(s, data.stream(seed, "weights"))
    return train(known(v.loss), net, s, seed, device, v.rule)


def summarise(rows):
    """For each trained loss what predict says, without its curves, and what came out: {name: dict}.

    measured: the shares of the common region that the single networks give, left and right; off:
    their mean distance from the best ones; gets: who gets it after a cut at 1/2, in how many runs;
    heads, recurrent, matched: the runs that find the two groupings."""
    summary = {}
    for name in LOSSES:
        own = {end: sweep.of(rows, name + end) for end in ENDS}
        if not any(own.values()):
            continue
        found = predict.predict(known(name))
        even = [pair[0] for pair in found["best"] if max(pair) == min(pair)]
        measured = [row["shares"][0] for row in own[""] if "shares" in row]
        shares, best = (
            torch.tensor(measured).view(-1, 2),
            torch.tensor(even or found["best"]),
        )
        apart = (
            (shares[..., None] - best).abs()
            if even
            else (shares[:, None] - best).abs().mean(2)
        )
        keys = ("predicted", "kind", "slides_to", "cut")
        row = {key: found[key] for key in keys} | {"best": even or found["best"]}
        row |= {
            "measured": measured,
            "off": apart.amin(-1).mean().item() if measured else None,
        }
        row["gets"] = Counter(r.get("outcome", "died") for r in own[""])
        for end in ("-heads", "-recurrent", "-heads-matched"):
            k, n = sum(r.get("found", False) for r in own[end]), len(own[end])
            if n or end != "-heads-matched":
                row[end.split("-")[-1]] = {
                    "found": k,
                    "of": n,
                    "outcomes": Counter(r.get("outcome", "died") for r in own[end]),
                    "interval": stats.wilson(k, n) if n else None,
                }
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
    """See sweep.main and, for what is your own, beyond/yours.py."""
    argv = sys.argv[1:] if argv is None else argv
    own = {"--loss", "--masks", "--truths", "--train"}
    if {flag.partition("=")[0] for flag in argv} & own:
        return yours.main(argv, __doc__, train)
    return sweep.main(QUESTION, argv)


if __name__ == "__main__":
    main()
