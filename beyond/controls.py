"""How often, and because of what? Parts of the recurrent network left out, and other
remedies for the decision that never learns, each over many seeds.

The paper shows one run of each setting and credits recurrence: the second decision sees
the first. Here every variant is trained on the same images with the same settings,
those of exp_recurrent.py but for what its name says, and what its decisions end in is
counted. Running this draws the recorded runs (figures/controls.jsonl) and prints tables
of them; --out FOLDER runs everything anew, with a row a run in FOLDER/controls.jsonl.

It can be stopped at any moment: started again it does only the runs that are missing or
have died. Parts run elsewhere (--variants, --seeds, each with an --out of its own) are
put together by appending their controls.jsonl to one another; --plot-only draws what is
there.
"""

import copy
import json
import statistics
import time
from collections import Counter
from dataclasses import dataclass, field

import torch
from torch import nn

import common
import data
import pictures
import sweep
from exp_recurrent import Settings
from recurrent_unet import RecurrentUNet
from unet import UNet

VERSION = 1  # see sweep.py; that a network changed, its rows say themselves
# A run finds the two groupings if it does so for this share of (image, grouping) pairs.
FOUND = 0.99
# Weight of the worse decision in relaxed winner-takes-all (Rupprecht et al. 2017).
RELAXED = 0.05
FIXED = {"found": FOUND, "relaxed": RELAXED, "given": data.GIVEN}
FIXED |= {"learned": data.LEARNED, "exact": data.EXACT}


class ToldPass(nn.Module):
    """Maps images (n, 1, H, W) to the logits of all passes, (n, steps, 2, H, W).

    The U-Net runs several times with the same weights and is told only which pass it
    is, by a constant channel, 0, 1 and so on: nothing of the decisions before. The
    other arguments, and what raises ValueError, are those of UNet.
    """

    def __init__(self, width=16, depth=2, steps=2, out_channels=2, generator=None):
        super().__init__()
        self.steps = steps
        self.unet = UNet(2, out_channels, width, depth, generator)

    def forward(self, images):
        passes = [torch.full_like(images, k) for k in range(self.steps)]
        return torch.stack([self.unet(torch.cat((images, k), 1)) for k in passes], 1)


class TwoUNets(nn.Module):
    """Maps images (n, 1, H, W) to the logits of two U-Nets, (n, 2, 2, H, W).

    With feed_mask the second sees the first one's mask or, where the network is called
    with shown (n, 2, H, W), that in its place; else shown is not used. The other
    arguments, and what raises ValueError, are those of UNet.
    """

    def __init__(
        self, width=16, depth=2, feed_mask=False, out_channels=2, generator=None
    ):
        super().__init__()
        self.feed_mask, seen = feed_mask, 1 + out_channels * feed_mask
        self.first = UNet(1, out_channels, width, depth, generator)
        self.second = UNet(seen, out_channels, width, depth, generator)

    def forward(self, images, shown=None):
        first, x = self.first(images), images
        if self.feed_mask:  # not detached, as in the recurrent network
            mask = torch.sigmoid(first) if shown is None else shown
            x = torch.cat((images, mask), 1)  # (n, 1 + 2, H, W)
        return torch.stack((first, self.second(x)), 1)


class Twins(nn.Module):
    """Maps images (n, 1, H, W) to the logits of two U-Nets that start alike, (n, 2, 2,
    H, W).

    The second one's weights are the first one's plus Gaussian noise, noise times the
    spread of each tensor. shared "encoder" leaves them one way down and two ways up,
    "trunk" two heads on one U-Net. The other arguments, and what else raises ValueError,
    are those of UNet. ValueError: another shared.
    """

    def __init__(
        self,
        width=16,
        depth=2,
        shared="nothing",
        noise=1e-3,
        out_channels=2,
        generator=None,
    ):
        super().__init__()
        parts = {"nothing": (), "encoder": ("down",), "trunk": ("down", "up", "merge")}
        if shared not in parts:
            raise ValueError(
                f"shared must be one of {', '.join(parts)}, got {shared!r}"
            )
        self.first = UNet(1, out_channels, width, depth, generator)
        self.second = copy.deepcopy(self.first)
        with torch.no_grad():
            for p in self.second.parameters():
                other = torch.randn(p.shape, generator=generator)
                p += noise * p.std(correction=0) * other
        for part in parts[shared]:
            setattr(self.second, part, getattr(self.first, part))

    def forward(self, images):
        return torch.stack((self.first(images), self.second(images)), 1)


class Handing(RecurrentUNet):
    """A recurrent U-Net that hands on something else than its mask and its state.

    mask is "own", "detached", "half" (1/2 everywhere), "noise" (even in [0, 1], from the
    CPU's generator) or "pass" (its number, 1 and so on; the first pass sees 1/2 as ever);
    state is "own", "detached" or "zero". ValueError: another, or an argument of
    RecurrentUNet that does not fit.
    """

    def __init__(self, mask="own", state="own", generator=None, **options):
        if mask not in ("own", "detached", "half", "noise", "pass"):
            raise ValueError(f"mask must be one that Handing knows, got {mask!r}")
        if state not in ("own", "detached", "zero"):
            raise ValueError(f"state must be own, detached or zero, got {state!r}")
        super().__init__(generator=generator, **options)
        self.mask, self.state, self.noise = mask, state, generator
        # Whether a pass sees what the one before it drew.
        self.sees_mask = self.feed_mask and mask in ("own", "detached")

    def hand_on(self, logits, state, k):
        mask = torch.sigmoid(logits)
        if self.mask == "noise":
            mask = torch.rand(mask.shape, generator=self.noise).to(mask)
        elif self.mask in ("half", "pass"):
            mask = torch.full_like(mask, 0.5 if self.mask == "half" else k)
        elif self.mask == "detached":
            mask = mask.detach()
        if state is not None and self.state != "own":
            state = state.detach() if self.state == "detached" else None
        return mask, state


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
    other: dict = field(default_factory=dict)  # than in Settings, as common.flat has it

    def settings(self, s):
        """The Settings, changed as it says."""
        return common.change(
            s, [f"{name}={value}" for name, value in self.other.items()]
        )

    def build(self, s, generator):
        """Its network, of s.steps passes if passes are what it has."""
        s = self.settings(s)
        options = {"width": s.width, "depth": s.depth, "generator": generator}
        if issubclass(self.net, (RecurrentUNet, ToldPass)):
            options["steps"] = s.steps
        return self.net(**options | self.options)


ONE, TWO = {"out_channels": 2}, {"out_channels": 4}
MASK, STATE, SEES = {"feed_state": False}, {"feed_mask": False}, {"feed_mask": True}
DRU, SRU, LONG = {"unit": "dru"}, {"unit": "sru"}, {"epochs": 100}
SHARP = {
    f"beta-{b}": (f"sharpness {b}", {"other": {"beta": float(b)}}) for b in (10, 20, 50)
} | {"hard": ("hard maximum", {"rule": "hard"})}
# Under the question that they answer together; the first five make the argument.
GROUPS = {
    "The paper's three": {
        "single": Variant("Single decision: one U-Net", UNet, ONE),
        "dual": Variant("Dual heads: two decisions at once", UNet, TWO),
        "recurrent": Variant("Recurrent: mask and state fed back", RecurrentUNet),
    },
    "Must the second decision see the first?": {
        "mask-only": Variant("Recurrent: mask alone fed back", RecurrentUNet, MASK),
        "state-only": Variant("Recurrent: state alone fed back", RecurrentUNet, STATE),
        "told-step": Variant("One U-Net twice, told only the pass", ToldPass),
    },
    "Is it enough to see the first?": {
        "sequence": Variant("Two U-Nets, one sees the other's mask", TwoUNets, SEES),
        "independent": Variant("Two U-Nets, independent", TwoUNets),
    },
    "Same weights, or only the same start? (noise in their spreads)": {
        **{
            f"alike-{noise:.0e}".replace("-0", "-"): Variant(
                f"Two U-Nets, alike at first but for {text}", Twins, {"noise": noise}
            )
            for noise, text in ((1e-6, "1e-6"), (1e-3, "1e-3"), (1e-1, "1e-1"))
        },
        "twin-decoders": Variant(
            "One encoder, two decoders alike but for 1e-3", Twins, {"shared": "encoder"}
        ),
        "twin-heads": Variant(
            "One U-Net, two heads alike but for 1e-3", Twins, {"shared": "trunk"}
        ),
    },
    "What must mask and state say? (detached: no gradient)": {
        "mask-detached": Variant(
            "Recurrent, the mask detached", Handing, {"mask": "detached"}
        ),
        "mask-half": Variant("Recurrent, 1/2 for the mask", Handing, {"mask": "half"}),
        "mask-noise": Variant(
            "Recurrent, noise for the mask", Handing, {"mask": "noise"}
        ),
        "state-detached": Variant(
            "Recurrent, the state detached", Handing, {"state": "detached"}
        ),
        "mask-unit": Variant(
            "Mask alone, a unit without memory", Handing, {"state": "zero"}
        ),
    },
    "Known remedies": {
        "relaxed": Variant("Dual heads, relaxed maximum", UNet, TWO, "relaxed"),
        "annealed": Variant("Dual heads, annealed maximum", UNet, TWO, "annealed"),
    },
    "Another unit": {
        "dru": Variant("Recurrent, a DRU for the GRU", RecurrentUNet, DRU),
        "sru": Variant("Recurrent, an SRU for the GRU", RecurrentUNet, SRU),
    },
    "One truth drawn by a coin": {
        "single-coin": Variant("Single decision, a coin", UNet, ONE, coin=True),
        "dual-coin": Variant("Dual heads, a coin", UNet, TWO, coin=True),
        "recurrent-coin": Variant("Recurrent, a coin", RecurrentUNet, coin=True),
    },
    "A maximum of another sharpness than 100": {
        f"{name}-{key}": Variant(f"{title}, {text}", net, options, **change)
        for name, title, net, options in (
            ("dual", "Dual heads", UNet, TWO),
            ("recurrent", "Recurrent", RecurrentUNet, {}),
            ("told-step", "Told only the pass", ToldPass, {}),
        )
        for key, (text, change) in SHARP.items()
    },
    "A longer training": {
        "single-long": Variant("Single decision, 100 epochs", UNet, ONE, other=LONG),
        "dual-long": Variant("Dual heads, 100 epochs", UNet, TWO, other=LONG),
    },
}
VARIANTS = {name: v for group in GROUPS.values() for name, v in group.items()}
# Two heads at their strongest are looked for among these, on seeds from 1000 up.
SEARCH = {
    f"dual-beta-{beta}-step-{step}-{text}": Variant(
        f"Dual heads, sharpness {beta}, step size {step}, {text.replace('-', ' ')}",
        UNet,
        TWO,
        other={"beta": float(beta), "learning_rate": step} | other,
    )
    for beta in (5, 10, 20, 100)
    for step in (0.001, 0.002, 0.004)
    for text, other in (
        ("as-is", {}),
        ("width-24", {"width": 24}),
        ("batch-16", {"batch": 16}),
    )
}
VARIANTS |= SEARCH
BEST = "dual-beta-5-step-0.001-width-24"  # of these, see searched
GROUPS["Two heads at their strongest"] = {BEST: SEARCH[BEST]}
LATER = "A maximum of another sharpness than 100", "A longer training"
EXTRA = [name for question in LATER for name in GROUPS[question]] + [BEST]
MAIN = [name for name in VARIANTS if name not in EXTRA and name not in SEARCH]
# Whose counts are compared; first those that were written down before the runs, whose
# p-values are corrected for one another.
PLANNED = [("alike-1e-3", "independent"), ("told-step", "alike-1e-3")]
PLANNED += [
    (name, "recurrent") for name in ("mask-detached", "mask-half", "mask-noise")
]
PAIRS = {
    "mask-only": ("told-step",),
    "recurrent": ("told-step", "recurrent-hard"),
    "told-step": ("independent", "dual"),
    "sequence": ("independent",),
    "recurrent-beta-10": ("dual-beta-10", "told-step-beta-10"),
    "annealed": ("dual",),
}


def decide(net, images, *shown, instances=2):
    """The decisions of any variant's network: probabilities (n, D, 2, H, W), of so many
    instances."""
    masks = torch.sigmoid(net(images, *shown))  # (n, D, 2, H, W) or (n, 2 D, H, W)
    return masks if masks.ndim == 5 else masks.unflatten(1, (-1, instances))


def priors(s):
    """How likely each grouping is, a list: m and 1 - m for two, else all equally."""
    K = s.shape.K
    return [s.m, 1 - s.m] if K == 2 else [1 / K] * K


def objective(v, s, masks, parts, truth, progress):
    """The loss of a batch, see share; truth (n or 1, 2) weighs the two groupings."""
    scores = data.score(masks, data.groupings(parts))  # (n, D, 2 truths)
    best = share(scores, v.rule, s.beta, progress)  # (n, 2)
    return -(truth * best).sum(1).mean()


@common.prepared
def run(name, seed, s, device, variants=VARIANTS):
    """Train a variant as the experiments do and test it: a dict of what it ends in.

    name is a key of variants, s the Settings, device "cpu" or "cuda". The dict has
    what data.measure gives; found: whether the two groupings are (see FOUND); found_at:
    the recorded step from which every recorded batch was exact, if found; outcome: of
    both decisions, in either order; shown: if the second decision sees a mask, the
    share of images of each of its outcomes when that mask is, in place of the first
    decision, one truth or the other. FloatingPointError: the loss is not finite.
    """
    v = variants[name]
    s = v.settings(s)
    net = v.build(s, torch.Generator().manual_seed(seed))
    net = net.to(device, memory_format=torch.channels_last)
    optimiser = torch.optim.Adam(net.parameters(), s.learning_rate, fused=True)
    generator = torch.Generator(device).manual_seed(seed + data.SEEDS)
    # A stream of its own, so that with and without coins the images are the same.
    coins = torch.Generator(device).manual_seed(seed + 3 * data.SEEDS)
    prior = torch.tensor([[s.m, 1 - s.m]], device=device)  # (1, 2 truths)
    steps = s.epochs * s.steps_per_epoch
    found_at, start = None, time.perf_counter()
    for step in range(1, steps + 1):
        images, parts = data.sample(s.batch, generator, s.shape, s.noise)
        truth = prior
        if v.coin:
            left = torch.rand(s.batch, generator=coins, device=device) < s.m
            truth = torch.stack((left, ~left), 1).float()  # (n, 2)
        masks = decide(net, images)  # (n, D, 2, H, W)
        loss = objective(v, s, masks, parts, truth, (step - 1) / max(1, steps - 1))
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        if step % s.steps_per_epoch == 0 or (step - 1) % max(1, steps // 100) == 0:
            common.finite(loss.item(), step)
            exact = data.measure(masks, parts)["oracle_exact"] >= FOUND
            found_at = (found_at or step) if exact else None
    seconds = time.perf_counter() - start

    net.eval().requires_grad_(False)  # from here on it is tested
    images, parts = data.held_out(s, seed, device)
    measured = data.measure(decide(net, images), parts, s.m)
    ends = sorted(d["outcome"] for d in measured["decisions"])  # in either order
    found = measured["oracle_exact"] >= FOUND
    # The last batch may miss one image in a hundred and the network still finds the two.
    row = {"found": found, "found_at": (found_at or steps) if found else None}
    row |= {"outcome": " + ".join(ends), "seconds": round(seconds, 2)}
    row |= measured | {"parameters": sum(p.numel() for p in net.parameters())}
    if sees_mask(net):
        # Is the second decision an answer to the first? Show it one truth, then the
        # other, as if that had been the first decision.
        row["shown"] = {}
        for first, truth in zip(("left", "right"), data.groupings(parts).unbind(1)):
            *_, last = data.measure(decide(net, images, truth), parts)["decisions"]
            row["shown"][first] = last["outcome_share"]
    return row


@common.prepared
def change(name, s, variants=VARIANTS):
    """What a variant changes, as a dict for the JSON.

    By "start", see sweep, a network or a rule is told from another of the same name.
    """
    v = variants[name]
    s, generator = v.settings(s), torch.Generator().manual_seed(0)
    net = v.build(s, generator)
    images, parts = data.sample(s.batch, generator, s.shape, s.noise)
    masks = decide(net, images, instances=s.shape.K)
    loss = objective(v, s, masks, parts, torch.tensor([priors(s)]), 0.5)
    changed = {"net": v.net.__name__, "options": v.options, "rule": v.rule}
    changed |= {"coin": v.coin, "other": v.other}
    return changed | {"start": sweep.start(net, loss, generator)}


def reply(row):
    """What the second decision is when shown, in place of the first one's mask, the
    truth that it gives itself: "same" (then it is no answer to that mask), "opposite"
    (then it is), or "unclear" if neither for at least a share GIVEN of the images.

    None for a run that did not find the two or whose second decision sees no mask. Where
    a state is fed back too, it still tells of the first decision.
    """
    own = row["decisions"][-1]["outcome"] if row.get("found") else None
    if own not in (shown := row.get("shown", {})):
        return None
    said, share = max(shown[own].items(), key=lambda item: item[1])
    if share < data.GIVEN or said not in shown:
        return "unclear"
    return "same" if said == own else "opposite"


def summarise(runs, variants=VARIANTS):
    """What the runs of each variant ended in: a list of dicts, ordered as VARIANTS.

    found: how many found the two groupings (see FOUND), interval: Wilson's; median_step:
    of found_at, over those that did; pairs, score: means of oracle_exact and of score;
    outcomes: how many ended in each, by the commonest outcome of each decision; replies:
    see reply. A run that died did not find them.
    """
    rows = []
    for name, v in variants.items():
        own = [run for (variant, _), run in sorted(runs.items()) if variant == name]
        steps = [run["found_at"] for run in own if run.get("found")]
        ends = Counter(run.get("outcome", "died") for run in own)
        row = {"variant": name, "title": v.title, "found": len(steps), "of": len(own)}
        if own:
            row["interval"] = sweep.wilson(len(steps), len(own))
            row["median_step"] = statistics.median(steps) if steps else None
            order = sorted(ends, key=lambda o: (o != "left + right", o == "died", o))
            row["outcomes"] = {outcome: ends[outcome] for outcome in order}
            row["found_seeds"] = [run["seed"] for run in own if run.get("found")]
            row["failed_seeds"] = [run["seed"] for run in own if not run.get("found")]
            row["died"] = {run["seed"]: run["error"] for run in own if "error" in run}
            row["parameters"] = max(run.get("parameters", 0) for run in own)
            several = {len(run["decisions"]) for run in own if "decisions" in run}
            again = issubclass(v.net, (RecurrentUNet, ToldPass, TwoUNets, Twins))
            row["passes"] = max(several, default=2) if again else 1
            row["replies"] = Counter(filter(None, map(reply, own)))
            for key, name in (("oracle_exact", "pairs"), ("score", "score")):
                row[name] = statistics.mean(run.get(key, 0) for run in own)
            rows.append(row)
    return rows


def table(rows):
    """The rows of summarise as a table in Markdown."""
    head = ["variant", "finds the two", "95% interval", "at step (median)", "outcomes"]
    head += ["seeds that fail", "weights", "passes"]
    lines = []
    for r in rows:
        interval = "{:.0%} to {:.0%}".format(*r["interval"])
        step = "-" if r["median_step"] is None else f"{r['median_step']:g}"
        outcomes = ", ".join(f"{o} {k}" for o, k in r["outcomes"].items())
        failed, found = (
            ", ".join(map(str, r[f"{k}_seeds"])) for k in ("failed", "found")
        )
        if len(r["failed_seeds"]) > r["found"]:  # the shorter of the two lists
            failed = f"all but {found}" if found else "all"
        cells = [r["title"], f"{r['found']}/{r['of']}", interval, step, outcomes]
        lines.append([*cells, failed or "-", f"{r['parameters']:,}", str(r["passes"])])
    return sweep.markdown(head, lines)


def searched(rows):
    """Those of SEARCH among the rows of summarise, the best first by what was written down
    before: runs that find the two, then pairs found, then score, as a table in Markdown."""
    rows = [r for r in rows if r["variant"] in SEARCH]
    rows.sort(key=lambda r: (-r["found"], -r["pairs"], -r["score"]))
    head = ["two heads", "finds the two", "pairs found", "score", "outcomes"]
    lines = []
    for r in rows:
        ends = ", ".join(f"{o} {k}" for o, k in r["outcomes"].items())
        cells = [r["title"], f"{r['found']}/{r['of']}", f"{r['pairs']:.0%}"]
        lines.append([*cells, f"{r['score']:.3f}", ends])
    return sweep.markdown(head, lines)


def compare(rows, pairs=PAIRS, planned=PLANNED):
    """How the pairs that are among the rows of summarise differ, as a table in Markdown:
    the difference in percentage points, its 95% interval, p by Fisher's exact test and,
    for the planned ones, p corrected for all of these by Holm's method."""
    head = "variant", "against", "finds", "finds", "points", "95% interval", "p", "Holm"
    by, lines = {r["variant"]: r for r in rows}, []
    every = planned + [(a, b) for a, others in pairs.items() for b in others]
    every = [pair for pair in every if by.keys() >= {*pair}]
    counts = [[by[name][k] for name in pair for k in ("found", "of")] for pair in every]
    ps, first = (
        [sweep.fisher(*four) for four in counts],
        sum(p in planned for p in every),
    )
    corrected = [f"{p:.2g}" for p in sweep.holm(ps[:first])] + ["-"] * len(ps)
    for pair, (a, n, b, m), p, after in zip(every, counts, ps, corrected):
        low, high = (100 * x for x in sweep.difference_interval(a, n, b, m))
        cells = [*(by[name]["title"] for name in pair), f"{a}/{n}", f"{b}/{m}"]
        cells += [f"{100 * (a / n - b / m):+.1f}", f"{low:+.1f} to {high:+.1f}"]
        lines.append([*cells, f"{p:.2g}", after])
    return sweep.markdown(head, lines) if lines else ""


def sees_mask(net):
    """Whether a network's second decision sees what the first one drew."""
    return getattr(net, "sees_mask", getattr(net, "feed_mask", False))


def report(out, name, runs, summary, figures):
    """Save NAME.json and the figures {name: Figure}, print the table; returns the
    numbers. Ends with status 1 if runs have died."""
    numbers = {"experiment": f"exp_{name}"}
    for key in ("settings", "version", "torch", "device"):
        different = {json.dumps(run[key]): run[key] for run in runs.values()}
        numbers[key] = list(different.values())
        if len(different) > 1:
            print(f"note: these runs differ in {key}: {', '.join(different)}")
    common.save(f"{out}/{name}.json", numbers | {"variants": summary})
    for picture, fig in figures.items():
        common.save(f"{out}/{picture}.png", fig)
    print("\n\n".join(filter(None, (table(summary), compare(summary)))))
    sweep.exit_if_dead(runs)
    return numbers | {"variants": summary}


def main(argv=None):
    """Run what is missing, draw all: returns the numbers of controls.json, the Figure."""
    parser = common.Parser(__doc__)
    parser.add_training()
    sweep.add_options(parser, VARIANTS, MAIN)
    text = f"Also run {','.join(EXTRA)}."
    parser.add_argument("--extra", action="store_true", help=text)
    args = parser.parse_args(argv)
    if args.extra:
        args.variants = list(dict.fromkeys([*args.variants, *EXTRA]))
    first = args.variants[0]
    s, _ = parser.settings(Settings(), args, lambda s: run(first, 0, s, "cpu"))
    import exp_controls  # this file, as the processes of a sweep know it

    runs = sweep.collect(parser, args, s, exp_controls, "controls")
    summary, questions, figures = summarise(runs), list(GROUPS), {}
    for name, asked in (("controls", questions[:5]), ("controls_rest", questions[5:])):
        groups = {q: [r for r in summary if r["variant"] in GROUPS[q]] for q in asked}
        if any(groups.values()):
            text = "Which network finds the two groupings?"
            text += " (continued)" * bool(figures)
            figures[name] = pictures.bars(groups, text)
    numbers = report(args.out, "controls", runs, summary, figures)
    return numbers, next(iter(figures.values()), None)


if __name__ == "__main__":
    common.script(main)
