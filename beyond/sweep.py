"""Many runs: rows that outlive a crash, a pool of processes, and what counts amount to.

A run is a row: a line of JSON that says which run it is and what it was made with (KEYS), and
what it ended in or, under "error", what it died of. A question (beyond/controls.py, say) has
FILES, the names of its files of rows, of which the first takes new ones; Settings and FIXED,
with what its rows are made; VARIANTS {name: Variant} and DEFAULT, the names that run unless others
are asked for; SEEDS, how many seeds; run(v, seed, s, device), the end of a row; batch(v, net, s,
generator), which draws images and returns the loss of a Variant's network, first; and report(runs),
which returns {name of a file: dict or Figure to be saved there} and a text for the console.
"""

import argparse
import importlib
import json
import math
import multiprocessing
import os
import re
import signal
import sys
import threading
import time
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from dataclasses import asdict, fields, replace
from pathlib import Path

import torch

import common

ROWS = Path(__file__).parent / "rows"
# What a row has beside its end, and of which type.
KEYS = {"variant": str, "seed": int, "device": str, "torch": str, "settings": dict, "change": dict}
# What a row means that lacks one of these, which the fingerprint may not show.
LACKING = {"coin": False, "other": {}, "momentum": 0.0, "shown": 0.0}


def label(question, variant, seed, s, device):
    """The start of a row: which run it is and what it was made with."""
    v = question.VARIANTS[variant]
    return {
        "variant": variant,
        "seed": seed,
        "device": device,
        "torch": torch.__version__,
        "settings": asdict(s) | question.FIXED,
        "change": v.change() | {"start": fingerprint(question, v, v.settings(s))},
    }


def fingerprint(question, v, s):
    """What tells another network under an old name: of a Variant's untrained one [loss on a batch,
    its slope in one random direction of all weights]. None where the network's library is not."""
    generator = torch.Generator().manual_seed(0)
    try:
        net = v.build(s, generator)
    except OSError:
        return None
    loss, *_ = question.batch(v, net, s, generator)
    weights = list(net.parameters())
    slopes = torch.autograd.grad(loss, weights, materialize_grads=True)
    directions = [torch.randn(p.shape, generator=generator) for p in weights]
    slope = sum((one * slope).sum() for one, slope in zip(directions, slopes))
    return rounded((loss.item(), slope.item()))


def rounded(numbers):
    """Floats as a row keeps them: six digits."""
    return [float(f"{x:.6g}") for x in numbers]


def difference(row, other):
    """How a row was made otherwise than a label says, "" where it was not. What counts is what
    the row says or, by LACKING, means. Fingerprints need agree to 1e-3: machines round
    differently."""
    there, here = (LACKING | r["settings"] | r["change"] for r in (row, other))
    unlike = []
    for key, value in there.items():
        alike = value == here.get(key)
        if key == "start" and here[key] is None:  # the network is of a library that is not there
            alike = True
        elif key == "start" and isinstance(value, list) and len(value) == 2:
            pairs = zip(value, here[key])
            alike = all(math.isclose(a, b, rel_tol=1e-3, abs_tol=1e-5) for a, b in pairs)
        if not alike:
            unlike.append(f"{key} is {value} there and {here.get(key)} here")
    return ", ".join(unlike)


def read(path):
    """The rows of a file of JSON lines, [] if there is none; a line that is no row, as a crash
    may leave one, is dropped with a word."""
    rows = []
    for line in path.read_text(errors="replace").splitlines() if path.exists() else ():
        try:
            row = json.loads(line)
        except ValueError:
            row = None
        if is_row(row):
            rows.append(row)
        else:
            print(f"{path}: dropped {line[:30]!r}..., which is no run")
    return rows


def is_row(row):
    """Whether something read from a file is a row, with settings, a fingerprint and an end."""
    if not isinstance(row, dict) or not {"error", "outcome"} & row.keys():
        return False
    typed = all(isinstance(row.get(key), kind) for key, kind in KEYS.items())
    return typed and bool(row["settings"]) and "start" in row["change"]


def append(row, path):
    """Append a row to a file; when this returns, it is on the disk. A line that a crash has left
    unfinished is closed first."""
    with open(path, "a+b") as f:
        if f.tell():
            f.seek(-1, os.SEEK_END)
            if f.read(1) != b"\n":
                f.write(b"\n")
        f.write(json.dumps(row, allow_nan=False).encode() + b"\n")
        f.flush()
        os.fsync(f.fileno())


def distinct(rows):
    """One row a run, {(variant, seed): row}: the first that finished or, where none did, the
    last that died."""
    runs = {}
    for row in rows:
        key = row["variant"], row["seed"]
        if key not in runs or "error" in runs[key]:
            runs[key] = row
    return runs


def of(runs, variant):
    """The rows of a variant, by seed."""
    return [row for (name, _), row in sorted(runs.items()) if name == variant]


def train(net, optimiser, batch, steps, watch=None):
    """The training loop of everything here. batch(progress) draws images and returns the loss of
    the network and whatever watch(step, loss, ...) wants to see of it; progress goes from 0 to 1.
    Returns the seconds it took. FloatingPointError: the loss is not finite."""
    begun = time.perf_counter()
    net.train()
    for step in range(1, steps + 1):
        loss, *seen = batch((step - 1) / max(1, steps - 1))
        if watch is not None:
            watch(step, loss, *seen)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        if step % 40 == 0 and not math.isfinite(loss.item()):
            raise FloatingPointError(f"the loss is {loss.item()} at training step {step}")
    net.eval()
    return round(time.perf_counter() - begun, 2)


def attempt(name, variant, seed, s, device):
    """The row of a run of the question beyond/NAME.py."""
    question = importlib.import_module(f"beyond.{name}")
    row = label(question, variant, seed, s, device)
    try:
        end = question.run(question.VARIANTS[variant], seed, s, device)
        json.dumps(end, allow_nan=False)  # ValueError where a number is not finite
        return row | end
    except (RuntimeError, ArithmeticError, MemoryError, ValueError) as e:
        return row | {"error": f"{type(e).__name__}: {e}".splitlines()[0]}


def prepare():
    """What a process of a sweep does first: one thread, no Ctrl-C, an end when its parent ends."""
    torch.set_num_threads(1)
    torch.backends.cudnn.deterministic = True
    signal.signal(signal.SIGINT, signal.SIG_IGN)

    def follow():
        multiprocessing.parent_process().join()
        os._exit(1)

    threading.Thread(target=follow, daemon=True).start()


def run(name, jobs, workers):
    """Yield the rows of jobs (variant, seed, s, device) as they end, so many at a time."""
    pool = ProcessPoolExecutor(workers, multiprocessing.get_context("spawn"), prepare)
    try:
        for future in as_completed([pool.submit(attempt, name, *job) for job in jobs]):
            yield future.result()
    except BrokenProcessPool:
        raise OSError(
            "a process of the sweep died; started again it does what is missing"
        ) from None
    finally:
        pool.shutdown(wait=False, cancel_futures=True)
        for process in multiprocessing.active_children():
            process.kill()


def seeds(text):
    """An argparse type: "0-19" or "3" or "0-4,7" -> a list of seeds, each once."""
    chosen = []
    for part in text.split(","):
        ends = re.fullmatch(r"([0-9]{1,6})(?:-([0-9]{1,6}))?", part)
        low, high = (int(ends[1]), int(ends[2] or ends[1])) if ends else (1, 0)
        if low > high:
            raise argparse.ArgumentTypeError(f"must be as in 7 or 0-9,15, got {part!r}")
        chosen += range(low, high + 1)
    return list(dict.fromkeys(chosen))


def count(text):
    """An argparse type: a whole number from 1 to 10000."""
    if not (text.isascii() and text.isdigit() and 1 <= int(text) <= 10**4):
        raise argparse.ArgumentTypeError(f"must be a whole number from 1 to 10000, got {text!r}")
    return int(text)


def parser_of(question):
    """The command line of a question."""

    def names(text):
        chosen = list(dict.fromkeys(text.replace(" ", "").split(",")))
        for name in chosen:
            if name not in question.VARIANTS:
                known = ", ".join(question.VARIANTS)
                raise argparse.ArgumentTypeError(f"there is no variant {name!r} among {known}")
        return chosen

    layout = {"formatter_class": argparse.RawDescriptionHelpFormatter, "allow_abbrev": False}
    parser = argparse.ArgumentParser(
        usage=argparse.SUPPRESS, description=question.__doc__, **layout
    )
    add = parser.add_argument
    add("--out", type=Path, default=Path("out"), help="folder of the results and of new rows")
    add("--variants", type=names, metavar="A,B", help="to train; a wrong name lists them all")
    add("--seeds", type=seeds, metavar="0-9,15", help="to train")
    add("--anew", action="store_true", help="recorded runs do not count")
    add("--rows", type=Path, help="folder whose rows are drawn, and nothing is trained")
    add("--epochs", type=count, metavar="N", help="length of the training")
    add("--device", choices=("cpu", "cuda"), default="cpu", help="default: %(default)s")
    add("--workers", type=count, metavar="N", help="runs at once, else one a core")
    return parser


def checked(question, rows, s, device):
    """The rows that are made as the question makes them now, with Settings s, and how the
    first of the others differs, "" if there is none."""
    labels, fitting, wrong = {}, [], ""
    for row in rows:
        name = row["variant"]
        if name in question.VARIANTS:
            labels[name] = labels.get(name) or label(question, name, 0, s, device)
            unlike = difference(row, labels[name])
        else:
            unlike = "there is no such variant"
        if unlike:
            wrong = wrong or f"{name}, seed {row['seed']}: {unlike}"
        else:
            fitting.append(row)
    return fitting, wrong


def made_with(s, row):
    """Settings s with the values with which a row was made."""
    values = row["settings"]
    own = {f.name: values[f.name] for f in fields(s) if f.name in values and f.name != "shape"}
    return replace(s, shape=replace(s.shape, **values.get("shape", {})), **own)


def collect(parser, args, question, name):
    """All runs that are asked for, {(variant, seed): row}: those recorded and, where there is
    something to train, those that are missing, trained now."""
    s, file = question.Settings(), f"{question.FILES[0]}.jsonl"
    asked = args.variants or args.seeds or args.epochs or args.anew
    if args.workers and not asked:
        parser.error("argument --workers: nothing is trained without --variants or --seeds")
    if args.epochs:
        s = replace(s, epochs=args.epochs)
    folder = args.rows or ROWS
    rows = [row for f in question.FILES for row in read(folder / f"{f}.jsonl")]
    if args.rows:
        if asked or not rows:
            parser.error(f"argument --rows: draws what is there; in {folder}: {len(rows)} rows")
        s = made_with(s, rows[0])
    if args.anew:
        rows = []
    else:
        fitting, wrong = checked(question, rows, s, args.device)
        print(
            f"{len(fitting)} of {len(rows)} recorded runs are made like this. {wrong}", flush=True
        )
        rows = fitting
    if not asked:
        return distinct(rows)
    own, wrong = checked(question, read(args.out / file), s, args.device)
    if wrong:
        parser.error(f"{args.out / file} was made otherwise, {wrong}: give another --out")
    rows += own
    done = {key for key, row in distinct(rows).items() if "error" not in row}
    seeds = args.seeds or range(question.SEEDS)
    every = [(v, seed) for seed in seeds for v in args.variants or question.DEFAULT]
    jobs = [(*key, s, args.device) for key in every if key not in done]
    print(
        f"{len(jobs)} of {len(every)} runs are trained, and kept in {args.out / file}", flush=True
    )
    workers = args.workers or (1 if args.device == "cuda" else os.cpu_count())
    begun = time.time()
    for k, row in enumerate(run(name, jobs, workers) if jobs else (), 1):
        append(row, args.out / file)
        rows.append(row)
        left = (time.time() - begun) / k * (len(jobs) - k) / 60
        end = row.get("outcome") or f"died, {row['error']}"
        text = f"{k}/{len(jobs)}  {row['variant']} seed {row['seed']}: {end}"
        print(f"{text}  ({left:.0f} min left)", flush=True)
    return distinct(rows)


def save(path, what):
    """Save a dict as JSON or a Figure as PNG, as its type says."""
    if isinstance(what, dict):
        text = json.dumps(what, indent=1, allow_nan=False)
        common.save(path.with_suffix(".json"), lambda file: file.write_text(text))
    else:
        common.save(path.with_suffix(".png"), lambda file: what.savefig(file, dpi=110))


def main(name, argv=None):
    """The command line of the question beyond/NAME.py: trains what is asked for and missing,
    saves what the question reports and prints its text. Returns what it saved, {name of a
    file: dict or Figure}. Ends with status 1 if runs have died."""
    question = importlib.import_module(f"beyond.{name}")
    parser = parser_of(question)
    args = parser.parse_args(argv)
    if args.device == "cuda" and not torch.cuda.is_available():
        parser.error("argument --device: there is no CUDA device")
    args.out.mkdir(parents=True, exist_ok=True)
    runs = collect(parser, args, question, name)
    saved, text = question.report(runs)
    for file, what in saved.items():
        save(args.out / file, what)
    print(text, flush=True)
    if dead := sum("error" in row for row in runs.values()):
        sys.exit(f"runs that died: {dead}; started again, they are tried again")
    return saved


def wilson(k, n, z=1.959964):
    """The interval (low, high) of Wilson 1927 for a share seen k times in n; z is a quantile of
    the normal distribution, by default for 95%. ValueError: k and n are no count and its total."""
    if not 0 <= k <= n or n < 1:
        raise ValueError(f"k of n must be a count of at least 1, got {k} of {n}")
    middle, half = k + z**2 / 2, z * math.sqrt(k * (n - k) / n + z**2 / 4)
    return max(0.0, middle - half) / (n + z**2), min(1.0, (middle + half) / (n + z**2))


def difference_interval(k1, n1, k2, n2):
    """The 95% interval (low, high) of k1/n1 - k2/n2, shares of independent runs, from
    Wilson's: method 10 of Newcombe 1998 (Statistics in Medicine 17, p. 873)."""
    (low1, high1), (low2, high2) = wilson(k1, n1), wilson(k2, n2)
    p1, p2 = k1 / n1, k2 / n2
    low = p1 - p2 - math.hypot(p1 - low1, high2 - p2)
    return low, p1 - p2 + math.hypot(high1 - p1, p2 - low2)


def fisher(k1, n1, k2, n2):
    """The p-value of Fisher's exact test, two-sided, for k1 of n1 against k2 of n2: all tables
    with the same margins that are at most as likely as this one, added up."""
    counts = range(max(0, k1 + k2 - n2), min(k1 + k2, n1) + 1)
    tables = {i: math.comb(n1, i) * math.comb(n2, k1 + k2 - i) for i in counts}
    return sum(t for t in tables.values() if t <= tables[k1]) / math.comb(n1 + n2, k1 + k2)


def holm(ps):
    """The p-values of several tests, each corrected for all of them, by Holm 1979."""
    corrected, before = [0.0] * len(ps), 0.0
    for rank, k in enumerate(sorted(range(len(ps)), key=ps.__getitem__)):
        before = corrected[k] = max(before, min(1.0, (len(ps) - rank) * ps[k]))
    return corrected


def markdown(head, rows):
    """A table in Markdown: the names of its columns, and rows of texts."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(map(str, cells))} |" for cells in lines)


def compare(rows, pairs, planned=()):
    """How pairs of rows differ, as a table in Markdown: rows are dicts with variant, title,
    found and of; pairs are pairs of variants. The difference is in percentage points, with its
    95% interval, p by Fisher's exact test and, for the lists of planned pairs, p corrected
    within the whole list by Holm's method: a test that was not run counts as p = 1."""
    by = {row["variant"]: row for row in rows}
    lines = []
    for group, is_planned in [*((group, True) for group in planned), (pairs, False)]:
        there = [pair for pair in group if by.keys() >= {*pair}]
        counts = [[by[name][key] for name in pair for key in ("found", "of")] for pair in there]
        ps = [fisher(*four) for four in counts]
        missing = [1.0] * (len(group) - len(there))
        corrected = [f"{p:.2g}" for p in holm(ps + missing)] if is_planned else ["-"] * len(ps)
        for pair, (a, n, b, m), p, after in zip(there, counts, ps, corrected):
            low, high = (100 * x for x in difference_interval(a, n, b, m))
            cells = [*(by[name]["title"] for name in pair), f"{a}/{n}", f"{b}/{m}"]
            cells += [f"{100 * (a / n - b / m):+.1f}", f"{low:+.1f} to {high:+.1f}"]
            lines.append([*cells, f"{p:.2g}", after])
    head = ["variant", "against", "finds", "finds", "points", "95% interval", "p", "Holm"]
    return markdown(head, lines) if lines else ""
