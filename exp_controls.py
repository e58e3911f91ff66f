"""How often, and because of what? Every ingredient of the recurrent network alone, and
other remedies for the decision that never learns, each over many seeds.

The paper shows one run of each setting and credits recurrence: the second decision sees
the first. Here every variant is trained on the same images with the same settings,
those of exp_recurrent.py but for what its name says, and what its decisions end in is
counted. Running this prints a line a run and at the end a table, and saves
controls.png, controls.json and controls.jsonl, which has a row a run.

It can be stopped at any moment: started again it does only the runs that are missing or
have died. Parts run elsewhere (--variants, --seeds, each with an --out of its own) are
put together by appending their controls.jsonl to one another; --plot-only draws what is
there.
"""

import argparse
import functools
import hashlib
import inspect
import json
import math
import multiprocessing
import os
import re
import signal
import statistics
import sys
import threading
import time
from collections import Counter
from dataclasses import asdict, dataclass, field, replace
from multiprocessing import resource_tracker
from multiprocessing.connection import wait

import torch
from matplotlib.figure import Figure
from matplotlib.patches import Patch
from torch import nn

import data
import recurrent_unet
import theory
import unet
from exp_recurrent import Settings
from recurrent_unet import RecurrentUNet
from unet import UNet

# A run finds both groupings if it does so for this share of (image, grouping) pairs.
FOUND = 0.99
# Weight of the worse decision in relaxed winner-takes-all (Rupprecht et al. 2017).
RELAXED = 0.05


# --------------------------------------------------------------------------------------
# The variants: a network, a rule by which two decisions share a truth, and the truths


class ToldStep(nn.Module):
    """Maps images (n, 1, H, W) to the logits of two steps, (n, 2 steps, 2, H, W).

    The U-Net runs twice with the same weights and is told only which step it is, by a
    constant channel, 0 then 1: nothing of the first decision. The arguments, and what
    raises ValueError, are those of UNet.
    """

    def __init__(self, width=16, depth=2, generator=None):
        super().__init__()
        self.unet = UNet(2, 2, width, depth, generator)

    def forward(self, images):
        told = (torch.cat((images, torch.full_like(images, k)), 1) for k in (0, 1))
        return torch.stack([self.unet(x) for x in told], 1)  # each x is (n, 2, H, W)


class TwoUNets(nn.Module):
    """Maps images (n, 1, H, W) to the logits of two U-Nets, (n, 2, 2, H, W).

    With feed_mask the second sees the first one's mask or, where the network is called
    with shown (n, 2, H, W), that in its place; else shown is not used. The other
    arguments, and what raises ValueError, are those of UNet.
    """

    def __init__(self, width=16, depth=2, feed_mask=False, generator=None):
        super().__init__()
        self.feed_mask = feed_mask
        self.first = UNet(1, 2, width, depth, generator)
        self.second = UNet(1 + 2 * feed_mask, 2, width, depth, generator)

    def forward(self, images, shown=None):
        first, x = self.first(images), images
        if self.feed_mask:  # not detached, as in the recurrent network
            mask = torch.sigmoid(first) if shown is None else shown
            x = torch.cat((images, mask), 1)  # (n, 1 + 2, H, W)
        return torch.stack((first, self.second(x)), 1)


def share(scores, rule, beta, progress):
    """What each truth scores, (n, 2), given the scores (n, D, 2) of D decisions.

    rule "soft" is the paper's maximum, "hard" a plain one; "relaxed" (Rupprecht et al.
    2017) gives the worse of two decisions the weight RELAXED; "annealed" (Perera et al.
    2024) weighs them by softmax(score / T), where T falls exponentially from 1 to
    1/beta as progress goes from 0 to 1: in the end it is as sharp as the paper's.
    ValueError: another rule.
    """
    if rule == "soft":
        return data.soft_maximum(scores, beta)
    if rule == "hard":
        return scores.amax(1)
    if rule == "relaxed":
        return (1 - RELAXED) * scores.amax(1) + RELAXED * scores.amin(1)
    if rule == "annealed":
        weights = torch.softmax(scores.detach() * beta**progress, 1)  # (n, D, 2)
        return (weights * scores).sum(1)
    raise ValueError(f"rule must be soft, hard, relaxed or annealed, got {rule!r}")


@dataclass(frozen=True)
class Variant:
    """What a variant is called and what it changes; the rest is as in Settings."""

    title: str
    net: type
    options: dict = field(default_factory=dict)  # of the network
    rule: str = "soft"
    coin: bool = False  # one truth drawn for each image in place of both, weighted
    other: dict = field(default_factory=dict)  # than in Settings

    @property
    def passes(self):
        """Forward passes through a U-Net, an image."""
        return 1 if self.net is UNet else 2

    def change(self):
        """What it changes, as a dict for the JSON."""
        change = {"net": self.net.__name__, "options": self.options}
        return change | {"rule": self.rule, "coin": self.coin, "other": self.other}


ONE, TWO = {"out_channels": 2}, {"out_channels": 4}
MAIN = {
    "single": Variant("Single decision: one U-Net", UNet, ONE),
    "dual": Variant("Dual heads: both decisions at once", UNet, TWO),
    "recurrent": Variant("Recurrent: mask and state fed back", RecurrentUNet),
    "mask-only": Variant(
        "Recurrent: mask fed back, no state", RecurrentUNet, {"feed_state": False}
    ),
    "state-only": Variant(
        "Recurrent: state fed back, no mask", RecurrentUNet, {"feed_mask": False}
    ),
    "told-step": Variant("Same weights twice, told only the step", ToldStep),
    "sequence": Variant(
        "Two U-Nets, the second sees the first's mask", TwoUNets, {"feed_mask": True}
    ),
    "independent": Variant("Two U-Nets, independent", TwoUNets),
    "relaxed": Variant("Dual heads, relaxed winner-takes-all", UNet, TWO, "relaxed"),
    "annealed": Variant("Dual heads, annealed winner-takes-all", UNet, TWO, "annealed"),
    "dru": Variant("Recurrent, a DRU for the GRU", RecurrentUNet, {"unit": "dru"}),
    "sru": Variant("Recurrent, an SRU for the GRU", RecurrentUNet, {"unit": "sru"}),
    "single-coin": Variant(
        "Single decision, one truth drawn by a coin", UNet, ONE, coin=True
    ),
    "dual-coin": Variant("Dual heads, one truth drawn by a coin", UNet, TWO, coin=True),
    "recurrent-coin": Variant(
        "Recurrent, one truth drawn by a coin", RecurrentUNet, coin=True
    ),
}
EXTRA = {
    f"{name}-{key}": replace(MAIN[name], title=f"{short}, {text}", **change)
    for name, short in (("dual", "Dual heads"), ("recurrent", "Recurrent"))
    for key, text, change in (
        ("beta-10", "maximum of sharpness 10", {"other": {"beta": 10.0}}),
        ("beta-20", "maximum of sharpness 20", {"other": {"beta": 20.0}}),
        ("beta-50", "maximum of sharpness 50", {"other": {"beta": 50.0}}),
        ("hard", "hard maximum", {"rule": "hard"}),
    )
}
EXTRA["dual-long"] = replace(
    MAIN["dual"], title="Dual heads, 100 epochs as in the paper", other={"epochs": 100}
)
VARIANTS = MAIN | EXTRA


# --------------------------------------------------------------------------------------
# One run


def run(name, seed, s, device):
    """Train a variant as the experiments do and test it: a dict of what it ends in.

    name is a key of VARIANTS, s the Settings, device "cpu" or "cuda". The dict has
    what data.measure gives; found: whether both groupings are (see FOUND); found_at:
    the recorded step from which every recorded batch was exact, if found; outcome: of
    both decisions, in either order; shown: if the second decision sees a mask, the
    share of images of each of its outcomes when that mask is, in place of the first
    decision, one truth or the other. FloatingPointError: the loss is not finite.
    """
    v = VARIANTS[name]
    s = replace(s, **v.other)
    weights = torch.Generator().manual_seed(seed)
    net = v.net(width=s.width, depth=s.depth, generator=weights, **v.options)
    net = net.to(device, memory_format=torch.channels_last)
    optimiser = torch.optim.Adam(net.parameters(), s.learning_rate, fused=True)
    generator = torch.Generator(device).manual_seed(seed + data.SEEDS)
    # A stream of its own, so that with and without coins the images are the same.
    coins = torch.Generator(device).manual_seed(seed + 3 * data.SEEDS)
    prior = torch.tensor([[s.m, 1 - s.m]], device=device)  # (1, 2 truths)

    def decide(images, *shown):
        masks = torch.sigmoid(net(images, *shown))  # (n, D, 2, H, W) or (n, 2 D, H, W)
        return masks if masks.ndim == 5 else masks.unflatten(1, (-1, 2))

    steps = s.epochs * s.steps_per_epoch
    found_at, start = None, time.perf_counter()
    for step in range(1, steps + 1):
        images, parts = data.sample(s.batch, generator, s.shape, s.noise)
        truth = prior
        if v.coin:
            left = torch.rand(s.batch, generator=coins, device=device) < s.m
            truth = torch.stack((left, ~left), 1).float()  # (n, 2)
        masks = decide(images)  # (n, D, 2, H, W)
        scores = data.score(masks, data.groupings(parts))  # (n, D, 2 truths)
        best = share(scores, v.rule, s.beta, (step - 1) / max(1, steps - 1))  # (n, 2)
        loss = -(truth * best).sum(1).mean()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        if step % s.steps_per_epoch == 0 or (step - 1) % max(1, steps // 100) == 0:
            if not math.isfinite(loss.item()):
                raise FloatingPointError(f"the loss is {loss.item()} at step {step}")
            if data.measure(masks, parts)["oracle_exact"] < FOUND:
                found_at = None
            elif found_at is None:
                found_at = step
    seconds = time.perf_counter() - start

    generator = torch.Generator(device).manual_seed(seed + 2 * data.SEEDS)
    images, parts = data.sample(s.held_out, generator, s.shape, s.noise)
    with torch.no_grad():
        measured = data.measure(decide(images), parts, s.m)
    ends = sorted(d["outcome"] for d in measured["decisions"])  # in either order
    found = measured["oracle_exact"] >= FOUND
    # The last batch may miss one image in a hundred and the network still finds both.
    row = {"found": found, "found_at": (found_at or steps) if found else None}
    row |= {"outcome": " + ".join(ends), "seconds": round(seconds, 2)}
    row |= measured | {"parameters": sum(p.numel() for p in net.parameters())}
    if getattr(net, "feed_mask", False):
        # Is the second decision an answer to the first? Show it one truth, then the
        # other, as if that had been the first decision.
        row["shown"] = {}
        for first, truth in zip(("left", "right"), data.groupings(parts).unbind(1)):
            with torch.no_grad():
                _, second = data.measure(decide(images, truth), parts)["decisions"]
            row["shown"][first] = second["outcome_share"]
    return row


@functools.cache
def fingerprint():
    """Ten hex digits that change with the code that trains and measures, but not with
    its docstrings, comments and layout."""
    parts = [unet, recurrent_unet, ToldStep, TwoUNets, share, run]
    parts += [data.Shape, data.sample, data.groupings, data.iou, data.score]
    parts += [data.soft_maximum, data.common_shares, data.outcomes, data.measure]
    text = "".join(inspect.getsource(part) for part in parts)
    code = re.sub(r'(?s:""".*?""")|#.*|\s', "", text)
    return hashlib.sha256(code.encode()).hexdigest()[:10]


def settings_of(s):
    """What rows of all variants have in common, as a dict for the JSON."""
    fixed = {"found": FOUND, "relaxed": RELAXED, "given": data.GIVEN}
    fixed |= {"learned": data.LEARNED, "exact": data.EXACT, "code": fingerprint()}
    return asdict(s) | fixed


def label(name, seed, s, device):
    """The start of every row: which run it is and what it was made with."""
    row = {"variant": name, "seed": seed, "device": device, "torch": torch.__version__}
    return row | {"settings": settings_of(s), "change": VARIANTS[name].change()}


def attempt(name, seed, s, device):
    """The row of a run; if it dies, the row says of what under the key "error"."""
    row = label(name, seed, s, device)
    try:
        end = run(name, seed, s, device)
        json.dumps(end, allow_nan=False)  # ValueError where a number is not finite
        return row | end
    except (RuntimeError, ArithmeticError, MemoryError, ValueError) as e:
        return row | {"error": f"{type(e).__name__}: {e}".splitlines()[0]}


def work(send, *job):
    """What a process of its own does: one run, its row sent back through a pipe."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the sweep hears it, and ends this
    # If the sweep is killed its children end too, instead of running on unheard.
    parent = multiprocessing.parent_process()
    guard = threading.Thread(target=lambda: (parent.join(), os._exit(1)), daemon=True)
    guard.start()
    data.prepare()
    send.send(attempt(*job))


# --------------------------------------------------------------------------------------
# Many runs


def sweep(jobs, s, device, workers):
    """Run (variant, seed) jobs, each in a process of its own; yields rows as they end.

    workers is how many run at a time. A run that dies is a row with the key "error".
    """
    # CUDA does not survive a fork, but a server that has only imported PyTorch (with
    # what Adam imports when first made) does, and saves each run those seconds.
    linux = sys.platform == "linux"
    context = multiprocessing.get_context("forkserver" if linux else "spawn")
    if linux:
        context.set_forkserver_preload(["torch._dynamo", "matplotlib.figure"])
        # Its start unblocks SIGINT, so it comes before that is blocked.
        resource_tracker.ensure_running()

    def block(on):
        """Make Ctrl-C wait, or no longer; Windows cannot."""
        if hasattr(signal, "pthread_sigmask"):
            how = signal.SIG_BLOCK if on else signal.SIG_UNBLOCK
            signal.pthread_sigmask(how, [signal.SIGINT])

    waiting, running = list(reversed(jobs)), {}
    while waiting or running:
        while waiting and len(running) < workers:
            job, (receive, send) = waiting.pop(), context.Pipe(duplex=False)
            work_on = (send, *job, s, device)
            process = context.Process(target=work, args=work_on, daemon=True)
            # Ctrl-C reaches the whole group of processes: it is for this one alone,
            # and waits while a process is made, which inherits that it is not to hear.
            block(True)
            process.start()
            block(False)
            send.close()  # so that the child's death ends the pipe
            running[receive] = job, process
        for receive in wait(list(running)):
            job, process = running.pop(receive)
            try:
                row = receive.recv()
                process.join()
            except (EOFError, OSError):
                process.join()
                error = f"the process died with status {process.exitcode}"
                row = label(*job, s, device) | {"error": error}
            yield row


def append(row, path):
    """Append a row to a file of JSON lines; when this returns, it is on the disk."""
    with open(path, "a") as f:
        f.write(json.dumps(row, allow_nan=False) + "\n")
        f.flush()
        os.fsync(f.fileno())


def read(path, repair=False):
    """The rows of a file of JSON lines, [] if there is no file.

    A torn last line, left by a crash, is dropped with a word (with repair, from the
    file too: only one sweep at a time may write to it), and so is whatever else is not
    a row.
    """
    if not os.path.exists(path):
        return []
    with open(path, "rb") as f:
        content = f.read()
    whole, rows = content[: content.rfind(b"\n") + 1], []
    if whole != content:
        print(f"{path}: dropped the last line, which was torn")
        if repair:
            os.truncate(path, len(whole))
    # A row can start within a line too: where a torn file had another one appended.
    for line in filter(None, re.split(rb'\n|(?={"variant": )', whole)):
        try:
            row = json.loads(line)
            keys = {"variant", "seed", "device", "torch", "settings", "change"}
            keys.add("error" if "error" in row else "parameters")
            if not (keys <= row.keys() and {**row["settings"], **row["change"]}):
                raise ValueError
            rows.append(row)
        except (ValueError, TypeError, AttributeError):
            print(f"{path}: dropped {line[:30]}..., which is not a run")
    return rows


def difference(row, settings):
    """How a row was made otherwise than with these settings and the variants above, ""
    where it was not."""
    if row["variant"] not in VARIANTS:
        return f"there is no variant {row['variant']!r} here"
    there = row["settings"] | row["change"]
    here = settings | VARIANTS[row["variant"]].change()
    return ", ".join(
        f"{key} is {there.get(key)} there and {here.get(key)} here"
        for key in sorted(there | here)
        if there.get(key) != here.get(key)
    )


def distinct(rows):
    """One row a run, as {(variant, seed): row}: the first that finished or, where none
    did, the last that died."""
    runs = {}
    for row in rows:
        key = row["variant"], row["seed"]
        if key not in runs or "error" in runs[key]:
            runs[key] = row
    return runs


# --------------------------------------------------------------------------------------
# What they amount to


def wilson(k, n, z=1.959964):
    """The interval (low, high) of Wilson 1927 for a share seen k times in n.

    z is a quantile of the normal distribution, by default for 95%. Unlike the usual
    one, it holds near 0 and 1 too. ValueError: n below 1, k not in 0..n.
    """
    if n < 1:
        raise ValueError(f"n must be at least 1, got {n}")
    if not 0 <= k <= n:
        raise ValueError(f"k must be in 0..{n}, got {k}")
    middle, half = k + z**2 / 2, z * math.sqrt(k * (n - k) / n + z**2 / 4)
    return max(0.0, middle - half) / (n + z**2), min(1.0, (middle + half) / (n + z**2))


def reply(row):
    """What the second decision is when shown, in place of the first one's mask, the
    truth that it gives itself: "same" (then it is no answer to that mask), "opposite"
    (then it is), or "unclear" if neither for at least a share GIVEN of the images.

    None for a run that did not find both or whose second decision sees no mask. Where
    a state is fed back too, it still tells of the first decision.
    """
    own = row["decisions"][-1]["outcome"] if row.get("found") else None
    if own not in (shown := row.get("shown", {})):
        return None
    said, share = max(shown[own].items(), key=lambda item: item[1])
    if share < data.GIVEN or said not in shown:
        return "unclear"
    return "same" if said == own else "opposite"


def summarise(runs):
    """What the runs of each variant ended in: a list of dicts, ordered as VARIANTS.

    found: how many found both groupings (see FOUND), interval: Wilson's; median_step:
    of found_at, over those that did; outcomes: the share of the runs of each, by the
    commonest outcome of each decision; replies: see reply. A run that died counts, as
    one that did not find both.
    """
    rows = []
    for name, v in VARIANTS.items():
        own = [run for (variant, _), run in sorted(runs.items()) if variant == name]
        if not own:
            continue
        steps = [run["found_at"] for run in own if run.get("found")]
        ends = Counter(run.get("outcome", "died") for run in own)
        order = sorted(ends, key=lambda o: (o != "left + right", o == "died", o))
        sizes = {run["parameters"] for run in own if "error" not in run}
        row = {
            "variant": name,
            "title": v.title,
            "runs": len(own),
            "found": len(steps),
            "share_found": len(steps) / len(own),
            "interval": wilson(len(steps), len(own)),
            "median_step": statistics.median(steps) if steps else None,
            "outcomes": {o: ends[o] / len(own) for o in order},
            "found_seeds": [run["seed"] for run in own if run.get("found")],
            "failed_seeds": [run["seed"] for run in own if not run.get("found")],
            "died": {run["seed"]: run["error"] for run in own if "error" in run},
            "parameters": max(sizes, default=None),
            "passes": v.passes,
            "replies": Counter(filter(None, map(reply, own))),
        }
        rows.append(row)
    return rows


def table(rows):
    """The rows of summarise as a table in Markdown."""
    head = ["variant", "finds both", "95% interval", "at step (median)", "outcomes"]
    head += ["seeds that fail", "parameters", "passes"]
    lines = [head, ["---"] * len(head)]
    for r in rows:
        interval = "{:.0%} to {:.0%}".format(*r["interval"])
        step = "-" if r["median_step"] is None else f"{r['median_step']:g}"
        outcomes = (f"{o} {round(p * r['runs'])}" for o, p in r["outcomes"].items())
        found, failed = (
            ", ".join(map(str, r[key])) for key in ("found_seeds", "failed_seeds")
        )
        if len(r["failed_seeds"]) > r["found"]:  # the shorter of the two lists
            failed = f"all but {found}" if found else "all"
        cells = [r["title"], f"{r['found']}/{r['runs']}", interval, step]
        cells += [", ".join(outcomes), failed or "-"]
        size = "-" if r["parameters"] is None else f"{r['parameters']:,}"
        lines.append([*cells, size, str(r["passes"])])
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)


# How each outcome of a decision is drawn: as it is painted, and told apart in grey too.
LOOKS = {
    "left": {"fc": data.RED},
    "right": {"fc": data.YELLOW},
    "both": {"fc": data.ORANGE, "hatch": ".."},
    "neither": {"fc": "white"},
    "split": {"fc": "0.85", "hatch": "//"},
    "unlearned": {"fc": "white", "hatch": "xxxx"},
    "died": {"fc": "black"},
}


def plot(rows):
    """A row a variant, from summarise: what its runs end in as a stacked bar, and how
    often both groupings are found, with its interval. Returns the Figure."""
    fig = Figure(figsize=(11, 2.4 + 0.56 * len(rows)), layout="constrained")
    ax, right = fig.subplots(1, 2, sharey=True, width_ratios=(1.9, 1))
    box = {"boxstyle": "round,pad=0.15", "fc": "white", "ec": "none", "alpha": 0.9}
    middle = {"ha": "center", "va": "center", "fontsize": 9, "bbox": box}
    labels = []
    for y, r in enumerate(rows):
        if y and r["variant"] in EXTRA and rows[y - 1]["variant"] in MAIN:
            ax.axhline(y - 0.5, color="black", lw=1)
            right.axhline(y - 0.5, color="black", lw=1)
        start = 0.0
        for outcome, width in r["outcomes"].items():
            ends = outcome.split(" + ")
            height = 0.68 / len(ends)
            for k, end in enumerate(ends):  # a stripe a decision
                look = LOOKS[end] | {"ec": "0.35", "lw": 0, "align": "edge"}
                ax.barh(y - 0.34 + k * height, width, height, start, **look)
            ax.barh(y, width, 0.68, start, fill=False, ec="black", lw=1.2)
            name = f"{outcome}: " if width > 0.019 * len(outcome) else ""
            text = f"{name}{round(width * r['runs'])}"
            ax.text(start + width / 2, y, text, **middle)
            start += width
        p, (low, high) = r["share_found"], r["interval"]
        right.plot([low, high], [y, y], "k|-", [p], [y], "ko", ms=7)
        step = "" if r["median_step"] is None else f"\nstep {r['median_step']:g}"
        text = f"{r['found']} of {r['runs']}{step}"
        right.text(1.06, y, text, va="center", fontsize=9)
        size = "" if r["parameters"] is None else f"{r['parameters']:,} weights, "
        passes = "1 pass" if r["passes"] == 1 else f"{r['passes']} passes"
        labels.append(f"{r['title']}\n{size}{passes}")
    ax.set_yticks(range(len(rows)), labels, fontsize=9)
    ax.set(xlim=(0, 1), ylim=(len(rows) - 0.5, -0.5), xlabel="share of the runs")
    ax.set_title("What the decisions end in, and in how many runs", fontsize=11)
    right.set(xlim=(-0.03, 1.5), xticks=[0, 0.25, 0.5, 0.75, 1])
    right.set_xlabel("share of the runs")
    text = "Runs that find both groupings\n(95% interval, median step)"
    right.set_title(text, fontsize=11)
    right.grid(axis="x", color="0.85")
    right.set_axisbelow(True)
    right.tick_params(axis="y", length=0)
    seen = {end for r in rows for o in r["outcomes"] for end in o.split(" + ")}
    handles = [Patch(ec="black", label=k, **LOOKS[k]) for k in LOOKS if k in seen]
    text = "Who gets the common region, by each decision (where there are two, a stripe"
    text += " each);\nunlearned: the rest of the shapes is not found either"
    place = {"loc": "outside lower center", "ncols": 7, "frameon": False}
    fig.legend(handles=handles, title=text, fontsize=10, **place)
    fig.suptitle(
        "A common region may be the left shape's or the right one's, and both are valid"
        ".\nWhich ingredient lets two decisions find one grouping each?\nEach run has its"
        f" own seed; the maximum has sharpness {Settings.beta:g} where nothing else is said"
    )
    return fig


# --------------------------------------------------------------------------------------
# Command line


def seeds(text):
    """An argparse type: "0-19" or "3" or "0-4,7" -> a list of seeds, each once."""
    found = []
    for part in text.split(","):
        ends = re.fullmatch(r"([0-9]{1,9})(?:-([0-9]{1,9}))?", part)
        low, high = (int(ends[1]), int(ends[2] or ends[1])) if ends else (1, 0)
        if not low <= high < data.SEEDS:
            known = f"as in 7 or 0-9,15, below {data.SEEDS}"
            raise argparse.ArgumentTypeError(f"must be {known}, got {part!r}")
        found += range(low, high + 1)
    return list(dict.fromkeys(found))


def names(text):
    """An argparse type: names of variants with commas between -> a list, each once."""
    for name in (found := list(dict.fromkeys(text.replace(" ", "").split(",")))):
        if name not in VARIANTS:
            known = ", ".join(VARIANTS)
            raise argparse.ArgumentTypeError(f"must be among {known}, got {name!r}")
    return found


def arguments():
    """Parse the command line: (parser, args). Bad input ends the program, status 2."""
    parser = theory.Parser(__doc__)
    text = f"with commas between, default: {','.join(MAIN)}"
    parser.add_argument("--variants", type=names, default=list(MAIN), help=text)
    text = f"also {','.join(EXTRA)}"
    parser.add_argument("--extra", action="store_true", help=text)
    text = "as in 7 or 0-9,15, default %(default)s"
    parser.add_argument("--seeds", type=seeds, default="0-19", help=text)
    text, whole = "of a run but dual-long, default %(default)s", data.whole(1, 10**6)
    parser.add_argument("--epochs", type=whole, default=Settings.epochs, help=text)
    text = "runs at once, default: as many as there are cores; one on CUDA"
    parser.add_argument("--workers", type=data.whole(1, 1000), help=text)
    text = "auto, cpu or cuda, default auto: CUDA where there is one"
    parser.add_argument("--device", type=data.device, default="auto", help=text)
    text = "run nothing, draw all that is in OUT/controls.jsonl"
    parser.add_argument("--plot-only", action="store_true", help=text)
    args = parser.parse_args()
    if args.extra:
        args.variants = list(dict.fromkeys([*args.variants, *EXTRA]))
    if args.workers is None:
        cores = getattr(os, "sched_getaffinity", lambda _: range(os.cpu_count() or 1))
        args.workers = 1 if args.device == "cuda" else len(cores(0))
    return parser, args


def main():
    parser, args = arguments()
    s, path = Settings(epochs=args.epochs), os.path.join(args.out, "controls.jsonl")

    def check(row):
        if text := difference(row, settings):
            run = f"{row['variant']} seed {row['seed']}"
            text = f"{run} was made with other settings, {text}"
            parser.error(f"{path}: {text}; another --out keeps them apart")

    rows = read(path, repair=not args.plot_only)
    # Rows that are only drawn need only agree with one another.
    settings = rows[0]["settings"] if args.plot_only and rows else settings_of(s)
    for row in rows:
        check(row)
    if not args.plot_only:
        runs = distinct(rows)
        every = [(name, k) for k in args.seeds for name in args.variants]
        jobs = [job for job in every if job not in runs or "error" in runs[job]]
        there = f"{len(every) - len(jobs)} of {len(every)} runs are there already"
        print(f"{there}; {path} keeps each as it ends", flush=True)
        start = time.perf_counter()
        for k, row in enumerate(sweep(jobs, s, args.device, args.workers), 1):
            check(row)  # the code may have been edited meanwhile
            append(row, path)
            rows.append(row)
            end = f"died, {row['error']}" if "error" in row else row["outcome"]
            left = (time.perf_counter() - start) / k * (len(jobs) - k) / 60
            run = f"{row['variant']} seed {row['seed']}: {end}"
            print(f"{k}/{len(jobs)}  {run}  ({left:.0f} min left)", flush=True)
    if not rows:
        parser.error(f"{path}: there are no runs in it")
    runs = distinct(rows)
    summary = summarise(runs)
    numbers = {"experiment": "exp_controls", "settings": settings}
    for key in ("torch", "device"):
        numbers[key] = sorted({run[key] for run in runs.values()})
        if len(numbers[key]) > 1:
            print(f"note: these runs differ in {key}: {', '.join(numbers[key])}")
    theory.save(plot(summary), numbers | {"variants": summary}, args.out, "controls")
    print(table(summary))
    if dead := sum(len(row["died"]) for row in summary):
        print(f"runs that died: {dead}; starting this again tries them again")
        sys.exit(1)


if __name__ == "__main__":
    theory.script(main)
