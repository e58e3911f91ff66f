"""Many runs: rows that outlive a crash, a pool of processes, the command line of a question.

A run is a row: a line of JSON that says which run it is, what it was made with and what
it ended in or, under "error", that its loss was not finite. Rows are evidence and are
never edited. A row that is made otherwise than today's code would make it is not counted.

A Question says what its runs are and what its rows amount to. A module makes one and
hands it to main().
"""

import argparse
import json
import math
import multiprocessing
import os
import re
import signal
import sys
import threading
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path

import torch

ROWS = Path(__file__).parent / "rows"
CUT = "3e54a70 and be99a57"  # the commits that made the rows of variants that are not here


@dataclass(frozen=True)
class Question:
    """One question: what is trained, and what the rows say about it."""

    name: str  # of its first file of rows, to which new ones are appended
    about: str  # the text of --help
    variants: dict  # {key: Variant}
    run: Callable  # run(variant, seed, settings, device) -> dict, the end of a row
    loss: Callable  # loss(variant, net, settings, generator) -> the loss of one batch
    report: Callable  # report(runs) -> ({file name: dict or Figure}, text)
    settings: object  # with which its rows are made
    fixed: dict  # constants with which its rows are made
    files: tuple = ()  # further files of rows that are drawn
    default: tuple = ()  # the keys that are trained unless others are asked for
    seeds: int = 20  # how many are trained unless others are asked for
    # once(seed) -> {file name: Figure}: what --train does, a short training and its picture.
    once: Callable | None = None


# Rows


def label(question, key, seed, s, device):
    """Return the start of a row: which run it is and what it is made with."""
    return {
        "variant": key,
        "seed": seed,
        "device": device,
        "torch": torch.__version__,
        "settings": asdict(s) | question.fixed,
        "change": question.variants[key].change(),
    }


def fingerprint(question, key, s):
    """Return what tells another network under an old name, of a variant's untrained one:
    [its loss on a batch, the slope of that loss in one random direction of all weights].
    """
    variant = question.variants[key]
    s = variant.settings(s)
    generator = torch.Generator().manual_seed(0)
    net = variant.build(s, generator)
    loss = question.loss(variant, net, s, generator)
    weights = list(net.parameters())
    slopes = torch.autograd.grad(loss, weights, materialize_grads=True)
    slope = 0
    for weight, towards in zip(weights, slopes):
        direction = torch.randn(weight.shape, generator=generator)
        slope = slope + (direction * towards).sum()
    return rounded((loss.item(), slope.item()))


def rounded(numbers):
    """Return floats as a row keeps them, with six digits."""
    return [float(f"{x:.6g}") for x in numbers]


def same_fingerprint(there, here):
    """Whether two fingerprints are of one network. Machines round differently, so they
    need to agree to 1e-3."""
    pairs = zip(there, here)
    return all(math.isclose(a, b, rel_tol=1e-3, abs_tol=1e-5) for a, b in pairs)


def difference(row, label):
    """Return how a row was made otherwise than a label says, "" where it was not. A
    fingerprint counts where the label has one too."""
    there = row["settings"] | row["change"]
    here = label["settings"] | label["change"]
    for key, value in there.items():
        if key == "start":
            alike = key not in here or same_fingerprint(value, here[key])
        else:
            alike = value == here.get(key)
        if not alike:
            return f"{key} is {value} there and {here.get(key)} here"
    return ""


def translated(row):
    """Return a row in the words of this code. Older rows say steps for passes, have two
    names for the class Recurrent, have a rule and its number in one text, and leave out
    what they do not have."""
    settings = dict(row["settings"])
    settings.pop("relaxed", None)  # the number of the rule "relaxed" without one
    change = {"coin": False, "other": {}, "number": None} | row["change"]
    if not change.get("momentum"):  # which this code does not have
        change.pop("momentum", None)
    for options in (settings, change["other"], change.get("options", {})):
        if "steps" in options:
            options["passes"] = options.pop("steps")
    if change["net"] in ("RecurrentUNet", "Handing"):
        change["net"] = "Recurrent"
    if "rule" in change and "number" not in row["change"]:
        rule, _, number = change["rule"].partition(" ")
        if rule == "balanced":
            rule, number = "shared", 0.5
        if rule == "relaxed" and not number:
            number = 0.05
        change["rule"] = rule.replace("-", "_")
        change["number"] = float(number) if number else None
    return row | {"settings": settings, "change": change}


def read(path):
    """Return the rows of a file of JSON lines, [] if there is none. A line that a crash
    has left unfinished is dropped with a word."""
    if not path.exists():
        return []
    rows = []
    for line in path.read_text().splitlines():
        try:
            rows.append(translated(json.loads(line)))
        except json.JSONDecodeError:
            print(f"{path}: dropped {line[:30]!r}..., which is no row")
    return rows


def append(row, path):
    """Append a row to a file; when this returns, it is on the disk. A line that a crash
    has left unfinished is closed first."""
    with open(path, "a+b") as file:
        if file.tell():
            file.seek(-1, os.SEEK_END)
            if file.read(1) != b"\n":
                file.write(b"\n")
        file.write(json.dumps(row, allow_nan=False).encode() + b"\n")
        file.flush()
        os.fsync(file.fileno())


def distinct(rows):
    """Return the first row of each run, {(variant, seed): row}."""
    runs = {}
    for row in rows:
        runs.setdefault((row["variant"], row["seed"]), row)
    return runs


def of(runs, key):
    """Return the rows of a variant, by seed."""
    return [row for (name, _), row in sorted(runs.items()) if name == key]


def sorted_out(question, rows, s, device, made=False):
    """Return the rows that are made as the question makes them with Settings s, those of
    variants that are not here, and how the first of the others differs ("" if there is
    none). made says whether fingerprints are made here, which takes a while."""
    labels = {}
    fitting = []
    cut = []
    wrong = ""
    for row in rows:
        key = row["variant"]
        if key not in question.variants:
            cut.append(row)
            continue
        if key not in labels:
            labels[key] = label(question, key, 0, s, device)
            if made:
                labels[key]["change"]["start"] = fingerprint(question, key, s)
        unlike = difference(row, labels[key])
        if not unlike:
            fitting.append(row)
        elif not wrong:
            wrong = f"{key}, seed {row['seed']}: {unlike}"
    return fitting, cut, wrong


def made_with(s, row):
    """Return Settings s with the values with which a row was made."""
    values = row["settings"]
    own = {}
    for setting in fields(s):
        if setting.name in values and setting.name != "shape":
            own[setting.name] = values[setting.name]
    return replace(s, shape=replace(s.shape, **values["shape"]), **own)


def recorded(question, folder):
    """Return the rows of all files of a question in a folder."""
    rows = []
    for name in (question.name, *question.files):
        rows.extend(read(folder / f"{name}.jsonl"))
    return rows


# Training


def train(net, optimiser, loss, steps, watch=None):
    """Train a network, as everything here does. loss(progress) draws a batch and returns
    the loss; progress goes from 0 to 1. watch(step, loss) is called before each step is
    taken. Returns the seconds it took. FloatingPointError: the loss is not finite."""
    begun = time.perf_counter()
    net.train()
    for step in range(1, steps + 1):
        cost = loss((step - 1) / max(1, steps - 1))
        if watch is not None:
            watch(step, cost)
        optimiser.zero_grad()
        cost.backward()
        optimiser.step()
        if step % 40 == 0 and not math.isfinite(cost.item()):
            raise FloatingPointError(f"the loss is {cost.item()} at step {step}")
    net.eval()
    return round(time.perf_counter() - begun, 2)


def attempt(question, key, seed, s, device):
    """Return the row of one run, which is trained here."""
    row = label(question, key, seed, s, device)
    row["change"]["start"] = fingerprint(question, key, s)
    try:
        return row | question.run(question.variants[key], seed, s, device)
    except FloatingPointError as error:
        return row | {"error": str(error)}


def prepare():
    """What a process of a sweep does first: one thread, no Ctrl-C, an end when its parent
    ends."""
    torch.set_num_threads(1)
    torch.backends.cudnn.deterministic = True
    signal.signal(signal.SIGINT, signal.SIG_IGN)

    def follow():
        multiprocessing.parent_process().join()
        os._exit(1)

    threading.Thread(target=follow, daemon=True).start()


def pool(question, jobs, workers):
    """Yield the rows of jobs (key, seed, settings, device) as they end, so many at a
    time, each trained in a process of its own with one thread."""
    spawn = multiprocessing.get_context("spawn")
    executor = ProcessPoolExecutor(workers, spawn, prepare)
    try:
        futures = [executor.submit(attempt, question, *job) for job in jobs]
        for future in as_completed(futures):
            yield future.result()
    finally:
        executor.shutdown(wait=False, cancel_futures=True)
        for process in multiprocessing.active_children():
            process.kill()


# The command line


def seeds(text):
    """An argparse type: "0-19" or "3" or "0-4,7" -> a list of seeds, each once."""
    chosen = []
    for part in text.split(","):
        if not re.fullmatch("[0-9]{1,6}(-[0-9]{1,6})?", part):
            raise argparse.ArgumentTypeError(f"must be as in 7 or 0-9,15, got {part!r}")
        ends = [int(end) for end in part.split("-")]
        if ends[0] > ends[-1]:
            raise argparse.ArgumentTypeError(f"must rise, got {part!r}")
        chosen.extend(range(ends[0], ends[-1] + 1))
    return list(dict.fromkeys(chosen))


def count(text):
    """An argparse type: a whole number from 1 to 10000."""
    if not re.fullmatch("[0-9]{1,5}", text) or not 1 <= int(text) <= 10**4:
        message = f"must be a whole number from 1 to 10000, got {text!r}"
        raise argparse.ArgumentTypeError(message)
    return int(text)


def arguments(question, argv=None):
    """Return what the command line of a question says."""
    parser = argparse.ArgumentParser(
        description=question.about,
        epilog="Variants: " + ", ".join(question.variants),
        formatter_class=argparse.RawDescriptionHelpFormatter,
        usage=argparse.SUPPRESS,  # so that what is wrong is said in one line
        allow_abbrev=False,
    )
    add = parser.add_argument
    add("--variants", metavar="A,B", help="to train where missing, see below")
    add("--seeds", type=seeds, metavar="0-9,15", help="to train where missing")
    add("--anew", action="store_true", help="train recorded runs again")
    add("--out", type=Path, default=Path("out"), help="folder of results and new rows")
    add("--rows", type=Path, help="folder of rows to draw in place of beyond/rows")
    add("--device", choices=("cpu", "cuda"), default="cpu", help="cpu unless said")
    add("--workers", type=count, metavar="N", help="runs at once, else one a core")
    if question.once is not None:
        text = "train once and draw it: see above, and --train --help"
        add("--train", action="store_true", help=text)
    args = parser.parse_args(argv)
    args.sweep = bool(args.variants or args.seeds or args.anew)
    args.variants = args.variants.split(",") if args.variants else question.default
    for key in args.variants:
        if key not in question.variants:
            parser.error(f"argument --variants: there is no {key!r}, see --help")
    if args.rows and args.sweep:
        parser.error("argument --rows: what is there is drawn, nothing is trained")
    if args.device == "cuda" and not torch.cuda.is_available():
        parser.error("argument --device: there is no CUDA device")
    return args


def arguments_of_once(question, argv):
    """Return what the command line of a question says with --train."""
    parser = argparse.ArgumentParser(
        description=question.about,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        usage=argparse.SUPPRESS,
        allow_abbrev=False,
    )
    add = parser.add_argument
    add("--train", action="store_true", help="train once and draw it")
    add("--seed", type=int, default=0, help="of the weights and the images")
    add("--out", type=Path, default=Path("out"), help="folder of the picture")
    return parser.parse_args(argv)


def swept(question, args, rows):
    """Train what is asked for and not among the rows. Yields the rows that an earlier
    sweep into the same folder has left, then the new ones, which are appended there."""
    s = question.settings
    path = args.out / f"{question.name}.jsonl"
    left, _, wrong = sorted_out(question, read(path), s, args.device, made=True)
    if wrong:
        raise ValueError(f"{path} was made otherwise, {wrong}: give another --out")
    yield from left
    there = distinct(rows + left)
    jobs = []
    for seed in args.seeds or range(question.seeds):
        for key in args.variants:
            if (key, seed) not in there:
                jobs.append((key, seed, s, args.device))
    print(f"{len(jobs)} runs to train; each is kept, when done, in {path}", flush=True)
    if not jobs:
        return
    workers = args.workers or (1 if args.device == "cuda" else os.cpu_count())
    for k, row in enumerate(pool(question, jobs, workers), 1):
        append(row, path)
        yield row
        text = f"{k}/{len(jobs)}  {row['variant']} seed {row['seed']}"
        print(f"{text}: {row.get('outcome', 'died')}", flush=True)


def save(saved, folder):
    """Save {file name: dict or Figure} in a folder, a dict as JSON and a Figure as PNG, and
    say so."""
    for name, what in saved.items():
        if isinstance(what, dict):
            (folder / name).write_text(json.dumps(what, indent=1, allow_nan=False))
        else:
            what.savefig(folder / name, dpi=110)
    if saved:
        print(f"Saved in {folder}: {', '.join(saved)}.")


def answer(question, argv=None):
    """Train what is asked for and missing, save what the question reports and print its
    text. Returns what was saved, {file name: dict or Figure}."""
    args = arguments(question, argv)
    s = question.settings
    folder = args.rows or ROWS
    rows = [] if args.anew else recorded(question, folder)
    if args.rows:
        if not rows:
            raise ValueError(f"there are no rows of {question.name} in {folder}")
        s = made_with(s, rows[0])
    args.out.mkdir(parents=True, exist_ok=True)
    fitting, cut, wrong = sorted_out(question, rows, s, args.device)
    if args.sweep:
        fitting.extend(swept(question, args, fitting))
    runs = distinct(fitting)
    if wrong and not runs:
        text = f"none of the {len(rows)} recorded rows is made as the code is now"
        raise ValueError(f"{text}: {wrong}; --anew trains them again")

    saved, text = question.report(runs)
    print(text)
    print(f"\nThis is what {len(runs)} runs say.")
    save(saved, args.out)
    if cut:
        print(f"{len(cut)} more rows are of variants that only {CUT} have.")
    if wrong:
        print(f"Recorded rows that are made otherwise are not counted. {wrong}")
    return saved


def answer_once(question, argv):
    """Train once, as a question says, and save its picture. Returns what was saved."""
    args = arguments_of_once(question, argv)
    args.out.mkdir(parents=True, exist_ok=True)
    saved = question.once(args.seed)
    save(saved, args.out)
    return saved


def main(question, argv=None):
    """Run the command line of a question, see answer() and answer_once(). What goes wrong
    is said in one line, with status 1; Ctrl-C ends with 130."""
    torch.set_num_threads(1)
    torch.backends.cudnn.deterministic = True
    argv = sys.argv[1:] if argv is None else argv
    try:
        if question.once is not None and "--train" in argv:
            return answer_once(question, argv)
        return answer(question, argv)
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        sys.exit(130)
    except (ValueError, ArithmeticError, OSError, RuntimeError) as error:
        sys.exit(f"error: {error}")
