"""What a loss or a pair of masks of your own does, said in lines: see beyond/landing.py."""

import argparse
import contextlib
import copy
import importlib.util
import math
import sys
import time
from itertools import combinations
from pathlib import Path

import matplotlib.image
import numpy as np
import torch
from matplotlib.figure import Figure

import data
from beyond import stats, sweep
from beyond.losses import LOSSES
from beyond.networks import Variant
from beyond.predict import DRAWS, checked, from_masks, pair, predict
from beyond.runs import Settings
from beyond.understand import FORMS, Understood, blame, owned, understand

# {loss: [what it is, where it comes from, which library has it]}
ABOUT = {name: loss.__doc__.split(" | ") for name, loss in LOSSES.items()}


def known(name):
    """The loss of LOSSES with this name, as it is called."""
    given = "logits" if name == "bce-dice-logits" else "probabilities"
    exclusive = getattr(LOSSES[name], "exclusive", False)
    return Understood(LOSSES[name], False, "masks", given, exclusive)


def said(value):
    """A share or several, or the word for it."""
    if isinstance(value, list):
        return ", ".join(f"{share:.2f}" for share in value)
    return value if isinstance(value, str) else f"{value:.2f}"


@contextlib.contextmanager
def imports_of(*folders):
    """Within it these folders come first for imports, and ours not at all: a data.py there is
    imported, and ours, which lies in the folder above, is not by accident."""
    top = Path(__file__).resolve().parent.parent
    path, modules = list(sys.path), dict(sys.modules)
    ours = {k: m for k, m in modules.items() if lies_in(m, top) and k != "__main__"}
    for name in ours:
        del sys.modules[name]
    sys.path[:] = [*folders, *(p for p in path if Path(p).resolve() != top)]
    try:
        yield
    finally:
        for name, module in list(sys.modules.items()):
            if name not in modules and any(lies_in(module, Path(f)) for f in folders):
                del sys.modules[name]
        sys.modules.update(ours)
        sys.path[:] = path


def lies_in(module, folder):
    """Whether a module is a file of a folder."""
    file = getattr(module, "__file__", None)
    return file is not None and Path(file).resolve().parent == folder


def split(text):
    """An argparse type: FILE.py:NAME -> (path, name)."""
    path, _, name = text.rpartition(":")
    if not (path.endswith(".py") and name) and text not in LOSSES:
        raise argparse.ArgumentTypeError(f"must be FILE.py:NAME, got {text!r}")
    return path, name


def load(path, name):
    """What a file calls by that name. ValueError: nothing, or the file cannot be run."""
    stem = Path(path).stem
    spec = importlib.util.spec_from_file_location(
        stem if stem not in sys.modules else f"your_{stem}", path
    )
    try:
        module = sys.modules[spec.name] = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
    except (Exception, SystemExit) as e:  # noqa: BLE001 - whatever the file may raise
        text = blame(e.with_traceback(e.__traceback__.tb_next))
        raise ValueError(f"cannot run {path!r}: {text}") from None
    if not hasattr(module, name):
        raise ValueError(f"there is no {name!r} in {path!r}")
    return getattr(module, name)


def described(what, truths=None):
    """What predict returns for these truths, in five lines."""
    how = "one owner of a pixel at most" if what["exclusive"] else "not exclusive"
    order = {"pred-first": "prediction first", "truth-first": "truth first"}[
        what["order"]
    ]
    first = f"{what['input']}, {order}, as {FORMS[what['classes']]}; {how}"
    if what["takes"]:
        first += f"; of what it returns, {what['takes']}"
    if what["random"]:
        first += f"; random, so the mean of {DRAWS} draws"
    best, kind, curve = said(what["predicted"]), what["kind"], what["curve"]
    if kind == "flat":
        together = ""
        if what["exclusive"] and all(
            abs(sum(shares) - 1) < 1e-3 for shares in what["best"]
        ):
            together = " that add up to 1"
        low, high = (end[0] for end in (what["best"][0], what["best"][-1]))
        best = f"any from {low:.2f} to {high:.2f}{together} (the mean loss is {min(curve):.3g}"
        best += f" there and at most {max(curve):.3g})"
    elif kind == "ends tie":
        best = "0 or 1, which tie; every share between is worse"
    if what["random"] and kind == "in between":
        best += f", give or take {what['within']:.2f}"
    end = said(what["slides_to"])
    if not what["gradient"]:
        end = "nowhere: there is no gradient (a metric, or steps)"
    elif what["cut"] == "one owner" and kind == "one owner" and len(what["best"]) > 1:
        end += ", or the other way round"
    cut = {"given": "given to all", "not given": "given to nobody"}
    cut |= {"toss-up": "a toss-up, pixel by pixel", "one owner": "given to one owner"}
    where = (
        "the largest class of a pixel" if what["exclusive"] else "a mask cut off at 1/2"
    )
    to_do = "one decision cannot be right for every truth; match several with the truths one to one"
    to_do += ", or let one network pass twice (README.md)"
    if truths and len(truths) == 1:
        to_do = "nothing: there is one truth"
    return [
        f"understood: {first}",
        f"best share of the common region: {best}",
        f"an undecided network goes to: {end}",
        f"{where}: {cut.get(what['cut'], what['cut'])}",
        f"to do: {to_do}",
    ]


def draw(what, parts):
    """Two masks and, given what predict says, the mean loss in the plane of their shares, with
    where an undecided network ends. Returns the Figure."""
    columns = 1 if what is None else 2
    fig = Figure(figsize=(5.5 * columns, 5), layout="constrained")
    left, *right = fig.subplots(1, columns, squeeze=False)[0]
    masks = owned(parts, torch.ones(1, 2)).float()  # (1, 2, H, W)
    rgb = data.paint(torch.zeros_like(masks[0, :1]), masks[0], parts.float())
    left.imshow(rgb, interpolation="nearest")
    left.set(xticks=[], yticks=[], title="two instances, and what both claim")
    if what is None:
        return fig
    (ax,), end = right, what["slides_to"]
    places, costs = np.array(what["places"]), np.array(what["costs"])
    # Walls at the ends, as those of a logarithm, would hide what lies between.
    top = costs[(places.min(1) > 0.05) & (places.max(1) < 0.95)].max()
    if np.ptp(costs) < 1e-6 * abs(top):  # the same everywhere, but for rounding
        costs = np.full_like(costs, top)
    levels = np.linspace(costs.min(), top, 21) if top > costs.min() else 21
    shade = ax.tricontourf(*places.T, costs, levels, cmap="viridis", extend="max")
    fig.colorbar(shade, label="mean loss over the truths")
    best = np.array(what["best"]).T
    ax.plot(*best, "wD", ms=11, mec="black", clip_on=False, label="best")
    start = [1 / 3 if what["exclusive"] else 1 / 2] * 2
    end = end if isinstance(end, list) else [end] * 2
    ax.plot(*zip(start, end), "o:", color="white", mec="black", label="undecided")
    ax.plot(*end, "r*", ms=18, mec="black", clip_on=False, label="where it goes")
    ax.set(xlabel="share of the first instance", ylabel="share of the second")
    ax.legend(loc="upper center", ncols=3, bbox_to_anchor=(0.5, -0.13), frameon=False)
    where = "largest class" if what["exclusive"] else "cut off at 1/2"
    ax.set_title(f"best: {said(what['predicted'])}; {where}: {what['cut']}")
    return fig


def read(path):
    """The masks of a file .npy or .png, (H, W) or (n, H, W), as booleans. ValueError: no masks."""
    try:
        if path.suffix == ".npy":
            masks = np.load(path)
            if not isinstance(masks, np.ndarray):
                raise ValueError("it holds several arrays")
            return masks != 0
        if path.suffix != ".png":  # what compresses with a loss has no masks
            raise ValueError("masks are .npy or .png")
        image = matplotlib.image.imread(path)
    except (
        OSError,
        EOFError,
        SyntaxError,
        ValueError,
    ) as e:  # cut short, or another kind
        raise ValueError(f"cannot read {str(path)!r}: {e}") from None
    return image[..., :3].any(-1) if image.ndim == 3 else image != 0


def overlapping(stack):
    """All pairs of masks (n, H, W) that overlap, as (shared pixels, i, j, parts), the largest
    overlap first. ValueError: there is none."""
    those = []
    for i, j in combinations(range(len(stack)), 2):
        with contextlib.suppress(ValueError):
            parts = from_masks(stack[i], stack[j])
            those.append((int(parts[1].sum()), i, j, parts))
    if not those:
        raise ValueError("no two of the masks overlap in part")
    return sorted(those, key=lambda row: (-row[0], *row[1:3]))


def overlap(parts):
    """The sizes of a pair's parts, and the IoU of its masks where both claim what they share."""
    first, b, second = (int(part.sum()) for part in parts)
    return [
        first,
        b,
        second,
        f"{b / first:.2f}, {b / second:.2f}",
        f"{b / (first + b + second):.2f}",
    ]


def pair_of(paths):
    """The parts of the pair in one or two files, or of the pair in a file that shares most, and
    how it overlaps in a text. Of large masks every second pixel is taken, or fewer."""
    masks = [read(path) for path in paths]
    if len(masks) == 1 and masks[0].ndim == 3:
        masks = masks[0]
    if len(masks) < 2 or masks[0].ndim != 2 or len({mask.shape for mask in masks}) > 1:
        shapes = ", ".join(str(mask.shape) for mask in masks)
        raise ValueError(
            f"masks must be one file (n, H, W) or several of (H, W), got {shapes}"
        )
    rows = [(0, 0, 1, from_masks(*masks))] if len(masks) == 2 else overlapping(masks)
    head = [
        "masks",
        "own pixels of the first",
        "shared, b",
        "of the second",
        "b/P",
        "IoU",
    ]
    lines = [[f"{i}, {j}", *overlap(parts)] for _, i, j, parts in rows]
    text = "IoU: of the two if both claim what they share; duplicates are usually above 0.5."
    parts, step = rows[0][-1], math.ceil(max(masks[0].shape) / 64)
    while not parts[:, ::step, ::step].any(-1).any(-1).all():
        step -= 1
    if step > 1:
        text += f" What follows uses one pixel in {step * step}."
    return parts[:, ::step, ::step], f"{stats.markdown(head, lines)}\n{text}"


def table(parts, truths, priors):
    """What each of the losses does, for truths that annotators give by themselves and averaged:
    the lines of a table in Markdown."""
    checked(parts, truths, priors)
    kinds = {"": (truths, priors)}
    if truths:
        priors = priors or [1.0] * len(truths)
        columns = zip(*truths, strict=True)
        average = [np.average(column, weights=priors) for column in columns]
        kinds = {"by itself: ": (truths, priors), "averaged: ": ([average], None)}
    head = [
        "loss",
        *(kind + what for kind in kinds for what in ("best share", "goes to", "cut")),
    ]
    yield stats.markdown(head, [])
    for name in LOSSES:
        cells = [ABOUT[name][0]]
        for some, often in kinds.values():
            try:
                what = predict(known(name), parts, truths=some, priors=often)
                cells += [said(what[key]) for key in ("predicted", "slides_to", "cut")]
            except ValueError as e:
                cells += [str(e), "-", "-"]
        yield f"| {' | '.join(cells)} |"


def progress():
    """What predict is to call: where it takes long, it says how far it is, every three seconds."""
    said = time.perf_counter()

    def tell(evaluations):
        nonlocal said
        if time.perf_counter() - said > 3:
            said = time.perf_counter()
            print(f"{evaluations} evaluations of the loss so far", file=sys.stderr)

    return tell


def network(thing, seed, size):
    """A network for images (n, 1, size, size), of a class, a function or a network. ValueError: it
    does not map them to (n, 2, size, size)."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        net = copy.deepcopy(thing) if isinstance(thing, torch.nn.Module) else thing()
    with torch.no_grad():
        logits = net.eval()(torch.zeros(2, 1, size, size))
    shape = tuple(getattr(logits, "shape", ())) or type(logits).__name__
    if shape != (2, 2, size, size):
        raise ValueError(
            f"the network must give (n, 2, {size}, {size}), a mask each, got {shape}"
        )
    return net


def train(args, u, make, learn):
    """Train a network with a loss, on each of the seeds, and print what it gives; learn is what
    trains one and tests it, landing.train."""
    s = Settings(epochs=args.epochs)
    for seed in args.seeds:
        try:
            generator = torch.Generator().manual_seed(seed)
            net = Variant("", "UNet", {"out_channels": 2}).build(s, generator)
            if make is not None:
                net = network(make, seed, s.shape.size)
            row = learn(u, net, s, seed, args.device)
        except Exception as e:  # noqa: BLE001 - whatever a loss or a network may raise
            raise ValueError(f"--train: {blame(e)}") from None
        shares = "left gets {:.2f}, right {:.2f} of the common region".format(
            *row["shares"][0]
        )
        print(
            f"trained, seed {seed}: {shares}; cut off at 1/2: {row['outcome']}",
            flush=True,
        )


def answer(args, learn):
    """Say what is asked for. Returns what predict does, or None without a loss."""
    parts = pair()
    if args.masks:
        parts, text = pair_of(args.masks)
        print(text)
    what = None
    if args.loss:
        path, name = args.loss
        loss = load(path, name) if path else known(name)
        parts = parts.to(args.device)
        u = (
            loss
            if not path
            else understand(loss, parts, args.logits, args.classes, args.order)
        )
        options = {"truths": args.truths, "priors": args.priors, "progress": progress()}
        what = predict(u, parts, **options)
        print("\n".join(described(what, args.truths)), flush=True)
        sweep.save(args.out / "landing.json", what)
    else:
        for line in table(parts, args.truths, args.priors):
            print(line, flush=True)
    if args.loss or args.masks:
        sweep.save(args.out / "landing.png", draw(what, parts.cpu()))
    if args.train and not what["gradient"]:
        raise ValueError("--train: there is no gradient to train with")
    if args.train:
        train(args, u, load(*args.net) if args.net else None, learn)
    return what


def main(argv, description, learn):
    """The command line for what is your own, with its description. Returns what predict does; for
    learn see train."""
    parser = argparse.ArgumentParser(
        usage=argparse.SUPPRESS,
        description=description,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )

    def shares(text):
        return [float(share) for share in text.split(",")]

    add = parser.add_argument
    add("--loss", type=split, metavar="FILE.py:NAME")
    add("--masks", type=Path, nargs="+", metavar="FILE")
    add("--truths", type=shares, nargs="+", metavar="SHARE,SHARE")
    add("--priors", type=float, nargs="+", metavar="P")
    add("--logits", choices=("auto", "yes", "no"), default="auto")
    add("--classes", choices=("auto", *FORMS), default="auto")
    add("--order", choices=("auto", "pred-first", "truth-first"), default="auto")
    add("--train", action="store_true")
    add("--net", type=split, metavar="FILE.py:NAME")
    add("--seeds", type=sweep.seeds, default=[0])
    add("--epochs", type=sweep.count, default=Settings().epochs)
    add("--device", choices=("cpu", "cuda"), default="cpu")
    add("--out", type=Path, default=Path("out"))
    args = parser.parse_args(argv)
    if not args.loss and (args.train or not (args.masks or args.truths)):
        parser.error("give --loss FILE.py:NAME")
    if args.net and not args.net[0]:
        parser.error(f"argument --net: must be FILE.py:NAME, got {args.net[1]!r}")
    if args.net and not args.train:
        parser.error("--net needs --train")
    if (
        args.loss
        and not args.loss[0]
        and {args.logits, args.classes, args.order} != {"auto"}
    ):
        parser.error(
            f"it is known how {args.loss[1]} is called: no --logits, --classes, --order"
        )
    if args.device == "cuda" and not torch.cuda.is_available():
        parser.error("argument --device: there is no CUDA device")
    files = [
        Path(own[0]).resolve().parent for own in (args.loss, args.net) if own and own[0]
    ]
    try:
        args.out.mkdir(parents=True, exist_ok=True)
        with imports_of(*map(str, files)):
            return answer(args, learn)
    except (ValueError, OSError) as e:
        parser.error(" ".join(str(e).split()))
