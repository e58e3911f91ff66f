"""What every script does that is no science: the command line, settings changed from
it, files saved whole, the console, errors in one line."""

import argparse
import contextlib
import functools
import io
import json
import math
import os
import sys
import tempfile
from dataclasses import is_dataclass, replace
from pathlib import Path


def flat(settings, prefix=""):
    """The settings of a dataclass as {name: value}, those of a nested one as
    {"shape.square": 8}."""
    found = {}
    for name, value in vars(settings).items():
        nested = is_dataclass(value)
        found |= flat(value, f"{prefix}{name}.") if nested else {prefix + name: value}
    return found


def change(settings, texts):
    """A copy of a dataclass, changed by texts such as "m=0.7" and "shape.square=6".

    A value has the type of the one it replaces; whole numbers are 1 to 10^6. All changes
    are made at once. ValueError: no such setting, or a value that does not fit.
    """
    known, changes = flat(settings), {}
    for text in texts:
        name, equals, value = text.partition("=")
        if not equals or name not in known:
            raise ValueError(f"settings are {', '.join(known)}, got {text!r}")
        kind = type(known[name])
        try:
            value = kind(value)
            if not (1 <= value <= 10**6 if kind is int else math.isfinite(value)):
                raise ValueError
        except ValueError:
            whole = "a whole number from 1 to 1000000"
            allowed = whole if kind is int else "a finite number"
            raise ValueError(f"{name} must be {allowed}, got {text!r}") from None
        outer, _, inner = name.rpartition(".")
        changes.setdefault(outer, {})[inner] = value
    own = changes.pop("", {})
    for name, values in changes.items():
        own[name] = replace(getattr(settings, name), **values)
    return replace(settings, **own)


class Parser(argparse.ArgumentParser):
    """An ArgumentParser with --out, whose errors are one line and exit status 2."""

    def __init__(self, doc):
        layout = argparse.RawDescriptionHelpFormatter
        super().__init__(None, argparse.SUPPRESS, doc, formatter_class=layout)
        text = "Folder for the picture and its numbers; out where none is given."
        self.add_argument("--out", default="out", metavar="FOLDER", help=text)

    def add_training(self):
        """Add the options of whatever trains: --epochs, --device and --set."""
        text = "Length of the training."
        self.add_argument("--epochs", type=whole(1, 10**6), metavar="N", help=text)
        text = "Where to train: auto (CUDA where there is one), cpu or cuda."
        self.add_argument("--device", type=device, default="auto", help=text)
        text = "Change settings, as in: --set m=0.7 width=8 shape.square=6."
        many = {"action": "extend", "nargs": "+", "default": []}
        self.add_argument("--set", metavar="NAME=VALUE", help=text, **many)

    def settings(self, default, args, attempt):
        """The default settings, changed by --set and --epochs.

        attempt(settings) is called with those of a training of one step; what does
        not fit, it raises ValueError for. Returns the settings and what it returned.
        """
        epochs = [] if args.epochs is None else [f"epochs={args.epochs}"]
        texts = args.set + epochs
        try:
            s = change(default, texts)
            short = {"epochs": 1, "steps_per_epoch": 1, "batch": 1, "held_out": 1}
            with contextlib.redirect_stdout(io.StringIO()):
                return s, attempt(replace(s, **short))
        except (ValueError, ArithmeticError, RuntimeError) as e:  # no memory: Runtime
            if not texts:
                raise  # nothing was changed here: the code has been
            self.error(str(e).splitlines()[0])

    def writable(self, folder):
        """Make a folder and try to write into it; where that fails, end with an error."""
        try:
            os.makedirs(folder, exist_ok=True)
            tempfile.TemporaryFile(dir=folder).close()
        except OSError as e:
            self.error(f"argument --out: cannot write to {folder!r}: {e.strerror}")


def whole(low, high):
    """An argparse type: a whole number from low to high."""

    def parse(text):
        plain = text.isascii() and text.isdigit() and len(text) < 20
        if not (plain and low <= int(text) <= high):
            allowed = f"a whole number from {low} to {high}"
            raise argparse.ArgumentTypeError(f"must be {allowed}, got {text!r}")
        return int(text)

    return parse


def device(text):
    """An argparse type: auto, cpu or cuda -> "cpu" or "cuda", whichever is there."""
    import torch

    if text not in ("auto", "cpu", "cuda"):
        raise argparse.ArgumentTypeError(f"must be auto, cpu or cuda, got {text!r}")
    if text == "cuda" and not torch.cuda.is_available():
        raise argparse.ArgumentTypeError("there is no CUDA device for 'cuda'")
    return text.replace("auto", "cuda" if torch.cuda.is_available() else "cpu")


def experiment(doc, default, train, argv=None):
    """The command line of an experiment, argv or that of the script: (args, settings).

    train is its train(settings, seed, device), tried for one step. Prints the settings
    and the number of weights. Bad input ends the program with one line and status 2.
    """
    parser = Parser(doc)
    parser.add_training()
    text = "Seed of the weights and of the images."
    parser.add_argument("--seed", type=whole(0, 10**6 - 1), default=0, help=text)
    text = "Save the training as a film too, a GIF."
    parser.add_argument("--film", action="store_true", help=text)
    args = parser.parse_args(argv)
    s, (net, *_) = parser.settings(default, args, lambda s: train(s, 0, "cpu"))
    parser.writable(args.out)
    announce(s)
    size = f"{sum(p.numel() for p in net.parameters()):,} weights"
    print(f"network: {size}, seed {args.seed}, on {args.device}", flush=True)
    return args, s


def announce(s):
    """Print the settings, as --set takes them."""
    print("settings: " + " ".join(f"{k}={v}" for k, v in flat(s).items()))


def prepared(f):
    """A decorator: f runs with PyTorch set up as all numbers here were made."""

    @functools.wraps(f)
    def run(*args, **options):
        import torch

        # These images are so small that a second thread gains a fifth at best, and
        # where another program keeps the core busy the wait for it costs twenty times
        # as much. cuDNN: the same seed is to give the same numbers.
        cudnn = torch.backends.cudnn
        before = torch.get_num_threads(), cudnn.deterministic
        torch.set_num_threads(1)
        cudnn.deterministic = True
        try:
            return f(*args, **options)
        finally:
            torch.set_num_threads(before[0])
            cudnn.deterministic = before[1]

    return run


def script(main):
    """Run a script's main function, with one line in place of a traceback for Ctrl-C
    (status 130) and, with status 2, for files that cannot be read or written, a loss that
    is not finite, and too little memory."""
    try:
        main()
        sys.stdout.flush()
    except KeyboardInterrupt:
        print("interrupted: earlier files are left whole", file=sys.stderr)
        sys.exit(130)
    except BrokenPipeError:  # as in: python theory.py | head
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    except (OSError, FloatingPointError, MemoryError, RuntimeError) as e:
        if isinstance(e, RuntimeError) and "memory" not in str(e):
            raise  # not PyTorch's word that memory ran out: a bug keeps its traceback
        print(f"error: {str(e).splitlines()[0]}", file=sys.stderr)
        sys.exit(2)


def finite(loss, step):
    """The loss, a number. FloatingPointError: it is not finite."""
    if not math.isfinite(loss):
        raise FloatingPointError(f"the loss is {loss} at step {step}")
    return loss


def moments(steps):
    """The steps, out of 1 to steps, at which a training is looked at: dense early,
    where things happen, twenty for every factor of ten."""
    return {round(10 ** (k / 20)) for k in range(int(20 * math.log10(steps)) + 1)}


def describe(row):
    """A row of a history as a line for the console."""
    given = "left {common_left:.2f}, right {common_right:.2f}: {outcome:<9}"
    decisions = "  |  ".join(given.format(**d) for d in row["decisions"])
    start = "epoch {epoch:3.0f}   loss {loss:6.3f}   common region to ".format(**row)
    return f"{start}{decisions}   {row['seconds']:5.1f} s"


def print_findings(measured, expected):
    """Print what the held-out images gave beside what was expected of them.

    measured is that of data.measure, expected {by whom: (outcomes, score, found)}.
    """
    ends = [(d["outcome"], d["outcome_share"]) for d in measured["decisions"]]
    outcomes = "; ".join(f"{end} ({shares[end]:.1%})" for end, shares in ends)
    score, found = f"{measured['score']:.3f}", f"{measured['oracle_exact']:.1%}"
    columns = {"": ("outcome", "score of the better one", "groupings found")}
    columns |= expected | {"here": (outcomes, score, found)}
    for row in zip(*([head, *cells] for head, cells in columns.items())):
        print("".join(f"{cell:<26}" for cell in row).rstrip())


def save(path, what):
    """Save numbers (a dict: JSON), a Figure (PNG), or by what(path), and say so.

    The file is written under a temporary name and renamed, so that no half-written one
    is left under its own; where the one that is there cannot be replaced, the new one
    is kept beside it. ValueError: NaN or infinity, which JSON does not know.
    """
    root, ending = os.path.splitext(path)
    temporary = f"{root}.{os.getpid()}.tmp{ending}"
    try:
        if isinstance(what, dict):
            Path(temporary).write_text(json.dumps(what, indent=1, allow_nan=False))
        elif callable(what):
            what(temporary)
        else:
            what.savefig(temporary, dpi=110)
        try:
            os.replace(temporary, path)
        except PermissionError:  # on Windows: a viewer has it open
            print(f"{path} cannot be replaced: is it open elsewhere?", file=sys.stderr)
            path = f"{root}.new{ending}"
            os.replace(temporary, path)
    finally:
        if os.path.exists(temporary):
            os.remove(temporary)
    print(f"saved {path}", flush=True)
