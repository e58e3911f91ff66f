"""What does your loss do with a region that two instances claim? Said in a few lines.

    python -m beyond.yours FILE.py:NAME

NAME is a function, a class or a module of a prediction and a truth. A name of
beyond/losses.py does too: iou. What the lines say is computed, not trained. --train
trains the network of unet.py with the loss as well. --logits, --classes and --order say
what is otherwise found out, see beyond/understand.py.

--masks A B takes your own pair, two .npy or .png files or one of several. --truths
1,0 0,1 1,1 --priors 0.4 0.4 0.2 are the truths that annotators give: the shares of the
common region that each instance owns. --truths 1 0 are those of one structure, which
has a region or has not. Without a loss these print a table of all known losses."""

import argparse
import importlib
import json
import sys
from pathlib import Path

import torch

from beyond.forms import FORMS, Understood
from beyond.losses import LOSSES
from beyond.masks import pair_of
from beyond.predict import checked_truths, pair, predict, repeats
from beyond.told import described, draw, said
from beyond.trial import blame
from beyond.understand import ORDERS, understand

# {loss: [what it is, where it comes from, which library has it]}
ABOUT = {name: loss.__doc__.split(" | ") for name, loss in LOSSES.items()}
TOP = Path(__file__).resolve().parent.parent
OURS = ("data.py", "unet.py", "recurrent_unet.py")  # what training imports


def known(name):
    """The loss of LOSSES with this name, as it is called."""
    given = "logits" if name == "bce-dice-logits" else "probabilities"
    exclusive = getattr(LOSSES[name], "exclusive", False)
    return Understood(LOSSES[name], input=given, normalised=exclusive)


def table(parts, truths, priors):
    """The lines of a table in Markdown of what each loss does with these truths."""
    # What is wrong with truths or priors is said before the first line.
    repeats(priors, len(checked_truths(truths, len(parts) - 1)))
    yield "| loss | best share | goes to | cut |"
    yield "| --- | --- | --- | --- |"
    for name in LOSSES:
        cells = [ABOUT[name][0]]
        try:
            what = predict(known(name), parts, truths=truths, priors=priors)
            cells += [said(what[key]) for key in ("predicted", "slides_to", "cut")]
        except ValueError as e:
            cells += [str(e), "-", "-"]
        yield f"| {' | '.join(cells)} |"


def load(path, name):
    """What a file calls by that name. From now on its folder comes first for imports,
    and ours is not found. ValueError: there is nothing, or the file cannot be run."""
    if not path.is_file():
        raise ValueError(f"there is no file {str(path)!r}")
    others = [entry for entry in sys.path if Path(entry).resolve() != TOP]
    sys.path[:] = [str(path.resolve().parent), *others]
    try:
        module = importlib.import_module(path.stem)
    except (Exception, SystemExit) as e:  # noqa: BLE001 - whatever the file may raise
        raise ValueError(f"cannot run {str(path)!r}: {blame(e)}") from None
    if Path(getattr(module, "__file__", None) or "").resolve() != path.resolve():
        text = "has the name of an installed module: rename it"
        raise ValueError(f"{str(path)!r} {text}")
    if not hasattr(module, name):
        raise ValueError(f"there is no {name!r} in {str(path)!r}")
    return getattr(module, name)


def parts_of(args):
    """The parts that are asked about. Prints what is to be said of masks."""
    one_structure = args.truths and len(args.truths[0]) == 1
    if args.masks:
        own = pair_of(args.masks)
        print("\n".join(own.said), flush=True)
        if (
            one_structure
        ):  # which two have annotated: what both have, and where they differ
            return torch.stack((own.parts[1], own.parts[0] + own.parts[2]))
        return own.parts
    return pair()[:2] if one_structure else pair()


def answer(args):
    """Say what is asked for. Returns what predict does, or None without a loss."""
    parts = parts_of(args)
    if args.loss is None:
        for line in table(parts, args.truths, args.priors):
            print(line, flush=True)
        return None
    if args.train:
        importlib.import_module("beyond.training")  # before our folder is not found
    path, name = args.loss
    loss = load(Path(path), name) if path else known(name)
    how = {"logits": args.logits, "classes": args.classes, "order": args.order}
    options = {"truths": args.truths, "priors": args.priors}
    what = predict(loss, parts.to(args.device), **options, **how)
    print("\n".join(described(name, what, args.truths)), flush=True)
    text = json.dumps(what, indent=1, allow_nan=False)
    (args.out / f"{name}.json").write_text(text)
    draw(name, what, parts).savefig(args.out / f"{name}.png", dpi=110)
    if args.train:
        if not what["gradient"]:
            raise ValueError("--train: there is no gradient to train with")
        u = understand(loss, args.device, **how)[0] if path else loss
        train(u, args)
    return what


def train(u, args):
    """Train a network with a loss, on each of the seeds, and print what it gives."""
    from beyond.training import train_single

    for seed in args.seeds:
        try:
            row = train_single(u, seed, args.steps, args.device)
        except Exception as e:  # noqa: BLE001 - whatever a loss may raise
            raise ValueError(f"--train: {blame(e)}") from None
        left, right = row["shares"][0]
        given = f"left gets {left:.2f}, right {right:.2f} of the common region"
        print(f"trained, seed {seed}: {given}; cut at 1/2: {row['outcome']}")


def split(text):
    """An argparse type: FILE.py:NAME -> (path, name), a known loss -> ("", name)."""
    path, _, name = text.rpartition(":")
    if not (path.endswith(".py") and name.isidentifier()) and text not in LOSSES:
        raise argparse.ArgumentTypeError(
            f"must be FILE.py:NAME or a name of beyond/losses.py, got {text!r}"
        )
    return path, name


def shares(text):
    """An argparse type: shares as in 1,0 -> a list."""
    return [float(share) for share in text.split(",")]


class OneLine(argparse.ArgumentParser):
    """A parser whose errors are one line."""

    def error(self, message):
        self.exit(2, f"{self.prog}: {' '.join(message.split())}\n")


def parser():
    """The command line."""
    layout = argparse.RawDescriptionHelpFormatter
    line = OneLine(
        "yours", description=__doc__, formatter_class=layout, allow_abbrev=False
    )
    add = line.add_argument
    add("loss", type=split, nargs="?", metavar="FILE.py:NAME")
    add("--masks", type=Path, nargs="+", metavar="FILE")
    add("--truths", type=shares, nargs="+", metavar="SHARE,SHARE")
    add("--priors", type=float, nargs="+", metavar="P")
    add("--logits", choices=("auto", "yes", "no"), default="auto")
    add("--classes", choices=("auto", *FORMS), default="auto")
    add("--order", choices=ORDERS, default="auto")
    add("--train", action="store_true")
    add("--seeds", type=int, nargs="+", default=[0], metavar="SEED")
    add("--steps", type=int, default=400, metavar="N", help="training steps")
    add("--device", choices=("cpu", "cuda"), default="cpu")
    add("--out", type=Path, default=Path("out"))
    return line


def check(args):
    """ValueError: arguments that do not go together."""
    if not args.loss and (args.train or not (args.masks or args.truths)):
        raise ValueError("give a loss, FILE.py:NAME")
    if args.train and (args.masks or args.truths):
        text = "it trains on the pair of data.py and its two truths"
        raise ValueError(f"--train goes without --masks and --truths: {text}")
    if args.steps < 1:
        raise ValueError(f"--steps must be at least 1, got {args.steps}")
    if args.device == "cuda" and not torch.cuda.is_available():
        raise ValueError("--device: there is no CUDA device")
    path, name = args.loss or ("", "")
    if name and not path and {args.logits, args.classes, args.order} != {"auto"}:
        text = "no --logits, --classes, --order"
        raise ValueError(f"it is known how {name} is called: {text}")
    for ours in OURS:
        if args.train and path and (Path(path).resolve().parent / ours).exists():
            text = f"rename your {ours}, which has the name of one of ours"
            raise ValueError(f"--train: {text}")


def main(argv=None):
    """The command line for what is your own. Returns what predict does."""
    line = parser()
    args = line.parse_args(argv)
    try:
        check(args)
        args.out.mkdir(parents=True, exist_ok=True)
        return answer(args)
    except (ValueError, OSError) as e:
        line.error(str(e))


if __name__ == "__main__":
    try:
        main()
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        sys.exit(130)
